package journal

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"path/filepath"
	"strconv"
	"strings"
)

// A segment file is a header and then groups; a group is a header and then records. All numbers are little-endian.
//
//	segment header  0  magic "RAPPJRNL"
//	                8  format version, uint32
//	               12  CRC32-C of the other 28 bytes of the header
//	               16  sequence number of the first record, uint64
//	               24  journal id, uint64: random, made with the first segment, the same in every segment
//	group header    0  magic "\xf6GRP"
//	                4  CRC32-C of (journal id, magic, first, count)
//	                8  sequence number of the group's first record, uint64
//	               16  number of records, uint32
//	record          0  length of the payload, uint32, at most MaxPayload
//	                4  CRC32-C of (journal id, sequence number, length, payload)
//	                8  payload
//
// A group of no records is a seal: it is written after the group before it was synced, when a segment is full and when
// the journal is closed, so whatever stands before a seal was acknowledged.
//
// In every later format the first 32 bytes keep magic, version and checksum where they are, or an old program could not
// tell a new format from damage.
const (
	formatVersion = 1

	headerSize       = 32
	groupHeaderSize  = 20
	recordHeaderSize = 8

	fileMagic  = "RAPPJRNL"
	groupMagic = "\xf6GRP"

	nameDigits = 20
	nameSuffix = ".journal"
)

// MaxPayload is the most bytes one entry may have. It bounds what a reader must hold for a damaged length.
const MaxPayload = 1 << 20

// maxGroupEntries bounds Options.GroupEntries; with MaxPayload it bounds a group to 2 GiB.
const maxGroupEntries = 2048

func segmentPath(dir string, first uint64) string {
	return filepath.Join(dir, fmt.Sprintf("%0*d%s", nameDigits, first, nameSuffix))
}

// parseName returns the first sequence number in a segment's file name. other: the name is not meant for a segment.
func parseName(name string) (first uint64, other bool, err error) {
	digits, ok := strings.CutSuffix(name, nameSuffix)
	if !ok {
		return 0, true, nil
	}
	first, err = strconv.ParseUint(digits, 10, 64)
	if err == nil && (len(digits) != nameDigits || first == 0) {
		err = strconv.ErrSyntax
	}
	return first, false, err
}

// checksum computes the CRC32-C sums of one journal. The journal id goes into each, so that bytes of another journal,
// or a payload made to look like a group, are never taken for this journal's. Not safe for concurrent use.
type checksum struct {
	table   *crc32.Table
	base    uint32   // the sum after the journal id
	scratch [16]byte // here and not on the stack: crc32.Update lets its argument escape
}

func newChecksum(id uint64) *checksum {
	c := &checksum{table: crc32.MakeTable(crc32.Castagnoli)}
	binary.LittleEndian.PutUint64(c.scratch[:], id)
	c.base = crc32.Update(0, c.table, c.scratch[:8])
	return c
}

func (c *checksum) record(seq uint64, payload []byte) uint32 {
	binary.LittleEndian.PutUint64(c.scratch[:], seq)
	binary.LittleEndian.PutUint32(c.scratch[8:], uint32(len(payload)))
	return crc32.Update(crc32.Update(c.base, c.table, c.scratch[:12]), c.table, payload)
}

func (c *checksum) group(first uint64, count uint32) uint32 {
	copy(c.scratch[:], groupMagic)
	binary.LittleEndian.PutUint64(c.scratch[4:], first)
	binary.LittleEndian.PutUint32(c.scratch[12:], count)
	return crc32.Update(c.base, c.table, c.scratch[:16])
}

// putGroupHeader writes a group header into the first groupHeaderSize bytes of b.
func (c *checksum) putGroupHeader(b []byte, first uint64, count uint32) {
	copy(b, groupMagic)
	binary.LittleEndian.PutUint32(b[4:], c.group(first, count))
	binary.LittleEndian.PutUint64(b[8:], first)
	binary.LittleEndian.PutUint32(b[16:], count)
}

// groupHeader reads a group header from the first groupHeaderSize bytes of b; ok is false if it is not one.
func (c *checksum) groupHeader(b []byte) (first uint64, count uint32, ok bool) {
	if string(b[:4]) != groupMagic {
		return 0, 0, false
	}
	first = binary.LittleEndian.Uint64(b[8:])
	count = binary.LittleEndian.Uint32(b[16:])
	return first, count, binary.LittleEndian.Uint32(b[4:]) == c.group(first, count)
}

// appendRecord appends a record to b. len(payload) is at most MaxPayload.
func (c *checksum) appendRecord(b []byte, seq uint64, payload []byte) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(len(payload)))
	b = binary.LittleEndian.AppendUint32(b, c.record(seq, payload))
	return append(b, payload...)
}

// header is the content of a segment header.
type header struct {
	version uint32
	first   uint64
	id      uint64
}

func (h header) encode() []byte {
	b := make([]byte, headerSize)
	copy(b, fileMagic)
	binary.LittleEndian.PutUint32(b[8:], h.version)
	binary.LittleEndian.PutUint64(b[16:], h.first)
	binary.LittleEndian.PutUint64(b[24:], h.id)
	binary.LittleEndian.PutUint32(b[12:], headerSum(b))
	return b
}

// parseHeader reads a segment header from headerSize bytes; ok is false if magic or checksum are wrong.
func parseHeader(b []byte) (h header, ok bool) {
	h.version = binary.LittleEndian.Uint32(b[8:])
	h.first = binary.LittleEndian.Uint64(b[16:])
	h.id = binary.LittleEndian.Uint64(b[24:])
	return h, string(b[:8]) == fileMagic && binary.LittleEndian.Uint32(b[12:]) == headerSum(b)
}

func headerSum(b []byte) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli)
	return crc32.Update(crc32.Checksum(b[:12], table), table, b[16:headerSize])
}
