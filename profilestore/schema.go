package profilestore

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"
	"time"
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
	TypeMax     Type = "max"     // the greatest number that was ever seen
	TypeMin     Type = "min"     // the least
	TypeSet     Type = "set"     // texts, each there or not
	TypeDwell   Type = "dwell"   // minutes for which a condition has held until now
)

// Kind returns the kind of the type's values, KindUnknown for a type that does
// not exist.
func (t Type) Kind() Kind {
	switch t {
	case TypeNumber, TypeCounter, TypeMax, TypeMin, TypeDwell:
		return KindNumber
	case TypeFlag:
		return KindFlag
	case TypeText:
		return KindText
	case TypeTime:
		return KindTime
	case TypeSet:
		return KindSet
	}
	return KindUnknown
}

// typeNames are the types as a message lists them.
const typeNames = "number, flag, text, time, counter, max, min, set or dwell"

// Groups are the parts of a profile: the first word of every field's name.
var Groups = []string{"general", "value", "service", "marketing", "preference", "usage", "location", "tag"}

// Source is a department or system that delivers batch files.
type Source struct {
	ID          string `json:"id"`
	Description string `json:"description,omitempty"`
	Key         string `json:"key"` // the column that holds the customer
	// Owner is the team or person who answers for the source, and how to reach them.
	Owner string `json:"owner,omitempty"`
	// Retain is how many snapshots of the source are kept, at least 2; 0 for
	// DefaultRetain.
	Retain int `json:"retain,omitempty"`
	// MaxAge is how old the as-of time of the current snapshot may be before it is
	// stale; 0 for no limit. A stale snapshot is used as any other, and reported.
	MaxAge time.Duration `json:"max_age,omitempty"`
}

// Stale reports whether a snapshot with an as-of time is older than the source allows
// at a time; both in microseconds since the Unix epoch.
func (s *Source) Stale(asOf, now int64) bool {
	return s.MaxAge > 0 && now-asOf > s.MaxAge.Microseconds()
}

// EventRule says which events change a field: CEL texts, compiled by package
// rules.
type EventRule struct {
	On  string `json:"on"`
	Set string `json:"set,omitempty"` // the new value of a register; what a max or min compares with
	Add string `json:"add,omitempty"` // the amount added to a counter, the element added to a set

	// Reset is the condition under which a counter begins again at zero. An event
	// that also adds is counted after it.
	Reset string `json:"reset,omitempty"`
	// RemoveOn is the condition under which an event takes an element out of a set,
	// and Remove the element; Add if empty.
	RemoveOn string `json:"remove_on,omitempty"`
	Remove   string `json:"remove,omitempty"`
	// In is what a dwell measures the time of: true for an event that finds the
	// customer there, false for one that finds the customer elsewhere.
	In string `json:"in,omitempty"`
	// Priority decides which of two events that happened at the same time sets a
	// register: the one of greater priority, a whole number between −MaxPriority and
	// MaxPriority; 0 if empty or unknown.
	Priority string `json:"priority,omitempty"`
}

// Field is one typed, named part of a profile.
type Field struct {
	Name     string `json:"name"` // group.name
	Type     Type   `json:"type"`
	Batch    string `json:"batch,omitempty"`   // the id of the batch source, if any
	Column   string `json:"column,omitempty"`  // the column in its files
	Decimals int    `json:"decimals"`          // digits after the point, or NoDecimals
	Default  bool   `json:"default,omitempty"` // of a flag
	// Window is the time before the moment of reading that a counter or dwell looks
	// at; 0 for all time, and for a dwell for the present stay alone.
	Window time.Duration `json:"window,omitempty"`
	// Bucket is how finely the window of a counter moves: the width of its cells,
	// or, where a batch source feeds it, of the batch's hops.
	Bucket      time.Duration `json:"bucket,omitempty"`
	Events      *EventRule    `json:"events,omitempty"`
	Description string        `json:"description,omitempty"`
	Owner       string        `json:"owner,omitempty"` // who answers for the field, where it is not the source's owner
	// Personal says that its values are shown to those only who may see what a person
	// would not want everybody to know.
	Personal bool `json:"personal,omitempty"`
}

// Owner returns who answers for the field at a slot: its own owner, or its batch
// source's; nothing where the schema names nobody.
func (s *Schema) Owner(slot int) string {
	x := &s.slots[slot]
	if own := s.fields[slot].Owner; own != "" || x.source < 0 {
		return own
	}
	return s.sources[x.source].Owner
}

// MaxPriority bounds the priorities of events, in both directions.
const MaxPriority = 100

// String writes the rule as a line for people.
func (e *EventRule) String() string {
	what := "set " + e.Set
	switch {
	case e.Add != "":
		what = "add " + e.Add
	case e.In != "":
		what = "in " + e.In
	}
	text := fmt.Sprintf("on %s: %s", e.On, what)
	if e.Reset != "" {
		text += "; reset on " + e.Reset
	}
	if e.RemoveOn != "" {
		text += fmt.Sprintf("; on %s: remove %s", e.RemoveOn, cmp.Or(e.Remove, e.Add))
	}
	if e.Priority != "" {
		text += "; priority " + e.Priority
	}
	return text
}

const (
	// NoDecimals is the Decimals of a number that is kept as a 64-bit float.
	NoDecimals = -1
	// CounterDecimals are the Decimals of a counter that declares none: a counter
	// is always a scaled integer, so that its sum does not depend on the order in
	// which events arrive.
	CounterDecimals = 6
)

// Schema is a checked, immutable set of fields, with the sources that feed them and
// the namespaces of those they are known of. It is safe for concurrent use.
type Schema struct {
	id         string
	sources    []Source
	fields     []Field
	namespaces []Namespace
	tables     []ReferenceTable
	slots      []slot // what reading and applying need of each field
	index      map[string]int
	keys       map[fieldKey]int      // the slot of each key
	blocked    map[string]*blockList // by namespace; nil if nothing is blocked
}

// slot is a field as the hot paths see it.
type slot struct {
	key      fieldKey
	source   int // in sources, or −1
	form     fieldForm
	decimals int
	window   int64 // microseconds; 0 for all time
	bucket   int64 // likewise; 0 without window
	initial  Value // where a source that covers it, or the events, have said nothing
}

// fieldForm is how a field is kept in delta records and merged.
type fieldForm uint8

const (
	formRegister fieldForm = iota
	formMax
	formMin
	formCounter
	formWindow // a counter over a sliding window
	formSince  // a counter that begins again
	formSet
	formDwell
)

func (f *Field) form() fieldForm {
	switch f.Type {
	case TypeMax:
		return formMax
	case TypeMin:
		return formMin
	case TypeSet:
		return formSet
	case TypeDwell:
		return formDwell
	case TypeCounter:
		switch {
		case f.Window > 0:
			return formWindow
		case f.Events != nil && f.Events.Reset != "":
			return formSince
		}
		return formCounter
	case TypeNumber, TypeFlag, TypeText, TypeTime:
	}
	return formRegister
}

// cell returns the width of the field's cells in microseconds; 0 where one cell
// holds everything.
func (x *slot) cell() int64 {
	switch {
	case x.source >= 0:
		return cellMicros
	case x.form == formSince:
		return 1
	}
	return x.bucket
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

// canonical is the form that is hashed and stored.
type canonical struct {
	Namespaces []Namespace      `json:"namespaces,omitempty"` // a schema without keeps the id that it had before there were any
	Sources    []Source         `json:"sources"`
	Fields     []Field          `json:"fields"`
	Tables     []ReferenceTable `json:"tables,omitempty"` // likewise
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
	return json.Marshal(canonical{Namespaces: s.namespaces, Sources: s.sources, Fields: s.fields, Tables: s.tables})
}

// ParseSchema reads the canonical form and checks it as NewSchema does.
func ParseSchema(b []byte) (*Schema, error) {
	var c canonical
	if err := json.Unmarshal(b, &c); err != nil {
		return nil, fmt.Errorf("profilestore: schema is not in canonical form: %w", err)
	}
	s, err := NewSchema(c.Sources, c.Fields, c.Namespaces...)
	if err != nil {
		return nil, err
	}
	return s.WithTables(c.Tables)
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

// Retain returns how many snapshots of a source are kept.
func (s *Schema) Retain(source string) int {
	if i, ok := s.Source(source); ok && s.sources[i].Retain > 0 {
		return s.sources[i].Retain
	}
	return DefaultRetain
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
