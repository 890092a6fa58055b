package rapport

import (
	"iter"
	"time"

	"rapport/sdk/abi"
)

// Decision is one decision: a customer, a moment, and the candidates to rank. It
// is valid until the ranking function returns.
type Decision struct {
	frame  abi.Frame
	static *abi.Static

	presence []uint64
	cells    []uint64
	strings  []byte
	index    []uint32
	columns  [][]float64

	score  []float64
	reason []uint32
	veto   []uint64
	chance []float64 // nil if the strategy does not say

	random Rand
}

// begin makes the decision that of a frame.
func (d *Decision) begin(static *abi.Static, f abi.Frame) {
	d.frame, d.static = f, static
	d.presence, d.cells, d.strings = f.Presence(), f.Cells(), f.Strings()
	d.index = f.Index()
	for i := range d.columns {
		d.columns[i] = f.Column(i)
	}
	d.score, d.reason, d.veto, d.chance = f.Score(), f.Reason(), f.Veto(), f.Chance()
	d.random.seed(f.Seed())
}

// Len returns how many candidates there are.
func (d *Decision) Len() int { return len(d.score) }

// Candidates returns the candidates, in catalogue order.
func (d *Decision) Candidates() iter.Seq[Candidate] {
	return func(yield func(Candidate) bool) {
		for i, row := range d.index {
			if !yield(Candidate{d, i, row}) {
				return
			}
		}
	}
}

// Now returns the time of the decision, in UTC.
func (d *Decision) Now() time.Time { return time.UnixMicro(d.frame.Now()).UTC() }

// Rand returns the decision's generator of random numbers; each call of the ranking
// function begins with the first of them.
func (d *Decision) Rand() *Rand { return &d.random }

// Candidate is an offer in a channel.
type Candidate struct {
	d   *Decision
	i   int    // in this decision
	row uint32 // in the tables of the static block
}

// Score sets the candidate's score, a finite number; the greatest wins. A
// candidate that is neither scored nor vetoed, or whose score is infinite or NaN,
// is a fault: the decision is then made without this strategy.
func (c Candidate) Score(score float64) { c.d.score[c.i] = score }

// Because sets the reason for the score; the last one set counts.
func (c Candidate) Because(reason ReasonCode) { c.d.reason[c.i] = uint32(reason) }

// Chance says with which probability, above 0 and at most 1, the strategy's own draws put
// the candidate where it is. It is kept with the decision, so that what was learned from
// an exploring strategy can be weighed. Declare it with [SaysChances].
func (c Candidate) Chance(p float64) { c.d.chance[c.i] = p }

// Veto says that the candidate is not to be offered. It needs no score.
func (c Candidate) Veto() {
	abi.SetBit(c.d.veto, c.i)
	if s := c.d.score[c.i]; s != s {
		c.d.score[c.i] = 0
	}
}
