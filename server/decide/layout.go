package decide

import "rapport/server/catalog"

// layout is what a decider works out of the candidates of a scenario before any decision.
// A decision looks at every candidate of a touchpoint, so what it looks at is kept short
// and side by side: an offer with its names, rules and attributes is 300 bytes, and to
// fetch one for each of 10,000 candidates took as long again as all else.
type layout struct {
	gates  []gates // of each candidate
	count  int     // of gates
	chance []chance
	terms  []terms
}

// chance is where the propensity of a candidate comes from.
type chance struct {
	start float64 // what stands where the field is unknown
	field int32   // in Decider.fields; −1: there is none
	// learned is its place in a reading of the evidence, −1 if the offer does not learn.
	learned int32
}

// terms are what else a candidate is ranked by.
type terms struct{ value, weight, lever float64 }

// lay makes the layouts of the scenarios.
func (d *Decider) lay() {
	fields := make(map[int]int32)
	for _, s := range d.catalog.Scenarios {
		l := layout{
			gates: make([]gates, len(s.Candidates)), chance: make([]chance, len(s.Candidates)), terms: make([]terms, len(s.Candidates)),
		}
		b := gateBuilder{known: make(map[string]int32)}
		for i := range s.Candidates {
			c := &s.Candidates[i]
			o := &d.catalog.Offers[c.Offer]
			l.gates[i] = b.add(o, c, d.closed(o, c.Channel))
			l.chance[i] = chance{o.Propensity.Start, d.field(o.Propensity.Slot, fields), -1}
			if o.Propensity.StartEvidence > 0 {
				l.chance[i].learned = int32(o.Propensity.Learner*len(d.catalog.Channels) + c.Channel)
			}
			l.terms[i] = terms{o.Value, c.Weight, o.Lever}
		}
		l.count = len(b.known)
		d.layouts = append(d.layouts, l)
	}
}

// field returns the place of a slot in Decider.fields, −1 if it is none.
func (d *Decider) field(slot int, known map[int]int32) int32 {
	if slot < 0 {
		return -1
	}
	i, ok := known[slot]
	if !ok {
		i = int32(len(d.fields))
		known[slot] = i
		d.fields = append(d.fields, slot)
	}
	return i
}

// gather fills the columns of the ranking for the candidates at s.places.
func (d *Decider) gather(s *scratch, t *catalog.Touchpoint, r *Request) {
	q, n := &s.ranking, len(s.places)
	q.Candidates, q.Propensity = grown(q.Candidates, n), grown(q.Propensity, n)
	q.Value, q.Weight, q.Lever = grown(q.Value, n), grown(q.Weight, n), grown(q.Lever, n)
	for i, place := range s.places {
		q.Candidates[i] = t.Candidates[place]
	}
	l := &d.layouts[t.Scenario]
	d.predict(s, l.chance, r.Evidence)
	pressure := d.pressure(t, r)
	value, weight, lever := q.Value, q.Weight, q.Lever
	for i, index := range q.Candidates {
		x := &l.terms[index]
		value[i] = x.value
		weight[i] = x.weight * pressure
		lever[i] = x.lever
	}
}

// pressure returns what the load of a touchpoint's channel multiplies weights by.
func (d *Decider) pressure(t *catalog.Touchpoint, r *Request) float64 {
	if ch := &d.catalog.Channels[t.Channel]; ch.HasPressure && t.Channel < len(r.Loads) && r.Loads[t.Channel] >= ch.PressureAbove {
		return ch.PressureWeight
	}
	return 1
}

// predict fills the column of probabilities that the customer accepts an offer, each at
// least 0 and at most 1 whatever the data says. A field is read once, however many
// offers have theirs from it: 10,000 times is 180 µs.
func (d *Decider) predict(s *scratch, chances []chance, e *Evidence) {
	var learned []float64
	if e != nil {
		learned = e.propensities
	}
	s.predicted = resize(s.predicted, len(d.fields))
	q := &s.ranking
	propensity, predicted := q.Propensity, s.predicted
	for i, index := range q.Candidates {
		x := &chances[index]
		p := x.start
		if uint(x.learned) < uint(len(learned)) {
			p = learned[x.learned]
		}
		if x.field >= 0 {
			f := &predicted[x.field]
			if !f.read {
				f.read = true
				if v := q.Profile.Get(d.fields[x.field]); v.Known() {
					f.known, f.value = true, min(max(v.Number(), 0), 1)
				}
			}
			if f.known {
				p = f.value
			}
		}
		propensity[i] = p
	}
}

// predicted is what a field says of the propensity of offers.
type predicted struct {
	read, known bool
	value       float64
}
