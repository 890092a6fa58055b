package backup_test

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"rapport/profilestore"
	"rapport/profilestore/badger"
	"rapport/profilestore/durable"
	"rapport/profilestore/journal"
	"rapport/profilestore/reftable"
	"rapport/server"
	rapportv1 "rapport/server/api/rapport/v1"
	"rapport/server/api/rapport/v1/rapportv1connect"
	"rapport/server/backup"
	"rapport/server/sandbox/compilertest"
)

var backups = flag.Int("backups", 2, "how many backups TestRunningServer makes of a server under load, restores and compares")

const worldSchema = `
tables: [{id: area}]
sources: [{id: bi}]
fields:
  - {name: value.base, type: number, batch: bi, decimals: 2}
  - {name: usage.data_mb, type: counter, batch: bi, decimals: 3, events: {on: 'event.type == "data_session"', add: event.mb}}
  - {name: usage.hits, type: counter, events: {on: 'event.type == "data_session"', add: "1.0"}}
  - {name: location.area, type: text, events: {on: 'event.type == "cell"', set: 'area(event.cell)'}}
`

// worldCatalog has what can't be seen from outside without the ledger: a contact goes out
// three times a day, and there are so many places of k for all.
const (
	worldCap    = 3
	worldPlaces = 80
	worldPeople = 1000

	worldCatalog = `
channels:
  - {id: web, direction: inbound, hold: 2h}
touchpoints:
  - {id: web.home, channel: web}
  - {id: web.shop, channel: web}
offers:
  - {id: a, group: a, class: marketing, value: 1, propensity: {start: 0.%d, start_evidence: 10}, eligible: profile.usage.hits > -1.0, treatments: [{channel: web, content: x}]}
  - {id: k, group: k, class: service, propensity: {start: 0.5}, treatments: [{channel: web, content: x}]}
scenarios:
  - {id: home, touchpoints: [web.home], groups: [a], strategy: {name: pvcl}}
  - {id: shop, touchpoints: [web.shop], groups: [k]}
contact_policies:
  - {id: day, count: contact, max: 3, within: 1d, groups: [a]}
capacities:
  - {id: places, max: 80, per: total, offers: [k]}
`
)

// facts are what the world has been told, or has asked for.
type facts struct {
	hits, contacts [worldPeople]int // of each customer
	places         int
	recent         [recently]int // who were given a contact last
	catalog        int64
	generation     int64
	table          int64
}

// recently is of how many customers the limits are looked at.
const recently = 16

// world is a server under load, and what is known of it.
type world struct {
	t     testing.TB
	dir   string
	begun time.Time
	house *house

	mu    sync.Mutex
	acked facts // what has been answered
	asked facts // what has been asked for, and may have happened
	clock int64 // of events: no two have the same time
	ids   int

	tokens []string // of offers that nothing was reported of
}

// house is a server on loopback.
type house struct {
	server *server.Server
	url    string
	stop   func()
}

func serve(t testing.TB, dir string) *house {
	t.Helper()
	compiler, err := compilertest.Command()
	check(t, err)
	s, err := server.Open(context.Background(), server.Config{Data: dir, Deadline: 5 * time.Second, Logger: quiet(), CacheEntries: 1000, Compiler: compiler})
	check(t, err)
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	check(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	h := &house{server: s, url: "http://" + l.Addr().String()}
	h.stop = sync.OnceFunc(func() {
		cancel()
		if err := errors.Join(<-done, s.Close()); err != nil {
			t.Error(err)
		}
		http.DefaultClient.CloseIdleConnections()
	})
	t.Cleanup(h.stop)
	return h
}

func (h *house) profiles() rapportv1connect.ProfileServiceClient {
	return rapportv1connect.NewProfileServiceClient(http.DefaultClient, h.url)
}

func (h *house) decisions() rapportv1connect.DecisionServiceClient {
	return rapportv1connect.NewDecisionServiceClient(http.DefaultClient, h.url)
}

func (h *house) catalogs() rapportv1connect.CatalogServiceClient {
	return rapportv1connect.NewCatalogServiceClient(http.DefaultClient, h.url)
}

func (h *house) snapshots() rapportv1connect.SnapshotServiceClient {
	return rapportv1connect.NewSnapshotServiceClient(http.DefaultClient, h.url)
}

func (h *house) tables() rapportv1connect.TableServiceClient {
	return rapportv1connect.NewTableServiceClient(http.DefaultClient, h.url)
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, dir: tempDir(t), begun: time.Now()}
	_, _, err := server.InstallSchema(w.dir, "schema.yaml", []byte(worldSchema))
	check(t, err)
	w.house = serve(t, w.dir)
	check(t, w.load())
	check(t, w.table())
	check(t, w.publish())
	return w
}

func (w *world) both(change func(*facts)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change(&w.asked)
	change(&w.acked)
}

// do says that something is asked for, does it, and says that it was answered.
func (w *world) do(change func(*facts), do func() error) error {
	w.mu.Lock()
	change(&w.asked)
	w.mu.Unlock()
	err := do()
	if err == nil {
		w.mu.Lock()
		change(&w.acked)
		w.mu.Unlock()
	}
	return err
}

// load loads the next generation, in which all values say which it is, and makes it
// current.
func (w *world) load() error {
	n := w.acked.generation + 1
	var csv strings.Builder
	csv.WriteString("customer,value.base,usage.data_mb\n")
	for i := range worldPeople {
		fmt.Fprintf(&csv, "%d,%d,%d\n", i, n, 1_000_000*n)
	}
	path := filepath.Join(w.t.TempDir(), "bi.csv")
	if err := os.WriteFile(path, []byte(csv.String()), 0o600); err != nil {
		return err
	}
	schema, err := server.InstalledSchema(w.dir)
	if err != nil {
		return err
	}
	_, err = profilestore.Load(context.Background(), profilestore.LoadOptions{
		Dir: filepath.Join(w.dir, "snapshots"), Schema: schema, Engine: badger.Generations(quiet()), Source: "bi", Path: path, Retain: 2,
		AsOf: w.begun.Add(-1000 * time.Hour).Truncate(time.Hour).Add(time.Duration(n) * time.Hour / 4).UnixMicro(),
	})
	if err != nil {
		return err
	}
	return w.do(func(f *facts) { f.generation = n }, func() error {
		_, err := w.house.snapshots().ActivateSnapshot(context.Background(), connect.NewRequest(&rapportv1.ActivateSnapshotRequest{Source: "bi", Generation: n}))
		return err
	})
}

// table loads the next version of the table, in which all cells are in an area named by
// it, and puts it into force.
func (w *world) table() error {
	n := w.acked.table + 1
	path := filepath.Join(w.t.TempDir(), "area.csv")
	if err := os.WriteFile(path, fmt.Appendf(nil, "cell,area\nc,area%d\n", n), 0o600); err != nil {
		return err
	}
	if _, err := reftable.Load(context.Background(), reftable.LoadOptions{Dir: filepath.Join(w.dir, "tables"), Table: "area", Path: path}); err != nil {
		return err
	}
	return w.do(func(f *facts) { f.table = n }, func() error {
		_, err := w.house.tables().ActivateTable(context.Background(), connect.NewRequest(&rapportv1.ActivateTableRequest{Table: "area", Version: n}))
		return err
	})
}

// publish publishes the next version of the catalogue.
func (w *world) publish() error {
	n := w.acked.catalog + 1
	return w.do(func(f *facts) { f.catalog = n }, func() error {
		_, err := w.house.catalogs().PublishCatalog(context.Background(), connect.NewRequest(&rapportv1.PublishCatalogRequest{
			Files: []*rapportv1.CatalogFile{{Name: "catalog.yaml", Content: fmt.Sprintf(worldCatalog, 100+n)}},
		}))
		return err
	})
}

// send sends some events of one customer.
func (w *world) send(r *rand.Rand) error {
	who := r.IntN(worldPeople)
	q := &rapportv1.IngestEventsRequest{}
	hits := 0
	w.mu.Lock()
	for range 1 + r.IntN(8) {
		w.ids++
		w.clock = max(w.clock+1, time.Now().UnixMicro())
		e := &rapportv1.Event{Id: fmt.Sprintf("e%d", w.ids), Type: "cell", Identity: fmt.Sprint(who), Time: timestamppb.New(time.UnixMicro(w.clock))}
		attributes := map[string]any{"cell": "c"}
		if r.IntN(3) > 0 {
			hits++
			e.Type, attributes = "data_session", map[string]any{"mb": float64(r.IntN(100))}
		}
		e.Attributes, _ = structpb.NewStruct(attributes) // they are numbers and texts
		q.Events = append(q.Events, e)
	}
	w.mu.Unlock()
	return w.do(func(f *facts) { f.hits[who] += hits }, func() error {
		res, err := w.house.profiles().IngestEvents(context.Background(), connect.NewRequest(q))
		if err == nil && int(res.Msg.GetAccepted()) != len(q.GetEvents()) {
			err = fmt.Errorf("%d of %d events: %v", res.Msg.GetAccepted(), len(q.GetEvents()), res.Msg.GetRefused())
		}
		return err
	})
}

// decide decides for a customer, and reports what came of an offer of before.
func (w *world) decide(r *rand.Rand) error {
	who, touchpoint := r.IntN(worldPeople), "web.home"
	if r.IntN(10) == 0 {
		touchpoint = "web.shop"
	}
	answer, err := w.house.ask(who, touchpoint)
	if connect.CodeOf(err) == connect.CodeResourceExhausted { // refused before anything was done
		return nil
	}
	if err != nil || len(answer.GetSlate()) == 0 {
		return err
	}
	w.both(func(f *facts) { f.give(who, touchpoint) })
	w.mu.Lock()
	w.tokens = append(w.tokens, answer.GetSlate()[0].GetToken())
	n := len(w.tokens)
	w.mu.Unlock()
	if n < 10 {
		return nil
	}
	return w.report(r)
}

// report reports what came of one of the offers that were made.
func (w *world) report(r *rand.Rand) error {
	w.mu.Lock()
	i := r.IntN(len(w.tokens))
	token := w.tokens[i]
	w.tokens[i] = w.tokens[len(w.tokens)-1]
	w.tokens = w.tokens[:len(w.tokens)-1]
	w.mu.Unlock()
	_, err := w.house.decisions().RecordOutcomes(context.Background(), connect.NewRequest(&rapportv1.RecordOutcomesRequest{
		Reports: []*rapportv1.OutcomeReport{{Token: token, Outcome: "clicked"}},
	}))
	return err
}

// give counts a contact that went out.
func (f *facts) give(who int, touchpoint string) {
	if touchpoint == "web.home" {
		f.contacts[who]++
		copy(f.recent[1:], f.recent[:])
		f.recent[0] = who
	} else {
		f.places++
	}
}

func (h *house) ask(who int, touchpoint string) (*rapportv1.DecideResponse, error) {
	res, err := h.decisions().Decide(context.Background(), connect.NewRequest(&rapportv1.DecideRequest{Customer: fmt.Sprint(who), Touchpoint: touchpoint}))
	if err != nil {
		return nil, err
	}
	if n := len(res.Msg.GetDegradations()); n > 0 {
		return nil, fmt.Errorf("a decision was degraded: %v", res.Msg.GetDegradations())
	}
	return res.Msg, nil
}

// run puts the server under load until stop is closed.
func (w *world) run(seed uint64, stop <-chan struct{}) (wait func()) {
	var work sync.WaitGroup
	loop := func(n uint64, pause time.Duration, step func(*rand.Rand) error) {
		work.Go(func() {
			r := rand.New(rand.NewPCG(seed, n))
			for {
				select {
				case <-stop:
					return
				case <-time.After(time.Duration(r.Int64N(int64(pause)))):
				}
				if err := step(r); err != nil {
					w.t.Errorf("under load: %v", err)
					return
				}
			}
		})
	}
	loop(1, time.Millisecond, w.send)
	loop(2, time.Millisecond, w.send)
	loop(3, 2*time.Millisecond, w.decide)
	loop(4, 2*time.Millisecond, w.decide)
	loop(5, 100*time.Millisecond, func(*rand.Rand) error { return w.load() })
	loop(6, 10*time.Millisecond, func(*rand.Rand) error { return w.table() })
	loop(7, 10*time.Millisecond, func(*rand.Rand) error { return w.publish() })
	return work.Wait
}

// look returns what is known now.
func (w *world) look(of *facts) facts {
	w.mu.Lock()
	defer w.mu.Unlock()
	return *of
}

// TestRunningServer makes backups of a server under load, restores each, and compares what
// a server on it says: with its journal, of which profiles are the fold; and with what the
// world had been told before the backup began, and had asked for when it ended.
func TestRunningServer(t *testing.T) {
	w := newWorld(t)
	to := tempDir(t)
	stop := make(chan struct{})
	wait := w.run(5, stop)
	var taken []takenBackup
	r := rand.New(rand.NewPCG(5, 5))
	for i := range *backups {
		<-time.After(time.Duration(20+r.IntN(200)) * time.Millisecond)
		if i == *backups-1 {
			w.awaitDecisions()
		}
		before := w.look(&w.acked)
		m, err := backup.Take(t.Context(), backup.Options{Data: w.dir, To: to, Version: "test", Hook: func(name string) {
			if !strings.Contains(name, "/") || strings.Contains(name, "CURRENT") { // so that a wrong order shows
				<-time.After(time.Duration(r.IntN(20)) * time.Millisecond)
			}
		}})
		check(t, err)
		taken = append(taken, takenBackup{m, before, w.look(&w.asked)})
	}
	close(stop)
	wait()
	w.house.stop()
	var sums restoredSums
	for _, b := range taken {
		w.compare(r, b, to, &sums)
	}
	t.Logf("%d backups: %+v", len(taken), sums)
	if sums.entries == 0 || sums.decisions == 0 || sums.withheld == 0 {
		t.Error("too little happened")
	}
	v, err := backup.Verify(t.Context(), backup.VerifyOptions{Folder: to})
	if check(t, err); v.Damaged() > 0 {
		t.Errorf("%+v", v)
	}
}

// awaitDecisions waits until the decision log has some: it is written every 800 ms.
func (w *world) awaitDecisions() {
	for range time.Tick(10 * time.Millisecond) {
		files, err := filepath.Glob(filepath.Join(w.dir, "decisions", "*.log"))
		check(w.t, err)
		for _, path := range files {
			if info, err := os.Stat(path); err == nil && info.Size() > 4096 {
				return
			}
		}
	}
}

type takenBackup struct {
	*backup.Manifest
	before facts // had been answered when it began
	after  facts // had been asked for when it ended
}

// restoredSums count how often what was compared occurred.
type restoredSums struct {
	entries, decisions, withheld   int
	laterEvents, catalogs, offered int // events of after the backup began that it has; versions; given after a restore
	inexact                        int64
}

// compare restores a backup and compares.
func (w *world) compare(r *rand.Rand, b takenBackup, to string, sums *restoredSums) {
	t := w.t
	t.Helper()
	dir := filepath.Join(tempDir(t), "restored")
	_, err := backup.Restore(context.Background(), backup.RestoreOptions{Folder: to, ID: b.ID, Data: dir})
	check(t, err)
	fold := foldJournal(t, dir)
	if fold.next != b.Next {
		t.Errorf("backup %s: the journal ends before %d, its manifest says %d", b.ID, fold.next, b.Next)
	}
	sums.entries += int(fold.next) - 1
	h := serve(t, dir)
	defer h.stop()

	// Snapshots, tables, catalogues: those of before, or one that came meanwhile.
	list, err := h.snapshots().ListSnapshots(context.Background(), connect.NewRequest(&rapportv1.ListSnapshotsRequest{}))
	check(t, err)
	var active int64
	for _, s := range list.Msg.GetSnapshots() {
		if s.GetState() == "active" {
			active = s.GetGeneration()
		}
	}
	tables, err := h.tables().ListTables(context.Background(), connect.NewRequest(&rapportv1.ListTablesRequest{}))
	check(t, err)
	var table int64
	for _, x := range tables.Msg.GetVersions() {
		if x.GetState() == "active" {
			table = x.GetVersion()
		}
	}
	current, err := h.catalogs().GetCatalog(context.Background(), connect.NewRequest(&rapportv1.GetCatalogRequest{}))
	check(t, err)
	version := current.Msg.GetVersion().GetVersion()
	sums.catalogs += int(version)
	for what, x := range map[string][3]int64{
		"snapshot": {b.before.generation, active, b.after.generation}, "table": {b.before.table, table, b.after.table}, "catalogue": {b.before.catalog, version, b.after.catalog},
	} {
		if x[1] < x[0] || x[1] > x[2] {
			t.Errorf("backup %s: %s %d is current; %d was before it, %d after", b.ID, what, x[1], x[0], x[2])
		}
	}

	// Profiles are the fold of the journal, which has what was acknowledged.
	for range 100 {
		who := r.IntN(worldPeople)
		res, err := h.profiles().GetProfile(context.Background(), connect.NewRequest(&rapportv1.GetProfileRequest{Customer: fmt.Sprint(who)}))
		check(t, err)
		got := make(map[string]any)
		for _, f := range res.Msg.GetFields() {
			switch f.GetName() {
			case "location.area":
				got[f.GetName()] = f.GetText()
			default:
				got[f.GetName()] = f.GetNumber()
			}
		}
		x := fold.people[who]
		want := map[string]any{"value.base": float64(active), "usage.data_mb": 1e6*float64(active) + x.mb, "usage.hits": float64(x.hits), "location.area": x.area}
		for name, v := range want {
			if got[name] != v {
				t.Errorf("backup %s: %s of %d is %v, the journal says %v", b.ID, name, who, got[name], v)
			}
		}
		if x.hits < b.before.hits[who] || x.hits > b.after.hits[who] {
			t.Errorf("backup %s: %d events of %d; %d had been acknowledged before it, %d were sent until its end", b.ID, x.hits, who, b.before.hits[who], b.after.hits[who])
		}
		sums.laterEvents += x.hits - b.before.hits[who]
	}

	// Every decision of the log comes out the same.
	stream, err := h.decisions().ReplayDecisions(context.Background(), connect.NewRequest(&rapportv1.ReplayDecisionsRequest{}))
	check(t, err)
	var summary *rapportv1.ReplaySummary
	for stream.Receive() {
		if s := stream.Msg().GetSummary(); s != nil {
			summary = s
		}
	}
	check(t, errors.Join(stream.Err(), stream.Close()))
	if summary.GetDifferent() != 0 || summary.GetInexact() != 0 {
		t.Errorf("backup %s: of %d decisions %d came out different, %d could not be made again: %v", b.ID, summary.GetDecisions(), summary.GetDifferent(), summary.GetInexact(), summary.GetCauses())
	}
	sums.decisions += int(summary.GetDecisions())
	sums.inexact += summary.GetInexact()

	// Limits hold over what went out before the backup and goes out after the restore.
	given := b.before
	ask := func(who int, touchpoint string) (offered bool) {
		answer, err := h.ask(who, touchpoint)
		check(t, err)
		if len(answer.GetSlate()) == 0 {
			sums.withheld++
			return false
		}
		sums.offered++
		given.give(who, touchpoint)
		return true
	}
	for _, who := range b.before.recent {
		for range worldCap + 1 {
			ask(who, "web.home")
		}
	}
	for ask(0, "web.shop") {
		continue
	}
	for who, n := range given.contacts {
		if n > worldCap {
			t.Errorf("backup %s: %d contacts of customer %d, %d of them before it: %d may be", b.ID, n, who, b.before.contacts[who], worldCap)
		}
	}
	if given.places > worldPlaces {
		t.Errorf("backup %s: %d places given, %d of them before it: there are %d", b.ID, given.places, b.before.places, worldPlaces)
	}
}

// folded is what the journal says of all customers.
type folded struct {
	next   uint64
	people [worldPeople]struct {
		hits int
		mb   float64
		area string
	}
}

// foldJournal reads a journal without the profile store.
func foldJournal(t testing.TB, dir string) (out folded) {
	t.Helper()
	var sets struct {
		Sets []struct {
			Number   uint64
			Versions map[string]int64
		}
	}
	b, err := durable.ReadSealed(filepath.Join(dir, "tables", "SETS.json"))
	check(t, err)
	check(t, json.Unmarshal(b, &sets))
	j, err := journal.Open(filepath.Join(dir, "journal"), journal.Options{Logger: quiet()})
	check(t, err)
	if r := j.Recovery(); r.File != "" {
		t.Errorf("the journal ends with half a group: %+v", r)
	}
	seen := make(map[string]bool)
	check(t, j.Replay(context.Background(), 1, func(_ uint64, b []byte) error {
		var set uint64
		if b = b[1:]; true {
			n, size := binary.Uvarint(b) // every event here has a set of tables
			set, b = n, b[size:]
		}
		for range 2 { // times
			_, size := binary.Varint(b)
			b = b[size:]
		}
		var texts [3]string // id, type, identity
		for i := range texts {
			n, size := binary.Uvarint(b)
			texts[i], b = string(b[size:size+int(n)]), b[size+int(n):]
		}
		var attributes struct{ MB float64 }
		if err := json.Unmarshal(b, &attributes); err != nil {
			return err
		}
		var who int
		if _, err := fmt.Sscanf(texts[2], "customer:%d", &who); err != nil || seen[texts[0]] {
			return err
		}
		seen[texts[0]] = true
		x := &out.people[who]
		switch texts[1] {
		case "data_session":
			x.hits++
			x.mb += attributes.MB
		case "cell":
			x.area = ""
			for _, s := range sets.Sets {
				if s.Number == set {
					x.area = fmt.Sprintf("area%d", s.Versions["area"])
				}
			}
			if x.area == "" {
				t.Errorf("an event was mapped by the tables of set %d, which is not there", set)
			}
		}
		return nil
	}))
	out.next = j.Next()
	check(t, j.Close())
	return out
}
