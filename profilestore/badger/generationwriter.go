package badger

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"

	bdb "github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
	"github.com/dgraph-io/badger/v4/pb"
	"github.com/dgraph-io/badger/v4/table"
	"github.com/dgraph-io/badger/v4/y"
	"github.com/dgraph-io/ristretto/v2/z"
	"google.golang.org/protobuf/proto"

	"rapport/profilestore"
	"rapport/profilestore/durable"
)

const (
	// rowVersion is the version of every row.
	rowVersion = 1
	// rowLevel is the level of every table: the last, in which none overlap.
	rowLevel = 6
	// tableBytes is about how large a table becomes: 60 million rows of 300 tags are
	// some 730 tables, of which each costs an open server a file, a memory map and
	// its index.
	tableBytes = 32 << 20
)

// generationWriter makes Badger's tables with Badger's builder, and writes them and
// Badger's MANIFEST as any file is written. Badger's own StreamWriter writes tables
// through memory maps: a disk that becomes full meanwhile ends the process by SIGBUS,
// and all of the generation stays mapped until it is closed. Here a full disk is an
// error of a write, and memory holds at most three tables in the making and the
// bytes of one, some 200 MB, whatever the size of the generation. It also saves the
// way through a protobuf message for each row: see BenchmarkBuild.
//
// A generation has nothing but tables and MANIFEST: opened read-only, Badger needs no
// more and adds nothing.
type generationWriter struct {
	dir     string
	closed  bool
	last    []byte
	key     []byte // with its version
	builder *table.Builder
	size    int // of what the builder has
	pool    *z.AllocatorPool
	full    chan *table.Builder // on their way to the goroutine that writes them
	done    chan error          // what came of it, once
	failed  chan struct{}       // closed if it has given up
}

func tableOptions() table.Options {
	o := bdb.DefaultOptions("")
	return table.Options{
		BlockSize: o.BlockSize, BloomFalsePositive: o.BloomFalsePositive, Compression: options.None,
		// The builder begins with twice this, which a table then fits in.
		TableSize: tableBytes * 5 / 8,
	}
}

func newGenerationWriter(dir string) *generationWriter {
	w := &generationWriter{
		dir: dir, pool: z.NewAllocatorPool(3),
		full: make(chan *table.Builder), done: make(chan error, 1), failed: make(chan struct{}),
	}
	go w.writeTables()
	return w
}

func (w *generationWriter) newBuilder() *table.Builder {
	o := tableOptions()
	o.AllocPool = w.pool
	return table.NewTableBuilder(o)
}

// Add implements [profilestore.GenerationWriter].
func (w *generationWriter) Add(key, row []byte) error {
	if w.closed {
		return errors.New("badger: the generation is closed")
	}
	if bytes.Compare(key, w.last) <= 0 { // an empty key is never after another
		return fmt.Errorf("badger: generation in %s: key %q is not after %q", w.dir, key, w.last)
	}
	if len(key) > profilestore.MaxKey {
		return fmt.Errorf("badger: generation in %s: a key of %d bytes, the limit is %d", w.dir, len(key), profilestore.MaxKey)
	}
	w.last = append(w.last[:0], key...)
	if w.builder != nil && w.size > 0 && w.size+len(row) > tableBytes {
		if err := w.send(); err != nil {
			return err
		}
	}
	if w.builder == nil {
		w.builder = w.newBuilder()
	}
	w.key = binary.BigEndian.AppendUint64(append(w.key[:0], key...), ^uint64(rowVersion)) // as y.KeyWithTs
	w.builder.Add(w.key, y.ValueStruct{Value: row}, 0)
	w.size += len(key) + len(row) + 24
	if block := 4 << 10; len(row) > block/2 { // a row fills a block, and a larger one has it grow by doubling
		w.size += max(block, len(row))
	}
	return nil
}

// send gives the table to the goroutine that writes it.
func (w *generationWriter) send() error {
	select {
	case w.full <- w.builder:
		w.builder, w.size = nil, 0
		return nil
	case <-w.failed:
		return errors.Join(errors.New("badger: the generation can't be written"), w.close())
	}
}

// writeTables writes one table after the other and then MANIFEST.
func (w *generationWriter) writeTables() {
	var set pb.ManifestChangeSet
	var buffer []byte
	var err error
	for b := range w.full {
		if err == nil {
			id := uint64(len(set.GetChanges()) + 1)
			if buffer, err = writeTable(table.NewFilename(id, w.dir), b, buffer); err != nil {
				close(w.failed)
			}
			set.Changes = append(set.Changes, &pb.ManifestChange{Id: id, Op: pb.ManifestChange_CREATE, Level: rowLevel})
		}
		b.Close()
	}
	if err == nil {
		err = writeManifest(filepath.Join(w.dir, bdb.ManifestFilename), &set)
	}
	w.done <- err
}

// writeTable writes a table durably and returns the buffer for the next one.
func writeTable(path string, b *table.Builder, buffer []byte) (_ []byte, err error) {
	data := b.Done()
	if cap(buffer) < data.Size {
		buffer = make([]byte, data.Size)
	}
	n := data.Copy(buffer[:data.Size])
	return buffer, writeSynced(path, buffer[:n])
}

func writeSynced(path string, b []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// writeManifest writes what Badger calls its MANIFEST: which tables there are.
//
//	magic      "Bdgr", an application's number (0), the format (8), both uint16
//	changes    length and CRC32-C, both uint32; pb.ManifestChangeSet
//
// Numbers are big-endian.
func writeManifest(path string, set *pb.ManifestChangeSet) error {
	changes, err := proto.Marshal(set)
	if err != nil {
		return err
	}
	b := []byte("Bdgr\x00\x00\x00\x08")
	b = binary.BigEndian.AppendUint32(b, uint32(len(changes)))
	b = binary.BigEndian.AppendUint32(b, crc32.Checksum(changes, y.CastagnoliCrcTable))
	return writeSynced(path, append(b, changes...))
}

// Seal implements [profilestore.GenerationWriter].
func (w *generationWriter) Seal() error {
	if w.closed {
		return errors.New("badger: the generation is closed")
	}
	if w.builder != nil {
		if err := w.send(); err != nil {
			return err
		}
	}
	if err := w.close(); err != nil {
		return err
	}
	if err := durable.SyncDir(w.dir); err != nil {
		return fmt.Errorf("badger: generation in %s: %w", w.dir, err)
	}
	return nil
}

// Abort implements [profilestore.GenerationWriter].
func (w *generationWriter) Abort() error {
	if w.closed {
		return nil
	}
	_ = w.close() // what could not be written is not wanted
	return nil
}

// close waits for what is being written.
func (w *generationWriter) close() error {
	w.closed = true
	if w.builder != nil {
		w.builder.Close()
		w.builder = nil
	}
	close(w.full)
	err := <-w.done
	w.pool.Release()
	if err != nil {
		return fmt.Errorf("badger: generation in %s: %w", w.dir, err)
	}
	return nil
}
