package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"time"

	"connectrpc.com/connect"

	rapportv1 "rapport/server/api/rapport/v1"
)

// explainCmd says why a decision was what it was.
type explainCmd struct {
	ID         string `arg:"" optional:"" name:"id" help:"The decision, by its id."`
	Customer   string `help:"The latest decision for this customer: NAMESPACE:ID, or ID for customer:ID." placeholder:"ID"`
	At         string `help:"With --customer: the latest at or before this time, or so long ago, such as 1h." placeholder:"T"`
	Touchpoint string `help:"Only what was decided for this touchpoint; with --customer, the latest decision that answered for it." placeholder:"TOUCHPOINT"`
	Offer      string `help:"Only this offer." placeholder:"OFFER"`
	Limit      int32  `help:"How many offers are named for each cause, and in the ranking; and five times as many causes." default:"10" placeholder:"N"`
	All        bool   `help:"Name all of them."`
	Reveal     bool   `help:"Show personal data. The server has to allow it (--reveal-personal), and the audit log has each time."`
	SaveCase   string `help:"Also write what was ranked to this file, as a case for rapport plugin test." placeholder:"FILE"`
	HTML       string `name:"html" help:"Write a page that prints well to this file; - is standard output." placeholder:"FILE"`
}

// Help is shown by --help.
func (explainCmd) Help() string {
	return `Why a decision was what it was: how many candidates were left after each stage, for each the first thing
that removed it, with the values that it saw, and for those that were ranked the parts of the score. The
score of the built-in arbitration is propensity × value × weight × lever; a strategy has its own.

The decision is made again, from what the log has of it. If the answer is the same to the bit, the
explanation says so: "verified". If it can't be made again exactly, since a module is not kept any more or
another version of Rapport decided it, the explanation says why and shows what was recorded, and nothing
is guessed.

Identities, the values of fields that the schema declares personal, and texts that are computed from them
are hidden, unless --reveal asks for them and the server allows it.

Ids are in each answer of ` + "`rapport decide`" + `; ` + "`rapport decision list`" + ` finds those of a customer.

Examples:

	rapport explain 01ARZ3NDEKTSV4RRFFQ69G5FAV
	rapport explain --customer 7590-VHVEG
	rapport explain --customer 7590-VHVEG --at 2026-03-01T10:00:00Z --touchpoint web.home
	rapport explain 01ARZ3NDEKTSV4RRFFQ69G5FAV --offer data_10g
	rapport explain 01ARZ3NDEKTSV4RRFFQ69G5FAV --all --html decision.html
	rapport explain 01ARZ3NDEKTSV4RRFFQ69G5FAV --touchpoint web.home --save-case cases/web_home.yaml`
}

// Run explains.
func (cmd *explainCmd) Run(ctx context.Context, a *app) error {
	request, err := cmd.request(time.Now())
	if err != nil {
		return err
	}
	return a.call(ctx, func(c *clients) error {
		r, err := c.decisions.ExplainDecision(ctx, connect.NewRequest(request))
		if err != nil {
			return err
		}
		if cmd.SaveCase != "" {
			save := &rapportv1.GetDecisionCaseRequest{DecisionId: r.Msg.GetDecisionId(), Touchpoint: cmd.Touchpoint, Reveal: cmd.Reveal}
			if err := a.saveCase(ctx, c, save, cmd.SaveCase); err != nil {
				return err
			}
		}
		switch {
		case cmd.HTML != "":
			return writePage(a, cmd.HTML, r.Msg)
		case a.json:
			return a.printMessage(r.Msg)
		}
		return printExplanation(a, r.Msg)
	})
}

// request is what the flags ask.
func (cmd *explainCmd) request(now time.Time) (*rapportv1.ExplainDecisionRequest, error) {
	switch {
	case (cmd.ID == "") == (cmd.Customer == ""):
		return nil, usagef("give the id of a decision, as in `rapport explain 01ARZ3NDEKTSV4RRFFQ69G5FAV`, or --customer ID for the latest of a customer")
	case cmd.At != "" && cmd.Customer == "":
		return nil, usagef("--at goes with --customer: an id says which decision it is")
	case cmd.Limit < 1 || cmd.Limit > 1000:
		return nil, usagef("--limit %d is out of range: use 1 to 1000, or --all", cmd.Limit)
	}
	m := &rapportv1.ExplainDecisionRequest{
		DecisionId: cmd.ID, Customer: cmd.Customer, Touchpoint: cmd.Touchpoint, Offer: cmd.Offer, Limit: cmd.Limit, All: cmd.All, Reveal: cmd.Reveal,
	}
	var err error
	if m.Time, err = parseSince(cmd.At, now); err != nil {
		return nil, usagef("--at: %v", err)
	}
	return m, nil
}

// writePage writes an explanation as a page. A file is written whole or not at all.
func writePage(a *app, file string, x *rapportv1.ExplainDecisionResponse) error {
	var page bytes.Buffer
	if err := explanationPage(&page, x); err != nil {
		return err
	}
	if file == "-" {
		_, err := a.out.Write(page.Bytes())
		return err
	}
	if err := os.WriteFile(file, page.Bytes(), 0o600); err != nil { // it is about a person
		return fmt.Errorf("--html: %w", err)
	}
	if !a.json {
		writef(a.err, "written to %s\n", file)
	}
	return nil
}
