package profilestore

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"rapport/profilestore/durable"
)

// ReplayProgress is how far a store is that derives delta records while it is opened.
type ReplayProgress struct {
	// What is read: "journal"; "base", which stands for a part that has been removed; or
	// "new fields", the journal a first time for fields that the base does not have.
	What        string
	Done, Total uint64 // entries of the journal, bytes of the base
}

const (
	replayTold   = 4096 // entries between two calls of Options.OnReplay
	replayLogged = 5 * time.Second
)

// ErrForeignDeltas means that the delta records were not made from the journal
// beside them.
var ErrForeignDeltas = errors.New("the folders deltas and journal do not belong together: put back the journal, or remove the folder deltas to have it rebuilt from the journal that is there")

// replay applies to the delta records what the journal has and they lack; all of it if
// there is no state, and no records.
func (s *Store) replay(ctx context.Context, state *checkpointState) (err error) {
	if state == nil {
		if state, err = s.derive(ctx); err != nil {
			return err
		}
	}
	next := s.journal.Next()
	if state.Journal != s.journalName || state.Applied >= next {
		return fmt.Errorf("profilestore: %s: %w", s.dir, ErrForeignDeltas)
	}
	from := state.Applied + 1
	first := s.journal.First()
	if from < first {
		return fmt.Errorf("profilestore: %s: the journal begins with entry %d, and the records have been applied up to %d: remove the folder deltas to have it derived from the base and the journal", s.dir, first, state.Applied)
	}
	if o := &s.observer; o.to != nil {
		if err := s.beginObserver(next, first); err != nil {
			return err
		}
		from = min(from, max(o.from, first+foundBefore)-foundBefore)
	}
	s.snapshots.advance(ctx)
	if s.part == nil { // else there is no checkpoint yet
		s.checkpoints.at.Store(state.Applied)
	}
	s.position(from - 1)
	if from == next && s.part == nil {
		return nil
	}
	r := s.newReplayer("journal", from, state.Applied)
	if s.part == nil { // else it can't be resumed, see derive
		s.checkpoints.start(s)
	}
	err = r.run(ctx)
	s.checkpoints.halt()
	s.part = nil
	if err != nil {
		return err
	}
	if err := s.checkpoint(ctx); err != nil {
		return err
	}
	s.log.Info("replayed the journal", "entries", r.total, "from", from, "unmapped", s.unmapped.Load(), "took", time.Since(r.started).Round(time.Millisecond))
	return nil
}

// beginObserver asks the observer from where on it is to be told.
func (s *Store) beginObserver(next, first uint64) error {
	o := &s.observer
	if first > 1 {
		// A start must not fail for it: the records are there.
		switch b, err := openBase(s.dir); {
		case err != nil:
			s.log.Warn("the base can't be read", "error", err)
		case b != nil:
			o.to.Restore(b.end.Observer)
			b.close()
		}
	}
	from, err := o.to.Begin(s.journalName, next)
	if err != nil {
		return err
	}
	if o.from = from; from < first {
		s.log.Warn("what is counted from contacts and outcomes is without those of the part of the journal that has been removed", "wanted_from", from, "journal_from", first)
		o.from = first
	}
	return nil
}

// position says that everything up to an entry has been applied, while no writer runs.
func (s *Store) position(applied uint64) {
	s.handed.Store(applied)
	s.applied.Store(applied)
	for i := range s.writers {
		s.writers[i].progress.last.Store(applied)
	}
}

func (s *Store) startWriters(replaying bool) {
	for i := range s.writers {
		s.writers[i].start(s, replaying)
	}
}

func (s *Store) stopWriters() {
	for i := range s.writers {
		s.writers[i].stop()
	}
}

// replayer replays the journal.
//
// It takes the way of new events: one reader hands the entries to the writers of
// their shards, so what is shown for one holds for the other, and the work (reading
// records, rules, changing records) is divided among as many as there are writers. The
// reader does no more than it must to know where an entry goes.
type replayer struct {
	store       *Store
	what        string
	applied     uint64 // the records have everything up to here
	from, total uint64
	started     time.Time
	logged      time.Time
}

func (s *Store) newReplayer(what string, from, applied uint64) *replayer {
	now := time.Now()
	return &replayer{store: s, what: what, applied: applied, from: from, total: s.journal.Next() - from, started: now, logged: now}
}

func (r *replayer) run(ctx context.Context) error {
	s := r.store
	s.position(r.from - 1)
	s.startWriters(true)
	err := s.journal.Replay(ctx, r.from, r.entry)
	s.stopWriters()
	if failed := s.failed.Load(); failed != nil {
		err = *failed
	}
	if err != nil {
		return fmt.Errorf("profilestore: replay of the journal: %w", err)
	}
	return nil
}

// entry hands on one entry.
func (r *replayer) entry(seq uint64, payload []byte) error {
	s := r.store
	if failed := s.failed.Load(); failed != nil {
		return *failed
	}
	s.replayed.Add(1)
	if done := seq + 1 - r.from; done%replayTold == 0 || done == r.total {
		r.tell(done)
	}
	err := r.hand(seq, payload)
	s.handed.Store(seq)
	if err != nil {
		return fmt.Errorf("entry %d: %w", seq, err)
	}
	return nil
}

func (r *replayer) hand(seq uint64, payload []byte) error {
	s := r.store
	if len(payload) == 0 {
		return nil // it was damaged, and cut out
	}
	if payload[0] == tiesFormat {
		if seq <= r.applied {
			return nil
		}
		change, err := decodeTies(payload)
		if err != nil {
			return err
		}
		for _, g := range change.groups {
			g.Epoch = seq
		}
		for _, key := range change.keys() {
			s.hand(&pendingEntry{seq: seq, key: key, ties: change})
		}
		return nil
	}
	e, attributes, err := decodeEventHead(payload)
	if err != nil {
		return err
	}
	look := seq <= r.applied
	if look && e.Type != ContactEvent && e.Type != OutcomeEvent {
		return nil // the records have it, and the observer does not want it
	}
	s.hand(&pendingEntry{seq: seq, key: e.Identity, event: e, look: look, attributes: bytes.Clone(attributes), unread: true})
	return nil
}

func (r *replayer) tell(done uint64) {
	s := r.store
	if s.onReplay != nil {
		s.onReplay(ReplayProgress{What: r.what, Done: done, Total: r.total})
	}
	if now := time.Now(); now.Sub(r.logged) >= replayLogged {
		r.logged = now
		s.log.Info("replaying the journal", "for", r.what, "entries", done, "of", r.total, "per_second", uint64(float64(done)/now.Sub(r.started).Seconds()))
	}
}

// read makes an entry of a replay complete: its attributes, and if it is to be applied
// what it changes. The event was accepted under the schema of its time; what a later one
// can't derive from it is left out.
func (p *pendingEntry) read(s *Store, apply bool) error {
	if p.unread {
		if err := decodeAttributes(p.event, p.attributes); err != nil {
			return fmt.Errorf("entry %d: %w", p.seq, err)
		}
		p.unread, p.attributes = false, nil
		p.unmapped = true
	}
	if p.unmapped && apply {
		var err error
		if p.changes, err = s.mapper.Map(p.event, nil); err != nil {
			s.unmapped.Add(1)
		}
		if s.part != nil {
			p.changes = slices.DeleteFunc(p.changes, func(c Change) bool { return !s.part[c.Slot] })
		}
		p.unmapped = false
	}
	return nil
}

// journalID returns the name that the journal in a folder was given when it was
// first opened.
func journalID(dir string) (string, error) {
	name := filepath.Join(dir, "ID")
	b, err := durable.ReadSealed(name)
	if err == nil {
		return string(b), nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	id := rand.Text()
	return id, durable.WriteSealed(name, []byte(id))
}
