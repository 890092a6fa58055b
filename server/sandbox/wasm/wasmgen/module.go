package wasmgen

// Module is a module in parts. Indices count what is imported first, as in the
// binary format. The zero Module is valid and empty.
type Module struct {
	// Types begins the type section. What else the module uses is put behind them
	// by Encode, so that it can stay empty.
	Types   []string
	Imports []Import
	Funcs   []Func
	Tables  []Table
	Memory  *Memory
	Globals []Global
	Exports []Export
	Start   *uint32 // a function, nil for none
	Elems   []Elem
	Data    []Data
	Customs []Custom

	DataCount bool // write the section that memory.init and data.drop need
	// LongForm writes numbers in more bytes than they need, which is valid.
	LongForm bool
}

// Kind says what is imported or exported; its values are those of the format.
type Kind byte

// The kinds.
const (
	KindFunc Kind = iota
	KindTable
	KindMemory
	KindGlobal
)

// Import is something from outside; of the last four fields, the one that Kind
// names counts.
type Import struct {
	Module, Name string
	Kind         Kind
	Func         string // its type
	Table        Table
	Memory       Memory
	Global       Global // without Init
}

// Func is a function. Body has no end of its own.
type Func struct {
	Type   string
	Locals string // without the parameters
	Body   []Instr
}

// Table is a table's type.
type Table struct {
	Type     byte // r or e
	Min, Max uint32
	HasMax   bool
}

// Memory is a memory's type, in pages of 64 KiB.
type Memory struct {
	Min, Max uint32
	HasMax   bool
}

// Global is a global and what it is at first.
type Global struct {
	Type    byte
	Mutable bool
	Init    Instr
}

// Export is something shown to the outside.
type Export struct {
	Name  string
	Kind  Kind
	Index uint32
}

// Mode says what becomes of a segment when the module is instantiated.
type Mode byte

// The modes. Only element segments can be declared.
const (
	Active Mode = iota
	Passive
	Declared
)

// Elem is an element segment. Its items are instructions: ref.func, ref.null or
// global.get; if all are ref.func, Indices writes them as the shorter form has it.
type Elem struct {
	Mode    Mode
	Type    byte   // r or e
	Table   uint32 // of an active one
	Offset  Instr  // of an active one
	Items   []Instr
	Indices bool
}

// Data is a data segment.
type Data struct {
	Mode   Mode
	Offset Instr // of an active one
	Bytes  []byte
}

// Custom is a custom section, written in front of the section with id Before, or
// at the end.
type Custom struct {
	Before  byte
	Name    string
	Content []byte
}

// FuncType returns the type of a function by its index.
func (m *Module) FuncType(index uint32) string {
	for _, i := range m.Imports {
		if i.Kind != KindFunc {
			continue
		}
		if index == 0 {
			return i.Func
		}
		index--
	}
	return m.Funcs[index].Type
}

// Imported returns how many of a kind are imported, which is the index of the
// first that is not.
func (m *Module) Imported(k Kind) uint32 {
	n := uint32(0)
	for _, i := range m.Imports {
		if i.Kind == k {
			n++
		}
	}
	return n
}
