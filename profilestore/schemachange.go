package profilestore

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"reflect"
	"slices"
)

// SchemaChange is one thing that a new schema changes. Each field that was changed has
// one.
type SchemaChange struct {
	Kind SchemaChangeKind
	Name string // of the field, or source
	What string // in words: what it was and is, and when that takes effect
}

// SchemaChangeKind says in a word what was changed.
type SchemaChangeKind string

// The kinds of changes.
const (
	FieldAdded     SchemaChangeKind = "added"
	FieldRemoved   SchemaChangeKind = "removed"
	FieldRetyped   SchemaChangeKind = "retyped"    // its values are of another kind, or add up otherwise
	FieldResourced SchemaChangeKind = "re-sourced" // another batch source, or column, or none
	FieldRuled     SchemaChangeKind = "events"     // events do something else to it
	FieldDescribed SchemaChangeKind = "described"  // default, definition, owner, decimals, personal
	SourceChanged  SchemaChangeKind = "source"
	OthersChanged  SchemaChangeKind = "other" // namespaces and reference tables
)

// sinceItBegan is how far the journal reaches back, as a rule.
const sinceItBegan = "with all events since it began"

// CompareSchemas returns what a schema changes against the one before; everything is
// added if there was none.
func CompareSchemas(before, after *Schema) []SchemaChange {
	if before == nil {
		before = &Schema{}
	}
	var changes []SchemaChange
	for _, src := range before.sources {
		i, ok := after.Source(src.ID)
		switch {
		case !ok:
			changes = append(changes, SchemaChange{SourceChanged, src.ID, "is removed"})
		case after.sources[i] != src:
			changes = append(changes, SchemaChange{SourceChanged, src.ID, "key, owner, description or what is kept of it has changed"})
		}
	}
	for _, src := range after.sources {
		if _, ok := before.Source(src.ID); !ok {
			changes = append(changes, SchemaChange{SourceChanged, src.ID, "is added"})
		}
	}
	if !reflect.DeepEqual(before.namespaces, after.namespaces) {
		changes = append(changes, SchemaChange{OthersChanged, "namespaces", "the rules for identities have changed: those that are linked stay linked"})
	}
	if !reflect.DeepEqual(before.tables, after.tables) {
		changes = append(changes, SchemaChange{OthersChanged, "tables", "the reference tables that rules may call have changed"})
	}
	for i := range before.fields {
		f := &before.fields[i]
		slot, ok := after.Lookup(f.Name)
		if !ok {
			changes = append(changes, SchemaChange{FieldRemoved, f.Name, "was " + f.kindText() + f.originText()})
			continue
		}
		changes = append(changes, compareFields(f, &after.fields[slot])...)
	}
	for i := range after.fields {
		f := &after.fields[i]
		if _, ok := before.Lookup(f.Name); !ok {
			changes = append(changes, SchemaChange{FieldAdded, f.Name, f.kindText() + f.originText() + f.whenText()})
		}
	}
	return changes
}

// compareFields returns what has changed of a field, the gravest only.
func compareFields(f, g *Field) []SchemaChange {
	change := func(kind SchemaChangeKind, format string, args ...any) []SchemaChange {
		return []SchemaChange{{kind, g.Name, fmt.Sprintf(format, args...)}}
	}
	switch {
	case f.Type != g.Type || f.Window != g.Window || f.Bucket != g.Bucket || f.Type == TypeCounter && f.Decimals != g.Decimals:
		return change(FieldRetyped, "was %s, becomes %s%s", f.kindText(), g.kindText(), g.whenText())
	case f.Batch != g.Batch || f.Column != g.Column:
		return change(FieldResourced, "was%s, becomes%s%s", cmp.Or(f.originText(), " fed by nothing"), cmp.Or(g.originText(), " fed by nothing"), g.whenText())
	case !reflect.DeepEqual(f.Events, g.Events):
		return change(FieldRuled, "derived anew from the journal, "+sinceItBegan)
	case !reflect.DeepEqual(f, g):
		return change(FieldDescribed, "its default, decimals, owner, description or whether it is personal has changed")
	}
	return nil
}

// kindText writes the type of a field with all that decides what its values mean.
func (f *Field) kindText() string {
	text := string(f.Type)
	if f.Window > 0 {
		text += " over " + FormatSpan(f.Window)
	}
	if f.Bucket > 0 {
		text += " by " + FormatSpan(f.Bucket)
	}
	if f.Type == TypeCounter {
		text += fmt.Sprintf(" with %d decimals", f.Decimals)
	}
	return text
}

// originText writes where a field's values come from.
func (f *Field) originText() string {
	switch {
	case f.Batch != "" && f.Events != nil:
		return fmt.Sprintf(" from source %s, column %s, and events", f.Batch, f.Column)
	case f.Batch != "":
		return fmt.Sprintf(" from source %s, column %s", f.Batch, f.Column)
	}
	return " from events"
}

// whenText writes when a field that is new has values.
func (f *Field) whenText() string {
	switch {
	case f.Batch != "" && f.Events != nil:
		return fmt.Sprintf(": unknown until the next load of %s, except for what events set, which is derived anew from the journal", f.Batch)
	case f.Batch != "":
		return fmt.Sprintf(": unknown until the next load of %s", f.Batch)
	}
	return ": derived anew from the journal, " + sinceItBegan
}

// SchemaLosses returns, in words, what the retained snapshots in a folder DATA/snapshots
// hold that could be read under one schema and can't be under another: the values of
// fields that are removed or have another source, and of whole snapshots that have a
// field of another type, which can't be used at all then. A snapshot whose manifest
// can't be read is passed over: nothing of it can be lost by a schema.
func SchemaLosses(dir string, before, after *Schema) ([]string, error) {
	var losses []string
	for _, src := range before.sources {
		folder := sourceFolder{dir: filepath.Join(dir, src.ID), source: src.ID}
		numbers, err := folder.sealed()
		if err != nil {
			return nil, err
		}
		c, err := folder.read()
		if err != nil {
			return nil, err
		}
		for _, n := range numbers {
			m, err := folder.manifest(n)
			switch {
			case errors.Is(err, fs.ErrNotExist), errors.Is(err, ErrSnapshotDamaged), errors.Is(err, ErrSnapshotUnfit):
				continue
			case err != nil:
				return nil, err
			}
			layout, err := parseRowLayout(m.Layout)
			if err != nil {
				continue // it can't be opened under any schema
			}
			info := m.info(n == c.Active)
			losses = append(losses, info.losses(layout, before, after)...)
		}
	}
	slices.Sort(losses)
	return losses, nil
}

// losses returns what one snapshot would lose.
func (i *SnapshotInfo) losses(layout *rowLayout, before, after *Schema) []string {
	if _, err := fitSnapshot(before, i.Source, layout); err != nil {
		return nil // it can't be used as it is
	}
	name := fmt.Sprintf("snapshot %d of source %s (%s, as of %s)", i.Generation, i.Source, i.State, micros(i.AsOf).Format("2006-01-02T15:04Z07:00"))
	if _, err := fitSnapshot(after, i.Source, layout); err != nil {
		return []string{fmt.Sprintf("%s, with all its %d customers: %v", name, i.Rows, err)}
	}
	var losses []string
	for k := range layout.Columns {
		c := &layout.Columns[k]
		if slot, ok := before.Lookup(c.Field); !ok || before.fields[slot].Batch != i.Source || i.Values(c.Field) == 0 {
			continue
		}
		if slot, ok := after.Lookup(c.Field); !ok || after.fields[slot].Batch != i.Source {
			losses = append(losses, fmt.Sprintf("%s: the values of %d customers in %s", c.Field, i.Values(c.Field), name))
		}
	}
	return losses
}
