package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"connectrpc.com/connect"

	rapportv1 "rapport/server/api/rapport/v1"
	"rapport/server/catalog"
)

// catalogLintCmd looks for what is legal and surely wrong.
type catalogLintCmd struct {
	catalogFiles
	Schema    string `help:"Check against this schema file alone: no server, no data folder, no customers." placeholder:"FILE" type:"existingfile"`
	Customers int32  `help:"On how many customers of the current snapshots rules are tried, at most 100000; 0: on none." default:"10000" placeholder:"N"`
}

// Help is shown by --help.
func (catalogLintCmd) Help() string {
	var list strings.Builder
	for _, lint := range catalog.Lints {
		fmt.Fprintf(&list, "\t%-22s %s\n", lint.Name, lint.Finds)
	}
	return `Warns of what is legal in a catalogue and surely not what was meant, as FILE:LINE:COLUMN. The exit code
is 1 if there is a warning. A comment silences one, at the end of its line, at the first line of its
element, or in a line before:

	- {id: web.spring, channel: web} # lint:ignore touchpoint-unused the page comes in March

Rules are tried on customers of the current snapshots, spread over all: one that is false for every one
of them is probably a slip. Conditions that read now, the context or a field that only events fill are
left out of this. With --schema nothing but the files is needed.

Examples:

	rapport catalog lint catalog/
	rapport catalog lint --data DATA --customers 100000 catalog/
	rapport catalog lint --schema schema.yaml catalog/

The lints:

` + list.String()
}

// Run looks through the files.
func (cmd *catalogLintCmd) Run(ctx context.Context, a *app) error {
	if cmd.Customers < 0 || cmd.Customers > 100_000 {
		return usagef("--customers %d is out of range: use 0 to 100000", cmd.Customers)
	}
	files, err := cmd.read()
	if err != nil {
		return err
	}
	if cmd.Schema != "" {
		r, err := lintOffline(cmd.Schema, files)
		if err != nil {
			return err
		}
		return cmd.report(a, files, r)
	}
	return a.call(ctx, func(c *clients) error {
		r, err := c.catalogs.ValidateCatalog(ctx, connect.NewRequest(&rapportv1.ValidateCatalogRequest{Files: files, Customers: cmd.Customers}))
		if err != nil {
			return err
		}
		return cmd.report(a, files, r.Msg)
	})
}

// lintOffline looks through files with nothing but a schema file.
func lintOffline(name string, files []*rapportv1.CatalogFile) (*rapportv1.ValidateCatalogResponse, error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("schema: %w", err)
	}
	res := &rapportv1.ValidateCatalogResponse{}
	problems := func(list []catalog.Problem) *rapportv1.ValidateCatalogResponse {
		for _, p := range list {
			res.Problems = append(res.Problems, &rapportv1.CatalogProblem{File: p.File, Line: int32(p.Line), Column: int32(p.Column), Path: p.Path, Message: p.Message})
		}
		return res
	}
	schema, mistakes := catalog.ReadSchema(name, b)
	if len(mistakes) > 0 {
		return problems(mistakes), nil
	}
	in := make([]catalog.File, len(files))
	for i, f := range files {
		in[i] = catalog.File{Name: f.GetName(), Content: []byte(f.GetContent())}
	}
	warnings, mistakes := catalog.Lint(in, schema, catalog.LintOptions{Now: time.Now()})
	for _, w := range warnings {
		res.Warnings = append(res.Warnings, &rapportv1.CatalogWarning{Name: w.Name, File: w.File, Line: int32(w.Line), Column: int32(w.Column), Path: w.Path, Message: w.Message})
	}
	return problems(mistakes), nil
}

// report prints what was found.
func (*catalogLintCmd) report(a *app, files []*rapportv1.CatalogFile, r *rapportv1.ValidateCatalogResponse) error {
	tried := ""
	if n := r.GetCustomers(); n > 0 {
		tried = ", tried on " + plural(n, "customer")
	}
	switch {
	case a.json:
		if err := a.printMessage(r); err != nil {
			return err
		}
	case len(r.GetProblems()) > 0:
		a.printProblems(r.GetProblems())
	case len(r.GetWarnings()) == 0:
		writef(a.out, "nothing to warn of in %s%s\n", plural(len(files), "file"), tried)
	default:
		a.printWarnings(a.out, r.GetWarnings())
	}
	if len(r.GetProblems())+len(r.GetWarnings()) > 0 {
		return errReported
	}
	return nil
}

// printWarnings prints warnings as editors understand them, and then how many there are.
func (a *app) printWarnings(w io.Writer, warnings []*rapportv1.CatalogWarning) {
	for _, x := range warnings {
		p := &rapportv1.CatalogProblem{File: x.GetFile(), Line: x.GetLine(), Column: x.GetColumn(), Path: x.GetPath(), Message: x.GetMessage()}
		writef(w, "%s\n", printable(fmt.Sprintf("%s (%s)", formatProblem(p), x.GetName())))
	}
	if len(warnings) > 0 {
		writef(a.err, "%s\n", plural(len(warnings), "warning"))
	}
}
