package profilestore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"rapport/profilestore/journal"
)

// Options configure a [Store].
type Options struct {
	// Dir is the data folder; the store uses its folders snapshots, deltas and
	// journal. The caller holds the folder's lock.
	Dir    string
	Schema *Schema
	Mapper EventMapper
	Engine Engine

	// CacheEntries is how many customers the hot cache holds; 0 for none.
	CacheEntries int
	// Clock returns the current time in microseconds since the Unix epoch; the
	// system's clock if nil.
	Clock  func() int64
	Logger *slog.Logger // slog.Default() if nil
	// OnSync, if set, is called after each group of events was made durable.
	OnSync func(events, bytes int, took time.Duration)
}

// Store is the profile store: snapshots, delta records, the journal that they
// follow from, and a cache of what was read last. It is safe for concurrent use.
//
// An event takes one way only. Ingest checks it, derives what it changes, and
// appends it to the journal; when the journal has made it durable it hands it, in
// journal order, to the writer of the customer's shard, which applies it to the
// delta record and to the cache, and only then is it acknowledged. So what is
// acknowledged is on disk and visible to the next read, whatever happens then:
// after a crash, replaying the journal applies what the records lack, each event
// once, because a record knows how far it has been applied.
//
// That a shard has one writer, and applies in journal order, is what makes a
// single number in each record enough for this. An engine that fails to apply
// stops the shard for good: later events must not overtake.
type Store struct {
	schema    *Schema
	mapper    EventMapper
	engine    Engine
	snapshots *Snapshots
	journal   *journal.Journal
	cache     *hotCache
	writers   [shards]writer
	clock     func() int64
	log       *slog.Logger
	dir       string

	closing sync.RWMutex // held for reading while an Ingest is under way
	closed  bool

	hits, misses atomic.Uint64
	fates        fates
	pruned       atomic.Uint64
	replayed     uint64
	failed       atomic.Pointer[error]
}

// ErrClosed is returned by calls on a closed store.
var ErrClosed = errors.New("the profile store is closed")

// OpenStore opens the store in a data folder, or makes a new one, and applies
// what the journal holds and the delta records lack. The store takes over the
// engine, also when it fails.
func OpenStore(ctx context.Context, o Options) (_ *Store, err error) {
	s := &Store{schema: o.Schema, mapper: o.Mapper, engine: o.Engine, clock: o.Clock, log: o.Logger, dir: o.Dir}
	if s.log == nil {
		s.log = slog.Default()
	}
	if s.clock == nil {
		s.clock = func() int64 { return time.Now().UnixMicro() }
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.engine.Close())
		}
	}()
	if s.cache, err = newHotCache(o.CacheEntries); err != nil {
		return nil, err
	}
	s.snapshots, err = OpenSnapshots(filepath.Join(o.Dir, "snapshots"), o.Schema, o.Engine, s.log)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.snapshots.Close())
		}
	}()
	s.journal, err = journal.Open(filepath.Join(o.Dir, "journal"), journal.Options{
		Committed: s.committed,
		OnSync:    o.OnSync,
		Logger:    s.log,
	})
	if err != nil {
		return nil, fmt.Errorf("profilestore: journal: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.journal.Close())
		}
	}()
	if err = s.replay(ctx); err != nil {
		return nil, err
	}
	for i := range s.writers {
		s.writers[i].start(s, i)
	}
	return s, nil
}

// Schema returns the schema that the store was opened with.
func (s *Store) Schema() *Schema { return s.schema }

// Snapshots returns the snapshots of the store's sources.
func (s *Store) Snapshots() *Snapshots { return s.snapshots }

// View returns what is known of an identity in canonical form. An identity that
// nothing is known of has a view too.
func (s *Store) View(ctx context.Context, identity string) (*View, error) {
	shard := &s.cache.shards[s.cache.shardOf(identity)]
	old, writes := shard.get(identity)
	if old != nil && old.epoch == s.snapshots.Epoch() {
		s.hits.Add(1)
		return old, nil
	}
	s.misses.Add(1)
	return s.viewSlow(ctx, identity, shard, old, writes)
}

// CachedView returns the view of an identity if the hot cache has it, else nil.
// It never waits for a disk.
func (s *Store) CachedView(identity string) *View {
	v, _ := s.cache.shards[s.cache.shardOf(identity)].get(identity)
	if v == nil || v.epoch != s.snapshots.Epoch() {
		return nil
	}
	s.hits.Add(1)
	return v
}

// viewSlow reads a view from the engine and the snapshots. What the cache holds
// of another choice of snapshots still has the right delta record.
func (s *Store) viewSlow(ctx context.Context, identity string, shard *cacheShard, old *View, writes uint64) (*View, error) {
	for {
		v, err := s.readView(ctx, identity, old)
		if err != nil {
			return nil, err
		}
		// Snapshots that were replaced before the delta record was read may no longer
		// have been retained then, and the record lack what they do not cover.
		if v.epoch != s.snapshots.Epoch() {
			continue
		}
		if v.Known() {
			shard.put(identity, v, writes)
		}
		return v, nil
	}
}

func (s *Store) readView(ctx context.Context, identity string, old *View) (*View, error) {
	set := s.snapshots.Acquire()
	defer set.Release()
	v := &View{
		schema: s.schema,
		epoch:  set.Epoch(),
		snaps:  make([]*Snapshot, len(s.schema.sources)),
		rows:   make([][]byte, len(s.schema.sources)),
	}
	key := []byte(identity)
	for i := range v.rows {
		snap := set.Source(i)
		if snap == nil {
			continue
		}
		v.snaps[i] = snap
		row, found, err := snap.Row(key, nil)
		if err != nil {
			return nil, fmt.Errorf("profilestore: %s: snapshot %d of source %s: %w", identity, snap.Generation(), snap.Source(), err)
		}
		if found {
			v.rows[i] = row
		}
	}
	if old != nil {
		v.delta = old.delta
	} else {
		record, found, err := s.engine.Get(ctx, key, nil)
		if err == nil && found {
			v.delta, err = decodeDelta(record)
		}
		if err != nil {
			return nil, fmt.Errorf("profilestore: %s: delta record: %w", identity, err)
		}
	}
	return v, nil
}

// Err returns why the store takes no more events, nil while it does.
func (s *Store) Err() error {
	if err := s.failed.Load(); err != nil {
		return *err
	}
	return s.journal.Err()
}

// Close waits for what is under way, makes everything durable and closes the
// engine. Closing again does nothing.
func (s *Store) Close() error {
	s.closing.Lock()
	if s.closed {
		s.closing.Unlock()
		return nil
	}
	s.closed = true
	s.closing.Unlock()

	next := s.journal.Next()
	err := s.journal.Close()
	for i := range s.writers {
		s.writers[i].stop()
	}
	if err == nil && s.failed.Load() == nil {
		err = s.checkpoint(context.Background(), next-1)
	}
	return errors.Join(err, s.engine.Close(), s.snapshots.Close())
}
