package decide

import (
	"context"
	"errors"
	"slices"
	"time"

	"rapport/profilestore"
	"rapport/profilestore/rules"
	"rapport/server/catalog"
)

// Ranker scores the candidates of one scenario. It is safe for concurrent use.
type Ranker interface {
	// Rank reads the inputs of r and fills its outputs for every candidate. It
	// returns by the deadline of r, without regard to whether it could rank: an
	// error wrapping ErrBusy when it could not begin in time, one wrapping
	// ErrSuspended when it was not called since it has failed too often, ErrNoTime when
	// it was not called since it could not have ended, any other error when it failed; outputs are then meaningless, but for those of fuel.
	// Nothing of r is kept.
	Rank(ctx context.Context, r *Ranking) error

	// Info says who ranks.
	Info() RankerInfo
}

// Chooser is a Ranker that stands for several and picks one by the customer, as
// when a new version ranks for a share of them. It is safe for concurrent use.
type Chooser interface {
	Ranker

	// Choose returns who ranks for a customer, by Request.Customer: the same for
	// the same customer.
	Choose(customer uint64) Ranker
}

// ErrBusy means that a ranker had no capacity free before the deadline.
var ErrBusy = errors.New("no instance free in time")

// ErrSuspended means that a ranker is not called for a while, as it kept failing.
var ErrSuspended = errors.New("suspended")

// ErrNoTime means that a ranker was not called, as too little time was left for it.
var ErrNoTime = errors.New("too little time left to rank")

// RankerInfo identifies a ranker.
type RankerInfo struct {
	Name    string
	Version string
	Digest  string // SHA-256 of the module in hexadecimal; empty for native code

	// Reasons are the names of the reason codes that it gives, by code: the first,
	// of code 0, is empty and means that no reason is given.
	Reasons []string

	// Chances says that it fills Ranking.Chance.
	Chances bool
}

// Ranking is one call of a Ranker. The caller owns everything in it, sizes the
// slices, and may reuse them for the next call.
type Ranking struct {
	Now      int64  // the decision's time, microseconds since the Unix epoch
	Seed     uint64 // the decision's seed
	Profile  rules.Profile
	Deadline time.Time            // zero: none
	Slots    int                  // how many of the candidates there is room for
	Context  []profilestore.Value // by place in Compiled.Context
	History  profilestore.History

	// Fuel is the most that the ranker may use, in units of the strategy sandbox;
	// 0: what its own limit and the deadline allow. A replay gives what the
	// decision had.
	Fuel int64

	// Dry says that nothing of the call counts: it is neither suspended nor a reason
	// to suspend.
	Dry bool

	// Candidates are those to rank, by their place in Scenario.Candidates,
	// ascending. The four columns of standard arbitration and all outputs have
	// one cell for each.
	Candidates []int32
	Propensity []float64
	Value      []float64
	Weight     []float64
	Lever      []float64

	// Outputs.
	Score  []float64 // finite
	Reason []uint32  // a code of RankerInfo.Reasons
	Veto   []bool    // true: not to be offered
	// Chance is with which probability the ranker's own draws put each where it is, 0
	// where it does not say. It has a cell for each candidate if RankerInfo.Chances is
	// set, and none if not.
	Chance []float64

	// What the ranker was given, and what of it it used; 0 for native code, and
	// where it was not called.
	FuelLimit, FuelUsed int64
}

// ranked is a candidate in the order of the slate.
type ranked struct {
	place int           // in the columns of the ranking
	class catalog.Class // the same for all where classes don't matter
	score float64
	tie   uint64
}

// best returns the candidates that fill the slots, best first, in the memory of
// best, and how many it leaves out that score as the last of them does. Candidates with
// equal scores are ordered by a hash of the seed and the offer, so that no place in the
// catalogue is favoured.
func (q *Ranking) best(candidates []catalog.Candidate, best []ranked) (_ []ranked, tied int) {
	best = best[:0]
	for i, index := range q.Candidates {
		if q.Veto[i] {
			continue
		}
		x := ranked{place: i, score: q.Score[i]}
		if len(best) == q.Slots && x.score < best[q.Slots-1].score {
			continue
		}
		x.tie = mix(q.Seed, uint64(candidates[index].Offer))
		at, _ := slices.BinarySearchFunc(best, x, compareRanked)
		if len(best) < q.Slots {
			best = append(best, ranked{})
		} else if at == q.Slots {
			tied++
			continue
		} else if last := best[q.Slots-1].score; at < q.Slots-1 && best[q.Slots-2].score == last || at == q.Slots-1 && x.score == last {
			tied++ // the last is pushed out, and the next is as good
		} else {
			tied = 0
		}
		copy(best[at+1:], best[at:])
		best[at] = x
	}
	return best, tied
}

// draws returns among how many the seed drew x: x, and those of rest that are as good, and
// tied more if x is as good as the last of rest, or rest is empty.
func (x ranked) draws(rest []ranked, tied int) int {
	n := 1
	for i := range rest {
		if rest[i].class == x.class && rest[i].score == x.score {
			n++
		}
	}
	if n == len(rest)+1 {
		n += tied
	}
	return n
}

// compareRanked orders by class, then by score, highest first, then by tie.
func compareRanked(a, b ranked) int {
	switch {
	case a.class != b.class:
		return int(a.class) - int(b.class)
	case a.score > b.score:
		return -1
	case a.score < b.score:
		return 1
	case a.tie < b.tie:
		return -1
	case a.tie > b.tie:
		return 1
	}
	return a.place - b.place
}

// mix hashes two numbers (the finaliser of SplitMix64, Steele et al. 2014).
func mix(seed, n uint64) uint64 {
	z := seed + (n+1)*0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}
