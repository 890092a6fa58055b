package profilestore

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"time"
)

// history is the interaction history of one identity: its contacts and outcomes. It
// is a part of the delta record, nil where there is none. It is immutable but for
// add, which is called on a copy.
//
// A contact policy asks how many interactions of a kind, an offer, a channel and so
// on there were in the last so many hours or days; people ask what happened last.
// Both must be exact, and neither may need all that ever happened: a customer of ten
// years has thousands of interactions, and a record is read and written whole. So
// there are three layers, from exact and short to coarse and endless:
//
//   - raw: the latest interactions, up to historyLimits.raw, with their time. A window
//     that begins in them is exact to the microsecond.
//   - cells: of those before, how many each day (of UTC) had of each signature. A
//     window counts the days that are younger than it as a whole, so nothing older than
//     the window ever counts, and what counts reaches back to at most a day less.
//   - totals: of those before too, how many there were of each signature ever, and when
//     the first and the last was.
//
// A signature is everything about an interaction except its time: contact or outcome,
// channel, touchpoint, and the whole list of items. Counts per offer alone would be
// smaller, and wrong: a slate of two offers of one group is one contact of that group,
// and an offer in two channels must count in each. A customer meets few signatures
// many times.
//
// What the record holds is a function of the set of distinct events, whatever their
// order of arrival, so that a rebuilt record is the same record. What decides which
// layer an interaction is in are therefore only things that move in one direction as
// the set grows:
//
//   - Raw are the last of all, by time and then signature. One more pushes the first of
//     them out, itself perhaps; never one in. (Not by id: two of the same time and
//     signature are the same to every question. Ids are remembered by the record, for
//     as long as they are for every event.)
//   - Cells of days before cut are dropped. It is what no window of MaxWindow reaches
//     that is read LateHorizon before the latest interaction or later, or more, if the
//     days after it are as many as historyLimits.cells allows. Each of them only
//     rises, and what is dropped would not count in deciding the next cut.
//   - Totals have a level of detail. While there are more than historyLimits.totals,
//     level by level: slates of several items are counted by item (see parts), then
//     touchpoints are left out, then items. A coarser total is the sum of the finer
//     ones, so it does not matter when it was made.
//
// The alternatives that lost: a ring of the last N alone forgets an outcome of 60 days
// ago after a busy week, and with it the rest period that it began; cells alone can't
// say when the window next opens, and are up to a day wrong where a cap is one a day.
type history struct {
	texts  []string // the names that occur, ascending, each once; see ref
	sigs   []signature
	items  []itemRefs // of the signatures
	raw    []rawInteraction
	cells  []dayCell
	totals []total
	// parts are totals of single items of slates, which are in totals once, with an
	// item without names for all of them. From level 1 on.
	parts []total
	level uint8
	cut   int64 // the first day that cells are kept of

	cellCost  int // what cells come to against historyLimits.cells
	textBytes int // of texts together
}

// ref is a name: its place in texts + 1, 0 for none.
type ref uint32

// signature is what interactions have in common. Those of a history are ascending
// and each is there once.
type signature struct {
	outcome, channel, touchpoint ref // a contact has no outcome
	from, to                     uint32
}

type itemRefs struct{ offer, group, class ref }

// rawInteraction is ordered by time, then signature.
type rawInteraction struct {
	time int64
	sig  uint32
}

// dayCell is ordered by day, then signature.
type dayCell struct {
	day int32 // since the Unix epoch
	sig uint32
	n   uint32
}

// total is ordered by signature.
type total struct {
	sig         uint32
	n           uint64
	first, last int64 // microseconds
}

const (
	dayMicros = int64(24 * time.Hour / time.Microsecond)
	// keptMicros is how long before the latest interaction a day must have begun to be
	// of no use to any window.
	keptMicros = int64(MaxWindow/time.Microsecond) + lateMicros

	levelSlates      = 1 // from it on, slates of several items are in parts
	levelTouchpoints = 2 // from it on, totals have no touchpoint
	levelItems       = 3 // from it on, no items
)

// limits bound a history.
type limits struct {
	raw    int // interactions
	cells  int // a cell costs 1 and 1 for each item
	totals int // a total likewise
}

// historyLimits: 256 interactions are some months of most customers, and 3 KB; 4,096
// cells of one item, ten a day for 400 days; 1,024 totals of one item are 25 KB.
var historyLimits = limits{raw: 256, cells: 8192, totals: 2048}

// clone returns a copy that add may change, of the empty history if h is nil.
func (h *history) clone() *history {
	if h == nil {
		return &history{cut: math.MinInt64}
	}
	c := *h
	c.texts, c.sigs, c.items = slices.Clone(h.texts), slices.Clone(h.sigs), slices.Clone(h.items)
	c.raw, c.cells, c.totals, c.parts = slices.Clone(h.raw), slices.Clone(h.cells), slices.Clone(h.totals), slices.Clone(h.parts)
	return &c
}

// add adds an interaction.
func (h *history) add(x *Interaction, most limits) {
	in := rawInteraction{time: x.Time, sig: h.intern(x)}
	i, _ := slices.BinarySearchFunc(h.raw, in, rawInteraction.compare)
	h.raw = slices.Insert(h.raw, i, in)
	if len(h.raw) > most.raw {
		oldest := h.raw[0]
		h.raw = slices.Delete(h.raw, 0, 1)
		h.fold(oldest, most)
	}
	h.dropBefore(h.reach())
	if h.level > 0 {
		h.collect()
	}
}

func (r rawInteraction) compare(s rawInteraction) int {
	return cmp.Or(cmp.Compare(r.time, s.time), cmp.Compare(r.sig, s.sig))
}

// reach is the first day that a window can ask for.
func (h *history) reach() int64 {
	return floorDiv(h.raw[len(h.raw)-1].time-keptMicros, dayMicros)
}

// fold puts an interaction that is no longer among the latest into the other layers.
func (h *history) fold(r rawInteraction, most limits) {
	h.dropBefore(h.reach())
	if day := floorDiv(r.time, dayMicros); day >= h.cut {
		c := dayCell{day: int32(day), sig: r.sig, n: 1}
		i, ok := slices.BinarySearchFunc(h.cells, c, dayCell.compare)
		if ok {
			h.cells[i].n++
		} else {
			h.cells = slices.Insert(h.cells, i, c)
			h.cellCost += h.cost(c.sig)
		}
		for h.cellCost > most.cells {
			h.dropBefore(int64(h.cells[0].day) + 1)
		}
	}
	t := total{n: 1, first: r.time, last: r.time}
	if h.level == 0 {
		t.sig = r.sig
		h.totals = joinTotal(h.totals, t)
	} else {
		h.sum(h.interaction(r.sig), t)
	}
	for h.level < levelItems && h.totalCost() > most.totals {
		h.coarsen()
	}
}

func (c dayCell) compare(d dayCell) int {
	return cmp.Or(cmp.Compare(c.day, d.day), cmp.Compare(c.sig, d.sig))
}

// cost is what a cell or total of a signature costs.
func (h *history) cost(sig uint32) int { return 1 + int(h.sigs[sig].to-h.sigs[sig].from) }

func (h *history) totalCost() int {
	n := 0
	for _, list := range [...][]total{h.totals, h.parts} {
		for i := range list {
			n += h.cost(list[i].sig)
		}
	}
	return n
}

// dropBefore drops the cells of days before one.
func (h *history) dropBefore(day int64) {
	if day <= h.cut {
		return
	}
	h.cut = day
	n := 0
	for n < len(h.cells) && int64(h.cells[n].day) < day {
		h.cellCost -= h.cost(h.cells[n].sig)
		n++
	}
	h.cells = slices.Delete(h.cells, 0, n)
}

// sum adds to the totals in the detail of the level.
func (h *history) sum(x Interaction, t total) {
	if h.level >= levelItems {
		x.Items = nil
	}
	if h.level >= levelSlates && len(x.Items) > 1 {
		for i := range x.Items {
			h.sumPart(Interaction{Outcome: x.Outcome, Channel: x.Channel, Touchpoint: x.Touchpoint, Items: x.Items[i : i+1]}, t)
		}
		x.Items = []Item{{}}
	}
	if h.level >= levelTouchpoints {
		x.Touchpoint = ""
	}
	t.sig = h.intern(&x)
	h.totals = joinTotal(h.totals, t)
}

func (h *history) sumPart(x Interaction, t total) {
	if h.level >= levelItems {
		return
	}
	if h.level >= levelTouchpoints {
		x.Touchpoint = ""
	}
	t.sig = h.intern(&x)
	h.parts = joinTotal(h.parts, t)
}

func joinTotal(list []total, t total) []total {
	i, ok := slices.BinarySearchFunc(list, t, func(a, b total) int { return cmp.Compare(a.sig, b.sig) })
	if !ok {
		return slices.Insert(list, i, t)
	}
	list[i].n += t.n
	list[i].first, list[i].last = min(list[i].first, t.first), max(list[i].last, t.last)
	return list
}

// coarsen goes to the next level of detail.
func (h *history) coarsen() {
	h.level++
	totals, parts := h.totals, h.parts
	named := make([]Interaction, 0, len(totals)+len(parts))
	for _, list := range [...][]total{totals, parts} {
		for i := range list {
			named = append(named, h.interaction(list[i].sig)) // before indices move
		}
	}
	h.totals, h.parts = nil, nil
	for i, t := range totals {
		h.sum(named[i], t)
	}
	for i, t := range parts {
		h.sumPart(named[len(totals)+i], t)
	}
}

// interaction returns an interaction of a signature, without a time.
func (h *history) interaction(sig uint32) Interaction {
	s := &h.sigs[sig]
	x := Interaction{Outcome: h.text(s.outcome), Channel: h.text(s.channel), Touchpoint: h.text(s.touchpoint)}
	if refs := h.itemsOf(s); len(refs) > 0 {
		x.Items = make([]Item, len(refs))
		for i, r := range refs {
			x.Items[i] = Item{Offer: h.text(r.offer), Group: h.text(r.group), Class: h.text(r.class)}
		}
	}
	return x
}

func (h *history) itemsOf(s *signature) []itemRefs { return h.items[s.from:s.to] }

func (h *history) text(r ref) string {
	if r == 0 {
		return ""
	}
	return h.texts[r-1]
}

// find returns the name's ref, false where it does not occur.
func (h *history) find(name string) (ref, bool) {
	if name == "" {
		return 0, true
	}
	i, ok := slices.BinarySearch(h.texts, name)
	return ref(i + 1), ok
}

// intern returns the place of the signature of an interaction, which it makes where
// there is none. The places of others and the refs of names may move.
func (h *history) intern(x *Interaction) uint32 {
	for _, name := range [...]string{x.Outcome, x.Channel, x.Touchpoint} {
		h.name(name)
	}
	for i := range x.Items {
		for _, name := range [...]string{x.Items[i].Offer, x.Items[i].Group, x.Items[i].Class} {
			h.name(name)
		}
	}
	of := func(name string) ref {
		r, _ := h.find(name)
		return r
	}
	s := signature{outcome: of(x.Outcome), channel: of(x.Channel), touchpoint: of(x.Touchpoint), from: uint32(len(h.items))}
	for _, item := range x.Items {
		h.items = append(h.items, itemRefs{of(item.Offer), of(item.Group), of(item.Class)})
	}
	s.to = uint32(len(h.items))
	i, ok := slices.BinarySearchFunc(h.sigs, s, h.compare)
	if ok {
		h.items = h.items[:s.from]
		return uint32(i)
	}
	h.sigs = slices.Insert(h.sigs, i, s)
	at := uint32(i)
	for k := range h.raw {
		moveFrom(&h.raw[k].sig, at)
	}
	for k := range h.cells {
		moveFrom(&h.cells[k].sig, at)
	}
	for k := range h.totals {
		moveFrom(&h.totals[k].sig, at)
	}
	for k := range h.parts {
		moveFrom(&h.parts[k].sig, at)
	}
	return at
}

// moveFrom makes room for a new place before which others are.
func moveFrom[T ~uint32](place *T, at T) {
	if *place >= at {
		*place++
	}
}

// compare orders signatures by their names.
func (h *history) compare(s, t signature) int {
	return cmp.Or(cmp.Compare(s.outcome, t.outcome), cmp.Compare(s.channel, t.channel), cmp.Compare(s.touchpoint, t.touchpoint),
		slices.CompareFunc(h.itemsOf(&s), h.itemsOf(&t), itemRefs.compare))
}

func (a itemRefs) compare(b itemRefs) int {
	return cmp.Or(cmp.Compare(a.offer, b.offer), cmp.Compare(a.group, b.group), cmp.Compare(a.class, b.class))
}

// name puts a name into texts.
func (h *history) name(name string) {
	r, ok := h.find(name)
	if ok {
		return
	}
	h.texts = slices.Insert(h.texts, int(r)-1, strings.Clone(name))
	h.textBytes += len(name)
	for i := range h.sigs {
		s := &h.sigs[i]
		moveFrom(&s.outcome, r)
		moveFrom(&s.channel, r)
		moveFrom(&s.touchpoint, r)
	}
	for i := range h.items {
		item := &h.items[i]
		moveFrom(&item.offer, r)
		moveFrom(&item.group, r)
		moveFrom(&item.class, r)
	}
}

// collect drops signatures and names that nothing has any more.
func (h *history) collect() {
	sigs := make([]bool, len(h.sigs))
	for _, r := range h.raw {
		sigs[r.sig] = true
	}
	for _, c := range h.cells {
		sigs[c.sig] = true
	}
	for _, list := range [...][]total{h.totals, h.parts} {
		for _, t := range list {
			sigs[t.sig] = true
		}
	}
	if !slices.Contains(sigs, false) {
		return
	}
	names := make([]bool, len(h.texts)+1)
	places := make([]uint32, len(h.sigs))
	var kept []signature
	var items []itemRefs
	for i, s := range h.sigs {
		if !sigs[i] {
			continue
		}
		places[i] = uint32(len(kept))
		from := uint32(len(items))
		items = append(items, h.itemsOf(&s)...)
		s.from, s.to = from, uint32(len(items))
		kept = append(kept, s)
		names[s.outcome], names[s.channel], names[s.touchpoint] = true, true, true
	}
	for _, x := range items {
		names[x.offer], names[x.group], names[x.class] = true, true, true
	}
	h.sigs, h.items = kept, items
	for i := range h.raw {
		h.raw[i].sig = places[h.raw[i].sig]
	}
	for i := range h.cells {
		h.cells[i].sig = places[h.cells[i].sig]
	}
	for _, list := range [...][]total{h.totals, h.parts} {
		for i := range list {
			list[i].sig = places[list[i].sig]
		}
	}
	h.collectNames(names)
}

// collectNames drops the names that are not in use, by ref.
func (h *history) collectNames(used []bool) {
	refs := make([]ref, len(used))
	texts := h.texts[:0]
	h.textBytes = 0
	for i, name := range h.texts {
		if used[i+1] {
			texts = append(texts, name)
			h.textBytes += len(name)
			refs[i+1] = ref(len(texts))
		}
	}
	clear(h.texts[len(texts):])
	h.texts = texts
	for i := range h.sigs {
		s := &h.sigs[i]
		s.outcome, s.channel, s.touchpoint = refs[s.outcome], refs[s.channel], refs[s.touchpoint]
	}
	for i := range h.items {
		x := &h.items[i]
		x.offer, x.group, x.class = refs[x.offer], refs[x.group], refs[x.class]
	}
}

// weight returns an upper bound of the encoded size.
func (h *history) weight() int {
	if h == nil {
		return 1
	}
	return 40 + h.textBytes + 2*len(h.texts) + 20*len(h.sigs) + 15*len(h.items) + 15*len(h.raw) + 15*len(h.cells) + 35*(len(h.totals)+len(h.parts))
}

// weight returns how much an interaction adds to a weight at most, apart from a step
// to a coarser level, for which a record has room beyond maxWeight.
func (x *Interaction) weight() int {
	n := 100 + len(x.Outcome) + len(x.Channel) + len(x.Touchpoint)
	for i := range x.Items {
		n += 21 + len(x.Items[i].Offer) + len(x.Items[i].Group) + len(x.Items[i].Class)
	}
	return n
}
