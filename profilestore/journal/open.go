package journal

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
)

// Recovery is what Open found at the end of the journal.
type Recovery struct {
	// Sealed: the journal had been closed in order, nothing can be missing.
	Sealed bool
	// File is the segment whose tail was cut off, empty if none was. Its bytes from Offset on, Bytes of them, were no
	// complete group: the write that a crash interrupted. Reason says what was wrong with them.
	File   string
	Offset int64
	Bytes  int64
	Reason string
}

// Open opens the journal in dir for appending and makes it if there is none. The caller holds a lock that keeps other
// processes out. A write that a crash interrupted is cut off and told of in Recovery; for any other damage the error is
// a *CorruptError, for a format from the future it is ErrVersion, and nothing on disk is changed.
//
// It reads the segments from Options.CheckFrom on, with one buffer of 256 KiB or the size of the largest record.
func Open(dir string, o Options) (*Journal, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := makeDir(o.FS, dir); err != nil {
		return nil, fmt.Errorf("journal: make %s: %w", dir, err)
	}
	segs, err := listSegments(dir)
	if err != nil {
		return nil, err
	}
	p := opener{o: o, dir: dir, segs: segs}
	if err := p.check(); err != nil {
		return nil, err
	}
	file, err := p.ready()
	if err != nil {
		return nil, fmt.Errorf("journal: ready %s for appending: %w", p.last().path, err)
	}
	j := &Journal{
		o: o, dir: dir, id: p.id, recovery: p.found, segs: p.segs, next: p.next, sum: newChecksum(p.id),
		open: &group{}, file: file, size: p.last().size, from: p.last().first,
		turn: make(chan struct{}, 1), wake: make(chan struct{}, 1), stopped: make(chan struct{}),
	}
	go j.commit()
	return j, nil
}

// opener is the state of one Open: check only reads, ready only writes.
type opener struct {
	o    Options
	dir  string
	segs []segment
	sc   scanner

	id     uint64
	next   uint64
	unmade bool  // the last segment has no header yet
	redo   int64 // ready writes the last segment again from here
	found  Recovery
}

func (p *opener) last() *segment { return &p.segs[len(p.segs)-1] }

// check reads the segments and decides where the journal ends.
func (p *opener) check() error {
	p.next = 1
	if first := max(p.o.First, 1); len(p.segs) > 0 {
		p.next = min(p.segs[0].first, first)
	} else if first > 1 {
		return fmt.Errorf("journal: %s has no segment file, though records up to %d are known to have been written: "+
			"put back the files, or restore the data folder from a copy", p.dir, first-1)
	}
	for i := range p.segs {
		if err := p.checkSegment(i); err != nil {
			return err
		}
	}
	if len(p.segs) == 0 {
		p.segs = []segment{{path: segmentPath(p.dir, 1), first: 1}}
		p.unmade = true
	}
	if p.id != 0 {
		return nil
	}
	var b [8]byte
	if _, err := rand.Read(b[:]); err != nil {
		return fmt.Errorf("journal: draw an id: %w", err)
	}
	p.id = binary.LittleEndian.Uint64(b[:]) | 1 // never 0
	return nil
}

// checkSegment checks one segment and moves p.next past its records.
func (p *opener) checkSegment(i int) error {
	s, last := &p.segs[i], i == len(p.segs)-1
	if s.first != p.next {
		return s.corrupt(0, fmt.Sprintf("its first record is %d, but %d should come next: a segment file is missing or out of place", s.first, p.next))
	}
	f, err := os.Open(s.path)
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	defer f.Close() //nolint:errcheck // only read
	h, err := readHeader(f, s)
	switch {
	case errors.Is(err, errUnmade) && last:
		p.unmade = true
		p.found = Recovery{File: s.path, Bytes: s.size, Reason: errUnmade.Error()}
		return nil
	case errors.Is(err, errUnmade):
		return s.corrupt(0, errUnmade.Error())
	case err != nil:
		return err
	case i > 0 && h.id != p.id:
		return s.corrupt(0, "it belongs to another journal than the segment before it")
	}
	p.id = h.id
	sum := newChecksum(h.id)
	if !last && p.segs[i+1].first <= p.o.CheckFrom {
		p.next = p.segs[i+1].first
		return checkSeal(f, sum, s, p.next)
	}
	p.sc.scan(f, sum, s.first, s.size)
	for err == nil {
		_, _, err = p.sc.record()
	}
	p.next = p.sc.next
	switch {
	case last:
		return p.checkTail(f, s, err)
	case !errors.Is(err, io.EOF):
		return s.explain(err)
	case !p.sc.sealed:
		return s.corrupt(p.sc.end, "no seal at its end, though there is a segment after it: its last records are missing")
	}
	return nil
}

// checkTail decides what to do about the end of the last segment; err is why the scan ended.
func (p *opener) checkTail(f io.ReaderAt, s *segment, err error) error {
	p.found.Sealed = p.sc.sealed
	p.redo = p.sc.lastAt // 0 if there is no group: then the header
	if errors.Is(err, io.EOF) {
		return nil
	}
	fl, ok := errors.AsType[*flaw](err)
	if !ok || fl.order {
		return s.explain(err)
	}
	later, err := findGroup(f, p.sc.sum, p.next, p.sc.groupAt+1, s.size)
	switch {
	case err != nil:
		return fmt.Errorf("journal: %s: %w", s.path, err)
	case later >= 0:
		return s.corrupt(fl.off, fmt.Sprintf("%s, and a later group at byte %d shows that it had been acknowledged", fl.reason, later))
	}
	p.found = Recovery{File: s.path, Offset: p.sc.end, Bytes: s.size - p.sc.end, Reason: fl.reason}
	s.size = p.sc.end
	return nil
}

// ready makes what check found durable and returns the last segment open for writing.
func (p *opener) ready() (file File, err error) {
	if p.found.File != "" {
		p.o.Logger.Warn("journal: cut off what a crash left incomplete", slog.String("file", p.found.File),
			slog.Int64("offset", p.found.Offset), slog.Int64("bytes", p.found.Bytes), slog.String("reason", p.found.Reason))
	}
	s := p.last()
	switch {
	case !p.unmade:
		if file, err = p.o.FS.Open(s.path); err == nil {
			err = closeOn(p.rewriteTail(file), file)
		}
		return file, err
	case p.found.File != "":
		if file, err = p.o.FS.Open(s.path); err == nil {
			err = closeOn(file.Truncate(0), file)
		}
	default:
		file, err = p.o.FS.Create(s.path)
	}
	if err != nil {
		return nil, err
	}
	s.size = headerSize
	return file, writeHeader(p.o.FS, file, *s, p.id)
}

// rewriteTail cuts the last segment and writes its last group again; see Journal for why.
func (p *opener) rewriteTail(file File) error {
	s := p.last()
	from, err := os.Open(s.path)
	if err != nil {
		return err
	}
	defer from.Close() //nolint:errcheck // only read
	if p.found.Bytes > 0 {
		if err := file.Truncate(s.size); err != nil {
			return err
		}
	}
	buf := make([]byte, min(scanBuffer, s.size-p.redo))
	for off := p.redo; off < s.size; {
		b := buf[:min(int64(len(buf)), s.size-off)]
		if _, err := from.ReadAt(b, off); err != nil {
			return err
		}
		if err := writeAll(file, b, off); err != nil {
			return err
		}
		off += int64(len(b))
	}
	if err := file.Sync(); err != nil {
		return err
	}
	return p.o.FS.SyncDir(p.dir)
}
