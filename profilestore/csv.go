package profilestore

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

// csvMaxRecord bounds one record, so that a quote that is never closed does not
// read the rest of the file into memory.
const csvMaxRecord = 4 << 20

// csvReader finds the records of a file of comma-separated values as RFC 4180 has
// them, with UTF-8 in them: lines end with \n or \r\n, a value with commas, quotes
// or line ends is in quotes, a quote in it is doubled. Empty lines are passed over.
// A [csvSplitter] then takes the values out of a record, on another processor if
// there is one.
//
// It exists beside encoding/csv because it goes on after a bad record at the next
// line, knows whether the last record had its line end (a file that was cut off
// has not), and bounds a record. It is also three times as fast on wide rows
// (BenchmarkCSV). A test compares the two.
type csvReader struct {
	r     io.Reader
	buf   []byte
	begin int // of what is not yet consumed in buf
	end   int
	eof   bool
	line  int64 // lines consumed
	read  int64 // bytes consumed
}

// csvRecord is a record as it is in the file, without its line end.
type csvRecord struct {
	line       int64 // on which it begins
	bytes      []byte
	quoted     bool // there are quotes in it, and they are right
	terminated bool // false for a last record without line end
}

// csvError is a record that can't be read.
type csvError struct {
	line    int64
	column  int // place of the value in the record, from 0
	message string
	fatal   bool // nothing can be read after it
}

func (e *csvError) Error() string { return fmt.Sprintf("line %d: %s", e.line, e.message) }

var errNotUTF8File = errors.New("the file is UTF-16, not UTF-8: save it as \"CSV UTF-8\"")

// newCSVReader begins to read and passes over a byte order mark.
func newCSVReader(r io.Reader) (*csvReader, error) {
	c := &csvReader{r: r, buf: make([]byte, 256<<10)}
	for c.end < 3 && !c.eof {
		if err := c.fill(); err != nil {
			return nil, err
		}
	}
	head := c.buf[:c.end]
	switch {
	case bytes.HasPrefix(head, []byte("\xef\xbb\xbf")):
		c.begin, c.read = 3, 3
	case bytes.HasPrefix(head, []byte("\xff\xfe")), bytes.HasPrefix(head, []byte("\xfe\xff")):
		return nil, errNotUTF8File
	}
	return c, nil
}

// fill reads more into the buffer, which it moves or enlarges if it is full.
func (c *csvReader) fill() error {
	if c.begin > 0 {
		copy(c.buf, c.buf[c.begin:c.end])
		c.end -= c.begin
		c.begin = 0
	}
	if c.end == len(c.buf) {
		c.buf = append(c.buf, make([]byte, len(c.buf))...)
	}
	n, err := c.r.Read(c.buf[c.end:])
	c.end += n
	if errors.Is(err, io.EOF) {
		c.eof = true
		return nil
	}
	return err
}

// next returns the next record, whose bytes are valid until the call after;
// io.EOF after the last; or a *csvError.
func (c *csvReader) next() (csvRecord, error) {
	for {
		line, terminated, err := c.physicalLine(0)
		if err != nil {
			return csvRecord{}, err
		}
		if line == nil {
			return csvRecord{}, io.EOF
		}
		if bytes.IndexByte(line, '"') >= 0 {
			return c.nextQuoted(line, terminated)
		}
		record := c.consume(line, terminated)
		if len(record.bytes) > 0 {
			return record, nil
		}
	}
}

// physicalLine returns what is in the buffer up to the next line end that is at
// or after offset, without consuming it; nil at the end of the file.
func (c *csvReader) physicalLine(offset int) (line []byte, terminated bool, err error) {
	for {
		if i := bytes.IndexByte(c.buf[c.begin+offset:c.end], '\n'); i >= 0 {
			return c.buf[c.begin : c.begin+offset+i], true, nil
		}
		offset = c.end - c.begin
		if c.eof {
			if offset == 0 {
				return nil, false, nil
			}
			return c.buf[c.begin:c.end], false, nil
		}
		if offset > csvMaxRecord {
			return nil, false, &csvError{line: c.line + 1, fatal: true, message: fmt.Sprintf(
				"the row that begins here has no end within %d bytes: is a quote never closed, or is this no CSV file?", csvMaxRecord)}
		}
		if err := c.fill(); err != nil {
			return nil, false, err
		}
	}
}

// consume steps over a record and its line end.
func (c *csvReader) consume(line []byte, terminated bool) csvRecord {
	record := csvRecord{line: c.line + 1, bytes: bytes.TrimSuffix(line, []byte{'\r'}), terminated: terminated}
	c.line += 1 + int64(bytes.Count(line, []byte{'\n'}))
	c.begin += len(line)
	c.read += int64(len(line))
	if terminated {
		c.begin++
		c.read++
	}
	return record
}

// nextQuoted finds the end of a record that has a quote in its first line.
func (c *csvReader) nextQuoted(line []byte, terminated bool) (_ csvRecord, err error) {
	column := 0
	// fail gives the record up, with the line that has been reached.
	fail := func(fatal bool, message string) (csvRecord, error) {
		return csvRecord{}, &csvError{line: c.consume(line, terminated).line, column: column, message: message, fatal: fatal}
	}
	const endsInQuotes = "the file ends inside quotes: it is cut off, or a quote is not closed"
	for at := 0; ; column++ {
		if at == len(line) || line[at] != '"' { // a value without quotes
			i := bytes.IndexByte(line[at:], ',')
			value := line[at:]
			if i >= 0 {
				value = value[:i]
			}
			if bytes.IndexByte(value, '"') >= 0 {
				return fail(false, "a quote inside a value that does not begin with one: put the value in quotes, and double the quotes in it")
			}
			if i < 0 {
				break
			}
			at += i + 1
			continue
		}
		for at++; ; at++ { // to the closing quote
			i := bytes.IndexByte(line[at:], '"')
			if i >= 0 {
				if at += i; at+1 < len(line) && line[at+1] == '"' {
					at++ // a doubled one
					continue
				}
				break
			}
			if at = len(line); !terminated {
				return fail(true, endsInQuotes)
			}
			// The value goes on after the line end.
			if line, terminated, err = c.physicalLine(at + 1); err != nil {
				return csvRecord{}, err
			}
			if len(line) == at+1 && !terminated {
				return fail(true, endsInQuotes)
			}
		}
		at++
		if at == len(line) || at == len(line)-1 && line[at] == '\r' {
			break
		}
		if line[at] != ',' {
			return fail(false, "something after the closing quote: double the quotes inside a value")
		}
		at++
	}
	record := c.consume(line, terminated)
	record.quoted = true
	return record, nil
}

// csvSplitter takes the values out of records. It is used by one goroutine.
type csvSplitter struct {
	fields [][]byte
	text   []byte // values that had doubled quotes
}

// split returns the values of a record. They are views of its bytes where they
// can be, and valid until the next call.
func (s *csvSplitter) split(record csvRecord) [][]byte {
	s.fields = s.fields[:0]
	if record.quoted {
		s.splitQuoted(record.bytes)
		return s.fields
	}
	for b := record.bytes; ; {
		i := bytes.IndexByte(b, ',')
		if i < 0 {
			s.fields = append(s.fields, b)
			return s.fields
		}
		s.fields = append(s.fields, b[:i])
		b = b[i+1:]
	}
}

// splitQuoted splits a record whose quotes are right.
func (s *csvSplitter) splitQuoted(b []byte) {
	s.text = s.text[:0]
	for {
		var value []byte
		if len(b) > 0 && b[0] == '"' {
			end, doubled := 1, false
			for {
				end += bytes.IndexByte(b[end:], '"')
				if end+1 == len(b) || b[end+1] != '"' {
					break
				}
				doubled = true
				end += 2
			}
			value = b[1:end]
			if doubled {
				value = s.undouble(value)
			}
			b = b[end+1:]
		} else {
			end := bytes.IndexByte(b, ',')
			if end < 0 {
				end = len(b)
			}
			value, b = b[:end], b[end:]
		}
		s.fields = append(s.fields, value)
		if len(b) == 0 {
			return
		}
		b = b[1:] // the comma
	}
}

// undouble returns a value with every doubled quote made one.
func (s *csvSplitter) undouble(value []byte) []byte {
	from := len(s.text)
	for {
		i := bytes.IndexByte(value, '"')
		if i < 0 {
			s.text = append(s.text, value...)
			return s.text[from:len(s.text):len(s.text)]
		}
		s.text = append(s.text, value[:i+1]...)
		value = value[i+2:]
	}
}
