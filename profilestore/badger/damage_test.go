package badger_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rapport/profilestore"
	"rapport/profilestore/badger"
)

var damages = flag.Int("damages", 8, "how many damaged folders TestDamagedFolder opens")

// sealedFolders makes a folder that was closed, and one that was not since its last
// barrier, and returns the record of every key that was durable then.
func sealedFolders(t *testing.T) (closed, killed string, records map[string][]byte) {
	t.Helper()
	closed, killed = filepath.Join(t.TempDir(), "closed"), filepath.Join(t.TempDir(), "killed")
	e, err := badger.Open(closed, badger.Options{MemTableSize: 8 << 20, Logger: silent()})
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 1))
	records = make(map[string][]byte)
	apply := func(n int) {
		var ops []profilestore.Op
		for range n {
			key, record := fmt.Sprintf("customer:%d", r.IntN(3000)), make([]byte, 500+r.IntN(1000))
			for i := range record {
				record[i] = byte(r.Uint32())
			}
			if records != nil {
				records[key] = record
			}
			ops = append(ops, profilestore.Op{Key: []byte(key), Change: func([]byte) []byte { return record }})
			if len(ops) == 100 {
				if err := e.Apply(t.Context(), ops); err != nil {
					t.Fatal(err)
				}
				ops = nil
			}
		}
	}
	apply(9_000)
	if err := e.Barrier(t.Context()); err != nil {
		t.Fatal(err)
	}
	for { // compactions go on meanwhile
		before, err := os.ReadFile(filepath.Join(closed, "MANIFEST"))
		if err != nil {
			t.Fatal(err)
		}
		copyFiles(t, closed, killed)
		if after, err := os.ReadFile(filepath.Join(closed, "MANIFEST")); err == nil && bytes.Equal(before, after) {
			break
		}
		if err := errors.Join(os.RemoveAll(killed), e.Barrier(t.Context())); err != nil {
			t.Fatal(err)
		}
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	return closed, killed, records
}

func copyFiles(t *testing.T, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
}

// A folder of which one file is damaged is refused, or every record is what it was.
func TestDamagedFolder(t *testing.T) {
	closed, killed, records := sealedFolders(t)
	seen := make(map[string]int)
	for seed := range uint64(*damages) {
		r := rand.New(rand.NewPCG(seed, 2))
		from, state := closed, "closed"
		if seed%2 == 1 {
			from, state = killed, "killed"
		}
		dir := filepath.Join(t.TempDir(), "copy")
		copyFiles(t, from, dir)
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		name := entries[r.IntN(len(entries))].Name()
		for range 3 { // these are none that matter
			if name == "LOCK" || name == "DISCARD" || strings.HasSuffix(name, ".vlog") {
				name = entries[r.IntN(len(entries))].Name()
			}
		}
		path := filepath.Join(dir, name)
		how := damageFile(t, path, r)
		checked := badger.Check(context.Background(), dir, nil)
		e, err := badger.Open(dir, badger.Options{MemTableSize: 8 << 20, Logger: silent()})
		result := "as it was"
		if damage, ok := errors.AsType[*badger.DamagedError](err); ok {
			result = "refused"
			if checked == nil {
				t.Errorf("seed %d: %s %s, %s: Open says %v, Check nothing", seed, state, name, how, err)
			}
			if !strings.Contains(damage.Error(), dir) {
				t.Errorf("seed %d: the error names no file: %v", seed, damage)
			}
		} else if err != nil {
			t.Errorf("seed %d: %s %s, %s: %v", seed, state, name, how, err)
		} else {
			for key, want := range records {
				got, found, err := e.Get(t.Context(), []byte(key), nil)
				if err != nil || !found || !bytes.Equal(got, want) {
					t.Errorf("seed %d: %s %s, %s: %s is not as it was: %v, %v", seed, state, name, how, key, found, err)
					break
				}
			}
			if err := e.Close(); err != nil {
				t.Error(err)
			}
		}
		kind := filepath.Ext(name)
		if kind == "" {
			kind = name
		}
		seen[fmt.Sprintf("%s %s %s: %s", state, kind, how, result)]++
	}
	for what, n := range seen {
		t.Log(n, what)
	}
}

// damageFile damages a file, and says how.
func damageFile(t *testing.T, path string, r *rand.Rand) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	how := "removed"
	switch n := r.IntN(4); {
	case len(b) == 0 || n == 0:
		err = os.Remove(path)
	case n == 1:
		how = "cut"
		err = os.Truncate(path, r.Int64N(int64(len(b))))
	case n == 2:
		how = "flipped"
		b[r.IntN(len(b))] ^= 1 << r.IntN(8)
		err = os.WriteFile(path, b, 0o600)
	default:
		how = "zeros"
		at := r.IntN(len(b)) &^ 4095
		clear(b[at:min(len(b), at+4096)])
		err = os.WriteFile(path, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return how
}

// A table that goes bad while it is in use is found by reading through.
func TestScrub(t *testing.T) {
	dir, _, _ := sealedFolders(t)
	e, err := badger.Open(dir, badger.Options{MemTableSize: 8 << 20, Logger: silent()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = e.Close() }()
	read := int64(0)
	if err := e.Scrub(t.Context(), func(n int64) { read += n }); err != nil || read == 0 {
		t.Fatalf("a whole folder, %d bytes: %v", read, err)
	}
	tables, err := filepath.Glob(filepath.Join(dir, "*.sst"))
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(tables[0], os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("x"), 1000); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if _, ok := errors.AsType[*badger.DamagedError](e.Scrub(t.Context(), func(int64) {})); !ok {
		t.Error("a damaged table is not found")
	}
}
