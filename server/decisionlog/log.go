package decisionlog

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/oklog/ulid/v2"
)

// Options say how a log works. Only Dir has no default.
type Options struct {
	// Dir is where the files are. It is made if it is not there.
	Dir string
	// Keep is how long a record can be found after its decision; default 30 days.
	// Its bytes go with the file that they are in, up to SegmentAge later.
	Keep time.Duration
	// MaxBytes is how large all files together may be before the oldest are removed;
	// default 10 GiB. They may be larger by one.
	MaxBytes int64
	// Queue is how much memory the decisions that wait to be written may hold, by
	// estimate; default 64 MiB. What is over is dropped and counted.
	Queue int64
	// SegmentBytes and SegmentAge are when a new file is begun; default 64 MiB and an hour,
	// or what makes 16 files of MaxBytes and 24 of Keep, but at least 1 MiB and a minute.
	SegmentBytes int64
	SegmentAge   time.Duration
	// SyncEvery is how often what waits is written and made durable; default 800 ms, so
	// that with the time that this takes no more than a second is lost with the process
	// or the power. Negative: only by Flush and Close; for tests.
	SyncEvery time.Duration
	// Removal is asked before files are removed that are too old or too many, and told
	// when they are gone; while it returns nil they stay, however large all are. Default:
	// they may go at any time.
	Removal func() (release func(), err error)
	// Logger is told of damage and failures; default: nobody.
	Logger *slog.Logger
	// FS is for tests; default: the operating system.
	FS FS
	// Now is the clock; default: time.Now.
	Now func() time.Time
}

func (o Options) withDefaults() Options {
	positive := func(p *int64, by int64) {
		if *p <= 0 {
			*p = by
		}
	}
	positive((*int64)(&o.Keep), int64(30*24*time.Hour))
	positive(&o.MaxBytes, 10<<30)
	positive(&o.Queue, 64<<20)
	positive(&o.SegmentBytes, max(1<<20, min(64<<20, o.MaxBytes/16)))
	positive((*int64)(&o.SegmentAge), int64(max(time.Minute, min(time.Hour, o.Keep/24))))
	if o.SyncEvery == 0 {
		o.SyncEvery = 800 * time.Millisecond
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.FS == nil {
		o.FS = osFS{}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

// ErrClosed means that the log was closed.
var ErrClosed = errors.New("decision log: closed")

// Log keeps decisions in files. All methods are safe for concurrent use.
//
// # Writing
//
// Add puts a decision on a queue and returns: nothing of it is looked at, encoded or
// written by who decides. Three goroutines do the rest, each with a bounded queue before
// it, so that none waits for a slower one as long as that keeps up on the whole:
//
//	Add → [decisions] → pack: records, blocks of 256 KB, zstd → [frames] → write → sync
//
// Every 800 ms pack ends its block, however small; write appends it, and sync makes the
// file durable. So a process that is killed loses what came since, and so does a machine
// without power; a disk that is slow makes both longer, as far as the queues reach.
//
// Where the disk does not keep up the queues fill, and Add drops. Where a write fails
// the frame is dropped, and so is what comes in the next second; then a new segment is
// tried. Nothing is retried, since what would be kept by that is a second at most, and
// memory runs short just then. Every drop is counted, and the next frame that can be
// written says how many there were and of which time: so [Log.Find] can tell a decision
// that was never made from one that may have been lost, also in another process.
//
// # Files
//
// Segments DATA/decisions/NUMBER-TIME.log of at most 64 MiB or an hour. No id in it is
// earlier than TIME: a frame with one begins a new segment. A segment is never written
// again once another has begun, and goes as a whole. As long as a log is open there is
// one to which the end is still missing, so that a process that was killed is seen by it
// even if nothing had been written. See segmentformat.go for the bytes.
//
// Only headers are held in memory, of a bounded number of segments; Open reads one a
// segment. A search reads the headers of the segments that can have what it looks for,
// and unpacks the blocks that can.
type Log struct {
	o     Options
	unzip *zstd.Decoder

	mu      sync.Mutex
	queue   []item
	spare   []item
	waiting int64 // bytes, by estimate, of the queue and of what pack has taken from it
	fresh   int64 // bytes of the queue alone
	closed  bool
	lost    loss // that no frame has told of yet
	counts  Stats
	told    uint64             // of drops, by the last line in the server's log
	toldAt  time.Time          // when that was
	known   map[damageKey]span // damage
	store   store

	wake   chan struct{}
	stop   chan struct{}
	frames chan *frame
	spares chan []byte
	sync   syncer
	work   sync.WaitGroup
}

// item is what waits: a decision, or somebody who waits for what came before.
type item struct {
	d    *Decision
	r    *Record // in place of d
	size int64
	wait *waiter
}

// waiter waits until what came before is written, or also synced.
type waiter struct {
	sync bool
	done chan struct{}
	err  error // final when done is closed
}

func (w *waiter) end(err error) {
	w.err = err
	close(w.done)
}

const (
	// wakeAt is how many decisions, and wakeBytes how much of them, wait before pack is
	// woken: to wake a goroutine costs as much as to encode a record.
	wakeAt    = 64
	wakeBytes = 1 << 20
	// maxSpareItems is the longest queue that is kept for reuse.
	maxSpareItems = 4096
	// maxFrames is how many frames may wait to be written.
	maxFrames = 32
)

// Open opens a log, and makes one where there is none. It does not fail because of what
// is on the disk or of a disk that can't be used, since a server decides without a log:
// Stats says what is wrong, and the log is tried again every second. The error is one of
// the options. Two processes must not use a folder at the same time: that is for the
// caller to see to.
func Open(o Options) (*Log, error) {
	if o.Dir == "" {
		return nil, errors.New("decision log: no folder given")
	}
	unzip, err := newUnzip()
	if err != nil {
		return nil, err
	}
	p, err := newPacker()
	if err != nil {
		return nil, err
	}
	l := &Log{
		o: o.withDefaults(), unzip: unzip, lost: noLoss, known: make(map[damageKey]span),
		wake: make(chan struct{}, 1), stop: make(chan struct{}),
		frames: make(chan *frame, maxFrames), spares: make(chan []byte, 4),
	}
	l.sync.work = make(chan struct{}, 1)
	p.l = l
	l.prepare()
	l.work.Go(p.run)
	l.work.Go(l.write)
	l.work.Go(l.syncs)
	return l, nil
}

// Add hands a decision over to be kept. It waits for nothing; if too much waits already
// the decision is dropped and counted.
func (l *Log) Add(d *Decision) { l.add(item{d: d, size: sizeOf(d)}) }

func (l *Log) add(x item) {
	l.mu.Lock()
	switch {
	case l.closed, l.waiting+x.size > l.o.Queue:
		l.drop(&l.counts.DroppedQueue, x.id())
		l.mu.Unlock()
		return
	}
	l.counts.Added++
	wake := l.push(x)
	l.mu.Unlock()
	if wake {
		l.signal()
	}
}

// push puts something on the queue and reports whether pack is to be woken.
func (l *Log) push(x item) (wake bool) {
	l.queue = append(l.queue, x)
	before := l.fresh
	l.fresh += x.size
	l.waiting += x.size
	return len(l.queue) == wakeAt || before < wakeBytes && l.fresh >= wakeBytes
}

func (l *Log) signal() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// drop counts a decision that is not kept.
func (l *Log) drop(by *uint64, id ulid.ULID) {
	*by++
	ms := int64(id.Time())
	l.lost = l.lost.with(loss{1, span{ms, ms}})
}

func (x *item) id() ulid.ULID {
	if x.d != nil {
		return x.d.ID
	}
	return x.r.ID
}

// sizeOf estimates how much memory a decision holds while it waits.
func sizeOf(d *Decision) int64 {
	n := 4096 // itself, the view, the identity, what the parts have besides
	if q := d.Request; q != nil {
		n += 24*len(q.Context) + 8*len(q.Loads) + 256*len(q.Pending)
		if !q.History.Empty() {
			n += 4096
		}
	}
	n += 80*len(d.Places) + 24*len(d.At)
	for i := range d.Answers {
		a := &d.Answers[i]
		n += 512 + len(a.Reasons) + 48*len(a.Details) + 256*len(a.Slate) + 128*len(a.Degradations)
	}
	return int64(n)
}

// Flush returns when what was added before is on disk, durable, and can be found. Its
// error says that this is not so for all of it; what was dropped before it was called is
// no error.
func (l *Log) Flush(ctx context.Context) error { return l.await(ctx, true) }

// await returns when what was added before is written.
func (l *Log) await(ctx context.Context, sync bool) error {
	w := &waiter{sync: sync, done: make(chan struct{})}
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return ErrClosed
	}
	l.push(item{wait: w})
	l.mu.Unlock()
	l.signal()
	select {
	case <-w.done:
		return w.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Close writes what waits, makes it durable, and ends the log: what is added from then
// on is dropped; what is there can still be read. It waits for the disk.
func (l *Log) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	w := &waiter{sync: true, done: make(chan struct{})}
	l.push(item{wait: w})
	l.closed = true
	l.mu.Unlock()
	close(l.stop)
	l.work.Wait()
	<-w.done
	return w.err
}

// Stats says what a log holds and what became of what was added since it was opened.
type Stats struct {
	// Now.
	Records  uint64 // in the files
	Bytes    int64  // of the files
	Segments int
	Oldest   time.Time // the earliest decision in the files; zero: none
	Waiting  int64     // bytes, by estimate, that wait to be written

	// Since it was opened.
	Added        uint64 // decisions that were not dropped at once
	Written      uint64 // that are in files
	WrittenBytes int64
	RawBytes     int64  // of the written, before they were packed
	DroppedQueue uint64 // since too much waited, or the log was closed
	DroppedWrite uint64 // since they could not be written
	DroppedFault uint64 // since they could not be encoded: a mistake in the program
	WriteErrors  uint64
	SyncErrors   uint64
	Removed      uint64 // segments, since they were too old or there was too much
	Torn         uint64 // segments with an unfinished frame at the end, as a process that is killed leaves them
	Damaged      uint64 // parts of the files that could not be read
	LastDamage   Damage
	Err          error // why nothing can be written at present, nil if the last write succeeded
	LastErr      error // the last thing that went wrong
	LastErrAt    time.Time
}

// Dropped returns how many decisions were not kept.
func (s *Stats) Dropped() uint64 { return s.DroppedQueue + s.DroppedWrite + s.DroppedFault }

// Stats returns them.
func (l *Log) Stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.counts
	s.Waiting = l.waiting
	l.store.addTo(&s)
	return s
}
