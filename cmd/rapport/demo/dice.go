package demo

import "math/rand/v2"

// dice draws what a customer is made of. Every result has the same bits on every
// machine: it comes from a PCG generator by additions, divisions and products
// that are rounded before they are added to (see mul), never by math.Exp or
// math.Log, which differ between architectures in the last bit.
type dice struct{ *rand.Rand }

// roll returns the dice of one customer, which depend on nothing else, so that
// all sources agree about the customer and more customers change none.
func roll(seed uint64, customer int) dice {
	return dice{rand.New(rand.NewPCG(seed, uint64(customer)+1))} //nolint:gosec // made-up customers need no secrets
}

// chance is true with probability p.
func (d dice) chance(p float64) bool { return d.Float64() < p }

// between draws evenly from low to high.
func (d dice) between(low, high float64) float64 { return low + mul(d.Float64(), high-low) }

// below draws evenly from 0 to n−1.
func (d dice) below(n int) int { return int(d.Float64() * float64(n)) }

// normal draws from the standard normal distribution, as a sum of twelve even
// draws, which ends at ±6.
func (d dice) normal() float64 {
	sum := -6.0
	for range 12 {
		sum += d.Float64()
	}
	return sum
}

// spread draws from a normal distribution around 0.
func (d dice) spread(deviation float64) float64 { return mul(deviation, d.normal()) }

// logNormal draws a positive number whose logarithm is normal: most are near
// e^mean, a few are many times that.
func (d dice) logNormal(mean, deviation float64) float64 { return exp(mean + d.spread(deviation)) }

// pick draws one of the options, weighted.
func (d dice) pick(options []option) string {
	u := d.Float64()
	for _, o := range options {
		if u -= o.share; u < 0 {
			return o.name
		}
	}
	return options[len(options)-1].name
}

// option is something to pick, with its share of 1.
type option struct {
	name  string
	share float64
}

// mul rounds a product, so that no machine fuses it with the addition after it.
// Division by a power of two is exact and needs no such care.
func mul(a, b float64) float64 {
	return float64(a * b)
}

// exp is e^x as (1+x/2¹⁶)^2¹⁶, by products alone. It is right to 0.1% for |x| up
// to 10.
func exp(x float64) float64 {
	y := 1 + x/(1<<16)
	for range 16 {
		y = mul(y, y)
	}
	return y
}

// logistic maps any number to a probability.
func logistic(x float64) float64 { return 1 / (1 + exp(-x)) }

// when is x if the condition holds, else 0: a term of a sum.
func when(condition bool, x float64) float64 {
	if condition {
		return x
	}
	return 0
}
