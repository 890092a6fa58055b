package main

import (
	"context"
	"strings"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/structpb"

	rapportv1 "rapport/server/api/rapport/v1"
)

// whynotCmd says what would bring an offer onto a slate.
type whynotCmd struct {
	Customer   string            `help:"The customer: NAMESPACE:ID, or ID for customer:ID." placeholder:"ID"`
	Decision   string            `help:"A decision that was made, by its id; without, one is rehearsed for the customer." placeholder:"ID"`
	Offer      string            `required:"" help:"The offer." placeholder:"OFFER"`
	Touchpoint string            `help:"The touchpoint." placeholder:"TOUCHPOINT"`
	Channel    string            `help:"The channel, where it says which touchpoint is meant." placeholder:"CHANNEL"`
	First      bool              `help:"What would make it the first on the slate, rather than bring it onto it."`
	MaxChanges int32             `help:"At most so many changes in a set, 1 to 5." default:"3" placeholder:"N"`
	Sets       int32             `help:"At most so many sets, 1 to 20." default:"5" placeholder:"N"`
	Context    map[string]string `help:"What the request says of the moment of contact; repeat for more." placeholder:"NAME=VALUE" mapsep:"none"`
	Slots      int32             `help:"At most this many offers; 0: as many as the touchpoint has slots." default:"0" placeholder:"N"`
	Time       string            `help:"Rehearse as of this time." placeholder:"T"`
	Seed       uint64            `help:"The rehearsal's seed of ties and random numbers." default:"0" placeholder:"N"`
	Reveal     bool              `help:"Show personal data. The server has to allow it, and the audit log has it."`
}

// Help is shown by --help.
func (whynotCmd) Help() string {
	return `Finds the smallest sets of changes that would bring the offer onto the slate. Each was verified: the same
decision, made again with exactly these changes, has the offer on its slate; with any part of them alone
it does not. Nothing has an effect.

A change is a wait (what is known of the customer stays as it is meanwhile), another context, more slots, a
channel that is less busy, a place of a capacity, another value in the profile, consent or do-not-disturb,
a greater boost or value of the offer, an offer that stays valid, another offer withdrawn, or a customer
who is not in the control group. Sets with the fewest changes come first; of equal ones those that disturb
least, in the order just given.

Values are looked for beside the constants that stand in rules, so a set that needs another value may be
missed; and the search ends after 3,000 replays or 10 seconds, and says so.

Examples:

	rapport whynot --customer 7590-VHVEG --offer data_10g --touchpoint web.home
	rapport whynot --customer 7590-VHVEG --offer data_10g --channel sms --first
	rapport whynot --decision 01ARZ3NDEKTSV4RRFFQ69G5FAV --offer data_10g
	rapport whynot --customer 7590-VHVEG --offer data_10g --touchpoint agent.desk --context role=hotline --json`
}

// Run asks.
func (cmd *whynotCmd) Run(ctx context.Context, a *app) error {
	request, err := cmd.request()
	if err != nil {
		return err
	}
	return a.call(ctx, func(c *clients) error {
		r, err := c.decisions.WhyNot(ctx, connect.NewRequest(request))
		if err != nil {
			return err
		}
		if a.json {
			return a.printMessage(r.Msg)
		}
		printWhyNot(a, r.Msg, cmd.First)
		return nil
	})
}

func (cmd *whynotCmd) request() (*rapportv1.WhyNotRequest, error) {
	switch {
	case cmd.Customer == "" && cmd.Decision == "":
		return nil, usagef("give a customer or a decision, as in `rapport whynot --customer 7590-VHVEG --offer data_10g --touchpoint web.home`")
	case cmd.Customer != "" && cmd.Decision != "":
		return nil, usagef("--customer rehearses a decision and --decision names one that was made: give one of them")
	case cmd.Decision != "" && (len(cmd.Context) > 0 || cmd.Slots != 0 || cmd.Time != "" || cmd.Seed != 0):
		return nil, usagef("--context, --slots, --time and --seed are for a rehearsal: those of a decision that was made are in its record")
	case cmd.Decision == "" && cmd.Touchpoint == "" && cmd.Channel == "":
		return nil, usagef("give the touchpoint, or the channel")
	case cmd.MaxChanges < 1 || cmd.MaxChanges > 5:
		return nil, usagef("--max-changes: %d is not 1 to 5", cmd.MaxChanges)
	case cmd.Sets < 1 || cmd.Sets > 20:
		return nil, usagef("--sets: %d is not 1 to 20", cmd.Sets)
	}
	m := &rapportv1.WhyNotRequest{
		DecisionId: cmd.Decision, Customer: cmd.Customer, Offer: cmd.Offer, Touchpoint: cmd.Touchpoint, Channel: cmd.Channel, First: cmd.First,
		MaxChanges: cmd.MaxChanges, MaxSets: cmd.Sets, Slots: cmd.Slots, Seed: cmd.Seed, Reveal: cmd.Reveal,
	}
	for name, text := range cmd.Context {
		if m.Context == nil {
			m.Context = make(map[string]*structpb.Value, len(cmd.Context))
		}
		m.Context[name] = contextValue(text)
	}
	if cmd.Time != "" {
		t, err := parseTime(cmd.Time)
		if err != nil {
			return nil, usagef("--time: %v", err)
		}
		m.Time = t
	}
	return m, nil
}

// printWhyNot prints sets of changes as a list.
func printWhyNot(a *app, r *rapportv1.WhyNotResponse, first bool) {
	what := r.GetDecisionId()
	if what == "" {
		what = "a rehearsal"
	}
	writef(a.out, "%s for %s at %s: scenario %s of catalogue %d\n\n", what, printable(r.GetCustomer()), r.GetTouchpoint(), r.GetScenario(), r.GetCatalogVersion())
	switch n := r.GetPosition(); {
	case r.GetFallback():
		writef(a.out, "%s is on the slate, as the scenario's fallback\n", r.GetOffer())
	case n == 1:
		writef(a.out, "%s is the first on the slate\n", r.GetOffer())
	case n > 0:
		writef(a.out, "%s is on the slate, at place %d\n", r.GetOffer(), n)
	default:
		writef(a.out, "%s is not on the slate: %s\n", r.GetOffer(), formatReason(r))
	}
	switch {
	case r.GetPosition() == 1 || r.GetPosition() > 0 && !first:
		return
	case len(r.GetSets()) == 0:
		writef(a.out, "nothing was found that would %s with at most %s\n", bring(first), plural(r.GetMaxChanges(), "change"))
	default:
		these := "any of these"
		if len(r.GetSets()) == 1 {
			these = "this"
		}
		writef(a.out, "%s would %s:\n\n", these, bring(first))
	}
	for i, set := range r.GetSets() {
		for k, c := range set.GetChanges() {
			if k == 0 {
				writef(a.out, "%2d. %s\n", i+1, printable(c.GetWords()))
			} else {
				writef(a.out, "    and %s\n", printable(c.GetWords()))
			}
		}
		for _, x := range set.GetAssumes() {
			writef(a.out, "    taken that %s, which was not recorded\n", printable(x))
		}
	}
	for _, o := range r.GetObstacles() {
		writef(a.out, "%s\n", printable(o))
	}
	if len(r.GetSets()) > 0 {
		writef(a.out, "\nverified by %d replays: no part of it is enough\n", r.GetReplays())
	}
	if r.GetGaveUp() != "" {
		writef(a.out, "the search gave up %s: there may be other sets\n", r.GetGaveUp())
	}
	if r.GetMasked() {
		writef(a.out, "personal data is hidden: --reveal shows it where the server allows it\n")
	}
}

func bring(first bool) string {
	if first {
		return "make it the first"
	}
	return "bring it in"
}

// formatReason writes why the offer is not on the slate.
func formatReason(r *rapportv1.WhyNotResponse) string {
	text := formatEnum(rapportv1.Reason(rapportv1.Reason_value[r.GetReason()]))
	by := r.GetBy()
	if r.GetUntil() != nil {
		by = strings.TrimSpace(by + " until " + formatUntil(r.GetUntil()))
	}
	if by != "" {
		text += " (" + by + ")"
	}
	return text
}
