package main

import (
	"context"
	"strings"

	"connectrpc.com/connect"

	rapportv1 "rapport/server/api/rapport/v1"
)

// saveCase writes a decision of the log as a case for authors of strategies, into a file
// that must not exist. It says what is left out.
func (a *app) saveCase(ctx context.Context, c *clients, m *rapportv1.GetDecisionCaseRequest, file string) error {
	r, err := c.decisions.GetDecisionCase(ctx, connect.NewRequest(m))
	if err != nil {
		return err
	}
	if err := writeNew(file, []byte(r.Msg.GetContent()), 0o600); err != nil { // it is about a person
		return err
	}
	writef(a.err, "what was ranked at %s is in %s\n", r.Msg.GetTouchpoint(), file)
	if hidden := r.Msg.GetHidden(); len(hidden) > 0 {
		writef(a.err, "left out, since it is personal: %s; so the answer may be another\n", strings.Join(hidden, ", "))
	}
	if missing := r.Msg.GetMissing(); len(missing) > 0 {
		writef(a.err, "not in the log, so unknown: %s\n", strings.Join(missing, ", "))
	}
	return nil
}
