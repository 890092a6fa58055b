package sandbox_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"rapport/plugins"
	"rapport/profilestore"
	"rapport/server/catalog"
	"rapport/server/decide"
	"rapport/server/sandbox"
)

// BenchmarkRestore measures a call of the guest and the restore after it, for each
// kind of restore by turns, so that all have the same machine. Each turn is two
// calls, and the second is measured, so that none begins in caches that another
// kind has filled. The bare call has no restore, but for every 32nd turn, which is
// not measured. "x-over-ns" is the median of call and restore together, less the
// bare call's: what restoring costs, with the page faults that it leaves to the
// next call. "initialize-ns" is how long it takes to make an instance without an
// image.
//
// What the whole of the sandbox adds to a call, which a user of the package can
// see, is measured in package bench.
func BenchmarkRestore(b *testing.B) {
	const n = 100
	r := newRuntime(b, sandbox.Options{})
	c, sc := fixture(b, n)
	q := simple(n)
	q.Profile = profile{slotARPU: numberOf(20), slotHeavy: profilestore.Flag(true)}
	b.Run("small", func(b *testing.B) { restoreInTurns(b, compile(b, r, plugins.PVCL()), c, sc, q) })
	b.Run("go", func(b *testing.B) {
		m, _ := goGuest(b, upsell)
		restoreInTurns(b, m, c, sc, q)
	})
}

// BenchmarkRestoreAfterRareCalls has every so many calls write to 400 pages, and
// the others to 2. "call-ns" is the mean of the calls, with the page faults in
// them, and "total-ns" that of calls and restores.
func BenchmarkRestoreAfterRareCalls(b *testing.B) {
	m := compile(b, newRuntime(b, sandbox.Options{}), writer())
	c, sc := fixture(b, 1)
	for _, every := range []int{1, 4, 10, 100, 1000} {
		for _, kind := range restores(b)[:3] {
			b.Run(fmt.Sprintf("%d/%s", every, kind), func(b *testing.B) {
				s := bindTo(b, m, c, sc, sandbox.PoolOptions{Size: 1, Restore: kind})
				var calls, total time.Duration
				for i := range b.N {
					q := simple(1)
					q.Seed = 2
					if i%every == 0 {
						q.Seed = 400
					}
					call, restored, err := s.Bare(q, true)
					if err != nil {
						b.Fatal(err)
					}
					calls, total = calls+call, total+call+restored
				}
				b.ReportMetric(float64(calls.Nanoseconds())/float64(b.N), "call-ns")
				b.ReportMetric(float64(total.Nanoseconds())/float64(b.N), "total-ns")
			})
		}
	}
}

func restoreInTurns(b *testing.B, m *sandbox.Module, c *catalog.Compiled, sc *catalog.Scenario, q *decide.Ranking) {
	bare := bindTo(b, m, c, sc, sandbox.PoolOptions{Size: 1, Restore: sandbox.RestoreCopy})
	kinds := restores(b)
	var strategies []*sandbox.Strategy
	for _, k := range kinds {
		strategies = append(strategies, bindTo(b, m, c, sc, sandbox.PoolOptions{Size: 1, Restore: k}))
	}
	took := make([][]time.Duration, 1+len(kinds))
	run := func(s *sandbox.Strategy, restore bool) time.Duration {
		call, restored, err := s.Bare(q, restore)
		if err != nil {
			b.Fatal(err)
		}
		return call + restored
	}
	var anew []time.Duration
	for i := 0; b.Loop(); i++ {
		for k := range 1 + len(kinds) {
			// In a fixed order, each would run in the caches of the same other one.
			switch k = (i + i/8 + k) % (1 + len(kinds)); k {
			case 0:
				run(bare, i%32 == 0)
				if t := run(bare, false); i%32 != 0 {
					took[0] = append(took[0], t)
				}
			default:
				run(strategies[k-1], true)
				took[k] = append(took[k], run(strategies[k-1], true))
			}
		}
		if i%32 > 0 {
			continue
		}
		begin := time.Now()
		if _, err := bare.Initialized(); err != nil {
			b.Fatal(err)
		}
		anew = append(anew, time.Since(begin))
	}
	slices.Sort(anew)
	b.ReportMetric(float64(anew[len(anew)/2].Nanoseconds()), "initialize-ns")
	for _, t := range took {
		slices.Sort(t)
	}
	median := took[0][len(took[0])/2]
	b.ReportMetric(float64(median.Nanoseconds()), "bare-ns")
	for k, kind := range kinds {
		t := took[1+k]
		b.ReportMetric(float64((t[len(t)/2] - median).Nanoseconds()), fmt.Sprint(kind, "-over-ns"))
	}
	for _, s := range strategies {
		b.Logf("%+v", s.Stats())
	}
}
