package badger

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"runtime/debug"
	"slices"

	bdb "github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
	"github.com/dgraph-io/badger/v4/table"
	"github.com/dgraph-io/badger/v4/y"
	"github.com/dgraph-io/ristretto/v2/z"

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

// guarded calls f. What is wrong with a file that Badger has mapped, found by a checksum, by
// reading behind the end of a file that was cut meanwhile, or by anything that makes Badger
// panic, is an error and not the end of the process.
func (g *generation) guarded(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("badger: generation in %s: reading panicked: %.200v", g.dir, r)
		}
	}()
	return f()
}

// generationOptions are for folders that are written once and in order.
func (g *generations) generationOptions(dir string) bdb.Options {
	return bdb.DefaultOptions(dir).
		WithLogger(logger{g.log}).
		WithMetricsEnabled(false).
		WithDetectConflicts(false).
		WithCompression(options.None).
		WithBlockCacheSize(0).
		WithChecksumVerificationMode(options.OnBlockRead). // a key in a damaged block would else not be found
		WithNumVersionsToKeep(1).
		WithMemTableSize(8 << 20). // none is ever used
		WithNumMemtables(1)
}

// BuildGeneration implements [profilestore.Engine]. See generationWriter for what
// it takes of memory.
func (g *generations) BuildGeneration(dir string) (profilestore.GenerationWriter, error) {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, fmt.Errorf("badger: %w", err)
	}
	return newGenerationWriter(dir), nil
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

// Get implements [profilestore.Generation]. A file that went bad after the generation was
// opened is an error.
func (g *generation) Get(key, dst []byte) (row []byte, found bool, err error) {
	row = dst
	err = g.guarded(func() error {
		row, found, err = get(g.db, key, dst)
		return err
	})
	if err != nil {
		return dst, false, err
	}
	return row, found, nil
}

// Each implements [profilestore.Generation]. It maps one table at a time: through
// the maps by which rows are read, all of the generation would become part of the
// process.
func (g *generation) Each(fn func(key, row []byte) error) error {
	return g.guarded(func() error { return g.each(fn) })
}

func (g *generation) each(fn func(key, row []byte) error) error {
	tables := g.db.Tables()
	slices.SortFunc(tables, func(a, b bdb.TableInfo) int { return bytes.Compare(a.Left, b.Left) })
	for i := range tables {
		err := g.eachOf(tables[i].ID, fn)
		if errors.Is(err, errTableGone) { // the folder was removed: only the maps are left
			return g.eachFrom(y.ParseKey(tables[i].Left), fn)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

var errTableGone = errors.New("a table is gone")

// eachOf calls fn for the rows of a table.
func (g *generation) eachOf(id uint64, fn func(key, row []byte) error) (err error) {
	path := table.NewFilename(id, g.dir)
	file, err := z.OpenMmapFile(path, os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return errTableGone
	}
	if err != nil {
		return fmt.Errorf("badger: %s: %w", path, err)
	}
	t, err := table.OpenTable(file, tableOptions())
	if err != nil {
		return fmt.Errorf("badger: %s: %w", path, err)
	}
	defer func() { err = errors.Join(err, t.Close(-1)) }()
	it := t.NewIterator(table.NOCACHE)
	defer it.Close() //nolint:errcheck // it only gives a reference back
	rows := uint32(0)
	for it.Rewind(); it.Valid(); it.Next() {
		if err := fn(y.ParseKey(it.Key()), it.Value().Value); err != nil {
			return err
		}
		rows++
	}
	if rows != t.KeyCount() { // the iterator ends at what it can't read
		return fmt.Errorf("badger: %s has %d rows, and only %d can be read", path, t.KeyCount(), rows)
	}
	return nil
}

// eachFrom calls fn for the rows from a key on.
func (g *generation) eachFrom(key []byte, fn func(key, row []byte) error) error {
	txn := g.db.NewTransactionAt(math.MaxUint64, false)
	defer txn.Discard()
	// Values are in the tables, so there is nothing to prefetch.
	it := txn.NewIterator(bdb.IteratorOptions{})
	defer it.Close()
	for it.Seek(key); it.Valid(); it.Next() {
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
