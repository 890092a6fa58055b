package catalog

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"rapport/profilestore"
	"rapport/profilestore/rules"
	rapportv1 "rapport/server/api/rapport/v1"
)

// ReadSchema reads a ProfileSchema file and checks it completely, event rules
// too. It returns either the schema or every mistake.
func ReadSchema(name string, yaml []byte) (*profilestore.Schema, []Problem) {
	d := readDocument(File{Name: name, Content: yaml})
	m := &rapportv1.ProfileSchema{}
	d.decode(m)
	if d.root == nil {
		return nil, problemsOf([]*document{d})
	}
	if err := validateLists(m, func(list string, i int) (*document, string) {
		if i < 0 {
			return d, list
		}
		return d, fmt.Sprintf("%s[%d]", list, i)
	}); err != nil {
		d.failAt(d.root, "", "can't be checked: %v", err)
	}
	sources, fields := schemaParts(m)
	tables := referenceTables(m)
	schema, err := profilestore.NewSchema(sources, fields, namespaceParts(m)...)
	mistakes, _ := errors.AsType[profilestore.SchemaErrors](err)
	for _, e := range append(mistakes, rules.CheckTables(tables)...) {
		if !d.reported[e.Path] {
			d.fail(e.Path, "%s", e.Message)
		}
	}
	for _, e := range rules.CheckEvents(fields, tables...) {
		d.failScalar(fmt.Sprintf("fields[%d].events.%s", e.Field, e.Part), e.Errors)
	}
	if problems := problemsOf([]*document{d}); len(problems) > 0 {
		return nil, problems
	}
	if schema, err = schema.WithTables(tables); err != nil {
		d.failAt(d.root, "tables", "%v", err) // it was checked above
		return nil, problemsOf([]*document{d})
	}
	return schema, nil
}

// referenceTables converts the declarations of tables.
func referenceTables(m *rapportv1.ProfileSchema) []profilestore.ReferenceTable {
	tables := make([]profilestore.ReferenceTable, 0, len(m.GetTables()))
	for _, t := range m.GetTables() {
		tables = append(tables, profilestore.ReferenceTable{ID: t.GetId(), Description: t.GetDescription()})
	}
	return tables
}

// spanOf reads a span such as 90m, 12h or 7d. One that is not of this form, which
// the message's own constraints report, is 0.
func spanOf(s string) time.Duration {
	if s == "" {
		return 0
	}
	n, err := strconv.Atoi(s[:len(s)-1])
	if err != nil || n < 0 || n > 99_999 {
		return 0
	}
	switch s[len(s)-1] {
	case 'm':
		return time.Duration(n) * time.Minute
	case 'h':
		return time.Duration(n) * time.Hour
	case 'd':
		return time.Duration(n) * 24 * time.Hour
	}
	return 0
}

// schemaParts converts the message.
func schemaParts(m *rapportv1.ProfileSchema) ([]profilestore.Source, []profilestore.Field) {
	var sources []profilestore.Source
	for _, s := range m.GetSources() {
		sources = append(sources, profilestore.Source{
			ID: s.GetId(), Description: s.GetDescription(), Key: s.GetKey(),
			Owner: s.GetOwner(), Retain: int(s.GetRetain()), MaxAge: spanOf(s.GetMaxAge()),
		})
	}
	var fields []profilestore.Field
	for _, f := range m.GetFields() {
		field := profilestore.Field{
			Name: f.GetName(), Type: profilestore.Type(f.GetType()), Batch: f.GetBatch(), Column: f.GetColumn(),
			Decimals: profilestore.NoDecimals, Default: f.GetDefault(), Description: f.GetDescription(),
			Window: spanOf(f.GetWindow()), Bucket: spanOf(f.GetBucket()), Owner: f.GetOwner(),
			Personal: f.GetPersonal(),
		}
		if f.Decimals != nil {
			field.Decimals = int(f.GetDecimals())
		}
		if e := f.GetEvents(); e != nil {
			field.Events = &profilestore.EventRule{
				On: e.GetOn(), Set: e.GetSet(), Add: e.GetAdd(), Reset: e.GetReset_(),
				RemoveOn: e.GetRemoveOn(), Remove: e.GetRemove(), In: e.GetIn(), Priority: e.GetPriority(),
			}
		}
		fields = append(fields, field)
	}
	return sources, fields
}

// namespaceParts converts the namespaces of the message.
func namespaceParts(m *rapportv1.ProfileSchema) []profilestore.Namespace {
	var namespaces []profilestore.Namespace
	for _, n := range m.GetNamespaces() {
		namespaces = append(namespaces, profilestore.Namespace{
			ID: n.GetId(), Description: n.GetDescription(), Max: int(n.GetMax()), Weak: n.GetWeak(),
			Blocked: n.GetBlocked(), Holding: spanOf(n.GetHolding()),
		})
	}
	return namespaces
}
