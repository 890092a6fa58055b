package main

import (
	"fmt"
	"strings"

	"rapport/profilestore"
	"rapport/server"
)

// schemaCmd installs and shows the profile schema.
type schemaCmd struct {
	Apply    schemaApplyCmd    `cmd:"" help:"Check a schema file and install it."`
	Show     schemaShowCmd     `cmd:"" help:"Show the installed schema."`
	Describe schemaDescribeCmd `cmd:"" help:"Describe the fields: owner, source, freshness, coverage, distribution."`
}

// Help is shown by --help.
func (schemaCmd) Help() string {
	return `The schema declares what is known of a customer: the namespaces of identities and how they may be
linked, the sources that deliver batch files, and the typed fields of a profile. It is part of the
data folder.`
}

type schemaShowCmd struct{}

// Help is shown by --help.
func (schemaShowCmd) Help() string {
	return `A server may have the data folder open.

Examples:

	rapport schema show --data DATA`
}

// Run prints the schema.
func (schemaShowCmd) Run(a *app) error {
	data, err := a.target.folder("the schema is part of a data folder")
	if err != nil {
		return err
	}
	if err := checkDataFolder(data); err != nil {
		return err
	}
	schema, err := server.InstalledSchema(data)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(struct {
			ID     string               `json:"id"`
			Schema *profilestore.Schema `json:"schema"`
		}{schema.ID(), schema})
	}
	writef(a.out, "schema %s\n\n", schema.ID())
	if len(schema.Namespaces()) > 0 {
		if err := namespaceTable(schema).write(a.out); err != nil {
			return err
		}
		writef(a.out, "\n")
	}
	sources := newTable("SOURCE", "KEY COLUMN", "DESCRIPTION")
	for _, s := range schema.Sources() {
		sources.add(s.ID, s.Key, s.Description)
	}
	if err := sources.write(a.out); err != nil {
		return err
	}
	writef(a.out, "\n")
	if len(schema.Tables()) > 0 {
		tables := newTable("REFERENCE TABLE", "DESCRIPTION")
		for _, t := range schema.Tables() {
			tables.add(t.ID, t.Description)
		}
		if err := tables.write(a.out); err != nil {
			return err
		}
		writef(a.out, "\n")
	}
	return schemaTable(schema).write(a.out)
}

func namespaceTable(schema *profilestore.Schema) *table {
	t := newTable("NAMESPACE", ">MAX", "LINKS", "HOLDING", "BLOCKED", "DESCRIPTION")
	for _, n := range schema.Namespaces() {
		row := []any{n.ID, none, "strong", none, none, n.Description}
		if n.Max > 0 {
			row[1] = n.Max
		}
		if n.Weak {
			row[2] = "weak"
		}
		if n.Holding > 0 {
			row[3] = profilestore.FormatSpan(n.Holding)
		}
		if len(n.Blocked) > 0 {
			row[4] = strings.Join(n.Blocked, ", ")
		}
		t.add(row...)
	}
	return t
}

// typeText writes the type of a field, with its window.
func typeText(f *profilestore.Field) string {
	switch {
	case f.Bucket > 0:
		return fmt.Sprintf("%s %s by %s", f.Type, profilestore.FormatSpan(f.Window), profilestore.FormatSpan(f.Bucket))
	case f.Window > 0:
		return fmt.Sprintf("%s %s", f.Type, profilestore.FormatSpan(f.Window))
	}
	return string(f.Type)
}

func schemaTable(schema *profilestore.Schema) *table {
	t := newTable("FIELD", "TYPE", "SOURCE", "COLUMN", ">DECIMALS", "EVENTS", "DESCRIPTION")
	for _, f := range schema.Fields() {
		row := []any{f.Name, typeText(&f), none, none, none, none, f.Description}
		if f.Batch != "" {
			row[2], row[3] = f.Batch, f.Column
		}
		if f.Decimals != profilestore.NoDecimals {
			row[4] = f.Decimals
		}
		if e := f.Events; e != nil {
			row[5] = e.String()
		}
		t.add(row...)
	}
	return t
}
