package profilestore

import (
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxIdentity is the greatest length of an identity in bytes, namespace
// included.
const MaxIdentity = 256

// DefaultNamespace is the namespace of an id that is given without one.
const DefaultNamespace = "customer"

var namespaceName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,31}$`)

// ParseIdentity returns the canonical form namespace:id of an identity as people
// and systems write it. What stands before the first colon is the namespace; an
// id without colon is in [DefaultNamespace].
func ParseIdentity(s string) (string, error) {
	namespace, id, ok := strings.Cut(s, ":")
	if !ok {
		namespace, id = DefaultNamespace, s
	}
	switch {
	case !namespaceName.MatchString(namespace):
		return "", fmt.Errorf("identity %.80q: namespace %.40q: use a-z, 0-9 and _, beginning with a letter, at most 32", s, namespace)
	case id == "":
		return "", fmt.Errorf("identity %q has no id: use namespace:id", s)
	case len(namespace)+1+len(id) > MaxIdentity:
		return "", fmt.Errorf("identity %.80q… has %d bytes: at most %d with the namespace", s, len(namespace)+1+len(id), MaxIdentity)
	case !utf8.ValidString(id) || strings.ContainsFunc(id, unicode.IsControl):
		return "", fmt.Errorf("identity %.80q: the id has bytes that are not printable UTF-8", s)
	}
	if ok {
		return s, nil
	}
	return namespace + ":" + id, nil
}

// namespaceOf returns the namespace of an identity in canonical form.
func namespaceOf(identity string) string {
	namespace, _, _ := strings.Cut(identity, ":")
	return namespace
}
