package decide

import (
	"hash/fnv"
	"math"
	"slices"
	"sync"
	"time"

	"rapport/profilestore"
	"rapport/profilestore/rules"
	"rapport/server/catalog"
)

// contactRules say, for one decision, whether an offer may be made in a channel now:
// do-not-disturb, consent, hours, contact policies, the control group, in this order.
// Class service is bound by none of them.
//
// What cannot be known withholds: consent that is not known is no consent, and where
// nobody knows whether the customer wants to be left alone, nothing goes out.
//
// A policy counts in a window that slides: what happened within so long before now. As
// long as fewer than its limit are in the window for the policy as a whole, that is so
// for each offer, group or channel that it counts by itself, so for most customers
// each policy is one short count, and nothing is done for each candidate.
type contactRules struct {
	d       *Decider
	t       *catalog.Touchpoint
	r       *Request
	profile rules.Profile
	met     bool // the customer has met anything before

	channel  channelState
	policies []policyState             // as a whole, by their place in Compiled.Policies
	keys     map[policyKey]policyState // by what they count by itself
	times    []int64

	// Of the last check: what withheld, until when, and whether a policy had a say that
	// counts this offer or its group by itself.
	by    string
	until int64
	alone bool
}

// channelState is what holds for every offer in the touchpoint's channel.
type channelState struct {
	known        bool
	doNotDisturb bool
	noConsent    bool
	waits        bool
	by           string // what it waits for
	until        int64  // 0 if it waits for ever
}

// policyState is what a policy says; until is 0 where it does not withhold.
type policyState struct {
	known bool
	until int64
}

type policyKey struct{ policy, key int }

func (x *contactRules) reset(d *Decider, t *catalog.Touchpoint, r *Request, profile rules.Profile) {
	x.d, x.t, x.r, x.profile, x.channel = d, t, r, profile, channelState{}
	x.met = len(r.Pending) > 0 || !r.History.Empty()
	x.policies = resize(x.policies, len(d.catalog.Policies))
	clear(x.keys)
}

// release drops what it refers to.
func (x *contactRules) release() { x.r, x.t, x.profile = nil, nil, nil }

// check returns why a candidate of the touchpoint is withheld, ReasonNone if it is not.
// by and until then say more.
func (x *contactRules) check(s *scratch, o *catalog.Offer, c *catalog.Candidate) Reason {
	x.by, x.until, x.alone = "", 0, false
	if o.Class == catalog.ClassService {
		return ReasonNone
	}
	if !x.channel.known {
		x.ask(s)
	}
	switch ch := &x.channel; {
	case ch.doNotDisturb:
		return ReasonDoNotDisturb
	case ch.noConsent && o.Class == catalog.ClassMarketing:
		return ReasonNoConsent
	case ch.waits:
		x.by, x.until = ch.by, ch.until
		return ReasonQuietDeferred
	}
	for _, i := range c.Policies {
		if until := x.policy(int(i), o, c); until != 0 {
			x.by, x.until = x.d.catalog.Policies[i].ID, until
			return ReasonCapped
		}
	}
	if o.HeldBack && inControlGroup(x.r.Customer, x.d.control, x.d.catalog.Control.Share) {
		return ReasonControlGroup
	}
	return ReasonNone
}

// ask finds out what the customer wants of the channel.
func (x *contactRules) ask(s *scratch) {
	ch := &x.d.catalog.Channels[x.t.Channel]
	x.channel.known = true
	if ch.DoNotDisturb >= 0 {
		v := x.profile.Get(ch.DoNotDisturb)
		x.channel.doNotDisturb = v.Known() && v.Flag() || !v.Known() && ch.Outbound
	}
	if ch.Consent >= 0 {
		v := x.profile.Get(ch.Consent)
		x.channel.noConsent = !v.Known() || !v.Flag()
	}
	if ch.Outbound && (ch.QuietHours != nil || len(ch.ContactHours) > 0) {
		x.hours(s, ch)
	}
}

// maxWaits is how many ends of hours are looked at, each of which may lie in other hours.
// More than three are the same ones on another day, but for a change of the clock.
const maxWaits = 6

// hours says until when a channel waits, if it does, and what for.
func (x *contactRules) hours(s *scratch, ch *catalog.Channel) {
	own := slices.IndexFunc(ch.ContactHours, func(h catalog.ContactHours) bool { return s.rules.Evaluate(h.When) == rules.True })
	// The end of one wait may lie in the other, which is then what is waited for.
	at := time.UnixMicro(x.r.Now).In(x.d.zone(x.profile))
	w := &x.channel
	for range maxWaits {
		minute := at.Hour()*60 + at.Minute()
		switch {
		case ch.QuietHours != nil && ch.QuietHours.Contains(minute):
			w.waits, w.by, at = true, "quiet_hours", next(at, ch.QuietHours.Until)
		case own >= 0 && !ch.ContactHours[own].Hours.Contains(minute):
			w.waits, w.by, at = true, ch.ContactHours[own].ID, next(at, ch.ContactHours[own].Hours.From)
		default:
			if w.waits {
				w.until = at.UnixMicro()
			}
			return
		}
	}
	if own >= 0 {
		w.by = ch.ContactHours[own].ID // they lie in quiet hours
	}
}

// next returns when it is next so many minutes after midnight, by the clock of at, or
// when that clock is changed, if that is sooner.
func next(at time.Time, minute int) time.Time {
	wait := minute - at.Hour()*60 - at.Minute()
	if wait <= 0 {
		wait += 24 * 60
	}
	t := at.Truncate(time.Minute).Add(time.Duration(wait) * time.Minute)
	if _, end := at.ZoneBounds(); !end.IsZero() && end.Before(t) {
		return end
	}
	return t
}

// policy returns until when a policy withholds a candidate, 0 if it does not.
func (x *contactRules) policy(i int, o *catalog.Offer, c *catalog.Candidate) int64 {
	if !x.met {
		return 0
	}
	p := &x.d.catalog.Policies[i]
	if p.Touchpoints != nil && !slices.Contains(p.Touchpoints, x.t.ID) {
		return 0
	}
	whole := &x.policies[i]
	if !whole.known {
		*whole = policyState{true, x.evaluate(p, p.Filters)}
	}
	if whole.until == 0 || p.Per == catalog.PerPolicy {
		return whole.until
	}
	x.alone = x.alone || p.Per == catalog.PerOffer || p.Per == catalog.PerGroup
	key := policyKey{policy: i}
	switch p.Per {
	case catalog.PerOffer:
		key.key = c.Offer
	case catalog.PerGroup:
		key.key = o.GroupIndex
	case catalog.PerClass:
		key.key = int(o.Class)
	case catalog.PerChannel:
		key.key = c.Channel
	case catalog.PerTouchpoint: // the one
	case catalog.PerPolicy:
	}
	state, ok := x.keys[key]
	if !ok {
		filters := slices.Clone(p.Filters)
		for k := range filters {
			x.narrow(&filters[k], p.Per, o, c)
		}
		state = policyState{true, x.evaluate(p, filters)}
		if x.keys == nil {
			x.keys = make(map[policyKey]policyState)
		}
		x.keys[key] = state
	}
	return state.until
}

// narrow makes a filter that of one of the things that a policy counts by itself.
func (x *contactRules) narrow(f *profilestore.InteractionFilter, per catalog.Dimension, o *catalog.Offer, c *catalog.Candidate) {
	switch per {
	case catalog.PerOffer:
		f.Offer = o.ID
	case catalog.PerGroup:
		f.Group = o.Group
	case catalog.PerClass:
		f.Class = o.Class.String()
	case catalog.PerChannel:
		f.Channel = x.d.catalog.Channels[c.Channel].ID
	case catalog.PerTouchpoint:
		f.Touchpoint = x.t.ID
	case catalog.PerPolicy:
	}
}

// evaluate returns until when what matches any of the filters is too much, 0 if it is
// not.
func (x *contactRules) evaluate(p *catalog.Policy, filters []profilestore.InteractionFilter) int64 {
	within := p.Within + p.Suppress
	x.times = x.r.History.TimesOfAny(filters, time.Duration(within)*time.Microsecond, x.times[:0])
	if p.Count == catalog.CountContacts {
		n := len(x.times)
		for i := range x.r.Pending {
			if c := &x.r.Pending[i]; c.Time > x.r.Now-within && c.matches(filters) {
				x.times = append(x.times, c.Time)
			}
		}
		if len(x.times) > n {
			slices.SortFunc(x.times, func(a, b int64) int { return int(min(max(b-a, -1), 1)) })
		}
	}
	last := p.Max - 1 // of as many as are too much
	if p.Suppress == 0 {
		if last < len(x.times) && x.times[last] > x.r.Now-p.Within {
			return x.times[last] + p.Within
		}
		return 0
	}
	for i := 0; i+last < len(x.times); i++ { // the latest time at which it was too much
		// What is dated later has just happened, however far apart a clock that was ahead has
		// dated it from what happens now.
		if min(x.times[i+last], x.r.Now) > min(x.times[i], x.r.Now)-p.Within {
			if until := x.times[i] + p.Suppress; until > x.r.Now {
				return until
			}
			return 0
		}
	}
	return 0
}

// matches reports whether a contact is one that any of the filters selects.
func (c *Contact) matches(filters []profilestore.InteractionFilter) bool {
	is := func(want, have string) bool { return want == "" || want == have }
	for i := range filters {
		f := &filters[i]
		if !is(f.Channel, c.Channel) || f.Touchpoint != "" && !profilestore.HasTouchpoint(c.Touchpoint, f.Touchpoint) {
			continue
		}
		if f.Offer == "" && f.Group == "" && f.Class == "" {
			return true
		}
		for _, item := range c.Items {
			if is(f.Offer, item.Offer) && is(f.Group, item.Group) && is(f.Class, item.Class) {
				return true
			}
		}
	}
	return false
}

// zones are time zones by name, since loading one reads a file. Names come from
// profiles, so there is a limit.
type zones struct {
	mu     sync.RWMutex
	byName map[string]*time.Location // nil: there is no such zone
}

const maxZones = 1000

// zone returns the time zone of the customer.
func (d *Decider) zone(profile rules.Profile) *time.Location {
	clock := &d.catalog.Clock
	if clock.Slot < 0 {
		return clock.Zone
	}
	name := profile.Get(clock.Slot).Text()
	if name == "" || name == "Local" {
		return clock.Zone
	}
	z := &d.zones
	z.mu.RLock()
	zone, ok := z.byName[name]
	full := len(z.byName) >= maxZones
	z.mu.RUnlock()
	if !ok && !full {
		zone, _ = time.LoadLocation(name) // nil if there is none
		z.mu.Lock()
		if z.byName == nil {
			z.byName = make(map[string]*time.Location)
		}
		z.byName[name] = zone
		z.mu.Unlock()
	}
	if zone == nil {
		return clock.Zone
	}
	return zone
}

// saltHash returns the hash of a control group's salt.
func saltHash(salt string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte("rapport control group " + salt)) // it never fails
	return h.Sum64()
}

// inControlGroup reports whether a customer is in a share of 0 to 1 of all.
func inControlGroup(customer, salt uint64, share float64) bool {
	return share > 0 && float64(mix(salt, customer)>>11)*0x1p-53 < math.Min(share, 1)
}
