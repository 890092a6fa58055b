package server

import (
	"context"
	"errors"
	"sync/atomic"
	"time"
)

const (
	admissionQueue = 64                   // how many decisions may wait
	admissionWait  = 2 * time.Millisecond // and for how long
	retryAfter     = 50 * time.Millisecond
)

// errOverloaded means that the server has more decisions to make than it can.
var errOverloaded = errors.New("the server is overloaded: try again after the delay given")

// admission lets so many decisions run at once, and a few more wait a short
// while. With as many running as processors, Go's network poller starves and
// goodput under overload falls to a twentieth of what it is with one fewer; and
// refusing at once, without a queue, turns away 5% at half load because requests
// come in bursts.
type admission struct {
	permits chan struct{}
	waiting atomic.Int64
	refused atomic.Uint64

	background chan struct{} // held during a stretch of work in the background
}

func newAdmission(concurrent int) *admission {
	return &admission{permits: make(chan struct{}, concurrent), background: make(chan struct{}, 1)}
}

// enter waits for a permit; leave must follow when it returns nil. Otherwise the
// error is errOverloaded or the context's.
func (a *admission) enter(ctx context.Context) error {
	select {
	case a.permits <- struct{}{}:
		return nil
	default:
		return a.enterSlow(ctx)
	}
}

func (a *admission) enterSlow(ctx context.Context) error {
	if a.waiting.Add(1) > admissionQueue {
		a.waiting.Add(-1)
		a.refused.Add(1)
		return errOverloaded
	}
	defer a.waiting.Add(-1)
	timer := time.NewTimer(admissionWait)
	defer timer.Stop()
	select {
	case a.permits <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		a.refused.Add(1)
		return errOverloaded
	}
}

func (a *admission) leave() { <-a.permits }

// backgroundPatience is how long work in the background stands back at most.
const backgroundPatience = 20 * time.Millisecond

// enterBackground waits for the turn of a stretch of some 100 µs of work that nobody
// waits for; leaveBackground must follow when it returns nil. One stretch runs at a
// time. It stands back while a decision is being made or waits, but not for ever: under
// a load that never pauses it gets a stretch every backgroundPatience. It takes no
// permit: a decision that comes meanwhile does not wait for it.
func (a *admission) enterBackground(ctx context.Context) error {
	select {
	case a.background <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for begun := time.Now(); len(a.permits) > 0 || a.waiting.Load() > 0; timer.Reset(100 * time.Microsecond) {
		select {
		case <-timer.C:
		case <-ctx.Done():
			a.leaveBackground()
			return ctx.Err()
		}
		if time.Since(begun) > backgroundPatience {
			break
		}
	}
	return nil
}

func (a *admission) leaveBackground() { <-a.background }
