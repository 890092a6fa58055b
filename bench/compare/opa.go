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

// regoPolicy says which offers a customer may get, and what each is worth.
const regoPolicy = `
package nba

eligible := [[i, score] |
	some i, o in data.offers
	input.arpu > o.min_arpu
	input.data_mb > o.min_mb
	heavy_enough(o)
	score := (propensity(o) * o.value) * (1 + (o.boost / 100))
]

heavy_enough(o) if not o.heavy

heavy_enough(o) if input.heavy

propensity(o) := o.propensity if o.propensity != 0

propensity(o) := input.propensity if o.propensity == 0
`

// opa is OPA embedded in Go: the query prepared once, the offers in its memory, and the
// customers parsed beforehand, so that no conversion is measured. The best three are picked
// by Go.
type opa struct {
	contest *bench.Contest
	query   rego.PreparedEvalQuery
	inputs  []ast.Value
}

func newOPA(ctx context.Context, c *bench.Contest) (contender, error) {
	var offers []any
	for i := range c.Offers {
		x := &c.Offers[i]
		offers = append(offers, map[string]any{
			"min_arpu": x.MinARPU, "min_mb": x.MinMB, "heavy": x.Heavy, "value": x.Value, "boost": x.Boost, "propensity": x.Propensity,
		})
	}
	o := &opa{contest: c}
	var err error
	o.query, err = rego.New(
		rego.Query("data.nba.eligible"), rego.Module("nba.rego", regoPolicy),
		rego.Store(inmem.NewFromObjectWithOpts(map[string]any{"offers": offers}, inmem.OptRoundTripOnWrite(false), inmem.OptReturnASTValuesOnRead(true))),
	).PrepareForEval(ctx)
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
