package sandbox

import (
	"errors"
	"fmt"
	"strings"
)

// Reason says in one word why a module is refused.
type Reason string

// The reasons.
const (
	ReasonTooLarge    Reason = "too_large"   // more bytes than MaxModuleSize
	ReasonMalformed   Reason = "malformed"   // not a valid WebAssembly module
	ReasonUnsupported Reason = "unsupported" // it uses what came after core 2.0
	ReasonLimit       Reason = "limit"       // it has more of something than is allowed
	ReasonReserved    Reason = "reserved"    // it uses names that belong to the host
	ReasonState       Reason = "state"       // it could keep something from one call to the next
	ReasonStart       Reason = "start"       // it would run code before it is asked to
	ReasonImport      Reason = "import"      // it imports what the ABI does not have
	ReasonExport      Reason = "export"      // it lacks an export, or has one of another type
	ReasonManifest    Reason = "manifest"    // what it says about itself is wrong
	ReasonInit        Reason = "init"        // it fails before the first call
	ReasonArena       Reason = "arena"       // the memory that it gives is not fit
	ReasonImage       Reason = "image"       // it does not start the same every time

	ReasonCompileTime   Reason = "compile_time"   // compiling it takes too long
	ReasonCompileMemory Reason = "compile_memory" // compiling it takes too much memory
	ReasonCompileSize   Reason = "compile_size"   // its compiled code is too long
)

// InvalidError says why a module is refused.
type InvalidError struct {
	Reason  Reason
	Message string
	Err     error // the cause, if there is one
}

func (e *InvalidError) Error() string { return "invalid strategy module: " + e.Message }

func (e *InvalidError) Unwrap() error { return e.Err }

func invalid(reason Reason, format string, args ...any) *InvalidError {
	err := fmt.Errorf(format, args...)
	return &InvalidError{Reason: reason, Message: err.Error(), Err: errors.Unwrap(err)}
}

// UnfitError lists what a strategy needs that a catalogue does not have, or what
// a scenario asks of it that it can't do.
type UnfitError struct {
	Strategy string // name and version
	Scenario string // empty: no scenario could be made that it fits
	Problems []string
}

func (e *UnfitError) Error() string {
	what := "scenario " + e.Scenario
	if e.Scenario == "" {
		what = "the schema"
	}
	return fmt.Sprintf("strategy %s does not fit %s: %s", e.Strategy, what, strings.Join(e.Problems, "; "))
}
