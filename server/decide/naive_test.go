package decide_test

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"time"

	"rapport/profilestore"
	"rapport/profilestore/rules"
	"rapport/server/catalog"
	"rapport/server/decide"
)

// The naive twin of the pipeline: it does what the documentation says, candidate by
// candidate and minute by minute, from the catalogue as it was drawn.

// naive is one question put to the twin.
type naive struct {
	m       *model
	r       *decide.Request
	p       profile
	history []profilestore.Interaction // of all times
	learned map[[2]int][2]uint64       // presented and successes, by offer and channel
	left    []int                      // places of capacities
	ats     []decide.At
	many    bool
	one     bool

	sides    []*naiveSide
	chosen   []int
	contacts map[int]*decide.Contact // by channel
	holds    map[[2]int]bool         // places taken, by channel and capacity
}

// naiveSide is what the twin answers for a touchpoint.
type naiveSide struct {
	tp         *modelTouchpoint
	slots      int
	candidates []*naiveCandidate
	slate      []*naiveCandidate
	fallback   bool
}

type naiveCandidate struct {
	side      int
	offer     int
	treatment *modelTreatment
	reason    decide.Reason
	by        []string // what may be named
	until     int64
	score     float64
	tried     bool
	draws     int // among how many the seed drew it
}

func unknowns() profile {
	p := make(profile, len(modelFields))
	for i := range p {
		p[i] = profilestore.Unknown()
	}
	return p
}

// and is the conjunction of conditions.
func (n *naive) and(all ...int) rules.Truth {
	out := rules.True
	for _, c := range all {
		switch conditions[c].truth(n.p) {
		case rules.False:
			return rules.False
		case rules.Unknown:
			out = rules.Unknown
		case rules.Failed:
			if out == rules.True {
				out = rules.Failed
			}
		case rules.True:
		}
	}
	return out
}

func reasonOf(t rules.Truth, no decide.Reason) decide.Reason {
	return map[rules.Truth]decide.Reason{rules.True: decide.ReasonNone, rules.False: no, rules.Unknown: decide.ReasonUnknown, rules.Failed: decide.ReasonRuleError}[t]
}

func level(levels []modelLevel, id string) modelLevel {
	for _, l := range levels {
		if l.id == id {
			return l
		}
	}
	return modelLevel{}
}

// answer decides.
func (n *naive) answer() {
	n.contacts, n.holds = map[int]*decide.Contact{}, map[[2]int]bool{}
	n.p = unknowns()
	if p, ok := n.r.Profile.(profile); ok {
		n.p = p
	}
	for i, at := range n.ats {
		tp := &n.m.touchpoints[at.Touchpoint]
		side := &naiveSide{tp: tp, slots: tp.slots}
		if at.Slots > 0 {
			side.slots = min(side.slots, at.Slots)
		}
		n.sides = append(n.sides, side)
		if tp.scenario < 0 {
			continue
		}
		n.compete(i, side)
	}
	n.fill()
	for i, side := range n.sides {
		n.order(side)
		n.fallback(i, side)
	}
}

// compete finds the candidates of a touchpoint and how far each comes.
func (n *naive) compete(i int, side *naiveSide) {
	s := &n.m.scenarios[side.tp.scenario]
	place := 0 // among the candidates of the scenario
	for offer := range n.m.offers {
		o := &n.m.offers[offer]
		if len(s.groups) > 0 && !slices.Contains(s.groups, o.group) {
			continue
		}
		for k := range o.treatments {
			x := &o.treatments[k]
			if !slices.ContainsFunc(s.touchpoints, func(at int) bool { return n.m.touchpoints[at].channel == x.channel }) {
				continue
			}
			third := place%3 == 0
			place++
			if x.channel != side.tp.channel || x.format != "" && len(side.tp.formats) > 0 && !slices.Contains(side.tp.formats, x.format) {
				continue
			}
			c := &naiveCandidate{side: i, offer: offer, treatment: x}
			side.candidates = append(side.candidates, c)
			c.reason = n.qualifies(side, c)
			if c.reason == decide.ReasonNone {
				c.reason = n.mayContact(side, c, n.r.Pending)
			}
			if c.reason != decide.ReasonNone {
				continue
			}
			c.score = n.score(s, c)
			switch {
			case s.vetoes && third:
				c.reason = decide.ReasonVetoed
			case s.minimum != nil && o.class != catalog.ClassService && c.score < *s.minimum:
				c.reason = decide.ReasonBelowMinimum
			}
		}
	}
}

// qualifies returns why the rules withhold a candidate.
func (n *naive) qualifies(side *naiveSide, c *naiveCandidate) decide.Reason {
	o := &n.m.offers[c.offer]
	if n.closed(side, o) {
		return decide.ReasonProfileUnreadable
	}
	if n.r.Now < o.from || o.until != 0 && n.r.Now >= o.until {
		return decide.ReasonNotValid
	}
	group := level(n.m.groups, o.group)
	if r := reasonOf(n.and(level(n.m.issues, group.issue).eligible, group.eligible, o.eligible), decide.ReasonNotEligible); r != decide.ReasonNone {
		return r
	}
	if o.owned >= 0 {
		switch n.and(o.owned) {
		case rules.True:
			return decide.ReasonOwned
		case rules.Unknown:
			return decide.ReasonUnknown
		case rules.Failed:
			return decide.ReasonRuleError
		case rules.False:
		}
	}
	if r := reasonOf(n.and(o.prerequisite), decide.ReasonPrerequisite); r != decide.ReasonNone {
		return r
	}
	return reasonOf(n.and(c.treatment.eligible), decide.ReasonNotEligible)
}

func (n *naive) closed(side *naiveSide, o *modelOffer) bool {
	return n.r.Profile == nil && (n.m.channels[side.tp.channel].outbound || o.class != catalog.ClassService)
}

// mayContact returns why contact rules withhold a candidate.
func (n *naive) mayContact(side *naiveSide, c *naiveCandidate, pending []decide.Contact) decide.Reason {
	o, ch := &n.m.offers[c.offer], &n.m.channels[side.tp.channel]
	c.by, c.until = nil, 0
	if o.class == catalog.ClassService {
		return decide.ReasonNone
	}
	if v := n.p[slotQuiet]; ch.quiet && (v.Known() && v.Flag() || !v.Known() && ch.outbound) {
		return decide.ReasonDoNotDisturb
	}
	if v := n.p[slotConsent]; o.class == catalog.ClassMarketing && ch.consent && !(v.Known() && v.Flag()) {
		return decide.ReasonNoConsent
	}
	if n.waits(ch, c) {
		return decide.ReasonQuietDeferred
	}
	for i := range n.m.policies {
		if until := n.limit(&n.m.policies[i], side, o, pending); until != 0 {
			c.by, c.until = []string{n.m.policies[i].id}, until
			return decide.ReasonCapped
		}
	}
	if o.class == catalog.ClassMarketing && n.m.control > 0 && in(n.m.controlled, o.group) && decide.InControlGroup(n.r.Customer, "salt", n.m.control/100) {
		return decide.ReasonControlGroup
	}
	return decide.ReasonNone
}

// waits looks at every minute from now on until the channel is open.
func (n *naive) waits(ch *modelChannel, c *naiveCandidate) bool {
	zone := time.UTC
	load := func(name string) {
		if z, err := time.LoadLocation(name); err == nil && name != "" && name != "Local" {
			zone = z
		}
	}
	load(n.m.zone)
	if n.m.zoneField {
		load(n.p[slotZone].Text())
	}
	var hours *modelHours
	for i := range ch.hours {
		if n.and(ch.hours[i].when) == rules.True {
			hours = &ch.hours[i]
			c.by = []string{[]string{"h0", "h1"}[i]}
			break
		}
	}
	own := c.by
	within := func(minute, from, until int) bool {
		if from < until {
			return minute >= from && minute < until
		}
		return minute >= from || minute < until
	}
	blocked := func(at int64) (by []string) {
		local := time.UnixMicro(at).In(zone)
		minute := local.Hour()*60 + local.Minute()
		if q := ch.quietHours; q != nil && within(minute, q[0], q[1]) {
			by = append(by, "quiet_hours")
		}
		if hours != nil && !within(minute, hours.from, hours.until) {
			by = append(by, own...)
		}
		return by
	}
	c.by = nil
	if !ch.outbound || blocked(n.r.Now) == nil {
		return false
	}
	at := n.r.Now - n.r.Now%minuteMicros
	for range 4 * 24 * 60 {
		before := blocked(at)
		at += minuteMicros
		if blocked(at) == nil {
			c.by, c.until = before, at
			return true
		}
	}
	c.by = []string{"quiet_hours", "h0", "h1"}
	return true
}

// in reports whether a name is in a list, of which nil has all.
func in(list []string, name string) bool { return list == nil || slices.Contains(list, name) }

// limit returns until when a policy withholds an offer.
func (n *naive) limit(p *modelPolicy, side *naiveSide, o *modelOffer, pending []decide.Contact) int64 {
	channel := n.m.channels[side.tp.channel].id
	bound := in(p.channels, channel) && in(p.touchpoints, side.tp.id) && in(p.groups, o.group) && in(p.offers, o.id)
	if len(p.classes) == 0 {
		bound = bound && o.class == catalog.ClassMarketing
	} else {
		bound = bound && slices.Contains(p.classes, o.class.String())
	}
	if !bound {
		return 0
	}
	counts := func(channel2, joined string, items []profilestore.Item) bool {
		is := func(touchpoint string) bool {
			return in(p.touchpoints, touchpoint) && (p.per != "touchpoint" || touchpoint == side.tp.id)
		}
		if !in(p.channels, channel2) || p.per == "channel" && channel2 != channel || !slices.ContainsFunc(strings.Split(joined, "+"), is) {
			return false
		}
		if p.groups == nil && p.offers == nil && p.classes == nil && p.per != "offer" && p.per != "group" && p.per != "class" {
			return true
		}
		return slices.ContainsFunc(items, func(x profilestore.Item) bool {
			return in(p.groups, x.Group) && in(p.offers, x.Offer) && in(p.classes, x.Class) &&
				(p.per != "offer" || x.Offer == o.id) && (p.per != "group" || x.Group == o.group) && (p.per != "class" || x.Class == o.class.String())
		})
	}
	var times []int64
	for _, x := range n.history {
		outcome := x.Outcome
		if outcome == "" {
			outcome = catalog.CountContacts
		}
		if outcome == p.count && x.Time <= n.r.Now && counts(x.Channel, x.Touchpoint, x.Items) {
			times = append(times, x.Time)
		}
	}
	if p.count == catalog.CountContacts {
		for _, x := range pending {
			if counts(x.Channel, x.Touchpoint, x.Items) {
				times = append(times, x.Time)
			}
		}
	}
	slices.Sort(times)
	within, suppress := p.within*minuteMicros, p.suppress*minuteMicros
	if suppress == 0 {
		// Until enough of them have left the window.
		count := 0
		for _, at := range times {
			if at > n.r.Now-within {
				count++
			}
		}
		if count < p.max {
			return 0
		}
		return times[len(times)-p.max] + within
	}
	until := int64(0)
	for i, at := range times {
		count := 0
		for _, other := range times[:i+1] {
			if other > at-within {
				count++
			}
		}
		if count >= p.max {
			until = at + suppress
		}
	}
	if until <= n.r.Now {
		return 0
	}
	return until
}

// score is propensity × value × weight × lever.
func (n *naive) score(s *modelScenario, c *naiveCandidate) float64 {
	o, ch := &n.m.offers[c.offer], &n.m.channels[c.treatment.channel]
	propensity := o.start
	if n := n.learned[[2]int{c.offer, c.treatment.channel}]; o.startEvidence > 0 && n != [2]uint64{} {
		seen := float64(o.start*o.startEvidence) + float64(n[1])
		propensity = math.Min(seen/(o.startEvidence+float64(n[0])), 1)
	}
	if v := n.p[slotPropensity]; o.propensity && v.Known() {
		propensity = math.Min(math.Max(v.Number(), 0), 1)
	}
	weight := 1.0
	if w, ok := s.weights[o.group]; ok {
		weight = w
	}
	if ch.weight >= 0 && c.treatment.channel < len(n.r.Loads) && n.r.Loads[c.treatment.channel] >= ch.above {
		weight *= ch.weight
	}
	group := level(n.m.groups, o.group)
	lever := (1 + o.boost/100) * (1 + group.boost/100) * (1 + level(n.m.issues, group.issue).boost/100)
	return propensity * o.value * weight * lever
}

// before orders candidates as they come on slates.
func (n *naive) before(a, b *naiveCandidate) int {
	return cmp.Or(
		n.class(a)-n.class(b), cmp.Compare(b.score, a.score),
		cmp.Compare(decide.Tie(n.r.Seed, a.offer), decide.Tie(n.r.Seed, b.offer)), a.side-b.side,
	)
}

// class returns the class of a candidate's offer where slates are in that order.
func (n *naive) class(c *naiveCandidate) int {
	for _, side := range n.sides {
		if side.tp.scenario >= 0 && n.m.scenarios[side.tp.scenario].classOrder {
			return int(n.m.offers[c.offer].class)
		}
	}
	return 0
}

// prefer orders the places where one offer could be made.
func (n *naive) prefer(a, b *naiveCandidate) int {
	var choice *modelScenario
	for _, side := range n.sides {
		if side.tp.scenario >= 0 && choice == nil {
			if s := &n.m.scenarios[side.tp.scenario]; s.preferred || s.personas != nil || s.cheapest {
				choice = s
			}
		}
	}
	cost := func(c *naiveCandidate) float64 { return n.m.channels[c.treatment.channel].cost }
	rank := func(c *naiveCandidate) int {
		if choice.preferred && n.p[slotChannel].Text() == n.m.channels[c.treatment.channel].id {
			return -1
		}
		list, ok := choice.personas[n.p[slotPersona].Text()]
		if !ok {
			return 0
		}
		if i := slices.Index(list, c.treatment.channel); i >= 0 {
			return i
		}
		return len(list)
	}
	if choice != nil {
		if by := rank(a) - rank(b); by != 0 {
			return by
		}
		if by := cmp.Compare(cost(a), cost(b)); choice.cheapest && by != 0 {
			return by
		}
	}
	return cmp.Or(cmp.Compare(b.score, a.score), cmp.Compare(cost(a), cost(b)), a.side-b.side)
}

// fill takes the best offer again and again, at the place that is best for it of those
// that were not tried.
func (n *naive) fill() {
	for {
		next := make(map[int]*naiveCandidate) // of each offer
		for _, side := range n.sides {
			for _, c := range side.candidates {
				if c.reason == decide.ReasonNone && !c.tried && (next[c.offer] == nil || n.prefer(c, next[c.offer]) < 0) {
					next[c.offer] = c
				}
			}
		}
		var best *naiveCandidate
		for _, c := range next {
			if best == nil || n.before(c, best) < 0 {
				best = c
			}
		}
		if best == nil {
			break
		}
		best.tried, best.draws = true, 0
		for _, c := range next {
			if c.score == best.score && n.class(c) == n.class(best) {
				best.draws++
			}
		}
		n.put(best)
		if best.reason != decide.ReasonOffered {
			continue
		}
		at := n.sides[best.side].tp
		for _, side := range n.sides {
			for _, c := range side.candidates {
				if c.offer != best.offer || c.tried || c.reason != decide.ReasonNone {
					continue
				}
				c.reason, c.by = decide.ReasonOtherTouchpoint, []string{at.id}
				if side.tp.channel != at.channel {
					c.reason = decide.ReasonOtherChannel
				}
			}
		}
	}
}

// put puts a candidate on its slate, or says why not.
func (n *naive) put(c *naiveCandidate) {
	side, o := n.sides[c.side], &n.m.offers[c.offer]
	channel := side.tp.channel
	if n.one {
		for other := range n.contacts {
			if other != channel {
				c.reason, c.by = decide.ReasonOtherChannel, []string{n.m.channels[other].id}
				return
			}
		}
	}
	if len(side.slate) == side.slots {
		c.reason = decide.ReasonRankedBelow
		return
	}
	for _, other := range n.chosen {
		if x := &n.m.offers[other]; other == c.offer || o.exclusive != "" && o.exclusive == x.exclusive || apart(o, x) || apart(x, o) {
			c.reason, c.by = decide.ReasonExcluded, []string{x.id}
			return
		}
	}
	pending := slices.Clone(n.r.Pending)
	for other, contact := range n.contacts {
		if other != channel {
			pending = append(pending, *contact)
		}
	}
	if reason := n.mayContact(side, c, pending); reason != decide.ReasonNone {
		c.reason = reason
		return
	}
	c.by, c.until = nil, 0
	truth := contents[c.treatment.content].truth(n.p)
	if truth == rules.True && side.tp.staff && c.treatment.script >= 0 {
		truth = contents[c.treatment.script].truth(n.p)
	}
	if truth != rules.True {
		c.reason = reasonOf(truth, decide.ReasonNone)
		return
	}
	var needs []int
	for i, x := range n.m.capacities {
		if !in(x.channels, n.m.channels[channel].id) || !in(x.groups, o.group) || !in(x.offers, o.id) || x.takenBy == "" && n.holds[[2]int{channel, i}] {
			continue
		}
		if n.left[i] == 0 {
			c.reason, c.by = decide.ReasonCapacity, []string{x.id}
			return
		}
		needs = append(needs, i)
	}
	for _, i := range needs {
		n.left[i]--
		n.holds[[2]int{channel, i}] = true
	}
	c.reason = decide.ReasonOffered
	side.slate = append(side.slate, c)
	n.made(side, c.offer)
}

// apart reports whether an offer says that another is not on a slate with it.
func apart(o, x *modelOffer) bool {
	return slices.Contains(o.excludes, x.id) || slices.Contains(o.bundle, x.id)
}

func (n *naive) made(side *naiveSide, offer int) {
	n.chosen = append(n.chosen, offer)
	contact := n.contacts[side.tp.channel]
	if contact == nil {
		contact = &decide.Contact{Time: n.r.Now, Channel: n.m.channels[side.tp.channel].id, Touchpoint: side.tp.id}
		n.contacts[side.tp.channel] = contact
	} else if !slices.Contains(strings.Split(contact.Touchpoint, "+"), side.tp.id) {
		contact.Touchpoint += "+" + side.tp.id
	}
	o := &n.m.offers[offer]
	contact.Items = append(contact.Items, profilestore.Item{Offer: o.id, Group: o.group, Class: o.class.String()})
}

func (n *naive) order(side *naiveSide) { slices.SortStableFunc(side.slate, n.before) }

// fallback answers for a touchpoint where nothing can be offered.
func (n *naive) fallback(i int, side *naiveSide) {
	if side.tp.scenario < 0 || !n.m.scenarios[side.tp.scenario].fallback || len(side.slate) > 0 {
		return
	}
	offer := len(n.m.offers) - 1
	o := &n.m.offers[offer]
	if n.closed(side, o) || n.one && len(n.contacts) > 0 || slices.Contains(n.chosen, offer) {
		return
	}
	c := &naiveCandidate{side: i, offer: offer, treatment: &o.treatments[side.tp.channel]}
	pending := slices.Clone(n.r.Pending)
	for other, contact := range n.contacts {
		if other != side.tp.channel {
			pending = append(pending, *contact)
		}
	}
	if n.mayContact(side, c, pending) != decide.ReasonNone {
		return
	}
	side.fallback, side.slate = true, []*naiveCandidate{c}
	n.made(side, offer)
}
