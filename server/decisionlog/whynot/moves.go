package whynot

import (
	"context"
	"math"
	"slices"

	"rapport/profilestore"
	"rapport/server/decide"
)

// moves returns what could do away with the reason for which the offer is not in with a
// set of changes: each a change or, where one can't, several, at most most.
func (s *search) moves(ctx context.Context, set changes, most int) ([][]Change, error) {
	o, err := s.decide(ctx, set)
	if err != nil {
		return nil, err
	}
	var out [][]Change
	add := func(c ...Change) { out = append(out, c) }
	in, _, err := s.apply(set)
	if err != nil {
		return nil, err
	}
	w := &world{in}
	ch, noted := s.at.Channel, false
	switch o.reason {
	case decide.ReasonNotValid:
		now := in.Request.Now
		if now < s.offer.ValidFrom {
			add(s.wait(now, s.offer.ValidFrom))
		} else {
			add(Change{Kind: KindValidity, Subject: s.offer.ID, From: profilestore.Time(s.offer.ValidUntil), index: s.q.Offer})
		}
	case decide.ReasonNotEligible, decide.ReasonUnknown, decide.ReasonRuleError, decide.ReasonPrerequisite, decide.ReasonOwned:
		out, noted = s.fulfil(w, most), true
	case decide.ReasonDoNotDisturb:
		out = s.flag(w, KindDoNotDisturb, s.c.Channels[ch].DoNotDisturb, false)
	case decide.ReasonNoConsent:
		out = s.flag(w, KindConsent, s.c.Channels[ch].Consent, true)
	case decide.ReasonQuietDeferred:
		if o.until > in.Request.Now {
			add(s.wait(in.Request.Now, o.until))
		} else {
			out = s.leaveHours(w, o.by, most)
		}
	case decide.ReasonCapped:
		if o.until > in.Request.Now {
			add(s.wait(in.Request.Now, o.until))
		}
		if len(in.At) > 1 {
			add(s.alone())
		}
	case decide.ReasonControlGroup:
		add(Change{Kind: KindControlGroup})
	case decide.ReasonCapacity:
		out = s.makeRoom(o, in.Request.Now)
	case decide.ReasonExcluded:
		if other := s.offerCalled(o.by); other >= 0 {
			add(s.withdraw(other))
		}
		err = s.rise(ctx, set, o, w, add)
	case decide.ReasonBelowMinimum:
		err = s.rise(ctx, set, o, w, add)
	case decide.ReasonVetoed:
		err = s.strategyReads(ctx, set, o, w, add)
	case decide.ReasonRankedBelow:
		if n := len(o.slate); n > 0 {
			add(s.withdraw(o.slate[n-1]))
		}
		if err = s.rise(ctx, set, o, w, add); err == nil {
			err = s.slots(ctx, set, w, add)
		}
	case decide.ReasonOffered: // but not first
		if len(o.slate) > 0 && o.position > 0 {
			add(s.withdraw(o.slate[0]))
			err = s.rise(ctx, set, o, w, add)
		}
	case decide.ReasonOtherChannel, decide.ReasonOtherTouchpoint:
		add(s.alone())
		out = append(out, s.choose(w)...)
		if o.best >= 0 {
			add(s.withdraw(o.best))
		}
		err = s.rise(ctx, set, o, w, add)
	case decide.ReasonProfileUnreadable:
		noted = true
		s.note("the profile could not be read, and without it the offer must not be made")
	case decide.ReasonNotReserved:
		noted = true
		s.note("contacts could not be reserved at that moment, and without that the offer must not be made")
	case decide.ReasonNone:
		noted = true
		s.note("no scenario answers for touchpoint %s", s.at.ID)
	}
	if s.stopped != nil {
		return nil, s.stopped
	}
	if err == nil && len(out) == 0 && !noted {
		s.note("%s: nothing is known that would change that", s.words(o))
	}
	return out, err
}

// words says a reason.
func (s *search) words(o *outcome) string {
	text := o.reason.String()
	if o.by != "" {
		text += " (" + o.by + ")"
	}
	return text
}

func (s *search) wait(now, until int64) Change {
	return Change{Kind: KindWait, From: profilestore.Time(now), To: profilestore.Time(until)}
}

func (s *search) withdraw(offer int) Change {
	return Change{Kind: KindWithdraw, Subject: s.c.Offers[offer].ID, index: offer}
}

func (s *search) alone() Change {
	return Change{Kind: KindAlone, Subject: s.at.ID}
}

func (s *search) offerCalled(id string) int {
	for i := range s.c.Offers {
		if s.c.Offers[i].ID == id && i != s.q.Offer {
			return i
		}
	}
	return -1
}

// flag proposes another value of a flag of the channel.
func (s *search) flag(w *world, kind Kind, slot int, to bool) [][]Change {
	if slot < 0 || w.in.Values == nil {
		return nil
	}
	return [][]Change{{{Kind: kind, Subject: nameOf(s.c, slot), From: w.in.Values[slot], To: profilestore.Flag(to), index: slot}}}
}

// makeRoom proposes that a capacity has a place: by itself, in the next period, or
// because another offer on the slate does not take it.
func (s *search) makeRoom(o *outcome, now int64) [][]Change {
	i := slices.IndexFunc(s.target.Capacities, func(n int32) bool { return s.c.Capacities[n].ID == o.by })
	if i < 0 {
		return nil
	}
	n := int(s.target.Capacities[i])
	x := &s.c.Capacities[n]
	out := [][]Change{{{Kind: KindCapacity, Subject: x.ID, index: n}}}
	zone := s.c.Clock.Zone
	begin := x.Period.Begin(now, zone)
	next := (&seeds{now: now}).later(now, func(t int64) bool { return x.Period.Begin(t, zone) != begin })
	if next != 0 {
		out = append(out, []Change{s.wait(now, next)})
	}
	candidates := s.c.Scenarios[s.at.Scenario].Candidates
	for _, other := range o.slate {
		if at := placeOf(s.c, s.at, other); other != s.q.Offer && at >= 0 && slices.Contains(candidates[s.at.Candidates[at]].Capacities, int32(n)) {
			out = append(out, []Change{s.withdraw(other)})
		}
	}
	return out
}

// choose proposes that the customer prefers the channel.
func (s *search) choose(w *world) [][]Change {
	var out [][]Change
	choice := &s.c.Scenarios[s.at.Scenario].Choice
	id := s.c.Channels[s.at.Channel].ID
	if w.in.Values == nil {
		return nil
	}
	set := func(slot int, to string) {
		if v := profilestore.Text(to); slot >= 0 && w.in.Values[slot] != v {
			out = append(out, []Change{s.field(slot, w.in.Values[slot], v)})
		}
	}
	set(choice.Preferred, id)
	personas := make([]string, 0, len(choice.Personas))
	for persona, channels := range choice.Personas {
		if len(channels) > 0 && channels[0] == s.at.Channel {
			personas = append(personas, persona)
		}
	}
	slices.Sort(personas)
	for _, p := range personas {
		set(choice.Persona, p)
	}
	return out
}

// Bounds of what is raised, as the catalogue has them.
const (
	maxBoost = 10000
	maxValue = 1e12
	maxSlots = 100
)

// rise proposes what lifts the offer's score, each as far as it takes.
func (s *search) rise(ctx context.Context, set changes, o *outcome, w *world, add func(...Change)) error {
	offer := &w.in.Catalog.Offers[s.q.Offer]
	boost := func(n float64) Change {
		return Change{Kind: KindBoost, Subject: offer.ID, From: profilestore.Number(s.offer.Boost), To: profilestore.Number(n), index: s.q.Offer}
	}
	if err := s.least(ctx, set, o, math.Floor(offer.Boost)+1, maxBoost, boost, add); err != nil {
		return err
	}
	// A strategy may read the value as an attribute, which stays.
	if s.c.Scenarios[s.at.Scenario].Strategy == nil {
		value := func(n float64) Change {
			return Change{Kind: KindValue, Subject: offer.ID, From: profilestore.Number(s.offer.Value), To: profilestore.Number(n), index: s.q.Offer}
		}
		if err := s.least(ctx, set, o, math.Floor(offer.Value)+1, maxValue, value, add); err != nil {
			return err
		}
	}
	if slot := offer.Propensity.Slot; slot >= 0 && w.in.Values != nil {
		from := w.in.Values[slot]
		now := offer.Propensity.Start
		if from.Known() {
			now = min(max(from.Number(), 0), 1)
		}
		percent := func(n float64) Change { return s.field(slot, from, profilestore.Number(n/100)) }
		if err := s.least(ctx, set, o, math.Floor(now*100)+1, 100, percent, add); err != nil {
			return err
		}
	}
	ch := &s.c.Channels[s.at.Channel]
	if load := w.in.Request.Loads[s.at.Channel]; ch.HasPressure && ch.PressureWeight < 1 && load >= ch.PressureAbove && ch.PressureAbove > 0 {
		add(Change{
			Kind: KindLoad, Subject: ch.ID, From: profilestore.Number(load), To: profilestore.Number(math.Nextafter(ch.PressureAbove, 0)),
			Bound: profilestore.Number(ch.PressureAbove), index: s.at.Channel,
		})
	}
	return s.strategyReads(ctx, set, o, w, add)
}

// slots proposes more slots.
func (s *search) slots(ctx context.Context, set changes, w *world, add func(...Change)) error {
	at := s.q.At
	if len(w.in.At) == 1 {
		at = 0
	}
	touchpoint := w.in.At[at].Touchpoint
	now := w.in.Catalog.Touchpoints[touchpoint].Slots
	if asked := w.in.At[at].Slots; asked > 0 {
		now = min(now, asked)
	}
	if s.q.First {
		return nil
	}
	more := func(n float64) Change {
		return Change{Kind: KindSlots, Subject: s.at.ID, From: profilestore.Number(float64(now)), To: profilestore.Number(n), index: touchpoint}
	}
	return s.least(ctx, set, nil, float64(now)+1, min(maxSlots, float64(now+len(s.at.Candidates))), more, add)
}

// least adds the change to the least whole number, from low to high, that brings the
// offer where it is wanted or, if none does, does away with the reason that o gives. It
// is taken that more of it never does harm; what comes out was tried.
func (s *search) least(ctx context.Context, set changes, o *outcome, low, high float64, change func(float64) Change, add func(...Change)) error {
	for _, helps := range []func(*outcome) bool{s.reached, func(x *outcome) bool {
		return o != nil && o.reason != decide.ReasonOffered && (x.reason != o.reason || x.by != o.by)
	}} {
		n, found, err := s.leastThat(ctx, set, low, high, change, helps)
		if err != nil {
			return err
		}
		if found {
			add(change(n))
			return nil
		}
	}
	return nil
}

func (s *search) leastThat(ctx context.Context, set changes, low, high float64, change func(float64) Change, helps func(*outcome) bool) (float64, bool, error) {
	try := func(n float64) (bool, error) {
		o, err := s.decide(ctx, set.with(change(n)))
		return err == nil && len(o.missing) == 0 && helps(o), err
	}
	if low > high {
		return 0, false, nil
	}
	if ok, err := try(high); !ok {
		return 0, false, err
	}
	not, is, step := low-1, high, 1.0
	for n := low; n < high; n += step {
		ok, err := try(n)
		if err != nil {
			return 0, false, err
		}
		if ok {
			is = n
			break
		}
		not = n
		step *= 4
	}
	for is-not > 1 {
		middle := math.Floor(not + (is-not)/2)
		if middle <= not || middle >= is {
			break
		}
		ok, err := try(middle)
		if err != nil {
			return 0, false, err
		}
		if ok {
			is = middle
		} else {
			not = middle
		}
	}
	return is, true, nil
}

// strategyReads proposes other values of what the strategy reads: of its mind nothing is
// known, so they are tried.
func (s *search) strategyReads(ctx context.Context, set changes, o *outcome, w *world, add func(...Change)) error {
	if s.c.Scenarios[s.at.Scenario].Strategy == nil || w.in.Values == nil {
		return nil
	}
	for _, slot := range s.q.StrategyReads {
		if slot == s.offer.Propensity.Slot {
			continue
		}
		from := w.in.Values[slot]
		var failed error
		ok := func(v profilestore.Value) bool {
			if failed != nil {
				return false
			}
			x, err := s.decide(ctx, set.with(s.field(slot, from, v)))
			failed = err
			return err == nil && len(x.missing) == 0 && (s.reached(x) || o.reason == decide.ReasonVetoed && x.reason != o.reason)
		}
		for _, v := range s.tryout(slot, from) {
			if v != from && ok(v) {
				add(s.field(slot, from, v))
				break
			}
		}
		if failed != nil {
			return failed
		}
	}
	return nil
}

// tryout returns some values of a field.
func (s *search) tryout(slot int, from profilestore.Value) []profilestore.Value {
	var out []profilestore.Value
	switch f := s.c.Schema.Fields()[slot]; f.Type.Kind() {
	case profilestore.KindFlag:
		out = append(out, profilestore.Flag(true), profilestore.Flag(false))
	case profilestore.KindNumber:
		x := from.Number()
		for _, n := range []float64{x * 2, x / 2, 0, 1, 10, 100, 1000, 1e4} {
			out = append(out, profilestore.Number(math.Round(n)))
		}
	case profilestore.KindText, profilestore.KindTime:
		out = append(out, s.constantsOf(subject{KindField, slot}, f.Type.Kind())...)
	case profilestore.KindSet:
		for _, v := range s.constantsOf(subject{KindField, slot}, profilestore.KindText) {
			if !from.Has(v.Text()) && profilestore.CheckElement(v.Text()) == nil {
				out = append(out, profilestore.Set(append(slices.Collect(from.Elements()), v.Text())...))
			}
		}
		for e := range from.Elements() {
			out = append(out, profilestore.Set(slices.DeleteFunc(slices.Collect(from.Elements()), func(x string) bool { return x == e })...))
		}
	case profilestore.KindUnknown:
	}
	return append(out, profilestore.Unknown())
}
