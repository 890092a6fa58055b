package profilestore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

// LoadOptions say what to load. Dir, Schema, Engine, Source, Path and AsOf are
// needed.
type LoadOptions struct {
	Dir    string // DATA/snapshots
	Schema *Schema
	Engine GenerationEngine
	Source string // whose fields the file has
	// Path is a CSV file: UTF-8, with a line of column names first.
	Path string

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
	AllowEmpty bool // take a file without rows
	// Retain is how many snapshots of the source may remain, the new one included:
	// at least 2; 0 for what the schema says of the source. The active one and the one before it always do,
	// and all of them while a backup is under way: the next load removes them.
	Retain int

	// Progress, if not nil, is called now and then with the rows read and what is
	// done of total: a unit is a byte of the file, which are counted twice: when
	// they are read and when their rows are written.
	Progress func(rows, done, total int64)
}

// LoadReport is what came of a load.
type LoadReport struct {
	Snapshot SnapshotInfo
	// Noop is true if the source already had a snapshot of the same content and
	// times. Then Snapshot is that one, and nothing has changed.
	Noop bool

	Rows          int64         // customers in the snapshot
	BadRows       int64         // rows left out
	Problems      []LoadProblem // why: the first 20, by line
	UnusedColumns []string      // columns of the file that no field reads
	Fields        []LoadedField // in the order of the schema
	Removed       []int64       // older snapshots removed to make room
	Took          time.Duration
	RowsPerSecond float64
}

// LoadedField is a field that a load has filled.
type LoadedField struct {
	Name  string
	Nulls int64 // rows without a value
	Bytes int   // a value takes in a row: 0 for a flag, which is a bit, and for a text of its own length
}

// Load builds a snapshot of a source from a file and seals it; it does not make
// it the current one, see Snapshots.Activate. It may run beside a server on the
// same folder, and beside loads of other sources; a second load of the source is
// refused with ErrLoadRunning.
//
// All rows are in memory until they are written, about as large as they will be
// on disk, because only then is known how wide a column has to be. Values are
// trimmed of spaces, and what is then empty is absent.
//
// A file with mistakes gives a *LoadError, and an as-of time or ingest cut before
// what the source's delta records have forgotten gives ErrSnapshotPruned. After any error, and also after the
// death of the process, the snapshots of the source are as they were; what the
// load has left behind is removed by the next one.
func Load(ctx context.Context, o LoadOptions) (*LoadReport, error) {
	begun := time.Now()
	if o.IngestCut == 0 {
		o.IngestCut = o.AsOf
	}
	if o.Retain == 0 {
		o.Retain = o.Schema.Retain(o.Source)
	}
	if err := o.check(); err != nil {
		return nil, err
	}
	file, err := os.Open(o.Path)
	if err != nil {
		return nil, err
	}
	defer file.Close() //nolint:errcheck // only read
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a file", o.Path)
	}
	l := &loader{o: o, folder: sourceFolder{dir: filepath.Join(o.Dir, o.Source), source: o.Source}, size: info.Size()}
	if err := makeFolder(l.folder.dir); err != nil {
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
	if err := checkFreeSpace(l.folder.dir, l.size); err != nil { // with what that has freed
		return nil, fmt.Errorf("load of %s: %w", o.Path, err)
	}
	if err := l.read(ctx, file); err != nil {
		return nil, err
	}
	report, err := l.build(ctx)
	if err != nil {
		return nil, err
	}
	report.BadRows, report.Problems, report.UnusedColumns = l.bad, l.problems.sorted(), l.unused
	report.Took = time.Since(begun)
	report.RowsPerSecond = float64(report.Rows) / report.Took.Seconds()
	return report, nil
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

// checkFreeSpace refuses a load that might fill the disk: the engine's files are
// memory maps, so a full disk is a SIGBUS there.
func checkFreeSpace(dir string, size int64) error {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil {
		return fmt.Errorf("free space of %s: %w", dir, err)
	}
	free := int64(fs.Bavail) * int64(fs.Bsize) //nolint:unconvert // types differ between systems
	if need := 2*size + 16<<20; free < need {
		return fmt.Errorf("%s has %s free, and twice the file, %s, is needed: remove something or use another disk", dir, byteSize(free), byteSize(need))
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
	size     int64
	rows     *loadRows
	fields   []*Field // of the source
	places   []int    // of their columns, in the file's records
	key      int      // the place of the customer
	names    []string
	unused   []string
	problems loadProblems
	total    int64 // rows of the file
	bad      int64 // of them
}

// fail returns the error of one problem with the file.
func (l *loader) fail(line int64, format string, args ...any) error {
	p := LoadProblem{Line: line, Message: fmt.Sprintf(format, args...)}
	return &LoadError{File: l.o.Path, Summary: "nothing was loaded", Problems: []LoadProblem{p}, Count: 1}
}

// checkRows decides if what was read may be loaded.
func (l *loader) checkRows() error {
	if l.bad > 0 && float64(l.bad) > l.o.MaxBadRows*float64(l.total) {
		allowed := ""
		if l.o.MaxBadRows > 0 {
			allowed = fmt.Sprintf(", %.3g%% may be", 100*l.o.MaxBadRows)
		}
		return &LoadError{
			File: l.o.Path, Problems: l.problems.sorted(), Count: l.problems.count,
			Summary: fmt.Sprintf("%d of %d rows are bad%s; nothing was loaded", l.bad, l.total, allowed),
		}
	}
	if len(l.rows.refs) == 0 && !l.o.AllowEmpty {
		return l.fail(0, "there are no rows below the header: every field of source %s would be unknown for everybody; "+
			"if that is meant, allow an empty file", l.o.Source)
	}
	return nil
}

func (l *loader) progress(done int64) {
	if l.o.Progress != nil {
		l.o.Progress(l.total, done, 2*l.size)
	}
}
