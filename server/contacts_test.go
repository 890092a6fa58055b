package server_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"rapport/server"
	rapportv1 "rapport/server/api/rapport/v1"
	"rapport/server/api/rapport/v1/rapportv1connect"
)

// limitsYAML is a catalogue in which nearly everything is limited.
const limitsYAML = `
context:
  - {name: role, type: text}
channels:
  - {id: web, direction: inbound}
  - {id: sms, direction: outbound, cost: 0.05}
  - {id: call, direction: outbound, cost: 2, hold: 1h}
  - {id: agent, direction: inbound, pressure: {above: 0.8, weight: 0.1}}
touchpoints:
  - {id: web.home, channel: web, slots: 2}
  - {id: sms.push, channel: sms}
  - {id: call.out, channel: call}
  - {id: agent.desk, channel: agent, slots: 2, audience: staff, cards: [{roles: [adviser], fields: [value.balance, tag.vip]}]}
offers:
  - {id: top_up, group: care, class: service, propensity: {start: 0.9}, treatments: [{channel: web, content: Top up}, {channel: sms, content: Top up}]}
  - {id: trial, group: data, class: marketing, value: 30, propensity: {start: 0.1}, treatments: [{channel: web, content: Try it}, {channel: agent, content: trial, script: Ask whether}]}
  - {id: pack, group: data, class: marketing, value: 20, propensity: {start: 0.1}, treatments: [{channel: sms, content: Pack}, {channel: call, content: Pack}, {channel: agent, content: pack}]}
scenarios:
  - {id: inbound, touchpoints: [web.home], offers: [top_up, trial], class_order: true}
  - {id: outbound, touchpoints: [sms.push, call.out], offers: [pack]}
  - {id: desk, touchpoints: [agent.desk], offers: [trial, pack]}
contact_policies:
  - {id: three_a_week, count: contact, max: 3, within: 7d, channels: [sms, call]}
  - {id: rest_on_no, per: offer, count: rejected, max: 1, within: 30d, suppress: 60d}
capacities:
  - {id: trials, max: 5, per: total, offers: [trial], taken_by: accepted}
`

func newLimits(t testing.TB) *house {
	t.Helper()
	h := newHouse(t)
	if _, err := h.publish(limitsYAML); err != nil {
		t.Fatal(err)
	}
	return h
}

// insist decides, again where the server is overloaded, as it may be by so many at once.
func (h *house) insist(t testing.TB, customer, touchpoint string) *rapportv1.DecideResponse {
	t.Helper()
	for {
		res, err := h.decisions().Decide(context.Background(), connect.NewRequest(&rapportv1.DecideRequest{Customer: customer, Touchpoint: touchpoint}))
		if err == nil {
			return res.Msg
		}
		if connect.CodeOf(err) != connect.CodeResourceExhausted {
			t.Error(err)
			return &rapportv1.DecideResponse{}
		}
	}
}

// report reports an outcome of the first placement of an answer.
func (h *house) report(t testing.TB, token, outcome string) *rapportv1.RecordOutcomesResponse {
	t.Helper()
	res, err := h.decisions().RecordOutcomes(context.Background(), connect.NewRequest(&rapportv1.RecordOutcomesRequest{
		Reports: []*rapportv1.OutcomeReport{{Token: token, Outcome: outcome}},
	}))
	if err != nil {
		t.Fatal(err)
	}
	return res.Msg
}

// detail returns what the answer says more of a withheld offer.
func detail(r *rapportv1.DecideResponse, offer string) *rapportv1.WithheldDetail {
	for _, w := range r.GetWithheld() {
		for _, d := range w.GetDetails() {
			if d.GetOffer() == offer {
				return d
			}
		}
	}
	return nil
}

// TestCapsAreExact: 64 callers at once, in two channels, half of them reporting what they
// did: exactly as many contacts as the policy allows, whichever way they ended.
func TestCapsAreExact(t *testing.T) {
	h := newLimits(t)
	for customer := range 4 {
		var given atomic.Int32
		var wait sync.WaitGroup
		for i := range 64 {
			wait.Go(func() {
				at := []string{"sms.push", "call.out"}[i%2]
				res := h.insist(t, fmt.Sprint(customer), at)
				if slate(res) != "pack " {
					if got := reason(res, "pack"); got != rapportv1.Reason_REASON_CAPPED {
						t.Errorf("withheld as %v", got)
					}
					return
				}
				given.Add(1)
				if i%4 < 2 {
					h.report(t, res.GetSlate()[0].GetToken(), []string{"presented", "clicked"}[i%2])
				}
			})
		}
		wait.Wait()
		if n := given.Load(); n != 3 {
			t.Errorf("customer %d was given %d contacts, want 3", customer, n)
		}
		d := detail(h.decide(t, fmt.Sprint(customer), "sms.push"), "pack")
		if until := d.GetUntil().AsTime(); d.GetBy() != "three_a_week" || until.Before(time.Now().Add(6*24*time.Hour)) || until.After(time.Now().Add(8*24*time.Hour)) {
			t.Errorf("withheld by %q until %v", d.GetBy(), until)
		}
	}
}

// TestCapacityIsExact: five places for sixty customers; who accepts keeps one, also over
// a restart.
func TestCapacityIsExact(t *testing.T) {
	h := newLimits(t)
	var mu sync.Mutex
	var tokens []string
	var wait sync.WaitGroup
	for i := range 60 {
		wait.Go(func() {
			res := h.insist(t, fmt.Sprint(100+i), "web.home")
			if !strings.Contains(slate(res), "trial") {
				if got := reason(res, "trial"); got != rapportv1.Reason_REASON_CAPACITY || detail(res, "trial").GetBy() != "trials" {
					t.Errorf("withheld as %v by %v", got, detail(res, "trial"))
				}
				return
			}
			mu.Lock()
			defer mu.Unlock()
			tokens = append(tokens, res.GetSlate()[1].GetToken())
		})
	}
	wait.Wait()
	if len(tokens) != 5 {
		t.Fatalf("%d places were given, want 5", len(tokens))
	}
	for _, token := range tokens[:2] {
		if r := h.report(t, token, "accepted"); r.GetAccepted() != 1 {
			t.Errorf("report: %v", r)
		}
	}
	h.stop()
	h = open(t, h.dir, nil)
	if res := h.decide(t, "999", "web.home"); strings.Contains(slate(res), "trial") {
		t.Error("after a restart there was a sixth place")
	}
}

// TestOutcomes: a report counts once, whatever comes first, and the next decision sees it;
// what is not a token of this server is refused, and stops no other.
func TestOutcomes(t *testing.T) {
	h := newLimits(t)
	res := h.decide(t, "1", "web.home")
	if got := slate(res); got != "top_up trial " {
		t.Fatalf("slate %s: class service comes first", got)
	}
	trial := res.GetSlate()[1].GetToken()
	if until := res.GetValidUntil().AsTime(); until.Before(time.Now().Add(8*time.Minute)) || until.After(time.Now().Add(11*time.Minute)) {
		t.Errorf("valid until %v", until)
	}
	for i, want := range []struct {
		outcome             string
		accepted, duplicate int32
	}{{"rejected", 1, 0}, {"rejected", 0, 1}, {"presented", 1, 0}} {
		if r := h.report(t, trial, want.outcome); r.GetAccepted() != want.accepted || r.GetDuplicates() != want.duplicate {
			t.Errorf("report %d, %s: %v", i, want.outcome, r)
		}
	}
	next := h.decide(t, "1", "web.home")
	d := detail(next, "trial")
	if reason(next, "trial") != rapportv1.Reason_REASON_CAPPED || d.GetBy() != "rest_on_no" || d.GetUntil().AsTime().Before(time.Now().Add(59*24*time.Hour)) {
		t.Errorf("after a no: %v %v", reason(next, "trial"), d)
	}
	other := newLimits(t)
	foreign := other.decide(t, "1", "web.home").GetSlate()[0].GetToken()
	changed := []byte(trial)
	changed[30] ^= 1
	reports := []*rapportv1.OutcomeReport{
		{Token: "x", Outcome: "clicked"},
		{Token: foreign, Outcome: "clicked"},
		{Token: string(changed), Outcome: "clicked"},
		{Token: trial, Outcome: "clicked"},
	}
	r, err := h.decisions().RecordOutcomes(context.Background(), connect.NewRequest(&rapportv1.RecordOutcomesRequest{Reports: reports}))
	if err != nil {
		t.Fatal(err)
	}
	var reasons []string
	for _, x := range r.Msg.GetRefused() {
		reasons = append(reasons, fmt.Sprint(x.GetIndex(), x.GetReason()))
	}
	if !slices.Equal(reasons, []string{"0TOKEN_MALFORMED", "1TOKEN_FORGED", "2TOKEN_FORGED"}) || r.Msg.GetAccepted() != 1 {
		t.Errorf("refused %v, accepted %d", reasons, r.Msg.GetAccepted())
	}
}

// TestDryRunReservesNothing: dry runs see what is left and take none of it.
func TestDryRunReservesNothing(t *testing.T) {
	h := newLimits(t)
	for range 20 {
		res, err := h.decisions().Decide(context.Background(), connect.NewRequest(&rapportv1.DecideRequest{Customer: "1", Touchpoint: "sms.push", DryRun: &rapportv1.DryRun{}}))
		if err != nil {
			t.Fatal(err)
		}
		if slate(res.Msg) != "pack " || res.Msg.GetSlate()[0].GetToken() != "" {
			t.Fatalf("dry run: %v", res.Msg)
		}
	}
	for range 3 {
		h.decide(t, "1", "sms.push")
	}
	res, err := h.decisions().Decide(context.Background(), connect.NewRequest(&rapportv1.DecideRequest{Customer: "1", Touchpoint: "sms.push", DryRun: &rapportv1.DryRun{}}))
	if err != nil || reason(res.Msg, "pack") != rapportv1.Reason_REASON_CAPPED {
		t.Errorf("a dry run after three contacts: %v %v", res, err)
	}
}

// TestLinkedContacts: a person's contacts count under whatever identity.
func TestLinkedContacts(t *testing.T) {
	h := newLimits(t)
	for range 2 {
		h.decide(t, "1", "sms.push")
	}
	h.decide(t, "msisdn:1", "sms.push")
	if _, err := h.profiles().LinkIdentities(context.Background(), connect.NewRequest(&rapportv1.LinkIdentitiesRequest{
		Links: []*rapportv1.IdentityLink{{A: "1", B: "msisdn:1"}},
	})); err != nil {
		t.Fatal(err)
	}
	for _, who := range []string{"1", "msisdn:1"} {
		if got := reason(h.decide(t, who, "sms.push"), "pack"); got != rapportv1.Reason_REASON_CAPPED {
			t.Errorf("%s after the link: %v", who, got)
		}
	}
}

// TestDecideMany: one contact in the better channel, an offer once, staff see a card and
// the public does not.
func TestDecideMany(t *testing.T) {
	h := newLimits(t)
	many := func(one bool, role string, at ...string) *rapportv1.DecideManyResponse {
		m := &rapportv1.DecideManyRequest{Customer: "1", OneContact: one, DryRun: &rapportv1.DryRun{}}
		for _, x := range at {
			m.At = append(m.At, &rapportv1.DecideAt{Touchpoint: x})
		}
		if role != "" {
			m.Context = contextOf(t, map[string]any{"role": role})
		}
		res, err := h.decisions().DecideMany(context.Background(), connect.NewRequest(m))
		if err != nil {
			t.Fatal(err)
		}
		return res.Msg
	}
	text := func(r *rapportv1.DecideManyResponse) string {
		var parts []string
		for _, d := range r.GetDecisions() {
			s := d.GetTouchpoint() + ":"
			for _, p := range d.GetSlate() {
				s += " " + p.GetOffer()
			}
			parts = append(parts, s)
		}
		return strings.Join(parts, "; ")
	}
	if got := text(many(true, "", "call.out", "sms.push")); got != "call.out:; sms.push: pack" {
		t.Errorf("one contact: %s, want the cheaper of two equal ones", got)
	}
	if got := text(many(false, "", "web.home", "agent.desk")); got != "web.home: top_up trial; agent.desk: pack" && got != "web.home: top_up; agent.desk: trial pack" {
		t.Errorf("two touchpoints: %s, want each offer once", got)
	}
	desk := many(false, "adviser", "agent.desk").GetDecisions()[0]
	if len(desk.GetCard()) != 2 || desk.GetCard()[0].GetValue() != "3.5" || desk.GetSlate()[0].GetScript() == "" {
		t.Errorf("at the desk: %v", desk)
	}
	if d := many(false, "trainee", "agent.desk").GetDecisions()[0]; len(d.GetCard()) != 0 {
		t.Errorf("a role without a card sees %v", d.GetCard())
	}
	if _, err := h.decisions().DecideMany(context.Background(), connect.NewRequest(&rapportv1.DecideManyRequest{Customer: "1", At: []*rapportv1.DecideAt{{Touchpoint: "sms.push"}, {Touchpoint: "sms.push"}}})); connect.CodeOf(err) != connect.CodeInvalidArgument {
		t.Errorf("a touchpoint twice: %v", err)
	}
}

// TestDecideStream: a list of customers, of whom one can't be decided for.
func TestDecideStream(t *testing.T) {
	h := newLimits(t)
	stream, err := h.decisions().DecideStream(context.Background(), connect.NewRequest(&rapportv1.DecideStreamRequest{
		Customers: []string{"1", ":", "2"}, Question: &rapportv1.DecideManyRequest{At: []*rapportv1.DecideAt{{Touchpoint: "sms.push"}}},
	}))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for stream.Receive() {
		m := stream.Msg()
		got = append(got, fmt.Sprintf("%s %d %t", m.GetCustomer(), len(m.GetDecision().GetDecisions()), m.GetError() != ""))
	}
	if err := stream.Err(); err != nil || !slices.Equal(got, []string{"1 1 false", ": 0 true", "2 1 false"}) {
		t.Errorf("%v %v", got, err)
	}
}

// TestPressure: a full channel ranks lower until it is not.
func TestPressure(t *testing.T) {
	h := newLimits(t)
	score := func() float64 { return h.decide(t, "1", "agent.desk").GetSlate()[0].GetScore() }
	before := score()
	load := func(x float64) {
		if _, err := h.decisions().ReportLoads(context.Background(), connect.NewRequest(&rapportv1.ReportLoadsRequest{
			Loads: []*rapportv1.ChannelLoad{{Channel: "agent", Load: x}},
		})); err != nil {
			t.Fatal(err)
		}
	}
	load(0.9)
	if got := score(); got >= before/5 {
		t.Errorf("under pressure the score is %v, was %v", got, before)
	}
	load(0.1)
	if got := score(); got != before {
		t.Errorf("after it the score is %v, was %v", got, before)
	}
	_, err := h.decisions().ReportLoads(context.Background(), connect.NewRequest(&rapportv1.ReportLoadsRequest{Loads: []*rapportv1.ChannelLoad{{Channel: "agnet", Load: 1}}}))
	if connect.CodeOf(err) != connect.CodeInvalidArgument {
		t.Errorf("an unknown channel: %v", err)
	}
}

// contextOf makes the context of a request.
func contextOf(t testing.TB, values map[string]any) map[string]*structpb.Value {
	t.Helper()
	s, err := structpb.NewStruct(values)
	if err != nil {
		t.Fatal(err)
	}
	return s.GetFields()
}

// newLimitsAt is newLimits with a clock that the test moves.
func newLimitsAt(t testing.TB) (*house, *fakeClock) {
	t.Helper()
	h := newLimits(t)
	h.stop()
	clock := &fakeClock{t: time.Now().Truncate(time.Second)}
	return open(t, h.dir, func(c *server.Config) { c.SetClock(clock.now) }), clock
}

// TestCapsWhenTheClockStepsBack: what was reported before the clock stepped back counts,
// though it is dated later than now, and what is reported after it counts too; a dry run
// of an earlier time sees nothing of it.
func TestCapsWhenTheClockStepsBack(t *testing.T) {
	h, clock := newLimitsAt(t)
	start := clock.now()
	clock.add(time.Minute)
	tokens := make([]string, 3)
	for i := range tokens {
		tokens[i] = h.decide(t, "1", "sms.push").GetSlate()[0].GetToken()
	}
	h.report(t, tokens[0], "presented")
	h.report(t, tokens[1], "presented")
	clock.add(-2 * time.Hour)
	if r := h.report(t, tokens[2], "presented"); r.GetAccepted() != 1 {
		t.Errorf("a report two hours before its decision: %v", r)
	}
	if r := h.report(t, tokens[2], "presented"); r.GetDuplicates() != 1 {
		t.Errorf("and again: %v", r)
	}
	if res := h.decide(t, "1", "sms.push"); reason(res, "pack") != rapportv1.Reason_REASON_CAPPED {
		t.Errorf("after the clock stepped back: %s, %v", slate(res), reason(res, "pack"))
	}
	dry := &rapportv1.DryRun{Time: timestamppb.New(start)}
	res, err := h.decisions().Decide(context.Background(), connect.NewRequest(&rapportv1.DecideRequest{Customer: "1", Touchpoint: "sms.push", DryRun: dry}))
	if err != nil || slate(res.Msg) != "pack " {
		t.Errorf("a dry run before all of it: %v %v", res, err)
	}
}

// TestDecideStreamCutOff: a list that takes longer than its caller waits says how far it
// came.
func TestDecideStreamCutOff(t *testing.T) {
	h := newLimits(t)
	customers := make([]string, 1000)
	for i := range customers {
		customers[i] = fmt.Sprint(i)
	}
	client := rapportv1connect.NewDecisionServiceClient(direct{h.server.Handler()}, "http://in.process")
	ask := connect.NewRequest(&rapportv1.DecideStreamRequest{Customers: customers, Question: &rapportv1.DecideManyRequest{At: []*rapportv1.DecideAt{{Touchpoint: "sms.push"}}}})
	// The deadline goes to the server only: here, the caller would hear of it first.
	ask.Header().Set("Connect-Timeout-Ms", "20")
	stream, err := client.DecideStream(context.Background(), ask)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for stream.Receive() {
		n++
	}
	want := fmt.Sprintf("cut off after %d of 1000 customers", n)
	if err := stream.Err(); connect.CodeOf(err) != connect.CodeDeadlineExceeded || !strings.Contains(err.Error(), want) {
		t.Errorf("after %d answers: %v, want %q", n, err, want)
	}
}

// TestWhoLeavesHoldsNothing: a decision whose caller goes while the disk is slow holds
// neither a contact nor a place, also if the disk writes it in the end.
func TestWhoLeavesHoldsNothing(t *testing.T) {
	h := newLimits(t)
	h.stop()
	f := &faults{writing: make(chan struct{}, 1)}
	h = open(t, h.dir, func(c *server.Config) {
		c.SetLedgerFS(faultyFS{f})
		c.Deadline = 30 * time.Second
	})
	client := rapportv1connect.NewDecisionServiceClient(direct{h.server.Handler()}, "http://in.process")
	for round := range 20 {
		for _, at := range []string{"sms.push", "web.home"} { // at the second are five places
			release := block(&f.stuck)
			ctx, cancel := context.WithCancel(context.Background())
			go func() { <-f.writing; cancel() }()
			_, err := client.Decide(ctx, connect.NewRequest(&rapportv1.DecideRequest{Customer: "1", Touchpoint: at}))
			release()
			if connect.CodeOf(err) != connect.CodeCanceled {
				t.Fatalf("round %d: %v", round, err)
			}
		}
	}
	for i := range 3 {
		if got := slate(h.decide(t, "1", "sms.push")); got != "pack " {
			t.Errorf("contact %d of three: %q", i+1, got)
		}
	}
	for i := range 6 {
		if got := strings.Contains(slate(h.decide(t, fmt.Sprint(100+i), "web.home")), "trial"); got != (i < 5) {
			t.Errorf("place %d of five: %v", i+1, got)
		}
	}
}

// TestContactAtSeveralTouchpoints: a slate that is spread over two touchpoints of a channel
// is one contact of the channel, and one of each of them, before its report and after.
func TestContactAtSeveralTouchpoints(t *testing.T) {
	h := newHouse(t)
	if _, err := h.publish(`
channels:
  - {id: web, direction: inbound}
touchpoints:
  - {id: web.home, channel: web}
  - {id: web.side, channel: web}
offers:
  - {id: a, group: g, class: marketing, propensity: {start: 0.9}, treatments: [{channel: web, content: a}]}
  - {id: b, group: g, class: marketing, propensity: {start: 0.5}, treatments: [{channel: web, content: b}]}
  - {id: c, group: g, class: marketing, propensity: {start: 0.1}, treatments: [{channel: web, content: c}]}
scenarios:
  - {id: inbound, touchpoints: [web.home, web.side], offers: [a, b, c]}
contact_policies:
  - {id: places, per: touchpoint, count: contact, max: 1, within: 1d}
  - {id: channel, per: channel, count: contact, max: 2, within: 1d}
  - {id: clicks, per: touchpoint, count: clicked, max: 1, within: 2d}
`); err != nil {
		t.Fatal(err)
	}
	res, err := h.decisions().DecideMany(context.Background(), connect.NewRequest(&rapportv1.DecideManyRequest{
		Customer: "1", At: []*rapportv1.DecideAt{{Touchpoint: "web.home"}, {Touchpoint: "web.side"}},
	}))
	if err != nil {
		t.Fatal(err)
	}
	var tokens []string
	for _, d := range res.Msg.GetDecisions() {
		for _, p := range d.GetSlate() {
			tokens = append(tokens, p.GetToken())
		}
	}
	if len(tokens) != 2 {
		t.Fatalf("answer %v", res.Msg)
	}
	check := func(when, home, side string) {
		t.Helper()
		for at, want := range map[string]string{"web.home": home, "web.side": side} {
			if d := detail(h.decide(t, "1", at), "c"); d.GetBy() != want {
				t.Errorf("%s, %s: withheld by %q, want %q", when, at, d.GetBy(), want)
			}
		}
	}
	check("pending", "places", "places")
	h.report(t, tokens[1], "clicked")
	check("reported", "places", "places")
	x := h.timeline(t, &rapportv1.GetTimelineRequest{Customer: "1"})
	var at []string
	for _, i := range x.GetInteractions() {
		at = append(at, i.GetOutcome()+" "+i.GetTouchpoint())
	}
	slices.Sort(at)
	if want := []string{" web.home+web.side", "clicked web.side"}; !slices.Equal(at, want) {
		t.Errorf("the history has %q, want %q", at, want)
	}
}
