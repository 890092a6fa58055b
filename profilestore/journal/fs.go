package journal

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// FS is how the journal writes; it reads with the os package. Options.FS replaces it in tests that count or fail writes.
type FS interface {
	// Create makes a file that does not exist yet and opens it for writing.
	Create(path string) (File, error)
	// Open opens a file that exists for writing.
	Open(path string) (File, error)
	// Remove removes a file.
	Remove(path string) error
	// SyncDir makes the creation and removal of files in dir durable.
	SyncDir(dir string) error
}

// File is a file open for writing; *os.File is one. Only one goroutine uses it at a time.
type File interface {
	io.WriterAt
	io.Closer
	Truncate(size int64) error
	// Sync makes the content and the size of the file durable.
	Sync() error
}

type osFS struct{}

func (osFS) Create(path string) (File, error) {
	return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
}

func (osFS) Open(path string) (File, error) {
	return os.OpenFile(path, os.O_WRONLY, 0)
}

func (osFS) Remove(path string) error { return os.Remove(path) }

func (osFS) SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// makeDir makes dir and what is missing above it, durably.
func makeDir(fsys FS, dir string) error {
	err := os.Mkdir(dir, 0o700)
	if errors.Is(err, fs.ErrNotExist) && filepath.Dir(dir) != dir {
		if err = makeDir(fsys, filepath.Dir(dir)); err == nil {
			err = os.Mkdir(dir, 0o700)
		}
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return fsys.SyncDir(filepath.Dir(dir))
}

// writeAll is WriteAt that also refuses a short write without an error.
func writeAll(f File, b []byte, off int64) error {
	n, err := f.WriteAt(b, off)
	if err == nil && n < len(b) {
		err = fmt.Errorf("%d of %d bytes written: %w", n, len(b), io.ErrShortWrite)
	}
	return err
}
