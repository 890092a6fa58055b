package wasm_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/cespare/xxhash/v2"

	"rapport/server/sandbox/wasm"
	"rapport/server/sandbox/wasm/wasmgen"
)

var (
	programs = flag.Int("programs", 300, "how many random programs TestMeterAgrees runs")
	seed     = flag.Uint64("seed", 1, "of the random programs of TestMeterAgrees")
)

// Whatever the program, rewriting it changes nothing but the fuel that is left:
// see checker.
func TestMeterAgrees(t *testing.T) {
	c := newChecker(t)
	c.census = &census{counts: map[string]int{}, classes: map[string]uint64{}}
	random := rand.New(rand.NewPCG(*seed, 0))
	for n := range *programs {
		input := make([]byte, 20+random.IntN(1500))
		for i := range input {
			input[i] = byte(random.Uint32())
		}
		if c.check(t, input); t.Failed() {
			t.Fatalf("program %d of seed %d", n, *seed)
		}
	}
	c.census.report(t, *programs)
}

// census counts what happened, so that a generator that no longer makes something
// is noticed.
type census struct {
	counts  map[string]int
	classes map[string]uint64 // executed instructions
}

func (c *census) count(what string) {
	if c != nil {
		c.counts[what]++
	}
}

func (c *census) report(t *testing.T, programs int) {
	t.Helper()
	for _, what := range slices.Sorted(maps.Keys(c.counts)) {
		t.Logf("%8d %s", c.counts[what], what)
	}
	t.Log("executed instructions of each class:")
	for _, class := range slices.Sorted(maps.Keys(c.classes)) {
		t.Logf("%8d %s", c.classes[class], class)
		if c.classes[class] == 0 && class != "end" && programs >= 300 {
			t.Errorf("no instruction of the class %q was executed", class)
		}
	}
	if programs < 300 {
		return
	}
	for _, what := range []string{
		"programs that ran", "programs that may not end", "programs with imports", "programs with a start function",
		"calls that returned", "calls that trapped", "trap: wasm error: unreachable", "trap: wasm error: out of bounds memory access",
		"trap: wasm error: invalid table access", "trap: wasm error: integer divide by zero", "calls out of fuel", "calls out of stack", "calls that recur",
		"calls with exactly enough fuel", "calls that returned without enough fuel", "calls with more charged than done",
	} {
		if c.counts[what] == 0 {
			t.Errorf("not once: %s", what)
		}
	}
}

// checker checks rewriting with programs that are run on both engines of wazero.
//
// Of a program it makes four binaries: the original, the metered one, and on the
// interpreter, which compiles faster, the one that is metered exactly and the twin,
// in which each single instruction pays for itself (see twin). All calls return or trap the same, and leave the same memory,
// globals and tables; and fuel is
//
//   - with exact metering, what the twin counted, of every call that returned; of
//     one that trapped, not less;
//   - with the usual metering, never less than that, but for the last 16 units of a
//     call that trapped;
//   - the same on both engines and the second time;
//   - enough exactly if it is not below 0 afterwards, wherever the limit is, with
//     the outcome unchanged; else the call is over and the counter not far below.
type checker struct {
	engines []engine
	census  *census // nil to count nothing
}

func newChecker(t testing.TB) *checker {
	c := &checker{engines: engines()}
	t.Cleanup(func() {
		for _, e := range c.engines {
			if err := e.runtime.Close(context.Background()); err != nil {
				t.Error(err)
			}
		}
	})
	return c
}

// subject is a program on one engine.
type subject struct {
	c *checker
	t testing.TB
	p *wasmgen.Program
	e engine

	original, metered, exact, twin *binary
	straight                       int64 // an upper bound of what a way through one function costs
	widest                         int64 // an upper bound of the slots that one takes of the stack
}

// runaway is what a call of a program that may not end may use.
var runaway = budget{fuel: 100_000, stack: 20_000}

// check checks everything of the program that the input makes, and reports
// whether any of its calls was made.
func (c *checker) check(t testing.TB, input []byte) bool {
	p := wasmgen.Generate(input)
	original, err := p.Module.Encode()
	if err != nil {
		t.Fatal(err)
	}
	limits := budget{fuel: plenty.fuel, stack: plenty.stack}
	if p.Ticks == 0 {
		limits = runaway
	}
	m, err := wasm.Read(original, wasm.DefaultLimits())
	if err != nil {
		t.Errorf("the original is refused: %v", err)
		return false
	}
	options := wasm.MeterOptions{InitialFuel: limits.fuel, InitialStack: limits.stack}
	metered, err := m.Meter(options)
	if err != nil {
		t.Error(err)
		return false
	}
	options.Exact = true
	exact, err := m.Meter(options)
	if err != nil {
		t.Error(err)
		return false
	}
	twin, err := twin(p.Module, c.census != nil).Encode()
	if err != nil {
		t.Fatal(err)
	}
	c.refused(t, p, metered.Wasm)
	c.census.count("programs")
	subjects := make([]*subject, 0, len(c.engines))
	for _, e := range c.engines {
		s := &subject{c: c, t: t, p: p, e: e, straight: straight(p.Module), widest: widest(p.Module)}
		s.original = s.compile(original, nil)
		s.metered = s.compile(metered.Wasm, metered)
		if e.name == "interpreter" {
			s.exact = s.compile(exact.Wasm, exact)
			s.twin = s.compile(twin, nil)
		}
		defer s.close()
		if t.Failed() {
			return false
		}
		subjects = append(subjects, s)
	}
	var usual []transcript
	for _, s := range subjects {
		usual = append(usual, s.agree(limits))
		if t.Failed() {
			return false
		}
	}
	if p.Canonical {
		compare(t, "compiler and interpreter", usual[0], usual[1], true)
	}
	// What the twin counted on the interpreter holds for the compiler only of a
	// canonical program.
	pick, which := xxhash.Sum64(input), 1
	if p.Canonical {
		which = int(pick % 2)
	}
	for i := range usual[which].calls {
		own, twin := &usual[which].calls[i], &usual[1].calls[i]
		own.depth, own.recurs = twin.depth, twin.recurs
	}
	usual[which].dearest = usual[1].dearest
	if n := len(usual[which].calls); n > 0 {
		at := int(pick >> 8 % uint64(n))
		for i, o := range usual[which].calls { // rather one that recurs
			if pick>>16%2 == 0 && o.recurs > usual[which].calls[at].recurs {
				at = i
			}
		}
		subjects[which].limits(usual[which], limits, at)
	}
	c.note(p, usual[0])
	return len(usual[0].calls) > 0
}

func (s *subject) compile(b []byte, metered *wasm.Metered) *binary {
	code, err := s.e.runtime.CompileModule(context.Background(), b)
	if err != nil {
		s.t.Errorf("%s refuses a module (metered: %t): %v", s.e.name, metered != nil, err)
		return nil
	}
	out := &binary{e: s.e, code: code, p: s.p, metered: metered}
	if s.p.Env == nil {
		return out
	}
	if s.original != nil {
		out.env = s.original.env
		return out
	}
	env, err := s.p.Env.Encode()
	if err != nil {
		s.t.Fatal(err)
	}
	if out.env, err = s.e.runtime.CompileModule(context.Background(), env); err != nil {
		s.t.Fatal(err)
	}
	return out
}

func (s *subject) close() {
	for _, b := range []*binary{s.original, s.metered, s.exact, s.twin} {
		if b == nil {
			continue
		}
		_ = b.code.Close(context.Background())
		if b == s.original && b.env != nil {
			_ = b.env.Close(context.Background())
		}
	}
}

func (s *subject) run(b *binary, n int, limits budget) transcript {
	t, err := b.run(context.Background(), n, limits)
	if err != nil {
		s.t.Error(err)
	}
	return t
}

// agree runs all calls on all four, and returns what became of the metered ones.
// Of a program that may not end, the originals make only the calls that the
// metered ones could end.
func (s *subject) agree(limits budget) transcript {
	metered := s.run(s.metered, len(s.p.Calls), limits)
	compare(s.t, "the second time", metered, s.run(s.metered, len(s.p.Calls), limits), true)
	n := len(metered.calls)
	if s.p.Ticks == 0 {
		if metered.start != "" {
			return metered // it may be out of fuel, which can't be seen
		}
		if n > 0 && (metered.calls[n-1].outOfFuel() || metered.calls[n-1].outOfStack()) {
			n--
			metered.calls = metered.calls[:n]
		}
	}
	compare(s.t, s.e.name+": original and metered", s.run(s.original, n, limits), metered, false)
	if s.twin == nil {
		return metered
	}
	s.twin.twin = true
	exact := s.run(s.exact, n, limits)
	compare(s.t, s.e.name+": exactly metered and metered", exact, metered, false)
	twin := s.run(s.twin, n, limits)
	compare(s.t, s.e.name+": twin and metered", twin, metered, false)
	if s.t.Failed() {
		return metered
	}
	for i, o := range metered.calls {
		x, own := exact.calls[i], twin.calls[i]
		unpaid := int64(0) // of one that trapped on the way into a loop
		if o.trap != "" {
			unpaid = 16
		}
		switch {
		case o.fuel+unpaid < x.fuel || x.fuel <= 0 || o.fuel < 0:
			s.t.Errorf("call %d (trap %q): %d fuel with the usual metering, %d exactly", i, o.trap, o.fuel, x.fuel)
		case x.fuel < own.twin || x.trap == "" && x.fuel != own.twin:
			s.t.Errorf("call %d (trap %q): %d fuel exactly, and %d by the twin", i, x.trap, x.fuel, own.twin)
		case o.fuel > 64*x.fuel:
			s.t.Errorf("call %d: %d fuel with the usual metering, %d exactly", i, o.fuel, x.fuel)
		case s.p.Ticks != 0 && (o.outOfFuel() || o.outOfStack()):
			s.t.Errorf("call %d: of a program that ends after %d ticks, %d fuel and %d stack are left", i, s.p.Ticks, o.left, o.stack)
		case o.fuel < x.fuel:
			s.c.census.count("calls that trapped before all was charged")
		case o.fuel > x.fuel:
			s.c.census.count("calls with more charged than done")
		}
	}
	if s.c.census != nil {
		for class, n := range twin.classes {
			s.c.census.classes[class] += n
		}
	}
	metered.dearest = twin.dearest
	for i := range metered.calls {
		metered.calls[i].depth, metered.calls[i].recurs = twin.calls[i].depth, twin.calls[i].recurs
	}
	return metered
}

// limits makes one of the calls again, with less fuel or stack than before.
func (s *subject) limits(usual transcript, limits budget, at int) {
	was := usual.calls[at]
	census := s.c.census
	for _, fuel := range []int64{0, 1, was.fuel / 2, was.fuel - 1, was.fuel, was.fuel + 1} {
		tight := budget{fuel: fuel, stack: limits.stack}
		t := s.run(s.metered, at+1, budget{fuel: limits.fuel, stack: limits.stack, tight: &tight})
		if s.t.Failed() || len(t.calls) != at+1 {
			s.t.Errorf("%d of %d calls were made", len(t.calls), at+1)
			return
		}
		o := t.calls[at]
		lowest := -s.straight - usual.dearest
		switch {
		case fuel >= was.fuel && (!o.same(&was) || o.fuel != was.fuel):
			s.t.Errorf("call %d with %d fuel, of which it needs %d: %s with %d used, and not %s", at, fuel, was.fuel, &o, o.fuel, &was)
		case fuel < was.fuel && o.left >= 0:
			s.t.Errorf("call %d with %d fuel, of which it needs %d: %d are left", at, fuel, was.fuel, o.left)
		case o.left < lowest:
			s.t.Errorf("call %d with %d fuel, of which it needs %d: %d are left, below %d: %s; with enough %s", at, fuel, was.fuel, o.left, lowest, &o, &was)
		case o.left < 0 && o.same(&was):
			census.count("calls that returned without enough fuel") // no check came after the last charge
		case o.left < 0 && o.trap != "wasm error: unreachable":
			s.t.Errorf("call %d with %d fuel, of which it needs %d: %s", at, fuel, was.fuel, &o)
		case o.left < 0:
			census.count("calls out of fuel")
		default:
			census.count("calls with exactly enough fuel")
		}
	}
	// A function that is active several times at once is in a recursion, and each
	// time takes 17 slots at least; and nothing takes more than all its values and
	// all its locals in each of its blocks.
	const frame = 17
	enough := (was.depth + 1) * s.widest
	for _, stack := range []int64{0, frame*was.recurs - 1, enough} {
		tight := budget{fuel: limits.fuel, stack: stack}
		t := s.run(s.metered, at+1, budget{fuel: limits.fuel, stack: limits.stack, tight: &tight})
		if s.t.Failed() || len(t.calls) != at+1 {
			s.t.Errorf("%d of %d calls were made", len(t.calls), at+1)
			return
		}
		o := t.calls[at]
		switch {
		case o.outOfStack() && (o.trap != "wasm error: unreachable" || o.fuel > was.fuel || stack == enough):
			s.t.Errorf("call %d with %d of the stack, at a depth of %d: %d left, %s", at, stack, was.depth, o.stack, &o)
		case o.outOfStack():
			census.count("calls out of stack")
		case !o.same(&was) || o.fuel != was.fuel:
			s.t.Errorf("call %d with %d of the stack, %d left: %s with %d fuel, and not %s with %d", at, stack, o.stack, &o, o.fuel, &was, was.fuel)
		case was.recurs > 1 && stack != enough:
			s.t.Errorf("call %d with %d of the stack, and a function in it %d times: %d left", at, stack, was.recurs, o.stack)
		}
	}
	if was.recurs > 1 {
		census.count("calls that recur")
	}
}

// compare reports the first difference between two transcripts.
func compare(t testing.TB, what string, a, b transcript, fuel bool) {
	t.Helper()
	if a.start != b.start {
		t.Errorf("%s: instantiated: %q and %q", what, a.start, b.start)
	}
	if len(a.calls) != len(b.calls) {
		t.Errorf("%s: %d and %d calls", what, len(a.calls), len(b.calls))
		return
	}
	for i := range a.calls {
		x, y := &a.calls[i], &b.calls[i]
		if !x.same(y) {
			t.Errorf("%s: call %d:\n%s\n%s", what, i, x, y)
			return
		}
		if fuel && (x.fuel != y.fuel || x.left != y.left) {
			t.Errorf("%s: call %d: %d and %d fuel", what, i, x.fuel, y.fuel)
			return
		}
	}
}

// straight returns an upper bound of what a way through one function may cost
// without the lengths: the price of all its code, of the small functions that it
// calls directly, and what each basic block may charge for those behind it.
func straight(m *wasmgen.Module) int64 {
	const call, entry, ahead = 64, 1, 64
	most := int64(0)
	for _, f := range m.Funcs {
		params, _, _ := strings.Cut(f.Type, ":")
		locals := len(params) + len(f.Locals)
		n := int64(entry + locals/wasm.PriceLocals)
		for _, i := range f.Body {
			n += int64(wasm.Price(op(i.Op)))
			switch i.Op.Class() {
			case "block", "loop", "if", "end": // locals and results are moved
				n += int64(movesPrice(2*locals + slots(i.Type)))
			}
			switch i.Op.String() {
			case "call":
				n += call + int64(callMoves(m.FuncType(uint32(i.Imm[0]))))
			case "call_indirect":
				n += int64(callMoves(i.Type))
			case "if", "else", "end", "br_if", "loop":
				n += ahead // a block begins
			}
		}
		most = max(most, n)
	}
	return most
}

// widest returns an upper bound of what the meter takes off the stack for one
// function.
func widest(m *wasmgen.Module) int64 {
	const call, values = 32, 10 // what a call takes, and what an instruction may make
	most := int64(0)
	for _, f := range m.Funcs {
		params, _, _ := strings.Cut(f.Type, ":")
		locals, blocks := int64(len(params)+len(f.Locals)), int64(0)
		for _, i := range f.Body {
			if len(i.Type) > 0 || i.Op.Class() == "block" || i.Op.Class() == "loop" || i.Op.Class() == "if" {
				blocks++
			}
		}
		most = max(most, call+2*locals+values*int64(len(f.Body))+2*blocks*locals)
	}
	return most
}

// refused checks that what may not be named is refused: a module that was
// rewritten, and the counters and scratch locals that a rewritten one will have.
func (c *checker) refused(t testing.TB, p *wasmgen.Program, metered []byte) {
	bad := new(wasm.Error)
	if _, err := wasm.Read(metered, wasm.DefaultLimits()); !errors.As(err, &bad) || bad.Kind != wasm.Reserved {
		t.Errorf("a metered module is read: %v", err)
	}
	globals := int(p.Module.Imported(wasmgen.KindGlobal)) + len(p.Module.Globals)
	f := p.Module.Funcs[0]
	params, _, _ := strings.Cut(f.Type, ":")
	locals := len(params) + len(f.Locals)
	for _, text := range []string{
		fmt.Sprintf("i64.const 0 global.set %d", globals), fmt.Sprintf("global.get %d drop", globals+1),
		fmt.Sprintf("local.get %d drop", locals), fmt.Sprintf("i32.const 0 local.set %d", locals+1),
		fmt.Sprintf("call %d", int(p.Module.Imported(wasmgen.KindFunc))+len(p.Module.Funcs)),
	} {
		code, err := wasmgen.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		m := *p.Module
		m.Funcs = slices.Clone(m.Funcs)
		m.Funcs[0].Body = append(code, f.Body...)
		b, err := m.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := wasm.Read(b, wasm.DefaultLimits()); !errors.As(err, &bad) || bad.Kind != wasm.Invalid {
			t.Errorf("%s, one past the last, is read: %v", text, err)
		}
	}
}

// note counts what a program did.
func (c *checker) note(p *wasmgen.Program, t transcript) {
	if c.census == nil {
		return
	}
	yes := func(what string, is bool) {
		if is {
			c.census.count("programs " + what)
		}
	}
	yes("that ran", len(t.calls) > 0)
	yes("that could not be instantiated: "+t.start, t.start != "")
	yes("that may not end", p.Ticks == 0)
	yes("with imports", p.Env != nil)
	yes("with a start function", p.Module.Start != nil)
	yes("that depend on the bits of NaN", !p.Canonical)
	for i := range t.calls {
		if o := &t.calls[i]; o.trap != "" {
			c.census.count("calls that trapped")
			c.census.count("trap: " + o.trap)
		} else {
			c.census.count("calls that returned")
		}
	}
}
