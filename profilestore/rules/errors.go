package rules

import (
	"fmt"
	"strings"
)

// CompileError is one mistake in an expression.
type CompileError struct {
	Expr    string // the whole expression
	Line    int    // of the mistake in Expr, from 1
	Column  int    // likewise, in characters
	Message string // what is wrong and what to write instead
}

// Error returns the message after its place: the column, and the line too if
// the expression has several.
func (e *CompileError) Error() string {
	if strings.Contains(strings.TrimSpace(e.Expr), "\n") {
		return fmt.Sprintf("line %d, column %d: %s", e.Line, e.Column, e.Message)
	}
	return fmt.Sprintf("column %d: %s", e.Column, e.Message)
}

// CompileErrors are all mistakes that could be told apart in one expression, in
// the order of their places. errors.As finds the first as a *CompileError.
type CompileErrors []*CompileError

// Error returns the mistakes, one on a line.
func (e CompileErrors) Error() string {
	lines := make([]string, len(e))
	for i, m := range e {
		lines[i] = m.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap returns the mistakes.
func (e CompileErrors) Unwrap() []error {
	errs := make([]error, len(e))
	for i, m := range e {
		errs[i] = m
	}
	return errs
}
