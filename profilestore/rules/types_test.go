package rules_test

import (
	"fmt"
	"strings"
	"testing"

	"rapport/profilestore"
	"rapport/profilestore/rules"
)

// TestTypesOfEvents: what events do to sets, counters that begin again, extremes and
// dwells.
func TestTypesOfEvents(t *testing.T) {
	field := func(name string, typ profilestore.Type, rule profilestore.EventRule) profilestore.Field {
		return profilestore.Field{Name: name, Type: typ, Decimals: profilestore.NoDecimals, Events: &rule}
	}
	schema, err := profilestore.NewSchema(nil, []profilestore.Field{
		field("marketing.owned", profilestore.TypeSet, profilestore.EventRule{On: `event.type == "order"`, Add: "event.product", RemoveOn: `event.type == "cancel"`}),
		field("marketing.places", profilestore.TypeSet, profilestore.EventRule{On: `event.type == "seen"`, Add: `event.city + "/" + event.area`, RemoveOn: `event.type == "moved"`, Remove: "event.from"}),
		field("usage.missed", profilestore.TypeCounter, profilestore.EventRule{On: `event.type in ["missed_call", "power_on"]`, Add: `event.type == "power_on" ? event.missed : 1.0`, Reset: `event.type == "power_on"`}),
		field("value.peak", profilestore.TypeMax, profilestore.EventRule{On: `event.type == "bill"`, Set: "event.amount"}),
		field("location.station", profilestore.TypeDwell, profilestore.EventRule{On: `event.type == "location"`, In: `event.area == "station"`}),
	})
	if err != nil {
		t.Fatal(err)
	}
	m, err := rules.NewEventMapper(schema)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		kind       string
		attributes map[string]any
		want       string
	}{
		{"order", map[string]any{"product": "mail"}, "marketing.owned assign mail"},
		{"cancel", map[string]any{"product": "mail"}, "marketing.owned remove mail"},
		{"seen", map[string]any{"city": "X", "area": "dock"}, "marketing.places assign X/dock"},
		{"moved", map[string]any{"from": "X/dock"}, "marketing.places remove X/dock"},
		{"missed_call", nil, "usage.missed assign 1"},
		{"power_on", map[string]any{"missed": 3.0}, "usage.missed reset unknown, usage.missed assign 3"},
		{"bill", map[string]any{"amount": 12.5}, "value.peak assign 12.5"},
		{"location", map[string]any{"area": "station"}, "location.station assign true"},
		{"location", map[string]any{"area": "home"}, "location.station assign false"},
		{"other", nil, ""},
		{"order", map[string]any{"product": 5.0}, "! field marketing.owned needs a text from event.product, got number 5"},
		{"cancel", nil, "! field marketing.owned needs a text from event.product, but the event has no product"},
		{"location", nil, `! field location.station needs a flag from event.area == "station", but the event has no area`},
	} {
		changes, err := m.Map(&profilestore.Event{ID: "e", Type: c.kind, Attributes: c.attributes}, nil)
		var got []string
		for _, x := range changes {
			op := [...]string{"assign", "remove", "reset"}[x.Op]
			got = append(got, fmt.Sprintf("%s %s %s", schema.Fields()[x.Slot].Name, op, x.Value))
		}
		if err != nil {
			_, message, _ := strings.Cut(err.Error(), ": ")
			got = append(got, "! "+message)
		}
		if line := strings.Join(got, ", "); line != c.want {
			t.Errorf("%s %v: %q, want %q", c.kind, c.attributes, line, c.want)
		}
	}
}

// TestTypesOfEventsMistakes: each part of an event rule is checked, at its place.
func TestTypesOfEventsMistakes(t *testing.T) {
	errs := rules.CheckEvents([]profilestore.Field{
		{Name: "marketing.owned", Type: profilestore.TypeSet, Events: &profilestore.EventRule{On: "true", Add: "5", RemoveOn: "1", Remove: "true"}},
		{Name: "usage.missed", Type: profilestore.TypeCounter, Events: &profilestore.EventRule{On: "true", Add: "1", Reset: "event.time"}},
		{Name: "location.station", Type: profilestore.TypeDwell, Events: &profilestore.EventRule{On: "true", In: "event.type"}},
	})
	var got []string
	for _, e := range errs {
		got = append(got, fmt.Sprintf("%d %s: %s", e.Field, e.Part, e.Errors[0].Message))
	}
	want := []string{
		"0 add: marketing.owned is a set, its elements are texts, but add gives a whole number",
		"0 remove_on: a condition must be true or false: this is a whole number",
		"0 remove: marketing.owned is a set, its elements are texts, but remove gives a flag",
		"1 reset: a condition must be true or false: this is a time",
		"2 in: location.station is a dwell and needs true or false, but in gives a text",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestSetsInConditions: a set is asked for its elements and its size; one that is
// unknown makes the condition unknown, one that is empty does not.
func TestSetsInConditions(t *testing.T) {
	schema := schemaOf(t, batch("marketing.owned", profilestore.TypeSet), batch("value.peak", profilestore.TypeMax))
	env, err := rules.NewEnv(schema, nil)
	if err != nil {
		t.Fatal(err)
	}
	some, empty, unknown := profilestore.Set("news", "data_10g"), profilestore.Set(), profilestore.Unknown()
	for _, c := range []struct {
		expr  string
		owned profilestore.Value
		want  rules.Truth
	}{
		{`"data_10g" in profile.marketing.owned`, some, rules.True},
		{`"data" in profile.marketing.owned`, some, rules.False},
		{`!("data_10g" in profile.marketing.owned)`, empty, rules.True},
		{`!("data_10g" in profile.marketing.owned)`, unknown, rules.Unknown},
		{`size(profile.marketing.owned) == 2`, some, rules.True},
		{`profile.marketing.owned.size() > 1 && profile.value.peak > 3`, some, rules.True},
		{`size(profile.marketing.owned) == 0`, empty, rules.True},
		{`size(profile.marketing.owned) == 0`, unknown, rules.Unknown},
		{`has(profile.marketing.owned)`, empty, rules.True},
		{`has(profile.marketing.owned)`, unknown, rules.False},
		{`profile.marketing.owned.exists(p, p.startsWith("data_"))`, some, rules.True},
		{`profile.marketing.owned.all(p, p.startsWith("data_"))`, some, rules.False},
		{`profile.marketing.owned == ["data_10g", "news"]`, some, rules.True},
		{`profile.marketing.owned[0] == "data_10g"`, some, rules.True},
		{`size(profile.marketing.owned.filter(p, p != "news")) == 1`, some, rules.True},
	} {
		table := env.NewTable()
		rule, err := table.Add(c.expr)
		if err != nil {
			t.Errorf("%s: %v", c.expr, err)
			continue
		}
		e := table.Build().NewEvaluation()
		e.Reset(rules.Inputs{Profile: profile{c.owned, profilestore.Number(4)}})
		if got := e.Evaluate(rule); got != c.want {
			t.Errorf("%s with %s: %v, want %v", c.expr, c.owned, got, c.want)
		}
	}
	if _, err := env.NewTable().Add(`5 in profile.marketing.owned`); err == nil {
		t.Error("a number can be in a set")
	}
}
