package reftable_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"rapport/profilestore/durable"
	"rapport/profilestore/reftable"
)

// house is a folder of tables under test.
type house struct {
	t   testing.TB
	dir string
	log bytes.Buffer
	now time.Time
}

func newHouse(t testing.TB) *house {
	return &house{t: t, dir: filepath.Join(t.TempDir(), "tables"), now: time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)}
}

func (h *house) open(names ...string) *reftable.Tables {
	h.t.Helper()
	tables, err := reftable.Open(h.dir, names, slog.New(slog.NewTextHandler(&h.log, nil)))
	if err != nil {
		h.t.Fatal(err)
	}
	return tables
}

// tryLoad loads a file with this content.
func (h *house) tryLoad(table, content string, change ...func(*reftable.LoadOptions)) (*reftable.LoadReport, error) {
	path := filepath.Join(h.t.TempDir(), "cells.csv")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		h.t.Fatal(err)
	}
	o := reftable.LoadOptions{Dir: h.dir, Table: table, Path: path, Now: h.now}
	for _, c := range change {
		c(&o)
	}
	report, err := reftable.Load(context.Background(), o)
	if err != nil {
		return nil, errors.New(strings.ReplaceAll(err.Error(), path, "cells.csv"))
	}
	return report, nil
}

func (h *house) load(table, content string) *reftable.LoadReport {
	h.t.Helper()
	report, err := h.tryLoad(table, content)
	if err != nil {
		h.t.Fatal(err)
	}
	return report
}

// put loads and activates.
func (h *house) put(tables *reftable.Tables, table, content string) {
	h.t.Helper()
	if _, _, err := tables.Activate(table, h.load(table, content).Info.Version); err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) want(tables *reftable.Tables, set uint64, table int, key, want string) {
	h.t.Helper()
	if got := tables.Lookup(set, table, key); got != want {
		h.t.Errorf("set %d, table %d: %s is %q, want %q", set, table, key, got, want)
	}
}

func TestVersions(t *testing.T) {
	h := newHouse(t)
	tables := h.open("area", "number_kind")
	if tables.Set() != 1 {
		t.Errorf("the first set is %d", tables.Set())
	}
	h.want(tables, 1, 0, "4601", "") // nothing is loaded
	h.put(tables, "area", "cell,area\n4601,broker\n4602,station\n")
	h.put(tables, "area", "cell,area\r\n\"4601\", dock \r\n4603,\"a,b\"\n")
	h.put(tables, "number_kind", "\xef\xbb\xbfnumber,kind\n114,enquiry\n")
	if tables.Set() != 4 {
		t.Errorf("after three activations the set is %d, want 4", tables.Set())
	}
	check := func(tables *reftable.Tables) {
		t.Helper()
		h.want(tables, 1, 0, "4601", "")
		h.want(tables, 2, 0, "4601", "broker")
		h.want(tables, 2, 0, "4602", "station")
		h.want(tables, 2, 1, "114", "")
		h.want(tables, 3, 0, "4601", "dock")
		h.want(tables, 3, 0, "4602", "")
		h.want(tables, 4, 0, "4603", "a,b")
		h.want(tables, 4, 1, "114", "enquiry")
	}
	check(tables)
	check(h.open("area", "number_kind")) // after a restart

	// Rolled back, it is the old version under a new number, and the old sets stay.
	active, previous, err := tables.Rollback("area")
	if err != nil || active.Version != 1 || previous != 2 || tables.Set() != 5 {
		t.Fatalf("rolled back from %d to %d in set %d: %v", previous, active.Version, tables.Set(), err)
	}
	h.want(tables, 5, 0, "4601", "broker")
	check(tables)
	if _, _, err := tables.Rollback("area"); !errors.Is(err, reftable.ErrNoEarlier) {
		t.Errorf("a second rollback: %v", err)
	}
	if _, previous, err := tables.Activate("area", 1); err != nil || previous != 1 || tables.Set() != 5 {
		t.Errorf("activating what is in force: %v, set %d", err, tables.Set())
	}
	for _, bad := range []int64{0, 3, -1} {
		if _, _, err := tables.Activate("area", bad); !errors.Is(err, reftable.ErrNotFound) {
			t.Errorf("version %d: %v", bad, err)
		}
	}
	if _, _, err := tables.Activate("aera", 1); !errors.Is(err, reftable.ErrNotFound) || !strings.Contains(err.Error(), "only area, number_kind") {
		t.Errorf("an unknown table: %v", err)
	}
	list, err := tables.List("")
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, i := range list {
		lines = append(lines, fmt.Sprintf("%s %d %s %d keys %d values from %s", i.Table, i.Version, i.State, i.Rows, i.Values, i.Origin))
	}
	if want := []string{
		"area 2 retained 2 keys 2 values from cells.csv", "area 1 active 2 keys 2 values from cells.csv",
		"number_kind 1 active 1 keys 1 values from cells.csv",
	}; !slices.Equal(lines, want) {
		t.Errorf("listed %q, want %q", lines, want)
	}

	// Another schema: its own tables by its own places, the old sets as they were.
	other := h.open("venue", "area")
	if other.Set() != 6 {
		t.Errorf("with one more table the set is %d, want 6", other.Set())
	}
	h.want(other, 3, 1, "4601", "dock")
	h.want(other, 6, 1, "4601", "broker")
	h.want(other, 3, 0, "x", "")
	if h.log.Len() > 0 {
		t.Errorf("logged: %s", &h.log)
	}
}

// A table that is loaded before the schema declares it also serves the events of
// before; one that is not is empty to them, whatever is loaded later.
func TestWhatATableBeganWith(t *testing.T) {
	h := newHouse(t)
	h.open("area")
	h.load("early", "k,v\na,1\n")
	tables := h.open("area", "early", "late")
	h.put(tables, "early", "k,v\na,2\n")
	h.put(tables, "late", "k,v\na,3\n")
	for _, tables := range []*reftable.Tables{tables, h.open("area", "early", "late")} {
		for _, set := range []uint64{0, 1} {
			h.want(tables, set, 1, "a", "1")
			h.want(tables, set, 2, "a", "")
		}
		h.want(tables, tables.Set(), 1, "a", "2")
		h.want(tables, tables.Set(), 2, "a", "3")
	}
}

func TestNoTables(t *testing.T) {
	h := newHouse(t)
	if set := h.open().Set(); set != 0 {
		t.Errorf("the set is %d, want 0: entries of the journal are to stay as they were", set)
	}
	if _, err := os.Stat(h.dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a folder was made: %v", err)
	}
}

// What a decision reads stays as it was, can be had again by its number, also after a
// restart, and is never made up.
func TestVersionsOfASet(t *testing.T) {
	h := newHouse(t)
	tables := h.open("area", "kind")
	first := tables.Current()
	h.put(tables, "area", "k,v\na,1\n")
	second := tables.Current()
	h.put(tables, "kind", "k,v\nb,x\n")
	h.put(tables, "area", "k,v\na,2\n")
	check := func(what string, v *reftable.Versions, set uint64, a, b string, versions ...int64) {
		t.Helper()
		var got []string
		for name, n := range v.All() {
			got = append(got, fmt.Sprint(name, " ", n))
		}
		if want := []string{fmt.Sprint("area ", versions[0]), fmt.Sprint("kind ", versions[1])}; v.Set() != set || !slices.Equal(got, want) {
			t.Errorf("%s: set %d with %v, want %d with %v", what, v.Set(), got, set, want)
		}
		for table, want := range []string{a, b} {
			if got, ok := v.Find(table, []string{"a", "b"}[table]); got != want || ok != (want != "") {
				t.Errorf("%s: table %d has %q, %t, want %q", what, table, got, ok, want)
			}
		}
		if got, ok := v.Find(0, "none"); ok {
			t.Errorf("%s: a key without a row has %q", what, got)
		}
	}
	check("the first", first, 1, "", "", 0, 0)
	check("the second", second, 2, "1", "", 1, 0)
	check("the last", tables.Current(), 4, "2", "x", 2, 1)
	for range 2 {
		for set, want := range map[uint64][2]any{0: {"", ""}, 1: {"", ""}, 2: {"1", ""}, 3: {"1", "x"}, 4: {"2", "x"}} {
			v, err := tables.Versions(set)
			if err != nil {
				t.Fatal(err)
			}
			numbers := map[uint64][]int64{0: {0, 0}, 1: {0, 0}, 2: {1, 0}, 3: {1, 1}, 4: {2, 1}}[set]
			check(fmt.Sprint("set ", set), v, set, fmt.Sprint(want[0]), fmt.Sprint(want[1]), numbers...)
		}
		tables = h.open("area", "kind")
	}
	other, err := tables.Pick([]string{"kind", "none", "area"}, map[string]int64{"area": 1, "kind": 1})
	if err != nil {
		t.Fatal(err)
	}
	for table, want := range []string{"x", "", "1"} {
		if got, _ := other.Find(table, []string{"b", "b", "a"}[table]); got != want {
			t.Errorf("picked: table %d has %q, want %q", table, got, want)
		}
	}
	if _, err := tables.Pick([]string{"area"}, map[string]int64{"area": 7}); !errors.Is(err, reftable.ErrNotFound) {
		t.Errorf("a version that never was: %v", err)
	}
	if _, err := tables.Versions(9); !errors.Is(err, reftable.ErrNotFound) {
		t.Errorf("a set that is not known: %v", err)
	}
	if err := os.Remove(filepath.Join(h.dir, "area", "v-1")); err != nil {
		t.Fatal(err)
	}
	tables = h.open("area", "kind")
	h.want(tables, 2, 0, "a", "2") // events make do with it
	if _, err := tables.Versions(2); !errors.Is(err, reftable.ErrNotFound) || !strings.Contains(err.Error(), "reference table area of set 2") {
		t.Errorf("a version that is gone: %v", err)
	}
	if v, err := tables.Versions(1); err != nil {
		t.Errorf("a set without it: %v", err)
	} else {
		check("a set without it", v, 1, "", "", 0, 0)
	}
}

// A set that is not known, as after a restored backup: the current one is used, it is
// said once, and the number is not given to another set.
func TestUnknownSet(t *testing.T) {
	h := newHouse(t)
	tables := h.open("area")
	h.put(tables, "area", "k,v\na,1\n")
	for range 3 {
		h.want(tables, 9, 0, "a", "1")
	}
	if n := strings.Count(h.log.String(), "level=ERROR"); n != 1 || !strings.Contains(h.log.String(), "set=9") {
		t.Errorf("it was said %d times: %s", n, &h.log)
	}
	h.put(tables, "area", "k,v\na,2\n")
	if tables.Set() != 10 {
		t.Errorf("the next set is %d, want 10", tables.Set())
	}
	h.want(tables, 9, 0, "a", "1")
}

func TestLoadMistakes(t *testing.T) {
	h := newHouse(t)
	long := strings.Repeat("x", 1025)
	for _, c := range []struct {
		name, content, want string
		change              func(*reftable.LoadOptions)
	}{
		{"empty", "", "cells.csv: the file is empty: it needs a header line", nil},
		{"no rows", "cell,area\n", "cells.csv: it has no rows: every lookup would then give an empty text; if that is meant, say --allow-empty", nil},
		{"one column", "cell\n1\n", "cells.csv:1: the file has 1 columns: say which is the key and which the value, with --key and --value", nil},
		{"columns", "cell,area,city\n1,2,3\n", "cells.csv:1: there is no column \"zone\", only cell, area, city", func(o *reftable.LoadOptions) { o.Key, o.Value = "cell", "zone" }},
		{"half", "cell,area\n1,2\n", "cells.csv:1: --value is missing: name the column, one of cell, area", func(o *reftable.LoadOptions) { o.Key = "cell" }},
		{
			"rows", "cell,area\n1,broker\n,x\n2,\n3\n4,a,b\n5,a\xff\n1,dock\n" + long[:257] + ",x\n6," + long + "\n7,\"a\nb\"\n1,x\n",
			`cells.csv:3: the key is empty
cells.csv:4: the value is empty: leave the row out, a key without a row gives an empty text
cells.csv:5: has 1 values, the header has 2
cells.csv:6: has 3 values, the header has 2
cells.csv:7: the value "a\xff" is not UTF-8
cells.csv:9: the key has 257 bytes: at most 256
cells.csv:10: the value has 1025 bytes: at most 1024
cells.csv:11: the value "a\nb" has characters that can't be printed
cells.csv:8: the key "1" is there already, on line 2: a key has one value
cells.csv:13: the key "1" is there already, on line 2: a key has one value`, nil,
		},
		{"quote", "cell,area\n1,\"a\n2,b\n", "cells.csv:3: extraneous or missing \" in quoted-field, in column 5: a value with quotes or commas stands in quotes, a quote in it is doubled; the rest was not read", nil},
		{"UTF-16", "\xff\xfec\x00", `cells.csv: the file is UTF-16, not UTF-8: save it as "CSV UTF-8"`, nil},
		{"many", "cell,area\n" + strings.Repeat(",x\n", 25), "cells.csv: 5 more mistakes", nil},
		{"name", "cell,area\n1,2\n", `"Area" is not a table name: use a-z, 0-9 and _, beginning with a letter, at most 32`, func(o *reftable.LoadOptions) { o.Table = "Area" }},
	} {
		change := c.change
		if change == nil {
			change = func(*reftable.LoadOptions) {}
		}
		_, err := h.tryLoad("area", c.content, change)
		if err == nil || err.Error() != c.want && !(c.name == "many" && strings.HasSuffix(err.Error(), c.want)) {
			t.Errorf("%s: got\n%v\nwant\n%s", c.name, err, c.want)
		}
	}
	if entries, _ := os.ReadDir(filepath.Join(h.dir, "area")); len(entries) > 0 {
		t.Errorf("mistakes have left %v", entries)
	}
	report, err := h.tryLoad("area", "cell,area\n", func(o *reftable.LoadOptions) { o.AllowEmpty = true })
	if err != nil || report.Info.Rows != 0 {
		t.Fatalf("an empty table: %v", err)
	}
	tables := h.open("area")
	h.want(tables, tables.Set(), 0, "1", "")
	report, err = h.tryLoad("area", "city,area,cell\nX,broker,1\n", func(o *reftable.LoadOptions) { o.Key, o.Value = "cell", "area" })
	if err != nil || report.Info.Rows != 1 {
		t.Fatalf("named columns: %v", err)
	}
}

func TestSameContent(t *testing.T) {
	h := newHouse(t)
	tables := h.open("area")
	first := h.load("area", "k,v\na,1\nb,2\n")
	h.load("area", "k,v\na,1\nb,3\n")
	again := h.load("area", "key,value\nb,2\na,1\n") // another order is the same content
	if again.Info.Version != 1 || !again.Noop || first.Noop {
		t.Errorf("the same content made version %d", again.Info.Version)
	}
	// What looks alike is not the same.
	if next := h.load("area", "k,v\na1,b\n"); next.Noop || next.Info.Version != 3 {
		t.Errorf("made version %d, want 3", next.Info.Version)
	}
	if next := h.load("area", "k,v\na,1b\n"); next.Noop || next.Info.Version != 4 {
		t.Errorf("made version %d, want 4", next.Info.Version)
	}
	if _, _, err := tables.Activate("area", 1); err != nil {
		t.Fatal(err)
	}
	h.want(tables, tables.Set(), 0, "b", "2")
}

// Damage is found, nothing is guessed, and loading the same file again repairs it.
func TestDamage(t *testing.T) {
	h := newHouse(t)
	tables := h.open("area")
	const first = "k,v\na,1\nb,2\n"
	h.put(tables, "area", first)
	path := filepath.Join(h.dir, "area", "v-1")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for at := range whole {
		broken := slices.Clone(whole)
		broken[at] ^= 1 << (at % 8)
		if err := os.WriteFile(path, broken, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := reftable.Open(h.dir, []string{"area"}, nil); !errors.Is(err, reftable.ErrDamaged) {
			t.Fatalf("a flipped bit in byte %d: %v", at, err)
		}
		if _, _, err := tables.Activate("area", 1); !errors.Is(err, reftable.ErrDamaged) {
			t.Fatalf("a flipped bit in byte %d: activated: %v", at, err)
		}
	}
	for n := range whole {
		if err := os.WriteFile(path, whole[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := reftable.Open(h.dir, []string{"area"}, nil); !errors.Is(err, reftable.ErrDamaged) {
			t.Fatalf("cut off at %d: %v", n, err)
		}
	}
	h.want(tables, tables.Set(), 0, "b", "2") // what is open goes on
	damaged := slices.Clone(whole)
	damaged[len(damaged)-40] ^= 1
	if err := os.WriteFile(path, damaged, 0o600); err != nil {
		t.Fatal(err)
	}
	report := h.load("area", first)
	if !report.Repaired || report.Info.Version != 1 {
		t.Errorf("loaded again it is %+v", report)
	}
	tables = h.open("area")
	h.want(tables, tables.Set(), 0, "b", "2")

	// An old version that only old events need: they use the one in force, it is said.
	h.put(tables, "area", "k,v\na,9\n")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	tables = h.open("area")
	h.want(tables, 2, 0, "a", "9")
	h.want(tables, 2, 0, "a", "9")
	if n := strings.Count(h.log.String(), "level=ERROR"); n != 1 {
		t.Errorf("it was said %d times: %s", n, &h.log)
	}

	sets := filepath.Join(h.dir, "SETS.json")
	for _, broken := range []string{"", "{", `{"format":1}`, `{"format":2,"sets":[]}`, `{"format":1,"sets":[{"number":2},{"number":1}]}`} {
		if err := durable.WriteSealed(sets, []byte(broken)); err != nil {
			t.Fatal(err)
		}
		if _, err := reftable.Open(h.dir, []string{"area"}, nil); err == nil {
			t.Errorf("SETS.json with %q opens", broken)
		}
	}
}

// Random tables against maps, with values of each width.
func TestLookupAgreesWithAMap(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, c := range []struct{ rows, values int }{{1, 1}, {7, 3}, {1000, 256}, {3000, 2000}, {140_000, 70_000}} {
		h := newHouse(t)
		naive := make(map[string]string)
		for len(naive) < c.rows {
			naive[strconv.FormatUint(random.Uint64()>>(random.Uint64()%48), 36)] = "v" + strconv.Itoa(int(random.Uint64()%uint64(c.values)))
		}
		var file strings.Builder
		file.WriteString("k,v\n")
		for k, v := range naive {
			fmt.Fprintf(&file, "%s,%s\n", k, v)
		}
		tables := h.open("area")
		h.put(tables, "area", file.String())
		set := tables.Set()
		misses := 0
		for k, v := range naive {
			h.want(tables, set, 0, k, v)
			other := k[:len(k)-1]
			if _, ok := naive[other]; !ok {
				misses++
			}
			h.want(tables, set, 0, other, naive[other])
		}
		t.Logf("%d keys, %d values: all found, %d keys that are not there", c.rows, tables.InForce(0).Values, misses)
	}
}

// Lookups of old and new sets while versions change: each set always says the same.
func TestConcurrentLookups(t *testing.T) {
	h := newHouse(t)
	tables := h.open("area")
	var wait sync.WaitGroup
	stop := make(chan struct{})
	for range 4 {
		wait.Go(func() {
			for n := uint64(0); ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				now := tables.Set()
				for _, set := range []uint64{now, 1 + n%now} {
					if got := tables.Lookup(set, 0, "a"); got != "" && got != strconv.FormatUint(set, 10) || got == "" && set > 1 {
						t.Errorf("set %d says %q", set, got)
						return
					}
				}
			}
		})
	}
	for set := 2; set < 40; set++ {
		h.put(tables, "area", fmt.Sprintf("k,v\na,%d\n", set))
	}
	close(stop)
	wait.Wait()
}

// cells is a file of n cells as operators name them, in a hundred areas.
func cells(n int) string {
	var b strings.Builder
	b.WriteString("cell,area\n")
	for i := range n {
		fmt.Fprintf(&b, "460-00-%05d-%03d,area_%02d\n", i/256, i%256, i*7%100)
	}
	return b.String()
}

// A table of half a million cells is to take no more than 40 bytes a cell.
func TestMemory(t *testing.T) {
	const n = 500_000
	if testing.Short() {
		t.Skip("it loads half a million rows")
	}
	h := newHouse(t)
	report := h.load("area", cells(n))
	heap := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	tables := h.open("area")
	took := heap() - before
	h.want(tables, tables.Set(), 0, "460-00-00001-001", fmt.Sprintf("area_%02d", 257*7%100))
	t.Logf("%d cells: %.1f MB in memory, %.1f bytes a cell; %.1f MB on disk; loaded in %v", n, float64(took)/1e6, float64(took)/n, float64(report.Info.Bytes)/1e6, report.Took)
	if took > 40*n {
		t.Errorf("%d bytes a cell", took/n)
	}
}

func TestLookupDoesNotAllocate(t *testing.T) {
	h := newHouse(t)
	tables := h.open("area")
	h.put(tables, "area", cells(1000))
	set := tables.Set()
	if n := testing.AllocsPerRun(100, func() { tables.Lookup(set, 0, "460-00-00001-001") }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkLookup(b *testing.B) {
	const n = 500_000
	h := newHouse(b)
	tables := h.open("area")
	h.put(tables, "area", cells(n))
	twin := make(map[string]string, n)
	keys := make([]string, 1<<16)
	random := rand.New(rand.NewPCG(1, 2))
	for i := range keys {
		j := random.IntN(n)
		keys[i] = fmt.Sprintf("460-00-%05d-%03d", j/256, j%256)
	}
	for i := range n {
		twin[fmt.Sprintf("460-00-%05d-%03d", i/256, i%256)] = "area"
	}
	set := tables.Set()
	b.Run("table", func(b *testing.B) {
		i := 0
		for b.Loop() {
			tables.Lookup(set, 0, keys[i&(1<<16-1)])
			i++
		}
	})
	b.Run("map", func(b *testing.B) {
		i := 0
		for b.Loop() {
			_ = twin[keys[i&(1<<16-1)]]
			i++
		}
	})
}
