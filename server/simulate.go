package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	rapportv1 "rapport/server/api/rapport/v1"
	"rapport/server/catalog"
	"rapport/server/decide"
)

// simulation decides for many customers twice, with what is in service and with a change
// of it, and compares.
//
// It promises, reports, keeps and counts nothing: it asks the pipeline itself, with
// strategies and capacities of its own. What others promised and what the customers met
// is read as it is. The contacts of one decision count for its own policies, as they do
// in earnest; customers have nothing to do with each other but for the capacities, of
// which each side uses up a copy, in the order of the seed: see drawn. So the result is
// a function of the data, the question, its time and its seed.
//
// It runs in the background: see admission.enterBackground. One goroutine does it all,
// as there is one turn at a time.
type simulation struct {
	decisions

	now    int64
	seed   uint64
	asked  []*rapportv1.SimulatedTouchpoint
	sides  [2]*simulatedSide // before and after
	draw   *draw
	counts *simulationCounts

	unknown int64 // customers of whom nothing is known
	send    func(*rapportv1.SimulateResponse) error
	sent    time.Time
}

// simulationStretch is how long a simulation works before it stands back.
const simulationStretch = 100 * time.Microsecond

// simulationReads is how many profiles are read ahead of a stretch, as reading may have to
// wait for a disk.
const simulationReads = 16

// Simulate says what a change would come to.
func (s decisions) Simulate(ctx context.Context, req *connect.Request[rapportv1.SimulateRequest], stream *connect.ServerStream[rapportv1.SimulateResponse]) error {
	return s.streamError(req.Spec().Procedure, func() error {
		if len(req.Msg.GetStrategy().GetModule()) > 0 {
			if err := fromLoopback(req.Peer(), req.Header()); err != nil {
				return err
			}
		}
		last, err := s.simulate(ctx, req.Msg, stream.Send)
		if err != nil {
			return err
		}
		return stream.Send(last) // now that the next simulation may begin
	}())
}

// simulate returns the last response.
func (s decisions) simulate(ctx context.Context, m *rapportv1.SimulateRequest, send func(*rapportv1.SimulateResponse) error) (_ *rapportv1.SimulateResponse, err error) {
	if !s.simulating.TryLock() {
		return nil, errSimulationRunning
	}
	defer s.simulating.Unlock()
	started := time.Now()
	x := &simulation{decisions: s, now: s.now().UnixMicro(), seed: m.GetSeed(), send: send}
	if m.GetTime() != nil {
		x.now = m.GetTime().AsTime().UnixMicro()
	}
	instead, err := s.simulatedStrategy(ctx, m.GetStrategy())
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, x.close(ctx), instead.close(ctx)) }()
	problems, err := x.open(ctx, m, instead)
	if err != nil {
		return nil, err
	}
	if len(problems) > 0 {
		return &rapportv1.SimulateResponse{Problems: problemMessages(problems)}, nil
	}
	res, err := x.run(ctx, m)
	if err != nil {
		return nil, err
	}
	if instead != nil {
		res.Strategy = instead.title()
	}
	s.log.Info("simulated", "customers", res.GetCustomers(), "before", res.GetCatalogBefore(), "after", res.GetCatalogAfter(),
		"strategy", res.GetStrategy(), "took", time.Since(started).Round(time.Millisecond))
	return &rapportv1.SimulateResponse{Phase: "deciding", Done: res.GetCustomers(), Total: res.GetCustomers(), Simulation: res}, nil
}

// open makes both sides ready. Problems are those of the files.
func (x *simulation) open(ctx context.Context, m *rapportv1.SimulateRequest, instead *simulatedStrategy) ([]catalog.Problem, error) {
	if len(m.GetFiles()) > 0 && m.GetCatalog() != 0 {
		return nil, &argumentError{"catalog", "the catalogue after the change is given twice, as files and as a version"}
	}
	if m.GetTime() != nil && m.GetTime().CheckValid() != nil {
		return nil, &argumentError{"time", "it is not a valid time"}
	}
	if len(m.GetCustomers()) > 0 && m.GetSample() != 0 {
		return nil, &argumentError{"sample", "customers are given: there is none to draw"}
	}
	before, _, err := x.simulatedCatalog(nil, m.GetBefore(), nil)
	if err != nil {
		return nil, err
	}
	after, problems, err := x.simulatedCatalog(catalogFiles(m.GetFiles()), m.GetCatalog(), instead)
	if err != nil || len(problems) > 0 {
		return problems, err
	}
	if err := checkInstead(after, instead); err != nil {
		return nil, err
	}
	if x.asked, err = simulatedTouchpoints(before, after, m.GetAt()); err != nil {
		return nil, err
	}
	for _, name := range sortedKeys(m.GetContext()) {
		_, b := before.ContextField(name)
		if _, a := after.ContextField(name); !a && !b {
			return nil, &argumentError{fmt.Sprintf("context.%.80s", name), "neither catalogue declares such a context field"}
		}
	}
	tables := x.tables.Current()
	if x.sides[0], err = x.newSimulatedSide(ctx, before, m, x.asked, nil, tables, x.now); err != nil {
		return nil, fmt.Errorf("before the change: %w", err)
	}
	if x.sides[1], err = x.newSimulatedSide(ctx, after, m, x.asked, instead, tables, x.now); err != nil {
		return nil, fmt.Errorf("after the change: %w", err)
	}
	segments, err := newSimulatedSegments(x.sides, m.GetSegments())
	if err != nil {
		return nil, err
	}
	x.counts = newSimulationCounts(m, x.asked, segments)
	x.draw = x.newDraw(m, x.now, segments, func(done, total int64) error { return x.progress("choosing", done, total) })
	return nil, nil
}

func (x *simulation) close(ctx context.Context) error {
	var errs []error
	for _, side := range x.sides {
		if side != nil {
			errs = append(errs, side.close(ctx))
		}
	}
	return errors.Join(errs...)
}

// checkInstead finds out whether a strategy that is to rank after the change would rank
// anything.
func checkInstead(c *catalog.Compiled, instead *simulatedStrategy) error {
	if instead == nil {
		return nil
	}
	var names []string
	for _, scenario := range c.Scenarios {
		if scenario.Strategy == nil {
			continue
		}
		if scenario.Strategy.Name == instead.name {
			return nil
		}
		names = append(names, scenario.Strategy.Name)
	}
	slices.Sort(names)
	return &argumentError{"strategy", fmt.Sprintf("no scenario is ranked by a strategy of the name %s: there are %q; change the catalogue as well", instead.name, slices.Compact(names))}
}

// simulatedTouchpoints returns the touchpoints that are decided for: those asked for, else
// all that a scenario answers for, in the order of the catalogues.
func simulatedTouchpoints(before, after *catalog.Compiled, asked []*rapportv1.SimulatedTouchpoint) ([]*rapportv1.SimulatedTouchpoint, error) {
	seen := make(map[string]bool)
	for i, t := range asked {
		id := t.GetTouchpoint()
		_, b := before.Touchpoint(id)
		if _, a := after.Touchpoint(id); !a && !b {
			return nil, fmt.Errorf("%w: %q is in neither catalogue", errTouchpointNotFound, id)
		}
		if seen[id] {
			return nil, &argumentError{fmt.Sprintf("at[%d].touchpoint", i), "it is given twice"}
		}
		seen[id] = true
	}
	if len(asked) > 0 {
		return asked, nil
	}
	for _, c := range []*catalog.Compiled{before, after} {
		for i := range c.Touchpoints {
			if t := &c.Touchpoints[i]; t.Scenario >= 0 && !seen[t.ID] {
				seen[t.ID] = true
				asked = append(asked, &rapportv1.SimulatedTouchpoint{Touchpoint: t.ID})
			}
		}
	}
	if len(asked) > maxSimulatedTouchpoints {
		return nil, &argumentError{"at", fmt.Sprintf("the catalogues have %d touchpoints: say which, at most %d", len(asked), maxSimulatedTouchpoints)}
	}
	return asked, nil
}

// maxSimulatedTouchpoints is as many as a decision may be about.
const maxSimulatedTouchpoints = 50

// sortedKeys returns the keys of a map in order.
func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// run simulates.
func (x *simulation) run(ctx context.Context, m *rapportv1.SimulateRequest) (*rapportv1.Simulation, error) {
	epoch := x.store.Snapshots().Epoch()
	again, nobody := int64(0), int64(0)
	if given := m.GetCustomers(); len(given) > 0 {
		var err error
		if again, nobody, err = x.draw.given(ctx, given); err != nil {
			return nil, err
		}
	}
	for {
		some, err := x.draw.next(ctx)
		if err != nil {
			return nil, err
		}
		if len(some) == 0 {
			break
		}
		if err := x.decideAll(ctx, some); err != nil {
			return nil, err
		}
	}
	res := &rapportv1.Simulation{
		Time: timestamppb.New(time.UnixMicro(x.now)), Seed: x.seed, CatalogBefore: x.sides[0].catalog.Version, CatalogAfter: x.sides[1].catalog.Version,
	}
	for _, t := range x.asked {
		res.Touchpoints = append(res.Touchpoints, t.GetTouchpoint())
	}
	for _, w := range x.draw.snapshots {
		res.Snapshots = append(res.Snapshots, &rapportv1.Snapshot{
			Source: w.Source, Generation: w.Generation, Rows: w.Rows, AsOf: timestamppb.New(time.UnixMicro(w.AsOf)),
		})
	}
	res.Population, res.PopulationEstimated = x.draw.population()
	res.Sampled = len(m.GetCustomers()) == 0 && x.counts.customers < res.GetPopulation()
	x.counts.message(res)
	x.addCapacities(res)
	if x.store.Snapshots().Epoch() != epoch {
		res.Remarks = append(res.Remarks, "other snapshots became current during the simulation: some customers were read from these, some from those")
	}
	x.remark(res, again, nobody)
	return res, nil
}

// decideAll decides for customers in order.
func (x *simulation) decideAll(ctx context.Context, some []drawn) error {
	total := x.draw.have
	if x.draw.most == 0 {
		total, _ = x.draw.population()
	}
	var ahead [simulationReads]simulatedCustomer
	for len(some) > 0 {
		n := min(len(some), simulationReads)
		for i, d := range some[:n] {
			view, err := x.store.ViewAside(ctx, d.name)
			if err != nil {
				return err
			}
			_, own := numbersOf(x.seed, d.name)
			ahead[i] = simulatedCustomer{name: d.name, seed: own, view: view}
		}
		some = some[n:]
		if err := x.decideStretches(ctx, ahead[:n]); err != nil {
			return err
		}
		if err := x.progress("deciding", x.counts.customers, total); err != nil {
			return err
		}
	}
	return nil
}

// decideStretches decides for customers who have been read, and stands back in between.
func (x *simulation) decideStretches(ctx context.Context, some []simulatedCustomer) error {
	for len(some) > 0 {
		end, err := x.turn(ctx)
		if err != nil {
			return err
		}
		for begun := time.Now(); len(some) > 0 && time.Since(begun) < simulationStretch && err == nil; some = some[1:] {
			err = x.decideOne(ctx, &some[0])
		}
		end()
		if err = cmp.Or(err, ctx.Err()); err != nil { // what was decided without time is no result
			return err
		}
	}
	return nil
}

// decideOne decides for a customer on both sides, and counts.
func (x *simulation) decideOne(ctx context.Context, who *simulatedCustomer) error {
	if !who.view.Known() {
		x.unknown++
	}
	if x.sides[0].limits() || x.sides[1].limits() {
		names := known{view: who.view}.names()
		for _, p := range x.ledger.Peek(x.now, names...) {
			who.pending = append(who.pending, decide.Contact{Time: p.Time, Channel: p.Channel, Touchpoint: p.Touchpoint, Items: p.Items})
		}
	}
	for _, side := range x.sides {
		side.decide(ctx, who, x.now)
	}
	return x.counts.add(who, x.now, x.sides)
}

// progress says how far the simulation is, now and then.
func (x *simulation) progress(phase string, done, total int64) error {
	now := time.Now()
	if now.Sub(x.sent) < progressEvery {
		return nil
	}
	x.sent = now
	return x.send(&rapportv1.SimulateResponse{Phase: phase, Done: done, Total: max(done, total)})
}

// addCapacities writes what was used up of capacities.
func (x *simulation) addCapacities(res *rapportv1.Simulation) {
	byID := make(map[string]*rapportv1.SimulationCapacity)
	for side, s := range x.sides {
		for i := range s.catalog.Capacities {
			id := s.catalog.Capacities[i].ID
			c := byID[id]
			if c == nil {
				c = &rapportv1.SimulationCapacity{Capacity: id}
				byID[id], res.Capacities = c, append(res.Capacities, c)
			}
			k := s.capacity[id]
			if side == 0 {
				c.HasBefore, c.LeftBefore, c.TakenBefore = true, k.free, k.taken
			} else {
				c.HasAfter, c.LeftAfter, c.TakenAfter = true, k.free, k.taken
			}
		}
	}
}

// remark says what else is to be known.
func (x *simulation) remark(res *rapportv1.Simulation, again, nobody int64) {
	add := func(format string, args ...any) { res.Remarks = append(res.Remarks, fmt.Sprintf(format, args...)) }
	if again > 0 {
		add("%d of the customers given were there before, under this or another identity, and were decided for once", again)
	}
	if nobody > 0 {
		add("%d of the customers given mean nobody by the schema, and were left out", nobody)
	}
	if x.unknown > 0 {
		add("of %d of the customers nothing is known", x.unknown)
	}
	for i, s := range x.sides {
		if len(s.at) < len(x.asked) {
			add("the catalogue %s the change has %d of the %d touchpoints: nothing is offered at the others", [...]string{"before", "after"}[i], len(s.at), len(x.asked))
		}
	}
	if !res.GetSampled() {
		return
	}
	if res.GetCustomers() < 30 {
		add("fewer than 30 customers: the intervals can't be relied upon")
	}
	scale := float64(res.GetPopulation()) / float64(max(res.GetCustomers(), 1))
	for _, c := range res.GetCapacities() {
		before, after := float64(c.GetTakenBefore())*scale, float64(c.GetTakenAfter())*scale
		if before > float64(c.GetLeftBefore()) || after > float64(c.GetLeftAfter()) {
			res.CapacityShort = true
			add("capacity %s: the sample took %d before and %d after the change, all customers would want about %.0f and %.0f; there are %d and %d",
				c.GetCapacity(), c.GetTakenBefore(), c.GetTakenAfter(), before, after, c.GetLeftBefore(), c.GetLeftAfter())
		}
	}
}
