package abitest

import (
	"math"
	"math/rand/v2"
	"testing"
)

// A line is found again, and what is to be declared is enough for every call.
func TestFuelFigures(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 8))
	for range 1000 {
		base, per := float64(random.IntN(100_000)), float64(1+random.IntN(5000))
		power, noise := 1.0, 1
		if random.IntN(3) == 0 {
			power, noise = 1.2, 1000
		}
		var sizes []Size
		most := make(map[int]int64)
		for _, n := range []int{1, 2, 10, 63, 64, 65, 100, 127, 1000, 10_000} {
			fuel := int64(base + per*math.Pow(float64(n), power))
			sizes = append(sizes, Size{Candidates: n, Fuel: fuel})
			most[n] = fuel + int64(random.IntN(noise))
		}
		l := fit(sizes)
		if power == 1 && (math.Abs(l.Base-base) > 1+base/100 || math.Abs(l.PerCandidate-per) > 1+per/100) {
			t.Fatalf("%v through %v and %v a candidate", l, base, per)
		}
		d := declare(l, most)
		if !d.Valid() {
			t.Fatalf("declares %+v", d)
		}
		for n, fuel := range most {
			if d.Of(n) < fuel*3/2 {
				t.Fatalf("declares %+v, and a call of %d candidates takes %d", d, n, fuel)
			}
			if power == 1 && n >= 100 && float64(d.Of(n)) > 2*float64(fuel) {
				t.Fatalf("declares %+v, and a call of %d candidates takes but %d", d, n, fuel)
			}
		}
	}
	if l := fit([]Size{{Candidates: 1, Fuel: 100}}); l.Base != 100 || l.PerCandidate != 0 {
		t.Errorf("a line through one point: %v", l)
	}
	if d := declare(Line{}, nil); !d.Valid() {
		t.Errorf("nothing known: %+v", d)
	}
}
