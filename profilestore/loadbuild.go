package profilestore

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/cespare/xxhash/v2"

	"rapport/profilestore/backuplock"
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
	// Now it is known.
	if err := l.checkNeed(need{rows: l.rows.count, generation: l.rows.encodedBytes(layout)}); err != nil {
		return nil, err
	}
	encoded, err := json.Marshal(layout)
	if err != nil {
		return nil, err
	}
	hash := newContentHash(encoded)
	if err := l.write(ctx, filepath.Join(temp, rowsFolder), hash); err != nil {
		return nil, err
	}
	if err := l.rejects.close(); err != nil {
		return nil, err
	}
	if err := l.verify(ctx, filepath.Join(temp, rowsFolder), layout, newContentHash(encoded), hash); err != nil {
		return nil, err
	}
	m := &manifest{
		Format: manifestFormat, Source: l.o.Source, Generation: number, Schema: l.o.Schema.ID(),
		AsOf: micros(l.o.AsOf), IngestCut: micros(l.o.IngestCut), SealedAt: time.Now().UTC().Truncate(time.Microsecond),
		Origin: l.origin(), Rows: l.kept, Refused: l.bad, ContentHash: hash.sum(),
		Nulls: make(map[string]float64, len(layout.Columns)), Layout: encoded,
	}
	report = &LoadReport{Rows: m.Rows}
	for i := range layout.Columns {
		c := &layout.Columns[i]
		nulls := m.Rows - l.rows.stats[i].present
		report.Fields = append(report.Fields, LoadedField{Name: c.Field, Nulls: nulls, Bytes: c.Width})
		m.Nulls[c.Field] = float64(nulls) / float64(max(1, m.Rows))
	}
	same, err := l.sealedAlready(ctx, m, c.Active)
	if err != nil {
		return nil, err
	}
	stats := l.rows.encoder.stats.finish(layout)
	if same != nil {
		if err := l.addStats(stats, same); err != nil {
			return nil, err
		}
		report.Snapshot, report.Noop = *same, true
		return report, nil
	}
	if err := m.addFiles(ctx, temp); err != nil {
		return nil, err
	}
	if err := stats.write(temp, m.ContentHash); err != nil {
		return nil, err
	}
	report.Removed, err = l.seal(ctx, m, temp)
	report.Snapshot = m.info(false)
	return report, err
}

// origin returns what the snapshot was made from, as a person would name it.
func (l *loader) origin() string {
	if len(l.o.Paths) == 1 {
		return filepath.Base(l.o.Paths[0])
	}
	return fmt.Sprintf("%s and %d more", filepath.Base(l.o.Paths[0]), len(l.o.Paths)-1)
}

// contentHash is the hash of a snapshot's content: its layout and then every key
// and stored row in order, each with its length before it. It is XXH64: it has to
// tell contents apart, not to withstand a forger, and SHA-256 would be a tenth of
// a load's build.
type contentHash struct {
	digest *xxhash.Digest
	rows   int64
}

func newContentHash(layout []byte) *contentHash {
	c := &contentHash{digest: xxhash.New()}
	c.write(layout)
	return c
}

func (c *contentHash) add(key, stored []byte) {
	var lengths [8]byte
	binary.LittleEndian.PutUint32(lengths[:4], uint32(len(key)))
	binary.LittleEndian.PutUint32(lengths[4:], uint32(len(stored)))
	c.write(lengths[:])
	c.write(key)
	c.write(stored)
	c.rows++
}

func (c *contentHash) write(b []byte) { _, _ = c.digest.Write(b) } // never fails

func (c *contentHash) sum() string { return fmt.Sprintf("%016x", c.digest.Sum64()) }

// mergeBatch is a stretch of customers in order, on its way to be encoded.
type mergeBatch struct {
	rows []mergedRow
	data []byte // of rows that were in a run
}

type mergedRow struct {
	key, packed []byte
	owner       int
}

// writeBatch is a stretch of rows on its way to the engine.
type writeBatch struct {
	data []byte // key, stored row, key, stored row …
	ends []int  // of each of them
}

const (
	batchRows = 512
	// batchCopies bounds the rows of runs in a batch.
	batchCopies = 1 << 20
)

// add adds the row that a cursor is at.
func (b *mergeBatch) add(c *loadCursor) {
	row := mergedRow{c.key, c.packed, c.owner}
	if c.rows == nil {
		begin := len(b.data)
		b.data = append(b.data, c.key...)
		middle := len(b.data)
		b.data = append(b.data, c.packed...)
		row.key, row.packed = b.data[begin:middle:middle], b.data[middle:len(b.data):len(b.data)]
	}
	b.rows = append(b.rows, row)
}

func (b *mergeBatch) full() bool { return len(b.rows) == batchRows || len(b.data) >= batchCopies }

// write merges the rows, encodes them, and gives them to the engine, and adds them to
// hash: each of these is a goroutine. Only now rows are found whose customer has one
// already. If more rows are bad than may be, nothing is written any more, but the rest
// of the rows is still looked at, to name all of them.
func (l *loader) write(ctx context.Context, dir string, hash *contentHash) error {
	m, err := l.merge(ctx)
	if err != nil {
		return err
	}
	w, err := l.o.Engine.BuildGeneration(dir)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	merged, used := make(chan *mergeBatch, 2), make(chan *mergeBatch, 4)
	ready, empty := make(chan *writeBatch, 2), make(chan *writeBatch, 4)
	for range cap(used) {
		used <- new(mergeBatch)
		empty <- new(writeBatch)
	}
	var others sync.WaitGroup
	var mergeErr error
	others.Go(func() {
		mergeErr = l.mergeInto(ctx, &customers{l: l, m: m}, merged, used)
	})
	others.Go(func() {
		defer close(ready)
		for in := range merged {
			b := <-empty
			b.encode(l.rows, in.rows, hash)
			used <- in
			ready <- b
		}
	})
	space := newSpace(dir)
	for b := range ready {
		if err == nil {
			if err = space.watch(int64(len(b.data))); err == nil {
				err = b.write(w)
			}
			if err != nil {
				cancel(err)
			}
			l.kept += int64(len(b.ends) / 2)
			l.progress(l.size + int64(float64(l.size)*float64(l.kept)/float64(l.rows.count+1)))
		}
		empty <- b
	}
	others.Wait()
	if err == nil {
		err = mergeErr
	}
	if err == nil {
		err = l.checkRows()
	}
	if err == nil {
		err = w.Seal()
	}
	if err != nil {
		return errors.Join(err, w.Abort())
	}
	return nil
}

// mergeInto sends the customers in batches.
func (l *loader) mergeInto(ctx context.Context, c *customers, merged chan<- *mergeBatch, used <-chan *mergeBatch) error {
	defer close(merged)
	for {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		b := <-used
		b.rows, b.data = b.rows[:0], b.data[:0]
		for !b.full() {
			row, err := c.next()
			if errors.Is(err, io.EOF) {
				if len(b.rows) > 0 {
					merged <- b
				}
				return nil
			}
			if err != nil {
				return err
			}
			b.add(row)
		}
		if l.tooMany() {
			return l.drain(ctx, c)
		}
		merged <- b
	}
}

func (b *writeBatch) encode(rows *loadRows, in []mergedRow, hash *contentHash) {
	b.data, b.ends = b.data[:0], b.ends[:0]
	for i := range in {
		row := &in[i]
		b.data = append(b.data, row.key...)
		begin := len(b.data)
		b.data = appendRowChecksum(rows.encoder.append(b.data, row.key, row.packed, row.owner), begin, row.key)
		hash.add(row.key, b.data[begin:])
		b.ends = append(b.ends, begin, len(b.data))
	}
}

func (b *writeBatch) write(w GenerationWriter) error {
	begin := 0
	for i := 0; i < len(b.ends); i += 2 {
		if err := w.Add(b.data[begin:b.ends[i]], b.data[b.ends[i]:b.ends[i+1]]); err != nil {
			return err
		}
		begin = b.ends[i+1]
	}
	return nil
}

// verify reads back what was written: all rows must be there and be what they
// were, and have as many values as the file.
func (l *loader) verify(ctx context.Context, dir string, layout *rowLayout, read, written *contentHash) (err error) {
	g, err := l.o.Engine.OpenGeneration(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, g.Close()) }()
	var values int64
	err = g.Each(func(key, stored []byte) error {
		if read.rows%1024 == 0 {
			if err := ctx.Err(); err != nil {
				return err
			}
		}
		row, err := checkStoredRow(layout, key, stored)
		if err == nil && read.rows%verifyEvery == 0 {
			err = layout.verify(row)
		}
		if err != nil {
			return damaged("%s, row %q, as soon as it was written: %v", dir, key, err)
		}
		read.add(key, stored)
		values += layout.countPresent(row)
		return nil
	})
	if err != nil {
		return err
	}
	if rows := l.kept; read.rows != rows || values != l.rows.values() || read.sum() != written.sum() {
		return damaged("%s: %d rows with %d values were in the file, and %d with %d, or others, were written",
			dir, rows, l.rows.values(), read.rows, values)
	}
	l.progress(2 * l.size)
	return nil
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

// addStats gives a snapshot of the same content its distributions, if it has none.
func (l *loader) addStats(stats *SnapshotStats, to *SnapshotInfo) error {
	m, err := l.folder.manifest(to.Generation)
	if err != nil {
		return err
	}
	dir := l.folder.generation(to.Generation)
	if _, err := m.readStats(dir); !errors.Is(err, ErrNoFieldStats) {
		return err
	}
	return stats.write(dir, m.ContentHash)
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

// removeOld removes the oldest snapshots until retain remain, or none while a backup
// copies them: the next load does it then. It never removes
// the newest, the active one, and the one that a rollback would activate. The
// lock of CURRENT.json is held.
func (s sourceFolder) removeOld(c current, newest int64, retain int) (removed []int64, err error) {
	numbers, err := s.sealed()
	if err != nil {
		return nil, err
	}
	before, _ := c.before(s.exists)
	var old []int64
	for _, n := range slices.Backward(numbers) {
		if len(numbers)-len(old) > retain && n != newest && n != c.Active && n != before {
			old = append(old, n)
		}
	}
	if len(old) == 0 {
		return nil, nil
	}
	release, err := backuplock.Removal(s.data())
	if release == nil || err != nil {
		return nil, err
	}
	defer release()
	for _, n := range old {
		if err := s.remove(n); err != nil {
			return removed, err
		}
		removed = append(removed, n)
	}
	return removed, nil
}

// removeLeftovers removes what loads left behind that did not end. The lock of
// loads is held.
func (s sourceFolder) removeLeftovers() error {
	numbers, err := s.folders(tempSuffix)
	for _, n := range numbers {
		err = errors.Join(err, os.RemoveAll(s.generation(n)+tempSuffix))
	}
	spills, _ := filepath.Glob(filepath.Join(s.dir, spillPrefix+"*")) // that were not yet nameless
	for _, path := range spills {
		err = errors.Join(err, os.Remove(path))
	}
	if err != nil {
		return fmt.Errorf("what an earlier load left behind can't be removed: %w", err)
	}
	return nil
}
