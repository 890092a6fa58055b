package sandbox_test

import (
	"fmt"
	"strings"

	"rapport/sdk/abi"
)

// Where the hand-assembled strategy has things.
const (
	manifestAt = 1024
	counterAt  = 4096 // 8 bytes, zero at first
	scratchAt  = 8192
	arenaAt    = 65536
)

// Locals of its rank function: the parameter, the frame's address, the number of
// candidates, a counter.
const (
	localLen = iota
	localFrame
	localN
	localI
)

// Places in the headers that it reads.
const (
	frameAtField    = 60 // of the static block
	candidatesField = 16 // of the frame, as the rest
	nowField        = 32
	scoreAtField    = 76
	reasonAtField   = 80
	vetoAtField     = 84
	chanceAtField   = 88
	sizeField       = 12
)

// guest is a strategy to be assembled: a good one if nothing is set. It scores
// every candidate with its position plus 1.
type guest struct {
	manifest string // with its JSON; empty: a plain one
	span     uint64 // result of describe, if not the manifest's

	before, score, after []byte // code in rank; score leaves an f64
	status               []byte // code that leaves the i64 result, if not OK
	initialize           []byte // code, if it is exported
	configure            []byte // code that leaves the i32 result, if not 0
	arena                []byte // code that leaves the i32 result, if not arenaAt

	imports []function
	pages   uint32 // of memory, if not 4
	edit    func(m *module)
}

const plainManifest = `{"abi":1,"name":"plain","version":"1","description":"","profile":[],"offer":[],"channel":[],` +
	`"candidate":["propensity"],"parameters":[],"reasons":["FIRST","SECOND"]}`

// chancyManifest is a plain one that says probabilities.
var chancyManifest = strings.Replace(plainManifest, `"reasons"`, `"probability":true,"reasons"`, 1)

// or returns the first code that there is.
func or(code, otherwise []byte) []byte {
	if code != nil {
		return code
	}
	return otherwise
}

func (g guest) bytes() []byte {
	manifest := g.manifest
	if manifest == "" {
		manifest = plainManifest
	}
	span := g.span
	if span == 0 {
		span = abi.PackSpan(manifestAt, uint32(len(manifest)))
	}
	score := or(g.score, cat(get(localI), f64convert, f64(1), f64add))
	rank := cat(
		i32(arenaAt), i32load(frameAtField), i32(arenaAt), i32add, set(localFrame),
		get(localFrame), i32load(candidatesField), set(localN),
		g.before,
		forEach(localI, localN, cat(
			get(localFrame), get(localFrame), i32load(scoreAtField), i32add, get(localI), i32(8), i32mul, i32add,
			score, f64store(0))),
		g.after,
		or(g.status, cat(get(localN), i64extend, i64(32), i64shl)),
	)
	m := &module{
		imports: g.imports,
		pages:   max(g.pages, 4),
		data:    map[uint32]string{manifestAt: manifest},
	}
	add := func(name, params, results string, locals int, body []byte) {
		m.exports = append(m.exports, export{name, 0, uint32(len(m.imports) + len(m.funcs))})
		m.funcs = append(m.funcs, function{params: params, results: results, locals: locals, body: body})
	}
	m.exports = append(m.exports, export{abi.ExportMemory, 2, 0})
	add(abi.ExportMarker, "", "", 0, nil)
	add(abi.ExportDescribe, "", "I", 0, i64(int64(span)))
	add(abi.ExportArena, "i", "i", 0, or(g.arena, i32(arenaAt)))
	add(abi.ExportConfigure, "ii", "i", 0, or(g.configure, i32(0)))
	add(abi.ExportRank, "i", "I", 3, rank)
	if g.initialize != nil {
		add(abi.ExportInitialize, "", "", 0, g.initialize)
	}
	if g.edit != nil {
		g.edit(m)
	}
	return m.bytes()
}

// at leaves the address of a part of the output.
func at(field uint32) []byte {
	return cat(get(localFrame), get(localFrame), i32load(field), i32add)
}

// count adds one to the counter in memory.
var count = cat(i32(counterAt), i32(counterAt), i64load(0), i64(1), i64add, i64store(0))

// counted leaves the counter as a score.
var counted = cat(i32(counterAt), i64load(0), f64convertI)

// wasiImport is an import of WASI with its type.
func wasiImport(name, params, results string) function {
	return function{module: abi.ImportWASI, name: name, params: params, results: results}
}

var logImport = function{module: abi.ImportModule, name: abi.ImportLog, params: "iii"}

// without removes an export.
func without(name string) func(*module) {
	return func(m *module) {
		for i, e := range m.exports {
			if e.name == name {
				m.exports = append(m.exports[:i:i], m.exports[i+1:]...)
				return
			}
		}
		panic(fmt.Sprintf("no export %s", name))
	}
}

// retyped gives an export another type and body.
func retyped(name, params, results string, body []byte) func(*module) {
	return func(m *module) {
		for _, e := range m.exports {
			if e.name == name {
				m.funcs[int(e.index)-len(m.imports)] = function{params: params, results: results, body: body}
			}
		}
	}
}
