package whynot

import (
	"fmt"
	"slices"

	"rapport/profilestore"
	"rapport/profilestore/rules"
	"rapport/server/catalog"
	"rapport/server/decide"
	"rapport/server/decisionlog"
)

// maxDeciders is how many deciders of changed catalogues are kept.
const maxDeciders = 16

// apply returns the inputs of the decision with changes, and what decides from them.
func (s *search) apply(set changes) (*decisionlog.Inputs, *decide.Decider, error) {
	in := s.q.Inputs.Clone()
	d, err := s.decider(set)
	if err != nil {
		return nil, nil, err
	}
	in.Catalog = d.Catalog()
	Apply(in, s.q.At, set)
	return in, d, nil
}

// decider returns what decides from the catalogue with changes.
func (s *search) decider(set changes) (*decide.Decider, error) {
	w := WhatIf(s.c, set)
	if w.Empty() {
		return s.q.Decider, nil
	}
	key := fmt.Sprint(*w) // maps are printed in order
	if d, ok := s.deciders[key]; ok {
		return d, nil
	}
	d, err := decide.New(s.c.WhatIf(w), make([]decide.Ranker, len(s.c.Scenarios)))
	if err != nil {
		return nil, err
	}
	if len(s.deciders) >= maxDeciders {
		clear(s.deciders)
	}
	s.deciders[key] = d
	return d, nil
}

// WhatIf returns what a catalogue says otherwise with changes.
func WhatIf(c *catalog.Compiled, set []Change) *catalog.WhatIf {
	w := new(catalog.WhatIf)
	for i := range set {
		x := &set[i]
		switch x.Kind { //nolint:exhaustive // the others change no catalogue
		case KindBoost:
			w.Boosts = map[int]float64{x.index: x.To.Number()}
		case KindValue:
			w.Values = map[int]float64{x.index: x.To.Number()}
		case KindValidity:
			w.Endless = append(w.Endless, x.index)
		case KindWithdraw:
			w.Withdrawn = append(w.Withdrawn, x.index)
		case KindControlGroup:
			w.NoControl = true
		case KindSlots:
			if n := int(x.To.Number()); n > c.Touchpoints[x.index].Slots {
				w.Slots = map[int]int{x.index: n}
			}
		}
	}
	return w
}

// Apply changes the inputs of a decision as changes say, those of its catalogue and of
// capacities aside. at is the touchpoint that the question was about.
func Apply(in *decisionlog.Inputs, at int, set []Change) {
	for i := range set {
		x := &set[i]
		switch x.Kind { //nolint:exhaustive // the others change the catalogue
		case KindWait:
			in.Request.Now = x.To.Micros()
			in.Request.History = in.Request.History.At(in.Request.Now)
		case KindContext:
			in.Request.Context[x.index] = x.To
		case KindLoad:
			in.Request.Loads[x.index] = x.To.Number()
		case KindField, KindConsent, KindDoNotDisturb:
			in.Values[x.index], in.Kept[x.index] = x.To, true
		case KindSlots:
			if in.At[at].Slots > 0 {
				in.At[at].Slots = int(x.To.Number())
			}
		}
	}
	if slices.ContainsFunc(set, func(x Change) bool { return x.Kind == KindAlone }) {
		in.At, in.Many, in.One = in.At[at:at+1], false, false
	}
}

// room lets the decision ask for places of capacities. A place of a capacity that is to
// become free is there. Of another, it is as the readings of the question say or as the
// decision found it; of one that it did not ask for, or in another period, nothing is
// known, and it is taken to be there.
func (s *search) room(in *decisionlog.Inputs, set changes, assumed *[]string) {
	base := s.q.Inputs
	r := &freed{c: s.c, set: set, assumed: assumed}
	if base.Room == nil {
		r.kept, r.asked = in.Places, make(map[decisionlog.PlaceKey]int)
		r.then, r.now = base.Request.Now, in.Request.Now
	}
	room := base.Room
	in.Room = func(now int64) decide.Places {
		if room != nil {
			r.places = room(now)
		}
		return r
	}
}

// freed are places of capacities of which some have become free. It implements
// decide.Places.
type freed struct {
	c       *catalog.Compiled
	set     changes
	places  decide.Places // nil: what the record has
	kept    map[decisionlog.PlaceKey][]bool
	asked   map[decisionlog.PlaceKey]int
	then    int64
	now     int64
	assumed *[]string
}

// Take says whether there is a place.
func (f *freed) Take(capacity, offer, channel int) bool {
	x := &f.c.Capacities[capacity]
	switch {
	case f.set.find(KindCapacity, capacity) != nil:
		return true
	case f.places != nil:
		return f.places.Take(capacity, offer, channel)
	}
	zone := f.c.Clock.Zone
	key := decisionlog.PlaceKey{Capacity: x.ID, Offer: f.c.Offers[offer].ID, Channel: f.c.Channels[channel].ID}
	i := f.asked[key]
	f.asked[key]++
	if kept := f.kept[key]; i < len(kept) && x.Period.Begin(f.then, zone) == x.Period.Begin(f.now, zone) {
		return kept[i]
	}
	if text := "capacity " + x.ID + " has a place"; !slices.Contains(*f.assumed, text) {
		*f.assumed = append(*f.assumed, text)
	}
	return true
}

// Return implements decide.Places.
func (f *freed) Return(capacity, offer, channel int) {
	if f.places != nil && f.set.find(KindCapacity, capacity) == nil {
		f.places.Return(capacity, offer, channel)
	}
}

// world is what conditions read with some changes: it can be changed further, one value
// at a time, to try them.
type world struct {
	in *decisionlog.Inputs
}

// Get implements rules.Profile.
func (w *world) Get(slot int) profilestore.Value { return w.in.Values[slot] }

// inputs are what conditions read.
func (w *world) inputs() rules.Inputs {
	in := rules.Inputs{Context: w.in.Request.Context, Tables: w.in.Request.Tables, Now: w.in.Request.Now}
	if w.in.Values != nil {
		in.Profile = w
	}
	return in
}
