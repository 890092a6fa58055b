package profilestore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"sync/atomic"

	"github.com/cespare/xxhash/v2"
)

// WalkOptions say how to walk over the customers.
type WalkOptions struct {
	// Sample is the share of the customers to see, above 0 and at most 1. Who is in it
	// follows from the identity: the same customers each time.
	Sample float64
	// Turn, if not nil, is called before each stretch of work, of some 100 µs, and what
	// it returns after it. It waits until others need the processor less; its error ends
	// the walk. It is called by several goroutines at a time.
	Turn func(context.Context) (end func(), err error)
	// Progress, if not nil, is called now and then with how many rows of all the
	// snapshots together have been read. By one goroutine at a time.
	Progress func(done, total int64)
}

// WalkedSnapshot is a snapshot that a walk read.
type WalkedSnapshot struct {
	Source                 string
	Generation, AsOf, Rows int64
}

// ErrWalkOvertaken is returned by a walk when other snapshots have been loaded and
// those that it reads are no longer retained: what events add to them has been pruned.
var ErrWalkOvertaken = errors.New("the snapshots have been replaced meanwhile: begin again")

const (
	walkStretch = 16  // customers between two turns
	walkRows    = 128 // rows that are read between two turns
)

// Walk calls fn with the view of every customer of whom a current snapshot has a row,
// in the order of identities, and returns which snapshots it read: those that were
// current when it began, to its end. Identities that have been linked are one customer,
// seen at the first of the customer's identities that has a row. Customers of whom only
// events are known are left out: an engine lists its records in no order. It
// reads from the disk in order, keeps some hundred rows in memory, and leaves the cache
// as it is. The view is valid during the call. An error of fn ends the walk.
//
// It may run beside everything else. What events change meanwhile may or may not be
// seen, and a customer whose identities are linked or parted meanwhile may be seen
// twice or not at all.
func (s *Store) Walk(ctx context.Context, o WalkOptions, fn func(v *View) error) ([]WalkedSnapshot, error) {
	if !(o.Sample > 0 && o.Sample <= 1) {
		return nil, fmt.Errorf("profilestore: a sample of %v: use a share above 0 and at most 1", o.Sample)
	}
	s.closing.RLock() // so that Close waits
	defer s.closing.RUnlock()
	if s.closed {
		return nil, ErrClosed
	}
	if o.Turn == nil {
		o.Turn = func(ctx context.Context) (func(), error) { return func() {}, ctx.Err() }
	}
	set := s.snapshots.Acquire()
	defer set.Release()
	ctx, cancel := context.WithCancel(ctx)
	w := &customerWalk{store: s, set: set, o: o, fn: fn, readers: make([]*walkReader, len(s.schema.sources))}
	defer func() {
		cancel()
		for _, r := range w.readers {
			if r != nil {
				for range r.batches { // until it has ended
				}
			}
		}
	}()
	var walked []WalkedSnapshot
	for i := range w.readers {
		snap := set.Source(i)
		if snap == nil {
			continue
		}
		walked = append(walked, WalkedSnapshot{snap.source, snap.generation, snap.asOf, snap.rows})
		w.total += snap.rows
		w.readers[i] = &walkReader{walk: w, snap: snap, batches: make(chan *walkBatch, 1)}
		go w.readers[i].read(ctx)
	}
	return walked, w.run(ctx)
}

// customerWalk is a walk under way.
type customerWalk struct {
	store   *Store
	set     *SnapshotSet
	o       WalkOptions
	fn      func(*View) error
	readers []*walkReader // by source; nil where there is no snapshot
	total   int64
	done    atomic.Int64
	record  []byte
}

// walkReader reads the rows of one snapshot ahead.
type walkReader struct {
	walk    *customerWalk
	snap    *Snapshot
	batches chan *walkBatch
	batch   *walkBatch // being taken apart; nil at the end
	next    int        // in it
	err     error      // set before batches is closed
}

// walkBatch is a stretch of rows of the sample.
type walkBatch struct {
	data []byte
	ends []int // of key, row, key, row …
}

var errWalkEnded = errors.New("the walk has ended")

// read reads all rows.
func (r *walkReader) read(ctx context.Context) {
	defer close(r.batches)
	threshold := uint64(math.MaxUint64)
	if s := r.walk.o.Sample; s < 1 {
		threshold = uint64(s * math.MaxUint64)
	}
	batch := &walkBatch{}
	rows := 0
	end, err := r.walk.o.Turn(ctx)
	if err != nil {
		r.err = err
		return
	}
	send := func() error {
		end()
		r.walk.done.Add(int64(rows))
		rows = 0
		if len(batch.ends) > 0 {
			select {
			case r.batches <- batch:
			case <-ctx.Done():
				end = func() {}
				return errWalkEnded
			}
			batch = &walkBatch{}
		}
		if end, err = r.walk.o.Turn(ctx); err != nil {
			end = func() {}
		}
		return err
	}
	r.err = r.snap.open.Each(func(key, stored []byte) error {
		if rows++; xxhash.Sum64(key) <= threshold {
			row, err := checkStoredRow(r.snap.layout, key, stored)
			if err != nil {
				return fmt.Errorf("%w: generation %d of source %s, row %q: %v", ErrSnapshotDamaged, r.snap.generation, r.snap.source, key, err) //nolint:errorlint // what is wrong with a row is no error of its own
			}
			batch.data = append(batch.data, key...)
			batch.ends = append(batch.ends, len(batch.data))
			batch.data = append(batch.data, row...)
			batch.ends = append(batch.ends, len(batch.data))
		}
		if rows < walkRows {
			return nil
		}
		return send()
	})
	if r.err == nil {
		r.err = send()
	}
	end()
}

// advance goes to the next row. At the end, batch is nil.
func (r *walkReader) advance(ctx context.Context) error {
	r.next += 2
	for r.batch == nil || r.next >= len(r.batch.ends) {
		select {
		case b, ok := <-r.batches:
			r.batch, r.next = b, 0
			if !ok {
				return r.err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (r *walkReader) key() []byte {
	begin := 0
	if r.next > 0 {
		begin = r.batch.ends[r.next-1]
	}
	return r.batch.data[begin:r.batch.ends[r.next]]
}

func (r *walkReader) row() []byte { return r.batch.data[r.batch.ends[r.next]:r.batch.ends[r.next+1]] }

// run merges the rows of all snapshots.
func (w *customerWalk) run(ctx context.Context) error {
	for _, r := range w.readers {
		if r != nil {
			if err := r.advance(ctx); err != nil {
				return err
			}
		}
	}
	for {
		more, err := w.stretch(ctx)
		if err == nil {
			err = w.overtaken()
		}
		if err != nil {
			return err
		}
		if w.o.Progress != nil {
			w.o.Progress(w.done.Load(), w.total)
		}
		if !more {
			return nil
		}
	}
}

// overtaken returns ErrWalkOvertaken if records may have been pruned of what a
// snapshot that is read does not cover.
func (w *customerWalk) overtaken() error {
	past := w.store.snapshots.horizon.Load()
	for i, r := range w.readers {
		if r != nil && !past.sources[i].reached(r.snap.asOf, r.snap.ingestCut) {
			return fmt.Errorf("source %s: %w", r.snap.source, ErrWalkOvertaken)
		}
	}
	return nil
}

// walkedRows are the rows of one identity: by source, nil where there is none.
type walkedRows struct {
	key  []byte
	rows [][]byte
}

// stretch sees some customers. First it collects their rows, which may have to be
// waited for; then it takes its turn.
func (w *customerWalk) stretch(ctx context.Context) (more bool, err error) {
	var some [walkStretch]walkedRows
	n := 0
	for ; n < walkStretch; n++ {
		var least []byte
		for _, r := range w.readers {
			if r != nil && r.batch != nil {
				if key := r.key(); least == nil || bytes.Compare(key, least) < 0 {
					least = key
				}
			}
		}
		if least == nil {
			break
		}
		some[n] = walkedRows{key: least, rows: make([][]byte, len(w.readers))}
		for i, r := range w.readers {
			if r != nil && r.batch != nil && bytes.Equal(r.key(), least) {
				some[n].rows[i] = r.row()
				if err := r.advance(ctx); err != nil {
					return false, err
				}
			}
		}
	}
	end, err := w.o.Turn(ctx)
	if err != nil {
		return false, err
	}
	defer end()
	for _, x := range some[:n] {
		if err := w.see(ctx, x); err != nil {
			return false, err
		}
	}
	return n == walkStretch, nil
}

// see calls fn with the customer of an identity that has rows, unless another of the
// customer's identities is the one to see.
func (w *customerWalk) see(ctx context.Context, x walkedRows) error {
	s, key := w.store, string(x.key)
	record, found, err := s.engine.Get(ctx, x.key, w.record[:0])
	w.record = record[:0]
	m := member{key: key, rows: x.rows}
	if err == nil && found {
		m.delta, err = decodeRecord(key, record)
	}
	if err != nil {
		return fmt.Errorf("profilestore: %s: delta record: %w", key, err)
	}
	if m.delta.tied() {
		return w.seeGroup(ctx, key)
	}
	v := &View{schema: s.schema, epoch: w.set.Epoch(), snaps: w.set.snapshots, members: []member{m}}
	return w.fn(v)
}

// seeGroup does so for an identity that has been linked, or has changed hands.
func (w *customerWalk) seeGroup(ctx context.Context, key string) error {
	node := func(key string) (*View, error) { return w.store.readNodeIn(ctx, w.set, key, nil) }
	v, err := node(key)
	if err == nil {
		v, err = w.store.customer(v, node)
	}
	if err != nil {
		return err
	}
	first, err := w.seenAt(v.Group())
	if err != nil || first != key || !v.Known() {
		return err
	}
	return w.fn(v)
}

// seenAt returns the identity at which a customer is seen: the first that the customer
// has and that has a row.
func (w *customerWalk) seenAt(g *Group) (string, error) {
	for _, m := range g.Members {
		if m.Until != 0 {
			continue
		}
		for _, r := range w.readers {
			if r == nil {
				continue
			}
			_, found, err := r.snap.open.Get([]byte(m.Identity), nil)
			if found || err != nil {
				return m.Identity, err
			}
		}
	}
	return "", nil
}
