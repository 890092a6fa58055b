package profilestore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// deltaFormat is the first byte of a record.
//
// Records of format 1 had registers and cells only, under other keys; those of format 2
// no ties, no priorities and no interaction history; those of format 3 no checksum. They
// are derived anew from the journal, see DropForeignDeltas.
const deltaFormat = 4

// rankedBit in the byte of a register's kind says that its priority follows. Hardly
// any field has priorities, and a register without costs nothing for it.
const rankedBit = 0x80

var errDelta = errors.New("profilestore: delta record is damaged")

// encodeRecord returns what an engine stores for a key: the record, and the CRC-32C of
// key and record, as of a row. A block of an engine that went bad is noticed by it, and
// also a record that is found under another key.
func (d *delta) encodeRecord(key string) []byte {
	return appendRowChecksum(d.encode(), 0, []byte(key))
}

// decodeRecord reads what an engine stores for a key. It keeps nothing of stored.
func decodeRecord(key string, stored []byte) (*delta, error) {
	n := len(stored) - rowChecksum
	if n < 0 {
		return nil, errDelta
	}
	sum := crc32.Update(crc32.Checksum([]byte(key), castagnoli), castagnoli, stored[:n])
	if sum != binary.LittleEndian.Uint32(stored[n:]) {
		return nil, fmt.Errorf("%w: its checksum is wrong", errDelta)
	}
	return decodeDelta(stored[:n])
}

// encode returns the record.
func (d *delta) encode() []byte {
	le := binary.LittleEndian
	dst := make([]byte, 0, 64+rowChecksum+12*len(d.seen)+24*len(d.regs)+8*len(d.cells)+32*len(d.sets)+16*len(d.moves))
	dst = append(dst, deltaFormat)
	dst = binary.AppendUvarint(dst, d.applied)
	dst = binary.AppendUvarint(dst, d.version)
	dst = binary.AppendVarint(dst, d.newest)
	dst = binary.AppendVarint(dst, d.latest)
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
		if r.rank == 0 {
			dst = append(dst, byte(r.value.kind))
		} else {
			dst = append(dst, byte(r.value.kind)|rankedBit, byte(r.rank))
		}
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
	dst = binary.AppendUvarint(dst, uint64(len(d.sets)))
	var key fieldKey
	for i := range d.sets {
		e := &d.sets[i]
		dst = binary.AppendUvarint(dst, uint64(e.key-key))
		dst = binary.AppendUvarint(dst, uint64(len(e.text)))
		dst = append(dst, e.text...)
		dst = binary.AppendVarint(dst, e.time)
		dst = le.AppendUint64(dst, e.id)
		dst = append(dst, bit(e.in))
		key = e.key
	}
	dst = binary.AppendUvarint(dst, uint64(len(d.moves)))
	var before move
	for _, m := range d.moves {
		dst = binary.AppendUvarint(dst, uint64(m.key-before.key))
		dst = binary.AppendVarint(dst, m.time-before.time)
		dst = le.AppendUint64(dst, m.id)
		dst = append(dst, bit(m.in))
		before = m
	}
	return d.history.append(d.ties.encode(dst))
}

func bit(b bool) byte {
	if b {
		return 1
	}
	return 0
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
	d := &delta{applied: r.uvarint(), version: r.uvarint(), newest: r.varint(), latest: r.varint()}
	d.seen = make([]seenEvent, r.count(9))
	for i := range d.seen {
		d.seen[i] = seenEvent{id: r.uint64(), logged: d.newest - r.varint()}
	}
	d.regs = make([]register, r.count(14))
	for i := range d.regs {
		x := register{key: fieldKey(r.uint32()), time: r.varint(), id: r.uint64()}
		kind := r.byte()
		x.value.kind = Kind(kind &^ rankedBit)
		if kind&rankedBit != 0 {
			x.rank = int8(r.byte())
			r.bad = r.bad || x.rank == 0 // it has one form only
		}
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
	d.sets = make([]element, r.count(12))
	var key fieldKey
	for i := range d.sets {
		e := element{key: key + fieldKey(r.uvarint())}
		e.text = string(r.bytes(r.count(1)))
		e.time, e.id, e.in = r.varint(), r.uint64(), r.bit()
		if i > 0 && e.compare(d.sets[i-1]) <= 0 {
			r.bad = true
		}
		d.sets[i], key = e, e.key
	}
	d.moves = make([]move, r.count(11))
	var before move
	for i := range d.moves {
		m := move{key: before.key + fieldKey(r.uvarint())}
		m.time = before.time + r.varint()
		m.id, m.in = r.uint64(), r.bit()
		if i > 0 && m.compare(before) <= 0 {
			r.bad = true
		}
		d.moves[i], before = m, m
	}
	d.ties = r.ties()
	d.history = r.history()
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

func (r *reader) bit() bool {
	b := r.byte()
	r.bad = r.bad || b > 1
	return b == 1
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
	if len(r.b) > 0 && r.b[0] < 0x80 { // most are small
		v := r.b[0]
		r.b = r.b[1:]
		return uint64(v)
	}
	return r.uvarintSlow()
}

func (r *reader) uvarintSlow() uint64 {
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
