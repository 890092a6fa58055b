package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/oklog/ulid/v2"
	"google.golang.org/protobuf/types/known/timestamppb"

	"rapport/profilestore"
	rapportv1 "rapport/server/api/rapport/v1"
	"rapport/server/catalog"
	"rapport/server/decide"
	"rapport/server/decisionlog"
	"rapport/server/explain"
)

// How many decisions, and candidates of a cause, are named if nobody says.
const (
	defaultListed = 20
	defaultNamed  = 10
	causesNamed   = 5 // times as many causes
)

// errNoDecisionOf means that a customer has no decision that is kept and was asked for.
var errNoDecisionOf = errors.New("no such decision is kept")

// errStop ends a search in the log that has found what it looked for.
var errStop = errors.New("found")

// ListDecisions lists decisions that are kept, the newest first.
func (s decisions) ListDecisions(ctx context.Context, req *connect.Request[rapportv1.ListDecisionsRequest]) (*connect.Response[rapportv1.ListDecisionsResponse], error) {
	m := req.Msg
	if s.decisionLog == nil {
		return nil, errNoDecisionLog
	}
	q := decisionlog.Query{Limit: cmp.Or(int(m.GetLimit()), defaultListed), Newest: true}
	var err error
	if q.From, err = timeArgument("since", m.GetSince()); err != nil {
		return nil, err
	}
	if q.Until, err = timeArgument("until", m.GetUntil()); err != nil {
		return nil, err
	}
	hashes := []uint64{0}
	subject := "decisions"
	if m.GetCustomer() != "" {
		var identity string
		if identity, hashes, err = s.hashesOf(ctx, m.GetCustomer()); err != nil {
			return nil, err
		}
		subject = "identity/" + identity
	}
	hide, err := s.masking(req, m.GetReveal(), subject)
	if err != nil {
		return nil, err
	}
	var found []*rapportv1.DecisionSummary
	for _, q.Customer = range hashes {
		if err := s.decisionLog.Each(ctx, q, func(r *decisionlog.Record) error {
			found = append(found, decisionSummary(r, hide))
			return nil
		}); err != nil {
			return nil, err
		}
	}
	// An id has the time in front, so that later ids are greater.
	slices.SortFunc(found, func(a, b *rapportv1.DecisionSummary) int {
		return strings.Compare(b.GetDecisionId(), a.GetDecisionId())
	})
	return connect.NewResponse(&rapportv1.ListDecisionsResponse{Decisions: found[:min(len(found), q.Limit)]}), nil
}

// timeArgument reads a time that may be missing.
func timeArgument(field string, t *timestamppb.Timestamp) (time.Time, error) {
	if t == nil {
		return time.Time{}, nil
	}
	if err := t.CheckValid(); err != nil {
		return time.Time{}, &argumentError{field, "it is not a valid time"}
	}
	return t.AsTime(), nil
}

// hashesOf returns the hashes under which decisions for a customer are kept: that of the
// common name, and those of the names that it had before identities were linked.
func (s decisions) hashesOf(ctx context.Context, customer string) (identity string, hashes []uint64, err error) {
	identity, err = profilestore.ParseIdentity(customer)
	if err != nil {
		return "", nil, &argumentError{"customer", err.Error()}
	}
	if _, blocked := s.store.Schema().BlockedIdentity(identity); blocked {
		return "", nil, &argumentError{"customer", identity + " means nobody, so its decisions are those of many people: ask for one by its id"}
	}
	view, err := s.store.View(ctx, identity)
	if err != nil {
		return "", nil, err
	}
	for _, name := range append(known{identity: identity, view: view}.names(), identity) {
		if h := customerHash(name); !slices.Contains(hashes, h) {
			hashes = append(hashes, h)
		}
	}
	return identity, hashes, nil
}

func decisionSummary(r *decisionlog.Record, hide *mask) *rapportv1.DecisionSummary {
	d := &rapportv1.DecisionSummary{
		DecisionId: r.ID.String(), Time: timestamppb.New(time.UnixMicro(r.Time)), Customer: hide.identity(r.Customer),
		TookUs: r.Took, CatalogVersion: r.Catalog,
	}
	for i := range r.At {
		t := &r.At[i]
		at := &rapportv1.DecisionSummaryAt{Touchpoint: t.ID, RankedBy: t.RankedBy.String(), Candidates: int32(len(t.Reasons))}
		for k := range t.Slate {
			at.Offers = append(at.Offers, t.Slate[k].Offer)
		}
		for _, x := range t.Degradations {
			at.Degradations = append(at.Degradations, rapportv1.DegradationKind(x.Step))
		}
		d.At = append(d.At, at)
	}
	return d
}

// ExplainDecision says why a decision was what it was.
func (s decisions) ExplainDecision(ctx context.Context, req *connect.Request[rapportv1.ExplainDecisionRequest]) (*connect.Response[rapportv1.ExplainDecisionResponse], error) {
	m := req.Msg
	r, err := s.decisionAsked(ctx, m)
	if err != nil {
		return nil, err
	}
	hide, err := s.masking(req, m.GetReveal(), "decision/"+r.ID.String())
	if err != nil {
		return nil, err
	}
	done, err := s.backgroundTurn(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	x, err := explain.Explain(ctx, decisionlog.Replayer{Sources: s.replays}, r)
	if err != nil {
		return nil, err
	}
	if x.Catalog != nil {
		hide = hide.under(x.Catalog.Schema)
	}
	w := explanationWriter{x: x, hide: hide, offer: m.GetOffer(), touchpoint: m.GetTouchpoint(), named: cmp.Or(int(m.GetLimit()), defaultNamed)}
	if m.GetAll() {
		w.named = math.MaxInt
	}
	res, err := w.message()
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(res), nil
}

// decisionAsked returns the record of the decision that is to be explained.
func (s decisions) decisionAsked(ctx context.Context, m *rapportv1.ExplainDecisionRequest) (*decisionlog.Record, error) {
	switch {
	case s.decisionLog == nil:
		return nil, errNoDecisionLog
	case m.GetDecisionId() != "" && m.GetCustomer() != "":
		return nil, &argumentError{"customer", "give the id of a decision or a customer, not both"}
	case m.GetDecisionId() != "" && m.GetTime() != nil:
		return nil, &argumentError{"time", "it goes with a customer: the id says which decision it is"}
	case m.GetCustomer() != "":
		return s.decisionOf(ctx, m)
	case m.GetDecisionId() == "":
		return nil, &argumentError{"decision_id", "give the id of a decision, or a customer"}
	}
	id, err := ulid.ParseStrict(strings.ToUpper(m.GetDecisionId()))
	if err != nil {
		return nil, &argumentError{"decision_id", fmt.Sprintf("%.40q is not the id of a decision: that is 26 letters and digits, such as 01ARZ3NDEKTSV4RRFFQ69G5FAV, as each answer has it", m.GetDecisionId())}
	}
	r := new(decisionlog.Record)
	return r, s.decisionLog.Find(ctx, id, r)
}

// decisionOf returns the latest decision for a customer at or before a time, at a
// touchpoint if one is given.
func (s decisions) decisionOf(ctx context.Context, m *rapportv1.ExplainDecisionRequest) (*decisionlog.Record, error) {
	at, err := timeArgument("time", m.GetTime())
	if err != nil {
		return nil, err
	}
	_, hashes, err := s.hashesOf(ctx, m.GetCustomer())
	if err != nil {
		return nil, err
	}
	q := decisionlog.Query{Newest: true}
	if !at.IsZero() {
		q.Until = at.Truncate(time.Millisecond).Add(time.Millisecond) // ids have milliseconds
	}
	var found *decisionlog.Record
	for _, q.Customer = range hashes {
		err := s.decisionLog.Each(ctx, q, func(r *decisionlog.Record) error {
			if m.GetTouchpoint() != "" && !slices.ContainsFunc(r.At, func(t decisionlog.Touchpoint) bool { return t.ID == m.GetTouchpoint() }) {
				return nil
			}
			if found == nil || r.ID.Compare(found.ID) > 0 {
				found = new(*r)
			}
			return errStop
		})
		if err != nil && !errors.Is(err, errStop) {
			return nil, err
		}
	}
	if found != nil {
		return found, nil
	}
	what := "for " + m.GetCustomer()
	if m.GetTouchpoint() != "" {
		what += " at " + m.GetTouchpoint()
	}
	if !at.IsZero() {
		what += " of " + at.UTC().Format(time.RFC3339) + " or before"
	}
	return nil, fmt.Errorf("%w: none %s; `rapport decision list` shows those that are", errNoDecisionOf, what)
}

// explanationWriter writes an explanation as a message of the API.
type explanationWriter struct {
	x                 *explain.Explanation
	hide              *mask
	offer, touchpoint string
	named             int // candidates, of each cause and in the ranking
}

// show is the explain.Show that hides what is personal.
func (w *explanationWriter) show(r *explain.Read) string {
	if w.personal(r) {
		return masked
	}
	return explain.Plain(r)
}

// personal reports whether a value is hidden: it is one of a personal field, or computed
// from one.
func (w *explanationWriter) personal(r *explain.Read) bool {
	return slices.ContainsFunc(r.Fields, w.hide.personal)
}

func (w *explanationWriter) message() (*rapportv1.ExplainDecisionResponse, error) {
	r := w.x.Record
	out := &rapportv1.ExplainDecisionResponse{
		DecisionId: r.ID.String(), Time: timestamppb.New(time.UnixMicro(r.Time)), TookUs: r.Took,
		Identity: w.hide.identity(r.Identity), Customer: w.hide.identity(r.Customer), Masked: !w.hide.revealed,
		ProfileRead: r.Profile != nil, CatalogVersion: r.Catalog, Schema: r.Schema, Seed: r.Seed, OneContact: r.OneContact,
		Verified: w.x.Verified(), Inexact: w.x.Inexact, Differences: w.x.Differences,
	}
	out.Profile = &rapportv1.ProfileUse{Blocked: r.Blocked}
	if p := r.Profile; p != nil {
		out.Profile.Known, out.Profile.DeltaVersion, out.Profile.IdentityEpoch = p.Known, p.DeltaVersion, p.IdentityEpoch
		for _, snap := range p.Snapshots {
			out.Profile.Snapshots = append(out.Profile.Snapshots, &rapportv1.SnapshotRef{Source: snap.Source, Generation: snap.Generation, HasRow: snap.HasRow})
		}
	}
	for _, t := range r.Tables {
		out.Tables = append(out.Tables, &rapportv1.TableUse{Table: t.Name, Version: t.Number})
	}
	for i, name := range r.ContextFields {
		read := explain.Read{Name: "context." + name, Value: r.Context[i]}
		if !read.Value.Known() {
			read.Missing = "the request did not say"
		}
		out.Context = append(out.Context, w.value(&read))
	}
	for _, l := range r.Loads {
		out.Loads = append(out.Loads, &rapportv1.ChannelLoad{Channel: l.Channel, Load: l.Value})
	}
	asked := false
	for i := range w.x.At {
		if t := &w.x.At[i]; w.touchpoint == "" || t.Record.ID == w.touchpoint {
			at, has := w.at(t)
			out.At, asked = append(out.At, at), asked || has
		}
	}
	switch {
	case len(out.GetAt()) == 0:
		return nil, &argumentError{"touchpoint", fmt.Sprintf("the decision did not answer for %s", w.touchpoint)}
	case w.offer != "" && w.x.Catalog == nil:
		return nil, &argumentError{"offer", "which offers were candidates is not known, since " + w.x.Inexact}
	case w.offer != "" && !asked:
		return nil, &argumentError{"offer", fmt.Sprintf("%s was no candidate: the catalogue of then, version %d, has no such offer for these touchpoints", w.offer, r.Catalog)}
	}
	return out, nil
}

// value writes a value that was read.
func (w *explanationWriter) value(r *explain.Read) *rapportv1.ExplainedValue {
	v := &rapportv1.ExplainedValue{Name: r.Name, Known: r.Value.Known(), Missing: r.Missing}
	if v.Known {
		v.Value = w.show(r)
		v.Masked = w.personal(r)
	}
	return v
}

// at writes the explanation at a touchpoint, and whether it has what was asked for.
func (w *explanationWriter) at(t *explain.Touchpoint) (out *rapportv1.ExplainedTouchpoint, has bool) {
	r := t.Record
	out = &rapportv1.ExplainedTouchpoint{
		Touchpoint: r.ID, Scenario: r.Scenario, Slots: int32(r.Slots),
		Strategy: &rapportv1.RankedBy{Name: r.Strategy.Name, Version: r.Strategy.Version, Digest: r.Strategy.Digest, FuelLimit: r.FuelLimit, FuelUsed: r.FuelUsed},
		RankedBy: &rapportv1.RankedBy{Name: r.RankedBy.Name, Version: r.RankedBy.Version, Digest: r.RankedBy.Digest},
		Funnel: &rapportv1.Funnel{
			Candidates: int32(t.Candidates), Eligible: int32(t.Eligible), Allowed: int32(t.Allowed), Ranked: int32(t.Ranked), Offered: int32(t.Offered),
		},
	}
	for _, d := range r.Degradations {
		out.Degradations = append(out.Degradations, &rapportv1.ExplainedStepDown{
			Kind: rapportv1.DegradationKind(d.Step), Words: explain.StepWords(d.Step), Detail: d.Detail,
		})
	}
	for _, n := range t.Counts {
		out.Reasons = append(out.Reasons, &rapportv1.ReasonCount{Reason: rapportv1.Reason(n.Reason), Candidates: int32(n.Candidates)})
	}
	for k := range r.Slate {
		p := &r.Slate[k]
		if w.offer != "" && p.Offer != w.offer {
			continue
		}
		out.Slate, has = append(out.Slate, w.placement(p, r)), true
	}
	var ranked []*explain.Candidate
	causes := make(map[string]*rapportv1.ExplainedCause)
	written := make(map[*explain.Cause]string) // the key in causes
	for place := range t.All {
		c := &t.All[place]
		if w.offer != "" && c.Offer.ID != w.offer {
			continue
		}
		has = true
		switch {
		case c.Score != nil:
			ranked = append(ranked, c)
		case c.Reason != decide.ReasonOffered:
			w.cause(out, c, causes, written)
		}
	}
	slices.SortStableFunc(out.Causes, func(a, b *rapportv1.ExplainedCause) int { return cmp.Compare(b.GetCandidates(), a.GetCandidates()) })
	if most := causesNamed * w.named; most/causesNamed == w.named && len(out.GetCauses()) > most {
		for _, c := range out.GetCauses()[most:] {
			out.MoreRemoved += c.GetCandidates()
		}
		out.MoreCauses, out.Causes = int32(len(out.GetCauses())-most), out.GetCauses()[:most]
	}
	w.ranked(out, ranked)
	return out, has
}

// cause counts a candidate with its cause.
func (w *explanationWriter) cause(out *rapportv1.ExplainedTouchpoint, c *explain.Candidate, causes map[string]*rapportv1.ExplainedCause, written map[*explain.Cause]string) {
	key, ok := written[c.Why]
	if !ok {
		words := c.Why.Words(w.show)
		key = c.Reason.String() + " " + words
		written[c.Why] = key
		if causes[key] == nil {
			causes[key] = w.causeMessage(c.Why, words)
			out.Causes = append(out.Causes, causes[key])
		}
	}
	m := causes[key]
	if m.Candidates++; int(m.GetCandidates()) <= w.named {
		m.Offers = append(m.Offers, c.Offer.ID)
	}
}

func (w *explanationWriter) causeMessage(c *explain.Cause, words string) *rapportv1.ExplainedCause {
	m := &rapportv1.ExplainedCause{Reason: rapportv1.Reason(c.Reason), Why: words, Condition: c.Text, Label: c.Label, Part: c.Part.String(), By: c.By}
	if c.Until != 0 {
		m.Until = timestamppb.New(time.UnixMicro(c.Until))
	}
	for i := range c.Reads {
		m.Reads = append(m.Reads, w.value(&c.Reads[i]))
	}
	for _, n := range c.Counted {
		m.Counted = append(m.Counted, &rapportv1.CountedContact{Time: timestamppb.New(time.UnixMicro(n.Time)), Pending: n.Pending})
	}
	return m
}

// ranked writes the candidates that were ranked, best first: as many as are to be named,
// and all that were offered.
func (w *explanationWriter) ranked(out *rapportv1.ExplainedTouchpoint, ranked []*explain.Candidate) {
	slices.SortStableFunc(ranked, func(a, b *explain.Candidate) int {
		// Those that were vetoed have no rank, and come last.
		return cmp.Or(cmp.Compare(min(1, b.Score.Rank), min(1, a.Score.Rank)), cmp.Compare(a.Score.Rank, b.Score.Rank))
	})
	for _, c := range ranked {
		if len(out.GetRanked()) >= w.named && c.Reason != decide.ReasonOffered {
			out.MoreRanked++
			continue
		}
		s := c.Score
		m := &rapportv1.RankedCandidate{
			Rank: int32(s.Rank), Offer: c.Offer.ID, Channel: c.Channel, Score: s.Score,
			Parts:          &rapportv1.ScoreParts{Propensity: s.Propensity, Value: s.Value, Weight: s.Weight, Lever: s.Lever},
			PropensityFrom: s.PropensityFrom, Pressure: s.Pressure, Load: s.Load, Reason: s.Reason, Outcome: rapportv1.Reason(c.Reason),
		}
		for _, b := range s.Boosts {
			m.Boosts = append(m.Boosts, &rapportv1.ScoreBoost{Of: b.Of, Percent: b.Percent})
		}
		if c.Why != nil {
			m.Why = c.Why.Words(w.show)
		}
		out.Ranked = append(out.Ranked, m)
	}
}

// placement writes an offer that was made.
func (w *explanationWriter) placement(p *decisionlog.Placement, t *decisionlog.Touchpoint) *rapportv1.ExplainedPlacement {
	content, script := w.templates(p, t)
	return &rapportv1.ExplainedPlacement{
		Offer: p.Offer, Channel: p.Channel, Content: w.hide.text(p.Content, content, w.x.Catalog), Script: w.hide.text(p.Script, script, w.x.Catalog),
		Score: p.Score, Reason: p.Reason, Probability: p.Probability, Fallback: p.Fallback,
		Parts: &rapportv1.ScoreParts{Propensity: p.Propensity, Value: p.Value, Weight: p.Weight, Lever: p.Lever},
	}
}

// templates returns what the texts of a placement were computed by; nil if that is not
// known.
func (w *explanationWriter) templates(p *decisionlog.Placement, t *decisionlog.Touchpoint) (content, script *catalog.Template) {
	c := w.x.Catalog
	if c == nil {
		return nil, nil
	}
	at, ok := c.Touchpoint(t.ID)
	if !ok || c.Touchpoints[at].Scenario < 0 {
		return nil, nil
	}
	if f := c.Touchpoints[at].Fallback; p.Fallback && f != nil {
		return f.Content, f.Script
	}
	for i := range c.Scenarios[c.Touchpoints[at].Scenario].Candidates {
		x := &c.Scenarios[c.Touchpoints[at].Scenario].Candidates[i]
		if c.Offers[x.Offer].ID == p.Offer && c.Channels[x.Channel].ID == p.Channel && slices.Contains(c.Touchpoints[at].Candidates, int32(i)) {
			return x.Content, x.Script
		}
	}
	return nil, nil
}
