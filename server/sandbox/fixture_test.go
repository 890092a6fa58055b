package sandbox_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"testing"

	"rapport/profilestore"
	"rapport/server/catalog"
	"rapport/server/decide"
	"rapport/server/sandbox"
)

// The profile fields of the fixture, by slot.
const (
	slotARPU = iota
	slotHeavy
	slotSegment
	slotJoined
)

// profile is a customer: values by slot.
type profile []profilestore.Value

func (p profile) Get(slot int) profilestore.Value {
	if slot >= len(p) {
		return profilestore.Unknown()
	}
	return p[slot]
}

func numberOf(x float64) profilestore.Value  { return profilestore.Number(x) }
func textOf(s string) profilestore.Value     { return profilestore.Text(s) }
func timeOf(micros int64) profilestore.Value { return profilestore.Time(micros) }

// profileFunc is a customer whose values are computed.
type profileFunc func(slot int) profilestore.Value

func (f profileFunc) Get(slot int) profilestore.Value { return f(slot) }

// fixture returns a catalogue with one scenario of n candidates, an offer each,
// in two channels by turns.
func fixture(t testing.TB, n int) (*catalog.Compiled, *catalog.Scenario) {
	t.Helper()
	schema, err := profilestore.NewSchema([]profilestore.Source{{ID: "bi"}}, []profilestore.Field{
		{Name: "value.arpu", Type: profilestore.TypeNumber, Batch: "bi"},
		{Name: "tag.high_traffic", Type: profilestore.TypeFlag, Batch: "bi"},
		{Name: "general.customer_type", Type: profilestore.TypeText, Batch: "bi"},
		{Name: "general.customer_since", Type: profilestore.TypeTime, Batch: "bi"},
	})
	if err != nil {
		t.Fatal(err)
	}
	c := &catalog.Compiled{Schema: schema, Channels: []catalog.Channel{
		{ID: "ivr", Attributes: map[string]profilestore.Value{"cost": profilestore.Number(0.02)}},
		{ID: "agent", Attributes: map[string]profilestore.Value{"cost": profilestore.Number(1.5)}},
	}}
	s := &catalog.Scenario{ID: "inbound"}
	for i := range n {
		a := map[string]profilestore.Value{"value": profilestore.Number(float64(i))}
		if i%5 != 4 { // care has no price
			a["price"] = profilestore.Number(float64(10 + i%90))
			a["data"] = profilestore.Flag(i%2 == 0)
		}
		c.Offers = append(c.Offers, catalog.Offer{ID: fmt.Sprintf("offer_%d", i), Attributes: a})
		s.Candidates = append(s.Candidates, catalog.Candidate{Offer: i, Channel: i % 2})
	}
	c.Scenarios = []*catalog.Scenario{s}
	return c, s
}

// ranking returns a ranking of n random candidates out of those of the fixture.
func ranking(random *rand.Rand, n, of int) *decide.Ranking {
	r := &decide.Ranking{Now: 1_772_366_400_000_000, Seed: random.Uint64(), Profile: profile{}}
	for _, i := range random.Perm(of)[:n] {
		r.Candidates = append(r.Candidates, int32(i))
	}
	for range n {
		r.Propensity = append(r.Propensity, random.Float64())
		r.Value = append(r.Value, 100*random.NormFloat64())
		r.Weight = append(r.Weight, 2*random.Float64())
		r.Lever = append(r.Lever, 1+random.Float64())
	}
	r.Score, r.Reason, r.Veto = make([]float64, n), make([]uint32, n), make([]bool, n)
	return r
}

// simple returns a ranking of the first n candidates.
func simple(n int) *decide.Ranking {
	r := ranking(rand.New(rand.NewPCG(1, 2)), n, n)
	for i := range n {
		r.Candidates[i] = int32(i)
	}
	return r
}

// withCompiler completes options with what every runtime needs.
func withCompiler(t testing.TB, o sandbox.Options) sandbox.Options {
	t.Helper()
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Compiler == nil {
		o.Compiler = command(t)
	}
	o.NoBreaker = true // tests fail strategies on purpose
	return o
}

func newRuntime(t testing.TB, o sandbox.Options) *sandbox.Runtime {
	t.Helper()
	r, err := sandbox.New(context.Background(), withCompiler(t, o))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return r
}

func compile(t testing.TB, r *sandbox.Runtime, wasm []byte) *sandbox.Module {
	t.Helper()
	m, err := r.Compile(context.Background(), wasm)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// bind compiles a module and binds it to a fixture of n candidates.
func bind(t testing.TB, r *sandbox.Runtime, wasm []byte, n int, o sandbox.PoolOptions) *sandbox.Strategy {
	t.Helper()
	c, sc := fixture(t, n)
	return bindTo(t, compile(t, r, wasm), c, sc, o)
}

func bindTo(t testing.TB, m *sandbox.Module, c *catalog.Compiled, sc *catalog.Scenario, o sandbox.PoolOptions) *sandbox.Strategy {
	t.Helper()
	s, err := m.Bind(context.Background(), c, sc, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func rank(t testing.TB, s *sandbox.Strategy, r *decide.Ranking) {
	t.Helper()
	if err := s.Rank(context.Background(), r); err != nil {
		t.Fatal(err)
	}
}
