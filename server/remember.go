package server

import (
	"context"
	"errors"
	"time"

	"rapport/profilestore/backuplock"
	"rapport/profilestore/reftable"
	"rapport/server/catalog"
	"rapport/server/decide"
	"rapport/server/decisionlog"
)

// openDecisionLog opens the log, if there is to be one. It opens also where its files
// can't be used: decisions go on without, and its metrics say so.
func (s *Server) openDecisionLog() (err error) {
	if s.config.KeepDecisions < 0 {
		return nil
	}
	s.decisionLog, err = decisionlog.Open(decisionlog.Options{
		Dir: s.folder.path("decisions"), Keep: s.config.KeepDecisions, MaxBytes: s.config.DecisionLogBytes, Logger: s.log, FS: s.config.decisionFS,
		Removal: func() (release func(), err error) { return backuplock.Removal(s.config.Data) },
	})
	return err
}

// errNoDecisionLog is what asks of it get.
var errNoDecisionLog = errors.New("no decisions are kept: the server was started with --keep-decisions -1s")

// remember hands a decision over to be kept. A dry run is none: whoever asked can ask it
// again.
func (s decisions) remember(q *question, d *decision, took time.Duration) {
	if d.request.Dry || s.decisionLog == nil {
		return
	}
	kept := d.kept(q, took)
	s.decisionLog.Add(kept)
	if s.config.decided != nil {
		r := new(decisionlog.Record)
		kept.Record(r)
		s.config.decided(r)
	}
}

// kept is the decision as the log keeps it.
func (d *decision) kept(q *question, took time.Duration) *decisionlog.Decision {
	return &decisionlog.Decision{
		ID: d.id, Identity: d.who.identity, View: d.who.view, Blocked: d.who.blocked, Took: took.Microseconds(),
		Catalog: d.live.compiled, Reads: d.live.reads, Tables: d.tables,
		Request: &d.request, Met: d.metRead, Many: len(d.at) > 1 || q.one, One: q.one, At: d.at, Answers: d.answers, Places: d.asked(),
		Detail: func(_ int, x decide.Degradation) string { return degradationDetail(x, d.readErr) },
	}
}

// tableList is the versions of a set of reference tables as a list.
type tableList struct {
	of   *reftable.Versions
	list []decisionlog.Version
}

// tableVersions returns the versions of reference tables by name. Do not modify: it is
// made once for each set.
func (s *Server) tableVersions(of *reftable.Versions) []decisionlog.Version {
	if known := s.tableList.Load(); known != nil && known.of == of {
		return known.list
	}
	var list []decisionlog.Version
	for name, number := range of.All() {
		list = append(list, decisionlog.Version{Name: name, Number: number})
	}
	s.tableList.Store(&tableList{of, list})
	return list
}

// rehearse makes a decision that has no effect and returns it as the log would keep it.
func (s decisions) rehearse(ctx context.Context, q *question) (*decisionlog.Record, error) {
	if q.dry == nil {
		return nil, errors.New("a rehearsal is a dry run")
	}
	r := new(decisionlog.Record)
	_, err := s.answer(ctx, q, func(d *decision) { d.kept(q, 0).Record(r) })
	return r, err
}

// asked returns what places the decision asked for.
func (d *decision) asked() []decisionlog.PlaceAsked {
	p, ok := d.request.Places.(*places)
	if !ok {
		return nil
	}
	return p.asked
}

// degradationDetail says why a step down was taken, without what only the log is for.
func degradationDetail(step decide.Degradation, readErr error) string {
	switch {
	case step.Err != nil && step.Step == decide.StepNotReserved:
		return unreservedDetail(step.Err)
	case step.Err != nil:
		return step.Err.Error()
	case step.Step == decide.StepProfileUnreadable && (errors.Is(readErr, errReadLate) || errors.Is(readErr, errReadBusy)):
		return readErr.Error()
	case step.Step == decide.StepProfileUnreadable && readErr != nil:
		return "the profile could not be read"
	}
	return ""
}

// readsOf returns which profile fields decisions of a catalogue can read: those of its
// rules, and those of every version of the strategies of its scenarios, so that what was
// decided can be replayed with another.
func (s *Server) readsOf(c *catalog.Compiled) *decisionlog.Reads {
	set := c.Reads()
	for _, scenario := range c.Scenarios {
		if scenario.Strategy == nil {
			continue
		}
		for _, v := range s.strategies.list(scenario.Strategy.Name) {
			if v.module == nil {
				continue
			}
			for _, in := range v.module.Manifest().Profile {
				if slot, ok := c.Schema.Lookup(in.Name); ok {
					set[slot] = true
				}
			}
		}
	}
	return decisionlog.NewReads(c, set)
}
