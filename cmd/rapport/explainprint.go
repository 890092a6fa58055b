package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	rapportv1 "rapport/server/api/rapport/v1"
)

// printExplanation prints an explanation.
func printExplanation(a *app, x *rapportv1.ExplainDecisionResponse) error {
	for _, line := range explanationHead(x) {
		writef(a.out, "%s\n", printable(line))
	}
	for _, t := range x.GetAt() {
		if err := printExplained(a, x, t); err != nil {
			return err
		}
	}
	return nil
}

// explanationHead says which decision it was, and what it was made from.
func explanationHead(x *rapportv1.ExplainDecisionResponse) []string {
	lines := []string{
		fmt.Sprintf("decision %s of %s in %v", x.GetDecisionId(), formatTime(x.GetTime()), time.Duration(x.GetTookUs())*time.Microsecond),
		"for " + explainedCustomer(x),
		"from " + strings.Join(explainedVersions(x), ", "),
	}
	if len(x.GetContext()) > 0 {
		values := make([]string, len(x.GetContext()))
		for i, v := range x.GetContext() {
			values[i] = strings.TrimPrefix(v.GetName(), "context.") + " = " + explainedValue(v)
		}
		lines = append(lines, "context: "+strings.Join(values, ", "))
	}
	for _, l := range x.GetLoads() {
		lines = append(lines, fmt.Sprintf("channel %s was at load %s", l.GetChannel(), formatNumber(l.GetLoad())))
	}
	lines = append(lines, explainedProof(x)...)
	if x.GetMasked() {
		lines = append(lines, "personal data is hidden")
	}
	return lines
}

// explainedCustomer says who it was for and what was known.
func explainedCustomer(x *rapportv1.ExplainDecisionResponse) string {
	who := x.GetIdentity()
	if x.GetCustomer() != who {
		who += ", who is " + x.GetCustomer()
	}
	switch {
	case x.GetProfile().GetBlocked():
		return who + ": an identity that means nobody"
	case !x.GetProfileRead():
		return who + ": the profile could not be read"
	case !x.GetProfile().GetKnown():
		return who + ": nothing was known of the customer"
	}
	return who
}

// explainedVersions are the versions of all that it was made from.
func explainedVersions(x *rapportv1.ExplainDecisionResponse) []string {
	parts := []string{fmt.Sprintf("catalogue %d", x.GetCatalogVersion()), "schema " + x.GetSchema()}
	for _, s := range x.GetProfile().GetSnapshots() {
		part := fmt.Sprintf("snapshot %s@%d", s.GetSource(), s.GetGeneration())
		if !s.GetHasRow() {
			part += " (no row)"
		}
		parts = append(parts, part)
	}
	for _, t := range x.GetTables() {
		parts = append(parts, fmt.Sprintf("table %s@%d", t.GetTable(), t.GetVersion()))
	}
	if x.GetProfileRead() {
		parts = append(parts, plural(x.GetProfile().GetDeltaVersion(), "change")+" by events")
	}
	return append(parts, fmt.Sprintf("seed %d", x.GetSeed()))
}

// explainedProof says how sure it is.
func explainedProof(x *rapportv1.ExplainDecisionResponse) []string {
	switch {
	case x.GetVerified():
		return []string{"verified: the decision was made again, with the same answer to the bit"}
	case x.GetInexact() != "":
		return []string{"not verified: " + x.GetInexact(), "what follows is what was recorded"}
	}
	lines := []string{"not verified: made again, the answer is another; what follows is what was recorded"}
	for _, d := range x.GetDifferences() {
		lines = append(lines, "  "+d)
	}
	return lines
}

func explainedValue(v *rapportv1.ExplainedValue) string {
	if !v.GetKnown() {
		return "unknown"
	}
	return v.GetValue()
}

// explainedRankers says who ranked.
func explainedRankers(t *rapportv1.ExplainedTouchpoint) string {
	text := "ranked by " + formatRankedBy(t.GetRankedBy())
	if digest := t.GetRankedBy().GetDigest(); digest != "" {
		text += fmt.Sprintf(" (%.12s)", digest)
	}
	if was := t.GetStrategy(); was.GetName() != t.GetRankedBy().GetName() || was.GetVersion() != t.GetRankedBy().GetVersion() {
		text += " in place of " + formatRankedBy(was)
	}
	if f := t.GetStrategy(); f.GetFuelLimit() > 0 {
		text += fmt.Sprintf(", fuel %d of %d", f.GetFuelUsed(), f.GetFuelLimit())
	}
	return text
}

// printExplained prints the explanation at a touchpoint.
func printExplained(a *app, x *rapportv1.ExplainDecisionResponse, t *rapportv1.ExplainedTouchpoint) error {
	if t.GetScenario() == "" {
		writef(a.out, "\n%s: no scenario answers for it\n", t.GetTouchpoint())
		return nil
	}
	writef(a.out, "\n%s: scenario %s, %s\n", t.GetTouchpoint(), t.GetScenario(), printable(explainedRankers(t)))
	for _, d := range t.GetDegradations() {
		writef(a.out, "degraded: %s\n", printable(explainedStep(d)))
	}
	f := t.GetFunnel()
	writef(a.out, "\n%s → %d eligible → %d allowed → %d ranked → %d offered\n", plural(f.GetCandidates(), "candidate"), f.GetEligible(), f.GetAllowed(), f.GetRanked(), f.GetOffered())
	for _, r := range t.GetReasons() {
		writef(a.out, "  %6d %s\n", r.GetCandidates(), formatEnum(r.GetReason()))
	}
	if err := printExplainedSlate(a, t); err != nil {
		return err
	}
	if len(t.GetRanked()) > 0 {
		writef(a.out, "\nranked:\n")
		if err := rankedTable(t).write(a.out); err != nil {
			return err
		}
		if n := t.GetMoreRanked(); n > 0 {
			writef(a.out, "and %d more\n", n)
		}
	}
	if len(t.GetCauses()) > 0 {
		title := "not ranked"
		if !x.GetVerified() {
			title = "not offered"
		}
		writef(a.out, "\n%s:\n", title)
	}
	for _, c := range t.GetCauses() {
		for _, line := range causeLines(c) {
			writef(a.out, "%s\n", printable(line))
		}
	}
	if more := moreCausesText(t); more != "" {
		writef(a.out, "%s\n", more)
	}
	return nil
}

// moreCausesText says how much is not named.
func moreCausesText(t *rapportv1.ExplainedTouchpoint) string {
	if t.GetMoreCauses() == 0 {
		return ""
	}
	return fmt.Sprintf("and %s, of %s: --all names them", plural(t.GetMoreCauses(), "more cause"), plural(t.GetMoreRemoved(), "candidate"))
}

func explainedStep(d *rapportv1.ExplainedStepDown) string {
	if d.GetDetail() != "" {
		return d.GetWords() + " (" + d.GetDetail() + ")"
	}
	return d.GetWords()
}

// printExplainedSlate prints what was offered.
func printExplainedSlate(a *app, t *rapportv1.ExplainedTouchpoint) error {
	if len(t.GetSlate()) == 0 {
		if t.GetFunnel().GetOffered() == 0 {
			writef(a.out, "\nnothing was offered\n")
		}
		return nil
	}
	writef(a.out, "\n")
	header := []string{"OFFERED", "CHANNEL", ">SCORE", ">PROBABILITY", "CONTENT"}
	scripts := slices.ContainsFunc(t.GetSlate(), func(p *rapportv1.ExplainedPlacement) bool { return p.GetScript() != "" })
	if scripts {
		header = append(header, "SCRIPT")
	}
	out := newTable(header...)
	for _, p := range t.GetSlate() {
		offer := p.GetOffer()
		if p.GetFallback() {
			offer += " (fallback)"
		}
		row := []any{offer, p.GetChannel(), formatScore(p.GetScore()), formatScore(p.GetProbability()), shorten(printable(p.GetContent()), maxContent)}
		if scripts {
			row = append(row, shorten(printable(p.GetScript()), maxContent))
		}
		out.add(row...)
	}
	return out.write(a.out)
}

// rankedTable has the candidates that were ranked.
func rankedTable(t *rapportv1.ExplainedTouchpoint) *table {
	reasons := slices.ContainsFunc(t.GetRanked(), func(c *rapportv1.RankedCandidate) bool { return c.GetReason() != "" })
	header := []string{">#", "OFFER", ">SCORE", ">PROPENSITY", ">VALUE", ">WEIGHT", ">LEVER"}
	if reasons {
		header = append(header, "REASON")
	}
	out := newTable(append(header, "OUTCOME")...)
	for _, c := range t.GetRanked() {
		p := c.GetParts()
		row := []any{
			rankText(c), c.GetOffer(), formatScore(c.GetScore()),
			formatScore(p.GetPropensity()), formatScore(p.GetValue()), formatScore(p.GetWeight()), formatScore(p.GetLever()),
		}
		if reasons {
			row = append(row, orNone(c.GetReason()))
		}
		out.add(append(row, outcomeText(c))...)
	}
	return out
}

func rankText(c *rapportv1.RankedCandidate) string {
	if c.GetRank() == 0 {
		return none
	}
	return fmt.Sprint(c.GetRank())
}

// outcomeText says what became of a ranked candidate, and what its parts come from.
func outcomeText(c *rapportv1.RankedCandidate) string {
	text := formatEnum(c.GetOutcome())
	if c.GetWhy() != "" {
		text += ": " + c.GetWhy()
	}
	if parts := partsText(c); parts != "" {
		text += "; " + parts
	}
	return text
}

// partsText says what the parts of a score come from.
func partsText(c *rapportv1.RankedCandidate) string {
	var parts []string
	if f := c.GetPropensityFrom(); f != "" {
		parts = append(parts, "propensity from "+f)
	}
	for _, b := range c.GetBoosts() {
		parts = append(parts, fmt.Sprintf("boost of %s %+g%%", b.GetOf(), b.GetPercent()))
	}
	if c.GetPressure() != 0 {
		parts = append(parts, fmt.Sprintf("weight × %s at load %s", formatNumber(c.GetPressure()), formatNumber(c.GetLoad())))
	}
	return strings.Join(parts, ", ")
}

// causeLines write a cause, and which offers it removed.
func causeLines(c *rapportv1.ExplainedCause) []string {
	head := formatEnum(c.GetReason())
	if why := c.GetWhy(); why != "" {
		head += ": " + why
	}
	return []string{head, "    " + offersText(c)}
}

func offersText(c *rapportv1.ExplainedCause) string {
	text := strings.Join(c.GetOffers(), ", ")
	if more := int(c.GetCandidates()) - len(c.GetOffers()); more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}
