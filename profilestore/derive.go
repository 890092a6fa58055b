package profilestore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"

	"rapport/profilestore/journal"
)

// Deriving records anew where the beginning of the journal has been removed.
//
// The base stands for what is gone. If the schema is the one of the base, its records are
// put into the engine, and the journal from its position on is replayed: that is a store
// whose last checkpoint was the base. If another schema is in force, its records hold, of
// the fields that events feed, those right whose meaning is the same; the others, called
// fresh here, follow from as much of the journal as is left. That begins before the base's
// position, or right after it with events that the base's records know of by an earlier
// sending, and each event must reach each field once, so it takes two passes:
//
//  1. The ties of the base's records, without anything else, go into the engine: they say
//     to whom an event belongs. Then all of the journal is replayed, for fresh fields only.
//  2. Of each record what fresh fields have is kept, as if it had applied nothing. The
//     base's records are put under it, and the journal from the base's position on is
//     replayed for all fields but the fresh ones.
//
// Nothing of that can be resumed: until it is done there is no checkpoint, and records
// without one are thrown away by DropForeignDeltas.
//
// The alternative, a base at the very beginning of what is left of the journal, needs one
// pass, and a second set of records that lags behind by all that the journal keeps: as much
// disk again, and each event applied twice, for good.

// ErrBaseMissing means that the journal's beginning has been removed and nothing stands
// for it.
var ErrBaseMissing = errors.New("the beginning of the journal has been removed, and there is no base that stands for it: restore the data folder from a backup")

// derive readies the engine for a replay, when there are no records, and returns the state
// to begin it with.
func (s *Store) derive(ctx context.Context) (*checkpointState, error) {
	b, err := openBase(s.dir)
	if err != nil {
		return nil, err
	}
	state := &checkpointState{Journal: s.journalName}
	if b == nil {
		if first := s.journal.First(); first > 1 {
			return nil, fmt.Errorf("profilestore: the journal in %s begins with entry %d: %w", s.dir, first, ErrBaseMissing)
		}
		if err := s.snapshots.setHorizons(nil); err != nil {
			return nil, err
		}
		return state, s.writeCheckpoint(0)
	}
	defer b.close()
	if b.header.Journal != s.journalName || b.header.Position >= s.journal.Next() {
		return nil, fmt.Errorf("profilestore: %s: the base %s is not of the journal that is there: put back the journal, or restore the data folder from a backup", s.dir, b.info.Path)
	}
	if err := s.engine.Records(ctx, func(_, _ []byte) error { return errNotEmpty }); err != nil {
		if errors.Is(err, errNotEmpty) {
			err = fmt.Errorf("profilestore: %s has records, but no checkpoint: remove the folder deltas to have it derived from the base and the journal", s.dir)
		}
		return nil, err
	}
	if err := s.snapshots.setHorizons(b.end.Horizons); err != nil {
		return nil, err
	}
	state.Applied = b.header.Position
	fresh, kept := s.schema.freshAfter(b.schema)
	if slices.Contains(fresh, true) {
		return state, s.deriveFresh(ctx, b, fresh, kept)
	}
	if err := s.load(ctx, b, func(key, record []byte, d *delta) []byte { // of the base
		if d.keep(kept) {
			return d.encodeRecord(string(key))
		}
		return record
	}); err != nil {
		return nil, err
	}
	if err := s.engine.Barrier(ctx); err != nil {
		return nil, err
	}
	return state, s.writeCheckpoint(state.Applied)
}

var errNotEmpty = errors.New("there is a record")

// deriveFresh does the passes for fresh fields, and leaves the engine ready for the replay
// of the others.
func (s *Store) deriveFresh(ctx context.Context, b *base, fresh []bool, kept map[fieldKey]bool) error {
	if err := s.load(ctx, b, func(key, _ []byte, d *delta) []byte {
		if !d.tied() {
			return nil
		}
		return (&delta{ties: d.ties}).encodeRecord(string(key))
	}); err != nil {
		return err
	}
	told := s.observer.to
	s.observer.to, s.part, s.partial = nil, fresh, true
	defer func() { s.observer.to, s.partial = told, false }()
	if err := s.newReplayer("new fields", s.journal.First(), 0).run(ctx); err != nil {
		return err
	}
	keys := make(map[fieldKey]bool)
	others := make([]bool, len(fresh))
	for slot, is := range fresh {
		if others[slot] = !is; is {
			keys[s.schema.slots[slot].key] = true
		}
	}
	s.part = others
	if err := s.strip(ctx, keys); err != nil {
		return err
	}
	return s.load(ctx, b, func(key, _ []byte, d *delta) []byte {
		d.keep(kept)
		return d.encodeRecord(string(key))
	})
}

// strip leaves in each record the fields of keys, and nothing else.
func (s *Store) strip(ctx context.Context, keys map[fieldKey]bool) error {
	var failed atomic.Pointer[error]
	change := func(key string, old []byte) []byte {
		d, err := decodeRecord(key, old)
		if err != nil {
			failed.Store(&err)
			return nil
		}
		d.keep(keys)
		return (&delta{regs: d.regs, cells: d.cells, sets: d.sets, moves: d.moves}).encodeRecord(key)
	}
	var ops []Op
	flush := func() error {
		err := s.engine.Apply(ctx, ops)
		ops = ops[:0]
		if broken := failed.Load(); broken != nil {
			err = *broken
		}
		return err
	}
	err := s.engine.Records(ctx, func(key, _ []byte) error {
		name := string(key)
		if ops = append(ops, Op{Key: []byte(name), Change: func(old []byte) []byte { return change(name, old) }}); len(ops) < applyBatch {
			return nil
		}
		return flush()
	})
	if err == nil {
		err = flush()
	}
	if err != nil {
		return fmt.Errorf("profilestore: derive new fields: %w", err)
	}
	return nil
}

// load puts the records of a base into the engine, each as what with makes of it, several
// blocks at a time. A record that is there has fresh fields only, which are added.
func (s *Store) load(ctx context.Context, b *base, with func(key, record []byte, d *delta) []byte) error {
	type block struct {
		payload []byte
		at      int64
	}
	queue := make(chan block)
	var failed atomic.Pointer[error]
	fail := func(err error) { failed.CompareAndSwap(nil, &err) }
	var all sync.WaitGroup
	for range writers {
		all.Go(func() {
			for x := range queue {
				if failed.Load() != nil {
					continue
				}
				if err := s.loadBlock(ctx, b, x.payload, x.at, with); err != nil {
					fail(err)
				}
			}
		})
	}
	err := b.blocks(ctx, func(payload []byte, at int64) error {
		if err := failed.Load(); err != nil {
			return *err
		}
		if s.onReplay != nil {
			s.onReplay(ReplayProgress{What: "base", Done: uint64(at), Total: uint64(b.last)})
		}
		queue <- block{payload, at}
		return nil
	})
	close(queue)
	all.Wait()
	if first := failed.Load(); first != nil {
		err = *first
	}
	return err
}

func (s *Store) loadBlock(ctx context.Context, b *base, payload []byte, at int64, with func(key, record []byte, d *delta) []byte) error {
	var ops []Op
	var failed atomic.Pointer[error]
	_, ok := eachRecord(payload, func(key, record []byte) {
		d, err := decodeRecord(string(key), record)
		if err != nil {
			err = b.damaged(at, "the record of %s: %v", identityOf(string(key)), err)
			failed.Store(&err)
			return
		}
		if record = with(key, record, d); record == nil {
			return
		}
		ops = append(ops, Op{Key: key, Change: func(old []byte) []byte {
			if old == nil {
				return record
			}
			under, err := decodeRecord(string(key), record)
			if err != nil {
				return record // it can't happen: it was encoded just now
			}
			over, err := decodeRecord(string(key), old)
			if err != nil {
				failed.Store(&err)
				return nil
			}
			under.join(over)
			if joined := under.encodeRecord(string(key)); len(joined) <= MaxRecord {
				return joined
			}
			s.log.Warn("a record has no room for what new fields would have of earlier events", "identity", identityOf(string(key)))
			return record
		}})
	})
	if !ok {
		return b.damaged(at, "a block holds something that is no record")
	}
	if err := failed.Load(); err != nil {
		return *err
	}
	for part := range slices.Chunk(ops, applyBatch) {
		if err := s.engine.Apply(ctx, part); err != nil {
			return fmt.Errorf("profilestore: read the base: %w", err)
		}
		if err := failed.Load(); err != nil {
			return *err
		}
	}
	return nil
}

// keep drops all fields but some, and reports whether there were others.
func (d *delta) keep(keys map[fieldKey]bool) (changed bool) {
	n := len(d.regs) + len(d.cells) + len(d.sets) + len(d.moves)
	d.regs = slices.DeleteFunc(d.regs, func(r register) bool { return !keys[r.key] })
	d.cells = slices.DeleteFunc(d.cells, func(c cell) bool { return !keys[c.key] })
	d.sets = slices.DeleteFunc(d.sets, func(e element) bool { return !keys[e.key] })
	d.moves = slices.DeleteFunc(d.moves, func(m move) bool { return !keys[m.key] })
	return n != len(d.regs)+len(d.cells)+len(d.sets)+len(d.moves)
}

// join adds the fields of another record, which has others than d.
func (d *delta) join(other *delta) {
	d.regs = append(d.regs, other.regs...)
	slices.SortFunc(d.regs, func(a, b register) int { return int(int64(a.key) - int64(b.key)) })
	d.cells = append(d.cells, other.cells...)
	slices.SortFunc(d.cells, cell.compare)
	d.sets = append(d.sets, other.sets...)
	slices.SortFunc(d.sets, element.compare)
	d.moves = append(d.moves, other.moves...)
	slices.SortFunc(d.moves, move.compare)
}

// freshAfter compares a schema with the one that records were derived by. fresh are the
// slots of the fields that events feed and that the records do not have, or mean something
// else by; kept are the keys of those that they have.
func (s *Schema) freshAfter(before *Schema) (fresh []bool, kept map[fieldKey]bool) {
	fresh, kept = make([]bool, len(s.fields)), make(map[fieldKey]bool)
	for slot := range s.fields {
		f := &s.fields[slot]
		if f.Events == nil {
			continue
		}
		old, ok := before.Lookup(f.Name)
		if ok && sameMeaning(&before.fields[old], f) {
			kept[s.slots[slot].key] = true
		} else {
			fresh[slot] = true
		}
	}
	return fresh, kept
}

// sameMeaning reports whether what events have made of a field is right for another.
func sameMeaning(f, g *Field) bool {
	return f.Events != nil && g.Events != nil && keyOf(f) == keyOf(g) && f.Batch == g.Batch && reflect.DeepEqual(f.Events, g.Events)
}

// DropForeignDeltas removes the delta records of a data folder if they were
// derived by another schema than this, are of another format, or have no checkpoint because
// deriving them was interrupted: they are a view of
// the journal, and what events mean has changed. Opening the store then derives them anew, so a field
// that is new has what events have said of it since the journal began. It is
// called before the engine is opened.
//
// Where the beginning of the journal has been removed they are derived from the base, which
// is read before anything is removed: if it is damaged, the error is a *BaseError and
// nothing has changed.
func DropForeignDeltas(ctx context.Context, dir string, schema *Schema) (dropped bool, err error) {
	state, err := readCheckpoint(dir)
	if err != nil || state != nil && state.Schema == schema.ID() && state.Format == deltaFormat {
		return false, err
	}
	b, err := openBase(dir)
	if err != nil {
		return false, keepForeign(state, err)
	}
	if b == nil && state == nil {
		return false, nil
	}
	if b != nil {
		defer b.close()
		err = b.verify(ctx, nil)
	} else {
		err = checkBegins(dir)
	}
	if err != nil {
		return false, keepForeign(state, err)
	}
	deltas := filepath.Join(dir, "deltas")
	if entries, err := os.ReadDir(deltas); err == nil && len(entries) == 0 || errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return true, os.RemoveAll(deltas)
}

// keepForeign says how records that must stay are put to use. state is their checkpoint,
// nil without.
func keepForeign(state *checkpointState, err error) error {
	switch {
	case state == nil:
		return err
	case state.Format != deltaFormat:
		return fmt.Errorf("%w; the records that are there are of format %d, this program's of %d: first have the program of before write the base", err, state.Format, deltaFormat)
	}
	return fmt.Errorf("%w; the records that are there were derived by another schema: first apply that one again, write the base, and then apply the new one", err)
}

// checkBegins returns ErrBaseMissing if the journal of a data folder without a base has
// lost its beginning.
func checkBegins(dir string) error {
	first, err := journal.Begins(filepath.Join(dir, "journal"))
	if err == nil && first > 1 {
		err = fmt.Errorf("profilestore: the journal in %s begins with entry %d: %w", dir, first, ErrBaseMissing)
	}
	return err
}
