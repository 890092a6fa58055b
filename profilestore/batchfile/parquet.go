package batchfile

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"slices"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"
)

const (
	// maxFooter bounds the description of a Parquet file, maxPage a page in memory,
	// maxPages a page of every column at once, which is what reading rows takes, and
	// maxPageValues the values of a page, of which equal ones take no room in a file.
	// What writers make by default is far below: pages of a megabyte.
	maxFooter     = 256 << 20
	maxPage       = 256 << 20
	maxPages      = 1 << 30
	maxPageValues = 16 << 20
	// maxListValues bounds the elements of the lists of one column in a batch.
	maxListValues = 4 << 20
)

// parquetReader reads the rows of a Parquet file: of each column that is wanted, page
// by page, and nothing of the others. The library panics on files that are not as
// they should be; that is returned as an error.
type parquetReader struct {
	file    *parquet.File
	input   *counted
	size    int64
	columns []parquetColumn
	group   int   // the row group that comes next
	left    int64 // rows of the present one
	row     int64 // rows so far
	total   int64
	batch   int // rows of a batch
}

// parquetColumn is a column that is wanted.
type parquetColumn struct {
	Column
	parquetType
	leaf int // its number in a row group

	pages  parquet.Pages
	page   parquet.Page
	values parquet.ValueReader
	ahead  []parquet.Value // of a list: read, and not yet in a batch
	buffer [128]parquet.Value
}

// parquetRows are the rows of a batch.
type parquetRows struct {
	n       int
	first   int64 // the number of the first, from 1
	columns []parquetValues
}

type parquetValues struct {
	values []parquet.Value
	starts []int32 // of a list: where each row begins
}

func (r *parquetRows) reset() {
	r.n = 0
	for i := range r.columns {
		c := &r.columns[i]
		c.values, c.starts = c.values[:0], c.starts[:0]
	}
}

// guarded calls fn and returns what it panics with as an error, also a fault of the
// library's assembly code.
func guarded(fn func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = fileError("the file is damaged: reading it panicked: %.200v", r)
		}
	}()
	return fn()
}

// openParquet opens a file that begins with PAR1.
func openParquet(file *os.File, size int64, input *counted) (r *parquetReader, err error) {
	var end [8]byte
	if size >= 12 {
		if _, err := file.ReadAt(end[:], size-8); err != nil {
			return nil, err
		}
	}
	if string(end[4:]) != "PAR1" {
		return nil, fileError("the file begins as a Parquet file and does not end as one: it is cut off")
	}
	if n := int64(binary.LittleEndian.Uint32(end[:])); n > min(size-12, maxFooter) {
		return nil, fileError("the file is damaged: a description of %d bytes at its end", n)
	}
	r = &parquetReader{input: input, size: size}
	err = guarded(func() error {
		r.file, err = parquet.OpenFile(file, size, parquet.SkipPageIndex(true), parquet.SkipBloomFilters(true))
		if err != nil {
			return fileError("the file is damaged, or of a kind that can't be read: %v", err)
		}
		for i, g := range r.file.Metadata().RowGroups {
			if g.NumRows < 0 || g.NumRows > 1<<40 {
				return fileError("the file is damaged: row group %d has %d rows", i+1, g.NumRows)
			}
			r.total += g.NumRows
		}
		if n := r.file.Metadata().NumRows; n != r.total {
			return fileError("the file is damaged: it has %d rows, and its row groups %d", n, r.total)
		}
		return nil
	})
	return r, err
}

func (r *parquetReader) rows() int64 { return r.total }

func (r *parquetReader) names() []string {
	names := []string{}
	for _, c := range r.file.Root().Columns() {
		names = append(names, c.Name())
	}
	return names
}

func (r *parquetReader) want(columns []Column) (problems []Problem) {
	r.columns = make([]parquetColumn, len(columns))
	err := guarded(func() error {
		for i, c := range columns {
			p := &r.columns[i]
			p.Column = c
			for _, in := range r.file.Root().Columns() {
				if in.Name() != c.Name {
					continue
				}
				var message string
				if p.parquetType, p.leaf, message = columnType(in, c.Kind); message != "" {
					problems = append(problems, Problem{Column: i, Message: message})
				}
			}
		}
		return nil
	})
	if bad, ok := errors.AsType[*Error](err); ok {
		problems = append(problems, bad.Problem)
	}
	r.batch = max(16, min(4096, 1<<16/max(1, len(columns))))
	return problems
}

func (r *parquetReader) next(b *Batch) error {
	for r.left == 0 {
		if r.group == len(r.file.RowGroups()) {
			return io.EOF
		}
		if err := guarded(r.begin); err != nil {
			return err
		}
	}
	n := int(min(r.left, int64(r.batch)))
	if b.rows.columns == nil {
		b.rows.columns = make([]parquetValues, len(r.columns))
	}
	err := guarded(func() error {
		for i := range r.columns {
			c := &r.columns[i]
			if err := c.read(n, &b.rows.columns[i], b); err != nil {
				if _, known := errors.AsType[*Error](err); known {
					return err
				}
				return fileError("the file is damaged: column %q, after row %d: %v", c.Name, r.row, err)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	b.rows.n, b.rows.first = n, r.row+1
	r.left -= int64(n)
	r.row += int64(n)
	r.input.n = int64(float64(r.size) * float64(r.row) / float64(r.total))
	return nil
}

// begin begins the next row group.
func (r *parquetReader) begin() error {
	group := r.file.RowGroups()[r.group]
	chunks := group.ColumnChunks()
	meta := r.file.Metadata().RowGroups[r.group]
	r.group++
	r.left = meta.NumRows
	if r.left == 0 {
		return nil
	}
	pages := int64(0)
	for i := range r.columns {
		c := &r.columns[i]
		c.close()
		if c.leaf >= len(meta.Columns) || c.leaf >= len(chunks) {
			return fileError("the file is damaged: row group %d has no column %q", r.group, c.Name)
		}
		largest, err := r.scan(&meta.Columns[c.leaf])
		if err != nil {
			return fileError("the file is damaged: column %q of row group %d: %v", c.Name, r.group, err)
		}
		pages += largest
		c.pages = chunks[c.leaf].Pages()
	}
	if pages > maxPages {
		return fileError("a page of each column takes %d MiB of memory, the limit is %d: write smaller pages or row groups", pages>>20, maxPages>>20)
	}
	return nil
}

// scan reads the headers of a column's pages, which say how much memory they take,
// before anything believes them. It returns that of the largest, the column's
// dictionary included.
func (r *parquetReader) scan(chunk *format.ColumnChunk) (largest int64, err error) {
	m := &chunk.MetaData
	if chunk.FilePath != "" {
		return 0, errors.New("it is in another file")
	}
	at := m.DataPageOffset
	if m.DictionaryPageOffset > 0 {
		at = min(at, m.DictionaryPageOffset)
	}
	end := at + m.TotalCompressedSize
	if at < 4 || m.TotalCompressedSize < 0 || end > r.size {
		return 0, fmt.Errorf("it lies at bytes %d to %d of %d", at, end, r.size)
	}
	var protocol thrift.CompactProtocol
	dictionary, values := int64(0), int64(0)
	buffered := bufio.NewReaderSize(nil, 4<<10)
	for at < end && values < m.NumValues {
		section := io.NewSectionReader(r.file, at, end-at)
		buffered.Reset(section)
		var h format.PageHeader
		if err := thrift.NewDecoder(protocol.NewReader(buffered)).Decode(&h); err != nil {
			return 0, fmt.Errorf("the page at byte %d: %w", at, err)
		}
		consumed, _ := section.Seek(0, io.SeekCurrent)
		at += consumed - int64(buffered.Buffered()) + int64(h.CompressedPageSize)
		count := int64(h.DataPageHeader.V.NumValues) + int64(h.DataPageHeaderV2.V.NumValues)
		memory := int64(h.UncompressedPageSize) + int64(h.CompressedPageSize)
		if h.Type == format.DictionaryPage {
			count, dictionary = int64(h.DictionaryPageHeader.V.NumValues), memory
		} else {
			values += count
		}
		switch {
		case h.CompressedPageSize < 0 || h.UncompressedPageSize < 0 || count < 0 || at > end:
			return 0, errors.New("a page that does not lie in it")
		case memory > maxPage || count > maxPageValues:
			return 0, fmt.Errorf("a page of %d values and %d MiB, the limits are %d and %d", count, memory>>20, maxPageValues, maxPage>>20)
		}
		largest = max(largest, memory+count)
	}
	return largest + dictionary, nil
}

// read reads the values of n rows into out. What they hold is copied into the batch.
func (c *parquetColumn) read(n int, out *parquetValues, b *Batch) error {
	if c.never {
		return nil
	}
	if c.list {
		return c.readLists(n, out, b)
	}
	if cap(out.values) < n {
		out.values = make([]parquet.Value, 0, n)
	}
	for len(out.values) < n {
		got, err := c.some(out.values[len(out.values):n])
		if err != nil {
			return err
		}
		out.values = out.values[:len(out.values)+got]
		c.keep(out.values[len(out.values)-got:], b)
	}
	return nil
}

// readLists reads a column of which a row has any number of values: one that begins a
// row has the repetition level 0. A row may go on in the next page.
func (c *parquetColumn) readLists(n int, out *parquetValues, b *Batch) error {
	for {
		for i, v := range c.ahead {
			if v.RepetitionLevel() == 0 {
				if len(out.starts) == n {
					c.ahead = c.ahead[i:]
					return nil
				}
				out.starts = append(out.starts, int32(len(out.values)))
			}
			if len(out.starts) == 0 {
				return errors.New("it begins within a list")
			}
			if len(out.values) >= maxListValues {
				return errors.New("its lists are too long")
			}
			c.keep(c.ahead[i:i+1], b)
			out.values = append(out.values, c.ahead[i])
		}
		got, err := c.some(c.buffer[:])
		c.ahead = c.buffer[:got]
		if errors.Is(err, io.ErrUnexpectedEOF) && len(out.starts) == n {
			return nil // the last row of the row group
		}
		if err != nil {
			return err
		}
	}
}

// some reads at least one value, and as many as there is room for and the page has.
func (c *parquetColumn) some(to []parquet.Value) (int, error) {
	for {
		if c.values == nil {
			page, err := c.pages.ReadPage()
			if errors.Is(err, io.EOF) {
				return 0, io.ErrUnexpectedEOF
			}
			if err != nil {
				return 0, err
			}
			c.page, c.values = page, page.Values()
		}
		n, err := c.values.ReadValues(to)
		if err != nil && !errors.Is(err, io.EOF) {
			return 0, err
		}
		if n > 0 {
			return n, nil
		}
		if err == nil {
			return 0, errors.New("a page gives no values")
		}
		parquet.Release(c.page)
		c.page, c.values = nil, nil
	}
}

// keep copies the bytes of values, which are views of a page, into the batch.
func (c *parquetColumn) keep(values []parquet.Value, b *Batch) {
	if !c.bytes {
		return
	}
	for i, v := range values {
		if v.IsNull() {
			continue
		}
		begin := len(b.data)
		b.data = append(b.data, v.ByteArray()...)
		kept := b.data[begin:len(b.data):len(b.data)]
		values[i] = parquet.ByteArrayValue(kept).Level(v.RepetitionLevel(), v.DefinitionLevel(), 0)
	}
}

func (c *parquetColumn) close() {
	if c.page != nil {
		parquet.Release(c.page)
	}
	if c.pages != nil {
		_ = c.pages.Close() // it was only read
	}
	c.page, c.values, c.pages, c.ahead = nil, nil, nil, nil
}

func (r *parquetReader) decoder() decoder { return &parquetDecoder{columns: r.columns} }

// parquetDecoder makes texts of the values of rows.
type parquetDecoder struct {
	columns []parquetColumn
	text    []byte
	ends    []int32
}

func (d *parquetDecoder) met() ([]bool, []string) { return nil, nil }

func (d *parquetDecoder) decode(b *Batch, i int, r *Record) {
	r.Line = b.rows.first + int64(i)
	d.text, d.ends = d.text[:0], d.ends[:0]
	for j := range d.columns {
		c, in := &d.columns[j], &b.rows.columns[j]
		switch {
		case c.never:
		case c.list:
			end := len(in.values)
			if i+1 < len(in.starts) {
				end = int(in.starts[i+1])
			}
			d.list(c, in.values[in.starts[i]:end], j, r)
		case c.bytes && c.append == nil:
			// The text is in the batch, and stays there.
			if v := &in.values[i]; !v.IsNull() {
				r.Values[j] = v.ByteArray()
			} else {
				r.Values[j] = nil
			}
			d.ends = append(d.ends, -1)
			continue
		default:
			if v := &in.values[i]; !v.IsNull() {
				d.text = c.append(d.text, *v)
			}
		}
		d.ends = append(d.ends, int32(len(d.text)))
	}
	begin := int32(0)
	for j, end := range d.ends { // now that they do not move any more
		if end >= 0 {
			r.Values[j] = d.text[begin:end]
			begin = end
		}
	}
}

// list writes a list as a CSV file has it.
func (d *parquetDecoder) list(c *parquetColumn, values []parquet.Value, column int, r *Record) {
	written := 0
	begin := len(d.text)
	for _, v := range values {
		if v.IsNull() && v.DefinitionLevel() < c.element {
			continue // no list, or an empty one
		}
		if written++; written > 1 {
			d.text = append(d.text, ';')
		}
		if v.IsNull() {
			continue
		}
		from := len(d.text)
		if c.append == nil {
			d.text = append(d.text, v.ByteArray()...)
		} else {
			d.text = c.append(d.text, v)
		}
		if slices.Contains(d.text[from:], ';') {
			r.Problems = append(r.Problems, Problem{
				Line: r.Line, Column: column, Value: string(d.text[from:min(len(d.text), from+100)]),
				Message: "has an element with a semicolon, which stands between the elements",
			})
			d.text = d.text[:begin]
			return
		}
	}
}

// raw returns the columns of a row that are wanted, as JSON.
func (d *parquetDecoder) raw(b *Batch, i int) []byte {
	var r Record
	r.Values = make([][]byte, len(d.columns))
	d.decode(b, i, &r)
	out := []byte{'{'}
	for j := range d.columns {
		if j > 0 {
			out = append(out, ',')
		}
		name, _ := json.Marshal(d.columns[j].Name)
		out = append(append(out, name...), ':')
		value := []byte("null")
		if len(r.Values[j]) > 0 {
			value, _ = json.Marshal(string(r.Values[j]))
		}
		out = append(out, value...)
	}
	return append(out, '}')
}
