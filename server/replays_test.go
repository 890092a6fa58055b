package server_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"rapport/profilestore"
	"rapport/server"
	rapportv1 "rapport/server/api/rapport/v1"
	"rapport/server/api/rapport/v1/rapportv1connect"
	"rapport/server/catalog"
	"rapport/server/decide"
	"rapport/server/decisionlog"
)

var (
	replayDecisions = flag.Int("replays", 3000, "how many decisions TestReplays makes")
	replaySeed      = flag.Uint64("replays.seed", 1, "the seed of TestReplays")
)

const replaySchema = `
sources: [{id: bi}, {id: crm}]
fields:
  - {name: value.balance, type: number, batch: bi, decimals: 2, events: {on: 'event.type == "balance"', set: event.amount}}
  - {name: value.score, type: number, batch: bi, decimals: 3}
  - {name: usage.data_mb, type: counter, batch: bi, decimals: 3, events: {on: 'event.type == "data_session"', add: event.mb}}
  - {name: usage.week_mb, type: counter, window: 7d, events: {on: 'event.type == "data_session"', add: event.mb}}
  - {name: tag.vip, type: flag, batch: crm}
  - {name: marketing.owned, type: set, batch: crm, events: {on: 'event.type == "order"', add: event.product}}
  - {name: marketing.joined, type: time, batch: crm}
  - {name: preference.channel, type: text, batch: crm}
  - {name: preference.persona, type: text, batch: crm}
  - {name: preference.sms, type: flag, events: {on: 'event.type == "consent"', set: event.yes}}
  - {name: preference.quiet, type: flag, events: {on: 'event.type == "quiet"', set: event.yes}}
  - {name: general.zone, type: text, batch: crm}
  - {name: value.arpu, type: number, events: {on: 'event.type == "balance"', set: event.amount}}
  - {name: tag.high_traffic, type: flag, events: {on: 'event.type == "quiet"', set: event.yes}}
  - {name: general.customer_type, type: text, events: {on: 'event.type == "order"', set: event.product}}
  - {name: general.customer_since, type: time, batch: crm}
  - {name: usage.calls, type: counter, events: {on: 'event.type == "data_session"', add: event.mb}}
`

// replayCatalog returns a catalogue of which the numbers are drawn. Its inbound scenario
// is ranked by the live version of pvcl, the side by one that traps, the desk by one that
// reads everything and draws, the shop by nobody.
func replayCatalog(r *rand.Rand) string {
	n := r.IntN
	yes := func() bool { return n(2) == 0 }
	return fmt.Sprintf(`
clock: {zone: Asia/Shanghai, field: general.zone}
control_group: {percent: %d, salt: s%d}
context:
  - {name: willing, type: flag, default: true}
  - {name: role, type: text}
  - {name: minutes, type: number, default: %d}
  - {name: willingness, type: number}
channels:
  - {id: web, direction: inbound, hold: 1m}
  - {id: app, direction: inbound, cost: 0.01, hold: 5m}
  - {id: agent, direction: inbound, cost: 2, attributes: {human: true, tone: warm}, pressure: {above: 0.8, weight: 0.%d}}
  - {id: sms, direction: outbound, cost: 0.05, consent: preference.sms, do_not_disturb: preference.quiet, quiet_hours: {from: "21:00", until: "0%d:00"}}
  - {id: call, direction: outbound, cost: 1, do_not_disturb: preference.quiet, contact_hours: [{id: evening, when: profile.tag.vip, hours: {from: "1%d:00", until: "21:00"}}]}
touchpoints:
  - {id: web.home, channel: web, slots: %d}
  - {id: web.side, channel: web, slots: 2}
  - {id: app.home, channel: app, slots: 2}
  - {id: agent.desk, channel: agent, slots: 3, audience: staff}
  - {id: sms.push, channel: sms, slots: 2}
  - {id: call.out, channel: call}
offers:
  - {id: top_up, group: notices, class: service, value: 5, propensity: {start: 0.9}, eligible: profile.value.balance < %d.0, treatments: [{channel: web, content: "Your balance is {{profile.value.balance}}"}, {channel: app, content: x}, {channel: sms, content: "Top up, {{profile.value.balance}}"}]}
  - {id: data_10g, group: data, class: marketing, value: %d, boost: %d, exclusive: pack, propensity: {field: value.score, start: 0.1}, eligible: profile.usage.data_mb > %d.0, owned: '"data_10g" in profile.marketing.owned', treatments: [{channel: web, content: 10 GB more}, {channel: sms, content: 10 GB}, {channel: app, content: x}, {channel: call, content: x}]}
  - {id: data_20g, group: data, class: marketing, value: 40, attributes: {price: 30, data: true, product: data_10g}, exclusive: pack, propensity: {start: 0.05}, eligible: profile.usage.week_mb > %d.0 || table.plan == "big", treatments: [{channel: web, content: x}, {channel: app, content: x}, {channel: agent, content: x, script: Say x}]}
  - {id: vip_line, group: care, class: care, value: 1, propensity: {start: 0.5}, eligible: profile.tag.vip && context.willing, treatments: [{channel: web, content: Your own line}, {channel: sms, content: x}, {channel: call, content: x}, {channel: agent, content: x}]}
  - {id: thanks, group: care, class: care, value: 1, propensity: {start: 0.2}, eligible: 'now - profile.marketing.joined > duration("%dh")', treatments: [{channel: web, content: x}, {channel: app, content: x}]}
  - {id: magazine, group: extra, class: marketing, value: 2, propensity: {start: 0.2}, prerequisite: '"data_10g" in profile.marketing.owned', treatments: [{channel: web, content: Read on}, {channel: sms, content: x}]}
  - {id: film, group: extra, class: marketing, value: 3, propensity: {start: 0.2}, eligible: '1 / int(context.minutes) >= 0', treatments: [{channel: web, content: x}, {channel: app, content: x}, {channel: call, content: x}]}
  - {id: old, group: extra, class: marketing, value: 3, propensity: {start: 0.2}, valid_until: "2020-01-01T00:00:00Z", treatments: [{channel: web, content: x}]}
  - {id: cheap, group: extra, class: marketing, value: 0.01, propensity: {start: 0.01}, treatments: [{channel: web, content: x}, {channel: app, content: x}]}
  - {id: twin_a, group: twins, class: marketing, value: 4, propensity: {start: 0.25, start_evidence: 20}, treatments: [{channel: web, content: x}, {channel: app, content: x}, {channel: sms, content: x}, {channel: call, content: x}]}
  - {id: twin_b, group: twins, class: marketing, value: 4, propensity: {start: 0.25, start_evidence: 20}, treatments: [{channel: web, content: x}, {channel: app, content: x}, {channel: sms, content: x}, {channel: call, content: x}]}
  - {id: help, group: last, class: service, value: 0, propensity: {start: 1}, treatments: [{channel: web, content: "How can we help?"}, {channel: app, content: x}, {channel: sms, content: Hello}, {channel: call, content: x}, {channel: agent, content: x}]}
decision_tables:
  - {id: plan, inputs: [profile.tag.vip, profile.value.balance], rows: [{when: ["true", ">= 9"], result: big}, {when: ["-", "-"], result: small}]}
scenarios:
  - {id: inbound, touchpoints: [web.home, app.home], groups: [notices, data, care, extra, twins], strategy: {name: pvcl, parameters: {value_weight: 0.%d}}, fallback: help, class_order: %v, minimum_score: 0.05, weights: [{group: twins, weight: 1.%d}]}
  - {id: side, touchpoints: [web.side], groups: [data, care, extra], strategy: {name: traps}, fallback: help}
  - {id: outbound, touchpoints: [sms.push, call.out], groups: [notices, data, care, extra, twins], channel_choice: {preferred: preference.channel, persona: preference.persona, personas: [{persona: screen, channels: [sms]}, {persona: talker, channels: [call, sms]}], otherwise: cheapest}}
  - {id: desk, touchpoints: [agent.desk], groups: [data, care], strategy: {name: golden}}
contact_policies:
  - {id: rest, per: offer, count: rejected, max: 1, within: 3d, suppress: 5d}
  - {id: flood, count: contact, max: %d, within: 1h}
  - {id: messages, count: contact, max: 2, within: 1d, channels: [sms]}
  - {id: care_day, per: group, count: contact, max: 3, within: 1d, classes: [care]}
capacities:
  - {id: packs, max: %d, per: hour, offers: [data_10g]}
  - {id: calls, max: %d, per: day, channels: [call]}
  - {id: films, max: 40, per: total, offers: [film], taken_by: accepted}
`, 5+n(20), n(3), n(2), n(9), 7+n(3), 5+n(4), 1+n(3), 5+n(30), 10+n(40), n(100), n(6000), n(600), n(10000), n(10), yes(), n(10), 5+n(10), 1+n(4), 2+n(6))
}

// replayRun makes decisions of a server that changes all the time, and counts what came
// of them.
type replayRun struct {
	h      *house
	faults *faults
	clock  *fakeClock
	client rapportv1connect.DecisionServiceClient

	mu                                sync.Mutex
	decided                           int
	reasons, steps, classes, rankers  map[string]int
	shapes, catalogs, snapshots, misc map[string]int
}

// saw counts what is in a record.
func (x *replayRun) saw(r *decisionlog.Record) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.decided++
	x.catalogs[fmt.Sprint(r.Catalog)]++
	shape := map[bool]string{true: "many", false: "one touchpoint"}[r.Many]
	if r.OneContact {
		shape = "one contact"
	}
	x.shapes[shape]++
	if r.Profile != nil {
		for _, s := range r.Profile.Snapshots {
			x.snapshots[fmt.Sprint(s.Source, s.Generation)]++
		}
	}
	for what, is := range map[string]bool{
		"history": !r.History.Empty(), "pending": len(r.Pending) > 0, "loads": len(r.Loads) > 0, "evidence": r.Evidence != nil, "places": len(r.Places) > 0, "context": len(r.Context) > 0,
		"a place that was full": slices.ContainsFunc(r.Places, func(p decisionlog.PlaceAsked) bool { return !p.Taken }),
	} {
		if is {
			x.misc[what]++
		}
	}
	for i := range r.At {
		a := &r.At[i]
		x.rankers[a.RankedBy.String()]++
		for _, reason := range a.Reasons {
			x.reasons[reason.String()]++
		}
		for _, d := range a.Degradations {
			x.steps[strings.TrimPrefix(rapportv1.DegradationKind(d.Step).String(), "DEGRADATION_KIND_")]++
		}
		for k := range a.Slate {
			x.classes[replayClass(a.Slate[k].Offer)]++
		}
	}
}

func replayClass(offer string) string {
	switch offer {
	case "top_up", "help":
		return "service"
	case "vip_line", "thanks":
		return "care"
	}
	return "marketing"
}

// load loads a snapshot of each source, of which the values are drawn.
func (x *replayRun) load(t *testing.T, r *rand.Rand, customers int) {
	var bi, crm strings.Builder
	bi.WriteString("customer,value.balance,value.score,usage.data_mb\n")
	crm.WriteString("customer,tag.vip,marketing.owned,marketing.joined,preference.channel,preference.persona,general.zone,general.customer_since\n")
	pick := func(list ...string) string { return list[r.IntN(len(list))] }
	for i := range customers {
		if r.IntN(10) > 0 {
			fmt.Fprintf(&bi, "%d,%s,%s,%d\n", i, pick("", "3.5", "50", "9.25"), pick("", "0.3", "0.05"), r.IntN(9000))
		}
		if r.IntN(10) > 0 {
			fmt.Fprintf(&crm, "%d,%s,%s,%s,%s,%s,%s,%s\n", i, pick("yes", "no", ""), pick("", "data_10g", "film;data_10g"),
				pick("", "2024-05-01T00:00:00Z"), pick("", "sms", "call"), pick("", "screen", "talker", "other"), pick("", "Europe/Paris", "America/Lima", "nowhere"), pick("", "2019-02-01T00:00:00Z"))
		}
	}
	load(t, x.h.dir, "bi", bi.String())
	load(t, x.h.dir, "crm", crm.String())
	for _, source := range []string{"bi", "crm"} {
		list, err := x.h.snapshots().ListSnapshots(context.Background(), connect.NewRequest(&rapportv1.ListSnapshotsRequest{Source: source}))
		if err != nil {
			t.Fatal(err)
		}
		newest := int64(0)
		for _, s := range list.Msg.GetSnapshots() {
			newest = max(newest, s.GetGeneration())
		}
		if _, err := x.h.snapshots().ActivateSnapshot(context.Background(), connect.NewRequest(&rapportv1.ActivateSnapshotRequest{Source: source, Generation: newest})); err != nil {
			t.Fatal(err)
		}
	}
}

// ask makes one decision of a drawn kind and reports of some what came of them.
func (x *replayRun) ask(t *testing.T, r *rand.Rand, customers int) {
	x.clock.add(time.Duration(r.IntN(90)) * time.Second)
	ctx := context.Background()
	if r.IntN(25) == 0 { // the caller has no time
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(1+r.IntN(2))*time.Millisecond)
		defer cancel()
	}
	customer := fmt.Sprint(r.IntN(customers))
	if r.IntN(4) == 0 { // some are met often
		customer = fmt.Sprint(r.IntN(5))
	}
	if r.IntN(30) == 0 {
		customer = "nobody-" + fmt.Sprint(r.IntN(1000))
	}
	given := map[string]any{}
	if r.IntN(3) == 0 {
		given["willing"] = r.IntN(2) == 0
	}
	if r.IntN(5) == 0 {
		given["minutes"] = 0
	}
	if r.IntN(2) == 0 {
		given["role"] = []string{"agent", "store"}[r.IntN(2)]
		given["willingness"] = 4 * r.Float64()
	}
	places := []string{"web.home", "web.side", "app.home", "agent.desk", "sms.push", "call.out"}
	var slates []*rapportv1.Placement
	var err error
	if r.IntN(3) > 0 {
		var res *connect.Response[rapportv1.DecideResponse]
		res, err = x.client.Decide(ctx, connect.NewRequest(&rapportv1.DecideRequest{
			Customer: customer, Touchpoint: places[r.IntN(len(places))], Slots: int32(r.IntN(3)), Context: contextOf(t, given),
		}))
		if err == nil {
			slates = res.Msg.GetSlate()
		}
	} else {
		r.Shuffle(len(places), func(i, j int) { places[i], places[j] = places[j], places[i] })
		q := &rapportv1.DecideManyRequest{Customer: customer, OneContact: r.IntN(2) == 0, Context: contextOf(t, given)}
		for _, id := range places[:1+r.IntN(4)] {
			q.At = append(q.At, &rapportv1.DecideAt{Touchpoint: id, Slots: int32(r.IntN(2))})
		}
		var res *connect.Response[rapportv1.DecideManyResponse]
		res, err = x.client.DecideMany(ctx, connect.NewRequest(q))
		if err == nil {
			for _, d := range res.Msg.GetDecisions() {
				slates = append(slates, d.GetSlate()...)
			}
		}
	}
	if err != nil {
		if c := connect.CodeOf(err); c != connect.CodeDeadlineExceeded && c != connect.CodeResourceExhausted {
			t.Error(err)
		}
		return
	}
	for _, p := range slates {
		if p.GetToken() == "" || r.IntN(8) > 0 {
			continue
		}
		outcome := []string{"presented", "clicked", "accepted", "rejected"}[r.IntN(4)]
		_, err := x.client.RecordOutcomes(context.Background(), connect.NewRequest(&rapportv1.RecordOutcomesRequest{Reports: []*rapportv1.OutcomeReport{{Token: p.GetToken(), Outcome: outcome}}}))
		if err != nil && !x.faults.unwritable.Load() && !x.faults.unreadable.Load() {
			t.Error(err)
		}
	}
}

// change changes something that decisions are made from.
func (x *replayRun) change(t *testing.T, r *rand.Rand, customers int) {
	fail := func(err error) {
		if err != nil {
			t.Error(err)
		}
	}
	switch r.IntN(8) {
	case 0:
		_, err := x.h.publish(replayCatalog(r))
		fail(err)
	case 1:
		version := []string{"1.0.0", "1.0.1", "1.0.2"}[r.IntN(3)]
		fail(x.h.tryPut(version, live, 0))
	case 2:
		stage, percent := shadow, 0.0
		if r.IntN(2) == 0 {
			stage, percent = share, 30
		}
		if err := x.h.tryPut([]string{"1.0.1", "1.0.2"}[r.IntN(2)], stage, percent); err != nil && connect.CodeOf(err) != connect.CodeFailedPrecondition {
			t.Error(err)
		}
	case 3:
		x.faults.unreadable.Store(!x.faults.unreadable.Load() && r.IntN(2) == 0)
	case 4:
		x.faults.unwritable.Store(!x.faults.unwritable.Load() && r.IntN(2) == 0)
	case 5:
		_, err := x.client.ReportLoads(context.Background(), connect.NewRequest(&rapportv1.ReportLoadsRequest{Loads: []*rapportv1.ChannelLoad{{Channel: "agent", Load: r.Float64()}}}))
		fail(err)
	case 6:
		x.load(t, r, customers)
	case 7:
		var events []*rapportv1.Event
		for i := range 40 {
			kind, attribute, value := "balance", "amount", any(r.Float64()*60)
			switch r.IntN(5) {
			case 1:
				kind, attribute, value = "data_session", "mb", any(r.Float64()*500)
			case 2:
				kind, attribute, value = "order", "product", any("data_10g")
			case 3:
				kind, attribute, value = "consent", "yes", any(r.IntN(3) > 0)
			case 4:
				kind, attribute, value = "quiet", "yes", any(r.IntN(4) == 0)
			}
			events = append(events, &rapportv1.Event{
				Id: fmt.Sprint(r.Uint64(), i), Type: kind, Identity: fmt.Sprint(r.IntN(customers)), Time: timestamppb.New(x.clock.now()),
				Attributes: &structpb.Struct{Fields: contextOf(t, map[string]any{attribute: value})},
			})
		}
		if _, err := x.h.profiles().IngestEvents(context.Background(), connect.NewRequest(&rapportv1.IngestEventsRequest{Events: events})); err != nil && !x.faults.unreadable.Load() {
			t.Error(err)
		}
	}
}

func newReplayRun(t *testing.T) *replayRun {
	x := &replayRun{
		faults:  &faults{writing: make(chan struct{}, 1)},
		clock:   &fakeClock{t: time.Now().Truncate(time.Hour)},
		reasons: make(map[string]int), steps: make(map[string]int), classes: make(map[string]int), rankers: make(map[string]int), shapes: make(map[string]int),
		catalogs: make(map[string]int), snapshots: make(map[string]int), misc: make(map[string]int),
	}
	dir := t.TempDir()
	if _, _, err := server.InstallSchema(dir, "schema.yaml", []byte(replaySchema)); err != nil {
		t.Fatal(err)
	}
	x.h = open(t, dir, func(c *server.Config) {
		c.CacheEntries = 60
		c.Deadline = 200 * time.Millisecond
		c.SetDecided(x.saw)
		c.SetClock(x.clock.now)
		c.WrapEngine = func(e profilestore.Engine) profilestore.Engine { return faultyEngine{e, x.faults} }
		c.SetLedgerFS(faultyFS{x.faults})
	})
	x.client = rapportv1connect.NewDecisionServiceClient(direct{x.h.server.Handler()}, "http://in.process")
	return x
}

// TestReplays makes decisions while everything changes that they are made from, closes the
// server, and has another process make all of them again.
func TestReplays(t *testing.T) {
	const customers, workers = 200, 4
	x := newReplayRun(t)
	r := rand.New(rand.NewPCG(*replaySeed, 0))
	trap := hostile{name: "traps", version: "1", before: `
		local.get 2  i32.const 1  i32.and  i32.eqz  if unreachable end
		local.get 1  local.get 1  i32.load offset=84  i32.add  i64.const 1  i64.store`} // it vetoes the first
	x.h.upload(t, trap.bytes(t), nil)
	x.golden(t)
	x.h.release(t, trap.name, trap.version)
	x.h.upload(t, module(t, "1.0.1", equalValues), nil)
	x.h.upload(t, module(t, "1.0.2", infinite), nil)
	if _, err := x.h.publish(replayCatalog(r)); err != nil {
		t.Fatal(err)
	}
	x.load(t, r, customers)
	round := min(max(*replayDecisions/60, 40), 200) // between two changes
	for x.count() < *replayDecisions {
		var callers sync.WaitGroup
		for w := range workers {
			own := rand.New(rand.NewPCG(r.Uint64(), uint64(w)))
			callers.Go(func() {
				for range round / workers {
					x.ask(t, own, customers)
				}
			})
		}
		x.change(t, r, customers)
		callers.Wait()
	}
	x.h.stop()
	t.Logf("%d decisions, %d catalogues, %d snapshots\nreasons %v\nsteps down %v\noffered by class %v\nranked by %v\nasked %v\nwith %v",
		x.decided, len(x.catalogs), len(x.snapshots), x.reasons, x.steps, x.classes, x.rankers, x.shapes, x.misc)
	x.checkCoverage(t)

	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestReplaysAgain$", "-test.v")
	cmd.Env = append(os.Environ(), "RAPPORT_TEST_REPLAY="+x.h.dir)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	_, summary, ok := bytes.Cut(out, []byte("SUMMARY "))
	summary, _, _ = bytes.Cut(summary, []byte("\n"))
	var s rapportv1.ReplaySummary
	if !ok || protojson.Unmarshal(summary, &s) != nil {
		t.Fatalf("the other process said %s", out)
	}
	t.Logf("replayed in another process in %.2f s: %.0f a second, %d identical", s.GetSeconds(), float64(s.GetDecisions())/s.GetSeconds(), s.GetIdentical())
	if s.GetDecisions() != int64(x.decided) || s.GetIdentical() != int64(x.decided) {
		t.Errorf("of %d decisions: %v", x.decided, &s)
	}
}

// golden uploads the strategy that reads everything: sets, context and history too.
func (x *replayRun) golden(t *testing.T) {
	t.Helper()
	wasm, err := os.ReadFile("sandbox/testdata/golden/golden_c.wasm")
	if err != nil {
		t.Fatal(err)
	}
	x.h.upload(t, wasm, nil)
	x.h.release(t, "golden", "1.0.0")
}

func (x *replayRun) count() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.decided
}

// checkCoverage wants each reason, step down, class and kind of input.
func (x *replayRun) checkCoverage(t *testing.T) {
	for _, reason := range decide.Reasons() {
		if reason != decide.ReasonNone && x.reasons[reason.String()] == 0 {
			t.Errorf("no candidate has reason %s", reason)
		}
	}
	for _, step := range []string{"STRATEGY_FAILED", "PROFILE_UNREADABLE", "FALLBACK", "STRATEGY_SUSPENDED", "NOT_RESERVED"} {
		if x.steps[step] == 0 {
			t.Errorf("no decision has the step down %s", step)
		}
	}
	for _, class := range []catalog.Class{catalog.ClassService, catalog.ClassCare, catalog.ClassMarketing} {
		if x.classes[class.String()] == 0 {
			t.Errorf("no offer of class %s was made", class)
		}
	}
	if x.rankers["golden 1.0.0"] == 0 {
		t.Error("the strategy that reads everything did not rank")
	}
	if len(x.misc) < 7 || len(x.shapes) < 3 || len(x.catalogs) < 2 || len(x.snapshots) < 3 {
		t.Errorf("inputs %v, questions %v, catalogues %v, snapshots %v", x.misc, x.shapes, x.catalogs, x.snapshots)
	}
}

// TestReplayWith holds what a replay says of another strategy against what decisions say
// when it ranks.
func TestReplayWith(t *testing.T) {
	const customers, decisions = 200, 400
	x := newReplayRun(t)
	r := rand.New(rand.NewPCG(*replaySeed, 1))
	trap := hostile{name: "traps", version: "1"}
	x.h.upload(t, trap.bytes(t), nil)
	x.golden(t)
	x.h.release(t, trap.name, trap.version)
	yaml, _, _ := strings.Cut(replayCatalog(r), "contact_policies:")                            // the second time everything is as it was the first
	yaml = regexp.MustCompile(`, parameters: {value_weight: 0\.\d}`).ReplaceAllString(yaml, "") // the constant is the module's
	if _, err := x.h.publish(yaml); err != nil {
		t.Fatal(err)
	}
	x.load(t, r, customers)
	var asked []*rapportv1.DecideResponse
	var questions []*rapportv1.DecideRequest
	for range decisions {
		q := &rapportv1.DecideRequest{Customer: fmt.Sprint(r.IntN(customers)), Touchpoint: []string{"web.home", "app.home"}[r.IntN(2)]}
		asked, questions = append(asked, x.h.ask(t, q)), append(questions, q)
	}
	x.h.upload(t, module(t, "1.0.1", equalValues), nil)
	got, err := x.h.replay(context.Background(), &rapportv1.ReplayDecisionsRequest{Strategy: "pvcl@1.0.1", Examples: 1000})
	if err != nil {
		t.Fatal(err)
	}
	x.h.put(t, "1.0.1", live, 0)
	winner := func(r *rapportv1.DecideResponse) string {
		if len(r.GetSlate()) == 0 {
			return ""
		}
		return r.GetSlate()[0].GetOffer()
	}
	want, winners, slates := make(map[string]int64), int64(0), int64(0)
	for i, was := range asked {
		q := questions[i]
		q.DryRun = &rapportv1.DryRun{Time: was.GetTime(), Seed: was.GetSeed()}
		is := x.h.ask(t, q)
		if is.GetRankedBy().GetVersion() != "1.0.1" {
			t.Fatalf("ranked by %v", is.GetRankedBy())
		}
		if from, to := winner(was), winner(is); from != to {
			winners++
			want[fmt.Sprint(q.GetTouchpoint(), " ", from, " → ", to)]++
		}
		if slate(was) != slate(is) {
			slates++
		}
	}
	changes := make(map[string]int64)
	for _, c := range got.GetChanges() {
		changes[fmt.Sprint(c.GetTouchpoint(), " ", c.GetFrom(), " → ", c.GetTo())] = c.GetAnswers()
	}
	t.Logf("%d decisions, %d with another slate, %d with another winner: %v", got.GetDecisions(), got.GetSlatesChanged(), got.GetWinnersChanged(), changes)
	if got.GetInexact() != 0 || got.GetDecisions() != decisions || got.GetSlatesChanged() != slates || got.GetWinnersChanged() != winners || !maps.Equal(changes, want) || winners < 20 {
		t.Errorf("want %d with another slate, %d with another winner: %v; %v", slates, winners, want, got.GetCauses())
	}
}

// TestReplaysAgain is the other process of TestReplays.
func TestReplaysAgain(t *testing.T) {
	dir := os.Getenv("RAPPORT_TEST_REPLAY")
	if dir == "" {
		t.Skip("it is a part of TestReplays")
	}
	h := open(t, dir, nil)
	s, err := h.replay(context.Background(), &rapportv1.ReplayDecisionsRequest{Examples: 5})
	if err != nil {
		t.Fatal(err)
	}
	b, err := protojson.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var line bytes.Buffer
	if err := json.Compact(&line, b); err != nil {
		t.Fatal(err)
	}
	fmt.Printf("SUMMARY %s\n", line.String()) //nolint:forbidigo // for the process that waits for it
}

// replay replays.
func (h *house) replay(ctx context.Context, m *rapportv1.ReplayDecisionsRequest) (*rapportv1.ReplaySummary, error) {
	stream, err := h.decisions().ReplayDecisions(ctx, connect.NewRequest(m))
	if err != nil {
		return nil, err
	}
	defer func() { _ = stream.Close() }()
	var last *rapportv1.ReplaySummary
	for stream.Receive() {
		last = stream.Msg().GetSummary()
	}
	if last == nil && stream.Err() == nil {
		return nil, errors.New("no summary")
	}
	return last, stream.Err()
}
