package explain

import (
	"rapport/profilestore"
	"rapport/profilestore/rules"
	"rapport/server/catalog"
	"rapport/server/decide"
)

// Cause is the first thing that removed a candidate.
type Cause struct {
	Reason decide.Reason

	// Part is the rule or text that did; Condition is which condition of it, by its place
	// in Catalog.Rules, −1 where it is none. Text is as it is written, Need in words.
	Part      Part
	Condition int
	Text      string
	Label     string // what people call the condition, "" if the catalogue does not say
	Truth     rules.Truth
	Need      rules.Need
	Reads     []Read // what the condition, or whatever decided, read

	// By is the policy, contact hours, capacity, offer, channel, touchpoint or strategy
	// that removed it; Until is when that ends, microseconds since the Unix epoch, 0 where
	// it is not known.
	By    string
	Until int64

	// Of a contact policy: what it counted that makes it too much, the latest first.
	Policy  *catalog.Policy
	Counted []decide.Counted

	note string // the rest of it in words; has nothing of the customer
}

// Part is a rule of an offer, or a text that is computed.
type Part uint8

// The parts, in the order in which the pipeline asks them.
const (
	PartNone         Part = iota
	PartEligible          // of the offer, its group and issue
	PartOwned             // whether the customer has it
	PartPrerequisite      // what has to come first
	PartTreatment         // whether it is for the customer in this channel
	PartContent           // what the customer sees
	PartScript            // what staff say
)

var partNames = [...]string{"", "eligible", "owned", "prerequisite", "eligible in the channel", "content", "script"}

// String returns the part as catalogue files name it.
func (p Part) String() string { return partNames[p] }

// Read is a value that was read.
type Read struct {
	Name   string   // profile.GROUP.NAME, context.NAME, table.NAME or now
	Fields []string // the profile fields that it is, or is computed from: GROUP.NAME
	Value  profilestore.Value
	Row    int // of a decision table: which row gave the value, from 1; 0: none did
	// Missing is why the value is not known, in words; empty if it is known.
	Missing string
}

// Show writes a value for people. It may hide it.
type Show func(r *Read) string
