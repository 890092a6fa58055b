package profilestore

import (
	"encoding/binary"
	"math/bits"
	"slices"
	"unsafe"
)

// rowEncoder makes rows of the packed rows of a load. It goes over the values once:
// within a class a row has its columns in schema order, as the packed row has, so
// each class collects its values, and the row is the classes one after the other.
// The tests' twin is naiveRow. It is used by one goroutine at a time.
type rowEncoder struct {
	layout  *rowLayout
	stats   *statsBuilder
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
	counts      []int64    // by code of the dictionary: the statistics'
	texts       [][]string // by owner, where there is no dictionary
}

func newRowEncoder(l *rowLayout, r *loadRows) *rowEncoder {
	e := &rowEncoder{layout: l, stats: newStatsBuilder(l, r)}
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
		c.counts = e.stats.columns[len(e.columns)].counts
		e.columns = append(e.columns, c)
	}
	for class := range e.values {
		e.values[class] = make([]byte, size[class]+8)
	}
	return e
}

// append appends the row of a packed row, from its flags' bits on, and its owner. Its
// key decides if it is in the sample of the statistics.
func (e *rowEncoder) append(dst, key, packed []byte, owner int) []byte {
	l := e.layout
	e.stats.begin(key, packed[:2*e.flags])
	sampled := e.stats.inRow
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
			place := w + bits.TrailingZeros64(word)
			c := &e.columns[place]
			row[c.presentAt] |= c.presentMask
			num := int64(int32(binary.LittleEndian.Uint32(packed[at:])))
			at += 4
			switch {
			case c.form == rowScaled && num != packedWide:
				e.stats.scaled[place].add(num)
			case c.form == rowText || c.form == rowCode:
				num, at = e.text(place, uint32(num), packed, at, owner)
			case c.form == rowScaled:
				num = int64(binary.LittleEndian.Uint64(packed[at:]))
				at += 8
				e.stats.scaled[place].add(num)
			default:
				num = int64(binary.LittleEndian.Uint64(packed[at-4:]))
				at += 4
				e.stats.wide(place, num)
			}
			if sampled && (c.form == rowScaled || c.form == rowFloat) {
				s := &e.stats.columns[place]
				s.sample = append(s.sample, num)
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
func (e *rowEncoder) text(place int, n uint32, packed []byte, at, owner int) (int64, int) {
	c := &e.columns[place]
	switch {
	case n&1 == 1: // the text itself; there is no dictionary then
		length := int(n >> 1)
		text := packed[at : at+length]
		e.texts = append(e.texts, text...)
		e.stats.columns[place].text(unsafe.String(unsafe.SliceData(text), length), e.stats.inRow) //nolint:gosec // it keeps nothing of the text
		at += length
	case c.recode != nil:
		code := c.recode[owner][n>>1]
		c.counts[code]++
		return code, at
	default:
		text := c.texts[owner][n>>1]
		e.texts = append(e.texts, text...)
		e.stats.columns[place].text(text, e.stats.inRow)
	}
	return int64(len(e.texts)), at
}
