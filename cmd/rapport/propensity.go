package main

import (
	"context"
	"fmt"

	"connectrpc.com/connect"

	rapportv1 "rapport/server/api/rapport/v1"
)

// propensityCmd is about propensities.
type propensityCmd struct {
	List propensityListCmd `cmd:"" help:"List offers by channel, with what came of them."`
}

type propensityListCmd struct {
	Offers []string `arg:"" optional:"" name:"offer" help:"Only these offers; if none is given, those that learn."`
	All    bool     `help:"Those too that do not learn."`
}

// Help is shown by --help.
func (propensityListCmd) Help() string {
	return `An offer whose propensity has start_evidence in the catalogue learns it in each channel, from how often
it was presented and how often that was a success, over all customers:

	(start × start_evidence + successes) / (start_evidence + presented)

What is reported shows here, and in decisions, after a second at most. Where the catalogue names a profile
field (FIELD), its value comes before, for customers of whom it is known.

Examples:

	rapport propensity list
	rapport propensity list data_10g --json
	rapport propensity list --all`
}

// Run lists the propensities.
func (cmd *propensityListCmd) Run(ctx context.Context, a *app) error {
	return a.call(ctx, func(c *clients) error {
		r, err := c.readings.ListPropensities(ctx, connect.NewRequest(&rapportv1.ListPropensitiesRequest{Offers: cmd.Offers, All: cmd.All}))
		if err != nil {
			return err
		}
		if a.json {
			return a.printMessage(r.Msg)
		}
		if len(r.Msg.GetPropensities()) == 0 {
			writef(a.err, "no offer of catalogue %d learns its propensity: give it a start_evidence, or use --all\n", r.Msg.GetCatalogVersion())
			return nil
		}
		t := newTable("OFFER", "CHANNEL", "FIELD", ">START", ">START EVIDENCE", ">PRESENTED", "SUCCESS", ">SUCCESSES", ">PROPENSITY")
		for _, p := range r.Msg.GetPropensities() {
			evidence := none
			if p.GetStartEvidence() > 0 {
				evidence = fmt.Sprint(p.GetStartEvidence())
			}
			t.add(p.GetOffer(), p.GetChannel(), orNone(p.GetField()), formatScore(p.GetStart()), evidence,
				p.GetEvidence().GetPresented(), p.GetSuccess(), p.GetEvidence().GetSuccesses(), formatScore(p.GetPropensity()))
		}
		return t.write(a.out)
	})
}
