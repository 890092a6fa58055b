package profilestore

import (
	"cmp"
	"context"
	"slices"
)

// RecordContent returns an encoded delta record without what says how its events came
// there: their place in the journal, and the order of the ids that are remembered.
func RecordContent(key string, record []byte) ([]byte, error) {
	d, err := decodeRecord(key, record)
	if err != nil {
		return nil, err
	}
	d.applied = 0
	slices.SortFunc(d.seen, func(a, b seenEvent) int { return cmp.Compare(a.id, b.id) })
	return d.encode(), nil
}

// CheckpointNow makes a checkpoint, as the store does now and then.
func (s *Store) CheckpointNow(ctx context.Context) error { return s.checkpoint(ctx) }

// JournalFirst returns the number of the first entry of the journal that is there.
func (s *Store) JournalFirst() uint64 { return s.journal.First() }
