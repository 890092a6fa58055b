package journal_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"rapport/profilestore/journal"
)

// gate is a file system whose syncs of segments wait while it is shut.
type gate struct {
	testFS
	at   chan struct{} // gets a token when a sync arrives
	open chan struct{} // closed to let all pass
}

func newGate() *gate {
	g := &gate{at: make(chan struct{}, 1000), open: make(chan struct{})}
	armed := false // the first sync makes the segment
	g.before = func(op, _ string) error {
		if op == "sync" && armed {
			g.at <- struct{}{}
			<-g.open
		}
		armed = armed || op == "sync"
		return nil
	}
	return g
}

// waitNext waits until the journal has accepted entries up to the one before next.
func waitNext(j *journal.Journal, next uint64) {
	for j.Next() < next {
		runtime.Gosched()
	}
}

// The first group's sync waits until all 500 have come: then there are two groups, however the goroutines run.
func TestFiveHundredAtOnce(t *testing.T) {
	g := newGate()
	j := mustOpen(t, t.TempDir(), journal.Options{FS: g})
	var wg sync.WaitGroup
	for i := range 500 {
		wg.Go(func() {
			if _, err := j.Append(t.Context(), entries(fmt.Sprint(i))...); err != nil {
				t.Error(err)
			}
		})
	}
	waitNext(j, 501)
	close(g.open)
	wg.Wait()
	if n, counted := g.count("sync "), j.Syncs(); n > 3 || counted > 2 {
		t.Errorf("%d syncs (one of them for the header), %d groups for 500 entries", n, counted)
	}
}

// Nothing holds them up: about one sync, how many depends on the machine.
func TestFiveHundredAtOnceOnDisk(t *testing.T) {
	j := mustOpen(t, t.TempDir(), journal.Options{FS: &testFS{durable: true}})
	start := make(chan struct{})
	var wg sync.WaitGroup
	for i := range 500 {
		wg.Go(func() {
			<-start
			if _, err := j.Append(t.Context(), entries(fmt.Sprint(i))...); err != nil {
				t.Error(err)
			}
		})
	}
	close(start)
	wg.Wait()
	t.Logf("%d syncs for 500 entries", j.Syncs())
	if j.Syncs() > 100 {
		t.Errorf("%d syncs for 500 entries", j.Syncs())
	}
}

// A full group does not wait for quiet, nor for the delay.
func TestFullGroupGoes(t *testing.T) {
	var groups []int
	j := mustOpen(t, t.TempDir(), journal.Options{
		GroupEntries: 100, GroupQuiet: time.Hour, GroupDelay: time.Hour,
		OnSync: func(entries, _ int, _ time.Duration) { groups = append(groups, entries) },
	})
	var wg sync.WaitGroup
	for range 300 {
		wg.Go(func() {
			if _, err := j.Append(t.Context(), entries("x")...); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	mustClose(t, j)
	if !slices.Equal(groups, []int{100, 100, 100}) {
		t.Errorf("groups of %v", groups)
	}
}

// A lone entry goes after the quiet spell, and in any case after the delay; that these return is the test.
func TestLoneEntryGoes(t *testing.T) {
	for _, o := range []journal.Options{
		{GroupDelay: time.Hour},
		{GroupQuiet: time.Hour, GroupDelay: time.Millisecond},
	} {
		mustAppend(t, mustOpen(t, t.TempDir(), o), "x")
	}
}

// What does not fit makes the group go.
func TestNoRoomMakesTheGroupGo(t *testing.T) {
	j := mustOpen(t, t.TempDir(), journal.Options{GroupEntries: 10, GroupQuiet: time.Hour, GroupDelay: time.Hour})
	var wg sync.WaitGroup
	wg.Go(func() { mustAppend(t, j, make([]string, 7)...) })
	waitNext(j, 8)
	wg.Go(func() { mustAppend(t, j, make([]string, 10)...) })
	wg.Wait()
	if j.Syncs() != 2 {
		t.Errorf("%d groups", j.Syncs())
	}
}

func TestLargeCallIsSplit(t *testing.T) {
	var groups []int
	j := mustOpen(t, t.TempDir(), journal.Options{
		GroupEntries: 10, OnSync: func(entries, _ int, _ time.Duration) { groups = append(groups, entries) },
	})
	mustAppend(t, j, make([]string, 25)...)
	if j.Syncs() != 3 {
		t.Errorf("%d syncs", j.Syncs())
	}
	mustClose(t, j)
	if !slices.Equal(groups, []int{10, 10, 5}) {
		t.Errorf("groups of %v", groups)
	}
}

// Memory is bounded: with one group under way and one full, a further call waits outside.
func TestContextEnds(t *testing.T) {
	g := newGate()
	dir := t.TempDir()
	j := mustOpen(t, dir, journal.Options{FS: g, GroupEntries: 2})
	var held, wg sync.WaitGroup
	held.Go(func() { mustAppend(t, j, "under way") })
	<-g.at

	gathering, cancelGathering := context.WithCancel(t.Context())
	wg.Go(func() {
		_, err := j.Append(gathering, entries("gathering", "too")...)
		if !errors.Is(err, journal.ErrUnconfirmed) || !errors.Is(err, context.Canceled) {
			t.Errorf("while its group gathers: %v", err)
		}
	})
	waitNext(j, 4)
	outside, cancelOutside := context.WithCancel(t.Context())
	for range 3 { // one waits for room, the others for their turn
		wg.Go(func() {
			_, err := j.Append(outside, entries("outside")...)
			if errors.Is(err, journal.ErrUnconfirmed) || !errors.Is(err, context.Canceled) {
				t.Errorf("while it waits for room: %v", err)
			}
		})
	}
	for range 100 {
		runtime.Gosched()
	}
	cancelOutside()
	cancelGathering()
	wg.Wait()
	close(g.open)
	held.Wait()
	mustClose(t, j)
	wantReplay(t, mustOpen(t, dir, journal.Options{}), []string{"under way", "gathering", "too"})
}

// A call of several groups whose context ends between them: what was accepted stays, the rest is not written.
func TestContextEndsWithinLargeCall(t *testing.T) {
	g := newGate()
	dir := t.TempDir()
	j := mustOpen(t, dir, journal.Options{FS: g, GroupEntries: 2})
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		_, err := j.Append(ctx, entries("1", "2", "3", "4", "5")...)
		if !errors.Is(err, journal.ErrUnconfirmed) || !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	waitNext(j, 5) // one group under way, one full
	cancel()
	wg.Wait()
	close(g.open)
	mustClose(t, j)
	wantReplay(t, mustOpen(t, dir, journal.Options{}), []string{"1", "2", "3", "4"})
}

// Close lets a call that is half in the journal finish.
func TestCloseWithinLargeCall(t *testing.T) {
	g := newGate()
	j := mustOpen(t, t.TempDir(), journal.Options{FS: g, GroupEntries: 2})
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := j.Append(t.Context(), entries("1", "2", "3", "4", "5", "6", "7")...); err != nil {
			t.Error(err)
		}
	})
	waitNext(j, 5)
	wg.Go(func() { mustClose(t, j) })
	for !errors.Is(j.Replay(t.Context(), 100, nil), journal.ErrClosed) {
		runtime.Gosched()
	}
	if _, err := j.Append(t.Context(), entries("late")...); !errors.Is(err, journal.ErrClosed) {
		t.Errorf("an Append after Close: %v", err)
	}
	close(g.open)
	wg.Wait()
	if j.Next() != 8 {
		t.Errorf("Next is %d", j.Next())
	}
}
