package badger

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
)

// Scrub reads all tables that are sealed and compares them with their seal; those that a
// compaction removes meanwhile are passed over. read is called with the bytes of each, and
// may wait. The error is a *DamagedError if one is not what it was. Damage that a compaction
// has read already is in the new table, too: the records in it have checksums of their
// own.
func (e *Engine) Scrub(ctx context.Context, read func(bytes int64)) error {
	e.sealing.Lock()
	files := make([]sealedFile, 0, len(e.sealer.tables))
	for _, f := range e.sealer.tables {
		files = append(files, f)
	}
	e.sealing.Unlock()
	for _, sealed := range files {
		if err := ctx.Err(); err != nil {
			return err
		}
		got, err := sumFile(filepath.Join(e.dir, sealed.Name), -1)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if got != sealed {
			return &DamagedError{File: filepath.Join(e.dir, sealed.Name), Reason: "is not as it was sealed"}
		}
		read(sealed.Bytes)
	}
	return nil
}
