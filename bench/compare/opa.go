package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/storage/inmem"

	"rapport/bench"
)

// regoPolicy says which offers a customer may get, and what each is worth. It is the fastest of
// ten ways to write it that were tried: a rule for each sort of offer, so that evaluation in
// part (WithPartialEval), once beforehand, leaves a rule for each offer with its numbers in it,
// and no function calls. As one comprehension that calls functions, as one would write it
// first, it takes 2.5 times as long.
const regoPolicy = `
package nba

eligible contains [i, score] if {
	some i, o in data.offers
	not o.heavy
	not o.own
	input.arpu > o.min_arpu
	input.data_mb > o.min_mb
	score := (o.propensity * o.value) * o.lever
}

eligible contains [i, score] if {
	some i, o in data.offers
	not o.heavy
	o.own
	input.arpu > o.min_arpu
	input.data_mb > o.min_mb
	score := (input.propensity * o.value) * o.lever
}

eligible contains [i, score] if {
	input.heavy
	some i, o in data.offers
	o.heavy
	not o.own
	input.arpu > o.min_arpu
	input.data_mb > o.min_mb
	score := (o.propensity * o.value) * o.lever
}

eligible contains [i, score] if {
	input.heavy
	some i, o in data.offers
	o.heavy
	o.own
	input.arpu > o.min_arpu
	input.data_mb > o.min_mb
	score := (input.propensity * o.value) * o.lever
}
`

// regoRules says only which offers a customer may get. Here a comprehension is faster, by a
// quarter.
const regoRules = `
package nba

eligible := [i |
	arpu := input.arpu
	data_mb := input.data_mb
	heavy := input.heavy
	some i
	o := data.offers[i]
	arpu > o.min_arpu
	data_mb > o.min_mb
	heavy >= o.heavy
]
`

// opa is OPA embedded in Go: the query prepared once and evaluated in part, the offers in its memory, and the
// customers parsed beforehand, so that no conversion is measured. The best three are picked
// by Go.
type opa struct {
	contest *bench.Contest
	query   rego.PreparedEvalQuery
	inputs  []ast.Value
	scores  bool // by the policy; else by Go
}

func newOPA(ctx context.Context, c *bench.Contest) (contender, error) {
	return prepareOPA(ctx, c, regoPolicy, true)
}

func newOPARules(ctx context.Context, c *bench.Contest) (contender, error) {
	return prepareOPA(ctx, c, regoRules, false)
}

func prepareOPA(ctx context.Context, c *bench.Contest, policy string, scores bool) (contender, error) {
	var offers []any
	for i := range c.Offers {
		x := &c.Offers[i]
		offers = append(offers, map[string]any{
			"min_arpu": x.MinARPU, "min_mb": x.MinMB, "heavy": x.Heavy, "value": x.Value, "lever": 1 + x.Boost/100, "propensity": x.Propensity,
			"own": x.Propensity == 0,
		})
	}
	o := &opa{contest: c, scores: scores}
	var err error
	o.query, err = rego.New(
		rego.Query("data.nba.eligible"), rego.Module("nba.rego", policy),
		rego.Store(inmem.NewFromObjectWithOpts(map[string]any{"offers": offers}, inmem.OptRoundTripOnWrite(false), inmem.OptReturnASTValuesOnRead(true))),
	).PrepareForEval(ctx, rego.WithPartialEval())
	if err != nil {
		return nil, err
	}
	for i := range c.Customers {
		x := &c.Customers[i]
		v, err := ast.InterfaceToValue(map[string]any{"arpu": x.ARPU, "data_mb": x.DataMB, "heavy": x.Heavy, "propensity": x.Propensity})
		if err != nil {
			return nil, err
		}
		o.inputs = append(o.inputs, v)
	}
	return o, nil
}

// Decide answers for a customer.
func (o *opa) Decide(ctx context.Context, customer int) ([]string, error) {
	results, err := o.query.Eval(ctx, rego.EvalParsedInput(o.inputs[customer]))
	if err != nil {
		return nil, err
	}
	if len(results) != 1 {
		return nil, errors.New("no result")
	}
	var best bench.ContestBest
	for _, e := range results[0].Expressions[0].Value.([]any) {
		if !o.scores {
			i, err := number(e)
			if err != nil {
				return nil, err
			}
			best.Add(int(i), o.contest.Offers[int(i)].Score(&o.contest.Customers[customer]))
			continue
		}
		pair := e.([]any)
		i, err1 := number(pair[0])
		score, err2 := number(pair[1])
		if err := errors.Join(err1, err2); err != nil {
			return nil, err
		}
		best.Add(int(i), score)
	}
	return best.IDs(o.contest), nil
}

// number returns a number of a result.
func number(v any) (float64, error) {
	n, ok := v.(interface{ Float64() (float64, error) })
	if !ok {
		return 0, fmt.Errorf("%v is no number", v)
	}
	return n.Float64()
}

// Close does nothing.
func (*opa) Close() error { return nil }
