package wasmgen

import "strings"

// block writes some instructions of a block.
func (b *body) block(n int) {
	for range n {
		if b.g.left <= 0 || b.in.done() {
			return
		}
		if b.top().dead && b.in.oneIn(3) {
			return
		}
		b.step()
		for len(b.stack)-b.top().base > 8 {
			b.consume()
		}
	}
}

// step writes an instruction, or a few that belong together.
func (b *body) step() {
	in := b.in
	switch in.weighted(30, 10, 8, 12, 6, 8, 5, 12, 6, 8, 3, 4, 2, 3, 1) {
	case 0:
		b.plain(pick(in, plainOps()))
	case 1:
		b.variable()
	case 2:
		b.make(b.g.valueType())
	case 3:
		b.nest()
	case 4:
		b.counted()
	case 5:
		b.branch()
	case 6:
		b.call(in.below(len(b.g.types)))
	case 7:
		b.memory()
	case 8:
		b.callIndirect()
	case 9:
		b.table()
	case 10:
		b.choose(b.g.valueType())
	case 11:
		b.references()
	case 12:
		b.op(opNop, ":")
	case 13:
		if len(b.stack) > b.top().base {
			b.consume()
		} else if b.top().dead {
			b.op(opDrop, ":")
		}
	case 14:
		b.rare()
	}
}

// variable sets a local or a global.
func (b *body) variable() {
	t := b.g.valueType()
	if len(b.stack) > b.top().base {
		t = b.stack[len(b.stack)-1]
	}
	one := string(t)
	if at := b.findGlobal(t, true); at >= 0 && b.in.oneIn(3) {
		b.need(one)
		b.op(opGlobalSet, one+":", uint64(at))
		return
	}
	at := b.find(b.locals[:b.shown], t)
	if at < 0 {
		return
	}
	b.need(one)
	if b.in.oneIn(2) {
		b.op(opLocalTee, one+":"+one, uint64(at))
		return
	}
	b.op(opLocalSet, one+":", uint64(at))
}

// nest writes a block, loop or if that takes some of the operands on the stack,
// or others.
func (b *body) nest() {
	if len(b.frames) > 12 {
		return
	}
	above := b.stack[b.top().base:]
	in := string(above[len(above)-b.in.below(min(len(above), 3)+1):])
	if b.in.oneIn(6) {
		in = b.g.valueTypes(2)
	}
	b.nested(in+":"+b.g.valueTypes(2), b.in.below(12))
}

// nested writes a block, loop or if of a type with so many instructions in it.
func (b *body) nested(t string, n int) {
	i := Instr{Op: pick(b.in, []Op{opBlock, opBlock, opLoop, opIf, opIf}), Type: t, Indexed: b.in.oneIn(6)}
	if i.Op == opIf {
		b.need(params(t) + "i")
		b.open(i, results(t), 1)
		b.block(n)
		b.finish()
		if params(t) == results(t) && b.in.oneIn(2) {
			b.end()
			return
		}
		f := b.top()
		b.stack = append(b.stack[:f.base], params(t)...)
		f.dead = false
		b.op(opElse, ":")
		b.block(n / 2)
	} else {
		label := results(t)
		if i.Op == opLoop {
			label = params(t)
		}
		b.need(params(t))
		b.open(i, label, 0)
		if i.Op == opLoop && b.g.p.Ticks != 0 {
			b.tick()
		}
		b.block(n)
	}
	b.finish()
	b.end()
}

// open begins a block, which takes its parameters and some more operands.
func (b *body) open(i Instr, label string, more int) {
	in := params(i.Type)
	b.g.left--
	b.code = append(b.code, i)
	b.pop(more)
	b.pop(len(in))
	b.frames = append(b.frames, frame{label: label, results: results(i.Type), base: len(b.stack)})
	b.push(in)
}

// counted writes a loop that goes round a number of times.
func (b *body) counted() {
	if len(b.frames) > 6 {
		return
	}
	counter := b.local('i')
	b.constant('i', uint64(1+b.in.below(20)))
	b.op(opLocalSet, "i:", counter)
	outside := b.in.oneIn(3)
	if outside {
		b.open(Instr{Op: opBlock}, "", 0)
	}
	b.open(Instr{Op: opLoop}, "", 0)
	if b.g.p.Ticks != 0 {
		b.tick()
	}
	b.block(b.in.below(8))
	b.finish()
	b.op(opLocalGet, ":i", counter)
	b.constant('i', 1)
	b.op(opI32Sub, "ii:i")
	b.op(opLocalTee, "i:i", counter)
	switch {
	case outside && b.in.oneIn(2):
		b.op(opI32Eqz, "i:i")
		b.op(opBrIf, "i:", 1)
		b.op(opBr, ":", 0)
		b.die()
	case b.in.oneIn(3):
		b.open(Instr{Op: opIf}, "", 1)
		b.op(opBr, ":", 1)
		b.die()
		b.end()
	default:
		b.op(opBrIf, "i:", 0)
	}
	b.end()
	if outside {
		b.end()
	}
}

// branch writes a br, br_if, br_table, return or unreachable, mostly in an if so
// that what follows can be reached.
func (b *body) branch() {
	in := b.in
	label := in.below(len(b.frames))
	types := b.frames[len(b.frames)-1-label].label
	switch in.weighted(12, 5, 3, 3, 1) {
	case 0:
		b.need(types + "i")
		b.op(opBrIf, types+"i:"+types, uint64(label))
	case 1:
		b.need(types)
		b.op(opBr, ":", uint64(label))
		b.die()
	case 2:
		b.branchTable(types, uint64(label))
	case 3:
		b.need(results(b.typ))
		b.op(opReturn, ":")
		b.die()
	case 4:
		if in.oneIn(2) {
			b.need("i")
			b.open(Instr{Op: opIf}, "", 1)
			b.op(opUnreachable, ":")
			b.die()
			b.end()
			return
		}
		b.op(opUnreachable, ":")
		b.die()
	}
}

// branchTable writes a br_table to labels that take the same.
func (b *body) branchTable(types string, last uint64) {
	var same []uint64
	for i := range b.frames {
		if b.frames[len(b.frames)-1-i].label == types {
			same = append(same, uint64(i))
		}
	}
	i := Instr{Op: opBrTable}
	n := b.in.below(6)
	if b.in.oneIn(30) {
		n = 200
	}
	for range n {
		i.Imm = append(i.Imm, pick(b.in, same))
	}
	i.Imm = append(i.Imm, last)
	b.need(types)
	b.bounded(uint64(len(i.Imm)))
	b.emit(i, ":")
	b.die()
}

// memory writes an instruction on the size of memory or on a stretch of it.
func (b *body) memory() {
	if !b.g.memory {
		return
	}
	switch b.in.weighted(2, 2, 4, 4, 4, 1, 6) {
	case 0:
		b.op(opMemorySize, ":i")
	case 1:
		b.bounded(0, 1, 3)
		b.op(opMemoryGrow, "i:i")
	case 2:
		b.address()
		b.make('i')
		b.length()
		b.op(opMemoryFill, "iii:")
	case 3:
		b.address()
		b.address()
		b.length()
		b.op(opMemoryCopy, "iii:")
	case 4, 5:
		if len(b.g.m.Data) == 0 {
			return
		}
		segment := uint64(b.in.below(len(b.g.m.Data)))
		if b.in.oneIn(5) {
			b.op(opDataDrop, ":", segment)
			return
		}
		b.address()
		b.bounded(4, 2, 0)
		b.bounded(8, 2, 0)
		b.op(opMemoryInit, "iii:", segment)
	default:
		// Something to load later.
		b.address()
		b.make('I')
		b.op(0x37, "iI:", 3, b.offset()) // i64.store
	}
}

// table writes an instruction on a table.
func (b *body) table() {
	table := b.findTable(0)
	if table < 0 {
		return
	}
	t, n := string(b.g.tables[table].Type), uint64(table)
	switch b.in.weighted(3, 3, 2, 3, 2, 2, 3, 1) {
	case 0:
		b.index(table)
		b.op(opTableGet, "i:"+t, n)
	case 1:
		b.index(table)
		b.make(t[0])
		b.op(opTableSet, "i"+t+":", n)
	case 2:
		b.op(opTableSize, ":i", n)
	case 3:
		b.make(t[0])
		b.bounded(0, 1, 3)
		b.op(opTableGrow, t+"i:i", n)
	case 4:
		b.index(table)
		b.make(t[0])
		b.bounded(0, 1, 3)
		b.op(opTableFill, "i"+t+"i:", n)
	case 5:
		from := b.findTable(t[0])
		b.index(table)
		b.index(from)
		b.bounded(0, 1, 3)
		b.op(opTableCopy, "iii:", n, uint64(from))
	case 6:
		types := make([]byte, len(b.g.m.Elems))
		for i, e := range b.g.m.Elems {
			types[i] = e.Type
		}
		segment := b.find(types, t[0])
		if segment < 0 {
			return
		}
		b.index(table)
		b.bounded(0, 1, 2)
		b.bounded(0, 1, 3)
		b.op(opTableInit, "iii:", uint64(segment), n)
	case 7:
		if len(b.g.m.Elems) > 0 {
			b.op(opElemDrop, ":", uint64(b.in.below(len(b.g.m.Elems))))
		}
	}
}

// references writes an instruction on references.
func (b *body) references() {
	t := pick(b.in, []byte("re"))
	if b.in.oneIn(3) {
		b.reference(t)
		return
	}
	b.need(string(t))
	b.op(opRefIsNull, string(t)+":i")
}

// rare writes what is long: a straight run, a deep nest, values from a block of
// many results.
func (b *body) rare() {
	n := 1 + b.in.below(8)*b.in.below(64)
	switch b.in.below(3) {
	case 0:
		for range n {
			b.constant('i', 1)
			b.op(opDrop, "i:")
		}
	case 1:
		n = min(n, 150)
		for range n {
			b.open(Instr{Op: pick(b.in, []Op{opBlock, opBlock, opLoop})}, "", 0)
		}
		for range n {
			b.finish()
			b.end()
		}
	default:
		out := strings.Repeat(string(b.g.valueType()), min(n, 20))
		b.need(out)
		b.open(Instr{Op: opBlock, Type: out + ":" + out}, out, 0)
		b.finish()
		b.end()
	}
}
