package server

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	rapportv1 "rapport/server/api/rapport/v1"
	"rapport/server/catalog"
	"rapport/server/decide"
)

// Bounds of what a simulation counts.
const (
	maxSimulatedRows        = 100_000
	maxSimulatedTransitions = 100_000 // kept
	maxShownTransitions     = 1_000
)

// simulationCounts are what a simulation counts. All sums are taken in the order of the
// customers, so that they come out the same to the bit.
type simulationCounts struct {
	asked    []*rapportv1.SimulatedTouchpoint
	segments *simulatedSegments
	examples int

	customers, decisions            int64
	winners, slates, customersMoved int64

	total       [2]tally
	measures    [4]moments
	breakdowns  []*breakdown
	rows        int
	inSegment   map[string]int64 // customers; empty: in none
	transitions map[transition]int64
	others      int64
	withheld    map[withheldKey]*withheldCount
	degraded    map[decide.Step]*degradedCount
	shown       []*rapportv1.SimulationExample

	now   [2]customerTally
	first [2][]placed // of each touchpoint asked for
	slate [2][][]placed
}

// tally is what is offered on one side.
type tally struct {
	customers, contacts, offers int64
	value, score                float64
}

// moments are what the mean of a customer's figure, and that of the differences, follow
// from.
type moments struct {
	sum     [2]float64
	squares float64 // of differences
	differ  int64
}

// customerTally is a tally of one customer.
type customerTally struct {
	tally

	channels []string
}

// placed is an offer on a slate.
type placed struct {
	offer string
	score float64
}

type transition struct{ from, to string }

type withheldKey struct {
	reason      decide.Reason
	by, channel string
}

type withheldCount struct {
	offers, customers, last [2]int64
}

type degradedCount struct {
	detail string
	n      [2]int64
}

// The names of the figures of a customer.
var measureNames = [...]string{"reached", "contacts", "offers", "value"}

// breakdown is a table that is counted.
type breakdown struct {
	by       []string
	segment  int // which of by is the segment; −1: none
	customer bool
	cells    map[string]*simulatedCell
	touched  []*simulatedCell
	key      []byte
}

// simulatedCell is a row of a table.
type simulatedCell struct {
	key      []string
	total    [2]tally
	squares  float64 // of the differences of a customer's offers
	touched  bool    // by the present customer
	customer [2]customerTally
}

func newSimulationCounts(m *rapportv1.SimulateRequest, asked []*rapportv1.SimulatedTouchpoint, segments *simulatedSegments) *simulationCounts {
	n := &simulationCounts{
		asked: asked, segments: segments, examples: int(m.GetExamples()), inSegment: make(map[string]int64),
		transitions: make(map[transition]int64), withheld: make(map[withheldKey]*withheldCount), degraded: make(map[decide.Step]*degradedCount),
	}
	for _, by := range m.GetBy() {
		dimensions := by.GetDimensions()
		n.breakdowns = append(n.breakdowns, &breakdown{
			by: dimensions, segment: slices.Index(dimensions, "segment"), customer: len(dimensions) == 1 && dimensions[0] == "segment",
			cells: make(map[string]*simulatedCell),
		})
	}
	for i := range n.first {
		n.first[i], n.slate[i] = make([]placed, len(asked)), make([][]placed, len(asked))
	}
	return n
}

// add counts what both sides have decided for a customer.
func (n *simulationCounts) add(who *simulatedCustomer, now int64, sides [2]*simulatedSide) error {
	n.customers++
	groups := n.groups(who, now)
	for side, x := range sides {
		n.now[side] = customerTally{channels: n.now[side].channels[:0]}
		clear(n.first[side])
		for i := range n.slate[side] {
			n.slate[side][i] = n.slate[side][i][:0]
		}
		for i := range x.at {
			n.addAnswer(side, x.catalog, x.asked[i], &x.catalog.Touchpoints[x.at[i].Touchpoint], &x.answers[i], groups)
		}
	}
	if n.rows > maxSimulatedRows {
		return &argumentError{"by", fmt.Sprintf("that makes more than %d rows: divide by fewer dimensions", maxSimulatedRows)}
	}
	n.endCustomer()
	n.compare(who)
	return nil
}

// groups returns the segments of a customer, an empty one where there is none; nil where
// nothing is divided by them.
func (n *simulationCounts) groups(who *simulatedCustomer, now int64) (groups []string) {
	if !slices.ContainsFunc(n.breakdowns, func(b *breakdown) bool { return b.segment >= 0 }) {
		return nil
	}
	for i, member := range n.segments.of(who.view.At(now), now) {
		if member {
			groups = append(groups, n.segments.all[i].id)
		}
	}
	if len(groups) == 0 {
		groups = []string{""}
	}
	for _, g := range groups {
		n.inSegment[g]++
		for _, b := range n.breakdowns {
			if b.customer { // it has a row for each segment, also where nothing is offered
				b.key = append(b.key[:0], g...)
				n.cell(b)
			}
		}
	}
	return groups
}

// addAnswer counts the answer for one touchpoint.
func (n *simulationCounts) addAnswer(side int, c *catalog.Compiled, asked int, t *catalog.Touchpoint, a *decide.Answer, groups []string) {
	for i := range a.Slate {
		p := &a.Slate[i]
		o, channel := &c.Offers[p.Offer], c.Channels[p.Channel].ID
		n.now[side].add(channel, p)
		for _, b := range n.breakdowns {
			if b.segment < 0 {
				n.addTo(b, side, c, t, p, "")
				continue
			}
			for _, g := range groups {
				n.addTo(b, side, c, t, p, g)
			}
		}
		n.slate[side][asked] = append(n.slate[side][asked], placed{o.ID, p.Score})
	}
	if len(a.Slate) > 0 {
		n.first[side][asked] = n.slate[side][asked][0]
	}
	channel := c.Channels[t.Channel].ID
	left := a.Funnel
	for i := range a.Details {
		if by, reason := a.Details[i].By, a.Reasons[a.Details[i].Place]; by != "" {
			left[reason]--
			n.withhold(side, withheldKey{reason, by, channel}, 1)
		}
	}
	for reason, count := range left {
		if count > 0 && decide.Reason(reason) != decide.ReasonOffered && decide.Reason(reason) != decide.ReasonNone {
			n.withhold(side, withheldKey{decide.Reason(reason), "", channel}, int64(count))
		}
	}
	for _, step := range a.Degradations {
		d := n.degraded[step.Step]
		if d == nil {
			d = &degradedCount{detail: degradationDetail(step, nil)}
			n.degraded[step.Step] = d
		}
		d.n[side]++
	}
}

func (n *simulationCounts) withhold(side int, key withheldKey, count int64) {
	w := n.withheld[key]
	if w == nil {
		w = new(withheldCount)
		n.withheld[key] = w
	}
	w.offers[side] += count
	if w.last[side] != n.customers {
		w.last[side] = n.customers
		w.customers[side]++
	}
}

// add counts an offer.
func (t *customerTally) add(channel string, p *decide.Placement) {
	t.customers = 1
	t.offers++
	t.value += p.Propensity * p.Value
	t.score += p.Score
	if !slices.Contains(t.channels, channel) {
		t.channels = append(t.channels, channel)
		t.contacts++
	}
}

func (t *tally) add(x *tally) {
	t.customers += x.customers
	t.contacts += x.contacts
	t.offers += x.offers
	t.value += x.value
	t.score += x.score
}

// addTo counts an offer in its row of a table.
func (n *simulationCounts) addTo(b *breakdown, side int, c *catalog.Compiled, t *catalog.Touchpoint, p *decide.Placement, segment string) {
	o, channel := &c.Offers[p.Offer], c.Channels[p.Channel].ID
	b.key = b.key[:0]
	for i, dimension := range b.by {
		if i > 0 {
			b.key = append(b.key, 0)
		}
		switch dimension {
		case "segment":
			b.key = append(b.key, segment...)
		case "channel":
			b.key = append(b.key, channel...)
		case "touchpoint":
			b.key = append(b.key, t.ID...)
		case "offer":
			b.key = append(b.key, o.ID...)
		case "group":
			b.key = append(b.key, o.Group...)
		case "class":
			b.key = append(b.key, o.Class.String()...)
		}
	}
	n.cell(b).customer[side].add(channel, p)
}

// cell returns the row of b.key, for the present customer.
func (n *simulationCounts) cell(b *breakdown) *simulatedCell {
	x := b.cells[string(b.key)]
	if x == nil {
		key := string(b.key)
		x = &simulatedCell{key: strings.Split(key, "\x00")}
		b.cells[key] = x
		n.rows++
	}
	if !x.touched {
		x.touched = true
		b.touched = append(b.touched, x)
	}
	return x
}

// endCustomer adds the present customer to the sums.
func (n *simulationCounts) endCustomer() {
	for _, b := range n.breakdowns {
		for _, x := range b.touched {
			difference := float64(x.customer[1].offers - x.customer[0].offers)
			x.squares += difference * difference
			for side := range x.total {
				x.total[side].add(&x.customer[side].tally)
				x.customer[side] = customerTally{channels: x.customer[side].channels[:0]}
			}
			x.touched = false
		}
		b.touched = b.touched[:0]
	}
	before, after := &n.now[0].tally, &n.now[1].tally
	n.total[0].add(before)
	n.total[1].add(after)
	for i, x := range [...][2]float64{
		{float64(before.customers), float64(after.customers)},
		{float64(before.contacts), float64(after.contacts)},
		{float64(before.offers), float64(after.offers)},
		{before.value, after.value},
	} {
		n.measures[i].add(x[0], x[1])
	}
}

func (m *moments) add(before, after float64) {
	m.sum[0] += before
	m.sum[1] += after
	m.squares += (after - before) * (after - before)
	if before != after {
		m.differ++
	}
}

// compare counts what is different for the present customer.
func (n *simulationCounts) compare(who *simulatedCustomer) {
	moved := false
	for i, t := range n.asked {
		n.decisions++
		if !slices.EqualFunc(n.slate[0][i], n.slate[1][i], func(a, b placed) bool { return a.offer == b.offer }) {
			n.slates++
		}
		from, to := n.first[0][i], n.first[1][i]
		if from.offer == to.offer {
			continue
		}
		moved = true
		n.winners++
		key := transition{from.offer, to.offer}
		if _, ok := n.transitions[key]; ok || len(n.transitions) < maxSimulatedTransitions {
			n.transitions[key]++
		} else {
			n.others++
		}
		if len(n.shown) < n.examples {
			n.shown = append(n.shown, &rapportv1.SimulationExample{
				Customer: who.name, Touchpoint: t.GetTouchpoint(), From: from.offer, To: to.offer, FromScore: from.score, ToScore: to.score, Seed: who.seed,
			})
		}
	}
	if moved {
		n.customersMoved++
	}
}

// interval95 is the quantile of the normal distribution for an interval of 95%.
const interval95 = 1.959964

// margin returns half of the confidence interval of the sum of the differences of those
// who were simulated, from their sum and the sum of their squares: by the normal
// approximation, narrower the more of the population they are.
func (n *simulationCounts) margin(sum, squares float64, population int64) float64 {
	count := float64(n.customers)
	if n.customers < 2 || n.customers >= population {
		return 0
	}
	variance := max(squares-sum*sum/count, 0) / (count - 1)
	rest := float64(population-n.customers) / float64(population-1)
	return interval95 * math.Sqrt(count*variance*rest)
}

// share returns the confidence interval of the share of the population that some of those
// simulated are, after Wilson (1927): it is right also where none is, or all.
func (n *simulationCounts) share(some, population int64) (low, high float64) {
	count, p := float64(n.customers), 0.0
	if count > 0 {
		p = float64(some) / count
	}
	if n.customers == 0 || n.customers >= population {
		return p, p
	}
	const z2 = interval95 * interval95
	middle := (p + z2/(2*count)) / (1 + z2/count)
	margin := interval95 / (1 + z2/count) * math.Sqrt(p*(1-p)/count+z2/(4*count*count))
	low, high = middle-margin, middle+margin
	if some == 0 { // and not a rounding error
		low = 0
	}
	if some == n.customers {
		high = 1
	}
	return low, high
}

// message writes the counts into a result. Its population and sampled are set.
func (n *simulationCounts) message(res *rapportv1.Simulation) {
	population := int64(0)
	if res.GetSampled() {
		population = res.GetPopulation()
	}
	res.Customers, res.Decisions = n.customers, n.decisions
	res.WinnersChanged, res.SlatesChanged, res.CustomersChanged = n.winners, n.slates, n.customersMoved
	res.CustomersChangedLow, res.CustomersChangedHigh = n.share(n.customersMoved, population)
	res.Before, res.After = n.total[0].message(), n.total[1].message()
	for i, m := range n.measures {
		x := &rapportv1.SimulationMeasure{Name: measureNames[i], Differ: m.differ}
		if count := float64(n.customers); count > 0 {
			x.Before, x.After, x.Difference = m.sum[0]/count, m.sum[1]/count, (m.sum[1]-m.sum[0])/count
			x.Margin = n.margin(m.sum[1]-m.sum[0], m.squares, population) / count
		}
		res.Measures = append(res.Measures, x)
	}
	n.transitionMessages(res)
	for _, b := range n.breakdowns {
		res.Tables = append(res.Tables, n.table(b, population))
	}
	n.withheldMessages(res)
	for _, step := range slices.Sorted(maps.Keys(n.degraded)) {
		d := n.degraded[step]
		res.Degradations = append(res.Degradations, &rapportv1.SimulationDegradation{
			Kind: strings.ToUpper(degradationName(step)), Detail: d.detail, Before: d.n[0], After: d.n[1],
		})
	}
	res.Examples = n.shown
}

func (t *tally) message() *rapportv1.SimulationTally {
	return &rapportv1.SimulationTally{Customers: t.customers, Contacts: t.contacts, Offers: t.offers, Value: t.value, Score: t.score}
}

func (n *simulationCounts) transitionMessages(res *rapportv1.Simulation) {
	keys := slices.SortedFunc(maps.Keys(n.transitions), func(a, b transition) int {
		return cmp.Or(cmp.Compare(n.transitions[b], n.transitions[a]), cmp.Compare(a.from, b.from), cmp.Compare(a.to, b.to))
	})
	res.OtherTransitions = n.others
	for i, k := range keys {
		if i >= maxShownTransitions {
			res.OtherTransitions += n.transitions[k]
			continue
		}
		res.Transitions = append(res.Transitions, &rapportv1.SimulationTransition{From: k.from, To: k.to, Decisions: n.transitions[k]})
	}
}

func (n *simulationCounts) table(b *breakdown, population int64) *rapportv1.SimulationTable {
	t := &rapportv1.SimulationTable{By: b.by}
	for _, key := range slices.Sorted(maps.Keys(b.cells)) {
		x := b.cells[key]
		row := &rapportv1.SimulationRow{
			Key: x.key, Of: n.customers, Before: x.total[0].message(), After: x.total[1].message(),
			Margin: n.margin(float64(x.total[1].offers-x.total[0].offers), x.squares, population),
		}
		if b.segment >= 0 {
			row.Of = n.inSegment[x.key[b.segment]]
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}

func (n *simulationCounts) withheldMessages(res *rapportv1.Simulation) {
	keys := slices.SortedFunc(maps.Keys(n.withheld), func(a, b withheldKey) int {
		return cmp.Or(cmp.Compare(a.reason, b.reason), cmp.Compare(a.by, b.by), cmp.Compare(a.channel, b.channel))
	})
	for _, k := range keys {
		w := n.withheld[k]
		res.Suppressions = append(res.Suppressions, &rapportv1.SimulationSuppression{
			Reason: strings.ToUpper(reasonName(k.reason)), By: k.by, Channel: k.channel,
			OffersBefore: w.offers[0], OffersAfter: w.offers[1], CustomersBefore: w.customers[0], CustomersAfter: w.customers[1],
		})
	}
}
