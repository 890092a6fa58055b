package wasmgen_test

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"

	"rapport/server/sandbox/wasm/wasmgen"
)

// Every instruction whose type the table gives is what wazero's validator takes
// it to be: a function of nothing else compiles.
func TestTableOfOps(t *testing.T) {
	r := wazero.NewRuntimeWithConfig(t.Context(), wazero.NewRuntimeConfigInterpreter())
	t.Cleanup(func() { _ = r.Close(t.Context()) })
	typed := 0
	for _, o := range wasmgen.Ops() {
		if o.Type == ":" {
			continue
		}
		typed++
		i := wasmgen.Instr{Op: o.Op, Imm: make([]uint64, 2)}
		m := &wasmgen.Module{
			Memory:    &wasmgen.Memory{Min: 1},
			Tables:    []wasmgen.Table{{Type: 'r', Min: 1}},
			Data:      []wasmgen.Data{{Mode: wasmgen.Passive}},
			DataCount: true,
			Elems:     []wasmgen.Elem{{Mode: wasmgen.Passive, Type: 'r'}},
			Funcs:     []wasmgen.Func{{Type: o.Type}},
			Exports:   []wasmgen.Export{{Name: "f", Kind: wasmgen.KindFunc}},
		}
		params, _, _ := strings.Cut(o.Type, ":")
		for n := range len(params) {
			m.Funcs[0].Body = append(m.Funcs[0].Body, wasmgen.Instr{Op: 0x20, Imm: []uint64{uint64(n)}})
		}
		m.Funcs[0].Body = append(m.Funcs[0].Body, i)
		b, err := m.Encode()
		if err != nil {
			t.Errorf("%s: %v", o.Name, err)
			continue
		}
		c, err := r.CompileModule(t.Context(), b)
		if err != nil {
			t.Errorf("%#x %s %s: %v", uint16(o.Op), o.Name, o.Type, err)
			continue
		}
		_ = c.Close(t.Context())
	}
	t.Logf("%d instructions, %d of them with a type of their own", len(wasmgen.Ops()), typed)
	if len(wasmgen.Ops()) != 437 {
		t.Errorf("%d instructions; core 2.0 has 437 with else and end", len(wasmgen.Ops()))
	}
}

// A module that was written by hand does what its text says.
func TestParseAndRun(t *testing.T) {
	body, err := wasmgen.Parse(`
		block loop                 ;; the sum of the numbers to n
		  local.get 0  i32.eqz  br_if 1
		  local.get 1  local.get 0  i32.add  local.set 1
		  local.get 0  i32.const -1  i32.add  local.set 0
		  br 0
		end end
		i32.const 0  local.get 1  i32.store offset=8
		i32.const 8  i32.load align=1
		i32.const 0  call_indirect i:i 0
		block i:i i32.const 0 br_table 0 0 end
		f64.const 1.5  i64.trunc_sat_f64_s  i32.wrap_i64
		v128.const 0x5 0  i32x4.extract_lane 0
		if i:i i32.const 10 i32.add else end
		ref.null e  ref.is_null  select_t i`)
	if err != nil {
		t.Fatal(err)
	}
	double, err := wasmgen.Parse("local.get 0 i32.const 1 i32.shl")
	if err != nil {
		t.Fatal(err)
	}
	for _, long := range []bool{false, true} {
		m := wasmgen.Module{
			Memory:   &wasmgen.Memory{Min: 1},
			Tables:   []wasmgen.Table{{Type: 'r', Min: 1}},
			Elems:    []wasmgen.Elem{{Type: 'r', Offset: wasmgen.Instr{Op: 0x41}, Items: []wasmgen.Instr{{Op: 0xd2, Imm: []uint64{1}}}, Indices: true}},
			Funcs:    []wasmgen.Func{{Type: "i:i", Locals: "iI", Body: body}, {Type: "i:i", Body: double}},
			Exports:  []wasmgen.Export{{Name: "f", Kind: wasmgen.KindFunc}},
			Customs:  []wasmgen.Custom{{Before: 3, Name: "between"}, {Name: "last", Content: []byte("x")}},
			LongForm: long,
		}
		b, err := m.Encode()
		if err != nil {
			t.Fatal(err)
		}
		r := wazero.NewRuntimeWithConfig(t.Context(), wazero.NewRuntimeConfigInterpreter())
		i, err := r.Instantiate(t.Context(), b)
		if err != nil {
			t.Fatal(err)
		}
		// 10 + 9 + … = 55, doubled; the select takes it, as a null is null.
		if got, err := i.ExportedFunction("f").Call(t.Context(), 10); err != nil || got[0] != 110 {
			t.Errorf("%d, %v", got, err)
		}
		_ = r.Close(t.Context())
	}
}

func TestParseMistakes(t *testing.T) {
	for text, want := range map[string]string{
		"i32.add i32.what":        `token 2: no instruction is named "i32.what"`,
		"i32.const x":             "token 2: i32.const: ",
		"i32.load offset=x":       "token 1: i32.load: ",
		"i32.const 0x1_0000_0000": "i32.const: ",
	} {
		if _, err := wasmgen.Parse(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
	for _, m := range []wasmgen.Module{
		{Types: []string{"i"}},
		{Globals: []wasmgen.Global{{Type: 'x'}}},
		{Funcs: []wasmgen.Func{{Type: ":", Body: []wasmgen.Instr{{Op: 0xff}}}}},
		{Funcs: []wasmgen.Func{{Type: ":", Body: []wasmgen.Instr{{Op: 0x0e}}}}},
		{Funcs: []wasmgen.Func{{Type: ":", Body: []wasmgen.Instr{{Op: 0xd0}}}}},
	} {
		if _, err := m.Encode(); err == nil {
			t.Errorf("%+v was encoded", m)
		}
	}
}

// Every generated program is valid, to a validator that is not ours.
func TestGenerateIsValid(t *testing.T) {
	r := wazero.NewRuntimeWithConfig(t.Context(), wazero.NewRuntimeConfigInterpreter())
	t.Cleanup(func() { _ = r.Close(t.Context()) })
	random := rand.New(rand.NewPCG(1, 2))
	const programs = 1500
	written, bytes, ops := 0, 0, map[wasmgen.Op]int{}
	for n := range programs {
		input := make([]byte, random.IntN(2000))
		if n == 0 {
			input = nil
		}
		for i := range input {
			input[i] = byte(random.Uint32())
		}
		p := wasmgen.Generate(input)
		for _, m := range []*wasmgen.Module{p.Module, p.Env} {
			if m == nil {
				continue
			}
			b, err := m.Encode()
			if err != nil {
				t.Fatalf("program %d: %v", n, err)
			}
			c, err := r.CompileModule(t.Context(), b)
			if err != nil {
				t.Fatalf("program %d: %v", n, err)
			}
			_ = c.Close(t.Context())
			bytes += len(b)
		}
		for _, f := range p.Module.Funcs {
			written += len(f.Body)
			for _, i := range f.Body {
				ops[i.Op]++
			}
		}
	}
	t.Logf("%d programs, %d instructions and %d bytes each", programs, written/programs, bytes/programs)
	for _, o := range wasmgen.Ops() {
		if ops[o.Op] == 0 {
			t.Errorf("%s was never generated", o.Name)
		}
	}
}
