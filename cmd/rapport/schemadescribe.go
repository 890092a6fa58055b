package main

import (
	"cmp"
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"connectrpc.com/connect"

	rapportv1 "rapport/server/api/rapport/v1"
)

type schemaDescribeCmd struct {
	Fields []string `arg:"" optional:"" name:"field" help:"Only these fields, and all that is known of them."`
}

// Help is shown by --help.
func (schemaDescribeCmd) Help() string {
	return `The tag register: of every field its type, owner, source and definition, and of the current snapshot
of its source how old it is, which share of its customers has a value, and how the values are
distributed. What events have changed since is not in it. Quantiles of large snapshots are computed from
some thousand customers. Of texts and sets, only values that 20 customers or more have are shown.

Examples:

	rapport schema describe
	rapport schema describe value.balance preference.channel
	rapport schema describe --data DATA --json`
}

// Run describes fields.
func (cmd *schemaDescribeCmd) Run(ctx context.Context, a *app) error {
	return a.call(ctx, func(c *clients) error {
		r, err := c.register.DescribeSchema(ctx, connect.NewRequest(&rapportv1.DescribeSchemaRequest{Fields: cmd.Fields}))
		if err != nil {
			return err
		}
		if a.json {
			return a.printMessage(r.Msg)
		}
		sources := make(map[string]*rapportv1.SourceDescription)
		for _, s := range r.Msg.GetSources() {
			sources[s.GetSource()] = s
			if s.GetUndescribed() != "" {
				writef(a.err, "source %s: snapshot %d has no distributions: %s\n", s.GetSource(), s.GetSnapshot().GetGeneration(), s.GetUndescribed())
			}
		}
		if len(cmd.Fields) > 0 {
			for i, f := range r.Msg.GetFields() {
				if i > 0 {
					writef(a.out, "\n")
				}
				printField(a, f, sources[f.GetSource()])
			}
			return nil
		}
		writef(a.out, "schema %s\n\n", r.Msg.GetSchemaId())
		if err := sourceTable(r.Msg.GetSources()).write(a.out); err != nil {
			return err
		}
		writef(a.out, "\n")
		return registerTable(r.Msg.GetFields(), sources).write(a.out)
	})
}

func sourceTable(sources []*rapportv1.SourceDescription) *table {
	t := newTable("SOURCE", "OWNER", ">SNAPSHOT", "AS OF", "AGE", ">CUSTOMERS", "DESCRIPTION")
	for _, s := range sources {
		row := []any{s.GetSource(), orNone(s.GetOwner()), none, none, none, none, s.GetDescription()}
		if snap := s.GetSnapshot(); snap != nil {
			row[2], row[3], row[4], row[5] = snap.GetGeneration(), formatTime(snap.GetAsOf()), ageText(s), snap.GetRows()
		}
		t.add(row...)
	}
	return t
}

func registerTable(fields []*rapportv1.FieldDescription, sources map[string]*rapportv1.SourceDescription) *table {
	t := newTable("FIELD", "TYPE", "OWNER", "SOURCE", "AGE", ">COVERAGE", "DISTRIBUTION", "DEFINITION")
	for _, f := range fields {
		age, from := none, orNone(f.GetSource())
		if f.GetAsOf() != nil {
			age = ageText(sources[f.GetSource()])
		}
		if f.GetEvents() != "" {
			from = strings.TrimPrefix(from+"+events", none+"+")
		}
		t.add(f.GetName(), strings.TrimSpace(f.GetType()+" "+f.GetWindow()), orNone(f.GetOwner()), from, age, coverageText(f), distributionText(f), f.GetDescription())
	}
	return t
}

// ageText writes how old the current snapshot of a source is.
func ageText(s *rapportv1.SourceDescription) string {
	age := formatAge(s.GetAge().AsDuration())
	if s.GetStale() {
		age += " (stale)"
	}
	return age
}

// formatAge writes a span in the two greatest of its units.
func formatAge(d time.Duration) string {
	switch minutes := int64(d.Minutes()); {
	case d < 0:
		return "in the future"
	case minutes < 60:
		return fmt.Sprintf("%dm", minutes)
	case minutes < 24*60:
		return fmt.Sprintf("%dh %dm", minutes/60, minutes%60)
	default:
		return fmt.Sprintf("%dd %dh", minutes/60/24, minutes/60%24)
	}
}

func coverageText(f *rapportv1.FieldDescription) string {
	switch {
	case f.GetNotLoaded():
		return "not loaded"
	case f.GetAsOf() == nil:
		return none
	}
	return formatShare(f.GetValues(), f.GetRows())
}

// formatShare writes a part of a whole in percent.
func formatShare(part, whole int64) string {
	if whole == 0 {
		return none
	}
	return formatPercent(float64(part) / float64(whole))
}

// formatPercent writes a share with one digit after the point. What is not nothing and
// not everything does not look as if it were.
func formatPercent(share float64) string {
	switch {
	case share > 0 && share < 0.001:
		return "<0.1%"
	case share < 1 && share > 0.999:
		return ">99.9%"
	}
	return strconv.FormatFloat(100*share, 'f', 1, 64) + "%"
}

// distributionText writes the distribution of a field as a cell of a table.
func distributionText(f *rapportv1.FieldDescription) string {
	d := f.GetDistribution()
	if d == nil || f.GetValues() == 0 {
		return none
	}
	var parts []string
	if d.ShareTrue != nil {
		parts = append(parts, formatPercent(d.GetShareTrue())+" true")
	}
	if n := d.GetNumbers(); n != nil {
		numbers := fmt.Sprintf("%s to %s, mean %s", formatScore(n.GetMin()), formatScore(n.GetMax()), formatScore(n.GetMean()))
		if f.GetType() == "set" {
			numbers = formatScore(n.GetMean()) + " elements each"
		}
		parts = append(parts, numbers)
		for _, q := range n.GetQuantiles() {
			if q.GetShare() == 0.5 && f.GetType() != "set" {
				parts = append(parts, "median "+formatScore(q.GetValue()))
			}
		}
	}
	if d.GetFirst() != nil {
		parts = append(parts, formatTime(d.GetFirst())+" to "+formatTime(d.GetLast()))
	}
	if t := d.GetTexts(); t != nil {
		parts = append(parts, textsText(f, t, 3)...)
	}
	return strings.Join(parts, ", ")
}

// textsText says how many different texts there are and which are the most frequent.
func textsText(f *rapportv1.FieldDescription, t *rapportv1.TextDistribution, most int) []string {
	about := ""
	if t.GetEstimate() {
		about = "about "
	}
	var parts []string
	if t.GetDistinct() > 0 {
		parts = append(parts, fmt.Sprintf("%s%d different", about, t.GetDistinct()))
	}
	for _, x := range t.GetTop()[:min(most, len(t.GetTop()))] {
		parts = append(parts, fmt.Sprintf("%s %s", x.GetText(), formatShare(x.GetCustomers(), f.GetValues())))
	}
	return parts
}

// printField prints all that is known of a field.
func printField(a *app, f *rapportv1.FieldDescription, source *rapportv1.SourceDescription) {
	line := func(name, format string, args ...any) {
		writef(a.out, "  %-12s  %s\n", name, printable(fmt.Sprintf(format, args...)))
	}
	writef(a.out, "%s\n", f.GetName())
	line("type", "%s", strings.TrimSpace(f.GetType()+" "+f.GetWindow()))
	line("definition", "%s", orNone(f.GetDescription()))
	line("owner", "%s", orNone(f.GetOwner()))
	if f.GetPersonal() {
		line("personal", "yes: explanations of decisions hide it")
	}
	if f.GetSource() != "" {
		state := "no snapshot is active"
		if s := source.GetSnapshot(); s != nil {
			state = fmt.Sprintf("snapshot %d as of %s, %s old", s.GetGeneration(), formatTime(s.GetAsOf()), ageText(source))
		}
		line("batch", "source %s, column %s: %s", f.GetSource(), f.GetColumn(), state)
	}
	if f.GetEvents() != "" {
		line("events", "%s", f.GetEvents())
	}
	switch {
	case f.GetNotLoaded():
		line("coverage", "the snapshot is from before the field was added: load the source again")
	case f.GetAsOf() != nil:
		line("coverage", "%s, %d of %s", coverageText(f), f.GetValues(), plural(f.GetRows(), "customer"))
	}
	d := f.GetDistribution()
	if d == nil {
		return
	}
	if d.ShareTrue != nil {
		line("true", "%s", formatPercent(d.GetShareTrue()))
	}
	if n := d.GetNumbers(); n != nil {
		what := map[string]string{"set": "elements"}[f.GetType()]
		line(cmp.Or(what, "values"), "%s to %s, mean %s", formatNumber(n.GetMin()), formatNumber(n.GetMax()), formatScore(n.GetMean()))
		var quantiles []string
		for _, q := range n.GetQuantiles() {
			quantiles = append(quantiles, fmt.Sprintf("%s%% %s", formatNumber(100*q.GetShare()), formatNumber(q.GetValue())))
		}
		if source.GetSampled() < f.GetRows() {
			quantiles = append(quantiles, fmt.Sprintf("from a sample of %s", plural(source.GetSampled(), "customer")))
		}
		line("quantiles", "%s", strings.Join(quantiles, ", "))
	}
	if d.GetFirst() != nil {
		line("times", "%s to %s", formatTime(d.GetFirst()), formatTime(d.GetLast()))
	}
	if t := d.GetTexts(); t != nil {
		if parts := textsText(f, t, len(t.GetTop())); len(parts) > 0 {
			line("texts", "%s", strings.Join(parts, ", "))
		}
		if len(t.GetTop()) == 0 && f.GetValues() > 0 {
			line("frequent", "none that 20 customers have in common")
		}
	}
}
