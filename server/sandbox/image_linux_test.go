//go:build amd64 || arm64

package sandbox_test

import (
	"context"
	"os"
	"strconv"
	"strings"
	"testing"
	"unsafe"

	"rapport/plugins"
	"rapport/server/sandbox"
)

// resources are what a leak would be seen in.
type resources struct {
	files, images int
	size          int // of the process's addresses, in KiB
}

func resourcesNow(t *testing.T) (r resources) {
	t.Helper()
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip(err)
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Skip(err)
	}
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Skip(err)
	}
	_, text, _ := strings.Cut(string(status), "VmSize:")
	if r.size, err = strconv.Atoi(strings.Fields(text)[0]); err != nil {
		t.Fatal(err)
	}
	r.files, r.images = len(files), strings.Count(string(maps), "rapport-image")
	return r
}

// What strategies had is given back when they are closed, when they can't be
// bound, and when their instances are replaced.
func TestMemoryIsGivenBack(t *testing.T) {
	const rounds, size = 20, 3
	ctx, kinds := context.Background(), restores(t)
	r := newRuntime(t, sandbox.Options{})
	c, sc := fixture(t, 20)
	// Gives no arena to a scenario with candidates.
	bad := compile(t, r, guest{arena: cat(get(0), i32(400), []byte{0x4d}, i32(arenaAt), i32mul)}.bytes()) // i32.le_u
	good := []*sandbox.Module{compile(t, r, plugins.PVCL()), compile(t, r, wild())}
	round := func() {
		for _, m := range good {
			for _, kind := range kinds {
				s := bindTo(t, m, c, sc, sandbox.PoolOptions{Size: size, Restore: kind})
				for i := range 8 {
					q := simple(20)
					q.Seed = []uint64{0, wildGrows, wildTraps, 5 << wildWrites}[i%4]
					_ = outcome(s, q)
				}
				if err := s.Close(ctx); err != nil {
					t.Fatal(err)
				}
				if got := s.Stats(); got.Private != 0 {
					t.Fatalf("stats after Close: %+v", got)
				}
			}
		}
		if s, err := bad.Bind(ctx, c, sc, sandbox.PoolOptions{}); err == nil {
			t.Fatalf("bound %+v", s.Stats())
		}
	}
	round()
	before := resourcesNow(t)
	for range rounds {
		round()
	}
	after := resourcesNow(t)
	t.Logf("%d rounds: %+v, then %+v", rounds, before, after)
	// An instance reserves 32 MiB, and each round makes some 80 of them.
	if after.files != before.files || after.images != before.images || after.size-before.size > 1<<20 {
		t.Errorf("before %+v, after %+v", before, after)
	}
	if before.images != 0 {
		t.Errorf("%d images are mapped though no strategy is bound", before.images)
	}
}

// While a strategy is bound, its image has one file, whatever the pool's size.
func TestImageIsKeptOnce(t *testing.T) {
	r := newRuntime(t, sandbox.Options{})
	m := compile(t, r, plugins.PVCL())
	c, sc := fixture(t, 20)
	before := resourcesNow(t)
	s := bindTo(t, m, c, sc, sandbox.PoolOptions{Size: 5, Restore: sandbox.RestorePages})
	bound := resourcesNow(t)
	if bound.files != before.files+1 || bound.images != before.images+5+1 {
		t.Errorf("before %+v, bound %+v", before, bound)
	}
	if err := s.Close(context.Background()); err != nil {
		t.Error(err)
	}
	if after := resourcesNow(t); after.files != before.files || after.images != before.images {
		t.Errorf("before %+v, after %+v", before, after)
	}
}

// Without addresses there is an error, and not a panic in wazero; a memory grows
// in its place, up to its maximum.
func TestAddressesThatCanNotBeHad(t *testing.T) {
	memory, grown, err := sandbox.ReserveTooMuch()
	if len(memory) != 65536 || len(grown) != 2*65536 || err == nil {
		t.Errorf("%d bytes, grown to %d, error %v", len(memory), len(grown), err)
	}
	first, more, over, err := sandbox.GrowTooMuch()
	if len(first) != 65536 || len(more) != 2*65536 || over != nil || err != nil || unsafe.SliceData(first) != unsafe.SliceData(more) {
		t.Errorf("%d bytes, grown to %d and %d, error %v", len(first), len(more), len(over), err)
	}
}
