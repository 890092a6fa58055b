package decisionlog

import (
	"cmp"
	"context"
	"errors"
	"math"
	"slices"
	"sync"

	"github.com/oklog/ulid/v2"
)

// AllOptions say how many decisions are made again.
type AllOptions struct {
	With With

	// Workers is how many are made at once, at least 1. Each takes its turn before each
	// decision, if Turn is not nil, and gives it back after.
	Workers int
	Turn    func(context.Context) (done func(), err error)

	Examples int                   // how many decisions with another answer are shown
	Progress func(decisions int64) // is told now and then, by one worker at a time; may be nil
}

// Summary says what came of making many decisions again.
//
// It depends on the decisions and not on the order in which workers came to them.
type Summary struct {
	Decisions   int64
	First, Last ulid.ULID

	Identical int64 // to the last bit
	Different int64
	Inexact   int64            // could not be made again as they were, and are in no other count
	Why       map[string]int64 // how many could not, by the reason

	// Of the answers at the touchpoints of those that could:
	Answers       int64
	SlateChanged  int64 // other offers, or in another order
	WinnerChanged int64 // another first offer, or none
	// Before and After are the expected value of all offers made, propensity × value, in
	// millionths: a sum of whole numbers is the same in any order.
	Before, After int64
	Changes       map[Change]int64
	Examples      []Example // those of the first decisions, by id
}

// Change is a change of the winner at a touchpoint; an offer is empty where none is made.
type Change struct{ Touchpoint, From, To string }

// Example is an answer that was another.
type Example struct {
	ID          ulid.ULID
	Customer    string
	Was, Is     Touchpoint
	Differences []string
}

// progressEvery is after how many decisions progress is told.
const progressEvery = 500

// maxCauses bounds the causes that a summary tells apart, and the changes.
const maxCauses = 10_000

// ReplayAll makes decisions again: each calls its argument for each of them, and ends with
// its error. It keeps no more of them in memory than workers are at.
func (p Replayer) ReplayAll(ctx context.Context, each func(func(*Record) error) error, o AllOptions) (*Summary, error) {
	s := &Summary{Why: make(map[string]int64), Changes: make(map[Change]int64)}
	a := &all{replayer: p, o: o, s: s}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	work := make(chan *Record, max(o.Workers, 1))
	var workers sync.WaitGroup
	for range max(o.Workers, 1) {
		workers.Go(func() {
			for r := range work {
				if err := a.replay(ctx, r); err != nil {
					cancel(err)
				}
			}
		})
	}
	err := each(func(r *Record) error {
		next := *r
		select {
		case work <- &next:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	})
	close(work)
	workers.Wait()
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	if err != nil {
		return nil, err
	}
	a.told()
	return s, nil
}

// all is the state of ReplayAll.
type all struct {
	replayer Replayer
	o        AllOptions

	mu sync.Mutex
	s  *Summary
}

// replay makes one decision again.
func (a *all) replay(ctx context.Context, r *Record) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if a.o.Turn != nil {
		done, err := a.o.Turn(ctx)
		if err != nil {
			return err
		}
		defer done()
	}
	again, err := a.replayer.Replay(ctx, r, a.o.With)
	var no *InexactError
	if err != nil && !errors.As(err, &no) {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.s
	if s.Decisions == 0 || r.ID.Compare(s.First) < 0 {
		s.First = r.ID
	}
	if r.ID.Compare(s.Last) > 0 {
		s.Last = r.ID
	}
	s.Decisions++
	switch {
	case no != nil:
		s.inexact(no.Why)
	case len(again.Missing) > 0:
		for _, what := range again.Missing {
			s.Why["the record has not "+what]++
		}
		s.Inexact++
	default:
		a.compare(r, again)
	}
	if s.Decisions%progressEvery == 0 {
		a.told()
	}
	return nil
}

// told tells the progress.
func (a *all) told() {
	if a.o.Progress != nil {
		a.o.Progress(a.s.Decisions)
	}
}

func (s *Summary) inexact(why string) {
	s.Inexact++
	if _, ok := s.Why[why]; !ok && len(s.Why) >= maxCauses {
		why = "others"
	}
	s.Why[why]++
}

// compare counts what is another.
func (a *all) compare(r *Record, again *Replay) {
	s := a.s
	differences := r.Differences(again)
	if len(differences) == 0 {
		s.Identical++
	} else {
		s.Different++
	}
	for i := range r.At {
		was, is := &r.At[i], &again.At[i]
		s.Answers++
		s.Before += was.expected()
		s.After += is.expected()
		if from, to := was.winner(), is.winner(); from != to {
			s.WinnerChanged++
			if c := (Change{was.ID, from, to}); s.Changes[c] > 0 || len(s.Changes) < maxCauses {
				s.Changes[c]++
			}
		}
		if !slices.EqualFunc(was.Slate, is.Slate, func(p, q Placement) bool { return p.Offer == q.Offer && p.Channel == q.Channel }) {
			s.SlateChanged++
		} else if len(differences) == 0 {
			continue
		}
		a.example(Example{r.ID, r.Customer, *was, *is, differences})
	}
}

// example keeps an example if it is among the first.
func (a *all) example(x Example) {
	s := a.s
	at, _ := slices.BinarySearchFunc(s.Examples, x, func(x, y Example) int {
		return cmp.Or(x.ID.Compare(y.ID), cmp.Compare(x.Was.ID, y.Was.ID))
	})
	if at >= a.o.Examples {
		return
	}
	s.Examples = slices.Insert(s.Examples, at, x)
	s.Examples = s.Examples[:min(len(s.Examples), a.o.Examples)]
}

// winner returns the first offer of a slate, and its channel.
func (t *Touchpoint) winner() string {
	if len(t.Slate) == 0 {
		return ""
	}
	return t.Slate[0].Offer
}

// expected returns the expected value of a slate, in millionths.
func (t *Touchpoint) expected() (millionths int64) {
	for i := range t.Slate {
		millionths += int64(math.Round(t.Slate[i].Propensity * t.Slate[i].Value * 1e6))
	}
	return millionths
}
