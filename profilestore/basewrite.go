package profilestore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"rapport/profilestore/backuplock"
	"rapport/profilestore/durable"
)

// WriteBaseOptions say how to write a base.
type WriteBaseOptions struct {
	// Gentle makes pauses, so that others have the processor and the disk most of the time.
	Gentle bool
	// Progress, if set, is called now and then with how many records have been written.
	Progress func(records uint64)
}

// gentleWork is how long a gentle one works before it pauses for three times as long.
const gentleWork = 10 * time.Millisecond

// WriteBase writes a base of all delta records, as of now, and then removes older ones. It
// runs beside everything else. Whoever has erased data from the records writes a new one,
// since the last one has it still.
func (s *Store) WriteBase(ctx context.Context, o WriteBaseOptions) (*BaseInfo, error) {
	s.closing.RLock() // so that Close waits
	defer s.closing.RUnlock()
	if s.closed {
		return nil, ErrClosed
	}
	return s.writeBase(ctx, o)
}

func (s *Store) writeBase(ctx context.Context, o WriteBaseOptions) (_ *BaseInfo, err error) {
	s.basing.Lock()
	defer s.basing.Unlock()
	schema, err := json.Marshal(s.schema)
	if err != nil {
		return nil, err
	}
	// The records are copied after this, so they have all up to here.
	position := s.Applied()
	if position == 0 {
		return nil, errors.New("profilestore: the journal is empty: there is nothing to write a base of")
	}
	dir := filepath.Join(s.dir, baseFolder)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("profilestore: %w", err)
	}
	path := basePath(s.dir, position)
	temporary := path + unfinished
	h := baseHeader{
		ID: newBaseID(), Journal: s.journalName, Position: position, Schema: schema, Records: deltaFormat,
		Made: time.Now().UTC().Truncate(time.Second),
	}
	w, err := createBase(temporary, h)
	if err != nil {
		return nil, fmt.Errorf("profilestore: write a base: %w", err)
	}
	done := false
	defer func() {
		if !done {
			err = errors.Join(err, w.file.Close(), os.Remove(temporary))
		}
	}()
	began := time.Now()
	err = s.engine.Records(ctx, func(key, record []byte) error {
		wrote, err := w.add(key, record)
		if err != nil || !wrote {
			return err
		}
		if o.Progress != nil {
			o.Progress(w.records)
		}
		if worked := time.Since(began); o.Gentle && worked >= gentleWork {
			if err := wait(ctx, 3*worked); err != nil {
				return err
			}
			began = time.Now()
		}
		return nil
	})
	if err == nil {
		err = w.seal(s.baseEnd())
	}
	if err != nil {
		return nil, fmt.Errorf("profilestore: write a base: %w", err)
	}
	done = true
	err = w.file.Close()
	if err == nil {
		err = os.Rename(temporary, path)
	}
	if err == nil {
		err = durable.SyncDir(dir)
	}
	if err == nil {
		err = durable.SyncDir(s.dir)
	}
	if err != nil {
		return nil, fmt.Errorf("profilestore: write a base: %w", err)
	}
	info := &BaseInfo{Path: path, Position: position, Schema: s.schema.ID(), Made: h.Made, Records: w.records, Bytes: w.at}
	s.newest.Store(info)
	return info, s.removeOldBases(position)
}

// baseEnd is taken after the records: they may have been pruned by the horizons of now,
// and the observer must not be behind them.
func (s *Store) baseEnd() baseEnd {
	end := baseEnd{Horizons: make(map[string]horizonTimes)}
	for i, h := range s.snapshots.horizon.Load().sources {
		if h != noHorizon {
			end.Horizons[s.schema.sources[i].ID] = h
		}
	}
	if to := s.observer.to; to != nil {
		end.Observer = to.State(s.Applied())
	}
	return end
}

// removeOldBases removes the bases before one, and what was being written when a process
// ended. While a backup is under way they stay.
func (s *Store) removeOldBases(position uint64) error {
	release, err := backuplock.Removal(s.dir)
	if err != nil || release == nil {
		return err
	}
	defer release()
	dir := filepath.Join(s.dir, baseFolder)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("profilestore: %w", err)
	}
	keep := filepath.Base(basePath(s.dir, position))
	for _, e := range entries {
		if e.Name() == keep {
			continue
		}
		if err := os.Remove(filepath.Join(dir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("profilestore: remove an old base: %w", err)
		}
	}
	return durable.SyncDir(dir)
}

// unfinished is the end of the name of a base that is being written.
const unfinished = ".new"

// removeUnfinished removes what was being written when a process ended, when nobody writes.
func removeUnfinished(dir string) error {
	files, err := filepath.Glob(filepath.Join(dir, baseFolder, "*"+baseSuffix+unfinished))
	if err != nil || len(files) == 0 {
		return err
	}
	release, err := backuplock.Removal(dir)
	if err != nil || release == nil {
		return err
	}
	defer release()
	for _, file := range files {
		if err := os.Remove(file); err != nil {
			return err
		}
	}
	return nil
}

// wait waits, or returns the error of a context that ends before.
func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
