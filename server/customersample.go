package server

import (
	"context"
	"errors"
	"time"

	"rapport/profilestore"
	"rapport/profilestore/rules"
)

// customerSample is some of the customers of the current snapshots.
type customerSample struct {
	server *Server
	ctx    context.Context
	most   int
	seen   int
	err    error
}

// errSampled ends a walk that has seen enough.
var errSampled = errors.New("that is enough")

// sample returns so many customers at most; nil for none. They are spread over all, and
// the same each time.
func (s *Server) sample(ctx context.Context, most int) *customerSample {
	if most == 0 {
		return nil
	}
	return &customerSample{server: s, ctx: ctx, most: most}
}

// all calls yield with each customer's profile, which is valid during the call.
func (c *customerSample) all(yield func(rules.Profile) bool) {
	share, rows := 1.0, int64(0)
	set := c.server.store.Snapshots().Acquire()
	for i := range c.server.store.Schema().Sources() {
		if snap := set.Source(i); snap != nil {
			rows = max(rows, snap.Rows())
		}
	}
	set.Release()
	if rows > int64(c.most) {
		share = float64(c.most) / float64(rows)
	}
	now := time.Now().UnixMicro()
	_, err := c.server.store.Walk(c.ctx, profilestore.WalkOptions{
		Sample: share,
		Turn: func(ctx context.Context) (func(), error) {
			if c.server.stopping.Load() {
				return nil, errStopping
			}
			if err := c.server.admission.enterBackground(ctx); err != nil {
				return nil, err
			}
			return c.server.admission.leaveBackground, nil
		},
	}, func(v *profilestore.View) error {
		c.seen++
		if !yield(v.At(now)) || c.seen >= c.most {
			return errSampled
		}
		return nil
	})
	if !errors.Is(err, errSampled) {
		c.err = err
	}
}
