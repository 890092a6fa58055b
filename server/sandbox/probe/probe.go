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
	"encoding/json"
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

// Program is a function of programs.c and the argument with which it takes some
// microseconds.
type Program struct {
	Name     string
	Argument uint64
}

// Programs returns what there is in programs.c, each with what kind of code it
// is in its comment there.
func Programs() []Program {
	return []Program{
		{"chain", 2000}, {"product", 1500}, {"sort", 150}, {"branches", 1500}, {"divisions", 200},
		{"work", 150}, {"indirect", 1000}, {"calls", 1000}, {"recursion", 16},
	}
}

// Probe is an instance of a module. It is not safe for concurrent use.
type Probe struct {
	runtime wazero.Runtime
	module  api.Module
	fuel    api.MutableGlobal
	stack   [1]uint64
	rank    api.Function
	frame   uint64 // its length
	memory  []byte // a copy
}

// plenty is more fuel than any measurement uses.
const plenty = 1 << 60

// New makes an instance of a module. Its imports do nothing: there are no files,
// all else succeeds, and the clock stands at 1, as Go takes 0 for a broken one.
func New(ctx context.Context, b []byte, mode Mode) (_ *Probe, err error) {
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
	p := &Probe{runtime: wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigCompiler().
		WithCoreFeatures(api.CoreFeaturesV2).WithMemoryLimitPages(1024).WithCloseOnContextDone(mode == CloseOnDone))}
	compiled, err := p.runtime.CompileModule(ctx, b)
	if err == nil {
		err = p.answerImports(ctx, compiled)
	}
	if err == nil {
		p.module, err = p.runtime.InstantiateModule(ctx, compiled, wazero.NewModuleConfig().WithName("").WithStartFunctions())
	}
	if err != nil {
		return nil, fmt.Errorf("probe: %w", errors.Join(err, p.Close(ctx)))
	}
	if g, ok := p.module.ExportedGlobal(wasm.FuelExport).(api.MutableGlobal); ok {
		p.fuel = g
		g.Set(plenty)
	}
	if g, ok := p.module.ExportedGlobal(wasm.StackExport).(api.MutableGlobal); ok {
		g.Set(1 << 30)
	}
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

func (p *Probe) answerImports(ctx context.Context, compiled wazero.CompiledModule) error {
	modules := make(map[string]wazero.HostModuleBuilder)
	for _, f := range compiled.ImportedFunctions() {
		module, name, _ := f.Import()
		b, ok := modules[module]
		if !ok {
			b = p.runtime.NewHostModuleBuilder(module)
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

// Configure makes a strategy ready to rank n candidates, whose numbers are all 1
// and whose other attributes are unknown, by the contract in sdk/ABI.md.
func (p *Probe) Configure(ctx context.Context, n int) error {
	call := func(name string, params ...uint64) (uint64, error) {
		f := p.module.ExportedFunction(name)
		if f == nil {
			return 0, nil
		}
		results, err := f.Call(ctx, params...)
		if err != nil || len(results) == 0 {
			return 0, err
		}
		return results[0], nil
	}
	if _, err := call(abi.ExportInitialize); err != nil {
		return err
	}
	span, err := call(abi.ExportDescribe)
	if err != nil {
		return err
	}
	at, size := abi.UnpackSpan(span)
	text, _ := p.module.Memory().Read(at, size)
	var m abi.Manifest
	if err := json.Unmarshal(text, &m); err != nil {
		return fmt.Errorf("probe: manifest: %w", err)
	}
	shape := abi.FrameShape{Candidates: n, Profile: len(m.Profile), Columns: len(m.Candidate)}
	parameters := make([]float64, len(m.Parameters))
	for i, d := range m.Parameters {
		parameters[i] = d.Default
	}
	b := abi.NewStaticBuilder(n, parameters, len(m.Offer), len(m.Channel))
	for row := range n {
		setNumbers(&b.Offer, m.Offer, row)
		setNumbers(&b.Channel, m.Channel, row)
	}
	layout := shape.Layout()
	static := b.Build(layout.Size)
	arena, err := call(abi.ExportArena, uint64(len(static)+layout.Size+abi.GuardSize))
	if err != nil {
		return err
	}
	block, err := abi.ParseStatic(static)
	if err != nil {
		return err
	}
	p.module.Memory().Write(uint32(arena), static)
	if status, err := call(abi.ExportConfigure, arena, uint64(block.Size)); err != nil || status != abi.StatusOK {
		return fmt.Errorf("probe: configure: status %d: %w", status, err)
	}
	head := abi.NewHead(len(m.Profile), 0)
	head.Reset()
	layout, bytes := head.Finish(n, len(m.Candidate), 1_772_366_400_000_000, 42)
	view, ok := p.module.Memory().Read(uint32(arena)+uint32(block.FrameAt), uint32(layout.Size))
	if !ok {
		return fmt.Errorf("probe: an arena at %d that is too small", arena)
	}
	frame := layout.View(view)
	copy(frame.Input(), bytes)
	for i := range frame.Index() {
		frame.Index()[i] = uint32(i)
	}
	for c := range m.Candidate {
		for i := range frame.Column(c) {
			frame.Column(c)[i] = 1 + float64(i)/1024
		}
	}
	frame.ClearOutput()
	p.rank, p.frame = p.module.ExportedFunction(abi.ExportRank), uint64(layout.Size)
	all, _ := p.module.Memory().Read(0, p.module.Memory().Size())
	p.memory = append([]byte(nil), all...)
	return nil
}

func setNumbers(t *abi.Table, inputs []abi.Input, row int) {
	for i, in := range inputs {
		if in.Type == "number" {
			t.Set(i, row, abi.NumberCell(1))
		}
	}
}

// Rank ranks the frame that Configure filled.
func (p *Probe) Rank(ctx context.Context) error {
	result, err := p.Call(ctx, p.rank, p.frame)
	if err != nil {
		return err
	}
	if status, detail := abi.UnpackStatus(result); status != abi.StatusOK {
		return fmt.Errorf("probe: status %d, detail %d", status, detail)
	}
	return nil
}

// Restore puts the memory back to what it was when the strategy was configured.
func (p *Probe) Restore() { p.module.Memory().Write(0, p.memory) }

// Close frees the instance.
func (p *Probe) Close(ctx context.Context) error { return p.runtime.Close(ctx) }
