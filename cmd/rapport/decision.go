package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"connectrpc.com/connect"

	rapportv1 "rapport/server/api/rapport/v1"
)

// decisionCmd is about decisions that were made.
type decisionCmd struct {
	List decisionListCmd `cmd:"" help:"List decisions that were made."`
}

// decisionListCmd lists decisions.
type decisionListCmd struct {
	Customer string `help:"Only those for this customer: NAMESPACE:ID, or ID for customer:ID." placeholder:"ID"`
	Since    string `help:"Those since then: a time, or a span before now such as 1h or 7d." placeholder:"T"`
	Until    string `help:"Those before then." placeholder:"T"`
	Limit    int32  `help:"At most so many." default:"20" placeholder:"N"`
	Reveal   bool   `help:"Show personal data. The server has to allow it (--reveal-personal), and the audit log has each time."`
}

// Help is shown by --help.
func (decisionListCmd) Help() string {
	return `Decisions that are kept, the newest first: when, for whom, what was offered at which touchpoint, who
ranked, and what it had to do without. ` + "`rapport explain ID`" + ` says why one was what it was.

Dry runs are not kept, nor is anything for longer than --keep-decisions of the server.

Examples:

	rapport decision list
	rapport decision list --customer 7590-VHVEG --since 7d
	rapport decision list --until 2026-03-01T00:00:00Z --limit 1000 --json`
}

// Run lists them.
func (cmd *decisionListCmd) Run(ctx context.Context, a *app) error {
	if cmd.Limit < 1 || cmd.Limit > 1000 {
		return usagef("--limit %d is out of range: use 1 to 1000", cmd.Limit)
	}
	m := &rapportv1.ListDecisionsRequest{Customer: cmd.Customer, Limit: cmd.Limit, Reveal: cmd.Reveal}
	now := time.Now()
	var err error
	if m.Since, err = parseSince(cmd.Since, now); err != nil {
		return usagef("--since: %v", err)
	}
	if m.Until, err = parseSince(cmd.Until, now); err != nil {
		return usagef("--until: %v", err)
	}
	return a.call(ctx, func(c *clients) error {
		r, err := c.decisions.ListDecisions(ctx, connect.NewRequest(m))
		if err != nil {
			return err
		}
		if a.json {
			return a.printMessage(r.Msg)
		}
		if len(r.Msg.GetDecisions()) == 0 {
			writef(a.err, "no such decision is kept\n")
			return nil
		}
		t := newTable("DECISION", "TIME", "CUSTOMER", "TOUCHPOINT", "OFFERED", "RANKED BY", "DEGRADED", ">TOOK")
		for _, d := range r.Msg.GetDecisions() {
			for i, at := range d.GetAt() {
				row := []any{"", "", "", at.GetTouchpoint(), offeredText(at), orNone(at.GetRankedBy()), degradedText(at), ""}
				if i == 0 {
					row[0], row[1], row[2] = d.GetDecisionId(), formatTime(d.GetTime()), d.GetCustomer()
					row[7] = fmt.Sprint(time.Duration(d.GetTookUs()) * time.Microsecond)
				}
				t.add(row...)
			}
		}
		return t.write(a.out)
	})
}

func offeredText(at *rapportv1.DecisionSummaryAt) string {
	return orNone(strings.Join(at.GetOffers(), ", "))
}

func degradedText(at *rapportv1.DecisionSummaryAt) string {
	words := make([]string, len(at.GetDegradations()))
	for i, d := range at.GetDegradations() {
		words[i] = formatEnum(d)
	}
	return orNone(strings.Join(words, ", "))
}
