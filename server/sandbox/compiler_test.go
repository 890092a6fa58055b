package sandbox_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"rapport/plugins"
	"rapport/server/sandbox"
)

// heavy returns a good strategy with so many more functions that are dear to
// compile: each has locals that are set in one of many blocks, and read in another.
func heavy(functions, locals, blocks int) []byte {
	var body []byte
	for i := range blocks {
		body = append(body, cat(get(uint32(i%locals)), []byte{0x04, 0x40}, // if
			get(uint32((i*7+1)%locals)), i32(int32(i)), i32add, set(uint32((i*13+5)%locals)), []byte{0x0b})...)
	}
	return guest{edit: func(m *module) {
		for range functions {
			m.funcs = append(m.funcs, function{locals: locals, body: body})
		}
	}}.bytes()
}

// invalidWith checks that an error is a module's fault, for a reason.
func invalidWith(t *testing.T, err error, reason sandbox.Reason, want string) {
	t.Helper()
	bad := new(sandbox.InvalidError)
	if !errors.As(err, &bad) || bad.Reason != reason || !strings.Contains(bad.Message, want) {
		t.Errorf("error %v, want %s with %q", err, reason, want)
	}
}

// notTheModule checks that an error is not a module's fault.
func notTheModule(t *testing.T, err error, want string) {
	t.Helper()
	bad := new(sandbox.InvalidError)
	if err == nil || errors.As(err, &bad) || !strings.Contains(err.Error(), want) {
		t.Errorf("error %v, want one with %q that does not blame the module", err, want)
	}
}

// A bomb kills the process that compiles it, whichever limit it meets, and the
// server neither grows nor stops.
func TestBombsKillTheCompilerOnly(t *testing.T) {
	for name, c := range map[string]struct {
		wasm   []byte
		limits sandbox.CompilerLimits
		reason sandbox.Reason
		want   string
		count  func(sandbox.CompilerStats) uint64
	}{
		"memory": {
			heavy(1, 2000, 4000),
			sandbox.CompilerLimits{Data: 192 << 20},
			sandbox.ReasonCompileMemory, "192 MiB", func(s sandbox.CompilerStats) uint64 { return s.Memory },
		},
		"processor time": {
			heavy(8000, 50, 50),
			sandbox.CompilerLimits{CPU: time.Second},
			sandbox.ReasonCompileTime, "1s of processor time", func(s sandbox.CompilerStats) uint64 { return s.CPU },
		},
		"time": {
			heavy(8000, 50, 50),
			sandbox.CompilerLimits{Wall: 100 * time.Millisecond},
			sandbox.ReasonCompileTime, "after 100ms", func(s sandbox.CompilerStats) uint64 { return s.Wall },
		},
		"length of the code": {
			heavy(200, 50, 50),
			sandbox.CompilerLimits{File: 200_000},
			sandbox.ReasonCompileSize, "longer than", func(s sandbox.CompilerStats) uint64 { return s.Refused },
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			r := newRuntime(t, sandbox.Options{CompilerLimits: c.limits, CacheDir: dir})
			begin := residentMemory(t, true)
			for range 2 { // what failed is not remembered
				_, err := r.Compile(context.Background(), c.wasm)
				invalidWith(t, err, c.reason, c.want)
			}
			if end := residentMemory(t, false); end > begin+32<<20 {
				t.Errorf("the server had %d MB, and up to %d MB meanwhile", begin>>20, end>>20)
			}
			if got := r.CompilerStats(); c.count(got) != 2 || got.Runs != 2 || got.Crashed != 0 || got.Failed != 0 {
				t.Errorf("stats %+v", got)
			}
			onlyEntries(t, dir, 0)
			if c.limits.Wall == 0 {
				// One that takes no time to speak of: a second is little for a real one where others compute too.
				compile(t, r, guest{}.bytes())
				onlyEntries(t, dir, 1)
			}
		})
	}
}

// onlyEntries checks that there are so many entries in a cache folder, and nothing
// else but the lock.
func onlyEntries(t *testing.T, dir string, want int) {
	t.Helper()
	names, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, name := range names {
		switch {
		case len(name.Name()) == 64:
			n++
		case name.Name() != "LOCK":
			t.Errorf("%s is left in the cache folder", name.Name())
		}
	}
	if n != want {
		t.Errorf("%d entries in the cache folder, want %d", n, want)
	}
}

// What is wrong with a process that does not do what it should is told, and only
// what a module can bring about is taken for its fault.
func TestCompilersThatGoWrong(t *testing.T) {
	dir := t.TempDir()
	nothing := filepath.Join(dir, "nothing")
	folder := []string{dir}
	for name, c := range map[string]struct {
		command []string
		reason  sandbox.Reason // of the module; empty: it is not its fault
		want    string
	}{
		"missing":            {[]string{nothing}, "", "no such file"},
		"a folder":           {folder, "", "can't be started"},
		"another program":    {[]string{"/bin/sh", "-c", "echo what >&2; exit 7"}, "", `exit status 7, and said "what"`},
		"a test binary":      {append(child(t, "", "")[:1], "-no-such-flag"), "", "flag provided but not defined: -no-such-flag"},
		"silent":             {child(t, "silent", nothing), "", "no compiler of strategies"},
		"mute":               {child(t, "mute", nothing), "", "can't be read"},
		"garbage":            {child(t, "garbage", nothing), "", "can't be read"},
		"empty":              {child(t, "empty", nothing), "", "compiler process"},
		"broken":             {child(t, "broken", nothing), "", "no space left"},
		"lies":               {child(t, "lies", nothing), "", "not what it said"},
		"leaves":             {child(t, "leaves", nothing), "", "module.wasm"},
		"of another version": {child(t, "of another version", nothing), "", "wazero-v0.1.0"},
		"escapes":            {child(t, "escapes", nothing), "", "no name for compiled code"},
		"with another name":  {child(t, "with another name", nothing), "", "compiled a module by itself"},
		"panics":             {child(t, "panics", nothing), sandbox.ReasonMalformed, "the compiler failed: panic: boom"},
		"faults":             {child(t, "faults", nothing), sandbox.ReasonMalformed, "the compiler failed: "},
		"killed":             {child(t, "killed", nothing), sandbox.ReasonCompileMemory, "the operating system killed it"},
		"floods":             {child(t, "floods", nothing), sandbox.ReasonMalformed, "the compiler failed: flood flood"},
	} {
		t.Run(name, func(t *testing.T) {
			cache := t.TempDir()
			r := newRuntime(t, sandbox.Options{Compiler: c.command, CacheDir: cache})
			begin := residentMemory(t, true)
			m, err := r.Compile(context.Background(), guest{}.bytes())
			if m != nil {
				t.Error("there is a module")
			}
			if c.reason == "" {
				notTheModule(t, err, c.want)
			} else {
				invalidWith(t, err, c.reason, c.want)
			}
			if len(fmt.Sprint(err)) > 2000 {
				t.Errorf("a message of %d bytes", len(fmt.Sprint(err)))
			}
			if end := residentMemory(t, false); end > begin+32<<20 {
				t.Errorf("the server had %d MB, and up to %d MB meanwhile", begin>>20, end>>20)
			}
		})
	}
}

// A compiler process has nothing of the server's but the module, and limits.
func TestCompilerHasNothing(t *testing.T) {
	t.Setenv("RAPPORT_SECRET", "for nobody")
	leak, err := syscall.Open(os.Args[0], syscall.O_RDONLY, 0) // without close-on-exec
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Close(leak) }()
	file, cache := filepath.Join(t.TempDir(), "told"), t.TempDir()
	r := newRuntime(t, sandbox.Options{
		Compiler: child(t, "tells", file), CacheDir: cache,
		CompilerLimits: sandbox.CompilerLimits{CPU: 7500 * time.Millisecond, Data: 300 << 20, File: 1 << 20},
	})
	compile(t, r, guest{}.bytes())
	var got told
	readJSON(t, file, &got)
	for _, v := range got.Environment {
		name, _, _ := strings.Cut(v, "=")
		if !slices.Contains([]string{"RAPPORT_COMPILER_PROCESS", "GOMAXPROCS", "GOMEMLIMIT", "GOGC", "GOTRACEBACK", "GODEBUG", "PWD"}, name) {
			t.Errorf("its environment has %s", v)
		}
	}
	if filepath.Dir(got.Folder) != cache || got.Mode != 0o700 {
		t.Errorf("it works in %s with the mode %o", got.Folder, got.Mode)
	}
	for _, d := range got.Descriptors {
		if !strings.Contains(d, "pipe:") && !strings.Contains(d, "anon_inode:") && !strings.Contains(d, "/proc/") {
			t.Errorf("it has the descriptor %s", d)
		}
	}
	want := map[string]syscall.Rlimit{
		"cpu": {Cur: 8, Max: 9}, "data": {Cur: 300 << 20, Max: 300 << 20}, "core": {}, "file": {Cur: 1 << 20, Max: 1 << 20}, "descriptors": {Cur: 32, Max: 32},
	}
	if underRace {
		delete(want, "data")
	}
	for name, n := range want {
		if l := got.Limits[name]; l != n {
			t.Errorf("limit of %s: %+v, want %+v", name, l, n)
		}
	}
	if _, err := os.Stat(got.Folder); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("its folder is still there: %v", err)
	}
}

// When its caller gives up, a compiler process ends, and all that it started.
func TestGivingUpEndsTheCompiler(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pids")
	r := newRuntime(t, sandbox.Options{Compiler: child(t, "hangs", file)})
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	done := make(chan error, 1)
	go func() {
		_, err := r.Compile(ctx, guest{}.bytes())
		done <- err
	}()
	pids := waitForPIDs(t, file)

	// One that waits for its turn can give up too, for the same module and another.
	for _, wasm := range [][]byte{guest{}.bytes(), guest{pages: 5}.bytes()} {
		short, stop := context.WithTimeout(context.Background(), 10*time.Millisecond)
		if _, err := r.Compile(short, wasm); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("while it waits: %v", err)
		}
		stop()
	}
	enough := errors.New("enough")
	cancel(enough)
	if err := <-done; !errors.Is(err, enough) {
		t.Errorf("error %v", err)
	}
	waitUntilDead(t, pids)
	if got := r.CompilerStats(); got.Runs != 1 || got.Wall+got.CPU+got.Memory+got.Crashed+got.Failed != 0 {
		t.Errorf("stats %+v", got)
	}
}

func TestCompilerEndsAtTheWallClock(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pids")
	r := newRuntime(t, sandbox.Options{Compiler: child(t, "hangs", file), CompilerLimits: sandbox.CompilerLimits{Wall: time.Second}})
	_, err := r.Compile(context.Background(), guest{}.bytes())
	invalidWith(t, err, sandbox.ReasonCompileTime, "after 1s")
	if _, err := os.Stat(file); err != nil {
		t.Skipf("the machine is so busy that the process had not begun: %v", err)
	}
	waitUntilDead(t, waitForPIDs(t, file))
}

// waitForPIDs returns the process numbers in a file, once it is there.
func waitForPIDs(t *testing.T, file string) []int {
	t.Helper()
	var b []byte
	until(t, "a child tells its number", func() (ok bool) {
		var err error
		b, err = os.ReadFile(file)
		return err == nil
	})
	pids := make([]int, 2)
	if _, err := fmt.Sscan(string(b), &pids[0], &pids[1]); err != nil {
		t.Fatal(err)
	}
	return pids
}

func waitUntilDead(t *testing.T, pids []int) {
	t.Helper()
	for _, pid := range pids {
		until(t, fmt.Sprintf("process %d is dead", pid), func() bool { return !alive(pid) })
	}
}

// until waits for something that other processes bring about.
func until(t *testing.T, what string, happened func() bool) {
	t.Helper()
	limit := time.After(time.Minute)
	for !happened() {
		select {
		case <-limit:
			t.Fatalf("it does not happen that %s", what)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// Of callers with the same module one does the work, and with one slot one process
// runs at a time.
func TestCompilersRunOnceAndOneByOne(t *testing.T) {
	r := newRuntime(t, sandbox.Options{Compiler: child(t, "alone", filepath.Join(t.TempDir(), "busy"))})
	const modules, callers = 4, 5
	var wg sync.WaitGroup
	for i := range modules * callers {
		wg.Go(func() {
			wasm := guest{pages: uint32(4 + i%modules)}.bytes()
			m, err := r.Compile(context.Background(), wasm)
			if err != nil {
				t.Error(err)
				return
			}
			if err := m.Close(context.Background()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got := r.CompilerStats(); got.Runs != modules || got.Hits != modules*(callers-1) {
		t.Errorf("stats %+v", got)
	}
}

// When the first of several callers gives up, the next one does the work.
func TestGivingUpIsNotCatching(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pids")
	r := newRuntime(t, sandbox.Options{Compiler: child(t, "hangs first", file)})
	ctx, cancel := context.WithCancel(context.Background())
	first, second := make(chan error, 1), make(chan error, 1)
	compileIn := func(ctx context.Context, done chan error) {
		_, err := r.Compile(ctx, guest{}.bytes())
		done <- err
	}
	go compileIn(ctx, first)
	waitForPIDs(t, file)
	go compileIn(context.Background(), second)
	cancel()
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Errorf("the one that gave up: %v", err)
	}
	if err := <-second; err != nil {
		t.Errorf("the other one: %v", err)
	}
}

func TestOptionsThatAreRefused(t *testing.T) {
	ctx := context.Background()
	good := sandbox.Options{Compiler: command(t)}
	for name, c := range map[string]struct {
		edit func(*sandbox.Options)
		want string
	}{
		"no compiler":    {func(o *sandbox.Options) { o.Compiler = nil }, "Options.Compiler"},
		"relative path":  {func(o *sandbox.Options) { o.Compiler = []string{"rapport"} }, "absolute path"},
		"short key":      {func(o *sandbox.Options) { o.CacheKey = make([]byte, 15) }, "15 bytes"},
		"negative CPU":   {func(o *sandbox.Options) { o.CompilerLimits.CPU = -1 }, "negative"},
		"little memory":  {func(o *sandbox.Options) { o.CompilerLimits.Data = 1 << 20 }, "134217728"},
		"negative cache": {func(o *sandbox.Options) { o.CacheLimits.Bytes = -1 }, "negative"},
		"no folder":      {func(o *sandbox.Options) { o.CacheDir = os.Args[0] }, os.Args[0]},
		"below a file":   {func(o *sandbox.Options) { o.CacheDir = filepath.Join(os.Args[0], "cache") }, "may write"},
	} {
		t.Run(name, func(t *testing.T) {
			o := good
			c.edit(&o)
			if _, err := sandbox.New(ctx, o); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
	t.Run("in a compiler", func(t *testing.T) {
		t.Setenv("RAPPORT_COMPILER_PROCESS", "1")
		if _, err := sandbox.New(ctx, good); err == nil || !strings.Contains(err.Error(), "must not start others") {
			t.Errorf("error %v", err)
		}
	})
}

// BenchmarkCompile measures what a module costs that is compiled by a process, and
// one that is in the cache.
func BenchmarkCompile(b *testing.B) {
	ctx := context.Background()
	_, goWasm := goGuest(b, upsell)
	for name, wasm := range map[string][]byte{"small": plugins.PVCL(), "go": goWasm} {
		run := func(b *testing.B, r *sandbox.Runtime) {
			m, err := r.Compile(ctx, wasm)
			if err != nil {
				b.Fatal(err)
			}
			if err := m.Close(ctx); err != nil {
				b.Fatal(err)
			}
		}
		b.Run(name+"/anew", func(b *testing.B) {
			for range b.N {
				b.StopTimer()
				r := newRuntime(b, sandbox.Options{})
				b.StartTimer()
				run(b, r)
			}
		})
		b.Run(name+"/cached", func(b *testing.B) {
			r := newRuntime(b, sandbox.Options{})
			run(b, r)
			for b.Loop() {
				run(b, r)
			}
		})
	}
}
