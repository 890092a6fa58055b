package wasm_test

import (
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"rapport/server/sandbox/wasm"
	"rapport/server/sandbox/wasm/wasmgen"
)

// A recursion that comes back has the rest of each of its functions still to do.
// If fuel were checked only where functions begin, all of that would be done
// however far below 0 the counter is.
func TestTheWayBackIsChecked(t *testing.T) {
	const depth, work = 500, 100
	body, err := wasmgen.Parse(`
		local.get 0  if
		  local.get 0  i32.const 1  i32.sub  call 0
		end
		local.get 0  if ` + strings.Repeat("i32.const 1 local.set 1 ", work/2) + `end`)
	if err != nil {
		t.Fatal(err)
	}
	m := wasmgen.Module{
		Funcs:   []wasmgen.Func{{Type: "i:", Locals: "i", Body: body}},
		Exports: []wasmgen.Export{{Name: "f", Kind: wasmgen.KindFunc}},
	}
	b, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	for _, exact := range []bool{false, true} {
		read, err := wasm.Read(b, wasm.DefaultLimits())
		if err != nil {
			t.Fatal(err)
		}
		metered, err := read.Meter(wasm.MeterOptions{InitialFuel: 1 << 30, InitialStack: 1 << 30, Exact: exact})
		if err != nil {
			t.Fatal(err)
		}
		r := wazero.NewRuntimeWithConfig(t.Context(), wazero.NewRuntimeConfigInterpreter())
		i, err := r.Instantiate(t.Context(), metered.Wasm)
		if err != nil {
			t.Fatal(err)
		}
		fuel, ok := i.ExportedGlobal(wasm.FuelExport).(api.MutableGlobal)
		if !ok {
			t.Fatal("the counter is not mutable")
		}
		if _, err := i.ExportedFunction("f").Call(t.Context(), depth); err != nil {
			t.Fatal(err)
		}
		used := 1<<30 - int64(fuel.Get())
		wayBack := int64(depth * work)
		for _, limit := range []int64{used - wayBack + work, used - wayBack/2, used - 2*work} {
			fuel.Set(uint64(limit))
			_, err := i.ExportedFunction("f").Call(t.Context(), depth)
			left := int64(fuel.Get())
			if err == nil || left >= 0 || left < -2*work {
				t.Errorf("exact %t: with %d fuel of %d: %d are left, error %v", exact, limit, used, left, err)
			}
		}
		_ = r.Close(t.Context())
	}
}

// A recursion pays on its way down, also when each of its functions comes to a
// loop right behind its call, whose head could pay for what is before it, and when
// it is a small function, for which its callers could pay.
func TestTheWayDownIsPaid(t *testing.T) {
	const fuel = 10_000
	r := wazero.NewRuntimeWithConfig(t.Context(), wazero.NewRuntimeConfigCompiler())
	t.Cleanup(func() { _ = r.Close(t.Context()) })
	for name, text := range map[string]string{"before a loop": "call 1 loop end", "small": "call 1"} {
		body, err := wasmgen.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		m := wasmgen.Module{
			Funcs:   []wasmgen.Func{{Type: ":", Body: body}, {Type: ":", Body: body}},
			Exports: []wasmgen.Export{{Name: "f", Kind: wasmgen.KindFunc}},
		}
		b, err := m.Encode()
		if err != nil {
			t.Fatal(err)
		}
		read, err := wasm.Read(b, wasm.DefaultLimits())
		if err != nil {
			t.Fatal(err)
		}
		metered, err := read.Meter(wasm.MeterOptions{InitialFuel: fuel, InitialStack: 20 * fuel})
		if err != nil {
			t.Fatal(err)
		}
		i, err := r.InstantiateWithConfig(t.Context(), metered.Wasm, wazero.NewModuleConfig().WithName(""))
		if err != nil {
			t.Fatal(err)
		}
		_, err = i.ExportedFunction("f").Call(t.Context())
		if left := int64(i.ExportedGlobal(wasm.FuelExport).Get()); err == nil || left >= 0 {
			t.Errorf("%s: %d of %d fuel are left, error %v", name, left, fuel, err)
		}
	}
}
