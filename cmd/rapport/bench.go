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
	Check   benchCheckCmd   `cmd:"" help:"Judge the budgets of a report again."`
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
	rapport bench --against http://127.0.0.1:8080 --touchpoint web.home --customers ids.txt --rate 500
	rapport bench check report/report.ndjson
	rapport bench compare before/report.ndjson after/report.ndjson
	rapport bench versus ./rapport-of-yesterday --layer decision`
}

type benchRunCmd struct {
	Quick   bool     `help:"Measure for 3 minutes and not for half an hour: for a first look, and for wide budgets."`
	Check   bool     `help:"Fail if a budget that is a gate is missed, or can't be judged."`
	Layer   []string `help:"Measure only this layer; may be given again. rapport bench layers lists them." placeholder:"NAME"`
	Out     string   `help:"Folder for the report: as a table, NDJSON, benchstat's lines and a page." placeholder:"DIR" type:"path"`
	Profile string   `help:"Folder for profiles and traces of each layer; they slow it down." placeholder:"DIR" type:"path"`

	Against    string        `help:"Measure the server at this URL, which runs already, and nothing else." placeholder:"URL"`
	Touchpoint string        `help:"With --against: where decisions are for." placeholder:"TOUCHPOINT"`
	Customers  string        `help:"With --against: file of customers' ids, one a line." placeholder:"FILE"`
	Rate       float64       `help:"With --against: requests a second, in an open loop." placeholder:"N"`
	Callers    int           `help:"With --against: instead of --rate, callers who ask one after the other." placeholder:"N"`
	Duration   time.Duration `help:"With --against: for how long it is measured." default:"30s" placeholder:"TIME"`
	Warmup     time.Duration `help:"With --against: for how long it is asked before." default:"3s" placeholder:"TIME"`
	Outcome    string        `help:"With --against: report this outcome of one offer for every ten decisions." placeholder:"OUTCOME"`
	AnyHost    bool          `help:"With --against: the server may be on another machine."`
}

// Help is shown by --help.
func (benchRunCmd) Help() string {
	return `What is measured, and how to read it, is in bench/README.md of the sources. A quick run measures every layer
in 3 minutes; its --check fails only for budgets that are missed by far, not for what a busy machine can't
tell. That of a full run fails for both.

With --against, a server that runs already is asked for decisions of its own catalogue, about customers of a
file, and its answers are timed. These decisions are made in earnest: they are in its decision log, and their
contacts count against caps.

Examples:

	rapport bench --quick --check
	rapport bench --out report
	rapport bench --layer server --layer overload
	rapport bench --against http://127.0.0.1:8080 --touchpoint web.home --customers ids.txt --rate 500
	rapport bench --against http://127.0.0.1:8080 --touchpoint web.home --customers ids.txt --callers 16 --duration 1m`
}

// Run measures.
func (cmd *benchRunCmd) Run(ctx context.Context, a *app) error {
	if cmd.Against != "" {
		return cmd.against(ctx, a)
	}
	if cmd.Touchpoint != "" || cmd.Customers != "" || cmd.Rate != 0 || cmd.Callers != 0 || cmd.Outcome != "" || cmd.AnyHost {
		return usagef("--touchpoint, --customers, --rate, --callers, --outcome and --any-host are of a server that runs already: give its URL by --against URL")
	}
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
	layers, err := s.Measures()
	if err != nil {
		return usagef("%v", err)
	}
	begun := time.Now()
	var measured error
	r.Records, measured = s.Run(ctx)
	r.Seconds = time.Since(begun).Seconds()
	if len(r.Records) == 0 {
		return measured
	}
	r.Judgements = bench.Judge(bench.BudgetsOf(layers, bench.Budgets()), r.Records, cmd.Quick)
	if err := errors.Join(measured, cmd.print(a, r)); err != nil {
		return err
	}
	if cmd.Check {
		return bench.Check(r.Judgements)
	}
	return nil
}

// against measures a server that runs already.
func (cmd *benchRunCmd) against(ctx context.Context, a *app) error {
	switch {
	case cmd.Quick || cmd.Check || len(cmd.Layer) > 0 || cmd.Profile != "":
		return usagef("--against measures a server as a whole, for as long as --duration says, and no budget is of it: leave out --quick, --check, --layer and --profile")
	case cmd.Touchpoint == "" || cmd.Customers == "":
		return usagef("--against needs --touchpoint TOUCHPOINT and --customers FILE: the server's own")
	case (cmd.Rate > 0) == (cmd.Callers > 0) || cmd.Rate < 0 || cmd.Callers < 0 || cmd.Callers > maxCallers:
		return usagef("--against needs --rate N requests a second, or --callers N, up to %d", maxCallers)
	case cmd.Duration <= 0 || cmd.Warmup < 0:
		return usagef("--duration %v, --warmup %v: use times above 0", cmd.Duration, cmd.Warmup)
	}
	url, err := parseServerURL(cmd.Against, origin{rank: fromFlag, name: "--against"})
	if err != nil {
		return err
	}
	customers, err := readCustomers(cmd.Customers)
	if err != nil {
		return err
	}
	x := &bench.Against{
		URL: url, Touchpoint: cmd.Touchpoint, Customers: customers, Rate: cmd.Rate, Callers: cmd.Callers, Warmup: cmd.Warmup, Duration: cmd.Duration,
		Outcome: cmd.Outcome, Anywhere: cmd.AnyHost,
	}
	r := &bench.Report{Environment: bench.ReadEnvironment(), Begun: time.Now().UTC().Truncate(time.Second), Against: url}
	begun := time.Now()
	var measured error
	r.Records, measured = x.Run(ctx)
	if errors.Is(measured, bench.ErrElsewhere) {
		return usagef("%v: load on it may harm others; if it is yours to load, say so by --any-host", measured)
	}
	r.Seconds = time.Since(begun).Seconds()
	if len(r.Records) == 0 {
		return measured
	}
	return errors.Join(measured, cmd.print(a, r))
}

// maxCallers of a closed loop: each has a connection of its own.
const maxCallers = 1000

// readCustomers reads a file of ids.
func readCustomers(name string) (ids []string, err error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read
	for id, err := range customersOf(f, name, "") {
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	if len(ids) == 0 {
		return nil, fmt.Errorf("%s: no customers", name)
	}
	return ids, nil
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

type benchCheckCmd struct {
	Report string `arg:"" help:"report.ndjson of a run." type:"existingfile"`
}

// Help is shown by --help.
func (benchCheckCmd) Help() string {
	return `The budgets are those of this program, and the figures those of the report; only budgets of layers that it
has are judged. The exit code is 1 if a gate is broken, as with rapport bench --check.

Examples:

	rapport bench check report/report.ndjson`
}

// Run judges.
func (cmd *benchCheckCmd) Run(a *app) error {
	r, err := readReport(cmd.Report)
	if err != nil {
		return err
	}
	if r.Against != "" {
		return fmt.Errorf("%s is of a server that ran already: no budget is of that", cmd.Report)
	}
	r.Judge(bench.Budgets())
	write := r.WriteJudgements
	if a.json {
		write = r.WriteNDJSON
	}
	return errors.Join(write(a.out), bench.Check(r.Judgements))
}

func readReport(name string) (*bench.Report, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	r, err := bench.ReadReport(f)
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return r, nil
}

type benchLayersCmd struct{}

// Help is shown by --help.
func (benchLayersCmd) Help() string {
	return `A layer is a part of Rapport, and what it is measured against.

Examples:

	rapport bench layers`
}

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
the other; the interval in brackets holds it with 95% confidence, so a change is real if 1 is outside. Of fewer
than 6 rounds nothing is known but the ratio.

Examples:

	rapport bench versus ./rapport-of-yesterday --layer decision
	rapport bench versus ./rapport-of-yesterday --layer rpc --rounds 15`
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
ratios, or measure two programs in turns.

Examples:

	rapport bench compare before/report.ndjson after/report.ndjson`
}

// Run compares two reports.
func (cmd *benchCompareCmd) Run(a *app) error {
	var reports [2]*bench.Report
	for i, name := range []string{cmd.Before, cmd.After} {
		var err error
		if reports[i], err = readReport(name); err != nil {
			return err
		}
	}
	if unlike := reports[0].Unlike(reports[1]); len(unlike) > 0 {
		return fmt.Errorf("the two runs can't be compared, their machines are not alike: %s", strings.Join(unlike, "; "))
	}
	return bench.WriteChanges(a.out, reports[0], reports[1])
}
