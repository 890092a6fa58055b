package wasm_test

import (
	"errors"
	"slices"
	"testing"

	"rapport/server/sandbox/wasm"
)

// Code that wazero would read otherwise than this package does is code that is not
// metered, and can name the counters: global 0 of this module is the fuel, once it
// was rewritten. With 1,000 units of fuel it ran a million times round its loop and
// had four billion left, until such code was refused.
func TestHiddenCode(t *testing.T) {
	hidden := []byte{
		0x0b,                                           // what comes behind a branch out of the block
		0x42, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x00, // i64.const, large
		0x24, 0x00, // global.set 0
		0x02, 0x40, 0x0c, 0x00, // a block for the rest, and a branch out of it
		0x01,
	}
	refused(t, "hidden in a constant", function(slices.Concat(
		[]byte{0x03, 0x40, 0x02, 0x40},       // loop, block
		[]byte{0xfd, 0x0c}, make([]byte, 16), // v128.const
		[]byte{0x41, 0x00, 0x41, 0x01, 0x0d, 0x00}, // i32.const 0, i32.const 1, br_if 0
		[]byte{0xfd, 0x8c, 0x00}, hidden,           // v128.const; to wazero i16x8.shr_s, unreachable, and code
		[]byte{0x1a, 0x1a, 0x1a, 0x0b}, // drop, drop, drop, end
		[]byte{0x20, 0x00, 0x41, 0x01, 0x6b, 0x22, 0, // while --n
			0x0d, 0x00, 0x0b},
	)))
	constant := make([]byte, 16)
	refused(t, "three bytes for SIMD", function(slices.Concat([]byte{0xfd, 0x8c, 0x80, 0x00}, constant, []byte{0x1a})))
	refused(t, "two bytes for bulk memory", function([]byte{0x43, 0, 0, 0, 0, 0xfc, 0x80, 0x00, 0x1a}))
	refused(t, "two bytes for a typed select", function([]byte{0x41, 0, 0x41, 0, 0x41, 0, 0x1c, 0x81, 0x00, 0x7f, 0x1a}))
	refused(t, "two bytes in a global", slices.Concat([]byte("\x00asm\x01\x00\x00\x00"),
		[]byte{6, 23, 1, 0x7b, 0, 0xfd, 0x8c, 0x00}, constant, []byte{0x0b}))

	// What needs two bytes may have them: f32x4.min is 232.
	min := slices.Concat([]byte{0xfd, 0x0c}, constant, []byte{0xfd, 0x0c}, constant, []byte{0xfd, 0xe8, 0x01, 0x1a})
	if _, err := wasm.Read(function(min), wasm.DefaultLimits()); err != nil {
		t.Error(err)
	}
}

// function returns a module with one function, from i32 to nothing.
func function(body []byte) []byte {
	return slices.Concat([]byte("\x00asm\x01\x00\x00\x00"),
		[]byte{1, 5, 1, 0x60, 1, 0x7f, 0},                                              // type
		[]byte{3, 2, 1, 0},                                                             // functions
		[]byte{10, byte(len(body) + 4), 1, byte(len(body) + 2), 0}, body, []byte{0x0b}) // code
}

func refused(t *testing.T, name string, b []byte) {
	t.Helper()
	_, err := wasm.Read(b, wasm.DefaultLimits())
	if refusal := (*wasm.Error)(nil); !errors.As(err, &refusal) || refusal.Kind != wasm.Unsupported {
		t.Errorf("%s: %v, want it refused as %s", name, err, wasm.Unsupported)
	}
}
