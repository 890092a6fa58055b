package bench

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"connectrpc.com/connect"
	"github.com/HdrHistogram/hdrhistogram-go"

	"rapport/bench/traffic"
	"rapport/plugins"
	rapportv1 "rapport/server/api/rapport/v1"
	"rapport/server/api/rapport/v1/rapportv1connect"
)

// loadWorkers bounds how many requests are under way: far more than a server takes at once,
// so that it is the server that refuses.
const loadWorkers = 512

// underLoad is a server, and the generator of its load in this process.
type underLoad struct {
	world  *world
	server *process
	mix    *mix
	// capacity is how many requests of the mix it answers in a second, in a closed loop.
	capacity float64
	peak     float64 // the decisions among them
}

// loadScale says how much is measured.
type loadScale struct {
	customers      int
	warm, measured time.Duration
	recovery       time.Duration // recoveryMost, if not given
}

func (s *Suite) loadScale() loadScale {
	if s.scale != nil {
		return *s.scale
	}
	if s.Quick {
		return loadScale{customers: 20_000, warm: time.Second, measured: 6 * time.Second}
	}
	return loadScale{customers: 200_000, warm: 5 * time.Second, measured: time.Minute}
}

// newUnderLoad starts a server, and finds its capacity.
func newUnderLoad(ctx context.Context, s *Suite, scale loadScale, c processConfig) (_ *underLoad, err error) {
	u := &underLoad{}
	defer func() {
		if err != nil {
			err = errors.Join(err, u.close())
		}
	}()
	if u.world, err = newWorld(ctx, scale.customers, 100, 60); err != nil {
		return nil, err
	}
	if u.server, err = u.world.serve(ctx, s, c); err != nil {
		return nil, err
	}
	u.mix = newMix(u.server.URL, loadWorkers, scale.customers, 1)
	// Twice: the first warms the caches.
	for range 2 {
		r, err := saturate(ctx, traffic.Plan{Warmup: scale.warm, Duration: max(scale.measured/6, min(scale.measured, time.Second)), Workers: rpcCallers, Shares: mixShares}, u.mix.call)
		if err != nil {
			return nil, err
		}
		u.capacity, u.peak = r.Rate(), r.Kinds[mixDecide].Rate()
	}
	return u, nil
}

func (u *underLoad) close() error {
	var errs []error
	if u.mix != nil {
		u.mix.close()
	}
	if u.server != nil {
		errs = append(errs, u.server.close())
	}
	if u.world != nil {
		errs = append(errs, u.world.close())
	}
	return errors.Join(errs...)
}

// loadRun is what came of some load.
type loadRun struct {
	*traffic.Result

	served   *hdrhistogram.Histogram // the server's own times of decisions; nil if none was made
	cpu      float64                 // processors that the server's process used; below 0 if that is not known
	degraded int64
}

// offer offers the mix at a rate.
func (u *underLoad) offer(ctx context.Context, m *mix, rate float64, scale loadScale, interval time.Duration) (*loadRun, error) {
	before, err := u.server.stats()
	if err != nil {
		return nil, err
	}
	m.served.take() // of before
	degraded, began := m.degraded.Load(), time.Now()
	r, err := traffic.Offer(ctx, traffic.Plan{
		Rate: rate, Warmup: scale.warm, Duration: scale.measured, Workers: loadWorkers, Shares: mixShares, Seed: 1, Interval: interval,
		Drain: callTimeout,
	}, m.call)
	if err != nil {
		return nil, err
	}
	after, err := u.server.stats()
	if err != nil {
		return nil, err
	}
	return &loadRun{
		Result: r, served: m.served.take(),
		cpu: float64(after.CPU-before.CPU) / float64(time.Since(began)), degraded: m.degraded.Load() - degraded,
	}, nil
}

// record returns what came of one kind of requests.
func (r *loadRun) record(layer string, in Case, kind int) (Record, error) {
	s := &r.Kinds[kind]
	out := Record{Layer: layer, Case: in, Name: mixNames[kind], Figures: latencies(s)}
	if kind == mixDecide {
		if r.served != nil {
			out.Figures = append(out.Figures, percentile("server-p50", r.served, 0.5), percentile("server-p99", r.served, 0.99))
		}
		out.Figures = append(out.Figures, Figure{Name: "whole", Value: float64(s.Good-r.degraded) / float64(max(1, s.Offered))}, Figure{Name: "degraded", Value: float64(r.degraded)},
			Figure{Name: "generator-processors", Value: r.Processors()})
		if r.cpu >= 0 { // known
			out.Figures = append(out.Figures, Figure{Name: "server-processors", Value: r.cpu})
		}
		if !r.Closed {
			out.Figures = append(out.Figures, Figure{Name: "generator-late-p99", Value: float64(s.Lateness.ValueAtQuantile(99)), Unit: UnitNanos})
		}
	}
	out.Figures = append(out.Figures,
		Figure{Name: "offered", Value: s.OfferedRate(), Unit: UnitPerSecond}, Figure{Name: FigureRate, Value: s.Rate(), Unit: UnitPerSecond},
		Figure{Name: "refused", Value: float64(s.Refused)}, Figure{Name: "failed", Value: float64(s.Failed)}, Figure{Name: "dropped", Value: float64(s.Dropped)})
	if s.Failed > 0 {
		out.Errors = r.Errors
	}
	return out, out.keep(s.Latency)
}

// mostFailed is which share of requests may fail before a run says nothing: on a machine that
// stands still for seconds some do.
const mostFailed = 0.05

// broken returns an error if too many requests failed. A few are in the records, and not whole.
func (r *loadRun) broken() error {
	if r.Good > 0 && float64(r.Failed) <= mostFailed*float64(r.Offered) {
		return nil
	}
	return fmt.Errorf("bench: of %d requests %d were answered, %d failed: %v", r.Offered, r.Good, r.Failed, r.Errors)
}

// percentile returns one with the interval that holds it with 95% confidence, by the ranks of
// what was measured. They are taken for independent, which requests that follow each other
// are not quite: the interval is rather too narrow.
func percentile(name string, h *hdrhistogram.Histogram, q float64) Figure {
	n := float64(h.TotalCount())
	at := func(p float64) float64 { return float64(h.ValueAtQuantile(100 * min(max(p, 0), 1))) }
	half := 0.0
	if n > 0 {
		half = 1.96 * math.Sqrt(q*(1-q)/n)
	}
	return Figure{Name: name, Value: at(q), Unit: UnitNanos, Low: at(q - half), High: at(q + half), Samples: int(n)}
}

// half measures a server at half of its capacity, while snapshot and strategy are swapped,
// and before and after an echo at the same rate: what the machine and the generator add.
func (s *Suite) half(ctx context.Context) (records []Record, err error) {
	scale := s.loadScale()
	u, err := newUnderLoad(ctx, s, scale, processConfig{Fault: s.Fault})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, u.close()) }()
	echo, err := u.world.echo(ctx, s, u.server)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, echo.close()) }()
	// Built before, so that what builds it takes no processor from the generator.
	if err := u.world.load(ctx, 1); err != nil {
		return nil, err
	}
	in := Case{}.Of("load", "half").Of("customers", scale.customers).Of("candidates", u.world.candidates)
	machine := Record{Layer: "server", Case: in, Name: "empty echo"}
	var echoed *traffic.Result
	beside := func() error {
		r, err := u.beside(ctx, echo, scale)
		if err != nil {
			return err
		}
		if echoed == nil {
			echoed = r
		} else {
			echoed.Latency.Merge(r.Latency)
		}
		return nil
	}
	if err := beside(); err != nil {
		return nil, err
	}
	swapped := make(chan error, 1)
	swaps, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { swapped <- u.swap(swaps, scale.warm+scale.measured/3, scale.measured/3) }()
	r, err := u.offer(ctx, u.mix, u.capacity/2, scale, 0)
	if err != nil {
		cancel()
		return nil, errors.Join(err, <-swapped)
	}
	if err := <-swapped; err != nil {
		return nil, err
	}
	if err := beside(); err != nil {
		return nil, err
	}
	for kind := range mixNames {
		rec, err := r.record("server", in, kind)
		if err != nil {
			return records, err
		}
		records = append(records, rec)
	}
	machine.Figures = latencies(&echoed.Stretch)
	if err := machine.keep(echoed.Latency); err != nil {
		return records, err
	}
	records = append(records, machine, Record{Layer: "server", Case: in, Name: "capacity, in a closed loop", Figures: []Figure{{Name: FigureRate, Value: u.capacity, Unit: UnitPerSecond}}})
	return records, r.broken()
}

// beside offers an echo as much as the server is, half as long.
func (u *underLoad) beside(ctx context.Context, echo *process, scale loadScale) (*traffic.Result, error) {
	c := newCaller(echo.URL, protocols()[0], loadWorkers, u.world.customers)
	defer c.close()
	r, err := traffic.Offer(ctx, traffic.Plan{
		Rate: u.capacity / 2, Warmup: scale.warm / 2, Duration: max(scale.measured/4, min(scale.measured, time.Second)), Workers: loadWorkers, Seed: 2, Drain: callTimeout,
	}, c.decide)
	if err == nil && r.Failed > 0 {
		err = fmt.Errorf("bench: %d requests to the echo failed: %v", r.Failed, r.Errors)
	}
	return r, err
}

// swap makes another snapshot the active one after a time, and another version of the
// strategy live after some more.
func (u *underLoad) swap(ctx context.Context, after, between time.Duration) error {
	t := newTransport(1, false)
	defer t.CloseIdleConnections()
	if !pause(ctx, after) {
		return nil
	}
	snapshots := rapportv1connect.NewSnapshotServiceClient(t.client(), u.server.URL)
	if _, err := snapshots.ActivateSnapshot(ctx, connect.NewRequest(&rapportv1.ActivateSnapshotRequest{Source: "bi", Generation: 2})); err != nil {
		return err
	}
	if !pause(ctx, between) {
		return nil
	}
	return u.release(ctx, t, "1.0.1", true)
}

// release makes a version of the strategy live, and uploads it before if it is new: the
// one that ships, by another name.
func (u *underLoad) release(ctx context.Context, t transport, version string, upload bool) error {
	strategies := rapportv1connect.NewStrategyServiceClient(t.client(), u.server.URL)
	if upload {
		other := bytes.Replace(plugins.PVCL(), []byte(`"version":"1.0.0"`), []byte(`"version":"`+version+`"`), 1)
		if _, err := strategies.UploadStrategy(ctx, connect.NewRequest(&rapportv1.UploadStrategyRequest{Module: other})); err != nil {
			return err
		}
	}
	_, err := strategies.ReleaseStrategy(ctx, connect.NewRequest(&rapportv1.ReleaseStrategyRequest{
		Name: "pvcl", Version: version, Stage: rapportv1.StrategyStage_STRATEGY_STAGE_LIVE,
	}))
	return err
}

// pause waits, and reports false if ctx ended before.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// overload offers a server more than it can answer, and then again what it can.
func (s *Suite) overload(ctx context.Context) (records []Record, err error) {
	scale := s.loadScale()
	if !s.Quick && s.scale == nil {
		scale.measured = 20 * time.Second
	}
	u, err := newUnderLoad(ctx, s, scale, processConfig{Fault: s.Fault})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, u.close()) }()
	// How late it answers when it is offered nearly what it can answer.
	near, err := u.offer(ctx, u.mix, 0.9*u.capacity, scale, 0)
	if err != nil {
		return nil, err
	}
	in := Case{}.Of("customers", scale.customers)
	limit, err := near.record("overload", in.Of("offered", "0.9x"), mixDecide)
	if err != nil {
		return nil, err
	}
	limit.Figures = append(limit.Figures, percentile("sent-p99", near.Kinds[mixDecide].Service, 0.99))
	records = append(records, limit)
	times := []float64{2, 10}
	if s.Quick {
		times = times[1:]
	}
	for _, x := range times {
		r, recovery, err := u.burst(ctx, x, near, scale)
		if err != nil {
			return records, err
		}
		rec, err := r.record("overload", in.Of("offered", fmt.Sprintf("%gx", x)), mixDecide)
		if err != nil {
			return records, err
		}
		rec.Limit = "decisions at 0.9x"
		d, p := &r.Kinds[mixDecide], &near.Kinds[mixDecide]
		sent := percentile("sent-p99", d.Service, 0.99)
		rec.Figures = append([]Figure{
			{Name: "goodput", Value: d.Rate() / u.peak, Unit: UnitRatio},
			sent,
			{Name: "sent-p99-x-limit", Value: sent.Value / max(1, float64(p.Service.ValueAtQuantile(99))), Unit: UnitRatio},
			percentile("refused-p99", d.Refusal, 0.99),
			{Name: "recovery", Value: float64(recovery), Unit: UnitNanos},
			{Name: "sent", Value: float64(d.Offered-d.Dropped) / d.Seconds, Unit: UnitPerSecond},
		}, rec.Figures...)
		records = append(records, rec)
		if err := r.broken(); err != nil {
			return records, err
		}
	}
	return records, nil
}

// How finely a recovery is measured, for how long, and how many steps in a row it takes to
// have recovered.
const (
	recoveryStep   = 250 * time.Millisecond
	recoveryMost   = 8 * time.Second
	recoveredSteps = 4
)

// burst offers the server so many times its capacity, and from the moment at which that ends,
// without a pause in which it could catch up, half of it, from other customers. It returns
// what came of the burst, and after how long nothing is refused any more and p99 is no more
// than twice what it was near its capacity.
func (u *underLoad) burst(ctx context.Context, times float64, near *loadRun, scale loadScale) (*loadRun, time.Duration, error) {
	most := cmp.Or(scale.recovery, recoveryMost)
	later := newMix(u.server.URL, loadWorkers, u.world.customers, 2)
	defer later.close()
	type after struct {
		run *loadRun
		err error
	}
	recovering, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan after, 1)
	go func() {
		if !pause(recovering, scale.warm+scale.measured) {
			done <- after{nil, recovering.Err()}
			return
		}
		r, err := u.offer(recovering, later, u.capacity/2, loadScale{measured: most}, recoveryStep)
		done <- after{r, err}
	}()
	r, err := u.offer(ctx, u.mix, times*u.capacity, scale, 0)
	if err != nil {
		cancel()
		<-done
		return nil, 0, err
	}
	a := <-done
	if a.err != nil {
		return nil, 0, a.err
	}
	bound := 2 * near.Kinds[mixDecide].Quantile(0.99)
	row := 0
	for i := range a.run.Stretches {
		x := &a.run.Stretches[i]
		if row++; x.Good < x.Offered || x.Good == 0 || x.Quantile(0.99) > bound {
			row = 0
		}
		if row == recoveredSteps {
			return r, time.Duration(i+1-recoveredSteps) * recoveryStep, nil
		}
	}
	return r, most, nil
}

// sweep offers a server ever more, beyond what it can answer.
func (s *Suite) sweep(ctx context.Context) (records []Record, err error) {
	scale := s.loadScale()
	shares := []float64{0.1, 0.25, 0.5, 0.7, 0.8, 0.9, 1, 1.2}
	if s.Quick {
		shares = []float64{0.25, 0.75}
	}
	if s.scale == nil {
		scale.warm, scale.measured = time.Second, 15*time.Second
		if s.Quick {
			scale.measured = 2 * time.Second
		}
	}
	u, err := newUnderLoad(ctx, s, scale, processConfig{Fault: s.Fault})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, u.close()) }()
	for _, share := range shares {
		r, err := u.offer(ctx, u.mix, share*u.capacity, scale, 0)
		if err != nil {
			return records, err
		}
		rec, err := r.record("sweep", Case{}.Of("load", fmt.Sprintf("%gx", share)).Of("customers", scale.customers), mixDecide)
		if err != nil {
			return records, err
		}
		records = append(records, rec)
		if err := r.broken(); err != nil {
			return records, err
		}
	}
	return records, nil
}
