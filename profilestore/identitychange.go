package profilestore

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// IdentityOp is a way to change who belongs together.
type IdentityOp uint8

// The changes of identities.
const (
	OpLink      IdentityOp = iota // A and B are the same customer
	OpUnlink                      // takes back the link of A and B; where B is empty, every link of A
	OpSeparate                    // A and B are not the same customer: takes back their link, and refuses what would join them
	OpReconcile                   // takes a separation back
	OpRecycle                     // A's holder gave it up at Time: what happens from then on is another customer's
)

// IdentityChange is one change of who belongs together.
type IdentityChange struct {
	Op   IdentityOp
	A, B string // identities as people write them, see ParseIdentity
	// Time is when it was said, for OpRecycle when the identity was given up, in
	// microseconds since the Unix epoch; 0 for now.
	Time   int64
	Reason string // who said so, by which evidence; at most MaxReason bytes
}

// IdentityResult is what became of one change.
type IdentityResult struct {
	Changed bool    // false: it was so already, or was refused
	Groups  []Group // of A and of B afterwards; one where they are in the same
	Err     error   // a *LinkError: why it was refused
}

// LinkErrorKind is a reason to refuse a change of identities.
type LinkErrorKind uint8

// The reasons.
const (
	LinkInvalid       LinkErrorKind = iota // the change itself makes no sense
	LinkBlocked                            // an identity means nobody
	LinkGroupFull                          // the customer would have more than MaxGroup identities
	LinkNamespaceFull                      // or more of a namespace than it may
	LinkWeak                               // a weak identity would join two customers
	LinkSeparated                          // the two have been separated
	LinkHolding                            // an identity was given up too short a time ago
	LinkTooMany                            // the customer would have too many separations
	LinkNotLinked                          // the two are joined, but not by a link of theirs
	LinkJoined                             // to be separated, the two would have to lose other links first
)

// A LinkError says why a change of identities was refused.
type LinkError struct {
	Kind    LinkErrorKind
	Message string
}

func (e *LinkError) Error() string { return e.Message }

func refuseLink(kind LinkErrorKind, format string, args ...any) error {
	return &LinkError{Kind: kind, Message: fmt.Sprintf(format, args...)}
}

// tiesChange is a change of identities with its result: what the journal keeps of it.
// With the result, a replay needs no other record than the one it changes, and
// does not depend on what the rules say later. It is immutable.
type tiesChange struct {
	op     IdentityOp
	a, b   string // identities
	time   int64  // of the change
	logged int64
	reason string

	recycled string   // the identity whose node a handover ends; empty if none
	groups   []*Group // all groups that are new; their epoch is the entry's number
}

// keys returns the nodes whose records change.
func (c *tiesChange) keys() []string {
	var keys []string
	first := c.recycled == ""
	for _, g := range c.groups {
		for _, m := range g.Members {
			keys = append(keys, m.key)
			first = first || m.key == c.recycled
		}
	}
	if !first {
		keys = append(keys, c.recycled)
	}
	return keys
}

// tiesFormat is the first byte of a change of identities in the journal, see
// eventFormat.
const tiesFormat = 2

var errTies = errors.New("profilestore: a change of identities in the journal can't be read")

func (c *tiesChange) encode(dst []byte) []byte {
	text := func(s string) {
		dst = binary.AppendUvarint(dst, uint64(len(s)))
		dst = append(dst, s...)
	}
	dst = append(dst, tiesFormat, byte(c.op))
	dst = binary.AppendVarint(dst, c.time)
	dst = binary.AppendVarint(dst, c.logged)
	for _, s := range [...]string{c.a, c.b, c.reason, c.recycled} {
		text(s)
	}
	dst = binary.AppendUvarint(dst, uint64(len(c.groups)))
	for _, g := range c.groups {
		dst = g.encode(dst)
	}
	return dst
}

// decodeTies reads what encode wrote. It keeps nothing of b.
func decodeTies(b []byte) (*tiesChange, error) {
	if len(b) < 2 || b[0] != tiesFormat {
		return nil, errTies
	}
	r := reader{b: b[2:]}
	c := &tiesChange{op: IdentityOp(b[1]), time: r.varint(), logged: r.varint()}
	for _, s := range [...]*string{&c.a, &c.b, &c.reason, &c.recycled} {
		*s = string(r.bytes(r.count(1)))
	}
	n := r.count(4)
	for range n {
		g := r.group()
		if g == nil {
			return nil, errTies
		}
		c.groups = append(c.groups, g)
	}
	if r.bad || len(r.b) != 0 {
		return nil, errTies
	}
	return c, nil
}
