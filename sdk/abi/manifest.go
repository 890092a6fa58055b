package abi

import "strconv"

// Manifest is what a strategy says about itself: what it reads, in the order in
// which the host lays it out, and what it answers with. A module returns it as
// JSON from rapport_describe.
type Manifest struct {
	ABI         int         `json:"abi"`
	Name        string      `json:"name"`        // a-z, 0-9, _ and -, beginning with a letter, at most 64
	Version     string      `json:"version"`     // at most 64 of A-Z, a-z, 0-9, '.', '_', '+' and '-'
	Description string      `json:"description"` // for people
	Profile     []Input     `json:"profile"`     // profile fields, by name; context fields as context.NAME
	Offer       []Input     `json:"offer"`       // offer attributes
	Channel     []Input     `json:"channel"`     // channel attributes
	Candidate   []string    `json:"candidate"`   // of Columns, and of the history: see HistoryColumn
	Parameters  []Parameter `json:"parameters"`
	Reasons     []string    `json:"reasons"`               // code i+1 is Reasons[i]; code 0 is no reason
	Probability bool        `json:"probability,omitempty"` // it says with which probability each place goes to whom
	Fuel        *Fuel       `json:"fuel,omitempty"`        // nil: as the host has it for all
}

// Input is something that a strategy reads.
type Input struct {
	Name string `json:"name"`
	Type string `json:"type"` // of [Type]
}

// Parameter is a number that a scenario may set.
type Parameter struct {
	Name    string  `json:"name"`
	Default float64 `json:"default"`
	Min     float64 `json:"min"`
	Max     float64 `json:"max"`
}

// Fuel is what a call may use before it is ended: about one unit an instruction,
// so many for the call and so many for each of its candidates. A manifest says
// what is enough for the strategy; the host has a limit of its own and takes the
// lower of the two, call by call.
type Fuel struct {
	Base         int64 `json:"base"`          // 0 to MaxFuelBase
	PerCandidate int64 `json:"per_candidate"` // 0 to MaxFuelPerCandidate
}

// Limits of what a manifest may say, so that Of never overflows.
const (
	MaxFuelBase         = 1_000_000_000_000
	MaxFuelPerCandidate = 1_000_000_000
)

// DefaultFuel is the host's limit unless it is configured otherwise.
func DefaultFuel() Fuel { return Fuel{Base: 1_000_000, PerCandidate: 5_000} }

// Of returns the fuel of a call that ranks n candidates, at most 2³² of them.
func (f Fuel) Of(n int) int64 { return f.Base + f.PerCandidate*int64(n) }

// Valid reports whether f is one that a manifest may have: within the limits, and
// not nothing at all, with which no call could succeed.
func (f Fuel) Valid() bool {
	return f.Base >= 0 && f.Base <= MaxFuelBase &&
		f.PerCandidate >= 0 && f.PerCandidate <= MaxFuelPerCandidate && f != Fuel{}
}

// The candidate columns that a strategy may read: those of standard arbitration.
const (
	ColumnPropensity = "propensity"
	ColumnValue      = "value"
	ColumnWeight     = "weight"
	ColumnLever      = "lever"
)

// Columns are the names of the candidate columns that are not of the history.
var Columns = [...]string{ColumnPropensity, ColumnValue, ColumnWeight, ColumnLever}

// AppendJSON appends the manifest as JSON. It is written by hand because
// encoding/json would add a third to the size of a Go strategy. Its numbers are
// finite.
func (m *Manifest) AppendJSON(b []byte) []byte {
	b = append(b, `{"abi":`...)
	b = strconv.AppendInt(b, int64(m.ABI), 10)
	b = appendString(append(b, `,"name":`...), m.Name)
	b = appendString(append(b, `,"version":`...), m.Version)
	b = appendString(append(b, `,"description":`...), m.Description)
	b = appendList(append(b, `,"profile":`...), m.Profile, appendInput)
	b = appendList(append(b, `,"offer":`...), m.Offer, appendInput)
	b = appendList(append(b, `,"channel":`...), m.Channel, appendInput)
	b = appendList(append(b, `,"candidate":`...), m.Candidate, appendString)
	b = appendList(append(b, `,"parameters":`...), m.Parameters, appendParameter)
	b = appendList(append(b, `,"reasons":`...), m.Reasons, appendString)
	if m.Probability {
		b = append(b, `,"probability":true`...)
	}
	if m.Fuel != nil {
		b = strconv.AppendInt(append(b, `,"fuel":{"base":`...), m.Fuel.Base, 10)
		b = append(strconv.AppendInt(append(b, `,"per_candidate":`...), m.Fuel.PerCandidate, 10), '}')
	}
	return append(b, '}')
}

func appendList[T any](b []byte, list []T, one func([]byte, T) []byte) []byte {
	b = append(b, '[')
	for i, v := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = one(b, v)
	}
	return append(b, ']')
}

func appendInput(b []byte, in Input) []byte {
	b = appendString(append(b, `{"name":`...), in.Name)
	return append(appendString(append(b, `,"type":`...), in.Type), '}')
}

func appendParameter(b []byte, p Parameter) []byte {
	b = appendString(append(b, `{"name":`...), p.Name)
	b = strconv.AppendFloat(append(b, `,"default":`...), p.Default, 'g', -1, 64)
	b = strconv.AppendFloat(append(b, `,"min":`...), p.Min, 'g', -1, 64)
	return append(strconv.AppendFloat(append(b, `,"max":`...), p.Max, 'g', -1, 64), '}')
}

// appendString appends a JSON string. Invalid UTF-8 becomes U+FFFD.
func appendString(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r < ' ':
			b = append(b, `\u00`...)
			b = append(b, hex[r>>4], hex[r&15])
		default:
			b = append(b, string(r)...)
		}
	}
	return append(b, '"')
}
