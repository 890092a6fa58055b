package sandbox_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"rapport/plugins"
	"rapport/profilestore"
	"rapport/sdk/abi"
	"rapport/server/decide"
	"rapport/server/sandbox"
)

// restores are the kinds of restore that there are on this system.
func restores(t testing.TB) (kinds []sandbox.Restore) {
	t.Helper()
	m := compile(t, newRuntime(t, sandbox.Options{}), guest{}.bytes())
	c, sc := fixture(t, 1)
	for _, k := range []sandbox.Restore{sandbox.RestorePages, sandbox.RestoreCopy, sandbox.RestoreMadvise, sandbox.RestoreFresh} {
		s, err := m.Bind(context.Background(), c, sc, sandbox.PoolOptions{Size: 1, Restore: k})
		if err != nil {
			t.Logf("not here: %v", err)
			continue
		}
		if err := s.Close(context.Background()); err != nil {
			t.Fatal(err)
		}
		kinds = append(kinds, k)
	}
	return kinds
}

// What a wild strategy does in a call: bits of the seed. Those from wildWrites on
// say how many places it writes to, and those from wildPlace on are random.
const (
	wildGrows   = 1 << 0
	wildTraps   = 1 << 1
	wildLogs    = 1 << 2
	wildFails   = 1 << 3 // answers that it failed
	wildWrites  = 8      // 8 bits
	wildPlace   = 16
	wildPages   = 12
	wildFilled  = 4 * 65536 // from here to the end its memory is filled before the image
	wildState   = scratchAt // its generator's, 8 bytes
	wildPattern = 0x5a
)

// wild is a strategy that writes to random places of its memory, wherever they
// are, and to its globals, and does other things that the seed says. Its score is
// made of what it reads from random places and of its globals, so it shows
// whatever an earlier call left.
func wild() []byte {
	next := cat(i32(wildState), // a linear congruential generator's step
		i32(wildState), i64load(0), i64(6364136223846793005), i64mul, i64(1442695040888963407), i64add,
		i64store(0))
	place := cat(i32(wildState), i64load(0), i64(33), i64shrU, i32wrap, i32(wildPages*65536-8), i32remU)
	seed := cat(get(localFrame), i64load(40))
	bit := func(b int64, body []byte) []byte { return cat(seed, i64(b), i64and, i32wrap, when(body)) }
	write := cat(next, place, i32(wildState), i64load(0), i64store(0))
	g := guest{
		manifest: strings.Replace(readingManifest, "reading", "wild", 1),
		pages:    4,
		imports:  []function{logImport},
		// Grown before the image is taken, so that a clone has to be.
		initialize: cat(i32(wildPages-4), memoryGrow, drop,
			i32(wildFilled), i32(wildPattern), i32((wildPages-4)*65536), memoryFill,
			i64(77), setGlobal(1)),
		before: cat(
			i32(wildState), seed, i64store(0),
			bit(wildLogs, cat(i32(0), i32(manifestAt), i32(9), call(0))),
			bit(wildGrows, cat(i32(1), memoryGrow, drop)),
			getGlobal(0), i32(1), i32add, setGlobal(0),
			getGlobal(1), seed, i64add, setGlobal(1),
			seed, i64(wildWrites), i64shrU, i32wrap, i32(255), i32and, set(localN),
			forEach(localI, localN, write),
			i32(0), set(localI),
			bit(wildTraps, unreachable),
			get(localFrame), i32load(candidatesField), set(localN)),
		score: cat(next, place, i32load(0), f64convert, getGlobal(0), f64convert, f64add, getGlobal(1), f64convertI, f64add),
		status: cat(
			bit(wildFails, cat(i64(5), []byte{0x0f})), // return
			get(localN), i64extend, i64(32), i64shl),
		edit: func(m *module) {
			m.globals = [][]byte{
				cat([]byte{0x7f, 1}, i32(3), []byte{0x0b}),
				cat([]byte{0x7e, 1}, i64(0), []byte{0x0b}),
				cat([]byte{0x7c, 1}, f64(0.5), []byte{0x0b}),
				cat([]byte{0x7f, 0}, i32(9), []byte{0x0b}),
			}
		},
	}
	return g.bytes()
}

// wildSeed draws what a wild strategy is to do.
func wildSeed(random *rand.Rand) (seed uint64) {
	seed = random.Uint64() >> wildPlace << wildPlace
	for _, c := range []struct {
		bit  uint64
		rare int
	}{{wildGrows, 50}, {wildTraps, 50}, {wildLogs, 20}, {wildFails, 20}} {
		if random.IntN(c.rare) == 0 {
			seed |= c.bit
		}
	}
	most := 8
	if random.IntN(30) == 0 {
		most = 256
	}
	return seed | uint64(random.IntN(most))<<wildWrites
}

// outcome is what a call answers, as a text to compare.
func outcome(s *sandbox.Strategy, q *decide.Ranking) string {
	err := s.Rank(context.Background(), q)
	fault := new(sandbox.FaultError)
	if errors.As(err, &fault) {
		return fmt.Sprintf("%s %s", fault.Kind, fault.Message)
	}
	bits := make([]uint64, len(q.Score))
	for i, x := range q.Score {
		bits[i] = math.Float64bits(x)
	}
	return fmt.Sprint(err, bits)
}

// After each call of a strategy that does what it likes, its instance is what an
// instance is that has just been initialised, in every byte of its memory and in
// all globals; and each call's answer is that of the same call in a new instance.
func TestRestoreLeavesNothing(t *testing.T) {
	calls := 2000
	if underRace {
		calls = 200
	}
	const n = 5
	r := newRuntime(t, sandbox.Options{})
	m := compile(t, r, wild())
	c, sc := fixture(t, n)
	twin := bindTo(t, m, c, sc, sandbox.PoolOptions{Size: 1, Restore: sandbox.RestoreFresh})
	for _, kind := range restores(t) {
		t.Run(kind.String(), func(t *testing.T) {
			s := bindTo(t, m, c, sc, sandbox.PoolOptions{Size: 1, Restore: kind})
			want, err := s.Initialized()
			if err != nil {
				t.Fatal(err)
			}
			if at := wildFilled + 5; want.Memory[at] != wildPattern || len(want.Memory) != wildPages*65536 || !slices.Equal(want.Globals, []uint64{3, 77, math.Float64bits(0.5)}) {
				t.Fatalf("the image has %d bytes, with %x, and the globals %v", len(want.Memory), want.Memory[at], want.Globals)
			}
			random := rand.New(rand.NewPCG(5, uint64(kind)))
			var growing, trapping, logging, failing, writes int
			faults := make(map[sandbox.FaultKind]int)
			private := int64(0)
			for i := range calls {
				q, again := simple(n), simple(n)
				q.Seed = wildSeed(random)
				again.Seed = q.Seed
				growing += int(q.Seed & wildGrows)
				trapping += int(q.Seed & wildTraps / wildTraps)
				logging += int(q.Seed & wildLogs / wildLogs)
				failing += int(q.Seed & wildFails / wildFails)
				writes += int(q.Seed >> wildWrites & 255)
				got := outcome(s, q)
				if expected := outcome(twin, again); got != expected {
					t.Fatalf("call %d, seed %#x: %s; in a new instance %s", i, q.Seed, got, expected)
				}
				if kind, _, ok := strings.Cut(got, "<nil>"); !ok {
					faults[sandbox.FaultKind(strings.Fields(kind)[0])]++
				}
				s.Peek(func(state sandbox.State) {
					if !state.Equal(want) {
						t.Fatalf("call %d, seed %#x: %s", i, q.Seed, difference(state, want))
					}
				})
				private = max(private, s.Stats().Private)
			}
			stats := s.Stats()
			t.Logf("%d calls: %d grew, %d trapped, %d logged, %d failed, %d places written; faults %v; at most %d private bytes; %+v",
				calls, growing, trapping, logging, failing, writes, faults, private, stats)
			if growing == 0 || trapping == 0 || logging == 0 || failing == 0 {
				t.Error("something never happened")
			}
			restored := stats.RestoredPages + stats.RestoredCopy + stats.RestoredByDrop
			if kind == sandbox.RestoreFresh {
				if stats.Replaced != uint64(calls) || restored != 0 {
					t.Errorf("stats %+v", stats)
				}
				return
			}
			if stats.Grown != uint64(growing) || stats.Faulted == 0 || stats.Replaced != stats.Grown+stats.Faulted || restored != uint64(calls)-stats.Replaced {
				t.Errorf("stats %+v", stats)
			}
			if kind == sandbox.RestorePages && (stats.Rescans == 0 || private == 0) {
				t.Error("no page was ever found to be private")
			}
		})
	}
}

// difference says where two states differ.
func difference(got, want sandbox.State) string {
	if !slices.Equal(got.Globals, want.Globals) {
		return fmt.Sprintf("globals %v, want %v", got.Globals, want.Globals)
	}
	if len(got.Memory) != len(want.Memory) {
		return fmt.Sprintf("%d bytes, want %d", len(got.Memory), len(want.Memory))
	}
	for i := range got.Memory {
		if got.Memory[i] != want.Memory[i] {
			return fmt.Sprintf("byte %d is %#x, want %#x", i, got.Memory[i], want.Memory[i])
		}
	}
	return "nothing differs"
}

// Many goroutines at once, whose profile gives the thread away in the middle of a
// call, so that they move between threads, get the answers of new instances.
func TestRestoreIsForAllThreads(t *testing.T) {
	const n, callers, size = 3, 16, 3
	calls := 300
	if underRace {
		calls = 50
	}
	r := newRuntime(t, sandbox.Options{})
	m := compile(t, r, wild())
	c, sc := fixture(t, n)
	twin := bindTo(t, m, c, sc, sandbox.PoolOptions{Size: 1, Restore: sandbox.RestoreFresh})
	random := rand.New(rand.NewPCG(6, 6))
	seeds, want := make([]uint64, 100), make(map[uint64]string)
	for i := range seeds {
		q := simple(n)
		q.Seed = wildSeed(random)
		seeds[i], want[q.Seed] = q.Seed, outcome(twin, q)
	}
	for _, kind := range restores(t) {
		t.Run(kind.String(), func(t *testing.T) {
			s := bindTo(t, m, c, sc, sandbox.PoolOptions{Size: size, Restore: kind})
			var wg sync.WaitGroup
			var moved sync.Map
			for i := range callers {
				wg.Go(func() {
					random := rand.New(rand.NewPCG(uint64(i), 7))
					last := -1
					for range calls {
						q := simple(n)
						q.Seed = seeds[random.IntN(len(seeds))]
						q.Profile = profileFunc(func(int) profilestore.Value {
							yieldThread()
							if id := threadID(); id != last {
								moved.Store([2]int{i, id}, true)
								last = id
							}
							return profilestore.Unknown()
						})
						if got := outcome(s, q); got != want[q.Seed] {
							t.Errorf("seed %#x: %s; in a new instance %s", q.Seed, got, want[q.Seed])
							return
						}
					}
				})
			}
			wg.Wait()
			pairs := 0
			for range moved.Range {
				pairs++
			}
			image, err := s.Initialized()
			if err != nil {
				t.Fatal(err)
			}
			s.PeekAll(func(state sandbox.State) {
				if !state.Equal(image) {
					t.Error(difference(state, image))
				}
			})
			t.Logf("%d callers were on %d threads together; %+v", callers, pairs, s.Stats())
		})
	}
}

// A clone is what an instance is after it was initialised: the whole pool of the
// strategies that ship, and of the wild one.
func TestCloneIsAsInitialized(t *testing.T) {
	r := newRuntime(t, sandbox.Options{})
	goModule, _ := goGuest(t, upsell)
	for name, m := range map[string]*sandbox.Module{"small": compile(t, r, plugins.PVCL()), "wild": compile(t, r, wild()), "Go": goModule} {
		t.Run(name, func(t *testing.T) {
			for _, kind := range restores(t) {
				c, sc := fixture(t, 20)
				s := bindTo(t, m, c, sc, sandbox.PoolOptions{Size: 3, Restore: kind})
				want, err := s.Initialized()
				if err != nil {
					t.Fatal(err)
				}
				for range 3 {
					s.PeekAll(func(got sandbox.State) {
						if !got.Equal(want) {
							t.Fatalf("%s: %s", kind, difference(got, want))
						}
					})
					for range 20 {
						rank(t, s, simple(20))
					}
				}
				t.Logf("%s: %d bytes, %d globals", kind, len(want.Memory), len(want.Globals))
				if err := s.Close(context.Background()); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// A module is refused if two instances of it differ in anything.
func TestInstancesThatDifferAreRefused(t *testing.T) {
	s := bind(t, newRuntime(t, sandbox.Options{}), wild(), 3, sandbox.PoolOptions{Size: 1})
	for name, c := range map[string]struct {
		edit func(sandbox.State, func(int, uint64))
		ok   bool
	}{
		"nothing":   {func(sandbox.State, func(int, uint64)) {}, true},
		"last byte": {func(s sandbox.State, _ func(int, uint64)) { s.Memory[len(s.Memory)-1]++ }, false},
		"global":    {func(_ sandbox.State, set func(int, uint64)) { set(1, 78) }, false},
	} {
		err := s.TakeImageOf(c.edit)
		bad := new(sandbox.InvalidError)
		if c.ok && err != nil || !c.ok && (!errors.As(err, &bad) || bad.Reason != sandbox.ReasonImage) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A write into the static block is found wherever it is, by every kind of restore.
func TestStaticBlockIsGuarded(t *testing.T) {
	const n = 3000
	manifest := strings.Replace(plainManifest, `"offer":[]`, `"offer":[{"name":"value","type":"number"},{"name":"price","type":"number"}]`, 1)
	c, sc := fixture(t, n)
	for _, kind := range restores(t) {
		for _, at := range []int32{0, 4095, 4096, 12_345, 40_000} {
			g := guest{
				manifest: manifest, pages: 8,
				// Only with the seed 1, so that the pages are settled before.
				before: cat(get(localFrame), i64load(40), i32wrap, when(cat(i32(arenaAt+at), i32(0x77), []byte{0x3a, 0, 0}))), // i32.store8
			}
			s := bindTo(t, compile(t, newRuntime(t, sandbox.Options{}), g.bytes()), c, sc, sandbox.PoolOptions{Size: 1, Restore: kind})
			for i := range 6 {
				q := simple(10)
				q.Seed = uint64(i / 2 % 2)
				err := s.Rank(context.Background(), q)
				fault := new(sandbox.FaultError)
				if q.Seed == 0 && err != nil || q.Seed == 1 && (!errors.As(err, &fault) || fault.Kind != sandbox.FaultOverwrite || !strings.Contains(fault.Message, "static block")) {
					t.Errorf("%s, at %d, seed %d: %v", kind, at, q.Seed, err)
				}
			}
		}
	}
}

// Where the pagemap can't be had, or is not one, images are copied, and the log
// says so once.
func TestWithoutPagemapImagesAreCopied(t *testing.T) {
	if !slices.Contains(restores(t), sandbox.RestorePages) {
		t.Skip("there is no pagemap here anyway")
	}
	zeros := filepath.Join(t.TempDir(), "zeros")
	if err := os.WriteFile(zeros, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{filepath.Join(t.TempDir(), "none"), zeros, "/dev/zero"} {
		log := new(logBuffer)
		r := newRuntime(t, sandbox.WithPagemap(sandbox.Options{Logger: log.logger()}, file))
		m := compile(t, r, guest{before: count, score: counted}.bytes())
		c, sc := fixture(t, 2)
		for range 2 {
			s := bindTo(t, m, c, sc, sandbox.PoolOptions{Size: 1})
			for range 5 {
				q := simple(2)
				rank(t, s, q)
				if q.Score[1] != 1 {
					t.Errorf("%s: the guest counts %v calls", file, q.Score[1])
				}
			}
			s.Peek(func(sandbox.State) {}) // the last restore is done
			if got := s.Stats(); got.Restore != sandbox.RestoreCopy || got.RestoredCopy != 5 {
				t.Errorf("%s: stats %+v", file, got)
			}
		}
		for _, kind := range []sandbox.Restore{sandbox.RestorePages, sandbox.RestoreMadvise} {
			if _, err := m.Bind(context.Background(), c, sc, sandbox.PoolOptions{Restore: kind}); err == nil || !strings.Contains(err.Error(), file) {
				t.Errorf("%s, restore by %s: %v", file, kind, err)
			}
		}
		if got := strings.Count(log.String(), "copying all of it"); got != 1 {
			t.Errorf("%s: logged %d times:\n%s", file, got, log.String())
		}
	}
}

func TestRestoreThatDoesNotExist(t *testing.T) {
	m := compile(t, newRuntime(t, sandbox.Options{}), guest{}.bytes())
	c, sc := fixture(t, 1)
	if _, err := m.Bind(context.Background(), c, sc, sandbox.PoolOptions{Restore: 99}); err == nil || !strings.Contains(err.Error(), "Restore(99)") {
		t.Errorf("error %v", err)
	}
}

// writer writes a word to each of as many pages as its seed says, a page of 4 KiB
// after the other, behind everything else.
func writer() []byte {
	return guest{
		pages: 4 + 32,
		before: cat(
			get(localFrame), i64load(40), i32wrap, set(localN),
			i32(0), set(localLen),
			forEach(localLen, localN, cat(get(localLen), i32(4096), i32mul, i32(4*65536), i32add, i32(1), i32store(0))),
			get(localFrame), i32load(candidatesField), set(localN)),
	}.bytes()
}

// Calls that write a lot once in a while don't make all restores long, and calls
// that always do don't fault their pages in again and again.
func TestUnusedPagesAreDropped(t *testing.T) {
	m := compile(t, newRuntime(t, sandbox.Options{}), writer())
	c, sc := fixture(t, 1)
	for name, test := range map[string]struct {
		pages func(call int) uint64
		drops bool
	}{
		"once":    {func(i int) uint64 { return []uint64{400, 1}[min(i, 1)] }, true},
		"rarely":  {func(i int) uint64 { return []uint64{400, 1, 2}[min(i%50, 2)] }, true},
		"always":  {func(int) uint64 { return 400 }, false},
		"little":  {func(i int) uint64 { return []uint64{20, 1}[min(i, 1)] }, false},
		"by half": {func(i int) uint64 { return []uint64{400, 200}[i%2] }, false},
	} {
		s := bindTo(t, m, c, sc, sandbox.PoolOptions{Size: 1})
		if s.Stats().Restore != sandbox.RestorePages {
			t.Skip("images are copied here")
		}
		want, err := s.Initialized()
		if err != nil {
			t.Fatal(err)
		}
		for i := range 200 {
			q := simple(1)
			q.Seed = test.pages(i)
			rank(t, s, q)
			s.Peek(func(got sandbox.State) {
				if !got.Equal(want) {
					t.Fatalf("%s, call %d: %s", name, i, difference(got, want))
				}
			})
		}
		got := s.Stats()
		t.Logf("%s: %d drops, %d rescans, %d bytes private", name, got.RestoredByDrop, got.Rescans, got.Private)
		if got.RestoredByDrop > 0 != test.drops || name == "once" && got.Private > 5*int64(os.Getpagesize()) {
			t.Errorf("%s: stats %+v", name, got)
		}
	}
}

// Pages that only the host wrote are restored, and pages that were only read are
// not taken for written.
func TestPrivatePagesAreThoseWritten(t *testing.T) {
	const n, pages = 3000, 4 + 32
	read := cat(i32(pages*16), set(localLen), // each page of 4 KiB
		forEach(localI, localLen, cat(get(localI), i32(4096), i32mul, i32load(0), drop)),
		i32(0), set(localI))
	r := newRuntime(t, sandbox.Options{})
	s := bind(t, r, guest{pages: pages, before: read}.bytes(), n, sandbox.PoolOptions{Size: 1})
	if s.Stats().Restore != sandbox.RestorePages {
		t.Skip("images are copied here")
	}
	want, err := s.Initialized()
	if err != nil {
		t.Fatal(err)
	}
	frame := abi.FrameShape{Candidates: n, Columns: 1}.Layout()
	for i := range 5 {
		q := simple(n)
		q.Seed = uint64(i)
		rank(t, s, q)
		s.Peek(func(got sandbox.State) {
			if !got.Equal(want) {
				t.Fatalf("call %d: %s", i, difference(got, want))
			}
		})
		got := s.Stats()
		page := int64(os.Getpagesize())
		if least, most := int64(frame.Size)/page*page, int64(frame.Size)+4*page; got.Private < least || got.Private > most {
			t.Errorf("call %d: %d bytes are private, and the frame has %d; %+v", i, got.Private, frame.Size, got)
		}
	}
}
