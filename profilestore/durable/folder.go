package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// MakeFolder makes a folder and what is missing above it, and returns when its name
// survives loss of power. It is made sure of also if the folder is there: whoever made it
// may have died before. If it is there and the folder above may not be read, that is left
// to whoever set it up so.
func MakeFolder(dir string, mode fs.FileMode) error {
	err := os.Mkdir(dir, mode)
	if errors.Is(err, fs.ErrNotExist) && filepath.Dir(dir) != dir {
		if err = MakeFolder(filepath.Dir(dir), mode); err == nil {
			err = os.Mkdir(dir, mode)
		}
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	there := err != nil
	if info, statErr := os.Stat(dir); there && (statErr != nil || !info.IsDir()) {
		return err
	}
	if err = SyncDir(filepath.Dir(dir)); there && errors.Is(err, fs.ErrPermission) {
		return nil
	}
	return err
}

// SyncFolders makes the names in a folder, and in those below it, survive loss of power:
// those that a process which was killed has given last, and read by this one already.
func SyncFolders(dir string) error {
	return filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) { // removed meanwhile
			return nil
		}
		if err == nil && entry.IsDir() {
			err = SyncDir(path)
		}
		return err
	})
}

// RemoveUnfinished removes what WriteFile has left behind in a folder, and in those below
// it, where it did not end. Nobody may be writing there.
func RemoveUnfinished(dir string) error {
	return filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() && strings.HasSuffix(path, unfinished) {
			err = os.Remove(path) //nolint:gosec // a folder of our own, which nobody else changes
		}
		return err
	})
}
