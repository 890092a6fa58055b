package server_test

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// capsWorld is a catalogue of limits, and what a model has to know of it.
type capsWorld struct {
	yaml       string
	policies   []capsPolicy
	capacities map[string]capsCapacity
	channel    map[string]string // of a touchpoint
	class      map[string]string // of an offer, marketing if it is not here
	group      map[string]string // of an offer
	questions  [][]string        // touchpoints that are asked together
	each       int               // decisions of each caller in a round
}

// capsTogether is a world in which each offer is bound by several limits, as it is where
// people have thought of some.
func capsTogether() *capsWorld {
	return &capsWorld{
		yaml: capsTogetherYAML, each: 4,
		policies: []capsPolicy{
			{id: "rest", per: "offer", count: "rejected", max: 1, within: 3 * day, suppress: 5 * day},
			{id: "clicks", per: "group", count: "clicked", max: 2, within: day},
			{id: "offers", per: "offer", max: 2, within: 6 * time.Hour, groups: []string{"a"}},
			{id: "groups", per: "group", max: 3, within: 8 * time.Hour, groups: []string{"a", "b"}},
			{id: "places", per: "touchpoint", max: 3, within: 40 * time.Minute},
			{id: "channels", per: "channel", max: 5, within: 5 * time.Hour},
			{id: "flood", max: 6, within: time.Hour, suppress: 4 * time.Hour},
			{id: "messages", max: 4, within: day, channels: []string{"sms"}},
			{id: "classes", per: "class", max: 8, within: 2 * day, care: true},
		},
		capacities: map[string]capsCapacity{
			"hour":  {"k_hour", "", 6, hourOf},
			"day":   {"k_day", "clicked", 40, dayOf},
			"week":  {"k_week", "", 80, weekOf},
			"month": {"k_month", "accepted", 90, monthOf},
			"total": {"k_total", "accepted", 100, noPeriod},
		},
		channel:   map[string]string{"web.home": "web", "web.side": "web", "web.shop": "web", "sms.push": "sms"},
		class:     map[string]string{"c1": "care"},
		group:     map[string]string{"a1": "a", "a2": "a", "b1": "b", "c1": "c", "d1": "d"},
		questions: [][]string{{"web.home"}, {"web.side"}, {"sms.push"}, {"web.home", "sms.push"}, {"web.home", "web.side"}},
	}
}

const capsTogetherYAML = `
channels:
  - {id: web, direction: inbound, hold: 1m}
  - {id: sms, direction: outbound, hold: 3m}
touchpoints:
  - {id: web.home, channel: web, slots: 2}
  - {id: web.side, channel: web}
  - {id: sms.push, channel: sms}
  - {id: web.shop, channel: web, slots: 5}
offers:
  - {id: a1, group: a, class: marketing, propensity: {start: 0.5}, treatments: [{channel: web, content: x}, {channel: sms, content: x}]}
  - {id: a2, group: a, class: marketing, propensity: {start: 0.5}, treatments: [{channel: web, content: x}, {channel: sms, content: x}]}
  - {id: b1, group: b, class: marketing, propensity: {start: 0.5}, treatments: [{channel: web, content: x}, {channel: sms, content: x}]}
  - {id: c1, group: c, class: care, propensity: {start: 0.5}, treatments: [{channel: web, content: x}, {channel: sms, content: x}]}
  - {id: d1, group: d, class: marketing, propensity: {start: 0.5}, treatments: [{channel: web, content: x}, {channel: sms, content: x}]}
  - {id: k_hour, group: k, class: service, propensity: {start: 0.5}, treatments: [{channel: web, content: x}]}
  - {id: k_day, group: k, class: service, propensity: {start: 0.5}, treatments: [{channel: web, content: x}]}
  - {id: k_week, group: k, class: service, propensity: {start: 0.5}, treatments: [{channel: web, content: x}]}
  - {id: k_month, group: k, class: service, propensity: {start: 0.5}, treatments: [{channel: web, content: x}]}
  - {id: k_total, group: k, class: service, propensity: {start: 0.5}, treatments: [{channel: web, content: x}]}
scenarios:
  - {id: inbound, touchpoints: [web.home, web.side], groups: [a, b, c, d]}
  - {id: outbound, touchpoints: [sms.push], groups: [a, b, c, d]}
  - {id: shop, touchpoints: [web.shop], groups: [k]}
contact_policies:
  - {id: messages, count: contact, max: 4, within: 1d, channels: [sms]}
  - {id: rest, per: offer, count: rejected, max: 1, within: 3d, suppress: 5d}
  - {id: clicks, per: group, count: clicked, max: 2, within: 1d}
  - {id: offers, per: offer, count: contact, max: 2, within: 6h, groups: [a]}
  - {id: groups, per: group, count: contact, max: 3, within: 8h, groups: [a, b]}
  - {id: places, per: touchpoint, count: contact, max: 3, within: 40m}
  - {id: channels, per: channel, count: contact, max: 5, within: 5h}
  - {id: flood, count: contact, max: 6, within: 1h, suppress: 4h}
  - {id: classes, per: class, count: contact, max: 8, within: 2d, classes: [care, marketing]}
capacities:
  - {id: hour, max: 6, per: hour, offers: [k_hour]}
  - {id: day, max: 40, per: day, offers: [k_day], taken_by: clicked}
  - {id: week, max: 80, per: week, offers: [k_week]}
  - {id: month, max: 90, per: month, offers: [k_month], taken_by: accepted}
  - {id: total, max: 100, per: total, offers: [k_total], taken_by: accepted}
`

// capsApart is a world with every kind of policy that there is, each for offers of its
// own so that it is the one that withholds: contacts or outcomes, each way of counting,
// with and without suppression; and capacities of each period, taken by contacts or an
// outcome.
func capsApart() *capsWorld {
	w := &capsWorld{
		each: 2, capacities: make(map[string]capsCapacity), channel: map[string]string{"app.one": "app", "app.two": "app", "mail.out": "mail", "app.shop": "app"},
		class: make(map[string]string), group: make(map[string]string),
		questions: [][]string{{"app.one"}, {"app.two"}, {"mail.out"}, {"app.one", "mail.out"}, {"app.two", "app.one"}},
	}
	var offers, policies, capacities, groups []string
	for _, count := range []string{"contact", "clicked"} {
		for _, per := range []string{"", "offer", "group", "class", "channel", "touchpoint"} {
			for _, suppress := range []time.Duration{0, 7 * time.Hour} {
				p := capsPolicy{per: per, max: 2, within: 5 * time.Hour, suppress: suppress, care: per == "class"}
				p.id = count + "_" + per
				policy := fmt.Sprintf("count: %s, max: 2, within: 5h", count)
				if per != "" {
					policy += ", per: " + per
				}
				if count != "contact" {
					p.count, p.max = count, 1
					policy = strings.Replace(policy, "max: 2", "max: 1", 1)
				}
				if suppress > 0 {
					p.id += "_suppress"
					policy += ", suppress: 7h"
				}
				if p.care {
					policy += ", classes: [care, marketing]"
				}
				classes := []string{"marketing", "marketing"}
				if p.care {
					classes = append(classes, "care")
				}
				for k, class := range classes {
					offer, group := fmt.Sprint(p.id, "_", k), fmt.Sprint(p.id, "_g", k)
					w.class[offer], w.group[offer] = class, group
					p.groups = append(p.groups, group)
					offers = append(offers, fmt.Sprintf("{id: %s, group: %s, class: %s, propensity: {start: 0.5}, treatments: [{channel: app, content: x}, {channel: mail, content: x}]}", offer, group, class))
				}
				w.policies = append(w.policies, p)
				policies = append(policies, fmt.Sprintf("{id: %s, %s, groups: [%s]}", p.id, policy, strings.Join(p.groups, ", ")))
				groups = append(groups, p.groups...)
			}
		}
	}
	for _, takenBy := range []string{"", "accepted"} {
		for i, period := range []string{"hour", "day", "week", "month", "total"} {
			id, most := period+takenBy, []int{6, 40, 80, 90, 100}[i]
			offer := "k_" + id
			w.class[offer], w.group[offer] = "service", "k"
			w.capacities[id] = capsCapacity{offer, takenBy, most, []func(time.Time) time.Time{hourOf, dayOf, weekOf, monthOf, noPeriod}[i]}
			taken := ""
			if takenBy != "" {
				taken = ", taken_by: " + takenBy
			}
			offers = append(offers, fmt.Sprintf("{id: %s, group: k, class: service, propensity: {start: 0.5}, treatments: [{channel: app, content: x}]}", offer))
			capacities = append(capacities, fmt.Sprintf("{id: %s, max: %d, per: %s, offers: [%s]%s}", id, most, period, offer, taken))
		}
	}
	list := func(name string, rows []string) string { return name + ":\n  - " + strings.Join(rows, "\n  - ") + "\n" }
	competing := strings.Join(groups, ", ")
	w.yaml = list("channels", []string{"{id: app, direction: inbound, hold: 1m}", "{id: mail, direction: outbound, hold: 3m}"}) +
		list("touchpoints", []string{"{id: app.one, channel: app, slots: 4}", "{id: app.two, channel: app, slots: 4}", "{id: mail.out, channel: mail, slots: 4}", "{id: app.shop, channel: app, slots: 10}"}) +
		list("offers", offers) +
		list("scenarios", []string{
			"{id: inbound, touchpoints: [app.one, app.two], groups: [" + competing + "]}", "{id: outbound, touchpoints: [mail.out], groups: [" + competing + "]}",
			"{id: shop, touchpoints: [app.shop], groups: [k]}",
		}) +
		list("contact_policies", policies) + list("capacities", capacities)
	return w
}

const day = 24 * time.Hour

func hourOf(t time.Time) time.Time { return t.Truncate(time.Hour) }

func dayOf(t time.Time) time.Time { return t.Truncate(day) }

func weekOf(t time.Time) time.Time {
	for t = t.Truncate(day); t.Weekday() != time.Monday; t = t.Add(-day) {
	}
	return t
}

func monthOf(t time.Time) time.Time {
	return time.Date(t.Year(), t.Month(), 1, 0, 0, 0, 0, time.UTC)
}

func noPeriod(time.Time) time.Time { return time.Time{} }

// capsPolicy says of a policy what the catalogue says.
type capsPolicy struct {
	id, per, count   string // count is empty for contacts
	max              int
	within, suppress time.Duration
	groups, channels []string
	care             bool // it binds class care too
}

// capsCapacity likewise.
type capsCapacity struct {
	offer, takenBy string
	max            int
	begin          func(time.Time) time.Time
}

// keys returns what a policy counts a contact under, and which of it it binds. A contact
// at several touchpoints is one at each of them.
func (p *capsPolicy) keys(c *capsContact) (keys []string, bound map[string]bool) {
	bound = make(map[string]bool)
	for _, x := range c.items {
		if !p.about(x, c.channel) {
			continue
		}
		under := []string{p.key(x, c.channel)}
		bound[under[0]] = bound[under[0]] || p.binds(x)
		if p.per == "touchpoint" {
			for _, y := range c.items {
				under = append(under, y.at)
			}
		}
		for _, k := range under {
			if !slices.Contains(keys, k) {
				keys = append(keys, k)
			}
		}
	}
	return keys, bound
}

// about reports whether a policy counts an offer in a channel.
func (p *capsPolicy) about(x capsItem, channel string) bool {
	return (p.channels == nil || slices.Contains(p.channels, channel)) && (p.groups == nil || slices.Contains(p.groups, x.GetGroup())) &&
		(!p.care || x.GetClass() != "service")
}

func (p *capsPolicy) binds(x capsItem) bool {
	return x.GetClass() == "marketing" || p.care && x.GetClass() == "care"
}

func (p *capsPolicy) key(x capsItem, channel string) string {
	switch p.per {
	case "offer":
		return x.GetOffer()
	case "group":
		return x.GetGroup()
	case "class":
		return x.GetClass()
	case "touchpoint":
		return x.at
	case "channel":
		return channel
	}
	return ""
}

// suppressed reports whether times are too many now: the naive reading of a policy. What
// is dated later than now, because the clock has stepped back, has just happened.
func (p *capsPolicy) suppressed(times []time.Time, now time.Time) bool {
	within := func(end time.Time) (n int) {
		for _, t := range times {
			if t = earlier(t, now); t.After(end.Add(-p.within)) && !t.After(end) {
				n++
			}
		}
		return n
	}
	if p.suppress == 0 {
		return within(now) >= p.max
	}
	return slices.ContainsFunc(times, func(t time.Time) bool {
		return t.Add(p.suppress).After(now) && within(earlier(t, now)) >= p.max
	})
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
