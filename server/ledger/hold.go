package ledger

import (
	"context"
	"fmt"
	"slices"
)

// maxFreeCustomers bounds the customers that are kept for reuse.
const maxFreeCustomers = 256

// customer is somebody who has pending contacts or is being decided for. The mutex of
// the ledger guards it.
type customer struct {
	name     string
	contacts []*reservation
	held     bool
	waiting  []chan struct{} // first come, first served
}

// Hold is a decision under way: nobody else decides for the customer until End. It is
// used by one goroutine at a time.
type Hold struct {
	l         *Ledger
	now       int64
	customers []*customer // the first by whose name contacts are kept
	one       [1]*customer
	taken     []*period
}

// Begin waits for its turn to decide for a customer and returns when it has come, or the
// context has ended, with its error then. now is the time of the decision. End must be
// called on what it returns, also after a panic.
//
// The first name is that by which the customer is known, and by which contacts are kept.
// The others are names by which contacts of the same person may have been kept before,
// such as those of the other identities of the customer. Without any name the decision is
// for nobody who is known: it has no pending contacts, but can take places.
//
// Read what is pending before the history, and the history after Begin, or a contact that
// is reported just then may be in neither.
func (l *Ledger) Begin(ctx context.Context, now int64, names ...string) (*Hold, error) {
	h := &Hold{l: l, now: now}
	h.customers = h.one[:0]
	if len(names) < 2 {
		for _, name := range names {
			if err := h.hold(ctx, name); err != nil {
				return nil, err
			}
		}
	} else if err := h.holdAll(ctx, names); err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.observe(now)
	l.sweep(2)
	return h, nil
}

// holdAll waits for several, all in the same order, or two decisions could wait for each
// other.
func (h *Hold) holdAll(ctx context.Context, names []string) error {
	ordered := slices.Clone(names)
	slices.Sort(ordered)
	for _, name := range slices.Compact(ordered) {
		if err := h.hold(ctx, name); err != nil {
			h.End()
			return err
		}
	}
	first := slices.IndexFunc(h.customers, func(c *customer) bool { return c.name == names[0] })
	h.customers[0], h.customers[first] = h.customers[first], h.customers[0]
	return nil
}

// hold waits for a customer.
func (h *Hold) hold(ctx context.Context, name string) error {
	l := h.l
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return ErrClosed
	}
	c := l.customer(name)
	h.customers = append(h.customers, c)
	if !c.held {
		c.held = true
		l.mu.Unlock()
		return nil
	}
	turn := make(chan struct{})
	c.waiting = append(c.waiting, turn)
	l.mu.Unlock()
	select {
	case <-turn:
		return nil
	case <-ctx.Done():
	}
	h.customers = h.customers[:len(h.customers)-1]
	l.mu.Lock()
	defer l.mu.Unlock()
	if i := slices.Index(c.waiting, turn); i >= 0 {
		c.waiting = slices.Delete(c.waiting, i, i+1)
	} else { // its turn has come just now
		l.release(c)
	}
	return ctx.Err()
}

// customer returns the customer of a name, who is made if there is none.
func (l *Ledger) customer(name string) *customer {
	c := l.customers[name]
	if c == nil {
		if n := len(l.free) - 1; n >= 0 {
			c, l.free = l.free[n], l.free[:n]
		} else {
			c = new(customer)
		}
		c.name = name
		l.customers[name] = c
	}
	return c
}

// release lets the next one have a customer.
func (l *Ledger) release(c *customer) {
	if len(c.waiting) > 0 {
		close(c.waiting[0])
		c.waiting = slices.Delete(c.waiting, 0, 1)
		return
	}
	c.held = false
	l.forget(c)
}

// forget drops a customer of whom nothing is left.
func (l *Ledger) forget(c *customer) {
	if c.held || len(c.contacts) > 0 {
		return
	}
	delete(l.customers, c.name)
	if len(l.free) < maxFreeCustomers && cap(c.contacts) <= 16 {
		c.name = ""
		l.free = append(l.free, c)
	}
}

// End lets the next decision have the customer, and gives back places that were taken and
// not reserved. After the first time it does nothing.
func (h *Hold) End() {
	l := h.l
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range h.taken {
		l.give(p)
	}
	for _, c := range h.customers {
		l.release(c)
	}
	h.taken, h.customers = nil, nil
}

// Pending returns the contacts of the customer that were decided and neither reported nor
// expired, by time. The caller may keep them.
func (h *Hold) Pending() []Contact {
	l := h.l
	l.mu.Lock()
	l.observe(h.now)
	var encoded []string
	for _, c := range h.customers {
		encoded = l.pendingOf(c, encoded)
	}
	l.mu.Unlock()
	return contactsOf(encoded)
}

// pendingOf appends the contacts of a customer. It ends those that have expired.
func (l *Ledger) pendingOf(c *customer, to []string) []string {
	for i := 0; i < len(c.contacts); {
		r := c.contacts[i]
		if r.expires <= l.clock {
			l.expire(r) // and takes it out of the list
			continue
		}
		to = append(to, r.contact)
		i++
	}
	return to
}

// Peek returns the contacts that a decision at a time would find pending. It waits for
// nobody, and the time has no effect on anything: it is for decisions that have none.
func (l *Ledger) Peek(now int64, names ...string) []Contact {
	l.mu.Lock()
	var encoded []string
	for i, name := range names {
		c := l.customers[name]
		if c == nil || slices.Contains(names[:i], name) {
			continue
		}
		for _, r := range c.contacts {
			if r.expires > max(now, l.clock) {
				encoded = append(encoded, r.contact)
			}
		}
	}
	l.mu.Unlock()
	out := contactsOf(encoded)
	return slices.DeleteFunc(out, func(c Contact) bool { return c.Time > now })
}

// Take takes a place of a capacity that has at most so many, and reports false if none is
// left. The place is the hold's until it is returned, reserved, or the hold ends.
func (h *Hold) Take(p Place, most int64) bool {
	l := h.l
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	l.observe(h.now)
	x := l.take(poolKey{p.Capacity, p.Period}, p.Begin, most)
	if x != nil {
		h.taken = append(h.taken, x)
	}
	return x != nil
}

// Return gives a place back that the hold has taken and not reserved.
func (h *Hold) Return(p Place) {
	h.l.mu.Lock()
	defer h.l.mu.Unlock()
	h.giveBack(&p)
}

func (h *Hold) giveBack(p *Place) {
	for i, x := range h.taken {
		if p.sameAs(x) {
			h.taken = slices.Delete(h.taken, i, i+1)
			h.l.give(x)
			return
		}
	}
}

// Reserve keeps what a decision promises, all of it or, with an error, nothing; then the
// places are given back. When it returns nil, the promise survives the end of the process.
//
// If the context ends before that, its error is returned and the promise is taken back.
// An error of the disk is ErrUnavailable with the cause.
func (h *Hold) Reserve(ctx context.Context, reservations ...Reservation) error {
	if len(reservations) == 0 {
		return nil
	}
	l := h.l
	l.mu.Lock()
	rs, b, err := h.reserve(reservations)
	if err != nil {
		for i := range reservations {
			for k := range reservations[i].Taken {
				h.giveBack(&reservations[i].Taken[k])
			}
		}
	}
	l.mu.Unlock()
	if err != nil {
		return err
	}
	err = l.await(ctx, b)
	if err == nil || !b.isDone() && l.cancel(rs, b) || b.err != nil {
		return err
	}
	return nil // it was written just when the context ended
}

// reserve makes reservations in memory and hands their records to the log.
func (h *Hold) reserve(reservations []Reservation) (rs []*reservation, b *batch, err error) {
	l := h.l
	if l.closed {
		return nil, nil, ErrClosed
	}
	l.observe(h.now)
	if err := l.log.refusal(); err != nil {
		return nil, nil, err
	}
	rs = make([]*reservation, len(reservations))
	moved := 0 // of h.taken, that reservations have
	for i := range reservations {
		x := &reservations[i]
		if err := x.check(h.now); err != nil {
			return nil, nil, fmt.Errorf("reservation %x: %w", x.ID, err)
		}
		if l.reservations[x.ID] != nil || slices.ContainsFunc(reservations[:i], func(y Reservation) bool { return y.ID == x.ID }) {
			return nil, nil, fmt.Errorf("reservation %x: %w", x.ID, ErrExists)
		}
		r := &reservation{id: x.ID, expires: x.Expires, pending: true}
		if len(h.customers) > 0 {
			if r.customer = h.customers[0]; len(r.customer.name) > maxText {
				return nil, nil, fmt.Errorf("reservation %x: the customer's name has more than %d bytes", x.ID, maxText)
			}
		}
		if len(x.Taken) > 0 {
			r.places = make([]place, len(x.Taken))
		}
		for k := range x.Taken {
			p := &x.Taken[k]
			at := slices.IndexFunc(h.taken[moved:], p.sameAs)
			if at < 0 {
				return nil, nil, fmt.Errorf("reservation %x: capacity %s: %w", x.ID, p.Capacity, errNotHeld)
			}
			h.taken[moved], h.taken[moved+at] = h.taken[moved+at], h.taken[moved]
			r.places[k] = place{period: h.taken[moved], takenBy: p.TakenBy, offer: p.Offer}
			moved++
		}
		rs[i] = r
	}
	h.taken = h.taken[moved:]
	for i, r := range rs {
		l.mark(h.now)
		if r.expires <= l.clock {
			l.stepBack(h.now)
		}
		l.scratch = reservations[i].Contact.append(l.scratch[:0])
		r.contact = string(l.scratch)
		l.add(r)
		l.counts.Reserved++
		b = l.log.put(r, h.now, false, change{r: r})
	}
	return rs, b, nil
}

// cancel takes reservations back whose batch is not written yet, and reports false if it
// is.
func (l *Ledger) cancel(rs []*reservation, b *batch) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if b.isDone() {
		return false
	}
	for _, r := range rs {
		if r.ended {
			continue
		}
		l.remove(r)
		l.counts.Reserved--
		l.log.enqueue(func(b []byte) []byte { return appendCancel(b, r.id) }, change{})
	}
	return true
}
