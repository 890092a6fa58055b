package ledger

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"rapport/profilestore"
)

// reservation is a reservation in memory. It stays there until it has expired, so that
// an outcome that comes twice is known to. The mutex of the ledger guards it.
type reservation struct {
	id       ID
	customer *customer // nil: of nobody who is known
	expires  int64
	contact  string // encoded, as it is in the log: a string holds no pointers to follow; empty once reported
	places   []place
	segment  *segment // of the log, that has its latest record
	bytes    int32    // of that
	pending  bool     // nothing was reported
	ended    bool     // it has expired, or its record could not be written
}

// place is a place that a reservation has.
type place struct {
	period         *period
	takenBy, offer string
	taken          bool // for good
}

// add puts a reservation into the indexes.
func (l *Ledger) add(r *reservation) {
	l.reservations[r.id] = r
	l.expiry.push(r)
	if r.pending {
		l.counts.Pending++
		if r.customer != nil {
			r.customer.contacts = append(r.customer.contacts, r)
		}
	}
	for i := range r.places {
		if p := &r.places[i]; !p.taken {
			p.period.expiry.push(r)
			for range 2 { // or it grows where a capacity is never full
				l.drainOne(p.period)
			}
		}
	}
}

// expire ends a reservation whose time has come.
func (l *Ledger) expire(r *reservation) {
	unused := r.pending
	for i := range r.places {
		unused = unused || !r.places[i].taken
	}
	if unused {
		l.counts.Expired++
	}
	l.remove(r)
}

// remove ends a reservation and gives back what it has. What is in the heaps stays there
// until it comes up.
func (l *Ledger) remove(r *reservation) {
	if r.ended {
		return
	}
	r.ended = true
	delete(l.reservations, r.id)
	for i := range r.places {
		if p := &r.places[i]; !p.taken {
			p.period.reserved--
			l.counts.Places--
		}
	}
	l.settle(r)
	r.leave()
	r.places, r.customer, r.contact = nil, nil, ""
}

// settle ends the pending contact of a reservation, but for what it takes to know it
// again.
func (l *Ledger) settle(r *reservation) {
	if !r.pending {
		return
	}
	r.pending = false
	l.counts.Pending--
	if c := r.customer; c != nil {
		if i := slices.Index(c.contacts, r); i >= 0 {
			c.contacts = slices.Delete(c.contacts, i, i+1)
		}
		r.customer = nil
		l.forget(c)
	}
}

// check returns why a reservation can't be kept.
func (r *Reservation) check(now int64) error {
	long := func(s string) bool { return len(s) > maxText }
	c := &r.Contact
	switch {
	case r.Expires <= now:
		return fmt.Errorf("it expires at %d, not after the decision at %d", r.Expires, now)
	case len(c.Items) > maxItems:
		return fmt.Errorf("it has %d items, at most %d are possible", len(c.Items), maxItems)
	case len(r.Taken) > maxPlaces:
		return fmt.Errorf("it has %d places, at most %d are possible", len(r.Taken), maxPlaces)
	case long(c.Channel) || long(c.Touchpoint) ||
		slices.ContainsFunc(c.Items, func(x profilestore.Item) bool { return long(x.Offer) || long(x.Group) || long(x.Class) }) ||
		slices.ContainsFunc(r.Taken, func(p Place) bool { return long(p.Capacity) || long(p.TakenBy) || long(p.Offer) }):
		return fmt.Errorf("it has a name of more than %d bytes", maxText)
	}
	return nil
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// append encodes a contact.
func (c *Contact) append(b []byte) []byte {
	b = binary.AppendVarint(b, c.Time)
	b = appendText(appendText(b, c.Channel), c.Touchpoint)
	b = binary.AppendUvarint(b, uint64(len(c.Items)))
	for i := range c.Items {
		x := &c.Items[i]
		b = appendText(appendText(appendText(b, x.Offer), x.Group), x.Class)
	}
	return b
}

// contactOf decodes a contact. Its texts are parts of s.
func contactOf(s string) (c Contact, err error) {
	r := reader{s: s}
	c.Time = r.varint()
	c.Channel, c.Touchpoint = r.text(), r.text()
	if n := r.count(maxItems); n > 0 {
		c.Items = make([]profilestore.Item, n)
		for i := range c.Items {
			c.Items[i] = profilestore.Item{Offer: r.text(), Group: r.text(), Class: r.text()}
		}
	}
	return c, r.end()
}

// contactsOf decodes contacts and sorts them by time, so that they are the same after a
// restart.
func contactsOf(encoded []string) []Contact {
	if len(encoded) == 0 {
		return nil
	}
	slices.Sort(encoded)
	out := make([]Contact, len(encoded))
	for i, s := range encoded {
		out[i], _ = contactOf(s) // it was encoded by append, or checked when it was read
	}
	slices.SortStableFunc(out, func(a, b Contact) int { return cmp.Compare(a.Time, b.Time) })
	return out
}

// errMalformed means that something was not written by this version.
var errMalformed = errors.New("malformed")

// reader decodes. After a mistake everything is empty, and end says so.
type reader struct {
	s   string
	bad bool
}

func (r *reader) take(n int) string {
	if r.bad || n < 0 || n > len(r.s) {
		r.bad = true
		return ""
	}
	out := r.s[:n]
	r.s = r.s[n:]
	return out
}

func (r *reader) byte() byte {
	if s := r.take(1); s != "" {
		return s[0]
	}
	return 0
}

func (r *reader) uvarint() uint64 {
	var v uint64
	for shift := 0; shift < 64; shift += 7 {
		b := r.byte()
		v |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return v
		}
	}
	r.bad = true
	return 0
}

func (r *reader) varint() int64 {
	u := r.uvarint()
	return int64(u>>1) ^ -int64(u&1)
}

// count reads how many there are of something that takes a byte or more each.
func (r *reader) count(most int) int {
	n := r.uvarint()
	if n > uint64(most) || n > uint64(len(r.s)) {
		r.bad = true
		return 0
	}
	return int(n)
}

// count1 reads a number that is less than most.
func (r *reader) count1(most int) int {
	n := r.uvarint()
	if n >= uint64(most) {
		r.bad = true
		return 0
	}
	return int(n)
}

func (r *reader) text() string { return r.take(r.count(maxText)) }

func (r *reader) end() error {
	if r.bad || r.s != "" {
		return errMalformed
	}
	return nil
}

// expiryHeap has the reservation first that expires first. What has ended otherwise is
// still in it.
type expiryHeap []expiring

type expiring struct {
	expires int64
	r       *reservation
}

func (h *expiryHeap) push(r *reservation) {
	*h = append(*h, expiring{r.expires, r})
	s, i := *h, len(*h)-1
	for i > 0 {
		up := (i - 1) / 2
		if s[up].expires <= s[i].expires {
			break
		}
		s[up], s[i] = s[i], s[up]
		i = up
	}
}

func (h *expiryHeap) pop() *reservation {
	s := *h
	first, n := s[0].r, len(s)-1
	s[0], s[n] = s[n], expiring{}
	s = s[:n]
	for i := 0; ; {
		down := 2*i + 1
		if down >= n {
			break
		}
		if down+1 < n && s[down+1].expires < s[down].expires {
			down++
		}
		if s[i].expires <= s[down].expires {
			break
		}
		s[i], s[down] = s[down], s[i]
		i = down
	}
	if cap(s) > 1024 && n < cap(s)/4 { // after a campaign
		s = append(make(expiryHeap, 0, cap(s)/2), s...)
	}
	*h = s
	return first
}
