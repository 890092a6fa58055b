package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
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

// errLoopbackOnly is given to uploads from elsewhere: until modules are metered,
// one that never ends is not stopped, so only the machine's own people may bring
// any.
var errLoopbackOnly = errors.New("strategies are taken from the server's own machine only")

// loopbackOnly refuses uploads from elsewhere before any of the module is read. A
// proxy on this machine makes everybody look local, so what has come through one
// is refused too.
func loopbackOnly(ctx context.Context, spec connect.Spec, peer connect.Peer, header http.Header) (context.Context, error) {
	if spec.Procedure != rapportv1connect.StrategyServiceUploadStrategyProcedure {
		return ctx, nil
	}
	if host, _, err := net.SplitHostPort(peer.Addr); err != nil || !isLoopback(host) {
		return nil, apiError(fmt.Errorf("%w: %s is not loopback", errLoopbackOnly, peer.Addr))
	}
	for _, name := range []string{"Forwarded", "X-Forwarded-For", "Via"} {
		if header.Get(name) != "" {
			return nil, apiError(fmt.Errorf("%w: this one came through a proxy", errLoopbackOnly))
		}
	}
	return ctx, nil
}

// UploadStrategy checks a module and keeps it.
func (s releases) UploadStrategy(ctx context.Context, req *connect.Request[rapportv1.UploadStrategyRequest]) (*connect.Response[rapportv1.UploadStrategyResponse], error) {
	v, err := s.strategies.upload(ctx, req.Msg.GetModule())
	if err != nil {
		return nil, err
	}
	_, live := s.strategies.list(v.module.Manifest().Name)
	s.log.Info("strategy uploaded", "name", v.module.Manifest().Name, "version", v.module.Manifest().Version, "digest", v.module.Digest(), "by", req.Peer().Addr)
	return connect.NewResponse(&rapportv1.UploadStrategyResponse{Strategy: strategyMessage(v, live)}), nil
}

// ListStrategies lists the modules.
func (s releases) ListStrategies(_ context.Context, req *connect.Request[rapportv1.ListStrategiesRequest]) (*connect.Response[rapportv1.ListStrategiesResponse], error) {
	versions, live := s.strategies.list(req.Msg.GetName())
	res := &rapportv1.ListStrategiesResponse{}
	for _, v := range versions {
		res.Strategies = append(res.Strategies, strategyMessage(v, live))
	}
	return connect.NewResponse(res), nil
}

// ReleaseStrategy makes a version the live one. The order is that of
// PublishCatalog: bind, write, swap.
func (s releases) ReleaseStrategy(ctx context.Context, req *connect.Request[rapportv1.ReleaseStrategyRequest]) (*connect.Response[rapportv1.ReleaseStrategyResponse], error) {
	s.changing.Lock()
	defer s.changing.Unlock()
	name, version := req.Msg.GetName(), req.Msg.GetVersion()
	v, err := s.strategies.resolve(&catalog.StrategyUse{Name: name, Version: version}, nil)
	if err != nil {
		return nil, err
	}
	version = v.module.Manifest().Version
	var next *live
	if current := s.live.Load(); current != nil {
		if _, uses := current.used[name]; uses {
			if next, err = s.newLive(ctx, current.version, current.compiled, map[string]string{name: version}); err != nil {
				return nil, err
			}
		}
	}
	previous, err := s.strategies.setLive(name, version)
	if err != nil {
		if next != nil {
			err = errors.Join(err, next.close(ctx))
		}
		return nil, err
	}
	if next != nil {
		s.swap(next)
	} else if s.live.Load() == nil {
		// The catalogue may have waited for just this strategy.
		if err := s.serveCurrentCatalog(ctx); err != nil {
			return nil, err
		}
	}
	s.log.Info("strategy released", "name", name, "version", version, "before", previous, "by", req.Peer().Addr)
	_, live := s.strategies.list(name)
	return connect.NewResponse(&rapportv1.ReleaseStrategyResponse{Live: strategyMessage(v, live), PreviousVersion: previous}), nil
}

func strategyMessage(v *strategyVersion, live map[string]string) *rapportv1.Strategy {
	m := v.module.Manifest()
	out := &rapportv1.Strategy{
		Name: m.Name, Version: m.Version, Digest: v.module.Digest(), Bytes: int64(v.size),
		Live: live[m.Name] == m.Version, Builtin: v.builtin(),
		Manifest: &rapportv1.StrategyManifest{
			Description: m.Description,
			Profile:     inputMessages(m.Profile), Offer: inputMessages(m.Offer), Channel: inputMessages(m.Channel),
			Reasons: m.Reasons,
		},
	}
	for _, column := range m.Candidate {
		out.Manifest.Candidate = append(out.Manifest.Candidate, &rapportv1.StrategyInput{Name: column, Type: "number"})
	}
	for _, p := range m.Parameters {
		out.Manifest.Parameters = append(out.Manifest.Parameters, &rapportv1.StrategyParameter{Name: p.Name, Default: p.Default, Min: p.Min, Max: p.Max})
	}
	if !v.builtin() {
		out.UploadedAt = timestamppb.New(v.uploaded.Truncate(time.Millisecond))
	}
	return out
}

func inputMessages(inputs []sandbox.Input) []*rapportv1.StrategyInput {
	out := make([]*rapportv1.StrategyInput, len(inputs))
	for i, in := range inputs {
		out[i] = &rapportv1.StrategyInput{Name: in.Name, Type: in.Type}
	}
	return out
}
