package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"connectrpc.com/connect"

	rapportv1 "rapport/server/api/rapport/v1"
	"rapport/server/catalog"
)

// catalogDiffCmd shows what changes.
type catalogDiffCmd struct {
	What []string `arg:"" help:"A version, two versions, or YAML files and folders of them."`
}

// Help is shown by --help.
func (catalogDiffCmd) Help() string {
	return `One version is compared with the version in use, two with each other, and files with the version in
use: what publishing them would change. Elements are told apart by their ids; their order, comments and
files are no difference.

Examples:

	rapport catalog diff 3 4
	rapport catalog diff catalog/`
}

// Run compares.
func (cmd *catalogDiffCmd) Run(ctx context.Context, a *app) error {
	var versions []int64
	for _, what := range cmd.What {
		if n, err := strconv.ParseInt(what, 10, 64); err == nil && n > 0 {
			versions = append(versions, n)
		}
	}
	files := len(versions) == 0
	if !files && (len(versions) != len(cmd.What) || len(versions) > 2) {
		return usagef("give one or two versions, or files")
	}
	var after *rapportv1.Catalog
	if files {
		list, err := (&catalogFiles{Files: cmd.What}).read()
		if err != nil {
			return err
		}
		in := make([]catalog.File, len(list))
		for i, f := range list {
			in[i] = catalog.File{Name: f.GetName(), Content: []byte(f.GetContent())}
		}
		if after, err = catalog.Parse(in); err != nil {
			return err
		}
	}
	return a.call(ctx, func(c *clients) error {
		get := func(version int64) (*rapportv1.Catalog, error) {
			r, err := c.catalogs.GetCatalog(ctx, connect.NewRequest(&rapportv1.GetCatalogRequest{Version: version}))
			if err != nil {
				return nil, err
			}
			return r.Msg.GetCatalog(), nil
		}
		from, to := int64(0), int64(0)
		switch len(versions) {
		case 1:
			from = versions[0]
		case 2:
			from, to = versions[0], versions[1]
		}
		before, err := get(from)
		if err != nil {
			return err
		}
		if after == nil {
			if after, err = get(to); err != nil {
				return err
			}
		}
		return a.printChanges(catalog.Diff(before, after))
	})
}

// printChanges prints changes: + for what is new, - for what is gone, ~ for what has
// changed.
func (a *app) printChanges(changes []catalog.Change) error {
	if a.json {
		e := json.NewEncoder(a.out)
		e.SetIndent("", "  ")
		return e.Encode(append([]catalog.Change{}, changes...))
	}
	if len(changes) == 0 {
		writef(a.out, "no difference\n")
		return nil
	}
	last := ""
	for _, c := range changes {
		name := strings.TrimSpace(c.List + " " + c.ID)
		switch {
		case c.Path == "" && c.Before == "":
			writef(a.out, "+ %s\n", printable(name))
			writef(a.out, "    %s\n", printable(c.After))
			continue
		case c.Path == "" && c.After == "":
			writef(a.out, "- %s\n", printable(name))
			continue
		case name != last:
			writef(a.out, "~ %s\n", printable(name))
		}
		last = name
		before, after := c.Before, c.After
		if before == "" {
			before = none
		}
		if after == "" {
			after = none
		}
		writef(a.out, "    %s: %s → %s\n", printable(c.Path), printable(before), printable(after))
	}
	return nil
}

// catalogRollbackCmd puts an earlier version to use.
type catalogRollbackCmd struct {
	Number int64 `arg:"" optional:"" name:"version" help:"The version; the one before that in use if not given."`
}

// Help is shown by --help.
func (catalogRollbackCmd) Help() string {
	return `The version is compiled anew before it is put to use, against the schema and the strategies of today. No
version is lost: rolling forward is a rollback to the newer number.

Examples:

	rapport catalog rollback
	rapport catalog rollback 3`
}

// Run rolls back.
func (cmd *catalogRollbackCmd) Run(ctx context.Context, a *app) error {
	return a.call(ctx, func(c *clients) error {
		r, err := c.catalogs.RollbackCatalog(ctx, connect.NewRequest(&rapportv1.RollbackCatalogRequest{Version: cmd.Number}))
		if err != nil {
			return err
		}
		if a.json {
			return a.printMessage(r.Msg)
		}
		v := r.Msg.GetVersion()
		what := fmt.Sprintf("catalogue %d is in use: %s, %s", v.GetVersion(), plural(v.GetOffers(), "offer"), plural(v.GetScenarios(), "scenario"))
		if previous := r.Msg.GetPreviousVersion(); previous == v.GetVersion() {
			what += "; it was before, so nothing changed"
		} else {
			what += fmt.Sprintf("; before, %d", previous)
		}
		writef(a.out, "%s\n", what)
		return nil
	})
}
