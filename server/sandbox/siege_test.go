package sandbox_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"rapport/plugins"
	"rapport/server/decide"
	"rapport/server/sandbox"
	"rapport/server/sandbox/hostile"
)

// callback is a log whose writer calls strategies, as often as it may.
type callback struct {
	slog.Handler
	calls *atomic.Int64
	call  *atomic.Pointer[func()]
}

func (c callback) Handle(context.Context, slog.Record) error {
	if f := c.call.Load(); f != nil && c.calls.Add(-1) >= 0 {
		(*f)()
	}
	return nil
}

func (c callback) Enabled(context.Context, slog.Level) bool { return true }

func (c callback) WithAttrs([]slog.Attr) slog.Handler { return c }

// What a strategy logs can't call it again in the middle of its call: it reaches the
// log when the call is over. A log that then calls the same strategy and compiles
// another gets its answer, or if it holds up the last keeper an error by the deadline.
func TestLogThatCallsBack(t *testing.T) {
	const n = 3
	for _, size := range []int{1, 2} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			c := callback{slog.DiscardHandler, new(atomic.Int64), new(atomic.Pointer[func()])}
			r := newRuntime(t, sandbox.Options{Logger: slog.New(c)})
			// It counts its calls in memory, and logs in between.
			s := bind(t, r, guest{
				imports: []function{logImport}, score: counted,
				before: cat(count, i32(0), i32(manifestAt), i32(9), call(0), count),
			}.bytes(), n, sandbox.PoolOptions{Size: size})
			var answered, busy, compiled atomic.Int64
			back := func() {
				q := simple(n)
				q.Deadline = time.Now().Add(50 * time.Millisecond)
				switch err := s.Rank(context.Background(), q); {
				case errors.Is(err, decide.ErrBusy), errors.Is(err, sandbox.ErrClosed):
					busy.Add(1)
				case err != nil:
					t.Error(err)
				default:
					answered.Add(1)
					if q.Score[0] != 2 {
						t.Errorf("called back, the guest counts %v", q.Score[0])
					}
				}
				m, err := r.Compile(context.Background(), guest{}.bytes())
				if err != nil {
					t.Error(err)
					return
				}
				if err := m.Close(context.Background()); err != nil {
					t.Error(err)
				}
				compiled.Add(1)
			}
			c.calls.Store(4)
			c.call.Store(&back)
			for range 5 {
				q := simple(n)
				rank(t, s, q)
				if q.Score[0] != 2 {
					t.Errorf("the guest counts %v", q.Score[0])
				}
			}
			if err := s.Close(context.Background()); err != nil {
				t.Error(err)
			}
			c.call.Store(nil)
			t.Logf("%d answered, %d busy, %d compiled", answered.Load(), busy.Load(), compiled.Load())
			if compiled.Load() == 0 || answered.Load()+busy.Load() == 0 {
				t.Error("the log did not call back")
			}
		})
	}
}

// A hundred callers of hostile strategies and of a good one, while hostile ones are
// closed and bound anew: each gets an answer or an error of its kind, the breakers
// open, and the good one never fails.
func TestSiege(t *testing.T) {
	callers, calls := 100, 40
	if underRace {
		calls = 5
	}
	ctx := context.Background()
	files := openFiles(t)
	r, err := sandbox.New(ctx, sandbox.Options{
		Compiler: command(t),
		Fuel:     sandbox.Fuel{Base: 100_000}, // or the processor is all theirs
	})
	if err != nil {
		t.Fatal(err)
	}
	const n = 20
	c, sc := fixture(t, n)
	good := bindTo(t, compile(t, r, plugins.PVCL()), c, sc, sandbox.PoolOptions{Size: 3})
	want := simple(n)
	rank(t, good, want)

	names := []string{
		"endless loop", "recursion", "memory bomb, by the page", "log lines without end", "unreachable", "exit", "NaN score",
		"write over everything", "panic", "fd_write of everything, 1,024 times",
	}
	var modules []*sandbox.Module
	strategies := make([]atomic.Pointer[sandbox.Strategy], len(names))
	for _, a := range hostile.Corpus() {
		if !slices.Contains(names, a.Name) {
			continue
		}
		wasm, err := a.Wasm()
		if err != nil {
			t.Fatal(err)
		}
		m := compile(t, r, wasm)
		strategies[len(modules)].Store(bindTo(t, m, c, sc, sandbox.PoolOptions{Size: 1 + len(modules)%3}))
		modules = append(modules, m)
	}
	if len(modules) != len(names) {
		t.Fatalf("%d of %d attacks are in the corpus", len(modules), len(names))
	}
	var mu sync.Mutex
	ends := make(map[string]int)
	done := make(chan struct{})
	var siege, swaps sync.WaitGroup
	for i := range callers {
		siege.Go(func() {
			random := rand.New(rand.NewPCG(uint64(i), 4))
			for range calls {
				q := simple(n)
				q.Deadline = time.Now().Add(time.Minute) // nothing depends on it
				err := strategies[random.IntN(len(strategies))].Load().Rank(ctx, q)
				fault := new(sandbox.FaultError)
				end := ""
				switch {
				case errors.As(err, &fault):
					end = string(fault.Kind)
				case errors.Is(err, decide.ErrSuspended):
					end = "suspended"
				case errors.Is(err, sandbox.ErrClosed):
					end = "closed"
				default:
					t.Errorf("an attack ends with %v", err)
				}
				mu.Lock()
				ends[end]++
				mu.Unlock()
				q = simple(n)
				if err := good.Rank(ctx, q); err != nil || !slices.Equal(q.Score, want.Score) {
					t.Errorf("a good strategy: %v", err)
				}
			}
		})
	}
	swaps.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-done:
				return
			default:
			}
			k := i % len(modules)
			s, err := modules[k].Bind(ctx, c, sc, sandbox.PoolOptions{Size: 1 + i%3})
			if err != nil {
				t.Error(err)
				return
			}
			if err := strategies[k].Swap(s).Close(ctx); err != nil {
				t.Error(err)
			}
		}
	})
	siege.Wait()
	close(done)
	swaps.Wait()
	t.Logf("ends: %v", ends)
	open := 0
	for _, m := range modules {
		if state, _ := m.Breaker(); state != sandbox.BreakerClosed {
			open++
		}
	}
	if open != len(modules) && !underRace || ends["suspended"] == 0 && !underRace {
		t.Errorf("%d of %d breakers are open", open, len(modules))
	}
	if got := good.Stats(); got.Faults+got.Replaced+got.Suspended != 0 {
		t.Errorf("the good strategy: %+v", got)
	}
	if err := r.Close(ctx); err != nil {
		t.Error(err)
	}
	if now := openFiles(t); now != files {
		t.Errorf("%d files are open, and %d were before", now, files)
	}
}

// Good modules in which a bit is changed are refused, or fail in calls, or work;
// whatever they are, there is an error of its kind.
func TestMutants(t *testing.T) {
	mutants := 150
	if underRace {
		mutants = 25
	}
	r := newRuntime(t, sandbox.Options{})
	good, err := hostile.Good()
	if err != nil {
		t.Fatal(err)
	}
	remembers, err := os.ReadFile("testdata/remembers/remembers_c.wasm")
	if err != nil {
		t.Fatal(err)
	}
	originals := [][]byte{good, plugins.PVCL(), remembers}
	random := rand.New(rand.NewPCG(8, 8))
	ends := make(map[string]int)
	for i := range mutants {
		b := bytes.Clone(originals[i%len(originals)])
		code := bytes.Index(b, []byte("rapport_rank")) // and what is behind it
		b[code+12+random.IntN(len(b)-code-12)] ^= 1 << random.IntN(8)
		ends[endOf(t, r, b)]++
	}
	t.Logf("ends: %v", ends)
	if got := r.CompilerStats(); got.Crashed+got.Failed != 0 || got.Runs+got.Hits != uint64(mutants) {
		t.Errorf("stats %+v", got)
	}
	if len(ends) < 4 {
		t.Error("they are all alike: this shows nothing")
	}
}

// endOf says how a module ends that may be anything.
func endOf(t *testing.T, r *sandbox.Runtime, wasm []byte) string {
	t.Helper()
	const n = 4
	ctx := context.Background()
	invalid, unfit, fault := new(sandbox.InvalidError), new(sandbox.UnfitError), new(sandbox.FaultError)
	m, err := r.Compile(ctx, wasm)
	if errors.As(err, &invalid) {
		return string(invalid.Reason)
	}
	if err != nil {
		t.Errorf("Compile: %v", err)
		return "other"
	}
	defer func() {
		if err := m.Close(ctx); err != nil {
			t.Error(err)
		}
	}()
	c, sc := fixture(t, n)
	s, err := m.Bind(ctx, c, sc, sandbox.PoolOptions{Size: 1})
	switch {
	case errors.As(err, &invalid):
		return "bind: " + string(invalid.Reason)
	case errors.As(err, &unfit):
		return "bind: unfit"
	case err != nil:
		t.Errorf("Bind: %v", err)
		return "other"
	}
	for range 3 {
		q := simple(n)
		if err = s.Rank(ctx, q); err != nil && !errors.As(err, &fault) {
			t.Errorf("Rank: %v", err)
		}
		if q.FuelUsed > q.FuelLimit {
			t.Errorf("%d units of %d", q.FuelUsed, q.FuelLimit)
		}
	}
	if err != nil {
		return "call: " + string(fault.Kind)
	}
	return "works"
}

// Modules that look for something to depend on before the first call find nothing:
// they are the same in every instance and in every process, so there is nothing to
// refuse.
func TestNothingToDependOn(t *testing.T) {
	const n = 2
	// Its score is made of random bytes, the time, and how often it was described.
	imports := []function{wasiImport("random_get", "ii", "i"), wasiImport("clock_time_get", "iIi", "i")}
	look := cat(i32(scratchAt), i32(64), call(0), drop, i32(0), i64(1), i32(scratchAt+64), call(1), drop, count)
	wasm := guest{
		imports: imports, initialize: look,
		configure: cat(look, i32(0)),
		edit: func(m *module) {
			retyped("rapport_describe", "", "I", cat(look, i64(manifestAt<<32|int64(len(plainManifest)))))(m)
		},
		score: cat(i32(scratchAt), i64load(8), f64convertI, i32(scratchAt), i64load(64), f64convertI, f64add, counted, f64add),
	}.bytes()
	var first []float64
	for range 3 {
		s := bind(t, newRuntime(t, sandbox.Options{}), wasm, n, sandbox.PoolOptions{Size: 2})
		for range 3 {
			q := simple(n)
			rank(t, s, q)
			if first == nil {
				first = q.Score
			}
			if !slices.Equal(q.Score, first) {
				t.Errorf("scores %v, and %v before", q.Score, first)
			}
		}
	}
	if strings.Count(fmt.Sprint(first), "e+") == 0 {
		t.Errorf("scores %v have nothing random", first)
	}
}
