package badger

import (
	"bytes"
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
