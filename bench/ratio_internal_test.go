package bench

import "testing"

// TestRatio: the median of the rounds forgets a round that was disturbed, and its
// interval comes from the ranks.
func TestRatio(t *testing.T) {
	limit, subject := make([]float64, 101), make([]float64, 101)
	for i := range limit {
		limit[i] = 100 + float64(i%7)                   // the machine's speed drifts, for both
		subject[i] = limit[i] * (3 + float64(i-50)/100) // 2.5 to 3.5 times as long
	}
	subject[50] *= 1000 // one round meets a neighbour
	r := ratio(subject, limit)
	if r.Median < 3 || r.Median > 3.02 {
		t.Errorf("the median is %v, want about 3", r.Median)
	}
	if r.Low < 2.88 || r.Low > 2.93 || r.High < 3.08 || r.High > 3.13 {
		t.Errorf("the interval is %v to %v, want about 2.9 to 3.1", r.Low, r.High)
	}
	if r := ratio([]float64{6}, []float64{3}); r != (Ratio{Median: 2, Rounds: 1}) {
		t.Errorf("one round, of which no interval is known, gives %v", r)
	}
}
