package rules

import (
	"fmt"
	"testing"
	"time"

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

// BenchmarkCondition evaluates one condition of each sort, by cel-go and compiled.
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
			table := builder.Build()
			e, onCEL := table.NewEvaluation(), table.Interpreted().NewEvaluation()
			many := func(e *Evaluation) func() {
				return func() {
					for range 100 {
						e.Reset(in)
						e.Evaluate(r)
					}
				}
			}
			interleave(b, "cel-go", "compiled", many(onCEL), many(e))
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

// BenchmarkMapper maps an event under a schema of 300 fields with 60 event types, with
// the index and without, and with the index on cel-go and compiled.
func BenchmarkMapper(b *testing.B) {
	var fields []profilestore.Field
	for i := range 300 {
		fields = append(fields, eventField(fmt.Sprintf("usage.f%d", i), profilestore.TypeCounter,
			fmt.Sprintf(`event.type == "t%d" && event.mb > %d`, i%60, i/60), "event.mb * 2"))
	}
	fast, errs := newEventMapper(fields, true)
	onCEL, errs2 := newEventMapper(fields, true)
	slow, errs3 := newEventMapper(fields, false)
	if len(errs)+len(errs2)+len(errs3) > 0 {
		b.Fatal(errs, errs2, errs3)
	}
	onCEL.interpret()
	e := &profilestore.Event{ID: "e", Type: "t7", Attributes: map[string]any{"mb": 100.0}}
	var dst []profilestore.Change
	mapWith := func(m *EventMapper) func() {
		return func() {
			for range 20 {
				var err error
				if dst, err = m.Map(e, dst[:0]); err != nil || len(dst) != 5 {
					b.Fatal(err, dst)
				}
			}
		}
	}
	b.Run("index", func(b *testing.B) { interleave(b, "every-rule", "indexed", mapWith(slow), mapWith(onCEL)) })
	b.Run("compiled", func(b *testing.B) { interleave(b, "cel-go", "compiled", mapWith(onCEL), mapWith(fast)) })
}
