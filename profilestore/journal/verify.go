package journal

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
)

// VerifyOptions say how to verify a journal.
type VerifyOptions struct {
	// First is the greatest number that the first record may have, as in Options.
	First uint64
	// Progress, if set, is called now and then with how many bytes of all have been read.
	Progress func(done, total int64)
}

// Verification is what Verify found.
type Verification struct {
	Segments int
	Bytes    int64  // of the segments
	Records  uint64 // that are as written
	First    uint64 // the number of the first record
	Next     uint64 // and the one after the last
	Sealed   bool   // the journal had been closed in order
	Damages  []Damage
	// Tail are bytes at the end of the last segment that are no whole group: one that is being written, or that a crash
	// interrupted. The next Open cuts them off; nothing in them was acknowledged.
	Tail int64
}

// Damage is a stretch of a journal that is not as written.
type Damage struct {
	File   string
	Offset int64
	Reason string
	// From is the number of the first record that can't be read for it, and Lost how many can't. Open says that it
	// goes up to the end of the journal, where nobody knows how many there were; then Lost is 0.
	From, Lost uint64
	Open       bool
}

// Verify reads all of the journal in dir and finds every damage in it, not just the first. It changes nothing; another
// process may have the journal open. The error is one of reading, or of ctx; with damages there is none.
func Verify(ctx context.Context, dir string, o VerifyOptions) (*Verification, error) {
	segs, err := listSegments(dir)
	if err != nil {
		return nil, err
	}
	v := &verifier{ctx: ctx, o: o, next: 1}
	for i := range segs {
		v.total += segs[i].size
	}
	if first := max(o.First, 1); len(segs) > 0 {
		v.next = min(segs[0].first, first)
	} else if first > 1 {
		v.damage(&segment{path: dir}, 0, first, "there is no segment file")
	}
	v.found.First = v.next
	v.id = anyID(segs)
	for i := range segs {
		last := i == len(segs)-1
		after := uint64(0)
		if !last {
			after = segs[i+1].first
		}
		if err := v.segment(&segs[i], after, last); err != nil {
			return nil, err
		}
	}
	v.found.Next = v.next
	return &v.found, nil
}

// anyID returns the id in the first header that can be read, 0 if there is none.
func anyID(segs []segment) uint64 {
	for i := range segs {
		f, err := os.Open(segs[i].path)
		if err != nil {
			continue
		}
		h, err := readHeader(f, &segs[i])
		_ = f.Close() // only read
		if err == nil {
			return h.id
		}
	}
	return 0
}

// verifier is the state of one Verify.
type verifier struct {
	ctx         context.Context
	o           VerifyOptions
	found       Verification
	sc          scanner
	id          uint64
	before      string // the file of the segment before
	next        uint64 // the number of the record that should come next
	total, done int64  // bytes
	shown       int64
}

// damage notes that the records from v.next to before next can't be read, or all that follow if next is 0.
func (v *verifier) damage(s *segment, off int64, next uint64, reason string) {
	d := Damage{File: s.path, Offset: off, Reason: reason, From: v.next, Open: next == 0}
	if next > v.next {
		d.Lost, v.next = next-v.next, next
	}
	v.found.Damages = append(v.found.Damages, d)
}

// segment verifies one segment; after is the number that the next segment begins with, 0 if there is none.
func (v *verifier) segment(s *segment, after uint64, last bool) error {
	f, err := os.Open(s.path)
	if errors.Is(err, os.ErrNotExist) && !last && v.before == "" {
		v.next, v.found.First = after, after // RemoveBefore has just removed it
		return nil
	} else if errors.Is(err, os.ErrNotExist) && !last {
		if _, err := os.Stat(v.before); errors.Is(err, os.ErrNotExist) {
			v.next, v.found.First = after, after // and the one before it
			return nil
		}
	}
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("journal: %s has vanished: %w meanwhile, verify it again", s.path, ErrRemoved)
	}
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	defer f.Close() //nolint:errcheck // only read
	if last {       // it may have grown
		info, err := f.Stat()
		if err != nil {
			return fmt.Errorf("journal: %w", err)
		}
		s.size = info.Size()
	}
	v.before = s.path
	v.found.Segments++
	v.found.Bytes += s.size
	defer func() { v.done += s.size }()
	if s.first != v.next {
		v.damage(s, 0, s.first, fmt.Sprintf("its first record is %d, but %d should come next: a segment file is missing or out of place", s.first, v.next))
	}
	h, err := readHeader(f, s)
	switch {
	case errors.Is(err, errUnmade) && last:
		v.found.Tail = s.size
		return nil
	case errors.Is(err, errUnmade), isCorrupt(err):
		reason := errUnmade.Error()
		if c, ok := errors.AsType[*CorruptError](err); ok {
			reason = c.Reason
		}
		v.damage(s, 0, v.next, reason)
		h.id = cmp.Or(v.id, h.id) // the records may be intact, and then they know it
	case err != nil:
		return err
	case v.id != 0 && h.id != v.id:
		v.damage(s, 0, after, "it belongs to another journal than the first of the others")
		return nil
	}
	return v.records(f, newChecksum(h.id), s, after, last)
}

// records verifies the groups of a segment.
func (v *verifier) records(f io.ReaderAt, sum *checksum, s *segment, after uint64, last bool) error {
	at := int64(headerSize)
	for {
		err := v.scan(f, sum, s, at)
		fl, flawed := errors.AsType[*flaw](err)
		switch {
		case errors.Is(err, io.EOF):
			v.found.Sealed = last && v.sc.sealed
			switch {
			case last:
			case v.next != after:
				v.damage(s, s.size, after, fmt.Sprintf("it ends before record %d, but the next segment starts with %d", v.next, after))
			case !v.sc.sealed:
				v.damage(s, s.size, after, "no seal at its end, though there is a segment after it")
			}
			return nil
		case !flawed:
			return s.explain(err)
		}
		later, err := findGroup(f, sum, v.next, v.sc.groupAt+1, s.size)
		if fl.order {
			later, err = v.sc.groupAt, nil // it is whole, and what is before it is missing
			if first, _ := v.header(f, sum, later); first < v.next {
				later, err = findGroup(f, sum, v.next, v.sc.groupAt+1, s.size)
			}
		}
		switch {
		case err != nil:
			return fmt.Errorf("journal: %s: %w", s.path, err)
		case later < 0 && last && !fl.order:
			v.found.Tail = s.size - v.sc.end
			v.found.Records -= v.next - v.sc.next
			v.next = v.sc.next
			return nil
		case later < 0:
			v.damage(s, fl.off, after, fl.reason)
			return nil
		}
		first, err := v.header(f, sum, later)
		if err != nil {
			return fmt.Errorf("journal: %s: %w", s.path, err)
		}
		v.damage(s, fl.off, first, fl.reason)
		at = later
	}
}

// scan reads groups from the one at a byte on, and counts their records.
func (v *verifier) scan(f io.ReaderAt, sum *checksum, s *segment, at int64) error {
	v.sc.scan(f, sum, v.next, s.size)
	v.sc.off = at
	for n := 0; ; n++ {
		if n%replayCheck == 0 {
			if err := v.ctx.Err(); err != nil {
				return err
			}
			if done := v.done + v.sc.off; v.o.Progress != nil && done-v.shown >= 1<<20 {
				v.shown = done
				v.o.Progress(done, max(v.total, done))
			}
		}
		if _, _, err := v.sc.record(); err != nil {
			v.next = v.sc.seq
			return err
		}
		v.found.Records++
	}
}

func (*verifier) header(f io.ReaderAt, sum *checksum, at int64) (first uint64, err error) {
	b := make([]byte, groupHeaderSize)
	if _, err := f.ReadAt(b, at); err != nil {
		return 0, err
	}
	first, _, _ = sum.groupHeader(b)
	return first, nil
}
