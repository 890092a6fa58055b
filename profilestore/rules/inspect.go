package rules

import (
	"fmt"
	"slices"
	"strings"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
)

// functions are those that expressions may call, macros and operators aside.
// Each takes time linear in the text it reads, and none makes a text longer than
// what was written: see RATIONALE.md.
var functions = []string{
	"bool", "charAt", "contains", "days", "decimal", "double", "duration", "endsWith", "getDate",
	"getDayOfMonth", "getDayOfWeek", "getDayOfYear", "getFullYear", "getHours", "getMilliseconds",
	"getMinutes", "getMonth", "getSeconds", "indexOf", "int", "lastIndexOf", "lowerAscii",
	"matches", "replace", "size", "split", "startsWith", "string", "substring", "timestamp",
	"trim", "upperAscii",
}

var macros = []string{"all", "exists", "exists_one", "filter", "has", "map"}

// inspector checks a parsed expression for what cel-go would accept or explain
// badly: names, functions, sizes.
type inspector struct {
	lang   *language
	tree   *ast.AST
	source string
	locals []string // variables of the comprehensions around
	loops  int      // comprehensions around
	depth  int
	called []string // functions that were found not to exist
	errs   CompileErrors
}

// fail reports a mistake at e: at its operator, its name or its first letter.
func (in *inspector) fail(e ast.Expr, format string, args ...any) {
	at := in.tree.SourceInfo().GetStartLocation(e.ID())
	column := max(at.Column(), 0) + 1
	if e.Kind() == ast.SelectKind { // cel-go says where the dot is
		column++
	}
	if e.Kind() == ast.CallKind { // and where the parenthesis is
		if name := e.AsCall().FunctionName(); slices.Contains(in.called, name) {
			column = max(column-len(name), 1)
		}
	}
	in.errs = append(in.errs, &CompileError{
		Expr: in.source, Line: max(at.Line(), 1), Column: column, Message: fmt.Sprintf(format, args...),
	})
}

// walk checks an expression whose value is used.
func (in *inspector) walk(e ast.Expr) {
	if in.depth++; in.depth == maxDepth {
		in.fail(e, "the expression is nested more than %d deep: make it simpler", maxDepth)
	}
	if in.depth < maxDepth {
		in.walkKind(e)
	}
	in.depth--
}

func (in *inspector) walkKind(e ast.Expr) {
	switch e.Kind() {
	case ast.IdentKind:
		in.walkName(e)
	case ast.SelectKind:
		in.walkSelect(e)
	case ast.CallKind:
		in.walkCall(e)
	case ast.ListKind:
		for _, x := range e.AsList().Elements() {
			in.walk(x)
		}
	case ast.MapKind:
		for _, x := range e.AsMap().Entries() {
			in.walk(x.AsMapEntry().Key())
			in.walk(x.AsMapEntry().Value())
		}
	case ast.StructKind:
		in.fail(e, "%s{…} builds an object: there are none here", e.AsStruct().TypeName())
	case ast.ComprehensionKind:
		in.walkComprehension(e)
	case ast.LiteralKind:
		switch v := e.AsLiteral().(type) {
		case types.Uint:
			in.fail(e, "write %d instead of %du", uint64(v), uint64(v))
		case types.Bytes:
			in.fail(e, "there are no bytes here: write a text without the b before it")
		case types.Null:
			in.fail(e, "there is no null here: has(…) says whether a value is known")
		}
	case ast.UnspecifiedExprKind:
	}
}

// walkName checks a name on its own.
func (in *inspector) walkName(e ast.Expr) {
	name := e.AsIdent()
	if slices.Contains(in.locals, name) {
		return
	}
	typ, ok := in.lang.roots[name]
	switch {
	case !ok:
		in.fail(e, "there is no %q%s", name, in.lang.suggest(name))
	case typ.Kind() == types.StructKind:
		in.fail(e, "%s is no value by itself: name a part of it, such as %s", name, in.lang.example(name, typ))
	}
}

// walkSelect checks a.b.c. If its root is a variable, every step must name a
// declared field.
func (in *inspector) walkSelect(e ast.Expr) {
	var steps []ast.Expr // innermost last
	root := e
	for root.Kind() == ast.SelectKind {
		steps = append(steps, root)
		root = root.AsSelect().Operand()
	}
	if root.Kind() != ast.IdentKind || slices.Contains(in.locals, root.AsIdent()) {
		in.walk(root)
		return
	}
	path := root.AsIdent()
	names := []string{path}
	for _, s := range slices.Backward(steps) {
		names = append(names, s.AsSelect().FieldName())
	}
	whole := strings.Join(names, ".")
	typ, ok := in.lang.roots[path]
	if !ok {
		in.fail(root, "there is no %q%s", path, in.lang.suggest(whole))
		return
	}
	if path == "segment" && e.AsSelect().IsTestOnly() {
		in.fail(e, "a segment has no value that could be missing: write %s without has", whole)
		return
	}
	for _, s := range slices.Backward(steps) {
		name := s.AsSelect().FieldName()
		if typ.Kind() != types.StructKind {
			if typ.Kind() != types.DynKind {
				in.fail(s, "%s is a %s: it has no part %q", path, plainType(typ), name)
			}
			return
		}
		f, ok := in.lang.names.field(typ.TypeName(), name)
		if !ok {
			in.fail(s, "there is no %s.%s%s", path, name, in.lang.suggest(whole))
			return
		}
		path += "." + name
		typ = f.Type
	}
	if i, ok := in.lang.decisionAt(e); ok && in.lang.ofSegments && len(in.lang.decisions[i].reads.Context) > 0 {
		in.fail(e, "%s reads the context: a segment is counted where there is no contact", path)
	}
	if typ.Kind() == types.StructKind {
		in.fail(e, "%s is a group of fields: name one, such as %s", path, in.lang.example(path, typ))
	}
}

func (in *inspector) walkCall(e ast.Expr) {
	call := e.AsCall()
	name := call.FunctionName()
	_, operator := operators.FindReverse(name)
	switch {
	case operator, name == operators.Conditional, name == operators.Index, name == operators.NotStrictlyFalse:
	case slices.Contains(in.lang.tables, name):
	case !slices.Contains(functions, name):
		in.called = append(in.called, name)
		in.fail(e, "there is no function %s%s", name, in.lang.suggestFunction(name))
	}
	if call.IsMemberFunction() {
		in.walk(call.Target())
	}
	for _, a := range call.Args() {
		in.walk(a)
	}
	args := call.Args()
	switch {
	case name == "matches" && len(args) > 0:
		if _, ok := text(args[len(args)-1]); !ok {
			in.fail(args[len(args)-1], "the pattern must be written out")
		}
	case name == "replace" && len(args) > 1:
		old, ok1 := text(args[0])
		put, ok2 := text(args[1])
		if !ok1 || !ok2 || len(put) > len(old) {
			in.fail(args[0], "replace needs two texts that are written out, the second no longer than the first")
		}
	case strings.HasPrefix(name, "get") && len(args) == 1:
		zone, ok := text(args[0])
		if _, err := location(zone); !ok || err != nil {
			in.fail(args[0], "the time zone must be written out, such as \"+08:00\" or \"Asia/Shanghai\"")
		}
	}
}

// walkComprehension checks what exists, all, exists_one, map and filter became.
func (in *inspector) walkComprehension(e ast.Expr) {
	c := e.AsComprehension()
	in.walk(c.IterRange())
	if _, taken := in.lang.roots[c.IterVar()]; taken {
		in.fail(e, "%s has its own meaning: choose another name for the element", c.IterVar())
		return
	}
	if in.loops++; in.loops > maxComprehension {
		in.fail(e, "exists, all, map and filter may stand at most %d within each other", maxComprehension)
	} else {
		before := in.locals
		in.locals = append(in.locals[:len(before):len(before)], c.AccuVar(), c.IterVar(), c.IterVar2())
		for _, part := range []ast.Expr{c.AccuInit(), c.LoopCondition(), c.LoopStep(), c.Result()} {
			in.walk(part)
		}
		in.locals = before
	}
	in.loops--
}

// walkOrder checks, in a checked tree, that map and filter make lists of lists:
// of anything else the order would differ from one evaluation to the next, and
// an evaluation is a pure function.
func (in *inspector) walkOrder(e ast.Expr) {
	ast.PreOrderVisit(e, ast.NewExprVisitor(func(x ast.Expr) {
		if x.Kind() != ast.ComprehensionKind {
			return
		}
		c := x.AsComprehension()
		of := in.tree.GetType(c.IterRange().ID())
		if c.AccuInit().Kind() == ast.ListKind && of.Kind() != types.ListKind {
			in.fail(x, "map and filter need a list that is written out or split, not a %s", plainType(of))
		}
	}))
}

// text returns the text of a literal.
func text(e ast.Expr) (string, bool) {
	if e.Kind() != ast.LiteralKind {
		return "", false
	}
	s, ok := e.AsLiteral().(types.String)
	return string(s), ok
}

// example returns a field below an object, for messages.
func (l *language) example(path string, typ *types.Type) string {
	for typ.Kind() == types.StructKind {
		if typ.TypeName() == eventObject {
			return path + ".type"
		}
		names := l.names.fieldNames(typ.TypeName())
		if len(names) == 0 {
			return path + ".NAME"
		}
		f, _ := l.names.field(typ.TypeName(), names[0])
		path, typ = path+"."+names[0], f.Type
	}
	return path
}

// suggest returns the words that name the declared value nearest to path, or
// what there is.
func (l *language) suggest(path string) string {
	_, events := l.roots["event"]
	_, segments := l.roots["segment"]
	switch root, _, _ := strings.Cut(path, "."); {
	case events && (root == "profile" || root == "context" || root == "now"):
		return " here: an event rule reads the event only"
	case l.ofSegments && root == "context":
		return " here: a segment is counted where there is no contact, so it reads profile, now and other segments"
	case !events && !segments && root == "segment":
		return ": the catalogue declares no segments"
	case !events && l.roots["table"] == nil && root == "table":
		return ": the catalogue declares no decision tables"
	case !events && root == "event":
		return " here: a condition reads profile, context and now"
	}
	var all []string
	last := make(map[string]string, 64) // by the last name: a forgotten group or root
	for _, root := range []string{"context", "event", "profile", "segment", "table"} {
		if typ, ok := l.roots[root]; ok {
			all = l.paths(all, root, typ)
		}
	}
	for _, p := range all {
		name := p[strings.LastIndexByte(p, '.')+1:]
		if _, ok := last[name]; !ok {
			last[name] = p
		}
	}
	if p, ok := last[path[strings.LastIndexByte(path, '.')+1:]]; ok {
		return didYouMean(p)
	}
	if near := Nearest(path, all); near != "" {
		return didYouMean(near)
	}
	if strings.Contains(path, ".") {
		return ""
	}
	if near := Nearest(path, []string{"context", "event", "profile", "segment", "table", "now"}); near != "" {
		if _, ok := l.roots[near]; ok {
			return didYouMean(near)
		}
	}
	if events {
		return ": an event's attributes are event.NAME; a text stands in quotes"
	}
	return ": a field is profile.GROUP.NAME; a text stands in quotes"
}

// paths appends the declared values below an object.
func (l *language) paths(dst []string, path string, typ *types.Type) []string {
	if typ.Kind() != types.StructKind {
		return append(dst, path)
	}
	for _, name := range l.names.fieldNames(typ.TypeName()) {
		dst = l.paths(dst, path+"."+name, l.names[typ.TypeName()][name].Type)
	}
	return dst
}

func didYouMean(name string) string {
	if name == "" {
		return ""
	}
	return ": did you mean " + name + "?"
}
