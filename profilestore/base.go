package profilestore

import (
	"bufio"
	"cmp"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A base is a copy of all delta records, as they were at one entry of the journal or
// later: what stands for the part of the journal that has been removed. The records can
// be derived from it and the entries after its position, since a record knows what it has
// applied. It is a file of the folder base, sealed by its name: one that is being written
// has another.
//
//	header  0  magic "RAPPBASE"
//	        8  format, uint32
//	       12  length of the content, uint32
//	       16  CRC32-C of the 16 bytes before and the content, uint32
//	       20  content: baseHeader, JSON
//	block   0  length of the payload, uint32
//	        4  CRC32-C of (base id, number of the block, length, payload), uint32
//	        8  payload: records, each with the lengths of key and record before it, uvarint
//	end     a block whose payload is baseEnd, JSON
//	footer  0  the end's place in the file, uint64
//	        8  magic "RAPPSEAL"
//
// Numbers are little-endian. Other formats have the same header, so that one is told from
// damage. A format of delta records that comes after this one must be
// able to read the records of a base: what they say can't be derived from anywhere else.
const (
	baseMagic  = "RAPPBASE"
	sealMagic  = "RAPPSEAL"
	baseFormat = 1

	baseBlock     = 256 << 10 // a block is written when it has so many bytes
	maxBaseBlock  = baseBlock + MaxKey + MaxRecord + 16
	maxBaseHeader = 64 << 20
	baseSuffix    = ".base"
	baseDigits    = 20
	baseSyncs     = 64 << 20 // bytes between syncs, so that the last one does not take long
)

// baseFolder is where bases are, in a data folder.
const baseFolder = "base"

type baseHeader struct {
	ID       uint64          `json:"id,string"` // random: blocks of another base do not fit
	Journal  string          `json:"journal"`   // its name
	Position uint64          `json:"position"`  // each record has applied all up to this entry that concerns it
	Schema   json.RawMessage `json:"schema"`    // that the records were derived by
	Records  int             `json:"records"`   // their format
	Made     time.Time       `json:"made"`
}

type baseEnd struct {
	Records  uint64                  `json:"records"`
	Horizons map[string]horizonTimes `json:"horizons"` // by source: how far the records may have been pruned
	Observer []byte                  `json:"observer,omitempty"`
}

// BaseInfo describes a base.
type BaseInfo struct {
	Path     string
	Position uint64 // it stands for the journal up to this entry
	Schema   string // the id of the schema
	Made     time.Time
	Records  uint64
	Bytes    int64
}

// BaseError says that a base can't be used.
type BaseError struct {
	File   string
	Offset int64
	Reason string
}

func (e *BaseError) Error() string {
	return fmt.Sprintf("profilestore: the base %s is damaged at byte %d: %s; it stands for the part of the journal that has been removed: "+
		"while the delta records are there, write a new one with rapport journal base, else restore the data folder from a backup", e.File, e.Offset, e.Reason)
}

// base is an open base.
type base struct {
	file   *os.File
	info   BaseInfo
	header baseHeader
	schema *Schema
	end    baseEnd
	first  int64 // where the blocks begin
	last   int64 // where the end begins
}

func (b *base) close() { _ = b.file.Close() } // only read

// Bases returns the positions of the bases in a data folder, ascending.
func basePositions(dir string) ([]uint64, error) {
	entries, err := os.ReadDir(filepath.Join(dir, baseFolder))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("profilestore: %w", err)
	}
	var positions []uint64
	for _, e := range entries {
		digits, ok := strings.CutSuffix(e.Name(), baseSuffix)
		if n, err := strconv.ParseUint(digits, 10, 64); ok && err == nil && len(digits) == baseDigits {
			positions = append(positions, n)
		}
	}
	slices.Sort(positions)
	return positions, nil
}

func basePath(dir string, position uint64) string {
	return filepath.Join(dir, baseFolder, fmt.Sprintf("%0*d%s", baseDigits, position, baseSuffix))
}

// newestBase returns the position of the newest base of a data folder, 0 if there is none.
func newestBase(dir string) (uint64, error) {
	positions, err := basePositions(dir)
	if err != nil || len(positions) == 0 {
		return 0, err
	}
	return positions[len(positions)-1], nil
}

// openBase opens the newest base of a data folder; nil if there is none. It reads header
// and end; the records are checked when they are read.
func openBase(dir string) (_ *base, err error) {
	position, err := newestBase(dir)
	if err != nil || position == 0 {
		return nil, err
	}
	path := basePath(dir, position)
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("profilestore: %w", err)
	}
	b := &base{file: f, info: BaseInfo{Path: path}}
	if err := b.open(position); err != nil {
		b.close()
		return nil, err
	}
	return b, nil
}

func (b *base) damaged(off int64, format string, args ...any) error {
	return &BaseError{File: b.info.Path, Offset: off, Reason: fmt.Sprintf(format, args...)}
}

func (b *base) open(position uint64) error {
	info, err := b.file.Stat()
	if err != nil {
		return fmt.Errorf("profilestore: %w", err)
	}
	head := make([]byte, 20)
	if _, err := b.file.ReadAt(head, 0); err != nil {
		return b.damaged(0, "the header can't be read: %v", err)
	}
	le := binary.LittleEndian
	length := le.Uint32(head[12:])
	if string(head[:8]) != baseMagic || length > maxBaseHeader {
		return b.damaged(0, "it is no base")
	}
	content := make([]byte, length)
	if _, err := b.file.ReadAt(content, 20); err != nil {
		return b.damaged(0, "the header can't be read: %v", err)
	}
	if crc32.Update(crc32.Checksum(head[:16], castagnoli), castagnoli, content) != le.Uint32(head[16:]) {
		return b.damaged(0, "its header does not match its checksum")
	}
	if v := le.Uint32(head[8:]); v != baseFormat {
		return fmt.Errorf("profilestore: the base %s has format %d, this program knows %d: use the program that wrote it, or a newer one", b.info.Path, v, baseFormat)
	}
	if err := json.Unmarshal(content, &b.header); err != nil {
		return b.damaged(20, "%v", err)
	}
	if b.header.Position != position {
		return b.damaged(20, "its name says position %d, its header %d", position, b.header.Position)
	}
	if b.schema, err = ParseSchema(b.header.Schema); err != nil {
		return b.damaged(20, "its schema: %v", err)
	}
	if b.header.Records != deltaFormat {
		return fmt.Errorf("profilestore: the base %s has records of format %d, this program knows %d: use the program that wrote it, or a newer one", b.info.Path, b.header.Records, deltaFormat)
	}
	b.first = 20 + int64(length)
	foot := make([]byte, 16)
	if _, err := b.file.ReadAt(foot, info.Size()-16); err != nil || string(foot[8:]) != sealMagic {
		return b.damaged(max(0, info.Size()-16), "it does not end as a base does")
	}
	b.last = int64(le.Uint64(foot))
	end, err := b.readEnd(info.Size() - 16)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(end, &b.end); err != nil {
		return b.damaged(b.last, "%v", err)
	}
	b.info.Position, b.info.Schema, b.info.Made = position, b.schema.ID(), b.header.Made
	b.info.Records, b.info.Bytes = b.end.Records, info.Size()
	return nil
}

// readEnd reads the block of the end, which is not numbered as the others are.
func (b *base) readEnd(limit int64) ([]byte, error) {
	if b.last < b.first || b.last+8 > limit || limit-b.last-8 > maxBaseHeader {
		return nil, b.damaged(limit, "its end is not where it should be")
	}
	block := make([]byte, limit-b.last)
	if _, err := b.file.ReadAt(block, b.last); err != nil {
		return nil, b.damaged(b.last, "its end can't be read: %v", err)
	}
	payload := block[8:]
	if binary.LittleEndian.Uint32(block) != uint32(len(payload)) || binary.LittleEndian.Uint32(block[4:]) != blockSum(b.header.ID, math.MaxUint64, payload) {
		return nil, b.damaged(b.last, "its end does not match its checksum")
	}
	return payload, nil
}

// blockSum is the checksum of a block.
func blockSum(id, number uint64, payload []byte) uint32 {
	var head [20]byte
	binary.LittleEndian.PutUint64(head[:], id)
	binary.LittleEndian.PutUint64(head[8:], number)
	binary.LittleEndian.PutUint32(head[16:], uint32(len(payload)))
	return crc32.Update(crc32.Checksum(head[:], castagnoli), castagnoli, payload)
}

// blocks calls fn for the payload of each block, which is fn's to keep, and checks all of
// it.
func (b *base) blocks(ctx context.Context, fn func(payload []byte, at int64) error) error {
	r := bufio.NewReaderSize(io.NewSectionReader(b.file, b.first, b.last-b.first), 1<<20)
	head := make([]byte, 8)
	at := b.first
	for number := uint64(0); at < b.last; number++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		if _, err := io.ReadFull(r, head); err != nil {
			return b.damaged(at, "a block can't be read: %v", err)
		}
		length := binary.LittleEndian.Uint32(head)
		if length > maxBaseBlock {
			return b.damaged(at, "a block has a length of %d bytes, more than can be", length)
		}
		payload := make([]byte, length)
		if _, err := io.ReadFull(r, payload); err != nil {
			return b.damaged(at, "a block can't be read: %v", err)
		}
		if binary.LittleEndian.Uint32(head[4:]) != blockSum(b.header.ID, number, payload) {
			return b.damaged(at, "block %d does not match its checksum", number)
		}
		if err := fn(payload, at); err != nil {
			return err
		}
		at += 8 + int64(length)
	}
	return nil
}

// eachRecord takes the payload of a block apart.
func eachRecord(payload []byte, fn func(key, record []byte)) (n uint64, ok bool) {
	r := reader{b: payload}
	for len(r.b) > 0 && !r.bad {
		key := r.bytes(r.count(1))
		record := r.bytes(r.count(1))
		if r.bad || len(key) == 0 {
			return n, false
		}
		fn(key, record)
		n++
	}
	return n, !r.bad
}

// verify reads all of a base.
func (b *base) verify(ctx context.Context, progress func(done, total int64)) error {
	var records uint64
	err := b.blocks(ctx, func(payload []byte, at int64) error {
		n, ok := eachRecord(payload, func(_, _ []byte) {})
		if !ok {
			return b.damaged(at, "a block holds something that is no record")
		}
		records += n
		if progress != nil {
			progress(at, b.info.Bytes)
		}
		return nil
	})
	if err == nil && records != b.end.Records {
		err = b.damaged(b.last, "it has %d records, and should have %d", records, b.end.Records)
	}
	return err
}

// baseWriter writes a base.
type baseWriter struct {
	file    *os.File
	id      uint64
	block   []byte
	number  uint64
	at      int64
	synced  int64
	records uint64
}

func createBase(path string, h baseHeader) (*baseWriter, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	content, err := json.Marshal(h)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	head := append([]byte(baseMagic), 0, 0, 0, 0, 0, 0, 0, 0)
	binary.LittleEndian.PutUint32(head[8:], baseFormat)
	binary.LittleEndian.PutUint32(head[12:], uint32(len(content)))
	head = binary.LittleEndian.AppendUint32(head, crc32.Update(crc32.Checksum(head, castagnoli), castagnoli, content))
	w := &baseWriter{file: f, id: h.ID}
	if err := w.write(append(head, content...)); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return w, nil
}

func (w *baseWriter) write(b []byte) error {
	n, err := w.file.Write(b)
	w.at += int64(n)
	if err == nil && w.at-w.synced >= baseSyncs {
		w.synced = w.at
		err = w.file.Sync()
	}
	return err
}

// add adds a record. It reports whether a block was written.
func (w *baseWriter) add(key, record []byte) (wrote bool, err error) {
	w.block = binary.AppendUvarint(w.block, uint64(len(key)))
	w.block = append(w.block, key...)
	w.block = binary.AppendUvarint(w.block, uint64(len(record)))
	w.block = append(w.block, record...)
	w.records++
	if len(w.block) < baseBlock {
		return false, nil
	}
	return true, w.flush(w.number)
}

func (w *baseWriter) flush(number uint64) error {
	head := binary.LittleEndian.AppendUint32(make([]byte, 0, 8), uint32(len(w.block)))
	head = binary.LittleEndian.AppendUint32(head, blockSum(w.id, number, w.block))
	err := cmp.Or(w.write(head), w.write(w.block))
	w.number, w.block = w.number+1, w.block[:0]
	return err
}

// seal ends the base and makes it durable under its temporary name.
func (w *baseWriter) seal(end baseEnd) error {
	if len(w.block) > 0 {
		if err := w.flush(w.number); err != nil {
			return err
		}
	}
	end.Records = w.records
	place := w.at
	var err error
	if w.block, err = json.Marshal(end); err != nil {
		return err
	}
	if err := w.flush(math.MaxUint64); err != nil {
		return err
	}
	if err := w.write(append(binary.LittleEndian.AppendUint64(nil, uint64(place)), sealMagic...)); err != nil {
		return err
	}
	return w.file.Sync()
}

func newBaseID() uint64 { return rand.Uint64() } //nolint:gosec // not a secret: it tells files apart
