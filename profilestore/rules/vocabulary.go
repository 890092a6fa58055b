package rules

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"

	"rapport/profilestore"
)

// Vocabulary is what the rules of a catalogue can name besides fields, and the words for
// what they ask.
type Vocabulary struct {
	Segments []Segment
	Tables   []DecisionTable
	Labels   []Label
}

// The lists of a vocabulary, as catalogues call them.
const (
	ListSegments = "segments"
	ListTables   = "decision_tables"
	ListLabels   = "labels"
)

// VocabularyError is the mistakes in a part of a vocabulary.
type VocabularyError struct {
	List   string // ListSegments, ListTables or ListLabels
	Index  int    // in the list
	Part   string // of the element: when, inputs[1], rows[2].when[0], rows[2].result
	Errors CompileErrors
}

// maxCells is how many cells the decision tables of a catalogue have at most.
const maxCells = 50_000

// WithVocabulary returns an environment that knows a vocabulary besides, and every
// mistake in it, in the order of the lists. Of two with the same id the first counts.
// The environment must not have a vocabulary already.
func (e *Env) WithVocabulary(v Vocabulary) (*Env, []VocabularyError) {
	if len(v.Segments)+len(v.Tables)+len(v.Labels) == 0 {
		return e, nil
	}
	r := newResolver(e, v)
	for i := range v.Segments {
		r.resolve(name{i, false}, nil)
	}
	for i := range v.Tables {
		r.resolve(name{i, true}, nil)
	}
	r.addLabels()
	slices.SortStableFunc(r.errs, func(a, b VocabularyError) int {
		order := []string{ListSegments, ListTables, ListLabels}
		return cmp.Or(slices.Index(order, a.List)-slices.Index(order, b.List), a.Index-b.Index)
	})
	return &Env{lang: r.whole, decimals: e.decimals, rows: r.rows}, r.errs
}

// resolver checks what a vocabulary names, those first that others refer to.
type resolver struct {
	Vocabulary
	whole *language // of rules
	own   *language // of segments: without the context
	first map[string]name
	state map[name]resolved
	rows  *conditions     // of the rows of decision tables
	cells map[string]Rule // compiled, by their CEL
	count int             // of cells
	errs  []VocabularyError
}

// name is a segment or a decision table, by its place.
type name struct {
	at    int
	table bool
}

type resolved uint8

const (
	unresolved resolved = iota
	resolving
	done
)

// newResolver declares the names.
func newResolver(e *Env, v Vocabulary) *resolver {
	r := &resolver{Vocabulary: v, first: make(map[string]name), state: make(map[name]resolved), cells: make(map[string]Rule)}
	names := maps.Clone(e.lang.names)
	roots := maps.Clone(e.lang.roots)
	if len(v.Segments) > 0 {
		roots["segment"] = types.NewObjectType(segmentObject)
		names[segmentObject] = make(map[string]*types.FieldType, len(v.Segments))
	}
	if len(v.Tables) > 0 {
		roots["table"] = types.NewObjectType(decisionObject)
		names[decisionObject] = make(map[string]*types.FieldType, len(v.Tables))
	}
	for i, s := range v.Segments {
		names.addSegment(s.ID)
		r.declare("segment."+s.ID, name{i, false})
	}
	decisions := make([]decision, len(v.Tables))
	places := make(map[string]int)
	for i := range v.Tables {
		t := &v.Tables[i]
		decisions[i] = decision{id: t.ID, label: t.Label, kind: t.kind(), otherwise: t.Default}
		if r.declare("table."+t.ID, name{i, true}) {
			places[t.ID] = i
			names.addDecision(i, t.ID, decisions[i].kind)
		}
	}
	of := maps.Clone(roots)
	delete(of, "context")
	for _, x := range []struct {
		to    **language
		roots map[string]*types.Type
	}{{&r.whole, roots}, {&r.own, of}} {
		lang, err := newLanguage(names, x.roots, e.lang.tables...)
		if err != nil {
			panic(err) // the declarations are of the same kind as those of NewEnv
		}
		lang.tablePlaces, lang.places = e.lang.tablePlaces, e.lang.places
		lang.decisions, lang.decisionPlaces = decisions, places
		*x.to = lang
	}
	r.whole.segments = make(segments, len(v.Segments))
	r.own.segments, r.own.ofSegments = r.whole.segments, true
	r.rows = newConditions(r.whole)
	return r
}

func (r *resolver) declare(id string, n name) bool {
	if _, ok := r.first[id]; ok {
		return false
	}
	r.first[id] = n
	return true
}

func (r *resolver) nameOf(n name) string {
	if n.table {
		return "table." + r.Tables[n.at].ID
	}
	return "segment." + r.Segments[n.at].ID
}

func (r *resolver) fail(list string, i int, part string, errs CompileErrors) {
	r.errs = append(r.errs, VocabularyError{list, i, part, errs})
}

// resolve checks a segment or a table. path are those that refer to it, one to the next.
func (r *resolver) resolve(n name, path []name) {
	if r.state[n] != unresolved {
		return
	}
	r.state[n] = resolving
	path = append(slices.Clone(path), n)
	if n.table {
		r.resolveTable(n.at, path)
	} else {
		r.resolveSegment(n.at, path)
	}
	r.state[n] = done
}

// before resolves what an expression names. It reports how that refers back to it.
func (r *resolver) before(tree *ast.AST, path []name) (mistake string) {
	for _, id := range namesIn(tree) {
		n, ok := r.first[id]
		if !ok {
			continue // the check says so
		}
		if r.state[n] == resolving {
			ring := append(slices.Clone(path[slices.Index(path, n):]), n)
			return r.ring(ring)
		}
		r.resolve(n, path)
	}
	return ""
}

// ring says that names refer to themselves.
func (r *resolver) ring(list []name) string {
	mixed := slices.ContainsFunc(list, func(n name) bool { return n.table })
	ids := make([]string, len(list))
	for i, n := range list {
		if ids[i] = r.nameOf(n); !mixed {
			ids[i] = strings.TrimPrefix(ids[i], "segment.")
		}
	}
	what := ids[0]
	if !mixed {
		what = "segment " + what
	}
	return fmt.Sprintf("%s refers to itself: %s", what, strings.Join(ids, " → "))
}

// resolveSegment checks a segment and keeps what stands for its name.
func (r *resolver) resolveSegment(i int, path []name) {
	s := r.Segments[i]
	parsed, mistakes := r.own.parse(s.When)
	if strings.TrimSpace(s.When) == "" {
		mistakes = wholeError(s.When, "a condition is needed")
	}
	if mistakes == nil {
		if ring := r.before(parsed.NativeRep(), path); ring != "" {
			mistakes = wholeError(s.When, "%s", ring)
		}
	}
	var tree *ast.AST
	if mistakes == nil {
		// What stands for the name is the parsed tree, before the numbers in it are
		// made doubles: that is done where it is put. It is checked by itself here.
		if tree, mistakes = r.own.compile(s.When); mistakes == nil && resultType(tree).Kind() != types.BoolKind {
			mistakes = wholeError(s.When, "a segment must be true or false: this is a %s", plainType(resultType(tree)))
		}
	}
	if mistakes != nil {
		r.fail(ListSegments, i, "when", mistakes)
	}
	if r.first["segment."+s.ID] != (name{i, false}) {
		return
	}
	r.own.segments[s.ID] = nil
	if mistakes == nil {
		// Parsed once more, because compiling has changed the tree.
		parsed, _ = r.own.parse(s.When)
		expanded := parsed.NativeRep()
		r.own.expand(expanded)
		r.own.segments[s.ID] = expanded
	}
}

// resolveTable checks a decision table and compiles its rows.
func (r *resolver) resolveTable(i int, path []name) {
	t := &r.Tables[i]
	n := len(r.errs)
	inputs := make([]tableInput, len(t.Inputs))
	for k, text := range t.Inputs {
		var mistakes CompileErrors
		if inputs[k], mistakes = r.input(text, path); mistakes != nil {
			r.fail(ListTables, i, fmt.Sprintf("inputs[%d]", k), mistakes)
		}
	}
	r.checkResults(i)
	if r.count += len(t.Rows) * len(t.Inputs); r.count > maxCells {
		if r.count-len(t.Rows)*len(t.Inputs) <= maxCells {
			r.fail(ListTables, i, "rows", wholeError("", "with this table the decision tables have more than %d cells", maxCells))
		}
		return
	}
	rows := make([]decisionRow, len(t.Rows))
	for k := range t.Rows {
		rows[k] = r.row(i, k, inputs)
	}
	if len(r.errs) > n || r.first["table."+t.ID] != (name{i, true}) {
		return // a table with a mistake is unknown
	}
	d := &r.whole.decisions[i]
	d.inputs, d.rows = inputs, rows
	for _, row := range rows {
		for _, at := range row.when.atoms {
			a := &r.rows.atoms[at]
			d.reads.add(a.reads)
			d.needs = union(d.needs, a.decisions)
		}
	}
	d.reads.tidy()
}

// input checks an input of a table.
func (r *resolver) input(text string, path []name) (tableInput, CompileErrors) {
	if strings.TrimSpace(text) == "" {
		return tableInput{}, wholeError(text, "an expression is needed, such as profile.value.arpu")
	}
	parsed, mistakes := r.whole.parse(text)
	if mistakes != nil {
		return tableInput{}, mistakes
	}
	plain := parsed.NativeRep().Expr()
	if ring := r.before(parsed.NativeRep(), path); ring != "" {
		return tableInput{}, wholeError(text, "%s", ring)
	}
	canBeMissing := plain.Kind() == ast.SelectKind && !plain.AsSelect().IsTestOnly()
	if _, ok := segmentName(plain); ok {
		canBeMissing = false
	}
	tree, mistakes := r.whole.compile(text)
	if mistakes != nil {
		return tableInput{}, mistakes
	}
	in := tableInput{text: text, canBeMissing: canBeMissing}
	t := resultType(tree)
	switch t.Kind() {
	case types.DoubleKind:
		in.kind = cellNumber
	case types.IntKind:
		in.kind = cellWhole
	case types.StringKind:
		in.kind = cellText
	case types.BoolKind:
		in.kind = cellFlag
	case types.TimestampKind:
		in.kind = cellTime
	case types.DurationKind:
		in.kind = cellSpan
	case types.DynKind:
		if !r.readsUntyped(plain) {
			return tableInput{}, wholeError(text, "an input is a number, flag, text, time, duration or set: this is a value of any type")
		}
	default:
		if t.IsExactType(setType) {
			in.kind = cellSet
			break
		}
		return tableInput{}, wholeError(text, "an input is a number, flag, text, time, duration or set: this is a %s", plainType(t))
	}
	return in, nil
}

// readsUntyped reports whether an expression reads a table of which the type is not known,
// since it has a mistake that is reported there.
func (r *resolver) readsUntyped(e ast.Expr) bool {
	found := false
	ast.PostOrderVisit(e, ast.NewExprVisitor(func(e ast.Expr) {
		if id, ok := decisionName(e); ok {
			i := slices.IndexFunc(r.Tables, func(t DecisionTable) bool { return t.ID == id })
			found = found || i >= 0 && r.Tables[i].kind() == profilestore.KindUnknown
		}
	}))
	return found
}

// checkResults checks that all results are of one type.
func (r *resolver) checkResults(i int) {
	t := &r.Tables[i]
	kind := t.kind()
	check := func(part string, v profilestore.Value) {
		if v.Known() && v.Kind() != kind {
			r.fail(ListTables, i, part, wholeError("", "it is a %s, and the results before are a %s each: all must be of one type", v.Kind(), kind))
		}
	}
	for k := range t.Rows {
		check(fmt.Sprintf("rows[%d].result", k), t.Rows[k].Result)
	}
	check("default", t.Default)
}

// row compiles a row of a table.
func (r *resolver) row(i, k int, inputs []tableInput) decisionRow {
	row := &r.Tables[i].Rows[k]
	if len(row.When) != len(inputs) {
		r.fail(ListTables, i, fmt.Sprintf("rows[%d].when", k), wholeError("", "it has %s, and the table %s: there is one cell for each input, - for any",
			counted(len(row.When), "cell"), counted(len(inputs), "input")))
		return decisionRow{}
	}
	out := decisionRow{result: row.Result, tests: make([]cellTest, len(inputs))}
	for c, text := range row.When {
		in := &inputs[c]
		if in.kind == cellNone {
			continue // the mistake was reported
		}
		test, mistake := parseCell(text, in)
		if mistake == nil {
			var when Rule
			when, mistake = r.cell(test.cel(in))
			out.when = All(out.when, when)
		}
		if mistake != nil {
			r.fail(ListTables, i, fmt.Sprintf("rows[%d].when[%d]", k, c), mistake)
		}
		out.tests[c] = test
	}
	return out
}

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// cell compiles the condition of a cell, the same one once.
func (r *resolver) cell(cel string) (Rule, CompileErrors) {
	if rule, ok := r.cells[cel]; ok || cel == "" {
		return rule, nil
	}
	tree, mistakes := r.whole.compile(cel)
	if mistakes != nil { // the cell has been read and the input checked: it is too long, say
		return Rule{}, wholeError(cel, "as a condition of its input: %s", mistakes[0].Message)
	}
	rule, err := r.rows.add(tree, conjuncts(nil, tree.Expr()))
	if err != nil {
		return Rule{}, wholeError(cel, "%v", err)
	}
	r.cells[cel] = rule
	return rule, nil
}

// namesIn returns the segments and decision tables that a parsed tree names.
func namesIn(tree *ast.AST) []string {
	var names []string
	ast.PreOrderVisit(tree.Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		if id, ok := segmentName(e); ok {
			names = append(names, "segment."+id)
		} else if id, ok := decisionName(e); ok {
			names = append(names, "table."+id)
		}
	}))
	return names
}

// union returns a with what of b is not in it, in this order.
func union[T comparable](a, b []T) []T {
	for _, x := range b {
		if !slices.Contains(a, x) {
			a = append(a, x)
		}
	}
	return a
}
