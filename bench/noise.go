package bench

import (
	"context"
	"errors"
)

// NoiseLayer is the name of the layer of [MeasureNoise].
const NoiseLayer = "noise"

// MeasureNoise measures a decision against the same decision: what the ratio is off 1 is
// the machine's noise, and no smaller difference can be told.
func MeasureNoise(ctx context.Context, o Options, g *Guest) (_ *Comparison, err error) {
	d, err := NewDecision(ctx, g, 100, 100)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	_, one := d.Subjects(ctx)
	_, other := d.Subjects(ctx)
	one.Name, other.Name = "decision", "the same decision"
	other.Goal = Goal{}
	return Compare(ctx, o, one, other)
}
