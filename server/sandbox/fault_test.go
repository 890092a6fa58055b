package sandbox_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"math"
	"strings"
	"sync"
	"testing"

	"rapport/profilestore"
	"rapport/sdk/abi"
	"rapport/server/decide"
	"rapport/server/sandbox"
)

// logBuffer is a log that tests read.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *logBuffer) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// exit is an import to end with.
var exit = []function{wasiImport("proc_exit", "i", "")}

// Each thing that a call can do wrong is a fault of its kind, is logged, and is
// without consequence for the next call.
func TestFaults(t *testing.T) {
	for name, c := range map[string]struct {
		guest    guest
		kind     sandbox.FaultKind
		want     string // in the message
		replaced uint64
	}{
		"trap":            {guest{before: unreachable}, sandbox.FaultTrap, "unreachable", 1},
		"out of bounds":   {guest{before: cat(i32(-8), i32load(0), drop)}, sandbox.FaultTrap, "out of bounds memory access", 1},
		"exit":            {guest{imports: exit, before: cat(i32(3), call(0))}, sandbox.FaultExit, "exit status 3", 1},
		"exit with 0":     {guest{imports: exit, before: cat(i32(0), call(0))}, sandbox.FaultExit, "exit status 0", 1},
		"status":          {guest{status: i64(5 | 9<<32)}, sandbox.FaultStatus, "status 5, detail 9", 0},
		"too few":         {guest{status: i64(9 << 32)}, sandbox.FaultCount, "ranked 9 candidates of 10", 0},
		"far too many":    {guest{status: i64(-1 << 32)}, sandbox.FaultCount, "4294967295", 0},
		"NaN":             {guest{score: f64(math.NaN())}, sandbox.FaultScore, "candidate 0 is NaN", 0},
		"infinite":        {guest{after: cat(at(scoreAtField), f64(math.Inf(-1)), f64store(72))}, sandbox.FaultScore, "candidate 9 is -Inf", 0},
		"unscored":        {guest{before: cat(i32(1), set(localI))}, sandbox.FaultScore, "candidate 0 is NaN, or was not given", 0},
		"reason":          {guest{after: cat(at(reasonAtField), i32(3), i32store(4))}, sandbox.FaultReason, "candidate 1 is 3; it declares 2", 0},
		"huge reason":     {guest{after: cat(at(reasonAtField), i32(-1), i32store(36))}, sandbox.FaultReason, "candidate 9 is 4294967295", 0},
		"veto beyond":     {guest{after: cat(at(vetoAtField), i64(1<<10), i64store(0))}, sandbox.FaultVeto, "beyond the 10", 0},
		"chance above 1":  {guest{manifest: chancyManifest, after: cat(at(chanceAtField), f64(math.Nextafter(1, 2)), f64store(72))}, sandbox.FaultProbability, "the probability of candidate 9 is 1.0000000000000002", 0},
		"negative chance": {guest{manifest: chancyManifest, after: cat(at(chanceAtField), f64(-0.5), f64store(0))}, sandbox.FaultProbability, "candidate 0 is -0.5", 0},
		"chance of NaN":   {guest{manifest: chancyManifest, after: cat(at(chanceAtField), f64(math.NaN()), f64store(0))}, sandbox.FaultProbability, "candidate 0 is NaN", 0},
		"behind output":   {guest{after: cat(at(sizeField), i32(0), i32store(0))}, sandbox.FaultOverwrite, "behind its output", 0},
		"end of guard":    {guest{after: cat(at(sizeField), i32(0), i32store(60))}, sandbox.FaultOverwrite, "behind its output", 0},
		"the time":        {guest{after: cat(get(localFrame), i64(0), i64store(nowField))}, sandbox.FaultOverwrite, "the input of the call", 0},
		"the index":       {guest{after: cat(at(60), i32(1), i32store(0))}, sandbox.FaultOverwrite, "the input of the call", 0},
		"the columns":     {guest{after: cat(at(64), f64(2), f64store(72))}, sandbox.FaultOverwrite, "the input of the call", 0},
		"static header":   {guest{after: cat(i32(arenaAt), i32(0), i32store(0))}, sandbox.FaultOverwrite, "the static block", 0},
		"static padding":  {guest{after: cat(i32(arenaAt), i32(1), i32store(124))}, sandbox.FaultOverwrite, "the static block", 0},
	} {
		t.Run(name, func(t *testing.T) {
			log := new(logBuffer)
			r := newRuntime(t, sandbox.Options{Logger: log.logger()})
			s := bind(t, r, c.guest.bytes(), 10, sandbox.PoolOptions{Size: 1})
			for i := range 3 { // the third finds an instance, so the second was kept
				q := simple(10)
				q.Chance = make([]float64, 10)
				err := s.Rank(context.Background(), q)
				fault := new(sandbox.FaultError)
				if !errors.As(err, &fault) || errors.Is(err, decide.ErrBusy) {
					t.Fatalf("call %d: error %v", i, err)
				}
				if fault.Kind != c.kind || !strings.Contains(fault.Message, c.want) || fault.Strategy != "plain 1" {
					t.Fatalf("call %d: %s: %q, want %s and %q", i, fault.Kind, err, c.kind, c.want)
				}
			}
			if got := s.Stats(); got.Calls != 3 || got.Faults != 3 || got.Busy != 0 || got.Replaced < 2*c.replaced || got.Replaced > 3*c.replaced {
				t.Errorf("stats %+v", got)
			}
			if err := s.Close(context.Background()); err != nil {
				t.Fatal(err)
			}
			text := log.String()
			if strings.Count(text, "strategy fault") != 3 || !strings.Contains(text, "kind="+string(c.kind)) || !strings.Contains(text, "strategy=plain version=1 scenario=inbound") {
				t.Errorf("log:\n%s", text)
			}
		})
	}
}

// A good call after a bad one is as if there had been none.
func TestFaultLeavesNothingBehind(t *testing.T) {
	// Traps if the first candidate's propensity is 0, after it wrote to memory.
	bad := cat(count, at(64), f64load(0), f64(0), []byte{0x61, 0x04, 0x40}, unreachable, []byte{0x0b}) // f64.eq, if
	s := bind(t, newRuntime(t, sandbox.Options{}), guest{before: bad, score: counted}.bytes(), 4, sandbox.PoolOptions{Size: 2})
	for i := range 20 {
		q := simple(4)
		if i%3 == 1 {
			q.Propensity[0] = 0
			if err := s.Rank(context.Background(), q); err == nil {
				t.Fatal("no fault")
			}
			continue
		}
		rank(t, s, q)
		if q.Score[0] != 1 {
			t.Fatalf("call %d: the guest counts %v calls", i, q.Score[0])
		}
	}
}

// Growing the memory is no fault, but the instance is not used again.
func TestGrownInstanceIsReplaced(t *testing.T) {
	grow := cat(count, i32(1), memoryGrow, drop)
	size := cat(memorySize, f64convert)
	s := bind(t, newRuntime(t, sandbox.Options{}), guest{before: grow, score: size}.bytes(), 3, sandbox.PoolOptions{Size: 1})
	q := simple(3)
	for i := range 5 {
		rank(t, s, q)
		if q.Score[2] != 5 {
			t.Fatalf("call %d: %v pages", i, q.Score[2])
		}
	}
	if err := s.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	if got := s.Stats(); got.Replaced != 5 || got.Faults != 0 || got.Image != 4*65536 {
		t.Errorf("stats %+v", got)
	}
}

// Memory is bounded: growing beyond the limit fails inside the guest.
func TestMemoryIsBounded(t *testing.T) {
	result := cat(i32(9), memoryGrow, f64convert)
	s := bind(t, newRuntime(t, sandbox.Options{MaxMemoryPages: 12}), guest{score: result}.bytes(), 1, sandbox.PoolOptions{Size: 1})
	q := simple(1)
	rank(t, s, q)
	if q.Score[0] != math.MaxUint32 {
		t.Errorf("memory.grow to 13 pages answers %v", q.Score[0])
	}
}

func TestTextsThatDoNotFitAreAFault(t *testing.T) {
	manifest := strings.Replace(plainManifest, `"profile":[]`, `"profile":[{"name":"general.customer_type","type":"text"}]`, 1)
	s := bind(t, newRuntime(t, sandbox.Options{}), guest{manifest: manifest}.bytes(), 2, sandbox.PoolOptions{Size: 1})
	q := simple(2)
	for _, c := range []struct {
		length int
		fits   bool
	}{{1, true}, {1025, false}, {1024, true}, {1 << 20, false}, {0, true}} {
		q.Profile = profile{slotSegment: profilestore.Text(strings.Repeat("x", c.length))}
		err := s.Rank(context.Background(), q)
		fault := new(sandbox.FaultError)
		if errors.As(err, &fault) == c.fits || !c.fits && fault.Kind != sandbox.FaultInput {
			t.Errorf("a text of %d bytes: %v", c.length, err)
		}
	}
}

// Log lines and output reach the log, so much and no more.
func TestGuestLogs(t *testing.T) {
	line := func(level int32) []byte { return cat(i32(level), i32(manifestAt), i32(20), call(0)) }
	var flood []byte
	for range 40 {
		flood = append(flood, line(abi.LevelWarn)...)
	}
	write := cat(
		i32(scratchAt), i32(manifestAt), i32store(0), i32(scratchAt), i32(9), i32store(4),
		i32(2), i32(scratchAt), i32(1), i32(scratchAt), call(1), drop)
	log := new(logBuffer)
	r := newRuntime(t, sandbox.Options{Logger: log.logger()})
	s := bind(t, r, guest{
		imports: []function{logImport, wasiImport("fd_write", "iiii", "i")},
		before:  cat(line(99), i32(0), i32(-1), i32(4), call(0), flood, write),
	}.bytes(), 1, sandbox.PoolOptions{Size: 1})
	rank(t, s, simple(1))
	if err := s.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	text := log.String()
	for want, times := range map[string]int{
		`level=ERROR msg="{\"abi\":1,\"name\":\"pla" strategy=plain version=1 scenario=inbound from=strategy`: 1,
		`level=WARN msg="{\"abi\":1,\"name\":\"pla"`:                                                          31,
		`more log lines dropped`: 1,
		`lines=9`:                1,
		`output="{\"abi\":1,"`:   1,
	} {
		if got := strings.Count(text, want); got != times {
			t.Errorf("%d times %s, want %d", got, want, times)
		}
	}
	if t.Failed() {
		t.Logf("log:\n%s", text)
	}
}

// A dry run neither suspends a version nor is kept from one that is.
func TestDryCallsDoNotCount(t *testing.T) {
	r, err := sandbox.New(context.Background(), sandbox.Options{Compiler: command(t), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := r.Close(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	s := bind(t, r, guest{before: unreachable}.bytes(), 3, sandbox.PoolOptions{Size: 1})
	call := func(dry bool) error {
		q := simple(3)
		q.Dry = dry
		return s.Rank(context.Background(), q)
	}
	fault := new(sandbox.FaultError)
	for range 30 {
		if err := call(true); !errors.As(err, &fault) {
			t.Fatalf("a dry call: %v", err)
		}
	}
	for range 10 {
		if err := call(false); !errors.As(err, &fault) {
			t.Fatalf("after dry calls: %v", err)
		}
	}
	if err := call(false); !errors.Is(err, decide.ErrSuspended) {
		t.Errorf("the eleventh fault: %v", err)
	}
	if err := call(true); !errors.As(err, &fault) {
		t.Errorf("a dry call of a suspended version: %v", err)
	}
}
