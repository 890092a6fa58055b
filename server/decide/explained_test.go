package decide_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"rapport/profilestore"
	"rapport/profilestore/rules"
	"rapport/server/catalog"
	"rapport/server/decide"
	"rapport/server/decisionlog"
	"rapport/server/explain"
)

// explained makes random decisions explainable. It implements decisionlog.Sources.
type explained struct {
	d       *decide.Decider
	rankers map[string]decide.Ranker // by scenario
}

func (e explained) Decider(context.Context, int64, string) (*decide.Decider, error) { return e.d, nil }

func (explained) Tables(context.Context, *catalog.Compiled, []decisionlog.Version) (rules.TableSet, error) {
	return nil, nil //nolint:nilnil // there are none
}

func (e explained) Ranker(_ context.Context, _ *catalog.Compiled, s *catalog.Scenario, _ decisionlog.Ranker) (decide.Ranker, func(), error) {
	if r, ok := e.rankers[s.ID]; ok {
		return r, func() {}, nil
	}
	return decide.Arbitration{}, func() {}, nil
}

// askedPlaces remember what was asked for, as the log does.
type askedPlaces struct {
	*places
	asked []decisionlog.PlaceAsked
}

func (p *askedPlaces) Take(capacity, offer, channel int) bool {
	ok := p.places.Take(capacity, offer, channel)
	p.asked = append(p.asked, decisionlog.PlaceAsked{
		Capacity: p.catalog.Capacities[capacity].ID, Offer: p.catalog.Offers[offer].ID, Channel: p.catalog.Channels[channel].ID, Taken: ok,
	})
	return ok
}

// TestExplanations explains random decisions, and holds each explanation against what it
// says: the reason is that of the record, and what it names is so.
func TestExplanations(t *testing.T) {
	g := newRig(t)
	reasons, parts := make(map[decide.Reason]int), make(map[string]int)
	rapid.Check(t, func(t *rapid.T) {
		m := drawModel(t)
		d := g.compile(t, m)
		e := explained{d: d, rankers: make(map[string]decide.Ranker)}
		for i := range m.scenarios {
			if m.scenarios[i].vetoes {
				e.rankers[m.scenarios[i].id] = vetoing{}
			}
		}
		view, history := g.meet(t, m)
		for range 4 {
			r := g.drawRequest(t, m, view)
			ats, many, one := drawAts(t, m)
			left := make([]int, len(m.capacities))
			for i := range left {
				left[i] = rapid.IntRange(0, 2).Draw(t, "left")
			}
			if chance(t, "unreserved", 12) {
				r.Unreserved = errors.New("the ledger's disk is full")
				clear(left)
			}
			taking := &askedPlaces{places: newPlaces(d.Catalog(), left)}
			r.Places = taking
			answers := make([]decide.Answer, len(ats))
			if many {
				d.DecideMany(context.Background(), r, ats, one, answers)
			} else {
				r.At = ats[0]
				d.Decide(context.Background(), r, &answers[0])
			}
			record := new(decisionlog.Record)
			kept := decisionlog.Decision{
				View: view, Catalog: d.Catalog(), Reads: decisionlog.NewReads(d.Catalog(), slices.Repeat([]bool{true}, len(modelFields))),
				Request: r, Met: true, Many: many, One: one, At: ats, Answers: answers, Places: taking.asked,
				Detail: func(int, decide.Degradation) string { return "" },
			}
			kept.Record(record)
			x, err := explain.Explain(context.Background(), decisionlog.Replayer{Sources: e}, record)
			if err != nil {
				t.Fatal(err)
			}
			if !x.Verified() {
				t.Fatalf("not verified: %q %q\n%s", x.Inexact, x.Differences, m.yaml())
			}
			c := &checked{t: t, m: m, c: d.Catalog(), r: r, history: history, x: x, parts: parts}
			c.rules = d.Catalog().Rules.Interpreted().NewEvaluation()
			c.rules.Reset(r.Inputs())
			for i := range x.At {
				c.touchpoint(i, &d.Catalog().Touchpoints[ats[i].Touchpoint])
				for place := range x.At[i].All {
					reasons[x.At[i].All[place].Reason]++
				}
			}
		}
	})
	t.Logf("candidates by reason: %v", reasons)
	t.Logf("what removed them: %v", parts)
	for r := decide.ReasonOffered; r <= decide.ReasonNotReserved; r++ {
		if reasons[r] == 0 {
			t.Errorf("%s never occurred", r)
		}
	}
	must := []string{"eligible false", "eligible unknown", "eligible failed", "owned true", "prerequisite false", "counted", "counted for a rest", "counted pending", "rank"}
	if *eachReason > 1 { // these are rare
		must = append(must, "owned unknown", "owned failed", "prerequisite unknown", "eligible in the channel false", "content unknown", "content failed", "script unknown", "script failed")
	}
	for _, what := range must {
		if parts[what] == 0 {
			t.Errorf("never: %s", what)
		}
	}
}

// checked is an explanation that is held against the catalogue, the customer and the
// history.
type checked struct {
	t       *rapid.T
	m       *model
	c       *catalog.Compiled
	r       *decide.Request
	history []profilestore.Interaction
	x       *explain.Explanation
	rules   *rules.Evaluation // without compiled code
	parts   map[string]int
}

func (c *checked) touchpoint(i int, at *catalog.Touchpoint) {
	t := &c.x.At[i]
	if at.Scenario < 0 {
		return
	}
	if len(t.All) != len(at.Candidates) {
		c.t.Fatalf("%d candidates are explained of %d", len(t.All), len(at.Candidates))
	}
	total := 0
	for _, n := range t.Counts {
		total += n.Candidates
	}
	if total != len(t.All) || t.Candidates != total || t.Eligible > total || t.Allowed > t.Eligible || t.Ranked > t.Allowed || t.Offered > t.Ranked {
		c.t.Fatalf("a funnel of %+v", t)
	}
	var ranks []int
	for place := range t.All {
		x := &t.All[place]
		candidate := &c.c.Scenarios[at.Scenario].Candidates[at.Candidates[place]]
		if x.Reason != t.Record.Reasons[place] || x.Offer != &c.c.Offers[candidate.Offer] {
			c.t.Fatalf("place %d is explained as %s of %s", place, x.Reason, x.Offer.ID)
		}
		if s := x.Score; s != nil && s.Rank > 0 {
			ranks = append(ranks, s.Rank)
		}
		if x.Reason == decide.ReasonOffered {
			k := slices.IndexFunc(t.Record.Slate, func(p decisionlog.Placement) bool { return p.Offer == x.Offer.ID })
			if x.Why != nil || x.Score == nil || k < 0 || x.Score.Score != t.Record.Slate[k].Score {
				c.t.Fatalf("%s is on the slate and has the cause %+v, the score %+v", x.Offer.ID, x.Why, x.Score)
			}
			continue
		}
		c.cause(at, x, candidate)
	}
	slices.Sort(ranks)
	for i, rank := range ranks {
		if rank != i+1 {
			c.t.Fatalf("ranks %v", ranks)
		}
	}
}

// cause checks why a candidate was removed.
func (c *checked) cause(at *catalog.Touchpoint, x *explain.Candidate, candidate *catalog.Candidate) {
	why := x.Why
	if why == nil || why.Reason != x.Reason {
		c.t.Fatalf("%s: the cause of %s is %+v", x.Offer.ID, x.Reason, why)
	}
	words := why.Words(explain.Plain)
	if words == "" || strings.Contains(words, "%!") {
		c.t.Fatalf("%s: %s because %q", x.Offer.ID, x.Reason, words)
	}
	for _, read := range why.Reads {
		c.read(&read, words)
	}
	switch x.Reason { //nolint:exhaustive // of the others the words are all
	case decide.ReasonNotEligible, decide.ReasonUnknown, decide.ReasonRuleError, decide.ReasonOwned, decide.ReasonPrerequisite:
		c.rule(at, x, candidate)
	case decide.ReasonCapped:
		c.counted(at, x, candidate)
	case decide.ReasonRankedBelow:
		c.parts["rank"]++
		if x.Score == nil || !strings.Contains(words, fmt.Sprintf("rank %d of %d", x.Score.Rank, x.Score.Of)) {
			c.t.Fatalf("%s: %+v, %s", x.Offer.ID, x.Score, words)
		}
	case decide.ReasonVetoed:
		if x.Score == nil || x.Score.Rank != 0 || x.Score.Reason != "BECAUSE" || !strings.Contains(words, "vetoing 1: its reason: BECAUSE") {
			c.t.Fatalf("%s: %+v, %s", x.Offer.ID, x.Score, words)
		}
	case decide.ReasonBelowMinimum:
		if x.Score == nil || x.Score.Score >= c.c.Scenarios[at.Scenario].MinimumScore {
			c.t.Fatalf("%s: %+v, %s", x.Offer.ID, x.Score, words)
		}
	}
}

// read checks that a value is the customer's.
func (c *checked) read(read *explain.Read, words string) {
	if strings.HasPrefix(read.Name, "table.") {
		return // see what decision tables give in package rules
	}
	var want profilestore.Value
	if slot, ok := c.c.Schema.Lookup(strings.Join(read.Fields, "")); ok && c.r.Profile != nil {
		want = c.r.Profile.Get(slot)
	}
	if read.Value != want || want.Known() != (read.Missing == "") {
		c.t.Fatalf("%s is %s (%s), want %s: %s", read.Name, read.Value, read.Missing, want, words)
	}
}

// rule checks that what is named is the first that is so, by the table without its
// compiled code.
func (c *checked) rule(at *catalog.Touchpoint, x *explain.Candidate, candidate *catalog.Candidate) {
	want := map[decide.Reason]rules.Truth{decide.ReasonUnknown: rules.Unknown, decide.ReasonRuleError: rules.Failed, decide.ReasonOwned: rules.True}[x.Reason]
	why := x.Why
	if why.Truth != want {
		c.t.Fatalf("%s: %s, and the cause is %s", x.Offer.ID, x.Reason, why.Truth)
	}
	c.parts[fmt.Sprintf("%s %s", why.Part, why.Truth)]++
	for _, before := range []struct {
		part   explain.Part
		rule   rules.Rule
		passes rules.Truth
		has    bool
	}{
		{explain.PartEligible, x.Offer.Eligible, rules.True, true},
		{explain.PartOwned, x.Offer.Owned, rules.False, x.Offer.HasOwned},
		{explain.PartPrerequisite, x.Offer.Prerequisite, rules.True, true},
		{explain.PartTreatment, candidate.Eligible, rules.True, true},
	} {
		if !before.has {
			continue
		}
		truth := c.rules.Evaluate(before.rule)
		if before.part != why.Part {
			if truth != before.passes {
				c.t.Fatalf("%s: %s is said to be the first, and %s is %s", x.Offer.ID, why.Part, before.part, truth)
			}
			continue
		}
		if truth != want {
			c.t.Fatalf("%s: %s is %s", x.Offer.ID, why.Part, truth)
		}
		if want != rules.True {
			c.condition(x, before.rule, want)
		}
		return
	}
	text := candidate.Content
	if why.Part == explain.PartScript {
		text = candidate.Script
	}
	if _, truth := text.Render(c.rules); truth != want || why.Text != text.String() || why.Part == explain.PartScript && !at.Staff {
		c.t.Fatalf("%s: %s %q is %s", x.Offer.ID, why.Part, why.Text, truth)
	}
}

// condition checks that a condition is the first of its rule that decides.
func (c *checked) condition(x *explain.Candidate, r rules.Rule, want rules.Truth) {
	for _, i := range r.Conditions() {
		truth := c.rules.Evaluate(c.c.Rules.Alone(int(i)))
		if int(i) == x.Why.Condition {
			if truth != want || x.Why.Text != c.c.Rules.Condition(int(i)) {
				c.t.Fatalf("%s: condition %s is %s, not %s", x.Offer.ID, x.Why.Text, truth, want)
			}
			return
		}
		if truth == want {
			c.t.Fatalf("%s: %s comes before %s", x.Offer.ID, c.c.Rules.Condition(int(i)), x.Why.Text)
		}
	}
	c.t.Fatalf("%s: condition %d is not of its rule", x.Offer.ID, x.Why.Condition)
}

// counted checks what a policy counted against the history as it was drawn.
func (c *checked) counted(at *catalog.Touchpoint, x *explain.Candidate, candidate *catalog.Candidate) {
	why := x.Why
	p := why.Policy
	if p == nil || p.ID != why.By {
		c.t.Fatalf("%s: capped by %s, explained by %+v", x.Offer.ID, why.By, p)
	}
	matches := func(channel, touchpoint string, items []profilestore.Item) bool {
		if p.Channels != nil && !slices.Contains(p.Channels, channel) || p.Touchpoints != nil && !slices.Contains(p.Touchpoints, touchpoint) {
			return false
		}
		if p.Per == catalog.PerChannel && channel != c.c.Channels[candidate.Channel].ID || p.Per == catalog.PerTouchpoint && touchpoint != at.ID {
			return false
		}
		return slices.ContainsFunc(items, func(i profilestore.Item) bool {
			return in(p.Offers, i.Offer) && in(p.Groups, i.Group) && in(p.Classes, i.Class) &&
				(p.Per != catalog.PerOffer || i.Offer == x.Offer.ID) && (p.Per != catalog.PerGroup || i.Group == x.Offer.Group) &&
				(p.Per != catalog.PerClass || i.Class == x.Offer.Class.String())
		})
	}
	happened, pending := make(map[int64]int), make(map[int64]int)
	for _, h := range c.history {
		if h.Time <= c.r.Now && (h.Outcome == p.Count || h.Outcome == "" && p.Count == catalog.CountContacts) && matches(h.Channel, h.Touchpoint, h.Items) {
			happened[h.Time]++
		}
	}
	for _, h := range c.r.Pending {
		if p.Count == catalog.CountContacts && matches(h.Channel, h.Touchpoint, h.Items) {
			pending[h.Time]++
		}
	}
	if want := c.tooMuch(p, happened, pending); want >= 0 && want != len(why.Counted) {
		c.t.Fatalf("%s: %d are counted of %d: %+v", x.Offer.ID, len(why.Counted), want, why.Counted)
	}
	for k, n := range why.Counted {
		of := happened
		if n.Pending {
			of = pending
			c.parts["counted pending"]++
		}
		if of[n.Time]--; of[n.Time] < 0 || n.Time > c.r.Now || k > 0 && n.Time > why.Counted[k-1].Time {
			c.t.Fatalf("%s: %s is not among what %s counts: %+v", x.Offer.ID, rfc3339(n.Time), p.ID, why.Counted)
		}
	}
	c.parts["counted"]++
	if len(why.Counted) < p.Max { // the same decision makes the others, now
		if len(c.x.At) < 2 {
			c.t.Fatalf("%s: %d counted of %d", x.Offer.ID, len(why.Counted), p.Max)
		}
		return
	}
	ends := why.Counted[p.Max-1].Time + p.Within
	if p.Suppress > 0 {
		c.parts["counted for a rest"]++
		ends = why.Counted[0].Time + p.Suppress
	}
	if ends != why.Until && len(c.x.At) < 2 {
		c.t.Fatalf("%s: until %s, and what is counted ends at %s", x.Offer.ID, rfc3339(why.Until), rfc3339(ends))
	}
}

// tooMuch returns how many of the times, with how often each is there, make it too much
// under a policy; −1 where the decision's own contacts do.
func (c *checked) tooMuch(p *catalog.Policy, all ...map[int64]int) int {
	var times []int64
	for _, m := range all {
		for at, n := range m {
			times = append(times, slices.Repeat([]int64{at}, n)...)
		}
	}
	slices.Sort(times)
	slices.Reverse(times)
	if p.Suppress == 0 {
		return len(slices.DeleteFunc(times, func(at int64) bool { return at <= c.r.Now-p.Within }))
	}
	for i := 0; i+p.Max <= len(times); i++ {
		if run := times[i : i+p.Max]; min(run[p.Max-1], c.r.Now) > min(run[0], c.r.Now)-p.Within && run[0]+p.Suppress > c.r.Now {
			return p.Max
		}
	}
	return -1
}

// gone are sources that do not have everything any more.
type gone struct {
	explained
	catalog, ranker bool // is gone
}

func (g gone) Decider(ctx context.Context, version int64, schema string) (*decide.Decider, error) {
	if g.catalog {
		return nil, errors.New("the schema is not kept any more")
	}
	return g.explained.Decider(ctx, version, schema)
}

func (g gone) Ranker(ctx context.Context, c *catalog.Compiled, s *catalog.Scenario, r decisionlog.Ranker) (decide.Ranker, func(), error) {
	if g.ranker {
		return nil, nil, errors.New("the module is not kept any more")
	}
	return g.explained.Ranker(ctx, c, s, r)
}

// What can't be made again exactly is explained by what was recorded, and nothing else.
func TestExplainInexact(t *testing.T) {
	g := newRig(t)
	seen := make(map[string]int)
	rapid.Check(t, func(t *rapid.T) {
		m := drawModel(t)
		d := g.compile(t, m)
		view, _ := g.meet(t, m)
		r := g.drawRequest(t, m, view)
		ats, many, one := drawAts(t, m)
		answers := make([]decide.Answer, len(ats))
		if many {
			d.DecideMany(context.Background(), r, ats, one, answers)
		} else {
			r.At = ats[0]
			d.Decide(context.Background(), r, &answers[0])
		}
		record := new(decisionlog.Record)
		kept := decisionlog.Decision{
			View: view, Catalog: d.Catalog(), Reads: decisionlog.NewReads(d.Catalog(), slices.Repeat([]bool{true}, len(modelFields))),
			Request: r, Met: true, Many: many, One: one, At: ats, Answers: answers,
			Detail: func(int, decide.Degradation) string { return "" },
		}
		kept.Record(record)
		sources := gone{explained: explained{d: d}}
		how := rapid.SampledFrom([]string{"catalog", "ranker", "pipeline", "differs"}).Draw(t, "how")
		switch how {
		case "catalog":
			sources.catalog = true
		case "ranker":
			sources.ranker = true
		case "pipeline":
			record.Pipeline++
		case "differs":
			record.At[0].FuelUsed++
		}
		x, err := explain.Explain(context.Background(), decisionlog.Replayer{Sources: sources}, record)
		if err != nil {
			t.Fatal(err)
		}
		if how == "ranker" && !slices.ContainsFunc(x.At, func(t explain.Touchpoint) bool { return t.Record.Scenario != "" }) {
			return // nobody was to rank
		}
		if x.Verified() || (x.Inexact == "") == (len(x.Differences) == 0) || (x.Catalog == nil) != sources.catalog {
			t.Fatalf("%s: inexact %q, differences %q, catalogue %v", how, x.Inexact, x.Differences, x.Catalog)
		}
		seen[how]++
		for i := range x.At {
			n := 0
			for _, c := range x.At[i].Counts {
				n += c.Candidates
			}
			if n != len(record.At[i].Reasons) || sources.catalog && x.At[i].All != nil {
				t.Fatalf("%s: %d candidates are counted of %d", how, n, len(record.At[i].Reasons))
			}
			for place := range x.At[i].All {
				c := &x.At[i].All[place]
				if c.Score != nil || c.Reason != record.At[i].Reasons[place] || (c.Why == nil) != (c.Reason == decide.ReasonOffered) {
					t.Fatalf("%s: %+v", how, c)
				}
				if c.Why == nil {
					continue
				}
				if c.Why.Part != explain.PartNone || c.Why.Reads != nil || c.Why.Policy != nil {
					t.Fatalf("%s: %s says more than was recorded: %+v", how, c.Reason, c.Why)
				}
				if words := c.Why.Words(explain.Plain); strings.Contains(words, "%!") || c.Why.By != "" && !strings.Contains(words, c.Why.By) {
					t.Fatalf("%s: %s by %s in words: %q", how, c.Reason, c.Why.By, words)
				}
			}
		}
	})
	t.Logf("%v", seen)
	for _, how := range []string{"catalog", "ranker", "pipeline", "differs"} {
		if seen[how] == 0 {
			t.Errorf("never: %s", how)
		}
	}
}
