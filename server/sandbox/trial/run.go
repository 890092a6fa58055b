package trial

import (
	"context"
	"errors"
	"os"
	"slices"
	"time"

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

// Run has a strategy decide a case, and repeats the call so often for its time. A
// fault of the strategy is a result; an error says that the case and the strategy
// don't fit, or that the strategy can't be made ready.
func Run(ctx context.Context, m *sandbox.Module, c *Case, timed int) (_ *Result, err error) {
	w, err := newWorld(m.Manifest(), c)
	if err != nil {
		return nil, err
	}
	s, err := m.Bind(ctx, w.catalog, w.scenario, sandbox.PoolOptions{Size: 1, Aside: true})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close(context.WithoutCancel(ctx))) }()
	q := w.ranking()
	r := &Result{Slate: []string{}}
	fault := new(sandbox.FaultError)
	switch err := s.Rank(ctx, q); {
	case errors.As(err, &fault):
		r.Fault, r.FaultKind, r.FaultMessage = fault, string(fault.Kind), fault.Message
		if k := fault.Candidate; k > 0 {
			r.FaultCandidate = c.Candidates[k-1].ID
		}
	case err != nil:
		return nil, err
	}
	r.Fuel, r.FuelLimit = q.FuelUsed, q.FuelLimit
	took := make([]time.Duration, 0, timed)
	for range timed {
		begin := time.Now()
		again := s.Rank(ctx, w.ranking())
		took = append(took, time.Since(begin))
		if again != nil && !errors.As(again, &fault) {
			return nil, again
		}
	}
	if slices.Sort(took); timed > 0 {
		r.Time = took[timed/2]
	}
	if err := settle(ctx, s); err != nil {
		return nil, err
	}
	stats := s.Stats()
	r.Memory, r.Written, r.Grown = stats.Image, -1, stats.Grown > 0
	if stats.Restore == sandbox.RestorePages && r.Fault == nil && !r.Grown {
		r.Written = int(stats.Private) / os.Getpagesize() * os.Getpagesize()
	}
	if r.Fault != nil {
		return r, nil
	}
	reasons := s.Info().Reasons
	for i := range c.Candidates {
		a := Answer{ID: c.Candidates[i].ID, Score: q.Score[i], Reason: reasons[q.Reason[i]], Veto: q.Veto[i]}
		if q.Chance != nil {
			a.Chance = q.Chance[i]
		}
		r.Candidates = append(r.Candidates, a)
	}
	for place, i := range q.Slate(w.catalog, w.scenario, nil) {
		r.Slate = append(r.Slate, c.Candidates[i].ID)
		r.Candidates[i].Place = place + 1
	}
	return r, nil
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
