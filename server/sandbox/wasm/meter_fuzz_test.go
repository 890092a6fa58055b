package wasm_test

import (
	"context"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"rapport/server/sandbox/wasm"
	"rapport/server/sandbox/wasm/wasmgen"
)

// Whatever the program, rewriting it changes nothing but the fuel that is left:
// see checker. The seeds in testdata are programs that together execute every
// class of instructions and trap in every way.
func FuzzMeter(f *testing.F) {
	f.Add([]byte{})
	random := rand.New(rand.NewPCG(1, 0))
	for range 8 { // long ones, beside those of testdata
		input := make([]byte, 1000)
		for i := range input {
			input[i] = byte(random.Uint32())
		}
		f.Add(input)
	}
	c := newChecker(f)
	var ran atomic.Int64
	f.Cleanup(func() { f.Logf("%d generated modules ran", ran.Load()) })
	f.Fuzz(func(t *testing.T, input []byte) {
		if len(input) > 4096 {
			t.Skip("longer than any program needs")
		}
		if c.check(t, input) {
			ran.Add(1)
		}
	})
}

// Whatever the bytes, if they are read they are a module to wazero too, and
// metered one of which every call ends.
func FuzzRun(f *testing.F) {
	random := rand.New(rand.NewPCG(2, 0))
	for n := range 30 {
		input := make([]byte, 15*n)
		for i := range input {
			input[i] = byte(random.Uint32())
		}
		p := wasmgen.Generate(input)
		b, err := p.Module.Encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	r := wazero.NewRuntimeWithConfig(context.Background(), wazero.NewRuntimeConfigCompiler().WithMemoryLimitPages(64))
	f.Cleanup(func() {
		if err := r.Close(context.Background()); err != nil {
			f.Error(err)
		}
	})
	limits := wasm.DefaultLimits()
	limits.ModuleBytes, limits.MemoryPages, limits.TableEntries, limits.Locals = 1<<16, 16, 1000, 1000
	var read, ran atomic.Int64
	f.Cleanup(func() { f.Logf("%d modules were read, %d of them ran", read.Load(), ran.Load()) })
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := wasm.Read(b, limits)
		if err != nil {
			return // FuzzRead looks at errors
		}
		read.Add(1)
		metered, err := m.Meter(wasm.MeterOptions{InitialFuel: runaway.fuel, InitialStack: runaway.stack})
		if err != nil {
			t.Fatal(err)
		}
		if n := runAll(t, r, m, metered); n > 0 {
			ran.Add(1)
		}
	})
}

// runAll calls all functions that a module exports with zeros, and returns how
// many. Each call must end; that its fuel may not have is the point.
func runAll(t *testing.T, r wazero.Runtime, m *wasm.Module, metered *wasm.Metered) int {
	ctx := context.Background()
	c, err := r.CompileModule(ctx, m.Stripped())
	if err != nil {
		if !strings.Contains(err.Error(), emptyModuleName) {
			t.Errorf("wazero refuses what was read: %v", err)
		}
		return 0
	}
	_ = c.Close(ctx)
	if c, err = r.CompileModule(ctx, metered.Wasm); err != nil {
		t.Errorf("wazero refuses the metered module: %v", err)
		return 0
	}
	defer func() { _ = c.Close(ctx) }()
	if len(m.Imports) > 0 {
		return 0
	}
	i, err := r.InstantiateModule(ctx, c, wazero.NewModuleConfig().WithName("").WithStartFunctions())
	if err != nil {
		return 0 // a segment out of bounds, or its start function trapped
	}
	defer func() { _ = i.Close(ctx) }()
	fuel, ok := i.ExportedGlobal(wasm.FuelExport).(api.MutableGlobal)
	stack, too := i.ExportedGlobal(wasm.StackExport).(api.MutableGlobal)
	if !ok || !too {
		t.Errorf("the counters are not exported")
		return 0
	}
	calls := 0
	for _, e := range m.Exports {
		if e.Kind != wasm.ExternFunc {
			continue
		}
		words := 0
		for _, p := range m.FuncType(e.Index).Params {
			if words++; p == wasm.V128 {
				words++
			}
		}
		calls++
		fuel.Set(uint64(runaway.fuel))
		stack.Set(uint64(runaway.stack))
		_, err := i.ExportedFunction(e.Name).Call(ctx, make([]uint64, words)...)
		if left := int64(fuel.Get()); left >= runaway.fuel {
			t.Errorf("%s was called for nothing: %d of %d fuel are left", e.Name, left, runaway.fuel)
		} else if left < 0 && err != nil && !strings.HasPrefix(firstLine(err), "wasm error: ") {
			t.Errorf("%s is out of fuel: %v", e.Name, err)
		}
	}
	return calls
}
