package profilestore

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

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

func drawEvents(t *rapid.T) []logged {
	const day = int64(24 * 3600 * 1e6)
	n := rapid.IntRange(0, 40).Draw(t, "events")
	events := make([]logged, n)
	for i := range events {
		e := &Event{
			ID:     fmt.Sprintf("e%d", rapid.IntRange(0, 25).Draw(t, "id")),
			Time:   rapid.Int64Range(-day, 3*day).Draw(t, "time"),
			Logged: int64(i) * day / 40, // within the horizon of ids
		}
		var changes []Change
		switch rapid.IntRange(0, 4).Draw(t, "kind") {
		case 0:
			changes = append(changes, Change{Slot: 0, Value: Number(float64(rapid.IntRange(-500, 500).Draw(t, "cents")) / 100)})
		case 1:
			changes = append(changes, Change{Slot: 1, Value: Text(rapid.String().Draw(t, "city"))})
		case 2:
			changes = append(changes, Change{Slot: 2, Value: Flag(rapid.Bool().Draw(t, "vip"))}, Change{Slot: 3, Value: Time(e.Time)})
		case 3:
			changes = append(changes, Change{Slot: 4, Value: Number(float64(rapid.IntRange(-5000, 5000).Draw(t, "kb")) / 1000)}, Change{Slot: 5, Value: Number(1)})
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
		v := EmptyView(schema)
		v.delta = d
		want := naiveFold(schema, distinct)
		for slot, f := range schema.Fields() {
			if f.Batch != "" && f.Type == TypeCounter {
				continue // unknown without a row: compared in the test of the store
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
		for _, e := range events {
			for _, c := range e.changes {
				if c.Slot != slot {
					continue
				}
				if x.form == formCounter {
					sum += int64(math.Round(c.Value.Number() * pow10[x.decimals]))
					continue
				}
				if last == nil || e.event.Time > last.Time || e.event.Time == last.Time && eventHash(e.event.ID) > eventHash(last.ID) {
					last, out[slot] = e.event, c.Value
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
			v := EmptyView(schema)
			v.delta = d
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

// TestMergeBudget: reading a field allocates nothing.
func TestMergeBudget(t *testing.T) {
	schema := deltaSchema(t)
	var d *delta
	for i := range 96 {
		e := &Event{ID: fmt.Sprint(i), Time: int64(i) * cellMicros, Logged: int64(i) * cellMicros}
		d, _ = d.apply(uint64(i+1), e, []Change{{Slot: 0, Value: Number(1.25)}, {Slot: 5, Value: Number(1)}}, schema)
	}
	v := EmptyView(schema)
	v.delta = d
	if got := v.At(0).Get(5).Number(); got != 96 {
		t.Fatalf("96 events count %v", got)
	}
	if n := testing.AllocsPerRun(100, func() { v.At(0).Get(0); v.At(0).Get(5) }); n != 0 {
		t.Errorf("reading two fields allocates %v times", n)
	}
}

func FuzzDelta(f *testing.F) {
	schema := deltaSchema(f)
	var d *delta
	for i := range 5 {
		d, _ = d.apply(uint64(i+1), &Event{ID: fmt.Sprint(i), Time: int64(i) * cellMicros}, []Change{{Slot: 0, Value: Number(1)}, {Slot: 1, Value: Text("x")}, {Slot: 5, Value: Number(1)}}, schema)
		f.Add(d.encode())
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
