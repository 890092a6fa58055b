package server

import (
	"context"
	"fmt"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	rapportv1 "rapport/server/api/rapport/v1"
	"rapport/server/catalog"
	"rapport/server/decide"
	"rapport/server/evidence"
	"rapport/server/ledger"
)

// readings answers the ReadingService.
type readings struct{ *Server }

// ListPropensities lists what decisions take for the propensity of offers.
func (s readings) ListPropensities(_ context.Context, req *connect.Request[rapportv1.ListPropensitiesRequest]) (*connect.Response[rapportv1.ListPropensitiesResponse], error) {
	l := s.acquire()
	if l == nil {
		return nil, errNoCatalog
	}
	defer s.release(l)
	c := l.compiled
	places := make(map[string]int, len(c.Offers))
	for i := range c.Offers {
		places[c.Offers[i].ID] = i
	}
	chosen := make(map[int]bool)
	for i, id := range req.Msg.GetOffers() {
		place, ok := places[id]
		if !ok {
			return nil, &argumentError{fmt.Sprintf("offers[%d]", i), fmt.Sprintf("there is no offer %.80q in catalogue version %d", id, c.Version)}
		}
		chosen[place] = true
	}
	reading := l.evidence.Load()
	res := &rapportv1.ListPropensitiesResponse{CatalogVersion: c.Version, Reading: reading.Number}
	list := offerChannels(c, len(chosen) == 0 && !req.Msg.GetAll())
	s.learning.counter.Read(func(_ uint64, count func(evidence.Key) uint64) {
		for _, x := range list {
			if len(chosen) > 0 && !chosen[x.Offer] {
				continue
			}
			n := reading.Count(x.Offer, x.Channel)
			if o := &c.Offers[x.Offer]; o.Propensity.StartEvidence <= 0 {
				k := evidence.Key{Offer: o.ID, Channel: c.Channels[x.Channel].ID}
				n.Presented = count(k)
				k.Outcome = catalog.Accepted
				n.Successes = count(k)
			}
			res.Propensities = append(res.Propensities, offerPropensity(c, n))
		}
	})
	return connect.NewResponse(res), nil
}

func offerPropensity(c *catalog.Compiled, n decide.EvidenceCount) *rapportv1.OfferPropensity {
	o := &c.Offers[n.Offer]
	p := &o.Propensity
	m := &rapportv1.OfferPropensity{
		Offer: o.ID, Channel: c.Channels[n.Channel].ID, Start: p.Start, Success: catalog.Accepted, Propensity: p.Start,
		Evidence: evidenceMessage(n),
	}
	if p.Slot >= 0 {
		m.Field = c.Schema.Fields()[p.Slot].Name
	}
	if p.StartEvidence > 0 {
		m.StartEvidence, m.Success, m.Propensity = new(p.StartEvidence), p.Success, p.Learned(n.Presented, n.Successes)
	}
	return m
}

func evidenceMessage(n decide.EvidenceCount) *rapportv1.PropensityEvidence {
	return &rapportv1.PropensityEvidence{Presented: int64(n.Presented), Successes: int64(n.Successes)}
}

// ListCapacities lists what is left of capacities.
func (s readings) ListCapacities(context.Context, *connect.Request[rapportv1.ListCapacitiesRequest]) (*connect.Response[rapportv1.ListCapacitiesResponse], error) {
	l := s.acquire()
	if l == nil {
		return nil, errNoCatalog
	}
	defer s.release(l)
	c, now := l.compiled, s.now().UnixMicro()
	if err := s.tellLedger(now); err != nil {
		return nil, err
	}
	res := &rapportv1.ListCapacitiesResponse{CatalogVersion: c.Version}
	for i, given := range capacityReadings(c, s.ledger.Readings(), now) {
		x := &c.Capacities[i]
		m := &rapportv1.CapacityState{
			Id: x.ID, Channels: x.Channels, Groups: x.Groups, Offers: x.Offers, TakenBy: x.TakenBy, Per: x.Period.String(),
			Max: x.Max, Taken: given.Taken, Reserved: given.Reserved, Left: max(x.Max-given.Taken-given.Reserved, 0),
		}
		if x.Period != catalog.PeriodTotal {
			m.Begin = timestamppb.New(time.UnixMicro(given.Begin))
			m.End = timestamppb.New(time.UnixMicro(x.Period.End(now, c.Clock.Zone)))
		}
		res.Capacities = append(res.Capacities, m)
	}
	return connect.NewResponse(res), nil
}

// tellLedger tells the ledger the time, so that what has expired is not shown as reserved.
func (s *Server) tellLedger(now int64) error {
	held, err := s.ledger.Begin(s.ctx, now)
	if err != nil {
		return err
	}
	held.End()
	return nil
}

// capacityReadings returns what each capacity of a catalogue has given away in its
// present period, by its place in Compiled.Capacities.
func capacityReadings(c *catalog.Compiled, all []ledger.Reading, now int64) []ledger.Reading {
	type key struct {
		capacity string
		period   uint8
		begin    int64
	}
	given := make(map[key]ledger.Reading, len(all))
	for _, r := range all {
		given[key{r.Capacity, r.Period, r.Begin}] = r
	}
	out := make([]ledger.Reading, len(c.Capacities))
	for i := range c.Capacities {
		x := &c.Capacities[i]
		out[i] = ledger.Reading{Capacity: x.ID, Period: uint8(x.Period), Begin: x.Period.Begin(now, c.Clock.Zone)}
		if r, ok := given[key{x.ID, uint8(x.Period), out[i].Begin}]; ok {
			out[i] = r
		}
	}
	return out
}
