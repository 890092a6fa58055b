package bench

import (
	"context"
	"errors"
	"time"

	"rapport/bench/traffic"
)

// generatorLate is how late a generator may be at p99 before what it measures is its own.
const generatorLate = time.Millisecond

// generator measures what the generator of load can do, against an echo, which answers at
// once: the highest rate at which it sends 99% of what is due, within a millisecond.
func (s *Suite) generator(ctx context.Context) (records []Record, err error) {
	duration, times := 4*time.Second, 1.3
	if s.Quick {
		duration, times = 500*time.Millisecond, 1.6
	}
	if s.scale != nil {
		duration, times = s.scale.measured/10, 10
	}
	echo, err := start(ctx, s.Self, processConfig{Role: roleEcho})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, echo.close()) }()
	c := newCaller(echo.URL, protocols()[0], loadWorkers, rpcCustomers)
	defer c.close()
	ask := func(ctx context.Context, r traffic.Request) error {
		err := c.decide(ctx, r)
		if errors.Is(err, errNoOffer) { // an echo without an answer
			err = nil
		}
		return err
	}
	for _, kind := range []struct {
		name string
		call traffic.Call
	}{
		{"calls that return at once", func(context.Context, traffic.Request) error { return nil }},
		{"requests to an empty echo", ask},
	} {
		best := Record{Layer: "generator", Name: kind.name, Figures: []Figure{{Name: FigureRate, Unit: UnitPerSecond}}} // not even the first
		again := true                                                                                                   // a machine that others use may stand still once
		for rate := 1000.0; rate < 1e6; {
			r, err := traffic.Offer(ctx, traffic.Plan{Rate: rate, Warmup: duration / 5, Duration: duration, Workers: loadWorkers, Seed: 1}, kind.call)
			if err != nil {
				return records, err
			}
			late := time.Duration(r.Lateness.ValueAtQuantile(99))
			if r.Good < r.Offered*99/100 || late > generatorLate {
				if again {
					again = false
					continue
				}
				break
			}
			again, rate = true, rate*times
			best.Figures = []Figure{
				{Name: FigureRate, Value: r.Rate(), Unit: UnitPerSecond},
				{Name: "late-p50", Value: float64(r.Lateness.ValueAtQuantile(50)), Unit: UnitNanos},
				{Name: "late-p99", Value: float64(late), Unit: UnitNanos},
				{Name: "generator-processors", Value: r.Processors()},
			}
			best.Figures = append(best.Figures, latencies(&r.Stretch)...)
		}
		records = append(records, best)
	}
	return records, nil
}
