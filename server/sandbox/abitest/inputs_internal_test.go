package abitest

import (
	"math/rand/v2"
	"slices"
	"testing"

	"rapport/profilestore"
	"rapport/sdk/abi"
	"rapport/server/sandbox"
)

// A world has whatever a manifest can declare, and a frame brings it.
func TestWorldHasAllInputs(t *testing.T) {
	m := &sandbox.Manifest{
		Name: "all", Version: "1",
		Profile: []abi.Input{
			{Name: "context.role", Type: "text"},
			{Name: "value.arpu", Type: "number"},
			{Name: "context.seen", Type: "set"},
			{Name: "marketing.owned", Type: "set"},
			{Name: "general.since", Type: "time"},
		},
		Candidate: []string{"times.rejected.30d", "value", "days_since.contact"},
	}
	w, err := newWorld(m, nil)
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(1, 2))
	c, sc := w.scenario(w.rows(random, 5, 1), nil)
	if len(c.Schema.Fields()) != 3 || len(c.Context) != 2 || len(sc.Candidates) != 5 {
		t.Fatalf("%d fields, %d of the context, %d candidates", len(c.Schema.Fields()), len(c.Context), len(sc.Candidates))
	}
	kinds, days := make(map[profilestore.Kind]int), 0
	for range 200 {
		f := w.anything(random, 0, 5)
		q := f.ranking()
		for i, in := range m.Profile {
			v := q.Profile.Get(w.slots[i])
			if place, ok := c.ContextField(in.Name[max(0, len(in.Name)-4):]); ok && in.Name[:7] == "context" {
				v = q.Context[place]
			}
			kinds[v.Kind()]++
			if v.Known() && v.Kind().String() != in.Type {
				t.Fatalf("%s is a %s", in.Name, v.Kind())
			}
		}
		cells := make([]float64, len(q.Candidates))
		history, ok := q.Profile.(sandbox.HistoryColumns)
		if !ok {
			t.Fatal("the profile has no history")
		}
		history.HistoryColumn("days_since.contact", q.Candidates, cells)
		if slices.Max(cells) >= 0 {
			days++
		}
		if slices.Min(cells) < -1 {
			t.Fatalf("days since the last contact: %v", cells)
		}
	}
	if t.Log(kinds, days); kinds[profilestore.KindSet] == 0 || kinds[profilestore.KindText] == 0 || kinds[profilestore.KindUnknown] == 0 || days == 0 {
		t.Error("some kind of value never occurs")
	}
}
