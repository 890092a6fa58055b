package bench_test

import (
	"context"
	"strings"
	"testing"

	"rapport/bench"
)

// BenchmarkRules prints what the rules of 300 offers cost, compiled and by cel-go.
func BenchmarkRules(b *testing.B) {
	var f *bench.RulesFigures
	var err error
	for b.Loop() {
		if f, err = bench.MeasureRules(context.Background(), options()); err != nil {
			b.Fatal(err)
		}
	}
	report(b, func(out *strings.Builder) error { return f.Write(out) })
	b.ReportMetric(f.Ratios[0].Median, "x-shared")
	b.ReportMetric(f.Ratios[1].Median, "x-cel-go")
	b.ReportMetric(float64(f.Limit.P50), "p50-ns")
	b.ReportMetric(f.Limit.Allocs, "allocs")
}

// TestRulesLayer runs the layer a few times. It fails if cel-go does not give the same
// outcomes, if a condition is not compiled, or if evaluating them allocates.
func TestRulesLayer(t *testing.T) {
	f, err := bench.MeasureRules(context.Background(), few)
	if err != nil {
		t.Fatal(err)
	}
	if f.Compiled != f.Conditions {
		t.Errorf("%d of %d conditions are compiled", f.Compiled, f.Conditions)
	}
	if f.Limit.Allocs > 0.5 { // a background allocation may fall into the count
		t.Errorf("%.1f allocations", f.Limit.Allocs)
	}
}
