// Package faulty holds strategies that each fail one requirement of package abitest,
// and a good one: what a check is checked with. They are assembled from text; no
// compiler of a language would make most of them. Only tests import it.
package faulty

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"rapport/sdk/abi"
	"rapport/server/sandbox/wasm/wasmgen"
)

// Where a strategy has things in its memory.
const (
	manifestAt = 1024
	arenaAt    = 65536
	pages      = 64
)

// Of the fields of headers that are used below, by offset.
//
//	static block: 16 candidates, 32 parameters_at, 52 strings_at, 56 strings_size, 60 frame_at
//	frame: 12 size, 16 candidates, 40 seed, 48 presence_at, 52 cells_at, 64 columns_at, 76 score_at, 80 reason_at, 84 veto_at, 88 chance_at

// Locals of rank: 0 the length, 1 the frame, 2 how many candidates, 3 the one at
// hand. Local 4 is for what a strategy does besides.
const rankLocals = "iiii"

// strategy is one to be assembled. What is empty is as in a good one, which scores
// every candidate with its propensity.
type strategy struct {
	manifest string // members, beside abi, name, version and candidate
	columns  string // the list of candidate columns

	before, score, after string // code of rank; score adds to an f64
	configure            string // code that leaves the i32
	log                  bool   // function 0 is the log, and others have numbers one higher
	edit                 func(m *wasmgen.Module)
}

// scoreOf is code that leaves the address of a candidate's score, and what it is.
const scoreOf = `
	local.get 1  local.get 1  i32.load offset=76  i32.add  local.get 3  i32.const 8  i32.mul  i32.add
	local.get 1  local.get 1  i32.load offset=64  i32.add  local.get 3  i32.const 8  i32.mul  i32.add  f64.load`

// rank is the code of rapport_rank.
func (s strategy) rank() string {
	return fmt.Sprintf(`
	i32.const %[1]d  i32.load offset=60  i32.const %[1]d  i32.add  local.set 1
	local.get 1  i32.load offset=16  local.set 2
	%[2]s
	block loop
	  local.get 3  local.get 2  i32.ge_u  br_if 1
	  %[3]s
	  %[4]s
	  f64.store
	  local.get 3  i32.const 1  i32.add  local.set 3
	  br 0
	end end
	%[5]s
	local.get 2  i64.extend_i32_u  i64.const 32  i64.shl`, arenaAt, s.before, scoreOf, s.score, s.after)
}

// assemble returns the module. It panics if the text can't be read: this package's
// own mistake.
func (s strategy) assemble() []byte {
	columns := s.columns
	if columns == "" {
		columns = `"propensity"`
	}
	manifest := fmt.Sprintf(`{"abi":1,"name":"faulty","version":"1","description":"For tests.","candidate":[%s]%s}`, columns, s.manifest)
	m := &wasmgen.Module{
		Memory:  &wasmgen.Memory{Min: pages},
		Exports: []wasmgen.Export{{Name: abi.ExportMemory, Kind: wasmgen.KindMemory}},
		Data:    []wasmgen.Data{{Offset: parse(fmt.Sprintf("i32.const %d", manifestAt))[0], Bytes: []byte(manifest)}},
	}
	if s.log {
		m.Imports = []wasmgen.Import{{Module: abi.ImportModule, Name: abi.ImportLog, Func: "iii:"}}
	}
	configure := s.configure
	if configure == "" {
		configure = "i32.const 0"
	}
	for _, f := range []struct{ name, kind, locals, body string }{
		{abi.ExportMarker, ":", "", ""},
		{abi.ExportDescribe, ":I", "", fmt.Sprintf("i64.const %d", abi.PackSpan(manifestAt, uint32(len(manifest))))},
		{abi.ExportArena, "i:i", "", fmt.Sprintf("i32.const %d", arenaAt)},
		{abi.ExportConfigure, "ii:i", "", configure},
		{abi.ExportRank, "i:I", rankLocals, s.rank()},
	} {
		m.Exports = append(m.Exports, wasmgen.Export{Name: f.name, Kind: wasmgen.KindFunc, Index: uint32(len(m.Imports) + len(m.Funcs))})
		m.Funcs = append(m.Funcs, wasmgen.Func{Type: f.kind, Locals: f.locals, Body: parse(f.body)})
	}
	if s.edit != nil {
		s.edit(m)
	}
	b, err := m.Encode()
	if err != nil {
		panic(err)
	}
	return b
}

func parse(text string) []wasmgen.Instr {
	code, err := wasmgen.Parse(text)
	if err != nil {
		panic(err)
	}
	return code
}

// addFunc adds a function at the end, and returns its index.
func addFunc(m *wasmgen.Module, kind, body string) uint32 {
	m.Funcs = append(m.Funcs, wasmgen.Func{Type: kind, Body: parse(body)})
	return m.Imported(wasmgen.KindFunc) + uint32(len(m.Funcs)) - 1
}

// Good returns a strategy that meets every requirement, without a warning.
func Good() []byte { return strategy{}.assemble() }

// Fault is a module and the one requirement of package abitest that it fails, or is
// warned about.
type Fault struct {
	Requirement string
	Warning     bool
	Wasm        []byte
	Seen        string // a part of what is to be reported
}

// Code that conditions are made of.
const (
	when = " if unreachable end "
	// known leaves whether the profile field 0 is known, and cell its address.
	known = "local.get 1  local.get 1  i32.load offset=48  i32.add  i32.load  i32.const 1  i32.and"
	cell  = "local.get 1  local.get 1  i32.load offset=52  i32.add"
	// bigScenario leaves whether the scenario has more than 500 candidates.
	bigScenario = "i32.const 65536  i32.load offset=16  i32.const 500  i32.gt_u"
	// first leaves the propensity of the first candidate.
	first = "local.get 1  local.get 1  i32.load offset=64  i32.add  f64.load"
	// parameter leaves the first parameter.
	parameter = "i32.const 65536  i32.const 65536  i32.load offset=32  i32.add  f64.load"
	// output leaves the address of a part of the output whose field has this offset.
	output = "local.get 1  local.get 1  i32.load offset=%d  i32.add "
)

// Members of manifests.
const (
	arpu   = `,"profile":[{"name":"value.arpu","type":"number"}]`
	city   = `,"profile":[{"name":"general.city","type":"text"}]`
	kind   = `,"offer":[{"name":"kind","type":"text"}]`
	reach  = `,"parameters":[{"name":"reach","default":1,"min":0,"max":10}]`
	colour = `,"reasons":["RED"]`
	owned  = `,"profile":[{"name":"marketing.owned","type":"set"}]`
	role   = `,"profile":[{"name":"context.role","type":"text"}]`
	says   = `,"probability":true`
)

// Candidate columns of the history. What comes first is the score.
const (
	history  = `"times.rejected.30d"`
	accepted = `"days_since.accepted"`
	contacts = `"propensity","times.contact"`
)

// addLength adds the length of a text or set to a score.
const (
	addLength = cell + " i32.load offset=4 f64.convert_i32_u f64.add"
)

// addArpu adds what is known of the customer to a score.
const addArpu = known + " if :F " + cell + " f64.load else f64.const 0 end f64.add"

// Names returns the names of all faults, in order.
func Names() []string { return slices.Sorted(maps.Keys(faults)) }

// Get returns a fault by its name.
func Get(name string) (Fault, bool) {
	f, ok := faults[name]
	if !ok {
		return Fault{}, false
	}
	return Fault{f.requirement, f.warning, f.make(), f.seen}, true
}

// entry is a fault to be assembled.
type entry struct {
	requirement string
	seen        string
	warning     bool
	make        func() []byte
}

func of(s strategy) func() []byte { return s.assemble }

var faults = map[string]entry{
	"a text file":       {"binary", "malformed", false, func() []byte { return []byte("(module)\n") }},
	"cut short":         {"binary", "malformed", false, func() []byte { b := Good(); return b[:len(b)*2/3] }},
	"too large":         {"binary", "too_large", false, func() []byte { return make([]byte, 17<<20) }},
	"a huge function":   {"binary", "limit", false, of(strategy{before: strings.Repeat("local.get 1 drop ", 50_000)})},
	"of the host's":     {"binary", "reserved", false, of(strategy{edit: func(m *wasmgen.Module) { m.Exports[1].Name = "__rapport_fuel" }})},
	"missing export":    {"interface", "no function rapport_rank", false, of(strategy{edit: func(m *wasmgen.Module) { m.Exports = m.Exports[:5] }})},
	"unknown import":    {"interface", "unknown import env.abort", false, of(strategy{edit: func(m *wasmgen.Module) { m.Imports = []wasmgen.Import{{Module: "env", Name: "abort", Func: ":"}} }})},
	"start section":     {"state", "start section", false, of(strategy{edit: func(m *wasmgen.Module) { m.Start = new(uint32) }})},
	"remembers":         {"state", "table.set", false, of(strategy{before: "i32.const 0  ref.null r  table.set 0", edit: func(m *wasmgen.Module) { m.Tables = []wasmgen.Table{{Type: 'r', Min: 1}} }})},
	"bad manifest":      {"manifest", "profle", false, of(strategy{manifest: `,"profle":[]`})},
	"no such group":     {"manifest", "customer.arpu", false, of(strategy{manifest: `,"profile":[{"name":"customer.arpu","type":"number"}]`})},
	"value as a text":   {"manifest", "offer attribute value", false, of(strategy{manifest: `,"offer":[{"name":"value","type":"text"}]`})},
	"no large start":    {"start", "a scenario of 1000 candidates: rapport_configure answers status 1", false, of(strategy{configure: bigScenario})},
	"no start":          {"start", "status 7", false, of(strategy{configure: "i32.const 7"})},
	"no 64":             {"sizes", "64 of 64 candidates: trap", false, of(strategy{before: "local.get 2  i32.const 64  i32.eq" + when})},
	"miscounts":         {"sizes", "127 of 127 candidates: count", false, of(strategy{after: "local.get 2  i32.const 127  i32.eq  if i32.const 3 local.set 2 end"})},
	"traps":             {"sizes", "1 of 1 candidates: trap", false, of(strategy{before: "unreachable"})},
	"needs the arpu":    {"profiles", "profile field value.arpu is unknown: trap", false, of(strategy{manifest: arpu, before: known + " i32.eqz" + when, score: addArpu})},
	"great arpu":        {"values", "profile field value.arpu is 1e+308: trap", false, of(strategy{manifest: arpu, before: cell + " f64.load f64.const 1e300 f64.gt" + when, score: addArpu})},
	"long city":         {"values", "profile field general.city is a text of 1024 times", false, of(strategy{manifest: city, before: cell + " i32.load offset=4 i32.const 1000 i32.gt_u" + when, score: cell + " i32.load offset=4 f64.convert_i32_u f64.add"})},
	"no long kind":      {"values", "offer attribute kind is a text of 4096 times", false, of(strategy{manifest: kind, before: longKind, score: addKind})},
	"least reach":       {"parameters", "parameter reach at its least, 0: trap", false, of(strategy{manifest: reach, before: parameter + " f64.const 0 f64.eq" + when, score: parameter + " f64.add"})},
	"refuses reach":     {"parameters", "parameter reach at its greatest, 10: rapport_configure answers status 1", false, of(strategy{manifest: reach, configure: parameter + " f64.const 10 f64.eq", score: parameter + " f64.add"})},
	"no chance":         {"columns", "propensity of all candidates is 0: trap", false, of(strategy{before: first + " f64.const 0 f64.eq" + when})},
	"great seeds":       {"random", "random decision", false, of(strategy{before: "local.get 1 i64.load offset=40 i64.const 0 i64.lt_s" + when})},
	"NaN":               {"scores", "the score of candidate 0 is NaN", false, of(strategy{score: "drop f64.const 0 f64.const 0 f64.div"})},
	"divides by arpu":   {"scores", "profile field value.arpu is 0: score: the score of candidate 0 is +Inf", false, of(strategy{manifest: arpu, score: "f64.const 1 " + known + " if :F " + cell + " f64.load else f64.const 1 end f64.div f64.add"})},
	"skips the last":    {"scores", "or was not given", false, of(strategy{before: "local.get 2 i32.const 1 i32.sub local.set 2", after: "local.get 2 i32.const 1 i32.add local.set 2"})},
	"squares the arpu":  {"scores", "profile field value.arpu is 1e+308", true, of(strategy{manifest: arpu, score: known + " if :F " + cell + " f64.load " + cell + " f64.load f64.mul else f64.const 0 end f64.add"})},
	"reason 9":          {"codes", "the reason of candidate", false, of(strategy{after: fmt.Sprintf(output, 80) + "i32.const 9 i32.store"})},
	"vetoes nobody":     {"codes", "beyond the", false, of(strategy{after: "local.get 2 i32.const 63 i32.and if " + fmt.Sprintf(output, 84) + "local.get 2 i32.const 6 i32.shr_u i32.const 8 i32.mul i32.add i64.const -1 i64.store end"})},
	"chance of 2":       {"codes", "the probability of candidate", false, of(strategy{manifest: says, after: fmt.Sprintf(output, 88) + "f64.const 2 f64.store"})},
	"no chance at all":  {"codes", "the probability of candidate", false, of(strategy{manifest: says, after: fmt.Sprintf(output, 88) + "f64.const nan f64.store"})},
	"needs what it has": {"profiles", "profile field marketing.owned is unknown: trap", false, of(strategy{manifest: owned, before: known + " i32.eqz" + when, score: addLength})},
	"a thousand things": {"values", "profile field marketing.owned is a set of 256 texts: trap", false, of(strategy{manifest: owned, before: cell + " i32.load offset=4 i32.const 1000 i32.gt_u" + when, score: addLength})},
	"needs the role":    {"profiles", "profile field context.role is unknown: trap", false, of(strategy{manifest: role, before: known + " i32.eqz" + when, score: addLength})},
	"was never refused": {"columns", "times.rejected.30d of all candidates is 1e+09: trap", false, of(strategy{columns: history, before: first + " f64.const 1000 f64.gt" + when})},
	"never accepted":    {"columns", "days_since.accepted of all candidates is 40000: trap", false, of(strategy{columns: accepted, before: first + " f64.const 1000 f64.gt" + when})},
	"needless past":     {"inputs", "candidate column times.contact", true, of(strategy{columns: contacts})},
	"into the guard":    {"bounds", "behind its output", false, of(strategy{after: fmt.Sprintf(output, 12) + "i32.const 0 i32.store"})},
	"into the block":    {"bounds", "the static block", false, of(strategy{after: "i32.const 65536 i32.const 0 i32.store"})},
	"endless loop":      {"budget", "it used all of its", false, of(strategy{before: "loop br 0 end"})},
	"quadratic":         {"budget", "10000 of 10000 candidates: fuel", false, of(strategy{before: quadratic})},
	"recursion":         {"budget", "nested too deep", false, of(strategy{before: "call 5", edit: func(m *wasmgen.Module) { addFunc(m, ":", "call 5 call 5") }})},
	"near the limit":    {"budget", "% of the fuel that it may use", true, of(strategy{manifest: `,"fuel":{"base":100,"per_candidate":60}`})},
	"grows":             {"memory", "a scenario of 1 candidates: the memory grew", false, of(strategy{before: "i32.const 1 memory.grow drop"})},
	"talks":             {"logs", "1.0 lines a call", true, of(strategy{log: true, before: "i32.const 0 i32.const 1024 i32.const 9 call 0"})},
	"shouts":            {"logs", "33.0 lines a call", true, of(strategy{log: true, before: strings.Repeat("i32.const 8 i32.const 1024 i32.const 1 call 0 ", 40)})},
	"needless reason":   {"reasons", "RED", true, of(strategy{manifest: colour})},
	"needless input":    {"inputs", "profile field value.arpu", true, of(strategy{manifest: arpu})},
	"needless column":   {"inputs", "candidate column value", true, of(strategy{columns: `"propensity","value"`})},
	"needless setting":  {"inputs", "parameter reach", true, of(strategy{manifest: reach})},
	"needless offer":    {"inputs", "offer attribute kind", true, of(strategy{manifest: kind})},
}

// quadratic runs 150 million times through a loop for 10,000 candidates.
const quadratic = `
	local.get 2  local.get 2  i32.mul  local.set 4
	loop  local.get 4  i32.const 1  i32.sub  local.tee 4  br_if 0 end`

// kindOf leaves the address of the cell of the candidate at hand in the first offer
// column.
const kindOf = `
	i32.const 65536  i32.const 65536  i32.load offset=36  i32.add
	local.get 1  local.get 1  i32.load offset=60  i32.add  local.get 3  i32.const 4  i32.mul  i32.add  i32.load
	i32.const 8  i32.mul  i32.add `

// longKind traps if one of the candidates has a long text there, and addKind adds
// the length to the score.
const (
	longKind = `block loop
		local.get 3  local.get 2  i32.ge_u  br_if 1 ` +
		kindOf + ` i32.load offset=4  i32.const 4000  i32.gt_u` + when + `
		local.get 3  i32.const 1  i32.add  local.set 3  br 0
	end end  i32.const 0  local.set 3`
	addKind = kindOf + " i32.load offset=4  f64.convert_i32_u  f64.add"
)
