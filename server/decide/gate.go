package decide

import (
	"encoding/binary"

	"rapport/profilestore/rules"
	"rapport/server/catalog"
)

// gates are the two that a candidate has to pass to be ranked. What becomes of one
// candidate at a gate becomes of all that stand before it, since all that is asked there
// is the same for them: at the first whether the offer's time and rule allow it, at the
// second whatever else may withhold it. So a decision asks a gate once, for the first
// candidate that comes to it, and for the others looks the verdict up.
//
// With 10,000 candidates that share some hundred rules, of which the customer is eligible
// for 100, a decision takes 24 µs; when each candidate was asked it took 120. There are two
// gates because `owned` is mostly an offer's own while its rule is shared: where every
// offer had an `owned` and there was one gate for both, that decision took 170, and with
// two 45.
type gates struct{ first, second int32 }

// verdict is what was said at a gate: passed, or passed and the reason why not.
type verdict uint8

const (
	undecided verdict = iota // it was not asked yet, or has to be for each candidate
	passed
)

// sift gives every candidate that may not be offered its reason, and leaves in s.places
// where the others are.
func (d *Decider) sift(s *scratch, t *catalog.Touchpoint, r *Request, a *Answer) {
	l := &d.layouts[t.Scenario]
	s.verdicts = resize(s.verdicts, l.count)
	s.places = grown(s.places, len(t.Candidates))
	verdicts, places, reasons := s.verdicts, s.places, a.Reasons
	n := 0
	for place, index := range t.Candidates {
		g := l.gates[index]
		v := verdicts[g.first]
		if v == passed {
			v = verdicts[g.second]
		}
		reason := Reason(v - passed)
		if v == undecided {
			reason = d.ask(s, t, r, a, place, g)
		}
		reasons[place] = reason
		places[n] = int32(place)
		if reason == ReasonNone {
			n++
		}
	}
	s.places = places[:n]
}

// ask asks at the gates of a candidate why it may not be offered, ReasonNone if it may,
// and keeps what is said. Where the second says more than a reason, or something about
// this offer alone, it stays undecided.
func (d *Decider) ask(s *scratch, t *catalog.Touchpoint, r *Request, a *Answer, place int, g gates) Reason {
	c := &d.catalog.Scenarios[t.Scenario].Candidates[t.Candidates[place]]
	o := &d.catalog.Offers[c.Offer]
	if s.verdicts[g.first] == undecided {
		s.verdicts[g.first] = passed + verdict(d.first(s, r, o, c))
	}
	if v := s.verdicts[g.first]; v != passed {
		return Reason(v - passed)
	}
	reason := d.second(s, r, o, c)
	if reason == ReasonNone {
		x := &s.contact
		reason = x.check(s, o, c)
		if x.by != "" || x.until != 0 {
			a.Details = append(a.Details, Detail{Place: place, By: x.by, Until: x.until})
			return reason
		}
		if x.alone {
			return reason
		}
	}
	s.verdicts[g.second] = passed + verdict(reason)
	return reason
}

// first returns why the time or the rule of an offer forbids it.
func (d *Decider) first(s *scratch, r *Request, o *catalog.Offer, c *catalog.Candidate) Reason {
	if r.Profile == nil && d.closed(o, c.Channel) {
		return ReasonProfileUnreadable
	}
	if r.Now < o.ValidFrom || o.ValidUntil != 0 && r.Now >= o.ValidUntil {
		return ReasonNotValid
	}
	return fulfilled(s.rules.Evaluate(o.Eligible), ReasonNotEligible)
}

// second returns what else forbids it, but for contact rules.
func (d *Decider) second(s *scratch, r *Request, o *catalog.Offer, c *catalog.Candidate) Reason {
	if o.HasOwned {
		switch s.rules.Evaluate(o.Owned) {
		case rules.True:
			return ReasonOwned
		case rules.Unknown:
			return ReasonUnknown
		case rules.Failed:
			return ReasonRuleError
		case rules.False:
		}
	}
	if reason := fulfilled(s.rules.Evaluate(o.Prerequisite), ReasonPrerequisite); reason != ReasonNone {
		return reason
	}
	if reason := fulfilled(s.rules.Evaluate(c.Eligible), ReasonNotEligible); reason != ReasonNone {
		return reason
	}
	if r.Unreserved != nil && d.closed(o, c.Channel) {
		return ReasonNotReserved
	}
	return ReasonNone
}

// fulfilled returns why a rule is not, given the reason where it is false.
func fulfilled(t rules.Truth, no Reason) Reason {
	switch t {
	case rules.False:
		return no
	case rules.Unknown:
		return ReasonUnknown
	case rules.Failed:
		return ReasonRuleError
	case rules.True:
	}
	return ReasonNone
}

// gateBuilder numbers the gates of a scenario.
type gateBuilder struct {
	known map[string]int32
	key   []byte
}

// add returns the gates of a candidate. What is asked at a gate must read nothing of a
// candidate and its offer that is not in the gate's key, but for the channel: a decision
// is about one.
func (b *gateBuilder) add(o *catalog.Offer, c *catalog.Candidate, closed bool) (g gates) {
	b.key = append(b.key[:0], 1)
	b.flag(closed)
	b.number(o.ValidFrom)
	b.number(o.ValidUntil)
	b.list(o.Eligible.Conditions())
	g.first = b.gate()

	b.key = append(b.key[:0], 2)
	b.flag(o.HasOwned)
	b.list(o.Owned.Conditions())
	b.list(o.Prerequisite.Conditions())
	b.list(c.Eligible.Conditions())
	b.number(int64(o.Class)) // the rest is for contactRules.check
	b.list(c.Policies)
	b.flag(o.HeldBack)
	g.second = b.gate()
	return g
}

// gate returns the gate of the key.
func (b *gateBuilder) gate() int32 {
	g, ok := b.known[string(b.key)]
	if !ok {
		g = int32(len(b.known))
		b.known[string(b.key)] = g
	}
	return g
}

func (b *gateBuilder) number(n int64) { b.key = binary.AppendVarint(b.key, n) }

func (b *gateBuilder) flag(f bool) {
	n := int64(0)
	if f {
		n = 1
	}
	b.number(n)
}

func (b *gateBuilder) list(numbers []int32) {
	b.number(int64(len(numbers)))
	for _, n := range numbers {
		b.number(int64(n))
	}
}
