package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	rapportv1 "rapport/server/api/rapport/v1"
)

// maxContent is how much of a treatment's content or script fits into a line.
const maxContent = 60

// printDecision prints a decision for one touchpoint.
func printDecision(a *app, d *rapportv1.DecideResponse, serverMicros string) error {
	writef(a.out, "decision %s for %s: scenario %s of catalogue %d, ranked by %s%s\n\n",
		d.GetDecisionId(), formatKnown(d.GetProfile()), orNone(d.GetScenario()), d.GetCatalogVersion(), formatRankedBy(d.GetRankedBy()), formatTook(serverMicros))
	return printTouchpoint(a, &rapportv1.TouchpointDecision{
		Slate: d.GetSlate(), Withheld: d.GetWithheld(), Funnel: d.GetFunnel(), Degradations: d.GetDegradations(),
		Card: d.GetCard(), ValidUntil: d.GetValidUntil(),
	})
}

// printDecisions prints one for several.
func printDecisions(a *app, d *rapportv1.DecideManyResponse, serverMicros string) error {
	writef(a.out, "decision %s for %s: catalogue %d%s\n",
		d.GetDecisionId(), formatKnown(d.GetProfile()), d.GetCatalogVersion(), formatTook(serverMicros))
	for _, t := range d.GetDecisions() {
		writef(a.out, "\n%s: scenario %s, ranked by %s\n\n", t.GetTouchpoint(), orNone(t.GetScenario()), formatRankedBy(t.GetRankedBy()))
		if err := printTouchpoint(a, t); err != nil {
			return err
		}
	}
	return nil
}

func formatKnown(who *rapportv1.ProfileUse) string {
	switch {
	case who.GetBlocked():
		return "an identity that means nobody"
	case !who.GetKnown():
		return "an unknown customer"
	case who.GetCustomer() != "":
		return "a known customer, " + printable(who.GetCustomer())
	}
	return "a known customer"
}

func formatRankedBy(by *rapportv1.RankedBy) string {
	if by.GetName() == "builtin" {
		return "the built-in arbitration"
	}
	return strings.TrimSpace(by.GetName() + " " + by.GetVersion())
}

func formatTook(serverMicros string) string {
	micros, err := strconv.ParseInt(serverMicros, 10, 64)
	if err != nil {
		return ""
	}
	return fmt.Sprintf(" in %v", time.Duration(micros)*time.Microsecond)
}

// printTouchpoint prints what was decided for one touchpoint.
func printTouchpoint(a *app, d *rapportv1.TouchpointDecision) error {
	if len(d.GetCard()) > 0 {
		card := newTable("FIELD", "VALUE")
		for _, f := range d.GetCard() {
			value := "(unknown)"
			if f.GetKnown() {
				value = f.GetValue()
			}
			card.add(f.GetName(), value)
		}
		if err := card.write(a.out); err != nil {
			return err
		}
		writef(a.out, "\n")
	}
	if len(d.GetSlate()) == 0 {
		writef(a.out, "nothing to offer\n")
	} else if err := slateTable(d.GetSlate()).write(a.out); err != nil {
		return err
	}
	if d.GetValidUntil() != nil {
		writef(a.out, "to be delivered until %s\n", formatValidUntil(d.GetValidUntil()))
	}
	writef(a.out, "\n")
	f := d.GetFunnel()
	writef(a.out, "%s, %d eligible, %d allowed, %d ranked, %d offered\n", plural(f.GetCandidates(), "candidate"), f.GetEligible(), f.GetAllowed(), f.GetRanked(), f.GetOffered())
	for _, w := range d.GetWithheld() {
		for _, line := range formatWithheld(w) {
			writef(a.out, "%s\n", printable(line))
		}
	}
	for _, g := range d.GetDegradations() {
		writef(a.out, "degraded, %s\n", printable(formatDegradation(g)))
	}
	return nil
}

// formatWithheld writes the offers that a reason withheld: a line for each thing that
// withheld some, and until when, in the order of the first offer of each.
func formatWithheld(w *rapportv1.Withheld) []string {
	details := make(map[string]string, len(w.GetDetails()))
	for _, d := range w.GetDetails() {
		text := d.GetBy()
		if d.GetUntil() != nil {
			text = strings.TrimSpace(text + " until " + formatUntil(d.GetUntil()))
		}
		details[d.GetOffer()] = text
	}
	var order []string
	offers := make(map[string][]string)
	for _, o := range w.GetOffers() {
		by := details[o]
		if !slices.Contains(order, by) {
			order = append(order, by)
		}
		offers[by] = append(offers[by], o)
	}
	lines := make([]string, len(order))
	for i, by := range order {
		reason := formatEnum(w.GetReason())
		if by != "" {
			reason += " (" + by + ")"
		}
		lines[i] = reason + ": " + strings.Join(offers[by], ", ")
	}
	return lines
}

// formatUntil writes an end in UTC, in whole seconds: never before it.
func formatUntil(t *timestamppb.Timestamp) string {
	at := t.AsTime().UTC()
	if whole := at.Truncate(time.Second); whole.Before(at) {
		at = whole.Add(time.Second)
	}
	return at.Format(time.RFC3339)
}

// formatValidUntil writes until when something holds, likewise: never after it.
func formatValidUntil(t *timestamppb.Timestamp) string { return t.AsTime().UTC().Format(time.RFC3339) }

// formatDegradation says what a decision had to do without, with the kind of fault
// in parentheses if a strategy failed.
func formatDegradation(g *rapportv1.Degradation) string {
	text := formatEnum(g.GetKind())
	if fault := g.GetFault(); fault != "" {
		text += " (" + fault + ")"
	}
	if detail := g.GetDetail(); detail != "" {
		text += ": " + detail
	}
	return text
}

// slateTable has columns for scripts and tokens where there are any.
func slateTable(slate []*rapportv1.Placement) *table {
	header := []string{">#", "OFFER", "CLASS", "CHANNEL", ">SCORE", ">PROPENSITY", ">VALUE", ">WEIGHT", ">LEVER", "REASON"}
	scripts := slices.ContainsFunc(slate, func(p *rapportv1.Placement) bool { return p.GetScript() != "" })
	tokens := slices.ContainsFunc(slate, func(p *rapportv1.Placement) bool { return p.GetToken() != "" })
	if tokens {
		header = append(header, "TOKEN")
	}
	header = append(header, "CONTENT")
	if scripts {
		header = append(header, "SCRIPT")
	}
	t := newTable(header...)
	for i, p := range slate {
		why := orNone(p.GetReason())
		if p.GetFallback() {
			why = "fallback"
		}
		parts := p.GetParts()
		row := []any{
			i + 1, p.GetOffer(), p.GetClass(), p.GetChannel(), formatScore(p.GetScore()),
			formatScore(parts.GetPropensity()), formatScore(parts.GetValue()), formatScore(parts.GetWeight()), formatScore(parts.GetLever()), why,
		}
		if tokens {
			row = append(row, shortToken(p.GetToken()))
		}
		row = append(row, shorten(printable(p.GetContent()), maxContent))
		if scripts {
			row = append(row, shorten(printable(p.GetScript()), maxContent))
		}
		t.add(row...)
	}
	return t
}

// shortToken is the end of a token, in which those of one slate differ.
func shortToken(token string) string {
	const shown = 8
	if len(token) <= shown {
		return orNone(token)
	}
	return "…" + token[len(token)-shown:]
}

func orNone(s string) string {
	if s == "" {
		return none
	}
	return s
}
