package journal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
)

// Read calls fn for the records of the journal in dir from sequence number from on, 0 for the first there is, in order. It
// opens nothing for writing, so another process may have the journal open: what it has appended by then is read, a
// group that it is just writing is not. Errors are those of Replay; a segment that is removed meanwhile is ErrRemoved.
func Read(ctx context.Context, dir string, from uint64, fn func(seq uint64, payload []byte) error) error {
	segs, err := listSegments(dir)
	if err != nil {
		return err
	}
	if len(segs) == 0 {
		return nil
	}
	if err := removed(segs[0].first, from); err != nil {
		return err
	}
	var sc scanner
	var id, next uint64
	for i := range segs {
		s, last := &segs[i], i == len(segs)-1
		if next > 0 && s.first != next {
			return s.corrupt(0, fmt.Sprintf("its first record is %d, but %d should come next: a segment file is missing or out of place", s.first, next))
		}
		if !last && segs[i+1].first <= from {
			next = segs[i+1].first
			continue
		}
		if id, err = s.read(ctx, &sc, id, last, from, fn); err != nil {
			return err
		}
		next = sc.next
	}
	return nil
}

// read reads one segment, of the journal id unless that is 0, and returns the id. last: it may end with a group that is
// being written.
func (s *segment) read(ctx context.Context, sc *scanner, id uint64, last bool, from uint64, fn func(uint64, []byte) error) (uint64, error) {
	f, err := os.Open(s.path)
	if errors.Is(err, os.ErrNotExist) { // RemoveBefore has come in between
		return id, fmt.Errorf("journal: %s is gone: %w", s.path, ErrRemoved)
	}
	if err != nil {
		return id, fmt.Errorf("journal: %w", err)
	}
	defer f.Close() //nolint:errcheck // only read
	h, err := readHeader(f, s)
	switch {
	case errors.Is(err, errUnmade) && last:
		sc.next = s.first
		return id, nil
	case errors.Is(err, errUnmade):
		return id, s.corrupt(0, errUnmade.Error())
	case err != nil:
		return id, err
	case id != 0 && h.id != id:
		return id, s.corrupt(0, "it belongs to another journal than the segment before it")
	}
	sum := newChecksum(h.id)
	if last {
		if s.size, err = wholeGroups(f, sum, s); err != nil {
			return id, err
		}
	}
	sc.scan(f, sum, s.first, s.size)
	if err := s.deliver(ctx, sc, from, fn); err != nil {
		return id, err
	}
	if !last && !sc.sealed {
		return id, s.corrupt(sc.end, "no seal at its end, though there is a segment after it: its last records are missing")
	}
	return h.id, nil
}

// wholeGroups returns where the last whole group of a segment ends that may be written to, so that no record is taken
// from one that is not whole.
func wholeGroups(f io.ReaderAt, sum *checksum, s *segment) (int64, error) {
	var sc scanner
	sc.scan(f, sum, s.first, s.size)
	var err error
	for err == nil {
		_, _, err = sc.record()
	}
	if errors.Is(err, io.EOF) {
		return sc.end, nil
	}
	fl, ok := errors.AsType[*flaw](err)
	if !ok || fl.order {
		return 0, s.explain(err)
	}
	later, ferr := findGroup(f, sum, sc.next, sc.groupAt+1, s.size)
	switch {
	case ferr != nil:
		return 0, fmt.Errorf("journal: %s: %w", s.path, ferr)
	case later >= 0:
		return 0, s.explain(err)
	}
	return sc.end, nil
}
