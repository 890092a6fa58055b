package explain

import (
	"context"
	"errors"
	"slices"
	"strings"

	"rapport/server/catalog"
	"rapport/server/decide"
	"rapport/server/decisionlog"
)

// Explanation says why a decision was what it was. It is immutable.
type Explanation struct {
	Record  *decisionlog.Record
	Catalog *catalog.Compiled // that of the decision; nil if it can't be had

	// Inexact is why the decision could not be made again, Differences are what was not
	// the same when it was. If there is either, candidates have no Why but what is in the
	// record, and no Score.
	Inexact     string
	Differences []string

	At []Touchpoint
}

// Verified reports whether the decision was made again with the same answer to the bit.
func (x *Explanation) Verified() bool { return x.Inexact == "" && len(x.Differences) == 0 }

// Touchpoint is the explanation of the answer at one touchpoint.
type Touchpoint struct {
	Record *decisionlog.Touchpoint

	// Counts are how many candidates have each reason.
	Counts []Count
	// Candidates, Eligible, Allowed, Ranked and Offered are how many came so far.
	Candidates, Eligible, Allowed, Ranked, Offered int

	// All are the candidates in the order of the catalogue; nil if the catalogue can't be
	// had.
	All []Candidate
}

// Count is how many candidates have a reason.
type Count struct {
	Reason     decide.Reason
	Candidates int
}

// Candidate is what became of a candidate.
type Candidate struct {
	Offer   *catalog.Offer
	Channel string
	Reason  decide.Reason

	Why   *Cause // nil for what is on the slate; candidates with the same cause share it
	Score *Score // nil if it was not ranked
}

// Score is how a candidate was ranked.
type Score struct {
	Rank  int // from 1; 0 if it was vetoed
	Of    int // how many were ranked
	Score float64

	Propensity, Value, Weight, Lever float64

	PropensityFrom string          // in words: the field whose value it is, or what was learned; empty: the offer's constant
	Boosts         []catalog.Boost // of which Lever is made
	Pressure       float64         // by which Weight was multiplied, since the channel was full; 0: it was not
	Load           float64         // of the channel
	Reason         string          // in the strategy's words; empty if it gave none
}

// observed is a ranking, copied while the decision was made again.
type observed struct {
	q      decide.Ranking
	places []int32
}

// Explain explains a decision. An error is that of ctx: what can't be explained is in the
// explanation.
func Explain(ctx context.Context, p decisionlog.Replayer, r *decisionlog.Record) (*Explanation, error) {
	x := &Explanation{Record: r}
	rankings := make(map[int]*observed)
	again, err := p.Replay(ctx, r, decisionlog.With{Observe: func(at int, q *decide.Ranking, places []int32) {
		rankings[at] = observe(q, places)
	}})
	var inexact *decisionlog.InexactError
	switch {
	case errors.As(err, &inexact):
		x.Inexact = inexact.Why
		if d, err := p.Sources.Decider(ctx, r.Catalog, r.Schema); err == nil {
			x.Catalog = d.Catalog()
		}
	case err != nil:
		return nil, err
	default:
		x.Catalog = again.Decider.Catalog()
		if len(again.Missing) > 0 { // what came of it means nothing then
			x.Inexact = "the record does not have " + strings.Join(again.Missing, ", ")
		} else {
			x.Differences = r.Differences(again)
		}
	}
	for i := range r.At {
		t := touchpoint(&r.At[i])
		if x.Catalog != nil {
			t.All = x.named(&r.At[i])
		}
		x.At = append(x.At, t)
	}
	if x.Verified() {
		newFinder(x, again, rankings).find()
	} else {
		x.recorded()
	}
	return x, nil
}

// observe copies a ranking.
func observe(q *decide.Ranking, places []int32) *observed {
	o := &observed{q: *q, places: slices.Clone(places)}
	o.q.Candidates = slices.Clone(q.Candidates)
	o.q.Propensity, o.q.Value = slices.Clone(q.Propensity), slices.Clone(q.Value)
	o.q.Weight, o.q.Lever = slices.Clone(q.Weight), slices.Clone(q.Lever)
	o.q.Score, o.q.Reason, o.q.Veto = slices.Clone(q.Score), slices.Clone(q.Reason), slices.Clone(q.Veto)
	o.q.Profile = nil
	return o
}

// touchpoint returns what follows from the record alone.
func touchpoint(r *decisionlog.Touchpoint) Touchpoint {
	a := decide.Answer{Reasons: r.Reasons}
	for _, reason := range r.Reasons {
		a.Funnel[reason]++
	}
	t := Touchpoint{
		Record: r, Candidates: a.Candidates(), Eligible: a.Eligible(), Allowed: a.Allowed(), Ranked: a.Ranked(),
		Offered: a.Funnel[decide.ReasonOffered],
	}
	for _, reason := range pipelineOrder {
		if n := a.Funnel[reason]; n > 0 {
			t.Counts = append(t.Counts, Count{reason, n})
		}
	}
	return t
}

// pipelineOrder are the reasons in the order in which the pipeline comes to them.
var pipelineOrder = [...]decide.Reason{
	decide.ReasonProfileUnreadable, decide.ReasonNotValid, decide.ReasonNotEligible, decide.ReasonUnknown, decide.ReasonRuleError,
	decide.ReasonOwned, decide.ReasonPrerequisite, decide.ReasonNotReserved, decide.ReasonDoNotDisturb, decide.ReasonNoConsent,
	decide.ReasonQuietDeferred, decide.ReasonCapped, decide.ReasonControlGroup, decide.ReasonVetoed, decide.ReasonBelowMinimum,
	decide.ReasonExcluded, decide.ReasonCapacity, decide.ReasonOtherChannel, decide.ReasonOtherTouchpoint, decide.ReasonRankedBelow,
	decide.ReasonOffered,
}

// named returns the candidates of a touchpoint with the reasons of the record; nil if
// the catalogue has others.
func (x *Explanation) named(r *decisionlog.Touchpoint) []Candidate {
	c := x.Catalog
	at, ok := c.Touchpoint(r.ID)
	if !ok || c.Touchpoints[at].Scenario < 0 || len(c.Touchpoints[at].Candidates) != len(r.Reasons) {
		return nil
	}
	t := &c.Touchpoints[at]
	out := make([]Candidate, len(r.Reasons))
	for place, index := range t.Candidates {
		candidate := &c.Scenarios[t.Scenario].Candidates[index]
		out[place] = Candidate{Offer: &c.Offers[candidate.Offer], Channel: c.Channels[candidate.Channel].ID, Reason: r.Reasons[place]}
	}
	return out
}

// recorded gives the candidates what the record says of why.
func (x *Explanation) recorded() {
	type key struct {
		reason decide.Reason
		by     string
		until  int64
	}
	for i := range x.At {
		t := &x.At[i]
		causes := make(map[key]*Cause)
		for place := range t.All {
			candidate := &t.All[place]
			if candidate.Reason == decide.ReasonOffered {
				continue
			}
			by, until := detail(t.Record, place)
			k := key{candidate.Reason, by, until}
			if causes[k] == nil {
				causes[k] = &Cause{Reason: candidate.Reason, By: by, Until: until, Condition: -1}
			}
			candidate.Why = causes[k]
		}
	}
}

// detail returns what the record says more of a candidate.
func detail(t *decisionlog.Touchpoint, place int) (by string, until int64) {
	i, ok := slices.BinarySearchFunc(t.Details, place, func(d decide.Detail, place int) int { return d.Place - place })
	if !ok {
		return "", 0
	}
	return t.Details[i].By, t.Details[i].Until
}
