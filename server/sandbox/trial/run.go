package trial

import (
	"context"
	"errors"
	"os"
	"slices"
	"strconv"
	"time"

	"rapport/server/decide"
	"rapport/server/sandbox"
)

// Answer is what a strategy says of a candidate.
type Answer struct {
	ID     string  `json:"id"`
	Score  float64 `json:"score"`
	Reason string  `json:"reason,omitempty"` // empty: none
	Veto   bool    `json:"veto,omitempty"`
	Chance float64 `json:"chance,omitempty"` // 0: it does not say
	Place  int     `json:"place,omitempty"`  // on the slate, from 1; 0: not on it
}

// Result is what came of a case.
type Result struct {
	Candidates []Answer `json:"candidates,omitempty"` // in the order of the case
	Slate      []string `json:"slate"`

	Fault          *sandbox.FaultError `json:"-"` // nil: none
	FaultKind      string              `json:"fault,omitempty"`
	FaultMessage   string              `json:"faultMessage,omitempty"`
	FaultCandidate string              `json:"faultCandidate,omitempty"` // for which the answer is wrong; empty: for none in particular

	Fuel      int64         `json:"fuel"`
	FuelLimit int64         `json:"fuelLimit"`
	Time      time.Duration `json:"nanoseconds"`  // of a call, the median of those that were timed
	Memory    int           `json:"memoryBytes"`  // of an instance
	Written   int           `json:"writtenBytes"` // of it that calls have written, in whole pages; −1: not known
	Grown     bool          `json:"grown"`        // a call made the memory grow, which costs the server the instance
}

// Chances reports whether the strategy said any probability.
func (r *Result) Chances() bool {
	return slices.ContainsFunc(r.Candidates, func(a Answer) bool { return a.Chance != 0 })
}

// Bound is a strategy that is ready to decide a case, again and again. One goroutine at
// a time uses it.
type Bound struct {
	c *Case
	w *world
	s *sandbox.Strategy
	q *decide.Ranking
}

// Bind makes a strategy ready to decide a case. An error says that the two don't fit, or
// that the strategy can't be made ready.
func Bind(ctx context.Context, m *sandbox.Module, c *Case) (*Bound, error) {
	return BindPool(ctx, m, c, 1)
}

// BindPool is Bind with so many instances, of which calls use any.
func BindPool(ctx context.Context, m *sandbox.Module, c *Case, instances int) (*Bound, error) {
	w, err := newWorld(m.Manifest(), c)
	if err != nil {
		return nil, err
	}
	s, err := m.Bind(ctx, w.catalog, w.scenario, sandbox.PoolOptions{Size: instances, Aside: true})
	if err != nil {
		return nil, err
	}
	return &Bound{c, w, s, w.ranking()}, nil
}

// Close frees what the strategy takes.
func (b *Bound) Close(ctx context.Context) error { return b.s.Close(ctx) }

// Call decides the case once more. An error of type [*sandbox.FaultError] is the
// strategy's.
func (b *Bound) Call(ctx context.Context) error { return b.s.Rank(ctx, b.q) }

// CallNative has the server's own arbitration, in Go, decide the case.
func (b *Bound) CallNative(ctx context.Context) error {
	return decide.Arbitration{}.Rank(ctx, b.q)
}

// Fuel returns what the last call of the strategy used.
func (b *Bound) Fuel() int64 { return b.q.FuelUsed }

// Settle waits until the strategy is ready for its next call.
func (b *Bound) Settle(ctx context.Context) error { return settle(ctx, b.s) }

// Run has a strategy decide a case, and repeats the call so often for its time. A
// fault of the strategy is a result; an error says that the case and the strategy
// don't fit, or that the strategy can't be made ready.
func Run(ctx context.Context, m *sandbox.Module, c *Case, timed int) (_ *Result, err error) {
	b, err := Bind(ctx, m, c)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.Close(context.WithoutCancel(ctx))) }()
	r := &Result{Slate: []string{}}
	fault := new(sandbox.FaultError)
	switch err := b.Call(ctx); {
	case errors.As(err, &fault):
		r.Fault, r.FaultKind, r.FaultMessage = fault, string(fault.Kind), fault.Message
		if k := fault.Candidate; k > 0 {
			r.FaultCandidate = c.Candidates[k-1].ID
		}
	case err != nil:
		return nil, err
	}
	r.Fuel, r.FuelLimit = b.q.FuelUsed, b.q.FuelLimit
	if r.Fault == nil {
		b.answers(r)
	}
	took := make([]time.Duration, 0, timed)
	for range timed {
		begin := time.Now()
		again := b.Call(ctx)
		took = append(took, time.Since(begin))
		if again != nil && !errors.As(again, &fault) {
			return nil, again
		}
	}
	if slices.Sort(took); timed > 0 {
		r.Time = took[timed/2]
	}
	if err := b.Settle(ctx); err != nil {
		return nil, err
	}
	stats := b.s.Stats()
	r.Memory, r.Written, r.Grown = stats.Image, -1, stats.Grown > 0
	if stats.Restore == sandbox.RestorePages && r.Fault == nil && !r.Grown {
		r.Written = int(stats.Private) / os.Getpagesize() * os.Getpagesize()
	}
	return r, nil
}

// answers copies what the last call has said.
func (b *Bound) answers(r *Result) {
	reasons := b.s.Info().Reasons
	for i := range b.c.Candidates {
		a := Answer{ID: b.c.Candidates[i].ID, Score: b.q.Score[i], Reason: reasons[b.q.Reason[i]], Veto: b.q.Veto[i]}
		if b.q.Chance != nil {
			a.Chance = b.q.Chance[i]
		}
		r.Candidates = append(r.Candidates, a)
	}
	for place, i := range b.q.Slate(b.w.catalog, b.w.scenario, nil) {
		r.Slate = append(r.Slate, b.c.Candidates[i].ID)
		r.Candidates[i].Place = place + 1
	}
}

// Grow returns the case with so many candidates: its own, over and over again.
func (c *Case) Grow(n int) *Case {
	grown := *c
	grown.Expect, grown.Candidates = nil, make([]Candidate, n)
	for i := range n {
		k := c.Candidates[i%len(c.Candidates)]
		if round := i / len(c.Candidates); round > 0 {
			k.ID += "." + strconv.Itoa(round+1)
		}
		grown.Candidates[i] = k
	}
	return &grown
}

// settle waits until the strategy's only instance is ready again, so that what is
// counted of it is complete.
func settle(ctx context.Context, s *sandbox.Strategy) error {
	for s.Stats().Free < s.Stats().Size {
		select {
		case <-time.After(100 * time.Microsecond):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}
