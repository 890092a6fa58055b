package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"rapport/profilestore/durable"
)

// dataFormat is the content of FORMAT in a data folder that this version can
// read.
const dataFormat = "rapport data 1"

// dataFolder is a data folder that this process has locked.
type dataFolder struct {
	dir    string
	lock   *os.File
	lost   map[string]string // see inventory; nil in a folder that is checked
	synced map[string]int64  // sizes of files of logs, as they were last made durable
}

// LockedError means that another process has the data folder open.
type LockedError struct {
	Dir string
	PID int
	URL string // of the server that has it; empty if it is none, or not listening yet
}

func (e *LockedError) Error() string {
	if e.URL != "" {
		return fmt.Sprintf("%s is open in a server (process %d at %s): use --server %s, or stop it first", e.Dir, e.PID, e.URL, e.URL)
	}
	return fmt.Sprintf("%s is open in another process (%d): wait for it to end, or stop it", e.Dir, e.PID)
}

// lockContent is what the LOCK file says of its holder.
type lockContent struct {
	PID int    `json:"pid"`
	URL string `json:"url,omitempty"`
}

// openDataFolder locks a data folder, or makes a new one where there is nothing.
func openDataFolder(dir string) (_ *dataFolder, err error) {
	if err := durable.MakeFolder(dir, 0o750); err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	if err := checkFormat(dir); err != nil {
		return nil, err
	}
	name := filepath.Join(dir, "LOCK")
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, lockedBy(dir)
		}
		return nil, fmt.Errorf("data folder: lock %s: %w", name, err)
	}
	d := &dataFolder{dir: dir, lock: f}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.close())
		}
	}()
	if err := d.announce(""); err != nil {
		return nil, err
	}
	if _, err := os.Stat(d.path("FORMAT")); errors.Is(err, os.ErrNotExist) {
		if err := durable.WriteFile(d.path("FORMAT"), []byte(dataFormat+"\n")); err != nil {
			return nil, fmt.Errorf("data folder: %w", err)
		}
	}
	for sub, mode := range map[string]os.FileMode{
		"snapshots": 0o750, "deltas": 0o750, "journal": 0o750, "catalog": 0o750, "strategies": 0o750,
		"audit": 0o750, "tables": 0o750, "ledger": 0o750, "decisions": 0o750, "wasm-cache": 0o700, "keys": 0o700,
	} {
		if err := durable.MakeFolder(d.path(sub), mode); err != nil {
			return nil, fmt.Errorf("data folder: %w", err)
		}
	}
	// Where loads write beside a server, they remove what others have left behind.
	for _, sub := range []string{"catalog", "strategies", "decisions", "keys"} {
		if err := durable.RemoveUnfinished(d.path(sub)); err != nil {
			return nil, fmt.Errorf("data folder: %w", err)
		}
	}
	for _, sub := range []string{"catalog", "strategies", "tables", "snapshots", "keys"} {
		if err := durable.SyncFolders(d.path(sub)); err != nil {
			return nil, fmt.Errorf("data folder: %w", err)
		}
	}
	return d, nil
}

// checkFormat refuses a folder that is not ours, or of a later version.
func checkFormat(dir string) error {
	b, err := os.ReadFile(filepath.Join(dir, "FORMAT"))
	if err == nil {
		if got := strings.TrimSpace(string(b)); got != dataFormat {
			return fmt.Errorf("data folder: %s says that the format is %.40q, and this version reads %q: use the version of Rapport that wrote it; if it was this one, the file is damaged: rapport doctor --data %s --repair", filepath.Join(dir, "FORMAT"), got, dataFormat, dir)
		}
		return nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("data folder: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("data folder: %w", err)
	}
	for _, e := range entries {
		if e.Name() == "RESTORING" {
			return fmt.Errorf("data folder: a backup is being restored to %s, or that was interrupted: let rapport restore end, or begin it again", dir)
		}
		if e.Name() != "LOCK" {
			return fmt.Errorf("data folder: %s has no FORMAT file but is not empty (%s): it is not a data folder of Rapport, so name an empty or new one; if it was one: rapport doctor --data %s --repair", dir, e.Name(), dir)
		}
	}
	return nil
}

// announce writes who holds the folder into the LOCK file.
func (d *dataFolder) announce(url string) error {
	b, err := json.Marshal(lockContent{PID: os.Getpid(), URL: url})
	if err != nil {
		return err
	}
	if err := d.lock.Truncate(0); err != nil {
		return fmt.Errorf("data folder: %w", err)
	}
	if _, err := d.lock.WriteAt(append(b, '\n'), 0); err != nil {
		return fmt.Errorf("data folder: %w", err)
	}
	return nil
}

func (d *dataFolder) path(elem ...string) string {
	return filepath.Join(append([]string{d.dir}, elem...)...)
}

// close releases the lock.
func (d *dataFolder) close() error { return d.lock.Close() }

// HoldFolder keeps servers from opening a data folder until release is called. It changes
// nothing in the folder, whatever state that is in. The error is a *LockedError if a
// process has it open.
func HoldFolder(dir string) (release func() error, err error) {
	name := filepath.Join(dir, "LOCK")
	f, err := os.Open(name)
	if errors.Is(err, os.ErrNotExist) { // nobody has ever opened it
		return func() error { return nil }, nil
	}
	if err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		if errors.Is(err, syscall.EWOULDBLOCK) {
			err = lockedBy(dir)
		}
		return nil, errors.Join(err, f.Close())
	}
	return f.Close, nil
}

// lockedBy says who has a folder open.
func lockedBy(dir string) *LockedError {
	var holder lockContent
	if b, err := os.ReadFile(filepath.Join(dir, "LOCK")); err == nil {
		_ = json.Unmarshal(b, &holder) // it may be empty for a moment
	}
	return &LockedError{Dir: dir, PID: holder.PID, URL: holder.URL}
}
