package batchfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// Format is how a file holds its records.
type Format string

// The formats.
const (
	Auto    Format = "" // what the file's first bytes say
	CSV     Format = "csv"
	NDJSON  Format = "ndjson"
	Parquet Format = "parquet"
)

// ParseFormat returns the format of a name; that of "" and "auto" is Auto.
func ParseFormat(name string) (Format, error) {
	switch f := Format(strings.ToLower(name)); f {
	case Auto, CSV, NDJSON, Parquet:
		return f, nil
	case "auto":
		return Auto, nil
	}
	return Auto, fmt.Errorf("%q is not a format: use csv, ndjson, parquet or auto", name)
}

// Kind is what a column is to be read as.
type Kind uint8

// The kinds of columns.
const (
	Key  Kind = iota // a text, or a whole number
	Flag             // true or false
	Number
	Time
	Text
	Set  // texts; as one text they have semicolons between
	Hops // numbers, likewise
)

func (k Kind) list() bool { return k == Set || k == Hops }

// Column is a column that is wanted of a file.
type Column struct {
	Name string
	Kind Kind
}

// Problem is a mistake in a file.
type Problem struct {
	Line    int64  // on which the record begins, or the number of a Parquet file's row; both from 1; 0 for the file
	Column  int    // among those that are wanted, or −1
	Name    string // of a column, if Column is −1 and it is about one
	Value   string // as it is in the file, its beginning; empty for a whole record
	Message string // what is wrong and what to do
	// Cut says that the record may be incomplete. If it is the last one, the file was
	// cut off.
	Cut bool
}

// Error is a mistake after which nothing can be read of a file.
type Error struct{ Problem }

// Error returns the message, after the line.
func (e *Error) Error() string {
	if e.Line > 0 {
		return fmt.Sprintf("line %d: %s", e.Line, e.Message)
	}
	return e.Message
}

func fileError(format string, args ...any) *Error {
	return &Error{Problem{Column: -1, Message: fmt.Sprintf(format, args...)}}
}

// Batch is a stretch of a file's records on its way to whoever takes them apart.
type Batch struct {
	data    []byte
	records []record // their bytes are in data
	rows    parquetRows
}

// batchBytes is about how much a batch holds.
const batchBytes = 256 << 10

// NewBatch returns an empty batch.
func NewBatch() *Batch { return &Batch{data: make([]byte, 0, batchBytes)} }

// Len returns how many records there are.
func (b *Batch) Len() int { return max(len(b.records), b.rows.n) }

// LastLine returns the line of the last record; see Problem.
func (b *Batch) LastLine() int64 {
	if b.rows.n > 0 {
		return b.rows.first + int64(b.rows.n) - 1
	}
	return b.records[len(b.records)-1].line
}

func (b *Batch) reset() {
	b.data, b.records = b.data[:0], b.records[:0]
	b.rows.reset()
}

func (b *Batch) add(r record) {
	begin := len(b.data)
	b.data = append(b.data, r.bytes...)
	r.bytes = b.data[begin:]
	b.records = append(b.records, r)
}

func (b *Batch) room(r record) bool {
	return len(b.records) == 0 || len(b.data)+len(r.bytes) <= cap(b.data)
}

// record is a record of a text format as it is in the file, without its line end.
type record struct {
	line    int64 // on which it begins
	bytes   []byte
	quoted  bool     // there are quotes in it, and they are right
	problem *Problem // it can't be taken apart
}

// Record is what a record holds. It is valid until the next one is decoded.
type Record struct {
	Line     int64     // see Problem
	Values   [][]byte  // of the columns that are wanted; empty if absent
	Problems []Problem // then not all values are there
}

// reader finds the records of a format. Its methods are called by one goroutine.
type reader interface {
	// names returns the names of the file's columns, nil if it has no list of them.
	names() []string
	// want says which columns are to be decoded, and returns what is wrong with their
	// types.
	want(columns []Column) []Problem
	// next fills an empty batch, or returns io.EOF.
	next(b *Batch) error
	// decoder returns what takes batches apart, for one goroutine.
	decoder() decoder
	// rows returns how many records there are, or −1 if nobody knows yet.
	rows() int64
}

type decoder interface {
	decode(b *Batch, i int, r *Record)
	// raw returns the record as it is in the file, or as JSON if that is no text.
	raw(b *Batch, i int) []byte
	// met returns which of the wanted columns were there, and which others: nil if
	// that was known from the beginning.
	met() (wanted []bool, others []string)
}

// File is an open batch file.
//
// It is read by one goroutine: Names, Want, and then Next until io.EOF. Batches are
// taken apart by decoders, each of which belongs to one goroutine.
type File struct {
	Path        string
	Format      Format
	Compression string // "gzip", "zstd" or ""
	Size        int64  // of the file

	file    *os.File
	input   *counted
	close   func()
	reader  reader
	columns []Column

	mu     sync.Mutex
	met    []bool
	others []string
}

// Open opens a file. The error is an *Error if the file is not what it should be.
func Open(path string, format Format) (_ *File, err error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	f := &File{Path: path, Format: format, file: file, input: &counted{r: file}, close: func() {}}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a file", path)
	}
	f.Size = info.Size()
	head := make([]byte, 512)
	n, err := file.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	head = head[:n]
	switch {
	case bytes.HasPrefix(head, []byte("PAR1")) && (format == Auto || format == Parquet):
		f.Format = Parquet
		f.reader, err = openParquet(file, f.Size, f.input)
		return f, err
	case format == Parquet:
		return nil, fileError("is not a Parquet file: these begin with PAR1")
	}
	text, err := f.unpack(head)
	if err != nil {
		return nil, err
	}
	lines, err := newLines(text)
	if err != nil {
		return nil, f.damage(err)
	}
	if err := f.openText(lines); err != nil {
		return nil, f.damage(err)
	}
	return f, nil
}

// magics are the beginnings of files that are none of the formats.
var magics = []struct {
	begin, what string
	text        bool // a column may be called so: then a zero has to follow
}{
	{"PAR1", "a Parquet file", true},
	{"PK\x03\x04", "a ZIP file, or one of a spreadsheet: unpack it, or save it as CSV UTF-8", false},
	{"BZh", "compressed with bzip2: unpack it, or use gzip or zstd", true},
	{"\xfd7zXZ\x00", "compressed with xz: unpack it, or use gzip or zstd", false},
	{"\x04\x22\x4d\x18", "compressed with lz4: unpack it, or use gzip or zstd", false},
	{"\x1f\x8b", "compressed twice: unpack it once", false},
	{"\x28\xb5\x2f\xfd", "compressed twice: unpack it once", false},
	{"ORC", "an ORC file: use Parquet, NDJSON or CSV", true},
	{"Obj\x01", "an Avro file: use Parquet, NDJSON or CSV", false},
	{"\xd0\xcf\x11\xe0", "one of a spreadsheet: save it as CSV UTF-8", false},
	{"%PDF", "a PDF file", true},
	{"\xff\xfe", "UTF-16, not UTF-8: save it as \"CSV UTF-8\"", false},
	{"\xfe\xff", "UTF-16, not UTF-8: save it as \"CSV UTF-8\"", false},
}

// maxWindow bounds what a zstd file may need of memory: that of zstd --long.
const maxWindow = 128 << 20

// unpack returns the text of a file that begins with head.
func (f *File) unpack(head []byte) (io.Reader, error) {
	switch {
	case bytes.HasPrefix(head, []byte("\x1f\x8b")):
		f.Compression = "gzip"
		z, err := gzip.NewReader(f.input)
		if err != nil {
			return nil, f.damage(err)
		}
		return z, nil
	case len(head) >= 4 && (bytes.HasPrefix(head, []byte("\x28\xb5\x2f\xfd")) || head[0]&0xf0 == 0x50 && string(head[1:4]) == "\x2a\x4d\x18"):
		f.Compression = "zstd"
		z, err := zstd.NewReader(f.input, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderLowmem(true))
		if err != nil {
			return nil, f.damage(err)
		}
		f.close = z.Close
		return z, nil
	}
	return f.input, nil
}

// openText decides of which format a text is.
func (f *File) openText(l *lines) error {
	head := l.peek()
	binary := bytes.IndexByte(head, 0) >= 0
	for _, m := range magics {
		if !bytes.HasPrefix(head, []byte(m.begin)) || m.text && !binary {
			continue
		}
		switch {
		case f.Compression == "" && m.begin == "PAR1":
			return fileError("the file is %s, not %s", m.what, strings.ToUpper(string(f.Format)))
		case f.Compression != "" && m.begin == "PAR1":
			return fileError("the file is %s that was compressed as a whole: unpack it first, Parquet is compressed inside", m.what)
		}
		return fileError("the file is %s", m.what)
	}
	text := bytes.TrimLeft(head, " \t\r\n")
	array := bytes.HasPrefix(text, []byte("[")) && bytes.HasPrefix(bytes.TrimLeft(text[1:], " \t\r\n"), []byte("{"))
	if array && f.Format != CSV {
		return fileError("the file is one JSON array: write one object a line, without brackets and commas around them (jq -c '.[]' does)")
	}
	if f.Format == Auto {
		switch {
		case len(text) == 0:
			f.Format = formatOfName(f.Path)
		case text[0] == '{':
			f.Format = NDJSON
		default:
			f.Format = CSV
		}
	}
	if f.Format == NDJSON {
		f.reader = &ndjsonReader{lines: l}
		return nil
	}
	c := &csvReader{lines: l}
	f.reader = c
	return c.readHeader()
}

// formatOfName returns the format that the name of an empty file tells.
func formatOfName(path string) Format {
	name := strings.ToLower(filepath.Base(path))
	for _, ending := range []string{".gz", ".gzip", ".zst", ".zstd"} {
		name = strings.TrimSuffix(name, ending)
	}
	switch filepath.Ext(name) {
	case ".ndjson", ".jsonl", ".json":
		return NDJSON
	}
	return CSV
}

// damage makes an *Error of one that says that the bytes of a file make no sense;
// one of the disk stays what it is.
func (f *File) damage(err error) error {
	_, known := errors.AsType[*Error](err)
	switch {
	case err == nil || known || errors.Is(err, io.EOF) && f.Compression == "":
		return err
	case f.input.err != nil:
		return fmt.Errorf("%s: %w", f.Path, f.input.err)
	case errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF):
		return fileError("the file is cut off: its %s data has no end", f.Compression)
	case errors.Is(err, zstd.ErrWindowSizeExceeded) || errors.Is(err, zstd.ErrDecoderSizeExceeded):
		return fileError("the file needs more than %d MiB of memory to unpack: compress it without --long or --ultra", maxWindow>>20)
	case f.Compression != "":
		return fileError("the file is damaged: its %s data can't be unpacked: %v", f.Compression, err)
	}
	return fmt.Errorf("%s: %w", f.Path, err)
}

// Names returns the names of the file's columns; nil for NDJSON, which has them in
// every record.
func (f *File) Names() []string { return f.reader.names() }

// Want says which columns are to be decoded. All of them are among Names, if there
// are any. It returns a problem for each column whose type does not fit.
func (f *File) Want(columns []Column) []Problem {
	f.columns = columns
	return f.reader.want(columns)
}

// Rows returns how many records the file has, or −1 if only reading it can tell.
func (f *File) Rows() int64 { return f.reader.rows() }

// Read returns how many bytes of the file have been read.
func (f *File) Read() int64 { return min(f.input.n, f.Size) }

// Next replaces what is in the batch by the next records. The error is io.EOF after
// the last, and an *Error if the file is not what it should be.
func (f *File) Next(b *Batch) error {
	b.reset()
	err := f.reader.next(b)
	if errors.Is(err, io.EOF) {
		return io.EOF
	}
	return f.damage(err)
}

// Met returns which of the wanted columns were there, and the names of others, as far
// as decoders that were closed have met them; nil for a file that has Names.
func (f *File) Met() (wanted []bool, others []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.met, f.others
}

// Close closes the file.
func (f *File) Close() {
	f.close()
	_ = f.file.Close() // it was only read
}

// Decoder takes records apart.
type Decoder struct {
	file    *File
	decoder decoder
	record  Record
}

// NewDecoder returns a decoder, after Want.
func (f *File) NewDecoder() *Decoder {
	return &Decoder{file: f, decoder: f.reader.decoder(), record: Record{Values: make([][]byte, len(f.columns))}}
}

// Decode takes a record of a batch apart, in ascending order of them.
func (d *Decoder) Decode(b *Batch, i int) *Record {
	d.record.Problems = d.record.Problems[:0]
	d.decoder.decode(b, i, &d.record)
	return &d.record
}

// Raw returns a record of a batch as it is in the file; a row of a Parquet file as
// JSON.
func (d *Decoder) Raw(b *Batch, i int) []byte { return d.decoder.raw(b, i) }

// Close ends the use of the decoder.
func (d *Decoder) Close() {
	met, others := d.decoder.met()
	if met == nil {
		return
	}
	d.file.mu.Lock()
	defer d.file.mu.Unlock()
	if d.file.met == nil {
		d.file.met = make([]bool, len(met))
	}
	for i, m := range met {
		d.file.met[i] = d.file.met[i] || m
	}
	for _, name := range others {
		if len(d.file.others) < maxOthers && !contains(d.file.others, name) {
			d.file.others = append(d.file.others, name)
		}
	}
}

// maxOthers bounds how many names of columns that nobody wants are kept.
const maxOthers = 1000

func contains(names []string, name string) bool {
	return slices.Contains(names, name)
}

// counted counts what is read of a file.
type counted struct {
	r   io.Reader
	n   int64
	err error
}

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n += int64(n)
	if err != nil && !errors.Is(err, io.EOF) {
		c.err = err
	}
	return n, err
}
