package hostile

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"rapport/sdk/abi"
	"rapport/server/sandbox/wasm/wasmgen"
)

// Where a strategy has things.
const (
	manifestAt = 1024
	scratchAt  = 8192
	arenaAt    = 65536
	memoryEnd  = 4 * 65536
)

const manifest = `{"abi":1,"name":"hostile","version":"1","description":"","profile":[{"name":"value.arpu","type":"number"}],` +
	`"offer":[],"channel":[],"candidate":["propensity"],"parameters":[],"reasons":["FIRST","SECOND"]}`

// strategy is a strategy to be assembled: a good one if nothing is set, which
// scores every candidate with its position plus 1. Code is in the language of
// wasmgen.Parse, but that "@fd_write" is the index of an import and "#0" that of the
// first of more.
type strategy struct {
	manifest string // with its JSON
	imports  []string
	more     []function

	initialize string
	describe   string // leaves the i64 result
	arena      string // leaves the i32 result; local 0 is the size that is asked for
	configure  string // leaves the i32 result

	// Code in rank, whose locals are its parameter, the address of the frame, the
	// number of candidates, a counter, and for attacks 4 and 5 (i32), 6 (i64), 7
	// (f64) and 8 (v128).
	before string
	score  string // leaves an f64
	after  string
	status string // leaves the i64 result

	pages uint32 // of memory; 0: 4
	edit  func(m *wasmgen.Module)
}

type function struct{ typ, locals, code string }

// importTypes are the functions that attacks import.
var importTypes = map[string]string{
	abi.ImportLog: "iii:", "args_get": "ii:i", "clock_time_get": "iIi:i", "environ_sizes_get": "ii:i",
	"fd_write": "iiii:i", "poll_oneoff": "iiii:i", "proc_exit": "i:", "random_get": "ii:i", "sched_yield": ":i",
}

// The functions of every strategy, in their order behind the imports.
var own = []string{abi.ExportMarker, abi.ExportDescribe, abi.ExportArena, abi.ExportConfigure, abi.ExportRank, abi.ExportInitialize}

const scores = `
	i32.const 65536  i32.load offset=60  i32.const 65536  i32.add  local.set 1
	local.get 1  i32.load offset=16  local.set 2
	%s
	block loop
	  local.get 3  local.get 2  i32.ge_u  br_if 1
	  local.get 1  local.get 1  i32.load offset=76  i32.add  local.get 3  i32.const 8  i32.mul  i32.add
	  %s
	  f64.store
	  local.get 3  i32.const 1  i32.add  local.set 3  br 0
	end end
	%s
	%s`

// module returns the parts.
func (s strategy) module() (*wasmgen.Module, error) {
	or := func(code, otherwise string) string {
		if code == "" {
			return otherwise
		}
		return code
	}
	text := or(s.manifest, manifest)
	m := &wasmgen.Module{
		Memory: &wasmgen.Memory{Min: max(s.pages, memoryEnd>>16)},
		Data:   []wasmgen.Data{{Offset: wasmgen.Instr{Op: opConst, Imm: []uint64{manifestAt}}, Bytes: []byte(text)}},
	}
	for _, name := range s.imports {
		module := abi.ImportWASI
		if name == abi.ImportLog {
			module = abi.ImportModule
		}
		m.Imports = append(m.Imports, wasmgen.Import{Module: module, Name: name, Func: importTypes[name]})
	}
	list := append([]function{
		{":", "", ""},
		{":I", "", or(s.describe, fmt.Sprint("i64.const ", abi.PackSpan(manifestAt, uint32(len(text)))))},
		{"i:i", "", or(s.arena, fmt.Sprint("i32.const ", arenaAt))},
		{"ii:i", "", or(s.configure, "i32.const 0")},
		{"i:I", "iiiiiIFv", fmt.Sprintf(scores, s.before,
			or(s.score, "local.get 3  f64.convert_i32_u  f64.const 1  f64.add"), s.after,
			or(s.status, "local.get 2  i64.extend_i32_u  i64.const 32  i64.shl"))},
		{":", "", s.initialize},
	}, s.more...)
	m.Exports = []wasmgen.Export{{Name: abi.ExportMemory, Kind: wasmgen.KindMemory}}
	for i, name := range own {
		m.Exports = append(m.Exports, wasmgen.Export{Name: name, Index: uint32(len(s.imports) + i)})
	}
	for _, f := range list {
		code, err := wasmgen.Parse(s.resolve(f.code))
		if err != nil {
			return nil, err
		}
		m.Funcs = append(m.Funcs, wasmgen.Func{Type: f.typ, Locals: f.locals, Body: code})
	}
	if s.edit != nil {
		s.edit(m)
	}
	return m, nil
}

const opConst wasmgen.Op = 0x41 // i32.const

var reference = regexp.MustCompile(`[@#]\w+`)

// resolve replaces the names of functions by their indices.
func (s strategy) resolve(code string) string {
	if !strings.ContainsAny(code, "@#") {
		return code
	}
	return reference.ReplaceAllStringFunc(code, func(name string) string {
		if name[0] == '@' {
			return strconv.Itoa(slices.Index(s.imports, name[1:]))
		}
		n, _ := strconv.Atoi(name[1:])
		return strconv.Itoa(len(s.imports) + len(own) + n)
	})
}

func (s strategy) encode() ([]byte, error) {
	m, err := s.module()
	if err != nil {
		return nil, err
	}
	return m.Encode()
}

// Good returns a strategy that does what it should: the one that attacks are made
// from.
func Good() ([]byte, error) { return strategy{}.encode() }

// addressed puts functions of more into a table.
func addressed(functions ...int) func(m *wasmgen.Module) {
	return func(m *wasmgen.Module) {
		m.Tables = []wasmgen.Table{{Type: 'r', Min: 64}}
		e := wasmgen.Elem{Type: 'r', Offset: wasmgen.Instr{Op: opConst}, Indices: true}
		for _, f := range functions {
			e.Items = append(e.Items, wasmgen.Instr{Op: 0xd2, Imm: []uint64{uint64(m.Imported(wasmgen.KindFunc)) + uint64(len(own)+f)}})
		}
		m.Elems = []wasmgen.Elem{e}
	}
}

// passive puts a data segment that memory.init reads behind the manifest.
func passive(m *wasmgen.Module) {
	m.Data = append(m.Data, wasmgen.Data{Mode: wasmgen.Passive, Bytes: make([]byte, 65536)})
	m.DataCount = true
}
