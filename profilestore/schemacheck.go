package profilestore

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

const (
	// HopWidth is the width of the hops that a batch source gives for a windowed
	// counter that declares no bucket.
	HopWidth = 24 * time.Hour
	// MaxWindow is the longest window.
	MaxWindow = 400 * 24 * time.Hour

	// maxBuckets bounds the cells that one field can take of a record.
	maxBuckets = 3000
	// maxHops bounds what one field can take of a batch row.
	maxHops = 400
)

// NewSchema checks sources, fields and namespaces and returns their schema, or
// [SchemaErrors] with every mistake. Expressions of event rules are checked
// where they are compiled, by package rules.
func NewSchema(sources []Source, fields []Field, namespaces ...Namespace) (*Schema, error) {
	var errs SchemaErrors
	fail := func(path, format string, args ...any) {
		errs = append(errs, &SchemaError{Path: path, Message: fmt.Sprintf(format, args...)})
	}
	s := &Schema{
		sources: slices.Clone(sources), fields: slices.Clone(fields), namespaces: slices.Clone(namespaces),
		index: make(map[string]int, len(fields)),
	}
	s.checkNamespaces(fail)
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
		src.check(fmt.Sprintf("sources[%d]", i), fail)
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
			fail(path+".type", "%q is not a type: use %s", f.Type, typeNames)
		}
		if f.Type == TypeCounter && f.Decimals == NoDecimals {
			f.Decimals = CounterDecimals
		}
		if f.Type.Kind() != KindNumber || f.Type == TypeDwell {
			if f.Decimals > 0 {
				fail(path+".decimals", "only a number, counter, max or min has decimals, %s is a %s", f.Name, f.Type)
			}
			f.Decimals = NoDecimals
		} else if f.Decimals < NoDecimals || f.Decimals > 9 {
			fail(path+".decimals", "%d is out of range: use 0 to 9", f.Decimals)
		}
		if f.Default && f.Type != TypeFlag {
			fail(path+".default", "only a flag has a default, %s is a %s", f.Name, f.Type)
		}
		s.checkOrigin(f, path, known, columns, fail)
		f.checkWindow(path, fail)
	}
	if len(fields) == 0 {
		fail("fields", "a schema needs at least one field")
	}
	if len(errs) > 0 {
		return nil, errs
	}
	s.id = s.hash()
	s.slots = make([]slot, len(s.fields))
	s.keys = make(map[fieldKey]int, len(s.fields))
	for i := range s.fields {
		f := &s.fields[i]
		x := slot{
			key: keyOf(f), source: -1, form: f.form(), decimals: f.Decimals,
			window: f.Window.Microseconds(), bucket: f.Bucket.Microseconds(),
		}
		if f.Batch != "" {
			x.source, _ = s.Source(f.Batch)
		}
		switch f.Type {
		case TypeFlag:
			x.initial = Flag(f.Default)
		case TypeCounter, TypeDwell:
			x.initial = Number(0)
		case TypeSet:
			x.initial = setOf("")
		case TypeNumber, TypeText, TypeTime, TypeMax, TypeMin:
		}
		if other, ok := s.keys[x.key]; ok {
			fail(fmt.Sprintf("fields[%d].name", i), "%s and %s have the same hash in delta records: rename one", f.Name, s.fields[other].Name)
		}
		s.keys[x.key] = i
		s.slots[i] = x
	}
	if len(errs) > 0 {
		return nil, errs
	}
	return s, nil
}

const (
	// DefaultRetain is how many snapshots of a source are kept where neither the
	// schema nor the load says.
	DefaultRetain = 3
	// MaxRetain is how many can be kept at most.
	MaxRetain = 100
	// MaxSourceAge is the greatest MaxAge of a source.
	MaxSourceAge = 400 * 24 * time.Hour
)

// check checks what a source says of its snapshots.
func (s *Source) check(path string, fail func(path, format string, args ...any)) {
	switch {
	case s.Retain == 0:
	case s.Retain < 2:
		fail(path+".retain", "%d: a rollback needs at least 2 snapshots", s.Retain)
	case s.Retain > MaxRetain:
		fail(path+".retain", "%d: at most %d snapshots", s.Retain, MaxRetain)
	}
	if s.MaxAge != 0 && (s.MaxAge < CellWidth || s.MaxAge > MaxSourceAge) {
		fail(path+".max_age", "%s is out of range: from 15m to 400d", FormatSpan(s.MaxAge))
	}
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
	if f.Events != nil {
		f.checkEvents(path+".events", fail)
	}
}

// checkEvents checks that an event rule has the parts that the field's type
// takes, and no others.
func (f *Field) checkEvents(path string, fail func(path, format string, args ...any)) {
	e := f.Events
	if e.On == "" {
		fail(path+".on", "a condition is needed")
	}
	takes := "set"
	switch f.Type {
	case TypeCounter, TypeSet:
		takes = "add"
	case TypeDwell:
		takes = "in"
	case TypeNumber, TypeFlag, TypeText, TypeTime, TypeMax, TypeMin:
	}
	for _, part := range []struct{ name, text string }{{"set", e.Set}, {"add", e.Add}, {"in", e.In}} {
		if (part.name == takes) != (part.text != "") {
			fail(path, "a %s takes %s, and nothing else of set, add and in", f.Type, takes)
			break
		}
	}
	if e.Reset != "" {
		switch {
		case f.Type != TypeCounter:
			fail(path+".reset", "only a counter can begin again, %s is a %s", f.Name, f.Type)
		case f.Batch != "":
			fail(path+".reset", "a counter that begins again is fed by events only: a batch value can't say which of its events came after the last reset")
		case f.Window != 0:
			fail(path+".reset", "a counter has either a window or a reset")
		}
	}
	if e.Priority != "" && f.form() != formRegister {
		fail(path+".priority", "only a number, flag, text or time has a priority, %s is a %s", f.Name, f.Type)
	}
	if e.RemoveOn != "" && f.Type != TypeSet {
		fail(path+".remove_on", "elements are removed from a set, %s is a %s", f.Name, f.Type)
	}
	if e.Remove != "" && e.RemoveOn == "" {
		fail(path+".remove", "remove_on is missing: the condition under which the element is removed")
	}
}

// checkWindow checks window and bucket, and sets the bucket where none is given.
func (f *Field) checkWindow(path string, fail func(path, format string, args ...any)) {
	switch {
	case f.Type == TypeDwell && f.Batch != "":
		fail(path+".batch", "a dwell is fed by events only: a batch value can't say whether the customer is still there")
	case f.Window == 0 && f.Bucket != 0:
		fail(path+".bucket", "a bucket without a window has no meaning")
	case f.Window == 0:
	case f.Type != TypeCounter && f.Type != TypeDwell:
		fail(path+".window", "only a counter or dwell has a window, %s is a %s", f.Name, f.Type)
	case f.Window < CellWidth || f.Window > MaxWindow:
		fail(path+".window", "%s is out of range: from 15m to 400d", FormatSpan(f.Window))
	case f.Type == TypeDwell && f.Bucket != 0:
		fail(path+".bucket", "a dwell is exact and has no bucket")
	case f.Type == TypeDwell:
	default:
		if f.Bucket == 0 {
			f.Bucket = CellWidth
			if f.Batch != "" {
				f.Bucket = min(HopWidth, f.Window)
			}
		}
		switch {
		case f.Bucket < CellWidth || f.Bucket%CellWidth != 0:
			fail(path+".bucket", "%s is not a multiple of %s", FormatSpan(f.Bucket), FormatSpan(CellWidth))
		case f.Window%f.Bucket != 0:
			fail(path+".window", "%s is not a multiple of the bucket, %s", FormatSpan(f.Window), FormatSpan(f.Bucket))
		case f.Batch != "" && f.Window/f.Bucket > maxHops:
			fail(path+".bucket", "%d hops in the window: at most %d, choose a longer bucket", f.Window/f.Bucket, maxHops)
		case f.Window/f.Bucket > maxBuckets:
			fail(path+".bucket", "%d buckets in the window: at most %d, choose a longer bucket", f.Window/f.Bucket, maxBuckets)
		}
	}
}

// FormatSpan writes a span as schema files do: 90m, 12h, 7d.
func FormatSpan(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d%day == 0:
		return fmt.Sprintf("%dd", d/day)
	case d%time.Hour == 0:
		return fmt.Sprintf("%dh", d/time.Hour)
	}
	return fmt.Sprintf("%dm", d/time.Minute)
}
