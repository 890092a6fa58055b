package bench

import (
	"context"
	"sync"
	"time"

	"rapport/profilestore"
	"rapport/server"
)

const serverHeaderTimeout = time.Second

// Fault makes a server slow on purpose, to see that the suite notices. The zero value does
// nothing.
type Fault struct {
	// StoreDelay is added to one in StoreEvery gets of delta records.
	StoreDelay time.Duration `json:"storeDelay,omitempty"`
	StoreEvery int           `json:"storeEvery,omitempty"`
	// Locked holds one lock across each of these gets, so that others wait too.
	Locked bool `json:"locked,omitempty"`
}

// apply puts the fault into a server.
func (f Fault) apply(c *server.Config) {
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
