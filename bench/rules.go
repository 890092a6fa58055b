package bench

import (
	"context"
	"fmt"
	"io"
	"strings"

	"rapport/profilestore"
	"rapport/profilestore/rules"
)

// The rules that are measured: offers of three conditions each, out of 60 different ones.
const (
	rulesOffers    = 300
	rulesDistinct  = 60
	rulesAsFast    = 30 // as cel-go: what the design asks for
	rulesFieldKind = 12 // fields of each type
)

// RulesFigures are what the rules of one decision cost.
type RulesFigures struct {
	*Comparison // the limit is the compiled table; cel-go with shared conditions, and without

	Conditions int // different ones
	Compiled   int
}

// MeasureRules measures what it takes to say of every offer whether a customer may get
// it: compiled, each condition evaluated once; by cel-go, each condition evaluated once;
// and by cel-go as it is, a program for each offer. The customer may get nearly all, so
// that hardly a condition is spared.
func MeasureRules(ctx context.Context, o Options) (*RulesFigures, error) {
	s, err := newRulesScene()
	if err != nil {
		return nil, err
	}
	want, err := s.shared.outcomes(s.inputs)
	if err != nil {
		return nil, err
	}
	subject := func(name string, t rulesTable) Subject {
		e := t.table.NewEvaluation()
		return Subject{Name: name, Run: func() error {
			e.Reset(s.inputs)
			for i, r := range t.rules {
				if got := e.Evaluate(r); got != want[i] {
					return fmt.Errorf("bench: rule %d is %s, not %s", i, got, want[i])
				}
			}
			return nil
		}}
	}
	f := &RulesFigures{}
	f.Compiled, f.Conditions = s.shared.table.Compiled()
	f.Comparison, err = Compare(ctx, o,
		subject(fmt.Sprintf("%d rules, compiled", rulesOffers), s.shared),
		subject("cel-go, conditions shared", rulesTable{table: s.shared.table.Interpreted(), rules: s.shared.rules}),
		subject("cel-go, a program a rule", rulesTable{table: s.whole.table.Interpreted(), rules: s.whole.rules}))
	return f, err
}

// Write prints the figures.
func (f *RulesFigures) Write(w io.Writer) error {
	if err := f.Comparison.Write(w); err != nil {
		return err
	}
	asFast := f.Ratios[len(f.Ratios)-1].Median
	_, err := fmt.Fprintf(w, "%d offers, %d different conditions, %d of them compiled: %.0f × as fast as cel-go (goal ≥ %d × %s)\n",
		rulesOffers, f.Conditions, f.Compiled, asFast, rulesAsFast, verdict(asFast >= rulesAsFast))
	return err
}

// rulesTable is a table and its rules.
type rulesTable struct {
	table *rules.Table
	rules []rules.Rule
}

// outcomes evaluates the rules.
func (t rulesTable) outcomes(in rules.Inputs) ([]rules.Truth, error) {
	e := t.table.NewEvaluation()
	e.Reset(in)
	var out []rules.Truth
	held := 0
	for _, r := range t.rules {
		truth := e.Evaluate(r)
		if truth == rules.True {
			held++
		}
		out = append(out, truth)
	}
	if held < len(out)*3/4 {
		return nil, fmt.Errorf("bench: %d of %d rules hold: too few to measure their cost", held, len(out))
	}
	return out, nil
}

// rulesScene are the rules of a catalogue, split and whole, and a customer.
type rulesScene struct {
	shared, whole rulesTable
	inputs        rules.Inputs
}

func newRulesScene() (*rulesScene, error) {
	var fields []profilestore.Field
	var customer values
	add := func(name string, kind profilestore.Type, v profilestore.Value) {
		fields = append(fields, profilestore.Field{Name: name, Type: kind, Batch: "bi", Decimals: profilestore.NoDecimals})
		customer = append(customer, v)
	}
	const month = 30 * 24 * 3600 * 1_000_000
	for i := range rulesFieldKind {
		add(fmt.Sprintf("usage.n%d", i), profilestore.TypeNumber, profilestore.Number(100+float64(i)))
		add(fmt.Sprintf("tag.f%d", i), profilestore.TypeFlag, profilestore.Flag(true))
		add(fmt.Sprintf("general.t%d", i), profilestore.TypeText, profilestore.Text(fmt.Sprintf("gold_%d", i)))
		add(fmt.Sprintf("service.w%d", i), profilestore.TypeTime, profilestore.Time(sceneNow-int64(i+1)*month))
		add(fmt.Sprintf("marketing.s%d", i), profilestore.TypeSet, profilestore.Set("data_10g", "mail", "news", fmt.Sprintf("p%d", i)))
	}
	customer[len(customer)-1] = profilestore.Unknown()
	schema, err := profilestore.NewSchema([]profilestore.Source{{ID: "bi"}}, fields)
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	env, err := rules.NewEnv(schema, nil)
	if err != nil {
		return nil, err
	}
	s := &rulesScene{inputs: rules.Inputs{Profile: customer, Now: sceneNow}}
	conditions := rulesConditions()
	split, joined := env.NewTable(), env.NewTable()
	for i := range rulesOffers {
		lap := i / rulesDistinct // each has other neighbours
		expr := strings.Join([]string{
			conditions[i%rulesDistinct], conditions[(i+13+7*lap)%rulesDistinct], conditions[(i+29+11*lap)%rulesDistinct],
		}, " && ")
		r, err := split.Add(expr)
		if err != nil {
			return nil, fmt.Errorf("bench: %s: %w", expr, err)
		}
		s.shared.rules = append(s.shared.rules, r)
		if r, err = joined.Add("(" + expr + ") || false"); err != nil { // which is not split
			return nil, fmt.Errorf("bench: %s: %w", expr, err)
		}
		s.whole.rules = append(s.whole.rules, r)
	}
	s.shared.table, s.whole.table = split.Build(), joined.Build()
	if n, m := s.shared.table.Conditions(), s.whole.table.Conditions(); n != rulesDistinct || m != rulesOffers {
		return nil, fmt.Errorf("bench: %d different conditions instead of %d, %d different rules instead of %d", n, rulesDistinct, m, rulesOffers)
	}
	return s, nil
}

// rulesConditions are conditions as catalogues have them, five sorts of each.
func rulesConditions() []string {
	var list []string
	for i := range rulesFieldKind {
		list = append(list,
			fmt.Sprintf("profile.usage.n%d > %d", i, 10*i-20),
			fmt.Sprintf("profile.tag.f%d", i),
			fmt.Sprintf(`profile.general.t%d in ["silver_%d", "gold_%d", "blue"]`, i, i, i),
			fmt.Sprintf("now - profile.service.w%d < days(%d)", i, 60+30*i),
			fmt.Sprintf(`!("p%d" in profile.marketing.s%d)`, i+1, i),
		)
	}
	return list
}
