package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"connectrpc.com/connect"
	"connectrpc.com/grpchealth"
	"connectrpc.com/grpcreflect"
	"connectrpc.com/validate"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"rapport/server/api/rapport/v1/rapportv1connect"
)

const (
	maxQuestionBytes = 64 << 10 // of what names things: decisions, profiles, snapshots
	maxRequestBytes  = 4 << 20  // of events and outcomes, of lists of customers, and of schemas
	maxUploadBytes   = 32 << 20 // of catalogues and modules: base64 in JSON needs a third more than the module
)

// newHandler mounts the API, health, reflection, metrics and the probes.
func (s *Server) newHandler() http.Handler {
	mux := http.NewServeMux()
	options := func(maxBytes int) connect.HandlerOption {
		return connect.WithHandlerOptions(append(codecs(),
			connect.WithReadMaxBytes(maxBytes),
			// A compressed megabyte costs 0.2 s of processor time before any
			// limit can refuse it.
			connect.WithCompression("gzip", nil, nil),
			connect.WithRequestGate(loopbackOnly),
			// The order is from the outside in: what a panic becomes is an error
			// like any other.
			connect.WithInterceptors(s.errorInterceptor()),
			connect.WithRecover(s.recovered),
			connect.WithInterceptors(validate.NewInterceptor()),
		)...)
	}
	mount := func(path string, h http.Handler) { mux.Handle(path, h) }
	path, decide := rapportv1connect.NewDecisionServiceHandler(decisions{s}, options(maxQuestionBytes), connect.WithConditionalHandlerOptions(func(spec connect.Spec) []connect.HandlerOption {
		switch spec.Procedure {
		case rapportv1connect.DecisionServiceRecordOutcomesProcedure, rapportv1connect.DecisionServiceDecideStreamProcedure:
			return []connect.HandlerOption{connect.WithReadMaxBytes(maxRequestBytes)}
		case rapportv1connect.DecisionServiceSimulateProcedure, rapportv1connect.DecisionServiceReplayDecisionsProcedure, rapportv1connect.DecisionServiceGetDecisionCaseProcedure: // they may bring a module
			return []connect.HandlerOption{connect.WithReadMaxBytes(maxUploadBytes)}
		}
		return nil
	}))
	decide = withoutDeadline(rapportv1connect.DecisionServiceSimulateProcedure, decide)
	decide = withoutDeadline(rapportv1connect.DecisionServiceReplayDecisionsProcedure, decide)
	mount(path, withoutDeadline(rapportv1connect.DecisionServiceDecideStreamProcedure, decide))
	mount(rapportv1connect.NewProfileServiceHandler(profiles{s}, options(maxRequestBytes)))
	path, snapshotService := rapportv1connect.NewSnapshotServiceHandler(snapshots{s}, options(maxQuestionBytes))
	mount(path, withoutDeadline(rapportv1connect.SnapshotServiceVerifySnapshotProcedure, snapshotService))
	mount(rapportv1connect.NewTableServiceHandler(tables{s}, options(maxQuestionBytes)))
	path, register := rapportv1connect.NewRegisterServiceHandler(registers{s}, options(maxRequestBytes))
	mount(path, withoutDeadline(rapportv1connect.RegisterServiceCountSegmentsProcedure, register))
	mount(rapportv1connect.NewCatalogServiceHandler(catalogs{s}, options(maxUploadBytes)))
	mount(rapportv1connect.NewStrategyServiceHandler(releases{s}, options(maxUploadBytes)))
	mount(rapportv1connect.NewAuditServiceHandler(audits{s}, options(maxQuestionBytes)))
	mount(rapportv1connect.NewReadingServiceHandler(readings{s}, options(maxQuestionBytes)))

	services := []string{
		rapportv1connect.DecisionServiceName, rapportv1connect.ProfileServiceName, rapportv1connect.SnapshotServiceName,
		rapportv1connect.CatalogServiceName, rapportv1connect.StrategyServiceName,
		rapportv1connect.AuditServiceName, rapportv1connect.TableServiceName, rapportv1connect.RegisterServiceName,
		rapportv1connect.ReadingServiceName,
	}
	reflector := grpcreflect.NewStaticReflector(services...)
	limit := connect.WithReadMaxBytes(maxQuestionBytes)
	noCompression := connect.WithCompression("gzip", nil, nil)
	mount(grpcreflect.NewHandlerV1(reflector, limit, noCompression))
	mount(grpcreflect.NewHandlerV1Alpha(reflector, limit, noCompression))
	mount(grpchealth.NewHandler(healthChecker{s, services}, limit, noCompression))

	mux.Handle("GET /metrics", promhttp.HandlerFor(s.metrics.registry, promhttp.HandlerOpts{Registry: s.metrics.registry}))
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { writeText(w, http.StatusOK, "ok\n") })
	mux.HandleFunc("GET /readyz", s.serveReady)
	mux.HandleFunc("GET /{$}", s.serveRoot)
	return mux
}

// withoutDeadline lifts the server's timeouts from one procedure, whose answer is a
// stream that may take long. Who asks can end it at any time.
func withoutDeadline(procedure string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == procedure {
			control := http.NewResponseController(w)
			_ = control.SetReadDeadline(time.Time{}) // not supported in this process, where there is none
			_ = control.SetWriteDeadline(time.Time{})
		}
		next.ServeHTTP(w, r)
	})
}

// recovered answers for a handler that panicked.
func (s *Server) recovered(_ context.Context, spec connect.Spec, _ http.Header, p any) error {
	return fmt.Errorf("%s: panic: %v\n%s", spec.Procedure, p, debug.Stack())
}

// serveReady answers 200 when the server is ready, which snapshots are stale, and what
// was found damaged; else
// 503 and what is not ready.
func (s *Server) serveReady(w http.ResponseWriter, _ *http.Request) {
	if reasons := s.notReady(); len(reasons) > 0 {
		writeText(w, http.StatusServiceUnavailable, "not ready\n"+strings.Join(reasons, "\n")+"\n")
		return
	}
	// A source that is late or damaged is no reason to send callers elsewhere.
	lines := append([]string{"ready"}, s.stale()...)
	writeText(w, http.StatusOK, strings.Join(append(lines, s.damage()...), "\n")+"\n")
}

// serveRoot tells a person with a browser what this is.
func (s *Server) serveRoot(w http.ResponseWriter, _ *http.Request) {
	writeText(w, http.StatusOK, "Rapport "+s.config.Version+", a decision server. The API is at /rapport.v1.DecisionService/Decide and its neighbours;\n/readyz, /livez and /metrics are for operators.\n")
}

func writeText(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text)) // the client may be gone
}

// healthChecker answers the gRPC health protocol from readiness.
type healthChecker struct {
	s        *Server
	services []string
}

// Check returns the status of a service, or of the server if none is named.
func (h healthChecker) Check(_ context.Context, req *grpchealth.CheckRequest) (*grpchealth.CheckResponse, error) {
	if req.Service != "" {
		known := false
		for _, name := range h.services {
			known = known || name == req.Service
		}
		if !known {
			return nil, connect.NewError(connect.CodeNotFound, errors.New("unknown service "+req.Service))
		}
	}
	if len(h.s.notReady()) > 0 {
		return &grpchealth.CheckResponse{Status: grpchealth.StatusNotServing}, nil
	}
	return &grpchealth.CheckResponse{Status: grpchealth.StatusServing}, nil
}
