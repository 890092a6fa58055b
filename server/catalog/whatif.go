package catalog

import (
	"maps"
	"slices"
)

// WhatIf is what a catalogue says otherwise than it does, for those who ask what would
// have been decided then. Offers and touchpoints are named by their places in Compiled.
type WhatIf struct {
	Boosts    map[int]float64 // the offers' own boosts, percent
	Values    map[int]float64 // of offers; see [Compiled.WhatIf]
	Endless   []int           // offers whose time does not end, ascending
	Withdrawn []int           // offers that can't be made, ascending
	Slots     map[int]int     // of touchpoints
	NoControl bool            // nobody is in the control group
}

// Empty reports whether nothing is otherwise.
func (w *WhatIf) Empty() bool {
	return len(w.Boosts)+len(w.Values)+len(w.Endless)+len(w.Withdrawn)+len(w.Slots) == 0 && !w.NoControl
}

// Clone returns a copy that can be changed without regard to w.
func (w *WhatIf) Clone() *WhatIf {
	out := *w
	out.Boosts, out.Values, out.Slots = maps.Clone(w.Boosts), maps.Clone(w.Values), maps.Clone(w.Slots)
	out.Endless, out.Withdrawn = slices.Clone(w.Endless), slices.Clone(w.Withdrawn)
	return &out
}

// WhatIf returns the catalogue as it would be. Scenarios, rules and attributes are those
// of c, so that strategies which are bound to it can rank: one that reads an offer's
// value as an attribute goes on reading the value of c.
func (c *Compiled) WhatIf(w *WhatIf) *Compiled {
	out := *c
	out.Offers = slices.Clone(c.Offers)
	for i, boost := range w.Boosts {
		out.Offers[i].Boost, out.Offers[i].Lever = boost, c.Offers[i].LeverAt(boost)
	}
	for i, value := range w.Values {
		out.Offers[i].Value = value
	}
	for _, i := range w.Endless {
		out.Offers[i].ValidUntil = 0
	}
	for _, i := range w.Withdrawn {
		out.Offers[i].ValidUntil = longAgo
	}
	if len(w.Slots) > 0 {
		out.Touchpoints = slices.Clone(c.Touchpoints)
		for i, n := range w.Slots {
			out.Touchpoints[i].Slots = n
		}
	}
	if w.NoControl {
		out.Control.Share = 0
	}
	return &out
}

// longAgo is before every decision; 0 would be no bound.
const longAgo = -1 << 62

// LeverAt returns what the offer's lever would be with another boost of its own: to the
// bit what a catalogue with it has.
func (o *Offer) LeverAt(boost float64) float64 {
	lever := 1 + boost/100
	lever *= o.above
	return lever
}
