package badger

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"math"
	"math/bits"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"

	bdb "github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"

	"rapport/profilestore"
	"rapport/profilestore/durable"
)

// Options configure an engine. The zero Options are good for a server.
type Options struct {
	// MemTableSize is the bytes of delta records that are held in memory before
	// they become a table, 16 MiB if zero. Up to five such tables are in memory,
	// and each has a log of twice its size. At least 8 MiB.
	MemTableSize int64
	// Compactors is how many goroutines merge tables, 2 if zero. At least 2.
	Compactors int
	// Checker is the command of this program, by which a folder that was not closed in order
	// is opened in another process first: main has to call [CheckerMain] if [IsChecker]. None
	// if empty.
	Checker []string
	// Logger gets what Badger has to say: its errors and warnings as warnings, the
	// rest for debugging. slog.Default if nil.
	Logger *slog.Logger
}

const defaultMemTable = 16 << 20

func (o Options) withDefaults() (Options, error) {
	if o.MemTableSize == 0 {
		o.MemTableSize = defaultMemTable
	}
	if o.Compactors == 0 {
		o.Compactors = 2
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.MemTableSize < 8<<20 || o.Compactors < 2 {
		return o, fmt.Errorf("badger: a memory table of %d bytes and %d compactors: at least 8 MiB and 2 are needed", o.MemTableSize, o.Compactors)
	}
	return o, nil
}

// Engine is the embedded [profilestore.Engine].
//
// It uses Badger's managed mode, in which the caller gives versions. In the
// other, every read waits for the commits that are under way, so a decision would
// stand still behind a batch of events; here a read takes what is newest.
// Versions of one key ascend because whoever changes a key holds its stripe's
// lock.
type Engine struct {
	*generations
	db      *bdb.DB
	dir     string
	version atomic.Uint64
	seed    maphash.Seed
	stripes [64]sync.Mutex
	syncs   syncedFiles
	sealing sync.Mutex
	sealer  sealer // guarded by sealing
	// use is held for reading by whoever uses db, for writing by Close: a read of a
	// table whose memory map is gone would kill the process.
	use sync.RWMutex
}

var _ profilestore.Engine = (*Engine)(nil)

// Open opens the delta records in a folder, which is made if it does not exist. The
// error is a *DamagedError if they are not what they were when they were last made
// durable, which is found out before Badger sees them; see seal. One process at a time
// can have it open.
func Open(dir string, o Options) (*Engine, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("badger: open delta records: %w", err)
	}
	if err := durable.SyncDir(filepath.Dir(dir)); err != nil { // a barrier syncs what is in dir, not its name
		return nil, fmt.Errorf("badger: open delta records: %w", err)
	}
	if err := removeEmpty(dir); err != nil {
		return nil, err
	}
	found, err := check(context.Background(), dir)
	if err == nil {
		err = found.ready()
	}
	if err == nil {
		err = found.inChild(context.Background(), o.Checker)
	}
	if err == nil {
		err = reopened(dir)
	}
	if err != nil {
		return nil, fmt.Errorf("badger: open delta records: %w", err)
	}
	db, err := bdb.OpenManaged(deltaOptions(dir, o, logger{o.Logger}))
	if err != nil {
		return nil, fmt.Errorf("badger: open delta records in %s: %w", dir, err)
	}
	// Reads take the newest version of a key, so older ones may go at any time.
	db.SetDiscardTs(math.MaxUint64)
	e := &Engine{generations: newGenerations(o.Logger), db: db, dir: dir, seed: maphash.MakeSeed(), sealer: newSealer(dir, found.sealed)}
	e.version.Store(db.MaxVersion())
	return e, nil
}

// reopened notes that a folder which was closed is going to be changed.
func reopened(dir string) error {
	s, err := readSeal(dir)
	if err != nil || s == nil || !s.Closed {
		return nil //nolint:nilerr // without a seal there is nothing to note
	}
	s.Closed = false
	return s.write(dir)
}

func deltaOptions(dir string, o Options, log bdb.Logger) bdb.Options {
	return bdb.DefaultOptions(dir).
		WithLogger(log).
		WithMetricsEnabled(false).
		WithDetectConflicts(false). // changes of a key have a lock
		WithSyncWrites(false).      // see Barrier
		WithCompression(options.None).
		WithBlockCacheSize(0).         // blocks are read in the memory map
		WithValueLogFileSize(1 << 20). // nothing is ever in it, and its file has twice the size
		WithNumCompactors(o.Compactors).
		WithMemTableSize(o.MemTableSize)
}

// Get implements [profilestore.Engine].
func (e *Engine) Get(ctx context.Context, key, dst []byte) (value []byte, found bool, err error) {
	if err := ctx.Err(); err != nil {
		return dst, false, err
	}
	e.use.RLock()
	defer e.use.RUnlock()
	return get(e.db, key, dst)
}

// get appends the newest value of a key to dst.
func get(db *bdb.DB, key, dst []byte) (value []byte, found bool, err error) {
	txn := db.NewTransactionAt(math.MaxUint64, false)
	defer txn.Discard()
	return getIn(txn, key, dst)
}

// getIn is get in a transaction that reads what is newest.
func getIn(txn *bdb.Txn, key, dst []byte) (value []byte, found bool, err error) {
	item, err := txn.Get(key)
	if errors.Is(err, bdb.ErrKeyNotFound) {
		return dst, false, nil
	}
	if err != nil {
		return dst, false, fmt.Errorf("badger: %w", err)
	}
	value = dst
	if err := item.Value(func(v []byte) error {
		value = append(dst, v...) //nolint:gocritic // to append to what was passed in is what it is for
		return nil
	}); err != nil {
		return dst, false, fmt.Errorf("badger: %w", err)
	}
	return value, true, nil
}

// Apply implements [profilestore.Engine]. The records of a call become visible
// together, except if they are more than fits in a transaction, which is 15% of
// MemTableSize.
func (e *Engine) Apply(ctx context.Context, ops []profilestore.Op) (err error) {
	if err := ctx.Err(); err != nil {
		return err
	}
	e.use.RLock()
	defer e.use.RUnlock()
	var held uint64
	for i := range ops {
		held |= 1 << (maphash.Bytes(e.seed, ops[i].Key) % uint64(len(e.stripes)))
	}
	// Everybody locks in the same order, so nobody waits in a circle.
	for rest := held; rest != 0; rest &= rest - 1 {
		e.stripes[bits.TrailingZeros64(rest)].Lock()
	}
	defer func() {
		for rest := held; rest != 0; rest &= rest - 1 {
			e.stripes[bits.TrailingZeros64(rest)].Unlock()
		}
	}()
	reading := e.db.NewTransactionAt(math.MaxUint64, false)
	defer reading.Discard()
	txn := e.db.NewTransactionAt(math.MaxUint64, true)
	defer func() { txn.Discard() }()
	for i := range ops {
		op := &ops[i]
		// Not into a buffer of all: the new record may be a part of the old one.
		old, found, err := getIn(reading, op.Key, nil)
		switch {
		case err != nil:
			return err
		case len(op.Key) > profilestore.MaxKey:
			return fmt.Errorf("badger: a key of %d bytes, the limit is %d", len(op.Key), profilestore.MaxKey)
		case found && old == nil:
			old = []byte{} // there is one, and it is empty
		}
		record := op.Change(old)
		if record == nil {
			continue
		}
		if len(record) > profilestore.MaxRecord {
			return fmt.Errorf("badger: a delta record of %d bytes, the limit is %d", len(record), profilestore.MaxRecord)
		}
		err = txn.SetEntry(bdb.NewEntry(op.Key, record))
		if errors.Is(err, bdb.ErrTxnTooBig) {
			if err = txn.CommitAt(e.version.Add(1), nil); err == nil {
				txn = e.db.NewTransactionAt(math.MaxUint64, true)
				err = txn.SetEntry(bdb.NewEntry(op.Key, record))
			}
		}
		if err != nil {
			return fmt.Errorf("badger: apply: %w", err)
		}
	}
	if err := txn.CommitAt(e.version.Add(1), nil); err != nil {
		return fmt.Errorf("badger: apply: %w", err)
	}
	return nil
}

// Close implements [profilestore.Engine].
func (e *Engine) Close() error {
	e.use.Lock()
	defer e.use.Unlock()
	if e.db.IsClosed() {
		return nil
	}
	if err := e.db.Close(); err != nil {
		return fmt.Errorf("badger: close delta records in %s: %w", e.dir, err)
	}
	if err := e.syncs.sync(e.dir); err != nil {
		return err
	}
	return e.writeSeal(true)
}

// logger gives what Badger logs to slog.
type logger struct{ log *slog.Logger }

func (l logger) Errorf(f string, args ...any)   { l.write(slog.LevelWarn, f, args) }
func (l logger) Warningf(f string, args ...any) { l.write(slog.LevelWarn, f, args) }
func (l logger) Infof(f string, args ...any)    { l.write(slog.LevelDebug, f, args) }
func (l logger) Debugf(f string, args ...any)   { l.write(slog.LevelDebug, f, args) }

func (l logger) write(level slog.Level, f string, args []any) {
	if ctx := context.Background(); l.log.Enabled(ctx, level) {
		l.log.Log(ctx, level, "badger: "+strings.TrimSpace(fmt.Sprintf(f, args...)))
	}
}
