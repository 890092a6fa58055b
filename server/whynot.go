package server

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"connectrpc.com/connect"
	"github.com/oklog/ulid/v2"
	"google.golang.org/protobuf/types/known/timestamppb"

	"rapport/profilestore"
	rapportv1 "rapport/server/api/rapport/v1"
	"rapport/server/catalog"
	"rapport/server/decide"
	"rapport/server/decisionlog"
	"rapport/server/decisionlog/whynot"
	"rapport/server/ledger"
)

// whyNotTime is how long a search takes at most.
const whyNotTime = 10 * time.Second

// WhyNot finds what would bring an offer onto a slate.
func (s decisions) WhyNot(ctx context.Context, req *connect.Request[rapportv1.WhyNotRequest]) (*connect.Response[rapportv1.WhyNotResponse], error) {
	m := req.Msg
	subject := cmp.Or(m.GetDecisionId(), "rehearsal")
	mask, err := s.masking(req, m.GetReveal(), "decision/"+subject)
	if err != nil {
		return nil, err
	}
	rec, room, err := s.whyNotRecord(ctx, m)
	if err != nil {
		return nil, err
	}
	q, done, err := s.whyNotQuestion(ctx, m, rec)
	if err != nil {
		return nil, err
	}
	defer done()
	if room != nil {
		q.Inputs.Room = room(q.Inputs.Catalog)
	}
	searching, cancel := context.WithTimeout(ctx, whyNotTime)
	defer cancel()
	found, err := whynot.Search(searching, *q)
	if err != nil {
		return nil, err
	}
	if room == nil { // a decision that was made: it has to be what it was
		if err := sameAsRecorded(rec, q, found); err != nil {
			return nil, err
		}
	}
	s.metrics.whyNot.Inc()
	s.metrics.whyNotReplays.Add(float64(found.Replays))
	return connect.NewResponse(whyNotResponse(rec, q, found, mask)), nil
}

// whyNotRecord returns the decision that is asked about. For one that is rehearsed, room
// says what capacities have left: as they were when they were first asked, so that all
// replays of a search see the same.
func (s decisions) whyNotRecord(ctx context.Context, m *rapportv1.WhyNotRequest) (_ *decisionlog.Record, room func(*catalog.Compiled) func(int64) decide.Places, _ error) {
	if m.GetDecisionId() == "" {
		return s.whyNotRehearsal(ctx, m)
	}
	if m.GetCustomer() != "" || len(m.GetContext()) > 0 || m.GetSlots() != 0 || m.GetTime() != nil || m.GetSeed() != 0 {
		return nil, nil, &argumentError{"decision_id", "customer, context, slots, time and seed are those of the decision: leave them out"}
	}
	if s.decisionLog == nil {
		return nil, nil, errNoDecisionLog
	}
	id, err := ulid.ParseStrict(m.GetDecisionId())
	if err != nil {
		return nil, nil, &argumentError{"decision_id", "it is not the id of a decision"}
	}
	rec := new(decisionlog.Record)
	return rec, nil, s.decisionLog.Find(ctx, id, rec)
}

func (s decisions) whyNotRehearsal(ctx context.Context, m *rapportv1.WhyNotRequest) (_ *decisionlog.Record, room func(*catalog.Compiled) func(int64) decide.Places, _ error) {
	if m.GetCustomer() == "" {
		return nil, nil, &argumentError{"customer", "give a customer, or the id of a decision"}
	}
	at, err := s.whyNotTouchpoint(m)
	if err != nil {
		return nil, nil, err
	}
	rec, err := s.rehearse(ctx, &question{
		message: m, customer: m.GetCustomer(), at: []*rapportv1.DecideAt{{Touchpoint: at, Slots: m.GetSlots()}},
		context: m.GetContext(), dry: &rapportv1.DryRun{Time: m.GetTime(), Seed: m.GetSeed()}, omitWithheld: true,
	})
	if err != nil {
		return nil, nil, err
	}
	left := make(map[ledger.Place]int64)
	free := func(p ledger.Place, most int64) int64 {
		n, ok := left[p]
		if !ok {
			n = s.ledger.Free(p, most)
			left[p] = n
		}
		return n
	}
	return rec, func(c *catalog.Compiled) func(int64) decide.Places {
		return func(now int64) decide.Places { return &places{catalog: c, now: now, free: free} }
	}, nil
}

// whyNotTouchpoint returns the touchpoint for which a decision is rehearsed.
func (s decisions) whyNotTouchpoint(m *rapportv1.WhyNotRequest) (string, error) {
	l := s.acquire()
	if l == nil {
		return "", errNoCatalog
	}
	defer s.release(l)
	if m.GetTouchpoint() == "" && m.GetChannel() == "" {
		return "", &argumentError{"touchpoint", "give the touchpoint, or the channel"}
	}
	i, err := whynot.Touchpoint(l.compiled, m.GetOffer(), m.GetTouchpoint(), m.GetChannel(), nil)
	if err == nil {
		_, err = whynot.Locate(l.compiled, i, m.GetOffer())
	}
	if err != nil {
		return "", notThere(err)
	}
	return l.compiled.Touchpoints[i].ID, nil
}

// whyNotQuestion puts a decision as the search is asked about it. done must be called
// when it is over.
func (s decisions) whyNotQuestion(ctx context.Context, m *rapportv1.WhyNotRequest, rec *decisionlog.Record) (_ *whynot.Question, done func(), _ error) {
	d, in, done, err := decisionlog.Replayer{Sources: s.replays}.Prepare(ctx, rec, decisionlog.With{})
	if err != nil {
		return nil, nil, err
	}
	q := &whynot.Question{
		Decider: d, Inputs: in, First: m.GetFirst(), MaxChanges: int(m.GetMaxChanges()), MaxSets: int(m.GetMaxSets()), Turn: s.backgroundTurn,
	}
	var among []int
	for i := range in.At {
		among = append(among, in.At[i].Touchpoint)
		in.At[i].Fuel = 0 // with other candidates there would have been another limit
	}
	at, err := whynot.Touchpoint(in.Catalog, m.GetOffer(), m.GetTouchpoint(), m.GetChannel(), among)
	if err == nil {
		q.At = slices.Index(among, at)
		q.Offer, err = whynot.Locate(in.Catalog, at, m.GetOffer())
	}
	if err != nil {
		done()
		return nil, nil, notThere(err)
	}
	q.StrategyReads = s.strategyReads(in.Catalog, rec.At[q.At].Strategy)
	return q, done, nil
}

// notThere returns the error of a request that names what can't be on the slate.
func notThere(err error) error {
	if e, ok := errors.AsType[*whynot.NotThereError](err); ok {
		return &argumentError{e.Field, e.Why}
	}
	return err
}

// strategyReads returns the slots of the fields that a version of a strategy reads.
func (s decisions) strategyReads(c *catalog.Compiled, r decisionlog.Ranker) []int {
	var slots []int
	for _, v := range s.strategies.list(r.Name) {
		if v.module == nil || v.digest != r.Digest {
			continue
		}
		for _, in := range v.module.Manifest().Profile {
			if slot, ok := c.Schema.Lookup(in.Name); ok {
				slots = append(slots, slot)
			}
		}
	}
	return slots
}

// sameAsRecorded reports, as an error, that a decision without changes is not what it was.
func sameAsRecorded(rec *decisionlog.Record, q *whynot.Question, found *whynot.Result) error {
	was := &rec.At[q.At]
	t := &q.Inputs.Catalog.Touchpoints[q.Inputs.At[q.At].Touchpoint]
	candidates := q.Inputs.Catalog.Scenarios[t.Scenario].Candidates
	place := slices.IndexFunc(t.Candidates, func(i int32) bool { return candidates[i].Offer == q.Offer })
	position := slices.IndexFunc(was.Slate, func(p decisionlog.Placement) bool { return p.Offer == q.Inputs.Catalog.Offers[q.Offer].ID })
	if place >= len(was.Reasons) || was.Reasons[place] != found.Reason || position != found.Position {
		return &decisionlog.InexactError{Why: "made again, it has another answer: the strategy had less fuel then, or the record is of another program"}
	}
	return nil
}

func whyNotResponse(rec *decisionlog.Record, q *whynot.Question, found *whynot.Result, mask *mask) *rapportv1.WhyNotResponse {
	c := q.Inputs.Catalog
	mask = mask.under(c.Schema)
	t := &c.Touchpoints[q.Inputs.At[q.At].Touchpoint]
	w := whyNotWriter{c: c, mask: mask}
	w.words = whynot.Words{Zone: w.zone(q.Inputs), Show: func(slot int, v profilestore.Value) string { return mask.value(c.Schema.Fields()[slot].Name, v) }}
	out := &rapportv1.WhyNotResponse{
		Customer: mask.identity(rec.Customer), Offer: c.Offers[q.Offer].ID, Touchpoint: t.ID, Channel: c.Channels[t.Channel].ID,
		Scenario: c.Scenarios[t.Scenario].ID, CatalogVersion: c.Version, Time: timestamppb.New(time.UnixMicro(rec.Time)), Zone: w.words.Zone.String(),
		Position: int32(found.Position + 1), Fallback: found.Fallback, MaxChanges: int32(cmp.Or(q.MaxChanges, whynot.DefaultMaxChanges)),
		Replays: int32(found.Replays), GaveUp: found.GaveUp, Obstacles: found.Obstacles, Masked: w.hides(),
	}
	if q.Inputs.Room == nil {
		out.DecisionId = rec.ID.String()
	}
	if found.Position < 0 {
		out.Reason, out.By = rapportv1.Reason(found.Reason).String(), found.By
		if found.Until != 0 {
			out.Until = timestamppb.New(time.UnixMicro(found.Until))
		}
	}
	for i := range found.Sets {
		set := &found.Sets[i]
		x := &rapportv1.WhyNotSet{Position: int32(set.Position + 1), Assumes: set.Assumes}
		for k := range set.Changes {
			x.Changes = append(x.Changes, w.change(&set.Changes[k]))
		}
		out.Sets = append(out.Sets, x)
	}
	return out
}

// whyNotWriter writes changes for people, without what they may not see.
type whyNotWriter struct {
	c     *catalog.Compiled
	mask  *mask
	words whynot.Words
}

// zone returns the customer's time zone.
func (w *whyNotWriter) zone(in *decisionlog.Inputs) *time.Location {
	clock := &w.c.Clock
	if clock.Slot >= 0 && in.Values != nil && !w.mask.personal(w.c.Schema.Fields()[clock.Slot].Name) {
		if name := in.Values[clock.Slot].Text(); name != "" && name != "Local" {
			if zone, err := time.LoadLocation(name); err == nil {
				return zone
			}
		}
	}
	return clock.Zone
}

// hides reports whether anything is hidden.
func (w *whyNotWriter) hides() bool {
	return slices.ContainsFunc(w.c.Schema.Fields(), func(f profilestore.Field) bool { return w.mask.personal(f.Name) })
}

func (w *whyNotWriter) change(c *whynot.Change) *rapportv1.WhyNotChange {
	shown := *c
	slot := c.Slot()
	if slot >= 0 && w.tells(c) {
		shown.To, shown.Bound, shown.Element = profilestore.Text(masked), profilestore.Unknown(), ""
	}
	out := &rapportv1.WhyNotChange{Kind: rapportv1.WhyNotKind(c.Kind), Subject: c.Subject, Words: w.words.Of(&shown)}
	if c.From.Known() {
		out.From = c.From.String()
		if slot >= 0 {
			out.From = w.mask.value(c.Subject, c.From)
			out.Masked = w.mask.personal(c.Subject)
		}
	}
	if shown.To.Known() {
		out.To = shown.To.String()
	}
	if out.GetMasked() && c.To.Kind() == profilestore.KindSet { // the rest of it is what the customer has
		out.To = masked
	}
	return out
}

// tells reports whether the value that a field would need tells what others of the
// profile are, where some are hidden: it does unless it is one that the rules name.
func (w *whyNotWriter) tells(c *whynot.Change) bool {
	if !w.hides() || c.Element != "" {
		return false
	}
	value := c.To
	if c.Bound.Known() {
		value = c.Bound
	}
	switch value.Kind() {
	case profilestore.KindFlag, profilestore.KindUnknown:
		return false
	case profilestore.KindSet:
		return value.Size() > 0
	case profilestore.KindNumber, profilestore.KindText, profilestore.KindTime:
	}
	for i := range w.c.Rules.Conditions() {
		if slices.Contains(w.c.Rules.Constants(i).Values, value) {
			return false
		}
	}
	return c.Slot() != w.propensitySlot(c) && value != profilestore.Number(0)
}

// propensitySlot returns the slot of the change if any offer's propensity is there: how
// likely it has to be is no value of the profile.
func (w *whyNotWriter) propensitySlot(c *whynot.Change) int {
	for i := range w.c.Offers {
		if w.c.Offers[i].Propensity.Slot == c.Slot() {
			return c.Slot()
		}
	}
	return -1
}
