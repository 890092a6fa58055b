package decide

import (
	"context"
	"errors"
	"time"

	"rapport/profilestore/rules"
)

// Ranker scores the candidates of one scenario. It is safe for concurrent use.
type Ranker interface {
	// Rank reads the inputs of r and fills its outputs for every candidate. It
	// returns by the deadline of r, without regard to whether it could rank: an
	// error wrapping ErrBusy when it could not begin in time, any other error
	// when it failed; outputs are then meaningless. Nothing of r is kept.
	Rank(ctx context.Context, r *Ranking) error

	// Info says who ranks.
	Info() RankerInfo
}

// ErrBusy means that a ranker had no capacity free before the deadline.
var ErrBusy = errors.New("no instance free in time")

// RankerInfo identifies a ranker.
type RankerInfo struct {
	Name    string
	Version string
	Digest  string // SHA-256 of the module in hexadecimal; empty for native code

	// Reasons are the names of the reason codes that it gives, by code: the first,
	// of code 0, is empty and means that no reason is given.
	Reasons []string
}

// Ranking is one call of a Ranker. The caller owns everything in it, sizes the
// slices, and may reuse them for the next call.
type Ranking struct {
	Now      int64  // the decision's time, microseconds since the Unix epoch
	Seed     uint64 // the decision's seed
	Profile  rules.Profile
	Deadline time.Time // zero: none

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
}
