package server

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/oklog/ulid/v2"
	"google.golang.org/protobuf/types/known/timestamppb"

	rapportv1 "rapport/server/api/rapport/v1"
	"rapport/server/catalog"
	"rapport/server/decisionlog"
)

// maxReplayChanges is how many changes of winners an answer has.
const maxReplayChanges = 1000

// ReplayDecisions makes decisions of the log again.
func (s decisions) ReplayDecisions(ctx context.Context, req *connect.Request[rapportv1.ReplayDecisionsRequest], stream *connect.ServerStream[rapportv1.ReplayDecisionsResponse]) error {
	return s.streamError(req.Spec().Procedure, func() error {
		if len(req.Msg.GetModule()) > 0 {
			if err := fromLoopback(req.Peer(), req.Header()); err != nil {
				return err
			}
		}
		return s.replayDecisions(ctx, req, stream)
	}())
}

func (s decisions) replayDecisions(ctx context.Context, req *connect.Request[rapportv1.ReplayDecisionsRequest], stream *connect.ServerStream[rapportv1.ReplayDecisionsResponse]) (err error) {
	started, m := time.Now(), req.Msg
	if s.decisionLog == nil {
		return errNoDecisionLog
	}
	subject := "decisions"
	if m.GetDecisionId() != "" {
		subject = "decision/" + m.GetDecisionId()
	}
	hide, err := s.masking(req, m.GetReveal(), subject)
	if err != nil {
		return err
	}
	with, err := s.replayWith(m)
	if err != nil {
		return err
	}
	sources := s.replays
	if len(m.GetModule()) > 0 {
		if sources, err = s.replayModule(ctx, m, &with); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, sources.close(context.WithoutCancel(ctx))) }()
	}
	each, err := s.replayed(ctx, m)
	if err != nil {
		return err
	}
	var last time.Time
	var sent error
	summary, err := decisionlog.Replayer{Sources: sources}.ReplayAll(ctx, each, decisionlog.AllOptions{
		With: with, Workers: s.config.MaxConcurrent, Turn: s.backgroundTurn, Examples: int(m.GetExamples()),
		Progress: func(n int64) {
			if now := time.Now(); now.Sub(last) >= progressEvery && sent == nil {
				last, sent = now, stream.Send(&rapportv1.ReplayDecisionsResponse{Done: n})
			}
		},
	})
	if err = errors.Join(err, sent); err != nil {
		return err
	}
	out := replaySummary(summary, hide)
	out.Seconds = time.Since(started).Seconds()
	return stream.Send(&rapportv1.ReplayDecisionsResponse{Done: summary.Decisions, Summary: out})
}

// backgroundTurn waits until work that nobody waits for may have a processor.
func (s *Server) backgroundTurn(ctx context.Context) (done func(), err error) {
	if s.stopping.Load() {
		return nil, errStopping
	}
	if err := s.admission.enterBackground(ctx); err != nil {
		return nil, err
	}
	return s.admission.leaveBackground, nil
}

// replayWith reads with what decisions are to be made again.
func (s decisions) replayWith(m *rapportv1.ReplayDecisionsRequest) (w decisionlog.With, err error) {
	if v := m.GetCatalogVersion(); v != 0 {
		if _, err := s.catalogs.Get(v); err != nil {
			return w, err
		}
		w.Catalog = v
	}
	w.InsteadOf = m.GetInsteadOf()
	switch {
	case len(m.GetModule()) > 0 && m.GetStrategy() != "":
		return w, &argumentError{"strategy", "a module is given too: one of them ranks"}
	case len(m.GetModule()) == 0 && m.GetStrategy() == "" && w.InsteadOf != "":
		return w, &argumentError{"instead_of", "nothing is given to rank in its place"}
	case m.GetStrategy() == "":
		return w, nil
	}
	name, version, _ := strings.Cut(m.GetStrategy(), "@")
	use := &catalog.StrategyUse{Name: name, Version: version}
	v, err := s.strategies.resolve(use, s.strategies.release(name))
	if err != nil {
		return w, err
	}
	w.Strategy = decisionlog.Ranker{Name: v.name, Version: v.version, Digest: v.digest}
	return w, nil
}

// replayModule checks a module that is not kept, has it rank, and returns sources that have
// it besides all others. They are closed after the replay, and it with them.
func (s decisions) replayModule(ctx context.Context, m *rapportv1.ReplayDecisionsRequest, w *decisionlog.With) (*replaySources, error) {
	v, err := s.strategies.check(ctx, m.GetModule(), m.GetSignature())
	if err != nil {
		return nil, err
	}
	w.Strategy = decisionlog.Ranker{Name: v.name, Version: v.version, Digest: v.digest}
	sources := newReplaySources(s.Server)
	sources.modules[v.digest] = v.module
	if w.InsteadOf != "" && w.InsteadOf != v.name {
		sources.guest = v.digest
	}
	return sources, nil
}

// replayed returns the decisions that are to be made again.
func (s decisions) replayed(ctx context.Context, m *rapportv1.ReplayDecisionsRequest) (func(func(*decisionlog.Record) error) error, error) {
	if m.GetDecisionId() != "" {
		id, err := ulid.ParseStrict(m.GetDecisionId())
		if err != nil {
			return nil, &argumentError{"decision_id", "it is not the id of a decision"}
		}
		r := new(decisionlog.Record)
		if err := s.decisionLog.Find(ctx, id, r); err != nil {
			return nil, err
		}
		return func(f func(*decisionlog.Record) error) error { return f(r) }, nil
	}
	q := decisionlog.Query{Limit: int(m.GetLimit()), Newest: m.GetLimit() > 0}
	var err error
	if q.From, err = timeArgument("since", m.GetSince()); err != nil {
		return nil, err
	}
	if q.Until, err = timeArgument("until", m.GetUntil()); err != nil {
		return nil, err
	}
	hashes := []uint64{0}
	if m.GetCustomer() != "" {
		if _, hashes, err = s.hashesOf(ctx, m.GetCustomer()); err != nil {
			return nil, err
		}
	}
	if err := s.decisionLog.Flush(ctx); err != nil {
		return nil, err
	}
	return func(f func(*decisionlog.Record) error) error {
		left := q.Limit
		for _, q.Customer = range hashes {
			if q.Limit = left; q.Newest && left == 0 {
				break
			}
			err := s.decisionLog.Each(ctx, q, func(r *decisionlog.Record) error {
				left--
				return f(r)
			})
			if err != nil {
				return err
			}
		}
		return nil
	}, nil
}

func replaySummary(s *decisionlog.Summary, hide *mask) *rapportv1.ReplaySummary {
	out := &rapportv1.ReplaySummary{
		Decisions: s.Decisions, Identical: s.Identical, Different: s.Different, Inexact: s.Inexact,
		Answers: s.Answers, SlatesChanged: s.SlateChanged, WinnersChanged: s.WinnerChanged,
		ValueBefore: float64(s.Before) / 1e6, ValueAfter: float64(s.After) / 1e6,
	}
	if s.Decisions > 0 {
		out.First, out.Last = timestamppb.New(s.First.Timestamp()), timestamppb.New(s.Last.Timestamp())
	}
	for _, why := range slices.Sorted(maps.Keys(s.Why)) {
		out.Causes = append(out.Causes, &rapportv1.ReplayCause{Why: why, Decisions: s.Why[why]})
	}
	slices.SortStableFunc(out.Causes, func(a, b *rapportv1.ReplayCause) int { return cmp.Compare(b.GetDecisions(), a.GetDecisions()) })
	for c, n := range s.Changes {
		out.Changes = append(out.Changes, &rapportv1.ReplayChange{Touchpoint: c.Touchpoint, From: c.From, To: c.To, Answers: n})
	}
	slices.SortFunc(out.Changes, func(a, b *rapportv1.ReplayChange) int {
		return cmp.Or(cmp.Compare(b.GetAnswers(), a.GetAnswers()), cmp.Compare(a.GetTouchpoint(), b.GetTouchpoint()),
			cmp.Compare(a.GetFrom(), b.GetFrom()), cmp.Compare(a.GetTo(), b.GetTo()))
	})
	out.Changes = out.Changes[:min(len(out.Changes), maxReplayChanges)]
	for i := range s.Examples {
		x := &s.Examples[i]
		out.Examples = append(out.Examples, &rapportv1.ReplayExample{
			DecisionId: x.ID.String(), Customer: hide.identity(x.Customer), Touchpoint: x.Was.ID,
			Was: replayPlacements(x.Was.Slate), Is: replayPlacements(x.Is.Slate), Differences: x.Differences,
		})
	}
	return out
}

func replayPlacements(slate []decisionlog.Placement) []*rapportv1.ReplayPlacement {
	out := make([]*rapportv1.ReplayPlacement, len(slate))
	for i := range slate {
		out[i] = &rapportv1.ReplayPlacement{Offer: slate[i].Offer, Channel: slate[i].Channel, Score: slate[i].Score}
	}
	return out
}
