package profilestore_test

import (
	"context"
	"path/filepath"
	"slices"

	"rapport/profilestore"
)

// cloned are the slots of the model's fields that the other schema has twice. None has a
// batch source, and none depends on the order of events, so what they must be follows
// from the events that are left of the journal.
var cloned = []int{3, 6, 8, 10}

// ruled is the slot of a field that has another rule in the other schema. What events do
// to it is the same.
const ruled = 10

// withClones returns the fields of the other schema.
func withClones(fields []profilestore.Field) []profilestore.Field {
	fields = slices.Clone(fields)
	for _, slot := range cloned {
		f := fields[slot]
		f.Name += "_2"
		fields = append(fields, f)
	}
	fields[ruled].Events = &profilestore.EventRule{On: "1 == 1", Add: "x"}
	return fields
}

// cloneMapper maps the events of the model under the other schema.
type cloneMapper struct{ modelMapper }

func (m cloneMapper) Map(e *profilestore.Event, dst []profilestore.Change) ([]profilestore.Change, error) {
	dst, err := m.modelMapper.Map(e, dst)
	for _, c := range dst {
		if i := slices.Index(cloned, c.Slot); i >= 0 {
			c.Slot = 15 + i
			dst = append(dst, c)
		}
	}
	return dst, err
}

// changeSchema changes to the other schema, and the next time back.
func (s *schedule) changeSchema() {
	s.had["another schema"] = true
	s.entries = s.h.store.Stats().JournalNext
	s.had["another schema after a removal"] = s.had["another schema after a removal"] || s.h.store.JournalFirst() > 1
	if err := s.h.store.Close(); err != nil {
		s.Fatal(err)
	}
	s.more = !s.more
	var err error
	if s.h.schema, err = newModelSchema(s.more); err != nil {
		s.Fatal(err)
	}
	s.h.mapper = modelMapper{}
	if s.more {
		s.h.mapper = cloneMapper{}
	}
	if dropped, err := profilestore.DropForeignDeltas(context.Background(), s.h.dir, s.h.schema); err != nil || !dropped {
		s.Fatal(dropped, err)
	}
	if s.h.versions != nil {
		clear(s.h.versions.latest)
	}
	for _, x := range s.m.sources {
		x.asOf, x.cut = x.base[0], x.base[1]
	}
	s.linked = false
	s.derived()
	s.open()
}

// derived says from which entries on fields know of events, when the records are about to
// be derived anew.
func (s *schedule) derived() {
	first := uint64(1)
	if list, err := filepath.Glob(filepath.Join(s.h.dir, "journal", "*.journal")); err == nil && len(list) > 0 {
		first = journalNumber(list[0])
	} else if err != nil {
		s.Fatal(err)
	}
	meanings := []string{"fields", "rule"}
	if s.more {
		meanings = []string{"fields", "other rule", "clones"}
	}
	from := make(map[string]stretch)
	for _, m := range meanings {
		x, inBase := s.baseFrom[m]
		if !inBase {
			x = stretch{first: first, derived: s.entries}
		}
		from[m] = x
		s.had["a field that has lost its beginning"] = s.had["a field that has lost its beginning"] || x.first > 1
	}
	s.from = from
}

// stretch is the part of the journal that a field knows of: from its entry first on. Up to
// derived those that were sent twice are told by that part alone.
type stretch struct{ first, derived uint64 }

func journalNumber(path string) (n uint64) {
	for _, c := range filepath.Base(path)[:20] {
		n = 10*n + uint64(c-'0')
	}
	return n
}

// want returns what the fields of a customer must be under the schema in force.
func (s *schedule) want(nodes []string, now int64) []string {
	want := s.m.want(nodes, now)
	rule := s.from["rule"]
	if s.more {
		rule = s.from["other rule"]
	}
	want[ruled] = s.m.left(rule).want(nodes, now)[ruled]
	if s.more {
		left := s.m.left(s.from["clones"]).want(nodes, now)
		for _, slot := range cloned {
			want = append(want, left[slot])
		}
	}
	return want
}

// left returns a model that knows of a part of the journal only.
func (m *model) left(x stretch) *model {
	if x.first <= 1 {
		return m
	}
	part := *m
	part.events = make(map[string][]modelEvent)
	for node, sent := range m.sent {
		seen := make(map[string]int64)
		for _, e := range sent {
			at, again := seen[e.ID]
			again = again && at >= e.logged-48*hour
			if e.seq < x.first || e.seq < x.derived && again || e.seq >= x.derived && !e.taken {
				continue
			}
			seen[e.ID] = e.logged
			part.events[node] = append(part.events[node], e)
		}
	}
	return &part
}
