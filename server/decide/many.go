package decide

import (
	"cmp"
	"container/heap"
	"context"
	"slices"

	"rapport/profilestore"
	"rapport/server/catalog"
)

// DecideMany answers for several touchpoints at once, as if one slate were divided
// among them: no offer is made twice, and what excludes another does so wherever it is.
// An offer that competes in several channels keeps one, by the scenario's channel choice;
// at several touchpoints of a channel it keeps the one with the best score, of equal ones
// the first. Where there is no room for it, it goes to the next best.
//
// With one set the answer is a single contact: the channel of the best offer of all gets
// its slates, the others stay empty. Without, what is said in each channel is a contact
// of its own, and contact policies count those that the same answer makes.
//
// If the scenario of any of the touchpoints orders by class, all do. A channel gets no
// more than profilestore.MaxItems offers, or what was said in it could not be recorded.
//
// r.At is not looked at. answers has one answer for each of ats.
func (d *Decider) DecideMany(ctx context.Context, r *Request, ats []At, one bool, answers []Answer) {
	m := many{d: d, r: r, one: one, channel: -1, sides: make([]side, len(ats)), rivals: make(map[int][]contender)}
	for i, at := range ats {
		side := &m.sides[i]
		side.t, side.a, side.s = &d.catalog.Touchpoints[at.Touchpoint], &answers[i], d.acquire()
		defer d.release(side.s)
		side.r = *r
		side.r.At = at
		side.competes = d.compete(ctx, side.s, side.t, &side.r, side.a)
		side.s.observe(r, i)
		if side.competes {
			m.classOrder = m.classOrder || d.catalog.Scenarios[side.t.Scenario].ClassOrder
		}
	}
	for i := range m.sides {
		if m.sides[i].competes {
			m.gather(i)
		}
	}
	m.fill()
	for i := range m.sides {
		m.order(m.sides[i].a.Slate)
		m.sides[i].a.finish()
	}
	m.fallback()
}

// many is one decision for several touchpoints.
//
// Each offer stands in a queue with the candidate at the touchpoint that is best for it,
// and the best of the queue is next. If it can't be there, since the slots are full or a
// capacity is, the offer gets in line again with its next best. So where no room is
// short, each offer is where it is best; to look for the division that is best
// altogether would cost more than it is worth.
type many struct {
	d          *Decider
	r          *Request
	one        bool
	classOrder bool
	channel    int // with one: that of the contact; −1 before it is known
	sides      []side
	rivals     map[int][]contender // the candidates of each offer that had no turn yet, the best first
	chosen     []int               // offers
	// contacts are those that the answer makes, by channel.
	contacts map[int]*Contact
}

// side is what is decided for one touchpoint.
type side struct {
	t        *catalog.Touchpoint
	s        *scratch
	r        Request
	a        *Answer
	competes bool
}

// contender is a candidate that may come on a slate.
type contender struct {
	ranked
	side  int
	offer int
}

// contenderHeap has the best contender first.
type contenderHeap []contender

func (h contenderHeap) Len() int { return len(h) }
func (h contenderHeap) Less(i, j int) bool {
	return cmp.Or(compareRanked(h[i].ranked, h[j].ranked), h[i].side-h[j].side) < 0
}
func (h contenderHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *contenderHeap) Push(x any) {
	if c, ok := x.(contender); ok {
		*h = append(*h, c)
	}
}

func (h *contenderHeap) Pop() any {
	n := len(*h) - 1
	x := (*h)[n]
	*h = (*h)[:n]
	return x
}

// draws returns among how many the seed drew the first.
func (h contenderHeap) draws() int {
	equal := func(x contender) bool { return x.class == h[0].class && x.score == h[0].score }
	if !slices.ContainsFunc(h[1:min(3, len(h))], equal) { // the next of all is one of these
		return 1
	}
	n := 0
	for i := range h {
		if equal(h[i]) {
			n++
		}
	}
	return n
}

// gather notes the candidates of a side.
func (m *many) gather(i int) {
	x := &m.sides[i]
	scenario := m.d.catalog.Scenarios[x.t.Scenario]
	x.s.best = m.d.contenders(x.s, scenario, m.classOrder, x.a, x.s.best[:0])
	for _, c := range x.s.best {
		offer := scenario.Candidates[x.s.ranking.Candidates[c.place]].Offer
		m.rivals[offer] = append(m.rivals[offer], contender{c, i, offer})
	}
}

// fill puts the offers on the slates.
func (m *many) fill() {
	queue := make(contenderHeap, 0, len(m.rivals))
	for offer, rivals := range m.rivals {
		if len(rivals) > 1 {
			slices.SortFunc(rivals, m.prefer)
		}
		queue, m.rivals[offer] = append(queue, rivals[0]), rivals[1:]
	}
	heap.Init(&queue)
	for len(queue) > 0 {
		x := queue[0]
		rest := m.rivals[x.offer]
		switch {
		case m.put(x, queue):
			for _, y := range rest {
				m.madeElsewhere(y, x)
			}
			heap.Pop(&queue)
		case len(rest) > 0:
			queue[0], m.rivals[x.offer] = rest[0], rest[1:]
			heap.Fix(&queue, 0)
		default:
			heap.Pop(&queue)
		}
	}
}

// madeElsewhere notes that x is not made because the same offer is made by another.
func (m *many) madeElsewhere(x, by contender) {
	reason := ReasonOtherTouchpoint
	if m.sides[by.side].t.Channel != m.sides[x.side].t.Channel {
		reason = ReasonOtherChannel
	}
	m.withhold(x, reason, m.sides[by.side].t.ID)
}

// prefer orders the places where one offer could be made, the best first. The first
// touchpoint whose scenario says how to choose decides how.
func (m *many) prefer(a, b contender) int {
	choice := m.choice()
	if choice != nil {
		if by := cmp.Compare(m.rank(choice, a), m.rank(choice, b)); by != 0 {
			return by
		}
		if choice.Cheapest {
			if by := cmp.Compare(m.cost(a), m.cost(b)); by != 0 {
				return by
			}
		}
	}
	return cmp.Or(cmp.Compare(b.score, a.score), cmp.Compare(m.cost(a), m.cost(b)), a.side-b.side)
}

func (m *many) cost(x contender) float64 {
	return m.d.catalog.Channels[m.sides[x.side].t.Channel].Cost
}

// rank says which of several channels a customer wants, by preference or by the kind of
// person: the least.
func (m *many) rank(choice *catalog.ChannelChoice, x contender) int {
	ch := m.sides[x.side].t.Channel
	profile := m.sides[x.side].s.ranking.Profile
	if choice.Preferred >= 0 && profile.Get(choice.Preferred).Text() == m.d.catalog.Channels[ch].ID {
		return -1
	}
	if choice.Persona < 0 {
		return 0
	}
	channels, ok := choice.Personas[profile.Get(choice.Persona).Text()]
	if !ok {
		return 0
	}
	if i := slices.Index(channels, ch); i >= 0 {
		return i
	}
	return len(channels)
}

// choice returns how channels are chosen; nil: by score.
func (m *many) choice() *catalog.ChannelChoice {
	for i := range m.sides {
		if t := m.sides[i].t; t.Scenario >= 0 {
			if c := &m.d.catalog.Scenarios[t.Scenario].Choice; c.Preferred >= 0 || c.Persona >= 0 || c.Cheapest {
				return c
			}
		}
	}
	return nil
}

func (m *many) withhold(x contender, reason Reason, by string) {
	side := &m.sides[x.side]
	side.a.withhold(int(side.s.places[x.place]), reason, by)
}

// put puts the first of a queue on the slate of its touchpoint and reports whether it may
// be there.
func (m *many) put(x contender, queue contenderHeap) bool {
	side := &m.sides[x.side]
	q := &side.s.ranking
	candidates := m.d.catalog.Scenarios[side.t.Scenario].Candidates
	c := &candidates[q.Candidates[x.place]]
	if m.one && m.channel >= 0 && m.channel != c.Channel {
		m.withhold(x, ReasonOtherChannel, m.d.catalog.Channels[m.channel].ID)
		return false
	}
	contact := m.contacts[c.Channel]
	if len(side.a.Slate) >= q.Slots || contact != nil && len(contact.Items) >= profilestore.MaxItems {
		return false // it is ranked below
	}
	if other := excluded(m.d.catalog, c.Offer, m.chosen); other >= 0 {
		m.withhold(x, ReasonExcluded, m.d.catalog.Offers[other].ID)
		return false
	}
	if reason := m.again(side, c); reason != ReasonNone {
		place := int(side.s.places[x.place])
		side.a.Reasons[place] = reason
		side.a.Details = append(side.a.Details, Detail{Place: place, By: side.s.contact.by, Until: side.s.contact.until})
		return false
	}
	if reason := side.s.texts(side.t, c); reason != ReasonNone {
		side.a.Reasons[side.s.places[x.place]] = reason
		return false
	}
	if full := m.d.take(c, m.r); full >= 0 {
		m.withhold(x, ReasonCapacity, m.d.catalog.Capacities[full].ID)
		return false
	}
	m.made(side, c)
	side.a.Reasons[side.s.places[x.place]] = ReasonOffered
	m.d.place(side.s, x.place, queue.draws(), candidates, side.a)
	return true
}

// again checks the contact policies again if the answer already makes a contact in
// another channel, which they may count.
func (m *many) again(side *side, c *catalog.Candidate) Reason {
	if len(c.Policies) == 0 || len(m.contacts) == 0 || m.contacts[c.Channel] != nil && len(m.contacts) == 1 {
		return ReasonNone
	}
	r := *m.r
	r.Pending = slices.Clone(m.r.Pending)
	for channel, contact := range m.contacts {
		if channel != c.Channel {
			r.Pending = append(r.Pending, *contact)
		}
	}
	side.s.contact.reset(m.d, side.t, &r, side.s.ranking.Profile)
	return side.s.contact.check(side.s, &m.d.catalog.Offers[c.Offer], c)
}

// made notes that an offer is made at a touchpoint.
func (m *many) made(side *side, c *catalog.Candidate) {
	if m.contacts == nil {
		m.contacts = make(map[int]*Contact)
	}
	contact := m.contacts[c.Channel]
	if contact == nil {
		contact = &Contact{Time: m.r.Now, Channel: m.d.catalog.Channels[c.Channel].ID}
		m.contacts[c.Channel] = contact
	}
	contact.Touchpoint = profilestore.JoinTouchpoints(contact.Touchpoint, side.t.ID)
	m.channel = c.Channel
	m.chosen = append(m.chosen, c.Offer)
	o := &m.d.catalog.Offers[c.Offer]
	contact.Items = append(contact.Items, profilestore.Item{Offer: o.ID, Group: o.Group, Class: o.Class.String()})
}

// order brings a slate into order: an offer that got in line again may have come after
// lesser ones.
func (m *many) order(slate []Placement) {
	rank := func(p *Placement) ranked {
		x := ranked{score: p.Score, tie: mix(m.r.Seed, uint64(p.Offer))}
		if m.classOrder {
			x.class = m.d.catalog.Offers[p.Offer].Class
		}
		return x
	}
	slices.SortStableFunc(slate, func(a, b Placement) int { return compareRanked(rank(&a), rank(&b)) })
}

// fallback answers with the fallback offers of touchpoints whose slates are empty: each
// offer once, and of a single contact only where nothing else is said.
func (m *many) fallback() {
	for i := range m.sides {
		x := &m.sides[i]
		f := x.t.Fallback
		if !x.competes || len(x.a.Slate) > 0 || f == nil || excluded(m.d.catalog, f.Offer, m.chosen) >= 0 || m.one && len(m.chosen) > 0 {
			continue
		}
		if m.again(x, f) != ReasonNone {
			continue
		}
		m.d.fallback(x.s, x.t, &x.r, x.a)
		if len(x.a.Slate) > 0 {
			m.made(x, f)
		}
	}
}
