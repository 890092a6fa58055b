package profilestore_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rapport/profilestore"
	"rapport/profilestore/memory"
)

// newModelHouse returns a store with a field of each type, on an engine in memory.
func newModelHouse(t *testing.T) *house {
	t.Helper()
	h := &house{dir: t.TempDir(), schema: modelSchema(t), mapper: modelMapper{}, now: 20_000 * day, cache: 10, memory: new(memory.Memory)}
	if err := h.open(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.store.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

// happened takes events of one customer that happened so long before now.
func (h *house) happened(t *testing.T, ago time.Duration, kind, product string, amount float64) {
	t.Helper()
	e := event(fmt.Sprintf("%s%s%v%v", kind, product, ago, h.now), kind, "1", h.now-ago.Microseconds(), amount)
	e.Attributes["product"] = product
	r, err := h.store.Ingest(context.Background(), []*profilestore.Event{e})
	if err != nil || r[0].Outcome != profilestore.Accepted {
		t.Fatalf("%s: %v, %v", e.ID, r, err)
	}
}

// want checks a field of customer 1, read so long after now.
func (h *house) want(t *testing.T, after time.Duration, field, want string) {
	t.Helper()
	v, err := h.store.View(context.Background(), "customer:1")
	if err != nil {
		t.Fatal(err)
	}
	slot, ok := h.schema.Lookup(field)
	if !ok {
		t.Fatalf("no field %s", field)
	}
	if got := v.At(h.now + after.Microseconds()).Get(slot).String(); got != want {
		t.Errorf("%s read %v after now is %s, want %s", field, after, got, want)
	}
}

// TestDwell: a stay is as long as it has lasted, and only while it lasts. It may take
// long until an event confirms it, and events may come in any order.
func TestDwell(t *testing.T) {
	h := newModelHouse(t)
	const stay, all = "location.stay", "location.day"
	h.want(t, 0, stay, "0")
	h.happened(t, 0, "in", "", 0)
	h.want(t, 0, stay, "0")
	h.want(t, 59*time.Minute, stay, "59")
	h.want(t, 60*time.Minute, stay, "60")
	h.happened(t, 59*time.Minute, "in", "", 0) // it was longer
	h.want(t, 0, stay, "59")
	h.happened(t, 30*time.Minute, "out", "", 0) // but had ended in between
	h.want(t, 0, stay, "0")
	h.want(t, 10*time.Minute, stay, "10")
	h.want(t, 10*time.Minute, all, "39")
	h.now += 30 * minute
	h.happened(t, 0, "out", "", 0)
	h.want(t, 0, stay, "0")
	h.want(t, time.Hour, all, "59")
	h.want(t, 24*time.Hour-30*time.Minute, all, "30") // the first stay has left the window
	h.want(t, 24*time.Hour-20*time.Minute, all, "20") // and some of the second
	// Two stays of half an hour on two days are not one of an hour.
	h.now += day
	h.happened(t, 30*time.Minute, "in", "", 0)
	h.want(t, 0, stay, "30")
}

// TestCountSinceReset: the count begins again with a reset, whichever event comes in
// first, and an event that does both is counted after its own reset.
func TestCountSinceReset(t *testing.T) {
	h := newModelHouse(t)
	const missed = "usage.missed"
	h.want(t, 0, missed, "0")
	for i := range 3 {
		h.happened(t, time.Duration(10+i)*time.Second, "use", "", 1)
	}
	h.want(t, 0, missed, "3")
	h.happened(t, 11*time.Second, "reset", "", 0) // between them, in the same quarter of an hour
	h.want(t, 0, missed, "2")
	h.happened(t, time.Minute, "use", "", 1) // before it
	h.want(t, 0, missed, "2")
	h.happened(t, time.Second, "reset", "", 0)
	h.want(t, 0, missed, "0")
	h.now += 72 * hour
	h.happened(t, 0, "balance", "", 1)
	h.happened(t, 49*time.Hour, "use", "", 1)
	h.happened(t, 48*time.Hour+time.Second, "reset", "", 0) // too late
	h.want(t, 0, missed, "1")
	h.happened(t, 48*time.Hour, "reset", "", 0)
	h.want(t, 0, missed, "0")
	if s := h.store.Stats(); s.TooLate != 1 || s.Superseded != 1 {
		t.Errorf("%d changes were too late and %d superseded, want 1 and 1", s.TooLate, s.Superseded)
	}
}

// TestWindowEdges: an event counts while all of its bucket is younger than the
// window, and from when its bucket begins.
func TestWindowEdges(t *testing.T) {
	h := newModelHouse(t)
	const recent, daily = "usage.recent", "usage.day_mb"
	h.happened(t, -time.Minute, "use", "", 8) // at 0:01, read at 0:00
	h.want(t, 0, recent, "1")
	h.want(t, -time.Second, recent, "0")
	h.want(t, 12*time.Hour, recent, "1")
	h.want(t, 12*time.Hour+time.Microsecond, recent, "0")
	h.want(t, 0, daily, "unknown")
	// The batch has hops of six hours before midnight; the event is after it.
	if err := h.loadBI(h.now, h.now, "customer,usage.day_mb,value.balance,usage.data_mb,value.peak,marketing.owned\n1,1; 2;0;4,,,,\n"); err != nil {
		t.Fatal(err)
	}
	h.want(t, 0, daily, "15")
	h.want(t, time.Microsecond, daily, "11")             // the last hop begins before the window
	h.want(t, 6*time.Hour+time.Microsecond, daily, "11") // the third is empty
	h.want(t, 12*time.Hour+time.Microsecond, daily, "9") //
	h.want(t, 18*time.Hour+time.Microsecond, daily, "8") //
	h.want(t, 24*time.Hour, daily, "8")                  // the cell of the event begins at midnight
	h.want(t, 24*time.Hour+time.Microsecond, daily, "0") //
	h.want(t, -time.Minute, daily, "7")                  // what is to come does not count
	h.want(t, 18*time.Hour, "usage.data_mb", "8")        // its batch value is blank
	h.want(t, 0, "value.peak", "unknown")                // a blank extreme is unknown
	h.want(t, 0, "marketing.owned", "{}")                // a blank set is empty
	h.want(t, 0, "service.calls", "unknown")             // its source has no row
	h.want(t, 48*time.Hour, "preference.liked", "{}")    // events alone feed it
	h.want(t, 48*time.Hour, "value.least", "unknown")    // likewise
	if s := h.store.Stats(); s.Future != 1 || s.Late != 0 {
		t.Errorf("future %d, late %d, want 1 and 0", s.Future, s.Late)
	}
}

// TestSetAgainstBatch: what was ordered at the batch's as-of time or after stands,
// what was before is the batch's business, also after a rollback.
func TestSetAgainstBatch(t *testing.T) {
	h := newModelHouse(t)
	const owned = "marketing.owned"
	header := "customer,marketing.owned,value.balance,usage.data_mb,usage.day_mb,value.peak\n"
	h.now += 10 * hour
	h.happened(t, 2*time.Hour, "buy", "mail", 0)
	h.want(t, 0, owned, "unknown")
	h.want(t, 0, "preference.liked", "{mail}")
	if err := h.loadBI(h.now-3*hour, h.now-3*hour, header+"1,news; book;news,,,,\n"); err != nil {
		t.Fatal(err)
	}
	h.want(t, 0, owned, "{book, mail, news}")
	h.happened(t, time.Hour, "drop", "book", 0)
	h.want(t, 0, owned, "{mail, news}")
	if err := h.loadBI(h.now-2*hour, h.now-2*hour, header+"1,news;book,,,,\n"); err != nil {
		t.Fatal(err)
	}
	h.want(t, 0, owned, "{mail, news}") // ordered at its as-of time
	if err := h.loadBI(h.now, h.now, header+"1,news;book,,,,\n"); err != nil {
		t.Fatal(err)
	}
	h.want(t, 0, owned, "{book, news}") // it knows better
	if _, _, err := h.store.Snapshots().Rollback(context.Background(), "bi"); err != nil {
		t.Fatal(err)
	}
	h.want(t, 0, owned, "{mail, news}")
	h.happened(t, 150*time.Minute, "buy", "book", 0) // before it was dropped
	h.want(t, 0, owned, "{mail, news}")
}

// TestPruneNeedsEveryRetained: a record loses what all retained snapshots cover and
// nothing more; an older snapshot is refused from then on, also after a restart, and
// possible again when snapshots and records have been removed.
func TestPruneNeedsEveryRetained(t *testing.T) {
	h := newModelHouse(t)
	header := "customer,usage.data_mb,value.balance,usage.day_mb,value.peak,marketing.owned\n"
	file := filepath.Join(h.dir, "input.csv")
	load := func(asOf int64) error {
		if err := os.WriteFile(file, []byte(header+fmt.Sprintf("1,%d,,,,\n", asOf/hour)), 0o600); err != nil {
			return err
		}
		_, err := h.loadFile("bi", asOf, asOf, file, 2)
		return err
	}
	begin := h.now
	h.happened(t, 0, "use", "", 1)
	h.now += 10 * hour
	touch := func(want uint64) {
		t.Helper()
		h.now += minute
		h.happened(t, 0, "balance", "", 1)
		if n := h.store.Stats().Pruned; n != want {
			t.Errorf("%d pruned, want %d", n, want)
		}
	}
	for i, want := range []uint64{0, 0, 0, 2} { // the first is removed by the fourth load; of two fields
		if i > 0 {
			touch(0)
		}
		if err := load(begin + int64(i)*hour); err != nil {
			t.Fatal(err)
		}
		touch(want)
	}
	if err := load(begin); !errors.Is(err, profilestore.ErrSnapshotPruned) || !strings.Contains(err.Error(), "load one that reaches there") {
		t.Errorf("a load from before the horizon: %v", err)
	}
	if err := h.store.Close(); err != nil {
		t.Fatal(err)
	}
	if err := h.open(); err != nil {
		t.Fatal(err)
	}
	if err := load(begin); !errors.Is(err, profilestore.ErrSnapshotPruned) {
		t.Errorf("after a restart: %v", err)
	}
	// One that was sealed while nobody knew of the horizon can't be activated either.
	horizon := filepath.Join(h.dir, "snapshots", "bi", "HORIZON.json")
	if err := os.Rename(horizon, horizon+".away"); err != nil {
		t.Fatal(err)
	}
	if err := load(begin); !errors.Is(err, profilestore.ErrSnapshotPruned) {
		t.Errorf("an activation from before the horizon: %v", err)
	}
	if err := h.store.Close(); err != nil {
		t.Fatal(err)
	}
	for _, folder := range []string{"deltas", "snapshots"} {
		if err := os.RemoveAll(filepath.Join(h.dir, folder)); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.open(); err != nil {
		t.Fatal(err)
	}
	if err := load(begin); err != nil {
		t.Errorf("with nothing left that was pruned: %v", err)
	}
	h.want(t, 0, "usage.data_mb", fmt.Sprint(begin/hour+1))
}

// TestSetAndHopFiles: mistakes in the lists of a file are named.
func TestSetAndHopFiles(t *testing.T) {
	h := newModelHouse(t)
	for _, c := range []struct{ column, value, want string }{
		{"marketing.owned", strings.Repeat("x", 257), "has 257 bytes"},
		{"marketing.owned", "a\tb", "not printable"},
		{"usage.day_mb", "1;2;3;4;5", "has 5 hops, the window has room for 4"},
		{"usage.day_mb", "1;x", `in hop 2, "x": is not a number`},
		{"usage.day_mb", "1.23456", "more decimals than the field's 3"},
	} {
		columns := []string{"value.balance", "usage.data_mb", "usage.day_mb", "value.peak", "marketing.owned"}
		header, row := "customer", "1"
		for _, column := range columns {
			header += "," + column
			row += ","
			if column == c.column {
				row += c.value
			}
		}
		if err := h.loadBI(h.now, h.now, header+"\n"+row+"\n"); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %q: %v, want %q", c.column, c.value, err, c.want)
		}
	}
}

// TestSetValue: sets are equal whatever order they were given in.
func TestSetValue(t *testing.T) {
	v := profilestore.Set("b", "a", "b")
	if v != profilestore.Set("a", "b") || v.Size() != 2 || !v.Has("a") || v.Has("") || v.Has("a;b") || v.String() != "{a, b}" || v.Text() != "" {
		t.Errorf("the set of b, a, b is %v", v)
	}
	if v := profilestore.Set(); v.Size() != 0 || !v.Known() || v.Has("") || v.String() != "{}" {
		t.Errorf("the empty set is %v, size %d", v, v.Size())
	}
	if n := testing.AllocsPerRun(100, func() { v.Has("b"); v.Size() }); n != 0 {
		t.Errorf("looking into a set allocates %v times", n)
	}
}

// TestSchemaOfTypes: what a type does not take is a mistake at its place.
func TestSchemaOfTypes(t *testing.T) {
	add, set, in := profilestore.EventRule{On: "true", Add: "x"}, profilestore.EventRule{On: "true", Set: "x"}, profilestore.EventRule{On: "true", In: "x"}
	reset := profilestore.EventRule{On: "true", Add: "x", Reset: "x"}
	remove := profilestore.EventRule{On: "true", Set: "x", RemoveOn: "x"}
	ranked := profilestore.EventRule{On: "true", Set: "x", Priority: "1"}
	const d = 24 * time.Hour
	for _, c := range []struct {
		field profilestore.Field
		want  string
	}{
		{profilestore.Field{Type: profilestore.TypeSet, Events: &set}, "events: a set takes add"},
		{profilestore.Field{Type: profilestore.TypeMax, Events: &add}, "events: a max takes set"},
		{profilestore.Field{Type: profilestore.TypeDwell, Events: &set}, "events: a dwell takes in"},
		{profilestore.Field{Type: profilestore.TypeDwell, Events: &in, Decimals: 2}, "decimals: only"},
		{profilestore.Field{Type: profilestore.TypeDwell, Batch: "bi", Events: &in}, "batch: a dwell is fed by events only"},
		{profilestore.Field{Type: profilestore.TypeDwell, Events: &in, Window: d, Bucket: time.Hour}, "bucket: a dwell is exact"},
		{profilestore.Field{Type: profilestore.TypeCounter, Batch: "bi", Events: &reset}, "events.reset: a counter that begins again is fed by events only"},
		{profilestore.Field{Type: profilestore.TypeCounter, Events: &reset, Window: d}, "events.reset: a counter has either"},
		{profilestore.Field{Type: profilestore.TypeMax, Events: &ranked}, "events.priority: only a number, flag, text or time has a priority, usage.x is a max"},
		{profilestore.Field{Type: profilestore.TypeNumber, Events: &remove}, "events.remove_on: elements are removed from a set"},
		{profilestore.Field{Type: profilestore.TypeNumber, Events: &set, Window: d}, "window: only a counter or dwell"},
		{profilestore.Field{Type: profilestore.TypeCounter, Events: &add, Bucket: time.Hour}, "bucket: a bucket without a window"},
		{profilestore.Field{Type: profilestore.TypeCounter, Events: &add, Window: d, Bucket: 20 * time.Minute}, "bucket: 20m is not a multiple"},
		{profilestore.Field{Type: profilestore.TypeCounter, Events: &add, Window: d, Bucket: 7 * time.Hour}, "window: 1d is not a multiple of the bucket"},
		{profilestore.Field{Type: profilestore.TypeCounter, Events: &add, Window: 400 * d}, "bucket: 38400 buckets in the window: at most 3000"},
		{profilestore.Field{Type: profilestore.TypeCounter, Batch: "bi", Events: &add, Window: 400 * d, Bucket: 6 * time.Hour}, "bucket: 1600 hops in the window: at most 400"},
		{profilestore.Field{Type: profilestore.TypeCounter, Events: &add, Window: 401 * d}, "window: 401d is out of range"},
	} {
		c.field.Name = "usage.x"
		if c.field.Decimals == 0 {
			c.field.Decimals = profilestore.NoDecimals
		}
		_, err := profilestore.NewSchema([]profilestore.Source{{ID: "bi"}}, []profilestore.Field{c.field})
		if err == nil || !strings.Contains(err.Error(), "fields[0]."+c.want) {
			t.Errorf("%+v: %v, want %q", c.field, err, c.want)
		}
	}
}
