package catalog

import (
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

	// Rules holds every condition of the catalogue once; Offer.Eligible and
	// Segment.When refer to it.
	Rules *rules.Table

	touchpoint map[string]int
	context    map[string]int
}

// Touchpoint returns the place of a touchpoint in Touchpoints, or false.
func (c *Compiled) Touchpoint(id string) (int, bool) {
	i, ok := c.touchpoint[id]
	return i, ok
}

// ContextField returns the place of a context field in Context, or false.
func (c *Compiled) ContextField(name string) (int, bool) {
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
}

// Segment is a named group of customers. Rules that name it have its conditions.
type Segment struct {
	ID          string
	Description string
	Owner       string
	Text        string     // of the condition, as written
	When        rules.Rule // reads the profile and the time only
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
	Lever      float64 // 1 + boost/100
	Eligible   rules.Rule
	Attributes map[string]profilestore.Value // for strategies; holds value too
}

// Propensity is where the probability of acceptance comes from.
type Propensity struct {
	Slot  int     // of the profile field, or −1
	Start float64 // the constant, and what stands where the field is unknown
}

// Candidate is an offer in a channel, as it competes in a scenario.
type Candidate struct {
	Offer   int // in Compiled.Offers
	Channel int // in Compiled.Channels
	Content string
	Weight  float64 // context weight of the offer's group in the scenario
}

// Scenario says which candidates compete and who ranks them.
type Scenario struct {
	ID         string
	Strategy   *StrategyUse // nil: the built-in arbitration
	Candidates []Candidate  // by offer, then by channel, in catalogue order
}

// StrategyUse names the strategy of a scenario.
type StrategyUse struct {
	Name       string
	Version    string // or "live"
	Parameters map[string]float64
}
