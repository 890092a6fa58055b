package profilestore

import "context"

// What a key and a record may have in bytes at most, so that any engine can take
// them. Rows are not limited.
const (
	MaxKey    = 1 << 10
	MaxRecord = 1<<20 - 1
)

// Engine stores bytes by key for a [Store]: one mutable space of delta records,
// and generations, which are immutable once sealed. All meaning is above it, so
// an engine needs no transactions over several keys, and a networked one can
// take its place.
//
// An Engine is safe for concurrent use. Keys and values passed to it are copied
// before the call returns; it keeps nothing of the caller's.
type Engine interface {
	// Get appends the delta record of key to dst. It reports false, and returns
	// dst as it was, where there is none.
	Get(ctx context.Context, key, dst []byte) (value []byte, found bool, err error)

	// Apply replaces the delta record of each key by what its function makes of
	// the old one, atomically for each key, not for the batch: after a crash
	// any subset may have been applied. The functions are pure and may be called
	// more than once. Keys of one call are distinct.
	Apply(ctx context.Context, ops []Op) error

	// Barrier returns once everything applied before it survives loss of power.
	Barrier(ctx context.Context) error

	// BuildGeneration begins a generation in a new folder, which must not exist.
	BuildGeneration(dir string) (GenerationWriter, error)

	// OpenGeneration opens a sealed generation for reading.
	OpenGeneration(dir string) (Generation, error)

	// Close makes everything applied durable and closes the delta records. Open
	// generations stay open.
	Close() error
}

// Op changes the delta record of one key.
type Op struct {
	Key []byte
	// Change returns the new record. old is nil where there is none and valid
	// only during the call; the result is read before Apply returns. Returning
	// nil leaves the record as it is.
	Change func(old []byte) []byte
}

// GenerationWriter writes one generation. It is used by one goroutine.
type GenerationWriter interface {
	// Add writes a row. Keys come in strictly ascending byte order.
	Add(key, row []byte) error
	// Seal makes the rows durable and closes the writer.
	Seal() error
	// Abort closes the writer; what is in the folder may then be removed. After
	// Seal it does nothing.
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
