package decide_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"rapport/profilestore"
	"rapport/server/decide"
)

// TestFallbackIsBound: a fallback of class care is not sent at night, nor to who wants to
// be left alone; one of class service is.
func TestFallbackIsBound(t *testing.T) {
	for class, want := range map[string][]string{"care": nil, "service": {"hello"}} {
		d := decider(t, fmt.Sprintf(`
channels:
  - {id: sms, direction: outbound, do_not_disturb: preference.quiet, quiet_hours: {from: "21:00", until: "07:00"}}
touchpoints: [{id: sms.list, channel: sms}]
offers:
  - {id: a, group: g, class: marketing, value: 1, propensity: {start: 1}, eligible: profile.tag.vip, treatments: [{channel: sms, content: a}]}
  - {id: hello, group: fb, class: %s, value: 1, propensity: {start: 1}, treatments: [{channel: sms, content: hello}]}
scenarios:
  - {id: lists, touchpoints: [sms.list], offers: [a], fallback: hello}
`, class))
		p := unknowns()
		p[slotQuiet] = profilestore.Flag(false)
		day, night := modelStart+6*hourMicros, modelStart+16*hourMicros
		wants(t, decideAt(t, d, decide.Request{Now: day, Profile: p}, false, "sms.list")[0], []string{"hello"}, nil)
		wants(t, decideAt(t, d, decide.Request{Now: night, Profile: p}, false, "sms.list")[0], want, nil)
		p[slotQuiet] = profilestore.Flag(true)
		wants(t, decideAt(t, d, decide.Request{Now: day, Profile: p}, false, "sms.list")[0], want, nil)
	}
}

// TestHours: when a channel waits, until when and what for.
func TestHours(t *testing.T) {
	for _, c := range []struct {
		name, zone, quiet, own string
		now, want              string // UTC; want is what the offer's reason says
	}{
		{"open", "UTC", `"21:00", until: "07:00"`, "", "2026-06-01 12:00", ""},
		{"quiet", "UTC", `"21:00", until: "07:00"`, "", "2026-06-01 21:00", "quiet_hours 2026-06-02 07:00"},
		{"its last minute", "UTC", `"21:00", until: "07:00"`, "", "2026-06-01 06:59", "quiet_hours 2026-06-01 07:00"},
		{"its end", "UTC", `"21:00", until: "07:00"`, "", "2026-06-01 07:00", ""},
		{"own hours", "UTC", `"21:00", until: "07:00"`, `"19:00", until: "21:00"`, "2026-06-01 12:00", "mine 2026-06-01 19:00"},
		{"own hours after quiet ones", "UTC", `"21:00", until: "07:00"`, `"19:00", until: "21:00"`, "2026-06-01 21:00", "mine 2026-06-02 19:00"},
		{"own hours begin in quiet ones", "UTC", `"21:00", until: "07:00"`, `"06:00", until: "09:00"`, "2026-06-01 12:00", "quiet_hours 2026-06-02 07:00"},
		{"own hours within quiet ones", "UTC", `"21:00", until: "07:00"`, `"22:00", until: "23:00"`, "2026-06-01 12:00", "mine"},
		{"quiet all day", "UTC", `"07:00", until: "07:00"`, "", "2026-06-01 12:00", "quiet_hours"},
		// In New York 2 o'clock comes twice less one on 8 March, and 1 o'clock twice on 1 November.
		{"the end is skipped", "America/New_York", `"21:00", until: "02:30"`, "", "2026-03-08 06:30", "quiet_hours 2026-03-08 07:00"},
		{"a night with an hour less", "America/New_York", `"21:00", until: "07:00"`, "", "2026-03-08 03:00", "quiet_hours 2026-03-08 11:00"},
		{"a night with an hour more", "America/New_York", `"21:00", until: "07:00"`, "", "2026-11-01 02:00", "quiet_hours 2026-11-01 12:00"},
		{"the end comes twice", "America/New_York", `"21:00", until: "01:30"`, "", "2026-11-01 05:10", "quiet_hours 2026-11-01 05:30"},
		{"again before the end", "America/New_York", `"21:00", until: "01:30"`, "", "2026-11-01 06:10", "quiet_hours 2026-11-01 06:30"},
	} {
		t.Run(c.name, func(t *testing.T) {
			own := ""
			if c.own != "" {
				own = fmt.Sprintf(", contact_hours: [{id: mine, hours: {from: %s}}]", c.own)
			}
			d := decider(t, fmt.Sprintf(`
clock: {zone: %s}
channels: [{id: sms, direction: outbound, quiet_hours: {from: %s}%s}]
touchpoints: [{id: sms.list, channel: sms}]
offers: [{id: a, group: g, class: care, value: 1, propensity: {start: 1}, treatments: [{channel: sms, content: a}]}]
scenarios: [{id: lists, touchpoints: [sms.list]}]
`, c.zone, c.quiet, own))
			now, err := time.Parse("2006-01-02 15:04", c.now)
			if err != nil {
				t.Fatal(err)
			}
			got := decideAt(t, d, decide.Request{Now: now.UnixMicro()}, false, "sms.list")[0].why["a"]
			want := c.want
			if want != "" {
				want = "QUIET_DEFERRED " + want
			}
			if got != want {
				t.Errorf("it says %q, want %q", got, want)
			}
		})
	}
}

// TestPolicyDimensions: a policy counts by itself what it says, and binds nothing else.
func TestPolicyDimensions(t *testing.T) {
	const head = `
channels: [{id: sms, direction: outbound}, {id: web, direction: inbound}]
touchpoints: [{id: sms.list, channel: sms, slots: 4}, {id: sms.more, channel: sms, slots: 4}, {id: web.home, channel: web, slots: 4}]
offers:
  - {id: a, group: g, class: marketing, value: 4, propensity: {start: 1}, treatments: [{channel: sms, content: a}, {channel: web, content: a}]}
  - {id: b, group: g, class: marketing, value: 3, propensity: {start: 1}, treatments: [{channel: sms, content: b}, {channel: web, content: b}]}
  - {id: c, group: h, class: marketing, value: 2, propensity: {start: 1}, treatments: [{channel: sms, content: c}, {channel: web, content: c}]}
  - {id: d, group: h, class: care, value: 1, propensity: {start: 1}, treatments: [{channel: sms, content: d}, {channel: web, content: d}]}
scenarios: [{id: all, touchpoints: [sms.list, sms.more, web.home]}]
`
	for _, c := range []struct {
		policy         string
		list, more, on string // what is not capped at sms.list, sms.more and web.home
	}{
		{"", "d", "d", "d"}, // one count of all, which binds marketing alone
		{"classes: [care, marketing]", "", "", ""},
		{"classes: [care]", "abcd", "abcd", "abcd"}, // care had no contact
		{"per: offer", "bcd", "bcd", "bcd"},
		{"per: group", "cd", "cd", "cd"},
		{"per: class, classes: [care, marketing]", "d", "d", "d"},
		{"per: channel", "d", "d", "abcd"},
		{"per: touchpoint", "d", "abcd", "abcd"},
		{"channels: [web]", "abcd", "abcd", "abcd"},
		{"channels: [sms]", "d", "d", "abcd"},
		{"touchpoints: [sms.list]", "d", "abcd", "abcd"},
		{"groups: [h]", "abcd", "abcd", "abcd"},
		{"groups: [g]", "cd", "cd", "cd"},
		{"offers: [b]", "abcd", "abcd", "abcd"},
		{"offers: [a]", "bcd", "bcd", "bcd"},
		{"groups: [g], per: offer", "bcd", "bcd", "bcd"},
	} {
		policy := c.policy
		if policy != "" {
			policy = ", " + policy
		}
		d := decider(t, head+"contact_policies: [{id: p, count: contact, max: 1, within: 1d"+policy+"}]\n")
		r := decide.Request{Now: modelStart, Pending: []decide.Contact{{
			Time: modelStart - hourMicros, Channel: "sms", Touchpoint: "sms.list", Items: []profilestore.Item{{Offer: "a", Group: "g", Class: "marketing"}},
		}}}
		for touchpoint, want := range map[string]string{"sms.list": c.list, "sms.more": c.more, "web.home": c.on} {
			if got := strings.Join(decideAt(t, d, r, false, touchpoint)[0].slate, ""); got != want {
				t.Errorf("%q lets %q through at %s, want %q", c.policy, got, touchpoint, want)
			}
		}
	}
}

// TestDatedLater: contacts that a clock which was ahead has dated later than now have just
// happened; a policy that suppresses does so however far apart it has dated them.
func TestDatedLater(t *testing.T) {
	d := decider(t, `
channels: [{id: web, direction: inbound}]
touchpoints: [{id: web.home, channel: web}]
offers: [{id: a, group: g, class: marketing, value: 1, propensity: {start: 1}, treatments: [{channel: web, content: a}]}]
scenarios: [{id: s, touchpoints: [web.home]}]
contact_policies: [{id: flood, count: contact, max: 3, within: 1h, suppress: 4h}]
`)
	contact := func(at int64) decide.Contact {
		return decide.Contact{Time: at, Channel: "web", Touchpoint: "web.home", Items: []profilestore.Item{{Offer: "a", Group: "g", Class: "marketing"}}}
	}
	for _, c := range []struct {
		times []int64
		want  []string
	}{
		{[]int64{modelStart, modelStart + 2*hourMicros, modelStart + 5*hourMicros}, nil},
		{[]int64{modelStart - hourMicros/2, modelStart + 2*hourMicros}, []string{"a"}},
		{[]int64{modelStart - hourMicros, modelStart + 2*hourMicros, modelStart + 5*hourMicros}, []string{"a"}}, // the first is an hour ago
	} {
		r := decide.Request{Now: modelStart, Profile: unknowns()}
		for _, at := range c.times {
			r.Pending = append(r.Pending, contact(at))
		}
		wants(t, decideAt(t, d, r, false, "web.home")[0], c.want, nil)
	}
}
