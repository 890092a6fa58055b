package bench_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"rapport/bench"
)

// BenchmarkDecision prints the decision in process with the Wasm strategy against
// the same with the native one.
func BenchmarkDecision(b *testing.B) {
	for _, guest := range shared.get(b).All() {
		for i := range 3 * len(sizes) {
			candidates, percent := sizes[i/3], shares[i%3]
			if percent < 100 && guest.Name != "pvcl" {
				continue
			}
			b.Run(fmt.Sprintf("%s/candidates=%d/eligible=%d%%", guest.Name, candidates, percent), func(b *testing.B) {
				ctx := context.Background()
				d, err := bench.NewDecision(ctx, guest, candidates, percent)
				if err != nil {
					b.Fatal(err)
				}
				defer func() {
					if err := d.Close(); err != nil {
						b.Error(err)
					}
				}()
				native, wasm := d.Subjects(ctx)
				var c *bench.Comparison
				for b.Loop() {
					if c, err = bench.Compare(ctx, options(), native, wasm); err != nil {
						b.Fatal(err)
					}
				}
				report(b, func(out *strings.Builder) error { return c.Write(out) })
				reportSubject(b, c, 0)
			})
		}
	}
}

// sizes are the numbers of candidates that are measured.
var sizes = []int{10, 100, 1000, 10_000}

// shares are how many percent of the candidates the customer is eligible for.
var shares = []int{100, 10, 1}

// TestDecisionLayer runs the layer a few times, so that it can't rot between
// benchmark runs, and holds strategies to their budget of allocations: none that
// the same decision without Wasm does not make.
func TestDecisionLayer(t *testing.T) {
	ctx := context.Background()
	for _, guest := range shared.get(t).Every() {
		d, err := bench.NewDecision(ctx, guest, 100, 100)
		if err != nil {
			t.Fatal(err)
		}
		native, wasm := d.Subjects(ctx)
		c, err := bench.Compare(ctx, few, native, wasm)
		if err != nil {
			t.Fatal(err)
		}
		if more := c.Subjects[0].Allocs - c.Limit.Allocs; more > 0.5 { // a background allocation may fall into the count
			t.Errorf("%s adds %.1f allocations to a decision's %.1f", guest.Name, more, c.Limit.Allocs)
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
}
