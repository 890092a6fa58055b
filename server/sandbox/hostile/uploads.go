package hostile

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"rapport/sdk/abi"
	"rapport/server/sandbox"
	"rapport/server/sandbox/wasm"
	"rapport/server/sandbox/wasm/wasmgen"
)

// edited is a strategy whose parts are changed.
func edited(edit func(m *wasmgen.Module)) strategy { return strategy{edit: edit} }

// replaced is a strategy whose rank function has bytes, behind code, that no
// assembler writes.
func replaced(code string, by []byte) func() ([]byte, error) {
	return func() ([]byte, error) {
		b, err := strategy{before: code + " v128.const 0x1122334455667788 0x1234567812345678 drop"}.encode()
		if err != nil {
			return nil, err
		}
		marker := []byte{0xfd, 0x0c, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 0x78, 0x56, 0x34, 0x12, 0x78, 0x56, 0x34, 0x12, 0x1a}
		nops := bytes.Repeat([]byte{1}, len(marker)-len(by))
		return bytes.Replace(b, marker, slices.Concat(by, nops), 1), nil
	}
}

// formats are modules that are not what they should be.
func formats() []Attack {
	plain := func(b string) func() ([]byte, error) { return func() ([]byte, error) { return []byte(b), nil } }
	return []Attack{
		bare("nothing", sandbox.ReasonMalformed, plain("")),
		bare("17 MB", sandbox.ReasonTooLarge, plain(strings.Repeat("\x00", 17<<20))),
		bare("component", sandbox.ReasonUnsupported, plain("\x00asm\x0d\x00\x01\x00")),
		bare("section that is longer than the file", sandbox.ReasonMalformed, plain("\x00asm\x01\x00\x00\x00\x01\xff\xff\xff\xff\x0f")),
		bare("an already rewritten module", sandbox.ReasonReserved, func() ([]byte, error) {
			b, err := Good()
			if err != nil {
				return nil, err
			}
			m, err := wasm.Read(b, wasm.DefaultLimits())
			if err != nil {
				return nil, err
			}
			metered, err := m.Meter(wasm.MeterOptions{})
			if err != nil {
				return nil, err
			}
			return metered.Wasm, nil
		}),
		refused("an export that is called as the counter", sandbox.ReasonReserved, edited(func(m *wasmgen.Module) {
			m.Globals = []wasmgen.Global{{Type: 'I', Mutable: true, Init: wasmgen.Instr{Op: 0x42}}}
			m.Exports = append(m.Exports, wasmgen.Export{Name: wasm.FuelExport, Kind: wasmgen.KindGlobal})
		})),
		refused("an import that is called as the counter", sandbox.ReasonReserved, edited(func(m *wasmgen.Module) {
			m.Imports = append(m.Imports, wasmgen.Import{Module: abi.ImportModule, Name: wasm.FuelExport, Kind: wasmgen.KindGlobal, Global: wasmgen.Global{Type: 'I', Mutable: true}})
		})),
		refused("fuel by the index that its counter will have", sandbox.ReasonMalformed, strategy{before: "i64.const 0x7fffffffffffffff global.set 0"}),
		refused("stack by the index that its counter will have", sandbox.ReasonMalformed, strategy{before: "i64.const 0x7fffffffffffffff global.set 1"}),
		refused("fuel read", sandbox.ReasonMalformed, strategy{before: "global.get 0 drop"}),
		refused("fuel behind a global of its own", sandbox.ReasonMalformed, strategy{before: "i64.const 1 global.set 1", edit: func(m *wasmgen.Module) {
			m.Globals = []wasmgen.Global{{Type: 'I', Mutable: true, Init: wasmgen.Instr{Op: 0x42}}}
		}}),
		refused("fuel, the index in five bytes", sandbox.ReasonMalformed, strategy{before: "i64.const 1 global.set 0", edit: func(m *wasmgen.Module) { m.LongForm = true }}),
		bare("fuel, the index in six bytes", sandbox.ReasonMalformed, replaced("i64.const 1", []byte{0x24, 0x80, 0x80, 0x80, 0x80, 0x80})),
		bare("fuel, the index with bits beyond 32", sandbox.ReasonMalformed, replaced("i64.const 1", []byte{0x24, 0x80, 0x80, 0x80, 0x80, 0x70})),
		refused("a local that the rewriter adds", sandbox.ReasonMalformed, strategy{before: "i64.const 1 local.set 9"}),
		bare("SIMD in three bytes", sandbox.ReasonUnsupported, replaced("v128.const 1 2", []byte{0xfd, 0xcd, 0x80, 0x00, 0x1a})), // v128.not
		bare("bulk memory in two bytes", sandbox.ReasonUnsupported, replaced("f32.const 1", []byte{0xfc, 0x80, 0x00, 0x1a})),
		bare("a tail call", sandbox.ReasonUnsupported, replaced("", []byte{0x12, 0x00})),
		bare("an atomic", sandbox.ReasonUnsupported, replaced("", []byte{0xfe, 0x03, 0x00})),
		bare("a throw", sandbox.ReasonUnsupported, replaced("", []byte{0x08, 0x00})),
	}
}

// interfaces are modules that want more of the host than there is.
func interfaces() []Attack {
	imported := func(i wasmgen.Import) strategy {
		return edited(func(m *wasmgen.Module) {
			// All functions are one further then.
			if i.Kind == wasmgen.KindFunc {
				for k := range m.Exports {
					if m.Exports[k].Kind == wasmgen.KindFunc {
						m.Exports[k].Index++
					}
				}
			}
			if i.Kind == wasmgen.KindMemory {
				m.Memory = nil
			}
			m.Imports = append(m.Imports, i)
		})
	}
	without := func(name string) strategy {
		return edited(func(m *wasmgen.Module) {
			m.Exports = slices.DeleteFunc(m.Exports, func(e wasmgen.Export) bool { return e.Name == name })
		})
	}
	instead := func(name string, x wasmgen.Export) strategy {
		return edited(func(m *wasmgen.Module) {
			m.Globals = []wasmgen.Global{{Type: 'i', Init: wasmgen.Instr{Op: opConst}}}
			m.Tables = []wasmgen.Table{{Type: 'r', Min: 1}}
			x.Name = name
			m.Exports = append(slices.DeleteFunc(m.Exports, func(e wasmgen.Export) bool { return e.Name == name }), x)
		})
	}
	list := []Attack{
		refused("import of an unknown module", sandbox.ReasonImport, imported(wasmgen.Import{Module: "env", Name: "system", Func: "i:i"})),
		refused("import of an unknown function", sandbox.ReasonImport, imported(wasmgen.Import{Module: abi.ImportModule, Name: "exec", Func: "ii:i"})),
		refused("import of a later WASI", sandbox.ReasonImport, imported(wasmgen.Import{Module: "wasi:sockets/tcp", Name: "connect", Func: "ii:i"})),
		refused("import with another type", sandbox.ReasonImport, imported(wasmgen.Import{Module: abi.ImportWASI, Name: "random_get", Func: "iI:i"})),
		refused("import of a memory", sandbox.ReasonImport, imported(wasmgen.Import{Module: "env", Name: "memory", Kind: wasmgen.KindMemory, Memory: wasmgen.Memory{Min: 4}})),
		refused("import of a table", sandbox.ReasonImport, imported(wasmgen.Import{Module: "env", Name: "table", Kind: wasmgen.KindTable, Table: wasmgen.Table{Type: 'r', Min: 1}})),
		refused("import of a global", sandbox.ReasonImport, imported(wasmgen.Import{Module: "env", Name: "global", Kind: wasmgen.KindGlobal, Global: wasmgen.Global{Type: 'i'}})),
		refused("an export twice", sandbox.ReasonMalformed, edited(func(m *wasmgen.Module) { m.Exports = append(m.Exports, m.Exports[5]) })),
		refused("an export twice, of two kinds", sandbox.ReasonMalformed, edited(func(m *wasmgen.Module) {
			m.Exports = append(m.Exports, wasmgen.Export{Name: abi.ExportRank, Kind: wasmgen.KindMemory})
		})),
		refused("rank that is a memory", sandbox.ReasonExport, instead(abi.ExportRank, wasmgen.Export{Kind: wasmgen.KindMemory})),
		refused("rank that is a global", sandbox.ReasonExport, instead(abi.ExportRank, wasmgen.Export{Kind: wasmgen.KindGlobal})),
		refused("memory that is a function", sandbox.ReasonExport, instead(abi.ExportMemory, wasmgen.Export{Kind: wasmgen.KindFunc})),
		refused("memory that is a table", sandbox.ReasonExport, instead(abi.ExportMemory, wasmgen.Export{Kind: wasmgen.KindTable})),
		refused("rank of another type", sandbox.ReasonExport, instead(abi.ExportRank, wasmgen.Export{Index: 2})),
		refused("initialize of another type", sandbox.ReasonExport, instead(abi.ExportInitialize, wasmgen.Export{Index: 2})),
		refused("a command", sandbox.ReasonExport, instead("_start", wasmgen.Export{Index: 0})),
		refused("a name of ours", sandbox.ReasonExport, instead("rapport_fuel", wasmgen.Export{Index: 0})),
		refused("a start function that loops", sandbox.ReasonStart, strategy{more: []function{{":", "", "loop br 0 end"}}, edit: func(m *wasmgen.Module) {
			start := uint32(len(own))
			m.Start = &start
		}}),
	}
	for _, name := range append([]string{abi.ExportMemory}, own[:len(own)-1]...) {
		list = append(list, refused("without "+name, sandbox.ReasonExport, without(name)))
	}
	return list
}

// states are modules that could keep something where no restore reaches.
func states() []Attack {
	table := func(code string) strategy {
		return strategy{before: "block " + code + " end", edit: func(m *wasmgen.Module) {
			addressed()(m)
			m.Elems = append(m.Elems, wasmgen.Elem{Mode: wasmgen.Passive, Type: 'r', Items: []wasmgen.Instr{{Op: 0xd0, Type: "r"}}})
			passive(m)
		}}
	}
	global := func(t byte, first wasmgen.Instr) strategy {
		return edited(func(m *wasmgen.Module) { m.Globals = []wasmgen.Global{{Type: t, Mutable: true, Init: first}} })
	}
	return []Attack{
		refused("table.set", sandbox.ReasonState, table("i32.const 0 ref.null r table.set 0")),
		refused("table.grow", sandbox.ReasonState, table("ref.null r i32.const 100000000 table.grow 0 drop")),
		refused("table.grow in code that is never reached", sandbox.ReasonState, table("br 0 ref.null r i32.const 1 table.grow 0 drop")),
		refused("table.fill", sandbox.ReasonState, table("i32.const 0 ref.null r i32.const 64 table.fill 0")),
		refused("table.copy", sandbox.ReasonState, table("i32.const 0 i32.const 1 i32.const 2 table.copy 0 0")),
		refused("table.init", sandbox.ReasonState, table("i32.const 0 i32.const 0 i32.const 1 table.init 1 0")),
		refused("elem.drop", sandbox.ReasonState, table("elem.drop 1")),
		refused("data.drop", sandbox.ReasonState, table("data.drop 1")),
		refused("a mutable vector", sandbox.ReasonState, global('v', wasmgen.Instr{Op: 0xfd0c})),
		refused("a mutable reference to a function", sandbox.ReasonState, global('r', wasmgen.Instr{Op: 0xd0, Type: "r"})),
		refused("a mutable reference", sandbox.ReasonState, global('e', wasmgen.Instr{Op: 0xd0, Type: "e"})),
	}
}

// uploads are modules that fail, or would never end, when they are tried.
func uploads() []Attack {
	loop := "loop br 0 end"
	deep := []function{{":", "", "call #0"}}
	span := func(at, size uint64) string { return fmt.Sprint("i64.const ", at<<32|size) }
	good := span(manifestAt, uint64(len(manifest)))
	list := []Attack{
		refused("manifest of 4 GB", sandbox.ReasonManifest, strategy{describe: "i64.const -1"}),
		refused("manifest past the end", sandbox.ReasonManifest, strategy{describe: span(memoryEnd-8, 9)}),
		refused("manifest behind all memory", sandbox.ReasonManifest, strategy{describe: span(1<<32-1, 1<<16)}),
		refused("manifest of 64 KB that says nothing", sandbox.ReasonManifest, strategy{describe: span(0, 1<<16)}),
		refused("manifest nested deep", sandbox.ReasonManifest, strategy{manifest: strings.Repeat(`{"abi":`, 9000)}),
		refused("manifest with a number that is huge", sandbox.ReasonManifest, strategy{manifest: strings.Replace(manifest, `"abi":1`, `"abi":1e`+strings.Repeat("9", 5000), 1)}),
		refused("manifest with too many inputs", sandbox.ReasonManifest, strategy{manifest: strings.Replace(manifest, `"offer":[]`, `"offer":[`+strings.Repeat(`{"name":"a","type":"text"},`, 2000)+`{"name":"a","type":"text"}]`, 1)}),
		refused("manifest with escapes for the log", sandbox.ReasonManifest, strategy{manifest: strings.Replace(manifest, "hostile", `\u001b[2J\u0000`, 1)}),
		refused("arena at 0", sandbox.ReasonArena, strategy{arena: "i32.const 0"}),
		refused("arena past the end", sandbox.ReasonArena, strategy{arena: fmt.Sprint("i32.const ", memoryEnd)}),
		refused("arena past the end by its guard", sandbox.ReasonArena, strategy{arena: fmt.Sprint("i32.const ", memoryEnd, " local.get 0 i32.const 64 i32.sub i32.sub i32.const -64 i32.and")}),
		refused("arena at 0xffffffc0", sandbox.ReasonArena, strategy{arena: "i32.const 0xffffffc0"}),
		refused("arena that is odd", sandbox.ReasonArena, strategy{arena: fmt.Sprint("i32.const ", arenaAt+8)}),
		refused("configure that fails", sandbox.ReasonInit, strategy{configure: "i32.const 3"}),
		refused("configure that writes into the block", sandbox.ReasonInit, strategy{configure: "local.get 0 i32.const 1 i32.store offset=12 i32.const 0"}),
		refused("configure that grows the memory and fails", sandbox.ReasonInit, strategy{configure: "i32.const 400 memory.grow drop i32.const 9"}),
	}
	phases := []struct {
		name   string
		reason sandbox.Reason
		with   func(s strategy, code string) strategy
	}{
		{"initialize", sandbox.ReasonInit, func(s strategy, code string) strategy { s.initialize = code; return s }},
		{"describe", sandbox.ReasonManifest, func(s strategy, code string) strategy { s.describe = code + " " + good; return s }},
		{"arena", sandbox.ReasonArena, func(s strategy, code string) strategy {
			s.arena = fmt.Sprint(code, " i32.const ", arenaAt)
			return s
		}},
		{"configure", sandbox.ReasonInit, func(s strategy, code string) strategy { s.configure = code + " i32.const 0"; return s }},
	}
	for _, a := range []struct {
		name string
		s    strategy
		code string
	}{
		{"an endless loop", strategy{}, loop},
		{"a deep recursion", strategy{more: deep}, "call #0"},
		{"a trap", strategy{}, "unreachable"},
		{"an exit", strategy{imports: []string{"proc_exit"}}, "i32.const 0 call @proc_exit"},
		{"memory.grow without end", strategy{}, "loop i32.const 1 memory.grow drop br 0 end"},
		{"memory.fill without end", strategy{}, fmt.Sprintf("loop i32.const 0 i32.const 0 i32.const %d memory.fill br 0 end", memoryEnd)},
		{"a flood of log lines", strategy{imports: []string{abi.ImportLog}}, "loop i32.const 8 i32.const 0 i32.const 0x40000000 call @log br 0 end"},
		{"a flood of random bytes", strategy{imports: []string{"random_get"}}, fmt.Sprintf("loop i32.const 0 i32.const %d call @random_get drop br 0 end", memoryEnd)},
	} {
		for _, p := range phases {
			list = append(list, refused(p.name+" with "+a.name, p.reason, p.with(a.s, a.code)))
		}
	}
	return list
}

// binds are modules that are good until they are bound to a scenario.
func binds() []Attack {
	large := func(code string) string {
		return fmt.Sprintf("local.get 0 i32.const 1024 i32.gt_u if %s end i32.const %d", code, arenaAt)
	}
	scenario := func(code string) string { return "local.get 0 i32.load offset=16 if " + code + " end i32.const 0" }
	return []Attack{
		unbound("arena that is too small for the scenario", sandbox.ReasonArena, strategy{arena: large(fmt.Sprintf("i32.const %d return", memoryEnd-1024))}),
		unbound("arena that loops for the scenario", sandbox.ReasonArena, strategy{arena: large("loop br 0 end")}),
		unbound("configure that loops for the scenario", sandbox.ReasonInit, strategy{configure: scenario("loop br 0 end")}),
		unbound("configure that traps for the scenario", sandbox.ReasonInit, strategy{configure: scenario("unreachable")}),
		unbound("configure that exits for the scenario", sandbox.ReasonInit, strategy{imports: []string{"proc_exit"}, configure: scenario("i32.const 0 call @proc_exit")}),
		unbound("configure that writes over the candidates", sandbox.ReasonInit, strategy{configure: scenario("local.get 0 i32.const 1000 i32.store offset=16")}),
	}
}
