package catalog

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/reflect/protoreflect"

	"rapport/profilestore/rules"
)

// The walk holds YAML nodes against the descriptor of the message that they are
// to become, and notes the place of every value.

// walkMessage checks the node of a message.
func (d *document) walkMessage(n *yaml.Node, m protoreflect.MessageDescriptor, path string) {
	if m.FullName() == "google.protobuf.Value" {
		d.walkAny(n, path)
		return
	}
	if n.Kind != yaml.MappingNode {
		d.failAt(n, path, "must have fields such as %s, but is %s", m.Fields().Get(0).Name(), kindOf(n))
		return
	}
	first := make(map[protoreflect.FieldNumber]*yaml.Node)
	for i := 0; i+1 < len(n.Content) && d.more == 0; i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.Kind != yaml.ScalarNode {
			d.failAt(key, path, "a name is needed here, but this is %s", kindOf(key))
			continue
		}
		field := fieldOf(m, key.Value)
		if field == nil {
			near := rules.Nearest(key.Value, fieldNames(m))
			d.failAt(key, join(path, fmt.Sprintf("%.40s", key.Value)), "there is no field %.80q here%s", key.Value, hint(near, strings.Join(fieldNames(m), ", ")))
			if near != "" { // so that it is not missed as well
				d.reported[join(path, near)] = true
			}
			continue
		}
		if other, ok := first[field.Number()]; ok {
			d.failAt(key, join(path, string(field.Name())), "is given twice, first in line %d", other.Line)
			continue
		}
		first[field.Number()] = key
		at := join(path, string(field.Name()))
		d.places[at] = place{key, value}
		if isNull(value) {
			d.failAt(key, at, "has no value: write one, or remove the line")
			continue
		}
		d.walkField(value, field, at)
	}
}

// walkField checks the node of a field.
func (d *document) walkField(n *yaml.Node, f protoreflect.FieldDescriptor, path string) {
	switch {
	case f.IsList():
		if n.Kind != yaml.SequenceNode {
			d.failAt(n, path, "must be a list, but is %s", kindOf(n))
			return
		}
		if len(n.Content) > maxInner && strings.Contains(path, "[") {
			d.failAt(n, path, "%d are too many: at most %d", len(n.Content), maxInner)
			return
		}
		for i, x := range n.Content {
			if d.more > 0 {
				return // enough
			}
			at := fmt.Sprintf("%s[%d]", path, i)
			d.places[at] = place{nil, x}
			if isNull(x) {
				d.failAt(x, at, "is empty: write a value, or remove the line")
				continue
			}
			d.walkValue(x, f, at)
		}
	case f.IsMap():
		d.walkMap(n, f, path)
	default:
		d.walkValue(n, f, path)
	}
}

// walkMap checks the node of a map with names for keys.
func (d *document) walkMap(n *yaml.Node, f protoreflect.FieldDescriptor, path string) {
	if n.Kind != yaml.MappingNode {
		d.failAt(n, path, "must have names and values, but is %s", kindOf(n))
		return
	}
	if len(n.Content) > 2*maxNames {
		d.failAt(n, path, "%d names are too many: at most %d", len(n.Content)/2, maxNames)
		return
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.Kind != yaml.ScalarNode {
			d.failAt(key, path, "a name is needed here, but this is %s", kindOf(key))
			continue
		}
		at := path + "[" + strconv.Quote(key.Value) + "]"
		if other, ok := d.places[at]; ok {
			d.failAt(key, at, "is given twice, first in line %d", other.key.Line)
			continue
		}
		d.places[at] = place{key, value}
		if isNull(value) {
			d.failAt(key, at, "has no value: write one, or remove the line")
			continue
		}
		d.walkValue(value, f.MapValue(), at)
	}
}

// walkValue checks the node of a single value.
func (d *document) walkValue(n *yaml.Node, f protoreflect.FieldDescriptor, path string) {
	if f.Message() != nil {
		d.walkMessage(n, f.Message(), path)
		return
	}
	var need string
	ok := n.Kind == yaml.ScalarNode
	switch f.Kind() {
	case protoreflect.StringKind:
		need = "a text"
	case protoreflect.BoolKind:
		need = "true or false"
		ok = ok && n.Tag == "!!bool" && (n.Value == "true" || n.Value == "false")
	case protoreflect.DoubleKind:
		need = "a number"
		ok = ok && isNumber(n)
	case protoreflect.Int32Kind:
		need = "a whole number"
		if ok && n.Tag == "!!int" {
			_, err := strconv.ParseInt(n.Value, 10, 32)
			ok = err == nil
		} else {
			ok = false
		}
	default:
		need, ok = "no such value: "+f.Kind().String()+" is not supported in files", false
	}
	if !ok {
		d.failAt(n, path, "must be %s, but is %s", need, kindOf(n))
	}
}

// walkAny checks the node of a value that may be a number, a flag or a text.
// protoyaml would make texts of what looks like a number or flag and is none.
func (d *document) walkAny(n *yaml.Node, path string) {
	switch {
	case n.Kind != yaml.ScalarNode:
		d.failAt(n, path, "must be a number, true, false or a text, but is %s", kindOf(n))
	case (n.Tag == "!!int" || n.Tag == "!!float") && !isNumber(n):
		d.failAt(n, path, "%s is no plain number: write its digits, or put it in quotes if it is a text", n.Value)
	case n.Tag == "!!int":
		if i, err := strconv.ParseInt(n.Value, 10, 64); err != nil || i > 1<<53 || i < -1<<53 {
			d.failAt(n, path, "%s is too large to be exact: put it in quotes if it is a text", n.Value)
		}
	case n.Tag == "!!bool" && n.Value != "true" && n.Value != "false":
		d.failAt(n, path, "write true or false, or put %s in quotes if it is a text", n.Value)
	}
}

// isNumber reports whether a scalar is a finite number in decimal digits.
func isNumber(n *yaml.Node) bool {
	if n.Tag != "!!int" && n.Tag != "!!float" || strings.ContainsAny(n.Value, "xXoObB_") {
		return false
	}
	f, err := strconv.ParseFloat(n.Value, 64)
	return err == nil && !math.IsInf(f, 0) && !math.IsNaN(f)
}

// kindOf says what a node is, for messages.
func kindOf(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a group of fields"
	case yaml.SequenceNode:
		return "a list"
	case yaml.ScalarNode:
		value := strconv.Quote(n.Value)
		if len(value) > 60 {
			value = fmt.Sprintf("%.50q…", n.Value)
		}
		switch n.Tag {
		case "!!null":
			return "empty"
		case "!!int", "!!float", "!!bool":
			return n.Value
		}
		return "the text " + value
	case yaml.DocumentNode, yaml.AliasNode:
	}
	return "something else"
}

// fieldOf returns the field that a key names, or nil.
func fieldOf(m protoreflect.MessageDescriptor, key string) protoreflect.FieldDescriptor {
	if f := m.Fields().ByTextName(key); f != nil {
		return f
	}
	return m.Fields().ByJSONName(key)
}

// fieldNames returns the names of a message's fields.
func fieldNames(m protoreflect.MessageDescriptor) []string {
	names := make([]string, m.Fields().Len())
	for i := range names {
		names[i] = string(m.Fields().Get(i).Name())
	}
	return names
}

// join appends a field's name to a path.
func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// hint returns the words that name the nearest of what there is, or all.
func hint(near, all string) string {
	if near != "" {
		return ": did you mean " + near + "?"
	}
	if all == "" || len(all) > 300 {
		return ""
	}
	return ": there are " + all
}
