package wasm_test

import (
	"fmt"
	"slices"
	"strings"

	"rapport/server/sandbox/wasm"
	"rapport/server/sandbox/wasm/wasmgen"
)

// The exports of a twin.
const (
	countExport   = "twin count"   // what was to be paid since it was set to 0
	dearestExport = "twin dearest" // the most that one length cost
	depthExport   = "twin depth"   // how many functions were active at once
	recursExport  = "twin recurs"  // how many times one function was active at once
	activeExport  = "twin active " // with a number: how many times one is now; with none, how many are
	classExport   = "twin class "  // with a class: how many instructions of it were executed
)

// op returns our number of an instruction.
func op(o wasmgen.Op) wasm.Op {
	switch o >> 8 {
	case 0xfc:
		return wasm.Op(0x100 | o&0xff)
	case 0xfd:
		return wasm.Op(0x200 | o&0xff)
	}
	return wasm.Op(o)
}

// twin returns the naive meter's version of a module: an addition to a global
// before each single instruction, of the price that the package documents. It
// works on the parts that a module was made from, so it reads no binary, and it
// knows no basic blocks. It also keeps account of the functions that are active,
// and with a census counts executed instructions by class.
func twin(m *wasmgen.Module, census bool) *wasmgen.Module {
	out := *m
	out.Globals, out.Exports, out.Funcs = slices.Clone(m.Globals), slices.Clone(m.Exports), slices.Clone(m.Funcs)
	add := func(name string) uint64 {
		index := m.Imported(wasmgen.KindGlobal) + uint32(len(out.Globals))
		out.Globals = append(out.Globals, wasmgen.Global{Type: 'I', Mutable: true, Init: wasmgen.Instr{Op: 0x42}})
		out.Exports = append(out.Exports, wasmgen.Export{Name: name, Kind: wasmgen.KindGlobal, Index: index})
		return uint64(index)
	}
	t := twinning{count: add(countExport), dearest: add(dearestExport), classes: map[string]uint64{}}
	t.depth, t.recurs, t.active = add(depthExport), add(recursExport), add(activeExport)
	if census {
		for _, o := range wasmgen.Ops() {
			if _, ok := t.classes[o.Class]; !ok {
				t.classes[o.Class] = add(classExport + o.Class)
			}
		}
	}
	t.module = m
	for i, f := range out.Funcs {
		out.Funcs[i] = t.function(f, add(fmt.Sprint(activeExport, i)))
	}
	return &out
}

// twinning has the indices of a twin's globals.
type twinning struct {
	count, dearest, depth, recurs, active uint64

	module  *wasmgen.Module
	classes map[string]uint64
	code    []wasmgen.Instr
}

func (t *twinning) op(o wasmgen.Op, imm ...uint64) {
	t.code = append(t.code, wasmgen.Instr{Op: o, Imm: imm})
}

// pay adds a constant to a global.
func (t *twinning) pay(global, n uint64) {
	if n == 0 {
		return
	}
	t.op(0x23, global) // global.get
	t.op(0x42, n)      // i64.const
	t.op(0x7c)         // i64.add
	t.op(0x24, global) // global.set
}

// most sets a global to the greater of itself and another.
func (t *twinning) most(global, other uint64) {
	t.op(0x23, global)
	t.op(0x23, other)
	t.op(0x23, global)
	t.op(0x23, other)
	t.op(0x56) // i64.gt_u
	t.op(0x1b) // select
	t.op(0x24, global)
}

// function puts the code into a block, so that whatever leaves it, a return too,
// comes by its end, where the function is no longer active.
func (t *twinning) function(f wasmgen.Func, active uint64) wasmgen.Func {
	t.code = nil
	params, results, _ := strings.Cut(f.Type, ":")
	locals := uint64(len(params) + len(f.Locals))
	t.pay(t.count, 1+locals/wasm.PriceLocals)
	t.pay(active, 1)
	t.most(t.recurs, active)
	t.pay(t.active, 1)
	t.most(t.depth, t.active)
	t.code = append(t.code, wasmgen.Instr{Op: 0x02, Type: ":" + results})
	nesting := uint64(0)
	moves := movesOf(f)
	for at, i := range f.Body {
		switch i.Op.String() {
		case "else", "end": // nothing is executed
			if i.Op.String() == "end" {
				nesting--
			}
			t.code = append(t.code, i)
			t.pay(t.count, moves[at])
			continue
		case "loop": // is paid for each time round
			t.code = append(t.code, i)
			nesting++
			t.payFor(i)
			t.pay(t.count, moves[at])
			continue
		case "block", "if":
			nesting++
		}
		t.payFor(i)
		if length := lengthPrice(i.Op); length != nil {
			t.payLength(length, locals)
		}
		if i.Op.String() == "return" {
			i = wasmgen.Instr{Op: 0x0c, Imm: []uint64{nesting}} // br
		}
		t.code = append(t.code, i)
	}
	t.op(0x0b)
	t.pay(active, 1<<64-1)
	t.pay(t.active, 1<<64-1)
	f.Locals += "iI"
	f.Body = t.code
	return f
}

func (t *twinning) payFor(i wasmgen.Instr) {
	price := uint64(wasm.Price(op(i.Op)))
	switch i.Op.String() {
	case "call":
		price += callMoves(t.module.FuncType(uint32(i.Imm[0])))
	case "call_indirect":
		price += callMoves(i.Type)
	}
	t.pay(t.count, price)
	if class, ok := t.classes[i.Op.Class()]; ok {
		t.pay(class, 1)
	}
}

// slots returns how many slots of 8 bytes values take, by the letters of their types.
func slots(letters string) int { return len(letters) + strings.Count(letters, "v") }

// movesPrice returns the price of moving so many slots.
func movesPrice(n int) uint64 { return uint64(max(0, n-wasm.FreeMoves)) / wasm.PriceMoves }

// callMoves returns the price of a call's parameters and results.
func callMoves(t string) uint64 {
	params, results, _ := strings.Cut(t, ":")
	return movesPrice(slots(params) + 2*slots(results))
}

// scope is a block, loop or if, for movesOf.
type scope struct {
	op                          string
	at                          int // of its instruction
	label                       int // slots of the values that a branch to it takes along
	written                     map[uint64]bool
	dead, unreachable, targeted bool
}

// movesOf returns what is to be paid for values that are moved where paths meet,
// by the instruction: the end of a block, or the head of a loop. Each scope keeps
// the whole set of the locals that are written in it.
func movesOf(f wasmgen.Func) map[int]uint64 {
	prices := make(map[int]uint64)
	params, _, _ := strings.Cut(f.Type, ":")
	locals := params + f.Locals
	open := []*scope{{written: make(map[uint64]bool)}}
	for at, i := range f.Body {
		top := open[len(open)-1]
		live := !top.dead && !top.unreachable
		name := i.Op.String()
		switch name {
		case "block", "loop", "if":
			params, results, _ := strings.Cut(i.Type, ":")
			s := &scope{op: name, at: at, label: slots(results), written: make(map[uint64]bool), dead: !live}
			if name == "loop" {
				s.label = slots(params)
			}
			open = append(open, s)
		case "else":
			top.unreachable = false
		case "end":
			open = open[:len(open)-1]
			n := top.label
			for local := range top.written {
				open[len(open)-1].written[local] = true
				n += slots(locals[local : local+1])
			}
			switch {
			case top.dead:
			case top.op == "if" || top.op == "block" && top.targeted:
				prices[at] = movesPrice(n)
			case top.targeted:
				prices[top.at] = movesPrice(n)
			}
		case "local.set", "local.tee":
			top.written[i.Imm[0]] = true
		case "br", "br_if", "br_table":
			for _, label := range i.Imm {
				target := open[len(open)-1-int(label)]
				target.targeted = target.targeted || live
			}
			top.unreachable = top.unreachable || name != "br_if"
		case "return", "unreachable":
			top.unreachable = true
		}
	}
	return prices
}

// lengthPrice returns the instructions that turn the operand on top of the stack
// of an instruction into a price, as an i64; nil if there is none.
func lengthPrice(o wasmgen.Op) []wasmgen.Instr {
	times := func(n uint64) []wasmgen.Instr { return []wasmgen.Instr{{Op: 0x42, Imm: []uint64{n}}, {Op: 0x7e}} }
	switch o.String() {
	case "memory.fill", "memory.copy", "memory.init":
		return []wasmgen.Instr{{Op: 0x42, Imm: []uint64{wasm.PriceBytes}}, {Op: 0x80}} // i64.div_u
	case "table.fill", "table.copy", "table.init", "table.grow":
		return times(wasm.PriceItem)
	case "memory.grow":
		return times(wasm.PricePage)
	}
	return nil
}

// payLength pays for the operand on top of the stack, and leaves it there. The
// two locals behind all others are its own.
func (t *twinning) payLength(price []wasmgen.Instr, locals uint64) {
	length, cost := locals, locals+1
	t.op(0x22, length) // local.tee
	t.op(0xad)         // i64.extend_i32_u
	t.code = append(t.code, price...)
	t.op(0x21, cost) // local.set
	t.op(0x23, t.count)
	t.op(0x20, cost)
	t.op(0x7c)
	t.op(0x24, t.count)
	// dearest = max(dearest, cost)
	t.op(0x20, cost)
	t.op(0x23, t.dearest)
	t.op(0x20, cost)
	t.op(0x23, t.dearest)
	t.op(0x56) // i64.gt_u
	t.op(0x1b) // select
	t.op(0x24, t.dearest)
	t.op(0x20, length)
}
