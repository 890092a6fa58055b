package profilestore

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

// Get returns the value of the field at a slot.
//
// A register has the value of the last event if that happened at or after the
// as-of time of the field's snapshot, else the batch value. A counter has its
// batch value plus the cells that the batch did not cover. A field whose source
// has no row for the customer is unknown, unless it is a register that an event
// has set. It does not allocate, except for a text that is not in the snapshot's
// dictionary.
func (v *View) Get(slot int) Value {
	value, _ := v.get(slot)
	return value
}

// Origin says where a field's value comes from.
type Origin uint8

// The origins of values.
const (
	OriginUnknown        Origin = iota // nothing has given it a value
	OriginBatch                        // the current snapshot of its source
	OriginEvents                       // events
	OriginBatchAndEvents               // a counter's batch value and the events it did not cover
	OriginDefault                      // the schema's default, or the zero of a counter
)

// Provenance is the origin of one value.
type Provenance struct {
	Origin     Origin
	Source     string // the field's batch source; empty if it has none
	Generation int64  // the snapshot that the batch value or part came from; 0 if none
	EventTime  int64  // when the event that set a register happened, microseconds; else 0
}

// Explain returns the value of the field at a slot and where it comes from.
func (v *View) Explain(slot int) (Value, Provenance) {
	value, origin := v.get(slot)
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
		if !x.counter {
			p.EventTime = v.delta.register(x.key).time
		}
	case OriginUnknown:
	}
	return value, p
}

func (v *View) get(i int) (Value, Origin) {
	x := &v.schema.slots[i]
	if x.counter {
		return v.counter(x, i)
	}
	event := v.delta.register(x.key)
	if x.source < 0 {
		switch {
		case event != nil:
			return event.value, OriginEvents
		case x.initial.Known():
			return x.initial, OriginDefault
		}
		return Value{}, OriginUnknown
	}
	snap, row := v.snaps[x.source], v.rows[x.source]
	covered := snap != nil && row != nil && snap.Covers(i)
	switch {
	case event != nil && (!covered || event.time >= snap.AsOf()):
		return event.value, OriginEvents
	case !covered:
		return Value{}, OriginUnknown
	case snap.Present(row, i):
		return snap.Value(row, i), OriginBatch
	case x.initial.Known():
		return x.initial, OriginDefault
	}
	return Value{}, OriginUnknown
}

func (v *View) counter(x *slot, i int) (Value, Origin) {
	cells := v.delta.cellsOf(x.key)
	var sum int64
	origin := OriginDefault
	if x.source < 0 {
		for _, c := range cells {
			sum = addSaturating(sum, c.sum)
			origin = OriginEvents
		}
		return Number(unscale(sum, x.decimals)), origin
	}
	snap, row := v.snaps[x.source], v.rows[x.source]
	if snap == nil || row == nil || !snap.Covers(i) {
		return Value{}, OriginUnknown
	}
	if snap.Present(row, i) {
		sum, origin = scaleAmount(snap.Value(row, i).Number(), x.decimals), OriginBatch
	}
	added := false
	for _, c := range cells {
		if !c.covered(snap.AsOf(), snap.IngestCut()) {
			sum = addSaturating(sum, c.sum)
			added = true
		}
	}
	if added {
		origin = OriginBatchAndEvents
	}
	return Number(unscale(sum, x.decimals)), origin
}
