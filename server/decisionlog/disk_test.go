package decisionlog_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"rapport/server/decide"
	"rapport/server/decisionlog"
)

// badFS is a disk on which what a test wants goes wrong.
type badFS struct {
	lazyFS

	mu     sync.Mutex
	room   int           // bytes that can be written; negative: any number
	sync   error         // what Sync returns
	stuck  chan struct{} // not nil: writes wait for it
	stuckS chan struct{} // not nil: syncs wait for it
	syncs  int
}

func (f *badFS) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

func (f *badFS) Create(path string) (decisionlog.File, error) {
	file, err := f.lazyFS.Create(path)
	if err != nil {
		return nil, err
	}
	return &badFile{file, f}, nil
}

type badFile struct {
	decisionlog.File
	fs *badFS
}

func (f *badFile) Write(b []byte) (int, error) {
	f.fs.mu.Lock()
	stuck := f.fs.stuck
	n := len(b)
	if f.fs.room >= 0 {
		n = min(n, f.fs.room)
		f.fs.room -= n
	}
	f.fs.mu.Unlock()
	if stuck != nil {
		<-stuck
	}
	n, err := f.File.Write(b[:n])
	if err == nil && n < len(b) {
		err = fmt.Errorf("write: %w", syscall.ENOSPC)
	}
	return n, err
}

func (f *badFile) Sync() error {
	f.fs.mu.Lock()
	f.fs.syncs++
	err, stuck := f.fs.sync, f.fs.stuckS
	f.fs.mu.Unlock()
	if stuck != nil {
		<-stuck
	}
	return err
}

func segments(t testing.TB, dir string) (paths []string) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(paths)
	return paths
}

// addSome adds n records, a millisecond and a customer each.
func addSome(l *decisionlog.Log, c *clock, n int) (added naive) {
	r := rand.New(rand.NewPCG(uint64(c.ms.Load()), 7))
	for i := range n {
		x := recordOf(r, idAt(c.ms.Add(1), uint64(i)), uint64(i)+1)
		add(l, x)
		added = append(added, x)
	}
	return added
}

// why returns why a decision is not found.
func why(t testing.TB, l *decisionlog.Log, id ulid.ULID) decisionlog.Absence {
	t.Helper()
	var r decisionlog.Record
	var missing *decisionlog.NotFoundError
	if err := l.Find(context.Background(), id, &r); !errors.As(err, &missing) {
		t.Fatalf("%s: %v", id, err)
	}
	return missing.Why
}

// never is an id of the time of another, of a decision that was not made.
func never(id ulid.ULID) ulid.ULID {
	id[15] ^= 0x55
	return id
}

// TestFullDisk: decisions go on, each that is lost is counted, files do not pile up, and
// the log goes on by itself when there is room; and who reads it later learns of the loss.
func TestFullDisk(t *testing.T) {
	for room := range 400 {
		if room > 160 && room%20 != 0 {
			continue
		}
		c := newClock()
		fs := &badFS{room: -1}
		o := decisionlog.Options{Dir: t.TempDir(), FS: fs, Now: c.now}
		l := open(t, o)
		kept := addSome(l, c, 5)
		flush(t, l)
		fs.set(func() { fs.room = room })
		var lost naive
		for range 30 {
			c.ms.Add(1000)
			some := addSome(l, c, 3)
			if err := l.Write(t.Context()); err == nil { // it went into what room there was
				kept = append(kept, some...)
				continue
			} else if !errors.Is(err, syscall.ENOSPC) {
				t.Fatal(err)
			}
			lost = append(lost, some...)
		}
		s := l.Stats()
		if len(lost) < 80 || s.DroppedWrite != uint64(len(lost)) || s.Written != uint64(len(kept)) || !errors.Is(s.Err, syscall.ENOSPC) || s.Waiting != 0 {
			t.Fatalf("room %d: %d kept, %d lost, %+v", room, len(kept), len(lost), s)
		}
		if n := len(segments(t, o.Dir)); n > 3 {
			t.Fatalf("room %d: %d files", room, n)
		}
		fs.set(func() { fs.room = -1 })
		c.ms.Add(1000)
		c.ms.Add(100_000)
		kept = append(kept, addSome(l, c, 5)...)
		flush(t, l)
		if s := l.Stats(); s.Err != nil || s.LastErr == nil || s.Records != uint64(len(kept)) {
			t.Fatalf("room %d: %+v", room, s)
		}
		for again := range 2 {
			kept.check(t, l, rand.New(rand.NewPCG(1, uint64(room))))
			if got := why(t, l, lost[7].ID); got != decisionlog.AbsentLost {
				t.Fatalf("room %d: a record that was lost is absent for %d", room, got)
			}
			if got := why(t, l, never(kept[len(kept)-1].ID)); got != decisionlog.AbsentNever {
				t.Fatalf("room %d: a record that never was is absent for %d", room, got)
			}
			if again == 0 {
				if err := l.Close(); err != nil {
					t.Fatal(err)
				}
				l = open(t, o)
			}
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestFailingSync: the records are there, Flush says that they may not stay, and what is
// then not found may have been lost.
func TestFailingSync(t *testing.T) {
	c := newClock()
	fs := &badFS{room: -1}
	l := open(t, decisionlog.Options{FS: fs, Now: c.now})
	all := addSome(l, c, 10)
	flush(t, l)
	fs.set(func() { fs.sync = syscall.EIO })
	bad := addSome(l, c, 10)
	if err := l.Flush(t.Context()); !errors.Is(err, syscall.EIO) {
		t.Fatal(err)
	}
	all = append(all, bad...)
	all.check(t, l, rand.New(rand.NewPCG(1, 1)))
	if s := l.Stats(); s.SyncErrors != 1 || s.Dropped() != 0 || s.Err != nil || s.LastErr == nil {
		t.Fatalf("%+v", s)
	}
	fs.set(func() { fs.sync = nil })
	all = append(all, addSome(l, c, 10)...)
	flush(t, l)
	all.check(t, l, rand.New(rand.NewPCG(1, 1)))
	if a, b := why(t, l, never(bad[3].ID)), why(t, l, never(all[3].ID)); a != decisionlog.AbsentLost || b != decisionlog.AbsentNever {
		t.Fatal(a, b)
	}
}

// TestStuckDisk: nobody who decides waits, what does not fit is dropped and counted, and
// the rest is written when the disk goes on.
func TestStuckDisk(t *testing.T) {
	c := newClock()
	fs := &badFS{room: -1}
	const queue = 4096 * 3000
	l := open(t, decisionlog.Options{FS: fs, Now: c.now, Queue: queue})
	kept := addSome(l, c, 100)
	flush(t, l)
	stuck := make(chan struct{})
	fs.set(func() { fs.stuck = stuck })
	var most int64
	r := rand.New(rand.NewPCG(1, 1))
	n := 0
	for s := l.Stats(); s.DroppedQueue < 1000; s = l.Stats() { // as long as the packed ones have room
		most = max(most, s.Waiting)
		x := recordOf(r, idAt(c.ms.Add(1), uint64(n)), uint64(n)+1)
		for range 100 {
			x.ID = idAt(c.ms.Add(1), uint64(n))
			y := *x
			add(l, &y)
			n++
		}
	}
	var found decisionlog.Record
	if err := l.Find(t.Context(), kept[50].ID, &found); err != nil {
		t.Fatal(err)
	}
	s := l.Stats()
	if s.DroppedQueue == 0 || s.DroppedQueue+s.Added != uint64(n)+100 || most > queue || most < queue/2 {
		t.Fatalf("at most %d waited, %+v", most, s)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := l.Flush(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	fs.set(func() { fs.stuck = nil })
	close(stuck)
	flush(t, l)
	s = l.Stats()
	if s.Written != s.Added || s.Records != s.Added || len(each(t, l, decisionlog.Query{})) != int(s.Added) {
		t.Fatalf("%+v", s)
	}
	t.Logf("%d of %d dropped, at most %d bytes waited", s.DroppedQueue, n, most)
}

// TestStuckSync: while a sync takes its time, records are written and found.
func TestStuckSync(t *testing.T) {
	c := newClock()
	stuck := make(chan struct{})
	fs := &badFS{room: -1, stuckS: stuck}
	l := open(t, decisionlog.Options{FS: fs, Now: c.now})
	var all naive
	done := make(chan error, 3)
	for range 3 {
		all = append(all, addSome(l, c, 500)...)
		go func() { done <- l.Flush(context.Background()) }()
		if err := l.Write(t.Context()); err != nil {
			t.Fatal(err)
		}
		all.check(t, l, rand.New(rand.NewPCG(1, 1)))
	}
	select {
	case err := <-done:
		t.Fatal("flushed before the sync", err)
	default:
	}
	close(stuck)
	for range 3 {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
}

// TestNoFolder: a log whose folder can't be used says so, drops, and begins when it can.
func TestNoFolder(t *testing.T) {
	c := newClock()
	dir := filepath.Join(t.TempDir(), "decisions")
	if err := os.WriteFile(dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	l := open(t, decisionlog.Options{Dir: dir, Now: c.now})
	addSome(l, c, 5)
	if err := l.Flush(t.Context()); err == nil {
		t.Fatal("flushed")
	}
	if s := l.Stats(); s.DroppedWrite != 5 || s.Err == nil {
		t.Fatalf("%+v", s)
	}
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	c.ms.Add(2000)
	kept := addSome(l, c, 5)
	flush(t, l)
	kept.check(t, l, rand.New(rand.NewPCG(1, 1)))
	if _, err := decisionlog.Open(decisionlog.Options{}); err == nil {
		t.Fatal("opened without a folder")
	}
}

// small writes a segment of three frames of two records, closed or as a process that was
// killed leaves it, and returns its name and bytes.
func small(t *testing.T, closed bool) (name string, content []byte, all naive) {
	t.Helper()
	c := newClock()
	o := decisionlog.Options{Dir: t.TempDir(), FS: lazyFS{}, Now: c.now}
	l := open(t, o)
	for range 3 {
		all = append(all, addSome(l, c, 2)...)
		if err := l.Write(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.ms.Add(60_000)
	}
	if closed {
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	paths := segments(t, o.Dir)
	if len(paths) != 1 {
		t.Fatal(paths)
	}
	content, err := os.ReadFile(paths[0])
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Base(paths[0]), content, all
}

// reopen opens a log that has one segment.
func reopen(t *testing.T, c *clock, name string, content []byte) (*decisionlog.Log, string) {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return open(t, decisionlog.Options{Dir: dir, FS: lazyFS{}, Now: c.now}), path
}

func mustClose(t *testing.T, l *decisionlog.Log) {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestTornTail cuts a segment at every byte.
func TestTornTail(t *testing.T) {
	name, content, all := small(t, false)
	frames, _, damage, tail := decisionlog.Scan(content, name)
	if len(frames) != 3 || len(damage) != 0 || tail != 0 {
		t.Fatal(frames, damage, tail)
	}
	torn := 0
	for n := range len(content) + 1 {
		c := newClock()
		c.ms.Add(600_000)
		l, path := reopen(t, c, name, content[:n])
		whole := 0
		for _, f := range frames {
			if f[1] <= int64(n) {
				whole++
			}
		}
		kept := slices.Clone(all[:2*whole])
		later := addSome(l, c, 2)
		flush(t, l)
		kept = append(kept, later...)
		if got, want := each(t, l, decisionlog.Query{}), kept.each(decisionlog.Query{}); !slices.Equal(got, want) {
			t.Fatalf("cut at %d: %d records, want %d", n, len(got), len(want))
		}
		if whole < 3 {
			if got := why(t, l, all[5].ID); got != decisionlog.AbsentLost {
				t.Fatalf("cut at %d: %d", n, got)
			}
		}
		if got := why(t, l, never(later[0].ID)); got != decisionlog.AbsentNever {
			t.Fatalf("cut at %d: %d", n, got)
		}
		torn += int(l.Stats().Torn)
		if s := l.Stats(); s.Damaged != 0 || s.Records != uint64(len(kept)) {
			t.Fatalf("cut at %d: %+v", n, s)
		}
		mustClose(t, l)
		if b, err := os.ReadFile(path); err != nil || !bytes.Equal(b, content[:n]) {
			t.Fatal("an old segment was written", err)
		}
	}
	t.Logf("%d cuts, %d within a frame", len(content)+1, torn)
}

// TestFlippedBits changes every byte of a segment: what is not in the frame that was hit
// is found, what is in it is damaged and never something else.
func TestFlippedBits(t *testing.T) {
	name, content, all := small(t, true)
	frames, _, _, _ := decisionlog.Scan(content, name)
	hits := map[string]int{}
	for n := range content {
		b := slices.Clone(content)
		b[n] ^= 1 << (n % 8)
		c := newClock()
		c.ms.Add(600_000)
		l, _ := reopen(t, c, name, b)
		var kept, hit naive
		for i, f := range frames {
			if int64(n) >= f[0] && int64(n) < f[1] {
				hit = all[2*i : 2*i+2]
			} else {
				kept = append(kept, all[2*i:2*i+2]...)
			}
		}
		var skipped []decisionlog.Damage
		q := decisionlog.Query{Skipped: func(d decisionlog.Damage) { skipped = append(skipped, d) }}
		if got, want := each(t, l, q), kept.each(q); !slices.Equal(got, want) {
			t.Fatalf("byte %d: %d records, want %d", n, len(got), len(want))
		}
		if n%16 == 0 {
			kept.check(t, l, rand.New(rand.NewPCG(uint64(n), 1)))
		}
		s := l.Stats()
		switch {
		case hit == nil:
			hits["no record"]++
		case s.Damaged != 1 || len(skipped) != 1 || skipped[0] != s.LastDamage || skipped[0].Offset > int64(n) || skipped[0].Offset+skipped[0].Bytes <= int64(n):
			t.Fatalf("byte %d: %+v, skipped %v", n, s, skipped)
		default:
			hits["records"]++
			if got := why(t, l, hit[1].ID); got != decisionlog.AbsentLost {
				t.Fatalf("byte %d: %d", n, got)
			}
			if got := why(t, l, never(all[5].ID)); hit[0] == all[0] && got != decisionlog.AbsentNever {
				t.Fatalf("byte %d, which is of the first frame, and what is absent from the last may be lost: %d", n, got)
			}
		}
		mustClose(t, l)
	}
	t.Log(hits)
}

// TestHoles overwrites stretches of a segment, as a loss of power can leave them.
func TestHoles(t *testing.T) {
	name, content, all := small(t, false)
	frames, _, _, _ := decisionlog.Scan(content, name)
	r := rand.New(rand.NewPCG(5, 6))
	var left [4]int
	for n := range 300 {
		b := slices.Clone(content)
		from := r.IntN(len(b))
		to := min(len(b), from+1+r.IntN(300))
		for i := from; i < to; i++ {
			if b[i] = 0; n%2 == 0 {
				b[i] = byte(r.Uint32())
			}
		}
		c := newClock()
		c.ms.Add(600_000)
		l, _ := reopen(t, c, name, b)
		var kept naive
		for i, f := range frames {
			if bytes.Equal(b[f[0]:f[1]], content[f[0]:f[1]]) {
				kept = append(kept, all[2*i:2*i+2]...)
			} else if got := why(t, l, all[2*i].ID); got != decisionlog.AbsentLost {
				t.Fatalf("hole of %d to %d: %d", from, to, got)
			}
		}
		kept = append(kept, addSome(l, c, 3)...)
		if got, want := each(t, l, decisionlog.Query{}), kept.each(decisionlog.Query{}); !slices.Equal(got, want) {
			t.Fatalf("hole of %d to %d: %d records, want %d", from, to, len(got), len(want))
		}
		left[(len(kept)-3)/2]++
		mustClose(t, l)
	}
	t.Logf("holes that left 0, 1, 2 and 3 frames: %v", left)
}

// TestOtherVersion: a file of another version is left alone and named.
func TestOtherVersion(t *testing.T) {
	name, content, all := small(t, true)
	other := slices.Clone(content[:8])
	other[7]++
	content = bytes.ReplaceAll(content, content[:8], other)
	c := newClock()
	c.ms.Add(600_000)
	l, path := reopen(t, c, name, content)
	if got := why(t, l, all[2].ID); got != decisionlog.AbsentLost {
		t.Fatal(got)
	}
	kept := addSome(l, c, 3)
	kept.check(t, l, rand.New(rand.NewPCG(1, 1)))
	mustClose(t, l)
	if b, err := os.ReadFile(path); err != nil || !bytes.Equal(b, content) {
		t.Fatal(err)
	}
}

// TestRetention: records end after their time whatever file they are in, files go by age
// and by size, and what went is named as expired.
func TestRetention(t *testing.T) {
	c := newClock()
	o := decisionlog.Options{Dir: t.TempDir(), FS: lazyFS{}, Now: c.now, Keep: 24 * time.Hour, SegmentAge: time.Hour}
	var held atomic.Bool
	var released atomic.Int64
	held.Store(true)
	o.Removal = func() (release func(), err error) {
		if held.Load() {
			return nil, nil
		}
		return func() { released.Add(1) }, nil
	}
	l := open(t, o)
	var all naive
	for range 40 {
		all = append(all, addSome(l, c, 4)...)
		flush(t, l)
		c.ms.Add(30 * 60_000)
	}
	if n := len(segments(t, o.Dir)); n < 18 || n > 22 {
		t.Fatal(n)
	}
	c.ms.Store(int64(all[80].ID.Time()) + 24*3_600_000)
	all[80:].check(t, l, rand.New(rand.NewPCG(1, 1)))
	if got := why(t, l, all[79].ID); got != decisionlog.AbsentExpired {
		t.Fatal(got)
	}
	l.Retain()
	if s := l.Stats(); s.Removed != 0 {
		t.Fatalf("%d removed while a backup copies them", s.Removed)
	}
	held.Store(false)
	l.Retain()
	s := l.Stats()
	if released.Load() == 0 {
		t.Fatal("nobody was told that the files are gone")
	}
	if s.Removed < 9 || s.Segments != len(segments(t, o.Dir)) || s.Records > 84 {
		t.Fatalf("%+v", s)
	}
	all[80:].check(t, l, rand.New(rand.NewPCG(1, 1)))
	mustClose(t, l)
	o.MaxBytes = s.Bytes / 2
	l = open(t, o)
	flush(t, l)
	l.Retain()
	s = l.Stats()
	if s.Bytes > o.MaxBytes || s.Records == 0 || s.Records > 50 || s.Segments != len(segments(t, o.Dir)) {
		t.Fatalf("%+v, at most %d bytes", s, o.MaxBytes)
	}
	kept := all[len(all)-int(s.Records):]
	kept.check(t, l, rand.New(rand.NewPCG(1, 1)))
	if got := why(t, l, all[len(all)-int(s.Records)-1].ID); got != decisionlog.AbsentExpired {
		t.Fatal(got)
	}
	if !s.Oldest.Equal(ulid.Time(kept[0].ID.Time())) {
		t.Fatal(s.Oldest)
	}
	c.ms.Add(48 * 3_600_000)
	if ids := each(t, l, decisionlog.Query{}); len(ids) != 0 {
		t.Fatal(ids)
	}
}

// TestPanic: a decision that can't be encoded is counted, and the others are kept.
func TestPanic(t *testing.T) {
	s := newScene(t, 5, 3)
	l := open(t, decisionlog.Options{FS: lazyFS{}})
	var made []*decisionlog.Decision
	for n := range 9 {
		d := s.decide(n)
		if n == 4 {
			d.Answers[0].Degradations = []decide.Degradation{{Step: decide.StepFallback}}
			d.Detail = func(int, decide.Degradation) string { panic("a mistake") }
		}
		made = append(made, d)
		l.Add(d)
	}
	flush(t, l)
	st := l.Stats()
	if st.DroppedFault != 1 || st.Written != 8 || st.LastErr == nil || !strings.Contains(st.LastErr.Error(), "a mistake") {
		t.Fatalf("%+v", st)
	}
	for n, d := range made {
		var got, want decisionlog.Record
		if n == 4 {
			if got := why(t, l, d.ID); got != decisionlog.AbsentLost {
				t.Fatal(got)
			}
			continue
		}
		if err := l.Find(t.Context(), d.ID, &got); err != nil {
			t.Fatal(err)
		}
		d.Record(&want)
		w := decisionlog.NewBlockWriter()
		w.Add(&want)
		b, err := decisionlog.ReadBlock(w.AppendTo(nil))
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Record(0, &want); err != nil {
			t.Fatal(err)
		}
		if text(&got) != text(&want) {
			t.Fatalf("got\n%s\nwant\n%s", text(&got), text(&want))
		}
	}
}

// TestBetweenLosses: what is absent between two losses was never there, as long as the
// process knows; later ones know only that a file has no end.
func TestBetweenLosses(t *testing.T) {
	c := newClock()
	fs := &badFS{room: -1}
	o := decisionlog.Options{Dir: t.TempDir(), FS: fs, Now: c.now}
	l := open(t, o)
	var lost, kept []naive
	for range 2 {
		kept = append(kept, addSome(l, c, 3))
		flush(t, l)
		c.ms.Add(20_000)
		fs.set(func() { fs.room = 0 })
		lost = append(lost, addSome(l, c, 3))
		if err := l.Write(t.Context()); !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
		fs.set(func() { fs.room = -1 })
		c.ms.Add(20_000)
	}
	kept = append(kept, addSome(l, c, 3))
	flush(t, l)
	for again := range 2 {
		for i := range lost {
			if a, b := why(t, l, lost[i][1].ID), why(t, l, never(kept[i+1][1].ID)); a != decisionlog.AbsentLost || again == 0 && b != decisionlog.AbsentNever {
				t.Fatal(i, a, b)
			}
		}
		mustClose(t, l)
		l = open(t, o)
	}
}
