package main

import (
	"testing"
	"time"

	"rapport/sdk/rapporttest"
)

var (
	now      = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	longAgo  = now.AddDate(-3, 0, 0)
	lastWeek = now.AddDate(0, 0, -7)
)

// offer is a candidate with a price whose standard score is 4, in a channel that
// costs 0.5.
func offer(price float64, data bool) rapporttest.Candidate {
	return rapporttest.Candidate{
		Offer:      map[string]any{"price": price, "data": data},
		Channel:    map[string]any{"cost": 0.5},
		Propensity: 0.5, Value: 8,
	}
}

func TestRank(t *testing.T) {
	candidates := []rapporttest.Candidate{offer(40, true), offer(60, false), offer(200, false), {Propensity: 0.5, Value: 8}}
	for name, c := range map[string]struct {
		profile    map[string]any
		parameters map[string]float64
		want       []rapporttest.Result
	}{
		"of an unknown customer the standard score counts": {
			want: []rapporttest.Result{{Score: 3.5}, {Score: 3.5}, {Score: 3.5}, {Score: 4}},
		},
		"a small step up is preferred, a great one is not made": {
			profile: map[string]any{"value.arpu": 50.0, "general.customer_since": longAgo},
			want:    []rapporttest.Result{{Score: 3.5}, {Score: 5.5, Reason: "STEP_UP"}, {Score: 3.5, Reason: "TOO_DEAR", Veto: true}, {Score: 4}},
		},
		"how far it reaches is a parameter": {
			profile:    map[string]any{"value.arpu": 50.0, "general.customer_since": longAgo},
			parameters: map[string]float64{"reach": 3},
			want:       []rapporttest.Result{{Score: 3.5}, {Score: 5.5, Reason: "STEP_UP"}, {Score: 5.5, Reason: "STEP_UP"}, {Score: 4}},
		},
		"to a business nothing is too dear": {
			profile: map[string]any{"value.arpu": 50.0, "general.customer_since": longAgo, "general.customer_type": "business"},
			want:    []rapporttest.Result{{Score: 3.5}, {Score: 5.5, Reason: "STEP_UP"}, {Score: 3.5}, {Score: 4}},
		},
		"a new customer is spared": {
			profile: map[string]any{"value.arpu": 50.0, "general.customer_since": lastWeek},
			want:    []rapporttest.Result{{Score: 3.5}, {Score: 1.5, Reason: "NEWCOMER"}, {Score: 1.5, Reason: "NEWCOMER"}, {Score: 4}},
		},
		"who uses much data likes data": {
			profile: map[string]any{"tag.high_traffic": true},
			want:    []rapporttest.Result{{Score: 4.5, Reason: "DATA_FAN"}, {Score: 3.5}, {Score: 3.5}, {Score: 4}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := rapporttest.Rank(rapporttest.Decision{Now: now, Profile: c.profile, Parameters: c.parameters, Candidates: candidates})
			if err != nil {
				t.Fatal(err)
			}
			for i := range got {
				if got[i] != c.want[i] {
					t.Errorf("candidate %d: %+v, want %+v", i, got[i], c.want[i])
				}
			}
		})
	}
}
