package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/structpb"

	"rapport/profilestore"
	"rapport/profilestore/rules"
	rapportv1 "rapport/server/api/rapport/v1"
	"rapport/server/catalog"
	"rapport/server/decide"
	"rapport/server/ledger"
	"rapport/server/sandbox"
)

// simulatedSide is one of the two sides of a simulation: what is in service, or what
// would be after a change. Not safe for concurrent use.
//
// Its strategies are its own, as those of a replay are: what they do neither counts in
// the metrics of those in service nor suspends them. Its capacities are copies of what
// was left when the simulation began.
type simulatedSide struct {
	catalog *catalog.Compiled
	decider *decide.Decider
	bound   []*sandbox.Strategy

	at       []decide.At // those that are asked for and that this catalogue has
	asked    []int       // which of those asked for they are
	one      bool
	context  []profilestore.Value
	loads    []float64
	evidence *decide.Evidence
	tables   rules.TableSet
	capacity map[string]*simulatedCapacity
	places   places
	answers  []decide.Answer // by at
}

// simulatedCapacity is what is left of a capacity.
type simulatedCapacity struct{ free, taken int64 }

// simulatedCustomer is a customer whom both sides decide for.
type simulatedCustomer struct {
	name    string // the common name
	seed    uint64
	view    *profilestore.View
	pending []decide.Contact
}

// simulatedStrategy is a version that ranks in place of what is in service of its name;
// nil: none does.
type simulatedStrategy struct {
	*strategyVersion

	own bool // nobody else has it
}

func (x *simulatedStrategy) close(ctx context.Context) error {
	if x == nil || !x.own {
		return nil
	}
	return x.module.Close(context.WithoutCancel(ctx))
}

// simulatedFit tells what does not fit between a catalogue and the strategies that would
// rank after the change.
type simulatedFit struct {
	strategyFit

	instead *simulatedStrategy
}

// Check implements catalog.StrategyChecker.
func (f simulatedFit) Check(c *catalog.Compiled, scenario *catalog.Scenario) []string {
	if f.instead != nil && f.instead.name == scenario.Strategy.Name {
		return f.instead.module.Check(c, scenario)
	}
	return f.strategyFit.Check(c, scenario)
}

// simulatedStrategy returns the strategy of a request. A module that is brought is
// checked like one that is uploaded, signature and all, and not kept.
func (s decisions) simulatedStrategy(ctx context.Context, m *rapportv1.SimulatedStrategy) (*simulatedStrategy, error) {
	switch {
	case m == nil:
		return nil, nil
	case len(m.GetModule()) > 0:
		v, err := s.strategies.check(ctx, m.GetModule(), m.GetSignature())
		if err != nil {
			return nil, err
		}
		x := &simulatedStrategy{v, true}
		if m.GetName() != "" && m.GetName() != v.name || m.GetVersion() != "" && m.GetVersion() != v.version {
			err := &argumentError{"strategy", fmt.Sprintf("the module is %s by its manifest, not %s", v.title(), strings.TrimSpace(m.GetName()+" "+m.GetVersion()))}
			return nil, errors.Join(err, x.close(ctx))
		}
		return x, nil
	case m.GetName() == "":
		return nil, &argumentError{"strategy.name", "give the name of a strategy, or a module"}
	}
	v, err := s.strategies.resolve(&catalog.StrategyUse{Name: m.GetName(), Version: m.GetVersion()}, s.strategies.release(m.GetName()))
	if err != nil {
		return nil, err
	}
	return &simulatedStrategy{v, false}, nil
}

// simulatedCatalog compiles the catalogue of a side: files, else a version, else the one
// in service. Problems are those of the files.
func (s decisions) simulatedCatalog(files []catalog.File, version int64, instead *simulatedStrategy) (*catalog.Compiled, []catalog.Problem, error) {
	if len(files) > 0 {
		compiled, _, problems := catalog.Compile(files, s.store.Schema(), simulatedFit{strategyFit{s.strategies, false}, instead})
		return compiled, problems, nil
	}
	l := s.acquire()
	if l != nil {
		defer s.release(l)
	}
	switch {
	case l != nil && (version == 0 || version == l.compiled.Version):
		return l.compiled, nil, nil // a Go value that outlives its service
	case version == 0:
		return nil, nil, errNoCatalog
	}
	v, err := s.catalogs.Get(version)
	if err != nil {
		return nil, nil, err
	}
	compiled, _, problems := catalog.Compile(v.Files, s.store.Schema(), anyStrategy{}) // what does not fit is found when it is bound
	if len(problems) > 0 {
		return nil, nil, &argumentError{"catalog", fmt.Sprintf("version %d does not compile any more under the schema of today: %s", version, problems[0])}
	}
	compiled.Version = version
	return compiled, nil, nil
}

// newSimulatedSide makes a side ready; close must follow. asked are the touchpoints.
func (s decisions) newSimulatedSide(ctx context.Context, c *catalog.Compiled, m *rapportv1.SimulateRequest, asked []*rapportv1.SimulatedTouchpoint, instead *simulatedStrategy, tables rules.TableSet, now int64) (_ *simulatedSide, err error) {
	x := &simulatedSide{catalog: c, one: m.GetOneContact(), capacity: make(map[string]*simulatedCapacity), loads: s.loads.of(c, time.Now())}
	defer func() {
		if err != nil {
			err = errors.Join(err, x.close(ctx))
		}
	}()
	// What came of offers and the reference tables are those of now, for all customers.
	reading := live{compiled: c, learners: offerChannels(c, true)}
	reading.read(s.learning.counter)
	x.evidence, x.tables = reading.evidence.Load(), tables
	rankers := make([]decide.Ranker, len(c.Scenarios))
	for i, t := range asked {
		touchpoint, ok := c.Touchpoint(t.GetTouchpoint())
		if !ok {
			continue
		}
		x.at, x.asked = append(x.at, decide.At{Touchpoint: touchpoint, Slots: int(t.GetSlots())}), append(x.asked, i)
		n := c.Touchpoints[touchpoint].Scenario
		if n < 0 || rankers[n] != nil || c.Scenarios[n].Strategy == nil {
			continue
		}
		if rankers[n], err = s.simulatedRanker(ctx, x, c.Scenarios[n], instead); err != nil {
			return nil, fmt.Errorf("scenario %s: %w", c.Scenarios[n].ID, err)
		}
	}
	x.answers = make([]decide.Answer, len(x.at))
	if x.decider, err = decide.New(c, rankers); err != nil {
		return nil, err
	}
	declared := make(map[string]*structpb.Value)
	for name, v := range m.GetContext() {
		if _, ok := c.ContextField(name); ok {
			declared[name] = v
		}
	}
	if x.context, err = readContext(c, declared); err != nil {
		return nil, err
	}
	for i := range c.Capacities {
		k := &c.Capacities[i]
		place := ledger.Place{Capacity: k.ID, Period: uint8(k.Period), Begin: k.Period.Begin(now, c.Clock.Zone)}
		x.capacity[k.ID] = &simulatedCapacity{free: s.ledger.Free(place, k.Max)}
	}
	x.places = places{catalog: c, now: now, free: func(p ledger.Place, _ int64) int64 {
		k := x.capacity[p.Capacity]
		return k.free - k.taken
	}}
	return x, nil
}

// simulatedRanker binds what ranks a scenario that has a strategy, as newRanker does for
// decisions. A shadow affects nothing, so there is none here.
func (s decisions) simulatedRanker(ctx context.Context, x *simulatedSide, scenario *catalog.Scenario, instead *simulatedStrategy) (decide.Ranker, error) {
	bind := func(v *strategyVersion) (decide.Ranker, error) {
		bound, err := v.module.Bind(ctx, x.catalog, scenario, sandbox.PoolOptions{
			Size: simulatedInstances, Aside: true, Logger: slog.New(slog.DiscardHandler), // whoever simulates sees it
		})
		if err != nil {
			return nil, err
		}
		x.bound = append(x.bound, bound)
		return bound, nil
	}
	use := scenario.Strategy
	if instead != nil && instead.name == use.Name {
		return bind(instead.strategyVersion)
	}
	r := s.strategies.release(use.Name)
	v, err := s.strategies.resolve(use, r)
	if err != nil {
		version := use.Version
		if followsLive(use) {
			version = r.Live
		}
		return unavailable{decide.RankerInfo{Name: use.Name, Version: version}}, nil
	}
	ranker, err := bind(v)
	if err != nil || !followsLive(use) || r.Candidate == nil || r.Candidate.Stage != stageShare {
		return ranker, err
	}
	v, err = s.strategies.get(use.Name, r.Candidate.Version)
	if err != nil {
		return ranker, nil //nolint:nilerr // as for decisions, the live version ranks until it can
	}
	candidate, err := bind(v)
	if err != nil {
		return ranker, nil //nolint:nilerr // likewise
	}
	return newSharing(ranker, candidate, r.Candidate.Share), nil
}

// simulatedInstances is how many instances a strategy has: one ranks while the memory of
// the other is put back.
const simulatedInstances = 2

func (x *simulatedSide) close(ctx context.Context) error {
	var errs []error
	for _, b := range x.bound {
		errs = append(errs, b.Close(context.WithoutCancel(ctx)))
	}
	return errors.Join(errs...)
}

// limits reports whether the catalogue limits contacts.
func (x *simulatedSide) limits() bool { return len(x.catalog.Policies)+len(x.catalog.Capacities) > 0 }

// decide decides for a customer and uses up places. The answers are valid until the next
// call.
func (x *simulatedSide) decide(ctx context.Context, who *simulatedCustomer, now int64) {
	if len(x.at) == 0 {
		return
	}
	r := decide.Request{Now: now, Seed: who.seed, Loads: x.loads, Evidence: x.evidence, Tables: x.tables, Context: x.context, Dry: true}
	r.At = x.at[0]
	meet(who.view, &r)
	if x.limits() {
		x.places.taken, x.places.asked = x.places.taken[:0], x.places.asked[:0]
		r.Pending, r.Places = slices.Clip(who.pending), &x.places
	}
	if len(x.at) == 1 && !x.one {
		x.decider.Decide(ctx, &r, &x.answers[0])
	} else {
		x.decider.DecideMany(ctx, &r, x.at, x.one, x.answers)
	}
	if x.limits() {
		for _, t := range x.places.taken {
			x.capacity[t.place.Capacity].taken++
		}
	}
}
