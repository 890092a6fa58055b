package server_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"rapport/server"
	rapportv1 "rapport/server/api/rapport/v1"
	"rapport/server/api/rapport/v1/rapportv1connect"
)

func (h *house) readings() rapportv1connect.ReadingServiceClient {
	return rapportv1connect.NewReadingServiceClient(http.DefaultClient, h.url)
}

func (h *house) propensities(t testing.TB, ask *rapportv1.ListPropensitiesRequest) *rapportv1.ListPropensitiesResponse {
	t.Helper()
	h.server.ReadEvidence()
	res, err := h.readings().ListPropensities(context.Background(), connect.NewRequest(ask))
	if err != nil {
		t.Fatal(err)
	}
	return res.Msg
}

const learningYAML = `
channels: [{id: web, direction: inbound}, {id: app, direction: inbound}]
touchpoints: [{id: web.home, channel: web, slots: 3}, {id: app.home, channel: app, slots: 3}]
offers:
  - {id: a, group: g, class: marketing, value: 10, propensity: {start: 0.1, start_evidence: 10}, treatments: [{channel: web, content: a}, {channel: app, content: a}]}
  - {id: b, group: g, class: marketing, value: 10, propensity: {start: 0.11, start_evidence: 5, success: clicked}, treatments: [{channel: web, content: b}, {channel: app, content: b}]}
  - {id: c, group: g, class: marketing, value: 10, propensity: {start: 0.105}, treatments: [{channel: web, content: c}]}
scenarios: [{id: s, touchpoints: [web.home, app.home]}]
`

// TestPropensitiesLearn: customers decide and report, in any order, late and twice. What
// the next decision takes for the propensity follows from what was reported, the token's
// way or as an event, and from nothing else.
func TestPropensitiesLearn(t *testing.T) {
	h := newHouse(t)
	if _, err := h.publish(learningYAML); err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	r := rand.New(rand.NewPCG(3, 4))
	type count struct{ presented, accepted, clicked int64 }
	want := make(map[string]*count)
	for _, offer := range []string{"a", "b", "c"} {
		for _, ch := range []string{"web", "app"} {
			want[offer+" "+ch] = &count{}
		}
	}
	var reports []*rapportv1.OutcomeReport
	late := 0
	for i := range 60 {
		ch := []string{"web", "app"}[r.IntN(2)]
		d := h.decide(t, fmt.Sprint("customer:", 100+i%20), ch+".home")
		age := time.Duration(0)
		if r.IntN(4) == 0 {
			age = 3 * 24 * time.Hour
			late++
		}
		for k, p := range d.GetSlate() {
			if k == 0 || r.IntN(2) > 0 {
				if k == 0 { // one report, and all of the slate was presented
					for _, q := range d.GetSlate() {
						want[q.GetOffer()+" "+ch].presented++
					}
				}
				token, err := h.server.AgeToken(p.GetToken(), age)
				if err != nil {
					t.Fatal(err)
				}
				for _, outcome := range []string{"clicked", "accepted"} {
					if r.IntN(2) == 0 {
						continue
					}
					reports = append(reports, &rapportv1.OutcomeReport{Token: token, Outcome: outcome, Time: timestamppb.New(d.GetTime().AsTime().Add(time.Millisecond - age))})
					if w := want[p.GetOffer()+" "+ch]; outcome == "clicked" {
						w.clicked++
					} else {
						w.accepted++
					}
				}
				if k == 0 {
					reports = append(reports, &rapportv1.OutcomeReport{Token: token, Outcome: "presented"})
				}
			}
		}
	}
	reports = append(reports, reports...)
	r.Shuffle(len(reports), func(i, j int) { reports[i], reports[j] = reports[j], reports[i] })
	for len(reports) > 0 {
		n := min(len(reports), 1+r.IntN(20))
		if _, err := h.decisions().RecordOutcomes(ctx, connect.NewRequest(&rapportv1.RecordOutcomesRequest{Reports: reports[:n]})); err != nil {
			t.Fatal(err)
		}
		reports = reports[n:]
	}
	check := func(what string) uint64 {
		t.Helper()
		res := h.propensities(t, &rapportv1.ListPropensitiesRequest{})
		if len(res.GetPropensities()) != 4 {
			t.Errorf("%s: %v", what, res)
		}
		for _, p := range res.GetPropensities() {
			w := want[p.GetOffer()+" "+p.GetChannel()]
			successes, start, worth := w.accepted, 0.1, 10.0
			if p.GetOffer() == "b" {
				successes, start, worth = w.clicked, 0.11, 5.0
			}
			if p.GetEvidence().GetPresented() != w.presented || p.GetEvidence().GetSuccesses() != successes {
				t.Errorf("%s: %v, want %+v", what, p, w)
			}
			if want := min((float64(start*worth)+float64(successes))/(worth+float64(w.presented)), 1); p.GetPropensity() != want {
				t.Errorf("%s: %v, want %v", what, p, want)
			}
			d := h.decide(t, "customer:7", p.GetChannel()+".home")
			for _, x := range d.GetSlate() {
				if x.GetOffer() == p.GetOffer() && (x.GetParts().GetPropensity() != p.GetPropensity() || x.GetParts().GetEvidence().GetPresented() != w.presented) {
					t.Errorf("%s: the decision has %v, the list %v", what, x.GetParts(), p)
				}
				if x.GetOffer() == "c" && (x.GetParts().GetEvidence() != nil || x.GetParts().GetPropensity() != 0.105) {
					t.Errorf("%s: c does not learn: %v", what, x.GetParts())
				}
			}
		}
		return res.GetReading()
	}
	t.Logf("%+v, %d late", *want["a web"], late)
	reading := check("after the reports")
	all := h.propensities(t, &rapportv1.ListPropensitiesRequest{All: true})
	if len(all.GetPropensities()) != 5 || all.GetPropensities()[4].GetEvidence().GetPresented() != want["c web"].presented || all.GetPropensities()[4].StartEvidence != nil {
		t.Errorf("%v", all)
	}
	_, err := h.readings().ListPropensities(ctx, connect.NewRequest(&rapportv1.ListPropensitiesRequest{Offers: []string{"a", "x"}}))
	if connect.CodeOf(err) != connect.CodeInvalidArgument || !strings.Contains(err.Error(), "offers[1]") {
		t.Errorf("%v", err)
	}
	// A catalogue that is published reads the same counts.
	if _, err := h.publish(strings.ReplaceAll(learningYAML, "value: 10", "value: 11")); err != nil {
		t.Fatal(err)
	}
	if again := check("after a publication"); again != reading {
		t.Errorf("reading %d, before %d: nothing was reported", again, reading)
	}
	_, metrics := h.get(t, "/metrics")
	for _, name := range []string{"rapport_evidence_counts ", "rapport_evidence_left_total 0", "rapport_evidence_unsaved_entries "} {
		if !strings.Contains(metrics, "\n"+name) {
			t.Errorf("no metric %s", name)
		}
	}
	dir := h.dir
	h.stop()
	h = open(t, dir, nil)
	if again := check("after a restart"); again != reading {
		t.Errorf("reading %d, before %d: nothing was reported", again, reading)
	}
}

// TestCapacitiesListed: what is left of each capacity, in its present period.
func TestCapacitiesListed(t *testing.T) {
	clock := time.Date(2030, 3, 15, 10, 20, 30, 0, time.UTC)
	h := open(t, newData(t), func(c *server.Config) { c.SetClock(func() time.Time { return clock }) })
	ctx := context.Background()
	list := func() []*rapportv1.CapacityState {
		t.Helper()
		res, err := h.readings().ListCapacities(ctx, connect.NewRequest(&rapportv1.ListCapacitiesRequest{}))
		if err != nil {
			t.Fatal(err)
		}
		return res.Msg.GetCapacities()
	}
	if _, err := h.readings().ListCapacities(ctx, connect.NewRequest(&rapportv1.ListCapacitiesRequest{})); connect.CodeOf(err) != connect.CodeFailedPrecondition {
		t.Errorf("%v", err)
	}
	if _, err := h.publish(learningYAML); err != nil {
		t.Fatal(err)
	}
	if got := list(); len(got) != 0 {
		t.Errorf("%v", got)
	}
	with := learningYAML + `
capacities:
  - {id: yes, max: 2, per: total, offers: [a], taken_by: accepted}
  - {id: hourly, max: 5, per: hour, channels: [web]}
  - {id: monthly, max: 1, per: month, groups: [g], channels: [app]}
`
	if _, err := h.publish(with); err != nil {
		t.Fatal(err)
	}
	d := h.decide(t, "customer:1", "web.home")
	got := list()
	for i, want := range []struct{ max, taken, reserved, left int64 }{{2, 0, 1, 1}, {5, 0, 1, 4}, {1, 0, 0, 1}} {
		if x := got[i]; x.GetMax() != want.max || x.GetTaken() != want.taken || x.GetReserved() != want.reserved || x.GetLeft() != want.left {
			t.Errorf("%v, want %v", x, want)
		}
	}
	period := func(x *rapportv1.CapacityState) string {
		return x.GetPer() + " " + x.GetBegin().AsTime().Format(time.RFC3339) + " " + x.GetEnd().AsTime().Format(time.RFC3339)
	}
	for i, want := range []string{"total 1970-01-01T00:00:00Z 1970-01-01T00:00:00Z", "hour 2030-03-15T10:00:00Z 2030-03-15T11:00:00Z", "month 2030-03-01T00:00:00Z 2030-04-01T00:00:00Z"} {
		if p := period(got[i]); p != want {
			t.Errorf("%s, want %s", p, want)
		}
	}
	if x := got[2]; x.GetTakenBy() != "contact" || x.GetGroups()[0] != "g" || x.GetChannels()[0] != "app" {
		t.Errorf("%v", x)
	}
	for _, p := range d.GetSlate() {
		if p.GetOffer() == "a" {
			if _, err := h.decisions().RecordOutcomes(ctx, connect.NewRequest(&rapportv1.RecordOutcomesRequest{Reports: []*rapportv1.OutcomeReport{{Token: p.GetToken(), Outcome: "accepted"}}})); err != nil {
				t.Fatal(err)
			}
		}
	}
	for i, want := range []struct{ taken, reserved, left int64 }{{1, 0, 1}, {1, 0, 4}, {0, 0, 1}} {
		if x := list()[i]; x.GetTaken() != want.taken || x.GetReserved() != want.reserved || x.GetLeft() != want.left {
			t.Errorf("%v, want %v", x, want)
		}
	}
	// With a lower maximum more may be gone than there are.
	if _, err := h.publish(strings.ReplaceAll(with, "max: 2", "max: 0")); err != nil {
		t.Fatal(err)
	}
	if x := list()[0]; x.GetMax() != 0 || x.GetTaken() != 1 || x.GetLeft() != 0 {
		t.Errorf("%v", x)
	}
}
