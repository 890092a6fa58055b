package profilestore

import (
	"cmp"
	"slices"
)

// RecordContent returns an encoded delta record without what says how its events came
// there: their place in the journal, and the order of the ids that are remembered.
func RecordContent(record []byte) ([]byte, error) {
	d, err := decodeDelta(record)
	if err != nil {
		return nil, err
	}
	d.applied = 0
	slices.SortFunc(d.seen, func(a, b seenEvent) int { return cmp.Compare(a.id, b.id) })
	return d.encode(), nil
}
