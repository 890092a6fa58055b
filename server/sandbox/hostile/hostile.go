// Package hostile is the corpus of attacks: modules that a strategy's author could
// upload to stop, crash, slow down or deceive the server, each with the error that
// it must end in. Package sandbox's tests run all of them; package bench measures
// what those that get as far as a call do to others meanwhile.
//
// Modules are assembled when they are asked for, so nothing hostile lies about, and
// what is large about an attack is its code here and not a file. Bombs for the
// compiler itself are in package sandbox's tests of the compiler process, as their
// limits are part of the attack. Only tests and benchmarks import this package.
package hostile

import (
	"fmt"
	"strings"

	"rapport/server/sandbox"
)

// Attack is a hostile module. Of Refused, Unbound and Fault one is set: it is
// refused when it is uploaded, or when it is bound to a scenario, or every call of
// it fails.
type Attack struct {
	Name    string
	Refused sandbox.Reason
	Unbound sandbox.Reason
	Fault   sandbox.FaultKind
	// Overshoot is how far below 0 the fuel counter may be after a call that ran
	// out: the greatest price between two checks.
	Overshoot int64

	build func() ([]byte, error)
}

// Wasm assembles the module.
func (a *Attack) Wasm() ([]byte, error) {
	b, err := a.build()
	if err != nil {
		return nil, fmt.Errorf("hostile: %s: %w", a.Name, err)
	}
	return b, nil
}

// Corpus returns all attacks, those first that are refused earliest.
func Corpus() []Attack {
	var list []Attack
	for _, part := range [][]Attack{
		formats(), bombs(), interfaces(), states(), uploads(), binds(), loops(), recursions(), memories(), codes(),
		hosts(), traps(), outputs(),
	} {
		list = append(list, part...)
	}
	return list
}

// Stalling returns a strategy that scores as a good one does, but in one call of so many
// (a power of two), by the decision's seed, goes round a loop for so many turns first. It
// is no attack as long as it has the fuel, some six units a turn: one that is only slow.
func Stalling(one, turns int) ([]byte, error) {
	return strategy{before: fmt.Sprintf(`block
		local.get 1 i64.load offset=40 i64.const %d i64.and i64.const 0 i64.ne br_if 0
		loop local.get 4 i32.const 1 i32.add local.tee 4 i32.const %d i32.lt_u br_if 0 end
	end`, one-1, turns)}.encode()
}

// refused is an attack that ends when it is uploaded.
func refused(name string, reason sandbox.Reason, s strategy) Attack {
	return Attack{Name: name, Refused: reason, build: s.encode}
}

// bare is one that no assembler writes.
func bare(name string, reason sandbox.Reason, build func() ([]byte, error)) Attack {
	return Attack{Name: name, Refused: reason, build: build}
}

func unbound(name string, reason sandbox.Reason, s strategy) Attack {
	return Attack{Name: name, Unbound: reason, build: s.encode}
}

// usual is what the counter of most attacks may be below 0.
const usual = 2_000

// spends is an attack that ends when its fuel does.
func spends(name string, s strategy) Attack {
	return Attack{Name: name, Fault: sandbox.FaultFuel, Overshoot: usual, build: s.encode}
}

func faults(name string, kind sandbox.FaultKind, s strategy) Attack {
	return Attack{Name: name, Fault: kind, build: s.encode}
}

func repeat(n int, text string) string { return strings.Repeat(text+" ", n) }
