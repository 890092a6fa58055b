package wasm

import (
	"encoding/binary"
	"slices"
	"strings"
)

// ValType is the type of a value, as the binary format spells it.
type ValType byte

// The value types of core 2.0.
const (
	I32       ValType = 0x7f
	I64       ValType = 0x7e
	F32       ValType = 0x7d
	F64       ValType = 0x7c
	V128      ValType = 0x7b
	FuncRef   ValType = 0x70
	ExternRef ValType = 0x6f
)

// String returns the name that the text format has for the type.
func (t ValType) String() string {
	switch t {
	case I32:
		return "i32"
	case I64:
		return "i64"
	case F32:
		return "f32"
	case F64:
		return "f64"
	case V128:
		return "v128"
	case FuncRef:
		return "funcref"
	case ExternRef:
		return "externref"
	case bottom:
		return "any"
	}
	return "unknown"
}

// bottom is the type of a value that unreachable code takes from nowhere.
const bottom ValType = 0

func (t ValType) isNum() bool { return t >= F64 && t <= I32 }
func (t ValType) isRef() bool { return t == FuncRef || t == ExternRef }

// FuncType is the type of a function.
type FuncType struct{ Params, Results []ValType }

// String spells the type for people, as in (i32, i64) → (i64).
func (t FuncType) String() string { return "(" + list(t.Params) + ") → (" + list(t.Results) + ")" }

// Equal reports whether two types are the same.
func (t FuncType) Equal(o FuncType) bool {
	return slices.Equal(t.Params, o.Params) && slices.Equal(t.Results, o.Results)
}

func list(types []ValType) string {
	names := make([]string, len(types))
	for i, t := range types {
		names[i] = t.String()
	}
	return strings.Join(names, ", ")
}

// ExternKind says what an import or export is.
type ExternKind byte

// The kinds of imports and exports.
const (
	ExternFunc ExternKind = iota
	ExternTable
	ExternMemory
	ExternGlobal
)

// String returns the word of the text format.
func (k ExternKind) String() string {
	switch k {
	case ExternFunc:
		return "function"
	case ExternTable:
		return "table"
	case ExternMemory:
		return "memory"
	case ExternGlobal:
		return "global"
	}
	return "unknown"
}

// Import is something that a module needs from outside.
type Import struct {
	Module, Name string
	Kind         ExternKind
	Index        uint32 // among those of its kind
}

// Export is something that a module shows to the outside.
type Export struct {
	Name  string
	Kind  ExternKind
	Index uint32 // among those of its kind
}

// Table is the type of a table; Max is meaningless without HasMax.
type Table struct {
	Type     ValType // FuncRef or ExternRef
	Min, Max uint32  // entries
	HasMax   bool
}

// Memory is the type of a memory; Max is meaningless without HasMax.
type Memory struct {
	Min, Max uint32 // pages of 64 KiB
	HasMax   bool
}

// Global is the type of a global variable.
type Global struct {
	Type    ValType
	Mutable bool
}

// Module is a module that was read and is valid. It refers to the bytes that it
// was read from, which must not change. Its parts are for reading only; it is
// safe for concurrent use.
type Module struct {
	Types    []FuncType
	Imports  []Import
	Funcs    []uint32 // the type of each function, imported ones first
	Tables   []Table  // imported ones first, as in the following
	Memories []Memory // at most one
	Globals  []Global
	Exports  []Export
	Start    int // the function that instantiating runs; -1 if there is none

	// ImportedFuncs and ImportedGlobals are how many of Funcs and Globals are
	// imported.
	ImportedFuncs, ImportedGlobals int

	// Uses is every instruction that occurs in a function, for those who have a
	// policy about instructions. Dead code counts.
	Uses OpSet

	raw       []byte
	sections  []section
	bodies    []body
	sites     []site   // of all functions, in the order of the code
	flows     []flow   // likewise, ascending by where they lead
	addressed []uint32 // functions that can be called through a table or reference, each once
	dataCount int      // -1 without a section for it
	dataSegs  int
	elemTypes []ValType // of the element segments
	declared  map[uint32]bool
}

// FuncType returns the type of a function by its index.
func (m *Module) FuncType(function uint32) FuncType { return m.Types[m.Funcs[function]] }

// Size returns how many bytes the module has.
func (m *Module) Size() int { return len(m.raw) }

// Stripped returns the module without custom sections: nothing that runs needs
// them, and other readers may not be as careful. (wazero allocates what the count
// of names in a name section says, gigabytes for a section of ten bytes.)
func (m *Module) Stripped() []byte {
	b := append(make([]byte, 0, len(m.raw)), m.raw[:8]...)
	for _, s := range m.sections {
		b = binary.AppendUvarint(append(b, s.id), uint64(s.to-s.from))
		b = append(b, m.raw[s.from:s.to]...)
	}
	return b
}

// section is a section of the binary, not custom.
type section struct {
	id       byte
	from, to int // of its content
}
