package rules

import (
	"fmt"
	"testing"
	"time"

	"cel.dev/cel-go/cel"

	"rapport/profilestore"
)

// interleave runs two functions in turn and reports the time of each and their
// ratio, so that a noisy machine disturbs both alike.
func interleave(b *testing.B, slow, fast string, runSlow, runFast func()) {
	b.Helper()
	var tSlow, tFast time.Duration
	for b.Loop() {
		began := time.Now()
		runSlow()
		middle := time.Now()
		runFast()
		tFast += time.Since(middle)
		tSlow += middle.Sub(began)
	}
	b.ReportMetric(float64(tSlow.Nanoseconds())/float64(b.N), slow+"-ns/op")
	b.ReportMetric(float64(tFast.Nanoseconds())/float64(b.N), fast+"-ns/op")
	b.ReportMetric(float64(tSlow)/float64(tFast), "ratio")
}

// BenchmarkSharing evaluates the rules of 40 offers for one customer, three
// conditions each out of 24 different ones: split and shared, against each rule
// as a cel-go program of its own.
func BenchmarkSharing(b *testing.B) {
	var fields []profilestore.Field
	for i := range 24 {
		fields = append(fields, profilestore.Field{Name: fmt.Sprintf("usage.f%d", i), Type: profilestore.TypeNumber, Batch: "bi", Decimals: profilestore.NoDecimals})
	}
	schema, err := profilestore.NewSchema([]profilestore.Source{{ID: "bi"}}, fields)
	if err != nil {
		b.Fatal(err)
	}
	env, err := NewEnv(schema, nil)
	if err != nil {
		b.Fatal(err)
	}
	builder := env.NewTable()
	rules, wholes := make([]Rule, 40), make([]cel.Program, 40)
	for i := range rules {
		expr := fmt.Sprintf("profile.usage.f%d > %d && profile.usage.f%d * 2 < 100 && profile.usage.f%d != 7", i%8, i%8, 8+i%7, 16+i%5)
		if rules[i], err = builder.Add(expr); err != nil {
			b.Fatal(err)
		}
		tree, mistakes := env.lang.compile(expr)
		if mistakes != nil {
			b.Fatal(mistakes)
		}
		if wholes[i], err = env.lang.program(tree, tree.Expr()); err != nil {
			b.Fatal(err)
		}
	}
	table := builder.Build()
	customer := make(values, 24)
	for i := range customer {
		customer[i] = profilestore.Number(float64(20 + i))
	}
	customer[3], customer[4] = profilestore.Unknown(), profilestore.Number(1)
	in := Inputs{Profile: customer}
	e := table.NewEvaluation()
	vars := &variables{in: in}
	interleave(b, "separate", "shared",
		func() {
			for _, p := range wholes {
				run(p, vars)
			}
		},
		func() {
			e.Reset(in)
			for _, r := range rules {
				e.Evaluate(r)
			}
		})
	b.ReportMetric(float64(table.Conditions()), "conditions")
}

// BenchmarkCondition evaluates one condition of each sort.
func BenchmarkCondition(b *testing.B) {
	schema := propertySchema(b)
	env, err := NewEnv(schema, propertyContext)
	if err != nil {
		b.Fatal(err)
	}
	in := Inputs{Profile: values{
		profilestore.Number(1), profilestore.Number(2), profilestore.Number(3), profilestore.Flag(true), profilestore.Flag(false),
		profilestore.Text("gold"), profilestore.Unknown(), profilestore.Time(0),
	}, Now: 1e15}
	for _, expr := range []string{
		"profile.tag.f", "profile.value.a > 5", "profile.value.a * 2 + profile.value.b > 5", `profile.general.s == "gold"`,
		`profile.general.s in ["silver", "gold"]`, `profile.general.t == "gold"`, "now - profile.service.w < days(7)",
		`profile.general.s.matches("^g")`, "has(profile.value.a)", "[1, 2].exists(x, x == profile.value.b)", `now.getHours("Asia/Shanghai") > 8`,
	} {
		b.Run(expr, func(b *testing.B) {
			builder := env.NewTable()
			r, err := builder.Add(expr)
			if err != nil {
				b.Fatal(err)
			}
			e := builder.Build().NewEvaluation()
			b.ReportAllocs()
			for b.Loop() {
				e.Reset(in)
				e.Evaluate(r)
			}
		})
	}
}

// BenchmarkCompile adds a rule of three conditions to a table.
func BenchmarkCompile(b *testing.B) {
	env, err := NewEnv(propertySchema(b), propertyContext)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := env.NewTable().Add(`profile.value.a > 5 && profile.general.s in ["silver", "gold"] && !profile.tag.f`); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkMapper maps an event under a schema of 300 fields with 60 event
// types, with the index and without.
func BenchmarkMapper(b *testing.B) {
	var fields []profilestore.Field
	for i := range 300 {
		fields = append(fields, eventField(fmt.Sprintf("usage.f%d", i), profilestore.TypeCounter,
			fmt.Sprintf(`event.type == "t%d" && event.mb > %d`, i%60, i/60), "event.mb"))
	}
	fast, errs := newEventMapper(fields, true)
	slow, errs2 := newEventMapper(fields, false)
	if len(errs)+len(errs2) > 0 {
		b.Fatal(errs, errs2)
	}
	e := &profilestore.Event{ID: "e", Type: "t7", Attributes: map[string]any{"mb": 100.0}}
	var dst []profilestore.Change
	mapWith := func(m *EventMapper) func() {
		return func() {
			var err error
			if dst, err = m.Map(e, dst[:0]); err != nil || len(dst) != 5 {
				b.Fatal(err, dst)
			}
		}
	}
	interleave(b, "every-rule", "indexed", mapWith(slow), mapWith(fast))
}
