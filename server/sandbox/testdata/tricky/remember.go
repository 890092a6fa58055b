package main

import (
	"hash/maphash"
	"math/rand/v2"
	"slices"
	"sync"

	rapport "rapport/sdk"
)

// What a call would leave to the next if it could, besides what is in tricky.go.
var (
	hidden  = make(map[uint64][]string)
	pool    = sync.Pool{New: func() any { return new(node) }}
	letters = make(chan float64)
	waiting sync.Once
	heard   float64
	closers []func() float64
)

// remember returns a number that depends on all that earlier calls left, on the
// order in which Go goes through a map, and on Go's own random numbers. A customer
// called trap makes it panic in the middle.
func remember(d *rapport.Decision) (sum float64) {
	who := segment.Or(d, "nobody")
	calls++
	seen[who]++
	kept = append(kept, who)
	hidden[d.Rand().Uint64()] = slices.Clone(kept)

	place := 1.0
	for name, n := range seen {
		sum += place * float64(n+len(name))
		place++
	}
	order := make(map[int]int)
	for i := range 100 {
		order[i] = i
	}
	for i := range order {
		sum = sum*31 + float64(i)
		if sum > 1e12 {
			sum /= 1e9
		}
	}
	sum += float64(rand.IntN(1<<20)) + rand.Float64() + 1000*d.Rand().Float64()
	sum += float64(maphash.String(maphash.MakeSeed(), who) >> 44)

	// A used object, with what its user left in it.
	n := pool.Get().(*node)
	sum += float64(len(n.name))
	n.name += who
	pool.Put(n)

	// A goroutine that an earlier call left waiting, which answers with what it
	// heard before.
	waiting.Do(func() {
		go func() {
			for {
				heard += <-letters
				letters <- heard
			}
		}()
	})
	letters <- float64(len(who))
	sum += <-letters

	if who == "trap" {
		var none []int
		_ = none[calls]
	}
	closers = append(closers, func() float64 { return float64(calls) })
	for _, c := range closers {
		sum += c()
	}
	return sum + 10*float64(calls) + 100*float64(len(hidden))
}
