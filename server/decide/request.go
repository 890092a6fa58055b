package decide

import (
	"time"

	"rapport/profilestore"
	"rapport/profilestore/rules"
)

// Request is what one decision is made from, besides the catalogue and the
// rankers. The decision is a function of it: the same request gives the same
// answer, as long as no deadline cuts it short.
type Request struct {
	Now        int64  // microseconds since the Unix epoch
	Seed       uint64 // decides ties, and the strategy's random numbers
	Customer   uint64 // a hash of who it is; for Chooser.Choose
	Touchpoint int    // in Compiled.Touchpoints
	Slots      int    // at most so many offers; 0: as many as the touchpoint has

	// Profile is the customer's profile; nil if it could not be read. Of a
	// customer of whom nothing is known it is a profile of unknown values.
	Profile rules.Profile

	// Context holds the context fields of the catalogue, by their place in
	// Compiled.Context, defaults filled in.
	Context []profilestore.Value

	// Deadline is when the answer must be there; zero: never.
	Deadline time.Time

	// Fuel is the most that the strategy may use; 0: what its limit and the
	// deadline allow. It is what Answer.FuelLimit was, for a replay.
	Fuel int64

	Dry bool // a dry run: it has no effect on any other decision
}

// Reason says what became of a candidate. It is one byte, carried through the
// pipeline beside each candidate.
type Reason uint8

// The reasons, in the order of the pipeline. The numbers are those of the API.
const (
	ReasonNone              Reason = iota
	ReasonOffered                  // it is on the slate
	ReasonNotEligible              // its rule is false
	ReasonUnknown                  // its rule needs a value that is not known
	ReasonRuleError                // its rule could not be evaluated
	ReasonProfileUnreadable        // failed closed, since the profile could not be read
	ReasonVetoed                   // by the strategy
	ReasonRankedBelow              // the slots were full
	reasonCount
)

// Step is a step down: something that a decision had to do without. The numbers
// are those of the API.
type Step uint8

// The steps down.
const (
	StepNone              Step = iota
	StepStrategyFailed         // it failed: the built-in arbitration ranked
	StepStrategyBusy           // no capacity in time: the built-in arbitration ranked
	StepNoTimeToRank           // too little time left: the built-in arbitration ranked
	StepProfileUnreadable      // decided without the profile
	StepFallback               // nothing could be offered: the slate is the fallback
	StepStrategySuspended      // it kept failing and was not called: the built-in arbitration ranked
)

// Degradation is a step down that was taken, and why.
type Degradation struct {
	Step Step
	Err  error // nil where the step says all
}

// Answer is the outcome of a decision. It can be reused: Decide overwrites it
// and keeps the memory of its slices.
type Answer struct {
	Slate []Placement // best first

	// Reasons has one reason for each of Touchpoint.Candidates.
	Reasons []Reason
	// Funnel counts candidates by reason.
	Funnel [reasonCount]int

	RankedBy     RankerInfo
	Degradations []Degradation

	// What the strategy was given and what it used, also if it failed.
	FuelLimit, FuelUsed int64
}

// Candidates returns how many candidates there were.
func (a *Answer) Candidates() int { return len(a.Reasons) }

// Eligible returns how many candidates the rules let through.
func (a *Answer) Eligible() int {
	return a.Funnel[ReasonOffered] + a.Funnel[ReasonRankedBelow] + a.Funnel[ReasonVetoed]
}

// Ranked returns how many candidates were ranked and not vetoed.
func (a *Answer) Ranked() int { return a.Funnel[ReasonOffered] + a.Funnel[ReasonRankedBelow] }

// Placement is an offer on the slate.
type Placement struct {
	Offer   int // in Compiled.Offers
	Channel int // in Compiled.Channels
	Content string
	Score   float64
	Reason  string // why it was ranked so, in the strategy's words; may be empty

	// The parts of standard arbitration.
	Propensity, Value, Weight, Lever float64

	Fallback bool // it is the scenario's fallback
}
