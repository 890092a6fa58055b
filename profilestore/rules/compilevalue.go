package rules

import (
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
)

// wholeCall compiles what gives a whole number.
func (c *compiler) wholeCall(e ast.Expr) node[int64] {
	if e.Kind() != ast.CallKind {
		return notCovered[int64](c, "a comprehension")
	}
	name := e.AsCall().FunctionName()
	args := operands(e)
	switch name {
	case operators.Add:
		return wholes(c, args, addWholes)
	case operators.Subtract:
		return wholes(c, args, subtractWholes)
	case operators.Multiply:
		return wholes(c, args, multiplyWholes)
	case operators.Divide:
		return wholes(c, args, func(x, y int64) (int64, bool) {
			if y == 0 || x == math.MinInt64 && y == -1 {
				return 0, false
			}
			return x / y, true
		})
	case operators.Modulo:
		return wholes(c, args, func(x, y int64) (int64, bool) {
			if y == 0 || x == math.MinInt64 && y == -1 {
				return 0, false
			}
			return x % y, true
		})
	case operators.Negate:
		return unary(c, c.wholes.expr(c, args[0]), func(_ *frame, x int64) (int64, state) {
			return -x, failedIf(x == math.MinInt64)
		})
	case "size":
		return c.size(args[0])
	case "int":
		return c.toWhole(args[0])
	case "indexOf", "lastIndexOf":
		return c.indexOf(args, name == "lastIndexOf")
	}
	if strings.HasPrefix(name, "get") {
		return c.timePart(name, args)
	}
	return notCovered[int64](c, name)
}

// wholes compiles arithmetic of whole numbers.
func wholes(c *compiler, args []ast.Expr, op func(x, y int64) (int64, bool)) node[int64] {
	return binary(c, c.wholes.expr(c, args[0]), c.wholes.expr(c, args[1]), func(_ *frame, x, y int64) (int64, state) {
		v, ok := op(x, y)
		return v, failedIf(!ok)
	})
}

func addWholes(x, y int64) (int64, bool) {
	sum := x + y
	return sum, (sum > x) == (y > 0)
}

func subtractWholes(x, y int64) (int64, bool) {
	d := x - y
	return d, (d < x) == (y > 0)
}

func multiplyWholes(x, y int64) (int64, bool) {
	if x == 0 || y == 0 {
		return 0, true
	}
	p := x * y
	return p, p/y == x && (x != math.MinInt64 || y != -1)
}

// toWhole compiles int(…).
func (c *compiler) toWhole(e ast.Expr) node[int64] {
	switch c.typeOf(e).Kind() {
	case types.IntKind:
		return c.wholes.expr(c, e)
	case types.DoubleKind:
		return unary(c, c.numbers.expr(c, e), func(_ *frame, x float64) (int64, state) {
			if math.IsNaN(x) || x <= math.MinInt64 || x >= math.MaxInt64 {
				return 0, stateFailed
			}
			return int64(x), stateKnown
		})
	case types.StringKind:
		return unary(c, c.texts.expr(c, e), func(_ *frame, s string) (int64, state) {
			v, err := strconv.ParseInt(s, 10, 64)
			return v, failedIf(err != nil)
		})
	case types.TimestampKind:
		return unary(c, c.times.expr(c, e), func(_ *frame, t time.Time) (int64, state) { return t.Unix(), stateKnown })
	case types.DurationKind:
		return unary(c, c.spans.expr(c, e), func(_ *frame, d time.Duration) (int64, state) { return int64(d), stateKnown })
	default:
		return notCovered[int64](c, "int of a "+plainType(c.typeOf(e)))
	}
}

// numberCall compiles what gives a double.
func (c *compiler) numberCall(e ast.Expr) node[float64] {
	if e.Kind() != ast.CallKind {
		return notCovered[float64](c, "a comprehension")
	}
	args := operands(e)
	switch name := e.AsCall().FunctionName(); name {
	case operators.Add:
		return numbers(c, args, func(_ *frame, x, y float64) (float64, state) { return x + y, stateKnown })
	case operators.Subtract:
		return numbers(c, args, func(_ *frame, x, y float64) (float64, state) { return x - y, stateKnown })
	case operators.Multiply:
		return numbers(c, args, func(_ *frame, x, y float64) (float64, state) { return x * y, stateKnown })
	case operators.Divide:
		return numbers(c, args, func(_ *frame, x, y float64) (float64, state) { return x / y, stateKnown })
	case operators.Negate:
		return unary(c, c.numbers.expr(c, args[0]), func(_ *frame, x float64) (float64, state) { return -x, stateKnown })
	case "double":
		if c.typeOf(args[0]).Kind() != types.StringKind {
			return c.anyNumber(args[0])
		}
		return unary(c, c.texts.expr(c, args[0]), func(_ *frame, s string) (float64, state) {
			v, err := strconv.ParseFloat(s, 64)
			return v, failedIf(err != nil)
		})
	default:
		return notCovered[float64](c, name)
	}
}

func numbers(c *compiler, args []ast.Expr, op func(*frame, float64, float64) (float64, state)) node[float64] {
	return binary(c, c.numbers.expr(c, args[0]), c.numbers.expr(c, args[1]), op)
}

// size compiles size(…) of a text, a set or a list.
func (c *compiler) size(e ast.Expr) node[int64] {
	t := c.typeOf(e)
	if t.Kind() == types.StringKind {
		return unary(c, c.texts.expr(c, e), func(_ *frame, s string) (int64, state) {
			return int64(utf8.RuneCountInString(s)), stateKnown
		})
	}
	if k, ok := c.kindOf(c.elemOf(e)); ok {
		return k.listSize(c, e)
	}
	switch {
	case isEmptyList(e):
		return constant(int64(0), stateKnown)
	case e.Kind() == ast.MapKind:
		return c.mapSize(e)
	}
	return notCovered[int64](c, "size of a "+plainType(t))
}
