package sandbox_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"rapport/profilestore"
	"rapport/sdk/abi"
	"rapport/server/catalog"
	"rapport/server/decide"
	"rapport/server/sandbox"
)

// outcomeOf ranks, and returns all that the caller is told, as bytes.
func outcomeOf(t testing.TB, s *sandbox.Strategy, q *decide.Ranking) []byte {
	again := *q
	n := len(q.Candidates)
	again.Score, again.Reason, again.Veto = make([]float64, n), make([]uint32, n), make([]bool, n)
	var b []byte
	if err := s.Rank(context.Background(), &again); err != nil {
		fault := new(sandbox.FaultError)
		if !errors.As(err, &fault) {
			t.Error(err)
		}
		return fmt.Appendf(nil, "%s: %s", fault.Kind, fault.Message)
	}
	b = binary.LittleEndian.AppendUint64(b, uint64(again.FuelUsed))
	for i, x := range again.Score {
		b = binary.LittleEndian.AppendUint64(b, math.Float64bits(x))
		b = binary.LittleEndian.AppendUint32(b, again.Reason[i])
		b = fmt.Append(b, again.Veto[i])
	}
	return b
}

// leaker is a strategy that tries to carry something from call to call.
type leaker struct {
	module     func(t testing.TB) *sandbox.Module
	parameters map[string]float64
	// trap is a call that fails midway, after the strategy has left something
	// behind; nil: there is none.
	trap  *decide.Ranking
	calls []*decide.Ranking
	// wasm is the module, to see that it would remember if it could. nil: that can't
	// be seen outside of the sandbox.
	wasm func(t testing.TB) []byte
}

const leakCandidates = 40

func (l *leaker) bind(t testing.TB, pool int) *sandbox.Strategy {
	t.Helper()
	c, sc := rememberFixture(t, leakCandidates)
	sc.Strategy = &catalog.StrategyUse{Parameters: l.parameters}
	return bindTo(t, l.module(t), c, sc, sandbox.PoolOptions{Size: pool})
}

// alone is the outcome of a call that is the first of its instance.
func (l *leaker) alone(t testing.TB, q *decide.Ranking) []byte {
	t.Helper()
	s := l.bind(t, 1)
	outcome := outcomeOf(t, s, q)
	if err := s.Close(context.Background()); err != nil {
		t.Error(err)
	}
	return outcome
}

// rankings returns rankings of so many candidates each.
func rankings(sizes ...int) (list []*decide.Ranking) {
	random := rand.New(rand.NewPCG(7, 8))
	for _, n := range sizes {
		q := ranking(random, n, leakCandidates)
		slices.Sort(q.Candidates)
		list = append(list, q)
	}
	return list
}

// trapSize is the number of candidates with which the hand-assembled strategies
// trap, after they did all else.
const trapSize = 7

// assembled is a hand-assembled strategy that leaks, and traps when asked to.
func assembled(g guest, more ...section) leaker {
	g.after = cat(g.after, get(localN), i32(trapSize), i32eq, ifThen, unreachable, end)
	wasm := func(testing.TB) []byte { return insert(g.bytes(), more...) }
	return leaker{
		module: func(t testing.TB) *sandbox.Module { return compile(t, newRuntime(t, sandbox.Options{}), wasm(t)) },
		wasm:   wasm,
		trap:   rankings(trapSize)[0],
		calls:  rankings(1, leakCandidates, 3),
	}
}

// Instructions that other tests do not need.
var (
	i32eq     = []byte{0x46}
	ifThen    = []byte{0x04, 0x40}
	end       = []byte{0x0b}
	f32add    = []byte{0x92}
	f64fromF4 = []byte{0xbb} // promote
)

func globalGet(g uint64) []byte { return cat([]byte{0x23}, uleb(g)) }
func globalSet(g uint64) []byte { return cat([]byte{0x24}, uleb(g)) }

// section is a part of a module that the assembler does not make.
type section struct {
	id    byte
	items [][]byte
}

// insert puts sections where they belong in a module that has none of them.
func insert(wasm []byte, sections ...section) []byte {
	out := slices.Clone(wasm[:8])
	add := func(s section) {
		content := uleb(uint64(len(s.items)))
		for _, item := range s.items {
			content = append(content, item...)
		}
		out = cat(out, []byte{s.id}, sized(content))
	}
	for b := wasm[8:]; len(b) > 0; {
		for len(sections) > 0 && sections[0].id < b[0] {
			add(sections[0])
			sections = sections[1:]
		}
		size, n := binary.Uvarint(b[1:])
		whole := 1 + n + int(size)
		out, b = append(out, b[:whole]...), b[whole:]
	}
	return out
}

// fourGlobals are a mutable global of each type that a restore has to know.
var fourGlobals = section{6, [][]byte{
	cat([]byte{0x7f, 1}, i32(5), end),
	cat([]byte{0x7e, 1}, i64(6), end),
	{0x7d, 1, 0x43, 0, 0, 0xe0, 0x40, 0x0b}, // f32 7
	cat([]byte{0x7c, 1}, f64(8), end),
}}

// bumpGlobals adds one to each of them, and sumGlobals leaves their sum.
var (
	f32one      = []byte{0x43, 0, 0, 0x80, 0x3f}
	bumpGlobals = cat(
		globalGet(0), i32(1), i32add, globalSet(0), globalGet(1), i64(1), i64add, globalSet(1),
		globalGet(2), f32one, f32add, globalSet(2), globalGet(3), f64(1), f64add, globalSet(3))
	sumGlobals = cat(
		globalGet(0), f64convert, globalGet(1), f64convertI, f64add,
		globalGet(2), f64fromF4, f64add, globalGet(3), f64add)
)

// customers are calls for strategies that read profiles, the last of somebody of
// whom nothing is known, and one that makes them trap.
func customers() (calls []*decide.Ranking, trap *decide.Ranking) {
	calls = rankings(3, leakCandidates, 1)
	for i, q := range calls {
		if i < 2 {
			q.Profile = profile{
				slotARPU: numberOf(10 + 5*float64(i)), slotHeavy: profilestore.Flag(i%2 == 0),
				slotSegment: textOf([]string{"gold", "a-b-c-d"}[i]), slotJoined: timeOf(q.Now - 1e15),
			}
		}
	}
	trap = rankings(25)[0]
	trap.Profile = profile{slotSegment: textOf("trap")}
	return calls, trap
}

func ofFile(path string, parameters map[string]float64) leaker {
	wasm := func(t testing.TB) []byte { return committed(t, path) }
	calls, trap := customers()
	return leaker{
		module: func(t testing.TB) *sandbox.Module { return compile(t, newRuntime(t, sandbox.Options{}), wasm(t)) },
		wasm:   wasm, parameters: parameters, calls: calls, trap: trap,
	}
}

func ofTricky(mode float64) leaker {
	calls, trap := customers()
	return leaker{
		module: func(t testing.TB) *sandbox.Module {
			m, _ := goGuest(t, tricky)
			return m
		},
		wasm: func(t testing.TB) []byte {
			_, wasm := goGuest(t, tricky)
			return wasm
		},
		parameters: map[string]float64{"mode": mode}, calls: calls, trap: trap,
	}
}

// unseen returns the leaker, without the check that it would leak.
func (l leaker) unseen() leaker {
	l.wasm = nil
	return l
}

// leakers are all strategies that try.
func leakers() map[string]leaker {
	const last = 4<<16 - 8 // of memory
	random := []function{wasiImport("random_get", "ii", "i")}
	clock := []function{wasiImport("clock_time_get", "iIi", "i"), wasiImport("poll_oneoff", "iiii", "i")}
	behind := cat(get(localFrame), get(localFrame), i32load(sizeField), i32add)
	leaks := map[string]leaker{
		"memory": assembled(guest{before: count, score: counted}),
		"the last bytes of memory": assembled(guest{
			before: cat(i32(last), i32(last), i64load(0), i64(1), i64add, i64store(0)),
			score:  cat(i32(last), i64load(0), f64convertI),
		}),
		"its constants": assembled(guest{
			before: cat(i32(manifestAt), i32(manifestAt), i32load(0), i32(1), i32add, i32store(0)),
			score:  cat(i32(manifestAt), i32load(0), f64convert),
		}),
		"the arena behind its frame": assembled(guest{score: cat(behind, i64load(abi.GuardSize), f64convertI)}),
		"the static block": assembled(guest{
			before: cat(get(localN), i32(leakCandidates), i32eq, ifThen, i32(arenaAt), i64(99), i64store(68), end),
			score:  cat(i32(arenaAt), i64load(68), f64convertI),
		}),
		"grown memory": assembled(guest{
			before: cat(i32(1), memoryGrow, drop),
			score:  cat(memorySize, f64convert),
		}),
		"random numbers": assembled(guest{
			imports: random,
			before:  cat(i32(scratchAt), get(localN), i32(8), i32mul, call(0), drop),
			score:   cat(i32(scratchAt), i64load(0), f64convertI),
		}).unseen(),
		"the monotonic clock": assembled(guest{
			imports: clock,
			// A subscription of zeros but for its clock and timeout.
			before: cat(
				i32(scratchAt), i32(1), i32store(16), i32(scratchAt), i64(1000), i64store(24),
				i32(scratchAt), i32(scratchAt+64), i32(1), i32(scratchAt+128), call(1), drop,
				i32(1), i64(0), i32(counterAt), call0Clock),
			score: counted,
		}).unseen(),
		"globals":          assembled(guest{before: bumpGlobals, score: sumGlobals}, fourGlobals),
		"exported globals": assembled(guest{before: bumpGlobals, score: sumGlobals, edit: exportGlobals}, fourGlobals),

		"C":                           ofFile(rememberC, nil),
		"AssemblyScript":              ofFile(rememberAS, nil),
		"AssemblyScript with globals": ofFile(rememberAS, map[string]float64{"globals": 1}),
		"Go":                          ofTricky(22),
		"Go that collects garbage":    ofTricky(10).unseen(),
		"Go with a deep stack":        ofTricky(17).unseen(),
	}
	return leaks
}

var call0Clock = cat(call(0), drop)

func exportGlobals(m *module) {
	for i := range fourGlobals.items {
		m.exports = append(m.exports, export{fmt.Sprint("state", i), 3, uint32(i)})
	}
}

// A, B, A: whatever came before, a call is answered as the first of its instance
// is.
func TestStateNeverLeaks(t *testing.T) {
	for name, l := range leakers() {
		t.Run(name, func(t *testing.T) {
			if l.wasm != nil && !(underRace && len(l.wasm(t)) > 1<<20) && !remembers(t, l.wasm(t), l.parameters) {
				t.Error("it remembers nothing where nothing is restored: this shows nothing")
			}
			calls := slices.Clone(l.calls)
			if l.trap != nil {
				calls = append(calls, l.trap)
			}
			var want [][]byte
			for _, q := range calls {
				want = append(want, l.alone(t, q))
			}
			if len(calls) > 1 && slices.EqualFunc(want[:1], want[1:2], slices.Equal) {
				t.Error("the first two calls have the same outcome: this shows nothing")
			}
			s := l.bind(t, 1)
			for i, k := range order(len(calls)) {
				if got := outcomeOf(t, s, calls[k]); !slices.Equal(got, want[k]) {
					t.Fatalf("step %d, call %d: %x, and %x alone", i, k, got, want[k])
				}
			}
			if err := s.Close(context.Background()); err != nil {
				t.Error(err)
			}
			t.Logf("stats %+v", s.Stats())
		})
	}
}

// order is a walk through n calls in which each comes before and after each,
// itself included.
func order(n int) (walk []int) {
	for a := range n {
		for b := range n {
			walk = append(walk, a, b, a)
		}
	}
	return walk
}

// remembers reports whether a module answers a call in another way after others
// if nothing is restored.
func remembers(t *testing.T, wasm []byte, set map[string]float64) bool {
	t.Helper()
	b := newBare(t, wasm)(set)
	first := b.call(1)
	b.call(leakCandidates)
	return b.call(1) != first
}

// A hundred callers share few instances, some of which trap, and each gets the
// answer that it would get alone.
func TestStateNeverLeaksBetweenCallers(t *testing.T) {
	const callers = 100
	guests := leakers()
	for _, c := range []struct {
		name        string
		calls, race int // of each caller
	}{
		{"memory", 100, 20},
		{"globals", 100, 20},
		{"C", 100, 20},
		{"AssemblyScript", 100, 20},
		{"Go", 10, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := guests[c.name]
			each := c.calls
			if underRace {
				each = c.race
			}
			calls := append(slices.Clone(l.calls), l.trap)
			var want [][]byte
			for _, q := range calls {
				want = append(want, l.alone(t, q))
			}
			s := l.bind(t, 3)
			var wg sync.WaitGroup
			var traps atomic.Uint64
			for i := range callers {
				wg.Go(func() {
					random := rand.New(rand.NewPCG(uint64(i), 9))
					for range each {
						k := random.IntN(len(calls))
						if k == len(calls)-1 {
							if random.IntN(4) > 0 { // a trap costs an instance
								k = 0
							} else {
								traps.Add(1)
							}
						}
						if got := outcomeOf(t, s, calls[k]); !slices.Equal(got, want[k]) {
							t.Errorf("call %d: %x, and %x alone", k, got, want[k])
							return
						}
					}
				})
			}
			wg.Wait()
			if err := s.Close(context.Background()); err != nil {
				t.Error(err)
			}
			got := s.Stats()
			t.Logf("stats %+v", got)
			if got.Faults != traps.Load() || traps.Load() == 0 || got.Calls != callers*uint64(each) {
				t.Errorf("%d traps, stats %+v", traps.Load(), got)
			}
		})
	}
}

// A call that is out of fuel leaves nothing, wherever it was.
func TestExhaustedFuelLeavesNothing(t *testing.T) {
	// It counts as long as it can if there are as many candidates as make others
	// trap: half of its calls end in the middle of it.
	endless := assembled(guest{
		before: cat(get(localN), i32(trapSize), i32eq, ifThen, []byte{0x03, 0x40}, count, []byte{0x0c, 0}, end, end),
		score:  counted,
	})
	s := endless.bind(t, 1)
	first := endless.alone(t, endless.calls[0])
	for range 20 {
		q := *endless.trap
		fault := new(sandbox.FaultError)
		if err := s.Rank(context.Background(), &q); !errors.As(err, &fault) || fault.Kind != sandbox.FaultFuel {
			t.Fatalf("a call without end: %v", err)
		}
		if got := outcomeOf(t, s, endless.calls[0]); !slices.Equal(got, first) {
			t.Fatalf("after it: %x, and %x alone", got, first)
		}
	}
}

// What a restore could not undo is refused.
func TestTablesCanNotLeak(t *testing.T) {
	table := section{4, [][]byte{{0x70, 0, 2}}} // of two functions
	refNull := []byte{0xd0, 0x70}
	for name, code := range map[string][]byte{
		"table.set":  cat(i32(0), refNull, []byte{0x26, 0}),
		"table.grow": cat(refNull, i32(1), []byte{0xfc, 15, 0}, drop),
		"table.fill": cat(i32(0), refNull, i32(1), []byte{0xfc, 17, 0}),
		"table.copy": cat(i32(0), i32(0), i32(1), []byte{0xfc, 14, 0, 0}),
	} {
		t.Run(name, func(t *testing.T) {
			wasm := insert(guest{before: code}.bytes(), table)
			invalid := new(sandbox.InvalidError)
			if _, err := newRuntime(t, sandbox.Options{}).Compile(context.Background(), wasm); !errors.As(err, &invalid) {
				t.Errorf("%v", err)
			}
		})
	}
}
