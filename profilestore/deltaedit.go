package profilestore

import (
	"cmp"
	"math"
	"slices"
)

// edit returns a copy of the record that can be changed, of the empty record if d
// is nil. It shares nothing that is written with d.
func (d *delta) edit() *deltaEdit {
	e := &deltaEdit{delta: &delta{}}
	if d != nil {
		*e.delta = *d
		e.seen, e.regs, e.cells = slices.Clone(d.seen), slices.Clone(d.regs), slices.Clone(d.cells)
		e.sets, e.moves = slices.Clone(d.sets), slices.Clone(d.moves)
	}
	return e
}

// deltaEdit applies a stretch of the journal to one record. The record is copied
// once for all of it, so the work for an event does not grow with what the
// customer has behind it.
type deltaEdit struct {
	*delta
	ids map[uint64]int64 // time of logging by id: an index of seen, once it pays
	own bool             // history is a copy that may be changed
	// plain says that no interactions are added to the history, see deriveFresh.
	plain bool
	// fate is what became of the event applied last.
	fate eventFate
}

// eventFate says how an event that counted stood to time; several may be true.
// What each means for the fields is written at Stats.
type eventFate struct {
	late       bool // logged more than a cell after it happened
	outOfOrder bool // happened before one that was applied before it
	future     bool // happened after it was logged
	superseded int  // changes that an event of later happening had overtaken
	tooLate    int  // changes that came after LateHorizon, or after their window
}

// indexFrom is how many ids are searched one by one before an index is made.
const indexFrom = 64

// maxWeight bounds a record: an upper bound of its encoded size in bytes. Engines
// take values of a megabyte; and nobody has 50,000 events in two days.
const maxWeight = 900 << 10

// applied says what became of an event.
type applied uint8

const (
	appliedNew  applied = iota
	appliedSeen         // it was in the record already
	appliedFull         // the record has no room for it
)

// apply applies one more event of the journal. What it does is a function of the
// record and the event alone, also when it is that the record is full: a replay
// comes to the same end.
func (d *deltaEdit) apply(seq uint64, e *Event, changes []Change, s *Schema) applied {
	if seq <= d.applied {
		return appliedSeen
	}
	id := eventHash(e.ID)
	if d.has(id, e.Logged) {
		return appliedSeen
	}
	d.forget(e.Logged)
	interaction, is, err := interactionOf(e)
	is = is && err == nil && !d.plain // what an older version took and this one can't read is in no history
	weight := d.weight() + weightOf(changes)
	if is {
		weight += interaction.weight()
	}
	if weight > maxWeight {
		return appliedFull
	}
	d.fate = eventFate{
		late:       e.Time < e.Logged-cellMicros,
		outOfOrder: d.version > 0 && e.Time < d.latest,
		future:     e.Time > e.Logged,
	}
	if d.version == 0 {
		d.latest = e.Time
	}
	d.applied, d.newest, d.latest = seq, max(d.newest, e.Logged), max(d.latest, e.Time)
	d.version++
	d.seen = append(d.seen, seenEvent{id: id, logged: e.Logged})
	if d.ids != nil {
		d.ids[id] = e.Logged
	}
	for i := range changes {
		d.change(&s.slots[changes[i].Slot], &changes[i], e, id)
	}
	if is {
		d.interact(&interaction)
	}
	return appliedNew
}

// interact adds to the interaction history, whose copy is made for the first of a
// stretch: most events are no interactions.
func (d *deltaEdit) interact(x *Interaction) {
	if !d.own {
		d.history, d.own = d.history.clone(), true
	}
	d.history.add(x, historyLimits)
}

// change applies what an event does to one field.
func (d *deltaEdit) change(x *slot, c *Change, e *Event, id uint64) {
	edge := d.latest - lateMicros
	switch x.form {
	case formRegister, formMax, formMin:
		d.set(x.form, register{key: x.key, time: e.Time, rank: c.Priority, id: id, value: c.Value})
	case formSet:
		d.put(element{key: x.key, text: c.Value.Text(), time: e.Time, id: id, in: c.Op != Remove})
	case formDwell:
		if e.Time < edge {
			d.fate.tooLate++
			return
		}
		d.move(move{key: x.key, time: e.Time, id: id, in: c.Value.Flag()})
	case formCounter, formWindow, formSince:
		if c.Op == Reset {
			d.reset(x, e, id)
			return
		}
		n := cell{key: x.key, sum: scaleAmount(c.Value.Number(), x.decimals)}
		if width := x.cell(); width > 0 {
			n.happened = floorDiv(e.Time, width)
		} // else no batch or window will ever take a part of it, and one cell is enough
		if x.source >= 0 {
			n.logged = floorDiv(e.Logged, cellMicros)
		}
		switch {
		case x.form == formWindow && x.expired(n, edge):
			d.fate.tooLate++
			return
		case x.form == formSince:
			if last := d.register(x.key); last != nil && e.Time < last.time {
				d.fate.superseded++
				return
			}
		}
		d.add(n)
	}
}

// reset begins a counter again.
func (d *deltaEdit) reset(x *slot, e *Event, id uint64) {
	if e.Time < d.latest-lateMicros {
		d.fate.tooLate++
		return
	}
	d.set(formRegister, register{key: x.key, time: e.Time, id: id, value: Flag(true)})
	last := d.register(x.key).time
	d.cells = slices.DeleteFunc(d.cells, func(c cell) bool { return c.key == x.key && c.happened < last })
}

// expired reports whether a cell of a windowed counter has left the window for
// good: for every time of reading from edge on.
func (x *slot) expired(c cell, edge int64) bool { return c.happened*x.cell() < edge-x.window }

// has reports whether an event was applied within the horizon before logged.
func (d *deltaEdit) has(id uint64, logged int64) bool {
	if d.ids == nil && len(d.seen) >= indexFrom {
		d.ids = make(map[uint64]int64, 2*len(d.seen))
		for _, x := range d.seen {
			d.ids[x.id] = x.logged
		}
	}
	if d.ids != nil {
		at, ok := d.ids[id]
		return ok && at >= logged-horizonMicros
	}
	return slices.ContainsFunc(d.seen, func(x seenEvent) bool { return x.id == id && x.logged >= logged-horizonMicros })
}

// forget drops the ids that are past the horizon, when there are so many that it
// pays. It never decides whether an event counts: has looks at the time. Where
// there are few they stay, so a clock that was ahead for a moment, which makes
// all others look old, costs a customer with few events nothing.
func (d *deltaEdit) forget(logged int64) {
	if len(d.seen) < 1024 || d.seen[0].logged >= logged-horizonMicros {
		return
	}
	d.seen = slices.DeleteFunc(d.seen, func(x seenEvent) bool { return x.logged < logged-horizonMicros })
	d.ids = nil
}

// weight returns an upper bound of the encoded size.
func (d *delta) weight() int {
	n := 80 + 18*len(d.seen) + 36*len(d.cells) + 24*len(d.moves) + d.ties.weight() + d.history.weight()
	for i := range d.regs {
		n += 36 + len(d.regs[i].value.text)
	}
	for i := range d.sets {
		n += 36 + len(d.sets[i].text)
	}
	return n
}

// weightOf returns how much an event with these changes adds to a weight at most.
func weightOf(changes []Change) int {
	n := 18 + 36*len(changes)
	for _, c := range changes {
		n += len(c.Value.text)
	}
	return n
}

// set puts a register in if it wins over what is there: it happened later, or for
// a max or min its value is greater or less.
func (d *deltaEdit) set(form fieldForm, r register) {
	i, ok := slices.BinarySearchFunc(d.regs, r.key, func(x register, k fieldKey) int { return cmp.Compare(x.key, k) })
	if !ok {
		d.regs = slices.Insert(d.regs, i, r)
		return
	}
	if old := &d.regs[i]; r.beats(form, old) {
		*old = r
		return
	}
	d.fate.superseded++
}

// beats reports whether r takes the place of old: it happened later, or for a max or min
// its value is beyond; r itself does.
func (r *register) beats(form fieldForm, old *register) bool {
	byValue := 0
	switch form {
	case formMax:
		byValue = cmp.Compare(r.value.Number(), old.value.Number())
	case formMin:
		byValue = cmp.Compare(old.value.Number(), r.value.Number())
	case formRegister, formCounter, formWindow, formSince, formSet, formDwell:
	}
	return cmp.Or(byValue, cmp.Compare(r.time, old.time), cmp.Compare(r.rank, old.rank), cmp.Compare(r.id, old.id)) >= 0
}

// put notes what an event said of an element, if no later one has.
func (d *deltaEdit) put(e element) {
	i, ok := slices.BinarySearchFunc(d.sets, e, element.compare)
	if !ok {
		d.sets = slices.Insert(d.sets, i, e)
		return
	}
	if old := &d.sets[i]; cmp.Or(cmp.Compare(e.time, old.time), cmp.Compare(e.id, old.id)) >= 0 {
		*old = e
		return
	}
	d.fate.superseded++
}

// move notes a move. Of two of one event the second stands.
func (d *deltaEdit) move(m move) {
	i, ok := slices.BinarySearchFunc(d.moves, m, move.compare)
	if ok {
		d.moves[i] = m
		return
	}
	d.moves = slices.Insert(d.moves, i, m)
}

// add adds to a cell.
func (d *deltaEdit) add(c cell) {
	i, ok := slices.BinarySearchFunc(d.cells, c, cell.compare)
	if !ok {
		d.cells = slices.Insert(d.cells, i, c)
		return
	}
	d.cells[i].sum = addSaturating(d.cells[i].sum, c.sum)
}

// scaleAmount rounds an amount to the decimals of its counter.
func scaleAmount(f float64, decimals int) int64 {
	scaled := math.RoundToEven(f * pow10[decimals])
	switch {
	case scaled >= math.MaxInt64:
		return math.MaxInt64
	case scaled <= math.MinInt64:
		return math.MinInt64
	}
	return int64(scaled)
}

// addSaturating adds and stays at the limit instead of wrapping around.
func addSaturating(a, b int64) int64 {
	switch s := a + b; {
	case a > 0 && b > 0 && s < 0:
		return math.MaxInt64
	case a < 0 && b < 0 && s >= 0:
		return math.MinInt64
	default:
		return s
	}
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}
