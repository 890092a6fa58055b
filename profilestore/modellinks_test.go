package profilestore_test

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"pgregory.net/rapid"

	"rapport/profilestore"
)

// busiest are the identities that events of the model name.
var busiest = []string{"customer:1", "customer:1", "customer:1", "customer:2", "customer:2", "customer:3", "msisdn:1", "msisdn:1", "msisdn:2", "cookie:1"}

// A node of the model is an identity for the time that one customer has it: its name is
// the identity, for the second holder msisdn:1#1, and so on.

func identity(node string) string {
	name, _, _ := strings.Cut(node, "#")
	return name
}

func nodeName(identity string, holders int) string {
	if holders == 0 {
		return identity
	}
	return identity + "#" + strconv.Itoa(holders)
}

// node returns who has an identity now.
func (m *model) node(identity string) string { return nodeName(identity, len(m.ends[identity])) }

// holder returns who had an identity at a time, as far as is known now.
func (m *model) holder(identity string, at int64) string {
	n := 0
	for i, end := range m.ends[identity] {
		if at >= end {
			n = i + 1
		}
	}
	return nodeName(identity, n)
}

// since returns when a node began, 0 for the first.
func (m *model) since(node string) int64 {
	_, n, second := strings.Cut(node, "#")
	if !second {
		return 0
	}
	i, _ := strconv.Atoi(n)
	return m.ends[identity(node)][i-1]
}

func (m *model) ended(node string) bool { return m.node(identity(node)) != node }

// modelLink is a link that stands.
type modelLink struct {
	a, b string // nodes
	time int64
}

func (l modelLink) of(a, b string) bool { return l.a == a && l.b == b || l.a == b && l.b == a }

func (l modelLink) weak() bool { return weak(l.a) || weak(l.b) }

func weak(node string) bool { return strings.HasPrefix(node, "cookie:") }

// group returns who is one customer with a node: all that links without weak ends
// connect, and each weak one of which the oldest link leads there.
func (m *model) group(node string) []string {
	of := make(map[string]string) // the customer of each node, by a name of its own
	name := func(n string) string { return cmp.Or(of[n], n) }
	join := func(a, b string) {
		from, to := name(a), name(b)
		for _, l := range m.links {
			for _, n := range []string{l.a, l.b} {
				if name(n) == from {
					of[n] = to
				}
			}
		}
	}
	links := slices.Clone(m.links)
	slices.SortStableFunc(links, func(a, b modelLink) int { return cmp.Compare(a.time, b.time) })
	for _, l := range links {
		if !l.weak() {
			join(l.a, l.b)
		}
	}
	hasStrong := func(n string) bool {
		return !weak(n) || slices.ContainsFunc(links, func(l modelLink) bool {
			return !weak(l.a) && name(l.a) == name(n) || !weak(l.b) && name(l.b) == name(n)
		})
	}
	for _, l := range links {
		if name(l.a) != name(l.b) && !(hasStrong(l.a) && hasStrong(l.b)) {
			join(l.a, l.b)
		}
	}
	out := []string{node}
	for _, l := range links {
		for _, n := range []string{l.a, l.b} {
			if name(n) == name(node) && !slices.Contains(out, n) {
				out = append(out, n)
			}
		}
	}
	slices.SortFunc(out, func(a, b string) int {
		return cmp.Or(cmp.Compare(slices.Index(modelIdentities, identity(a)), slices.Index(modelIdentities, identity(b))), cmp.Compare(a, b))
	})
	return out
}

// lead returns the name of a customer.
func (m *model) lead(nodes []string) string {
	for _, n := range nodes {
		if !m.ended(n) {
			return identity(n)
		}
	}
	return identity(nodes[0])
}

// settle drops the links that connect nobody.
func (m *model) settle() (dropped bool) {
	n := len(m.links)
	groups := make(map[string][]string)
	for _, l := range m.links {
		groups[l.a] = m.group(l.a)
	}
	m.links = slices.DeleteFunc(m.links, func(l modelLink) bool { return !slices.Contains(groups[l.a], l.b) })
	return len(m.links) < n
}

// change makes a change, or says as what it must be refused, −1 if not at all.
func (s *schedule) change(c profilestore.IdentityChange) (changed bool, refused profilestore.LinkErrorKind, isRefused bool) {
	m := s.m
	a, b := m.node(c.A), ""
	if c.B != "" {
		b = m.node(c.B)
	}
	refuse := func(kind profilestore.LinkErrorKind, as string) (bool, profilestore.LinkErrorKind, bool) {
		s.had["refused: "+as] = true
		return false, kind, true
	}
	together := func() bool { return slices.Contains(m.group(a), b) }
	linked := func(l modelLink) bool { return l.of(a, b) }
	had := func(what string) { s.had[what] = true }
	switch c.Op {
	case profilestore.OpLink:
		if slices.ContainsFunc(m.links, linked) {
			return false, 0, false
		}
		for _, n := range []string{a, b} {
			if m.since(n) != 0 && strings.HasPrefix(n, "msisdn:") && c.Time < m.since(n)+12*hour {
				return refuse(profilestore.LinkHolding, "the holding period")
			}
		}
		ga, gb := m.group(a), m.group(b)
		if !together() {
			for _, x := range ga {
				for _, y := range gb {
					if m.apart[[2]string{x, y}] {
						return refuse(profilestore.LinkSeparated, "separated")
					}
				}
			}
			strong := func(n string) bool { return !weak(n) }
			if (weak(a) || weak(b)) && slices.ContainsFunc(ga, strong) && slices.ContainsFunc(gb, strong) {
				return refuse(profilestore.LinkWeak, "a weak identity")
			}
			if len(ga)+len(gb) > 8 {
				return refuse(profilestore.LinkGroupFull, "too many")
			}
			customers := 0
			for _, n := range slices.Concat(ga, gb) {
				if strings.HasPrefix(n, "customer:") && !m.ended(n) {
					customers++
				}
			}
			if customers > 2 {
				return refuse(profilestore.LinkNamespaceFull, "too many of a namespace")
			}
			had("link")
		}
		m.links = append(m.links, modelLink{a, b, c.Time})
	case profilestore.OpUnlink:
		n := len(m.links)
		switch {
		case b == "":
			m.links = slices.DeleteFunc(m.links, func(l modelLink) bool { return l.a == a || l.b == a })
		case !together():
		case !slices.ContainsFunc(m.links, linked):
			return refuse(profilestore.LinkNotLinked, "joined by others")
		default:
			had("unlink")
			if len(m.events[a]) > 0 && len(m.events[b]) > 0 {
				had("unlink after events on both sides")
			}
			m.links = slices.DeleteFunc(m.links, linked)
		}
		if len(m.links) == n {
			return false, 0, false
		}
	case profilestore.OpSeparate:
		if m.apart[[2]string{a, b}] {
			return false, 0, false
		}
		before := m.links
		m.links = slices.DeleteFunc(slices.Clone(m.links), linked)
		if together() {
			m.links = before
			return refuse(profilestore.LinkJoined, "joined by others")
		}
		m.apart[[2]string{a, b}], m.apart[[2]string{b, a}] = true, true
		had("separation")
	case profilestore.OpReconcile:
		if !m.apart[[2]string{a, b}] {
			return false, 0, false
		}
		delete(m.apart, [2]string{a, b})
		delete(m.apart, [2]string{b, a})
		had("reconciliation")
	case profilestore.OpRecycle:
		switch since := m.since(a); {
		case c.Time == since:
			return false, 0, false
		case c.Time < since:
			return refuse(profilestore.LinkInvalid, "given up before")
		}
		m.ends[c.A] = append(m.ends[c.A], c.Time)
		had("recycling")
	}
	if m.settle() {
		had("a weak identity loses a link")
	}
	return true, 0, false
}

// identities changes who belongs together.
func (s *schedule) identities() {
	var changes []profilestore.IdentityChange
	for range rapid.IntRange(1, 5).Draw(s.T, "changes") {
		c := profilestore.IdentityChange{
			Op: rapid.SampledFrom([]profilestore.IdentityOp{
				profilestore.OpLink, profilestore.OpLink, profilestore.OpLink, profilestore.OpLink, profilestore.OpLink, profilestore.OpUnlink, profilestore.OpUnlink,
				profilestore.OpSeparate, profilestore.OpReconcile, profilestore.OpRecycle,
			}).Draw(s.T, "op"),
			A:    rapid.SampledFrom(modelIdentities).Draw(s.T, "a"),
			Time: s.h.now - rapid.SampledFrom([]int64{0, 0, 1, 100, 1500}).Draw(s.T, "said before")*minute,
		}
		switch {
		case c.Op == profilestore.OpRecycle:
			c.A = rapid.SampledFrom([]string{"msisdn:1", "msisdn:1", "msisdn:2"}).Draw(s.T, "given up")
		case c.Op == profilestore.OpUnlink && len(s.m.links) > 0 && rapid.IntRange(0, 3).Draw(s.T, "a link") > 0:
			links := s.m.links
			strong := slices.DeleteFunc(slices.Clone(links), func(l modelLink) bool { return l.weak() || !slices.Contains(s.m.group("cookie:1"), l.a) })
			if len(links)-len(strong) > 1 && len(strong) > 0 {
				links = strong // which divides the customers that a weak identity is linked with
			}
			l := rapid.SampledFrom(links).Draw(s.T, "link")
			c.A, c.B = identity(l.b), identity(l.a)
		case c.Op == profilestore.OpUnlink && rapid.Bool().Draw(s.T, "all"):
		case c.Op == profilestore.OpReconcile && len(s.m.apart) > 0 && rapid.Bool().Draw(s.T, "a separation"):
			pairs := slices.SortedFunc(maps.Keys(s.m.apart), func(a, b [2]string) int { return slices.Compare(a[:], b[:]) })
			pair := rapid.SampledFrom(pairs).Draw(s.T, "separation")
			c.A, c.B = identity(pair[0]), identity(pair[1])
		case c.Op == profilestore.OpLink && len(s.m.group("cookie:1")) > 1 && rapid.Bool().Draw(s.T, "to its own customer"):
			c.A = "cookie:1"
			c.B = identity(rapid.SampledFrom(slices.DeleteFunc(s.m.group("cookie:1"), weak)).Draw(s.T, "b"))
		default:
			for c.B = c.A; c.B == c.A; {
				c.B = rapid.SampledFrom(modelIdentities).Draw(s.T, "b")
			}
		}
		changes = append(changes, c)
	}
	if rapid.IntRange(0, 15).Draw(s.T, "a weak one between two") == 0 {
		for _, pair := range [][2]string{{"customer:1", "customer:2"}, {"cookie:1", "customer:1"}, {"customer:2", "cookie:1"}} {
			changes = append(changes, profilestore.IdentityChange{Op: profilestore.OpLink, A: pair[0], B: pair[1], Time: s.h.now})
		}
		changes = append(changes, profilestore.IdentityChange{Op: profilestore.OpUnlink, A: "customer:2", B: "customer:1", Time: s.h.now})
	}
	results, err := s.h.store.ChangeIdentities(context.Background(), changes)
	if err != nil {
		s.Fatal(err)
	}
	recycled := false
	for i, c := range changes {
		changed, kind, refused := s.change(c)
		recycled = recycled || changed && c.Op == profilestore.OpRecycle
		s.linked = s.linked || changed
		got := results[i]
		refusal, isRefused := errors.AsType[*profilestore.LinkError](got.Err)
		if isRefused != refused || refused && refusal.Kind != kind || got.Changed != changed {
			s.Fatalf("change %d, %+v: changed %v, %v, want %v, refused %v with %v", i, c, got.Changed, got.Err, changed, refused, kind)
		}
		for _, g := range got.Groups {
			members := s.members(&g)
			if want := s.m.group(members[0]); !slices.Equal(members, want) {
				s.Fatalf("change %d, %+v: group %v, want %v", i, c, members, want)
			}
		}
	}
	if recycled && rapid.IntRange(0, 2).Draw(s.T, "and a crash") == 0 {
		s.reopen(true, false) // whose replay meets events of before the handover
	}
}

// members returns the nodes of a group.
func (s *schedule) members(g *profilestore.Group) []string {
	out := make([]string, len(g.Members))
	for i, m := range g.Members {
		out[i] = nodeName(m.Identity, slices.Index(s.m.ends[m.Identity], m.Since)+1)
	}
	return out
}

// versions is around an engine and remembers every version of a record since it was
// opened. It can lose the newest ones, of each record as many as it likes, as a crash may.
type versions struct {
	profilestore.Engine
	mu     sync.Mutex
	latest map[string][]byte
	made   map[string][][]byte // the versions before, nil where there was no record
	closed bool                // a barrier is none that a crash would have met
}

func newVersions() *versions {
	return &versions{latest: make(map[string][]byte), made: make(map[string][][]byte)}
}

func (v *versions) around(e profilestore.Engine) *versions {
	v.Engine = e
	return v
}

func (v *versions) Apply(ctx context.Context, ops []profilestore.Op) error {
	for i := range ops {
		key, change := string(ops[i].Key), ops[i].Change
		ops[i].Change = func(old []byte) []byte {
			record := change(old)
			if record != nil {
				v.mu.Lock()
				defer v.mu.Unlock()
				v.made[key] = append(v.made[key], slices.Clone(old))
				v.latest[key] = slices.Clone(record)
			}
			return record
		}
	}
	return v.Engine.Apply(ctx, ops)
}

// Barrier implements profilestore.Engine: a crash takes nothing back behind it.
func (v *versions) Barrier(ctx context.Context) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.closed {
		clear(v.made)
	}
	return v.Engine.Barrier(ctx)
}

// crash takes records back to versions that they had since the engine was opened.
func (v *versions) crash(t *rapid.T, h *house) error {
	for _, key := range slices.Sorted(maps.Keys(v.made)) {
		if n := rapid.IntRange(0, len(v.made[key])).Draw(t, "version"); n < len(v.made[key]) {
			v.latest[key] = v.made[key][n]
		}
	}
	dir := filepath.Join(h.dir, "deltas")
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	engine, err := h.memory.Open(dir)
	if err != nil {
		return err
	}
	var ops []profilestore.Op
	for key, record := range v.latest {
		if record == nil {
			delete(v.latest, key)
			continue
		}
		ops = append(ops, profilestore.Op{Key: []byte(key), Change: func([]byte) []byte { return record }})
	}
	return errors.Join(engine.Apply(context.Background(), ops), engine.Close())
}
