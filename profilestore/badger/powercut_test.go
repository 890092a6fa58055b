package badger

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"rapport/profilestore"
)

// loopDevice is an ext4 file system in a file. A copy of that file is what a disk
// holds when the power fails: what the kernel has not yet written is not in it.
type loopDevice struct{ image, dir string }

// newDisk returns an empty loopDevice, or skips the test: that needs root, so it
// runs only where RAPPORT_REQUIRE has "powercut".
func newDisk(t *testing.T) *loopDevice {
	t.Helper()
	if !strings.Contains(os.Getenv("RAPPORT_REQUIRE"), "powercut") {
		t.Skip("RAPPORT_REQUIRE does not ask for powercut")
	}
	image := filepath.Join(t.TempDir(), "image")
	run(t, "truncate", "-s", "1G", image)
	run(t, "mkfs.ext4", "-q", image)
	return mountImage(t, image)
}

func mountImage(t *testing.T, image string) *loopDevice {
	t.Helper()
	dir := t.TempDir()
	run(t, "mount", "-o", "loop", image, dir)
	d := &loopDevice{image: image, dir: dir}
	t.Cleanup(func() { run(t, "umount", dir) })
	return d
}

// cutPower returns the file system as it would be after a loss of power now.
func (d *loopDevice) cutPower(t *testing.T) *loopDevice {
	t.Helper()
	after := filepath.Join(t.TempDir(), "image")
	run(t, "cp", "--sparse=always", d.image, after)
	return mountImage(t, after)
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(context.WithoutCancel(t.Context()), name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}

// What was applied before a barrier survives loss of power, also when memory
// tables were begun, flushed and merged meanwhile.
func TestBarrierSurvivesPowerCut(t *testing.T) {
	disk := newDisk(t)
	options := Options{MemTableSize: 8 << 20, Logger: slog.New(slog.DiscardHandler)}
	e, err := Open(filepath.Join(disk.dir, "deltas"), options)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close() //nolint:errcheck // what matters is in the copies
	const batch, record = 500, 600
	written := 0
	write := func(batches int) {
		for range batches {
			var ops []profilestore.Op
			for range batch {
				value := fmt.Appendf(make([]byte, 0, record), "%0*d", record, written)
				ops = append(ops, profilestore.Op{Key: fmt.Appendf(nil, "customer:%07d", written), Change: func([]byte) []byte { return value }})
				written++
			}
			if err := e.Apply(t.Context(), ops); err != nil {
				t.Fatal(err)
			}
		}
	}
	lost := func() int {
		after := disk.cutPower(t)
		recovered, err := Open(filepath.Join(after.dir, "deltas"), options)
		if err != nil {
			t.Logf("not even opened: %v", err)
			return written
		}
		defer recovered.Close() //nolint:errcheck // only read
		n := 0
		for i := range written {
			got, found, err := recovered.Get(t.Context(), fmt.Appendf(nil, "customer:%07d", i), nil)
			if err != nil || !found || string(got) != fmt.Sprintf("%0*d", record, i) {
				n++
			}
		}
		return n
	}
	for round := range 4 {
		write(20 + 7*round) // 6 to 12 MB, of memory tables of 8
		if err := e.db.Sync(); err != nil {
			t.Fatal(err)
		}
		withSync := lost()
		if err := e.Barrier(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := lost(); n > 0 {
			t.Errorf("round %d: %d of %d records lost", round, n, written)
		}
		t.Logf("round %d: %d records; Badger's Sync alone lost %d", round, written, withSync)
	}
}

// A snapshot whose load has returned is there after loss of power, and active if
// its activation has returned.
func TestSnapshotSurvivesPowerCut(t *testing.T) {
	disk := newDisk(t)
	schema, err := profilestore.NewSchema([]profilestore.Source{{ID: "bi"}},
		[]profilestore.Field{{Name: "value.balance", Type: profilestore.TypeNumber, Batch: "bi", Column: "balance", Decimals: 2}})
	if err != nil {
		t.Fatal(err)
	}
	engine := Generations(slog.New(slog.DiscardHandler))
	file := []byte("customer,balance\n")
	for i := range 20_000 {
		file = fmt.Appendf(file, "%d,%d.25\n", i, i)
	}
	path := filepath.Join(t.TempDir(), "bi.csv")
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	open := func(d *loopDevice) *profilestore.Snapshots {
		s, err := profilestore.OpenSnapshots(filepath.Join(d.dir, "data", "snapshots"), schema, engine, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		return s
	}
	if _, err := profilestore.Load(t.Context(), profilestore.LoadOptions{
		Dir: filepath.Join(disk.dir, "data", "snapshots"), Schema: schema, Engine: engine, Source: "bi", Path: path, AsOf: 900e6,
	}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := open(disk.cutPower(t)).Activate(t.Context(), "bi", 1); err != nil {
		t.Errorf("after the load: %v", err)
	}
	if _, _, err := open(disk).Activate(t.Context(), "bi", 1); err != nil {
		t.Fatal(err)
	}
	s := open(disk.cutPower(t))
	set := s.Acquire()
	defer set.Release()
	if set.Source(0) == nil {
		t.Fatalf("after the activation nothing is active: %v", s.Problems())
	}
	if row, found, err := set.Source(0).Row([]byte("customer:19999"), nil); !found || err != nil || set.Source(0).Value(row, 0) != profilestore.Number(19999.25) {
		t.Errorf("after the activation: %v, %v", found, err)
	}
}
