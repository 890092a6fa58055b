package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"connectrpc.com/connect"
	"github.com/oklog/ulid/v2"

	"rapport/sdk/abi"
	rapportv1 "rapport/server/api/rapport/v1"
	"rapport/server/decide"
	"rapport/server/decisionlog"
	"rapport/server/sandbox"
	"rapport/server/sandbox/trial"
)

// noCaseError says why no case can be made of a decision.
type noCaseError struct{ why string }

func (e *noCaseError) Error() string { return "no case can be made of it: " + e.why }

// GetDecisionCase writes what was ranked in a decision as a case.
func (s decisions) GetDecisionCase(ctx context.Context, req *connect.Request[rapportv1.GetDecisionCaseRequest]) (*connect.Response[rapportv1.GetDecisionCaseResponse], error) {
	m := req.Msg
	if s.decisionLog == nil {
		return nil, errNoDecisionLog
	}
	id, err := ulid.ParseStrict(m.GetDecisionId())
	if err != nil {
		return nil, &argumentError{"decision_id", "it is not the id of a decision"}
	}
	guest, err := s.caseModule(ctx, req)
	if err != nil {
		return nil, err
	}
	r := new(decisionlog.Record)
	if err := s.decisionLog.Find(ctx, id, r); err != nil {
		return nil, err
	}
	hide, err := s.masking(req, m.GetReveal(), "decision/"+r.ID.String())
	if err != nil {
		return nil, err
	}
	done, err := s.backgroundTurn(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	res := &rapportv1.GetDecisionCaseResponse{}
	var d *decide.Decider
	// What is observed may not be kept, so the case is written there and then.
	again, err := decisionlog.Replayer{Sources: s.replays}.Replay(ctx, r, decisionlog.With{Observe: func(at int, q *decide.Ranking, _ []int32) {
		if t := &r.At[at]; res.GetContent() == "" && d != nil && (m.GetTouchpoint() == "" || m.GetTouchpoint() == t.ID) {
			s.writeCase(res, d, r, t, q, guest, hide)
		}
	}, Change: func(*decisionlog.Inputs) {
		d, _ = s.replays.Decider(ctx, r.Catalog, r.Schema) // it has just been had
	}})
	inexact := new(decisionlog.InexactError)
	switch {
	case errors.As(err, &inexact):
		return nil, &noCaseError{inexact.Why}
	case err != nil:
		return nil, err
	case len(again.Missing) > 0:
		return nil, &noCaseError{"the record does not have " + strings.Join(again.Missing, ", ")}
	case len(r.Differences(again)) > 0:
		return nil, &noCaseError{"made again it is another: " + r.Differences(again)[0]}
	case res.GetContent() == "":
		return nil, &noCaseError{"nothing was ranked there"}
	}
	return connect.NewResponse(res), nil
}

// caseModule returns the manifest of the module that the case is for, nil if it is for the
// strategy that ranked.
func (s decisions) caseModule(ctx context.Context, req *connect.Request[rapportv1.GetDecisionCaseRequest]) (*sandbox.Manifest, error) {
	if len(req.Msg.GetModule()) == 0 {
		return nil, nil //nolint:nilnil // it is said above
	}
	if err := fromLoopback(req.Peer(), req.Header()); err != nil {
		return nil, err
	}
	v, err := s.strategies.check(ctx, req.Msg.GetModule(), req.Msg.GetSignature())
	if err != nil {
		return nil, err
	}
	return v.module.Manifest(), v.module.Close(context.WithoutCancel(ctx))
}

// writeCase writes what was ranked at a touchpoint.
func (s decisions) writeCase(res *rapportv1.GetDecisionCaseResponse, d *decide.Decider, r *decisionlog.Record, t *decisionlog.Touchpoint, q *decide.Ranking, guest *sandbox.Manifest, hide *mask) {
	c := d.Catalog()
	at, ok := c.Touchpoint(t.ID)
	if !ok || c.Touchpoints[at].Scenario < 0 {
		return
	}
	decided := trial.Decided{Manifest: guest, Catalog: c, Scenario: c.Scenarios[c.Touchpoints[at].Scenario], Ranking: q, Foreign: t.RankedBy != t.Strategy}
	if guest == nil {
		if v, err := s.strategies.get(t.Strategy.Name, t.Strategy.Version); err == nil && v.module != nil && v.digest == t.Strategy.Digest {
			decided.Manifest = v.module.Manifest()
		} else { // the built-in arbitration, or a module that is only kept for replays
			decided.Manifest, decided.Foreign = standardManifest(), true
		}
	} else {
		decided.Foreign = true
	}
	hide = hide.under(c.Schema)
	decided.Hidden = hide.personal
	decided.Comment = []string{fmt.Sprintf("Decision %s at %s, ranked by %s.", r.ID, t.ID, t.RankedBy)}
	for _, in := range decided.Manifest.Profile {
		if !strings.HasPrefix(in.Name, abi.ContextGroup) && !slices.Contains(r.Fields, in.Name) {
			res.Missing = append(res.Missing, in.Name)
		}
	}
	if len(res.Missing) > 0 {
		decided.Comment = append(decided.Comment, "The log does not have, so here it is unknown: "+strings.Join(res.Missing, ", ")+".")
	}
	text, hidden := decided.Write()
	res.Content, res.Touchpoint, res.Hidden = string(text), t.ID, hidden
}

// standardManifest is what a case has that is for no strategy: the columns of the standard
// arbitration.
func standardManifest() *sandbox.Manifest {
	return &sandbox.Manifest{Name: "pvcl", Candidate: slices.Clone(abi.Columns[:])}
}
