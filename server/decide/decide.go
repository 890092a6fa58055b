package decide

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"time"

	"rapport/profilestore"
	"rapport/profilestore/rules"
	"rapport/server/catalog"
)

// Decider decides from one compiled catalogue and the rankers of its scenarios.
// It is safe for concurrent use.
//
// The candidates of a touchpoint are laid out when the catalogue is compiled. A
// decision walks them once, through their gates: each distinct condition of the
// catalogue is evaluated at most once, and a candidate that falls keeps the
// reason in its byte. Those that remain are gathered in columns and ranked by
// one call. Then the best are taken for the slots: there are few slots and may
// be thousands of candidates, so they are kept in a short sorted list rather
// than sorting all. Work after eligibility is proportional to what survives it.
type Decider struct {
	catalog *catalog.Compiled
	rankers []Ranker
	layouts []layout // of the scenarios
	fields  []int    // the slots that propensities are read from
	free    chan *scratch
	zones   zones
	control uint64 // a hash of the control group's salt
}

// New returns a decider. rankers holds the ranker of each scenario of the
// catalogue, nil for the built-in arbitration.
func New(c *catalog.Compiled, rankers []Ranker) (*Decider, error) {
	if len(rankers) != len(c.Scenarios) {
		return nil, fmt.Errorf("decide: %d rankers for %d scenarios", len(rankers), len(c.Scenarios))
	}
	d := &Decider{catalog: c, rankers: slices.Clone(rankers), free: make(chan *scratch, 2*runtime.GOMAXPROCS(0))}
	d.lay()
	d.control = saltHash(c.Control.Salt)
	for i, r := range d.rankers {
		if r == nil {
			d.rankers[i] = Arbitration{}
		}
	}
	return d, nil
}

// Catalog returns the catalogue that the decider decides from.
func (d *Decider) Catalog() *catalog.Compiled { return d.catalog }

// scratch is the working memory of one decision.
type scratch struct {
	rules     *rules.Evaluation
	ranking   Ranking
	verdicts  []verdict   // by gate
	places    []int32     // of the ranked candidates in Touchpoint.Candidates
	predicted []predicted // by their place in Decider.fields
	best      []ranked
	contact   contactRules
	chosen    []int // offers on the slate

	content, script string // of the candidate that is placed next
}

// unknownProfile stands for a profile that could not be read.
type unknownProfile struct{}

func (unknownProfile) Get(int) profilestore.Value { return profilestore.Unknown() }

// Decide fills a with the answer to r. It has no error: what goes wrong is a
// step down, named in the answer.
func (d *Decider) Decide(ctx context.Context, r *Request, a *Answer) {
	s := d.acquire()
	defer d.release(s)
	t := &d.catalog.Touchpoints[r.Touchpoint]
	if !d.compete(ctx, s, t, r, a) {
		return
	}
	s.observe(r, 0)
	d.fill(s, t, r, a)
	a.finish()
	if len(a.Slate) == 0 {
		d.fallback(s, t, r, a)
	}
}

// compete empties the answer and ranks the candidates that may be offered. It reports
// false where there are none, because no scenario answers for the touchpoint.
func (d *Decider) compete(ctx context.Context, s *scratch, t *catalog.Touchpoint, r *Request, a *Answer) bool {
	*a = Answer{
		Slate:        a.Slate[:0],
		Reasons:      resize(a.Reasons, len(t.Candidates)),
		Degradations: a.Degradations[:0],
		Details:      a.Details[:0],
	}
	if t.Scenario < 0 {
		return false
	}
	if r.Profile == nil {
		a.Degradations = append(a.Degradations, Degradation{Step: StepProfileUnreadable})
	}
	if r.Unreserved != nil {
		a.Degradations = append(a.Degradations, Degradation{Step: StepNotReserved, Err: r.Unreserved})
	}
	d.qualify(s, t, r, a)
	d.rank(ctx, s, t, r, a)
	q := &s.ranking
	for i, veto := range q.Veto {
		a.Reasons[s.places[i]] = ReasonRankedBelow
		if veto {
			a.Reasons[s.places[i]] = ReasonVetoed
		}
	}
	return true
}

// observe shows what was ranked to who wants to see it.
func (s *scratch) observe(r *Request, at int) {
	if r.Observe != nil {
		r.Observe(at, &s.ranking, s.places)
	}
}

// finish counts the candidates by reason.
func (a *Answer) finish() {
	slices.SortFunc(a.Details, func(x, y Detail) int { return x.Place - y.Place })
	// Most reasons are those of their neighbours, and to add to one sum is to wait for the
	// last addition: in four sums 10,000 take 12 µs less.
	var sums [4][reasonCount]int32
	reasons := a.Reasons
	for ; len(reasons) >= 4; reasons = reasons[4:] {
		sums[0][reasons[0]]++
		sums[1][reasons[1]]++
		sums[2][reasons[2]]++
		sums[3][reasons[3]]++
	}
	for _, reason := range reasons {
		sums[0][reason]++
	}
	for reason := range a.Funnel {
		a.Funnel[reason] = int(sums[0][reason] + sums[1][reason] + sums[2][reason] + sums[3][reason])
	}
}

// qualify gives every candidate that may not be offered its reason and gathers
// the others in the columns of the ranking.
func (d *Decider) qualify(s *scratch, t *catalog.Touchpoint, r *Request, a *Answer) {
	profile := r.Profile
	if profile == nil {
		profile = unknownProfile{}
	}
	s.rules.Reset(r.Inputs())
	q := &s.ranking
	slots := t.Slots
	if r.Slots > 0 {
		slots = min(slots, r.Slots)
	}
	*q = Ranking{
		Now: r.Now, Seed: r.Seed, Profile: profile, Deadline: r.Deadline, Slots: slots, Fuel: r.Fuel, Dry: r.Dry,
		Context: r.Context, History: r.History,
		Candidates: q.Candidates, Propensity: q.Propensity, Value: q.Value, Weight: q.Weight, Lever: q.Lever,
		Score: q.Score, Reason: q.Reason, Veto: q.Veto, Chance: q.Chance[:0],
	}
	s.contact.reset(d, t, r, profile)
	d.sift(s, t, r, a)
	d.gather(s, t, r)
}

// closed reports whether an offer must not be made without a profile, or where contacts
// can't be reserved: whether the customer has opted out, or has been contacted often
// enough, can't be known then.
func (d *Decider) closed(o *catalog.Offer, channel int) bool {
	return d.catalog.Channels[channel].Outbound || o.Class != catalog.ClassService
}

// rank fills the outputs of the ranking, by the strategy if it can, else by the
// built-in arbitration.
func (d *Decider) rank(ctx context.Context, s *scratch, t *catalog.Touchpoint, r *Request, a *Answer) {
	q := &s.ranking
	n := len(q.Candidates)
	q.Score, q.Reason, q.Veto = resize(q.Score, n), resize(q.Reason, n), resize(q.Veto, n)
	ranker := r.Ranker
	if ranker == nil {
		ranker = d.rankers[t.Scenario]
	}
	if c, ok := ranker.(Chooser); ok {
		ranker = c.Choose(r.Customer)
	}
	a.RankedBy = ranker.Info()
	a.Strategy = a.RankedBy
	if a.RankedBy.Chances {
		q.Chance = resize(q.Chance, n)
	}
	if n == 0 {
		return
	}
	step, err := StepNoTimeToRank, error(nil)
	if r.Deadline.IsZero() || time.Until(r.Deadline) > 0 {
		err = ranker.Rank(ctx, q)
		a.FuelLimit, a.FuelUsed = q.FuelLimit, q.FuelUsed
		switch {
		case err == nil:
			return
		case errors.Is(err, ErrBusy):
			step = StepStrategyBusy
		case errors.Is(err, ErrSuspended):
			step = StepStrategySuspended
		case errors.Is(err, ErrNoTime):
			step = StepNoTimeToRank
		default:
			step = StepStrategyFailed
		}
	}
	a.Degradations = append(a.Degradations, Degradation{Step: step, Err: err})
	a.RankedBy = Arbitration{}.Info()
	q.Chance = q.Chance[:0]
	_ = Arbitration{}.Rank(ctx, q) // it never fails
}

// fallback answers with the scenario's fallback offer, unless that must not be made
// either: care is bound by contact rules, and without a profile by what is not known.
func (d *Decider) fallback(s *scratch, t *catalog.Touchpoint, r *Request, a *Answer) {
	c := t.Fallback
	if c == nil {
		return
	}
	o := &d.catalog.Offers[c.Offer]
	if (r.Profile == nil || r.Unreserved != nil) && d.closed(o, c.Channel) || s.contact.check(s, o, c) != ReasonNone {
		return
	}
	content, _ := c.Content.Render(nil) // nothing is computed
	a.Slate = append(a.Slate, Placement{
		Offer: c.Offer, Channel: c.Channel, Content: content,
		Propensity: r.Evidence.start(o, c.Channel), Value: o.Value, Weight: c.Weight, Lever: o.Lever,
		Probability: 1, Fallback: true,
	})
	a.Degradations = append(a.Degradations, Degradation{Step: StepFallback})
}

func (d *Decider) acquire() *scratch {
	select {
	case s := <-d.free:
		return s
	default:
		return &scratch{rules: d.catalog.Rules.NewEvaluation()}
	}
}

// release keeps the working memory for the next decision, without what it
// refers to.
func (d *Decider) release(s *scratch) {
	s.ranking.Profile, s.ranking.Context, s.ranking.History = nil, nil, profilestore.History{}
	s.contact.release()
	s.rules.Reset(rules.Inputs{})
	select {
	case d.free <- s:
	default:
	}
}

// grown returns a slice of n elements that are yet to be set, in the memory of s if it
// is large enough.
func grown[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n, n+n/2)
	}
	return s[:n]
}

// resize is grown with all elements zero.
func resize[T any](s []T, n int) []T {
	s = grown(s, n)
	clear(s)
	return s
}
