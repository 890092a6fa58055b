package profilestore

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// maxLoadProblems is how many problems a LoadError lists.
const maxLoadProblems = 20

// LoadError says what is wrong with files that were to be loaded. Nothing was
// loaded.
type LoadError struct {
	File    string // the path, or of several files the first and how many more
	Summary string
	// Problems are the first 20, by file and line; Count is how many there are.
	Problems []LoadProblem
	Count    int64
}

// Error lists the problems, each on a line of its own.
func (e *LoadError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s", e.File, e.Summary)
	for i := range e.Problems {
		fmt.Fprintf(&b, "\n  %s", e.Problems[i].String())
	}
	if n := e.Count - int64(len(e.Problems)); n > 0 {
		fmt.Fprintf(&b, "\n  and %d more", n)
	}
	return b.String()
}

// LoadProblem is one mistake in a file.
type LoadProblem struct {
	File string // the path, if several files are loaded
	// Line is that on which the row begins, the first of the file being line 1; of a
	// Parquet file, which has no lines, the number of the row. 0 for the file.
	Line    int64
	Row     bool   // Line is the number of a row
	Field   string // of the schema; empty for a whole row
	Column  string // of the file, likewise
	Value   string // as it is in the file, its first 80 bytes; empty for a whole row
	Message string // what is wrong and what to do
}

// String returns the problem as a sentence that begins with the file and line.
func (p LoadProblem) String() string {
	var b strings.Builder
	b.WriteString(p.place())
	if b.Len() > 0 {
		b.WriteString(": ")
	}
	switch {
	case p.Field != "":
		fmt.Fprintf(&b, "%s, column %q: ", p.Field, p.Column)
	case p.Column != "":
		fmt.Fprintf(&b, "column %q: ", p.Column)
	}
	if p.Value != "" {
		fmt.Fprintf(&b, "%q ", p.Value)
	}
	b.WriteString(p.Message)
	return b.String()
}

// place returns the file and line.
func (p LoadProblem) place() string {
	what := "line"
	if p.Row {
		what = "row"
	}
	switch {
	case p.Line > 0 && p.File != "":
		return fmt.Sprintf("%s, %s %d", p.File, what, p.Line)
	case p.Line > 0:
		return fmt.Sprintf("%s %d", what, p.Line)
	}
	return p.File
}

// loadProblems collects problems, the first maxLoadProblems with their details.
// Which those are does not depend on the order in which they are found.
type loadProblems struct {
	list   []LoadProblem
	places []loadPlace // of them
	count  int64
}

// loadPlace is where a row is: in which of the files, and on which line.
type loadPlace struct {
	part int
	line int64
}

func (p loadPlace) compare(q loadPlace) int {
	return cmp.Or(cmp.Compare(p.part, q.part), cmp.Compare(p.line, q.line))
}

func (p *loadProblems) add(at loadPlace, problem LoadProblem) {
	p.count++
	p.keep(at, problem)
}

func (p *loadProblems) keep(at loadPlace, problem LoadProblem) {
	i := len(p.list) // after those of the same place
	for i > 0 && p.places[i-1].compare(at) > 0 {
		i--
	}
	if i == maxLoadProblems {
		return
	}
	problem.Value = shorten(problem.Value, 80)
	p.list = slices.Insert(p.list, i, problem)[:min(len(p.list)+1, maxLoadProblems)]
	p.places = slices.Insert(p.places, i, at)[:len(p.list)]
}

// merge adds the problems of another.
func (p *loadProblems) merge(other *loadProblems) {
	for i := range other.list {
		p.keep(other.places[i], other.list[i])
	}
	p.count += other.count
}

// shorten returns at most n bytes of s, without half a character.
func shorten(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "…"
}

// nearestName returns the name that differs least from want, by edits of a
// character, if it is near enough to be meant.
func nearestName(want string, names []string) (nearest string, ok bool) {
	best := 1 + max(1, len(want)/3)
	for _, name := range names {
		d := editDistance(normalName(want), normalName(name), best)
		if d < best {
			nearest, best, ok = name, d, true
		}
	}
	return nearest, ok
}

var nameSeparators = strings.NewReplacer("_", "", "-", "", " ", "", ".", "")

func normalName(s string) string { return nameSeparators.Replace(strings.ToLower(s)) }

// editDistance returns how many bytes must be inserted, removed or replaced to
// make b of a, or limit if it is that or more. This is Levenshtein's distance by
// the algorithm of Wagner and Fischer (1974), with one row kept.
func editDistance(a, b string, limit int) int {
	if len(a)-len(b) >= limit || len(b)-len(a) >= limit {
		return limit
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return min(row[len(b)], limit)
}
