package trial

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"rapport/profilestore"
	"rapport/sdk/abi"
	"rapport/server/catalog"
	"rapport/server/decide"
	"rapport/server/sandbox"
)

// Decided is a decision that a server has made: what was ranked in it, of which a case
// is made for a strategy.
type Decided struct {
	Comment  []string // lines
	Manifest *sandbox.Manifest
	Catalog  *catalog.Compiled
	Scenario *catalog.Scenario
	Ranking  *decide.Ranking // filled
	// Foreign says that the scenario names another strategy: its parameters are not this
	// one's, and what came of the ranking is not to be expected.
	Foreign bool
	// Hidden reports whether the value of a profile field is to be left out.
	Hidden func(field string) bool
}

// Write returns the case as a file, and which profile fields are left out because they
// are hidden. What is expected is what the strategy said, if it was this one and saw all
// that the case has.
func (d *Decided) Write() (text []byte, hidden []string) {
	m, q := d.Manifest, d.Ranking
	profile, hidden := d.fields(false)
	context, _ := d.fields(true)
	var b strings.Builder
	for _, line := range d.Comment {
		fmt.Fprintf(&b, "# %s\n", strings.Map(printableOnly, line))
	}
	if len(hidden) > 0 {
		fmt.Fprintf(&b, "# Personal data is left out, so the answer may be another: %s.\n", strings.Join(hidden, ", "))
	}
	fmt.Fprintf(&b, "now: %s\nseed: %d\n", time.UnixMicro(q.Now).UTC().Format(time.RFC3339Nano), q.Seed)
	for _, part := range []struct {
		key    string
		values []string
	}{{"profile", profile}, {"context", context}} {
		if len(part.values) > 0 {
			fmt.Fprintf(&b, "%s:\n  %s\n", part.key, strings.Join(part.values, "\n  "))
		}
	}
	d.writeParameters(&b)
	if q.Slots > 0 {
		fmt.Fprintf(&b, "slots: %d\n", q.Slots)
	}
	ids := d.ids()
	b.WriteString("candidates:\n")
	for i, k := range q.Candidates {
		candidate := d.Scenario.Candidates[k]
		offer := &d.Catalog.Offers[candidate.Offer]
		fmt.Fprintf(&b, "  - id: %s\n", quoted(ids[i]))
		writeAttributes(&b, "offer", m.Offer, offer.Attributes)
		writeAttributes(&b, "channel", m.Channel, d.Catalog.Channels[candidate.Channel].Attributes)
		for _, x := range []struct {
			column string
			cells  []float64
			usual  float64
		}{{abi.ColumnPropensity, q.Propensity, 0}, {abi.ColumnValue, q.Value, 0}, {abi.ColumnWeight, q.Weight, 1}, {abi.ColumnLever, q.Lever, 1}} {
			if slices.Contains(m.Candidate, x.column) && x.cells[i] != x.usual {
				fmt.Fprintf(&b, "    %s: %s\n", x.column, number(x.cells[i]))
			}
		}
		d.writeHistory(&b, offer.ID)
	}
	if !d.Foreign && len(hidden) == 0 {
		b.Write(writeExpect(&Case{Candidates: withIDs(ids)}, d.expectation(ids)))
	}
	return []byte(b.String()), hidden
}

// printableOnly keeps comments comments.
func printableOnly(r rune) rune {
	if r < ' ' {
		return ' '
	}
	return r
}

// ids are what the case calls the candidates: the offer, with the channel where an offer
// competes in several.
func (d *Decided) ids() []string {
	times := make(map[int]int)
	for _, k := range d.Ranking.Candidates {
		times[d.Scenario.Candidates[k].Offer]++
	}
	ids := make([]string, len(d.Ranking.Candidates))
	for i, k := range d.Ranking.Candidates {
		c := d.Scenario.Candidates[k]
		if ids[i] = d.Catalog.Offers[c.Offer].ID; times[c.Offer] > 1 {
			ids[i] += "." + d.Catalog.Channels[c.Channel].ID
		}
	}
	return ids
}

func withIDs(ids []string) []Candidate {
	candidates := make([]Candidate, len(ids))
	for i, id := range ids {
		candidates[i].ID = id
	}
	return candidates
}

// fields are the lines of the profile, or of the context.
func (d *Decided) fields(ofContext bool) (lines, hidden []string) {
	for _, in := range d.Manifest.Profile {
		name, isContext := strings.CutPrefix(in.Name, abi.ContextGroup)
		if isContext != ofContext {
			continue
		}
		v := profilestore.Unknown()
		if i, ok := d.Catalog.ContextField(name); ok && isContext && i < len(d.Ranking.Context) {
			v = d.Ranking.Context[i]
		} else if slot, ok := d.Catalog.Schema.Lookup(in.Name); ok && d.Ranking.Profile != nil {
			v = d.Ranking.Profile.Get(slot)
		}
		switch {
		case !v.Known() || v.Kind().String() != in.Type:
		case !isContext && d.Hidden(in.Name):
			hidden = append(hidden, in.Name)
		default:
			lines = append(lines, name+": "+written(v))
		}
	}
	return lines, hidden
}

func (d *Decided) writeParameters(b *strings.Builder) {
	if d.Foreign || d.Scenario.Strategy == nil {
		return
	}
	var parts []string
	for _, p := range d.Manifest.Parameters {
		if x, ok := d.Scenario.Strategy.Parameters[p.Name]; ok {
			parts = append(parts, p.Name+": "+number(x))
		}
	}
	if len(parts) > 0 {
		fmt.Fprintf(b, "parameters: {%s}\n", strings.Join(parts, ", "))
	}
}

func (d *Decided) writeHistory(b *strings.Builder, offer string) {
	var parts []string
	for _, column := range d.Manifest.Candidate {
		if x, ok := sandbox.HistoryCell(d.Ranking, column, offer); ok && x != 0 && x != -1 {
			parts = append(parts, column+": "+number(x))
		}
	}
	if len(parts) > 0 {
		fmt.Fprintf(b, "    history: {%s}\n", strings.Join(parts, ", "))
	}
}

func writeAttributes(b *strings.Builder, key string, inputs []abi.Input, attributes map[string]profilestore.Value) {
	var parts []string
	for _, in := range inputs {
		if v := attributes[in.Name]; v.Known() && v.Kind().String() == in.Type {
			parts = append(parts, in.Name+": "+written(v))
		}
	}
	if len(parts) > 0 {
		fmt.Fprintf(b, "    %s: {%s}\n", key, strings.Join(parts, ", "))
	}
}

// written writes a value such that a case reads it back as it is.
func written(v profilestore.Value) string {
	switch v.Kind() {
	case profilestore.KindNumber:
		return number(v.Number())
	case profilestore.KindTime:
		return time.UnixMicro(v.Micros()).UTC().Format(time.RFC3339Nano)
	case profilestore.KindText:
		return quoted(v.Text())
	case profilestore.KindSet:
		var elements []string
		for e := range strings.SplitSeq(v.SetText(), string(abi.SetSeparator)) {
			if e != "" {
				elements = append(elements, quoted(e))
			}
		}
		return list(elements)
	case profilestore.KindFlag, profilestore.KindUnknown:
	}
	return v.String()
}

// expectation is what the strategy said. The slate is not in it: that other things than
// the score decide about, such as classes and capacities.
func (d *Decided) expectation(ids []string) *Expect {
	q := d.Ranking
	e := &Expect{Candidates: make(map[string]ExpectCandidate, len(ids))}
	for i, id := range ids {
		x := ExpectCandidate{Score: &q.Score[i], Veto: q.Veto[i]}
		if code := q.Reason[i]; code > 0 && int(code) <= len(d.Manifest.Reasons) {
			x.Reason = &d.Manifest.Reasons[code-1]
		}
		if d.Manifest.Probability && len(q.Chance) > i && q.Chance[i] != 0 {
			x.Chance = &q.Chance[i]
		}
		e.Candidates[id] = x
	}
	return e
}
