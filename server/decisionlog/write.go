package decisionlog

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// store are the segments. The mutex of the log guards all of it.
type store struct {
	segments []*segment // in the order of writing
	seq      uint32     // of the last that was begun
	listed   bool       // the folder was read
	live     *segment   // that is written to; nil: none
	tick     uint64     // for segment.used
	held     int        // frames of segments that are not live
	tried    time.Time  // when writing failed last
	opened   int64      // when the folder was read
	old      uint32     // seq of the last segment that was there then
}

// segment is a file of frames. The mutex of the log guards all but file, path, seq and
// first.
type segment struct {
	path  string
	seq   uint32
	first int64 // no id in it is earlier
	file  File  // nil: nothing is written to it
	begun time.Time

	size    int64
	records uint64
	ids     span
	lost    loss // all losses it tells of
	sealed  bool // it was ended in good order
	unknown bool // it can't be read

	contents *contents // nil: not read, or given up again
	used     uint64

	unsynced span // of the records that were written since the last sync
	dirty    bool
}

const segmentSuffix = ".log"

// segmentPath returns the path of a segment.
func segmentPath(dir string, seq uint32, first int64) string {
	at := time.UnixMilli(first).UTC().Format("20060102T150405.000Z")
	return filepath.Join(dir, fmt.Sprintf("%08d-%s%s", seq, at, segmentSuffix))
}

// parseSegment reads the name of a segment.
func parseSegment(name string) (seq uint32, first int64, ok bool) {
	number, at, ok := strings.Cut(strings.TrimSuffix(name, segmentSuffix), "-")
	if !ok || !strings.HasSuffix(name, segmentSuffix) {
		return 0, 0, false
	}
	n, err := strconv.ParseUint(number, 10, 32)
	t, err2 := time.Parse("20060102T150405.000Z", at)
	return uint32(n), t.UnixMilli(), err == nil && err2 == nil
}

// prepare reads the folder and begins a segment. What goes wrong is noted; the writer
// tries again.
func (l *Log) prepare() {
	now := l.o.Now()
	if _, err := l.begin(now.UnixMilli(), now); err != nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.counts.Err = err
		l.failed(err)
	}
}

func (l *Log) list() error {
	if err := os.MkdirAll(l.o.Dir, 0o700); err != nil {
		return err
	}
	entries, err := os.ReadDir(l.o.Dir)
	if err != nil {
		return err
	}
	var segments []*segment
	for _, e := range entries {
		seq, first, ok := parseSegment(e.Name())
		if !ok {
			continue
		}
		s := &segment{path: filepath.Join(l.o.Dir, e.Name()), seq: seq, first: first, ids: noSpan, lost: noLoss, unsynced: noSpan}
		if err := l.inspect(s); err != nil {
			s.unknown = true
			l.o.Logger.Error("a part of the decision log can't be read", "path", s.path, "error", err)
		}
		segments = append(segments, s)
	}
	slices.SortFunc(segments, func(a, b *segment) int { return int(a.seq) - int(b.seq) })
	l.mu.Lock()
	defer l.mu.Unlock()
	l.store.segments, l.store.listed, l.store.opened = segments, true, l.o.Now().UnixMilli()
	if n := len(segments); n > 0 {
		l.store.seq, l.store.old = segments[n-1].seq, segments[n-1].seq
	}
	return nil
}

// inspect learns what a segment of another process has.
func (l *Log) inspect(s *segment) (err error) {
	f, err := os.Open(s.path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	s.size = info.Size()
	h, ok := readEnd(f, s.seq, s.size)
	if !ok {
		c, err := scan(f, s.path, s.seq, s.size, nil)
		if err != nil {
			return err
		}
		if v := otherVersion(f); c.end == 0 && v >= 0 {
			return fmt.Errorf("%s has version %d of the format, this program knows version %d: use the program that wrote it, or move the file away",
				s.path, v, frameMagic[len(frameMagic)-1])
		}
		h = c.summary()
		l.learn(c)
		if c.tail > 0 {
			l.mu.Lock()
			l.counts.Torn++
			l.mu.Unlock()
			l.o.Logger.Info("the end of a file of the decision log was not written", "path", s.path, "bytes", c.tail)
		}
	}
	s.records, s.ids, s.lost, s.sealed = uint64(h.records), h.ids, h.lost, ok
	return nil
}

// otherVersion returns the version of the format that a segment has at its beginning, if
// it is another than ours, else -1.
func otherVersion(f source) int {
	var b [len(frameMagic)]byte
	last := len(b) - 1
	if n, _ := f.ReadAt(b[:], 0); n < len(b) || string(b[:last]) != frameMagic[:last] || b[last] == frameMagic[last] {
		return -1
	}
	return int(b[last])
}

// write is the writer.
func (l *Log) write() {
	defer l.sync.stop()
	for f := range l.frames {
		if err := l.writeSafely(f); err != nil {
			l.drops(f, err)
			for _, w := range f.waiters {
				w.end(err)
			}
			f.waiters = nil
		}
		if b := f.b; b != nil && cap(b) <= 4*blockBytes {
			select {
			case l.spares <- b:
			default:
			}
		}
	}
	if s := l.store.live; s != nil {
		l.seal(s)
	}
}

// drops counts what was in a frame.
func (l *Log) drops(f *frame, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.counts.DroppedWrite += uint64(f.records)
	l.lost = l.lost.with(f.lost)
	if f.records > 0 {
		l.lost = l.lost.with(loss{uint64(f.records), f.ids})
	}
	l.counts.Err = err
	l.failed(err)
}

func (l *Log) writeSafely(f *frame) (err error) {
	defer func() {
		if e := recover(); e != nil {
			err = fmt.Errorf("writing the decision log: %v\n%s", e, debug.Stack())
		}
	}()
	now := l.o.Now()
	if s := l.store.live; s != nil && l.full(s, f, now) {
		// Were the last sealed before the next is begun, a process that is killed in between
		// would leave files of which nothing seems to be missing.
		if _, err := l.begin(firstOf(f, now), now); err != nil {
			return err
		}
		l.seal(s)
	}
	if f.b != nil || l.store.live == nil {
		if err := l.append(f, now); err != nil {
			return err
		}
	}
	switch {
	case f.sync:
		l.sync.do(job{s: l.store.live, waiters: f.waiters}) // after those that were before it
	default:
		for _, w := range f.waiters {
			w.end(nil)
		}
	}
	return nil
}

// full reports whether a segment is to be ended before a frame.
func (l *Log) full(s *segment, f *frame, now time.Time) bool {
	age := now.Sub(s.begun)
	return s.size >= l.o.SegmentBytes || s.records > 0 && (age >= l.o.SegmentAge || age < -time.Minute) || f.records > 0 && f.ids.from < s.first
}

// overtaken is how much earlier than the first decision of a segment another may have
// begun that is answered later, milliseconds, without a segment of its own.
const overtaken = 1000

// append writes a frame, if it has bytes; and begins a segment where there is none.
func (l *Log) append(f *frame, now time.Time) error {
	s := l.store.live
	if s == nil {
		var err error
		if s, err = l.begin(firstOf(f, now), now); err != nil || f.b == nil {
			return err
		}
	}
	f.seq = s.seq
	f.put(f.b)
	if err := s.write(f.b); err != nil {
		l.mu.Lock()
		l.counts.WriteErrors++
		l.store.tried = now
		l.mu.Unlock()
		l.abandon(s)
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !f.lost.empty() {
		s.contents.losses = append(s.contents.losses, f.lost)
	}
	if f.records > 0 {
		s.contents.frames = append(s.contents.frames, frameAt{f.header, s.size})
		s.ids, s.unsynced = s.ids.with(f.ids), s.unsynced.with(f.ids)
	}
	s.size += int64(len(f.b))
	s.records += uint64(f.records)
	s.lost = s.lost.with(f.lost)
	s.dirty = true
	l.counts.Written += uint64(f.records)
	l.counts.WrittenBytes += int64(len(f.b))
	l.counts.RawBytes += int64(f.raw)
	return nil
}

// firstOf returns the time of a segment that begins with a frame.
func firstOf(f *frame, now time.Time) int64 {
	if f.records > 0 {
		return f.ids.from - overtaken
	}
	return now.UnixMilli()
}

// write appends to a file.
func (s *segment) write(b []byte) error {
	n, err := s.file.Write(b)
	if err == nil && n < len(b) {
		err = fmt.Errorf("%s: %d of %d bytes written: %w", s.path, n, len(b), io.ErrShortWrite)
	}
	return err
}

// begin begins a segment with an empty frame, if the last failure is long enough ago.
func (l *Log) begin(first int64, now time.Time) (*segment, error) {
	l.mu.Lock()
	tried, err, listed := l.store.tried, l.counts.Err, l.store.listed
	l.mu.Unlock()
	if since := now.Sub(tried); err != nil && since >= 0 && since < time.Second {
		return nil, err
	}
	failed := func(err error) (*segment, error) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.counts.WriteErrors++
		l.store.tried = now
		return nil, err
	}
	if !listed {
		if err := l.list(); err != nil {
			return failed(err)
		}
	}
	s := &segment{
		seq: l.store.seq + 1, first: first, begun: now, ids: noSpan, lost: noLoss, unsynced: noSpan,
		size: headerBytes, dirty: true, contents: new(contents),
	}
	s.path = segmentPath(l.o.Dir, s.seq, s.first)
	if s.file, err = l.o.FS.Create(s.path); err != nil {
		return failed(err)
	}
	var b [headerBytes]byte
	(&header{kind: frameBlock, ids: noSpan, lost: noLoss, seq: s.seq}).put(b[:])
	if err = s.write(b[:]); err == nil {
		err = l.o.FS.SyncDir(l.o.Dir)
	}
	if err != nil {
		return failed(errors.Join(err, s.file.Close(), l.o.FS.Remove(s.path)))
	}
	l.mu.Lock()
	l.store.seq = s.seq
	l.store.segments = append(l.store.segments, s)
	l.store.live = s
	l.counts.Err = nil
	l.mu.Unlock()
	return s, nil
}

// seal ends a segment in good order. One with nothing in it is removed.
func (l *Log) seal(s *segment) {
	if s.size == headerBytes && l.o.FS.Remove(s.path) == nil {
		l.remove(s)
		l.leave(s)
		return
	}
	l.mu.Lock()
	h := header{kind: frameEnd, raw: uint32(len(s.contents.frames)), records: uint32(s.records), ids: s.ids, lost: s.lost, seq: s.seq}
	l.mu.Unlock()
	b := make([]byte, headerBytes)
	h.put(b)
	if s.write(b) != nil {
		l.abandon(s)
		return
	}
	l.mu.Lock()
	s.size += headerBytes
	s.sealed, s.dirty = true, true
	l.mu.Unlock()
	l.leave(s)
}

// abandon ends a segment in which writing has failed: what is behind the last good frame
// is cut off, if that can be done, since a full disk has better use for it.
//
// One with nothing in it is removed, so that a disk that stays full does not fill with
// them; but the first stays, to tell that something may be missing from its time on.
func (l *Log) abandon(s *segment) {
	_ = s.file.Truncate(s.size) // else who reads it finds a frame that ends early
	l.mu.Lock()
	n := len(l.store.segments)
	again := s.size == headerBytes && n > 1 && !l.store.segments[n-2].sealed
	l.mu.Unlock()
	if again && l.o.FS.Remove(s.path) == nil {
		l.remove(s)
	}
	l.leave(s)
}

// remove forgets a segment whose file is gone.
func (l *Log) remove(s *segment) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.store.segments = slices.DeleteFunc(slices.Clone(l.store.segments), func(x *segment) bool { return x == s })
	if s.contents != nil && s != l.store.live {
		l.store.held -= len(s.contents.frames)
	}
	s.dirty = false
}

// leave makes a segment the live one no longer.
func (l *Log) leave(s *segment) {
	l.mu.Lock()
	if l.store.live == s {
		l.store.live = nil
	}
	l.hold(s, s.contents)
	l.mu.Unlock()
	l.sync.do(job{s: s, close: true})
}

// syncer makes files durable while others are written.
type syncer struct {
	err error // the last since anybody waited; of the goroutine alone

	mu   sync.Mutex
	jobs []job
	end  bool
	work chan struct{}
}

// job is to sync a file, and to close it after that.
type job struct {
	s       *segment
	waiters []*waiter
	close   bool
}

func (y *syncer) do(j job) {
	y.mu.Lock()
	if n := len(y.jobs); n > 0 && y.jobs[n-1].s == j.s && !y.jobs[n-1].close {
		j.waiters = append(y.jobs[n-1].waiters, j.waiters...)
		y.jobs[n-1] = j
	} else {
		y.jobs = append(y.jobs, j)
	}
	y.mu.Unlock()
	y.signal()
}

func (y *syncer) signal() {
	select {
	case y.work <- struct{}{}:
	default:
	}
}

func (y *syncer) stop() {
	y.mu.Lock()
	y.end = true
	y.mu.Unlock()
	y.signal()
}

// syncs is the goroutine that makes files durable and removes what is too old.
func (l *Log) syncs() {
	var every <-chan time.Time
	if l.o.SyncEvery > 0 {
		t := time.NewTicker(time.Minute)
		defer t.Stop()
		every = t.C
	}
	l.retain()
	for {
		select {
		case <-l.sync.work:
		case <-every:
			l.retain()
		}
		l.sync.mu.Lock()
		jobs, end := l.sync.jobs, l.sync.end
		l.sync.jobs = nil
		l.sync.mu.Unlock()
		for i := range jobs {
			l.syncOne(&jobs[i])
		}
		if end {
			return
		}
	}
}

func (l *Log) syncOne(j *job) {
	l.mu.Lock()
	dirty, unsynced := j.s.dirty, j.s.unsynced
	j.s.dirty, j.s.unsynced = false, noSpan
	l.mu.Unlock()
	var err error
	if dirty {
		err = l.syncFile(j.s, unsynced)
	}
	if j.close {
		err = errors.Join(err, j.s.file.Close())
		l.retain()
	}
	if err != nil {
		l.sync.err = err
	}
	for _, w := range j.waiters {
		w.end(l.sync.err)
	}
	if len(j.waiters) > 0 {
		l.sync.err = nil
	}
}

// syncFile syncs a file. If that fails, what was written since the last time may be gone
// with the next loss of power; its checksums will tell. So the file is used on.
func (l *Log) syncFile(s *segment, unsynced span) (err error) {
	defer func() {
		if e := recover(); e != nil {
			err = fmt.Errorf("syncing the decision log: %v\n%s", e, debug.Stack())
		}
		if err != nil {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.counts.SyncErrors++
			l.lost = l.lost.with(loss{0, unsynced})
			l.failed(err)
		}
	}()
	return s.file.Sync()
}

// retain removes the segments that are too old, and the oldest where there is too much.
func (l *Log) retain() {
	l.mu.Lock()
	horizon := l.horizon()
	var total int64
	for _, s := range l.store.segments {
		total += s.size
	}
	var remove []*segment
	for _, s := range l.store.segments {
		if s == l.store.live {
			continue
		}
		if total > l.o.MaxBytes || s.last() < horizon {
			remove = append(remove, s)
			total -= s.size
		}
	}
	l.mu.Unlock()
	if len(remove) > 0 && l.o.Removal != nil {
		release, err := l.o.Removal()
		if err != nil {
			l.mu.Lock()
			l.failed(err)
			l.mu.Unlock()
		}
		if release == nil {
			return // it is tried again in a minute, or with the next file
		}
		defer release()
	}
	for _, s := range remove {
		if err := l.o.FS.Remove(s.path); err != nil && !errors.Is(err, os.ErrNotExist) {
			l.mu.Lock()
			l.failed(err)
			l.mu.Unlock()
			continue
		}
		l.remove(s)
		l.mu.Lock()
		l.counts.Removed++
		l.mu.Unlock()
	}
}

// last returns the latest time of an id in a segment, as far as is known.
func (s *segment) last() int64 {
	if s.ids.empty() {
		return s.first
	}
	return s.ids.to
}

// horizon is the time of the oldest ids that are kept.
func (l *Log) horizon() int64 { return l.o.Now().Add(-l.o.Keep).UnixMilli() }

// addTo adds what the segments know to the statistics.
func (t *store) addTo(s *Stats) {
	first := noSpan
	for _, x := range t.segments {
		s.Records += x.records
		s.Bytes += x.size
		first = first.with(x.ids)
	}
	s.Segments = len(t.segments)
	if !first.empty() {
		s.Oldest = time.UnixMilli(first.from)
	}
}
