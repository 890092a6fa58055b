package memory

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"rapport/profilestore"
)

// Engine is a [profilestore.Engine] whose delta records are in memory. Open one
// with [Memory.Open].
type Engine struct {
	Generations
	memory  *Memory
	records *records
	closed  atomic.Bool
}

var _ profilestore.Engine = (*Engine)(nil)

// records are the delta records of one folder, in shards, each with a lock. A
// record is never written to: a change puts another in its place, so it is copied
// once on its way in and once on its way out.
type records struct {
	name   string
	open   bool // guarded by Memory.mu
	seed   maphash.Seed
	shards [64]shard
}

type shard struct {
	mu     sync.RWMutex
	values map[string][]byte
	_      [64]byte // shards are on cache lines of their own
}

func newRecords(name string) *records {
	r := &records{name: name, seed: maphash.MakeSeed()}
	for i := range r.shards {
		r.shards[i].values = make(map[string][]byte)
	}
	return r
}

func (r *records) shard(key []byte) *shard {
	return &r.shards[maphash.Bytes(r.seed, key)%uint64(len(r.shards))]
}

var errClosed = errors.New("memory: the engine is closed")

// Get implements [profilestore.Engine].
func (e *Engine) Get(ctx context.Context, key, dst []byte) (value []byte, found bool, err error) {
	if err := check(ctx, key); err != nil {
		return dst, false, err
	}
	s := e.records.shard(key)
	s.mu.RLock()
	defer s.mu.RUnlock()
	if e.closed.Load() {
		return dst, false, errClosed
	}
	value, found = s.values[string(key)]
	return append(dst, value...), found, nil
}

func check(ctx context.Context, key []byte) error {
	if len(key) == 0 || len(key) > profilestore.MaxKey {
		return fmt.Errorf("memory: a key of %d bytes: 1 to %d are possible", len(key), profilestore.MaxKey)
	}
	return ctx.Err()
}

// Apply implements [profilestore.Engine]. Each record becomes visible when it is
// made, and the context is looked at before each.
func (e *Engine) Apply(ctx context.Context, ops []profilestore.Op) error {
	for i := range ops {
		if err := check(ctx, ops[i].Key); err != nil {
			return err
		}
		if err := e.apply(&ops[i]); err != nil {
			return err
		}
	}
	return nil
}

func (e *Engine) apply(op *profilestore.Op) error {
	s := e.records.shard(op.Key)
	s.mu.Lock()
	defer s.mu.Unlock() // also if Change panics
	if e.closed.Load() {
		return errClosed
	}
	record := op.Change(s.values[string(op.Key)])
	switch {
	case record == nil:
	case len(record) > profilestore.MaxRecord:
		return fmt.Errorf("memory: a delta record of %d bytes, the limit is %d", len(record), profilestore.MaxRecord)
	default:
		s.values[string(op.Key)] = slices.Clone(record)
	}
	return nil
}

// Records implements [profilestore.Engine]. A record that is there is never written to,
// so the list of a shard is enough.
func (e *Engine) Records(ctx context.Context, fn func(key, record []byte) error) error {
	for i := range e.records.shards {
		values, err := e.records.shards[i].list(e)
		if err != nil {
			return err
		}
		for key, record := range values {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := fn([]byte(key), record); err != nil {
				return err
			}
		}
	}
	return ctx.Err()
}

func (s *shard) list(e *Engine) (map[string][]byte, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if e.closed.Load() {
		return nil, errClosed
	}
	return maps.Clone(s.values), nil
}

// Barrier implements [profilestore.Engine]. Nothing survives loss of power, and
// all that was applied is there as long as the records are.
func (e *Engine) Barrier(ctx context.Context) error {
	if e.closed.Load() {
		return errClosed
	}
	return ctx.Err()
}

// Close implements [profilestore.Engine]. The records stay, for the next engine
// that opens the folder.
func (e *Engine) Close() error {
	if e.closed.Swap(true) {
		return nil
	}
	for i := range e.records.shards { // until nobody is in one who saw it open
		e.records.shards[i].mu.Lock()
		e.records.shards[i].mu.Unlock() //nolint:staticcheck // that it was free is all that is wanted
	}
	e.memory.mu.Lock()
	defer e.memory.mu.Unlock()
	e.records.open = false
	return nil
}
