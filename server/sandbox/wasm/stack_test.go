package wasm_test

import (
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"rapport/server/sandbox/wasm"
	"rapport/server/sandbox/wasm/wasmgen"
)

// However often a recursion is begun, it needs no more of the stack than once:
// what it took is given back.
func TestStackIsGivenBack(t *testing.T) {
	parse := func(text string) []wasmgen.Instr {
		code, err := wasmgen.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		return code
	}
	// A function that begins with how often, and calls what its name says so often
	// with a depth of 20.
	often := func(callee string) wasmgen.Func {
		return wasmgen.Func{Type: "i:", Body: parse(`
			loop
			  i32.const 20  call ` + callee + `
			  local.get 0  i32.const 1  i32.sub  local.tee 0  br_if 0
			end`)}
	}
	const bottom = "one at the bottom of another"
	m := wasmgen.Module{
		Funcs: []wasmgen.Func{
			{Type: "i:", Body: parse("local.get 0  if  local.get 0  i32.const 1  i32.sub  call 0  end")},
			{Type: "i:", Body: parse("local.get 0  call 0")}, // leads into a recursion, and is in none
			{Type: "i:", Body: parse(`
				local.get 0  if
				  local.get 0  i32.const 1  i32.sub  i32.const 0  call_indirect i: 0
				  local.get 0  i32.const 2  i32.shr_u  call 2
				end`)}, // two ways of its own
			often("0"), often("1"), often("2"),
			{Type: "i:", Body: parse(`
				local.get 0  if
				  local.get 0  i32.const 1  i32.sub  call 6
				else
				  i32.const 20  call 1
				end`)}, // at its bottom another begins
		},
		Tables: []wasmgen.Table{{Type: 'r', Min: 1}},
		Elems:  []wasmgen.Elem{{Type: 'r', Offset: wasmgen.Instr{Op: 0x41}, Items: []wasmgen.Instr{{Op: 0xd2, Imm: []uint64{2}}}, Indices: true}},
		Exports: []wasmgen.Export{
			{Name: "recursion", Index: 3},
			{Name: "leads to one", Index: 4},
			{Name: "two ways, one through a table", Index: 5},
			{Name: bottom, Index: 6},
		},
	}
	b, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	read, err := wasm.Read(b, wasm.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	metered, err := read.Meter(wasm.MeterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	r := wazero.NewRuntimeWithConfig(t.Context(), wazero.NewRuntimeConfigInterpreter())
	t.Cleanup(func() { _ = r.Close(t.Context()) })
	i, err := r.Instantiate(t.Context(), metered.Wasm)
	if err != nil {
		t.Fatal(err)
	}
	// passes reports whether the stack is enough.
	passes := func(name string, stack int, times uint64) bool {
		for export, v := range map[string]uint64{wasm.FuelExport: 1 << 40, wasm.StackExport: uint64(stack)} {
			g, ok := i.ExportedGlobal(export).(api.MutableGlobal)
			if !ok {
				t.Fatalf("%s is not mutable", export)
			}
			g.Set(v)
		}
		_, err := i.ExportedFunction(name).Call(t.Context(), times)
		if left := int64(i.ExportedGlobal(wasm.StackExport).Get()); (left < 0) != (err != nil) {
			t.Errorf("%s: %d of %d are left, error %v", name, left, stack, err)
		}
		return err == nil
	}
	for _, e := range m.Exports {
		if e.Name == bottom {
			continue
		}
		need := 0
		for !passes(e.Name, need, 1) && need < 100_000 {
			need++
		}
		t.Logf("%s, to a depth of 20, needs %d slots of the stack", e.Name, need)
		if need < 20 || need >= 100_000 {
			t.Errorf("%s needs %d slots", e.Name, need)
		}
		if !passes(e.Name, need, 1000) {
			t.Errorf("%s 1,000 times needs more of the stack than once", e.Name)
		}
	}
	// What began at the bottom of another has only what that one left: 20 functions
	// and 20 more, of 33 slots at least.
	if passes(bottom, 40*33-1, 20) || !passes(bottom, 100*33, 20) {
		t.Error("two recursions don't share the stack")
	}
}
