package profilestore

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

const (
	// MaxSeparations is how many separations the identities of a customer have at most.
	MaxSeparations = 32
	// MaxReason is the greatest length of the reason for a change of identities, in bytes.
	MaxReason = 200
)

// Group is a set of identities that are one customer: all that are connected by links,
// directly or through others. It is immutable.
//
// Links are kept as they were said, and who belongs together follows from them. So
// taking one back has the same result as if it had never been. Every
// member's record has a copy of its whole group, so that one read tells all of it,
// and a reader never meets a group that is half changed.
//
// A weak identity, such as a cookie of a browser that a family shares, follows one
// customer and never joins two: among those that are not weak, only links that name no
// weak one connect. Of the links of a weak identity the oldest decides.
type Group struct {
	// Epoch is the sequence number in the journal of the change that made the group; 0
	// for an identity that has always been alone.
	Epoch   uint64
	Members []Member // in the order of the schema's namespaces, then by name
	Links   []Link   // between members
	Apart   []Separation
}

// Member is an identity of a customer.
type Member struct {
	Identity string
	// Since and Until bound the time for which the customer had it, in microseconds
	// since the Unix epoch; 0: open. A telephone number that was given up and is another
	// customer's now has an Until.
	Since, Until int64

	key string
}

// Link says that two identities are the same customer.
type Link struct {
	A, B   string
	Time   int64 // when it was said, microseconds
	Reason string

	a, b string // keys
}

// Separation says that two identities are not the same customer. What would join them
// is refused.
type Separation struct {
	A, B   string // A is a member
	Time   int64
	Reason string

	a, b string // keys
}

// A node is what has a record: an identity, for the time that one customer has it. The
// key of the first is the identity; of one that begins with the n-th handover, the
// identity, a byte that no identity has, and n.
const nodeSeparator = "\x00"

func nodeKey(identity string, handovers int) string {
	if handovers == 0 {
		return identity
	}
	return identity + nodeSeparator + strconv.Itoa(handovers)
}

// identityOf returns the identity of a node's key.
func identityOf(key string) string {
	identity, _, _ := strings.Cut(key, nodeSeparator)
	return identity
}

// alone is the group of a node that was never linked.
func alone(key string, since int64) *Group {
	return &Group{Members: []Member{{Identity: identityOf(key), Since: since, key: key}}}
}

// epoch returns the group's epoch, 0 for that of a node without.
func (g *Group) epoch() uint64 {
	if g == nil {
		return 0
	}
	return g.Epoch
}

// find returns the place of a node among the members, or −1.
func (g *Group) find(key string) int {
	return slices.IndexFunc(g.Members, func(m Member) bool { return m.key == key })
}

// Customer returns the identity by which the customer is known: the first that it still
// has.
func (g *Group) Customer() string {
	for _, m := range g.Members {
		if m.Until == 0 {
			return m.Identity
		}
	}
	return g.Members[0].Identity
}

// linked returns the place of the link of two nodes, or −1.
func (g *Group) linked(a, b string) int {
	return slices.IndexFunc(g.Links, func(l Link) bool { return l.a == a && l.b == b || l.a == b && l.b == a })
}

// apart returns the place of the separation of a member from another node, or −1.
func (g *Group) apart(a, b string) int {
	return slices.IndexFunc(g.Apart, func(s Separation) bool { return s.a == a && s.b == b })
}

// order sorts members by their namespaces, then by name.
func (s *Schema) order(members []Member) {
	slices.SortFunc(members, func(a, b Member) int {
		return cmp.Or(cmp.Compare(s.rank(a.Identity), s.rank(b.Identity)), cmp.Compare(a.Identity, b.Identity), cmp.Compare(a.Since, b.Since))
	})
}

// rank is the place of an identity's namespace in the order of a group.
func (s *Schema) rank(identity string) int {
	_, place, ok := s.Namespace(namespaceOf(identity))
	if !ok && namespaceOf(identity) == DefaultNamespace {
		return -1
	}
	return place
}

func (s *Schema) weak(identity string) bool {
	n, _, _ := s.Namespace(namespaceOf(identity))
	return n.Weak
}

// join returns the group of two, or of one, with one more link.
func (s *Schema) join(a, b *Group, l Link) (*Group, error) {
	g := &Group{Members: slices.Clone(a.Members), Links: append(slices.Clone(a.Links), l), Apart: slices.Clone(a.Apart)}
	if a != b {
		for _, x := range a.Apart {
			if b.find(x.b) >= 0 {
				return nil, refuseLink(LinkSeparated, "%s and %s have been separated%s: reconcile them first", x.A, x.B, because(x.Reason))
			}
		}
		g.Members = append(g.Members, b.Members...)
		g.Links = append(g.Links, b.Links...)
		g.Apart = append(g.Apart, b.Apart...)
		s.order(g.Members)
	}
	slices.SortStableFunc(g.Links, func(a, b Link) int { return cmp.Compare(a.Time, b.Time) })
	if parts := s.parts(g); len(parts) > 1 {
		return nil, refuseLink(LinkWeak, "%s or %s is a weak identity, which never joins two customers: %s and %s would become one; unlink it from the other first",
			l.A, l.B, a.Customer(), b.Customer())
	}
	if n := len(g.Members); n > MaxGroup {
		return nil, refuseLink(LinkGroupFull, "the customer would have %d identities, at most %d are possible: %s", n, MaxGroup, g.list())
	}
	if n := len(g.Apart); n > MaxSeparations {
		return nil, refuseLink(LinkTooMany, "the customer would have %d separations, at most %d are possible", n, MaxSeparations)
	}
	if err := s.checkMax(g, l); err != nil {
		return nil, err
	}
	return g, nil
}

// checkMax returns an error if a group has more of a namespace than it may.
func (s *Schema) checkMax(g *Group, l Link) error {
	for _, m := range g.Members {
		name := namespaceOf(m.Identity)
		namespace, _, _ := s.Namespace(name)
		if namespace.Max == 0 {
			continue
		}
		n := 0
		for _, other := range g.Members {
			if other.Until == 0 && namespaceOf(other.Identity) == name {
				n++
			}
		}
		if n > namespace.Max {
			return refuseLink(LinkNamespaceFull, "with %s and %s linked the customer would have %d of namespace %s, at most %d are possible: %s",
				l.A, l.B, n, name, namespace.Max, g.list())
		}
	}
	return nil
}

// parts divides a group by what its links connect, each part with its own links and
// separations, in the order of their first members. Links of a weak identity to others
// than its own customer are dropped.
func (s *Schema) parts(g *Group) []*Group {
	of := make([]int, len(g.Members)) // the part of each member
	strong := make([]bool, len(g.Members))
	firm := slices.Clone(strong) // whether a part has a strong member, by its number
	for i := range of {
		of[i] = i
		strong[i] = !s.weak(g.Members[i].Identity)
		firm[i] = strong[i]
	}
	unite := func(a, b int) {
		into, from := of[a], of[b]
		for i := range of {
			if of[i] == from {
				of[i] = into
			}
		}
		firm[into] = firm[into] || firm[from]
	}
	for _, l := range g.Links {
		if a, b := g.find(l.a), g.find(l.b); strong[a] && strong[b] {
			unite(a, b)
		}
	}
	for _, l := range g.Links { // by time
		if a, b := g.find(l.a), g.find(l.b); of[a] != of[b] && !(firm[of[a]] && firm[of[b]]) {
			unite(a, b)
		}
	}
	var parts []*Group
	for i := range of {
		if slices.Contains(of[:i], of[i]) {
			continue
		}
		part := &Group{}
		for k := range of {
			if of[k] == of[i] {
				part.Members = append(part.Members, g.Members[k])
			}
		}
		for _, l := range g.Links {
			if part.find(l.a) >= 0 && part.find(l.b) >= 0 {
				part.Links = append(part.Links, l)
			}
		}
		for _, x := range g.Apart {
			if part.find(x.a) >= 0 {
				part.Apart = append(part.Apart, x)
			}
		}
		parts = append(parts, part)
	}
	return parts
}

// without returns the parts of a group without some of its links.
func (s *Schema) without(g *Group, drop func(Link) bool) []*Group {
	less := &Group{Members: g.Members, Links: slices.DeleteFunc(slices.Clone(g.Links), drop), Apart: g.Apart}
	return s.parts(less)
}

// withSeparation returns the group with one more separation, which replaces one of the
// same two.
func (g *Group) withSeparation(x Separation) (*Group, error) {
	next := g.withoutSeparation(x.a, x.b)
	if len(next.Apart) >= MaxSeparations {
		return nil, refuseLink(LinkTooMany, "the customer of %s has %d separations already, at most %d are possible: reconcile some", x.A, len(next.Apart), MaxSeparations)
	}
	next.Apart = append(next.Apart, x)
	return next, nil
}

func (g *Group) withoutSeparation(a, b string) *Group {
	next := *g
	next.Apart = slices.DeleteFunc(slices.Clone(g.Apart), func(x Separation) bool { return x.a == a && x.b == b })
	return &next
}

// ended returns the group in which a member has been given up.
func (g *Group) ended(key string, at int64) *Group {
	next := *g
	next.Members = slices.Clone(g.Members)
	next.Members[g.find(key)].Until = at
	return &next
}

// list names the members.
func (g *Group) list() string {
	var names []string
	for _, m := range g.Members {
		names = append(names, m.Identity)
	}
	return strings.Join(names, ", ")
}

func because(reason string) string {
	if reason == "" {
		return ""
	}
	return fmt.Sprintf(" (%s)", reason)
}
