package profilestore

import (
	"fmt"
	"slices"
	"strings"
)

// maxLoadProblems is how many problems a LoadError lists.
const maxLoadProblems = 20

// LoadError says what is wrong with a file that was to be loaded. Nothing was
// loaded.
type LoadError struct {
	File    string // its path
	Summary string
	// Problems are the first 20, by line; Count is how many there are.
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
	Line    int64  // on which the row begins, the header being line 1; 0 for the file
	Field   string // of the schema; empty for a whole row
	Column  string // of the file, likewise
	Value   string // as it is in the file, its first 80 bytes; empty for a whole row
	Message string // what is wrong and what to do
}

// String returns the problem as a sentence that begins with the line.
func (p LoadProblem) String() string {
	var b strings.Builder
	if p.Line > 0 {
		fmt.Fprintf(&b, "line %d: ", p.Line)
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

// loadProblems collects problems, the first maxLoadProblems with their details.
type loadProblems struct {
	list  []LoadProblem
	count int64
}

func (p *loadProblems) add(problem LoadProblem) {
	p.count++
	if len(p.list) < maxLoadProblems {
		problem.Value = shorten(problem.Value, 80)
		p.list = append(p.list, problem)
	}
}

// merge adds the problems of another.
func (p *loadProblems) merge(other *loadProblems) {
	p.count += other.count
	p.list = append(p.list, other.list...)
	p.list = p.sorted()[:min(len(p.list), maxLoadProblems)]
}

func (p *loadProblems) sorted() []LoadProblem {
	slices.SortStableFunc(p.list, func(a, b LoadProblem) int { return int(a.Line - b.Line) })
	return p.list
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
