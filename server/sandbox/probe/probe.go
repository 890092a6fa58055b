// Package probe runs WebAssembly code bare, metered, and as wazero stops code by
// itself, so that benchmarks can say what each costs. It is for benchmarks only:
// code that runs bare is not bounded by anything.
//
// Two kinds of code are run: the programs of programs/programs.c, each of which does one
// kind of work, and strategies, with a frame as a decision would fill it. Package
// sandbox runs strategies for decisions; nothing of it is used here, so that what
// is measured is the guest and not its host.
package probe

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"strings"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"rapport/sdk/abi"
	"rapport/server/sandbox/wasm"
)

// Mode says how code is run.
type Mode int

// The modes.
const (
	Bare        Mode = iota // as it is
	Metered                 // rewritten, as strategies are
	Exact                   // rewritten, with every basic block charged by itself
	CloseOnDone             // with wazero's WithCloseOnContextDone, which is for timeouts
)

// String returns the mode's name.
func (m Mode) String() string {
	return [...]string{Bare: "bare", Metered: "metered", Exact: "metered, every block", CloseOnDone: "close-on-done"}[m]
}

//go:generate go run ./generate

//go:embed programs/*.wasm
var programs embed.FS

// Layouts is how many variants of the programs there are, which differ in where
// the code lies.
const Layouts = 4

// Kind is what code does most.
type Kind string

// The kinds of the programs.
const (
	Loops Kind = "loops"
	Calls Kind = "calls"
)

// Program is a function of programs.c and the argument with which it takes some
// microseconds.
type Program struct {
	Name     string
	Argument uint64
	Kind     Kind
}

// Programs returns what there is in programs.c, each with what kind of code it
// is in its comment there.
func Programs() []Program {
	return []Program{
		{"chain", 2000, Loops},
		{"product", 1500, Loops},
		{"sort", 150, Loops},
		{"branches", 1500, Loops},
		{"divisions", 200, Loops},
		{"work", 150, Calls},
		{"indirect", 1000, Calls},
		{"calls", 1000, Calls},
		{"recursion", 16, Calls},
	}
}

// Module is code that is compiled, in one mode. It is not safe for concurrent use.
type Module struct {
	runtime  wazero.Runtime
	compiled wazero.CompiledModule
}

// Probe is an instance of a module. It is not safe for concurrent use.
type Probe struct {
	own    *Module // to be closed with it
	module api.Module
	fuel   api.MutableGlobal
	stack  [1]uint64
	rank   api.Function
	frame  abi.Frame // a view of the memory
	before []byte    // the frame, as it was configured
	memory []byte    // a copy of all
	score  []float64
}

// plenty is more fuel than any measurement uses.
const plenty = 1 << 60

// Compile compiles a module. Its imports do nothing: there are no files, all else
// succeeds, and the clock stands at 1, as Go takes 0 for a broken one.
func Compile(ctx context.Context, b []byte, mode Mode) (*Module, error) {
	if mode == Metered || mode == Exact {
		m, err := wasm.Read(b, wasm.DefaultLimits())
		if err != nil {
			return nil, err
		}
		metered, err := m.Meter(wasm.MeterOptions{Exact: mode == Exact})
		if err != nil {
			return nil, err
		}
		b = metered.Wasm
	}
	m := &Module{runtime: wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigCompiler().
		WithCoreFeatures(api.CoreFeaturesV2).WithMemoryLimitPages(1024).WithCloseOnContextDone(mode == CloseOnDone))}
	var err error
	if m.compiled, err = m.runtime.CompileModule(ctx, b); err == nil {
		err = m.answerImports(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("probe: %w", errors.Join(err, m.Close(ctx)))
	}
	return m, nil
}

// New makes an instance. Instances share the code, and each has its memory.
func (m *Module) New(ctx context.Context) (*Probe, error) {
	instance, err := m.runtime.InstantiateModule(ctx, m.compiled, wazero.NewModuleConfig().WithName("").WithStartFunctions())
	if err != nil {
		return nil, fmt.Errorf("probe: %w", err)
	}
	p := &Probe{module: instance}
	if g, ok := instance.ExportedGlobal(wasm.FuelExport).(api.MutableGlobal); ok {
		p.fuel = g
		g.Set(plenty)
	}
	if g, ok := instance.ExportedGlobal(wasm.StackExport).(api.MutableGlobal); ok {
		g.Set(1 << 30)
	}
	return p, nil
}

// Close frees the code and all instances.
func (m *Module) Close(ctx context.Context) error { return m.runtime.Close(ctx) }

// New compiles a module and makes its only instance.
func New(ctx context.Context, b []byte, mode Mode) (*Probe, error) {
	m, err := Compile(ctx, b, mode)
	if err != nil {
		return nil, err
	}
	p, err := m.New(ctx)
	if err != nil {
		return nil, errors.Join(err, m.Close(ctx))
	}
	p.own = m
	return p, nil
}

// NewProgram makes an instance of the programs, in one of their layouts.
func NewProgram(ctx context.Context, layout int, mode Mode) (*Probe, error) {
	b, err := programs.ReadFile(fmt.Sprintf("programs/programs%d.wasm", layout))
	if err != nil {
		return nil, err
	}
	return New(ctx, b, mode)
}

func (m *Module) answerImports(ctx context.Context) error {
	modules := make(map[string]wazero.HostModuleBuilder)
	for _, f := range m.compiled.ImportedFunctions() {
		module, name, _ := f.Import()
		b, ok := modules[module]
		if !ok {
			b = m.runtime.NewHostModuleBuilder(module)
			modules[module] = b
		}
		const badFile = 8
		results, clock, file := len(f.ResultTypes()), name == "clock_time_get", strings.HasPrefix(name, "fd_")
		b.NewFunctionBuilder().WithGoModuleFunction(api.GoModuleFunc(func(_ context.Context, m api.Module, stack []uint64) {
			if clock {
				m.Memory().WriteUint64Le(uint32(stack[2]), 1)
			}
			clear(stack[:results])
			if file {
				stack[0] = badFile
			}
		}), f.ParamTypes(), f.ResultTypes()).Export(name)
	}
	for _, b := range modules {
		if _, err := b.Instantiate(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Call calls an export of one parameter.
func (p *Probe) Call(ctx context.Context, f api.Function, argument uint64) (uint64, error) {
	p.stack[0] = argument
	err := f.CallWithStack(ctx, p.stack[:])
	return p.stack[0], err
}

// Function returns an export.
func (p *Probe) Function(name string) api.Function { return p.module.ExportedFunction(name) }

// Fuel returns how much has been used since the instance was made; 0 if it is not
// metered.
func (p *Probe) Fuel() int64 {
	if p.fuel == nil {
		return 0
	}
	return plenty - int64(p.fuel.Get())
}
