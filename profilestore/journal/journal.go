// Package journal keeps records in the order they came, on disk, for good: an append-only, checksummed journal in
// segment files. It is the profile store's truth: an event is acknowledged when its record has been synced, and
// everything derived from events (deltas, caches) is rebuilt from here.
//
// It does not know what a record means, does not find duplicates and does not index; it removes whole segments at its
// beginning when it is told to, and nothing else. It does not keep a second process out: the caller holds a lock on the directory. It does not watch free space: a full disk stops it like
// any failed write, so the caller stops appending before that.
//
// It is a leaf: it imports the standard library only. profilestore and what is above it may import it.
package journal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// Entry is one record to append.
type Entry struct {
	// Payload is at most MaxPayload bytes and may be empty. The journal has its own copy when Append returns.
	Payload []byte
	// Tag is not written. It is there for Committed.
	Tag any
}

// Options say how a journal works. The zero value is good.
type Options struct {
	// SegmentBytes is the size at which a new segment file begins; default 64 MiB. Only a segment of a single group can
	// be larger.
	SegmentBytes int64
	// GroupEntries is the most entries in one group; default 512, at most 2048.
	GroupEntries int
	// GroupDelay is the longest time a group waits for company, counted from its first entry; default 5 ms.
	GroupDelay time.Duration
	// GroupQuiet is the time without a new entry after which a group waits no longer; default 20 µs. The committer spins
	// (and yields) for so long; see RATIONALE.md before making it longer.
	GroupQuiet time.Duration
	// CheckFrom lets Open be quick: segments whose records are all older than this sequence number are not read, except
	// for header and seal. Replay checks what it reads in any case. 0: read and check everything.
	CheckFrom uint64
	// First is the greatest number that the first record may have: what is before it is known to the caller by another
	// way, and may have been removed with RemoveBefore. 0 is 1: nothing may be missing.
	First uint64

	// Committed, if set, is called for each entry in order of sequence numbers, from one goroutine, after the sync of its
	// group and before its Append returns; an Append whose context has ended may be gone already, so its caller leaves
	// the entry alone. It holds up the next group and must not call the journal's Append or Close.
	Committed func(seq uint64, e *Entry)
	// OnSync, if set, is called after each group's write and sync: how many entries, how many bytes with all headers, and
	// how long write and sync took. Same goroutine as Committed.
	OnSync func(entries, bytes int, took time.Duration)
	// Logger is told of a torn tail and of the failure that stops the journal; default: nobody.
	Logger *slog.Logger
	// FS is for tests; default: the operating system.
	FS FS
}

func (o Options) withDefaults() (Options, error) {
	if o.SegmentBytes < 0 || o.GroupEntries < 0 || o.GroupDelay < 0 || o.GroupQuiet < 0 {
		return o, errors.New("journal: an option is negative: use 0 for its default")
	}
	if o.GroupEntries > maxGroupEntries {
		return o, fmt.Errorf("journal: GroupEntries is %d, at most %d are possible", o.GroupEntries, maxGroupEntries)
	}
	o.SegmentBytes = orDefault(o.SegmentBytes, 64<<20)
	o.GroupEntries = orDefault(o.GroupEntries, 512)
	o.GroupDelay = orDefault(o.GroupDelay, 5*time.Millisecond)
	o.GroupQuiet = orDefault(o.GroupQuiet, 20*time.Microsecond)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.FS == nil {
		o.FS = osFS{}
	}
	return o, nil
}

func orDefault[T int | int64 | time.Duration](v, otherwise T) T {
	if v == 0 {
		return otherwise
	}
	return v
}

// Journal is an open journal. All methods are safe for concurrent use.
//
// # How an entry becomes durable
//
// Append takes the lock, gives its entries their numbers, encodes them behind the others of the open group and waits for
// the group. One goroutine, the committer, takes the open group (an empty one takes its place), writes it with one write,
// syncs the file once, calls Committed for its entries and wakes everybody who waited. While it syncs, the next group
// gathers; so the slower the disk, the larger the groups, without any setting.
//
// Before it takes a group the committer waits until nothing new has come for GroupQuiet, at most GroupDelay. That is for
// entries which are just about to arrive, such as those of the callers it has just woken: without it 64 callers in a
// loop fall into two halves that take turns.
//
// An Append that finds no room, or a call of more than GroupEntries entries, goes through appendSlow: a queue, first
// come first served, so that a large call is not starved by small ones and its pieces follow each other. At most two
// groups are in memory: callers wait, the journal does not grow.
//
// # What a crash leaves behind
//
// A group is written only after the group before it was synced. So a power cut can damage the last group only, in any
// way: missing, cut short, or with holes where some of its sectors did not reach the disk. A group counts as a whole: if
// one of its records is damaged, Open cuts it off, and the entries of one Append of at most GroupEntries entries are
// there all or none. A damaged group with a later group behind it had been acknowledged: then Open refuses, since
// cutting would lose what was promised. When a segment is full and at Close a seal, an empty group, is written after
// the last sync; it says the same for the last group.
//
// The alternative, keeping the undamaged first records of a torn group, loses the all-or-none and needs the place of a
// record in its group in every record, to tell a torn group from damage before acknowledged ones.
//
// What Open finds in the last group may be in the page cache only: its sync may never have happened, or may have failed,
// which marks pages clean that are not on disk. Open therefore writes the last group again, in place, and syncs it
// before anybody can replay it.
//
// RATIONALE.md has the measurements, and the questions this leaves.
type Journal struct {
	o        Options
	dir      string
	id       uint64
	recovery Recovery

	mu      sync.Mutex
	open    *group // gathers; never nil
	spare   *group // for reuse, nil if in use
	next    uint64
	sum     *checksum // guarded by mu
	segs    []segment // guarded by mu; the last one's size is what is durable
	waiting int       // Appends in appendSlow; while there are any, nobody may overtake
	partial bool      // an Append has entries in the journal and more to come
	closing bool
	err     error

	arrived atomic.Int64 // entries in the open group
	full    atomic.Bool  // the open group should wait no longer
	syncs   atomic.Uint64

	reading sync.RWMutex // held for reading by Replay, for writing while segments are removed

	turn    chan struct{} // holds one token: whose turn it is in appendSlow
	wake    chan struct{} // holds one token: the committer has something to look at
	stopped chan struct{} // closed when the committer has ended

	closeOnce sync.Once
	closeErr  error

	// The committer's own.
	file File   // nil after a rotation that failed
	size int64  // of file, all of it durable
	from uint64 // number of the first record in file, or of the next if there is none
}

// Next is the sequence number that the next entry will get; the first ever is 1. A view that has applied a record
// numbered Next or more proves that the journal has lost its end.
func (j *Journal) Next() uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.next
}

// Err is why the journal stopped acknowledging, nil while it is healthy. It wraps ErrFailed and the cause. To go on,
// mend the cause, Close, and Open the directory anew.
func (j *Journal) Err() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.err
}

// Syncs is how many groups have been synced since Open, one sync each.
func (j *Journal) Syncs() uint64 { return j.syncs.Load() }

// Recovery is what Open found.
func (j *Journal) Recovery() Recovery { return j.recovery }

// Close makes durable what was accepted, seals the journal and ends its goroutine. Appends still waiting for room get
// ErrClosed. If the journal had failed, or the seal can't be written, Close returns that. A second Close returns the
// same.
func (j *Journal) Close() error {
	j.closeOnce.Do(func() {
		j.mu.Lock()
		j.closing = true
		j.full.Store(true)
		j.mu.Unlock()
		j.signal()
		<-j.stopped
		j.closeErr = j.Err()
		if j.file == nil { // a new segment could not be made
			return
		}
		if err := j.file.Close(); err != nil && j.closeErr == nil {
			j.closeErr = fmt.Errorf("journal: close: %w", err)
		}
	})
	return j.closeErr
}

// signal tells the committer to look again.
func (j *Journal) signal() {
	select {
	case j.wake <- struct{}{}:
	default:
	}
}

// Append adds entries and returns when they are durable. They get consecutive sequence numbers, the first of which is
// returned; calls of at most GroupEntries entries are in the journal as a whole or not at all, also after a crash.
// Without entries it does nothing.
//
// If ctx ends early, the error is ctx.Err() and, if the entries had been accepted, also ErrUnconfirmed. After a failed
// write or sync it is ErrFailed and the cause, after Close ErrClosed. A payload over the limit is a *TooLargeError.
func (j *Journal) Append(ctx context.Context, entries ...*Entry) (first uint64, err error) {
	for i, e := range entries {
		switch {
		case e == nil:
			return 0, fmt.Errorf("journal: entry %d of the call is nil", i)
		case len(e.Payload) > MaxPayload:
			return 0, &TooLargeError{Index: i, Size: len(e.Payload)}
		}
	}
	if len(entries) == 0 {
		return 0, j.Err()
	}
	if err := ctx.Err(); err != nil {
		return 0, notAccepted(err)
	}
	j.mu.Lock()
	if err := j.refusal(); err != nil {
		j.mu.Unlock()
		return 0, notAccepted(err)
	}
	if j.waiting > 0 || !j.roomFor(len(entries)) {
		j.waiting++
		j.mu.Unlock()
		return j.appendSlow(ctx, entries)
	}
	first, t := j.add(entries)
	j.mu.Unlock()
	return j.await(ctx, t, first, len(entries))
}
