package bench_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"rapport/bench"
)

// BenchmarkPrices prints what instructions take for what they are charged. The table
// is long: -v shows all of it.
func BenchmarkPrices(b *testing.B) {
	var list []bench.PriceFigures
	var err error
	for b.Loop() {
		if list, err = bench.MeasurePrices(context.Background(), nil); err != nil {
			b.Fatal(err)
		}
	}
	var out strings.Builder
	if err := bench.WritePrices(&out, list); err != nil {
		b.Fatal(err)
	}
	b.Logf("\n%s", out.String())
	b.ReportMetric(list[0].UnitNanos, "worst-ns/unit")
	b.ReportMetric(0, "ns/op") // of the whole comparison: means nothing
}

// TestPricesReport: each instruction is measured with what it is charged.
func TestPricesReport(t *testing.T) {
	names := []string{"i32.add", "f64.sqrt", "i32.trunc_f32_s", "i8x16.shuffle"}
	list, err := bench.MeasurePrices(context.Background(), func(name string) bool { return slices.Contains(names, name) })
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := bench.WritePrices(&out, list); err != nil {
		t.Fatal(err)
	}
	t.Logf("\n%s", out.String())
	if len(list) != len(names) {
		t.Fatalf("%d instructions were measured, of %d", len(list), len(names))
	}
	for _, f := range list {
		if f.UnitNanos <= 0 || f.Units < 1 || f.Nanos <= 0 || f.Use == "" || !strings.Contains(out.String(), f.Instruction) {
			t.Errorf("%+v", f)
		}
	}
}
