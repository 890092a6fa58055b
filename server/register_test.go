package server_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"rapport/server"
	rapportv1 "rapport/server/api/rapport/v1"
	"rapport/server/api/rapport/v1/rapportv1connect"
	"rapport/server/sandbox/compilertest"
)

const segmentsYAML = catalogYAML + `
segments:
  - {id: poor, owner: CRM, description: little left, when: profile.value.balance < 10}
  - {id: heavy, when: profile.usage.data_mb > 5000}
  - {id: poor_and_heavy, when: segment.poor && segment.heavy}
  - {id: not_vip, when: "!profile.tag.vip"}
  - {id: broken, when: 1 / int(profile.value.balance - profile.value.balance) > 0}
`

func (h *house) register() rapportv1connect.RegisterServiceClient {
	return rapportv1connect.NewRegisterServiceClient(http.DefaultClient, h.url)
}

// countSegments returns the result of a count, and how many responses came before it.
func (h *house) countSegments(ctx context.Context, req *rapportv1.CountSegmentsRequest) (*rapportv1.SegmentCounts, int, error) {
	stream, err := h.register().CountSegments(ctx, connect.NewRequest(req))
	if err != nil {
		return nil, 0, err
	}
	defer func() { _ = stream.Close() }()
	before := 0
	for stream.Receive() {
		if c := stream.Msg().GetCounts(); c != nil {
			return c, before, nil
		}
		before++
	}
	return nil, before, stream.Err()
}

func countsText(c *rapportv1.SegmentCounts) string {
	out := fmt.Sprintf("%d customers", c.GetCustomers())
	for _, s := range c.GetSegments() {
		out += fmt.Sprintf(", %s %d/%d/%d", s.GetSegment(), s.GetHeads(), s.GetUnknown(), s.GetFailed())
	}
	return out
}

// TestSegments: a segment is a condition of rules, and is counted over the customers of
// the current snapshots, with what events have changed.
func TestSegments(t *testing.T) {
	h := newHouse(t)
	if _, err := h.publish(strings.Replace(segmentsYAML, "eligible: profile.value.balance < 10", "eligible: segment.poor_and_heavy", 1)); err != nil {
		t.Fatal(err)
	}
	list, err := h.register().ListSegments(t.Context(), connect.NewRequest(&rapportv1.ListSegmentsRequest{}))
	if err != nil || len(list.Msg.GetSegments()) != 5 || list.Msg.GetSegments()[0].GetOwner() != "CRM" || list.Msg.GetCatalogVersion() != 2 {
		t.Errorf("%v, %v", list, err)
	}
	for customer, want := range map[string]bool{"1": true, "2": false, "3": false} {
		if got := strings.Contains(slate(h.decide(t, customer, "web.home")), "top_up"); got != want {
			t.Errorf("customer %s is offered top_up: %t", customer, got)
		}
	}
	// 1: 3.5 left, 6000 MB, VIP; 2: 50, 10.25, no VIP; 3: not known, 9000, no row of crm.
	c, _, err := h.countSegments(t.Context(), &rapportv1.CountSegmentsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := countsText(c), "3 customers, poor 1/1/0, heavy 2/0/0, poor_and_heavy 1/1/0, not_vip 1/1/0, broken 0/1/2"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if len(c.GetSnapshots()) != 2 || c.GetSegments()[1].GetShare() != 2.0/3 || c.GetSample() != 1 || c.GetCatalogVersion() != 2 {
		t.Errorf("%v", c)
	}
	amount, err := structpb.NewStruct(map[string]any{"amount": 1.0})
	if err != nil {
		t.Fatal(err)
	}
	events := &rapportv1.IngestEventsRequest{}
	for _, customer := range []string{"2", "9"} { // 9 has no row
		events.Events = append(events.Events, &rapportv1.Event{Id: "e" + customer, Type: "balance", Identity: customer, Time: timestamppb.Now(), Attributes: amount})
	}
	if r, err := h.profiles().IngestEvents(t.Context(), connect.NewRequest(events)); err != nil || r.Msg.GetAccepted() != 2 {
		t.Fatal(r, err)
	}
	c, _, err = h.countSegments(t.Context(), &rapportv1.CountSegmentsRequest{Segments: []string{"not_vip", "poor"}})
	if got, want := countsText(c), "3 customers, not_vip 1/1/0, poor 2/1/0"; err != nil || got != want {
		t.Errorf("%s, want %s (%v)", got, want, err)
	}
	// Linked, they are one customer.
	if _, err := h.profiles().LinkIdentities(t.Context(), connect.NewRequest(&rapportv1.LinkIdentitiesRequest{
		Links: []*rapportv1.IdentityLink{{A: "customer:1", B: "customer:3"}},
	})); err != nil {
		t.Fatal(err)
	}
	c, _, err = h.countSegments(t.Context(), &rapportv1.CountSegmentsRequest{})
	if got, want := countsText(c), "2 customers, poor 2/0/0, heavy 1/0/0, poor_and_heavy 1/0/0, not_vip 1/0/0, broken 0/0/2"; err != nil || got != want {
		t.Errorf("%s, want %s (%v)", got, want, err)
	}
	_, _, err = h.countSegments(t.Context(), &rapportv1.CountSegmentsRequest{Segments: []string{"rich"}})
	if connect.CodeOf(err) != connect.CodeInvalidArgument || !strings.Contains(err.Error(), `no segment "rich"`) {
		t.Error(err)
	}
	two := 2.0
	if _, _, err = h.countSegments(t.Context(), &rapportv1.CountSegmentsRequest{Sample: &two}); connect.CodeOf(err) != connect.CodeInvalidArgument {
		t.Error(err)
	}
}

// newCrowd serves a folder with so many customers.
func newCrowd(t *testing.T, n int) *house {
	t.Helper()
	dir := t.TempDir()
	if _, _, err := server.InstallSchema(dir, "schema.yaml", []byte(schemaYAML)); err != nil {
		t.Fatal(err)
	}
	var csv strings.Builder
	csv.WriteString("customer,value.balance,usage.data_mb\n")
	for i := range n {
		fmt.Fprintf(&csv, "%d,%d,%d\n", i, i%100, i%10_000)
	}
	load(t, dir, "bi", csv.String())
	h := open(t, dir, nil)
	if _, err := h.snapshots().ActivateSnapshot(t.Context(), connect.NewRequest(&rapportv1.ActivateSnapshotRequest{Source: "bi", Generation: 1})); err != nil {
		t.Fatal(err)
	}
	if _, err := h.publish(segmentsYAML); err != nil {
		t.Fatal(err)
	}
	return h
}

// TestCountBesideDecisions: while segments are counted decisions are made as before, and
// a count that nobody waits for any more ends.
func TestCountBesideDecisions(t *testing.T) {
	if testing.Short() {
		t.Skip("loads a crowd")
	}
	const n = 20_000
	h := newCrowd(t, n)
	// One caller, so that decisions have nobody else to wait for.
	var deciding sync.WaitGroup
	decided := make(chan struct{})
	deciding.Go(func() {
		for i := 0; ; i++ {
			if _, err := h.decisions().Decide(t.Context(), connect.NewRequest(&rapportv1.DecideRequest{Customer: fmt.Sprint(i), Touchpoint: "web.home"})); err != nil {
				t.Error(err)
			}
			select {
			case <-decided:
				t.Logf("%d decisions", i+1)
				return
			default:
			}
		}
	})
	for range 3 {
		c, before, err := h.countSegments(t.Context(), &rapportv1.CountSegmentsRequest{})
		if err != nil || c.GetCustomers() != n || c.GetSegments()[0].GetHeads() != n/10 || before == 0 {
			t.Errorf("%v after %d responses, %v", c, before, err)
		}
	}
	close(decided)
	deciding.Wait()

	ctx, giveUp := context.WithCancel(t.Context())
	stream, err := h.register().CountSegments(ctx, connect.NewRequest(&rapportv1.CountSegmentsRequest{}))
	if err != nil || !stream.Receive() {
		t.Fatal(err, stream.Err())
	}
	giveUp()
	_ = stream.Close()
	h.server.HoldCounting()() // waits for its end

	for _, sample := range []float64{0.05, 0.5} {
		c, _, err := h.countSegments(t.Context(), &rapportv1.CountSegmentsRequest{Sample: &sample})
		if want := sample * n; err != nil || math.Abs(float64(c.GetCustomers())-want) > 4*math.Sqrt(want) {
			t.Errorf("a sample of %v: %v, %v", sample, c, err)
		}
	}
}

// TestCountRefused: one count runs at a time, and a server that stops does not wait for
// one.
func TestCountRefused(t *testing.T) {
	h := newHouse(t)
	release := h.server.HoldCounting()
	if _, _, err := h.countSegments(t.Context(), &rapportv1.CountSegmentsRequest{}); connect.CodeOf(err) != connect.CodeResourceExhausted {
		t.Error(err)
	}
	release()
	c, _, err := h.countSegments(t.Context(), &rapportv1.CountSegmentsRequest{}) // no segments
	if err != nil || countsText(c) != "3 customers" {
		t.Error(c, err)
	}
	h.server.BeginStopping()
	if _, _, err := h.countSegments(t.Context(), &rapportv1.CountSegmentsRequest{}); connect.CodeOf(err) != connect.CodeUnavailable {
		t.Error(err)
	}
	empty := open(t, newData(t), nil)
	if _, _, err := empty.countSegments(t.Context(), &rapportv1.CountSegmentsRequest{}); connect.CodeOf(err) != connect.CodeFailedPrecondition {
		t.Error(err)
	}
}

// TestDescribe: the register has what the schema says and what the current snapshots
// hold, and says which of them are stale.
func TestDescribe(t *testing.T) {
	const yaml = `
sources:
  - {id: bi, owner: Billing, max_age: 15m, retain: 4}
  - {id: crm, max_age: 400d}
  - {id: none}
fields:
  - {name: value.balance, type: number, batch: bi, decimals: 2, description: what is left, events: {on: 'event.type == "balance"', set: event.amount}}
  - {name: usage.data_mb, type: counter, batch: bi, owner: Network, decimals: 3, events: {on: 'event.type == "data_session"', add: event.mb}}
  - {name: tag.vip, type: flag, batch: crm}
  - {name: usage.calls, type: counter, events: {on: 'event.type == "call"', add: 1}}
  - {name: general.x, type: text, batch: none}
`
	h := open(t, newDataOf(t, yaml), func(*server.Config) {})
	for _, source := range []string{"bi", "crm"} {
		if _, err := h.snapshots().ActivateSnapshot(t.Context(), connect.NewRequest(&rapportv1.ActivateSnapshotRequest{Source: source, Generation: 1})); err != nil {
			t.Fatal(err)
		}
	}
	// The as-of time of the files is the last whole hour: whether that is stale for bi
	// is a matter of the minute.
	isStale := time.Since(time.Now().Truncate(time.Hour)) > 15*time.Minute
	res, err := h.register().DescribeSchema(t.Context(), connect.NewRequest(&rapportv1.DescribeSchemaRequest{}))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range res.Msg.GetFields() {
		line := fmt.Sprintf("%s %s by %q: %d of %d", f.GetName(), f.GetType(), f.GetOwner(), f.GetValues(), f.GetRows())
		if n := f.GetDistribution().GetNumbers(); n != nil {
			line += fmt.Sprintf(", %v to %v, mean %v", n.GetMin(), n.GetMax(), n.GetMean())
		}
		if d := f.GetDistribution(); d != nil && d.ShareTrue != nil {
			line += fmt.Sprintf(", %v true", d.GetShareTrue())
		}
		got = append(got, line)
	}
	want := []string{
		`value.balance number by "Billing": 2 of 3, 3.5 to 50, mean 26.75`, `usage.data_mb counter by "Network": 3 of 3, 10.25 to 9000, mean 5003.416666666667`,
		`tag.vip flag by "": 2 of 2, 0.5 true`, `usage.calls counter by "": 0 of 0`, `general.x text by "": 0 of 0`,
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	bi, crm := res.Msg.GetSources()[0], res.Msg.GetSources()[1]
	if bi.GetStale() != isStale || crm.GetStale() || bi.GetRetain() != 4 || crm.GetRetain() != 3 || res.Msg.GetSources()[2].GetSnapshot() != nil {
		t.Errorf("%v", res.Msg.GetSources())
	}
	listed, err := h.snapshots().ListSnapshots(t.Context(), connect.NewRequest(&rapportv1.ListSnapshotsRequest{}))
	if err != nil || listed.Msg.GetSnapshots()[0].GetStale() != isStale || listed.Msg.GetSnapshots()[1].GetStale() {
		t.Errorf("%v, %v", listed, err)
	}
	if _, err := h.publish(catalogYAML); err != nil {
		t.Fatal(err)
	}
	status, text := h.get(t, "/readyz")
	if status != http.StatusOK || strings.Contains(text, "source bi: snapshot 1 is stale") != isStale || strings.Contains(text, "crm") {
		t.Errorf("%d %s", status, text)
	}
	_, metrics := h.get(t, "/metrics")
	for _, name := range []string{`rapport_snapshot_age_seconds{source="bi"}`, fmt.Sprintf(`rapport_snapshot_stale{source="bi"} %d`, map[bool]int{true: 1}[isStale]), `rapport_snapshot_stale{source="crm"} 0`} {
		if !strings.Contains(metrics, name) {
			t.Errorf("there is no %s", name)
		}
	}
	one, err := h.register().DescribeSchema(t.Context(), connect.NewRequest(&rapportv1.DescribeSchemaRequest{Fields: []string{"tag.vip"}}))
	if err != nil || len(one.Msg.GetFields()) != 1 {
		t.Errorf("%v, %v", one, err)
	}
	if _, err := h.register().DescribeSchema(t.Context(), connect.NewRequest(&rapportv1.DescribeSchemaRequest{Fields: []string{"tag.nothing"}})); connect.CodeOf(err) != connect.CodeInvalidArgument {
		t.Error(err)
	}
}

// TestSchemaLosses: what snapshots, rules and strategies in use would lose is said, by
// the server and without one, and is refused unless it is allowed.
func TestSchemaLosses(t *testing.T) {
	h := newHouse(t)
	h.upload(t, module(t, "2.0.0", `"profile":[]=>"profile":[{"name":"tag.vip","type":"flag"}]`), nil)
	h.release(t, "pvcl", "2.0.0")
	if _, err := h.publish(strings.Replace(catalogYAML, "profile.tag.vip && ", "", 1)); err != nil {
		t.Fatal(err)
	}
	without := func(lines ...string) string {
		out := schemaYAML
		for _, line := range lines {
			at := strings.Index(out, "  - {name: "+line)
			out = out[:at] + out[at+strings.Index(out[at:], "\n")+1:]
		}
		return out
	}
	cases := []struct{ name, yaml, want string }{
		{"nothing", schemaYAML + "  - {name: value.more, type: number, batch: bi}\n", ""},
		{"a field that a strategy reads", without("tag.vip"), "tag.vip: the values of 2 customers in snapshot 1 of source crm (active, as of"},
		{"a field that a strategy reads, again", without("tag.vip"), "it reads the profile field tag.vip, which the schema does not have"},
		{"a field that a rule reads", without("value.balance"), "catalogue version 2: catalog.yaml:11:101: offers[0].eligible"},
		{"another type", strings.Replace(schemaYAML, "{name: tag.vip, type: flag", "{name: tag.vip, type: text", 1), "snapshot 1 of source crm (active, as of"},
	}
	ask := func(yaml string) *rapportv1.CheckSchemaResponse {
		res, err := h.register().CheckSchema(t.Context(), connect.NewRequest(&rapportv1.CheckSchemaRequest{Name: "schema.yaml", Content: yaml}))
		if err != nil {
			t.Fatal(err)
		}
		return res.Msg
	}
	online := make([]string, len(cases))
	for i, c := range cases {
		r := ask(c.yaml)
		online[i] = strings.Join(r.GetLosses(), "\n")
		if len(r.GetChanges()) == 0 || (online[i] == "") != (c.want == "") || !strings.Contains(online[i], c.want) {
			t.Errorf("%s: %v, want %s", c.name, r, c.want)
		}
	}
	if r := ask("fields: [{name: x}]"); len(r.GetProblems()) == 0 || r.GetSchemaId() != "" {
		t.Errorf("%v", r)
	}
	h.stop()
	compiler, err := compilertest.Command()
	if err != nil {
		t.Fatal(err)
	}
	config := server.Config{Data: h.dir, Logger: quiet(), Compiler: compiler}
	before, err := server.InstalledSchema(h.dir)
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range cases {
		r, err := server.ApplySchema(t.Context(), config, server.SchemaFile{Name: "schema.yaml", YAML: []byte(c.yaml), Check: true})
		if err != nil || strings.Join(r.Losses, "\n") != online[i] {
			t.Errorf("%s: %v, %v; the server says\n%s", c.name, r, err, online[i])
		}
		if c.want == "" {
			continue
		}
		_, err = server.ApplySchema(t.Context(), config, server.SchemaFile{Name: "schema.yaml", YAML: []byte(c.yaml)})
		if _, ok := errors.AsType[*server.SchemaLossError](err); !ok || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if now, err := server.InstalledSchema(h.dir); err != nil || now.ID() != before.ID() {
		t.Errorf("the schema has changed: %v", err)
	}
	// Allowed, it is in effect, and the schema of before brings everything back.
	for _, yaml := range []string{without("tag.vip"), schemaYAML} {
		if _, err := server.ApplySchema(t.Context(), config, server.SchemaFile{Name: "schema.yaml", YAML: []byte(yaml), AllowLoss: true}); err != nil {
			t.Fatal(err)
		}
	}
	again := open(t, h.dir, nil)
	c, err := again.profiles().GetProfile(t.Context(), connect.NewRequest(&rapportv1.GetProfileRequest{Customer: "1"}))
	if err != nil || !c.Msg.GetFields()[2].GetFlag() {
		t.Errorf("%v, %v", c, err)
	}
}
