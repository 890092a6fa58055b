package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"rapport/bench"
	"rapport/cmd/rapport/author"
	"rapport/server/sandbox"
	"rapport/server/sandbox/trial"
)

type pluginLanguagesCmd struct {
	Lang        []string      `help:"Only these: ${languages}." enum:"${languages}" placeholder:"LANG,…"`
	Candidates  int           `help:"The number of candidates of a call." default:"100" placeholder:"N"`
	Rounds      int           `help:"How often all take turns." default:"50" placeholder:"N"`
	Slice       time.Duration `help:"About how long each runs in a turn." default:"2ms"`
	NodeModules string        `help:"Where npm has put AssemblyScript's compiler: the node_modules of a project." type:"existingdir" placeholder:"FOLDER"`
}

// Help is shown by --help.
func (pluginLanguagesCmd) Help() string {
	return `Begins a project in every language, in a folder that is removed again, builds it with the toolchain that is
here, and measures the strategy that plugin new makes, which is the same in all: the size of the module,
how long the server takes to compile it, to make its first instance ready and each further one, and time
and fuel of a call. All take turns in one run, with the server's own arbitration in Go, so the ratios hold on
a busy machine too, and times don't: they are over that of propensity × value × weight × lever. A language whose toolchain is missing is left out, and the exit code
is 1. The output is a Markdown table.

Examples:

	rapport plugin languages
	rapport plugin languages --node-modules next_step/node_modules --candidates 1000`
}

// language is what was measured of one.
type language struct {
	Language  string   `json:"language"`
	Toolchain []string `json:"toolchain"`
	Bytes     int64    `json:"bytes"`
	Compile   int64    `json:"compileNanoseconds"`
	First     int64    `json:"firstInstanceNanoseconds"`
	Further   int64    `json:"furtherInstanceNanoseconds"`
	Fuel      int64    `json:"fuel"`
	P50       int64    `json:"p50Nanoseconds"`
	P99       int64    `json:"p99Nanoseconds"`
	Ratio     float64  `json:"ratio"`

	bound *trial.Bound
}

// Run measures.
func (cmd *pluginLanguagesCmd) Run(ctx context.Context, a *app) (err error) {
	if cmd.Candidates < 1 || cmd.Candidates > maxTrialCandidates {
		return usagef("--candidates %d is out of range: give 1 to %d", cmd.Candidates, maxTrialCandidates)
	}
	if cmd.Rounds < 1 || cmd.Slice <= 0 {
		return usagef("--rounds and --slice are above 0")
	}
	dir, err := os.MkdirTemp("", "rapport-languages-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	r, err := newSandbox(ctx, sandbox.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close(context.WithoutCancel(ctx))) }()

	var all []*language
	defer func() {
		for _, x := range all {
			err = errors.Join(err, x.bound.Close(context.WithoutCancel(ctx)))
		}
	}()
	var left []error
	for _, l := range author.Languages() {
		if len(cmd.Lang) > 0 && !slices.Contains(cmd.Lang, l.ID) {
			continue
		}
		x, err := cmd.prepare(ctx, r, dir, l)
		if missing := new(author.MissingError); errors.As(err, &missing) {
			left = append(left, fmt.Errorf("%s is left out: %w", l.Title, err))
			continue
		}
		if err != nil {
			return fmt.Errorf("%s: %w", l.Title, err)
		}
		all = append(all, x)
	}
	if len(all) > 0 {
		if err := cmd.measure(ctx, all); err != nil {
			return err
		}
		if err := cmd.print(a, all); err != nil {
			return err
		}
	}
	if len(left) > 0 {
		return errors.Join(left...)
	}
	return nil
}

// prepare makes the project of a language, and a strategy of it that is ready.
func (cmd *pluginLanguagesCmd) prepare(ctx context.Context, r *sandbox.Runtime, dir string, l *author.Language) (*language, error) {
	p, err := author.New(filepath.Join(dir, "measured_"+l.ID), l)
	if err != nil {
		return nil, err
	}
	if cmd.NodeModules != "" && slices.ContainsFunc(l.Tools, (*author.Tool).InProjects) {
		modules, err := filepath.Abs(cmd.NodeModules)
		if err != nil {
			return nil, err
		}
		if err := os.Symlink(modules, filepath.Join(p.Dir, "node_modules")); err != nil {
			return nil, err
		}
	}
	built, err := p.Build(ctx, author.BuildOptions{})
	if err != nil {
		return nil, err
	}
	wasm, err := readModule(built.Path)
	if err != nil {
		return nil, err
	}
	files, err := p.Cases()
	if err != nil {
		return nil, err
	}
	c, err := trial.ReadFile(files[0])
	if err != nil {
		return nil, err
	}
	c = c.Grow(cmd.Candidates)
	x := &language{Language: l.Title, Toolchain: built.Versions, Bytes: built.Bytes}
	begin := time.Now()
	m, err := r.Compile(ctx, wasm)
	if err != nil {
		return nil, err
	}
	x.Compile = time.Since(begin).Nanoseconds()
	if x.First, x.Further, err = measureInstances(ctx, m, c); err != nil {
		return nil, err
	}
	x.bound, err = trial.Bind(ctx, m, c)
	return x, err
}

// measureInstances returns how long it takes to have the first instance ready, from the
// compiled module, and each further one; medians.
func measureInstances(ctx context.Context, m *sandbox.Module, c *trial.Case) (first, further int64, err error) {
	const times, more = 9, 16
	var firsts, furthers []int64
	for range times {
		var took [2]int64
		for i, instances := range []int{1, 1 + more} {
			begin := time.Now()
			b, err := trial.BindPool(ctx, m, c, instances)
			if err != nil {
				return 0, 0, err
			}
			took[i] = time.Since(begin).Nanoseconds()
			if err := b.Close(ctx); err != nil {
				return 0, 0, err
			}
		}
		firsts, furthers = append(firsts, took[0]), append(furthers, max(0, took[1]-took[0])/more)
	}
	slices.Sort(firsts)
	slices.Sort(furthers)
	return firsts[times/2], furthers[times/2], nil
}

// measure has all take turns.
func (cmd *pluginLanguagesCmd) measure(ctx context.Context, all []*language) error {
	native := bench.Subject{Name: "native", Run: func() error { return all[0].bound.CallNative(ctx) }}
	var subjects []bench.Subject
	for _, x := range all {
		subjects = append(subjects, bench.Subject{
			Name: x.Language, Run: func() error { return x.bound.Call(ctx) }, Settle: func() { _ = x.bound.Settle(ctx) },
		})
	}
	compared, err := bench.Compare(ctx, bench.Options{Rounds: cmd.Rounds, Slice: cmd.Slice}, native, subjects...)
	if err != nil {
		return err
	}
	for i, x := range all {
		x.Fuel, x.Ratio = x.bound.Fuel(), compared.Ratios[i].Median
		x.P50, x.P99 = compared.Subjects[i].P50.Nanoseconds(), compared.Subjects[i].P99.Nanoseconds()
	}
	return nil
}

func (cmd *pluginLanguagesCmd) print(a *app, all []*language) error {
	if a.json {
		return a.printJSON(all)
	}
	writef(a.out, "| language | toolchain | size | compile | first instance | each further | fuel of %d candidates | p50 | p99 | × pvcl in Go |\n|---|---|--:|--:|--:|--:|--:|--:|--:|--:|\n", cmd.Candidates)
	for _, x := range all {
		writef(a.out, "| %s | %s | %s | %s | %s | %s | %d | %s | %s | %.1f |\n", x.Language, strings.Join(x.Toolchain, ", "), formatBytes(x.Bytes),
			formatPart(x.Compile), formatPart(x.First), formatPart(x.Further), x.Fuel, formatPart(x.P50), formatPart(x.P99), x.Ratio)
	}
	return nil
}

// formatPart writes a time with two digits behind the point, in µs or ms.
func formatPart(nanoseconds int64) string {
	if nanoseconds < int64(time.Millisecond) {
		return formatMicros(nanoseconds)
	}
	return fmt.Sprintf("%.2f ms", float64(nanoseconds)/float64(time.Millisecond))
}
