package sandbox_test

import (
	"context"
	"errors"
	"os"
	"runtime"
	"slices"
	"testing"

	"rapport/plugins"
	"rapport/server/sandbox"
	"rapport/server/sandbox/hostile"
)

const (
	attacked = 100      // candidates of an attack
	swollen  = 64 << 20 // bytes by which an attack may make the server grow
)

// Each attack of the corpus ends in its own error, within its fuel; the server does
// not grow, keeps no file open, and ranks with a good strategy afterwards.
func TestAttacks(t *testing.T) {
	r := newRuntime(t, sandbox.Options{})
	c, sc := fixture(t, attacked)
	good := bindTo(t, compile(t, r, plugins.PVCL()), c, sc, sandbox.PoolOptions{Size: 1})
	q := simple(attacked)
	rank(t, good, q)
	want := slices.Clone(q.Score)
	kinds := make(map[string]int)
	var most int64
	for _, a := range hostile.Corpus() {
		t.Run(a.Name, func(t *testing.T) {
			wasm, err := a.Wasm()
			if err != nil {
				t.Fatal(err)
			}
			files, begin := openFiles(t), residentMemory(t, true)
			kinds[attack(t, r, &a, wasm)]++
			if grown := residentMemory(t, false) - begin; grown > swollen {
				t.Errorf("the server grew by %d MB", grown>>20)
			} else if most < grown {
				most = grown
				t.Logf("the server grew by %d MB", grown>>20)
			}
			if now := openFiles(t); now != files {
				t.Errorf("%d files are open, and %d were before", now, files)
			}
			q := simple(attacked)
			rank(t, good, q)
			if !slices.Equal(q.Score, want) {
				t.Error("a good strategy gives other scores afterwards")
			}
		})
	}
	t.Logf("attacks by their end: %v", kinds)
	if got := good.Stats(); got.Faults+got.Replaced != 0 {
		t.Errorf("the good strategy: %+v", got)
	}
}

// attack runs an attack, and returns how it ended.
func attack(t *testing.T, r *sandbox.Runtime, a *hostile.Attack, wasm []byte) string {
	t.Helper()
	ctx := context.Background()
	m, err := r.Compile(ctx, wasm)
	if a.Refused != "" {
		invalidWith(t, err, a.Refused, "")
		return "refused: " + string(a.Refused)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := m.Close(ctx); err != nil {
			t.Error(err)
		}
	}()
	c, sc := fixture(t, attacked)
	s, err := m.Bind(ctx, c, sc, sandbox.PoolOptions{Size: 1})
	if a.Unbound != "" {
		invalidWith(t, err, a.Unbound, "")
		return "unbound: " + string(a.Unbound)
	}
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 { // each finds an instance that is as new
		q := simple(attacked)
		left, err := s.Left(q)
		fault := new(sandbox.FaultError)
		if !errors.As(err, &fault) || fault.Kind != a.Fault {
			t.Fatalf("call %d: error %v, want %s", i, err, a.Fault)
		}
		if q.FuelUsed > q.FuelLimit || q.FuelUsed < 0 || q.FuelLimit <= 0 {
			t.Errorf("call %d used %d units of %d", i, q.FuelUsed, q.FuelLimit)
		}
		if spent := a.Fault == sandbox.FaultFuel; spent != (left < 0) || left < -a.Overshoot || spent && q.FuelUsed != q.FuelLimit {
			t.Errorf("call %d: the counter is %d, and may be as low as -%d; %d of %d units are used", i, left, a.Overshoot, q.FuelUsed, q.FuelLimit)
		}
	}
	return "fault: " + string(a.Fault)
}

// openFiles returns how many files the process has open, where it can know.
func openFiles(t *testing.T) int {
	t.Helper()
	if runtime.GOOS != "linux" {
		return 0
	}
	names, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(names)
}
