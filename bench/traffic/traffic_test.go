package traffic_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"rapport/bench/traffic"
)

// A server that stalls once: an open loop sees everybody who was due meanwhile wait, a
// closed one a single slow answer.
func TestStall(t *testing.T) {
	const stall = 200 * time.Millisecond
	server := func() traffic.Call {
		var calls atomic.Int64
		turn := make(chan struct{}, 1) // one at a time
		return func(context.Context, traffic.Request) error {
			turn <- struct{}{}
			defer func() { <-turn }()
			if calls.Add(1) == 100 {
				wait(stall)
			}
			return nil
		}
	}
	p := traffic.Plan{Rate: 1000, Duration: 500 * time.Millisecond, Workers: 500, Seed: 1, Interval: 125 * time.Millisecond}
	open, err := traffic.Offer(t.Context(), p, server())
	if err != nil {
		t.Fatal(err)
	}
	slow := func(r *traffic.Result) int64 {
		n := int64(0)
		for _, b := range r.Latency.Distribution() {
			if b.From >= int64(stall)/10 {
				n += b.Count
			}
		}
		return n
	}
	if n := slow(open); n < 100 { // of the 200 who were due
		t.Errorf("%d requests waited a tenth of a stall or longer", n)
	}
	if open.Good != open.Offered || open.Offered < 300 || open.Offered > 700 {
		t.Errorf("%d good of %d offered", open.Good, open.Offered)
	}
	var sum int64
	for _, s := range open.Stretches {
		sum += s.Offered
	}
	if sum != open.Offered || len(open.Stretches) != 4 {
		t.Errorf("%d offered, %d in %d stretches", open.Offered, sum, len(open.Stretches))
	}
	p.Workers = 1
	p.Duration = 500 * time.Millisecond
	closed, err := traffic.Saturate(t.Context(), p, func() traffic.Call {
		call := server()
		return func(ctx context.Context, r traffic.Request) error {
			wait(time.Millisecond)
			return call(ctx, r)
		}
	}())
	if err != nil {
		t.Fatal(err)
	}
	if n := slow(closed); !closed.Closed || n == 0 || 4*n > slow(open) {
		t.Errorf("a closed loop saw %d slow answers, an open one %d", n, slow(open))
	}
}

// What the server does not take, what fails, and what could not be sent is each counted.
func TestCounts(t *testing.T) {
	p := traffic.Plan{Rate: 2000, Duration: 100 * time.Millisecond, Drain: time.Millisecond, Workers: 4, Even: true}
	r, err := traffic.Offer(t.Context(), p, func(ctx context.Context, r traffic.Request) error {
		<-ctx.Done() // all requests have been due
		return []error{nil, fmt.Errorf("busy: %w", traffic.ErrRefused), errors.New("no"), errors.New("no")}[r.Worker]
	})
	if err != nil {
		t.Fatal(err)
	}
	// Four are sent at once and never answered while the others are due; four wait.
	if r.Offered != 200 || r.Dropped != 192 || r.Good+r.Refused+r.Failed != 8 || r.Good == 0 || r.Refused == 0 || r.Failed == 0 {
		t.Errorf("%+v", r.Stretch)
	}
	if len(r.Errors) != 1 || r.Errors[0] != "no" {
		t.Errorf("errors %q", r.Errors)
	}
}

// Requests of several kinds are drawn by their shares, and told apart.
func TestKinds(t *testing.T) {
	var calls [2]atomic.Int64
	r, err := traffic.Offer(t.Context(), traffic.Plan{Rate: 10_000, Duration: 200 * time.Millisecond, Workers: 100, Shares: []float64{3, 1}, Interval: 50 * time.Millisecond},
		func(_ context.Context, r traffic.Request) error {
			calls[r.Kind].Add(1)
			return nil
		})
	if err != nil {
		t.Fatal(err)
	}
	var sum int64
	for _, s := range r.Stretches {
		sum += s.Offered
	}
	if a, b := r.Kinds[0].Good, r.Kinds[1].Good; a != calls[0].Load() || b != calls[1].Load() || a < 2*b || b < a/5 || sum != r.Kinds[0].Offered {
		t.Errorf("%d and %d of two kinds, %d in stretches", a, b, sum)
	}
}

// The same seed makes the same schedule; the warm-up is not counted.
func TestSchedule(t *testing.T) {
	p := traffic.Plan{Rate: 5000, Warmup: 50 * time.Millisecond, Duration: 50 * time.Millisecond, Workers: 64, Seed: 7}
	offered := func() (int64, int64) {
		var calls atomic.Int64
		r, err := traffic.Offer(t.Context(), p, func(context.Context, traffic.Request) error {
			calls.Add(1)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return r.Offered, calls.Load() + r.Dropped
	}
	first, all := offered()
	again, _ := offered()
	p.Seed = 8
	other, _ := offered()
	if first != again || first == 0 || all <= first {
		t.Errorf("%d, then %d requests, of %d", first, again, all)
	}
	if first == other {
		t.Logf("another seed gives as many: %d", other)
	}
	for _, bad := range []traffic.Plan{{}, {Rate: -1, Duration: 1, Workers: 1}, {Rate: 1, Duration: 1}} {
		if _, err := traffic.Offer(t.Context(), bad, nil); err == nil {
			t.Errorf("%+v was taken", bad)
		}
	}
}

func wait(d time.Duration) { <-time.After(d) }
