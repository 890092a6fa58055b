package bench_test

import (
	"flag"
	"testing"
	"time"

	"rapport/bench"
)

var faults = flag.Bool("faults", false, "run a server under load with every fault")

// TestFaults makes a server slow on purpose: the report's tail shows at least the delay that
// was put in, and the gate on p99 breaks. How fast it is without is told, not judged: that
// is for a machine that has nothing else to do.
func TestFaults(t *testing.T) {
	const delay = 20 * time.Millisecond
	for _, c := range []struct {
		name  string
		fault bench.Fault
		least time.Duration // at p99; the server tells it by its buckets
		heavy bool
	}{
		{"none", bench.Fault{}, 0, true},
		{"a sleep in the store", bench.Fault{StoreDelay: delay, StoreEvery: 16}, delay / 2, false},
		{"a lock held across a call", bench.Fault{StoreDelay: delay, StoreEvery: 8, Locked: true}, delay / 2, true},
		{"a strategy that stalls", bench.Fault{Stalls: 8}, time.Millisecond, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.heavy && !*faults {
				t.Skip("only with -faults")
			}
			s := newSuite(t, "server")
			s.Fault = c.fault
			s.SetLoad(500, 100*time.Millisecond, 600*time.Millisecond)
			records, err := s.Run(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			p99, ok := records[0].Figure("server-p99")
			if !ok || records[0].Name != "decisions" {
				t.Fatalf("%+v", records)
			}
			budgets := bench.BudgetsOf([]string{"server"}, bench.Budgets())
			for i := range budgets {
				if budgets[i].Name == "server-p99" {
					budgets[i].While = "" // whatever else the machine has to do now
				}
			}
			judgements := bench.Judge(budgets, records, true)
			for i := range judgements {
				j := &judgements[i]
				if j.Budget.Name != "server-p99" {
					continue
				}
				t.Logf("%s: %s", j.Verdict, j.String())
				if c.least > 0 && (time.Duration(p99.Value) < c.least || !j.Broken()) {
					t.Errorf("p99 is %s with a delay of %v: %s", p99.String(), c.least, j.Verdict)
				}
			}
		})
	}
}
