// Package rapport is for authors of Rapport strategies in Go: programs that the
// Rapport server runs, as WebAssembly modules, to rank offers.
//
// A strategy declares at package level what it reads; the server brings exactly
// that. It ranks all candidates of a decision in one call:
//
//	var (
//		arpu  = rapport.Number("value.arpu")
//		price = rapport.OfferNumber("price")
//		chance = rapport.Propensity()
//		spender = rapport.Reason("SPENDER")
//	)
//
//	func init() {
//		rapport.Name("spenders", "1.0.0", "Dear offers to those who spend.")
//		rapport.Rank(func(d *rapport.Decision) {
//			spend := arpu.Or(d, 0)
//			for c := range d.Candidates() {
//				c.Score(chance.Of(c) * min(price.Or(c, 0), spend))
//				if spend > 100 {
//					c.Because(spender)
//				}
//			}
//		})
//	}
//
//	func main() {}
//
// It is built with the standard toolchain:
//
//	GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared -trimpath -ldflags="-s -w" -o spenders.wasm .
//
// and tested in ordinary Go with package rapporttest.
//
// Every call begins with the memory that the strategy had after it was
// configured: what a call leaves in a variable, a map or a slice is gone before
// the next. There is no clock, no file, no network and no environment; time is
// [Decision.Now] and chance is [Decision.Rand], so that a decision can be
// replayed. The garbage collector is off: a call may allocate about 4 MB, all of
// which is free again for the next, and 128 KB of stack are ready. A call that
// needs more works, up to the memory that the server allows, but its instance is
// thrown away after it. The less a call allocates the less there is to put back.
//
// A score has the same bits on every machine, and as in other languages, if it is made
// of +, −, ×, ÷, math.Sqrt and [Exp], with each product that is added to something
// rounded by itself: float64(a*b) + c. Go may else fuse the two where the machine can, as
// in a test outside WebAssembly.
//
// The package is not for the server, which it never imports.
package rapport

import "rapport/sdk/abi"

// Name names the strategy and its version, and says for people what it does. A
// name is of a-z, 0-9, _ and -, and begins with a letter.
func Name(name, version, description string) {
	m := &declared.manifest
	if m.Name != "" {
		declared.mistake("rapport.Name is called twice")
	}
	m.ABI, m.Name, m.Version, m.Description = abi.Version, name, version, description
}

// Rank sets the function that ranks. It is called once for each decision and
// scores every candidate; what it keeps of d is invalid after it returned.
func Rank(rank func(d *Decision)) {
	if declared.rank != nil {
		declared.mistake("rapport.Rank is called twice")
	}
	declared.rank = rank
}

// SaysChances declares that the strategy says with which probability it chose: see
// [Candidate.Chance].
func SaysChances() { declared.manifest.Probability = true }

// Budget says how much fuel is enough for a call: about one unit for each
// instruction of WebAssembly, base for the call and perCandidate for each of its
// candidates, at most 10¹² and 10⁹. A call that needs more is ended, and the
// decision made without the strategy. The server takes the lower of this and its
// own limit, which is all there is for a strategy that does not call Budget.
func Budget(base, perCandidate int64) {
	m := &declared.manifest
	if m.Fuel != nil {
		declared.mistake("rapport.Budget is called twice")
	}
	m.Fuel = &abi.Fuel{Base: base, PerCandidate: perCandidate}
	if !m.Fuel.Valid() {
		declared.mistake("rapport.Budget: use 0 to 10¹² and 0 to 10⁹, not both 0")
	}
}

// ReasonCode says why a candidate has its score. The zero ReasonCode is no
// reason.
type ReasonCode uint32

// Reason declares a reason, such as HIGH_ARPU: capital letters, digits and _.
func Reason(name string) ReasonCode { return declareReason(name) }
