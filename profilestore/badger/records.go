package badger

import (
	"context"
	"errors"
	"fmt"
	"math"

	bdb "github.com/dgraph-io/badger/v4"
)

// pageBytes is how much of the delta records is copied at once while they are
// enumerated.
const pageBytes = 1 << 20

// Records implements [profilestore.Engine]. The records come in key order. They are
// copied page by page, each from an iterator of its own: one that lived as long as the
// enumeration would keep every table that is merged away meanwhile on the disk, and
// whoever closes the engine waiting. A key that is passed never comes again, and before
// it is passed its newest record is what an iterator finds.
func (e *Engine) Records(ctx context.Context, fn func(key, record []byte) error) error {
	var p page
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := e.readPage(&p); err != nil {
			return err
		}
		if len(p.sizes) == 0 {
			return nil
		}
		rest := p.bytes
		for _, n := range p.sizes {
			key := rest[:n.key:n.key]
			record := rest[n.key : n.key+n.record : n.key+n.record]
			rest = rest[n.key+n.record:]
			if err := fn(key, record); err != nil {
				return err
			}
		}
	}
}

// page is a stretch of the delta records, copied.
type page struct {
	next  []byte // the least key that may come after it
	bytes []byte // keys and records
	sizes []struct{ key, record int }
}

// readPage makes p the page after it; one without records is the end.
func (e *Engine) readPage(p *page) (err error) {
	e.use.RLock()
	defer e.use.RUnlock()
	if e.db.IsClosed() {
		return errors.New("badger: the engine is closed")
	}
	defer func() { // as at Generation.Get
		if r := recover(); r != nil {
			err = fmt.Errorf("badger: delta records in %s: reading on from key %q panicked: %.200v", e.dir, p.next, r)
		}
	}()
	txn := e.db.NewTransactionAt(math.MaxUint64, false)
	defer txn.Discard()
	it := txn.NewIterator(bdb.IteratorOptions{}) // values are in the tables, so there is nothing to prefetch
	defer it.Close()
	p.bytes, p.sizes = p.bytes[:0], p.sizes[:0]
	for it.Seek(p.next); it.Valid() && len(p.bytes) < pageBytes; it.Next() {
		item := it.Item()
		key := len(item.Key())
		p.bytes = append(p.bytes, item.Key()...)
		if err := item.Value(func(record []byte) error {
			p.sizes = append(p.sizes, struct{ key, record int }{key, len(record)})
			p.bytes = append(p.bytes, record...)
			return nil
		}); err != nil {
			return fmt.Errorf("badger: delta records in %s: key %q: %w", e.dir, item.Key(), err)
		}
		p.next = append(append(p.next[:0], item.Key()...), 0)
	}
	return nil
}
