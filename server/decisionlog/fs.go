package decisionlog

import (
	"io"
	"os"

	"rapport/profilestore/durable"
)

// FS is how the log writes; it reads with the os package. Options.FS replaces it in
// tests that fail or delay writes.
type FS interface {
	// Create makes a file that does not exist yet and opens it for appending.
	Create(path string) (File, error)
	Remove(path string) error
	// SyncDir makes what was done to the names in dir durable.
	SyncDir(dir string) error
}

// File is a file open for appending; *os.File is one.
type File interface {
	io.Writer
	io.Closer
	Truncate(size int64) error
	// Sync makes the content and the size of the file durable.
	Sync() error
}

type osFS struct{}

func (osFS) Create(path string) (File, error) {
	return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|os.O_APPEND, 0o600)
}

func (osFS) Remove(path string) error { return os.Remove(path) }
func (osFS) SyncDir(dir string) error { return durable.SyncDir(dir) }
