package server_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/structpb"

	"rapport/server"
	rapportv1 "rapport/server/api/rapport/v1"
	"rapport/server/ledger"
)

// simHouse serves a data folder at the time of the tests.
func simHouse(t testing.TB, dir string, change func(*server.Config)) *house {
	clock := &fakeClock{t: simTime}
	return open(t, dir, func(c *server.Config) {
		c.SetClock(clock.now)
		c.Deadline = 30e9
		if change != nil {
			change(c)
		}
	})
}

// A simulation says what dry runs for each customer come to, before and after, with the
// same seeds: where there are no capacities, customers have nothing to do with each other.
func TestSimulateEqualsDryRuns(t *testing.T) {
	random := rand.New(rand.NewPCG(11, 1))
	dir, people := simData(t, random, 40)
	h := simHouse(t, dir, nil)
	h.activate(t)
	var seen struct{ winners, capped, consent, one int }
	for n := range 6 {
		before := newSimCatalog(random, n%2 == 0, false)
		after := before.change(random)
		if _, err := h.publish(before.yaml()); err != nil {
			t.Fatalf("%v\n%s", err, before.yaml())
		}
		h.live(t, random, people)
		h.server.ReadEvidence()
		q := &rapportv1.SimulateRequest{
			Files: simFiles(after.yaml()), Seed: random.Uint64(), Time: simStamp(), By: simBreakdowns(), OneContact: n%3 == 0, Examples: 5,
		}
		some := people
		switch n {
		case 1: // offers come for some customers and go for others
			q.Sample = 32
			after.offers[0].boost, after.offers[1].boost, after.offers[2].boost = 2000, 0, 900
			q.Files = simFiles(after.yaml())
		case 2: // who is in one of the segments
			q.Segments = []string{"heavy", "poor"}
			some = slices.DeleteFunc(slices.Clone(people), func(p *simPerson) bool { return p.segments()[0] == "" })
		case 3: // given customers, one of them twice and one of whom nothing is known
			some = append(slices.Clone(people[5:20]), &simPerson{id: "customer:stranger", noBalance: true})
			for _, p := range some {
				q.Customers = append(q.Customers, p.id)
			}
			q.Customers = append(q.Customers, strings.TrimPrefix(people[5].id, "customer:"))
		}
		got, _, err := h.simulate(context.Background(), q)
		if err != nil {
			t.Fatal(err)
		}
		ordered := simOrder(q.GetSeed(), some)
		if q.GetSample() > 0 {
			ordered = ordered[:q.GetSample()]
		}
		if got.GetSampled() != (q.GetSample() > 0) || got.GetPopulation() != int64(len(some)) || len(got.GetRemarks()) != len(q.GetCustomers())/8 {
			t.Errorf("sampled: %v of %d, %q", got.GetSampled(), got.GetPopulation(), got.GetRemarks())
		}
		var answers [2][]*rapportv1.DecideManyResponse
		answers[0] = h.decideAll(t, ordered, q.GetOneContact(), q)
		if _, err := h.publish(after.yaml()); err != nil {
			t.Fatal(err)
		}
		answers[1] = h.decideAll(t, ordered, q.GetOneContact(), q)
		sameLines(t, before.yaml()+after.yaml(), simLines(got), simFold(ordered, answers))
		if got.GetSampled() {
			sameLines(t, "margins", marginLines(got), simMargins(ordered, answers, len(people)))
		}
		for _, e := range got.GetExamples() {
			if _, own := server.SimulationNumbers(q.GetSeed(), e.GetCustomer()); own != e.GetSeed() {
				t.Errorf("the seed of %s is %d, should be %d", e.GetCustomer(), e.GetSeed(), own)
			}
		}
		seen.winners += int(got.GetWinnersChanged())
		for _, s := range got.GetSuppressions() {
			switch s.GetReason() {
			case "CAPPED":
				seen.capped += int(s.GetOffersBefore())
			case "NO_CONSENT":
				seen.consent++
			}
		}
		if q.GetOneContact() {
			seen.one++
		}
		if t.Failed() {
			return
		}
	}
	t.Logf("%+v", seen)
	if seen.winners == 0 || seen.capped == 0 || seen.consent == 0 || seen.one == 0 {
		t.Error("something did not occur")
	}
}

// Capacities run out in a simulation as they do where the decisions are made in earnest,
// in the same order, before and after.
func TestSimulateEqualsDecisions(t *testing.T) {
	random := rand.New(rand.NewPCG(12, 1))
	full, winners := int64(0), int64(0)
	for range 2 {
		dir, people := simData(t, random, 40)
		before := newSimCatalog(random, false, true)
		after := before.change(random).change(random)
		after.offers[0].boost, after.offers[1].boost = 150, 300
		h := simHouse(t, dir, nil)
		h.activate(t)
		if _, err := h.publish(before.yaml()); err != nil {
			t.Fatal(err)
		}
		h.live(t, random, people[:20])
		h.stop()
		dirs := []string{copyOf(t, dir), copyOf(t, dir)}
		h = simHouse(t, dir, nil)
		q := &rapportv1.SimulateRequest{Files: simFiles(after.yaml()), Seed: random.Uint64(), Time: simStamp(), By: simBreakdowns()}
		got, _, err := h.simulate(context.Background(), q)
		if err != nil {
			t.Fatal(err)
		}
		ordered := simOrder(q.GetSeed(), people)
		var answers [2][]*rapportv1.DecideManyResponse
		for side := range dirs {
			real := simHouse(t, dirs[side], nil)
			if side == 1 {
				if _, err := real.publish(after.yaml()); err != nil {
					t.Fatal(err)
				}
			}
			_, begun := real.server.LedgerState()
			answers[side] = real.decideAll(t, ordered, false, nil)
			_, ended := real.server.LedgerState()
			taken := make(map[string]int64)
			for _, r := range ended {
				taken[r.Capacity] += r.Taken + r.Reserved
			}
			for _, r := range begun {
				taken[r.Capacity] -= r.Taken + r.Reserved
			}
			for _, c := range got.GetCapacities() {
				is := c.GetTakenBefore()
				if side == 1 {
					is = c.GetTakenAfter()
				}
				if is != taken[c.GetCapacity()] {
					t.Errorf("side %d: capacity %s: simulated %d, taken %d", side, c.GetCapacity(), is, taken[c.GetCapacity()])
				}
			}
			real.stop()
		}
		sameLines(t, before.yaml()+after.yaml(), simLines(got), simFold(ordered, answers))
		for _, s := range got.GetSuppressions() {
			if s.GetReason() == "CAPACITY" {
				full += s.GetOffersBefore() + s.GetOffersAfter()
			}
		}
		winners += got.GetWinnersChanged()
	}
	t.Logf("%d candidates without a place, %d winners changed", full, winners)
	if full == 0 || winners == 0 {
		t.Error("nothing ran out, or nothing changed")
	}
}

// The same question has the same answer to the bit, however few customers are held at
// once, and a larger sample has the smaller one in it.
func TestSimulateIsReproducible(t *testing.T) {
	random := rand.New(rand.NewPCG(13, 1))
	dir, _ := simData(t, random, 80)
	before := newSimCatalog(random, true, true)
	q := &rapportv1.SimulateRequest{Files: simFiles(before.change(random).yaml()), Seed: 5, Time: simStamp(), By: simBreakdowns(), Examples: 20}
	run := func(h *house) string {
		x, _, err := h.simulate(context.Background(), q)
		if err != nil {
			t.Fatal(err)
		}
		return string(canonical(t, x))
	}
	h := simHouse(t, dir, nil)
	h.activate(t)
	if _, err := h.publish(before.yaml()); err != nil {
		t.Fatal(err)
	}
	want := run(h)
	if run(h) != want {
		t.Error("another answer the second time")
	}
	q.Seed = 6
	if run(h) == want {
		t.Error("another seed gives the same answer")
	}
	q.Seed, q.Sample = 5, 30
	sample := run(h)
	h.stop()
	for _, held := range []int{1, 7, 79, 80} {
		h := simHouse(t, dir, func(c *server.Config) { c.SetSimulatedAtOnce(held) })
		q.Sample = 0
		if run(h) != want {
			t.Errorf("with %d customers at once: another answer", held)
		}
		if q.Sample = 30; run(h) != sample {
			t.Errorf("with %d customers at once: another sample", held)
		}
		h.stop()
	}
}

// A simulation leaves no trace: nothing is reserved, remembered, logged, kept or counted.
func TestSimulateHasNoEffect(t *testing.T) {
	random := rand.New(rand.NewPCG(14, 1))
	dir, people := simData(t, random, 40)
	before := newSimCatalog(random, true, true)
	before.strategy = "pvcl"
	h := simHouse(t, dir, nil)
	h.activate(t)
	if _, err := h.publish(before.yaml()); err != nil {
		t.Fatal(err)
	}
	h.upload(t, module(t, "2.0.0", equalValues), nil)
	h.put(t, "2.0.0", share, 50)
	h.live(t, random, people)
	// What is counted: decisions, events, places, reads through the cache, and calls of
	// strategies; and what is kept.
	state := func() string {
		_, metrics := h.get(t, "/metrics")
		var b strings.Builder
		for line := range strings.Lines(metrics) {
			if strings.HasPrefix(line, "rapport_") && !strings.HasPrefix(line, "rapport_snapshot_age") && !strings.HasPrefix(line, "rapport_compiler") {
				b.WriteString(line)
			}
		}
		stats, readings := h.server.LedgerState()
		slices.SortFunc(readings, func(a, b ledger.Reading) int { return strings.Compare(a.Capacity, b.Capacity) })
		fmt.Fprintf(&b, "%+v\n%+v\n", stats, readings)
		strategies, err := h.strategies().ListStrategies(context.Background(), connect.NewRequest(&rapportv1.ListStrategiesRequest{}))
		if err != nil {
			t.Fatal(err)
		}
		catalogs, err := h.catalogs().ListCatalogs(context.Background(), connect.NewRequest(&rapportv1.ListCatalogsRequest{}))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%x %x\n", canonical(t, strategies.Msg), canonical(t, catalogs.Msg))
		return b.String()
	}
	was := state()
	after := before.change(random)
	after.strategy = "pvcl"
	x, _, err := h.simulate(context.Background(), &rapportv1.SimulateRequest{
		Files: simFiles(after.yaml()), Seed: 1, Time: simStamp(),
		Strategy: &rapportv1.SimulatedStrategy{Module: module(t, "3.0.0", equalValues)},
	})
	if err != nil {
		t.Fatal(err)
	}
	if x.GetStrategy() != "pvcl 3.0.0" || x.GetAfter().GetOffers() == 0 || len(x.GetCapacities()) == 0 {
		t.Errorf("the simulation: %v", x)
	}
	now := strings.Split(state(), "\n")
	for i, line := range strings.Split(was, "\n") {
		if i < len(now) && now[i] != line {
			t.Errorf("%s, was %s", now[i], line)
		}
	}
}

// A strategy that ranks after the change is one that is kept or one that is brought, and
// what it does wrong is counted there and nowhere else.
func TestSimulateStrategy(t *testing.T) {
	random := rand.New(rand.NewPCG(15, 1))
	dir, people := simData(t, random, 40)
	h := simHouse(t, dir, nil)
	h.activate(t)
	if _, err := h.publish(rivals(10)); err != nil {
		t.Fatal(err)
	}
	at := []*rapportv1.SimulatedTouchpoint{{Touchpoint: "web.home", Slots: 1}}
	run := func(s *rapportv1.SimulatedStrategy) *rapportv1.Simulation {
		t.Helper()
		x, _, err := h.simulate(context.Background(), &rapportv1.SimulateRequest{At: at, Strategy: s, Seed: 3, Time: simStamp()})
		if err != nil {
			t.Fatal(err)
		}
		return x
	}
	brought := run(&rapportv1.SimulatedStrategy{Module: module(t, "2.0.0", equalValues)})
	if brought.GetWinnersChanged() == 0 || brought.GetCatalogAfter() != 1 || brought.GetStrategy() != "pvcl 2.0.0" {
		t.Errorf("%v", brought)
	}
	if _, _, err := h.simulate(context.Background(), &rapportv1.SimulateRequest{At: at, Strategy: &rapportv1.SimulatedStrategy{Name: "pvcl", Version: "2.0.0"}}); connect.CodeOf(err) != connect.CodeNotFound {
		t.Errorf("what was brought is there: %v", err)
	}
	h.upload(t, module(t, "2.0.0", equalValues), nil)
	kept := run(&rapportv1.SimulatedStrategy{Name: "pvcl", Version: "2.0.0"})
	if !bytes.Equal(canonical(t, brought), canonical(t, kept)) {
		t.Errorf("kept: %v\nbrought: %v", kept, brought)
	}
	// For a share of the customers it is in service already: for them nothing changes.
	h.put(t, "2.0.0", share, 50)
	shared := run(&rapportv1.SimulatedStrategy{Name: "pvcl", Version: "2.0.0"})
	ask := func() (slates []string) {
		for _, p := range people {
			_, own := server.SimulationNumbers(3, p.id)
			q := question(p.id, own)
			q.DryRun.Time, q.Slots = simStamp(), 1
			slates = append(slates, slate(h.ask(t, q)))
		}
		return slates
	}
	before := ask()
	h.put(t, "2.0.0", live, 0)
	changed := int64(0)
	for i, after := range ask() {
		if after != before[i] {
			changed++
		}
	}
	if shared.GetWinnersChanged() != changed || changed == 0 || changed >= kept.GetWinnersChanged() {
		t.Errorf("%d winners change for those who are not in the share, simulated %d, of all %d", changed, shared.GetWinnersChanged(), kept.GetWinnersChanged())
	}
	// One that fails: each decision says so, as if there were no other.
	broken := run(&rapportv1.SimulatedStrategy{Module: module(t, "9.0.0", infinite)})
	want := &rapportv1.SimulationDegradation{Kind: "STRATEGY_FAILED", After: 40}
	if d := broken.GetDegradations(); len(d) != 1 || d[0].GetKind() != want.GetKind() || d[0].GetBefore() != 0 || d[0].GetAfter() != want.GetAfter() || d[0].GetDetail() == "" {
		t.Errorf("%v", d)
	}
}

// What can't be simulated is said, with where and why.
func TestSimulateErrors(t *testing.T) {
	random := rand.New(rand.NewPCG(16, 1))
	dir, _ := simData(t, random, 5)
	h := simHouse(t, dir, nil)
	h.activate(t)
	simulate := func(m *rapportv1.SimulateRequest) error {
		_, _, err := h.simulate(context.Background(), m)
		return err
	}
	if err := simulate(&rapportv1.SimulateRequest{}); connect.CodeOf(err) != connect.CodeFailedPrecondition {
		t.Errorf("without a catalogue: %v", err)
	}
	catalog := newSimCatalog(random, true, false)
	if _, err := h.publish(catalog.yaml()); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		q    *rapportv1.SimulateRequest
		code connect.Code
		want string
	}{
		{"no such version", &rapportv1.SimulateRequest{Catalog: 7}, connect.CodeNotFound, "7"},
		{"no such version before", &rapportv1.SimulateRequest{Before: 7}, connect.CodeNotFound, "7"},
		{"files and a version", &rapportv1.SimulateRequest{Catalog: 1, Files: simFiles(catalog.yaml())}, connect.CodeInvalidArgument, "given twice"},
		{"customers and a sample", &rapportv1.SimulateRequest{Sample: 1, Customers: []string{"1"}}, connect.CodeInvalidArgument, "there is none to draw"},
		{"no such touchpoint", &rapportv1.SimulateRequest{At: []*rapportv1.SimulatedTouchpoint{{Touchpoint: "shop"}}}, connect.CodeNotFound, `"shop" is in neither catalogue`},
		{"a touchpoint twice", &rapportv1.SimulateRequest{At: []*rapportv1.SimulatedTouchpoint{{Touchpoint: "web.home"}, {Touchpoint: "web.home"}}}, connect.CodeInvalidArgument, "at[1].touchpoint: it is given twice"},
		{"no such segment", &rapportv1.SimulateRequest{Segments: []string{"rich"}}, connect.CodeInvalidArgument, `neither catalogue has a segment "rich"`},
		{"no such dimension", &rapportv1.SimulateRequest{By: []*rapportv1.SimulationBreakdown{{Dimensions: []string{"moon"}}}}, connect.CodeInvalidArgument, "by[0].dimensions[0]"},
		{"no such context", &rapportv1.SimulateRequest{Context: map[string]*structpb.Value{"mood": structpb.NewBoolValue(true)}}, connect.CodeInvalidArgument, "context.mood"},
		{"a bad customer", &rapportv1.SimulateRequest{Customers: []string{"1", "a:b:\x01"}}, connect.CodeInvalidArgument, "customers[1]"},
		{"no such strategy", &rapportv1.SimulateRequest{Strategy: &rapportv1.SimulatedStrategy{Name: "none", Version: "1"}}, connect.CodeNotFound, "none"},
		{"no strategy", &rapportv1.SimulateRequest{Strategy: &rapportv1.SimulatedStrategy{}}, connect.CodeInvalidArgument, "give the name"},
		{"a strategy that ranks nothing", &rapportv1.SimulateRequest{Strategy: &rapportv1.SimulatedStrategy{Module: module(t, "2.0.0", equalValues)}, Files: simFiles(rivals(3)[:strings.Index(rivals(3), "scenarios:")] + "scenarios: [{id: home, touchpoints: [web.home], offers: [o1]}]\n")}, connect.CodeInvalidArgument, "no scenario is ranked by a strategy of the name pvcl"},
		{"no module", &rapportv1.SimulateRequest{Strategy: &rapportv1.SimulatedStrategy{Module: []byte("nonsense")}}, connect.CodeInvalidArgument, ""},
	} {
		if err := simulate(test.q); connect.CodeOf(err) != test.code || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %v, %s", test.name, err, test.code, test.want)
		}
	}
	_, all, err := h.simulate(context.Background(), &rapportv1.SimulateRequest{Files: simFiles(strings.Replace(catalog.yaml(), "web.home, sms.push", "web.hom, sms.push", 1))})
	if err != nil || len(all) != 1 || len(all[0].GetProblems()) != 1 || all[0].GetProblems()[0].GetLine() == 0 {
		t.Errorf("a mistake in the files: %v, %v", all, err)
	}
	release := h.server.HoldSimulating()
	if err := simulate(&rapportv1.SimulateRequest{}); connect.CodeOf(err) != connect.CodeResourceExhausted {
		t.Errorf("while another runs: %v", err)
	}
	release()
	if err := simulate(&rapportv1.SimulateRequest{}); err != nil {
		t.Errorf("after it: %v", err)
	}
	h.server.BeginStopping()
	if err := simulate(&rapportv1.SimulateRequest{}); connect.CodeOf(err) != connect.CodeUnavailable {
		t.Errorf("when stopping: %v", err)
	}
}

// A strategy from elsewhere is not taken, and an unsigned one not where keys are trusted.
func TestSimulateStrategyIsGuarded(t *testing.T) {
	dir := newData(t)
	public, _, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	h := open(t, dir, func(c *server.Config) { c.TrustedKeys = []string{base64.StdEncoding.EncodeToString(public)} })
	if _, err := h.publish(rivals(3)); err != nil {
		t.Fatal(err)
	}
	q := connect.NewRequest(&rapportv1.SimulateRequest{Strategy: &rapportv1.SimulatedStrategy{Module: module(t, "2.0.0", equalValues)}})
	end := func(want string) {
		t.Helper()
		stream, err := h.decisions().Simulate(context.Background(), q)
		if err != nil {
			t.Fatal(err)
		}
		for stream.Receive() {
		}
		if err := stream.Err(); connect.CodeOf(err) != connect.CodePermissionDenied || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
		_ = stream.Close()
	}
	end("not signed")
	q = connect.NewRequest(q.Msg)
	q.Header().Set("X-Forwarded-For", "10.0.0.1")
	end("proxy")
}

// Who goes ends a simulation, and the next may begin. Meanwhile decisions are made and
// events come.
func TestSimulateBesideDecisions(t *testing.T) {
	random := rand.New(rand.NewPCG(17, 1))
	dir, people := simData(t, random, 300)
	before := newSimCatalog(random, true, true)
	before.strategy = "pvcl"
	h := simHouse(t, dir, nil)
	h.activate(t)
	if _, err := h.publish(before.yaml()); err != nil {
		t.Fatal(err)
	}
	var strangers []string
	for i := range 100_000 {
		strangers = append(strangers, fmt.Sprint("stranger", i))
	}
	ctx, cancel := context.WithCancel(context.Background())
	stream, err := h.decisions().Simulate(ctx, connect.NewRequest(&rapportv1.SimulateRequest{Customers: strangers}))
	if err != nil {
		t.Fatal(err)
	}
	if !stream.Receive() || stream.Msg().GetSimulation() != nil {
		t.Fatalf("no progress: %v, %v", stream.Msg(), stream.Err())
	}
	cancel()
	_ = stream.Close()
	q := &rapportv1.SimulateRequest{Files: simFiles(before.change(random).yaml()), Seed: 1, Time: simStamp()}
	for { // until the other has noticed
		_, _, err := h.simulate(context.Background(), q)
		if err == nil {
			break
		}
		if connect.CodeOf(err) != connect.CodeResourceExhausted {
			t.Fatal(err)
		}
	}
	done := make(chan struct{})
	var work sync.WaitGroup
	decided := 0
	work.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-done:
				return
			default:
			}
			p := people[i%len(people)]
			if _, err := h.decisions().DecideMany(context.Background(), connect.NewRequest(simQuestion(p, false))); err != nil {
				t.Error(err)
			}
			if _, err := h.profiles().IngestEvents(context.Background(), connect.NewRequest(&rapportv1.IngestEventsRequest{Events: []*rapportv1.Event{{
				Id: fmt.Sprint("sim", i), Type: "balance", Identity: p.id, Time: simStamp(),
				Attributes: &structpb.Struct{Fields: map[string]*structpb.Value{"amount": structpb.NewNumberValue(float64(i % 40))}},
			}}})); err != nil {
				t.Error(err)
			}
			decided++
		}
	})
	for range 3 {
		x, _, err := h.simulate(context.Background(), q)
		if err != nil {
			t.Fatal(err)
		}
		if x.GetCustomers() != int64(len(people)) || x.GetPopulation() != int64(len(people)) {
			t.Errorf("%d customers of %d", x.GetCustomers(), x.GetPopulation())
		}
		for _, c := range x.GetCapacities() {
			if c.GetTakenBefore() > c.GetLeftBefore() || c.GetTakenAfter() > c.GetLeftAfter() {
				t.Errorf("a capacity is passed: %v", c)
			}
		}
	}
	close(done)
	work.Wait()
	t.Logf("%d decisions meanwhile", decided)
	if decided == 0 {
		t.Error("nothing was decided meanwhile")
	}
}

// A touchpoint that only one of the catalogues has is decided with that one only.
func TestSimulateNewTouchpoint(t *testing.T) {
	random := rand.New(rand.NewPCG(19, 1))
	dir, people := simData(t, random, 10)
	h := simHouse(t, dir, nil)
	h.activate(t)
	const yaml = `
context: [{name: mood, type: text}]
channels: [{id: web, direction: inbound}]
touchpoints: [{id: web.home, channel: web}, {id: web.old, channel: web}]
offers: [{id: a, group: g, class: care, value: 1, propensity: {start: 0.2}, treatments: [{channel: web, content: x}]}]
scenarios: [{id: home, touchpoints: [web.home, web.old], offers: [a]}]
`
	if _, err := h.publish(yaml); err != nil {
		t.Fatal(err)
	}
	after := strings.ReplaceAll(strings.Replace(yaml, "{name: mood, type: text}", "{name: weather, type: text}", 1), "web.old", "web.new")
	for _, test := range []struct {
		at            []string
		before, after int64
	}{{[]string{"web.old"}, 10, 0}, {[]string{"web.new"}, 0, 10}, {[]string{"web.new", "web.old"}, 10, 10}, {nil, 10, 10}} {
		q := &rapportv1.SimulateRequest{Files: simFiles(after), Context: map[string]*structpb.Value{"mood": structpb.NewStringValue("x"), "weather": structpb.NewStringValue("y")}}
		for _, id := range test.at {
			q.At = append(q.At, &rapportv1.SimulatedTouchpoint{Touchpoint: id})
		}
		x, _, err := h.simulate(context.Background(), q)
		if err != nil {
			t.Fatal(err)
		}
		if x.GetBefore().GetOffers() != test.before || x.GetAfter().GetOffers() != test.after || x.GetDecisions() != int64(len(people)*len(x.GetTouchpoints())) || len(x.GetRemarks()) == 0 {
			t.Errorf("at %v: %v", test.at, x)
		}
	}
}

// The intervals of samples hold what is true of all customers about as often as they say.
func TestSimulateIntervals(t *testing.T) {
	random := rand.New(rand.NewPCG(18, 1))
	dir, _ := simData(t, random, 600)
	h := simHouse(t, dir, nil)
	h.activate(t)
	const yaml = `
channels: [{id: web, direction: inbound}]
touchpoints: [{id: web.home, channel: web, slots: 2}]
offers:
  - {id: a, group: g, class: care, value: 30, propensity: {start: 0.2}, eligible: profile.usage.data_mb > 7000, treatments: [{channel: web, content: x}]}
  - {id: b, group: g, class: care, value: 10, propensity: {start: 0.3}, eligible: profile.value.balance < 20, treatments: [{channel: web, content: x}]}
  - {id: c, group: g, class: care, value: 5, propensity: {start: 0.5}, eligible: profile.tag.vip, treatments: [{channel: web, content: x}]}
scenarios: [{id: home, touchpoints: [web.home], offers: [a, b, c]}]
`
	if _, err := h.publish(yaml); err != nil {
		t.Fatal(err)
	}
	q := &rapportv1.SimulateRequest{Files: simFiles(strings.Replace(yaml, "> 7000", "> 4000", 1)), Time: simStamp(), By: []*rapportv1.SimulationBreakdown{{Dimensions: []string{"offer"}}}}
	truth, _, err := h.simulate(context.Background(), q)
	if err != nil {
		t.Fatal(err)
	}
	const runs = 100
	held, row, moved := make(map[string]int), 0, 0
	q.Sample = 60
	ofAll := float64(truth.GetCustomersChanged()) / float64(truth.GetCustomers())
	for seed := range uint64(runs) {
		q.Seed = seed
		x, _, err := h.simulate(context.Background(), q)
		if err != nil {
			t.Fatal(err)
		}
		for i, m := range x.GetMeasures() {
			if math.Abs(m.GetDifference()-truth.GetMeasures()[i].GetDifference()) <= m.GetMargin() {
				held[m.GetName()]++
			}
		}
		r, all := x.GetTables()[0].GetRows()[0], truth.GetTables()[0].GetRows()[0]
		scaled := float64(all.GetAfter().GetOffers()-all.GetBefore().GetOffers()) / 10
		if math.Abs(float64(r.GetAfter().GetOffers()-r.GetBefore().GetOffers())-scaled) <= r.GetMargin() {
			row++
		}
		if x.GetCustomersChangedLow() <= ofAll && ofAll <= x.GetCustomersChangedHigh() {
			moved++
		}
	}
	// Of many a few are drawn out of a part of them, whose size is only estimated.
	q.Sample, q.Seed = 5, 1
	if x, _, err := h.simulate(context.Background(), q); err != nil || !x.GetPopulationEstimated() || x.GetCustomers() != 5 || math.Abs(float64(x.GetPopulation()-600)) > 100 {
		t.Errorf("%d of about %d customers: %v", x.GetCustomers(), x.GetPopulation(), err)
	}
	held["row"], held["moved"] = row, moved
	t.Logf("held in %d runs: %v; of all, %.3g have another first offer", runs, held, ofAll)
	for name, n := range held {
		if n < runs*88/100 || name == "row" && n == runs {
			t.Errorf("%s: in %d of %d", name, n, runs)
		}
	}
}
