package main

import (
	"context"
	"fmt"

	"rapport/cmd/rapport/author"
	"rapport/plugins"
	"rapport/server/sandbox"
)

type doctorCmd struct {
	Lang       string `help:"Only what this language needs; the exit code is 1 if something is missing: ${languages}." enum:"${languages}," default:"" placeholder:"LANG"`
	Repair     bool   `help:"With --data: repair what can be repaired. What is damaged is moved to DATA/quarantine."`
	AcceptLoss bool   `help:"With --repair: also cut out of the journal what is damaged in it; the events in it are lost."`
}

// Help is shown by --help.
func (doctorCmd) Help() string {
	return `Looks at what this machine has to write strategies with: the toolchain of each language, its version, and
how to get what is missing. It also runs a strategy in the sandbox. Nothing is changed, and nothing is
fetched. One language is enough.

With --data it looks at a data folder instead: every file of it is read and compared with what was written.
It says what is wrong and what to do, and changes nothing; with --repair it does what it can. Files that are
damaged are moved to DATA/quarantine, none is removed. The exit code is 1 if something is wrong, or is left
so. No server may have the folder open for that; of one that is open, snapshots, reference tables and
catalogue versions are checked, which never change.

Examples:

	rapport doctor
	rapport doctor --lang c
	rapport doctor --data DATA
	rapport doctor --data DATA --repair
	rapport doctor --data DATA --repair --accept-loss`
}

// finding is what doctor says of one thing.
type finding struct {
	Language string `json:"language"`
	Tool     string `json:"tool"`
	State    string `json:"state"` // ok, missing, by project, or failed
	Version  string `json:"version,omitempty"`
	Do       string `json:"do,omitempty"`
}

// Run looks at the machine.
func (cmd *doctorCmd) Run(ctx context.Context, a *app) error {
	if a.target.dataFrom.rank == fromFlag || cmd.Repair || cmd.AcceptLoss {
		return cmd.checkData(ctx, a)
	}
	var findings []finding
	if cmd.Lang == "" {
		findings = append(findings, checkSandbox(ctx))
	}
	missing := 0
	for _, l := range author.Languages() {
		if cmd.Lang != "" && cmd.Lang != l.ID {
			continue
		}
		for _, t := range l.Tools {
			f := finding{Language: l.ID, Tool: t.Name, State: "ok"}
			_, version, err := t.Find(ctx, ".")
			switch {
			case err == nil:
				f.Version = version
			case t.InProjects():
				f.State, f.Do = "by project", t.HowToGet()
			default:
				missing++
				f.State, f.Do = "missing", t.HowToGet()
			}
			findings = append(findings, f)
		}
	}
	var err error
	if a.json {
		err = a.printJSON(findings)
	} else {
		t := newTable("FOR", "TOOL", "STATE", "VERSION")
		for _, f := range findings {
			version := f.Version
			if version == "" {
				version = none
			}
			t.add(f.Language, f.Tool, f.State, version)
		}
		err = t.write(a.out)
		for _, f := range findings {
			if f.Do != "" {
				writef(a.out, "\n%s, for %s: %s\n", f.Tool, f.Language, f.Do)
			}
		}
	}
	switch {
	case err != nil:
		return err
	case findings[0].State == "failed":
		return fmt.Errorf("doctor: strategies can't run here: %s: %w", findings[0].Do, errReported)
	case cmd.Lang != "" && missing > 0:
		return errReported
	}
	return nil
}

// checkSandbox compiles the strategy that ships, as a server does.
func checkSandbox(ctx context.Context) finding {
	f := finding{Language: "rapport", Tool: "sandbox", State: "ok", Version: "rapport " + programVersion()}
	r, err := newSandbox(ctx, sandbox.Options{})
	if err == nil {
		_, err = r.Compile(ctx, plugins.PVCL())
		if closed := r.Close(context.WithoutCancel(ctx)); err == nil {
			err = closed
		}
	}
	if err != nil {
		f.State, f.Do = "failed", err.Error()
	}
	return f
}

// newSandbox returns a runtime whose compiler is this program.
func newSandbox(ctx context.Context, o sandbox.Options) (*sandbox.Runtime, error) {
	compiler, err := sandbox.CompilerCommand()
	if err != nil {
		return nil, err
	}
	o.Compiler, o.NoBreaker = compiler, true
	return sandbox.New(ctx, o)
}
