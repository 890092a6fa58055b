package ledger

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"path/filepath"
	"sync"
	"time"
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
// process. Every second or so it is synced, so that a loss of power costs no more.
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
		for i := len(x.changes) - 1; i >= 0; i-- {
			if c := x.changes[i]; c.undo != nil {
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

// signal wakes the keeper.
func (g *log) signal() {
	select {
	case g.kick <- struct{}{}:
	default:
	}
}

// keep is the keeper: it syncs, begins new files and compacts.
func (g *log) keep() {
	ticker := time.NewTicker(g.l.o.SyncEvery)
	defer ticker.Stop()
	for {
		select {
		case <-g.stop:
			return
		case <-g.kick:
		case <-ticker.C:
		}
		if err := g.maintain(); err != nil {
			g.l.o.Logger.Error("the ledger can't be kept durable", "dir", g.l.dir, "error", err)
			select { // a full disk needs no more haste
			case <-g.stop:
				return
			case <-ticker.C:
			}
		}
	}
}

// maintain does what is to be done in the background.
func (g *log) maintain() error {
	g.keeping.Lock()
	defer g.keeping.Unlock()
	l := g.l
	for more := true; more; {
		l.mu.Lock()
		more = l.sweep(256)
		l.mu.Unlock()
	}
	l.mu.Lock()
	failed, full := g.broken != nil || g.suspect, g.current().size >= l.o.SegmentBytes
	l.mu.Unlock()
	if failed {
		return g.renew()
	}
	if err := g.syncFrom(0); err != nil {
		return err
	}
	if full {
		if err := g.rotate(); err != nil {
			return err
		}
	}
	return g.compact(false)
}

// renew begins a new file and writes everything to it, after the last one has failed.
func (g *log) renew() error {
	if err := g.rotate(); err != nil {
		return err
	}
	g.l.mu.Lock()
	g.suspect = false
	g.l.mu.Unlock()
	if err := g.compact(true); err != nil {
		g.l.mu.Lock()
		g.suspect = true
		g.l.mu.Unlock()
		return err
	}
	g.l.o.Logger.Info("the ledger was written anew, and works", "dir", g.l.dir)
	return nil
}

func (g *log) sync() error {
	g.keeping.Lock()
	defer g.keeping.Unlock()
	return g.syncFrom(0)
}

// syncFrom makes durable what was written, but for the first so many files. The caller is
// the keeper.
func (g *log) syncFrom(first int) error {
	g.l.mu.Lock()
	var dirty []*segment
	for _, s := range g.segments[first:] {
		if s.dirty {
			dirty = append(dirty, s)
			s.dirty = false
		}
	}
	g.l.mu.Unlock()
	for i, s := range dirty {
		if err := s.file.Sync(); err != nil {
			g.l.mu.Lock()
			for _, s := range dirty[i:] {
				s.dirty = true
			}
			g.suspect = true
			g.failures++
			g.l.mu.Unlock()
			g.signal()
			return fmt.Errorf("sync %s: %w", s.path, err)
		}
	}
	return nil
}

// rotate begins a new file. The caller is the keeper.
func (g *log) rotate() error {
	s, err := g.create()
	if err == nil {
		if err = g.switchTo(s); err != nil {
			err = errors.Join(err, g.discard(s))
		}
	}
	if err == nil {
		return nil
	}
	g.l.mu.Lock()
	defer g.l.mu.Unlock()
	g.failures++
	return fmt.Errorf("begin a new file of the ledger: %w", err)
}

// create makes a new file. Its name is durable before anything is in it.
func (g *log) create() (s *segment, err error) {
	g.seq++
	s = &segment{seq: g.seq, path: g.path(g.seq)}
	if s.file, err = g.l.o.FS.Create(s.path); err != nil {
		return nil, err
	}
	if err = g.l.o.FS.SyncDir(g.l.dir); err != nil {
		return nil, errors.Join(err, g.discard(s))
	}
	return s, nil
}

// discard removes a file that create has made.
func (g *log) discard(s *segment) error {
	return errors.Join(s.file.Close(), g.l.o.FS.Remove(s.path))
}

// switchTo makes a new file the one that is written to. What comes while it writes the
// checkpoint waits for that.
func (g *log) switchTo(s *segment) error {
	l := g.l
	l.mu.Lock()
	defer l.mu.Unlock()
	for g.writing {
		g.idle.Wait()
	}
	b, old := g.open, g.current()
	g.writing, g.flight = true, b
	defer g.resume()
	checkpoint := l.checkpoint(s.seq)
	g.segments = append(g.segments, s)
	g.begin()
	g.open.peak, l.peak = l.peak, noPeak // in the checkpoint, as far as that is written
	wasBroken := g.broken
	g.broken = nil
	l.mu.Unlock()
	var stuck bool
	var err, err2 error
	if len(b.buf) > 0 { // not if the old one is broken
		stuck, err = old.write(b.buf)
	}
	if err == nil {
		_, err2 = s.write(checkpoint)
	}
	l.mu.Lock()
	if err != nil || err2 != nil { // the open batch is of the new file: it fails too
		g.segments = g.segments[:len(g.segments)-1]
		if g.broken = wasBroken; err == nil {
			g.finish(b, old, false, nil)
			b = &batch{peak: noPeak, done: make(chan struct{})}
		}
		g.fail(b, errors.Join(err, err2), stuck)
		return errors.Join(err, err2)
	}
	if len(b.buf) > 0 {
		g.finish(b, old, false, nil)
	} else {
		close(b.done)
	}
	s.size, s.dirty = int64(len(checkpoint)), true
	return nil
}

// checkpoint returns the beginning of a file.
func (l *Ledger) checkpoint(seq uint64) []byte {
	b := frame(nil, seq, func(b []byte) []byte { return appendHeader(b, seq) })
	if l.peak != noPeak {
		b = frame(b, seq, l.appendPeak)
	}
	b = frame(b, seq, l.appendClock)
	for _, q := range l.pools {
		b = frame(b, seq, q.append)
	}
	l.logged = l.clock
	return b
}

// compact removes the first files, as long as that is worth it, or all but the last. The
// caller is the keeper.
func (g *log) compact(all bool) error {
	l := g.l
	for {
		select {
		case <-g.stop:
			return nil
		default:
		}
		l.mu.Lock()
		first := g.segments[0]
		var total, live int64
		for _, s := range g.segments {
			total += s.size
			live += s.liveBytes
		}
		after := 1
		if all { // also those that can't be synced
			after = len(g.segments) - 1
		}
		is := len(g.segments) > 1 && (all || first.live == 0 || len(g.segments) > maxFiles || total > 2*live+l.o.SlackBytes)
		l.mu.Unlock()
		if !is {
			return nil
		}
		if err := g.empty(first); err != nil {
			return err
		}
		if err := g.syncFrom(after); err != nil {
			return err
		}
		if err := g.drop(first); err != nil {
			return err
		}
	}
}

// empty writes what is left in a file again.
func (g *log) empty(s *segment) error {
	const step = 128
	l := g.l
	l.mu.Lock()
	list := s.list // nothing is added to it any more, and leave makes another
	l.mu.Unlock()
	for len(list) > 0 {
		var b *batch
		l.mu.Lock()
		if err := g.refusal(); err != nil {
			l.mu.Unlock()
			return err
		}
		for _, r := range list[:min(step, len(list))] {
			if r.segment != s || r.ended {
				continue
			}
			before := r.bytes
			r.leave()
			l.mark(l.clock)
			b = g.put(r, l.clock, true, change{undo: func() {
				if !r.ended {
					r.leave()
					r.enter(s, before)
				}
			}})
			g.compacted++
		}
		l.mu.Unlock()
		list = list[min(step, len(list)):]
		if b == nil {
			continue
		}
		if err := l.await(context.Background(), b); err != nil {
			return err
		}
	}
	return nil
}

// drop removes the first file, of which nothing is left. One that is damaged is kept under
// another name.
func (g *log) drop(s *segment) error {
	l := g.l
	var err error
	l.mu.Lock()
	s.dirty = false
	l.mu.Unlock()
	if s.file != nil {
		err = s.file.Close()
		s.file = nil
	}
	if s.damaged {
		err = errors.Join(err, l.o.FS.Rename(s.path, s.path+damagedSuffix))
	} else {
		if e := l.o.FS.Remove(s.path); !errors.Is(e, fs.ErrNotExist) { // one that could not be made is not there
			err = errors.Join(err, e)
		}
	}
	if err = errors.Join(err, l.o.FS.SyncDir(l.dir)); err != nil {
		return fmt.Errorf("remove a file of the ledger: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	g.segments = append([]*segment(nil), g.segments[1:]...)
	return nil
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
	g.keeper.Wait() // it may wait for the writer
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
