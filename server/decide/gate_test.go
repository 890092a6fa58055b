package decide_test

import (
	"strings"
	"testing"

	"rapport/profilestore"
	"rapport/server/decide"
)

// TestAlikeButCounted: of offers that are alike, one that may be made does not let the
// next pass which a policy counts by itself, nor does one that is capped keep it out.
func TestAlikeButCounted(t *testing.T) {
	const head = `
channels: [{id: web, direction: inbound}]
touchpoints: [{id: web.home, channel: web, slots: 4}]
offers:
  - {id: a, group: g, class: marketing, value: 4, propensity: {start: 1}, treatments: [{channel: web, content: a}]}
  - {id: b, group: g, class: marketing, value: 3, propensity: {start: 1}, treatments: [{channel: web, content: b}]}
  - {id: c, group: h, class: marketing, value: 2, propensity: {start: 1}, treatments: [{channel: web, content: c}]}
  - {id: d, group: i, class: marketing, value: 1, propensity: {start: 1}, treatments: [{channel: web, content: d}]}
scenarios: [{id: all, touchpoints: [web.home]}]
`
	for _, c := range []struct {
		per, met, group string
		want            string
	}{
		{"offer", "a", "g", "bcd"},
		{"offer", "b", "g", "acd"},
		{"offer", "d", "i", "abc"},
		{"group", "a", "g", "cd"},
		{"group", "c", "h", "abd"},
		{"group", "d", "i", "abc"},
	} {
		d := decider(t, head+"contact_policies: [{id: p, count: contact, max: 1, within: 1d, per: "+c.per+"}]\n")
		r := decide.Request{Now: modelStart, Pending: []decide.Contact{{
			Time: modelStart - hourMicros, Channel: "web", Touchpoint: "web.home",
			Items: []profilestore.Item{{Offer: c.met, Group: c.group, Class: "marketing"}},
		}}}
		if got := strings.Join(decideAt(t, d, r, false, "web.home")[0].slate, ""); got != c.want {
			t.Errorf("with a limit per %s and %s met, %q may be made, want %q", c.per, c.met, got, c.want)
		}
	}
}
