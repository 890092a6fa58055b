package rules

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"rapport/profilestore"
)

func eventField(name string, typ profilestore.Type, on, value string) profilestore.Field {
	f := profilestore.Field{Name: name, Type: typ, Decimals: profilestore.NoDecimals, Events: &profilestore.EventRule{On: on}}
	if typ == profilestore.TypeCounter {
		f.Decimals, f.Events.Add = profilestore.CounterDecimals, value
	} else {
		f.Events.Set = value
	}
	return f
}

func ranked(f profilestore.Field, priority string) profilestore.Field {
	f.Events.Priority = priority
	return f
}

func TestSchemaErrors(t *testing.T) {
	schema, err := profilestore.NewSchema(nil, []profilestore.Field{
		eventField("value.ok", "number", `event.type == "a"`, `event.amount * 2`),
		eventField("value.on", "number", `event.kind = "a"`, `event.amount`),
		eventField("value.both", "number", `event.type`, `profile.value.ok`),
		eventField("value.text", "number", `true`, `event.type`),
		eventField("tag.time", "flag", `true`, `event.time`),
		eventField("service.number", "time", `true`, `5`),
		eventField("usage.flag", "counter", `true`, `event.type == "a"`),
		eventField("general.t", "text", `event.type == 5`, `now`),
		ranked(eventField("general.ranked", "text", `true`, `event.x`), `event.type`),
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = NewEventMapper(schema)
	var all profilestore.SchemaErrors
	if !errors.As(err, &all) {
		t.Fatalf("%T: %v", err, err)
	}
	want := strings.TrimSpace(`
fields[1].events.on: column 12: write == to compare
fields[2].events.on: column 1: a condition must be true or false: this is a text
fields[2].events.set: column 1: there is no "profile" here: an event rule reads the event only
fields[3].events.set: column 1: value.text is a number, but set gives a text
fields[4].events.set: column 1: tag.time is a flag, but set gives a time
fields[5].events.set: column 1: service.number is a time, but set gives a whole number
fields[6].events.add: column 1: usage.flag is a counter, but add gives a flag
fields[7].events.on: column 12: == does not work with a text and a whole number
fields[7].events.set: column 1: there is no "now" here: an event rule reads the event only
fields[8].events.priority: column 1: a priority is a whole number from -100 to 100: this is a text`)
	if got := all.Error(); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

// TestIndex compares a mapper with its twin that looks at every rule and is not compiled,
// on random rules and events.
func TestIndex(t *testing.T) {
	taken, changed, refused, code, all := 0, 0, 0, 0, 0
	types := []profilestore.Type{profilestore.TypeNumber, profilestore.TypeText, profilestore.TypeFlag, profilestore.TypeTime}
	rapid.Check(t, func(t *rapid.T) {
		pick := func(of ...string) string { return rapid.SampledFrom(of).Draw(t, "pick") }
		number := func() string {
			return pick(`event.x`, `event.x + event.y`, `3`, `event.x * event.y / 100 - 1`, `(event.type == "a" ? event.x : 1.0)`, `size(event.name)`,
				`double(event.name)`, `-event.y`, `(event.flag ? event.x : event.y)`)
		}
		text := func() string {
			return pick(`event.name`, `event.name + "/" + event.type`, `event.id`, `string(event.x)`, `area(event.name)`, `area("t")`, `event.name + event.x`)
		}
		var condition func(depth int) string
		condition = func(depth int) string {
			if depth > 0 && rapid.IntRange(0, 2).Draw(t, "kind") > 0 {
				return "(" + condition(depth-1) + pick(" && ", " || ", " && ") + condition(depth-1) + ")"
			}
			return pick(`event.type == "a"`, `"b" == event.type`, `event.type in ["a", "b"]`, `event.type in []`, `event.x > 1`,
				`event.flag`, `!(event.type == "a")`, `event.type != "b"`, `has(event.y)`, `true`, `event.type in ["c"]`,
				number()+pick(" > ", " == ", " <= ", " != ")+number(), text()+pick(" == ", " < ", " != ")+`"t"`,
				`event.name in ["t", "a"]`, `event.x in [1, 2]`, `event.name.startsWith("t")`, `event.flag == true`, `!event.flag`, `event.x == event.name`,
				`event.time > timestamp("2020-01-01T00:00:00Z")`, `event.name.exists(c, c == "t")`, `event.flag ? event.flag : has(event.type)`)
		}
		var fields []profilestore.Field
		for i := range 3 {
			typ := rapid.SampledFrom(types).Draw(t, "type")
			value := map[profilestore.Type]func() string{
				profilestore.TypeNumber: number, profilestore.TypeText: text,
				profilestore.TypeFlag: func() string { return condition(1) },
				profilestore.TypeTime: func() string { return pick(`event.time`, `event.name`, `event.time + days(1)`, `area("now")`) },
			}[typ]()
			fields = append(fields, eventField(fmt.Sprintf("value.f%d", i), typ, condition(2), value))
		}
		area := profilestore.ReferenceTable{ID: "area"}
		fast, errs := newEventMapper(fields, true, area)
		slow, errs2 := newEventMapper(fields, false, area)
		if len(errs) != len(errs2) {
			t.Fatal(errs, errs2)
		}
		if len(errs) > 0 { // a text for a number: both say so
			refused++
			return
		}
		WithTables(eventTables{})(fast)
		WithTables(eventTables{})(slow)
		for i := range fast.rules {
			if r := &fast.rules[i]; r.attribute == "" {
				all++
				if r.code != nil {
					code++
				}
			}
		}
		for i := range fast.atoms {
			all++
			if fast.atoms[i].code != nil {
				code++
			}
		}
		for range 5 {
			e := &profilestore.Event{ID: "e", Type: pick("a", "b", "c", "d"), Time: 1e15, Attributes: map[string]any{}}
			for _, name := range []string{"x", "y", "flag", "name"} {
				usual := map[string][]any{"flag": {true, false}, "name": {"t", "a", "2026-01-01T00:00:00Z"}}[name]
				if usual == nil {
					usual = []any{1.0, 2.0, 2.5}
				}
				if rapid.IntRange(0, 2).Draw(t, "usual") == 0 {
					usual = []any{nil, 1.0, true, "t", []any{1.0}, map[string]any{"t": 1.0}}
				}
				if v := rapid.SampledFrom(usual).Draw(t, name); v != nil {
					e.Attributes[name] = v
				}
			}
			got, err := fast.Map(e, nil)
			want, wantErr := slow.Map(e, nil)
			if !reflect.DeepEqual(got, want) || fmt.Sprint(err) != fmt.Sprint(wantErr) {
				t.Fatalf("%v: %v, %v with the index, compiled; %v, %v without, on cel-go", e, got, err, want, wantErr)
			}
			if err == nil {
				taken++
				changed += len(got)
			}
		}
	})
	t.Logf("%d events taken, %d changes; %d of %d conditions and values compiled; %d schemas refused", taken, changed, code, all, refused)
	if changed == 0 {
		t.Error("no event ever changed a field")
	}
	if code*2 < all {
		t.Error("less than half of it was compiled: the test shows little")
	}
}

// eventTables are reference tables in which a key stands for itself, and two don't.
type eventTables struct{}

func (eventTables) Lookup(_ uint64, _ int, key string) string {
	switch key {
	case "now":
		return "2026-01-01T00:00:00Z"
	case "a":
		return ""
	}
	return key
}

// TestMapKeepsWhatIsThere maps an event that can't be taken into a slice that
// has room and content: what is there stays, and what can be mapped comes behind.
func TestMapKeepsWhatIsThere(t *testing.T) {
	m, errs := newEventMapper([]profilestore.Field{
		eventField("value.a", "number", `true`, `event.x`),
		eventField("value.b", "number", `true`, `event.y`),
	}, true)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	dst := append(make([]profilestore.Change, 0, 8), profilestore.Change{Slot: 7})
	got, err := m.Map(&profilestore.Event{Attributes: map[string]any{"x": 1.0}}, dst)
	if err == nil || len(got) != 2 || got[0].Slot != 7 || got[1].Slot != 0 {
		t.Errorf("%v, %v", got, err)
	}
}

func TestEventTypes(t *testing.T) {
	lang, err := newLanguage(objects{eventObject: eventFields}, eventRoots)
	if err != nil {
		t.Fatal(err)
	}
	for expr, want := range map[string]string{
		`event.type == "a"`:                                       "[a] true",
		`"a" == event.type`:                                       "[a] true",
		`event.type in ["a", "b"]`:                                "[a b] true",
		`event.type == "a" || event.type == "b"`:                  "[a b] true",
		`event.type == "a" && event.x > 1`:                        "[a] false",
		`event.type == "a" && event.x > 1 || event.type == "b"`:   "[a b] false",
		`event.type == "a" || event.x > 1`:                        "[] false",
		`event.type != "a"`:                                       "[] false",
		`event.type == event.x`:                                   "[] false",
		`event.type in [event.x]`:                                 "[] false",
		`event.kind == "a"`:                                       "[] false",
		`event.x > 1 && (event.type == "a" || event.type == "a")`: "[a a] false",
	} {
		tree, mistakes := lang.compile(expr)
		if mistakes != nil {
			t.Fatal(mistakes)
		}
		set, exact := eventTypes(tree.Expr())
		if got := fmt.Sprint(set, exact); got != want {
			t.Errorf("%s: %s, want %s", expr, got, want)
		}
	}
}

func TestAmountLimit(t *testing.T) {
	for d, want := range map[int]float64{0: 1e12, 6: 1e12, 9: float64(1<<62) / 1e9} {
		if got := amountLimit(d); got < want*0.999 || got > want*1.001 {
			t.Errorf("%d decimals: %g, want %g", d, got, want)
		}
	}
}
