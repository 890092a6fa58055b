package profilestore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"rapport/profilestore/batchfile"
	"rapport/profilestore/durable"
)

// LoadOptions say what to load. Dir, Schema, Engine, Source, Path or Paths, and AsOf
// are needed.
type LoadOptions struct {
	Dir    string // DATA/snapshots
	Schema *Schema
	Engine GenerationEngine
	Source string // whose fields the file has
	// Path is a file, or a folder of files: CSV with a line of column names first, or
	// NDJSON, both in UTF-8 and perhaps compressed with gzip or zstd; or Parquet. Paths
	// are several of them, in place of Path: one snapshot is made of all.
	Path  string
	Paths []string
	// Format is that of the files, batchfile.Auto for what each of them begins with.
	Format batchfile.Format

	// AsOf and IngestCut say what the batch job saw: the events that happened
	// before AsOf and were logged before IngestCut (AsOf if zero). Both are
	// microseconds since the Unix epoch, at whole cells (see CellWidth).
	AsOf      int64
	IngestCut int64
	// Now, if not zero, is a time that neither may be after: what happens until a
	// later AsOf would count as seen, and be lost.
	Now int64

	// MaxBadRows is the share of rows, from 0 to 1, that may be bad and are then
	// left out. By default one bad row stops the load.
	MaxBadRows float64
	AllowEmpty bool // take files without rows
	// Rejects, if not empty, is a file that gets every bad row with what is wrong with
	// it, one JSON object a line; see [Load].
	Rejects string
	// Memory is about how much memory the load may take, DefaultLoadMemory if zero: 192 MiB
	// to read and write, and the rest for rows; those that don't fit wait in a file for being
	// sorted. A program that has to keep to it also sets Go's memory limit.
	Memory int64
	// SpillDir is where that file is, the source's folder if empty.
	SpillDir string
	// Retain is how many snapshots of the source may remain, the new one included:
	// at least 2; 0 for what the schema says of the source. The active one and the one before it always do,
	// and all of them while a backup is under way: the next load removes them.
	Retain int

	// Progress, if not nil, is called now and then with the rows read and what is
	// done of total: a unit is a byte of the files, which are counted twice: when
	// they are read and when their rows are written.
	Progress func(rows, done, total int64)
}

// DefaultLoadMemory is the memory that a load takes if it is not told otherwise.
const DefaultLoadMemory = 1 << 30

// LoadReport is what came of a load.
type LoadReport struct {
	Snapshot SnapshotInfo
	// Noop is true if the source already had a snapshot of the same content and
	// times. Then Snapshot is that one, and nothing has changed.
	Noop bool

	Files         []LoadedFile
	Rows          int64         // customers in the snapshot
	BadRows       int64         // rows left out
	Problems      []LoadProblem // why: the first 20, by file and line
	UnusedColumns []string      // columns of the files that no field reads
	Fields        []LoadedField // in the order of the schema
	Removed       []int64       // older snapshots removed to make room
	Spilled       int64         // bytes that were written to be sorted
	Took          time.Duration
	RowsPerSecond float64
}

// LoadedFile is a file that was loaded.
type LoadedFile struct {
	Path        string
	Format      batchfile.Format
	Compression string // "gzip", "zstd" or ""
	Bytes       int64
	Rows        int64 // bad ones too
}

// LoadedField is a field that a load has filled.
type LoadedField struct {
	Name  string
	Nulls int64 // rows without a value
	Bytes int   // a value takes in a row: 0 for a flag, which is a bit, and for a text of its own length
}

// Load builds a snapshot of a source from files and seals it; it does not make
// it the current one, see Snapshots.Activate. It may run beside a server on the
// same folder, and beside loads of other sources; a second load of the source is
// refused with ErrLoadRunning.
//
// How wide a column is and which texts have a code is known only when all rows have
// been read. Until then they are in memory, about as large as they will be on disk,
// and beyond the memory that is given, sorted, in a file. The snapshot is the same
// whatever the format, the order of the files and the memory.
//
// Values are trimmed of spaces, and what is then empty is absent.
//
// Files with mistakes give a *LoadError, and an as-of time or ingest cut before
// what the source's delta records have forgotten gives ErrSnapshotPruned. After any error, and also after the
// death of the process, the snapshots of the source are as they were; what the
// load has left behind is removed by the next one. The file of rejects stays.
func Load(ctx context.Context, o LoadOptions) (*LoadReport, error) {
	begun := time.Now()
	if o.IngestCut == 0 {
		o.IngestCut = o.AsOf
	}
	if o.Retain == 0 {
		o.Retain = o.Schema.Retain(o.Source)
	}
	if o.Memory == 0 {
		o.Memory = DefaultLoadMemory
	}
	if len(o.Paths) == 0 {
		o.Paths = []string{o.Path}
	}
	if err := o.check(); err != nil {
		return nil, err
	}
	l := &loader{o: o, folder: sourceFolder{dir: filepath.Join(o.Dir, o.Source), source: o.Source}}
	if err := l.findParts(); err != nil {
		return nil, err
	}
	if err := durable.MakeFolder(l.folder.dir, 0o700); err != nil {
		return nil, err
	}
	unlock, err := l.folder.lockLoad()
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := l.folder.removeLeftovers(); err != nil {
		return nil, err
	}
	h, err := l.folder.readHorizon()
	if err != nil {
		return nil, err
	}
	if err := h.check(o.Source, o.AsOf, o.IngestCut); err != nil {
		return nil, fmt.Errorf("nothing was loaded: %w", err)
	}
	report, err := l.load(ctx)
	if err != nil {
		return nil, err
	}
	for _, p := range l.parts {
		report.Files = append(report.Files, LoadedFile{Path: p.path, Format: p.format, Compression: p.compression, Bytes: p.size, Rows: p.rows})
	}
	report.BadRows, report.Problems, report.UnusedColumns = l.bad, l.problems.list, l.unused
	report.Spilled = l.spill.written()
	report.Took = time.Since(begun)
	report.RowsPerSecond = float64(report.Rows) / report.Took.Seconds()
	return report, nil
}

// load reads the files and builds the snapshot.
func (l *loader) load(ctx context.Context) (report *LoadReport, err error) {
	if l.rejects, err = newRejects(l.o.Rejects, l.parts); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, l.rejects.close()) }()
	l.spill = &spill{dir: cmp.Or(l.o.SpillDir, l.folder.dir), space: newSpace(cmp.Or(l.o.SpillDir, l.folder.dir))}
	defer l.spill.close()
	if err := l.checkParts(); err != nil { // all of them, before an hour of reading
		return nil, err
	}
	if err := l.checkSpace(); err != nil {
		return nil, err
	}
	if err := l.read(ctx); err != nil {
		return nil, err
	}
	return l.build(ctx)
}

// check returns what is wrong with the options.
func (o *LoadOptions) check() error {
	if _, ok := o.Schema.Source(o.Source); !ok {
		return fmt.Errorf("the schema has no source %q, only %s", o.Source, sourceNames(o.Schema))
	}
	if !slices.ContainsFunc(o.Schema.Fields(), func(f Field) bool { return f.Batch == o.Source }) {
		return fmt.Errorf("no field of the schema is fed by source %s", o.Source)
	}
	if o.AsOf == 0 {
		return errors.New("the as-of time is missing: give the time before which the batch job saw everything")
	}
	for _, t := range []struct {
		name string
		time int64
	}{{"as-of time", o.AsOf}, {"ingest cut", o.IngestCut}} {
		if t.time%cellMicros != 0 {
			return fmt.Errorf("the %s %s is not a whole quarter of an hour: counters are kept in cells of %v, so a snapshot "+
				"can only begin where a cell does; use the last quarter before the batch job ran", t.name, micros(t.time).Format(time.RFC3339Nano), CellWidth)
		}
		if o.Now != 0 && t.time > o.Now {
			return fmt.Errorf("the %s %s is in the future: what happens until then would count as seen by the batch job, and be lost",
				t.name, micros(t.time).Format(time.RFC3339))
		}
	}
	if !(o.MaxBadRows >= 0 && o.MaxBadRows <= 1) {
		return fmt.Errorf("a share of %v bad rows: use 0 to 1", o.MaxBadRows)
	}
	if o.Retain < 2 {
		return fmt.Errorf("%d snapshots to retain: a rollback needs at least 2", o.Retain)
	}
	return nil
}

// byteSize writes a number of bytes for people.
func byteSize(n int64) string {
	f, unit := float64(n), "bytes"
	for _, u := range []string{"KB", "MB", "GB", "TB", "PB"} {
		if f < 1000 {
			break
		}
		f, unit = f/1000, u
	}
	if unit == "bytes" {
		return fmt.Sprintf("%d %s", n, unit)
	}
	return fmt.Sprintf("%.1f %s", f, unit)
}

// loader is a load under way.
type loader struct {
	o        LoadOptions
	folder   sourceFolder
	parts    []*loadPart
	size     int64 // of all of them
	name     string
	fields   []*Field           // of the source
	columns  []batchfile.Column // the customer's, and those of the fields
	rows     *loadRows          // what is known of the rows as a whole
	workers  []*readWorker
	spill    *spill
	rejects  *rejects
	unused   []string
	problems loadProblems
	total    int64 // rows of the files
	bad      int64 // of them
	kept     int64 // rows written
}

// fail returns the error of one problem with the files.
func (l *loader) fail(p LoadProblem) error {
	return &LoadError{File: l.name, Summary: "nothing was loaded", Problems: []LoadProblem{p}, Count: 1}
}

// tooMany reports whether more rows are bad than may be.
func (l *loader) tooMany() bool {
	return l.bad > 0 && float64(l.bad) > l.o.MaxBadRows*float64(l.total)
}

// checkRows decides if what was read may be loaded.
func (l *loader) checkRows() error {
	if l.tooMany() {
		allowed := ""
		if l.o.MaxBadRows > 0 {
			allowed = fmt.Sprintf(", %.3g%% may be", 100*l.o.MaxBadRows)
		}
		return &LoadError{
			File: l.name, Problems: l.problems.list, Count: l.problems.count,
			Summary: fmt.Sprintf("%d of %d rows are bad%s; nothing was loaded", l.bad, l.total, allowed),
		}
	}
	if l.total == l.bad && !l.o.AllowEmpty {
		return l.fail(LoadProblem{Message: fmt.Sprintf("there are no rows%s: every field of source %s would be unknown for everybody; "+
			"if that is meant, allow an empty file", l.below(), l.o.Source)})
	}
	return nil
}

// below says where rows were looked for.
func (l *loader) below() string {
	if len(l.parts) == 1 && l.parts[0].format == batchfile.CSV {
		return " below the header"
	}
	return ""
}

func (l *loader) progress(done int64) {
	if l.o.Progress != nil {
		l.o.Progress(l.total, done, 2*l.size)
	}
}
