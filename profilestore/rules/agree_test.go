package rules

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"pgregory.net/rapid"

	"rapport/profilestore"
)

// TestAgainstCEL compares what a table says of random expressions of every type, operator
// and function, split, shared and compiled, with cel-go's outcome for each as a whole:
// 20,000 comparisons, a million with -rapid.checks=5000. It prints how often each operator
// and type occurred and how much of it was compiled.
func TestAgainstCEL(t *testing.T) {
	schema := agreeSchema(t)
	env, err := NewEnv(schema, agreeContext)
	if err != nil {
		t.Fatal(err)
	}
	seen := newSightings(env.lang)
	rapid.Check(t, func(t *rapid.T) {
		w := newTypedWriter(t)
		b := env.NewTable()
		var list []agreeRule
		for len(list) < 10 {
			expr := w.of(aFlag, rapid.IntRange(1, 4).Draw(t, "depth"))
			if w.pick(3) == 0 && len(list) > 0 { // share conditions with another
				expr += " && " + list[w.pick(len(list))].expr
			}
			r := agreeRule{expr: expr}
			if r.rule, err = b.Add(expr); err != nil {
				seen.refused++
				if _, ok := seen.reasons[err.Error()]; !ok && len(seen.reasons) < 10 {
					seen.reasons[err.Error()] = expr
				}
				continue
			}
			r.compileWhole(t, env)
			list = append(list, r)
		}
		formulas := drawFormulas(env, w)
		e := b.Build().NewEvaluation()
		for range 20 {
			in := drawAgreeInputs(t, schema)
			e.Reset(in)
			for _, f := range formulas {
				seen.values += f.compare(t, e, in)
			}
			vars := &variables{in: in}
			f := &frame{vars: vars}
			for i := range list {
				r := &list[i]
				got, want := e.Evaluate(r.rule), run(r.whole, vars)
				switch {
				case got == want:
				case want == Failed && overspent(r.whole, vars):
					seen.overspent++ // the limit is that of a condition, and the whole is several
				default:
					t.Fatalf("%s\nfor %v: %s, but cel-go says %s of the whole", r.expr, brief(in), got, want)
				}
				seen.outcomes[got]++
				seen.comparisons++
				if r.code == nil {
					continue
				}
				seen.compiled++
				r.count++
				if got := r.code(f); !f.gaveUp && got != want {
					t.Fatalf("%s\nfor %v: %s, but cel-go says %s", r.expr, brief(in), got, want)
				}
				if f.gaveUp {
					seen.gaveUp++
				}
				f.gaveUp = false
			}
		}
		for i := range list {
			seen.note(&list[i])
			if c := list[i].missed; c != "" {
				seen.missed[c]++
			}
			if list[i].split() {
				seen.split++
			}
		}
	})
	seen.report(t)
}

// agreeRule is an expression in all its forms.
type agreeRule struct {
	expr   string
	rule   Rule
	tree   *ast.AST
	whole  cel.Program
	code   code
	missed string // why there is no code
	count  int    // comparisons of the code
}

func (r *agreeRule) split() bool { return len(r.rule.Conditions()) > 1 }

// agreeFormula is a formula with its text.
type agreeFormula struct {
	*Formula
	expr string
}

// drawFormulas draws expressions of values: where a condition only says on which side of
// something a value is, these show all of it.
func drawFormulas(env *Env, w *typedWriter) []agreeFormula {
	var list []agreeFormula
	for _, k := range []aType{aFlag, aWhole, aNumber, aText, aText, aTime} {
		kind := [...]profilestore.Kind{
			aFlag: profilestore.KindFlag, aWhole: profilestore.KindNumber, aNumber: profilestore.KindNumber,
			aText: profilestore.KindText, aTime: profilestore.KindTime,
		}[k]
		expr := w.of(k, w.pick(3))
		if f, err := env.CompileValue(expr, kind); err == nil {
			list = append(list, agreeFormula{f, expr})
		}
	}
	return list
}

// compare compares the value with cel-go's, and returns 1 if it came from code.
func (f *agreeFormula) compare(t *rapid.T, e *Evaluation, in Inputs) int {
	onCEL := *f.Formula
	onCEL.run = nil
	want, wantErr := e.Compute(&onCEL)
	if got, err := e.Compute(f.Formula); got != want || (err == nil) != (wantErr == nil) {
		t.Fatalf("%s\nfor %s: %q, %v, but cel-go says %q, %v", f.expr, brief(in), got, err, want, wantErr)
	}
	if f.run == nil {
		return 0
	}
	e.frame.gaveUp = false
	got, s := f.run(&e.frame)
	switch {
	case e.frame.gaveUp:
		return 0
	case got != want && s != stateFailed, (s == stateFailed) != (wantErr != nil), (s == stateKnown) != want.Known():
		t.Fatalf("%s\nfor %s: %q, %d, but cel-go says %q, %v", f.expr, brief(in), got, s, want, wantErr)
	}
	return 1
}

// compileWhole compiles the expression without splitting it.
func (r *agreeRule) compileWhole(t *rapid.T, env *Env) {
	tree, mistakes := env.lang.compile(r.expr)
	if mistakes != nil {
		t.Fatal(mistakes)
	}
	r.tree, r.whole = tree, wholeProgram(t, env, r.expr)
	c := env.lang.newCompiler(tree, tree.Expr())
	r.code = c.condition(tree.Expr())
	r.missed = c.uncovered
}

// brief prints inputs with long values cut.
func brief(in Inputs) string {
	var b strings.Builder
	for i, v := range slices.Concat(in.Profile.(values), in.Context) { //nolint:errcheck // it is what was drawn
		if i < len(agreeFields) {
			fmt.Fprintf(&b, "profile.%s: ", agreeFields[i][0])
		} else {
			fmt.Fprintf(&b, "context.%s: ", agreeContext[i-len(agreeFields)].Name)
		}
		fmt.Fprintf(&b, "%.60q, ", v)
	}
	fmt.Fprintf(&b, "now: %d", in.Now)
	return b.String()
}

// wholeProgram gives an expression to cel-go as it stands.
func wholeProgram(t *rapid.T, env *Env, expr string) cel.Program {
	tree, mistakes := env.lang.compile(expr)
	if mistakes != nil {
		t.Fatal(mistakes)
	}
	p, err := env.lang.program(tree, tree.Expr())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// overspent reports whether a program fails at its limit of costs.
func overspent(p cel.Program, vars *variables) bool {
	_, _, err := p.Eval(vars)
	return err != nil && strings.Contains(err.Error(), "cost limit exceeded")
}

// sightings count what was compared.
type sightings struct {
	comparisons, compiled, gaveUp, split, refused, overspent, values int

	outcomes [4]int
	missed   map[string]int // expressions that are not covered, by what in them is not
	all      map[string]int // comparisons, by overload and kind of leaf
	code     map[string]int // of them, those of compiled code
	reasons  map[string]string
}

// newSightings expects every overload of every function that the language has.
func newSightings(l *language) *sightings {
	s := &sightings{all: make(map[string]int), code: make(map[string]int), reasons: make(map[string]string), missed: make(map[string]int)}
	for name, f := range l.env.Functions() {
		_, operator := operators.FindReverse(name)
		if !operator && name != operators.Conditional && name != operators.Index && !slices.Contains(functions, name) && !slices.Contains(l.tables, name) {
			continue
		}
		for _, o := range f.OverloadDecls() {
			if !slices.ContainsFunc(append(o.ArgTypes(), o.ResultType()), foreignType) {
				s.all[o.ID()] = 0
			}
		}
	}
	for _, more := range []string{"exists", "all", "exists_one", "map", "filter", "has", "list", "map literal", "now", "input"} {
		s.all[more] = 0
	}
	for _, f := range agreeFields {
		s.all["field "+f[1]] = 0
	}
	return s
}

// foreignType reports whether no expression has values of a type.
func foreignType(t *types.Type) bool {
	switch t.Kind() {
	case types.UintKind, types.BytesKind, types.DynKind, types.AnyKind, types.NullTypeKind, types.TypeKind, types.OpaqueKind, types.StructKind:
		return true
	default:
		return false
	}
}

// note counts the parts of an expression.
func (s *sightings) note(r *agreeRule) {
	found := make(map[string]bool)
	refs := r.tree.ReferenceMap()
	ast.PreOrderVisit(r.tree.Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		switch e.Kind() {
		case ast.CallKind:
			for _, id := range refs[e.ID()].OverloadIDs {
				found[id] = true
			}
		case ast.SelectKind:
			c := compiler{lang: &language{places: agreePlaces}}
			switch slot, input, ok := c.place(e); {
			case e.AsSelect().IsTestOnly():
				found["has"] = true
			case ok && slot >= 0:
				found["field "+agreeFields[slot][1]] = true
			case ok && input >= 0:
				found["input"] = true
			}
		case ast.IdentKind:
			if e.AsIdent() == "now" {
				found["now"] = true
			}
		case ast.ListKind:
			found["list"] = true
		case ast.MapKind:
			found["map literal"] = true
		case ast.LiteralKind, ast.ComprehensionKind, ast.StructKind, ast.UnspecifiedExprKind:
		}
	}))
	for _, macro := range []string{"exists", "all", "exists_one", "map", "filter"} {
		if strings.Contains(r.expr, "."+macro+"(") {
			found[macro] = true
		}
	}
	for name := range found {
		if _, ok := s.all[name]; ok {
			s.all[name] += 20
			s.code[name] += r.count
		}
	}
}

// report prints the table, and fails for what occurred too seldom.
func (s *sightings) report(t *testing.T) {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	line := func(format string, args ...any) {
		if _, err := fmt.Fprintf(w, format, args...); err != nil {
			t.Fatal(err)
		}
	}
	line("operator or type\tcomparisons\tof code\t\n")
	const whole = 1_000_000 // from which number on chance leaves nothing out
	least, most := 0, s.comparisons/5
	if s.comparisons >= whole {
		least, most = 1000, s.comparisons/10
	}
	for _, name := range slices.Sorted(maps.Keys(s.all)) {
		line("%s\t%d\t%d\t\n", name, s.all[name], s.code[name])
		if s.all[name] < least {
			t.Errorf("%s: %d comparisons, want %d", name, s.all[name], least)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	t.Logf("\n%s", b.String())
	t.Logf("%d comparisons: %d false, %d true, %d unknown, %d failed", s.comparisons, s.outcomes[False], s.outcomes[True], s.outcomes[Unknown], s.outcomes[Failed])
	t.Logf("%.1f%% compiled, of which %.1f%% were left to cel-go while they ran; %d expressions were several conditions, %d were refused, %d failed at the limit as a whole only",
		100*float64(s.compiled)/float64(s.comparisons), 100*float64(s.gaveUp)/float64(s.compiled), s.split, s.refused, s.overspent)
	t.Logf("%d values of compiled formulas were compared too", s.values)
	t.Logf("not covered: %v", s.missed)
	for reason, expr := range s.reasons {
		t.Logf("refused: %s: %.300s", reason, expr)
	}
	if left := s.comparisons - s.compiled; left > most {
		t.Errorf("%d comparisons were of expressions that are not compiled: at most %d", left, most)
	}
	for truth, n := range s.outcomes {
		if n == 0 {
			t.Errorf("no rule was ever %s: the test shows nothing about it", Truth(truth))
		}
	}
}

// agreeFields are the fields of the profile, several of each kind.
var agreeFields = [][2]string{
	{"value.a", "number"},
	{"value.b", "number"},
	{"usage.c", "counter"},
	{"tag.f", "flag"},
	{"tag.g", "flag"},
	{"general.s", "text"},
	{"general.t", "text"},
	{"general.u", "text"},
	{"service.w", "time"},
	{"service.v", "time"},
	{"marketing.m", "set"},
	{"marketing.n", "set"},
}

var agreeContext = []Input{
	{Name: "n", Kind: profilestore.KindNumber},
	{Name: "f", Kind: profilestore.KindFlag},
	{Name: "s", Kind: profilestore.KindText},
	{Name: "w", Kind: profilestore.KindTime},
	{Name: "m", Kind: profilestore.KindSet},
}

// agreePlaces is language.places of them.
var agreePlaces = func() map[string]int {
	places := make(map[string]int)
	for i, f := range agreeFields {
		places["profile."+f[0]] = i
	}
	for i, in := range agreeContext {
		places["context."+in.Name] = i
	}
	return places
}()

func agreeSchema(t testing.TB) *profilestore.Schema {
	t.Helper()
	var fields []profilestore.Field
	for _, f := range agreeFields {
		fields = append(fields, profilestore.Field{Name: f[0], Type: profilestore.Type(f[1]), Batch: "bi", Decimals: profilestore.NoDecimals})
	}
	s, err := profilestore.NewSchema([]profilestore.Source{{ID: "bi"}}, fields)
	if err == nil {
		s, err = s.WithTables([]profilestore.ReferenceTable{{ID: "empty"}, {ID: "area"}, {ID: "kind"}})
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// tableSet are reference tables by their places in the schema.
type tableSet []map[string]string

func (s tableSet) Find(table int, key string) (string, bool) {
	if table >= len(s) {
		return "", false
	}
	v, ok := s[table][key]
	return v, ok
}

// agreeTables are versions of the tables of agreeSchema.
var agreeTables = []TableSet{
	nil,
	tableSet{},
	tableSet{nil, {"gold": "g", "g": "gold", "2": "7", "": "héllo", "\xff": "2"}, {"g": "\xff"}},
	tableSet{nil, {"gold": "2", "g": "true"}, {"gold": "gold", "GOLD": "g", "2": "gold"}},
}

// What values are drawn from: what is common, and the edges.
var (
	agreeNumbers = []float64{-1, 0, 1, 2, 2.5, 3, 4, 1e6, 1 << 53, 9.3e18, math.MinInt64, math.MaxInt64, 1e300, -1e-7, math.Inf(1), math.Inf(-1)}
	agreeTexts   = []string{
		"", "2", "gold", "g", "GOLD old", " g ", "héllo", "日本", "\xff", "go\xc3ld", "true", "-7", "1.5", "NaN", "1h30m", "0,1,2",
		"2026-01-31T18:00:00.25+08:00", "9999-12-31T23:59:59Z", strings.Repeat("gold", 90),
	}
	agreeTimes = []int64{
		0, 1e6, 2e6, 2_000_001, 1_767_225_599_999_999, minSecond * 1e6, minSecond*1e6 - 1, maxSecond * 1e6, (maxSecond + 1) * 1e6,
		math.MinInt64, math.MaxInt64,
	}
	agreeSets = []profilestore.Value{
		profilestore.Set(), profilestore.Set("gold"), profilestore.Set("2", "g", "gold"), profilestore.Set("héllo", "old"),
		bigSet(60), bigSet(900),
	}
)

func bigSet(n int) profilestore.Value {
	var list []string
	for i := range n {
		list = append(list, fmt.Sprintf("p%d", i))
	}
	return profilestore.Set(list...)
}

// drawAgreeInputs draws a profile and a context in which a third is unknown. Usual values
// come more often than odd ones.
func drawAgreeInputs(t *rapid.T, s *profilestore.Schema) Inputs {
	usual := func(n, few int) int {
		if rapid.IntRange(0, 3).Draw(t, "odd") > 0 {
			n = few
		}
		return rapid.IntRange(0, n-1).Draw(t, "value")
	}
	draw := func(k profilestore.Kind) profilestore.Value {
		if rapid.IntRange(0, 2).Draw(t, "known") == 0 {
			return profilestore.Unknown()
		}
		switch k {
		case profilestore.KindNumber:
			return profilestore.Number(agreeNumbers[usual(len(agreeNumbers), 7)])
		case profilestore.KindFlag:
			return profilestore.Flag(rapid.Bool().Draw(t, "flag"))
		case profilestore.KindText:
			return profilestore.Text(agreeTexts[usual(len(agreeTexts), 6)])
		case profilestore.KindSet:
			return agreeSets[usual(len(agreeSets), 4)]
		default:
			return profilestore.Time(agreeTimes[usual(len(agreeTimes), 5)])
		}
	}
	var v values
	for _, f := range s.Fields() {
		v = append(v, draw(f.Type.Kind()))
	}
	in := Inputs{Profile: v, Now: agreeTimes[usual(len(agreeTimes), 5)], Tables: agreeTables[rapid.IntRange(0, len(agreeTables)-1).Draw(t, "tables")]}
	for _, c := range agreeContext {
		in.Context = append(in.Context, draw(c.Kind))
	}
	return in
}

// aType is a type of expressions.
type aType int

const (
	aFlag aType = iota
	aWhole
	aNumber
	aText
	aTime
	aSpan
	allTypes
)

// typedWriter writes random expressions of a type.
type typedWriter struct {
	t      *rapid.T
	locals []aLocal
}

type aLocal struct {
	name string
	of   aType
}

func newTypedWriter(t *rapid.T) *typedWriter { return &typedWriter{t: t} }

func (w *typedWriter) pick(n int) int { return rapid.IntRange(0, n-1).Draw(w.t, "pick") }

func (w *typedWriter) one(list ...string) string { return list[w.pick(len(list))] }

func (w *typedWriter) any() aType { return aType(w.pick(int(allTypes))) }

// leaves are expressions without operands.
var leaves = [allTypes][]string{
	aFlag:   {"profile.tag.f", "profile.tag.g", "context.f", "has(profile.value.a)", "has(profile.marketing.m)", "has(context.n)", "true", "false"},
	aWhole:  {"0", "1", "2", "-1", "-3", "7", "9223372036854775807", "-9223372036854775808", "size(profile.general.s)", "size(profile.marketing.m)", "profile.general.t.size()"},
	aNumber: {"profile.value.a", "profile.value.b", "profile.usage.c", "context.n", "profile.value.a", "0.0", "2.5", "1e300", "-1.0"},
	aText:   {"profile.general.s", "profile.general.t", "profile.general.u", "context.s", `"gold"`, `""`, `"g"`, `"2"`, `"héllo"`},
	aTime:   {"profile.service.w", "profile.service.v", "context.w", "now", `timestamp("2026-01-01T00:00:00Z")`, `timestamp("2026-01-31T18:00:00.5+08:00")`, `timestamp("0001-01-01T00:00:00Z")`},
	aSpan:   {"days(1)", "days(2.5)", `duration("1s")`, `duration("-1h30m")`, `duration("2562047h47m16.854775807s")`, `days(36500)`},
}

// of writes an expression of a type.
func (w *typedWriter) of(k aType, depth int) string {
	for _, l := range w.locals {
		if l.of == k && w.pick(3) == 0 {
			return l.name
		}
	}
	if depth <= 0 {
		return w.one(leaves[k]...)
	}
	d := depth - 1
	switch w.pick(14) {
	case 0:
		return "(" + w.of(aFlag, d) + " ? " + w.of(k, d) + " : " + w.of(k, d) + ")"
	case 1:
		if w.pick(3) == 0 {
			return w.mapLiteral(k, d)
		}
		return w.list(k, d) + "[" + w.one("0", "1", w.of(aWhole, d)) + "]"
	}
	switch k {
	case aFlag:
		return w.flag(d)
	case aWhole:
		return w.whole(d)
	case aNumber:
		return w.number(d)
	case aText:
		return w.text(d)
	case aTime:
		return w.time(d)
	default:
		return w.span(d)
	}
}

func (w *typedWriter) mapLiteral(k aType, d int) string {
	if w.pick(2) == 0 {
		return "{'gold': " + w.of(k, d-1) + ", '2': " + w.of(k, 0) + "}[" + w.of(aText, d) + "]"
	}
	return "{1: " + w.of(k, 0) + ", 7: " + w.of(k, d-1) + "}[" + w.of(aWhole, d) + "]"
}

func (w *typedWriter) flag(d int) string {
	switch w.pick(22) {
	case 0, 1, 2:
		return "(" + w.of(aFlag, d) + " && " + w.of(aFlag, d) + ")"
	case 3, 4:
		return "(" + w.of(aFlag, d) + " || " + w.of(aFlag, d) + ")"
	case 5:
		return "!" + w.of(aFlag, d)
	case 6, 7, 8:
		k := w.any()
		return "(" + w.of(k, d) + w.one(" < ", " <= ", " > ", " >= ") + w.of(k, d) + ")"
	case 9, 20:
		// Whole numbers and others. In a sum of lists the first stay what they are.
		whole := w.one(w.of(aWhole, d), "([1, 2, 9007199254740993] + [size(profile.general.s)])["+w.one("0", "1", "2", w.of(aWhole, d))+"]")
		if w.pick(2) == 0 {
			return "(" + whole + w.one(" < ", " <= ", " > ", " >= ") + w.of(aNumber, d) + ")"
		}
		return "(" + w.of(aNumber, d) + w.one(" < ", " <= ", " > ", " >= ") + whole + ")"
	case 10, 11:
		k := w.any()
		return "(" + w.of(k, d) + w.one(" == ", " != ") + w.of(k, d) + ")"
	case 12:
		k := w.any()
		return "(" + w.list(k, d) + w.one(" == ", " != ") + w.list(k, d) + ")"
	case 13, 14:
		k := w.any()
		return "(" + w.of(k, d) + " in " + w.list(k, d) + ")"
	case 15:
		return w.of(aText, d) + w.one(".startsWith(", ".endsWith(", ".contains(") + w.of(aText, d) + ")"
	case 16:
		if w.pick(3) == 0 {
			return "matches(" + w.of(aText, d) + `, "^[a-g]+l?")`
		}
		return w.of(aText, d) + w.one(`.matches("^g")`, `.matches("(o|l)*d$")`, `.matches("^.$")`)
	case 17:
		switch w.pick(4) {
		case 0:
			return "bool(" + w.of(aFlag, d) + ")"
		case 1:
			return "(" + w.of(aText, d) + " in {'gold': 1, 'g': 2})"
		default:
			return "bool(" + w.of(aText, d) + ")"
		}
	default:
		return w.quantifier(d)
	}
}

// quantifier writes exists, all or exists_one over a list of any type.
func (w *typedWriter) quantifier(d int) string {
	if len(w.locals) == maxComprehension {
		return w.of(aFlag, 0)
	}
	k := w.any()
	if w.pick(2) == 0 {
		k = aText
	}
	return w.list(k, d) + w.one(".exists(", ".all(", ".exists_one(") + w.in(k, func(x string) string { return x + ", " + w.of(aFlag, d) }) + ")"
}

// in writes a part of a comprehension, with the name of its variable.
func (w *typedWriter) in(k aType, write func(x string) string) string {
	x := string(rune('x' + len(w.locals)))
	w.locals = append(w.locals, aLocal{name: x, of: k})
	s := write(x)
	w.locals = w.locals[:len(w.locals)-1]
	return s
}

// list writes a list of a type.
func (w *typedWriter) list(k aType, d int) string {
	n := w.pick(14)
	switch {
	case k == aText && n < 4:
		return w.one("profile.marketing.m", "profile.marketing.n", "context.m")
	case k == aText && n == 4:
		return w.of(aText, d) + `.split(` + w.one(`","`, `""`, `"o"`) + w.one(")", ")", ", 2)")
	case d > 0 && n == 5:
		return "(" + w.list(k, d-1) + " + " + w.list(k, d-1) + ")"
	case d > 0 && n == 6:
		return "(" + w.of(aFlag, d-1) + " ? " + w.list(k, d-1) + " : " + w.list(k, d-1) + ")"
	case n < 10 && len(w.locals) < maxComprehension && d > 0:
		of := k
		if n > 7 {
			of = w.any()
		}
		list := w.list(of, d-1)
		return w.in(of, func(x string) string {
			switch {
			case of == k && n == 7:
				return list + ".filter(" + x + ", " + w.of(aFlag, d-1) + ")"
			case n == 8:
				return list + ".map(" + x + ", " + w.of(aFlag, d-1) + ", " + w.of(k, d-1) + ")"
			default:
				return list + ".map(" + x + ", " + w.of(k, d-1) + ")"
			}
		})
	case n == 10 && k == aText:
		return `["a", "b", "c", "d", "e", "f", "g", "h", "gold", "2"]`
	case n == 11 && k == aNumber:
		return `[0.0, 1.0, 2.0, 2.5, 4.0, 5.0, 6.0, 7.0, 1e6]`
	}
	if w.pick(12) == 0 && d == 0 {
		return "[]"
	}
	parts := make([]string, 1+w.pick(3))
	for i := range parts {
		parts[i] = w.of(k, w.pick(2)*d)
	}
	return "[" + strings.Join(parts, ", ") + "]"
}

func (w *typedWriter) whole(d int) string {
	switch w.pick(20) {
	case 0, 1, 2, 3:
		return "(" + w.of(aWhole, d) + w.one(" + ", " - ", " * ", " / ", " % ") + w.of(aWhole, d) + ")"
	case 4:
		return "-(" + w.of(aWhole, d) + ")"
	case 5:
		if w.pick(4) == 0 {
			return w.one("size({'a': 1})", "{'a': 1}.size()")
		}
		k := w.any()
		return w.one("size("+w.list(k, d)+")", w.list(k, d)+".size()")
	case 6, 7:
		return "int(" + w.of(aType(1+w.pick(int(allTypes)-1)), d) + ")"
	case 8:
		return w.of(aText, d) + w.one(".indexOf(", ".lastIndexOf(") + w.of(aText, d) + w.one(")", ")", ", "+w.of(aWhole, 0)+")")
	case 9, 10, 11:
		return w.of(aSpan, d) + w.one(".getHours()", ".getMinutes()", ".getSeconds()", ".getMilliseconds()")
	default:
		return w.of(aTime, d) + "." + w.one("getFullYear", "getMonth", "getDate", "getDayOfMonth", "getDayOfYear", "getDayOfWeek", "getHours",
			"getMinutes", "getSeconds", "getMilliseconds") + w.one("()", "()", `("Asia/Shanghai")`, `("-03:30")`, `("America/New_York")`)
	}
}

func (w *typedWriter) number(d int) string {
	switch w.pick(6) {
	case 0, 1, 2:
		return "(" + w.of(aNumber, d) + w.one(" + ", " - ", " * ", " / ") + w.of(aNumber, d) + ")"
	case 3:
		return "(" + w.of(aNumber, d) + w.one(" + ", " - ", " * ", " / ") + w.of(aWhole, d) + ")"
	case 4:
		return "-(" + w.of(aNumber, d) + ")"
	default:
		return "double(" + w.of([]aType{aWhole, aNumber, aText}[w.pick(3)], d) + ")"
	}
}

func (w *typedWriter) text(d int) string {
	switch w.pick(12) {
	case 10:
		return w.one("area(", "area(", "kind(", "empty(") + w.of(aText, d) + ")"
	case 11:
		return w.one("area(", "kind(", "kind(", "empty(") + w.of(aText, d) + ", " + w.of(aText, d) + ")"
	case 0, 1:
		return "(" + w.of(aText, d) + " + " + w.of(aText, d) + ")"
	case 2, 3:
		return "string(" + w.of(w.any(), d) + ")"
	case 4:
		if w.pick(2) == 0 {
			return "decimal(" + w.of([]aType{aWhole, aNumber}[w.pick(2)], d) + ", " + w.one("0", "2", "9", w.of(aWhole, d)) + ")"
		}
		return w.of(aText, d) + ".charAt(" + w.of(aWhole, d) + ")"
	case 5:
		return w.of(aText, d) + ".substring(" + w.one("0", "1", w.of(aWhole, d)) + w.one(")", ", "+w.one("1", "2", w.of(aWhole, 0))+")")
	case 6:
		return w.of(aText, d) + w.one(`.replace("o", "")`, `.replace("ld", "d")`, `.replace("", "")`, `.replace("o", "0", 1)`)
	default:
		return w.of(aText, d) + w.one(".lowerAscii()", ".upperAscii()", ".trim()")
	}
}

func (w *typedWriter) time(d int) string {
	switch w.pick(5) {
	case 0:
		return "(" + w.of(aSpan, d) + " + " + w.of(aTime, d) + ")"
	case 1, 2:
		return "(" + w.of(aTime, d) + w.one(" + ", " - ") + w.of(aSpan, d) + ")"
	default:
		return "timestamp(" + w.of([]aType{aWhole, aTime, aText}[w.pick(3)], d) + ")"
	}
}

func (w *typedWriter) span(d int) string {
	switch w.pick(8) {
	case 0, 1:
		return "(" + w.of(aTime, d) + " - " + w.of(aTime, d) + ")"
	case 2, 3:
		return "(" + w.of(aSpan, d) + w.one(" + ", " - ") + w.of(aSpan, d) + ")"
	case 4:
		return w.of(aSpan, d)
	case 5:
		return "duration(" + w.of([]aType{aSpan, aText}[w.pick(2)], d) + ")"
	default:
		return "days(" + w.of([]aType{aWhole, aNumber}[w.pick(2)], d) + ")"
	}
}
