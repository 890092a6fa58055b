package rules

import (
	"maps"
	"slices"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
)

// CEL never mixes whole numbers with others: `profile.value.arpu * 2` is an
// error to it, as are `== 5` and `in [1, 2]`, because every number of a profile
// is a double and 2 is an int. People should not have to know. So before the
// check, numberer goes over the parsed tree and makes the whole numbers beside a
// double doubles: a literal by changing it, anything else by putting double(…)
// around it. What it can't tell stays as it is, and the check then says so.
// (Overloads for mixed operands lost: `==` and `in` take any two values of one
// type, so cel-go refuses an overload (double, int) as overlapping.)
type numberer struct {
	lang   *language
	tree   *ast.AST
	build  ast.ExprFactory
	nextID int64
	locals map[string]shape
	shapes map[int64]shape
}

// number is what is known of a value before the check.
type number uint8

const (
	other   number = iota // no number, or nothing is known
	literal               // whole, made of literals only: can become a double by itself
	whole                 // an int
	double                // a double
	dynamic               // of any type; if a number, then a double
)

// shape is a number, or a list or map of elem.
type shape struct {
	number number
	elem   number
}

// promote rewrites the tree in place.
func (l *language) promote(tree *ast.AST) {
	n := &numberer{
		lang: l, tree: tree, build: ast.NewExprFactory(), nextID: ast.MaxID(tree),
		locals: make(map[string]shape), shapes: make(map[int64]shape),
	}
	n.visit(tree.Expr())
}

func (n *numberer) visit(e ast.Expr) shape {
	s := n.shapeOf(e)
	n.shapes[e.ID()] = s
	return s
}

func (n *numberer) shapeOf(e ast.Expr) shape {
	switch e.Kind() {
	case ast.LiteralKind:
		switch e.AsLiteral().(type) {
		case types.Int:
			return shape{number: literal}
		case types.Double:
			return shape{number: double}
		}
	case ast.IdentKind:
		return n.locals[e.AsIdent()]
	case ast.SelectKind:
		return n.selectShape(e)
	case ast.CallKind:
		return n.callShape(e)
	case ast.ListKind:
		return shape{elem: n.unify(e.AsList().Elements())}
	case ast.MapKind:
		var values []ast.Expr
		for _, x := range e.AsMap().Entries() {
			n.visit(x.AsMapEntry().Key())
			values = append(values, x.AsMapEntry().Value())
		}
		return shape{elem: n.unify(values)}
	case ast.ComprehensionKind:
		return n.comprehensionShape(e.AsComprehension())
	case ast.StructKind, ast.UnspecifiedExprKind:
	}
	return shape{}
}

// unify makes the elements of a list, or values of a map, doubles if one is.
func (n *numberer) unify(list []ast.Expr) number {
	if len(list) == 0 {
		return other
	}
	all := make([]number, len(list))
	for i, x := range list {
		all[i] = n.visit(x).number
	}
	if slices.Contains(all, double) {
		for _, x := range list {
			n.toDouble(x)
		}
		return double
	}
	for _, k := range all {
		if k != all[0] {
			if isWhole(k) && isWhole(all[0]) {
				all[0] = whole
				continue
			}
			return other
		}
	}
	return all[0]
}

func (n *numberer) selectShape(e ast.Expr) shape {
	sel := e.AsSelect()
	if sel.IsTestOnly() {
		return shape{}
	}
	if typ := n.lang.typeOf(e, n.locals); typ != nil {
		switch {
		case typ.Kind() == types.DoubleKind:
			return shape{number: double}
		case typ.Kind() == types.DynKind:
			return shape{number: dynamic, elem: dynamic}
		}
		return shape{}
	}
	if n.visit(sel.Operand()).number == dynamic {
		return shape{number: dynamic, elem: dynamic}
	}
	return shape{}
}

// typeOf returns the declared type of a variable's field, or nil if e is none.
func (l *language) typeOf(e ast.Expr, locals map[string]shape) *types.Type {
	if e.Kind() == ast.IdentKind {
		if _, local := locals[e.AsIdent()]; local {
			return nil
		}
		return l.roots[e.AsIdent()]
	}
	if e.Kind() != ast.SelectKind {
		return nil
	}
	of := l.typeOf(e.AsSelect().Operand(), locals)
	if of == nil || of.Kind() != types.StructKind {
		return nil
	}
	if f, ok := l.names.field(of.TypeName(), e.AsSelect().FieldName()); ok {
		return f.Type
	}
	return nil
}

func (n *numberer) callShape(e ast.Expr) shape {
	call := e.AsCall()
	if call.IsMemberFunction() {
		n.visit(call.Target())
	}
	args := call.Args()
	for _, a := range args {
		n.visit(a)
	}
	switch name := call.FunctionName(); name {
	case operators.Add, operators.Subtract, operators.Multiply, operators.Divide:
		return n.arithmetic(args[0], args[1])
	case operators.Modulo:
		return shape{number: whole}
	case operators.Negate:
		return shape{number: n.shapes[args[0].ID()].number}
	case operators.Equals, operators.NotEquals, operators.Less, operators.LessEquals, operators.Greater, operators.GreaterEquals:
		n.arithmetic(args[0], args[1])
	case operators.In:
		n.membership(args[0], args[1])
	case operators.Index:
		of := n.shapes[args[0].ID()].elem
		if of == literal {
			of = whole // the element stands elsewhere
		}
		return shape{number: of, elem: dynamicOf(of)}
	case operators.Conditional:
		return n.arithmetic(args[1], args[2])
	case "double":
		return shape{number: double}
	case "size", "int", "indexOf", "lastIndexOf", "getDate", "getDayOfMonth", "getDayOfWeek", "getDayOfYear",
		"getFullYear", "getHours", "getMilliseconds", "getMinutes", "getMonth", "getSeconds":
		return shape{number: whole}
	}
	return shape{}
}

// arithmetic brings two operands to one type and returns that of their result.
func (n *numberer) arithmetic(a, b ast.Expr) shape {
	x, y := n.shapes[a.ID()], n.shapes[b.ID()]
	if isDouble(x.number) && isWhole(y.number) {
		n.toDouble(b)
		return x
	}
	if isDouble(y.number) && isWhole(x.number) {
		n.toDouble(a)
		return y
	}
	if x.elem == double && y.elem == literal {
		n.toDoubles(b)
	}
	if y.elem == double && x.elem == literal {
		n.toDoubles(a)
	}
	switch {
	case x == y:
		return x
	case isWhole(x.number) && isWhole(y.number):
		return shape{number: whole}
	case x.number == other && y.number == other && (x.elem == other || y.elem == other):
		return shape{elem: max(x.elem, y.elem)} // a list and an empty list
	case x.number == double && y.number == dynamic, y.number == double && x.number == dynamic:
		return shape{number: double}
	}
	return shape{}
}

// membership brings x and the elements of a list to one type.
func (n *numberer) membership(x, list ast.Expr) {
	of, in := n.shapes[x.ID()].number, n.shapes[list.ID()].elem
	switch {
	case isDouble(of) && in == literal:
		n.toDoubles(list)
	case in == double && isWhole(of):
		n.toDouble(x)
	}
}

func (n *numberer) comprehensionShape(c ast.ComprehensionExpr) shape {
	elem := n.visit(c.IterRange()).elem
	if elem == literal {
		elem = whole // the variable stands for elements that are elsewhere
	}
	before := n.locals
	n.locals = make(map[string]shape, len(before)+2)
	maps.Copy(n.locals, before)
	n.locals[c.IterVar()] = shape{number: elem, elem: dynamicOf(elem)}
	accu := n.visit(c.AccuInit())
	if accu.number == literal {
		accu.number = whole // the counter of exists_one
	}
	n.locals[c.AccuVar()] = accu
	n.visit(c.LoopCondition())
	step := n.visit(c.LoopStep())
	if accu == (shape{}) { // an empty list, and the step adds to it: map and filter
		if step.elem == literal {
			step.elem = whole
		}
		n.locals[c.AccuVar()] = step
	}
	result := n.visit(c.Result())
	n.locals = before
	return result
}

// dynamicOf returns what the elements of an element are: known only to be
// anything.
func dynamicOf(n number) number {
	if n == dynamic {
		return dynamic
	}
	return other
}

func isWhole(n number) bool  { return n == literal || n == whole }
func isDouble(n number) bool { return n == double || n == dynamic }

// isArithmetic reports whether an expression is a double if its operands are.
func isArithmetic(e ast.Expr) bool {
	if e.Kind() != ast.CallKind {
		return false
	}
	switch e.AsCall().FunctionName() {
	case operators.Add, operators.Subtract, operators.Multiply, operators.Divide, operators.Negate, operators.Conditional:
		return true
	}
	return false
}

// toDouble makes a whole number a double. Of arithmetic it makes the operands
// doubles, so that size(x) / 2 beside a double is no whole number division.
func (n *numberer) toDouble(e ast.Expr) {
	switch s := n.shapes[e.ID()]; {
	case s.number == literal && e.Kind() == ast.LiteralKind:
		i, _ := e.AsLiteral().(types.Int)
		e.SetKindCase(n.build.NewLiteral(e.ID(), types.Double(i)))
	case isWhole(s.number) && isArithmetic(e):
		args := e.AsCall().Args()
		if e.AsCall().FunctionName() == operators.Conditional {
			args = args[1:]
		}
		for _, a := range args {
			n.toDouble(a)
		}
	case isWhole(s.number):
		inner := n.build.NewUnspecifiedExpr(n.newID(e))
		n.shapes[inner.ID()] = s
		inner.SetKindCase(e)
		e.SetKindCase(n.build.NewCall(e.ID(), "double", inner))
	default:
		return
	}
	n.shapes[e.ID()] = shape{number: double}
}

// toDoubles makes the elements of a written list doubles.
func (n *numberer) toDoubles(list ast.Expr) {
	if list.Kind() != ast.ListKind {
		return
	}
	for _, x := range list.AsList().Elements() {
		n.toDouble(x)
	}
	n.shapes[list.ID()] = shape{elem: double}
}

// newID returns an id for a node in the place of e.
func (n *numberer) newID(e ast.Expr) int64 {
	n.nextID++
	info := n.tree.SourceInfo()
	if at, ok := info.GetOffsetRange(e.ID()); ok {
		info.SetOffsetRange(n.nextID, at)
	}
	return n.nextID
}
