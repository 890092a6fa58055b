package lossyfs_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"rapport/profilestore/durable/lossyfs"
)

const childVariable = "RAPPORT_LOSSYFS_CHILD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childVariable); dir != "" {
		if err := writeFiles(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func mount(t *testing.T, d *lossyfs.Disk) string {
	t.Helper()
	if os.Geteuid() != 0 {
		if strings.Contains(os.Getenv("RAPPORT_REQUIRE"), "powercut") {
			t.Fatal("RAPPORT_REQUIRE asks for powercut, which needs root")
		}
		t.Skip("powercut: needs root, to mount a file system")
	}
	dir := t.TempDir()
	m, err := lossyfs.Mount(d, dir)
	if err != nil {
		if strings.Contains(os.Getenv("RAPPORT_REQUIRE"), "powercut") {
			t.Fatal(err)
		}
		t.Skip("powercut: ", err)
	}
	t.Cleanup(func() {
		if err := m.Unmount(); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// writeFiles does to a folder what a store does to its own, the same each time, and
// leaves nothing unsynced in the folder kept.
func writeFiles(dir string) error {
	r := rand.New(rand.NewPCG(1, 1))
	if err := os.Mkdir(filepath.Join(dir, "kept"), 0o700); err != nil {
		return err
	}
	for i := range 20 {
		path := filepath.Join(dir, "kept", fmt.Sprint(i))
		f, err := os.OpenFile(path+".new", os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
		if err != nil {
			return err
		}
		for range r.IntN(5) {
			if _, err := f.WriteAt(bytes.Repeat([]byte{byte('a' + r.IntN(26))}, r.IntN(200_000)), int64(r.IntN(300_000))); err != nil {
				return err
			}
		}
		const mapped = 1 << 20
		if err := f.Truncate(mapped); err != nil {
			return err
		}
		m, err := syscall.Mmap(int(f.Fd()), 0, mapped, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
		if err != nil {
			return err
		}
		for range 50 {
			copy(m[r.IntN(mapped):], bytes.Repeat([]byte{byte('A' + r.IntN(26))}, r.IntN(1000)))
		}
		if err := syscall.Munmap(m); err != nil {
			return err
		}
		if err := f.Truncate(int64(r.IntN(mapped))); err != nil {
			return err
		}
		if err := f.Sync(); err != nil {
			return err
		}
		if err := f.Close(); err != nil {
			return err
		}
		if err := os.Rename(path+".new", path); err != nil {
			return err
		}
		if i%5 == 4 {
			if err := os.Remove(filepath.Join(dir, "kept", fmt.Sprint(i-2))); err != nil {
				return err
			}
		}
	}
	for _, name := range []string{"kept", "."} {
		f, err := os.Open(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		if err := f.Sync(); err != nil {
			return err
		}
		if err := f.Close(); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(dir, "unsynced"), bytes.Repeat([]byte("x"), 100_000), 0o600)
}

// Mounted, a disk is a file system like another, also through memory maps; and after a
// cut it has what was synced.
func TestMounted(t *testing.T) {
	want := t.TempDir()
	if err := writeFiles(want); err != nil {
		t.Fatal(err)
	}
	lost := 0
	for seed := range uint64(5) {
		d := lossyfs.New(seed)
		dir := mount(t, d)
		// In a process of its own, since it maps files.
		child := exec.CommandContext(t.Context(), os.Args[0])
		child.Env = append(os.Environ(), childVariable+"="+dir)
		if out, err := child.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if got, wanted := content(t, dir), content(t, want); got != wanted {
			t.Fatalf("seed %d: mounted it is not what it is elsewhere", seed)
		}
		after, counts := d.PowerCut()
		if _, err := os.ReadFile(filepath.Join(dir, "kept", "19", "x")); err == nil {
			t.Error("it answers after the cut")
		}
		left := mount(t, after)
		if got, wanted := content(t, filepath.Join(left, "kept")), content(t, filepath.Join(want, "kept")); got != wanted {
			t.Fatalf("seed %d: not all is there that was synced", seed)
		}
		lost += counts.Lost + counts.Torn + counts.NamesLost
	}
	if t.Log(lost, "losses"); lost == 0 {
		t.Error("nothing was ever lost")
	}
}

// content writes down everything in a folder.
func content(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		name, _ := filepath.Rel(dir, path)
		fmt.Fprintf(&b, "%s %d %x\n", name, len(content), sha256.Sum256(content))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}
