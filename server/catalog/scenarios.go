package catalog

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	rapportv1 "rapport/server/api/rapport/v1"
)

// addScenarios adds the scenarios and lays out their candidates.
func (c *compiler) addScenarios() {
	c.uses = make(map[*Scenario]origin)
	seen := make(map[string]int)
	owner := make(map[int]int) // of touchpoints, by their place in the message
	for i, m := range c.message.GetScenarios() {
		c.declare(seen, "scenarios", i, "id", "scenario", m.GetId())
		s := &Scenario{ID: m.GetId()}
		touchpoints := c.touchpointsOf(i, m, owner)
		weights := c.weightsOf(i, m)
		offers, named, resolved := c.offersOf(i, m)
		resolved = resolved && len(touchpoints) == len(m.GetTouchpoints())
		channels := make(map[int]bool)
		for _, t := range touchpoints {
			channels[c.out.Touchpoints[t].Channel] = true
		}
		for _, o := range offers {
			n := len(s.Candidates)
			for _, t := range c.treatments[o] {
				if channels[t.channel] {
					s.Candidates = append(s.Candidates, t.candidate(o, weightOf(weights, c.out.Offers[o].Group)))
				}
			}
			if j, ok := named[o]; ok && resolved && len(s.Candidates) == n && len(c.treatments[o]) > 0 {
				c.fail("scenarios", i, fmt.Sprintf("offers[%d]", j), "offer %s has no treatment in any channel of this scenario's touchpoints", m.GetOffers()[j])
			}
		}
		if c.placed += len(s.Candidates); c.placed > maxPlaced {
			c.tooMany(i)
			return
		}
		c.layOut(i, s, touchpoints, resolved)
		c.addFallback(i, m, touchpoints, weights)
		c.addStrategy(i, m, s)
		c.addChoice(i, m, s)
		c.out.Scenarios = append(c.out.Scenarios, s)
	}
}

// candidate is the treatment as it competes.
func (t *treatment) candidate(offer int, weight float64) Candidate {
	return Candidate{
		Offer: offer, Channel: t.channel, Content: t.content, Script: t.script, Format: t.format, Eligible: t.eligible, Weight: weight,
	}
}

// accepts reports whether a treatment's format can be shown at a touchpoint.
func (t *Touchpoint) accepts(format string) bool {
	return len(t.formats) == 0 || format == "" || slices.Contains(t.formats, format)
}

// touchpointsOf resolves the touchpoints of a scenario.
func (c *compiler) touchpointsOf(i int, m *rapportv1.Scenario, owner map[int]int) []int {
	var out []int
	for j, id := range m.GetTouchpoints() {
		below := fmt.Sprintf("touchpoints[%d]", j)
		t, ok := c.out.touchpoint[id]
		if !ok {
			if !c.lost["touchpoints"] && !c.declared(id) {
				c.fail("scenarios", i, below, "there is no touchpoint %q%s", id, nearest(c, id, c.out.touchpoint))
			}
			continue
		}
		if first, taken := owner[t]; taken {
			c.fail("scenarios", i, below, "touchpoint %s belongs to scenario %s already (%s)", id, c.message.GetScenarios()[first].GetId(), c.where("scenarios", first))
			continue
		}
		owner[t] = i
		out = append(out, t)
	}
	return out
}

// declared reports whether a touchpoint is in the files, if with a mistake.
func (c *compiler) declared(id string) bool {
	return slices.ContainsFunc(c.message.GetTouchpoints(), func(t *rapportv1.Touchpoint) bool { return t.GetId() == id })
}

// weightsOf returns the context weights of a scenario by group.
func (c *compiler) weightsOf(i int, m *rapportv1.Scenario) map[string]float64 {
	out := make(map[string]float64)
	for j, w := range m.GetWeights() {
		below := fmt.Sprintf("weights[%d].group", j)
		if _, twice := out[w.GetGroup()]; twice {
			c.fail("scenarios", i, below, "group %s has two weights", w.GetGroup())
			continue
		}
		c.group(i, below, w.GetGroup())
		out[w.GetGroup()] = w.GetWeight()
	}
	return out
}

// group reports whether any offer has a group, and if not, that.
func (c *compiler) group(i int, below, name string) bool {
	if c.groups[name] == nil && name != "" && !c.lost["offers"] {
		c.fail("scenarios", i, below, "no offer has the group %q%s", name, nearest(c, name, c.groups))
	}
	return c.groups[name] != nil
}

// offersOf returns the offers that compete in a scenario, ascending, the places
// in its own list of those that it names, and whether all that it names exists.
func (c *compiler) offersOf(i int, m *rapportv1.Scenario) (offers []int, named map[int]int, resolved bool) {
	in := make(map[int]bool)
	named, resolved = make(map[int]int), true
	for j, id := range m.GetOffers() {
		below := fmt.Sprintf("offers[%d]", j)
		o, ok := c.offers[id]
		resolved = resolved && ok
		switch {
		case !ok && !c.lost["offers"]:
			c.fail("scenarios", i, below, "there is no offer %q%s", id, nearest(c, id, c.offers))
		case ok && in[o]:
			c.fail("scenarios", i, below, "offer %s is given twice", id)
		case ok:
			in[o], named[o] = true, j
		}
	}
	seen := make(map[string]bool)
	for j, name := range m.GetGroups() {
		below := fmt.Sprintf("groups[%d]", j)
		if seen[name] {
			c.fail("scenarios", i, below, "group %s is given twice", name)
			continue
		}
		seen[name] = true
		resolved = c.group(i, below, name) && resolved
		for _, o := range c.groups[name] {
			in[o] = true
		}
	}
	if len(m.GetOffers())+len(m.GetGroups()) > 0 {
		return slices.Sorted(maps.Keys(in)), named, resolved
	}
	for o := range c.out.Offers {
		offers = append(offers, o)
	}
	return offers, named, resolved
}

// layOut distributes the candidates of a scenario over its touchpoints. Unless
// all that the scenario names was resolved, a touchpoint without is no mistake.
func (c *compiler) layOut(i int, s *Scenario, touchpoints []int, resolved bool) {
	for _, at := range touchpoints {
		t := &c.out.Touchpoints[at]
		t.Scenario = len(c.out.Scenarios)
		if c.placed > maxPlaced {
			c.tooMany(i)
			return
		}
		for j := range s.Candidates {
			if s.Candidates[j].Channel == t.Channel && t.accepts(s.Candidates[j].Format) {
				t.Candidates = append(t.Candidates, int32(j))
			}
		}
		c.placed += len(t.Candidates)
		if len(t.Candidates) == 0 && resolved && !c.lost["offers"] && !c.lost["channels"] {
			below := fmt.Sprintf("touchpoints[%d]", slices.Index(c.message.GetScenarios()[i].GetTouchpoints(), t.ID))
			what := "in channel " + c.out.Channels[t.Channel].ID
			if slices.ContainsFunc(s.Candidates, func(x Candidate) bool { return x.Channel == t.Channel }) {
				what += " in one of its formats, " + strings.Join(t.formats, ", ")
			}
			c.fail("scenarios", i, below, "no offer of this scenario has a treatment %s, so %s could show nothing", what, t.ID)
		}
	}
}

// tooMany reports that the layout would take too much memory.
func (c *compiler) tooMany(i int) {
	c.fail("scenarios", i, "id", "the scenarios have more than %d candidates together: let fewer offers compete in each", maxPlaced)
}

// weightOf returns the context weight of a group.
func weightOf(weights map[string]float64, group string) float64 {
	if w, ok := weights[group]; ok {
		return w
	}
	return 1
}

// addFallback resolves the fallback offer of a scenario.
func (c *compiler) addFallback(i int, m *rapportv1.Scenario, touchpoints []int, weights map[string]float64) {
	id := m.GetFallback()
	if id == "" {
		return
	}
	o, ok := c.offers[id]
	if !ok {
		if !c.lost["offers"] {
			c.fail("scenarios", i, "fallback", "there is no offer %q%s", id, nearest(c, id, c.offers))
		}
		return
	}
	if c.ruled[o] {
		c.fail("scenarios", i, "fallback", "%s has a rule, so it could not always be given: choose an offer without eligible", id)
	} else if why := c.sometimes(o); why != "" {
		c.fail("scenarios", i, "fallback", "%s has %s, so it could not always be given: choose an offer without", id, why)
	}
	if c.out.Offers[o].Class == ClassMarketing {
		c.fail("scenarios", i, "fallback", "%s is of class marketing, which contact policy may forbid: choose one of class service or care", id)
	}
	weight := weightOf(weights, c.out.Offers[o].Group)
	var missing, unfit []string
	for _, at := range touchpoints {
		t := &c.out.Touchpoints[at]
		for _, x := range c.treatments[o] {
			if x.channel != t.Channel {
				continue
			}
			fallback := x.candidate(o, weight)
			t.Fallback = &fallback
			switch {
			case x.ruled || x.content.Computed() || x.script.Computed():
				unfit = append(unfit, fmt.Sprintf("in %s it has a rule or a computed text, so it could not always be given", c.out.Channels[t.Channel].ID))
			case !t.accepts(x.format):
				unfit = append(unfit, fmt.Sprintf("%s does not accept its format %s", t.ID, x.format))
			}
		}
		if name := c.out.Channels[t.Channel].ID; t.Fallback == nil && !slices.Contains(missing, name) {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 && !c.lost["channels"] {
		c.fail("scenarios", i, "fallback", "%s has no treatment in %s, where touchpoints of this scenario are", id, strings.Join(missing, ", "))
	}
	if len(unfit) > 0 {
		slices.Sort(unfit)
		c.fail("scenarios", i, "fallback", "%s does not fit: %s", id, strings.Join(slices.Compact(unfit), "; "))
	}
}

// sometimes returns what keeps an offer from being made always, apart from rules of its
// own and in its channels; nothing if it can.
func (c *compiler) sometimes(offer int) string {
	o := &c.out.Offers[offer]
	switch {
	case c.levels[o.Group].ruled:
		return "the rule of its group " + o.Group
	case o.ValidFrom != 0 || o.ValidUntil != 0:
		return "a time of validity"
	}
	return ""
}

// addStrategy notes the strategy of a scenario.
func (c *compiler) addStrategy(i int, m *rapportv1.Scenario, s *Scenario) {
	use := m.GetStrategy()
	if use == nil {
		return
	}
	s.Strategy = &StrategyUse{Name: use.GetName(), Version: use.GetVersion(), Parameters: use.GetParameters()}
	if s.Strategy.Version == "" {
		s.Strategy.Version = "live"
	}
	c.uses[s] = c.origins["scenarios"][i]
}
