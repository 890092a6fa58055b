package sandbox_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"rapport/plugins"
	"rapport/profilestore"
	"rapport/server/decide"
	"rapport/server/sandbox"
)

// BenchmarkRank measures a whole call, as a decision makes it, against the same
// arbitration in Go, in turns, so that both have the same machine: "x-native" is
// the ratio of the medians. The memory is restored in between, so ns/op is more
// than the call.
func BenchmarkRank(b *testing.B) {
	r := newRuntime(b, sandbox.Options{})
	for _, n := range []int{10, 100, 1000, 10_000} {
		b.Run(fmt.Sprintf("pvcl/%d", n), func(b *testing.B) {
			s := bind(b, r, plugins.PVCL(), n, sandbox.PoolOptions{Size: 3})
			inTurns(b, s, simple(n))
		})
	}
	for _, n := range []int{10, 100, 1000} {
		b.Run(fmt.Sprintf("go/%d", n), func(b *testing.B) {
			m, _ := goGuest(b, upsell)
			c, sc := fixture(b, n)
			q := simple(n)
			q.Profile = profile{slotARPU: numberOf(20), slotHeavy: profilestore.Flag(true)}
			inTurns(b, bindTo(b, m, c, sc, sandbox.PoolOptions{Size: 3}), q)
		})
	}
}

// inTurns ranks with a strategy and natively by turns, and reports the medians of
// both and their ratio. A median would not see the call that waits for another's
// restore; p99 does.
func inTurns(b *testing.B, s *sandbox.Strategy, q *decide.Ranking) {
	b.ReportAllocs()
	ctx := context.Background()
	wasm, goes := make([]time.Duration, 0, b.N), make([]time.Duration, 0, b.N)
	scores := make([]float64, len(q.Score))
	b.ResetTimer()
	for range b.N {
		begin := time.Now()
		if err := s.Rank(ctx, q); err != nil {
			b.Fatal(err)
		}
		middle := time.Now()
		for i := range scores {
			scores[i] = q.Propensity[i] * q.Value[i] * q.Weight[i] * q.Lever[i]
		}
		wasm, goes = append(wasm, middle.Sub(begin)), append(goes, time.Since(middle))
	}
	b.StopTimer()
	slices.Sort(wasm)
	slices.Sort(goes)
	one, other := wasm[len(wasm)/2], goes[len(goes)/2]
	b.ReportMetric(float64(one.Nanoseconds()), "p50-ns")
	b.ReportMetric(float64(wasm[len(wasm)*99/100].Nanoseconds()), "p99-ns")
	b.ReportMetric(float64(one)/float64(other), "x-native")
}
