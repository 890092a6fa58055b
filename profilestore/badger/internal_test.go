package badger

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestSyncedFiles(t *testing.T) {
	dir := t.TempDir()
	write := func(names ...string) {
		for _, name := range names {
			if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	var synced []string
	var vanish string
	var fail error
	s := syncedFiles{fsync: func(f *os.File) error {
		name := filepath.Base(f.Name())
		if name == filepath.Base(dir) {
			name = "."
		}
		synced = append(synced, name)
		if vanish != "" {
			if err := os.Remove(filepath.Join(dir, vanish)); err != nil {
				t.Fatal(err)
			}
			vanish = ""
		}
		return fail
	}}
	check := func(want ...string) {
		t.Helper()
		synced = nil
		err := s.sync(dir)
		if !errors.Is(err, fail) || !slices.Equal(synced, want) {
			t.Errorf("synced %q, %v; want %q", synced, err, want)
		}
	}
	write("00001.mem", "000001.sst", "MANIFEST")
	check("000001.sst", "00001.mem", "MANIFEST", ".")
	check("00001.mem", "MANIFEST", ".") // a table once
	write("000002.sst", "00002.mem")
	vanish = "00002.mem" // flushed to a table meanwhile
	check("000002.sst", "00001.mem", "MANIFEST", ".")
	if err := os.Remove(filepath.Join(dir, "000001.sst")); err != nil {
		t.Fatal(err)
	}
	check("00001.mem", "MANIFEST", ".")
	// After an error nothing is known to be durable that was not before.
	write("000003.sst")
	fail = errors.New("no space")
	check("000003.sst")
	fail = nil
	check("000003.sst", "00001.mem", "MANIFEST", ".")
}
