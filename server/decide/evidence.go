package decide

import (
	"cmp"
	"fmt"
	"slices"

	"rapport/server/catalog"
)

// Evidence is a reading of what came of offers: for each that learns its propensity,
// and each channel, how often it was presented and with how many successes, over all
// customers. A decision is given one reading, which is immutable, so it is a function
// of its inputs although others are being reported meanwhile.
//
// What a decision looks up is computed when the reading is made, and laid out by the
// offer's Propensity.Learner and the channel: a lookup costs a multiplication and a load,
// and there are few readings and many lookups. Offers that don't learn have no place in
// it.
type Evidence struct {
	// Number identifies the reading among those for the same catalogue: the same number,
	// the same counts. A later one has a greater number.
	Number uint64

	// Counts are those that are not zero, ascending by offer, then by channel. With
	// Number they are all there is to write down of a reading. Do not modify.
	Counts []EvidenceCount

	channels     int
	propensities []float64
}

// EvidenceCount is what came of an offer in a channel, by their places in
// Compiled.Offers and Compiled.Channels.
type EvidenceCount struct {
	Offer, Channel       int
	Presented, Successes uint64
}

func (x EvidenceCount) compare(y EvidenceCount) int {
	return cmp.Or(cmp.Compare(x.Offer, y.Offer), cmp.Compare(x.Channel, y.Channel))
}

// NewEvidence returns the reading with a number and counts for a catalogue, in any order.
// It is an error if a place is not in the catalogue, an offer does not learn, or
// something is counted twice.
func NewEvidence(c *catalog.Compiled, number uint64, counts []EvidenceCount) (*Evidence, error) {
	e := &Evidence{Number: number, channels: len(c.Channels), propensities: make([]float64, c.Learners()*len(c.Channels))}
	for i := range c.Offers {
		if p := &c.Offers[i].Propensity; p.StartEvidence > 0 {
			for ch := range c.Channels {
				e.propensities[p.Learner*e.channels+ch] = p.Start
			}
		}
	}
	e.Counts = slices.Clone(counts)
	slices.SortFunc(e.Counts, EvidenceCount.compare)
	for i, x := range e.Counts {
		switch {
		case x.Offer < 0 || x.Offer >= len(c.Offers) || x.Channel < 0 || x.Channel >= len(c.Channels):
			return nil, fmt.Errorf("decide: evidence of offer %d in channel %d, of %d and %d", x.Offer, x.Channel, len(c.Offers), len(c.Channels))
		case c.Offers[x.Offer].Propensity.StartEvidence <= 0:
			return nil, fmt.Errorf("decide: evidence of offer %s, which does not learn", c.Offers[x.Offer].ID)
		case i > 0 && e.Counts[i-1].compare(x) == 0:
			return nil, fmt.Errorf("decide: evidence of offer %s in channel %s is there twice", c.Offers[x.Offer].ID, c.Channels[x.Channel].ID)
		}
		p := &c.Offers[x.Offer].Propensity
		e.propensities[p.Learner*e.channels+x.Channel] = p.Learned(x.Presented, x.Successes)
	}
	e.Counts = slices.DeleteFunc(e.Counts, func(x EvidenceCount) bool { return x.Presented == 0 && x.Successes == 0 })
	return e, nil
}

// start returns the propensity of an offer where no field says it: what was learned, or
// the constant.
func (e *Evidence) start(o *catalog.Offer, channel int) float64 {
	if o.Propensity.StartEvidence <= 0 || e == nil || len(e.propensities) == 0 {
		return o.Propensity.Start
	}
	return e.propensities[o.Propensity.Learner*e.channels+channel]
}

// Count returns what came of an offer in a channel; zeros where nothing did, or e is nil.
func (e *Evidence) Count(offer, channel int) EvidenceCount {
	x := EvidenceCount{Offer: offer, Channel: channel}
	if e == nil {
		return x
	}
	if i, ok := slices.BinarySearchFunc(e.Counts, x, EvidenceCount.compare); ok {
		return e.Counts[i]
	}
	return x
}

// Learns reports whether the propensity of an offer is learned for a customer: it is
// not the value of a field.
func (r *Request) Learns(o *catalog.Offer) bool {
	if o.Propensity.StartEvidence <= 0 {
		return false
	}
	return o.Propensity.Slot < 0 || r.Profile == nil || !r.Profile.Get(o.Propensity.Slot).Known()
}
