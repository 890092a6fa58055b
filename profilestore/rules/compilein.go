package rules

import (
	"slices"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"

	"rapport/profilestore"
)

// membership compiles x in list.
func (c *compiler) membership(x, list ast.Expr) node[bool] {
	if isEmptyList(list) {
		return constant(false, stateKnown) // whatever x is
	}
	if list.Kind() == ast.MapKind {
		if c.typeOf(x).Kind() == types.StringKind {
			return inMap(c, c.texts, x, list)
		}
		return inMap(c, c.wholes, x, list)
	}
	if k, ok := c.kindOf(known2(c.typeOf(x).Kind(), c.elemOf(list))); ok {
		return k.in(c, x, list)
	}
	return notCovered[bool](c, "in a "+plainType(c.typeOf(list)))
}

// fewElements is up to how many elements going through a list is faster than a table.
const fewElements = 8

func (k *kind[T]) in(c *compiler, x, list ast.Expr) node[bool] {
	ask := k.expr(c, x)
	of := k.list(c, list)
	if set, ok := any(of).(node[[]string]); ok && set.slot > 0 {
		if ask, ok := any(ask).(node[string]); ok {
			return inSet(c, ask, set.slot-1)
		}
	}
	if !of.fixed || of.state != stateKnown {
		return binary(c, ask, of, func(f *frame, v T, l []T) (bool, state) {
			f.charge(len(l))
			return slices.ContainsFunc(l, func(x T) bool { return k.same(v, x) }), stateKnown
		})
	}
	l := of.value
	if !k.hashed || len(l) <= fewElements {
		n := len(l)
		return unary(c, ask, func(f *frame, v T) (bool, state) {
			f.charge(n)
			for i := range l {
				if k.same(v, l[i]) {
					return true, stateKnown
				}
			}
			return false, stateKnown
		})
	}
	table := make(map[T]struct{}, len(l))
	for _, v := range l {
		table[v] = struct{}{}
	}
	return unary(c, ask, func(_ *frame, v T) (bool, state) {
		_, found := table[v]
		return found, stateKnown
	})
}

// inSet compiles x in a set of the profile.
func inSet(c *compiler, ask node[string], slot int) node[bool] {
	set := node[profilestore.Value]{run: func(f *frame) (profilestore.Value, state) {
		v := f.vars.field(slot)
		if v.Kind() != profilestore.KindSet {
			return v, f.noField(v)
		}
		return v, stateKnown
	}}
	return binary(c, ask, set, func(f *frame, x string, v profilestore.Value) (bool, state) {
		if c.counted {
			f.charge(v.Size())
		}
		return v.Has(x), stateKnown
	})
}

// inMap compiles x in {…}.
func inMap[K comparable](c *compiler, keys *kind[K], x, of ast.Expr) node[bool] {
	table, values := keys.keysOf(c, of)
	return binary(c, keys.expr(c, x), c.evaluated(values), func(_ *frame, v K, _ int) (bool, state) {
		_, ok := table[v]
		return ok, stateKnown
	})
}
