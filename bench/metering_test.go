package bench_test

import (
	"context"
	"strings"
	"testing"

	"rapport/bench"
	"rapport/server/sandbox/probe"
)

// BenchmarkMetering prints what metering costs programs of several kinds.
func BenchmarkMetering(b *testing.B) {
	var list []bench.Metering
	var err error
	for b.Loop() {
		if list, err = bench.MeasureMetering(context.Background(), bench.Options{}, probe.Layouts); err != nil {
			b.Fatal(err)
		}
	}
	var out strings.Builder
	if err := bench.WriteMetering(&out, list); err != nil {
		b.Fatal(err)
	}
	b.Logf("\n%s", out.String())
	b.ReportMetric(0, "ns/op") // of the whole comparison: means nothing
}
