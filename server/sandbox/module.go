package sandbox

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"rapport/sdk/abi"
)

// MaxModuleSize is the most bytes that a module may have.
const MaxModuleSize = 16 << 20

// Module is a checked and compiled strategy. It is safe for concurrent use.
type Module struct {
	runtime  *Runtime
	compiled wazero.CompiledModule
	manifest *Manifest
	digest   string

	life   sync.RWMutex // held for reading by Bind
	closed bool

	mu         sync.Mutex
	strategies map[*Strategy]struct{}
}

// signature is the type of an export.
type signature struct{ params, results string }

// exports are the functions that a module must export.
var exports = map[string]signature{
	abi.ExportMarker:    {"", ""},
	abi.ExportDescribe:  {"", "I"},
	abi.ExportArena:     {"i", "i"},
	abi.ExportConfigure: {"ii", "i"},
	abi.ExportRank:      {"i", "I"},
}

// Compile checks a module, compiles it, and asks it for its manifest in an
// instance that is then thrown away. Its error is an [*InvalidError] if the
// module is at fault. The bytes are not kept.
//
// Compiling takes as long as the module makes it take, whatever ctx says, and so
// does initialising it.
func (r *Runtime) Compile(ctx context.Context, wasm []byte) (*Module, error) {
	if len(wasm) > MaxModuleSize {
		return nil, invalid(ReasonTooLarge, "%d bytes; at most %d are allowed", len(wasm), MaxModuleSize)
	}
	if err := checkSections(wasm); err != nil {
		return nil, err
	}
	r.life.RLock()
	defer r.life.RUnlock()
	if r.closed {
		return nil, ErrClosed
	}
	compiled, err := r.compile(ctx, wasm)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(wasm)
	m := &Module{
		runtime:    r,
		compiled:   compiled,
		digest:     hex.EncodeToString(sum[:]),
		strategies: make(map[*Strategy]struct{}),
	}
	err = checkImports(compiled)
	if err == nil {
		err = checkExports(compiled)
	}
	if err == nil {
		err = m.try()
	}
	if err != nil {
		_ = compiled.Close(ctx)
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.modules[m] = struct{}{}
	return m, nil
}

// compile calls wazero. That it should panic is not expected, but its input is
// not to be trusted.
func (r *Runtime) compile(ctx context.Context, wasm []byte) (compiled wazero.CompiledModule, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = invalid(ReasonMalformed, "the compiler failed: %v", p)
		}
	}()
	compiled, err = r.wasm.CompileModule(ctx, wasm)
	if err != nil {
		return nil, invalid(ReasonMalformed, "%w", err)
	}
	return compiled, nil
}

// try runs a module as far as can be without a catalogue: its manifest is read,
// and it is configured for a scenario without candidates.
func (m *Module) try() error {
	in, err := m.instantiate()
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
	return m.compiled.Close(ctx)
}

func (m *Module) remove(s *Strategy) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.strategies, s)
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

func checkImports(c wazero.CompiledModule) error {
	if len(c.ImportedMemories()) > 0 {
		return invalid(ReasonImport, "an imported memory: define and export it instead")
	}
	for _, f := range c.ImportedFunctions() {
		module, name, _ := f.Import()
		want, ok := signature{"iii", ""}, module == abi.ImportModule && name == abi.ImportLog
		if !ok && module == abi.ImportWASI {
			var w wasiFunc
			w, ok = wasi[name]
			want = signature{w.params, w.results}
		}
		if !ok {
			return invalid(ReasonImport, "unknown import %s.%s: a strategy may import %s.%s and the functions of %s",
				module, name, abi.ImportModule, abi.ImportLog, abi.ImportWASI)
		}
		if !want.matches(f) {
			return invalid(ReasonImport, "import %s.%s has the type %s, not %s", module, name, typeOf(f), want)
		}
	}
	return nil
}

func checkExports(c wazero.CompiledModule) error {
	functions := c.ExportedFunctions()
	if _, ok := c.ExportedMemories()[abi.ExportMemory]; !ok {
		return invalid(ReasonExport, "no memory is exported as %s", abi.ExportMemory)
	}
	if _, ok := functions[abi.ExportMarker]; !ok {
		return invalid(ReasonExport, "no function %s: not a strategy of ABI %d", abi.ExportMarker, abi.Version)
	}
	for name, want := range exports {
		f, ok := functions[name]
		if !ok {
			return invalid(ReasonExport, "no function %s %s is exported", name, want)
		}
		if !want.matches(f) {
			return invalid(ReasonExport, "export %s has the type %s, not %s", name, typeOf(f), want)
		}
	}
	if f, ok := functions[abi.ExportInitialize]; ok && !(signature{}).matches(f) {
		return invalid(ReasonExport, "export %s has the type %s, not %s", abi.ExportInitialize, typeOf(f), signature{})
	}
	for name := range functions {
		if name == "_start" {
			return invalid(ReasonExport, "export _start: this is a command; build a library (Go: -buildmode=c-shared; C: -Wl,--no-entry)")
		}
		if _, ok := exports[name]; !ok && strings.HasPrefix(name, abi.ReservedPrefix) {
			return invalid(ReasonExport, "export %s is unknown, and names that begin with %s are reserved%s",
				name, abi.ReservedPrefix, nearest(name, slices.Sorted(maps.Keys(exports))))
		}
	}
	return nil
}

func (s signature) matches(f api.FunctionDefinition) bool {
	return sameTypes(f.ParamTypes(), s.params) && sameTypes(f.ResultTypes(), s.results)
}

func (s signature) String() string { return spell(valueTypes(s.params), valueTypes(s.results)) }

func typeOf(f api.FunctionDefinition) string { return spell(f.ParamTypes(), f.ResultTypes()) }

func spell(params, results []api.ValueType) string {
	list := func(types []api.ValueType) string {
		names := make([]string, len(types))
		for i, t := range types {
			names[i] = api.ValueTypeName(t)
		}
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("(%s) → (%s)", list(params), list(results))
}
