package profilestore

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Namespace says how the identities of one namespace may be linked. A namespace
// that no schema declares has no rule but that of the group.
type Namespace struct {
	ID          string `json:"id"`
	Description string `json:"description,omitempty"`
	// Max is how many identities of it a customer may have; 0 for no limit but
	// [MaxGroup].
	Max int `json:"max,omitempty"`
	// Weak says that an identity of it does not tell who somebody is, as a cookie or
	// a shared device: a link to one never joins two customers.
	Weak bool `json:"weak,omitempty"`
	// Blocked are the ids that mean nobody, such as "0" or "unknown", without the
	// namespace. One that ends in * stands for all that begin so. The case of the
	// letters a to z does not matter. No event and no link may name one.
	Blocked []string `json:"blocked,omitempty"`
	// Holding is for how long after an identity was given up it can't be linked
	// again; 0 for not at all.
	Holding time.Duration `json:"holding,omitempty"`
}

const (
	// MaxGroup is how many identities one customer has at most. Reading a customer
	// reads all of them.
	MaxGroup = 8
	// MaxHolding is the longest time for which an identity can be held back.
	MaxHolding = 3650 * 24 * time.Hour

	maxNamespaces = 64
	maxBlocked    = 1000 // in a namespace
)

// Namespaces returns the namespaces in their declared order, which is that of a
// customer's identities. Do not modify.
func (s *Schema) Namespaces() []Namespace { return s.namespaces }

// Namespace returns what is declared of a namespace and its place in Namespaces.
// Of one that is not declared it returns the zero Namespace with that ID, the
// place behind all others, and false.
func (s *Schema) Namespace(id string) (n Namespace, place int, ok bool) {
	for i := range s.namespaces {
		if s.namespaces[i].ID == id {
			return s.namespaces[i], i, true
		}
	}
	return Namespace{ID: id}, len(s.namespaces), false
}

// blockList is what is blocked of a namespace, with small letters.
type blockList struct {
	ids      map[string]bool
	prefixes []string
}

// BlockedIdentity reports whether an identity in canonical form means nobody, and
// says by which entry of its namespace. It does not allocate unless it does.
func (s *Schema) BlockedIdentity(identity string) (why string, blocked bool) {
	if s.blocked == nil {
		return "", false
	}
	namespace, id, _ := strings.Cut(identity, ":")
	list := s.blocked[namespace]
	if list == nil || len(identity) > MaxIdentity {
		return "", false
	}
	var space [MaxIdentity]byte
	small := append(space[:0], id...)
	for i, c := range small {
		if 'A' <= c && c <= 'Z' {
			small[i] = c + 'a' - 'A'
		}
	}
	if list.ids[string(small)] {
		return blockedBy(namespace, id), true
	}
	for _, prefix := range list.prefixes {
		if len(small) >= len(prefix) && string(small[:len(prefix)]) == prefix {
			return blockedBy(namespace, prefix+"*"), true
		}
	}
	return "", false
}

func blockedBy(namespace, entry string) string {
	return fmt.Sprintf("%q means nobody in namespace %s: the schema blocks it", entry, namespace)
}

// checkNamespaces checks the namespaces and indexes what they block.
func (s *Schema) checkNamespaces(fail func(path, format string, args ...any)) {
	if n := len(s.namespaces); n > maxNamespaces {
		fail("namespaces", "there are %d: at most %d", n, maxNamespaces)
	}
	places := make(map[string]int, len(s.namespaces))
	for i := range s.namespaces {
		n := &s.namespaces[i]
		path := fmt.Sprintf("namespaces[%d]", i)
		if !namespaceName.MatchString(n.ID) {
			fail(path+".id", "%q is not a namespace: use a-z, 0-9 and _, beginning with a letter, at most 32", n.ID)
		} else if at, ok := places[n.ID]; ok {
			fail(path+".id", "namespace %q is declared twice, first as namespaces[%d]", n.ID, at)
		} else {
			places[n.ID] = i
		}
		if n.Max < 0 || n.Max > MaxGroup {
			fail(path+".max", "%d is out of range: a customer has at most %d identities; leave it out for no other limit", n.Max, MaxGroup)
		}
		switch {
		case n.Holding%time.Minute != 0:
			fail(path+".holding", "%v is not a whole number of minutes", n.Holding)
		case n.Holding < 0 || n.Holding > MaxHolding:
			fail(path+".holding", "%s is out of range: at most %s", FormatSpan(n.Holding), FormatSpan(MaxHolding))
		}
		n.Blocked = slices.Clone(n.Blocked)
		s.checkBlocked(n, path, fail)
	}
}

func (s *Schema) checkBlocked(n *Namespace, path string, fail func(path, format string, args ...any)) {
	if len(n.Blocked) == 0 {
		return
	}
	if len(n.Blocked) > maxBlocked {
		fail(path+".blocked", "there are %d: at most %d; one that ends in * stands for all that begin so", len(n.Blocked), maxBlocked)
		return
	}
	list := &blockList{ids: make(map[string]bool)}
	seen := make(map[string]int, len(n.Blocked))
	for i, entry := range n.Blocked {
		at := fmt.Sprintf("%s.blocked[%d]", path, i)
		small := smallLetters(entry)
		prefix, isPrefix := strings.CutSuffix(small, "*")
		_, err := ParseIdentity(n.ID + ":" + cmp.Or(prefix, small))
		switch first, twice := seen[small]; {
		case twice:
			fail(at, "%q is listed twice, first as blocked[%d]; letter case does not matter", entry, first)
		case entry == "":
			fail(at, "it is empty; an identity without id is never taken")
		case small == "*":
			fail(at, "* alone would block the whole namespace")
		case strings.HasPrefix(entry, n.ID+":"):
			fail(at, "%q begins with the namespace: write the id alone", entry)
		case err != nil && namespaceName.MatchString(n.ID):
			fail(at, "no identity could be blocked by it: %v", err)
		}
		seen[small] = i
		if isPrefix {
			list.prefixes = append(list.prefixes, prefix)
		} else {
			list.ids[small] = true
		}
	}
	if s.blocked == nil {
		s.blocked = make(map[string]*blockList)
	}
	s.blocked[n.ID] = list
}

// smallLetters returns s with a to z for A to Z. Other letters have more than two
// cases in some languages, and stay.
func smallLetters(s string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}
