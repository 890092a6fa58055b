package server

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"rapport/profilestore"
	"rapport/profilestore/badger"
	"rapport/profilestore/durable"
)

const (
	// scrubRate is how many bytes a second are read, on average; a file of a snapshot, 64 MB
	// as a rule, at once. 60 million customers with two sources take half an hour.
	scrubRate = 32 << 20
	// scrubAfter is when the first pass begins: a server that is just tried does none.
	scrubAfter = time.Minute
	// scrubEvery is how long after one pass the next begins.
	scrubEvery = 6 * time.Hour
)

// scrub reads in the background what is never written again, the files of snapshots and
// the tables of the delta records, and compares it with what was sealed: a disk that goes bad
// is found before somebody needs what is on it. What it finds is told by /readyz, in the
// log and as a metric.
type scrub struct {
	deltas *badger.Engine
	bytes  atomic.Int64
	found  atomic.Int64
	stop   context.CancelFunc

	mu    sync.Mutex
	lines []string // what the last pass found
}

func (x *scrub) list() []string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.lines
}

// start begins to make passes until halt.
func (x *scrub) start(s *Server) {
	var ctx context.Context
	ctx, x.stop = context.WithCancel(s.ctx)
	s.background.Go(func() { x.run(ctx, s) })
}

// halt ends what start began, if it did.
func (x *scrub) halt() {
	if x.stop != nil {
		x.stop()
	}
}

func (x *scrub) run(ctx context.Context, s *Server) {
	for wait := scrubAfter; pause(ctx, wait); wait = scrubEvery {
		found, err := x.pass(ctx, s.folder.path("snapshots"))
		if err != nil {
			if ctx.Err() == nil {
				s.log.Warn("the data folder could not be read through for damage", "error", err)
			}
			continue
		}
		lines := make([]string, len(found))
		for i, d := range found {
			s.log.Error("a file is damaged", "file", d.Path, "problem", d.Problem)
			lines[i] = "damaged: " + d.Problem + "; see rapport doctor"
		}
		x.mu.Lock()
		x.lines = lines
		x.mu.Unlock()
		x.found.Store(int64(len(found)))
	}
}

// pass reads everything once.
func (x *scrub) pass(ctx context.Context, snapshots string) (found []durable.Damage, err error) {
	began, read := time.Now(), int64(0)
	slowly := func(bytes int64) {
		x.bytes.Add(bytes)
		read += bytes
		pause(ctx, time.Until(began.Add(time.Duration(float64(read)/scrubRate*float64(time.Second)))))
	}
	damages, err := profilestore.CheckSnapshots(ctx, snapshots, slowly)
	if err != nil {
		return nil, err
	}
	for _, d := range damages {
		found = append(found, durable.Damage{Path: d.Path, Problem: d.Problem})
	}
	if x.deltas == nil {
		return found, nil
	}
	err = x.deltas.Scrub(ctx, slowly)
	if d, ok := errors.AsType[*badger.DamagedError](err); ok {
		return append(found, durable.Damage{Path: d.File, Problem: d.Error() + ": at the next start the delta records are derived from the journal anew"}), nil
	}
	return found, err
}

// pause waits, and reports false if ctx ended meanwhile.
func pause(ctx context.Context, wait time.Duration) bool {
	if wait <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
