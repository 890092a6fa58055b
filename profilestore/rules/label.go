package rules

import (
	"fmt"
	"slices"
	"strings"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
)

// Label is the words for a condition, wherever a rule has it: an explanation says these
// and not the CEL.
//
// The condition is found by what it says and not by how it is written: 5 and 5.0 are the
// same, and so is a segment and what it stands for. What is made of labelled conditions
// with !, && and || has words too, and so has a comparison whose opposite is labelled.
type Label struct {
	When  string // a condition
	Label string // what is true of the customer if it holds, such as "uses more than 5 GB a month"
	Not   string // if it does not; may be empty
}

// labels are the words for conditions, by their canonical texts.
type labels map[string]wording

type wording struct {
	holds, not string
	label      int // in the vocabulary; −1: a segment has it
}

// addLabels adds the labels, and those of segments where there is none.
func (r *resolver) addLabels() {
	all := make(labels)
	for i, l := range r.Labels {
		if strings.TrimSpace(l.When) == "" {
			r.fail(ListLabels, i, "when", wholeError(l.When, "a condition is needed"))
			continue
		}
		tree, mistakes := r.whole.compile(l.When)
		if mistakes == nil && resultType(tree).Kind() != types.BoolKind {
			mistakes = wholeError(l.When, "a condition must be true or false: this is a %s", plainType(resultType(tree)))
		}
		if mistakes != nil {
			r.fail(ListLabels, i, "when", mistakes)
			continue
		}
		text, err := canonical(tree, tree.Expr())
		if err != nil {
			r.fail(ListLabels, i, "when", wholeError(l.When, "%v", err))
			continue
		}
		if before, ok := all[text]; ok {
			r.fail(ListLabels, i, "when", wholeError(l.When, "this condition has a label already: %q", before.holds))
			continue
		}
		all[text] = wording{l.Label, l.Not, i}
	}
	for i, s := range r.Segments {
		if s.Label == "" || r.whole.segments[s.ID] == nil || r.first["segment."+s.ID] != (name{i, false}) {
			continue
		}
		tree, mistakes := r.own.compile(s.When)
		if mistakes != nil {
			continue // never: it was compiled before
		}
		if text, err := canonical(tree, tree.Expr()); err == nil {
			if _, ok := all[text]; !ok {
				all[text] = wording{holds: s.Label, label: -1}
			}
		}
	}
	r.whole.labels = all
	if len(all) == 0 && !slices.ContainsFunc(r.Tables, func(t DecisionTable) bool { return t.Label != "" }) {
		return
	}
	for i := range r.rows.atoms { // which were compiled before the labels
		a := &r.rows.atoms[i]
		if tree, mistakes := r.whole.compile(a.text); mistakes == nil {
			a.label, a.labels = r.whole.label(tree, tree.Expr())
		}
	}
}

// label returns the words for a part of a checked tree, "" if there are none, and which
// labels of the vocabulary they are made of.
func (l *language) label(tree *ast.AST, e ast.Expr) (string, []int32) {
	if len(l.labels) == 0 && len(l.decisions) == 0 {
		return "", nil
	}
	x := labeller{language: l, tree: tree}
	words, _ := x.words(e)
	if words == "" {
		return "", nil
	}
	return words, x.used
}

// labeller finds the words for a condition.
type labeller struct {
	*language
	tree *ast.AST
	used []int32
}

// words returns the words for a part, and whether they need parentheses beside others.
func (l *labeller) words(e ast.Expr) (words string, joined bool) {
	if w, ok := l.labelled(e); ok {
		return w.holds, false
	}
	if i, ok := l.decisionAt(e); ok {
		return l.decisions[i].label, false
	}
	switch op := operator(e); op {
	case operators.LogicalNot:
		of := e.AsCall().Args()[0]
		if w, _ := l.labelled(of); w.not != "" {
			return w.not, false
		}
		if words := l.wordsWithin(of); words != "" {
			return "not: " + words, true
		}
		return "", false
	case operators.LogicalAnd, operators.LogicalOr:
		var parts []string
		for _, part := range links(nil, e, op) {
			words := l.wordsWithin(part)
			if words == "" {
				return "", false
			}
			parts = append(parts, words)
		}
		return strings.Join(parts, map[string]string{operators.LogicalAnd: " and ", operators.LogicalOr: " or "}[op]), true
	default:
		if l.decisionCompared(e) {
			return l.labelDecision(e)
		}
		if opposite[op] == "" {
			return "", false
		}
		w, ok := l.labelled(ast.NewExprFactory().NewCall(e.ID(), opposite[op], e.AsCall().Args()...))
		if ok && w.not == "" {
			return "not: " + w.holds, true
		}
		return w.not, false
	}
}

// wordsWithin returns the words for a part, in parentheses where they need some.
func (l *labeller) wordsWithin(e ast.Expr) string {
	words, joined := l.words(e)
	if joined {
		return "(" + words + ")"
	}
	return words
}

// labelled returns the words that the vocabulary has for a part as a whole.
func (l *labeller) labelled(e ast.Expr) (wording, bool) {
	text, err := canonical(l.tree, e)
	if err != nil {
		return wording{}, false
	}
	w, ok := l.labels[text]
	if ok && w.label >= 0 && !slices.Contains(l.used, int32(w.label)) {
		l.used = append(l.used, int32(w.label))
	}
	return w, ok
}

// decisionCompared reports whether an expression compares a decision table that has a
// label with constants.
func (l *language) decisionCompared(e ast.Expr) bool {
	if e.Kind() != ast.CallKind || len(e.AsCall().Args()) != 2 {
		return false
	}
	i, ok := l.decisionAt(e.AsCall().Args()[0])
	return ok && l.decisions[i].label != ""
}

// labelDecision returns the words for such a comparison, and whether they need
// parentheses beside others.
func (l *language) labelDecision(e ast.Expr) (string, bool) {
	args := e.AsCall().Args()
	i, _ := l.decisionAt(args[0])
	op, compared := operator(e), args[1:]
	if op == operators.In && args[1].Kind() == ast.ListKind {
		compared = args[1].AsList().Elements()
	}
	values := make([]string, len(compared))
	for k, x := range compared {
		var ok bool
		if values[k], ok = literalWords(x); !ok {
			return "", false
		}
	}
	verb := map[string]string{
		operators.In: "is", operators.Equals: "is", operators.NotEquals: "is not",
		operators.Less: "<", operators.LessEquals: "<=", operators.Greater: ">", operators.GreaterEquals: ">=",
	}[op]
	if verb == "" || len(values) == 0 {
		return "", false
	}
	return l.decisions[i].label + " " + verb + " " + strings.Join(values, " or "), len(values) > 1
}

// literalWords returns a constant as people write it.
func literalWords(e ast.Expr) (string, bool) {
	if e.Kind() != ast.LiteralKind {
		return "", false
	}
	switch v := e.AsLiteral().(type) {
	case types.String:
		return string(v), true
	case types.Double:
		return string(appendNumber(nil, float64(v), freeDecimals)), true
	case types.Int, types.Bool:
		return fmt.Sprint(v.Value()), true
	}
	return "", false
}
