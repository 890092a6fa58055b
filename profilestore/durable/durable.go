// Package durable writes small files so that they survive loss of power: whole
// and new, or not at all.
//
// It is a leaf; anything in the module that keeps state in files may import it.
package durable

import (
	"errors"
	"os"
	"path/filepath"
)

// unfinished ends the name of a file that is being written.
const unfinished = ".new"

// WriteFile replaces the file name by content in one step and returns when that
// survives loss of power. Another process sees the old file or the new one, never
// a part. The folder must exist. Two writers of one file must not run at the same
// time.
func WriteFile(name string, content []byte) error {
	temporary := name + unfinished
	f, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(temporary))
	}
	if err := os.Rename(temporary, name); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(name))
}

// SyncDir makes the names in a folder survive loss of power.
func SyncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
