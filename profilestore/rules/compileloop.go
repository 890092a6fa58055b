package rules

import (
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
)

// loop is what a macro became: exists, all, exists_one, map or filter.
type loop struct {
	macro string
	test  ast.Expr // nil: map without one
	give  ast.Expr // of map and filter
	turn  int      // the cost of a turn
}

// loopOf recognizes a macro in a comprehension. The comprehension is whatever the parser
// makes of the macro, so it is its shape that is known and not what it computes; one of
// another shape is not covered.
func (c *compiler) loopOf(x ast.ComprehensionExpr) (loop, bool) {
	accu := func(e ast.Expr) bool { return e.Kind() == ast.IdentKind && e.AsIdent() == x.AccuVar() }
	l := loop{turn: 4 + c.cost(x.LoopCondition()) + c.cost(x.LoopStep())}
	step := x.LoopStep()
	if step.Kind() != ast.CallKind || x.IterVar2() != "" {
		return l, false
	}
	args := step.AsCall().Args()
	init, _ := x.AccuInit().AsLiteral().(types.Bool)
	switch step.AsCall().FunctionName() {
	case operators.LogicalAnd:
		l.macro, l.test = "all", args[1]
		return l, x.AccuInit().Kind() == ast.LiteralKind && init == types.True && accu(args[0]) && accu(x.Result())
	case operators.LogicalOr:
		l.macro, l.test = "exists", args[1]
		return l, x.AccuInit().Kind() == ast.LiteralKind && init == types.False && accu(args[0]) && accu(x.Result())
	case operators.Conditional:
		l.test = args[0]
		if !accu(args[2]) || args[1].Kind() != ast.CallKind {
			return l, false
		}
		step = args[1]
		args = step.AsCall().Args()
	}
	if step.AsCall().FunctionName() != operators.Add || !accu(args[0]) {
		return l, false
	}
	if x.AccuInit().Kind() != ast.ListKind {
		l.macro = "exists_one"
		return l, l.test != nil && x.AccuInit().Kind() == ast.LiteralKind && args[1].Kind() == ast.LiteralKind
	}
	if !isEmptyList(x.AccuInit()) || args[1].Kind() != ast.ListKind || args[1].AsList().Size() != 1 || !accu(x.Result()) {
		return l, false
	}
	l.macro, l.give = "map", args[1].AsList().Elements()[0]
	return l, true
}

// quantifier compiles exists, all and exists_one.
func (c *compiler) quantifier(e ast.Expr) node[bool] {
	of := e.AsComprehension().IterRange()
	if k, ok := c.kindOf(c.elemOf(of)); ok {
		return k.quantifier(c, e)
	}
	return notCovered[bool](c, "a comprehension over a "+plainType(c.typeOf(of)))
}

// inside compiles a part of a comprehension, in which its variable is known.
func inside[T any](c *compiler, x ast.ComprehensionExpr, compile func() node[T]) node[T] {
	c.locals = append(c.locals, x.IterVar())
	n := compile()
	c.locals = c.locals[:len(c.locals)-1]
	return n
}

func (k *kind[T]) quantifier(c *compiler, e ast.Expr) node[bool] {
	x := e.AsComprehension()
	l, ok := c.loopOf(x)
	if !ok || l.macro == "map" {
		return notCovered[bool](c, "a comprehension")
	}
	list := k.list(c, x.IterRange()).run
	test := inside(c, x, func() node[bool] { return c.flags.expr(c, l.test) }).run
	depth := len(c.locals)
	if l.macro == "exists_one" {
		return node[bool]{run: func(f *frame) (bool, state) {
			items, s := list(f)
			if s != stateKnown {
				return false, s
			}
			n, last := 0, stateKnown
			for _, x := range items {
				if !f.spend(l.turn) {
					return false, stateFailed
				}
				k.lane(f).vars[depth] = x
				switch v, s := test(f); {
				case s != stateKnown:
					last = s // what was counted is lost, and so is what went wrong before
				case v:
					n++
				}
			}
			return n == 1, last
		}}
	}
	end := l.macro == "exists"
	return node[bool]{run: func(f *frame) (bool, state) {
		items, s := list(f)
		if s != stateKnown {
			return false, s
		}
		all := logicSum{end: end}
		for _, x := range items {
			if !f.spend(l.turn) {
				return false, stateFailed
			}
			k.lane(f).vars[depth] = x
			if all.add(test(f)) {
				break
			}
		}
		return all.result()
	}}
}

// collected compiles map and filter, whose results are of kind k.
func (k *kind[T]) collected(c *compiler, e ast.Expr) node[[]T] {
	of := e.AsComprehension().IterRange()
	switch c.elemOf(of) {
	case types.BoolKind:
		return collect(c, c.flags, k, e)
	case types.IntKind:
		return collect(c, c.wholes, k, e)
	case types.DoubleKind:
		return collect(c, c.numbers, k, e)
	case types.StringKind:
		return collect(c, c.texts, k, e)
	case types.TimestampKind:
		return collect(c, c.times, k, e)
	case types.DurationKind:
		return collect(c, c.spans, k, e)
	default:
		return notCovered[[]T](c, "a comprehension over a "+plainType(c.typeOf(of)))
	}
}

func collect[F, T comparable](c *compiler, from *kind[F], to *kind[T], e ast.Expr) node[[]T] {
	x := e.AsComprehension()
	l, ok := c.loopOf(x)
	if !ok || l.macro != "map" {
		return notCovered[[]T](c, "a comprehension")
	}
	list := from.list(c, x.IterRange()).run
	test := constant(true, stateKnown)
	if l.test != nil {
		test = inside(c, x, func() node[bool] { return c.flags.expr(c, l.test) })
	}
	give := inside(c, x, func() node[T] { return to.expr(c, l.give) })
	depth := len(c.locals)
	return node[[]T]{run: func(f *frame) ([]T, state) {
		items, sum := list(f)
		if sum != stateKnown {
			return nil, sum
		}
		at := to.lane(f).reserve(len(items))
		n := 0
		for _, x := range items {
			if !f.spend(l.turn) {
				return nil, stateFailed
			}
			from.lane(f).vars[depth] = x
			switch put, s := test.run(f); {
			case s != stateKnown:
				sum = s // it takes the place of the list, whatever that was
				continue
			case !put:
				continue
			}
			v, s := give.run(f)
			if sum != stateKnown {
				continue
			}
			if sum = s; s == stateKnown {
				to.lane(f).items[at+n] = v
				n++
			}
		}
		return to.lane(f).items[at : at+n : at+n], sum
	}}
}
