package bench_test

import (
	"errors"
	"slices"
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
  - {name: absent, layer: none, figure: p50, at_most: 10us}
  - {name: wide, layer: rpc, case: {protocol: gRPC}, figure: x-limit, at_least: 0.9, fails: 0.5, gate: true, quick: true}
  - {name: quiet, layer: server, subject: decisions, figure: p99.9, at_most: 3ms, gate: true, while: machine, quick: true}
  - {name: machine, layer: server, subject: echo, figure: p99, at_most: 1ms, quick: true}
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
			{Name: bench.FigureP50, Value: 20 * µs, Unit: bench.UnitNanos}, {Name: bench.FigureP99, Value: p99, Unit: bench.UnitNanos}, {Name: bench.FigureP999, Value: 2 * p99, Unit: bench.UnitNanos},
		}}
	}
	echo := func(p99 float64) bench.Record {
		return bench.Record{Layer: "server", Name: "echo", Figures: []bench.Figure{{Name: bench.FigureP99, Value: p99, Unit: bench.UnitNanos}}}
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
		{"met", []bench.Record{other, ratio(0.92, 0.91, 0.95), server(ms), echo(ms)}, false, "ratio met, time met, told missed, absent not measured, wide met, quiet met, machine met", ""},
		{"missed", []bench.Record{ratio(0.7, 0.6, 0.74), server(2 * ms), echo(ms)}, false, "ratio missed, time missed, told missed, absent not measured, wide missed, quiet missed, machine met", "ratio time quiet"},
		{"missed by far", []bench.Record{ratio(0.4, 0.3, 0.49), server(ms), echo(ms)}, false, "ratio missed, time met, told missed, absent not measured, wide missed, quiet met, machine met", "ratio wide"},
		{"unclear", []bench.Record{ratio(0.7, 0.6, 0.76), server(ms), echo(ms)}, false, "ratio unclear, time met, told missed, absent not measured, wide missed, quiet met, machine met", ""},
		{"refused", []bench.Record{noise, ratio(0.8, 0.76, 0.9), server(ms), echo(ms)}, false, "ratio refused, time met, told missed, absent not measured, wide refused, quiet met, machine met", "ratio wide"},
		{"refused, quick", []bench.Record{noise, ratio(0.8, 0.76, 0.9), server(ms), echo(ms)}, true, "ratio refused, told missed, wide refused, quiet met, machine met", ""},
		{"noisy", []bench.Record{ratio(0.92, 0.91, 0.95), server(2 * ms), echo(2 * ms)}, false, "ratio met, time missed, told missed, absent not measured, wide met, quiet noisy, machine missed", "time quiet"},
		{"noisy, quick", []bench.Record{ratio(0.92, 0.91, 0.95), server(2 * ms), echo(2 * ms)}, true, "ratio met, told missed, wide met, quiet noisy, machine missed", ""},
		{"met, though noisy", []bench.Record{ratio(0.92, 0.91, 0.95), server(ms), echo(2 * ms)}, true, "ratio met, told missed, wide met, quiet met, machine missed", ""},
		{"nothing", nil, true, "ratio not measured, told not measured, wide not measured, quiet not measured, machine not measured", "ratio wide quiet"},
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
	all := bench.Budgets()
	if n := len(all); n < 20 {
		t.Errorf("%d budgets", n)
	}
	var layers []string
	for _, l := range bench.Layers() {
		layers = append(layers, l.Name)
	}
	for _, b := range all {
		if !slices.Contains(layers, b.Layer) && b.Layer != "snapshot" { // @@
			t.Errorf("%s is of layer %s, which is none", b.Name, b.Layer)
		}
	}
	for text, want := range map[string]string{
		"budgets: [{name: a, layer: b, figure: c}]":                                                         "a needs at_most or at_least",
		"budgets: [{name: a, layer: b, figure: c, at_most: 1, at_least: 2}]":                                "a needs at_most or at_least",
		"budgets: [{name: a, layer: b, at_most: 1}]":                                                        `"a" lacks`,
		"budgets: [{name: a, layer: b, figure: c, at_most: 1}, {name: a, layer: b, figure: c, at_most: 1}]": "a is there twice",
		"budgets: [{name: a, layer: b, figure: c, at_most: soon}]":                                          `line 1: "soon" is neither a number nor a time`,
		"budgets: [{name: a, layer: b, figure: c, at_most: 1, while: x}]":                                   "a is judged while x is met",
		"budgets: [{nam: a}]": "field nam not found",
	} {
		if _, err := bench.ParseBudgets([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}
