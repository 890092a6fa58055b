package server_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"connectrpc.com/connect"
	"go.uber.org/goleak"

	"rapport/profilestore"
	"rapport/profilestore/badger"
	"rapport/server"
	rapportv1 "rapport/server/api/rapport/v1"
	"rapport/server/api/rapport/v1/rapportv1connect"
	"rapport/server/sandbox/compilertest"
)

func TestMain(m *testing.M) {
	compilertest.Main(func() int {
		status := m.Run()
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			status = max(status, 1)
		}
		return status
	})
}

const schemaYAML = `
sources:
  - {id: bi, description: business intelligence}
  - {id: crm}
fields:
  - {name: value.balance, type: number, batch: bi, decimals: 2, events: {on: 'event.type == "balance"', set: event.amount}}
  - {name: usage.data_mb, type: counter, batch: bi, decimals: 3, events: {on: 'event.type == "data_session"', add: event.mb}}
  - {name: tag.vip, type: flag, batch: crm}
`

const catalogYAML = `
context:
  - {name: willing, type: flag, default: true}
channels:
  - {id: web, direction: inbound}
  - {id: sms, direction: outbound, cost: 0.05}
touchpoints:
  - {id: web.home, channel: web, slots: 2}
  - {id: sms.push, channel: sms}
offers:
  - {id: top_up, group: care, class: service, value: 5, propensity: {start: 0.9}, eligible: profile.value.balance < 10, treatments: [{channel: web, content: Top up now}]}
  - {id: data_10g, group: data, class: marketing, value: 30, propensity: {start: 0.1}, eligible: profile.usage.data_mb > 5000, treatments: [{channel: web, content: 10 GB more}, {channel: sms, content: "10 GB more, reply 1"}]}
  - {id: vip_line, group: care, class: care, value: 1, propensity: {start: 0.5}, eligible: profile.tag.vip && context.willing, treatments: [{channel: web, content: Your own line}]}
  - {id: magazine, group: value_added, class: marketing, value: 2, propensity: {start: 0.2}, treatments: [{channel: web, content: Read on}]}
  - {id: help, group: care, class: service, value: 0, propensity: {start: 1}, treatments: [{channel: web, content: "How can we help?"}, {channel: sms, content: Hello}]}
scenarios:
  - {id: inbound, touchpoints: [web.home], offers: [top_up, data_10g, vip_line, magazine], strategy: {name: pvcl}, fallback: help}
  - {id: outbound, touchpoints: [sms.push], offers: [data_10g]}
`

// house is a server on loopback, with customers 1 to 3 in it.
type house struct {
	server *server.Server
	url    string
	stop   func()
	dir    string
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// newData makes a data folder with the schema, and customers loaded.
func newData(t testing.TB) string {
	t.Helper()
	return newDataOf(t, schemaYAML)
}

// newDataOf does so with a schema that has at least the fields of the other.
func newDataOf(t testing.TB, schema string) string {
	t.Helper()
	dir := t.TempDir()
	if _, _, err := server.InstallSchema(dir, "schema.yaml", []byte(schema)); err != nil {
		t.Fatal(err)
	}
	load(t, dir, "bi", "customer,value.balance,usage.data_mb\n1,3.5,6000\n2,50,10.25\n3,,9000\n")
	load(t, dir, "crm", "customer,tag.vip\n1,yes\n2,no\n")
	return dir
}

// copyOf copies a data folder that no server has open.
func copyOf(t testing.TB, data string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(data)); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(dir, "keys", "cache.key"), 0o600); err != nil { // CopyFS lets all read what it copies
		t.Fatal(err)
	}
	return dir
}

func load(t testing.TB, dir, source, csv string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), source+".csv")
	if err := os.WriteFile(file, []byte(csv), 0o600); err != nil {
		t.Fatal(err)
	}
	schema, err := server.InstalledSchema(dir)
	if err != nil {
		t.Fatal(err)
	}
	_, err = profilestore.Load(context.Background(), profilestore.LoadOptions{
		Dir: filepath.Join(dir, "snapshots"), Schema: schema, Engine: badger.Generations(quiet()), Source: source, Path: file,
		AsOf: time.Now().Truncate(time.Hour).UnixMicro(),
	})
	if err != nil {
		t.Fatal(err)
	}
}

// open serves a data folder.
func open(t testing.TB, dir string, change func(*server.Config)) *house {
	t.Helper()
	compiler, err := compilertest.Command()
	if err != nil {
		t.Fatal(err)
	}
	config := server.Config{Data: dir, Deadline: time.Second, Logger: quiet(), CacheEntries: 1000, Compiler: compiler}
	if change != nil {
		change(&config)
	}
	r := replayAll(t, &config)
	s, err := server.Open(context.Background(), config)
	if err != nil {
		t.Fatal(err)
	}
	r.server.Store(s)
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	h := &house{server: s, url: "http://" + l.Addr().String(), dir: dir}
	stopped := false
	h.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		http.DefaultClient.CloseIdleConnections()
	}
	t.Cleanup(h.stop)
	return h
}

// newHouse serves a data folder with everything in it.
func newHouse(t testing.TB) *house {
	t.Helper()
	h := open(t, newData(t), nil)
	ctx := context.Background()
	for _, source := range []string{"bi", "crm"} {
		if _, err := h.snapshots().ActivateSnapshot(ctx, connect.NewRequest(&rapportv1.ActivateSnapshotRequest{Source: source, Generation: 1})); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := h.publish(catalogYAML); err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *house) decisions() rapportv1connect.DecisionServiceClient {
	return rapportv1connect.NewDecisionServiceClient(http.DefaultClient, h.url)
}

func (h *house) profiles() rapportv1connect.ProfileServiceClient {
	return rapportv1connect.NewProfileServiceClient(http.DefaultClient, h.url)
}

func (h *house) snapshots() rapportv1connect.SnapshotServiceClient {
	return rapportv1connect.NewSnapshotServiceClient(http.DefaultClient, h.url)
}

func (h *house) catalogs() rapportv1connect.CatalogServiceClient {
	return rapportv1connect.NewCatalogServiceClient(http.DefaultClient, h.url)
}

func (h *house) strategies() rapportv1connect.StrategyServiceClient {
	return rapportv1connect.NewStrategyServiceClient(http.DefaultClient, h.url)
}

func (h *house) publish(yaml string) (*rapportv1.PublishCatalogResponse, error) {
	res, err := h.catalogs().PublishCatalog(context.Background(), connect.NewRequest(&rapportv1.PublishCatalogRequest{
		Files: []*rapportv1.CatalogFile{{Name: "catalog.yaml", Content: yaml}},
	}))
	if err != nil {
		return nil, err
	}
	return res.Msg, nil
}

func (h *house) decide(t testing.TB, customer, touchpoint string) *rapportv1.DecideResponse {
	t.Helper()
	res, err := h.decisions().Decide(context.Background(), connect.NewRequest(&rapportv1.DecideRequest{Customer: customer, Touchpoint: touchpoint}))
	if err != nil {
		t.Fatal(err)
	}
	return res.Msg
}

// slate returns the offers on a slate, best first.
func slate(r *rapportv1.DecideResponse) string {
	out := ""
	for _, p := range r.GetSlate() {
		out += p.GetOffer() + " "
	}
	return out
}

// reason returns what became of an offer that is not on the slate.
func reason(r *rapportv1.DecideResponse, offer string) rapportv1.Reason {
	for _, w := range r.GetWithheld() {
		if slices.Contains(w.GetOffers(), offer) {
			return w.GetReason()
		}
	}
	return rapportv1.Reason_REASON_UNSPECIFIED
}

// get returns the status and body of a plain GET.
func (h *house) get(t testing.TB, path string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, h.url+path, nil)
	if err != nil {
		t.Fatal(err)
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
	return res.StatusCode, string(b)
}
