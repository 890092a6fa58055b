package rules

import (
	"slices"
	"time"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"rapport/profilestore"
)

// kind is how the compiler handles a type of values.
type kind[T comparable] struct {
	of       types.Kind
	field    profilestore.Kind // of the fields that have such values
	lane     func(*frame) *lane[T]
	get      func(profilestore.Value) T // of a value of kind field
	literal  func(ref.Val) (T, bool)
	call     func(e ast.Expr) node[T] // of a call that is not the same for all types
	hashed   bool                     // a table of them finds what == finds
	equal    func(a, b T) bool        // nil: ==
	fieldRun func(slot int) func(*frame) (T, state)
}

// anyKind is a kind of whatever type: what can be compiled without naming the type.
type anyKind interface {
	equality(c *compiler, a, b ast.Expr, not bool) node[bool]
	listEquality(c *compiler, a, b ast.Expr, not bool) node[bool]
	listSize(c *compiler, e ast.Expr) node[int64]
	in(c *compiler, x, list ast.Expr) node[bool]
	quantifier(c *compiler, e ast.Expr) node[bool]
	state(c *compiler, e ast.Expr) (run func(*frame) state, fixed bool)
}

// kindOf returns how to handle a type, or false if no expression of it is covered.
func (c *compiler) kindOf(t types.Kind) (anyKind, bool) {
	switch t {
	case types.BoolKind:
		return c.flags, true
	case types.IntKind:
		return c.wholes, true
	case types.DoubleKind:
		return c.numbers, true
	case types.StringKind:
		return c.texts, true
	case types.TimestampKind:
		return c.times, true
	case types.DurationKind:
		return c.spans, true
	default:
		return nil, false
	}
}

// elemOf returns the type of the elements of a list.
func (c *compiler) elemOf(list ast.Expr) types.Kind {
	if t := c.typeOf(list); t.Kind() == types.ListKind {
		return t.Parameters()[0].Kind()
	}
	return types.UnspecifiedKind
}

// newCompiler returns a compiler of a part of a checked tree.
func (l *language) newCompiler(tree *ast.AST, part ast.Expr) *compiler {
	c := &compiler{lang: l, tree: tree, counted: hasComprehension(part)}
	c.flags = &kind[bool]{
		of: types.BoolKind, field: profilestore.KindFlag, get: profilestore.Value.Flag,
		lane: func(f *frame) *lane[bool] { return &f.flags }, literal: literalOf[bool, types.Bool], call: c.flagCall, hashed: true,
		fieldRun: func(slot int) func(*frame) (bool, state) {
			return func(f *frame) (bool, state) {
				v := f.vars.field(slot)
				if v.Kind() != profilestore.KindFlag {
					return false, f.noField(v)
				}
				return v.Flag(), stateKnown
			}
		},
	}
	c.wholes = &kind[int64]{
		of: types.IntKind, lane: func(f *frame) *lane[int64] { return &f.wholes },
		literal: literalOf[int64, types.Int], call: c.wholeCall, hashed: true,
	}
	c.numbers = &kind[float64]{
		of: types.DoubleKind, field: profilestore.KindNumber, get: profilestore.Value.Number,
		lane: func(f *frame) *lane[float64] { return &f.numbers }, literal: literalOf[float64, types.Double], call: c.numberCall, hashed: true,
		fieldRun: func(slot int) func(*frame) (float64, state) {
			return func(f *frame) (float64, state) {
				v := f.vars.field(slot)
				if v.Kind() != profilestore.KindNumber {
					return 0, f.noField(v)
				}
				return v.Number(), stateKnown
			}
		},
	}
	c.texts = &kind[string]{
		of: types.StringKind, field: profilestore.KindText, get: profilestore.Value.Text,
		lane: func(f *frame) *lane[string] { return &f.texts }, literal: literalOf[string, types.String], call: c.textCall, hashed: true,
		fieldRun: func(slot int) func(*frame) (string, state) {
			return func(f *frame) (string, state) {
				v := f.vars.field(slot)
				if v.Kind() != profilestore.KindText {
					return "", f.noField(v)
				}
				return v.Text(), stateKnown
			}
		},
	}
	c.times = &kind[time.Time]{
		of: types.TimestampKind, field: profilestore.KindTime,
		get:  func(v profilestore.Value) time.Time { return time.UnixMicro(v.Micros()).UTC() },
		lane: func(f *frame) *lane[time.Time] { return &f.times }, call: c.timeCall, equal: time.Time.Equal,
	}
	c.spans = &kind[time.Duration]{
		of: types.DurationKind, lane: func(f *frame) *lane[time.Duration] { return &f.spans }, call: c.spanCall,
	}
	return c
}

// literalOf returns the value of a literal.
func literalOf[T bool | int64 | float64 | string, V interface {
	ref.Val
	types.Bool | types.Int | types.Double | types.String
}](v ref.Val) (out T, ok bool) {
	x, ok := v.(V)
	if ok {
		out, ok = x.Value().(T)
	}
	return out, ok
}

// expr compiles an expression of the kind.
func (k *kind[T]) expr(c *compiler, e ast.Expr) node[T] {
	if t := c.typeOf(e); t.Kind() == types.DynKind {
		return k.dynamic(c, e)
	} else if t.Kind() != k.of {
		return notCovered[T](c, "a "+plainType(t))
	}
	switch e.Kind() {
	case ast.LiteralKind:
		if k.literal != nil {
			if v, ok := k.literal(e.AsLiteral()); ok {
				return constant(v, stateKnown)
			}
		}
	case ast.IdentKind:
		return k.ident(c, e.AsIdent())
	case ast.SelectKind:
		return k.selection(c, e)
	case ast.CallKind:
		call := e.AsCall()
		switch call.FunctionName() {
		case operators.Conditional:
			return conditional(c.flags.expr(c, call.Args()[0]), k.expr(c, call.Args()[1]), k.expr(c, call.Args()[2]))
		case operators.Index:
			return k.index(c, call.Args()[0], call.Args()[1])
		}
		return k.call(e)
	case ast.ComprehensionKind:
		return k.call(e)
	case ast.ListKind, ast.MapKind, ast.StructKind, ast.UnspecifiedExprKind:
	}
	return notCovered[T](c, "an expression")
}

// ident compiles a variable of a comprehension, or now.
func (k *kind[T]) ident(c *compiler, name string) node[T] {
	for i, local := range slices.Backward(c.locals) {
		if local == name {
			at := k.lane
			return node[T]{run: func(f *frame) (T, state) { return at(f).vars[i], stateKnown }}
		}
	}
	if name == "now" && k.of == types.TimestampKind && c.lang.roots[name] != nil {
		get := k.get
		return node[T]{run: func(f *frame) (T, state) { return get(profilestore.Time(f.vars.in.Now)), stateKnown }}
	}
	return notCovered[T](c, name)
}

// place finds the profile field or the input that an expression of the form
// profile.GROUP.NAME or context.NAME reads, or asks for with has.
func (c *compiler) place(e ast.Expr) (slot, input int, ok bool) {
	of := e.AsSelect().Operand()
	name := e.AsSelect().FieldName()
	root := of
	for root.Kind() == ast.SelectKind {
		if root.AsSelect().IsTestOnly() {
			return 0, 0, false
		}
		name = root.AsSelect().FieldName() + "." + name
		root = root.AsSelect().Operand()
	}
	if root.Kind() != ast.IdentKind || c.isLocal(root.AsIdent()) {
		return 0, 0, false
	}
	i, ok := c.lang.places[root.AsIdent()+"."+name]
	if root.AsIdent() == "context" {
		return -1, i, ok
	}
	return i, -1, ok
}

func (c *compiler) isLocal(name string) bool { return slices.Contains(c.locals, name) }

// selection compiles the reading of a field or an input.
func (k *kind[T]) selection(c *compiler, e ast.Expr) node[T] {
	if of := e.AsSelect().Operand(); of.Kind() == ast.IdentKind && of.AsIdent() == "event" && c.lang.roots["event"] != nil && !c.isLocal("event") {
		return k.eventField(c, e.AsSelect().FieldName(), e.AsSelect().IsTestOnly())
	}
	if i, ok := c.lang.decisionAt(e); ok {
		if !e.AsSelect().IsTestOnly() {
			return k.decisionField(i)
		}
		n, _ := any(node[bool]{run: func(f *frame) (bool, state) { return f.vars.decision(i).state == stateKnown, stateKnown }}).(node[T]) // T is bool
		return n
	}
	slot, input, ok := c.place(e)
	if !ok {
		return notCovered[T](c, "a part of a value")
	}
	if e.AsSelect().IsTestOnly() {
		n, _ := any(known(slot, input)).(node[T]) // T is bool
		return n
	}
	if slot >= 0 && k.fieldRun != nil {
		return node[T]{slot: slot + 1, run: k.fieldRun(slot)}
	}
	want, get := k.field, k.get
	return node[T]{slot: slot + 1, run: func(f *frame) (out T, s state) {
		var v profilestore.Value
		if slot >= 0 {
			v = f.vars.field(slot)
		} else {
			v = f.vars.input(input)
		}
		if v.Kind() != want {
			return out, f.noField(v)
		}
		return get(v), stateKnown
	}}
}

// known compiles has(…).
func known(slot, input int) node[bool] {
	if slot >= 0 {
		return node[bool]{run: func(f *frame) (bool, state) { return f.vars.field(slot).Known(), stateKnown }}
	}
	return node[bool]{run: func(f *frame) (bool, state) { return f.vars.input(input).Known(), stateKnown }}
}
