package rapport_test

import (
	"math"
	"math/rand/v2"
	"testing"

	rapport "rapport/sdk"
	"rapport/sdk/rapporttest"
)

// numbers returns what a decision with a seed draws.
func numbers(t *testing.T, seed uint64, draw func(r *rapport.Rand)) {
	t.Helper()
	rank = func(d *rapport.Decision) {
		draw(d.Rand())
		for c := range d.Candidates() {
			c.Score(0)
		}
	}
	if _, err := rapporttest.Rank(rapporttest.Decision{Seed: seed, Candidates: make([]rapporttest.Candidate, 1)}); err != nil {
		t.Fatal(err)
	}
}

// The first numbers of SplitMix64 from 0 are those that its authors' programs give, and
// a decision's begin with the first as the state: ABI.md has them.
func TestRandIsThatOfTheSpecification(t *testing.T) {
	zero := rapport.Rand{}
	if got := zero.Uint64(); got != 0xE220A8397B1DCDAF {
		t.Errorf("the first number of SplitMix64 is %#x", got)
	}
	for seed, want := range map[uint64][3]uint64{
		0:  {0xA706DD2F4D197E6F, 0xB382A305F4414F5E, 0x631A9154FBABF717},
		42: {0x57E1FABA65107204, 0xF4ABD143FEB24055, 0x7C816738C12903B2},
	} {
		numbers(t, seed, func(r *rapport.Rand) {
			if got := [3]uint64{r.Uint64(), r.Uint64(), r.Uint64()}; got != want {
				t.Errorf("seed %d: %#x", seed, got)
			}
		})
	}
}

func TestRandIsUniform(t *testing.T) {
	numbers(t, 7, func(r *rapport.Rand) {
		const draws = 60_000
		var counts [6]int
		sum := 0.0
		for range draws {
			counts[r.IntN(6)]++
			x := r.Float64()
			if !(x >= 0 && x < 1) {
				t.Fatalf("Float64 is %v", x)
			}
			sum += x
		}
		t.Logf("%v, mean %v", counts, sum/draws)
		for face, n := range counts {
			if math.Abs(float64(n)-draws/6) > 5*math.Sqrt(draws/6) {
				t.Errorf("%d came %d times", face, n)
			}
		}
		if math.Abs(sum/draws-0.5) > 5/math.Sqrt(12*draws) {
			t.Errorf("the mean is %v", sum/draws)
		}
		for _, n := range []int{0, -1, 1 << 31} {
			if got := r.IntN(n); got != 0 {
				t.Errorf("IntN(%d) is %d", n, got)
			}
		}
		if got := r.IntN(1); got != 0 {
			t.Errorf("IntN(1) is %d", got)
		}
		// For so many, a third of the draws are drawn again.
		const most = 3 << 29
		high := 0
		for range 10_000 {
			if r.IntN(most) >= most/2 {
				high++
			}
		}
		if math.Abs(float64(high)-5000) > 250 {
			t.Errorf("%d of 10,000 in the upper half", high)
		}
		if x := rand.New(r).Perm(10); len(x) != 10 {
			t.Error(x)
		}
	})
}
