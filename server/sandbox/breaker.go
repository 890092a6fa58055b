package sandbox

import (
	"sync"
	"sync/atomic"
	"time"
)

// The breaker's figures.
const (
	faultWeight   = 4               // what a fault adds; a success takes 1 off
	breakAt       = 40              // opens: ten faults in a row, or more than a fifth of all for long
	breakFor      = 5 * time.Second // how long it stays open at first
	breakForMost  = 5 * time.Minute // each time that a trial fails, twice as long, up to this
	trialsToClose = 3               // good calls, one at a time, after which it closes
)

// BreakerState is the state of a circuit breaker.
type BreakerState int32

// The states.
const (
	BreakerClosed   BreakerState = iota // calls go through
	BreakerHalfOpen                     // one call at a time is tried
	BreakerOpen                         // no call goes through
)

// String returns the state's name.
func (s BreakerState) String() string {
	return [...]string{BreakerClosed: "closed", BreakerHalfOpen: "half_open", BreakerOpen: "open"}[s]
}

// breaker keeps a version that fails from being called for a while: a fault costs
// its whole budget of fuel and an instance, and the decision is made without it
// all the same. It counts as a leaky bucket does: a fault adds 4, a good call
// takes 1 off, and at 40 it opens. So a version that fails one call in ten is
// still called, and one that fails one in four is not for long. All instances of
// a version share it, in every scenario, but those whose calls affect nothing: see
// PoolOptions.Aside.
//
// A good call of a version without recent faults reads one atomic and no more.
type breaker struct {
	now func() time.Time
	off bool // it never opens
	// changed is told when it has opened, and until when, and when it has closed;
	// nil: nobody is. It may be called from several goroutines.
	changed func(s BreakerState, until time.Time)

	level atomic.Int32 // what is in the bucket; breakAt or more: not closed

	mu     sync.Mutex
	until  time.Time     // it stays open
	wait   time.Duration // for which it was opened
	trial  bool          // a call is being tried
	trials int           // that went well
}

// alwaysClosed is for calls of which nothing counts.
var alwaysClosed = &breaker{off: true}

// allow reports whether a call may be made; if so, done must follow.
func (b *breaker) allow() bool {
	if b.level.Load() < breakAt {
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.level.Load() < breakAt {
		return true
	}
	if b.trial || b.now().Before(b.until) {
		return false
	}
	b.trial = true
	return true
}

// done says how a call went that was allowed. A call that was in flight when the
// breaker opened changes nothing any more, unless it is taken for the trial.
func (b *breaker) done(fault bool) {
	if b.off || !fault && b.level.Load() == 0 {
		return
	}
	if s, until := b.count(fault); s != BreakerHalfOpen && b.changed != nil {
		b.changed(s, until)
	}
}

// count counts a call. It returns the new state if it has opened or closed, and
// else BreakerHalfOpen.
func (b *breaker) count(fault bool) (BreakerState, time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	level := b.level.Load()
	switch {
	case level >= breakAt && !b.trial:
	case level >= breakAt && fault:
		return b.open(min(2*b.wait, breakForMost))
	case level >= breakAt:
		b.trial = false
		if b.trials++; b.trials == trialsToClose {
			b.level.Store(0)
			b.wait = 0
			return BreakerClosed, time.Time{}
		}
	case !fault:
		b.level.Store(max(0, level-1))
	case level+faultWeight >= breakAt:
		return b.open(breakFor)
	default:
		b.level.Store(level + faultWeight)
	}
	return BreakerHalfOpen, time.Time{}
}

// open lets nothing through for a while. The caller holds mu.
func (b *breaker) open(wait time.Duration) (BreakerState, time.Time) {
	b.level.Store(breakAt)
	b.wait, b.until = wait, b.now().Add(wait)
	b.trial, b.trials = false, 0
	return BreakerOpen, b.until
}

// abandon says that a call that was allowed was not made, or that it says nothing
// about the version.
func (b *breaker) abandon() {
	if b.level.Load() < breakAt {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.trial = false
}

// state returns the state, and until when it is open.
func (b *breaker) state() (BreakerState, time.Time) {
	if b.level.Load() < breakAt {
		return BreakerClosed, time.Time{}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.level.Load() < breakAt:
		return BreakerClosed, time.Time{}
	case b.now().Before(b.until):
		return BreakerOpen, b.until
	}
	return BreakerHalfOpen, b.until
}
