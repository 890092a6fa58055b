package profilestore

import (
	"cmp"
	"iter"
	"math"
	"slices"
	"time"
)

// History is the interaction history of a customer at the moment of a [Reading]: of
// all identities that the customer has, each with its own events. Counts add up and
// times are merged. It is small, immutable, and valid as long as its view.
//
// A window of so long ends at the moment of reading: it has what happened after
// now − within and not after now, so an interaction counts until exactly within after
// it happened. That is to the microsecond among the latest 256 interactions of an
// identity. Before them a whole day of UTC counts while all of it is younger than the
// window. Within 0 means all time. What no window can ask for is in counts of all time
// only.
//
// Like its reading it is exact for every moment from LateHorizon before the customer's
// latest interaction on, if no more than 256 came since.
type History struct {
	members [MaxGroup]*history // nil for those without one
	now     int64
	later   bool // what is dated after now counts too
}

// History returns the customer's interaction history.
func (r Reading) History() History {
	h := History{now: r.now}
	for i := range r.view.members {
		if d := r.view.members[i].delta; d != nil {
			h.members[i] = d.history
		}
	}
	return h
}

// WithLater returns the history with what is dated after its moment, as something that is
// in every window. It is there because it has happened: the clock has stepped back since,
// or another decision took its time later and its turn first. A limit that did not count
// it would be passed.
func (h History) WithLater() History {
	h.later = true
	return h
}

// end is the last moment that counts.
func (h History) end() int64 {
	if h.later {
		return math.MaxInt64
	}
	return h.now
}

// InteractionType tells contacts and outcomes apart.
type InteractionType uint8

// The types of interactions.
const (
	AnyInteraction InteractionType = iota
	Contacts
	Outcomes
)

// InteractionFilter selects interactions. What is empty selects all; with Outcome set,
// Type may be left AnyInteraction. Of a slate, one item must have all of Offer, Group
// and Class that are given, and however many have them, the interaction counts once. Of
// several touchpoints one must be Touchpoint.
type InteractionFilter struct {
	Type                InteractionType
	Outcome             string
	Channel, Touchpoint string
	Offer, Group, Class string
}

// matcher is a filter in terms of one history.
type matcher struct {
	*history
	typ                          InteractionType
	byItem                       bool
	outcome, channel, touchpoint ref
	at                           string // the touchpoint, which may also be one of several
	item                         itemRefs
}

// matcher returns false where nothing can match: a name does not occur.
func (h *history) matcher(f *InteractionFilter) (m matcher, ok bool) {
	if h == nil {
		return m, false
	}
	m = matcher{history: h, typ: f.Type, byItem: f.Offer != "" || f.Group != "" || f.Class != ""}
	for _, x := range [...]struct {
		name string
		into *ref
	}{
		{f.Offer, &m.item.offer},
		{f.Channel, &m.channel},
		{f.Outcome, &m.outcome},
		{f.Group, &m.item.group},
		{f.Class, &m.item.class},
	} {
		if *x.into, ok = h.find(x.name); !ok {
			return m, false
		}
	}
	m.at = f.Touchpoint
	if m.touchpoint, ok = h.find(m.at); !ok { // but it may be one of several
		m.touchpoint = math.MaxUint32
		ok = slices.ContainsFunc(h.texts, func(s string) bool { return HasTouchpoint(s, f.Touchpoint) })
	}
	return m, ok
}

// matches reports whether interactions of a signature are selected.
func (m *matcher) matches(sig uint32) bool {
	s := &m.sigs[sig]
	switch {
	case m.typ != AnyInteraction && (m.typ == Contacts) != (s.outcome == 0),
		m.outcome != 0 && m.outcome != s.outcome,
		m.channel != 0 && m.channel != s.channel,
		m.at != "" && m.touchpoint != s.touchpoint && !HasTouchpoint(m.text(s.touchpoint), m.at):
		return false
	case !m.byItem:
		return true
	}
	return slices.ContainsFunc(m.itemsOf(s), m.matchesItem)
}

func (m *matcher) matchesItem(x itemRefs) bool {
	return (m.item.offer == 0 || m.item.offer == x.offer) &&
		(m.item.group == 0 || m.item.group == x.group) &&
		(m.item.class == 0 || m.item.class == x.class)
}

// begin returns the time after which interactions are in a window.
func (h History) begin(within time.Duration) int64 {
	if within <= 0 {
		return math.MinInt64
	}
	return h.now - within.Microseconds()
}

// Count returns how many interactions there were in a window. It does not allocate.
func (h History) Count(f InteractionFilter, within time.Duration) int {
	n, begin, end := 0, h.begin(within), h.end()
	for _, member := range h.members {
		m, ok := member.matcher(&f)
		if !ok {
			continue
		}
		for i := len(m.raw) - 1; i >= 0 && m.raw[i].time > begin; i-- {
			if m.raw[i].time <= end && m.matches(m.raw[i].sig) {
				n++
			}
		}
		if within > 0 {
			for i := len(m.cells) - 1; i >= 0 && m.cells[i].begin() > begin; i-- {
				if m.cells[i].begin() <= end && m.matches(m.cells[i].sig) {
					n += int(m.cells[i].n)
				}
			}
			continue
		}
		for i := range m.totals {
			if m.matches(m.totals[i].sig) {
				n += int(m.totals[i].n)
			}
		}
		for i := range m.parts {
			if m.byItem && m.matches(m.parts[i].sig) {
				n += int(m.parts[i].n)
			}
		}
	}
	return n
}

// begin is when the cell's day begins.
func (c dayCell) begin() int64 { return int64(c.day) * dayMicros }

// Last returns the time of the last interaction that a filter selects and its outcome,
// empty if it was a contact; false if there was none. It does not allocate.
func (h History) Last(f InteractionFilter) (at int64, outcome string, ok bool) {
	at = math.MinInt64
	end := h.end()
	take := func(m *matcher, sig uint32, time int64) {
		if time > at && time <= end && m.matches(sig) {
			at, outcome, ok = time, m.text(m.sigs[sig].outcome), true
		}
	}
	for _, member := range h.members {
		m, matches := member.matcher(&f)
		if !matches {
			continue
		}
		for i := len(m.raw) - 1; i >= 0 && m.raw[i].time > at; i-- {
			take(&m, m.raw[i].sig, m.raw[i].time)
		}
		for _, t := range m.totals {
			take(&m, t.sig, t.last)
		}
		for _, t := range m.parts {
			if m.byItem {
				take(&m, t.sig, t.last)
			}
		}
	}
	return at, outcome, ok
}

// walk goes through the interactions of all members that a filter selects, the latest
// first. What is in a cell happened, for it, when the cell's day began, or with atEnd at
// the latest moment at which it can have happened: the end of the day, or the first of
// those that are known one by one if that is sooner.
type walk struct {
	members [MaxGroup]matcher
	raw     [MaxGroup]int // how many are still to come
	cells   [MaxGroup]int
	end     int64 // what is dated later is left out
	atEnd   bool
}

func (h History) walk(f *InteractionFilter) (w walk) {
	w.end = h.end()
	for i, member := range h.members {
		if m, ok := member.matcher(f); ok {
			w.members[i], w.raw[i], w.cells[i] = m, len(m.raw), len(m.cells)
		}
	}
	return w
}

// next returns the next ones, false after the last: n of one time and signature, of a
// member, raw or not.
func (w *walk) next() (member int, sig uint32, at int64, n int, raw, ok bool) {
	member = -1
	for i := range w.members {
		m := &w.members[i]
		for w.raw[i] > 0 && !w.in(m, m.raw[w.raw[i]-1].sig, m.raw[w.raw[i]-1].time) {
			w.raw[i]--
		}
		if w.raw[i] > 0 {
			if r := m.raw[w.raw[i]-1]; member < 0 || r.time > at {
				member, sig, at, n, raw = i, r.sig, r.time, 1, true
			}
			continue
		}
		for w.cells[i] > 0 && !w.in(m, m.cells[w.cells[i]-1].sig, m.cells[w.cells[i]-1].begin()) {
			w.cells[i]--
		}
		if w.cells[i] > 0 {
			c := m.cells[w.cells[i]-1]
			when := c.begin()
			if w.atEnd {
				when = min(when+dayMicros-1, m.raw[0].time)
			}
			if member < 0 || when > at {
				member, sig, at, n, raw = i, c.sig, when, int(c.n), false
			}
		}
	}
	switch {
	case member < 0:
		return member, sig, at, n, raw, false
	case raw:
		w.raw[member]--
	default:
		w.cells[member]--
	}
	return member, sig, at, n, raw, true
}

func (w *walk) in(m *matcher, sig uint32, at int64) bool { return at <= w.end && m.matches(sig) }

// Times appends the times of the interactions in a window to dst, the latest first:
// as many as Count counts, each until the moment within after its time. An interaction
// that is known by its day has the time at which that day began. Within 0 gives all
// whose time is known in this way.
func (h History) Times(f InteractionFilter, within time.Duration, dst []int64) []int64 {
	begin := h.begin(within)
	w := h.walk(&f)
	for {
		_, _, at, n, _, ok := w.next()
		if !ok || at <= begin {
			return dst
		}
		for range n {
			dst = append(dst, at)
		}
	}
}

// Recent yields the interactions that a filter selects, the latest first, as far back
// as they are kept one by one: the latest 256 of each identity. Of what happened at
// one time the order is arbitrary but fixed.
func (h History) Recent(f InteractionFilter) iter.Seq[Interaction] {
	return func(yield func(Interaction) bool) {
		w := h.walk(&f)
		for {
			member, sig, at, _, raw, ok := w.next()
			if !ok {
				return
			}
			if !raw {
				continue // another member may have later ones that are raw
			}
			x := w.members[member].interaction(sig)
			x.Time = at
			if !yield(x) {
				return
			}
		}
	}
}

// Older returns how many interactions are kept in counts only.
func (h History) Older() int {
	n := 0
	for _, m := range h.members {
		if m != nil {
			for i := range m.totals {
				n += int(m.totals[i].n)
			}
		}
	}
	return n
}

// InteractionSummary counts the interactions of one offer, channel and outcome.
type InteractionSummary struct {
	Offer, Channel, Outcome string // empty where there is none; a contact has no outcome
	Count                   int    // of all time
	Within                  []int  // in each of the windows asked for
	First, Last             int64  // microseconds
}

// Summary counts the interactions that a filter selects by offer, channel and outcome, in
// ascending order of the three. A slate counts once for each of its offers that the filter
// selects, and what has no offer is counted under an empty one.
func (h History) Summary(f InteractionFilter, windows ...time.Duration) []InteractionSummary {
	type key struct{ offer, channel, outcome string }
	sums := make(map[key]*InteractionSummary)
	var offers []ref
	add := func(m *matcher, sig uint32, n int, first, last int64, count func(*InteractionSummary)) {
		s := &m.sigs[sig]
		if !m.matches(sig) {
			return
		}
		offers = offers[:0]
		for _, x := range m.itemsOf(s) {
			if x != (itemRefs{}) && m.matchesItem(x) && !slices.Contains(offers, x.offer) {
				offers = append(offers, x.offer)
			}
		}
		if s.from == s.to {
			offers = append(offers, 0)
		}
		for _, offer := range offers {
			k := key{m.text(offer), m.text(s.channel), m.text(s.outcome)}
			sum := sums[k]
			if sum == nil {
				sum = &InteractionSummary{Offer: k.offer, Channel: k.channel, Outcome: k.outcome, Within: make([]int, len(windows)), First: first, Last: last}
				sums[k] = sum
			}
			sum.Count += n
			if n > 0 {
				sum.First, sum.Last = min(sum.First, first), max(sum.Last, last)
			}
			count(sum)
		}
	}
	for _, member := range h.members {
		m, ok := member.matcher(&f)
		if !ok {
			continue
		}
		for _, r := range m.raw {
			if r.time > h.end() {
				break
			}
			add(&m, r.sig, 1, r.time, r.time, func(sum *InteractionSummary) {
				for i, within := range windows {
					if r.time > h.begin(within) {
						sum.Within[i]++
					}
				}
			})
		}
		for _, list := range [...][]total{m.totals, m.parts} {
			for _, t := range list {
				add(&m, t.sig, int(t.n), t.first, t.last, func(*InteractionSummary) {})
			}
		}
		for _, c := range m.cells {
			if c.begin() > h.end() {
				break
			}
			add(&m, c.sig, 0, c.begin(), c.begin(), func(sum *InteractionSummary) {
				for i, within := range windows {
					if c.begin() > h.begin(within) {
						sum.Within[i] += int(c.n)
					}
				}
			})
		}
	}
	out := make([]InteractionSummary, 0, len(sums))
	for _, sum := range sums {
		for i, within := range windows {
			if within <= 0 {
				sum.Within[i] = sum.Count
			}
		}
		out = append(out, *sum)
	}
	slices.SortFunc(out, func(a, b InteractionSummary) int {
		return cmp.Or(cmp.Compare(a.Offer, b.Offer), cmp.Compare(a.Channel, b.Channel), cmp.Compare(a.Outcome, b.Outcome))
	})
	return out
}
