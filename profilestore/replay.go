package profilestore

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"rapport/profilestore/durable"
)

// checkpointFile is written into the folder of the delta records, so that
// removing the folder removes it too and the records are rebuilt.
const checkpointFile = "CHECKPOINT"

// checkpointState says which journal the delta records follow, and up to where
// they are known to hold all of it.
type checkpointState struct {
	Journal string `json:"journal"` // the content of the journal's ID file
	Schema  string `json:"schema"`  // the id of the schema that they were derived by
	Applied uint64 `json:"applied"` // sequence number
	Format  int    `json:"format"`  // of the records
}

// ErrForeignDeltas means that the delta records were not made from the journal
// beside them.
var ErrForeignDeltas = errors.New("the folders deltas and journal do not belong together: put back the journal, or remove the folder deltas to have it rebuilt from the journal that is there")

// replay applies to the delta records what the journal has and they lack.
func (s *Store) replay(ctx context.Context) error {
	id, err := journalID(filepath.Join(s.dir, "journal"))
	if err != nil {
		return fmt.Errorf("profilestore: journal: %w", err)
	}
	state, err := readCheckpoint(s.dir)
	if err != nil {
		return err
	}
	if state == nil { // there are no records
		if err := s.snapshots.resetHorizon(); err != nil {
			return err
		}
		state = &checkpointState{Journal: id, Schema: s.schema.ID(), Format: deltaFormat}
		if err := s.writeCheckpoint(*state); err != nil {
			return err
		}
	}
	if state.Journal != id || state.Applied >= s.journal.Next() {
		return fmt.Errorf("profilestore: %s: %w", s.dir, ErrForeignDeltas)
	}
	from := state.Applied + 1
	if o := &s.observer; o.to != nil {
		if o.from, err = o.to.Begin(id, s.journal.Next()); err != nil {
			return err
		}
		from = min(from, max(o.from, foundBefore+1)-foundBefore)
		o.replayed, o.found = from-1, make(map[replayedEvent]uint64)
		defer func() { o.found = nil }()
	}
	s.snapshots.advance(ctx)
	started := time.Now()
	var batch []*pendingEntry
	var unmapped int
	flush := func() error {
		err := s.applyBatch(ctx, false, batch)
		if len(batch) > 0 {
			s.observer.replayed = batch[len(batch)-1].seq - 1 // another part of it may follow
		}
		batch = batch[:0]
		return err
	}
	full := func() error {
		if len(batch) < applyBatch {
			return nil
		}
		return flush()
	}
	err = s.journal.Replay(ctx, from, func(seq uint64, payload []byte) error {
		s.replayed++
		if len(payload) > 0 && payload[0] == tiesFormat {
			if seq <= state.Applied {
				return nil
			}
			change, err := decodeTies(payload)
			if err != nil {
				return fmt.Errorf("entry %d: %w", seq, err)
			}
			for _, g := range change.groups {
				g.Epoch = seq
			}
			for _, key := range change.keys() {
				batch = append(batch, &pendingEntry{seq: seq, key: key, ties: change})
			}
			return nil
		}
		e, err := decodeEvent(payload)
		if err != nil {
			return fmt.Errorf("entry %d: %w", seq, err)
		}
		if seq <= state.Applied && e.Type != ContactEvent && e.Type != OutcomeEvent {
			return nil // the records have it, and the observer does not want it
		}
		if seq <= state.Applied {
			batch = append(batch, &pendingEntry{seq: seq, key: e.Identity, event: e, look: true})
			return full()
		}
		// The event was accepted under the schema of its time. What a later
		// schema can't derive from it is left out.
		changes, err := s.mapper.Map(e, nil)
		if err != nil {
			unmapped++
		}
		batch = append(batch, &pendingEntry{seq: seq, key: e.Identity, event: e, changes: changes})
		return full()
	})
	if err == nil {
		err = flush()
	}
	if err != nil {
		return fmt.Errorf("profilestore: replay of the journal: %w", err)
	}
	if s.replayed > 0 {
		if err := s.checkpoint(ctx, s.journal.Next()-1); err != nil {
			return fmt.Errorf("profilestore: checkpoint: %w", err)
		}
		s.log.Info("replayed the journal", "events", s.replayed, "from", from, "unmapped", unmapped, "took", time.Since(started).Round(time.Millisecond))
	}
	return nil
}

// checkpoint makes all applied events durable in the engine and notes that a
// replay may begin after them.
func (s *Store) checkpoint(ctx context.Context, applied uint64) error {
	if err := s.engine.Barrier(ctx); err != nil {
		return err
	}
	id, err := journalID(filepath.Join(s.dir, "journal"))
	if err != nil {
		return err
	}
	return s.writeCheckpoint(checkpointState{Journal: id, Schema: s.schema.ID(), Applied: applied, Format: deltaFormat})
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

func readCheckpoint(dir string) (*checkpointState, error) {
	name := filepath.Join(dir, "deltas", checkpointFile)
	b, err := os.ReadFile(name)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var state checkpointState
	if err := json.Unmarshal(b, &state); err != nil {
		return nil, fmt.Errorf("profilestore: %s: %w: remove the folder deltas to have it rebuilt from the journal", name, err)
	}
	return &state, nil
}

func (s *Store) writeCheckpoint(state checkpointState) error {
	b, err := json.Marshal(state)
	if err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(s.dir, "deltas", checkpointFile), append(b, '\n'))
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
