package sandbox

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"

	"rapport/sdk/abi"
	"rapport/server/sandbox/wasm"
)

// instance is one instance of a module: its memory, and what the host keeps for
// it. One goroutine at a time uses it.
type instance struct {
	module api.Module
	memory api.Memory
	rank   api.Function
	host   *host
	ctx    context.Context // of every call: it carries host, and it never ends

	fuel, depth api.MutableGlobal // the counters: see package wasm

	globals  []api.MutableGlobal // those of Module.globals
	space    *space              // of the memory; nil if it is Go's
	restorer restorer            // nil before the first ranking

	arena   uint32    // where the static block begins
	head    *abi.Head // the part of the frame that is built outside
	history []float64 // columns of the history, for a call
	stack   [1]uint64 // parameter and result of rank

	ran   time.Duration // how long the last call's thread ran; 0 if that is not known
	spent bool          // to be replaced, not restored
	fault *FaultError   // of the last call, to be logged
}

// instantiate makes an instance in which nothing of the guest has run. With a
// pagemap its memory is a space, and else Go's. The error is an [*InvalidError],
// or says that there is no memory.
func (m *Module) instantiate(p *pagemap) (*instance, error) {
	h := new(host)
	h.begin(0, 0)
	in := &instance{host: h, ctx: context.WithValue(context.Background(), hostKey{}, h)}
	ctx := in.ctx
	if p != nil {
		ctx = experimental.WithMemoryAllocator(ctx, p.allocator(in))
	}
	module, err := m.wasm.InstantiateModule(ctx, m.compiled,
		wazero.NewModuleConfig().WithName("").WithStartFunctions().WithRandSource(noRandom{}))
	if err != nil {
		if in.space != nil {
			in.space.Free()
		}
		return nil, invalid(ReasonInit, "it can't be instantiated: %w", err)
	}
	in.module, in.memory, in.rank = module, module.Memory(), module.ExportedFunction(abi.ExportRank)
	if in.space != nil && in.space.err != nil {
		in.close()
		return nil, in.space.err
	}
	for _, name := range append([]string{wasm.FuelExport, wasm.StackExport}, m.globals...) {
		g, ok := module.ExportedGlobal(name).(api.MutableGlobal)
		if !ok {
			in.close()
			return nil, fmt.Errorf("sandbox: no mutable global %s is exported", name)
		}
		in.globals = append(in.globals, g)
	}
	in.fuel, in.depth, in.globals = in.globals[0], in.globals[1], in.globals[2:]
	h.fuel = in.fuel
	in.supply(initialFuel)
	return in, nil
}

// noRandom stands in the place of a generator that wazero would make for each
// instance, to be used by a WASI of its own that we don't have. To seed it takes
// longer than all else that it takes to make a small instance.
type noRandom struct{}

// Read fails.
func (noRandom) Read([]byte) (int, error) { return 0, errors.ErrUnsupported }

// supply gives the instance fuel and stack for what it is called for next.
func (in *instance) supply(fuel int64) {
	in.fuel.Set(uint64(fuel))
	in.depth.Set(stackSlots)
}

// left returns the fuel that is left; below 0 it is spent.
func (in *instance) left() int64 { return int64(in.fuel.Get()) }

// initialize makes an instance and has the guest initialise itself. Errors are as
// those of instantiate.
func (m *Module) initialize(p *pagemap) (*instance, error) {
	in, err := m.instantiate(p)
	if err != nil {
		return nil, err
	}
	if in.module.ExportedFunction(abi.ExportInitialize) == nil {
		return in, nil
	}
	if _, err := in.call(ReasonInit, abi.ExportInitialize); err != nil {
		in.close()
		return nil, err
	}
	return in, nil
}

// bytes is the whole memory, valid until the guest runs.
func (in *instance) bytes() []byte {
	b, _ := in.memory.Read(0, in.memory.Size())
	return b
}

// call calls an export before the first ranking.
func (in *instance) call(reason Reason, name string, params ...uint64) ([]uint64, error) {
	results, err := in.module.ExportedFunction(name).Call(in.ctx, params...)
	if err != nil {
		kind, message := in.callFault(err, initialFuel)
		return nil, invalid(reason, "%s failed: %s: %s", name, kind, message)
	}
	if in.left() < 0 {
		return nil, invalid(reason, "%s failed: %s: %s", name, FaultFuel, spent(initialFuel))
	}
	return results, nil
}

// describe asks for the manifest and checks it.
func (in *instance) describe() (*Manifest, error) {
	results, err := in.call(ReasonManifest, abi.ExportDescribe)
	if err != nil {
		return nil, err
	}
	ptr, size := abi.UnpackSpan(results[0])
	if size > abi.MaxManifest {
		return nil, invalid(ReasonManifest, "a manifest of %d bytes; at most %d are allowed", size, abi.MaxManifest)
	}
	b, ok := in.memory.Read(ptr, size)
	if !ok {
		return nil, invalid(ReasonManifest, "%s points outside the memory, at %d bytes from %d", abi.ExportDescribe, size, ptr)
	}
	return parseManifest(b)
}

// configure gets an arena for the static block, and behind it the call frame of
// that many bytes; writes the block; and has the module read it. It returns
// where the arena is.
func (in *instance) configure(static []byte, frame int) (arena uint32, err error) {
	size := uint32(len(static) + frame)
	results, err := in.call(ReasonArena, abi.ExportArena, uint64(size))
	if err != nil {
		return 0, err
	}
	arena = uint32(results[0])
	switch {
	case arena == 0:
		return 0, invalid(ReasonArena, "it gives no arena of %d bytes: the memory allowed may be too small", size)
	case arena%abi.Align != 0:
		return 0, invalid(ReasonArena, "its arena at %d is not aligned to %d bytes", arena, abi.Align)
	}
	b, ok := in.memory.Read(arena, size)
	if !ok {
		return 0, invalid(ReasonArena, "its arena of %d bytes at %d lies outside the memory", size, arena)
	}
	copy(b, static)
	block, err := abi.ParseStatic(static)
	if err != nil {
		return 0, fmt.Errorf("sandbox: %w", err)
	}
	results, err = in.call(ReasonInit, abi.ExportConfigure, uint64(arena), uint64(block.Size))
	if err != nil {
		return 0, err
	}
	if status := uint32(results[0]); status != abi.StatusOK {
		return 0, invalid(ReasonInit, "%s answers status %d%s", abi.ExportConfigure, status, in.host.said())
	}
	if b, ok = in.memory.Read(arena, uint32(len(static))); !ok || string(b) != string(static) {
		return 0, invalid(ReasonInit, "%s wrote into the static block", abi.ExportConfigure)
	}
	return arena, nil
}

// restore makes memory and globals what they are in the image.
func (in *instance) restore(g *image) {
	in.restorer.restore()
	for i, v := range g.globals {
		in.globals[i].Set(v)
	}
}

// close frees the instance. What could go wrong is nothing to act on.
func (in *instance) close() {
	if in.restorer != nil {
		in.restorer.close()
	}
	_ = in.module.Close(in.ctx)
}
