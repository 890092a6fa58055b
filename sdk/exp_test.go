package rapport_test

import (
	"hash/fnv"
	"math"
	"math/big"
	"math/rand/v2"
	"testing"

	rapport "rapport/sdk"
)

// inULPs returns how far y is from e to the power of x, in units of the last place of
// the result.
func inULPs(x, y float64) float64 {
	const precision = 200
	// x = k·ln 2 + r would need ln 2; halving x until the series is short does not.
	halvings := 12
	r := new(big.Float).SetPrec(precision).SetFloat64(x)
	r.SetMantExp(r, -halvings)
	sum := new(big.Float).SetPrec(precision).SetInt64(1)
	term := new(big.Float).SetPrec(precision).SetInt64(1)
	for n := int64(1); n < 60; n++ {
		term.Mul(term, r)
		term.Quo(term, new(big.Float).SetInt64(n))
		sum.Add(sum, term)
	}
	for range halvings {
		sum.Mul(sum, sum)
	}
	nearest, _ := sum.Float64()
	unit := max(math.Nextafter(nearest, math.Inf(1))-nearest, math.SmallestNonzeroFloat64)
	off := new(big.Float).SetPrec(precision).SetFloat64(y)
	off.Sub(off, sum).Quo(off, new(big.Float).SetFloat64(unit))
	result, _ := off.Abs(off).Float64()
	return result
}

func TestExpIsNearTheTruth(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	worst, worstAt, tiny, differ, n := 0.0, 0.0, 0, 0, 4000
	for i := range n {
		var x float64
		switch i % 4 {
		case 0:
			x = -745 + (709.78+745)*random.Float64()
		case 1:
			x = random.NormFloat64()
		case 2:
			x = math.Ldexp(random.NormFloat64(), -random.IntN(60))
		case 3: // where the result is subnormal, and near ends of a reduction
			x = -708 - 37*random.Float64()
			if i%8 == 3 {
				x = (float64(random.IntN(1400)-700) + 0.5) * math.Ln2
			}
		}
		y := rapport.Exp(x)
		if y > 0 && y < 0x1p-1022 {
			tiny++
		}
		if y != math.Exp(x) {
			differ++
		}
		if off := inULPs(x, y); off > worst {
			worst, worstAt = off, x
		}
	}
	t.Logf("at worst %.4f units in the last place, at %v; %d of %d are subnormal, %d differ from math.Exp", worst, worstAt, tiny, n, differ)
	if worst >= 1 || tiny == 0 {
		t.Errorf("off by %v at %v", worst, worstAt)
	}
}

func TestExpAtItsEnds(t *testing.T) {
	bits := math.Float64frombits
	for _, c := range []struct{ x, want float64 }{
		{0, 1},
		{math.Copysign(0, -1), 1},
		{1, 2.7182818284590455}, // one unit above the nearest
		{math.SmallestNonzeroFloat64, 1},
		{709.782712893384, bits(0x7FEFFFFFFFFFFF2A)},
		{math.Nextafter(709.782712893384, 710), math.Inf(1)},
		{710, math.Inf(1)},
		{math.MaxFloat64, math.Inf(1)},
		{math.Inf(1), math.Inf(1)},
		{-708.3964185322641, bits(0x001000000000007C)},
		{-745.1332191019411, math.SmallestNonzeroFloat64},
		{math.Nextafter(-745.1332191019411, -746), 0},
		{-math.MaxFloat64, 0},
		{math.Inf(-1), 0},
		{math.NaN(), bits(0x7FF8000000000000)},
		{bits(0xFFF0000000000001), bits(0x7FF8000000000000)},
	} {
		if got := rapport.Exp(c.x); math.Float64bits(got) != math.Float64bits(c.want) {
			t.Errorf("Exp(%v) = %v %#x, want %v", c.x, got, math.Float64bits(got), c.want)
		}
	}
}

// The bits never change: decisions are replayed with them.
func TestExpKeepsItsBits(t *testing.T) {
	h := fnv.New64a()
	random := rapport.Rand{}
	for range 100_000 {
		x := -750 + 1465*random.Float64()
		bits := math.Float64bits(rapport.Exp(x))
		for shift := 0; shift < 64; shift += 8 {
			h.Write([]byte{byte(bits >> shift)})
		}
	}
	if got := h.Sum64(); got != 0xB78E489BC128C63D {
		t.Errorf("the bits of 100,000 powers have the digest %#x", got)
	}
}
