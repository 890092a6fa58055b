package journal

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
)

// maxMendBytes is how long a record may be of which a flipped bit is looked for.
const maxMendBytes = 256 << 10

// FlippedBit is a single bit of a journal by which a record, group or header differs from
// what was written.
type FlippedBit struct {
	File   string
	Offset int64
	Mask   byte
}

// FindFlippedBit looks for the one bit that makes what is damaged at a byte of a segment
// right: the checksum of what was written fits then. CRC-32C tells any two of so few bytes
// apart that differ in up to three bits, so if there is one it is the right one. ok is
// false if there is none: more than a bit was changed.
func FindFlippedBit(ctx context.Context, dir string, d Damage) (bit FlippedBit, ok bool, err error) {
	segs, err := listSegments(dir)
	if err != nil {
		return bit, false, err
	}
	for i := range segs {
		if segs[i].path == d.File {
			return findFlippedBit(ctx, &segs[i], anyID(segs), d)
		}
	}
	return bit, false, nil
}

func findFlippedBit(ctx context.Context, s *segment, id uint64, d Damage) (bit FlippedBit, ok bool, err error) {
	b := make([]byte, min(maxMendBytes, max(0, s.size-d.Offset)))
	f, err := os.Open(s.path)
	if err != nil {
		return bit, false, err
	}
	defer f.Close() //nolint:errcheck // only read
	n, err := f.ReadAt(b, d.Offset)
	if err != nil && !errors.Is(err, io.EOF) {
		return bit, false, err
	}
	b = b[:n]
	bit = FlippedBit{File: s.path}
	try := func(n int, good func() bool) bool {
		for i := 0; i < 8*min(n, len(b)); i++ {
			b[i/8] ^= 1 << (i % 8)
			found := good()
			b[i/8] ^= 1 << (i % 8)
			if found {
				bit.Offset, bit.Mask, ok = d.Offset+int64(i/8), 1<<(i%8), true
				return true
			}
			if i%1024 == 0 && ctx.Err() != nil {
				return false
			}
		}
		return false
	}
	if d.Offset == 0 {
		try(headerSize, func() bool {
			h, good := parseHeader(b[:min(headerSize, len(b))])
			return good && h.first == s.first
		})
		return bit, ok, ctx.Err()
	}
	sum := newChecksum(id)
	if len(b) >= groupHeaderSize && try(groupHeaderSize, func() bool {
		first, _, good := sum.groupHeader(b)
		return good && first == d.From
	}) {
		return bit, true, nil
	}
	if len(b) < recordHeaderSize {
		return bit, false, ctx.Err()
	}
	record := func() bool {
		length := binary.LittleEndian.Uint32(b)
		return int64(length) <= int64(len(b)-recordHeaderSize) && sum.record(d.From, b[recordHeaderSize:recordHeaderSize+int(length)]) == binary.LittleEndian.Uint32(b[4:])
	}
	if try(recordHeaderSize, record) {
		return bit, true, nil
	}
	// Of the payload: the sum of each is one of a table, so all is tried with one pass.
	length := int64(binary.LittleEndian.Uint32(b))
	if length > int64(len(b)-recordHeaderSize) {
		return bit, false, ctx.Err()
	}
	payload := b[recordHeaderSize : recordHeaderSize+length]
	differ := sum.record(d.From, payload) ^ binary.LittleEndian.Uint32(b[4:])
	if i, found := flippedIn(differ, len(payload)); found {
		bit.Offset, bit.Mask = d.Offset+recordHeaderSize+int64(i/8), 1<<(i%8)
		return bit, true, nil
	}
	return bit, false, ctx.Err()
}

// flippedIn returns the bit of n bytes whose flip changes their CRC-32C by so much. The sum
// is linear: what a bit changes depends on how many bytes come after it alone.
func flippedIn(differ uint32, n int) (bit int, ok bool) {
	table := crc32.MakeTable(crc32.Castagnoli)
	var by [8]uint32 // what each bit of a byte changes, with so many bytes after it
	for i := range by {
		by[i] = table[1<<i]
	}
	for at := n - 1; at >= 0; at-- {
		for i, x := range by {
			if x == differ {
				return 8*at + i, true
			}
			by[i] = table[byte(x)] ^ x>>8
		}
	}
	return 0, false
}

// Mend turns a bit over.
func (b FlippedBit) Mend() error {
	f, err := os.OpenFile(b.File, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	var x [1]byte
	if _, err = f.ReadAt(x[:], b.Offset); err == nil {
		x[0] ^= b.Mask
		_, err = f.WriteAt(x[:], b.Offset)
	}
	return errors.Join(err, f.Sync(), f.Close())
}

// CutOut writes the segment of a damage anew in which every record that can't be read is an
// empty one, of the same number, so that nothing after it is lost. The file as it was is
// moved to a folder. Nobody has the journal open. It returns how many records are empty now.
// The caller verifies the journal again: of a segment whose file is missing, or whose damage
// is at the end of the journal, nothing is known that could be written.
func CutOut(ctx context.Context, dir string, d Damage, aside string) (lost uint64, err error) {
	segs, err := listSegments(dir)
	if err != nil {
		return 0, err
	}
	at := -1
	for i := range segs {
		if segs[i].path == d.File {
			at = i
		}
	}
	id := anyID(segs)
	switch {
	case at < 0:
		return 0, fmt.Errorf("journal: %s is missing: nothing is known of its records", d.File)
	case id == 0:
		return 0, fmt.Errorf("journal: %s: no header can be read, so the id in all checksums is not known", d.File)
	}
	last, next := at == len(segs)-1, uint64(0)
	if !last {
		next = segs[at+1].first
	}
	made := d.File + ".new"
	if lost, err = rewriteWithout(ctx, &segs[at], id, next, made); err != nil {
		return 0, errors.Join(err, os.Remove(made))
	}
	if err := os.MkdirAll(aside, 0o700); err != nil {
		return 0, err
	}
	if err := os.Rename(d.File, filepath.Join(aside, filepath.Base(d.File))); err != nil {
		return 0, err
	}
	if err := os.Rename(made, d.File); err != nil {
		return 0, err
	}
	return lost, errors.Join(osFS{}.SyncDir(dir), osFS{}.SyncDir(aside))
}

// rewriteWithout writes the records of a segment that can be read to another file, and
// empty ones in place of the others, up to before record next; 0 if the segment is the last.
func rewriteWithout(ctx context.Context, s *segment, id, next uint64, to string) (lost uint64, err error) {
	from, err := os.Open(s.path)
	if err != nil {
		return 0, err
	}
	defer from.Close() //nolint:errcheck // only read
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, out.Sync(), out.Close()) }()
	w := &groupWriter{out: out, sum: newChecksum(id), next: s.first}
	if _, err := out.Write(header{version: formatVersion, first: s.first, id: id}.encode()); err != nil {
		return 0, err
	}
	sum, off := newChecksum(id), int64(headerSize)
	var sc scanner
	for {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		sc.scan(from, sum, w.next, s.size)
		sc.off = off
		for err = nil; err == nil; {
			var seq uint64
			var payload []byte
			if seq, payload, err = sc.record(); err == nil {
				if werr := w.add(seq, payload); werr != nil {
					return 0, werr
				}
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if _, flawed := errors.AsType[*flaw](err); !flawed {
			return 0, err
		}
		later, ferr := findGroup(from, sum, w.next+1, sc.groupAt+1, s.size)
		if ferr != nil {
			return 0, ferr
		}
		if later < 0 {
			break
		}
		b := make([]byte, groupHeaderSize)
		if _, err := from.ReadAt(b, later); err != nil {
			return 0, err
		}
		first, _, _ := sum.groupHeader(b)
		n, err := w.fill(first)
		lost += n
		if err != nil {
			return 0, err
		}
		off = later
	}
	if next > 0 {
		n, err := w.fill(next)
		lost += n
		if err != nil {
			return 0, err
		}
	}
	return lost, w.end()
}

// groupWriter writes records in groups.
type groupWriter struct {
	out   *os.File
	sum   *checksum
	next  uint64
	group []byte // with room for its header
	count uint32
}

func (w *groupWriter) add(seq uint64, payload []byte) error {
	if seq != w.next {
		return fmt.Errorf("journal: record %d comes where %d should", seq, w.next)
	}
	if w.count == 0 {
		w.group = append(w.group[:0], make([]byte, groupHeaderSize)...)
	}
	w.group = w.sum.appendRecord(w.group, seq, payload)
	w.count++
	w.next++
	if w.count < 512 {
		return nil
	}
	return w.flush()
}

// fill adds empty records up to before one.
func (w *groupWriter) fill(next uint64) (n uint64, err error) {
	for ; w.next < next; n++ {
		if err := w.add(w.next, nil); err != nil {
			return n, err
		}
	}
	return n, nil
}

func (w *groupWriter) flush() error {
	if w.count == 0 {
		return nil
	}
	w.sum.putGroupHeader(w.group, w.next-uint64(w.count), w.count)
	w.count = 0
	_, err := w.out.Write(w.group)
	return err
}

// end writes what is left, and a seal.
func (w *groupWriter) end() error {
	if err := w.flush(); err != nil {
		return err
	}
	seal := make([]byte, groupHeaderSize)
	w.sum.putGroupHeader(seal, w.next, 0)
	_, err := w.out.Write(seal)
	return err
}

// End returns the last segment file of the journal in dir, which nobody writes to, and the
// number that the next record will get when it is opened. It reads that segment. Damage is
// a *CorruptError.
func End(dir string) (file string, next uint64, err error) {
	segs, err := listSegments(dir)
	if err != nil || len(segs) == 0 {
		return dir, 1, err
	}
	s := &segs[len(segs)-1]
	f, err := os.Open(s.path)
	if err != nil {
		return "", 0, fmt.Errorf("journal: %w", err)
	}
	defer f.Close() //nolint:errcheck // only read
	h, err := readHeader(f, s)
	if errors.Is(err, errUnmade) {
		return s.path, s.first, nil
	}
	if err != nil {
		return "", 0, err
	}
	var sc scanner
	sc.scan(f, newChecksum(h.id), s.first, s.size)
	for err == nil {
		_, _, err = sc.record()
	}
	if _, flawed := errors.AsType[*flaw](err); !flawed && !errors.Is(err, io.EOF) {
		return "", 0, s.explain(err)
	}
	return s.path, sc.next, nil
}
