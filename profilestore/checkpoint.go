package profilestore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"rapport/profilestore/durable"
)

// CheckpointOptions say how far a store may be ahead of its last checkpoint, which is
// what a restart that was not prepared for replays: whichever comes first. What comes in
// while one is being made is added to it.
type CheckpointOptions struct {
	Entries uint64        // DefaultCheckpointEntries if 0
	Bytes   int64         // of the journal; DefaultCheckpointBytes if 0
	Every   time.Duration // if anything has come; DefaultCheckpointEvery if 0
}

// Defaults of CheckpointOptions. See RATIONALE.md for how they were found.
const (
	DefaultCheckpointEntries = 100_000
	DefaultCheckpointBytes   = 64 << 20
	DefaultCheckpointEvery   = 30 * time.Second
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

// checkpointer makes a checkpoint now and then, beside everything else.
type checkpointer struct {
	o CheckpointOptions

	making sync.Mutex    // held while one is made
	at     atomic.Uint64 // the last one

	// Bytes of the journal that have been written since the store was opened, and had
	// been at the last one.
	written, writtenThen atomic.Int64

	made, failures atomic.Uint64
	took           atomic.Int64 // nanoseconds, of the last one

	stop context.CancelFunc
	wait sync.WaitGroup
}

// checkpointLook is how often the checkpointer looks whether one is due.
const checkpointLook = 200 * time.Millisecond

func (c *checkpointer) start(s *Store) {
	if c.o.Entries == 0 {
		c.o.Entries = DefaultCheckpointEntries
	}
	if c.o.Bytes == 0 {
		c.o.Bytes = DefaultCheckpointBytes
	}
	if c.o.Every == 0 {
		c.o.Every = DefaultCheckpointEvery
	}
	ctx, cancel := context.WithCancel(context.Background())
	c.stop = cancel
	c.wait.Go(func() {
		look := time.NewTicker(min(checkpointLook, c.o.Every))
		defer look.Stop()
		last := time.Now()
		failed := false
		for {
			select {
			case <-ctx.Done():
				return
			case <-look.C:
			}
			applied, at := s.Applied(), c.at.Load() // a replay for the observer begins before it
			overdue := time.Since(last) >= c.o.Every
			if applied <= at || !overdue && (failed || applied-at < c.o.Entries && c.written.Load()-c.writtenThen.Load() < c.o.Bytes) {
				continue
			}
			err := s.checkpoint(ctx)
			last = time.Now()
			switch {
			case err == nil:
				failed = false
			case ctx.Err() != nil:
				return
			case !failed:
				failed = true
				s.log.Warn("a checkpoint can't be written; it is tried again, and until then a restart takes longer", "every", c.o.Every, "error", err)
			}
		}
	})
}

// halt ends what start began.
func (c *checkpointer) halt() {
	if c.stop != nil {
		c.stop()
	}
	c.wait.Wait()
}

// checkpoint makes all that has been applied durable in the engine and notes that a
// replay may begin after it.
func (s *Store) checkpoint(ctx context.Context) error {
	c := &s.checkpoints
	c.making.Lock()
	defer c.making.Unlock()
	began, applied, written := time.Now(), s.Applied(), c.written.Load()
	if applied <= c.at.Load() {
		return nil
	}
	err := s.engine.Barrier(ctx)
	if err == nil {
		err = s.writeCheckpoint(applied)
	}
	if err != nil {
		c.failures.Add(1)
		return fmt.Errorf("profilestore: checkpoint: %w", err)
	}
	c.writtenThen.Store(written)
	c.at.Store(applied)
	c.made.Add(1)
	c.took.Store(int64(time.Since(began)))
	return nil
}

// checkFrom returns from where on the journal need be read when it is opened: what the
// records lack. What is before has been read when it was applied.
func checkFrom(state *checkpointState) uint64 {
	if state == nil {
		return math.MaxUint64
	}
	return state.Applied + 1
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
	content, sealed := durable.Unseal(b)
	if !sealed {
		content = b // of a time before seals
	}
	var state checkpointState
	if err := json.Unmarshal(content, &state); err != nil {
		return nil, fmt.Errorf("%w: %s %w", ErrDeltasDamaged, name, durable.ErrDamaged)
	}
	return &state, nil
}

func (s *Store) writeCheckpoint(applied uint64) error {
	b, err := json.Marshal(checkpointState{Journal: s.journalName, Schema: s.schema.ID(), Applied: applied, Format: deltaFormat})
	if err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(s.dir, "deltas", checkpointFile), durable.Seal(append(b, '\n')))
}
