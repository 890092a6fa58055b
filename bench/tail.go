package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"rapport/bench/traffic"
)

// tails compares the latest answers of a server with those of an echo, both at half of what
// the server can do, in open loops that take turns.
func (s *Suite) tails(ctx context.Context) (_ []Record, err error) {
	rounds, slice := 15, 3*time.Second
	if s.Quick {
		rounds, slice = 7, 800*time.Millisecond
	}
	customers := rpcCustomers
	if s.scale != nil {
		rounds, slice, customers = fewestRounds, s.scale.measured/3, s.scale.customers
	}
	p, err := newPair(ctx, s, customers, 100, processConfig{})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	processes := [2]*process{p.echo, p.server}
	var callers [2]*caller
	var rate float64 // of the server, which is measured last
	for k, process := range processes {
		callers[k] = newCaller(process.URL, protocols()[0], loadWorkers, p.world.customers)
		defer callers[k].close()
		r, err := saturate(ctx, traffic.Plan{Warmup: slice, Duration: slice, Workers: rpcCallers}, callers[k].decide)
		if err != nil {
			return nil, err
		}
		rate = r.Rate() / 2
	}
	var late [2][]float64
	var all [2]traffic.Stretch
	for round := range rounds {
		for i := range processes {
			k := (i + round) % 2
			r, err := traffic.Offer(ctx, traffic.Plan{Rate: rate, Warmup: slice / 10, Duration: slice, Workers: loadWorkers, Seed: uint64(round), Drain: callTimeout}, callers[k].decide)
			if err != nil {
				return nil, err
			}
			if r.Failed > 0 || r.Good == 0 {
				return nil, fmt.Errorf("bench: %d requests failed: %v", r.Failed, r.Errors)
			}
			late[k] = append(late[k], float64(r.Quantile(0.999)))
			if all[k].Latency == nil {
				all[k] = r.Stretch
			} else {
				all[k].Latency.Merge(r.Latency)
				all[k].Refused += r.Refused
			}
		}
	}
	in := Case{}.Of("offered", formatCount(rate)+"/s")
	echo := Record{Layer: "tail", Case: in, Name: "empty echo", Figures: latencies(&all[0])}
	q := ratio(late[1], late[0])
	decisions := Record{Layer: "tail", Case: in, Name: "decisions", Limit: echo.Name, Figures: append([]Figure{
		{Name: "p99.9-x-limit", Value: q.Median, Unit: UnitRatio, Low: q.Low, High: q.High, Samples: q.Rounds},
	}, latencies(&all[1])...)}
	decisions.Figures = append(decisions.Figures, Figure{Name: "refused", Value: float64(all[1].Refused)}, Figure{Name: "degraded", Value: float64(callers[1].degraded.Load())})
	return []Record{echo, decisions}, errors.Join(echo.keep(all[0].Latency), decisions.keep(all[1].Latency))
}
