package whynot

import (
	"math"
	"slices"

	"rapport/profilestore"
	"rapport/profilestore/rules"
	"rapport/server/catalog"
)

// demand is what has to hold for the offer, and what it reads. What a rule demands are
// its conditions, one by one; that a rule does not hold is one demand.
type demand struct {
	met   func() bool // in the world as it is
	reads []rules.Reads
	also  rules.Constants
	text  string // for people
}

func (d *demand) readsPlace(p subject) bool {
	for _, r := range d.reads {
		switch p.kind { //nolint:exhaustive // these are what conditions read
		case KindField:
			if slices.Contains(r.Slots, p.index) {
				return true
			}
		case KindContext:
			if slices.Contains(r.Context, p.index) {
				return true
			}
		case KindWait:
			if r.Now {
				return true
			}
		}
	}
	return false
}

// condition is the demand that a condition holds.
func (s *search) condition(w *world, atom int32) demand {
	rule := s.c.Rules.Alone(int(atom))
	return demand{
		met:   func() bool { return s.evaluate(w, rule) == rules.True },
		reads: []rules.Reads{s.c.Rules.Reads(int(atom))}, also: s.c.Rules.Constants(int(atom)), text: s.c.Rules.Condition(int(atom)),
	}
}

// not is the demand that a rule is not one of some truths.
func (s *search) not(w *world, rule rules.Rule, no ...rules.Truth) demand {
	d := demand{met: func() bool { return !slices.Contains(no, s.evaluate(w, rule)) }, text: "not"}
	for _, atom := range rule.Conditions() {
		d.reads = append(d.reads, s.c.Rules.Reads(int(atom)))
		more := s.c.Rules.Constants(int(atom))
		d.also.Values, d.also.Spans = append(d.also.Values, more.Values...), append(d.also.Spans, more.Spans...)
		d.text += " " + s.c.Rules.Condition(int(atom))
	}
	return d
}

func (s *search) evaluate(w *world, r rules.Rule) rules.Truth {
	if s.breathe(); s.stopped != nil {
		return rules.Failed
	}
	s.rules.Reset(w.inputs())
	return s.rules.Evaluate(r)
}

// triesPerTurn is how many evaluations of conditions go by before others have their turn.
const triesPerTurn = 500

// breathe lets others have their turn every now and then, and finds out whether to stop.
func (s *search) breathe() {
	if s.tries++; s.tries%triesPerTurn != 0 || s.stopped != nil {
		return
	}
	if s.stopped = s.ctx.Err(); s.stopped != nil || s.q.Turn == nil {
		return
	}
	done, err := s.q.Turn(s.ctx)
	if s.stopped = err; err == nil {
		done()
	}
}

// demands are what the rules of the offer demand, in the order in which they are looked
// at.
func (s *search) demands(w *world) []demand {
	var out []demand
	all := func(r rules.Rule) {
		for _, atom := range r.Conditions() {
			out = append(out, s.condition(w, atom))
		}
	}
	all(s.offer.Eligible)
	if s.offer.HasOwned {
		out = append(out, s.not(w, s.offer.Owned, rules.True, rules.Unknown, rules.Failed))
	}
	all(s.offer.Prerequisite)
	all(s.target.Eligible)
	texts := []*catalog.Template{s.target.Content}
	if s.at.Staff {
		texts = append(texts, s.target.Script)
	}
	for _, t := range texts {
		if t.Computed() {
			out = append(out, demand{
				met: func() bool {
					if s.breathe(); s.stopped != nil {
						return false
					}
					s.rules.Reset(w.inputs())
					_, truth := t.Render(s.rules)
					return truth == rules.True
				},
				reads: []rules.Reads{t.Reads()}, text: "a text: " + t.String(),
			})
		}
	}
	return out
}

// fulfil proposes what fulfils the first demand that is not met.
func (s *search) fulfil(w *world, most int) [][]Change {
	demands := s.demands(w)
	for i := range demands {
		if !demands[i].met() {
			return s.meet(w, demands, i, most)
		}
	}
	return nil
}

// leaveHours proposes what frees the customer of contact hours that never come.
func (s *search) leaveHours(w *world, by string, most int) [][]Change {
	ch := &s.c.Channels[s.at.Channel]
	for i := range ch.ContactHours {
		if h := &ch.ContactHours[i]; h.ID == by && len(h.When.Conditions()) > 0 {
			return s.meet(w, []demand{s.not(w, h.When, rules.True)}, 0, most)
		}
	}
	return nil
}

// meet proposes changes that meet a demand, the others that read the same too if that can
// be: of one value or, where that does not do, of so many as are left.
func (s *search) meet(w *world, demands []demand, i, most int) [][]Change {
	d := &demands[i]
	places := s.placesOf(w, d)
	var out [][]Change
	for _, p := range places {
		strict := func() bool {
			for k := range demands {
				if (k == i || demands[k].readsPlace(p)) && !demands[k].met() {
					return false
				}
			}
			return true
		}
		found := s.values(w, p, demands, strict)
		if len(found) == 0 {
			found = s.values(w, p, demands, d.met)
		}
		for _, c := range found {
			out = append(out, []Change{c})
		}
	}
	for n := 2; n <= min(most, 3) && len(out) == 0; n++ {
		out = s.combine(w, places, demands, d, n, nil)
	}
	if len(out) == 0 {
		s.note("no value was found that fulfils %s, with %d of the changes left", d.text, most)
	}
	return out
}

// maxCombined bounds what is proposed of several values at once, and maxPlaces of how
// many places.
const (
	maxCombined = 8
	maxPlaces   = 8
	maxSeeds    = 12 // of a value that is one of several
)

// combine proposes n changes that meet a demand together, of places in order.
func (s *search) combine(w *world, places []subject, demands []demand, d *demand, n int, chosen []Change) [][]Change {
	var out [][]Change
	for i, p := range places[:min(len(places), maxPlaces)] {
		if p.kind == KindWait {
			continue
		}
		from := s.present(w, p)
		if n == 1 {
			for _, c := range s.values(w, p, demands, d.met) {
				out = append(out, append(slices.Clone(chosen), c))
			}
		} else {
			for _, v := range s.some(p, from, demands) {
				s.set(w, p, v)
				out = append(out, s.combine(w, places[i+1:], demands, d, n-1, append(slices.Clone(chosen), s.change(p, from, v, demands)))...)
				s.set(w, p, from)
				if len(out) >= maxCombined {
					break
				}
			}
		}
		if len(out) >= maxCombined {
			return out[:maxCombined]
		}
	}
	return out
}

// some returns values of a place to begin with, where one alone decides nothing.
func (s *search) some(p subject, from profilestore.Value, demands []demand) []profilestore.Value {
	kind, step := s.kindOf(p)
	x := s.seedsFor(p, demands)
	var out []profilestore.Value
	add := func(v profilestore.Value) {
		if v != from && len(out) < maxSeeds && !slices.Contains(out, v) {
			out = append(out, v)
		}
	}
	switch kind {
	case profilestore.KindFlag:
		add(profilestore.Flag(true))
		add(profilestore.Flag(false))
	case profilestore.KindSet:
		for _, v := range x.values {
			if v.Kind() == profilestore.KindText && profilestore.CheckElement(v.Text()) == nil {
				add(profilestore.Set(append(slices.Collect(from.Elements()), v.Text())...))
			}
		}
		add(profilestore.Set())
	case profilestore.KindNumber:
		if step == 0 {
			step = 1
		}
		for _, v := range append(x.values, profilestore.Number(0), profilestore.Number(1)) {
			if v.Kind() == kind {
				add(v)
				add(profilestore.Number(v.Number() + step))
				add(profilestore.Number(v.Number() - step))
			}
		}
	case profilestore.KindText, profilestore.KindTime:
		for _, v := range x.values {
			if v.Kind() == kind {
				add(v)
			}
		}
		if kind == profilestore.KindTime {
			add(profilestore.Time(x.now))
		} else {
			add(profilestore.Text(anythingElse))
		}
	case profilestore.KindUnknown:
	}
	return out
}

// placesOf returns what a demand reads: fields, context fields and the time.
func (s *search) placesOf(w *world, d *demand) []subject {
	var out []subject
	add := func(p subject) {
		if !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	for _, r := range d.reads {
		if w.in.Values != nil {
			for _, slot := range r.Slots {
				add(subject{KindField, slot})
			}
		}
		for _, i := range r.Context {
			add(subject{KindContext, i})
		}
		if r.Now {
			add(subject{kind: KindWait})
		}
	}
	return out
}

func (s *search) present(w *world, p subject) profilestore.Value {
	switch p.kind { //nolint:exhaustive // these are what conditions read
	case KindField:
		return w.in.Values[p.index]
	case KindContext:
		return w.in.Request.Context[p.index]
	}
	return profilestore.Time(w.in.Request.Now)
}

func (s *search) set(w *world, p subject, v profilestore.Value) {
	switch p.kind { //nolint:exhaustive // these are what conditions read
	case KindField:
		w.in.Values[p.index] = v
	case KindContext:
		w.in.Request.Context[p.index] = v
	case KindWait:
		w.in.Request.Now = v.Micros()
	}
}

// kindOf returns the kind of a place, and how far apart its numbers are.
func (s *search) kindOf(p subject) (kind profilestore.Kind, step float64) {
	switch p.kind { //nolint:exhaustive // these are what conditions read
	case KindField:
		f := &s.c.Schema.Fields()[p.index]
		if f.Type.Kind() == profilestore.KindNumber && f.Decimals != profilestore.NoDecimals {
			step = math.Pow10(-f.Decimals)
		}
		return f.Type.Kind(), step
	case KindContext:
		return s.c.Context[p.index].Kind, 0
	}
	return profilestore.KindTime, 0
}

// seedsFor returns the constants of all demands that read a place, what else they read,
// and for texts and sets what any rule holds it against.
func (s *search) seedsFor(p subject, demands []demand) *seeds {
	x := &seeds{now: s.q.Inputs.Request.Now}
	w := &world{s.q.Inputs}
	for i := range demands {
		d := &demands[i]
		if !d.readsPlace(p) {
			continue
		}
		for _, v := range d.also.Values {
			x.add(v)
		}
		for _, span := range d.also.Spans {
			if !slices.Contains(x.spans, span) {
				x.spans = append(x.spans, span)
			}
		}
		for _, other := range s.placesOf(w, d) {
			if other == p {
				continue
			}
			v := s.present(w, other)
			x.add(v)
			for e := range v.Elements() {
				x.add(profilestore.Text(e))
			}
		}
	}
	if kind, _ := s.kindOf(p); kind == profilestore.KindText || kind == profilestore.KindSet {
		for _, v := range s.constantsOf(p, profilestore.KindText) {
			x.add(v)
		}
	}
	return x
}

// constantsOf returns the constants of a kind that stand in any condition that reads a
// place.
func (s *search) constantsOf(p subject, kind profilestore.Kind) []profilestore.Value {
	if out, ok := s.texts[p]; ok {
		return out
	}
	var out []profilestore.Value
	for i := range s.c.Rules.Conditions() {
		r := s.c.Rules.Reads(i)
		d := demand{reads: []rules.Reads{r}}
		if !d.readsPlace(p) {
			continue
		}
		for _, v := range s.c.Rules.Constants(i).Values {
			if v.Kind() == kind && !slices.Contains(out, v) {
				out = append(out, v)
			}
		}
	}
	if s.texts == nil {
		s.texts = make(map[subject][]profilestore.Value)
	}
	s.texts[p] = out
	return out
}

// values returns changes of a place with which ok holds.
func (s *search) values(w *world, p subject, demands []demand, ok func() bool) []Change {
	from := s.present(w, p)
	defer s.set(w, p, from)
	kind, step := s.kindOf(p)
	x := s.seedsFor(p, demands)
	if p.kind == KindWait {
		t := x.later(from.Micros(), func(t int64) bool {
			s.set(w, p, profilestore.Time(t))
			return ok()
		})
		if t == 0 {
			return nil
		}
		return []Change{s.wait(from.Micros(), t)}
	}
	var out []Change
	for _, v := range x.nearest(kind, from, step, func(v profilestore.Value) bool {
		s.set(w, p, v)
		return ok()
	}) {
		out = append(out, s.change(p, from, v, demands))
	}
	return out
}

// change returns the change of a place to a value, with the constant that it is just
// beyond.
func (s *search) change(p subject, from, to profilestore.Value, demands []demand) Change {
	var c Change
	if p.kind == KindContext {
		c = Change{Kind: KindContext, Subject: s.c.Context[p.index].Name, From: from, To: to, index: p.index}
	} else {
		c = s.field(p.index, from, to)
	}
	switch to.Kind() {
	case profilestore.KindNumber:
		_, step := s.kindOf(p)
		for _, v := range s.seedsFor(p, demands).values {
			if b := v.Number(); v.Kind() == profilestore.KindNumber && b != to.Number() && beside(b, to.Number(), step) {
				c.Bound = v
			}
		}
	case profilestore.KindTime:
		for _, v := range s.seedsFor(p, demands).values {
			if d := to.Micros() - v.Micros(); v.Kind() == profilestore.KindTime && (d == 1 || d == -1) {
				c.Bound = v
			}
		}
	case profilestore.KindFlag, profilestore.KindText, profilestore.KindSet, profilestore.KindUnknown:
	}
	return c
}

// beside reports whether two numbers are neighbours.
func beside(a, b, step float64) bool {
	if step == 0 {
		return math.Nextafter(a, b) == b
	}
	return math.Abs(math.Abs(a-b)-step) < step/1e6
}

// difference returns the one element by which two sets differ, empty if it is not one.
func difference(a, b profilestore.Value) string {
	var out []string
	for e := range a.Elements() {
		if !b.Has(e) {
			out = append(out, e)
		}
	}
	for e := range b.Elements() {
		if !a.Has(e) {
			out = append(out, e)
		}
	}
	if len(out) == 1 {
		return out[0]
	}
	return ""
}

// field returns the change of a profile field.
func (s *search) field(slot int, from, to profilestore.Value) Change {
	c := Change{Kind: KindField, Subject: nameOf(s.c, slot), From: from, To: to, index: slot}
	if to.Kind() == profilestore.KindSet {
		c.Element = difference(from, to)
	}
	switch ch := &s.c.Channels[s.at.Channel]; slot {
	case ch.Consent:
		c.Kind = KindConsent
	case ch.DoNotDisturb:
		c.Kind = KindDoNotDisturb
	}
	return c
}
