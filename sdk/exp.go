package rapport

import "math"

// What Exp is made of, after fdlibm's e_exp.c (Sun Microsystems, 1993). ABI.md has
// them, and so does each SDK: change none.
const (
	expMost  = 709.782712893384   // above, the result is +Inf
	expLeast = -745.1332191019411 // below, it is 0
	log2E    = 1.4426950408889634 // 1 ÷ ln 2
	ln2High  = 0.6931471803691238 // ln 2 to 32 bits, so that its products with k are exact
	ln2Low   = 1.9082149292705877e-10
	exp1     = 0.16666666666666602
	exp2     = -0.0027777777777015593
	exp3     = 6.613756321437934e-05
	exp4     = -1.6533902205465252e-06
	exp5     = 4.1381367970572385e-08
)

// Exp returns e to the power of x, with the same bits in the SDKs of all languages and
// on every machine; those of math.Exp differ. It is off by less than one unit in the
// last place. NaN gives the NaN 0x7FF8000000000000.
func Exp(x float64) float64 {
	switch {
	case math.IsNaN(x):
		return math.Float64frombits(0x7FF8000000000000)
	case x > expMost:
		return math.Inf(1)
	case x < expLeast:
		return 0
	}
	// x = k·ln 2 + r, and r = high − low is at most ln 2 ÷ 2.
	half := 0.5
	if x < 0 {
		half = -0.5
	}
	k := int32(float64(log2E*x) + half)
	high := x - float64(float64(k)*ln2High)
	low := float64(k) * ln2Low
	r := high - low
	t := r * r
	p := exp4 + float64(t*exp5)
	p = exp3 + float64(t*p)
	p = exp2 + float64(t*p)
	p = exp1 + float64(t*p)
	c := r - float64(t*p)
	y := 1 - ((low - float64(r*c)/(2-c)) - high)
	// Times 2ᵏ in two steps, as 2ᵏ itself may be none: only the second may round.
	a := k >> 1
	return y * power2(a) * power2(k-a)
}

// power2 returns 2ᵏ, for k of −1022 to 1023.
func power2(k int32) float64 { return math.Float64frombits(uint64(k+1023) << 52) }
