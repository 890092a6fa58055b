package rules

import (
	"time"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"

	"rapport/profilestore"
)

// An attribute of an event is of any type, which the check does not know. The compiler
// takes it for what the place where it stands needs: a number beside 1000, a text before
// startsWith. If an event has something else there, the code gives up, and cel-go says
// whether that is a failure or just not equal.

// attribute compiles an attribute of an event, in the place of a value of the kind.
func (k *kind[T]) attribute(name string) node[T] {
	return node[T]{run: func(f *frame) (out T, s state) {
		v := f.event.Attributes[name]
		if v == nil {
			return out, stateUnknown
		}
		out, ok := v.(T)
		if !ok {
			return out, f.giveUp()
		}
		return out, stateKnown
	}}
}

// dynamic compiles an expression of a type that the check does not know, in the place of
// a value of the kind.
func (k *kind[T]) dynamic(c *compiler, e ast.Expr) node[T] {
	switch e.Kind() {
	case ast.SelectKind:
		if name, ok := attributeName(e); ok && c.lang.roots["event"] != nil && !c.isLocal("event") {
			return k.attribute(name)
		}
	case ast.CallKind:
		args := e.AsCall().Args()
		switch e.AsCall().FunctionName() {
		case operators.Conditional:
			return conditional(c.flags.expr(c, args[0]), k.expr(c, args[1]), k.expr(c, args[2]))
		case operators.Add, operators.Subtract, operators.Multiply, operators.Divide, operators.Negate:
			return k.call(e)
		}
	case ast.LiteralKind, ast.IdentKind, ast.ListKind, ast.MapKind, ast.ComprehensionKind, ast.StructKind, ast.UnspecifiedExprKind:
	}
	return notCovered[T](c, "a value of any type")
}

// kinds returns the types of two operands; of one that the check does not know, that of
// the other one, as a number a double, as all numbers of events are.
func (c *compiler) kinds(a, b ast.Expr) (x, y types.Kind) {
	x, y = c.typeOf(a).Kind(), c.typeOf(b).Kind()
	return known2(x, y), known2(y, x)
}

func known2(x, y types.Kind) types.Kind {
	switch {
	case x != types.DynKind:
		return x
	case y == types.IntKind || y == types.DynKind:
		return types.DoubleKind
	}
	return y
}

// eventField compiles what every event has.
func (k *kind[T]) eventField(c *compiler, name string, testOnly bool) node[T] {
	var n any
	switch {
	case testOnly && eventFields[name] != nil:
		n = constant(true, stateKnown)
	case testOnly:
		n = node[bool]{run: func(f *frame) (bool, state) { return f.event.Attributes[name] != nil, stateKnown }}
	case name == "type":
		n = node[string]{run: func(f *frame) (string, state) { return f.event.Type, stateKnown }}
	case name == "id":
		n = node[string]{run: func(f *frame) (string, state) { return f.event.ID, stateKnown }}
	case name == "time":
		n = node[time.Time]{run: func(f *frame) (time.Time, state) { return time.UnixMicro(f.event.Time).UTC(), stateKnown }}
	}
	if n, ok := n.(node[T]); ok {
		return n
	}
	return notCovered[T](c, "event."+name)
}

// given compiles what an event rule gives a field.
func (c *compiler) given(e ast.Expr, kind profilestore.Kind) func(*frame) (profilestore.Value, state) {
	if c.typeOf(e).Kind() != types.DynKind {
		if t := c.typeOf(e).Kind(); t != celType(kind).Kind() && t != types.IntKind {
			return nil // a text that is read as a time
		}
		return c.value(e)
	}
	var n node[profilestore.Value]
	switch kind {
	case profilestore.KindNumber:
		n = boxedNumber(c, c.numbers.expr(c, e))
	case profilestore.KindFlag:
		n = boxed(c, c.flags.expr(c, e), profilestore.Flag)
	case profilestore.KindText:
		n = boxedText(c, c.texts.expr(c, e))
	case profilestore.KindTime, profilestore.KindSet, profilestore.KindUnknown:
		return nil
	}
	return c.valueCode(e, n)
}
