package wasmgen

import (
	"fmt"
	"slices"
)

// Program is a module and what to do with it.
type Program struct {
	Module *Module
	// Env has what Module imports, from a module named "env" that exports it; nil if
	// nothing is imported.
	Env *Module
	// Ticks bounds a call: if it is not 0, the module has an exported global of
	// this name to be set to this number before each call, and the call ends after
	// at most so many function entries and loop rounds. If it is 0, a call may not
	// end.
	Ticks uint32
	// Canonical: what the program does does not depend on the bits of the NaNs that
	// its instructions make, which the specification leaves open.
	Canonical bool
	Calls     []Call
}

// TicksExport is the name of the global that bounds a program's calls.
const TicksExport = "ticks"

// ObserveExport is a function without parameters that every program exports. It
// returns what can't be seen from outside, in this order: the globals (1 for a
// null reference, 0 for another), the size of each table, and for each entry that
// the tables begin with whether it is null.
const ObserveExport = "observe"

// MemoryExport is the name of the memory, if there is one.
const MemoryExport = "memory"

// Call is a call of an exported function.
type Call struct {
	Export string
	Type   string
	Args   []uint64 // two for a v128; references are null, or any number for an externref
}

// Generate makes a program of the bytes that choose what it is. Any bytes make a
// valid one; the same make the same; none make an empty one.
//
// It writes functions an instruction at a time, following the types on the
// operand stack as a validator does, also in code that can't be reached, where
// operands may come from nowhere. An instruction takes what is on the stack if it
// fits, else its operands are generated first. So that not everything traps at
// once, addresses, lengths, divisors and table indices are mostly kept in bounds,
// and calls through tables mostly have the type of what is there. So that what
// runs ends, most programs count down a global in every function and loop (see
// Program.Ticks).
//
// Alternative: trees of expressions, which are shorter to write, never leave
// anything on the stack across blocks, and so test little of what a rewriter that
// puts code between instructions may get wrong.
func Generate(input []byte) *Program {
	g := &generator{in: choices{b: input}, m: &Module{}}
	g.program()
	return &g.p
}

// generator is a program in the making.
type generator struct {
	in choices
	m  *Module
	p  Program

	globals []Global // all of the module, imported ones first, as in the following
	tables  []Table
	types   []string // of functions
	slots   [][]int  // of each table, the function that is in a slot at first; −1 for none
	memory  bool
	ticks   uint32 // the global
	refs    []uint32
	left    int // instructions that may still be written
}

func (g *generator) program() {
	in := &g.in
	kind := in.byte()
	ticks := kind%5 != 4
	g.p.Canonical = kind/5%2 == 0
	g.m.LongForm = kind/10%8 == 7
	g.left = 1500
	g.typeList()
	if kind/80 == 2 || kind/80 == 1 && in.oneIn(2) {
		g.imports()
	}
	g.declareMemory()
	g.declareTables()
	g.declareGlobals()
	if ticks {
		g.p.Ticks = uint32(20 + 3*in.below(100))
		g.ticks = uint32(len(g.globals))
		g.addGlobal(Global{Type: 'i', Mutable: true, Init: constant('i', uint64(g.p.Ticks))})
		g.export(TicksExport, KindGlobal, g.ticks)
	}
	first := len(g.types)
	for range 1 + in.below(6) {
		g.types = append(g.types, g.funcType())
	}
	start := in.oneIn(8)
	if start {
		g.types = append(g.types, ":")
	}
	g.exports(first)
	g.elements()
	g.data()
	g.calls()
	for i, t := range g.types[first:] {
		f := g.function(first+i, t)
		if first+i == len(g.types)-1 && start {
			index := uint32(first + i)
			g.m.Start = &index
		}
		g.m.Funcs = append(g.m.Funcs, f)
	}
	g.observer()
	g.customs()
	g.m.DataCount = len(g.m.Data) > 0 && (g.usesSegments() || in.oneIn(2))
	g.p.Module = g.m
}

// typeList makes types that nothing may use, and some twice.
func (g *generator) typeList() {
	for range g.in.below(4) {
		t := g.valueTypes(4) + ":" + g.valueTypes(3)
		g.m.Types = append(g.m.Types, t)
		if g.in.oneIn(4) {
			g.m.Types = append(g.m.Types, t)
		}
	}
}

// funcType returns a new type or one that there is.
func (g *generator) funcType() string {
	if len(g.m.Types) > 0 && g.in.oneIn(2) {
		return pick(&g.in, g.m.Types)
	}
	if g.in.oneIn(12) {
		return ":"
	}
	return g.valueTypes(4) + ":" + g.valueTypes(3)
}

func (g *generator) export(name string, k Kind, index uint32) {
	g.m.Exports = append(g.m.Exports, Export{name, k, index})
}

func (g *generator) addGlobal(x Global) {
	g.globals = append(g.globals, x)
	g.m.Globals = append(g.m.Globals, x)
}

// imports makes the other module and imports most of what it has.
func (g *generator) imports() {
	in := &g.in
	env := &generator{in: choices{}, m: &Module{}}
	// What the functions of the other module do is part of what is compared: each
	// mixes its arguments into a global.
	env.addGlobal(Global{Type: 'I', Mutable: true, Init: constant('I', 1)})
	for range in.below(3) {
		env.addGlobal(Global{Type: g.valueType(), Mutable: in.oneIn(2)})
	}
	for i := range env.globals {
		x := &env.globals[i]
		if i > 0 {
			x.Init = g.constant(x.Type)
			env.m.Globals[i].Init = x.Init
		}
		name := fmt.Sprint("g", i)
		env.export(name, KindGlobal, uint32(i))
		g.m.Imports = append(g.m.Imports, Import{Module: "env", Name: name, Kind: KindGlobal, Global: *x})
		g.globals = append(g.globals, *x)
	}
	for i := range in.below(3) {
		t, name := g.funcType(), fmt.Sprint("f", i)
		env.m.Funcs = append(env.m.Funcs, envFunc(t))
		env.export(name, KindFunc, uint32(i))
		g.m.Imports = append(g.m.Imports, Import{Module: "env", Name: name, Kind: KindFunc, Func: t})
		g.types = append(g.types, t)
	}
	if in.oneIn(2) {
		t := Table{Type: pick(in, []byte("rre")), Min: uint32(in.below(6)), Max: uint32(6 + in.below(10)), HasMax: true}
		env.m.Tables = []Table{t}
		env.export("t", KindTable, 0)
		g.m.Imports = append(g.m.Imports, Import{Module: "env", Name: "t", Kind: KindTable, Table: t})
		g.addTable(t)
	}
	if in.oneIn(2) {
		env.m.Memory = &Memory{Min: 1, Max: 2 + uint32(in.below(3)), HasMax: true}
		env.export("m", KindMemory, 0)
		g.m.Imports = append(g.m.Imports, Import{Module: "env", Name: "m", Kind: KindMemory, Memory: *env.m.Memory})
		g.memory = true
	}
	slices.SortStableFunc(g.m.Imports, func(a, b Import) int { return int(b.Name[0]) - int(a.Name[0]) })
	g.p.Env = env.m
}

// envFunc returns a function of the other module, which counts its calls, mixes in
// its integers, and returns its arguments or constants.
func envFunc(t string) Func {
	f := Func{Type: t}
	add := func(op Op, imm ...uint64) { f.Body = append(f.Body, Instr{Op: op, Imm: imm}) }
	mix := func() { add(opI64Add); add(opGlobalSet, 0) }
	add(opGlobalGet, 0)
	add(opI64Const, 1000003)
	mix()
	for i, p := range []byte(params(t)) {
		if p == 'I' {
			add(opGlobalGet, 0)
			add(opLocalGet, uint64(i))
			mix()
		}
	}
	for i, r := range []byte(results(t)) {
		if at := slices.Index([]byte(params(t)), r); at >= 0 {
			add(opLocalGet, uint64(at))
			continue
		}
		k := constant(r, uint64(3+i))
		f.Body = append(f.Body, k)
	}
	return f
}

func (g *generator) addTable(t Table) {
	g.tables = append(g.tables, t)
	slots := make([]int, t.Min)
	for i := range slots {
		slots[i] = -1
	}
	g.slots = append(g.slots, slots)
}

func (g *generator) declareMemory() {
	if !g.memory && !g.in.oneIn(8) {
		g.memory = true
		g.m.Memory = &Memory{Min: uint32(g.in.weighted(1, 5, 2)), HasMax: !g.in.oneIn(4)}
		if g.m.Memory.HasMax {
			g.m.Memory.Max = g.m.Memory.Min + uint32(g.in.below(4))
		}
	}
	if g.memory {
		g.export(MemoryExport, KindMemory, 0)
	}
}

func (g *generator) declareTables() {
	for i := range g.in.below(3) {
		t := Table{Type: pick(&g.in, []byte("rre")), Min: uint32(g.in.below(9)), HasMax: true}
		t.Max = t.Min + uint32(g.in.below(10))
		g.addTable(t)
		g.m.Tables = append(g.m.Tables, t)
		if g.in.oneIn(4) {
			g.export(fmt.Sprint("table", i), KindTable, uint32(len(g.tables)-1))
		}
	}
}

func (g *generator) declareGlobals() {
	for i := range g.in.below(6) {
		x := Global{Type: g.valueType(), Mutable: !g.in.oneIn(3)}
		x.Init = g.constant(x.Type)
		for at, other := range g.globals[:g.m.Imported(KindGlobal)] {
			if other.Type == x.Type && !other.Mutable && g.in.oneIn(2) {
				x.Init = Instr{Op: opGlobalGet, Imm: []uint64{uint64(at)}}
			}
		}
		g.addGlobal(x)
		if g.in.oneIn(3) {
			g.export(fmt.Sprint("global", i), KindGlobal, uint32(len(g.globals)-1))
		}
	}
}

// exports exports most functions, and with that lets ref.func name them.
func (g *generator) exports(first int) {
	for i := range g.types {
		if i == first || !g.in.oneIn(2) {
			g.export(fmt.Sprint("f", i), KindFunc, uint32(i))
			g.refs = append(g.refs, uint32(i))
		}
	}
}

// elements makes element segments of all eight forms.
func (g *generator) elements() {
	in := &g.in
	for table, t := range g.tables {
		if t.Min == 0 || in.oneIn(5) {
			continue
		}
		at := in.below(int(t.Min))
		e := Elem{Mode: Active, Type: t.Type, Table: uint32(table), Offset: constant('i', uint64(at))}
		g.items(&e, int(t.Min)-at)
		if in.oneIn(60) {
			e.Offset = constant('i', uint64(t.Min)) // past the end, if there are items
		}
		for i, item := range e.Items {
			g.slots[table][at+i] = -1
			if item.Op == opRefFunc {
				g.slots[table][at+i] = int(item.imm(0))
			}
		}
		g.m.Elems = append(g.m.Elems, e)
	}
	for range in.below(4) {
		e := Elem{Mode: pick(in, []Mode{Passive, Passive, Declared}), Type: pick(in, []byte("rre"))}
		g.items(&e, 6)
		g.m.Elems = append(g.m.Elems, e)
	}
	for _, e := range g.m.Elems {
		for _, item := range e.Items {
			if item.Op == opRefFunc && !slices.Contains(g.refs, uint32(item.imm(0))) {
				g.refs = append(g.refs, uint32(item.imm(0)))
			}
		}
	}
}

func (g *generator) items(e *Elem, most int) {
	in := &g.in
	e.Indices = e.Type == 'r' && in.oneIn(2)
	for range in.below(most + 1) {
		item := constant(e.Type)
		if e.Type == 'r' && (e.Indices || !in.oneIn(4)) {
			item = Instr{Op: opRefFunc, Imm: []uint64{uint64(in.below(len(g.types)))}}
		}
		e.Items = append(e.Items, item)
	}
}

func (g *generator) data() {
	in := &g.in
	for range in.below(4) {
		d := Data{Mode: pick(in, []Mode{Active, Passive, Passive}), Bytes: make([]byte, in.below(24))}
		if !g.memory {
			d.Mode = Passive
		}
		for i := range d.Bytes {
			d.Bytes[i] = byte(i) * 37
		}
		d.Offset = constant('i', uint64(in.below(1000)))
		if d.Mode == Active && g.m.Memory != nil && g.m.Memory.Min == 0 {
			d.Offset, d.Bytes = constant('i', 0), nil
		}
		g.m.Data = append(g.m.Data, d)
	}
}

func (g *generator) usesSegments() bool {
	for _, f := range g.m.Funcs {
		for _, i := range f.Body {
			if i.Op == opMemoryInit || i.Op == opDataDrop {
				return true
			}
		}
	}
	return false
}

func (g *generator) calls() {
	var funcs []Export
	for _, e := range g.m.Exports {
		if e.Kind == KindFunc && e.Index >= g.m.Imported(KindFunc) {
			funcs = append(funcs, e)
		}
	}
	for range 2 + g.in.below(6) {
		e := pick(&g.in, funcs)
		c := Call{Export: e.Name, Type: g.types[e.Index]}
		for _, t := range []byte(params(c.Type)) {
			switch t {
			case 'r':
				c.Args = append(c.Args, 0)
			case 'e':
				c.Args = append(c.Args, uint64(g.in.byte()))
			default:
				c.Args = append(c.Args, g.bits(t)...)
			}
		}
		g.p.Calls = append(g.p.Calls, c)
	}
}

// observer adds the function that shows the module's state.
func (g *generator) observer() {
	var f Func
	out := []byte(":")
	add := func(t byte, op Op, imm ...uint64) {
		f.Body = append(f.Body, Instr{Op: op, Imm: imm})
		if t != 0 {
			out = append(out, t)
		}
	}
	for i, x := range g.globals {
		if x.Type == 'r' || x.Type == 'e' {
			add(0, opGlobalGet, uint64(i))
			add('i', opRefIsNull)
			continue
		}
		add(x.Type, opGlobalGet, uint64(i))
	}
	for i, t := range g.tables {
		add('i', opTableSize, uint64(i))
		for at := range t.Min {
			add(0, opI32Const, uint64(at))
			add(0, opTableGet, uint64(i))
			add('i', opRefIsNull)
		}
	}
	f.Type = string(out)
	g.export(ObserveExport, KindFunc, g.m.Imported(KindFunc)+uint32(len(g.m.Funcs)))
	g.m.Funcs = append(g.m.Funcs, f)
}

func (g *generator) customs() {
	for i := range g.in.below(3) {
		c := Custom{Before: byte(g.in.below(12)), Name: fmt.Sprint("custom", i), Content: make([]byte, 1+g.in.below(8))}
		g.m.Customs = append(g.m.Customs, c)
	}
}
