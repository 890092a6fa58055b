package abitest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"math"
	"slices"

	"rapport/server/sandbox"
)

// answer is what came of a call.
type answer struct {
	fault  *sandbox.FaultError // nil: none
	score  []uint64            // bits
	reason []uint32
	veto   []bool
	chance []float64 // within 0 to 1

	limit, used int64 // fuel
}

// ask makes a call. Its error is one that says nothing of the strategy.
func ask(ctx context.Context, s *strategy, f *frame) (*answer, error) {
	q := f.ranking()
	if s.Info().Chances {
		q.Chance = make([]float64, len(q.Score))
	}
	err := s.ranker.Rank(ctx, q)
	a := &answer{limit: q.FuelLimit, used: q.FuelUsed}
	fault := new(sandbox.FaultError)
	switch {
	case errors.As(err, &fault):
		if fault.Kind == sandbox.FaultInput || fault.Kind == sandbox.FaultDeadline {
			return nil, fmt.Errorf("abitest: %s: %w", f.what, fault) // a mistake of this package
		}
		a.fault = fault
	case err != nil:
		return nil, fmt.Errorf("abitest: %s: %w", f.what, err)
	default:
		a.score, a.reason, a.veto, a.chance = make([]uint64, len(q.Score)), q.Reason, q.Veto, q.Chance
		for i, x := range q.Score {
			a.score[i] = math.Float64bits(x)
		}
	}
	return a, nil
}

// difference says in what an answer differs from one to the same question, or
// nothing.
func (a *answer) difference(b *answer) string {
	switch {
	case (a.fault == nil) != (b.fault == nil):
		return "one call failed, and the other did not"
	case a.fault != nil && (a.fault.Kind != b.fault.Kind || a.fault.Message != b.fault.Message):
		return fmt.Sprintf("%s: %s, and then %s: %s", a.fault.Kind, a.fault.Message, b.fault.Kind, b.fault.Message)
	case !slices.Equal(a.score, b.score):
		for i := range a.score {
			if a.score[i] != b.score[i] {
				return fmt.Sprintf("the score at place %d is %v, and then %v", i, math.Float64frombits(a.score[i]), math.Float64frombits(b.score[i]))
			}
		}
	case !slices.Equal(a.reason, b.reason):
		return "the reasons differ"
	case !slices.Equal(a.veto, b.veto):
		return "the vetoes differ"
	case !slices.Equal(a.chance, b.chance):
		return "the probabilities differ"
	case a.used != b.used || a.limit != b.limit:
		return fmt.Sprintf("it takes %d units of fuel, and then %d", a.used, b.used)
	}
	return ""
}

// sameAnswer reports whether two decisions came out the same, whatever the fuel.
func (a *answer) sameAnswer(b *answer) bool {
	c, d := *a, *b
	c.used, c.limit, d.used, d.limit = 0, 0, 0, 0
	return c.difference(&d) == ""
}

// samePlace reports whether the candidates at two places of one answer came out the
// same.
func (a *answer) samePlace(i, j int) bool {
	return a.score[i] == a.score[j] && a.reason[i] == a.reason[j] && a.veto[i] == a.veto[j]
}

// addTo adds the answer to a digest.
func (a *answer) addTo(h hash.Hash) {
	b := binary.LittleEndian.AppendUint64(nil, uint64(a.used))
	if a.fault != nil {
		b = append(b, a.fault.Kind...)
	}
	for i, bits := range a.score {
		b = binary.LittleEndian.AppendUint64(b, bits)
		b = binary.LittleEndian.AppendUint32(b, a.reason[i])
		if a.veto[i] {
			b = append(b, 1)
		}
	}
	for _, p := range a.chance {
		b = binary.LittleEndian.AppendUint64(b, math.Float64bits(p))
	}
	h.Write(b)
}
