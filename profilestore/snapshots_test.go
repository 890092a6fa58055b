package profilestore_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"rapport/profilestore"
	"rapport/profilestore/backuplock"
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
	backup, err := backuplock.Hold(t.Context(), filepath.Dir(dir))
	if err != nil {
		t.Fatal(err)
	}
	report, err := loadFile(t, dir, loadHeader+"1,8.5,,,,\n", func(o *profilestore.LoadOptions) { o.Retain = 2 })
	if err != nil || report.Removed != nil {
		t.Errorf("removed %v while a backup copies them, %v", report.Removed, err)
	}
	if err := backup.Release(); err != nil {
		t.Fatal(err)
	}
	report, err = loadFile(t, dir, loadHeader+"1,9,,,,\n", func(o *profilestore.LoadOptions) { o.Retain = 2 })
	if err != nil || !slices.Equal(report.Removed, []int64{2, 9}) {
		t.Errorf("removed %v, %v", report.Removed, err)
	}
	// The removed one is still read by whoever holds it.
	if v := balanceOf(t, held); v != profilestore.Number(1) {
		t.Errorf("balance %v in a set whose folder is gone", v)
	}
	// A number is never used again, whatever became of its snapshot.
	for _, n := range []int{10, 8, 5} {
		if err := os.RemoveAll(filepath.Join(dir, "bi", fmt.Sprintf("gen-%d", n))); err != nil {
			t.Fatal(err)
		}
	}
	if info := mustLoad(t, dir, 10, nil); info.Generation != 11 {
		t.Errorf("after all were removed the next has number %d", info.Generation)
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
