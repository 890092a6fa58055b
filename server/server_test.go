package server_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"rapport/server"
	rapportv1 "rapport/server/api/rapport/v1"
	"rapport/server/api/rapport/v1/rapportv1connect"
)

func TestDecide(t *testing.T) {
	h := newHouse(t)
	for _, c := range []struct {
		customer, touchpoint, slate string
		reasons                     map[string]rapportv1.Reason
	}{
		{"1", "web.home", "top_up data_10g ", map[string]rapportv1.Reason{"vip_line": rapportv1.Reason_REASON_RANKED_BELOW, "magazine": rapportv1.Reason_REASON_RANKED_BELOW}},
		{"2", "web.home", "magazine ", map[string]rapportv1.Reason{"top_up": rapportv1.Reason_REASON_NOT_ELIGIBLE, "data_10g": rapportv1.Reason_REASON_NOT_ELIGIBLE, "vip_line": rapportv1.Reason_REASON_NOT_ELIGIBLE}},
		// Customer 3 has no balance, and no row in crm.
		{"3", "web.home", "data_10g magazine ", map[string]rapportv1.Reason{"top_up": rapportv1.Reason_REASON_UNKNOWN, "vip_line": rapportv1.Reason_REASON_UNKNOWN}},
		{"customer:1", "sms.push", "data_10g ", nil},
		{"2", "sms.push", "", map[string]rapportv1.Reason{"data_10g": rapportv1.Reason_REASON_NOT_ELIGIBLE}},
		{"msisdn:nobody", "web.home", "magazine ", map[string]rapportv1.Reason{"top_up": rapportv1.Reason_REASON_UNKNOWN}},
	} {
		r := h.decide(t, c.customer, c.touchpoint)
		if got := slate(r); got != c.slate {
			t.Errorf("%s at %s: slate %q, want %q", c.customer, c.touchpoint, got, c.slate)
		}
		for offer, want := range c.reasons {
			if got := reason(r, offer); got != want {
				t.Errorf("%s at %s: %s is %v, want %v", c.customer, c.touchpoint, offer, got, want)
			}
		}
		if known := c.customer != "msisdn:nobody"; r.GetProfile().GetKnown() != known {
			t.Errorf("%s: known = %v", c.customer, !known)
		}
		if len(r.GetDecisionId()) != 26 || r.GetCatalogVersion() != 1 {
			t.Errorf("decision %q of catalogue %d", r.GetDecisionId(), r.GetCatalogVersion())
		}
		wantRanker := map[string]string{"web.home": "pvcl", "sms.push": "builtin"}[c.touchpoint]
		if got := r.GetRankedBy().GetName(); got != wantRanker || len(r.GetDegradations()) != 0 {
			t.Errorf("%s: ranked by %q, want %q; degradations %v", c.customer, got, wantRanker, r.GetDegradations())
		}
	}
}

// TestEventChangesNextDecision: what is acknowledged is seen by the next
// decision, and sent again changes nothing.
func TestEventChangesNextDecision(t *testing.T) {
	h := newHouse(t)
	ctx := context.Background()
	send := func(id, kind, name string, amount float64) *rapportv1.IngestEventsResponse {
		attributes, err := structpb.NewStruct(map[string]any{name: amount})
		if err != nil {
			t.Fatal(err)
		}
		res, err := h.profiles().IngestEvents(ctx, connect.NewRequest(&rapportv1.IngestEventsRequest{Events: []*rapportv1.Event{
			{Id: id, Type: kind, Identity: "2", Time: timestamppb.Now(), Attributes: attributes},
		}}))
		if err != nil {
			t.Fatal(err)
		}
		return res.Msg
	}
	if got := slate(h.decide(t, "2", "web.home")); got != "magazine " {
		t.Fatalf("before: %q", got)
	}
	send("b1", "balance", "amount", 5)
	if got := slate(h.decide(t, "2", "web.home")); got != "top_up magazine " {
		t.Errorf("after the balance: %q", got)
	}
	for range 3 {
		send("d1", "data_session", "mb", 3000)
	}
	if r := send("d1", "data_session", "mb", 3000); r.GetDuplicates() != 1 || r.GetAccepted() != 0 {
		t.Errorf("sent again: %v", r)
	}
	if got := slate(h.decide(t, "2", "web.home")); got != "top_up magazine " {
		t.Errorf("after one data session of 3000 MB sent four times: %q", got)
	}
	send("d2", "data_session", "mb", 3000)
	if got := slate(h.decide(t, "2", "web.home")); got != "top_up data_10g " {
		t.Errorf("after two data sessions: %q", got)
	}
	p, err := h.profiles().GetProfile(ctx, connect.NewRequest(&rapportv1.GetProfileRequest{Customer: "2"}))
	if err != nil {
		t.Fatal(err)
	}
	if f := p.Msg.GetFields()[1]; f.GetNumber() != 6010.25 || f.GetOrigin() != rapportv1.ValueOrigin_VALUE_ORIGIN_BATCH_AND_EVENTS || f.GetSource() != "bi" {
		t.Errorf("the counter is %v", f)
	}
}

// TestBadEventStopsNoOther: an event that can't be taken is listed, and those
// beside it are taken.
func TestBadEventStopsNoOther(t *testing.T) {
	h := newHouse(t)
	good := func(id string) *rapportv1.Event {
		return &rapportv1.Event{Id: id, Type: "other", Identity: "2", Time: timestamppb.Now()}
	}
	noTime, badType, noAmount := good("a"), good("b"), good("c")
	noTime.Time, badType.Type, noAmount.Type = nil, "Not A Type", "balance"
	farBack := good("d")
	farBack.Time = &timestamppb.Timestamp{Seconds: -1 << 60}
	res, err := h.profiles().IngestEvents(context.Background(), connect.NewRequest(&rapportv1.IngestEventsRequest{
		Events: []*rapportv1.Event{good("1"), noTime, good("2"), badType, noAmount, farBack, good("1")},
	}))
	if err != nil {
		t.Fatal(err)
	}
	if res.Msg.GetAccepted() != 2 || res.Msg.GetDuplicates() != 1 || len(res.Msg.GetRefused()) != 4 {
		t.Fatalf("%v", res.Msg)
	}
	for i, want := range []struct {
		index int32
		text  string
	}{{1, "time"}, {3, "type"}, {4, "event.amount"}, {5, "time"}} {
		if r := res.Msg.GetRefused()[i]; r.GetIndex() != want.index || !strings.Contains(r.GetMessage(), want.text) {
			t.Errorf("refused %v, want index %d and %q", r, want.index, want.text)
		}
	}
}

// TestDryRunIsPure: the same dry run gives the same bytes, a thousand times, and
// after a restart.
func TestDryRunIsPure(t *testing.T) {
	h := newHouse(t)
	req := &rapportv1.DecideRequest{Customer: "1", Touchpoint: "web.home", DryRun: &rapportv1.DryRun{Time: timestamppb.New(time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)), Seed: 42}}
	once := func(h *house) []byte {
		res, err := h.decisions().Decide(context.Background(), connect.NewRequest(req))
		if err != nil {
			t.Fatal(err)
		}
		b, err := proto.MarshalOptions{Deterministic: true}.Marshal(res.Msg)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	first := once(h)
	for i := range 1000 {
		if got := once(h); !bytes.Equal(got, first) {
			t.Fatalf("answer %d differs", i)
		}
	}
	h.stop()
	if got := once(open(t, h.dir, nil)); !bytes.Equal(got, first) {
		t.Error("the answer differs after a restart")
	}
}

// TestProtocols asks by every protocol, over HTTP/1.1 and HTTP/2 without TLS, on
// one port.
func TestProtocols(t *testing.T) {
	h := newHouse(t)
	h2c := &http.Transport{Protocols: new(http.Protocols)}
	h2c.Protocols.SetUnencryptedHTTP2(true)
	h1 := &http.Transport{Protocols: new(http.Protocols), TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS13}}
	h1.Protocols.SetHTTP1(true)
	for _, c := range []struct {
		name      string
		transport *http.Transport
		options   []connect.ClientOption
	}{
		{"connect HTTP/1.1", h1, nil},
		{"connect h2c", h2c, nil},
		{"connect JSON HTTP/1.1", h1, []connect.ClientOption{connect.WithProtoJSON()}},
		{"gRPC h2c", h2c, []connect.ClientOption{connect.WithGRPC()}},
		{"gRPC-Web HTTP/1.1", h1, []connect.ClientOption{connect.WithGRPCWeb()}},
		{"gRPC-Web h2c", h2c, []connect.ClientOption{connect.WithGRPCWeb()}},
	} {
		t.Run(c.name, func(t *testing.T) {
			client := rapportv1connect.NewDecisionServiceClient(&http.Client{Transport: c.transport}, h.url, c.options...)
			res, err := client.Decide(context.Background(), connect.NewRequest(&rapportv1.DecideRequest{Customer: "1", Touchpoint: "web.home"}))
			if err != nil {
				t.Fatal(err)
			}
			if slate(res.Msg) != "top_up data_10g " || res.Header().Get("Rapport-Server-Time-Us") == "" {
				t.Errorf("slate %q, headers %v", slate(res.Msg), res.Header())
			}
			_, err = client.Decide(context.Background(), connect.NewRequest(&rapportv1.DecideRequest{Customer: "1", Touchpoint: "no.where"}))
			if connect.CodeOf(err) != connect.CodeNotFound || errorReason(err) != "TOUCHPOINT_NOT_FOUND" {
				t.Errorf("error %v, reason %q", err, errorReason(err))
			}
		})
	}
	h1.CloseIdleConnections()
	h2c.CloseIdleConnections()
	t.Run("GET", func(t *testing.T) {
		client := rapportv1connect.NewProfileServiceClient(http.DefaultClient, h.url, connect.WithHTTPGet(), connect.WithProtoJSON())
		res, err := client.GetProfile(context.Background(), connect.NewRequest(&rapportv1.GetProfileRequest{Customer: "1"}))
		if err != nil {
			t.Fatal(err)
		}
		if !res.Msg.GetKnown() {
			t.Error("the customer is unknown")
		}
	})
}

func errorReason(err error) string {
	var e *connect.Error
	if !errors.As(err, &e) {
		return ""
	}
	for _, d := range e.Details() {
		if v, err := d.Value(); err == nil {
			if info, ok := v.(*errdetails.ErrorInfo); ok {
				return info.GetReason()
			}
		}
	}
	return ""
}

// TestBadRequests: each is refused with a code and words that help, and the
// server goes on.
func TestBadRequests(t *testing.T) {
	h := newHouse(t)
	const decide = "/rapport.v1.DecisionService/Decide"
	nested := strings.Repeat(`{"a":`, 100) + "1" + strings.Repeat("}", 100)
	for _, c := range []struct {
		name, path, body string
		header           map[string]string
		status           int
		want             string
	}{
		{"no customer", decide, `{"touchpoint":"web.home"}`, nil, 400, "customer"},
		{"long customer", decide, `{"customer":"` + strings.Repeat("x", 300) + `","touchpoint":"web.home"}`, nil, 400, "customer"},
		{"bad namespace", decide, `{"customer":"A B:1","touchpoint":"web.home"}`, nil, 400, "namespace"},
		{"not JSON", decide, `{"customer":`, nil, 400, "invalid_argument"},
		{"misspelt field", decide, `{"customer":"1","touchpont":"web.home"}`, nil, 400, "touchpont"},
		{"empty body", decide, ``, nil, 400, "JSON object"},
		{"unknown touchpoint", decide, `{"customer":"1","touchpoint":"tv"}`, nil, 404, "TOUCHPOINT_NOT_FOUND"},
		{"unknown context", decide, `{"customer":"1","touchpoint":"web.home","context":{"mood":1}}`, nil, 400, "willing"},
		{"context of a wrong type", decide, `{"customer":"1","touchpoint":"web.home","context":{"willing":"yes"}}`, nil, 400, "flag"},
		{"too many slots", decide, `{"customer":"1","touchpoint":"web.home","slots":1000}`, nil, 400, "slots"},
		{"oversized", decide, `{"customer":"` + strings.Repeat("x", 5<<20) + `"}`, nil, 429, "resource_exhausted"},
		{"oversized event", "/rapport.v1.ProfileService/IngestEvents", `{"events":[{"id":"1","type":"x","identity":"1","time":"2026-01-01T00:00:00Z","attributes":{"a":"` + strings.Repeat("x", 70_000) + `"}}]}`, nil, 200, "at most 65536"},
		{"foreign host", decide, `{}`, map[string]string{"Host": "evil.example"}, 403, "loopback"},
		{"foreign origin", decide, `{}`, map[string]string{"Origin": "http://evil.example"}, 403, "loopback"},
		{"upload through a proxy", "/rapport.v1.StrategyService/UploadStrategy", `{"module":"AGFzbQEAAAD/"}`, map[string]string{"X-Forwarded-For": "10.0.0.1"}, 403, "LOOPBACK_ONLY"},
		{"compressed", decide, "\x1f\x8b", map[string]string{"Content-Encoding": "gzip"}, 501, "gzip"},
		{"deep nesting", "/rapport.v1.ProfileService/IngestEvents", `{"events":[{"id":"1","type":"x","identity":"1","time":"2026-01-01T00:00:00Z","attributes":` + nested + `}]}`, nil, 400, "recursion"},
		{"no events", "/rapport.v1.ProfileService/IngestEvents", `{}`, nil, 400, "events"},
		{"unknown method", "/rapport.v1.DecisionService/Guess", `{}`, nil, 404, ""},
		{"unknown generation", "/rapport.v1.SnapshotService/ActivateSnapshot", `{"source":"bi","generation":"77"}`, nil, 404, "SNAPSHOT_NOT_FOUND"},
		{"unknown source", "/rapport.v1.SnapshotService/RollbackSnapshot", `{"source":"nope"}`, nil, 404, "SNAPSHOT_NOT_FOUND"},
		{"nothing to roll back", "/rapport.v1.SnapshotService/RollbackSnapshot", `{"source":"bi"}`, nil, 400, "NO_EARLIER_SNAPSHOT"},
		{"broken module", "/rapport.v1.StrategyService/UploadStrategy", `{"module":"AGFzbQEAAAD/"}`, nil, 400, "STRATEGY_INVALID"},
		{"unknown strategy", "/rapport.v1.StrategyService/ReleaseStrategy", `{"name":"pvcl","version":"9"}`, nil, 404, "STRATEGY_NOT_FOUND"},
		{"unknown catalogue", "/rapport.v1.CatalogService/GetCatalog", `{"version":"9"}`, nil, 404, "CATALOG_NOT_FOUND"},
	} {
		t.Run(c.name, func(t *testing.T) {
			req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, h.url+c.path, strings.NewReader(c.body))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", "application/json")
			for k, v := range c.header {
				req.Header.Set(k, v)
				if k == "Host" {
					req.Host = v
				}
			}
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = res.Body.Close() }()
			b, err := io.ReadAll(res.Body)
			if err != nil {
				t.Fatal(err)
			}
			if res.StatusCode != c.status || !strings.Contains(string(b), c.want) {
				t.Errorf("status %d, want %d; body %.300s, want %q in it", res.StatusCode, c.status, b, c.want)
			}
		})
	}
	if got := slate(h.decide(t, "1", "web.home")); got != "top_up data_10g " {
		t.Errorf("afterwards: %q", got)
	}
}

// TestSlowClient: a client that does not finish its header is cut off.
func TestSlowClient(t *testing.T) {
	h := newHouse(t)
	var dialer net.Dialer
	conn, err := dialer.DialContext(context.Background(), "tcp", strings.TrimPrefix(h.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := conn.Write([]byte("POST / HTTP/1.1\r\nHost: x\r\n")); err != nil {
		t.Fatal(err)
	}
	if err := conn.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(conn); err != nil {
		t.Errorf("the server kept the connection open: %v", err)
	}
}

// TestStopWithStalledBody: a client that sends half a body and waits keeps
// nobody from stopping.
func TestStopWithStalledBody(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for the drain to give up")
	}
	h := newHouse(t)
	conn, err := new(net.Dialer).DialContext(context.Background(), "tcp", strings.TrimPrefix(h.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := fmt.Fprintf(conn, "POST /rapport.v1.DecisionService/Decide HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"); err != nil {
		t.Fatal(err)
	}
	h.decide(t, "1", "web.home") // the other request has surely been read by now
	h.stop()                     // fails the test on any error
}

// TestTimesOutOfRange: binary messages can hold times that JSON can't.
func TestTimesOutOfRange(t *testing.T) {
	h := newHouse(t)
	for _, bad := range []*timestamppb.Timestamp{
		{Seconds: 1<<63 - 1}, {Seconds: -1 << 63}, {Seconds: 9_300_000_000_000}, {Seconds: -70_000_000_000}, {Nanos: -5}, {Nanos: 1<<31 - 1},
	} {
		res, err := h.profiles().IngestEvents(context.Background(), connect.NewRequest(&rapportv1.IngestEventsRequest{
			Events: []*rapportv1.Event{{Id: "t", Type: "other", Identity: "2", Time: bad}},
		}))
		if err != nil || len(res.Msg.GetRefused()) != 1 {
			t.Errorf("an event at %v: %v, %v", bad, res, err)
		}
		_, err = h.decisions().Decide(context.Background(), connect.NewRequest(&rapportv1.DecideRequest{
			Customer: "1", Touchpoint: "web.home", DryRun: &rapportv1.DryRun{Time: bad},
		}))
		if connect.CodeOf(err) != connect.CodeInvalidArgument {
			t.Errorf("a dry run at %v: %v", bad, err)
		}
	}
}

// TestPublish: a catalogue with mistakes changes nothing and names them all.
func TestPublish(t *testing.T) {
	h := newHouse(t)
	bad := strings.NewReplacer("profile.value.balance < 10", "profile.value.balence < 10", "fallback: help", "fallback: hotline").Replace(catalogYAML)
	_, err := h.publish(bad)
	if connect.CodeOf(err) != connect.CodeInvalidArgument || errorReason(err) != "CATALOG_INVALID" {
		t.Fatalf("published with mistakes: %v", err)
	}
	var e *connect.Error
	_ = errors.As(err, &e)
	text := ""
	for _, d := range e.Details() {
		if v, err := d.Value(); err == nil {
			text += fmt.Sprint(v)
		}
	}
	for _, want := range []string{"catalog.yaml:11:", "balence", "value.balance", "hotline"} {
		if !strings.Contains(text, want) {
			t.Errorf("the details do not have %q: %s", want, text)
		}
	}
	if r := h.decide(t, "1", "web.home"); r.GetCatalogVersion() != 1 || slate(r) != "top_up data_10g " {
		t.Errorf("a bad catalogue changed something: %v", r)
	}
	again, err := h.publish(catalogYAML)
	if err != nil || again.GetVersion().GetVersion() != 1 {
		t.Errorf("the same catalogue again: %v, %v", again, err)
	}
	next, err := h.publish(strings.Replace(catalogYAML, "value: 30", "value: 300", 1))
	if err != nil || next.GetVersion().GetVersion() != 2 || next.GetPreviousVersion() != 1 {
		t.Fatalf("%v, %v", next, err)
	}
	if got := slate(h.decide(t, "1", "web.home")); got != "data_10g top_up " {
		t.Errorf("after version 2: %q", got)
	}
	list, err := h.catalogs().ListCatalogs(context.Background(), connect.NewRequest(&rapportv1.ListCatalogsRequest{}))
	if err != nil || len(list.Msg.GetVersions()) != 2 || !list.Msg.GetVersions()[0].GetCurrent() {
		t.Errorf("list: %v, %v", list, err)
	}
	first, err := h.catalogs().GetCatalog(context.Background(), connect.NewRequest(&rapportv1.GetCatalogRequest{Version: 1}))
	if err != nil || first.Msg.GetFiles()[0].GetContent() != catalogYAML || len(first.Msg.GetCatalog().GetOffers()) != 5 {
		t.Errorf("version 1: %v", err)
	}
}

// TestSwapsLoseNoRequest: catalogues, strategies and snapshots change under load,
// and every decision is answered, whole.
func TestSwapsLoseNoRequest(t *testing.T) {
	h := newHouse(t)
	load(t, h.dir, "bi", "customer,value.balance,usage.data_mb\n1,4.5,7000\n2,50,1\n")
	var stop atomic.Bool
	var decided atomic.Int64
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			client := h.decisions()
			for !stop.Load() {
				res, err := client.Decide(context.Background(), connect.NewRequest(&rapportv1.DecideRequest{Customer: "1", Touchpoint: "web.home"}))
				if connect.CodeOf(err) == connect.CodeResourceExhausted {
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				if got := slate(res.Msg); got != "top_up data_10g " && got != "data_10g top_up " || len(res.Msg.GetDegradations()) > 0 {
					t.Errorf("slate %q, degradations %v", got, res.Msg.GetDegradations())
				}
				decided.Add(1)
			}
		})
	}
	ctx := context.Background()
	for i := range 20 {
		if _, err := h.publish(strings.Replace(catalogYAML, "value: 30", fmt.Sprintf("value: %d", 30+i%2*300), 1)); err != nil {
			t.Error(err)
		}
		if _, err := h.snapshots().ActivateSnapshot(ctx, connect.NewRequest(&rapportv1.ActivateSnapshotRequest{Source: "bi", Generation: int64(1 + i%2)})); err != nil {
			t.Error(err)
		}
		if _, err := h.strategies().ReleaseStrategy(ctx, connect.NewRequest(&rapportv1.ReleaseStrategyRequest{Name: "pvcl", Version: liveVersion(t, h)})); err != nil {
			t.Error(err)
		}
	}
	stop.Store(true)
	wg.Wait()
	t.Logf("%d decisions over 60 swaps", decided.Load())
	if decided.Load() == 0 {
		t.Error("nothing was decided")
	}
}

func liveVersion(t testing.TB, h *house) string {
	t.Helper()
	res, err := h.strategies().ListStrategies(context.Background(), connect.NewRequest(&rapportv1.ListStrategiesRequest{Name: "pvcl"}))
	if err != nil || len(res.Msg.GetStrategies()) != 1 || !res.Msg.GetStrategies()[0].GetLive() {
		t.Fatalf("strategies: %v, %v", res, err)
	}
	return res.Msg.GetStrategies()[0].GetVersion()
}

// TestStop: after the signal the server is not ready, answers what is under way,
// and releases the folder.
func TestStop(t *testing.T) {
	dir := newData(t)
	h := open(t, dir, func(c *server.Config) { c.DrainDelay = 300 * time.Millisecond })
	if _, err := h.publish(catalogYAML); err != nil {
		t.Fatal(err)
	}
	if status, body := h.get(t, "/readyz"); status != 200 || body != "ready\n" {
		t.Fatalf("ready: %d %q", status, body)
	}
	_, err := server.Open(context.Background(), server.Config{Data: dir, Logger: quiet()})
	var locked *server.LockedError
	if !errors.As(err, &locked) || locked.URL != h.url {
		t.Errorf("a second server on the folder: %v", err)
	}
	done := make(chan struct{})
	go func() { h.stop(); close(done) }()
	notReady := false
	for !notReady {
		select {
		case <-done:
			t.Fatal("it stopped without having been not ready")
		default:
			status, body := h.get(t, "/readyz")
			notReady = status == 503 && strings.Contains(body, "stopping")
		}
	}
	if got := slate(h.decide(t, "1", "web.home")); got == "" {
		t.Error("no answer while draining")
	}
	<-done
	open(t, dir, nil).stop()
}

func TestReadiness(t *testing.T) {
	h := open(t, newData(t), nil)
	if status, body := h.get(t, "/readyz"); status != 503 || !strings.Contains(body, "rapport catalog publish") {
		t.Errorf("without a catalogue: %d %q", status, body)
	}
	_, err := h.decisions().Decide(context.Background(), connect.NewRequest(&rapportv1.DecideRequest{Customer: "1", Touchpoint: "web.home"}))
	if connect.CodeOf(err) != connect.CodeFailedPrecondition || errorReason(err) != "NO_CATALOG" {
		t.Errorf("without a catalogue: %v", err)
	}
	if status, _ := h.get(t, "/livez"); status != 200 {
		t.Errorf("livez: %d", status)
	}
	if _, err := h.publish(catalogYAML); err != nil {
		t.Fatal(err)
	}
	h.decide(t, "1", "web.home")
	status, body := h.get(t, "/metrics")
	if status != 200 {
		t.Fatalf("metrics: %d", status)
	}
	for _, want := range []string{
		`rapport_decisions_total{ranked_by="pvcl",scenario="inbound"} 1`, "rapport_decision_seconds_count 1",
		"rapport_ready 1", "rapport_catalog_version 1", `rapport_candidates_total{reason="unknown"}`, `rapport_events_total{outcome="accepted"} 0`,
	} {
		if !strings.Contains(body, want) {
			t.Errorf("/metrics does not have %s", want)
		}
	}
}

// TestDeadline: a decision that must be made at once is made, and says what it
// did without.
func TestDeadline(t *testing.T) {
	dir := newData(t)
	h := open(t, dir, func(c *server.Config) { c.Deadline = time.Nanosecond })
	if _, err := h.publish(catalogYAML); err != nil {
		t.Fatal(err)
	}
	r := h.decide(t, "1", "web.home")
	kinds := make(map[rapportv1.DegradationKind]bool)
	for _, d := range r.GetDegradations() {
		kinds[d.GetKind()] = true
	}
	if !kinds[rapportv1.DegradationKind_DEGRADATION_KIND_PROFILE_UNREADABLE] {
		t.Errorf("degradations %v", r.GetDegradations())
	}
	// Without the profile, an inbound channel offers only what is of class service.
	if got := slate(r); got != "help " || !r.GetSlate()[0].GetFallback() {
		t.Errorf("slate %q", got)
	}
	if got := slate(h.decide(t, "1", "sms.push")); got != "" {
		t.Errorf("outbound without a profile: %q", got)
	}
}

func TestConfig(t *testing.T) {
	for _, c := range []struct {
		config server.Config
		want   string
	}{
		{server.Config{}, "no data folder"},
		{server.Config{Data: "x", Listen: "nonsense"}, "HOST:PORT"},
		{server.Config{Data: "x", Listen: "0.0.0.0:80"}, "other machines"},
		{server.Config{Data: "x", Listen: ":80"}, "other machines"},
		{server.Config{Data: "x", Deadline: time.Hour}, "deadline"},
		{server.Config{Data: "x", MaxConcurrent: -1}, "max-concurrent"},
	} {
		if err := c.config.Validate(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: error %v, want one with %q", c.config, err, c.want)
		}
	}
	for _, listen := range []string{"", "localhost:0", "[::1]:80", "127.0.0.5:1"} {
		if err := (server.Config{Data: "x", Listen: listen}).Validate(); err != nil {
			t.Errorf("%q: %v", listen, err)
		}
	}
	if err := (server.Config{Data: "x", Listen: "0.0.0.0:80", Insecure: true}).Validate(); err != nil {
		t.Error(err)
	}
}
