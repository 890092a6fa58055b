package bench_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"rapport/bench"
	"rapport/server/sandbox/compilertest"
)

// full asks the benchmarks for figures to rely on. Without it they are quick: to see
// that they run, and roughly what they say.
var full = flag.Bool("full", false, "benchmarks measure for minutes")

func TestMain(m *testing.M) {
	if os.Getenv(fakeVariable) != "" {
		os.Exit(fakeMain())
	}
	if bench.IsProcess() {
		os.Exit(bench.ProcessMain(context.Background(), os.Stdin, os.Stdout, os.Stderr))
	}
	compilertest.Main(func() int {
		status := m.Run()
		if err := shared.close(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return max(status, 1)
		}
		return status
	})
}

// options are those of benchmarks.
func options() bench.Options {
	if *full {
		return bench.Options{Rounds: 100}
	}
	return bench.Options{Rounds: 15, Slice: 500_000}
}

// shared are the guests of all tests, compiled when first used.
var shared guests

type guests struct {
	mu  sync.Mutex
	all *bench.Guests
}

// get returns the guests.
func (g *guests) get(t testing.TB) *bench.Guests {
	t.Helper()
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.all == nil {
		var err error
		if g.all, err = bench.NewGuests(context.Background(), compiler(t)); err != nil {
			t.Fatal(err)
		}
	}
	return g.all
}

// compiler returns the command that compiles strategies.
func compiler(t testing.TB) []string {
	t.Helper()
	command, err := compilertest.Command()
	if err != nil {
		t.Fatal(err)
	}
	return command
}

func (g *guests) close() error {
	if g.all == nil {
		return nil
	}
	return g.all.Close()
}

// report logs the table of what write writes.
func report(b *testing.B, write func(*strings.Builder) error) {
	b.Helper()
	var out strings.Builder
	if err := write(&out); err != nil {
		b.Fatal(err)
	}
	b.Logf("\n%s", out.String())
	b.ReportMetric(0, "ns/op") // of the whole comparison: means nothing
}

// reportSubject reports the figures of a subject of a comparison.
func reportSubject(b *testing.B, c *bench.Comparison, i int) {
	b.ReportMetric(c.Ratios[i].Median, "x-limit")
	b.ReportMetric(float64(c.Over[i]), "over-ns")
	b.ReportMetric(float64(c.Subjects[i].P50), "p50-ns")
	b.ReportMetric(c.Subjects[i].Allocs, "allocs")
}
