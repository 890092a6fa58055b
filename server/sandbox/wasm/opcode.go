package wasm

import "fmt"

// Op is an instruction: its byte, or for those that have a prefix, the number
// behind it plus 0x100 (prefix 0xfc) or 0x200 (prefix 0xfd).
type Op uint16

// Instructions that the package or its users treat one by one.
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
	opSelectTyped  Op = 0x1c
	opLocalGet     Op = 0x20
	opLocalSet     Op = 0x21
	opLocalTee     Op = 0x22
	opGlobalGet    Op = 0x23
	opGlobalSet    Op = 0x24
	opTableGet     Op = 0x25
	OpTableSet     Op = 0x26
	opMemorySize   Op = 0x3f
	opMemoryGrow   Op = 0x40
	opI32Const     Op = 0x41
	opI64Const     Op = 0x42
	opF32Const     Op = 0x43
	opF64Const     Op = 0x44
	opRefNull      Op = 0xd0
	opRefIsNull    Op = 0xd1
	opRefFunc      Op = 0xd2

	opMemoryInit Op = 0x108
	OpDataDrop   Op = 0x109
	opMemoryCopy Op = 0x10a
	opMemoryFill Op = 0x10b
	OpTableInit  Op = 0x10c
	OpElemDrop   Op = 0x10d
	OpTableCopy  Op = 0x10e
	OpTableGrow  Op = 0x10f
	opTableSize  Op = 0x110
	OpTableFill  Op = 0x111

	opV128Const Op = 0x20c
	opShuffle   Op = 0x20d
)

// ops is how many numbers an Op may have.
const ops = 0x300

// OpSet is a set of instructions.
type OpSet [ops / 64]uint64

// Has reports whether an instruction is in the set.
func (s *OpSet) Has(o Op) bool { return s[o/64]>>(o%64)&1 != 0 }

func (s *OpSet) add(o Op) { s[o/64] |= 1 << (o % 64) }

// String returns the name of an instruction that has one here, else its number.
func (o Op) String() string {
	if name, ok := opNames[o]; ok {
		return name
	}
	if prefix := o >> 8; prefix > 0 {
		return fmt.Sprintf("instruction %#02x %d", 0xfb+prefix, o&0xff)
	}
	return fmt.Sprintf("instruction %#02x", uint16(o))
}

// opNames are for messages about what a policy refuses.
var opNames = map[Op]string{
	OpTableSet: "table.set", OpTableInit: "table.init", OpTableCopy: "table.copy", OpTableGrow: "table.grow",
	OpTableFill: "table.fill", OpElemDrop: "elem.drop", OpDataDrop: "data.drop",
}

// immediate says what follows an instruction whose operands have fixed types.
type immediate byte

const (
	immNone   immediate = iota
	immMemory           // alignment and offset; arg is the greatest exponent of the alignment
	immLane             // a lane; arg is how many there are
	immMemoryLane
	immZero // a zero byte: memory 0
)

// opcode is what the validator has to know of an instruction whose operands have
// fixed types.
type opcode struct {
	in, out   []ValType
	immediate immediate
	arg, lane byte
	ok        bool
}

// opcodes has every instruction of core 2.0 whose operands have fixed types; the
// validator has the others.
var opcodes = func() (table [ops]opcode) {
	letter := map[byte]ValType{'i': I32, 'I': I64, 'f': F32, 'F': F64, 'v': V128}
	types := func(s string) []ValType {
		t := make([]ValType, len(s))
		for i := range s {
			t[i] = letter[s[i]]
		}
		return t
	}
	// set sets instructions from one number to another, both included.
	set := func(from, to Op, in, out string) {
		for o := from; o <= to; o++ {
			table[o] = opcode{in: types(in), out: types(out), ok: true}
		}
	}
	memory := func(o Op, align byte, in, out string) {
		table[o] = opcode{in: types(in), out: types(out), immediate: immMemory, arg: align, ok: true}
	}
	lane := func(o Op, lanes byte, in, out string) {
		table[o] = opcode{in: types(in), out: types(out), immediate: immLane, lane: lanes, ok: true}
	}
	memoryLane := func(o Op, align, lanes byte, out string) {
		table[o] = opcode{in: types("iv"), out: types(out), immediate: immMemoryLane, arg: align, lane: lanes, ok: true}
	}

	for i, m := range []struct {
		align   byte
		in, out string
	}{
		{2, "i", "i"},
		{3, "i", "I"},
		{2, "i", "f"},
		{3, "i", "F"}, // 0x28 loads
		{0, "i", "i"},
		{0, "i", "i"},
		{1, "i", "i"},
		{1, "i", "i"},
		{0, "i", "I"},
		{0, "i", "I"},
		{1, "i", "I"},
		{1, "i", "I"},
		{2, "i", "I"},
		{2, "i", "I"},
		{2, "ii", ""},
		{3, "iI", ""},
		{2, "if", ""},
		{3, "iF", ""}, // 0x36 stores
		{0, "ii", ""},
		{1, "ii", ""},
		{0, "iI", ""},
		{1, "iI", ""},
		{2, "iI", ""},
	} {
		memory(0x28+Op(i), m.align, m.in, m.out)
	}
	set(opMemorySize, opMemorySize, "", "i")
	set(opMemoryGrow, opMemoryGrow, "i", "i")
	table[opMemorySize].immediate, table[opMemoryGrow].immediate = immZero, immZero

	set(0x45, 0x45, "i", "i") // eqz and comparisons
	set(0x46, 0x4f, "ii", "i")
	set(0x50, 0x50, "I", "i")
	set(0x51, 0x5a, "II", "i")
	set(0x5b, 0x60, "ff", "i")
	set(0x61, 0x66, "FF", "i")
	set(0x67, 0x69, "i", "i") // arithmetic
	set(0x6a, 0x78, "ii", "i")
	set(0x79, 0x7b, "I", "I")
	set(0x7c, 0x8a, "II", "I")
	set(0x8b, 0x91, "f", "f")
	set(0x92, 0x98, "ff", "f")
	set(0x99, 0x9f, "F", "F")
	set(0xa0, 0xa6, "FF", "F")
	for i, c := range []string{ // 0xa7 conversions
		"Ii", "fi", "fi", "Fi", "Fi", "iI", "iI", "fI", "fI", "FI", "FI",
		"if", "if", "If", "If", "Ff", "iF", "iF", "IF", "IF", "fF", "fi", "FI", "if", "IF",
	} {
		set(0xa7+Op(i), 0xa7+Op(i), c[:1], c[1:])
	}
	set(0xc0, 0xc1, "i", "i") // sign extension
	set(0xc2, 0xc4, "I", "I")
	set(0x100, 0x101, "f", "i") // saturating conversions
	set(0x102, 0x103, "F", "i")
	set(0x104, 0x105, "f", "I")
	set(0x106, 0x107, "F", "I")

	// SIMD, prefix 0xfd.
	memory(0x200, 4, "i", "v")
	for o := Op(0x201); o <= 0x206; o++ {
		memory(o, 3, "i", "v")
	}
	for i := range Op(4) {
		memory(0x207+i, byte(i), "i", "v") // splats
		memoryLane(0x254+i, byte(i), 16>>i, "v")
		memoryLane(0x258+i, byte(i), 16>>i, "")
	}
	memory(0x20b, 4, "iv", "")
	memory(0x25c, 2, "i", "v")
	memory(0x25d, 3, "i", "v")
	set(opShuffle, 0x20e, "vv", "v") // and swizzle
	for i, from := range []string{"i", "i", "i", "I", "f", "F"} {
		set(0x20f+Op(i), 0x20f+Op(i), from, "v")
	}
	for _, l := range []struct {
		op      Op
		lanes   byte
		in, out string
	}{
		{21, 16, "v", "i"},
		{22, 16, "v", "i"},
		{23, 16, "vi", "v"},
		{24, 8, "v", "i"},
		{25, 8, "v", "i"},
		{26, 8, "vi", "v"},
		{27, 4, "v", "i"},
		{28, 4, "vi", "v"},
		{29, 2, "v", "I"},
		{30, 2, "vI", "v"},
		{31, 4, "v", "f"},
		{32, 4, "vf", "v"},
		{33, 2, "v", "F"},
		{34, 2, "vF", "v"},
	} {
		lane(0x200+l.op, l.lanes, l.in, l.out)
	}
	simd := func(from, to Op, in, out string) { set(0x200+from, 0x200+to, in, out) }
	simd(35, 76, "vv", "v") // comparisons
	simd(77, 77, "v", "v")  // not
	simd(78, 81, "vv", "v")
	simd(82, 82, "vvv", "v")
	simd(83, 83, "v", "i")
	simd(94, 98, "v", "v")
	simd(99, 100, "v", "i")
	simd(101, 102, "vv", "v")
	simd(103, 106, "v", "v")
	simd(107, 109, "vi", "v")
	simd(110, 115, "vv", "v")
	simd(116, 117, "v", "v")
	simd(118, 121, "vv", "v")
	simd(122, 122, "v", "v")
	simd(123, 123, "vv", "v")
	simd(124, 129, "v", "v")
	simd(130, 130, "vv", "v")
	simd(131, 132, "v", "i")
	simd(133, 134, "vv", "v")
	simd(135, 138, "v", "v")
	simd(139, 141, "vi", "v")
	simd(142, 147, "vv", "v")
	simd(148, 148, "v", "v")
	simd(149, 153, "vv", "v")
	simd(155, 159, "vv", "v")
	simd(160, 161, "v", "v")
	simd(163, 164, "v", "i")
	simd(167, 170, "v", "v")
	simd(171, 173, "vi", "v")
	for _, o := range []Op{174, 177, 181, 182, 183, 184, 185, 186, 188, 189, 190, 191} {
		simd(o, o, "vv", "v")
	}
	simd(192, 193, "v", "v")
	simd(195, 196, "v", "i")
	simd(199, 202, "v", "v")
	simd(203, 205, "vi", "v")
	for _, o := range []Op{206, 209, 213} {
		simd(o, o, "vv", "v")
	}
	simd(214, 223, "vv", "v")
	for base := Op(224); base <= 236; base += 12 { // f32x4, f64x2
		simd(base, base+1, "v", "v")
		simd(base+3, base+3, "v", "v")
		simd(base+4, base+11, "vv", "v")
	}
	simd(248, 255, "v", "v")
	return table
}()
