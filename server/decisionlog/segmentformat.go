package decisionlog

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
)

// A segment is a file of frames, one after another and nothing between them. A frame is
// a header of headerBytes, the hash of the customer of each record, 4 bytes each, and a
// Block packed with zstd. The last frame of a segment that was ended in good order has
// nothing but a header, of kind frameEnd, which sums up the others.
//
// The header, little endian:
//
//	 0  frameMagic, whose last byte is the version
//	 8  kind, 4 bytes
//	12  number of records, 4
//	16  bytes of the block, 4; in frameEnd the number of frames before
//	20  bytes of it packed, 4
//	24  least time of an id, milliseconds since the Unix epoch, 8
//	32  greatest time of an id, 8
//	40  how many decisions were lost since the frame before, 8: see loss
//	48  least time of theirs, 8
//	56  greatest time of theirs, 8
//	64  CRC-32C of the packed block, 4
//	68  the number of the segment, 4: a frame of another file is no frame
//	72  CRC-32C of the header up to here and the hashes, 4
//
// So the headers alone tell where records of a time or a customer are, and what is
// damaged can be skipped: the next frame begins where the next header is.
const (
	frameMagic  = "\xd1rplog\n\x01"
	headerBytes = 76
	hashBytes   = 4

	frameBlock = 0
	frameEnd   = 1

	// maxRaw is how large a block can be. One of 256 KB is usual; more is a record that
	// is larger by itself.
	maxRaw = 64 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// span is a range of times, both included, milliseconds since the Unix epoch.
type span struct{ from, to int64 }

var noSpan = span{math.MaxInt64, math.MinInt64}

func (s span) empty() bool        { return s.from > s.to }
func (s span) has(ms int64) bool  { return s.from <= ms && ms <= s.to }
func (s span) meets(x span) bool  { return s.from <= x.to && x.from <= s.to }
func (s span) with(x span) span   { return span{min(s.from, x.from), max(s.to, x.to)} }
func (s span) plus(ms int64) span { return s.with(span{ms, ms}) }

// loss are decisions of a span that are not in the log. Their number is 0 where it is
// not known that there were any.
type loss struct {
	n uint64
	span
}

var noLoss = loss{0, noSpan}

func (x loss) with(y loss) loss { return loss{x.n + y.n, x.span.with(y.span)} }

// header is the header of a frame.
type header struct {
	kind        uint32
	records     uint32
	raw, packed uint32
	ids         span
	lost        loss
	sum         uint32 // of the packed block
	seq         uint32
}

// size is of the whole frame.
func (h *header) size() int64 {
	return headerBytes + int64(h.hashes()) + int64(h.packed)
}

// hashes returns how many bytes of hashes there are.
func (h *header) hashes() int {
	if h.kind == frameEnd {
		return 0
	}
	return int(h.records) * hashBytes
}

// put writes the header into the frame that begins with b, which has the hashes already.
func (h *header) put(b []byte) {
	copy(b, frameMagic)
	le := binary.LittleEndian
	for i, n := range [...]uint32{h.kind, h.records, h.raw, h.packed} {
		le.PutUint32(b[8+4*i:], n)
	}
	for i, n := range [...]uint64{uint64(h.ids.from), uint64(h.ids.to), h.lost.n, uint64(h.lost.from), uint64(h.lost.to)} {
		le.PutUint64(b[24+8*i:], n)
	}
	le.PutUint32(b[64:], h.sum)
	le.PutUint32(b[68:], h.seq)
	le.PutUint32(b[72:], headerSum(b[:headerBytes+h.hashes()]))
}

func headerSum(b []byte) uint32 {
	return crc32.Update(crc32.Checksum(b[:72], castagnoli), castagnoli, b[headerBytes:])
}

// get reads a header whose checksum is still to be compared, and reports whether it can
// be one.
func (h *header) get(b []byte, seq uint32) bool {
	if len(b) < headerBytes || string(b[:8]) != frameMagic {
		return false
	}
	le := binary.LittleEndian
	for i, p := range [...]*uint32{&h.kind, &h.records, &h.raw, &h.packed} {
		*p = le.Uint32(b[8+4*i:])
	}
	h.lost.n = le.Uint64(b[40:])
	for i, p := range [...]*int64{&h.ids.from, &h.ids.to} {
		*p = int64(le.Uint64(b[24+8*i:]))
	}
	for i, p := range [...]*int64{&h.lost.from, &h.lost.to} {
		*p = int64(le.Uint64(b[48+8*i:]))
	}
	h.sum, h.seq = le.Uint32(b[64:]), le.Uint32(b[68:])
	switch {
	case h.seq != seq || h.kind > frameEnd:
		return false
	case h.kind == frameEnd:
		return h.packed == 0
	}
	return h.raw <= maxRaw && h.packed <= 2*maxRaw && h.records <= maxRaw/minRecord
}

// good compares the checksum of a header with its hashes.
func (h *header) good(b []byte) bool {
	return headerSum(b) == binary.LittleEndian.Uint32(b[72:])
}

// Damage is a part of the log that can't be read.
type Damage struct {
	Path          string
	Offset, Bytes int64
	What          string
}

func (d Damage) String() string {
	return fmt.Sprintf("%s: %d bytes from %d on: %s", d.Path, d.Bytes, d.Offset, d.What)
}
