package badger

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// Barrier implements [profilestore.Engine].
//
// Badger's own Sync is not enough: it covers the log of the active memory table
// only, so what was applied just before a new one began is lost with the power.
// Barrier makes every file of the folder durable, and then the folder.
//
// What was applied before the call is then either in the log of a memory table
// that was listed, and is durable now; or that log was gone when its turn came.
// Badger removes one only when its content is in a table that has been synced and
// whose entry in Badger's MANIFEST has been synced, so then it is durable too, and
// its name is made so at the end. Logs that begin after the listing hold nothing
// older. A log is written through a shared memory map; syncing the file writes
// its changed pages, on Linux and whatever else has one page cache.
//
// It does not block reads or writes. Its cost is that of the logs' changed pages:
// a table is synced once, as it never changes.
func (e *Engine) Barrier(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	e.use.RLock()
	defer e.use.RUnlock()
	if e.db.IsClosed() {
		return errors.New("badger: the engine is closed")
	}
	if err := e.syncs.sync(e.dir); err != nil {
		return err
	}
	return e.writeSeal(false)
}

// writeSeal seals the folder as it is, durably.
func (e *Engine) writeSeal(closed bool) error {
	e.sealing.Lock()
	defer e.sealing.Unlock()
	s, err := e.sealer.take(closed)
	if err == nil {
		err = s.write(e.dir)
	}
	if err != nil {
		return fmt.Errorf("badger: seal: %w", err)
	}
	return nil
}

// syncedFiles makes a folder of Badger's durable. The zero one is ready for use,
// by one folder.
type syncedFiles struct {
	mu     sync.Mutex
	tables map[string]bool // those that are durable
	// fsync is called instead of File.Sync by tests.
	fsync func(*os.File) error
}

// sync makes all files of dir and dir durable. Files that vanish meanwhile are
// passed over.
func (s *syncedFiles) sync(dir string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("badger: barrier: %w", err)
	}
	tables := make(map[string]bool, len(s.tables))
	for _, entry := range entries {
		name := entry.Name()
		table := strings.HasSuffix(name, ".sst")
		if !table || !s.tables[name] {
			err := s.syncFile(filepath.Join(dir, name))
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return fmt.Errorf("badger: barrier: %w", err)
			}
		}
		if table {
			tables[name] = true
		}
	}
	if err := s.syncFile(dir); err != nil {
		return fmt.Errorf("badger: barrier: %w", err)
	}
	s.tables = tables
	return nil
}

func (s *syncedFiles) syncFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	fsync := s.fsync
	if fsync == nil {
		fsync = (*os.File).Sync
	}
	return errors.Join(fsync(f), f.Close())
}
