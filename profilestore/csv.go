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

// csvReader reads comma-separated records as RFC 4180 has them, with UTF-8 in
// them: lines end with \n or \r\n, a value with commas, quotes or line ends is in
// quotes, a quote in it is doubled. Empty lines are passed over.
//
// It exists beside encoding/csv for three reasons: it goes on after a bad record
// at the next line, knows whether the last record had its line end (a file that
// was cut off has not), and bounds a record. It copies nothing, which makes it
// three times as fast on wide rows (BenchmarkCSV). A test compares the two.
type csvReader struct {
	r      io.Reader
	buf    []byte
	begin  int // of what is not yet consumed in buf
	end    int
	eof    bool
	line   int64 // lines consumed
	read   int64 // bytes consumed
	fields [][]byte
	spans  []csvSpan
	text   []byte // values that had doubled quotes
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

// csvRecord is a record: the line on which it begins, and its values, which are
// valid until the next call of next.
type csvRecord struct {
	line   int64
	fields [][]byte
	// terminated is false for a last record without line end.
	terminated bool
}

// next returns the next record, io.EOF after the last, or a *csvError.
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
			return c.nextQuoted()
		}
		number := c.consume(len(line), terminated)
		line = bytes.TrimSuffix(line, []byte{'\r'})
		if len(line) == 0 {
			continue
		}
		c.fields = splitCSV(c.fields[:0], line)
		return csvRecord{line: number, fields: c.fields, terminated: terminated}, nil
	}
}

// splitCSV appends the values of a line without quotes.
func splitCSV(dst [][]byte, line []byte) [][]byte {
	for {
		i := bytes.IndexByte(line, ',')
		if i < 0 {
			return append(dst, line)
		}
		dst = append(dst, line[:i])
		line = line[i+1:]
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

// consume steps over n bytes, and the line end if there is one, and returns the
// number of the line they begin on.
func (c *csvReader) consume(n int, terminated bool) int64 {
	number := c.line + 1
	if terminated {
		n++
	}
	c.line += int64(bytes.Count(c.buf[c.begin:c.begin+n], []byte{'\n'}))
	if !terminated {
		c.line++
	}
	c.begin += n
	c.read += int64(n)
	return number
}

// csvSpan is where a value is, from the beginning of its record.
type csvSpan struct {
	from, to int
	doubled  bool // it has doubled quotes
}

// nextQuoted reads a record that has a quote somewhere.
func (c *csvReader) nextQuoted() (csvRecord, error) {
	c.spans = c.spans[:0]
	line, terminated, err := c.physicalLine(0)
	if err != nil {
		return csvRecord{}, err
	}
	for at := 0; ; {
		if at == len(line) || line[at] != '"' { // a value without quotes
			to := len(line)
			if i := bytes.IndexByte(line[at:], ','); i >= 0 {
				to = at + i
			}
			if bytes.IndexByte(line[at:to], '"') >= 0 {
				return c.fail(len(line), terminated, "a quote inside a value that does not begin with one: put the value in quotes, and double the quotes in it")
			}
			if to == len(line) {
				to -= len(line[at:]) - len(bytes.TrimSuffix(line[at:], []byte{'\r'}))
				c.spans = append(c.spans, csvSpan{from: at, to: to})
				break
			}
			c.spans = append(c.spans, csvSpan{from: at, to: to})
			at = to + 1
			continue
		}
		span := csvSpan{from: at + 1}
		for at++; ; at++ { // to the closing quote
			i := bytes.IndexByte(line[at:], '"')
			if i >= 0 {
				at += i
				if at+1 < len(line) && line[at+1] == '"' {
					span.doubled = true
					at++
					continue
				}
				break
			}
			if at = len(line); !terminated {
				return c.failInQuotes(len(line))
			}
			// The value goes on after the line end.
			if line, terminated, err = c.physicalLine(at + 1); err != nil {
				return csvRecord{}, err
			}
			if len(line) == at+1 && !terminated {
				return c.failInQuotes(len(line))
			}
		}
		rest := line[at+1:]
		last := len(rest) == 0 || len(rest) == 1 && rest[0] == '\r'
		if !last && rest[0] != ',' {
			return c.fail(len(line), terminated, "something after the closing quote: double the quotes inside a value")
		}
		span.to = at
		c.spans = append(c.spans, span)
		if last {
			break
		}
		at += 2
	}
	number := c.consume(len(line), terminated)
	c.fields, c.text = c.fields[:0], c.text[:0]
	for _, span := range c.spans {
		value := line[span.from:span.to]
		if span.doubled {
			value = c.undouble(value)
		}
		c.fields = append(c.fields, value)
	}
	return csvRecord{line: number, fields: c.fields, terminated: terminated}, nil
}

// undouble returns a value with every doubled quote made one.
func (c *csvReader) undouble(value []byte) []byte {
	from := len(c.text)
	for {
		i := bytes.IndexByte(value, '"')
		if i < 0 {
			c.text = append(c.text, value...)
			return c.text[from:len(c.text):len(c.text)]
		}
		c.text = append(c.text, value[:i+1]...)
		value = value[i+2:]
	}
}

// fail gives up the record that ends with the next n bytes.
func (c *csvReader) fail(n int, terminated bool, message string) (csvRecord, error) {
	return csvRecord{}, &csvError{line: c.consume(n, terminated), column: len(c.spans), message: message}
}

func (c *csvReader) failInQuotes(n int) (csvRecord, error) {
	return csvRecord{}, &csvError{
		line: c.consume(n, false), column: len(c.spans), fatal: true,
		message: "the file ends inside quotes: it is cut off, or a quote is not closed",
	}
}
