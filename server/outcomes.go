package server

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
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
// once, and it does not matter which report of a slate comes first. Ids are remembered
// for profilestore.IDHorizon; who said yes three days after a message makes the contact
// no second one, because what is older is looked for in the history. An outcome that is
// reported without a time is found there by its fraction of a second: see token.dated.
//
// A report that comes when its reservation has expired is recorded all the same: see
// RATIONALE.md.
func (s decisions) RecordOutcomes(ctx context.Context, req *connect.Request[rapportv1.RecordOutcomesRequest]) (*connect.Response[rapportv1.RecordOutcomesResponse], error) {
	res := &rapportv1.RecordOutcomesResponse{}
	now := s.now().UnixMicro()
	refuse := func(i int, reason, message string) {
		s.metrics.outcomes.WithLabelValues(strings.ToLower(reason)).Inc()
		res.Refused = append(res.Refused, &rapportv1.RefusedOutcome{Index: int32(i), Reason: reason, Message: message})
	}
	var events []*profilestore.Event
	var reports []report
	for i, m := range req.Msg.GetReports() {
		t, reason, err := s.readReport(m, now)
		if err != nil {
			refuse(i, reason, err.Error())
			continue
		}
		r := report{token: t, place: i, contact: -1, outcome: -1}
		at, given := t.dated(m.GetOutcome(), now), m.GetTime() != nil
		if given {
			at = max(m.GetTime().AsTime().UnixMicro(), t.time)
		}
		contactKnown, outcomeKnown := false, false
		if now-t.time > profilestore.IDHorizon.Microseconds()/2 { // half of it: clocks step
			view, err := s.store.View(ctx, t.customer)
			if err != nil {
				return nil, err
			}
			history := view.At(now).History().WithLater()
			contactKnown = t.in(history, "", func(x int64) bool { return x == t.time })
			outcomeKnown = t.in(history, m.GetOutcome(), func(x int64) bool {
				return x == at || !given && x == t.dated(m.GetOutcome(), x)
			})
		}
		if !contactKnown {
			r.contact = len(events)
			events = append(events, t.contactEvent())
		}
		if !outcomeKnown {
			r.outcome = len(events)
			events = append(events, t.outcomeEvent(m.GetOutcome(), at))
		}
		reports = append(reports, r)
	}
	var results []profilestore.IngestResult
	if len(events) > 0 {
		var err error
		if results, err = s.store.Ingest(ctx, events); err != nil {
			return nil, err
		}
	}
	settle := reports[:0]
	for _, r := range reports {
		outcome := profilestore.IngestResult{Outcome: profilestore.Duplicate}
		if r.outcome >= 0 {
			outcome = results[r.outcome]
		}
		if r.contact >= 0 && results[r.contact].Outcome == profilestore.Refused {
			outcome = results[r.contact]
		}
		switch outcome.Outcome {
		case profilestore.Accepted:
			res.Accepted++
			s.metrics.outcomes.WithLabelValues("accepted").Inc()
		case profilestore.Duplicate:
			res.Duplicates++
			s.metrics.outcomes.WithLabelValues("duplicate").Inc()
		case profilestore.Refused:
			refuse(r.place, "EVENT_REFUSED", outcome.Err.Error())
			continue
		}
		settle = append(settle, r)
	}
	if err := s.settle(ctx, settle, req.Msg.GetReports(), now); err != nil {
		return nil, err
	}
	slices.SortStableFunc(res.GetRefused(), func(a, b *rapportv1.RefusedOutcome) int { return int(a.GetIndex() - b.GetIndex()) })
	return connect.NewResponse(res), nil
}

// settleTime is how long the ledger may take to note what has been reported.
const settleTime = 5 * time.Second

// settle tells the ledger what came of reservations, after the events: for a moment both
// count, never neither. The events are there, so it is done also when the caller has gone.
func (s decisions) settle(ctx context.Context, recorded []report, reports []*rapportv1.OutcomeReport, now int64) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTime)
	defer cancel()
	var failed error
	taken := false
	for _, r := range recorded {
		t := r.token
		o := ledger.Outcome{Name: reports[r.place].GetOutcome(), Offer: t.items[t.item].Offer, Expires: t.expires}
		id := ledgerID(t.decision, t.channel)
		result, err := s.ledger.Commit(ctx, id, o, now)
		if err != nil && failed == nil {
			// The event counts; what the ledger holds ends when it expires, unless the report
			// is sent again, which it may be.
			failed = fmt.Errorf("reports[%d] and perhaps others: the outcome is recorded, but its place could not be settled: send them again: %w", r.place, err)
		}
		taken = taken || (result == ledger.Committed || result == ledger.Unchanged) && s.ledger.Taken(id)
	}
	if !taken {
		return failed
	}
	if err := s.ledger.Sync(ctx); err != nil && failed == nil {
		failed = fmt.Errorf("the outcomes are recorded, but their places could not be made durable: send them again: %w", err)
	}
	return failed
}

// report is one whose token is good.
type report struct {
	token            *token
	place            int // in the request
	contact, outcome int // which of the events they are, −1 where the history has them
}

// readReport checks a report; where there is an error, the reason is the API's.
func (s decisions) readReport(m *rapportv1.OutcomeReport, now int64) (t *token, reason string, err error) {
	t, err = s.tokens.open(m.GetToken(), now)
	switch {
	case errors.Is(err, errTokenForged):
		return nil, "TOKEN_FORGED", err
	case errors.Is(err, errTokenExpired):
		return nil, "TOKEN_EXPIRED", err
	case err != nil:
		return nil, "TOKEN_MALFORMED", err
	case m.GetTime() != nil && m.GetTime().CheckValid() != nil:
		return nil, "EVENT_REFUSED", errors.New("the time is not valid")
	case m.GetTime() != nil && m.GetTime().AsTime().UnixMicro() > now+profilestore.MaxFuture.Microseconds():
		// Now, or the contact would be recorded and its outcome would not.
		return nil, "EVENT_REFUSED", fmt.Errorf("the time %s is more than %v in the future: check the sender's clock", profilestore.Time(m.GetTime().AsTime().UnixMicro()), profilestore.MaxFuture)
	}
	if t.time > now+profilestore.MaxFuture.Microseconds() {
		t.time = now // the clock has stepped back: what is reported has happened
	}
	return t, "", nil
}

// dated returns when an outcome happened that is reported at a time without saying so:
// in the second before, in which its fraction of a second follows from what it is; or with
// the decision if that was in this second too. So a report that comes twice can be told
// from two that are alike when their ids are long forgotten: dated of its date is its date.
func (t *token) dated(outcome string, at int64) int64 {
	const second = int64(time.Second / time.Microsecond)
	sum := sha256.Sum256(fmt.Appendf(t.decision[:], "/%s/%s/%s", t.channel, t.items[t.item].Offer, outcome))
	fraction := int64(binary.LittleEndian.Uint64(sum[:]) % uint64(second))
	past := (at - fraction) % second
	if past < 0 {
		past += second
	}
	return max(at-past, t.time)
}

// in reports whether the history has an outcome of the token's offer since the decision, at
// a time that is the one; or the contact if the outcome has no name.
func (t *token) in(h profilestore.History, outcome string, is func(at int64) bool) bool {
	f := profilestore.InteractionFilter{Type: profilestore.Contacts, Channel: t.channel, Touchpoint: t.touchpoint, Offer: t.items[t.item].Offer}
	if outcome != "" {
		f.Type, f.Outcome, f.Touchpoint = profilestore.Outcomes, outcome, t.at
	}
	for x := range h.Recent(f) {
		if x.Time < t.time {
			return false
		}
		if is(x.Time) {
			return true
		}
	}
	return false
}

// contactEvent is the event that the slate of a token was delivered.
func (t *token) contactEvent() *profilestore.Event {
	items := make([]any, len(t.items))
	for i, x := range t.items {
		items[i] = map[string]any{"offer": x.Offer, "group": x.Group, "class": x.Class}
	}
	return &profilestore.Event{
		ID: t.decision.String() + "/" + t.channel, Type: profilestore.ContactEvent, Identity: t.customer, Time: t.time,
		Attributes: map[string]any{"channel": t.channel, "touchpoint": t.touchpoint, "items": items, "decision": t.decision.String()},
	}
}

// outcomeEvent is the event of an outcome of the token's offer.
func (t *token) outcomeEvent(name string, at int64) *profilestore.Event {
	x := t.items[t.item]
	return &profilestore.Event{
		ID: t.decision.String() + "/" + t.channel + "/" + x.Offer + "/" + name, Type: profilestore.OutcomeEvent, Identity: t.customer, Time: at,
		Attributes: map[string]any{
			"channel": t.channel, "touchpoint": t.at, "offer": x.Offer, "group": x.Group, "class": x.Class,
			"outcome": name, "decision": t.decision.String(),
		},
	}
}
