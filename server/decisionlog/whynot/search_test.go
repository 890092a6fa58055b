package whynot_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"rapport/server/decide"
	"rapport/server/decisionlog/whynot"
)

// TestCannot asks where no change helps, or there is no time: it says why, and proposes
// nothing that it has not verified.
func TestCannot(t *testing.T) {
	g := newRig(t)
	seen := make(map[string]int)
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 8))
		s := g.draw(t, r, drawModel(r))
		c, _, _ := g.decide(t, s)
		ask := func(ctx context.Context, what string, change func(*whynot.Question)) *whynot.Result {
			q := g.question(t, s, c)
			id := pick(r, s.m.offers...).id
			var err error
			if q.Offer, err = whynot.Locate(c, s.ats[0].Touchpoint, id); err != nil {
				return nil
			}
			change(&q)
			res, err := whynot.Search(ctx, q)
			if err != nil {
				t.Fatalf("seed %d, %s: %v", seed, what, err)
			}
			return res
		}
		res := ask(t.Context(), "no profile", func(q *whynot.Question) { q.Inputs.Values, q.Inputs.Kept = nil, nil })
		if res != nil && res.Reason == decide.ReasonProfileUnreadable {
			seen["no profile"]++
			if len(res.Sets) > 0 || len(res.Obstacles) != 1 || !strings.Contains(res.Obstacles[0], "profile could not be read") {
				t.Errorf("seed %d: %+v", seed, res)
			}
		}
		res = ask(t.Context(), "not reserved", func(q *whynot.Question) { q.Inputs.Request.Unreserved = errors.New("a full disk") })
		if res != nil && res.Reason == decide.ReasonNotReserved {
			seen["not reserved"]++
			if len(res.Sets) > 0 || len(res.Obstacles) != 1 || !strings.Contains(res.Obstacles[0], "could not be reserved") {
				t.Errorf("seed %d: %+v", seed, res)
			}
		}
		res = ask(t.Context(), "few replays", func(q *whynot.Question) { q.MaxReplays = 4 })
		if res != nil && res.GaveUp != "" {
			seen["few replays"]++
			if res.Replays > 4 || res.GaveUp != "after 4 replays" {
				t.Errorf("seed %d: %+v", seed, res)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		turns := 0
		res = ask(ctx, "no more time", func(q *whynot.Question) {
			q.Turn = func(ctx context.Context) (func(), error) {
				if turns++; turns == 3 {
					cancel()
				}
				return func() {}, ctx.Err()
			}
		})
		cancel()
		if res != nil && res.GaveUp != "" {
			seen["no more time"]++
			if !strings.HasPrefix(res.GaveUp, "out of time, after ") {
				t.Errorf("seed %d: %+v", seed, res)
			}
		}
	}
	t.Log(seen)
	for _, what := range []string{"no profile", "not reserved", "few replays", "no more time"} {
		if seen[what] == 0 {
			t.Errorf("never: %s", what)
		}
	}
}
