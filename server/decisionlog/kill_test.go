package decisionlog_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"rapport/server/decisionlog"
)

const (
	// killDirEnv makes the test binary log to that folder until it is killed.
	killDirEnv = "RAPPORT_TEST_DECISIONLOG_KILL"
	// killAtEnv is after how many writes it kills itself within one; 0: never.
	killAtEnv = "RAPPORT_TEST_DECISIONLOG_KILL_AT"
)

// tornFS kills the process when half of a write is done.
type tornFS struct {
	lazyFS
	left *atomic.Int64
}

func (f tornFS) Create(path string) (decisionlog.File, error) {
	file, err := f.lazyFS.Create(path)
	return tornFile{file, f.left}, err
}

type tornFile struct {
	decisionlog.File
	left *atomic.Int64
}

func (f tornFile) Write(b []byte) (int, error) {
	if f.left.Add(-1) == 0 {
		_, _ = f.File.Write(b[:len(b)/2])
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
	return f.File.Write(b)
}

// logUntilKilled adds records and prints the id of the last of those that it knows to be
// written, and of the one that it adds next.
func logUntilKilled(dir string) int {
	n, err := strconv.Atoi(os.Getenv(killAtEnv))
	if err != nil {
		return 2
	}
	left := new(atomic.Int64)
	left.Store(int64(n))
	l, err := decisionlog.Open(decisionlog.Options{Dir: dir, SegmentBytes: 50_000, SyncEvery: 50 * time.Millisecond, FS: tornFS{left: left}})
	if err != nil {
		_, _ = fmt.Fprintln(os.Stderr, err)
		return 1
	}
	r := rand.New(rand.NewPCG(uint64(os.Getpid()), 1))
	var before ulid.ULID
	for i := uint64(1); ; i++ {
		id := idAt(time.Now().UnixMilli(), i)
		add(l, recordOf(r, id, i))
		if i%97 == 0 {
			if err := l.Write(context.Background()); err != nil {
				_, _ = fmt.Fprintln(os.Stderr, err)
				return 1
			}
			before = id
		}
		if _, err := fmt.Println(before, id); err != nil { //nolint:forbidigo // its parent reads it
			return 1
		}
	}
}

// TestKill9 kills a process that logs, again and again on one folder, at any time and
// within writes. What was written is there, what was not is a run of the last ones, none
// is another than was added, and the next process knows that something may be missing.
func TestKill9(t *testing.T) {
	dir := t.TempDir()
	r := rand.New(rand.NewPCG(3, 4))
	runs, written, lost, torn := 0, 0, 0, 0
	var ids []ulid.ULID // of all that was added and is to be there
	for i := range 10 {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		at := 0
		if i%2 == 1 {
			at = 1 + r.IntN(12)
		}
		cmd.Env = append(os.Environ(), killDirEnv+"="+dir, fmt.Sprintf("%s=%d", killAtEnv, at))
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var added []ulid.ULID
		var sure ulid.ULID
		lines := bufio.NewScanner(out)
		for until := 50 + r.IntN(1500); lines.Scan(); until-- {
			var a, b string
			if n, _ := fmt.Sscan(lines.Text(), &a, &b); n < 2 || len(b) < 26 {
				break // the last may be cut short
			}
			sure = ulid.MustParse(a)
			added = append(added, ulid.MustParse(b))
			if until == 0 && at == 0 {
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		_ = cmd.Wait()
		l := open(t, decisionlog.Options{Dir: dir, Now: time.Now, FS: lazyFS{}})
		got := each(t, l, decisionlog.Query{})
		there := make(map[ulid.ULID]bool)
		for _, id := range got {
			there[id] = true
		}
		for k, id := range ids {
			var found decisionlog.Record
			if !there[id] {
				t.Fatalf("run %d: %s of before is gone", i, id)
			}
			if k%50 == 0 {
				if err := l.Find(t.Context(), id, &found); err != nil {
					t.Fatal(err)
				}
			}
		}
		n := 0
		for n < len(added) && there[added[n]] {
			n++
		}
		if sure := slices.Index(added, sure) + 1; n < sure {
			t.Fatalf("run %d: %d were written, %d are there", i, sure, n)
		}
		for _, id := range added[n:] {
			if there[id] {
				t.Fatalf("run %d: %d are there, the next is not, %s is", i, n, id)
			}
			if got := why(t, l, id); got != decisionlog.AbsentLost {
				t.Fatalf("run %d: %s is absent for %d", i, id, got)
			}
		}
		if extra := len(got) - len(ids) - n; extra < 0 || extra > 1 { // one that was added and not printed
			t.Fatalf("run %d: %d records, %d of before and %d of this", i, len(got), len(ids), n)
		}
		ids = got
		s := l.Stats()
		if s.Damaged != 0 || s.Dropped() != 0 {
			t.Fatalf("%+v", s)
		}
		runs, written, lost, torn = runs+1, written+n, lost+len(added)-n, torn+int(s.Torn)
		mustClose(t, l)
	}
	if torn == 0 || lost == 0 {
		t.Error("nothing was lost or torn")
	}
	t.Logf("%d processes killed, %d records there, %d lost, torn files met %d times", runs, written, lost, torn)
}

// TestWhileOthersAdd searches while others add, flush, and remove.
func TestWhileOthersAdd(t *testing.T) {
	c := newClock()
	l := open(t, decisionlog.Options{Dir: t.TempDir(), FS: lazyFS{}, Now: c.now, SegmentBytes: 10_000, SyncEvery: 5 * time.Millisecond})
	const adders, each1 = 4, 1500
	ctx := t.Context()
	stop := make(chan struct{})
	errs := make(chan error, adders+3)
	var sent [adders]atomic.Int64
	for a := range adders {
		go func() {
			r := rand.New(rand.NewPCG(uint64(a), 1))
			for i := range each1 {
				add(l, recordOf(r, idAt(c.ms.Add(1), uint64(a)<<32|uint64(i)), uint64(a)+1))
				sent[a].Store(int64(i) + 1)
				if i%300 == 299 {
					if err := l.Flush(ctx); err != nil {
						errs <- err
						return
					}
				}
			}
			errs <- nil
		}()
	}
	var searches, removals atomic.Int64
	for k := range 3 {
		go func() {
			for {
				select {
				case <-stop:
					errs <- nil
					return
				default:
				}
				a := k % adders
				before := sent[a].Load()
				if k == 2 {
					l.Retain()
					removals.Add(1)
				}
				seen := make(map[uint64]bool)
				var last ulid.ULID
				err := l.Each(ctx, decisionlog.Query{Customer: (uint64(a) + 1) * 0x9e3779b97f4a7c15, Newest: k == 1}, func(r *decisionlog.Record) error {
					if c := r.ID.Compare(last); last != (ulid.ULID{}) && (c < 0) != (k == 1) {
						return fmt.Errorf("%s after %s", r.ID, last)
					}
					last = r.ID
					i := binary.BigEndian.Uint64(r.ID[8:]) & 0xffffffff
					if seen[i] {
						return errors.New("twice")
					}
					seen[i] = true
					return nil
				})
				if err == nil && int64(len(seen)) < before {
					err = fmt.Errorf("%d records of %d", len(seen), before)
				}
				if err != nil {
					errs <- err
					return
				}
				searches.Add(1)
				l.Stats()
			}
		}()
	}
	for range adders {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	close(stop)
	for range 3 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	flush(t, l)
	if got := len(each(t, l, decisionlog.Query{})); got != adders*each1 {
		t.Errorf("%d records", got)
	}
	t.Logf("%d searches, %d removals, %d segments", searches.Load(), removals.Load(), l.Stats().Segments)
}

// TestClosed: what was added before Close is there, what comes after is dropped, and what
// is there can be read.
func TestClosed(t *testing.T) {
	c := newClock()
	l := open(t, decisionlog.Options{FS: lazyFS{}, Now: c.now})
	kept := addSome(l, c, 50)
	mustClose(t, l)
	addSome(l, c, 3)
	kept.check(t, l, rand.New(rand.NewPCG(1, 1)))
	if s := l.Stats(); s.DroppedQueue != 3 || s.Written != 50 {
		t.Fatalf("%+v", s)
	}
	if err := l.Flush(t.Context()); !errors.Is(err, decisionlog.ErrClosed) {
		t.Fatal(err)
	}
	mustClose(t, l)
}

// TestStops: Each ends with its function and its context.
func TestStops(t *testing.T) {
	c := newClock()
	l := open(t, decisionlog.Options{FS: lazyFS{}, Now: c.now})
	addSome(l, c, 50)
	enough := errors.New("enough")
	n := 0
	if err := l.Each(t.Context(), decisionlog.Query{}, func(*decisionlog.Record) error {
		if n++; n == 7 {
			return enough
		}
		return nil
	}); !errors.Is(err, enough) || n != 7 {
		t.Fatal(n, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	n = 0
	if err := l.Each(ctx, decisionlog.Query{}, func(*decisionlog.Record) error {
		if n++; n == 9 {
			cancel()
		}
		return nil
	}); !errors.Is(err, context.Canceled) || n != 9 {
		t.Fatal(n, err)
	}
}

// TestEmpty: a log without anything.
func TestEmpty(t *testing.T) {
	o := decisionlog.Options{Dir: t.TempDir()}
	for range 3 {
		l := open(t, o)
		if got := each(t, l, decisionlog.Query{}); len(got) != 0 {
			t.Fatal(got)
		}
		if got := why(t, l, idAt(epoch, 1)); got != decisionlog.AbsentNever {
			t.Fatal(got)
		}
		flush(t, l)
		mustClose(t, l)
		if paths := segments(t, o.Dir); len(paths) != 0 {
			t.Fatal(paths)
		}
	}
}

// TestAddAllocates: who decides pays for a place in the queue and no more.
func TestAddAllocates(t *testing.T) {
	s := newScene(t, 100, 1)
	d := s.decide(0)
	l := open(t, decisionlog.Options{FS: lazyFS{}})
	if n := testing.AllocsPerRun(50, func() { l.Add(d) }); n > 1 { // fewer than wake the packer
		t.Errorf("%v allocations", n)
	}
}

// FuzzSegment reads segments that nobody has written.
func FuzzSegment(f *testing.F) {
	w := decisionlog.NewBlockWriter()
	w.Add(recordOf(rand.New(rand.NewPCG(1, 1)), idAt(epoch, 1), 1))
	block := w.AppendTo(nil)
	frame := decisionlog.FrameOf(block, false, 1, 7)
	f.Add(frame, uint8(0))
	f.Add(append(slices.Clone(frame), frame...), uint8(0))
	f.Add(block, uint8(1))
	f.Add(frame[80:], uint8(2))
	f.Add([]byte{}, uint8(1))
	f.Fuzz(func(t *testing.T, b []byte, how uint8) {
		segment := b
		if how%3 > 0 { // as the block of a frame with good checksums, packed or not: or nothing would get that far
			segment = decisionlog.FrameOf(b, how%3 == 2, 1, 7)
			segment = append(slices.Clone(segment), append(frame, segment...)...)
		}
		frames, records, damage, tail := decisionlog.Scan(segment, "00000007-20260101T000000.000Z.log")
		end := int64(0)
		for _, x := range frames {
			if x[0] < end || x[1] <= x[0] || x[1] > int64(len(segment)) {
				t.Fatal(frames)
			}
			end = x[1]
		}
		if tail < 0 || tail > int64(len(segment)) {
			t.Fatal(tail)
		}
		if how%3 > 0 && (len(frames) != 3 || len(records)+len(damage) != 3) {
			t.Fatalf("%d frames, %d records, %d damaged", len(frames), len(records), len(damage))
		}
	})
}
