package profilestore

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

const (
	rowFormat = 1 // the first byte of every row
	rowHead   = 5 // bytes before the presence bits: format and layout id

	// maxRowColumns bounds a layout, so that offsets stay small.
	maxRowColumns = 16384
)

// rowLayout says where the rows of one snapshot keep each field. It is sealed in
// the snapshot's manifest with its dictionaries, so rows can be read whatever
// has become of the schema since. It is immutable once sealed, and safe for
// concurrent use.
//
//	format      1 byte
//	layout id   4 bytes, the first of the layout's hash
//	presence    1 bit a column, by class and then in schema order; the lowest bit
//	            of the first byte first; at least 3 bytes
//	flags       1 bit a flag, in the same order
//	columns     only those present: all of 1 byte, then of 2, 3, 4 and 8 bytes,
//	            little-endian; then for each text its end in what follows
//	texts       one after the other
//
// What is absent costs its presence bit and nothing else. The place of a value
// is the bytes of those present before it: for each class, the number of bits
// set times the class's width. A column's [rowPlace] holds this as at most a few
// masks over eight bytes each, so a value is found by some popcounts and read
// without decoding anything else. See BenchmarkRowValue.
//
// Rows that begin with a table of offsets are read in one step, but for 300
// fields that table alone is longer than the whole row is here; a row of
// (field number, value) pairs has to be searched.
type rowLayout struct {
	Format int `json:"format"`
	// TextWidth is the bytes of a text's end.
	TextWidth int         `json:"text_width,omitempty"`
	Columns   []rowColumn `json:"columns"` // in schema order

	head   uint64     // the first rowHead bytes of every row, little-endian
	order  []int      // columns as rows hold them
	places []rowPlace // by column, as in Columns
	flags  int        // how many are flags
	base   int        // where the columns that are not flags begin
	fixed  []rowTerm  // the bytes of the columns of a width
	texts  []rowTerm  // the bytes of the texts' ends
}

// rowColumn is one field of a layout.
type rowColumn struct {
	Field    string `json:"field"`
	Type     Type   `json:"type"`
	Decimals int    `json:"decimals"` // or NoDecimals
	// Width is the bytes of a value: 1, 2, 3, 4 or 8; 0 for a flag, which is a
	// bit, and for a text without dictionary.
	Width int `json:"width,omitempty"`
	// Window and Bucket are those of a counter whose values are hops.
	Window time.Duration `json:"window,omitempty"`
	Bucket time.Duration `json:"bucket,omitempty"`
	// Dictionary holds the texts that the column's codes stand for.
	Dictionary []string `json:"dictionary,omitempty"`
}

// rowClass orders the columns within a row.
type rowClass uint8

const (
	rowClassFlag rowClass = iota
	rowClass1
	rowClass2
	rowClass3
	rowClass4
	rowClass8
	rowClassText
	rowClasses
)

var rowClassOfWidth = map[int]rowClass{1: rowClass1, 2: rowClass2, 3: rowClass3, 4: rowClass4, 8: rowClass8}

func (c *rowColumn) class() rowClass {
	switch {
	case c.Type == TypeFlag:
		return rowClassFlag
	case c.Width == 0:
		return rowClassText
	}
	return rowClassOfWidth[c.Width]
}

// rowTerm counts the bits of mask in the eight bytes at a place of the row, times
// a width.
type rowTerm struct {
	mask  uint64
	at    uint16
	width uint8
}

// rowPlace is where rows hold one column, and how.
type rowPlace struct {
	form        rowForm
	width       uint8
	decimals    int8
	presentMask byte
	flagMask    byte
	presentAt   uint16
	flagAt      uint16
	dictionary  []string
	before      []rowTerm // the bytes from base, or for a text from the first end, to the value
}

// rowForm is how the bytes of a value are read.
type rowForm uint8

const (
	rowFlag   rowForm = iota
	rowScaled         // a signed integer, times 10⁻ᵈᵉᶜⁱᵐᵃˡˢ
	rowFloat
	rowTime
	rowCode
	rowText
)

// isText reports whether the column's values are kept as texts: those of a text, a
// set, and the hops of a windowed counter.
func (c *rowColumn) isText() bool {
	return c.Type == TypeText || c.Type == TypeSet || c.Bucket > 0
}

// newRowColumn returns the column of a field, its width and dictionary open.
func newRowColumn(f *Field) rowColumn {
	return rowColumn{Field: f.Name, Type: f.Type, Decimals: f.Decimals, Window: f.Window, Bucket: f.Bucket}
}

func (c *rowColumn) form() rowForm {
	switch c.Type {
	case TypeFlag:
		return rowFlag
	case TypeTime:
		return rowTime
	case TypeNumber, TypeCounter, TypeMax, TypeMin, TypeText, TypeSet, TypeDwell:
		switch {
		case c.isText() && c.Dictionary != nil:
			return rowCode
		case c.isText():
			return rowText
		}
		if c.Decimals == NoDecimals {
			return rowFloat
		}
	}
	return rowScaled
}

// parseRowLayout reads a layout's JSON form and seals it.
func parseRowLayout(b []byte) (*rowLayout, error) {
	l := new(rowLayout)
	if err := json.Unmarshal(b, l); err != nil {
		return nil, fmt.Errorf("row layout: %w", err)
	}
	if err := l.seal(); err != nil {
		return nil, err
	}
	return l, nil
}

// seal checks the layout and computes its places. It is called once.
func (l *rowLayout) seal() error {
	if err := l.check(); err != nil {
		return fmt.Errorf("row layout: %w", err)
	}
	canonical, err := json.Marshal(l)
	if err != nil {
		return fmt.Errorf("row layout: %w", err)
	}
	id := sha256.Sum256(canonical)
	l.head = rowFormat | uint64(binary.LittleEndian.Uint32(id[:4]))<<8

	l.order = make([]int, len(l.Columns))
	for i := range l.order {
		l.order[i] = i
	}
	slices.SortStableFunc(l.order, func(a, b int) int {
		return cmp.Compare(l.Columns[a].class(), l.Columns[b].class())
	})
	var begins [rowClasses + 1]int // the rank of each class's first column
	for _, c := range l.order {
		for class := l.Columns[c].class() + 1; class <= rowClasses; class++ {
			begins[class]++
		}
	}
	presence := l.presenceBytes()
	l.flags = begins[rowClass1]
	l.base = rowHead + presence + (l.flags+7)/8
	l.places = make([]rowPlace, len(l.Columns))
	for rank, i := range l.order {
		c, p := &l.Columns[i], &l.places[i]
		*p = rowPlace{
			form: c.form(), width: uint8(l.width(c.class())), decimals: int8(c.Decimals),
			presentAt: uint16(rowHead + rank/8), presentMask: 1 << (rank % 8),
			dictionary: c.Dictionary,
		}
		switch p.form {
		case rowFlag:
			p.flagAt, p.flagMask = uint16(rowHead+presence+rank/8), 1<<(rank%8)
		case rowText:
			p.before = l.terms(nil, begins[rowClassText], rank, l.TextWidth)
		case rowScaled, rowFloat, rowTime, rowCode:
			for class := rowClass1; class <= c.class(); class++ {
				p.before = l.terms(p.before, begins[class], min(begins[class+1], rank), l.width(class))
			}
		}
	}
	for class := rowClass1; class <= rowClass8; class++ {
		l.fixed = l.terms(l.fixed, begins[class], begins[class+1], l.width(class))
	}
	l.texts = l.terms(nil, begins[rowClassText], len(l.Columns), l.TextWidth)
	return nil
}

// terms appends the terms that count the presence bits from rank a to before b.
func (l *rowLayout) terms(dst []rowTerm, a, b, width int) []rowTerm {
	last := rowHead + l.presenceBytes() - 8 // where eight bytes end with the presence bits
	for a < b {
		word := a / 64
		end := min(b, word*64+64)
		at := min(rowHead+word*8, last)
		shift := a - (at-rowHead)*8
		mask := (^uint64(0) >> (64 - (end - a))) << shift
		dst = append(dst, rowTerm{mask: mask, at: uint16(at), width: uint8(width)})
		a = end
	}
	return dst
}

func (l *rowLayout) presenceBytes() int { return max(8-rowHead, (len(l.Columns)+7)/8) }

func (l *rowLayout) width(class rowClass) int {
	switch class {
	case rowClass1, rowClass2, rowClass3, rowClass4:
		return int(class)
	case rowClass8:
		return 8
	case rowClassText:
		return l.TextWidth
	case rowClassFlag, rowClasses:
	}
	return 0
}

// check returns what is wrong with a layout that was read.
func (l *rowLayout) check() error {
	if l.Format != rowFormat {
		return fmt.Errorf("format %d is not known, only %d: use the version of rapport that wrote it, or load the file again", l.Format, rowFormat)
	}
	if len(l.Columns) == 0 || len(l.Columns) > maxRowColumns {
		return fmt.Errorf("%d columns: 1 to %d are possible", len(l.Columns), maxRowColumns)
	}
	seen := make(map[string]bool, len(l.Columns))
	texts := false
	for i := range l.Columns {
		c := &l.Columns[i]
		if seen[c.Field] {
			return fmt.Errorf("field %s is there twice", c.Field)
		}
		seen[c.Field] = true
		if err := c.check(); err != nil {
			return fmt.Errorf("field %s: %w", c.Field, err)
		}
		texts = texts || c.form() == rowText
	}
	if texts && (l.TextWidth < 1 || l.TextWidth > 4) || !texts && l.TextWidth != 0 {
		return fmt.Errorf("text width %d", l.TextWidth)
	}
	return nil
}

func (c *rowColumn) check() error {
	if c.Type.Kind() == KindUnknown {
		return fmt.Errorf("type %q", c.Type)
	}
	if c.Decimals < NoDecimals || c.Decimals > 9 || c.Decimals != NoDecimals && c.Type.Kind() != KindNumber {
		return fmt.Errorf("%d decimals of a %s", c.Decimals, c.Type)
	}
	if c.Window < 0 || c.Bucket < 0 || (c.Window > 0) != (c.Bucket > 0) || c.Bucket > 0 && c.Type != TypeCounter || c.Type == TypeDwell {
		return fmt.Errorf("a %s with window %v and bucket %v", c.Type, c.Window, c.Bucket)
	}
	if c.Dictionary != nil && !c.isText() {
		return fmt.Errorf("a dictionary of a %s", c.Type)
	}
	_, known := rowClassOfWidth[c.Width]
	ok := false
	switch c.form() {
	case rowFlag, rowText:
		ok = c.Width == 0
	case rowFloat, rowTime:
		ok = c.Width == 8
	case rowScaled:
		ok = known
	case rowCode:
		ok = (c.Width == 1 || c.Width == 2) && len(c.Dictionary) > 0 && len(c.Dictionary) <= 1<<(8*c.Width)
	}
	if !ok {
		return fmt.Errorf("width %d of a %s, %d texts in its dictionary", c.Width, c.Type, len(c.Dictionary))
	}
	return nil
}

// signedWidth returns the width class that holds all of lo to hi in two's
// complement.
func signedWidth(lo, hi int64) int {
	for _, w := range []int{1, 2, 3, 4} {
		if limit := int64(1) << (8*w - 1); lo >= -limit && hi < limit {
			return w
		}
	}
	return 8
}

// unsignedWidth returns the bytes that hold 0 to hi: 1 to 4.
func unsignedWidth(hi int64) int {
	w := 1
	for ; w < 4 && hi >= 1<<(8*w); w++ {
	}
	return w
}
