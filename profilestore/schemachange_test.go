package profilestore_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"rapport/profilestore"
	"rapport/profilestore/memory"
)

// drawFields draws some of a few fields, with types, sources and the rest as it comes.
func drawFields(t *rapid.T) []profilestore.Field {
	var fields []profilestore.Field
	for _, name := range []string{"value.a", "value.b", "value.c"} {
		if rapid.IntRange(0, 4).Draw(t, "absent") == 0 {
			continue
		}
		f := profilestore.Field{
			Name: name, Batch: rapid.SampledFrom([]string{"bi", "bi", "bi", "sc"}).Draw(t, "source"), Decimals: profilestore.NoDecimals,
			Type: rapid.SampledFrom([]profilestore.Type{
				profilestore.TypeNumber, profilestore.TypeNumber, profilestore.TypeFlag, profilestore.TypeText, profilestore.TypeSet,
				profilestore.TypeCounter, profilestore.TypeCounter, profilestore.TypeMax, profilestore.TypeTime,
			}).Draw(t, "type"),
			Default: false,
		}
		if f.Type.Kind() == profilestore.KindNumber {
			f.Decimals = rapid.SampledFrom([]int{profilestore.NoDecimals, 0, 2}).Draw(t, "decimals")
		}
		if f.Type == profilestore.TypeFlag {
			f.Default = rapid.Bool().Draw(t, "default")
		}
		if f.Type == profilestore.TypeCounter && rapid.Bool().Draw(t, "windowed") {
			f.Window = rapid.SampledFrom([]time.Duration{24 * time.Hour, 48 * time.Hour}).Draw(t, "window")
			f.Bucket = rapid.SampledFrom([]time.Duration{6 * time.Hour, 12 * time.Hour}).Draw(t, "bucket")
		}
		fields = append(fields, f)
	}
	return append(fields, profilestore.Field{Name: "tag.rest", Type: profilestore.TypeFlag, Batch: "bi", Decimals: profilestore.NoDecimals})
}

// changeValue is what a file says of a field.
func changeValue(f *profilestore.Field) string {
	switch {
	case f.Bucket > 0:
		return "1;7"
	case f.Type == profilestore.TypeFlag:
		return "yes"
	case f.Type == profilestore.TypeTime:
		return "2026-01-01T00:00:00Z"
	case f.Type == profilestore.TypeText, f.Type == profilestore.TypeSet:
		return "one"
	}
	return "12"
}

// TestChangedSchema reads a snapshot of one schema under another: a value that comes out
// is the one that went in, of a field of the same type and source; else the snapshot is
// refused as a whole, or the field has no column in it. What can't be read any more is
// among the losses, and nothing else is.
func TestChangedSchema(t *testing.T) {
	sources := []profilestore.Source{{ID: "bi"}, {ID: "sc"}}
	had := make(map[string]int)
	dirs := t.TempDir()
	rapid.Check(t, func(rt *rapid.T) {
		before, err := profilestore.NewSchema(sources, drawFields(rt))
		if err != nil {
			rt.Fatal(err)
		}
		fields := drawFields(rt)
		if rapid.IntRange(0, 2).Draw(rt, "little") == 0 { // something small changes
			fields = slices.Clone(before.Fields())
			f := &fields[rapid.IntRange(0, len(fields)-1).Draw(rt, "which")]
			switch rapid.IntRange(0, 2).Draw(rt, "what") {
			case 0:
				f.Description = "what it means"
			case 1:
				f.Column = "renamed"
			default:
				f.Batch = "sc"
			}
		}
		after, err := profilestore.NewSchema(sources, fields)
		if err != nil {
			rt.Fatal(err)
		}
		dir, err := os.MkdirTemp(dirs, "snapshots") //nolint:usetesting // one for each case
		if err != nil {
			rt.Fatal(err)
		}
		header, row := "customer", "1"
		for i := range before.Fields() {
			if f := &before.Fields()[i]; f.Batch == "bi" {
				header, row = header+","+f.Column, row+","+changeValue(f)
			}
		}
		engine := new(memory.Memory)
		file := filepath.Join(dir, "bi.csv")
		if err := os.WriteFile(file, []byte(header+"\n"+row+"\n"), 0o600); err != nil {
			rt.Fatal(err)
		}
		if _, err := profilestore.Load(context.Background(), profilestore.LoadOptions{Dir: dir, Schema: before, Engine: engine, Source: "bi", Path: file, AsOf: asOf}); err != nil {
			rt.Fatal(err)
		}
		read := func(s *profilestore.Schema) (map[string]string, error) {
			snapshots, err := profilestore.OpenSnapshots(dir, s, engine, quiet())
			if err != nil {
				rt.Fatal(err)
			}
			defer func() {
				if err := snapshots.Close(); err != nil {
					rt.Error(err)
				}
			}()
			if _, _, err := snapshots.Activate(context.Background(), "bi", 1); err != nil {
				return nil, err
			}
			set := snapshots.Acquire()
			defer set.Release()
			bytes, _, err := set.Source(0).Row([]byte("customer:1"), nil)
			if err != nil {
				rt.Fatal(err)
			}
			values := make(map[string]string)
			for slot, f := range s.Fields() {
				if set.Source(0).Covers(slot) {
					values[f.Name] = set.Source(0).Value(bytes, slot).String()
				}
			}
			return values, nil
		}
		old, err := read(before)
		if err != nil {
			rt.Fatal(err)
		}
		losses, err := profilestore.SchemaLosses(dir, before, after)
		if err != nil {
			rt.Fatal(err)
		}
		now, err := read(after)
		if err != nil {
			had["refused"]++
			if !errors.Is(err, profilestore.ErrSnapshotUnfit) {
				rt.Fatal(err)
			}
			if len(losses) != 1 || !strings.Contains(losses[0], "with all its 1 customers") {
				rt.Fatalf("the snapshot is refused, %v, but what would be lost is %q", err, losses)
			}
			return
		}
		for name, value := range now {
			slot, _ := after.Lookup(name)
			oldSlot, ok := before.Lookup(name)
			if !ok || old[name] != value || before.Fields()[oldSlot].Type != after.Fields()[slot].Type {
				rt.Fatalf("%s is %q under the new schema and was %q, of %+v and %+v", name, value, old[name], after.Fields()[slot], before.Fields())
			}
			had["kept"]++
		}
		lost := 0
		for name := range old {
			if _, ok := now[name]; !ok {
				lost++
				if !strings.Contains(strings.Join(losses, "\n"), name+": the values of 1 customers") {
					rt.Fatalf("%s can't be read any more, but what would be lost is %q", name, losses)
				}
			}
		}
		if lost != len(losses) {
			rt.Fatalf("%d fields can't be read any more, but what would be lost is %q", lost, losses)
		}
		if lost > 0 {
			had["lost"]++
		}
		compareChanges(rt, before, after, had)
	})
	t.Log(had)
	for _, c := range []string{"refused", "kept", "lost", "added", "removed", "retyped", "re-sourced", "described"} {
		if had[c] == 0 {
			t.Errorf("%s never occurred", c)
		}
	}
}

// compareChanges checks that every field has one change if it differs, and none else.
func compareChanges(t *rapid.T, before, after *profilestore.Schema, had map[string]int) {
	changes := make(map[string]profilestore.SchemaChangeKind)
	for _, c := range profilestore.CompareSchemas(before, after) {
		if _, ok := changes[c.Name]; ok {
			t.Fatalf("%s has two changes", c.Name)
		}
		changes[c.Name] = c.Kind
		had[string(c.Kind)]++
	}
	fields := func(s *profilestore.Schema) map[string]string {
		out := make(map[string]string)
		for _, f := range s.Fields() {
			out[f.Name] = fmt.Sprint(f)
		}
		return out
	}
	a, b := fields(before), fields(after)
	for name := range a {
		if _, ok := changes[name]; ok != (a[name] != b[name]) {
			t.Fatalf("%s: %s, then %s: %v", name, a[name], b[name], changes)
		}
	}
	for name := range b {
		if a[name] == "" && changes[name] != profilestore.FieldAdded {
			t.Fatalf("%s is new: %v", name, changes)
		}
	}
}

// attributeMapper maps every event of type use to the named fields.
type attributeMapper []profilestore.Change

func (m attributeMapper) Map(e *profilestore.Event, dst []profilestore.Change) ([]profilestore.Change, error) {
	if e.Type == "use" {
		dst = append(dst, m...)
	}
	return dst, nil
}

// TestNewFieldIsBackfilled: a field that events feed has, from the start under its
// schema on, everything that events have said since the journal began, also of before
// what records had been pruned of; and the fields that were there are as they were, also
// after a rollback to a snapshot of the schema before.
func TestNewFieldIsBackfilled(t *testing.T) {
	if testing.Short() {
		t.Skip("runs a store on disk")
	}
	one := profilestore.Number(1)
	add := &profilestore.EventRule{On: "true", Add: "1"}
	old := []profilestore.Field{{Name: "usage.calls", Type: profilestore.TypeCounter, Batch: "bi", Decimals: 0, Events: add}}
	added := append([]profilestore.Field{}, old...)
	added = append(added,
		profilestore.Field{Name: "usage.all", Type: profilestore.TypeCounter, Decimals: 0, Events: add},
		profilestore.Field{Name: "value.new", Type: profilestore.TypeNumber, Batch: "bi", Decimals: 0},
	)
	schemaOf := func(fields []profilestore.Field) *profilestore.Schema {
		s, err := profilestore.NewSchema([]profilestore.Source{{ID: "bi"}}, fields)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	h := &house{dir: t.TempDir(), schema: schemaOf(old), now: 20_000 * day, mapper: attributeMapper{{Slot: 0, Value: one}}}
	if err := h.open(); err != nil {
		t.Fatal(err)
	}
	use := func(n int) {
		t.Helper()
		for i := range n {
			h.now += minute
			if r, err := h.store.Ingest(context.Background(), []*profilestore.Event{event(fmt.Sprintf("u%d-%d", h.now, i), "use", "1", h.now, 1)}); err != nil || r[0].Outcome != profilestore.Accepted {
				t.Fatal(r, err)
			}
		}
	}
	want := func(field, value string) {
		t.Helper()
		h.want(t, 0, field, value)
	}
	load := func(header, row string) {
		t.Helper()
		h.now = h.now/day*day + day
		if err := h.load("bi", h.now, header+"\n"+row+"\n"); err != nil {
			t.Fatal(err)
		}
	}
	use(3)
	load("customer,usage.calls", "1,3")
	use(4)
	load("customer,usage.calls", "1,7") // now both that are retained cover the first three
	use(5)
	want("usage.calls", "12")
	if n := h.store.Stats().Pruned; n == 0 {
		t.Fatal("nothing was pruned: the test shows nothing")
	}
	if err := h.store.Close(); err != nil {
		t.Fatal(err)
	}
	h.schema, h.mapper = schemaOf(added), attributeMapper{{Slot: 0, Value: one}, {Slot: 1, Value: one}}
	if dropped, err := profilestore.DropForeignDeltas(t.Context(), h.dir, h.schema); err != nil || !dropped {
		t.Fatal(dropped, err)
	}
	if err := h.open(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := h.store.Close(); err != nil {
			t.Error(err)
		}
	}()
	want("usage.calls", "12")
	want("usage.all", "12")
	want("value.new", "unknown")
	use(2)
	load("customer,usage.calls,value.new", "1,14,9")
	use(1)
	want("usage.calls", "15")
	want("usage.all", "15")
	want("value.new", "9")
	if _, _, err := h.store.Snapshots().Rollback(t.Context(), "bi"); err != nil {
		t.Fatal(err)
	}
	want("usage.calls", "15")
	want("usage.all", "15")
	want("value.new", "unknown") // the snapshot is of the schema before
}
