package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"rapport/bench"
	"rapport/server/sandbox"
)

// benchCmd measures Rapport.
type benchCmd struct {
	Run     benchRunCmd     `cmd:"" default:"withargs" help:"Measure, and say which budgets are kept."`
	Layers  benchLayersCmd  `cmd:"" help:"List the layers that can be measured."`
	Compare benchCompareCmd `cmd:"" help:"Compare two reports of the same machine."`
	Versus  benchVersusCmd  `cmd:"" help:"Measure this program and another one in turns."`
}

// Help is shown by --help.
func (benchCmd) Help() string {
	return `Each layer of Rapport is measured against a limit in the same run: the same work done the fastest way there
is. So its figures are ratios, which machines share more than times. Budgets are promises about them; with
--check the exit code is 1 if one is broken.

The machine should have nothing else to do: a first layer measures how far two runs of the same work are
apart, and a budget that is narrower is not judged.

Examples:

	rapport bench --quick
	rapport bench --check --out report
	rapport bench --layer decision --layer rpc --profile profiles
	rapport bench compare before/report.ndjson after/report.ndjson
	rapport bench versus ./rapport-of-yesterday --layer decision`
}

type benchRunCmd struct {
	Quick   bool     `help:"Measure for 3 minutes and not for half an hour: for a first look, and for wide budgets."`
	Check   bool     `help:"Fail if a budget that is a gate is missed, or can't be judged."`
	Layer   []string `help:"Measure only this layer; may be given again. rapport bench layers lists them." placeholder:"NAME"`
	Out     string   `help:"Folder for the report: as a table, NDJSON, benchstat's lines and a page." placeholder:"DIR" type:"path"`
	Profile string   `help:"Folder for profiles and traces of each layer; they slow it down." placeholder:"DIR" type:"path"`
}

// Run measures.
func (cmd *benchRunCmd) Run(ctx context.Context, a *app) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	compiler, err := sandbox.CompilerCommand()
	if err != nil {
		return err
	}
	s := &bench.Suite{
		Quick: cmd.Quick, Compiler: compiler, Self: []string{self}, Only: cmd.Layer, Profiles: cmd.Profile,
		Progress: func(l bench.Layer, number, of int) {
			writef(a.err, "%d of %d: %s, %s\n", number, of, l.Name, l.Says)
		},
	}
	r := &bench.Report{Environment: bench.ReadEnvironment(), Begun: time.Now().UTC().Truncate(time.Second), Quick: cmd.Quick}
	begun := time.Now()
	var measured error
	r.Records, measured = s.Run(ctx)
	r.Seconds = time.Since(begun).Seconds()
	if len(r.Records) == 0 {
		return measured
	}
	r.Judgements = bench.Judge(bench.Budgets(), r.Records, cmd.Quick)
	if len(cmd.Layer) > 0 {
		r.Judgements = measuredOnly(r.Judgements)
	}
	if err := errors.Join(measured, cmd.print(a, r)); err != nil {
		return err
	}
	if cmd.Check {
		return bench.Check(r.Judgements)
	}
	return nil
}

// measuredOnly leaves out the budgets of layers that were not asked for.
func measuredOnly(all []bench.Judgement) (out []bench.Judgement) {
	for _, j := range all {
		if j.Verdict != bench.NotMeasured {
			out = append(out, j)
		}
	}
	return out
}

// print prints the report, and writes its files.
func (cmd *benchRunCmd) print(a *app, r *bench.Report) error {
	write := r.Write
	if a.json {
		write = r.WriteNDJSON
	}
	if err := write(a.out); err != nil {
		return err
	}
	if cmd.Out == "" {
		return nil
	}
	if err := os.MkdirAll(cmd.Out, 0o750); err != nil {
		return err
	}
	for name, write := range map[string]func(io.Writer) error{
		"report.txt": r.Write, "report.ndjson": r.WriteNDJSON, "benchstat.txt": r.WriteBenchstat, "report.html": r.WritePage, "latencies.hlog": r.WriteHDR,
	} {
		if err := writeReportFile(filepath.Join(cmd.Out, name), write); err != nil {
			return err
		}
	}
	return nil
}

func writeReportFile(name string, write func(io.Writer) error) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Close())
}

type benchLayersCmd struct{}

// Run lists the layers.
func (benchLayersCmd) Run(a *app) error {
	t := newTable("LAYER", "MEASURES")
	for _, l := range bench.Layers() {
		says := l.Says
		if l.Asked {
			says += "; only if it is named"
		}
		t.add(l.Name, says)
	}
	return t.write(a.out)
}

type benchVersusCmd struct {
	Before string   `arg:"" help:"The other program: a rapport of another commit, say." type:"existingfile"`
	Layer  []string `help:"Measure only this layer; may be given again." placeholder:"NAME"`
	Rounds int      `help:"How often each is run." default:"9" placeholder:"N"`
	Full   bool     `help:"Measure as long as rapport bench does without --quick."`
}

// Help is shown by --help.
func (benchVersusCmd) Help() string {
	return `Both are run, again and again, each time in another order. A figure is that of this program over that of
the other; the interval in brackets holds it with 95% confidence, so a change is real if 1 is outside.`
}

// Run measures both.
func (cmd *benchVersusCmd) Run(ctx context.Context, a *app) error {
	if cmd.Rounds < 1 {
		return usagef("--rounds %d: use 1 or more", cmd.Rounds)
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	arguments := []string{"bench", "--json"}
	if !cmd.Full {
		arguments = append(arguments, "--quick")
	}
	for _, l := range cmd.Layer {
		arguments = append(arguments, "--layer", l)
	}
	records, err := bench.Versus(ctx, cmd.Before, self, arguments, cmd.Rounds, func(round int) {
		writef(a.err, "round %d of %d\n", round+1, cmd.Rounds)
	})
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(records)
	}
	return bench.WriteRecords(a.out, records)
}

type benchCompareCmd struct {
	Before string `arg:"" help:"report.ndjson of one run." type:"existingfile"`
	After  string `arg:"" help:"report.ndjson of another." type:"existingfile"`
}

// Help is shown by --help.
func (benchCompareCmd) Help() string {
	return `Runs on machines that differ are not compared. Times of two runs differ by the machine's mood too: compare
ratios, or measure two programs in turns.`
}

// Run compares two reports.
func (cmd *benchCompareCmd) Run(a *app) error {
	var reports [2]*bench.Report
	for i, name := range []string{cmd.Before, cmd.After} {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		reports[i], err = bench.ReadReport(f)
		if err := errors.Join(err, f.Close()); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	if unlike := reports[0].Environment.Unlike(&reports[1].Environment); len(unlike) > 0 {
		return fmt.Errorf("the two runs can't be compared, their machines are not alike: %s", strings.Join(unlike, "; "))
	}
	return bench.WriteChanges(a.out, reports[0], reports[1])
}
