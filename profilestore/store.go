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
	// TableSet returns the number of the set of reference table versions in force,
	// by which an event is mapped now and at every replay; 0, or nil, for none.
	TableSet func() uint64

	// CacheEntries is how many customers the hot cache holds; 0 for none.
	CacheEntries int
	// Clock returns the current time in microseconds since the Unix epoch; the
	// system's clock if nil.
	Clock  func() int64
	Logger *slog.Logger // slog.Default() if nil
	// OnSync, if set, is called after each group of events was made durable.
	OnSync func(events, bytes int, took time.Duration)
	// Observer, if set, is told of contacts and outcomes.
	Observer InteractionObserver
	// Checkpoint says how much of the journal a restart may have to read.
	Checkpoint CheckpointOptions
	// Retain is how long the journal is kept, 0 for ever; see [Store.Retain].
	Retain time.Duration
	// SegmentBytes is the size of the files of the journal, as in journal.Options.
	SegmentBytes int64
	// OnReplay, if set, is called now and then while the store is opened and derives
	// records from the journal.
	OnReplay func(ReplayProgress)
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
	writers   [writers]writer
	clock     func() int64
	tableSet  func() uint64
	log       *slog.Logger
	dir       string

	identities identityQueue

	journalName string // see journalID
	checkpoints checkpointer
	retention   retention
	basing      sync.Mutex               // held while a base is written
	newest      atomic.Pointer[BaseInfo] // the newest base that can be used, nil if there is none
	verified    atomic.Pointer[BaseInfo] // the one that has been read

	// While records are derived anew: of which slots, nil for all; and whether without
	// interactions. See deriveFresh.
	part    []bool
	partial bool

	onReplay func(ReplayProgress)

	observer observer
	handed   atomic.Uint64 // the last entry that the journal has handed over
	applied  atomic.Uint64 // what Applied returned last

	closing sync.RWMutex // held for reading while an Ingest is under way
	closed  bool

	hits, misses atomic.Uint64
	fates        fates
	pruned       atomic.Uint64
	replayed     atomic.Uint64
	unmapped     atomic.Uint64 // entries of a replay with something that the schema's rules can't take
	failed       atomic.Pointer[error]
}

// ErrClosed is returned by calls on a closed store.
var ErrClosed = errors.New("the profile store is closed")

// OpenStore opens the store in a data folder, or makes a new one, and applies
// what the journal holds and the delta records lack. The store takes over the
// engine, also when it fails.
func OpenStore(ctx context.Context, o Options) (_ *Store, err error) {
	s := &Store{schema: o.Schema, mapper: o.Mapper, engine: o.Engine, clock: o.Clock, tableSet: o.TableSet, log: o.Logger, dir: o.Dir}
	s.observer.to, s.onReplay, s.checkpoints.o = o.Observer, o.OnReplay, o.Checkpoint
	if s.log == nil {
		s.log = slog.Default()
	}
	if s.clock == nil {
		s.clock = func() int64 { return time.Now().UnixMicro() }
	}
	if s.tableSet == nil {
		s.tableSet = func() uint64 { return 0 }
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
	state, err := readCheckpoint(o.Dir)
	if err != nil {
		return nil, err
	}
	if err = s.openNewestBase(); err != nil {
		return nil, err
	}
	first, err := newestBase(o.Dir) // also one that can't be used says what there was
	if err != nil {
		return nil, err
	}
	s.journal, err = journal.Open(filepath.Join(o.Dir, "journal"), journal.Options{
		// The replay checks what it reads. Without records that is everything.
		CheckFrom:    checkFrom(state),
		First:        first + 1,
		SegmentBytes: o.SegmentBytes,
		Committed:    s.committed,
		OnSync: func(entries, bytes int, took time.Duration) {
			s.checkpoints.written.Add(int64(bytes))
			if o.OnSync != nil {
				o.OnSync(entries, bytes, took)
			}
		},
		Logger: s.log,
	})
	if err != nil {
		return nil, fmt.Errorf("profilestore: journal: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.journal.Close())
		}
	}()
	if s.journalName, err = journalID(filepath.Join(o.Dir, "journal")); err != nil {
		return nil, fmt.Errorf("profilestore: journal: %w", err)
	}
	if err = s.replay(ctx, state); err != nil {
		return nil, err
	}
	s.startWriters(false)
	s.checkpoints.start(s)
	s.retention.start(s, o.Retain)
	s.identities.turn = make(chan struct{}, 1)
	return s, nil
}

// Schema returns the schema that the store was opened with.
func (s *Store) Schema() *Schema { return s.schema }

// Snapshots returns the snapshots of the store's sources.
func (s *Store) Snapshots() *Snapshots { return s.snapshots }

// View returns what is known of the customer who has an identity, which is in canonical
// form. An identity that nothing is known of has a view too.
func (s *Store) View(ctx context.Context, identity string) (*View, error) {
	node := func(key string) (*View, error) { return s.node(ctx, key) }
	for {
		v, err := node(identity)
		if err == nil && v.members[0].delta.tied() {
			v, err = s.customer(v, node)
		}
		if v != nil || err != nil {
			return v, err
		}
		// Other snapshots have become current between the reads of two members.
	}
}

// ViewAside returns the same as View and leaves the hot cache as it is: for work that sees
// many customers once, who must not drive those out whom decisions are about.
func (s *Store) ViewAside(ctx context.Context, identity string) (*View, error) {
	node := func(key string) (*View, error) {
		for {
			// As in nodeSlow: what was replaced meanwhile may no longer be retained.
			v, err := s.readNode(ctx, key, nil)
			if err != nil || v.epoch == s.snapshots.Epoch() {
				return v, err
			}
		}
	}
	for {
		v, err := node(identity)
		if err == nil && v.members[0].delta.tied() {
			v, err = s.customer(v, node)
		}
		if v != nil || err != nil {
			return v, err
		}
	}
}

// CachedView returns the view of the customer who has an identity if the hot cache has
// all of it, else nil. It never waits for a disk.
func (s *Store) CachedView(identity string) *View {
	v := s.cachedNode(identity)
	if v != nil && v.members[0].delta.tied() {
		v, _ = s.customer(v, func(key string) (*View, error) { return s.cachedNode(key), nil })
	}
	if v != nil {
		s.hits.Add(uint64(len(v.members)))
	}
	return v
}

// customer returns the view of the customer who has an identity, from that of the
// identity's first node. It is nil if node gives one that is nil, or has other snapshots
// than another.
func (s *Store) customer(v *View, node func(key string) (*View, error)) (*View, error) {
	if n := len(v.members[0].delta.ties.handovers); n > 0 {
		var err error
		if v, err = node(nodeKey(v.members[0].key, n)); v == nil || err != nil {
			return nil, err
		}
	}
	if v.group == nil || len(v.group.Members) == 1 {
		return v, nil
	}
	whole := *v
	whole.members = make([]member, len(v.group.Members))
	for i, m := range v.group.Members {
		other := v
		if m.key != v.members[0].key {
			var err error
			if other, err = node(m.key); other == nil || err != nil || other.epoch != v.epoch {
				return nil, err
			}
		}
		whole.members[i] = other.members[0]
	}
	return &whole, nil
}

func (s *Store) cachedNode(key string) *View {
	v, _ := s.cache.shards[s.cache.shardOf(key)].get(key)
	if v == nil || v.epoch != s.snapshots.Epoch() {
		return nil
	}
	return v
}

// node returns the view of one node alone.
func (s *Store) node(ctx context.Context, key string) (*View, error) {
	shard := &s.cache.shards[s.cache.shardOf(key)]
	old, writes := shard.get(key)
	if old != nil && old.epoch == s.snapshots.Epoch() {
		s.hits.Add(1)
		return old, nil
	}
	s.misses.Add(1)
	return s.nodeSlow(ctx, key, shard, old, writes)
}

// nodeSlow reads a node from the engine and the snapshots. What the cache holds
// of another choice of snapshots still has the right delta record.
func (s *Store) nodeSlow(ctx context.Context, key string, shard *cacheShard, old *View, writes uint64) (*View, error) {
	for {
		v, err := s.readNode(ctx, key, old)
		if err != nil {
			return nil, err
		}
		// Snapshots that were replaced before the delta record was read may no longer
		// have been retained then, and the record lack what they do not cover.
		if v.epoch != s.snapshots.Epoch() {
			continue
		}
		if v.Known() || v.members[0].delta.tied() {
			if other := shard.put(key, v, writes); other != nil && other.members[0].delta != v.members[0].delta {
				old = other
				continue
			}
		}
		return v, nil
	}
}

func (s *Store) readNode(ctx context.Context, key string, old *View) (*View, error) {
	set := s.snapshots.Acquire()
	defer set.Release()
	return s.readNodeIn(ctx, set, key, old)
}

// readNodeIn reads a node under a choice of snapshots.
func (s *Store) readNodeIn(ctx context.Context, set *SnapshotSet, key string, old *View) (*View, error) {
	m := member{key: key, rows: make([][]byte, len(s.schema.sources))}
	if old != nil {
		m.delta = old.members[0].delta
	} else {
		record, found, err := s.engine.Get(ctx, []byte(key), nil)
		if err == nil && found {
			m.delta, err = decodeRecord(key, record)
		}
		if err != nil {
			return nil, fmt.Errorf("profilestore: %s: delta record: %w", identityOf(key), err)
		}
	}
	v := &View{schema: s.schema, epoch: set.Epoch(), snaps: make([]*Snapshot, len(s.schema.sources))}
	identity := []byte(identityOf(key))
	for i := range m.rows {
		snap := set.Source(i)
		if snap == nil {
			continue
		}
		v.snaps[i] = snap
		if !m.delta.had(key, snap.AsOf()) {
			continue
		}
		row, found, err := snap.Row(identity, nil)
		if err != nil {
			return nil, fmt.Errorf("profilestore: %s: snapshot %d of source %s: %w", identity, snap.Generation(), snap.Source(), err)
		}
		if found {
			m.rows[i] = row
		}
	}
	v.members = []member{m}
	if m.delta != nil {
		v.group = m.delta.ties.group
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

	s.checkpoints.halt()
	s.retention.halt()
	err := s.journal.Close()
	s.stopWriters()
	if err == nil && s.failed.Load() == nil {
		err = s.checkpoint(context.Background())
	}
	return errors.Join(err, s.engine.Close(), s.snapshots.Close())
}
