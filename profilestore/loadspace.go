package profilestore

import (
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"syscall"

	"rapport/profilestore/batchfile"
)

const (
	// spaceReserve is what a load leaves free on a disk, or a twentieth of a small one:
	// a server beside it writes journals and tables there.
	spaceReserve = 64 << 20
	// watchEvery is after how many bytes written the free space is looked at again.
	watchEvery = 4 << 20
	// sampleBatches is how many batches of a file the estimate reads.
	sampleBatches = 8
)

// space watches the free space of a folder's disk. It is used by one goroutine at a
// time.
type space struct {
	dir     string
	written int64 // since it was looked at
}

func newSpace(dir string) *space { return &space{dir: dir, written: watchEvery} }

// free returns how many bytes may be written, and what is to be left of them.
func (s *space) free() (free, reserve int64, err error) {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(s.dir, &fs); err != nil {
		return 0, 0, fmt.Errorf("free space of %s: %w", s.dir, err)
	}
	size := int64(fs.Bsize) //nolint:unconvert // types differ between systems
	return int64(fs.Bavail) * size, min(spaceReserve, int64(fs.Blocks)*size/20), nil
}

// watch is called before n bytes are written. It returns an error if the disk is then
// as good as full.
func (s *space) watch(n int64) error {
	if s.written += n; s.written < watchEvery {
		return nil
	}
	s.written = 0
	free, reserve, err := s.free()
	if err == nil && free < n+reserve {
		err = fmt.Errorf("nothing was loaded: %s has only %s left, and more was needed: remove something or use another disk", s.dir, byteSize(free))
	}
	return err
}

// need is what a load takes of disks, as far as can be told.
type need struct {
	rows       int64
	generation int64 // bytes of the snapshot
	spill      int64 // bytes of rows that memory has no room for
}

// checkSpace refuses a load that would fill a disk, before it begins.
func (l *loader) checkSpace() error {
	n, err := l.estimate()
	if err != nil || n == nil {
		return err
	}
	return l.checkNeed(*n)
}

func (l *loader) checkNeed(n need) error {
	home := newSpace(l.folder.dir)
	there := l.spill.space
	if sameDisk(home.dir, there.dir) {
		return home.check(l, n.generation+n.spill, n)
	}
	if err := there.check(l, n.spill, n); err != nil {
		return err
	}
	return home.check(l, n.generation, n)
}

func (s *space) check(l *loader, bytes int64, n need) error {
	free, reserve, err := s.free()
	if err != nil || free >= bytes+reserve {
		return err
	}
	sorting := ""
	if n.spill > 0 {
		sorting = fmt.Sprintf(" and %s for rows that wait for being sorted", byteSize(n.spill))
	}
	return fmt.Errorf("%s: nothing was loaded: %s has %s free, and about %s more are needed: %s for the snapshot of %d rows%s, and %s are left free: "+
		"remove something or use another disk", l.name, s.dir, byteSize(free), byteSize(bytes+reserve-free), byteSize(n.generation), n.rows, sorting, byteSize(reserve))
}

func sameDisk(a, b string) bool {
	var s, t syscall.Stat_t
	return syscall.Stat(a, &s) == nil && syscall.Stat(b, &t) == nil && s.Dev == t.Dev
}

// estimate reads the beginning of the largest file, as it will be read, and tells from
// that what all of them need. It returns nil if that says nothing.
func (l *loader) estimate() (*need, error) {
	if len(l.parts) == 0 {
		return nil, nil
	}
	part := l.parts[0]
	declared := int64(0)
	for _, p := range l.parts {
		if p.size > part.size {
			part = p
		}
		declared += max(0, p.declared)
	}
	file, err := batchfile.Open(part.path, part.format)
	if err != nil {
		return nil, l.partError(part, err)
	}
	defer file.Close()
	file.Want(l.columns)
	sample := l.newSample()
	rows := int64(0)
	b := batchfile.NewBatch()
	for range sampleBatches {
		err := file.Next(b)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, nil
		}
		rows += int64(b.Len())
		sample.parse(readBatch{Batch: b, part: part, file: file})
	}
	good := sample.rows.count
	if good == 0 || file.Read() == 0 {
		return nil, nil
	}
	n := need{rows: int64(float64(rows) / float64(file.Read()) * float64(l.size))}
	if part.declared >= 0 {
		n.rows = declared // other formats beside it are rare, and small
	}
	known := newLoadRows(l.fields)
	known.absorb(sample.rows)
	layout, err := known.layout()
	if err != nil {
		return nil, err
	}
	share := float64(n.rows) / float64(good)
	n.generation = int64(share * float64(known.encodedBytes(layout)))
	if packed := int64(share * float64(sample.rows.packedBytes())); packed > l.readLimit() {
		n.spill = packed
	}
	return &n, nil
}

// newSample returns a worker that tells nobody.
func (l *loader) newSample() *readWorker {
	quiet := *l
	quiet.rejects = nil
	return quiet.newWorker(make([]atomic.Bool, len(l.fields)), new(chunkPool))
}

// packedBytes returns the bytes of the rows in memory.
func (r *loadRows) packedBytes() (n int64) {
	for _, chunk := range r.chunks {
		n += int64(len(chunk))
	}
	return n
}

// encodedBytes returns about how large the rows will be in a generation.
func (r *loadRows) encodedBytes(l *rowLayout) int64 {
	// A row has its checksum, an engine's headers, and its share of indexes and filters.
	const overhead = 32
	n := r.keys + r.count*int64(l.base+overhead)
	for i := range l.Columns {
		width := int64(l.width(l.Columns[i].class()))
		n += r.stats[i].present * width
		if l.places[i].form == rowText {
			n += r.stats[i].bytes
		}
	}
	return n
}
