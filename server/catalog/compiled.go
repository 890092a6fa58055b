package catalog

import (
	"slices"
	"time"

	"rapport/profilestore"
	"rapport/profilestore/rules"
)

// Class says what binds an offer: see the words of the README.
type Class uint8

// The classes, in the order of their precedence.
const (
	ClassService   Class = iota // a notice owed to the customer
	ClassCare                   // bound by do-not-disturb and quiet hours
	ClassMarketing              // bound by all contact policy
)

var classNames = [...]string{"service", "care", "marketing"}

// String returns the class as catalogue files spell it.
func (c Class) String() string { return classNames[c] }

// Compiled is a catalogue that decisions can be made from: names resolved to
// indexes, rules compiled, candidates laid out by scenario. It is immutable and
// safe for concurrent use.
type Compiled struct {
	Version     int64 // the number it was published under; 0 before that
	Schema      *profilestore.Schema
	Context     []ContextField
	Channels    []Channel
	Touchpoints []Touchpoint
	Offers      []Offer
	Scenarios   []*Scenario
	Segments    []Segment
	// DecisionTables are the decision tables, in the places that
	// rules.Evaluation.Decide and rules.Reads.Decisions mean.
	DecisionTables []DecisionTable
	Policies       []Policy
	Capacities     []Capacity
	Clock          Clock
	Control        ControlGroup

	// Rules holds every condition of the catalogue once; every rules.Rule in here
	// refers to it.
	Rules *rules.Table

	touchpoint map[string]int
	context    map[string]int
	learners   int
}

// Touchpoint returns the place of a touchpoint in Touchpoints, or false.
func (c *Compiled) Touchpoint(id string) (int, bool) {
	i, ok := c.touchpoint[id]
	return i, ok
}

// ContextField returns the place of a context field in Context, or false.
func (c *Compiled) ContextField(name string) (int, bool) {
	if c.context == nil { // it was not made by Compile
		i := slices.IndexFunc(c.Context, func(f ContextField) bool { return f.Name == name })
		return i, i >= 0
	}
	i, ok := c.context[name]
	return i, ok
}

// ContextField is a value that a request may carry.
type ContextField struct {
	Name    string
	Kind    profilestore.Kind
	Default profilestore.Value // Unknown if it has none
}

// Channel is a way to make contact.
type Channel struct {
	ID         string
	Outbound   bool
	Cost       float64
	Attributes map[string]profilestore.Value // for strategies; holds cost too

	Consent      int       // the slot of the flag that allows marketing; −1: none is needed
	DoNotDisturb int       // the slot of the flag that forbids care and marketing; −1: none
	QuietHours   *DayTimes // nil: none
	ContactHours []ContactHours
	Hold         time.Duration // how long a slate holds its places

	// At a reported load of PressureAbove or more the weight of the channel's
	// candidates is multiplied by PressureWeight. HasPressure says whether it ever is.
	HasPressure                   bool
	PressureAbove, PressureWeight float64
}

// DayTimes is a part of the day by the customer's clock, in minutes from midnight,
// From in it and Until not. One with Until before From goes over midnight; with both
// the same it is the whole day.
type DayTimes struct{ From, Until int }

// Contains reports whether a minute of the day, 0 to 1439, is in it.
func (d DayTimes) Contains(minute int) bool {
	if d.From < d.Until {
		return minute >= d.From && minute < d.Until
	}
	return minute >= d.From || minute < d.Until
}

// ContactHours are the hours for some customers.
type ContactHours struct {
	ID    string
	When  rules.Rule
	Hours DayTimes
}

// Segment is a named group of customers. Rules that name it have its conditions.
type Segment struct {
	ID          string
	Label       string // what is true of who is in it, in words; may be empty
	Description string
	Owner       string
	Text        string     // of the condition, as written
	When        rules.Rule // reads the profile and the time only
}

// DecisionTable is a decision table as it was written, with its rows compiled: see
// [rules.DecisionTable].
type DecisionTable struct {
	ID          string
	Label       string // what its result is, in words; may be empty
	Description string
	Owner       string
	Inputs      []string
	Rows        []DecisionRow
	Default     profilestore.Value // Unknown: none
}

// DecisionRow is a row of a decision table.
type DecisionRow struct {
	Cells  []string // as written, one for each input
	When   rules.Rule
	Result profilestore.Value
}

// Touchpoint is a place in a channel.
type Touchpoint struct {
	ID       string
	Channel  int // in Compiled.Channels
	Slots    int
	Scenario int // in Compiled.Scenarios; −1 where no scenario answers for it

	// Candidates are the candidates of the scenario that compete here, by their
	// place in Scenario.Candidates, ascending.
	Candidates []int32

	// Staff says that staff see it, not the customer. Cards are what they see of the
	// profile, by role.
	Staff bool
	Cards []Card

	formats []string

	// Fallback is the scenario's fallback offer in the touchpoint's channel, to
	// answer with when nothing else can be; nil if it has none.
	Fallback *Candidate
}

// Offer is a product, or an act of care.
type Offer struct {
	ID         string
	Group      string
	Class      Class
	Value      float64
	Propensity Propensity
	Lever      float64    // 1 + boost/100, times those of its group and issue
	Boost      float64    // its own, percent
	Boosts     []Boost    // of which Lever is made, those that are not 0
	Eligible   rules.Rule // with those of its group and issue

	Owned        rules.Rule // the customer has it already; only if HasOwned
	HasOwned     bool
	Prerequisite rules.Rule // what has to hold first

	// From when and until when it may be offered, microseconds since the Unix epoch;
	// 0: no bound.
	ValidFrom, ValidUntil int64

	GroupIndex int // a number for its group

	Exclusive int   // of the offers with the same number one may be on a slate; −1: none
	Excludes  []int // offers that are not on a slate with it, by their places, ascending; symmetrical
	HeldBack  bool  // not for the control group

	Attributes map[string]profilestore.Value // for strategies; holds value too

	above float64 // the levers of its group and issue
}

// Boost lifts an offer by the wish of the business.
type Boost struct {
	Of      string // `offer ID`, `group ID` or `issue ID`
	Percent float64
}

// Propensity is where the probability of acceptance comes from.
type Propensity struct {
	Slot  int     // of the profile field, or −1
	Start float64 // the constant, and what stands where the field is unknown

	// StartEvidence is how many presentations Start is worth where it is learned, in
	// each channel, how often Success comes of one; else 0.
	StartEvidence float64
	Success       string // an outcome
	Learner       int    // its number among the offers that learn, from 0; of no meaning in others
}

// Learned returns what is learned from how often an offer was presented and with how
// many successes, at least 0 and at most 1 whatever was reported. From nothing it is
// Start to the bit.
func (p *Propensity) Learned(presented, successes uint64) float64 {
	if presented == 0 && successes == 0 {
		return p.Start
	}
	seen := float64(p.Start*p.StartEvidence) + float64(successes)
	return min(max(seen/(p.StartEvidence+float64(presented)), 0), 1)
}

// Learners returns how many offers learn their propensity.
func (c *Compiled) Learners() int { return c.learners }

// Candidate is an offer in a channel, as it competes in a scenario.
type Candidate struct {
	Offer    int // in Compiled.Offers
	Channel  int // in Compiled.Channels
	Content  *Template
	Script   *Template // for staff; may be nil
	Format   string
	Eligible rules.Rule // in this channel
	Weight   float64    // context weight of the offer's group in the scenario

	// Policies bind it, by their places in Compiled.Policies; Capacities it takes a
	// place of, by theirs in Compiled.Capacities. Candidates share them: do not modify.
	Policies, Capacities []int32
}

// Scenario says which candidates compete and who ranks them.
type Scenario struct {
	ID         string
	Strategy   *StrategyUse // nil: the built-in arbitration
	Candidates []Candidate  // by offer, then by channel, in catalogue order

	ClassOrder   bool    // class service first, then care, then marketing
	MinimumScore float64 // −Inf: none
	// Plain says that nothing but the score decides who comes on a slate: no order of
	// classes, no minimum, no exclusion, no capacity, no text that may have no value.
	Plain  bool
	Choice ChannelChoice
}

// ChannelChoice says in which of several channels an offer is made.
type ChannelChoice struct {
	Preferred int              // the slot of the text with the preferred channel; −1: none
	Persona   int              // the slot of the text with the kind of person; −1: none
	Personas  map[string][]int // their channels, the best first
	Cheapest  bool             // where neither decides: the cheapest, else the best score
}

// StrategyUse names the strategy of a scenario.
type StrategyUse struct {
	Name       string
	Version    string // or "live"
	Parameters map[string]float64
}
