package sandbox_test

import (
	"context"
	"math"
	"math/rand/v2"
	"testing"

	"rapport/profilestore"
	"rapport/server/catalog"
	"rapport/server/decide"
	"rapport/server/sandbox"
)

const dist = "../../plugins/dist/"

// far reports whether something that has a probability came so often in so many draws
// that there is less than a chance in a million of it.
func far(times int, p float64, draws int) bool {
	return math.Abs(float64(times)-p*float64(draws)) > 5*math.Sqrt(p*(1-p)*float64(draws))+1e-6
}

// Over 100,000 seeds, each candidate gets each score as often as the strategy says, its own
// and others', also where candidates score the same; and all orders of a decision that
// explores are as likely.
func TestEpsilonsChancesAreExact(t *testing.T) {
	const n, draws, share = 5, 100_000, 0.3
	c, sc := fixture(t, n)
	sc.Strategy = &catalog.StrategyUse{Name: "epsilon", Parameters: map[string]float64{"epsilon": share}}
	m := compile(t, newRuntime(t, sandbox.Options{}), committed(t, dist+"epsilon.wasm"))
	s := bindTo(t, m, c, sc, sandbox.PoolOptions{Size: 2})
	q := simple(n)
	q.Chance = make([]float64, n)
	// Two pairs score the same, one of them 0 and −0.
	q.Propensity, q.Weight, q.Lever = []float64{0.5, 0.25, 0.5, 0, 0.5}, []float64{1, 1, 1, 1, 1}, []float64{1, 1, 1, 1, 1}
	q.Value = []float64{8, 16, 2, 7, math.Copysign(0, -1)}
	own := make([]float64, n)
	if err := (decide.Arbitration{}).Rank(context.Background(), q); err != nil {
		t.Fatal(err)
	}
	copy(own, q.Score)

	type got struct {
		candidate int
		score     float64
	}
	times, said := make(map[got]int), make(map[got]float64)
	orders, explored := make(map[[n]float64]int), 0
	for seed := range uint64(draws) {
		q.Seed = seed
		rank(t, s, q)
		if q.Reason[0] != 0 {
			explored++
			orders[[n]float64(q.Score)]++
		} else {
			for i := range own {
				if math.Float64bits(q.Score[i]) != math.Float64bits(own[i]) {
					t.Fatalf("seed %d: candidate %d scores %v without exploring, want %v", seed, i, q.Score[i], own[i])
				}
			}
		}
		for i := range n {
			g := got{i, q.Score[i]} // 0 and −0 are one key
			times[g]++
			if before, ok := said[g]; ok && before != q.Chance[i] {
				t.Fatalf("seed %d: the chance of %v is %v, and was %v", seed, g, q.Chance[i], before)
			}
			said[g] = q.Chance[i]
		}
	}
	if far(explored, share, draws) {
		t.Errorf("%d of %d decisions explore, want %v of them", explored, draws, share)
	}
	sums := make(map[int]float64)
	for g, p := range said {
		sums[g.candidate] += p
		if far(times[g], p, draws) {
			t.Errorf("candidate %d has the score %v %d times in %d, and says %v", g.candidate, g.score, times[g], draws, p)
		}
	}
	for i, sum := range sums {
		if math.Abs(sum-1) > 1e-12 {
			t.Errorf("the probabilities of all that candidate %d may score add up to %v", i, sum)
		}
	}
	const different = 120 / 2 / 2 // of 4, 4, 1, 0 and −0
	for order, k := range orders {
		if far(k, 1.0/different, explored) {
			t.Errorf("the order %v came %d times in %d, and is one of %d", order, k, explored, different)
		}
	}
	t.Logf("%d explored, %d orders of them; %d pairs of candidate and score", explored, len(orders), len(said))
	if len(orders) != different || len(said) != n*3 {
		t.Errorf("%d orders and %d pairs, want %d and %d", len(orders), len(said), different, n*3)
	}
}

// What the server says of an offer, with its own draw among those that score the same, is
// how often it is offered: the strategy's chances and the server's fit.
func TestEpsilonsOffersComeAsOftenAsTheAnswerSays(t *testing.T) {
	const draws = 100_000
	c, _, problems := catalog.Compile([]catalog.File{{Name: "catalog.yaml", Content: []byte(`
channels: [{id: web, direction: inbound}]
touchpoints: [{id: web.home, channel: web, slots: 1}]
scenarios: [{id: inbound, touchpoints: [web.home], strategy: {name: epsilon, parameters: {epsilon: 0.4}}}]
offers:
  - {id: a, group: g, class: marketing, value: 8, propensity: {start: 0.5}, treatments: [{channel: web, content: a}]}
  - {id: b, group: g, class: marketing, value: 16, propensity: {start: 0.25}, treatments: [{channel: web, content: b}]}
  - {id: c, group: g, class: marketing, value: 2, propensity: {start: 0.5}, treatments: [{channel: web, content: c}]}
  - {id: d, group: g, class: marketing, value: 32, propensity: {start: 0.125}, treatments: [{channel: web, content: d}]}
  - {id: e, group: g, class: marketing, value: 1, propensity: {start: 0.5}, treatments: [{channel: web, content: e}]}
`)}}, schemaOfNothing(t), nil)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	m := compile(t, newRuntime(t, sandbox.Options{}), committed(t, dist+"epsilon.wasm"))
	d, err := decide.New(c, []decide.Ranker{bindTo(t, m, c, c.Scenarios[0], sandbox.PoolOptions{Size: 2})})
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(3, 4))
	var times [5]int
	var said [5]float64
	answer := new(decide.Answer)
	for range draws {
		d.Decide(t.Context(), &decide.Request{Now: 1_772_366_400_000_000, Seed: random.Uint64(), Profile: profile{}}, answer)
		if len(answer.Slate) != 1 || len(answer.Degradations) > 0 {
			t.Fatalf("%d offers, %v", len(answer.Slate), answer.Degradations)
		}
		p := answer.Slate[0]
		times[p.Offer]++
		if said[p.Offer] != 0 && math.Abs(said[p.Offer]-p.Probability) > 1e-12 {
			t.Fatalf("offer %d: its probability is %v, and was %v", p.Offer, p.Probability, said[p.Offer])
		}
		said[p.Offer] = p.Probability
	}
	sum := 0.0
	for i, p := range said {
		sum += p
		if far(times[i], p, draws) {
			t.Errorf("offer %d is offered %d times in %d, and the answer says %v", i, times[i], draws, p)
		}
	}
	t.Logf("offered %v, said %.4f", times, said)
	if math.Abs(sum-1) > 1e-12 {
		t.Errorf("the probabilities add up to %v", sum)
	}
}

// schemaOfNothing has one field, which nothing reads.
func schemaOfNothing(t testing.TB) *profilestore.Schema {
	t.Helper()
	schema, err := profilestore.NewSchema([]profilestore.Source{{ID: "bi"}}, []profilestore.Field{{Name: "value.arpu", Type: profilestore.TypeNumber, Batch: "bi"}})
	if err != nil {
		t.Fatal(err)
	}
	return schema
}
