package server_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"rapport/profilestore"
	"rapport/server"
	rapportv1 "rapport/server/api/rapport/v1"
	"rapport/server/ledger"
)

// consentSchemaYAML has what customers have agreed to.
const consentSchemaYAML = `
sources:
  - {id: bi}
  - {id: crm}
  - {id: consents, description: "never loaded, so without an event nobody knows"}
fields:
  - {name: value.balance, type: number, batch: bi, decimals: 2, events: {on: 'event.type == "balance"', set: event.amount}}
  - {name: usage.data_mb, type: counter, batch: bi, decimals: 3}
  - {name: tag.vip, type: flag, batch: crm}
  - {name: preference.sms, type: flag, batch: consents, events: {on: 'event.type == "sms"', set: event.agreed}}
  - {name: preference.leave_me, type: flag, batch: consents, events: {on: 'event.type == "leave_me"', set: event.yes}}
`

// consentYAML is a catalogue in which everything that must fail closed can: consent,
// do-not-disturb, hours, policies and capacities, for all classes in both directions.
// %s is the strategy.
const consentYAML = `
channels:
  - {id: web, direction: inbound, consent: preference.sms, do_not_disturb: preference.leave_me}
  - {id: sms, direction: outbound, cost: 0.05, consent: preference.sms, do_not_disturb: preference.leave_me}
  - {id: call, direction: outbound, cost: 2, quiet_hours: {from: "00:00", until: "23:59"}}
touchpoints:
  - {id: web.home, channel: web, slots: 4}
  - {id: web.bare, channel: web}
  - {id: sms.push, channel: sms, slots: 4}
  - {id: call.out, channel: call, slots: 4}
offers:
  - {id: low, group: care, value: 100, class: service, propensity: {start: 0.9}, eligible: profile.value.balance < 10, treatments: [{channel: web, content: Low}, {channel: sms, content: Low}]}
  - {id: news, group: care, value: 90, class: service, propensity: {start: 0.8}, treatments: [{channel: web, content: News}, {channel: sms, content: News}, {channel: call, content: News}]}
  - {id: seat, group: care, value: 80, class: service, propensity: {start: 0.7}, treatments: [{channel: web, content: A seat}]}
  - {id: check, group: care, value: 70, class: care, propensity: {start: 0.5}, treatments: [{channel: web, content: Check}, {channel: sms, content: Check}, {channel: call, content: Check}]}
  - {id: pack, group: data, class: marketing, value: 20, propensity: {start: 0.1}, treatments: [{channel: web, content: Pack}, {channel: sms, content: Pack}, {channel: call, content: Pack}]}
  - {id: bare, group: bare, class: marketing, propensity: {start: 0.1}, eligible: profile.value.balance < 0, treatments: [{channel: web, content: Bare}]}
scenarios:
  - {id: inbound, touchpoints: [web.home], offers: [low, news, seat, check, pack], class_order: true%s}
  - {id: outbound, touchpoints: [sms.push, call.out], offers: [low, news, check, pack]}
  - {id: bare, touchpoints: [web.bare], offers: [bare], fallback: news}
contact_policies:
  - {id: thrice, count: contact, max: 3, within: 7d, classes: [care, marketing]}
capacities:
  - {id: packs, max: 1000, per: total, offers: [pack]}
  - {id: seats, max: 1000, per: day, offers: [seat]}
`

// faults are what a test does to a running server.
type faults struct {
	unreadable, unwritable atomic.Bool
	slow                   atomic.Pointer[chan struct{}] // who reads waits for it
	stuck                  atomic.Pointer[chan struct{}] // who writes waits for it
	reads                  atomic.Int64
	writing                chan struct{} // somebody waits to write
}

// block makes who reads, or who writes, wait until the function is called.
func block(at *atomic.Pointer[chan struct{}]) (release func()) {
	c := make(chan struct{})
	at.Store(&c)
	return func() { at.Store(nil); close(c) }
}

func wait(at *atomic.Pointer[chan struct{}]) {
	if c := at.Load(); c != nil {
		<-*c
	}
}

// faultyEngine is the server's engine with its faults.
type faultyEngine struct {
	profilestore.Engine
	*faults
}

// Get reads, late or never.
func (e faultyEngine) Get(ctx context.Context, key, dst []byte) ([]byte, bool, error) {
	e.reads.Add(1)
	wait(&e.slow)
	if e.unreadable.Load() {
		return dst, false, &os.PathError{Op: "read", Path: "000001.sst", Err: syscall.EIO}
	}
	return e.Engine.Get(ctx, key, dst)
}

// faultyFS is how the ledger writes, with its faults.
type faultyFS struct{ *faults }

type faultyFile struct {
	*os.File
	*faults
}

// Create makes a file.
func (fs faultyFS) Create(path string) (ledger.File, error) {
	if fs.unwritable.Load() {
		return nil, &os.PathError{Op: "open", Path: path, Err: syscall.ENOSPC}
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|os.O_APPEND, 0o600)
	return faultyFile{f, fs.faults}, err
}

func (faultyFS) Rename(from, to string) error { return os.Rename(from, to) }
func (faultyFS) Remove(path string) error     { return os.Remove(path) }
func (faultyFS) SyncDir(string) error         { return nil }

// Write writes, late or never.
func (f faultyFile) Write(b []byte) (int, error) {
	if c := f.stuck.Load(); c != nil { // looked at once: else it may begin to wait and not say so
		select {
		case f.writing <- struct{}{}:
		default:
		}
		<-*c
	}
	if f.unwritable.Load() {
		return 0, &os.PathError{Op: "write", Path: f.Name(), Err: syscall.ENOSPC}
	}
	return f.File.Write(b)
}

// newFaulty serves the catalogue. Customers 1 to 3 agree to everything, 4 to nothing, and
// of 5 it is not known; all have a low balance.
func newFaulty(t testing.TB, change func(*server.Config)) (*house, *faults) {
	t.Helper()
	f := &faults{writing: make(chan struct{}, 1)}
	h := open(t, newDataOf(t, consentSchemaYAML), func(c *server.Config) {
		c.Deadline = 30 * time.Second // a busy machine is no reason to degrade
		c.WrapEngine = func(e profilestore.Engine) profilestore.Engine { return faultyEngine{e, f} }
		c.SetLedgerFS(faultyFS{f})
		if change != nil {
			change(c)
		}
	})
	var events []*rapportv1.Event
	add := func(customer int, kind, attribute string, value any) {
		events = append(events, &rapportv1.Event{
			Id: fmt.Sprint(customer, kind), Type: kind, Identity: fmt.Sprint(customer), Time: timestamppb.Now(),
			Attributes: &structpb.Struct{Fields: contextOf(t, map[string]any{attribute: value})},
		})
	}
	for customer := 1; customer <= 5; customer++ {
		add(customer, "balance", "amount", 3.5)
		if customer < 5 {
			add(customer, "sms", "agreed", customer < 4)
			add(customer, "leave_me", "yes", customer == 4)
		}
	}
	if r, err := h.profiles().IngestEvents(context.Background(), connect.NewRequest(&rapportv1.IngestEventsRequest{Events: events})); err != nil || len(r.Msg.GetRefused()) > 0 {
		t.Fatal(r, err)
	}
	if _, err := h.publish(fmt.Sprintf(consentYAML, "")); err != nil {
		t.Fatal(err)
	}
	return h, f
}

// wholeAnswer is what customer 1 is offered where nothing is wrong.
var wholeAnswer = map[string]string{"web.home": "low news seat check ", "sms.push": "low news check pack ", "call.out": "news "}

// want decides and compares the slate, and the kinds of the degradations.
func (h *house) want(t *testing.T, customer, touchpoint, slateWanted string, kinds ...rapportv1.DegradationKind) *rapportv1.DecideResponse {
	t.Helper()
	r := h.insist(t, customer, touchpoint)
	h.compare(t, customer, touchpoint, r, slateWanted, kinds...)
	return r
}

func (*house) compare(t *testing.T, customer, touchpoint string, r *rapportv1.DecideResponse, slateWanted string, kinds ...rapportv1.DegradationKind) {
	t.Helper()
	var got []rapportv1.DegradationKind
	for _, d := range r.GetDegradations() {
		got = append(got, d.GetKind())
	}
	if slate(r) != slateWanted || !slices.Equal(got, kinds) {
		t.Errorf("customer %s at %s: slate %q, want %q; degradations %v, want %v; withheld %v", customer, touchpoint, slate(r), slateWanted, r.GetDegradations(), kinds, r.GetWithheld())
	}
	if n := int(r.GetFunnel().GetCandidates()); len(r.GetSlate()) > 0 && !r.GetSlate()[0].GetFallback() {
		for _, w := range r.GetWithheld() {
			n -= len(w.GetOffers())
		}
		if n != len(r.GetSlate()) {
			t.Errorf("customer %s at %s: %d candidates have no reason", customer, touchpoint, n-len(r.GetSlate()))
		}
	}
}

// wantReason compares why offers are withheld.
func wantReason(t *testing.T, r *rapportv1.DecideResponse, want rapportv1.Reason, offers ...string) {
	t.Helper()
	for _, offer := range offers {
		if got := reason(r, offer); got != want {
			t.Errorf("%s is withheld as %v, want %v", offer, got, want)
		}
	}
}

const (
	fallbackStep    = rapportv1.DegradationKind_DEGRADATION_KIND_FALLBACK
	unreadableStep  = rapportv1.DegradationKind_DEGRADATION_KIND_PROFILE_UNREADABLE
	notReservedStep = rapportv1.DegradationKind_DEGRADATION_KIND_NOT_RESERVED
	noTimeStep      = rapportv1.DegradationKind_DEGRADATION_KIND_NO_TIME_TO_RANK
)

// TestDegradesNothing: the answers from which the others step down.
func TestDegradesNothing(t *testing.T) {
	h, _ := newFaulty(t, nil)
	for at, offers := range wholeAnswer {
		r := h.want(t, "1", at, offers)
		if at == "call.out" {
			wantReason(t, r, rapportv1.Reason_REASON_QUIET_DEFERRED, "check", "pack")
		}
	}
	// Who agrees to nothing, and of whom it is not known.
	r := h.want(t, "4", "web.home", "low news seat ")
	wantReason(t, r, rapportv1.Reason_REASON_DO_NOT_DISTURB, "check", "pack")
	r = h.want(t, "5", "web.home", "low news seat check ")
	wantReason(t, r, rapportv1.Reason_REASON_NO_CONSENT, "pack")
	r = h.want(t, "5", "sms.push", "low news ")
	wantReason(t, r, rapportv1.Reason_REASON_DO_NOT_DISTURB, "check", "pack")
	h.want(t, "1", "web.bare", "news ", fallbackStep)
}

// TestDegradesUnreadable: without the profile nothing goes out, and inbound only class
// service whose rules need none of it; whether the store fails or does not answer.
func TestDegradesUnreadable(t *testing.T) {
	for _, fault := range []string{"fails", "is slow"} {
		t.Run(fault, func(t *testing.T) {
			h, f := newFaulty(t, func(c *server.Config) {
				c.CacheEntries = -1
				if fault == "is slow" {
					c.Deadline = 50 * time.Millisecond
				}
			})
			repair := func() { f.unreadable.Store(false) }
			if fault == "fails" {
				f.unreadable.Store(true)
			} else {
				repair = block(&f.slow)
			}
			// No time is left to rank where reading took all of its share on a busy machine.
			drop := func(r *rapportv1.DecideResponse) *rapportv1.DecideResponse {
				r.Degradations = slices.DeleteFunc(r.GetDegradations(), func(d *rapportv1.Degradation) bool { return d.GetKind() == noTimeStep })
				return r
			}
			for _, customer := range []string{"1", "4", "5"} {
				r := drop(h.insist(t, customer, "web.home"))
				h.compare(t, customer, "web.home", r, "news seat ", unreadableStep)
				wantReason(t, r, rapportv1.Reason_REASON_PROFILE_UNREADABLE, "check", "pack")
				wantReason(t, r, rapportv1.Reason_REASON_UNKNOWN, "low")
				if d := r.GetDegradations()[0].GetDetail(); d == "" || strings.Contains(d, "sst") {
					t.Errorf("the answer says %q", d)
				}
				for _, at := range []string{"sms.push", "call.out"} {
					r := drop(h.insist(t, customer, at))
					h.compare(t, customer, at, r, "", unreadableStep)
					wantReason(t, r, rapportv1.Reason_REASON_PROFILE_UNREADABLE, "news", "check", "pack")
				}
				h.compare(t, customer, "web.bare", drop(h.insist(t, customer, "web.bare")), "news ", unreadableStep, fallbackStep)
			}
			repair()
			if fault == "fails" {
				h.want(t, "1", "web.home", wholeAnswer["web.home"])
			}
			t.Logf("%d reads", f.reads.Load())
		})
	}
}

// TestDegradesReadAgain: a profile that was read before the lock and can't be read under
// it does not do: what was reported in between would be missed.
func TestDegradesReadAgain(t *testing.T) {
	h, f := newFaulty(t, func(c *server.Config) { c.CacheEntries = -1 })
	before := f.reads.Load()
	h.want(t, "2", "web.home", wholeAnswer["web.home"])
	if n := f.reads.Load() - before; n != 2 {
		t.Fatalf("a decision read %d times, want 2", n)
	}
	seen := new(atomic.Int64)
	h, _ = newFaulty(t, func(c *server.Config) {
		c.CacheEntries = -1
		c.WrapEngine = func(e profilestore.Engine) profilestore.Engine { return everySecond{e, seen} }
	})
	seen.Store(1)
	r := h.want(t, "1", "web.home", "low news ", notReservedStep)
	wantReason(t, r, rapportv1.Reason_REASON_NOT_RESERVED, "check", "pack")
	wantReason(t, r, rapportv1.Reason_REASON_CAPACITY, "seat")
	h.want(t, "1", "sms.push", "", notReservedStep)
}

// everySecond is an engine of which every second read fails, once it is counted.
type everySecond struct {
	profilestore.Engine
	reads *atomic.Int64
}

// Get reads.
func (e everySecond) Get(ctx context.Context, key, dst []byte) ([]byte, bool, error) {
	if e.reads.Load() > 0 && e.reads.Add(1)%2 == 1 {
		return dst, false, syscall.EIO
	}
	return e.Engine.Get(ctx, key, dst)
}

// TestDegradesLedger: where no contact can be reserved, what has limits is not offered,
// and the profile still says to whom class service goes; whether the disk is full or does
// not answer. What was promised before counts afterwards, and nothing that was not.
func TestDegradesLedger(t *testing.T) {
	for _, fault := range []string{"is full", "is stuck"} {
		t.Run(fault, func(t *testing.T) {
			h, f := newFaulty(t, func(c *server.Config) {
				if fault == "is stuck" {
					c.Deadline = 50 * time.Millisecond
				}
			})
			tolerant := func(customer, at, offers string, kinds ...rapportv1.DegradationKind) *rapportv1.DecideResponse {
				t.Helper()
				r := h.insist(t, customer, at)
				r.Degradations = slices.DeleteFunc(r.GetDegradations(), func(d *rapportv1.Degradation) bool { return d.GetKind() == noTimeStep })
				h.compare(t, customer, at, r, offers, kinds...)
				return r
			}
			h.want(t, "1", "sms.push", wholeAnswer["sms.push"]) // one of three
			repair := func() { f.unwritable.Store(false) }
			if fault == "is full" {
				f.unwritable.Store(true)
			} else {
				repair = block(&f.stuck)
			}
			for range 3 {
				r := tolerant("1", "web.home", "low news ", notReservedStep)
				wantReason(t, r, rapportv1.Reason_REASON_NOT_RESERVED, "check", "pack")
				wantReason(t, r, rapportv1.Reason_REASON_CAPACITY, "seat")
				if d := r.GetDegradations()[0].GetDetail(); !strings.Contains(d, "the reservation") || strings.Contains(d, "/") {
					t.Errorf("the answer says %q", d)
				}
				r = tolerant("1", "sms.push", "", notReservedStep)
				wantReason(t, r, rapportv1.Reason_REASON_NOT_RESERVED, "low", "news", "check", "pack")
				tolerant("1", "web.bare", "news ", notReservedStep, fallbackStep)
			}
			repair()
			deadline := time.Now().Add(30 * time.Second)
			for len(h.insist(t, "2", "web.home").GetDegradations()) > 0 { // what was under way ends
				if time.Now().After(deadline) {
					t.Fatal("it does not recover")
				}
			}
			for range 2 { // two of three are left
				if r := h.insist(t, "1", "sms.push"); slate(r) != wholeAnswer["sms.push"] {
					t.Errorf("afterwards: %v", r)
				}
			}
			wantReason(t, h.insist(t, "1", "sms.push"), rapportv1.Reason_REASON_CAPPED, "check", "pack")
		})
	}
}

// TestDegradesBusyCustomer: while another decision holds the customer, who asks waits for
// half of the deadline and then gets class service; other customers don't wait.
func TestDegradesBusyCustomer(t *testing.T) {
	h, f := newFaulty(t, func(c *server.Config) { c.MaxConcurrent = 16 })
	release := block(&f.stuck)
	done := make(chan *rapportv1.DecideResponse, 1)
	go func() { done <- h.insist(t, "1", "sms.push") }()
	<-f.writing
	ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
	defer cancel()
	r, err := h.decisions().Decide(ctx, connect.NewRequest(&rapportv1.DecideRequest{Customer: "1", Touchpoint: "web.home"}))
	if err != nil {
		t.Fatal(err)
	}
	h.compare(t, "1", "web.home", r.Msg, "low news ", notReservedStep)
	wantReason(t, r.Msg, rapportv1.Reason_REASON_NOT_RESERVED, "check", "pack")
	if d := r.Msg.GetDegradations()[0].GetDetail(); !strings.Contains(d, "the same customer") {
		t.Errorf("the answer says %q", d)
	}
	release()
	h.compare(t, "1", "sms.push", <-done, wholeAnswer["sms.push"])
}

// TestDegradesStrategy: a strategy that faults, then is suspended, changes who ranks and
// nothing of what may be offered.
func TestDegradesStrategy(t *testing.T) {
	h, _ := newFaulty(t, nil)
	trap := hostile{name: "traps", version: "1", before: doTrap}
	h.upload(t, trap.bytes(t), nil)
	h.release(t, trap.name, trap.version)
	if _, err := h.publish(fmt.Sprintf(consentYAML, ", strategy: {name: traps}")); err != nil {
		t.Fatal(err)
	}
	counts := make(map[rapportv1.DegradationKind]int)
	for i := range 30 {
		customer := fmt.Sprint(3 + i%3) // the first agrees
		r := h.insist(t, customer, "web.home")
		if len(r.GetDegradations()) != 1 {
			t.Fatalf("degradations %v", r.GetDegradations())
		}
		kind := r.GetDegradations()[0].GetKind()
		counts[kind]++
		want := map[string]string{"3": "low news seat check ", "4": "low news seat ", "5": "low news seat check "}[customer]
		if i/3 >= 3 && customer != "4" { // three contacts of class care were made, and nothing reported
			want = "low news seat "
			wantReason(t, r, rapportv1.Reason_REASON_CAPPED, "check")
		}
		h.compare(t, customer, "web.home", r, want, kind)
	}
	if counts[failed] != faultsToSuspend || counts[suspended] != 30-faultsToSuspend {
		t.Errorf("degradations: %v", counts)
	}
}

// TestDegradesLastPlaces: with a strategy in trouble and a hundred callers, no capacity
// gives more than it has.
func TestDegradesLastPlaces(t *testing.T) {
	h, f := newFaulty(t, nil)
	if _, err := h.publish(strings.Replace(fmt.Sprintf(consentYAML, ""), "max: 1000, per: day", "max: 7, per: total", 1)); err != nil {
		t.Fatal(err)
	}
	var given, degraded atomic.Int64
	var group sync.WaitGroup
	for i := range 100 {
		group.Go(func() {
			f.unwritable.Store(i%3 != 0)
			r := h.insist(t, fmt.Sprint(100+i), "web.home")
			if strings.Contains(slate(r), "seat") {
				given.Add(1)
			}
			if len(r.GetDegradations()) > 0 {
				degraded.Add(1)
			}
		})
	}
	group.Wait()
	f.unwritable.Store(false)
	for i := range 20 {
		if strings.Contains(slate(h.insist(t, fmt.Sprint(300+i), "web.home")), "seat") {
			given.Add(1)
		}
	}
	if given.Load() != 7 {
		t.Errorf("%d places were given, want 7", given.Load())
	}
	t.Logf("%d of 100 decisions could not reserve", degraded.Load())
}

// TestDegradesDeadline: callers with a millisecond get an answer, or are told that it was
// too late; whatever the answer does without, it names, and nothing closed is offered.
func TestDegradesDeadline(t *testing.T) {
	h, f := newFaulty(t, func(c *server.Config) { c.CacheEntries = -1 })
	outcomes := make(map[string]int)
	ask := func(customer string) {
		t.Helper()
		body := fmt.Sprintf(`{"customer":%q,"touchpoint":"web.home"}`, customer)
		req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, h.url+"/rapport.v1.DecisionService/Decide", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Connect-Timeout-Ms", "1")
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = res.Body.Close() }()
		b, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		var m struct {
			Code         string
			Slate        []struct{ Offer string }
			Degradations []struct{ Kind, Detail string }
		}
		if err := json.NewDecoder(bytes.NewReader(b)).Decode(&m); err != nil {
			t.Fatalf("%v: %s", err, b)
		}
		if res.StatusCode != http.StatusOK {
			if m.Code != "deadline_exceeded" && m.Code != "resource_exhausted" {
				t.Errorf("status %d: %s", res.StatusCode, b)
			}
			outcomes[m.Code]++
			return
		}
		var kinds []string
		for _, d := range m.Degradations {
			kinds = append(kinds, strings.TrimPrefix(d.Kind, "DEGRADATION_KIND_"))
		}
		for _, p := range m.Slate {
			if (p.Offer == "check" || p.Offer == "pack") && (customer == "4" || slices.Contains(kinds, "PROFILE_UNREADABLE") || slices.Contains(kinds, "NOT_RESERVED")) {
				t.Errorf("customer %s was offered %s without %v", customer, p.Offer, kinds)
			}
		}
		outcomes["answer without ["+strings.Join(kinds, " ")+"]"]++
	}
	for i := range 100 {
		ask([]string{"1", "4", "5"}[i%3])
	}
	release := block(&f.slow) // the profile never comes
	for i := range 100 {
		ask([]string{"1", "4", "5"}[i%3])
	}
	release()
	t.Log(outcomes)

	// The server's own deadline of a millisecond always gives an answer.
	h, f = newFaulty(t, func(c *server.Config) { c.CacheEntries, c.Deadline = -1, time.Millisecond })
	release = block(&f.slow)
	defer release()
	for i := range 50 {
		r := h.insist(t, fmt.Sprint(1+i%5), "web.home")
		if len(r.GetDegradations()) == 0 || r.GetDegradations()[0].GetKind() != unreadableStep || !strings.Contains(slate(r), "news") || strings.Contains(slate(r), "pack") || strings.Contains(slate(r), "check") {
			t.Errorf("%v", r)
		}
	}
}
