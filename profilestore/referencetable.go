package profilestore

import (
	"fmt"
	"slices"
)

// ReferenceTable declares facts from outside, such as the area of each cell of the
// network: a text for each key. Event rules call it as a function of its name,
// `area(event.cell) == "broker"`; a key that it has no row for gives "". Its rows are
// loaded apart from the schema, in numbered versions: see package reftable.
type ReferenceTable struct {
	ID          string `json:"id"`
	Description string `json:"description,omitempty"`
}

// CheckTables returns the mistakes in the names of reference tables. That a name
// is none of the rules' own functions is checked where rules are compiled.
func CheckTables(tables []ReferenceTable) SchemaErrors {
	var errs SchemaErrors
	for i, t := range tables {
		path := fmt.Sprintf("tables[%d].id", i)
		switch {
		case !sourceName.MatchString(t.ID):
			errs = append(errs, &SchemaError{Path: path, Message: fmt.Sprintf("%q is not a table name: use a-z, 0-9 and _, beginning with a letter, at most 32", t.ID)})
		case slices.ContainsFunc(tables[:i], func(u ReferenceTable) bool { return u.ID == t.ID }):
			errs = append(errs, &SchemaError{Path: path, Message: fmt.Sprintf("table %q is declared twice", t.ID)})
		}
	}
	return errs
}

// WithTables returns the schema with reference tables, or [SchemaErrors]. Its id is
// another than that of s if there are any.
func (s *Schema) WithTables(tables []ReferenceTable) (*Schema, error) {
	if errs := CheckTables(tables); len(errs) > 0 {
		return nil, errs
	}
	if len(tables) == 0 && len(s.tables) == 0 {
		return s, nil
	}
	with := *s
	with.tables = slices.Clone(tables)
	with.id = with.hash()
	return &with, nil
}

// Tables returns the reference tables in their declared order. Do not modify.
func (s *Schema) Tables() []ReferenceTable { return s.tables }

// TableNames returns their names.
func (s *Schema) TableNames() []string {
	names := make([]string, len(s.tables))
	for i, t := range s.tables {
		names[i] = t.ID
	}
	return names
}
