package server

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"connectrpc.com/connect"

	"rapport/profilestore"
	rapportv1 "rapport/server/api/rapport/v1"
	"rapport/server/ledger"
)

// RecordOutcomes takes what came of offers.
//
// A report is two events, of the customer by whom the decision was made: that the slate
// was delivered, dated by the decision, and the outcome. Their ids follow from the
// decision, the channel, the offer and the outcome, so whatever comes twice counts
// once, and it does not matter which report of a slate comes first.
func (s decisions) RecordOutcomes(ctx context.Context, req *connect.Request[rapportv1.RecordOutcomesRequest]) (*connect.Response[rapportv1.RecordOutcomesResponse], error) {
	res := &rapportv1.RecordOutcomesResponse{}
	now := time.Now().UnixMicro()
	var events []*profilestore.Event // two for each report that is not refused
	var tokens []*token
	var places []int
	refuse := func(i int, reason, message string) {
		s.metrics.outcomes.WithLabelValues(strings.ToLower(reason)).Inc()
		res.Refused = append(res.Refused, &rapportv1.RefusedOutcome{Index: int32(i), Reason: reason, Message: message})
	}
	for i, m := range req.Msg.GetReports() {
		t, err := s.tokens.open(m.GetToken(), now)
		switch {
		case errors.Is(err, errTokenForged):
			refuse(i, "TOKEN_FORGED", err.Error())
		case errors.Is(err, errTokenExpired):
			refuse(i, "TOKEN_EXPIRED", err.Error())
		case err != nil:
			refuse(i, "TOKEN_MALFORMED", err.Error())
		case m.GetTime() != nil && m.GetTime().CheckValid() != nil:
			refuse(i, "EVENT_REFUSED", "the time is not valid")
		}
		if err != nil || m.GetTime() != nil && m.GetTime().CheckValid() != nil {
			continue
		}
		at := now
		if m.GetTime() != nil {
			at = m.GetTime().AsTime().UnixMicro()
		}
		events = append(events, t.contact(), t.outcome(m.GetOutcome(), max(at, t.time)))
		tokens, places = append(tokens, t), append(places, i)
	}
	if len(events) == 0 {
		return connect.NewResponse(res), nil
	}
	results, err := s.store.Ingest(ctx, events)
	if err != nil {
		return nil, err
	}
	for k, t := range tokens {
		report := req.Msg.GetReports()[places[k]]
		outcome := results[2*k+1]
		if contact := results[2*k]; contact.Outcome == profilestore.Refused {
			outcome = contact
		}
		switch outcome.Outcome {
		case profilestore.Accepted:
			res.Accepted++
			s.metrics.outcomes.WithLabelValues("accepted").Inc()
		case profilestore.Duplicate:
			res.Duplicates++
			s.metrics.outcomes.WithLabelValues("duplicate").Inc()
		case profilestore.Refused:
			refuse(places[k], "EVENT_REFUSED", outcome.Err.Error())
			continue
		}
		// After the event: for a moment both count, never neither.
		o := ledger.Outcome{Name: report.GetOutcome(), Offer: t.items[t.item].Offer, Expires: t.expires}
		if _, err := s.ledger.Commit(ctx, ledgerID(t.decision, t.channel), o, now); err != nil {
			// The event counts; what the ledger holds ends when it expires, unless the report
			// is sent again, which it may be.
			return nil, fmt.Errorf("the outcome is recorded, but its place could not be settled: %w", err)
		}
	}
	return connect.NewResponse(res), nil
}

// contact is the event that the slate of a token was delivered.
func (t *token) contact() *profilestore.Event {
	items := make([]any, len(t.items))
	for i, x := range t.items {
		items[i] = map[string]any{"offer": x.Offer, "group": x.Group, "class": x.Class}
	}
	return &profilestore.Event{
		ID: t.decision.String() + "/" + t.channel, Type: profilestore.ContactEvent, Identity: t.customer, Time: t.time,
		Attributes: map[string]any{"channel": t.channel, "touchpoint": t.touchpoint, "items": items, "decision": t.decision.String()},
	}
}

// outcome is the event of an outcome of the token's offer.
func (t *token) outcome(name string, at int64) *profilestore.Event {
	x := t.items[t.item]
	return &profilestore.Event{
		ID: t.decision.String() + "/" + t.channel + "/" + x.Offer + "/" + name, Type: profilestore.OutcomeEvent, Identity: t.customer, Time: at,
		Attributes: map[string]any{
			"channel": t.channel, "touchpoint": t.touchpoint, "offer": x.Offer, "group": x.Group, "class": x.Class,
			"outcome": name, "decision": t.decision.String(),
		},
	}
}
