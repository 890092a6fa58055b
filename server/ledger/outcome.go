package ledger

import (
	"context"
	"slices"
)

// OutcomeContact is the outcome that says no more than that the contact was made. Every
// other outcome says that too.
const OutcomeContact = "contact"

// Outcome is what came of a reservation.
type Outcome struct {
	Name  string
	Offer string // of which offer of the slate; empty: of all
	// Expires is what the reservation had, if the caller knows it: by that an outcome
	// which comes after the reservation was forgotten is known to be late.
	Expires int64
}

// Result says what an outcome did.
type Result uint8

// The results.
const (
	// Committed: it ended the pending contact, or took places, or both.
	Committed Result = iota + 1
	// Unchanged: nothing is left that it ends or takes. It came before, or takes nothing.
	Unchanged
	// Late: the reservation had expired, and its places were given back. It did nothing.
	Late
	// Unknown: there is no such reservation. It did nothing.
	Unknown
)

func (r Result) String() string {
	switch r {
	case Committed:
		return "committed"
	case Unchanged:
		return "unchanged"
	case Late:
		return "late"
	case Unknown:
		return "unknown"
	}
	return "none"
}

// Commit notes an outcome: the contact is no longer pending, the places of the slate that
// a contact takes are taken for good, and those of the offer that the outcome takes. The
// event must be in the history before, so that the contact is never in neither. What an
// outcome does not take stays reserved until the reservation expires.
//
// When it returns without an error, what it did survives the end of the process; for a
// loss of power see Taken. An error
// is ErrUnavailable with its cause: nothing was done; or that of the context: perhaps it
// was. Calling it again does no harm in any case.
func (l *Ledger) Commit(ctx context.Context, id ID, o Outcome, now int64) (Result, error) {
	for {
		l.mu.Lock()
		result, b, err := l.commit(id, o, now)
		l.mu.Unlock()
		if err != nil {
			return 0, err
		}
		if b != nil {
			if err := l.await(ctx, b); err != nil {
				if result == Unchanged && ctx.Err() == nil {
					continue // what it seemed to repeat was undone
				}
				return 0, err
			}
		}
		l.mu.Lock()
		l.counts.note(result)
		l.mu.Unlock()
		return result, nil
	}
}

// Taken reports whether an outcome of a reservation, which was committed, may have taken a
// place for good. That survives a loss of power when Sync has returned.
func (l *Ledger) Taken(id ID) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.reservations[id]
	return r == nil || slices.ContainsFunc(r.places, func(p place) bool { return p.taken }) // or it has expired since
}

func (s *Stats) note(r Result) {
	switch r {
	case Committed:
		s.Committed++
	case Unchanged:
		s.Unchanged++
	case Late:
		s.Late++
	case Unknown:
		s.Unknown++
	}
}

// commit changes what is in memory. What it did holds when the batch was written.
func (l *Ledger) commit(id ID, o Outcome, now int64) (Result, *batch, error) {
	if l.closed {
		return 0, nil, ErrClosed
	}
	l.observe(now)
	r := l.reservations[id]
	if r != nil && r.expires <= l.clock {
		l.expire(r)
		return Late, nil, nil
	}
	if r == nil {
		if o.Expires != 0 && o.Expires <= l.high {
			return Late, nil, nil
		}
		return Unknown, nil, nil
	}
	var took []int
	for i := range r.places {
		p := &r.places[i]
		if !p.taken && (p.takenBy == OutcomeContact || p.takenBy == o.Name && (o.Offer == "" || p.offer == "" || p.offer == o.Offer)) {
			took = append(took, i)
		}
	}
	if !r.pending && len(took) == 0 {
		return Unchanged, l.log.unwritten(), nil
	}
	if err := l.log.refusal(); err != nil {
		return 0, nil, err
	}
	l.mark(now)
	b := l.log.enqueue(func(b []byte) []byte { return r.appendCommit(b, now, took) }, change{undo: l.undoCommit(r, took)})
	l.takeForGood(r, took)
	return Committed, b, nil
}

// takeForGood makes places of a reservation taken, and its contact no longer pending.
func (l *Ledger) takeForGood(r *reservation, took []int) {
	for _, i := range took {
		p := &r.places[i]
		p.taken = true
		p.period.reserved--
		p.period.taken++
		l.counts.Places--
	}
	l.settle(r)
	r.contact = ""
}

// undoCommit returns what makes undone what takeForGood is about to do. The reservation
// may have expired between the two; then it expires again.
func (l *Ledger) undoCommit(r *reservation, took []int) func() {
	pending, contact, places := r.pending, r.contact, r.places
	known, name := r.customer != nil, ""
	if known {
		name = r.customer.name
	}
	return func() {
		for _, i := range took {
			places[i].period.taken--
		}
		if r.ended {
			return
		}
		for _, i := range took {
			p := &places[i]
			p.taken = false
			p.period.reserved++ // it is still in the heap of the period
			l.counts.Places++
		}
		if pending {
			r.pending, r.contact = true, contact
			l.counts.Pending++
			if known {
				r.customer = l.customer(name)
				r.customer.contacts = append(r.customer.contacts, r)
			}
		}
	}
}

// unwritten returns the batch after which everything is written that has come, nil if it
// is.
func (g *log) unwritten() *batch {
	switch {
	case len(g.open.buf) > 0:
		return g.open
	case g.flight != nil:
		return g.flight
	}
	return nil
}
