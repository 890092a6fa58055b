package rules

import (
	"strings"
	"time"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"rapport/profilestore"
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
// Rejected: one tagged value for all types, and a small stack machine. Both are half the
// code, but every operation then begins with a switch, and a value of 40 bytes goes
// through memory where a float64 and a byte stay in registers.
//
// What a part of an expression costs is the call of a closure, 2 ns. The comparison of a
// field with a constant is what most conditions are, so it is one closure (see
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

	counted   bool // a comprehension is in it: costs count
	scratch   bool // the code needs a rewound frame
	locals    []local
	uncovered string // the first part that was not covered
}

// local is the variable of a comprehension around.
type local struct {
	name string
	elem types.Kind
}

// state is whether there is a value.
type state uint8

const (
	stateKnown state = iota
	stateUnknown
	stateFailed
)

// truth returns a flag and its state as one.
func truth(v bool, s state) Truth {
	switch {
	case s == stateUnknown:
		return Unknown
	case s == stateFailed:
		return Failed
	case v:
		return True
	}
	return False
}

// node is a compiled part of an expression.
type node[T any] struct {
	run   func(*frame) (T, state)
	fixed bool // a constant, whatever run is given:
	value T
	state state
	slot  int // if not 0, the node reads the profile's field at slot-1
}

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

// code is a compiled condition.
type code func(*frame) Truth

// frame is the memory that code runs in. Not safe for concurrent use.
type frame struct {
	vars   *variables
	budget int  // that is left of maxCost; counts only in code with comprehensions
	gaveUp bool // cel-go has to evaluate the condition
	bytes  []byte

	flags   lane[bool]
	wholes  lane[int64]
	numbers lane[float64]
	texts   lane[string]
	times   lane[time.Time]
	spans   lane[time.Duration]
}

// lane holds the values of one type that code keeps in memory: the variables of
// comprehensions, by how deep these are within each other, and the elements of lists.
type lane[T any] struct {
	vars  [maxComprehension]T
	items []T
}

// maxKept is how many bytes or elements of scratch memory stay for the next condition.
const maxKept = 1 << 14

// rewind forgets the lists and texts of the last condition.
func (f *frame) rewind() {
	f.flags.rewind()
	f.wholes.rewind()
	f.numbers.rewind()
	f.texts.rewind()
	f.times.rewind()
	f.spans.rewind()
	f.bytes = f.bytes[:0]
	if cap(f.bytes) > maxKept {
		f.bytes = nil
	}
}

func (l *lane[T]) rewind() {
	l.items = l.items[:0]
	if cap(l.items) > maxKept {
		l.items = nil
	}
}

// reserve appends n elements and returns where the first is. Lists stay where they are
// until the lane is rewound, also when it grows.
func (l *lane[T]) reserve(n int) int {
	at := len(l.items)
	for range n {
		var zero T
		l.items = append(l.items, zero)
	}
	return at
}

// giveUp leaves the condition to cel-go. What it returns is not looked at.
func (f *frame) giveUp() state {
	f.gaveUp = true
	return stateFailed
}

// charge takes what an operation costs at most from the budget.
func (f *frame) charge(cost int) { f.budget -= cost }

// spend is charge at a place where work can be broken off.
func (f *frame) spend(cost int) bool {
	if f.budget -= cost; f.budget < 0 {
		f.giveUp()
		return false
	}
	return true
}

// noField is what a field gives whose value is not of its kind.
func (f *frame) noField(v profilestore.Value) state {
	if !v.Known() {
		return stateUnknown
	}
	return f.giveUp()
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

// notCovered is a node that is not covered.
func notCovered[T any](c *compiler, what string) node[T] {
	c.miss(what)
	return node[T]{run: func(f *frame) (out T, s state) { return out, f.giveUp() }}
}

// constant is a node that always gives v.
func constant[T any](v T, s state) node[T] {
	return node[T]{fixed: true, value: v, state: s, run: func(*frame) (T, state) { return v, s }}
}

// fold makes a node of run, or what run gives if it always gives the same. Where costs
// count, what it cost goes on being charged.
func fold[T any](c *compiler, fixed bool, run func(*frame) (T, state)) node[T] {
	if !fixed || c.uncovered != "" {
		return node[T]{run: run}
	}
	f := &frame{vars: &variables{}, budget: maxCost}
	v, s := run(f)
	if f.gaveUp {
		return node[T]{run: run}
	}
	if text, ok := any(v).(string); ok { // it lies in the frame
		v, _ = any(strings.Clone(text)).(T)
	}
	n := constant(v, s)
	if cost := maxCost - f.budget; c.counted && cost > 0 {
		n.fixed = false
		n.run = func(f *frame) (T, state) {
			f.charge(cost)
			return v, s
		}
	}
	return n
}

// expr compiles an expression of the kind.
func (k *kind[T]) expr(c *compiler, e ast.Expr) node[T] {
	if t := c.typeOf(e); t.Kind() != k.of {
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
	for i := len(c.locals) - 1; i >= 0; i-- {
		if c.locals[i].name == name {
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

func (c *compiler) isLocal(name string) bool {
	for _, l := range c.locals {
		if l.name == name {
			return true
		}
	}
	return false
}

// selection compiles the reading of a field or an input.
func (k *kind[T]) selection(c *compiler, e ast.Expr) node[T] {
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

// conditional compiles a ? b : c.
func conditional[T any](ask node[bool], yes, no node[T]) node[T] {
	return node[T]{run: func(f *frame) (out T, s state) {
		v, s := ask.run(f)
		switch {
		case s != stateKnown:
			return out, s
		case v:
			return yes.run(f)
		}
		return no.run(f)
	}}
}

// unary compiles a call of one operand.
func unary[A, T any](c *compiler, a node[A], op func(*frame, A) (T, state)) node[T] {
	run := a.run
	return fold(c, a.fixed, func(f *frame) (out T, s state) {
		x, s := run(f)
		if s != stateKnown {
			return out, s
		}
		return op(f, x)
	})
}

// binary compiles a call of two operands. Where the first is unknown the second is
// evaluated all the same, as cel-go does: it may cost.
func binary[A, B, T any](c *compiler, a node[A], b node[B], op func(*frame, A, B) (T, state)) node[T] {
	first, second := a.run, b.run
	return fold(c, a.fixed && b.fixed, func(f *frame) (out T, s state) {
		x, s := first(f)
		if s == stateFailed {
			return out, s
		}
		y, s2 := second(f)
		if s == stateUnknown {
			return out, s
		}
		if s2 != stateKnown {
			return out, s2
		}
		return op(f, x, y)
	})
}

// three compiles a call of three operands.
func three[A, B, C, T any](c *compiler, a node[A], b node[B], d node[C], op func(*frame, A, B, C) (T, state)) node[T] {
	return fold(c, a.fixed && b.fixed && d.fixed, func(f *frame) (out T, s state) {
		x, s1 := a.run(f)
		if s1 == stateFailed {
			return out, s1
		}
		y, s2 := b.run(f)
		if s2 == stateFailed {
			return out, s2
		}
		z, s3 := d.run(f)
		if s = max(s1, s2, s3); s != stateKnown {
			return out, s
		}
		return op(f, x, y, z)
	})
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
