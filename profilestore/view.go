package profilestore

import (
	"math"
	"time"
)

// View is what is known of one customer under one choice of snapshots and one
// version of the customer's delta record. It merges the two field by field as it
// is read: a decision touches a few of several hundred fields.
//
// A View is immutable and safe for concurrent use, and stays valid however long
// it is kept.
type View struct {
	schema *Schema
	epoch  uint64
	snaps  []*Snapshot // by source; nil where none is active
	rows   [][]byte    // by source; nil where the snapshot has no row
	delta  *delta      // nil where no event has been
}

// EmptyView returns the view of a customer of whom nothing is known and for whom
// no snapshot could be read.
func EmptyView(s *Schema) *View {
	return &View{schema: s, snaps: make([]*Snapshot, len(s.sources)), rows: make([][]byte, len(s.sources))}
}

// Known reports whether anything is known of the customer: a row in a snapshot,
// or an event.
func (v *View) Known() bool {
	if v.delta != nil {
		return true
	}
	for _, r := range v.rows {
		if r != nil {
			return true
		}
	}
	return false
}

// DeltaVersion returns how many events have changed the customer's record.
func (v *View) DeltaVersion() uint64 {
	if v.delta == nil {
		return 0
	}
	return v.delta.version
}

// Snapshot returns the snapshot of a source, by its place in Schema.Sources, nil
// where none is active, and whether it has a row for the customer.
func (v *View) Snapshot(source int) (s *Snapshot, hasRow bool) {
	return v.snaps[source], v.rows[source] != nil
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
	switch origin {
	case OriginBatch, OriginBatchAndEvents:
		p.Generation = v.snaps[x.source].Generation()
	case OriginDefault:
		if x.source >= 0 {
			p.Generation = v.snaps[x.source].Generation()
		}
	case OriginEvents:
		if event := v.delta.register(x.key); event != nil {
			p.EventTime = event.time
		}
	case OriginUnknown:
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
		return r.extreme(x, b)
	case formCounter, formWindow, formSince:
		return r.counter(x, b)
	case formSet:
		return r.set(x, b)
	case formDwell:
		return r.dwell(x)
	}
	return Value{}, OriginUnknown
}

// batchPart is what the current snapshot has for a field.
type batchPart struct {
	snap    *Snapshot
	covered bool // the snapshot has a column for the field, and a row for the customer
	present bool // and the row has a value
	value   Value
}

func (v *View) batch(x *slot, i int) (b batchPart) {
	if x.source < 0 {
		return b
	}
	snap, row := v.snaps[x.source], v.rows[x.source]
	if snap == nil || row == nil || !snap.Covers(i) {
		return b
	}
	b.snap, b.covered, b.present = snap, true, snap.Present(row, i)
	if b.present {
		b.value = snap.Value(row, i)
	}
	return b
}

// fallback is the value where nothing has given one.
func (x *slot) fallback() (Value, Origin) {
	if x.initial.Known() {
		return x.initial, OriginDefault
	}
	return Value{}, OriginUnknown
}

func (r Reading) register(x *slot, b batchPart) (Value, Origin) {
	event := r.view.delta.register(x.key)
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

func (r Reading) extreme(x *slot, b batchPart) (Value, Origin) {
	if x.source >= 0 && !b.covered {
		return Value{}, OriginUnknown
	}
	event := r.view.delta.register(x.key)
	switch {
	case event == nil && b.present:
		return b.value, OriginBatch
	case event == nil:
		return x.fallback()
	case b.present && (b.value == event.value || (b.value.Number() > event.value.Number()) == (x.form == formMax)):
		return b.value, OriginBatch
	}
	return event.value, OriginEvents
}

func (r Reading) counter(x *slot, b batchPart) (Value, Origin) {
	if x.source >= 0 && !b.covered {
		return Value{}, OriginUnknown
	}
	var sum int64
	origin, counted := OriginDefault, OriginEvents
	if b.present {
		origin, counted = OriginBatch, OriginBatchAndEvents
		if x.form == formWindow {
			sum = sumHops(b.value.Text(), b.snap.AsOf(), x.bucket, r.now-x.window, r.now)
		} else {
			sum = scaleAmount(b.value.Number(), x.decimals)
		}
	}
	width := x.cell()
	cells := r.view.delta.cellsOf(x.key)
	for i := range cells {
		c := &cells[i]
		if b.covered && c.covered(b.snap.AsOf(), b.snap.IngestCut()) {
			continue
		}
		if begin := c.happened * width; x.form == formWindow && (begin < r.now-x.window || begin > r.now) {
			continue
		}
		sum = addSaturating(sum, c.sum)
		origin = counted
	}
	return Number(unscale(sum, x.decimals)), origin
}

func (r Reading) set(x *slot, b batchPart) (Value, Origin) {
	if x.source >= 0 && !b.covered {
		return Value{}, OriginUnknown
	}
	from, origin, changes := int64(math.MinInt64), OriginEvents, r.view.delta.elementsOf(x.key)
	batch := ""
	if b.covered {
		from = b.snap.AsOf()
	}
	if b.present {
		batch, origin = b.value.Text(), OriginBatchAndEvents
	}
	switch merged, changed := mergeSet(batch, changes, from); {
	case changed:
		return setOf(merged), origin
	case b.present:
		return setOf(batch), OriginBatch
	}
	return x.fallback()
}

// dwell returns minutes: of the present stay, or with a window of all stays in it.
func (r Reading) dwell(x *slot) (Value, Origin) {
	moves := r.view.delta.movesOf(x.key)
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
	if len(moves) == 0 {
		return x.fallback()
	}
	return Number(float64(total) / float64(time.Minute.Microseconds())), OriginEvents
}
