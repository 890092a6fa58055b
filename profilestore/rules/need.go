package rules

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"cel.dev/cel-go/common"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/parser"

	"rapport/profilestore"
)

// Need is what a condition asks for, in words for people. It is one of three: of one
// value (Of and Words), any or all of several, or where there are no words for it the
// condition itself (Text).
type Need struct {
	// Of is the value that it is about, such as profile.usage.data_mb, and Words what it
	// needs: `> 5000`, `one of "a", "b"`, `to be known`. Against is another value that Words
	// names, empty if there is none.
	Of, Words, Against string

	Any, All []Need
	Text     string // CEL
}

// NeedOf returns what an atomic condition of a table asks for, by its text.
func NeedOf(condition string) Need {
	p, err := parser.NewParser(parser.Macros(parser.AllMacros...), parser.PopulateMacroCalls(true), parser.EnableIdentEscapeSyntax(true), parser.MaxRecursionDepth(4*maxDepth))
	if err != nil {
		return Need{Text: condition}
	}
	tree, errs := p.Parse(common.NewTextSource(condition))
	if errs != nil && len(errs.GetErrors()) > 0 {
		return Need{Text: condition}
	}
	return needs{tree}.of(tree.Expr(), true)
}

// needs reads what a parsed condition asks for.
type needs struct{ tree *ast.AST }

// of returns what makes e true, or with want false, false.
func (n needs) of(e ast.Expr, want bool) Need {
	switch e.Kind() { //nolint:exhaustive // the others have no words
	case ast.SelectKind:
		if name, ok := valueName(e); ok {
			if e.AsSelect().IsTestOnly() {
				return Need{Of: name, Words: word(want, "to be known", "not to be known")}
			}
			return Need{Of: name, Words: strconv.FormatBool(want)}
		}
	case ast.CallKind:
		return n.call(e, want)
	}
	return n.text(e, want)
}

func (n needs) call(e ast.Expr, want bool) Need {
	args := operands(e)
	switch name := e.AsCall().FunctionName(); name {
	case operators.LogicalNot:
		return n.of(args[0], !want)
	case operators.LogicalAnd, operators.LogicalOr:
		parts := n.parts(nil, e, name, want)
		if (name == operators.LogicalAnd) == want {
			return Need{All: parts}
		}
		return Need{Any: parts}
	case operators.Less, operators.LessEquals, operators.Greater, operators.GreaterEquals, operators.Equals, operators.NotEquals:
		return n.comparison(e, signs[name], args[0], args[1], want)
	case operators.In:
		return n.in(e, args[0], args[1], want)
	case "startsWith", "endsWith", "contains", "matches":
		of, ok := valueName(args[0])
		with, _, written := n.operand(args[1])
		if ok && written {
			verb := map[string]string{"startsWith": "begin with", "endsWith": "end with", "contains": "contain", "matches": "match"}[name]
			return Need{Of: of, Words: word(want, "to ", "not to ") + verb + " " + with}
		}
	}
	return n.text(e, want)
}

// parts returns what the parts need that stand between the same operators.
func (n needs) parts(dst []Need, e ast.Expr, op string, want bool) []Need {
	if e.Kind() != ast.CallKind || e.AsCall().FunctionName() != op {
		return append(dst, n.of(e, want))
	}
	for _, a := range e.AsCall().Args() {
		dst = n.parts(dst, a, op, want)
	}
	return dst
}

func (n needs) text(e ast.Expr, want bool) Need {
	text, err := canonical(n.tree, e)
	if err != nil {
		text = "the condition"
	}
	if !want {
		text = "!(" + text + ")"
	}
	return Need{Text: text}
}

func word(want bool, yes, no string) string {
	if want {
		return yes
	}
	return no
}

// comparison is an operator with what it is if its sides are swapped, and if it must not
// hold.
type comparison struct{ sign, swapped, negated string }

var signs = map[string]comparison{
	operators.Less:          {"<", ">", "≥"},
	operators.LessEquals:    {"≤", "≥", ">"},
	operators.Greater:       {">", "<", "≤"},
	operators.GreaterEquals: {"≥", "≤", "<"},
	operators.Equals:        {"=", "=", "≠"},
	operators.NotEquals:     {"≠", "≠", "="},
}

// negations are the signs of comparisons that must not hold.
var negations = map[string]string{"<": "≥", "≤": ">", ">": "≤", "≥": "<", "=": "≠", "≠": "="}

func (n needs) comparison(e ast.Expr, c comparison, left, right ast.Expr, want bool) Need {
	sign := c.sign
	if _, ok := valueName(left); !ok && left.Kind() != ast.CallKind {
		left, right, sign = right, left, c.swapped
	}
	if !want {
		sign = negations[sign]
	}
	with, against, ok := n.operand(right)
	if !ok {
		return n.text(e, want)
	}
	if of, direction := n.distance(left); of != "" {
		if how, ok := map[string]string{"<": "less than", "≤": "at most", ">": "more than", "≥": "at least"}[sign]; ok && against == "" {
			return Need{Of: of, Words: how + " " + with + " " + direction}
		}
	}
	of, ok := valueName(left)
	switch {
	case !ok:
		return n.text(e, want)
	case with == "true" || with == "false":
		return Need{Of: of, Words: strconv.FormatBool((sign == "=") == (with == "true"))}
	case sign == "≠":
		return Need{Of: of, Words: "anything but " + with, Against: against}
	case sign == "=" && strings.HasPrefix(with, `"`):
		return Need{Of: of, Words: with, Against: against}
	}
	return Need{Of: of, Words: sign + " " + with, Against: against}
}

// distance returns the value of which an expression is how far it is from now, and in
// which direction; empty if it is no such thing.
func (n needs) distance(e ast.Expr) (of, direction string) {
	if e.Kind() != ast.CallKind || e.AsCall().FunctionName() != operators.Subtract {
		return "", ""
	}
	args := e.AsCall().Args()
	isNow := func(x ast.Expr) bool { return x.Kind() == ast.IdentKind && x.AsIdent() == "now" }
	switch {
	case isNow(args[0]):
		of, _ = valueName(args[1])
		return of, "ago"
	case isNow(args[1]):
		of, _ = valueName(args[0])
		return of, "ahead"
	}
	return "", ""
}

func (n needs) in(e, element, of ast.Expr, want bool) Need {
	with, against, ok := n.operand(element)
	if set, isValue := valueName(of); ok && isValue {
		return Need{Of: set, Words: word(want, "to have ", "not to have ") + with, Against: against}
	}
	name, ok := valueName(element)
	if !ok || of.Kind() != ast.ListKind {
		return n.text(e, want)
	}
	var list []string
	for _, x := range of.AsList().Elements() {
		with, against, ok := n.operand(x)
		if !ok || against != "" {
			return n.text(e, want)
		}
		list = append(list, with)
	}
	return Need{Of: name, Words: word(want, "one of ", "none of ") + strings.Join(list, ", ")}
}

// operand writes what a value is held against: what is written out, what follows from
// the time, or another value, which is then named.
func (n needs) operand(e ast.Expr) (words, against string, ok bool) {
	if name, ok := valueName(e); ok {
		return strings.TrimPrefix(name, "profile."), name, true
	}
	switch e.Kind() { //nolint:exhaustive // the others are more than a value
	case ast.IdentKind:
		if e.AsIdent() == "now" {
			return "now", "", true
		}
	case ast.LiteralKind:
		return writtenOut(e), "", true
	case ast.CallKind:
		call := e.AsCall()
		args := operands(e)
		switch name := call.FunctionName(); name {
		case operators.Negate:
			words, against, ok := n.operand(args[0])
			return "-" + words, against, ok && against == ""
		case operators.Add, operators.Subtract, operators.Multiply, operators.Divide:
			left, one, ok1 := n.factor(args[0], name)
			right, two, ok2 := n.factor(args[1], name)
			sign := map[string]string{operators.Add: " + ", operators.Subtract: " − ", operators.Multiply: " × ", operators.Divide: " ÷ "}[name]
			return left + sign + right, one + two, ok1 && ok2 && (one == "" || two == "")
		case "days":
			if days, _, ok := n.operand(args[0]); ok {
				return days + word(days == "1", " day", " days"), "", true
			}
		case "duration":
			if d, ok := text(args[0]); ok {
				return durationWords(d), "", true
			}
		case "timestamp":
			if t, ok := text(args[0]); ok {
				return t, "", true
			}
		}
	}
	return "", "", false
}

// factor writes a side of an operator, in parentheses if it has one itself.
func (n needs) factor(e ast.Expr, in string) (words, against string, ok bool) {
	words, against, ok = n.operand(e)
	if e.Kind() == ast.CallKind && (in != operators.Add || e.AsCall().FunctionName() != operators.Add) && strings.ContainsAny(words, "+−×÷") {
		words = "(" + words + ")"
	}
	return words, against, ok
}

// writtenOut writes what is written out.
func writtenOut(e ast.Expr) string {
	switch v := e.AsLiteral().(type) {
	case types.Double:
		return profilestore.Number(float64(v)).String()
	case types.String:
		return strconv.Quote(string(v))
	}
	return fmt.Sprint(e.AsLiteral().Value())
}

// durationWords writes a duration of whole days as such.
func durationWords(text string) string {
	d, err := time.ParseDuration(text)
	day := 24 * time.Hour
	switch {
	case err != nil || d <= 0 || d%time.Hour != 0:
		return text
	case d%day == 0:
		return fmt.Sprintf("%d %s", d/day, word(d == day, "day", "days"))
	}
	return fmt.Sprintf("%d %s", d/time.Hour, word(d == time.Hour, "hour", "hours"))
}

// valueName returns the name of a value that a condition reads, such as
// profile.usage.data_mb or context.role.
func valueName(e ast.Expr) (string, bool) {
	var names []string
	for e.Kind() == ast.SelectKind {
		names = append(names, e.AsSelect().FieldName())
		e = e.AsSelect().Operand()
	}
	if e.Kind() != ast.IdentKind {
		return "", false
	}
	root := e.AsIdent()
	if want := map[string]int{"profile": 2, "context": 1, "table": 1}[root]; want == 0 || len(names) != want {
		return "", false
	}
	for _, name := range slices.Backward(names) {
		root += "." + name
	}
	return root, true
}
