package sandbox

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"

	"rapport/sdk/abi"
	"rapport/server/sandbox/wasm"
)

// Profiler says in which functions calls of a module use their fuel. It is for the
// author of a strategy: what [Runtime.CompileProfiled] compiles is called through it,
// uses the same fuel and gives the same answers, and is some ten times slower. It is
// safe for concurrent use, though calls wait for each other.
//
// The counter of an instance is read where a function begins and where it ends, by a
// listener that wazero's compiler builds calls of into every function. The
// alternative, another rewriting that counts for itself, would not profile the code
// that runs. A stretch of code is charged as a whole where it begins, and a short
// function by who calls it (see ABI.md), so figures of single functions are off by
// that; their sum is not.
type Profiler struct {
	names map[uint32]string
	rank  uint32 // the function that is exported as rapport_rank

	mu      sync.Mutex
	counter api.MutableGlobal // of the instance that is in a call; nil: none is
	last    int64             // fuel that was left when somebody last looked
	stack   []uint32          // of the call, by function
	key     []byte            // of the stack: four bytes a function
	short   []byte            // of the part of it that is kept
	stacks  map[string]*FuelStack
	calls   int
}

// FuelStack is what calls used in one place of the call tree.
type FuelStack struct {
	// Functions called each other, the outermost first: at most maxStack, of which the
	// last is the one that was called last. Where there were more, those before it are
	// left out.
	Functions []string
	Fuel      int64 // that the last of them used itself
	Calls     int64 // of the last of them
}

// FunctionFuel is what calls used in one function, wherever it was called from.
type FunctionFuel struct {
	Name        string `json:"name"`
	Self, Total int64  // of it alone, and with what it called
	Calls       int64  `json:"calls"`
}

// CompileProfiled compiles a module as [Runtime.Compile] does, such that a profiler
// sees its calls. The module is checked in a process apart; what listens to it is
// compiled in this one, so it is for modules of whoever runs it.
func (r *Runtime) CompileProfiled(ctx context.Context, module []byte) (*Module, *Profiler, error) {
	p := &Profiler{names: functionNames(module), stacks: make(map[string]*FuelStack)}
	m, err := r.compile(ctx, module, p)
	return m, p, err
}

// loadProfiled compiles what was checked, with listeners.
func (r *Runtime) loadProfiled(ctx context.Context, e *entry, p *Profiler) (w *wasmRuntime, compiled wazero.CompiledModule, err error) {
	dir, err := r.cache.temporary("profile")
	if err != nil {
		return nil, nil, err
	}
	if w, err = newWasmRuntime(ctx, r.policy, dir); err != nil {
		return nil, nil, fmt.Errorf("sandbox: %w", err)
	}
	w.temporary = true
	err = addHost(ctx, w)
	if err == nil {
		compiled, err = w.CompileModule(experimental.WithFunctionListenerFactory(ctx, p), e.wasm)
	}
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("sandbox: compiled for a profile: %w", err), w.close(ctx))
	}
	return w, compiled, nil
}

// NewFunctionListener implements experimental.FunctionListenerFactory.
func (p *Profiler) NewFunctionListener(def api.FunctionDefinition) experimental.FunctionListener {
	if slices.Contains(def.ExportNames(), abi.ExportRank) {
		p.rank = def.Index()
	}
	return p
}

// Before is called where a function begins.
func (p *Profiler) Before(_ context.Context, mod api.Module, def api.FunctionDefinition, _ []uint64, _ experimental.StackIterator) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case def.Index() == p.rank: // a call begins; not every frame of one that trapped is told to have ended
		counter, ok := mod.ExportedGlobal(wasm.FuelExport).(api.MutableGlobal)
		if !ok {
			return
		}
		p.counter, p.last = counter, int64(counter.Get())
		p.stack, p.key = p.stack[:0], p.key[:0]
		p.calls++
	case p.counter == nil:
		return // it is made ready
	}
	p.charge()
	p.stack = append(p.stack, def.Index())
	p.key = binary.LittleEndian.AppendUint32(p.key, def.Index())
	p.here().Calls++
}

// After is called where a function ends.
func (p *Profiler) After(context.Context, api.Module, api.FunctionDefinition, []uint64) { p.end() }

// Abort is called where a function ends because the call does.
func (p *Profiler) Abort(context.Context, api.Module, api.FunctionDefinition, error) { p.end() }

func (p *Profiler) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.counter == nil {
		return
	}
	p.charge()
	p.stack, p.key = p.stack[:len(p.stack)-1], p.key[:len(p.key)-4]
	if len(p.stack) == 0 {
		p.counter = nil
	}
}

// charge charges the function at hand with the fuel that was used since the last time.
func (p *Profiler) charge() {
	left := int64(p.counter.Get())
	if len(p.stack) > 0 {
		p.here().Fuel += p.last - max(left, 0) // what ended the call was more than it had
	}
	p.last = max(left, 0)
}

// maxStack bounds the stacks that are told apart: a function that calls itself ten
// thousand times deep would else be in as many places, each as long to name.
const maxStack = 64

// here returns the place in the call tree.
func (p *Profiler) here() *FuelStack {
	key := p.key
	if len(p.stack) > maxStack {
		p.short = append(append(p.short[:0], p.key[:4*(maxStack-1)]...), p.key[len(p.key)-4:]...)
		key = p.short
	}
	s, ok := p.stacks[string(key)]
	if !ok {
		s = new(FuelStack)
		p.stacks[string(key)] = s
		for ; len(key) > 0; key = key[4:] {
			s.Functions = append(s.Functions, p.name(binary.LittleEndian.Uint32(key)))
		}
	}
	return s
}

func (p *Profiler) name(index uint32) string {
	if name, ok := p.names[index]; ok {
		return name
	}
	return "function " + strconv.Itoa(int(index))
}

// Named reports whether the module has the names of its functions.
func (p *Profiler) Named() bool { return len(p.names) > 0 }

// Calls returns how many calls were profiled.
func (p *Profiler) Calls() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.calls
}

// Reset forgets all calls.
func (p *Profiler) Reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.stacks)
	p.calls = 0
}

// Stacks returns the places of the call tree, in a fixed order.
func (p *Profiler) Stacks() []FuelStack {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := make([]FuelStack, 0, len(p.stacks))
	for _, s := range p.stacks {
		all = append(all, *s)
	}
	slices.SortFunc(all, func(a, b FuelStack) int { return slices.Compare(a.Functions, b.Functions) })
	return all
}

// Functions returns the functions, those that used the most themselves first.
func (p *Profiler) Functions() []FunctionFuel {
	byName := make(map[string]*FunctionFuel)
	of := func(name string) *FunctionFuel {
		if byName[name] == nil {
			byName[name] = &FunctionFuel{Name: name}
		}
		return byName[name]
	}
	for _, s := range p.Stacks() {
		last := len(s.Functions) - 1
		of(s.Functions[last]).Self += s.Fuel
		of(s.Functions[last]).Calls += s.Calls
		for i, f := range s.Functions {
			if !slices.Contains(s.Functions[:i], f) { // one that calls itself is there once
				of(f).Total += s.Fuel
			}
		}
	}
	var all []FunctionFuel
	for _, f := range byName {
		all = append(all, *f)
	}
	slices.SortFunc(all, func(a, b FunctionFuel) int {
		return cmp.Or(cmp.Compare(b.Self, a.Self), cmp.Compare(b.Total, a.Total), strings.Compare(a.Name, b.Name))
	})
	return all
}

// functionNames reads the names of functions out of the custom section called name,
// by index; none if there is no such section that can be read.
func functionNames(module []byte) map[uint32]string {
	names := make(map[uint32]string)
	const header = 8
	if len(module) < header {
		return nil
	}
	for rest := module[header:]; len(rest) > 0; {
		id := rest[0]
		section, after, ok := sized(rest[1:])
		if !ok {
			return nil
		}
		rest = after
		if id != 0 {
			continue
		}
		title, body, ok := sized(section)
		if !ok || string(title) != "name" {
			continue
		}
		for len(body) > 0 {
			kind := body[0]
			part, after, ok := sized(body[1:])
			if !ok {
				return nil
			}
			if body = after; kind == 1 {
				readNames(part, names)
			}
		}
	}
	return names
}

// readNames reads a map of names.
func readNames(b []byte, names map[uint32]string) {
	n, size := binary.Uvarint(b)
	if size <= 0 {
		return
	}
	b = b[size:]
	for range n {
		index, size := binary.Uvarint(b)
		if size <= 0 {
			return
		}
		name, after, ok := sized(b[size:])
		if !ok {
			return
		}
		names[uint32(index)], b = strings.ToValidUTF8(string(name), "\uFFFD"), after
	}
}

// sized reads bytes with their number before them.
func sized(b []byte) (part, after []byte, ok bool) {
	n, size := binary.Uvarint(b)
	if size <= 0 || n > uint64(len(b)-size) {
		return nil, nil, false
	}
	return b[size:][:n], b[size:][n:], true
}
