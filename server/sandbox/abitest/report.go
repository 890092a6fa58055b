package abitest

import (
	"fmt"
	"slices"

	"rapport/server/sandbox"
)

// Result is what came of checking a requirement.
type Result string

// The results.
const (
	OK        Result = "ok"
	Failed    Result = "failed"
	Warning   Result = "warning"   // it can be used, and somebody should look
	Unchecked Result = "unchecked" // something else has to be mended first
)

// maxSeen is how many different things a finding tells.
const maxSeen = 5

// Finding says how a module does by one requirement.
type Finding struct {
	Requirement Requirement `json:"requirement"`
	Sentence    string      `json:"sentence"` // what is required
	Result      Result      `json:"result"`
	// Seen is what was seen and where, the first few; Times is how often it was.
	// For what is unchecked it says why.
	Seen  []string `json:"seen,omitempty"`
	Times int      `json:"times,omitempty"`
	Do    string   `json:"do,omitempty"` // what to do about the first
}

// saw adds what was seen to a finding.
func (f *Finding) saw(what string) {
	f.Times++
	if len(f.Seen) < maxSeen && !slices.Contains(f.Seen, what) {
		f.Seen = append(f.Seen, what)
	}
}

// Report is what is known of a module after checking it.
type Report struct {
	Bytes    int               `json:"bytes"`  // of the module
	Digest   string            `json:"digest"` // its SHA-256 in hexadecimal
	Manifest *sandbox.Manifest `json:"manifest,omitempty"`
	// Findings has one for each requirement, in their order.
	Findings []Finding `json:"findings"`
	Figures  Figures   `json:"figures"`
}

// With returns the findings with a result.
func (r *Report) With(result Result) []Finding {
	var list []Finding
	for _, f := range r.Findings {
		if f.Result == result {
			list = append(list, f)
		}
	}
	return list
}

// Of returns the finding of a requirement.
func (r *Report) Of(of Requirement) Finding {
	for _, f := range r.Findings {
		if f.Requirement == of {
			return f
		}
	}
	return Finding{}
}

// Figures are what was measured. They are complete only if nothing failed.
type Figures struct {
	Calls       int    `json:"calls"`       // that were made
	Image       int    `json:"image"`       // bytes of memory of an instance, for the middle scenario
	ImageDigest string `json:"imageDigest"` // of that
	// Answers is a digest of all answers and the fuel that each took. It is the same
	// wherever the same module is checked with the same options, but for machines of
	// another architecture.
	Answers string `json:"answers"`
	Sizes   []Size `json:"sizes"`
	// Fuel is the line through the fuel that ordinary calls took, which is nearest to
	// all of them by its relative error.
	Fuel Line `json:"fuel"`
	// Share is the greatest share of its limit that any call took, and ShareAt says
	// which.
	Share   float64 `json:"share"`
	ShareAt string  `json:"shareAt"`
	// Declare is what a manifest should say of fuel: half as much again as the most
	// that any call took.
	Declare sandbox.Fuel `json:"declare"`
	// Lines is how many lines a call logs.
	Lines float64 `json:"lines"`
	Times []Time  `json:"times"`
}

// Size is what calls of a number of candidates take.
type Size struct {
	Candidates int   `json:"candidates"`
	Fuel       int64 `json:"fuel"`  // the most of several calls
	Limit      int64 `json:"limit"` // what such a call may use
	// Private is how many pages of its memory an instance has for itself after the
	// calls, each of PageSize bytes; −1 where the system can't tell.
	Private int `json:"private"`
}

// Time is how long calls took, on a machine that may have been busy. It is
// information and nothing that a strategy is judged by.
type Time struct {
	Candidates   int     `json:"candidates"`
	Microseconds float64 `json:"microseconds"` // the median, with filling the frame and reading the answer
}

// Line is fuel by number of candidates.
type Line struct {
	Base         float64 `json:"base"`
	PerCandidate float64 `json:"perCandidate"`
}

func (l Line) String() string {
	return fmt.Sprintf("%.0f and %.1f a candidate", l.Base, l.PerCandidate)
}
