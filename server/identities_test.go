package server_test

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"rapport/server"
	rapportv1 "rapport/server/api/rapport/v1"
)

const namespacesYAML = `
namespaces:
  - {id: customer, max: 1}
  - {id: msisdn, max: 3, holding: 90d, blocked: ["0", unknown]}
  - {id: cookie, weak: true}
`

// newLinkedHouse serves customers whose identities can be linked.
func newLinkedHouse(t testing.TB) *house {
	t.Helper()
	dir := newDataOf(t, namespacesYAML+schemaYAML)
	load(t, dir, "crm", "customer,tag.vip\n1,yes\n2,no\nmsisdn:unknown,yes\n")
	h := open(t, dir, nil)
	for source, generation := range map[string]int64{"bi": 1, "crm": 2} {
		if _, err := h.snapshots().ActivateSnapshot(context.Background(), connect.NewRequest(&rapportv1.ActivateSnapshotRequest{Source: source, Generation: generation})); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := h.publish(catalogYAML); err != nil {
		t.Fatal(err)
	}
	return h
}

// link makes links of pairs a=b and returns the results.
func (h *house) link(t testing.TB, pairs ...string) []*rapportv1.IdentityResult {
	t.Helper()
	req := &rapportv1.LinkIdentitiesRequest{}
	for _, pair := range pairs {
		a, b, _ := strings.Cut(pair, "=")
		req.Links = append(req.Links, &rapportv1.IdentityLink{A: a, B: b})
	}
	res, err := h.profiles().LinkIdentities(context.Background(), connect.NewRequest(req))
	if err != nil {
		t.Fatal(err)
	}
	return res.Msg.GetResults()
}

func (h *house) unlink(t testing.TB, unlinks ...*rapportv1.IdentityUnlink) []*rapportv1.IdentityResult {
	t.Helper()
	res, err := h.profiles().UnlinkIdentities(context.Background(), connect.NewRequest(&rapportv1.UnlinkIdentitiesRequest{Unlinks: unlinks}))
	if err != nil {
		t.Fatal(err)
	}
	return res.Msg.GetResults()
}

// resultText is a result in a line: what happened, and the groups.
func resultText(r *rapportv1.IdentityResult) string {
	text := r.GetReason()
	if text == "" {
		text = map[bool]string{true: "changed", false: "unchanged"}[r.GetChanged()]
	}
	for _, g := range r.GetGroups() {
		text += " [" + groupText(g) + "]"
	}
	return text
}

// groupText is the members of a group, the common name first and with a star.
func groupText(g *rapportv1.IdentityGroup) string {
	var names []string
	for _, m := range g.GetMembers() {
		name := m.GetIdentity()
		if name == g.GetCustomer() && m.GetUntil() == nil {
			name += "*"
		}
		if m.GetUntil() != nil {
			name += " until"
		}
		names = append(names, name)
	}
	return strings.Join(names, ", ")
}

// TestIdentityChanges: a result for each change of a batch, in order, and one that is
// refused stops no other.
func TestIdentityChanges(t *testing.T) {
	h := newLinkedHouse(t)
	ctx := context.Background()
	check := func(what string, results []*rapportv1.IdentityResult, want ...string) {
		t.Helper()
		if len(results) != len(want) {
			t.Fatalf("%s: %d results, not %d", what, len(results), len(want))
		}
		for i, r := range results {
			if got := resultText(r); got != want[i] {
				t.Errorf("%s %d: %s, not %s", what, i, got, want[i])
			}
			if (r.GetReason() != "") != (r.GetMessage() != "") {
				t.Errorf("%s %d: reason %q, message %q", what, i, r.GetReason(), r.GetMessage())
			}
		}
	}
	check("link", h.link(t,
		"1=msisdn:861", "msisdn:861=customer:1", "1=1", "1=", "1=Bad:2", "1=device:2", "1=msisdn:UNKNOWN",
		"cookie:c=1", "cookie:c=2", "1=2", "1=msisdn:862", "1=msisdn:863", "1=msisdn:864", "2=msisdn:864",
		"1=cookie:d", "1=cookie:e", "1=cookie:f", "1=cookie:g",
	),
		"changed [customer:1*, msisdn:861]", "unchanged [customer:1*, msisdn:861]",
		"LINK_INVALID", "LINK_INVALID", "LINK_INVALID", "LINK_NAMESPACE_UNKNOWN", "LINK_BLOCKED",
		"changed [customer:1*, msisdn:861, cookie:c]", "LINK_WEAK", "LINK_NAMESPACE_FULL",
		"changed [customer:1*, msisdn:861, msisdn:862, cookie:c]", "changed [customer:1*, msisdn:861, msisdn:862, msisdn:863, cookie:c]",
		"LINK_NAMESPACE_FULL", "changed [customer:2*, msisdn:864]",
		"changed [customer:1*, msisdn:861, msisdn:862, msisdn:863, cookie:c, cookie:d]",
		"changed [customer:1*, msisdn:861, msisdn:862, msisdn:863, cookie:c, cookie:d, cookie:e]",
		"changed [customer:1*, msisdn:861, msisdn:862, msisdn:863, cookie:c, cookie:d, cookie:e, cookie:f]", "LINK_GROUP_FULL",
	)
	bad := []*rapportv1.IdentityLink{
		{A: "1", B: "msisdn:1", Reason: strings.Repeat("x", 201)},
		{A: "1", B: "msisdn:1", Time: timestamppb.New(time.Now().Add(time.Hour))},
		{A: "1", B: "msisdn:1", Time: &timestamppb.Timestamp{Seconds: 1 << 60}},
		{A: "1", B: "msisdn:1", Time: &timestamppb.Timestamp{Seconds: -1}},
		{A: "1", B: "msisdn:" + strings.Repeat("1", 300)},
	}
	res, err := h.profiles().LinkIdentities(ctx, connect.NewRequest(&rapportv1.LinkIdentitiesRequest{Links: bad, OmitGroups: true}))
	if err != nil {
		t.Fatal(err)
	}
	check("bad link", res.Msg.GetResults(), "LINK_INVALID", "LINK_INVALID", "LINK_INVALID", "LINK_INVALID", "LINK_INVALID")

	separate, reconcile := rapportv1.UnlinkAction_UNLINK_ACTION_SEPARATE, rapportv1.UnlinkAction_UNLINK_ACTION_RECONCILE
	check("unlink", h.unlink(t,
		&rapportv1.IdentityUnlink{A: "1", B: "msisdn:863"},
		&rapportv1.IdentityUnlink{A: "1", B: "msisdn:863", Action: rapportv1.UnlinkAction_UNLINK_ACTION_UNLINK},
		&rapportv1.IdentityUnlink{A: "cookie:f"},
		&rapportv1.IdentityUnlink{A: "1", B: "msisdn:862", Action: separate, Reason: "ticket 1"},
		&rapportv1.IdentityUnlink{A: "1", Action: separate},
		&rapportv1.IdentityUnlink{A: "msisdn:861", B: "msisdn:862"},
		&rapportv1.IdentityUnlink{A: "msisdn:861", B: "cookie:d"},
		&rapportv1.IdentityUnlink{A: "msisdn:861", B: "cookie:d", Action: separate},
		&rapportv1.IdentityUnlink{A: "1", B: "msisdn:862", Action: 9},
	),
		"changed [customer:1*, msisdn:861, msisdn:862, cookie:c, cookie:d, cookie:e, cookie:f] [msisdn:863*]",
		"unchanged [customer:1*, msisdn:861, msisdn:862, cookie:c, cookie:d, cookie:e, cookie:f] [msisdn:863*]",
		"changed [cookie:f*]",
		"changed [customer:1*, msisdn:861, cookie:c, cookie:d, cookie:e] [msisdn:862*]",
		"LINK_INVALID", "unchanged [customer:1*, msisdn:861, cookie:c, cookie:d, cookie:e] [msisdn:862*]", "LINK_NOT_LINKED", "LINK_JOINED", "LINK_INVALID",
	)
	check("link", h.link(t, "msisdn:862=msisdn:861"), "LINK_SEPARATED")
	check("reconcile", h.unlink(t, &rapportv1.IdentityUnlink{A: "msisdn:862", B: "1", Action: reconcile}),
		"changed [msisdn:862*] [customer:1*, msisdn:861, cookie:c, cookie:d, cookie:e]")

	recycled, err := h.profiles().RecycleIdentities(ctx, connect.NewRequest(&rapportv1.RecycleIdentitiesRequest{Recyclings: []*rapportv1.IdentityRecycling{
		{Identity: "msisdn:861", Reason: "contract ended"},
		{Identity: ""},
		{Identity: "msisdn:861", Time: timestamppb.New(time.Now().Add(-time.Hour))},
	}}))
	if err != nil {
		t.Fatal(err)
	}
	check("recycle", recycled.Msg.GetResults(), "changed [customer:1*, msisdn:861 until, cookie:c, cookie:d, cookie:e] [msisdn:861*]", "LINK_INVALID", "LINK_INVALID")
	check("link", h.link(t, "2=msisdn:861"), "LINK_HOLDING")

	got, err := h.profiles().GetIdentities(ctx, connect.NewRequest(&rapportv1.GetIdentitiesRequest{Identities: []string{"cookie:c", "msisdn:861", "nobody", "Bad:1", "msisdn:unknown"}}))
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"customer:1*, msisdn:861 until, cookie:c, cookie:d, cookie:e", "msisdn:861*", "customer:nobody*", "", "msisdn:unknown*"} {
		r := got.Msg.GetResults()[i]
		if groupText(r.GetGroup()) != want || (r.GetMessage() != "") != (i >= 3) || (r.GetGroup() == nil) != (i == 3) {
			t.Errorf("resolved %v", r)
		}
	}
	if g := got.Msg.GetResults()[0].GetGroup(); g.GetEpoch() == 0 || len(g.GetLinks()) != 4 || g.GetLinks()[0].GetTime() == nil {
		t.Errorf("the group has epoch %d and links %v", g.GetEpoch(), g.GetLinks())
	}
	_, metrics := h.get(t, "/metrics")
	for _, want := range []string{
		`{op="link",result="changed"} 8`, `{op="link",result="unchanged"} 1`, `{op="link",result="invalid"} 8`, `{op="link",result="namespace_unknown"} 1`,
		`{op="link",result="namespace_full"} 2`, `{op="link",result="group_full"} 1`, `{op="link",result="weak"} 1`, `{op="link",result="blocked"} 1`,
		`{op="link",result="separated"} 1`, `{op="link",result="holding"} 1`,
		`{op="unlink",result="changed"} 2`, `{op="unlink",result="unchanged"} 2`, `{op="unlink",result="not_linked"} 1`, `{op="unlink",result="invalid"} 1`,
		`{op="separate",result="changed"} 1`, `{op="separate",result="joined"} 1`, `{op="reconcile",result="changed"} 1`, `{op="recycle",result="changed"} 1`,
	} {
		if !strings.Contains(metrics, "rapport_identity_changes_total"+want+"\n") {
			t.Errorf("no metric %s in\n%s", want, metrics[strings.Index(metrics, "rapport_identity"):][:2000])
		}
	}
}

// TestIdentityBatches: a request has at most 1,000 changes; resolving answers GET.
func TestIdentityBatches(t *testing.T) {
	h := newLinkedHouse(t)
	pairs := make([]string, 1000)
	for i := range pairs {
		pairs[i] = fmt.Sprintf("c%d=msisdn:%d", i, 1000+i)
	}
	for i, r := range h.link(t, pairs...) {
		if got := resultText(r); got != fmt.Sprintf("changed [customer:c%d*, msisdn:%d]", i, 1000+i) {
			t.Fatalf("link %d: %s", i, got)
		}
	}
	_, err := h.profiles().LinkIdentities(context.Background(), connect.NewRequest(&rapportv1.LinkIdentitiesRequest{Links: make([]*rapportv1.IdentityLink, 1001)}))
	if connect.CodeOf(err) != connect.CodeInvalidArgument || errorReason(err) != "INVALID_ARGUMENT" {
		t.Errorf("1,001 links: %v", err)
	}
	if _, err := h.profiles().RecycleIdentities(context.Background(), connect.NewRequest(&rapportv1.RecycleIdentitiesRequest{})); connect.CodeOf(err) != connect.CodeInvalidArgument {
		t.Errorf("no recyclings: %v", err)
	}
	status, body := h.get(t, "/rapport.v1.ProfileService/GetIdentities?connect=v1&encoding=json&message="+url.QueryEscape(`{"identities":["msisdn:1999"]}`))
	if status != http.StatusOK || !strings.Contains(body, `"customer":"customer:c999"`) {
		t.Errorf("GET: %d %s", status, body)
	}
}

// TestProfileOfLinked: profile and decision are those of the customer, whichever
// identity is named, and say which customer that is.
func TestProfileOfLinked(t *testing.T) {
	h := newLinkedHouse(t)
	ctx := context.Background()
	get := func(identity string) *rapportv1.GetProfileResponse {
		p, err := h.profiles().GetProfile(ctx, connect.NewRequest(&rapportv1.GetProfileRequest{Customer: identity}))
		if err != nil {
			t.Fatal(err)
		}
		return p.Msg
	}
	if p := get("msisdn:861"); p.GetKnown() || groupText(p.GetGroup()) != "msisdn:861*" || p.GetGroup().GetEpoch() != 0 {
		t.Errorf("before: %v", p)
	}
	if r := h.decide(t, "msisdn:861", "web.home"); slate(r) != "magazine " || r.GetProfile().GetCustomer() != "" || r.GetProfile().GetIdentityEpoch() != 0 {
		t.Errorf("before: %v", r)
	}
	h.link(t, "1=msisdn:861")
	p := get("msisdn:861")
	if !p.GetKnown() || p.GetCustomer() != "msisdn:861" || groupText(p.GetGroup()) != "customer:1*, msisdn:861" {
		t.Errorf("linked: %v", p)
	}
	if f := p.GetFields()[0]; f.GetNumber() != 3.5 || f.GetIdentity() != "customer:1" {
		t.Errorf("the balance is %v", f)
	}
	r := h.decide(t, "msisdn:861", "web.home")
	use := r.GetProfile()
	if slate(r) != "top_up data_10g " || !use.GetKnown() || use.GetCustomer() != "customer:1" || use.GetIdentityEpoch() != p.GetGroup().GetEpoch() || use.GetIdentityEpoch() == 0 {
		t.Errorf("linked: %v", r)
	}
	if use := h.decide(t, "1", "web.home").GetProfile(); use.GetCustomer() != "" || use.GetIdentityEpoch() != p.GetGroup().GetEpoch() {
		t.Errorf("by its own name: %v", use)
	}
	h.unlink(t, &rapportv1.IdentityUnlink{A: "1", B: "msisdn:861"})
	if p := get("msisdn:861"); p.GetKnown() || p.GetGroup().GetEpoch() <= use.GetIdentityEpoch() {
		t.Errorf("unlinked: %v", p)
	}
}

// TestBlockedIdentity: a decision for an identity that means nobody is that of a
// customer of whom nothing is known, though a file has a row for it, and links made
// before it was blocked can be taken back.
func TestBlockedIdentity(t *testing.T) {
	h := newLinkedHouse(t)
	for _, touchpoint := range []string{"web.home", "sms.push"} {
		r := h.decide(t, "msisdn:Unknown", touchpoint)
		unknown := h.decide(t, "msisdn:nobody", touchpoint)
		if slate(r) != slate(unknown) || !r.GetProfile().GetBlocked() || r.GetProfile().GetKnown() || len(r.GetProfile().GetSnapshots()) > 0 || r.GetRankedBy().GetName() != unknown.GetRankedBy().GetName() || len(r.GetDegradations()) != len(unknown.GetDegradations()) {
			t.Errorf("%s: %v, but for one of whom nothing is known %v", touchpoint, r, unknown)
		}
	}
	p, err := h.profiles().GetProfile(context.Background(), connect.NewRequest(&rapportv1.GetProfileRequest{Customer: "msisdn:unknown"}))
	if err != nil || p.Msg.GetKnown() || p.Msg.GetBlocked() == "" || groupText(p.Msg.GetGroup()) != "msisdn:unknown*" {
		t.Errorf("%v, %v", p, err)
	}
	e, err := h.profiles().IngestEvents(context.Background(), connect.NewRequest(&rapportv1.IngestEventsRequest{Events: []*rapportv1.Event{
		{Id: "1", Type: "balance", Identity: "msisdn:0", Time: timestamppb.Now()},
	}}))
	if err != nil || len(e.Msg.GetRefused()) != 1 || !strings.Contains(e.Msg.GetRefused()[0].GetMessage(), "means nobody") {
		t.Errorf("%v, %v", e, err)
	}

	h.link(t, "1=msisdn:private")
	h.stop()
	if _, _, err := server.InstallSchema(h.dir, "schema.yaml", []byte(strings.Replace(namespacesYAML, "unknown]", "unknown, private]", 1)+schemaYAML)); err != nil {
		t.Fatal(err)
	}
	h = open(t, h.dir, nil)
	if got := resultText(h.link(t, "2=msisdn:private")[0]); got != "LINK_BLOCKED" {
		t.Errorf("blocked since: %s", got)
	}
	if got := resultText(h.unlink(t, &rapportv1.IdentityUnlink{A: "1", B: "msisdn:private"})[0]); got != "changed [customer:1*] [msisdn:private*]" {
		t.Errorf("taken back: %s", got)
	}
}

// TestShareFollowsCustomer: under whatever identity a customer comes, the same version
// ranks. Identities that mean nobody are many people, and on both sides.
func TestShareFollowsCustomer(t *testing.T) {
	h := newLinkedHouse(t)
	if _, err := h.publish(rivals(4)); err != nil {
		t.Fatal(err)
	}
	h.upload(t, module(t, "2.0.0", equalValues), nil)
	h.put(t, "2.0.0", share, 50)
	const customers = 60
	in := func(identity string, seed uint64) bool {
		return h.ask(t, question(identity, seed)).GetRankedBy().GetVersion() == "2.0.0"
	}
	var own, others [customers]bool
	var links []string
	apart, changed := 0, 0
	for i := range customers {
		own[i], others[i] = in(fmt.Sprintf("c%d", i), 1), in(fmt.Sprintf("msisdn:%d", i+1), 1)
		if own[i] != others[i] {
			apart++
		}
		links = append(links, fmt.Sprintf("c%d=msisdn:%d", i, i+1), fmt.Sprintf("msisdn:%d=cookie:%d", i+1, i))
	}
	h.link(t, links...)
	for i := range customers {
		a, b, c := in(fmt.Sprintf("c%d", i), 1), in(fmt.Sprintf("msisdn:%d", i+1), 2), in(fmt.Sprintf("cookie:%d", i), 3)
		if a != own[i] || b != a || c != a {
			t.Errorf("customer %d: in the share %v, by number %v, by cookie %v, before it was linked %v", i, a, b, c, own[i])
		}
		if b != others[i] {
			changed++
		}
	}
	nobody := 0
	for seed := range uint64(customers) {
		if in("msisdn:0", seed) {
			nobody++
		}
	}
	t.Logf("of %d customers, %d were on the other side by their number before it was linked; of %d decisions for nobody, %d were in the share", customers, apart, customers, nobody)
	if apart < customers/5 || changed != apart {
		t.Errorf("%d were apart, %d have changed: the test shows nothing", apart, changed)
	}
	if nobody < customers/5 || nobody > customers*4/5 {
		t.Errorf("%d of %d decisions for nobody are in a share of 50%%", nobody, customers)
	}
}

// TestIdentityAudit: what takes something away is recorded before it is done, or not
// done; links are not recorded, and need no record.
func TestIdentityAudit(t *testing.T) {
	dir := newDataOf(t, namespacesYAML+schemaYAML)
	name := filepath.Join(dir, "audit", "000001.ndjson")
	if err := os.WriteFile(name, []byte(strings.Repeat("so large that a new file is begun\n", 200_000)), 0o600); err != nil {
		t.Fatal(err)
	}
	h := open(t, dir, nil)
	next := filepath.Join(dir, "audit", "000002.ndjson")
	if err := os.Mkdir(next, 0o700); err != nil {
		t.Fatal(err)
	}
	if got := resultText(h.link(t, "1=msisdn:861")[0]); got != "changed [customer:1*, msisdn:861]" {
		t.Errorf("a link: %s", got)
	}
	ctx := context.Background()
	unlink := connect.NewRequest(&rapportv1.UnlinkIdentitiesRequest{Unlinks: []*rapportv1.IdentityUnlink{
		{A: "1", B: "msisdn:861", Reason: "wrong number"}, {A: "1", B: "msisdn:861"}, {A: "1", B: "1"}, {A: "2", B: "Bad:1"},
	}})
	recycle := connect.NewRequest(&rapportv1.RecycleIdentitiesRequest{Recyclings: []*rapportv1.IdentityRecycling{{Identity: "msisdn:861"}}})
	if _, err := h.profiles().UnlinkIdentities(ctx, unlink); errorReason(err) != "AUDIT_FAILED" {
		t.Errorf("without a record: %v", err)
	}
	if _, err := h.profiles().RecycleIdentities(ctx, recycle); errorReason(err) != "AUDIT_FAILED" {
		t.Errorf("without a record: %v", err)
	}
	if got := resultText(h.link(t, "1=msisdn:861")[0]); got != "unchanged [customer:1*, msisdn:861]" {
		t.Errorf("after what could not be recorded: %s", got)
	}
	if err := os.Remove(next); err != nil {
		t.Fatal(err)
	}
	if _, err := h.profiles().UnlinkIdentities(ctx, unlink); err != nil {
		t.Error(err)
	}
	if _, err := h.profiles().RecycleIdentities(ctx, recycle); err != nil {
		t.Error(err)
	}
	if got := h.unlink(t, &rapportv1.IdentityUnlink{A: "1", B: "Bad:1"}); got[0].GetReason() != "LINK_INVALID" {
		t.Errorf("%v", got)
	}
	records, err := os.ReadFile(next)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		`"action":"identity unlink","subject":"identity",`, `"after":"unlink customer:1 and msisdn:861: wrong number; unlink customer:1 and msisdn:861; unlink customer:1 and customer:1"}`,
		`"failure":"1 of 3 refused, the first: customer:1 is given twice`,
		`"action":"identity recycle","subject":"identity/msisdn:861",`, `"after":"recycle msisdn:861"}`,
	}
	for _, text := range want {
		if !strings.Contains(string(records), text) {
			t.Errorf("no %s in\n%s", text, records)
		}
	}
	if n := strings.Count(string(records), "\n"); n != 3 {
		t.Errorf("%d records:\n%s", n, records)
	}
}
