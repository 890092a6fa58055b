package batchfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

// maxRecord bounds one record, so that a quote that is never closed does not read the
// rest of the file into memory.
const maxRecord = 4 << 20

// lines finds the lines of a text, of which any number may be in memory at a time.
type lines struct {
	r     io.Reader
	buf   []byte
	begin int // of what is not yet consumed in buf
	end   int
	eof   bool
	line  int64 // lines consumed
}

// newLines begins to read and passes over a byte order mark.
func newLines(r io.Reader) (*lines, error) {
	l := &lines{r: r, buf: make([]byte, 256<<10)}
	for l.end < 512 && !l.eof {
		if err := l.fill(); err != nil {
			return nil, err
		}
	}
	if bytes.HasPrefix(l.buf[:l.end], []byte("\xef\xbb\xbf")) {
		l.begin = 3
	}
	return l, nil
}

// peek returns what is in the buffer.
func (l *lines) peek() []byte { return l.buf[l.begin:l.end] }

// fill reads more into the buffer, which it moves or enlarges if it is full.
func (l *lines) fill() error {
	if l.begin > 0 {
		copy(l.buf, l.buf[l.begin:l.end])
		l.end -= l.begin
		l.begin = 0
	}
	if l.end == len(l.buf) {
		l.buf = append(l.buf, make([]byte, len(l.buf))...)
	}
	n, err := l.r.Read(l.buf[l.end:])
	l.end += n
	if errors.Is(err, io.EOF) {
		l.eof = true
		return nil
	}
	return err
}

// physicalLine returns what is in the buffer up to the next line end that is at or
// after offset, without consuming it; nil at the end of the file.
func (l *lines) physicalLine(offset int) (line []byte, terminated bool, err error) {
	for {
		if i := bytes.IndexByte(l.buf[l.begin+offset:l.end], '\n'); i >= 0 {
			return l.buf[l.begin : l.begin+offset+i], true, nil
		}
		offset = l.end - l.begin
		if l.eof {
			if offset == 0 {
				return nil, false, nil
			}
			return l.buf[l.begin:l.end], false, nil
		}
		if offset > maxRecord {
			return nil, false, &Error{Problem{Line: l.line + 1, Column: -1, Message: fmt.Sprintf(
				"the row that begins here has no end within %d bytes: is a quote never closed, or is this no CSV or NDJSON file?", maxRecord)}}
		}
		if err := l.fill(); err != nil {
			return nil, false, err
		}
	}
}

// consume steps over a record and its line end.
func (l *lines) consume(line []byte, terminated bool) record {
	r := record{line: l.line + 1, bytes: bytes.TrimSuffix(line, []byte{'\r'})}
	l.line += 1 + int64(bytes.Count(line, []byte{'\n'}))
	l.begin += len(line)
	if terminated {
		l.begin++
	}
	return r
}
