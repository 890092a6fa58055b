package memory

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"sort"

	"rapport/profilestore"
	"rapport/profilestore/durable"
)

// Generations is a [profilestore.GenerationEngine]: generations are in memory
// while they are open. Sealed, each is one file in its folder, since its folder is
// what a snapshot is: it is renamed, compared with what was sealed, and removed by
// others, and loads run in other processes. The zero one is ready for use, and safe
// for concurrent use.
type Generations struct{}

// The file of a generation is
//
//	rows    length of the key, key, length of the row, row; lengths are uvarints
//	end     number of rows, uint64; CRC32-C of all before, uint32; magic
//
// with little-endian numbers. What was not sealed has no end.
const (
	rowsFile = "rows"
	rowsEnd  = 8 + 4 + len(rowsMagic)

	rowsMagic = "RAPPROWS"
)

// maxBytes bounds the rows of a generation: places among them are 32 bits.
const maxBytes = 1<<32 - 1

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// BuildGeneration implements [profilestore.Engine]. The rows are collected in
// memory.
func (Generations) BuildGeneration(dir string) (profilestore.GenerationWriter, error) {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, fmt.Errorf("memory: %w", err)
	}
	return &generationWriter{dir: dir}, nil
}

type generationWriter struct {
	dir    string
	rows   []byte
	n      uint64
	last   []byte
	closed bool
}

// Add implements [profilestore.GenerationWriter].
func (w *generationWriter) Add(key, row []byte) error {
	switch {
	case w.closed:
		return errors.New("memory: the generation is closed")
	case bytes.Compare(key, w.last) <= 0: // an empty key is never after another
		return fmt.Errorf("memory: generation in %s: key %q is not after %q", w.dir, key, w.last)
	case len(key) > profilestore.MaxKey:
		return fmt.Errorf("memory: generation in %s: a key of %d bytes, the limit is %d", w.dir, len(key), profilestore.MaxKey)
	case len(w.rows)+len(key)+len(row) > maxBytes-64:
		return fmt.Errorf("memory: generation in %s: the rows have more than 4 GiB: use the engine badger", w.dir)
	}
	w.last = append(w.last[:0], key...)
	w.rows = append(binary.AppendUvarint(w.rows, uint64(len(key))), key...)
	w.rows = append(binary.AppendUvarint(w.rows, uint64(len(row))), row...)
	w.n++
	return nil
}

// Seal implements [profilestore.GenerationWriter].
func (w *generationWriter) Seal() error {
	if w.closed {
		return errors.New("memory: the generation is closed")
	}
	b := binary.LittleEndian.AppendUint64(w.rows, w.n)
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
	b = append(b, rowsMagic...)
	w.closed, w.rows = true, nil
	if err := writeSynced(w.dir, b); err != nil {
		return fmt.Errorf("memory: generation in %s: %w", w.dir, err)
	}
	return nil
}

// writeSynced writes the file of a generation, durably, for whom the disk is one.
func writeSynced(dir string, b []byte) error {
	f, err := os.OpenFile(filepath.Join(dir, rowsFile), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return durable.SyncDir(dir)
}

// Abort implements [profilestore.GenerationWriter].
func (w *generationWriter) Abort() error {
	w.closed, w.rows = true, nil
	return nil
}

// OpenGeneration implements [profilestore.Engine]. It reads all rows.
func (Generations) OpenGeneration(dir string) (profilestore.Generation, error) {
	b, err := os.ReadFile(filepath.Join(dir, rowsFile))
	if err != nil {
		return nil, fmt.Errorf("memory: %w", err)
	}
	g, err := readGeneration(b)
	if err != nil {
		return nil, fmt.Errorf("memory: generation in %s: %w", dir, err)
	}
	return g, nil
}

// generation is an open generation: its file, and where in it each row begins.
type generation struct {
	rows   []byte
	begins []uint32
}

func readGeneration(b []byte) (*generation, error) {
	end := len(b) - rowsEnd
	if end < 0 || string(b[end+12:]) != rowsMagic {
		return nil, errors.New("it was not sealed")
	}
	if crc32.Checksum(b[:end+8], castagnoli) != binary.LittleEndian.Uint32(b[end+8:]) {
		return nil, errors.New("it is damaged")
	}
	n := binary.LittleEndian.Uint64(b[end:])
	g := &generation{rows: b[:end:end], begins: make([]uint32, 0, n)}
	for rest := g.rows; len(rest) > 0; _, _, rest = cut(rest) {
		g.begins = append(g.begins, uint32(end-len(rest)))
	}
	return g, nil
}

// cut takes the first row off rows.
func cut(rows []byte) (key, row, rest []byte) {
	key, rest = cutBytes(rows)
	row, rest = cutBytes(rest)
	return key, row, rest
}

func cutBytes(b []byte) (part, rest []byte) {
	n, width := binary.Uvarint(b)
	end := width + int(n)
	return b[width:end:end], b[end:]
}

// Get implements [profilestore.Generation].
func (g *generation) Get(key, dst []byte) (row []byte, found bool, err error) {
	i, found := sort.Find(len(g.begins), func(i int) int {
		at, _ := cutBytes(g.rows[g.begins[i]:])
		return bytes.Compare(key, at)
	})
	if !found {
		return dst, false, nil
	}
	_, row, _ = cut(g.rows[g.begins[i]:])
	return append(dst, row...), true, nil
}

// Each implements [profilestore.Generation].
func (g *generation) Each(fn func(key, row []byte) error) error {
	for rest := g.rows; len(rest) > 0; {
		var key, row []byte
		key, row, rest = cut(rest)
		if err := fn(key, row); err != nil {
			return err
		}
	}
	return nil
}

// Close implements [profilestore.Generation].
func (g *generation) Close() error { return nil }
