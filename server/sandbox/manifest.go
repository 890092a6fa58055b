package sandbox

import (
	"bytes"
	"encoding/json"
	"io"
	"math"
	"regexp"
	"slices"
	"unicode/utf8"

	"rapport/sdk/abi"
)

type (
	// Manifest is what a strategy says about itself.
	Manifest = abi.Manifest
	// Input is something that a strategy reads.
	Input = abi.Input
	// Parameter is a number that a scenario may set.
	Parameter = abi.Parameter
	// Fuel is what a call may use.
	Fuel = abi.Fuel
)

// liveVersion is what scenarios call the version that is released.
const liveVersion = "live"

// Limits of a manifest, over which no strategy that makes sense goes.
const (
	maxInputs      = 512
	maxParameters  = 256
	maxReasons     = 1024
	maxColumns     = 36
	maxDescription = 1000
	maxName        = 128
)

var (
	strategyName    = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,63}$`)
	strategyVersion = regexp.MustCompile(`^[0-9A-Za-z._+-]{1,64}$`)
	fieldName       = regexp.MustCompile(`^[a-z]+\.[a-z][a-z0-9_]*$`) // of the profile, or of the context
	attributeName   = regexp.MustCompile(`^[a-z][a-z0-9_]{0,63}$`)
	columnName      = regexp.MustCompile(`^[a-z][a-z0-9_]*(\.[a-z0-9_]+){0,2}$`)
	reasonName      = regexp.MustCompile(`^[A-Z][A-Z0-9_]{0,63}$`)
)

// parseManifest reads a manifest and checks it. Its error is an [*InvalidError].
func parseManifest(b []byte) (*Manifest, error) {
	if !utf8.Valid(b) {
		return nil, invalid(ReasonManifest, "the manifest is not UTF-8")
	}
	m := new(Manifest)
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(m); err != nil {
		return nil, invalid(ReasonManifest, "the manifest is not the JSON that it should be: %w", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, invalid(ReasonManifest, "the manifest goes on after its JSON")
	}
	switch {
	case m.ABI != abi.Version:
		return nil, invalid(ReasonManifest, "the manifest says ABI %d; this server runs ABI %d", m.ABI, abi.Version)
	case !strategyName.MatchString(m.Name):
		return nil, invalid(ReasonManifest, "%q is no strategy name: use a-z, 0-9, _ and -, beginning with a letter, at most 64", clip(m.Name, 80))
	case !strategyVersion.MatchString(m.Version):
		return nil, invalid(ReasonManifest, "%q is no version: use letters, digits, '.', '_', '+' and '-', at most 64", clip(m.Version, 80))
	case m.Version == liveVersion:
		return nil, invalid(ReasonManifest, "%q can't be a version: it stands for the one that is released", liveVersion)
	case len(m.Description) > maxDescription:
		return nil, invalid(ReasonManifest, "a description of %d bytes; at most %d are allowed", len(m.Description), maxDescription)
	}
	for _, err := range []error{
		checkInputs("profile field", m.Profile, fieldName),
		checkInputs("offer attribute", m.Offer, attributeName),
		checkInputs("channel attribute", m.Channel, attributeName),
		checkParameters(m.Parameters),
		checkNames("candidate column", m.Candidate, columnName, maxColumns),
		checkNames("reason", m.Reasons, reasonName, maxReasons),
	} {
		if err != nil {
			return nil, err
		}
	}
	for _, c := range m.Candidate {
		if _, ok := abi.ParseHistoryColumn(c); !ok && !slices.Contains(abi.Columns[:], c) {
			return nil, invalid(ReasonManifest, "there is no candidate column %q%s; those of the history are %s.OUTCOME, %[3]s.OUTCOME.DAYSd and %[4]s.OUTCOME, of which the outcome may be %[5]s",
				c, Nearest(c, abi.Columns[:]), abi.HistoryTimes, abi.HistoryDays, abi.Contact)
		}
	}
	if m.Fuel != nil && !m.Fuel.Valid() {
		return nil, invalid(ReasonManifest, "fuel of base %d and %d per_candidate: use 0 to %d and 0 to %d, not both 0",
			m.Fuel.Base, m.Fuel.PerCandidate, abi.MaxFuelBase, abi.MaxFuelPerCandidate)
	}
	return m, nil
}

// checkNames checks form, number and uniqueness of names.
func checkNames(what string, names []string, form *regexp.Regexp, most int) error {
	if len(names) > most {
		return invalid(ReasonManifest, "the manifest has %d %ss; at most %d are allowed", len(names), what, most)
	}
	seen := make(map[string]bool, len(names))
	for _, n := range names {
		switch {
		case len(n) > maxName || !form.MatchString(n):
			return invalid(ReasonManifest, "%q is no name of a %s: it should match %s", clip(n, 80), what, form)
		case seen[n]:
			return invalid(ReasonManifest, "%s %s is declared twice", what, n)
		}
		seen[n] = true
	}
	return nil
}

func checkInputs(what string, inputs []abi.Input, form *regexp.Regexp) error {
	names := make([]string, len(inputs))
	for i, in := range inputs {
		names[i] = in.Name
		if abi.TypeOf(in.Type) == 0 {
			return invalid(ReasonManifest, "%s %s has the type %q: use number, flag, text, time or set", what, clip(in.Name, 80), clip(in.Type, 80))
		}
	}
	return checkNames(what, names, form, maxInputs)
}

func checkParameters(parameters []abi.Parameter) error {
	names := make([]string, len(parameters))
	for i, p := range parameters {
		names[i] = p.Name
		for _, v := range []float64{p.Default, p.Min, p.Max} {
			if math.IsInf(v, 0) || math.IsNaN(v) {
				return invalid(ReasonManifest, "parameter %s: its numbers must be finite", clip(p.Name, 80))
			}
		}
		if p.Min > p.Default || p.Default > p.Max {
			return invalid(ReasonManifest, "parameter %s: the default %g is not within %g to %g", clip(p.Name, 80), p.Default, p.Min, p.Max)
		}
	}
	return checkNames("parameter", names, attributeName, maxParameters)
}
