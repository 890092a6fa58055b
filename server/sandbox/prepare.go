package sandbox

import (
	"github.com/tetratelabs/wazero/api"

	"rapport/sdk/abi"
)

// preparation is the version of what prepare does: raise it when prepare gives
// other bytes or facts for the same module. What an older one made is not taken
// from the cache then.
const preparation = 1

// policy is what a server asks of modules beside the ABI. It is part of the key of
// the cache.
type policy struct {
	MemoryPages uint32 `json:"memory_pages"` // the most that an instance may have
}

// prepared is a module that may be compiled, and what was learnt of it.
type prepared struct {
	wasm []byte
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

// savedGlobal is a global under the name by which it was exported.
type savedGlobal struct {
	Export string        `json:"export"`
	Type   api.ValueType `json:"type"`
}

// prepare checks a module and rewrites it into the one that is compiled. It runs
// in the compiler process only. Its error is an [*InvalidError].
func prepare(wasm []byte, _ policy) (*prepared, error) {
	if len(wasm) > MaxModuleSize {
		return nil, tooLarge(len(wasm))
	}
	if err := checkSections(wasm); err != nil {
		return nil, err
	}
	return &prepared{wasm: wasm}, nil
}

func tooLarge(size int) *InvalidError {
	return invalid(ReasonTooLarge, "%d bytes; at most %d are allowed", size, MaxModuleSize)
}

// checkSections walks the sections of a binary without looking into them. It
// refuses what wazero would run by itself when a module is instantiated.
func checkSections(wasm []byte) error {
	const startSection = 8
	switch {
	case len(wasm) < 8 || string(wasm[:4]) != "\x00asm":
		return invalid(ReasonMalformed, "not a WebAssembly binary: it does not begin with \\0asm")
	case string(wasm[4:8]) != "\x01\x00\x00\x00":
		return invalid(ReasonMalformed, "not a core WebAssembly module of version 1 (a component?)")
	}
	for b := wasm[8:]; len(b) > 0; {
		id := b[0]
		size, n := uvarint32(b[1:])
		if n == 0 || uint64(size) > uint64(len(b)-1-n) {
			return invalid(ReasonMalformed, "section %d at byte %d is longer than the file", id, len(wasm)-len(b))
		}
		if id == startSection {
			return invalid(ReasonStart, "a start section: initialise in %s instead", abi.ExportInitialize)
		}
		b = b[1+n+int(size):]
	}
	return nil
}

// uvarint32 reads a LEB128 number of at most 32 bits and says how many bytes it
// took; 0 if there is none.
func uvarint32(b []byte) (v uint32, n int) {
	for i := range min(len(b), 5) {
		v |= uint32(b[i]&0x7f) << (7 * i)
		if b[i] < 0x80 {
			return v, i + 1
		}
	}
	return 0, 0
}
