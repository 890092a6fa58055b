package catalog

import (
	"encoding/binary"
	"slices"
	"strings"
)

// scope is which candidates a policy or a capacity is about. A list that is nil has
// all.
type scope struct {
	element                  int // in the message's list
	channels, groups, offers map[string]bool
}

func (c *compiler) scope(element int, channels, groups, offers []string) scope {
	set := func(names []string) map[string]bool {
		if names == nil {
			return nil
		}
		out := make(map[string]bool, len(names))
		for _, name := range names {
			out[name] = true
		}
		return out
	}
	return scope{element, set(channels), set(groups), set(offers)}
}

func (s *scope) has(channel string, o *Offer) bool {
	in := func(set map[string]bool, name string) bool { return set == nil || set[name] }
	return in(s.channels, channel) && in(s.groups, o.Group) && in(s.offers, o.ID)
}

// scopes are those of all policies, or of all capacities, by what they name, so that a
// candidate is held against few of them: of ten thousand offers each may have a stock of
// its own.
type scopes struct {
	all     []scope
	general []int32
	group   map[string][]int32
	offer   map[string][]int32
}

func newScopes(all []scope) *scopes {
	s := &scopes{all: all, group: make(map[string][]int32), offer: make(map[string][]int32)}
	for n := range all {
		index, names := s.offer, all[n].offers
		if names == nil {
			index, names = s.group, all[n].groups
		}
		for name := range names {
			index[name] = append(index[name], int32(n))
		}
		if names == nil {
			s.general = append(s.general, int32(n))
		}
	}
	return s
}

// of returns which of them are about an offer in a channel, ascending.
func (s *scopes) of(channel string, o *Offer, more func(n int32) bool) []int32 {
	var out []int32
	for _, list := range [][]int32{s.general, s.group[o.Group], s.offer[o.ID]} {
		for _, n := range list {
			if s.all[n].has(channel, o) && more(n) {
				out = append(out, n)
			}
		}
	}
	slices.Sort(out)
	return out
}

// maxBound is how many pairs of a treatment and a policy or capacity that it is held
// against there may be.
const maxBound = 32 << 20

// bindKey is what decides which policies and capacities a candidate has, in whichever
// scenario it competes.
type bindKey struct {
	offer   int
	channel int
}

type bindings struct{ policies, capacities []int32 }

// lists are lists of numbers, each kept once.
type lists map[string][]int32

func (l lists) keep(list []int32) []int32 {
	var room [256]byte
	key := room[:0]
	for _, n := range list {
		key = binary.LittleEndian.AppendUint32(key, uint32(n))
	}
	if kept, ok := l[string(key)]; ok {
		return kept
	}
	l[string(key)] = list
	return list
}

// bind notes which policies bind each candidate and which capacities it needs. What a
// policy says of touchpoints is looked at when a decision is made.
func (c *compiler) bind() {
	groups := make(map[string]int)
	for i := range c.out.Offers {
		o := &c.out.Offers[i]
		if _, ok := groups[o.Group]; !ok {
			groups[o.Group] = len(groups)
		}
		o.GroupIndex = groups[o.Group]
	}
	policies, capacities := newScopes(c.policies), newScopes(c.capacities)
	cache, kept := make(map[bindKey]bindings), make(lists)
	checks := 0
	of := func(x *Candidate) bindings {
		key := bindKey{x.Offer, x.Channel}
		b, ok := cache[key]
		if ok || checks > maxBound {
			return b
		}
		o, channel := &c.out.Offers[x.Offer], c.out.Channels[x.Channel].ID
		for _, s := range []*scopes{policies, capacities} {
			checks += len(s.general) + len(s.group[o.Group]) + len(s.offer[o.ID])
		}
		b.policies = kept.keep(policies.of(channel, o, func(n int32) bool { return c.out.Policies[n].binds(o.Class) }))
		b.capacities = kept.keep(capacities.of(channel, o, func(int32) bool { return true }))
		cache[key] = b
		return b
	}
	for _, s := range c.out.Scenarios {
		s.Plain = !s.ClassOrder && s.MinimumScore == negativeInfinity
		for k := range s.Candidates {
			x := &s.Candidates[k]
			b := of(x)
			x.Policies, x.Capacities = b.policies, b.capacities
			o := &c.out.Offers[x.Offer]
			s.Plain = s.Plain && len(o.Excludes) == 0 && o.Exclusive < 0 && len(x.Capacities) == 0 && !x.Content.Computed() && !x.Script.Computed()
		}
	}
	for i := range c.out.Touchpoints {
		if t := &c.out.Touchpoints[i]; t.Fallback != nil {
			b := of(t.Fallback)
			t.Fallback.Policies, t.Fallback.Capacities = b.policies, b.capacities
		}
	}
	c.checkFallbackCapacity()
	if checks > maxBound {
		c.docs[0].failAt(nil, "", "there are more than %d pairs of a treatment and a contact policy or capacity: let policies be about groups and channels, not about single offers", maxBound)
	}
}

// binds reports whether a policy binds offers of a class.
func (p *Policy) binds(class Class) bool {
	if len(p.Classes) == 0 {
		return class == ClassMarketing
	}
	return slices.Contains(p.Classes, class.String())
}

// checkFallbackCapacity reports fallbacks that may run out.
func (c *compiler) checkFallbackCapacity() {
	reported := make(map[int]bool)
	for i := range c.out.Touchpoints {
		t := &c.out.Touchpoints[i]
		if t.Fallback == nil || len(t.Fallback.Capacities) == 0 || reported[t.Scenario] {
			continue
		}
		reported[t.Scenario] = true
		var names []string
		for _, n := range t.Fallback.Capacities {
			names = append(names, c.out.Capacities[n].ID)
		}
		c.fail("scenarios", t.Scenario, "fallback", "%s takes a place of capacity %s, so it could not always be given: choose another offer", c.out.Offers[t.Fallback.Offer].ID, strings.Join(names, ", "))
	}
}
