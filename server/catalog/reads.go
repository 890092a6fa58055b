package catalog

import "rapport/profilestore/rules"

// Reads returns which profile fields a decision of the catalogue can read, by slot of the
// schema: those of its rules, computed texts and contact rules, but not those that a
// strategy reads.
func (c *Compiled) Reads() []bool {
	set := make([]bool, len(c.Schema.Fields()))
	add := func(slots ...int) {
		for _, slot := range slots {
			if slot >= 0 {
				set[slot] = true
			}
		}
	}
	for i := range c.Rules.Conditions() {
		add(c.Rules.Reads(i).Slots...)
	}
	for _, s := range c.Scenarios {
		add(s.Choice.Preferred, s.Choice.Persona)
		for i := range s.Candidates {
			add(s.Candidates[i].Content.Reads().Slots...)
			add(s.Candidates[i].Script.Reads().Slots...)
		}
	}
	for i := range c.Channels {
		add(c.Channels[i].Consent, c.Channels[i].DoNotDisturb)
	}
	for i := range c.Offers {
		add(c.Offers[i].Propensity.Slot)
	}
	add(c.Clock.Slot)
	return set
}

// Reads returns what the computed parts of a text read.
func (t *Template) Reads() rules.Reads {
	var r rules.Reads
	if t == nil {
		return r
	}
	for _, p := range t.parts {
		if p.expr != nil {
			r = r.Join(p.expr.Reads())
		}
	}
	return r
}
