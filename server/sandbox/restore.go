package sandbox

import "fmt"

// Restore says how the memory of an instance is put back after a call. All kinds
// leave the same bytes; they differ in what they cost.
type Restore int

// The kinds.
const (
	// RestoreBest is RestorePages where the system can, and RestoreCopy elsewhere.
	RestoreBest Restore = iota
	// RestorePages copies back the pages that calls have ever written. Linux only.
	RestorePages
	// RestoreCopy copies back the whole image.
	RestoreCopy
	// RestoreMadvise has the system forget what was written; the next call faults
	// each page that it writes in again. Linux only.
	RestoreMadvise
	// RestoreFresh restores nothing: each call has a new instance. It is there to
	// compare with.
	RestoreFresh
)

func (r Restore) String() string {
	switch r {
	case RestoreBest:
		return "best"
	case RestorePages:
		return "pages"
	case RestoreCopy:
		return "copy"
	case RestoreMadvise:
		return "madvise"
	case RestoreFresh:
		return "fresh"
	}
	return fmt.Sprintf("Restore(%d)", int(r))
}
