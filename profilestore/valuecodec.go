package profilestore

import (
	"encoding/binary"
	"errors"
	"math"
)

// The first byte of an encoded value.
const (
	codeUnknown = iota
	codeNumber  // eight bytes
	codeInteger // a number that is whole, as a varint
	codeFalse
	codeTrue
	codeText // length and bytes
	codeTime // a varint
	codeSet  // length and bytes
)

// maxExact is the least number that a float64 may have skipped.
const maxExact = 1 << 53

var errNotAValue = errors.New("profilestore: not an encoded value")

// AppendBinary appends the value in a form that [DecodeValue] reads: one byte where
// nothing is known, two or three for most numbers. It implements
// encoding.BinaryAppender.
func (v Value) AppendBinary(dst []byte) ([]byte, error) {
	switch v.kind {
	case KindNumber:
		f := v.Number()
		if n := int64(f); math.Abs(f) < maxExact && float64(n) == f {
			return binary.AppendVarint(append(dst, codeInteger), n), nil
		}
		return binary.LittleEndian.AppendUint64(append(dst, codeNumber), v.num), nil
	case KindFlag:
		return append(dst, codeFalse+byte(v.num)), nil
	case KindText:
		return appendBytes(append(dst, codeText), v.text), nil
	case KindTime:
		return binary.AppendVarint(append(dst, codeTime), int64(v.num)), nil
	case KindSet:
		return appendBytes(append(dst, codeSet), v.text), nil
	case KindUnknown:
	}
	return append(dst, codeUnknown), nil
}

func appendBytes(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

// DecodeValue reads a value that [Value.AppendBinary] wrote and returns what follows it.
// It keeps nothing of b.
func DecodeValue(b []byte) (v Value, rest []byte, err error) {
	if len(b) == 0 {
		return v, nil, errNotAValue
	}
	r := reader{b: b[1:]}
	switch b[0] {
	case codeUnknown:
	case codeNumber:
		f := math.Float64frombits(r.uint64())
		if math.IsNaN(f) {
			return v, nil, errNotAValue
		}
		v = Number(f)
	case codeInteger:
		v = Number(float64(r.varint()))
	case codeFalse, codeTrue:
		v = Flag(b[0] == codeTrue)
	case codeText:
		v = Text(string(r.bytes(r.count(1))))
	case codeTime:
		v = Time(r.varint())
	case codeSet:
		v = Value{kind: KindSet, text: string(r.bytes(r.count(1)))}
	default:
		return v, nil, errNotAValue
	}
	if r.bad {
		return Value{}, nil, errNotAValue
	}
	return v, r.b, nil
}
