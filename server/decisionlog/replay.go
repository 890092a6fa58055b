package decisionlog

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"rapport/profilestore/rules"
	"rapport/server/catalog"
	"rapport/server/decide"
)

// Sources have what decisions were made with. They are safe for concurrent use.
type Sources interface {
	// Decider returns what decides from a version of the catalogue, compiled under a
	// schema. Its rankers are not asked.
	Decider(ctx context.Context, version int64, schema string) (*decide.Decider, error)

	// Tables returns versions of the reference tables that the schema of a catalogue
	// declares; one that is not among them is empty.
	Tables(ctx context.Context, c *catalog.Compiled, versions []Version) (rules.TableSet, error)

	// Ranker returns a version of a strategy, bound to a scenario. An empty digest stands
	// for whichever module the name and version mean now, an empty version for the one
	// that is live. What it returns must not be used after release is called.
	Ranker(ctx context.Context, c *catalog.Compiled, s *catalog.Scenario, r Ranker) (_ decide.Ranker, release func(), err error)
}

// Replayer makes decisions again. It is safe for concurrent use.
type Replayer struct{ Sources Sources }

// With is what a replay does otherwise than the decision did. The zero With changes
// nothing.
type With struct {
	Catalog   int64                                           // a version of the catalogue; 0: that of the decision
	Strategy  Ranker                                          // ranks in the place of the strategy of this name; empty: none does
	InsteadOf string                                          // it ranks in the place of this one; empty: of that of its name
	Change    func(*Inputs)                                   // changes the inputs; nil: they stay as they are
	Observe   func(at int, q *decide.Ranking, places []int32) // see decide.Request
}

// Replay is a decision that was made again.
type Replay struct {
	Decider *decide.Decider
	Inputs  *Inputs
	Answers []decide.Answer
	At      []Touchpoint // the answers, as the log would keep them

	// Missing is what was needed and is not in the record, in words: with any of it the
	// answers are not to be relied on.
	Missing []string
}

// InexactError means that a decision can't be made again as it was.
type InexactError struct{ Why string }

func (e *InexactError) Error() string { return "it can't be replayed exactly: " + e.Why }

func inexact(format string, args ...any) error {
	return &InexactError{fmt.Sprintf(format, args...)}
}

// Replay makes a decision again. An error is an [*InexactError], unless ctx has ended.
func (p Replayer) Replay(ctx context.Context, r *Record, w With) (*Replay, error) {
	d, in, release, err := p.Prepare(ctx, r, w)
	if err != nil {
		return nil, err
	}
	defer release()
	out := &Replay{Decider: d, Inputs: in}
	out.Answers, out.Missing = in.Decide(ctx, d)
	if w.Catalog != 0 && w.Catalog != r.Catalog {
		was, err := p.Sources.Decider(ctx, r.Catalog, r.Schema)
		if err != nil {
			return nil, inexact("%v", err)
		}
		for _, id := range unlearned(d.Catalog(), was.Catalog(), in, out.Answers) {
			out.Missing = append(out.Missing, "what was learned of offer "+id)
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	for i := range out.Answers {
		out.At = append(out.At, touchpointOf(d.Catalog(), in.At[i], &out.Answers[i], func(x decide.Degradation) string {
			if x.Err != nil {
				return x.Err.Error()
			}
			return ""
		}))
	}
	return out, nil
}

// Prepare puts a decision before the pipeline again, without deciding yet: who asks for
// many what-ifs decides from many clones of the inputs. The inputs say who ranks, until
// release is called. An error is an [*InexactError].
func (p Replayer) Prepare(ctx context.Context, r *Record, w With) (_ *decide.Decider, _ *Inputs, release func(), err error) {
	if r.Pipeline != Pipeline {
		return nil, nil, nil, inexact("it was decided by version %d of the pipeline, this is version %d", r.Pipeline, Pipeline)
	}
	version := r.Catalog
	if w.Catalog != 0 {
		version = w.Catalog
	}
	d, err := p.Sources.Decider(ctx, version, r.Schema)
	if err != nil {
		return nil, nil, nil, inexact("%v", err)
	}
	in, err := r.Inputs(d.Catalog())
	if err != nil {
		return nil, nil, nil, inexact("%v", err)
	}
	if in.Request.Tables, err = p.Sources.Tables(ctx, d.Catalog(), r.Tables); err != nil {
		return nil, nil, nil, inexact("%v", err)
	}
	in.Request.Observe = w.Observe
	if w.Change != nil {
		w.Change(in)
	}
	var releases []func()
	release = func() {
		for _, f := range releases {
			f()
		}
	}
	for i := range in.At {
		done, err := p.chooseRanker(ctx, in, i, &r.At[i], &w)
		if err != nil {
			release()
			return nil, nil, nil, inexact("%v", err)
		}
		releases = append(releases, done)
	}
	return d, in, release, nil
}

// chooseRanker says who ranks at a touchpoint of a replay: who did then, or failed to,
// unless something else is asked for.
func (p Replayer) chooseRanker(ctx context.Context, in *Inputs, i int, then *Touchpoint, w *With) (release func(), err error) {
	none := func() {}
	c, at := in.Catalog, &in.At[i]
	n := c.Touchpoints[at.Touchpoint].Scenario
	if n < 0 {
		return none, nil
	}
	scenario := c.Scenarios[n]
	names := rankerOf(new(decide.Arbitration{}.Info()))
	if scenario.Strategy != nil {
		names = Ranker{Name: scenario.Strategy.Name, Version: scenario.Strategy.Version}
	}
	who := then.Strategy
	switch {
	case w.Strategy.Name != "" && names.Name == cmp.Or(w.InsteadOf, w.Strategy.Name):
		who, at.Fuel = w.Strategy, 0
	case names.Name != who.Name: // another catalogue names another
		who, at.Fuel = names, 0
	default:
		if a, ok := then.absent(); ok {
			at.Ranker, at.Fuel = a, 0
			return none, nil
		}
	}
	at.Ranker, release, err = p.Sources.Ranker(ctx, c, scenario, who)
	if err != nil {
		return nil, err
	}
	return release, nil
}

// absent returns who was to rank and was not called: what the moment was to blame for
// happens again in a replay. False: the strategy was called.
func (t *Touchpoint) absent() (a absent, ok bool) {
	a.who = t.Strategy
	for _, d := range t.Degradations {
		switch d.Step { //nolint:exhaustive // the others are not about ranking
		case decide.StepStrategyBusy:
			a.why = decide.ErrBusy
		case decide.StepStrategySuspended:
			a.why = decide.ErrSuspended
		case decide.StepNoTimeToRank:
			a.why = decide.ErrNoTime
		case decide.StepStrategyFailed:
			if t.Strategy.Digest == "" { // there was no module that could fail
				a.why = errors.New(d.Detail)
			}
		}
	}
	return a, a.why != nil
}

// absent is a ranker that was not called.
type absent struct {
	who Ranker
	why error
}

// Rank fails as it did.
func (a absent) Rank(context.Context, *decide.Ranking) error { return a.why }

// Info says who did not rank.
func (a absent) Info() decide.RankerInfo {
	return decide.RankerInfo{Name: a.who.Name, Version: a.who.Version, Digest: a.who.Digest}
}

// Differences says, in words, where a replay differs from the record, by touchpoint; nil
// if every bit of the answer is the same.
func (r *Record) Differences(p *Replay) []string {
	var out []string
	for i := range r.At {
		was, is := &r.At[i], &p.At[i]
		add := func(format string, args ...any) {
			out = append(out, was.ID+": "+fmt.Sprintf(format, args...))
		}
		if was.Scenario != is.Scenario {
			add("scenario %q was %q", is.Scenario, was.Scenario)
		}
		if was.RankedBy != is.RankedBy || was.Strategy != is.Strategy {
			add("ranked by %s for %s, was by %s for %s", is.RankedBy, is.Strategy, was.RankedBy, was.Strategy)
		}
		if was.FuelLimit != is.FuelLimit || was.FuelUsed != is.FuelUsed {
			add("fuel %d of %d, was %d of %d", is.FuelUsed, is.FuelLimit, was.FuelUsed, was.FuelLimit)
		}
		if !slices.EqualFunc(was.Degradations, is.Degradations, func(a, b Degradation) bool { return a.Step == b.Step }) {
			add("steps down %v, were %v", is.Degradations, was.Degradations)
		}
		if !slices.Equal(was.Reasons, is.Reasons) {
			add("%s", reasonDifference(was.Reasons, is.Reasons))
		}
		if !slices.Equal(was.Details, is.Details) {
			add("details %v, were %v", is.Details, was.Details)
		}
		if len(was.Slate) != len(is.Slate) {
			add("%d offers, were %d", len(is.Slate), len(was.Slate))
			continue
		}
		for k := range was.Slate {
			if !was.Slate[k].same(&is.Slate[k]) {
				add("place %d: %s, was %s", k+1, is.Slate[k].describe(&was.Slate[k]), was.Slate[k].describe(&is.Slate[k]))
			}
		}
	}
	return out
}

func reasonDifference(was, is []decide.Reason) string {
	if len(was) != len(is) {
		return fmt.Sprintf("%d candidates, were %d", len(is), len(was))
	}
	n, first := 0, -1
	for i := range was {
		if was[i] != is[i] {
			if n++; first < 0 {
				first = i
			}
		}
	}
	return fmt.Sprintf("%d candidates have other reasons; the first, %d: %s, was %s", n, first, is[first], was[first])
}

func (r Ranker) String() string {
	if r.Version == "" {
		return r.Name
	}
	return r.Name + " " + r.Version
}

// describe says in words what a placement is beside another. It has no texts, which may
// be computed from personal data.
func (p *Placement) describe(other *Placement) string {
	words := fmt.Sprintf("%s by %s, score %v of %v × %v × %v × %v", p.Offer, p.Channel, p.Score, p.Propensity, p.Value, p.Weight, p.Lever)
	if p.Reason != other.Reason {
		words += ", reason " + p.Reason
	}
	if p.Probability != other.Probability {
		words += fmt.Sprintf(", probability %v", p.Probability)
	}
	if p.Content != other.Content || p.Script != other.Script {
		words += ", another text"
	}
	if p.Fallback {
		words += ", as the fallback"
	}
	return words
}

// same reports whether two placements are the same to the bit.
func (p *Placement) same(q *Placement) bool {
	a, b := *p, *q
	for _, f := range [...][2]*float64{
		{&a.Score, &b.Score},
		{&a.Propensity, &b.Propensity},
		{&a.Value, &b.Value},
		{&a.Weight, &b.Weight},
		{&a.Lever, &b.Lever},
		{&a.Probability, &b.Probability},
	} {
		if math.Float64bits(*f[0]) != math.Float64bits(*f[1]) {
			return false
		}
		*f[0], *f[1] = 0, 0
	}
	return a == b
}
