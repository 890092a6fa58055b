package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	rapportv1 "rapport/server/api/rapport/v1"
	"rapport/server/api/rapport/v1/rapportv1connect"
	"rapport/server/catalog"
	"rapport/server/sandbox"
)

// releases answers the StrategyService.
type releases struct{ *Server }

// errLoopbackOnly is given to uploads from elsewhere. What a module may do is
// bounded, but who may bring one is not: there is no access control, and a strategy
// decides what customers are offered. So only the machine's own people may.
var errLoopbackOnly = errors.New("strategies are taken from the server's own machine only")

// loopbackOnly refuses uploads from elsewhere before any of the module is read. A
// proxy on this machine makes everybody look local, so what has come through one
// is refused too.
func loopbackOnly(ctx context.Context, spec connect.Spec, peer connect.Peer, header http.Header) (context.Context, error) {
	if spec.Procedure != rapportv1connect.StrategyServiceUploadStrategyProcedure {
		return ctx, nil
	}
	if err := fromLoopback(peer, header); err != nil {
		return nil, apiError(err)
	}
	return ctx, nil
}

// fromLoopback returns errLoopbackOnly for who asks from elsewhere.
func fromLoopback(peer connect.Peer, header http.Header) error {
	if host, _, err := net.SplitHostPort(peer.Addr); err != nil || !isLoopback(host) {
		return fmt.Errorf("%w: %s is not loopback", errLoopbackOnly, peer.Addr)
	}
	for _, name := range []string{"Forwarded", "X-Forwarded-For", "Via"} {
		if header.Get(name) != "" {
			return fmt.Errorf("%w: this one came through a proxy", errLoopbackOnly)
		}
	}
	return nil
}

// UploadStrategy checks a module and keeps it. Checking is done before anything
// is locked: it can take seconds.
func (s releases) UploadStrategy(ctx context.Context, req *connect.Request[rapportv1.UploadStrategyRequest]) (*connect.Response[rapportv1.UploadStrategyResponse], error) {
	checked, err := s.strategies.check(ctx, req.Msg.GetModule(), req.Msg.GetSignature())
	if err != nil {
		return nil, err
	}
	s.changing.Lock()
	defer s.changing.Unlock()
	v, err := s.keepStrategy(ctx, req, checked)
	if v != checked {
		err = errors.Join(err, checked.module.Close(ctx))
	}
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&rapportv1.UploadStrategyResponse{Strategy: strategyMessage(v, s.strategies.release(v.name))}), nil
}

// keepStrategy records an upload and keeps the module. The caller holds
// s.changing.
func (s releases) keepStrategy(ctx context.Context, req *connect.Request[rapportv1.UploadStrategyRequest], checked *strategyVersion) (v *strategyVersion, err error) {
	what, err := s.strategies.plan(checked)
	if err != nil {
		return nil, err
	}
	keep := func() error {
		v, err = s.strategies.keep(checked, req.Msg.GetModule(), what)
		return err
	}
	if what == uploadSame {
		err = keep()
		return v, err
	}
	after := checked.version + ", digest " + checked.digest
	if checked.signedBy != "" {
		after += ", signed by " + checked.signedBy
	}
	if err := s.audit.change(req, "strategy upload", strategySubject(checked.name), "", after, keep); err != nil {
		return nil, err
	}
	s.log.Info("strategy uploaded", "name", v.name, "version", v.version, "digest", v.digest, "signed_by", v.signedBy, "by", req.Peer().Addr)
	if what == uploadMended {
		err = s.rebind(ctx)
	}
	return v, err
}

// rebind binds the strategies of what is in service anew, since one can be used
// now that could not.
func (s releases) rebind(ctx context.Context) error {
	current := s.live.Load()
	if current == nil {
		return s.serveCurrentCatalog(ctx)
	}
	next, err := s.newLive(ctx, current.version, current.compiled, nil)
	if err != nil {
		return err
	}
	s.swap(next)
	return nil
}

// ListStrategies lists the modules.
func (s releases) ListStrategies(_ context.Context, req *connect.Request[rapportv1.ListStrategiesRequest]) (*connect.Response[rapportv1.ListStrategiesResponse], error) {
	res := &rapportv1.ListStrategiesResponse{}
	name := ""
	for _, v := range s.strategies.list(req.Msg.GetName()) {
		r := s.strategies.release(v.name)
		res.Strategies = append(res.Strategies, strategyMessage(v, r))
		if v.name != name { // they are by name
			name = v.name
			res.Releases = append(res.Releases, releaseMessage(name, r))
		}
	}
	return connect.NewResponse(res), nil
}

// ReleaseStrategy puts a version into service.
func (s releases) ReleaseStrategy(ctx context.Context, req *connect.Request[rapportv1.ReleaseStrategyRequest]) (*connect.Response[rapportv1.ReleaseStrategyResponse], error) {
	s.changing.Lock()
	defer s.changing.Unlock()
	name := req.Msg.GetName()
	before := s.strategies.release(name)
	v, err := s.strategies.resolve(&catalog.StrategyUse{Name: name, Version: req.Msg.GetVersion()}, before)
	if err != nil {
		return nil, err
	}
	if err := s.fitsSchema(v); err != nil {
		return nil, err
	}
	after, err := releaseOf(req.Msg, before, v.version)
	if err != nil {
		return nil, err
	}
	if err := s.setRelease(ctx, req, "strategy release", name, before, after); err != nil {
		return nil, err
	}
	res := &rapportv1.ReleaseStrategyResponse{
		PreviousVersion: before.Live, Released: strategyMessage(v, after),
		Before: releaseMessage(name, before), After: releaseMessage(name, after),
	}
	if live, err := s.strategies.get(name, after.Live); err == nil {
		res.Live = strategyMessage(live, after)
	}
	return connect.NewResponse(res), nil
}

// fitsSchema returns an error if a version reads what there is not, whether or not some
// scenario names it: its author hears of it now, and not when the catalogue does.
func (s releases) fitsSchema(v *strategyVersion) error {
	l := s.live.Load()
	if l == nil || v.module == nil {
		return nil
	}
	if problems := v.module.Check(l.compiled, &catalog.Scenario{}); len(problems) > 0 {
		return &sandbox.UnfitError{Strategy: v.title(), Problems: problems}
	}
	return nil
}

// releaseOf returns what is in service after a version was released as asked.
func releaseOf(m *rapportv1.ReleaseStrategyRequest, before release, version string) (release, error) {
	if isShare := m.GetStage() == rapportv1.StrategyStage_STRATEGY_STAGE_SHARE; isShare != validShare(m.GetShare()) {
		return before, &argumentError{"share", "at stage SHARE, and only there, give a share in percent, more than 0 and less than 100"}
	}
	switch m.GetStage() {
	case rapportv1.StrategyStage_STRATEGY_STAGE_SHADOW:
		return before.withCandidate(candidate{Version: version, Stage: stageShadow})
	case rapportv1.StrategyStage_STRATEGY_STAGE_SHARE:
		return before.withCandidate(candidate{Version: version, Stage: stageShare, Share: m.GetShare()})
	case rapportv1.StrategyStage_STRATEGY_STAGE_UNSPECIFIED, rapportv1.StrategyStage_STRATEGY_STAGE_LIVE:
	}
	return before.withLive(version), nil
}

// RollbackStrategy takes the last step back.
func (s releases) RollbackStrategy(ctx context.Context, req *connect.Request[rapportv1.RollbackStrategyRequest]) (*connect.Response[rapportv1.RollbackStrategyResponse], error) {
	s.changing.Lock()
	defer s.changing.Unlock()
	name := req.Msg.GetName()
	if len(s.strategies.list(name)) == 0 {
		_, err := s.strategies.get(name, liveVersion) // it says which there are
		return nil, err
	}
	before := s.strategies.release(name)
	after, err := before.rolledBack(func(version string) bool {
		_, err := s.strategies.get(name, version)
		return !errors.Is(err, errStrategyNotFound)
	})
	if err != nil {
		return nil, fmt.Errorf("strategy %s: %w", name, err)
	}
	if after.Live != before.Live {
		if _, err := s.strategies.get(name, after.Live); err != nil {
			return nil, err
		}
	}
	if err := s.setRelease(ctx, req, "strategy rollback", name, before, after); err != nil {
		return nil, err
	}
	return connect.NewResponse(&rapportv1.RollbackStrategyResponse{Before: releaseMessage(name, before), After: releaseMessage(name, after)}), nil
}

// setRelease changes what of a strategy is in service. The order is that of
// PublishCatalog, with the record in it: bind, record, write, swap. The caller
// holds s.changing.
func (s releases) setRelease(ctx context.Context, by asker, action, name string, before, after release) (err error) {
	var next *live
	current := s.live.Load()
	if current != nil && current.follows[name] {
		if next, err = s.newLive(ctx, current.version, current.compiled, map[string]release{name: after}); err != nil {
			return err
		}
	}
	err = s.audit.change(by, action, strategySubject(name), before.String(), after.String(), func() error {
		return s.strategies.setRelease(name, after)
	})
	if err != nil {
		if next != nil {
			err = errors.Join(err, next.close(ctx))
		}
		return err
	}
	if next != nil {
		s.swap(next)
	} else if current == nil {
		// The catalogue may have waited for just this strategy.
		if err := s.serveCurrentCatalog(ctx); err != nil {
			return err
		}
	}
	s.log.Info(action, "name", name, "before", before.String(), "after", after.String(), "by", by.Peer().Addr)
	return nil
}

// strategySubject is what the audit log calls a strategy.
func strategySubject(name string) string { return "strategy/" + name }

// stageMessages are the stages in the API.
var stageMessages = map[stage]rapportv1.StrategyStage{
	stageShadow: rapportv1.StrategyStage_STRATEGY_STAGE_SHADOW,
	stageShare:  rapportv1.StrategyStage_STRATEGY_STAGE_SHARE,
}

func releaseMessage(name string, r release) *rapportv1.StrategyRelease {
	m := &rapportv1.StrategyRelease{Name: name, LiveVersion: r.Live, EarlierVersions: slices.Clone(r.Earlier)}
	slices.Reverse(m.EarlierVersions)
	if c := r.Candidate; c != nil {
		m.CandidateVersion, m.CandidateStage, m.CandidateShare = c.Version, stageMessages[c.Stage], c.Share
	}
	return m
}

func strategyMessage(v *strategyVersion, r release) *rapportv1.Strategy {
	out := &rapportv1.Strategy{
		Name: v.name, Version: v.version, Digest: v.digest, Bytes: int64(v.size),
		Live: r.Live == v.version, Builtin: v.builtin, SignedBy: v.signedBy, Counts: countsMessage(v.counts),
	}
	switch c := r.Candidate; {
	case out.Live:
		out.Stage = rapportv1.StrategyStage_STRATEGY_STAGE_LIVE
	case c != nil && c.Version == v.version:
		out.Stage, out.Share = stageMessages[c.Stage], c.Share
	}
	if !v.uploaded.IsZero() {
		out.UploadedAt = timestamppb.New(v.uploaded.Truncate(time.Millisecond))
	}
	if v.problem != nil {
		out.Problem = v.problem.Error()
		return out
	}
	out.Manifest = manifestMessage(v.module.Manifest())
	if state, until := v.module.Breaker(); state != sandbox.BreakerClosed {
		out.SuspendedUntil = timestamppb.New(until.UTC().Truncate(time.Millisecond))
	}
	return out
}

func manifestMessage(m *sandbox.Manifest) *rapportv1.StrategyManifest {
	out := &rapportv1.StrategyManifest{
		Description: m.Description,
		Profile:     inputMessages(m.Profile), Offer: inputMessages(m.Offer), Channel: inputMessages(m.Channel),
		Reasons: m.Reasons,
	}
	if f := m.Fuel; f != nil {
		out.Fuel = &rapportv1.StrategyFuel{Base: f.Base, PerCandidate: f.PerCandidate}
	}
	for _, column := range m.Candidate {
		out.Candidate = append(out.Candidate, &rapportv1.StrategyInput{Name: column, Type: "number"})
	}
	for _, p := range m.Parameters {
		out.Parameters = append(out.Parameters, &rapportv1.StrategyParameter{Name: p.Name, Default: p.Default, Min: p.Min, Max: p.Max})
	}
	return out
}

func countsMessage(c *counts) *rapportv1.StrategyCounts {
	s := &c.shadow
	return &rapportv1.StrategyCounts{
		Ranked: c.ranked.Load(), Fuel: c.fuel.Load(),
		Busy: c.busy.Load(), Suspended: c.suspended.Load(), Faults: c.faults.get(),
		Shadow: &rapportv1.ShadowCounts{
			Comparisons: s.comparisons.Load(), Dropped: s.dropped.Load(), Suspended: s.suspended.Load(), Faults: s.faults.get(),
			WinnerDiffers: s.winner.Load(), SlateDiffers: s.slate.Load(), ScoreDiffers: s.score.Load(),
		},
	}
}

func inputMessages(inputs []sandbox.Input) []*rapportv1.StrategyInput {
	out := make([]*rapportv1.StrategyInput, len(inputs))
	for i, in := range inputs {
		out[i] = &rapportv1.StrategyInput{Name: in.Name, Type: in.Type}
	}
	return out
}
