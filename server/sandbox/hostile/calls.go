package hostile

import (
	"fmt"
	"math"
	"strings"

	"rapport/sdk/abi"
	"rapport/server/sandbox"
	"rapport/server/sandbox/wasm"
	"rapport/server/sandbox/wasm/wasmgen"
)

// again runs code without end.
func again(code string) string { return "loop " + code + " br 0 end" }

// loops are attacks that take time.
func loops() []Attack {
	indirect := addressed(0)
	return []Attack{
		spends("endless loop", strategy{before: again("")}),
		spends("endless loop by br_table", strategy{before: "loop i32.const 7 br_table 0 0 0 end"}),
		spends("loop of loops", strategy{before: again("loop local.get 4 i32.const 1 i32.add local.tee 4 i32.const 3 i32.and br_if 0 end")}),
		spends("call tree of 2^28", strategy{before: "i32.const 28 call #0", more: []function{{
			"i:", "",
			"local.get 0 if local.get 0 i32.const 1 i32.sub call #0 local.get 0 i32.const 1 i32.sub call #0 end",
		}}}),
		spends("call tree of 2^28 through a table", strategy{before: "i32.const 28 call #0", more: []function{{
			"i:", "",
			"local.get 0 if " + repeat(2, "local.get 0 i32.const 1 i32.sub i32.const 0 call_indirect i: 0") + "end",
		}}, edit: indirect}),
		{Name: "exponential chain of 681 bytes", Fault: sandbox.FaultFuel, Overshoot: usual, build: func() ([]byte, error) {
			b, err := chain(40)
			for n := 39; err == nil && len(b) > 681-9; n-- {
				b, err = chain(n)
			}
			// A custom section for the rest.
			return append(b, section(0, append([]byte{0}, make([]byte, 681-3-len(b))...))...), err
		}},
	}
}

// chain is a strategy that begins so many functions, each of which calls the next
// one twice.
func chain(n int) ([]byte, error) {
	s := strategy{before: "call #0"}
	for i := range n {
		s.more = append(s.more, function{":", "", repeat(2, fmt.Sprint("call #", i+1))})
	}
	s.more = append(s.more, function{":", "", ""})
	return s.encode()
}

// recursions are attacks that take the stack.
func recursions() []Attack {
	const vectors = 250
	results := ":" + strings.Repeat("v", vectors)
	params := strings.Repeat("v", vectors) + ":i"
	// Keeps 4,000 locals for after the call. What comes after it is behind a
	// condition, or it would be paid for before.
	var writes, sum strings.Builder
	for i := 1; i <= 4000; i++ {
		fmt.Fprintf(&writes, "local.get 0 i32.const %d i32.xor local.set %d ", i, i)
		fmt.Fprintf(&sum, "local.get %d i32.add ", i)
	}
	stack := func(name string, s strategy) Attack { return faults(name, sandbox.FaultStack, s) }
	list := []Attack{
		stack("recursion", strategy{before: "i32.const 0 call #0 drop", more: []function{{"i:i", "", "local.get 0 i32.const 1 i32.add call #0 i32.const 1 i32.add"}}}),
		stack("mutual recursion", strategy{before: "call #0", more: []function{{":", "", "call #1"}, {":", "", "call #2"}, {":", "", "call #0"}}}),
		stack("recursion through a table", strategy{before: "call #0", more: []function{{":", "", "i32.const 0 call_indirect : 0"}}, edit: addressed(0)}),
		stack("recursion into rank", strategy{before: "i32.const 0 call 4 drop"}),
		stack("recursion with 4,000 locals", strategy{before: "i32.const 1 call #0 drop", more: []function{{
			"i:i", strings.Repeat("i", 4000), "local.get 0 if " + writes.String() + " end local.get 0 call #0 local.tee 0 local.get 0 if i:i " + sum.String() + " end",
		}}}),
		stack("recursion with the results of blocks", strategy{before: "i32.const 1 call #0 drop", more: []function{{
			"i:i", "vvv",
			"local.get 0 i32x4.splat local.set 1 " +
				"local.get 0 if " + results + " " + repeat(vectors, "local.get 1") + "else " + repeat(vectors, "local.get 2") + "end " +
				"local.get 0 call #0 if " + results[1:] + ": " + repeat(vectors, "local.set 3 i32.const 64 local.get 3 v128.store") +
				"else " + repeat(vectors, "drop") + "end i32.const 0",
		}}}),
		stack("recursion with many parameters", strategy{before: repeat(vectors, "local.get 8") + "call #0 drop", more: []function{{
			params, "v", repeat(vectors, fmt.Sprint("local.get ", vectors)) + "call #0 local.get 0 i32x4.extract_lane 0 i32.add",
		}}}),
	}
	deep := strategy{before: "i32.const 0 call #0 drop"}
	for i := range 10_000 {
		deep.more = append(deep.more, function{"i:i", strings.Repeat("I", 100), fmt.Sprintf("local.get 0 call #%d local.get 0 i32.add", i+1)})
	}
	deep.more = append(deep.more, function{"i:i", "", "local.get 0"})
	list = append(list, stack("10,000 functions deep", deep))
	return list
}

// memories are attacks that take memory.
func memories() []Attack {
	everything := func(code string) string { return again(fmt.Sprintf(code, memoryEnd)) }
	next := "local.get 4 i32.const 4096 i32.add i32.const 0x1ffffff i32.and local.set 4"
	return []Attack{
		long("memory bomb, by the page", 1, strategy{before: again("i32.const 1 memory.grow drop")}),
		long("memory bomb, at once", 508, strategy{before: "i32.const 508 memory.grow drop"}),
		long("memory bomb that writes", 1, strategy{before: again("i32.const 1 memory.grow i32.const 16 i32.shl local.set 4 loop local.get 4 i32.const 1 i32.store local.get 4 i32.const 4096 i32.add local.tee 4 i32.const 0xffff i32.and br_if 0 end")}),
		long("memory.grow by 4 billion", 1<<32, strategy{before: again("i32.const -1 memory.grow drop")}),
		spends("memory.grow by nothing", strategy{before: again("i32.const 0 memory.grow drop")}),
		lengthy("memory.fill of everything", strategy{before: everything("i32.const 0 i32.const 0 i32.const %d memory.fill")}),
		lengthy("memory.fill of 4 GB", strategy{before: "i32.const 0 i32.const 0 i32.const -1 memory.fill"}),
		lengthy("memory.copy of everything onto itself", strategy{before: again(fmt.Sprintf("i32.const 1 i32.const 0 i32.const %d memory.copy", memoryEnd-1))}),
		spends("memory.copy of nothing", strategy{before: again(repeat(32, "i32.const 1 i32.const 0 i32.const 0 memory.copy"))}),
		lengthy("memory.init of everything", strategy{before: again("i32.const 65536 i32.const 0 i32.const 65536 memory.init 1"), edit: passive}),
		spends("a write to each page of 32 MB", strategy{pages: 512, before: again("local.get 4 i32.const 1 i32.store " + next)}),
		spends("a read of each page of 32 MB", strategy{pages: 512, before: again("local.get 4 i32.load drop " + next)}),
		spends("stores all over 16 MB", strategy{pages: 512, before: again(repeat(32,
			"local.get 4 i32.const 1664525 i32.mul i32.const 1013904223 i32.add local.tee 4 i32.const 0xffffc0 i32.and local.get 6 i64.store offset=0x800000"))}),
		spends("pointers through 16 MB", chase(256)),
		spends("pointers through 1 MB", chase(16)),
	}
}

// long is an attack whose last charge may be for so many pages.
func long(name string, pages int64, s strategy) Attack {
	a := spends(name, s)
	a.Overshoot = pages*wasm.PricePage + usual
	return a
}

// lengthy is one whose last charge may be for the longest length that there is.
func lengthy(name string, s strategy) Attack {
	a := spends(name, s)
	a.Overshoot = 1<<32/wasm.PriceBytes + usual
	return a
}

// chase is a strategy that follows pointers from one cache line of its memory to
// another, so that each load waits for the one before. They go through a power of
// two of pages, behind the first four.
func chase(pages uint32) strategy {
	lines := pages * 1024
	return strategy{
		pages: pages + 4,
		// A linear congruential generator visits all lines.
		initialize: fmt.Sprintf("call #0 i32.const %d i32.store", scratchAt),
		more: []function{{":i", "i", fmt.Sprintf(`
			loop
			  local.get 0  i32.const 6  i32.shl
			  local.get 0  i32.const 1664525  i32.mul  i32.const 1013904223  i32.add  i32.const %d  i32.and  i32.const 6  i32.shl
			  i32.store offset=%d
			  local.get 0  i32.const 1  i32.add  local.tee 0  i32.const %d  i32.lt_u  br_if 0
			end
			i32.const 8`, lines-1, memoryEnd, lines)}},
		before: again("local.get 4 " + repeat(64, fmt.Sprintf("i32.load offset=%d", memoryEnd)) + "local.set 4"),
	}
}

// codes are attacks by code that is dear for what it is charged.
func codes() []Attack {
	var writes, sum, many strings.Builder
	for i := 4; i < 4004; i++ {
		fmt.Fprintf(&writes, "local.get 0 local.set %d ", i-3)
		fmt.Fprintf(&sum, "local.get %d i32.add ", i-3)
	}
	for i := range 64 {
		fmt.Fprintf(&many, "block block local.get 0 i32.const %d i32.rotl i32.const 3 i32.and br_table 0 1 0 1 end local.get 0 i32.const %d i32.add local.set 0 end ", i&31, i)
	}
	scramble := "local.get 4 i32.const 1664525 i32.mul i32.const 1013904223 i32.add local.set 4 "
	straight := spends("a function of 128 KB without a branch", strategy{before: again(repeat(18_000, "local.get 4 i32.const 1 i32.add local.set 4"))})
	straight.Overshoot = 18_000 * 5
	results := ":" + strings.Repeat("I", 250)
	pass := strategy{before: again("call #40 " + repeat(250, "drop")), more: []function{{results, "", repeat(250, "i64.const 5")}}}
	for i := range 40 {
		pass.more = append(pass.more, function{results, "", fmt.Sprint("call #", i)})
	}
	moves := spends("4,000 locals where paths meet", strategy{before: "i32.const 1 call #0 drop", more: []function{{
		"i:i", strings.Repeat("i", 4000),
		"loop local.get 0 i32.eqz if " + writes.String() + "end local.get 0 br_if 0 end local.get 0 " + sum.String(),
	}}})
	table := spends("br_table of 16,000", strategy{before: again(repeat(100, "block "+scramble+"local.get 4 i32.const 18 i32.shr_u br_table "+repeat(160, "0")+"end"))})
	deep := spends("2,000 blocks that end at once", strategy{before: again(repeat(2000, "block") + "br 1999 " + repeat(2000, "end"))})
	return []Attack{
		straight, moves, table, deep,
		spends("250 results that are passed on", pass),
		spends("branches that nobody foresees", strategy{before: "i32.const 1 local.set 4 " + again(scramble+"local.get 4 call #0"), more: []function{{"i:", "", many.String()}}}),
		spends("calls that nobody foresees", strategy{
			before: again(repeat(32, scramble+"local.get 4 i32.const 27 i32.shr_u call_indirect : 0")),
			more:   []function{{":", "", ""}}, edit: addressed(make([]int, 32)...),
		}),
		spends("table.get", strategy{before: again(repeat(64, "i32.const 0 table.get 0 drop")), edit: addressed()}),
		spends("divisions", strategy{before: "i64.const -1 local.set 6 " + again("local.get 6 "+repeat(64, "i64.const 3 i64.div_s i64.const 0x7fffffffffffffff i64.xor")+"local.set 6")}),
		spends("square roots", strategy{before: "f64.const 1.5 local.set 7 " + again("local.get 7 "+repeat(256, "f64.sqrt")+"local.set 7")}),
		spends("denormal numbers", strategy{before: "f64.const 1e-310 local.set 7 " + again("local.get 7 "+repeat(128, "f64.const 0.999 f64.mul f64.const 1.001 f64.mul")+"local.set 7")}),
		spends("multiplications of vectors", strategy{before: "v128.const 3 5 local.set 8 " + again("local.get 8 "+repeat(128, "local.get 8 i64x2.mul")+"local.set 8")}),
		spends("minima of vectors", strategy{before: again("local.get 8 " + repeat(128, "local.get 8 f32x4.min") + "local.set 8")}),
		spends("loads across pages", strategy{before: again("local.get 4 " + repeat(64, "i32.load offset=12285") + "local.set 4")}),
		spends("stores across pages", strategy{before: again(repeat(64, "i32.const 12285 local.get 6 i64.store"))}),
		spends("loads of what was just stored otherwise", strategy{before: again(repeat(64, fmt.Sprintf("i32.const %d local.get 6 i64.store i32.const %d i64.load local.set 6", scratchAt, scratchAt+4)))}),
	}
}

// hosts are attacks by what the host does for the guest.
func hosts() []Attack {
	call := func(name, code string) strategy { return strategy{imports: []string{name}, before: again(code)} }
	// Vectors of fd_write that each are the whole memory, and subscriptions.
	vectors := fmt.Sprintf(`
		loop
		  local.get 4  i32.const %d  i32.store offset=%d
		  local.get 4  i32.const 8  i32.add  local.tee 4  i32.const 8192  i32.lt_u  br_if 0
		end `, memoryEnd, scratchAt+4)
	write := spends("fd_write of everything, 1,024 times", strategy{
		imports: []string{"fd_write"},
		before:  vectors + again(fmt.Sprintf("i32.const 1 i32.const %d i32.const 1024 i32.const 4096 call @fd_write drop", scratchAt)),
	})
	write.Overshoot = 2_000
	random := spends("random_get of everything", call("random_get", fmt.Sprintf("i32.const 0 i32.const %d call @random_get drop", memoryEnd)))
	random.Overshoot = memoryEnd
	little := strings.Replace(manifest, `"reasons"`, `"fuel":{"base":20000},"reasons"`, 1)
	middle := spends("fuel that ends within fd_write", strategy{
		manifest: little, imports: []string{"fd_write"},
		before: vectors + fmt.Sprintf("i32.const 1 i32.const %d i32.const 1024 i32.const 4096 call @fd_write drop", scratchAt),
	})
	middle.Overshoot = 2_000
	return []Attack{
		write, random, middle,
		spends("sched_yield without end", call("sched_yield", "call @sched_yield drop")),
		spends("log lines without end", call(abi.ImportLog, "i32.const 8 i32.const 0 i32.const 1000 call @log")),
		spends("log lines of 1 GB", call(abi.ImportLog, "i32.const -1 i32.const 0 i32.const 0x40000000 call @log")),
		spends("log lines from outside the memory", call(abi.ImportLog, "i32.const 0x7fffffff i32.const -1 i32.const -1 call @log")),
		spends("fd_write with 4 billion vectors", call("fd_write", "i32.const 2 i32.const 0 i32.const -1 i32.const 0 call @fd_write drop")),
		spends("fd_write past the end", call("fd_write", "i32.const 2 i32.const -8 i32.const 1 i32.const -4 call @fd_write drop")),
		spends("poll_oneoff with 64 subscriptions", call("poll_oneoff", "i32.const 8192 i32.const 8192 i32.const 64 i32.const 16384 call @poll_oneoff drop")),
		spends("poll_oneoff with 4 billion subscriptions", call("poll_oneoff", "i32.const 0 i32.const 0 i32.const -1 i32.const 0 call @poll_oneoff drop")),
		spends("poll_oneoff to the end of time", call("poll_oneoff",
			"i32.const 8208 i32.const 1 i32.store i32.const 8192 i64.const 0x7fffffffffffffff i64.store offset=24 "+
				"i32.const 8192 i32.const 16384 i32.const 2 i32.const 8192 call @poll_oneoff drop")),
		spends("args_get with pointers to nowhere", call("args_get", "i32.const -1 i32.const -1 call @args_get drop")),
		spends("environ_sizes_get with pointers to nowhere", call("environ_sizes_get", "i32.const -3 i32.const -1 call @environ_sizes_get drop")),
		spends("clock_time_get with a pointer to nowhere", call("clock_time_get", "i32.const 99 i64.const -1 i32.const -7 call @clock_time_get drop")),
	}
}

// traps are attacks by ends that are not one.
func traps() []Attack {
	says := func(text, code string) strategy {
		return strategy{
			imports: []string{"fd_write"},
			before:  fmt.Sprintf("i32.const 2 i32.const %d i32.const 1 i32.const 4096 call @fd_write drop %s", scratchAt, code),
			edit: func(m *wasmgen.Module) {
				vector := string([]byte{8, scratchAt >> 8, 0, 0, byte(len(text)), 0, 0, 0}) + text
				m.Data = append(m.Data, wasmgen.Data{Offset: wasmgen.Instr{Op: opConst, Imm: []uint64{scratchAt}}, Bytes: []byte(vector)})
			},
		}
	}
	exit := []string{"proc_exit"}
	return []Attack{
		faults("unreachable", sandbox.FaultTrap, strategy{before: "unreachable"}),
		faults("division by zero", sandbox.FaultTrap, strategy{before: "i32.const 1 local.get 4 i32.div_u drop"}),
		faults("division that overflows", sandbox.FaultTrap, strategy{before: "i64.const 0x8000000000000000 i64.const -1 i64.div_s drop"}),
		faults("conversion of NaN", sandbox.FaultTrap, strategy{before: "f64.const NaN i32.trunc_f64_s drop"}),
		faults("load past the end", sandbox.FaultTrap, strategy{before: fmt.Sprintf("i32.const %d i64.load drop", memoryEnd-7)}),
		faults("store at the end of all memory", sandbox.FaultTrap, strategy{before: "i32.const -1 i64.const 1 i64.store offset=0xffffffff"}),
		faults("memory.fill past the end", sandbox.FaultTrap, strategy{before: fmt.Sprintf("i32.const %d i32.const 1 i32.const 2 memory.fill", memoryEnd-1)}),
		faults("call of no function", sandbox.FaultTrap, strategy{before: "i32.const 63 call_indirect : 0", edit: addressed()}),
		faults("call past the end of the table", sandbox.FaultTrap, strategy{before: "i32.const -1 call_indirect : 0", edit: addressed()}),
		faults("call of another type", sandbox.FaultTrap, strategy{before: "i32.const 0 call_indirect : 0", more: []function{{"i:", "", ""}}, edit: addressed(0)}),
		// wazero leaves such elements out, instead of refusing the module.
		faults("call of an element past the end of the table", sandbox.FaultTrap, strategy{before: "i32.const 63 call_indirect : 0", edit: func(m *wasmgen.Module) {
			addressed(-len(own), -len(own))(m)
			m.Elems[0].Offset.Imm = []uint64{63}
		}}),
		faults("trap after everything was written over", sandbox.FaultTrap, strategy{before: fmt.Sprintf("i32.const 0 i32.const 0xa5 i32.const %d memory.fill unreachable", memoryEnd)}),
		faults("exit", sandbox.FaultExit, strategy{imports: exit, before: "i32.const 0 call @proc_exit"}),
		faults("exit that looks like ours", sandbox.FaultExit, strategy{imports: exit, before: "i32.const 0xffffffff call @proc_exit"}),
		faults("exit when all is done", sandbox.FaultExit, strategy{imports: exit, after: "i32.const 0 call @proc_exit"}),
		faults("panic", sandbox.FaultPanic, says("panic: boom\n\ngoroutine 1 [running]:\n", "unreachable")),
		faults("text that is no panic", sandbox.FaultTrap, says("\x1b[2J\xff\xfe\x00 level=ERROR\n", "unreachable")),
		spends("panic that goes on", says("fatal error: never mind\n", again(""))),
	}
}

// outputs are attacks by what a call leaves.
func outputs() []Attack {
	in := func(field int) string {
		return fmt.Sprintf("local.get 1 local.get 1 i32.load offset=%d i32.add", field)
	}
	score := func(x float64) strategy { return strategy{score: fmt.Sprint("f64.const ", x)} }
	over := func(name, code string) Attack {
		return faults("write over "+name, sandbox.FaultOverwrite, strategy{after: code})
	}
	return []Attack{
		faults("NaN score", sandbox.FaultScore, score(math.NaN())),
		faults("infinite score", sandbox.FaultScore, score(math.Inf(1))),
		faults("score that is minus infinite", sandbox.FaultScore, score(math.Inf(-1))),
		faults("the last score is NaN", sandbox.FaultScore, strategy{after: in(80) + " i32.const 8 i32.sub i64.const -1 i64.store"}),
		faults("score left out", sandbox.FaultScore, strategy{before: "i32.const 1 local.set 3"}),
		faults("undeclared reason", sandbox.FaultReason, strategy{after: in(80) + " i32.const 3 i32.store"}),
		faults("undeclared reason, negative", sandbox.FaultReason, strategy{after: in(80) + " i32.const -1 i32.store"}),
		faults("veto beyond the candidates", sandbox.FaultVeto, strategy{after: in(84) + " i64.const 0x8000000000000000 i64.store offset=8"}),
		faults("failure", sandbox.FaultStatus, strategy{status: "i64.const 7"}),
		faults("too many candidates", sandbox.FaultCount, strategy{status: "i64.const -4294967296"}),
		faults("no candidate", sandbox.FaultCount, strategy{status: "i64.const 0"}),
		over("the magic", "local.get 1 i32.const 0 i32.store"),
		over("the size", "local.get 1 i32.const 0 i32.store offset=12"),
		over("the number of candidates", "local.get 1 i32.const 1000000 i32.store offset=16"),
		over("the time", "local.get 1 i64.const 0 i64.store offset=32"),
		over("the seed", "local.get 1 i64.const 0 i64.store offset=40"),
		over("where the scores are", "local.get 1 i32.const 0 i32.store offset=76"),
		over("where the vetoes are", "local.get 1 i32.const -8 i32.store offset=84"),
		over("the presence of the profile", in(48)+" i64.const 1 i64.store"),
		over("the profile", in(52)+" i64.const 1 i64.store"),
		over("the index", in(60)+" i32.const 99 i32.store offset=4"),
		over("a column", in(64)+" f64.const 2 f64.store"),
		over("the guard", "local.get 1 local.get 0 i32.add i32.const 0 i32.store8"),
		over("the end of the guard", "local.get 1 local.get 0 i32.add i32.const 0 i32.store8 offset=63"),
		over("the static block", fmt.Sprintf("i32.const %d i32.const 0 i32.store", arenaAt)),
		over("the padding of the static block", fmt.Sprintf("i32.const %d i32.const 1 i32.store8 offset=79", arenaAt)),
		over("everything", fmt.Sprintf("i32.const %d i32.const 0 i32.const %d memory.fill", arenaAt, memoryEnd-arenaAt)),
	}
}
