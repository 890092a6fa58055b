package sandbox

import (
	"github.com/tetratelabs/wazero/api"

	"rapport/server/sandbox/wasm"
)

// preparation is the version of what prepare does: raise it when prepare gives
// other bytes or facts for the same module, as it does when package wasm meters in
// another way. What an older one made is not taken from the cache then.
const preparation = 7

// policy is what a server asks of modules beside the ABI. It is part of the key of
// the cache.
type policy struct {
	MemoryPages uint32 `json:"memory_pages"` // the most that an instance may have
}

// prepared is a module that may be compiled, and what was learnt of it.
type prepared struct {
	wasm     []byte
	original []byte // without custom sections
	facts
}

// facts are what the server has to know of a prepared module, and can't see in its
// compiled form. They go from the compiler process to the server, and into the
// index of the cache, as JSON.
type facts struct {
	// Globals are the mutable globals that the module has for itself, which a
	// restore puts back.
	Globals []savedGlobal `json:"globals,omitempty"`
}

// globalExports returns the names of the saved globals.
func (f *facts) globalExports() []string {
	names := make([]string, len(f.Globals))
	for i, g := range f.Globals {
		names[i] = g.Export
	}
	return names
}

// savedGlobal is a global under the name by which it was exported.
type savedGlobal struct {
	Export string        `json:"export"`
	Type   api.ValueType `json:"type"`
}

// prepare checks a module and rewrites it into the one that is compiled. It runs
// in the compiler process only. Its error is an [*InvalidError].
func prepare(b []byte, p policy) (*prepared, error) {
	if len(b) > MaxModuleSize {
		return nil, tooLarge(len(b))
	}
	l := wasm.DefaultLimits()
	l.ModuleBytes, l.MemoryPages = MaxModuleSize, p.MemoryPages
	m, err := readModule(b, l)
	if err != nil {
		return nil, err
	}
	if err := checkModule(m); err != nil {
		return nil, err
	}
	metered, err := m.Meter(wasm.MeterOptions{})
	if err != nil {
		return nil, invalid(ReasonLimit, "%w", err)
	}
	out := &prepared{wasm: metered.Wasm, original: m.Stripped()}
	for _, g := range metered.Globals {
		out.Globals = append(out.Globals, savedGlobal{Export: g.Export, Type: api.ValueType(g.Type)})
	}
	return out, nil
}

func tooLarge(size int) *InvalidError {
	return invalid(ReasonTooLarge, "%d bytes; at most %d are allowed", size, MaxModuleSize)
}
