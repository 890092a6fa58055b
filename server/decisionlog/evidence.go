package decisionlog

import (
	"rapport/server/catalog"
	"rapport/server/decide"
)

// maxMade bounds the catalogues for which a reading is made ready.
const maxMade = 4

// in returns the reading in terms of a catalogue. Records of a block share a reading, so
// it is made once for all of them. What the reading has and the catalogue does not learn
// is left out; of an offer that learns in this catalogue only, nothing is in it.
func (e *Evidence) in(c *catalog.Compiled) (*decide.Evidence, error) {
	if e == nil {
		return nil, nil //nolint:nilnil // there is no reading
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if x, ok := e.made[c]; ok {
		return x, nil
	}
	offers, channels := make(map[string]int), make(map[string]int)
	for i := range c.Offers {
		if c.Offers[i].Propensity.StartEvidence > 0 {
			offers[c.Offers[i].ID] = i
		}
	}
	for i := range c.Channels {
		channels[c.Channels[i].ID] = i
	}
	var counts []decide.EvidenceCount
	for _, x := range e.Counts {
		offer, learns := offers[x.Offer]
		if channel, ok := channels[x.Channel]; ok && learns {
			counts = append(counts, decide.EvidenceCount{Offer: offer, Channel: channel, Presented: x.Presented, Successes: x.Successes})
		}
	}
	made, err := decide.NewEvidence(c, e.Number, counts)
	if err != nil {
		return nil, err
	}
	if e.made == nil || len(e.made) >= maxMade {
		e.made = make(map[*catalog.Compiled]*decide.Evidence)
	}
	e.made[c] = made
	return made, nil
}

// unlearned returns the offers of answers from one catalogue that would be ranked by what
// was learned of them, and of which a decision from another could not say, since they did
// not learn there, or something else.
func unlearned(c, was *catalog.Compiled, in *Inputs, answers []decide.Answer) (ids []string) {
	learner := make(map[string]string) // the outcome by offer
	for i := range was.Offers {
		if p := &was.Offers[i].Propensity; p.StartEvidence > 0 {
			learner[was.Offers[i].ID] = p.Success
		}
	}
	seen := make(map[int]bool)
	for i := range answers {
		t := &c.Touchpoints[in.At[i].Touchpoint]
		for place, reason := range answers[i].Reasons {
			if !reason.Ranked() {
				continue
			}
			offer := c.Scenarios[t.Scenario].Candidates[t.Candidates[place]].Offer
			p := &c.Offers[offer].Propensity
			success, learnt := learner[c.Offers[offer].ID]
			if p.StartEvidence > 0 && !seen[offer] && (!learnt || success != p.Success) {
				seen[offer] = true
				ids = append(ids, c.Offers[offer].ID)
			}
		}
	}
	return ids
}
