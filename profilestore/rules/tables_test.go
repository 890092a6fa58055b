package rules_test

import (
	"slices"
	"strings"
	"testing"

	"rapport/profilestore"
	"rapport/profilestore/rules"
)

// twoSets is a table area in two sets of versions, and an empty one.
type twoSets struct{}

func (twoSets) Lookup(set uint64, table int, key string) string {
	if table != 0 || key != "c1" {
		return ""
	}
	return map[uint64]string{1: "broker", 2: "station"}[set]
}

func tableSchema(t *testing.T, fields ...profilestore.Field) *profilestore.Schema {
	t.Helper()
	s, err := schemaOf(t, fields...).WithTables([]profilestore.ReferenceTable{{ID: "area"}, {ID: "kind"}})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestTables(t *testing.T) {
	m, err := rules.NewEventMapper(tableSchema(t,
		onEvent("location.area", "text", `event.type == "location"`, `area(event.cell)`),
		onEvent("tag.at_broker", "flag", `area(event.cell) == "broker"`, `true`),
		onEvent("tag.known", "flag", `event.type == "location"`, `area(event.prefix + "1") != "" && kind("x") == ""`),
		onEvent("usage.places", "counter", `event.cells.exists(c, area(c) == "station")`, `1`),
	), rules.WithTables(twoSets{}))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		set        uint64
		attributes map[string]any
		want       []string // the changes, then what is refused
	}{
		{1, map[string]any{"cell": "c1", "prefix": "c"}, []string{"broker", "true", "true"}},
		{2, map[string]any{"cell": "c1", "prefix": "c"}, []string{"station", "true"}},
		{3, map[string]any{"cell": "c1", "prefix": "c"}, []string{"", "false"}},
		{1, map[string]any{"cell": "c9", "prefix": "d"}, []string{"", "false"}},
		{2, map[string]any{"cell": "c9", "prefix": "d", "cells": []any{"c7", "c1"}}, []string{"", "false", "1"}},
		{1, map[string]any{"cell": "c9", "prefix": "d", "cells": []any{"c7", "c1"}}, []string{"", "false"}},
		{1, map[string]any{"prefix": "c"}, []string{"true", `location.area needs a text from area(event.cell), but the event has no cell`}},
		{1, map[string]any{"cell": nil, "prefix": "c"}, []string{"true", `location.area needs a text from area(event.cell), but the event has no cell`}},
		{1, map[string]any{"cell": 7.0, "prefix": "c"}, []string{"true", `location.area needs a text from area(event.cell); event.cell is number 7`}},
		{1, map[string]any{"cell": "c1"}, []string{"broker", "true", "tag.known needs a flag from"}},
	} {
		changes, err := m.Map(&profilestore.Event{ID: "e", Type: "location", Tables: c.set, Attributes: c.attributes}, nil)
		var got []string
		for _, x := range changes {
			got = append(got, x.Value.String())
		}
		n := len(got)
		if err != nil {
			got = append(got, err.Error())
		}
		if len(got) != len(c.want) || !slices.Equal(got[:n], c.want[:n]) || n < len(got) && !strings.Contains(got[n], c.want[n]) {
			t.Errorf("set %d, %v: got %q, want %q", c.set, c.attributes, got, c.want)
		}
	}
}

// oneSet is a version of table area.
type oneSet struct{}

func (oneSet) Find(table int, key string) (string, bool) {
	v, ok := map[string]string{"c1": "broker", "c2": "station"}[key]
	return v, ok && table == 0
}

// TestTablesInConditions: in the conditions and texts of a catalogue, what a table has no
// row for is unknown, unless the call says what it is otherwise.
func TestTablesInConditions(t *testing.T) {
	schema := tableSchema(t,
		profilestore.Field{Name: "location.cell", Type: profilestore.TypeText, Batch: "bi", Decimals: profilestore.NoDecimals},
		profilestore.Field{Name: "marketing.cells", Type: profilestore.TypeSet, Batch: "bi", Decimals: profilestore.NoDecimals},
	)
	env, err := rules.NewEnv(schema, []rules.Input{{Name: "cell", Kind: profilestore.KindText}})
	if err != nil {
		t.Fatal(err)
	}
	env, mistakes := env.WithVocabulary(rules.Vocabulary{Segments: []rules.Segment{{ID: "at_broker", When: `area(profile.location.cell) == "broker"`}}})
	if len(mistakes) > 0 {
		t.Fatal(mistakes)
	}
	none, cell := profilestore.Unknown(), profilestore.Text
	for _, c := range []struct {
		expr string
		cell profilestore.Value
		set  rules.TableSet
		want rules.Truth
	}{
		{`area(profile.location.cell) == "broker"`, cell("c1"), oneSet{}, rules.True},
		{`area(profile.location.cell) == "broker"`, cell("c2"), oneSet{}, rules.False},
		{`area(profile.location.cell) == "broker"`, cell("c9"), oneSet{}, rules.Unknown},
		{`area(profile.location.cell) != "broker"`, cell("c9"), oneSet{}, rules.Unknown},
		{`area(profile.location.cell) == "broker"`, none, oneSet{}, rules.Unknown},
		{`area(profile.location.cell) == "broker"`, cell("c1"), nil, rules.Unknown},
		{`area(profile.location.cell, "") == ""`, cell("c9"), oneSet{}, rules.True},
		{`area(profile.location.cell, "") == ""`, cell("c9"), nil, rules.True},
		{`area(profile.location.cell, "") == ""`, none, oneSet{}, rules.Unknown},
		{`area(profile.location.cell, profile.location.cell) == "c9"`, cell("c9"), oneSet{}, rules.True},
		{`area(context.cell) == "broker"`, none, oneSet{}, rules.True},
		{`kind(context.cell) == "broker"`, none, oneSet{}, rules.Unknown},
		{`segment.at_broker`, cell("c1"), oneSet{}, rules.True},
		{`!segment.at_broker`, cell("c2"), oneSet{}, rules.True},
		{`segment.at_broker || kind(context.cell, "none") == "none"`, cell("c9"), oneSet{}, rules.True},
		{`profile.marketing.cells.exists(event, area(event) == "station")`, none, oneSet{}, rules.True}, // event is no name here
		{`profile.marketing.cells.all(c, area(c) == "station")`, none, oneSet{}, rules.Unknown},
		{`["c1", "c2"].map(c, area(c)) == ["broker", "station"]`, none, oneSet{}, rules.True},
		{`"x" in [area("c1"), area("c2")]`, none, oneSet{}, rules.False},
	} {
		b := env.NewTable()
		rule, err := b.Add(c.expr)
		if err != nil {
			t.Fatal(err)
		}
		for _, table := range []*rules.Table{b.Build(), b.Build().Interpreted()} {
			e := table.NewEvaluation()
			e.Reset(rules.Inputs{Profile: profile{c.cell, profilestore.Set("c2", "c9")}, Context: []profilestore.Value{profilestore.Text("c1")}, Tables: c.set})
			if got := e.Evaluate(rule); got != c.want {
				t.Errorf("%s for %v with %v is %s, want %s", c.expr, c.cell, c.set, got, c.want)
			}
		}
	}
	text, err := env.Text(`"to " + area(profile.location.cell, "us")`)
	if err != nil {
		t.Fatal(err)
	}
	e := env.NewTable().Build().NewEvaluation()
	for _, c := range [][2]string{{"c1", "to broker"}, {"c9", "to us"}} {
		e.Reset(rules.Inputs{Profile: profile{profilestore.Text(c[0]), none}, Tables: oneSet{}})
		if got, truth := e.AppendText(nil, text); string(got) != c[1] || truth != rules.True {
			t.Errorf("%s: %q, %s", c[0], got, truth)
		}
	}
}

func TestTableMistakes(t *testing.T) {
	fields := func(on, set string) []profilestore.Field {
		return []profilestore.Field{onEvent("location.area", "text", on, set)}
	}
	for _, c := range []struct{ on, set, want string }{
		{`true`, `arae(event.cell)`, "column 1: there is no function arae: did you mean area?"},
		{`event.type == "x" && venue(event.cell) == "y"`, `"z"`, "column 22: there is no function venue: a reference table is called by its name, and declared under tables"},
		{`area(event.cell)`, `"z"`, "column 1: a condition must be true or false: this is a text"},
		{`area(5) == "x"`, `"z"`, "column 5: area does not work with a whole number"},
		{`area() == "x"`, `"z"`, "column 5: area() needs a value"},
		{`area("a", "b") == "x"`, `"z"`, "column 5: area does not work with a text and a text"},
		{`event.cell.area() == "x"`, `"z"`, "column 16: area does not work with a value of any type"},
		{`area(event.cell) == 5`, `"z"`, "column 18: == does not work with a text and a whole number"},
		{`area == "x"`, `"z"`, `column 1: there is no "area": an event's attributes are event.NAME; a text stands in quotes`},
	} {
		errs := rules.CheckEvents(fields(c.on, c.set), profilestore.ReferenceTable{ID: "area"})
		if len(errs) != 1 || errs[0].Errors.Error() != c.want {
			t.Errorf("%s: got %v, want %s", c.on, errs, c.want)
		}
	}
	for _, name := range []string{"size", "has", "in", "days", "event", "profile", "now", "all", "string", "true", "for", "bytes", "dyn", "matches", "replace", "type"} {
		errs := rules.CheckTables([]profilestore.ReferenceTable{{ID: "area"}, {ID: name}})
		if len(errs) != 1 || errs[0].Error() != "tables[1].id: "+name+" means something in rules already: choose another name" {
			t.Errorf("%s: %v", name, errs)
		}
	}
	if _, err := schemaOf(t, fields("true", `"x"`)...).WithTables([]profilestore.ReferenceTable{{ID: "area"}, {ID: "area"}, {ID: "Area"}}); err == nil ||
		err.Error() != "tables[1].id: table \"area\" is declared twice\ntables[2].id: \"Area\" is not a table name: use a-z, 0-9 and _, beginning with a letter, at most 32" {
		t.Errorf("names: %v", err)
	}
	env, err := rules.NewEnv(tableSchema(t, fields("true", `"x"`)...), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range [][2]string{
		{`arae(profile.location.area) == "broker"`, "column 1: there is no function arae: did you mean area?"},
		{`venue(profile.location.area) == "broker"`, "column 1: there is no function venue, and no reference table: the schema declares area, kind"},
		{`area(5) == "broker"`, "column 5: area does not work with a whole number"},
		{`area(profile.location.area, "x", "y") == "broker"`, "column 5: area does not work with a text and a text and a text"},
		{`area(profile.location.area)`, "column 1: a condition must be true or false: this is a text"},
	} {
		if _, err := env.NewTable().Add(c[0]); err == nil || err.Error() != c[1] {
			t.Errorf("%s: %v, want %s", c[0], err, c[1])
		}
	}
}

// A schema without tables is the one that it was, and one with them is another.
func TestSchemaIdWithTables(t *testing.T) {
	plain := schemaOf(t, onEvent("location.area", "text", "true", `"x"`))
	same, err := plain.WithTables(nil)
	if err != nil || same.ID() != plain.ID() {
		t.Errorf("no tables: %v, id %s and %s", err, plain.ID(), same.ID())
	}
	with, err := plain.WithTables([]profilestore.ReferenceTable{{ID: "area", Description: "of cells"}})
	if err != nil || with.ID() == plain.ID() {
		t.Fatalf("with a table: %v, the same id %s", err, with.ID())
	}
	b, err := with.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	again, err := profilestore.ParseSchema(b)
	if err != nil || again.ID() != with.ID() || !slices.Equal(again.Tables(), with.Tables()) {
		t.Errorf("read again: %v", err)
	}
}
