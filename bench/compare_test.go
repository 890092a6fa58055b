package bench_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"rapport/bench"
)

var sink float64

// work does about n units of work that a compiler can't leave out.
func work(n int) func() error {
	return func() error {
		x := 1.0
		for range n {
			x = x*1.0000001 + 1e-9
		}
		sink = x
		return nil
	}
}

// TestCompareReports: every subject has its figures and its ratio. What the times
// are is for benchmarks to say.
func TestCompareReports(t *testing.T) {
	c, err := bench.Compare(context.Background(), bench.Options{Rounds: 30},
		bench.Subject{Name: "once", Run: work(2_000)},
		bench.Subject{Name: "again", Run: work(2_000)},
		bench.Subject{Name: "four times", Run: work(8_000)})
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := c.Write(&out); err != nil {
		t.Fatal(err)
	}
	t.Logf("\n%s", out.String())
	for _, name := range []string{"once (limit)", "again", "four times"} {
		if !strings.Contains(out.String(), name) {
			t.Errorf("the table does not have %q", name)
		}
	}
	for i, r := range c.Ratios {
		if r.Low > r.Median || r.Median > r.High || r.Low <= 0 {
			t.Errorf("ratio %d: median %.3f is outside %.3f–%.3f", i, r.Median, r.Low, r.High)
		}
		if c.Subjects[i].Ops < 30 {
			t.Errorf("subject %d ran %d times in 30 rounds", i, c.Subjects[i].Ops)
		}
	}
}

func TestCompareCountsAllocations(t *testing.T) {
	var keep [][]byte
	c, err := bench.Compare(context.Background(), bench.Options{Rounds: 3},
		bench.Subject{Name: "none", Run: work(100)},
		bench.Subject{Name: "two", Run: func() error { keep = append(keep[:0], make([]byte, 64), make([]byte, 64)); return nil }})
	if err != nil {
		t.Fatal(err)
	}
	if got := c.Subjects[0].Allocs; got < 1.9 || got > 3 {
		t.Errorf("two allocations an operation were counted as %.2f", got)
	}
}

func TestCompareStopsAtErrors(t *testing.T) {
	broken := errors.New("broken")
	n := 0
	_, err := bench.Compare(context.Background(), bench.Options{}, bench.Subject{Name: "limit", Run: work(10)},
		bench.Subject{Name: "breaks", Run: func() error {
			if n++; n > 1000 {
				return broken
			}
			return nil
		}})
	if !errors.Is(err, broken) || !strings.Contains(err.Error(), "breaks") {
		t.Errorf("got error %v", err)
	}
}
