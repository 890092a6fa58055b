package demo_test

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"rapport/cmd/rapport/demo"
	"rapport/profilestore"
	"rapport/profilestore/badger"
	"rapport/profilestore/reftable"
	"rapport/profilestore/rules"
)

// book is the demo operator's profile store, for the rows of the scenario book.
type book struct {
	dir    string
	schema *profilestore.Schema
	store  *profilestore.Store
	now    int64
}

func newBook(t *testing.T) *book {
	t.Helper()
	b := &book{dir: t.TempDir(), schema: read(t).schema}
	quiet := slog.New(slog.DiscardHandler)
	for _, f := range demo.Tables() {
		path := filepath.Join(t.TempDir(), f.Name)
		if err := os.WriteFile(path, f.Content, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := reftable.Load(t.Context(), reftable.LoadOptions{Dir: filepath.Join(b.dir, "tables"), Table: strings.TrimSuffix(f.Name, ".csv"), Path: path})
		if err != nil {
			t.Fatal(err)
		}
	}
	tables, err := reftable.Open(filepath.Join(b.dir, "tables"), b.schema.TableNames(), quiet)
	if err != nil {
		t.Fatal(err)
	}
	for i := range b.schema.Tables() {
		if tables.InForce(i).Rows == 0 {
			t.Errorf("reference table %s has no rows", b.schema.Tables()[i].ID)
		}
	}
	mapper, err := rules.NewEventMapper(b.schema, rules.WithTables(tables))
	if err != nil {
		t.Fatal(err)
	}
	engine, err := badger.Open(filepath.Join(b.dir, "deltas"), badger.Options{Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	b.store, err = profilestore.OpenStore(t.Context(), profilestore.Options{
		Dir: b.dir, Schema: b.schema, Mapper: mapper, Engine: engine, TableSet: tables.Set,
		Clock: func() int64 { return b.now }, Logger: quiet,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.store.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// load makes a snapshot of a source: a row of fields for each customer.
func (b *book) load(t *testing.T, source string, asOf time.Time, rows map[string]map[string]string) {
	t.Helper()
	at, _ := b.schema.Source(source)
	header := []string{b.schema.Sources()[at].Key}
	var names []string
	for _, f := range b.schema.Fields() {
		if f.Batch == source {
			header, names = append(header, f.Column), append(names, f.Name)
		}
	}
	path := filepath.Join(t.TempDir(), source+".csv")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	w := csv.NewWriter(file)
	records := [][]string{header}
	for customer, fields := range rows {
		record := []string{customer}
		for _, name := range names {
			record = append(record, fields[name])
		}
		records = append(records, record)
	}
	if err := w.WriteAll(records); err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	report, err := profilestore.Load(t.Context(), profilestore.LoadOptions{
		Dir: filepath.Join(b.dir, "snapshots"), Schema: b.schema, Engine: badger.Generations(nil),
		Source: source, Path: path, AsOf: asOf.UnixMicro(),
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := b.store.Snapshots().Activate(t.Context(), source, report.Snapshot.Generation); err != nil {
		t.Fatal(err)
	}
}

// ingest sends events, all of which must be taken.
func (b *book) ingest(t *testing.T, events []*profilestore.Event) {
	t.Helper()
	if len(events) == 0 {
		return
	}
	b.now = 0
	for _, e := range events {
		b.now = max(b.now, e.Time)
	}
	results, err := b.store.Ingest(t.Context(), events)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range results {
		if r.Outcome == profilestore.Refused {
			t.Error(r.Err)
		}
	}
}

var shanghai = time.FixedZone("+08:00", 8*60*60)

// moment reads a local time, of 2026 unless it says the year.
func moment(t *testing.T, text string) time.Time {
	t.Helper()
	if text == "" {
		text = "11-04T10:00"
	}
	if strings.IndexByte(text, 'T') == len("11-04") {
		text = "2026-" + text
	}
	if strings.Count(text, ":") == 1 {
		text += ":00"
	}
	at, err := time.ParseInLocation("2006-01-02T15:04:05", text, shanghai)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// happened reads the events of a situation.
func happened(t *testing.T, customer, lines string) (events []*profilestore.Event) {
	t.Helper()
	for i, line := range strings.FieldsFunc(lines, func(r rune) bool { return r == '\n' }) {
		words := strings.Fields(line)
		e := &profilestore.Event{
			ID: fmt.Sprint("e", i), Type: words[1], Identity: customer, Time: moment(t, words[0]).UnixMicro(), Attributes: make(map[string]any),
		}
		for _, word := range words[2:] {
			at := strings.IndexAny(word, ":=")
			name, value := word[:at], word[at+1:]
			switch {
			case name == "id":
				e.ID = value
			case word[at] == ':':
				e.Attributes[name] = value
			default:
				var v any
				if err := json.Unmarshal([]byte(value), &v); err != nil {
					t.Fatal(word, err)
				}
				e.Attributes[name] = v
			}
		}
		events = append(events, e)
	}
	return events
}

// named reads FIELD=VALUE words.
func (b *book) named(t *testing.T, text string) map[string]string {
	t.Helper()
	fields := make(map[string]string)
	for word := range strings.FieldsSeq(text) {
		name, value, ok := strings.Cut(word, "=")
		if !ok {
			continue
		}
		if _, known := b.schema.Lookup(name); !known {
			t.Fatalf("there is no field %s", name)
		}
		fields[name] = strings.ReplaceAll(value, "~", " ")
	}
	return fields
}

func zeros(n int) string { return strings.Repeat(";0", n) }

// TestSituations takes every row of the scenario book through the store: rows of the
// sources, events, reference tables, and a condition as a catalogue would have it.
func TestSituations(t *testing.T) {
	b := newBook(t)
	rows := make(map[string]map[string]map[string]string) // by source and customer
	for _, source := range b.schema.Sources() {
		rows[source.ID] = make(map[string]map[string]string)
		for i, s := range situations {
			fields := b.named(t, s.given)
			if !slices.Contains(strings.Fields(s.given), "-"+source.ID) {
				rows[source.ID][strconv.Itoa(i)] = fields
			}
			for name := range fields {
				if slot, _ := b.schema.Lookup(name); b.schema.Fields()[slot].Batch == "" {
					t.Fatalf("%s: no source delivers %s", s.name, name)
				}
			}
		}
		b.load(t, source.ID, demo.AsOf(), rows[source.ID])
	}
	env, err := rules.NewEnv(b.schema, []rules.Input{{Name: "willing", Kind: profilestore.KindFlag}, {Name: "staff", Kind: profilestore.KindText}})
	if err != nil {
		t.Fatal(err)
	}
	table := env.NewTable()
	compiled := make(map[string]rules.Rule)
	for row, condition := range conditions {
		if compiled[row], err = table.Add(condition); err != nil {
			t.Fatalf("%s: %v", row, err)
		}
	}
	evaluation := table.Build().NewEvaluation()
	held := make(map[string][2]int)
	for i, s := range situations {
		t.Run(s.name, func(t *testing.T) {
			customer := "customer:" + strconv.Itoa(i)
			b.ingest(t, happened(t, customer, s.events))
			view, err := b.store.View(t.Context(), customer)
			if err != nil {
				t.Fatal(err)
			}
			now := moment(t, s.at).UnixMicro()
			row, what, _ := strings.Cut(s.name, "/")
			condition, ok := compiled[row]
			if !ok {
				t.Fatalf("no condition %s", row)
			}
			evaluation.Reset(rules.Inputs{
				Profile: view.At(now), Now: now,
				Context: []profilestore.Value{profilestore.Flag(what != "unwilling"), profilestore.Text("s100")},
			})
			if got := evaluation.Evaluate(condition); got != s.fires {
				t.Errorf("the condition is %s, want %s: %s", got, s.fires, conditions[row])
			}
			n := held[row]
			if s.fires == yes {
				n[0]++
			} else {
				n[1]++
			}
			held[row] = n
			for name, want := range b.named(t, s.fields) {
				slot, _ := b.schema.Lookup(name)
				if got := strings.ReplaceAll(view.At(now).Get(slot).String(), ", ", ","); got != want {
					t.Errorf("%s is %q, want %q", name, got, want)
				}
			}
		})
	}
	for row := range conditions {
		if n := held[row]; n[0] == 0 || n[1] == 0 {
			t.Errorf("%s has %d positive cases and %d near misses", row, n[0], n[1])
		}
	}
	t.Logf("%d situations of %d conditions", len(situations), len(conditions))
}

// Every row of the scenario book is here, or says why not.
func TestEveryRow(t *testing.T) {
	here := make(map[string]bool)
	for name := range conditions {
		row, _, _ := strings.Cut(name, ".")
		here[row] = true
	}
	for row := range withoutFields {
		if here[row] {
			t.Errorf("%s both has fields and has none", row)
		}
		here[row] = true
	}
	for row := range strings.FieldsSeq(`A1 A2 A3 A4 A5a A5b A5c A6 A7 A8 A9 A10 A11 A12 A13
		B1 B2 B3 B4 B5 B6a B6b B6c B7 B8 B9 B10 B11 B12 B13 B14
		C1 C2 C3 C4 C5 C6 C7a C7b C7c C8 C9 D1a D1b D1c D2a D2b D2c D3 D4 D5 E1 E2 F1 F2`) {
		if !here[row] {
			t.Errorf("row %s is missing", row)
		}
	}
}

// B1 in full: a product that was ordered before the as-of time of a snapshot, and
// after; a snapshot that is loaded later but looked earlier takes nothing back.
func TestOwnedAcrossLoads(t *testing.T) {
	b := newBook(t)
	november := func(day int) time.Time { return time.Date(2026, time.November, day, 0, 0, 0, 0, shanghai) }
	bi := func(asOf time.Time, owned string) {
		t.Helper()
		b.load(t, "bi", asOf, map[string]map[string]string{"1": {"marketing.owned": owned}})
	}
	want := func(when, want string) {
		t.Helper()
		view, err := b.store.View(context.Background(), "customer:1")
		if err != nil {
			t.Fatal(err)
		}
		slot, _ := b.schema.Lookup("marketing.owned")
		if got := view.At(november(9).UnixMicro()).Get(slot).String(); got != want {
			t.Errorf("%s: %s is owned, want %s", when, got, want)
		}
	}
	bi(november(1), "news")
	b.ingest(t, happened(t, "customer:1", "11-02T10:00 order product:mobile_mail\n11-04T10:00 order product:fetion"))
	want("ordered", "{fetion, mobile_mail, news}")
	bi(november(2), "news") // it looked before the first order
	want("a snapshot from before the orders", "{fetion, mobile_mail, news}")
	bi(november(3), "mobile_mail;news") // between the two
	want("a snapshot from between them", "{fetion, mobile_mail, news}")
	bi(november(3).Add(time.Hour), "news") // it says that the first was taken back
	want("a snapshot that knows better", "{fetion, news}")
	b.ingest(t, happened(t, "customer:1", "11-03T10:00 cancel id:c product:news"))
	want("cancelled", "{fetion}")
	if _, _, err := b.store.Snapshots().Rollback(t.Context(), "bi"); err != nil {
		t.Fatal(err)
	}
	want("rolled back", "{fetion, mobile_mail}")
	bi(november(5), "fetion;mobile_mail") // after all of them
	want("a snapshot from after the orders", "{fetion, mobile_mail}")
}
