package decide

import (
	"slices"
	"time"

	"rapport/profilestore/rules"
	"rapport/server/catalog"
)

// This file is for those who explain a decision: it says what the pipeline does not keep,
// by the same code.

// Inputs are what the conditions of the catalogue read.
func (r *Request) Inputs() rules.Inputs {
	in := rules.Inputs{Profile: r.Profile, Context: r.Context, Tables: r.Tables, Now: r.Now}
	if in.Profile == nil {
		in.Profile = unknownProfile{}
	}
	return in
}

// Order returns where in the columns of a ranking that is filled the candidates stand
// that were not vetoed, in the order in which they come on a slate as long as nothing but
// the ranking decides: the best first.
func (d *Decider) Order(q *Ranking, scenario *catalog.Scenario, classOrder bool) []int {
	queue := make([]ranked, 0, len(q.Candidates))
	for i, index := range q.Candidates {
		if q.Veto[i] {
			continue
		}
		offer := scenario.Candidates[index].Offer
		x := ranked{place: i, score: q.Score[i], tie: mix(q.Seed, uint64(offer))}
		if classOrder {
			x.class = d.catalog.Offers[offer].Class
		}
		queue = append(queue, x)
	}
	slices.SortFunc(queue, compareRanked)
	order := make([]int, len(queue))
	for i := range queue {
		order[i] = queue[i].place
	}
	return order
}

// Zone returns the time zone of a customer, by which hours are.
func (d *Decider) Zone(profile rules.Profile) *time.Location { return d.zone(profile) }

// Counted is a contact or outcome that a contact policy counts.
type Counted struct {
	Time    int64 // microseconds since the Unix epoch; of one that is known by its day, when that began
	Pending bool  // it was promised by another decision, and not reported yet
}

// Counted returns what a contact policy, by its place in Compiled.Policies, counts for a
// candidate at a touchpoint, the latest first: all of its window, and of the time for
// which it suppresses.
func (d *Decider) Counted(r *Request, touchpoint, policy int, c *catalog.Candidate) []Counted {
	p, o := &d.catalog.Policies[policy], &d.catalog.Offers[c.Offer]
	x := contactRules{d: d, t: &d.catalog.Touchpoints[touchpoint], r: r}
	filters := slices.Clone(p.Filters)
	for k := range filters {
		x.narrow(&filters[k], p.Per, o, c)
	}
	happened := *r
	happened.Pending = nil
	x.r = &happened
	x.evaluate(p, filters)
	var out []Counted
	for _, at := range x.times {
		out = append(out, Counted{Time: at})
	}
	if p.Count == catalog.CountContacts {
		for i := range r.Pending {
			if c := &r.Pending[i]; c.Time > r.Now-p.Within-p.Suppress && c.matches(filters) {
				out = append(out, Counted{Time: c.Time, Pending: true})
			}
		}
	}
	slices.SortStableFunc(out, func(a, b Counted) int { return int(min(max(b.Time-a.Time, -1), 1)) })
	return out
}
