package rapport

// Rand is a generator of random numbers that is seeded for one decision: the same
// decision has the same numbers when it is replayed, and in the SDKs of all languages.
// It is SplitMix64 (Steele, Lea and Flood, "Fast Splittable Pseudorandom Number
// Generators", 2014). As it has a method Uint64, math/rand/v2's New makes of it what can
// do more.
type Rand struct{ state uint64 }

// seed begins the numbers of a decision. The first of a generator that begins with the
// seed becomes the state, so that the numbers are none that the host draws from it.
func (r *Rand) seed(seed uint64) {
	r.state = seed
	r.state = r.Uint64()
}

// Uint64 returns a number of 64 random bits.
func (r *Rand) Uint64() uint64 {
	r.state += 0x9E3779B97F4A7C15
	z := r.state
	z = (z ^ z>>30) * 0xBF58476D1CE4E5B9
	z = (z ^ z>>27) * 0x94D049BB133111EB
	return z ^ z>>31
}

// Float64 returns a number from 0 to below 1: one of 2⁵³.
func (r *Rand) Float64() float64 { return float64(r.Uint64()>>11) * 0x1p-53 }

// IntN returns a number from 0 to n−1, each as likely; n is 1 to 2³¹−1, and for others
// the answer is 0.
func (r *Rand) IntN(n int) int {
	if n <= 0 || n > 1<<31-1 {
		return 0
	}
	// The high half of a product of 32 bits each, after Lemire, "Fast Random Integer
	// Generation in an Interval", 2019: of the low halves, those are drawn again that
	// would make some numbers likelier than others.
	for {
		product := r.Uint64() >> 32 * uint64(n)
		if low := uint32(product); low >= -uint32(n)%uint32(n) {
			return int(product >> 32)
		}
	}
}
