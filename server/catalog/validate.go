package catalog

import (
	"errors"
	"fmt"
	"strings"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"buf.build/go/protovalidate"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"rapport/profilestore/rules"
)

// validateLists holds the elements of a message's lists, and how many there are,
// against their protovalidate rules. locate says from which document, and from
// where in it, an element came; of −1, where the list is or should be. A
// violation where a problem was already reported is left out. An error means that
// the rules themselves can't be used.
//
// Elements are validated one by one, not the message at once: protovalidate
// collects every violation of what it is given, at about 1 KB each, and a small
// file can have a million.
func validateLists(m proto.Message, locate func(list string, i int) (*document, string)) error {
	found := 0
	fields := m.ProtoReflect().Descriptor().Fields()
	for k := range fields.Len() {
		f := fields.Get(k)
		name := string(f.Name())
		if !f.IsList() {
			if !m.ProtoReflect().Has(f) {
				continue
			}
			violations, err := violationsOf(m.ProtoReflect().Get(f).Message().Interface())
			if err != nil {
				return err
			}
			for _, v := range violations {
				d, path := locate(name, 0)
				d.violation(path, v)
			}
			continue
		}
		list := m.ProtoReflect().Get(f).List()
		validateLength(f, list.Len(), locate)
		for i := range list.Len() {
			violations, err := violationsOf(list.Get(i).Message().Interface())
			if err != nil {
				return err
			}
			for _, v := range violations {
				d, path := locate(name, i)
				d.violation(path, v)
			}
			if found += len(violations); found > 2*maxProblems {
				return nil
			}
		}
	}
	return nil
}

// validateLength checks how many elements a list has.
func validateLength(f protoreflect.FieldDescriptor, n int, locate func(list string, i int) (*document, string)) {
	rule, _ := proto.GetExtension(f.Options(), validate.E_Field).(*validate.FieldRules)
	limits := rule.GetRepeated()
	d, path := locate(string(f.Name()), -1)
	switch {
	case limits.HasMaxItems() && uint64(n) > limits.GetMaxItems():
		d.fail(path, "%d are too many: at most %d", n, limits.GetMaxItems())
	case n >= int(limits.GetMinItems()) || d.suppressed(path):
	case d.has(path):
		d.fail(path, "is empty: at least one is needed")
	default:
		d.fail(path, "is missing")
	}
}

// violationsOf validates a message.
func violationsOf(m proto.Message) ([]*protovalidate.Violation, error) {
	err := protovalidate.Validate(m)
	if invalid, ok := errors.AsType[*protovalidate.ValidationError](err); ok {
		return invalid.Violations, nil
	}
	return nil, err
}

// violation reports a violation in the element at path.
func (d *document) violation(path string, v *protovalidate.Violation) {
	if below := protovalidate.FieldPathString(v.Proto.GetField()); below != "" {
		path += "." + below
	}
	if d.suppressed(path) {
		return
	}
	p, ok := d.places[path]
	switch {
	case ok && v.Proto.GetForKey():
		d.failKey(path, "%s", plainViolation(v, p.key.Value))
	case ok:
		d.fail(path, "%s", plainViolation(v, p.value.Value))
	default:
		d.fail(path, "is missing%s", choices(v))
	}
}

// suppressed reports whether a path, or what it is in, has a problem already.
func (d *document) suppressed(path string) bool { return isWithin(path, d.reported) }

// isWithin reports whether a path, or what it is in, is one of some.
func isWithin(path string, paths map[string]bool) bool {
	for {
		if paths[path] {
			return true
		}
		i := strings.LastIndexAny(path, ".[")
		if i < 0 {
			return false
		}
		path = path[:i]
	}
}

// patterns are the rules for names, in words.
var patterns = map[string]string{
	`^[a-z][a-z0-9_]{0,63}$`:           "use a-z, 0-9 and _, beginning with a letter, at most 64 characters",
	`^[a-z][a-z0-9_]{0,31}$`:           "use a-z, 0-9 and _, beginning with a letter, at most 32 characters",
	`^[a-z][a-z0-9_-]{0,63}$`:          "use a-z, 0-9, _ and -, beginning with a letter, at most 64 characters",
	`^[a-z][a-z0-9_]*(\.[a-z0-9_]+)*$`: "use a-z, 0-9 and _ in parts joined by points, such as web.home.banner",
	`^(general|value|service|marketing|preference|usage|location|tag)\.[a-z][a-z0-9_]*$`: "use GROUP.NAME, with a group of general, value, service, marketing, preference, usage, location, tag",
}

// The rules for spans and for times of the day.
const (
	spanPattern = `^[1-9][0-9]{0,4}[mhd]$`
	timePattern = `^([01][0-9]|2[0-3]):[0-5][0-9]$`
)

// plainViolation puts a violation of a value that is there into words.
func plainViolation(v *protovalidate.Violation, value string) string {
	message := v.Proto.GetMessage()
	switch v.Proto.GetRuleId() {
	case "string.pattern":
		words, ok := patterns[v.RuleValue.String()]
		switch {
		case v.RuleValue.String() == spanPattern:
			return fmt.Sprintf("%.80q is no span: use minutes, hours or days, such as 90m, 12h or 7d", value)
		case v.RuleValue.String() == timePattern:
			return fmt.Sprintf("%.80q is no time of the day: write hours and minutes, such as \"09:00\" or \"21:30\"", value)
		case ok && value == "":
			return "is empty: " + words
		case ok:
			return fmt.Sprintf("%.80q is not a name here: %s", value, words)
		}
	case "string.in":
		list := options(v)
		if near := rules.Nearest(value, list); near != "" {
			return fmt.Sprintf("%.80q is none of %s: did you mean %s?", value, strings.Join(list, ", "), near)
		}
		return fmt.Sprintf("%.80q is none of %s", value, strings.Join(list, ", "))
	case "string.min_len":
		return "is empty"
	case "repeated.min_items":
		return "is empty: at least one is needed"
	case "string.max_len":
		return message + fmt.Sprintf(", but has %d", len([]rune(value)))
	}
	if value != "" && len(value) < 40 && strings.HasPrefix(message, "must be ") {
		return value + " " + message
	}
	return message
}

// options returns the values that a rule `in` allows.
func options(v *protovalidate.Violation) []string {
	if v.RuleDescriptor == nil || !v.RuleDescriptor.IsList() {
		return nil
	}
	list := v.RuleValue.List()
	var out []string
	for i := range list.Len() {
		if option := list.Get(i).String(); option != "" { // that is not given
			out = append(out, option)
		}
	}
	return out
}

// choices returns the words that name what a missing value can be.
func choices(v *protovalidate.Violation) string {
	if list := options(v); len(list) > 0 {
		return ": use one of " + strings.Join(list, ", ")
	}
	return ""
}
