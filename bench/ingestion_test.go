package bench_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"rapport/bench"
)

// BenchmarkIngestion prints what it costs to take events.
func BenchmarkIngestion(b *testing.B) {
	for _, c := range []struct {
		senders, each int
		full          bool
	}{{64, 1, false}, {512, 1, true}, {8, 64, false}} {
		if c.full && !*full {
			continue
		}
		b.Run(fmt.Sprintf("senders=%d,each=%d", c.senders, c.each), func(b *testing.B) {
			var i *bench.Ingestion
			var err error
			for b.Loop() {
				if i, err = bench.MeasureIngestion(context.Background(), options(), compiler(b), c.senders, c.each); err != nil {
					b.Fatal(err)
				}
			}
			report(b, func(out *strings.Builder) error { return i.Write(out) })
			b.ReportMetric(1/i.Comparison.Ratios[0].Median, "store-x-journal")
			b.ReportMetric(1/i.Comparison.Ratios[1].Median, "handler-x-journal")
		})
	}
}

// TestIngestionLayer runs the layer a few times.
func TestIngestionLayer(t *testing.T) {
	i, err := bench.MeasureIngestion(context.Background(), few, compiler(t), 4, 3)
	if err != nil {
		t.Fatal(err)
	}
	for k, n := range i.PerSync {
		if n < 3 {
			t.Errorf("subject %d had %v events in a sync, of calls with 3", k, n)
		}
	}
}
