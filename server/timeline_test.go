package server_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"rapport/profilestore"
	rapportv1 "rapport/server/api/rapport/v1"
)

// interaction is a contact or outcome event of so long ago.
func interaction(t testing.TB, id, identity, kind string, ago time.Duration, attributes map[string]any) *rapportv1.Event {
	t.Helper()
	s, err := structpb.NewStruct(attributes)
	if err != nil {
		t.Fatal(err)
	}
	return &rapportv1.Event{Id: id, Type: kind, Identity: identity, Time: timestamppb.New(time.Now().Add(-ago)), Attributes: s}
}

func (h *house) send(t testing.TB, events ...*rapportv1.Event) {
	t.Helper()
	for batch := range slices.Chunk(events, 1000) {
		res, err := h.profiles().IngestEvents(context.Background(), connect.NewRequest(&rapportv1.IngestEventsRequest{Events: batch}))
		if err != nil || len(res.Msg.GetRefused()) > 0 {
			t.Fatal(res, err)
		}
	}
}

func (h *house) timeline(t testing.TB, req *rapportv1.GetTimelineRequest) *rapportv1.GetTimelineResponse {
	t.Helper()
	res, err := h.profiles().GetTimeline(context.Background(), connect.NewRequest(req))
	if err != nil {
		t.Fatal(err)
	}
	return res.Msg
}

// TestTimeline: pages of any size hold every interaction once, the latest first, also
// where many have one time; the counts say how many there were in the last 7 and 30 days.
func TestTimeline(t *testing.T) {
	h := newLinkedHouse(t)
	const day = 24 * time.Hour
	at := time.Now()
	var events []*rapportv1.Event
	for i := range 300 {
		e := interaction(t, fmt.Sprint("c", i), "1", profilestore.ContactEvent, 0, map[string]any{"channel": "web", "offer": fmt.Sprint("offer", i%3), "group": "data"})
		e.Time = timestamppb.New(at.Add(-time.Duration(i/10) * 2 * day)) // ten at each time, for 60 days
		events = append(events, e)
	}
	events = append(events, interaction(t, "o", "msisdn:86139", profilestore.OutcomeEvent, 3*day, map[string]any{"channel": "sms", "outcome": "rejected", "offer": "offer1"}))
	h.send(t, events...)
	h.link(t, "1=msisdn:86139")

	for _, size := range []int32{0, 1, 7, 10, 256, 1000} {
		var all []*rapportv1.Interaction
		req := &rapportv1.GetTimelineRequest{Customer: "msisdn:86139", PageSize: size}
		for pages := 0; ; pages++ {
			page := h.timeline(t, req)
			if (len(page.GetCounts()) > 0) != (pages == 0) || page.GetOlder() != 300-256 {
				t.Fatalf("page %d has %d counts, %d older", pages, len(page.GetCounts()), page.GetOlder())
			}
			all = append(all, page.GetInteractions()...)
			if req.PageToken = page.GetNextPageToken(); req.GetPageToken() == "" {
				break
			}
		}
		perOffer := make(map[string]int)
		for i, x := range all {
			if i > 0 && x.GetTime().AsTime().After(all[i-1].GetTime().AsTime()) {
				t.Fatalf("pages of %d: interaction %d is later than the one before it", size, i)
			}
			perOffer[x.GetItems()[0].GetOffer()]++
		}
		// 250 contacts of 25 times; of the ten before, those six that come last by offer; the outcome.
		if len(all) != 257 || perOffer["offer0"] != 84 || perOffer["offer1"] != 83+3+1 || perOffer["offer2"] != 83+3 {
			t.Errorf("pages of %d: %d interactions, %v", size, len(all), perOffer)
		}
	}

	page := h.timeline(t, &rapportv1.GetTimelineRequest{Customer: "1", PageSize: 1})
	if page.GetCustomer() != "customer:1" || page.GetContacts() != 300 || page.GetOutcomes() != 1 {
		t.Errorf("%d contacts, %d outcomes of %s", page.GetContacts(), page.GetOutcomes(), page.GetCustomer())
	}
	var counts []string
	for _, c := range page.GetCounts() {
		counts = append(counts, fmt.Sprint(c.GetOffer(), " ", c.GetChannel(), " ", c.GetOutcome(), " ", c.GetLastWeek(), " ", c.GetLastMonth(), " ", c.GetCount()))
	}
	if want := []string{"offer0 web  14 50 100", "offer1 sms rejected 1 1 1", "offer1 web  13 50 100", "offer2 web  13 50 100"}; !slices.Equal(counts, want) {
		t.Errorf("counts %q, want %q", counts, want)
	}

	only := h.timeline(t, &rapportv1.GetTimelineRequest{Customer: "1", Filter: &rapportv1.InteractionFilter{Type: rapportv1.InteractionType_INTERACTION_TYPE_OUTCOME, Offer: "offer1"}})
	if len(only.GetInteractions()) != 1 || only.GetInteractions()[0].GetOutcome() != "rejected" || only.GetContacts() != 0 || only.GetOutcomes() != 1 || len(only.GetCounts()) != 1 {
		t.Errorf("outcomes of offer1: %v", only)
	}
	if none := h.timeline(t, &rapportv1.GetTimelineRequest{Customer: "nobody"}); len(none.GetInteractions())+len(none.GetCounts()) > 0 || none.GetNextPageToken() != "" {
		t.Errorf("of nobody: %v", none)
	}
	if blocked := h.timeline(t, &rapportv1.GetTimelineRequest{Customer: "msisdn:unknown"}); !strings.Contains(blocked.GetBlocked(), "unknown") {
		t.Errorf("a blocked identity: %v", blocked)
	}
	for _, token := range []string{"x", "12", "-5", "12-", "12-0", "12--1", strings.Repeat("9", 60)} {
		_, err := h.profiles().GetTimeline(context.Background(), connect.NewRequest(&rapportv1.GetTimelineRequest{Customer: "1", PageToken: token}))
		if connect.CodeOf(err) != connect.CodeInvalidArgument || !strings.Contains(err.Error(), "page_token") {
			t.Errorf("page token %q: %v", token, err)
		}
	}
}
