package journal

import (
	"errors"
	"fmt"
)

var (
	// ErrFailed is in every error of a journal that stopped because a write or sync failed. Whether the entries of that
	// Append are in the journal will be known at the next Open; sending them again with the same event ids is safe.
	ErrFailed = errors.New("stopped after a failed write or sync")

	// ErrClosed is returned by Append and Replay after Close; nothing was written.
	ErrClosed = errors.New("the journal is closed")

	// ErrUnconfirmed is in the error of an Append whose context ended after its entries were accepted: they will most
	// likely become durable, but nobody waited for it. Sending them again with the same event ids is safe.
	ErrUnconfirmed = errors.New("accepted, outcome unknown; sending again with the same event ids is safe")

	// ErrRemoved is in the error of a Replay or Read from a record that was removed with its segment.
	ErrRemoved = errors.New("that part of the journal has been removed")

	// ErrReading is returned by RemoveBefore while somebody replays the journal: try again later.
	ErrReading = errors.New("the journal is being read")

	// ErrVersion is in the error of an Open that met a format version this program does not know.
	ErrVersion = errors.New("unknown journal format version")
)

// CorruptError says where a journal is damaged. Open returns it for damage that a crash can't have caused, and changes
// nothing on disk; Replay returns it for damage that came after Open.
type CorruptError struct {
	File   string // path of the segment file
	Offset int64  // byte in File where the first record, group or header that is not as written starts
	Reason string
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("journal: %s is damaged at byte %d: %s; restore the journal from a copy "+
		"(do not delete or shorten the file: acknowledged events would be lost)", e.File, e.Offset, e.Reason)
}

// TooLargeError refuses an entry of more than MaxPayload bytes; nothing of that Append was written.
type TooLargeError struct {
	Index int // which of Append's entries
	Size  int // bytes of its payload
}

func (e *TooLargeError) Error() string {
	return fmt.Sprintf("journal: entry %d of the call has %d bytes, the limit is %d: split it or make it smaller",
		e.Index, e.Size, MaxPayload)
}
