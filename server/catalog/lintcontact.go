package catalog

import (
	"fmt"
	"slices"
	"strings"

	"rapport/profilestore"
	"rapport/profilestore/rules"
)

// lintChannels looks at the channels.
func (l *linter) lintChannels() {
	used := make(map[int]bool)
	for _, t := range l.out.Touchpoints {
		used[t.Channel] = true
	}
	for i, m := range l.message.GetChannels() {
		ch := &l.out.Channels[i]
		if !used[i] {
			l.warn(lintChannelUnused, "channels", i, "id", "channel %s has no touchpoint", ch.ID)
		}
		l.consent(i, "consent", m.GetConsent(), ch.Consent)
		l.consent(i, "do_not_disturb", m.GetDoNotDisturb(), ch.DoNotDisturb)
		if q := ch.QuietHours; q != nil && q.From == q.Until {
			l.warn(lintHours, "channels", i, "quiet_hours", "it is quiet the whole day: care and marketing can never go out")
		}
		always := ""
		for j, h := range ch.ContactHours {
			below := fmt.Sprintf("contact_hours[%d]", j)
			when := m.GetContactHours()[j].GetWhen()
			l.rule("channels", i, below+".when", when)
			switch {
			case always != "":
				l.warn(lintHours, "channels", i, below, "%s apply to all before these, so these never do: put them last, or give them a condition", always)
			case h.Hours.From == h.Hours.Until:
				l.warn(lintHours, "channels", i, below+".hours", "they are the whole day, so they change nothing")
			case ch.QuietHours != nil && !overlap(h.Hours, *ch.QuietHours):
				l.warn(lintHours, "channels", i, below+".hours", "they lie in the quiet hours: nothing could ever go out to these customers")
			}
			if !ruled(when) && always == "" {
				always = h.ID
			}
		}
	}
}

// overlap reports whether a minute of the hours is outside the quiet ones.
func overlap(hours, quiet DayTimes) bool {
	for minute := range 24 * 60 {
		if hours.Contains(minute) && !quiet.Contains(minute) {
			return true
		}
	}
	return false
}

// consent looks at a field that says whether contact is wanted.
func (l *linter) consent(i int, below, name string, slot int) {
	if slot < 0 {
		return
	}
	f := &l.schema.Fields()[slot]
	if f.Batch == "" && neverTrue(f.Events) {
		l.warn(lintConsent, "channels", i, below, "no source and no event ever makes %s true", name)
	}
	if below == "do_not_disturb" && f.Batch == "" && !f.Default && !neverTrue(f.Events) {
		l.warn(lintConsent, "channels", i, below, "only events tell %s, so it is false, and never unknown, until one comes: of a customer who asked before that nobody knows it; let a source deliver it too", name)
	}
	if below == "consent" && f.Default {
		l.warn(lintConsent, "channels", i, below, "%s is true by default: silence would count as consent", name)
	}
}

// neverTrue reports whether an event rule never makes a flag true.
func neverTrue(e *profilestore.EventRule) bool {
	return e == nil || strings.TrimSpace(e.Set) == "false" || strings.TrimSpace(e.On) == "false"
}

// lintTouchpoints looks for touchpoints that nobody answers for, and cards that nobody
// sees.
func (l *linter) lintTouchpoints() {
	for i := range l.message.GetTouchpoints() {
		t := &l.out.Touchpoints[i]
		if t.Scenario < 0 {
			l.warn(lintTouchpointUnused, "touchpoints", i, "id", "no scenario answers for %s: its slates are empty", t.ID)
		}
		seen, all := make(map[string]bool), false
		for j, card := range t.Cards {
			hidden := all
			if len(card.Roles) > 0 {
				hidden = all || !slices.ContainsFunc(card.Roles, func(role string) bool { return !seen[role] })
			}
			if hidden {
				l.warn(lintCardHidden, "touchpoints", i, fmt.Sprintf("cards[%d]", j), "whoever could see this card sees one before it: put it first")
			}
			for _, role := range card.Roles {
				seen[role] = true
			}
			all = all || len(card.Roles) == 0
		}
	}
}

// lintPolicies looks for policies that bind nothing.
func (l *linter) lintPolicies() {
	bound := make(map[int32]bool)
	l.each(func(t *Touchpoint, x *Candidate) {
		for _, n := range x.Policies {
			if p := &l.out.Policies[n]; len(p.Touchpoints) == 0 || slices.Contains(p.Touchpoints, t.ID) {
				bound[n] = true
			}
		}
	})
	for i := range l.message.GetContactPolicies() {
		p := &l.out.Policies[i]
		if bound[int32(i)] {
			continue
		}
		classes := "marketing"
		if len(p.Classes) > 0 {
			classes = strings.Join(p.Classes, " or ")
		}
		l.warn(lintPolicyUnused, "contact_policies", i, "id", "policy %s binds nothing: no touchpoint shows an offer of class %s that is in all its lists", p.ID, classes)
	}
}

// each calls f with what touchpoints can show.
func (l *linter) each(f func(*Touchpoint, *Candidate)) {
	for i := range l.out.Touchpoints {
		t := &l.out.Touchpoints[i]
		if t.Scenario < 0 {
			continue
		}
		for _, n := range t.Candidates {
			f(t, &l.out.Scenarios[t.Scenario].Candidates[n])
		}
	}
}

// lintCapacities looks at capacities that nothing takes, or that there are none of.
func (l *linter) lintCapacities() {
	taken := make(map[int32]bool)
	l.each(func(_ *Touchpoint, x *Candidate) {
		for _, n := range x.Capacities {
			taken[n] = true
		}
	})
	for i := range l.message.GetCapacities() {
		x := &l.out.Capacities[i]
		switch {
		case !taken[int32(i)]:
			l.warn(lintCapacityUnused, "capacities", i, "id", "no touchpoint shows an offer that takes a place of capacity %s", x.ID)
		case x.Max == 0:
			l.warn(lintCapacityZero, "capacities", i, "max", "there is no place at all: what capacity %s is about can never be offered", x.ID)
		}
	}
}

// lintOutcomes looks for outcomes that nothing seems to report.
func (l *linter) lintOutcomes() {
	named := make(map[string]int)
	for _, p := range l.out.Policies {
		named[p.Count]++
	}
	for _, x := range l.out.Capacities {
		named[x.TakenBy]++
	}
	known := append([]string{CountContacts}, StandardOutcomes...)
	check := func(list string, i int, below, outcome string) {
		if slices.Contains(known, outcome) || named[outcome] > 1 || l.inEvents(outcome) {
			return
		}
		near := hint(rules.Nearest(outcome, known), "")
		l.warn(lintOutcomeUnknown, list, i, below, "%q is no standard outcome (%s), and nothing else names it: does anybody report it?%s", outcome, strings.Join(StandardOutcomes, ", "), strings.TrimPrefix(near, ":"))
	}
	for i, p := range l.out.Policies {
		check("contact_policies", i, "count", p.Count)
	}
	for i, x := range l.out.Capacities {
		check("capacities", i, "taken_by", x.TakenBy)
	}
}

// inEvents reports whether an event rule of the schema names an outcome.
func (l *linter) inEvents(outcome string) bool {
	for _, f := range l.schema.Fields() {
		if e := f.Events; e != nil {
			for _, text := range []string{e.On, e.Set, e.Add, e.Reset, e.RemoveOn, e.In} {
				if strings.Contains(text, `"`+outcome+`"`) || strings.Contains(text, "'"+outcome+"'") {
					return true
				}
			}
		}
	}
	return false
}

// lintControlGroup looks at who is held back from what.
func (l *linter) lintControlGroup() {
	m := l.message.GetControlGroup()
	switch {
	case m == nil:
	case m.GetPercent() == 0:
		l.warn(lintControlGroup, "control_group", 0, "", "it has 0 percent of all customers, so nobody is held back")
	case !slices.ContainsFunc(l.out.Offers, func(o Offer) bool { return o.HeldBack }):
		l.warn(lintControlGroup, "control_group", 0, "", "no offer of class marketing is in its groups, so nothing is held back")
	}
}
