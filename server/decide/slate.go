package decide

import (
	"container/heap"
	"slices"

	"rapport/profilestore/rules"
	"rapport/server/catalog"
)

// fill puts the best candidates on the slate and gives the others their reason.
//
// Where nothing but the score decides, the best of thousands for a few slots are kept
// in a short sorted list. Where a candidate may be refused its place by another on the
// slate, by a capacity or by a content that can't be computed, it is not known in
// advance how many are looked at, and they come from a heap.
func (d *Decider) fill(s *scratch, t *catalog.Touchpoint, r *Request, a *Answer) {
	q := &s.ranking
	scenario := d.catalog.Scenarios[t.Scenario]
	candidates := scenario.Candidates
	if scenario.Plain {
		var tied int
		s.best, tied = q.best(candidates, s.best)
		for i, x := range s.best {
			a.Reasons[s.places[x.place]] = ReasonOffered
			s.texts(t, &candidates[q.Candidates[x.place]]) // nothing is computed
			d.place(s, x.place, x.draws(s.best[i+1:], tied), candidates, a)
		}
		return
	}
	s.best = d.contenders(s, scenario, scenario.ClassOrder, a, s.best[:0])
	queue := candidateHeap(s.best)
	heap.Init(&queue)
	s.chosen = s.chosen[:0]
	for len(queue) > 0 && len(a.Slate) < q.Slots {
		x, _ := heap.Pop(&queue).(ranked)
		c := &candidates[q.Candidates[x.place]]
		place := int(s.places[x.place])
		if other := excluded(d.catalog, c.Offer, s.chosen); other >= 0 {
			a.withhold(place, ReasonExcluded, d.catalog.Offers[other].ID)
			continue
		}
		if reason := s.texts(t, c); reason != ReasonNone {
			a.Reasons[place] = reason
			continue
		}
		if full := d.take(c, r); full >= 0 {
			a.withhold(place, ReasonCapacity, d.catalog.Capacities[full].ID)
			continue
		}
		s.chosen = append(s.chosen, c.Offer)
		a.Reasons[place] = ReasonOffered
		d.place(s, x.place, queue.draws(x), candidates, a)
	}
}

// draws returns among how many the seed drew x, which was the first.
func (h candidateHeap) draws(x ranked) int {
	if len(h) == 0 || h[0].class != x.class || h[0].score != x.score {
		return 1
	}
	return x.draws(h, 0)
}

// withhold notes why a candidate is not on the slate.
func (a *Answer) withhold(place int, reason Reason, by string) {
	a.Reasons[place] = reason
	a.Details = append(a.Details, Detail{Place: place, By: by})
}

// Slate returns where in the columns of a ranking that is filled the candidates stand
// that a decision for one touchpoint offers, best first, in the memory of places: in the
// order of the scenario, with its minimum, without what another one on the slate excludes.
// That a capacity is full or a content can't be computed it does not know.
func (q *Ranking) Slate(c *catalog.Compiled, scenario *catalog.Scenario, places []int) []int {
	places = places[:0]
	if scenario.Plain {
		best, _ := q.best(scenario.Candidates, nil)
		for _, x := range best {
			places = append(places, x.place)
		}
		return places
	}
	var queue candidateHeap
	for i := range q.Candidates {
		if x, ok := q.contender(c, scenario, scenario.ClassOrder, i); ok && !q.Veto[i] {
			queue = append(queue, x)
		}
	}
	heap.Init(&queue)
	var chosen []int
	for len(queue) > 0 && len(places) < q.Slots {
		x, _ := heap.Pop(&queue).(ranked)
		if offer := scenario.Candidates[q.Candidates[x.place]].Offer; excluded(c, offer, chosen) < 0 {
			chosen = append(chosen, offer)
			places = append(places, x.place)
		}
	}
	return places
}

// contender returns a candidate of the ranking, and whether its score is enough.
func (q *Ranking) contender(c *catalog.Compiled, scenario *catalog.Scenario, classOrder bool, i int) (x ranked, ok bool) {
	offer := scenario.Candidates[q.Candidates[i]].Offer
	class := c.Offers[offer].Class
	x = ranked{place: i, score: q.Score[i], tie: mix(q.Seed, uint64(offer))}
	if classOrder {
		x.class = class
	}
	return x, class == catalog.ClassService || q.Score[i] >= scenario.MinimumScore
}

// contenders appends to queue the candidates that may come on the slate.
func (d *Decider) contenders(s *scratch, scenario *catalog.Scenario, classOrder bool, a *Answer, queue []ranked) []ranked {
	q := &s.ranking
	for i := range q.Candidates {
		if q.Veto[i] {
			continue
		}
		x, ok := q.contender(d.catalog, scenario, classOrder, i)
		if !ok {
			a.Reasons[s.places[i]] = ReasonBelowMinimum
			continue
		}
		queue = append(queue, x)
	}
	return queue
}

// candidateHeap has the best candidate first.
type candidateHeap []ranked

func (h candidateHeap) Len() int           { return len(h) }
func (h candidateHeap) Less(i, j int) bool { return compareRanked(h[i], h[j]) < 0 }
func (h candidateHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *candidateHeap) Push(any)          {} // nothing is ever pushed
func (h *candidateHeap) Pop() any {
	n := len(*h) - 1
	x := (*h)[n]
	*h = (*h)[:n]
	return x
}

// excluded returns an offer on the slate that an offer can't be with, −1 if there is
// none.
func excluded(c *catalog.Compiled, offer int, chosen []int) int {
	o := &c.Offers[offer]
	for _, other := range chosen {
		if other == offer || slices.Contains(o.Excludes, other) || o.Exclusive >= 0 && o.Exclusive == c.Offers[other].Exclusive {
			return other
		}
	}
	return -1
}

// take takes a place of every capacity that a candidate needs, or of none; then it
// returns the one that is full, else −1.
func (d *Decider) take(c *catalog.Candidate, r *Request) int {
	if r.Places == nil {
		return -1
	}
	for i, n := range c.Capacities {
		if !r.Places.Take(int(n), c.Offer, c.Channel) {
			for _, taken := range c.Capacities[:i] {
				r.Places.Return(int(taken), c.Offer, c.Channel)
			}
			return int(n)
		}
	}
	return -1
}

// texts makes what a candidate shows at a touchpoint, and what staff say there, for
// place. It returns why there is none: a computed part needs a value that is not known.
func (s *scratch) texts(t *catalog.Touchpoint, c *catalog.Candidate) Reason {
	var truth rules.Truth
	s.script = ""
	if s.content, truth = c.Content.Render(s.rules); truth == rules.True && t.Staff {
		s.script, truth = c.Script.Render(s.rules)
	}
	return fulfilled(truth, ReasonNone)
}

// place puts a candidate of the ranking on the slate, with the last texts. The seed drew it
// among so many.
func (d *Decider) place(s *scratch, i, draws int, candidates []catalog.Candidate, a *Answer) {
	q := &s.ranking
	c := &candidates[q.Candidates[i]]
	p := Placement{
		Offer: c.Offer, Channel: c.Channel, Content: s.content, Script: s.script, Score: q.Score[i],
		Propensity: q.Propensity[i], Value: q.Value[i], Weight: q.Weight[i], Lever: q.Lever[i],
		Probability: 1 / float64(draws),
	}
	if len(q.Chance) > 0 && q.Chance[i] > 0 {
		p.Probability *= q.Chance[i]
	}
	if code := q.Reason[i]; int(code) < len(a.RankedBy.Reasons) {
		p.Reason = a.RankedBy.Reasons[code]
	}
	a.Slate = append(a.Slate, p)
}
