package wasm

import "fmt"

// Kind says in one word why a module is refused.
type Kind string

// The kinds.
const (
	// Malformed: the bytes are not a module.
	Malformed Kind = "malformed"
	// Invalid: a module, but its types don't fit or it names what is not there.
	Invalid Kind = "invalid"
	// Unsupported: it uses what came after core 2.0, such as threads, exceptions,
	// tail calls, several memories or 64-bit memory.
	Unsupported Kind = "unsupported"
	// OverLimit: it has more of something than [Limits] allows.
	OverLimit Kind = "limit"
	// Reserved: it uses names that belong to the rewriter, as a module does that
	// was already rewritten.
	Reserved Kind = "reserved"
)

// Error says why a module is refused, and where.
type Error struct {
	Kind    Kind
	Offset  int // in the binary, in bytes
	Message string
}

func (e *Error) Error() string {
	return fmt.Sprintf("%s module: %s (at byte %#x)", e.Kind, e.Message, e.Offset)
}
