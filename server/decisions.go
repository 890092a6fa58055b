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
	"rapport/server/decisionlog"
)

// serverTimeHeader is the response header that gives the server time of a
// decision in microseconds. It is not in the message, so that equal decisions
// have equal messages.
const serverTimeHeader = "Rapport-Server-Time-Us"

// dryRunDeadline keeps a dry run from waiting for ever; it cuts none short that
// could still be answered.
const dryRunDeadline = 10 * time.Second

// listDeadline is how long a decision of a list may take: nobody is waiting in a channel,
// and a customer who is left out because a disk was slow is one who is not reached.
const listDeadline = time.Second

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

// question is what Decide, DecideMany and DecideStream ask.
type question struct {
	message  proto.Message // as it was asked: the id of a dry run follows from it
	customer string
	at       []*rapportv1.DecideAt
	one      bool // a single contact
	list     bool // one of a list of customers, none of whom is waiting
	context  map[string]*structpb.Value
	dry      *rapportv1.DryRun

	omitWithheld bool
}

// decision is what was decided. It is valid while its live is held.
type decision struct {
	live     *live
	id       ulid.ULID
	at       []decide.At
	request  decide.Request
	answers  []decide.Answer       // by at
	contacts []contact             // that the answers make
	metRead  bool                  // what others have promised was read
	tables   []decisionlog.Version // the versions of the reference tables
	who      known
	readErr  error // why the profile could not be read
}

// Decide makes one decision.
func (s decisions) Decide(ctx context.Context, req *connect.Request[rapportv1.DecideRequest]) (*connect.Response[rapportv1.DecideResponse], error) {
	m := req.Msg
	q := question{
		message: m, customer: m.GetCustomer(), at: []*rapportv1.DecideAt{{Touchpoint: m.GetTouchpoint(), Slots: m.GetSlots()}},
		context: m.GetContext(), dry: m.GetDryRun(), omitWithheld: m.GetOmitWithheld(),
	}
	var res *connect.Response[rapportv1.DecideResponse]
	took, err := s.answer(ctx, &q, func(d *decision) {
		x := s.touchpointDecision(&q, d, 0)
		res = connect.NewResponse(&rapportv1.DecideResponse{
			DecisionId: d.id.String(), Slate: x.GetSlate(), Withheld: x.GetWithheld(), Funnel: x.GetFunnel(),
			Profile: s.profileUse(d.who, d.live.compiled.Schema), CatalogVersion: d.live.compiled.Version,
			Scenario: x.GetScenario(), RankedBy: x.GetRankedBy(), Degradations: x.GetDegradations(),
			Time: timestamppb.New(time.UnixMicro(d.request.Now)), Seed: d.request.Seed,
			Card: x.GetCard(), ValidUntil: x.GetValidUntil(),
		})
	})
	if err != nil {
		return nil, err
	}
	res.Header().Set(serverTimeHeader, strconv.FormatInt(took.Microseconds(), 10))
	return res, nil
}

// DecideMany makes one decision for several touchpoints.
func (s decisions) DecideMany(ctx context.Context, req *connect.Request[rapportv1.DecideManyRequest]) (*connect.Response[rapportv1.DecideManyResponse], error) {
	res, took, err := s.decideMany(ctx, req.Msg, false)
	if err != nil {
		return nil, err
	}
	out := connect.NewResponse(res)
	out.Header().Set(serverTimeHeader, strconv.FormatInt(took.Microseconds(), 10))
	return out, nil
}

func (s decisions) decideMany(ctx context.Context, m *rapportv1.DecideManyRequest, list bool) (res *rapportv1.DecideManyResponse, took time.Duration, err error) {
	q := question{
		message: m, customer: m.GetCustomer(), at: m.GetAt(), one: m.GetOneContact(), list: list,
		context: m.GetContext(), dry: m.GetDryRun(), omitWithheld: m.GetOmitWithheld(),
	}
	took, err = s.answer(ctx, &q, func(d *decision) {
		res = &rapportv1.DecideManyResponse{
			DecisionId: d.id.String(), Decisions: make([]*rapportv1.TouchpointDecision, len(d.at)),
			Profile: s.profileUse(d.who, d.live.compiled.Schema), CatalogVersion: d.live.compiled.Version,
			Time: timestamppb.New(time.UnixMicro(d.request.Now)), Seed: d.request.Seed,
		}
		for i := range d.at {
			res.Decisions[i] = s.touchpointDecision(&q, d, i)
		}
	})
	return res, took, err
}

// DecideStream decides for a list of customers. Each waits for its turn like any other
// decision, so a campaign takes no more than its share.
func (s decisions) DecideStream(ctx context.Context, req *connect.Request[rapportv1.DecideStreamRequest], stream *connect.ServerStream[rapportv1.DecideStreamResponse]) error {
	return s.streamError(req.Spec().Procedure, s.decideStream(ctx, req.Msg, stream))
}

func (s decisions) decideStream(ctx context.Context, list *rapportv1.DecideStreamRequest, stream *connect.ServerStream[rapportv1.DecideStreamResponse]) error {
	ask := list.GetQuestion()
	if ask.GetCustomer() != "" {
		return &argumentError{"question.customer", "leave it empty: the customers are in their list"}
	}
	if n := len(ask.GetAt()); n == 0 || n > 50 {
		return &argumentError{"question.at", fmt.Sprintf("%d touchpoints: 1 to 50 are possible", n)}
	}
	if err := s.checkQuestion(ask); err != nil { // once, and not for each customer
		return err
	}
	for i, customer := range list.GetCustomers() {
		out := &rapportv1.DecideStreamResponse{Customer: customer}
		m, ok := proto.Clone(ask).(*rapportv1.DecideManyRequest)
		if !ok {
			return errors.New("a message is not of the type of its clone")
		}
		m.Customer = customer
		for {
			res, _, err := s.decideMany(ctx, m, true)
			if errors.Is(err, errOverloaded) && ctx.Err() == nil { // there is no hurry
				select {
				case <-time.After(retryAfter):
				case <-ctx.Done():
				}
				continue
			}
			if err != nil {
				out.Error = apiError(err).Error()
			}
			out.Decision = res
			break
		}
		err := ctx.Err()
		if err == nil {
			err = stream.Send(out)
		}
		if err != nil {
			return fmt.Errorf("the list was cut off after %d of %d customers: ask for the others again; the next may hold places until their time is over: %w", i, len(list.GetCustomers()), err)
		}
	}
	return nil
}

// checkQuestion finds what would be wrong whoever the customer is.
func (s decisions) checkQuestion(m *rapportv1.DecideManyRequest) error {
	l := s.acquire()
	if l == nil {
		return errNoCatalog
	}
	defer s.release(l)
	if _, err := findTouchpoints(l.compiled, m.GetAt()); err != nil {
		return err
	}
	_, err := readContext(l.compiled, m.GetContext())
	return err
}

// answer decides, and gives the decision to respond before it lets go of what it was
// decided with.
func (s decisions) answer(ctx context.Context, q *question, respond func(*decision)) (took time.Duration, err error) {
	started := time.Now()
	if err := ctx.Err(); err != nil {
		return 0, fmt.Errorf("the deadline passed before the decision began: %w", err)
	}
	identity, err := profilestore.ParseIdentity(q.customer)
	if err != nil {
		return 0, &argumentError{"customer", err.Error()}
	}
	l := s.acquire()
	if l == nil {
		return 0, errNoCatalog
	}
	defer s.release(l)
	d := decision{live: l, answers: make([]decide.Answer, len(q.at))}
	if d.at, err = findTouchpoints(l.compiled, q.at); err != nil {
		return 0, err
	}
	if at := q.dry.GetTime(); at != nil && at.CheckValid() != nil {
		return 0, &argumentError{"dry_run.time", "it is not a valid time"}
	}
	r := &d.request
	r.At = d.at[0]
	if r.Context, err = readContext(l.compiled, q.context); err != nil {
		return 0, err
	}
	d.id = s.begin(ctx, started, q, identity, r)
	r.Loads, r.Evidence = s.loads.of(l.compiled, started), l.evidence.Load()
	tables := s.tables.Current()
	r.Tables, d.tables = tables, s.tableVersions(tables)
	d.who, d.readErr = s.identify(identity, r)
	if err := s.decide(ctx, q, &d); err != nil {
		return 0, err
	}
	respond(&d)
	took = time.Since(started)
	s.note(&d, took)
	s.remember(q, &d, took)
	return took, nil
}

// findTouchpoints returns the touchpoints that are asked for, which a catalogue must
// have.
func findTouchpoints(c *catalog.Compiled, asked []*rapportv1.DecideAt) ([]decide.At, error) {
	at := make([]decide.At, len(asked))
	for i, x := range asked {
		touchpoint, ok := c.Touchpoint(x.GetTouchpoint())
		if !ok {
			return nil, fmt.Errorf("%w: %q is not in catalogue version %d", errTouchpointNotFound, x.GetTouchpoint(), c.Version)
		}
		if slices.ContainsFunc(at[:i], func(x decide.At) bool { return x.Touchpoint == touchpoint }) {
			return nil, &argumentError{fmt.Sprintf("at[%d].touchpoint", i), "it is given twice"}
		}
		at[i] = decide.At{Touchpoint: touchpoint, Slots: int(x.GetSlots())}
	}
	return at, nil
}

// note counts a decision and logs what went wrong in it.
func (s decisions) note(d *decision, took time.Duration) {
	for i := range d.answers {
		a := &d.answers[i]
		scenario := ""
		if n := d.live.compiled.Touchpoints[d.at[i].Touchpoint].Scenario; n >= 0 {
			scenario = d.live.compiled.Scenarios[n].ID
		}
		s.metrics.decided(scenario, a, took)
		for _, step := range a.Degradations {
			// That one can't be used has been logged, and would be for each decision.
			if step.Step == decide.StepStrategyFailed && !errors.Is(step.Err, errStrategyUnavailable) {
				s.log.Warn("a strategy failed", "scenario", scenario, "decision", d.id, "error", step.Err)
			}
		}
	}
	if err := d.request.Unreserved; err != nil && (errors.Is(err, errReserve) || errors.Is(err, errReadAgain) && !errors.Is(err, errReadLate)) {
		s.log.Warn("a contact could not be reserved", "decision", d.id, "error", err)
	}
	if d.readErr != nil && !errors.Is(d.readErr, errReadLate) {
		s.log.Warn("a profile could not be read", "decision", d.id, "error", d.readErr)
	}
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
	meet(view, r)
	return known{identity: identity, view: view}, err
}

// meet gives a decision what is known of a customer.
func meet(view *profilestore.View, r *decide.Request) {
	reading := view.At(r.Now)
	r.Customer, r.Profile, r.History = customerHash(view.Customer()), reading, reading.History()
	if !r.Dry {
		// Who decided first may have taken the time last, and the clock may have stepped back.
		r.History = r.History.WithLater()
	}
}

// begin sets the decision's time, seed and deadline and returns its id. A real
// decision takes the server's clock and a hash of its id; a dry run brings its
// own time and seed, and has an id that follows from what it was asked.
func (s decisions) begin(ctx context.Context, started time.Time, q *question, identity string, r *decide.Request) ulid.ULID {
	deadline, hasDeadline := ctx.Deadline()
	dry := q.dry
	r.Now = s.now().UnixMicro()
	if dry == nil {
		id := ulid.Make()
		sum := sha256.Sum256(id[:])
		r.Seed = binary.LittleEndian.Uint64(sum[:8])
		r.Deadline = started.Add(s.config.Deadline)
		if q.list {
			r.Deadline = started.Add(max(s.config.Deadline, listDeadline))
		}
		if hasDeadline && deadline.Before(r.Deadline) {
			r.Deadline = deadline
		}
		return id
	}
	if dry.GetTime() != nil {
		r.Now = dry.GetTime().AsTime().UnixMicro()
	}
	r.Seed, r.Dry = dry.GetSeed(), true
	r.Deadline = started.Add(dryRunDeadline)
	if hasDeadline && deadline.Before(r.Deadline) {
		r.Deadline = deadline
	}
	var id ulid.ULID
	question, err := proto.MarshalOptions{Deterministic: true}.Marshal(q.message)
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

// touchpointDecision returns the answer for one touchpoint as a message.
func (s decisions) touchpointDecision(q *question, d *decision, i int) *rapportv1.TouchpointDecision {
	c, a := d.live.compiled, &d.answers[i]
	t := &c.Touchpoints[d.at[i].Touchpoint]
	res := &rapportv1.TouchpointDecision{
		Touchpoint: t.ID,
		Slate:      make([]*rapportv1.Placement, len(a.Slate)),
		Funnel: &rapportv1.Funnel{
			Candidates: int32(a.Candidates()), Eligible: int32(a.Eligible()), Allowed: int32(a.Allowed()), Ranked: int32(a.Ranked()),
			Offered: int32(len(a.Slate)),
		},
		RankedBy: &rapportv1.RankedBy{
			Name: a.RankedBy.Name, Version: a.RankedBy.Version, Digest: a.RankedBy.Digest,
			FuelLimit: a.FuelLimit, FuelUsed: a.FuelUsed,
		},
		Card: card(d, t),
	}
	if t.Scenario >= 0 {
		res.Scenario = c.Scenarios[t.Scenario].ID
	}
	for k := range a.Slate {
		p := &a.Slate[k]
		o := &c.Offers[p.Offer]
		res.Slate[k] = &rapportv1.Placement{
			Offer: o.ID, Group: o.Group, Class: o.Class.String(), Channel: c.Channels[p.Channel].ID,
			Content: p.Content, Score: p.Score, Reason: p.Reason, Fallback: p.Fallback,
			Parts: &rapportv1.ScoreParts{Propensity: p.Propensity, Value: p.Value, Weight: p.Weight, Lever: p.Lever},
		}
		if d.request.Learns(o) {
			res.Slate[k].Parts.Evidence = evidenceMessage(d.request.Evidence.Count(p.Offer, p.Channel))
		}
		if t.Staff {
			res.Slate[k].Script = p.Script
		}
	}
	s.addTokens(d, i, res)
	if !q.omitWithheld {
		res.Withheld = withheld(c, t, a)
	}
	for _, step := range a.Degradations {
		fault := ""
		if step.Step == decide.StepStrategyFailed {
			fault = faultKind(step.Err)
		}
		res.Degradations = append(res.Degradations, &rapportv1.Degradation{
			Kind: rapportv1.DegradationKind(step.Step), Detail: degradationDetail(step, d.readErr), Fault: fault,
		})
	}
	return res
}

// unreservedDetail says why contacts can't be reserved, without what only the log is for.
func unreservedDetail(err error) string {
	for _, why := range []error{errCustomerBusy, errReserveLate, errReadAgain, errReserve} {
		if errors.Is(err, why) {
			return why.Error()
		}
	}
	return err.Error()
}

// card returns what staff see of the customer at a touchpoint: the fields of the first
// card that is for the role of who asks.
func card(d *decision, t *catalog.Touchpoint) []*rapportv1.CardField {
	if !t.Staff || d.request.Profile == nil || d.who.blocked {
		return nil
	}
	role := ""
	if i, ok := d.live.compiled.ContextField("role"); ok {
		role = d.request.Context[i].Text()
	}
	for _, x := range t.Cards {
		if len(x.Roles) > 0 && !slices.Contains(x.Roles, role) {
			continue
		}
		fields := make([]*rapportv1.CardField, len(x.Slots))
		for i, slot := range x.Slots {
			v := d.request.Profile.Get(slot)
			fields[i] = &rapportv1.CardField{Name: d.live.compiled.Schema.Fields()[slot].Name, Known: v.Known()}
			if v.Known() {
				fields[i].Value = v.String()
			}
		}
		return fields
	}
	return nil
}

// withheld groups the candidates that are not on the slate by reason.
func withheld(c *catalog.Compiled, t *catalog.Touchpoint, a *decide.Answer) []*rapportv1.Withheld {
	var out []*rapportv1.Withheld
	for reason, n := range a.Funnel {
		if n == 0 || decide.Reason(reason) == decide.ReasonOffered {
			continue
		}
		w := &rapportv1.Withheld{Reason: rapportv1.Reason(reason), Offers: make([]string, 0, n)}
		offer := func(place int) string {
			return c.Offers[c.Scenarios[t.Scenario].Candidates[t.Candidates[place]].Offer].ID
		}
		for place, why := range a.Reasons {
			if int(why) == reason {
				w.Offers = append(w.Offers, offer(place))
			}
		}
		for _, detail := range a.Details {
			if int(a.Reasons[detail.Place]) != reason {
				continue
			}
			x := &rapportv1.WithheldDetail{Offer: offer(detail.Place), By: detail.By}
			if detail.Until != 0 {
				x.Until = timestamppb.New(time.UnixMicro(detail.Until))
			}
			w.Details = append(w.Details, x)
		}
		out = append(out, w)
	}
	slices.SortFunc(out, func(a, b *rapportv1.Withheld) int { return int(a.GetReason()) - int(b.GetReason()) })
	return out
}

func (s *Server) profileUse(who known, schema *profilestore.Schema) *rapportv1.ProfileUse {
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
		} else {
			use.SetAside = s.appendSetAside(use.SetAside, source.ID)
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
