package decide

import "context"

// Arbitration is the built-in ranker: propensity × value × context weight ×
// lever, the field's standard. It ranks where a scenario names no strategy, and
// wherever the strategy can't. It never fails.
type Arbitration struct{}

// Rank scores the candidates. The product is taken from left to right, each step
// rounded, so that every machine and language gets the same bits.
func (Arbitration) Rank(_ context.Context, r *Ranking) error {
	n := len(r.Propensity)
	value, weight, lever, score := r.Value[:n], r.Weight[:n], r.Lever[:n], r.Score[:n]
	for i, p := range r.Propensity {
		pv := p * value[i]
		pvw := pv * weight[i]
		score[i] = pvw * lever[i]
	}
	clear(r.Reason)
	clear(r.Veto)
	return nil
}

// Info names the ranker `builtin`.
func (Arbitration) Info() RankerInfo { return RankerInfo{Name: "builtin", Version: "1"} }
