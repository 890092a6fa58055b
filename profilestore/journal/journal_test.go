package journal_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"

	"rapport/profilestore/journal"
)

// Random calls, reopenings and replays against a slice.
func TestAgainstSlice(t *testing.T) {
	top, runs := t.TempDir(), 0
	rapid.Check(t, func(r *rapid.T) {
		runs++
		dir := filepath.Join(top, strconv.Itoa(runs))
		var want []string
		var j *journal.Journal
		var err error
		reopen := func() {
			if j != nil {
				if err := j.Close(); err != nil {
					r.Fatal(err)
				}
			}
			j, err = journal.Open(dir, journal.Options{
				FS:           &testFS{},
				SegmentBytes: rapid.SampledFrom([]int64{150, 1000, 0}).Draw(r, "segment bytes"),
				GroupEntries: rapid.SampledFrom([]int{1, 2, 7, 0}).Draw(r, "group entries"),
				CheckFrom:    rapid.Uint64Range(0, uint64(len(want))+2).Draw(r, "check from"),
			})
			if err != nil {
				r.Fatal(err)
			}
			if rec := j.Recovery(); rec.File != "" || len(want) > 0 && !rec.Sealed {
				r.Fatalf("recovery of a closed journal: %+v", rec)
			}
		}
		reopen()
		defer func() { _ = j.Close() }()
		size := rapid.OneOf(rapid.IntRange(0, 200), rapid.SampledFrom([]int{0, 0, 4096, 70_000}))
		r.Repeat(map[string]func(*rapid.T){
			"append": func(r *rapid.T) {
				var es []*journal.Entry
				for _, n := range rapid.SliceOfN(size, 1, 6).Draw(r, "sizes") {
					p := strings.Repeat(string(rune('a'+len(want)%26)), n)
					es = append(es, &journal.Entry{Payload: []byte(p)})
					want = append(want, p)
				}
				first, err := j.Append(context.Background(), es...)
				if err != nil || first != uint64(len(want)-len(es)+1) {
					r.Fatalf("Append = %d, %v", first, err)
				}
			},
			"reopen": func(*rapid.T) { reopen() },
			"replay": func(r *rapid.T) {
				from := rapid.Uint64Range(0, uint64(len(want))+2).Draw(r, "from")
				got, err := replay(j, from)
				if err != nil {
					r.Fatal(err)
				}
				if !slices.Equal(got, want[min(max(from, 1)-1, uint64(len(want))):]) {
					r.Fatalf("replay from %d gave %d of %d records", from, len(got), len(want))
				}
			},
			"": func(r *rapid.T) {
				if j.Next() != uint64(len(want))+1 || j.Err() != nil {
					r.Fatalf("Next is %d after %d records, Err %v", j.Next(), len(want), j.Err())
				}
			},
		})
	})
}

// What is on disk is what format.go says.
func TestFormat(t *testing.T) {
	dir := t.TempDir()
	j := mustOpen(t, dir, journal.Options{SegmentBytes: 120})
	mustAppend(t, j, "one", "", "three")
	mustAppend(t, j, strings.Repeat("4", 100))
	mustAppend(t, j, "five")
	mustClose(t, j)
	var got []string
	for i, path := range segments(t, dir) {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		first, payloads, ends, err := naive(b)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		if want := fmt.Sprintf("%020d.journal", len(got)+1); filepath.Base(path) != want || first != uint64(len(got)+1) {
			t.Errorf("segment %s starts with %d, want %s", path, first, want)
		}
		if len(ends) != 2 {
			t.Errorf("segment %d has %d groups, want records and a seal", i, len(ends))
		}
		got = append(got, payloads...)
	}
	if want := []string{"one", "", "three", strings.Repeat("4", 100), "five"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestOrder(t *testing.T) {
	const goroutines, each = 64, 40
	dir := t.TempDir()
	var committed []string // by the one goroutine that may
	var last atomic.Uint64
	o := journal.Options{SegmentBytes: 10_000, GroupEntries: 50, Committed: func(seq uint64, e *journal.Entry) {
		if !last.CompareAndSwap(seq-1, seq) {
			t.Errorf("committed %d after %d", seq, last.Load())
		}
		if e.Tag != string(e.Payload) {
			t.Errorf("tag is %v, payload %q", e.Tag, e.Payload)
		}
		committed = append(committed, string(e.Payload))
	}}
	j := mustOpen(t, dir, o)
	var wg sync.WaitGroup
	numbers := make([][]uint64, goroutines)
	for g := range goroutines {
		wg.Go(func() {
			for i := range each {
				p := fmt.Sprintf("%d/%d", g, i)
				seq, err := j.Append(t.Context(), &journal.Entry{Payload: []byte(p), Tag: p})
				if err != nil {
					t.Error(err)
					return
				}
				if last.Load() < seq {
					t.Errorf("Append of %d returned before Committed was called", seq)
				}
				numbers[g] = append(numbers[g], seq)
			}
		})
	}
	wg.Wait()
	mustClose(t, j)
	for g, seqs := range numbers {
		if !slices.IsSorted(seqs) {
			t.Errorf("numbers of goroutine %d are not in its order", g)
		}
		for i, seq := range seqs {
			if want := fmt.Sprintf("%d/%d", g, i); committed[seq-1] != want {
				t.Fatalf("record %d was committed as %s, Append said %s", seq, committed[seq-1], want)
			}
		}
	}
	wantReplay(t, mustOpen(t, dir, journal.Options{}), committed)
}

// Calls larger than a group keep together, among small ones that never leave much room.
func TestLargeCallsKeepTogether(t *testing.T) {
	j := mustOpen(t, t.TempDir(), journal.Options{GroupEntries: 8})
	var wg sync.WaitGroup
	for g := range 12 {
		wg.Go(func() {
			n := []int{1, 3, 8, 30}[g%4]
			for range 10 {
				payloads := make([]string, n)
				for i := range payloads {
					payloads[i] = fmt.Sprintf("%d/%d", g, i)
				}
				first, err := j.Append(t.Context(), entries(payloads...)...)
				if err != nil {
					t.Error(err)
					return
				}
				if got := mustReplay(t, j, first); len(got) < n || !slices.Equal(got[:n], payloads) {
					t.Errorf("from %d on there is %q, want %q", first, got[:min(n, len(got))], payloads)
				}
			}
		})
	}
	wg.Wait()
}

func TestAppendRefuses(t *testing.T) {
	j := mustOpen(t, t.TempDir(), journal.Options{})
	var large *journal.TooLargeError
	_, err := j.Append(t.Context(), append(entries("good"), &journal.Entry{Payload: make([]byte, journal.MaxPayload+1)})...)
	if !errors.As(err, &large) || large.Index != 1 || large.Size != journal.MaxPayload+1 {
		t.Errorf("too large: %v", err)
	}
	if _, err = j.Append(t.Context(), nil); err == nil {
		t.Error("a nil entry was accepted")
	}
	if first, err := j.Append(t.Context()); first != 0 || err != nil {
		t.Errorf("no entries: %d, %v", first, err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err = j.Append(ended, entries("late")...); !errors.Is(err, context.Canceled) || errors.Is(err, journal.ErrUnconfirmed) {
		t.Errorf("ended context: %v", err)
	}
	wantReplay(t, j, nil)
	for _, o := range []journal.Options{{SegmentBytes: -1}, {GroupEntries: -1}, {GroupEntries: 2049}, {GroupDelay: -1}, {GroupQuiet: -1}} {
		if j, err := journal.Open(t.TempDir(), o); err == nil {
			_ = j.Close()
			t.Errorf("opened with %+v", o)
		}
	}
}

func TestPayloadIsCopied(t *testing.T) {
	j := mustOpen(t, t.TempDir(), journal.Options{})
	e := &journal.Entry{Payload: []byte("aaa")}
	for _, c := range "abc" {
		copy(e.Payload, strings.Repeat(string(c), 3))
		if _, err := j.Append(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	wantReplay(t, j, []string{"aaa", "bbb", "ccc"})
}

func TestCloseWhileAppending(t *testing.T) {
	dir := t.TempDir()
	j := mustOpen(t, dir, journal.Options{GroupEntries: 4, SegmentBytes: 2000})
	var wg sync.WaitGroup
	var mu sync.Mutex
	acknowledged := map[uint64]string{}
	var many atomic.Int64
	enough := make(chan struct{})
	for g := range 16 {
		wg.Go(func() {
			n := []int{1, 1, 2, 11}[g%4]
			for i := 0; ; i++ {
				payloads := make([]string, n)
				for k := range payloads {
					payloads[k] = fmt.Sprintf("%d/%d/%d", g, i, k)
				}
				first, err := j.Append(context.Background(), entries(payloads...)...)
				if err != nil {
					if !errors.Is(err, journal.ErrClosed) || errors.Is(err, journal.ErrUnconfirmed) {
						t.Error(err)
					}
					return
				}
				if many.Add(1) == 200 {
					close(enough)
				}
				mu.Lock()
				for k, p := range payloads {
					acknowledged[first+uint64(k)] = p
				}
				mu.Unlock()
			}
		})
	}
	<-enough
	for range 3 {
		wg.Go(func() {
			if err := j.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if err := j.Replay(t.Context(), 1, nil); !errors.Is(err, journal.ErrClosed) {
		t.Errorf("Replay after Close: %v", err)
	}
	j = mustOpen(t, dir, journal.Options{})
	if !j.Recovery().Sealed {
		t.Error("not sealed")
	}
	want := make([]string, len(acknowledged))
	for seq, p := range acknowledged {
		want[seq-1] = p
	}
	wantReplay(t, j, want) // nothing but what was acknowledged: ErrClosed means not written
}

func TestCloseTwiceAndAfterFailure(t *testing.T) {
	j := mustOpen(t, t.TempDir(), journal.Options{})
	mustClose(t, j)
	mustClose(t, j)
	if _, err := j.Append(t.Context(), entries("late")...); !errors.Is(err, journal.ErrClosed) {
		t.Errorf("Append after Close: %v", err)
	}
}

func TestHugeAndEmpty(t *testing.T) {
	dir := t.TempDir()
	j := mustOpen(t, dir, journal.Options{SegmentBytes: 3 << 20})
	want := []string{"", strings.Repeat("x", journal.MaxPayload), "", strings.Repeat("y", journal.MaxPayload-1), ""}
	for range 3 {
		mustAppend(t, j, want...)
	}
	want = slices.Concat(want, want, want)
	wantReplay(t, j, want)
	mustClose(t, j)
	wantReplay(t, mustOpen(t, dir, journal.Options{}), want)
}

// Appending costs what a group costs: a channel and a ticket.
func TestAppendAllocations(t *testing.T) {
	j, err := journal.Open(t.TempDir(), journal.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer mustClose(t, j)
	e := &journal.Entry{Payload: make([]byte, 200)}
	ctx := context.Background()
	if n := testing.AllocsPerRun(200, func() { _, _ = j.Append(ctx, e) }); n > 3 {
		t.Errorf("%v allocations for one Append", n)
	}
}
