package journal_test

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"rapport/profilestore/journal"
)

// fill appends payloads 1 to n, each a group, until there are some segments.
func fill(t testing.TB, j *journal.Journal, n int) (payloads []string) {
	t.Helper()
	for i := range n {
		payloads = append(payloads, fmt.Sprint(i+1))
		mustAppend(t, j, payloads[i])
	}
	return payloads
}

func TestRemoveBefore(t *testing.T) {
	dir := t.TempDir()
	o := journal.Options{SegmentBytes: 200}
	j := mustOpen(t, dir, o)
	want := fill(t, j, 50)
	all, err := j.Segments()
	if err != nil || len(all) < 5 {
		t.Fatalf("%d segments, %v", len(all), err)
	}
	next := uint64(1)
	for _, s := range all {
		if s.First != next || s.Next <= s.First || s.Bytes <= 32 || s.Written.IsZero() || time.Since(s.Written) > time.Hour {
			t.Errorf("segment %+v, its first should be %d", s, next)
		}
		next = s.Next
	}
	if next != j.Next() || j.First() != 1 {
		t.Errorf("the segments end before %d, the journal before %d; the first is %d", next, j.Next(), j.First())
	}
	// One record of the third is to stay, and with it the segment.
	removed, err := j.RemoveBefore(all[2].Next - 1)
	if err != nil || !slices.Equal(removed, all[:2]) || j.First() != all[2].First {
		t.Fatalf("removed %+v, %v; the first is %d", removed, err, j.First())
	}
	if removed, err = j.RemoveBefore(all[2].First); err != nil || len(removed) > 0 {
		t.Errorf("removed again: %+v, %v", removed, err)
	}
	check := func(j *journal.Journal) {
		t.Helper()
		if got := mustReplay(t, j, j.First()); !slices.Equal(got, want[j.First()-1:]) {
			t.Errorf("what is left: %q", got)
		}
		err := j.Replay(t.Context(), j.First()-1, func(uint64, []byte) error { t.Error("called"); return nil })
		if !errors.Is(err, journal.ErrRemoved) {
			t.Errorf("a replay of what is gone: %v", err)
		}
	}
	check(j)
	if n := len(segments(t, dir)); n != len(all)-2 {
		t.Errorf("%d files are left of %d", n, len(all))
	}
	mustClose(t, j)
	if _, err := j.RemoveBefore(1000); !errors.Is(err, journal.ErrClosed) {
		t.Errorf("RemoveBefore after Close: %v", err)
	}
	for _, first := range []uint64{0, 1, all[2].First - 1} {
		o := o
		o.First = first
		if _, err := journal.Open(dir, o); err == nil || !strings.Contains(err.Error(), "a segment file is missing") {
			t.Errorf("Open that knows of records from %d on: %v", first, err)
		}
	}
	for _, first := range []uint64{all[2].First, all[2].First + 1, 1000} {
		o := o
		o.First = first
		j = mustOpen(t, dir, o)
		check(j)
		mustClose(t, j)
	}
	o.First = 1000
	j = mustOpen(t, dir, o)
	want = append(want, "more")
	mustAppend(t, j, "more")
	if _, err = j.RemoveBefore(1000); err != nil || len(segments(t, dir)) != 1 {
		t.Errorf("%v; %d segments are left", err, len(segments(t, dir)))
	}
	check(j)
	mustClose(t, j)
	if err := os.Remove(segments(t, dir)[0]); err != nil {
		t.Fatal(err)
	}
	if _, err := journal.Open(dir, o); err == nil || !strings.Contains(err.Error(), "no segment file") {
		t.Errorf("Open without any segment: %v", err)
	}
}

func TestRemoveBeforeWaitsForReaders(t *testing.T) {
	j := mustOpen(t, t.TempDir(), journal.Options{SegmentBytes: 200})
	want := fill(t, j, 50)
	var got []string
	if err := j.Replay(t.Context(), 0, func(_ uint64, p []byte) error {
		got = append(got, string(p))
		removed, err := j.RemoveBefore(40)
		if !errors.Is(err, journal.ErrReading) || len(removed) > 0 {
			t.Errorf("RemoveBefore within Replay: %v, %v", removed, err)
		}
		return nil
	}); err != nil || !slices.Equal(got, want) {
		t.Errorf("%v: %q", err, got)
	}
}

// What fails half-way leaves a journal that opens.
func TestRemoveBeforeFails(t *testing.T) {
	for n := range 6 {
		dir, calls := t.TempDir(), 0
		fs := &testFS{}
		armed := false
		fs.before = func(op, _ string) error {
			if armed && (op == "remove" || op == "syncdir") {
				if calls++; calls == n+1 {
					return errors.New("broken")
				}
			}
			return nil
		}
		j := mustOpen(t, dir, journal.Options{SegmentBytes: 200, FS: fs})
		want := fill(t, j, 50)
		armed = true
		removed, err := j.RemoveBefore(30)
		if err == nil {
			t.Fatalf("operation %d: no error", n)
		}
		if got := mustReplay(t, j, j.First()); !slices.Equal(got, want[j.First()-1:]) || len(removed) != (n+1)/2 {
			t.Errorf("operation %d: %d removed, %d left from %d", n, len(removed), len(got), j.First())
		}
		want = append(want, "more")
		mustAppend(t, j, "more")
		armed = false
		if _, err := j.RemoveBefore(30); err != nil {
			t.Error(err)
		}
		mustClose(t, j)
		j = mustOpen(t, dir, journal.Options{First: 30})
		if got := mustReplay(t, j, j.First()); !slices.Equal(got, want[j.First()-1:]) || j.First() < 20 {
			t.Errorf("operation %d: %d left from %d after a restart", n, len(got), j.First())
		}
		mustClose(t, j)
	}
}

func TestList(t *testing.T) {
	if list, err := journal.List(t.TempDir()); err != nil || len(list) > 0 {
		t.Errorf("an empty folder: %v, %v", list, err)
	}
	if _, err := journal.List("testdata/nowhere"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no folder: %v", err)
	}
	dir := t.TempDir()
	j := mustOpen(t, dir, journal.Options{SegmentBytes: 200})
	fill(t, j, 50)
	want, err := j.Segments()
	if err != nil {
		t.Fatal(err)
	}
	got, err := journal.List(dir)
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%v:\n%+v, want\n%+v", err, got, want)
	}
}
