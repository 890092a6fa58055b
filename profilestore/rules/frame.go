package rules

import (
	"time"

	"rapport/profilestore"
)

// frame is the memory that code runs in. Not safe for concurrent use.
type frame struct {
	vars   *variables          // of conditions and formulas
	event  *profilestore.Event // of event rules
	budget int                 // that is left of maxCost; counts only in code with comprehensions
	gaveUp bool                // cel-go has to evaluate the condition
	bytes  []byte

	flags   lane[bool]
	wholes  lane[int64]
	numbers lane[float64]
	texts   lane[string]
	times   lane[time.Time]
	spans   lane[time.Duration]
}

// lane holds the values of one type that code keeps in memory: the variables of
// comprehensions, by how deep these are within each other, and the elements of lists.
type lane[T any] struct {
	vars  [maxComprehension]T
	items []T
}

// maxKept is how many bytes or elements of scratch memory stay for the next condition.
const maxKept = 1 << 14

// rewind forgets the lists and texts of the last condition.
func (f *frame) rewind() {
	f.flags.rewind()
	f.wholes.rewind()
	f.numbers.rewind()
	f.texts.rewind()
	f.times.rewind()
	f.spans.rewind()
	f.bytes = f.bytes[:0]
	if cap(f.bytes) > maxKept {
		f.bytes = nil
	}
}

func (l *lane[T]) rewind() {
	l.items = l.items[:0]
	if cap(l.items) > maxKept {
		l.items = nil
	}
}

// reserve appends n elements and returns where the first is. Lists stay where they are
// until the lane is rewound, also when it grows.
func (l *lane[T]) reserve(n int) int {
	at := len(l.items)
	for range n {
		var zero T
		l.items = append(l.items, zero)
	}
	return at
}

// giveUp leaves the condition to cel-go. What it returns is not looked at.
func (f *frame) giveUp() state {
	f.gaveUp = true
	return stateFailed
}

// charge takes what an operation costs at most from the budget.
func (f *frame) charge(cost int) { f.budget -= cost }

// spend is charge at a place where work can be broken off.
func (f *frame) spend(cost int) bool {
	if f.budget -= cost; f.budget < 0 {
		f.giveUp()
		return false
	}
	return true
}

// noField is what a field gives whose value is not of its kind.
func (f *frame) noField(v profilestore.Value) state {
	if !v.Known() {
		return stateUnknown
	}
	return f.giveUp()
}
