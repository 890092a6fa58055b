package rules

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
)

// Finding is something in a condition that is legal and surely not what was meant.
type Finding struct {
	Constant     bool // it is always true or always false; else a contradiction
	Line, Column int  // in the condition
	Message      string
}

// Examiner looks for what in conditions is legal and surely not what was meant. It
// compares what is said of the same term, such as a field, with constants. It finds no
// contradiction that needs algebra: x > y && y > x is none to it. All that it finds is
// one. It keeps each condition that it has seen. Not safe for concurrent use.
type Examiner struct {
	env   *Env
	now   time.Time
	trees map[string]*ast.AST // nil for conditions with mistakes
}

// NewExaminer returns an examiner of conditions of the environment. now is the time,
// before which it will never be again.
func (e *Env) NewExaminer(now time.Time) *Examiner {
	return &Examiner{env: e, now: now, trees: make(map[string]*ast.AST)}
}

func (e *Examiner) tree(condition string) *ast.AST {
	tree, ok := e.trees[condition]
	if !ok {
		tree, _ = e.env.lang.compile(condition)
		e.trees[condition] = tree
	}
	return tree
}

// Examine looks for parts of a condition that are always true or always false, and for
// parts that contradict each other: x > 5 && x < 3. A condition with mistakes has no
// findings.
func (e *Examiner) Examine(condition string) []Finding {
	tree := e.tree(condition)
	if tree == nil {
		return nil
	}
	x := examiner{lang: e.env.lang, tree: tree, now: e.now}
	if always := x.constant(tree.Expr()); always != nil {
		x.find(tree.Expr(), true, "it is always %t", *always)
		return x.findings
	}
	if op := operator(tree.Expr()); op != operators.LogicalAnd && op != operators.LogicalOr {
		x.chain(tree.Expr(), true)
	}
	x.walk(tree.Expr())
	return x.findings
}

// Contradict returns how conditions that have to hold together contradict each other,
// nothing if they do not or if one of them can't be fulfilled by itself. The place is in
// the last of them that is part of it.
func (e *Examiner) Contradict(conditions ...string) (condition int, f Finding, found bool) {
	terms := newTerms(e.now)
	for i, text := range conditions {
		if strings.TrimSpace(text) == "" {
			continue
		}
		tree := e.tree(text)
		if tree == nil {
			return 0, Finding{}, false
		}
		x := examiner{lang: e.env.lang, tree: tree, now: e.now}
		alone := newTerms(e.now)
		for _, a := range x.atoms(nil, tree.Expr(), false) {
			if x.add(alone, a) {
				return 0, Finding{}, false
			}
			if x.add(terms, a) {
				return i, x.findings[0], true
			}
		}
	}
	return 0, Finding{}, false
}

// examiner examines one condition.
type examiner struct {
	lang     *language
	tree     *ast.AST
	now      time.Time
	findings []Finding
}

// find adds a finding at the first character of a part.
func (x *examiner) find(e ast.Expr, constant bool, format string, args ...any) {
	line, column := 0, 0
	ast.PreOrderVisit(e, ast.NewExprVisitor(func(part ast.Expr) {
		at := x.tree.SourceInfo().GetStartLocation(part.ID())
		if at.Line() > 0 && (line == 0 || at.Line() < line || at.Line() == line && at.Column() < column) {
			line, column = at.Line(), at.Column()
		}
	}))
	x.findings = append(x.findings, Finding{Constant: constant, Line: max(line, 1), Column: column + 1, Message: fmt.Sprintf(format, args...)})
}

// text returns a part as it can be shown.
func (x *examiner) text(e ast.Expr) string {
	s, err := canonical(x.tree, e)
	if err != nil {
		return "this"
	}
	return s
}

// operator returns the name of the operator or function that a part calls, if it does.
func operator(e ast.Expr) string {
	if e.Kind() != ast.CallKind {
		return ""
	}
	return e.AsCall().FunctionName()
}

// constant returns what a condition always is, whatever the customer; nil if it varies.
func (x *examiner) constant(e ast.Expr) *bool {
	var args []ast.Expr
	if e.Kind() == ast.CallKind {
		args = e.AsCall().Args()
	}
	switch op := operator(e); op {
	case operators.LogicalAnd, operators.LogicalOr:
		end := op == operators.LogicalOr // decides whatever the others are
		all := true
		for _, a := range args {
			v := x.constant(a)
			if v != nil && *v == end {
				return &end
			}
			all = all && v != nil
		}
		if end = !end; all {
			return &end
		}
		return nil
	case operators.LogicalNot:
		if v := x.constant(args[0]); v != nil {
			not := !*v
			return &not
		}
		return nil
	case operators.In:
		if args[1].Kind() == ast.ListKind && args[1].AsList().Size() == 0 {
			no := false
			return &no
		}
	}
	if v, ok := x.value(e).(types.Bool); ok {
		b := bool(v)
		return &b
	}
	return nil
}

// value returns the value of a part that reads nothing, nil if it reads something or has
// none.
func (x *examiner) value(e ast.Expr) ref.Val {
	reads := false
	ast.PreOrderVisit(e, ast.NewExprVisitor(func(part ast.Expr) { reads = reads || part.Kind() == ast.IdentKind }))
	if reads {
		return nil
	}
	prog, err := x.lang.program(x.tree, e)
	if err != nil {
		return nil
	}
	v, _, err := prog.Eval(&variables{})
	if err != nil || types.IsUnknownOrError(v) {
		return nil
	}
	return v
}

// walk examines the parts of a condition that is not constant as a whole.
func (x *examiner) walk(e ast.Expr) {
	op := operator(e)
	switch op {
	case operators.LogicalAnd, operators.LogicalOr:
		x.chain(e, op == operators.LogicalAnd)
		for _, part := range links(nil, e, op) {
			if always := x.constant(part); always != nil {
				x.find(part, true, "%s is always %t: leave it out", x.text(part), *always)
				continue
			}
			if op == operators.LogicalOr && operator(part) != operators.LogicalAnd {
				x.chain(part, true)
			}
			x.walk(part)
		}
	case operators.LogicalNot:
		x.walk(e.AsCall().Args()[0])
	case operators.Conditional:
		for i, part := range e.AsCall().Args() {
			if always := x.constant(part); i == 0 && always != nil {
				x.find(part, true, "%s is always %t", x.text(part), *always)
			} else if always == nil && x.tree.GetType(part.ID()).Kind() == types.BoolKind {
				x.walk(part)
			}
		}
	}
}

// links appends what an operator joins.
func links(dst []ast.Expr, e ast.Expr, op string) []ast.Expr {
	if operator(e) != op {
		return append(dst, e)
	}
	for _, a := range e.AsCall().Args() {
		dst = links(dst, a, op)
	}
	return dst
}

// chain looks for a contradiction of what && joins, or of the opposites of what || does:
// one of those then always holds.
func (x *examiner) chain(e ast.Expr, and bool) {
	terms := newTerms(x.now)
	if !and {
		terms.byText, terms.results = make(map[string]*term), false
	}
	n := len(x.findings)
	for _, a := range x.atoms(nil, e, !and) {
		if x.add(terms, a) {
			if f := &x.findings[n]; !and {
				f.Constant, f.Message = true, fmt.Sprintf("with what is before it, %s makes the whole always true", x.text(a.e))
			}
			return
		}
	}
}

// anAtom is a part of a conjunction, or the opposite of one.
type anAtom struct {
	e   ast.Expr
	not bool
}

// atoms appends the parts of a conjunction, or of the opposite of a disjunction, which
// is one.
func (x *examiner) atoms(dst []anAtom, e ast.Expr, not bool) []anAtom {
	switch operator(e) {
	case operators.LogicalNot:
		return x.atoms(dst, e.AsCall().Args()[0], !not)
	case operators.LogicalAnd, operators.LogicalOr:
		if (operator(e) == operators.LogicalAnd) != not {
			for _, a := range e.AsCall().Args() {
				dst = x.atoms(dst, a, not)
			}
			return dst
		}
	}
	return append(dst, anAtom{e, not})
}

// term is what is said of a value: the bounds it lies in, and which values it may and
// may not be.
type term struct {
	low, high         ref.Val // nil: none
	lowOpen, highOpen bool
	only              []ref.Val // nil: any
	never             []ref.Val
	said              []saying
}

// saying is one of the things that were said of a term.
type saying struct {
	text   string
	narrow func(*term)
}

// terms are terms by their texts.
type terms struct {
	byText  map[string]*term
	results bool // of a decision table it is known what it can give
}

// newTerms returns terms of which nothing is said but that it is now or later, and what
// decision tables can give.
func newTerms(now time.Time) terms {
	return terms{map[string]*term{"now": {low: types.Timestamp{Time: now}}}, true}
}

// add says an atom of the terms it is about, and reports whether that contradicts what
// was said.
func (x *examiner) add(terms terms, a anAtom) bool {
	name, narrow := x.said(a)
	var results []ref.Val
	if terms.results {
		results = x.lang.resultsOf(name)
	}
	t := terms.byText[name]
	if t == nil {
		t = &term{only: slices.Clone(results)}
		terms.byText[name] = t
	}
	narrow(t)
	text := x.text(a.e)
	if a.not {
		if text = "!" + text; a.e.Kind() == ast.CallKind && !a.e.AsCall().IsMemberFunction() {
			text = "!(" + text[1:] + ")"
		}
	}
	if t.possible() {
		t.said = append(t.said, saying{text, narrow})
		return false
	}
	if results != nil {
		alone := term{only: slices.Clone(results)}
		if narrow(&alone); !alone.possible() {
			x.find(a.e, true, "%s is never true: the table gives %s%s", text, resultNames(results), x.nearestResult(a.e, results))
			return true
		}
	}
	var others []string
	for _, s := range t.said {
		alone := term{}
		narrow(&alone)
		if s.narrow(&alone); !alone.possible() {
			others = []string{s.text}
			break
		}
		others = append(others, s.text)
	}
	if len(others) == 0 {
		x.find(a.e, false, "%s is never true again", text)
	} else {
		x.find(a.e, false, "%s contradicts %s", text, strings.Join(others, " && "))
	}
	return true
}

// said returns which term an atom is about, by its text, and what it says of it. What is
// no comparison with constants is a term of its own, true or false.
func (x *examiner) said(a anAtom) (string, func(*term)) {
	if op := operator(a.e); op != "" && len(a.e.AsCall().Args()) == 2 {
		if name, narrow := x.comparison(op, a); narrow != nil {
			return name, narrow
		}
	}
	return x.text(a.e), func(t *term) { t.narrowTo([]ref.Val{types.Bool(!a.not)}) }
}

// comparison returns what the comparison of a term with constants says; nil if it is
// none.
func (x *examiner) comparison(op string, a anAtom) (string, func(*term)) {
	args := a.e.AsCall().Args()
	if op == operators.In {
		return x.inList(a, args)
	}
	left, right := x.value(args[0]), x.value(args[1])
	of, v := args[0], right
	if left != nil {
		of, v, op = args[1], left, mirrored[op]
	}
	if left != nil && right != nil || v == nil {
		return "", nil
	}
	if a.not {
		op = opposite[op]
	}
	switch op {
	case operators.Equals:
		return x.text(of), func(t *term) { t.narrowTo([]ref.Val{v}) }
	case operators.NotEquals:
		if b, ok := v.(types.Bool); ok {
			return x.text(of), func(t *term) { t.narrowTo([]ref.Val{!b}) }
		}
		return x.text(of), func(t *term) { t.never = append(t.never, v) }
	case operators.Greater, operators.GreaterEquals:
		return x.text(of), func(t *term) { t.atLeast(v, op == operators.Greater) }
	case operators.Less, operators.LessEquals:
		return x.text(of), func(t *term) { t.atMost(v, op == operators.Less) }
	}
	return "", nil
}

// inList returns what x in [a, b] says.
func (x *examiner) inList(a anAtom, args []ast.Expr) (string, func(*term)) {
	if args[1].Kind() != ast.ListKind {
		return "", nil
	}
	list := make([]ref.Val, 0, args[1].AsList().Size())
	for _, element := range args[1].AsList().Elements() {
		v := x.value(element)
		if v == nil {
			return "", nil
		}
		list = append(list, v)
	}
	if a.not {
		return x.text(args[0]), func(t *term) { t.never = append(t.never, list...) }
	}
	return x.text(args[0]), func(t *term) { t.narrowTo(list) }
}

// mirrored are the comparisons with their sides exchanged, opposite those that hold
// where one does not.
var (
	mirrored = map[string]string{
		operators.Less: operators.Greater, operators.LessEquals: operators.GreaterEquals,
		operators.Greater: operators.Less, operators.GreaterEquals: operators.LessEquals,
		operators.Equals: operators.Equals, operators.NotEquals: operators.NotEquals,
	}
	opposite = map[string]string{
		operators.Less: operators.GreaterEquals, operators.LessEquals: operators.Greater,
		operators.Greater: operators.LessEquals, operators.GreaterEquals: operators.Less,
		operators.Equals: operators.NotEquals, operators.NotEquals: operators.Equals,
	}
)

func (t *term) narrowTo(list []ref.Val) {
	if t.only == nil {
		t.only = slices.Clone(list)
		return
	}
	t.only = slices.DeleteFunc(t.only, func(v ref.Val) bool { return !holds(list, v) })
}

func (t *term) atLeast(v ref.Val, open bool) {
	if c, ok := order(v, t.low); t.low == nil || ok && (c > 0 || c == 0 && open) {
		t.low, t.lowOpen = v, open
	}
}

func (t *term) atMost(v ref.Val, open bool) {
	if c, ok := order(v, t.high); t.high == nil || ok && (c < 0 || c == 0 && open) {
		t.high, t.highOpen = v, open
	}
}

// possible reports whether any value is as was said.
func (t *term) possible() bool {
	if t.low != nil && t.high != nil {
		if c, ok := order(t.low, t.high); ok && (c > 0 || c == 0 && (t.lowOpen || t.highOpen)) {
			return false
		}
	}
	return t.only == nil || slices.ContainsFunc(t.only, t.allows)
}

// allows reports whether a value is within the bounds and not excluded.
func (t *term) allows(v ref.Val) bool {
	if holds(t.never, v) {
		return false
	}
	if c, ok := order(v, t.low); ok && (c < 0 || c == 0 && t.lowOpen) {
		return false
	}
	c, ok := order(v, t.high)
	return !ok || c < 0 || c == 0 && !t.highOpen
}

func holds(list []ref.Val, v ref.Val) bool {
	return slices.ContainsFunc(list, func(x ref.Val) bool { return x.Equal(v) == types.True })
}

// order compares values that have an order.
func order(a, b ref.Val) (int, bool) {
	x, ok := a.(traits.Comparer)
	if !ok || b == nil {
		return 0, false
	}
	c, ok := x.Compare(b).(types.Int)
	return int(c), ok
}
