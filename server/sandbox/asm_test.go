package sandbox_test

import (
	"encoding/binary"
	"math"
)

// A small assembler, so that tests of modules that no compiler would make need
// nothing but Go. Instructions are functions that return their bytes.

// module is a WebAssembly module in parts. Functions are numbered with the
// imports first.
type module struct {
	imports []function // body empty
	funcs   []function
	pages   uint32   // of memory
	maximum uint32   // 0: none
	globals [][]byte // each: its type, whether it is mutable, its first value, the end
	exports []export
	start   *uint32
	data    map[uint32]string
}

type function struct {
	module, name    string // of an import
	params, results string // i is i32, I is i64, F is f64
	locals          int    // i32
	body            []byte // without the end
}

type export struct {
	name  string
	kind  byte // 0 a function, 2 the memory
	index uint32
}

func (m *module) bytes() []byte {
	all := append(append([]function{}, m.imports...), m.funcs...)
	b := []byte("\x00asm\x01\x00\x00\x00")
	section := func(id byte, items [][]byte) {
		if len(items) == 0 {
			return
		}
		content := uleb(uint64(len(items)))
		for _, item := range items {
			content = append(content, item...)
		}
		b = append(b, id)
		b = append(b, sized(content)...)
	}
	var types, imports, funcs, code, exports, data [][]byte
	for i, f := range all {
		types = append(types, cat([]byte{0x60}, sized(valueTypes(f.params)), sized(valueTypes(f.results))))
		if i < len(m.imports) {
			imports = append(imports, cat(sized([]byte(f.module)), sized([]byte(f.name)), []byte{0}, uleb(uint64(i))))
			continue
		}
		funcs = append(funcs, uleb(uint64(i)))
		locals := cat(uleb(1), uleb(uint64(f.locals)), []byte{0x7f})
		code = append(code, sized(cat(locals, f.body, []byte{0x0b})))
	}
	section(1, types)
	section(2, imports)
	section(3, funcs)
	if m.pages > 0 {
		limits := cat([]byte{0}, uleb(uint64(m.pages)))
		if m.maximum > 0 {
			limits = cat([]byte{1}, uleb(uint64(m.pages)), uleb(uint64(m.maximum)))
		}
		section(5, [][]byte{limits})
	}
	section(6, m.globals)
	for _, e := range m.exports {
		exports = append(exports, cat(sized([]byte(e.name)), []byte{e.kind}, uleb(uint64(e.index))))
	}
	section(7, exports)
	if m.start != nil {
		b = append(b, 8)
		b = append(b, sized(uleb(uint64(*m.start)))...)
	}
	section(10, code)
	for at, text := range m.data {
		data = append(data, cat([]byte{0}, i32(int32(at)), []byte{0x0b}, sized([]byte(text))))
	}
	section(11, data)
	return b
}

func cat(parts ...[]byte) (b []byte) {
	for _, p := range parts {
		b = append(b, p...)
	}
	return b
}

func uleb(v uint64) []byte { return binary.AppendUvarint(nil, v) }

func sleb(v int64) (b []byte) {
	for {
		low := byte(v & 0x7f)
		v >>= 7
		if v == 0 && low&0x40 == 0 || v == -1 && low&0x40 != 0 {
			return append(b, low)
		}
		b = append(b, low|0x80)
	}
}

func sized(b []byte) []byte { return cat(uleb(uint64(len(b))), b) }

func valueTypes(s string) []byte {
	b := make([]byte, len(s))
	for i, c := range s {
		b[i] = map[rune]byte{'i': 0x7f, 'I': 0x7e, 'F': 0x7c}[c]
	}
	return b
}

// Instructions.
var (
	unreachable = []byte{0x00}
	drop        = []byte{0x1a}
	i32add      = []byte{0x6a}
	i32mul      = []byte{0x6c}
	i32geU      = []byte{0x4f}
	i64add      = []byte{0x7c}
	i64shl      = []byte{0x86}
	i64extend   = []byte{0xad} // i32 unsigned
	i64mul      = []byte{0x7e}
	i64shrU     = []byte{0x88}
	i64and      = []byte{0x83}
	i32wrap     = []byte{0xa7} // i64
	i32remU     = []byte{0x70}
	i32and      = []byte{0x71}
	memoryFill  = []byte{0xfc, 0x0b, 0}
	f64add      = []byte{0xa0}
	f64convert  = []byte{0xb8} // i32 unsigned
	f64convertI = []byte{0xba} // i64 unsigned
	memorySize  = []byte{0x3f, 0}
	memoryGrow  = []byte{0x40, 0}
)

func i32(v int32) []byte { return cat([]byte{0x41}, sleb(int64(v))) }
func i64(v int64) []byte { return cat([]byte{0x42}, sleb(v)) }
func f64(v float64) []byte {
	return binary.LittleEndian.AppendUint64([]byte{0x44}, math.Float64bits(v))
}
func call(f uint32) []byte    { return cat([]byte{0x10}, uleb(uint64(f))) }
func get(local uint32) []byte { return cat([]byte{0x20}, uleb(uint64(local))) }
func set(local uint32) []byte { return cat([]byte{0x21}, uleb(uint64(local))) }

func getGlobal(g uint32) []byte { return cat([]byte{0x23}, uleb(uint64(g))) }
func setGlobal(g uint32) []byte { return cat([]byte{0x24}, uleb(uint64(g))) }

// when runs a body if the i32 on the stack is not 0.
func when(body []byte) []byte { return cat([]byte{0x04, 0x40}, body, []byte{0x0b}) }

// Loads and stores add an offset to the address on the stack.
func i32load(offset uint32) []byte  { return cat([]byte{0x28, 2}, uleb(uint64(offset))) }
func i64load(offset uint32) []byte  { return cat([]byte{0x29, 3}, uleb(uint64(offset))) }
func f64load(offset uint32) []byte  { return cat([]byte{0x2b, 3}, uleb(uint64(offset))) }
func i32store(offset uint32) []byte { return cat([]byte{0x36, 2}, uleb(uint64(offset))) }
func i64store(offset uint32) []byte { return cat([]byte{0x37, 3}, uleb(uint64(offset))) }
func f64store(offset uint32) []byte { return cat([]byte{0x39, 3}, uleb(uint64(offset))) }

// forEach runs a body with local i counting from 0 to below local n.
func forEach(i, n uint32, body []byte) []byte {
	return cat([]byte{0x02, 0x40, 0x03, 0x40}, // block, loop
		get(i), get(n), i32geU, []byte{0x0d, 1}, // br_if out
		body,
		get(i), i32(1), i32add, set(i), []byte{0x0c, 0}, // br again
		[]byte{0x0b, 0x0b})
}
