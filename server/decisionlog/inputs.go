package decisionlog

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"rapport/profilestore"
	"rapport/server/catalog"
	"rapport/server/decide"
)

// Inputs are what a decision was made from, put before package decide again. A what-if
// changes them before it decides. They are not safe for concurrent use; [Inputs.Clone]
// makes others.
type Inputs struct {
	Catalog *catalog.Compiled
	Request decide.Request // its Profile, History, Places and Context are those below
	At      []decide.At    // their rankers are nil: who ranks is for the caller to say
	Many    bool
	One     bool

	// Values are the profile by slot of the catalogue's schema; nil: it could not be read.
	Values []profilestore.Value
	// Kept says of which slots the record has the value.
	Kept []bool
	// Places has what came of asking for a place, by what was asked, in order.
	Places map[PlaceKey][]bool
	// Room, if not nil, returns capacities to ask in place of Places, for one decision at
	// a time.
	Room func(now int64) decide.Places

	pendingRead bool
	missing     map[string]bool // what was asked for and is not in the record
	asked       map[PlaceKey]int
}

// PlaceKey is a place of a capacity that is asked for, by their ids.
type PlaceKey struct{ Capacity, Offer, Channel string }

// Inputs returns what a decision was made from, in terms of a catalogue: that which it
// was made with, or another. What that names and this has not is an error, as is what the
// record has and the catalogue does not know: then it can't be asked.
func (r *Record) Inputs(c *catalog.Compiled) (*Inputs, error) {
	in := &Inputs{
		Catalog: c, Many: r.Many || r.OneContact || len(r.At) != 1, One: r.OneContact,
		Request: decide.Request{
			Now: r.Time, Seed: r.Seed, Customer: r.Hash, History: r.History, Pending: r.Pending, Dry: true,
		},
		Places:      make(map[PlaceKey][]bool),
		pendingRead: r.PendingRead,
	}
	for i := range r.At {
		x := &r.At[i]
		at, ok := c.Touchpoint(x.ID)
		if !ok {
			return nil, fmt.Errorf("catalogue version %d has no touchpoint %s", c.Version, x.ID)
		}
		in.At = append(in.At, decide.At{Touchpoint: at, Slots: x.Slots, Fuel: x.FuelLimit})
	}
	if r.Unreserved != "" {
		in.Request.Unreserved = errors.New(r.Unreserved)
	}
	if r.Profile != nil {
		in.Values = make([]profilestore.Value, len(c.Schema.Fields()))
		in.Kept = make([]bool, len(in.Values))
		for i, name := range r.Fields {
			if slot, ok := c.Schema.Lookup(name); ok {
				in.Values[slot], in.Kept[slot] = r.Values[i], true
			}
		}
	}
	for _, p := range r.Places {
		key := PlaceKey{p.Capacity, p.Offer, p.Channel}
		in.Places[key] = append(in.Places[key], p.Taken)
	}
	return in, in.byName(r)
}

// byName takes over what catalogues know by place: context fields, which have their
// defaults where the record does not know them, and loads of channels.
func (in *Inputs) byName(r *Record) error {
	c := in.Catalog
	in.Request.Context = make([]profilestore.Value, len(c.Context))
	for i := range c.Context {
		f := &c.Context[i]
		in.Request.Context[i] = f.Default
		k := slices.Index(r.ContextFields, f.Name)
		if k < 0 {
			continue
		}
		if v := r.Context[k]; v.Known() && v.Kind() != f.Kind {
			return fmt.Errorf("context.%s is a %s in catalogue version %d, the decision had a %s", f.Name, f.Kind, c.Version, v.Kind())
		}
		in.Request.Context[i] = r.Context[k]
	}
	in.Request.Loads = make([]float64, len(c.Channels))
	for i := range c.Channels {
		for _, x := range r.Loads {
			if x.Channel == c.Channels[i].ID {
				in.Request.Loads[i] = x.Value
			}
		}
	}
	var err error
	in.Request.Evidence, err = r.Evidence.in(c)
	return err
}

// Clone returns inputs that can be changed without regard to in.
func (in *Inputs) Clone() *Inputs {
	out := *in
	out.At = slices.Clone(in.At)
	out.Values, out.Kept = slices.Clone(in.Values), slices.Clone(in.Kept)
	out.Request.Context = slices.Clone(in.Request.Context)
	out.Request.Loads = slices.Clone(in.Request.Loads)
	out.Request.Pending = slices.Clone(in.Request.Pending)
	out.Places = make(map[PlaceKey][]bool, len(in.Places))
	for k, v := range in.Places {
		out.Places[k] = slices.Clone(v)
	}
	return &out
}

// Decide decides from the inputs and returns the answers, one for each of At. missing is
// what the decision needed and the record does not have, in words, ascending: with any of
// it the answers are not what would have been answered.
func (in *Inputs) Decide(ctx context.Context, d *decide.Decider) (answers []decide.Answer, missing []string) {
	in.missing, in.asked = nil, make(map[PlaceKey]int)
	if len(in.Catalog.Policies) > 0 && !in.pendingRead && in.Request.Unreserved == nil {
		in.miss("the contacts that other decisions had promised")
	}
	r := in.Request
	if in.Values != nil {
		r.Profile = (*keptProfile)(in)
	}
	if r.Places = (*keptPlaces)(in); in.Room != nil && r.Unreserved == nil {
		r.Places = in.Room(r.Now)
	}
	answers = make([]decide.Answer, len(in.At))
	if in.Many {
		d.DecideMany(ctx, &r, in.At, in.One, answers)
	} else {
		r.At = in.At[0]
		d.Decide(ctx, &r, &answers[0])
	}
	for what := range in.missing {
		missing = append(missing, what)
	}
	slices.Sort(missing)
	return answers, missing
}

func (in *Inputs) miss(format string, args ...any) {
	if in.missing == nil {
		in.missing = make(map[string]bool)
	}
	in.missing[fmt.Sprintf(format, args...)] = true
}

// keptProfile is the profile of a record. It implements rules.Profile.
type keptProfile Inputs

// Get returns the value that was kept.
func (p *keptProfile) Get(slot int) profilestore.Value {
	if !p.Kept[slot] {
		(*Inputs)(p).miss("the profile field %s", p.Catalog.Schema.Fields()[slot].Name)
	}
	return p.Values[slot]
}

// keptPlaces are the capacities as they were. It implements decide.Places.
type keptPlaces Inputs

// Take says what came of asking then.
func (p *keptPlaces) Take(capacity, offer, channel int) bool {
	in := (*Inputs)(p)
	if in.Request.Unreserved != nil {
		return false
	}
	key := PlaceKey{p.Catalog.Capacities[capacity].ID, p.Catalog.Offers[offer].ID, p.Catalog.Channels[channel].ID}
	i := in.asked[key]
	in.asked[key]++
	if i < len(in.Places[key]) {
		return in.Places[key][i]
	}
	in.miss("a place of capacity %s for offer %s in channel %s", key.Capacity, key.Offer, key.Channel)
	return false
}

// Return implements decide.Places.
func (*keptPlaces) Return(int, int, int) {}
