package backup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"rapport/profilestore/durable"
)

// What a folder of backups holds.
const (
	formatFile    = "RAPPORT-BACKUP"
	formatText    = "rapport backup 1\n"
	lockFile      = "lock"
	backupsFolder = "backups"
	objectsFolder = "objects"
	erasedFolder  = "erased"
	tmpFolder     = "tmp"
)

var (
	// ErrNoFolder means that a folder is none of backups.
	ErrNoFolder = errors.New("not a folder of backups")
	// ErrBusy means that another process uses the folder of backups.
	ErrBusy = errors.New("another process uses this folder of backups: wait for it, or stop it")
	// ErrNotFound means that there is no such backup.
	ErrNotFound = errors.New("no such backup")
	// ErrDamaged means that what is in a folder of backups is not as it was written.
	ErrDamaged = errors.New("damaged")
)

// folder is a folder of backups that this process has locked.
type folder struct {
	dir  string
	lock *os.File // nil where nothing can be written, and so nobody writes
}

// create opens a folder of backups alone, and makes one where there is nothing.
func create(dir string) (*folder, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("folder of backups: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("folder of backups: %w", err)
	}
	for _, e := range entries {
		switch e.Name() {
		case lockFile, formatFile + ".new", "lost+found": // the last is on every new ext4 disk
			continue
		}
		return open(dir, true) // which says if it is none
	}
	f := &folder{dir: dir}
	if err := f.lockAs(syscall.LOCK_EX); err != nil {
		return nil, err
	}
	if err := durable.WriteFile(filepath.Join(dir, formatFile), []byte(formatText)); err != nil {
		return nil, errors.Join(fmt.Errorf("folder of backups: %w", err), f.close())
	}
	return f, f.makeFolders()
}

// open opens a folder of backups, to write to it alone or to read it with others.
func open(dir string, write bool) (*folder, error) {
	if err := checkFormat(dir); err != nil {
		return nil, err
	}
	f := &folder{dir: dir}
	if !write {
		return f, f.lockAs(syscall.LOCK_SH)
	}
	if err := f.lockAs(syscall.LOCK_EX); err != nil {
		return nil, err
	}
	return f, f.makeFolders()
}

func checkFormat(dir string) error {
	b, err := os.ReadFile(filepath.Join(dir, formatFile))
	switch {
	case errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("%s is %w: it has no file %s; name an empty or new folder to begin one", dir, ErrNoFolder, formatFile)
	case err != nil:
		return fmt.Errorf("folder of backups: %w", err)
	case string(b) != formatText:
		return fmt.Errorf("%s has format %.40q, this version reads %q: use the version of Rapport that wrote it", dir, strings.TrimSpace(string(b)), strings.TrimSpace(formatText))
	}
	return nil
}

func (f *folder) makeFolders() error {
	for _, sub := range []string{backupsFolder, objectsFolder, tmpFolder} {
		if err := os.MkdirAll(f.path(sub), 0o700); err != nil {
			return errors.Join(fmt.Errorf("folder of backups: %w", err), f.close())
		}
	}
	return durable.SyncDir(f.dir)
}

// lockAs takes the lock, or returns ErrBusy.
func (f *folder) lockAs(how int) error {
	name := f.path(lockFile)
	flags := os.O_RDWR | os.O_CREATE
	file, err := os.OpenFile(name, flags, 0o600)
	if how == syscall.LOCK_SH && err != nil { // a disk that can only be read, or of somebody else
		if file, err = os.Open(name); err != nil {
			return nil //nolint:nilerr // who can't lock it can still read it
		}
	}
	if err != nil {
		return fmt.Errorf("folder of backups: %w", err)
	}
	if err := syscall.Flock(int(file.Fd()), how|syscall.LOCK_NB); err != nil {
		if errors.Is(err, syscall.EWOULDBLOCK) {
			err = fmt.Errorf("%s: %w", f.dir, ErrBusy)
		} else {
			err = fmt.Errorf("lock %s: %w", name, err)
		}
		return errors.Join(err, file.Close())
	}
	f.lock = file
	return nil
}

func (f *folder) path(elem ...string) string {
	return filepath.Join(append([]string{f.dir}, elem...)...)
}

// close releases the lock.
func (f *folder) close() error {
	if f.lock == nil {
		return nil
	}
	return f.lock.Close()
}

// clean removes what a process that was killed was writing. The folder is open alone.
func (f *folder) clean() error {
	entries, err := os.ReadDir(f.path(tmpFolder))
	for _, e := range entries {
		err = errors.Join(err, os.RemoveAll(f.path(tmpFolder, e.Name())))
	}
	if err != nil {
		return fmt.Errorf("folder of backups: what an earlier backup left behind can't be removed: %w", err)
	}
	return nil
}
