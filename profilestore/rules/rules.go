// Package rules compiles the conditions and expressions of schemas and
// catalogues: what an event does to a profile field, and who may get an offer.
//
// The language is CEL, checked against the profile schema. Package cel-go parses
// and checks; nothing else in the module imports it. What is checked is compiled to
// closures over the profile's slots, which say exactly what cel-go would, without an
// allocation: rules of a [Table], and each [Formula], an expression that yields a text
// or a number. What the compiler does not cover runs on cel-go.
package rules

import (
	"slices"

	"rapport/profilestore"
)

// Profile is what a condition reads of a customer: the value of the field at a
// slot of the schema, or the unknown value.
type Profile interface {
	Get(slot int) profilestore.Value
}

// Truth is the outcome of a rule.
type Truth uint8

// The outcomes. A rule is fulfilled only if it is True.
const (
	False   Truth = iota
	True          //
	Unknown       // a value that decides it is unknown
	Failed        // it could not be evaluated, for example a division by zero
)

// String returns the outcome in lower case.
func (t Truth) String() string { return [...]string{"false", "true", "unknown", "failed"}[t] }

// Rule is a condition of a [Table]: the conjunction of some of its atomic
// conditions. The zero Rule is always true.
type Rule struct {
	atoms []int32
}

// All returns the conjunction of rules of one table.
func All(all ...Rule) Rule {
	var r Rule
	for _, x := range all {
		for _, atom := range x.atoms {
			if !slices.Contains(r.atoms, atom) {
				r.atoms = append(r.atoms, atom)
			}
		}
	}
	return r
}

// Input declares a value besides the profile that conditions read, as
// `context.NAME`.
type Input struct {
	Name string
	Kind profilestore.Kind
}
