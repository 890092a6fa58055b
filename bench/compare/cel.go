package main

import (
	"context"
	"fmt"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"

	"rapport/bench"
)

// celRules has a program for each offer, compiled and optimised once, and a customer's values
// ready to be read, as CEL's own, so that none is converted: cel-go as its documentation has it, without what reads a profile or ranks in a
// sandbox. Scores are Go's.
type celRules struct {
	contest  *bench.Contest
	programs []cel.Program
	values   []cel.Activation
}

func newCEL(_ context.Context, c *bench.Contest) (contender, error) {
	env, err := cel.NewEnv(cel.Variable("arpu", cel.DoubleType), cel.Variable("data_mb", cel.DoubleType), cel.Variable("heavy", cel.BoolType))
	if err != nil {
		return nil, err
	}
	r := &celRules{contest: c}
	for i := range c.Offers {
		o := &c.Offers[i]
		text := fmt.Sprintf("arpu > %f && data_mb > %f", o.MinARPU, o.MinMB)
		if o.Heavy {
			text += " && heavy"
		}
		ast, issues := env.Compile(text)
		if issues.Err() != nil {
			return nil, issues.Err()
		}
		p, err := env.Program(ast, cel.EvalOptions(cel.OptOptimize))
		if err != nil {
			return nil, err
		}
		r.programs = append(r.programs, p)
	}
	for i := range c.Customers {
		x := &c.Customers[i]
		a, err := cel.NewActivation(map[string]any{"arpu": types.Double(x.ARPU), "data_mb": types.Double(x.DataMB), "heavy": types.Bool(x.Heavy)})
		if err != nil {
			return nil, err
		}
		r.values = append(r.values, a)
	}
	return r, nil
}

// Decide answers for a customer.
func (r *celRules) Decide(_ context.Context, customer int) ([]string, error) {
	x := &r.contest.Customers[customer]
	var best bench.ContestBest
	for i, p := range r.programs {
		v, _, err := p.Eval(r.values[customer])
		if err != nil {
			return nil, err
		}
		if v == types.True {
			best.Add(i, r.contest.Offers[i].Score(x))
		}
	}
	return best.IDs(r.contest), nil
}

// Close does nothing.
func (*celRules) Close() error { return nil }
