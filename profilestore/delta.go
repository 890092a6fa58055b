package profilestore

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"slices"
	"time"
)

const (
	// CellWidth is the time that one cell of a counter spans. Cells begin at whole
	// quarters of an hour since the Unix epoch, where every time zone has its
	// midnight, so a snapshot whose as-of time and ingest cut are such a quarter
	// covers a cell completely or not at all.
	CellWidth = 15 * time.Minute

	// IDHorizon is how long the id of an event is remembered: sent again within
	// it, the event changes nothing.
	IDHorizon = 48 * time.Hour

	// LateHorizon is how long before the latest of its customer's events one may have
	// happened, for those few meanings that depend on the order of events: the reset
	// of a counter and a move in or out of a place. Longer before, it does not change
	// these fields. Amounts, registers, sets, max and min take an event however late.
	// By the time of happening, so that a file of old events, in their order, gives
	// what they would have given in their day.
	LateHorizon = 48 * time.Hour
)

const (
	cellMicros    = int64(CellWidth / time.Microsecond)
	horizonMicros = int64(IDHorizon / time.Microsecond)
	lateMicros    = int64(LateHorizon / time.Microsecond)
)

// delta is what events have made of one identity: the decoded form of the record
// that an [Engine] keeps for it. It is immutable; apply returns a new one.
//
// Everything that makes an event count exactly once is in here: the sequence
// number up to which the journal has been applied, so that a replay is harmless,
// and the ids of recent events, so that a second sending is. An engine therefore
// needs to be atomic per key and no more.
//
// How each type of field is merged, that is, how a view under a snapshot with
// as-of time A and ingest cut C is had from the batch value and this record:
//
//   - A register keeps the value of the event that happened last, ties decided by
//     the priority that the field's rule gives the event, and then by event id, so the
//     order of arrival does not matter. It stands if it happened at A or later, else
//     the batch value.
//   - Max and min keep the extreme of all events. It is joined with the batch value:
//     joining twice what the batch had seen changes nothing, so no time is needed.
//   - A counter keeps sums in cells by two times: when the events happened and when
//     they were logged. The batch job saw exactly the events that happened before A
//     and were logged before C, so the view adds to the batch value the cells outside
//     that rectangle, and is right under every snapshot, an older one after a rollback
//     too. One time axis can't be: by happening alone, an event that arrives after the
//     job ran is lost; by logging alone, one of after A that the job did not look at.
//   - A counter with a window has the same cells, and its batch value is a list of
//     hops, the sums of the buckets before A. A cell or hop counts while all of it is
//     younger than the window, so nothing older than the window ever counts, and what
//     counts reaches back to at most one bucket less. A cell that begins after the
//     time of reading does not count yet.
//   - A counter that begins again keeps the time of the last reset and the amounts
//     since, by the microsecond as long as a reset may still come between them (see
//     LateHorizon), as one sum before that.
//   - A set keeps, for each element, whether the event that happened last added or
//     removed it. That stands if it happened at A or later, else what the batch says.
//   - A dwell keeps what events said of the customer's place, and when. The time from
//     one that says in to the next that says out is a stay; the last stay is open and
//     lasts until the time of reading.
//
// What no retained snapshot will ever ask for again is pruned, see horizon.
//
// A record is that of one identity, for the time that one customer has it; its ties say
// who else is the same customer. How the records of several are merged is said at View.
type delta struct {
	applied uint64 // journal sequence number of the newest event in here
	version uint64 // how many events have changed this record
	newest  int64  // latest time of logging seen, microseconds
	latest  int64  // latest time of happening seen, likewise
	seen    []seenEvent
	regs    []register // ascending by key
	cells   []cell     // ascending by key, happened, logged
	sets    []element  // ascending by key, text
	moves   []move     // ascending by key, time, id
	ties    ties
	history *history // nil without contacts and outcomes
}

// seenEvent remembers an event by the hash of its id.
type seenEvent struct {
	id     uint64
	logged int64 // microseconds
}

// fieldKey names a field inside delta records: a hash of its name and of what
// decides the meaning of its stored values. Unlike a slot it survives changes of
// the schema.
type fieldKey uint32

func keyOf(f *Field) fieldKey {
	h := fnv.New32a()
	_, _ = fmt.Fprintf(h, "%s %s", f.Name, f.Type) // a hash never fails to write
	switch f.form() {
	case formCounter, formSince:
		_, _ = fmt.Fprintf(h, " %d %d %t", f.Decimals, f.form(), f.Batch != "")
	case formWindow:
		_, _ = fmt.Fprintf(h, " %d %d %t %d %d", f.Decimals, f.form(), f.Batch != "", f.Window, f.Bucket)
	case formDwell:
		_, _ = fmt.Fprintf(h, " %d", f.Window)
	case formRegister, formMax, formMin, formSet:
	}
	return fieldKey(h.Sum32())
}

// register is the value of a register, max or min, or the last reset of a counter.
type register struct {
	key   fieldKey
	time  int64  // when the event happened, microseconds
	rank  int8   // the event's priority
	id    uint64 // hash of the event's id
	value Value
}

// cell is the sum of the events of one field that happened in one stretch of time
// and were logged in one. A field with a batch source has cells of a quarter of an
// hour. Without, all are logged in 0, and happened counts buckets of a window, or
// microseconds where the counter begins again, or is 0: see slot.cell.
type cell struct {
	key      fieldKey
	happened int64 // cells since the epoch
	logged   int64 // likewise
	sum      int64 // scaled by the field's decimals
}

// element is what the last event that named an element of a set said of it.
type element struct {
	key  fieldKey
	text string
	time int64 // when the event happened, microseconds
	id   uint64
	in   bool
}

func (e element) compare(f element) int {
	return cmp.Or(cmp.Compare(e.key, f.key), cmp.Compare(e.text, f.text))
}

// move is what an event said of the customer's place.
type move struct {
	key  fieldKey
	time int64 // when the event happened, microseconds
	id   uint64
	in   bool
}

func (m move) compare(n move) int {
	return cmp.Or(cmp.Compare(m.key, n.key), cmp.Compare(m.time, n.time), cmp.Compare(m.id, n.id))
}

func (c cell) compare(d cell) int {
	return cmp.Or(cmp.Compare(c.key, d.key), cmp.Compare(c.happened, d.happened), cmp.Compare(c.logged, d.logged))
}

// covered reports whether a batch job with these limits (microseconds) saw all
// events of a cell of a field with a batch source.
func (c cell) covered(asOf, ingestCut int64) bool {
	return (c.happened+1)*cellMicros <= asOf && (c.logged+1)*cellMicros <= ingestCut
}

// eventHash identifies an event among those of its customer. SHA-256 because ids
// come from outside: a sender must not be able to make one event pass for
// another.
func eventHash(id string) uint64 {
	sum := sha256.Sum256([]byte(id))
	return binary.LittleEndian.Uint64(sum[:8])
}

// changes returns how many events have changed the record.
func (d *delta) changes() uint64 {
	if d == nil {
		return 0
	}
	return d.version
}

// tied reports whether changes of identities have named the record.
func (d *delta) tied() bool {
	return d != nil && (d.ties.group != nil || len(d.ties.handovers) > 0)
}

// customer returns the group of the record's node; nil where none was ever made.
func (d *delta) customer() *Group {
	if d == nil {
		return nil
	}
	return d.ties.group
}

// had reports whether the node's customer had the identity at a time, that of a
// snapshot whose row may then be the customer's.
func (d *delta) had(key string, at int64) bool {
	g := d.customer()
	if g == nil {
		return true
	}
	i := g.find(key)
	if i < 0 {
		return true
	}
	m := &g.Members[i]
	return (m.Since == 0 || at > m.Since) && (m.Until == 0 || at <= m.Until)
}

// register returns the register of a field, or nil.
func (d *delta) register(key fieldKey) *register {
	if d == nil {
		return nil
	}
	i, ok := slices.BinarySearchFunc(d.regs, key, func(r register, k fieldKey) int { return cmp.Compare(r.key, k) })
	if !ok {
		return nil
	}
	return &d.regs[i]
}

// cellsOf returns the cells of a field.
func (d *delta) cellsOf(key fieldKey) []cell {
	if d == nil {
		return nil
	}
	return rangeOf(d.cells, key, func(c *cell) fieldKey { return c.key })
}

// elementsOf returns what events said of the elements of a set.
func (d *delta) elementsOf(key fieldKey) []element {
	if d == nil {
		return nil
	}
	return rangeOf(d.sets, key, func(e *element) fieldKey { return e.key })
}

// movesOf returns the moves of a dwell.
func (d *delta) movesOf(key fieldKey) []move {
	if d == nil {
		return nil
	}
	return rangeOf(d.moves, key, func(m *move) fieldKey { return m.key })
}

// rangeOf returns the stretch of a sorted list that has a key.
func rangeOf[T any](list []T, key fieldKey, of func(*T) fieldKey) []T {
	search := func(lo int, past bool) int {
		hi := len(list)
		for lo < hi {
			mid := (lo + hi) / 2
			if at := of(&list[mid]); at < key || past && at == key {
				lo = mid + 1
			} else {
				hi = mid
			}
		}
		return lo
	}
	from := search(0, false)
	return list[from:search(from, true)]
}
