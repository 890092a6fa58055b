package journal

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// groupBytes is the size from which a group takes no more calls and its buffer is not kept for reuse.
const groupBytes = 4 << 20

// group is a number of entries that are written and synced together. Guarded by Journal.mu while it is the open one,
// the committer's alone after that.
type group struct {
	buf     []byte // as it will be written; room for the header is left at its start
	entries []*Entry
	first   uint64
	began   time.Time // when the first entry came
	taken   chan struct{}
	ticket  *ticket
}

// ticket is what the Appends of a group wait for.
type ticket struct {
	done chan struct{}
	err  error // valid once done is closed
}

// whenTaken returns a channel that is closed when the committer takes the group, or the journal fails.
func (g *group) whenTaken() <-chan struct{} {
	if g.taken == nil {
		g.taken = make(chan struct{})
	}
	return g.taken
}

// reset readies a group for reuse, unless its buffer has grown too large.
func (g *group) reset() *group {
	if cap(g.buf) > groupBytes {
		return &group{}
	}
	clear(g.entries)
	*g = group{buf: g.buf[:0], entries: g.entries[:0]}
	return g
}

// roomFor says whether n more entries may join the open group. Caller holds mu.
func (j *Journal) roomFor(n int) bool {
	has := len(j.open.entries)
	return has+n <= j.o.GroupEntries && (has == 0 || len(j.open.buf) < groupBytes)
}

// add puts entries into the open group, which has room. Caller holds mu.
func (j *Journal) add(entries []*Entry) (first uint64, t *ticket) {
	g := j.open
	first = j.next
	if len(g.entries) == 0 {
		g.first = first
		g.began = time.Now()
		g.ticket = &ticket{done: make(chan struct{})}
		g.buf = append(g.buf, make([]byte, groupHeaderSize)...)
		j.signal()
	}
	for _, e := range entries {
		g.buf = j.sum.appendRecord(g.buf, j.next, e.Payload)
		j.next++
	}
	g.entries = append(g.entries, entries...)
	j.arrived.Store(int64(len(g.entries)))
	if len(g.entries) >= j.o.GroupEntries {
		j.full.Store(true)
	}
	return first, g.ticket
}

// await waits until the group of t is durable and returns what Append returns for n entries from first.
func (j *Journal) await(ctx context.Context, t *ticket, first uint64, n int) (uint64, error) {
	select {
	case <-t.done:
	case <-ctx.Done():
		select {
		case <-t.done: // both: what is known counts
		default:
			return 0, unconfirmed(first, n, ctx.Err())
		}
	}
	if t.err != nil {
		return 0, t.err
	}
	return first, nil
}

// refusal is why the journal takes no new call, or nil. Caller holds mu.
func (j *Journal) refusal() error {
	if j.err == nil && j.closing {
		return ErrClosed
	}
	return j.err
}

// appendSlow is Append for calls that do not fit into the open group, or come while others wait. The caller has counted
// it in waiting.
func (j *Journal) appendSlow(ctx context.Context, entries []*Entry) (first uint64, err error) {
	first, t, n, err := j.addInTurn(ctx, entries)
	j.mu.Lock()
	j.waiting--
	j.mu.Unlock()
	switch {
	case err == nil:
		return j.await(ctx, t, first, n)
	case n > 0:
		return 0, unconfirmed(first, n, err)
	}
	return 0, notAccepted(err)
}

// addInTurn waits for its turn and adds entries, GroupEntries at a time. It returns the ticket of the last group and how
// many entries were accepted, also if it fails.
func (j *Journal) addInTurn(ctx context.Context, entries []*Entry) (first uint64, t *ticket, n int, err error) {
	select {
	case j.turn <- struct{}{}:
	case <-ctx.Done():
		return 0, nil, 0, ctx.Err()
	}
	defer func() {
		j.mu.Lock()
		j.partial = false
		j.mu.Unlock()
		j.signal()
		<-j.turn
	}()
	for chunk := range slices.Chunk(entries, j.o.GroupEntries) {
		seq, last, err := j.addWhenRoom(ctx, chunk, n+len(chunk) < len(entries))
		if err != nil {
			return first, t, n, err
		}
		if n == 0 {
			first = seq
		}
		t = last
		n += len(chunk)
	}
	return first, t, n, nil
}

// addWhenRoom adds entries as soon as the open group has room for all of them. more: the call has still others, so the
// journal may not close yet.
func (j *Journal) addWhenRoom(ctx context.Context, entries []*Entry, more bool) (first uint64, t *ticket, err error) {
	for {
		j.mu.Lock()
		err = j.refusal()
		if errors.Is(err, ErrClosed) && j.partial { // what has begun may end
			err = nil
		}
		if err == nil && j.roomFor(len(entries)) {
			first, t = j.add(entries)
			j.partial = more
		}
		if err != nil || t != nil {
			j.mu.Unlock()
			return first, t, err
		}
		j.full.Store(true)
		taken := j.open.whenTaken()
		j.mu.Unlock()
		select {
		case <-taken:
		case <-ctx.Done():
			return 0, nil, ctx.Err()
		}
	}
}

func notAccepted(err error) error {
	return fmt.Errorf("journal: nothing was written: %w", err)
}

func unconfirmed(first uint64, n int, err error) error {
	return fmt.Errorf("journal: %d entries from %d: %w: %w", n, first, ErrUnconfirmed, err)
}
