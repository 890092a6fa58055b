package ledger

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"
)

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
	renewed, err := g.syncOrRenew()
	if renewed || err != nil {
		return err
	}
	l.mu.Lock()
	full := g.current().size >= l.o.SegmentBytes
	l.mu.Unlock()
	if full {
		if err := g.rotate(); err != nil {
			return err
		}
	}
	return g.compact(false)
}

// syncOrRenew makes durable what was written. After a sync has failed the next one of the
// same file may succeed and mean nothing, so then everything is written anew.
func (g *log) syncOrRenew() (renewed bool, err error) {
	g.l.mu.Lock()
	failed := g.broken != nil || g.suspect
	g.l.mu.Unlock()
	if failed {
		return true, g.renew()
	}
	return false, g.syncFrom(0)
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

// syncSoon has everything synced by a goroutine, and returns what is done when that is.
// Whoever comes before it begins waits for the same. Caller holds the mutex of the ledger.
func (g *log) syncSoon() *batch {
	b := &batch{done: make(chan struct{})}
	g.next = b
	g.keeper.Go(func() {
		g.keeping.Lock()
		defer g.keeping.Unlock()
		g.l.mu.Lock()
		g.next = nil
		g.l.mu.Unlock()
		if _, err := g.syncOrRenew(); err != nil {
			b.err = fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		close(b.done)
	})
	return b
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
