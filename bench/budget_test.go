package bench_test

import (
	"errors"
	"strings"
	"testing"

	"rapport/bench"
)

// What becomes of a budget, by where its interval lies, by what it is of, and by noise.
func TestJudge(t *testing.T) {
	budgets, err := bench.ParseBudgets([]byte(`
budgets:
  - {name: ratio, layer: rpc, case: {protocol: gRPC}, figure: x-limit, at_least: 0.75, gate: true, quick: true}
  - {name: time, layer: server, subject: decisions, figure: p99, at_most: 1ms, gate: true}
  - {name: told, layer: server, subject: decisions, figure: p50, at_most: 10us, quick: true}
  - {name: absent, layer: none, figure: p50, at_most: 10us, gate: true}
`))
	if err != nil {
		t.Fatal(err)
	}
	const µs, ms = 1000, 1_000_000
	ratio := func(v, low, high float64) bench.Record {
		return bench.Record{Layer: "rpc", Case: bench.Case{}.Of("protocol", "gRPC").Of("size", 1), Name: "decisions", Limit: "echo", Figures: []bench.Figure{
			{Name: bench.FigureRatio, Value: v, Low: low, High: high, Unit: bench.UnitRatio},
		}}
	}
	server := func(p99 float64) bench.Record {
		return bench.Record{Layer: "server", Name: "decisions", Figures: []bench.Figure{
			{Name: bench.FigureP50, Value: 20 * µs, Unit: bench.UnitNanos}, {Name: bench.FigureP99, Value: p99, Unit: bench.UnitNanos},
		}}
	}
	noise := bench.Record{Layer: bench.NoiseLayer, Name: "b", Limit: "a", Figures: []bench.Figure{{Name: bench.FigureRatio, Value: 1, Low: 0.7, High: 1.1, Unit: bench.UnitRatio}}}
	other := bench.Record{Layer: "rpc", Case: bench.Case{}.Of("protocol", "connect"), Name: "decisions", Limit: "echo", Figures: ratio(9, 9, 9).Figures}
	for _, c := range []struct {
		name    string
		records []bench.Record
		quick   bool
		want    string
		broken  string
	}{
		{"met", []bench.Record{other, ratio(0.8, 0.76, 0.9), server(ms)}, false, "ratio met, time met, told missed, absent not measured", ""},
		{"missed", []bench.Record{ratio(0.7, 0.6, 0.74), server(ms + 1)}, false, "ratio missed, time missed, told missed, absent not measured", "ratio time"},
		{"unclear", []bench.Record{ratio(0.7, 0.6, 0.76)}, false, "ratio unclear, time not measured, told not measured, absent not measured", ""},
		{"noisy", []bench.Record{noise, ratio(0.8, 0.76, 0.9), server(ms)}, true, "ratio refused, told missed", "ratio"},
		{"nothing", nil, true, "ratio not measured, told not measured", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			judgements := bench.Judge(budgets, c.records, c.quick)
			var got, broken []string
			for _, j := range judgements {
				got = append(got, j.Budget.Name+" "+string(j.Verdict))
				if j.Broken() {
					broken = append(broken, j.Budget.Name)
				}
			}
			if s := strings.Join(got, ", "); s != c.want {
				t.Errorf("got %s\nwant %s", s, c.want)
			}
			if s := strings.Join(broken, " "); s != c.broken {
				t.Errorf("broken: %s, want %s", s, c.broken)
			}
			err := bench.Check(judgements)
			if errors.Is(err, bench.ErrBudget) != (c.broken != "") {
				t.Errorf("check: %v", err)
			}
			t.Log(err)
		})
	}
}

// Every budget names a figure that a layer measures; see TestSuite for those of quick
// runs. Mistakes in a file are named.
func TestBudgetFile(t *testing.T) {
	if n := len(bench.Budgets()); n < 20 {
		t.Errorf("%d budgets", n)
	}
	for text, want := range map[string]string{
		"budgets: [{name: a, layer: b, figure: c}]":                                                         "a needs at_most or at_least",
		"budgets: [{name: a, layer: b, figure: c, at_most: 1, at_least: 2}]":                                "a needs at_most or at_least",
		"budgets: [{name: a, layer: b, at_most: 1}]":                                                        `"a" lacks`,
		"budgets: [{name: a, layer: b, figure: c, at_most: 1}, {name: a, layer: b, figure: c, at_most: 1}]": "a is there twice",
		"budgets: [{name: a, layer: b, figure: c, at_most: soon}]":                                          `line 1: "soon" is neither a number nor a time`,
		"budgets: [{nam: a}]": "field nam not found",
	} {
		if _, err := bench.ParseBudgets([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}
