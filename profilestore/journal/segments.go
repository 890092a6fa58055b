package journal

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"
)

// Segment is one file of a journal.
type Segment struct {
	Path  string
	First uint64 // the number of its first record
	Next  uint64 // the number of the first record after it
	Bytes int64
	// Written is when the file was last written: no record in it came later. Of one that was copied it may be later.
	Written time.Time
}

// First is the sequence number of the first record that is there, 1 if nothing was ever removed; Next if there is none.
func (j *Journal) First() uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.segs[0].first
}

// Segments returns the segments in order. The last is the one that is written to.
func (j *Journal) Segments() ([]Segment, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	out := make([]Segment, 0, len(j.segs))
	for i := range j.segs {
		next := j.next
		if i+1 < len(j.segs) {
			next = j.segs[i+1].first
		}
		info, err := os.Stat(j.segs[i].path)
		if errors.Is(err, os.ErrNotExist) && len(out) == 0 && i+1 < len(j.segs) {
			continue // RemoveBefore is just removing it
		}
		if err != nil {
			return nil, fmt.Errorf("journal: %w", err)
		}
		out = append(out, Segment{Path: j.segs[i].path, First: j.segs[i].first, Next: next, Bytes: j.segs[i].size, Written: info.ModTime()})
	}
	return out, nil
}

// RemoveBefore removes the segments all of whose records have numbers below seq, oldest first, and returns them. The
// last segment always stays. Each removal is durable before the next, so a crash leaves a journal without a gap; later
// Opens need Options.First. It may run beside Appends. While somebody replays it does nothing and returns ErrReading.
func (j *Journal) RemoveBefore(seq uint64) (removed []Segment, err error) {
	if !j.reading.TryLock() {
		return nil, fmt.Errorf("journal: %w", ErrReading)
	}
	defer j.reading.Unlock()
	j.mu.Lock()
	closing := j.closing
	j.mu.Unlock()
	if closing {
		return nil, fmt.Errorf("journal: %w", ErrClosed)
	}
	segs, err := j.Segments()
	if err != nil {
		return nil, err
	}
	for _, s := range segs[:len(segs)-1] {
		if s.Next > seq {
			break
		}
		if err := j.o.FS.Remove(s.Path); err != nil {
			return removed, fmt.Errorf("journal: remove a segment: %w", err)
		}
		j.mu.Lock()
		j.segs = j.segs[1:]
		j.mu.Unlock()
		removed = append(removed, s)
		if err := j.o.FS.SyncDir(j.dir); err != nil {
			return removed, fmt.Errorf("journal: make the removal of %s durable: %w", s.Path, err)
		}
		j.o.Logger.Info("journal: removed a segment", slog.String("file", s.Path), slog.Uint64("first", s.First),
			slog.Uint64("last", s.Next-1), slog.Int64("bytes", s.Bytes))
	}
	return removed, nil
}

// List returns the segments of the journal in dir, which another process may have open. It reads the headers, and of the
// last segment all, to count its records. A damaged segment is listed with what its name says.
func List(dir string) ([]Segment, error) {
	segs, err := listSegments(dir)
	if err != nil {
		return nil, err
	}
	out := make([]Segment, 0, len(segs))
	for i := range segs {
		s := &segs[i]
		info, err := os.Stat(s.path)
		if errors.Is(err, os.ErrNotExist) && len(out) == 0 {
			continue // it has just been removed
		}
		if err != nil {
			return nil, fmt.Errorf("journal: %w", err)
		}
		x := Segment{Path: s.path, First: s.first, Bytes: info.Size(), Written: info.ModTime()}
		if i+1 < len(segs) {
			x.Next = segs[i+1].first
		} else if x.Next, err = s.count(); err != nil {
			return nil, err
		}
		out = append(out, x)
	}
	return out, nil
}

// count returns the number after the last record of a segment that can be read.
func (s *segment) count() (next uint64, err error) {
	f, err := os.Open(s.path)
	if err != nil {
		return 0, fmt.Errorf("journal: %w", err)
	}
	defer f.Close() //nolint:errcheck // only read
	h, err := readHeader(f, s)
	if errors.Is(err, errUnmade) || isCorrupt(err) {
		return s.first, nil
	}
	if err != nil {
		return 0, err
	}
	var sc scanner
	sc.scan(f, newChecksum(h.id), s.first, s.size)
	for err == nil {
		_, _, err = sc.record()
	}
	if _, ok := errors.AsType[*flaw](err); !ok && !errors.Is(err, io.EOF) {
		return 0, s.explain(err)
	}
	return sc.next, nil
}

func isCorrupt(err error) bool {
	_, ok := errors.AsType[*CorruptError](err)
	return ok
}

// Begins returns the number of the first record of the journal in dir, by the names of its files; 1 if there is none.
func Begins(dir string) (uint64, error) {
	segs, err := listSegments(dir)
	if errors.Is(err, os.ErrNotExist) || err == nil && len(segs) == 0 {
		return 1, nil
	}
	if err != nil {
		return 0, err
	}
	return segs[0].first, nil
}
