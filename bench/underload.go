package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"connectrpc.com/connect"

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
}

// loadScale says how much is measured.
type loadScale struct {
	customers      int
	warm, measured time.Duration
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
	if u.world, err = newWorld(scale.customers, 100, 60); err != nil {
		return nil, err
	}
	if u.server, err = u.world.serve(ctx, s, c); err != nil {
		return nil, err
	}
	u.mix = newMix(u.server.URL, loadWorkers, scale.customers, 1)
	// Twice: the first warms the caches.
	for range 2 {
		r, err := saturate(ctx, traffic.Plan{Warmup: scale.warm, Duration: max(scale.measured/6, time.Second), Workers: rpcCallers, Shares: mixShares}, u.mix.call)
		if err != nil {
			return nil, err
		}
		u.capacity = r.Rate()
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

	server   time.Duration // p99 of the server's own time of a decision
	cpu      float64       // processors that the server's process used
	degraded int64
}

// offer offers the mix at a rate.
func (u *underLoad) offer(ctx context.Context, rate float64, scale loadScale, interval time.Duration) (*loadRun, error) {
	metrics, err := scrape(ctx, u.server.URL)
	if err != nil {
		return nil, err
	}
	before, err := u.server.stats()
	if err != nil {
		return nil, err
	}
	degraded, began := u.mix.degraded.Load(), time.Now()
	r, err := u.generate(ctx, rate, scale, interval)
	if err != nil {
		return nil, err
	}
	after, err := u.server.stats()
	if err != nil {
		return nil, err
	}
	now, err := scrape(ctx, u.server.URL)
	if err != nil {
		return nil, err
	}
	return &loadRun{
		Result: r, server: now.quantile("rapport_decision_seconds", metrics, 0.99),
		cpu: float64(after.CPU-before.CPU) / float64(time.Since(began)), degraded: u.mix.degraded.Load() - degraded,
	}, nil
}

func (u *underLoad) generate(ctx context.Context, rate float64, scale loadScale, interval time.Duration) (*traffic.Result, error) {
	return traffic.Offer(ctx, traffic.Plan{
		Rate: rate, Warmup: scale.warm, Duration: scale.measured, Workers: loadWorkers, Shares: mixShares, Seed: 1, Interval: interval,
	}, u.mix.call)
}

// record returns what came of one kind of requests.
func (r *loadRun) record(layer string, in Case, kind int) (Record, error) {
	s := &r.Kinds[kind]
	out := Record{Layer: layer, Case: in, Name: mixNames[kind], Figures: latencies(s)}
	if kind == mixDecide {
		out.Figures = append(out.Figures, Figure{Name: "server-p99", Value: float64(r.server), Unit: UnitNanos}, Figure{Name: "degraded", Value: float64(r.degraded)},
			Figure{Name: "server-processors", Value: r.cpu}, Figure{Name: "generator-processors", Value: r.CPU.Seconds() / r.Seconds},
			Figure{Name: "generator-late-p99", Value: float64(s.Lateness.ValueAtQuantile(99)), Unit: UnitNanos})
	}
	out.Figures = append(out.Figures,
		Figure{Name: "offered", Value: s.OfferedRate(), Unit: UnitPerSecond}, Figure{Name: FigureRate, Value: s.Rate(), Unit: UnitPerSecond},
		Figure{Name: "refused", Value: float64(s.Refused)}, Figure{Name: "failed", Value: float64(s.Failed)}, Figure{Name: "dropped", Value: float64(s.Dropped)})
	return out, out.keep(s.Latency)
}

// half measures a server at half of its capacity, while snapshot and strategy are swapped.
func (s *Suite) half(ctx context.Context) (records []Record, err error) {
	scale := s.loadScale()
	u, err := newUnderLoad(ctx, s, scale, processConfig{Fault: s.Fault})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, u.close()) }()
	swapped := make(chan error, 1)
	swaps, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { swapped <- u.swap(swaps, scale.warm+scale.measured/3, scale.measured/3) }()
	r, err := u.offer(ctx, u.capacity/2, scale, 0)
	if err != nil {
		return nil, err
	}
	if err := <-swapped; err != nil {
		return nil, err
	}
	in := Case{}.Of("load", "half").Of("customers", scale.customers).Of("candidates", u.world.candidates)
	for kind := range mixNames {
		rec, err := r.record("server", in, kind)
		if err != nil {
			return records, err
		}
		records = append(records, rec)
	}
	records = append(records, Record{Layer: "server", Case: in, Name: "capacity, in a closed loop", Figures: []Figure{{Name: FigureRate, Value: u.capacity, Unit: UnitPerSecond}}})
	if r.Failed > 0 {
		return records, fmt.Errorf("%d requests failed: %v", r.Failed, r.Errors)
	}
	return records, nil
}

// swap makes another snapshot the active one after a time, and another version of the
// strategy live after some more.
func (u *underLoad) swap(ctx context.Context, after, between time.Duration) error {
	t := newTransport(1, false)
	defer t.CloseIdleConnections()
	if !pause(ctx, after) {
		return nil
	}
	if err := u.world.load(ctx, 1); err != nil {
		return err
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
	if !s.Quick {
		scale.measured = 20 * time.Second
	}
	u, err := newUnderLoad(ctx, s, scale, processConfig{Fault: s.Fault})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, u.close()) }()
	// What it answers at most, and how late, in an open loop.
	peak, err := u.offer(ctx, 0.9*u.capacity, scale, 0)
	if err != nil {
		return nil, err
	}
	in := Case{}.Of("customers", scale.customers)
	limit, err := peak.record("overload", in.Of("offered", "0.9x"), mixDecide)
	if err != nil {
		return nil, err
	}
	records = append(records, limit)
	times := []float64{2, 10}
	if s.Quick {
		times = times[1:]
	}
	for _, x := range times {
		r, err := u.offer(ctx, x*u.capacity, scale, 0)
		if err != nil {
			return records, err
		}
		recovery, err := u.recovery(ctx, peak)
		if err != nil {
			return records, err
		}
		rec, err := r.record("overload", in.Of("offered", fmt.Sprintf("%gx", x)), mixDecide)
		if err != nil {
			return records, err
		}
		rec.Limit = "decisions at 0.9x"
		d, p := &r.Kinds[mixDecide], &peak.Kinds[mixDecide]
		rec.Figures = append([]Figure{
			{Name: "goodput", Value: d.Rate() / p.Rate(), Unit: UnitRatio},
			{Name: "p99-x-limit", Value: float64(d.Quantile(0.99)) / float64(p.Quantile(0.99)), Unit: UnitRatio},
			{Name: "refused-p99", Value: float64(d.Refusal.ValueAtQuantile(99)), Unit: UnitNanos},
			{Name: "recovery", Value: float64(recovery), Unit: UnitNanos},
		}, rec.Figures...)
		records = append(records, rec)
	}
	return records, nil
}

// sweep offers a server ever more, beyond what it can answer.
func (s *Suite) sweep(ctx context.Context) (records []Record, err error) {
	scale := s.loadScale()
	shares := []float64{0.1, 0.25, 0.5, 0.7, 0.8, 0.9, 1, 1.2}
	if scale.warm, scale.measured = time.Second, 15*time.Second; s.Quick {
		shares, scale.measured = []float64{0.25, 0.75}, 2*time.Second
	}
	u, err := newUnderLoad(ctx, s, scale, processConfig{Fault: s.Fault})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, u.close()) }()
	for _, share := range shares {
		r, err := u.offer(ctx, share*u.capacity, scale, 0)
		if err != nil {
			return records, err
		}
		rec, err := r.record("sweep", Case{}.Of("load", fmt.Sprintf("%gx", share)).Of("customers", scale.customers), mixDecide)
		if err != nil {
			return records, err
		}
		records = append(records, rec)
	}
	return records, nil
}

// recoveryStep is how finely a recovery is measured.
const recoveryStep = 250 * time.Millisecond

// recovery offers half of the capacity, and returns after how long p99 is no more than
// twice what it was at 0.9 of it.
func (u *underLoad) recovery(ctx context.Context, peak *loadRun) (time.Duration, error) {
	const most = 10 * time.Second
	r, err := u.offer(ctx, u.capacity/2, loadScale{measured: most}, recoveryStep)
	if err != nil {
		return 0, err
	}
	bound := 2 * peak.Kinds[mixDecide].Quantile(0.99)
	for i := range r.Stretches {
		if s := &r.Stretches[i]; s.Good == s.Offered && s.Quantile(0.99) <= bound {
			return time.Duration(i) * recoveryStep, nil
		}
	}
	return most, nil
}
