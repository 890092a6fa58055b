// Package evidence counts what came of offers: how often each was presented in each
// channel, and each outcome of it, over all customers. Propensities that learn are
// computed from it.
//
// It counts, keeps the counts in a file, and gives them out. What counts as a success,
// and what follows from it, is for the catalogue to say and for package decide to
// compute. It imports profilestore only; package server wires it.
package evidence

import (
	"cmp"
	"log/slog"
	"slices"
	"sync"

	"rapport/profilestore"
)

// MaxUnknown is how many counts there may be of offers, channels or outcomes that the
// published catalogue does not name.
const MaxUnknown = 10_000

// Key says what is counted: contacts with an offer in a channel, or outcomes of one.
// Keys that are not counted are those without an offer or a channel.
type Key struct {
	Offer, Channel string
	Outcome        string // empty: presented
}

func (k Key) compare(l Key) int {
	return cmp.Or(cmp.Compare(k.Offer, l.Offer), cmp.Compare(k.Channel, l.Channel), cmp.Compare(k.Outcome, l.Outcome))
}

// Names are those that a catalogue gives. They are counted however many others are.
type Names struct {
	Offers, Channels, Outcomes map[string]bool
}

func (n *Names) has(k Key) bool {
	return n.Offers[k.Offer] && n.Channels[k.Channel] && (k.Outcome == "" || n.Outcomes[k.Outcome])
}

// Counter is the counts. It is safe for concurrent use.
//
// The totals are those of the journal up to a position, and of nothing after it. The
// store applies entries of different customers side by side, so it tells of them not
// quite in the order of the journal; what is ahead of the position waits until the store
// says that everything up to it has been told. Therefore a position and the totals at it
// belong together, in the file too, and a restart goes on exactly there: see RATIONALE.md.
//
// The alternative, counting at once and keeping the numbers of the entries that are ahead
// in the file, needs those numbers for entries that are not contacts too, and gives
// totals that no position describes.
type Counter struct {
	file string
	log  *slog.Logger

	mu       sync.Mutex
	journal  string // the name of the journal
	position uint64 // everything in it up to here is in the totals
	last     uint64 // the last entry that changed them
	totals   map[Key]uint64
	waiting  []entry // ahead of position
	names    Names
	unknown  int    // totals that the names lack
	left     uint64 // not counted, for there are too many of those
	saved    uint64 // the position in the file
	failures uint64 // to write the file
	base     []byte // see Restore

	saving sync.Mutex // held while the file is written; before mu
}

// entry is one count to come.
type entry struct {
	seq uint64
	key Key
}

// foldFrom is how many entries may wait before it is asked again how far the store is.
const foldFrom = 1 << 14

// Restore implements profilestore.InteractionObserver.
func (c *Counter) Restore(state []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.base = state
}

// Begin implements profilestore.InteractionObserver. Where the file does not belong to
// the journal, all of it is counted anew, after what Restore was given.
func (c *Counter) Begin(journal string, next uint64) (from uint64, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.journal == "" && c.position == 0: // there is no file
		c.restore(journal, next)
	case c.journal != journal:
		c.log.Warn("the evidence for propensities is of another journal: it is counted anew", "file", c.file)
		c.restore(journal, next)
	case c.position >= next:
		c.log.Warn("the evidence for propensities is ahead of the journal, which has lost its end: it is counted anew", "file", c.file, "at", c.position, "journal", next-1)
		c.restore(journal, next)
	}
	c.base = nil
	c.journal = journal
	return c.position + 1, nil
}

// restore begins anew, with what is known of a part of the journal that has been removed.
func (c *Counter) restore(journal string, next uint64) {
	c.reset()
	if len(c.base) == 0 {
		return
	}
	old := Counter{totals: make(map[Key]uint64)}
	if err := old.decode(c.base); err != nil || old.journal != journal || old.position >= next {
		c.log.Warn("what the base of the profile store has of the evidence for propensities can't be used: the removed part of the journal is not counted", "error", err)
		return
	}
	c.position, c.last, c.totals = old.position, old.last, old.totals
	for k := range c.totals {
		if !c.names.has(k) {
			c.unknown++
		}
	}
}

// Kept implements profilestore.InteractionObserver.
func (c *Counter) Kept() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.saved
}

// State implements profilestore.InteractionObserver.
func (c *Counter) State(applied uint64) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.advance(applied)
	return c.encode()
}

func (c *Counter) reset() {
	c.position, c.last, c.saved, c.unknown = 0, 0, 0, 0
	c.totals = make(map[Key]uint64)
}

// Observe implements profilestore.InteractionObserver.
func (c *Counter) Observe(list []profilestore.Observed, applied uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range list {
		x := &list[i]
		if x.Channel == "" {
			continue
		}
		for k := range x.Items {
			offer := x.Items[k].Offer
			if offer == "" || k > 0 && x.Items[k-1].Offer == offer { // they are ascending
				continue
			}
			c.waiting = append(c.waiting, entry{x.Seq, Key{offer, x.Channel, x.Outcome}})
		}
	}
	if len(c.waiting) >= foldFrom {
		c.advance(applied)
	}
}

// Advance counts what waits of the entries up to applied, of which all have been told.
func (c *Counter) Advance(applied uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.advance(applied)
}

func (c *Counter) advance(applied uint64) {
	if applied <= c.position {
		return
	}
	kept := c.waiting[:0]
	for _, x := range c.waiting {
		if x.seq > applied {
			kept = append(kept, x)
			continue
		}
		c.add(x)
	}
	clear(c.waiting[len(kept):])
	c.waiting, c.position = kept, applied
	if len(kept) == 0 && cap(kept) > foldFrom {
		c.waiting = nil
	}
}

func (c *Counter) add(x entry) {
	n, ok := c.totals[x.key]
	if !ok && !c.names.has(x.key) {
		if c.unknown >= MaxUnknown {
			c.left++
			return
		}
		c.unknown++
	}
	c.totals[x.key] = n + 1
	c.last = max(c.last, x.seq)
}

// Know says which names the published catalogue has.
func (c *Counter) Know(n Names) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.names, c.unknown = n, 0
	for k := range c.totals {
		if !n.has(k) {
			c.unknown++
		}
	}
}

// Read calls f with a function that returns counts, all of one moment, and the number of
// that moment: that of the last entry of the journal that they hold. Equal numbers, equal
// counts. f must not call c and is quick, since who reports outcomes waits for it.
func (c *Counter) Read(f func(number uint64, count func(Key) uint64)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f(c.last, func(k Key) uint64 { return c.totals[k] })
}

// Number returns what Read gives as the number.
func (c *Counter) Number() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last
}

// Count is a total.
type Count struct {
	Key
	N uint64
}

// All returns every total, ascending by key.
func (c *Counter) All() []Count {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.all()
}

func (c *Counter) all() []Count {
	out := make([]Count, 0, len(c.totals))
	for k, n := range c.totals {
		out = append(out, Count{k, n})
	}
	slices.SortFunc(out, func(a, b Count) int { return a.compare(b.Key) })
	return out
}

// Stats are a counter's own measures.
type Stats struct {
	Position, Saved uint64 // the entry of the journal up to which the totals go, and those in the file
	Counts, Unknown int    // totals, and of them those that the catalogue does not name
	Left            uint64 // presentations and outcomes not counted, since Unknown was at its limit
	Waiting         int    // counts to come
	Failures        uint64 // times that the file could not be written
}

// Stats returns the counter's measures.
func (c *Counter) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	return Stats{
		Position: c.position, Saved: c.saved, Counts: len(c.totals), Unknown: c.unknown, Left: c.left,
		Waiting: len(c.waiting), Failures: c.failures,
	}
}
