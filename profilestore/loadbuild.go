package profilestore

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"os"
	"path/filepath"
	"slices"
	"time"

	"rapport/profilestore/durable"
)

// verifyEvery is which rows are checked column by column when a snapshot is
// sealed; the others by the hash of their bytes.
const verifyEvery = 256

// build writes the rows as a new snapshot, verifies and seals it.
func (l *loader) build(ctx context.Context) (report *LoadReport, err error) {
	c, err := l.folder.read()
	if err != nil {
		return nil, err
	}
	folders, err := l.folder.folders("")
	if err != nil {
		return nil, err
	}
	number := c.Last + 1
	if len(folders) > 0 {
		number = max(number, folders[0]+1)
	}
	temp := l.folder.generation(number) + tempSuffix
	if err := os.Mkdir(temp, 0o700); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil || report.Noop {
			err = errors.Join(err, os.RemoveAll(temp))
		}
	}()
	layout, err := l.rows.layout()
	if err != nil {
		return nil, err
	}
	encoded, err := json.Marshal(layout)
	if err != nil {
		return nil, err
	}
	written, err := l.write(ctx, filepath.Join(temp, rowsFolder), layout, encoded)
	if err != nil {
		return nil, err
	}
	counts, err := l.verify(ctx, filepath.Join(temp, rowsFolder), layout, encoded, written)
	if err != nil {
		return nil, err
	}
	m := &manifest{
		Format: manifestFormat, Source: l.o.Source, Generation: number, Schema: l.o.Schema.ID(),
		AsOf: micros(l.o.AsOf), IngestCut: micros(l.o.IngestCut), SealedAt: time.Now().UTC().Truncate(time.Microsecond),
		Origin: filepath.Base(l.o.Path), Rows: int64(len(l.rows.refs)), Refused: l.bad, ContentHash: written,
		Nulls: make(map[string]float64, len(counts)), Layout: encoded,
	}
	report = &LoadReport{Rows: m.Rows}
	for i, n := range counts {
		field := layout.Columns[i].Field
		report.Fields = append(report.Fields, LoadedField{Name: field, Nulls: m.Rows - n, Bytes: layout.Columns[i].Width})
		m.Nulls[field] = float64(m.Rows-n) / float64(max(1, m.Rows))
	}
	same, err := l.sealedAlready(ctx, m, c.Active)
	if err != nil {
		return nil, err
	}
	if same != nil {
		report.Snapshot, report.Noop = *same, true
		return report, nil
	}
	if err := m.addFiles(ctx, temp); err != nil {
		return nil, err
	}
	report.Removed, err = l.seal(ctx, m, temp)
	report.Snapshot = m.info(false)
	return report, err
}

// contentHash is the hash of a snapshot's content: its layout and then every key
// and stored row in order, each with its length before it.
type contentHash struct{ h hash.Hash }

func newContentHash(layout []byte) contentHash {
	h := sha256.New()
	h.Write(layout)
	return contentHash{h}
}

func (c contentHash) add(key, stored []byte) {
	var b [8]byte
	binary.LittleEndian.PutUint32(b[:4], uint32(len(key)))
	binary.LittleEndian.PutUint32(b[4:], uint32(len(stored)))
	c.h.Write(b[:])
	c.h.Write(key)
	c.h.Write(stored)
}

func (c contentHash) sum() string { return hex.EncodeToString(c.h.Sum(nil)) }

// write writes the rows and returns the hash of what was written.
func (l *loader) write(ctx context.Context, dir string, layout *rowLayout, encoded []byte) (string, error) {
	w, err := l.o.Engine.BuildGeneration(dir)
	if err != nil {
		return "", err
	}
	hash := newContentHash(encoded)
	var stored []byte
	for i, ref := range l.rows.refs {
		if i%1024 == 0 {
			if err := ctx.Err(); err != nil {
				return "", errors.Join(err, w.Abort())
			}
			l.progress(l.size + int64(float64(l.size)*float64(i)/float64(len(l.rows.refs))))
		}
		key, cells := l.rows.unpack(ref)
		stored = layout.append(stored[:0], cells)
		stored = appendRowChecksum(stored, 0, key)
		hash.add(key, stored)
		if err := w.Add(key, stored); err != nil {
			return "", errors.Join(err, w.Abort())
		}
	}
	if err := w.Seal(); err != nil {
		return "", errors.Join(err, w.Abort())
	}
	return hash.sum(), nil
}

// verify reads back what was written: all rows must be there and be what they
// were. It returns how many have a value, by column.
func (l *loader) verify(ctx context.Context, dir string, layout *rowLayout, encoded []byte, written string) (counts []int64, err error) {
	g, err := l.o.Engine.OpenGeneration(dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, g.Close()) }()
	hash := newContentHash(encoded)
	counts = make([]int64, len(layout.Columns))
	n := 0
	err = g.Each(func(key, stored []byte) error {
		if n++; n%1024 == 0 {
			if err := ctx.Err(); err != nil {
				return err
			}
		}
		row, err := checkStoredRow(layout, key, stored)
		if err == nil && n%verifyEvery == 1 {
			err = layout.verify(row)
		}
		if err != nil {
			return damaged("%s, row %q, as soon as it was written: %v", dir, key, err)
		}
		hash.add(key, stored)
		layout.countPresent(row, counts)
		return nil
	})
	if err != nil {
		return nil, err
	}
	if n != len(l.rows.refs) {
		return nil, damaged("%s: %d rows were written and %d can be read", dir, len(l.rows.refs), n)
	}
	if read := hash.sum(); read != written {
		return nil, damaged("%s: what was written has hash %s, what can be read %s", dir, written, read)
	}
	l.progress(2 * l.size)
	return counts, nil
}

// sealedAlready returns the snapshot of the same content and times, if there is
// one that is undamaged: loading the file again must be a way to repair one that
// is not.
func (l *loader) sealedAlready(ctx context.Context, m *manifest, active int64) (*SnapshotInfo, error) {
	numbers, err := l.folder.sealed()
	if err != nil {
		return nil, err
	}
	for _, n := range numbers {
		old, err := l.folder.manifest(n)
		if err != nil || old.ContentHash != m.ContentHash || !old.AsOf.Equal(m.AsOf) || !old.IngestCut.Equal(m.IngestCut) {
			continue
		}
		switch err := old.verifyFiles(ctx, l.folder.generation(n), true); {
		case errors.Is(err, ErrSnapshotDamaged):
		case err != nil:
			return nil, err
		default:
			info := old.info(n == active)
			return &info, nil
		}
	}
	return nil, nil
}

// seal makes the snapshot exist, and removes those that are too many. An error
// means that it does not exist, except if it comes from the removal.
func (l *loader) seal(ctx context.Context, m *manifest, temp string) (removed []int64, err error) {
	if err := m.write(temp); err != nil {
		return nil, err
	}
	unlock, err := l.folder.lockCurrent(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	// The number is taken before the name, so that it is not used again whatever
	// becomes of the snapshot.
	c, err := l.folder.read()
	if err != nil {
		return nil, err
	}
	c.Last = m.Generation
	if err := l.folder.write(c); err != nil {
		return nil, err
	}
	if err := os.Rename(temp, l.folder.generation(m.Generation)); err != nil {
		return nil, err
	}
	if err := durable.SyncDir(l.folder.dir); err != nil {
		return nil, err
	}
	if removed, err = l.folder.removeOld(c, m.Generation, l.o.Retain); err != nil {
		return nil, fmt.Errorf("snapshot %d of source %s is sealed, but not all that are too old could be removed: %w", m.Generation, m.Source, err)
	}
	return removed, nil
}

// removeOld removes the oldest snapshots until retain remain. It never removes
// the newest, the active one, and the one that a rollback would activate. The
// lock of CURRENT.json is held.
func (s sourceFolder) removeOld(c current, newest int64, retain int) (removed []int64, err error) {
	numbers, err := s.sealed()
	if err != nil {
		return nil, err
	}
	before, _ := c.before(s.exists)
	remain := len(numbers)
	for _, n := range slices.Backward(numbers) {
		if remain <= retain {
			break
		}
		if n == newest || n == c.Active || n == before {
			continue
		}
		// Renamed, it is gone for everybody, and a removal that is interrupted is
		// completed by the next load. Readers keep the files they have open.
		temp := s.generation(n) + tempSuffix
		if err := os.Rename(s.generation(n), temp); err != nil {
			return removed, err
		}
		if err := os.RemoveAll(temp); err != nil {
			return removed, err
		}
		removed = append(removed, n)
		remain--
	}
	if len(removed) == 0 {
		return nil, nil
	}
	return removed, durable.SyncDir(s.dir)
}

// removeLeftovers removes what loads left behind that did not end. The lock of
// loads is held.
func (s sourceFolder) removeLeftovers() error {
	numbers, err := s.folders(tempSuffix)
	for _, n := range numbers {
		err = errors.Join(err, os.RemoveAll(s.generation(n)+tempSuffix))
	}
	if err != nil {
		return fmt.Errorf("what an earlier load left behind can't be removed: %w", err)
	}
	return nil
}
