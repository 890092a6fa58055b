package crashtest_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	rapportv1 "rapport/server/api/rapport/v1"
)

// decide asks for a decision, and remembers it for the decision log.
func (w *world) decide(ctx context.Context, customer, touchpoint string) (*rapportv1.DecideResponse, fate, error) {
	var res *connect.Response[rapportv1.DecideResponse]
	f, err := w.call("decide", func() (err error) {
		res, err = w.api.decisions.Decide(ctx, connect.NewRequest(&rapportv1.DecideRequest{Customer: customer, Touchpoint: touchpoint}))
		return err
	}, connect.CodeResourceExhausted, connect.CodeFailedPrecondition) // overload; no catalogue yet
	if err != nil || f != acknowledged {
		return nil, f, err
	}
	if w.struck.Load() && w.disk.losesUnsynced() { // it may be one of a server whose disk has ended before it
		return nil, inDoubt, nil
	}
	w.tally.saw("decisions", 1)
	return res.Msg, f, nil
}

// outcomeLane asks for decisions and reports what came of them, some of it twice.
type outcomeLane struct {
	w         *world
	customers []*outcomeCustomer
}

// outcomeCustomer has one decision and one outcome.
type outcomeCustomer struct {
	name    string
	report  *rapportv1.OutcomeReport
	state   fate
	decided decided
}

// decided is a decision for the decision log.
type decided struct {
	id     string
	at     time.Time
	logged bool // it has been found in the log
}

func (l *outcomeLane) step(ctx context.Context, r *rand.Rand) error {
	wait(time.Duration(r.IntN(3000)) * time.Microsecond)
	c := &outcomeCustomer{name: fmt.Sprintf("customer:o-%d", len(l.customers)), state: refused}
	d, f, err := l.w.decide(ctx, c.name, "web.home")
	if err != nil || f == inDoubt {
		return err
	}
	if f == refused {
		wait(5 * time.Millisecond)
		return nil
	}
	if len(d.GetSlate()) == 0 {
		return fmt.Errorf("an empty slate for %s: %v", c.name, d)
	}
	l.customers = append(l.customers, c)
	c.decided = decided{id: d.GetDecisionId(), at: time.Now()}
	if r.IntN(4) == 0 {
		return nil
	}
	c.report = &rapportv1.OutcomeReport{Token: d.GetSlate()[0].GetToken(), Outcome: "accepted", Time: timestamppb.Now()}
	res, f, err := l.w.report(ctx, c.report)
	if c.state = f; err != nil || f != acknowledged {
		return err
	}
	if res.GetAccepted() != 1 {
		return fmt.Errorf("the outcome of %s was not taken: %v", c.name, res)
	}
	if r.IntN(3) == 0 {
		res, f, err := l.w.report(ctx, c.report)
		if err != nil || f == inDoubt { // it was acknowledged before
			return err
		}
		if res.GetDuplicates() != 1 {
			return fmt.Errorf("the outcome of %s was reported twice: %v", c.name, res)
		}
	}
	return nil
}

// report reports an outcome.
func (w *world) report(ctx context.Context, o *rapportv1.OutcomeReport) (*rapportv1.RecordOutcomesResponse, fate, error) {
	var res *connect.Response[rapportv1.RecordOutcomesResponse]
	f, err := w.call("outcome", func() (err error) {
		res, err = w.api.decisions.RecordOutcomes(ctx, connect.NewRequest(&rapportv1.RecordOutcomesRequest{Reports: []*rapportv1.OutcomeReport{o}}))
		return err
	})
	if res == nil {
		return nil, f, err
	}
	return res.Msg, f, err
}

func (l *outcomeLane) check(ctx context.Context, r *rand.Rand) error {
	for i, c := range l.customers {
		if c.state != inDoubt && i < len(l.customers)-3 && r.IntN(len(l.customers)) >= 5 {
			continue
		}
		if err := l.checkCustomer(ctx, c); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
	}
	return l.checkLog(ctx)
}

// checkCustomer counts what the customer's timeline has, and reports again what was in
// doubt.
func (l *outcomeLane) checkCustomer(ctx context.Context, c *outcomeCustomer) error {
	there, err := l.count(ctx, c)
	if err != nil {
		return err
	}
	switch {
	case c.state == acknowledged && there != 1:
		return fmt.Errorf("the outcome was acknowledged and is there %d times", there)
	case c.state == refused && there != 0:
		return fmt.Errorf("there are %d outcomes, and none was reported", there)
	case c.state != inDoubt:
		return nil
	}
	l.w.tally.settled("outcome", there == 1)
	res, _, err := l.w.report(ctx, c.report)
	if err != nil {
		return err
	}
	if int(res.GetDuplicates()) != there || res.GetAccepted()+res.GetDuplicates() != 1 {
		return fmt.Errorf("%d outcomes were there, and when it was reported again: %v", there, res)
	}
	c.state = acknowledged
	there, err = l.count(ctx, c)
	if err == nil && there != 1 {
		err = fmt.Errorf("the outcome was reported again and is there %d times", there)
	}
	return err
}

// count returns how many outcomes a customer has. There are as many contacts.
func (l *outcomeLane) count(ctx context.Context, c *outcomeCustomer) (int, error) {
	res, err := l.w.api.profiles.GetTimeline(ctx, connect.NewRequest(&rapportv1.GetTimelineRequest{Customer: c.name}))
	if err != nil {
		return 0, err
	}
	if res.Msg.GetContacts() != res.Msg.GetOutcomes() {
		return 0, fmt.Errorf("%d contacts and %d outcomes", res.Msg.GetContacts(), res.Msg.GetOutcomes())
	}
	return int(res.Msg.GetOutcomes()), nil
}

// lossWindow is what a decision log may lose: a second, and what a busy machine adds.
const lossWindow = 3 * time.Second

// checkLog demands that the decision log has every decision, but the last moments of
// each server that died.
func (l *outcomeLane) checkLog(ctx context.Context) error {
	for i, c := range l.customers {
		d := &c.decided
		lately := d.at.After(l.w.workedAt)
		if !d.logged && !lately || d.logged && (i+len(l.customers))%40 != 0 {
			continue
		}
		res, err := l.w.api.decisions.ListDecisions(ctx, connect.NewRequest(&rapportv1.ListDecisionsRequest{Customer: c.name}))
		if err != nil {
			return err
		}
		found := len(res.Msg.GetDecisions()) == 1 && res.Msg.GetDecisions()[0].GetDecisionId() == d.id
		if !found && (d.logged || d.at.Before(l.w.struckAt.Add(-lossWindow))) {
			return fmt.Errorf("the decision log has not the decision %s of %v before the end: %v", d.id, l.w.struckAt.Sub(d.at), res.Msg)
		}
		if found && !d.logged {
			l.w.tally.saw("decisions found in the log", 1)
		}
		d.logged = found
	}
	return nil
}

// capLane asks for more than there is, and reports some of what it was given. That never
// passes a limit: where the power fails the last moments of what was given are forgotten,
// but not what was reported.
type capLane struct {
	w         *world
	customers int
	given     []seat
	doubts    int // decisions that may have taken a seat
}

// seat is a place that was given.
type seat struct {
	customer, offer string
	at              time.Time
	sold            bool // it was reported, and that was acknowledged
}

func (l *capLane) step(ctx context.Context, r *rand.Rand) error {
	l.customers++
	name := fmt.Sprintf("customer:c-%d", l.customers)
	for range visitsMax + 2 {
		wait(time.Duration(r.IntN(8000)) * time.Microsecond)
		if err := l.ask(ctx, r, name); err != nil || l.w.struck.Load() {
			return err
		}
	}
	return nil
}

func (l *capLane) ask(ctx context.Context, r *rand.Rand, name string) error {
	d, f, err := l.w.decide(ctx, name, "kiosk.seats")
	if err != nil {
		return err
	}
	switch f { //nolint:exhaustive // what was refused has no end to look for
	case inDoubt:
		l.doubts++
	case acknowledged:
		for _, p := range d.GetSlate() {
			s := seat{customer: name, offer: p.GetOffer(), at: time.Now()}
			l.w.tally.saw("seats given", 1)
			if r.IntN(2) == 0 {
				_, f, err := l.w.report(ctx, &rapportv1.OutcomeReport{Token: p.GetToken(), Outcome: "accepted"})
				if err != nil {
					return err
				}
				if s.sold = f == acknowledged; s.sold {
					l.w.tally.saw("seats sold", 1)
				}
			}
			l.given = append(l.given, s)
		}
		if len(d.GetSlate()) == 0 {
			l.w.tally.saw("seats refused", 1)
		}
	}
	return l.within()
}

// within says which limit has been passed.
func (l *capLane) within() error {
	visits, seats := make(map[string]int), make(map[string]int)
	for _, s := range l.given {
		if visits[s.customer]++; visits[s.customer] > visitsMax {
			return fmt.Errorf("%s has had %d contacts of at most %d", s.customer, visits[s.customer], visitsMax)
		}
		if seats[s.offer]++; seats[s.offer] > seatsMax {
			return fmt.Errorf("%s was given %d times of at most %d", s.offer, seats[s.offer], seatsMax)
		}
	}
	return nil
}

// check compares what the ledger has with what was given.
func (l *capLane) check(ctx context.Context, _ *rand.Rand) error {
	res, err := l.w.api.decisions.ListDecisions(ctx, connect.NewRequest(&rapportv1.ListDecisionsRequest{Limit: 1000}))
	if err != nil {
		return err
	}
	l.w.tally.saw("decisions read from the log", len(res.Msg.GetDecisions()))
	taken, err := l.w.seatsTaken(ctx)
	if err != nil || taken < 0 {
		return err
	}
	if l.w.disk.losesUnsynced() { // the ledger may lose a second of promises that nobody has reported
		var kept []seat
		for _, s := range l.given {
			if s.sold || s.at.Before(l.w.struckAt.Add(-lossWindow)) {
				kept = append(kept, s)
			}
		}
		l.w.tally.saw("seats that may have been forgotten", len(l.given)-len(kept))
		l.doubts += len(l.given) - len(kept)
		l.given = kept
	}
	if taken < len(l.given) || taken > len(l.given)+l.doubts {
		return fmt.Errorf("%d seats are taken: %d were given, %d are in doubt", taken, len(l.given), l.doubts)
	}
	return nil
}

// seatsTaken returns how many seats the server counts as taken, less than 0 while there
// is no catalogue.
func (w *world) seatsTaken(ctx context.Context) (int, error) {
	res, err := w.api.readings.ListCapacities(ctx, connect.NewRequest(&rapportv1.ListCapacitiesRequest{}))
	if connect.CodeOf(err) == connect.CodeFailedPrecondition {
		return -1, nil
	}
	if err != nil {
		return 0, err
	}
	taken := 0
	for _, c := range res.Msg.GetCapacities() {
		taken += int(c.GetTaken() + c.GetReserved())
	}
	return taken, nil
}
