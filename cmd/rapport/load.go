package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"connectrpc.com/connect"

	"rapport/profilestore"
	"rapport/profilestore/badger"
	"rapport/server"
	rapportv1 "rapport/server/api/rapport/v1"
)

// loadCmd loads a batch file.
type loadCmd struct {
	File       string `arg:"" help:"The file: CSV with a header line, in UTF-8."`
	Source     string `required:"" help:"The source that delivers it, as in the schema." placeholder:"S"`
	AsOf       string `required:"" help:"The batch job saw everything that happened before this time." placeholder:"T"`
	IngestCut  string `help:"… and was logged before this one; the same time if not given." placeholder:"T"`
	MaxBadRows string `help:"The share of rows that may be bad and are then left out." default:"0%" placeholder:"1%"`
	AllowEmpty bool   `help:"Take a file without rows: every field of the source is then unknown for everybody."`
	Retain     int    `help:"How many snapshots of the source may remain, this one included; what the schema says if not given, or 3." placeholder:"N"`
	NoActivate bool   `help:"Only build the snapshot; activate it later with rapport snapshot activate."`
}

// Help is shown by --help.
func (loadCmd) Help() string {
	return `The file becomes a new snapshot of the source, which replaces all of the source's values at once.
Other sources, and what events have changed since --as-of, stay. --as-of is a whole quarter of an hour. A
file with mistakes loads nothing; each mistake is named by line, field and value.

The snapshot is built in the data folder, also beside a running server; then give its URL too, to activate
the snapshot in it.

Examples:

	rapport load --data DATA --source bi --as-of 2026-03-01T02:00:00+08:00 bi.csv
	rapport load --data DATA --server http://127.0.0.1:8080 --source bi --as-of 2026-03-01T00:00:00Z bi.csv
	rapport load --data DATA --source bi --as-of 2026-03-01T00:00:00Z --max-bad-rows 1% --no-activate bi.csv`
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
	report, err := a.buildSnapshot(ctx, o)
	if err != nil {
		return err
	}
	return cmd.finish(ctx, a, api, report)
}

// options are the load that the flags describe.
func (cmd *loadCmd) options(data string) (profilestore.LoadOptions, error) {
	o := profilestore.LoadOptions{
		Dir: snapshotsOf(data), Source: cmd.Source, Path: cmd.File, Now: time.Now().UnixMicro(),
		AllowEmpty: cmd.AllowEmpty, Retain: cmd.Retain,
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

// buildSnapshot loads a file while showing how far it is.
func (a *app) buildSnapshot(ctx context.Context, o profilestore.LoadOptions) (*profilestore.LoadReport, error) {
	o.Engine = badger.Generations(a.logger())
	var bar progress
	defer func() { bar.end() }()
	o.Progress = func(_, done, total int64) {
		if bar.bar == nil {
			bar = a.progress("loading "+o.Source, total)
		}
		bar.at(done)
	}
	return profilestore.Load(ctx, o)
}

// loadResult is what --json prints of a load.
type loadResult struct {
	Source        string           `json:"source"`
	Generation    int64            `json:"generation"`
	Activated     bool             `json:"activated"`
	Noop          bool             `json:"noop"`
	Rows          int64            `json:"rows"`
	BadRows       int64            `json:"badRows"`
	Problems      []string         `json:"problems"`
	UnusedColumns []string         `json:"unusedColumns"`
	Unknown       map[string]int64 `json:"unknown"` // rows without a value, by field
	Removed       []int64          `json:"removed"`
	Bytes         int64            `json:"bytes"`
	Seconds       float64          `json:"seconds"`
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
		return a.printJSON(newLoadResult(report, api != nil))
	}
	for _, p := range report.Problems {
		writef(a.err, "%s\n", printable(cmd.File+": "+p.String()))
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
	}
	_, err := fmt.Fprintf(a.out, "source %s: snapshot %d %s (%s%s, %s in %v)\n",
		s.Source, s.Generation, state, plural(report.Rows, "customer"), bad, formatBytes(s.Bytes), report.Took.Round(time.Millisecond))
	return err
}

func newLoadResult(report *profilestore.LoadReport, activated bool) loadResult {
	s := report.Snapshot
	r := loadResult{
		Source: s.Source, Generation: s.Generation, Activated: activated, Noop: report.Noop,
		Rows: report.Rows, BadRows: report.BadRows, Problems: []string{}, UnusedColumns: append([]string{}, report.UnusedColumns...),
		Unknown: make(map[string]int64), Removed: append([]int64{}, report.Removed...), Bytes: s.Bytes, Seconds: report.Took.Seconds(),
	}
	for _, p := range report.Problems {
		r.Problems = append(r.Problems, p.String())
	}
	for _, f := range report.Fields {
		r.Unknown[f.Name] = f.Nulls
	}
	return r
}
