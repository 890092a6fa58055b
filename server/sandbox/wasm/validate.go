package wasm

import (
	"slices"
	"sort"
)

// validator checks the body of one function after the other, by the algorithm of
// the specification's appendix: a stack of operand types, and a stack of control
// frames that know how high the operand stack was when they were entered. Code
// that can't be reached is checked with operands of the type bottom.
//
// On the way it notes for the rewriter where basic blocks begin and what they
// cost: a [site] each. The two belong together, as both follow the control
// frames, and a second walk over the code would take as long as the first.
type validator struct {
	m *Module
	r *reader

	stack   []ValType
	control []frame
	locals  []ValType
	results []ValType // of the function

	segment int // the site of the basic block that is open; -1 in code that can't be reached
	pending []pending
	weight  weight

	// What is written where, in slots: see wrote.
	writes int   // so far in the function
	last   []int // for each local, the number of the last write; 0: none
	inside int   // the sum of frame.written
	labels int   // of all br_table
	table  int   // counts br_tables
}

// frame is a block, loop, if, or the function itself.
type frame struct {
	op          Op
	params      []ValType
	results     []ValType
	height      int  // of the operand stack below
	unreachable bool // the rest of it can't be reached
	dead        bool // nor can any of it
	targeted    bool // a branch goes to its end
	seen        int  // the last br_table with a label for it
	entered     int  // the site of the basic block that leads into it
	sources     int  // the blocks that lead to its end: where in validator.pending the list begins, 0: nowhere
	header      int  // of a loop: its own site, -1 in code that can't be reached

	began   int // validator.writes when it was entered
	base    int // validator.inside when it was entered
	written int // slots of the locals whose last write was in no frame above the one below
}

// label returns the types that a branch to the frame takes.
func (f *frame) label() []ValType {
	if f.op == opLoop {
		return f.params
	}
	return f.results
}

// weight estimates from above how much of the call stack a function takes, in
// slots.
type weight struct {
	locals int
	values int // of instructions
	joins  int // values that differ by the path, where paths meet
	area   int // parameters and results of the call with the most
}

// body is what the rewriter has to know of a function.
type body struct {
	groups     uint32 // of locals
	groupsAt   int    // where the groups begin, behind their number
	codeAt     int    // where the code begins
	end        int
	locals     uint32 // with parameters
	first, all int    // its sites in Module.sites
	flows, way int    // its flows in Module.flows
	slots      int    // of the call stack, at most
}

// siteKind says what the rewriter does at a place.
type siteKind byte

const (
	siteCharge   siteKind = iota // charge n
	siteCheck                    // charge n and check
	siteCall                     // a call of function n
	siteIndirect                 // a call through a table, of type n
	siteBytes                    // an instruction that writes so many bytes as the operand on top says
	siteItems                    // … so many entries
	sitePages                    // … so many pages
	siteSelect                   // a choice between floats or vectors, of type n
)

// site is a place in a function's code: just before the instruction at `at`,
// which ends at `to` if it is a call or a choice.
type site struct {
	at, to int
	n      uint32
	kind   siteKind
	block  int // the site of the basic block that a call is in
	enters int // of a basic block: the site of the loop that it falls into, and nothing else; 0 if none
	depth  int // how many blocks are around it, with the function
}

func (v *validator) fail(at int, kind Kind, format string, args ...any) {
	v.r.failAt(at, kind, format, args...)
}

// function checks a function, of which r has the body.
func (v *validator) function(index int) body {
	r, m := v.r, v.m
	t := m.FuncType(uint32(index))
	b := body{first: len(m.sites), flows: len(m.flows), end: r.end}
	v.locals = append(v.locals[:0], t.Params...)
	at := r.at
	b.groups = r.u32()
	b.groupsAt = r.at
	if uint64(b.groups) > uint64(r.end-r.at) {
		v.fail(at, Malformed, "%d groups of locals in %d bytes", b.groups, r.end-r.at)
	}
	for range b.groups {
		at, n := r.at, r.u32()
		t := r.valType()
		if r.err != nil {
			return b
		}
		if uint64(len(v.locals))+uint64(n) > uint64(r.limits.Locals) {
			v.fail(at, OverLimit, "function %d has %d locals or more; at most %d are allowed", index, uint64(len(v.locals))+uint64(n), r.limits.Locals)
			return b
		}
		for range n {
			v.locals = append(v.locals, t)
		}
	}
	b.codeAt, b.locals = r.at, uint32(len(v.locals))
	v.last = append(v.last[:0], make([]int, len(v.locals))...)
	v.writes, v.inside = 0, 0
	v.stack, v.control, v.results = v.stack[:0], v.control[:0], t.Results
	v.weight = weight{locals: slots(v.locals)}
	v.labels = 0
	v.pending = v.pending[:0]
	v.open(siteCheck)
	v.m.sites[v.segment].n = 1 + b.locals/PriceLocals
	v.enter(opBlock, nil, t.Results)
	for r.err == nil && len(v.control) > 0 {
		if r.at >= r.end {
			r.fail(Malformed, "function %d does not end", index)
			break
		}
		v.instruction()
	}
	b.all, b.way = len(m.sites), len(m.flows)
	b.slots = v.weight.slots()
	return b
}

// slots is an upper bound of the frame that a compiler needs for a function, in
// slots of 8 bytes: it may keep every value that an instruction makes and, where
// paths meet, each that differs by the path. Plus what a call takes: registers
// that are saved, parameters and results.
func (w weight) slots() int {
	const call = 32
	return call + w.locals + w.values + w.joins + w.area
}

// slots returns how many slots of 8 bytes values take.
func slots(types []ValType) int {
	n := len(types)
	for _, t := range types {
		if t == V128 {
			n++
		}
	}
	return n
}

// wrote notes that a local was written. Where the paths through a block meet, a
// compiler has to move each local that was written in it; so each frame has to
// know how many those are, which are the ones whose last write is not older than
// the frame. A write is new to all frames that were entered since the last one of
// the same local, and those are on top of the stack: it is counted once, at the
// lowest of them, and what a frame saw is what was counted since it was entered at
// itself and below. Frames that are left take what was counted at them along.
func (v *validator) wrote(n uint32) {
	last := v.last[n]
	lowest := sort.Search(len(v.control), func(i int) bool { return v.control[i].began >= last })
	if lowest < len(v.control) {
		count := slots(v.locals[n : n+1])
		v.control[lowest].written += count
		v.inside += count
	}
	v.writes++
	v.last[n] = v.writes
}

// moved charges the site for the values that are moved where paths meet: at the
// end of a block, or at the head of a loop.
func (v *validator) moved(f *frame, site int) {
	n := slots(f.label()) + v.inside - f.base
	v.weight.joins += n
	if site >= 0 {
		v.m.sites[site].n += moves(n)
	}
}

// open begins a basic block at the instruction that comes next.
func (v *validator) open(kind siteKind) {
	v.segment = len(v.m.sites)
	v.m.sites = append(v.m.sites, site{at: v.r.at, kind: kind, depth: max(len(v.control), 1)})
}

// flow is a way from one basic block to another. Ways to loops are not kept.
type flow struct{ from, to int }

// follow begins a basic block to which one leads.
func (v *validator) follow(from int) {
	v.open(siteCharge)
	v.m.flows = append(v.m.flows, flow{from, v.segment})
}

// pending is a basic block that leads to the end of a frame, in a list.
type pending struct{ from, next int }

// leads notes that the open basic block leads to the end of a frame.
func (v *validator) leads(f *frame) {
	if v.segment >= 0 {
		v.pending = append(v.pending, pending{v.segment, f.sources})
		f.sources = len(v.pending)
	}
}

// meet begins the basic block behind the end of a frame.
func (v *validator) meet(f *frame) {
	v.open(siteCharge)
	for i := f.sources; i > 0; i = v.pending[i-1].next {
		v.m.flows = append(v.m.flows, flow{v.pending[i-1].from, v.segment})
	}
}

// note adds a site that is not the beginning of a basic block.
func (v *validator) note(s site) {
	if v.segment >= 0 {
		s.block, s.depth = v.segment, len(v.control)
		v.m.sites = append(v.m.sites, s)
	}
}

func (v *validator) charge(o Op) {
	if v.segment >= 0 {
		v.m.sites[v.segment].n += uint32(prices[o])
	}
}

func (v *validator) push(t ValType) { v.stack = append(v.stack, t) }

func (v *validator) pushAll(types []ValType) { v.stack = append(v.stack, types...) }

// value pushes what an instruction made.
func (v *validator) value(t ValType) {
	v.weight.values++
	if t == V128 {
		v.weight.values++
	}
	v.push(t)
}

// pop takes an operand of any type.
func (v *validator) pop(at int) ValType {
	f := &v.control[len(v.control)-1]
	if len(v.stack) == f.height {
		if !f.unreachable {
			v.fail(at, Invalid, "an operand is missing")
		}
		return bottom
	}
	t := v.stack[len(v.stack)-1]
	v.stack = v.stack[:len(v.stack)-1]
	return t
}

// expect takes an operand of a type.
func (v *validator) expect(at int, want ValType) {
	if t := v.pop(at); t != want && t != bottom && want != bottom {
		v.fail(at, Invalid, "an operand of type %s, not %s", t, want)
	}
}

func (v *validator) expectAll(at int, want []ValType) {
	for i := len(want) - 1; i >= 0 && v.r.err == nil; i-- {
		v.expect(at, want[i])
	}
}

// enter pushes a frame whose parameters were taken off the stack.
func (v *validator) enter(op Op, params, results []ValType) {
	f := frame{op: op, params: params, results: results, height: len(v.stack), entered: v.segment, header: -1, began: v.writes, base: v.inside}
	if n := len(v.control); n > 0 {
		around := &v.control[n-1]
		f.dead = around.dead || around.unreachable
	}
	v.control = append(v.control, f)
	v.pushAll(params)
}

// leave takes the frame on top off, whose results must be all that is on the
// stack above its height.
func (v *validator) leave(at int) frame {
	f := v.control[len(v.control)-1]
	v.expectAll(at, f.results)
	if len(v.stack) != f.height {
		v.fail(at, Invalid, "%d operands are left over at the end of a block", len(v.stack)-f.height)
	}
	v.control = v.control[:len(v.control)-1]
	return f
}

// stop says that what follows in the frame can't be reached.
func (v *validator) stop() {
	f := &v.control[len(v.control)-1]
	v.stack = v.stack[:f.height]
	f.unreachable = true
	v.segment = -1
}

// target returns the frame that a branch goes to.
func (v *validator) target(at int, label uint32) *frame {
	if int64(label) >= int64(len(v.control)) {
		v.fail(at, Invalid, "a branch to label %d, of %d", label, len(v.control))
		return &v.control[0]
	}
	f := &v.control[len(v.control)-1-int(label)]
	if v.segment >= 0 {
		f.targeted = true
	}
	return f
}

// single has a list of one type for each type.
var single = func() (table [128][]ValType) {
	for _, t := range []ValType{I32, I64, F32, F64, V128, FuncRef, ExternRef} {
		table[t] = []ValType{t}
	}
	return table
}()

// blockType reads the type of a block.
func (v *validator) blockType() (params, results []ValType) {
	r := v.r
	if r.at < r.end {
		switch c := r.b[r.at]; {
		case c == 0x40:
			r.at++
			return nil, nil
		case c < 0x80 && single[c] != nil:
			r.at++
			return nil, single[c]
		}
	}
	at := r.at
	t := r.signed(33)
	switch {
	case r.err != nil:
	case t < 0:
		r.failAt(at, Malformed, "no type of a block")
	case t >= int64(len(v.m.Types)):
		r.failAt(at, Invalid, "a block of type %d, of %d", t, len(v.m.Types))
	default:
		return v.m.Types[t].Params, v.m.Types[t].Results
	}
	return nil, nil
}

// instruction checks one instruction.
func (v *validator) instruction() {
	r := v.r
	at := r.at
	o := Op(r.byte())
	if o == 0xfc || o == 0xfd {
		o = v.prefixed(at, o)
	}
	if r.err != nil {
		return
	}
	v.m.Uses.add(o)
	// A block is charged for where it is entered from, and its end is free; a loop
	// is charged for each time round.
	if o != opLoop {
		v.charge(o)
	}
	if c := &opcodes[o]; c.ok {
		v.plain(at, o, c)
		return
	}
	switch o {
	case opUnreachable:
		v.stop()
	case opNop:
	case opBlock, opLoop, opIf:
		v.block(at, o)
	case opElse:
		v.otherwise(at)
	case opEnd:
		v.end(at)
	case opBr, opBrIf:
		v.branch(at, o)
	case opBrTable:
		v.branchTable(at)
	case opReturn:
		v.expectAll(at, v.results)
		v.stop()
	case opCall, opCallIndirect:
		v.call(at, o)
	case opDrop:
		v.pop(at)
	case opSelect, opSelectTyped:
		v.choose(at, o)
	case opLocalGet, opLocalSet, opLocalTee:
		v.local(at, o)
	case opGlobalGet, opGlobalSet:
		v.global(at, o)
	case opI32Const:
		r.signed(32)
		v.push(I32)
	case opI64Const:
		r.signed(64)
		v.push(I64)
	case opF32Const:
		r.skip(4)
		v.push(F32)
	case opF64Const:
		r.skip(8)
		v.push(F64)
	case opV128Const:
		r.skip(16)
		v.push(V128)
	default:
		v.uncommon(at, o)
	}
}

// prefixed reads the number behind a prefix.
func (v *validator) prefixed(at int, prefix Op) Op {
	n := v.r.opcode()
	most, base := uint32(17), Op(0x100)
	if prefix == 0xfd {
		most, base = 255, 0x200
	}
	if n > most {
		v.fail(at, Unsupported, "instruction %#02x %d is not of core 2.0", uint16(prefix), n)
		return 0
	}
	return base + Op(n)
}

// plain checks an instruction whose operands have fixed types.
func (v *validator) plain(at int, o Op, c *opcode) {
	r := v.r
	switch c.immediate {
	case immNone:
	case immZero:
		if zero := r.byte(); r.err == nil && zero != 0 {
			v.fail(at, Malformed, "a zero byte was expected")
		}
		v.needMemory(at)
	case immMemory:
		v.memoryArgument(at, c)
	case immLane:
		v.lane(at, c.lane)
	case immMemoryLane:
		v.memoryArgument(at, c)
		v.lane(at, c.lane)
	}
	if o == opShuffle {
		for range 16 {
			v.lane(at, 32)
		}
	}
	if o == opMemoryGrow {
		v.note(site{at: at, kind: sitePages})
	}
	v.expectAll(at, c.in)
	for _, t := range c.out {
		v.value(t)
	}
}

func (v *validator) needMemory(at int) {
	if v.r.err == nil && len(v.m.Memories) == 0 {
		v.fail(at, Invalid, "there is no memory")
	}
}

func (v *validator) memoryArgument(at int, c *opcode) {
	align := v.r.u32()
	v.r.u32()
	switch {
	case v.r.err != nil:
	case align >= 128:
		v.fail(at, Malformed, "no alignment of a memory access")
	case align >= 64:
		v.fail(at, Unsupported, "several memories")
	case align >= 32:
		v.fail(at, Malformed, "no alignment of a memory access")
	case align > uint32(c.arg):
		v.fail(at, Invalid, "an alignment of 2^%d; at most 2^%d are allowed here", align, c.arg)
	}
	v.needMemory(at)
}

func (v *validator) lane(at int, lanes byte) {
	if l := v.r.byte(); v.r.err == nil && l >= lanes {
		v.fail(at, Invalid, "lane %d, of %d", l, lanes)
	}
}

func (v *validator) block(at int, o Op) {
	if len(v.control) >= v.r.limits.Nesting {
		v.fail(at, OverLimit, "blocks are nested more than %d deep", v.r.limits.Nesting)
		return
	}
	params, results := v.blockType()
	if o == opIf {
		v.expect(at, I32)
	}
	v.expectAll(at, params)
	v.enter(o, params, results)
	if v.segment < 0 {
		return
	}
	switch o {
	case opLoop:
		before := v.segment
		v.open(siteCheck)
		v.m.sites[before].enters = v.segment
		v.control[len(v.control)-1].header = v.segment
		v.charge(opLoop)
	case opIf:
		v.follow(v.segment)
	default:
	}
}

// otherwise ends the first half of an if and begins the second.
func (v *validator) otherwise(at int) {
	if v.control[len(v.control)-1].op != opIf {
		v.fail(at, Malformed, "an else without an if")
		return
	}
	f := v.leave(at)
	if v.r.err != nil {
		return
	}
	v.leads(&f)
	f.op, f.unreachable = opElse, false
	v.control = append(v.control, f)
	v.pushAll(f.params)
	if !f.dead {
		v.follow(f.entered)
	}
}

// end ends a block. The basic block before it goes on if nothing else leads here.
func (v *validator) end(at int) {
	f := v.leave(at)
	if v.r.err != nil {
		return
	}
	if f.op == opIf && !slices.Equal(f.params, f.results) {
		v.fail(at, Invalid, "an if without an else that takes %s and leaves %s", list(f.params), list(f.results))
		return
	}
	v.pushAll(f.results)
	if len(v.control) > 0 && !f.dead {
		v.close(&f)
	}
	v.inside -= f.written
}

// close begins the basic block behind a frame, if another path leads there too.
func (v *validator) close(f *frame) {
	switch {
	case f.op == opIf: // without an else
		v.leads(f)
		v.meet(f)
		v.m.flows = append(v.m.flows, flow{f.entered, v.segment})
		v.moved(f, v.segment)
	case f.op == opElse || f.targeted && f.op != opLoop:
		v.leads(f)
		v.meet(f)
		v.moved(f, v.segment)
	default:
		if v.segment < 0 {
			v.leads(f)
			v.meet(f)
		}
		if f.targeted {
			v.moved(f, f.header)
		}
	}
}

func (v *validator) branch(at int, o Op) {
	label := v.r.u32()
	if v.r.err != nil {
		return
	}
	if o == opBrIf {
		v.expect(at, I32)
	}
	f := v.target(at, label)
	v.leads(f)
	types := f.label()
	v.expectAll(at, types)
	if o == opBr {
		v.stop()
		return
	}
	v.pushAll(types)
	if v.segment >= 0 {
		v.follow(v.segment)
	}
}

func (v *validator) branchTable(at int) {
	r := v.r
	n := r.count(r.limits.BranchLabels, "labels of a br_table")
	if v.labels += n; v.labels > r.limits.BranchLabels {
		v.fail(at, OverLimit, "more than %d labels in the br_table of a function", r.limits.BranchLabels)
	}
	v.expect(at, I32)
	v.table++
	arity := -1
	for range n + 1 {
		label := r.u32()
		if r.err != nil {
			return
		}
		f := v.target(at, label)
		if f.seen == v.table || r.err != nil {
			continue
		}
		f.seen = v.table
		v.leads(f)
		types := f.label()
		if arity >= 0 && len(types) != arity {
			v.fail(at, Invalid, "the labels of a br_table take %d and %d operands", arity, len(types))
			return
		}
		arity = len(types)
		v.peekAll(at, types)
	}
	v.stop()
}

// peekAll checks operands and leaves them where they are.
func (v *validator) peekAll(at int, want []ValType) {
	f := &v.control[len(v.control)-1]
	for i := range want {
		t := bottom
		if operand := len(v.stack) - len(want) + i; operand >= f.height {
			t = v.stack[operand]
		} else if !f.unreachable {
			v.fail(at, Invalid, "an operand is missing")
			return
		}
		if t != want[i] && t != bottom {
			v.fail(at, Invalid, "an operand of type %s, not %s", t, want[i])
			return
		}
	}
}

func (v *validator) call(at int, o Op) {
	r, m := v.r, v.m
	s := site{at: at, kind: siteCall, n: r.u32()}
	var t FuncType
	if o == opCall {
		if r.err == nil && !m.hasFunc(s.n) {
			v.fail(at, Invalid, "a call of function %d, of %d", s.n, len(m.Funcs))
		}
		if r.err != nil {
			return
		}
		t = m.FuncType(s.n)
	} else {
		s.kind = siteIndirect
		table := r.u32()
		switch {
		case r.err != nil:
		case int64(s.n) >= int64(len(m.Types)):
			v.fail(at, Invalid, "a call of type %d, of %d", s.n, len(m.Types))
		case int64(table) >= int64(len(m.Tables)):
			v.fail(at, Invalid, "a call through table %d, of %d", table, len(m.Tables))
		case m.Tables[table].Type != FuncRef:
			v.fail(at, Invalid, "a call through a table of %s", m.Tables[table].Type)
		}
		if r.err != nil {
			return
		}
		t = m.Types[s.n]
		v.expect(at, I32)
	}
	s.to = r.at
	v.note(s)
	params, results := slots(t.Params), slots(t.Results)
	v.weight.area = max(v.weight.area, params+results)
	if v.segment >= 0 {
		v.m.sites[v.segment].n += moves(params + 2*results)
	}
	v.expectAll(at, t.Params)
	for _, result := range t.Results {
		v.value(result)
	}
}

func (v *validator) choose(at int, o Op) {
	r := v.r
	if o == opSelectTyped {
		if n := r.opcode(); r.err == nil && n != 1 {
			v.fail(at, Invalid, "a select of %d types", n)
		}
		t := r.valType()
		v.expect(at, I32)
		v.expect(at, t)
		v.expect(at, t)
		v.value(t)
		v.chosen(at, t)
		return
	}
	v.expect(at, I32)
	one := v.pop(at)
	other := v.pop(at)
	if one.isRef() || other.isRef() {
		v.fail(at, Invalid, "a select of references without a type")
	}
	if one != other && one != bottom && other != bottom {
		v.fail(at, Invalid, "a select of %s and %s", other, one)
	}
	if one == bottom {
		one = other
	}
	v.value(one)
	v.chosen(at, one)
}

// chosenValues is how many slots what is written in place of a select makes, beside the
// result: see choose.
const chosenValues = 6

// chosen notes a choice between values that processors keep apart from integers.
func (v *validator) chosen(at int, t ValType) {
	if t == F32 || t == F64 || t == V128 {
		v.note(site{at: at, to: v.r.at, kind: siteSelect, n: uint32(t)})
		v.weight.values += chosenValues
	}
}

func (v *validator) local(at int, o Op) {
	n := v.r.u32()
	if v.r.err != nil {
		return
	}
	if int64(n) >= int64(len(v.locals)) {
		v.fail(at, Invalid, "local %d, of %d", n, len(v.locals))
		return
	}
	t := v.locals[n]
	if o == opLocalGet {
		v.push(t)
		return
	}
	v.wrote(n)
	v.expect(at, t)
	if o == opLocalTee {
		v.push(t)
	}
}

func (v *validator) global(at int, o Op) {
	n := v.r.u32()
	switch {
	case v.r.err != nil:
	case int64(n) >= int64(len(v.m.Globals)):
		v.fail(at, Invalid, "global %d, of %d", n, len(v.m.Globals))
	case o == opGlobalGet:
		v.value(v.m.Globals[n].Type)
	case !v.m.Globals[n].Mutable:
		v.fail(at, Invalid, "global %d is set, and is not mutable", n)
	default:
		v.expect(at, v.m.Globals[n].Type)
	}
}

// uncommon checks instructions on references, tables and segments.
func (v *validator) uncommon(at int, o Op) {
	r, m := v.r, v.m
	switch o {
	case opRefNull:
		v.value(r.refType())
	case opRefIsNull:
		if t := v.pop(at); r.err == nil && !t.isRef() && t != bottom {
			v.fail(at, Invalid, "ref.is_null of %s", t)
		}
		v.value(I32)
	case opRefFunc:
		f := r.u32()
		switch {
		case r.err != nil:
		case !m.hasFunc(f):
			v.fail(at, Invalid, "a reference to function %d, of %d", f, len(m.Funcs))
		case !m.declared[f]:
			v.fail(at, Invalid, "a reference to function %d, which is not declared outside of functions", f)
		}
		v.value(FuncRef)
	case opTableGet, OpTableSet, OpTableGrow, opTableSize, OpTableFill:
		v.tableInstruction(at, o, v.tableType(at, r.u32()))
	case OpTableInit:
		segment := r.u32()
		t := v.tableType(at, r.u32())
		if s := v.elementType(at, segment); r.err == nil && s != t {
			v.fail(at, Invalid, "a segment of %s for a table of %s", s, t)
		}
		v.lengthy(at, siteItems)
	case OpTableCopy:
		to, from := v.tableType(at, r.u32()), v.tableType(at, r.u32())
		if r.err == nil && to != from {
			v.fail(at, Invalid, "entries of %s for a table of %s", from, to)
		}
		v.lengthy(at, siteItems)
	case OpElemDrop:
		v.elementType(at, r.u32())
	case opMemoryInit, OpDataDrop:
		segment := r.u32()
		switch {
		case r.err != nil:
			return
		case m.dataCount < 0:
			v.fail(at, Malformed, "a data segment is used, and their number is not announced")
		case int64(segment) >= int64(m.dataCount):
			v.fail(at, Invalid, "data segment %d, of %d", segment, m.dataCount)
		}
		if o == opMemoryInit {
			v.bulk(at, 1)
		}
	case opMemoryCopy:
		v.bulk(at, 2)
	case opMemoryFill:
		v.bulk(at, 1)
	default:
		v.unknown(at, o)
	}
}

// unknown refuses what is no instruction of core 2.0.
func (v *validator) unknown(at int, o Op) {
	switch o {
	case 0x06, 0x07, 0x08, 0x09, 0x0a, 0x18, 0x19, 0x1f:
		v.fail(at, Unsupported, "%s is of exceptions", o)
	case 0x12, 0x13:
		v.fail(at, Unsupported, "%s is a tail call", o)
	case 0x14, 0x15, 0xd3, 0xd4, 0xd5, 0xd6, 0xfb:
		v.fail(at, Unsupported, "%s is of typed references", o)
	case 0xfe:
		v.fail(at, Unsupported, "%s is of threads", o)
	default:
		v.fail(at, Malformed, "there is no %s", o)
	}
}

// bulk checks an instruction that writes to memory as much as its operand on top
// says; so many zero bytes follow it.
func (v *validator) bulk(at, zeros int) {
	for range zeros {
		if zero := v.r.byte(); v.r.err == nil && zero != 0 {
			v.fail(at, Malformed, "a zero byte was expected")
		}
	}
	v.needMemory(at)
	v.lengthy(at, siteBytes)
}

// lengthy takes the operands of an instruction on a range.
func (v *validator) lengthy(at int, kind siteKind) {
	v.note(site{at: at, kind: kind})
	v.expectAll(at, threeI32)
}

var threeI32 = []ValType{I32, I32, I32}

func (v *validator) tableType(at int, table uint32) ValType {
	switch {
	case v.r.err != nil:
	case int64(table) >= int64(len(v.m.Tables)):
		v.fail(at, Invalid, "table %d, of %d", table, len(v.m.Tables))
	default:
		return v.m.Tables[table].Type
	}
	return bottom
}

func (v *validator) elementType(at int, segment uint32) ValType {
	switch {
	case v.r.err != nil:
	case int64(segment) >= int64(len(v.m.elemTypes)):
		v.fail(at, Invalid, "element segment %d, of %d", segment, len(v.m.elemTypes))
	default:
		return v.m.elemTypes[segment]
	}
	return bottom
}

func (v *validator) tableInstruction(at int, o Op, t ValType) {
	switch o {
	case opTableGet:
		v.expect(at, I32)
		v.value(t)
	case OpTableSet:
		v.expect(at, t)
		v.expect(at, I32)
	case opTableSize:
		v.value(I32)
	case OpTableGrow:
		v.note(site{at: at, kind: siteItems})
		v.expect(at, I32)
		v.expect(at, t)
		v.value(I32)
	case OpTableFill:
		v.note(site{at: at, kind: siteItems})
		v.expect(at, I32)
		v.expect(at, t)
		v.expect(at, I32)
	default:
	}
}
