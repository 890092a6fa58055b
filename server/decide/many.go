package decide

import (
	"cmp"
	"context"
	"slices"

	"rapport/profilestore"
	"rapport/server/catalog"
)

// At is a touchpoint that a question names.
type At struct {
	Touchpoint int // in Compiled.Touchpoints
	Slots      int // at most so many offers; 0: as many as the touchpoint has
}

// DecideMany answers for several touchpoints at once, as if one slate were divided
// among them: no offer is made twice, and what excludes another does so wherever it is.
// An offer that competes in several channels keeps one, by the scenario's channel choice;
// at several touchpoints of a channel it keeps the one with the best score.
//
// With one set the answer is a single contact: the channel of the best candidate of all
// gets its slates, the others stay empty. Without, what is said in each channel is a
// contact of its own, and contact policies count those that the same answer makes.
//
// r.Touchpoint and r.Slots are not looked at. answers has one answer for each of ats.
func (d *Decider) DecideMany(ctx context.Context, r *Request, ats []At, one bool, answers []Answer) {
	m := many{d: d, r: r, one: one, channel: -1, sides: make([]side, len(ats))}
	for i, at := range ats {
		side := &m.sides[i]
		side.t, side.a, side.s = &d.catalog.Touchpoints[at.Touchpoint], &answers[i], d.acquire()
		defer d.release(side.s)
		side.r = *r
		side.r.Touchpoint, side.r.Slots = at.Touchpoint, at.Slots
		if side.competes = d.compete(ctx, side.s, side.t, &side.r, side.a); side.competes {
			m.gather(i)
		}
	}
	m.choose()
	slices.SortFunc(m.queue, func(a, b contender) int {
		return cmp.Or(compareRanked(a.ranked, b.ranked), a.side-b.side)
	})
	for _, x := range m.queue {
		m.fill(x)
	}
	for i := range m.sides {
		m.sides[i].a.finish()
	}
	m.fallback()
}

// many is one decision for several touchpoints.
type many struct {
	d       *Decider
	r       *Request
	one     bool
	channel int // with one: that of the contact; −1 before it is known
	sides   []side
	queue   []contender
	chosen  []int // offers
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

func (x *side) candidates(d *Decider) []catalog.Candidate {
	return d.catalog.Scenarios[x.t.Scenario].Candidates
}

// contender is a candidate that may come on a slate.
type contender struct {
	ranked
	side  int
	offer int
}

// gather adds the candidates of a side to the queue.
func (m *many) gather(i int) {
	x := &m.sides[i]
	scenario := m.d.catalog.Scenarios[x.t.Scenario]
	x.s.best = m.d.contenders(x.s, scenario, x.a, x.s.best[:0])
	for _, c := range x.s.best {
		m.queue = append(m.queue, contender{c, i, scenario.Candidates[x.s.ranking.Candidates[c.place]].Offer})
	}
}

// choose leaves each offer at one touchpoint.
func (m *many) choose() {
	by := make(map[int][]contender)
	for _, x := range m.queue {
		by[x.offer] = append(by[x.offer], x)
	}
	m.queue = slices.DeleteFunc(m.queue, func(x contender) bool {
		rivals := by[x.offer]
		if len(rivals) == 1 {
			return false
		}
		best := slices.MinFunc(rivals, m.prefer)
		if best.side == x.side {
			return false
		}
		reason := ReasonOtherTouchpoint
		if m.sides[best.side].t.Channel != m.sides[x.side].t.Channel {
			reason = ReasonOtherChannel
		}
		m.withhold(x, reason, m.sides[best.side].t.ID)
		return true
	})
}

// prefer orders the places where one offer could be made, the best first. The first
// touchpoint whose scenario says how to choose decides how.
func (m *many) prefer(a, b contender) int {
	rank := func(x contender) int {
		choice := m.choice()
		if choice == nil {
			return 0
		}
		ch := m.sides[x.side].t.Channel
		profile := m.sides[x.side].s.ranking.Profile
		if choice.Preferred >= 0 && profile.Get(choice.Preferred).Text() == m.d.catalog.Channels[ch].ID {
			return -1
		}
		if choice.Persona >= 0 {
			if channels, ok := choice.Personas[profile.Get(choice.Persona).Text()]; ok {
				if i := slices.Index(channels, ch); i >= 0 {
					return i
				}
				return len(channels)
			}
		}
		return 0
	}
	cost := func(x contender) float64 { return m.d.catalog.Channels[m.sides[x.side].t.Channel].Cost }
	if by := cmp.Compare(rank(a), rank(b)); by != 0 {
		return by
	}
	if choice := m.choice(); choice != nil && choice.Cheapest {
		if by := cmp.Compare(cost(a), cost(b)); by != 0 {
			return by
		}
	}
	return cmp.Or(cmp.Compare(b.score, a.score), cmp.Compare(cost(a), cost(b)), a.side-b.side)
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

// fill puts a candidate on the slate of its touchpoint, if it may be there.
func (m *many) fill(x contender) {
	side := &m.sides[x.side]
	q := &side.s.ranking
	candidates := side.candidates(m.d)
	c := &candidates[q.Candidates[x.place]]
	if m.one && m.channel >= 0 && m.channel != c.Channel {
		m.withhold(x, ReasonOtherChannel, m.d.catalog.Channels[m.channel].ID)
		return
	}
	if len(side.a.Slate) >= q.Slots {
		return // it is ranked below
	}
	if other := m.d.excluded(c.Offer, m.chosen); other >= 0 {
		m.withhold(x, ReasonExcluded, m.d.catalog.Offers[other].ID)
		return
	}
	if reason := m.again(side, c); reason != ReasonNone {
		place := int(side.s.places[x.place])
		side.a.Reasons[place] = reason
		side.a.Details = append(side.a.Details, Detail{Place: place, By: side.s.contact.by, Until: side.s.contact.until})
		return
	}
	if reason := side.s.texts(side.t, c); reason != ReasonNone {
		side.a.Reasons[side.s.places[x.place]] = reason
		return
	}
	if full := m.d.take(c, m.r); full >= 0 {
		m.withhold(x, ReasonCapacity, m.d.catalog.Capacities[full].ID)
		return
	}
	m.chosen = append(m.chosen, c.Offer)
	m.channel = c.Channel
	m.met(side, c)
	side.a.Reasons[side.s.places[x.place]] = ReasonOffered
	m.d.place(side.s, x.place, candidates, side.a)
}

// again checks the contact policies again if the answer already makes a contact in
// another channel, which they may count.
func (m *many) again(side *side, c *catalog.Candidate) Reason {
	o := &m.d.catalog.Offers[c.Offer]
	if len(c.Policies) == 0 || o.Class == catalog.ClassService || len(m.contacts) == 0 || m.contacts[c.Channel] != nil && len(m.contacts) == 1 {
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
	return side.s.contact.check(side.s, o, c)
}

// met notes that an offer is made in a channel.
func (m *many) met(side *side, c *catalog.Candidate) {
	if m.contacts == nil {
		m.contacts = make(map[int]*Contact)
	}
	contact := m.contacts[c.Channel]
	if contact == nil {
		contact = &Contact{Time: m.r.Now, Channel: m.d.catalog.Channels[c.Channel].ID, Touchpoint: side.t.ID}
		m.contacts[c.Channel] = contact
	}
	o := &m.d.catalog.Offers[c.Offer]
	contact.Items = append(contact.Items, profilestore.Item{Offer: o.ID, Group: o.Group, Class: o.Class.String()})
}

// fallback answers with the fallback offers of touchpoints whose slates are empty: each
// offer once, and of a single contact only where nothing else is said.
func (m *many) fallback() {
	for i := range m.sides {
		x := &m.sides[i]
		f := x.t.Fallback
		if !x.competes || len(x.a.Slate) > 0 || f == nil || slices.Contains(m.chosen, f.Offer) || m.one && len(m.chosen) > 0 {
			continue
		}
		m.d.fallback(x.s, x.t, &x.r, x.a)
		if len(x.a.Slate) > 0 {
			m.chosen = append(m.chosen, f.Offer)
		}
	}
}
