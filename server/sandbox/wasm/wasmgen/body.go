package wasmgen

import (
	"slices"
	"strings"
	"sync"
)

// body is a function in the making.
type body struct {
	g  *generator
	in *choices

	typ    string
	locals []byte // with parameters
	shown  int    // locals that any instruction may use; those behind have a purpose
	stack  []byte // types of operands
	frames []frame
	code   []Instr
	deep   int // operands that are being made for operands
	floor  int // operands below this height are for what they were made for
}

// frame is a block, loop or if, or the function.
type frame struct {
	label   string // what a branch to it takes
	results string
	base    int  // height of the operand stack below
	dead    bool // what comes now can't be reached: operands may come from nowhere
}

// function writes the function with an index.
func (g *generator) function(index int, t string) Func {
	b := &body{g: g, in: &g.in, typ: t, locals: []byte(params(t))}
	if g.in.oneIn(40) {
		n := 300 + g.in.below(2500)
		b.locals = append(b.locals, []byte(strings.Repeat(string(g.valueType()), n))...)
	}
	b.locals = append(b.locals, g.valueTypes(6)...)
	b.shown = len(b.locals)
	b.frames = []frame{{label: results(t), results: results(t)}}
	if g.in.oneIn(24) && results(t) == "" {
		return Func{Type: t, Locals: string(b.locals[len(params(t)):])}
	}
	own := strings.IndexByte(params(t), 'i')
	recursion := own >= 0 && g.in.oneIn(3)
	alone := recursion && g.in.oneIn(3) // and then it needs no ticks to end
	if g.p.Ticks != 0 && !alone {
		b.tick()
	}
	if recursion {
		b.recur(index, own)
	}
	if alone {
		b.deep = 99 // its results are made without calls
	} else if g.in.oneIn(3) {
		b.block(g.in.below(4))
	} else {
		b.block(3 + g.in.below(40))
	}
	b.finish()
	return Func{Type: t, Locals: string(b.locals[len(params(t)):]), Body: b.code}
}

// local adds a local that only its maker uses.
func (b *body) local(t byte) uint64 {
	b.locals = append(b.locals, t)
	return uint64(len(b.locals) - 1)
}

func (b *body) top() *frame { return &b.frames[len(b.frames)-1] }

func (b *body) push(types string) { b.stack = append(b.stack, types...) }

// pop takes operands, those that are not there from nowhere.
func (b *body) pop(n int) { b.stack = b.stack[:max(len(b.stack)-n, b.top().base)] }

// emit writes an instruction that takes and gives operands.
func (b *body) emit(i Instr, t string) {
	b.g.left--
	b.code = append(b.code, i)
	b.pop(len(params(t)))
	b.push(results(t))
}

func (b *body) op(o Op, t string, imm ...uint64) { b.emit(Instr{Op: o, Imm: imm}, t) }

func (b *body) constant(t byte, bits ...uint64) { b.emit(constant(t, bits...), ":"+string(t)) }

// die is called behind what never goes on.
func (b *body) die() {
	b.top().dead = true
	b.stack = b.stack[:b.top().base]
}

// fits reports whether operands of these types are on top of the stack.
func (b *body) fits(types string) bool {
	for i := len(types) - 1; i >= 0; i-- {
		at := len(b.stack) - len(types) + i
		if at < b.top().base {
			return b.top().dead
		}
		if at < b.floor || b.stack[at] != types[i] {
			return false
		}
	}
	return true
}

// need sees to it that operands of these types are on top of the stack: as many
// as fit are taken from it, the others made.
func (b *body) need(types string) {
	n := len(types)
	if b.in.oneIn(3) && !b.top().dead {
		n = 0
	}
	for !b.fits(types[:n]) {
		n--
	}
	for _, t := range []byte(types[n:]) {
		b.make(t)
	}
}

// tick counts down, and leaves the function when the count is below 0.
func (b *body) tick() {
	t := uint64(b.g.ticks)
	b.op(opGlobalGet, ":i", t)
	b.constant('i', 1)
	b.op(opI32Sub, "ii:i")
	b.op(opGlobalSet, "i:", t)
	b.op(opGlobalGet, ":i", t)
	b.constant('i', 0)
	b.op(opI32LtS, "ii:i")
	b.emit(Instr{Op: opIf}, "i:")
	b.frames = append(b.frames, frame{base: len(b.stack)})
	if b.in.oneIn(4) {
		b.op(opUnreachable, ":")
	} else {
		for _, r := range []byte(results(b.typ)) {
			b.zero(r)
		}
		b.op(opReturn, ":")
	}
	b.die()
	b.end()
}

// recur calls the function itself with a parameter, of type i32, that is one less
// than its own, or not when its lowest bits are 0. That ends without ticks.
func (b *body) recur(self, own int) {
	const most = 15
	in := params(b.typ)
	b.op(opLocalGet, ":i", uint64(own))
	b.constant('i', most)
	b.op(opI32And, "ii:i")
	b.op(opLocalTee, "i:i", uint64(own))
	b.open(Instr{Op: opIf}, "", 1)
	for i, t := range []byte(in) {
		b.op(opLocalGet, ":"+string(t), uint64(i))
		if i == own {
			b.constant('i', 1)
			b.op(opI32Sub, "ii:i")
		}
	}
	b.op(opCall, b.typ, uint64(self))
	b.finish()
	b.end()
}

// zero makes 0 or null.
func (b *body) zero(t byte) { b.constant(t, 0, 0) }

// end ends the frame on top, whose results are on the stack or not needed.
func (b *body) end() {
	f := *b.top()
	b.frames = b.frames[:len(b.frames)-1]
	b.stack = b.stack[:f.base]
	b.op(opEnd, ":")
	b.push(f.results)
}

// finish leaves nothing but the frame's results on the stack.
func (b *body) finish() {
	f := b.top()
	for {
		above := string(b.stack[f.base:])
		if f.dead {
			if len(above) <= len(f.results) && strings.HasSuffix(f.results, above) {
				return
			}
		} else if strings.HasPrefix(f.results, above) {
			for _, t := range []byte(f.results[len(above):]) {
				b.make(t)
			}
			return
		}
		b.consume()
	}
}

// consume takes one operand off the stack.
func (b *body) consume() {
	t := b.stack[len(b.stack)-1]
	take := string(t) + ":"
	switch b.in.weighted(2, 2, 1) {
	case 1:
		if at := b.find(b.locals[:b.shown], t); at >= 0 {
			b.op(opLocalSet, take, uint64(at))
			return
		}
	case 2:
		if at := b.findGlobal(t, true); at >= 0 {
			b.op(opGlobalSet, take, uint64(at))
			return
		}
	}
	b.op(opDrop, take)
}

// find returns the index of one of the entries that are t, −1 if there is none.
func (b *body) find(list []byte, t byte) int {
	n := 0
	for _, x := range list {
		if x == t {
			n++
		}
	}
	n = b.in.below(n)
	for i, x := range list {
		if x == t {
			if n == 0 {
				return i
			}
			n--
		}
	}
	return -1
}

func (b *body) findGlobal(t byte, set bool) int {
	list := make([]byte, 0, 16)
	for i, x := range b.g.globals {
		if own := b.g.p.Ticks != 0 && uint32(i) == b.g.ticks; set && (!x.Mutable || own) {
			x.Type = 0
		}
		list = append(list, x.Type)
	}
	return b.find(list, t)
}

// findTable returns a table with entries of a type, of any if t is 0.
func (b *body) findTable(t byte) int {
	list := make([]byte, 0, 4)
	for _, x := range b.g.tables {
		if t == 0 {
			x.Type = 0
		}
		list = append(list, x.Type)
	}
	return b.find(list, t)
}

// make makes an operand of a type.
func (b *body) make(t byte) {
	b.deep++
	floor := b.floor
	b.floor = len(b.stack)
	defer func() { b.deep--; b.floor = floor }()
	if b.deep > 4 || b.g.left <= 0 || b.in.done() {
		b.leaf(t)
		return
	}
	switch b.in.weighted(10, 8, 2, 1, 2, 1) {
	case 1:
		if list := producers()[t]; len(list) > 0 {
			b.plain(pick(b.in, list))
			return
		}
		b.reference(t)
	case 2:
		b.choose(t)
	case 3:
		b.nested(":"+string(t), 1+b.in.below(4))
	case 4:
		if at := slices.IndexFunc(b.g.types, func(f string) bool { return results(f) == string(t) }); at >= 0 {
			b.call(at)
			return
		}
		b.leaf(t)
	case 5:
		b.make(t)
		if at := b.find(b.locals[:b.shown], t); at >= 0 {
			b.op(opLocalTee, string(t)+":"+string(t), uint64(at))
		}
	default:
		b.leaf(t)
	}
}

// reference makes a reference from something other.
func (b *body) reference(t byte) {
	table := b.findTable(t)
	switch {
	case table >= 0 && b.in.oneIn(2):
		b.index(table)
		b.op(opTableGet, "i:"+string(t), uint64(table))
	case t == 'r' && len(b.g.refs) > 0:
		b.op(opRefFunc, ":r", uint64(pick(b.in, b.g.refs)))
	default:
		b.leaf(t)
	}
}

// leaf makes an operand without taking any.
func (b *body) leaf(t byte) {
	out := ":" + string(t)
	switch b.in.weighted(3, 3, 2) {
	case 1:
		if at := b.find(b.locals[:b.shown], t); at >= 0 {
			b.op(opLocalGet, out, uint64(at))
			return
		}
	case 2:
		if at := b.findGlobal(t, false); at >= 0 {
			b.op(opGlobalGet, out, uint64(at))
			return
		}
	}
	b.emit(b.g.constant(t), out)
}

// producers are the plain instructions by the type of their result; plainOps all
// of them. Plain are those whose operands have fixed types and are values, without
// the constants and those that change a size.
var producers = sync.OnceValue(func() map[byte][]Info {
	m := map[byte][]Info{}
	for _, i := range plainOps() {
		if out := results(i.Type); out != "" {
			m[out[0]] = append(m[out[0]], i)
		}
	}
	return m
})

var plainOps = sync.OnceValue(func() (list []Info) {
	for _, i := range Ops() {
		if params(i.Type) != "" && !strings.HasPrefix(i.Class, "bulk") && i.Class != "memory" {
			list = append(list, i)
		}
	}
	return list
})

// plain writes a plain instruction behind its operands.
func (b *body) plain(o Info) {
	in := params(o.Type)
	i := Instr{Op: o.Op}
	access := strings.HasPrefix(o.immediates, "m")
	switch {
	case access && !b.g.memory:
		b.leafAll(o.Type)
		return
	case access:
		if b.in.oneIn(6) {
			b.need(in)
			break
		}
		b.address()
		for _, t := range []byte(in[1:]) {
			b.make(t)
		}
	case o.Class == "divide" && !b.in.oneIn(8):
		b.need(in)
		b.constant(in[0], uint64(1+b.in.below(9)))
		b.op(map[byte]Op{'i': opI32Or, 'I': opI64Or}[in[0]], in+":"+in[:1])
	case o.Class == "truncate" && !b.in.oneIn(8):
		b.constant(in[0], map[byte][]uint64{'f': {0x42f6_e979}, 'F': {0x405e_dd2f_1a9f_be77}}[in[0]]...) // 123.456
	default:
		b.need(in)
	}
	for at, kind := range []byte(o.immediates) {
		switch kind {
		case 'm':
			i.Imm = append(i.Imm, uint64(b.in.below(int(o.immediates[at+1]-'0')+1)), b.offset())
		case 'l':
			lanes := map[byte]int{'2': 2, '4': 4, '8': 8, '1': 16}[o.immediates[at+1]]
			i.Imm = append(i.Imm, uint64(b.in.below(lanes)))
		case 's':
			i.Imm = append(i.Imm, b.in.word()&0x1f1f1f1f1f1f1f1f, b.in.word()&0x1f1f1f1f1f1f1f1f)
		}
	}
	b.emit(i, o.Type)
	b.canonical(o)
}

// leafAll stands in for an instruction that can't be used.
func (b *body) leafAll(t string) {
	for _, r := range []byte(results(t)) {
		b.leaf(r)
	}
}

// offset returns the constant offset of a load or store.
func (b *body) offset() uint64 {
	switch b.in.weighted(40, 20, 1) {
	case 0:
		return uint64(b.in.below(16))
	case 1:
		return uint64(b.in.below(1 << 14))
	default:
		return pick(b.in, []uint64{0xffff, 0x10000, 0x7fff_ffff, 0xffff_ffff})
	}
}

// address makes a memory address that is mostly in bounds.
func (b *body) address() { b.bounded(0xffff, 0x3fff, 0xff) }

// length makes how much of a memory something is for.
func (b *body) length() { b.bounded(0xfff, 0x3f, 7) }

// index makes an index of a table.
func (b *body) index(table int) {
	n := uint64(b.g.tables[table].Min)
	b.bounded(max(n, 1)-1, max(n, 1)/2, n)
}

// bounded makes an i32: a constant of at most some bound, or any i32 with a mask,
// or now and then just any.
func (b *body) bounded(bounds ...uint64) {
	bound := pick(b.in, bounds)
	switch b.in.weighted(20, 20, 1) {
	case 0:
		b.constant('i', uint64(b.in.below(int(bound)+1)))
	case 1:
		b.make('i')
		b.constant('i', bound)
		b.op(opI32And, "ii:i")
	default:
		b.make('i')
	}
}

// canonical replaces a NaN that an instruction may have made by zero, if the
// program is to be the same wherever it runs.
func (b *body) canonical(o Info) {
	if !b.g.p.Canonical {
		return
	}
	out := results(o.Type)
	if out == "" {
		return
	}
	t := out[0]
	vector := o.Class == "vector float"
	scalar := (t == 'f' || t == 'F') && (o.Class == "float" || o.Class == "convert")
	if !vector && !scalar {
		return
	}
	one := string(t)
	local := b.local(t)
	b.op(opLocalTee, one+":"+one, local)
	if vector {
		equal := opF64x2Eq
		if strings.HasPrefix(o.Name, "f32x4") {
			equal = opF32x4Eq
		}
		b.op(opLocalGet, ":v", local)
		b.op(opLocalGet, ":v", local)
		b.op(equal, "vv:v")
		b.op(opV128And, "vv:v")
		return
	}
	b.zero(t)
	b.op(opLocalGet, ":"+one, local)
	b.op(opLocalGet, ":"+one, local)
	b.op(map[byte]Op{'f': opF32Eq, 'F': opF64Eq}[t], one+one+":i")
	b.op(opSelect, one+one+"i:"+one)
}

// choose writes a select.
func (b *body) choose(t byte) {
	two := string([]byte{t, t, 'i'})
	b.need(two)
	if t != 'r' && t != 'e' && !b.in.oneIn(3) {
		b.op(opSelect, two+":"+string(t))
		return
	}
	b.emit(Instr{Op: opSelectT, Type: string(t)}, two+":"+string(t))
}

// call writes a call of a function.
func (b *body) call(f int) {
	t := b.g.types[f]
	b.need(params(t))
	b.op(opCall, t, uint64(f))
}

// callIndirect writes a call through a table, mostly of something that is there.
func (b *body) callIndirect() {
	table := b.findTable('r')
	if table < 0 {
		return
	}
	slots := b.g.slots[table]
	t, slot := pick(b.in, b.g.types), b.in.below(len(slots)+1)
	if !b.in.oneIn(10) {
		for i := range slots {
			if at := (slot + i) % len(slots); slots[at] >= 0 {
				slot, t = at, b.g.types[slots[at]]
				break
			}
		}
	}
	b.need(params(t))
	if b.in.oneIn(10) {
		b.make('i')
	} else {
		b.constant('i', uint64(slot))
	}
	b.emit(Instr{Op: opCallIndirect, Type: t, Imm: []uint64{uint64(table)}}, params(t)+"i:"+results(t))
}
