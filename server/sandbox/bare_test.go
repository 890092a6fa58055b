package sandbox_test

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"

	"rapport/sdk/abi"
)

// bare is an instance of a strategy outside of the sandbox, of which nothing is
// restored.
type bare struct {
	t        testing.TB
	module   api.Module
	manifest abi.Manifest
	head     *abi.Head
	frame    uint32 // address
}

// newBare returns what makes instances of a module.
func newBare(t testing.TB, wasm []byte) func(set map[string]float64) *bare {
	t.Helper()
	ctx := context.Background()
	r := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigInterpreter()) // it compiles nothing
	t.Cleanup(func() {
		if err := r.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	wasi_snapshot_preview1.MustInstantiate(ctx, r)
	log := func(int32, int32, int32) {}
	if _, err := r.NewHostModuleBuilder(abi.ImportModule).NewFunctionBuilder().WithFunc(log).Export(abi.ImportLog).Instantiate(ctx); err != nil {
		t.Fatal(err)
	}
	compiled, err := r.CompileModule(ctx, wasm)
	if err != nil {
		t.Fatal(err)
	}
	return func(set map[string]float64) *bare {
		t.Helper()
		m, err := r.InstantiateModule(ctx, compiled, wazero.NewModuleConfig().WithName("").WithStartFunctions(abi.ExportInitialize))
		if err != nil {
			t.Fatal(err)
		}
		return startBare(t, m, set)
	}
}

// startBare readies an instance for a scenario of leakCandidates candidates
// without attributes. Parameters that are not set have their defaults.
func startBare(t testing.TB, m api.Module, set map[string]float64) *bare {
	t.Helper()
	b := &bare{t: t, module: m}
	at, size := abi.UnpackSpan(b.do(abi.ExportDescribe))
	text, _ := m.Memory().Read(at, size)
	if err := json.Unmarshal(text, &b.manifest); err != nil {
		t.Fatal(err)
	}
	var parameters []float64
	for _, p := range b.manifest.Parameters {
		v, ok := set[p.Name]
		if !ok {
			v = p.Default
		}
		parameters = append(parameters, v)
	}
	b.head = abi.NewHead(len(b.manifest.Profile), 0)
	b.head.Reset()
	most, _ := b.head.Finish(leakCandidates, len(b.manifest.Candidate), 0, 0)
	static := abi.NewStaticBuilder(leakCandidates, parameters, len(b.manifest.Offer), len(b.manifest.Channel)).Build(most.Size)
	block, err := abi.ParseStatic(static)
	if err != nil {
		t.Fatal(err)
	}
	arena := uint32(b.do(abi.ExportArena, uint64(len(static)+most.Size+abi.GuardSize)))
	m.Memory().Write(arena, static)
	if status := b.do(abi.ExportConfigure, uint64(arena), uint64(block.Size)); status != 0 {
		t.Fatalf("status %d of configure", status)
	}
	b.frame = arena + uint32(block.FrameAt)
	return b
}

func (b *bare) do(name string, parameters ...uint64) uint64 {
	b.t.Helper()
	results, err := b.module.ExportedFunction(name).Call(context.Background(), parameters...)
	if err != nil {
		b.t.Fatalf("%s: %v", name, err)
	}
	return results[0]
}

// memory returns all of its memory, valid until it runs.
func (b *bare) memory() []byte {
	m, _ := b.module.Memory().Read(0, b.module.Memory().Size())
	return m
}

// call ranks the first n candidates of a customer of whom nothing is known, and
// returns the output.
func (b *bare) call(n int) string {
	b.t.Helper()
	l, head := b.head.Finish(n, len(b.manifest.Candidate), 5, uint64(n)<<50)
	bytes, _ := b.module.Memory().Read(b.frame, uint32(l.Size))
	f := l.View(bytes)
	copy(f.Bytes(), head)
	for i := range f.Index() {
		f.Index()[i] = uint32(i)
	}
	for i := range f.Columns {
		for k := range f.Column(i) {
			f.Column(i)[k] = 2
		}
	}
	f.ClearOutput()
	if status, _ := abi.UnpackStatus(b.do(abi.ExportRank, uint64(l.Size))); status != abi.StatusOK {
		b.t.Fatalf("status %d", status)
	}
	bytes, _ = b.module.Memory().Read(b.frame, uint32(l.Size))
	return string(bytes[l.ScoreAt:])
}
