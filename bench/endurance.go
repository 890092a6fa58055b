package bench

import (
	"context"
	"errors"
	"time"

	"connectrpc.com/connect"

	rapportv1 "rapport/server/api/rapport/v1"
	"rapport/server/api/rapport/v1/rapportv1connect"
)

// enduranceFor is how long a server is watched at half of its capacity.
const (
	enduranceFor  = 10 * time.Minute
	enduranceStep = time.Minute
)

// endurance offers a server half of its capacity for ten minutes, while snapshots and
// strategies are swapped each minute, and says minute by minute how late it answered and
// what it had of memory and descriptors.
func (s *Suite) endurance(ctx context.Context) (records []Record, err error) {
	scale, step := s.loadScale(), enduranceStep
	switch {
	case s.scale != nil:
		step, scale.measured = scale.measured, 6*scale.measured
	case s.Quick:
		scale.measured, step = 10*time.Second, time.Second
	default:
		scale.measured = enduranceFor
	}
	u, err := newUnderLoad(ctx, s, scale, processConfig{Fault: s.Fault})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, u.close()) }()
	if err := u.world.load(ctx, 1); err != nil {
		return nil, err
	}
	watching, cancel := context.WithCancel(ctx)
	defer cancel()
	watched := make(chan error, 1)
	var stats []ProcessStats // at the end of each step
	go func() {
		watched <- func() error {
			if !pause(watching, scale.warm) {
				return nil
			}
			for i := 0; pause(watching, step/2); i++ {
				if err := u.swapBack(watching, i); err != nil {
					return err
				}
				if !pause(watching, step/2) {
					return nil
				}
				x, err := u.server.stats()
				if err != nil {
					return err
				}
				stats = append(stats, x)
			}
			return nil
		}()
	}()
	r, err := u.offer(ctx, u.mix, u.capacity/2, scale, step)
	cancel()
	if e := <-watched; e != nil && !errors.Is(e, context.Canceled) {
		err = errors.Join(err, e)
	}
	if err != nil {
		return nil, err
	}
	in := Case{}.Of("customers", scale.customers)
	for i := range r.Stretches {
		x := &r.Stretches[i]
		rec := Record{Layer: "endurance", Case: in.Of("minute", i+1), Name: mixNames[mixDecide], Figures: latencies(x)}
		rec.Figures = append(rec.Figures, Figure{Name: FigureRate, Value: x.Rate(), Unit: UnitPerSecond},
			Figure{Name: "refused", Value: float64(x.Refused)}, Figure{Name: "failed", Value: float64(x.Failed)}, Figure{Name: "dropped", Value: float64(x.Dropped)})
		if i < len(stats) {
			rec.Figures = append(rec.Figures, stats[i].figures()...)
		}
		if err := rec.keep(x.Latency); err != nil {
			return records, err
		}
		records = append(records, rec)
	}
	whole, err := r.record("endurance", in.Of("minute", "all"), mixDecide)
	// From the second on: the first fills caches.
	if n := len(stats); n > 2 {
		first, last := &stats[1], &stats[n-1]
		whole.Figures = append([]Figure{
			{Name: "resident-growth", Value: float64(last.Resident) / float64(max(1, first.Resident)), Unit: UnitRatio},
			{Name: "more-descriptors", Value: float64(last.Descriptors - first.Descriptors)},
		}, whole.Figures...)
	}
	return append(records, whole), errors.Join(err, r.broken())
}

func (s *ProcessStats) figures() []Figure {
	return []Figure{
		{Name: "resident", Value: float64(s.Resident), Unit: UnitBytes},
		{Name: "heap", Value: float64(s.Heap), Unit: UnitBytes},
		{Name: "descriptors", Value: float64(s.Descriptors)},
		{Name: "goroutines", Value: float64(s.Goroutines)},
	}
}

// swapBack makes the other snapshot the active one, and another version of the strategy
// live.
func (u *underLoad) swapBack(ctx context.Context, i int) error {
	t := newTransport(1, false)
	defer t.CloseIdleConnections()
	snapshots := rapportv1connect.NewSnapshotServiceClient(t.client(), u.server.URL)
	if _, err := snapshots.ActivateSnapshot(ctx, connect.NewRequest(&rapportv1.ActivateSnapshotRequest{Source: "bi", Generation: int64(2 - i%2)})); err != nil {
		return err
	}
	if i == 0 {
		return u.release(ctx, t, "1.0.1", true)
	}
	return u.release(ctx, t, []string{"1.0.1", "1.0.0"}[i%2], false)
}
