package wasm_test

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"

	"github.com/tetratelabs/wazero/api"

	"rapport/server/sandbox/wasm"
)

// FuzzRead reads arbitrary bytes. The reader must not panic and must not allocate
// out of proportion; what it refuses, it refuses with a kind and a place; what it
// accepts, wazero accepts too, as it is and rewritten.
//
// Its seeds are the files of testdata/fuzz/FuzzRead, and small modules of the
// specification's tests from wazero's module.
func FuzzRead(f *testing.F) {
	for _, seed := range specSeeds(f) {
		f.Add(seed)
	}
	peer := newPeer(f, api.CoreFeaturesV2)
	kinds := []wasm.Kind{wasm.Malformed, wasm.Invalid, wasm.Unsupported, wasm.OverLimit, wasm.Reserved}
	f.Fuzz(func(t *testing.T, b []byte) {
		before := allocated()
		m, err := wasm.Read(b, wasm.DefaultLimits())
		if grown := allocated() - before; grown > readBase+readPerByte*uint64(len(b)) {
			t.Errorf("reading %d bytes allocated %d", len(b), grown)
		}
		if err != nil {
			var refusal *wasm.Error
			if !errors.As(err, &refusal) || !slices.Contains(kinds, refusal.Kind) {
				t.Fatalf("error without a kind: %v", err)
			}
			if refusal.Offset < 0 || refusal.Offset > len(b) {
				t.Fatalf("error at offset %d of %d bytes: %v", refusal.Offset, len(b), err)
			}
			return
		}
		if err := acceptsOriginal(t.Context(), peer, m.Stripped()); err != nil {
			t.Fatalf("read, but wazero refuses it: %v", err)
		}
		metered, err := m.Meter(wasm.MeterOptions{InitialFuel: specFuel, InitialStack: specStack})
		if err != nil {
			t.Fatalf("not rewritten: %v", err) // its size has a limit too, which no input of the fuzzer comes near
		}
		if err := acceptsOriginal(t.Context(), peer, metered.Wasm); err != nil {
			t.Fatalf("rewritten, it is no longer valid: %v", err)
		}
		var refusal *wasm.Error
		if _, err := wasm.Read(metered.Wasm, wasm.DefaultLimits()); !errors.As(err, &refusal) {
			t.Fatalf("rewritten, it is read again: %v", err)
		}
	})
}

// What reading may allocate: so much at least, and so much a byte.
const (
	readBase    = 1 << 20
	readPerByte = 256
)

// allocated is how many bytes this process has ever allocated on the heap.
func allocated() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.TotalAlloc
}

// specSeeds returns small modules of all folders: of every script the first, the
// middle and the last one.
func specSeeds(f *testing.F) [][]byte {
	root := specRoot(f)
	scripts, err := filepath.Glob(filepath.Join(root, "*", "testdata", "*.json"))
	if err != nil {
		f.Fatal(err)
	}
	var seeds [][]byte
	for _, script := range scripts {
		modules, err := filepath.Glob(script[:len(script)-len("json")] + "*.wasm")
		if err != nil {
			f.Fatal(err)
		}
		if len(modules) == 0 {
			continue
		}
		for _, n := range slices.Compact([]int{0, len(modules) / 2, len(modules) - 1}) {
			b, err := os.ReadFile(modules[n])
			if err != nil {
				f.Fatal(err)
			}
			if len(b) <= 1<<10 {
				seeds = append(seeds, b)
			}
		}
	}
	if len(seeds) < 300 {
		f.Fatalf("%d seeds from %d scripts", len(seeds), len(scripts))
	}
	return seeds
}
