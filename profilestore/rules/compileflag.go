package rules

import (
	"cmp"
	"regexp"
	"strconv"
	"strings"
	"time"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"

	"rapport/profilestore"
)

// flagCall compiles what is true or false.
func (c *compiler) flagCall(e ast.Expr) node[bool] {
	if e.Kind() == ast.ComprehensionKind {
		return c.quantifier(e)
	}
	call := e.AsCall()
	args := operands(e)
	switch name := call.FunctionName(); name {
	case operators.LogicalAnd, operators.LogicalOr:
		return c.logic(args, name == operators.LogicalOr)
	case operators.LogicalNot:
		return unary(c, c.flags.expr(c, args[0]), func(_ *frame, v bool) (bool, state) { return !v, stateKnown })
	case operators.Equals, operators.NotEquals:
		return c.equality(args[0], args[1], name == operators.NotEquals)
	case operators.Less, operators.LessEquals, operators.Greater, operators.GreaterEquals:
		return c.order(name, args[0], args[1])
	case operators.In:
		return c.membership(args[0], args[1])
	case "startsWith":
		return textTest(c, args, strings.HasPrefix, false)
	case "endsWith":
		return textTest(c, args, strings.HasSuffix, false)
	case "contains":
		return textTest(c, args, strings.Contains, true)
	case "matches":
		return c.matches(args[0], args[1])
	case "bool":
		if c.typeOf(args[0]).Kind() == types.BoolKind {
			return c.flags.expr(c, args[0])
		}
		return unary(c, c.texts.expr(c, args[0]), func(_ *frame, s string) (bool, state) {
			v, err := strconv.ParseBool(s)
			return v, failedIf(err != nil)
		})
	}
	return notCovered[bool](c, call.FunctionName())
}

// operands returns what a call is applied to, its receiver first.
func operands(e ast.Expr) []ast.Expr {
	call := e.AsCall()
	if call.IsMemberFunction() {
		return append([]ast.Expr{call.Target()}, call.Args()...)
	}
	return call.Args()
}

func failedIf(failed bool) state {
	if failed {
		return stateFailed
	}
	return stateKnown
}

// logic compiles && and ||. end is what decides, whatever the other operands are.
func (c *compiler) logic(args []ast.Expr, end bool) node[bool] {
	fixed := true
	terms := make([]func(*frame) (bool, state), len(args))
	for i, a := range args {
		n := c.flags.expr(c, a)
		terms[i] = n.run
		fixed = fixed && n.fixed
	}
	if len(terms) != 2 {
		return fold(c, fixed, func(f *frame) (bool, state) {
			all := logicSum{end: end}
			for _, t := range terms {
				if all.add(t(f)) {
					break
				}
			}
			return all.result()
		})
	}
	first, second := terms[0], terms[1]
	return fold(c, fixed, func(f *frame) (bool, state) {
		v, s := first(f)
		if s == stateKnown {
			if v == end {
				return end, s
			}
			return second(f)
		}
		v, s2 := second(f)
		if s2 == stateKnown {
			if v == end {
				return end, s2
			}
			return false, s
		}
		return false, min(s, s2) // unknown comes before failed
	})
}

// logicSum is && or || of a number of values.
type logicSum struct {
	end     bool // what decides
	decided bool
	state   state
}

// add takes one more value and reports whether it decides.
func (l *logicSum) add(v bool, s state) bool {
	switch {
	case s == stateKnown:
		l.decided = v == l.end
	case l.state == stateKnown || s == stateUnknown:
		l.state = s
	}
	return l.decided
}

func (l *logicSum) result() (bool, state) {
	if l.decided {
		return l.end, stateKnown
	}
	return !l.end, l.state
}

// order compiles <, <=, > and >=.
func (c *compiler) order(op string, a, b ast.Expr) node[bool] {
	switch x, y := c.kinds(a, b); {
	case x == types.IntKind && y == types.IntKind:
		return compare(c, op, c.wholes.expr(c, a), c.wholes.expr(c, b))
	case isNumber(x) && isNumber(y):
		return compareNumbers(c, op, c.anyNumber(a), c.anyNumber(b))
	case x != y:
	case x == types.StringKind:
		return compareTexts(c, op, c.texts.expr(c, a), c.texts.expr(c, b))
	case x == types.DurationKind:
		return compare(c, op, c.spans.expr(c, a), c.spans.expr(c, b))
	case x == types.TimestampKind:
		if x, y, ok := c.microsBoth(a, b); ok {
			return compare(c, op, x, y)
		}
		return compareWith(c, op, c.times.expr(c, a), c.times.expr(c, b), time.Time.Compare)
	case x == types.BoolKind:
		return compare(c, op, c.flagAsWhole(a), c.flagAsWhole(b))
	}
	return notCovered[bool](c, "the comparison of "+plainType(c.typeOf(a))+" and "+plainType(c.typeOf(b)))
}

func isNumber(k types.Kind) bool { return k == types.IntKind || k == types.DoubleKind }

// anyNumber compiles a number, a whole one as a double. Comparing the two so is
// exactly what cel-go does.
func (c *compiler) anyNumber(e ast.Expr) node[float64] {
	if c.typeOf(e).Kind() != types.IntKind {
		return c.numbers.expr(c, e)
	}
	return unary(c, c.wholes.expr(c, e), func(_ *frame, v int64) (float64, state) { return float64(v), stateKnown })
}

func (c *compiler) flagAsWhole(e ast.Expr) node[int64] {
	return unary(c, c.flags.expr(c, e), func(_ *frame, v bool) (int64, state) {
		if v {
			return 1, stateKnown
		}
		return 0, stateKnown
	})
}

// ordering returns what <, <=, > or >= says.
func ordering[T cmp.Ordered](op string) func(a, b T) bool {
	switch op {
	case operators.Less:
		return func(a, b T) bool { return a < b }
	case operators.LessEquals:
		return func(a, b T) bool { return a <= b }
	case operators.Greater:
		return func(a, b T) bool { return a > b }
	}
	return func(a, b T) bool { return a >= b }
}

// compare compiles a comparison of values that Go can order. One with a NaN is false,
// in Go as in cel-go.
func compare[T cmp.Ordered](c *compiler, op string, a, b node[T]) node[bool] {
	holds := ordering[T](op)
	return binary(c, a, b, func(_ *frame, x, y T) (bool, state) { return holds(x, y), stateKnown })
}

// compareWith compiles a comparison of values that have their own order.
func compareWith[T any](c *compiler, op string, a, b node[T], order func(a, b T) int) node[bool] {
	holds := ordering[int](op)
	return binary(c, a, b, func(_ *frame, x, y T) (bool, state) { return holds(order(x, y), 0), stateKnown })
}

func compareTexts(c *compiler, op string, a, b node[string]) node[bool] {
	holds := ordering[string](op)
	return binary(c, a, b, func(f *frame, x, y string) (bool, state) {
		f.charge(min(len(x), len(y)) / 10)
		return holds(x, y), stateKnown
	})
}

// compareNumbers compiles a comparison of numbers.
func compareNumbers(c *compiler, op string, a, b node[float64]) node[bool] {
	switch {
	case a.slot > 0 && b.fixed && b.state == stateKnown:
		return compareField(op, a.slot-1, b.value)
	case b.slot > 0 && a.fixed && a.state == stateKnown:
		return compareField(turned[op], b.slot-1, a.value)
	}
	return compare(c, op, a, b)
}

// turned are the comparisons that hold when the operands change sides.
var turned = map[string]string{
	operators.Less: operators.Greater, operators.LessEquals: operators.GreaterEquals,
	operators.Greater: operators.Less, operators.GreaterEquals: operators.LessEquals,
}

// compareField compares a field with a constant: what most conditions are. As one
// closure it takes half the time of three.
func compareField(op string, slot int, with float64) node[bool] {
	switch op {
	case operators.Less:
		return node[bool]{run: func(f *frame) (bool, state) {
			v := f.vars.field(slot)
			if v.Kind() != profilestore.KindNumber {
				return false, f.noField(v)
			}
			return v.Number() < with, stateKnown
		}}
	case operators.LessEquals:
		return node[bool]{run: func(f *frame) (bool, state) {
			v := f.vars.field(slot)
			if v.Kind() != profilestore.KindNumber {
				return false, f.noField(v)
			}
			return v.Number() <= with, stateKnown
		}}
	case operators.Greater:
		return node[bool]{run: func(f *frame) (bool, state) {
			v := f.vars.field(slot)
			if v.Kind() != profilestore.KindNumber {
				return false, f.noField(v)
			}
			return v.Number() > with, stateKnown
		}}
	}
	return node[bool]{run: func(f *frame) (bool, state) {
		v := f.vars.field(slot)
		if v.Kind() != profilestore.KindNumber {
			return false, f.noField(v)
		}
		return v.Number() >= with, stateKnown
	}}
}

// equality compiles == and !=, which not turns round.
func (c *compiler) equality(a, b ast.Expr, not bool) node[bool] {
	x, y := c.kinds(a, b)
	if k, ok := c.kindOf(x); ok && x == y {
		return k.equality(c, a, b, not)
	}
	elem := c.elemOf(a)
	if isEmptyList(a) {
		elem = c.elemOf(b)
	}
	if k, ok := c.kindOf(elem); ok && y == types.ListKind {
		return k.listEquality(c, a, b, not)
	}
	return notCovered[bool](c, "the comparison of "+plainType(c.typeOf(a))+" and "+plainType(c.typeOf(b)))
}

// equalOf compiles == of two nodes: what failed beats what is unknown.
func equalOf[T any](c *compiler, a, b node[T], same func(*frame, T, T) bool, not bool) node[bool] {
	first, second := a.run, b.run
	return fold(c, a.fixed && b.fixed, func(f *frame) (bool, state) {
		x, s := first(f)
		if s == stateFailed {
			return false, s
		}
		y, s2 := second(f)
		if s = max(s, s2); s != stateKnown {
			return false, s
		}
		return same(f, x, y) != not, stateKnown
	})
}

func (k *kind[T]) equality(c *compiler, a, b ast.Expr, not bool) node[bool] {
	x, y := k.expr(c, a), k.expr(c, b)
	if x, ok := any(x).(node[string]); ok {
		if y, ok := any(y).(node[string]); ok {
			return equalTexts(c, x, y, not)
		}
	}
	if k.equal != nil {
		return equalOf(c, x, y, func(_ *frame, x, y T) bool { return k.equal(x, y) }, not)
	}
	return equalOf(c, x, y, func(_ *frame, x, y T) bool { return x == y }, not)
}

func equalTexts(c *compiler, a, b node[string], not bool) node[bool] {
	if a.fixed {
		a, b = b, a
	}
	if a.slot > 0 && b.fixed && b.state == stateKnown {
		slot, with := a.slot-1, b.value
		return node[bool]{run: func(f *frame) (bool, state) {
			v := f.vars.field(slot)
			if v.Kind() != profilestore.KindText {
				return false, f.noField(v)
			}
			return (v.Text() == with) != not, stateKnown
		}}
	}
	return equalOf(c, a, b, func(f *frame, x, y string) bool {
		f.charge(min(len(x), len(y)) / 10)
		return x == y
	}, not)
}

// textTest compiles startsWith and the like. If searching, its cost grows with both.
func textTest(c *compiler, args []ast.Expr, test func(s, part string) bool, searching bool) node[bool] {
	return binary(c, c.texts.expr(c, args[0]), c.texts.expr(c, args[1]), func(f *frame, s, part string) (bool, state) {
		if searching {
			f.charge((len(s)/10 + 1) * (len(part)/10 + 1))
		} else {
			f.charge(len(part) / 10)
		}
		return test(s, part), stateKnown
	})
}

// matches compiles a match with a pattern that is written out.
func (c *compiler) matches(s, pattern ast.Expr) node[bool] {
	p, ok := text(pattern)
	exp, err := regexp.Compile(p)
	if !ok || err != nil {
		return notCovered[bool](c, "a pattern")
	}
	return unary(c, c.texts.expr(c, s), func(f *frame, s string) (bool, state) {
		f.charge((len(s)/10 + 1) * (len(p)/4 + 1))
		return exp.MatchString(s), stateKnown
	})
}
