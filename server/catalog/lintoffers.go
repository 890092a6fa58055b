package catalog

import (
	"fmt"
	"math"
	"slices"
	"strings"

	rapportv1 "rapport/server/api/rapport/v1"
)

// lintLevels looks at segments, groups and issues.
func (l *linter) lintLevels() {
	for i, m := range l.message.GetSegments() {
		l.rule("segments", i, "when", m.GetWhen())
	}
	used := make(map[string]bool)
	for i, m := range l.message.GetGroups() {
		used[m.GetIssue()] = true
		l.rule("groups", i, "eligible", m.GetEligible())
		l.boost("groups", i, m.GetBoost(), "no offer of it")
		if l.groups[m.GetId()] == nil {
			l.warn(lintGroupUnused, "groups", i, "id", "no offer has the group %s%s", m.GetId(), nearest(l.compiler, m.GetId(), l.groups))
		}
		for j, issue := range l.message.GetIssues() {
			if issue.GetId() == m.GetIssue() {
				l.contradict([]part{{"issues", j, "eligible", issue.GetEligible()}, {"groups", i, "eligible", m.GetEligible()}})
			}
		}
	}
	for i, m := range l.message.GetIssues() {
		l.rule("issues", i, "eligible", m.GetEligible())
		l.boost("issues", i, m.GetBoost(), "no offer of its groups")
		if !used[m.GetId()] {
			l.warn(lintGroupUnused, "issues", i, "id", "no group has the issue %s", m.GetId())
		}
	}
}

func (l *linter) boost(list string, i int, boost float64, what string) {
	if boost == -100 {
		l.warn(lintBoost, list, i, "boost", "the lever is 0: %s can win; to withhold it use eligible, or take it out of the scenarios", what)
	}
}

// part is a condition and where it stands.
type part struct {
	list  string
	i     int
	below string
	text  string
}

// contradict reports how conditions that have to hold together contradict each other.
func (l *linter) contradict(parts []part) bool {
	texts, given := make([]string, len(parts)), 0
	for k, p := range parts {
		if texts[k] = p.text; ruled(p.text) {
			given++
		}
	}
	if given < 2 {
		return false
	}
	at, f, found := l.examiner.Contradict(texts...)
	if !found {
		return false
	}
	var others []string
	for _, p := range parts[:at] {
		if ruled(p.text) {
			from := l.origins[p.list][p.i]
			others = append(others, fmt.Sprintf("%s:%d", from.doc.file, from.doc.line(from.path+"."+p.below)))
		}
	}
	p := parts[at]
	l.warnAt(lintRuleContradiction, p.list, p.i, p.below, f.Line, f.Column, f.Message+", which has to hold too (see "+strings.Join(others, ", ")+")")
	return true
}

// lintOffers looks at the offers.
func (l *linter) lintOffers() {
	groups, issues := make(map[string]int), make(map[string]int)
	for i, m := range l.message.GetGroups() {
		groups[m.GetId()] = i
	}
	for i, m := range l.message.GetIssues() {
		issues[m.GetId()] = i
	}
	bundled := make(map[string]bool)
	for _, m := range l.message.GetOffers() {
		for _, name := range m.GetBundle() {
			bundled[name] = true
		}
	}
	staff := make(map[int]bool) // channels with touchpoints of staff
	for _, t := range l.out.Touchpoints {
		staff[t.Channel] = staff[t.Channel] || t.Staff
	}
	l.lintBundles()
	for i, m := range l.message.GetOffers() {
		at := l.offers[m.GetId()]
		o := &l.out.Offers[at]
		l.rule("offers", i, "eligible", m.GetEligible())
		l.rule("offers", i, "owned", m.GetOwned())
		l.rule("offers", i, "prerequisite", m.GetPrerequisite())
		l.boost("offers", i, m.GetBoost(), "it never")
		if now := l.options.Now.UnixMicro(); o.ValidUntil != 0 && o.ValidUntil <= now {
			l.warn(lintOfferExpired, "offers", i, "valid_until", "%s was valid until %s and can't be offered again: remove it, or give it another end", o.ID, m.GetValidUntil())
		}
		l.lintTreatments(i, at, m, staff, bundled[o.ID])
		l.lintTogether(i, at, m)
		var parts []part
		if g, ok := groups[o.Group]; ok {
			group := l.message.GetGroups()[g]
			if n, ok := issues[group.GetIssue()]; ok {
				parts = append(parts, part{"issues", n, "eligible", l.message.GetIssues()[n].GetEligible()})
			}
			parts = append(parts, part{"groups", g, "eligible", group.GetEligible()})
		}
		if n := len(parts); n == 2 && l.contradicts(parts) {
			continue // that was said of the group
		}
		parts = append(parts, part{"offers", i, "prerequisite", m.GetPrerequisite()}, part{"offers", i, "eligible", m.GetEligible()})
		if l.contradict(parts) {
			continue
		}
		for j, t := range m.GetTreatments() {
			if ruled(t.GetEligible()) {
				l.contradict(append(slices.Clip(parts), part{"offers", i, fmt.Sprintf("treatments[%d].eligible", j), t.GetEligible()}))
			}
		}
	}
}

// contradicts reports whether conditions contradict each other, and says nothing.
func (l *linter) contradicts(parts []part) bool {
	_, _, found := l.examiner.Contradict(parts[0].text, parts[1].text)
	return found
}

// lintTreatments looks at where an offer can be shown.
func (l *linter) lintTreatments(i, at int, m *rapportv1.Offer, staff map[int]bool, bundled bool) {
	var unseen []int
	for j, t := range m.GetTreatments() {
		channel := l.channels[t.GetChannel()]
		l.rule("offers", i, fmt.Sprintf("treatments[%d].eligible", j), t.GetEligible())
		if !l.shown[[2]int{at, channel}] {
			unseen = append(unseen, j)
			continue
		}
		if t.GetScript() != "" && !staff[channel] {
			l.warn(lintScriptUnseen, "offers", i, fmt.Sprintf("treatments[%d].script", j), "no touchpoint of channel %s is for staff (audience: staff), so nobody sees it", t.GetChannel())
		}
	}
	switch {
	case len(unseen) < len(m.GetTreatments()):
		for _, j := range unseen {
			l.warn(lintTreatmentUnreachable, "offers", i, fmt.Sprintf("treatments[%d].channel", j), "no touchpoint shows %s in %s: %s", m.GetId(), m.GetTreatments()[j].GetChannel(), l.whyUnseen(at, m.GetTreatments()[j]))
		}
	case bundled && len(l.wanted(at)) == 0: // it is a part of another
	default:
		var why []string
		for _, j := range unseen {
			if w := l.whyUnseen(at, m.GetTreatments()[j]); !slices.Contains(why, w) {
				why = append(why, w)
			}
		}
		l.warn(lintOfferUnreachable, "offers", i, "id", "no touchpoint can show %s: %s", m.GetId(), strings.Join(why, "; "))
	}
}

// wanted returns the scenarios that an offer is in, whether or not a touchpoint can show
// it.
func (l *linter) wanted(offer int) []int {
	o := &l.out.Offers[offer]
	return slices.Concat(l.general, l.byOffer[o.ID], l.byGroup[o.Group])
}

// whyUnseen says why no touchpoint shows a treatment.
func (l *linter) whyUnseen(offer int, t *rapportv1.Treatment) string {
	in := l.wanted(offer)
	if len(in) == 0 {
		return "no scenario has it or its group"
	}
	for _, n := range in {
		if l.channel[[2]int{n, l.channels[t.GetChannel()]}] {
			return fmt.Sprintf("the touchpoints of channel %s do not accept its format %s", t.GetChannel(), t.GetFormat())
		}
	}
	return "its scenarios have no touchpoint in channel " + t.GetChannel()
}

// lintTogether looks at what an offer is not to be on a slate with.
func (l *linter) lintTogether(i, at int, m *rapportv1.Offer) {
	if len(l.competes[at]) == 0 {
		return
	}
	for j, name := range m.GetExcludes() {
		if other := l.offers[name]; len(l.competes[other]) > 0 && !l.together(at, other) {
			l.warn(lintExcludesApart, "offers", i, fmt.Sprintf("excludes[%d]", j), "%s and %s compete in no scenario together", m.GetId(), name)
		}
	}
	if m.GetExclusive() == "" {
		return
	}
	for _, n := range l.competes[at] {
		if l.rivals[[2]int{n, l.out.Offers[at].Exclusive}] > 1 {
			return
		}
	}
	l.warn(lintExclusiveAlone, "offers", i, "exclusive", "no other offer that competes with %s has the word %s, so it excludes nothing", m.GetId(), m.GetExclusive())
}

// lintScenarios looks at the scenarios.
func (l *linter) lintScenarios() {
	for n, s := range l.out.Scenarios {
		m := l.message.GetScenarios()[n]
		l.lintChoice(n, s, m.GetChannelChoice())
		if m.MinimumScore != nil && s.Strategy == nil {
			l.lintMinimum(n, s)
		}
	}
}

// lintMinimum looks for candidates that can't reach the minimum score, by the most that
// the built-in arbitration can give them.
func (l *linter) lintMinimum(n int, s *Scenario) {
	best := make(map[int]float64)
	all, reached := math.Inf(-1), false
	for k := range s.Candidates {
		x := &s.Candidates[k]
		o := &l.out.Offers[x.Offer]
		if o.Class == ClassService || !l.shown[[2]int{x.Offer, x.Channel}] {
			continue
		}
		most, ok := best[x.Offer]
		if score := l.most(o, x); !ok || score > most {
			best[x.Offer] = score
		}
		all = max(all, best[x.Offer])
		reached = reached || best[x.Offer] >= s.MinimumScore
	}
	if len(best) == 0 {
		return
	}
	if !reached {
		l.warn(lintMinimumScore, "scenarios", n, "minimum_score", "no candidate can reach it: the highest score possible is %.6g", all)
		return
	}
	var below []string
	for i := range l.out.Offers {
		if score, ok := best[i]; ok && score < s.MinimumScore {
			below = append(below, fmt.Sprintf("%s (at most %.6g)", l.out.Offers[i].ID, score))
		}
	}
	if k := len(below); k > 0 {
		more := ""
		if k > 5 {
			below, more = below[:5], fmt.Sprintf(" and %d more", k-5)
		}
		l.warn(lintMinimumScore, "scenarios", n, "minimum_score", "%s%s can never reach it", strings.Join(below, ", "), more)
	}
}

// most is the highest score that the built-in arbitration can give a candidate.
func (l *linter) most(o *Offer, x *Candidate) float64 {
	p := o.Propensity.Start
	if o.Propensity.Slot >= 0 || o.Propensity.StartEvidence > 0 {
		p = 0
		if o.Value > 0 {
			p = 1
		}
	}
	return p * o.Value * x.Weight * o.Lever
}

// lintChoice looks at a choice of channels.
func (l *linter) lintChoice(n int, s *Scenario, m *rapportv1.ChannelChoice) {
	if m == nil {
		return
	}
	competing := make(map[int]bool)
	for i := range s.Candidates {
		if x := &s.Candidates[i]; l.shown[[2]int{x.Offer, x.Channel}] {
			competing[x.Channel] = true
		}
	}
	for j, p := range m.GetPersonas() {
		for k, name := range p.GetChannels() {
			if !competing[l.channels[name]] {
				l.warn(lintChannelChoice, "scenarios", n, fmt.Sprintf("channel_choice.personas[%d].channels[%d]", j, k), "no candidate of scenario %s is in channel %s", s.ID, name)
			}
		}
	}
	if len(competing) == 1 {
		l.warn(lintChannelChoice, "scenarios", n, "channel_choice", "scenario %s has one channel only: there is nothing to choose", s.ID)
	}
}
