// Package memory is a [profilestore.Engine] whose delta records are in memory:
// for tests, for trying things out, and for servers that may begin anew at every
// start. It passes the same suite as package badger, so what is shown with one
// holds with the other.
//
// It promises less than Badger in one respect: records live as long as the
// [Memory], at most as long as the process. Nothing is lost by that, as the
// journal is the truth, but every start of a process replays all of it. And all
// records must fit into memory, as must all rows of the snapshots that are open.
//
// Tests and the wiring in cmd may import it.
package memory

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
)

// Memory stands for the disk of engines: delta records that outlive the engine
// that wrote them, and generations. The zero one is ready for use, and safe for
// concurrent use.
//
// Records belong to a folder, as Badger's do. A file in it names them; they are
// gone when the folder was removed, so whoever removes the folder to have the
// records derived anew need not know which engine keeps them. The other way round,
// a folder whose records are gone, because they were another process's, is emptied,
// so that nobody takes a checkpoint in it for true.
type Memory struct {
	Generations
	mu      sync.Mutex
	folders map[string]*records // by absolute path
}

// nameFile is the file of a folder that names its records.
const nameFile = "MEMORY"

// Open opens the delta records in a folder, which is made if it does not exist.
// One engine at a time can have it open.
func (m *Memory) Open(dir string) (*Engine, error) {
	path, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("memory: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.folders[path]
	if r != nil && r.open {
		return nil, fmt.Errorf("memory: the delta records in %s are open already", dir)
	}
	name, err := os.ReadFile(filepath.Join(path, nameFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("memory: open delta records: %w", err)
	}
	if r == nil || string(name) != r.name {
		if r, err = begin(path, err == nil); err != nil {
			return nil, fmt.Errorf("memory: open delta records: %w", err)
		}
		if m.folders == nil {
			m.folders = make(map[string]*records)
		}
		m.folders[path] = r
	}
	r.open = true
	return &Engine{memory: m, records: r}, nil
}

// begin returns new records, named in a folder. What is in the folder goes if ours
// is true; else there must be nothing.
func begin(dir string, ours bool) (*records, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	if len(entries) > 0 && !ours {
		return nil, fmt.Errorf("%s has delta records of another engine, or other files: remove the folder to have them derived from the journal", dir)
	}
	for _, entry := range entries {
		if entry.Name() == nameFile { // as long as it is there, what remains is ours
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, entry.Name())); err != nil {
			return nil, err
		}
	}
	r := newRecords(rand.Text())
	return r, os.WriteFile(filepath.Join(dir, nameFile), []byte(r.name), 0o600)
}
