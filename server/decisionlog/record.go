package decisionlog

import (
	"sync"

	"github.com/oklog/ulid/v2"

	"rapport/profilestore"
	"rapport/server/catalog"
	"rapport/server/decide"
)

// Pipeline is the version of the decision's code. It rises with every change by which
// the same inputs could give another answer; a record of another version can't be
// replayed exactly, and a replay says so.
const Pipeline = 1

// Record is one decision.
//
// What of the profile it holds are the fields that the catalogue and the strategies in
// service could read, not those alone that this decision happened to read: so it can be
// made again with another strategy or catalogue, as long as that asks for no other
// field. The interaction history is held whole for the same reason; most are short.
// The frame that a strategy saw is not kept: it follows from the rest.
type Record struct {
	ID       ulid.ULID
	Pipeline int    // the version of the code that decided
	Time     int64  // by which it was decided, microseconds since the Unix epoch
	Took     int64  // microseconds of server time
	Seed     uint64 // of ties and random numbers

	Identity string // that was asked for
	Customer string // the common name of who it is; that was asked for where the profile could not be read
	Hash     uint64 // decide.Request.Customer
	Blocked  bool   // the identity means nobody

	Catalog int64  // the version
	Schema  string // the id
	Tables  []Version

	// Of the profile: which state was read, nil where it could not be, and the values.
	Profile *ProfileState
	Fields  []string             // by name, in the order of the schema
	Values  []profilestore.Value // one for each of Fields; none where the profile could not be read
	History profilestore.History

	// Pending are the contacts that others had promised, if PendingRead: where a catalogue
	// bounds nothing they are not looked at.
	Pending       []decide.Contact
	PendingRead   bool
	ContextFields []string             // the context fields of the catalogue, by name
	Context       []profilestore.Value // one for each of ContextFields
	Loads         []Load               // of channels that are not at 0
	Evidence      *Evidence            // what propensities were learned from; nil: nothing
	Places        []PlaceAsked         // in order
	Unreserved    string               // why contacts could not be reserved; empty if they could

	Many       bool // it was asked for several touchpoints, or for one contact
	OneContact bool
	At         []Touchpoint
}

// Version is a version of something that has a name.
type Version struct {
	Name   string
	Number int64
}

// ProfileState says which state of a profile was read.
type ProfileState struct {
	Known         bool // anything is known of the customer
	DeltaVersion  uint64
	IdentityEpoch uint64
	Snapshots     []Snapshot // those that are active, in the order of the schema
}

// Snapshot is a batch load that was current.
type Snapshot struct {
	Source     string
	Generation int64
	HasRow     bool // it has one for the customer
}

// Load is the reported load of a channel.
type Load struct {
	Channel string
	Value   float64
}

// Evidence is a reading of what came of the offers of a catalogue that learn their
// propensity. Decisions share it, and so do the records of a block.
type Evidence struct {
	Number uint64 // see decide.Evidence
	Counts []EvidenceCount

	from *decide.Evidence

	mu   sync.Mutex
	made map[*catalog.Compiled]*decide.Evidence
}

// EvidenceCount is what came of an offer in a channel.
type EvidenceCount struct {
	Offer, Channel       string
	Presented, Successes uint64
}

// PlaceAsked is a place of a capacity that the decision asked for.
type PlaceAsked struct {
	Capacity, Offer, Channel string
	Taken                    bool // there was one
}

// Touchpoint is the question and the answer at one touchpoint.
type Touchpoint struct {
	ID       string
	Slots    int    // as asked: 0 for as many as it has
	Scenario string // empty where none answers for it

	Strategy, RankedBy  Ranker
	FuelLimit, FuelUsed int64
	Degradations        []Degradation

	// Reasons has one for each of the touchpoint's candidates in the catalogue.
	Reasons []decide.Reason
	Details []decide.Detail
	Slate   []Placement
}

// Ranker says who ranks.
type Ranker struct{ Name, Version, Digest string }

// Degradation is a step down that was taken, and why.
type Degradation struct {
	Step   decide.Step
	Detail string
}

// Placement is an offer on the slate.
type Placement struct {
	Offer, Channel  string
	Content, Script string
	Score           float64
	Reason          string // in the strategy's words

	Propensity, Value, Weight, Lever float64

	// Probability is with which this place was filled with this offer: less than 1
	// where the draw of a seed decided.
	Probability float64
	Fallback    bool
}
