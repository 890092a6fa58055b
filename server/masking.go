package server

import (
	"errors"
	"slices"
	"strings"

	"rapport/profilestore"
	"rapport/server/catalog"
)

// masked stands where personal data is not shown.
const masked = "•••"

var errRevealForbidden = errors.New("this server shows no personal data: ask without reveal, or have it started with --reveal-personal")

// mask hides personal data in what is shown of decisions that were made: identities, the
// values of fields that a schema declares personal, and texts that are computed from
// them. That a value is known, and what a rule made of it, is shown: it is what an
// explanation is about.
//
// A field is personal if any of the schemas says so: the present one, or that of the
// decision. A mask of no schema hides every value.
type mask struct {
	revealed bool
	schemas  []*profilestore.Schema
}

// masking returns the mask for a request. With reveal, nothing is hidden: the server has
// to allow it, and the audit log has who saw what before it is shown. subject is what is
// looked at, such as decision/ID.
func (s *Server) masking(by asker, reveal bool, subject string) (*mask, error) {
	m := &mask{schemas: []*profilestore.Schema{s.store.Schema()}}
	if !reveal {
		return m, nil
	}
	if !s.config.RevealPersonal {
		return nil, errRevealForbidden
	}
	r := recordBy(by, "reveal", subject)
	r.After = "personal data was shown"
	if err := s.audit.append(r); err != nil {
		return nil, err
	}
	m.revealed = true
	return m, nil
}

// under returns the mask for a decision that was made under a schema.
func (m *mask) under(schema *profilestore.Schema) *mask {
	if schema == nil || slices.Contains(m.schemas, schema) {
		return m
	}
	return &mask{revealed: m.revealed, schemas: append(slices.Clip(m.schemas), schema)}
}

// identity returns an identity as it is shown: with its namespace and the first two
// letters of its id, if those are a quarter of it at most: `customer:75•••`.
func (m *mask) identity(identity string) string {
	if m.revealed || identity == "" {
		return identity
	}
	namespace, id, ok := strings.Cut(identity, ":")
	if !ok {
		namespace, id = profilestore.DefaultNamespace, identity
	}
	letters := []rune(id)
	return namespace + ":" + string(letters[:min(2, len(letters)/4)]) + masked
}

// personal reports whether the values of a field are hidden.
func (m *mask) personal(field string) bool {
	if m.revealed {
		return false
	}
	known := false
	for _, schema := range m.schemas {
		if slot, ok := schema.Lookup(field); ok {
			known = true
			if schema.Fields()[slot].Personal {
				return true
			}
		}
	}
	return !known
}

// value returns the value of a profile field as it is shown.
func (m *mask) value(field string, v profilestore.Value) string {
	if v.Known() && m.personal(field) {
		return masked
	}
	return v.String()
}

// text returns a text that was computed by a template as it is shown: where the template
// reads a personal field, the template itself. nil is a template that is not known.
func (m *mask) text(text string, t *catalog.Template, c *catalog.Compiled) string {
	switch {
	case m.revealed || text == "":
		return text
	case t == nil:
		return masked
	}
	for _, slot := range t.Reads().Slots {
		if m.personal(c.Schema.Fields()[slot].Name) {
			return t.String()
		}
	}
	return text
}
