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
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	"rapport/profilestore"
	"rapport/profilestore/badger"
	"rapport/server"
	rapportv1 "rapport/server/api/rapport/v1"
	"rapport/server/api/rapport/v1/rapportv1connect"
)

// Remembering is what the decision log costs: decisions through the handler of the RPC,
// which keep a record or don't, one after the other on a hot profile; and what a replay
// of them costs.
type Remembering struct {
	Candidates int
	Comparison *Comparison
	// CPU is the processor time of a decision: without the log, and with it, all that it
	// does aside included.
	CPU [2]time.Duration
	// Raw and Packed are bytes of a record: as encoded, and as it is on disk.
	Raw, Packed float64
	// Replay is the processor time of a decision that is made again from its record.
	Replay    time.Duration
	Replays   int64
	PerSecond float64 // decisions made again
	Identical bool
}

// rememberGoal is how long a decision with the log may take, over one without.
const rememberGoal = 1.15

const rememberCustomers = 1000

// MeasureRemembering measures decisions of so many candidates, of which the customers are
// eligible for six of ten. compiler is as for MeasureIngestion.
func MeasureRemembering(ctx context.Context, o Options, compiler []string, candidates int) (_ *Remembering, err error) {
	m := &remembering{ctx: ctx, candidates: candidates}
	if m.dir, err = os.MkdirTemp("", "rapport-bench"); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, m.close()) }()
	without, err := m.server("without", compiler, -1)
	if err != nil {
		return nil, err
	}
	with, err := m.server("with", compiler, 0)
	if err != nil {
		return nil, err
	}
	out := &Remembering{Candidates: candidates}
	limit, subject := Subject{Name: "decision RPC", Run: without.decide}, Subject{Name: "with the log", Run: with.decide, Goal: Goal{Ratio: rememberGoal}}
	if out.Comparison, err = Compare(ctx, o, limit, subject); err != nil {
		return nil, err
	}
	if err := out.measureCPU(o, without, with); err != nil {
		return nil, err
	}
	return out, out.measureReplays(with)
}

// remembering is what MeasureRemembering measures with.
type remembering struct {
	ctx        context.Context
	dir        string
	candidates int
	servers    []*server.Server
}

func (m *remembering) close() error {
	var errs []error
	for _, s := range m.servers {
		errs = append(errs, s.Close())
	}
	return errors.Join(append(errs, os.RemoveAll(m.dir))...)
}

// decisionServer is a server that is asked without a network.
type decisionServer struct {
	ctx     context.Context
	handler http.Handler
	bodies  [][]byte
	next    int
}

// Do answers as a server behind a network does.
func (s *decisionServer) Do(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	s.handler.ServeHTTP(w, r)
	return w.Result(), nil
}

func (s *decisionServer) decide() error {
	body := s.bodies[s.next%len(s.bodies)]
	s.next++
	r := httptest.NewRequestWithContext(s.ctx, http.MethodPost, rapportv1connect.DecisionServiceDecideProcedure, bytes.NewReader(body))
	r.Header.Set("Content-Type", "application/proto")
	w := httptest.NewRecorder()
	s.handler.ServeHTTP(w, r)
	if w.Code != http.StatusOK {
		return fmt.Errorf("the handler answered %d, %.200q", w.Code, w.Body)
	}
	return nil
}

// server opens a server with customers and a catalogue, all of them hot.
func (m *remembering) server(name string, compiler []string, keep time.Duration) (*decisionServer, error) {
	dir := filepath.Join(m.dir, name)
	if _, _, err := server.InstallSchema(dir, "schema.yaml", []byte(sceneSchema)); err != nil {
		return nil, err
	}
	if err := m.load(dir); err != nil {
		return nil, err
	}
	srv, err := server.Open(m.ctx, server.Config{
		Data: dir, Compiler: compiler, Logger: slog.New(slog.DiscardHandler), KeepDecisions: keep, Deadline: time.Second,
	})
	if err != nil {
		return nil, err
	}
	m.servers = append(m.servers, srv)
	s := &decisionServer{ctx: m.ctx, handler: srv.Handler()}
	catalogs := rapportv1connect.NewCatalogServiceClient(s, "http://in.process")
	snapshots := rapportv1connect.NewSnapshotServiceClient(s, "http://in.process")
	if _, err := catalogs.PublishCatalog(m.ctx, connect.NewRequest(&rapportv1.PublishCatalogRequest{
		Files: []*rapportv1.CatalogFile{{Name: "catalog.yaml", Content: sceneCatalog("pvcl", m.candidates, 60)}},
	})); err != nil {
		return nil, err
	}
	if _, err := snapshots.ActivateSnapshot(m.ctx, connect.NewRequest(&rapportv1.ActivateSnapshotRequest{Source: "bi", Generation: 1})); err != nil {
		return nil, err
	}
	for i := range rememberCustomers {
		body, err := proto.Marshal(&rapportv1.DecideRequest{Customer: strconv.Itoa(i), Touchpoint: "web.home"})
		if err != nil {
			return nil, err
		}
		s.bodies = append(s.bodies, body)
	}
	for range s.bodies {
		if err := s.decide(); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// load loads the customers.
func (m *remembering) load(dir string) error {
	header, _, _ := strings.Cut(sceneCSV, "\n")
	var b strings.Builder
	b.WriteString(header + "\n")
	for i := range rememberCustomers { // no two of them are alike
		fmt.Fprintf(&b, "%d,%d.%02d,%s,private,20%02d-0%d-01T00:00:00Z,%d.5,0.%04d,no,8,0\n",
			i, 30+i%20, i*37%100, []string{"yes", "no"}[i%2], 10+i%15, 1+i%9, 3000+i*7, i*97%10_000)
	}
	file := filepath.Join(dir, "bi.csv")
	if err := os.WriteFile(file, []byte(b.String()), 0o600); err != nil {
		return err
	}
	schema, err := server.InstalledSchema(dir)
	if err != nil {
		return err
	}
	_, err = profilestore.Load(m.ctx, profilestore.LoadOptions{
		Dir: filepath.Join(dir, "snapshots"), Schema: schema, Engine: badger.Generations(slog.New(slog.DiscardHandler)),
		Source: "bi", Path: file, AsOf: time.Now().Truncate(time.Hour).UnixMicro(),
	})
	return errors.Join(err, os.Remove(file))
}

// metric returns the value of a metric.
func (s *decisionServer) metric(name string) (float64, error) {
	w := httptest.NewRecorder()
	s.handler.ServeHTTP(w, httptest.NewRequestWithContext(s.ctx, http.MethodGet, "/metrics", nil))
	for line := range strings.Lines(w.Body.String()) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), name+" "); ok {
			return strconv.ParseFloat(value, 64)
		}
	}
	return 0, fmt.Errorf("bench: there is no metric %s", name)
}

// settle waits until the log has written what it was given.
func (s *decisionServer) settle() error {
	for {
		n, err := s.metric("rapport_decision_log_waiting_bytes")
		if err != nil || n == 0 {
			return err
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-s.ctx.Done():
			return s.ctx.Err()
		}
	}
}

// measureCPU measures processor time in turns: it counts what goes on aside, which the
// time of one decision does not show as long as a processor is free.
func (r *Remembering) measureCPU(o Options, without, with *decisionServer) error {
	const batch = 10_000 // beside which what settle does is nothing
	var times [2][]time.Duration
	for range max(3, o.Rounds/10) {
		for k, s := range []*decisionServer{without, with} {
			before := processorTime()
			for range batch {
				if err := s.decide(); err != nil {
					return err
				}
			}
			if k == 1 {
				if err := s.settle(); err != nil {
					return err
				}
			}
			times[k] = append(times[k], (processorTime()-before)/batch)
		}
	}
	for k := range times {
		slices.Sort(times[k])
		r.CPU[k] = times[k][len(times[k])/2]
	}
	records, err := with.metric("rapport_decision_log_records_total")
	if err != nil {
		return err
	}
	packed, err := with.metric("rapport_decision_log_written_bytes_total")
	r.Packed = packed / max(1, records)
	if err == nil {
		var raw float64
		raw, err = with.metric("rapport_decision_log_raw_bytes_total")
		r.Raw = raw / max(1, records)
	}
	return err
}

// measureReplays has decisions made again, at most 20,000.
func (r *Remembering) measureReplays(s *decisionServer) error {
	client := rapportv1connect.NewDecisionServiceClient(s, "http://in.process")
	before := processorTime()
	stream, err := client.ReplayDecisions(s.ctx, connect.NewRequest(&rapportv1.ReplayDecisionsRequest{Limit: 20_000}))
	if err != nil {
		return err
	}
	var last *rapportv1.ReplaySummary
	for stream.Receive() {
		last = stream.Msg().GetSummary()
	}
	took := processorTime() - before
	if err := errors.Join(stream.Err(), stream.Close()); err != nil {
		return err
	}
	r.Replays = last.GetDecisions()
	r.Replay = took / time.Duration(max(1, r.Replays))
	r.PerSecond = float64(r.Replays) / last.GetSeconds()
	r.Identical = last.GetIdentical() == r.Replays
	return nil
}

// processorTime returns the processor time that the process has used.
func processorTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// Write prints the table for people.
func (r *Remembering) Write(w io.Writer) error {
	_, err := fmt.Fprintf(w, "%d candidates\n", r.Candidates)
	errs := []error{err, r.Comparison.Write(w)}
	_, err = fmt.Fprintf(w, "processor time of a decision: %v, with the log %v (%.2f×)\n%.0f bytes a record, %.0f on disk\n"+
		"%d decisions made again, all identical: %t; %.0f a second, %v of processor time each (%.2f× a decision)\n",
		r.CPU[0].Round(10*time.Nanosecond), r.CPU[1].Round(10*time.Nanosecond), float64(r.CPU[1])/float64(max(1, r.CPU[0])), r.Raw, r.Packed,
		r.Replays, r.Identical, r.PerSecond, r.Replay.Round(10*time.Nanosecond), float64(r.Replay)/float64(max(1, r.CPU[0])))
	return errors.Join(append(errs, err)...)
}
