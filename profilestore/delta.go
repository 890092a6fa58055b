package profilestore

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"math"
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
)

const (
	cellMicros    = int64(CellWidth / time.Microsecond)
	horizonMicros = int64(IDHorizon / time.Microsecond)
)

// delta is what events have made of one identity: the decoded form of the record
// that an [Engine] keeps for it. It is immutable; apply returns a new one.
//
// Everything that makes an event count exactly once is in here: the sequence
// number up to which the journal has been applied, so that a replay is harmless,
// and the ids of recent events, so that a second sending is. An engine therefore
// needs to be atomic per key and no more.
//
// A register keeps the value of the event that happened last, ties decided by
// event id, so the order of arrival does not matter. A counter keeps sums in
// cells by two times: when the events happened and when they were logged. A batch
// job with as-of time A and ingest cut C saw exactly the events that happened
// before A and were logged before C, so the view adds to the batch value the
// cells outside that rectangle, and is right under every snapshot, an older one
// after a rollback too. One time axis can't be: by happening alone, an event that
// arrives after the job ran is lost; by logging alone, an event of after A that
// the job did not look at is.
type delta struct {
	applied uint64 // journal sequence number of the newest event in here
	version uint64 // how many events have changed this record
	newest  int64  // latest time of logging seen, microseconds
	seen    []seenEvent
	regs    []register // ascending by key
	cells   []cell     // ascending by key, happened, logged
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
	if f.Type == TypeCounter {
		_, _ = fmt.Fprintf(h, " %d", f.Decimals)
	}
	return fieldKey(h.Sum32())
}

type register struct {
	key   fieldKey
	time  int64  // when the event happened, microseconds
	id    uint64 // hash of the event's id
	value Value
}

// cell is the sum of the events of one field that happened in one quarter of an
// hour and were logged in one.
type cell struct {
	key      fieldKey
	happened int64 // quarters of an hour since the epoch
	logged   int64 // likewise
	sum      int64 // scaled by the field's decimals
}

func (c cell) compare(d cell) int {
	return cmp.Or(cmp.Compare(c.key, d.key), cmp.Compare(c.happened, d.happened), cmp.Compare(c.logged, d.logged))
}

// covered reports whether a batch job with these limits (microseconds) saw all
// events of the cell.
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
	from, _ := slices.BinarySearchFunc(d.cells, key, func(c cell, k fieldKey) int { return cmp.Compare(c.key, k) })
	to := from
	for to < len(d.cells) && d.cells[to].key == key {
		to++
	}
	return d.cells[from:to]
}

// edit returns a copy of the record that can be changed, of the empty record if d
// is nil. It shares nothing that is written with d.
func (d *delta) edit() *deltaEdit {
	e := &deltaEdit{delta: &delta{}}
	if d != nil {
		*e.delta = *d
		e.seen, e.regs, e.cells = slices.Clone(d.seen), slices.Clone(d.regs), slices.Clone(d.cells)
	}
	return e
}

// deltaEdit applies a stretch of the journal to one record. The record is copied
// once for all of it, so the work for an event does not grow with what the
// customer has behind it.
type deltaEdit struct {
	*delta
	ids map[uint64]int64 // time of logging by id: an index of seen, once it pays
}

// indexFrom is how many ids are searched one by one before an index is made.
const indexFrom = 64

// maxWeight bounds a record: an upper bound of its encoded size in bytes. Engines
// take values of a megabyte; and nobody has 50,000 events in two days.
const maxWeight = 900 << 10

// applied says what became of an event.
type applied uint8

const (
	appliedNew  applied = iota
	appliedSeen         // it was in the record already
	appliedFull         // the record has no room for it
)

// apply applies one more event of the journal. What it does is a function of the
// record and the event alone, also when it is that the record is full: a replay
// comes to the same end.
func (d *deltaEdit) apply(seq uint64, e *Event, changes []Change, s *Schema) applied {
	if seq <= d.applied {
		return appliedSeen
	}
	id := eventHash(e.ID)
	if d.has(id, e.Logged) {
		return appliedSeen
	}
	d.forget(e.Logged)
	if d.weight()+weightOf(changes) > maxWeight {
		return appliedFull
	}
	d.applied, d.newest = seq, max(d.newest, e.Logged)
	d.version++
	d.seen = append(d.seen, seenEvent{id: id, logged: e.Logged})
	if d.ids != nil {
		d.ids[id] = e.Logged
	}
	for _, c := range changes {
		slot := &s.slots[c.Slot]
		if !slot.counter {
			d.set(register{key: slot.key, time: e.Time, id: id, value: c.Value})
			continue
		}
		x := cell{key: slot.key, sum: scaleAmount(c.Value.Number(), slot.decimals)}
		if slot.source >= 0 {
			x.happened, x.logged = floorDiv(e.Time, cellMicros), floorDiv(e.Logged, cellMicros)
		} // else no batch will ever cover a part of it, and one cell is enough
		d.add(x)
	}
	return appliedNew
}

// has reports whether an event was applied within the horizon before logged.
func (d *deltaEdit) has(id uint64, logged int64) bool {
	if d.ids == nil && len(d.seen) >= indexFrom {
		d.ids = make(map[uint64]int64, 2*len(d.seen))
		for _, x := range d.seen {
			d.ids[x.id] = x.logged
		}
	}
	if d.ids != nil {
		at, ok := d.ids[id]
		return ok && at >= logged-horizonMicros
	}
	return slices.ContainsFunc(d.seen, func(x seenEvent) bool { return x.id == id && x.logged >= logged-horizonMicros })
}

// forget drops the ids that are past the horizon, when there are so many that it
// pays. It never decides whether an event counts: has looks at the time. Where
// there are few they stay, so a clock that was ahead for a moment, which makes
// all others look old, costs a customer with few events nothing.
func (d *deltaEdit) forget(logged int64) {
	if len(d.seen) < 1024 || d.seen[0].logged >= logged-horizonMicros {
		return
	}
	d.seen = slices.DeleteFunc(d.seen, func(x seenEvent) bool { return x.logged < logged-horizonMicros })
	d.ids = nil
}

// weight returns an upper bound of the encoded size.
func (d *delta) weight() int {
	n := 64 + 18*len(d.seen) + 36*len(d.cells)
	for i := range d.regs {
		n += 36 + len(d.regs[i].value.text)
	}
	return n
}

// weightOf returns how much an event with these changes adds to a weight at most.
func weightOf(changes []Change) int {
	n := 18 + 36*len(changes)
	for _, c := range changes {
		n += len(c.Value.text)
	}
	return n
}

// set puts a register in if it is newer than what is there.
func (d *deltaEdit) set(r register) {
	i, ok := slices.BinarySearchFunc(d.regs, r.key, func(x register, k fieldKey) int { return cmp.Compare(x.key, k) })
	if !ok {
		d.regs = slices.Insert(d.regs, i, r)
		return
	}
	if old := d.regs[i]; cmp.Or(cmp.Compare(r.time, old.time), cmp.Compare(r.id, old.id)) >= 0 {
		d.regs[i] = r
	}
}

// add adds to a cell.
func (d *deltaEdit) add(c cell) {
	i, ok := slices.BinarySearchFunc(d.cells, c, cell.compare)
	if !ok {
		d.cells = slices.Insert(d.cells, i, c)
		return
	}
	d.cells[i].sum = addSaturating(d.cells[i].sum, c.sum)
}

// scaleAmount rounds an amount to the decimals of its counter.
func scaleAmount(f float64, decimals int) int64 {
	scaled := math.RoundToEven(f * pow10[decimals])
	switch {
	case scaled >= math.MaxInt64:
		return math.MaxInt64
	case scaled <= math.MinInt64:
		return math.MinInt64
	}
	return int64(scaled)
}

// addSaturating adds and stays at the limit instead of wrapping around.
func addSaturating(a, b int64) int64 {
	switch s := a + b; {
	case a > 0 && b > 0 && s < 0:
		return math.MaxInt64
	case a < 0 && b < 0 && s >= 0:
		return math.MinInt64
	default:
		return s
	}
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

// deltaFormat is the first byte of a record.
const deltaFormat = 1

var errDelta = errors.New("profilestore: delta record is damaged")

// encode returns the record.
func (d *delta) encode() []byte {
	le := binary.LittleEndian
	dst := make([]byte, 0, 64+12*len(d.seen)+24*len(d.regs)+8*len(d.cells))
	dst = append(dst, deltaFormat)
	dst = binary.AppendUvarint(dst, d.applied)
	dst = binary.AppendUvarint(dst, d.version)
	dst = binary.AppendVarint(dst, d.newest)
	dst = binary.AppendUvarint(dst, uint64(len(d.seen)))
	for _, x := range d.seen {
		dst = le.AppendUint64(dst, x.id)
		dst = binary.AppendVarint(dst, d.newest-x.logged)
	}
	dst = binary.AppendUvarint(dst, uint64(len(d.regs)))
	for _, r := range d.regs {
		dst = le.AppendUint32(dst, uint32(r.key))
		dst = binary.AppendVarint(dst, r.time)
		dst = le.AppendUint64(dst, r.id)
		dst = append(dst, byte(r.value.kind))
		if r.value.kind == KindText {
			dst = binary.AppendUvarint(dst, uint64(len(r.value.text)))
			dst = append(dst, r.value.text...)
		} else {
			dst = le.AppendUint64(dst, r.value.num)
		}
	}
	dst = binary.AppendUvarint(dst, uint64(len(d.cells)))
	var last cell
	for _, c := range d.cells {
		dst = binary.AppendUvarint(dst, uint64(c.key-last.key)) // ascending
		dst = binary.AppendVarint(dst, c.happened-last.happened)
		dst = binary.AppendVarint(dst, c.logged-c.happened)
		dst = binary.AppendVarint(dst, c.sum)
		last = c
	}
	return dst
}

// decodeDelta reads a record. It keeps nothing of b.
func decodeDelta(b []byte) (*delta, error) {
	if len(b) == 0 {
		return nil, errDelta
	}
	if b[0] != deltaFormat {
		return nil, fmt.Errorf("%w: format %d is not known to this version of Rapport", errDelta, b[0])
	}
	r := reader{b: b[1:]}
	d := &delta{applied: r.uvarint(), version: r.uvarint(), newest: r.varint()}
	d.seen = make([]seenEvent, r.count(9))
	for i := range d.seen {
		d.seen[i] = seenEvent{id: r.uint64(), logged: d.newest - r.varint()}
	}
	d.regs = make([]register, r.count(14))
	for i := range d.regs {
		x := register{key: fieldKey(r.uint32()), time: r.varint(), id: r.uint64()}
		x.value.kind = Kind(r.byte())
		if x.value.kind == KindText {
			x.value.text = string(r.bytes(r.count(1)))
		} else {
			x.value.num = r.uint64()
		}
		if i > 0 && x.key <= d.regs[i-1].key || x.value.kind > KindTime || x.value.kind == KindUnknown {
			r.bad = true
		}
		d.regs[i] = x
	}
	d.cells = make([]cell, r.count(4))
	var last cell
	for i := range d.cells {
		c := cell{key: last.key + fieldKey(r.uvarint())}
		c.happened = last.happened + r.varint()
		c.logged = c.happened + r.varint()
		c.sum = r.varint()
		if i > 0 && c.compare(last) <= 0 {
			r.bad = true
		}
		d.cells[i], last = c, c
	}
	if r.bad || len(r.b) != 0 {
		return nil, errDelta
	}
	return d, nil
}

// reader takes a byte string apart. After the first mistake it is bad and returns
// zeros.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) bytes(n int) []byte {
	if r.bad || n > len(r.b) {
		r.bad, r.b = true, nil
		return nil
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

func (r *reader) byte() byte {
	if b := r.bytes(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) uint32() uint32 {
	if b := r.bytes(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (r *reader) uint64() uint64 {
	if b := r.bytes(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) varint() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[n:]
	return v
}

// count reads a count of things of at least size bytes each, so that a damaged
// one can't make the caller allocate more than the record could hold.
func (r *reader) count(size int) int {
	n := r.uvarint()
	if n > uint64(len(r.b)/size) {
		r.bad, r.b = true, nil
		return 0
	}
	return int(n)
}
