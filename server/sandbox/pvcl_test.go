package sandbox_test

import (
	"context"
	"math"
	"math/rand/v2"
	"reflect"
	"testing"

	"pgregory.net/rapid"

	"rapport/plugins"
	"rapport/server/catalog"
	"rapport/server/decide"
	"rapport/server/sandbox"
)

// native is the built-in arbitration.
func native(r *decide.Ranking) []float64 {
	scores := make([]float64, len(r.Candidates))
	for i := range scores {
		scores[i] = r.Propensity[i] * r.Value[i] * r.Weight[i] * r.Lever[i]
	}
	return scores
}

// pvcl has the bits of the built-in arbitration, whatever the numbers.
func TestPVCLIsTheBuiltInArbitration(t *testing.T) {
	const n = 130
	s := bind(t, newRuntime(t, sandbox.Options{}), plugins.PVCL(), n, sandbox.PoolOptions{Size: 2})
	number := rapid.Float64Range(-1e70, 1e70)
	rapid.Check(t, func(t *rapid.T) {
		q := ranking(rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0)), rapid.IntRange(1, n).Draw(t, "candidates"), n)
		for range rapid.IntRange(0, 10).Draw(t, "odd numbers") {
			i := rapid.IntRange(0, len(q.Candidates)-1).Draw(t, "place")
			q.Value[i], q.Propensity[i], q.Weight[i] = number.Draw(t, "value"), number.Draw(t, "propensity"), number.Draw(t, "weight")
		}
		if err := s.Rank(context.Background(), q); err != nil {
			t.Fatal(err)
		}
		for i, want := range native(q) {
			if math.Float64bits(q.Score[i]) != math.Float64bits(want) {
				t.Fatalf("candidate %d: %v, want %v", i, q.Score[i], want)
			}
			if q.Reason[i] != 0 || q.Veto[i] {
				t.Fatalf("candidate %d: reason %d, veto %v", i, q.Reason[i], q.Veto[i])
			}
		}
	})
}

func TestPVCLWeighsTheValue(t *testing.T) {
	m := compile(t, newRuntime(t, sandbox.Options{}), plugins.PVCL())
	c, sc := fixture(t, 10)
	sc.Strategy = &catalog.StrategyUse{Name: "pvcl", Parameters: map[string]float64{"value_weight": 0.25}}
	s := bindTo(t, m, c, sc, sandbox.PoolOptions{})
	q := simple(10)
	rank(t, s, q)
	for i, got := range q.Score {
		if want := q.Propensity[i] * (0.75 + float64(0.25*q.Value[i])) * q.Weight[i] * q.Lever[i]; got != want {
			t.Errorf("candidate %d: %v, want %v", i, got, want)
		}
	}
	want := decide.RankerInfo{Name: "pvcl", Version: "1.0.0", Digest: m.Digest(), Reasons: []string{""}}
	if got := s.Info(); !reflect.DeepEqual(got, want) {
		t.Errorf("info %+v, want %+v", got, want)
	}
}

// A call allocates nothing, or next to nothing, however many candidates there are.
func TestCallsDoNotAllocate(t *testing.T) {
	s := bind(t, newRuntime(t, sandbox.Options{}), plugins.PVCL(), 1000, sandbox.PoolOptions{Size: 1})
	for _, n := range []int{1, 100, 1000} {
		q := simple(n)
		if got := testing.AllocsPerRun(200, func() { rank(t, s, q) }); got > 1 {
			t.Errorf("%d candidates: %v allocations a call", n, got)
		}
	}
}
