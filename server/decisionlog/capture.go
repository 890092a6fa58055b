package decisionlog

import (
	"slices"

	"github.com/oklog/ulid/v2"

	"rapport/profilestore"
	"rapport/server/catalog"
	"rapport/server/decide"
)

// Decision is what was decided, as it is handed over to be kept. Nothing of it may be
// changed after that, and nothing of it may be memory that is reused: it is read later,
// so that a decision waits for no writing.
type Decision struct {
	ID       ulid.ULID
	Identity string
	View     *profilestore.View // nil if it could not be read
	Blocked  bool
	Took     int64 // microseconds

	Catalog *catalog.Compiled
	Reads   *Reads
	Tables  []Version

	Request *decide.Request
	Met     bool // what others had promised was read
	Many    bool // it is DecideMany's
	One     bool // its one
	At      []decide.At
	Answers []decide.Answer
	Places  []PlaceAsked

	// Detail says why a step down of an answer was taken, for people.
	Detail func(at int, d decide.Degradation) string
}

// Reads are what decisions of a catalogue and its strategies can read.
type Reads struct {
	slots   []int
	names   []string // of the profile fields at slots
	context []string // the context fields
}

// NewReads returns the context fields of a catalogue and the profile fields at the slots
// of its schema that are set.
func NewReads(c *catalog.Compiled, set []bool) *Reads {
	r := new(Reads)
	for slot, f := range c.Schema.Fields() {
		if set[slot] {
			r.slots = append(r.slots, slot)
			r.names = append(r.names, f.Name)
		}
	}
	for i := range c.Context {
		r.context = append(r.context, c.Context[i].Name)
	}
	return r
}

// Names returns the names of the fields, in the order of the schema. Do not modify.
func (r *Reads) Names() []string { return r.names }

// Record fills r with what is to be kept of a decision. It shares memory with both.
func (d *Decision) Record(r *Record) {
	q := d.Request
	*r = Record{
		ID: d.ID, Pipeline: Pipeline, Time: q.Now, Took: d.Took, Seed: q.Seed,
		Identity: d.Identity, Customer: d.Identity, Hash: q.Customer, Blocked: d.Blocked,
		Catalog: d.Catalog.Version, Schema: d.Catalog.Schema.ID(), Tables: d.Tables,
		Fields: d.Reads.names, Values: r.Values[:0], History: q.History,
		Pending: q.Pending, PendingRead: d.Met, ContextFields: d.Reads.context, Context: q.Context, Loads: r.Loads[:0], Places: d.Places,
		Evidence: evidenceOf(d.Catalog, q.Evidence, r.Evidence),
		Many:     d.Many, OneContact: d.One, At: r.At[:0],
	}
	if d.View != nil && !d.Blocked {
		r.Customer = d.View.Customer()
	}
	for i, load := range q.Loads {
		if load != 0 {
			r.Loads = append(r.Loads, Load{d.Catalog.Channels[i].ID, load})
		}
	}
	if q.Unreserved != nil {
		r.Unreserved = q.Unreserved.Error()
	}
	if q.Profile != nil {
		r.Profile = stateOf(d.View, d.Catalog.Schema)
		for _, slot := range d.Reads.slots {
			r.Values = append(r.Values, q.Profile.Get(slot))
		}
	}
	for i := range d.At {
		r.At = append(r.At, touchpointOf(d.Catalog, d.At[i], &d.Answers[i], func(x decide.Degradation) string { return d.Detail(i, x) }))
	}
}

// evidenceOf returns a reading in terms of a catalogue, which is its own: last, if that is
// of the same. One in which there is nothing is none.
func evidenceOf(c *catalog.Compiled, from *decide.Evidence, last *Evidence) *Evidence {
	switch {
	case from == nil || len(from.Counts) == 0:
		return nil
	case last != nil && last.from == from:
		return last
	}
	e := &Evidence{Number: from.Number, Counts: make([]EvidenceCount, len(from.Counts)), from: from}
	for i, x := range from.Counts {
		e.Counts[i] = EvidenceCount{c.Offers[x.Offer].ID, c.Channels[x.Channel].ID, x.Presented, x.Successes}
	}
	return e
}

func stateOf(v *profilestore.View, schema *profilestore.Schema) *ProfileState {
	if v == nil {
		return new(ProfileState)
	}
	s := &ProfileState{Known: v.Known(), DeltaVersion: v.DeltaVersion(), IdentityEpoch: v.IdentityEpoch()}
	for i, source := range schema.Sources() {
		if snap, hasRow := v.Snapshot(i); snap != nil {
			s.Snapshots = append(s.Snapshots, Snapshot{source.ID, snap.Generation(), hasRow})
		}
	}
	return s
}

// touchpointOf returns the question and answer at a touchpoint.
func touchpointOf(c *catalog.Compiled, at decide.At, a *decide.Answer, detail func(decide.Degradation) string) Touchpoint {
	t := Touchpoint{
		ID: c.Touchpoints[at.Touchpoint].ID, Slots: at.Slots,
		Strategy: rankerOf(&a.Strategy), RankedBy: rankerOf(&a.RankedBy), FuelLimit: a.FuelLimit, FuelUsed: a.FuelUsed,
		Reasons: a.Reasons, Details: a.Details,
	}
	if n := c.Touchpoints[at.Touchpoint].Scenario; n >= 0 {
		t.Scenario = c.Scenarios[n].ID
	}
	for _, x := range a.Degradations {
		t.Degradations = append(t.Degradations, Degradation{x.Step, detail(x)})
	}
	t.Slate = slices.Grow(t.Slate, len(a.Slate))
	for i := range a.Slate {
		p := &a.Slate[i]
		t.Slate = append(t.Slate, Placement{
			Offer: c.Offers[p.Offer].ID, Channel: c.Channels[p.Channel].ID, Content: p.Content, Script: p.Script,
			Score: p.Score, Reason: p.Reason, Propensity: p.Propensity, Value: p.Value, Weight: p.Weight, Lever: p.Lever,
			Probability: p.Probability, Fallback: p.Fallback,
		})
	}
	return t
}

func rankerOf(i *decide.RankerInfo) Ranker { return Ranker{i.Name, i.Version, i.Digest} }
