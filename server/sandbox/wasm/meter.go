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
	// StackExport is a mutable i32 global: the slots of 8 bytes that are left of
	// the call stack. Below 0 it is exhausted.
	StackExport = ReservedPrefix + "stack"

	globalExport = ReservedPrefix + "global_"
)

// MeterOptions say with what the counters of a new instance begin. With the zero
// options, an instance can run nothing before its host has given it fuel.
type MeterOptions struct {
	InitialFuel  int64
	InitialStack int32
}

// Metered is a module with counters in its code.
type Metered struct {
	Wasm    []byte
	Globals []SavedGlobal // all mutable globals that the module defines
	// Charges is how many places charge fuel, and Counted how many calls count the
	// stack.
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
// of every function and at the head of every loop. Everything between two checks
// is a straight way through one function, so the counter is at most the price of
// one function's code below 0 when the code stops, plus the last charge by
// length. Instructions that take as long as an operand says are charged by it
// ([PriceBytes], [PriceItem], [PricePage]), and checked, before they run. What is
// done outside, in an imported function, its host charges: it sees the counter.
//
// A module that runs out traps, as if by `unreachable`; the host tells it from
// other traps by the counter, which is below 0 then. Fuel depends on nothing but
// the path that the code takes, so it is the same on every machine, and it can
// only fall.
//
// Why not otherwise: a check in every block costs twice as much; a counter in a
// local would have to be passed through every call; a timeout can't stop code at
// all without a check in every loop that leaves the machine code, which is 9–23
// times slower; counting what ran instead of charging for what will run lets a
// long block finish for nothing.
//
// # The stack
//
// A compiler puts a function's frame on a stack that grows without telling the
// code. A call that may be part of a recursion (see callGraph) takes an upper
// bound of its caller's frame off the second counter, checks, and gives it back
// after it returned. All others are bounded before anything runs, and cost
// nothing.
//
// # What stays as it was
//
// The indices of types, functions, tables, memories, globals and segments, and
// the bytes of all instructions: counters, scratch locals and exports are added
// behind what there is. So a valid module must be read before it is rewritten: an
// index one past the last names a counter afterwards. [Read] has refused it, as
// it has names with [ReservedPrefix]; and with that, a module that was rewritten.
// Custom sections are left out: nothing that runs needs them, and those for
// debuggers would be wrong.
func (m *Module) Meter(o MeterOptions) (*Metered, error) {
	w := &meter{m: m, out: &Metered{}, fuel: uint32(len(m.Globals)), stack: uint32(len(m.Globals)) + 1, graph: m.callGraph()}
	w.out.Wasm = make([]byte, 0, len(m.raw)+len(m.raw)/2+1024)
	w.b = append(w.b, m.raw[:8]...)
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
	graph       *callGraph
}

// sections writes all sections, the changed ones in their places.
func (w *meter) sections(o MeterOptions) {
	m := w.m
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
		case sectionGlobal:
			globals = true
			n, size := binary.Uvarint(content)
			w.section(s.id, w.globals(content[size:], int(n), o))
		case sectionExport:
			exports = true
			n, size := binary.Uvarint(content)
			w.section(s.id, w.exports(content[size:], int(n)))
		case sectionCode:
			w.section(s.id, w.code())
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
	b = appendSigned(append(b, byte(opEnd), byte(I32), 1, byte(opI32Const)), int64(o.InitialStack))
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
	raw := w.m.raw
	long, short := f.locals, f.locals+1 // scratch locals: i64, i32
	b := binary.AppendUvarint(w.scratch[:0], uint64(f.groups)+2)
	b = append(b, raw[f.groupsAt:f.codeAt]...)
	b = append(b, 1, byte(I64), 1, byte(I32))
	at := f.codeAt
	for _, s := range w.m.sites[f.first:f.all] {
		switch s.kind {
		case siteCharge, siteCheck:
			if s.n == 0 {
				continue
			}
			b = append(b, raw[at:s.at]...)
			at = s.at
			b = w.charge(b, s, long)
		case siteBytes, siteItems, sitePages:
			b = append(b, raw[at:s.at]...)
			at = s.at
			b = w.chargeLength(b, s.kind, long, short)
		case siteCall, siteIndirect:
			if !w.graph.within(index, &s) {
				continue
			}
			w.out.Counted++
			b = append(b, raw[at:s.at]...)
			b = w.takeStack(b, f.slots)
			b = append(b, raw[s.at:s.to]...)
			at = s.to
			b = w.giveStack(b, f.slots)
		}
	}
	w.scratch = append(b, raw[at:f.end]...)
}

// charge takes a fixed price off the fuel, and may check what is left.
func (w *meter) charge(b []byte, s site, long uint32) []byte {
	w.out.Charges++
	b = appendOp(b, opGlobalGet, w.fuel)
	b = appendSigned(append(b, byte(opI64Const)), int64(s.n))
	b = append(b, i64Sub)
	if s.kind == siteCheck {
		return w.check(b, long)
	}
	return appendOp(b, opGlobalSet, w.fuel)
}

// Instructions that the rewriter writes.
const (
	i32LtS       = 0x48
	i32Add       = 0x6a
	i32Sub       = 0x6b
	i64LtS       = 0x53
	i64ShrU      = 0x88
	i64Sub       = 0x7d
	i64Mul       = 0x7e
	i64ExtendI32 = 0xad // unsigned
	blockEmpty   = 0x40
)

// check stores the fuel that is on the stack, and traps if it is below 0.
func (w *meter) check(b []byte, long uint32) []byte {
	b = appendOp(b, opLocalTee, long)
	b = appendOp(b, opGlobalSet, w.fuel)
	b = appendOp(b, opLocalGet, long)
	return append(b, byte(opI64Const), 0, i64LtS, byte(opIf), blockEmpty, byte(opUnreachable), byte(opEnd))
}

// chargeLength takes a price off the fuel that depends on the operand on top of
// the stack, and leaves the operand.
func (w *meter) chargeLength(b []byte, kind siteKind, long, short uint32) []byte {
	b = appendOp(b, opLocalTee, short)
	b = appendOp(b, opGlobalGet, w.fuel)
	b = appendOp(b, opLocalGet, short)
	b = append(b, i64ExtendI32, byte(opI64Const))
	switch kind {
	case siteBytes:
		b = append(appendSigned(b, 3), i64ShrU) // PriceBytes
	case siteItems:
		b = append(appendSigned(b, PriceItem), i64Mul)
	default:
		b = append(appendSigned(b, PricePage), i64Mul)
	}
	return w.check(append(b, i64Sub), long)
}

// takeStack takes slots off the stack, and traps if there are none left.
func (w *meter) takeStack(b []byte, slots int) []byte {
	b = appendOp(b, opGlobalGet, w.stack)
	b = appendSigned(append(b, byte(opI32Const)), int64(slots))
	b = appendOp(append(b, i32Sub), opGlobalSet, w.stack)
	b = appendOp(b, opGlobalGet, w.stack)
	return append(b, byte(opI32Const), 0, i32LtS, byte(opIf), blockEmpty, byte(opUnreachable), byte(opEnd))
}

// giveStack gives slots back.
func (w *meter) giveStack(b []byte, slots int) []byte {
	b = appendOp(b, opGlobalGet, w.stack)
	b = appendSigned(append(b, byte(opI32Const)), int64(slots))
	return appendOp(append(b, i32Add), opGlobalSet, w.stack)
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
