package batchfile

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"time"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/format"
)

// parquetType is how the values of a Parquet column become text.
type parquetType struct {
	never   bool // there are no values
	bytes   bool // they are byte arrays
	list    bool
	element int // the definition level from which on a value is an element of the list
	// append appends the text of a value; nil if the value's bytes are it.
	append func(dst []byte, v parquet.Value) []byte
}

// fits says what Parquet types a kind of column may have.
var fits = map[Kind]string{
	Key:    "a customer is a string or an integer",
	Flag:   "a flag is a boolean, a string, or an integer 0 or 1",
	Number: "a number is an integer, a decimal, a float, or a string",
	Time:   "a time is a timestamp in UTC, a date, or a string",
	Text:   "a text is a string, an integer, or a UUID",
	Set:    "a set is a list of strings or integers, or a string with semicolons between them",
	Hops:   "hops are a list of numbers, or a string with semicolons between them",
}

// columnType returns how a column is read as a kind, and the number of its leaf; or
// what is wrong with its type.
func columnType(c *parquet.Column, kind Kind) (t parquetType, leaf int, message string) {
	in := c
	if !c.Leaf() {
		if in = elementOf(c); in == nil {
			return t, 0, "is a group of columns: " + fits[kind]
		}
	}
	if in.MaxRepetitionLevel() > 0 {
		t.list, t.element = true, in.MaxDefinitionLevel()
		if in.Optional() {
			t.element--
		}
		if in.MaxRepetitionLevel() > 1 {
			return t, 0, "is a list of lists: " + fits[kind]
		}
		if !kind.list() {
			return t, 0, "is a list: " + fits[kind]
		}
	}
	ok := t.of(in.Type(), kind)
	if !ok {
		return t, 0, fmt.Sprintf("has the Parquet type %s: %s", typeName(in.Type()), fits[kind])
	}
	return t, in.Index(), ""
}

// elementOf returns the elements of a list: a group, in it a repeated column, and in
// that one column, or none in files of older writers.
func elementOf(c *parquet.Column) *parquet.Column {
	children := c.Columns()
	if len(children) != 1 || !children[0].Repeated() {
		return nil
	}
	if children[0].Leaf() {
		return children[0]
	}
	if children = children[0].Columns(); len(children) == 1 && children[0].Leaf() {
		return children[0]
	}
	return nil
}

func typeName(t parquet.Type) string {
	if l := t.LogicalType(); l != nil && l.Value != nil {
		return l.String()
	}
	return t.String()
}

// of decides how values of a type are read as a kind, and whether they can be.
func (t *parquetType) of(in parquet.Type, kind Kind) bool {
	physical := in.Kind()
	t.bytes = physical == parquet.ByteArray || physical == parquet.FixedLenByteArray
	var logical any
	if l := in.LogicalType(); l != nil {
		logical = l.Value
	}
	number := kind == Number || kind == Hops
	name := kind == Key || kind == Text || kind == Set
	switch l := logical.(type) {
	case *format.NullType:
		t.never = true
		return true
	case *format.StringType, *format.EnumType:
		return physical == parquet.ByteArray
	case *format.UUIDType:
		t.append = appendUUID
		return name && physical == parquet.FixedLenByteArray
	case *format.DecimalType:
		if l.Scale < 0 || l.Scale > 100 {
			return false
		}
		t.append = decimalOf(physical, int(l.Scale))
		return t.append != nil && (number || name && l.Scale == 0)
	case *format.DateType:
		t.append = appendDate
		return kind == Time && physical == parquet.Int32
	case *format.TimestampType:
		if l.Unit.Value == nil {
			return false
		}
		t.append = timestampOf(l.Unit.Value.Duration())
		return kind == Time && l.IsAdjustedToUTC && physical == parquet.Int64
	case *format.IntType:
		t.append = appendSigned
		if !l.IsSigned {
			t.append = appendUnsigned
		}
		return (physical == parquet.Int32 || physical == parquet.Int64) && kind != Time
	case nil:
	default:
		return false
	}
	switch physical {
	case parquet.Boolean:
		t.append = func(dst []byte, v parquet.Value) []byte { return strconv.AppendBool(dst, v.Boolean()) }
		return kind == Flag
	case parquet.Int32, parquet.Int64:
		t.append = appendSigned
		return kind != Time
	case parquet.Float:
		t.append = func(dst []byte, v parquet.Value) []byte { return appendFloat(dst, float64(v.Float()), 32) }
		return number
	case parquet.Double:
		t.append = func(dst []byte, v parquet.Value) []byte { return appendFloat(dst, v.Double(), 64) }
		return number
	case parquet.Int96:
		t.append = appendInt96
		return kind == Time
	case parquet.ByteArray: // older writers do not say that it is text
		return true
	default:
		return false
	}
}

func appendSigned(dst []byte, v parquet.Value) []byte {
	if v.Kind() == parquet.Int32 {
		return strconv.AppendInt(dst, int64(v.Int32()), 10)
	}
	return strconv.AppendInt(dst, v.Int64(), 10)
}

func appendUnsigned(dst []byte, v parquet.Value) []byte {
	if v.Kind() == parquet.Int32 {
		return strconv.AppendUint(dst, uint64(v.Uint32()), 10)
	}
	return strconv.AppendUint(dst, v.Uint64(), 10)
}

// appendFloat appends the shortest decimal number that is the float: 29.85 is what
// was meant by the float next to it, and what a CSV file would have.
func appendFloat(dst []byte, f float64, bits int) []byte {
	if a := math.Abs(f); a >= 1e15 || a < 1e-6 && a > 0 || math.IsNaN(f) {
		return strconv.AppendFloat(dst, f, 'g', -1, bits)
	}
	return strconv.AppendFloat(dst, f, 'f', -1, bits)
}

func appendDate(dst []byte, v parquet.Value) []byte {
	return time.Unix(int64(v.Int32())*86400, 0).UTC().AppendFormat(dst, time.DateOnly)
}

func timestampOf(unit time.Duration) func([]byte, parquet.Value) []byte {
	perSecond := int64(time.Second / unit)
	return func(dst []byte, v parquet.Value) []byte {
		n := v.Int64()
		seconds, rest := n/perSecond, n%perSecond
		return time.Unix(seconds, rest*int64(unit)).UTC().AppendFormat(dst, time.RFC3339Nano)
	}
}

// appendInt96 appends a time as Impala, Hive and older Spark write it: nanoseconds of
// the day, and the day by Julian count. It has no zone; Spark's are UTC.
func appendInt96(dst []byte, v parquet.Value) []byte {
	const epoch = 2440588 // the Julian day of 1970-01-01
	n := v.Int96()
	nanoseconds := int64(n[1])<<32 | int64(n[0])
	return time.Unix((int64(n[2])-epoch)*86400, nanoseconds).UTC().AppendFormat(dst, time.RFC3339Nano)
}

func appendUUID(dst []byte, v parquet.Value) []byte {
	b := v.ByteArray()
	if len(b) != 16 {
		return hex.AppendEncode(dst, b)
	}
	for i, n := range []int{4, 2, 2, 2, 6} {
		if i > 0 {
			dst = append(dst, '-')
		}
		dst = hex.AppendEncode(dst, b[:n])
		b = b[n:]
	}
	return dst
}

// decimalOf returns what appends a decimal of a physical type; nil if it is none of
// those that decimals have.
func decimalOf(physical parquet.Kind, scale int) func([]byte, parquet.Value) []byte {
	switch physical { //nolint:exhaustive // the others need no width
	case parquet.Int32:
		return func(dst []byte, v parquet.Value) []byte { return appendDecimal(dst, int64(v.Int32()), scale) }
	case parquet.Int64:
		return func(dst []byte, v parquet.Value) []byte { return appendDecimal(dst, v.Int64(), scale) }
	case parquet.ByteArray, parquet.FixedLenByteArray:
		return func(dst []byte, v parquet.Value) []byte {
			b := v.ByteArray()
			if len(b) > 0 && len(b) <= 8 {
				var wide [8]byte
				if b[0] >= 0x80 {
					binary.BigEndian.PutUint64(wide[:], math.MaxUint64)
				}
				copy(wide[8-len(b):], b)
				return appendDecimal(dst, int64(binary.BigEndian.Uint64(wide[:])), scale)
			}
			return appendBigDecimal(dst, b, scale)
		}
	}
	return nil
}

// appendDecimal appends n × 10⁻ˢᶜᵃˡᵉ, without zeros at its end.
func appendDecimal(dst []byte, n int64, scale int) []byte {
	var digits [20]byte
	if n < 0 {
		dst = append(dst, '-')
		return appendPoint(dst, strconv.AppendUint(digits[:0], -uint64(n), 10), scale)
	}
	return appendPoint(dst, strconv.AppendUint(digits[:0], uint64(n), 10), scale)
}

// appendBigDecimal appends a decimal of more than 8 bytes: two's complement, the
// highest byte first.
func appendBigDecimal(dst, b []byte, scale int) []byte {
	n := new(big.Int).SetBytes(b)
	if len(b) > 0 && b[0] >= 0x80 {
		n.Sub(n, new(big.Int).Lsh(big.NewInt(1), uint(8*len(b))))
		dst = append(dst, '-')
	}
	return appendPoint(dst, n.Abs(n).Append(nil, 10), scale)
}

// appendPoint appends digits with a point before the last scale of them.
func appendPoint(dst, digits []byte, scale int) []byte {
	for len(digits) > 1 && scale > 0 && digits[len(digits)-1] == '0' {
		digits = digits[:len(digits)-1]
		scale--
	}
	if scale == 0 || len(digits) == 1 && digits[0] == '0' {
		return append(dst, digits...)
	}
	if whole := len(digits) - scale; whole > 0 {
		dst = append(append(dst, digits[:whole]...), '.')
		return append(dst, digits[whole:]...)
	}
	dst = append(dst, '0', '.')
	for range scale - len(digits) {
		dst = append(dst, '0')
	}
	return append(dst, digits...)
}
