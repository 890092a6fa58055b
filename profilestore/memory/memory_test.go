package memory_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"rapport/profilestore"
	"rapport/profilestore/memory"
	"rapport/profilestore/storetest"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

func TestEngine(t *testing.T) {
	var m memory.Memory
	storetest.Run(t, func(t *testing.T, dir string) profilestore.Engine {
		e, err := m.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		return e
	})
}

// TestOpenTwice: a folder is open once at a time, as with a disk.
func TestOpenTwice(t *testing.T) {
	var m memory.Memory
	dir := filepath.Join(t.TempDir(), "deltas")
	first := open(t, &m, dir)
	refused := func(dir string) {
		t.Helper()
		if _, err := m.Open(dir); err == nil || !strings.Contains(err.Error(), "open already") {
			t.Errorf("opened twice: %v", err)
		}
	}
	refused(dir)
	refused(filepath.Join(dir, "..", "deltas"))
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, &m, dir)
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	refused(dir)
	open(t, &m, filepath.Join(dir, "other"))
}

func open(t *testing.T, m *memory.Memory, dir string) *memory.Engine {
	t.Helper()
	e, err := m.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// TestLostRecords: what stands beside records that another process had in its
// memory goes, so that no checkpoint speaks for records that are not there.
func TestLostRecords(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "deltas")
	e := open(t, new(memory.Memory), dir)
	set(t, e, "a")
	checkpoint := filepath.Join(dir, "CHECKPOINT")
	if err := os.WriteFile(checkpoint, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	var m memory.Memory
	e = open(t, &m, dir)
	if _, found, err := e.Get(t.Context(), []byte("a"), nil); found || err != nil {
		t.Errorf("a record of another memory: %v, %v", found, err)
	}
	if _, err := os.Stat(checkpoint); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the checkpoint of another memory's records: %v", err)
	}
	set(t, e, "a")
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	// A copy of the folder is none of the records'.
	if err := os.CopyFS(dir+".copy", os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if _, found, err := open(t, &m, dir+".copy").Get(t.Context(), []byte("a"), nil); found || err != nil {
		t.Errorf("a record in a copy: %v, %v", found, err)
	}
	if _, found, err := open(t, &m, dir).Get(t.Context(), []byte("a"), nil); !found || err != nil {
		t.Errorf("the record: %v, %v", found, err)
	}
}

func set(t *testing.T, e profilestore.Engine, key string) {
	t.Helper()
	op := profilestore.Op{Key: []byte(key), Change: func([]byte) []byte { return []byte("1") }}
	if err := e.Apply(t.Context(), []profilestore.Op{op}); err != nil {
		t.Fatal(err)
	}
}

// TestFolderOfAnother: the records of another engine are left alone.
func TestFolderOfAnother(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "MANIFEST")
	if err := os.WriteFile(file, []byte("1"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := new(memory.Memory).Open(dir); err == nil || !strings.Contains(err.Error(), "another engine") {
		t.Errorf("a folder with other files was opened: %v", err)
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "1" {
		t.Errorf("the file is %q, %v", b, err)
	}
}

// TestDamagedGeneration: a file that is not what was sealed is refused, whatever bit
// is wrong and wherever it ends.
func TestDamagedGeneration(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "rows")
	w, err := memory.Generations{}.BuildGeneration(dir)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		if err := w.Add(fmt.Appendf(nil, "customer:%d", i), make([]byte, i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Seal(); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "rows")
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	write := func(b []byte) error {
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := memory.Generations{}.OpenGeneration(dir)
		return err
	}
	for i := range 8 * len(good) {
		bad := slices.Clone(good)
		bad[i/8] ^= 1 << (i % 8)
		if write(bad) == nil {
			t.Errorf("bit %d flipped: opened", i)
		}
	}
	for n := range good {
		if write(good[:n]) == nil {
			t.Errorf("cut at %d: opened", n)
		}
	}
	if err := write(good); err != nil {
		t.Error(err)
	}
}
