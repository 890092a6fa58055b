package rules

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"rapport/profilestore"
)

// propertySchema has fields of every kind.
func propertySchema(t testing.TB) *profilestore.Schema {
	t.Helper()
	var fields []profilestore.Field
	for _, f := range [][2]string{
		{"value.a", "number"},
		{"value.b", "number"},
		{"usage.c", "counter"},
		{"tag.f", "flag"},
		{"tag.g", "flag"},
		{"general.s", "text"},
		{"general.t", "text"},
		{"service.w", "time"},
	} {
		fields = append(fields, profilestore.Field{Name: f[0], Type: profilestore.Type(f[1]), Batch: "bi", Decimals: profilestore.NoDecimals})
	}
	s, err := profilestore.NewSchema([]profilestore.Source{{ID: "bi"}}, fields)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

var propertyContext = []Input{{Name: "n", Kind: profilestore.KindNumber}, {Name: "f", Kind: profilestore.KindFlag}}

// values is a profile by slot.
type values []profilestore.Value

func (v values) Get(slot int) profilestore.Value { return v[slot] }

// drawInputs draws a partial profile and context.
func drawInputs(t *rapid.T, s *profilestore.Schema) Inputs {
	draw := func(k profilestore.Kind) profilestore.Value {
		if rapid.IntRange(0, 2).Draw(t, "known") == 0 {
			return profilestore.Unknown()
		}
		switch k {
		case profilestore.KindNumber:
			return profilestore.Number(float64(rapid.IntRange(-1, 3).Draw(t, "number")))
		case profilestore.KindFlag:
			return profilestore.Flag(rapid.Bool().Draw(t, "flag"))
		case profilestore.KindText:
			return profilestore.Text(rapid.SampledFrom([]string{"", "2", "gold"}).Draw(t, "text"))
		default:
			return profilestore.Time(int64(rapid.IntRange(0, 3).Draw(t, "time")) * 1e6)
		}
	}
	var v values
	for _, f := range s.Fields() {
		v = append(v, draw(f.Type.Kind()))
	}
	return Inputs{Profile: v, Context: []profilestore.Value{draw(profilestore.KindNumber), draw(profilestore.KindFlag)}, Now: 2e6}
}

// writer writes random expressions. Literals come out of digit, so that two
// writers fed with the same choices can differ in how they spell numbers.
type writer struct {
	t     *rapid.T
	digit func(int) string
}

func (w writer) pick(n int) int { return rapid.IntRange(0, n-1).Draw(w.t, "pick") }

func (w writer) of(list ...string) string { return list[w.pick(len(list))] }

// flag writes an expression that is true or false, fails, or is unknown.
func (w writer) flag(depth int) string {
	if depth == 0 {
		return w.of("profile.tag.f", "profile.tag.g", "context.f", "has(profile.value.a)", "has(context.n)", "true", "false")
	}
	d := depth - 1
	switch w.pick(12) {
	case 0, 1, 2:
		return "(" + w.flag(d) + " && " + w.flag(d) + ")"
	case 3, 4:
		return "(" + w.flag(d) + " || " + w.flag(d) + ")"
	case 5:
		return "!" + w.flag(0)
	case 6:
		return "(" + w.flag(d) + " ? " + w.flag(d) + " : " + w.flag(d) + ")"
	case 7:
		return "(" + w.number(d) + w.of(" in [", " in [1, ", " in [2.5, ") + w.digit(w.pick(3)) + "])"
	case 8:
		return "[" + w.digit(1) + ", " + w.digit(2) + w.of("].exists(x, ", "].all(x, ") + w.number(d) + w.of(" > x)", " == x)", " - x < 1)")
	case 9:
		return w.of(`profile.general.s`, `profile.general.t`) + w.of(` == "gold"`, ` != profile.general.t`, `.startsWith("g")`, `.matches("^g")`, ` in ["gold", "2"]`)
	case 10:
		return w.of("profile.service.w < now", "now - profile.service.w < duration('1s')", "profile.service.w.getSeconds() == 2", "now - days(1) > profile.service.w")
	default:
		return w.number(d) + w.of(" > ", " >= ", " < ", " <= ", " == ", " != ") + w.digit(w.pick(4))
	}
}

// number writes an expression that has a double in it, so that each whole number
// stands beside one.
func (w writer) number(depth int) string {
	field := w.of("profile.value.a", "profile.value.b", "profile.usage.c", "context.n", "profile.value.a")
	if depth == 0 {
		return field
	}
	d := depth - 1
	switch w.pick(7) {
	case 0:
		return "(" + w.number(d) + w.of(" + ", " - ", " * ", " / ") + w.digit(w.pick(4)) + ")"
	case 1:
		return "(" + w.digit(w.pick(4)) + w.of(" + ", " - ", " * ", " / ") + w.number(d) + ")"
	case 2:
		return "(" + w.number(d) + " - (" + w.digit(1) + " / " + w.digit(2) + "))"
	case 3:
		return "(" + w.flag(d) + " ? " + w.number(d) + " : " + w.digit(w.pick(4)) + ")"
	case 4, 5:
		return w.of("double(profile.general.s)", "double(1 / int(profile.value.a))", "[0.5, 1.5][int(profile.value.b)]", "{'gold': 1.5}[profile.general.t]", "(size(profile.general.s) + 0.0)")
	default:
		return field
	}
}

// TestWholeNumbers compares expressions written with whole numbers with the
// same written with .0 after each.
func TestWholeNumbers(t *testing.T) {
	schema := propertySchema(t)
	env, err := NewEnv(schema, propertyContext)
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		const mark = "#"
		w := writer{t: t, digit: func(n int) string { return fmt.Sprint(n) + mark }}
		template := w.flag(3)
		b := env.NewTable()
		whole, err := b.Add(strings.ReplaceAll(template, mark, ""))
		if err != nil {
			t.Fatal(err)
		}
		point, err := b.Add(strings.ReplaceAll(template, mark, ".0"))
		if err != nil {
			t.Fatal(err)
		}
		e := b.Build().NewEvaluation()
		e.Reset(drawInputs(t, schema))
		if x, y := e.Evaluate(whole), e.Evaluate(point); x != y {
			t.Fatalf("%s: %s with whole numbers, %s with decimals", template, x, y)
		}
	})
}
