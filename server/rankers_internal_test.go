package server

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"rapport/server/catalog"
	"rapport/server/decide"
)

// TestInShare: a share has its size, two candidates meet different customers, and a
// larger share only adds some.
func TestInShare(t *testing.T) {
	const customers = 20_000
	rapid.Check(t, func(t *rapid.T) {
		namespace := rapid.StringMatching(`[a-z]{1,8}`).Draw(t, "namespace")
		first := rapid.IntRange(0, 1<<40).Draw(t, "first")
		version := rapid.StringMatching(`[0-9]\.[0-9]{1,2}`).Draw(t, "version")
		shares := rapid.SliceOfN(rapid.Float64Range(0.001, 99.999), 2, 2).Draw(t, "shares")
		slices.Sort(shares)
		small, large, other := shareSalt("pvcl", version), shareSalt("pvcl", version), shareSalt("pvcl", version+"1")
		var n, both int
		p := shares[1] / 100
		for i := range customers {
			c := customerHash(fmt.Sprintf("%s:%d", namespace, first+i))
			in := inShare(c, large, p)
			if !in && inShare(c, small, shares[0]/100) {
				t.Fatalf("customer %d is in the share of %v%% and not in that of %v%%", i, shares[0], shares[1])
			}
			if in {
				n++
				if inShare(c, other, p) {
					both++
				}
			}
		}
		within := func(what string, n int, p float64) {
			if sigma := math.Sqrt(customers * p * (1 - p)); math.Abs(float64(n)-customers*p) > 6*sigma+1 {
				t.Errorf("%s: %d of %d, expected %.1f", what, n, customers, customers*p)
			}
		}
		within("in the share", n, p)
		within("in the shares of two candidates", both, p*p)
	})
}

// TestShareNeverChanges: who is in a share is the same in every version of
// Rapport.
func TestShareNeverChanges(t *testing.T) {
	salt := shareSalt("pvcl", "1.0.7")
	got := ""
	for i := range 64 {
		if inShare(customerHash(fmt.Sprintf("customer:%d", i)), salt, 0.5) {
			got += "1"
		} else {
			got += "0"
		}
	}
	if want := "0110010111000100000110101010011010111110111011011111011101010010"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// rankerFunc is a ranker in a test.
type rankerFunc func(ctx context.Context, q *decide.Ranking) error

func (f rankerFunc) Rank(ctx context.Context, q *decide.Ranking) error { return f(ctx, q) }
func (f rankerFunc) Info() decide.RankerInfo                           { return decide.RankerInfo{Name: "test"} }

// fill is a live version that scores by place.
func fill(_ context.Context, q *decide.Ranking) error {
	for i := range q.Score {
		q.Score[i] = float64(i)
	}
	return nil
}

func ranking(n int) *decide.Ranking {
	q := &decide.Ranking{
		Slots: 2, Candidates: make([]int32, n), Propensity: make([]float64, n), Value: make([]float64, n),
		Weight: make([]float64, n), Lever: make([]float64, n), Score: make([]float64, n), Reason: make([]uint32, n), Veto: make([]bool, n),
	}
	for i := range n {
		q.Candidates[i], q.Propensity[i], q.Value[i], q.Weight[i], q.Lever[i] = int32(i), 1, 2, 3, 4
	}
	return q
}

func newShadowed(t *testing.T, n int, candidate rankerFunc) *shadowed {
	t.Helper()
	return &shadowed{rankerFunc(fill), candidate, &catalog.Compiled{Offers: make([]catalog.Offer, 1)}, &catalog.Scenario{Candidates: make([]catalog.Candidate, n), Plain: true}, newCounts(), newShadows(t.Context())}
}

// TestShadowBehind: when the shadow is behind, a decision goes on without a wait,
// and what was not compared is counted.
func TestShadowBehind(t *testing.T) {
	entered := make(chan struct{})
	s := newShadowed(t, 5, func(ctx context.Context, _ *decide.Ranking) error {
		entered <- struct{}{}
		<-ctx.Done()
		return ctx.Err()
	})
	const more = 10
	for range shadowJobs {
		if err := s.Rank(t.Context(), ranking(5)); err != nil {
			t.Fatal(err)
		}
	}
	<-entered // it is at the first, and the others wait
	for range more {
		if err := s.Rank(t.Context(), ranking(5)); err != nil {
			t.Fatal(err)
		}
	}
	c := &s.counts.shadow
	if got := c.dropped.Load(); got != more {
		t.Errorf("dropped %d of %d, with room for %d", got, shadowJobs+more, shadowJobs)
	}
	closed := make(chan struct{})
	go func() { s.shadows.close(); close(closed) }()
	for range shadowJobs - 1 {
		<-entered
	}
	<-closed
	if got := c.dropped.Load(); got != shadowJobs+more || c.comparisons.Load() != 0 || len(c.faults.get()) != 0 {
		t.Errorf("after the end: dropped %d of %d", got, shadowJobs+more)
	}
}

// TestShadowCopies: a decision's memory is reused while its shadow is compared, and
// what the candidate writes goes nowhere else.
func TestShadowCopies(t *testing.T) {
	var mu sync.Mutex
	wrong := 0
	s := newShadowed(t, 100, func(_ context.Context, q *decide.Ranking) error {
		for i, k := range q.Candidates {
			if int(k) != i || q.Propensity[i] != 1 || q.Value[i] != 2 || q.Weight[i] != 3 || q.Lever[i] != 4 || q.Score[i] != 0 || q.Veto[i] || q.Reason[i] != 0 {
				mu.Lock()
				wrong++
				mu.Unlock()
			}
			q.Score[i], q.Veto[i], q.Reason[i] = 7, true, 9
		}
		return nil
	})
	q := ranking(100)
	for range 2000 {
		*q = *ranking(len(q.Candidates))
		if err := s.Rank(t.Context(), q); err != nil {
			t.Fatal(err)
		}
		for i := range q.Candidates {
			if q.Score[i] != float64(i) || q.Veto[i] || q.Reason[i] != 0 {
				t.Fatalf("the candidate has changed the outcome: %v %v", q.Score, q.Veto)
			}
			q.Candidates[i], q.Propensity[i], q.Value[i], q.Weight[i], q.Lever[i] = -1, -1, -1, -1, -1
			q.Score[i], q.Reason[i], q.Veto[i] = -1, 1, true
		}
	}
	c := &s.counts.shadow
	for c.comparisons.Load() == 0 { // what waits when the shadows close is dropped
		runtime.Gosched()
	}
	s.shadows.close()
	t.Logf("%d compared, %d dropped", c.comparisons.Load(), c.dropped.Load())
	if wrong > 0 || c.comparisons.Load() == 0 || c.comparisons.Load()+c.dropped.Load() != 2000 || c.winner.Load() != c.comparisons.Load() {
		t.Errorf("%d wrong cells; %d compared, %d with another winner, %d dropped", wrong, c.comparisons.Load(), c.winner.Load(), c.dropped.Load())
	}
}

// TestShadowPanics: a shadow that panics or fails ends nothing.
func TestShadowPanics(t *testing.T) {
	n := 0
	s := newShadowed(t, 3, func(context.Context, *decide.Ranking) error {
		if n++; n%2 == 0 {
			panic("ouch")
		}
		return errors.New("no")
	})
	for i := range 10 {
		if err := s.Rank(t.Context(), ranking(3)); err != nil {
			t.Fatal(err)
		}
		for s.counts.shadow.faults.get()[faultOther] <= uint64(i) { // the worker counts it
		}
	}
	s.shadows.close()
}

// TestShadowOfFailure: what the live version could not rank is not compared.
func TestShadowOfFailure(t *testing.T) {
	s := newShadowed(t, 3, fill)
	failure := errors.New("no")
	s.Ranker = rankerFunc(func(context.Context, *decide.Ranking) error { return failure })
	if err := s.Rank(t.Context(), ranking(3)); !errors.Is(err, failure) {
		t.Errorf("error %v", err)
	}
	s.shadows.close()
	if c := &s.counts.shadow; c.comparisons.Load()+c.dropped.Load() != 0 {
		t.Error("it was handed over")
	}
}

// TestShadowAllocations: handing over does not allocate once the jobs have grown.
func TestShadowAllocations(t *testing.T) {
	s := newShadowed(t, 100, fill)
	q := ranking(100)
	rank := func() {
		if err := s.Rank(t.Context(), q); err != nil {
			t.Fatal(err)
		}
	}
	for range 20 * shadowJobs {
		rank()
	}
	s.shadows.close() // the worker's own allocations are not the decision's
	s.shadows.jobs = make(chan *shadowJob, shadowJobs)
	n := testing.AllocsPerRun(1000, func() {
		rank()
		select {
		case job := <-s.shadows.jobs:
			s.shadows.free <- job
		default:
		}
	})
	if n > 0 {
		t.Errorf("handing over allocates %v times", n)
	}
}
