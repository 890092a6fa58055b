package ledger

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// A file of the log is a sequence of records. Integers of fixed size are little-endian,
// the others varints; a text is its length and its bytes.
//
//	record  0  marker "\xf7LGR"
//	        4  length of the payload, uint32, at most maxPayload
//	        8  CRC32-C of the payload, begun with the number of the file and the length
//	       12  payload: a kind, and what belongs to it
//
// Each file begins with a header and a checkpoint: the clock, and how many places are
// taken of each capacity. What a file says of reservations needs the files before it.
const (
	formatVersion = 1

	recordMarker = "\xf7LGR"
	recordHeader = 12
	maxPayload   = 8 << 20
)

// kind says what a record is.
type kind byte

const (
	kindHeader      kind = 1 // version, number of the file
	kindClock       kind = 2 // clock, the latest time ever
	kindPool        kind = 3 // a capacity: floor, and what is taken in its periods
	kindReservation kind = 4 // as it is; see appendReservation
	kindCommit      kind = 5 // an outcome, and the places that it took
	kindCancel      kind = 6 // a reservation that was taken back
)

// The flags of a reservation.
const (
	flagPending = 1 << iota
	flagAgain   // it was written before
	flagKnown   // the customer is known
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// frame makes a record of what add appends, and appends it.
func frame(b []byte, seq uint64, add func([]byte) []byte) []byte {
	start := len(b)
	b = append(b, recordMarker...)
	b = append(b, 0, 0, 0, 0, 0, 0, 0, 0)
	b = add(b)
	payload := b[start+recordHeader:]
	binary.LittleEndian.PutUint32(b[start+4:], uint32(len(payload)))
	binary.LittleEndian.PutUint32(b[start+8:], checksum(seq, payload))
	return b
}

// checksum begins with the number of the file and the length, so that a record of another
// file is none.
func checksum(seq uint64, payload []byte) uint32 {
	return crc32.Update(uint32(seq)*0x9e3779b1^uint32(len(payload)), castagnoli, payload)
}

// record returns the payload of the record at the beginning of b, nil if there is none
// that is whole.
func record(b []byte, seq uint64) []byte {
	if len(b) < recordHeader || string(b[:4]) != recordMarker {
		return nil
	}
	n := binary.LittleEndian.Uint32(b[4:])
	if n == 0 || n > maxPayload || int64(n) > int64(len(b)-recordHeader) {
		return nil
	}
	payload := b[recordHeader : recordHeader+int(n)]
	if binary.LittleEndian.Uint32(b[8:]) != checksum(seq, payload) {
		return nil
	}
	return payload
}

// Damage is a part of a file that can't be read. What was in it is lost: contacts that
// are no longer counted until they are reported, places that are given twice.
type Damage struct {
	File          string
	Offset, Bytes int64
	Reason        string
}

func (d Damage) String() string {
	return fmt.Sprintf("%s: %d bytes from byte %d on: %s", d.File, d.Bytes, d.Offset, d.Reason)
}

// scan calls apply for each record of a file, in order. It skips what is damaged. What
// is after the last good record is the tail: a crash leaves one, so it is no damage if
// the file is the last.
func scan(b []byte, seq uint64, apply func(payload []byte) error) (tail int64, damage []Damage) {
	good := int64(0) // the end of the last good record
	for at := int64(0); at < int64(len(b)); {
		payload := record(b[at:], seq)
		if payload == nil {
			next := bytes.Index(b[at+1:], []byte(recordMarker))
			if next < 0 {
				break
			}
			at += 1 + int64(next)
			continue
		}
		if at > good {
			damage = append(damage, Damage{Offset: good, Bytes: at - good, Reason: "no record with a good checksum"})
		}
		good = at + recordHeader + int64(len(payload))
		if err := apply(payload); err != nil {
			damage = append(damage, Damage{Offset: at, Bytes: good - at, Reason: err.Error()})
		}
		at = good
	}
	return good, damage
}

func appendHeader(b []byte, seq uint64) []byte {
	b = append(b, byte(kindHeader), formatVersion)
	return binary.AppendUvarint(b, seq)
}

func (l *Ledger) appendClock(b []byte) []byte {
	b = append(b, byte(kindClock))
	return binary.AppendVarint(binary.AppendVarint(b, l.clock), l.high)
}

// appendPeak encodes what the clock was before it stepped back in a write that failed.
func (l *Ledger) appendPeak(b []byte) []byte {
	b = append(b, byte(kindClock))
	return binary.AppendVarint(binary.AppendVarint(b, l.peak), l.high)
}

func (k *poolKey) append(b []byte) []byte {
	return append(appendText(b, k.capacity), k.period)
}

func (q *pool) append(b []byte) []byte {
	b = q.key.append(append(b, byte(kindPool)))
	b = binary.AppendVarint(b, q.floor)
	b = binary.AppendUvarint(b, uint64(len(q.periods)))
	for _, p := range q.periods {
		b = binary.AppendVarint(binary.AppendVarint(b, p.begin), p.taken)
	}
	return b
}

// append encodes a reservation as it is.
func (r *reservation) append(b []byte, now int64, again bool) []byte {
	flags := byte(0)
	if r.pending {
		flags |= flagPending
	}
	if again {
		flags |= flagAgain
	}
	if r.customer != nil {
		flags |= flagKnown
	}
	b = append(b, byte(kindReservation), flags)
	b = append(b, r.id[:]...)
	b = binary.AppendVarint(binary.AppendVarint(b, now), r.expires)
	if r.customer != nil {
		b = appendText(b, r.customer.name)
	}
	b = binary.AppendUvarint(b, uint64(len(r.places)))
	for i := range r.places {
		p := &r.places[i]
		b = p.period.pool.key.append(b)
		b = binary.AppendVarint(b, p.period.begin)
		b = appendText(appendText(b, p.takenBy), p.offer)
		taken := byte(0)
		if p.taken {
			taken = 1
		}
		b = append(b, taken)
	}
	return append(b, r.contact...)
}

// appendCommit encodes an outcome that took some places of a reservation. It says what
// these are, since the reservation may be in no file any more when it is read.
func (r *reservation) appendCommit(b []byte, now int64, took []int) []byte {
	b = append(b, byte(kindCommit))
	b = append(b, r.id[:]...)
	b = binary.AppendVarint(b, now)
	b = binary.AppendUvarint(b, uint64(len(took)))
	for _, i := range took {
		p := r.places[i].period
		b = binary.AppendUvarint(b, uint64(i))
		b = binary.AppendVarint(p.pool.key.append(b), p.begin)
	}
	return b
}

func appendCancel(b []byte, id ID) []byte { return append(append(b, byte(kindCancel)), id[:]...) }
