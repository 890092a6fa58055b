package bench_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"rapport/bench"
	"rapport/server/sandbox"
	"rapport/server/sandbox/hostile"
)

// dearUploads are attacks of the upload that take all the fuel of one.
var dearUploads = []string{
	"initialize with an endless loop", "describe with memory.fill without end", "configure with memory.grow without end",
	"describe with a flood of log lines",
}

// BenchmarkAttack prints what attacks cost, and what they do to others. The table is
// long: -v shows all of it.
func BenchmarkAttack(b *testing.B) {
	var list []bench.AttackFigures
	var err error
	rounds := 5
	if *full {
		rounds = 20
	}
	for b.Loop() {
		list, err = bench.MeasureAttacks(context.Background(), bench.AttackOptions{Compiler: compiler(b), Rounds: rounds, Only: func(a *hostile.Attack) bool {
			return a.Fault == sandbox.FaultFuel || a.Fault == sandbox.FaultStack || slices.Contains(dearUploads, a.Name)
		}})
		if err != nil {
			b.Fatal(err)
		}
	}
	var out strings.Builder
	if err := bench.WriteAttacks(&out, list); err != nil {
		b.Fatal(err)
	}
	b.Logf("\n%s", out.String())
	b.ReportMetric(0, "ns/op") // of the whole comparison: means nothing
}

// TestAttackReport: the attacks that are picked are in the table, with decisions
// made beside them.
func TestAttackReport(t *testing.T) {
	names := []string{"endless loop", "recursion", dearUploads[0]}
	list, err := bench.MeasureAttacks(context.Background(), bench.AttackOptions{
		Compiler: compiler(t), Rounds: 3,
		Only: func(a *hostile.Attack) bool { return slices.Contains(names, a.Name) },
	})
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := bench.WriteAttacks(&out, list); err != nil {
		t.Fatal(err)
	}
	t.Logf("\n%s", out.String())
	if len(list) != len(names) {
		t.Errorf("%d attacks were measured, of %d", len(list), len(names))
	}
	for _, f := range list {
		if !strings.Contains(out.String(), f.Name) || f.P50 <= 0 || f.Max < f.P50 || (f.Fuel <= 0) != f.Upload {
			t.Errorf("%+v", f)
		}
		if f.Upload && (f.Beside.Decisions == 0 || f.BesideGo.Decisions == 0 || f.Beside.Worst < f.Beside.P99) {
			t.Errorf("%s: %+v and %+v", f.Name, f.Beside, f.BesideGo)
		}
	}
}
