package wasm

import (
	"encoding/binary"
	"fmt"
)

// The exports that the rewriter adds.
const (
	// FuelExport is a mutable i64 global: the fuel that is left. Below 0 it is
	// spent.
	FuelExport = ReservedPrefix + "fuel"
	// StackExport is a mutable i64 global: the slots of 8 bytes that are left of
	// the call stack. Below 0 it is exhausted.
	StackExport = ReservedPrefix + "stack"

	globalExport = ReservedPrefix + "global_"
)

// MeterOptions say with what the counters of a new instance begin. With the zero
// options, an instance can run nothing before its host has given it fuel.
type MeterOptions struct {
	InitialFuel  int64
	InitialStack int64
	// Exact has every basic block charge for itself where it begins, so that fuel
	// is exactly the sum of the prices of what ran. It costs more.
	Exact bool
}

// Metered is a module with counters in its code.
type Metered struct {
	Wasm    []byte
	Globals []SavedGlobal // all mutable globals that the module defines
	// Charges is how many places charge fuel, and Counted how many functions count
	// the stack.
	Charges, Counted int
}

// SavedGlobal is a mutable global variable that a host can put back.
type SavedGlobal struct {
	Export string
	Type   ValType
}

// Meter returns the module with two counters in its code, which bound how long a
// call of it takes and how deep it goes, whatever the code does; and with all of
// its mutable globals exported.
//
// # Fuel
//
// One unit of fuel is about one instruction; those that take many times as long
// cost more ([Price]). Each basic block is charged for as a whole where it
// begins, before any of it runs: a load, a subtraction and a store. Whether there
// is fuel left is checked only where code can go on without end: at the beginning
// of functions, at the head of every loop, and with each charge that comes after a
// call, as the way back from a recursion leads through the rest of many functions.
// Everything between two checks is a straight way through one function, so the
// counter is at most the price of one function's code, and 64 units for each of its
// blocks, below 0 when the code stops or returns, plus the last charge by length. A
// host has to look: a call that returns with a counter below 0 has used more than
// it had. Instructions that take as long as an operand says are charged by it
// ([PriceBytes], [PriceItem], [PricePage]), and checked, before they run. What is
// done outside, in an imported function, its host charges: it sees the counter.
//
// Some work is in no instruction. Where two paths meet, a compiler moves each local
// that was written on either, and each result; and for a call, parameters and
// results. That is charged for too ([PriceMoves]): a loop around a single `if` that
// is never taken, with 4,000 locals written in it, took 116 ns a unit before, and
// the 256 results of a function that only passes them on 9 ns; now both take 1.
//
// A processor takes about five cycles from one charge to the next, as each loads
// what the last stored, and in code of short blocks and short functions nothing
// else is as slow. So there are fewer charges than blocks: a block of up to 64
// units is paid for by all blocks that lead to it (see plan), and a function of up
// to 64 units that has no loop, is in no recursion, and is only called directly,
// by its callers. So a call may be charged for ways that it did not take, at most
// 64 units for each fork; for less than it did only if it trapped on the way into
// a function's first loop, by at most 16. [MeterOptions.Exact] turns this off.
//
// A module that runs out traps, as if by `unreachable`; the host tells it from
// other traps by the counter, which is below 0 then. Fuel depends on nothing but
// the path that the code takes, so it is the same on every machine, and it can
// only fall.
//
// What it costs (bench.MeasureMetering, and the strategies that ship): 0 to 5% in
// most code, 10% for a scalar product, 15% for a loop that does nothing but call
// two short functions, 20% for an insertion sort, 25% for a recursive Fibonacci,
// 5 to 9% for a strategy in Go.
//
// Why not otherwise: with a charge in every block, the recursion takes 2.3 times
// as long as without, the calls 1.8 times, the strategy in Go 1.3 times. Passing
// the counter through every call as a parameter and result, to keep it in a
// register, takes 1.4 and 1.8, as every short function still charges for itself.
// Keeping it in a local of functions that call nothing gains 2%, and loses what
// was used when they trap. A timeout can't stop code at all without a check in
// every loop that leaves the machine code, which is 3 to 28 times slower. Counting
// what ran instead of charging for what will run lets a long block finish for
// nothing.
//
// # The stack
//
// A compiler puts a function's frame on a stack that grows without telling the
// code. A function that may be part of a recursion (see callGraph) takes an upper
// bound of its frame off what the second counter says when it begins, checks, and
// puts the rest into the counter before each call that may lead into a recursion.
// Nothing is given back on return: who calls next, puts its own rest in. Calls of
// all other functions are bounded before anything runs, and cost nothing. (The
// counter is an i64: with an i32, Go programs took 1.7 times as long in every
// second instance, as the processor had trouble forwarding the shorter stores.)
//
// # What is chosen
//
// A select of floats or vectors is written as other instructions that give the same
// bits. The compiler of wazero 1.12.0, the newest, makes wrong code of it on amd64
// where registers are short: the register that a conditional move may leave as it
// is counts as not read (wazero's issue 2534), so something else is put there before.
// AssemblyScript's sort of three numbers gave 2, 2, 7 for 6, 7, 2. Integers are not
// concerned. When a version that mends it is in use, this can go.
//
// # What stays as it was
//
// The indices of types, functions, tables, memories, globals and segments, and
// the bytes of all other instructions: counters, scratch locals and exports are added
// behind what there is. So a valid module must be read before it is rewritten: an
// index one past the last names a counter afterwards. [Read] has refused it, as
// it has names with [ReservedPrefix]; and with that, a module that was rewritten.
// Custom sections are left out: nothing that runs needs them, and those for
// debuggers would be wrong.
func (m *Module) Meter(o MeterOptions) (*Metered, error) {
	w := &meter{m: m, out: &Metered{}, fuel: uint32(len(m.Globals)), stack: uint32(len(m.Globals)) + 1, plan: m.plan(!o.Exact), blocks: make(map[string]int)}
	w.b = append(make([]byte, 0, len(m.raw)+len(m.raw)/2+1024), m.raw[:8]...)
	w.sections(o)
	if len(w.b) > maxMetered {
		return nil, &Error{Kind: OverLimit, Message: fmt.Sprintf("with counters it has %d bytes; at most %d are allowed", len(w.b), maxMetered)}
	}
	w.out.Wasm = w.b
	return w.out, nil
}

// maxMetered is the most bytes that a rewritten module may have.
const maxMetered = 128 << 20

// meter is the work of Meter.
type meter struct {
	m           *Module
	out         *Metered
	b           []byte
	scratch     []byte // of one function
	fuel, stack uint32 // globals
	plan        *plan
	blocks      map[string]int // by results, the types that were added
	types       []byte         // these
}

// sections writes all sections, the changed ones in their places.
func (w *meter) sections(o MeterOptions) {
	m := w.m
	code := w.code() // it may need types
	globals, exports := false, false
	before := func(id byte) { // what has to come before a section
		if !globals && rank(id) > rank(sectionGlobal) {
			globals = true
			w.section(sectionGlobal, w.globals(nil, 0, o))
		}
		if !exports && rank(id) > rank(sectionExport) {
			exports = true
			w.section(sectionExport, w.exports(nil, 0))
		}
	}
	for _, s := range m.sections {
		content := m.raw[s.from:s.to]
		before(s.id)
		switch s.id {
		case sectionType:
			n, size := binary.Uvarint(content)
			b := binary.AppendUvarint(nil, n+uint64(len(w.blocks)))
			w.section(s.id, append(append(b, content[size:]...), w.types...))
		case sectionGlobal:
			globals = true
			n, size := binary.Uvarint(content)
			w.section(s.id, w.globals(content[size:], int(n), o))
		case sectionExport:
			exports = true
			n, size := binary.Uvarint(content)
			w.section(s.id, w.exports(content[size:], int(n)))
		case sectionCode:
			w.section(s.id, code)
		default:
			w.section(s.id, content)
		}
	}
	before(sectionData)
}

func (w *meter) section(id byte, content []byte) {
	w.b = append(w.b, id)
	w.b = binary.AppendUvarint(w.b, uint64(len(content)))
	w.b = append(w.b, content...)
}

// globals returns the section of globals, with the counters behind the n that
// there are.
func (w *meter) globals(content []byte, n int, o MeterOptions) []byte {
	b := binary.AppendUvarint(nil, uint64(n+2))
	b = append(b, content...)
	b = appendSigned(append(b, byte(I64), 1, byte(opI64Const)), o.InitialFuel)
	b = appendSigned(append(b, byte(opEnd), byte(I64), 1, byte(opI64Const)), o.InitialStack)
	return append(b, byte(opEnd))
}

// exports returns the section of exports, with those of the counters and of all
// mutable globals behind the n that there are.
func (w *meter) exports(content []byte, n int) []byte {
	var added []byte
	add := func(name string, index uint32) {
		n++
		added = binary.AppendUvarint(added, uint64(len(name)))
		added = append(append(added, name...), byte(ExternGlobal))
		added = binary.AppendUvarint(added, uint64(index))
	}
	add(FuelExport, w.fuel)
	add(StackExport, w.stack)
	for i := w.m.ImportedGlobals; i < len(w.m.Globals); i++ {
		if g := w.m.Globals[i]; g.Mutable {
			name := fmt.Sprint(globalExport, i)
			add(name, uint32(i))
			w.out.Globals = append(w.out.Globals, SavedGlobal{name, g.Type})
		}
	}
	b := binary.AppendUvarint(nil, uint64(n))
	return append(append(b, content...), added...)
}

func (w *meter) code() []byte {
	b := make([]byte, 0, len(w.m.raw))
	b = binary.AppendUvarint(b, uint64(len(w.m.bodies)))
	for i := range w.m.bodies {
		w.function(uint32(w.m.ImportedFuncs+i), &w.m.bodies[i])
		b = binary.AppendUvarint(b, uint64(len(w.scratch)))
		b = append(b, w.scratch...)
	}
	return b
}

// function writes the body of a function into scratch: its code as it is, with
// something put in at each site.
func (w *meter) function(index uint32, f *body) {
	raw, graph := w.m.raw, w.plan.graph
	l := scratchLocals{fuel: f.locals, rest: f.locals + 1, short: f.locals + 2}
	b := binary.AppendUvarint(w.scratch[:0], uint64(f.groups)+2)
	b = append(b, raw[f.groupsAt:f.codeAt]...)
	b = append(b, 2, byte(I64), 1, byte(I32))
	recursive := graph.recursive(index)
	if recursive {
		b = append(b, byte(opBlock), blockEmpty)
	}
	b = append(b, byte(opBlock), blockEmpty, byte(opBlock))
	b = w.blockType(b, w.m.FuncType(index).Results)
	if recursive {
		w.out.Counted++
		b = w.takeStack(b, f.slots, l)
	}
	at, called := f.codeAt, false
	for i := f.first; i < f.all; i++ {
		s := &w.m.sites[i]
		b = append(b, raw[at:s.at]...)
		at = s.at
		switch s.kind {
		case siteCharge, siteCheck:
			if price := w.plan.price[i]; price > 0 {
				b = w.charge(b, price, s, called, l)
			}
		case siteBytes, siteItems, sitePages:
			b = w.chargeLength(b, s, l)
		case siteSelect:
			b = choose(b, ValType(s.n), l)
			at = s.to
		case siteCall, siteIndirect:
			called = true
			if !graph.leads(s) {
				continue
			}
			if recursive {
				b = appendOp(appendOp(b, opLocalGet, l.rest), opGlobalSet, w.stack)
				continue
			}
			b = appendOp(appendOp(b, opGlobalGet, w.stack), opLocalSet, l.rest)
			b = append(b, raw[s.at:s.to]...)
			at = s.to
			b = appendOp(appendOp(b, opLocalGet, l.rest), opGlobalSet, w.stack)
		}
	}
	b = append(b, raw[at:f.end]...)
	b = append(b, byte(opReturn), byte(opEnd), byte(opUnreachable), byte(opEnd))
	if recursive {
		b = appendOp(append(b, byte(opI64Const), 0x7f), opGlobalSet, w.stack) // −1
		b = append(b, byte(opUnreachable), byte(opEnd))
	}
	w.scratch = b
}

// blockType appends the type of a block that takes nothing.
func (w *meter) blockType(b []byte, results []ValType) []byte {
	switch len(results) {
	case 0:
		return append(b, blockEmpty)
	case 1:
		return append(b, byte(results[0]))
	}
	name := list(results)
	t, ok := w.blocks[name]
	if !ok {
		t = len(w.m.Types) + len(w.blocks)
		w.blocks[name] = t
		w.types = append(w.types, 0x60, 0)
		w.types = binary.AppendUvarint(w.types, uint64(len(results)))
		for _, r := range results {
			w.types = append(w.types, byte(r))
		}
	}
	return appendSigned(b, int64(t))
}

// scratchLocals are the locals that the rewriter adds to a function.
type scratchLocals struct {
	fuel  uint32 // i64: what is left, or an operand, from one instruction to the next
	rest  uint32 // i64: the stack that calls may take
	short uint32 // i32: an operand, from one instruction to the next
}

// Instructions that the rewriter writes.
const (
	i64LtS       = 0x53
	i64ShrU      = 0x88
	i64Sub       = 0x7d
	i64Mul       = 0x7e
	i64ExtendI32 = 0xad // unsigned
	blockEmpty   = 0x40

	i32Eqz            = 0x45
	i32WrapI64        = 0xa7
	i32ReinterpretF32 = 0xbc
	i64ReinterpretF64 = 0xbd
	f32ReinterpretI32 = 0xbe
	f64ReinterpretI64 = 0xbf
)

// Vector instructions that the rewriter writes.
var (
	i64x2Splat    = []byte{0xfd, 0x12}
	v128Bitselect = []byte{0xfd, 0x52}
)

// choose writes a select of floats as one of integers, and one of vectors as one of
// bits: see "What is chosen" at [Module.Meter]. The scratch locals hold the condition
// and the second operand.
func choose(b []byte, t ValType, l scratchLocals) []byte {
	b = appendOp(b, opLocalSet, l.short)
	if t == V128 {
		// 0 - 1 where the condition is true, 1 - 1 where not
		b = append(appendOp(b, opLocalGet, l.short), i32Eqz, i64ExtendI32, byte(opI64Const), 1, i64Sub)
		return append(append(b, i64x2Splat...), v128Bitselect...)
	}
	to, back := []byte{i64ReinterpretF64}, []byte{f64ReinterpretI64}
	if t == F32 {
		to, back = []byte{i32ReinterpretF32, i64ExtendI32}, []byte{i32WrapI64, f32ReinterpretI32}
	}
	b = append(appendOp(append(b, to...), opLocalSet, l.fuel), to...)
	b = append(appendOp(appendOp(b, opLocalGet, l.fuel), opLocalGet, l.short), byte(opSelect))
	return append(b, back...)
}

// charge takes a fixed price off the fuel, and checks what is left at a site that
// asks for it and at all that come after a call.
func (w *meter) charge(b []byte, price uint32, s *site, called bool, l scratchLocals) []byte {
	w.out.Charges++
	b = appendOp(b, opGlobalGet, w.fuel)
	b = appendSigned(append(b, byte(opI64Const)), int64(price))
	b = append(b, i64Sub)
	if called || s.kind == siteCheck {
		return w.check(b, s, l)
	}
	return appendOp(b, opGlobalSet, w.fuel)
}

// check stores the fuel that is on the stack, and traps if it is below 0. All
// checks of a function branch to one place behind its code, so that a check is a
// comparison and a branch that is not taken.
func (w *meter) check(b []byte, s *site, l scratchLocals) []byte {
	b = appendOp(appendOp(b, opLocalTee, l.fuel), opGlobalSet, w.fuel)
	b = appendOp(b, opLocalGet, l.fuel)
	return appendOp(append(b, byte(opI64Const), 0, i64LtS), opBrIf, uint32(s.depth))
}

// chargeLength takes a price off the fuel that depends on the operand on top of
// the stack, and leaves the operand.
func (w *meter) chargeLength(b []byte, s *site, l scratchLocals) []byte {
	b = appendOp(b, opLocalTee, l.short)
	b = appendOp(b, opGlobalGet, w.fuel)
	b = appendOp(b, opLocalGet, l.short)
	b = append(b, i64ExtendI32, byte(opI64Const))
	switch s.kind {
	case siteBytes:
		b = append(appendSigned(b, 3), i64ShrU) // PriceBytes
	case siteItems:
		b = append(appendSigned(b, PriceItem), i64Mul)
	default:
		b = append(appendSigned(b, PricePage), i64Mul)
	}
	return w.check(append(b, i64Sub), s, l)
}

// takeStack keeps what the stack has left without a function's own frame, and
// traps if that is below 0. It stands at the beginning of the function.
func (w *meter) takeStack(b []byte, slots int, l scratchLocals) []byte {
	b = appendOp(b, opGlobalGet, w.stack)
	b = appendSigned(append(b, byte(opI64Const)), int64(slots))
	b = appendOp(append(b, i64Sub), opLocalTee, l.rest)
	return appendOp(append(b, byte(opI64Const), 0, i64LtS), opBrIf, 2)
}

func appendOp(b []byte, o Op, index uint32) []byte {
	return binary.AppendUvarint(append(b, byte(o)), uint64(index))
}

// appendSigned appends a signed LEB128 number.
func appendSigned(b []byte, v int64) []byte {
	for {
		low := byte(v & 0x7f)
		v >>= 7
		if v == 0 && low&0x40 == 0 || v == -1 && low&0x40 != 0 {
			return append(b, low)
		}
		b = append(b, low|0x80)
	}
}
