package rules

import (
	"slices"
	"strings"
	"unicode/utf8"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"

	"rapport/profilestore"
)

// list compiles a list: one that is written out, a set, or what split, map, filter, +
// and ?: make. Its elements lie in the frame until that is rewound, or are constant.
func (k *kind[T]) list(c *compiler, e ast.Expr) node[[]T] {
	if t := c.typeOf(e); t.Kind() != types.ListKind || t.Parameters()[0].Kind() != k.of && !isEmptyList(e) {
		return notCovered[[]T](c, "a "+plainType(t))
	}
	c.scratch = true
	switch e.Kind() {
	case ast.ListKind:
		return k.written(c, e.AsList().Elements())
	case ast.SelectKind:
		if n, ok := any(c.set(e)).(node[[]T]); ok {
			return n
		}
	case ast.ComprehensionKind:
		return k.collected(c, e)
	case ast.CallKind:
		args := operands(e)
		switch e.AsCall().FunctionName() {
		case operators.Conditional:
			return conditional(c.flags.expr(c, args[0]), k.list(c, args[1]), k.list(c, args[2]))
		case operators.Add:
			return binary(c, k.list(c, args[0]), k.list(c, args[1]), func(f *frame, x, y []T) ([]T, state) {
				if len(x)+len(y) > maxElements {
					return nil, f.giveUp()
				}
				l := k.lane(f)
				at := len(l.items)
				l.items = append(append(l.items, x...), y...)
				return l.items[at:len(l.items):len(l.items)], stateKnown
			})
		case "split":
			if n, ok := any(c.split(args)).(node[[]T]); ok {
				return n
			}
		}
	case ast.LiteralKind, ast.IdentKind, ast.MapKind, ast.StructKind, ast.UnspecifiedExprKind:
	}
	return notCovered[[]T](c, "a list")
}

// maxElements is the length of a sum of lists beyond which it is left to cel-go, which
// does not copy them.
const maxElements = 4096

func isEmptyList(e ast.Expr) bool { return e.Kind() == ast.ListKind && e.AsList().Size() == 0 }

// written compiles a list that is written out.
func (k *kind[T]) written(c *compiler, elements []ast.Expr) node[[]T] {
	nodes := make([]node[T], len(elements))
	values := make([]T, len(elements))
	fixed := true
	for i, x := range elements {
		nodes[i] = k.expr(c, x)
		values[i] = nodes[i].value
		fixed = fixed && nodes[i].fixed && nodes[i].state == stateKnown
	}
	if fixed {
		return constant(values, stateKnown)
	}
	n := len(nodes)
	return node[[]T]{run: func(f *frame) ([]T, state) {
		at := k.lane(f).reserve(n)
		var state state
		for i := range nodes {
			v, s := nodes[i].run(f)
			if s == stateFailed {
				return nil, s
			}
			state = max(state, s)
			k.lane(f).items[at+i] = v // the lane may have grown
		}
		if state != stateKnown {
			return nil, state
		}
		return k.lane(f).items[at : at+n : at+n], stateKnown
	}}
}

// set compiles the elements of a set.
func (c *compiler) set(e ast.Expr) node[[]string] {
	slot, input, ok := c.place(e)
	if !ok {
		return notCovered[[]string](c, "a list")
	}
	read := func(f *frame) profilestore.Value { return f.vars.input(input) }
	if slot >= 0 {
		read = func(f *frame) profilestore.Value { return f.vars.field(slot) }
	}
	return node[[]string]{slot: slot + 1, run: func(f *frame) ([]string, state) {
		v := read(f)
		if v.Kind() != profilestore.KindSet {
			return nil, f.noField(v)
		}
		at := len(f.texts.items)
		for x := range v.Elements() {
			f.texts.items = append(f.texts.items, x)
		}
		return slices.Clip(f.texts.items[at:]), stateKnown
	}}
}

// split compiles split(…), with or without a number of parts.
func (c *compiler) split(args []ast.Expr) node[[]string] {
	if len(args) == 3 {
		return three(c, c.texts.expr(c, args[0]), c.texts.expr(c, args[1]), c.wholes.expr(c, args[2]), splitText)
	}
	return binary(c, c.texts.expr(c, args[0]), c.texts.expr(c, args[1]), func(f *frame, s, sep string) ([]string, state) {
		return splitText(f, s, sep, -1)
	})
}

// splitText is strings.SplitN, into the frame.
func splitText(f *frame, s, sep string, n int64) ([]string, state) {
	f.charge(2*len(s) + 12)
	at := len(f.texts.items)
	for rest, found := s, n != 0 && (sep != "" || s != ""); found; n-- {
		part := rest
		switch {
		case n == 1:
			found = false
		case sep == "":
			_, size := utf8.DecodeRuneInString(rest)
			part, rest = rest[:size], rest[size:]
			found = rest != ""
		default:
			part, rest, found = strings.Cut(rest, sep)
		}
		f.texts.items = append(f.texts.items, part)
	}
	return slices.Clip(f.texts.items[at:]), stateKnown
}

// listSize compiles size(…) of a list, or of a set, which need not be read as one.
func (k *kind[T]) listSize(c *compiler, e ast.Expr) node[int64] {
	l := k.list(c, e)
	if slot := l.slot - 1; slot >= 0 {
		return node[int64]{run: func(f *frame) (int64, state) {
			v := f.vars.field(slot)
			if v.Kind() != profilestore.KindSet {
				return 0, f.noField(v)
			}
			return int64(v.Size()), stateKnown
		}}
	}
	return unary(c, l, func(_ *frame, v []T) (int64, state) { return int64(len(v)), stateKnown })
}

// listEquality compiles == and != of two lists.
func (k *kind[T]) listEquality(c *compiler, a, b ast.Expr, not bool) node[bool] {
	return equalOf(c, k.list(c, a), k.list(c, b), func(f *frame, x, y []T) bool {
		f.charge(min(len(x), len(y)))
		return slices.EqualFunc(x, y, k.same)
	}, not)
}

// same is == of two values.
func (k *kind[T]) same(a, b T) bool {
	if k.equal != nil {
		return k.equal(a, b)
	}
	return a == b
}

// index compiles list[i] and map[key]. In cel-go these are no calls but attributes with
// qualifiers: a conditional passes them on to its branches, and for a field the index is
// evaluated first, so that failed beats unknown.
func (k *kind[T]) index(c *compiler, of, i ast.Expr) node[T] {
	if of.Kind() == ast.CallKind && of.AsCall().FunctionName() == operators.Conditional {
		args := of.AsCall().Args()
		return conditional(c.flags.expr(c, args[0]), k.index(c, args[1], i), k.index(c, args[2], i))
	}
	if of.Kind() == ast.MapKind {
		if c.typeOf(i).Kind() == types.StringKind {
			return lookup(c, c.texts, k, of, i)
		}
		return lookup(c, c.wholes, k, of, i)
	}
	if c.typeOf(of).Kind() != types.ListKind || c.typeOf(i).Kind() != types.IntKind {
		return notCovered[T](c, "a "+plainType(c.typeOf(of)))
	}
	at := func(_ *frame, l []T, i int64) (out T, s state) {
		if i < 0 || i >= int64(len(l)) {
			return out, stateFailed
		}
		return l[i], stateKnown
	}
	list, place := k.list(c, of), c.wholes.expr(c, i)
	if of.Kind() != ast.SelectKind {
		return binary(c, list, place, at)
	}
	return binary(c, place, list, func(f *frame, i int64, l []T) (T, state) { return at(f, l, i) })
}

// keysOf returns the keys of a map that is written out, and which entry each means.
func (k *kind[K]) keysOf(c *compiler, of ast.Expr) (table map[K]int, values []ast.Expr) {
	table = make(map[K]int)
	for i, x := range of.AsMap().Entries() {
		key := k.expr(c, x.AsMapEntry().Key())
		if !key.fixed || key.state != stateKnown {
			c.miss("a map with computed keys")
		}
		table[key.value] = i
		values = append(values, x.AsMapEntry().Value())
	}
	return table, values
}

// lookup compiles {…}[key].
func lookup[K, T comparable](c *compiler, keys *kind[K], k *kind[T], of, key ast.Expr) node[T] {
	c.scratch = true
	table, values := keys.keysOf(c, of)
	all := k.written(c, values)
	return binary(c, all, keys.expr(c, key), func(_ *frame, l []T, x K) (out T, s state) {
		i, ok := table[x]
		if !ok {
			return out, stateFailed
		}
		return l[i], stateKnown
	})
}

// mapSize compiles size({…}).
func (c *compiler) mapSize(of ast.Expr) node[int64] {
	var n int
	var values []ast.Expr
	if c.typeOf(of).Parameters()[0].Kind() == types.StringKind {
		var table map[string]int
		table, values = c.texts.keysOf(c, of)
		n = len(table)
	} else {
		var table map[int64]int
		table, values = c.wholes.keysOf(c, of)
		n = len(table)
	}
	return unary(c, c.evaluated(values), func(*frame, int) (int64, state) { return int64(n), stateKnown })
}

// evaluated compiles expressions of which only matters whether they have values, as for a
// map of which only the keys are asked for.
func (c *compiler) evaluated(list []ast.Expr) node[int] {
	fixed := true
	states := make([]func(*frame) state, len(list))
	for i, e := range list {
		k, ok := c.kindOf(c.typeOf(e).Kind())
		if !ok {
			return notCovered[int](c, "a "+plainType(c.typeOf(e)))
		}
		var always bool
		states[i], always = k.state(c, e)
		fixed = fixed && always
	}
	return fold(c, fixed, func(f *frame) (n int, all state) {
		for _, run := range states {
			s := run(f)
			if s == stateFailed {
				return 0, s
			}
			all = max(all, s)
		}
		return len(states), all
	})
}

// state compiles whether an expression has a value.
func (k *kind[T]) state(c *compiler, e ast.Expr) (run func(*frame) state, fixed bool) {
	n := k.expr(c, e)
	return func(f *frame) state {
		_, s := n.run(f)
		return s
	}, n.fixed
}
