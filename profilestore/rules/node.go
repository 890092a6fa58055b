package rules

import "strings"

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
