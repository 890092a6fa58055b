// Package trial runs a strategy on cases: decisions that an author has written down,
// or taken from a server, in YAML files, with what is expected to come of them.
//
// A case has what one call of a strategy is about: what is known of the customer and
// of the moment, the candidates with their attributes, columns and history, the
// parameters, the time and the seed. It needs no schema and no catalogue: those are
// made up of what the strategy declares. The call itself is that of a server, in the
// sandbox, with the server's limits.
//
// It judges no module: that is for package abitest. Only commands and tests import
// it.
package trial

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"rapport/server/sandbox"
)

// Case is one decision, as its file has it.
type Case struct {
	Description string `yaml:"description,omitempty"`

	Now  time.Time `yaml:"now,omitempty"` // the Unix epoch if it is not given
	Seed uint64    `yaml:"seed,omitempty"`

	// Profile is what is known of the customer, by field, and Context what the request
	// says of the moment, by name. A field that the strategy does not read is a mistake.
	Profile map[string]Value `yaml:"profile,omitempty"`
	Context map[string]Value `yaml:"context,omitempty"`
	// Parameters are what the scenario sets; others have their defaults.
	Parameters map[string]float64 `yaml:"parameters,omitempty"`
	// Slots is how many offers the slate has room for; 0: for all.
	Slots      int         `yaml:"slots,omitempty"`
	Candidates []Candidate `yaml:"candidates"`

	Expect *Expect `yaml:"expect,omitempty"`

	file string
	text []byte
}

// Candidate is an offer in a channel. Attributes that the strategy does not read are
// ignored: offers have them for others.
type Candidate struct {
	ID string `yaml:"id,omitempty"` // the number of the candidate, from 1, if it is not given

	Offer   map[string]Value `yaml:"offer,omitempty"`
	Channel map[string]Value `yaml:"channel,omitempty"`

	Propensity float64  `yaml:"propensity,omitempty"`
	Value      float64  `yaml:"value,omitempty"`
	Weight     *float64 `yaml:"weight,omitempty"` // 1 if it is not given
	Lever      *float64 `yaml:"lever,omitempty"`  // 1 if it is not given

	// History is what came of the offer before, by the name of the column:
	// times.rejected.30d: 2. What is not given never happened.
	History map[string]float64 `yaml:"history,omitempty"`
}

// Value is a value of the profile, the context, an offer or a channel, as it is
// written. What type it has to be is for the strategy to say.
type Value struct{ node yaml.Node }

// UnmarshalYAML keeps what is written.
func (v *Value) UnmarshalYAML(n *yaml.Node) error {
	v.node = *n
	return nil
}

// MarshalYAML writes it again.
func (v Value) MarshalYAML() (any, error) { return &v.node, nil }

// Expect is what is to come of a case. What it does not say may be anything.
type Expect struct {
	// Slate is what is offered, best first, by the candidates' ids.
	Slate *[]string `yaml:"slate,omitempty,flow"`
	// Candidates is what the strategy says of single ones, by id.
	Candidates map[string]ExpectCandidate `yaml:"candidates,omitempty"`
	// Fault is the kind of fault that the call is to end with, such as score.
	Fault string `yaml:"fault,omitempty"`
	// Within is how far numbers may be off, relative to what is expected; 0: not a bit.
	Within float64 `yaml:"within,omitempty"`
}

// ExpectCandidate is what the strategy is to say of a candidate.
type ExpectCandidate struct {
	Score  *float64 `yaml:"score,omitempty"`
	Reason *string  `yaml:"reason,omitempty"` // none: that it gives none
	Veto   bool     `yaml:"veto,omitempty"`
	Chance *float64 `yaml:"chance,omitempty"`
}

// NoReason is how a case says that a candidate is to have no reason.
const NoReason = "none"

// maxCase bounds a case file: 10,000 candidates with a dozen attributes fit.
const maxCase = 16 << 20

// ReadFile reads a case. Errors name file and line.
func ReadFile(name string) (*Case, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("case: %w", err)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxCase+1))
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("case: %w", err)
	}
	if len(text) > maxCase {
		return nil, fmt.Errorf("%s is longer than %d bytes: no case is", name, maxCase)
	}
	return Read(name, text)
}

// Read reads a case of a file of that name.
func Read(name string, text []byte) (*Case, error) {
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	c := &Case{file: name, text: text}
	switch err := d.Decode(c); {
	case errors.Is(err, io.EOF):
		return nil, fmt.Errorf("%s is empty: a case has at least candidates", name)
	case err != nil:
		return nil, mistakes(name, err)
	}
	if err := d.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s has a second document: write each case into a file of its own", name)
	}
	return c, c.check()
}

// mistakes writes what is wrong with the YAML with file and line, a line each.
func mistakes(name string, err error) error {
	bad := new(yaml.TypeError)
	if !errors.As(err, &bad) {
		return fmt.Errorf("%s:%w", name, errors.New(strings.TrimPrefix(strings.TrimPrefix(err.Error(), "yaml: "), "line ")))
	}
	lines := make([]string, len(bad.Errors))
	for i, e := range bad.Errors {
		line, what, ok := strings.Cut(strings.TrimPrefix(e, "line "), ": ")
		if m := unknownKey.FindStringSubmatch(what); m != nil {
			what = fmt.Sprintf("there is no %s in a case here%s", m[1], sandbox.Nearest(m[1], keys[m[2]]))
		}
		if lines[i] = name + ": " + e; ok {
			lines[i] = name + ":" + line + ": " + what
		}
	}
	return errors.New(strings.Join(lines, "\n"))
}

var unknownKey = regexp.MustCompile(`^field (\S+) not found in type trial\.(\w+)$`)

// keys are what parts of a case have, by the name of the type.
var keys = func() map[string][]string {
	all := make(map[string][]string)
	for _, t := range []reflect.Type{reflect.TypeFor[Case](), reflect.TypeFor[Candidate](), reflect.TypeFor[Expect](), reflect.TypeFor[ExpectCandidate]()} {
		for f := range t.Fields() {
			if key, _, _ := strings.Cut(f.Tag.Get("yaml"), ","); key != "" {
				all[t.Name()] = append(all[t.Name()], key)
			}
		}
	}
	return all
}()

// check completes a case and finds what no strategy could make sense of.
func (c *Case) check() error {
	fail := func(format string, args ...any) error {
		return fmt.Errorf("%s: %s", c.file, fmt.Sprintf(format, args...))
	}
	if len(c.Candidates) == 0 {
		return fail("it has no candidates")
	}
	if c.Slots < 0 {
		return fail("slots is %d: give 1 or more, or leave it out for all", c.Slots)
	}
	ids := make(map[string]bool, len(c.Candidates))
	for i := range c.Candidates {
		k := &c.Candidates[i]
		if k.ID == "" {
			k.ID = fmt.Sprint(i + 1)
		}
		if ids[k.ID] {
			return fail("two candidates have the id %s", k.ID)
		}
		ids[k.ID] = true
	}
	if c.Expect == nil {
		return nil
	}
	known := slices.Sorted(maps.Keys(ids))
	var expected []string
	if c.Expect.Slate != nil {
		expected = *c.Expect.Slate
	}
	for _, id := range slices.Concat(expected, slices.Sorted(maps.Keys(c.Expect.Candidates))) {
		if !ids[id] {
			return fail("expect names the candidate %s, which the case does not have%s", id, sandbox.Nearest(id, known))
		}
	}
	if c.Expect.Within < 0 || c.Expect.Within >= 1 {
		return fail("within is %g: it is a share of what is expected, such as 1e-9", c.Expect.Within)
	}
	return nil
}

// File returns the name of the file.
func (c *Case) File() string { return c.file }
