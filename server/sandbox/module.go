package sandbox

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/tetratelabs/wazero"

	"rapport/sdk/abi"
)

// MaxModuleSize is the most bytes that a module may have.
const MaxModuleSize = 16 << 20

// Module is a checked and compiled strategy. It is safe for concurrent use.
type Module struct {
	runtime  *Runtime
	wasm     *wasmRuntime // of this module alone
	compiled wazero.CompiledModule
	facts    facts
	manifest *Manifest
	digest   string
	globals  []string // exports that are the module's mutable globals, each once
	breaker  *breaker

	life   sync.RWMutex // held for reading by Bind
	closed bool

	mu         sync.Mutex
	strategies map[*Strategy]struct{}
}

// Compile has a module checked and compiled in a process apart, and asks it for its
// manifest in an instance that is then thrown away. Its error is an [*InvalidError]
// if the module is at fault. The bytes are not kept.
//
// Checking and compiling end with ctx and within [CompilerLimits]. What the module
// does to initialise itself is bounded by fuel.
func (r *Runtime) Compile(ctx context.Context, wasm []byte) (*Module, error) {
	return r.compile(ctx, wasm, nil)
}

// compile is Compile; with a profiler, see CompileProfiled.
func (r *Runtime) compile(ctx context.Context, wasm []byte, p *Profiler) (*Module, error) {
	if len(wasm) > MaxModuleSize {
		return nil, tooLarge(len(wasm))
	}
	r.life.RLock()
	defer r.life.RUnlock()
	if r.closed {
		return nil, ErrClosed
	}
	sum := sha256.Sum256(wasm)
	digest := hex.EncodeToString(sum[:])
	e, err := r.obtain(ctx, digest, wasm)
	if err != nil {
		return nil, err
	}
	var w *wasmRuntime
	var compiled wazero.CompiledModule
	if p == nil {
		w, compiled, err = r.load(ctx, e)
	} else {
		w, compiled, err = r.loadProfiled(ctx, e, p)
	}
	if err != nil {
		return nil, err
	}
	m := &Module{
		runtime:    r,
		wasm:       w,
		compiled:   compiled,
		facts:      e.result.Facts,
		globals:    e.result.Facts.globalExports(),
		digest:     digest,
		strategies: make(map[*Strategy]struct{}),
	}
	if err := m.try(); err != nil {
		return nil, errors.Join(err, w.close(ctx))
	}
	m.breaker = m.newBreaker(m.log())
	r.mu.Lock()
	defer r.mu.Unlock()
	r.modules[m] = struct{}{}
	return m, nil
}

// try runs a module as far as can be without a catalogue: its manifest is read,
// and it is configured for a scenario without candidates.
func (m *Module) try() error {
	in, err := m.initialize(m.runtime.pages)
	if err != nil {
		return err
	}
	defer in.close()
	if m.manifest, err = in.describe(); err != nil {
		return err
	}
	parameters := make([]float64, len(m.manifest.Parameters))
	for i, p := range m.manifest.Parameters {
		parameters[i] = p.Default
	}
	static := abi.NewStaticBuilder(0, parameters, len(m.manifest.Offer), len(m.manifest.Channel))
	_, err = in.configure(static.Build(0), abi.GuardSize)
	return err
}

// Manifest returns what the module says about itself. Do not modify.
func (m *Module) Manifest() *Manifest { return m.manifest }

// Digest returns the SHA-256 of the module in hexadecimal.
func (m *Module) Digest() string { return m.digest }

// Breaker returns the state of the module's circuit breaker, and until when it is
// open. All strategies of the module share it but those bound with
// [PoolOptions].Aside.
func (m *Module) Breaker() (BreakerState, time.Time) { return m.breaker.state() }

// newBreaker returns a breaker that logs when it opens and closes. It does so on
// the path of a request, but rarely: it doubles the time for which it is open.
func (m *Module) newBreaker(log *slog.Logger) *breaker {
	return &breaker{now: m.runtime.now, off: m.runtime.unbroken, changed: func(s BreakerState, until time.Time) {
		if s == BreakerOpen {
			log.Warn("strategy suspended: it kept failing", "until", until)
		} else {
			log.Warn("strategy called again: it has stopped failing")
		}
	}}
}

// log returns the logger of what concerns the module in all scenarios.
func (m *Module) log() *slog.Logger {
	return m.runtime.log.With("strategy", m.manifest.Name, "version", m.manifest.Version)
}

// title is what messages call the module.
func (m *Module) title() string { return m.manifest.Name + " " + m.manifest.Version }

// Close closes every strategy of the module, as [Strategy.Close] does, and frees
// its code. If ctx ends first, what is still in use stays, and Close may be
// called again. It waits for Bind, whatever ctx says.
func (m *Module) Close(ctx context.Context) error {
	m.life.Lock()
	m.closed = true
	m.life.Unlock()
	m.mu.Lock()
	strategies := slices.Collect(maps.Keys(m.strategies))
	m.mu.Unlock()
	for _, s := range strategies {
		if err := s.Close(ctx); err != nil {
			return err
		}
	}
	if !m.runtime.remove(m) {
		return nil
	}
	return m.wasm.close(ctx)
}

func (m *Module) remove(s *Strategy) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.strategies, s)
}
