package profilestore

import (
	"math"
	"strconv"
	"strings"
	"time"
)

// Kind is the type of a [Value].
type Kind uint8

// The kinds of values. KindUnknown is the zero Kind: nothing is known.
const (
	KindUnknown Kind = iota
	KindNumber
	KindFlag
	KindText
	KindTime
	KindSet
)

var kindNames = [...]string{"unknown", "number", "flag", "text", "time", "set"}

// String returns the kind as schemas spell it: number, flag, text, time, set; or
// unknown.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return "kind(" + strconv.Itoa(int(k)) + ")"
}

// Value is a field's value at one moment, or unknown. The zero Value is unknown.
// Values are small and copied freely; comparing two with == compares kind and
// content.
type Value struct {
	kind Kind
	num  uint64
	text string
}

// Unknown returns the unknown value.
func Unknown() Value { return Value{} }

// Number returns a number. NaN is not a number: it gives the unknown value.
func Number(f float64) Value {
	if math.IsNaN(f) {
		return Value{}
	}
	if f == 0 {
		f = 0 // −0 and 0 are one value.
	}
	return Value{kind: KindNumber, num: math.Float64bits(f)}
}

// Flag returns a flag.
func Flag(b bool) Value {
	if b {
		return Value{kind: KindFlag, num: 1}
	}
	return Value{kind: KindFlag}
}

// Text returns a text. The string is kept, not copied.
func Text(s string) Value { return Value{kind: KindText, text: s} }

// Time returns a time, in microseconds since the Unix epoch, UTC.
func Time(micros int64) Value { return Value{kind: KindTime, num: uint64(micros)} }

// Kind returns the value's kind.
func (v Value) Kind() Kind { return v.kind }

// Known reports whether there is a value.
func (v Value) Known() bool { return v.kind != KindUnknown }

// Number returns the number, or 0 if v is none.
func (v Value) Number() float64 {
	if v.kind != KindNumber {
		return 0
	}
	return math.Float64frombits(v.num)
}

// Flag returns the flag, or false if v is none.
func (v Value) Flag() bool { return v.kind == KindFlag && v.num != 0 }

// Text returns the text, or "" if v is none.
func (v Value) Text() string {
	if v.kind != KindText {
		return ""
	}
	return v.text
}

// Micros returns the time in microseconds since the Unix epoch, or 0 if v is
// none.
func (v Value) Micros() int64 {
	if v.kind != KindTime {
		return 0
	}
	return int64(v.num)
}

// String formats the value for people: numbers in the shortest form that reads
// back exactly, times in RFC 3339, unknown as "unknown".
func (v Value) String() string {
	switch v.kind {
	case KindNumber:
		return strconv.FormatFloat(v.Number(), 'f', -1, 64)
	case KindFlag:
		return strconv.FormatBool(v.Flag())
	case KindText:
		return v.text
	case KindTime:
		return time.UnixMicro(v.Micros()).UTC().Format(time.RFC3339Nano)
	case KindSet:
		return "{" + strings.ReplaceAll(v.text, string(setSeparator), ", ") + "}"
	case KindUnknown:
	}
	return "unknown"
}
