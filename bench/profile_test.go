package bench_test

import (
	"context"
	"strings"
	"testing"

	"rapport/bench"
)

// BenchmarkProfile prints what it costs to read a profile.
func BenchmarkProfile(b *testing.B) {
	var p *bench.Profile
	var err error
	for b.Loop() {
		if p, err = bench.MeasureProfile(context.Background(), options()); err != nil {
			b.Fatal(err)
		}
	}
	report(b, func(out *strings.Builder) error { return p.Write(out) })
	b.ReportMetric(p.Merge.Ratios[0].Median, "merge-x-loop")
	b.ReportMetric(p.Miss.Ratios[0].Median, "miss-x-gets")
	b.ReportMetric(p.Hit.Ratios[0].Median, "hit-x-lru")
}

// TestProfileLayer runs the layer a few times, and holds merges and hits to their
// budget of allocations: none.
func TestProfileLayer(t *testing.T) {
	p, err := bench.MeasureProfile(context.Background(), few)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []*bench.Comparison{p.Merge, p.Hit} {
		if got := c.Subjects[0].Allocs; got > 0.05 { // a background allocation may fall into the count
			t.Errorf("%s: %.2f allocations", c.Subjects[0].Name, got)
		}
	}
}
