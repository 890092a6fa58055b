package decide_test

import (
	"slices"

	"rapport/server/catalog"
)

// places are the places of capacities, counted down. Where contacts are counted, all
// offers in a channel have one.
type places struct {
	catalog *catalog.Compiled
	left    []int
	uses    map[[3]int]int // by capacity, channel and offer
}

func newPlaces(c *catalog.Compiled, left []int) *places {
	return &places{c, slices.Clone(left), make(map[[3]int]int)}
}

func (p *places) key(capacity, offer, channel int) [3]int {
	if p.catalog.Capacities[capacity].TakenBy == catalog.CountContacts {
		offer = -1
	}
	return [3]int{capacity, channel, offer}
}

func (p *places) Take(capacity, offer, channel int) bool {
	key := p.key(capacity, offer, channel)
	if p.uses[key] == 0 {
		if p.left[capacity] == 0 {
			return false
		}
		p.left[capacity]--
	}
	p.uses[key]++
	return true
}

func (p *places) Return(capacity, offer, channel int) {
	key := p.key(capacity, offer, channel)
	if p.uses[key]--; p.uses[key] == 0 {
		p.left[capacity]++
	}
}
