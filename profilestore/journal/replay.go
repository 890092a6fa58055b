package journal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
)

// replayCheck is how many records Replay delivers between looks at its context.
const replayCheck = 256

// Replay calls fn for the records from sequence number from on, 0 for the first there is, in order, up to what was
// durable when it was called. If that of from has been removed, nothing is called and the error is ErrRemoved. payload is valid during the call only; fn may Append. An error of fn, or the end of ctx, ends the replay and is
// wrapped in what Replay returns; damage is a *CorruptError, and the records before it have been delivered.
//
// It may run at any time until Close, any number at once, beside Appends. Memory: one buffer of 256 KiB, or the size of
// the largest record.
func (j *Journal) Replay(ctx context.Context, from uint64, fn func(seq uint64, payload []byte) error) error {
	j.reading.RLock()
	defer j.reading.RUnlock()
	j.mu.Lock()
	closing, segs := j.closing, slices.Clone(j.segs)
	j.mu.Unlock()
	if closing {
		return fmt.Errorf("journal: %w", ErrClosed)
	}
	if err := removed(segs[0].first, from); err != nil {
		return err
	}
	var sc scanner
	for i := range segs {
		if i+1 < len(segs) && segs[i+1].first <= from {
			continue
		}
		if err := j.replaySegment(ctx, &sc, &segs[i], from, fn); err != nil {
			return err
		}
	}
	return nil
}

// removed returns ErrRemoved, with its place, if the journal begins after the record from.
func removed(first, from uint64) error {
	if from == 0 || from >= first {
		return nil
	}
	return fmt.Errorf("journal: record %d was asked for, the first is %d: %w", from, first, ErrRemoved)
}

func (j *Journal) replaySegment(ctx context.Context, sc *scanner, s *segment, from uint64, fn func(uint64, []byte) error) error {
	f, err := os.Open(s.path)
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	defer f.Close() //nolint:errcheck // only read
	h, err := readHeader(f, s)
	switch {
	case errors.Is(err, errUnmade):
		return s.corrupt(0, "its header is gone")
	case err != nil:
		return err
	case h.id != j.id:
		return s.corrupt(0, "it belongs to another journal")
	}
	sc.scan(f, newChecksum(h.id), s.first, s.size)
	return s.deliver(ctx, sc, from, fn)
}

// deliver calls fn for the records of a scan from number from on.
func (s *segment) deliver(ctx context.Context, sc *scanner, from uint64, fn func(uint64, []byte) error) error {
	for n := 0; ; n++ {
		if n%replayCheck == 0 && ctx.Err() != nil {
			return fmt.Errorf("journal: replay ended before record %d: %w", sc.seq, ctx.Err())
		}
		seq, payload, err := sc.record()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return s.explain(err)
		case seq < from:
			continue
		}
		if err := fn(seq, payload); err != nil {
			return fmt.Errorf("journal: replay of record %d: %w", seq, err)
		}
	}
}
