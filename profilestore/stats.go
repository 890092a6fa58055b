package profilestore

import (
	"sync/atomic"
	"time"
)

// Stats are counts since the store was opened.
//
// An event that was accepted may be late, out of order and superseded at once. None
// of these loses it: what they do to each type of field is this.
//
//   - A duplicate, the same id of the same customer within IDHorizon, changes nothing.
//   - A late event, and one out of order, counts as if it had come in time: in the cell
//     in which it happened for amounts, at its place among the others for a register,
//     an element of a set, a reset and a stay. If a batch value has it already is
//     decided by both its times.
//   - A change that is superseded loses to one of an event that happened later, or to a
//     greater value of a max, or comes before the counter's last reset. It is as if the
//     events had come in order.
//   - A change that is too late is one of a reset or a dwell whose event happened more
//     than LateHorizon before the latest of the customer's events, or of a window
//     that it has left. It is without effect.
//   - A future-dated event, by at most MaxFuture, is accepted. It counts at once, except
//     in a window and a dwell, which see it when its time has come. One from further
//     ahead is refused.
type Stats struct {
	CacheHits, CacheMisses        uint64
	Accepted, Duplicates, Refused uint64 // events
	Late                          uint64 // accepted events, logged more than CellWidth after they happened
	OutOfOrder                    uint64 // accepted events that happened before one of the customer accepted before
	Future                        uint64 // accepted events that happened after they were logged
	RefusedFuture                 uint64 // refused events from more than MaxFuture ahead; in Refused too
	Superseded, TooLate           uint64 // changes to fields
	Pruned                        uint64 // cells, elements and moves dropped from delta records, replay included
	Replayed                      uint64 // events read from the journal at the start
	JournalNext                   uint64 // the sequence number that the next event will get

	Checkpoint         uint64        // a restart replays the entries after this one
	Checkpoints        uint64        // that were made
	CheckpointFailures uint64        // that could not be
	CheckpointTook     time.Duration // the last one
}

// fates counts what became of events.
type fates struct {
	accepted, duplicates, refused           atomic.Uint64
	late, outOfOrder, future, refusedFuture atomic.Uint64
	superseded, tooLate                     atomic.Uint64
}

// count counts the events of one call.
func (f *fates) count(call *ingestCall) {
	for i, r := range call.results {
		switch r.Outcome {
		case Duplicate:
			f.duplicates.Add(1)
		case Refused:
			f.refused.Add(1)
		case Accepted:
			f.accepted.Add(1)
			fate := &call.fates[i]
			addIf(&f.late, fate.late)
			addIf(&f.outOfOrder, fate.outOfOrder)
			addIf(&f.future, fate.future)
			f.superseded.Add(uint64(fate.superseded))
			f.tooLate.Add(uint64(fate.tooLate))
		}
	}
}

func addIf(n *atomic.Uint64, b bool) {
	if b {
		n.Add(1)
	}
}

// Stats returns the store's counts.
func (s *Store) Stats() Stats {
	f := &s.fates
	return Stats{
		CacheHits: s.hits.Load(), CacheMisses: s.misses.Load(),
		Accepted: f.accepted.Load(), Duplicates: f.duplicates.Load(), Refused: f.refused.Load(),
		Late: f.late.Load(), OutOfOrder: f.outOfOrder.Load(), Future: f.future.Load(), RefusedFuture: f.refusedFuture.Load(),
		Superseded: f.superseded.Load(), TooLate: f.tooLate.Load(), Pruned: s.pruned.Load(),
		Replayed: s.replayed.Load(), JournalNext: s.journal.Next(),
		Checkpoint: s.checkpoints.at.Load(), Checkpoints: s.checkpoints.made.Load(), CheckpointFailures: s.checkpoints.failures.Load(),
		CheckpointTook: time.Duration(s.checkpoints.took.Load()),
	}
}

// JournalStats are measures of the journal.
type JournalStats struct {
	First          uint64 // the oldest entry that is there
	Files          int
	Bytes          int64
	Base           uint64 // the base stands for the entries up to this one; 0 if there is none
	Removed        uint64 // files removed by Retain since the store was opened
	RetainFailures uint64 // times that nothing could be removed
}

// JournalStats returns the measures of the journal.
func (s *Store) JournalStats() JournalStats {
	x := JournalStats{First: s.journal.First(), Removed: s.retention.removed.Load(), RetainFailures: s.retention.failures.Load()}
	if segments, err := s.journal.Segments(); err == nil {
		x.Files = len(segments)
		for i := range segments {
			x.Bytes += segments[i].Bytes
		}
	}
	if b := s.newest.Load(); b != nil {
		x.Base = b.Position
	}
	return x
}
