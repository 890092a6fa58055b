package crashtest_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"rapport/profilestore"
	rapportv1 "rapport/server/api/rapport/v1"
)

// eventLane sends events, some of them again. Every event leaves a mark of its own in a
// set of the profile, so what has been applied can be read there; two sums tell whether
// it counted once, and a register which is the last.
type eventLane struct {
	w         *world
	number    int
	customers []*eventCustomer
	open      map[*eventCustomer]bool // those with events in doubt
}

type eventCustomer struct {
	name   string
	events []*sentEvent
}

type sentEvent struct {
	message *rapportv1.Event
	tag     string
	mb      int
	time    time.Time
	sure    bool // it was acknowledged
}

func newEventLane(w *world, number int) *eventLane {
	return &eventLane{w: w, number: number, open: make(map[*eventCustomer]bool)}
}

const eventsEach = 60 // of a customer

// step sends a few events of one or two customers.
func (l *eventLane) step(ctx context.Context, r *rand.Rand) error {
	wait(time.Duration(r.IntN(2000)) * time.Microsecond)
	c := l.customer()
	var batch, fresh []*sentEvent
	for range 1 + r.IntN(6) {
		e, err := c.next(r)
		if err != nil {
			return err
		}
		batch, fresh = append(batch, e), append(fresh, e)
	}
	again := 0
	for range r.IntN(3) {
		if old := l.customers[r.IntN(len(l.customers))].sure(r); old != nil {
			batch = append(batch, old)
			again++
		}
	}
	r.Shuffle(len(batch), func(i, k int) { batch[i], batch[k] = batch[k], batch[i] })
	res, f, err := l.send(ctx, batch)
	switch {
	case err != nil:
		return err
	case f == inDoubt:
		l.open[c] = true
		return nil
	case int(res.GetAccepted()) != len(fresh) || int(res.GetDuplicates()) != again || len(res.GetRefused()) > 0:
		return fmt.Errorf("of %d new events of %s and %d old ones %d were taken, %d were there already, refused: %v", len(fresh), c.name, again, res.GetAccepted(), res.GetDuplicates(), res.GetRefused())
	}
	for _, e := range fresh {
		e.sure = true
	}
	l.w.tally.saw("events acknowledged", len(fresh))
	l.w.tally.saw("events sent again", again)
	return nil
}

// customer returns the one that events are for now.
func (l *eventLane) customer() *eventCustomer {
	n := len(l.customers)
	if n == 0 || len(l.customers[n-1].events) >= eventsEach {
		l.customers = append(l.customers, &eventCustomer{name: fmt.Sprintf("customer:e%d-%d", l.number, n)})
		n++
	}
	return l.customers[n-1]
}

// next makes an event of some time in the last hours.
func (c *eventCustomer) next(r *rand.Rand) (*sentEvent, error) {
	n := len(c.events)
	const apart = 100 // more than a customer has events
	// No two of a customer happen at the same microsecond, so one is the last.
	at := dawn().Add(time.Duration(r.Int64N(int64(12*time.Hour/time.Microsecond)/apart)*apart+int64(n)) * time.Microsecond)
	e := &sentEvent{tag: "t" + strconv.Itoa(n), mb: 1 + r.IntN(1000), time: at}
	attributes, err := structpb.NewStruct(map[string]any{"mb": e.mb, "tag": e.tag, "cell": fmt.Sprintf("c%d", r.IntN(400))})
	if err != nil {
		return nil, err
	}
	e.message = &rapportv1.Event{Id: c.name + "/" + e.tag, Type: "use", Identity: c.name, Time: timestamppb.New(at), Attributes: attributes}
	c.events = append(c.events, e)
	return e, nil
}

// sure returns an event that was acknowledged, nil if none was.
func (c *eventCustomer) sure(r *rand.Rand) *sentEvent {
	if len(c.events) == 0 {
		return nil
	}
	if e := c.events[r.IntN(len(c.events))]; e.sure {
		return e
	}
	return nil
}

func (l *eventLane) send(ctx context.Context, batch []*sentEvent) (*rapportv1.IngestEventsResponse, fate, error) {
	req := &rapportv1.IngestEventsRequest{}
	for _, e := range batch {
		req.Events = append(req.Events, e.message)
	}
	var res *connect.Response[rapportv1.IngestEventsResponse]
	f, err := l.w.call("ingest", func() (err error) {
		res, err = l.w.api.profiles.IngestEvents(ctx, connect.NewRequest(req))
		return err
	})
	if res == nil {
		return nil, f, err
	}
	return res.Msg, f, err
}

// check looks at every customer with events in doubt, the latest, and some of before.
func (l *eventLane) check(ctx context.Context, r *rand.Rand) error {
	look := maps.Clone(l.open)
	for i := range min(3, len(l.customers)) {
		look[l.customers[len(l.customers)-1-i]] = true
		look[l.customers[r.IntN(len(l.customers))]] = true
	}
	bi, err := l.batch(ctx)
	if err != nil {
		return err
	}
	for _, c := range l.customers {
		if !look[c] {
			continue
		}
		if err := l.checkCustomer(ctx, r, c, bi); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		delete(l.open, c)
	}
	return nil
}

// look looks which events in doubt are there. What is there is no longer in doubt.
func (l *eventLane) look(ctx context.Context) error {
	bi, err := l.batch(ctx)
	if err != nil {
		return err
	}
	for c := range l.open {
		there, err := l.read(ctx, c, bi)
		if err != nil {
			return err
		}
		for _, e := range c.events {
			if !e.sure && there[e.tag] {
				l.w.tally.saw("events in doubt seen", 1)
				e.sure = true
			}
		}
	}
	return nil
}

// batch is what the current snapshot of the source bi says of everybody; wave is 0 if
// there is none.
type batch struct {
	wave int
	asOf time.Time
}

func (l *eventLane) batch(ctx context.Context) (batch, error) {
	res, err := l.w.api.snapshots.ListSnapshots(ctx, connect.NewRequest(&rapportv1.ListSnapshotsRequest{Source: "bi"}))
	if err != nil {
		return batch{}, err
	}
	for _, s := range res.Msg.GetSnapshots() {
		if s.GetState() == "active" {
			wave, err := waveOf(s.GetOrigin())
			return batch{wave, s.GetAsOf().AsTime()}, err
		}
	}
	return batch{}, nil
}

// checkCustomer looks at what is there, sends again what is in doubt and some of what is
// not, and looks again.
func (l *eventLane) checkCustomer(ctx context.Context, r *rand.Rand, c *eventCustomer, bi batch) error {
	there, err := l.read(ctx, c, bi)
	if err != nil {
		return err
	}
	var again []*sentEvent
	lost := 0
	for _, e := range c.events {
		switch {
		case e.sure && !there[e.tag]:
			return fmt.Errorf("the event %s was acknowledged and is lost", e.tag)
		case !e.sure:
			l.w.tally.settled("event", there[e.tag])
			if !there[e.tag] {
				lost++
			}
			again = append(again, e)
		case r.IntN(3) == 0:
			again = append(again, e)
		}
	}
	if len(again) == 0 {
		return nil
	}
	res, _, err := l.send(ctx, again)
	if err != nil {
		return err
	}
	if int(res.GetAccepted()) != lost || len(res.GetRefused()) > 0 {
		return fmt.Errorf("of %d events that were sent again %d were taken, %d were not there before", len(again), res.GetAccepted(), lost)
	}
	for _, e := range again {
		e.sure = true
	}
	there, err = l.read(ctx, c, bi)
	if err == nil && len(there) != len(c.events) {
		err = fmt.Errorf("after all were sent again %d of %d events are there", len(there), len(c.events))
	}
	return err
}

// read returns the tags of the events that are there, if everything else in the profile
// is what follows from them.
func (l *eventLane) read(ctx context.Context, c *eventCustomer, bi batch) (map[string]bool, error) {
	res, err := l.w.api.profiles.GetProfile(ctx, connect.NewRequest(&rapportv1.GetProfileRequest{Customer: c.name}))
	if err != nil {
		return nil, err
	}
	got := make(map[string]string)
	there := make(map[string]bool)
	for _, f := range res.Msg.GetFields() {
		switch v := f.GetValue().(type) {
		case *rapportv1.ProfileValue_Number:
			got[f.GetName()] = strconv.FormatFloat(v.Number, 'f', -1, 64)
		case *rapportv1.ProfileValue_Set:
			for _, tag := range v.Set.GetElements() {
				there[tag] = true
			}
		}
	}
	want := map[string]string{"usage.week_mb": "0"}
	if bi.wave > 0 && inBatch(c.name) {
		want["value.wave"] = strconv.Itoa(bi.wave)
	}
	maps.Copy(want, c.fold(there, bi))
	delete(got, "general.wave") // snapshotLane's
	if !maps.Equal(got, want) {
		return nil, fmt.Errorf("the profile has %v, but of the events %v and %+v follows %v", got, slices.Sorted(maps.Keys(there)), bi, want)
	}
	for tag := range there {
		if !slices.ContainsFunc(c.events, func(e *sentEvent) bool { return e.tag == tag }) {
			return nil, fmt.Errorf("there is an event %q that was never sent", tag)
		}
	}
	return there, nil
}

// inBatch reports whether files of batch sources have a row of a customer.
func inBatch(name string) bool {
	n, err := strconv.Atoi(name[strings.LastIndexByte(name, '-')+1:])
	return err == nil && n < batchCustomers
}

// fold is what these events make of a profile.
func (c *eventCustomer) fold(there map[string]bool, bi batch) map[string]string {
	row := bi.wave > 0 && inBatch(c.name)
	week, use, balance := 0, 0, 0
	var last time.Time
	if row {
		use, balance = batchValue(bi.wave), batchValue(bi.wave)
	}
	for _, e := range c.events {
		if !there[e.tag] {
			continue
		}
		week += e.mb
		if bi.wave == 0 || e.time.Truncate(profilestore.CellWidth).Add(profilestore.CellWidth).After(bi.asOf) {
			use += e.mb
		}
		if e.time.After(last) {
			last = e.time
			if bi.wave == 0 || !e.time.Before(bi.asOf) {
				balance = e.mb
			}
		}
	}
	out := map[string]string{"usage.week_mb": strconv.Itoa(week)}
	if balance > 0 {
		out["value.balance"] = strconv.Itoa(balance)
	}
	if row { // a part of an unknown whole else
		out["usage.mb"] = strconv.Itoa(use)
	}
	return out
}
