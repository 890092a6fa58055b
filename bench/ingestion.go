package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"rapport/profilestore"
	"rapport/profilestore/badger"
	"rapport/profilestore/journal"
	"rapport/profilestore/rules"
	"rapport/server"
	rapportv1 "rapport/server/api/rapport/v1"
	"rapport/server/api/rapport/v1/rapportv1connect"
	"rapport/server/catalog"
)

// Ingestion is what it costs to take events until they are durable and visible:
// through the store, and through the handler of the RPC, against appending the same
// bytes to a journal on the same disk, with as many senders who send as much at a
// time and wait for each answer, and with as many syncs: the journal's groups are held
// to the size of the store's. Beside it is a journal that groups as it likes.
type Ingestion struct {
	Senders, Each int // senders, and events in each of their calls
	Comparison    *Comparison
	// PerSync is how many events a sync made durable: of the journal with the store's
	// syncs, the store, the handler, and the journal left alone.
	PerSync [4]float64
	// Disk is what the files are on.
	Disk string
}

// ingestGoal is 0.7 of a journal's events a second.
const ingestGoal = 1.43

const ingestCustomers = 10_000

// MeasureIngestion measures senders who send so many events in each call. compiler is
// the command that compiles strategies, which a server has to have.
func MeasureIngestion(ctx context.Context, o Options, compiler []string, senders, each int) (_ *Ingestion, err error) {
	in := &ingesting{ctx: ctx, senders: senders, each: each, calls: max(4, 1024/(senders*each))}
	if in.dir, err = os.MkdirTemp("", "rapport-bench"); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, in.close()) }()
	store, err := in.throughStore()
	if err != nil {
		return nil, err
	}
	for range 4 { // to see its groups
		if err := store.Run(); err != nil {
			return nil, err
		}
		store.Settle()
	}
	limit, err := in.journal("journal with the store's syncs", 0, max(each, int(in.counts[1].perSync()+0.5)))
	if err != nil {
		return nil, err
	}
	alone, err := in.journal("journal left alone", 3, 0)
	if err != nil {
		return nil, err
	}
	handler, err := in.throughHandler(compiler)
	if err != nil {
		return nil, err
	}
	i := &Ingestion{Senders: senders, Each: each, Disk: fileSystem(in.dir)}
	if i.Comparison, err = Compare(ctx, o, limit, store, handler, alone); err != nil {
		return nil, err
	}
	if err := in.countServer(); err != nil {
		return nil, err
	}
	for k, n := range in.counts {
		i.PerSync[k] = n.perSync()
	}
	return i, nil
}

// ingesting is what MeasureIngestion measures with.
type ingesting struct {
	ctx           context.Context
	dir           string
	senders, each int
	calls         int // of each sender in a run, so that there are always some under way
	closers       []func() error
	sent          int // events that have been made
	counts        [4]syncCount
	handler       http.Handler
}

// syncCount counts syncs, and events in them.
type syncCount struct{ events, syncs float64 }

func (c syncCount) perSync() float64 { return c.events / max(1, c.syncs) }

const ingestSchema = `
fields:
  - {name: usage.data_mb, type: counter, decimals: 3, events: {on: 'event.type == "data"', add: event.mb}}
  - {name: usage.sessions, type: counter, events: {on: 'event.type == "data"', add: 1}}
  - {name: usage.week_mb, type: counter, decimals: 3, window: 7d, events: {on: 'event.type == "data"', add: event.mb}}
  - {name: location.cell, type: text, events: {on: 'has(event.cell)', set: event.cell}}
  - {name: value.balance, type: number, decimals: 2, events: {on: 'event.type == "balance"', set: event.balance}}
`

// subject makes calls side by side: fill, which is not measured, makes what sender s
// sends in call c, and send sends it.
func (in *ingesting) subject(name string, goal Goal, fill func(s, c int), send func(s, c int) error) Subject {
	prepare := func() {
		for s := range in.senders {
			for c := range in.calls {
				fill(s, c)
			}
		}
	}
	prepare()
	errs := make([]error, in.senders)
	return Subject{Name: name, Batch: in.senders * in.calls * in.each, Goal: goal, Settle: prepare, Settled: true, Run: func() error {
		var all sync.WaitGroup
		for s := range in.senders {
			all.Go(func() {
				for c := range in.calls {
					if errs[s] = send(s, c); errs[s] != nil {
						return
					}
				}
			})
		}
		all.Wait()
		return errors.Join(errs...)
	}}
}

// grid is what each sender sends in each call.
func grid[T any](in *ingesting) [][]T {
	g := make([][]T, in.senders)
	for s := range g {
		g[s] = make([]T, in.calls)
	}
	return g
}

// event makes an event that was never sent: a data session.
func (in *ingesting) event() *profilestore.Event {
	in.sent++
	return &profilestore.Event{
		ID: fmt.Sprintf("9b2de5a0-%08d", in.sent), Type: "data", Identity: profileCustomer(in.sent * 7919 % ingestCustomers), Time: time.Now().UnixMicro(),
		Attributes: map[string]any{"mb": float64(in.sent%4000) / 8, "cell": fmt.Sprintf("460-00-%d", in.sent%500), "rat": "5G"},
	}
}

// payload returns what an event is in a store's journal.
func (in *ingesting) payload() ([]byte, error) {
	dir, err := os.MkdirTemp(in.dir, "sample")
	if err != nil {
		return nil, err
	}
	store, err := in.open(dir, nil)
	if err != nil {
		return nil, err
	}
	_, err = store.Ingest(in.ctx, []*profilestore.Event{in.event()})
	if err := errors.Join(err, store.Close()); err != nil {
		return nil, err
	}
	j, err := journal.Open(filepath.Join(dir, "journal"), journal.Options{})
	if err != nil {
		return nil, err
	}
	var payload []byte
	err = j.Replay(in.ctx, 1, func(_ uint64, p []byte) error {
		payload = bytes.Clone(p)
		return nil
	})
	return payload, errors.Join(err, j.Close())
}

func (in *ingesting) open(dir string, synced func(events, bytes int, took time.Duration)) (*profilestore.Store, error) {
	schema, problems := catalog.ReadSchema("schema.yaml", []byte(ingestSchema))
	if len(problems) > 0 {
		return nil, fmt.Errorf("bench: schema: %v", problems)
	}
	mapper, err := rules.NewEventMapper(schema)
	if err != nil {
		return nil, err
	}
	quiet := slog.New(slog.DiscardHandler)
	engine, err := badger.Open(filepath.Join(dir, "deltas"), badger.Options{Logger: quiet})
	if err != nil {
		return nil, err
	}
	return profilestore.OpenStore(in.ctx, profilestore.Options{
		Dir: dir, Schema: schema, Mapper: mapper, Engine: engine, CacheEntries: server.DefaultCacheEntries, Logger: quiet, OnSync: synced,
	})
}

// counted counts the syncs of one of those that are measured.
func (in *ingesting) counted(k int) func(events, bytes int, took time.Duration) {
	return func(events, _ int, _ time.Duration) {
		in.counts[k].events += float64(events)
		in.counts[k].syncs++
	}
}

// journal appends to a journal with groups of at most so many entries, and counts its
// syncs as k.
func (in *ingesting) journal(name string, k, group int) (Subject, error) {
	payload, err := in.payload()
	if err != nil {
		return Subject{}, err
	}
	j, err := journal.Open(filepath.Join(in.dir, fmt.Sprintf("journal-%d", k)), journal.Options{OnSync: in.counted(k), GroupEntries: group})
	if err != nil {
		return Subject{}, err
	}
	in.closers = append(in.closers, j.Close)
	entries := grid[[]*journal.Entry](in)
	return in.subject(name, Goal{}, func(s, c int) {
		entries[s][c] = nil
		for range in.each {
			entries[s][c] = append(entries[s][c], &journal.Entry{Payload: payload})
		}
	}, func(s, c int) error {
		_, err := j.Append(in.ctx, entries[s][c]...)
		return err
	}), nil
}

func (in *ingesting) throughStore() (Subject, error) {
	store, err := in.open(filepath.Join(in.dir, "store"), in.counted(1))
	if err != nil {
		return Subject{}, err
	}
	in.closers = append(in.closers, store.Close)
	events := grid[[]*profilestore.Event](in)
	return in.subject("store", Goal{Ratio: ingestGoal}, func(s, c int) {
		events[s][c] = nil
		for range in.each {
			events[s][c] = append(events[s][c], in.event())
		}
	}, func(s, c int) error {
		results, err := store.Ingest(in.ctx, events[s][c])
		for _, r := range results {
			if r.Outcome != profilestore.Accepted {
				return fmt.Errorf("an event was not accepted: %w", r.Err)
			}
		}
		return err
	}), nil
}

// throughHandler sends requests as they come from the network, without one.
func (in *ingesting) throughHandler(compiler []string) (Subject, error) {
	dir := filepath.Join(in.dir, "server")
	if _, _, err := server.InstallSchema(dir, "schema.yaml", []byte(ingestSchema)); err != nil {
		return Subject{}, err
	}
	srv, err := server.Open(in.ctx, server.Config{Data: dir, Compiler: compiler, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return Subject{}, err
	}
	in.closers = append(in.closers, srv.Close)
	in.handler = srv.Handler()
	requests := grid[*http.Request](in)
	return in.subject("RPC handler", Goal{Ratio: ingestGoal}, func(s, c int) {
		message := &rapportv1.IngestEventsRequest{}
		for range in.each {
			message.Events = append(message.Events, in.message(in.event()))
		}
		body, err := proto.Marshal(message)
		if err != nil {
			panic(err) // it can't happen
		}
		r := httptest.NewRequestWithContext(in.ctx, http.MethodPost, rapportv1connect.ProfileServiceIngestEventsProcedure, bytes.NewReader(body))
		r.Header.Set("Content-Type", "application/proto")
		requests[s][c] = r
	}, func(s, c int) error {
		w := httptest.NewRecorder()
		in.handler.ServeHTTP(w, requests[s][c])
		var answer rapportv1.IngestEventsResponse
		if err := proto.Unmarshal(w.Body.Bytes(), &answer); err != nil || int(answer.GetAccepted()) != in.each {
			return fmt.Errorf("the handler answered %d, %.200q; %w", w.Code, w.Body, err)
		}
		return nil
	}), nil
}

// countServer counts the server's syncs, by its metrics.
func (in *ingesting) countServer() error {
	w := httptest.NewRecorder()
	in.handler.ServeHTTP(w, httptest.NewRequestWithContext(in.ctx, http.MethodGet, "/metrics", nil))
	for line := range strings.Lines(w.Body.String()) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		n, err := strconv.ParseFloat(value, 64)
		switch name {
		case "rapport_journal_group_events_sum":
			in.counts[2].events = n
		case "rapport_journal_group_events_count":
			in.counts[2].syncs = n
		default:
			continue
		}
		if err != nil {
			return fmt.Errorf("bench: metrics: %w", err)
		}
	}
	return nil
}

func (in *ingesting) message(e *profilestore.Event) *rapportv1.Event {
	attributes, err := structpb.NewStruct(e.Attributes)
	if err != nil {
		panic(err) // it can't happen
	}
	return &rapportv1.Event{Id: e.ID, Type: e.Type, Identity: e.Identity, Time: timestamppb.New(time.UnixMicro(e.Time)), Attributes: attributes}
}

func (in *ingesting) close() error {
	var errs []error
	for _, c := range in.closers {
		errs = append(errs, c())
	}
	return errors.Join(append(errs, os.RemoveAll(in.dir))...)
}

// fileSystem names the kind of file system that a folder is on.
func fileSystem(dir string) string {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil {
		return "an unknown file system"
	}
	names := map[uint32]string{0xef53: "ext4", 0x58465342: "xfs", 0x9123683e: "btrfs", 0x794c7630: "overlayfs", 0x01021994: "tmpfs, where a sync costs nothing"}
	if name, ok := names[uint32(fs.Type)]; ok {
		return name
	}
	return fmt.Sprintf("file system %#x", fs.Type)
}

// Write prints the table for people.
func (i *Ingestion) Write(w io.Writer) error {
	_, err := fmt.Fprintf(w, "%d senders of %d events at a time, on %s, for an event:\n", i.Senders, i.Each, i.Disk)
	errs := []error{err, i.Comparison.Write(w)}
	for k, f := range append([]Figures{i.Comparison.Limit}, i.Comparison.Subjects...) {
		_, err := fmt.Fprintf(w, "%s: %.0f events/s, %.0f in a sync\n", f.Name, 1e9/float64(max(1, f.P50)), i.PerSync[k])
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
