package decide_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"rapport/profilestore"
	"rapport/server/catalog"
	"rapport/server/decide"
)

// decider compiles a catalogue over modelFields.
func decider(t *testing.T, text string) *decide.Decider {
	t.Helper()
	schema, err := profilestore.NewSchema([]profilestore.Source{{ID: "bi"}}, modelFields)
	if err != nil {
		t.Fatal(err)
	}
	c, _, problems := catalog.Compile([]catalog.File{{Name: "catalog.yaml", Content: []byte(text)}}, schema, nil)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	d, err := decide.New(c, make([]decide.Ranker, len(c.Scenarios)))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// outcome is what a touchpoint was answered.
type outcome struct {
	slate []string
	why   map[string]string // of the others: the reason, by whom, and until when
}

// decideAt decides for touchpoints; several are one question.
func decideAt(t *testing.T, d *decide.Decider, r decide.Request, one bool, touchpoints ...string) []outcome {
	t.Helper()
	c := d.Catalog()
	if r.Profile == nil {
		r.Profile = unknowns()
	}
	var ats []decide.At
	for _, id := range touchpoints {
		at, ok := c.Touchpoint(id)
		if !ok {
			t.Fatalf("there is no touchpoint %s", id)
		}
		ats = append(ats, decide.At{Touchpoint: at})
	}
	answers := make([]decide.Answer, len(ats))
	if len(ats) == 1 && !one {
		r.Touchpoint = ats[0].Touchpoint
		d.Decide(context.Background(), &r, &answers[0])
	} else {
		d.DecideMany(context.Background(), &r, ats, one, answers)
	}
	out := make([]outcome, len(ats))
	for i := range answers {
		out[i].why = make(map[string]string)
		for _, p := range answers[i].Slate {
			out[i].slate = append(out[i].slate, c.Offers[p.Offer].ID)
		}
		tp := &c.Touchpoints[ats[i].Touchpoint]
		for place, reason := range answers[i].Reasons {
			if reason != decide.ReasonOffered {
				out[i].why[c.Offers[c.Scenarios[tp.Scenario].Candidates[tp.Candidates[place]].Offer].ID] = reason.String()
			}
		}
		for _, x := range answers[i].Details {
			id := c.Offers[c.Scenarios[tp.Scenario].Candidates[tp.Candidates[x.Place]].Offer].ID
			out[i].why[id] += " " + x.By
			if x.Until != 0 {
				out[i].why[id] += time.UnixMicro(x.Until).UTC().Format(" 2006-01-02 15:04")
			}
		}
	}
	return out
}

const twoChannels = `
channels:
  - {id: sms, direction: outbound, cost: 1}
  - {id: web, direction: inbound}
touchpoints:
  - {id: sms.list, channel: sms, slots: 2}
  - {id: web.home, channel: web, slots: 2}
  - {id: web.banner, channel: web}
offers:
  - {id: a, group: g, class: marketing, value: 3, propensity: {start: 1}, treatments: [{channel: sms, content: a}, {channel: web, content: a}]}
  - {id: b, group: g, class: marketing, value: 2, propensity: {start: 1}, treatments: [{channel: sms, content: b}, {channel: web, content: b}]}
  - {id: c, group: g, class: marketing, value: 1, propensity: {start: 1}, treatments: [{channel: sms, content: c}, {channel: web, content: c}]}
`

const oneScenario = `
scenarios:
  - {id: all, touchpoints: [sms.list, web.home, web.banner], groups: [g]}
`

func wants(t *testing.T, got outcome, slate []string, why map[string]string) {
	t.Helper()
	if !slices.Equal(got.slate, slate) {
		t.Errorf("the slate is %v, want %v", got.slate, slate)
	}
	for offer, want := range why {
		if got.why[offer] != want {
			t.Errorf("%s is %q, want %q", offer, got.why[offer], want)
		}
	}
}

// TestSlotsAcrossTouchpoints: what has no room at the first touchpoint of a channel goes
// to the second.
func TestSlotsAcrossTouchpoints(t *testing.T) {
	got := decideAt(t, decider(t, twoChannels+oneScenario), decide.Request{}, false, "web.home", "web.banner")
	wants(t, got[0], []string{"a", "b"}, map[string]string{"c": "RANKED_BELOW"})
	wants(t, got[1], []string{"c"}, map[string]string{"a": "OTHER_TOUCHPOINT web.home", "b": "OTHER_TOUCHPOINT web.home"})
	got = decideAt(t, decider(t, twoChannels+oneScenario), decide.Request{}, false, "web.banner", "web.home")
	wants(t, got[0], []string{"a"}, map[string]string{"b": "RANKED_BELOW", "c": "RANKED_BELOW"})
	wants(t, got[1], []string{"b", "c"}, map[string]string{"a": "OTHER_TOUCHPOINT web.banner"})
}

// TestFullChannel: an offer of which the best channel has no place left is made in the
// next best, and a single contact goes there too.
func TestFullChannel(t *testing.T) {
	d := decider(t, twoChannels+`
scenarios:
  - {id: all, touchpoints: [sms.list, web.home, web.banner], groups: [g], channel_choice: {preferred: preference.channel}}
capacities:
  - {id: texts, max: 9, per: day, channels: [sms]}
`)
	p := unknowns()
	p[slotChannel] = profilestore.Text("sms")
	for _, one := range []bool{false, true} {
		got := decideAt(t, d, decide.Request{Profile: p, Places: newPlaces(d.Catalog(), []int{1})}, one, "web.home", "sms.list")
		wants(t, got[1], []string{"a", "b"}, map[string]string{"c": "RANKED_BELOW"}) // one place for the whole contact
		got = decideAt(t, d, decide.Request{Profile: p, Places: newPlaces(d.Catalog(), []int{0})}, one, "web.home", "sms.list")
		wants(t, got[0], []string{"a", "b"}, nil)
		wants(t, got[1], nil, map[string]string{"a": "CAPACITY texts", "b": map[bool]string{false: "CAPACITY texts", true: "OTHER_CHANNEL web"}[one]})
	}
}

// TestPlacesOfASlate: a slate takes one place where contacts are counted, and one for each
// offer where outcomes are.
func TestPlacesOfASlate(t *testing.T) {
	for takenBy, want := range map[string][]int{"contact": {1, 1}, "accepted": {0, 0}} {
		d := decider(t, twoChannels+oneScenario+fmt.Sprintf("capacities:\n  - {id: stock, max: 9, per: day, taken_by: %s}\n", takenBy))
		for i, many := range []bool{false, true} {
			places := newPlaces(d.Catalog(), []int{2})
			r := decide.Request{Places: places}
			if many {
				decideAt(t, d, r, true, "sms.list")
			} else {
				decideAt(t, d, r, false, "sms.list")
			}
			if places.left[0] != want[i] {
				t.Errorf("%s, many %t: %d places are left, want %d", takenBy, many, places.left[0], want[i])
			}
		}
	}
}

// TestPoliciesOfTheSameAnswer: contacts that one answer makes count for each other, and
// for its fallbacks.
func TestPoliciesOfTheSameAnswer(t *testing.T) {
	d := decider(t, twoChannels+`
  - {id: hello, group: fb, class: care, value: 1, propensity: {start: 1}, treatments: [{channel: sms, content: hello}, {channel: web, content: hello}]}
scenarios:
  - {id: lists, touchpoints: [sms.list], offers: [a]}
  - {id: web, touchpoints: [web.home, web.banner], offers: [b], fallback: hello}
contact_policies:
  - {id: daily, count: contact, max: 1, within: 1d, classes: [care, marketing]}
`)
	got := decideAt(t, d, decide.Request{Now: modelStart}, false, "sms.list", "web.home")
	wants(t, got[0], []string{"a"}, nil)
	wants(t, got[1], nil, map[string]string{"b": "CAPPED daily 2026-11-02 06:00"})
	d = decider(t, twoChannels+`
  - {id: hello, group: fb, class: care, value: 1, propensity: {start: 1}, treatments: [{channel: sms, content: hello}, {channel: web, content: hello}]}
scenarios:
  - {id: lists, touchpoints: [sms.list], offers: [a]}
  - {id: web, touchpoints: [web.home, web.banner], groups: [g], fallback: hello}
groups:
  - {id: g, eligible: profile.tag.vip}
contact_policies:
  - {id: daily, count: contact, max: 1, within: 1d, classes: [care, marketing]}
`)
	got = decideAt(t, d, decide.Request{Now: modelStart}, false, "sms.list", "web.home", "web.banner")
	wants(t, got[0], nil, map[string]string{"a": "UNKNOWN"})
	wants(t, got[1], []string{"hello"}, nil) // the fallback once, in one contact
	wants(t, got[2], nil, nil)
	pending := []decide.Contact{{Time: modelStart - hourMicros, Channel: "web", Touchpoint: "web.home", Items: []profilestore.Item{{Offer: "x", Group: "x", Class: "care"}}}}
	got = decideAt(t, d, decide.Request{Now: modelStart, Pending: pending}, false, "web.home")
	wants(t, got[0], nil, nil)
}

// TestManyItems: a channel gets no more offers than the history takes of one contact.
func TestManyItems(t *testing.T) {
	var offers strings.Builder
	for i := range 150 {
		fmt.Fprintf(&offers, "  - {id: o%d, group: g, class: marketing, value: %d, propensity: {start: 1}, treatments: [{channel: web, content: x}]}\n", i, i)
	}
	d := decider(t, `
channels: [{id: web, direction: inbound}]
touchpoints: [{id: web.one, channel: web, slots: 60}, {id: web.two, channel: web, slots: 60}]
offers:
`+offers.String()+`
scenarios: [{id: s, touchpoints: [web.one, web.two]}]
`)
	got := decideAt(t, d, decide.Request{Now: modelStart}, false, "web.one", "web.two")
	if n := len(got[0].slate) + len(got[1].slate); n != profilestore.MaxItems {
		t.Errorf("%d offers, want %d", n, profilestore.MaxItems)
	}
}
