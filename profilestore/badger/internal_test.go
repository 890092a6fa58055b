package badger

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	bdb "github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/pb"
	"github.com/dgraph-io/ristretto/v2/z"
	"google.golang.org/protobuf/proto"
)

func TestAppendKV(t *testing.T) {
	for _, row := range [][]byte{nil, []byte("row"), make([]byte, 200), make([]byte, 70_000)} {
		key := []byte("customer:1")
		ours, theirs := z.NewBuffer(1<<20, "test"), z.NewBuffer(1<<20, "test")
		appendKV(ours, key, row)
		appendKV(ours, key, row)
		bdb.KVToBuffer(&pb.KV{Key: key, Value: row, Version: rowVersion}, theirs)
		var got, want [][]byte
		collect := func(to *[][]byte) func([]byte) error {
			return func(s []byte) error { *to = append(*to, bytes.Clone(s)); return nil }
		}
		if err := ours.SliceIterate(collect(&got)); err != nil {
			t.Fatal(err)
		}
		if err := theirs.SliceIterate(collect(&want)); err != nil {
			t.Fatal(err)
		}
		var kv pb.KV
		if err := proto.Unmarshal(got[1], &kv); err != nil || !bytes.Equal(kv.Key, key) || !bytes.Equal(kv.Value, row) || kv.Version != rowVersion {
			t.Errorf("a row of %d bytes reads back as %v, %v", len(row), &kv, err)
		}
		if len(row) > 0 && !bytes.Equal(got[0], want[0]) {
			t.Errorf("a row of %d bytes is written as %.20x…, KVToBuffer writes %.20x…", len(row), got[0], want[0])
		}
		if err := ours.Release(); err != nil {
			t.Error(err)
		}
		if err := theirs.Release(); err != nil {
			t.Error(err)
		}
	}
}

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
