package profilestore

import (
	"encoding/binary"
	"slices"
)

// ties are what a record says of whom its identity belongs to. They come from changes
// of identities, which are entries of the journal like events, but they have sequence
// numbers of their own: a change is written with its result, so the last one to name a
// record stands, whatever else has been applied.
type ties struct {
	// handovers are when the identity went from one customer to the next, ascending. In
	// the record of the identity's first node only.
	handovers []handover
	// group is the customer; nil where none was ever made. Its Epoch is the sequence
	// number of the change.
	group *Group
}

// handover begins the next node of an identity: an event belongs to it that happened
// at the time or later, and is logged in the journal after the handover itself. Those
// before were applied when nobody knew of it, and a replay must come to the same end.
type handover struct {
	seq  uint64 // in the journal
	time int64  // microseconds
}

// holder returns which of the identity's nodes an event belongs to: 0 for the first.
func (t *ties) holder(seq uint64, at int64) int {
	for i, h := range slices.Backward(t.handovers) {
		if seq > h.seq && at >= h.time {
			return i + 1
		}
	}
	return 0
}

// apply notes a change of identities in the record of a node, and reports whether it is
// new.
func (t *ties) apply(seq uint64, key string, c *tiesChange) (changed bool) {
	if c.recycled == key && (len(t.handovers) == 0 || t.handovers[len(t.handovers)-1].seq < seq) {
		t.handovers = append(slices.Clip(t.handovers), handover{seq, c.time})
		changed = true
	}
	if t.group != nil && t.group.Epoch >= seq {
		return changed
	}
	for _, g := range c.groups {
		if g.find(key) >= 0 {
			t.group = g
			return true
		}
	}
	return changed
}

// weight is an upper bound of the encoded size.
func (t *ties) weight() int {
	n := 16 + 20*len(t.handovers)
	if t.group != nil {
		n += t.group.weight()
	}
	return n
}

func (g *Group) weight() int {
	n := 32
	for i := range g.Members {
		n += 26 + len(g.Members[i].key)
	}
	for i := range g.Links {
		n += 16 + len(g.Links[i].Reason)
	}
	for i := range g.Apart {
		n += 20 + len(g.Apart[i].b) + len(g.Apart[i].Reason)
	}
	return n
}

func (t *ties) encode(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(t.handovers)))
	for _, h := range t.handovers {
		dst = binary.AppendUvarint(dst, h.seq)
		dst = binary.AppendVarint(dst, h.time)
	}
	dst = append(dst, bit(t.group != nil))
	if t.group == nil {
		return dst
	}
	dst = binary.AppendUvarint(dst, t.group.Epoch)
	return t.group.encode(dst)
}

func (r *reader) ties() (t ties) {
	if n := r.count(2); n > 0 {
		t.handovers = make([]handover, n)
	}
	for i := range t.handovers {
		t.handovers[i] = handover{r.uvarint(), r.varint()}
		r.bad = r.bad || i > 0 && t.handovers[i].seq <= t.handovers[i-1].seq
	}
	if r.bit() {
		epoch := r.uvarint()
		if t.group = r.group(); t.group != nil {
			t.group.Epoch = epoch
		}
	}
	return t
}

// encode appends the group without its epoch.
func (g *Group) encode(dst []byte) []byte {
	text := func(s string) {
		dst = binary.AppendUvarint(dst, uint64(len(s)))
		dst = append(dst, s...)
	}
	dst = binary.AppendUvarint(dst, uint64(len(g.Members)))
	for _, m := range g.Members {
		text(m.key)
		dst = binary.AppendVarint(dst, m.Since)
		dst = binary.AppendVarint(dst, m.Until)
	}
	dst = binary.AppendUvarint(dst, uint64(len(g.Links)))
	for _, l := range g.Links {
		dst = append(dst, byte(g.find(l.a)), byte(g.find(l.b)))
		dst = binary.AppendVarint(dst, l.Time)
		text(l.Reason)
	}
	dst = binary.AppendUvarint(dst, uint64(len(g.Apart)))
	for _, x := range g.Apart {
		dst = append(dst, byte(g.find(x.a)))
		text(x.b)
		dst = binary.AppendVarint(dst, x.Time)
		text(x.Reason)
	}
	return dst
}

// group reads what encode wrote; nil after a mistake.
func (r *reader) group() *Group {
	text := func() string { return string(r.bytes(r.count(1))) }
	g := &Group{Members: make([]Member, r.count(3))}
	for i := range g.Members {
		key := text()
		r.bad = r.bad || key == "" || g.find(key) >= 0
		g.Members[i] = Member{Identity: identityOf(key), Since: r.varint(), Until: r.varint(), key: key}
	}
	member := func() string {
		i := int(r.byte())
		if i >= len(g.Members) {
			r.bad = true
			return ""
		}
		return g.Members[i].key
	}
	if n := r.count(4); n > 0 {
		g.Links = make([]Link, n)
	}
	for i := range g.Links {
		l := Link{a: member(), b: member(), Time: r.varint(), Reason: text()}
		l.A, l.B = identityOf(l.a), identityOf(l.b)
		g.Links[i] = l
	}
	if n := r.count(4); n > 0 {
		g.Apart = make([]Separation, n)
	}
	for i := range g.Apart {
		x := Separation{a: member(), b: text(), Time: r.varint(), Reason: text()}
		x.A, x.B = identityOf(x.a), identityOf(x.b)
		g.Apart[i] = x
	}
	if r.bad = r.bad || len(g.Members) == 0 || len(g.Members) > 255; r.bad {
		return nil
	}
	return g
}
