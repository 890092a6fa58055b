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

// validateMessage holds a message against its protovalidate rules. locate turns
// a path of the message into the document and path that it came from; a
// violation where a problem was already reported is left out.
func validateMessage(m proto.Message, locate func(path string) (*document, string)) {
	err := protovalidate.Validate(m)
	if err == nil {
		return
	}
	var found *protovalidate.ValidationError
	if !errors.As(err, &found) {
		d, path := locate("")
		d.fail(path, "can't be checked: %v", err)
		return
	}
	for _, v := range found.Violations {
		path := protovalidate.FieldPathString(v.Proto.GetField())
		d, path := locate(path)
		if d == nil || d.reported[path] {
			continue
		}
		name := path[strings.LastIndexByte(path, '.')+1:]
		switch {
		case v.Proto.GetForKey():
			d.failKey(path, "%s", plainViolation(v, d.places[path].key.Value))
		case !d.has(path):
			d.fail(path, "%s is missing%s", name, choices(v))
		default:
			d.fail(path, "%s", plainViolation(v, d.places[path].value.Value))
		}
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
		if words, ok := patterns[v.RuleValue.String()]; ok {
			return fmt.Sprintf("%.80q is not a name here: %s", value, words)
		}
	case "string.in":
		list := options(v)
		if near := rules.Nearest(value, list); near != "" {
			return fmt.Sprintf("%.80q is none of %s: did you mean %s?", value, strings.Join(list, ", "), near)
		}
		return fmt.Sprintf("%.80q is none of %s", value, strings.Join(list, ", "))
	case "string.min_len", "repeated.min_items":
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

// pathOf splits the path of a violation in a merged message into its list, its
// place there and the rest.
func pathOf(elements []*validate.FieldPathElement) (list string, index int, ok bool) {
	if len(elements) == 0 {
		return "", 0, false
	}
	sub, isIndex := elements[0].GetSubscript().(*validate.FieldPathElement_Index)
	if !isIndex {
		return elements[0].GetFieldName(), 0, false
	}
	return elements[0].GetFieldName(), int(sub.Index), true
}
