package server

import (
	"context"
	"errors"
	"fmt"
	"time"

	"buf.build/go/protovalidate"
	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"rapport/profilestore"
	"rapport/profilestore/journal"
	"rapport/profilestore/reftable"
	"rapport/server/catalog"
	"rapport/server/decisionlog"
	"rapport/server/ledger"
	"rapport/server/sandbox"
)

// errorDomain is the domain of every ErrorInfo.
const errorDomain = "rapport"

// mapping says which code and reason an error has in the API. Reasons are part of
// the API: clients act on them.
type mapping struct {
	is     func(error) bool
	code   connect.Code
	reason string
}

func sentinel(target error) func(error) bool {
	return func(err error) bool { return errors.Is(err, target) }
}

func kind[T error]() func(error) bool {
	return func(err error) bool {
		var target T
		return errors.As(err, &target)
	}
}

// mappings is the one table from errors of the rooms to errors of the API. The
// first that fits decides.
var mappings = []mapping{
	{sentinel(errOverloaded), connect.CodeResourceExhausted, "OVERLOADED"},
	{sentinel(errNoCatalog), connect.CodeFailedPrecondition, "NO_CATALOG"},
	{sentinel(errTouchpointNotFound), connect.CodeNotFound, "TOUCHPOINT_NOT_FOUND"},
	{sentinel(errNoDecisionLog), connect.CodeFailedPrecondition, "NO_DECISION_LOG"},
	{sentinel(errNoDecisionOf), connect.CodeNotFound, "DECISION_NOT_FOUND"},
	{kind[*decisionlog.NotFoundError](), connect.CodeNotFound, "DECISION_NOT_FOUND"},
	{kind[*decisionlog.InexactError](), connect.CodeFailedPrecondition, "NOT_REPLAYABLE"},
	{kind[*noCaseError](), connect.CodeFailedPrecondition, "NO_CASE"},
	{kind[*argumentError](), connect.CodeInvalidArgument, "INVALID_ARGUMENT"},
	{sentinel(errCountRunning), connect.CodeResourceExhausted, "COUNT_RUNNING"},
	{sentinel(errSimulationRunning), connect.CodeResourceExhausted, "SIMULATION_RUNNING"},
	{sentinel(profilestore.ErrWalkOvertaken), connect.CodeAborted, "COUNT_OVERTAKEN"},
	{sentinel(errStopping), connect.CodeUnavailable, "STOPPING"},
	{sentinel(errLoopbackOnly), connect.CodePermissionDenied, "LOOPBACK_ONLY"},
	{sentinel(errRevealForbidden), connect.CodePermissionDenied, "REVEAL_FORBIDDEN"},
	{sentinel(errAuditFailed), connect.CodeUnavailable, "AUDIT_FAILED"},
	{sentinel(errStrategyUnavailable), connect.CodeFailedPrecondition, "STRATEGY_UNAVAILABLE"},
	{sentinel(errUnsigned), connect.CodePermissionDenied, "STRATEGY_UNSIGNED"},
	{sentinel(errSignatureInvalid), connect.CodePermissionDenied, "STRATEGY_SIGNATURE_INVALID"},
	{sentinel(errStrategyIsLive), connect.CodeFailedPrecondition, "STRATEGY_IS_LIVE"},
	{sentinel(errNoEarlierStrategy), connect.CodeFailedPrecondition, "NO_EARLIER_STRATEGY"},
	{sentinel(errStrategyNotFound), connect.CodeNotFound, "STRATEGY_NOT_FOUND"},
	{sentinel(errVersionTaken), connect.CodeAlreadyExists, "STRATEGY_VERSION_TAKEN"},
	{kind[*sandbox.UnfitError](), connect.CodeFailedPrecondition, "STRATEGY_UNFIT"},
	{kind[*sandbox.InvalidError](), connect.CodeInvalidArgument, "STRATEGY_INVALID"},
	{sentinel(errCompilerFailed), connect.CodeUnavailable, "COMPILER_FAILED"},
	{sentinel(catalog.ErrVersionNotFound), connect.CodeNotFound, "CATALOG_NOT_FOUND"},
	{sentinel(catalog.ErrVersionDamaged), connect.CodeDataLoss, "CATALOG_DAMAGED"},
	{sentinel(profilestore.ErrSnapshotNotFound), connect.CodeNotFound, "SNAPSHOT_NOT_FOUND"},
	{sentinel(profilestore.ErrSnapshotUnfit), connect.CodeFailedPrecondition, "SNAPSHOT_UNFIT"},
	{sentinel(profilestore.ErrSnapshotInUse), connect.CodeFailedPrecondition, "SNAPSHOT_IN_USE"},
	{sentinel(profilestore.ErrSnapshotPruned), connect.CodeFailedPrecondition, "SNAPSHOT_TOO_OLD"},
	{sentinel(profilestore.ErrSnapshotDamaged), connect.CodeDataLoss, "SNAPSHOT_DAMAGED"},
	{sentinel(profilestore.ErrNoEarlierSnapshot), connect.CodeFailedPrecondition, "NO_EARLIER_SNAPSHOT"},
	{sentinel(reftable.ErrNotFound), connect.CodeNotFound, "TABLE_NOT_FOUND"},
	{sentinel(reftable.ErrDamaged), connect.CodeDataLoss, "TABLE_DAMAGED"},
	{sentinel(reftable.ErrNoEarlier), connect.CodeFailedPrecondition, "NO_EARLIER_TABLE"},
	{sentinel(profilestore.ErrClosed), connect.CodeUnavailable, "CLOSING"},
	{sentinel(ledger.ErrClosed), connect.CodeUnavailable, "CLOSING"},
	{sentinel(ledger.ErrUnavailable), connect.CodeUnavailable, "LEDGER_FAILED"},
	{sentinel(errJournalFailed), connect.CodeUnavailable, "JOURNAL_FAILED"},
	{sentinel(context.DeadlineExceeded), connect.CodeDeadlineExceeded, "DEADLINE_EXCEEDED"},
	{sentinel(context.Canceled), connect.CodeCanceled, "CANCELED"},
}

// linkReasons are the reasons of changes of identities that are refused. They are
// in the results of a batch, not in errors of the API, for one that is refused does
// not stop the others.
var linkReasons = map[profilestore.LinkErrorKind]string{
	profilestore.LinkInvalid:       "LINK_INVALID",
	profilestore.LinkBlocked:       "LINK_BLOCKED",
	profilestore.LinkGroupFull:     "LINK_GROUP_FULL",
	profilestore.LinkNamespaceFull: "LINK_NAMESPACE_FULL",
	profilestore.LinkWeak:          "LINK_WEAK",
	profilestore.LinkSeparated:     "LINK_SEPARATED",
	profilestore.LinkHolding:       "LINK_HOLDING",
	profilestore.LinkTooMany:       "LINK_TOO_MANY",
	profilestore.LinkNotLinked:     "LINK_NOT_LINKED",
	profilestore.LinkJoined:        "LINK_JOINED",
}

// linkReason returns the reason for which a change of identities was refused.
func linkReason(err error) string {
	if _, ok := errors.AsType[*undeclaredError](err); ok {
		return "LINK_NAMESPACE_UNKNOWN"
	}
	if e, ok := errors.AsType[*profilestore.LinkError](err); ok {
		if reason, ok := linkReasons[e.Kind]; ok {
			return reason
		}
	}
	return "LINK_INVALID"
}

// errJournalFailed is what callers are told when no more events are taken.
var errJournalFailed = errors.New("events can't be made durable: the server takes none until it is restarted; send these again then")

// errCompilerFailed is what callers are told when no strategy can be compiled.
var errCompilerFailed = errors.New("strategies can't be compiled on this server now: its log says why")

// argumentError is a request that no proto constraint could have caught.
type argumentError struct{ field, message string }

func (e *argumentError) Error() string { return e.field + ": " + e.message }

// apiError returns the error that the API gives for err: its code, an ErrorInfo
// with the reason, and what else helps. Errors that are none of the table's are
// INTERNAL: their text is for the log, not for callers, who could learn of
// folders and other customers from it.
func apiError(err error) *connect.Error {
	if already, ok := errors.AsType[*connect.Error](err); ok {
		return withReason(already)
	}
	if errors.Is(err, journal.ErrFailed) || errors.Is(err, profilestore.ErrStopped) {
		err = errJournalFailed // what stands in the error, folders among it, is in the log
	}
	if errors.Is(err, sandbox.ErrCompiler) {
		err = errCompilerFailed // likewise
	}
	for _, m := range mappings {
		if !m.is(err) {
			continue
		}
		e := connect.NewError(m.code, err)
		addDetail(e, &errdetails.ErrorInfo{Reason: m.reason, Domain: errorDomain})
		if argument, ok := errors.AsType[*argumentError](err); ok {
			addDetail(e, &errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{{Field: argument.field, Description: argument.message}}})
		}
		if errors.Is(err, errOverloaded) {
			e.Meta().Set("Retry-After", "1")
			addDetail(e, &errdetails.RetryInfo{RetryDelay: durationpb.New(retryAfter)})
		}
		return e
	}
	e := connect.NewError(connect.CodeInternal, errors.New("internal error: see the server's log"))
	addDetail(e, &errdetails.ErrorInfo{Reason: "INTERNAL", Domain: errorDomain})
	return e
}

// withReason gives an error of Connect's own, or of a message that breaks its
// constraints, the reason and the violations that every error of the API has.
func withReason(e *connect.Error) *connect.Error {
	invalid, ok := errors.AsType[*protovalidate.ValidationError](e)
	if !ok {
		return e
	}
	addDetail(e, &errdetails.ErrorInfo{Reason: "INVALID_ARGUMENT", Domain: errorDomain})
	bad := &errdetails.BadRequest{}
	for _, v := range invalid.Violations {
		bad.FieldViolations = append(bad.FieldViolations, &errdetails.BadRequest_FieldViolation{
			Field: protovalidate.FieldPathString(v.Proto.GetField()), Description: v.Proto.GetMessage(),
		})
	}
	addDetail(e, bad)
	return e
}

// catalogError returns the error of a catalogue that can't be published.
func catalogError(problems []catalog.Problem) *connect.Error {
	e := connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("the catalogue has %d mistakes and was not published; the first: %s", len(problems), problems[0]))
	addDetail(e, &errdetails.ErrorInfo{Reason: "CATALOG_INVALID", Domain: errorDomain})
	bad := &errdetails.BadRequest{}
	for _, p := range problems[:min(len(problems), maxProblems)] {
		bad.FieldViolations = append(bad.FieldViolations, &errdetails.BadRequest_FieldViolation{Field: p.Path, Description: p.String()})
	}
	addDetail(e, bad)
	return e
}

// maxProblems bounds what an error carries: response headers hold it for gRPC.
const maxProblems = 100

func addDetail(e *connect.Error, m proto.Message) {
	if d, err := connect.NewErrorDetail(m); err == nil {
		e.AddDetail(d)
	}
}

// errorInterceptor turns the errors of handlers into errors of the API and logs
// those that are ours.
func (s *Server) errorInterceptor() connect.UnaryInterceptorFunc {
	return func(next connect.UnaryFunc) connect.UnaryFunc {
		return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
			started := time.Now()
			res, err := next(ctx, req)
			if err == nil {
				return res, nil
			}
			e := apiError(err)
			s.metrics.errors.WithLabelValues(req.Spec().Procedure, e.Code().String()).Inc()
			if e.Code() == connect.CodeInternal || e.Code() == connect.CodeDataLoss || errors.Is(err, journal.ErrFailed) || errors.Is(err, sandbox.ErrCompiler) {
				s.log.Error("request failed", "procedure", req.Spec().Procedure, "error", err, "took", time.Since(started))
			}
			return nil, e
		}
	}
}

// streamError does for the end of a stream, nil for a good one, what the interceptor
// does for unary calls, which are all that it sees.
func (s *Server) streamError(procedure string, err error) error {
	if err == nil {
		return nil
	}
	e := apiError(err)
	s.metrics.errors.WithLabelValues(procedure, e.Code().String()).Inc()
	if e.Code() == connect.CodeInternal || e.Code() == connect.CodeDataLoss {
		s.log.Error("request failed", "procedure", procedure, "error", err)
	}
	return e
}
