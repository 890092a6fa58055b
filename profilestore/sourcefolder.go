package profilestore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"rapport/profilestore/durable"
)

// What the folder of a source holds beside its snapshots, which are folders
// gen-N; gen-N.tmp is one that is being built or removed.
const (
	currentFile     = "CURRENT.json"
	currentLockFile = "CURRENT.lock" // held for a moment, by who changes CURRENT.json or removes a snapshot
	loadLockFile    = "LOAD.lock"    // held during a load
	tempSuffix      = ".tmp"
)

// sourceFolder is the folder of a source: DATA/snapshots/SOURCE. A server and
// loads in other processes use it at the same time.
type sourceFolder struct {
	dir    string
	source string
}

func (s sourceFolder) generation(n int64) string {
	return filepath.Join(s.dir, "gen-"+strconv.FormatInt(n, 10))
}

// data returns the data folder.
func (s sourceFolder) data() string { return filepath.Dir(filepath.Dir(s.dir)) }

// current is the content of CURRENT.json.
type current struct {
	Format int   `json:"format"`
	Active int64 `json:"active"` // 0 if none is
	// Earlier are those that were active before, the latest last.
	Earlier []int64 `json:"earlier,omitempty"`
	// Last is the highest number that was ever given to a snapshot.
	Last int64 `json:"last"`
}

// maxEarlier is how far back rollbacks can go.
const maxEarlier = 16

// activate makes n the active generation.
func (c *current) activate(n int64) {
	if n == c.Active {
		return
	}
	if c.Active != 0 {
		c.Earlier = append(c.Earlier, c.Active)
		c.Earlier = c.Earlier[max(0, len(c.Earlier)-maxEarlier):]
	}
	c.Active = n
}

// before returns the generation that a rollback would make active, 0 if there is
// none, and how many of Earlier then remain. Generations that are gone are passed
// over.
func (c *current) before(exists func(int64) bool) (n int64, remain int) {
	for i, n := range slices.Backward(c.Earlier) {
		if n != c.Active && exists(n) {
			return n, i
		}
	}
	return 0, 0
}

// read returns what CURRENT.json says; the zero current if there is none.
func (s sourceFolder) read() (current, error) {
	path := filepath.Join(s.dir, currentFile)
	b, err := durable.ReadSealed(path)
	if errors.Is(err, fs.ErrNotExist) {
		return current{Format: 1}, nil
	}
	if errors.Is(err, durable.ErrDamaged) {
		return current{}, damaged("%v: remove both and activate a snapshot", err)
	}
	if err != nil {
		return current{}, err
	}
	var c current
	if err := json.Unmarshal(b, &c); err != nil {
		return current{}, damaged("%s: %v: remove it and activate a snapshot", path, err)
	}
	if c.Format != 1 {
		return current{}, fmt.Errorf("%s has format %d, this version of rapport knows 1: use the version that wrote it", path, c.Format)
	}
	return c, nil
}

func (s sourceFolder) write(c current) error {
	b, err := json.Marshal(c)
	if err != nil {
		return err
	}
	return durable.WriteSealed(filepath.Join(s.dir, currentFile), append(b, '\n'))
}

// sealed returns the numbers of the source's snapshots, highest first.
func (s sourceFolder) sealed() ([]int64, error) {
	numbers, err := s.folders("")
	return slices.DeleteFunc(numbers, func(n int64) bool { return !s.exists(n) }), err
}

// exists reports if n is a sealed snapshot: if it has a marker, or lost it, so that
// the copy of its manifest stands for it.
func (s sourceFolder) exists(n int64) bool {
	for _, name := range []string{completeFile, manifestFile + durable.CopySuffix} {
		if _, err := os.Stat(filepath.Join(s.generation(n), name)); err == nil {
			return true
		}
	}
	return false
}

// folders returns the numbers of all folders gen-N with a suffix, highest first.
func (s sourceFolder) folders(suffix string) ([]int64, error) {
	entries, err := os.ReadDir(s.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var numbers []int64
	for _, e := range entries {
		name, ok := strings.CutPrefix(e.Name(), "gen-")
		if name, ok2 := strings.CutSuffix(name, suffix); ok && ok2 {
			if n, err := strconv.ParseInt(name, 10, 64); err == nil && n > 0 && strconv.FormatInt(n, 10) == name {
				numbers = append(numbers, n)
			}
		}
	}
	slices.Sort(numbers)
	slices.Reverse(numbers)
	return numbers, nil
}

// lockCurrent waits for the lock of CURRENT.json.
func (s sourceFolder) lockCurrent(ctx context.Context) (unlock func(), err error) {
	path := filepath.Join(s.dir, currentLockFile)
	for {
		f, err := tryLock(path)
		if err != nil {
			return nil, err
		}
		if f != nil {
			return func() { _ = f.Close() }, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%s is locked by another process: %w", path, ctx.Err())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// lockLoad takes the lock of loads, or returns ErrLoadRunning.
func (s sourceFolder) lockLoad() (unlock func(), err error) {
	path := filepath.Join(s.dir, loadLockFile)
	f, err := tryLock(path)
	if err != nil {
		return nil, err
	}
	if f == nil {
		who := "another process"
		if b, err := os.ReadFile(path); err == nil && len(b) > 0 {
			who = "process " + strings.TrimSpace(string(b))
		}
		return nil, fmt.Errorf("source %s: %w: %s; wait for it, or end it", s.source, ErrLoadRunning, who)
	}
	if err = f.Truncate(0); err == nil {
		_, err = fmt.Fprintln(f, os.Getpid())
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() {
		_ = f.Truncate(0)
		_ = f.Close()
	}, nil
}

// tryLock opens a lock file and locks it; it returns nil if it is locked. The
// lock ends with the file, also when the process dies.
func tryLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	switch {
	case errors.Is(err, syscall.EWOULDBLOCK):
		return nil, f.Close()
	case err != nil:
		return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
	}
	return f, nil
}
