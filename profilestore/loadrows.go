package profilestore

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"math"
	"slices"
	"sync"
	"sync/atomic"

	"rapport/profilestore/batchfile"
)

const (
	loadChunk = 1 << 20

	// packedWide stands before a scaled value of more than 4 bytes. Fixed widths
	// take more memory than varints, and let the encoder do without branches that
	// no processor predicts: a third of its time.
	packedWide = math.MinInt32
)

// loadColumn is a column of the file that feeds a field.
type loadColumn struct {
	field *Field
	texts textColumn
}

// loadPlan and loadStats are what parsing and keeping a value needs of its column:
// apart from the rest, because for 300 columns the rest is more than a processor's
// nearest cache holds.
type (
	loadPlan struct {
		form     rowForm
		texts    textForm
		decimals int8
		hops     int16 // that a text may have
	}
	loadStats struct {
		present  int64
		min, max int64 // of scaled values
		bytes    int64 // of texts
	}
)

// loadRows holds rows of a load between reading and writing, when the widths
// of the columns are not known yet. A row takes about the bytes of its final form
// and its key:
//
//	length of the key (uvarint), key, file (uvarint), line (uvarint)
//	a presence bit for each flag, and the flags: as a row has them
//	a presence bit for each other column, in words of 8 bytes
//	the values present: floats and times as 8 bytes; scaled ones as 4, or where
//	these don't hold it as packedWide and 8; texts as 4, which are twice a code,
//	or twice a length, plus one, and the text
//
// It is filled by one goroutine. Several are filled at the same time; one that holds
// no rows absorbs what is known of all of them as a whole.
type loadRows struct {
	columns []loadColumn
	plan    []loadPlan
	stats   []loadStats
	flags   int
	owner   int // whose texts the codes stand for: its place among the others, plus one
	count   int64
	keys    int64 // bytes of all keys
	// full says of each column if its texts are too many for a dictionary. It is
	// shared by those that are filled at the same time.
	full    []atomic.Bool
	chunks  [][]byte
	pool    *chunkPool // shared likewise
	others  []*loadRows
	refs    []loadRef
	cells   []rowCell // of the row parsed last
	record  []byte
	encoder *rowEncoder
}

// rowCell is a value of a row, as it was parsed.
type rowCell struct {
	present bool
	// num is a scaled integer, the bits of a float64, microseconds, or 1 for true.
	num  int64
	text []byte
}

// loadRef is where a row is.
type loadRef struct {
	prefix uint64 // of the key, after what all keys have in common
	chunk  uint32
	offset uint32
}

func newLoadRows(fields []*Field) *loadRows {
	r := &loadRows{
		columns: make([]loadColumn, len(fields)), plan: make([]loadPlan, len(fields)),
		stats: make([]loadStats, len(fields)), cells: make([]rowCell, len(fields)), full: make([]atomic.Bool, len(fields)), pool: new(chunkPool),
	}
	for i, f := range fields {
		column := newRowColumn(f)
		r.columns[i].field = f
		r.plan[i] = loadPlan{form: column.form(), decimals: int8(f.Decimals)}
		switch {
		case f.Type == TypeSet:
			r.plan[i].texts = setText
		case f.Bucket > 0:
			r.plan[i].texts, r.plan[i].hops = hopsText, int16(f.Window/f.Bucket)
		}
		r.stats[i] = loadStats{min: math.MaxInt64, max: math.MinInt64}
		if f.Type == TypeFlag {
			r.flags++
		}
	}
	return r
}

// parse reads the values of a record, of which the first is the customer, into cells
// and reports what is wrong with them; then the row is not to be kept.
func (r *loadRows) parse(record *batchfile.Record, w *readWorker) {
	for i, plan := range r.plan {
		value := record.Values[i+1]
		if n := len(value); n > 0 && (value[0]-'!' >= 0x80-'!' || value[n-1]-'!' >= 0x80-'!') {
			value = bytes.TrimSpace(value) // the ends are not plain ASCII
		}
		if len(value) == 0 {
			r.cells[i].present = false
			continue
		}
		if err := plan.parse(value, &r.cells[i]); err != nil {
			w.badValue(record, i+1, value, err.Error())
		}
	}
}

// parse reads a value into cell. A text is a view of value.
func (p loadPlan) parse(value []byte, cell *rowCell) (err error) {
	cell.present = true
	switch p.form {
	case rowFlag:
		var flag bool
		flag, err = parseFlag(value)
		cell.num = 0
		if flag {
			cell.num = 1
		}
	case rowScaled:
		cell.num, err = parseScaled(value, int(p.decimals))
	case rowFloat:
		var f float64
		f, err = parseFloat(value)
		cell.num = int64(math.Float64bits(f))
	case rowTime:
		cell.num, err = parseTime(value)
	case rowText, rowCode:
		switch p.texts {
		case plainText:
			cell.text, err = value, checkText(value)
		case setText:
			cell.text, err = parseSet(value)
			cell.present = len(cell.text) > 0
		case hopsText:
			cell.text, err = parseHops(value, int(p.decimals), int(p.hops))
		}
	}
	return err
}

// textForm is what a text of a row means.
type textForm uint8

const (
	plainText textForm = iota
	setText
	hopsText
)

// add keeps the row that was parsed last.
func (r *loadRows) add(at loadPlace, key string) {
	r.count++
	r.keys += int64(len(key))
	b := binary.AppendUvarint(r.record[:0], uint64(len(key)))
	b = append(b, key...)
	b = binary.AppendUvarint(b, uint64(at.part))
	b = binary.AppendUvarint(b, uint64(at.line))
	flags, words := r.bitmaps()
	present := len(b) // of flags
	values := present + flags
	others := values + flags
	b = append(b, make([]byte, 2*flags+8*words)...)
	flag, other := 0, 0
	for i := range r.columns {
		form, stats, cell := r.plan[i].form, &r.stats[i], &r.cells[i]
		if form == rowFlag {
			if cell.present {
				stats.present++
				b[present+flag/8] |= 1 << (flag % 8)
				b[values+flag/8] |= byte(cell.num) << (flag % 8)
			}
			flag++
			continue
		}
		other++
		if !cell.present {
			continue
		}
		b[others+(other-1)/8] |= 1 << ((other - 1) % 8)
		stats.present++
		switch form {
		case rowScaled:
			stats.min, stats.max = min(stats.min, cell.num), max(stats.max, cell.num)
			if narrow := int32(cell.num); int64(narrow) == cell.num && narrow != packedWide {
				b = binary.LittleEndian.AppendUint32(b, uint32(narrow))
				break
			}
			wide := int32(packedWide)
			b = binary.LittleEndian.AppendUint32(b, uint32(wide))
			b = binary.LittleEndian.AppendUint64(b, uint64(cell.num))
		case rowFloat, rowTime:
			b = binary.LittleEndian.AppendUint64(b, uint64(cell.num))
		case rowText, rowCode:
			stats.bytes += int64(len(cell.text))
			if code, ok := r.columns[i].texts.intern(cell.text, &r.full[i]); ok {
				b = binary.LittleEndian.AppendUint32(b, uint32(code)<<1)
				break
			}
			b = binary.LittleEndian.AppendUint32(b, uint32(len(cell.text))<<1|1)
			b = append(b, cell.text...)
		case rowFlag:
		}
	}
	r.record = b
	if n := len(r.chunks); n == 0 || len(r.chunks[n-1])+len(b) > cap(r.chunks[n-1]) {
		r.chunks = append(r.chunks, r.pool.get(len(b)))
	}
	last := &r.chunks[len(r.chunks)-1]
	r.refs = append(r.refs, loadRef{chunk: uint32(len(r.chunks) - 1), offset: uint32(len(*last))})
	*last = append(*last, b...)
}

// chunkPool holds the chunks that were cleared, for whoever fills rows next: if each kept
// its own, together they would hold as many times what they may as there are of them.
type chunkPool struct {
	mu   sync.Mutex
	free [][]byte
}

// get returns an empty chunk with room for so many bytes.
func (p *chunkPool) get(size int) []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.free); n > 0 && size <= loadChunk {
		chunk := p.free[n-1]
		p.free = p.free[:n-1]
		return chunk[:0]
	}
	return make([]byte, 0, max(loadChunk, size))
}

func (p *chunkPool) put(chunks [][]byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, chunk := range chunks {
		if cap(chunk) == loadChunk {
			p.free = append(p.free, chunk)
		}
	}
}

// clear forgets the rows, not what is known of them as a whole.
func (r *loadRows) clear() {
	r.pool.put(r.chunks)
	r.chunks, r.refs = r.chunks[:0], r.refs[:0]
}

// held returns the bytes of memory that the rows take.
func (r *loadRows) held() int64 { return int64(len(r.chunks))*loadChunk + int64(len(r.refs))*refBytes }

// bytes returns what they take together with the texts that codes stand for.
func (r *loadRows) bytes() int64 {
	n := r.held()
	for i := range r.columns {
		t := &r.columns[i].texts
		n += int64(t.bytes) + int64(len(t.texts))*16 + int64(len(t.codes))*internBytes
	}
	return n
}

const (
	refBytes    = 24 // a reference, with the room that slices grow by
	internBytes = 48 // likewise, an entry of a map of texts
)

// bitmaps returns the bytes of the flags' bits and the words of the others'.
func (r *loadRows) bitmaps() (flags, words int) {
	return (r.flags + 7) / 8, (len(r.columns) - r.flags + 63) / 64
}

// absorb adds what another knows of its rows, and the texts that their codes stand for.
func (r *loadRows) absorb(other *loadRows) {
	r.others = append(r.others, other)
	r.count += other.count
	r.keys += other.keys
	for i := range r.stats {
		a, b := &r.stats[i], &other.stats[i]
		*a = loadStats{present: a.present + b.present, min: min(a.min, b.min), max: max(a.max, b.max), bytes: a.bytes + b.bytes}
	}
}

// record returns a row.
func (r *loadRows) at(ref loadRef) []byte { return r.chunks[ref.chunk][ref.offset:] }

// key returns the key of a row.
func (r *loadRows) key(ref loadRef) []byte {
	b := r.at(ref)
	n, skip := binary.Uvarint(b)
	return b[skip : skip+int(n)]
}

// splitRow returns the key of a row, where it was, and, from its flags' bits on, the
// packed row.
func splitRow(b []byte) (key []byte, at loadPlace, packed []byte) {
	n, skip := binary.Uvarint(b)
	key, b = b[skip:skip+int(n)], b[skip+int(n):]
	part, skip := binary.Uvarint(b)
	line, more := binary.Uvarint(b[skip:])
	return key, loadPlace{int(part), int64(line)}, b[skip+more:]
}

// sort orders the rows by key, and those of one key by file and line. It compares
// eight bytes of each key at once and looks at the rows only where these are equal.
func (r *loadRows) sort() {
	if len(r.refs) == 0 {
		return
	}
	first := r.key(r.refs[0])
	common := len(first)
	for _, ref := range r.refs {
		key := r.key(ref)
		common = min(common, len(key))
		for common > 0 && !bytes.Equal(key[:common], first[:common]) {
			common--
		}
	}
	for i := range r.refs {
		var b [8]byte
		copy(b[:], r.key(r.refs[i])[common:])
		r.refs[i].prefix = binary.BigEndian.Uint64(b[:])
	}
	slices.SortFunc(r.refs, func(a, b loadRef) int {
		if a.prefix != b.prefix {
			return cmp.Compare(a.prefix, b.prefix)
		}
		keyA, atA, _ := splitRow(r.at(a))
		keyB, atB, _ := splitRow(r.at(b))
		return cmp.Or(bytes.Compare(keyA, keyB), atA.compare(atB))
	})
}

// uncount takes a row's values out of the counts.
func (r *loadRows) uncount(packed []byte) {
	flagBytes, _ := r.bitmaps()
	flag, other := 0, 8*2*flagBytes
	for i := range r.columns {
		bit := &other
		if r.plan[i].form == rowFlag {
			bit = &flag
		}
		if packed[*bit/8]&(1<<(*bit%8)) != 0 {
			r.stats[i].present--
		}
		*bit++
	}
}

// values returns how many values the rows have.
func (r *loadRows) values() (n int64) {
	for i := range r.stats {
		n += r.stats[i].present
	}
	return n
}

// layout returns the narrowest layout that holds the rows, and prepares the
// encoder for it.
func (r *loadRows) layout() (*rowLayout, error) {
	l := &rowLayout{Format: rowFormat, Columns: make([]rowColumn, len(r.columns))}
	var longest int64 // all texts of a row
	for i := range r.columns {
		f, stats := r.columns[i].field, r.stats[i]
		column := newRowColumn(f)
		switch r.plan[i].form {
		case rowFlag:
		case rowFloat, rowTime:
			column.Width = 8
		case rowScaled:
			column.Width = 1
			if stats.min <= stats.max {
				column.Width = signedWidth(stats.min, stats.max)
			}
		case rowText, rowCode:
			if texts, ok := r.dictionary(i); ok {
				column.Dictionary, column.Width = texts, unsignedWidth(int64(len(texts)-1))
				break
			}
			most := 0
			for _, c := range r.textsOf(i) {
				most = max(most, c.longest)
			}
			longest += int64(most)
			l.TextWidth = unsignedWidth(longest)
		}
		l.Columns[i] = column
	}
	if err := l.seal(); err != nil {
		return nil, err
	}
	r.encoder = newRowEncoder(l, r)
	return l, nil
}
