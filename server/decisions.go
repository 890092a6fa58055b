package server

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/oklog/ulid/v2"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"rapport/profilestore"
	rapportv1 "rapport/server/api/rapport/v1"
	"rapport/server/catalog"
	"rapport/server/decide"
)

// serverTimeHeader is the response header that gives the server time of a
// decision in microseconds. It is not in the message, so that equal decisions
// have equal messages.
const serverTimeHeader = "Rapport-Server-Time-Us"

// dryRunDeadline keeps a dry run from waiting for ever; it cuts none short that
// could still be answered.
const dryRunDeadline = 10 * time.Second

// maxSlowReads is how many profiles may be read from disk at once on behalf of
// decisions that may no longer wait for them.
const maxSlowReads = 256

var (
	errTouchpointNotFound = errors.New("no such touchpoint")
	errReadBusy           = errors.New("too many profiles are being read already")
	errReadLate           = errors.New("not read in its share of the deadline")
)

// decisions answers the DecisionService.
type decisions struct{ *Server }

// Decide makes one decision.
func (s decisions) Decide(ctx context.Context, req *connect.Request[rapportv1.DecideRequest]) (*connect.Response[rapportv1.DecideResponse], error) {
	started := time.Now()
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("the deadline passed before the decision began: %w", err)
	}
	m := req.Msg
	identity, err := profilestore.ParseIdentity(m.GetCustomer())
	if err != nil {
		return nil, &argumentError{"customer", err.Error()}
	}
	l := s.acquire()
	if l == nil {
		return nil, errNoCatalog
	}
	defer s.release(l)

	touchpoint, ok := l.compiled.Touchpoint(m.GetTouchpoint())
	if !ok {
		return nil, fmt.Errorf("%w: %q is not in catalogue version %d", errTouchpointNotFound, m.GetTouchpoint(), l.compiled.Version)
	}
	if at := m.GetDryRun().GetTime(); at != nil && at.CheckValid() != nil {
		return nil, &argumentError{"dry_run.time", "it is not a valid time"}
	}
	r := decide.Request{Touchpoint: touchpoint, Slots: int(m.GetSlots())}
	if r.Context, err = readContext(l.compiled, m.GetContext()); err != nil {
		return nil, err
	}
	id := s.begin(ctx, started, m, identity, &r)
	who, readErr := s.identify(identity, &r)
	// Only now: who waits for a disk needs no processor.
	if err := s.admission.enter(ctx); err != nil {
		return nil, err
	}
	defer s.admission.leave()
	var a decide.Answer
	l.decider.Decide(ctx, &r, &a)
	res := connect.NewResponse(respond(l, m, id, &r, who, readErr, &a))
	took := time.Since(started)
	scenario := ""
	if i := l.compiled.Touchpoints[touchpoint].Scenario; i >= 0 {
		scenario = l.compiled.Scenarios[i].ID
	}
	s.metrics.decided(scenario, &a, took)
	for _, d := range a.Degradations {
		// That one can't be used has been logged, and would be for each decision.
		if d.Step == decide.StepStrategyFailed && !errors.Is(d.Err, errStrategyUnavailable) {
			s.log.Warn("a strategy failed", "scenario", scenario, "decision", id, "error", d.Err)
		}
	}
	if readErr != nil && !errors.Is(readErr, errReadLate) {
		s.log.Warn("a profile could not be read", "decision", id, "error", readErr)
	}
	res.Header().Set(serverTimeHeader, strconv.FormatInt(took.Microseconds(), 10))
	return res, nil
}

// known is what a decision knows of whom it is for.
type known struct {
	identity string             // that was asked for
	view     *profilestore.View // nil if it could not be read in time
	blocked  bool               // the identity means nobody, and the view is empty
}

// identify finds out whom a decision is for and gives it the profile. The customer's
// common name says in which strategies' share the decision is, so a person stays on
// one side under whatever identity. An identity that means nobody is many people:
// each decision for it is a customer of its own, of whom nothing is known. If the
// profile can't be read, the identity has to do for the name.
func (s decisions) identify(identity string, r *decide.Request) (known, error) {
	if _, blocked := s.store.Schema().BlockedIdentity(identity); blocked {
		s.metrics.blocked.Inc()
		view := profilestore.EmptyView(s.store.Schema())
		r.Customer, r.Profile = r.Seed, view.At(r.Now)
		return known{identity, view, true}, nil
	}
	view, err := s.readProfile(identity, r.Deadline)
	if view == nil {
		r.Customer = customerHash(identity)
		return known{identity: identity}, err
	}
	r.Customer, r.Profile = customerHash(view.Customer()), view.At(r.Now)
	return known{identity: identity, view: view}, err
}

// begin sets the decision's time, seed and deadline and returns its id. A real
// decision takes the server's clock and a hash of its id; a dry run brings its
// own time and seed, and has an id that follows from what it was asked.
func (s decisions) begin(ctx context.Context, started time.Time, m *rapportv1.DecideRequest, identity string, r *decide.Request) ulid.ULID {
	deadline, hasDeadline := ctx.Deadline()
	dry := m.GetDryRun()
	if dry == nil {
		r.Now = started.UnixMicro()
		id := ulid.Make()
		sum := sha256.Sum256(id[:])
		r.Seed = binary.LittleEndian.Uint64(sum[:8])
		r.Deadline = started.Add(s.config.Deadline)
		if hasDeadline && deadline.Before(r.Deadline) {
			r.Deadline = deadline
		}
		return id
	}
	r.Now = started.UnixMicro()
	if dry.GetTime() != nil {
		r.Now = dry.GetTime().AsTime().UnixMicro()
	}
	r.Seed, r.Dry = dry.GetSeed(), true
	r.Deadline = started.Add(dryRunDeadline)
	if hasDeadline && deadline.Before(r.Deadline) {
		r.Deadline = deadline
	}
	var id ulid.ULID
	question, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil { // it has just been read, so it can be written
		question = nil
	}
	sum := sha256.Sum256(fmt.Appendf(question, " %d %s", r.Now, identity))
	copy(id[6:], sum[:10])
	if ms := r.Now / 1000; ms >= 0 && ms <= int64(ulid.MaxTime()) {
		_ = id.SetTime(uint64(ms)) // in range
	}
	return id
}

// readContext returns the context fields of the catalogue with the values of a
// request.
func readContext(c *catalog.Compiled, given map[string]*structpb.Value) ([]profilestore.Value, error) {
	values := make([]profilestore.Value, len(c.Context))
	for i := range c.Context {
		values[i] = c.Context[i].Default
	}
	for name, v := range given {
		i, ok := c.ContextField(name)
		field := fmt.Sprintf("context.%.80s", name)
		if !ok {
			known := make([]string, len(c.Context))
			for k := range c.Context {
				known[k] = c.Context[k].Name
			}
			return nil, &argumentError{field, fmt.Sprintf("the catalogue declares no such context field; it has %s", strings.Join(known, ", "))}
		}
		value, ok := contextValue(v, c.Context[i].Kind)
		if !ok {
			return nil, &argumentError{field, fmt.Sprintf("it must be a %s, got %.80v", c.Context[i].Kind, v.AsInterface())}
		}
		values[i] = value
	}
	return values, nil
}

func contextValue(v *structpb.Value, kind profilestore.Kind) (profilestore.Value, bool) {
	switch x := v.GetKind().(type) {
	case *structpb.Value_NullValue:
		return profilestore.Unknown(), true
	case *structpb.Value_NumberValue:
		value := profilestore.Number(x.NumberValue)
		return value, kind == profilestore.KindNumber && value.Known()
	case *structpb.Value_BoolValue:
		return profilestore.Flag(x.BoolValue), kind == profilestore.KindFlag
	case *structpb.Value_StringValue:
		if kind == profilestore.KindTime {
			t, err := time.Parse(time.RFC3339Nano, x.StringValue)
			return profilestore.Time(t.UnixMicro()), err == nil && t.UTC().Year() >= 1 && t.UTC().Year() <= 9999
		}
		return profilestore.Text(x.StringValue), kind == profilestore.KindText
	}
	return profilestore.Value{}, false
}

// readProfile reads a profile in its share of the deadline: half of what is
// left. What the cache has is there at once; what is not is read by a goroutine
// of its own, because a read from a slow disk can't be abandoned.
func (s decisions) readProfile(identity string, deadline time.Time) (*profilestore.View, error) {
	if v := s.store.CachedView(identity); v != nil {
		return v, nil
	}
	share := time.Until(deadline) / 2
	if share <= 0 {
		return nil, errReadLate
	}
	select {
	case s.slowReads <- struct{}{}:
	default:
		return nil, errReadBusy
	}
	type result struct {
		view *profilestore.View
		err  error
	}
	done := make(chan result, 1)
	s.background.Go(func() {
		defer func() { <-s.slowReads }()
		view, err := s.store.View(s.ctx, identity)
		done <- result{view, err}
	})
	timer := time.NewTimer(share)
	defer timer.Stop()
	select {
	case r := <-done:
		return r.view, r.err
	case <-timer.C:
		return nil, errReadLate
	}
}

// respond builds the response message.
func respond(l *live, m *rapportv1.DecideRequest, id ulid.ULID, r *decide.Request, who known, readErr error, a *decide.Answer) *rapportv1.DecideResponse {
	c := l.compiled
	t := &c.Touchpoints[r.Touchpoint]
	res := &rapportv1.DecideResponse{
		DecisionId: id.String(),
		Slate:      make([]*rapportv1.Placement, len(a.Slate)),
		Funnel: &rapportv1.Funnel{
			Candidates: int32(a.Candidates()), Eligible: int32(a.Eligible()), Ranked: int32(a.Ranked()),
			Offered: int32(len(a.Slate)),
		},
		Profile:        profileUse(who, c.Schema),
		CatalogVersion: c.Version,
		RankedBy: &rapportv1.RankedBy{
			Name: a.RankedBy.Name, Version: a.RankedBy.Version, Digest: a.RankedBy.Digest,
			FuelLimit: a.FuelLimit, FuelUsed: a.FuelUsed,
		},
		Time: timestamppb.New(time.UnixMicro(r.Now)),
		Seed: r.Seed,
	}
	if t.Scenario >= 0 {
		res.Scenario = c.Scenarios[t.Scenario].ID
	}
	for i := range a.Slate {
		p := &a.Slate[i]
		o := &c.Offers[p.Offer]
		res.Slate[i] = &rapportv1.Placement{
			Offer: o.ID, Group: o.Group, Class: o.Class.String(), Channel: c.Channels[p.Channel].ID,
			Content: p.Content, Score: p.Score, Reason: p.Reason, Fallback: p.Fallback,
			Parts: &rapportv1.ScoreParts{Propensity: p.Propensity, Value: p.Value, Weight: p.Weight, Lever: p.Lever},
		}
	}
	if !m.GetOmitWithheld() {
		res.Withheld = withheld(c, t, a)
	}
	for _, d := range a.Degradations {
		detail, fault := "", ""
		switch {
		case d.Err != nil:
			detail = d.Err.Error()
			if d.Step == decide.StepStrategyFailed {
				fault = faultKind(d.Err)
			}
		case d.Step == decide.StepProfileUnreadable && readErr != nil:
			detail = "the profile could not be read"
			if errors.Is(readErr, errReadLate) || errors.Is(readErr, errReadBusy) {
				detail = readErr.Error()
			}
		}
		res.Degradations = append(res.Degradations, &rapportv1.Degradation{Kind: rapportv1.DegradationKind(d.Step), Detail: detail, Fault: fault})
	}
	return res
}

// withheld groups the candidates that are not on the slate by reason.
func withheld(c *catalog.Compiled, t *catalog.Touchpoint, a *decide.Answer) []*rapportv1.Withheld {
	var out []*rapportv1.Withheld
	for reason, n := range a.Funnel {
		if n == 0 || decide.Reason(reason) == decide.ReasonOffered {
			continue
		}
		w := &rapportv1.Withheld{Reason: rapportv1.Reason(reason), Offers: make([]string, 0, n)}
		for place, why := range a.Reasons {
			if int(why) == reason {
				w.Offers = append(w.Offers, c.Offers[c.Scenarios[t.Scenario].Candidates[t.Candidates[place]].Offer].ID)
			}
		}
		out = append(out, w)
	}
	slices.SortFunc(out, func(a, b *rapportv1.Withheld) int { return int(a.GetReason()) - int(b.GetReason()) })
	return out
}

func profileUse(who known, schema *profilestore.Schema) *rapportv1.ProfileUse {
	use, view := &rapportv1.ProfileUse{Blocked: who.blocked}, who.view
	if view == nil || who.blocked {
		return use
	}
	use.Known, use.DeltaVersion, use.IdentityEpoch = view.Known(), view.DeltaVersion(), view.IdentityEpoch()
	if name := view.Customer(); name != who.identity {
		use.Customer = name
	}
	for i, source := range schema.Sources() {
		if snap, hasRow := view.Snapshot(i); snap != nil {
			use.Snapshots = append(use.Snapshots, &rapportv1.SnapshotRef{Source: source.ID, Generation: snap.Generation(), HasRow: hasRow})
		}
	}
	return use
}

// reasonName and degradationName are label values: the API's names without their
// prefix, in lower case.
func reasonName(r decide.Reason) string {
	return strings.ToLower(strings.TrimPrefix(rapportv1.Reason(r).String(), "REASON_"))
}

func degradationName(d decide.Step) string {
	return strings.ToLower(strings.TrimPrefix(rapportv1.DegradationKind(d).String(), "DEGRADATION_KIND_"))
}
