package sandbox

import (
	"errors"
	"fmt"
	"strings"

	"github.com/tetratelabs/wazero/sys"
)

// FaultKind says in one word what a strategy did wrong in a call.
type FaultKind string

// The kinds of faults.
const (
	FaultFuel        FaultKind = "fuel"        // it used all of its fuel
	FaultDeadline    FaultKind = "deadline"    // it used the fuel for the time that was left; not the strategy's fault
	FaultStack       FaultKind = "stack"       // it called itself too deep
	FaultTrap        FaultKind = "trap"        // it trapped: out of bounds, unreachable, a division by zero …
	FaultPanic       FaultKind = "panic"       // its language's runtime gave up, and said why
	FaultExit        FaultKind = "exit"        // it ended itself
	FaultStatus      FaultKind = "status"      // it answered that it failed
	FaultCount       FaultKind = "count"       // it ranked another number of candidates
	FaultScore       FaultKind = "score"       // a score is NaN or infinite, or was not given
	FaultReason      FaultKind = "reason"      // a reason code was never declared
	FaultVeto        FaultKind = "veto"        // it vetoed candidates that do not exist
	FaultProbability FaultKind = "probability" // a probability is not within 0 to 1
	FaultOverwrite   FaultKind = "overwrite"   // it wrote outside the output
	FaultInput       FaultKind = "input"       // the profile's texts do not fit; not the strategy's fault
)

// Kinds lists all kinds of faults, for those who count them.
func Kinds() []FaultKind {
	return []FaultKind{
		FaultFuel, FaultDeadline, FaultStack, FaultTrap, FaultPanic, FaultExit, FaultStatus, FaultCount, FaultScore,
		FaultReason, FaultVeto, FaultProbability, FaultOverwrite, FaultInput,
	}
}

// blames reports whether a fault of this kind says something of the strategy.
func (k FaultKind) blames() bool { return k != FaultDeadline && k != FaultInput }

// FaultError says that a call of a strategy failed. The decision goes on
// without it.
type FaultError struct {
	Kind     FaultKind
	Strategy string // name and version
	Message  string
	Err      error // the cause, if there is one
	// Candidate is the place in the scenario of the candidate for which the answer is
	// wrong, counted from 1; 0 if the fault is of no single one.
	Candidate int
}

func (e *FaultError) Error() string {
	return fmt.Sprintf("strategy %s: %s: %s", e.Strategy, e.Kind, e.Message)
}

func (e *FaultError) Unwrap() error { return e.Err }

// maxFaultMessage bounds what a guest can put into an error.
const maxFaultMessage = 512

func spent(fuel int64) string { return fmt.Sprintf("it used all of its %d units of fuel", fuel) }

// callFault turns the error of a guest call into a kind and a message. The
// counters say whether it was ended from without; else what the guest wrote to
// its standard error explains it best, if it wrote something: a Go panic does,
// before it traps. fuel is what the call was given.
func (in *instance) callFault(err error, fuel int64) (FaultKind, string) {
	console := string(in.host.console)
	switch {
	case in.left() < 0:
		return FaultFuel, spent(fuel)
	case int64(in.depth.Get()) < 0:
		return FaultStack, fmt.Sprintf("its calls are nested too deep: %d KiB of stack are not enough", stackSlots*8>>10)
	}
	kind := FaultTrap
	message, _, _ := strings.Cut(strings.TrimPrefix(err.Error(), "wasm error: "), "\n")
	if exit := new(sys.ExitError); errors.As(err, &exit) {
		kind, message = FaultExit, fmt.Sprintf("exit status %d", exit.ExitCode())
	}
	for line := range strings.Lines(console) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "panic: ") || strings.HasPrefix(line, "fatal error: ") {
			return FaultPanic, clip(line, maxFaultMessage)
		}
	}
	if first, _, _ := strings.Cut(strings.TrimSpace(console), "\n"); first != "" {
		message += ": " + first
	}
	return kind, clip(message, maxFaultMessage)
}

// clip returns at most n bytes of s, as valid UTF-8.
func clip(s string, n int) string {
	if len(s) > n {
		s = s[:n] + "…"
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}
