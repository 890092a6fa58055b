package profilestore

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"math"
	"path/filepath"
	"sync/atomic"
	"time"
)

var (
	// ErrSnapshotNotFound is in the error of a call that names a snapshot or
	// source that does not exist.
	ErrSnapshotNotFound = errors.New("no such snapshot")

	// ErrSnapshotUnfit is in the error of an activation of a snapshot whose fields
	// are not of the schema's types.
	ErrSnapshotUnfit = errors.New("the snapshot does not fit the schema")

	// ErrSnapshotDamaged is in the error of a call that found that a sealed
	// snapshot is not what was sealed.
	ErrSnapshotDamaged = errors.New("the snapshot is damaged")

	// ErrNoEarlierSnapshot is in the error of a rollback where no snapshot was
	// active before, or none of them exists any more.
	ErrNoEarlierSnapshot = errors.New("no earlier snapshot")

	// ErrLoadRunning is in the error of a load of a source that is being loaded.
	ErrLoadRunning = errors.New("a load is running")
)

// GenerationEngine is the part of an [Engine] that keeps generations.
type GenerationEngine interface {
	BuildGeneration(dir string) (GenerationWriter, error)
	OpenGeneration(dir string) (Generation, error)
}

// SnapshotInfo describes a sealed snapshot.
type SnapshotInfo struct {
	Source      string
	Generation  int64 // its number among the source's, from 1, never used twice
	State       SnapshotState
	AsOf        int64 // microseconds since the Unix epoch, UTC, as are all times here
	IngestCut   int64
	SealedAt    int64
	Rows        int64
	Refused     int64  // rows of the file that were bad and left out
	Bytes       int64  // on disk
	ContentHash string // of rows and layout: 16 hexadecimal digits
	Origin      string // the name of the file it was loaded from
	Schema      string // the id of the schema that it was loaded with
	// Nulls is the share of rows without a value, by field.
	Nulls map[string]float64
}

// Values returns how many rows have a value for a field.
func (i *SnapshotInfo) Values(field string) int64 {
	nulls, ok := i.Nulls[field]
	if !ok {
		return 0
	}
	return i.Rows - int64(math.Round(nulls*float64(i.Rows)))
}

// SnapshotState says what a snapshot is used for.
type SnapshotState string

// The states of snapshots.
const (
	SnapshotActive   SnapshotState = "active"
	SnapshotRetained SnapshotState = "retained"
	// SnapshotDamaged is one whose manifest can't be read; only Source and
	// Generation are known of it.
	SnapshotDamaged SnapshotState = "damaged"
)

func (m *manifest) info(active bool) SnapshotInfo {
	state := SnapshotRetained
	if active {
		state = SnapshotActive
	}
	return SnapshotInfo{
		Source: m.Source, Generation: m.Generation, State: state,
		AsOf: m.AsOf.UnixMicro(), IngestCut: m.IngestCut.UnixMicro(), SealedAt: m.SealedAt.UnixMicro(),
		Rows: m.Rows, Refused: m.Refused, Bytes: m.bytes(),
		ContentHash: m.ContentHash, Origin: m.Origin, Schema: m.Schema, Nulls: m.Nulls,
	}
}

// Snapshot is an open, sealed batch load of one source. It is safe for concurrent
// use. Row may be called until the last set that holds the snapshot is released;
// everything else, for good, so rows can be kept with their Snapshot.
type Snapshot struct {
	source     string
	generation int64
	asOf       int64
	ingestCut  int64
	rows       int64
	layout     *rowLayout
	slots      []snapshotSlot
	open       Generation
	refs       atomic.Int64 // sets that hold it
}

// snapshotSlot is what a snapshot has for a field of the schema.
type snapshotSlot struct {
	place *rowPlace // nil if the snapshot has no such column
	blank Value     // for a row that leaves it blank
}

// openSnapshot opens generation n of a source, after verifying its files, all or
// the parts without which it can't be opened.
func openSnapshot(ctx context.Context, folder sourceFolder, n int64, schema *Schema, engine GenerationEngine, full bool) (*Snapshot, *manifest, error) {
	dir := folder.generation(n)
	m, err := folder.manifest(n)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("%w: source %s, number %d", ErrSnapshotNotFound, folder.source, n)
	}
	if err != nil {
		return nil, nil, err
	}
	layout, err := parseRowLayout(m.Layout)
	if err != nil {
		return nil, nil, damaged("%s: %v", dir, err)
	}
	slots, err := fitSnapshot(schema, folder.source, layout)
	if err != nil {
		return nil, nil, err
	}
	if err := m.verifyFiles(ctx, dir, full); err != nil {
		return nil, nil, err
	}
	g, err := engine.OpenGeneration(filepath.Join(dir, rowsFolder))
	if err != nil {
		return nil, nil, damaged("%s: %v", dir, err)
	}
	return &Snapshot{
		source: m.Source, generation: n, rows: m.Rows,
		asOf: m.AsOf.UnixMicro(), ingestCut: m.IngestCut.UnixMicro(),
		layout: layout, slots: slots, open: g,
	}, m, nil
}

// fitSnapshot returns what a layout has for each field of the schema, or
// ErrSnapshotUnfit. A column that no field of the source has any more is passed
// over, and a field that has no column is left without.
func fitSnapshot(schema *Schema, source string, layout *rowLayout) ([]snapshotSlot, error) {
	slots := make([]snapshotSlot, len(schema.Fields()))
	for i := range layout.Columns {
		c := &layout.Columns[i]
		slot, ok := schema.Lookup(c.Field)
		if !ok {
			continue
		}
		f := &schema.Fields()[slot]
		switch {
		case f.Batch != source:
			continue
		case f.Type != c.Type:
			return nil, fmt.Errorf("%w: field %s is a %s in the schema and a %s in the snapshot: load the source again", ErrSnapshotUnfit, f.Name, f.Type, c.Type)
		case f.Bucket != c.Bucket || f.Window > c.Window:
			return nil, fmt.Errorf("%w: counter %s has a window of %s in buckets of %s in the schema, and of %s in buckets of %s in the snapshot: load the source again",
				ErrSnapshotUnfit, f.Name, FormatSpan(f.Window), FormatSpan(f.Bucket), FormatSpan(c.Window), FormatSpan(c.Bucket))
		case f.Type == TypeCounter && (f.Decimals < c.Decimals || f.Bucket > 0 && f.Decimals != c.Decimals):
			return nil, fmt.Errorf("%w: counter %s has %d decimals in the schema and %d in the snapshot: load the source again", ErrSnapshotUnfit, f.Name, f.Decimals, c.Decimals)
		}
		slots[slot].place = &layout.places[i]
		if f.Type == TypeFlag {
			slots[slot].blank = Flag(f.Default)
		}
	}
	return slots, nil
}

// Source returns the id of the source.
func (s *Snapshot) Source() string { return s.source }

// Generation returns the snapshot's number among those of its source.
func (s *Snapshot) Generation() int64 { return s.generation }

// AsOf returns the time before which the batch job saw what happened,
// microseconds since the Unix epoch.
func (s *Snapshot) AsOf() int64 { return s.asOf }

// IngestCut returns the time before which what the batch job saw was logged,
// microseconds since the Unix epoch.
func (s *Snapshot) IngestCut() int64 { return s.ingestCut }

// Rows returns how many customers the snapshot has.
func (s *Snapshot) Rows() int64 { return s.rows }

// Row appends a customer's row to dst: a copy, which the snapshot's other methods
// read. The key is an identity in canonical form. It reports false, and returns
// dst as it was, if the source has no row for the customer; and
// ErrSnapshotDamaged if the row is not the one that was sealed.
func (s *Snapshot) Row(key, dst []byte) (row []byte, found bool, err error) {
	stored, found, err := s.open.Get(key, dst)
	if err != nil || !found {
		return dst, false, err
	}
	row, err = checkStoredRow(s.layout, key, stored[len(dst):])
	if err != nil {
		return dst, false, fmt.Errorf("%w: generation %d of source %s: %v", ErrSnapshotDamaged, s.generation, s.source, err) //nolint:errorlint // what is wrong with a row is no error of its own
	}
	return stored[:len(dst)+len(row)], true, nil
}

// Covers reports whether the snapshot has a column for the field at a slot.
func (s *Snapshot) Covers(slot int) bool {
	return uint(slot) < uint(len(s.slots)) && s.slots[slot].place != nil
}

// Value reads the field at a slot of the schema that the snapshots were opened
// with. It is unknown if the row leaves it blank, except that a flag has the
// schema's default then; if the snapshot has no column for it; and if row is not
// a row of this snapshot. A set and the hops of a windowed counter come as the texts
// that rows hold.
//
// The row must not be changed afterwards: the text of a value may be a view of
// it, and then keeps it in memory. Value does not allocate.
func (s *Snapshot) Value(row []byte, slot int) Value {
	if !s.Covers(slot) || !s.layout.has(row) {
		return Value{}
	}
	f := &s.slots[slot]
	if !f.place.present(row) {
		return f.blank
	}
	return s.layout.read(row, f.place)
}

// Present reports whether the row itself holds a value for the field at a slot.
func (s *Snapshot) Present(row []byte, slot int) bool {
	return s.Covers(slot) && s.layout.has(row) && s.slots[slot].place.present(row)
}

// rowChecksum is the bytes after a row, as engines store it: the CRC-32C of key
// and row. A block of an engine that went bad is noticed by it, and also a row
// that is found under another key.
const rowChecksum = 4

// appendRowChecksum appends to stored the checksum of the row that begins at
// begin.
func appendRowChecksum(stored []byte, begin int, key []byte) []byte {
	sum := crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, stored[begin:])
	return binary.LittleEndian.AppendUint32(stored, sum)
}

// checkStoredRow returns the row in what an engine stores for a key.
func checkStoredRow(l *rowLayout, key, stored []byte) ([]byte, error) {
	n := len(stored) - rowChecksum
	if n < 0 {
		return nil, errors.New("the row is too short")
	}
	sum := crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, stored[:n])
	if sum != binary.LittleEndian.Uint32(stored[n:]) {
		return nil, errors.New("the row's checksum is wrong")
	}
	if !l.has(stored[:n]) {
		return nil, errRowLayout
	}
	return stored[:n], nil
}

// micros returns the time of microseconds since the Unix epoch.
func micros(n int64) time.Time { return time.UnixMicro(n).UTC() }
