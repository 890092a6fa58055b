package rules

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
)

// resultsOf returns what the decision table that is named table.ID gives; nil if there is
// none.
func (l *language) resultsOf(name string) []ref.Val {
	id, ok := strings.CutPrefix(name, "table.")
	i, known := l.decisionPlaces[id]
	if !ok || !known || l.decisions[i].rows == nil {
		return nil
	}
	d := &l.decisions[i]
	var list []ref.Val
	add := func(v ref.Val) {
		if !holds(list, v) {
			list = append(list, v)
		}
	}
	for k := range d.rows {
		add(celValue(d.rows[k].result))
	}
	if d.otherwise.Known() {
		add(celValue(d.otherwise))
	}
	return list
}

func resultNames(list []ref.Val) string {
	const most = 10
	names := make([]string, 0, most)
	for _, v := range list[:min(len(list), most)] {
		names = append(names, resultName(v))
	}
	if len(list) > most {
		names = append(names, fmt.Sprintf("and %d more", len(list)-most))
	}
	return strings.Join(names, ", ")
}

func resultName(v ref.Val) string {
	if s, ok := v.(types.String); ok {
		return strconv.Quote(string(s))
	}
	return fmt.Sprint(v.Value())
}

// nearestResult returns the words that name the result that was probably meant.
func (x *examiner) nearestResult(e ast.Expr, results []ref.Val) string {
	if e.Kind() != ast.CallKind {
		return ""
	}
	var names []string
	for _, v := range results {
		if s, ok := v.(types.String); ok {
			names = append(names, string(s))
		}
	}
	for _, a := range e.AsCall().Args() {
		if s, ok := text(a); ok {
			if near := Nearest(s, names); near != "" {
				return didYouMean(strconv.Quote(near))
			}
		}
	}
	return ""
}

// TableFinding is something in a decision table that is legal and surely not what was
// meant.
type TableFinding struct {
	Row     int // −1: it is about the table
	Message string
}

// The limits of what of a table is looked at whole.
const (
	maxRegions = 100_000 // combinations of the inputs' regions
	maxVisits  = 4 << 20 // of a row for a combination, or of a range for a region
	maxSubsets = 5       // elements that the cells of one set name
)

// ExamineTable looks for rows of a decision table that never decide, because rows before
// them hold wherever they do, and, where there is no default, for values for which no row
// holds.
//
// The cells of an input divide its values into regions in which each cell is the same
// everywhere: 100..200 and >= 150 make seven, of which 150 is one. So a table is looked at
// whole by one look at each combination of regions. If those are too many, a row is held
// against each one before it instead, and values without a row are not looked for.
// Inputs count as independent: whether two can have some values at once is not known.
func (e *Examiner) ExamineTable(table int) []TableFinding {
	d := &e.env.lang.decisions[table]
	if len(d.rows) == 0 {
		return nil
	}
	inputs := make([][]region, len(d.inputs))
	combinations := 1
	for i := range d.inputs {
		inputs[i] = d.regions(i)
		combinations = min(combinations*max(len(inputs[i]), 1), maxRegions+1)
		if inputs[i] == nil {
			combinations = maxRegions + 1
		}
	}
	if combinations > maxRegions || combinations*len(d.rows) > maxVisits {
		return d.shadowed(inputs)
	}
	return d.examineAll(inputs)
}

// region is values of an input for which each cell is the same.
type region struct {
	words string
	holds []Truth // by row: the outcome of its cell
}

// examineAll looks at each combination of regions.
func (d *decision) examineAll(inputs [][]region) []TableFinding {
	decides := make([]bool, len(d.rows))
	at := make([]int, len(inputs))
	var hole []string
	for {
		row := d.firstRow(inputs, at)
		switch {
		case row >= 0:
			decides[row] = true
		case row == noRow && hole == nil && !d.otherwise.Known():
			hole = d.describe(inputs, at)
		}
		i := len(at) - 1
		for ; i >= 0; i-- {
			if at[i]++; at[i] < len(inputs[i]) {
				break
			}
			at[i] = 0
		}
		if i < 0 {
			break
		}
	}
	var out []TableFinding
	for k, ok := range decides {
		if !ok {
			out = append(out, TableFinding{k, "it never decides: rows before it hold, or can't be told, wherever it does: remove it, or put it first"})
		}
	}
	if hole != nil {
		out = append(out, TableFinding{-1, "no row holds where " + strings.Join(hole, " and ") + ", so the result is unknown: add a row or a default"})
	}
	return out
}

const (
	noRow   = -1 // holds
	stopped = -2 // at one that is not known
)

// firstRow returns the row that decides a combination of regions.
func (d *decision) firstRow(inputs [][]region, at []int) int {
	for k := range d.rows {
		truth := True
		for i := range inputs {
			if t := inputs[i][at[i]].holds[k]; t == False {
				truth = False
				break
			} else if t == Unknown {
				truth = Unknown
			}
		}
		switch truth {
		case True:
			return k
		case Unknown:
			return stopped
		case False, Failed:
		}
	}
	return noRow
}

// describe says what a combination of regions is.
func (d *decision) describe(inputs [][]region, at []int) []string {
	var words []string
	for i := range inputs {
		if r := &inputs[i][at[i]]; r.words != "" {
			words = append(words, d.inputs[i].text+" "+r.words)
		}
	}
	return words
}

// shadowed looks for rows that hold nowhere where one row before them does not.
func (d *decision) shadowed(inputs [][]region) []TableFinding {
	visits := 0
	covers := func(before, row int) bool {
		for i := range inputs {
			visits += 1 + len(inputs[i])
			if inputs[i] == nil && !slices.Equal(d.rows[before].tests[i].alternatives, d.rows[row].tests[i].alternatives) && d.rows[before].tests[i].alternatives != nil {
				return false
			}
			for k := range inputs[i] {
				if holds := inputs[i][k].holds; holds[row] == True && holds[before] != True {
					return false
				}
			}
			if inputs[i] == nil && d.rows[before].tests[i].not != d.rows[row].tests[i].not {
				return false
			}
		}
		return true
	}
	var out []TableFinding
	for row := range d.rows {
		for before := range row {
			if visits > 10*maxVisits {
				return out
			}
			if covers(before, row) {
				out = append(out, TableFinding{row, fmt.Sprintf("it never decides: row %d holds wherever it does: remove it, or put it first", before+1)})
				break
			}
		}
	}
	return out
}

// regions divides the values of an input. It returns nil if they would be too many.
func (d *decision) regions(input int) []region {
	in := &d.inputs[input]
	var values []string // that cells name
	var bounds []float64
	missing := false
	for k := range d.rows {
		for _, r := range d.rows[k].tests[input].alternatives {
			missing = missing || r.missing
			switch {
			case r.missing:
			case !in.kind.ordered():
				values = append(values, r.value)
			default:
				for _, b := range []bound{r.low, r.high} {
					if b.given {
						bounds = append(bounds, b.value)
					}
				}
			}
		}
	}
	n := len(values) + len(bounds)
	slices.Sort(values)
	slices.Sort(bounds)
	values, bounds = slices.Compact(values), slices.Compact(bounds)
	if n*(len(values)+len(bounds)) > maxVisits {
		return nil
	}
	var out []region
	add := func(words string, holds func(*cellRange) bool) {
		r := region{words: words, holds: make([]Truth, len(d.rows))}
		for k := range d.rows {
			r.holds[k] = d.rows[k].tests[input].over(holds)
		}
		out = append(out, r)
	}
	switch {
	case in.kind == cellFlag && len(values) > 0:
		values = []string{"true", "false"}
		fallthrough
	case in.kind == cellText:
		for _, v := range values {
			add("is "+v, func(r *cellRange) bool { return (r.value == v) != r.not })
		}
		if in.kind == cellText {
			words := "is none of " + strings.Join(values, ", ")
			if len(values) == 0 {
				words = ""
			}
			add(words, func(r *cellRange) bool { return r.not })
		}
	case in.kind == cellSet:
		if len(values) > maxSubsets {
			return nil
		}
		for subset := range 1 << len(values) {
			var has []string
			for i, v := range values {
				if subset>>i&1 == 1 {
					has = append(has, v)
				}
			}
			words := ""
			if len(values) > 0 {
				words = "has none of " + strings.Join(values, ", ")
			}
			if len(has) > 0 {
				words = "has " + strings.Join(has, ", ")
			}
			add(words, func(r *cellRange) bool { return slices.Contains(has, r.value) != r.not })
		}
	case in.kind.ordered() && len(bounds) > 0:
		addIntervals(in.kind, bounds, add)
	default:
		add("", func(*cellRange) bool { return false })
	}
	if missing {
		add("is not known", nil)
	}
	return out
}

// addIntervals adds each bound, what is between them and what is beyond.
func addIntervals(k cellKind, bounds []float64, add func(string, func(*cellRange) bool)) {
	within := func(v float64) func(*cellRange) bool {
		return func(r *cellRange) bool {
			low := !r.low.given || v > r.low.value || v == r.low.value && !r.lowOpen
			high := !r.high.given || v < r.high.value || v == r.high.value && !r.highOpen
			return (low && high) != r.not
		}
	}
	add("< "+boundWords(k, bounds[0]), within(bounds[0]-1))
	for i, b := range bounds {
		add("is "+boundWords(k, b), within(b))
		if i+1 == len(bounds) {
			break
		}
		if next := bounds[i+1]; k != cellWhole || next-b > 1 {
			add("is between "+boundWords(k, b)+" and "+boundWords(k, next), within(b+math.Min((next-b)/2, 1)))
		}
	}
	last := bounds[len(bounds)-1]
	add("> "+boundWords(k, last), within(last+1))
}

func boundWords(k cellKind, v float64) string {
	switch k {
	case cellTime:
		return time.UnixMicro(int64(v)).UTC().Format(time.RFC3339)
	case cellSpan:
		return (time.Duration(v) * time.Microsecond).String()
	case cellNone, cellNumber, cellWhole, cellText, cellFlag, cellSet:
	}
	return strconv.FormatFloat(v, 'f', -1, 64)
}

// over returns the outcome of a cell where its ranges hold as they do; nil: the value is
// not known.
func (t *cellTest) over(holds func(*cellRange) bool) Truth {
	if t.alternatives == nil {
		return True
	}
	out := False
	for i := range t.alternatives {
		r := &t.alternatives[i]
		switch {
		case r.missing && holds == nil, !r.missing && holds != nil && holds(r):
			out = True
		case !r.missing && holds == nil && out == False:
			out = Unknown
		}
	}
	if t.not && out != Unknown {
		return map[Truth]Truth{True: False, False: True}[out]
	}
	return out
}
