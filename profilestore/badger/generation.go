package badger

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"os"

	bdb "github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
	"github.com/dgraph-io/ristretto/v2/z"
	"google.golang.org/protobuf/encoding/protowire"

	"rapport/profilestore"
)

// Generations returns an engine that builds and opens generations and has no
// delta records: what a load needs that runs beside a server. It is safe for
// concurrent use. What Badger has to say goes to log, slog.Default if nil, its
// errors and warnings as warnings, the rest for debugging.
func Generations(log *slog.Logger) profilestore.GenerationEngine { return newGenerations(log) }

type generations struct{ log *slog.Logger }

func newGenerations(log *slog.Logger) *generations {
	if log == nil {
		log = slog.Default()
	}
	return &generations{log: log}
}

// generationOptions are for folders that are written once and in order.
func (g *generations) generationOptions(dir string) bdb.Options {
	return bdb.DefaultOptions(dir).
		WithLogger(logger{g.log}).
		WithMetricsEnabled(false).
		WithDetectConflicts(false).
		WithCompression(options.None).
		WithBlockCacheSize(0).
		WithNumVersionsToKeep(1).
		WithMemTableSize(8 << 20). // none is ever used
		WithNumMemtables(1)
}

// rowVersion is the version of every row.
const rowVersion = 1

// BuildGeneration implements [profilestore.Engine]. Tables have 64 MB, and each in
// the making takes twice that: 256 MB as a rule, more where the disk does not keep
// up, as up to 16 may be waiting for it.
func (g *generations) BuildGeneration(dir string) (profilestore.GenerationWriter, error) {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, fmt.Errorf("badger: %w", err)
	}
	db, err := bdb.OpenManaged(g.generationOptions(dir))
	if err != nil {
		return nil, fmt.Errorf("badger: generation in %s: %w", dir, err)
	}
	w := &generationWriter{dir: dir, db: db, stream: db.NewStreamWriter(), batch: newBatch()}
	if err := w.stream.Prepare(); err != nil {
		return nil, errors.Join(fmt.Errorf("badger: generation in %s: %w", dir, err), w.Abort())
	}
	return w, nil
}

// batchBytes is how much is handed to Badger at once.
const batchBytes = 1 << 20

func newBatch() *z.Buffer { return z.NewBuffer(batchBytes+batchBytes/4, "rapport") }

type generationWriter struct {
	dir    string
	db     *bdb.DB // nil when closed
	stream *bdb.StreamWriter
	batch  *z.Buffer
	last   []byte
}

// Add implements [profilestore.GenerationWriter].
func (w *generationWriter) Add(key, row []byte) error {
	if w.db == nil {
		return errors.New("badger: the generation is closed")
	}
	// Badger's stream writer would end the process if keys were not in order.
	if bytes.Compare(key, w.last) <= 0 {
		return fmt.Errorf("badger: generation in %s: key %q is not after %q", w.dir, key, w.last)
	}
	if len(key) > profilestore.MaxKey {
		return fmt.Errorf("badger: generation in %s: a key of %d bytes, the limit is %d", w.dir, len(key), profilestore.MaxKey)
	}
	w.last = append(w.last[:0], key...)
	appendKV(w.batch, key, row)
	if w.batch.LenNoPadding() < batchBytes {
		return nil
	}
	return w.flush()
}

// appendKV appends the protobuf message pb.KV that Badger's stream writer reads, as
// bdb.KVToBuffer does at seven times the cost.
func appendKV(batch *z.Buffer, key, row []byte) {
	size := 1 + 1 + 2 + protowire.SizeBytes(len(key)) + protowire.SizeBytes(len(row))
	b := batch.SliceAllocate(size)[:0]
	b = protowire.AppendTag(b, kvKey, protowire.BytesType)
	b = protowire.AppendBytes(b, key)
	b = protowire.AppendTag(b, kvValue, protowire.BytesType)
	b = protowire.AppendBytes(b, row)
	b = protowire.AppendTag(b, kvVersion, protowire.VarintType)
	_ = append(b, rowVersion)
}

// The numbers of pb.KV's fields.
const (
	kvKey     = 1
	kvValue   = 2
	kvVersion = 4
)

func (w *generationWriter) flush() error {
	if err := w.stream.Write(w.batch); err != nil {
		return fmt.Errorf("badger: generation in %s: %w", w.dir, err)
	}
	w.batch.Reset()
	return nil
}

// Seal implements [profilestore.GenerationWriter].
func (w *generationWriter) Seal() error {
	if w.db == nil {
		return errors.New("badger: the generation is closed")
	}
	if err := w.flush(); err != nil {
		return err
	}
	if err := w.stream.Flush(); err != nil {
		return fmt.Errorf("badger: generation in %s: %w", w.dir, err)
	}
	w.stream = nil
	if err := w.close(); err != nil {
		return err
	}
	var syncs syncedFiles
	return syncs.sync(w.dir)
}

// Abort implements [profilestore.GenerationWriter].
func (w *generationWriter) Abort() error {
	if w.db == nil {
		return nil
	}
	if w.stream != nil {
		w.stream.Cancel()
	}
	return w.close()
}

func (w *generationWriter) close() error {
	db := w.db
	w.db = nil
	err := w.batch.Release()
	if cerr := db.Close(); cerr != nil {
		err = errors.Join(err, fmt.Errorf("badger: generation in %s: %w", w.dir, cerr))
	}
	return err
}

// OpenGeneration implements [profilestore.Engine].
func (g *generations) OpenGeneration(dir string) (profilestore.Generation, error) {
	if _, err := os.Stat(dir); err != nil { // Badger would make the folder
		return nil, fmt.Errorf("badger: %w", err)
	}
	db, err := bdb.OpenManaged(g.generationOptions(dir).WithReadOnly(true))
	if err != nil {
		return nil, fmt.Errorf("badger: generation in %s: %w", dir, err)
	}
	return &generation{dir: dir, db: db}, nil
}

type generation struct {
	dir string
	db  *bdb.DB
}

// Get implements [profilestore.Generation]. A block that went bad after the
// generation was opened can make Badger panic; that is returned as an error.
func (g *generation) Get(key, dst []byte) (row []byte, found bool, err error) {
	defer func() {
		if r := recover(); r != nil {
			row, found, err = dst, false, fmt.Errorf("badger: generation in %s: reading panicked: %.200v", g.dir, r)
		}
	}()
	return get(g.db, key, dst)
}

// Each implements [profilestore.Generation].
func (g *generation) Each(fn func(key, row []byte) error) error {
	txn := g.db.NewTransactionAt(math.MaxUint64, false)
	defer txn.Discard()
	// Values are in the tables, so there is nothing to prefetch.
	it := txn.NewIterator(bdb.IteratorOptions{})
	defer it.Close()
	for it.Rewind(); it.Valid(); it.Next() {
		item := it.Item()
		if err := item.Value(func(row []byte) error { return fn(item.Key(), row) }); err != nil {
			return err
		}
	}
	return nil
}

// Close implements [profilestore.Generation]. That the folder was removed
// meanwhile does not matter.
func (g *generation) Close() error {
	err := g.db.Close()
	if _, gone := os.Stat(g.dir); errors.Is(gone, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("badger: generation in %s: %w", g.dir, err)
	}
	return nil
}
