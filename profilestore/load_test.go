package profilestore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"rapport/profilestore"
	"rapport/profilestore/badger"
	"rapport/profilestore/memory"
)

// asOf is the as-of time of most loads: a whole quarter of an hour.
var asOf = time.Date(2026, 3, 1, 2, 0, 0, 0, time.UTC).UnixMicro()

func loadEngine() profilestore.GenerationEngine {
	return badger.Generations(slog.New(slog.DiscardHandler))
}

// loadSchema is the schema of the loader's tests.
func loadSchema(t testing.TB) *profilestore.Schema {
	t.Helper()
	number := func(name string, decimals int) profilestore.Field {
		return profilestore.Field{Name: name, Type: profilestore.TypeNumber, Batch: "bi", Column: strings.SplitN(name, ".", 2)[1], Decimals: decimals}
	}
	field := func(name string, kind profilestore.Type) profilestore.Field {
		return profilestore.Field{Name: name, Type: kind, Batch: "bi", Column: strings.SplitN(name, ".", 2)[1], Decimals: profilestore.NoDecimals}
	}
	vip := field("tag.vip", profilestore.TypeFlag)
	vip.Default = true
	schema, err := profilestore.NewSchema(
		[]profilestore.Source{{ID: "bi"}, {ID: "service", Key: "msisdn"}, {ID: "unused"}},
		[]profilestore.Field{
			number("value.balance", 2), number("value.score", profilestore.NoDecimals), vip,
			field("general.plan", profilestore.TypeText), field("service.last_call", profilestore.TypeTime),
			{Name: "usage.calls", Type: profilestore.TypeCounter, Batch: "service", Column: "calls", Decimals: 0},
		})
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

// loadFile loads content as a file named bi.csv into a folder of snapshots.
func loadFile(t testing.TB, dir, content string, change func(*profilestore.LoadOptions)) (*profilestore.LoadReport, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "bi.csv")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	o := profilestore.LoadOptions{
		Dir: dir, Schema: loadSchema(t), Engine: loadEngine(), Source: "bi", Path: path, AsOf: asOf,
	}
	if change != nil {
		change(&o)
	}
	return profilestore.Load(context.Background(), o)
}

// strayFiles returns what is in a folder of snapshots, locks aside.
func strayFiles(t testing.TB, dir string) []string {
	t.Helper()
	var left []string
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err != nil || info.IsDir() && filepath.Dir(path) == dir || path == dir || strings.HasSuffix(path, ".lock") {
			return nil //nolint:nilerr // what is not there is not left behind
		}
		left = append(left, path)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return left
}

// describeLoad activates what was loaded and writes it down.
func describeLoad(t testing.TB, dir string, report *profilestore.LoadReport) string {
	t.Helper()
	if report.Snapshot.Origin != "bi.csv" || report.Snapshot.Bytes == 0 {
		t.Errorf("the snapshot is %+v", report.Snapshot)
	}
	schema := loadSchema(t)
	return describe(t, openSnapshots(t, dir, schema), schema, report)
}

func describe(t testing.TB, snapshots *profilestore.Snapshots, schema *profilestore.Schema, report *profilestore.LoadReport) string {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "%d rows, %d bad", report.Rows, report.BadRows)
	if len(report.UnusedColumns) > 0 {
		fmt.Fprintf(&b, ", unused %s", strings.Join(report.UnusedColumns, " and "))
	}
	for _, p := range report.Problems {
		fmt.Fprintf(&b, "\nbad: %s", p)
	}
	info, _, err := snapshots.Activate(context.Background(), "bi", report.Snapshot.Generation)
	if err != nil {
		t.Fatal(err)
	}
	if info.Rows != report.Rows || info.Refused != report.BadRows || info.State != profilestore.SnapshotActive {
		t.Errorf("the active snapshot is %+v", info)
	}
	set := snapshots.Acquire()
	defer set.Release()
	var lines []string
	for _, customer := range []string{"customer:1", "customer:2", "customer:3", "customer:4", "customer:5", "customer:6", "msisdn:8613800000002"} {
		row, found, err := set.Source(0).Row([]byte(customer), nil)
		if err != nil {
			t.Fatal(err)
		}
		if !found {
			continue
		}
		line := customer
		for slot, f := range schema.Fields() {
			if f.Batch != "bi" {
				continue
			}
			v := set.Source(0).Value(row, slot)
			line += " " + f.Column + "=" + v.String()
			if v.Known() && !set.Source(0).Present(row, slot) {
				line += " (blank)"
			}
		}
		lines = append(lines, line)
	}
	slices.Sort(lines)
	return strings.Join(append([]string{b.String()}, lines...), "\n")
}

func openSnapshots(t testing.TB, dir string, schema *profilestore.Schema) *profilestore.Snapshots {
	t.Helper()
	s, err := profilestore.OpenSnapshots(dir, schema, loadEngine(), slog.New(slog.DiscardHandler))
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

func TestLoadNeedsFreeSpace(t *testing.T) {
	huge := filepath.Join(t.TempDir(), "huge.csv")
	if err := os.WriteFile(huge, []byte(loadHeader+strings.Repeat("1,12.25,0.1,yes,Gold,2026-03-01T08:00:00Z\n", 100_000)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(huge, 8<<40); err != nil { // mostly a hole
		t.Skip("the file system has no large sparse files:", err)
	}
	dir := t.TempDir()
	_, err := loadFile(t, dir, "", func(o *profilestore.LoadOptions) { o.Path = huge })
	if err == nil || !strings.Contains(err.Error(), " TB for the snapshot of ") ||
		!strings.Contains(err.Error(), " TB for rows that wait for being sorted, and ") ||
		!strings.HasSuffix(err.Error(), " are left free: remove something or use another disk") {
		t.Errorf("got %v", err)
	}
	if left := strayFiles(t, dir); len(left) > 0 {
		t.Errorf("the load left behind %q", left)
	}
}

func TestLoadCanceled(t *testing.T) {
	dir := t.TempDir()
	var file bytes.Buffer
	file.WriteString(loadHeader)
	for i := range 5000 {
		fmt.Fprintf(&file, "%d,1,1,1,Gold,\n", i)
	}
	for _, at := range []int64{1, 1000, 5000} { // rows read; at 5,000 it writes
		ctx, cancel := context.WithCancel(context.Background())
		stop := func(rows, done, total int64) {
			if rows >= at && (at < 5000 || done > total/2) {
				cancel()
			}
		}
		path := filepath.Join(t.TempDir(), "bi.csv")
		if err := os.WriteFile(path, file.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := profilestore.Load(ctx, profilestore.LoadOptions{
			Dir: dir, Schema: loadSchema(t), Engine: loadEngine(), Source: "bi", Path: path, AsOf: asOf, Progress: stop,
		})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("canceled at row %d: %v", at, err)
		}
		if left := strayFiles(t, dir); len(left) > 0 {
			t.Errorf("canceled at row %d, the load left behind %q", at, left)
		}
		cancel()
	}
}

func TestLoadProgress(t *testing.T) {
	var last, total int64
	report, err := loadFile(t, t.TempDir(), loadHeader+"1,,,,,\n", func(o *profilestore.LoadOptions) {
		o.Progress = func(_, done, of int64) {
			if done < last || done > of {
				t.Errorf("%d of %d after %d", done, of, last)
			}
			last, total = done, of
		}
	})
	if err != nil || last != total || total == 0 || report.Took <= 0 || report.RowsPerSecond <= 0 {
		t.Errorf("%v: progress ended at %d of %d, %+v", err, last, total, report)
	}
}

// A column that has few texts gets a dictionary, one that has many does not, and
// both read back.
func TestLoadDictionaries(t *testing.T) {
	for _, distinct := range []int{1, 3, 200, 300, 1000, 70_000} {
		t.Run(fmt.Sprint(distinct), func(t *testing.T) {
			t.Parallel()
			rows := max(2000, distinct)
			text := func(i int) string { return fmt.Sprintf("plan %d", i%distinct) }
			var file bytes.Buffer
			file.WriteString(loadHeader)
			for i := range rows {
				fmt.Fprintf(&file, "%d,,,,%s,\n", i, text(i))
			}
			dir, engine := t.TempDir(), memory.Generations{}
			report, err := loadFile(t, dir, file.String(), func(o *profilestore.LoadOptions) { o.Engine = engine })
			if err != nil {
				t.Fatal(err)
			}
			plan := report.Fields[slices.IndexFunc(report.Fields, func(f profilestore.LoadedField) bool { return f.Name == "general.plan" })]
			want := map[int]int{1: 1, 3: 1, 200: 1, 300: 2, 1000: 2, 70_000: 0}[distinct]
			if plan.Bytes != want || plan.Nulls != 0 {
				t.Errorf("%+v, want %d bytes", plan, want)
			}
			s, err := profilestore.OpenSnapshots(dir, loadSchema(t), engine, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close() //nolint:errcheck // in memory
			if _, _, err := s.Activate(t.Context(), "bi", 1); err != nil {
				t.Fatal(err)
			}
			set := s.Acquire()
			defer set.Release()
			slot, _ := loadSchema(t).Lookup("general.plan")
			for i := 0; i < rows; i += 97 {
				row, found, err := set.Source(0).Row(fmt.Appendf(nil, "customer:%d", i), nil)
				if err != nil || !found {
					t.Fatal(found, err)
				}
				if v := set.Source(0).Value(row, slot); v != profilestore.Text(text(i)) {
					t.Errorf("customer %d has %v, want %s", i, v, text(i))
				}
			}
		})
	}
}

// What comes of a file does not depend on how many processors take it apart.
func TestLoadOnAnyMachine(t *testing.T) {
	var good, bad bytes.Buffer
	good.WriteString(loadHeader)
	bad.WriteString(loadHeader)
	for i := range 15_000 {
		row := fmt.Sprintf("%d,%d.%02d,%d,%d,\"plan, %d\",2026-03-01\n", i*7919%15_000, i, i%100, i, i%2, i%300)
		good.WriteString(row)
		if i%500 == 499 {
			row = fmt.Sprintf("%d,x,1,1,Gold,\n", i)
		}
		bad.WriteString(row)
	}
	var hashes, errs []string
	for _, processors := range []int{1, 2, 7} {
		before := runtime.GOMAXPROCS(processors)
		report, err := loadFile(t, t.TempDir(), good.String(), func(o *profilestore.LoadOptions) { o.Engine = memory.Generations{} })
		if err != nil {
			t.Fatal(err)
		}
		_, err = loadFile(t, t.TempDir(), bad.String(), nil)
		runtime.GOMAXPROCS(before)
		bad, ok := errors.AsType[*profilestore.LoadError](err)
		if !ok || len(bad.Problems) != 20 || bad.Problems[19].Line != 10_001 || !strings.HasPrefix(bad.Summary, "30 of 15000 rows are bad") {
			t.Fatalf("with %d processors: %v", processors, err)
		}
		hashes = append(hashes, report.Snapshot.ContentHash)
		_, text, _ := strings.Cut(err.Error(), "\n")
		errs = append(errs, text)
	}
	if len(slices.Compact(hashes)) != 1 || len(slices.Compact(errs)) != 1 {
		t.Errorf("hashes %q, errors:\n%s", hashes, strings.Join(errs, "\n\n"))
	}
}
