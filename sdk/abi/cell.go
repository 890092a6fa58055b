package abi

import (
	"math"
	"unsafe"
)

// Type is what a declared input holds. Its names are those of manifests.
type Type uint8

// The types. The zero Type is none.
const (
	Number Type = iota + 1 // an IEEE 754 double
	Flag                   // 0 or 1
	Text                   // offset (low 32 bits) and length (high 32) in the string pool
	Time                   // microseconds since the Unix epoch, signed
	Set                    // a text: the elements in ascending order, SetSeparator between them
)

// SetSeparator stands between the elements of a set. No element has it.
const SetSeparator = ';'

var typeNames = [...]string{"", "number", "flag", "text", "time", "set"}

// String returns the type as manifests spell it.
func (t Type) String() string {
	if int(t) < len(typeNames) {
		return typeNames[t]
	}
	return ""
}

// TypeOf returns the type of a name, or the zero Type.
func TypeOf(name string) Type {
	for t := Number; t <= Set; t++ {
		if typeNames[t] == name {
			return t
		}
	}
	return 0
}

// A cell is 8 bytes: what they mean depends on the type of its column. A cell
// whose presence bit is 0 is all zero.

// NumberCell returns the cell of a number.
func NumberCell(f float64) uint64 { return math.Float64bits(f) }

// CellNumber returns the number of a cell.
func CellNumber(cell uint64) float64 { return math.Float64frombits(cell) }

// FlagCell returns the cell of a flag.
func FlagCell(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

// TimeCell returns the cell of a time.
func TimeCell(micros int64) uint64 { return uint64(micros) }

// TextCell returns the cell of a text at an offset of the string pool.
func TextCell(offset, length int) uint64 { return uint64(uint32(length))<<32 | uint64(uint32(offset)) }

// TextAt returns the text of a cell, or false where it leaves the pool. The
// string is the pool's memory.
func TextAt(pool []byte, cell uint64) (string, bool) {
	offset, length := uint64(uint32(cell)), cell>>32
	if offset+length > uint64(len(pool)) {
		return "", false
	}
	if length == 0 {
		return "", true
	}
	return unsafe.String(&pool[offset], int(length)), true //nolint:gosec // the place was just checked
}
