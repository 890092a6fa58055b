package profilestore

import (
	"encoding/binary"
	"math/bits"
	"slices"
)

// rowEncoder makes rows of the packed rows of a load. It goes over the values once:
// within a class a row has its columns in schema order, as the packed row has, so
// each class collects its values, and the row is the classes one after the other.
// The tests' twin is naiveRow. It is used by one goroutine at a time.
type rowEncoder struct {
	layout  *rowLayout
	columns []encodedColumn // those that are no flags, in schema order
	flags   int             // bytes of the flags' bits
	words   int             // of the others' presence bits
	// values holds the values of each class so far, and then 8 bytes of room.
	values [rowClasses][]byte
	texts  []byte
}

// encodedColumn is what the encoder needs of a column.
type encodedColumn struct {
	form        rowForm
	class       rowClass
	width       uint8
	presentMask byte
	presentAt   uint16
	recode      [][]int64  // by owner: from codes to those of the dictionary
	texts       [][]string // by owner, where there is no dictionary
}

func newRowEncoder(l *rowLayout, r *loadRows) *rowEncoder {
	e := &rowEncoder{layout: l}
	e.flags, e.words = r.bitmaps()
	var size [rowClasses]int
	for i := range r.columns {
		p, class := &l.places[i], l.Columns[i].class()
		if p.form == rowFlag {
			continue
		}
		size[class] += int(p.width)
		c := encodedColumn{form: p.form, class: class, width: p.width, presentAt: p.presentAt, presentMask: p.presentMask}
		for _, texts := range r.textsOf(i) {
			c.texts = append(c.texts, texts.texts)
			if p.form == rowCode {
				recode := make([]int64, len(texts.texts))
				for code, text := range texts.texts {
					n, _ := slices.BinarySearch(p.dictionary, text)
					recode[code] = int64(n)
				}
				c.recode = append(c.recode, recode)
			}
		}
		e.columns = append(e.columns, c)
	}
	for class := range e.values {
		e.values[class] = make([]byte, size[class]+8)
	}
	return e
}

// append appends the row of a packed row, from its flags' bits on, and its owner.
func (e *rowEncoder) append(dst, packed []byte, owner int) []byte {
	l := e.layout
	present := packed[2*e.flags : 2*e.flags+8*e.words]
	begin := len(dst)
	dst = append(dst, make([]byte, l.base)...)
	row := dst[begin:]
	binary.LittleEndian.PutUint64(row, l.head) // zero beyond the head
	copy(row[rowHead:], packed[:e.flags])
	copy(row[rowHead+l.presenceBytes():], packed[e.flags:2*e.flags])
	e.texts = e.texts[:0]
	var length [rowClasses]int // of each class's values
	at := 2*e.flags + 8*e.words
	for w := 0; len(present) > 0; w += 64 {
		word := binary.LittleEndian.Uint64(present)
		present = present[8:]
		for ; word != 0; word &= word - 1 {
			c := &e.columns[w+bits.TrailingZeros64(word)]
			row[c.presentAt] |= c.presentMask
			num := int64(int32(binary.LittleEndian.Uint32(packed[at:])))
			at += 4
			switch {
			case c.form == rowScaled && num != packedWide:
			case c.form == rowText || c.form == rowCode:
				num, at = e.text(c, uint32(num), packed, at, owner)
			case c.form == rowScaled:
				num = int64(binary.LittleEndian.Uint64(packed[at:]))
				at += 8
			default:
				num = int64(binary.LittleEndian.Uint64(packed[at-4:]))
				at += 4
			}
			// The bytes beyond the width are overwritten by the next value.
			binary.LittleEndian.PutUint64(e.values[c.class][length[c.class]:], uint64(num))
			length[c.class] += int(c.width)
		}
	}
	for class := rowClass1; class < rowClasses; class++ {
		dst = append(dst, e.values[class][:length[class]]...)
	}
	return append(dst, e.texts...)
}

// text returns what a row holds for a text that is packed as n, and where the next
// value is.
func (e *rowEncoder) text(c *encodedColumn, n uint32, packed []byte, at, owner int) (int64, int) {
	switch {
	case n&1 == 1: // the text itself; there is no dictionary then
		length := int(n >> 1)
		e.texts = append(e.texts, packed[at:at+length]...)
		at += length
	case c.recode != nil:
		return c.recode[owner][n>>1], at
	default:
		e.texts = append(e.texts, c.texts[owner][n>>1]...)
	}
	return int64(len(e.texts)), at
}
