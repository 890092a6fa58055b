package bench_test

import (
	"slices"
	"testing"

	"rapport/bench"
	"rapport/plugins"
)

// Rapport gives each customer of a contest what the plainest code gives.
func TestContest(t *testing.T) {
	c := bench.NewContest(300, 100)
	e, err := c.Enter(t.Context(), compiler(t), plugins.PVCL(), 1000)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}()
	slates := make(map[string]int)
	for i := range c.Customers {
		want := c.Slate(i)
		got, err := e.Decide(t.Context(), "customer:"+c.Customers[i].ID)
		if err != nil || !slices.Equal(got, want) {
			t.Fatalf("customer %d: %v, want %v; %v", i, got, want, err)
		}
		slates[want[0]]++
	}
	t.Logf("%d different first offers", len(slates))
	if len(slates) < 5 {
		t.Error("the same offer is first for nearly everybody")
	}
}
