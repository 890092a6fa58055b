package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"connectrpc.com/connect"

	"rapport/profilestore"
	"rapport/profilestore/badger"
	"rapport/profilestore/batchfile"
	"rapport/server"
	rapportv1 "rapport/server/api/rapport/v1"
)

// loadCmd loads batch files.
type loadCmd struct {
	Files      []string `arg:"" name:"file" help:"The files, or a folder of files: CSV, NDJSON or Parquet."`
	Source     string   `required:"" help:"The source that delivers them, as in the schema." placeholder:"S"`
	AsOf       string   `required:"" help:"The batch job saw everything that happened before this time." placeholder:"T"`
	IngestCut  string   `help:"… and was logged before this one; the same time if not given." placeholder:"T"`
	Format     string   `help:"csv, ndjson or parquet; what each file begins with if not given." default:"auto" placeholder:"F"`
	MaxBadRows string   `help:"The share of rows that may be bad and are then left out." default:"0%" placeholder:"1%"`
	Rejects    string   `help:"Write the bad rows there, each with all that is wrong with it. The file has customers' data." placeholder:"FILE"`
	AllowEmpty bool     `help:"Take files without rows: every field of the source is then unknown for everybody."`
	Memory     string   `help:"About how much memory to take; rows that don't fit wait in a file." default:"1GiB" placeholder:"SIZE"`
	SpillDir   string   `help:"Where that file is; in the data folder if not given." placeholder:"DIR"`
	Retain     int      `help:"How many snapshots of the source may remain, this one included; what the schema says if not given, or 3." placeholder:"N"`
	NoActivate bool     `help:"Only build the snapshot; activate it later with rapport snapshot activate."`
}

// Help is shown by --help.
func (loadCmd) Help() string {
	return `The files become one new snapshot of the source, which replaces all of the source's values at once.
Other sources, and what events have changed since --as-of, stay. --as-of is a whole quarter of an hour.

CSV has a line of column names first. NDJSON is one object a line: numbers, true and false, texts, lists
for sets and for hops, null for what is unknown. Both are in UTF-8, and may be compressed with gzip or
zstd. Parquet columns have types that fit the fields: timestamps in UTC, decimals, lists of strings. Files
of several formats may be mixed, in any order; a customer may be in one of them only. In a folder, names
that begin with . or _ are passed over.

Files with mistakes load nothing; each mistake is named by file, line, field and value. With --rejects the
bad rows are written to a file as well, also if nothing is loaded: one JSON object a line, with file, line,
problems and the record as it was delivered. The file is readable by its owner only, as it has customers'
data: remove it when it has been used.

Before it begins, a load estimates what it needs of the disk. While it reads, rows are in memory, and
beyond --memory in a nameless file that is gone when the load ends, however it ends.

The snapshot is built in the data folder, also beside a running server; then give its URL too, to activate
the snapshot in it.

Examples:

	rapport load --data DATA --source bi --as-of 2026-03-01T02:00:00+08:00 bi.csv
	rapport load --data DATA --server http://127.0.0.1:8080 --source bi --as-of 2026-03-01T00:00:00Z part-*.csv.gz
	rapport load --data DATA --source bi --as-of 2026-03-01T00:00:00Z --max-bad-rows 1% --rejects bad.ndjson bi.ndjson.zst
	rapport load --data DATA --source bi --as-of 2026-03-01T00:00:00Z --memory 4GiB --spill-dir /scratch --no-activate tags.parquet/`
}

// Run builds the snapshot and activates it.
func (cmd *loadCmd) Run(ctx context.Context, a *app) (err error) {
	data, err := a.target.folder("load writes the snapshot into a data folder, also beside a running server")
	if err != nil {
		return err
	}
	o, err := cmd.options(data)
	if err != nil {
		return err
	}
	if err := checkDataFolder(data); err != nil {
		return err
	}
	if o.Schema, err = server.InstalledSchema(data); err != nil {
		return err
	}
	var api *clients
	if !cmd.NoActivate {
		// Before the work, so that a folder that a server has open is found at once.
		if api, err = cmd.activator(ctx, a, data); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, api.close()) }()
	}
	debug.SetMemoryLimit(o.Memory) // to collect garbage before it is more, not to fail then
	report, err := a.buildSnapshot(ctx, o)
	if _, bad := errors.AsType[*profilestore.LoadError](err); bad && cmd.Rejects != "" {
		if _, statErr := os.Stat(cmd.Rejects); statErr == nil {
			return fmt.Errorf("%w\nthe bad rows are in %s", err, cmd.Rejects)
		}
	}
	if err != nil {
		return err
	}
	return cmd.finish(ctx, a, api, report)
}

// options are the load that the flags describe.
func (cmd *loadCmd) options(data string) (profilestore.LoadOptions, error) {
	o := profilestore.LoadOptions{
		Dir: snapshotsOf(data), Source: cmd.Source, Paths: cmd.Files, Now: time.Now().UnixMicro(),
		AllowEmpty: cmd.AllowEmpty, Retain: cmd.Retain, Rejects: cmd.Rejects, SpillDir: cmd.SpillDir,
	}
	var err error
	if o.Format, err = batchfile.ParseFormat(cmd.Format); err != nil {
		return o, usagef("--format: %v", err)
	}
	if o.Memory, err = parseSize(cmd.Memory); err != nil {
		return o, usagef("--memory: %v", err)
	}
	if o.Memory < minLoadMemory {
		return o, usagef("--memory: %s is too little: reading and writing take some %s beside the rows", cmd.Memory, formatBytes(minLoadMemory))
	}
	asOf, err := parseTime(cmd.AsOf)
	if err != nil {
		return o, usagef("--as-of: %v", err)
	}
	o.AsOf = asOf.AsTime().UnixMicro()
	if cmd.IngestCut != "" {
		cut, err := parseTime(cmd.IngestCut)
		if err != nil {
			return o, usagef("--ingest-cut: %v", err)
		}
		o.IngestCut = cut.AsTime().UnixMicro()
	}
	o.MaxBadRows, err = parseShare(cmd.MaxBadRows)
	if err != nil {
		return o, usagef("--max-bad-rows: %v", err)
	}
	return o, nil
}

// minLoadMemory is what a load takes at least.
const minLoadMemory = 128 << 20

// sizeUnits are the units of sizes.
var sizeUnits = []struct {
	name  string
	bytes float64
}{
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12},
}

// parseSize reads a number of bytes with a unit.
func parseSize(text string) (int64, error) {
	for _, unit := range sizeUnits {
		number, ok := strings.CutSuffix(text, unit.name)
		if !ok {
			continue
		}
		if n, err := strconv.ParseFloat(strings.TrimSpace(number), 64); err == nil && n >= 0 && n*unit.bytes < 1<<62 {
			return int64(n * unit.bytes), nil
		}
	}
	return 0, fmt.Errorf("%q is not a size: write it as in 512MiB, 1.5GiB or 2GB", text)
}

// snapshotsOf is where a data folder has its snapshots.
func snapshotsOf(data string) string { return filepath.Join(data, "snapshots") }

// parseShare reads a percentage.
func parseShare(text string) (float64, error) {
	number, ok := strings.CutSuffix(text, "%")
	share, err := strconv.ParseFloat(number, 64)
	if err != nil || !ok && share != 0 || !(share >= 0 && share <= 100) {
		return 0, fmt.Errorf("%q is not a share of the rows: write it as in 1%% or 0.5%%", text)
	}
	return share / 100, nil
}

// activator returns the API through which the snapshot is to be activated: of the
// server that is named, or of the folder opened here.
func (cmd *loadCmd) activator(ctx context.Context, a *app, data string) (*clients, error) {
	c, err := a.activator(ctx, data, "activate the snapshot there")
	if err != nil || a.target.server == "" {
		return c, err
	}
	if _, err := c.snapshots.ListSnapshots(ctx, connect.NewRequest(&rapportv1.ListSnapshotsRequest{Source: cmd.Source})); err != nil {
		return nil, errors.Join(err, c.close())
	}
	return c, nil
}

// buildSnapshot loads files while showing how far it is.
func (a *app) buildSnapshot(ctx context.Context, o profilestore.LoadOptions) (*profilestore.LoadReport, error) {
	o.Engine = badger.Generations(a.logger())
	p := a.rowProgress("loading " + o.Source)
	defer p.end()
	o.Progress = p.at
	return profilestore.Load(ctx, o)
}

// loadResult is what --json prints of a load.
type loadResult struct {
	Source        string           `json:"source"`
	Generation    int64            `json:"generation"`
	Activated     bool             `json:"activated"`
	Noop          bool             `json:"noop"`
	AsOf          string           `json:"asOf"`
	IngestCut     string           `json:"ingestCut"`
	ContentHash   string           `json:"contentHash"`
	Files         []loadedFile     `json:"files"`
	Rows          int64            `json:"rows"`
	BadRows       int64            `json:"badRows"`
	Problems      []string         `json:"problems"` // the first 20
	Rejects       string           `json:"rejects,omitempty"`
	UnusedColumns []string         `json:"unusedColumns"`
	Unknown       map[string]int64 `json:"unknown"` // rows without a value, by field
	Removed       []int64          `json:"removed"`
	Bytes         int64            `json:"bytes"`
	SpilledBytes  int64            `json:"spilledBytes"`
	Seconds       float64          `json:"seconds"`
	RowsPerSecond float64          `json:"rowsPerSecond"`
}

type loadedFile struct {
	Path        string `json:"path"`
	Format      string `json:"format"`
	Compression string `json:"compression,omitempty"`
	Bytes       int64  `json:"bytes"`
	Rows        int64  `json:"rows"`
}

// finish activates the snapshot and says what was done.
func (cmd *loadCmd) finish(ctx context.Context, a *app, api *clients, report *profilestore.LoadReport) error {
	s := report.Snapshot
	if api != nil {
		_, err := api.snapshots.ActivateSnapshot(ctx, connect.NewRequest(&rapportv1.ActivateSnapshotRequest{Source: s.Source, Generation: s.Generation}))
		if err != nil {
			return fmt.Errorf("snapshot %d of source %s is sealed, but not active: try again with `rapport snapshot activate %s %d`: %w", s.Generation, s.Source, s.Source, s.Generation, err)
		}
	}
	if a.json {
		return a.printJSON(cmd.result(report, api != nil))
	}
	for _, p := range report.Problems {
		file := ""
		if p.File == "" {
			file = report.Files[0].Path + ": "
		}
		writef(a.err, "%s\n", printable(file+p.String()))
	}
	if n := report.BadRows - int64(len(report.Problems)); n > 0 {
		writef(a.err, "… and more; --rejects FILE writes all of them\n")
	}
	if len(report.UnusedColumns) > 0 {
		writef(a.err, "columns that no field reads: %s\n", printable(strings.Join(report.UnusedColumns, ", ")))
	}
	for _, f := range report.Fields {
		if f.Nulls > 0 {
			writef(a.err, "%s is blank in %s\n", f.Name, plural(f.Nulls, "row"))
		}
	}
	state := "is active"
	if api == nil {
		state = fmt.Sprintf("is sealed; activate it with `rapport snapshot activate %s %d`", s.Source, s.Generation)
	}
	if report.Noop {
		state += "; it had the same content already"
	}
	bad := ""
	if report.BadRows > 0 {
		bad = fmt.Sprintf(", %s left out", plural(report.BadRows, "bad row"))
		if cmd.Rejects != "" {
			bad += " and written to " + cmd.Rejects
		}
	}
	from := ""
	if n := len(report.Files); n > 1 {
		from = fmt.Sprintf(" from %d files", n)
	}
	_, err := fmt.Fprintf(a.out, "source %s: snapshot %d %s (%s%s%s, %s in %v)\n",
		s.Source, s.Generation, state, plural(report.Rows, "customer"), from, bad, formatBytes(s.Bytes), report.Took.Round(time.Millisecond))
	return err
}

func (cmd *loadCmd) result(report *profilestore.LoadReport, activated bool) loadResult {
	s := report.Snapshot
	r := loadResult{
		Source: s.Source, Generation: s.Generation, Activated: activated, Noop: report.Noop,
		AsOf: rfc3339(s.AsOf), IngestCut: rfc3339(s.IngestCut), ContentHash: s.ContentHash, Files: []loadedFile{},
		Rows: report.Rows, BadRows: report.BadRows, Problems: []string{}, UnusedColumns: append([]string{}, report.UnusedColumns...),
		Unknown: make(map[string]int64), Removed: append([]int64{}, report.Removed...), Bytes: s.Bytes, SpilledBytes: report.Spilled,
		Seconds: report.Took.Seconds(), RowsPerSecond: report.RowsPerSecond,
	}
	if report.BadRows > 0 {
		r.Rejects = cmd.Rejects
	}
	for _, f := range report.Files {
		r.Files = append(r.Files, loadedFile{f.Path, string(f.Format), f.Compression, f.Bytes, f.Rows})
	}
	for _, p := range report.Problems {
		r.Problems = append(r.Problems, p.String())
	}
	for _, f := range report.Fields {
		r.Unknown[f.Name] = f.Nulls
	}
	return r
}

func rfc3339(t int64) string { return time.UnixMicro(t).UTC().Format(time.RFC3339) }
