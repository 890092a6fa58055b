package server

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"rapport/server/catalog"
	"rapport/server/decide"
	"rapport/server/sandbox"
)

// live is what decisions are made from at one moment: a catalogue and the
// strategies bound to its scenarios. It is immutable. A change builds the next
// one completely before it takes its place, and the old one is closed when the
// last decision that began with it has ended, so a swap loses no request and a
// bad catalogue or strategy changes nothing.
type live struct {
	version    *catalog.Version
	compiled   *catalog.Compiled
	decider    *decide.Decider
	strategies []*sandbox.Strategy // by scenario; nil where the built-in arbitration ranks
	used       map[string]string   // strategy name → version, of those that scenarios call live

	// uses counts the decisions under way, and one for being current.
	uses atomic.Int64
}

// newLive binds the strategies of a compiled catalogue. releases overrides which
// version of a strategy is the live one.
func (s *Server) newLive(ctx context.Context, v *catalog.Version, c *catalog.Compiled, releases map[string]string) (_ *live, err error) {
	l := &live{version: v, compiled: c, strategies: make([]*sandbox.Strategy, len(c.Scenarios)), used: make(map[string]string)}
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
		version, err := s.strategies.resolve(scenario.Strategy, releases)
		if err != nil {
			return nil, fmt.Errorf("scenario %s: %w", scenario.ID, err)
		}
		strategy, err := version.module.Bind(ctx, c, scenario, sandbox.PoolOptions{Size: s.config.StrategyInstances})
		if err != nil {
			return nil, fmt.Errorf("scenario %s: %w", scenario.ID, err)
		}
		l.strategies[i], rankers[i] = strategy, strategy
		l.used[scenario.Strategy.Name] = version.module.Manifest().Version
	}
	l.decider, err = decide.New(c, rankers)
	return l, err
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
	if old := s.live.Swap(next); old != nil {
		s.release(old)
	}
}

func (l *live) close(ctx context.Context) error {
	var errs []error
	for _, strategy := range l.strategies {
		if strategy != nil {
			errs = append(errs, strategy.Close(ctx))
		}
	}
	return errors.Join(errs...)
}

// strategyFit tells package catalog what does not fit between a catalogue and
// the strategies that it names.
type strategyFit struct{ s *strategies }

// Check returns, in words, what keeps a scenario's strategy from ranking it.
func (f strategyFit) Check(c *catalog.Compiled, scenario *catalog.Scenario) []string {
	v, err := f.s.resolve(scenario.Strategy, nil)
	if err != nil {
		return []string{err.Error()}
	}
	return v.module.Check(c, scenario)
}

var errNoCatalog = errors.New("no catalogue is in service: publish one with rapport catalog publish")
