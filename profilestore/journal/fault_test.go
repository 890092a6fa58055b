package journal_test

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"rapport/profilestore/journal"
)

// Every operation on the disk fails in turn, in each way it can. Nothing acknowledged is lost, nothing is acknowledged
// after the failure, and the journal does not touch the disk again but to close the file.
func TestEveryOperationFails(t *testing.T) {
	for _, fault := range []error{syscall.EIO, syscall.ENOSPC, errShort} {
		t.Run(fault.Error(), func(t *testing.T) {
			for n := 0; ; n++ {
				if !failOperation(t, n, fault) {
					t.Logf("%d operations", n)
					return
				}
			}
		})
	}
}

// failOperation runs a journal whose operation n fails; it returns false if there are not so many.
func failOperation(t *testing.T, n int, fault error) bool {
	dir := filepath.Join(t.TempDir(), "journal")
	failed, seen, failedAt := "", 0, 0
	fs := &testFS{}
	fs.before = func(op, path string) error {
		if errors.Is(fault, errShort) && op != "write" {
			return nil
		}
		if seen++; seen != n+1 {
			return nil
		}
		failedAt = len(fs.ops())
		failed = op + " " + filepath.Base(path)
		return fault
	}
	var acknowledged []string
	j, err := journal.Open(dir, journal.Options{FS: fs, SegmentBytes: 150})
	if err == nil {
		for i := range 8 {
			p := fmt.Sprintf("%d: %s", i, strings.Repeat("x", 20))
			if _, err := j.Append(t.Context(), entries(p)...); err == nil {
				acknowledged = append(acknowledged, p)
				continue
			} else if !errors.Is(err, journal.ErrFailed) || !errors.Is(err, cause(fault)) || errors.Is(err, journal.ErrUnconfirmed) {
				t.Fatalf("%s failed, Append: %v", failed, err)
			}
			if !errors.Is(j.Err(), journal.ErrFailed) || !strings.Contains(j.Err().Error(), dir) {
				t.Fatalf("%s failed, Err: %v", failed, j.Err())
			}
		}
		if got := mustReplay(t, j, 0); !slices.Equal(got, acknowledged) {
			t.Fatalf("%s failed, replayed %d of %d", failed, len(got), len(acknowledged))
		}
		before := fs.ops()
		err = j.Close()
		if err == nil && failed != "" {
			t.Fatalf("%s failed, nobody was told", failed)
		}
		if len(acknowledged) < 8 {
			if after := fs.ops()[len(before):]; len(after) > 1 || len(after) == 1 && !strings.HasPrefix(after[0], "close") {
				t.Fatalf("%s failed, then: %v", failed, after)
			}
		}
	} else if !errors.Is(err, cause(fault)) {
		t.Fatalf("%s failed, Open: %v", failed, err)
	}
	if failed != "" {
		after := fs.ops()[failedAt:]
		if len(after) > 1 || len(after) == 1 && !strings.HasPrefix(after[0], "close") {
			t.Fatalf("%s failed, then: %v", failed, after)
		}
	}
	// In a process that finds the disk mended:
	j = mustOpen(t, dir, journal.Options{})
	got := mustReplay(t, j, 0)
	if len(got) < len(acknowledged) || !slices.Equal(got[:len(acknowledged)], acknowledged) || len(got) > len(acknowledged)+1 {
		t.Fatalf("%s failed, replayed %q, acknowledged %q", failed, got, acknowledged)
	}
	mustAppend(t, j, "more")
	mustClose(t, j)
	return failed != ""
}

// cause is the error that a fault shows as.
func cause(fault error) error {
	if errors.Is(fault, errShort) {
		return io.ErrShortWrite
	}
	return fault
}

// A failed sync fails everybody who waits: in the group, in the next one, and outside.
func TestFailureReachesAll(t *testing.T) {
	g := newGate()
	hold := g.before
	g.before = func(op, path string) error {
		if err := hold(op, path); err != nil || op != "sync" {
			return err
		}
		select {
		case <-g.open:
			return syscall.EIO
		default:
			return nil
		}
	}
	j := mustOpen(t, t.TempDir(), journal.Options{FS: g, GroupEntries: 2})
	var wg sync.WaitGroup
	for i, n := range []int{1, 1, 1, 2, 2, 5, 7} {
		wg.Go(func() {
			if _, err := j.Append(t.Context(), entries(make([]string, n)...)...); !errors.Is(err, syscall.EIO) || !errors.Is(err, journal.ErrFailed) {
				t.Errorf("call %d: %v", i, err)
			}
		})
	}
	waitNext(j, 4)
	close(g.open)
	wg.Wait()
	writes := g.count("write")
	if _, err := j.Append(t.Context(), entries("late")...); !errors.Is(err, syscall.EIO) {
		t.Errorf("late: %v", err)
	}
	if err := j.Close(); !errors.Is(err, syscall.EIO) {
		t.Errorf("Close: %v", err)
	}
	if g.count("write") != writes || g.count("sync ") != 2 {
		t.Errorf("written after the failure: %v", g.ops())
	}
}

// What is synced, and in which order.
func TestOrderOfOperations(t *testing.T) {
	dir := t.TempDir()
	fs := &testFS{}
	j := mustOpen(t, dir, journal.Options{FS: fs, SegmentBytes: 100})
	mustAppend(t, j, "one")
	mustAppend(t, j, strings.Repeat("two", 10))
	mustClose(t, j)
	mustClose(t, mustOpen(t, dir, journal.Options{FS: fs}))
	const one, two = "00000000000000000001.journal", "00000000000000000002.journal"
	want := []string{
		"syncdir dir",                                                 // Open: the directory above
		"create " + one, "write " + one, "sync " + one, "syncdir dir", // the header
		"write " + one, "sync " + one, // a group
		"write " + one, "sync " + one, "close " + one, // the seal
		"create " + two, "write " + two, "sync " + two, "syncdir dir",
		"write " + two, "sync " + two,
		"write " + two, "sync " + two, "close " + two, // Close
		"syncdir dir", "open " + two, "write " + two, "sync " + two, "syncdir dir", // Open: the last group again
		"write " + two, "sync " + two, "close " + two,
	}
	if got := fs.ops(); !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
