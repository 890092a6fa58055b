package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/structpb"

	rapportv1 "rapport/server/api/rapport/v1"
)

// simulateCmd says what a change would come to.
type simulateCmd struct {
	Files      []string          `arg:"" optional:"" name:"file" help:"The catalogue after the change: YAML files, or folders of *.yaml files."`
	Catalog    int64             `help:"The catalogue after the change is this version." placeholder:"N"`
	Before     int64             `help:"The catalogue before the change is this version; the one in service if not given." placeholder:"N"`
	Strategy   string            `help:"A strategy that ranks after the change, in every scenario that names it: a version that is kept, or a module." placeholder:"NAME@VERSION|FILE.wasm"`
	Signature  string            `help:"The signature of the module; FILE.sig if there is one." placeholder:"FILE"`
	Touchpoint []string          `help:"The touchpoints that are decided for; all that a scenario answers for if none is given." placeholder:"TOUCHPOINT" sep:"none"`
	OneContact bool              `help:"The answer is one contact yet to be made: in the channel of the best offer."`
	Slots      int32             `help:"At most this many offers at each touchpoint; 0: as many as it has slots." default:"0" placeholder:"N"`
	Sample     *int64            `help:"How many customers to draw; 1000 if nothing else is said." placeholder:"N" xor:"who"`
	All        bool              `help:"All customers of whom a current snapshot has a row." xor:"who"`
	Customers  string            `help:"The customers of this file, an id a line; - for standard input." placeholder:"FILE" xor:"who"`
	Column     string            `help:"The file of --customers is CSV, and this column holds the customer." placeholder:"NAME"`
	Segment    []string          `help:"Only customers in this segment; several: in any of them." placeholder:"SEGMENT" sep:"none"`
	Seed       uint64            `help:"Decides who is drawn, who comes first where a capacity runs out, ties and random numbers." default:"1" placeholder:"N"`
	Time       string            `help:"Decide as of this time; now if not given." placeholder:"T"`
	Context    map[string]string `help:"What the request says of the moment of contact; repeat for more." placeholder:"NAME=VALUE" mapsep:"none"`
	By         []string          `help:"Divide what is offered by these of segment, channel, touchpoint, offer, group and class, with commas between; several times: as many tables. If not given: offer,channel; channel; segment." placeholder:"DIMENSIONS" sep:"none"`
	Examples   int32             `help:"Print so many examples of customers for whom another offer is first." default:"0" placeholder:"N"`
}

// Help is shown by --help.
func (simulateCmd) Help() string {
	return `Decides for many customers twice, with what is in service and with a change, and says what is different:
what is offered and what is withheld, contacts, expected value, and whose first offer changes. The change
is a catalogue, in files that need not be published or a version, a strategy, in a module that need not be
uploaded, or both. Contact policies and capacities are part of the catalogue.

Nothing is promised, reported, logged or counted. What customers met and were promised is as it is now.
Of each capacity both sides use up a copy of what is left now; who comes first follows from the seed,
and is the same on both sides. With one customer given several touchpoints, one slate is divided among
them, and its contacts count for contact policies, as with "rapport decide". To see a capacity run out,
simulate --all: a sample takes only its part of what all customers would.

A customer has the same seed on both sides, so what differs is due to the change. The same data, question,
--seed and --time give the same answer, byte for byte with --json. For a sample, ± is the half of a 95%
interval for the difference.

Files with mistakes are reported as by "rapport catalog validate". Decisions go before a simulation, and
one runs at a time; Ctrl-C ends it.

Examples:

	rapport simulate catalog/ --touchpoint web.home
	rapport simulate catalog/ --touchpoint sms.push --touchpoint call.out --one-contact --all
	rapport simulate --catalog 4 --before 3 --segment leaving --by segment,offer --time 2026-11-01T10:00:00Z
	rapport simulate --strategy my_strategy.wasm --touchpoint web.home --sample 5000 --examples 5
	rapport simulate catalog/ --customers ids.txt --json`
}

// Run simulates.
func (cmd *simulateCmd) Run(ctx context.Context, a *app) error {
	question, err := cmd.question(a)
	if err != nil {
		return err
	}
	return a.call(ctx, func(c *clients) error {
		started := time.Now()
		stream, err := c.decisions.Simulate(ctx, connect.NewRequest(question))
		if err != nil {
			return c.reached(err)
		}
		defer func() { _ = stream.Close() }() // what was sent has been read
		var bar progress
		phase := ""
		defer func() { bar.end() }()
		for stream.Receive() {
			r := stream.Msg()
			if len(r.GetProblems()) > 0 {
				a.printProblems(r.GetProblems())
				return errors.New("nothing was simulated: the catalogue has mistakes")
			}
			if x := r.GetSimulation(); x != nil {
				bar.end()
				bar = progress{}
				return cmd.print(a, x, time.Since(started))
			}
			if phase != r.GetPhase() {
				bar.end()
				phase, bar = r.GetPhase(), a.progress(r.GetPhase(), r.GetTotal())
			}
			bar.at(r.GetDone())
		}
		if err := stream.Err(); err != nil {
			return c.reached(err)
		}
		return errors.New("the server ended the simulation without a result: try again")
	})
}

func (cmd *simulateCmd) print(a *app, x *rapportv1.Simulation, took time.Duration) error {
	var err error
	if a.json {
		err = a.printMessage(x)
	} else {
		err = printSimulation(a, x, int(cmd.Examples))
	}
	if err == nil {
		writef(a.err, "simulated %s on both sides in %v (%.0f a second)\n", plural(x.GetCustomers(), "customer"), took.Round(time.Millisecond), float64(x.GetCustomers())/took.Seconds())
	}
	return err
}

// defaultSample is how many customers are drawn if nothing is said.
const defaultSample = 1000

// defaultBreakdowns are the tables if none is asked for.
var defaultBreakdowns = []string{"offer,channel", "channel", "segment"}

// dimensions are by what a simulation can be divided.
var dimensions = []string{"segment", "channel", "touchpoint", "offer", "group", "class"}

// question is what the flags ask.
func (cmd *simulateCmd) question(a *app) (*rapportv1.SimulateRequest, error) {
	switch {
	case len(cmd.Files) > 0 && cmd.Catalog != 0:
		return nil, usagef("the catalogue after the change is given twice: as files, and by --catalog %d", cmd.Catalog)
	case len(cmd.Files) == 0 && cmd.Catalog == 0 && cmd.Strategy == "" && cmd.Before == 0:
		return nil, usagef("what is to change? Give the files of a catalogue, --catalog N, --strategy NAME@VERSION or FILE.wasm, or --before N")
	case cmd.Sample != nil && *cmd.Sample < 1:
		return nil, usagef("--sample %d is out of range: use 1 or more, or --all", *cmd.Sample)
	case cmd.Customers == "" && cmd.Column != "":
		return nil, usagef("--column needs --customers FILE")
	case cmd.Signature != "" && !strings.HasSuffix(cmd.Strategy, ".wasm"):
		return nil, usagef("--signature needs --strategy FILE.wasm")
	case cmd.Catalog < 0 || cmd.Before < 0:
		return nil, usagef("versions of the catalogue begin with 1")
	case cmd.Examples < 0 || cmd.Examples > 1000:
		return nil, usagef("--examples %d is out of range: use 0 to 1000", cmd.Examples)
	}
	q := &rapportv1.SimulateRequest{
		Catalog: cmd.Catalog, Before: cmd.Before, OneContact: cmd.OneContact, Segments: cmd.Segment, Seed: cmd.Seed, Examples: cmd.Examples,
	}
	for _, t := range cmd.Touchpoint {
		q.At = append(q.At, &rapportv1.SimulatedTouchpoint{Touchpoint: t, Slots: cmd.Slots})
	}
	if cmd.Slots != 0 && len(q.At) == 0 {
		return nil, usagef("--slots needs --touchpoint TOUCHPOINT")
	}
	for name, text := range cmd.Context {
		if q.Context == nil {
			q.Context = make(map[string]*structpb.Value, len(cmd.Context))
		}
		q.Context[name] = contextValue(text)
	}
	var err error
	if cmd.Time != "" {
		if q.Time, err = parseTime(cmd.Time); err != nil {
			return nil, usagef("--time: %v", err)
		}
	}
	if err := cmd.divide(q); err != nil {
		return nil, err
	}
	if err := cmd.who(a, q); err != nil {
		return nil, err
	}
	if len(cmd.Files) > 0 {
		if q.Files, err = (&catalogFiles{Files: cmd.Files}).read(); err != nil {
			return nil, err
		}
	}
	q.Strategy, err = cmd.strategy()
	return q, err
}

// divide says by what is offered is divided.
func (cmd *simulateCmd) divide(q *rapportv1.SimulateRequest) error {
	by := cmd.By
	if len(by) == 0 {
		by = defaultBreakdowns
	}
	for _, list := range by {
		names := strings.Split(list, ",")
		for i, name := range names {
			if names[i] = strings.TrimSpace(name); !slices.Contains(dimensions, names[i]) {
				return usagef("--by %s: it can be divided by %s, not by %q", list, strings.Join(dimensions, ", "), name)
			}
			if slices.Contains(names[:i], names[i]) {
				return usagef("--by %s: %s is there twice", list, names[i])
			}
		}
		q.By = append(q.By, &rapportv1.SimulationBreakdown{Dimensions: names})
	}
	return nil
}

// who says whom it is tried for.
func (cmd *simulateCmd) who(a *app, q *rapportv1.SimulateRequest) error {
	switch {
	case cmd.Customers != "":
		in, err := openInput(a, cmd.Customers)
		if err != nil {
			return err
		}
		defer func() { _ = in.Close() }()
		for id, err := range customersOf(in, cmd.Customers, cmd.Column) {
			if err != nil {
				return err
			}
			q.Customers = append(q.Customers, id)
		}
		if len(q.Customers) == 0 {
			return usagef("--customers %s: there is nobody in it", cmd.Customers)
		}
	case cmd.Sample != nil:
		q.Sample = *cmd.Sample
	case !cmd.All:
		q.Sample = defaultSample
	}
	return nil
}

// strategy is the strategy that ranks after the change, nil if none is given.
func (cmd *simulateCmd) strategy() (*rapportv1.SimulatedStrategy, error) {
	if cmd.Strategy == "" {
		return nil, nil
	}
	if !strings.HasSuffix(cmd.Strategy, ".wasm") {
		name, version, _ := strings.Cut(cmd.Strategy, "@")
		if name == "" {
			return nil, usagef("--strategy %s: write it as NAME@VERSION, or give a .wasm file", cmd.Strategy)
		}
		return &rapportv1.SimulatedStrategy{Name: name, Version: version}, nil
	}
	module, err := readModule(cmd.Strategy)
	if err != nil {
		return nil, err
	}
	signature, err := readSignature(cmd.Signature, cmd.Strategy)
	if err != nil {
		return nil, fmt.Errorf("the signature of %s: %w", cmd.Strategy, err)
	}
	return &rapportv1.SimulatedStrategy{Module: module, Signature: signature}, nil
}
