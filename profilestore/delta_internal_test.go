package profilestore

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func deltaSchema(t testing.TB) *Schema {
	t.Helper()
	rule := func(set, add string) *EventRule { return &EventRule{On: "true", Set: set, Add: add} }
	s, err := NewSchema([]Source{{ID: "bi"}}, []Field{
		{Name: "value.balance", Type: TypeNumber, Decimals: 2, Batch: "bi", Events: rule("1.0", "")},
		{Name: "general.city", Type: TypeText, Decimals: NoDecimals, Events: rule("'x'", "")},
		{Name: "tag.vip", Type: TypeFlag, Default: true, Events: rule("true", "")},
		{Name: "service.last_call", Type: TypeTime, Events: rule("event.time", "")},
		{Name: "usage.data_mb", Type: TypeCounter, Decimals: 3, Batch: "bi", Events: rule("", "1.0")},
		{Name: "usage.calls", Type: TypeCounter, Decimals: NoDecimals, Events: rule("", "1.0")},
		{Name: "value.peak", Type: TypeMax, Decimals: NoDecimals, Events: rule("1.0", "")},
		{Name: "value.least", Type: TypeMin, Decimals: NoDecimals, Events: rule("1.0", "")},
		{Name: "marketing.owned", Type: TypeSet, Events: rule("", "'x'")},
		{Name: "usage.missed", Type: TypeCounter, Events: &EventRule{On: "true", Add: "1.0", Reset: "true"}},
		{Name: "location.stay", Type: TypeDwell, Events: &EventRule{On: "true", In: "true"}},
		{Name: "usage.week", Type: TypeCounter, Window: 7 * 24 * time.Hour, Events: rule("", "1.0")},
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// logged is an event with what it changes, at its place in the journal.
type logged struct {
	seq     uint64
	event   *Event
	changes []Change
}

// apply applies one event to a record and returns the next one.
func (d *delta) apply(seq uint64, e *Event, changes []Change, s *Schema) (*delta, bool) {
	edit := d.edit()
	isNew := edit.apply(seq, e, changes, s) == appliedNew
	return edit.delta, isNew
}

// viewOf returns the view of one record, without snapshots.
func viewOf(s *Schema, d *delta) *View {
	v := EmptyView(s)
	v.members[0].delta = d
	return v
}

func drawEvents(t *rapid.T) []logged {
	const day = int64(24 * 3600 * 1e6)
	n := rapid.IntRange(0, 40).Draw(t, "events")
	events := make([]logged, n)
	for i := range events {
		e := &Event{
			ID:     fmt.Sprintf("e%d", rapid.IntRange(0, 25).Draw(t, "id")),
			Time:   rapid.Int64Range(-day, day).Draw(t, "time"), // within LateHorizon
			Logged: int64(i) * day / 40,                         // within the horizon of ids
		}
		var changes []Change
		switch rapid.IntRange(0, 8).Draw(t, "kind") {
		case 0:
			changes = append(changes, Change{Slot: 0, Value: Number(float64(rapid.IntRange(-500, 500).Draw(t, "cents")) / 100), Priority: int8(rapid.IntRange(-100, 100).Draw(t, "priority"))})
			e.Time = rapid.Int64Range(-2, 2).Draw(t, "same time")
		case 1:
			changes = append(changes, Change{Slot: 1, Value: Text(rapid.String().Draw(t, "city"))})
		case 2:
			changes = append(changes, Change{Slot: 2, Value: Flag(rapid.Bool().Draw(t, "vip"))}, Change{Slot: 3, Value: Time(e.Time)})
		case 3:
			changes = append(changes, Change{Slot: 4, Value: Number(float64(rapid.IntRange(-5000, 5000).Draw(t, "kb")) / 1000)}, Change{Slot: 5, Value: Number(1)}, Change{Slot: 11, Value: Number(1)})
		case 5:
			v := Number(float64(rapid.IntRange(-3, 3).Draw(t, "extreme")))
			changes = append(changes, Change{Slot: 6, Value: v}, Change{Slot: 7, Value: v})
		case 6:
			changes = append(changes, Change{Slot: 8, Op: rapid.SampledFrom([]ChangeOp{Assign, Remove}).Draw(t, "op"), Value: Text(rapid.SampledFrom([]string{"a", "b", "ab"}).Draw(t, "element"))})
		case 7:
			if rapid.IntRange(0, 3).Draw(t, "reset") == 0 {
				changes = append(changes, Change{Slot: 9, Op: Reset})
			}
			changes = append(changes, Change{Slot: 9, Value: Number(1)})
		case 8:
			changes = append(changes, Change{Slot: 10, Value: Flag(rapid.Bool().Draw(t, "in"))})
		}
		events[i] = logged{seq: uint64(i + 1), event: e, changes: changes}
	}
	return events
}

// TestDeltaRoundTrip: a record reads back as what was written.
func TestDeltaRoundTrip(t *testing.T) {
	schema := deltaSchema(t)
	sizes := 0
	rapid.Check(t, func(t *rapid.T) {
		var d *delta
		for _, x := range drawEvents(t) {
			d, _ = d.apply(x.seq, x.event, x.changes, schema)
		}
		if d == nil {
			return
		}
		encoded := d.encode()
		sizes += len(encoded)
		back, err := decodeDelta(encoded)
		if err != nil {
			t.Fatal(err)
		}
		if again := back.encode(); !bytes.Equal(again, encoded) {
			t.Fatalf("a record changes when it is read and written:\n%x\n%x", encoded, again)
		}
		for cut := range encoded {
			if _, err := decodeDelta(encoded[:cut]); err == nil {
				t.Fatalf("a record cut from %d to %d bytes was read", len(encoded), cut)
			}
		}
	})
	if sizes == 0 {
		t.Error("no record was ever written")
	}
}

// TestDeltaAgainstNaive compares the record with a fold over the distinct
// events, for any order of happening, redelivery included.
func TestDeltaAgainstNaive(t *testing.T) {
	schema := deltaSchema(t)
	var duplicates, late, replays int
	rapid.Check(t, func(t *rapid.T) {
		events := drawEvents(t)
		var d *delta
		seen := make(map[string]bool)
		var distinct []logged
		for _, x := range events {
			var isNew bool
			if d, isNew = d.apply(x.seq, x.event, x.changes, schema); isNew == seen[x.event.ID] {
				t.Fatalf("event %s: new = %v, seen before = %v", x.event.ID, isNew, seen[x.event.ID])
			}
			if seen[x.event.ID] {
				duplicates++
				continue
			}
			if len(distinct) > 0 && x.event.Time < distinct[len(distinct)-1].event.Time {
				late++
			}
			seen[x.event.ID] = true
			distinct = append(distinct, x)
		}
		if d == nil {
			return
		}
		// A replay of any stretch of the journal changes nothing.
		from := rapid.IntRange(0, len(events)).Draw(t, "replay from")
		before := d.encode()
		for _, x := range events[from:] {
			d, _ = d.apply(x.seq, x.event, x.changes, schema)
			replays++
		}
		if !bytes.Equal(before, d.encode()) {
			t.Fatal("a replay changed the record")
		}
		v := viewOf(schema, d)
		want := naiveFold(schema, distinct)
		for slot, f := range schema.Fields() {
			if f.Batch != "" && f.Type == TypeCounter || schema.slots[slot].form > formCounter {
				continue // unknown without a row, or compared in TestModel only
			}
			if got := v.At(0).Get(slot); got != want[slot] {
				t.Fatalf("%s = %v, the fold gives %v", f.Name, got, want[slot])
			}
		}
	})
	t.Logf("duplicates %d, late events %d, replayed %d", duplicates, late, replays)
	if duplicates == 0 || late == 0 || replays == 0 {
		t.Error("a case never occurred")
	}
}

func naiveFold(schema *Schema, events []logged) []Value {
	out := make([]Value, len(schema.Fields()))
	for slot := range out {
		x := schema.slots[slot]
		var sum int64
		var last *Event
		var priority int8
		for _, e := range events {
			for _, c := range e.changes {
				if c.Slot != slot {
					continue
				}
				if x.form == formCounter {
					sum += int64(math.Round(c.Value.Number() * pow10[x.decimals]))
					continue
				}
				if x.form == formMax && last != nil && c.Value.Number() < out[slot].Number() || x.form == formMin && last != nil && c.Value.Number() > out[slot].Number() {
					continue
				}
				if last == nil || x.form != formRegister || e.event.Time > last.Time ||
					e.event.Time == last.Time && (c.Priority > priority || c.Priority == priority && eventHash(e.event.ID) > eventHash(last.ID)) {
					last, priority, out[slot] = e.event, c.Priority, c.Value
				}
			}
		}
		if x.form == formCounter {
			out[slot] = Number(float64(sum) / pow10[x.decimals])
		} else if last == nil {
			out[slot] = x.initial
		}
	}
	return out
}

// TestDeltaOrder: the order in which events were logged does not matter to any
// field.
func TestDeltaOrder(t *testing.T) {
	schema := deltaSchema(t)
	rapid.Check(t, func(t *rapid.T) {
		events := drawEvents(t)
		slices.SortFunc(events, func(a, b logged) int { return int(a.seq) - int(b.seq) })
		events = slices.CompactFunc(events, func(a, b logged) bool { return a.event.ID == b.event.ID })
		first := make(map[string]bool)
		events = slices.DeleteFunc(events, func(x logged) bool {
			gone := first[x.event.ID]
			first[x.event.ID] = true
			return gone
		})
		fold := func(order []logged) []Value {
			var d *delta
			for i, x := range order {
				d, _ = d.apply(uint64(i+1), x.event, x.changes, schema)
			}
			v := viewOf(schema, d)
			out := make([]Value, len(schema.Fields()))
			for slot := range out {
				out[slot] = v.At(0).Get(slot)
			}
			return out
		}
		want := fold(events)
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "shuffle"), 1))
		r.Shuffle(len(events), func(i, j int) { events[i], events[j] = events[j], events[i] })
		if got := fold(events); !reflect.DeepEqual(got, want) {
			t.Fatalf("another order gives another profile:\n%v\n%v", got, want)
		}
	})
}

// TestDeltaForgetsOldIDs: ids are kept for the horizon; then the event counts
// again, and where there are many, old ones go.
func TestDeltaForgetsOldIDs(t *testing.T) {
	schema := deltaSchema(t)
	hour := int64(3600 * 1e6)
	edit := (*delta)(nil).edit()
	seq := uint64(0)
	apply := func(id string, logged int64) applied {
		seq++
		return edit.apply(seq, &Event{ID: id, Logged: logged}, nil, schema)
	}
	for _, c := range []struct {
		logged int64
		want   applied
	}{{0, appliedNew}, {1, appliedSeen}, {48 * hour, appliedSeen}, {48*hour + 1, appliedNew}, {48*hour + 2, appliedSeen}} {
		if got := apply("a", c.logged); got != c.want {
			t.Errorf("logged at %d: %v, want %v", c.logged, got, c.want)
		}
	}
	for i := range 5000 {
		apply(fmt.Sprint(i), 100*hour+int64(i)*hour/10)
	}
	if n := len(edit.seen); n > 1100 || n < 480 {
		t.Errorf("%d ids are kept after 5,000 events, ten an hour", n)
	}
}

// TestDeltaClockAhead: a clock that was ahead for a moment does not make events
// count twice.
func TestDeltaClockAhead(t *testing.T) {
	schema := deltaSchema(t)
	edit := (*delta)(nil).edit()
	day := int64(24 * 3600 * 1e6)
	for i, c := range []struct {
		id     string
		logged int64
		want   applied
	}{{"x", 10 * day, appliedNew}, {"a", 1, appliedNew}, {"b", 2, appliedNew}, {"a", 3, appliedSeen}, {"x", 4, appliedSeen}} {
		if got := edit.apply(uint64(i+1), &Event{ID: c.id, Logged: c.logged}, nil, schema); got != c.want {
			t.Errorf("event %d, %s: %v, want %v", i, c.id, got, c.want)
		}
	}
}

// TestDeltaFull: a record has a limit, under what engines take; beyond it events
// are refused, and a replay comes to the same end.
func TestDeltaFull(t *testing.T) {
	schema := deltaSchema(t)
	flood := func() (*delta, int) {
		edit := (*delta)(nil).edit()
		full := 0
		for i := range 60_000 {
			e := &Event{ID: fmt.Sprint(i), Time: int64(i) * cellMicros, Logged: int64(i)}
			if edit.apply(uint64(i+1), e, []Change{{Slot: 4, Value: Number(1)}}, schema) == appliedFull {
				full++
			}
		}
		return edit.delta, full
	}
	d, full := flood()
	if n := len(d.encode()); full == 0 || n > maxWeight || n > d.weight() {
		t.Errorf("%d refused, %d bytes of at most %d, weight %d", full, n, maxWeight, d.weight())
	}
	again, _ := flood()
	if !bytes.Equal(again.encode(), d.encode()) {
		t.Error("the same events gave another record")
	}
}

func TestSaturation(t *testing.T) {
	for _, c := range []struct{ a, b, want int64 }{
		{math.MaxInt64, 1, math.MaxInt64},
		{math.MinInt64, -1, math.MinInt64},
		{math.MinInt64, math.MinInt64, math.MinInt64},
		{math.MaxInt64, math.MinInt64, -1},
		{5, -7, -2},
	} {
		if got := addSaturating(c.a, c.b); got != c.want {
			t.Errorf("%d + %d = %d, want %d", c.a, c.b, got, c.want)
		}
	}
}

// mergeView returns a view of a record with 96 cells in two counters each, 96 moves,
// an element of a set, and the rest of the fields; and the time after it all.
func mergeView(tb testing.TB) (v *View, now int64) {
	tb.Helper()
	schema := deltaSchema(tb)
	edit := (*delta)(nil).edit()
	for i := range 96 {
		now = int64(i) * cellMicros
		e := &Event{ID: fmt.Sprint(i), Time: now, Logged: now}
		changes := []Change{
			{Slot: 0, Value: Number(1.25)},
			{Slot: 4, Value: Number(1.5)},
			{Slot: 5, Value: Number(1)},
			{Slot: 6, Value: Number(float64(i))},
			{Slot: 8, Op: Remove, Value: Text("a")},
			{Slot: 9, Value: Number(1)},
			{Slot: 10, Value: Flag(i%2 == 0)},
			{Slot: 11, Value: Number(1)},
		}
		edit.apply(uint64(i+1), e, changes, schema)
	}
	return viewOf(schema, edit.delta), now
}

// TestMergeBudget: reading a field allocates nothing.
func TestMergeBudget(t *testing.T) {
	v, now := mergeView(t)
	r := v.At(now)
	for slot, want := range map[int]string{5: "96", 6: "95", 9: "96", 10: "0", 11: "96"} {
		if got := r.Get(slot).String(); got != want {
			t.Fatalf("%s is %s, want %s", v.schema.fields[slot].Name, got, want)
		}
	}
	for slot, f := range v.schema.fields {
		most := 0.0
		if f.Type == TypeSet {
			most = 1 // that events have changed: its text
		}
		if n := testing.AllocsPerRun(100, func() { r.Get(slot) }); n > most {
			t.Errorf("reading %s allocates %v times", f.Name, n)
		}
	}
	if n := testing.AllocsPerRun(100, func() { mergeSet("a;b", v.members[0].delta.sets, now+1) }); n != 0 {
		t.Errorf("reading a set that events have not changed allocates %v times", n)
	}
	if n := testing.AllocsPerRun(100, func() { sumHops("1;20;300;4000;0;6", 7*cellMicros, cellMicros, 0, now) }); n != 0 {
		t.Errorf("adding up hops allocates %v times", n)
	}
}

// BenchmarkMerge is the cost of one field: a counter of 96 cells, of which the batch
// covers none (a row costs what BenchmarkRowValue says), and each type that takes
// more than a comparison.
func BenchmarkMerge(b *testing.B) {
	v, now := mergeView(b)
	r := v.At(now)
	snap := &Snapshot{asOf: now / 2, ingestCut: now / 2}
	b.Run("batch counter, 96 cells", func(b *testing.B) {
		x := &v.schema.slots[4]
		b.ReportAllocs()
		for b.Loop() {
			r.counter(x, 4, batchPart{snap: snap, covered: true})
		}
	})
	for _, slot := range []int{6, 8, 9, 10, 11} {
		b.Run(v.schema.fields[slot].Name+", "+string(v.schema.fields[slot].Type), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r.Get(slot)
			}
		})
	}
}

func FuzzDelta(f *testing.F) {
	schema := deltaSchema(f)
	var d *delta
	for i := range 5 {
		d, _ = d.apply(uint64(i+1), &Event{ID: fmt.Sprint(i), Time: int64(i) * cellMicros}, []Change{
			{Slot: 0, Value: Number(1)},
			{Slot: 1, Value: Text("x")},
			{Slot: 5, Value: Number(1)},
			{Slot: 8, Value: Text("e")},
			{Slot: 8, Op: Remove, Value: Text("f")},
			{Slot: 9, Op: Reset},
			{Slot: 10, Value: Flag(i%2 == 0)},
		}, schema)
		f.Add(d.encode())
	}
	for _, most := range []limits{{raw: 4, cells: 100, totals: 100}, {raw: 2, cells: 6, totals: 10}, {raw: 1, cells: 9, totals: 1}} {
		d := &delta{version: 1, history: (*history)(nil).clone()}
		r := rand.New(rand.NewPCG(1, 5))
		for i := range 20 {
			x := randomInteraction(r, int64(i)*dayMicros/2)
			d.history.add(&x, most)
			f.Add(d.encode())
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := decodeDelta(b)
		if err != nil {
			return
		}
		again, err := decodeDelta(d.encode())
		if err != nil || !reflect.DeepEqual(d, again) {
			t.Fatalf("a record that reads does not read back: %v", err)
		}
		// Whatever a history holds, reading it and adding to it ends well.
		h := History{now: 1e15}
		h.members[0] = d.history
		h.Count(InteractionFilter{Channel: "sms"}, time.Hour)
		h.Summary(InteractionFilter{}, time.Hour, 0)
		h.Last(InteractionFilter{})
		for x := range h.Recent(InteractionFilter{Offer: "mail"}) {
			c := d.history.clone()
			c.add(&x, limits{raw: 2, cells: 8, totals: 8})
			c.append(nil)
			break
		}
		h.TimesOfAny([]InteractionFilter{{Offer: "mail"}, {Outcome: "clicked"}}, time.Hour, nil)
	})
}

func FuzzJournaledEvent(f *testing.F) {
	b, err := encodeEvent(nil, &Event{ID: "e", Type: "balance", Identity: "customer:1", Time: 1, Logged: 2, Attributes: map[string]any{"amount": 1.5}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := decodeEvent(b)
		if err != nil {
			return
		}
		back, err := encodeEvent(nil, e)
		if err != nil {
			t.Fatal(err)
		}
		again, err := decodeEvent(back)
		if err != nil || again.ID != e.ID || again.Time != e.Time || again.Identity != e.Identity {
			t.Fatalf("an event that reads does not read back: %v", err)
		}
	})
}
