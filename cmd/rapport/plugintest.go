package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"rapport/cmd/rapport/author"
	"rapport/server/sandbox"
	"rapport/server/sandbox/trial"
)

type pluginTestCmd struct {
	pluginModule
	Case   []string `short:"i" help:"A case, or a folder of cases; may be given several times. All in the folder cases if not given." placeholder:"FILE" sep:"none"`
	Update bool     `help:"Write what comes of each case into it, as what is expected."`
	Watch  bool     `help:"Test again whenever a file changes, until Ctrl-C."`
	Log    bool     `help:"Print what the strategy logs, to stderr."`
}

// Help is shown by --help.
func (pluginTestCmd) Help() string {
	return `Builds the strategy and runs all its cases in the sandbox. Each is a YAML file: what is known, the
candidates, and what is to come of it. What is not given is unknown, 0, or never happened; weight and
lever are 1. Of what is expected, give what matters: the slate, or score, reason, veto and chance of single
candidates, to the last bit unless "within" says how far off they may be. --update writes all of it, and
changes nothing else in the file. The exit code is 1 if a case fails.

	now: 2026-03-01T12:00:00Z
	seed: 1
	profile: {value.arpu: 40, tag.heavy: true, marketing.owned: [data_5g]}
	context: {role: agent}
	parameters: {reach: 0.5}
	slots: 2
	candidates:
	  - id: data_10g
	    offer: {price: 45, kind: plan}
	    channel: {cost: 0.02}
	    propensity: 0.2
	    value: 30
	    history: {times.rejected.30d: 1, days_since.contact: 3.5}
	expect:
	  slate: [data_10g]
	  candidates:
	    data_10g: {score: 3, reason: REJECTED_LATELY}

Examples:

	rapport plugin test
	rapport plugin test --watch
	rapport plugin test next_step.wasm -i cases/affordable.yaml --update`
}

// Run tests a strategy, once or again and again.
func (cmd *pluginTestCmd) Run(ctx context.Context, a *app) error {
	if !cmd.Watch {
		return cmd.test(ctx, a)
	}
	for {
		// What is there when a test begins is what it is of: a change meanwhile is seen.
		before := cmd.stamp()
		err := cmd.test(ctx, a)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // Ctrl-C is how it ends
		}
		if err != nil && !errors.Is(err, errReported) {
			printError(a.err, err)
		}
		if cmd.Update { // of itself it has changed files
			before = cmd.stamp()
		}
		writef(a.out, "waiting for a change\n\n")
		for cmd.stamp() == before {
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(watchInterval):
			}
		}
	}
}

// watchInterval is how often files are looked at: no system's notifications work on
// every kind of folder.
const watchInterval = 200 * time.Millisecond

// stamp is another text after any file has changed.
func (cmd *pluginTestCmd) stamp() string {
	var b strings.Builder
	for _, root := range append([]string{cmd.Path}, cmd.Case...) {
		_ = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			switch name := filepath.Base(path); {
			case err != nil || d.IsDir() && path != root && (name == "node_modules" || name == "target" || strings.HasPrefix(name, ".")):
				return fs.SkipDir
			case d.IsDir() || path != root && name == author.ModuleFile:
				return nil
			}
			if info, err := d.Info(); err == nil {
				fmt.Fprintln(&b, path, info.Size(), info.ModTime().UnixNano())
			}
			return nil
		})
	}
	return b.String()
}

// tested is what came of a case, for JSON.
type tested struct {
	File        string        `json:"file"`
	OK          bool          `json:"ok"`
	Updated     bool          `json:"updated,omitempty"`
	Differences []string      `json:"differences,omitempty"`
	Result      *trial.Result `json:"result,omitempty"`
}

// test tests once.
func (cmd *pluginTestCmd) test(ctx context.Context, a *app) error {
	return a.withModule(ctx, &cmd.pluginModule, cmd.Log, func(m *sandbox.Module, file *module) error {
		files, err := file.cases(cmd.Case)
		if err != nil {
			return err
		}
		var all []tested
		failed := 0
		for _, name := range files {
			x, err := cmd.one(ctx, a, m, file, name)
			if err != nil {
				return err
			}
			if !x.OK {
				failed++
			}
			all = append(all, x)
		}
		if a.json {
			err = a.printJSON(all)
		} else {
			verdict := "all ok"
			if failed > 0 {
				verdict = fmt.Sprintf("%d failed", failed)
			}
			writef(a.out, "%s %s: %s, %s\n", m.Manifest().Name, m.Manifest().Version, plural(len(files), "case"), verdict)
		}
		if err == nil && failed > 0 {
			return errReported
		}
		return err
	})
}

// one runs one case and prints what came of it. A case that can't be run has failed.
func (cmd *pluginTestCmd) one(ctx context.Context, a *app, m *sandbox.Module, file *module, name string) (tested, error) {
	x := tested{File: name}
	c, err := trial.ReadFile(name)
	if err == nil {
		x.Result, err = trial.Run(ctx, m, c, 0)
	}
	if ctx.Err() != nil {
		return x, context.Cause(ctx)
	}
	switch {
	case err != nil:
		x.Differences = strings.Split(err.Error(), "\n")
	case cmd.Update:
		if x.Updated, err = c.Update(x.Result); err != nil {
			return x, err
		}
	default:
		x.Differences = c.Compare(x.Result)
	}
	x.OK = len(x.Differences) == 0
	if a.json {
		return x, nil
	}
	verdict, fuel := "ok", ""
	switch {
	case !x.OK:
		verdict = "FAIL"
	case x.Updated:
		verdict = "new"
	}
	if x.Result != nil {
		fuel = fmt.Sprintf("  %d fuel", x.Result.Fuel)
	}
	writef(a.out, "%-5s %s%s\n", verdict, printable(name), fuel)
	for _, d := range x.Differences {
		writef(a.out, "      %s\n", printable(d))
	}
	if x.Result != nil && x.Result.Fault != nil && !x.OK {
		if err := a.explainFault(ctx, file, c, x.Result); err != nil {
			writef(a.out, "      %s\n", printable(err.Error()))
		}
	}
	return x, nil
}
