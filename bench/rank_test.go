package bench_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"rapport/bench"
)

// few is enough for tests, which assert no times.
var few = bench.Options{Rounds: 3, Slice: 200 * time.Microsecond}

// BenchmarkRank prints the call of a strategy, as a decision makes it, against the
// same computation natively in Go.
func BenchmarkRank(b *testing.B) {
	for _, guest := range shared.get(b).All() {
		for _, candidates := range sizes {
			b.Run(fmt.Sprintf("%s/candidates=%d", guest.Name, candidates), func(b *testing.B) {
				var c *bench.Comparison
				var err error
				for b.Loop() {
					if c, err = bench.MeasureRank(context.Background(), options(), guest, candidates); err != nil {
						b.Fatal(err)
					}
				}
				report(b, func(out *strings.Builder) error { return c.Write(out) })
				reportSubject(b, c, 0)
			})
		}
	}
}

// TestRankLayer runs the layer a few times. It fails if the two don't give the same
// answer, or if a call allocates, whatever the number of candidates.
func TestRankLayer(t *testing.T) {
	for _, guest := range shared.get(t).Every() {
		for _, candidates := range []int{1, 100, 1000} {
			c, err := bench.MeasureRank(context.Background(), few, guest, candidates)
			if err != nil {
				t.Fatal(err)
			}
			if more := c.Subjects[0].Allocs - c.Limit.Allocs; more > 0.5 { // a background allocation may fall into the count
				t.Errorf("%s, %d candidates: %.1f allocations a call", guest.Name, candidates, more)
			}
		}
	}
}
