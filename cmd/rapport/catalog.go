package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"connectrpc.com/connect"

	rapportv1 "rapport/server/api/rapport/v1"
)

// catalogCmd checks, publishes and shows catalogues.
type catalogCmd struct {
	Validate catalogValidateCmd `cmd:"" help:"Check files and report every mistake."`
	Lint     catalogLintCmd     `cmd:"" help:"Warn of what is legal and surely wrong."`
	Publish  catalogPublishCmd  `cmd:"" help:"Make files the next version and put it to use."`
	List     catalogListCmd     `cmd:"" help:"List the published versions."`
	Get      catalogGetCmd      `cmd:"" help:"Show a version as it was published."`
	Show     catalogShowCmd     `cmd:"" help:"Show what a version says, in tables."`
	Diff     catalogDiffCmd     `cmd:"" help:"Show what changes between two versions, or with files."`
	Rollback catalogRollbackCmd `cmd:"" help:"Put an earlier version to use again."`
}

// Help is shown by --help.
func (catalogCmd) Help() string {
	return `A catalogue says what can be offered, where, and by which rules. It is one YAML file or many, whose
lists are joined; published, it is an immutable numbered version.`
}

// catalogFiles are the files of one catalogue on the command line.
type catalogFiles struct {
	Files []string `arg:"" help:"YAML files, or folders of *.yaml files."`
}

// read returns the files, those of a folder in the order of their names.
func (c *catalogFiles) read() ([]*rapportv1.CatalogFile, error) {
	var names []string
	for _, name := range c.Files {
		info, err := os.Stat(name)
		if err != nil {
			return nil, fmt.Errorf("catalogue: %w", err)
		}
		if !info.IsDir() {
			names = append(names, name)
			continue
		}
		var found []string
		for _, pattern := range []string{"*.yaml", "*.yml"} {
			matches, err := fs.Glob(os.DirFS(name), pattern)
			if err != nil {
				return nil, err
			}
			for _, m := range matches {
				found = append(found, filepath.Join(name, m))
			}
		}
		if len(found) == 0 {
			return nil, fmt.Errorf("catalogue: the folder %s has no *.yaml files", name)
		}
		slices.Sort(found)
		names = append(names, found...)
	}
	files := make([]*rapportv1.CatalogFile, len(names))
	for i, name := range names {
		if at := slices.Index(names, name); at != i {
			return nil, usagef("%s is given twice", name)
		}
		b, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("catalogue: %w", err)
		}
		files[i] = &rapportv1.CatalogFile{Name: name, Content: string(b)}
	}
	return files, nil
}

type catalogValidateCmd struct{ catalogFiles }

// Help is shown by --help.
func (catalogValidateCmd) Help() string {
	return `The files are checked against the schema and the strategies of the server or data folder. Nothing
changes. Mistakes are printed as FILE:LINE:COLUMN, and the exit code is then 1. Warnings are about what
is legal and surely wrong (see "rapport catalog lint"); they change no exit code.

Examples:

	rapport catalog validate catalog/
	rapport catalog validate --data DATA offers.yaml channels.yaml`
}

// Run checks the files.
func (cmd *catalogValidateCmd) Run(ctx context.Context, a *app) error {
	files, err := cmd.read()
	if err != nil {
		return err
	}
	return a.call(ctx, func(c *clients) error {
		r, err := c.catalogs.ValidateCatalog(ctx, connect.NewRequest(&rapportv1.ValidateCatalogRequest{Files: files}))
		if err != nil {
			return err
		}
		if a.json {
			if err := a.printMessage(r.Msg); err != nil {
				return err
			}
		} else if len(r.Msg.GetProblems()) == 0 {
			writef(a.out, "no mistakes in %s\n", plural(len(files), "file"))
			a.printWarnings(a.err, r.Msg.GetWarnings())
		} else {
			a.printProblems(r.Msg.GetProblems())
		}
		if len(r.Msg.GetProblems()) > 0 {
			return errReported
		}
		return nil
	})
}

// printProblems prints mistakes in a catalogue as editors understand them.
func (a *app) printProblems(problems []*rapportv1.CatalogProblem) {
	for _, p := range problems {
		writef(a.err, "%s\n", printable(formatProblem(p)))
	}
	writef(a.err, "%s\n", plural(len(problems), "mistake"))
}

func formatProblem(p *rapportv1.CatalogProblem) string {
	var parts []string
	if p.GetFile() != "" {
		at := p.GetFile()
		if p.GetLine() > 0 {
			at = fmt.Sprintf("%s:%d:%d", at, p.GetLine(), p.GetColumn())
		}
		parts = append(parts, at)
	}
	if p.GetPath() != "" {
		parts = append(parts, p.GetPath())
	}
	return strings.Join(append(parts, p.GetMessage()), ": ")
}

type catalogPublishCmd struct{ catalogFiles }

// Help is shown by --help.
func (catalogPublishCmd) Help() string {
	return `Files with a mistake publish nothing, and the version in use stays. Files that equal the version in
use publish nothing either.

Examples:

	rapport catalog publish catalog/
	rapport catalog publish --data DATA catalog.yaml`
}

// Run publishes the files.
func (cmd *catalogPublishCmd) Run(ctx context.Context, a *app) error {
	files, err := cmd.read()
	if err != nil {
		return err
	}
	return a.call(ctx, func(c *clients) error {
		r, err := c.catalogs.PublishCatalog(ctx, connect.NewRequest(&rapportv1.PublishCatalogRequest{Files: files}))
		if reason(err) == reasonCatalogInvalid {
			// The error has the mistakes as text; asked again, they come with their places.
			check, checkErr := c.catalogs.ValidateCatalog(ctx, connect.NewRequest(&rapportv1.ValidateCatalogRequest{Files: files}))
			if checkErr == nil && len(check.Msg.GetProblems()) > 0 {
				a.printProblems(check.Msg.GetProblems())
				return errors.New("nothing was published: the catalogue has mistakes")
			}
		}
		if err != nil {
			return err
		}
		if a.json {
			return a.printMessage(r.Msg)
		}
		v := r.Msg.GetVersion()
		what := fmt.Sprintf("catalogue %d is in use: %s, %s", v.GetVersion(), plural(v.GetOffers(), "offer"), plural(v.GetScenarios(), "scenario"))
		switch previous := r.Msg.GetPreviousVersion(); {
		case previous == v.GetVersion():
			what += "; the files equal it, so nothing was published"
		case previous != 0:
			what += fmt.Sprintf("; before, %d", previous)
		}
		if _, err = fmt.Fprintln(a.out, what); err != nil {
			return err
		}
		a.printWarnings(a.err, r.Msg.GetWarnings())
		return nil
	})
}

// reasonCatalogInvalid is the ErrorInfo reason of a catalogue with mistakes.
const reasonCatalogInvalid = "CATALOG_INVALID"

type catalogListCmd struct{}

// Help is shown by --help.
func (catalogListCmd) Help() string {
	return `Examples:

	rapport catalog list`
}

// Run lists the versions.
func (*catalogListCmd) Run(ctx context.Context, a *app) error {
	return a.call(ctx, func(c *clients) error {
		r, err := c.catalogs.ListCatalogs(ctx, connect.NewRequest(&rapportv1.ListCatalogsRequest{}))
		if err != nil {
			return err
		}
		if a.json {
			return a.printMessage(r.Msg)
		}
		if len(r.Msg.GetVersions()) == 0 {
			writef(a.err, "no catalogue yet: publish one with `rapport catalog publish`\n")
			return nil
		}
		t := newTable(">VERSION", "STATE", "PUBLISHED AT", ">OFFERS", ">SCENARIOS", "HASH")
		for _, v := range r.Msg.GetVersions() {
			state := none
			if v.GetCurrent() {
				state = "current"
			}
			t.add(v.GetVersion(), state, formatTime(v.GetPublishedAt()), v.GetOffers(), v.GetScenarios(), shorten(v.GetContentHash(), 17))
		}
		return t.write(a.out)
	})
}

type catalogGetCmd struct {
	Number int64  `arg:"" optional:"" name:"version" help:"The version; the one in use if not given."`
	Out    string `help:"Write the files into this folder instead of printing them." placeholder:"DIR" type:"path"`
}

// Help is shown by --help.
func (catalogGetCmd) Help() string {
	return `Prints the files as they were published. --json prints the catalogue itself.

Examples:

	rapport catalog get
	rapport catalog get 3 --out catalog-3`
}

// Run shows a version.
func (cmd *catalogGetCmd) Run(ctx context.Context, a *app) error {
	return a.call(ctx, func(c *clients) error {
		r, err := c.catalogs.GetCatalog(ctx, connect.NewRequest(&rapportv1.GetCatalogRequest{Version: cmd.Number}))
		if err != nil {
			return err
		}
		switch files := r.Msg.GetFiles(); {
		case cmd.Out != "":
			return a.writeCatalog(cmd.Out, files)
		case a.json:
			return a.printMessage(r.Msg)
		default:
			for _, f := range files {
				if len(files) > 1 {
					writef(a.out, "# %s\n", printable(f.GetName()))
				}
				writef(a.out, "%s\n", strings.TrimRight(f.GetContent(), "\n"))
			}
			return nil
		}
	})
}

// writeCatalog writes files by their base names: a published name is somebody
// else's path.
func (a *app) writeCatalog(dir string, files []*rapportv1.CatalogFile) error {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	for _, f := range files {
		name := filepath.Join(dir, filepath.Base(f.GetName()))
		out, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return fmt.Errorf("%w: name a new or empty folder", err)
		}
		_, err = out.WriteString(f.GetContent())
		if err := errors.Join(err, out.Close()); err != nil {
			return err
		}
	}
	writef(a.out, "wrote %s into %s\n", plural(len(files), "file"), dir)
	return nil
}
