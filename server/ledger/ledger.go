// Package ledger keeps what decisions have promised and nobody has reported yet: the
// contacts that are under way to each customer, and the places of capacities that they
// reserve. With the interaction history it is what contact policies and capacities
// count, so it is exact under concurrency, and across a restart.
//
// It does not know catalogues, policies or profiles: what a limit is and whether it is
// reached is for the caller to say, under the lock of a [Hold]. It does not record
// outcomes: they are events, and it only learns that they came. It does not keep a
// second process out: the caller holds a lock on the folder.
//
// It sits beside decisionlog: server imports it, and it imports nothing of the module
// but profilestore, for the items of a contact.
package ledger

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"sync"
	"time"

	"rapport/profilestore"
)

// ID identifies a reservation: a decision's id if it makes one contact, else what
// follows from it and the channel.
type ID [16]byte

// Contact is one slate in one channel. It says what decide.Contact says.
type Contact struct {
	Time                int64  // microseconds since the Unix epoch
	Channel, Touchpoint string // several touchpoints are joined to one name
	Items               []profilestore.Item
}

// Place is a place of a capacity in one of its periods.
type Place struct {
	Capacity string
	Period   uint8 // how long its periods are, by a number of the caller's; each has counts of its own
	Begin    int64 // when the period began, microseconds since the Unix epoch; 0 for one without end

	// TakenBy is the outcome that takes the place for good, OutcomeContact if any does;
	// of Offer only if that is set. They say nothing in Take and Return.
	TakenBy, Offer string
}

func (p *Place) sameAs(x *period) bool {
	return x.begin == p.Begin && x.pool.key.period == p.Period && x.pool.key.capacity == p.Capacity
}

// Reservation is what a decision promises: a contact, and the places that it needs.
type Reservation struct {
	ID      ID
	Contact Contact
	Expires int64   // when it ends if no outcome is reported; after the time of the decision
	Taken   []Place // by Hold.Take of the same hold
}

// The limits of a reservation; what has passed the checks of a catalogue is far below.
const (
	maxItems  = 1000
	maxPlaces = 1000
	maxText   = 1 << 13 // bytes of a name; touchpoints may be joined to one
)

// Errors.
var (
	// ErrUnavailable means that nothing can be written to disk, so nothing can be
	// promised. It is wrapped with the cause. What made it fail may end, so each call
	// tries anew.
	ErrUnavailable = errors.New("the ledger can't be written")
	// ErrClosed means that the ledger was closed.
	ErrClosed = errors.New("the ledger is closed")
	// ErrExists means that there is a reservation with this id.
	ErrExists = errors.New("the reservation exists")
	// errNotHeld means that a place was not taken by the hold.
	errNotHeld = errors.New("the place was not taken by this decision")
)

// Options say how a ledger works. The zero value is good.
type Options struct {
	// SyncEvery is how often what was written is made durable; default 1 s. So much can
	// be lost with the power, nothing with the process. Negative: never, and nothing is
	// compacted either; for tests that do it by hand.
	SyncEvery time.Duration
	// SegmentBytes is the size at which a new file is begun; default 16 MiB.
	SegmentBytes int64
	// SlackBytes is how much more than twice what is needed the files may hold before
	// they are compacted; default 64 MiB.
	SlackBytes int64
	// Logger is told of damage and failures; default: nobody.
	Logger *slog.Logger
	// FS is for tests; default: the operating system.
	FS FS
}

func (o Options) withDefaults() Options {
	if o.SyncEvery == 0 {
		o.SyncEvery = time.Second
	}
	if o.SegmentBytes <= 0 {
		o.SegmentBytes = 16 << 20
	}
	if o.SlackBytes <= 0 {
		o.SlackBytes = 64 << 20
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.FS == nil {
		o.FS = osFS{}
	}
	return o
}

// Ledger keeps reservations. All methods are safe for concurrent use.
//
// # Who may decide
//
// A limit per customer is exact only if nobody else decides for the same customer
// between the look at what is promised and the new promise. So a decision holds the
// customer from Begin to End; others who want the same customer wait, first come, first
// served, and nobody else does. Capacities belong to nobody: Take takes a place at the
// moment when the decision wants it, and gives it back if nothing comes of it. Who gets
// the last place is therefore who asks first, whatever their score: to wait for a better
// customer would need to know the future.
//
// # What is counted when
//
// A reservation is pending until an outcome is reported or it expires. A report is an
// event first and a Commit second, and a decision reads what is pending first and the
// history second: so a contact is in one of them at least, and for a moment in both.
//
// # Time
//
// The ledger has no clock: each call brings its time. A reservation has expired as soon
// as any call, for whichever customer, has brought its Expires or later; and what has
// expired stays so when the clock steps back. clock is the latest time that was brought,
// and as long as new reservations expire after it, comparing with it says all. One that
// does not is made after the clock has stepped back by more than it lasts: then
// everything expired is removed once, and clock goes back too. So nothing has a timer.
// What has expired is removed by whoever meets it: a decision for the customer, one that
// finds a capacity full, and a few with each reservation.
//
// A mark per reservation, set by who first finds it expired, would need no clock that
// all share; but then what is pending would depend on who has looked.
//
// # On disk
//
// See log for how it is written and compacted, and format.go for the bytes.
//
// One mutex guards all that is in memory; nothing is read, written or waited for under
// it. Stripes would let more decisions pass at once than one disk's log can: BenchmarkParallel.
type Ledger struct {
	o   Options
	dir string
	log *log

	mu           sync.Mutex
	closed       bool
	clock        int64 // the latest time that was brought, since it stepped back
	high         int64 // the latest ever
	logged       int64 // what clock is for who reads the log
	peak         int64 // what clock was before it stepped back, if that could not be written; else noPeak
	customers    map[string]*customer
	free         []*customer
	reservations map[ID]*reservation
	expiry       expiryHeap // of all reservations
	pools        map[poolKey]*pool
	counts       Stats
	scratch      []byte
	recovery     Recovery
}

// Stats says what a ledger holds and what it has done since it was opened.
type Stats struct {
	// Now.
	Reservations int   // that have not expired, as far as anybody has looked
	Pending      int   // of them, those of which nothing was reported
	Places       int64 // that are reserved, also by decisions under way
	Customers    int   // who have pending contacts or are being decided for

	// Since it was opened.
	Reserved  uint64 // reservations made
	Expired   uint64 // reservations that ended with nothing reported, or with places given back
	Committed uint64 // outcomes that ended a pending contact or took places
	Unchanged uint64 // outcomes that changed nothing
	Late      uint64 // outcomes of reservations that had expired
	Unknown   uint64 // outcomes of reservations that are not known
	Refused   uint64 // times a capacity had no place
	StepsBack uint64 // times the clock stepped back by more than a reservation lasts

	// Of the disk.
	Files            int
	Bytes, LiveBytes int64  // in the files, and of them what is needed
	Compacted        uint64 // reservations that were written again
	Failures         uint64 // writes and syncs that failed
	Failure          error  // why nothing can be written at present, nil if the last write succeeded
}

// Stats returns them.
func (l *Ledger) Stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.counts
	s.Reservations, s.Customers = len(l.reservations), len(l.customers)
	l.log.addTo(&s)
	return s
}

// Reading is what a capacity has given away in a period.
type Reading struct {
	Capacity        string
	Period          uint8
	Begin           int64
	Taken, Reserved int64
}

// Readings returns those of all capacities and the periods that are remembered, in no
// order.
func (l *Ledger) Readings() []Reading {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []Reading
	for _, q := range l.pools {
		for _, p := range q.periods {
			l.drain(p)
			out = append(out, Reading{q.key.capacity, q.key.period, p.begin, p.taken, p.reserved})
		}
	}
	return out
}

const noPeak = math.MinInt64

// observe takes note of the time of a call.
func (l *Ledger) observe(now int64) {
	l.clock, l.high = max(l.clock, now), max(l.high, now)
}

// stepBack makes the clock go back.
func (l *Ledger) stepBack(now int64) {
	l.sweep(math.MaxInt)
	l.log.open.peak = max(l.log.open.peak, l.clock)
	l.clock, l.logged = now, now
	l.counts.StepsBack++
}

// sweep removes what has expired, at most n reservations.
func (l *Ledger) sweep(n int) (more bool) {
	for len(l.expiry) > 0 && l.expiry[0].expires <= l.clock {
		if n == 0 {
			return true
		}
		n--
		if r := l.expiry.pop(); !r.ended {
			l.expire(r)
		}
	}
	return false
}

// await returns when a batch was written. If the context ends before, it returns its
// error.
func (l *Ledger) await(ctx context.Context, b *batch) error {
	select {
	case <-b.done:
		return b.err
	default:
	}
	select {
	case <-b.done:
		return b.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Close makes everything durable. Holds may still be ended, nothing else can be done.
func (l *Ledger) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	if l.logged < l.clock && l.log.refusal() == nil {
		l.mark(math.MinInt64)
	}
	l.mu.Unlock()
	return l.log.close()
}

// Sync makes durable what has come before. Those who ask at the same time share a sync of
// the disk. An error is ErrUnavailable with its cause, or that of the context.
func (l *Ledger) Sync(ctx context.Context) error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return ErrClosed
	}
	b := l.log.next
	if b == nil {
		b = l.log.syncSoon()
	}
	l.mu.Unlock()
	return l.await(ctx, b)
}
