package main

import (
	"testing"

	"rapport/sdk/rapporttest"
)

// Cases in the folder cases run the strategy as the server does. A test in Go is
// for what is easier to say in code, and for the debugger.
func TestRejectedOffersWait(t *testing.T) {
	offer := func(rejected float64) rapporttest.Candidate {
		return rapporttest.Candidate{Propensity: 0.5, Value: 8, History: map[string]float64{"times.rejected.30d": rejected}}
	}
	results, err := rapporttest.Rank(rapporttest.Decision{Candidates: []rapporttest.Candidate{offer(0), offer(1), offer(3)}})
	if err != nil {
		t.Fatal(err)
	}
	want := []rapporttest.Result{{Score: 4}, {Score: 2, Reason: "REJECTED_LATELY"}, {Score: 1, Reason: "REJECTED_LATELY"}}
	for i := range want {
		if results[i] != want[i] {
			t.Errorf("candidate %d: %+v, want %+v", i, results[i], want[i])
		}
	}
}
