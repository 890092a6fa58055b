package profilestore

import (
	"errors"
	"fmt"
	"path/filepath"

	"rapport/profilestore/journal"
)

// ErrJournalShort is in the error of a call that found that the journal has lost its end:
// a delta record has an entry that it has not.
var ErrJournalShort = errors.New("the journal has lost its end")

// CheckAhead compares the journal of a data folder, which nobody has open, with the delta
// records that were written last, which each calls its function with. After a crash the
// end of a journal that was cut looks like a write that was interrupted; but what was
// applied had been acknowledged. Going on would give the numbers of the lost entries to
// others, and records that have them already would pass those over. The error is
// ErrJournalShort, and names the file.
func CheckAhead(data string, each func(fn func(key, stored []byte)) error) error {
	dir := filepath.Join(data, "journal")
	file, next, err := journal.End(dir)
	if err != nil {
		return nil //nolint:nilerr // opening the journal says what is wrong with it
	}
	applied := uint64(0)
	err = each(func(key, stored []byte) {
		if d, err := decodeRecord(string(key), stored); err == nil {
			applied = max(applied, d.applied)
		}
	})
	if err != nil || applied < next {
		return err
	}
	return fmt.Errorf("%w: %s ends before entry %d, and entry %d was applied: put the file back from a backup; or give up what is missing and have the delta records derived "+
		"from what is there: rapport doctor --data %s --repair --accept-loss", ErrJournalShort, file, next, applied, data)
}
