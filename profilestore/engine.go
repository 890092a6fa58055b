package profilestore

import "context"

// What keys and delta records may have in bytes, so that any engine can take them.
// A key has at least one. Rows are not limited.
const (
	MaxKey    = 1 << 10
	MaxRecord = 1<<20 - 1
)

// Engine stores bytes by key for a [Store]: one mutable space of delta records,
// and generations, which are immutable once sealed. All meaning is above it, so
// an engine needs no transactions over several keys, and a networked one can
// take its place: compare-and-set by key is enough. Package storetest holds an
// engine to every sentence here but those on loss of power.
//
// Delta records belong to a folder, in which the store keeps its checkpoint: who
// removes the folder while the engine is closed has removed the records. An engine
// that keeps them elsewhere keeps their name in a file there.
//
// An Engine is safe for concurrent use. Keys and values passed to it are copied
// before the call returns; it keeps nothing of the caller's.
type Engine interface {
	// Get appends the delta record of key to dst. It reports false, and returns
	// dst as it was, where there is none. It sees what every Apply did that
	// returned before Get was called, and never goes back behind what a Get saw.
	Get(ctx context.Context, key, dst []byte) (value []byte, found bool, err error)

	// Apply replaces the delta record of each key by what its function makes of
	// the old one, atomically for each key, not for the batch: after an error, a
	// panic of a function or a crash any subset may have been applied, each once.
	// The functions are pure and may be called more than once, with other old
	// records too; the last call is then the one whose result is stored. Keys of
	// one call are distinct.
	//
	// The store takes no events after an error until a restart, so an engine that
	// may fail for a moment tries again as long as ctx lets it.
	Apply(ctx context.Context, ops []Op) error

	// Records calls fn for delta records, in no order, until it returns an error, which
	// Records then returns as it is. It is a fuzzy copy: each key that has a record when
	// Records is called comes, once, with that record or a newer one; a key that gets its
	// first record meanwhile may come. So a copy that was begun after some Apply had
	// returned has all that it did, and of what is applied meanwhile a part.
	//
	// It runs beside everything else, for minutes where there are many records, and holds
	// nobody up. fn may use the engine, and close it. key and record are valid during the
	// call and not to be changed.
	Records(ctx context.Context, fn func(key, record []byte) error) error

	// Barrier returns once everything that was applied before it survives loss of
	// power.
	Barrier(ctx context.Context) error

	// BuildGeneration begins a generation in a new folder, which must not exist.
	// All of it is in the folder: a snapshot is renamed, compared with what was
	// sealed, and removed by who knows files only, in other processes too. So an
	// engine whose records are elsewhere embeds another's GenerationEngine.
	BuildGeneration(dir string) (GenerationWriter, error)

	// OpenGeneration opens a sealed generation for reading. That its folder is
	// renamed or removed then does not matter.
	OpenGeneration(dir string) (Generation, error)

	// Close makes everything applied durable and closes the delta records: what is
	// called later returns an error, but another Close nothing. Open generations
	// stay open.
	Close() error
}

// Op changes the delta record of one key.
type Op struct {
	Key []byte
	// Change returns the new record, which may be a part of the old one. old is
	// nil where there is none, not to be changed, and valid only during the call;
	// the result is read before Apply returns. Returning nil leaves the record as
	// it is; an empty record is one.
	Change func(old []byte) []byte
}

// GenerationWriter writes one generation. It is used by one goroutine.
type GenerationWriter interface {
	// Add writes a row. Keys come in strictly ascending byte order.
	Add(key, row []byte) error
	// Seal makes the rows durable and closes the writer.
	Seal() error
	// Abort closes the writer; the folder may then be removed. After Seal, or
	// another Abort, it does nothing.
	Abort() error
}

// Generation is a sealed, read-only set of rows, safe for concurrent use.
type Generation interface {
	// Get appends the row of key to dst. It reports false, and returns dst as it
	// was, where there is none.
	Get(key, dst []byte) (row []byte, found bool, err error)
	// Each calls fn for every row in key order until it returns an error. Key and
	// row are valid during the call.
	Each(fn func(key, row []byte) error) error
	// Close releases it. No Get may be running or follow.
	Close() error
}
