package journal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// scanBuffer is what a scanner reads at once; it grows, up to one record of MaxPayload, only when a record asks for it.
const scanBuffer = 256 << 10

// flaw is what a scanner met where a group or record should be.
type flaw struct {
	off    int64
	reason string
	// order: the group is intact, but not the one that belongs here. No torn write looks like that.
	order bool
}

func (f *flaw) Error() string { return f.reason }

// scanner reads the groups of one segment in order. Memory: one buffer. Not safe for concurrent use.
type scanner struct {
	r     io.ReaderAt
	sum   *checksum
	buf   []byte
	lo    int   // buf[lo:hi] is read from the file and not consumed
	hi    int   //
	off   int64 // place in the file of buf[lo]
	limit int64 // the segment ends here

	seq     uint64 // of the next record
	left    uint32 // records still to come in this group
	groupAt int64  // where this group starts

	lastAt int64  // where the last whole group starts, 0 if there is none
	end    int64  // where the last whole group ends
	next   uint64 // sequence number after the last whole group
	sealed bool   // the last whole group is a seal
}

// scan starts behind the segment header; seq is the sequence number that should come first.
func (s *scanner) scan(r io.ReaderAt, sum *checksum, seq uint64, limit int64) {
	*s = scanner{r: r, sum: sum, buf: s.buf, off: headerSize, limit: limit, seq: seq, end: headerSize, next: seq}
}

// record returns the next record; payload is valid until the next call. err is io.EOF after the last whole group, a
// *flaw for what is no record of this journal, and anything else for a file that can't be read.
func (s *scanner) record() (seq uint64, payload []byte, err error) {
	for s.left == 0 {
		if err := s.group(); err != nil {
			return 0, nil, err
		}
	}
	at := s.off
	b, err := s.peek(recordHeaderSize)
	if err != nil {
		return 0, nil, err
	}
	length, sum := binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:])
	if length > MaxPayload {
		return 0, nil, &flaw{off: at, reason: fmt.Sprintf("record %d has a length of %d bytes, more than can be", s.seq, length)}
	}
	size := recordHeaderSize + int(length)
	if b, err = s.peek(size); err != nil {
		return 0, nil, err
	}
	payload = b[recordHeaderSize:]
	if s.sum.record(s.seq, payload) != sum {
		return 0, nil, &flaw{off: at, reason: fmt.Sprintf("record %d does not match its checksum", s.seq)}
	}
	s.skip(size)
	seq = s.seq
	s.seq++
	if s.left--; s.left == 0 {
		s.whole(false)
	}
	return seq, payload, nil
}

// group reads a group header; a seal is consumed as a whole group.
func (s *scanner) group() error {
	if s.off == s.limit {
		return io.EOF
	}
	s.groupAt = s.off
	b, err := s.peek(groupHeaderSize)
	if err != nil {
		return err
	}
	first, count, ok := s.sum.groupHeader(b)
	switch {
	case !ok:
		return &flaw{off: s.off, reason: fmt.Sprintf("no group of records where record %d should start", s.seq)}
	case first != s.seq:
		return &flaw{off: s.off, order: true, reason: fmt.Sprintf("records go on with %d, not %d", first, s.seq)}
	case first+uint64(count) < first:
		return &flaw{off: s.off, order: true, reason: "sequence numbers overflow"}
	}
	s.skip(groupHeaderSize)
	if s.left = count; count == 0 {
		s.whole(true)
	}
	return nil
}

func (s *scanner) whole(seal bool) {
	s.lastAt, s.end, s.next, s.sealed = s.groupAt, s.off, s.seq, seal
}

// peek returns the next n bytes without consuming them.
func (s *scanner) peek(n int) ([]byte, error) {
	if s.hi-s.lo < n {
		if err := s.fillSlow(n); err != nil {
			return nil, err
		}
	}
	return s.buf[s.lo : s.lo+n : s.lo+n], nil
}

func (s *scanner) skip(n int) {
	s.lo += n
	s.off += int64(n)
}

// fillSlow reads on until n bytes are buffered.
func (s *scanner) fillSlow(n int) error {
	if s.off+int64(n) > s.limit {
		return &flaw{off: s.off, reason: fmt.Sprintf("the segment ends at byte %d within record %d or its group", s.limit, s.seq)}
	}
	into := s.buf
	if size := max(n, int(min(scanBuffer, s.limit-s.off))); size > len(into) {
		into = make([]byte, size)
	}
	s.hi = copy(into, s.buf[s.lo:s.hi])
	s.lo, s.buf = 0, into
	from := s.off + int64(s.hi)
	want := min(int64(len(s.buf)-s.hi), s.limit-from)
	got, err := s.r.ReadAt(s.buf[s.hi:s.hi+int(want)], from)
	s.hi += got
	switch {
	case s.hi >= n:
		return nil
	case errors.Is(err, io.EOF):
		return &flaw{off: s.off, reason: fmt.Sprintf("the file ends at byte %d within record %d or its group", from+int64(got), s.seq)}
	}
	return fmt.Errorf("read %d bytes at byte %d: %w", want, from, err)
}

// findGroup looks in r[from:limit] for the header of a group whose records are not older than seq and returns where it
// is, or -1. It finds only what this journal wrote: the header's checksum knows the journal id.
func findGroup(r io.ReaderAt, sum *checksum, seq uint64, from, limit int64) (int64, error) {
	buf := make([]byte, max(0, min(scanBuffer, limit-from)))
	for from+groupHeaderSize <= limit {
		n, err := r.ReadAt(buf[:min(int64(len(buf)), limit-from)], from)
		if err != nil && !errors.Is(err, io.EOF) {
			return 0, fmt.Errorf("read at byte %d: %w", from, err)
		}
		if n < groupHeaderSize {
			break
		}
		for i := 0; ; i++ {
			k := bytes.Index(buf[i:n], []byte(groupMagic))
			if k < 0 || i+k+groupHeaderSize > n {
				break
			}
			i += k
			if first, _, ok := sum.groupHeader(buf[i:]); ok && first >= seq {
				return from + int64(i), nil
			}
		}
		from += int64(n - groupHeaderSize + 1)
	}
	return -1, nil
}
