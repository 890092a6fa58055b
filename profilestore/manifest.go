package profilestore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"rapport/profilestore/durable"
)

// What the folder of a snapshot holds.
const (
	manifestFile = "MANIFEST.json"
	completeFile = "COMPLETE" // the SHA-256 of the manifest
	rowsFolder   = "rows"     // the engine's generation
)

const (
	manifestFormat = 1

	// damageChunk is the stretch of a file that has a checksum of its own.
	damageChunk = 4 << 20
)

// manifest describes a sealed snapshot. It is written once, before the marker
// that makes the snapshot exist.
type manifest struct {
	Format      int       `json:"format"`
	Source      string    `json:"source"`
	Generation  int64     `json:"generation"`
	Schema      string    `json:"schema"`
	AsOf        time.Time `json:"as_of"`
	IngestCut   time.Time `json:"ingest_cut"`
	SealedAt    time.Time `json:"sealed_at"`
	Origin      string    `json:"origin"`
	Rows        int64     `json:"rows"`
	Refused     int64     `json:"refused_rows"`
	ContentHash string    `json:"content_hash"`
	// Nulls is the share of rows that have no value, by field.
	Nulls  map[string]float64 `json:"nulls"`
	Layout json.RawMessage    `json:"layout"`
	Files  []manifestEntry    `json:"files"`
}

// manifestEntry is a file of the engine's generation.
type manifestEntry struct {
	Name   string `json:"name"` // relative to rowsFolder, with slashes
	Bytes  int64  `json:"bytes"`
	Chunks string `json:"crc32c"` // of each damageChunk, 8 hexadecimal digits, one after the other
}

// damaged returns an error that is ErrSnapshotDamaged.
func damaged(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrSnapshotDamaged}, args...)...)
}

// manifest returns the manifest of a source's generation n. The error is
// fs.ErrNotExist if there is no marker: then there is no snapshot; and
// ErrSnapshotDamaged if manifest, marker and folder don't agree.
func (s sourceFolder) manifest(n int64) (*manifest, error) {
	dir := s.generation(n)
	b, err := s.readManifest(n)
	if err != nil {
		return nil, err
	}
	m := new(manifest)
	if err := json.Unmarshal(b, m); err != nil {
		return nil, damaged("%s: %v", filepath.Join(dir, manifestFile), err)
	}
	if m.Format != manifestFormat {
		return nil, fmt.Errorf("%w: %s has format %d, this version of rapport knows %d: load the file again",
			ErrSnapshotUnfit, filepath.Join(dir, manifestFile), m.Format, manifestFormat)
	}
	if m.Source != s.source || m.Generation != n {
		return nil, damaged("%s holds number %d of source %s", dir, m.Generation, m.Source)
	}
	return m, nil
}

// write writes the manifest and then the marker, durably.
func (m *manifest) write(dir string) error {
	b, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	b = append(b, '\n')
	path := filepath.Join(dir, manifestFile)
	if err := errors.Join(durable.WriteFile(path+durable.CopySuffix, b), durable.WriteFile(path, b)); err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(dir, completeFile), markerOf(b))
}

// addFiles makes the files of the engine's generation durable and records their
// checksums.
func (m *manifest) addFiles(ctx context.Context, dir string) error {
	root := filepath.Join(dir, rowsFolder)
	var files []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir():
			return durable.SyncDir(path)
		}
		files = append(files, path)
		return nil
	})
	if err != nil {
		return err
	}
	for _, path := range files {
		entry, err := sealFile(ctx, path)
		if err != nil {
			return err
		}
		if entry.Name, err = filepath.Rel(root, path); err != nil {
			return err
		}
		entry.Name = filepath.ToSlash(entry.Name)
		m.Files = append(m.Files, entry)
	}
	return nil
}

// sealFile makes a file durable and returns its entry, without the name.
func sealFile(ctx context.Context, path string) (entry manifestEntry, err error) {
	f, err := os.Open(path)
	if err != nil {
		return entry, err
	}
	defer f.Close() //nolint:errcheck // only read
	if err := f.Sync(); err != nil {
		return entry, err
	}
	var sums strings.Builder
	for {
		sum, n, err := chunkSum(ctx, f)
		if err != nil {
			return entry, err
		}
		if n == 0 {
			entry.Chunks = sums.String()
			return entry, nil
		}
		entry.Bytes += n
		sums.WriteString(sum)
	}
}

// bytes returns the size of the engine's files.
func (m *manifest) bytes() int64 {
	var n int64
	for _, f := range m.Files {
		n += f.Bytes
	}
	return n
}

// verifyFiles compares the engine's files with what was sealed: all of them with
// all their bytes, or without full only their sizes and last chunks, which is
// where engines keep their indexes. An engine is not asked to open what fails
// here: it may leave rows out without an error (see RATIONALE.md).
func (m *manifest) verifyFiles(ctx context.Context, dir string, full bool) error {
	for _, entry := range m.Files {
		path := filepath.Join(dir, rowsFolder, filepath.FromSlash(entry.Name))
		if err := entry.verify(ctx, path, full); err != nil {
			return err
		}
	}
	return nil
}

func (e *manifestEntry) verify(ctx context.Context, path string, full bool) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return damaged("%s is missing", path)
	}
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // only read
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.Size() != e.Bytes {
		return damaged("%s has %d bytes instead of %d", path, info.Size(), e.Bytes)
	}
	chunks := int((e.Bytes + damageChunk - 1) / damageChunk)
	if len(e.Chunks) != 8*chunks {
		return damaged("%s: %d checksums for %d bytes", path, len(e.Chunks)/8, e.Bytes)
	}
	first := 0
	if !full {
		first = max(0, chunks-1)
	}
	if _, err := f.Seek(int64(first)*damageChunk, io.SeekStart); err != nil {
		return err
	}
	for i := first; i < chunks; i++ {
		sum, n, err := chunkSum(ctx, f)
		if err != nil {
			return err
		}
		if sum != e.Chunks[8*i:8*i+8] {
			return damaged("%s is not as it was sealed, between byte %d and %d", path, int64(i)*damageChunk, int64(i)*damageChunk+n)
		}
	}
	return nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// chunkSum reads the next damageChunk of a file and returns its checksum and how
// many bytes it has, 0 at the end.
func chunkSum(ctx context.Context, r io.Reader) (string, int64, error) {
	if err := ctx.Err(); err != nil {
		return "", 0, err
	}
	h := crc32.New(castagnoli)
	n, err := io.CopyN(h, r, damageChunk)
	if err != nil && !errors.Is(err, io.EOF) {
		return "", 0, err
	}
	return fmt.Sprintf("%08x", h.Sum32()), n, nil
}
