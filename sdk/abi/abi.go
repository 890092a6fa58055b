// Package abi holds the constants and memory layouts of ABI 1, the contract
// between the Rapport server and a strategy module. ABI.md in the folder above
// is its text; a test holds the two together.
//
// Both sides import it: package rapport/sdk inside a Go strategy and
// server/sandbox in the server. So it imports nothing but the little that costs
// a guest nothing, and it does no I/O.
//
// Everything in memory is little-endian and 8-aligned. The typed views that
// this package hands out ([Frame.Column] and others) are the memory itself, not
// copies: they cost nothing and are valid as long as the bytes below them stay
// where they are. They need a little-endian machine; [LittleEndian] tells.
package abi

import (
	"encoding/binary"
	"unsafe"
)

// Version is the number of this ABI, in manifests and in both headers.
const Version = 1

// What a module exports, and the type of each.
const (
	ExportMemory     = "memory"            // the linear memory
	ExportMarker     = "rapport_abi_1"     // () → (), never called
	ExportInitialize = "_initialize"       // () → (), optional
	ExportDescribe   = "rapport_describe"  // () → i64
	ExportArena      = "rapport_arena"     // (size i32) → i32
	ExportConfigure  = "rapport_configure" // (ptr i32, len i32) → i32
	ExportRank       = "rapport_rank"      // (len i32) → i64

	// ReservedPrefix begins the names that only the ABI may export.
	ReservedPrefix = "rapport_"
)

// What a module may import besides functions of WASI.
const (
	ImportModule = "rapport"
	ImportLog    = "log" // (level i32, ptr i32, len i32) → ()
	ImportWASI   = "wasi_snapshot_preview1"
)

// Levels of the log import: those of log/slog.
const (
	LevelDebug = -4
	LevelInfo  = 0
	LevelWarn  = 4
	LevelError = 8
)

const (
	// Align is the alignment of the arena and of the call frame in it.
	Align = 64
	// GuardSize is the number of bytes behind the output that the host fills
	// and that must be unchanged after the call.
	GuardSize = 64
	// GuardWord is what the host fills them with.
	GuardWord = 0xA5C3_5A3C_C3A5_3C5A
	// UnscoredBits is what the host fills the scores with: a quiet NaN, so that a
	// candidate that the guest passes over is found out.
	UnscoredBits = 0x7FF8_0000_0000_0000
	// MaxManifest is the greatest length of a manifest in bytes.
	MaxManifest = 64 << 10
)

// StatusOK is the status of a call that succeeded. Any other is a fault.
const StatusOK = 0

// A LayoutError says what is wrong with a static block or a call frame.
type LayoutError struct{ What string }

func (e *LayoutError) Error() string { return "abi: malformed " + e.What }

// PackSpan packs a place in memory as rapport_describe returns it: the pointer
// in the high 32 bits, the length in the low 32.
func PackSpan(ptr, length uint32) uint64 { return uint64(ptr)<<32 | uint64(length) }

// UnpackSpan is the inverse of PackSpan.
func UnpackSpan(v uint64) (ptr, length uint32) { return uint32(v >> 32), uint32(v) }

// PackStatus packs what rapport_rank returns: the status in the low 32 bits, the
// detail in the high 32.
func PackStatus(status, detail uint32) uint64 { return uint64(detail)<<32 | uint64(status) }

// UnpackStatus is the inverse of PackStatus.
func UnpackStatus(v uint64) (status, detail uint32) { return uint32(v), uint32(v >> 32) }

// LittleEndian reports whether this machine is one that the typed views work on.
func LittleEndian() bool {
	return binary.NativeEndian.Uint16([]byte{1, 0}) == 1
}

// NewArena returns size zeroed bytes that are 8-aligned, for blocks and frames
// outside a guest.
func NewArena(size int) []byte {
	words := make([]uint64, words(size))
	return Bytes(words)[:size:size]
}

// words returns how many 8-byte words hold n bytes.
func words(n int) int { return (n + 7) / 8 }

// bitWords returns how many 64-bit words hold n bits.
func bitWords(n int) int { return (n + 63) / 64 }

// align rounds n up to a multiple of to, a power of two.
func align(n, to int) int { return (n + to - 1) &^ (to - 1) }

// view returns count values of a type at an offset of b, which the caller has
// checked.
func view[T uint32 | uint64 | float64](b []byte, offset, count int) []T {
	if count == 0 {
		return nil
	}
	var t T
	b = b[offset : offset+count*int(unsafe.Sizeof(t))]
	return unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(b))), count) //nolint:gosec // b was just cut to that length
}

// Bytes returns the bytes of a column, without copying, for comparing it with
// what it should be.
func Bytes[T int32 | uint32 | uint64 | float64](column []T) []byte {
	var t T
	size := len(column) * int(unsafe.Sizeof(t))
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(column))), size) //nolint:gosec // the column's own bytes
}

// Bit returns bit i of a bitmap.
func Bit(bitmap []uint64, i int) bool { return bitmap[uint(i)/64]>>(uint(i)%64)&1 != 0 }

// SetBit sets bit i of a bitmap.
func SetBit(bitmap []uint64, i int) { bitmap[uint(i)/64] |= 1 << (uint(i) % 64) }
