package profilestore_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"rapport/profilestore"
)

// identityHouse is a store with namespaces of every kind.
func identityHouse(t *testing.T, cache int) *house {
	t.Helper()
	plain := storeSchema(t)
	schema, err := profilestore.NewSchema(plain.Sources(), plain.Fields(),
		profilestore.Namespace{ID: "customer", Max: 1},
		profilestore.Namespace{ID: "msisdn", Max: 3, Holding: 90 * 24 * time.Hour, Blocked: []string{"0", "000*"}},
		profilestore.Namespace{ID: "cookie", Weak: true},
	)
	if err != nil {
		t.Fatal(err)
	}
	h := &house{dir: t.TempDir(), schema: schema, now: 20_000 * day, cache: cache}
	if err := h.open(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.store.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

// change makes one change of identities.
func (h *house) change(t *testing.T, op profilestore.IdentityOp, a, b string, at int64) profilestore.IdentityResult {
	t.Helper()
	results, err := h.store.ChangeIdentities(t.Context(), []profilestore.IdentityChange{{Op: op, A: a, B: b, Time: at, Reason: "test"}})
	if err != nil {
		t.Fatal(err)
	}
	return results[0]
}

func (h *house) link(t *testing.T, a, b string) {
	t.Helper()
	if r := h.change(t, profilestore.OpLink, a, b, 0); r.Err != nil || !r.Changed {
		t.Fatalf("link %s %s: %+v", a, b, r)
	}
}

func (h *house) members(t *testing.T, identity string) string {
	t.Helper()
	g, err := h.store.Group(t.Context(), identity)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, m := range g.Members {
		if m.Until != 0 {
			m.Identity += "†"
		}
		names = append(names, m.Identity)
	}
	return strings.Join(names, " ")
}

// calls returns the counter of events of the customer who has an identity.
func (h *house) calls(t *testing.T, identity string) float64 {
	t.Helper()
	v, err := h.store.View(t.Context(), identity)
	if err != nil {
		t.Fatal(err)
	}
	return v.At(h.now).Get(3).Number()
}

func (h *house) use(t *testing.T, id, identity string, at int64) {
	t.Helper()
	e := event(id, "use", "", at, 1)
	e.Identity = identity
	if r, err := h.store.Ingest(t.Context(), []*profilestore.Event{e}); err != nil || r[0].Outcome != profilestore.Accepted {
		t.Fatal(r, err)
	}
}

// TestLinkAndUnlink: a merge loses no event, and taking it back restores both sides.
func TestLinkAndUnlink(t *testing.T) {
	for _, cache := range []int{0, 10_000} {
		h := identityHouse(t, cache)
		h.use(t, "1", "customer:1", h.now)
		h.use(t, "2", "msisdn:1", h.now)
		h.link(t, "msisdn:1", "customer:1")
		for _, id := range []string{"customer:1", "msisdn:1"} {
			if got := h.members(t, id); got != "customer:1 msisdn:1" {
				t.Errorf("members of %s: %s", id, got)
			}
			if got := h.calls(t, id); got != 2 {
				t.Errorf("%s has %v calls", id, got)
			}
		}
		h.use(t, "3", "msisdn:1", h.now)
		if got := h.calls(t, "customer:1"); got != 3 {
			t.Errorf("an event of a linked number: %v calls", got)
		}
		if r := h.change(t, profilestore.OpLink, "customer:1", "msisdn:1", 0); r.Changed || r.Err != nil {
			t.Errorf("the same link again: %+v", r)
		}
		r := h.change(t, profilestore.OpUnlink, "customer:1", "msisdn:1", 0)
		if !r.Changed || len(r.Groups) != 2 || r.Groups[0].Epoch == 0 || r.Groups[0].Epoch != r.Groups[1].Epoch {
			t.Errorf("unlink: %+v", r)
		}
		if r := h.change(t, profilestore.OpUnlink, "customer:1", "msisdn:1", 0); r.Changed || r.Err != nil {
			t.Errorf("the same unlink again: %+v", r)
		}
		if a, b := h.calls(t, "customer:1"), h.calls(t, "msisdn:1"); a != 1 || b != 2 {
			t.Errorf("after the unlink %v and %v calls, want 1 and 2", a, b)
		}
	}
}

// TestIdentityRules: each rule refuses, with what, why, and what to do, and changes
// nothing.
func TestIdentityRules(t *testing.T) {
	h := identityHouse(t, 100)
	for i := range 3 {
		h.link(t, "customer:1", fmt.Sprintf("msisdn:%d", i+1))
	}
	h.link(t, "cookie:c", "customer:1")
	h.change(t, profilestore.OpSeparate, "customer:1", "email:x", 0)
	for i := range 7 {
		h.link(t, "mail:1", fmt.Sprintf("mail:%d", i+2))
	}
	h.change(t, profilestore.OpRecycle, "msisdn:9", "", h.now-day)
	for _, c := range []struct {
		op      profilestore.IdentityOp
		a, b    string
		kind    profilestore.LinkErrorKind
		message string
	}{
		{profilestore.OpLink, "customer:1", "customer:1", profilestore.LinkInvalid, "two identities are needed"},
		{profilestore.OpLink, "Customer:1", "customer:1", profilestore.LinkInvalid, "namespace"},
		{profilestore.OpLink, "customer:1", "", profilestore.LinkInvalid, "no id"},
		{profilestore.OpRecycle, "msisdn:1", "msisdn:2", profilestore.LinkInvalid, "one identity"},
		{profilestore.OpLink, "customer:1", "msisdn:0", profilestore.LinkBlocked, "means nobody"},
		{profilestore.OpLink, "customer:1", "msisdn:00012", profilestore.LinkBlocked, `"000*"`},
		{profilestore.OpLink, "customer:1", "msisdn:4", profilestore.LinkNamespaceFull, "at most 3"},
		{profilestore.OpLink, "customer:1", "customer:2", profilestore.LinkNamespaceFull, "at most 1"},
		{profilestore.OpLink, "cookie:c", "customer:2", profilestore.LinkWeak, "weak"},
		{profilestore.OpLink, "cookie:c", "device:2", profilestore.LinkWeak, "weak"},
		{profilestore.OpLink, "email:x", "msisdn:2", profilestore.LinkSeparated, "reconcile"},
		{profilestore.OpLink, "mail:3", "mail:9", profilestore.LinkGroupFull, "at most 8"},
		{profilestore.OpSeparate, "msisdn:1", "msisdn:2", profilestore.LinkJoined, "unlink those first"},
		{profilestore.OpUnlink, "msisdn:1", "msisdn:2", profilestore.LinkNotLinked, "no link with each other"},
		{profilestore.OpLink, "customer:5", "msisdn:9", profilestore.LinkHolding, "holding period of 90d"},
		{99, "customer:1", "msisdn:1", profilestore.LinkInvalid, "99"},
	} {
		before := h.members(t, "customer:1") + h.members(t, "mail:1")
		if c.kind == profilestore.LinkWeak {
			h.use(t, "an event", c.b, h.now)
		}
		r := h.change(t, c.op, c.a, c.b, 0)
		refused, ok := errors.AsType[*profilestore.LinkError](r.Err)
		if !ok || refused.Kind != c.kind || !strings.Contains(refused.Message, c.message) || r.Changed {
			t.Errorf("%d %s %s: %+v, want kind %d with %q", c.op, c.a, c.b, r, c.kind, c.message)
		}
		if after := h.members(t, "customer:1") + h.members(t, "mail:1"); after != before {
			t.Errorf("%d %s %s changed %s to %s", c.op, c.a, c.b, before, after)
		}
	}
	if r := h.change(t, profilestore.OpLink, "a:1", "b:1", h.now+day); r.Err == nil {
		t.Error("a link from the future was made")
	}
	e := event("e", "use", "", h.now, 1)
	e.Identity = "msisdn:000"
	if r, err := h.store.Ingest(t.Context(), []*profilestore.Event{e}); err != nil || r[0].Outcome != profilestore.Refused {
		t.Errorf("an event of a blocked identity: %v %v", r, err)
	}
	for i := range profilestore.MaxSeparations {
		h.change(t, profilestore.OpSeparate, "vip:1", fmt.Sprintf("vip:x%d", i), 0)
	}
	r := h.change(t, profilestore.OpSeparate, "vip:1", "vip:y", 0)
	if refused, ok := errors.AsType[*profilestore.LinkError](r.Err); !ok || refused.Kind != profilestore.LinkTooMany {
		t.Errorf("one separation more than fits: %+v", r)
	}
}

// TestRecycledNumber: what happened until a number was given up stays with its holder,
// also what is told late; what happens from then on is the next one's, also where the
// telling of the handover was late.
func TestRecycledNumber(t *testing.T) {
	h := identityHouse(t, 100)
	h.link(t, "customer:1", "msisdn:1")
	h.use(t, "before", "msisdn:1", h.now-100*day)
	gone := h.now - 99*day
	if r := h.change(t, profilestore.OpRecycle, "msisdn:1", "", gone); !r.Changed || len(r.Groups) != 2 {
		t.Fatalf("recycle: %+v", r)
	}
	if r := h.change(t, profilestore.OpRecycle, "msisdn:1", "", gone); r.Changed || r.Err != nil {
		t.Errorf("the same again: %+v", r)
	}
	if r := h.change(t, profilestore.OpRecycle, "msisdn:1", "", gone-1); r.Err == nil {
		t.Error("given up before it was given up")
	}
	h.use(t, "late", "msisdn:1", gone-1)
	h.use(t, "nobody's", "msisdn:1", gone)
	h.link(t, "customer:2", "msisdn:1")
	h.use(t, "now", "msisdn:1", h.now)
	check := func(when string) {
		t.Helper()
		for identity, want := range map[string]string{
			"customer:1": "2 customer:1 msisdn:1†", "customer:2": "2 customer:2 msisdn:1", "msisdn:1": "2 customer:2 msisdn:1",
		} {
			if got := fmt.Sprint(h.calls(t, identity), " ", h.members(t, identity)); got != want {
				t.Errorf("%s, %s: %s, want %s", when, identity, got, want)
			}
		}
	}
	check("at first")
	h.reopen(t, false)
	check("after a restart")
	h.reopen(t, true)
	check("after a rebuild")
}

// reopen closes and opens the store, without its delta records if lost.
func (h *house) reopen(t *testing.T, lost bool) {
	t.Helper()
	if err := h.store.Close(); err != nil {
		t.Fatal(err)
	}
	if lost {
		if err := os.RemoveAll(filepath.Join(h.dir, "deltas")); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.open(); err != nil {
		t.Fatal(err)
	}
}

// TestIdentitiesAtOnce: many callers, each link at a limit that only so many can pass.
func TestIdentitiesAtOnce(t *testing.T) {
	h := identityHouse(t, 100)
	var wait sync.WaitGroup
	var mu sync.Mutex
	made := 0
	for i := range 16 {
		wait.Go(func() {
			results, err := h.store.ChangeIdentities(context.Background(), []profilestore.IdentityChange{
				{Op: profilestore.OpLink, A: "customer:1", B: fmt.Sprintf("msisdn:%d", i)},
				{Op: profilestore.OpLink, A: fmt.Sprintf("email:%d", i), B: fmt.Sprintf("msisdn:%d", i)},
			})
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			if results[0].Changed {
				made++
			}
			if _, err := h.store.View(context.Background(), fmt.Sprintf("email:%d", i)); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	if made != 3 {
		t.Errorf("%d numbers were linked, 3 are possible", made)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := h.store.ChangeIdentities(ctx, []profilestore.IdentityChange{{A: "a:1", B: "b:1"}}); err == nil {
		if !slices.Equal([]string{h.members(t, "a:1")}, []string{"a:1 b:1"}) {
			t.Error("a canceled call that reported no error did nothing")
		}
	} else if h.members(t, "a:1") != "a:1" {
		t.Error("a canceled call that reported an error made its change")
	}
}
