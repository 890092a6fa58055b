package main

import (
	"cmp"
	"context"

	"connectrpc.com/connect"

	rapportv1 "rapport/server/api/rapport/v1"
)

// auditCmd shows who has changed what decisions are made from.
type auditCmd struct {
	Subject string `arg:"" optional:"" help:"Only what was done to this: strategy, strategy/NAME, catalogue, snapshot, snapshot/SOURCE, identity, identity/NAMESPACE:ID, schema or decision/ID."`
	Limit   int32  `help:"At most so many records." default:"20" placeholder:"N"`
}

// Help is shown by --help.
func (auditCmd) Help() string {
	return `Every change of what decisions are made from is recorded before it takes effect: who made it, when, and
what was in service before and after; so is every time that personal data was shown (--reveal). The
newest is printed first. A record says so if its change failed.

Examples:

	rapport audit
	rapport audit strategy/pvcl --limit 5
	rapport audit --data DATA --json`
}

// Run lists the records.
func (cmd *auditCmd) Run(ctx context.Context, a *app) error {
	if cmd.Limit < 1 || cmd.Limit > 10_000 {
		return usagef("--limit %d is out of range: use 1 to 10000", cmd.Limit)
	}
	return a.call(ctx, func(c *clients) error {
		r, err := c.audit.ListAuditRecords(ctx, connect.NewRequest(&rapportv1.ListAuditRecordsRequest{Subject: cmd.Subject, Limit: cmd.Limit}))
		if err != nil {
			return err
		}
		if a.json {
			return a.printMessage(r.Msg)
		}
		if n := r.Msg.GetDamaged(); n > 0 {
			writef(a.err, "%s of the audit log can't be read: DATA/audit has been damaged\n", plural(n, "line"))
		}
		if len(r.Msg.GetRecords()) == 0 {
			writef(a.err, "no records\n")
			return nil
		}
		t := newTable(">NUMBER", "TIME", "ACTION", "SUBJECT", "BEFORE", "AFTER", "PEER", "AGENT")
		for _, x := range r.Msg.GetRecords() {
			after := cmp.Or(x.GetAfter(), none)
			if x.GetFailure() != "" {
				after = "not changed: " + x.GetFailure()
			}
			t.add(x.GetNumber(), formatTime(x.GetTime()), x.GetAction(), x.GetSubject(), cmp.Or(x.GetBefore(), none), after, cmp.Or(x.GetPeer(), none), cmp.Or(x.GetAgent(), none))
		}
		return t.write(a.out)
	})
}
