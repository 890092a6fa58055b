package server

import (
	"errors"
	"maps"
	"sync"
	"sync/atomic"

	"rapport/server/decide"
	"rapport/server/sandbox"
)

// counts are what a version of a strategy has done since the server started, in
// all scenarios and through all swaps, and the pools that it has for that. They are
// safe for concurrent use.
type counts struct {
	ranked, busy, suspended, fuel atomic.Uint64

	faults kinds

	shadow struct {
		comparisons, winner, slate, score, dropped, suspended atomic.Uint64

		faults kinds
	}

	pools pools
}

func newCounts() *counts { return new(counts) }

// rank counts what came of a call, which used so much fuel.
func (c *counts) rank(fuel int64, err error) {
	switch {
	case err == nil:
		c.fuel.Add(uint64(fuel)) // first: an average is of no less than was used
		c.ranked.Add(1)
	case errors.Is(err, decide.ErrBusy):
		c.busy.Add(1)
	case errors.Is(err, decide.ErrSuspended):
		c.suspended.Add(1)
	default:
		c.faults.add(faultKind(err))
	}
}

// faultOther is the kind of an error that is no fault of the strategy's.
const faultOther = "other"

// faultKind says in one word why a strategy did not rank.
func faultKind(err error) string {
	if fault, ok := errors.AsType[*sandbox.FaultError](err); ok {
		return string(fault.Kind)
	}
	return faultOther
}

// kinds counts by kind. Faults are rare enough for a lock.
type kinds struct {
	mu sync.Mutex
	n  map[string]uint64
}

func (k *kinds) add(kind string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.n == nil {
		k.n = make(map[string]uint64)
	}
	k.n[kind]++
}

// get returns a copy.
func (k *kinds) get() map[string]uint64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	return maps.Clone(k.n)
}
