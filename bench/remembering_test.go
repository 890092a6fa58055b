package bench_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"rapport/bench"
)

// BenchmarkRemembering prints what the decision log costs.
func BenchmarkRemembering(b *testing.B) {
	for _, candidates := range []int{10, 100, 1000} {
		b.Run(fmt.Sprintf("candidates=%d", candidates), func(b *testing.B) {
			var r *bench.Remembering
			var err error
			for b.Loop() {
				if r, err = bench.MeasureRemembering(context.Background(), options(), compiler(b), candidates); err != nil {
					b.Fatal(err)
				}
			}
			report(b, func(out *strings.Builder) error { return r.Write(out) })
			b.ReportMetric(r.Comparison.Ratios[0].Median, "x-without")
			b.ReportMetric(float64(r.CPU[1])/float64(r.CPU[0]), "cpu-x-without")
			b.ReportMetric(r.Packed, "bytes/record")
			b.ReportMetric(r.PerSecond, "replays/s")
		})
	}
}

// TestRememberingLayer runs the layer a few times.
func TestRememberingLayer(t *testing.T) {
	r, err := bench.MeasureRemembering(context.Background(), few, compiler(t), 20)
	if err != nil {
		t.Fatal(err)
	}
	if !r.Identical || r.Replays < 6000 || r.Raw < 100 || r.Packed < 10 || r.Packed > r.Raw {
		t.Errorf("%+v", r)
	}
}
