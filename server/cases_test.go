package server_test

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"connectrpc.com/connect"

	rapportv1 "rapport/server/api/rapport/v1"
	"rapport/server/sandbox/abitest/faulty"
	"rapport/server/sandbox/trial"
)

// readsName is a strategy that reads the field general.name, a text.
func readsName(t *testing.T) []byte {
	t.Helper()
	f, ok := faulty.Get("long city")
	if !ok {
		t.Fatal("no such strategy")
	}
	return bytes.ReplaceAll(f.Wasm, []byte("general.city"), []byte("general.name"))
}

// A case of a decision has what the strategy reads, and no personal data.
func TestDecisionCase(t *testing.T) {
	h := newExplained(t)
	ctx := context.Background()
	d := h.decide(t, "1", "web.home")
	get := func(m *rapportv1.GetDecisionCaseRequest) (*rapportv1.GetDecisionCaseResponse, error) {
		r, err := h.decisions().GetDecisionCase(ctx, connect.NewRequest(m))
		if err != nil {
			return nil, err
		}
		return r.Msg, nil
	}
	own, err := get(&rapportv1.GetDecisionCaseRequest{DecisionId: d.GetDecisionId()})
	if err != nil {
		t.Fatal(err)
	}
	c, err := trial.Read("own.yaml", []byte(own.GetContent()))
	if err != nil || own.GetTouchpoint() != "web.home" || c.Expect == nil || len(c.Candidates) != len(c.Expect.Candidates) || c.Seed != d.GetSeed() {
		t.Errorf("%v:\n%s", err, own.GetContent())
	}
	for _, p := range d.GetSlate() {
		if !strings.Contains(own.GetContent(), "id: "+p.GetOffer()) {
			t.Errorf("%s is not in the case", p.GetOffer())
		}
	}
	guest, err := get(&rapportv1.GetDecisionCaseRequest{DecisionId: d.GetDecisionId(), Module: readsName(t)})
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(guest.GetContent(), "Xiaolong") || len(guest.GetHidden()) != 1 || !strings.Contains(guest.GetContent(), "general.name") || strings.Contains(guest.GetContent(), "expect:") {
		t.Errorf("hidden %v:\n%s", guest.GetHidden(), guest.GetContent())
	}
	for _, bad := range []struct {
		m    *rapportv1.GetDecisionCaseRequest
		code connect.Code
		want string
	}{
		{&rapportv1.GetDecisionCaseRequest{DecisionId: "01ARZ3NDEKTSV4RRFFQ69G5FAV"}, connect.CodeNotFound, ""},
		{&rapportv1.GetDecisionCaseRequest{DecisionId: "x"}, connect.CodeInvalidArgument, ""},
		{&rapportv1.GetDecisionCaseRequest{DecisionId: d.GetDecisionId(), Touchpoint: "sms.push"}, connect.CodeFailedPrecondition, "nothing was ranked there"},
		{&rapportv1.GetDecisionCaseRequest{DecisionId: d.GetDecisionId(), Reveal: true}, connect.CodePermissionDenied, "reveal"},
		{&rapportv1.GetDecisionCaseRequest{DecisionId: d.GetDecisionId(), Module: []byte("x")}, connect.CodeInvalidArgument, "invalid strategy module"},
	} {
		if _, err := get(bad.m); connect.CodeOf(err) != bad.code || !strings.Contains(err.Error(), bad.want) {
			t.Errorf("%v: %v, want %s with %q", bad.m, err, bad.code, bad.want)
		}
	}
}

// A replay with a module that is not kept ranks in the place that is asked for, and
// leaves nothing.
func TestReplayWithModule(t *testing.T) {
	h := newExplained(t)
	h.decide(t, "1", "web.home")
	h.decide(t, "2", "web.home")
	replay := func(m *rapportv1.ReplayDecisionsRequest) (*rapportv1.ReplaySummary, error) {
		stream, err := h.decisions().ReplayDecisions(context.Background(), connect.NewRequest(m))
		if err != nil {
			return nil, err
		}
		defer func() { _ = stream.Close() }()
		var s *rapportv1.ReplaySummary
		for stream.Receive() {
			s = stream.Msg().GetSummary()
		}
		return s, stream.Err()
	}
	for _, test := range []struct {
		insteadOf            string
		identical, different int64
	}{{"", 2, 0}, {"pvcl", 0, 2}, {"builtin", 2, 0}} {
		s, err := replay(&rapportv1.ReplayDecisionsRequest{Module: faulty.Good(), InsteadOf: test.insteadOf})
		if err != nil || s.GetIdentical() != test.identical || s.GetDifferent() != test.different {
			t.Errorf("instead of %q: %v, %v", test.insteadOf, s, err)
		}
	}
	for want, m := range map[string]*rapportv1.ReplayDecisionsRequest{
		"a module is given too":      {Module: faulty.Good(), Strategy: "pvcl"},
		"nothing is given to rank":   {InsteadOf: "pvcl"},
		"invalid strategy module":    {Module: []byte("x")},
		"no such strategy: \"nosuch": {Strategy: "nosuch"},
	} {
		if _, err := replay(m); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	r, err := h.strategies().ListStrategies(context.Background(), connect.NewRequest(&rapportv1.ListStrategiesRequest{}))
	if err != nil || len(r.Msg.GetStrategies()) != 1 {
		t.Errorf("strategies %v, %v", r, err)
	}
}
