package profilestore

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"rapport/profilestore/durable"
)

// ReplayProgress is how far a store is that derives delta records from the journal while
// it is opened.
type ReplayProgress struct {
	Done, Total uint64 // entries of the journal
}

// replayTold is how often the log, and Options.OnReplay, are told of a replay.
const (
	replayLogged = 5 * time.Second
	replayTold   = 4096 // entries
)

// ErrForeignDeltas means that the delta records were not made from the journal
// beside them.
var ErrForeignDeltas = errors.New("the folders deltas and journal do not belong together: put back the journal, or remove the folder deltas to have it rebuilt from the journal that is there")

// replay applies to the delta records what the journal has and they lack.
//
// It takes the way of new events: one reader, here, hands the entries to the writers of
// their shards, so what is shown for one holds for the other, and the work (reading
// records, rules, changing records) is divided among as many as there are writers. The
// reader does no more than it must to know where an entry goes.
func (s *Store) replay(ctx context.Context, state *checkpointState) (err error) {
	if state == nil { // there are no records
		if err := s.snapshots.resetHorizon(); err != nil {
			return err
		}
		state = &checkpointState{Journal: s.journalName}
		if err := s.writeCheckpoint(0); err != nil {
			return err
		}
	}
	next := s.journal.Next()
	if state.Journal != s.journalName || state.Applied >= next {
		return fmt.Errorf("profilestore: %s: %w", s.dir, ErrForeignDeltas)
	}
	from := state.Applied + 1
	if o := &s.observer; o.to != nil {
		if o.from, err = o.to.Begin(s.journalName, next); err != nil {
			return err
		}
		from = min(from, max(o.from, foundBefore+1)-foundBefore)
	}
	s.snapshots.advance(ctx)
	s.checkpoints.at.Store(state.Applied)
	s.position(from - 1)
	if from == next {
		return nil
	}
	r := &replayer{store: s, applied: state.Applied, from: from, total: next - from, started: time.Now()}
	r.logged = r.started
	s.startWriters(true)
	s.checkpoints.start(s)
	err = s.journal.Replay(ctx, from, r.entry)
	s.stopWriters()
	s.checkpoints.halt()
	if failed := s.failed.Load(); failed != nil {
		err = *failed
	}
	if err != nil {
		return fmt.Errorf("profilestore: replay of the journal: %w", err)
	}
	if err := s.checkpoint(ctx); err != nil {
		return err
	}
	s.log.Info("replayed the journal", "entries", r.total, "from", from, "unmapped", s.unmapped.Load(), "took", time.Since(r.started).Round(time.Millisecond))
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

// replayer hands entries of the journal to the writers.
type replayer struct {
	store       *Store
	applied     uint64 // the records have everything up to here
	from, total uint64
	started     time.Time
	logged      time.Time
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
	if len(payload) > 0 && payload[0] == tiesFormat {
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
		s.onReplay(ReplayProgress{Done: done, Total: r.total})
	}
	if now := time.Now(); now.Sub(r.logged) >= replayLogged {
		r.logged = now
		s.log.Info("replaying the journal", "entries", done, "of", r.total, "per_second", uint64(float64(done)/now.Sub(r.started).Seconds()))
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
		p.unmapped = false
	}
	return nil
}

// DropForeignDeltas removes the delta records of a data folder if they were
// derived by another schema than this, or are of another format: they are a view of
// the journal, and what events mean has changed. Opening the store then derives them anew, so a field
// that is new has what events have said of it since the journal began. It is
// called before the engine is opened.
func DropForeignDeltas(dir string, schema *Schema) (dropped bool, err error) {
	state, err := readCheckpoint(dir)
	if err != nil || state == nil || state.Schema == schema.ID() && state.Format == deltaFormat {
		return false, err
	}
	return true, os.RemoveAll(filepath.Join(dir, "deltas"))
}

// journalID returns the name that the journal in a folder was given when it was
// first opened.
func journalID(dir string) (string, error) {
	name := filepath.Join(dir, "ID")
	b, err := os.ReadFile(name)
	if err == nil {
		return string(b), nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	id := rand.Text()
	return id, durable.WriteFile(name, []byte(id))
}
