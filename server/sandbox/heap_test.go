package sandbox_test

import (
	"bytes"
	"context"
	"os"
	"testing"
)

// heavyTests says that the long forms of tests are asked for.
var heavyTests = os.Getenv("RAPPORT_HEAVY") != "" && !underRace

// A Go guest finds memory ready for whatever it allocates, up to 4 MB: objects of
// all sizes, goroutines, panics, slices and maps that grow. No instance grows, so
// none is replaced, in 100,000 calls where they take microseconds, and where they
// take milliseconds in fewer.
func TestGoHeapIsReady(t *testing.T) {
	for name, c := range map[string]struct{ mode, calls, heavy int }{
		"a map, slices, pointers": {0, 100_000, 1_000_000},
		"a list":                  {3, 100_000, 1_000_000},
		"objects of all sizes":    {16, 10, 10_000},
		"goroutines and timers":   {18, 10, 10_000},
		"panics and errors":       {19, 10, 10_000},
		"slices and text, grown":  {20, 10, 10_000},
		"maps, grown":             {21, 10, 2_000},
	} {
		t.Run(name, func(t *testing.T) {
			calls := c.calls
			switch {
			case underRace:
				calls = 3
			case heavyTests:
				calls = c.heavy
			}
			s := trickyIn(t, c.mode, 2)
			q := simple(3)
			for i := range calls {
				q.Seed = uint64(i)
				rank(t, s, q)
			}
			if err := s.Close(context.Background()); err != nil {
				t.Error(err)
			}
			if got := s.Stats(); got.Replaced != 0 || got.Faults != 0 || got.Calls != uint64(calls) {
				t.Errorf("stats %+v", got)
			}
		})
	}
}

// A Go call changes few pages, so that it costs little to put them back: the
// frame, the stack, and what it allocates. Each page of Go's own books that is
// not needed was one too many.
func TestGoCallChangesFewPages(t *testing.T) {
	if underRace {
		t.Skip("the interpreter is too slow under the race detector")
	}
	const page = 4096
	_, wasm := goGuest(t, tricky)
	start := newBare(t, wasm)
	for name, c := range map[string]struct{ mode, most int }{
		"nothing":                 {99, 4},
		"a map, slices, pointers": {0, 14},
		"200 panics, recovered":   {19, 34},
		"64 KB in a list":         {3, 48},
	} {
		t.Run(name, func(t *testing.T) {
			b := start(map[string]float64{"mode": float64(c.mode)})
			before := bytes.Clone(b.memory())
			b.call(10)
			after, changed := b.memory(), 0
			if len(after) != len(before) {
				t.Errorf("the memory grew from %d to %d bytes", len(before), len(after))
			}
			for at := 0; at < len(before); at += page {
				if !bytes.Equal(before[at:at+page], after[at:at+page]) {
					changed++
				}
			}
			t.Logf("%d pages", changed)
			if changed > c.most {
				t.Errorf("%d pages; there were %d at most", changed, c.most)
			}
		})
	}
}
