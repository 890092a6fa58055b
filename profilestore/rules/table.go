package rules

import (
	"fmt"
	"slices"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/parser"
)

// Table holds the conditions of many rules, each once: a rule `a && b && c` is
// the conjunction of three atomic conditions, and whichever of them other rules
// have too are the same ones. An [Evaluation] computes each at most once for a
// customer, so the work grows with the number of different conditions, not of
// rules.
//
// Splitting changes no outcome. In `&&`, False decides whatever the others are,
// then Unknown, then Failed, and a conjunction is True only if all its parts
// are: that order is cel-go's own, and as a minimum over an order it does not
// depend on how the parts are grouped.
//
// A Table is immutable and safe for concurrent use.
type Table struct {
	atoms     []atom
	decisions []decision
}

// atom is an atomic condition. What an evaluation needs comes first.
type atom struct {
	code      code // nil: only cel-go can evaluate it
	prog      cel.Program
	decisions []int32 // the decision tables that it reads, each after those that it reads itself

	text   string
	label  string  // in words, if there are any
	labels []int32 // of the vocabulary that these are made of
	reads  Reads

	constants Constants
}

// Conditions returns how many different atomic conditions there are.
func (t *Table) Conditions() int { return len(t.atoms) }

// Compiled returns how many of the conditions run as compiled code; cel-go evaluates the
// others, 4 to 25 times as slowly.
func (t *Table) Compiled() (compiled, total int) {
	for i := range t.atoms {
		if t.atoms[i].code != nil {
			compiled++
		}
	}
	return compiled, len(t.atoms)
}

// Interpreted returns the same table without its compiled code: cel-go evaluates every
// condition, and says the same. It is for comparisons.
func (t *Table) Interpreted() *Table {
	atoms := slices.Clone(t.atoms)
	for i := range atoms {
		atoms[i].code = nil
	}
	return &Table{atoms: atoms, decisions: t.decisions}
}

// Condition returns the text of an atomic condition, in canonical form.
func (t *Table) Condition(i int) string { return t.atoms[i].text }

// Label returns the words for an atomic condition, "" if there are none: those that the
// vocabulary has for it, or that follow from those that it has for its parts.
func (t *Table) Label(i int) string { return t.atoms[i].label }

// Labels returns which labels of the vocabulary the words for an atomic condition are
// made of, by their places. Do not modify.
func (t *Table) Labels(i int) []int32 { return t.atoms[i].labels }

// Alone returns the rule that is one atomic condition of the table.
func (t *Table) Alone(i int) Rule { return Rule{atoms: []int32{int32(i)}} }

// Conditions returns the atomic conditions of a rule by their places in the
// table, in the order in which they stand in it. Do not modify.
func (r Rule) Conditions() []int32 { return r.atoms }

// TableBuilder collects rules into a [Table]. Not safe for concurrent use.
type TableBuilder struct {
	conditions *conditions
	rules      map[string]Rule // by the text as written
}

// Add compiles a rule into the table. An empty expression gives the zero Rule.
// An error is [CompileErrors], and nothing has then been added.
func (b *TableBuilder) Add(expr string) (Rule, error) {
	if strings.TrimSpace(expr) == "" {
		return Rule{}, nil
	}
	if r, ok := b.rules[expr]; ok {
		return r, nil
	}
	tree, mistakes := b.conditions.lang.compile(expr)
	if mistakes != nil {
		return Rule{}, mistakes
	}
	if t := resultType(tree); t.Kind() != types.BoolKind {
		return Rule{}, wholeError(expr, "a condition must be true or false: this is a %s", plainType(t))
	}
	r, err := b.conditions.add(tree, conjuncts(nil, tree.Expr()))
	if err != nil {
		return Rule{}, wholeError(expr, "%v", err)
	}
	b.rules[expr] = r
	return r, nil
}

// Build returns the table. The builder may go on: later rules are then in later
// tables only.
func (b *TableBuilder) Build() *Table {
	n := len(b.conditions.atoms)
	return &Table{atoms: b.conditions.atoms[:n:n], decisions: b.conditions.lang.decisions}
}

// wholeError is a mistake that concerns the expression as a whole.
func wholeError(expr, format string, args ...any) CompileErrors {
	return CompileErrors{{Expr: expr, Line: 1, Column: 1, Message: fmt.Sprintf(format, args...)}}
}

// conjuncts appends the parts of e that stand between its topmost &&.
func conjuncts(dst []ast.Expr, e ast.Expr) []ast.Expr {
	if e.Kind() != ast.CallKind || e.AsCall().FunctionName() != operators.LogicalAnd {
		return append(dst, e)
	}
	for _, a := range e.AsCall().Args() {
		dst = conjuncts(dst, a)
	}
	return dst
}

// conditions are atomic conditions, each once.
type conditions struct {
	lang  *language
	atoms []atom
	index map[string]int32 // by canonical text
}

func newConditions(lang *language) *conditions {
	return &conditions{lang: lang, index: make(map[string]int32)}
}

// add returns the conjunction of some parts of a checked tree.
func (c *conditions) add(tree *ast.AST, parts []ast.Expr) (Rule, error) {
	found := make([]atom, len(parts))
	for i, p := range parts {
		a := &found[i]
		var err error
		if a.text, err = canonical(tree, p); err != nil {
			return Rule{}, err
		}
		if _, ok := c.index[a.text]; ok {
			continue
		}
		if a.prog, err = c.lang.program(tree, p); err != nil {
			return Rule{}, fmt.Errorf("%s: %w", a.text, err)
		}
		a.code = c.lang.newCompiler(tree, p).condition(p)
		a.reads, a.decisions = c.lang.reads(p)
		a.label, a.labels = c.lang.label(tree, p)
		a.constants = c.lang.constants(tree, p)
	}
	r := Rule{atoms: make([]int32, 0, len(found))}
	used := make(map[int32]bool, len(found))
	for _, a := range found {
		i, ok := c.index[a.text]
		if !ok {
			i = int32(len(c.atoms))
			c.atoms = append(c.atoms, a)
			c.index[a.text] = i
		}
		if !used[i] {
			used[i] = true
			r.atoms = append(r.atoms, i)
		}
	}
	return r, nil
}

// canonical prints a part of a checked tree so that equal parts print equally.
func canonical(tree *ast.AST, part ast.Expr) (string, error) {
	return parser.Unparse(part, tree.SourceInfo(), parser.EscapeIdentifiers(true), parser.WrapOnColumn(8*MaxBytes))
}
