package catalog

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
			add(s.Candidates[i].Content.reads()...)
			add(s.Candidates[i].Script.reads()...)
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

// reads returns the slots that the computed parts of a template read.
func (t *Template) reads() []int {
	if t == nil {
		return nil
	}
	var slots []int
	for i := range t.parts {
		if expr := t.parts[i].expr; expr != nil {
			slots = append(slots, expr.Reads().Slots...)
		}
	}
	return slots
}
