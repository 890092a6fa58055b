package bench_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"rapport/bench"
	"rapport/server/sandbox/compilertest"
)

func TestMain(m *testing.M) { compilertest.Main(m.Run) }

// compiler returns the command that compiles strategies here.
func compiler(t testing.TB) []string {
	t.Helper()
	command, err := compilertest.Command()
	if err != nil {
		t.Fatal(err)
	}
	return command
}

// BenchmarkDecision prints the decision in process with the Wasm strategy against
// the same with the native one.
func BenchmarkDecision(b *testing.B) {
	for _, candidates := range []int{10, 100, 1000} {
		b.Run(fmt.Sprintf("candidates=%d", candidates), func(b *testing.B) {
			ctx := context.Background()
			d, err := bench.NewDecision(ctx, candidates, nil, compiler(b))
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
				if c, err = bench.Compare(ctx, bench.Options{}, native, wasm); err != nil {
					b.Fatal(err)
				}
			}
			var out strings.Builder
			if err := c.Write(&out); err != nil {
				b.Fatal(err)
			}
			b.Logf("\n%s", out.String())
			b.ReportMetric(c.Ratios[0].Median, "x-native")
			b.ReportMetric(float64(c.Subjects[0].P50), "p50-ns")
			b.ReportMetric(c.Subjects[0].Allocs, "allocs/decision")
			b.ReportMetric(0, "ns/op") // of the whole comparison: means nothing
		})
	}
}

// TestDecisionLayer runs the layer a few times, so that it can't rot between
// benchmark runs, and holds the strategy to its budget of allocations: none that
// the same decision without it does not make.
func TestDecisionLayer(t *testing.T) {
	ctx := context.Background()
	d, err := bench.NewDecision(ctx, 100, nil, compiler(t))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}()
	native, wasm := d.Subjects(ctx)
	c, err := bench.Compare(ctx, bench.Options{Rounds: 5}, native, wasm)
	if err != nil {
		t.Fatal(err)
	}
	if more := c.Subjects[0].Allocs - c.Limit.Allocs; more > 0.5 { // a background allocation may fall into the count
		t.Errorf("a Wasm strategy adds %.1f allocations to a decision's %.1f", more, c.Limit.Allocs)
	}
}
