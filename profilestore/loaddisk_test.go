package profilestore_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"rapport/profilestore"
)

// mounted returns a folder that is a small disk of its own. That needs root: without,
// the test is skipped, or fails if RAPPORT_REQUIRE asks for mount. Only then is a loop
// device taken.
func mounted(t *testing.T, kind string, megabytes int) string {
	t.Helper()
	dir := t.TempDir()
	args := []string{"-t", "tmpfs", "-o", fmt.Sprintf("size=%dm", megabytes), "tmpfs", dir}
	if kind == "ext4" {
		if !strings.Contains(os.Getenv("RAPPORT_REQUIRE"), "mount") {
			t.Skip("RAPPORT_REQUIRE does not ask for mount")
		}
		image := filepath.Join(t.TempDir(), "image")
		if err := os.WriteFile(image, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(image, int64(megabytes)<<20); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.CommandContext(t.Context(), "mkfs.ext4", "-q", "-m", "0", image).CombinedOutput(); err != nil {
			noMount(t, fmt.Sprintf("mkfs.ext4: %v: %s", err, out))
		}
		args = []string{"-o", "loop", image, dir}
	}
	if out, err := exec.CommandContext(t.Context(), "mount", args...).CombinedOutput(); err != nil {
		noMount(t, fmt.Sprintf("mount: %v: %s", err, out))
	}
	t.Cleanup(func() {
		if err := exec.Command("umount", dir).Run(); err != nil { //nolint:noctx // the test's is over
			t.Error(err)
		}
	})
	return dir
}

func noMount(t *testing.T, why string) {
	t.Helper()
	if strings.Contains(os.Getenv("RAPPORT_REQUIRE"), "mount") {
		t.Fatal("RAPPORT_REQUIRE asks for mount: ", why)
	}
	t.Skip(why)
}

// A load that a disk has no room for ends with an error that says so, wherever it is
// then, and leaves the snapshots as they were; never by a signal. When there is room it
// works.
func TestLoadFullDisk(t *testing.T) {
	for _, kind := range []string{"tmpfs", "ext4"} {
		t.Run(kind, func(t *testing.T) {
			disk := mounted(t, kind, 24)
			dir := filepath.Join(disk, "snapshots")
			s := openSnapshots(t, dir, loadSchema(t))
			mustLoad(t, dir, 1, nil)
			activate(t, s, 1, 0)
			refused := func(what string, err error, says ...string) {
				t.Helper()
				ok := false
				for _, s := range says {
					ok = ok || err != nil && strings.Contains(err.Error(), s)
				}
				if !ok {
					t.Errorf("%s: got %v", what, err)
				}
				if left, _ := filepath.Glob(filepath.Join(dir, "bi", "*.tmp")); len(left) > 0 {
					t.Errorf("%s: %q is left", what, left)
				}
				if got := generationsOf(t, s); got != "1 active" {
					t.Errorf("%s: the snapshots are %s", what, got)
				}
				if v := currentBalance(t, s); v != profilestore.Number(1) {
					t.Errorf("%s: balance %v, want 1", what, v)
				}
			}
			// What is too much from the beginning is not begun.
			var wide, later bytes.Buffer
			wide.WriteString(loadHeader)
			later.WriteString(loadHeader)
			for i := range 30_000 {
				text := fmt.Sprintf("%d %s", i, strings.Repeat("x", 1000))
				fmt.Fprintf(&wide, "%d,1,1,1,%s,\n", i, text)
				if i < 25_000 {
					text = strings.Repeat("y", 100)
				}
				fmt.Fprintf(&later, "%d,1,1,1,%s,\n", i, text)
			}
			_, err := loadFile(t, dir, wide.String(), nil)
			refused("too much", err, "more are needed: ")
			// What turns out to be too much: the snapshot, or what waits for being sorted.
			_, err = loadFile(t, dir, wide.String(), func(o *profilestore.LoadOptions) { o.Memory = 1 })
			refused("too much to sort", err, "more are needed: ", "has only ")
			_, err = loadFile(t, dir, later.String()+strings.Replace(wide.String(), loadHeader, "", 1), func(o *profilestore.LoadOptions) { o.MaxBadRows = 1 })
			refused("more than it seemed", err, "more are needed: ", "has only ")
			// Somebody else fills the disk meanwhile, at different moments.
			first := later.String()[:3<<20]
			first = first[:strings.LastIndexByte(first, '\n')+1]
			for _, at := range []float64{0.3, 0.8} {
				filler := filepath.Join(disk, "filler")
				full := false
				_, err = loadFile(t, dir, first, func(o *profilestore.LoadOptions) {
					o.MaxBadRows = 1
					o.Memory = 4 << 20
					o.Progress = func(_, done, total int64) {
						if !full && float64(done) >= at*float64(total) {
							full = true
							fillDisk(t, filler)
						}
					}
				})
				if err == nil { // it had written all before
					t.Logf("filled at %v: the load ended well", at)
				} else {
					refused(fmt.Sprintf("filled at %v", at), err, "more are needed: ", "has only ", "no space left")
				}
				if !full {
					t.Errorf("the disk was not filled at %v", at)
				}
				if err := os.Remove(filler); err != nil {
					t.Fatal(err)
				}
				if err == nil {
					return
				}
			}
			info := mustLoad(t, dir, 2, nil)
			activate(t, s, info.Generation, 1)
		})
	}
}

// fillDisk writes a file until there is no room.
func fillDisk(t *testing.T, path string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // it can't be written
	for _, size := range []int{1 << 20, 4096, 1} {
		b := make([]byte, size)
		for err = nil; err == nil; {
			_, err = f.Write(b)
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
	}
	_ = f.Sync()
}
