package ledger

import (
	"errors"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"slices"
	"sync"
)

const (
	// maxQueue is how many bytes may wait for a disk that does not write.
	maxQueue = 16 << 20
	// maxSpare is the largest buffer that is kept for reuse.
	maxSpare = 1 << 20
	// maxFiles is how many files there may be before the first is compacted.
	maxFiles = 16
)

// log writes what changes into files DATA/ledger/00000001.log and so on.
//
// A record is made under the mutex of the ledger, together with the change, so records
// are in the order of changes. One goroutine, the writer, writes all that has come since
// its last write with one write, and wakes those who wait for it. They wait with a
// deadline, which is why they don't write themselves: a write to a stuck disk can't be
// given up. There is no sync before a decision is answered: what was written survives the
// process. Every second or so it is synced, so that a loss of power costs no more; and
// when an outcome has taken places for good, before its report is answered.
//
// If a write fails, the file is cut back to what it was, and everything that was in the
// write or has come since is undone, in memory too, before anybody learns of it: nothing
// that comes later can build on it. If that does not work either, or a sync fails, nobody
// knows what is in the file. Then a new one is begun, all reservations are written to it
// from memory, and the old ones are removed.
//
// # Compaction
//
// Most files become empty by themselves, since reservations expire. The first file is
// removed when none of its reservations is left; if that takes too long, those that are
// left are written to the last file again. The first and no other: then whatever says
// that a reservation has ended is never gone before the reservation. How many places are
// taken is in the checkpoint at the beginning of each file. Nothing waits for all this.
//
// The alternative, one file that is rewritten from memory when it has grown, needs a
// picture of memory at one moment: with a million reservations a pause, or a copy of
// each part before its first change.
type log struct {
	l *Ledger

	// Guarded by the mutex of the ledger.
	work, idle sync.Cond // of that mutex: there is something to write; nothing is being written
	open       *batch    // gathers; never nil
	spare      []byte
	writing    bool
	closing    bool
	broken     error  // why nothing can be appended to the last file
	suspect    bool   // a sync failed
	flight     *batch // is being written
	segments   []*segment
	seq        uint64 // of the last file that was begun
	failure    error
	failures   uint64
	compacted  uint64
	next       *batch // nothing to write: a sync that has not begun; nil: none

	keeping sync.Mutex // held by who syncs, rotates or compacts
	kick    chan struct{}
	stop    chan struct{}
	keeper  sync.WaitGroup
	writer  sync.WaitGroup
}

// segment is a file of the log. The mutex of the ledger guards all but file.
type segment struct {
	seq       uint64
	path      string
	file      File // nil: written by another process before
	size      int64
	dirty     bool // not synced
	damaged   bool
	live      int // reservations of which it has the latest record
	liveBytes int64
	list      []*reservation // has all of them, and others
}

// batch is what one write writes.
type batch struct {
	buf     []byte
	changes []change
	peak    int64         // the latest that the clock was before it stepped back in here
	done    chan struct{} // closed when err is final
	err     error
}

// change is what has to be undone when a batch can't be written: the reservation is
// removed, or what undo does.
type change struct {
	r    *reservation
	undo func()
}

func (b *batch) isDone() bool {
	select {
	case <-b.done:
		return true
	default:
		return false
	}
}

// begin makes a new open batch.
func (g *log) begin() {
	g.open = &batch{buf: g.spare, peak: noPeak, done: make(chan struct{})}
	g.spare = nil
}

// current is the file that is written to. There is always one in memory.
func (g *log) current() *segment { return g.segments[len(g.segments)-1] }

// refusal returns why nothing can be added.
func (g *log) refusal() error {
	switch {
	case g.broken != nil:
		return fmt.Errorf("%w: %w", ErrUnavailable, g.broken)
	case len(g.open.buf) > maxQueue:
		return fmt.Errorf("%w: the disk does not keep up", ErrUnavailable)
	}
	return nil
}

// enqueue adds a record to the open batch.
func (g *log) enqueue(add func([]byte) []byte, c change) *batch {
	if len(g.open.buf) == 0 {
		g.work.Signal()
	}
	g.open.buf = frame(g.open.buf, g.current().seq, add)
	if c.r != nil || c.undo != nil {
		g.open.changes = append(g.open.changes, c)
	}
	return g.open
}

// mark adds a record of the clock, if the next one, of a call that brought now, does not
// say as much. Whatever depends on that something has expired is thus written after what
// says so.
func (l *Ledger) mark(now int64) {
	if l.peak != noPeak {
		l.log.enqueue(l.appendPeak, change{})
		l.log.open.peak = max(l.log.open.peak, l.peak)
		l.peak, l.logged = noPeak, math.MinInt64
		now = math.MinInt64
	}
	if l.logged < l.clock && now < l.clock {
		l.log.enqueue(l.appendClock, change{})
	}
	l.logged = l.clock
}

// put adds the record of a reservation, which from now on is where that is.
func (g *log) put(r *reservation, now int64, again bool, c change) *batch {
	s, before := g.current(), len(g.open.buf)
	b := g.enqueue(func(b []byte) []byte { return r.append(b, now, again) }, c)
	r.enter(s, int32(len(b.buf)-before))
	return b
}

// enter makes a file the one that has the latest record of a reservation.
func (r *reservation) enter(s *segment, bytes int32) {
	r.segment, r.bytes = s, bytes
	s.list = append(s.list, r)
	s.live++
	s.liveBytes += int64(bytes)
}

// leave takes a reservation out of its file.
func (r *reservation) leave() {
	s := r.segment
	s.live--
	s.liveBytes -= int64(r.bytes)
	if len(s.list) > 64 && s.live < len(s.list)/2 {
		kept := make([]*reservation, 0, s.live)
		for _, x := range s.list {
			if x.segment == s && !x.ended {
				kept = append(kept, x)
			}
		}
		s.list = kept
	}
}

// write is the writer.
func (g *log) write() {
	g.l.mu.Lock()
	defer g.l.mu.Unlock()
	for {
		for g.writing || len(g.open.buf) == 0 && !g.closing {
			g.work.Wait()
		}
		if len(g.open.buf) == 0 {
			return
		}
		b, s := g.open, g.current()
		g.writing, g.flight = true, b
		g.begin()
		g.l.mu.Unlock()
		stuck, err := s.write(b.buf)
		g.l.mu.Lock()
		g.finish(b, s, stuck, err)
		g.resume()
	}
}

// resume lets others write.
func (g *log) resume() {
	g.writing, g.flight = false, nil
	g.idle.Broadcast()
	g.work.Signal()
}

// write appends to a file. With an error nothing was appended, or, if stuck, nobody
// knows. The caller is the only one who writes.
func (s *segment) write(b []byte) (stuck bool, err error) {
	n, err := s.file.Write(b)
	if err == nil && n < len(b) {
		err = fmt.Errorf("%s: %d of %d bytes written: %w", s.path, n, len(b), io.ErrShortWrite)
	}
	if err == nil {
		return false, nil
	}
	if e := s.file.Truncate(s.size); e != nil {
		return true, errors.Join(err, e)
	}
	return false, err
}

// finish notes what came of a write.
func (g *log) finish(b *batch, s *segment, stuck bool, err error) {
	if err != nil {
		g.fail(b, err, stuck)
		return
	}
	s.size += int64(len(b.buf))
	s.dirty = true
	g.failure = nil
	if cap(b.buf) <= maxSpare {
		g.spare = b.buf[:0]
	}
	b.buf = nil
	close(b.done)
	if s.size >= g.l.o.SegmentBytes {
		g.signal()
	}
}

// fail undoes a batch that was not written, and what has come since.
func (g *log) fail(b *batch, err error, stuck bool) {
	g.failures++
	if g.failure == nil {
		g.l.o.Logger.Error("the ledger can't be written: nothing that is limited can be promised", "dir", g.l.dir, "error", err)
	}
	g.failure = err
	if stuck {
		g.broken = err
		g.signal()
	}
	open := g.open
	g.begin()
	for _, x := range []*batch{open, b} {
		g.l.peak = max(g.l.peak, x.peak)
		for _, c := range slices.Backward(x.changes) {
			if c.undo != nil {
				c.undo()
			} else if !c.r.ended {
				g.l.remove(c.r)
				g.l.counts.Reserved--
			}
		}
		if x.isDone() {
			continue
		}
		x.err = fmt.Errorf("%w: %w", ErrUnavailable, err)
		close(x.done)
	}
	g.l.logged = math.MinInt64
}

// addTo adds what the log knows to the statistics.
func (g *log) addTo(s *Stats) {
	s.Files, s.Compacted, s.Failures, s.Failure = len(g.segments), g.compacted, g.failures, g.failure
	if s.Failure == nil {
		s.Failure = g.broken
	}
	for _, x := range g.segments {
		s.Bytes += x.size
		s.LiveBytes += x.liveBytes
	}
}

// close writes and syncs everything, and ends the goroutines.
func (g *log) close() error {
	close(g.stop)
	g.keeper.Wait() // it and the syncs may wait for the writer
	g.l.mu.Lock()
	g.closing = true
	g.work.Signal()
	g.l.mu.Unlock()
	g.writer.Wait()
	err := g.sync()
	if g.broken != nil {
		err = errors.Join(err, g.broken)
	}
	for _, s := range g.segments {
		if s.file != nil {
			err = errors.Join(err, s.file.Close())
			s.file = nil
		}
	}
	return err
}

const (
	nameDigits    = 8
	nameSuffix    = ".log"
	damagedSuffix = ".damaged"
)

func (g *log) path(seq uint64) string {
	return filepath.Join(g.l.dir, fmt.Sprintf("%0*d%s", nameDigits, seq, nameSuffix))
}
