package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"connectrpc.com/connect"

	"rapport/profilestore/reftable"
	"rapport/server"
	rapportv1 "rapport/server/api/rapport/v1"
)

// tableCmd manages reference tables.
type tableCmd struct {
	Load     tableLoadCmd     `cmd:"" help:"Load a reference table from a file."`
	List     tableListCmd     `cmd:"" help:"List the versions of each reference table."`
	Activate tableActivateCmd `cmd:"" help:"Put a version of a table in force."`
	Rollback tableRollbackCmd `cmd:"" help:"Put back the version that was in force before."`
}

// Help is shown by --help.
func (tableCmd) Help() string {
	return `A reference table is facts from outside, a text for each key: the area of a cell, the kind of a phone
number. The schema declares it, and event rules call it by its name, as in area(event.cell) == "broker".
An event counts by the version in force when it was first logged, also when it is replayed later.`
}

type tableLoadCmd struct {
	Table      string `arg:"" help:"The table, as in the schema."`
	File       string `arg:"" help:"The file: CSV with a header line, in UTF-8."`
	Key        string `help:"The column with the keys; not needed if the file has two columns, the key first." placeholder:"COLUMN"`
	Value      string `help:"The column with the values." placeholder:"COLUMN"`
	AllowEmpty bool   `help:"Take a file without rows: every lookup then gives an empty text."`
	NoActivate bool   `help:"Only make the version; put it in force later with rapport table activate."`
}

// Help is shown by --help.
func (tableLoadCmd) Help() string {
	return `The file becomes the next version of the table and is put in force. A file with mistakes (a key twice,
an empty value, what is not UTF-8) loads nothing; each is named by file and line. The same content as that
of an earlier version makes no new one. Spaces around keys and values do not count.

The version is made in the data folder, also beside a running server; then give its URL too, to put the
version in force there. Events that are in the journal already are not looked up again. With --no-activate
the schema need not declare the table yet: what is loaded when it first does is what the table began
with, and counts for earlier events when a new field is derived from them.

Examples:

	rapport table load --data DATA area cells.csv
	rapport table load --data DATA --server http://127.0.0.1:8080 area network.csv --key cell --value area
	rapport table load --data DATA --no-activate area cells.csv`
}

// Run makes the version and puts it in force.
func (cmd *tableLoadCmd) Run(ctx context.Context, a *app) (err error) {
	data, err := a.target.folder("table load writes into a data folder, also beside a running server")
	if err != nil {
		return err
	}
	if err := checkDataFolder(data); err != nil {
		return err
	}
	var api *clients
	if !cmd.NoActivate {
		// Before the work, so that a folder that a server has open, and a table that is
		// not declared, are found at once.
		if api, err = cmd.activator(ctx, a, data); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, api.close()) }()
	}
	report, err := reftable.Load(ctx, reftable.LoadOptions{
		Dir: filepath.Join(data, "tables"), Table: cmd.Table, Path: cmd.File, Key: cmd.Key, Value: cmd.Value,
		AllowEmpty: cmd.AllowEmpty, Now: time.Now(),
	})
	if err != nil {
		return err
	}
	return cmd.finish(ctx, a, api, report)
}

// activator returns the API through which the version is put in force: of the
// server that is named, or of the folder opened here.
func (cmd *tableLoadCmd) activator(ctx context.Context, a *app, data string) (*clients, error) {
	c, err := a.activator(ctx, data, "put the version in force there")
	if err != nil {
		return nil, err
	}
	listed, err := c.tables.ListTables(ctx, connect.NewRequest(&rapportv1.ListTablesRequest{}))
	if err == nil && !slices.Contains(listed.Msg.GetTables(), cmd.Table) {
		err = fmt.Errorf("the schema declares no table %s: add it under tables (`rapport schema apply`), or load it with --no-activate before you do", cmd.Table)
	}
	if err != nil {
		return nil, errors.Join(err, c.close())
	}
	return c, nil
}

// activator returns the API of the server that is named, or of the folder opened
// here, to put something to use that a command has written into the folder.
func (a *app) activator(ctx context.Context, data, purpose string) (*clients, error) {
	if a.target.server == "" {
		c, err := a.open(ctx, data)
		var locked *server.LockedError
		if errors.As(err, &locked) && locked.URL != "" {
			return nil, fmt.Errorf("%s is open in a server (process %d): give --server %s too, to %s, or --no-activate", data, locked.PID, locked.URL, purpose)
		}
		return c, err
	}
	url, err := parseServerURL(a.target.server, a.target.serverFrom)
	if err != nil {
		return nil, err
	}
	return dial(url), nil
}

// tableLoadResult is what --json prints of a load.
type tableLoadResult struct {
	Table       string  `json:"table"`
	Version     int64   `json:"version"`
	Activated   bool    `json:"activated"`
	Noop        bool    `json:"noop"`
	Repaired    bool    `json:"repaired"`
	Rows        int64   `json:"rows"`
	Values      int64   `json:"values"`
	Bytes       int64   `json:"bytes"`
	ContentHash string  `json:"contentHash"`
	Seconds     float64 `json:"seconds"`
}

// finish puts the version in force and says what was done.
func (cmd *tableLoadCmd) finish(ctx context.Context, a *app, api *clients, report *reftable.LoadReport) error {
	i := report.Info
	if api != nil {
		_, err := api.tables.ActivateTable(ctx, connect.NewRequest(&rapportv1.ActivateTableRequest{Table: i.Table, Version: i.Version}))
		if err != nil {
			return fmt.Errorf("version %d of table %s is made, but not in force: try again with `rapport table activate %s %d`: %w", i.Version, i.Table, i.Table, i.Version, err)
		}
	}
	if a.json {
		return a.printJSON(tableLoadResult{
			Table: i.Table, Version: i.Version, Activated: api != nil, Noop: report.Noop, Repaired: report.Repaired,
			Rows: i.Rows, Values: i.Values, Bytes: i.Bytes, ContentHash: i.ContentHash, Seconds: report.Took.Seconds(),
		})
	}
	state := "is in force"
	if api == nil {
		state = fmt.Sprintf("is made; put it in force with `rapport table activate %s %d`", i.Table, i.Version)
	}
	switch {
	case report.Noop:
		state += "; it had the same content already"
	case report.Repaired:
		state += "; its file was damaged and is repaired"
	}
	_, err := fmt.Fprintf(a.out, "table %s: version %d %s (%s, %s, %s in %v)\n", i.Table, i.Version, state,
		plural(i.Rows, "row"), plural(i.Values, "value"), formatBytes(i.Bytes), report.Took.Round(time.Millisecond))
	return err
}

type tableListCmd struct {
	Table string `arg:"" optional:"" help:"Only versions of this table."`
}

// Help is shown by --help.
func (tableListCmd) Help() string {
	return `Examples:

	rapport table list
	rapport table list area --json`
}

// Run lists the versions.
func (cmd *tableListCmd) Run(ctx context.Context, a *app) error {
	return a.call(ctx, func(c *clients) error {
		r, err := c.tables.ListTables(ctx, connect.NewRequest(&rapportv1.ListTablesRequest{Table: cmd.Table}))
		if err != nil {
			return err
		}
		if a.json {
			return a.printMessage(r.Msg)
		}
		if len(r.Msg.GetTables()) == 0 {
			writef(a.err, "the schema declares no reference tables\n")
			return nil
		}
		loaded := make(map[string]bool)
		t := newTable("TABLE", ">VERSION", "STATE", ">ROWS", ">VALUES", ">SIZE", "LOADED AT", "FROM")
		for _, v := range r.Msg.GetVersions() {
			loaded[v.GetTable()] = true
			t.add(v.GetTable(), v.GetVersion(), v.GetState(), v.GetRows(), v.GetValues(), formatBytes(v.GetBytes()), formatTime(v.GetLoadedAt()), v.GetOrigin())
		}
		for _, name := range r.Msg.GetTables() {
			if !loaded[name] && (cmd.Table == "" || cmd.Table == name) {
				writef(a.err, "of table %s nothing is loaded: use `rapport table load %s FILE`\n", name, name)
			}
		}
		if len(loaded) == 0 {
			return nil
		}
		return t.write(a.out)
	})
}

type tableActivateCmd struct {
	Table   string `arg:"" help:"The table."`
	Version int64  `arg:"" help:"The number of the version, as listed."`
}

// Help is shown by --help.
func (tableActivateCmd) Help() string {
	return `Examples:

	rapport table activate area 3`
}

// Run puts a version in force.
func (cmd *tableActivateCmd) Run(ctx context.Context, a *app) error {
	return a.call(ctx, func(c *clients) error {
		r, err := c.tables.ActivateTable(ctx, connect.NewRequest(&rapportv1.ActivateTableRequest{Table: cmd.Table, Version: cmd.Version}))
		if err != nil {
			return err
		}
		if a.json {
			return a.printMessage(r.Msg)
		}
		return printTable(a, r.Msg.GetActive(), "before", r.Msg.GetPreviousVersion())
	})
}

type tableRollbackCmd struct {
	Table string `arg:"" help:"The table."`
}

// Help is shown by --help.
func (tableRollbackCmd) Help() string {
	return `Events that were logged since the version came into force keep the meaning that it gave them.

Examples:

	rapport table rollback area`
}

// Run rolls a table back.
func (cmd *tableRollbackCmd) Run(ctx context.Context, a *app) error {
	return a.call(ctx, func(c *clients) error {
		r, err := c.tables.RollbackTable(ctx, connect.NewRequest(&rapportv1.RollbackTableRequest{Table: cmd.Table}))
		if err != nil {
			return err
		}
		if a.json {
			return a.printMessage(r.Msg)
		}
		return printTable(a, r.Msg.GetActive(), "rolled back from", r.Msg.GetPreviousVersion())
	})
}

// printTable says which version is in force now.
func printTable(a *app, v *rapportv1.TableVersion, previously string, version int64) error {
	other := ""
	if version != 0 {
		other = fmt.Sprintf("; %s %d", previously, version)
	}
	_, err := fmt.Fprintf(a.out, "table %s: version %d is in force (%s%s)\n", v.GetTable(), v.GetVersion(), plural(v.GetRows(), "row"), other)
	return err
}
