package catalog

import (
	"errors"
	"fmt"
	"strings"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"buf.build/go/protovalidate"
	"google.golang.org/protobuf/proto"

	"rapport/profilestore/rules"
)

// validateMessage holds a message against its protovalidate rules. locate says
// from which document, and from where in it, what violates one came. A violation
// where a problem was already reported is left out. An error means that the
// rules themselves can't be used.
func validateMessage(m proto.Message, locate func(*protovalidate.Violation) (*document, string)) error {
	err := protovalidate.Validate(m)
	var found *protovalidate.ValidationError
	if !errors.As(err, &found) {
		return err
	}
	for _, v := range found.Violations {
		d, path := locate(v)
		if d.suppressed(path) {
			continue
		}
		switch {
		case v.Proto.GetForKey():
			d.failKey(path, "%s", plainViolation(v, d.places[path].key.Value))
		case !d.has(path):
			d.fail(path, "is missing%s", choices(v))
		default:
			d.fail(path, "%s", plainViolation(v, d.places[path].value.Value))
		}
	}
	return nil
}

// suppressed reports whether a path, or what it is in, has a problem already.
func (d *document) suppressed(path string) bool {
	for {
		if d.reported[path] {
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

// plainViolation puts a violation of a value that is there into words.
func plainViolation(v *protovalidate.Violation, value string) string {
	message := v.Proto.GetMessage()
	switch v.Proto.GetRuleId() {
	case "string.pattern":
		words, ok := patterns[v.RuleValue.String()]
		switch {
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
	out := make([]string, list.Len())
	for i := range out {
		out[i] = list.Get(i).String()
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

// elementOf returns the list that a path begins with, and the place in it.
func elementOf(elements []*validate.FieldPathElement) (list string, index uint64, ok bool) {
	if len(elements) == 0 {
		return "", 0, false
	}
	sub, ok := elements[0].GetSubscript().(*validate.FieldPathElement_Index)
	if !ok {
		return elements[0].GetFieldName(), 0, false
	}
	return elements[0].GetFieldName(), sub.Index, true
}
