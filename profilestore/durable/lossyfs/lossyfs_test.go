package lossyfs_test

import (
	"errors"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"

	"rapport/profilestore/durable/lossyfs"
)

const file, folder = syscall.S_IFREG | 0o600, syscall.S_IFDIR | 0o700

// text returns what a file has, and false if it is not there.
func text(t *testing.T, d *lossyfs.Disk, dir *lossyfs.Node, name string) (string, bool) {
	t.Helper()
	n, err := d.Lookup(dir, name)
	if err != nil {
		return "", false
	}
	size, _ := d.Size(n)
	b := make([]byte, size)
	if _, err := d.Read(n, b, 0); err != nil {
		t.Fatal(err)
	}
	return string(b), true
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// Each step of replacing a file in one step is needed, and together they are enough.
func TestReplaceFile(t *testing.T) {
	long, longer := strings.Repeat("old ", 3000), strings.Repeat("NEW!", 4000)
	for _, c := range []struct {
		name                string
		syncFile, syncDir   bool
		old, whole, neither bool // what is seen after some cut
	}{
		{"all steps", true, true, false, true, false},
		{"no sync of the file", false, true, false, true, true},
		{"no sync of the folder", true, false, true, true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			seen := make(map[string]int)
			for seed := range uint64(200) {
				d := lossyfs.New(seed)
				n, err := d.Make(d.Root(), "x", file)
				must(t, err, d.Write(n, []byte(long), 0), d.Sync(n), d.Sync(d.Root()))
				n, err = d.Make(d.Root(), "x.new", file)
				must(t, err, d.Write(n, []byte(longer), 0))
				if c.syncFile {
					must(t, d.Sync(n))
				}
				must(t, d.Rename(d.Root(), "x.new", d.Root(), "x"))
				if c.syncDir {
					must(t, d.Sync(d.Root()))
				}
				after, _ := d.PowerCut()
				switch got, ok := text(t, after, after.Root(), "x"); {
				case !ok:
					t.Fatalf("seed %d: the file is gone", seed)
				case got == long:
					seen["old"]++
				case got == longer:
					seen["whole"]++
				default:
					seen["neither"]++
				}
			}
			t.Log(seen)
			if seen["old"] > 0 != c.old || seen["whole"] > 0 != c.whole || seen["neither"] > 0 != c.neither {
				t.Errorf("seen after the cut: %v", seen)
			}
		})
	}
}

// A folder's name is not durable by what is in it.
func TestNewFolder(t *testing.T) {
	seen := make(map[bool]int)
	for seed := range uint64(100) {
		d := lossyfs.New(seed)
		dir, err := d.Make(d.Root(), "dir", folder)
		must(t, err)
		n, err := d.Make(dir, "x", file)
		must(t, err, d.Write(n, []byte("text"), 0), d.Sync(n), d.Sync(dir))
		after, _ := d.PowerCut()
		left, err := after.Lookup(after.Root(), "dir")
		seen[err == nil]++
		if err == nil {
			if got, _ := text(t, after, left, "x"); got != "text" {
				t.Fatalf("seed %d: %q in a folder that was kept", seed, got)
			}
		}
	}
	if t.Log(seen); seen[true] == 0 || seen[false] == 0 {
		t.Error("always the same")
	}
}

// A disk of which everything was synced loses nothing, whatever was done before.
func TestSyncedDisk(t *testing.T) {
	for seed := range uint64(100) {
		r := rand.New(rand.NewPCG(seed, 3))
		d := lossyfs.New(seed)
		dirs := []*lossyfs.Node{d.Root()}
		names := []string{"a", "b", "c", "d", "e"}
		pick := func() (*lossyfs.Node, string) { return dirs[r.IntN(len(dirs))], names[r.IntN(len(names))] }
		for range 200 {
			dir, name := pick()
			toDir, toName := pick()
			n, _ := d.Lookup(dir, name)
			switch r.IntN(7) {
			case 0:
				_, _ = d.Make(dir, name, file)
			case 1:
				if made, err := d.Make(dir, name, folder); err == nil {
					dirs = append(dirs, made)
				}
			case 2:
				if n == nil || !n.IsDir() {
					_ = d.Remove(dir, name, false)
				}
			case 3:
				if n != nil && !n.IsDir() { // a folder could come into itself, which a kernel forbids
					_ = d.Rename(dir, name, toDir, toName)
				}
			case 4:
				if n != nil && !n.IsDir() {
					must(t, d.Truncate(n, int64(r.IntN(20_000))))
				}
			default:
				if n != nil && !n.IsDir() {
					must(t, d.Write(n, []byte(strings.Repeat(name, r.IntN(9000))), int64(r.IntN(9000))))
				}
			}
		}
		var syncAll func(*lossyfs.Node)
		syncAll = func(n *lossyfs.Node) {
			must(t, d.Sync(n))
			if n.IsDir() {
				list, err := d.List(n)
				must(t, err)
				for _, e := range list {
					syncAll(e.Node)
				}
			}
		}
		syncAll(d.Root())
		before := dump(t, d, d.Root(), "")
		after, counts := d.PowerCut()
		// The old disk answers no more; what it had was written down before.
		if got := dump(t, after, after.Root(), ""); got != before || counts.NamesLost > 0 || counts.Files > 0 {
			t.Fatalf("seed %d: lost %+v:\nbefore %.500s\nafter  %.500s", seed, counts, before, got)
		}
	}
}

// dump writes down everything.
func dump(t *testing.T, d *lossyfs.Disk, dir *lossyfs.Node, path string) string {
	list, err := d.List(dir)
	must(t, err)
	var b strings.Builder
	for _, e := range list {
		name := path + "/" + e.Name
		if e.Node.IsDir() {
			b.WriteString(name + "/\n" + dump(t, d, e.Node, name))
			continue
		}
		content, _ := text(t, d, dir, e.Name)
		b.WriteString(name + " " + content + "\n")
	}
	return b.String()
}

// Changes of names are lost out of their order, but none is kept without what it builds on.
func TestNamesOutOfOrder(t *testing.T) {
	outOfOrder := 0
	for seed := range uint64(300) {
		d := lossyfs.New(seed)
		for _, name := range []string{"a", "b", "c"} {
			_, err := d.Make(d.Root(), name, file)
			must(t, err)
		}
		must(t, d.Rename(d.Root(), "a", d.Root(), "x"), d.Rename(d.Root(), "x", d.Root(), "y"))
		after, counts := d.PowerCut()
		outOfOrder += counts.OutOfOrder
		list, err := after.List(after.Root())
		must(t, err)
		moved := 0
		for _, e := range list {
			if e.Name == "a" || e.Name == "x" || e.Name == "y" {
				moved++
			}
		}
		if moved > 1 {
			t.Fatalf("seed %d: one file under %d names: %v", seed, moved, list)
		}
	}
	if t.Log(outOfOrder); outOfOrder == 0 {
		t.Error("always in order")
	}
}

// Of a sync that is frozen nothing becomes durable, and the disk goes on.
func TestFreeze(t *testing.T) {
	d := lossyfs.New(1)
	n, err := d.Make(d.Root(), "a", syscall.S_IFREG|0o600)
	if err != nil {
		t.Fatal(err)
	}
	frozen := make(chan struct{})
	d.Freeze(2, func() { close(frozen) })
	if err := d.Sync(n); err != nil {
		t.Fatal(err)
	}
	result := make(chan error)
	go func() { result <- d.Sync(n) }()
	<-frozen
	if err := d.Write(n, []byte("x"), 0); err != nil {
		t.Error(err)
	}
	d.Thaw()
	if err := <-result; !errors.Is(err, syscall.EIO) {
		t.Errorf("the sync: %v", err)
	}
	if err := d.Sync(n); err != nil {
		t.Error(err)
	}
}
