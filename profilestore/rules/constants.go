package rules

import (
	"slices"
	"time"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"rapport/profilestore"
)

// Constants are the values that are written in a condition, each once, in the order in
// which they stand there: what whoever wants another outcome tries first. A part that
// reads nothing is one too: of 2.0 * 24.0 that is 48, 2 and 24, of
// timestamp("2026-12-01T00:00:00Z") the time and the text.
type Constants struct {
	Values []profilestore.Value // numbers, texts, flags and times
	Spans  []time.Duration
}

// Constants returns the values that are written in an atomic condition, and in the
// decision tables that it reads. Do not modify.
func (t *Table) Constants(i int) Constants {
	a := &t.atoms[i]
	if len(a.decisions) == 0 {
		return a.constants
	}
	c := Constants{slices.Clone(a.constants.Values), slices.Clone(a.constants.Spans)}
	for _, d := range a.decisions {
		for _, row := range t.decisions[d].rows {
			for _, atom := range row.when.atoms {
				for _, v := range t.atoms[atom].constants.Values {
					c.addValue(v)
				}
				for _, span := range t.atoms[atom].constants.Spans {
					c.addSpan(span)
				}
			}
		}
	}
	return c
}

// constants returns the values that are written in a part of a checked tree.
func (l *language) constants(tree *ast.AST, part ast.Expr) Constants {
	x := examiner{lang: l, tree: tree}
	var c Constants
	ast.PreOrderVisit(part, ast.NewExprVisitor(func(e ast.Expr) {
		switch e.Kind() {
		case ast.LiteralKind:
			c.add(e.AsLiteral())
		case ast.CallKind:
			if v := x.value(e); v != nil {
				c.add(v)
			}
		case ast.IdentKind, ast.SelectKind, ast.ListKind, ast.MapKind, ast.StructKind, ast.ComprehensionKind, ast.UnspecifiedExprKind:
		}
	}))
	c.Values, c.Spans = slices.Clip(c.Values), slices.Clip(c.Spans)
	return c
}

func (c *Constants) add(v ref.Val) {
	var value profilestore.Value
	switch v := v.(type) {
	case types.Double:
		value = profilestore.Number(float64(v))
	case types.Int:
		value = profilestore.Number(float64(v))
	case types.String:
		value = profilestore.Text(string(v))
	case types.Bool:
		value = profilestore.Flag(bool(v))
	case types.Timestamp:
		value = profilestore.Time(v.UnixMicro())
	case types.Duration:
		c.addSpan(v.Duration)
	}
	c.addValue(value)
}

func (c *Constants) addValue(v profilestore.Value) {
	if v.Known() && !slices.Contains(c.Values, v) {
		c.Values = append(c.Values, v)
	}
}

func (c *Constants) addSpan(d time.Duration) {
	if !slices.Contains(c.Spans, d) {
		c.Spans = append(c.Spans, d)
	}
}
