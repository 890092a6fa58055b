package rules

import (
	"fmt"
	"regexp"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
)

// typeWords are CEL's types in the words of schemas.
var typeWords = strings.NewReplacer(
	"double", "number", "int", "whole number", "bool", "flag", "string", "text",
	"timestamp", "time", "dyn", "value of any type", "uint", "whole number",
)

// plainType names a type as schemas do.
func plainType(t *types.Type) string { return typeWords.Replace(cel.FormatCELType(t)) }

var (
	noOverload   = regexp.MustCompile(`^found no matching overload for '(.+)' applied to '(.*)'$`)
	typeMismatch = regexp.MustCompile(`^expected type '(.+)' but found '(.+)'$`)
	badLiteral   = regexp.MustCompile(`^invalid (\w+) argument$`)
	reserved     = regexp.MustCompile(`^reserved identifier: (.*)$`)
	missing      = regexp.MustCompile(`^missing '(.+)' at '(.+)'$`)
	syntax       = regexp.MustCompile(`(?s)^Syntax error: (.*)$`)
)

// plainMessage puts a message of cel-go in plain words. One that it does not
// know stays as it is.
func plainMessage(m string) string {
	if x := noOverload.FindStringSubmatch(m); x != nil {
		return plainOverload(x[1], x[2])
	}
	if x := typeMismatch.FindStringSubmatch(m); x != nil {
		return fmt.Sprintf("a %s is needed here, not a %s", typeWords.Replace(x[1]), typeWords.Replace(x[2]))
	}
	if x := badLiteral.FindStringSubmatch(m); x != nil {
		switch x[1] {
		case "duration":
			return `not a duration: write hours, minutes and seconds, as in duration("36h30m"), or days(7)`
		case "timestamp":
			return `not a time: write timestamp("2026-01-31T18:00:00+08:00")`
		case "matches":
			return "not a pattern: see the syntax at https://github.com/google/re2/wiki/Syntax"
		}
	}
	if x := syntax.FindStringSubmatch(m); x != nil {
		return plainSyntax(x[1])
	}
	if x := reserved.FindStringSubmatch(m); x != nil {
		return x[1] + " can't stand here"
	}
	switch {
	case strings.Contains(m, "recursion"):
		return "the expression is nested too deeply: make it simpler"
	case strings.Contains(m, "lookahead limit"):
		return "can't be read: too much here follows no rule"
	}
	return m
}

// plainOverload says that an operator or function does not take such values.
// Its arguments come as cel-go prints them: (a, b), or a.(b) for a.f(b).
func plainOverload(function, signature string) string {
	target, args, _ := strings.Cut(signature, "(")
	list := strings.Split(strings.TrimSuffix(args, ")"), ", ")
	if target != "" {
		list = append([]string{strings.TrimSuffix(target, ".")}, list...)
	}
	words := make([]string, 0, len(list))
	for _, t := range list {
		if t != "" {
			words = append(words, "a "+typeWords.Replace(t))
		}
	}
	advice := ""
	if strings.Contains(signature, "double") && strings.Contains(signature, "int") {
		advice = ": write the whole numbers as 2.0"
	}
	symbol, ok := operators.FindReverse(function)
	switch {
	case function == operators.Modulo && strings.Contains(signature, "double"):
		return "% works on whole numbers: write int(…) around the others"
	case function == operators.Conditional && list[0] != "bool":
		return "what stands before ? must be a flag, not " + words[0]
	case function == operators.Conditional:
		return fmt.Sprintf("both values after ? must be of one type, not %s and %s", words[1], words[2])
	case function == operators.Index:
		return "[…] does not work with " + strings.Join(words, " and ")
	case ok && len(words) == 2:
		return fmt.Sprintf("%s does not work with %s and %s%s", symbol, words[0], words[1], advice)
	case ok && len(words) == 1:
		return fmt.Sprintf("%s does not work with %s", symbol, words[0])
	case len(words) == 0:
		return function + "() needs a value"
	}
	return fmt.Sprintf("%s does not work with %s", function, strings.Join(words, " and "))
}

// plainSyntax shortens what the parser says.
func plainSyntax(m string) string {
	if x := missing.FindStringSubmatch(m); x != nil {
		if x[2] == "<EOF>" {
			return x[1] + " is missing at the end"
		}
		return fmt.Sprintf("%s is missing before %s", x[1], strings.TrimSpace(x[2]))
	}
	what, _, _ := strings.Cut(m, " expecting ")
	what = strings.TrimPrefix(what, "mismatched input ")
	what = strings.TrimPrefix(what, "extraneous input ")
	what = strings.TrimPrefix(what, "token recognition error at: ")
	what = strings.TrimPrefix(what, "no viable alternative at input ")
	token := strings.TrimSpace(strings.Trim(what, "'"))
	switch {
	case what == "'<EOF>'":
		return "the expression ends too early"
	case token == "=":
		return "write == to compare"
	case strings.HasPrefix(what, "'\"") || strings.HasPrefix(what, "''"):
		return "a text begins here and has no end: it needs the same quote on both sides"
	case token == "and" || token == "AND":
		return "write && instead of " + token
	case token == "or" || token == "OR":
		return "write || instead of " + token
	case strings.HasPrefix(what, "'") && token != "" && len(token) < 60:
		return token + " can't stand here"
	}
	return "can't be read here: " + m
}
