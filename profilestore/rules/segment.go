package rules

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"
)

// Segment is a named condition over the profile, which rules and other segments read
// as segment.ID.
//
// A segment is no step of its own in the evaluation: where a rule names one, the
// segment's expression takes the place of the name before the rule is checked and
// taken apart. So its conditions are shared with every rule that has them too, and a
// value that decides it and is unknown makes the rule unknown.
type Segment struct {
	ID   string
	When string // CEL over profile and now
}

// SegmentError is the mistakes in a segment.
type SegmentError struct {
	Segment int // its place in what WithSegments was given
	Errors  CompileErrors
}

const segmentObject = "rapport.Segment"

// maxSegmentNodes bounds what a condition may become when segments take the place of
// their names: segments of segments grow as powers.
const maxSegmentNodes = 4096

// segments are the expressions that names stand for; nil for one that has a mistake,
// which was reported.
type segments map[string]*ast.AST

// WithSegments returns an environment that knows segments besides, and every mistake
// in them: what no condition may be, or a segment that refers to itself. Of two with
// the same id the first counts. A segment reads the profile and now; not the context,
// because it is also counted where there is no contact.
func (e *Env) WithSegments(list []Segment) (*Env, []SegmentError) {
	if len(list) == 0 {
		return e, nil
	}
	names := make(objects, len(e.lang.names)+1)
	maps.Copy(names, e.lang.names)
	names[segmentObject] = make(map[string]*types.FieldType, len(list))
	for _, s := range list {
		names[segmentObject][s.ID] = &types.FieldType{
			Type:  types.BoolType,
			IsSet: always,
			GetFrom: func(any) (any, error) {
				return nil, fmt.Errorf("segment.%s was left in an expression", s.ID) // never: see expand
			},
		}
	}
	roots := map[string]*types.Type{"segment": types.NewObjectType(segmentObject)}
	of := map[string]*types.Type{"segment": roots["segment"]}
	for name, typ := range e.lang.roots {
		roots[name] = typ
		if name != "context" {
			of[name] = typ
		}
	}
	whole, err := newLanguage(names, roots, e.lang.tables...)
	if err != nil {
		panic(err) // the declarations are of the same kind as those of NewEnv
	}
	own, err := newLanguage(names, of, e.lang.tables...)
	if err != nil {
		panic(err) // likewise
	}
	whole.tablePlaces, own.tablePlaces = e.lang.tablePlaces, e.lang.tablePlaces
	whole.places, own.places = e.lang.places, e.lang.places
	r := segmentResolver{lang: own, list: list, first: make(map[string]int), state: make([]resolved, len(list))}
	own.segments = make(segments, len(list))
	for i, s := range list {
		if _, ok := r.first[s.ID]; !ok {
			r.first[s.ID] = i
		}
	}
	for i := range list {
		r.resolve(i, nil)
	}
	whole.segments = own.segments
	slices.SortFunc(r.errs, func(a, b SegmentError) int { return a.Segment - b.Segment })
	return &Env{lang: whole, decimals: e.decimals}, r.errs
}

// segmentResolver checks segments, those first that others refer to.
type segmentResolver struct {
	lang  *language
	list  []Segment
	first map[string]int
	state []resolved
	errs  []SegmentError
}

type resolved uint8

const (
	unresolved resolved = iota
	resolving
	done
)

// resolve checks a segment. path are those that refer to it, one to the next.
func (r *segmentResolver) resolve(i int, path []string) {
	if r.state[i] != unresolved {
		return
	}
	r.state[i] = resolving
	s := r.list[i]
	path = append(slices.Clone(path), s.ID)
	parsed, mistakes := r.lang.parse(s.When)
	if strings.TrimSpace(s.When) == "" {
		mistakes = wholeError(s.When, "a condition is needed")
	}
	if mistakes == nil {
		for _, name := range segmentNames(parsed.NativeRep()) {
			at, ok := r.first[name]
			if !ok {
				continue // the check says so
			}
			if r.state[at] == resolving {
				begin := slices.Index(path, name)
				mistakes = wholeError(s.When, "segment %s refers to itself: %s", name, strings.Join(append(path[begin:], name), " → "))
				break
			}
			r.resolve(at, path)
		}
	}
	var tree *ast.AST
	if mistakes == nil {
		// What stands for the name is the parsed tree, before the numbers in it are
		// made doubles: that is done where it is put. It is checked by itself here.
		if tree, mistakes = r.lang.compile(s.When); mistakes == nil && resultType(tree).Kind() != types.BoolKind {
			mistakes = wholeError(s.When, "a segment must be true or false: this is a %s", plainType(resultType(tree)))
		}
	}
	r.state[i] = done
	if mistakes != nil {
		r.errs = append(r.errs, SegmentError{i, mistakes})
	}
	if r.first[s.ID] != i {
		return
	}
	r.lang.segments[s.ID] = nil
	if mistakes == nil {
		// Parsed once more, because compiling has changed the tree.
		parsed, _ = r.lang.parse(s.When)
		expanded := parsed.NativeRep()
		r.lang.expand(expanded)
		r.lang.segments[s.ID] = expanded
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
