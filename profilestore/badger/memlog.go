package badger

import (
	"bufio"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// memLog is how far a log of a memory table, NUMBER.mem, is whole: after 20 bytes of
// Badger's, which say how it is encrypted, come entries
//
//	0  meta, user meta: a byte each
//	2  bytes of the key, of the value, and a time: uvarints
//	   key, value
//	   CRC-32C of all that, uint32, big-endian
//
// of which those with bitTxn in their meta count only when the entry with bitFinTxn has
// come that ends their transaction. What follows is nothing, or was being written.
//
// Badger reads it so too, and stops without a word at the first entry that is not whole:
// whatever a flipped bit hides is lost. It would also make room for as many bytes as a
// damaged length asks for. So we read it first.
type memLog struct {
	end int64  // of the last whole transaction; 0: it has not even a head
	sum uint32 // CRC-32C of the bytes before end
}

const (
	memSuffix = ".mem"
	memHead   = 20

	bitTxn    = 1 << 6
	bitFinTxn = 1 << 7
	maxMemKey = 1 << 16
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// empty reports whether no record is in the log.
func (m memLog) empty() bool { return m.end <= memHead }

// scanMem reads a log on from where from ended. Its error is one of the file.
func scanMem(path string, from memLog) (memLog, error) { return eachInMem(path, from, nil) }

// eachInMem is scanMem that calls fn, if it is not nil, with every record and its key, also
// of a last transaction that is not whole. They are valid during the call.
func eachInMem(path string, from memLog, fn func(key, record []byte)) (memLog, error) {
	f, err := os.Open(path)
	if err != nil {
		return from, err
	}
	defer func() { _ = f.Close() }() // only read
	info, err := f.Stat()
	if err != nil || info.Size() < memHead {
		return from, err
	}
	s := memScanner{r: bufio.NewReaderSize(io.NewSectionReader(f, from.end, info.Size()-from.end), 256<<10), left: info.Size() - from.end, sum: from.sum, at: from.end}
	m := from
	if m.end == 0 {
		s.take(memHead)
		m = memLog{s.at, s.sum}
	}
	version := uint64(0) // of the transaction that has begun
	for {
		meta, key, value, ok := s.entry()
		if !ok {
			return m, s.err
		}
		switch {
		case meta&bitTxn != 0:
			if fn != nil && len(key) > 8 {
				fn(key[:len(key)-8], value)
			}
			v, ok := versionOf(key)
			if !ok || version != 0 && v != version {
				return m, nil
			}
			version = v
			continue
		case meta&bitFinTxn != 0:
			if v, err := strconv.ParseUint(string(value), 10, 64); err != nil || v != version {
				return m, nil
			}
			version = 0
		case version != 0:
			return m, nil
		}
		m = memLog{s.at, s.sum}
	}
}

// versionOf returns the version at the end of a key.
func versionOf(key []byte) (uint64, bool) {
	if len(key) <= 8 {
		return 0, false
	}
	return ^binary.BigEndian.Uint64(key[len(key)-8:]), true
}

// memScanner reads entries.
type memScanner struct {
	r    *bufio.Reader
	left int64 // bytes of the file after at
	at   int64
	sum  uint32 // of the file up to at
	own  uint32 // of the entry
	buf  []byte
	err  error
}

// take reads n bytes, valid until the next call; nil if they are not there.
func (s *memScanner) take(n int64) []byte {
	if n > s.left {
		return nil
	}
	if int64(cap(s.buf)) < n {
		s.buf = make([]byte, n)
	}
	b := s.buf[:n]
	if _, err := io.ReadFull(s.r, b); err != nil {
		if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			s.err = err
		}
		return nil
	}
	s.left -= n
	s.at += n
	s.sum, s.own = crc32.Update(s.sum, castagnoli, b), crc32.Update(s.own, castagnoli, b)
	return b
}

// uvarint reads a number of at most so much.
func (s *memScanner) uvarint(most uint64) (n uint64, ok bool) {
	for shift := 0; shift < 64; shift += 7 {
		b := s.take(1)
		if b == nil {
			return 0, false
		}
		n |= uint64(b[0]&0x7f) << shift
		if b[0] < 0x80 {
			return n, n <= most
		}
	}
	return 0, false
}

// entry reads the next entry if it is whole. Key and value are valid until the next call.
func (s *memScanner) entry() (meta byte, key, value []byte, ok bool) {
	s.own = 0
	head := s.take(2)
	if head == nil {
		return 0, nil, nil, false
	}
	meta = head[0]
	kl, ok := s.uvarint(maxMemKey)
	if !ok || kl == 0 {
		return 0, nil, nil, false
	}
	vl, ok := s.uvarint(uint64(s.left))
	if !ok {
		return 0, nil, nil, false
	}
	if _, ok = s.uvarint(1<<64 - 1); !ok {
		return 0, nil, nil, false
	}
	kv := s.take(int64(kl + vl))
	if kv == nil {
		return 0, nil, nil, false
	}
	sum, buf := s.own, s.buf
	s.buf = nil // kv is a part of it
	end := s.take(4)
	ok = end != nil && binary.BigEndian.Uint32(end) == sum
	s.buf = buf
	return meta, kv[:kl:kl], kv[kl:], ok
}

// EachLogged calls fn for the delta records that were written last, in a folder that nobody
// has open: those that are in no table yet. A key may come more than once, its newest
// record last. After a close in order there are none. Both are valid during the call.
func EachLogged(dir string, fn func(key, record []byte)) error {
	names, err := filesOf(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, name := range names {
		if strings.HasSuffix(name, memSuffix) {
			if _, err := eachInMem(filepath.Join(dir, name), memLog{}, fn); err != nil {
				return err
			}
		}
	}
	return nil
}
