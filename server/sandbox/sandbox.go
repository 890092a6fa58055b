// Package sandbox runs strategies: untrusted WebAssembly modules that rank. It
// is the only importer of wazero.
//
// A [Runtime] compiles a module, in a process of its own, which [Module.Bind] binds to a scenario of a
// catalogue: the result, a [Strategy], is a decide.Ranker over a bounded pool of
// instances. Every call of an instance begins with the same memory image, which
// is put back after the call, off the request's path.
//
// The contract with a module is sdk/ABI.md; package sdk/abi has its layouts.
// What a strategy can do wrong, and what happens then, is at [FaultError] for
// calls and at [InvalidError] for modules. What the sandbox does not protect
// against yet is in RATIONALE.md.
//
// The package decides nothing about which version of a strategy serves: that is
// the server's. It never sees the network, and it keeps nothing on disk but the
// compilation cache.
package sandbox

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"rapport/sdk/abi"
)

// DefaultMemoryPages is the memory that an instance may have if the options do
// not say: 512 pages of 64 KiB are 32 MiB.
const DefaultMemoryPages = 512

// Options configure a [Runtime]. Only Compiler is required.
type Options struct {
	// Logger receives what strategies log, and their faults; nil discards it.
	// It is called off the request's path.
	Logger *slog.Logger
	// Compiler is the command, with its arguments, of the process that checks and
	// compiles a module: the absolute path of a program whose main function runs
	// [CompilerMain], built from the same sources. [CompilerCommand] returns that
	// for the program which is running.
	Compiler []string
	// CompilerLimits bound such a process.
	CompilerLimits CompilerLimits
	// Compilers is how many modules are compiled at once; 0 is 1.
	Compilers int
	// CacheDir is a folder for compiled code, which only this server may write:
	// what is in it is executed. Empty: nothing is kept.
	CacheDir string
	// CacheKey seals what is in the folder, so that the server knows it again; at
	// least 16 bytes, and the same each time, or what is there is compiled again.
	// It should not be where the folder is. Empty: a random one.
	CacheKey []byte
	// CacheLimits bound what is kept.
	CacheLimits CacheLimits
	// MaxMemoryPages is the most memory that an instance may have, in pages of
	// 64 KiB; 0 is DefaultMemoryPages. A module that asks for more at the start
	// is refused; later growth beyond it fails, as WebAssembly has it.
	MaxMemoryPages uint32
	// Fuel is what a call of a strategy may use, which may itself ask for less; the
	// zero Fuel is abi.DefaultFuel.
	Fuel Fuel
	// NoBreaker has versions called however often they fail, as for a replay, in
	// which they fail as often as they did.
	NoBreaker bool
	// Now is the clock of the circuit breakers; nil: time.Now.
	Now func() time.Time

	pagemap string // a file; empty: /proc/self/pagemap
}

// ErrClosed means that a strategy was called, or a module used, after it was
// closed.
var ErrClosed = errors.New("sandbox: closed")

// Runtime compiles modules and owns what they share: the compiler processes and
// the cache. It is safe for concurrent use.
type Runtime struct {
	log      *slog.Logger
	policy   policy
	compiler *compiler
	cache    *cache
	mark     string // see compilerMark
	fuel     Fuel
	unbroken bool // Options.NoBreaker
	now      func() time.Time
	pages    *pagemap // nil if images are copied
	noMap    error    // why there is no pagemap

	life   sync.RWMutex // held for reading by Compile
	closed bool

	mu      sync.Mutex
	modules map[*Module]struct{}
	freed   bool
}

// New returns a runtime without modules. Close frees it.
func New(ctx context.Context, o Options) (_ *Runtime, err error) {
	if !abi.LittleEndian() {
		return nil, errors.New("sandbox: this machine is big-endian, and strategies need a little-endian one")
	}
	r := &Runtime{
		log:    o.Logger,
		policy: policy{MemoryPages: cmp.Or(o.MaxMemoryPages, DefaultMemoryPages)},
		fuel:   o.Fuel, unbroken: o.NoBreaker, now: o.Now,
		modules: make(map[*Module]struct{}),
	}
	if r.fuel == (Fuel{}) {
		r.fuel = abi.DefaultFuel()
	}
	if !r.fuel.Valid() {
		return nil, fmt.Errorf("sandbox: no fuel limit: %d and %d a candidate", r.fuel.Base, r.fuel.PerCandidate)
	}
	if r.now == nil {
		r.now = time.Now
	}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	if r.compiler, err = newCompiler(o.Compiler, o.CompilerLimits, o.Compilers); err != nil {
		return nil, err
	}
	if r.cache, err = openCache(o.CacheDir, o.CacheKey, o.CacheLimits); err != nil {
		return nil, err
	}
	dir, err := r.cache.temporary("mark")
	if err == nil {
		r.mark, err = compilerMark(ctx, r.policy, filepath.Join(dir, "cache"))
		err = errors.Join(err, os.RemoveAll(dir))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("sandbox: %w", err), r.cache.close())
	}
	r.pages, r.noMap = openPagemap(cmp.Or(o.pagemap, "/proc/self/pagemap"))
	if r.noMap != nil && !errors.Is(r.noMap, errors.ErrUnsupported) {
		r.log.Warn("the memory of strategies is restored by copying all of it, which is slow for large ones", "error", r.noMap)
	}
	return r, nil
}

// Close closes every module, as [Module.Close] does, and frees the runtime. If
// ctx ends first, what is still in use stays, and Close may be called again. It
// waits for Compile, whatever ctx says.
func (r *Runtime) Close(ctx context.Context) error {
	r.life.Lock()
	r.closed = true
	r.life.Unlock()
	r.mu.Lock()
	modules := slices.Collect(maps.Keys(r.modules))
	r.mu.Unlock()
	for _, m := range modules {
		if err := m.Close(ctx); err != nil {
			return err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.freed {
		return nil
	}
	r.freed = true
	if r.pages != nil {
		r.pages.close()
	}
	return r.cache.close()
}

// remove forgets a module, and reports whether it was there.
func (r *Runtime) remove(m *Module) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, ok := r.modules[m]
	delete(r.modules, m)
	return ok
}
