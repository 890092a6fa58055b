package backup

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"rapport/profilestore/durable"
)

// pieceBytes is the size of all pieces of a file but the last.
const pieceBytes = 4 << 20

// hash is the SHA-256 of a piece; in manifests and names it is hexadecimal.
type hash [sha256.Size]byte

func (h hash) String() string { return hex.EncodeToString(h[:]) }

// MarshalText implements encoding.TextMarshaler.
func (h hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (h *hash) UnmarshalText(b []byte) error {
	x, ok := parseHash(string(b))
	if !ok {
		return fmt.Errorf("%.80q is not a SHA-256", b)
	}
	*h = x
	return nil
}

func parseHash(s string) (h hash, ok bool) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(h) || strings.ToLower(s) != s {
		return h, false
	}
	return hash(b), true
}

func (f *folder) objectPath(h hash) string {
	name := h.String()
	return f.path(objectsFolder, name[:2], name)
}

// has reports whether a piece is stored, by its size: what is in it is for Verify.
func (f *folder) has(h hash, size int64) bool {
	info, err := os.Stat(f.objectPath(h))
	return err == nil && info.Mode().IsRegular() && info.Size() == size
}

// errFull means that the disk of the backups has no more room.
var errFull = errors.New("the disk of the backups is full: earlier backups are as they were; remove some with rapport backup prune, or use another disk")

// put stores a piece durably, but for its name, which syncObjects makes durable. A file in
// its place with another size is damaged, and is replaced.
func (f *folder) put(h hash, b []byte, reserve int64) error {
	var disk syscall.Statfs_t
	if err := syscall.Statfs(f.dir, &disk); err != nil {
		return fmt.Errorf("free space of %s: %w", f.dir, err)
	}
	if free := int64(disk.Bavail) * int64(disk.Bsize); free < reserve+int64(len(b)) { //nolint:unconvert // types differ between systems
		return fmt.Errorf("%s: %w", f.dir, errFull)
	}
	path := f.objectPath(h)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return diskError(err)
	}
	temporary := f.path(tmpFolder, h.String())
	if err := writeFile(temporary, b); err != nil {
		return diskError(err)
	}
	if err := os.Rename(temporary, path); err != nil {
		return errors.Join(diskError(err), os.Remove(temporary))
	}
	return nil
}

func diskError(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w (%w)", errFull, err)
	}
	return fmt.Errorf("folder of backups: %w", err)
}

// writeFile writes a new file durably, but for its name.
func writeFile(name string, b []byte) error {
	file, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(b)
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return errors.Join(err, os.Remove(name))
	}
	return nil
}

// syncObjects makes the names of all pieces durable, also of those that an earlier backup
// has stored and did not get to.
func (f *folder) syncObjects() error {
	entries, err := os.ReadDir(f.path(objectsFolder))
	for _, e := range entries {
		if err == nil && e.IsDir() {
			err = durable.SyncDir(f.path(objectsFolder, e.Name()))
		}
	}
	if err == nil {
		err = durable.SyncDir(f.path(objectsFolder))
	}
	if err != nil {
		return fmt.Errorf("folder of backups: %w", err)
	}
	return nil
}

// get reads a piece and checks it.
func (f *folder) get(h hash, size int64) ([]byte, error) {
	b, err := os.ReadFile(f.objectPath(h))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%w: piece %s is missing", ErrDamaged, h)
	case errors.Is(err, syscall.EIO):
		return nil, fmt.Errorf("%w: piece %s can't be read: %w", ErrDamaged, h, err)
	case err != nil:
		return nil, fmt.Errorf("folder of backups: %w", err)
	case int64(len(b)) != size:
		return nil, fmt.Errorf("%w: piece %s has %d bytes, not %d", ErrDamaged, h, len(b), size)
	case sha256.Sum256(b) != h:
		return nil, fmt.Errorf("%w: piece %s is not as it was stored", ErrDamaged, h)
	}
	return b, nil
}

// objects calls fn for each file among the pieces: its path, and its hash if its name is
// one.
func (f *folder) objects(fn func(path string, h hash, ok bool, size int64) error) error {
	return filepath.WalkDir(f.path(objectsFolder), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		h, ok := parseHash(d.Name())
		return fn(path, h, ok && filepath.Base(filepath.Dir(path)) == d.Name()[:2], info.Size())
	})
}
