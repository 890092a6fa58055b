package profilestore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"unicode/utf8"
	"unsafe"
)

// has reports whether row is one of this layout, judged by its first bytes.
func (l *rowLayout) has(row []byte) bool {
	return len(row) >= l.base && binary.LittleEndian.Uint64(row)&(1<<(8*rowHead)-1) == l.head
}

// present reports whether a row of this layout holds a value there.
func (p *rowPlace) present(row []byte) bool { return row[p.presentAt]&p.presentMask != 0 }

// read returns the value that a row of this layout holds at p, where it is
// present. A text without dictionary is a view of the row. A row that breaks off
// gives the unknown value.
func (l *rowLayout) read(row []byte, p *rowPlace) Value {
	switch p.form {
	case rowFlag:
		return Flag(row[p.flagAt]&p.flagMask != 0)
	case rowText:
		return l.readText(row, p)
	case rowScaled, rowFloat, rowTime, rowCode:
	}
	at := l.base + countRowBytes(row, p.before)
	if at+int(p.width) > len(row) {
		return Value{}
	}
	n := rowInt(row, at, p.width)
	switch p.form {
	case rowScaled:
		return Number(unscale(n, int(p.decimals)))
	case rowFloat:
		return Number(math.Float64frombits(uint64(n)))
	case rowTime:
		return Time(n)
	case rowCode:
		// A code is stored without sign.
		if code := uint64(n) & (1<<(8*p.width) - 1); code < uint64(len(p.dictionary)) {
			return Text(p.dictionary[code])
		}
	case rowFlag, rowText:
	}
	return Value{}
}

func (l *rowLayout) readText(row []byte, p *rowPlace) Value {
	ends := l.base + countRowBytes(row, l.fixed)
	heap := ends + countRowBytes(row, l.texts)
	at := ends + countRowBytes(row, p.before)
	if heap > len(row) || at+int(p.width) > heap {
		return Value{}
	}
	mask := uint64(1)<<(8*p.width) - 1
	begin, end := uint64(0), uint64(rowInt(row, at, p.width))&mask
	if at > ends {
		begin = uint64(rowInt(row, at-int(p.width), p.width)) & mask
	}
	texts := row[heap:]
	if begin > end || end > uint64(len(texts)) {
		return Value{}
	}
	b := texts[begin:end]
	return Text(unsafe.String(unsafe.SliceData(b), len(b))) //nolint:gosec // rows don't change, see Snapshot.Value
}

// countRowBytes returns the bytes of the present columns that terms count.
func countRowBytes(row []byte, terms []rowTerm) int {
	n := 0
	for i := range terms {
		t := &terms[i]
		n += bits.OnesCount64(binary.LittleEndian.Uint64(row[t.at:])&t.mask) * int(t.width)
	}
	return n
}

// rowInt returns the two's complement integer of width bytes at a place of row.
func rowInt(row []byte, at int, width uint8) int64 {
	switch width {
	case 1:
		return int64(int8(row[at]))
	case 2:
		return int64(int16(binary.LittleEndian.Uint16(row[at:])))
	case 3:
		b := row[at : at+3]
		return int64(int32(uint32(b[0])<<8|uint32(b[1])<<16|uint32(b[2])<<24) >> 8)
	case 4:
		return int64(int32(binary.LittleEndian.Uint32(row[at:])))
	}
	return int64(binary.LittleEndian.Uint64(row[at:]))
}

var errRowLayout = errors.New("the row is not of this layout")

// verify checks a row completely: what it accepts is what append makes, byte for
// byte, except that a number may be stored wider than it needs.
func (l *rowLayout) verify(row []byte) error {
	if !l.has(row) {
		return errRowLayout
	}
	presence := row[rowHead : rowHead+l.presenceBytes()]
	for rank := len(l.Columns); rank < 8*len(presence); rank++ {
		if presence[rank/8]&(1<<(rank%8)) != 0 {
			return fmt.Errorf("presence bit %d is set, the layout has %d columns", rank, len(l.Columns))
		}
	}
	ends := l.base + countRowBytes(row, l.fixed)
	heap := ends + countRowBytes(row, l.texts)
	if heap > len(row) {
		return fmt.Errorf("the row has %d bytes, its columns need %d", len(row), heap)
	}
	// Flags are the first columns, so their bits stand below their presence bits.
	for i, b := range row[rowHead+len(presence) : l.base] {
		if b&^presence[i]&l.flagBits(i) != 0 || b&^l.flagBits(i) != 0 {
			return fmt.Errorf("an absent flag is set, in byte %d", rowHead+len(presence)+i)
		}
	}
	var end int64
	for i := range l.Columns {
		p, c := &l.places[i], &l.Columns[i]
		if !p.present(row) {
			continue
		}
		v := l.read(row, p)
		switch {
		case p.form == rowText && (v.Text() == "" || !utf8.ValidString(v.Text())), !v.Known():
			return fmt.Errorf("field %s holds no %s", c.Field, c.Type)
		case p.form == rowText:
			end += int64(len(v.Text()))
		}
	}
	if int64(len(row)-heap) != end {
		return fmt.Errorf("the row has %d bytes of text, its columns end at %d", len(row)-heap, end)
	}
	return nil
}

// flagBits returns the bits of the i-th byte of flags that belong to a column.
func (l *rowLayout) flagBits(i int) byte {
	if rest := l.flags - 8*i; rest < 8 {
		return 1<<rest - 1
	}
	return 0xff
}

// countPresent returns how many values a row has.
func (l *rowLayout) countPresent(row []byte) (n int64) {
	presence := row[rowHead : rowHead+l.presenceBytes()]
	for len(presence) >= 8 {
		n += int64(bits.OnesCount64(binary.LittleEndian.Uint64(presence)))
		presence = presence[8:]
	}
	for _, b := range presence {
		n += int64(bits.OnesCount8(b))
	}
	return n
}
