package profilestore

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// View is what is known of one customer under one choice of snapshots, one version
// of each delta record, and one state of the links between the customer's
// identities. It merges them field by field as it is read: a decision touches a few of
// several hundred fields.
//
// A customer is one identity, or a group of identities that have been linked. Each
// identity keeps its own rows and its own record, so that a link that is taken back
// leaves both sides as if it had never been. What a group's fields are is this:
//
//   - A number, flag, text or time is the last that any member's events say, if it stands,
//     else the batch value of the first member that has one, in the order of the group.
//   - Counters, with a window too, are the sum of all members; a set is the union of their
//     batch values, with the last that any member's events say of each element; max and
//     min are the extreme of all.
//   - A reset and a stay belong to the identity that the event named: switching on one
//     telephone does not take back the calls missed on another. So a counter that begins
//     again is the sum of what each member counts, and a dwell is the longest of any.
//
// What a batch job covered is a matter of its times, not of who has a row: once one
// member has a row, the events of all others are judged by the same snapshot.
//
// A View is immutable and safe for concurrent use, and stays valid however long
// it is kept.
type View struct {
	schema  *Schema
	epoch   uint64      // of the choice of snapshots
	snaps   []*Snapshot // by source; nil where none is active
	members []member    // at least one; as the group has them
	group   *Group      // nil: one identity, never linked
}

// member is what is known of one identity of a customer.
type member struct {
	key   string   // see nodeKey
	rows  [][]byte // by source; nil where the snapshot has no row
	delta *delta   // nil where no event has been
}

// EmptyView returns the view of a customer of whom nothing is known and for whom
// no snapshot could be read.
func EmptyView(s *Schema) *View {
	return &View{schema: s, snaps: make([]*Snapshot, len(s.sources)), members: []member{{rows: make([][]byte, len(s.sources))}}}
}

// Known reports whether anything is known of the customer: a row in a snapshot,
// or an event.
func (v *View) Known() bool {
	for i := range v.members {
		m := &v.members[i]
		if m.delta.changes() > 0 {
			return true
		}
		for _, r := range m.rows {
			if r != nil {
				return true
			}
		}
	}
	return false
}

// DeltaVersion returns how many events have changed the records of the customer's
// identities.
func (v *View) DeltaVersion() uint64 {
	var n uint64
	for i := range v.members {
		n += v.members[i].delta.changes()
	}
	return n
}

// Snapshot returns the snapshot of a source, by its place in Schema.Sources, nil
// where none is active, and whether it has a row for the customer.
func (v *View) Snapshot(source int) (s *Snapshot, hasRow bool) {
	for i := range v.members {
		hasRow = hasRow || v.members[i].rows[source] != nil
	}
	return v.snaps[source], hasRow
}

// At returns the view as it is read at a time, microseconds since the Unix epoch.
func (v *View) At(now int64) Reading { return Reading{view: v, now: now} }

// Reading is a [View] at one moment, which windows and stays end at. It is exact for
// every moment from LateHorizon before the customer's latest event on. It
// is small, immutable, and valid as long as its view.
type Reading struct {
	view *View
	now  int64
}

// Get returns the value of the field at a slot; how it is merged is said at delta.
//
// A field whose source has no row for the customer is unknown, unless it is a
// register that an event has set: what events alone add up to would be less than
// what is true. It does not allocate, except for a text that is not in the
// snapshot's dictionary, and a set that events have changed.
func (r Reading) Get(slot int) Value {
	value, _ := r.get(slot)
	return value
}

// Origin says where a field's value comes from.
type Origin uint8

// The origins of values.
const (
	OriginUnknown        Origin = iota // nothing has given it a value
	OriginBatch                        // the current snapshot of its source
	OriginEvents                       // events
	OriginBatchAndEvents               // a batch value and the events it did not cover
	OriginDefault                      // the schema's default, the zero of a counter or dwell, or the empty set
)

// Provenance is the origin of one value.
type Provenance struct {
	Origin     Origin
	Source     string // the field's batch source; empty if it has none
	Generation int64  // the snapshot that the batch value or part came from; 0 if none
	// EventTime is when the event happened that set a register, or gave a max or min
	// its value, or reset a counter; microseconds. Else 0.
	EventTime int64
	// Identity is the member of the customer's group whose event or row gave a register
	// its value, or whose event gave a max or min. Empty for sums, and for a customer of
	// one identity.
	Identity string
}

// Explain returns the value of the field at a slot and where it comes from.
func (r Reading) Explain(slot int) (Value, Provenance) {
	v := r.view
	value, origin := r.get(slot)
	p := Provenance{Origin: origin}
	x := &v.schema.slots[slot]
	if x.source >= 0 {
		p.Source = v.schema.sources[x.source].ID
	}
	by := -1 // the member whose value it is
	switch origin {
	case OriginBatch:
		if by = v.batch(x, slot).member; x.form == formCounter || x.form == formWindow || x.form == formSet || x.form == formMax || x.form == formMin {
			by = -1
		}
		p.Generation = v.snaps[x.source].Generation()
	case OriginBatchAndEvents:
		p.Generation = v.snaps[x.source].Generation()
	case OriginDefault:
		if x.source >= 0 {
			p.Generation = v.snaps[x.source].Generation()
		}
	case OriginEvents:
		if event, of := v.lastEvent(x); event != nil {
			p.EventTime = event.time
			if x.form != formSince {
				by = of
			}
		}
	case OriginUnknown:
	}
	if by >= 0 && len(v.members) > 1 {
		p.Identity = identityOf(v.members[by].key)
	}
	return value, p
}

func (r Reading) get(i int) (Value, Origin) {
	x := &r.view.schema.slots[i]
	b := r.view.batch(x, i)
	switch x.form {
	case formRegister:
		return r.register(x, b)
	case formMax, formMin:
		return r.extreme(x, i, b)
	case formCounter, formWindow, formSince:
		return r.counter(x, i, b)
	case formSet:
		return r.set(x, i, b)
	case formDwell:
		return r.dwell(x)
	}
	return Value{}, OriginUnknown
}

// batchPart is what the current snapshot has for a field.
type batchPart struct {
	snap    *Snapshot
	covered bool // the snapshot has a column for the field, and a row for a member
	present bool // and a row has a value
	value   Value
	member  int // the first whose row has one
}

func (v *View) batch(x *slot, i int) (b batchPart) {
	if x.source < 0 || v.snaps[x.source] == nil || !v.snaps[x.source].Covers(i) {
		return b
	}
	snap := v.snaps[x.source]
	for k := range v.members {
		row := v.members[k].rows[x.source]
		if row == nil {
			continue
		}
		b.snap, b.covered = snap, true
		if snap.Present(row, i) {
			b.present, b.value, b.member = true, snap.Value(row, i), k
			return b
		}
	}
	return b
}

// batchValue returns what a member's row has, unknown if nothing. The snapshot has a
// column for the field.
func (b *batchPart) batchValue(m *member, x *slot, i int) Value {
	if row := m.rows[x.source]; row != nil && b.snap.Present(row, i) {
		return b.snap.Value(row, i)
	}
	return Value{}
}

// lastEvent returns the register of a field that wins among those of the members, and
// whose it is; nil if none has one. Among those of a max or min it is the extreme.
func (v *View) lastEvent(x *slot) (last *register, of int) {
	for k := range v.members {
		if r := v.members[k].delta.register(x.key); r != nil && (last == nil || r.beats(x.form, last)) {
			last, of = r, k
		}
	}
	return last, of
}

// fallback is the value where nothing has given one.
func (x *slot) fallback() (Value, Origin) {
	if x.initial.Known() {
		return x.initial, OriginDefault
	}
	return Value{}, OriginUnknown
}

func (r Reading) register(x *slot, b batchPart) (Value, Origin) {
	event, _ := r.view.lastEvent(x)
	switch {
	case event != nil && (!b.covered || event.time >= b.snap.AsOf()):
		return event.value, OriginEvents
	case x.source >= 0 && !b.covered:
		return Value{}, OriginUnknown
	case b.present:
		return b.value, OriginBatch
	}
	return x.fallback()
}

func (r Reading) extreme(x *slot, i int, b batchPart) (Value, Origin) {
	if x.source >= 0 && !b.covered {
		return Value{}, OriginUnknown
	}
	if b.present {
		for k := b.member + 1; k < len(r.view.members); k++ {
			if w := b.batchValue(&r.view.members[k], x, i); w.Known() && x.form.exceeds(w, b.value) {
				b.value = w
			}
		}
	}
	event, _ := r.view.lastEvent(x)
	switch {
	case event == nil && b.present:
		return b.value, OriginBatch
	case event == nil:
		return x.fallback()
	case b.present && !x.form.exceeds(event.value, b.value):
		return b.value, OriginBatch
	}
	return event.value, OriginEvents
}

// exceeds reports whether a is beyond b, for a max or min.
func (f fieldForm) exceeds(a, b Value) bool {
	if f == formMax {
		return a.Number() > b.Number()
	}
	return a.Number() < b.Number()
}

func (r Reading) counter(x *slot, i int, b batchPart) (Value, Origin) {
	if x.source >= 0 && !b.covered {
		return Value{}, OriginUnknown
	}
	var sum int64
	origin, counted := OriginDefault, OriginEvents
	if b.present {
		origin, counted = OriginBatch, OriginBatchAndEvents
		for k := b.member; k < len(r.view.members); k++ {
			switch w := b.batchValue(&r.view.members[k], x, i); {
			case !w.Known():
			case x.form == formWindow:
				sum = addSaturating(sum, sumHops(w.Text(), b.snap.AsOf(), x.bucket, r.now-x.window, r.now))
			default:
				sum = addSaturating(sum, scaleAmount(w.Number(), x.decimals))
			}
		}
	}
	for k := range r.view.members {
		events, counts := r.events(x, &b, &r.view.members[k])
		sum = addSaturating(sum, events)
		if counts {
			origin = counted
		}
	}
	return Number(unscale(sum, x.decimals)), origin
}

// events adds up the cells of one member that count.
func (r Reading) events(x *slot, b *batchPart, m *member) (sum int64, counts bool) {
	width := x.cell()
	cells := m.delta.cellsOf(x.key)
	for i := range cells {
		c := &cells[i]
		if b.covered && c.covered(b.snap.AsOf(), b.snap.IngestCut()) {
			continue
		}
		if begin := c.happened * width; x.form == formWindow && (begin < r.now-x.window || begin > r.now) {
			continue
		}
		sum = addSaturating(sum, c.sum)
		counts = true
	}
	return sum, counts
}

func (r Reading) set(x *slot, i int, b batchPart) (Value, Origin) {
	if x.source >= 0 && !b.covered {
		return Value{}, OriginUnknown
	}
	from, origin := int64(math.MinInt64), OriginEvents
	changes := r.view.elements(x)
	batch := ""
	if b.covered {
		from = b.snap.AsOf()
	}
	if b.present {
		batch, origin = b.value.Text(), OriginBatchAndEvents
		for k := b.member + 1; k < len(r.view.members); k++ {
			batch = unionSets(batch, b.batchValue(&r.view.members[k], x, i).Text())
		}
	}
	switch merged, changed := mergeSet(batch, changes, from); {
	case changed:
		return setOf(merged), origin
	case b.present:
		return setOf(batch), OriginBatch
	}
	return x.fallback()
}

// elements returns what events said of the elements of a set: of each the last.
func (v *View) elements(x *slot) []element {
	var all []element
	owned := false // all is a list of its own
	for k := range v.members {
		switch more := v.members[k].delta.elementsOf(x.key); {
		case len(more) == 0:
		case all == nil:
			all = more
		case !owned:
			all, owned = slices.Concat(all, more), true
		default:
			all = append(all, more...)
		}
	}
	if !owned {
		return all
	}
	slices.SortFunc(all, func(a, b element) int {
		return cmp.Or(a.compare(b), cmp.Compare(b.time, a.time), cmp.Compare(b.id, a.id))
	})
	return slices.CompactFunc(all, func(a, b element) bool { return a.text == b.text })
}

// dwell returns minutes: of the present stay, or with a window of all stays in it; of
// the member for whom they are most.
func (r Reading) dwell(x *slot) (Value, Origin) {
	most, moved := int64(0), false
	for k := range r.view.members {
		moves := r.view.members[k].delta.movesOf(x.key)
		moved = moved || len(moves) > 0
		most = max(most, r.stay(x, moves))
	}
	if !moved {
		return x.fallback()
	}
	return Number(float64(most) / float64(time.Minute.Microseconds())), OriginEvents
}

// stay returns microseconds: of the present stay, or of all stays in the window.
func (r Reading) stay(x *slot, moves []move) int64 {
	var total, begin int64
	in := false
	for i := range moves {
		m := &moves[i]
		if m.time > r.now {
			break
		}
		switch {
		case m.in && !in:
			begin = m.time
		case !m.in && in && x.window > 0:
			total += max(0, m.time-max(begin, r.now-x.window))
		}
		in = m.in
	}
	switch {
	case in && x.window > 0:
		begin = max(begin, r.now-x.window)
		fallthrough
	case in:
		total += r.now - begin
	}
	return total
}
