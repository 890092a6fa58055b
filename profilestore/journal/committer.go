package journal

import (
	"fmt"
	"log/slog"
	"runtime"
	"time"
)

// quietYields is how often the committer lets other goroutines run, without a new entry, before it believes that
// arrivals pause: on a busy machine GroupQuiet may be over before those who are about to append have had their turn.
const quietYields = 4

// commit is the committer: it writes group after group until the journal is closed and drained, or fails.
func (j *Journal) commit() {
	defer close(j.stopped)
	for {
		g := j.take()
		if g == nil {
			if what, err := j.seal(j.Next()); err != nil {
				j.fail(nil, what, err)
			}
			return
		}
		if what, err := j.write(g); err != nil {
			j.fail(g, what, err)
			return
		}
		j.acknowledge(g)
	}
}

// take waits for a group and takes it; nil means that the journal is closing and has nothing left.
func (j *Journal) take() *group {
	for {
		j.mu.Lock()
		g := j.open
		began := g.began
		empty, drained := len(g.entries) == 0, j.closing && !j.partial
		j.mu.Unlock()
		switch {
		case !empty:
			j.gather(began)
			return j.takeOpen()
		case drained:
			return nil
		}
		<-j.wake
	}
}

// gather waits until the open group should wait no longer. It spins, since a sleep is no less than 1 ms on Linux.
func (j *Journal) gather(began time.Time) {
	seen, since, yields := int64(0), began, 0
	for !j.full.Load() {
		now := time.Now()
		if now.Sub(began) >= j.o.GroupDelay {
			return
		}
		if n := j.arrived.Load(); n != seen {
			seen, since, yields = n, now, 0
		} else if yields++; yields > quietYields && now.Sub(since) >= j.o.GroupQuiet {
			return
		}
		runtime.Gosched()
	}
}

func (j *Journal) takeOpen() *group {
	j.mu.Lock()
	defer j.mu.Unlock()
	g := j.open
	if j.open = j.spare; j.open == nil {
		j.open = &group{}
	}
	j.spare = nil
	j.sum.putGroupHeader(g.buf, g.first, uint32(len(g.entries)))
	j.arrived.Store(0)
	j.full.Store(j.closing)
	if g.taken != nil {
		close(g.taken)
	}
	return g
}

// write makes a group durable. On failure it says what it was doing.
func (j *Journal) write(g *group) (what string, err error) {
	if j.from < g.first && j.size+int64(len(g.buf)) > j.o.SegmentBytes {
		if what, err := j.rotate(g.first); err != nil {
			return what, err
		}
	}
	started := time.Now()
	if err := writeAll(j.file, g.buf, j.size); err != nil {
		return "write", err
	}
	if err := j.file.Sync(); err != nil {
		return "sync", err
	}
	took := time.Since(started)
	j.syncs.Add(1)
	j.grow(len(g.buf))
	if j.o.OnSync != nil {
		j.o.OnSync(len(g.entries), len(g.buf), took)
	}
	return "", nil
}

// grow records that n more bytes of the last segment are durable.
func (j *Journal) grow(n int) {
	j.size += int64(n)
	j.mu.Lock()
	defer j.mu.Unlock()
	j.segs[len(j.segs)-1].size = j.size
}

// acknowledge tells everybody who waits for a durable group, and keeps it for reuse.
func (j *Journal) acknowledge(g *group) {
	if j.o.Committed != nil {
		for i, e := range g.entries {
			j.o.Committed(g.first+uint64(i), e)
		}
	}
	close(g.ticket.done)
	g = g.reset()
	j.mu.Lock()
	defer j.mu.Unlock()
	j.spare = g
}

// seal writes an empty group: everything before it, up to the record before next, is durable.
func (j *Journal) seal(next uint64) (what string, err error) {
	b := make([]byte, groupHeaderSize)
	newChecksum(j.id).putGroupHeader(b, next, 0)
	if err := writeAll(j.file, b, j.size); err != nil {
		return "write the seal", err
	}
	if err := j.file.Sync(); err != nil {
		return "sync the seal", err
	}
	j.grow(len(b))
	return "", nil
}

// rotate seals the last segment and begins another whose first record is next.
func (j *Journal) rotate(next uint64) (what string, err error) {
	if what, err := j.seal(next); err != nil {
		return what, err
	}
	file := j.file
	j.file = nil
	if err := file.Close(); err != nil {
		return "close", err
	}
	s := segment{path: segmentPath(j.dir, next), first: next, size: headerSize}
	if file, err = j.o.FS.Create(s.path); err == nil {
		err = writeHeader(j.o.FS, file, s, j.id)
	}
	if err != nil {
		return "begin a segment after", err
	}
	j.file, j.size, j.from = file, s.size, s.first
	j.mu.Lock()
	defer j.mu.Unlock()
	j.segs = append(j.segs, s)
	return "", nil
}

// fail stops the journal for good: the group that could not be written and the one that gathers get the error, and so
// does every later Append.
func (j *Journal) fail(g *group, what string, cause error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	last := j.segs[len(j.segs)-1]
	j.err = fmt.Errorf("journal: %w: %s %s at byte %d: %w; nothing more is acknowledged: free space or mend the disk, then open the journal again",
		ErrFailed, what, last.path, last.size, cause)
	j.o.Logger.Error("journal stopped", slog.String("file", last.path), slog.Int64("offset", last.size),
		slog.String("doing", what), slog.Any("err", cause))
	for _, g := range []*group{g, j.open} {
		if g == nil || g.ticket == nil {
			continue
		}
		g.ticket.err = j.err
		close(g.ticket.done)
	}
	if j.open.taken != nil {
		close(j.open.taken)
	}
	j.open = &group{}
}
