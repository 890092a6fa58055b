package decide_test

import (
	"context"
	"encoding/csv"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"

	"rapport/profilestore"
	"rapport/profilestore/memory"
	"rapport/profilestore/reftable"
	"rapport/profilestore/rules"
	"rapport/server/catalog"
	"rapport/server/decide"
)

var update = flag.Bool("update", false, "rewrite the answers in testdata/book")

// demoFolder is the demo operator's schema and reference tables.
const demoFolder = "../../cmd/rapport/demo"

// bookAsOf is the moment that the rows of the sources describe.
var bookAsOf = time.Date(2026, time.November, 1, 0, 0, 0, 0, time.UTC)

// bookSeed decides ties in all cases.
const bookSeed = 1

// TestBook decides every case of testdata/book, which says in its README how a case is
// read. -update rewrites the answers; what a case says must hold has to hold all the same.
func TestBook(t *testing.T) {
	b := newBook(t)
	paths, err := filepath.Glob("testdata/book/*.txtar")
	if err != nil || len(paths) == 0 {
		t.Fatal("there are no rows", err)
	}
	rows := make([]*bookRow, len(paths))
	var cases []*bookCase
	for i, path := range paths {
		rows[i] = b.readRow(t, path)
		for _, c := range rows[i].cases {
			if !c.reloads() {
				c.customer = strconv.Itoa(10_000_000 + len(cases))
				cases = append(cases, c)
			}
		}
	}
	shared := b.openStore(t)
	shared.loadCases(t, cases)
	counts := make(map[decide.Reason]int)
	total := 0
	for _, row := range rows {
		t.Run(row.id, func(t *testing.T) {
			for _, c := range row.cases {
				total++
				t.Run(strings.ReplaceAll(c.name, " ", "_"), func(t *testing.T) {
					store := shared
					if c.reloads() {
						c.customer = "10000000"
						store = b.openStore(t)
						store.loadCases(t, []*bookCase{c})
					}
					store.happen(t, c)
					asked := b.ask(t, store, c)
					for i := range asked.answers {
						for r, n := range asked.answers[i].Funnel {
							counts[decide.Reason(r)] += n
						}
					}
					failed := asked.check(t)
					if got := asked.String(); *update && !failed {
						row.setAnswer(c, got)
					} else if got != c.answer {
						t.Errorf("the answer differs (go test ./server/decide -run TestBook -update rewrites it)\ngot:\n%s\nwant:\n%s", got, c.answer)
					}
				})
			}
			if *update {
				if err := os.WriteFile(row.path, txtar.Format(row.archive), 0o600); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
	t.Logf("%d rows, %d cases; candidates by reason: %v", len(rows), total, counts)
}

// book is what all cases share.
type book struct {
	schema  *profilestore.Schema
	catalog *catalog.Compiled
	decider *decide.Decider
}

func newBook(t *testing.T) *book {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(demoFolder, "schema.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	schema, problems := catalog.ReadSchema("schema.yaml", content)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	files := bookCatalog(t)
	compiled, _, problems := catalog.Compile(files, schema, nil)
	for _, p := range problems {
		t.Error(p)
	}
	if len(problems) > 0 {
		t.FailNow()
	}
	decider, err := decide.New(compiled, make([]decide.Ranker, len(compiled.Scenarios)))
	if err != nil {
		t.Fatal(err)
	}
	return &book{schema: schema, catalog: compiled, decider: decider}
}

// bookCatalog reads the book's catalogue.
func bookCatalog(t *testing.T) []catalog.File {
	t.Helper()
	paths, err := filepath.Glob("testdata/book/catalog/*.yaml")
	if err != nil || len(paths) == 0 {
		t.Fatal("there is no catalogue", err)
	}
	var files []catalog.File
	for _, path := range paths {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, catalog.File{Name: filepath.Base(path), Content: content})
	}
	return files
}

// TestBookCatalog: the linter finds nothing in the book's catalogue.
func TestBookCatalog(t *testing.T) {
	warnings, problems := catalog.Lint(bookCatalog(t), newBook(t).schema, catalog.LintOptions{Now: bookAsOf})
	for _, p := range problems {
		t.Error(p)
	}
	for _, w := range warnings {
		t.Error(w)
	}
}

// bookStore is a profile store for some of the cases.
type bookStore struct {
	*profilestore.Store
	book  *book
	dir   string
	now   int64
	loads memory.Generations
}

func (b *book) openStore(t *testing.T) *bookStore {
	t.Helper()
	s := &bookStore{book: b, dir: t.TempDir()}
	quiet := slog.New(slog.DiscardHandler)
	folder := filepath.Join(s.dir, "tables")
	paths, err := filepath.Glob(filepath.Join(demoFolder, "tables", "*.csv"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		table := strings.TrimSuffix(filepath.Base(path), ".csv")
		if _, err := reftable.Load(t.Context(), reftable.LoadOptions{Dir: folder, Table: table, Path: path}); err != nil {
			t.Fatal(err)
		}
	}
	tables, err := reftable.Open(folder, b.schema.TableNames(), quiet)
	if err != nil {
		t.Fatal(err)
	}
	mapper, err := rules.NewEventMapper(b.schema, rules.WithTables(tables))
	if err != nil {
		t.Fatal(err)
	}
	engine, err := new(memory.Memory).Open(filepath.Join(s.dir, "deltas"))
	if err != nil {
		t.Fatal(err)
	}
	s.Store, err = profilestore.OpenStore(t.Context(), profilestore.Options{
		Dir: s.dir, Schema: b.schema, Mapper: mapper, Engine: engine, TableSet: tables.Set,
		Clock: func() int64 { return s.now }, Logger: quiet,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// loadCases loads what the sources have of the customers of some cases.
func (s *bookStore) loadCases(t *testing.T, cases []*bookCase) {
	t.Helper()
	for _, source := range s.book.schema.Sources() {
		rows := make(map[string]map[string]string)
		for _, c := range cases {
			if row, ok := c.given[source.ID]; ok {
				rows[c.customer] = row
			}
		}
		s.load(t, source.ID, bookAsOf, rows)
	}
}

// load makes a snapshot of a source current: a row of fields for each customer.
func (s *bookStore) load(t *testing.T, source string, asOf time.Time, rows map[string]map[string]string) {
	t.Helper()
	at, _ := s.book.schema.Source(source)
	records := [][]string{{s.book.schema.Sources()[at].Key}}
	var names []string
	for _, f := range s.book.schema.Fields() {
		if f.Batch == source {
			records[0], names = append(records[0], f.Column), append(names, f.Name)
		}
	}
	for _, customer := range slices.Sorted(maps.Keys(rows)) {
		record := []string{customer}
		for _, name := range names {
			record = append(record, rows[customer][name])
		}
		records = append(records, record)
	}
	path := filepath.Join(t.TempDir(), source+".csv")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := csv.NewWriter(file).WriteAll(records); err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	report, err := profilestore.Load(t.Context(), profilestore.LoadOptions{
		Dir: filepath.Join(s.dir, "snapshots"), Schema: s.book.schema, Engine: s.loads, AllowEmpty: true,
		Source: source, Path: path, AsOf: asOf.UnixMicro(),
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Snapshots().Activate(t.Context(), source, report.Snapshot.Generation); err != nil {
		t.Fatal(err)
	}
}

// happen lets happen what the case says, in its order.
func (s *bookStore) happen(t *testing.T, c *bookCase) {
	t.Helper()
	for i, h := range c.happened {
		if h.snapshot != "" {
			s.load(t, h.snapshot, h.asOf, map[string]map[string]string{c.customer: h.row})
			continue
		}
		e := *h.event
		e.Identity = "customer:" + c.customer
		if e.ID == "" {
			e.ID = fmt.Sprint(c.customer, "-", i)
		}
		s.now = e.Time
		if arrives := h.arrives; !arrives.IsZero() {
			s.now = arrives.UnixMicro()
		}
		results, err := s.Ingest(context.Background(), []*profilestore.Event{&e})
		if err != nil {
			t.Fatal(err)
		}
		if results[0].Outcome == profilestore.Refused {
			t.Fatal(results[0].Err)
		}
	}
}
