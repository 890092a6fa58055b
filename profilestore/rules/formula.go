package rules

import (
	"fmt"
	"math"
	"strings"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"

	"rapport/profilestore"
)

// Formula is an expression that gives a value instead of a decision, such as
//
//	"You have used " + string(int(profile.usage.data_mb)) + " MB"
//
// It is compiled as conditions are. An [Evaluation] computes it. It is immutable and safe
// for concurrent use.
type Formula struct {
	kind profilestore.Kind
	run  func(*frame) (profilestore.Value, state) // nil: only cel-go can evaluate it
	prog cel.Program

	reads     Reads
	decisions []int32 // that it reads, each after those that it reads itself
}

// CompileValue compiles an expression whose value is of a kind: a number (also a whole
// one), a flag, a text or a time. An error is [CompileErrors].
func (e *Env) CompileValue(expr string, kind profilestore.Kind) (*Formula, error) {
	if strings.TrimSpace(expr) == "" {
		return nil, wholeError(expr, "there is no expression")
	}
	tree, mistakes := e.lang.compile(expr)
	if mistakes != nil {
		return nil, mistakes
	}
	part := tree.Expr()
	t := resultType(tree)
	if whole := t.Kind() == types.IntKind && kind == profilestore.KindNumber; t.Kind() != celType(kind).Kind() && !whole {
		hint := ""
		if kind == profilestore.KindText {
			hint = ": write string(…) around it"
		}
		return nil, wholeError(expr, "a %s is needed here, not a %s%s", kind, plainType(t), hint)
	}
	if kind == profilestore.KindSet {
		return nil, wholeError(expr, "an expression can't give a set")
	}
	f := &Formula{kind: kind}
	var err error
	if f.prog, err = e.lang.program(tree, part); err != nil {
		return nil, wholeError(expr, "%v", err)
	}
	f.run = e.lang.newCompiler(tree, part).value(part)
	f.reads, f.decisions = e.lang.reads(part)
	return f, nil
}

// Kind returns the kind of the formula's values.
func (f *Formula) Kind() profilestore.Kind { return f.kind }

// Compiled reports whether the formula runs as compiled code. cel-go evaluates the others.
func (f *Formula) Compiled() bool { return f.run != nil }

// Compute returns the value of a formula for the inputs of the last [Evaluation.Reset],
// or the unknown value if one that it needs is unknown. It fails if there is no value, for
// example for the number of a text that is none. The formula must be of the same [Env] as
// the evaluation's table.
func (e *Evaluation) Compute(f *Formula) (profilestore.Value, error) {
	e.memo.decide(f.decisions, &e.vars, &e.frame)
	if f.run != nil {
		e.frame.gaveUp = false
		v, s := f.run(&e.frame)
		if s != stateFailed && !e.frame.gaveUp {
			return v, nil
		}
	}
	v, _, err := f.prog.Eval(&e.vars) // which also says what is wrong
	switch {
	case err != nil:
		return profilestore.Value{}, fmt.Errorf("rules: %w", err)
	case types.IsUnknown(v):
		return profilestore.Value{}, nil
	}
	if out, ok := convert(native(v), f.kind); ok && isFinite(out.Number()) {
		return out, nil
	}
	return profilestore.Value{}, fmt.Errorf("rules: a %s is needed, got %s", f.kind, describe(native(v)))
}

// value compiles an expression to one that gives a value. It returns nil if a part of it
// is not covered.
func (c *compiler) value(e ast.Expr) func(*frame) (profilestore.Value, state) {
	var n node[profilestore.Value]
	switch c.typeOf(e).Kind() {
	case types.BoolKind:
		n = boxed(c, c.flags.expr(c, e), profilestore.Flag)
	case types.IntKind:
		n = boxedNumber(c, c.anyNumber(e))
	case types.DoubleKind:
		n = boxedNumber(c, c.numbers.expr(c, e))
	case types.StringKind:
		n = boxedText(c, c.texts.expr(c, e))
	case types.TimestampKind:
		n = boxed(c, c.times.expr(c, e), func(t time.Time) profilestore.Value { return profilestore.Time(t.UnixMicro()) })
	default:
		c.miss("a " + plainType(c.typeOf(e)))
	}
	return c.valueCode(e, n)
}

// valueCode returns the code of n, which is e compiled.
func (c *compiler) valueCode(e ast.Expr, n node[profilestore.Value]) func(*frame) (profilestore.Value, state) {
	static := c.cost(e)
	if c.uncovered != "" || static > maxCost {
		return nil
	}
	return func(f *frame) (profilestore.Value, state) {
		f.rewind()
		f.budget = maxCost - static
		v, s := n.run(f)
		if c.counted && f.budget < 0 {
			f.giveUp()
		}
		return v, s
	}
}

// boxed compiles a value of a Go type to one of the profile's.
func boxed[T any](c *compiler, a node[T], box func(T) profilestore.Value) node[profilestore.Value] {
	return unary(c, a, func(_ *frame, v T) (profilestore.Value, state) { return box(v), stateKnown })
}

// boxedText is boxed. A text lies in the frame: it is copied, once if it is constant.
func boxedText(c *compiler, a node[string]) node[profilestore.Value] {
	return boxed(c, a, func(s string) profilestore.Value { return profilestore.Text(strings.Clone(s)) })
}

// boxedNumber is boxed, but what is not finite is no value.
func boxedNumber(c *compiler, a node[float64]) node[profilestore.Value] {
	return unary(c, a, func(_ *frame, v float64) (profilestore.Value, state) {
		return profilestore.Number(v), failedIf(!isFinite(v))
	})
}

func isFinite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }
