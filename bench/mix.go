package bench

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"rapport/bench/traffic"
	rapportv1 "rapport/server/api/rapport/v1"
	"rapport/server/api/rapport/v1/rapportv1connect"
)

// The kinds of requests of a mix, in the order of its shares.
const (
	mixDecide = iota
	mixEvent
	mixOutcome
)

// mixShares: for ten decisions two events and one outcome, each in a request of its own.
var mixShares = []float64{10, 2, 1}

var mixNames = []string{"decisions", "events", "outcomes"}

// mix is what a server is asked in earnest: decisions about customers of whom some come
// far more often than others, outcomes of what was offered, and events.
type mix struct {
	*caller

	profiles rapportv1connect.ProfileServiceClient
	tokens   []string // by worker: of an offer whose outcome nobody has told
	events   atomic.Int64
	reports  string // the outcome that is reported
	run      string // tells this mix's events from those of others
}

func newMix(url string, workers, customers int, seed uint64) *mix {
	m := &mix{caller: newCaller(url, protocols()[0], workers, customers), tokens: make([]string, workers), reports: "presented"}
	m.skew(workers, seed)
	m.profiles = rapportv1connect.NewProfileServiceClient(m.transport.client(), url)
	m.run = strconv.FormatInt(time.Now().UnixNano(), 36)
	return m
}

// call is a traffic.Call.
func (m *mix) call(ctx context.Context, r traffic.Request) error {
	ctx, cancel := context.WithTimeout(ctx, m.timeout)
	defer cancel()
	switch r.Kind {
	case mixEvent:
		return m.event(ctx, r)
	case mixOutcome:
		if token := m.tokens[r.Worker]; token != "" {
			m.tokens[r.Worker] = ""
			return m.outcome(ctx, token)
		}
	}
	res, err := m.client.Decide(ctx, connect.NewRequest(&rapportv1.DecideRequest{Customer: m.customer(r), Touchpoint: m.touchpoint}))
	if err != nil {
		return refusal(err)
	}
	m.decided(r, res)
	for _, p := range res.Msg.GetSlate() {
		m.tokens[r.Worker] = p.GetToken()
	}
	return nil
}

func (m *mix) outcome(ctx context.Context, token string) error {
	res, err := m.client.RecordOutcomes(ctx, connect.NewRequest(&rapportv1.RecordOutcomesRequest{Reports: []*rapportv1.OutcomeReport{{Token: token, Outcome: m.reports}}}))
	if err != nil {
		return refusal(err)
	}
	if n := len(res.Msg.GetRefused()); n > 0 {
		return errors.New(res.Msg.GetRefused()[0].GetMessage())
	}
	return nil
}

func (m *mix) event(ctx context.Context, r traffic.Request) error {
	attributes, err := structpb.NewStruct(map[string]any{"mb": float64(r.Number%4000) / 8})
	if err != nil {
		return err
	}
	res, err := m.profiles.IngestEvents(ctx, connect.NewRequest(&rapportv1.IngestEventsRequest{Events: []*rapportv1.Event{{
		Id: fmt.Sprintf("%s-%d", m.run, m.events.Add(1)), Type: "data", Identity: m.customer(r), Time: timestamppb.Now(), Attributes: attributes,
	}}}))
	if err != nil {
		return refusal(err)
	}
	if n := len(res.Msg.GetRefused()); n > 0 {
		return errors.New(res.Msg.GetRefused()[0].GetMessage())
	}
	return nil
}
