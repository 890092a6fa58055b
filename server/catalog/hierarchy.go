package catalog

import (
	"fmt"
	"math"
	"slices"
	"time"

	"rapport/profilestore/rules"
	rapportv1 "rapport/server/api/rapport/v1"
)

var negativeInfinity = math.Inf(-1)

// level is what an issue or a group says of all offers below it.
type level struct {
	eligible rules.Rule
	ruled    bool
	lever    float64
	boosts   []Boost
}

// addIssues adds the issues of the business.
func (c *compiler) addIssues() {
	c.issues = make(map[string]level)
	seen := make(map[string]int)
	for i, m := range c.message.GetIssues() {
		if c.declare(seen, "issues", i, "id", "issue", m.GetId()) {
			c.issues[m.GetId()] = level{c.condition("issues", i, "eligible", m.GetEligible()), ruled(m.GetEligible()), 1 + m.GetBoost()/100, boosts(nil, "issue "+m.GetId(), m.GetBoost())}
		}
	}
}

// addGroups adds what groups of offers have in common, with what their issues say.
func (c *compiler) addGroups() {
	c.levels = make(map[string]level)
	seen := make(map[string]int)
	for i, m := range c.message.GetGroups() {
		if !c.declare(seen, "groups", i, "id", "group", m.GetId()) {
			continue
		}
		own := level{c.condition("groups", i, "eligible", m.GetEligible()), ruled(m.GetEligible()), 1 + m.GetBoost()/100, boosts(nil, "group "+m.GetId(), m.GetBoost())}
		if id := m.GetIssue(); id != "" {
			issue, ok := c.issues[id]
			if !ok && !c.lost["issues"] {
				c.fail("groups", i, "issue", "there is no issue %q%s", id, nearest(c, id, c.issues))
			}
			if ok {
				own = level{rules.All(issue.eligible, own.eligible), own.ruled || issue.ruled, issue.lever * own.lever, append(own.boosts, issue.boosts...)}
			}
		}
		c.levels[m.GetId()] = own
	}
}

// inherit gives an offer what its group and issue say.
func (c *compiler) inherit(o *Offer) {
	l, ok := c.levels[o.Group]
	if !ok {
		return
	}
	o.Eligible = rules.All(l.eligible, o.Eligible)
	o.above = l.lever
	o.Lever *= l.lever
	o.Boosts = append(o.Boosts, l.boosts...)
}

// boosts appends a boost if there is one.
func boosts(dst []Boost, of string, percent float64) []Boost {
	if percent == 0 {
		return dst
	}
	return append(dst, Boost{of, percent})
}

// addValidity reads from when and until when an offer may be made.
func (c *compiler) addValidity(i int, m *rapportv1.Offer, o *Offer) {
	read := func(below, text string) int64 {
		if text == "" {
			return 0
		}
		t, err := time.Parse(time.RFC3339, text)
		if err != nil {
			t, err = time.ParseInLocation(time.DateOnly, text, c.out.Clock.Zone)
		}
		if err != nil {
			c.fail("offers", i, below, "%q is no time: use a day such as 2026-12-24, or 2026-12-24T18:00:00+08:00", text)
			return 0
		}
		if micros := t.UnixMicro(); micros != 0 {
			return micros
		}
		return 1 // 0 means no bound
	}
	o.ValidFrom, o.ValidUntil = read("valid_from", m.GetValidFrom()), read("valid_until", m.GetValidUntil())
	if o.ValidFrom != 0 && o.ValidUntil != 0 && o.ValidUntil <= o.ValidFrom {
		c.fail("offers", i, "valid_until", "it is not after valid_from: the offer could never be made")
	}
}

// addExclusions notes which offers are not on a slate together.
func (c *compiler) addExclusions() {
	done := make(map[int]bool)
	for i, m := range c.message.GetOffers() {
		at, ok := c.offers[m.GetId()]
		if !ok || done[at] { // it is missing, or declared twice, which was said
			continue
		}
		done[at] = true
		for _, list := range []struct {
			below string
			names []string
		}{{"excludes", m.GetExcludes()}, {"bundle", m.GetBundle()}} {
			for j, name := range known(c, "offers", i, list.below, "offer", list.names, c.offers) {
				other, ok := c.offers[name]
				switch {
				case !ok:
				case other == at:
					c.fail("offers", i, fmt.Sprintf("%s[%d]", list.below, j), "it is the offer itself")
				default:
					c.out.Offers[at].Excludes = append(c.out.Offers[at].Excludes, other)
					c.out.Offers[other].Excludes = append(c.out.Offers[other].Excludes, at)
				}
			}
		}
	}
	for i := range c.out.Offers {
		o := &c.out.Offers[i]
		slices.Sort(o.Excludes)
		o.Excludes = slices.Compact(o.Excludes)
	}
}
