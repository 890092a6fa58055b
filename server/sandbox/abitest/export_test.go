package abitest

import (
	"context"

	"rapport/server/decide"
	"rapport/server/sandbox"
)

// CheckThrough is Check with something between it and the strategies.
func CheckThrough(ctx context.Context, so sandbox.Options, wasm []byte, o Options, wrap func(rank Rank) Rank) (*Report, error) {
	return check(ctx, so, wasm, o, func(r ranker) ranker { return wrap(r.Rank) })
}

// Rank makes a decision.
type Rank func(context.Context, *decide.Ranking) error

// Rank makes it.
func (r Rank) Rank(ctx context.Context, q *decide.Ranking) error { return r(ctx, q) }
