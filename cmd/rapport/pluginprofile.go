package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"rapport/cmd/rapport/author"
	"rapport/server/sandbox"
	"rapport/server/sandbox/trial"
)

type pluginProfileCmd struct {
	pluginModule
	Case       []string `short:"i" help:"A case, or a folder of cases; may be given several times. All in the folder cases if not given." placeholder:"FILE" sep:"none"`
	Candidates int      `help:"Have each case so many candidates: its own, over and over again; 0: as many as it has." default:"100" placeholder:"N"`
	Top        int      `help:"So many functions are shown; 0: all." default:"20" placeholder:"N"`
	Out        string   `short:"o" help:"Write the profile to this file, for go tool pprof or speedscope." placeholder:"FILE"`
}

// Help is shown by --help.
func (pluginProfileCmd) Help() string {
	return `Builds the strategy with the names of its functions, decides its cases once each, and says in which
functions the fuel went: in each itself, and with what it called. The fuel is that of a call on a server; a
short function is charged to who calls it. The same build and cases give the same profile. A .wasm file
that was built without names has numbers in their place.

Examples:

	rapport plugin profile
	rapport plugin profile --candidates 1000 -o fuel.pb.gz
	rapport plugin profile next_step.wasm -i cases/affordable.yaml --json`
}

// Run profiles.
func (cmd *pluginProfileCmd) Run(ctx context.Context, a *app) error {
	if cmd.Candidates < 0 || cmd.Candidates > maxTrialCandidates || cmd.Top < 0 {
		return usagef("--candidates is 0 to %d, and --top 0 or more", maxTrialCandidates)
	}
	file, err := cmd.loadNamed(ctx, a)
	if err != nil {
		return err
	}
	names, err := file.cases(cmd.Case)
	if err != nil {
		return err
	}
	var cases []*trial.Case
	for _, name := range names {
		c, err := trial.ReadFile(name)
		if err != nil {
			return err
		}
		if cmd.Candidates > 0 {
			c = c.Grow(cmd.Candidates)
		}
		cases = append(cases, c)
	}
	p, err := profileCases(ctx, file, cases)
	if err != nil {
		return err
	}
	if cmd.Out != "" {
		if err := writeProfile(cmd.Out, p.Stacks()); err != nil {
			return err
		}
	}
	if a.json {
		return a.printJSON(p.Functions())
	}
	functions, sum := p.Functions(), int64(0)
	for _, f := range functions {
		sum += f.Self
	}
	writef(a.out, "%s: %d units of fuel in %s\n\n", file.file, sum, plural(p.Calls(), "call"))
	t := newTable(">FUEL", ">SHARE", ">WITH CALLED", ">CALLS", "FUNCTION")
	for i, f := range functions {
		if cmd.Top > 0 && i == cmd.Top {
			break
		}
		t.add(f.Self, formatShare(f.Self, sum), f.Total, f.Calls, f.Name)
	}
	if err := t.write(a.out); err != nil {
		return err
	}
	if more := len(functions) - cmd.Top; cmd.Top > 0 && more > 0 {
		writef(a.out, "and %s more\n", plural(more, "function"))
	}
	if !p.Named() {
		writef(a.out, "\nthe module has no names of functions: profile the project's folder, or build with --names\n")
	}
	if cmd.Out != "" {
		writef(a.out, "\nthe profile is in %s: `go tool pprof -http=: %[1]s`, or drop it onto https://www.speedscope.app\n", cmd.Out)
	}
	return nil
}

// maxTrialCandidates bounds how far a case is grown: servers have no more.
const maxTrialCandidates = 100_000

// loadNamed reads the module with the names of its functions: a project is built with
// them, into another file, which is removed.
func (m *pluginModule) loadNamed(ctx context.Context, a *app) (_ *module, err error) {
	info, err := os.Stat(m.Path)
	if err != nil || !info.IsDir() {
		return m.load(ctx, a)
	}
	p, err := author.Open(m.Path)
	if err != nil {
		return nil, fmt.Errorf("plugin: %w; or give a .wasm file", err)
	}
	return buildNamed(ctx, a, p)
}

func buildNamed(ctx context.Context, a *app, p *author.Project) (_ *module, err error) {
	dir, err := os.MkdirTemp("", "rapport-profile-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	built, err := a.build(ctx, p, author.BuildOptions{Names: true, Out: filepath.Join(dir, author.ModuleFile)})
	if err != nil {
		return nil, err
	}
	wasm, err := readModule(built.Path)
	return &module{file: p.Module(), wasm: wasm, project: p}, err
}

// profileCases decides cases once each, and returns where the fuel went. A fault ends a
// call and is no error: what it used until then is there.
func profileCases(ctx context.Context, file *module, cases []*trial.Case) (_ *sandbox.Profiler, err error) {
	r, err := newSandbox(ctx, sandbox.Options{})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.Close(context.WithoutCancel(ctx))) }()
	m, p, err := r.CompileProfiled(ctx, file.wasm)
	if err != nil {
		return nil, refusedModule(file.file, err)
	}
	for _, c := range cases {
		b, err := trial.Bind(ctx, m, c)
		if err != nil {
			return nil, err
		}
		fault := new(sandbox.FaultError)
		if err := b.Call(ctx); err != nil && !errors.As(err, &fault) {
			return nil, errors.Join(err, b.Close(context.WithoutCancel(ctx)))
		}
		if err := b.Close(context.WithoutCancel(ctx)); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// writeProfile writes a profile to a file.
func writeProfile(name string, stacks []sandbox.FuelStack) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	return errors.Join(trial.WriteProfile(f, stacks), f.Close())
}

// explainFault says more of a fault where more can be found out: of a call that ran out
// of fuel, which functions burnt it. It prints to stderr.
func (a *app) explainFault(ctx context.Context, file *module, c *trial.Case, r *trial.Result) error {
	if r.Fault.Kind != sandbox.FaultFuel {
		return nil
	}
	if file.project != nil {
		named, err := buildNamed(ctx, a, file.project)
		if err != nil {
			return err
		}
		file = named
	}
	p, err := profileCases(ctx, file, []*trial.Case{c})
	if err != nil {
		return err
	}
	writef(a.err, "the fuel was burnt in:\n")
	for i, f := range p.Functions() {
		if i == 3 || f.Self == 0 {
			break
		}
		writef(a.err, "  %s: %d units (%s), in %s\n", printable(f.Name), f.Self, formatShare(f.Self, r.FuelLimit), plural(f.Calls, "call"))
	}
	return nil
}
