package journal_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"rapport/profilestore/journal"
)

func TestReplayFrom(t *testing.T) {
	j := mustOpen(t, t.TempDir(), journal.Options{SegmentBytes: 200})
	var want []string
	if got := mustReplay(t, j, 0); len(got) > 0 {
		t.Errorf("an empty journal gave %q", got)
	}
	for i := range 50 {
		want = append(want, fmt.Sprint(i))
		mustAppend(t, j, want[i])
	}
	for from := range uint64(53) {
		if got := mustReplay(t, j, from); !slices.Equal(got, want[min(max(from, 1)-1, 50):]) {
			t.Errorf("from %d: %q", from, got)
		}
	}
}

func TestReplayEnds(t *testing.T) {
	j := mustOpen(t, t.TempDir(), journal.Options{SegmentBytes: 10_000})
	for range 10 {
		mustAppend(t, j, make([]string, 500)...)
	}
	stop := errors.New("enough")
	n := 0
	err := j.Replay(t.Context(), 1, func(seq uint64, _ []byte) error {
		if n++; seq == 700 {
			return stop
		}
		return nil
	})
	if !errors.Is(err, stop) || n != 700 || !strings.Contains(err.Error(), "700") {
		t.Errorf("after %d records: %v", n, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	n = 0
	err = j.Replay(ctx, 1, func(uint64, []byte) error {
		if n++; n == 1000 {
			cancel()
		}
		return nil
	})
	if !errors.Is(err, context.Canceled) || n > 1500 {
		t.Errorf("after %d records: %v", n, err)
	}
}

// Replays beside appends see all that was durable when they began.
func TestReplayWhileAppending(t *testing.T) {
	j := mustOpen(t, t.TempDir(), journal.Options{SegmentBytes: 5000})
	var wg sync.WaitGroup
	var durable atomic.Uint64
	for g := range 4 {
		wg.Go(func() {
			for i := range 150 {
				seq := mustAppend(t, j, fmt.Sprint(g, i))
				for d := durable.Load(); d < seq && !durable.CompareAndSwap(d, seq); d = durable.Load() {
				}
			}
		})
	}
	for range 3 {
		wg.Go(func() {
			for before := uint64(0); before < 600; {
				before = durable.Load()
				if got := mustReplay(t, j, 0); uint64(len(got)) < before {
					t.Errorf("%d records, %d were durable", len(got), before)
				}
				runtime.Gosched()
			}
		})
	}
	wg.Wait()
	// fn may append.
	err := j.Replay(t.Context(), 595, func(seq uint64, _ []byte) error {
		_, err := j.Append(t.Context(), entries(fmt.Sprint("again ", seq))...)
		return err
	})
	if err != nil || j.Next() != 607 {
		t.Errorf("Next is %d, %v", j.Next(), err)
	}
}

// Damage that comes after Open is found, and what was before it is delivered.
func TestReplayFindsDamage(t *testing.T) {
	dir := t.TempDir()
	j := mustOpen(t, dir, journal.Options{SegmentBytes: 200})
	for i := range 20 {
		mustAppend(t, j, fmt.Sprint(i))
	}
	other := t.TempDir()
	k := mustOpen(t, other, journal.Options{SegmentBytes: 200})
	for i := range 20 {
		mustAppend(t, k, fmt.Sprint(i))
	}
	paths := segments(t, dir)
	for name, damage := range map[string]func(path string) error{
		"flip": func(path string) error {
			return os.WriteFile(path, append(read(t, path)[:50], make([]byte, 200)...), 0o600)
		},
		"cut":     func(path string) error { return os.Truncate(path, 60) },
		"no head": func(path string) error { return os.Truncate(path, 10) },
		"gone":    os.Remove,
		"other":   func(path string) error { return os.WriteFile(path, read(t, segments(t, other)[1]), 0o600) },
	} {
		before := read(t, paths[1])
		if err := damage(paths[1]); err != nil {
			t.Fatal(err)
		}
		got, err := replay(j, 1)
		var corrupt *journal.CorruptError
		if errors.As(err, &corrupt) == (name == "gone") || !strings.Contains(err.Error(), filepath.Base(paths[1])) {
			t.Errorf("%s: %v", name, err)
		}
		if len(got) < 3 || len(got) > 8 {
			t.Errorf("%s: %d records before the damage", name, len(got))
		}
		if err := os.WriteFile(paths[1], before, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// FuzzReplay opens and replays arbitrary bytes as a journal's only, or second, segment; with resummed, as damage that the
// checksums do not see.
func FuzzReplay(f *testing.F) {
	s := makeSample(f, true)
	first, second := read(f, segments(f, s.dir)[0]), read(f, s.last)
	f.Add(first, false, false)
	f.Add(second, true, false)
	f.Add(second[:100], true, true)
	f.Add(append(append(slices.Clone(second[:24]), make([]byte, 8)...), second[32:]...), true, true) // another journal's
	f.Add(first[:35], false, true)
	f.Add(append(slices.Clone(first), make([]byte, 1000)...), false, true)
	f.Add([]byte(strings.Repeat("\xf6GRP", 50)), true, true)
	f.Fuzz(func(t *testing.T, data []byte, behind, resummed bool) {
		dir, data := t.TempDir(), slices.Clone(data)
		if resummed {
			resum(data)
		}
		name, before := "00000000000000000001.journal", []string(nil)
		if behind {
			if err := os.WriteFile(filepath.Join(dir, name), first, 0o600); err != nil {
				t.Fatal(err)
			}
			name, before = filepath.Base(s.last), s.payloads(4)
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
		var m0, m1 runtime.MemStats
		runtime.ReadMemStats(&m0)
		j, err := journal.Open(dir, journal.Options{FS: &testFS{}})
		if err != nil {
			if !errors.As(err, new(*journal.CorruptError)) && !errors.Is(err, journal.ErrVersion) {
				t.Fatal(err)
			}
			return
		}
		got, err := replay(j, 0)
		if err != nil {
			// The corpus outlives the process, and with it the journal that its segments belong to.
			other := behind && len(data) >= 32 && !bytes.Equal(data[24:32], first[24:32])
			if !other || !errors.As(err, new(*journal.CorruptError)) || !strings.Contains(err.Error(), "another journal") {
				t.Error(err)
			}
			mustClose(t, j)
			return
		}
		runtime.ReadMemStats(&m1)
		if used := m1.TotalAlloc - m0.TotalAlloc; used > uint64(4<<20+20*len(data)) {
			t.Errorf("%d bytes allocated for a journal of %d", used, len(data))
		}
		if !slices.Equal(got[:min(len(got), len(before))], before) {
			t.Error("the first segment changed")
		}
		_, want, _, _ := naive(data)
		if got := got[len(before):]; len(got) > len(want) || !slices.Equal(got, want[:len(got)]) {
			t.Errorf("got %q, the naive reader %q", got, want)
		}
		mustAppend(t, j, "more")
		mustClose(t, j)
		wantReplay(t, mustOpen(t, dir, journal.Options{}), append(got, "more"))
	})
}
