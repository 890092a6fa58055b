package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	"rapport/bench/traffic"
	rapportv1 "rapport/server/api/rapport/v1"
)

// How many callers there are in a closed loop, as a rule, which keeps a server busy without
// ever filling its queue; and how many customers they are about, all of whom come to be in
// the cache of profiles.
const (
	rpcCallers   = 16
	rpcCustomers = 10_000
	// rpcDeadline is longer than a server's own, so that each of these decisions is a whole
	// one, also while somebody else has the processors.
	rpcDeadline = time.Second
)

// pair is a server, and an echo that answers as it does, each in a process of its own.
type pair struct {
	world        *world
	server, echo *process
}

// newPair starts both. The echo's answer is one of the server's.
func newPair(ctx context.Context, s *Suite, customers, candidates int, c processConfig) (_ *pair, err error) {
	p := &pair{}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.close())
		}
	}()
	if p.world, err = newWorld(ctx, customers, candidates, 60); err != nil {
		return nil, err
	}
	if p.server, err = p.world.serve(ctx, s, c); err != nil {
		return nil, err
	}
	p.echo, err = p.world.echo(ctx, s, p.server)
	return p, err
}

// echo starts an echo whose answer is one of the server's.
func (w *world) echo(ctx context.Context, s *Suite, server *process) (*process, error) {
	ask := newCaller(server.URL, protocols()[0], 1, w.customers)
	defer ask.close()
	res, err := ask.client.Decide(ctx, connect.NewRequest(&rapportv1.DecideRequest{Customer: "1", Touchpoint: "web.home"}))
	if err != nil {
		return nil, err
	}
	if len(res.Msg.GetSlate()) == 0 {
		return nil, errNoOffer
	}
	answer, err := proto.Marshal(res.Msg)
	if err != nil {
		return nil, err
	}
	return start(ctx, s.Self, processConfig{Role: roleEcho, Answer: answer})
}

func (p *pair) close() error {
	var errs []error
	for _, process := range []*process{p.server, p.echo} {
		if process != nil {
			errs = append(errs, process.close())
		}
	}
	if p.world != nil {
		errs = append(errs, p.world.close())
	}
	return errors.Join(errs...)
}

// rpc compares decisions by RPC with empty answers of the same size, in closed loops that
// take turns.
func (s *Suite) rpc(ctx context.Context) (records []Record, err error) {
	rounds, slice := 20, 500*time.Millisecond
	if s.Quick {
		rounds, slice = 7, 250*time.Millisecond
	}
	customers := rpcCustomers
	if s.scale != nil {
		rounds, slice, customers = fewestRounds, s.scale.measured/10, s.scale.customers
	}
	p, err := newPair(ctx, s, customers, 100, processConfig{Deadline: rpcDeadline})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	for _, of := range protocols() {
		if s.Quick && of.name != protocols()[0].name {
			break
		}
		callers := []int{rpcCallers}
		if !s.Quick && of.name == protocols()[0].name {
			callers = []int{1, 4, rpcCallers, 64}
		}
		for _, n := range callers {
			some, err := p.throughput(ctx, of, n, rounds, slice)
			if err != nil {
				return records, err
			}
			records = append(records, some...)
		}
	}
	return records, nil
}

// throughput measures one protocol with so many callers.
func (p *pair) throughput(ctx context.Context, of protocol, callers, rounds int, slice time.Duration) ([]Record, error) {
	type side struct {
		process *process
		caller  *caller
		rates   []float64
		cpu     []float64 // of the server's process, nanoseconds an answer
		all     traffic.Stretch
	}
	sides := [2]side{{process: p.echo}, {process: p.server}}
	for k := range sides {
		x := &sides[k]
		x.caller = newCaller(x.process.URL, of, callers, p.world.customers)
		defer x.caller.close()
		plan := traffic.Plan{Duration: 4 * slice, Workers: callers}
		if _, err := saturate(ctx, plan, x.caller.decide); err != nil { // to warm up: caches, connections
			return nil, err
		}
	}
	for round := range rounds {
		for i := range sides {
			x := &sides[(i+round)%2]
			before, err := x.process.stats()
			if err != nil {
				return nil, err
			}
			r, err := saturate(ctx, traffic.Plan{Duration: slice, Workers: callers}, x.caller.decide)
			if err != nil {
				return nil, err
			}
			after, err := x.process.stats()
			if err != nil {
				return nil, err
			}
			x.rates = append(x.rates, r.Rate())
			x.cpu = append(x.cpu, float64(after.CPU-before.CPU)/float64(r.Calls))
			if x.all.Latency == nil {
				x.all = r.Stretch
			} else {
				x.all.Latency.Merge(r.Latency)
				x.all.Refused += r.Refused
			}
		}
	}
	in := Case{}.Of("protocol", of.name).Of("callers", callers)
	var records []Record
	for k, name := range []string{"empty echo", "decisions"} {
		x := &sides[k]
		rate, low, high := median(x.rates)
		cpu, _, _ := median(x.cpu)
		r := Record{Layer: "rpc", Case: in, Name: name, Figures: []Figure{
			{Name: FigureRate, Value: rate, Unit: UnitPerSecond, Low: low, High: high, Samples: rounds},
			{Name: "processor", Value: cpu, Unit: UnitNanos},
			{Name: "degraded", Value: float64(x.caller.degraded.Load())},
			{Name: "refused", Value: float64(x.all.Refused)},
		}}
		r.Figures = append(r.Figures, latencies(&x.all)...)
		if k == 1 {
			q := ratio(x.rates, sides[0].rates)
			r.Limit = "empty echo"
			r.Figures = append([]Figure{{Name: FigureRatio, Value: q.Median, Unit: UnitRatio, Low: q.Low, High: q.High, Samples: q.Rounds}}, r.Figures...)
		}
		if err := r.keep(x.all.Latency); err != nil {
			return nil, err
		}
		records = append(records, r)
	}
	return records, nil
}

// saturate is traffic.Saturate where nothing may fail.
func saturate(ctx context.Context, p traffic.Plan, call traffic.Call) (*traffic.Result, error) {
	r, err := traffic.Saturate(ctx, p, call)
	if err != nil {
		return nil, err
	}
	if r.Failed > 0 || r.Good == 0 {
		return nil, fmt.Errorf("bench: %d of %d requests failed: %v", r.Failed, r.Offered, r.Errors)
	}
	return r, nil
}

// latencies returns the percentiles of a stretch.
func latencies(s *traffic.Stretch) []Figure {
	var out []Figure
	for _, p := range []struct {
		name string
		q    float64
	}{{FigureP50, 0.5}, {FigureP90, 0.9}, {FigureP99, 0.99}, {FigureP999, 0.999}, {FigureP9999, 0.9999}, {FigureMost, 1}} {
		out = append(out, Figure{Name: p.name, Value: float64(s.Quantile(p.q)), Unit: UnitNanos})
	}
	return out
}
