// Command rapport is the decision server and everything that is done with it
// from a command line: one binary, a file for each command.
//
// The commands hold no rules of their own. Each is written once against the
// Connect clients of the API; whether a running server answers, or the same
// server opened in this process on a data folder, is decided in dial.go. Only
// what must touch the folder itself goes around the API: installing a schema and
// building a snapshot.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	_ "time/tzdata" // quiet hours are by the clocks of time zones, which not every machine has

	"github.com/alecthomas/kong"

	"rapport/bench"
	"rapport/cmd/rapport/author"
	"rapport/profilestore/badger"
	"rapport/sdk/abi"
	"rapport/server"
	"rapport/server/sandbox"
)

func main() {
	if badger.IsChecker() { // a server has started this process: see badger.Options.Checker
		os.Exit(badger.CheckerMain(os.Stdin, os.Stdout))
	}
	if sandbox.IsCompiler() { // a server has started this process: see sandbox.CompilerCommand
		os.Exit(sandbox.CompilerMain(os.Stdin, os.Stdout, os.Stderr))
	}
	if bench.IsProcess() { // rapport bench has: a server or an echo to be measured
		os.Exit(bench.ProcessMain(context.Background(), os.Stdin, os.Stdout, os.Stderr))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// A second signal ends the process at once, whatever it is doing.
	context.AfterFunc(ctx, stop)
	code := run(ctx, os.Args[1:], console{in: os.Stdin, out: os.Stdout, err: os.Stderr}, os.LookupEnv)
	stop()
	os.Exit(code)
}

// cli is the command line as kong reads it.
type cli struct {
	Server string `help:"URL of a running server." placeholder:"URL" setting:"" group:"global"`
	Data   string `help:"Data folder, for work without a server." placeholder:"DIR" setting:"" group:"global"`
	Config string `help:"Configuration file; ./rapport.yaml if there is one." placeholder:"FILE" group:"global"`
	JSON   bool   `name:"json" help:"Print JSON instead of tables." group:"global"`
	strategyFlags

	Dev        devCmd        `cmd:"" group:"run" help:"Run a demo server with synthetic customers."`
	Serve      serveCmd      `cmd:"" group:"run" help:"Run the server on a data folder."`
	Schema     schemaCmd     `cmd:"" group:"data" help:"Install or show the profile schema."`
	Load       loadCmd       `cmd:"" group:"data" help:"Load a batch file of one source."`
	Snapshot   snapshotCmd   `cmd:"" group:"data" help:"List, activate, roll back, verify and remove batch loads."`
	Table      tableCmd      `cmd:"" group:"data" help:"Load, list and roll back reference tables."`
	Ingest     ingestCmd     `cmd:"" group:"data" help:"Send events."`
	Journal    journalCmd    `cmd:"" group:"data" help:"List, check and export the journal of events."`
	Rebuild    rebuildCmd    `cmd:"" group:"data" help:"Derive what is kept of customers from the journal anew."`
	Profile    profileCmd    `cmd:"" group:"data" help:"Show what is known of a customer."`
	Identity   identityCmd   `cmd:"" group:"data" help:"Say which identities are the same customer."`
	Catalog    catalogCmd    `cmd:"" group:"decide" help:"Check, publish and show catalogues."`
	Segment    segmentCmd    `cmd:"" group:"decide" help:"List segments, and count the customers in them."`
	Strategy   strategyCmd   `cmd:"" group:"decide" help:"Upload, sign, list and release strategies, and take them back."`
	Plugin     pluginCmd     `cmd:"" group:"author" help:"Begin, build, test and push a strategy."`
	Doctor     doctorCmd     `cmd:"" group:"author" help:"Say which toolchains are there; check and repair a data folder."`
	Decide     decideCmd     `cmd:"" group:"decide" help:"Decide what to offer one customer, or many."`
	Decision   decisionCmd   `cmd:"" group:"decide" help:"List decisions that were made."`
	Explain    explainCmd    `cmd:"" group:"decide" help:"Say why a decision was what it was."`
	Whynot     whynotCmd     `cmd:"" group:"decide" help:"Find what would bring an offer onto a slate."`
	Replay     replayCmd     `cmd:"" group:"decide" help:"Make past decisions again."`
	Simulate   simulateCmd   `cmd:"" group:"decide" help:"Say what a change of catalogue or strategy would come to."`
	Outcome    outcomeCmd    `cmd:"" group:"decide" help:"Report what came of offers."`
	Channel    channelCmd    `cmd:"" group:"decide" help:"Say how full channels are."`
	Capacity   capacityCmd   `cmd:"" group:"decide" help:"List what capacities have left."`
	Propensity propensityCmd `cmd:"" group:"decide" help:"List what offers have learned from outcomes."`
	Bench      benchCmd      `cmd:"" group:"self" help:"Measure each layer against a limit, and check the budgets."`
	Backup     backupCmd     `cmd:"" group:"self" help:"Back up a data folder, also of a running server."`
	Restore    restoreCmd    `cmd:"" group:"self" help:"Make a data folder of a backup."`
	Audit      auditCmd      `cmd:"" group:"self" help:"Show who has changed what decisions are made from."`
	Settings   configCmd     `cmd:"" name:"config" group:"self" help:"Show each setting and where it comes from."`
	Version    versionCmd    `cmd:"" group:"self" help:"Show the version."`
}

const about = `Rapport decides what to offer a customer, here and now.

Begin with: rapport dev`

// app is what a command works with besides its own flags.
type app struct {
	console
	json     bool
	settings *settings
	target   target

	strategies strategyFlags
}

// run is the whole program but for its process: it returns the exit code, 0 for
// success, 1 for failure, 2 for a command line that can't be used.
func run(ctx context.Context, args []string, con console, env func(string) (string, bool)) int {
	if len(args) == 0 {
		args = []string{"--help"}
	}
	var c cli
	exited := -1 // kong has printed help and would have exited
	set := newSettings(env)
	parser, err := newParser(ctx, &c, con, set, func(code int) { exited = code })
	if err != nil {
		printError(con.err, err)
		return 1
	}
	parsed, err := parser.Parse(args)
	if exited >= 0 {
		return exited
	}
	if err != nil {
		printError(con.err, err)
		var parse *kong.ParseError
		if errors.As(err, &parse) && parse.Context != nil {
			writef(con.err, "Run %q for help.\n", helpCommand(parse.Context))
		}
		return 2
	}
	a := &app{console: con, json: c.JSON, settings: set, strategies: c.strategyFlags}
	a.target = newTarget(set, c.Server, c.Data)
	if err := parsed.Run(a); err != nil {
		return a.fail(ctx, parsed, err)
	}
	return 0
}

// newParser returns the parser of the command line. exit is called when kong has
// printed help; what follows then means nothing.
func newParser(ctx context.Context, c *cli, con console, set *settings, exit func(int)) (*kong.Kong, error) {
	return kong.New(c,
		kong.Name("rapport"),
		kong.Description(about),
		kong.Writers(con.out, con.err),
		kong.Exit(exit),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 100}),
		kong.ValueFormatter(flagHelp),
		kong.ExplicitGroups([]kong.Group{
			{Key: "run", Title: "Run:"},
			{Key: "data", Title: "Customers:"},
			{Key: "decide", Title: "Decisions:"},
			{Key: "author", Title: "Authors of strategies:"},
			{Key: "self", Title: "Rapport itself:"},
			{Key: "global", Title: "Flags of all commands:"},
		}),
		kong.Vars{
			"listen":             server.DefaultListen,
			"deadline":           server.DefaultDeadline.String(),
			"keep_decisions":     server.DefaultKeepDecisions.String(),
			"decision_log_bytes": strconv.Itoa(server.DefaultDecisionLogBytes),
			"cache_entries":      strconv.Itoa(server.DefaultCacheEntries),
			"fuel":               strconv.FormatInt(abi.DefaultFuel().Base, 10),
			"fuel_per_candidate": strconv.FormatInt(abi.DefaultFuel().PerCandidate, 10),
			"languages":          strings.Join(author.IDs(), ","),
			"memory_pages":       strconv.Itoa(sandbox.DefaultMemoryPages),
		},
		kong.Resolvers(set),
		kong.Bind(set),
		kong.BindTo(ctx, (*context.Context)(nil)),
	)
}

// fail prints an error and returns the exit code.
func (a *app) fail(ctx context.Context, command *kong.Context, err error) int {
	var usage *usageError
	switch {
	case errors.As(err, &usage):
		printError(a.err, err)
		writef(a.err, "Run %q for help.\n", helpCommand(command))
		return 2
	case errors.Is(err, errReported):
		return 1
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		writef(a.err, "rapport: interrupted\n")
		return 1
	}
	printError(a.err, err)
	return 1
}

// BeforeResolve reads the configuration file before kong asks for values.
func (*cli) BeforeResolve(c *kong.Context, s *settings) error { return s.read(c) }

// writef writes for people. A failing terminal or closed pipe is nothing that a
// command could tell anybody.
func writef(w io.Writer, format string, args ...any) {
	_, _ = fmt.Fprintf(w, format, args...)
}
