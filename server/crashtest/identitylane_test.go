package crashtest_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"connectrpc.com/connect"

	rapportv1 "rapport/server/api/rapport/v1"
)

// identityLane links and unlinks pairs of customers.
type identityLane struct {
	w     *world
	pairs []*pair
}

type pair struct {
	a, b     string
	linked   bool
	doubtful bool // and perhaps not
	changes  int
}

func (l *identityLane) step(ctx context.Context, r *rand.Rand) error {
	wait(time.Duration(r.IntN(5000)) * time.Microsecond)
	n := len(l.pairs)
	if n == 0 || l.pairs[n-1].changes > 2 {
		l.pairs = append(l.pairs, &pair{a: fmt.Sprintf("customer:p-%d", n), b: fmt.Sprintf("msisdn:86%d", n)})
		n++
	}
	p := l.pairs[n-1]
	var results []*rapportv1.IdentityResult
	var f fate
	var err error
	if p.linked {
		f, err = l.w.change("identity unlink", "unlink", func() error {
			res, err := l.w.api.profiles.UnlinkIdentities(ctx, connect.NewRequest(&rapportv1.UnlinkIdentitiesRequest{Unlinks: []*rapportv1.IdentityUnlink{{A: p.a, B: p.b, Action: rapportv1.UnlinkAction_UNLINK_ACTION_UNLINK}}}))
			if err == nil {
				results = res.Msg.GetResults()
			}
			return err
		})
	} else {
		f, err = l.w.call("link", func() error {
			res, err := l.w.api.profiles.LinkIdentities(ctx, connect.NewRequest(&rapportv1.LinkIdentitiesRequest{Links: []*rapportv1.IdentityLink{{A: p.a, B: p.b}}}))
			if err == nil {
				results = res.Msg.GetResults()
			}
			return err
		})
	}
	if err != nil {
		return err
	}
	p.changes++
	if p.doubtful = f == inDoubt; p.doubtful {
		return nil
	}
	if len(results) != 1 || !results[0].GetChanged() {
		return fmt.Errorf("%s and %s, linked: %v: a change gave %v", p.a, p.b, p.linked, results)
	}
	p.linked = !p.linked
	return nil
}

func (l *identityLane) check(ctx context.Context, r *rand.Rand) error {
	for i, p := range l.pairs {
		if !p.doubtful && i < len(l.pairs)-3 && r.IntN(len(l.pairs)) >= 5 {
			continue
		}
		res, err := l.w.api.profiles.GetIdentities(ctx, connect.NewRequest(&rapportv1.GetIdentitiesRequest{Identities: []string{p.a, p.b}}))
		if err != nil {
			return err
		}
		var seen []bool // whether each side is linked with the other
		for k, other := range []string{p.b, p.a} {
			members := res.Msg.GetResults()[k].GetGroup().GetMembers()
			seen = append(seen, slices.ContainsFunc(members, func(m *rapportv1.IdentityMember) bool { return m.GetIdentity() == other }))
		}
		switch {
		case seen[0] != seen[1]:
			return fmt.Errorf("%s is linked with %s: %v; the other way round: %v", p.a, p.b, seen[0], seen[1])
		case p.doubtful:
			l.w.tally.settled("identity change", seen[0] != p.linked)
		case seen[0] != p.linked:
			return fmt.Errorf("%s is linked with %s: %v, but it was acknowledged that it is: %v", p.a, p.b, seen[0], p.linked)
		}
		p.linked, p.doubtful = seen[0], false
	}
	return nil
}
