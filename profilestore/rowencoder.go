package profilestore

import (
	"encoding/binary"
	"math/bits"
)

// rowEncoder makes rows of the packed rows of a load. It goes over the values once:
// within a class a row has its columns in schema order, as the packed row has, so
// each class collects its values, and the row is the classes one after the other.
// The tests' twin is naiveRow. It is used by one goroutine at a time.
type rowEncoder struct {
	layout  *rowLayout
	columns []encodedColumn // those that are no flags, in schema order
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
	recode      []int64
	texts       []string
}

func newRowEncoder(l *rowLayout, r *loadRows) *rowEncoder {
	e := &rowEncoder{layout: l}
	var size [rowClasses]int
	for i := range r.columns {
		p, class := &l.places[i], l.Columns[i].class()
		if p.form == rowFlag {
			continue
		}
		size[class] += int(p.width)
		e.columns = append(e.columns, encodedColumn{
			form: p.form, class: class, width: p.width, presentAt: p.presentAt, presentMask: p.presentMask,
			recode: r.columns[i].recode, texts: r.columns[i].texts,
		})
	}
	for class := range e.values {
		e.values[class] = make([]byte, size[class]+8)
	}
	return e
}

// encode returns the key of a row and appends the row to dst. It may be called
// after layout.
func (r *loadRows) encode(dst []byte, ref loadRef) (key, row []byte) {
	b := r.chunks[ref.chunk][ref.offset:]
	n, skip := binary.Uvarint(b)
	key, b = b[skip:skip+int(n)], b[skip+int(n):]
	_, skip = binary.Uvarint(b)
	flags, words := r.bitmaps()
	return key, r.encoder.append(dst, b[skip:], flags, words)
}

// append appends a row, given its packed form from the flags' bits on.
func (e *rowEncoder) append(dst, packed []byte, flags, words int) []byte {
	l := e.layout
	present := packed[2*flags : 2*flags+8*words]
	values := packed[2*flags+8*words:]
	begin := len(dst)
	dst = append(dst, make([]byte, l.base)...)
	row := dst[begin:]
	binary.LittleEndian.PutUint64(row, l.head) // zero beyond the head
	copy(row[rowHead:], packed[:flags])
	copy(row[rowHead+l.presenceBytes():], packed[flags:2*flags])
	e.texts = e.texts[:0]
	var length [rowClasses]int // of each class's values
	for w := range words {
		for word := binary.LittleEndian.Uint64(present[8*w:]); word != 0; word &= word - 1 {
			c := &e.columns[64*w+bits.TrailingZeros64(word)]
			row[c.presentAt] |= c.presentMask
			var num int64
			if c.form == rowFloat || c.form == rowTime {
				num, values = int64(binary.LittleEndian.Uint64(values)), values[8:]
			} else {
				num, values = int64(int32(binary.LittleEndian.Uint32(values))), values[4:]
				switch {
				case c.form == rowText || c.form == rowCode:
					num, values = e.text(c, uint32(num), values)
				case num == packedWide:
					num, values = int64(binary.LittleEndian.Uint64(values)), values[8:]
				}
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

// text returns what a row holds for a packed text, and what follows it.
func (e *rowEncoder) text(c *encodedColumn, n uint32, values []byte) (int64, []byte) {
	switch {
	case n&1 == 1: // the text itself; there is no dictionary then
		e.texts = append(e.texts, values[:n>>1]...)
		values = values[n>>1:]
	case c.recode != nil:
		return c.recode[n>>1], values
	default:
		e.texts = append(e.texts, c.texts[n>>1]...)
	}
	return int64(len(e.texts)), values
}
