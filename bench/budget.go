package bench

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

//go:embed budgets.yaml
var budgetFile []byte

// Budget is a promise of what something costs.
type Budget struct {
	Name string `yaml:"name"`
	Says string `yaml:"says"` // in words
	// Layer, Case and Subject say of which record: one whose case has all of these
	// dimensions. Without a subject it is the layer's only one that has a limit.
	Layer   string            `yaml:"layer"`
	Case    map[string]string `yaml:"case"`
	Subject string            `yaml:"subject"`
	Figure  string            `yaml:"figure"`
	// AtMost or AtLeast is the bound.
	AtMost  *Amount `yaml:"at_most"`
	AtLeast *Amount `yaml:"at_least"`
	// Gate: a check fails if it is missed. Quick: it is judged in a quick run too.
	Gate  bool `yaml:"gate"`
	Quick bool `yaml:"quick"`
	// Fails, if there is one, is how far off a gate has to be for a check to fail: a bound
	// that is wider than the budget's own.
	Fails *Amount `yaml:"fails"`
	// While names a budget that says whether the machine can tell: while it is not met, this
	// one is noisy and not missed.
	While string `yaml:"while"`
}

// Amount is a number, or a time in nanoseconds.
type Amount struct {
	Value float64
	Time  bool
}

// UnmarshalYAML reads 0.75 or 300µs.
func (a *Amount) UnmarshalYAML(node *yaml.Node) error {
	if v, err := strconv.ParseFloat(node.Value, 64); err == nil {
		*a = Amount{Value: v}
		return nil
	}
	d, err := time.ParseDuration(node.Value)
	if err != nil {
		return fmt.Errorf("line %d: %q is neither a number nor a time such as 300µs", node.Line, node.Value)
	}
	*a = Amount{Value: float64(d), Time: true}
	return nil
}

// String returns the amount as it was written, or nearly.
func (a Amount) String() string {
	if a.Time {
		return time.Duration(a.Value).String()
	}
	return strconv.FormatFloat(a.Value, 'g', -1, 64)
}

// Budgets returns those of Rapport.
func Budgets() []Budget {
	b, err := ParseBudgets(budgetFile)
	if err != nil {
		panic(err) // a test reads it
	}
	return b
}

// BudgetsOf returns those budgets that are of some layers.
func BudgetsOf(layers []string, budgets []Budget) []Budget {
	return slices.DeleteFunc(slices.Clone(budgets), func(b Budget) bool { return !slices.Contains(layers, b.Layer) })
}

// ParseBudgets reads a file of budgets, such as budgets.yaml beside this file.
func ParseBudgets(content []byte) ([]Budget, error) {
	var file struct {
		Budgets []Budget `yaml:"budgets"`
	}
	d := yaml.NewDecoder(bytes.NewReader(content))
	d.KnownFields(true)
	if err := d.Decode(&file); err != nil {
		return nil, fmt.Errorf("bench: budgets: %w", err)
	}
	seen := make(map[string]bool)
	for _, b := range file.Budgets {
		switch {
		case b.Name == "" || b.Layer == "" || b.Figure == "":
			return nil, fmt.Errorf("bench: budgets: %q lacks its name, layer or figure", b.Name)
		case seen[b.Name]:
			return nil, fmt.Errorf("bench: budgets: %s is there twice", b.Name)
		case (b.AtMost == nil) == (b.AtLeast == nil):
			return nil, fmt.Errorf("bench: budgets: %s needs at_most or at_least", b.Name)
		}
		seen[b.Name] = true
	}
	for _, b := range file.Budgets {
		if b.While != "" && (!seen[b.While] || b.While == b.Name) {
			return nil, fmt.Errorf("bench: budgets: %s is judged while %s is met, which is no other budget", b.Name, b.While)
		}
	}
	return file.Budgets, nil
}

// Verdict says how a budget stands.
type Verdict string

// Verdicts.
const (
	Met     Verdict = "met"
	Missed  Verdict = "missed"
	Unclear Verdict = "unclear" // the interval of the figure holds the bound
	// Refused: two runs of the same work differ by more than the budget allows, so nothing
	// can be said.
	Refused Verdict = "refused"
	// Noisy: it is off, and so is what says whether the machine can tell.
	Noisy       Verdict = "noisy"
	NotMeasured Verdict = "not measured"
)

// Judgement is what became of a budget.
type Judgement struct {
	Budget  Budget
	Verdict Verdict
	Figure  Figure
	Noise   float64 // of a refused one: by how much two runs of the same work differ
	Quick   bool    // of a quick run
}

// Broken reports whether a check fails for it: a gate that is missed, by as much as it says,
// or that nobody has measured. Of a full run, which is for a machine that has nothing else to
// do, also for a gate of which nothing can be said.
func (j *Judgement) Broken() bool {
	if !j.Budget.Gate {
		return false
	}
	switch j.Verdict {
	case Missed:
		return j.Budget.Fails == nil || compare(&j.Figure, *j.Budget.Fails, j.Budget.AtLeast != nil) == Missed
	case NotMeasured:
		return true
	case Refused, Noisy:
		return !j.Quick
	case Met, Unclear:
	}
	return false
}

// Judge judges budgets by what was measured. With quick, budgets that are not for quick
// runs are left out.
func Judge(budgets []Budget, records []Record, quick bool) []Judgement {
	noise := Noise(records)
	var out []Judgement
	for _, b := range budgets {
		if quick && !b.Quick {
			continue
		}
		j := b.judge(records, noise)
		j.Quick = quick
		out = append(out, j)
	}
	for i := range out {
		j := &out[i]
		k := slices.IndexFunc(out, func(o Judgement) bool { return o.Budget.Name == j.Budget.While })
		if k >= 0 && (j.Verdict == Missed || j.Verdict == Unclear) && out[k].Verdict != Met {
			j.Verdict = Noisy
		}
	}
	return out
}

// Noise returns by how much a ratio is off 1 at most, with 95% confidence, when the same
// work is measured against itself: 0.1 for 10%. It is 0 where that was not measured.
func Noise(records []Record) float64 {
	noise := 0.0
	for i := range records {
		if f, ok := records[i].Figure(FigureRatio); ok && f.known() && records[i].Layer == NoiseLayer {
			noise = max(noise, math.Abs(f.Low-1), math.Abs(f.High-1))
		}
	}
	return noise
}

func (b *Budget) judge(records []Record, noise float64) Judgement {
	j := Judgement{Budget: *b, Verdict: NotMeasured}
	i := slices.IndexFunc(records, func(r Record) bool { return b.matches(&r) })
	if i < 0 {
		return j
	}
	f, ok := records[i].Figure(b.Figure)
	if !ok {
		return j
	}
	j.Figure = f
	bound := b.AtMost
	if bound == nil {
		bound = b.AtLeast
	}
	j.Verdict = compare(&f, *bound, b.AtLeast != nil)
	if f.Unit == UnitRatio && noise > 0 && math.Abs(bound.Value-1) < noise {
		j.Verdict, j.Noise = Refused, noise
	}
	return j
}

// compare says how a figure's interval, or the figure where there is none, lies to a bound.
func compare(f *Figure, bound Amount, atLeast bool) Verdict {
	low, high := f.Value, f.Value
	if f.known() {
		low, high = f.Low, f.High
	}
	limit := bound.Value
	if atLeast {
		low, high, limit = -high, -low, -limit
	}
	switch {
	case high <= limit:
		return Met
	case low > limit:
		return Missed
	}
	return Unclear
}

// matches reports whether a record is the one that a budget is of.
func (b *Budget) matches(r *Record) bool {
	if r.Layer != b.Layer || b.Subject == "" && r.Limit == "" || b.Subject != "" && r.Name != b.Subject {
		return false
	}
	for name, value := range b.Case {
		if r.Case.Get(name) != value {
			return false
		}
	}
	_, ok := r.Figure(b.Figure)
	return ok
}

// bound says the bound in words.
func (b *Budget) bound() string {
	var s string
	if b.AtMost != nil {
		s = "at most " + b.AtMost.String()
	} else {
		s = "at least " + b.AtLeast.String()
	}
	if b.Fails != nil {
		s += ", a check fails at " + b.Fails.String()
	}
	return s
}

// String says the bound and the figure, as in "1.31 x (1.28–1.35), at most 2".
func (j *Judgement) String() string {
	if j.Verdict == NotMeasured {
		return "not measured"
	}
	s := j.Figure.String() + ", " + j.Budget.bound()
	if j.Verdict == Noisy {
		s += "; " + j.Budget.While + " is not met, so that may be the machine"
	}
	if j.Verdict == Refused {
		s += fmt.Sprintf("; the same work measured twice differs by up to %.0f%%", 100*j.Noise)
	}
	return s
}

// ErrBudget is in the error of a check that found a gate broken.
var ErrBudget = errors.New("a budget is broken")

// Check returns an error that wraps ErrBudget and names each gate that is broken.
func Check(judgements []Judgement) error {
	var broken []string
	for _, j := range judgements {
		if j.Broken() {
			broken = append(broken, fmt.Sprintf("%s %s: %s (%s)", j.Budget.Name, j.Verdict, j.String(), j.Budget.Says))
		}
	}
	if len(broken) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %s", ErrBudget, strings.Join(broken, "; "))
}
