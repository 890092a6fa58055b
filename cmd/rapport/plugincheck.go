package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"rapport/sdk/abi"
	"rapport/server/sandbox"
	"rapport/server/sandbox/abitest"
)

type pluginCheckCmd struct {
	pluginModule
	Candidates       int      `help:"Size of the largest scenario that is tried." default:"10000" placeholder:"N"`
	Frames           int      `help:"Random decisions that are made." default:"300" placeholder:"N"`
	Seed             uint64   `help:"For all that is random: another seed, other decisions." default:"1" placeholder:"N"`
	Text             []string `help:"A text that the strategy knows by name, to be tried too; may be given several times." placeholder:"TEXT" sep:"none"`
	FuelBase         int64    `help:"The server's limit of fuel for a call, beside what is for each candidate." default:"${fuel}" placeholder:"N"`
	FuelPerCandidate int64    `help:"The server's limit of fuel for each candidate of a call." default:"${fuel_per_candidate}" placeholder:"N"`
	Log              bool     `help:"Print what the strategy logs, to stderr."`
}

// Help is shown by --help.
func (pluginCheckCmd) Help() string {
	return `Runs the strategy in the sandbox as a server does, with made-up schemas, catalogues and customers that
have what its manifest declares, and asks of it all that sdk/ABI.md says. It prints a line for each
requirement, what to do about those that are not met, and how much fuel and memory calls take. The same
file and seed give the same results, but for the times. The exit code is 1 if a requirement is not met;
warnings do not count.

Examples:

	rapport plugin check
	rapport plugin check my_strategy.wasm
	rapport plugin check my_strategy.wasm --text gold --text business --seed 7
	rapport plugin check my_strategy.wasm --json`
}

// Run checks a module.
func (cmd *pluginCheckCmd) Run(ctx context.Context, a *app) error {
	fuel := sandbox.Fuel{Base: cmd.FuelBase, PerCandidate: cmd.FuelPerCandidate}
	switch {
	case cmd.Candidates < 1 || cmd.Candidates > abitest.MaxCandidates:
		return usagef("--candidates %d is out of range: give 1 to %d", cmd.Candidates, abitest.MaxCandidates)
	case cmd.Frames < 1:
		return usagef("--frames %d is out of range: give 1 or more", cmd.Frames)
	case cmd.Seed < 1:
		return usagef("--seed 0 is out of range: give 1 or more")
	case !fuel.Valid():
		return usagef("--fuel-base %d and --fuel-per-candidate %d are out of range: give 0 to %d and 0 to %d, not both 0", fuel.Base, fuel.PerCandidate, int64(abi.MaxFuelBase), int64(abi.MaxFuelPerCandidate))
	}
	module, err := cmd.load(ctx, a)
	if err != nil {
		return err
	}
	compiler, err := sandbox.CompilerCommand()
	if err != nil {
		return err
	}
	options := sandbox.Options{Compiler: compiler, Fuel: fuel}
	if cmd.Log {
		options.Logger = slog.New(slog.NewTextHandler(a.err, nil))
	}
	r, err := abitest.Check(ctx, options, module.wasm, abitest.Options{Seed: cmd.Seed, Frames: cmd.Frames, Candidates: cmd.Candidates, Texts: cmd.Text})
	if err != nil {
		return fmt.Errorf("%s: %w", module.file, err)
	}
	if a.json {
		err = a.printJSON(r)
	} else {
		err = a.printReport(module.file, r)
	}
	if failed := r.With(abitest.Failed); err == nil && len(failed) > 0 {
		names := make([]string, len(failed))
		for i, f := range failed {
			names[i] = string(f.Requirement)
		}
		return fmt.Errorf("%s does not meet %s: %s", module.file, plural(len(failed), "requirement"), strings.Join(names, ", "))
	}
	return err
}

// readModule reads a module, no more of it than is needed to see that it is too long.
func readModule(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("plugin: %w", err)
	}
	b, err := io.ReadAll(io.LimitReader(f, sandbox.MaxModuleSize+1))
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return nil, fmt.Errorf("plugin: %w", err)
	}
	return b, nil
}

// printReport prints what is known of a module for people.
func (a *app) printReport(file string, r *abitest.Report) error {
	writef(a.out, "%s: %s, digest %s\n", printable(file), formatBytes(int64(r.Bytes)), shorten(r.Digest, 17))
	if m := r.Manifest; m != nil {
		a.printSummary(m)
	}
	writef(a.out, "\n")
	t := newTable("REQUIREMENT", "RESULT", "WHAT")
	for _, f := range r.Findings {
		result := string(f.Result)
		if f.Result == abitest.Failed {
			result = "FAILED"
		}
		t.add(f.Requirement, result, f.Sentence)
	}
	if err := t.write(a.out); err != nil {
		return err
	}
	for _, result := range []abitest.Result{abitest.Failed, abitest.Warning} {
		for _, f := range r.With(result) {
			a.printFinding(a.out, f)
		}
	}
	if len(r.Figures.Times) == 0 { // it did not get so far
		return nil
	}
	return a.printFigures(r)
}

// printSummary prints what a module says about itself.
func (a *app) printSummary(m *sandbox.Manifest) {
	writef(a.out, "%s %s: %s\n", printable(m.Name), printable(m.Version), printable(m.Description))
	list := func(what string, names []string) {
		if len(names) > 0 {
			writef(a.out, "  %s: %s\n", what, printable(strings.Join(names, ", ")))
		}
	}
	inputs := func(what string, inputs []sandbox.Input) {
		names := make([]string, len(inputs))
		for i, in := range inputs {
			names[i] = in.Name + " (" + in.Type + ")"
		}
		list(what, names)
	}
	inputs("profile", m.Profile)
	inputs("offer", m.Offer)
	inputs("channel", m.Channel)
	list("candidate", m.Candidate)
	parameters := make([]string, len(m.Parameters))
	for i, p := range m.Parameters {
		parameters[i] = fmt.Sprintf("%s %s (%s to %s)", p.Name, formatNumber(p.Default), formatNumber(p.Min), formatNumber(p.Max))
	}
	list("parameters", parameters)
	list("reasons", m.Reasons)
	if m.Fuel != nil {
		writef(a.out, "  fuel: %d and %d a candidate\n", m.Fuel.Base, m.Fuel.PerCandidate)
	}
}

// printFinding prints what was seen and what to do.
func (a *app) printFinding(w io.Writer, f abitest.Finding) {
	result := "FAILED"
	if f.Result == abitest.Warning {
		result = "warning"
	}
	writef(w, "\n%s: %s: %s\n", f.Requirement, result, f.Sentence)
	for _, seen := range f.Seen {
		writef(w, "  seen: %s\n", printable(seen))
	}
	if more := f.Times - len(f.Seen); more > 0 {
		writef(w, "  and %s more\n", plural(more, "time"))
	}
	writef(w, "  do:   %s\n", f.Do)
}

// printFigures prints what was measured.
func (a *app) printFigures(r *abitest.Report) error {
	g := &r.Figures
	took := make(map[int]string)
	for _, x := range g.Times {
		took[x.Candidates] = fmt.Sprintf("%.1f µs", x.Microseconds)
	}
	writef(a.out, "\n")
	t := newTable(">CANDIDATES", ">FUEL", ">OF ITS LIMIT", ">PRIVATE PAGES", ">TIME")
	rows := make(map[int][]any)
	for n := range took {
		rows[n] = []any{none, none, none}
	}
	for _, x := range g.Sizes {
		pages := none
		if x.Private >= 0 {
			pages = strconv.Itoa(x.Private)
		}
		rows[x.Candidates] = []any{x.Fuel, fmt.Sprintf("%.2f%%", 100*float64(x.Fuel)/float64(max(1, x.Limit))), pages}
	}
	for _, n := range slices.Sorted(maps.Keys(rows)) {
		t.add(append(append([]any{n}, rows[n]...), cmp.Or(took[n], none))...)
	}
	if err := t.write(a.out); err != nil {
		return err
	}
	writef(a.out, "\nin %s, at most %.1f%% of the fuel that a call may use: %s\n", plural(g.Calls, "call"), 100*g.Share, printable(g.ShareAt))
	writef(a.out, "fuel of ordinary calls: about %v; to declare, with room to spare: \"fuel\": {\"base\": %d, \"per_candidate\": %d}\n", g.Fuel, g.Declare.Base, g.Declare.PerCandidate)
	writef(a.out, "memory of an instance: %s; lines logged in a call: %.1f\n", formatBytes(int64(g.Image)), g.Lines)
	writef(a.out, "answers %s, the same wherever this file is checked with these flags\n", shorten(g.Answers, 17))
	writef(a.out, "times are the medians of this machine as it was; nothing is judged by them\n")
	return nil
}
