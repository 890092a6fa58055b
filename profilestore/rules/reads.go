package rules

import (
	"slices"

	"cel.dev/cel-go/common/ast"
)

// Reads are what an expression may read, whether it does for a given customer or not:
// also what stands behind an && that was decided before. What is only asked for with
// has(…) is among it. The lists are ascending and without repetitions; do not modify
// them.
type Reads struct {
	Slots   []int // of fields of the profile
	Context []int // inputs of [NewEnv], by their places
	Tables  []int // reference tables, by their places in the schema
	Now     bool  // the time of the decision

	// Decisions are decision tables, by their places in the vocabulary. What these read
	// is in the other lists too.
	Decisions []int
}

// Reads returns what an atomic condition reads.
func (t *Table) Reads(i int) Reads { return t.atoms[i].reads }

// Reads returns what a formula reads.
func (f *Formula) Reads() Reads { return f.reads }

// Reads returns what an expression that is shown to people reads.
func (t *Text) Reads() Reads { return t.formula.reads }

// Join returns what two expressions read together.
func (r Reads) Join(more Reads) Reads {
	var all Reads
	all.add(r)
	all.add(more)
	all.tidy()
	return all
}

// reads returns what a part of a checked tree reads, and the decision tables of that,
// each after those that it reads itself.
func (l *language) reads(part ast.Expr) (r Reads, decisions []int32) {
	ast.PreOrderVisit(part, ast.NewExprVisitor(func(e ast.Expr) {
		switch e.Kind() {
		case ast.SelectKind:
			// No variable of a comprehension has the name of a root: see walkComprehension.
			c := compiler{lang: l}
			if i, ok := l.decisionAt(e); ok {
				d := &l.decisions[i]
				r.add(d.reads)
				r.Decisions = append(r.Decisions, i)
				decisions = append(union(decisions, d.needs), int32(i))
			} else if slot, input, ok := c.place(e); ok && slot >= 0 {
				r.Slots = append(r.Slots, slot)
			} else if ok {
				r.Context = append(r.Context, input)
			}
		case ast.IdentKind:
			r.Now = r.Now || e.AsIdent() == "now"
		case ast.CallKind:
			if name := e.AsCall().FunctionName(); slices.Contains(l.tables, name) {
				r.Tables = append(r.Tables, l.tablePlaces[name])
			}
		case ast.LiteralKind, ast.ListKind, ast.MapKind, ast.StructKind, ast.ComprehensionKind, ast.UnspecifiedExprKind:
		}
	}))
	r.tidy()
	return r, union(nil, decisions)
}

func (r *Reads) add(more Reads) {
	r.Slots = append(r.Slots, more.Slots...)
	r.Context = append(r.Context, more.Context...)
	r.Tables = append(r.Tables, more.Tables...)
	r.Decisions = append(r.Decisions, more.Decisions...)
	r.Now = r.Now || more.Now
}

// tidy sorts the lists and leaves out repetitions.
func (r *Reads) tidy() {
	for _, list := range []*[]int{&r.Slots, &r.Context, &r.Tables, &r.Decisions} {
		slices.Sort(*list)
		*list = slices.Clip(slices.Compact(*list))
	}
}
