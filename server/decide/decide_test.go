package decide_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"rapport/profilestore"
	"rapport/profilestore/rules"
	"rapport/server/catalog"
	"rapport/server/decide"
)

// profile is a customer by slot of the schema.
type profile []profilestore.Value

func (p profile) Get(slot int) profilestore.Value { return p[slot] }

// conditions are the rules that random offers draw from, each with its naive
// twin. The fields are value.arpu (0), tag.vip (1) and marketing.propensity (2).
var conditions = []struct {
	text  string
	truth func(p profile) rules.Truth
}{
	{"", func(profile) rules.Truth { return rules.True }},
	{"profile.value.arpu > 50.0", func(p profile) rules.Truth {
		if !p[0].Known() {
			return rules.Unknown
		}
		return truth(p[0].Number() > 50)
	}},
	{"profile.tag.vip", func(p profile) rules.Truth {
		if !p[1].Known() {
			return rules.Unknown
		}
		return truth(p[1].Flag())
	}},
	{"profile.value.arpu > 50.0 && profile.tag.vip", func(p profile) rules.Truth {
		a, b := p[0].Known() && p[0].Number() <= 50, p[1].Known() && !p[1].Flag()
		switch {
		case a || b:
			return rules.False
		case !p[0].Known() || !p[1].Known():
			return rules.Unknown
		}
		return rules.True
	}},
	{"10 / int(profile.value.arpu) > 0", func(p profile) rules.Truth {
		switch {
		case !p[0].Known():
			return rules.Unknown
		case int(p[0].Number()) == 0:
			return rules.Failed
		}
		return truth(10/int(p[0].Number()) > 0)
	}},
}

func truth(b bool) rules.Truth {
	if b {
		return rules.True
	}
	return rules.False
}

func schema(t rapid.TB) *profilestore.Schema {
	t.Helper()
	s, err := profilestore.NewSchema([]profilestore.Source{{ID: "bi"}}, []profilestore.Field{
		{Name: "value.arpu", Type: profilestore.TypeNumber, Batch: "bi", Decimals: profilestore.NoDecimals},
		{Name: "tag.vip", Type: profilestore.TypeFlag, Batch: "bi", Decimals: profilestore.NoDecimals},
		{Name: "marketing.propensity", Type: profilestore.TypeNumber, Batch: "bi", Decimals: profilestore.NoDecimals},
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// shop is a catalogue of one scenario at one touchpoint, and which condition
// each offer has.
type shop struct {
	compiled  *catalog.Compiled
	condition []int
}

func newShop(t rapid.TB, offers, slots int, pick func(i int) (condition int, o catalog.Offer, weight float64), outbound bool) *shop {
	t.Helper()
	env, err := rules.NewEnv(schema(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	b := env.NewTable()
	s := &shop{compiled: &catalog.Compiled{
		Schema: schema(t), Channels: []catalog.Channel{{ID: "web", Outbound: outbound, Consent: -1, DoNotDisturb: -1}},
		Scenarios: []*catalog.Scenario{{ID: "inbound", Plain: true}},
	}}
	tp := catalog.Touchpoint{ID: "web.home", Slots: slots}
	for i := range offers {
		c, o, w := pick(i)
		o.ID, o.Group = fmt.Sprintf("offer%d", i), "g"
		if o.Eligible, err = b.Add(conditions[c].text); err != nil {
			t.Fatal(err)
		}
		s.condition = append(s.condition, c)
		s.compiled.Offers = append(s.compiled.Offers, o)
		s.compiled.Scenarios[0].Candidates = append(s.compiled.Scenarios[0].Candidates, catalog.Candidate{Offer: i, Content: catalog.Literal("c" + o.ID), Weight: w})
		tp.Candidates = append(tp.Candidates, int32(i))
	}
	s.compiled.Rules = b.Build()
	s.compiled.Touchpoints = []catalog.Touchpoint{tp}
	return s
}

// vetoing ranks as the built-in arbitration does and vetoes every third
// candidate of the scenario.
type vetoing struct{ decide.Arbitration }

func (v vetoing) Rank(ctx context.Context, r *decide.Ranking) error {
	if err := v.Arbitration.Rank(ctx, r); err != nil {
		return err
	}
	for i, c := range r.Candidates {
		r.Veto[i], r.Reason[i] = c%3 == 0, 1
	}
	return nil
}

func (vetoing) Info() decide.RankerInfo {
	return decide.RankerInfo{Name: "vetoing", Version: "1", Reasons: []string{"", "BECAUSE"}}
}

func slateScores(a *decide.Answer) []float64 {
	var out []float64
	for _, p := range a.Slate {
		out = append(out, p.Score)
	}
	return out
}

// failing is a ranker that gives an error and leaves nonsense behind.
type failing struct{ err error }

func (f failing) Rank(_ context.Context, r *decide.Ranking) error {
	for i := range r.Score {
		r.Score[i], r.Veto[i], r.Reason[i] = math.NaN(), true, 7
	}
	return f.err
}

func (failing) Info() decide.RankerInfo { return decide.RankerInfo{Name: "failing"} }

// TestLadder: each step down gives the answer of the built-in arbitration, and
// says so.
func TestLadder(t *testing.T) {
	s := newShop(t, 10, 3, func(i int) (int, catalog.Offer, float64) {
		return 0, catalog.Offer{Class: catalog.ClassMarketing, Value: float64(i), Lever: 1, Propensity: catalog.Propensity{Slot: -1, Start: 0.5}}, 1
	}, false)
	broken := errors.New("trap")
	for _, c := range []struct {
		name   string
		ranker decide.Ranker
		past   bool
		want   decide.Step
	}{
		{"none", nil, false, decide.StepNone},
		{"failed", failing{broken}, false, decide.StepStrategyFailed},
		{"busy", failing{fmt.Errorf("pool: %w", decide.ErrBusy)}, false, decide.StepStrategyBusy},
		{"no time", failing{broken}, true, decide.StepNoTimeToRank},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, err := decide.New(s.compiled, []decide.Ranker{c.ranker})
			if err != nil {
				t.Fatal(err)
			}
			r := decide.Request{Profile: profile{{}, {}, {}}}
			if c.past {
				r.Deadline = time.Now().Add(-time.Second)
			}
			var a decide.Answer
			d.Decide(context.Background(), &r, &a)
			if got := slateScores(&a); !slices.Equal(got, []float64{4.5, 4, 3.5}) {
				t.Errorf("scores %v", got)
			}
			if a.RankedBy.Name != "builtin" {
				t.Errorf("ranked by %q", a.RankedBy.Name)
			}
			switch {
			case c.want == decide.StepNone && len(a.Degradations) != 0,
				c.want != decide.StepNone && (len(a.Degradations) != 1 || a.Degradations[0].Step != c.want):
				t.Errorf("degradations %v, want step %d", a.Degradations, c.want)
			}
		})
	}
}

// TestFallback: with nothing to offer the answer is the fallback, unless that
// must not be made either.
func TestFallback(t *testing.T) {
	for _, c := range []struct {
		name       string
		outbound   bool
		class      catalog.Class
		unreadable bool
		want       int
	}{
		{"nothing eligible", false, catalog.ClassCare, false, 1},
		{"outbound", true, catalog.ClassCare, false, 1},
		{"unreadable, a service", false, catalog.ClassService, true, 1},
		{"unreadable, care", false, catalog.ClassCare, true, 0},
		{"unreadable, outbound", true, catalog.ClassService, true, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newShop(t, 2, 1, func(i int) (int, catalog.Offer, float64) {
				return 2, catalog.Offer{Class: c.class, Value: 1, Lever: 1}, 1
			}, c.outbound)
			s.compiled.Touchpoints[0].Fallback = &catalog.Candidate{Offer: 1, Content: catalog.Literal("call us"), Weight: 1}
			d, err := decide.New(s.compiled, []decide.Ranker{nil})
			if err != nil {
				t.Fatal(err)
			}
			r := decide.Request{Profile: profile{{}, profilestore.Flag(false), {}}}
			if c.unreadable {
				r.Profile = nil
			}
			var a decide.Answer
			d.Decide(context.Background(), &r, &a)
			if len(a.Slate) != c.want || c.want == 1 && (!a.Slate[0].Fallback || a.Slate[0].Content != "call us") {
				t.Errorf("slate %+v", a.Slate)
			}
			fell := slices.ContainsFunc(a.Degradations, func(d decide.Degradation) bool { return d.Step == decide.StepFallback })
			if fell != (c.want == 1) {
				t.Errorf("degradations %v", a.Degradations)
			}
		})
	}
}

// TestAllocations holds the pipeline to its budget, with all memory reused.
func TestAllocations(t *testing.T) {
	s := newShop(t, 100, 5, func(i int) (int, catalog.Offer, float64) {
		return 0, catalog.Offer{Value: float64(i % 7), Lever: 1, Propensity: catalog.Propensity{Slot: -1, Start: 0.5}}, 1
	}, false)
	d, err := decide.New(s.compiled, []decide.Ranker{nil})
	if err != nil {
		t.Fatal(err)
	}
	r := decide.Request{Profile: profile{{}, {}, {}}}
	var a decide.Answer
	d.Decide(context.Background(), &r, &a)
	if n := testing.AllocsPerRun(100, func() { d.Decide(context.Background(), &r, &a) }); n > 0 {
		t.Errorf("a decision allocates %v times", n)
	}
}

// choosing has another ranker for odd customers.
type choosing struct {
	decide.Arbitration
	odd decide.Ranker
}

func (c choosing) Choose(customer uint64) decide.Ranker {
	if customer%2 == 1 {
		return c.odd
	}
	return c.Arbitration
}

// TestChooser: who is chosen for the customer ranks and is named, also when it
// fails.
func TestChooser(t *testing.T) {
	s := newShop(t, 10, 3, func(i int) (int, catalog.Offer, float64) {
		return 0, catalog.Offer{Value: float64(i), Lever: 1, Propensity: catalog.Propensity{Slot: -1, Start: 0.5}}, 1
	}, false)
	for _, c := range []struct {
		odd      decide.Ranker
		customer uint64
		want     string
		steps    int
	}{
		{vetoing{}, 2, "builtin", 0},
		{vetoing{}, 3, "vetoing", 0},
		{failing{errors.New("trap")}, 2, "builtin", 0},
		{failing{errors.New("trap")}, 3, "builtin", 1},
	} {
		d, err := decide.New(s.compiled, []decide.Ranker{choosing{odd: c.odd}})
		if err != nil {
			t.Fatal(err)
		}
		var a decide.Answer
		d.Decide(context.Background(), &decide.Request{Customer: c.customer, Profile: profile{{}, {}, {}}}, &a)
		if a.RankedBy.Name != c.want || len(a.Degradations) != c.steps {
			t.Errorf("customer %d: ranked by %q, want %q; degradations %v", c.customer, a.RankedBy.Name, c.want, a.Degradations)
		}
	}
}

// watching keeps what the slate of each ranking is.
type watching struct {
	decide.Ranker
	catalog *catalog.Compiled
	slates  *[][]int32
}

func (w watching) Rank(ctx context.Context, q *decide.Ranking) error {
	err := w.Ranker.Rank(ctx, q)
	slate := []int32{}
	for _, place := range q.Slate(w.catalog, w.catalog.Scenarios[0], nil) {
		slate = append(slate, q.Candidates[place])
	}
	*w.slates = append(*w.slates, slate)
	return err
}

// TestSlateIsTheAnswer: what a ranking says of the slate is what is offered.
func TestSlateIsTheAnswer(t *testing.T) {
	vetoed, ties, excluded, below := 0, 0, 0, 0
	rapid.Check(t, func(t *rapid.T) {
		plain := rapid.IntRange(0, 3).Draw(t, "plain") == 0
		s := newShop(t, rapid.IntRange(1, 30).Draw(t, "offers"), rapid.IntRange(1, 5).Draw(t, "slots"), func(int) (int, catalog.Offer, float64) {
			return rapid.IntRange(0, 1).Draw(t, "condition"), catalog.Offer{
				Value: float64(rapid.IntRange(1, 3).Draw(t, "value")), Lever: 1, Propensity: catalog.Propensity{Slot: -1, Start: 0.5},
				Class: catalog.Class(rapid.IntRange(0, 2).Draw(t, "class")), Exclusive: rapid.SampledFrom([]int{-1, 0, 0, 1}).Draw(t, "exclusive"),
			}, 1
		}, false)
		*s.compiled.Scenarios[0] = catalog.Scenario{
			ID: "inbound", Candidates: s.compiled.Scenarios[0].Candidates, Plain: plain,
			ClassOrder: rapid.Bool().Draw(t, "class order") && !plain, MinimumScore: math.Inf(-1),
		}
		if !plain {
			s.compiled.Scenarios[0].MinimumScore = rapid.SampledFrom([]float64{math.Inf(-1), 1, 1.5}).Draw(t, "minimum")
		}
		var slates [][]int32
		d, err := decide.New(s.compiled, []decide.Ranker{watching{vetoing{}, s.compiled, &slates}})
		if err != nil {
			t.Fatal(err)
		}
		var a decide.Answer
		d.Decide(context.Background(), &decide.Request{
			At: decide.At{Slots: rapid.IntRange(0, 3).Draw(t, "asked")}, Seed: rapid.Uint64().Draw(t, "seed"),
			Profile: profile{profilestore.Number(rapid.SampledFrom([]float64{10, 60}).Draw(t, "arpu")), {}, {}},
		}, &a)
		offered := []int32{}
		for i, p := range a.Slate {
			offered = append(offered, int32(p.Offer))
			if i > 0 && p.Score == a.Slate[i-1].Score {
				ties++
			}
		}
		vetoed += a.Funnel[decide.ReasonVetoed]
		excluded += a.Funnel[decide.ReasonExcluded]
		below += a.Funnel[decide.ReasonBelowMinimum]
		if len(slates) > 0 && !slices.Equal(slates[0], offered) {
			t.Fatalf("slate %v, offered %v", slates[0], offered)
		}
	})
	t.Logf("%d candidates vetoed, %d excluded, %d below the minimum, %d ties on slates", vetoed, excluded, below, ties)
	if vetoed*excluded*below*ties == 0 {
		t.Error("one of these never occurred")
	}
}
