package rules

import (
	"time"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"
)

// compiler makes a checked tree into code: closures of Go's own types over the slots of
// the profile, the inputs and now, with nothing looked up, boxed or allocated when they
// run.
//
// The check has given every part of an expression its type, so each part becomes a
// function of that type and the types are gone when it runs:
//
//	profile.value.arpu * 2 > 80
//
// is one function that returns a bool and calls one that returns a float64, which reads
// slot 3. Beside its value a function returns its state: known, unknown or failed.
// cel-go's rules for the two that are no value are part of the language and are kept
// to the letter; they are not what one would guess:
//
//   - && and || take False, or True, from either side; else Unknown beats Failed.
//   - A call of one or two operands gives what is wrong with the first that has no
//     value: unknown + failed is Unknown, failed + unknown is Failed.
//   - ==, != and all calls of three operands, lists and maps give Failed if any
//     operand failed, else Unknown.
//   - x in [] is False, whatever x is.
//
// cel-go remains the judge in three ways. What the compiler does not know, it leaves to
// cel-go, the whole condition; [Table.Compiled] counts. Code that meets something rare
// while it runs gives up, and cel-go evaluates the condition instead: a text that is not
// valid UTF-8 where runes are counted, a value of another kind than its field. And a
// condition with a comprehension has a budget: cel-go fails such a condition when its
// cost passes a limit, so code counts an upper bound of that cost and gives up when the
// bound is passed. That keeps the outcome cel-go's own without computing its cost
// exactly, and bounds the work.
//
// One tagged value for all types would be less code: but each operation would begin with
// a switch over what the check has said already, and a value of 40 bytes goes through
// memory where a float64 and a byte stay in registers.
//
// The code of a part is a call of a closure, about 2 ns. The comparison of a field with a
// constant is what most conditions are, so it is one closure and not three (see
// compareField).
type compiler struct {
	lang *language
	tree *ast.AST

	flags   *kind[bool]
	wholes  *kind[int64]
	numbers *kind[float64]
	texts   *kind[string]
	times   *kind[time.Time]
	spans   *kind[time.Duration]

	counted   bool     // a comprehension is in it: costs count
	scratch   bool     // the code needs a rewound frame
	locals    []string // the variables of the comprehensions around
	uncovered string   // the first part that was not covered
}

// code is a compiled condition.
type code func(*frame) Truth

// condition compiles a condition. It returns nil if a part of it is not covered.
func (c *compiler) condition(e ast.Expr) code {
	static := c.cost(e)
	n := c.flags.expr(c, e)
	if c.uncovered != "" || static > maxCost {
		return nil
	}
	run := n.run
	switch {
	case n.fixed:
		t := truth(n.value, n.state)
		return func(*frame) Truth { return t }
	case c.counted:
		return func(f *frame) Truth {
			f.rewind()
			f.budget = maxCost - static
			v, s := run(f)
			if f.budget < 0 {
				f.giveUp()
			}
			return truth(v, s)
		}
	case c.scratch:
		return func(f *frame) Truth {
			f.rewind()
			return truth(run(f))
		}
	}
	return func(f *frame) Truth { return truth(run(f)) }
}

// typeOf returns the type that the check found.
func (c *compiler) typeOf(e ast.Expr) *types.Type { return c.tree.GetType(e.ID()) }

// miss notes a part that is not covered.
func (c *compiler) miss(what string) {
	if c.uncovered == "" {
		c.uncovered = what
	}
}

// cost returns an upper bound of what cel-go counts for an expression, but for what the
// code charges while it runs: what depends on the length of texts and lists, and the
// bodies of comprehensions, at each turn.
func (c *compiler) cost(e ast.Expr) int {
	const (
		listCost = 10
		mapCost  = 30
	)
	switch e.Kind() {
	case ast.LiteralKind:
		if s, ok := text(e); ok {
			return 2 + len(s)/10 // for what compares it
		}
		return 0
	case ast.SelectKind:
		return 1 + c.cost(e.AsSelect().Operand())
	case ast.CallKind:
		sum := 2
		if e.AsCall().IsMemberFunction() {
			sum += c.cost(e.AsCall().Target())
		}
		for _, a := range e.AsCall().Args() {
			sum += c.cost(a)
		}
		return sum
	case ast.ListKind:
		sum := listCost
		for _, x := range e.AsList().Elements() {
			sum += 1 + c.cost(x)
		}
		return sum
	case ast.MapKind:
		sum := mapCost
		for _, x := range e.AsMap().Entries() {
			sum += c.cost(x.AsMapEntry().Key()) + c.cost(x.AsMapEntry().Value())
		}
		return sum
	case ast.ComprehensionKind:
		x := e.AsComprehension()
		return c.cost(x.IterRange()) + c.cost(x.AccuInit()) + c.cost(x.Result())
	case ast.IdentKind, ast.StructKind, ast.UnspecifiedExprKind:
	}
	return 1
}
