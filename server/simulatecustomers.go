package server

import (
	"cmp"
	"container/heap"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"rapport/profilestore"
	"rapport/profilestore/rules"
	rapportv1 "rapport/server/api/rapport/v1"
)

// maxDrawn is how many customers a simulation holds at once: some 60 bytes each.
const maxDrawn = 1 << 19

// samplePool is how many times as many customers as a sample has it is drawn from at
// least. Of a large population, which it would take long to walk over whole, the others
// are passed over by their identity, the same ones each time.
const samplePool = 64

// drawn is a customer in the order of a simulation.
//
// The order is that of a hash of seed and customer. Each seed gives another, in which no
// place in a file or in the store is favoured; and it does not depend on how the customers
// are found. The first so many of it are a random sample. Who comes first in it gets the
// last place of a capacity, the same before and after the change. To hold all customers
// and shuffle them would take a gigabyte for ten million: where there are more than
// maxDrawn the next are found by another walk, and reading all rows ten times is still
// less than deciding twice for each.
type drawn struct {
	order uint64
	name  string
}

func compareDrawn(a, b drawn) int {
	return cmp.Or(cmp.Compare(a.order, b.order), cmp.Compare(a.name, b.name))
}

// drawnHeap has the last first.
type drawnHeap []drawn

func (h drawnHeap) Len() int           { return len(h) }
func (h drawnHeap) Less(i, j int) bool { return compareDrawn(h[i], h[j]) > 0 }
func (h drawnHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *drawnHeap) Push(any)          {} // nothing is pushed
func (h *drawnHeap) Pop() any          { return nil }

// Salts that make two numbers of one seed.
const (
	orderSalt = 0x6f72646572 // "order"
	seedSalt  = 0x73656564   // "seed"
)

// numbersOf returns a customer's place in the order, and the seed of the customer's
// decisions.
func numbersOf(seed uint64, name string) (order, own uint64) {
	h := customerHash(name)
	return mix64(h ^ mix64(seed+orderSalt)), mix64(h ^ mix64(seed+seedSalt))
}

// draw is how the customers of a simulation are found.
type draw struct {
	server   *Server
	seed     uint64
	now      int64
	most     int64 // customers to have in all; 0: all
	hold     int   // at once
	share    float64
	segments *simulatedSegments
	progress func(done, total int64) error

	customers []drawn // given ones, in order; nil: those of the snapshots
	first     drawn   // what comes before those that were drawn last
	begun     bool
	have      int64

	seen      int64 // in the first walk, who are in the segments
	snapshots []profilestore.WalkedSnapshot
}

// newDraw says who is simulated.
func (s *Server) newDraw(m *rapportv1.SimulateRequest, now int64, segments *simulatedSegments, progress func(done, total int64) error) *draw {
	d := &draw{server: s, seed: m.GetSeed(), now: now, most: m.GetSample(), hold: maxDrawn, share: 1, segments: segments, progress: progress}
	if s.config.simulatedAtOnce > 0 {
		d.hold = s.config.simulatedAtOnce
	}
	rows := int64(0)
	set := s.store.Snapshots().Acquire()
	defer set.Release()
	for i := range s.store.Schema().Sources() {
		if snap := set.Source(i); snap != nil {
			rows = max(rows, snap.Rows())
		}
	}
	if pool := samplePool * m.GetSample(); pool > 0 && pool < rows && len(m.GetSegments()) == 0 {
		d.share = float64(pool) / float64(rows)
	}
	return d
}

// next returns the customers who come next in the order, none at the end.
func (d *draw) next(ctx context.Context) ([]drawn, error) {
	if d.customers != nil {
		all := d.customers
		d.customers = all[:0]
		return all, nil
	}
	most := d.hold
	if d.most > 0 {
		most = int(min(int64(most), d.most-d.have))
	}
	if most == 0 {
		return nil, nil
	}
	h := make(drawnHeap, 0, min(most, 4096))
	walked, err := d.server.store.Walk(ctx, profilestore.WalkOptions{Sample: d.share, Turn: d.server.turn, Progress: d.report}, func(v *profilestore.View) error {
		if !d.segments.wanted(v.At(d.now), d.now) {
			return nil
		}
		if !d.begun {
			d.seen++
		}
		order, _ := numbersOf(d.seed, v.Customer())
		if d.have > 0 && order < d.first.order || len(h) == most && order > h[0].order {
			return nil
		}
		x := drawn{order, v.Customer()}
		switch {
		case d.have > 0 && compareDrawn(x, d.first) <= 0:
		case len(h) < most:
			if h = append(h, x); len(h) == most {
				heap.Init(&h)
			}
		case compareDrawn(x, h[0]) < 0:
			h[0] = x
			heap.Fix(&h, 0)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if !d.begun {
		d.begun, d.snapshots = true, walked
	}
	slices.SortFunc(h, compareDrawn)
	h = slices.Compact(h) // whose identities were linked meanwhile may be there twice
	d.have += int64(len(h))
	if len(h) > 0 {
		d.first = h[len(h)-1]
	}
	return h, nil
}

// report tells how far a walk is.
func (d *draw) report(done, total int64) { _ = d.progress(done, total) } // who has gone has ended ctx too

// population returns of how many customers those drawn are, and whether it is estimated.
func (d *draw) population() (n int64, estimated bool) {
	if d.share < 1 {
		return max(int64(math.Round(float64(d.seen)/d.share)), d.have), true
	}
	return max(d.seen, d.have), false
}

// given puts customers who are given into the order, and returns how many were others
// again, and how many mean nobody.
func (d *draw) given(ctx context.Context, names []string) (again, nobody int64, err error) {
	d.customers = make([]drawn, 0, len(names))
	for i, name := range names {
		identity, err := profilestore.ParseIdentity(name)
		if err != nil {
			return 0, 0, &argumentError{fmt.Sprintf("customers[%d]", i), err.Error()}
		}
		if _, blocked := d.server.store.Schema().BlockedIdentity(identity); blocked {
			nobody++
			continue
		}
		end, err := d.server.turn(ctx)
		if err != nil {
			return 0, 0, err
		}
		v, err := d.server.store.ViewAside(ctx, identity)
		if err == nil && d.segments.wanted(v.At(d.now), d.now) {
			order, _ := numbersOf(d.seed, v.Customer())
			d.customers = append(d.customers, drawn{order, v.Customer()})
		}
		end()
		if err == nil {
			err = d.progress(int64(i+1), int64(len(names)))
		}
		if err != nil {
			return 0, 0, err
		}
	}
	slices.SortFunc(d.customers, compareDrawn)
	n := len(d.customers)
	d.customers = slices.Compact(d.customers)
	d.have = int64(len(d.customers))
	d.seen = d.have
	return int64(n) - d.have, nobody, nil
}

// turn waits for the turn of a stretch of work in the background: see
// profilestore.WalkOptions.
func (s *Server) turn(ctx context.Context) (end func(), err error) {
	if s.stopping.Load() {
		return nil, errStopping
	}
	if err := s.admission.enterBackground(ctx); err != nil {
		return nil, err
	}
	return s.admission.leaveBackground, nil
}

// simulatedSegments are the segments that a simulation tells apart: those of the
// catalogue before the change, as they are there, and those that only the other has.
type simulatedSegments struct {
	rules   [2]*rules.Evaluation
	tables  rules.TableSet
	all     []simulatedSegment
	only    []int // one of these; all if empty
	members []bool
}

type simulatedSegment struct {
	id   string
	side int
	when rules.Rule
}

// newSimulatedSegments returns the segments of two catalogues. only are those whose
// members are simulated.
func newSimulatedSegments(sides [2]*simulatedSide, only []string) (*simulatedSegments, error) {
	s := &simulatedSegments{tables: sides[0].tables}
	for i, x := range sides {
		s.rules[i] = x.catalog.Rules.NewEvaluation()
		for _, g := range x.catalog.Segments {
			if s.index(g.ID) < 0 {
				s.all = append(s.all, simulatedSegment{g.ID, i, g.When})
			}
		}
	}
	s.members = make([]bool, len(s.all))
	for i, id := range only {
		at := s.index(id)
		if at < 0 {
			return nil, &argumentError{fmt.Sprintf("segments[%d]", i), fmt.Sprintf("neither catalogue has a segment %.80q", id)}
		}
		s.only = append(s.only, at)
	}
	return s, nil
}

func (s *simulatedSegments) index(id string) int {
	return slices.IndexFunc(s.all, func(x simulatedSegment) bool { return x.id == id })
}

// wanted reports whether a customer is simulated.
func (s *simulatedSegments) wanted(p rules.Profile, now int64) bool {
	if len(s.only) == 0 {
		return true
	}
	s.of(p, now)
	return slices.ContainsFunc(s.only, func(i int) bool { return s.members[i] })
}

// of returns of which segments a customer is a member, by their places in all. It is
// valid until the next call.
func (s *simulatedSegments) of(p rules.Profile, now int64) []bool {
	for i := range s.rules {
		s.rules[i].Reset(rules.Inputs{Profile: p, Tables: s.tables, Now: now})
	}
	for i := range s.all {
		s.members[i] = s.rules[s.all[i].side].Evaluate(s.all[i].when) == rules.True
	}
	return s.members
}

var errSimulationRunning = errors.New("a simulation is running already: wait for it to end; one runs at a time")
