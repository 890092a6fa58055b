package server_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"rapport/profilestore"
	"rapport/server"
	rapportv1 "rapport/server/api/rapport/v1"
)

// recordAll sends reports in one call.
func (h *house) recordAll(t testing.TB, reports ...*rapportv1.OutcomeReport) *rapportv1.RecordOutcomesResponse {
	t.Helper()
	res, err := h.decisions().RecordOutcomes(context.Background(), connect.NewRequest(&rapportv1.RecordOutcomesRequest{Reports: reports}))
	if err != nil {
		t.Fatal(err)
	}
	return res.Msg
}

// TestLateOutcomes: who says yes days after a message makes no second contact of it, when
// the store has forgotten the ids of the first report's events; and a yes with its time
// counts once.
func TestLateOutcomes(t *testing.T) {
	h := newLimits(t)
	const ago = 10 * 24 * time.Hour
	res := h.decide(t, "1", "sms.push")
	token, err := h.server.AgeToken(res.GetSlate()[0].GetToken(), ago)
	if err != nil {
		t.Fatal(err)
	}
	at := res.GetTime().AsTime().Add(-ago)
	yes := at.Add(3 * 24 * time.Hour)
	about := map[string]any{"channel": "sms", "touchpoint": "sms.push", "offer": "pack", "group": "data", "class": "marketing"}
	contact := interaction(t, "forgotten", "1", profilestore.ContactEvent, 0, about)
	contact.Time = timestamppb.New(at)
	about["outcome"] = "accepted"
	accepted := interaction(t, "forgotten too", "1", profilestore.OutcomeEvent, 0, about)
	accepted.Time = timestamppb.New(yes)
	h.send(t, contact, accepted)
	for i, want := range []struct {
		outcome             string
		time                time.Time
		accepted, duplicate int32
	}{
		{"accepted", yes, 0, 1},
		{"clicked", yes, 1, 0},
		{"clicked", yes, 0, 1},
		{"rejected", time.Time{}, 1, 0},
	} {
		report := &rapportv1.OutcomeReport{Token: token, Outcome: want.outcome}
		if !want.time.IsZero() {
			report.Time = timestamppb.New(want.time)
		}
		r := h.recordAll(t, report)
		if r.GetAccepted() != want.accepted || r.GetDuplicates() != want.duplicate {
			t.Errorf("report %d, %s: %v", i, want.outcome, r)
		}
	}
	if x := h.timeline(t, &rapportv1.GetTimelineRequest{Customer: "1"}); x.GetContacts() != 1 || x.GetOutcomes() != 3 {
		t.Errorf("%d contacts, %d outcomes, want 1 and 3", x.GetContacts(), x.GetOutcomes())
	}
	old, err := h.server.AgeToken(token, 81*24*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if r := h.report(t, old, "accepted"); len(r.GetRefused()) != 1 || r.GetRefused()[0].GetReason() != "TOKEN_EXPIRED" {
		t.Errorf("after 91 days: %v", r)
	}
}

// TestManyOutcomes: as many reports as a call may have fit into it, and what is refused
// among them is in their order.
func TestManyOutcomes(t *testing.T) {
	h := newLimits(t)
	token := h.decide(t, "1", "sms.push").GetSlate()[0].GetToken()
	reports := make([]*rapportv1.OutcomeReport, 1000)
	for i := range reports {
		reports[i] = &rapportv1.OutcomeReport{Token: token, Outcome: fmt.Sprintf("step_%d", i/2)}
		if i%100 == 99 {
			reports[i].Token = "x"
		}
	}
	r := h.recordAll(t, reports...)
	if r.GetAccepted() != 500 || r.GetDuplicates() != 490 || len(r.GetRefused()) != 10 {
		t.Errorf("%d accepted, %d duplicate, %d refused", r.GetAccepted(), r.GetDuplicates(), len(r.GetRefused()))
	}
	for i, x := range r.GetRefused() {
		if int(x.GetIndex()) != 100*i+99 {
			t.Errorf("refused %d is report %d", i, x.GetIndex())
		}
	}
}

// TestListsAreInNoHurry: a deadline that is too short for a profile on disk is one for
// somebody who waits in a channel, and not for a list.
func TestListsAreInNoHurry(t *testing.T) {
	h := newLimits(t)
	h.stop()
	h = open(t, h.dir, func(c *server.Config) { c.Deadline = time.Microsecond })
	if res := h.insist(t, "1", "web.home"); len(res.GetDegradations()) == 0 {
		t.Fatalf("a microsecond was enough: %v", res)
	}
	stream, err := h.decisions().DecideStream(context.Background(), connect.NewRequest(&rapportv1.DecideStreamRequest{
		Customers: []string{"1", "2"}, Question: &rapportv1.DecideManyRequest{At: []*rapportv1.DecideAt{{Touchpoint: "sms.push"}}},
	}))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stream.Close() }()
	reached := 0
	for stream.Receive() {
		for _, d := range stream.Msg().GetDecision().GetDecisions() {
			reached += len(d.GetSlate())
			if len(d.GetDegradations()) > 0 {
				t.Errorf("customer %s: %v", stream.Msg().GetCustomer(), d.GetDegradations())
			}
		}
	}
	if err := stream.Err(); err != nil || reached != 2 {
		t.Errorf("%d were reached: %v", reached, err)
	}
}

// TestResentOutcomes: a report without a time counts once also when it is sent again after
// the store has forgotten its id; the same outcome of another message counts too.
func TestResentOutcomes(t *testing.T) {
	h, clock := newLimitsAt(t)
	token := func() string {
		t.Helper()
		res := h.decide(t, "1", "sms.push")
		if len(res.GetSlate()) == 0 {
			t.Fatalf("nothing was offered: %v", res)
		}
		return res.GetSlate()[0].GetToken()
	}
	first := token()
	h.report(t, first, "delivered") // with the decision
	clock.add(90 * time.Millisecond)
	h.report(t, first, "presented") // in its second
	clock.add(5*time.Hour + 123_457*time.Microsecond)
	h.report(t, first, "clicked")
	second := token()
	clock.add(70*time.Hour + 999*time.Millisecond)
	h.report(t, first, "accepted")
	clock.add(77 * time.Hour)
	for _, outcome := range []string{"delivered", "presented", "clicked", "accepted"} {
		if r := h.report(t, first, outcome); r.GetDuplicates() != 1 {
			t.Errorf("%s, sent again: %v", outcome, r)
		}
		if r := h.report(t, second, outcome); r.GetAccepted() != 1 {
			t.Errorf("%s of the second message: %v", outcome, r)
		}
	}
	if x := h.timeline(t, &rapportv1.GetTimelineRequest{Customer: "1"}); x.GetContacts() != 2 || x.GetOutcomes() != 8 {
		t.Errorf("%d contacts, %d outcomes, want 2 and 8", x.GetContacts(), x.GetOutcomes())
	}
}

// TestOutcomesFromTheFuture: nothing is recorded of a report that is refused.
func TestOutcomesFromTheFuture(t *testing.T) {
	h := newLimits(t)
	token := h.decide(t, "1", "sms.push").GetSlate()[0].GetToken()
	r := h.recordAll(t, &rapportv1.OutcomeReport{Token: token, Outcome: "accepted", Time: timestamppb.New(time.Now().Add(time.Hour))})
	if len(r.GetRefused()) != 1 || r.GetRefused()[0].GetReason() != "EVENT_REFUSED" {
		t.Errorf("an outcome in an hour: %v", r)
	}
	if x := h.timeline(t, &rapportv1.GetTimelineRequest{Customer: "1"}); x.GetContacts() != 0 {
		t.Errorf("%d contacts were recorded", x.GetContacts())
	}
}
