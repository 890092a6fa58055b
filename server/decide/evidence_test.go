package decide_test

import (
	"math"
	"testing"

	"rapport/profilestore"
	"rapport/server/decide"
)

const learningCatalog = `
channels: [{id: web, direction: inbound}, {id: sms, direction: inbound}]
touchpoints: [{id: web.home, channel: web}, {id: sms.list, channel: sms}]
scenarios: [{id: s, touchpoints: [web.home, sms.list], fallback: help}]
offers:
  - {id: a, group: g, class: marketing, value: 10, propensity: {start: 0.1, start_evidence: 10}, treatments: [{channel: web, content: a}, {channel: sms, content: a}]}
  - {id: b, group: g, class: marketing, value: 10, propensity: {start: 0.2}, treatments: [{channel: web, content: b}, {channel: sms, content: b}]}
  - {id: c, group: g, class: marketing, value: 1, propensity: {start: 0.3, start_evidence: 3, success: clicked, field: marketing.propensity}, treatments: [{channel: web, content: c}]}
  - {id: help, group: h, class: service, value: 0, propensity: {start: 0.5, start_evidence: 1}, treatments: [{channel: web, content: h}, {channel: sms, content: h}]}
`

// TestEvidence: an offer overtakes another where it was accepted, in that channel only.
func TestEvidence(t *testing.T) {
	d := decider(t, learningCatalog)
	c := d.Catalog()
	if c.Learners() != 3 {
		t.Errorf("%d offers learn", c.Learners())
	}
	first := func(e *decide.Evidence, touchpoint string) decide.Placement {
		t.Helper()
		at, _ := c.Touchpoint(touchpoint)
		var a decide.Answer
		d.Decide(t.Context(), &decide.Request{At: decide.At{Touchpoint: at}, Evidence: e, Profile: profile{{}, {}, {}}}, &a)
		return a.Slate[0]
	}
	none, err := decide.NewEvidence(c, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	some, err := decide.NewEvidence(c, 7, []decide.EvidenceCount{{Offer: 0, Channel: 1}, {Offer: 0, Channel: 0, Presented: 30, Successes: 19}})
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct {
		e          *decide.Evidence
		touchpoint string
		offer      int
		propensity float64
	}{{nil, "web.home", 1, 0.2}, {none, "web.home", 1, 0.2}, {some, "web.home", 0, 0.5}, {some, "sms.list", 1, 0.2}} {
		if p := first(x.e, x.touchpoint); p.Offer != x.offer || p.Propensity != x.propensity {
			t.Errorf("%v at %s: offer %d with %v, want %d with %v", x.e, x.touchpoint, p.Offer, p.Propensity, x.offer, x.propensity)
		}
	}
	if len(some.Counts) != 1 || some.Count(0, 0).Successes != 19 || some.Count(0, 1).Presented != 0 || (*decide.Evidence)(nil).Count(0, 0).Presented != 0 {
		t.Errorf("%+v", some)
	}
	// What is written down of a reading gives it again.
	again, err := decide.NewEvidence(c, some.Number, some.Counts)
	if err != nil || first(again, "web.home") != first(some, "web.home") {
		t.Errorf("%+v, %v", again, err)
	}
	for _, wrong := range [][]decide.EvidenceCount{
		{{Offer: 1, Presented: 1}}, {{Offer: 9, Presented: 1}}, {{Channel: 2, Presented: 1}}, {{Channel: -1}}, {{Presented: 1}, {Presented: 2}},
	} {
		if _, err := decide.NewEvidence(c, 1, wrong); err == nil {
			t.Errorf("%+v is taken", wrong)
		}
	}
}

// TestLearned: the formula at its ends.
func TestLearned(t *testing.T) {
	p := decider(t, learningCatalog).Catalog().Offers[0].Propensity
	for _, x := range []struct {
		presented, successes uint64
		want                 float64
	}{{0, 0, 0.1}, {10, 0, 0.05}, {0, 50, 1}, {90, 90, 0.91}, {math.MaxUint64, 0, 1 / float64(math.MaxUint64)}, {math.MaxUint64, math.MaxUint64, 1}} {
		if got := p.Learned(x.presented, x.successes); got != x.want {
			t.Errorf("%d of %d: %v, want %v", x.successes, x.presented, got, x.want)
		}
	}
	// (start × evidence) / evidence is not start for all numbers; what nothing is known of is.
	p.Start, p.StartEvidence = 0.07, 3.3
	if p.Learned(0, 0) != 0.07 {
		t.Error("from nothing something was learned")
	}
}

// TestLearns: a field that is known comes first.
func TestLearns(t *testing.T) {
	c := decider(t, learningCatalog).Catalog()
	known := profile{{}, {}, profilestore.Number(0.4)}
	for _, x := range []struct {
		r     decide.Request
		offer int
		want  bool
	}{
		{decide.Request{Profile: known}, 0, true},
		{decide.Request{Profile: known}, 1, false},
		{decide.Request{Profile: known}, 2, false},
		{decide.Request{Profile: profile{{}, {}, {}}}, 2, true},
		{decide.Request{}, 2, true},
	} {
		if got := x.r.Learns(&c.Offers[x.offer]); got != x.want {
			t.Errorf("%s: %t", c.Offers[x.offer].ID, got)
		}
	}
}
