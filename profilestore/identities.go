package profilestore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"rapport/profilestore/journal"
)

// identityQueue lets one caller of ChangeIdentities at a time decide, for all that have
// come by then: what one change finds is what those before it have made.
type identityQueue struct {
	turn    chan struct{} // holds one token while somebody decides
	mu      sync.Mutex
	waiting []*identityCall
}

type identityCall struct {
	changes []IdentityChange
	results []IdentityResult
	err     error
	done    chan struct{}
}

// ChangeIdentities changes who belongs together, in order, each change by itself. When
// it returns without error, those that are in effect are durable, and the next View
// shows them; those refused have changed nothing.
//
// After an error none is known to be in effect, and some may be: making them all again
// is safe. A context that ends before they are decided leaves everything as it was.
func (s *Store) ChangeIdentities(ctx context.Context, changes []IdentityChange) ([]IdentityResult, error) {
	call := &identityCall{changes: changes, done: make(chan struct{})}
	q := &s.identities
	q.mu.Lock()
	q.waiting = append(q.waiting, call)
	q.mu.Unlock()
	select {
	case <-call.done:
		return call.results, call.err
	case <-ctx.Done():
		if q.leave(call) {
			return nil, ctx.Err()
		}
		<-call.done
		return call.results, call.err
	case q.turn <- struct{}{}:
	}
	q.mu.Lock()
	calls := q.waiting
	q.waiting = nil
	q.mu.Unlock()
	s.decideIdentities(calls)
	for _, c := range calls {
		close(c.done)
	}
	<-q.turn
	<-call.done // another may have had it
	return call.results, call.err
}

// leave takes a call out of the queue, unless it is being decided already.
func (q *identityQueue) leave(call *identityCall) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	i := slices.Index(q.waiting, call)
	if i >= 0 {
		q.waiting = slices.Delete(q.waiting, i, i+1)
	}
	return i >= 0
}

// Group returns the customer who has an identity, which is in canonical form.
func (s *Store) Group(ctx context.Context, identity string) (*Group, error) {
	v, err := s.View(ctx, identity)
	if err != nil {
		return nil, err
	}
	return v.Group(), nil
}

// Group returns the identities of the customer.
func (v *View) Group() *Group {
	if v.group == nil {
		return alone(v.members[0].key, 0)
	}
	return v.group
}

// Customer returns the identity by which the customer is known: the same for whichever
// identity the view was asked for. It is empty for an EmptyView.
func (v *View) Customer() string {
	if v.group == nil {
		return identityOf(v.members[0].key)
	}
	return v.group.Customer()
}

// IdentityEpoch returns which change made the customer's group what it is: Group().Epoch,
// without making one.
func (v *View) IdentityEpoch() uint64 { return v.group.epoch() }

// decideIdentities carries out the changes of several callers.
func (s *Store) decideIdentities(calls []*identityCall) {
	s.closing.RLock()
	defer s.closing.RUnlock()
	err := s.Err()
	if s.closed {
		err = ErrClosed
	}
	d := identityDecision{store: s, groups: make(map[string]*Group), handovers: make(map[string][]handover), now: s.clock()}
	var entries []*journal.Entry
	var groups [][]*Group // of each change
	applied := &ingestCall{}
	for _, call := range calls {
		call.results = make([]IdentityResult, len(call.changes))
		for i, c := range call.changes {
			if err != nil {
				break
			}
			var made *tiesChange
			var found []*Group
			made, found, call.results[i], err = d.decide(c)
			groups = append(groups, found)
			if made == nil || err != nil {
				continue
			}
			p := &pendingTies{change: made, keys: made.keys(), call: applied}
			applied.wait.Add(len(p.keys))
			entries = append(entries, &journal.Entry{Payload: made.encode(nil), Tag: p})
		}
	}
	if err == nil && len(entries) > 0 {
		// Not the context of one caller: whether an entry is written must be known before
		// the next change is decided.
		if _, err = s.journal.Append(context.Background(), entries...); err == nil {
			applied.wait.Wait()
			err = s.Err()
		}
	}
	for _, call := range calls {
		if err != nil {
			call.results, call.err = nil, err
			continue
		}
		for i := range call.results {
			for _, g := range groups[0] { // they have their epochs now
				call.results[i].Groups = append(call.results[i].Groups, *g)
			}
			groups = groups[1:]
		}
	}
}

// pendingTies is a change of identities on its way from the journal to its records.
type pendingTies struct {
	change *tiesChange
	keys   []string
	call   *ingestCall
}

// identityDecision is what a series of changes finds: the ties of the nodes that they
// name, as those before have left them.
type identityDecision struct {
	store     *Store
	now       int64
	groups    map[string]*Group     // by key of the node
	handovers map[string][]handover // by identity
}

// decide returns what a change makes, nil if nothing, the groups of the identities that
// it names afterwards, and the result without those. An error is one of the store.
func (d *identityDecision) decide(c IdentityChange) (made *tiesChange, groups []*Group, result IdentityResult, err error) {
	made, keys, err := d.try(&c)
	if refused, ok := errors.AsType[*LinkError](err); ok {
		return nil, nil, IdentityResult{Err: refused}, nil
	}
	if err != nil {
		return nil, nil, IdentityResult{}, err
	}
	if made != nil {
		for _, g := range made.groups {
			for _, m := range g.Members {
				d.groups[m.key] = g
			}
		}
	}
	for _, key := range keys {
		if !slices.ContainsFunc(groups, func(g *Group) bool { return g.find(key) >= 0 }) {
			groups = append(groups, d.groups[key])
		}
	}
	return made, groups, IdentityResult{Changed: made != nil}, nil
}

func (d *identityDecision) try(c *IdentityChange) (made *tiesChange, keys []string, err error) {
	schema := d.store.schema
	if c.Time == 0 {
		c.Time = d.now
	}
	if c.Time < minTime || c.Time > d.now+MaxFuture.Microseconds() {
		return nil, nil, refuseLink(LinkInvalid, "the time %s is more than %v in the future, or before the year 1", Time(c.Time), MaxFuture)
	}
	if len(c.Reason) > MaxReason {
		return nil, nil, refuseLink(LinkInvalid, "the reason has %d bytes: at most %d", len(c.Reason), MaxReason)
	}
	single := c.Op == OpRecycle || c.Op == OpUnlink && c.B == ""
	names := []*string{&c.A, &c.B}
	if single {
		if c.B != "" {
			return nil, nil, refuseLink(LinkInvalid, "one identity is given up, not two: %.80q and %.80q", c.A, c.B)
		}
		names = names[:1]
	}
	for _, name := range names {
		if *name, err = ParseIdentity(*name); err != nil {
			return nil, nil, refuseLink(LinkInvalid, "%v", err)
		}
		// A link that was made before its identity was blocked must be possible to take back.
		if why, blocked := schema.BlockedIdentity(*name); blocked && c.Op == OpLink {
			return nil, nil, refuseLink(LinkBlocked, "%s", why)
		}
		key, err := d.current(*name)
		if err != nil {
			return nil, nil, err
		}
		if !slices.Contains(keys, key) {
			keys = append(keys, key)
		}
	}
	if !single && len(keys) == 1 {
		return nil, nil, refuseLink(LinkInvalid, "%s is given twice: two identities are needed", c.A)
	}
	made = &tiesChange{op: c.Op, a: c.A, b: c.B, time: c.Time, logged: d.now, reason: c.Reason}
	switch c.Op {
	case OpLink:
		made.groups, err = d.link(c, keys[0], keys[1])
	case OpUnlink:
		made.groups, err = d.unlink(c, keys)
	case OpSeparate:
		made.groups, err = d.separate(c, keys[0], keys[1])
	case OpReconcile:
		made.groups = d.reconcile(keys[0], keys[1])
	case OpRecycle:
		made.recycled = c.A
		made.groups, err = d.recycle(c, keys[0])
		if made.groups != nil {
			keys = append(keys, nodeKey(c.A, len(d.handovers[c.A])))
		}
	default:
		return nil, nil, refuseLink(LinkInvalid, "there is no change of identities with number %d", c.Op)
	}
	if err != nil || made.groups == nil {
		return nil, keys, err
	}
	return made, keys, nil
}

// current returns the node that an identity is now, and makes its group known.
func (d *identityDecision) current(identity string) (string, error) {
	handovers, ok := d.handovers[identity]
	if !ok {
		g, read, err := d.read(identity)
		if err != nil {
			return "", err
		}
		handovers = read
		d.handovers[identity] = read
		if _, ok := d.groups[identity]; !ok {
			d.groups[identity] = g
		}
	}
	key := nodeKey(identity, len(handovers))
	if _, ok := d.groups[key]; !ok {
		g, _, err := d.read(key)
		if err != nil {
			return "", err
		}
		d.groups[key] = g
	}
	return key, nil
}

// read reads the ties of a node. What was decided before is in the records: see
// decideIdentities.
func (d *identityDecision) read(key string) (*Group, []handover, error) {
	record, found, err := d.store.engine.Get(context.Background(), []byte(key), nil)
	var x *delta
	if err == nil && found {
		x, err = decodeRecord(key, record)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("profilestore: %s: delta record: %w", identityOf(key), err)
	}
	if g := x.customer(); g != nil {
		if g.find(key) < 0 {
			return nil, nil, fmt.Errorf("profilestore: %s: %w: it has the group of others", identityOf(key), errDelta)
		}
		return g, x.ties.handovers, nil
	}
	if x == nil {
		return alone(key, 0), nil, nil
	}
	return alone(key, 0), x.ties.handovers, nil
}

func (d *identityDecision) link(c *IdentityChange, a, b string) ([]*Group, error) {
	g, h := d.groups[a], d.groups[b]
	if g.linked(a, b) >= 0 {
		return nil, nil
	}
	for _, key := range [...]string{a, b} {
		if err := d.held(c, key); err != nil {
			return nil, err
		}
	}
	if g.find(b) >= 0 {
		h = g // it may be another copy
	}
	joined, err := d.store.schema.join(g, h, Link{A: c.A, B: c.B, Time: c.Time, Reason: c.Reason, a: a, b: b})
	if err != nil {
		return nil, err
	}
	return []*Group{joined}, nil
}

// held returns an error if an identity was given up so short a time before a link that
// nobody can have it yet.
func (d *identityDecision) held(c *IdentityChange, key string) error {
	g := d.groups[key]
	m := &g.Members[g.find(key)]
	namespace, _, _ := d.store.schema.Namespace(namespaceOf(m.Identity))
	if end := m.Since + namespace.Holding.Microseconds(); m.Since != 0 && c.Time < end {
		return refuseLink(LinkHolding, "%s was given up at %s and can't be linked again until %s: namespace %s has a holding period of %s",
			m.Identity, Time(m.Since), Time(end), namespace.ID, FormatSpan(namespace.Holding))
	}
	return nil
}

func (d *identityDecision) unlink(c *IdentityChange, keys []string) ([]*Group, error) {
	g := d.groups[keys[0]]
	drop := func(l Link) bool { return l.a == keys[0] || l.b == keys[0] }
	if len(keys) == 2 {
		switch {
		case g.find(keys[1]) < 0:
			return nil, nil
		case g.linked(keys[0], keys[1]) < 0:
			return nil, refuseLink(LinkNotLinked, "%s and %s are joined, but have no link with each other: unlink others of %s", c.A, c.B, g.list())
		}
		drop = func(l Link) bool {
			return l.a == keys[0] && l.b == keys[1] || l.a == keys[1] && l.b == keys[0]
		}
	} else if !slices.ContainsFunc(g.Links, drop) {
		return nil, nil
	}
	return d.store.schema.without(g, drop), nil
}

func (d *identityDecision) separate(c *IdentityChange, a, b string) ([]*Group, error) {
	g, h := d.groups[a], d.groups[b]
	if g.apart(a, b) >= 0 {
		return nil, nil
	}
	var others []*Group
	if g.find(b) >= 0 {
		parts := d.store.schema.without(g, func(l Link) bool { return l.a == a && l.b == b || l.a == b && l.b == a })
		for _, p := range parts {
			switch inA, inB := p.find(a) >= 0, p.find(b) >= 0; {
			case inA && inB:
				return nil, refuseLink(LinkJoined, "%s and %s are joined through other identities too: unlink those first, of %s", c.A, c.B, g.list())
			case inA:
				g = p
			case inB:
				h = p
			default:
				others = append(others, p)
			}
		}
	}
	g, err := g.withSeparation(Separation{A: c.A, B: c.B, Time: c.Time, Reason: c.Reason, a: a, b: b})
	if err != nil {
		return nil, err
	}
	h, err = h.withSeparation(Separation{A: c.B, B: c.A, Time: c.Time, Reason: c.Reason, a: b, b: a})
	if err != nil {
		return nil, err
	}
	return append([]*Group{g, h}, others...), nil
}

func (d *identityDecision) reconcile(a, b string) []*Group {
	g, h := d.groups[a], d.groups[b]
	if g.apart(a, b) < 0 {
		return nil
	}
	return []*Group{g.withoutSeparation(a, b), h.withoutSeparation(b, a)}
}

func (d *identityDecision) recycle(c *IdentityChange, key string) ([]*Group, error) {
	g := d.groups[key]
	switch m := &g.Members[g.find(key)]; {
	case c.Time == m.Since:
		return nil, nil
	case c.Time < m.Since:
		return nil, refuseLink(LinkInvalid, "%s was given up at %s already: a later time is needed, not %s", c.A, Time(m.Since), Time(c.Time))
	}
	handovers := append(slices.Clone(d.handovers[c.A]), handover{time: c.Time})
	d.handovers[c.A] = handovers
	return []*Group{g.ended(key, c.Time), alone(nodeKey(c.A, len(handovers)), c.Time)}, nil
}
