package profilestore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"rapport/profilestore"
)

// mustLoad loads a file with one customer whose balance is given.
func mustLoad(t testing.TB, dir string, balance float64, change func(*profilestore.LoadOptions)) profilestore.SnapshotInfo {
	t.Helper()
	report, err := loadFile(t, dir, loadHeader+fmt.Sprintf("1,%v,,,,\n", balance), change)
	if err != nil {
		t.Fatal(err)
	}
	return report.Snapshot
}

// balanceOf returns customer 1's balance in a set.
func balanceOf(t testing.TB, set *profilestore.SnapshotSet) profilestore.Value {
	t.Helper()
	snapshot := set.Source(0)
	if snapshot == nil {
		return profilestore.Unknown()
	}
	row, _, err := snapshot.Row([]byte("customer:1"), nil)
	if err != nil {
		t.Fatal(err)
	}
	return snapshot.Value(row, 0)
}

func currentBalance(t testing.TB, s *profilestore.Snapshots) profilestore.Value {
	t.Helper()
	set := s.Acquire()
	defer set.Release()
	return balanceOf(t, set)
}

func activate(t testing.TB, s *profilestore.Snapshots, generation, wantPrevious int64) {
	t.Helper()
	info, previous, err := s.Activate(context.Background(), "bi", generation)
	if err != nil || info.Generation != generation || previous != wantPrevious {
		t.Fatalf("Activate(%d) = %d, %d, %v, want previous %d", generation, info.Generation, previous, err, wantPrevious)
	}
}

// generationsOf lists the snapshots of bi as number and state.
func generationsOf(t testing.TB, s *profilestore.Snapshots) string {
	t.Helper()
	list, err := s.List("bi")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, info := range list {
		names = append(names, fmt.Sprintf("%d %s", info.Generation, info.State))
	}
	return strings.Join(names, ", ")
}

func TestSnapshotLifecycle(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data", "snapshots")
	s := openSnapshots(t, dir, loadSchema(t))
	if got := generationsOf(t, s); got != "" {
		t.Errorf("snapshots before the first load: %s", got)
	}
	if _, _, err := s.Rollback(t.Context(), "bi"); !errors.Is(err, profilestore.ErrNoEarlierSnapshot) {
		t.Errorf("rollback of nothing: %v", err)
	}
	epoch := s.Acquire().Epoch()
	if info := mustLoad(t, dir, 1, nil); info.Generation != 1 || info.State != profilestore.SnapshotRetained {
		t.Errorf("first load: %+v", info)
	}
	mustLoad(t, dir, 2, nil)
	if got := generationsOf(t, s); got != "2 retained, 1 retained" {
		t.Errorf("after two loads: %s", got)
	}
	if v := currentBalance(t, s); v.Known() {
		t.Errorf("a load alone made balance %v current", v)
	}
	activate(t, s, 1, 0)
	before := s.Acquire()
	activate(t, s, 2, 1)
	activate(t, s, 2, 2)
	if v := currentBalance(t, s); v != profilestore.Number(2) {
		t.Errorf("balance %v, want 2", v)
	}
	if v := balanceOf(t, before); v != profilestore.Number(1) {
		t.Errorf("balance %v in the set acquired before, want 1", v)
	}
	row, _, err := before.Source(0).Row([]byte("customer:1"), nil)
	if err != nil {
		t.Fatal(err)
	}
	kept := before.Source(0)
	before.Release()
	if v := kept.Value(row, 0); v != profilestore.Number(1) || kept.AsOf() != asOf || kept.IngestCut() != asOf || kept.Rows() != 1 || kept.Source() != "bi" {
		t.Errorf("a kept row reads %v after its set was released", v)
	}

	info, previous, err := s.Rollback(t.Context(), "bi")
	if err != nil || info.Generation != 1 || previous != 2 {
		t.Errorf("Rollback = %d, %d, %v", info.Generation, previous, err)
	}
	if got := generationsOf(t, s); got != "2 retained, 1 active" || currentBalance(t, s) != profilestore.Number(1) {
		t.Errorf("after rollback: %s, balance %v", got, currentBalance(t, s))
	}
	if _, _, err := s.Rollback(t.Context(), "bi"); !errors.Is(err, profilestore.ErrNoEarlierSnapshot) {
		t.Errorf("rollback beyond the first: %v", err)
	}
	if set := s.Acquire(); set.Epoch() <= epoch+2 || set.Epoch() != s.Epoch() {
		t.Errorf("epoch %d after %d and four changes", set.Epoch(), epoch)
	} else {
		set.Release()
	}

	// The choice survives.
	again := openSnapshots(t, dir, loadSchema(t))
	if v := currentBalance(t, again); v != profilestore.Number(1) || len(again.Problems()) > 0 {
		t.Errorf("balance %v after opening again, want 1; problems %v", v, again.Problems())
	}
}

func TestSnapshotsOfSources(t *testing.T) {
	dir := t.TempDir()
	s := openSnapshots(t, dir, loadSchema(t))
	mustLoad(t, dir, 1, nil)
	report, err := loadFile(t, dir, "msisdn,calls\n1,7\n", func(o *profilestore.LoadOptions) { o.Source = "service" })
	if err != nil {
		t.Fatal(err)
	}
	activate(t, s, 1, 0)
	if _, _, err := s.Activate(t.Context(), "service", report.Snapshot.Generation); err != nil {
		t.Fatal(err)
	}
	set := s.Acquire()
	defer set.Release()
	slot, _ := loadSchema(t).Lookup("usage.calls")
	row, _, err := set.Source(1).Row([]byte("customer:1"), []byte("dst"))
	if err != nil || string(row[:3]) != "dst" || set.Source(1).Value(row[3:], slot) != profilestore.Number(7) {
		t.Errorf("row %q: %v", row, err)
	}
	if set.Source(0).Covers(slot) || !set.Source(1).Covers(slot) || set.Source(2) != nil {
		t.Error("the sources cover the wrong fields")
	}
	// A row of one source read with the snapshot of another is not read.
	if v := set.Source(0).Value(row[3:], 0); v.Known() || set.Source(0).Present(row[3:], 2) {
		t.Errorf("a foreign row reads %v", v)
	}
	if _, found, err := set.Source(0).Row([]byte("customer:2"), nil); found || err != nil {
		t.Errorf("a customer that is not there: %v, %v", found, err)
	}
	list, err := s.List("")
	if err != nil || len(list) != 2 || list[0].Source != "bi" || list[1].Source != "service" {
		t.Errorf("List = %+v, %v", list, err)
	}
	for _, err := range []error{
		func() error { _, err := s.List("crm"); return err }(),
		func() error { _, _, err := s.Activate(t.Context(), "crm", 1); return err }(),
		func() error { _, _, err := s.Activate(t.Context(), "bi", 7); return err }(),
	} {
		if !errors.Is(err, profilestore.ErrSnapshotNotFound) {
			t.Errorf("got %v, want ErrSnapshotNotFound", err)
		}
	}
}

func TestLoadOfTheSameContent(t *testing.T) {
	dir := t.TempDir()
	content := loadHeader + "1,1,1,1,Gold,\n2,2,2,0,Silver,\n"
	shuffled := loadHeader + "2,2.0,2,no,Silver,\n1,1,1,yes,Gold,\n"
	first, err := loadFile(t, dir, content, nil)
	if err != nil || first.Noop {
		t.Fatalf("%+v, %v", first, err)
	}
	again, err := loadFile(t, dir, shuffled, nil)
	if err != nil || !again.Noop || again.Snapshot.Generation != 1 || again.Rows != 2 {
		t.Errorf("the same content again: %+v, %v", again, err)
	}
	if left := strayFiles(t, dir); slices.ContainsFunc(left, func(f string) bool { return strings.Contains(f, "gen-2") }) {
		t.Errorf("a load without effect left %q", left)
	}
	later, err := loadFile(t, dir, content, func(o *profilestore.LoadOptions) { o.AsOf += int64(profilestore.CellWidth / time.Microsecond) })
	if err != nil || later.Noop || later.Snapshot.ContentHash != first.Snapshot.ContentHash {
		t.Errorf("the same content of another time: %+v, %v", later, err)
	}
	cut, err := loadFile(t, dir, content, func(o *profilestore.LoadOptions) {
		o.IngestCut = o.AsOf + int64(profilestore.CellWidth/time.Microsecond)
	})
	if err != nil || cut.Noop || cut.Snapshot.IngestCut == cut.Snapshot.AsOf {
		t.Errorf("the same content of another ingest cut: %+v, %v", cut, err)
	}
	// Loading a file again repairs what went bad.
	damage(t, dir, "gen-1/rows/*.sst")
	repaired, err := loadFile(t, dir, content, nil)
	if err != nil || repaired.Noop || repaired.Snapshot.Generation != 4 {
		t.Errorf("the content of a damaged snapshot: %+v, %v", repaired, err)
	}
}

func TestRetention(t *testing.T) {
	dir := t.TempDir()
	s := openSnapshots(t, dir, loadSchema(t))
	for i := range 3 {
		mustLoad(t, dir, float64(i), nil)
		activate(t, s, int64(i+1), int64(i))
	}
	if _, _, err := s.Rollback(t.Context(), "bi"); err != nil { // to 2, and 1 before it
		t.Fatal(err)
	}
	held := s.Acquire()
	defer held.Release()
	mustLoad(t, dir, 4, nil)
	if got := generationsOf(t, s); got != "4 retained, 2 active, 1 retained" {
		t.Errorf("with three retained: %s", got)
	}
	mustLoad(t, dir, 5, func(o *profilestore.LoadOptions) { o.Retain = 2 })
	if got := generationsOf(t, s); got != "5 retained, 2 active, 1 retained" {
		t.Errorf("with two retained: %s", got)
	}
	activate(t, s, 5, 2)
	mustLoad(t, dir, 6, func(o *profilestore.LoadOptions) { o.Retain = 4 })
	mustLoad(t, dir, 7, func(o *profilestore.LoadOptions) { o.Retain = 4 })
	if got := generationsOf(t, s); got != "7 retained, 6 retained, 5 active, 2 retained" {
		t.Errorf("with four retained: %s", got)
	}
	mustLoad(t, dir, 8, func(o *profilestore.LoadOptions) { o.Retain = 2 })
	activate(t, s, 8, 5)
	report, err := loadFile(t, dir, loadHeader+"1,9,,,,\n", func(o *profilestore.LoadOptions) { o.Retain = 2 })
	if err != nil || !slices.Equal(report.Removed, []int64{2}) {
		t.Errorf("removed %v, %v", report.Removed, err)
	}
	// The removed one is still read by whoever holds it.
	if v := balanceOf(t, held); v != profilestore.Number(1) {
		t.Errorf("balance %v in a set whose folder is gone", v)
	}
	// A number is never used again, whatever became of its snapshot.
	for _, n := range []int{9, 8, 5} {
		if err := os.RemoveAll(filepath.Join(dir, "bi", fmt.Sprintf("gen-%d", n))); err != nil {
			t.Fatal(err)
		}
	}
	if info := mustLoad(t, dir, 10, nil); info.Generation != 10 {
		t.Errorf("after all were removed the next has number %d", info.Generation)
	}
}

// damage flips a bit in the middle of a file of a source.
func damage(t testing.TB, dir, pattern string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "bi", pattern))
	if err != nil || len(files) == 0 {
		t.Fatalf("no files %s: %v", pattern, err)
	}
	b, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := os.WriteFile(files[0], b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestDamagedSnapshots(t *testing.T) {
	for _, test := range []struct {
		name   string
		damage func(t *testing.T, dir string)
		want   error
		listed string
	}{
		{"a bit of a table", func(t *testing.T, dir string) { damage(t, dir, "gen-2/rows/*.sst") }, profilestore.ErrSnapshotDamaged, "2 retained, 1 active"},
		{"a bit of Badger's manifest", func(t *testing.T, dir string) { damage(t, dir, "gen-2/rows/MANIFEST") }, profilestore.ErrSnapshotDamaged, "2 retained, 1 active"},
		{"a bit of the manifest", func(t *testing.T, dir string) { damage(t, dir, "gen-2/MANIFEST.json") }, profilestore.ErrSnapshotDamaged, "2 damaged, 1 active"},
		{"a bit of the marker", func(t *testing.T, dir string) { damage(t, dir, "gen-2/COMPLETE") }, profilestore.ErrSnapshotDamaged, "2 damaged, 1 active"},
		{"a table cut off", func(t *testing.T, dir string) {
			files, _ := filepath.Glob(filepath.Join(dir, "bi/gen-2/rows/*.sst"))
			if err := os.Truncate(files[0], 100); err != nil {
				t.Fatal(err)
			}
		}, profilestore.ErrSnapshotDamaged, "2 retained, 1 active"},
		{"a table missing", func(t *testing.T, dir string) {
			files, _ := filepath.Glob(filepath.Join(dir, "bi/gen-2/rows/*.sst"))
			if err := os.Remove(files[0]); err != nil {
				t.Fatal(err)
			}
		}, profilestore.ErrSnapshotDamaged, "2 retained, 1 active"},
		{"the manifest missing", func(t *testing.T, dir string) {
			if err := os.Remove(filepath.Join(dir, "bi/gen-2/MANIFEST.json")); err != nil {
				t.Fatal(err)
			}
		}, profilestore.ErrSnapshotDamaged, "2 damaged, 1 active"},
		{"the marker missing", func(t *testing.T, dir string) {
			if err := os.Remove(filepath.Join(dir, "bi/gen-2/COMPLETE")); err != nil {
				t.Fatal(err)
			}
		}, profilestore.ErrSnapshotNotFound, "1 active"},
		{"another's place", func(t *testing.T, dir string) {
			if err := os.RemoveAll(filepath.Join(dir, "bi/gen-2")); err != nil {
				t.Fatal(err)
			}
			if err := os.CopyFS(filepath.Join(dir, "bi/gen-2"), os.DirFS(filepath.Join(dir, "bi/gen-1"))); err != nil {
				t.Fatal(err)
			}
		}, profilestore.ErrSnapshotDamaged, "2 damaged, 1 active"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			s := openSnapshots(t, dir, loadSchema(t))
			mustLoad(t, dir, 1, nil)
			mustLoad(t, dir, 2, nil)
			activate(t, s, 1, 0)
			epoch := s.Epoch()
			test.damage(t, dir)
			if got := generationsOf(t, s); got != test.listed {
				t.Errorf("listed: %s, want %s", got, test.listed)
			}
			if _, _, err := s.Activate(t.Context(), "bi", 2); !errors.Is(err, test.want) {
				t.Errorf("Activate: %v, want %v", err, test.want)
			}
			if v := currentBalance(t, s); v != profilestore.Number(1) || s.Epoch() != epoch {
				t.Errorf("balance %v and epoch %d after that, want 1 and %d", v, s.Epoch(), epoch)
			}
		})
	}
}

// A source whose current snapshot is damaged when the process starts has none,
// says so, and another can be activated.
func TestOpenWithDamagedCurrent(t *testing.T) {
	dir := t.TempDir()
	first := openSnapshots(t, dir, loadSchema(t))
	mustLoad(t, dir, 1, nil)
	mustLoad(t, dir, 2, nil)
	activate(t, first, 1, 0)
	activate(t, first, 2, 1)
	damage(t, dir, "gen-2/rows/*.sst")

	s := openSnapshots(t, dir, loadSchema(t))
	if err := s.Problems()["bi"]; !errors.Is(err, profilestore.ErrSnapshotDamaged) || currentBalance(t, s).Known() {
		t.Errorf("problem %v, balance %v", err, currentBalance(t, s))
	}
	if _, previous, err := s.Rollback(t.Context(), "bi"); err != nil || previous != 2 {
		t.Fatal(previous, err)
	}
	if v := currentBalance(t, s); v != profilestore.Number(1) || len(s.Problems()) > 0 {
		t.Errorf("balance %v after rollback, problems %v", v, s.Problems())
	}

	if err := os.WriteFile(filepath.Join(dir, "bi", "CURRENT.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	s = openSnapshots(t, dir, loadSchema(t))
	if err := s.Problems()["bi"]; !errors.Is(err, profilestore.ErrSnapshotDamaged) {
		t.Errorf("problem %v", err)
	}
}

// A row that went bad while its snapshot is open is not served.
func TestRowChecksum(t *testing.T) {
	memory := make(memoryGenerations)
	dir := t.TempDir()
	use := func(o *profilestore.LoadOptions) { o.Engine = memory }
	mustLoad(t, dir, 1, use)
	s, err := profilestore.OpenSnapshots(dir, loadSchema(t), memory, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close() //nolint:errcheck // in memory
	activate(t, s, 1, 0)
	var rows map[string][]byte
	for _, g := range memory {
		rows = g.rows
	}
	good := slices.Clone(rows["customer:1"])
	rows["customer:2"] = good
	for i := range 8 * len(good) {
		bad := slices.Clone(good)
		bad[i/8] ^= 1 << (i % 8)
		rows["customer:1"] = bad
		set := s.Acquire()
		row, found, err := set.Source(0).Row([]byte("customer:1"), []byte("dst"))
		if !errors.Is(err, profilestore.ErrSnapshotDamaged) || found || string(row) != "dst" {
			t.Fatalf("bit %d flipped: %q, %v, %v", i, row, found, err)
		}
		if _, _, err := set.Source(0).Row([]byte("customer:2"), nil); !errors.Is(err, profilestore.ErrSnapshotDamaged) {
			t.Fatalf("the row of another: %v", err)
		}
		set.Release()
	}
}

func TestUnfitSnapshots(t *testing.T) {
	dir := t.TempDir()
	mustLoad(t, dir, 12.34, nil)
	change := func(f func([]profilestore.Field) []profilestore.Field) *profilestore.Schema {
		old := loadSchema(t)
		schema, err := profilestore.NewSchema(old.Sources(), f(slices.Clone(old.Fields())))
		if err != nil {
			t.Fatal(err)
		}
		return schema
	}
	for _, test := range []struct {
		name   string
		schema *profilestore.Schema
		want   string // the balance, or the error
	}{
		{"the same", loadSchema(t), "12.34"},
		{"a field more", change(func(f []profilestore.Field) []profilestore.Field {
			return append([]profilestore.Field{{Name: "tag.new", Type: profilestore.TypeFlag, Batch: "bi", Default: true}}, f...)
		}), "12.34"},
		{"other fields gone", change(func(f []profilestore.Field) []profilestore.Field { return f[:1] }), "12.34"},
		{"moved to another source", change(func(f []profilestore.Field) []profilestore.Field {
			f[0].Batch = "service"
			return f
		}), "unknown"},
		{"other decimals", change(func(f []profilestore.Field) []profilestore.Field {
			f[0].Decimals = 4
			return f
		}), "12.34"},
		{"another type", change(func(f []profilestore.Field) []profilestore.Field {
			f[0].Type, f[0].Decimals = profilestore.TypeText, profilestore.NoDecimals
			return f
		}), "the snapshot does not fit the schema: field value.balance is a text in the schema and a number in the snapshot: load the source again"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := openSnapshots(t, dir, test.schema)
			_, _, err := s.Activate(t.Context(), "bi", 1)
			if err != nil {
				if err.Error() != test.want || !errors.Is(err, profilestore.ErrSnapshotUnfit) {
					t.Errorf("%v, want %s", err, test.want)
				}
				return
			}
			set := s.Acquire()
			defer set.Release()
			row, _, err := set.Source(0).Row([]byte("customer:1"), nil)
			if err != nil {
				t.Fatal(err)
			}
			slot, _ := test.schema.Lookup("value.balance")
			if got := set.Source(0).Value(row, slot); got.String() != test.want {
				t.Errorf("balance %v, want %s", got, test.want)
			}
			if slot, ok := test.schema.Lookup("tag.new"); ok && (set.Source(0).Value(row, slot).Known() || set.Source(0).Covers(slot)) {
				t.Error("the snapshot has a value of a field that is newer")
			}
		})
	}
	counter := func(decimals int) *profilestore.Schema {
		schema, err := profilestore.NewSchema([]profilestore.Source{{ID: "bi"}},
			[]profilestore.Field{{Name: "usage.mb", Type: profilestore.TypeCounter, Batch: "bi", Column: "mb", Decimals: decimals}})
		if err != nil {
			t.Fatal(err)
		}
		return schema
	}
	dir = t.TempDir()
	if _, err := loadFile(t, dir, "customer,mb\n1,1.25\n", func(o *profilestore.LoadOptions) { o.Schema = counter(2) }); err != nil {
		t.Fatal(err)
	}
	if _, _, err := openSnapshots(t, dir, counter(1)).Activate(t.Context(), "bi", 1); !errors.Is(err, profilestore.ErrSnapshotUnfit) {
		t.Errorf("a counter with fewer decimals: %v", err)
	}
	if _, _, err := openSnapshots(t, dir, counter(3)).Activate(t.Context(), "bi", 1); err != nil {
		t.Errorf("a counter with more decimals: %v", err)
	}
}

// Readers always see one snapshot, whole, while others come and go.
func TestActivateUnderReaders(t *testing.T) {
	dir := t.TempDir()
	s := openSnapshots(t, dir, loadSchema(t))
	for i := range 3 {
		mustLoad(t, dir, float64(i+1), nil)
	}
	activate(t, s, 1, 0)
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			var epoch uint64
			for {
				select {
				case <-stop:
					return
				default:
				}
				set := s.Acquire()
				if v := balanceOf(t, set); v != profilestore.Number(float64(set.Source(0).Generation())) {
					t.Errorf("generation %d has balance %v", set.Source(0).Generation(), v)
				}
				if set.Epoch() < epoch {
					t.Errorf("epoch %d after %d", set.Epoch(), epoch)
				}
				epoch = set.Epoch()
				set.Release()
			}
		})
	}
	var changers sync.WaitGroup
	for c := range 2 {
		changers.Go(func() {
			for i := range 6 {
				if _, _, err := s.Activate(context.Background(), "bi", int64((i+c)%3+1)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	changers.Wait()
	held := s.Acquire()
	close(stop)
	readers.Wait()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if v := balanceOf(t, held); !v.Known() {
		t.Error("Close closed what is held")
	}
	held.Release()
	if v := currentBalance(t, s); v.Known() {
		t.Errorf("balance %v after Close", v)
	}
	if _, _, err := s.Activate(context.Background(), "bi", 1); err == nil {
		t.Error("Activate after Close")
	}
}

// TestSnapshotChild is not a test of its own: it is what other processes do.
func TestSnapshotChild(t *testing.T) {
	dir := os.Getenv("RAPPORT_TEST_SNAPSHOTS")
	if dir == "" {
		t.Skip("run by other tests")
	}
	switch os.Getenv("RAPPORT_TEST_DO") {
	case "load":
		mustLoad(t, dir, 2, nil)
	case "activate":
		activate(t, openSnapshots(t, dir, loadSchema(t)), 2, 1)
	case "hang": // in the middle of a load
		var file bytes.Buffer
		file.WriteString(loadHeader)
		for i := range 5000 {
			fmt.Fprintf(&file, "%d,1,1,1,Gold,\n", i)
		}
		_, err := loadFile(t, dir, file.String(), func(o *profilestore.LoadOptions) {
			o.Progress = func(rows, done, total int64) {
				if done > total*3/4 && done < total {
					_, _ = os.Stdout.WriteString("in the middle\n")
					select {}
				}
			}
		})
		t.Fatal("the load ended:", err)
	}
}

// inChild runs TestSnapshotChild in a process of its own.
func inChild(t *testing.T, dir, do string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestSnapshotChild$")
	cmd.Env = append(os.Environ(), "RAPPORT_TEST_SNAPSHOTS="+dir, "RAPPORT_TEST_DO="+do)
	cmd.Stderr = os.Stderr
	return cmd
}

func TestSnapshotsOfOtherProcesses(t *testing.T) {
	dir := t.TempDir()
	s := openSnapshots(t, dir, loadSchema(t))
	mustLoad(t, dir, 1, nil)
	activate(t, s, 1, 0)
	if out, err := inChild(t, dir, "load").Output(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if got := generationsOf(t, s); got != "2 retained, 1 active" {
		t.Errorf("after another process loaded: %s", got)
	}
	if out, err := inChild(t, dir, "activate").Output(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if got := generationsOf(t, s); got != "2 active, 1 retained" {
		t.Errorf("after another process activated: %s", got)
	}
	activate(t, s, 2, 2)
	if v := currentBalance(t, s); v != profilestore.Number(2) {
		t.Errorf("balance %v, want 2", v)
	}
}

func TestKilledLoad(t *testing.T) {
	dir := t.TempDir()
	s := openSnapshots(t, dir, loadSchema(t))
	mustLoad(t, dir, 1, nil)
	activate(t, s, 1, 0)
	cmd := inChild(t, dir, "hang")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	// A second load is refused meanwhile, and says whom to wait for.
	_, err = loadFile(t, dir, loadHeader+"1,2,,,,\n", nil)
	if want := fmt.Sprintf("source bi: a load is running: process %d; wait for it, or end it", cmd.Process.Pid); !errors.Is(err, profilestore.ErrLoadRunning) || err.Error() != want {
		t.Errorf("a second load: %v, want %s", err, want)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if _, err := os.Stat(filepath.Join(dir, "bi", "gen-2.tmp")); err != nil {
		t.Errorf("the kill came too early or too late: %v", err)
	}
	if got := generationsOf(t, s); got != "1 active" {
		t.Errorf("after the load was killed: %s", got)
	}
	if _, _, err := s.Activate(t.Context(), "bi", 2); !errors.Is(err, profilestore.ErrSnapshotNotFound) {
		t.Errorf("activation of the killed load: %v", err)
	}
	if v := currentBalance(t, openSnapshots(t, dir, loadSchema(t))); v != profilestore.Number(1) {
		t.Errorf("balance %v, want 1", v)
	}
	info := mustLoad(t, dir, 2, nil)
	activate(t, s, info.Generation, 1)
	if left, _ := filepath.Glob(filepath.Join(dir, "bi", "*.tmp")); len(left) > 0 {
		t.Errorf("the next load left %q", left)
	}
}

func TestSnapshotInfo(t *testing.T) {
	dir := t.TempDir()
	report, err := loadFile(t, dir, loadHeader+"1,1,,1,Gold,\n2,2,,,,\n", nil)
	if err != nil {
		t.Fatal(err)
	}
	list, err := openSnapshots(t, dir, loadSchema(t)).List("bi")
	if err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	info := list[0]
	want := map[string]float64{"value.balance": 0, "value.score": 1, "tag.vip": 0.5, "general.plan": 0.5, "service.last_call": 1}
	if !maps.Equal(info.Nulls, want) || info.Schema != loadSchema(t).ID() || len(info.ContentHash) != 16 ||
		info.AsOf != asOf || info.IngestCut != asOf || time.Since(time.UnixMicro(info.SealedAt)) > time.Minute {
		t.Errorf("%+v", info)
	}
	nulls := make(map[string]int64)
	for _, f := range report.Fields {
		nulls[f.Name] = f.Nulls
	}
	if nulls["value.score"] != 2 || nulls["tag.vip"] != 1 || nulls["value.balance"] != 0 {
		t.Errorf("nulls %v", nulls)
	}
}
