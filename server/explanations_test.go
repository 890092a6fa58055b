package server_test

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"rapport/server"
	rapportv1 "rapport/server/api/rapport/v1"
	"rapport/server/api/rapport/v1/rapportv1connect"
)

const explainedSchema = `
namespaces:
  - {id: customer}
  - {id: msisdn, max: 2, blocked: [anonymous]}
sources:
  - {id: bi, description: business intelligence}
  - {id: crm}
fields:
  - {name: value.balance, type: number, batch: bi, decimals: 2}
  - {name: usage.data_mb, type: counter, batch: bi, decimals: 3, events: {on: 'event.type == "data_session"', add: event.mb}}
  - {name: tag.vip, type: flag, batch: crm}
  - {name: general.name, type: text, personal: true, events: {on: 'event.type == "named"', set: event.name}}
`

const explainedCatalog = `
context: [{name: willing, type: flag}]
channels:
  - {id: web, direction: inbound}
  - {id: sms, direction: outbound}
touchpoints:
  - {id: web.home, channel: web, slots: 2}
  - {id: sms.push, channel: sms}
offers:
  - {id: hello, group: care, class: service, value: 100, propensity: {start: 0.9}, eligible: 'profile.general.name != "Nobody"', treatments: [{channel: web, content: "Dear {{profile.general.name}}"}]}
  - {id: data_10g, group: data, class: marketing, value: 30, propensity: {start: 0.1}, boost: 50, eligible: profile.usage.data_mb > 5000, treatments: [{channel: web, content: 10 GB more}, {channel: sms, content: 10 GB}]}
  - {id: data_20g, group: data, class: marketing, value: 50, propensity: {start: 0.1}, eligible: profile.usage.data_mb > 5000, treatments: [{channel: web, content: 20 GB more}]}
  - {id: vip_line, group: care, class: care, value: 1, propensity: {start: 0.5}, eligible: profile.tag.vip && context.willing, treatments: [{channel: web, content: Your own line}]}
  - {id: magazine, group: value_added, class: marketing, value: 2, propensity: {start: 0.2}, treatments: [{channel: web, content: Read on}]}
  - {id: atlas, group: value_added, class: marketing, value: 1, propensity: {start: 0.2}, treatments: [{channel: web, content: See on}]}
scenarios:
  - {id: inbound, touchpoints: [web.home], strategy: {name: pvcl}}
  - {id: outbound, touchpoints: [sms.push], offers: [data_10g]}
contact_policies:
  - {id: once, channels: [sms], classes: [marketing], count: contact, max: 1, within: 7d}
`

// newExplained serves customers 1 to 3, the first of whom has a name and a second
// identity.
func newExplained(t *testing.T) *house {
	t.Helper()
	h := open(t, newDataOf(t, explainedSchema), nil)
	ctx := context.Background()
	for _, source := range []string{"bi", "crm"} {
		if _, err := h.snapshots().ActivateSnapshot(ctx, connect.NewRequest(&rapportv1.ActivateSnapshotRequest{Source: source, Generation: 1})); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := h.publish(explainedCatalog); err != nil {
		t.Fatal(err)
	}
	h.name(t, "customer:1", "Li Xiaolong")
	return h
}

// name gives a customer a name.
func (h *house) name(t testing.TB, customer, name string) {
	t.Helper()
	r, err := h.profiles().IngestEvents(context.Background(), connect.NewRequest(&rapportv1.IngestEventsRequest{Events: []*rapportv1.Event{{
		Id: "name-" + name, Type: "named", Identity: customer, Time: timestamppb.Now(), Attributes: &structpb.Struct{Fields: contextOf(t, map[string]any{"name": name})},
	}}}))
	if err != nil || len(r.Msg.GetRefused()) > 0 {
		t.Fatal(r, err)
	}
}

func (h *house) explain(t testing.TB, m *rapportv1.ExplainDecisionRequest) *rapportv1.ExplainDecisionResponse {
	t.Helper()
	res, err := h.decisions().ExplainDecision(context.Background(), connect.NewRequest(m))
	if err != nil {
		t.Fatal(err)
	}
	return res.Msg
}

func (h *house) notExplained(t testing.TB, m *rapportv1.ExplainDecisionRequest, code connect.Code, words ...string) {
	t.Helper()
	_, err := h.decisions().ExplainDecision(context.Background(), connect.NewRequest(m))
	if connect.CodeOf(err) != code {
		t.Errorf("explaining %v: %v, want %s", m, err, code)
		return
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("explaining %v: %q has nothing of %q", m, err, w)
		}
	}
}

// cause returns the cause of an offer.
func cause(t testing.TB, at *rapportv1.ExplainedTouchpoint, offer string) *rapportv1.ExplainedCause {
	t.Helper()
	i := slices.IndexFunc(at.GetCauses(), func(c *rapportv1.ExplainedCause) bool { return slices.Contains(c.GetOffers(), offer) })
	if i < 0 {
		t.Fatalf("%s has no cause: %v", offer, at.GetCauses())
	}
	return at.GetCauses()[i]
}

func TestExplainDecision(t *testing.T) {
	h := newExplained(t)
	d := h.decide(t, "2", "web.home") // of whom no name is known, and who uses little
	x := h.explain(t, &rapportv1.ExplainDecisionRequest{DecisionId: strings.ToLower(d.GetDecisionId())})
	if !x.GetVerified() || x.GetInexact() != "" || len(x.GetDifferences()) > 0 {
		t.Errorf("not verified: %s %q", x.GetInexact(), x.GetDifferences())
	}
	if x.GetDecisionId() != d.GetDecisionId() || !x.GetTime().AsTime().Equal(d.GetTime().AsTime()) || x.GetSeed() != d.GetSeed() || x.GetCatalogVersion() != 1 {
		t.Errorf("it is another decision: %v", x)
	}
	if !proto.Equal(x.GetProfile(), d.GetProfile()) || !x.GetProfileRead() {
		t.Errorf("profile %v, want %v", x.GetProfile(), d.GetProfile())
	}
	at := x.GetAt()[0]
	if !proto.Equal(at.GetFunnel(), d.GetFunnel()) {
		t.Errorf("funnel %v, want %v", at.GetFunnel(), d.GetFunnel())
	}
	if c := cause(t, at, "data_10g"); c.GetWhy() != "usage.data_mb = 10.25, needs > 5000" || c.GetCandidates() != 2 || c.GetOffers()[1] != "data_20g" || c.GetCondition() != "profile.usage.data_mb > 5000.0" {
		t.Errorf("data_10g: %v", c)
	}
	if c := cause(t, at, "hello"); c.GetReason() != rapportv1.Reason_REASON_UNKNOWN || c.GetWhy() != `general.name is unknown (no event has set it), needs anything but "Nobody"` {
		t.Errorf("hello: %v", c)
	}
	if c := cause(t, at, "vip_line"); c.GetWhy() != "tag.vip = false, needs true" {
		t.Errorf("vip_line: %v", c)
	}
	if n := len(at.GetRanked()); n != 2 || at.GetRanked()[0].GetOffer() != "magazine" || at.GetRanked()[0].GetRank() != 1 {
		t.Errorf("ranked: %v", at.GetRanked())
	}
	if len(x.GetContext()) != 1 || x.GetContext()[0].GetKnown() || x.GetContext()[0].GetMissing() == "" {
		t.Errorf("context: %v", x.GetContext())
	}

	// One who uses much has more than the slots.
	d = h.decide(t, "3", "web.home")
	at = h.explain(t, &rapportv1.ExplainDecisionRequest{DecisionId: d.GetDecisionId(), Limit: 1}).GetAt()[0]
	if len(at.GetRanked()) != 2 || at.GetMoreRanked() != 2 {
		t.Errorf("with a limit of 1, ranked: %v and %d more", at.GetRanked(), at.GetMoreRanked())
	}
	if x := h.explain(t, &rapportv1.ExplainDecisionRequest{DecisionId: d.GetDecisionId(), Limit: 1, All: true}).GetAt()[0]; len(x.GetRanked()) != 4 || x.GetMoreRanked() != 0 || x.GetMoreCauses() != 0 {
		t.Errorf("all: %v", x)
	}
	at = h.explain(t, &rapportv1.ExplainDecisionRequest{DecisionId: d.GetDecisionId(), Offer: "magazine"}).GetAt()[0]
	if len(at.GetRanked()) != 1 || len(at.GetCauses()) != 0 || len(at.GetSlate()) != 0 || !strings.HasPrefix(at.GetRanked()[0].GetWhy(), "rank 3 of 4, ") || !strings.HasSuffix(at.GetRanked()[0].GetWhy(), " less than data_10g, the last on the slate") {
		t.Errorf("magazine: %v", at)
	}
	at = h.explain(t, &rapportv1.ExplainDecisionRequest{DecisionId: d.GetDecisionId(), Offer: "data_10g"}).GetAt()[0]
	if b := at.GetRanked()[0].GetBoosts(); len(b) != 1 || b[0].GetOf() != "offer data_10g" || b[0].GetPercent() != 50 || at.GetSlate()[0].GetProbability() != 1 {
		t.Errorf("data_10g: %v", at)
	}
	if c := cause(t, h.explain(t, &rapportv1.ExplainDecisionRequest{DecisionId: d.GetDecisionId(), All: true}).GetAt()[0], "hello"); c.GetReads()[0].GetKnown() {
		t.Errorf("hello: %v", c)
	}
}

func TestExplainCapped(t *testing.T) {
	h := newExplained(t)
	first := h.decide(t, "3", "sms.push")
	d := h.decide(t, "3", "sms.push")
	c := cause(t, h.explain(t, &rapportv1.ExplainDecisionRequest{DecisionId: d.GetDecisionId()}).GetAt()[0], "data_10g")
	at := first.GetTime().AsTime()
	want := "contact policy once allows 1 contact within 7d; counted: " + at.Format(time.RFC3339) + " (promised, not reported yet), until " + at.Add(7*24*time.Hour).Format(time.RFC3339)
	if c.GetReason() != rapportv1.Reason_REASON_CAPPED || c.GetWhy() != want || c.GetBy() != "once" || len(c.GetCounted()) != 1 || !c.GetCounted()[0].GetTime().AsTime().Equal(at) || !c.GetCounted()[0].GetPending() {
		t.Errorf("%v\nwant %s", c, want)
	}
}

// What is personal is hidden, wherever it could be seen.
func TestExplainMasked(t *testing.T) {
	h := newExplained(t)
	h.link(t, "msisdn:8613800138000=customer:1")
	d := h.decide(t, "msisdn:8613800138000", "web.home")
	if d.GetSlate()[0].GetContent() != "Dear Li Xiaolong" {
		t.Fatalf("the slate is %v", d.GetSlate())
	}
	x := h.explain(t, &rapportv1.ExplainDecisionRequest{DecisionId: d.GetDecisionId(), All: true})
	if text := x.String(); strings.Contains(text, "Xiaolong") || strings.Contains(text, "8613800138000") || strings.Contains(text, "customer:1") {
		t.Errorf("a personal value is shown: %s", text)
	}
	if !x.GetMasked() || !x.GetVerified() || x.GetIdentity() != "msisdn:86•••" || x.GetCustomer() != "customer:•••" || x.GetAt()[0].GetSlate()[0].GetContent() != "Dear {{profile.general.name}}" {
		t.Errorf("masked it is %v", x)
	}
	list, err := h.decisions().ListDecisions(context.Background(), connect.NewRequest(&rapportv1.ListDecisionsRequest{Customer: "1"}))
	if err != nil || len(list.Msg.GetDecisions()) != 1 || list.Msg.GetDecisions()[0].GetCustomer() != "customer:•••" {
		t.Errorf("the list is %v, %v", list, err)
	}
	h.notExplained(t, &rapportv1.ExplainDecisionRequest{DecisionId: d.GetDecisionId(), Reveal: true}, connect.CodePermissionDenied, "--reveal-personal")
	if _, err := h.decisions().ListDecisions(context.Background(), connect.NewRequest(&rapportv1.ListDecisionsRequest{Reveal: true})); connect.CodeOf(err) != connect.CodePermissionDenied {
		t.Errorf("a list that reveals: %v", err)
	}
	h.stop()

	h = open(t, h.dir, func(c *server.Config) { c.RevealPersonal = true })
	x = h.explain(t, &rapportv1.ExplainDecisionRequest{DecisionId: d.GetDecisionId(), Reveal: true})
	if x.GetMasked() || x.GetIdentity() != "msisdn:8613800138000" || x.GetCustomer() != "customer:1" || x.GetAt()[0].GetSlate()[0].GetContent() != "Dear Li Xiaolong" {
		t.Errorf("revealed it is %v", x)
	}
	audit := rapportv1connect.NewAuditServiceClient(http.DefaultClient, h.url)
	log, err := audit.ListAuditRecords(context.Background(), connect.NewRequest(&rapportv1.ListAuditRecordsRequest{Subject: "decision"}))
	if err != nil || len(log.Msg.GetRecords()) != 1 || log.Msg.GetRecords()[0].GetSubject() != "decision/"+d.GetDecisionId() {
		t.Errorf("the audit log has %v, %v", log, err)
	}
	// A name that a rule found wanting.
	h.name(t, "customer:2", "Nobody")
	d = h.decide(t, "2", "web.home")
	if c := cause(t, h.explain(t, &rapportv1.ExplainDecisionRequest{DecisionId: d.GetDecisionId()}).GetAt()[0], "hello"); c.GetWhy() != `general.name = •••, needs anything but "Nobody"` || !c.GetReads()[0].GetMasked() {
		t.Errorf("hello: %v", c)
	}
	if c := cause(t, h.explain(t, &rapportv1.ExplainDecisionRequest{DecisionId: d.GetDecisionId(), Reveal: true}).GetAt()[0], "hello"); c.GetWhy() != `general.name = "Nobody", needs anything but "Nobody"` {
		t.Errorf("hello, revealed: %v", c)
	}
}

// Decisions are found by customer, under any name that the customer has or had.
func TestDecisionsOfCustomer(t *testing.T) {
	h := newExplained(t)
	before := h.decide(t, "msisdn:8613800138000", "web.home") // whoever that is
	<-time.After(2 * time.Millisecond)                        // ids have milliseconds
	sms := h.decide(t, "1", "sms.push")
	<-time.After(2 * time.Millisecond) // ids have milliseconds
	last := h.decide(t, "1", "web.home")
	h.link(t, "msisdn:8613800138000=customer:1")
	h.decide(t, "3", "web.home")
	list := func(m *rapportv1.ListDecisionsRequest) (ids []string) {
		t.Helper()
		res, err := h.decisions().ListDecisions(context.Background(), connect.NewRequest(m))
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range res.Msg.GetDecisions() {
			ids = append(ids, d.GetDecisionId())
		}
		return ids
	}
	all := []string{last.GetDecisionId(), sms.GetDecisionId(), before.GetDecisionId()}
	for _, name := range []string{"1", "msisdn:8613800138000"} {
		if got := list(&rapportv1.ListDecisionsRequest{Customer: name}); !slices.Equal(got, all) {
			t.Errorf("of %s: %v, want %v", name, got, all)
		}
	}
	if got := list(&rapportv1.ListDecisionsRequest{Customer: "1", Limit: 2}); !slices.Equal(got, all[:2]) {
		t.Errorf("the latest two: %v, want %v", got, all[:2])
	}
	if got := list(&rapportv1.ListDecisionsRequest{Customer: "1", Until: timestamppb.New(last.GetTime().AsTime().Truncate(time.Millisecond))}); !slices.Equal(got, all[1:]) {
		t.Errorf("before the last: %v, want %v", got, all[1:])
	}
	if got := list(&rapportv1.ListDecisionsRequest{}); len(got) != 4 {
		t.Errorf("all: %v", got)
	}
	for _, c := range []struct {
		m    *rapportv1.ExplainDecisionRequest
		want string
	}{
		{&rapportv1.ExplainDecisionRequest{Customer: "1"}, last.GetDecisionId()},
		{&rapportv1.ExplainDecisionRequest{Customer: "1", Touchpoint: "sms.push"}, sms.GetDecisionId()},
		{&rapportv1.ExplainDecisionRequest{Customer: "1", Time: sms.GetTime()}, sms.GetDecisionId()},
		{&rapportv1.ExplainDecisionRequest{Customer: "1", Time: sms.GetTime(), Touchpoint: "web.home"}, before.GetDecisionId()},
	} {
		if x := h.explain(t, c.m); x.GetDecisionId() != c.want || !x.GetVerified() {
			t.Errorf("%v is %s, want %s", c.m, x.GetDecisionId(), c.want)
		}
	}
	h.notExplained(t, &rapportv1.ExplainDecisionRequest{Customer: "1", Time: timestamppb.New(before.GetTime().AsTime().Add(-time.Second))}, connect.CodeNotFound, "rapport decision list")
	h.notExplained(t, &rapportv1.ExplainDecisionRequest{Customer: "2"}, connect.CodeNotFound, "none for 2")
	h.notExplained(t, &rapportv1.ExplainDecisionRequest{Customer: "msisdn:anonymous"}, connect.CodeInvalidArgument, "means nobody")
}

func TestExplainMistakes(t *testing.T) {
	h := newExplained(t)
	id := h.decide(t, "1", "web.home").GetDecisionId()
	for _, c := range []struct {
		m     *rapportv1.ExplainDecisionRequest
		code  connect.Code
		words string
	}{
		{&rapportv1.ExplainDecisionRequest{}, connect.CodeInvalidArgument, "give the id of a decision, or a customer"},
		{&rapportv1.ExplainDecisionRequest{DecisionId: "X"}, connect.CodeInvalidArgument, "26 letters and digits"},
		{&rapportv1.ExplainDecisionRequest{DecisionId: id, Customer: "1"}, connect.CodeInvalidArgument, "not both"},
		{&rapportv1.ExplainDecisionRequest{DecisionId: id, Time: timestamppb.Now()}, connect.CodeInvalidArgument, "goes with a customer"},
		{&rapportv1.ExplainDecisionRequest{DecisionId: id, Touchpoint: "sms.push"}, connect.CodeInvalidArgument, "did not answer for sms.push"},
		{&rapportv1.ExplainDecisionRequest{DecisionId: id, Offer: "nothing"}, connect.CodeInvalidArgument, "nothing was no candidate"},
		{&rapportv1.ExplainDecisionRequest{DecisionId: "01ARZ3NDEKTSV4RRFFQ69G5FAV"}, connect.CodeNotFound, "no longer kept"},
		{&rapportv1.ExplainDecisionRequest{DecisionId: id[:25] + map[bool]string{true: "0", false: "1"}[id[25] != '0']}, connect.CodeNotFound, "dry run"},
		{&rapportv1.ExplainDecisionRequest{Customer: "a:b:c:"}, connect.CodeNotFound, ""},
		{&rapportv1.ExplainDecisionRequest{Customer: ":"}, connect.CodeInvalidArgument, "namespace"},
	} {
		h.notExplained(t, c.m, c.code, c.words)
	}
	h.stop()
	h = open(t, h.dir, func(c *server.Config) { c.KeepDecisions = -1 })
	h.notExplained(t, &rapportv1.ExplainDecisionRequest{DecisionId: id}, connect.CodeFailedPrecondition, "no decisions are kept")
}
