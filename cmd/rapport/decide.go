package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/structpb"

	rapportv1 "rapport/server/api/rapport/v1"
)

// decideCmd makes one decision, or one for each of many customers.
type decideCmd struct {
	Customer   string            `arg:"" optional:"" help:"The customer: NAMESPACE:ID, or ID for customer:ID."`
	Touchpoint string            `arg:"" optional:"" help:"The touchpoint, as in the catalogue."`
	At         string            `name:"touchpoint" help:"The touchpoint, with --customers." placeholder:"TOUCHPOINT"`
	Context    map[string]string `help:"What the request says of the moment of contact; repeat for more." placeholder:"NAME=VALUE" mapsep:"none"`
	Slots      int32             `help:"At most this many offers; 0: as many as the touchpoint has slots." default:"0" placeholder:"N"`
	Time       string            `help:"Dry run: decide as of this time, without any effect." placeholder:"T"`
	Seed       *uint64           `help:"Dry run: the seed of ties and random numbers." placeholder:"N"`
	manyCustomers
}

// Help is shown by --help.
func (decideCmd) Help() string {
	return `With --time or --seed the decision is a dry run: it has no effect and no deadline of the server's, and
the same dry run over the same data gives the same answer, byte for byte.

A value of --context is a number, true or false where it looks like one, else a text; quote a text that
looks like a number: --context 'code="42"'.

With --customers every customer of a file is decided, and who wins how often is printed; --count-by
divides the counts by fields of the profile. --json then prints one object a line: the decisions, or
with --count-by the counts. The file has an id a line, or is CSV with --column; - is standard input.

Examples:

	rapport decide 7590-VHVEG web.home
	rapport decide 7590-VHVEG agent.desk --context staff_role=retention --slots 3
	rapport decide 7590-VHVEG web.home --time 2026-03-01T10:00:00Z --seed 7 --json
	rapport decide --customers ids.txt --touchpoint web.home
	rapport decide --customers customers.csv --column customerID --touchpoint web.home --seed 1 --count-by general.contract,general.churned`
}

// Run decides.
func (cmd *decideCmd) Run(ctx context.Context, a *app) error {
	request, err := cmd.request()
	if err != nil {
		return err
	}
	if cmd.Customers != "" {
		return a.call(ctx, func(c *clients) error { return cmd.decideMany(ctx, a, c, request) })
	}
	return a.call(ctx, func(c *clients) error {
		r, err := c.decisions.Decide(ctx, connect.NewRequest(request))
		if err != nil {
			return err
		}
		if a.json {
			return a.printMessage(r.Msg)
		}
		return printDecision(a, r.Msg, r.Header().Get(serverTimeHeader))
	})
}

// serverTimeHeader gives the server's time for a decision in microseconds.
const serverTimeHeader = "Rapport-Server-Time-Us"

// request is the request that the flags describe; that of many lacks the
// customer.
func (cmd *decideCmd) request() (*rapportv1.DecideRequest, error) {
	touchpoint := cmd.At
	switch {
	case cmd.Customers != "" && (cmd.Customer != "" || touchpoint == ""):
		return nil, usagef("with --customers FILE, give the touchpoint as --touchpoint TOUCHPOINT and no single customer")
	case cmd.Customers == "" && (cmd.Column != "" || len(cmd.CountBy) > 0):
		return nil, usagef("--column and --count-by need --customers FILE")
	case cmd.Customers == "":
		if touchpoint == "" {
			touchpoint = cmd.Touchpoint
		} else if cmd.Touchpoint != "" {
			return nil, usagef("the touchpoint is given twice: %s and %s", cmd.Touchpoint, touchpoint)
		}
		if cmd.Customer == "" || touchpoint == "" {
			return nil, usagef("give a customer and a touchpoint, as in `rapport decide 7590-VHVEG web.home`, or --customers FILE")
		}
	}
	r := &rapportv1.DecideRequest{Customer: cmd.Customer, Touchpoint: touchpoint, Slots: cmd.Slots, OmitWithheld: cmd.Customers != ""}
	for name, text := range cmd.Context {
		if r.Context == nil {
			r.Context = make(map[string]*structpb.Value, len(cmd.Context))
		}
		r.Context[name] = contextValue(text)
	}
	if cmd.Time != "" || cmd.Seed != nil {
		r.DryRun = &rapportv1.DryRun{}
		if cmd.Seed != nil {
			r.DryRun.Seed = *cmd.Seed
		}
		if cmd.Time != "" {
			t, err := parseTime(cmd.Time)
			if err != nil {
				return nil, usagef("--time: %v", err)
			}
			r.DryRun.Time = t
		}
	}
	return r, nil
}

// contextValue reads a value as JSON where it is a number, a flag or a text in
// quotes, else as the text itself.
func contextValue(text string) *structpb.Value {
	var v any
	if err := json.Unmarshal([]byte(text), &v); err == nil {
		switch v := v.(type) {
		case float64:
			return structpb.NewNumberValue(v)
		case bool:
			return structpb.NewBoolValue(v)
		case string:
			return structpb.NewStringValue(v)
		}
	}
	return structpb.NewStringValue(text)
}

// maxContent is how much of a treatment's content fits into a line.
const maxContent = 60

func printDecision(a *app, d *rapportv1.DecideResponse, serverMicros string) error {
	ranked := "the built-in arbitration"
	if by := d.GetRankedBy(); by.GetName() != "builtin" {
		ranked = strings.TrimSpace(by.GetName() + " " + by.GetVersion())
	}
	known := "a known customer"
	if !d.GetProfile().GetKnown() {
		known = "an unknown customer"
	}
	switch who := d.GetProfile(); {
	case who.GetBlocked():
		known = "an identity that means nobody"
	case who.GetCustomer() != "":
		known += ", " + printable(who.GetCustomer())
	}
	took := ""
	if micros, err := strconv.ParseInt(serverMicros, 10, 64); err == nil {
		took = fmt.Sprintf(" in %v", time.Duration(micros)*time.Microsecond)
	}
	writef(a.out, "decision %s for %s: scenario %s of catalogue %d, ranked by %s%s\n\n",
		d.GetDecisionId(), known, orNone(d.GetScenario()), d.GetCatalogVersion(), ranked, took)
	if len(d.GetSlate()) == 0 {
		writef(a.out, "nothing to offer\n")
	} else if err := slateTable(d.GetSlate()).write(a.out); err != nil {
		return err
	}
	writef(a.out, "\n")
	f := d.GetFunnel()
	writef(a.out, "%s, %d eligible, %d ranked, %d offered\n", plural(f.GetCandidates(), "candidate"), f.GetEligible(), f.GetRanked(), f.GetOffered())
	for _, w := range d.GetWithheld() {
		writef(a.out, "%s: %s\n", formatEnum(w.GetReason()), printable(strings.Join(w.GetOffers(), ", ")))
	}
	for _, g := range d.GetDegradations() {
		writef(a.out, "degraded, %s\n", printable(formatDegradation(g)))
	}
	return nil
}

// formatDegradation says what a decision had to do without, with the kind of fault
// in parentheses if a strategy failed.
func formatDegradation(g *rapportv1.Degradation) string {
	text := formatEnum(g.GetKind())
	if fault := g.GetFault(); fault != "" {
		text += " (" + fault + ")"
	}
	if detail := g.GetDetail(); detail != "" {
		text += ": " + detail
	}
	return text
}

func slateTable(slate []*rapportv1.Placement) *table {
	t := newTable(">#", "OFFER", "CLASS", "CHANNEL", ">SCORE", ">PROPENSITY", ">VALUE", ">WEIGHT", ">LEVER", "REASON", "CONTENT")
	for i, p := range slate {
		why := orNone(p.GetReason())
		if p.GetFallback() {
			why = "fallback"
		}
		parts := p.GetParts()
		t.add(i+1, p.GetOffer(), p.GetClass(), p.GetChannel(), formatScore(p.GetScore()),
			formatScore(parts.GetPropensity()), formatScore(parts.GetValue()), formatScore(parts.GetWeight()), formatScore(parts.GetLever()),
			why, shorten(printable(p.GetContent()), maxContent))
	}
	return t
}

func orNone(s string) string {
	if s == "" {
		return none
	}
	return s
}
