package catalog

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// File is a file of a schema or catalogue, as it was written.
type File struct {
	Name    string // for messages about it
	Content []byte // YAML, or JSON, which is YAML too
}

// Limits of what is read.
const (
	MaxFileBytes = 8 << 20  // of one file
	MaxBytes     = 32 << 20 // of all files of a catalogue
	maxValues    = 1 << 20  // of one file: lines, list elements and the like
	maxNesting   = 16       // of one file; the deepest message needs 8
	maxInner     = 20_000   // elements of a list inside an element
	maxNames     = 1000     // of attributes or parameters
	maxProblems  = 1000     // reported at once
	maxPlaced    = 2 << 20  // candidates of all scenarios, and of all touchpoints
)

// Problem is a mistake in a file.
type Problem struct {
	File    string
	Line    int    // from 1; 0 if it concerns no particular line
	Column  int    // from 1, in characters; 0 if Line is
	Path    string // the place in the file's message, such as offers[3].eligible; may be empty
	Message string // what is wrong and what to do
}

// String returns file:line:column: path: message, without the parts that are not
// known.
func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", p.Line, p.Column)
	}
	b.WriteString(": ")
	if p.Path != "" {
		b.WriteString(p.Path + ": ")
	}
	return b.String() + p.Message
}

// problemsOf returns the problems of documents in the order of the documents,
// then of the lines.
func problemsOf(docs []*document) []Problem {
	var all []Problem
	more := 0
	for _, d := range docs {
		more += d.more
		slices.SortStableFunc(d.problems, func(a, b Problem) int {
			return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
		})
		all = append(all, d.problems...)
	}
	if n := len(all) - maxProblems; n > 0 {
		all, more = all[:maxProblems:maxProblems], more+n
	}
	if more > 0 {
		all = append(all, Problem{File: all[len(all)-1].File, Message: fmt.Sprintf("and %d more problems", more)})
	}
	return all
}
