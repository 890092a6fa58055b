package profilestore

import (
	"cmp"
	"iter"
	"slices"
	"time"
)

// Dimension is what interactions are counted by.
type Dimension uint8

// The dimensions.
const (
	ByOffer Dimension = iota
	ByGroup
	ByClass
	ByChannel
	ByTouchpoint
	ByOutcome
)

// Tally counts the interactions of every offer, group, class, channel, touchpoint or
// outcome at once. A contact policy with a limit per offer looks at hundreds of
// candidates: counting for each is hundreds of passes over the history, of which most
// find nothing, since a customer has met few of the offers. One pass finds those few.
//
// The zero Tally is ready for use. One that is used again allocates nothing once it has
// grown to the histories that it reads. It is not safe for concurrent use.
type Tally struct {
	counts []tallied // ascending by name
	sigs   []int     // scratch: interactions by signature
	names  []int     // scratch: interactions by ref
}

type tallied struct {
	name string
	n    int
}

// Read counts afresh: for each name of the dimension what Count gives for the filter
// with that name. Of a slate, the items that count are those which the filter selects.
func (t *Tally) Read(h History, by Dimension, f InteractionFilter, within time.Duration) {
	clear(t.counts) // names of another customer are not kept
	t.counts = t.counts[:0]
	members, begin := 0, h.begin(within)
	for _, member := range h.members {
		m, ok := member.matcher(&f)
		if !ok {
			continue
		}
		members++
		t.sigs = resized(t.sigs, len(m.sigs))
		for i := len(m.raw) - 1; i >= 0 && m.raw[i].time > begin; i-- {
			if m.raw[i].time <= h.now {
				t.sigs[m.raw[i].sig]++
			}
		}
		if within > 0 {
			for i := len(m.cells) - 1; i >= 0 && m.cells[i].begin() > begin; i-- {
				if m.cells[i].begin() <= h.now {
					t.sigs[m.cells[i].sig] += int(m.cells[i].n)
				}
			}
		} else {
			for i := range m.totals {
				t.sigs[m.totals[i].sig] += int(m.totals[i].n)
			}
			for i := range m.parts {
				if m.byItem || by <= ByClass {
					t.sigs[m.parts[i].sig] += int(m.parts[i].n)
				}
			}
		}
		t.names = resized(t.names, len(m.texts)+1)
		for sig, n := range t.sigs {
			if n > 0 && m.matches(uint32(sig)) {
				t.spread(&m, by, uint32(sig), n)
			}
		}
		for r, n := range t.names[1:] {
			if n > 0 {
				t.counts = append(t.counts, tallied{name: m.texts[r], n: n})
			}
		}
	}
	if members > 1 {
		t.merge()
	}
}

// spread counts interactions of a signature for each of its names.
func (t *Tally) spread(m *matcher, by Dimension, sig uint32, n int) {
	s := &m.sigs[sig]
	switch by {
	case ByChannel:
		t.names[s.channel] += n
		return
	case ByTouchpoint:
		t.names[s.touchpoint] += n
		return
	case ByOutcome:
		t.names[s.outcome] += n
		return
	case ByOffer, ByGroup, ByClass:
	}
	items := m.itemsOf(s)
	for i, x := range items {
		if !m.matchesItem(x) {
			continue
		}
		name := x.by(by)
		if !slices.ContainsFunc(items[:i], func(y itemRefs) bool { return y.by(by) == name && m.matchesItem(y) }) {
			t.names[name] += n
		}
	}
}

// by returns the item's name in a dimension.
func (a itemRefs) by(d Dimension) ref {
	switch d {
	case ByGroup:
		return a.group
	case ByClass:
		return a.class
	case ByOffer, ByChannel, ByTouchpoint, ByOutcome:
	}
	return a.offer
}

// merge adds up what several members have.
func (t *Tally) merge() {
	slices.SortFunc(t.counts, func(a, b tallied) int { return cmp.Compare(a.name, b.name) })
	kept := t.counts[:0]
	for _, c := range t.counts {
		if n := len(kept); n > 0 && kept[n-1].name == c.name {
			kept[n-1].n += c.n
			continue
		}
		kept = append(kept, c)
	}
	t.counts = kept
}

// Count returns how many interactions a name has.
func (t *Tally) Count(name string) int {
	i, ok := slices.BinarySearchFunc(t.counts, name, func(c tallied, s string) int { return cmp.Compare(c.name, s) })
	if !ok {
		return 0
	}
	return t.counts[i].n
}

// All yields the names that have any, in ascending order, each with its count. Going
// through these and looking each up among the candidates is faster than Count for each
// candidate.
func (t *Tally) All() iter.Seq2[string, int] {
	return func(yield func(string, int) bool) {
		for _, c := range t.counts {
			if !yield(c.name, c.n) {
				return
			}
		}
	}
}

// resized returns a list of n zeros, in the memory of an old one if it has room.
func resized(list []int, n int) []int {
	if cap(list) < n {
		return make([]int, n, 2*n)
	}
	list = list[:n]
	clear(list)
	return list
}
