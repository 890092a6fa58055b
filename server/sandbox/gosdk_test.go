package sandbox_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"rapport/profilestore"
	"rapport/server/catalog"
	"rapport/server/sandbox"
)

// goGuests builds strategies in Go and compiles them, each once in a run of the
// tests.
var goGuests struct {
	sync.Mutex
	dir     string
	log     logBuffer
	runtime *sandbox.Runtime
	wasm    map[string][]byte
	modules map[string]*sandbox.Module
}

// goGuestKey seals what is compiled of them, for other runtimes.
var goGuestKey = []byte("the cache of the Go guests")

// closeGoGuests is for TestMain.
func closeGoGuests() error {
	if goGuests.runtime == nil {
		return nil
	}
	return errors.Join(goGuests.runtime.Close(context.Background()), os.RemoveAll(goGuests.dir))
}

// goGuestFuel is enough for whatever the tests have a Go guest do.
var goGuestFuel = sandbox.Fuel{Base: 1_000_000_000}

// goGuest returns the strategy in a folder, compiled, and its bytes.
func goGuest(t testing.TB, folder string) (*sandbox.Module, []byte) {
	t.Helper()
	g := &goGuests
	g.Lock()
	defer g.Unlock()
	ctx := context.Background()
	if g.runtime == nil {
		var err error
		g.dir, err = os.MkdirTemp("", "rapport-guests-") //nolint:usetesting // it is for all tests, not for the one that is first
		if err != nil {
			t.Fatal(err)
		}
		g.wasm, g.modules = make(map[string][]byte), make(map[string]*sandbox.Module)
		if g.runtime, err = sandbox.New(ctx, withCompiler(t, sandbox.Options{CacheDir: filepath.Join(g.dir, "cache"), CacheKey: goGuestKey, Logger: g.log.logger(), Fuel: goGuestFuel})); err != nil {
			t.Fatal(err)
		}
	}
	if g.modules[folder] == nil {
		out := filepath.Join(g.dir, filepath.Base(folder)+".wasm")
		build := exec.CommandContext(ctx, "go", "build", "-buildmode=c-shared", "-trimpath", "-ldflags=-s -w", "-o", out, ".")
		build.Dir = folder
		build.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm")
		if text, err := build.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		wasm, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		m, err := g.runtime.Compile(ctx, wasm)
		if err != nil {
			t.Fatal(err)
		}
		g.wasm[folder], g.modules[folder] = wasm, m
	}
	return g.modules[folder], g.wasm[folder]
}

const (
	upsell = "../../plugins/upsell"
	tricky = "testdata/tricky"
)

// trickyIn returns the tricky strategy, in a mode.
func trickyIn(t *testing.T, mode, pool int) *sandbox.Strategy {
	t.Helper()
	m, _ := goGuest(t, tricky)
	c, sc := fixture(t, 3)
	sc.Strategy = &catalog.StrategyUse{Name: "tricky", Parameters: map[string]float64{"mode": float64(mode)}}
	s := bindTo(t, m, c, sc, sandbox.PoolOptions{Size: pool})
	t.Cleanup(func() {
		if err := s.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestGoStrategy(t *testing.T) {
	m, wasm := goGuest(t, upsell)
	t.Logf("%d bytes", len(wasm))
	c, sc := fixture(t, 10)
	s := bindTo(t, m, c, sc, sandbox.PoolOptions{Size: 1})
	q := simple(10)
	for i := range q.Candidates {
		q.Propensity[i], q.Value[i], q.Weight[i], q.Lever[i] = 0.5, 8, 1, 1
	}
	q.Profile = profile{
		slotARPU:   profilestore.Number(10),
		slotHeavy:  profilestore.Flag(true),
		slotJoined: profilestore.Time(q.Now - 365*24*3600*1e6),
	}
	rank(t, s, q)
	reasons := s.Info().Reasons
	var got []string
	for i := range q.Candidates {
		got = append(got, fmt.Sprintf("%s %.2f %s %v", c.Offers[i].ID, q.Score[i], reasons[q.Reason[i]], q.Veto[i]))
	}
	// ARPU is 10 and offer i costs 10+i, those for care nothing; every second one
	// is a data offer; the agent's channel costs 1.5.
	want := []string{
		"offer_0 4.98 DATA_FAN false",
		"offer_1 4.50 STEP_UP false",
		"offer_2 7.48 DATA_FAN false",
		"offer_3 4.50 STEP_UP false",
		"offer_4 3.98  false",
		"offer_5 4.50 STEP_UP false",
		"offer_6 4.98 DATA_FAN false",
		"offer_7 2.50  false",
		"offer_8 4.98 DATA_FAN false",
		"offer_9 2.50  false",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}

	q.Profile = profile{slotARPU: profilestore.Number(3), slotSegment: profilestore.Text("private")}
	rank(t, s, q)
	if !q.Veto[9-1] || reasons[q.Reason[8]] != "TOO_DEAR" || q.Veto[9] {
		t.Errorf("for a small spender: vetoes %v, reasons %v", q.Veto, q.Reason)
	}
	if err := s.Close(context.Background()); err != nil {
		t.Error(err)
	}
}

// What a Go guest can see of the world is the frame.
func TestGoGuestSeesNothing(t *testing.T) {
	for _, c := range []struct {
		mode int
		want float64
	}{
		{8, 0},
		{7, 1_772_366_400_000_000 + 0.5},
		{10, -1_772_366_400.0 / 3600},
		{11, 9},
	} {
		s := trickyIn(t, c.mode, 1)
		q := simple(3)
		rank(t, s, q)
		if q.Score[1] != c.want || s.Info().Reasons[q.Reason[1]] != "ODD" {
			t.Errorf("mode %d: %v, want %v", c.mode, q.Score[1], c.want)
		}
	}
}

func TestGoPanicReachesErrorAndLog(t *testing.T) {
	for mode, want := range map[int]struct {
		kind    sandbox.FaultKind
		message string
	}{
		1:  {sandbox.FaultPanic, "panic: runtime error: index out of range [3] with length 0"},
		2:  {sandbox.FaultPanic, "panic: no offers for gold"},
		5:  {sandbox.FaultPanic, "fatal error: out of memory"},
		12: {sandbox.FaultPanic, "fatal error: all goroutines are asleep - deadlock!"},
		13: {sandbox.FaultExit, "exit status 0"},
		14: {sandbox.FaultStack, "its calls are nested too deep"},
	} {
		s := trickyIn(t, mode, 1)
		q := simple(3)
		q.Profile = profile{slotSegment: profilestore.Text("gold")}
		fault := new(sandbox.FaultError)
		if err := s.Rank(context.Background(), q); !errors.As(err, &fault) || fault.Kind != want.kind || !strings.Contains(fault.Message, want.message) {
			t.Errorf("mode %d: %v, want %s with %q", mode, err, want.kind, want.message)
		}
		if err := s.Close(context.Background()); err != nil {
			t.Error(err)
		}
		if !strings.Contains(goGuests.log.String(), "kind="+string(want.kind)+" fault=\""+want.message) {
			t.Errorf("mode %d: the log does not have %q", mode, want.message)
		}
	}
	if text := goGuests.log.String(); !strings.Contains(text, "goroutine 1") {
		t.Error("the log has no stack of a panic")
	}
}

func TestGoGuestTalks(t *testing.T) {
	s := trickyIn(t, 9, 1)
	rank(t, s, simple(3))
	if err := s.Close(context.Background()); err != nil {
		t.Error(err)
	}
	text := goGuests.log.String()
	for _, want := range []string{`output="to standard output\nto standard error\n"`, `level=WARN msg="to the log"`} {
		if !strings.Contains(text, want) {
			t.Errorf("the log does not have %s", want)
		}
	}
}

// A, B, A: what B leaves in variables, maps and slices does not reach A.
func TestGoGuestDoesNotRemember(t *testing.T) {
	s := trickyIn(t, 0, 2)
	want := map[string]float64{"": 1 + 10*2 + 100*1 + 1000 + 10000, "gold": 1 + 10*1 + 100*2 + 1000 + 10000}
	for i := range 30 {
		who := []string{"gold", "", "platinum"}[i%3]
		q := simple(3)
		if who != "" {
			q.Profile = profile{slotSegment: profilestore.Text(who)}
		}
		rank(t, s, q)
		if w, ok := want[who]; ok && q.Score[0] != w || !ok && q.Score[0] != want["gold"] {
			t.Fatalf("call %d, for %q: %v", i, who, q.Score[0])
		}
	}
}

// A Go guest that allocates goes on for ever in the same memory, and one that
// allocates a lot is replaced after each call.
func TestGoGuestAllocatesWithoutGrowing(t *testing.T) {
	many := 10_000
	if underRace {
		many = 100
	}
	for _, c := range []struct {
		mode, calls int
		score       float64
		replaced    uint64
	}{
		{3, many, 64, 0},
		{15, many / 100, 2048, 0},
		{4, 3, 12 << 20, 3},
	} {
		s := trickyIn(t, c.mode, 2)
		q := simple(3)
		for range c.calls {
			rank(t, s, q)
			if q.Score[0] != c.score {
				t.Fatalf("mode %d: score %v", c.mode, q.Score[0])
			}
		}
		if err := s.Close(context.Background()); err != nil {
			t.Error(err)
		}
		if got := s.Stats(); got.Replaced != c.replaced || got.Calls != uint64(c.calls) || got.Faults != 0 {
			t.Errorf("mode %d: stats %+v", c.mode, got)
		}
	}
}
