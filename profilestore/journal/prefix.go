package journal

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// Prefix is the beginning of a segment file that has whole groups only.
type Prefix struct {
	Bytes  int64
	Next   uint64 // the number of the record after it
	Sealed bool   // it ends with a seal and nothing is behind it, as in every segment that another follows
}

// WholePrefix reads a segment file, which a journal may be appending to, and returns how
// much of it is whole, among it all that was acknowledged before it was called: a copy of that
// much is a segment of which Open has nothing to cut off. What is behind is a group that is just
// being written, or that a crash has torn. The error is a *CorruptError if
// something is wrong that no interrupted write explains, and ErrVersion for a format from the future. A file whose header is not written yet has
// an empty prefix.
func WholePrefix(path string) (Prefix, error) {
	s := segment{path: path}
	f, err := os.Open(path)
	if err != nil {
		return Prefix{}, fmt.Errorf("journal: %w", err)
	}
	defer f.Close() //nolint:errcheck // only read
	info, err := f.Stat()
	if err != nil {
		return Prefix{}, fmt.Errorf("journal: %w", err)
	}
	var other bool
	if s.first, other, err = parseName(info.Name()); other || err != nil {
		return Prefix{}, s.corrupt(0, "its name is not one of a segment")
	}
	s.size = info.Size()
	h, err := readHeader(f, &s)
	if errors.Is(err, errUnmade) {
		return Prefix{Next: s.first}, nil
	}
	if err != nil {
		return Prefix{}, err
	}
	var sc scanner
	sc.scan(f, newChecksum(h.id), s.first, s.size)
	for err == nil {
		_, _, err = sc.record()
	}
	p := Prefix{Bytes: sc.end, Next: sc.next}
	if errors.Is(err, io.EOF) {
		p.Sealed = sc.sealed
		return p, nil
	}
	fl, ok := errors.AsType[*flaw](err)
	if !ok || fl.order {
		return p, s.explain(err)
	}
	later, err := findGroup(f, sc.sum, sc.next, sc.groupAt+1, s.size)
	switch {
	case err != nil:
		return p, fmt.Errorf("journal: %s: %w", path, err)
	case later >= 0:
		return p, s.corrupt(fl.off, fmt.Sprintf("%s, and a later group at byte %d shows that it had been acknowledged", fl.reason, later))
	}
	return p, nil
}
