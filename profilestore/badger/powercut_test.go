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
// tables were begun, flushed and merged meanwhile. It needs root, so it runs only
// where RAPPORT_REQUIRE has "powercut".
func TestBarrierSurvivesPowerCut(t *testing.T) {
	if !strings.Contains(os.Getenv("RAPPORT_REQUIRE"), "powercut") {
		t.Skip("RAPPORT_REQUIRE does not ask for powercut")
	}
	image := filepath.Join(t.TempDir(), "image")
	run(t, "truncate", "-s", "1G", image)
	run(t, "mkfs.ext4", "-q", image)
	disk := mountImage(t, image)
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
