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
	At              // what Decide answers; DecideMany is told by its own arguments
	Now      int64  // microseconds since the Unix epoch
	Seed     uint64 // decides ties, and the strategy's random numbers
	Customer uint64 // a hash of who it is; for Chooser.Choose

	// Profile is the customer's profile; nil if it could not be read. Of a
	// customer of whom nothing is known it is a profile of unknown values.
	Profile rules.Profile

	// History is what the customer met before. Pending are the contacts that were
	// decided and neither reported nor given up: they count as if they had happened.
	// Both are empty where the profile could not be read.
	History profilestore.History
	Pending []Contact

	// Loads are the reported loads of channels, by their place in Compiled.Channels;
	// those missing are 0.
	Loads []float64

	// Evidence is what came of the offers that learn their propensity, for the
	// catalogue of the decider; nil: nothing yet.
	Evidence *Evidence

	// Places are the capacities of the catalogue; nil: all have room.
	Places Places

	// Unreserved is why contacts can't be reserved, nil if they can. Then how often the
	// customer is contacted can't be limited, and what must be is not offered.
	Unreserved error

	// Context holds the context fields of the catalogue, by their place in
	// Compiled.Context, defaults filled in.
	Context []profilestore.Value

	// Tables are the versions of the reference tables that rules and texts read; nil:
	// no table has a row.
	Tables rules.TableSet

	// Deadline is when the answer must be there; zero: never.
	Deadline time.Time

	Dry bool // a dry run: it has no effect on any other decision

	// Observe, if not nil, is called for each touchpoint whose candidates have been
	// ranked, with its place in the question, for those who explain: the ranking is
	// filled and its candidates stand at places in Touchpoint.Candidates. Nothing of
	// the two may be changed, or kept after the call.
	Observe func(at int, q *Ranking, places []int32)
}

// At is a touchpoint that a question names, and how it is to be answered.
type At struct {
	Touchpoint int // in Compiled.Touchpoints
	Slots      int // at most so many offers; 0: as many as the touchpoint has

	// Ranker ranks in place of the scenario's; nil: the scenario's. A replay gives
	// who ranked then.
	Ranker Ranker
	// Fuel is the most that the strategy may use; 0: what its limit and the
	// deadline allow. A replay gives what Answer.FuelLimit was.
	Fuel int64
}

// Contact is one slate in one channel.
type Contact struct {
	Time                int64  // microseconds since the Unix epoch
	Channel, Touchpoint string // several touchpoints are joined as by profilestore.JoinTouchpoints
	Items               []profilestore.Item
}

// Places are the places that the capacities of a catalogue have left.
type Places interface {
	// Take takes a place of a capacity for an offer in a channel, by their places in
	// Compiled.Capacities, Offers and Channels, and reports false where none is left.
	Take(capacity, offer, channel int) bool
	// Return gives back what the same decision took.
	Return(capacity, offer, channel int)
}

// Reason says what became of a candidate. It is one byte, carried through the
// pipeline beside each candidate.
type Reason uint8

// The reasons. The numbers are those of the API.
const (
	ReasonNone              Reason = iota
	ReasonOffered                  // it is on the slate
	ReasonNotEligible              // its rule is false
	ReasonUnknown                  // its rule needs a value that is not known
	ReasonRuleError                // its rule could not be evaluated
	ReasonProfileUnreadable        // failed closed, since the profile could not be read
	ReasonVetoed                   // by the strategy
	ReasonRankedBelow              // the slots were full
	ReasonOwned                    // the customer has it
	ReasonNotValid                 // before its time, or after
	ReasonPrerequisite             // something has to come first
	ReasonDoNotDisturb             // the customer wants no contact in the channel
	ReasonNoConsent                // the customer has not agreed to marketing in the channel
	ReasonQuietDeferred            // it waits for the hours of the channel
	ReasonCapped                   // a contact policy's limit is reached
	ReasonCapacity                 // no place is left
	ReasonControlGroup             // the customer is in the control group
	ReasonOtherChannel             // the offer is made in another channel
	ReasonExcluded                 // something on the slate excludes it
	ReasonBelowMinimum             // its score is too low
	ReasonOtherTouchpoint          // the offer is made at another touchpoint of the channel
	ReasonNotReserved              // failed closed, since contacts can't be reserved
	reasonCount
)

var reasonNames = [reasonCount]string{
	"NONE", "OFFERED", "NOT_ELIGIBLE", "UNKNOWN", "RULE_ERROR", "PROFILE_UNREADABLE", "VETOED", "RANKED_BELOW", "OWNED",
	"NOT_VALID", "PREREQUISITE", "DO_NOT_DISTURB", "NO_CONSENT", "QUIET_DEFERRED", "CAPPED", "CAPACITY", "CONTROL_GROUP",
	"OTHER_CHANNEL", "EXCLUDED", "BELOW_MINIMUM", "OTHER_TOUCHPOINT", "NOT_RESERVED",
}

// String returns the name of the reason as the API spells it, without REASON_.
func (r Reason) String() string { return reasonNames[r] }

// Ranked reports whether a candidate with this reason was ranked.
func (r Reason) Ranked() bool { return r.stage() >= stageRanking }

// Valid reports whether it is one of the reasons.
func (r Reason) Valid() bool { return r < reasonCount }

// Reasons returns all reasons that there are, ReasonNone first.
func Reasons() []Reason {
	out := make([]Reason, reasonCount)
	for i := range out {
		out[i] = Reason(i)
	}
	return out
}

// stage says how far a candidate with a reason came.
func (r Reason) stage() stage {
	switch r {
	case ReasonNotEligible, ReasonUnknown, ReasonRuleError, ReasonProfileUnreadable, ReasonOwned, ReasonNotValid, ReasonPrerequisite:
		return stageRules
	case ReasonDoNotDisturb, ReasonNoConsent, ReasonQuietDeferred, ReasonCapped, ReasonControlGroup, ReasonNotReserved:
		return stagePolicy
	case ReasonVetoed:
		return stageRanking
	case ReasonOffered, ReasonRankedBelow, ReasonCapacity, ReasonOtherChannel, ReasonExcluded, ReasonBelowMinimum, ReasonOtherTouchpoint:
		return stageSlate
	case ReasonNone, reasonCount:
	}
	return stageRules
}

// stage is a part of the pipeline.
type stage uint8

const (
	stageRules stage = iota
	stagePolicy
	stageRanking
	stageSlate
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
	StepNotReserved            // contacts could not be reserved: what must be limited is not offered
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
	// Details say more of some candidates that were withheld, ascending by place.
	Details []Detail

	// Strategy is who was to rank, RankedBy who did.
	Strategy, RankedBy RankerInfo
	Degradations       []Degradation

	// What the strategy was given and what it used, also if it failed.
	FuelLimit, FuelUsed int64
}

// Candidates returns how many candidates there were.
func (a *Answer) Candidates() int { return len(a.Reasons) }

// Eligible returns how many candidates the rules let through.
func (a *Answer) Eligible() int { return a.reached(stagePolicy) }

// Allowed returns how many the contact policies let through too.
func (a *Answer) Allowed() int { return a.reached(stageRanking) }

// Ranked returns how many candidates were ranked and not vetoed.
func (a *Answer) Ranked() int { return a.reached(stageSlate) }

func (a *Answer) reached(s stage) int {
	n := 0
	for r, count := range a.Funnel {
		if Reason(r).stage() >= s {
			n += count
		}
	}
	return n
}

// Detail says more of a candidate that was withheld.
type Detail struct {
	Place int    // in Touchpoint.Candidates
	By    string // the policy, contact hours, capacity or offer that withheld it
	// Until is when this ends, microseconds since the Unix epoch; 0 if that is not known.
	Until int64
}

// Placement is an offer on the slate.
type Placement struct {
	Offer   int // in Compiled.Offers
	Channel int // in Compiled.Channels
	Content string
	Script  string // for staff; may be empty
	Score   float64
	Reason  string // why it was ranked so, in the strategy's words; may be empty

	// The parts of standard arbitration.
	Propensity, Value, Weight, Lever float64

	// Probability is with which the place was filled with this offer, given the places
	// above: one of as many as were equally good, times what the ranker says of its own
	// draws.
	Probability float64

	Fallback bool // it is the scenario's fallback
}
