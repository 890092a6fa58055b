package bench

import (
	"context"
	"sync"
	"time"

	"rapport/profilestore"
	"rapport/server"
	"rapport/server/sandbox/hostile"
)

const serverHeaderTimeout = time.Second

// Fault makes a server slow on purpose, to see that the suite notices. The zero value does
// nothing.
type Fault struct {
	// StoreDelay is added to one in StoreEvery gets of delta records.
	StoreDelay time.Duration `json:"storeDelay,omitempty"`
	StoreEvery int           `json:"storeEvery,omitempty"`
	// Locked holds one lock across every get, so that others wait too.
	Locked bool `json:"locked,omitempty"`
	// Stalls has one in so many calls of the strategy, a power of two, loop for some
	// milliseconds.
	Stalls int `json:"stalls,omitempty"`
}

// stallTurns of a strategy that stalls take some milliseconds, and stallFuel is enough for
// them.
const (
	stallTurns = 5_000_000
	stallFuel  = 10 * stallTurns
)

// faultDeadline is one that a fault does not meet: decisions wait for it, and do not step
// down.
const faultDeadline = 10 * time.Second

// strategy returns the name of the strategy that the world is to use, and its module if it
// has to be uploaded.
func (f Fault) strategy() (name string, module []byte, err error) {
	if f.Stalls == 0 {
		return "pvcl", nil, nil
	}
	module, err = hostile.Stalling(f.Stalls, stallTurns)
	return "hostile", module, err
}

// apply puts the fault into a server.
func (f Fault) apply(c *server.Config) {
	if f == (Fault{}) {
		return
	}
	c.Deadline = faultDeadline
	if f.Stalls > 0 {
		c.StrategyFuel.Base = stallFuel
	}
	if f.StoreEvery == 0 {
		return
	}
	c.CacheEntries = -1 // or there would be no gets
	c.WrapEngine = func(e profilestore.Engine) profilestore.Engine { return &slowEngine{Engine: e, fault: f} }
}

// slowEngine is an engine with a fault.
type slowEngine struct {
	profilestore.Engine

	fault Fault
	mu    sync.Mutex
	gets  int
	lock  sync.Mutex
}

// Get is slow now and then.
func (e *slowEngine) Get(ctx context.Context, key, dst []byte) ([]byte, bool, error) {
	e.mu.Lock()
	e.gets++
	slow := e.gets%e.fault.StoreEvery == 0
	e.mu.Unlock()
	if e.fault.Locked {
		e.lock.Lock()
		defer e.lock.Unlock()
	}
	if slow {
		<-time.After(e.fault.StoreDelay)
	}
	return e.Engine.Get(ctx, key, dst)
}
