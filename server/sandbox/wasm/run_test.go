package wasm_test

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/cespare/xxhash/v2"
	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"rapport/server/sandbox/wasm"
	"rapport/server/sandbox/wasm/wasmgen"
)

// engine is one of wazero's two.
type engine struct {
	name    string
	runtime wazero.Runtime
}

// engines returns both, which are to be closed.
func engines() []engine {
	var list []engine
	for name, c := range map[string]wazero.RuntimeConfig{
		"compiler": wazero.NewRuntimeConfigCompiler(), "interpreter": wazero.NewRuntimeConfigInterpreter(),
	} {
		list = append(list, engine{name, wazero.NewRuntimeWithConfig(context.Background(), c.WithMemoryLimitPages(64))})
	}
	slices.SortFunc(list, func(a, b engine) int { return strings.Compare(a.name, b.name) })
	return list
}

// budget is what a run may use in each of its calls.
type budget struct {
	fuel  int64 // units
	stack int64
	// tight, if not nil, is for the last call in place of the above.
	tight *budget
}

// plenty never runs out in a program that ends.
var plenty = budget{fuel: 1 << 50, stack: 1 << 40}

// outcome is all that can be seen of a call. It is compared as a whole, without
// what was used.
type outcome struct {
	trap    string // what wazero calls it; "" if it returned
	results string
	state   string // of memory, globals and tables, after it

	fuel, left int64 // used, and what is left
	stack      int64 // what is left
	twin       int64 // what the twin counted
	depth      int64 // how many functions were active at once, by the twin
	recurs     int64 // how many times one was
}

func (o *outcome) String() string {
	return fmt.Sprintf("trap %q, results %s, state %s", o.trap, o.results, o.state)
}

func (o *outcome) same(p *outcome) bool {
	return o.trap == p.trap && o.results == p.results && o.state == p.state
}

func (o *outcome) outOfFuel() bool  { return o.left < 0 }
func (o *outcome) outOfStack() bool { return o.stack < 0 }

// transcript is what became of a program's calls.
type transcript struct {
	start   string // why it could not be instantiated
	calls   []outcome
	dearest int64 // of a twin
	classes map[string]uint64
}

// binary is a module to be run, compiled on an engine.
type binary struct {
	e       engine
	code    wazero.CompiledModule
	env     wazero.CompiledModule // what it imports from; nil if nothing
	p       *wasmgen.Program
	metered *wasm.Metered // nil if it isn't
	twin    bool
}

// run instantiates a module, with what it imports, and makes its program's first
// calls, n of them at most. It stops where a call is out of fuel or stack. An
// error is one of the test itself.
func (b *binary) run(ctx context.Context, n int, limits budget) (t transcript, err error) {
	if b.env != nil {
		m, err := b.e.runtime.InstantiateModule(ctx, b.env, wazero.NewModuleConfig().WithName("env"))
		if err != nil {
			return t, fmt.Errorf("the imported module: %w", err)
		}
		defer func() { _ = m.Close(ctx) }()
	}
	m, err := b.e.runtime.InstantiateModule(ctx, b.code, wazero.NewModuleConfig().WithName("").WithStartFunctions())
	if err != nil {
		t.start = firstLine(err)
		return t, nil
	}
	defer func() { _ = m.Close(ctx) }()
	r := runner{ctx: ctx, m: m, b: b}
	for i, call := range b.p.Calls[:min(n, len(b.p.Calls))] {
		own := limits
		if limits.tight != nil && i == n-1 {
			own = *limits.tight
		}
		o := r.call(call, own)
		if t.calls = append(t.calls, o); o.outOfFuel() || o.outOfStack() {
			break
		}
	}
	if b.twin {
		t.dearest = int64(m.ExportedGlobal(dearestExport).Get())
		t.classes = map[string]uint64{}
		for _, o := range wasmgen.Ops() {
			if g := m.ExportedGlobal(classExport + o.Class); g != nil {
				t.classes[o.Class] = g.Get()
			}
		}
	}
	return t, nil
}

// runner makes calls of an instance.
type runner struct {
	ctx context.Context
	m   api.Module
	b   *binary
}

func (r *runner) set(global string, v uint64) {
	if g, ok := r.m.ExportedGlobal(global).(api.MutableGlobal); ok {
		g.Set(v)
	}
}

func (r *runner) call(c wasmgen.Call, limits budget) (o outcome) {
	r.set(wasm.FuelExport, uint64(limits.fuel))
	r.set(wasm.StackExport, uint64(limits.stack))
	if r.b.twin {
		r.set(countExport, 0)
		r.set(depthExport, 0)
		r.set(recursExport, 0)
		r.set(activeExport, 0)
		for i := range r.b.p.Module.Funcs {
			r.set(fmt.Sprint(activeExport, i), 0)
		}
	}
	r.set(wasmgen.TicksExport, uint64(r.b.p.Ticks))
	results, err := r.m.ExportedFunction(c.Export).Call(r.ctx, c.Args...)
	if err != nil {
		o.trap = firstLine(err)
	}
	o.results = values(c.Type, results)
	if r.b.metered != nil {
		o.left = int64(r.m.ExportedGlobal(wasm.FuelExport).Get())
		o.stack = int64(r.m.ExportedGlobal(wasm.StackExport).Get())
		o.fuel = limits.fuel - o.left
	}
	if r.b.twin {
		o.twin = int64(r.m.ExportedGlobal(countExport).Get())
		o.depth = int64(r.m.ExportedGlobal(depthExport).Get())
		o.recurs = int64(r.m.ExportedGlobal(recursExport).Get())
	}
	o.state = r.state()
	return o
}

// state returns what the observing function says, with a hash of memory, and
// checks on the way that the exports for saving globals say the same.
func (r *runner) state() string {
	r.set(wasm.FuelExport, uint64(plenty.fuel))
	r.set(wasm.StackExport, uint64(plenty.stack))
	words, err := r.m.ExportedFunction(wasmgen.ObserveExport).Call(r.ctx)
	if err != nil {
		return "can't be observed: " + err.Error()
	}
	var b strings.Builder
	b.WriteString(values(r.b.p.Module.Funcs[len(r.b.p.Module.Funcs)-1].Type, words))
	if memory := r.m.ExportedMemory(wasmgen.MemoryExport); memory != nil {
		all, _ := memory.Read(0, memory.Size())
		fmt.Fprintf(&b, " memory %d %x", len(all), xxhash.Sum64(all))
	}
	if r.b.metered != nil {
		b.WriteString(r.saved(words))
	}
	return b.String()
}

// saved compares the saved globals with what was observed of them.
func (r *runner) saved(words []uint64) string {
	saved := r.b.metered.Globals
	at := 0
	look := func(g wasmgen.Global, own bool) string {
		word := words[at]
		if at++; g.Type == 'v' {
			at++
		}
		if !own || !g.Mutable {
			return ""
		}
		if len(saved) == 0 {
			return " too few saved globals"
		}
		s := saved[0]
		saved = saved[1:]
		x, ok := r.m.ExportedGlobal(s.Export).(api.MutableGlobal)
		switch {
		case !ok:
			return " no mutable export " + s.Export
		case g.Type == 'r' || g.Type == 'e' || g.Type == 'v':
		case uint32(x.Get()) != uint32(word) || x.Get() != word && (g.Type == 'I' || g.Type == 'F'):
			return fmt.Sprintf(" %s is %x and not %x", s.Export, x.Get(), word)
		}
		return ""
	}
	wrong := ""
	for _, i := range r.b.p.Module.Imports {
		if i.Kind == wasmgen.KindGlobal {
			wrong += look(i.Global, false)
		}
	}
	for _, g := range r.b.p.Module.Globals {
		wrong += look(g, true)
	}
	if len(saved) > 0 {
		wrong += " too many saved globals"
	}
	return wrong
}

// values writes results for comparing: of a function's reference only whether it
// is null, as it is an address.
func values(t string, words []uint64) string {
	var b strings.Builder
	_, results, _ := strings.Cut(t, ":")
	for _, l := range []byte(results) {
		if len(words) == 0 {
			break
		}
		switch l {
		case 'r':
			fmt.Fprintf(&b, "null %t ", words[0] == 0)
		case 'v':
			fmt.Fprintf(&b, "%x:", words[0])
			words = words[1:]
			fallthrough
		case 'I', 'F', 'e':
			fmt.Fprintf(&b, "%x ", words[0])
		default: // wazero leaves anything in the other half
			fmt.Fprintf(&b, "%x ", uint32(words[0]))
		}
		words = words[1:]
	}
	return b.String()
}

func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	// With a start function, wazero names it before what happened.
	if at := strings.Index(line, "wasm error: "); at >= 0 {
		line = line[at:]
	}
	return line
}
