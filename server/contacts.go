package server

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/oklog/ulid/v2"
	"google.golang.org/protobuf/types/known/timestamppb"

	"rapport/profilestore"
	rapportv1 "rapport/server/api/rapport/v1"
	"rapport/server/catalog"
	"rapport/server/decide"
	"rapport/server/decisionlog"
	"rapport/server/ledger"
)

// Why contacts can't be reserved.
var (
	errCustomerBusy = errors.New("others were deciding for the same customer for the share of the deadline in which to wait")
	errReserveLate  = errors.New("the reservation was not written in time")
	errReserve      = errors.New("the reservation could not be written")
	errReadAgain    = errors.New("what the customer met meanwhile could not be read")
)

// reserveTime is what a reservation has to be written in, also where ranking took all of
// the deadline: it takes some 50 µs unless the disk is in trouble.
const reserveTime = 5 * time.Millisecond

// decide makes a decision while nobody else decides for the same customer.
//
// How often a customer was contacted is what the history says and what other decisions
// have promised. A promise becomes history by a report, which writes the history
// first; so under the customer's lock, with the promises read before the history, a
// contact is in one of them, or for a moment in both. What the history dates after the
// decision counts, as does what is pending with a later time: a decision takes its time
// when it is asked, and then waits for the lock, so those before it may have a later one.
//
// A dry run reads the promises and makes none.
func (s decisions) decide(ctx context.Context, q *question, d *decision) error {
	r, c := &d.request, d.live.compiled
	if len(c.Policies)+len(c.Capacities) == 0 {
		return s.run(ctx, q, d)
	}
	if r.Dry {
		d.met(s.ledger.Peek(r.Now, d.who.names()...))
		r.Places = &places{catalog: c, now: r.Now, free: s.ledger.Free}
		return s.run(ctx, q, d)
	}
	held, pending, err := s.hold(ctx, d)
	if err != nil {
		return s.runClosed(ctx, q, d, err)
	}
	defer func() { held.End() }()
	d.met(pending)
	taking := &places{catalog: c, now: r.Now, hold: held}
	r.Places = taking
	if err := s.run(ctx, q, d); err != nil {
		return err
	}
	if err := s.reserve(ctx, held, d.reservations(taking), r.Deadline); err != nil {
		return s.runClosed(ctx, q, d, err)
	}
	return nil
}

// reserve keeps what a decision promises, in time.
func (s decisions) reserve(ctx context.Context, held *ledger.Hold, promises []ledger.Reservation, deadline time.Time) error {
	if soon := time.Now().Add(reserveTime); deadline.Before(soon) {
		deadline = soon
	}
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	err := held.Reserve(ctx, promises...)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return errReserveLate
	}
	return fmt.Errorf("%w: %w", errReserve, err)
}

// runClosed decides where contacts can't be reserved: what must be limited is not
// offered. Who has gone meanwhile gets no answer.
func (s decisions) runClosed(ctx context.Context, q *question, d *decision, err error) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return ctx.Err()
	}
	s.metrics.unreserved.Inc()
	r := &d.request
	r.Unreserved, r.Places = err, full{}
	return s.run(ctx, q, d)
}

// met gives the decision what the customer met, and what others have promised.
func (d *decision) met(pending []ledger.Contact) {
	d.metRead = true
	for i := range pending {
		p := &pending[i]
		d.request.Pending = append(d.request.Pending, decide.Contact{Time: p.Time, Channel: p.Channel, Touchpoint: p.Touchpoint, Items: p.Items})
	}
}

// full are places of which none is left.
type full struct{}

func (full) Take(int, int, int) bool { return false }
func (full) Return(int, int, int)    {}

// names returns by which names contacts of a customer may be kept: the first is the one
// by which they are from now on. There are none of one who is not known.
func (k known) names() []string {
	if k.view == nil || k.blocked {
		return nil
	}
	names := []string{k.view.Customer()}
	if k.view.IdentityEpoch() == 0 {
		return names
	}
	for _, m := range k.view.Group().Members {
		if m.Until == 0 && !slices.Contains(names, m.Identity) {
			names = append(names, m.Identity)
		}
	}
	return names
}

// hold takes the customer's lock, then reads what is pending, and only then the profile
// again, which may have changed since, and with it who the customer is: what is reported
// between the two is in both, and would be in neither the other way round. For the lock it
// waits half of what is left of the deadline; the other half is for the answer.
func (s decisions) hold(ctx context.Context, d *decision) (held *ledger.Hold, pending []ledger.Contact, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Until(d.request.Deadline)/2)
	defer cancel()
	for {
		known := d.who.names()
		held, err = s.ledger.Begin(ctx, d.request.Now, known...)
		switch {
		case err != nil && ctx.Err() != nil:
			return nil, nil, errCustomerBusy
		case err != nil:
			return nil, nil, fmt.Errorf("%w: %w", errReserve, err)
		case known == nil:
			return held, nil, nil
		}
		pending = held.Pending()
		view := s.store.CachedView(d.who.identity)
		if view == nil {
			// Not from the cache: it is read while others wait who ask for the same customer.
			// With what was read before a contact could be missed that was reported since.
			if view, err = s.readProfile(d.who.identity, d.request.Deadline); err != nil {
				held.End()
				return nil, nil, fmt.Errorf("%w: %w", errReadAgain, err)
			}
		}
		d.who.view = view
		meet(view, &d.request)
		if slices.Equal(d.who.names(), known) {
			return held, pending, nil
		}
		held.End()
	}
}

// run decides, when there is a processor for it: who waits for a disk, or for another
// decision about the same customer, needs none.
func (s decisions) run(ctx context.Context, q *question, d *decision) error {
	if err := s.admission.enter(ctx); err != nil {
		return err
	}
	defer s.admission.leave()
	if len(d.at) == 1 && !q.one {
		d.live.decider.Decide(ctx, &d.request, &d.answers[0])
	} else {
		d.live.decider.DecideMany(ctx, &d.request, d.at, q.one, d.answers)
	}
	d.gather()
	return nil
}

// contact is a slate that goes out: all that the answer offers in one channel.
type contact struct {
	channel    int    // in Compiled.Channels
	touchpoint string // all that have a part of it, joined as in the history
	items      []profilestore.Item
}

// gather finds the contacts that the decision makes, of each channel one, in the order
// of the answer.
func (d *decision) gather() {
	c := d.live.compiled
	d.contacts = d.contacts[:0]
	for i := range d.answers {
		t := &c.Touchpoints[d.at[i].Touchpoint]
		for _, p := range d.answers[i].Slate {
			x := d.contact(p.Channel)
			if x == nil {
				d.contacts = append(d.contacts, contact{channel: p.Channel})
				x = &d.contacts[len(d.contacts)-1]
			}
			x.touchpoint = profilestore.JoinTouchpoints(x.touchpoint, t.ID)
			o := &c.Offers[p.Offer]
			x.items = append(x.items, profilestore.Item{Offer: o.ID, Group: o.Group, Class: o.Class.String()})
		}
	}
}

// contact returns the contact in a channel, nil if there is none.
func (d *decision) contact(channel int) *contact {
	for i := range d.contacts {
		if d.contacts[i].channel == channel {
			return &d.contacts[i]
		}
	}
	return nil
}

// reservations are what a decision promises.
func (d *decision) reservations(taken *places) []ledger.Reservation {
	out := make([]ledger.Reservation, len(d.contacts))
	for i := range d.contacts {
		x := &d.contacts[i]
		ch := &d.live.compiled.Channels[x.channel]
		out[i] = ledger.Reservation{
			ID:      ledgerID(d.id, ch.ID),
			Contact: ledger.Contact{Time: d.request.Now, Channel: ch.ID, Touchpoint: x.touchpoint, Items: x.items},
			Expires: d.request.Now + ch.Hold.Microseconds(),
			Taken:   taken.of(x.channel),
		}
	}
	return out
}

// ledgerID identifies the contact of a decision in a channel.
func ledgerID(decision ulid.ULID, channel string) ledger.ID {
	sum := sha256.Sum256(append(decision[:], channel...))
	return ledger.ID(sum[:16])
}

// addTokens gives each placement of a touchpoint its token.
func (s decisions) addTokens(d *decision, i int, res *rapportv1.TouchpointDecision) {
	if d.request.Dry || d.who.blocked || len(res.GetSlate()) == 0 {
		return
	}
	customer := d.who.identity
	if d.who.view != nil {
		customer = d.who.view.Customer()
	}
	for k, p := range d.answers[i].Slate {
		ch, x, offer := &d.live.compiled.Channels[p.Channel], d.contact(p.Channel), d.live.compiled.Offers[p.Offer].ID
		until := d.request.Now + ch.Hold.Microseconds()
		res.Slate[k].Token = s.tokens.seal(&token{
			decision: d.id, time: d.request.Now, expires: until, customer: customer, channel: ch.ID, touchpoint: x.touchpoint,
			at: d.live.compiled.Touchpoints[d.at[i].Touchpoint].ID, items: x.items, item: slices.IndexFunc(x.items, func(y profilestore.Item) bool { return y.Offer == offer }),
		})
		res.ValidUntil = timestamppb.New(time.UnixMicro(until))
	}
}

// places are the capacities of a catalogue, for one decision.
type places struct {
	catalog *catalog.Compiled
	now     int64
	hold    *ledger.Hold                    // what is taken is the hold's; or, for a dry run:
	free    func(ledger.Place, int64) int64 // how many are left
	taken   []taken
	asked   []decisionlog.PlaceAsked
}

// taken is a place that a decision took, for one offer or, where a contact takes one
// whatever is in it, for all in a channel.
type taken struct {
	place                    ledger.Place
	capacity, offer, channel int // offer is −1 for all
	uses                     int
}

// find returns what is taken of a capacity for an offer in a channel.
func (p *places) find(capacity, offer, channel int) *taken {
	for i := range p.taken {
		if t := &p.taken[i]; t.capacity == capacity && t.channel == channel && (t.offer == offer || t.offer < 0) {
			return t
		}
	}
	return nil
}

// Take implements decide.Places.
func (p *places) Take(capacity, offer, channel int) bool {
	ok := p.take(capacity, offer, channel)
	c := p.catalog
	p.asked = append(p.asked, decisionlog.PlaceAsked{
		Capacity: c.Capacities[capacity].ID, Offer: c.Offers[offer].ID, Channel: c.Channels[channel].ID, Taken: ok,
	})
	return ok
}

func (p *places) take(capacity, offer, channel int) bool {
	if t := p.find(capacity, offer, channel); t != nil {
		t.uses++
		return true
	}
	c := &p.catalog.Capacities[capacity]
	t := taken{capacity: capacity, offer: offer, channel: channel, uses: 1, place: ledger.Place{
		Capacity: c.ID, Period: uint8(c.Period), Begin: c.Period.Begin(p.now, p.catalog.Clock.Zone),
		TakenBy: c.TakenBy, Offer: p.catalog.Offers[offer].ID,
	}}
	if c.TakenBy == catalog.CountContacts {
		t.offer, t.place.TakenBy, t.place.Offer = -1, ledger.OutcomeContact, ""
	}
	if p.hold != nil {
		if !p.hold.Take(t.place, c.Max) {
			return false
		}
	} else {
		left := p.free(t.place, c.Max)
		for i := range p.taken {
			if p.taken[i].capacity == capacity {
				left--
			}
		}
		if left <= 0 {
			return false
		}
	}
	p.taken = append(p.taken, t)
	return true
}

// Return implements decide.Places.
func (p *places) Return(capacity, offer, channel int) {
	t := p.find(capacity, offer, channel)
	if t == nil {
		return
	}
	if t.uses--; t.uses > 0 {
		return
	}
	if p.hold != nil {
		p.hold.Return(t.place)
	}
	p.taken = slices.DeleteFunc(p.taken, func(x taken) bool { return x.uses == 0 })
}

// of returns the places that are taken for a channel.
func (p *places) of(channel int) []ledger.Place {
	var out []ledger.Place
	for i := range p.taken {
		if p.taken[i].channel == channel {
			out = append(out, p.taken[i].place)
		}
	}
	return out
}
