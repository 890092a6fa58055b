package crashtest_test

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"connectrpc.com/connect"

	rapportv1 "rapport/server/api/rapport/v1"
)

// auditTwin knows what the audit log must hold: a record of every change that was
// acknowledged, and perhaps of those that were asked for.
type auditTwin struct {
	w  *world
	mu sync.Mutex

	least, most map[string]int // records by action
}

// change does an operation that leaves an audit record.
func (w *world) change(action, kind string, do func() error, refusals ...connect.Code) (fate, error) {
	f, err := w.call(kind, do, refusals...)
	a := &w.audit
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.least == nil {
		a.least, a.most = make(map[string]int), make(map[string]int)
	}
	if err == nil && f == acknowledged {
		a.least[action]++
	}
	a.most[action]++
	return f, err
}

// check compares the audit log with what it must hold.
func (a *auditTwin) check(ctx context.Context) error {
	subjects := make(map[string]bool)
	for action := range a.most {
		kind, _, _ := strings.Cut(action, " ")
		subjects[kind] = true
	}
	found := make(map[string]int)
	for subject := range subjects {
		res, err := a.w.api.audits.ListAuditRecords(ctx, connect.NewRequest(&rapportv1.ListAuditRecordsRequest{Subject: subject, Limit: 10_000}))
		if err != nil {
			return err
		}
		if n := res.Msg.GetDamaged(); n > 0 {
			return fmt.Errorf("%d lines of the audit log are damaged", n)
		}
		for _, r := range res.Msg.GetRecords() {
			if r.GetFailure() == "" {
				found[r.GetAction()]++
			}
		}
	}
	for action, most := range a.most {
		if n := found[action]; n < a.least[action] || n > most {
			return fmt.Errorf("the audit log has %d records of %q: %d were acknowledged, %d asked for", n, action, a.least[action], most)
		}
		a.w.tally.saw("audit records", found[action])
		a.least[action], a.most[action] = found[action], found[action]
	}
	return nil
}
