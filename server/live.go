package server

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"rapport/server/catalog"
	"rapport/server/decide"
	"rapport/server/decisionlog"
	"rapport/server/sandbox"
)

// live is what decisions are made from at one moment: a catalogue and the
// strategies bound to its scenarios. It is immutable. A change builds the next
// one completely before it takes its place, and the old one is closed when the
// last decision that began with it has ended, so a swap loses no request and a
// bad catalogue or strategy changes nothing. What the two have in common of
// strategies is not built again: see binding.
type live struct {
	version  *catalog.Version
	compiled *catalog.Compiled
	decider  *decide.Decider
	bindings []*binding // all that rank, of all scenarios
	shadows  *shadows   // nil if nothing is in shadow
	reads    *decisionlog.Reads
	follows  map[string]bool // names of which scenarios use the live version

	// problems say which strategies are in service and can't be used; what is
	// answered in their place is not what was released, so the server is not ready.
	problems []string

	// learners are what evidence is read of; there always is a reading.
	learners []offerChannel
	evidence atomic.Pointer[decide.Evidence]

	// uses counts the decisions under way, and one for being current.
	uses atomic.Int64
}

// newLive binds the strategies of a compiled catalogue. changed is what of a
// strategy is to be in service, by name, where that is not what is kept.
//
// A strategy that can't be used does not keep the others from ranking: it is among
// the problems. That it must be usable when it is published or released is for the
// caller to see to, before. But that a candidate does not fit that is new in changed
// is an error.
func (s *Server) newLive(ctx context.Context, v *catalog.Version, c *catalog.Compiled, changed map[string]release) (_ *live, err error) {
	l := &live{version: v, compiled: c, reads: s.readsOf(c), follows: make(map[string]bool)}
	l.uses.Store(1)
	defer func() {
		if err != nil {
			err = errors.Join(err, l.close(ctx))
		}
	}()
	rankers := make([]decide.Ranker, len(c.Scenarios))
	for i, scenario := range c.Scenarios {
		if scenario.Strategy == nil {
			continue
		}
		kept := s.strategies.release(scenario.Strategy.Name)
		r, isChanged := changed[scenario.Strategy.Name]
		if !isChanged {
			r = kept
		}
		if rankers[i], err = s.newRanker(ctx, l, scenario, r, isChanged && !r.Candidate.equal(kept.Candidate)); err != nil {
			return nil, fmt.Errorf("scenario %s: %w", scenario.ID, err)
		}
	}
	l.learners = offerChannels(c, true)
	l.read(s.learning.counter)
	l.decider, err = decide.New(c, rankers)
	return l, err
}

// newRanker returns what ranks a scenario that has a strategy: the version that it
// names, or the live one with its candidate. With strict, the candidate must fit.
func (s *Server) newRanker(ctx context.Context, l *live, scenario *catalog.Scenario, r release, strict bool) (decide.Ranker, error) {
	use := scenario.Strategy
	follows := followsLive(use)
	if follows {
		l.follows[use.Name] = true
	}
	ranker, err := s.newVersionRanker(ctx, l, scenario, r)
	if err != nil || !follows || r.Candidate == nil {
		return ranker, err
	}
	bound, v, err := s.newCandidate(ctx, l, scenario, r.Candidate)
	switch {
	case err != nil && strict:
		return nil, err
	case err != nil && r.Candidate.Stage == stageShare:
		l.problems = append(l.problems, fmt.Sprintf("scenario %s: %v; it is to rank for %v%% of the customers, for whom the live version ranks until then", scenario.ID, err, r.Candidate.Share))
		return ranker, nil
	case err != nil: // a shadow affects nothing, also by its absence
		s.log.Error("a strategy can't rank in shadow", "scenario", scenario.ID, "error", err)
		return ranker, nil
	case r.Candidate.Stage == stageShare:
		return newSharing(ranker, counted{bound, v.counts}, r.Candidate.Share), nil
	}
	if l.shadows == nil {
		l.shadows = newShadows(s.ctx)
	}
	return &shadowed{ranker, bound, l.compiled, scenario, v.counts, l.shadows}, nil
}

// newVersionRanker returns the ranker of the version that a scenario names, or
// that is live; one that always fails if that can't be used.
func (s *Server) newVersionRanker(ctx context.Context, l *live, scenario *catalog.Scenario, r release) (decide.Ranker, error) {
	use := scenario.Strategy
	v, err := s.strategies.resolve(use, r)
	if err != nil {
		l.problems = append(l.problems, fmt.Sprintf("scenario %s: %v; until then the built-in arbitration ranks in its place, and each answer says so", scenario.ID, err))
		version := use.Version
		if followsLive(use) {
			version = r.Live
		}
		return unavailable{decide.RankerInfo{Name: use.Name, Version: version}}, nil
	}
	bound, err := l.bind(ctx, s, v, scenario, sandbox.PoolOptions{Size: s.config.StrategyInstances})
	return counted{bound, v.counts}, err
}

func (s *Server) newCandidate(ctx context.Context, l *live, scenario *catalog.Scenario, c *candidate) (decide.Ranker, *strategyVersion, error) {
	v, err := s.strategies.get(scenario.Strategy.Name, c.Version)
	if err != nil {
		return nil, nil, err
	}
	o := sandbox.PoolOptions{Size: s.config.StrategyInstances}
	if c.Stage == stageShadow {
		o = sandbox.PoolOptions{Size: shadowInstances, Aside: true}
	}
	bound, err := l.bind(ctx, s, v, scenario, o)
	return bound, v, err
}

// bind binds a version to a scenario. The binding is released with l.
func (l *live) bind(ctx context.Context, s *Server, v *strategyVersion, scenario *catalog.Scenario, o sandbox.PoolOptions) (*sandbox.Strategy, error) {
	b, err := s.bind(ctx, l.compiled, scenario, v, o)
	if err != nil {
		return nil, err
	}
	l.bindings = append(l.bindings, b)
	return b.Strategy, nil
}

// acquire returns what decisions are made from, nil if no catalogue is in
// service; release must follow.
func (s *Server) acquire() *live {
	for {
		l := s.live.Load()
		if l == nil {
			return nil
		}
		// A count of 0 means that it was replaced and closed in between.
		for n := l.uses.Load(); n > 0; n = l.uses.Load() {
			if l.uses.CompareAndSwap(n, n+1) {
				return l
			}
		}
	}
}

func (s *Server) release(l *live) {
	if l.uses.Add(-1) == 0 {
		// Closing waits for instances that are being restored; the decision that
		// happens to be the last does not.
		s.background.Go(func() {
			if err := l.close(context.WithoutCancel(s.ctx)); err != nil {
				s.log.Warn("a strategy that is out of service could not be closed", "error", err)
			}
		})
	}
}

// swap puts the next one into service. The caller holds s.changing.
func (s *Server) swap(next *live) {
	if next != nil {
		s.learning.counter.Know(catalogNames(next.compiled))
	}
	if old := s.live.Swap(next); old != nil {
		s.release(old)
	}
}

func (l *live) close(ctx context.Context) error {
	if l.shadows != nil {
		l.shadows.close() // it calls strategies
	}
	var errs []error
	for _, b := range l.bindings {
		errs = append(errs, b.release(ctx))
	}
	return errors.Join(errs...)
}

// strategyFit tells package catalog what does not fit between a catalogue and
// the strategies that it names.
type strategyFit struct {
	s *strategies
	// lenient lets a strategy pass that can't be used: a catalogue that is in
	// service already is not to go because of it.
	lenient bool
}

// Check returns, in words, what keeps a scenario's strategy, and a candidate that
// ranks for a share of its customers, from ranking it.
func (f strategyFit) Check(c *catalog.Compiled, scenario *catalog.Scenario) []string {
	use := scenario.Strategy
	r := f.s.release(use.Name)
	v, err := f.s.resolve(use, r)
	if err != nil && !f.lenient {
		return []string{err.Error()}
	}
	var problems []string
	if err == nil {
		problems = v.module.Check(c, scenario)
	}
	if f.lenient || !followsLive(use) || r.Candidate == nil || r.Candidate.Stage != stageShare {
		return problems
	}
	v, err = f.s.get(use.Name, r.Candidate.Version)
	if err != nil {
		return append(problems, fmt.Sprintf("%v: it ranks for a share of the customers: take it back with rapport strategy rollback %s", err, use.Name))
	}
	for _, problem := range v.module.Check(c, scenario) {
		problems = append(problems, fmt.Sprintf("version %s, which ranks for a share of the customers (rapport strategy rollback %s takes it back): %s", v.version, use.Name, problem))
	}
	return problems
}

var errNoCatalog = errors.New("no catalogue is in service: publish one with rapport catalog publish")
