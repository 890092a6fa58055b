package decisionlog_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"rapport/profilestore"
	"rapport/profilestore/memory"
	"rapport/profilestore/rules"
	"rapport/server/catalog"
	"rapport/server/decide"
	"rapport/server/decisionlog"
)

// scene is what realistic decisions are made of: customers with 40 fields that rules read
// and a short history, one touchpoint of 3 slots with 100 candidates.
type scene struct {
	compiled *catalog.Compiled
	decider  *decide.Decider
	reads    *decisionlog.Reads
	views    []*profilestore.View
	random   *rand.Rand
	now      int64
}

const sceneNow = epoch * 1000

// sceneFields are 25 flags, 10 numbers, 3 texts, a time and a set.
func sceneFields() (schema string, columns []string, row func(r *rand.Rand) []string) {
	var b strings.Builder
	b.WriteString("sources: [{id: bi}]\nfields:\n")
	field := func(name, rest string) {
		fmt.Fprintf(&b, "  - {name: %s, batch: bi, %s}\n", name, rest)
		columns = append(columns, name)
	}
	for i := range 25 {
		field(fmt.Sprintf("tag.segment_flag_%02d", i), "type: flag")
	}
	for i := range 10 {
		field(fmt.Sprintf("value.measure_%02d", i), "type: number, decimals: 2")
	}
	for i := range 3 {
		field(fmt.Sprintf("general.attribute_%d", i), "type: text")
	}
	field("general.customer_since", "type: time")
	field("marketing.owned", "type: set")
	return b.String(), columns, func(r *rand.Rand) (out []string) {
		for range 25 {
			out = append(out, []string{"yes", "no", ""}[r.IntN(3)])
		}
		for range 10 {
			out = append(out, fmt.Sprintf("%.2f", r.Float64()*200))
		}
		for range 3 {
			out = append(out, []string{"private", "business", "youth", "gold", "east", "Asia/Shanghai"}[r.IntN(6)])
		}
		return append(out, fmt.Sprintf("20%02d-01-01T00:00:00Z", 10+r.IntN(15)), []string{"", "data_5g", "data_5g;roam", "tv"}[r.IntN(4)])
	}
}

func sceneCatalog(candidates int) string {
	var b strings.Builder
	b.WriteString("channels: [{id: web, direction: inbound, cost: 0.01}]\ntouchpoints: [{id: web.home, channel: web, slots: 3}]\n" +
		"scenarios: [{id: inbound, touchpoints: [web.home]}]\n" +
		"contact_policies: [{id: rest_on_no, per: offer, count: rejected, max: 1, within: 30d, suppress: 60d}]\noffers:\n")
	for i := range candidates {
		fmt.Fprintf(&b, "  - {id: offer_%d, group: group_%d, class: marketing, value: %d, boost: %d, propensity: {start: 0.0%d}, "+
			"eligible: 'profile.value.measure_%02d > %d && (profile.tag.segment_flag_%02d || profile.general.attribute_%d != \"gold\" || \"tv\" in profile.marketing.owned || profile.general.customer_since < timestamp(\"2015-01-01T00:00:00Z\"))', "+
			"treatments: [{channel: web, content: banner-for-offer-%d}]}\n",
			i, i%7, 5+i%40, i%50, 1+i%9, i%10, 5*(i%20), i%25, i%3, i)
	}
	return b.String()
}

func newScene(tb testing.TB, candidates, customers int) *scene {
	tb.Helper()
	s := &scene{random: rand.New(rand.NewPCG(1, 2)), now: sceneNow}
	text, columns, row := sceneFields()
	schema, problems := catalog.ReadSchema("schema.yaml", []byte(text))
	if len(problems) > 0 {
		tb.Fatal(problems)
	}
	mapper, err := rules.NewEventMapper(schema)
	if err != nil {
		tb.Fatal(err)
	}
	dir := tb.TempDir()
	engine, err := new(memory.Memory).Open(filepath.Join(dir, "deltas"))
	if err != nil {
		tb.Fatal(err)
	}
	var loads memory.Generations
	store, err := profilestore.OpenStore(tb.Context(), profilestore.Options{
		Dir: dir, Schema: schema, Mapper: mapper, Engine: engine,
		Clock: func() int64 { return sceneNow }, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = store.Close() })
	var csv bytes.Buffer
	fmt.Fprintf(&csv, "customer,%s\n", strings.Join(columns, ","))
	for i := range customers {
		fmt.Fprintf(&csv, "%d,%s\n", 100_000+i, strings.Join(row(s.random), ","))
	}
	path := filepath.Join(dir, "bi.csv")
	if err := os.WriteFile(path, csv.Bytes(), 0o600); err != nil {
		tb.Fatal(err)
	}
	report, err := profilestore.Load(tb.Context(), profilestore.LoadOptions{
		Dir: filepath.Join(dir, "snapshots"), Schema: schema, Engine: loads, Source: "bi", Path: path, AsOf: sceneNow,
	})
	if err != nil {
		tb.Fatal(err)
	}
	if _, _, err := store.Snapshots().Activate(tb.Context(), "bi", report.Snapshot.Generation); err != nil {
		tb.Fatal(err)
	}
	compiled, _, problems := catalog.Compile([]catalog.File{{Name: "catalog.yaml", Content: []byte(sceneCatalog(candidates))}}, schema, nil)
	if len(problems) > 0 {
		tb.Fatal(problems)
	}
	s.compiled, s.reads = compiled, decisionlog.NewReads(compiled, compiled.Reads())
	if s.decider, err = decide.New(compiled, make([]decide.Ranker, 1)); err != nil {
		tb.Fatal(err)
	}
	for i := range customers {
		s.views = append(s.views, s.meet(tb, store, fmt.Sprint("customer:", 100_000+i)))
	}
	return s
}

// meet reports five contacts and outcomes of a customer.
func (s *scene) meet(tb testing.TB, store *profilestore.Store, customer string) *profilestore.View {
	tb.Helper()
	var events []*profilestore.Event
	for i := range 5 {
		e := &profilestore.Event{ID: fmt.Sprint(customer, "/", i), Type: profilestore.ContactEvent, Identity: customer, Time: sceneNow - int64(1+s.random.IntN(20*24))*3_600_000_000}
		e.Attributes = map[string]any{"channel": "web", "touchpoint": "web.home", "offer": fmt.Sprint("offer_", s.random.IntN(100)), "group": "group_1", "class": "marketing"}
		if i%2 == 1 {
			e.Type, e.Attributes["outcome"] = profilestore.OutcomeEvent, []string{"rejected", "accepted", "clicked"}[s.random.IntN(3)]
		}
		events = append(events, e)
	}
	if _, err := store.Ingest(context.Background(), events); err != nil {
		tb.Fatal(err)
	}
	view, err := store.View(context.Background(), customer)
	if err != nil {
		tb.Fatal(err)
	}
	return view
}

// decide makes a decision, as a server hands it over.
func (s *scene) decide(n int) *decisionlog.Decision {
	s.now += 50 // 20,000 a second
	view := s.views[n%len(s.views)]
	read := view.At(s.now)
	d := &decisionlog.Decision{
		ID: idAt(s.now/1000, s.random.Uint64()), Identity: view.Customer(), View: view, Took: 37, Catalog: s.compiled, Reads: s.reads,
		Request: &decide.Request{Now: s.now, Seed: s.random.Uint64(), Customer: uint64(n%len(s.views)+1) * 0x9e3779b97f4a7c15, Profile: read, History: read.History()},
		At:      make([]decide.At, 1), Answers: make([]decide.Answer, 1),
		Detail: func(int, decide.Degradation) string { return "" },
	}
	s.decider.Decide(context.Background(), d.Request, &d.Answers[0])
	return d
}

// nullFS writes nowhere.
type nullFS struct{}

func (nullFS) Create(string) (decisionlog.File, error) { return nullFile{io.Discard}, nil }
func (nullFS) Remove(string) error                     { return nil }
func (nullFS) SyncDir(string) error                    { return nil }

type nullFile struct{ io.Writer }

func (nullFile) Close() error         { return nil }
func (nullFile) Truncate(int64) error { return nil }
func (nullFile) Sync() error          { return nil }

// BenchmarkWorker is what a decision costs after it was answered: its record, its bytes
// and zstd, without the disk. `record` is without zstd.
func BenchmarkWorker(b *testing.B) {
	for _, candidates := range []int{10, 100, 1000} {
		s := newScene(b, candidates, 1000)
		var made []*decisionlog.Decision
		for n := range 2000 {
			made = append(made, s.decide(n))
		}
		b.Run(fmt.Sprintf("candidates=%d/record", candidates), func(b *testing.B) {
			b.ReportAllocs()
			w := decisionlog.NewBlockWriter()
			var r decisionlog.Record
			for n := 0; b.Loop(); n++ {
				made[n%len(made)].Record(&r)
				w.Add(&r)
				if w.Size() > 256<<10 {
					w.Reset()
				}
			}
		})
		b.Run(fmt.Sprintf("candidates=%d/whole", candidates), func(b *testing.B) {
			b.ReportAllocs()
			l := open(b, decisionlog.Options{FS: nullFS{}, Queue: 1 << 50})
			for n := 0; b.Loop(); n++ {
				l.Add(made[n%len(made)])
				if n%500 == 499 {
					if err := l.Write(context.Background()); err != nil {
						b.Fatal(err)
					}
				}
			}
			if err := l.Write(context.Background()); err != nil {
				b.Fatal(err)
			}
			st := l.Stats()
			b.ReportMetric(float64(st.RawBytes)/float64(st.Written), "raw-B/record")
			b.ReportMetric(float64(st.WrittenBytes)/float64(st.Written), "packed-B/record")
		})
	}
}

// BenchmarkAdd is what the log costs who decides, where nobody packs.
func BenchmarkAdd(b *testing.B) {
	s := newScene(b, 100, 10)
	d := s.decide(0)
	b.ReportAllocs()
	l := open(b, decisionlog.Options{FS: nullFS{}, Queue: 1 << 50})
	for b.Loop() {
		l.Add(d)
	}
}

// BenchmarkDecision is a decision without the log and with it, the packing included: with
// one processor the sum, else what is not hidden by others.
func BenchmarkDecision(b *testing.B) {
	s := newScene(b, 100, 1000)
	for _, with := range []bool{false, true} {
		b.Run(fmt.Sprintf("log=%t", with), func(b *testing.B) {
			b.ReportAllocs()
			l := open(b, decisionlog.Options{FS: lazyFS{}, SyncEvery: 800 * time.Millisecond, Now: time.Now})
			for n := 0; b.Loop(); n++ {
				if d := s.decide(n); with {
					l.Add(d)
				}
			}
			if err := l.Flush(context.Background()); err != nil {
				b.Fatal(err)
			}
			if st := l.Stats(); st.Dropped() > 0 {
				b.Fatalf("%+v", st)
			}
		})
	}
}

// BenchmarkSearch is what searches cost in a log of 200,000 decisions: one by its id, all
// of a customer of 1,000, and each, in decisions.
func BenchmarkSearch(b *testing.B) {
	s := newScene(b, 100, 1000)
	l := open(b, decisionlog.Options{FS: lazyFS{}, SegmentBytes: 8 << 20, Queue: 1 << 40})
	var made []*decisionlog.Decision
	for n := range 2000 {
		made = append(made, s.decide(n))
	}
	var ids []ulid.ULID
	for n := range 200_000 {
		d := *made[n%len(made)]
		d.ID = idAt(sceneNow/1000+int64(n)/20, s.random.Uint64())
		ids = append(ids, d.ID)
		l.Add(&d)
	}
	flush(b, l)
	b.Run("id", func(b *testing.B) {
		var r decisionlog.Record
		for b.Loop() {
			if err := l.Find(b.Context(), ids[s.random.IntN(len(ids)-1)], &r); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("customer", func(b *testing.B) {
		for n := 0; b.Loop(); n++ {
			q := decisionlog.Query{Customer: made[n%1000].Request.Customer, Newest: true}
			if len(each(b, l, q)) != 200 {
				b.Fatal("not 200")
			}
		}
	})
	b.Run("newest20", func(b *testing.B) {
		for b.Loop() {
			if len(each(b, l, decisionlog.Query{Newest: true, Limit: 20})) != 20 {
				b.Fatal("not 20")
			}
		}
	})
	b.Run("each", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if len(each(b, l, decisionlog.Query{})) != len(ids) {
				b.Fatal("not all")
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(ids)), "ns/record")
	})
}
