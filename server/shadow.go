package server

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"

	"rapport/profilestore"
	"rapport/server/catalog"
	"rapport/server/decide"
)

const (
	// shadowJobs is how many rankings may wait for a shadow. One of 100 candidates
	// takes 5 KB; of 10,000, half a megabyte.
	shadowJobs = 64
	// shadowInstances is how many instances a strategy has in shadow: one worker
	// uses one, the other is being restored meanwhile.
	shadowInstances = 2
)

// shadows ranks beside the decisions with the candidates that are in shadow, and
// counts where they differ from the live versions. It belongs to one live value
// and ends with it.
//
// A decision hands over a copy of what was ranked and of the outcome, and goes on:
// it takes a job from those that are free, fills it and queues it, none of which
// waits. When there is none free the shadow is behind, and the decision is not
// compared, which is counted. One worker does the comparing, so a slow candidate
// costs one processor at most and makes no decision late by more than its share of
// the machine. Jobs are reused, so memory is bounded and copying does not allocate.
//
// A candidate that keeps failing is not called for a while, here as where it ranks:
// each fault costs its whole budget of fuel, a new instance and a line in the log.
// But what happens in shadow does not suspend it where a scenario names it, nor is
// it suspended when it is released: a strategy in shadow has a circuit breaker of its
// own, which ends with it.
//
// The worker reads the profile after the decision has ended: a profilestore.View
// is immutable, and stays valid however long it is kept.
type shadows struct {
	free   chan *shadowJob
	jobs   chan *shadowJob
	ctx    context.Context // of the candidates' calls; ends when the shadows close
	cancel context.CancelFunc
	worker sync.WaitGroup
}

// shadowJob is a ranking to be compared. The columns and outputs are copies.
type shadowJob struct {
	to   *shadowed
	live decide.Ranking // its outputs are those of the live version
	own  decide.Ranking // shares the inputs of live; its outputs are the candidate's

	slates [2][]int
}

func newShadows(ctx context.Context) *shadows {
	s := &shadows{free: make(chan *shadowJob, shadowJobs), jobs: make(chan *shadowJob, shadowJobs)}
	s.ctx, s.cancel = context.WithCancel(ctx)
	for range shadowJobs {
		s.free <- new(shadowJob)
	}
	s.worker.Go(s.work)
	return s
}

// close ends the worker. No decision hands anything over any more. What waits is
// dropped and counted.
func (s *shadows) close() {
	s.cancel()
	close(s.jobs)
	s.worker.Wait()
}

// shadowed ranks with the live version and hands what was ranked to a candidate.
type shadowed struct {
	decide.Ranker // the live version

	candidate decide.Ranker
	catalog   *catalog.Compiled
	scenario  *catalog.Scenario
	counts    *counts // of the candidate
	shadows   *shadows
}

// Rank ranks as the live version does. What it could not rank is not compared.
func (s *shadowed) Rank(ctx context.Context, q *decide.Ranking) error {
	if err := s.Ranker.Rank(ctx, q); err != nil {
		return err
	}
	select {
	case job := <-s.shadows.free:
		job.fill(s, q)
		s.shadows.jobs <- job // never waits: it has room for all jobs that there are
	default:
		s.counts.shadow.dropped.Add(1)
	}
	return nil
}

// fill copies what was ranked.
func (j *shadowJob) fill(to *shadowed, q *decide.Ranking) {
	j.to = to
	l := &j.live
	l.Now, l.Seed, l.Slots, l.Profile = q.Now, q.Seed, q.Slots, q.Profile
	l.Context, l.History = q.Context, q.History
	l.Candidates = append(l.Candidates[:0], q.Candidates...)
	l.Propensity = append(l.Propensity[:0], q.Propensity...)
	l.Value = append(l.Value[:0], q.Value...)
	l.Weight = append(l.Weight[:0], q.Weight...)
	l.Lever = append(l.Lever[:0], q.Lever...)
	l.Score = append(l.Score[:0], q.Score...)
	l.Veto = append(l.Veto[:0], q.Veto...)
}

// work compares until the shadows are closed.
func (s *shadows) work() {
	for job := range s.jobs {
		s.compare(job)
		job.to = nil
		for _, q := range []*decide.Ranking{&job.live, &job.own} {
			q.Profile, q.Context, q.History = nil, nil, profilestore.History{}
		}
		s.free <- job
	}
}

// compare ranks with the candidate and counts the differences.
func (s *shadows) compare(j *shadowJob) {
	c := &j.to.counts.shadow
	switch err := j.rank(s.ctx); {
	case s.ctx.Err() != nil, errors.Is(err, decide.ErrBusy):
		c.dropped.Add(1)
		return
	case errors.Is(err, decide.ErrSuspended):
		c.suspended.Add(1)
		return
	case err != nil:
		c.faults.add(faultKind(err)) // the sandbox logs what a strategy does wrong
		return
	}
	l, o := &j.live, &j.own
	if !slices.EqualFunc(l.Score, o.Score, sameBits) || !slices.Equal(l.Veto, o.Veto) {
		c.score.Add(1)
	}
	live := l.Slate(j.to.catalog, j.to.scenario, j.slates[0])
	own := o.Slate(j.to.catalog, j.to.scenario, j.slates[1])
	j.slates = [2][]int{live, own}
	if !slices.Equal(live, own) {
		c.slate.Add(1)
	}
	if len(live) != len(own) && min(len(live), len(own)) == 0 || len(live) > 0 && len(own) > 0 && live[0] != own[0] {
		c.winner.Add(1)
	}
	c.comparisons.Add(1) // last: who sees it counted sees the differences too
}

// rank fills own with the candidate's outputs. A panic is an error here: it must
// not end a server whose answers it does not touch.
func (j *shadowJob) rank(ctx context.Context) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	score, reason, veto, chance := j.own.Score, j.own.Reason, j.own.Veto, j.own.Chance
	j.own = j.live
	n := len(j.live.Candidates)
	j.own.Score = append(score[:0], make([]float64, n)...)
	j.own.Reason = append(reason[:0], make([]uint32, n)...)
	j.own.Veto = append(veto[:0], make([]bool, n)...)
	j.own.Chance = append(chance[:0], make([]float64, n)...)
	return j.to.candidate.Rank(ctx, &j.own)
}

// sameBits reports whether two numbers are the same for a replay.
func sameBits(a, b float64) bool { return math.Float64bits(a) == math.Float64bits(b) }
