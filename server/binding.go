package server

import (
	"context"
	"sync"
	"sync/atomic"

	"rapport/server/catalog"
	"rapport/server/sandbox"
)

// binding is a version bound to a scenario, with its pool of instances. Live values
// that follow each other have it in common where nothing has changed for it: a
// release binds what it releases, and no more. Binding a strategy in Go to a
// scenario takes milliseconds and megabytes, instances that have ranked have the
// pages that they write already, and there may be dozens of scenarios of which a
// release concerns one.
type binding struct {
	*sandbox.Strategy

	scenario *catalog.Scenario // of one compiled catalogue
	module   *sandbox.Module
	options  sandbox.PoolOptions
	counts   *counts

	uses atomic.Int64 // live values that have it
}

// bind returns a version bound to a scenario: the one of the live value that is in
// service if it has it, else a new one. Release must follow. The caller holds
// s.changing, or the server is not open yet.
func (s *Server) bind(ctx context.Context, c *catalog.Compiled, scenario *catalog.Scenario, v *strategyVersion, o sandbox.PoolOptions) (*binding, error) {
	if current := s.live.Load(); current != nil {
		for _, b := range current.bindings {
			if b.scenario == scenario && b.module == v.module && b.options == o {
				b.uses.Add(1) // current has it, so there is one already
				return b, nil
			}
		}
	}
	bound, err := v.module.Bind(ctx, c, scenario, o)
	if err != nil {
		return nil, err
	}
	b := &binding{Strategy: bound, scenario: scenario, module: v.module, options: o, counts: v.counts}
	b.uses.Store(1)
	b.counts.pools.add(bound)
	return b, nil
}

// release closes the strategy if nobody else has it.
func (b *binding) release(ctx context.Context) error {
	if b.uses.Add(-1) > 0 {
		return nil
	}
	err := b.Close(ctx)
	if err == nil {
		b.counts.pools.retire(b.Strategy)
	}
	return err
}

// pools are the pools of instances of a version, one for each scenario. What those
// that are gone have counted stays. The zero value is ready, and safe for concurrent
// use.
type pools struct {
	mu   sync.Mutex
	now  []*sandbox.Strategy
	past poolStats
}

// poolStats are sums over pools.
type poolStats struct {
	instances, free         int
	image, private          int64  // bytes of memory: see sandbox.Stats
	grown, faulted, rescans uint64 // they only grow
}

func (p *pools) add(s *sandbox.Strategy) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now = append(p.now, s)
}

// retire takes out a pool that is closed.
func (p *pools) retire(s *sandbox.Strategy) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, other := range p.now {
		if other == s {
			p.now = append(p.now[:i:i], p.now[i+1:]...)
			p.past.count(s.Stats())
			return
		}
	}
}

// stats returns the sums.
func (p *pools) stats() poolStats {
	p.mu.Lock()
	defer p.mu.Unlock()
	sum := p.past
	for _, s := range p.now {
		stats := s.Stats()
		sum.count(stats)
		sum.instances += stats.Size
		sum.free += stats.Free
		sum.image += int64(stats.Image)
		sum.private += stats.Private
		if stats.Restore == sandbox.RestoreCopy { // then instances share nothing
			sum.private += int64(stats.Image) * int64(stats.Size)
		}
	}
	return sum
}

// count adds what only grows.
func (p *poolStats) count(s sandbox.Stats) {
	p.grown += s.Grown
	p.faulted += s.Faulted
	p.rescans += s.Rescans
}
