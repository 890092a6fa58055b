package rules

import (
	"cmp"
	"slices"
	"unicode/utf8"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"
)

// compile parses and checks an expression. It returns either the checked tree or
// the mistakes.
func (l *language) compile(source string) (*ast.AST, CompileErrors) {
	parsed, mistakes := l.parse(source)
	if mistakes != nil {
		return nil, mistakes
	}
	tree := parsed.NativeRep()
	in := inspector{lang: l, tree: tree, source: source}
	in.walk(tree.Expr())
	if len(in.errs) == 0 && len(segmentNames(tree)) > 0 {
		if !l.expand(tree) {
			return nil, wholeError(source, "with its segments the expression has more than %d parts: make it simpler", maxSegmentNodes)
		}
		in.walk(tree.Expr()) // it may be too deep now
	}
	if len(in.errs) > 0 {
		return nil, in.errs.sorted()
	}
	l.promote(tree)
	checked, issues := l.env.Check(parsed)
	if issues.Err() != nil {
		return nil, compileErrors(source, issues)
	}
	in.tree = checked.NativeRep()
	in.walkOrder(in.tree.Expr())
	if len(in.errs) > 0 {
		return nil, in.errs.sorted()
	}
	return in.tree, nil
}

// parse parses an expression of which nothing is known.
func (l *language) parse(source string) (*cel.Ast, CompileErrors) {
	switch {
	case len(source) > MaxBytes:
		return nil, wholeError(source, "the expression has %d bytes: at most %d", len(source), MaxBytes)
	case !utf8.ValidString(source):
		return nil, wholeError(source, "the expression is not valid UTF-8")
	}
	parsed, issues := l.env.Parse(source)
	if issues.Err() != nil {
		return nil, compileErrors(source, issues)[:1] // the others follow from it
	}
	return parsed, nil
}

// compileErrors puts what cel-go found into plain words.
func compileErrors(source string, issues *cel.Issues) CompileErrors {
	var errs CompileErrors
	for _, e := range issues.Errors() {
		errs = append(errs, &CompileError{
			Expr: source, Line: max(e.Location.Line(), 1), Column: max(e.Location.Column(), 0) + 1,
			Message: plainMessage(e.Message),
		})
	}
	return errs.sorted()
}

// maxErrors is how many mistakes of one expression are reported.
const maxErrors = 10

// sorted orders mistakes by place and leaves out repetitions.
func (e CompileErrors) sorted() CompileErrors {
	slices.SortStableFunc(e, func(a, b *CompileError) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	e = slices.CompactFunc(e, func(a, b *CompileError) bool { return *a == *b })
	return e[:min(len(e), maxErrors)]
}

// program plans the evaluation of a checked tree, or of a part of it.
func (l *language) program(tree *ast.AST, part ast.Expr) (cel.Program, error) {
	options := []cel.ProgramOption{cel.EvalOptions(cel.OptOptimize), cel.CustomDecoratorV2(loadZone), cel.CustomDecoratorV2(l.lookUp)}
	if hasComprehension(part) {
		options = append(options, cel.CostLimit(maxCost))
	}
	sub := ast.NewCheckedAST(ast.NewAST(part, tree.SourceInfo()), tree.TypeMap(), tree.ReferenceMap())
	return l.env.PlanProgram(sub, options...)
}

// hasComprehension reports whether an expression can repeat work. Without, it
// does each of its at most MaxBytes operations once, and needs no limit.
func hasComprehension(e ast.Expr) bool {
	found := false
	ast.PreOrderVisit(e, ast.NewExprVisitor(func(x ast.Expr) {
		found = found || x.Kind() == ast.ComprehensionKind
	}))
	return found
}

// resultType returns the type of a checked tree's value.
func resultType(tree *ast.AST) *types.Type { return tree.GetType(tree.Expr().ID()) }
