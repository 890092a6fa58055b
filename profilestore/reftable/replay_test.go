package reftable_test

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"rapport/profilestore"
	"rapport/profilestore/badger"
	"rapport/profilestore/reftable"
	"rapport/profilestore/rules"
)

// shop is a data folder with its store: what a server opens, with a clock of its own.
type shop struct {
	t      *testing.T
	dir    string
	now    int64
	events int
	tables *reftable.Tables
	store  *profilestore.Store
}

// open opens the folder under a schema.
func (s *shop) open(tables []string, fields ...profilestore.Field) {
	s.t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	declared := make([]profilestore.ReferenceTable, len(tables))
	for i, name := range tables {
		declared[i].ID = name
	}
	schema, err := profilestore.NewSchema(nil, fields)
	if err == nil {
		schema, err = schema.WithTables(declared)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	if s.tables, err = reftable.Open(filepath.Join(s.dir, "tables"), tables, quiet); err != nil {
		s.t.Fatal(err)
	}
	mapper, err := rules.NewEventMapper(schema, rules.WithTables(s.tables))
	if err != nil {
		s.t.Fatal(err)
	}
	if _, err := profilestore.DropForeignDeltas(s.t.Context(), s.dir, schema); err != nil {
		s.t.Fatal(err)
	}
	engine, err := badger.Open(filepath.Join(s.dir, "deltas"), badger.Options{Logger: quiet})
	if err != nil {
		s.t.Fatal(err)
	}
	s.store, err = profilestore.OpenStore(context.Background(), profilestore.Options{
		Dir: s.dir, Schema: schema, Mapper: mapper, Engine: engine, TableSet: s.tables.Set,
		Clock: func() int64 { return s.now }, Logger: quiet,
	})
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *shop) close() {
	s.t.Helper()
	if err := s.store.Close(); err != nil {
		s.t.Fatal(err)
	}
}

// dropRecords removes what is derived from the journal, as an operator may.
func (s *shop) dropRecords() {
	s.t.Helper()
	if err := os.RemoveAll(filepath.Join(s.dir, "deltas")); err != nil {
		s.t.Fatal(err)
	}
}

func (s *shop) seen(cell string) {
	s.t.Helper()
	s.events++
	s.now += time.Minute.Microseconds()
	results, err := s.store.Ingest(context.Background(), []*profilestore.Event{{
		ID: fmt.Sprint(s.events), Type: "location", Identity: "customer:1", Time: s.now, Attributes: map[string]any{"cell": cell},
	}})
	if err != nil || results[0].Outcome != profilestore.Accepted {
		s.t.Fatal(err, results)
	}
}

func (s *shop) load(table, content string, activate bool) {
	s.t.Helper()
	path := filepath.Join(s.t.TempDir(), "file.csv")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		s.t.Fatal(err)
	}
	report, err := reftable.Load(context.Background(), reftable.LoadOptions{Dir: filepath.Join(s.dir, "tables"), Table: table, Path: path})
	if err == nil && activate {
		_, _, err = s.tables.Activate(table, report.Info.Version)
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *shop) want(when string, want ...string) {
	s.t.Helper()
	view, err := s.store.View(context.Background(), "customer:1")
	if err != nil {
		s.t.Fatal(err)
	}
	for slot, f := range s.store.Schema().Fields() {
		if got := view.At(s.now).Get(slot).String(); got != want[slot] {
			s.t.Errorf("%s: %s is %s, want %s", when, f.Name, got, want[slot])
		}
	}
}

// places is the set of what a table has for the cells of location events.
func places(table string) profilestore.Field {
	return profilestore.Field{Name: "location." + table, Type: profilestore.TypeSet, Decimals: profilestore.NoDecimals, Events: &profilestore.EventRule{
		On: `event.type == "location" && ` + table + `(event.cell) != ""`, Add: table + "(event.cell)",
	}}
}

// An event means what the tables said when it was logged, however often the records
// are derived from the journal again, by whichever schema.
func TestReplayByTheVersionsOfTheTime(t *testing.T) {
	s := &shop{t: t, dir: t.TempDir(), now: time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC).UnixMicro()}
	count := profilestore.Field{Name: "usage.seen", Type: profilestore.TypeCounter, Events: &profilestore.EventRule{On: `event.type == "location"`, Add: "1"}}

	// Before there are tables the journal has entries of the old form.
	s.open(nil, count)
	s.seen("c1")
	s.close()

	s.open([]string{"area"}, count, places("area"))
	s.seen("c1") // nothing is loaded
	s.want("nothing loaded", "2", "{}")
	s.load("area", "cell,area\nc1,broker\nc2,station\n", true)
	s.seen("c1")
	s.seen("c2")
	s.want("first version", "4", "{broker, station}")
	s.load("area", "cell,area\nc1,dock\n", true)
	s.seen("c1")
	s.seen("c2")
	s.want("second version", "6", "{broker, dock, station}")
	if _, _, err := s.tables.Rollback("area"); err != nil {
		t.Fatal(err)
	}
	s.load("area", "cell,area\nc1,metro\nc2,metro\n", true)
	s.want("third version, and nothing seen", "6", "{broker, dock, station}")
	s.close()

	s.dropRecords()
	s.open([]string{"area"}, count, places("area"))
	if n := s.store.Stats().Replayed; n != 6 {
		t.Errorf("replayed %d events, want 6", n)
	}
	s.want("derived again", "6", "{broker, dock, station}")
	s.close()

	// A new field over the table finds in old events what they meant; a new table is
	// to them what it began with.
	s.load("kind", "cell,kind\nc1,indoor\n", false)
	fields := []profilestore.Field{
		places("kind"), count, places("area"),
		{Name: "location.at_broker", Type: profilestore.TypeCounter, Events: &profilestore.EventRule{On: `area(event.cell) == "broker"`, Add: "1"}},
	}
	s.open([]string{"kind", "area"}, fields...)
	s.want("a new field and a new table", "{indoor}", "6", "{broker, dock, station}", "1")
	s.load("kind", "cell,kind\nc1,outdoor\n", true)
	s.seen("c1")
	s.want("the new table has changed", "{indoor, outdoor}", "7", "{broker, dock, metro, station}", "1")
	s.close()
	s.dropRecords()
	s.open([]string{"kind", "area"}, fields...)
	s.want("derived again", "{indoor, outdoor}", "7", "{broker, dock, metro, station}", "1")
	s.close()
}

var schedules = flag.Uint64("schedules", 4, "random `schedules` of TestRandomSchedules")

// Random schedules of events, loads, rollbacks, restarts and derivations anew, against
// a model that looks each event up once, when it happens.
func TestRandomSchedules(t *testing.T) {
	var did struct{ events, loads, rollbacks, restarts, derived, changed int }
	for seed := range *schedules {
		random := rand.New(rand.NewPCG(seed, 7))
		s := &shop{t: t, dir: t.TempDir(), now: time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC).UnixMicro()}
		open := func() { s.open([]string{"area"}, places("area")) }
		var versions []map[string]string // that were made
		var earlier []int                // as rollbacks go, the present one last
		model := make(map[string]bool)
		want := func() string {
			return profilestore.Set(slices.Collect(maps.Keys(model))...).String()
		}
		open()
		for range 25 {
			switch n := random.IntN(10); {
			case n < 5:
				cell := fmt.Sprintf("c%d", random.IntN(3))
				if len(earlier) > 0 {
					if area := versions[earlier[len(earlier)-1]][cell]; area != "" {
						model[area] = true
					}
				}
				s.seen(cell)
				did.events++
			case n < 7:
				version, file := make(map[string]string), "cell,area\n"
				for c := range 3 {
					if random.IntN(3) > 0 {
						version[fmt.Sprintf("c%d", c)] = fmt.Sprintf("v%d_c%d", len(versions), c)
						file += fmt.Sprintf("c%d,v%d_c%d\n", c, len(versions), c)
					}
				}
				file += fmt.Sprintf("other,%d\n", len(versions))
				s.load("area", file, true)
				versions, earlier = append(versions, version), append(earlier, len(versions))
				did.loads++
			case n < 8 && len(earlier) > 1:
				if _, _, err := s.tables.Rollback("area"); err != nil {
					t.Fatal(err)
				}
				earlier = earlier[:len(earlier)-1]
				did.rollbacks++
			case n < 9:
				s.close()
				open()
				did.restarts++
			default:
				s.close()
				s.dropRecords()
				open()
				did.derived++
				if len(versions) > 1 && len(model) > 0 {
					did.changed++
				}
			}
			s.want(fmt.Sprintf("schedule %d", seed), want())
			if t.Failed() {
				return
			}
		}
		s.close()
	}
	t.Logf("%d schedules: %+v (changed: derived anew after the table had changed)", *schedules, did)
	if did.rollbacks == 0 || did.changed == 0 {
		t.Error("a case did not occur")
	}
}
