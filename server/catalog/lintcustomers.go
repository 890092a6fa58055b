package catalog

import (
	"fmt"
	"slices"

	"rapport/profilestore/rules"
)

// tried is a rule that is tried on customers.
type tried struct {
	part
	rule rules.Rule
}

// lintCustomers tries every rule on customers and reports those that are false for all of
// them.
//
// What depends on the moment is left out: a condition that reads now, the context, a
// reference table, or a field that only events fill may be true tomorrow. So a rule is reported only if what
// remains of it is false.
func (l *linter) lintCustomers() {
	var all []*tried
	add := func(list string, i int, below, text string) {
		if !ruled(text) {
			return
		}
		if rule, ok := l.lasting(text); ok {
			all = append(all, &tried{part: part{list, i, below, text}, rule: rule})
		}
	}
	for i, m := range l.message.GetSegments() {
		add("segments", i, "when", m.GetWhen())
	}
	for i, m := range l.message.GetIssues() {
		add("issues", i, "eligible", m.GetEligible())
	}
	for i, m := range l.message.GetGroups() {
		add("groups", i, "eligible", m.GetEligible())
	}
	for i, m := range l.message.GetOffers() {
		add("offers", i, "eligible", m.GetEligible())
		add("offers", i, "prerequisite", m.GetPrerequisite())
		for j, t := range m.GetTreatments() {
			add("offers", i, fmt.Sprintf("treatments[%d].eligible", j), t.GetEligible())
		}
	}
	for i, m := range l.message.GetChannels() {
		for j, h := range m.GetContactHours() {
			add("channels", i, fmt.Sprintf("contact_hours[%d].when", j), h.GetWhen())
		}
	}
	customers := 0
	e := l.conditions.Build().NewEvaluation()
	open := all
	for profile := range l.options.Customers {
		customers++
		e.Reset(rules.Inputs{Profile: profile, Now: l.options.Now.UnixMicro()})
		rest := open[:0:len(open)]
		for _, x := range open {
			if e.Evaluate(x.rule) == rules.False {
				rest = append(rest, x)
			}
		}
		open = rest
	}
	for _, x := range open {
		if customers > 0 {
			l.warn(lintRuleUnfulfilled, x.list, x.i, x.below, "it is false for every one of %d customers", customers)
		}
	}
}

// lasting returns the conjunction of the conditions of a rule that do not depend on the
// moment, false if there are none.
func (l *linter) lasting(text string) (rules.Rule, bool) {
	whole, err := l.conditions.Add(text)
	if err != nil {
		return rules.Rule{}, false
	}
	table := l.conditions.Build()
	var parts []rules.Rule
	for _, n := range whole.Conditions() {
		if l.momentary(table.Reads(int(n))) {
			continue
		}
		rule, err := l.conditions.Add(table.Condition(int(n)))
		if err != nil {
			continue
		}
		parts = append(parts, rule)
	}
	return rules.All(parts...), len(parts) > 0
}

// momentary reports whether a condition may be another tomorrow: it reads now, the
// context, a reference table, or a field that no source fills.
func (l *linter) momentary(r rules.Reads) bool {
	return r.Now || len(r.Context)+len(r.Tables) > 0 || slices.ContainsFunc(r.Slots, func(slot int) bool { return l.schema.Fields()[slot].Batch == "" })
}
