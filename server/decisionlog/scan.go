package decisionlog

import (
	"bytes"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"

	"github.com/klauspost/compress/zstd"
)

// frameAt is where a frame of a segment is, and what its header says.
type frameAt struct {
	header
	offset int64
}

// contents are what the headers of a segment say.
type contents struct {
	frames []frameAt // with records
	losses []loss    // that the frames tell of
	damage []damaged
	end    int64 // where the good frames end
	tail   int64 // bytes after that: of a frame that was being written
	sealed bool
}

// damaged is a damage and the times of decisions that may have been in it.
type damaged struct {
	Damage
	span
}

// summary sums up the contents.
func (c *contents) summary() (s header) {
	s = header{kind: frameEnd, ids: noSpan, lost: noLoss, raw: uint32(len(c.frames))}
	for i := range c.frames {
		s.records += c.frames[i].records
		s.ids = s.ids.with(c.frames[i].ids)
	}
	for _, x := range c.losses {
		s.lost = s.lost.with(x)
	}
	return s
}

// source is what segments are read from; *os.File is one.
type source interface {
	io.ReaderAt
}

// scanWindow is how much of a frame is read at first: headers and hashes of most fit.
const scanWindow = 4 << 10

// scanner reads the headers of a segment.
type scanner struct {
	src  source
	path string
	seq  uint32
	size int64
	from int64 // no id is earlier
	buf  []byte
}

// scan reads the headers of a segment up to size. keep, if not nil, is asked for each
// frame with its hashes whether it is to be in frames. An error is one of the source.
func scan(src source, path string, seq uint32, size int64, keep func(h *header, hashes []byte) bool) (*contents, error) {
	_, first, _ := parseSegment(filepath.Base(path))
	s := &scanner{src: src, path: path, seq: seq, size: size, from: first, buf: make([]byte, scanWindow)}
	c := new(contents)
	for at := int64(0); at < size; {
		var f frameAt
		hashes, whole, err := s.header(&f.header, at)
		if err != nil {
			return nil, err
		}
		if hashes == nil {
			next, err := s.next(at + 1)
			if err != nil {
				return nil, err
			}
			if next < 0 { // nothing that is whole comes after it
				break
			}
			c.damage = append(c.damage, damaged{Damage{path, at, next - at, "not what was written"}, span{s.from, math.MaxInt64}})
			at = next
			continue
		}
		if !whole {
			break
		}
		f.offset = at
		at += f.size()
		c.end = at
		if f.kind == frameEnd {
			c.sealed = true
			continue
		}
		if !f.lost.empty() {
			c.losses = append(c.losses, f.lost)
		}
		if f.records > 0 {
			s.from = f.ids.from
			c.endDamage(f.ids)
			if keep == nil || keep(&f.header, hashes) {
				c.frames = append(c.frames, f)
			}
		}
	}
	c.tail = size - c.end
	return c, nil
}

// endDamage notes that what was damaged was written before these ids.
func (c *contents) endDamage(ids span) {
	for i := len(c.damage) - 1; i >= 0 && c.damage[i].to == math.MaxInt64; i-- {
		c.damage[i].to = ids.to
	}
}

// header reads the header at a place, and the hashes, valid until the next call; nil if
// there is none that is good. whole: the frame ends within the segment.
func (s *scanner) header(h *header, at int64) (hashes []byte, whole bool, err error) {
	n, err := s.read(s.buf[:min(scanWindow, s.size-at)], at)
	if err != nil || !h.get(s.buf[:n], s.seq) {
		return nil, false, err
	}
	need := headerBytes + h.hashes()
	if int64(need) > s.size-at {
		return nil, false, nil
	}
	if need > n {
		if need > len(s.buf) {
			s.buf = append(s.buf[:n], make([]byte, need-n)...)
		}
		if n, err = s.read(s.buf[:need], at); err != nil || n < need {
			return nil, false, err
		}
	}
	if !h.good(s.buf[:need]) {
		return nil, false, nil
	}
	return s.buf[headerBytes:need], h.size() <= s.size-at, nil
}

// read fills b as far as the source has it.
func (s *scanner) read(b []byte, at int64) (int, error) {
	n, err := s.src.ReadAt(b, at)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}

// next returns where the next good frame begins, -1 if there is none.
func (s *scanner) next(at int64) (int64, error) {
	chunk := make([]byte, 256<<10)
	for at < s.size {
		n, err := s.read(chunk[:min(int64(len(chunk)), s.size-at)], at)
		if err != nil || n < headerBytes {
			return -1, err
		}
		for off := 0; ; off++ {
			i := bytes.Index(chunk[off:n], []byte(frameMagic))
			if i < 0 {
				break
			}
			off += i
			var h header
			hashes, whole, err := s.header(&h, at+int64(off))
			if err != nil {
				return -1, err
			}
			if hashes != nil && whole {
				return at + int64(off), nil
			}
		}
		at += int64(n - len(frameMagic) + 1)
	}
	return -1, nil
}

// readEnd reads the last frame of a segment that was ended in good order.
func readEnd(f source, seq uint32, size int64) (h header, ok bool) {
	var b [headerBytes]byte
	if size < headerBytes {
		return h, false
	}
	if _, err := f.ReadAt(b[:], size-headerBytes); err != nil && !errors.Is(err, io.EOF) {
		return h, false
	}
	return h, h.get(b[:], seq) && h.kind == frameEnd && h.good(b[:])
}

// newUnzip returns what unpacks blocks. It is safe for concurrent use, and has nothing
// that must be closed as long as it reads no streams.
func newUnzip() (*zstd.Decoder, error) {
	return zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderMaxMemory(maxRaw))
}

// scanFile reads the headers of a file.
func scanFile(path string, seq uint32, size int64, keep func(*header, []byte) bool) (c *contents, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return scan(f, path, seq, size, keep)
}
