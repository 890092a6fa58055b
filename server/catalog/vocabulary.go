package catalog

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/types/known/structpb"

	"rapport/profilestore"
	"rapport/profilestore/rules"
	rapportv1 "rapport/server/api/rapport/v1"
)

// addVocabulary adds segments, decision tables and the words for conditions, and begins
// the table of rules, which know them.
func (c *compiler) addVocabulary() *rules.TableBuilder {
	var v rules.Vocabulary
	segments := c.firsts(rules.ListSegments, "segment", len(c.message.GetSegments()), func(i int) string { return c.message.GetSegments()[i].GetId() })
	for _, m := range c.message.GetSegments() {
		v.Segments = append(v.Segments, rules.Segment{ID: m.GetId(), Label: m.GetLabel(), When: m.GetWhen()})
	}
	c.firsts(rules.ListTables, "decision table", len(c.message.GetDecisionTables()), func(i int) string { return c.message.GetDecisionTables()[i].GetId() })
	for i, m := range c.message.GetDecisionTables() {
		v.Tables = append(v.Tables, c.decisionTable(i, m))
	}
	for _, m := range c.message.GetLabels() {
		v.Labels = append(v.Labels, rules.Label{When: m.GetWhen(), Label: m.GetLabel(), Not: m.GetNot()})
	}
	env, mistakes := c.rulesEnv().WithVocabulary(v)
	for n, x := range mistakes {
		if x.List == rules.ListSegments {
			segments[x.Index] = false
		}
		from := c.origins[x.List][x.Index]
		if path := from.path + "." + x.Part; n < maxProblems && !from.doc.suppressed(path) && !c.lostName(x.Errors) {
			from.doc.failScalar(path, x.Errors)
		}
	}
	c.env = env
	table := env.NewTable()
	for i, m := range c.message.GetSegments() {
		if !segments[i] {
			continue
		}
		when, err := table.Add(m.GetWhen())
		if errs, ok := errors.AsType[rules.CompileErrors](err); ok {
			from := c.origins["segments"][i]
			from.doc.failScalar(from.path+".when", errs)
			continue
		}
		c.out.Segments = append(c.out.Segments, Segment{
			ID: m.GetId(), Label: m.GetLabel(), Description: m.GetDescription(), Owner: m.GetOwner(), Text: m.GetWhen(), When: when,
		})
	}
	built := table.Build()
	for i, m := range c.message.GetDecisionTables() {
		t := DecisionTable{
			ID: m.GetId(), Label: m.GetLabel(), Description: m.GetDescription(), Owner: m.GetOwner(),
			Inputs: m.GetInputs(), Default: v.Tables[i].Default,
		}
		for k, rule := range built.DecisionRows(i) {
			t.Rows = append(t.Rows, DecisionRow{Cells: v.Tables[i].Rows[k].When, When: rule, Result: v.Tables[i].Rows[k].Result})
		}
		c.out.DecisionTables = append(c.out.DecisionTables, t)
	}
	return table
}

// firsts notes the ids of a list, and returns which elements are the first with theirs.
func (c *compiler) firsts(list, what string, n int, id func(i int) string) []bool {
	seen := make(map[string]int)
	first := make([]bool, n)
	for i := range first {
		first[i] = c.declare(seen, list, i, "id", what, id(i))
	}
	return first
}

// decisionTable converts a table. A value that could not be read is none.
func (c *compiler) decisionTable(i int, m *rapportv1.DecisionTable) rules.DecisionTable {
	t := rules.DecisionTable{ID: m.GetId(), Label: m.GetLabel(), Inputs: m.GetInputs()}
	result := func(below string, v *structpb.Value) profilestore.Value {
		switch x := v.GetKind().(type) {
		case *structpb.Value_NumberValue:
			return profilestore.Number(x.NumberValue)
		case *structpb.Value_BoolValue:
			return profilestore.Flag(x.BoolValue)
		case *structpb.Value_StringValue:
			return profilestore.Text(x.StringValue)
		case *structpb.Value_ListValue, *structpb.Value_StructValue:
			c.fail(rules.ListTables, i, below, "a result is a text, a number, true or false")
		}
		return profilestore.Unknown()
	}
	for k, row := range m.GetRows() {
		t.Rows = append(t.Rows, rules.TableRow{When: row.GetWhen(), Result: result(fmt.Sprintf("rows[%d].result", k), row.GetResult())})
	}
	t.Default = result("default", m.GetDefault())
	return t
}

// lostName reports whether mistakes may come of segments or decision tables that could
// not be read, which was said.
func (c *compiler) lostName(mistakes rules.CompileErrors) bool {
	return slices.ContainsFunc(mistakes, func(m *rules.CompileError) bool {
		for list, root := range map[string]string{rules.ListSegments: "segment", rules.ListTables: "table"} {
			if c.lost[list] && (strings.HasPrefix(m.Message, "there is no "+root+".") || strings.HasPrefix(m.Message, `there is no "`+root+`"`)) {
				return true
			}
		}
		return false
	})
}

// Segment returns the place of a segment in Segments, or false.
func (c *Compiled) Segment(id string) (int, bool) {
	for i := range c.Segments {
		if c.Segments[i].ID == id {
			return i, true
		}
	}
	return 0, false
}

// Words returns what an atomic condition asks, by its place in Rules, as it is shown to
// people: its label, or its CEL where it has none.
func (c *Compiled) Words(condition int) string {
	if label := c.Rules.Label(condition); label != "" {
		return label
	}
	return c.Rules.Condition(condition)
}

// SegmentsOf returns which segments have an atomic condition among those that all have to
// hold, by their places in Segments: a rule that names one of them has it too.
func (c *Compiled) SegmentsOf(condition int) []int {
	var out []int
	for i := range c.Segments {
		if slices.Contains(c.Segments[i].When.Conditions(), int32(condition)) {
			out = append(out, i)
		}
	}
	return out
}
