package profilestore

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/klauspost/compress/s2"
)

const (
	// spillBlock is what is compressed at once, and with spillBuffer about what a run
	// takes of memory while it is merged.
	spillBlock  = 64 << 10
	spillBuffer = 64 << 10
	runMemory   = 4 * spillBlock

	// spillPrefix begins the names of the files, in the moment in which they have one.
	spillPrefix = "spill-"
)

// spill holds the rows of a load that memory has no room for: runs of sorted rows, one
// after the other in a file, each as
//
//	length of what follows (uvarint), owner (1 byte), the row as loadRows has it
//
// in the framing of S2, which compresses them to a half or less, faster than a disk
// writes, and has a checksum for each block: a bit that flips here would else be in
// the snapshot, and in its hash too.
//
// The file has no name once it is open, so that nothing has to be removed, whatever
// becomes of the process.
type spill struct {
	dir   string
	space *space

	mu   sync.Mutex
	file *os.File
	size int64
}

// spillRun is where a run is.
type spillRun struct{ begin, end int64 }

// write writes the rows, which are sorted.
func (s *spill) write(r *loadRows) (spillRun, error) {
	i := 0
	return s.writeRows(func() (owner int, row []byte, err error) {
		if i == len(r.refs) {
			return 0, nil, io.EOF
		}
		i++
		b := r.at(r.refs[i-1])
		return r.owner, b[:r.length(b)], nil
	})
}

// writeRows writes the rows that next returns until io.EOF. Runs of several goroutines
// go into stretches of the file that are taken one after the other.
func (s *spill) writeRows(next func() (owner int, row []byte, err error)) (run spillRun, err error) {
	s.mu.Lock() // a disk writes one run at a time as fast as two
	defer s.mu.Unlock()
	if s.file == nil {
		if s.file, err = os.CreateTemp(s.dir, spillPrefix+"*"); err != nil {
			return run, fmt.Errorf("rows that memory has no room for: %w", err)
		}
		if err := os.Remove(s.file.Name()); err != nil {
			return run, err
		}
	}
	run.begin = s.size
	out := io.NewOffsetWriter(s.file, s.size)
	w := s2.NewWriter(&watchedWriter{out, s}, s2.WriterBlockSize(spillBlock), s2.WriterConcurrency(1))
	var head [binary.MaxVarintLen64 + 1]byte
	for {
		owner, row, err := next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return run, err
		}
		n := binary.PutUvarint(head[:], uint64(len(row)+1))
		head[n] = byte(owner)
		if _, err = w.Write(head[:n+1]); err == nil {
			_, err = w.Write(row)
		}
		if err != nil {
			return run, err
		}
	}
	if err := w.Close(); err != nil {
		return run, err
	}
	run.end = s.size
	return run, nil
}

// watchedWriter counts what is written, and stops before the disk is full.
type watchedWriter struct {
	w io.Writer
	s *spill
}

func (w *watchedWriter) Write(b []byte) (int, error) {
	if err := w.s.space.watch(int64(len(b))); err != nil {
		return 0, err
	}
	n, err := w.w.Write(b)
	w.s.size += int64(n)
	return n, err
}

// written returns the bytes of all runs.
func (s *spill) written() int64 { return s.size }

func (s *spill) close() {
	if s.file != nil {
		_ = s.file.Close() // nobody needs it any more
	}
}

// length returns the bytes of a row that b begins with.
func (r *loadRows) length(b []byte) int {
	_, _, packed := splitRow(b)
	flagBytes, words := r.bitmaps()
	at := 2*flagBytes + 8*words
	present := packed[2*flagBytes : at]
	other := 0
	for i := range r.plan {
		form := r.plan[i].form
		if form == rowFlag {
			continue
		}
		bit := other
		other++
		if present[bit/8]&(1<<(bit%8)) == 0 {
			continue
		}
		n := binary.LittleEndian.Uint32(packed[at:])
		at += 4
		switch {
		case form == rowFloat || form == rowTime:
			at += 4
		case form == rowScaled && int32(n) == packedWide:
			at += 8
		case (form == rowText || form == rowCode) && n&1 == 1:
			at += int(n >> 1)
		}
	}
	return len(b) - len(packed) + at
}

// loadCursor goes over sorted rows: of loadRows, or of a run.
type loadCursor struct {
	key    []byte
	at     loadPlace
	packed []byte
	row    []byte // all of it
	owner  int

	rows *loadRows // in memory: those that are left of refs
	refs []loadRef

	in   *bufio.Reader // a run
	held int           // bytes of in that row is a view of
	own  []byte        // the row, if it is larger than in's buffer
}

func (r *loadRows) cursor() *loadCursor {
	return &loadCursor{rows: r, refs: r.refs, owner: r.owner}
}

func (s *spill) cursor(run spillRun) *loadCursor {
	section := io.NewSectionReader(s.file, run.begin, run.end-run.begin)
	return &loadCursor{in: bufio.NewReaderSize(s2.NewReader(section, s2.ReaderMaxBlockSize(spillBlock)), spillBuffer)}
}

// next goes to the next row, or returns io.EOF. What the fields of the cursor are views
// of is valid until the call after, and of rows in memory for good.
func (c *loadCursor) next() error {
	if c.rows != nil {
		if len(c.refs) == 0 {
			return io.EOF
		}
		c.row = c.rows.at(c.refs[0])
		c.key, c.at, c.packed = splitRow(c.row)
		c.refs = c.refs[1:]
		return nil
	}
	if err := c.read(); err != nil {
		if errors.Is(err, io.EOF) {
			return io.EOF
		}
		return fmt.Errorf("rows that were written to be sorted can't be read back: %w", err)
	}
	c.key, c.at, c.packed = splitRow(c.row)
	return nil
}

// read reads the next row of a run.
func (c *loadCursor) read() error {
	if _, err := c.in.Discard(c.held); err != nil {
		return err
	}
	c.held = 0
	size, err := binary.ReadUvarint(c.in)
	if err != nil {
		return err
	}
	n := int(size)
	b, err := c.in.Peek(min(n, spillBuffer))
	switch {
	case err != nil:
		return noEOF(err)
	case n <= spillBuffer:
		c.held = n
	default:
		if cap(c.own) < n {
			c.own = make([]byte, n)
		}
		b = c.own[:n]
		if _, err := io.ReadFull(c.in, b); err != nil {
			return noEOF(err)
		}
	}
	c.owner, c.row = int(b[0]), b[1:]
	return nil
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// less orders cursors by their rows.
func (c *loadCursor) less(d *loadCursor) bool {
	if n := bytes.Compare(c.key, d.key); n != 0 {
		return n < 0
	}
	return c.at.compare(d.at) < 0
}
