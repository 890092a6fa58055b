package main

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	rapportv1 "rapport/server/api/rapport/v1"
)

// shownTransitions is how many changes of the first place are printed.
const shownTransitions = 10

// shownUnchanged is how many rows of offers are printed whose number does not change.
const shownUnchanged = 10

// printSimulation prints what a change comes to, for who answers for offers.
func printSimulation(a *app, x *rapportv1.Simulation, examples int) error {
	printSimulated(a, x)
	if err := printMeasures(a, x); err != nil {
		return err
	}
	printUncertainty(a, x)
	if err := printTransitions(a, x); err != nil {
		return err
	}
	for _, t := range x.GetTables() {
		if err := printSimulationTable(a, x, t); err != nil {
			return err
		}
	}
	if err := printSuppressions(a, x); err != nil {
		return err
	}
	if err := printCapacities(a, x); err != nil {
		return err
	}
	if err := printDegradations(a, x); err != nil {
		return err
	}
	if examples > 0 {
		if err := printExamples(a, x); err != nil {
			return err
		}
	}
	if len(x.GetRemarks()) > 0 {
		writef(a.out, "\n")
	}
	for _, r := range x.GetRemarks() {
		writef(a.out, "note: %s\n", printable(r))
	}
	return nil
}

// printSimulated says what is compared, for whom.
func printSimulated(a *app, x *rapportv1.Simulation) {
	after := fmt.Sprintf("catalogue %d", x.GetCatalogAfter())
	switch {
	case x.GetCatalogAfter() == 0:
		after = "the files"
	case x.GetCatalogAfter() == x.GetCatalogBefore():
		after = "the same"
	}
	if x.GetStrategy() != "" {
		after += " with strategy " + x.GetStrategy()
	}
	writef(a.out, "before: catalogue %d; after: %s\n", x.GetCatalogBefore(), printable(after))
	who := plural(x.GetCustomers(), "customer")
	about := ""
	if x.GetPopulationEstimated() {
		about = "about "
	}
	switch {
	case x.GetSampled():
		who += fmt.Sprintf(" drawn from %s%d", about, x.GetPopulation())
	case len(x.GetSnapshots()) > 0:
		who += ": all"
	}
	writef(a.out, "%s; time %s, seed %d; %s\n", who, formatTime(x.GetTime()), x.GetSeed(), printable(strings.Join(x.GetTouchpoints(), ", ")))
	for _, s := range x.GetSnapshots() {
		writef(a.out, "source %s: snapshot %d as of %s with %s\n", s.GetSource(), s.GetGeneration(), formatTime(s.GetAsOf()), plural(s.GetRows(), "row"))
	}
	writef(a.out, "\n")
}

// printMeasures prints the main figures.
func printMeasures(a *app, x *rapportv1.Simulation) error {
	header := []string{"", ">BEFORE", ">AFTER", ">CHANGE"}
	if x.GetSampled() {
		header = append(header, ">± 95%", ">ALL: CHANGE", ">± 95%")
	}
	t := newTable(header...)
	words := map[string]string{"reached": "customers with an offer", "contacts": "contacts", "offers": "offers", "value": "expected value"}
	b, f := x.GetBefore(), x.GetAfter()
	of := map[string][2]float64{
		"reached":  {float64(b.GetCustomers()), float64(f.GetCustomers())},
		"contacts": {float64(b.GetContacts()), float64(f.GetContacts())},
		"offers":   {float64(b.GetOffers()), float64(f.GetOffers())},
		"value":    {b.GetValue(), f.GetValue()},
	}
	n, scale := float64(x.GetCustomers()), 1.0
	if n > 0 {
		scale = float64(x.GetPopulation()) / n
	}
	row := func(what string, cells ...string) {
		line := make([]any, len(header))
		line[0] = what
		for i := range line[1:] {
			line[i+1] = ""
			if i < len(cells) {
				line[i+1] = cells[i]
			}
		}
		t.add(line...)
	}
	for _, m := range x.GetMeasures() {
		v := of[m.GetName()]
		cells := []string{formatCount(v[0]), formatCount(v[1]), formatChange(v[1] - v[0])}
		if x.GetSampled() {
			cells = append(cells, formatCount(m.GetMargin()*n), formatChange(m.GetDifference()*n*scale), formatCount(m.GetMargin()*n*scale))
		}
		row(words[m.GetName()], cells...)
		if m.GetName() == "reached" {
			row("  of all customers", formatShare(b.GetCustomers(), x.GetCustomers()), formatShare(f.GetCustomers(), x.GetCustomers()))
		}
	}
	before, after := meanScore(b), meanScore(f)
	row("mean score of an offer", formatScore(before), formatScore(after), formatSigned(after-before, formatScore(math.Abs(after-before))))
	return t.write(a.out)
}

func meanScore(t *rapportv1.SimulationTally) float64 {
	if t.GetOffers() == 0 {
		return 0
	}
	return t.GetScore() / float64(t.GetOffers())
}

// printUncertainty says how far the figures can be relied upon.
func printUncertainty(a *app, x *rapportv1.Simulation) {
	writef(a.out, "\n")
	if x.GetCustomers() == 0 {
		writef(a.out, "nobody was simulated\n")
		return
	}
	if !x.GetSampled() {
		writef(a.out, "These are all the customers that were asked for, so the figures have no margin. Expected value is propensity × value\nof each offer: what the catalogue and the profiles say, not what customers did.\n")
		return
	}
	writef(a.out, "± is the half of a 95%% interval of the change: a sample was drawn, and each customer of it is compared with\nhimself. ALL is the estimate for all %d. Expected value is propensity × value of each offer: what the catalogue\nand the profiles say, not what customers did.\n", x.GetPopulation())
	if x.GetCapacityShort() {
		writef(a.out, "For all customers capacities would run out, which a sample does not see: ALL is too much. Simulate --all.\n")
	}
}

// printTransitions prints whose first offer changes, and how.
func printTransitions(a *app, x *rapportv1.Simulation) error {
	writef(a.out, "\nanother offer is first in %d of %s (%s), for %s; the slate is another in %d\n",
		x.GetWinnersChanged(), plural(x.GetDecisions(), "decision"), formatShare(x.GetWinnersChanged(), x.GetDecisions()),
		plural(x.GetCustomersChanged(), "customer"), x.GetSlatesChanged())
	if x.GetSampled() && x.GetCustomers() > 0 {
		writef(a.out, "of all customers, %s to %s have another first offer somewhere (95%%)\n", formatPercent(x.GetCustomersChangedLow()), formatPercent(x.GetCustomersChangedHigh()))
	}
	if x.GetWinnersChanged() == 0 {
		return nil
	}
	writef(a.out, "\n")
	t := newTable("FIRST BEFORE", "FIRST AFTER", ">DECISIONS", ">SHARE")
	rest := x.GetOtherTransitions()
	for i, y := range x.GetTransitions() {
		if i >= shownTransitions {
			rest += y.GetDecisions()
			continue
		}
		t.add(orNone(y.GetFrom()), orNone(y.GetTo()), y.GetDecisions(), formatShare(y.GetDecisions(), x.GetDecisions()))
	}
	if rest > 0 {
		t.add("others", "", rest, formatShare(rest, x.GetDecisions()))
	}
	return t.write(a.out)
}

// printSimulationTable prints what is offered, divided: what changes most first.
func printSimulationTable(a *app, x *rapportv1.Simulation, table *rapportv1.SimulationTable) error {
	segment := slices.Index(table.GetBy(), "segment")
	if len(table.GetRows()) == 0 {
		return nil
	}
	if segment >= 0 && len(table.GetBy()) == 1 && len(table.GetRows()) == 1 && table.GetRows()[0].GetKey()[0] == "" {
		return nil // the catalogues have no segments
	}
	writef(a.out, "\n")
	var header []string
	for _, name := range table.GetBy() {
		header = append(header, strings.ToUpper(name))
	}
	if segment >= 0 {
		header = append(header, ">CUSTOMERS", ">REACHED", ">AFTER")
	}
	header = append(header, ">OFFERS", ">AFTER", ">CHANGE")
	if x.GetSampled() {
		header = append(header, ">± 95%")
	}
	header = append(header, ">CONTACTS", ">AFTER", ">VALUE", ">AFTER")
	t := newTable(header...)
	change := func(r *rapportv1.SimulationRow) int64 { return r.GetAfter().GetOffers() - r.GetBefore().GetOffers() }
	rows := slices.SortedStableFunc(slices.Values(table.GetRows()), func(p, q *rapportv1.SimulationRow) int {
		return cmp.Or(cmp.Compare(max(change(q), -change(q)), max(change(p), -change(p))), cmp.Compare(q.GetAfter().GetOffers(), p.GetAfter().GetOffers()))
	})
	still, left := 0, 0
	for _, r := range rows {
		if change(r) == 0 && slices.Contains(table.GetBy(), "offer") {
			if still++; still > shownUnchanged {
				left++
				continue
			}
		}
		var row []any
		for i, k := range r.GetKey() {
			if i == segment && k == "" {
				k = "in none"
			}
			row = append(row, k)
		}
		b, f := r.GetBefore(), r.GetAfter()
		if segment >= 0 {
			row = append(row, r.GetOf(), formatShare(b.GetCustomers(), r.GetOf()), formatShare(f.GetCustomers(), r.GetOf()))
		}
		row = append(row, b.GetOffers(), f.GetOffers(), formatChange(float64(change(r))))
		if x.GetSampled() {
			row = append(row, formatCount(r.GetMargin()))
		}
		row = append(row, b.GetContacts(), f.GetContacts(), formatCount(b.GetValue()), formatCount(f.GetValue()))
		t.add(row...)
	}
	if err := t.write(a.out); err != nil {
		return err
	}
	if left > 0 {
		writef(a.out, "… and %d more without a change in offers; --json has all\n", left)
	}
	return nil
}

// printSuppressions prints what is withheld.
func printSuppressions(a *app, x *rapportv1.Simulation) error {
	if len(x.GetSuppressions()) == 0 {
		return nil
	}
	writef(a.out, "\n")
	t := newTable("WITHHELD", "BY", "CHANNEL", ">OFFERS", ">AFTER", ">CHANGE", ">CUSTOMERS", ">AFTER")
	for _, s := range x.GetSuppressions() {
		t.add(words(s.GetReason()), orNone(s.GetBy()), s.GetChannel(), s.GetOffersBefore(), s.GetOffersAfter(),
			formatChange(float64(s.GetOffersAfter()-s.GetOffersBefore())), s.GetCustomersBefore(), s.GetCustomersAfter())
	}
	return t.write(a.out)
}

// words writes a name of the API for people: NOT_ELIGIBLE is "not eligible".
func words(name string) string { return strings.ToLower(strings.ReplaceAll(name, "_", " ")) }

// printCapacities prints what is used up.
func printCapacities(a *app, x *rapportv1.Simulation) error {
	if len(x.GetCapacities()) == 0 {
		return nil
	}
	writef(a.out, "\n")
	t := newTable("CAPACITY", ">FREE", ">TAKEN", ">FREE AFTER", ">TAKEN AFTER")
	for _, c := range x.GetCapacities() {
		row := []any{c.GetCapacity(), none, none, none, none}
		if c.GetHasBefore() {
			row[1], row[2] = c.GetLeftBefore(), c.GetTakenBefore()
		}
		if c.GetHasAfter() {
			row[3], row[4] = c.GetLeftAfter(), c.GetTakenAfter()
		}
		t.add(row...)
	}
	return t.write(a.out)
}

func printDegradations(a *app, x *rapportv1.Simulation) error {
	if len(x.GetDegradations()) == 0 {
		return nil
	}
	writef(a.out, "\n")
	t := newTable("DECIDED WITHOUT", ">BEFORE", ">AFTER", "SUCH AS")
	for _, d := range x.GetDegradations() {
		t.add(words(d.GetKind()), d.GetBefore(), d.GetAfter(), orNone(d.GetDetail()))
	}
	return t.write(a.out)
}

// printExamples prints customers whose first offer changes, with what a dry run needs to
// show all of it.
func printExamples(a *app, x *rapportv1.Simulation) error {
	if len(x.GetExamples()) == 0 {
		return nil
	}
	writef(a.out, "\n")
	t := newTable("CUSTOMER", "TOUCHPOINT", "FIRST BEFORE", ">SCORE", "FIRST AFTER", ">SCORE", "SEED")
	score := func(offer string, f float64) string {
		if offer == "" {
			return none
		}
		return formatScore(f)
	}
	for _, e := range x.GetExamples() {
		t.add(e.GetCustomer(), e.GetTouchpoint(), orNone(e.GetFrom()), score(e.GetFrom(), e.GetFromScore()), orNone(e.GetTo()), score(e.GetTo(), e.GetToScore()), e.GetSeed())
	}
	return t.write(a.out)
}

// formatCount writes a sum without more digits than people read.
func formatCount(f float64) string {
	if f == math.Trunc(f) || math.Abs(f) >= 100 {
		return strconv.FormatFloat(f, 'f', 0, 64)
	}
	return strconv.FormatFloat(f, 'f', 1, 64)
}

// formatChange writes a difference with its sign.
func formatChange(f float64) string { return formatSigned(f, formatCount(math.Abs(f))) }

func formatSigned(f float64, abs string) string {
	switch {
	case f > 0:
		return "+" + abs
	case f < 0:
		return "−" + abs
	}
	return "0"
}
