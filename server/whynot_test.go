package server_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"rapport/server"
	rapportv1 "rapport/server/api/rapport/v1"
)

func (h *house) whyNot(t testing.TB, m *rapportv1.WhyNotRequest) *rapportv1.WhyNotResponse {
	t.Helper()
	res, err := h.decisions().WhyNot(context.Background(), connect.NewRequest(m))
	if err != nil {
		t.Fatal(err)
	}
	return res.Msg
}

// proposed writes sets of changes, one a line.
func proposed(r *rapportv1.WhyNotResponse) string {
	var b strings.Builder
	for _, set := range r.GetSets() {
		for i, c := range set.GetChanges() {
			if i > 0 {
				b.WriteString(" + ")
			}
			b.WriteString(c.GetWords())
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// TestWhyNot asks, does what is proposed, and gets the offer.
func TestWhyNot(t *testing.T) {
	h := newHouse(t)
	ask := &rapportv1.WhyNotRequest{Customer: "2", Offer: "data_10g", Touchpoint: "sms.push"}
	r := h.whyNot(t, ask)
	if got, want := proposed(r), "usage.data_mb from 10.25 to more than 5000\n"; got != want || r.GetReason() != "REASON_NOT_ELIGIBLE" || r.GetPosition() != 0 {
		t.Fatalf("%s (%s at %d), want %s", got, r.GetReason(), r.GetPosition(), want)
	}
	if to := r.GetSets()[0].GetChanges()[0].GetTo(); to != "5000.001" { // the field has three decimals
		t.Errorf("to %s", to)
	}
	if got := slate(h.decide(t, "2", "sms.push")); got != "" {
		t.Fatalf("asking had an effect: %s", got)
	}
	mb, err := structpb.NewStruct(map[string]any{"mb": 5000.001 - 10.25})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.profiles().IngestEvents(context.Background(), connect.NewRequest(&rapportv1.IngestEventsRequest{
		Events: []*rapportv1.Event{{Id: "1", Type: "data_session", Identity: "2", Time: timestamppb.Now(), Attributes: mb}},
	})); err != nil {
		t.Fatal(err)
	}
	if got := slate(h.decide(t, "2", "sms.push")); got != "data_10g " {
		t.Errorf("after what was proposed: %q", got)
	}
	if r := h.whyNot(t, ask); r.GetPosition() != 1 || len(r.GetSets()) > 0 {
		t.Errorf("now at %d, with %s", r.GetPosition(), proposed(r))
	}

	// What the request says, and a flag.
	no := map[string]*structpb.Value{"willing": structpb.NewBoolValue(false)}
	r = h.whyNot(t, &rapportv1.WhyNotRequest{Customer: "2", Offer: "vip_line", Touchpoint: "web.home", Context: no})
	if got, want := proposed(r), "context.willing from false to true + tag.vip from false to true\n"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	// The first, where a strategy ranks.
	r = h.whyNot(t, &rapportv1.WhyNotRequest{Customer: "1", Offer: "data_10g", Touchpoint: "web.home", First: true})
	if len(r.GetSets()) == 0 || !strings.Contains(proposed(r), "boost of offer data_10g") {
		t.Errorf("%+v", r)
	}
}

// TestWhyNotLimits asks about what is limited, and takes no place by asking.
func TestWhyNotLimits(t *testing.T) {
	h := newLimits(t)
	trial := func(customer string) *rapportv1.WhyNotResponse {
		return h.whyNot(t, &rapportv1.WhyNotRequest{Customer: customer, Offer: "trial", Touchpoint: "web.home"})
	}
	for i := range 5 {
		for range 3 {
			if r := trial("20"); r.GetPosition() != 2 {
				t.Fatalf("with %d places taken: %+v", i, r)
			}
		}
		h.report(t, h.decide(t, fmt.Sprint(10+i), "web.home").GetSlate()[1].GetToken(), "accepted")
	}
	r := trial("20")
	if got, want := proposed(r), "a place of capacity trials becomes free\n"; got != want || r.GetBy() != "trials" {
		t.Errorf("%s, by %s", got, r.GetBy())
	}

	// A decision that was made, and one that is not kept.
	for range 3 {
		h.report(t, h.decide(t, "1", "sms.push").GetSlate()[0].GetToken(), "clicked")
	}
	d := h.decide(t, "1", "sms.push")
	r = h.whyNot(t, &rapportv1.WhyNotRequest{DecisionId: d.GetDecisionId(), Offer: "pack"})
	if got := proposed(r); !strings.HasPrefix(got, "wait until ") || len(r.GetSets()) != 1 || r.GetReason() != "REASON_CAPPED" || r.GetBy() != "three_a_week" {
		t.Errorf("%s, %s by %s", got, r.GetReason(), r.GetBy())
	}
	if r.GetDecisionId() != d.GetDecisionId() || r.GetTouchpoint() != "sms.push" || !r.GetTime().AsTime().Equal(d.GetTime().AsTime()) {
		t.Errorf("%+v", r)
	}
	for _, c := range []struct {
		m    *rapportv1.WhyNotRequest
		code connect.Code
		says string
	}{
		{&rapportv1.WhyNotRequest{DecisionId: "01ARZ3NDEKTSV4RRFFQ69G5FAV", Offer: "pack"}, connect.CodeNotFound, "01ARZ3NDEKTSV4RRFFQ69G5FAV"},
		{&rapportv1.WhyNotRequest{DecisionId: d.GetDecisionId(), Offer: "pack", Seed: 1}, connect.CodeInvalidArgument, "leave them out"},
		{&rapportv1.WhyNotRequest{DecisionId: d.GetDecisionId(), Offer: "pakc"}, connect.CodeInvalidArgument, "did you mean pack?"},
		{&rapportv1.WhyNotRequest{Offer: "pack", Touchpoint: "sms.push"}, connect.CodeInvalidArgument, "customer"},
		{&rapportv1.WhyNotRequest{Customer: "1", Offer: "pack"}, connect.CodeInvalidArgument, "touchpoint"},
		{&rapportv1.WhyNotRequest{Customer: "1", Offer: "pack", Touchpoint: "sms.psh"}, connect.CodeInvalidArgument, "did you mean sms.push?"},
		{&rapportv1.WhyNotRequest{Customer: "1", Offer: "pack", Touchpoint: "web.home"}, connect.CodeInvalidArgument, "does not compete in scenario inbound"},
		{&rapportv1.WhyNotRequest{Customer: "1", Offer: "pack", Touchpoint: "sms.push", Reveal: true}, connect.CodePermissionDenied, "--reveal-personal"},
		{&rapportv1.WhyNotRequest{Customer: "1", Offer: "pack", Touchpoint: "sms.push", MaxChanges: 6}, connect.CodeInvalidArgument, "max_changes"},
	} {
		_, err := h.decisions().WhyNot(context.Background(), connect.NewRequest(c.m))
		if connect.CodeOf(err) != c.code || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%v: %v, want %v with %q", c.m, err, c.code, c.says)
		}
	}
	// Who asks may have gone.
	ctx, cancel := context.WithTimeout(context.Background(), time.Nanosecond)
	defer cancel()
	if _, err := h.decisions().WhyNot(ctx, connect.NewRequest(&rapportv1.WhyNotRequest{Customer: "1", Offer: "pack", Touchpoint: "sms.push"})); err == nil {
		t.Error("an answer without time for it")
	}
}

// TestWhyNotMasked: what is personal is not shown unless it is asked for and allowed.
func TestWhyNotMasked(t *testing.T) {
	schema := strings.Replace(schemaYAML, "decimals: 3,", "decimals: 3, personal: true,", 1)
	dir := newDataOf(t, schema)
	for _, allowed := range []bool{false, true} {
		h := open(t, dir, func(c *server.Config) { c.RevealPersonal = allowed })
		if !allowed {
			for _, source := range []string{"bi", "crm"} {
				if _, err := h.snapshots().ActivateSnapshot(context.Background(), connect.NewRequest(&rapportv1.ActivateSnapshotRequest{Source: source, Generation: 1})); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := h.publish(catalogYAML); err != nil {
				t.Fatal(err)
			}
		}
		r := h.whyNot(t, &rapportv1.WhyNotRequest{Customer: "2", Offer: "data_10g", Touchpoint: "sms.push", Reveal: allowed})
		want := "usage.data_mb from ••• to more than 5000\n"
		if allowed {
			want = "usage.data_mb from 10.25 to more than 5000\n"
		}
		if got := proposed(r); got != want || r.GetMasked() == allowed {
			t.Errorf("reveal %t: %s, masked %t", allowed, got, r.GetMasked())
		}
		if strings.Contains(r.String(), "10.25") != allowed {
			t.Errorf("reveal %t: %v", allowed, r)
		}
		h.stop()
	}
}
