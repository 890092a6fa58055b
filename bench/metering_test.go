package bench_test

import (
	"context"
	"strings"
	"testing"

	"rapport/bench"
	"rapport/server/sandbox/probe"
)

// BenchmarkMetering prints what metering costs programs of several kinds, and
// strategies.
func BenchmarkMetering(b *testing.B) {
	layouts, instances := 1, 1
	if *full {
		layouts, instances = probe.Layouts, 5
	}
	var list []bench.Metering
	var err error
	for b.Loop() {
		if list, err = bench.MeasureMetering(context.Background(), options(), shared.get(b), layouts, instances); err != nil {
			b.Fatal(err)
		}
	}
	report(b, func(out *strings.Builder) error { return bench.WriteMetering(out, list) })
	kinds, medians := bench.MeteringMedians(list)
	for i, kind := range kinds {
		b.ReportMetric(medians[i], string(kind)+"-x-bare")
	}
}

// TestMeteringMedians: a kind has the median over its programs of the median of
// each.
func TestMeteringMedians(t *testing.T) {
	list := []bench.Metering{
		{Program: "a", Kind: probe.Loops, Metered: []float64{1, 1.1, 9}, Exact: []float64{1}, CloseOnDone: []float64{2, 3, 4}},
		{Program: "s", Kind: bench.Strategies, Metered: []float64{1.5}, Exact: []float64{1}, CloseOnDone: []float64{9}},
		{Program: "b", Kind: probe.Loops, Metered: []float64{0.5, 1.3, 1.3}, Exact: []float64{1}, CloseOnDone: []float64{2, 3, 4}},
		{Program: "c", Kind: probe.Loops, Metered: []float64{1, 1.04}, Exact: []float64{1}, CloseOnDone: []float64{2, 3}},
	}
	kinds, medians := bench.MeteringMedians(list)
	if len(kinds) != 2 || kinds[0] != probe.Loops || kinds[1] != bench.Strategies || medians[0] != 1.1 || medians[1] != 1.5 {
		t.Errorf("%v: %v", kinds, medians)
	}
	var out strings.Builder
	if err := bench.WriteMetering(&out, list); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"1.00–9.00", "1.100     ≤ 1.10 met", "1.500  ≤ 1.10 missed"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
}

// TestMeteringLayer runs the layer a few times.
func TestMeteringLayer(t *testing.T) {
	if underRace {
		t.Skip("the compiler of WebAssembly is too slow under the race detector")
	}
	list, err := bench.MeasureMetering(context.Background(), few, shared.get(t), 1, 1)
	if err != nil {
		t.Fatal(err)
	}
	if want := len(probe.Programs()) + 6; len(list) != want {
		t.Errorf("%d measurements, want %d", len(list), want)
	}
	for _, m := range list {
		if len(m.Metered) != 1 || len(m.Exact) != 1 || len(m.CloseOnDone) != 1 || m.UnitNanos <= 0 {
			t.Errorf("%+v", m)
		}
	}
}
