package profilestore

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"
)

// Type is what a field holds and how it changes. The names are those of schema
// files.
type Type string

// The field types.
const (
	TypeNumber  Type = "number"  // a register: the newest value stands
	TypeFlag    Type = "flag"    // a register of true or false
	TypeText    Type = "text"    // a register of a string
	TypeTime    Type = "time"    // a register of a moment, microseconds UTC
	TypeCounter Type = "counter" // a number that events add to, on top of its batch value
)

// Kind returns the kind of the type's values, KindUnknown for a type that does
// not exist.
func (t Type) Kind() Kind {
	switch t {
	case TypeNumber, TypeCounter:
		return KindNumber
	case TypeFlag:
		return KindFlag
	case TypeText:
		return KindText
	case TypeTime:
		return KindTime
	}
	return KindUnknown
}

// Groups are the parts of a profile: the first word of every field's name.
var Groups = []string{"general", "value", "service", "marketing", "preference", "usage", "location", "tag"}

// Source is a department or system that delivers batch files.
type Source struct {
	ID          string `json:"id"`
	Description string `json:"description,omitempty"`
	Key         string `json:"key"` // the column that holds the customer
}

// EventRule says which events change a field: CEL texts, compiled by package
// rules.
type EventRule struct {
	On  string `json:"on"`
	Set string `json:"set,omitempty"` // the new value of a register
	Add string `json:"add,omitempty"` // the amount added to a counter
}

// Field is one typed, named part of a profile.
type Field struct {
	Name        string     `json:"name"` // group.name
	Type        Type       `json:"type"`
	Batch       string     `json:"batch,omitempty"`   // the id of the batch source, if any
	Column      string     `json:"column,omitempty"`  // the column in its files
	Decimals    int        `json:"decimals"`          // digits after the point, or NoDecimals
	Default     bool       `json:"default,omitempty"` // of a flag
	Events      *EventRule `json:"events,omitempty"`
	Description string     `json:"description,omitempty"`
}

const (
	// NoDecimals is the Decimals of a number that is kept as a 64-bit float.
	NoDecimals = -1
	// CounterDecimals are the Decimals of a counter that declares none: a counter
	// is always a scaled integer, so that its sum does not depend on the order in
	// which events arrive.
	CounterDecimals = 6
)

// Schema is a checked, immutable set of fields. It is safe for concurrent use.
type Schema struct {
	id      string
	sources []Source
	fields  []Field
	slots   []slot // what reading and applying need of each field
	index   map[string]int
}

// slot is a field as the hot paths see it.
type slot struct {
	key      fieldKey
	source   int // in sources, or −1
	counter  bool
	decimals int
	initial  Value // where a source that covers it, or the events, have said nothing
}

var (
	fieldName  = regexp.MustCompile(`^[a-z]+\.[a-z][a-z0-9_]*$`)
	sourceName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,31}$`)
)

// A SchemaError is one mistake in a schema.
type SchemaError struct {
	Path    string // such as fields[3].batch
	Message string
}

func (e *SchemaError) Error() string { return e.Path + ": " + e.Message }

// SchemaErrors are all mistakes in a schema.
type SchemaErrors []*SchemaError

func (e SchemaErrors) Error() string {
	lines := make([]string, len(e))
	for i, m := range e {
		lines[i] = m.Error()
	}
	return strings.Join(lines, "\n")
}

// NewSchema checks sources and fields and returns their schema, or
// [SchemaErrors] with every mistake. Expressions of event rules are checked
// where they are compiled, by package rules.
func NewSchema(sources []Source, fields []Field) (*Schema, error) {
	var errs SchemaErrors
	fail := func(path, format string, args ...any) {
		errs = append(errs, &SchemaError{Path: path, Message: fmt.Sprintf(format, args...)})
	}
	s := &Schema{sources: slices.Clone(sources), fields: slices.Clone(fields), index: make(map[string]int, len(fields))}
	known := make(map[string]bool, len(sources))
	for i := range s.sources {
		src := &s.sources[i]
		path := fmt.Sprintf("sources[%d].id", i)
		switch {
		case !sourceName.MatchString(src.ID):
			fail(path, "%q is not a source name: use a-z, 0-9 and _, beginning with a letter, at most 32", src.ID)
		case known[src.ID]:
			fail(path, "source %q is declared twice", src.ID)
		}
		known[src.ID] = true
		if src.Key == "" {
			src.Key = "customer"
		}
	}
	columns := make(map[[2]string]string, len(fields))
	for i := range s.fields {
		f := &s.fields[i]
		path := fmt.Sprintf("fields[%d]", i)
		group, _, _ := strings.Cut(f.Name, ".")
		if !fieldName.MatchString(f.Name) || !slices.Contains(Groups, group) {
			fail(path+".name", "%q is not a field name: use GROUP.NAME with a group of %s", f.Name, strings.Join(Groups, ", "))
		} else if at, ok := s.index[f.Name]; ok {
			fail(path+".name", "%q is declared twice, first as fields[%d]", f.Name, at)
		} else {
			s.index[f.Name] = i
		}
		if f.Type.Kind() == KindUnknown {
			fail(path+".type", "%q is not a type: use number, flag, text, time or counter", f.Type)
		}
		if f.Type == TypeCounter && f.Decimals == NoDecimals {
			f.Decimals = CounterDecimals
		}
		if f.Type.Kind() != KindNumber {
			if f.Decimals > 0 {
				fail(path+".decimals", "only a number or counter has decimals, %s is a %s", f.Name, f.Type)
			}
			f.Decimals = NoDecimals
		} else if f.Decimals < NoDecimals || f.Decimals > 9 {
			fail(path+".decimals", "%d is out of range: use 0 to 9", f.Decimals)
		}
		if f.Default && f.Type != TypeFlag {
			fail(path+".default", "only a flag has a default, %s is a %s", f.Name, f.Type)
		}
		s.checkOrigin(f, path, known, columns, fail)
	}
	if len(fields) == 0 {
		fail("fields", "a schema needs at least one field")
	}
	if len(errs) > 0 {
		return nil, errs
	}
	s.id = s.hash()
	s.slots = make([]slot, len(s.fields))
	names := make(map[fieldKey]string, len(s.fields))
	for i := range s.fields {
		f := &s.fields[i]
		x := slot{key: keyOf(f), source: -1, counter: f.Type == TypeCounter, decimals: f.Decimals}
		if f.Batch != "" {
			x.source, _ = s.Source(f.Batch)
		}
		switch f.Type {
		case TypeFlag:
			x.initial = Flag(f.Default)
		case TypeCounter:
			x.initial = Number(0)
		case TypeNumber, TypeText, TypeTime:
		}
		if other, ok := names[x.key]; ok {
			fail(fmt.Sprintf("fields[%d].name", i), "%s and %s have the same hash in delta records: rename one", f.Name, other)
		}
		names[x.key] = f.Name
		s.slots[i] = x
	}
	if len(errs) > 0 {
		return nil, errs
	}
	return s, nil
}

// checkOrigin checks where a field's values come from: batch, events, or both.
func (s *Schema) checkOrigin(f *Field, path string, known map[string]bool, columns map[[2]string]string, fail func(path, format string, args ...any)) {
	if f.Batch == "" && f.Events == nil {
		fail(path, "%s has neither batch nor events, so nothing could ever give it a value", f.Name)
	}
	switch {
	case f.Batch == "" && f.Column != "":
		fail(path+".column", "%s has a column but no batch source", f.Name)
	case f.Batch != "":
		if !known[f.Batch] {
			fail(path+".batch", "source %q is not declared under sources", f.Batch)
		}
		if f.Column == "" {
			f.Column = f.Name
		}
		at := [2]string{f.Batch, f.Column}
		if other, ok := columns[at]; ok {
			fail(path+".column", "column %q of source %q already feeds %s", f.Column, f.Batch, other)
		}
		columns[at] = f.Name
		for _, src := range s.sources {
			if src.ID == f.Batch && src.Key == f.Column {
				fail(path+".column", "column %q is the customer of source %q", f.Column, f.Batch)
			}
		}
	}
	if f.Events == nil {
		return
	}
	switch {
	case f.Events.On == "":
		fail(path+".events.on", "a condition is needed")
	case f.Type == TypeCounter && (f.Events.Add == "" || f.Events.Set != ""):
		fail(path+".events", "a counter takes add, not set")
	case f.Type != TypeCounter && (f.Events.Set == "" || f.Events.Add != ""):
		fail(path+".events", "a %s takes set, not add", f.Type)
	}
}

// canonical is the form that is hashed and stored.
type canonical struct {
	Sources []Source `json:"sources"`
	Fields  []Field  `json:"fields"`
}

func (s *Schema) hash() string {
	b, err := s.MarshalJSON()
	if err != nil {
		panic(err) // plain strings, numbers and flags always marshal
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:8])
}

// MarshalJSON returns the schema's canonical form, the one that DATA/schema
// holds.
func (s *Schema) MarshalJSON() ([]byte, error) {
	return json.Marshal(canonical{Sources: s.sources, Fields: s.fields})
}

// ParseSchema reads the canonical form and checks it as NewSchema does.
func ParseSchema(b []byte) (*Schema, error) {
	var c canonical
	if err := json.Unmarshal(b, &c); err != nil {
		return nil, fmt.Errorf("profilestore: schema is not in canonical form: %w", err)
	}
	return NewSchema(c.Sources, c.Fields)
}

// ID returns the schema's content hash, 16 hexadecimal digits.
func (s *Schema) ID() string { return s.id }

// Sources returns the sources in their declared order. Do not modify.
func (s *Schema) Sources() []Source { return s.sources }

// Source returns the place of a source in Sources, or false.
func (s *Schema) Source(id string) (int, bool) {
	i := slices.IndexFunc(s.sources, func(src Source) bool { return src.ID == id })
	return i, i >= 0
}

// Fields returns the fields in their declared order. A field's place in it is
// its slot everywhere in this package. Do not modify.
func (s *Schema) Fields() []Field { return s.fields }

// Lookup returns the slot of a field by name, or false.
func (s *Schema) Lookup(name string) (slot int, ok bool) {
	slot, ok = s.index[name]
	return slot, ok
}

// pow10 holds the scale of each count of decimals.
var pow10 = [...]float64{1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9}

// scale returns the scaled integer of a number with d decimals. It reports
// false where the number has more decimals than that or is too large to come
// back exactly: |scaled| is at most 2⁵³.
func scale(f float64, d int) (int64, bool) {
	scaled := math.RoundToEven(f * pow10[d])
	if math.Abs(scaled) > 1<<53 || unscale(int64(scaled), d) != f {
		return 0, false
	}
	return int64(scaled), true
}

// unscale is the inverse of scale: the float64 nearest to n / 10ᵈ.
func unscale(n int64, d int) float64 { return float64(n) / pow10[d] }
