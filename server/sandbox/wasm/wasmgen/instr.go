package wasmgen

import (
	"encoding/binary"
	"strings"
)

// Instr is an instruction. What it needs besides its opcode is in Imm, in the
// order of the binary format: indices, labels, lanes, the alignment (as a power of
// two) and offset of a load or store, the bits of a constant (two words of a
// v128, low one first, and so the lanes of a shuffle, a byte each). Immediates
// that are left out are 0.
type Instr struct {
	Op  Op
	Imm []uint64
	// Type is the type of a block or of the functions of a call_indirect, and the
	// letter of a typed select or ref.null.
	Type string
	// Indexed writes the type of a block as an index also where it could be shorter.
	Indexed bool
}

func (i Instr) imm(n int) uint64 {
	if n < len(i.Imm) {
		return i.Imm[n]
	}
	return 0
}

// Opcodes that the package itself has to know.
const (
	opUnreachable  Op = 0x00
	opNop          Op = 0x01
	opBlock        Op = 0x02
	opLoop         Op = 0x03
	opIf           Op = 0x04
	opElse         Op = 0x05
	opEnd          Op = 0x0b
	opBr           Op = 0x0c
	opBrIf         Op = 0x0d
	opBrTable      Op = 0x0e
	opReturn       Op = 0x0f
	opCall         Op = 0x10
	opCallIndirect Op = 0x11
	opDrop         Op = 0x1a
	opSelect       Op = 0x1b
	opSelectT      Op = 0x1c
	opLocalGet     Op = 0x20
	opLocalSet     Op = 0x21
	opLocalTee     Op = 0x22
	opGlobalGet    Op = 0x23
	opGlobalSet    Op = 0x24
	opTableGet     Op = 0x25
	opTableSet     Op = 0x26
	opMemorySize   Op = 0x3f
	opMemoryGrow   Op = 0x40
	opI32Const     Op = 0x41
	opI64Const     Op = 0x42
	opF32Const     Op = 0x43
	opF64Const     Op = 0x44
	opI32Eqz       Op = 0x45
	opI32LtS       Op = 0x48
	opF32Eq        Op = 0x5b
	opF64Eq        Op = 0x61
	opI32Sub       Op = 0x6b
	opI32And       Op = 0x71
	opI32Or        Op = 0x72
	opI64Or        Op = 0x84
	opI64Add       Op = 0x7c
	opRefNull      Op = 0xd0
	opRefIsNull    Op = 0xd1
	opRefFunc      Op = 0xd2
	opMemoryInit   Op = 0xfc08
	opDataDrop     Op = 0xfc09
	opMemoryCopy   Op = 0xfc0a
	opMemoryFill   Op = 0xfc0b
	opTableInit    Op = 0xfc0c
	opElemDrop     Op = 0xfc0d
	opTableCopy    Op = 0xfc0e
	opTableGrow    Op = 0xfc0f
	opTableSize    Op = 0xfc10
	opTableFill    Op = 0xfc11
	opV128Const    Op = 0xfd0c
	opF32x4Eq      Op = 0xfd41
	opF64x2Eq      Op = 0xfd47
	opV128And      Op = 0xfd4e
)

// instr appends an instruction.
func (e *encoder) instr(b []byte, i Instr) []byte {
	info, ok := load().byOp[i.Op]
	if !ok {
		e.fail("unknown instruction %s", i.Op)
		return b
	}
	if prefix := byte(i.Op >> 8); prefix != 0 {
		// Never the long form: wazero does not read it.
		b = binary.AppendUvarint(append(b, prefix), uint64(i.Op&0xff))
	} else {
		b = append(b, byte(i.Op))
	}
	n := 0 // immediates used
	next := func() uint64 { n++; return i.imm(n - 1) }
	for _, kind := range []byte(info.immediates) {
		switch kind {
		case 'x':
			b = e.number(b, next())
		case 'z':
			b = append(b, 0)
		case 'b':
			b = e.blockType(b, i)
		case 'c':
			b = e.number(e.number(b, e.funcType(i.Type)), next())
		case 'y': // one type; the count never in the long form, which wazero does not read
			if len(i.Type) != 1 {
				e.fail("%s of the type %q", i.Op, i.Type)
				return b
			}
			b = append(b, 1, e.valueType(i.Type[0]))
		case 'r':
			if len(i.Type) != 1 {
				e.fail("%s of the type %q", i.Op, i.Type)
				return b
			}
			b = append(b, e.valueType(i.Type[0]))
		case 't': // the labels, the last being the default
			if len(i.Imm) == 0 {
				e.fail("a br_table without a label")
				return b
			}
			b = e.number(b, uint64(len(i.Imm)-1))
			for _, label := range i.Imm {
				b = e.number(b, label)
			}
		case 'm':
			b = e.number(e.number(b, next()), next())
		case 'l':
			b = append(b, byte(next()))
		case 'i':
			b = signed(b, int64(int32(next())))
		case 'I':
			b = signed(b, int64(next()))
		case 'f':
			b = binary.LittleEndian.AppendUint32(b, uint32(next()))
		case 'F':
			b = binary.LittleEndian.AppendUint64(b, next())
		case 'v', 's':
			b = binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(b, next()), next())
		}
	}
	return b
}

func (e *encoder) blockType(b []byte, i Instr) []byte {
	t := i.Type
	switch {
	case (t == "" || t == ":") && !i.Indexed:
		return append(b, 0x40)
	case len(t) == 2 && t[0] == ':' && !i.Indexed:
		return append(b, e.valueType(t[1]))
	case t == "":
		t = ":"
	}
	return signed(b, int64(e.funcType(t)))
}

// params and results of a type.
func params(t string) string  { p, _, _ := strings.Cut(t, ":"); return p }
func results(t string) string { _, r, _ := strings.Cut(t, ":"); return r }
