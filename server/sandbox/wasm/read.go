package wasm

import "strings"

// ReservedPrefix begins the export names that only the rewriter makes. A module
// that exports or imports such a name is refused.
const ReservedPrefix = "__rapport_"

// The sections, in the order that they must come in; 0 is a custom one.
const (
	sectionCustom = iota
	sectionType
	sectionImport
	sectionFunction
	sectionTable
	sectionMemory
	sectionGlobal
	sectionExport
	sectionStart
	sectionElement
	sectionCode
	sectionData
	sectionDataCount
)

// sectionTag is the section of a later proposal.
const sectionTag = 13

// rank is the place of a section in the order. Data count comes before code.
func rank(id byte) int {
	switch id {
	case sectionDataCount:
		return 2*sectionElement + 1
	default:
		return 2 * int(id)
	}
}

// Read decodes and validates a module. What it returns refers to b, which must
// not change. Its error is an [*Error].
func Read(b []byte, l Limits) (*Module, error) {
	m := &Module{Start: -1, raw: b, dataCount: -1, declared: make(map[uint32]bool)}
	r := &reader{b: b, end: len(b), limits: &l}
	m.read(r)
	if r.err != nil {
		return nil, r.err
	}
	return m, nil
}

func (m *Module) read(r *reader) {
	switch b := r.b; {
	case len(b) > r.limits.ModuleBytes:
		r.fail(OverLimit, "it has %d bytes; at most %d are allowed", len(b), r.limits.ModuleBytes)
		return
	case len(b) < 8 || string(b[:4]) != "\x00asm":
		r.fail(Malformed, "not a WebAssembly binary: it does not begin with \\0asm and a version")
		return
	case string(b[4:8]) == "\x0d\x00\x01\x00":
		r.failAt(4, Unsupported, "a component, not a core module")
		return
	case string(b[4:8]) != "\x01\x00\x00\x00":
		r.failAt(4, Malformed, "not version 1 of the binary format")
		return
	}
	r.at = 8
	d := decoder{m: m, r: r}
	last := 0
	for r.more() {
		at := r.at
		id := r.byte()
		size := r.u32()
		if r.err == nil && uint64(size) > uint64(r.end-r.at) {
			r.failAt(at, Malformed, "section %d has %d bytes, and the file %d more", id, size, r.end-r.at)
		}
		if r.err != nil {
			return
		}
		if id != sectionCustom {
			if id == sectionTag {
				r.failAt(at, Unsupported, "a section of tags: exceptions are not supported")
				return
			}
			if id > sectionDataCount {
				r.failAt(at, Malformed, "there is no section %d", id)
				return
			}
			if rank(id) <= last {
				r.failAt(at, Malformed, "section %d is out of order, or there twice", id)
				return
			}
			last = rank(id)
			m.sections = append(m.sections, section{id, r.at, r.at + int(size)})
		}
		d.section(id, int(size))
	}
	d.finish()
}

// decoder reads the sections of a module.
type decoder struct {
	m *Module
	r *reader

	functions int // in the function section
	bodies    int // in the code section
	exported  map[string]bool
	tables    uint64 // entries in all tables
	items     int    // in all element segments
}

// section reads one section, which must have exactly the bytes that it says.
func (d *decoder) section(id byte, size int) {
	r, whole := d.r, d.r.end
	r.end = r.at + size
	read := [...]func(){
		sectionCustom: d.custom, sectionType: d.types, sectionImport: d.imports, sectionFunction: d.funcs,
		sectionTable: d.tableTypes, sectionMemory: d.memories, sectionGlobal: d.globals, sectionExport: d.exports,
		sectionStart: d.start, sectionElement: d.elements, sectionCode: d.code, sectionData: d.data,
		sectionDataCount: d.countOfData,
	}
	read[id]()
	if r.err == nil && r.at != r.end {
		r.fail(Malformed, "section %d has %d bytes too many", id, r.end-r.at)
	}
	r.end = whole
	if r.err != nil {
		r.at = r.end
	}
}

// finish checks what can be said only at the end.
func (d *decoder) finish() {
	switch m, r := d.m, d.r; {
	case r.err != nil:
	case d.functions != d.bodies:
		r.fail(Malformed, "%d functions and %d bodies", d.functions, d.bodies)
	case m.dataCount >= 0 && m.dataCount != m.dataSegs:
		r.fail(Malformed, "%d data segments are announced, and there are %d", m.dataCount, m.dataSegs)
	}
}

func (d *decoder) custom() {
	d.r.name("name of a custom section")
	d.r.at = d.r.end
}

func (d *decoder) types() {
	r := d.r
	for n := r.count(r.limits.Types, "types"); n > 0 && r.err == nil; n-- {
		at := r.at
		switch form := r.byte(); form {
		case 0x60:
		case 0x4e, 0x4f, 0x50, 0x5e, 0x5f:
			r.failAt(at, Unsupported, "a type of the garbage collection proposal")
			return
		default:
			r.failAt(at, Malformed, "%#02x begins no function type", form)
			return
		}
		params := d.valTypes(r.limits.Params, "parameters")
		results := d.valTypes(r.limits.Results, "results")
		d.m.Types = append(d.m.Types, FuncType{params, results})
	}
}

func (d *decoder) valTypes(limit int, what string) []ValType {
	n := d.r.count(limit, what)
	if n == 0 {
		return nil
	}
	types := make([]ValType, n)
	for i := range types {
		types[i] = d.r.valType()
	}
	return types
}

func (d *decoder) imports() {
	r, m := d.r, d.m
	for n := r.count(r.limits.Imports, "imports"); n > 0 && r.err == nil; n-- {
		at := r.at
		i := Import{Module: r.name("name of an import's module"), Name: r.name("name of an import")}
		if strings.HasPrefix(i.Name, ReservedPrefix) || strings.HasPrefix(i.Module, ReservedPrefix) {
			r.failAt(at, Reserved, "the import %.80q.%.80q: names that begin with %s are reserved", i.Module, i.Name, ReservedPrefix)
		}
		at = r.at
		switch kind := ExternKind(r.byte()); kind {
		case ExternFunc:
			i.Kind, i.Index = kind, uint32(len(m.Funcs))
			d.function()
			m.ImportedFuncs++
		case ExternTable:
			i.Kind, i.Index = kind, uint32(len(m.Tables))
			d.table()
		case ExternMemory:
			i.Kind, i.Index = kind, uint32(len(m.Memories))
			d.memory()
		case ExternGlobal:
			i.Kind, i.Index = kind, uint32(len(m.Globals))
			m.Globals = append(m.Globals, d.global())
			m.ImportedGlobals++
		case 4:
			r.failAt(at, Unsupported, "an imported tag: exceptions are not supported")
		default:
			r.failAt(at, Malformed, "%#02x is no kind of import", byte(kind))
		}
		m.Imports = append(m.Imports, i)
	}
}

// function reads the type of a function.
func (d *decoder) function() {
	r, m := d.r, d.m
	at := r.at
	t := r.u32()
	switch {
	case r.err != nil:
	case int64(t) >= int64(len(m.Types)):
		r.failAt(at, Invalid, "a function of type %d, of %d", t, len(m.Types))
	case len(m.Funcs) >= r.limits.Functions:
		r.failAt(at, OverLimit, "more than %d functions", r.limits.Functions)
	default:
		m.Funcs = append(m.Funcs, t)
	}
}

func (d *decoder) funcs() {
	r := d.r
	for n := r.count(r.limits.Functions, "functions"); n > 0 && r.err == nil; n-- {
		d.function()
		d.functions++
	}
}

func (d *decoder) tableTypes() {
	r := d.r
	for n := r.count(r.limits.Tables, "tables"); n > 0 && r.err == nil; n-- {
		d.table()
	}
}

func (d *decoder) table() {
	r, m := d.r, d.m
	at := r.at
	if r.at < r.end && r.b[r.at] == 0x40 {
		r.fail(Unsupported, "a table with an initial value")
		return
	}
	t := Table{Type: r.refType()}
	t.Min, t.Max, t.HasMax = r.bounds("table")
	if r.err == nil && t.HasMax && t.Max < t.Min {
		r.failAt(at, Invalid, "a table of at least %d and at most %d entries", t.Min, t.Max)
	}
	if d.tables += uint64(t.Min); r.err == nil && d.tables > uint64(r.limits.TableEntries) {
		r.failAt(at, OverLimit, "tables of %d entries; at most %d are allowed", d.tables, r.limits.TableEntries)
	}
	if m.Tables = append(m.Tables, t); r.err == nil && len(m.Tables) > r.limits.Tables {
		r.failAt(at, OverLimit, "more than %d tables", r.limits.Tables)
	}
}

func (d *decoder) memories() {
	r := d.r
	for n := r.count(1<<16, "memories"); n > 0 && r.err == nil; n-- {
		d.memory()
	}
}

func (d *decoder) memory() {
	const most = 1 << 16
	r, m := d.r, d.m
	at := r.at
	var l Memory
	l.Min, l.Max, l.HasMax = r.bounds("memory")
	switch {
	case r.err != nil:
	case l.Min > most || l.HasMax && l.Max > most:
		r.failAt(at, Invalid, "a memory of %d to %d pages; there can be %d", l.Min, l.Max, most)
	case l.HasMax && l.Max < l.Min:
		r.failAt(at, Invalid, "a memory of at least %d and at most %d pages", l.Min, l.Max)
	case l.Min > r.limits.MemoryPages:
		r.failAt(at, OverLimit, "a memory of %d pages of 64 KiB; at most %d are allowed", l.Min, r.limits.MemoryPages)
	case len(m.Memories) > 0:
		r.failAt(at, Invalid, "a second memory")
	default:
		m.Memories = append(m.Memories, l)
	}
}

func (d *decoder) global() (g Global) {
	r := d.r
	g.Type = r.valType()
	at := r.at
	switch mutable := r.byte(); mutable {
	case 0:
	case 1:
		g.Mutable = true
	default:
		r.failAt(at, Malformed, "%#02x is no mutability", mutable)
	}
	return g
}

func (d *decoder) globals() {
	r, m := d.r, d.m
	for n := r.count(r.limits.Globals, "globals"); n > 0 && r.err == nil; n-- {
		g := d.global()
		d.constant(g.Type)
		m.Globals = append(m.Globals, g)
	}
}

// constant reads an expression that has a value of a type before anything runs.
func (d *decoder) constant(want ValType) {
	r, m := d.r, d.m
	begin, values := r.at, 0
	for {
		at := r.at
		var t ValType
		switch op := Op(r.byte()); {
		case r.err != nil:
			return
		case op == opEnd:
			if values != 1 {
				r.failAt(begin, Invalid, "a constant expression of %d values", values)
			}
			return
		case op == opI32Const:
			t = I32
			r.signed(32)
		case op == opI64Const:
			t = I64
			r.signed(64)
		case op == opF32Const:
			t = F32
			r.skip(4)
		case op == opF64Const:
			t = F64
			r.skip(8)
		case op == opRefNull:
			t = r.refType()
		case op == opRefFunc:
			t = FuncRef
			if f := r.u32(); r.err == nil && !m.hasFunc(f) {
				r.failAt(at, Invalid, "a reference to function %d, of %d", f, len(m.Funcs))
			} else {
				m.declare(f)
			}
		case op == opGlobalGet:
			g := r.u32()
			switch {
			case r.err != nil:
			case int64(g) >= int64(m.ImportedGlobals):
				// Globals of the module itself are of a later version.
				r.failAt(at, Invalid, "a constant expression with global %d, which is not imported", g)
			case m.Globals[g].Mutable:
				r.failAt(at, Invalid, "a constant expression with global %d, which is mutable", g)
			default:
				t = m.Globals[g].Type
			}
		case op == 0xfd:
			if n := r.opcode(); r.err == nil && Op(n)+0x200 != opV128Const {
				r.failAt(at, Invalid, "an instruction that is not constant in a constant expression")
			}
			t = V128
			r.skip(16)
		case op == 0x6a || op == 0x6b || op == 0x6c || op == 0x7c || op == 0x7d || op == 0x7e:
			r.failAt(at, Unsupported, "a constant expression that calculates")
		default:
			r.failAt(at, Invalid, "an instruction that is not constant in a constant expression")
		}
		if values++; r.err == nil && t != want {
			r.failAt(at, Invalid, "a constant of type %s, not %s", t, want)
		}
	}
}

func (m *Module) hasFunc(f uint32) bool { return int64(f) < int64(len(m.Funcs)) }

// declare notes that there may be a reference to a function.
func (m *Module) declare(f uint32) {
	if m.hasFunc(f) && !m.declared[f] {
		m.declared[f] = true
		m.addressed = append(m.addressed, f)
	}
}

func (d *decoder) exports() {
	r, m := d.r, d.m
	d.exported = make(map[string]bool)
	for n := r.count(r.limits.Exports, "exports"); n > 0 && r.err == nil; n-- {
		at := r.at
		e := Export{Name: r.name("name of an export")}
		e.Kind = ExternKind(r.byte())
		e.Index = r.u32()
		if r.err != nil {
			return
		}
		var there int
		switch e.Kind {
		case ExternFunc:
			there = len(m.Funcs)
			m.declare(e.Index)
		case ExternTable:
			there = len(m.Tables)
		case ExternMemory:
			there = len(m.Memories)
		case ExternGlobal:
			there = len(m.Globals)
		case 4:
			r.failAt(at, Unsupported, "an exported tag: exceptions are not supported")
			return
		default:
			r.failAt(at, Malformed, "%#02x is no kind of export", byte(e.Kind))
			return
		}
		switch {
		case int64(e.Index) >= int64(there):
			r.failAt(at, Invalid, "the export %.80q is %s %d, of %d", e.Name, e.Kind, e.Index, there)
		case d.exported[e.Name]:
			r.failAt(at, Invalid, "the export %.80q is there twice", e.Name)
		case strings.HasPrefix(e.Name, ReservedPrefix):
			r.failAt(at, Reserved, "the export %.80q: names that begin with %s are reserved", e.Name, ReservedPrefix)
		}
		d.exported[e.Name] = true
		m.Exports = append(m.Exports, e)
	}
}

func (d *decoder) start() {
	r, m := d.r, d.m
	at := r.at
	f := r.u32()
	switch {
	case r.err != nil:
	case !m.hasFunc(f):
		r.failAt(at, Invalid, "the start function is %d, of %d", f, len(m.Funcs))
	case len(m.FuncType(f).Params)+len(m.FuncType(f).Results) > 0:
		r.failAt(at, Invalid, "the start function has the type %s", m.FuncType(f))
	default:
		m.Start = int(f)
	}
}

// The bits of an element segment's form.
const (
	elementNotActive = 1 << iota
	elementExplicit  // has a table, if active; is declarative, if not
	elementExpressions
)

func (d *decoder) elements() {
	r, m := d.r, d.m
	for n := r.count(r.limits.Elements, "element segments"); n > 0 && r.err == nil; n-- {
		at := r.at
		form := r.u32()
		if r.err == nil && form > 7 {
			r.failAt(at, Malformed, "%d is no form of an element segment", form)
		}
		t := FuncRef
		active, table := form&elementNotActive == 0, uint32(0)
		if active {
			if form&elementExplicit != 0 {
				table = r.u32()
			}
			if r.err == nil && int64(table) >= int64(len(m.Tables)) {
				r.failAt(at, Invalid, "an element segment for table %d, of %d", table, len(m.Tables))
			}
			d.constant(I32)
		}
		if form&(elementNotActive|elementExplicit) != 0 {
			if form&elementExpressions != 0 {
				t = r.refType()
			} else if kind := r.byte(); r.err == nil && kind != 0 {
				r.failAt(r.at-1, Malformed, "%#02x is no kind of element", kind)
			}
		}
		if active && r.err == nil && m.Tables[table].Type != t {
			r.failAt(at, Invalid, "an element segment of %s for a table of %s", t, m.Tables[table].Type)
		}
		d.elementItems(t, form&elementExpressions != 0)
		m.elemTypes = append(m.elemTypes, t)
	}
}

func (d *decoder) elementItems(t ValType, expressions bool) {
	r, m := d.r, d.m
	n := r.count(r.limits.ElementItems, "items in element segments")
	if d.items += n; d.items > r.limits.ElementItems {
		r.fail(OverLimit, "more than %d items in element segments", r.limits.ElementItems)
	}
	for ; n > 0 && r.err == nil; n-- {
		if expressions {
			d.constant(t)
			continue
		}
		at := r.at
		if f := r.u32(); r.err == nil && !m.hasFunc(f) {
			r.failAt(at, Invalid, "an element segment with function %d, of %d", f, len(m.Funcs))
		} else {
			m.declare(f)
		}
	}
}

func (d *decoder) countOfData() {
	r := d.r
	at := r.at
	n := r.u32()
	if r.err == nil && int64(n) > int64(r.limits.DataSegments) {
		r.failAt(at, OverLimit, "%d data segments; at most %d are allowed", n, r.limits.DataSegments)
	}
	d.m.dataCount = int(n)
}

func (d *decoder) code() {
	r, m := d.r, d.m
	if d.bodies = r.count(r.limits.Functions, "function bodies"); r.err == nil && d.bodies != d.functions {
		r.fail(Malformed, "%d functions and %d bodies", d.functions, d.bodies)
		return
	}
	v := validator{m: m, r: r}
	m.bodies = make([]body, d.bodies)
	for i := 0; i < d.bodies && r.err == nil; i++ {
		at, index := r.at, m.ImportedFuncs+i
		size := r.u32()
		switch {
		case r.err != nil:
			return
		case uint64(size) > uint64(r.end-r.at):
			r.failAt(at, Malformed, "function %d has %d bytes, and the section %d more", index, size, r.end-r.at)
			return
		case uint64(size) > uint64(r.limits.BodyBytes):
			r.failAt(at, OverLimit, "function %d has %d bytes; at most %d are allowed", index, size, r.limits.BodyBytes)
			return
		}
		whole := r.end
		r.end = r.at + int(size)
		m.bodies[i] = v.function(index)
		if r.err == nil && r.at != r.end {
			r.fail(Malformed, "function %d has %d bytes too many", index, r.end-r.at)
		}
		r.end = whole
	}
}

func (d *decoder) data() {
	r, m := d.r, d.m
	m.dataSegs = r.count(r.limits.DataSegments, "data segments")
	for n := m.dataSegs; n > 0 && r.err == nil; n-- {
		at := r.at
		form := r.u32()
		if r.err == nil && form > 2 {
			r.failAt(at, Malformed, "%d is no form of a data segment", form)
		}
		if form != 1 {
			memory := uint32(0)
			if form == 2 {
				memory = r.u32()
			}
			if r.err == nil && int64(memory) >= int64(len(m.Memories)) {
				r.failAt(at, Invalid, "a data segment for memory %d, of %d", memory, len(m.Memories))
			}
			d.constant(I32)
		}
		size := r.u32()
		if r.err == nil && uint64(size) > uint64(r.end-r.at) {
			r.failAt(at, Malformed, "a data segment of %d bytes, and the section has %d more", size, r.end-r.at)
			return
		}
		r.skip(int(size))
	}
}
