package bench

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"

	"rapport/server/decide"
	"rapport/server/sandbox"
)

// MeasureRank measures a call of a strategy in the sandbox, as a decision makes it,
// against the same computation natively in Go: for so many candidates, each call
// after the instances are ready again.
func MeasureRank(ctx context.Context, o Options, g *Guest, candidates int) (_ *Comparison, err error) {
	s, err := newScene(g, candidates)
	if err != nil {
		return nil, err
	}
	native, err := g.native(s.compiled, s.scenario)
	if err != nil {
		return nil, err
	}
	strategy, err := g.module.Bind(ctx, s.compiled, s.scenario, sandbox.PoolOptions{Size: 2})
	if err != nil {
		return nil, err
	}
	defer closing(strategy, &err)
	q := s.ranking(random())
	if strategy.Info().Chances {
		q.Chance = make([]float64, candidates)
	}
	if err := agree(ctx, native, strategy, q); err != nil {
		return nil, err
	}
	return Compare(ctx, o,
		Subject{Name: fmt.Sprintf("%s natively, %d candidates", g.Name, candidates), Run: func() error { return native.Rank(ctx, q) }},
		Subject{Name: "in the sandbox", Run: func() error { return strategy.Rank(ctx, q) }, Settle: settle(strategy), Settled: true},
	)
}

func random() *rand.Rand { return rand.New(rand.NewPCG(1, 2)) } //nolint:gosec // the same numbers in each run

// closing closes a strategy, for defer.
func closing(s *sandbox.Strategy, err *error) {
	if e := s.Close(context.Background()); *err == nil {
		*err = e
	}
}

// settle returns what waits until all instances of a strategy are ready for a call.
func settle(s *sandbox.Strategy) func() {
	return func() {
		for now := s.Stats(); now.Free < now.Size; now = s.Stats() {
			runtime.Gosched()
		}
	}
}

// agree returns an error if two rankers don't give the same answer, bit for bit:
// what is compared would be other work.
func agree(ctx context.Context, a, b decide.Ranker, q *decide.Ranking) error {
	if err := a.Rank(ctx, q); err != nil {
		return err
	}
	score, reason, veto := append([]float64(nil), q.Score...), append([]uint32(nil), q.Reason...), append([]bool(nil), q.Veto...)
	if err := b.Rank(ctx, q); err != nil {
		return err
	}
	named := func(r decide.Ranker, code uint32) string {
		if names := r.Info().Reasons; int(code) < len(names) {
			return names[code]
		}
		return ""
	}
	for i, x := range score {
		why, other := named(a, reason[i]), named(b, q.Reason[i])
		if math.Float64bits(x) != math.Float64bits(q.Score[i]) || why != other || veto[i] != q.Veto[i] {
			return fmt.Errorf("bench: candidate %d: %v %q %t of %s, and %v %q %t of %s", i, x, why, veto[i], a.Info().Name, q.Score[i], other, q.Veto[i], b.Info().Name)
		}
	}
	return nil
}
