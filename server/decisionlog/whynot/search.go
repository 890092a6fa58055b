package whynot

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"rapport/profilestore"
	"rapport/profilestore/rules"
	"rapport/server/catalog"
	"rapport/server/decide"
	"rapport/server/decisionlog"
)

// Question asks what would bring an offer onto the slate of a touchpoint.
type Question struct {
	// Decider and Inputs are the decision, as [decisionlog.Replayer.Prepare] gives it. The
	// inputs are not changed.
	Decider *decide.Decider
	Inputs  *decisionlog.Inputs
	At      int  // the touchpoint, by its place in Inputs.At
	Offer   int  // in Compiled.Offers; it competes there: see [Locate]
	First   bool // it has to be the first on the slate, not merely on it

	// Limits; 0: DefaultMaxChanges and so on.
	MaxChanges, MaxSets, MaxReplays int

	// StrategyReads are the fields that the strategy reads, by slot: what may move a score
	// or lift a veto. Without, neither is tried.
	StrategyReads []int

	// Turn waits until there is time for one replay, and is told when it is over; nil:
	// there always is.
	Turn func(context.Context) (done func(), err error)
}

// Limits of a search where the question sets none.
const (
	DefaultMaxChanges = 3
	DefaultMaxSets    = 5
	DefaultMaxReplays = 3000
)

// Result is what was found.
type Result struct {
	// What the decision was without changes: the place on the slate, −1 if it was not on
	// it, whether it is there as the fallback, and else why not.
	Position int
	Fallback bool
	Reason   decide.Reason
	By       string
	Until    int64

	// Sets are the sets of changes, those with the fewest changes first, of equal ones the
	// least disruptive; none if the offer is where it is wanted.
	Sets []Set
	// Replays is how many were made.
	Replays int
	// GaveUp is why the search ended before all sets were tried; empty if it did not.
	GaveUp string
	// Obstacles are what no change was found for, in words: where there are no sets.
	Obstacles []string
}

// Set is a set of changes that brings the offer in.
type Set struct {
	Changes  []Change // in the order of kinds
	Position int      // that the offer then has on the slate
	// Assumes are what the decision then asks for and nothing is recorded of, in words: it
	// is taken to be so.
	Assumes []string
}

// search looks for sets of changes, the smallest first.
//
// It begins with no change. Of a set with which the offer is not in, a replay says the
// first reason, and what could do away with that reason is one change more, or more than
// one where one can't: so each set is the beginning of others, which are tried in the
// order of their size. A set with which the offer is in is held against all its parts
// before it is taken, since a change may have become needless by one that came after it.
//
// This finds each smallest set whose changes are among those that are proposed: with a
// part of the set alone there is still a reason, and one of the other changes of the set
// has to do away with it. A set that changes all that a smaller one does, and something
// besides, is left out, though it may change the former by less: a boost of 20 with one
// offer withdrawn, where a boost of 50 is enough.
//
// What it can't find are sets with values that it does not think
// of. It thinks of the nearest value that fulfils a condition, found from the constants of
// the rules (see seeds). To try all values of all fields that a rule reads would be
// complete and is hopeless: 20 fields of 10 values each have 10⁶ sets of 3.
type search struct {
	q      *Question
	c      *catalog.Compiled
	offer  *catalog.Offer
	target *catalog.Candidate
	at     *catalog.Touchpoint
	place  int // of the target in Touchpoint.Candidates

	rules *rules.Evaluation
	texts map[subject][]profilestore.Value // constants that any condition holds a field or context field against

	outcomes map[string]*outcome
	deciders map[string]*decide.Decider
	replays  int
	tries    int             // evaluations of conditions
	ctx      context.Context // of the search
	stopped  error           // why evaluations have stopped, if they have
	notes    []string
}

// outcome is what came of a decision with some changes.
type outcome struct {
	position int
	fallback bool
	reason   decide.Reason
	by       string
	until    int64
	slate    []int // offers
	best     int   // the best offer of all slates but the one that is asked about, −1 if there is none
	ranked   string
	missing  []string
	assumed  []string
}

var errTooMany = errors.New("too many replays")

// Search looks for the smallest sets of changes. An error is that of ctx or of
// Question.Turn, before anything was found out about the decision as it was.
func Search(ctx context.Context, q Question) (*Result, error) {
	s, err := newSearch(&q)
	if err != nil {
		return nil, err
	}
	s.ctx = ctx
	first, err := s.decide(ctx, nil)
	if err != nil {
		return nil, err
	}
	r := &Result{Position: first.position, Fallback: first.fallback, Reason: first.reason, By: first.by, Until: first.until}
	if len(first.missing) > 0 {
		return nil, &decisionlog.InexactError{Why: first.missing[0]}
	}
	if !s.reached(first) {
		r.Sets, err = s.find(ctx)
		switch {
		case errors.Is(err, errTooMany):
			r.GaveUp = fmt.Sprintf("after %d replays", s.replays)
		case err != nil && ctx.Err() != nil:
			r.GaveUp = fmt.Sprintf("out of time, after %d replays", s.replays)
		case err != nil:
			return nil, err
		}
		if len(r.Sets) == 0 {
			r.Obstacles = s.notes
		}
	}
	r.Replays = s.replays
	return r, nil
}

func newSearch(q *Question) (*search, error) {
	if q.MaxChanges <= 0 {
		q.MaxChanges = DefaultMaxChanges
	}
	if q.MaxSets <= 0 {
		q.MaxSets = DefaultMaxSets
	}
	if q.MaxReplays <= 0 {
		q.MaxReplays = DefaultMaxReplays
	}
	s := &search{q: q, c: q.Inputs.Catalog, outcomes: make(map[string]*outcome), deciders: make(map[string]*decide.Decider)}
	s.at = &s.c.Touchpoints[q.Inputs.At[q.At].Touchpoint]
	s.offer = &s.c.Offers[q.Offer]
	s.place = -1
	if s.at.Scenario >= 0 {
		s.place = placeOf(s.c, s.at, q.Offer)
	}
	if s.place < 0 {
		return nil, fmt.Errorf("offer %s does not compete at touchpoint %s", s.offer.ID, s.at.ID)
	}
	s.target = &s.c.Scenarios[s.at.Scenario].Candidates[s.at.Candidates[s.place]]
	s.rules = s.c.Rules.NewEvaluation()
	return s, nil
}

func placeOf(c *catalog.Compiled, t *catalog.Touchpoint, offer int) int {
	candidates := c.Scenarios[t.Scenario].Candidates
	return slices.IndexFunc(t.Candidates, func(i int32) bool { return candidates[i].Offer == offer })
}

func (s *search) reached(o *outcome) bool {
	return len(o.missing) == 0 && (o.position == 0 || o.position > 0 && !s.q.First)
}

// maxRepeats bounds how often sets of one size follow from each other by putting one
// change in the place of another that is about the same.
const maxRepeats = 6

// node is a set that is yet to be tried.
type node struct {
	set     changes
	repeats int
}

// find tries sets in the order of their size.
func (s *search) find(ctx context.Context) ([]Set, error) {
	var found []changes
	levels := make([][]node, s.q.MaxChanges+1)
	levels[0] = []node{{}}
	seen := map[string]bool{"": true}
	var stopped error
	for size := 0; size < len(levels) && stopped == nil && len(found) < s.q.MaxSets; size++ {
		for i := 0; i < len(levels[size]) && stopped == nil; i++ { // it grows meanwhile
			n := levels[size][i]
			if slices.ContainsFunc(found, n.set.covers) {
				continue
			}
			var more [][]Change
			var reached bool
			if reached, stopped = s.try(ctx, n.set); stopped != nil {
				break
			}
			if reached {
				found, stopped = s.minimal(ctx, n.set, found)
				continue
			}
			more, stopped = s.moves(ctx, n.set, s.q.MaxChanges-size)
			for _, move := range more {
				next := node{set: n.set.with(move...)}
				if len(next.set) == size {
					next.repeats = n.repeats + 1
				}
				if key := next.set.key(); len(next.set) <= s.q.MaxChanges && next.repeats <= maxRepeats && !seen[key] {
					seen[key] = true
					levels[len(next.set)] = append(levels[len(next.set)], next)
				}
			}
		}
	}
	slices.SortFunc(found, disruption)
	sets := make([]Set, 0, s.q.MaxSets)
	for _, f := range found[:min(len(found), s.q.MaxSets)] {
		o := s.outcomes[f.key()]
		sets = append(sets, Set{Changes: f, Position: o.position, Assumes: o.assumed})
	}
	return sets, stopped
}

func (s *search) try(ctx context.Context, set changes) (bool, error) {
	o, err := s.decide(ctx, set)
	return err == nil && s.reached(o), err
}

// minimal adds to found the smallest parts of a set with which the offer is in: the set
// itself if none of its proper parts is enough.
func (s *search) minimal(ctx context.Context, set changes, found []changes) ([]changes, error) {
	for size := 1; size <= len(set); size++ {
		enough := false
		for bits := range 1 << len(set) {
			var part changes
			for i := range set {
				if bits>>i&1 == 1 {
					part = append(part, set[i])
				}
			}
			if len(part) != size {
				continue
			}
			reached, err := s.try(ctx, part)
			if err != nil {
				return found, err
			}
			if reached {
				enough = true
				if !slices.ContainsFunc(found, part.covers) {
					found = slices.DeleteFunc(found, func(f changes) bool { return f.covers(part) })
					found = append(found, part)
				}
			}
		}
		if enough {
			return found, nil
		}
	}
	return found, nil
}

// note remembers what no change was found for.
func (s *search) note(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if !slices.Contains(s.notes, text) && len(s.notes) < 10 {
		s.notes = append(s.notes, text)
	}
}

// decide makes the decision with changes.
func (s *search) decide(ctx context.Context, set changes) (*outcome, error) {
	key := set.key()
	if o, ok := s.outcomes[key]; ok {
		return o, nil
	}
	if s.replays >= s.q.MaxReplays {
		return nil, errTooMany
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if s.q.Turn != nil {
		done, err := s.q.Turn(ctx)
		if err != nil {
			return nil, err
		}
		defer done()
	}
	in, d, err := s.apply(set)
	if err != nil {
		return nil, err
	}
	assumed := new([]string)
	s.room(in, set, assumed)
	answers, missing := in.Decide(ctx, d)
	if err := ctx.Err(); err != nil { // a strategy may have been cut short
		return nil, err
	}
	s.replays++
	at := s.q.At
	if len(in.At) == 1 {
		at = 0
	}
	a := &answers[at]
	o := &outcome{position: -1, best: -1, reason: a.Reasons[s.place], ranked: a.RankedBy.Name, missing: missing, assumed: *assumed}
	for i := range a.Slate {
		p := &a.Slate[i]
		o.slate = append(o.slate, p.Offer)
		if p.Offer == s.q.Offer {
			o.position, o.fallback = i, p.Fallback
		}
	}
	high := math.Inf(-1)
	for i := range answers {
		for k := range answers[i].Slate {
			if p := &answers[i].Slate[k]; p.Offer != s.q.Offer && p.Score > high {
				high, o.best = p.Score, p.Offer
			}
		}
	}
	for i := range a.Details {
		if x := &a.Details[i]; x.Place == s.place {
			o.by, o.until = x.By, x.Until
		}
	}
	s.outcomes[key] = o
	return o, nil
}
