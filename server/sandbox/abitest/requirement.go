package abitest

import (
	"slices"

	"rapport/server/sandbox"
)

// Requirement names one thing that a strategy must do, or, for the last three,
// should.
type Requirement string

// The requirements, in the order in which they are checked and reported. The first
// five are about the module, the next six about what it is asked, the next five
// about what it answers and uses, the last three draw attention and nothing more.
const (
	Binary    Requirement = "binary"
	Interface Requirement = "interface"
	State     Requirement = "state"
	Manifest  Requirement = "manifest"
	Start     Requirement = "start"

	Sizes      Requirement = "sizes"
	Profiles   Requirement = "profiles"
	Values     Requirement = "values"
	Columns    Requirement = "columns"
	Parameters Requirement = "parameters"
	Random     Requirement = "random"

	Scores  Requirement = "scores"
	Codes   Requirement = "codes"
	Bounds  Requirement = "bounds"
	Budget  Requirement = "budget"
	Memory  Requirement = "memory"
	Repeats Requirement = "repeats"

	Logs    Requirement = "logs"
	Reasons Requirement = "reasons"
	Inputs  Requirement = "inputs"
)

// requirements are all of them, in order, with what each says.
var requirements = []struct {
	requirement Requirement
	sentence    string
}{
	{Binary, "It is WebAssembly of core 2.0, within the limits, and compiles."},
	{Interface, "It imports and exports what ABI 1 has, and no other imports."},
	{State, "It can keep nothing from one call to the next, and runs nothing before it is asked to."},
	{Manifest, "Its manifest is valid, and there can be a schema and a catalogue that it fits."},
	{Start, "It starts for scenarios of all sizes, and the same every time, also in another runtime."},

	{Sizes, "It ranks 1, 2, 63, 64, 65, 127, 1,000 candidates and more, of scenarios of that size and of larger ones."},
	{Profiles, "It ranks whatever is known of the customer and of offers and channels: all, nothing, and each value alone."},
	{Values, "It ranks with extreme values: 0, the least and greatest numbers, empty and long texts in any script, times of all ages."},
	{Columns, "It ranks with candidate columns of 0, −0, the greatest that a catalogue can have, and greater ones, and with histories of all kinds."},
	{Parameters, "It ranks with each parameter at its least and at its greatest."},
	{Random, "It ranks random decisions."},

	{Scores, "Every candidate has a score, which is finite if what it is made of is."},
	{Codes, "Reasons are declared, vetoes are for candidates that there are, and probabilities from 0 to 1."},
	{Bounds, "It writes nothing of the arena but the output."},
	{Budget, "It needs no more fuel and no more of the call stack than a call has."},
	{Memory, "Its memory does not grow in a call, so that no instance has to be replaced."},
	{Repeats, "The same decision has the same answer and takes the same fuel, in any order, several at once, and in another runtime."},

	{Logs, "It does not log on every call."},
	{Reasons, "Each reason that it declares is given to some candidate."},
	{Inputs, "Each input that it declares makes a difference to some decision."},
}

// Requirements returns all requirements, in order.
func Requirements() []Requirement {
	list := make([]Requirement, len(requirements))
	for i, r := range requirements {
		list[i] = r.requirement
	}
	return list
}

// Sentence says what is required.
func (r Requirement) Sentence() string {
	i := slices.Index(Requirements(), r)
	if i < 0 {
		return ""
	}
	return requirements[i].sentence
}

// refusals are the requirements that a module does not meet if it is refused, by
// the sandbox's reasons.
var refusals = map[sandbox.Reason]Requirement{
	sandbox.ReasonTooLarge:      Binary,
	sandbox.ReasonMalformed:     Binary,
	sandbox.ReasonUnsupported:   Binary,
	sandbox.ReasonLimit:         Binary,
	sandbox.ReasonReserved:      Binary,
	sandbox.ReasonCompileTime:   Binary,
	sandbox.ReasonCompileMemory: Binary,
	sandbox.ReasonCompileSize:   Binary,
	sandbox.ReasonImport:        Interface,
	sandbox.ReasonExport:        Interface,
	sandbox.ReasonState:         State,
	sandbox.ReasonStart:         State,
	sandbox.ReasonManifest:      Manifest,
	sandbox.ReasonInit:          Start,
	sandbox.ReasonArena:         Start,
	sandbox.ReasonImage:         Start,
}

// refusalAdvice says what to do about a refusal.
var refusalAdvice = map[sandbox.Reason]string{
	sandbox.ReasonTooLarge:      "Make it smaller: strip symbols and debug sections, and leave out what the strategy does not need.",
	sandbox.ReasonMalformed:     "Give the .wasm file as the compiler wrote it. If it is that, it may be a text file, cut short, or a component and not a core module.",
	sandbox.ReasonUnsupported:   "Build it for core WebAssembly 2.0: turn off threads, exceptions, tail calls, several memories and 64-bit memory in the compiler.",
	sandbox.ReasonLimit:         "Make that part smaller: the limits are in the chapter \"Limits\" of ABI.md.",
	sandbox.ReasonReserved:      "Rename the export: names that begin with __rapport_ are the host's. If there are several, give the module from before it was rewritten.",
	sandbox.ReasonCompileTime:   "Split its longest function, or build it with less inlining and unrolling.",
	sandbox.ReasonCompileMemory: "Split its longest function, or build it with less inlining and unrolling.",
	sandbox.ReasonCompileSize:   "Make it smaller: leave out what the strategy does not need.",
	sandbox.ReasonImport:        "Build it without what needs that import; the chapter \"The module\" of ABI.md lists those that there are.",
	sandbox.ReasonExport:        "Export it as the chapter \"The module\" of ABI.md says; the SDKs do.",
	sandbox.ReasonState:         "Keep such things in memory, or in a global of another type: those are put back after each call.",
	sandbox.ReasonStart:         "Have the compiler call that code from _initialize (Go: -buildmode=c-shared, AssemblyScript: --exportStart _initialize).",
	sandbox.ReasonManifest:      "Mend the manifest; the chapter \"The manifest\" of ABI.md says what may be in it.",
	sandbox.ReasonInit:          "Run what it does before its first call in a test; what it logged is above.",
	sandbox.ReasonArena:         "Return the address of that many bytes, aligned to 64, and grow the memory for them if need be.",
	sandbox.ReasonImage:         "Start from nothing but what the host gives: no clock, no random numbers, no addresses.",
}

// faults are the requirements that a call does not meet, by the kind of its fault.
// Kinds that are not here are those of not answering: the requirement is the one
// that is being checked.
var faults = map[sandbox.FaultKind]Requirement{
	sandbox.FaultFuel:        Budget,
	sandbox.FaultStack:       Budget,
	sandbox.FaultScore:       Scores,
	sandbox.FaultReason:      Codes,
	sandbox.FaultVeto:        Codes,
	sandbox.FaultProbability: Codes,
	sandbox.FaultOverwrite:   Bounds,
}

// faultAdvice says what to do about a fault.
var faultAdvice = map[sandbox.FaultKind]string{
	sandbox.FaultFuel:        "Find the loop that does not end, or does more for each candidate than it should; if all of it is needed, see the figures, and declare no less.",
	sandbox.FaultStack:       "Bound the recursion, or write it as a loop.",
	sandbox.FaultTrap:        "Make that decision in a test of the strategy's own; the chapter \"Faults\" of ABI.md says what a trap is.",
	sandbox.FaultPanic:       "Make that decision in a test of the strategy's own, where the panic has a stack.",
	sandbox.FaultExit:        "Return instead: a strategy never ends.",
	sandbox.FaultStatus:      "Rank all decisions that the ABI allows: a status other than 0 makes the server decide without the strategy.",
	sandbox.FaultCount:       "Return the number of candidates of the frame in the high 32 bits, and 0 in the low.",
	sandbox.FaultScore:       "Give every candidate a score, also one with a veto; look at divisions by 0, logarithms and roots of what may be 0 or negative, and clamp what is too great.",
	sandbox.FaultReason:      "Declare the reason in the manifest: code 1 is the first, 0 is none.",
	sandbox.FaultVeto:        "Set bits of candidates only: bit i mod 64 of word i div 64, for i below the number of candidates.",
	sandbox.FaultProbability: "Give a probability from 0 to 1, or none: one that is a sum or a quotient can come out a little greater.",
	sandbox.FaultOverwrite:   "Take the places of the output from the frame's header, and count candidates from 0 to one less than there are.",
}
