package rules

import (
	"errors"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"
)

// Segment is a named condition over the profile, which rules, decision tables and other
// segments read as segment.ID. It reads the profile and now; not the context, because it
// is also counted where there is no contact.
//
// A segment is no step of its own in the evaluation: where a rule names one, the
// segment's expression takes the place of the name before the rule is checked and
// taken apart. So its conditions are shared with every rule that has them too, and a
// value that decides it and is unknown makes the rule unknown.
type Segment struct {
	ID    string
	Label string // what is true of who is in it, in words; may be empty
	When  string // CEL over profile and now
}

const segmentObject = "rapport.Segment"

// maxSegmentNodes bounds what a condition may become when segments take the place of
// their names: segments of segments grow as powers.
const maxSegmentNodes = 4096

// segments are the expressions that names stand for; nil for one that has a mistake,
// which was reported.
type segments map[string]*ast.AST

// addSegment declares segment.ID.
func (o objects) addSegment(id string) {
	o[segmentObject][id] = &types.FieldType{
		Type:  types.BoolType,
		IsSet: always,
		GetFrom: func(any) (any, error) {
			return nil, errors.New("segment." + id + " was left in an expression") // never: see expand
		},
	}
}

// segmentNames returns the segments that a parsed tree names.
func segmentNames(tree *ast.AST) []string {
	var names []string
	ast.PreOrderVisit(tree.Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		if name, ok := segmentName(e); ok {
			names = append(names, name)
		}
	}))
	return names
}

// segmentName returns the segment that an expression of the form segment.NAME names.
func segmentName(e ast.Expr) (string, bool) {
	if e.Kind() != ast.SelectKind {
		return "", false
	}
	of := e.AsSelect().Operand()
	if of.Kind() != ast.IdentKind || of.AsIdent() != "segment" {
		return "", false
	}
	return e.AsSelect().FieldName(), true
}

// expand puts the expressions of segments in the place of their names. It reports
// false if the tree grew beyond maxSegmentNodes. What is put in has the place of the
// name in the source, for messages.
func (l *language) expand(tree *ast.AST) bool {
	if l.segments == nil {
		return true
	}
	var found []ast.Expr
	size := 0
	ast.PreOrderVisit(tree.Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		size++
		if _, ok := segmentName(e); ok && !e.AsSelect().IsTestOnly() {
			found = append(found, e)
		}
	}))
	info, factory, next := tree.SourceInfo(), ast.NewExprFactory(), ast.MaxID(tree)
	for _, e := range found {
		name, _ := segmentName(e)
		of := l.segments[name]
		if of == nil { // it has a mistake, or does not exist
			e.SetKindCase(factory.NewLiteral(e.ID(), types.False))
			continue
		}
		at, _ := info.GetOffsetRange(e.ID())
		ids := map[int64]int64{of.Expr().ID(): e.ID()}
		renumber := func(id int64) int64 {
			if id == 0 {
				return 0 // cel-go's own nodes
			}
			if _, ok := ids[id]; !ok {
				next++
				ids[id] = next
			}
			return ids[id]
		}
		put := factory.CopyExpr(of.Expr())
		put.RenumberIDs(renumber)
		nodes := make(map[int64]ast.Expr)
		ast.PreOrderVisit(put, ast.NewExprVisitor(func(e ast.Expr) { nodes[e.ID()] = e }))
		for id, call := range of.SourceInfo().MacroCalls() {
			call = factory.CopyExpr(call)
			call.RenumberIDs(renumber)
			info.SetMacroCall(renumber(id), shareLeaves(factory, call, nodes))
		}
		for _, id := range ids {
			info.SetOffsetRange(id, at)
			size++
		}
		if size > maxSegmentNodes {
			return false
		}
		e.SetKindCase(put)
	}
	return true
}

// shareLeaves makes the leaves of a macro's call those of the tree: cel-go's parser has
// them shared too, so that what promote makes of them is in the text of both.
func shareLeaves(factory ast.ExprFactory, e ast.Expr, nodes map[int64]ast.Expr) ast.Expr {
	all := func(list []ast.Expr) []ast.Expr {
		out := make([]ast.Expr, len(list))
		for i, x := range list {
			out[i] = shareLeaves(factory, x, nodes)
		}
		return out
	}
	switch e.Kind() {
	case ast.CallKind:
		call := e.AsCall()
		if call.IsMemberFunction() {
			return factory.NewMemberCall(e.ID(), call.FunctionName(), shareLeaves(factory, call.Target(), nodes), all(call.Args())...)
		}
		return factory.NewCall(e.ID(), call.FunctionName(), all(call.Args())...)
	case ast.ListKind:
		return factory.NewList(e.ID(), all(e.AsList().Elements()), e.AsList().OptionalIndices())
	case ast.UnspecifiedExprKind: // a macro inside
		return e
	case ast.ComprehensionKind, ast.IdentKind, ast.LiteralKind, ast.MapKind, ast.SelectKind, ast.StructKind:
	}
	if shared, ok := nodes[e.ID()]; ok {
		return shared
	}
	return e
}
