package catalog

import (
	"fmt"
	"strconv"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	rapportv1 "rapport/server/api/rapport/v1"
)

// Change is a difference between two catalogues.
type Change struct {
	List string `json:"list"`         // such as offers
	ID   string `json:"id,omitempty"` // of the element; empty where a catalogue has one only
	// Path is what changed of the element, such as treatments[sms].content; empty if the
	// element as a whole is new or gone.
	Path string `json:"path,omitempty"`
	// Before and After are as files write them, texts in quotes; empty where there is none.
	Before string `json:"before,omitempty"`
	After  string `json:"after,omitempty"`
}

// Diff returns what makes b of a, by lists, then in the order of b's elements, those
// that are gone last. Elements are told apart by their ids: their order is no difference.
func Diff(a, b *rapportv1.Catalog) []Change {
	var out []Change
	fields := b.ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		name := string(f.Name())
		if !f.IsList() {
			diffValues(f, a.ProtoReflect(), b.ProtoReflect(), "", func(path, before, after string) {
				path = strings.TrimPrefix(strings.TrimPrefix(path, name), ".")
				out = append(out, Change{List: name, Path: path, Before: before, After: after})
			})
			continue
		}
		key := keyOf(f.Message())
		diffElements(f.Message(), key, a.ProtoReflect().Get(f).List(), b.ProtoReflect().Get(f).List(), func(id, path, before, after string) {
			out = append(out, Change{List: name, ID: id, Path: path, Before: before, After: after})
		})
	}
	return out
}

// keyOf returns the field by which elements are told apart, nil if there is none.
func keyOf(m protoreflect.MessageDescriptor) protoreflect.FieldDescriptor {
	for _, name := range []protoreflect.Name{"id", "name", "channel", "persona", "group", "when"} {
		if f := m.Fields().ByName(name); f != nil && f.Kind() == protoreflect.StringKind && !f.IsList() {
			return f
		}
	}
	return nil
}

// diffElements reports the differences of lists whose elements have keys: path is empty
// where an element as a whole is new or gone.
func diffElements(m protoreflect.MessageDescriptor, key protoreflect.FieldDescriptor, a, b protoreflect.List, report func(id, path, before, after string)) {
	before := make(map[string]protoreflect.Message, a.Len())
	for i := range a.Len() {
		before[a.Get(i).Message().Get(key).String()] = a.Get(i).Message()
	}
	kept := make(map[string]bool, b.Len())
	for i := range b.Len() {
		now := b.Get(i).Message()
		id := now.Get(key).String()
		kept[id] = true
		old, ok := before[id]
		if !ok {
			report(id, "", "", written(now.Interface()))
			continue
		}
		fields := m.Fields()
		for k := range fields.Len() {
			diffValues(fields.Get(k), old, now, "", func(path, x, y string) { report(id, path, x, y) })
		}
	}
	for i := range a.Len() {
		old := a.Get(i).Message()
		if id := old.Get(key).String(); !kept[id] {
			report(id, "", written(old.Interface()), "")
		}
	}
}

// diffValues reports the differences of a field of two messages.
func diffValues(f protoreflect.FieldDescriptor, a, b protoreflect.Message, path string, report func(path, before, after string)) {
	path = join(path, string(f.Name()))
	switch {
	case !a.Has(f) && !b.Has(f):
	case f.IsList() && f.Message() != nil && keyOf(f.Message()) != nil:
		diffElements(f.Message(), keyOf(f.Message()), a.Get(f).List(), b.Get(f).List(), func(id, below, before, after string) {
			at := path + "[" + id + "]"
			if below != "" {
				at += "." + below
			}
			report(at, before, after)
		})
	case f.IsList() && f.Message() != nil:
		diffRows(f, a.Get(f).List(), b.Get(f).List(), path, report)
	case f.Message() != nil && !f.IsList() && !f.IsMap() && a.Has(f) && b.Has(f) && f.Message().FullName() != "google.protobuf.Value":
		fields := f.Message().Fields()
		for i := range fields.Len() {
			diffValues(fields.Get(i), a.Get(f).Message(), b.Get(f).Message(), path, report)
		}
	default:
		if x, y := fieldText(f, a), fieldText(f, b); x != y {
			report(path, x, y)
		}
	}
}

// diffRows reports the differences of lists whose elements have no keys, such as the rows
// of a decision table: those that both begin and end with are the same, and of the rest
// what stands at the same place is compared. Places count from 0 and are those in b, of
// what is gone those in a.
func diffRows(f protoreflect.FieldDescriptor, a, b protoreflect.List, path string, report func(path, before, after string)) {
	equal := func(i, j int) bool {
		return proto.Equal(a.Get(i).Message().Interface(), b.Get(j).Message().Interface())
	}
	begin, end := 0, 0
	for begin < min(a.Len(), b.Len()) && equal(begin, begin) {
		begin++
	}
	for end < min(a.Len(), b.Len())-begin && equal(a.Len()-1-end, b.Len()-1-end) {
		end++
	}
	fields := f.Message().Fields()
	for i := begin; i < max(a.Len(), b.Len())-end; i++ {
		at := fmt.Sprintf("%s[%d]", path, i)
		switch {
		case i >= a.Len()-end:
			report(at, "", written(b.Get(i).Message().Interface()))
		case i >= b.Len()-end:
			report(at, written(a.Get(i).Message().Interface()), "")
		default:
			for k := range fields.Len() {
				diffValues(fields.Get(k), a.Get(i).Message(), b.Get(i).Message(), at, report)
			}
		}
	}
}

// fieldText returns the value of a field as a file could write it; nothing if it is not
// set.
func fieldText(f protoreflect.FieldDescriptor, m protoreflect.Message) string {
	if !m.Has(f) {
		return ""
	}
	v := m.Get(f)
	switch {
	case f.IsList():
		var parts []string
		for i := range v.List().Len() {
			parts = append(parts, valueText(f, v.List().Get(i)))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case f.IsMap():
		only := m.New()
		only.Set(f, v)
		text := written(only.Interface())
		_, text, _ = strings.Cut(strings.TrimSuffix(text, "}"), ":")
		return strings.TrimSpace(text)
	}
	return valueText(f, v)
}

func valueText(f protoreflect.FieldDescriptor, v protoreflect.Value) string {
	switch {
	case f.Message() != nil:
		return written(v.Message().Interface())
	case f.Kind() == protoreflect.StringKind:
		return strconv.Quote(v.String())
	case f.Kind() == protoreflect.DoubleKind:
		return strconv.FormatFloat(v.Float(), 'f', -1, 64)
	}
	return fmt.Sprint(v.Interface())
}

// written returns a message as one line of JSON, whose spacing protojson varies on
// purpose.
func written(m proto.Message) string {
	b, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
	if err != nil {
		return err.Error()
	}
	var out strings.Builder
	quoted := false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case c == '\\' && quoted:
			out.Write(b[i : i+2])
			i++
			continue
		case c == '"':
			quoted = !quoted
		case c == ' ' && !quoted:
			continue
		case (c == ',' || c == ':') && !quoted:
			out.WriteByte(c)
			out.WriteByte(' ')
			continue
		}
		out.WriteByte(b[i])
	}
	return out.String()
}
