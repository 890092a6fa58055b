package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"rapport/server/sandbox"
	"rapport/server/sandbox/trial"
)

type pluginRunCmd struct {
	pluginModule
	Input    string `short:"i" required:"" help:"The case: a YAML file." placeholder:"FILE"`
	Calls    int    `help:"So many calls are timed." default:"101" placeholder:"N"`
	SaveCase string `help:"Write the case, with what came of it as what is expected, to this file." placeholder:"FILE"`
	Log      bool   `help:"Print what the strategy logs, to stderr."`
}

// Help is shown by --help.
func (pluginRunCmd) Help() string {
	return `Builds the strategy and has it decide one case, as a server would: it prints what it says of each
candidate, and the fuel, memory and time of the call. The exit code is 1 if the call ends with a fault.
What a case looks like, rapport plugin test --help shows.

Examples:

	rapport plugin run -i cases/affordable.yaml
	rapport plugin run next_step.wasm -i cases/affordable.yaml --json`
}

// Run decides a case.
func (cmd *pluginRunCmd) Run(ctx context.Context, a *app) error {
	if cmd.Calls < 0 || cmd.Calls > 100_000 {
		return usagef("--calls %d is out of range: give 0 to 100000", cmd.Calls)
	}
	c, err := trial.ReadFile(cmd.Input)
	if err != nil {
		return err
	}
	return a.withModule(ctx, &cmd.pluginModule, cmd.Log, func(m *sandbox.Module, file *module) error {
		r, err := trial.Run(ctx, m, c, cmd.Calls)
		if err != nil {
			return err
		}
		if cmd.SaveCase != "" {
			if err := c.SaveAs(cmd.SaveCase, r); err != nil {
				return err
			}
			defer writef(a.err, "the case is in %s\n", cmd.SaveCase)
		}
		if a.json {
			err = a.printJSON(r)
		} else {
			err = a.printTrial(m, c, r)
		}
		if err == nil && r.Fault != nil {
			return errors.Join(errReported, a.explainFault(ctx, file, c, r))
		}
		return err
	})
}

// withModule builds a strategy if it is a project, compiles it, and closes it after
// use.
func (a *app) withModule(ctx context.Context, p *pluginModule, log bool, use func(*sandbox.Module, *module) error) (err error) {
	file, err := p.load(ctx, a)
	if err != nil {
		return err
	}
	o := sandbox.Options{}
	if log {
		o.Logger = slog.New(slog.NewTextHandler(a.err, nil))
	}
	r, err := newSandbox(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close(context.WithoutCancel(ctx))) }()
	m, err := r.Compile(ctx, file.wasm)
	if err != nil {
		return refusedModule(file.file, err)
	}
	return use(m, file)
}

// refusedModule says of a module that is refused what to do.
func refusedModule(file string, err error) error {
	if bad := new(sandbox.InvalidError); errors.As(err, &bad) {
		return fmt.Errorf("%s: %w\n`rapport plugin check %s` says what is asked of a module, and what to do", file, err, file)
	}
	return fmt.Errorf("%s: %w", file, err)
}

// printTrial prints what came of a case.
func (a *app) printTrial(m *sandbox.Module, c *trial.Case, r *trial.Result) error {
	writef(a.out, "%s %s on %s\n\n", m.Manifest().Name, m.Manifest().Version, c.File())
	if r.Fault != nil {
		writef(a.out, "%s\n\n", describeFault(r))
	} else {
		header := []string{"CANDIDATE", ">SCORE", "REASON", "VETO", ">PLACE"}
		if r.Chances() {
			header = append(header, ">CHANCE")
		}
		t := newTable(header...)
		for _, x := range r.Candidates {
			veto, place := none, none
			if x.Veto {
				veto = "vetoed"
			}
			if x.Place > 0 {
				place = strconv.Itoa(x.Place)
			}
			t.add([]any{x.ID, formatNumber(x.Score), cmp.Or(x.Reason, none), veto, place, formatNumber(x.Chance)}[:len(header)]...)
		}
		if err := t.write(a.out); err != nil {
			return err
		}
		writef(a.out, "\n")
	}
	writef(a.out, "fuel:   %d of %d (%.2f%%)\n", r.Fuel, r.FuelLimit, 100*float64(r.Fuel)/float64(max(1, r.FuelLimit)))
	written := ""
	if r.Written >= 0 {
		written = fmt.Sprintf(", of which a call writes %s", formatBytes(int64(r.Written)))
	}
	if r.Grown {
		written = "; a call made it grow, which costs the server the instance: have the memory ready before the first call"
	}
	writef(a.out, "memory: %s%s\n", formatBytes(int64(r.Memory)), written)
	if r.Time > 0 {
		writef(a.out, "time:   %.1f µs, the median here\n", float64(r.Time)/float64(time.Microsecond))
	}
	return nil
}

// describeFault says what went wrong in a call, and for which candidate.
func describeFault(r *trial.Result) string {
	text := fmt.Sprintf("fault: %s: %s", r.FaultKind, r.FaultMessage)
	if r.FaultCandidate != "" {
		text += fmt.Sprintf("; that is %s", r.FaultCandidate)
	}
	return text
}
