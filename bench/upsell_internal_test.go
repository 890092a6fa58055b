package bench

import (
	"context"
	"math"
	"testing"
	"time"

	"rapport/profilestore"
	"rapport/server/decide"
)

// TestUpsellNatively: the native twin knows every case of plugins/upsell, with the
// scores that the test there wants. TestRankLayer compares the two on what is
// measured, where not all cases occur.
func TestUpsellNatively(t *testing.T) {
	s, err := newScene(&Guest{Name: "upsell"}, 100)
	if err != nil {
		t.Fatal(err)
	}
	u, err := newUpsell(s.compiled, s.scenario)
	if err != nil {
		t.Fatal(err)
	}
	ago := func(d time.Duration) profilestore.Value {
		return profilestore.Time(sceneNow - d.Microseconds())
	}
	// The candidate in row i costs 10+i and is for data if i is even, but every
	// fifth; the channel costs 0.01.
	for name, c := range map[string]struct {
		row     int32
		profile map[string]profilestore.Value
		score   float64
		reason  string
		veto    bool
	}{
		"unknown customer":         {0, nil, 4, "", false},
		"no price":                 {4, map[string]profilestore.Value{"value.arpu": profilestore.Number(1)}, 4, "", false},
		"a small step up":          {1, map[string]profilestore.Value{"value.arpu": profilestore.Number(10)}, 6, "STEP_UP", false},
		"a great step up":          {80, map[string]profilestore.Value{"value.arpu": profilestore.Number(10)}, 4, "TOO_DEAR", true},
		"of a business":            {80, map[string]profilestore.Value{"value.arpu": profilestore.Number(10), "general.customer_type": profilestore.Text("business")}, 4, "", false},
		"of a private customer":    {80, map[string]profilestore.Value{"value.arpu": profilestore.Number(10), "general.customer_type": profilestore.Text("private")}, 4, "TOO_DEAR", true},
		"of a newcomer":            {80, map[string]profilestore.Value{"value.arpu": profilestore.Number(10), "general.customer_since": ago(89 * 24 * time.Hour)}, 2, "NEWCOMER", false},
		"of who came long ago":     {80, map[string]profilestore.Value{"value.arpu": profilestore.Number(10), "general.customer_since": ago(90 * 24 * time.Hour)}, 4, "TOO_DEAR", true},
		"a step down":              {0, map[string]profilestore.Value{"value.arpu": profilestore.Number(50)}, 4, "", false},
		"data for who uses much":   {2, map[string]profilestore.Value{"tag.high_traffic": profilestore.Flag(true)}, 5, "DATA_FAN", false},
		"no data for who does not": {2, map[string]profilestore.Value{"tag.high_traffic": profilestore.Flag(false)}, 4, "", false},
	} {
		profile := make(values, len(s.schema.Fields()))
		for field, v := range c.profile {
			slot, _ := s.schema.Lookup(field)
			profile[slot] = v
		}
		q := &decide.Ranking{
			Now: sceneNow, Profile: profile, Candidates: []int32{c.row},
			Propensity: []float64{0.5}, Value: []float64{8}, Weight: []float64{1}, Lever: []float64{1},
			Score: make([]float64, 1), Reason: make([]uint32, 1), Veto: make([]bool, 1),
		}
		if err := u.Rank(context.Background(), q); err != nil {
			t.Fatal(err)
		}
		if math.Float64bits(q.Score[0]) != math.Float64bits(c.score-0.01) || upsellReasons[q.Reason[0]] != c.reason || q.Veto[0] != c.veto {
			t.Errorf("%s: %v %s %t, want %v %s %t", name, q.Score[0], upsellReasons[q.Reason[0]], q.Veto[0], c.score-0.01, c.reason, c.veto)
		}
	}
}
