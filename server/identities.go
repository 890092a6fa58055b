package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"buf.build/go/protovalidate"
	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"rapport/profilestore"
	rapportv1 "rapport/server/api/rapport/v1"
)

// LinkIdentities links identities. It leaves no audit record: links come by the
// million, as events do, and like theirs the journal is their record; who is linked
// to whom, when and why, GetIdentities says.
func (s profiles) LinkIdentities(ctx context.Context, req *connect.Request[rapportv1.LinkIdentitiesRequest]) (*connect.Response[rapportv1.LinkIdentitiesResponse], error) {
	c := s.newIdentityChanges(len(req.Msg.GetLinks()))
	for _, m := range req.Msg.GetLinks() {
		c.add(m, profilestore.OpLink, m.GetA(), m.GetB(), m.GetTime(), m.GetReason())
	}
	if err := c.apply(ctx); err != nil {
		return nil, err
	}
	return connect.NewResponse(&rapportv1.LinkIdentitiesResponse{Results: c.messages(req.Msg.GetOmitGroups())}), nil
}

// unlinkOp is what an action of the API does. One that does not exist is refused
// later, as every mistake of form.
func unlinkOp(a rapportv1.UnlinkAction) profilestore.IdentityOp {
	switch a {
	case rapportv1.UnlinkAction_UNLINK_ACTION_SEPARATE:
		return profilestore.OpSeparate
	case rapportv1.UnlinkAction_UNLINK_ACTION_RECONCILE:
		return profilestore.OpReconcile
	case rapportv1.UnlinkAction_UNLINK_ACTION_UNSPECIFIED, rapportv1.UnlinkAction_UNLINK_ACTION_UNLINK:
	}
	return profilestore.OpUnlink
}

// UnlinkIdentities takes links back, keeps identities apart, or takes that back.
func (s profiles) UnlinkIdentities(ctx context.Context, req *connect.Request[rapportv1.UnlinkIdentitiesRequest]) (*connect.Response[rapportv1.UnlinkIdentitiesResponse], error) {
	c := s.newIdentityChanges(len(req.Msg.GetUnlinks()))
	for _, m := range req.Msg.GetUnlinks() {
		c.add(m, unlinkOp(m.GetAction()), m.GetA(), m.GetB(), m.GetTime(), m.GetReason())
	}
	if err := c.applyAudited(ctx, req); err != nil {
		return nil, err
	}
	return connect.NewResponse(&rapportv1.UnlinkIdentitiesResponse{Results: c.messages(req.Msg.GetOmitGroups())}), nil
}

// RecycleIdentities ends the holding of identities.
func (s profiles) RecycleIdentities(ctx context.Context, req *connect.Request[rapportv1.RecycleIdentitiesRequest]) (*connect.Response[rapportv1.RecycleIdentitiesResponse], error) {
	c := s.newIdentityChanges(len(req.Msg.GetRecyclings()))
	for _, m := range req.Msg.GetRecyclings() {
		c.add(m, profilestore.OpRecycle, m.GetIdentity(), "", m.GetTime(), m.GetReason())
	}
	if err := c.applyAudited(ctx, req); err != nil {
		return nil, err
	}
	return connect.NewResponse(&rapportv1.RecycleIdentitiesResponse{Results: c.messages(req.Msg.GetOmitGroups())}), nil
}

// GetIdentities returns the customers of identities.
func (s profiles) GetIdentities(ctx context.Context, req *connect.Request[rapportv1.GetIdentitiesRequest]) (*connect.Response[rapportv1.GetIdentitiesResponse], error) {
	res := &rapportv1.GetIdentitiesResponse{Results: make([]*rapportv1.ResolvedIdentity, len(req.Msg.GetIdentities()))}
	for i, given := range req.Msg.GetIdentities() {
		r := &rapportv1.ResolvedIdentity{Identity: given}
		res.Results[i] = r
		identity, err := profilestore.ParseIdentity(given)
		if err != nil {
			r.Message = err.Error()
			continue
		}
		group, err := s.store.Group(ctx, identity)
		if err != nil {
			return nil, err
		}
		r.Identity, r.Group = identity, groupMessage(group)
		r.Message, _ = s.store.Schema().BlockedIdentity(identity)
	}
	return connect.NewResponse(res), nil
}

// identityChanges are the changes of one request on their way into the store and
// back. Those with a mistake of form do not get there.
type identityChanges struct {
	s       profiles
	changes []profilestore.IdentityChange
	places  []int // of changes, in results
	results []profilestore.IdentityResult
	ops     []profilestore.IdentityOp // of results
}

func (s profiles) newIdentityChanges(n int) *identityChanges {
	return &identityChanges{
		s: s, changes: make([]profilestore.IdentityChange, 0, n), places: make([]int, 0, n),
		results: make([]profilestore.IdentityResult, 0, n), ops: make([]profilestore.IdentityOp, 0, n),
	}
}

// add takes a change, or notes why it is refused.
func (c *identityChanges) add(m proto.Message, op profilestore.IdentityOp, a, b string, at *timestamppb.Timestamp, reason string) {
	change := profilestore.IdentityChange{Op: op, A: a, B: b, Reason: reason}
	err := c.check(m, &change, at)
	if err == nil {
		c.changes, c.places = append(c.changes, change), append(c.places, len(c.results))
	}
	c.results, c.ops = append(c.results, profilestore.IdentityResult{Err: err}), append(c.ops, op)
}

func (c *identityChanges) check(m proto.Message, change *profilestore.IdentityChange, at *timestamppb.Timestamp) (err error) {
	invalid := func(text string) error { return &profilestore.LinkError{Kind: profilestore.LinkInvalid, Message: text} }
	if err := protovalidate.Validate(m); err != nil {
		return invalid(validationMessage(err))
	}
	if at != nil {
		if err := at.CheckValid(); err != nil {
			return invalid("time: " + err.Error())
		}
		change.Time = at.AsTime().UnixMicro()
	}
	if change.A, err = profilestore.ParseIdentity(change.A); err != nil {
		return invalid(err.Error())
	}
	switch {
	case change.B != "":
		if change.B, err = profilestore.ParseIdentity(change.B); err != nil {
			return invalid(err.Error())
		}
	case change.Op == profilestore.OpSeparate || change.Op == profilestore.OpReconcile:
		return invalid("b: name the other identity too")
	}
	if change.Op == profilestore.OpLink {
		return c.checkDeclared(change.A, change.B)
	}
	return nil
}

// checkDeclared refuses a namespace that the schema does not declare, if it
// declares any: a misspelt weak one would join customers.
func (c *identityChanges) checkDeclared(identities ...string) error {
	schema := c.s.store.Schema()
	if len(schema.Namespaces()) == 0 {
		return nil
	}
	for _, identity := range identities {
		namespace, _, _ := strings.Cut(identity, ":")
		if _, _, ok := schema.Namespace(namespace); !ok {
			known := make([]string, len(schema.Namespaces()))
			for i, n := range schema.Namespaces() {
				known[i] = n.ID
			}
			return &undeclaredError{fmt.Sprintf("the schema does not declare namespace %q, only %s", namespace, strings.Join(known, ", "))}
		}
	}
	return nil
}

// undeclaredError is a link that names a namespace unknown to the schema.
type undeclaredError struct{ message string }

func (e *undeclaredError) Error() string { return e.message }

// apply makes the changes.
func (c *identityChanges) apply(ctx context.Context) error {
	if len(c.changes) > 0 {
		results, err := c.s.store.ChangeIdentities(ctx, c.changes)
		if err != nil {
			return err
		}
		for k, r := range results {
			c.results[c.places[k]] = r
		}
	}
	for i := range c.results {
		result := "unchanged"
		switch r := &c.results[i]; {
		case r.Err != nil:
			result = strings.ToLower(strings.TrimPrefix(linkReason(r.Err), "LINK_"))
		case r.Changed:
			result = "changed"
		}
		c.s.metrics.identities.WithLabelValues(opName(c.ops[i]), result).Inc()
	}
	return nil
}

// maxAuditedChanges is how many changes of a request its audit record names.
const maxAuditedChanges = 10

// applyAudited makes the changes after it has recorded that they are asked for. A
// record a request: a batch of a thousand is one decision of one person or system.
// If not all of it was done, another record says so, as in auditLog.change.
func (c *identityChanges) applyAudited(ctx context.Context, by asker) error {
	if len(c.changes) == 0 {
		return c.apply(ctx) // to count them
	}
	subject := "identity"
	if len(c.changes) == 1 {
		subject += "/" + c.changes[0].A
	}
	var what []string
	for i := range c.changes[:min(len(c.changes), maxAuditedChanges)] {
		what = append(what, describeChange(&c.changes[i]))
	}
	if more := len(c.changes) - len(what); more > 0 {
		what = append(what, fmt.Sprintf("and %d more", more))
	}
	err := c.s.audit.change(by, "identity "+opName(c.changes[0].Op), subject, "", strings.Join(what, "; "), func() error {
		if err := c.apply(ctx); err != nil {
			return err
		}
		return c.unmade()
	})
	if _, partly := errors.AsType[*unmadeError](err); partly && !errors.Is(err, errAuditFailed) {
		return nil // the results say which
	}
	return err
}

// unmadeError says for the audit log that some changes, or all, were not made.
type unmadeError struct {
	refused, of int
	first       error // of those refused
}

func (e *unmadeError) Error() string {
	switch {
	case e.refused == 0:
		return "it was so already"
	case e.of == 1:
		return e.first.Error()
	}
	return fmt.Sprintf("%d of %d refused, the first: %v", e.refused, e.of, e.first)
}

// unmade returns an error if a change was refused, or if nothing has changed at all.
func (c *identityChanges) unmade() error {
	e, changed := &unmadeError{of: len(c.changes)}, false
	for _, i := range c.places {
		changed = changed || c.results[i].Changed
		if err := c.results[i].Err; err != nil {
			e.refused++
			e.first = cmp.Or(e.first, err)
		}
	}
	if e.refused == 0 && changed {
		return nil
	}
	return e
}

// describeChange says in words what is changed.
func describeChange(c *profilestore.IdentityChange) string {
	what := opName(c.Op) + " " + c.A
	switch {
	case c.B != "":
		what += " and " + c.B
	case c.Op == profilestore.OpUnlink:
		what += " from all"
	case c.Op == profilestore.OpRecycle && c.Time != 0:
		what += " at " + time.UnixMicro(c.Time).UTC().Format(time.RFC3339)
	}
	if c.Reason != "" {
		what += ": " + c.Reason
	}
	return what
}

// opName is the name of an operation in metrics and audit records.
func opName(op profilestore.IdentityOp) string {
	switch op {
	case profilestore.OpLink:
		return "link"
	case profilestore.OpUnlink:
		return "unlink"
	case profilestore.OpSeparate:
		return "separate"
	case profilestore.OpReconcile:
		return "reconcile"
	case profilestore.OpRecycle:
		return "recycle"
	}
	return "unknown"
}

// messages returns the results as the API has them.
func (c *identityChanges) messages(omitGroups bool) []*rapportv1.IdentityResult {
	out := make([]*rapportv1.IdentityResult, len(c.results))
	for i := range c.results {
		r := &c.results[i]
		m := &rapportv1.IdentityResult{Changed: r.Changed}
		if r.Err != nil {
			m.Reason, m.Message = linkReason(r.Err), r.Err.Error()
		}
		if !omitGroups {
			for g := range r.Groups {
				m.Groups = append(m.Groups, groupMessage(&r.Groups[g]))
			}
		}
		out[i] = m
	}
	return out
}

func groupMessage(g *profilestore.Group) *rapportv1.IdentityGroup {
	m := &rapportv1.IdentityGroup{
		Customer: g.Customer(), Epoch: g.Epoch,
		Members: make([]*rapportv1.IdentityMember, len(g.Members)),
	}
	for i, member := range g.Members {
		m.Members[i] = &rapportv1.IdentityMember{Identity: member.Identity, Since: timeOrNone(member.Since), Until: timeOrNone(member.Until)}
	}
	for _, l := range g.Links {
		m.Links = append(m.Links, &rapportv1.IdentityLink{A: l.A, B: l.B, Time: timeOrNone(l.Time), Reason: l.Reason})
	}
	for _, a := range g.Apart {
		m.Separations = append(m.Separations, &rapportv1.IdentitySeparation{A: a.A, B: a.B, Time: timeOrNone(a.Time), Reason: a.Reason})
	}
	return m
}

// aloneMessage is the group of an identity that was not looked up.
func aloneMessage(identity string) *rapportv1.IdentityGroup {
	return &rapportv1.IdentityGroup{Customer: identity, Members: []*rapportv1.IdentityMember{{Identity: identity}}}
}

func timeOrNone(micros int64) *timestamppb.Timestamp {
	if micros == 0 {
		return nil
	}
	return timestamppb.New(time.UnixMicro(micros))
}
