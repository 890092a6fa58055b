package ledger_test

import (
	"bufio"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"rapport/profilestore"
	"rapport/server/ledger"
)

const killDirEnv = "RAPPORT_TEST_LEDGER_KILL"

func TestMain(m *testing.M) {
	if dir := os.Getenv(killDirEnv); dir != "" {
		os.Exit(reserveUntilKilled(dir))
	}
	goleak.VerifyTestMain(m)
}

func open(t testing.TB, dir string, o ledger.Options) *ledger.Ledger {
	t.Helper()
	if o.SyncEvery == 0 {
		o.SyncEvery = -1
	}
	l, err := ledger.Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func begin(t testing.TB, l *ledger.Ledger, now int64, names ...string) *ledger.Hold {
	t.Helper()
	h, err := l.Begin(context.Background(), now, names...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.End)
	return h
}

func reservation(id byte, now, expires int64, taken ...ledger.Place) ledger.Reservation {
	return ledger.Reservation{
		ID: ledger.ID{id}, Expires: expires, Taken: taken,
		Contact: ledger.Contact{Time: now, Channel: "sms", Touchpoint: "sms.push", Items: []profilestore.Item{{Offer: "data_10g", Group: "data", Class: "marketing"}}},
	}
}

// reserve makes one reservation for a customer.
func reserve(t testing.TB, l *ledger.Ledger, name string, now int64, r ledger.Reservation) {
	t.Helper()
	h := begin(t, l, now, name)
	defer h.End()
	for _, p := range r.Taken {
		if !h.Take(p, 1000) {
			t.Fatal("no place")
		}
	}
	if err := h.Reserve(context.Background(), r); err != nil {
		t.Fatal(err)
	}
}

func pending(t testing.TB, l *ledger.Ledger, now int64, names ...string) int {
	t.Helper()
	h := begin(t, l, now, names...)
	defer h.End()
	return len(h.Pending())
}

// The life of a place of a capacity of one: reserved, refused to others, given back when
// nobody reports, taken for good when somebody does.
func TestPlace(t *testing.T) {
	l := open(t, t.TempDir(), ledger.Options{})
	visit := ledger.Place{Capacity: "visits", Period: 2, Begin: 86_400, TakenBy: "accepted", Offer: "data_10g"}
	ask := func(now int64) bool {
		h := begin(t, l, now)
		defer h.End()
		return h.Take(visit, 1)
	}
	reserve(t, l, "ada", 100, reservation(1, 100, 200, visit))
	if ask(199) {
		t.Error("the place is given twice")
	}
	if !ask(200) {
		t.Error("the place is not free at the moment of expiry")
	}
	if got, err := l.Commit(context.Background(), ledger.ID{1}, ledger.Outcome{Name: "accepted", Expires: 200}, 150); got != ledger.Late || err != nil {
		t.Errorf("an outcome after the place was free, with a clock that stepped back: %v, %v", got, err)
	}
	reserve(t, l, "ada", 150, reservation(2, 150, 160, visit))
	for _, x := range []struct {
		name, offer string
		want        ledger.Result
	}{
		{"rejected", "data_10g", ledger.Committed}, // the contact is over, the place waits
		{"rejected", "data_10g", ledger.Unchanged},
		{"accepted", "other", ledger.Unchanged},
		{"accepted", "data_10g", ledger.Committed},
		{"accepted", "data_10g", ledger.Unchanged},
	} {
		if got, err := l.Commit(context.Background(), ledger.ID{2}, ledger.Outcome{Name: x.name, Offer: x.offer}, 155); got != x.want || err != nil {
			t.Errorf("%s of %s: %v, %v, want %v", x.name, x.offer, got, err, x.want)
		}
		if n := pending(t, l, 155, "ada"); n != 0 {
			t.Errorf("%d pending after %s", n, x.name)
		}
	}
	if ask(10_000) {
		t.Error("the place is free though it was taken")
	}
	next := visit
	next.Begin = 2 * 86_400
	h := begin(t, l, 10_000)
	if free := l.Free(next, 1); free != 1 || !h.Take(next, 1) || h.Take(next, 1) || !h.Take(next, 2) || h.Take(next, 0) {
		t.Error("the next period does not have all places, and no more, and those of a larger maximum")
	}
}

// A period that is forgotten gives no place; one without end is never forgotten.
func TestForgottenPeriod(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, ledger.Options{SegmentBytes: 1})
	h := begin(t, l, 1)
	at := func(begin int64) ledger.Place { return ledger.Place{Capacity: "visits", Begin: begin} }
	for begin := range int64(20) {
		if !h.Take(at(begin), 10) {
			t.Fatalf("period %d has no place", begin)
		}
		h.Return(at(begin))
	}
	for _, x := range []struct {
		begin int64
		want  bool
	}{{0, true}, {1, false}, {11, false}, {12, false}, {13, true}, {19, true}, {20, true}, {13, true}, {12, false}} {
		if free := l.Free(at(x.begin), 10); free > 0 != x.want {
			t.Errorf("period %d: %d free", x.begin, free)
		}
		if got := h.Take(at(x.begin), 10); got != x.want { // and is remembered from now on
			t.Errorf("period %d: place given: %t", x.begin, got)
		}
	}
	h.End()
	if err := errors.Join(l.Maintain(), l.Close()); err != nil { // begins a new file
		t.Fatal(err)
	}
	h = begin(t, open(t, dir, ledger.Options{}), 1)
	if h.Take(at(12), 10) || !h.Take(at(0), 10) || !h.Take(at(20), 10) {
		t.Error("after a restart other periods are forgotten")
	}
}

// Contacts are found under all the names of a person.
func TestNames(t *testing.T) {
	l := open(t, t.TempDir(), ledger.Options{})
	reserve(t, l, "cookie:1", 100, reservation(1, 100, 200))
	reserve(t, l, "customer:1", 101, reservation(2, 101, 200))
	for names, want := range map[[3]string]int{
		{"customer:1", "cookie:1", "cookie:1"}: 2, {"cookie:1", "cookie:1", "cookie:1"}: 1, {"customer:2", "cookie:1", "cookie:2"}: 1,
	} {
		if n := pending(t, l, 102, names[:]...); n != want {
			t.Errorf("%v: %d pending, want %d", names, n, want)
		}
		if n := len(l.Peek(102, names[:]...)); n != want {
			t.Errorf("%v: %d seen, want %d", names, n, want)
		}
	}
	if n := len(l.Peek(100, "customer:1")); n != 0 {
		t.Errorf("%d seen before they were decided", n)
	}
	if n := len(l.Peek(200, "customer:1")); n != 0 {
		t.Errorf("%d seen after they expire", n)
	}
	if n := pending(t, l, 199, "customer:1"); n != 1 {
		t.Error("a look from the future had an effect")
	}
	if s := l.Stats(); s.Pending != 2 || s.Customers != 2 || s.Reservations != 2 {
		t.Errorf("%+v", s)
	}
}

// Who comes first is served first.
func TestTurns(t *testing.T) {
	l := open(t, t.TempDir(), ledger.Options{})
	h := begin(t, l, 1, "ada")
	var mu sync.Mutex
	var order []int
	var wg sync.WaitGroup
	for i := range 5 {
		started := make(chan struct{})
		wg.Go(func() {
			close(started)
			mine, err := l.Begin(context.Background(), 1, "ada")
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			order = append(order, i)
			mu.Unlock()
			mine.End()
		})
		<-started
		for l.Waiting("ada") < i+1 {
			time.Sleep(10 * time.Microsecond) //nolint:forbidigo // nothing tells that somebody waits
		}
	}
	h.End()
	wg.Wait()
	if !reflect.DeepEqual(order, []int{0, 1, 2, 3, 4}) {
		t.Errorf("served in order %v", order)
	}
	if s := l.Stats(); s.Customers != 0 {
		t.Errorf("%d customers are remembered of whom nothing is left", s.Customers)
	}
}

// A disk that does not answer holds up nobody longer than their deadline, and what they
// gave up is not there afterwards.
func TestStuckDisk(t *testing.T) {
	fs := &stuckFS{gate: make(chan struct{})}
	dir := t.TempDir()
	l := open(t, dir, ledger.Options{FS: fs})
	fs.stuck.Store(true)
	place := ledger.Place{Capacity: "visits", TakenBy: "contact"}
	for i := range 3 {
		h := begin(t, l, 100, "ada")
		if !h.Take(place, 1) {
			t.Fatal("the place was not given back")
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
		if err := h.Reserve(ctx, reservation(byte(i), 100, 200, place)); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		cancel()
		if n := len(h.Pending()); n != 0 {
			t.Errorf("%d pending", n)
		}
		h.End()
	}
	close(fs.gate)
	for range 2 {
		h := begin(t, l, 101, "ada")
		if n := len(h.Pending()); n != 0 {
			t.Errorf("%d pending", n)
		}
		if free := l.Free(place, 1); free != 1 {
			t.Errorf("%d free", free)
		}
		h.End()
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		l = open(t, dir, ledger.Options{})
	}
}

// An outcome that comes twice is not answered before it is written, and not with "it came
// before" if that was undone.
func TestOutcomeTwiceAtOnce(t *testing.T) {
	fs := &stuckFS{gate: make(chan struct{})}
	l := open(t, t.TempDir(), ledger.Options{FS: fs})
	reserve(t, l, "ada", 100, reservation(1, 100, 200))
	fs.stuck.Store(true)
	commit := func(ctx context.Context) (ledger.Result, error) {
		return l.Commit(ctx, ledger.ID{1}, ledger.Outcome{Name: "contact"}, 110)
	}
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			if got, err := commit(context.Background()); !errors.Is(err, ledger.ErrUnavailable) {
				t.Errorf("%v, %v", got, err)
			}
		})
	}
	for l.Stats().Pending > 0 {
		runtime.Gosched()
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	if got, err := commit(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v, %v", got, err)
	}
	fs.set(true, false, false, false)
	close(fs.gate)
	wg.Wait()
	if n := pending(t, l, 120, "ada"); n != 1 {
		t.Errorf("%d pending after the outcome was undone", n)
	}
	fs.set(false, false, false, false)
	if got, err := commit(context.Background()); got != ledger.Committed || err != nil {
		t.Errorf("%v, %v", got, err)
	}
}

// What has expired does not come back by a crash, also if the write that would have told
// of it has failed.
func TestExpiryIsWritten(t *testing.T) {
	for name, x := range map[string]struct {
		now, expires int64 // of the reservation that fails
		rotate       bool
	}{
		"clock":              {1000, 5000, false},
		"step back":          {1000, 1001, false},
		"clock, new file":    {1000, 5000, true},
		"step back, new one": {1000, 1001, true},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			fs := &faultyFS{}
			l := open(t, dir, ledger.Options{FS: fs, SegmentBytes: 1})
			reserve(t, l, "ada", 1000, reservation(1, 1000, 1001))
			reserve(t, l, "dan", 1000, reservation(4, 1000, 1<<40)) // keeps the file
			if n := pending(t, l, 1001, "ada"); n != 0 {
				t.Fatal("it has not expired")
			}
			fs.set(true, false, false, false)
			h := begin(t, l, x.now, "bob")
			if err := h.Reserve(context.Background(), reservation(2, x.now, x.expires)); !errors.Is(err, ledger.ErrUnavailable) {
				t.Fatal(err)
			}
			fs.set(false, false, false, false)
			if x.rotate {
				if err := l.Maintain(); err != nil {
					t.Fatal(err)
				}
			}
			reserve(t, l, "cyd", 990, reservation(3, 990, 995))
			to := filepath.Join(t.TempDir(), "copy")
			copyDir(t, dir, to)
			again := open(t, to, ledger.Options{})
			if n := pending(t, again, 990, "ada"); n != 0 {
				t.Error("it came back")
			}
			if n := pending(t, again, 990, "cyd"); n != 1 {
				t.Error("the last one is lost")
			}
		})
	}
}

// After a sync has failed nobody knows what is in the file: everything goes into a new one.
func TestFailedSync(t *testing.T) {
	dir := t.TempDir()
	fs := &faultyFS{}
	l := open(t, dir, ledger.Options{FS: fs})
	reserve(t, l, "ada", 100, reservation(1, 100, 200))
	fs.set(false, false, true, false)
	for range 2 {
		if err := l.Maintain(); err == nil {
			t.Fatal("a sync that fails is no error")
		}
	}
	reserve(t, l, "ada", 100, reservation(2, 100, 200))
	fs.set(false, false, false, false)
	if err := l.Maintain(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "00000001.log")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file is still there: %v", err)
	}
	if s := l.Stats(); s.Files != 1 || s.Compacted < 2 {
		t.Errorf("%+v", s)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if n := pending(t, open(t, dir, ledger.Options{}), 101, "ada"); n != 2 {
		t.Errorf("%d pending", n)
	}
}

// A full disk, at the start already: nothing is reserved, and it works again when there is
// room.
func TestFullDiskAtOpen(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, ledger.Options{})
	reserve(t, l, "ada", 100, reservation(1, 100, 200))
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	fs := &faultyFS{}
	fs.set(true, false, false, true)
	l = open(t, dir, ledger.Options{FS: fs})
	h := begin(t, l, 101, "ada")
	if n := len(h.Pending()); n != 1 {
		t.Errorf("%d pending", n)
	}
	if err := h.Reserve(context.Background(), reservation(2, 101, 200)); !errors.Is(err, ledger.ErrUnavailable) {
		t.Error(err)
	}
	if _, err := l.Commit(context.Background(), ledger.ID{1}, ledger.Outcome{Name: "contact"}, 101); !errors.Is(err, ledger.ErrUnavailable) {
		t.Error(err)
	}
	if err := l.Maintain(); err == nil {
		t.Error("a new file on a full disk")
	}
	if s := l.Stats(); s.Failure == nil || s.Failures < 2 || s.Pending != 1 {
		t.Errorf("%+v", s)
	}
	fs.set(false, false, false, false)
	if err := l.Maintain(); err != nil {
		t.Fatal(err)
	}
	if err := h.Reserve(context.Background(), reservation(2, 101, 200)); err != nil {
		t.Fatal(err)
	}
	h.End()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if n := pending(t, open(t, dir, ledger.Options{}), 102, "ada"); n != 2 {
		t.Errorf("%d pending after a restart", n)
	}
}

// Any single byte that is changed loses at most what is beside it, is named, and the file
// is set aside; any length that the last file is cut to is a crash.
func TestDamage(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, ledger.Options{})
	place := ledger.Place{Capacity: "visits", TakenBy: "contact"}
	for i := range byte(6) {
		reserve(t, l, "ada", 100, reservation(i, 100, 200, place))
	}
	if _, err := l.Commit(context.Background(), ledger.ID{0}, ledger.Outcome{Name: "contact"}, 100); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	name := "00000001.log"
	whole, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	damaged, torn := 0, 0
	for i := range whole {
		b := append([]byte(nil), whole...)
		b[i] ^= 0x40
		l, to := openFile(t, name, b)
		r := l.Recovery()
		if n := pending(t, l, 101, "ada"); n < 4 || n > 6 {
			t.Fatalf("byte %d: %d pending", i, n)
		}
		if len(r.Damage) == 0 && r.TornBytes == 0 {
			t.Fatalf("byte %d is changed, and nobody has noticed", i)
		}
		_, err := os.Stat(filepath.Join(to, name+".damaged"))
		if (err == nil) != (len(r.Damage) > 0) {
			t.Fatalf("byte %d: %+v, set aside: %v", i, r, err)
		}
		if len(r.Damage) > 0 {
			damaged++
			if d := r.Damage[0]; !strings.Contains(d.String(), name) || d.Offset > int64(i) || d.Offset+d.Bytes <= int64(i) {
				t.Fatalf("byte %d: %v", i, d)
			}
			kept, err := os.ReadFile(filepath.Join(to, name+".damaged"))
			if err != nil || !reflect.DeepEqual(kept, b) {
				t.Fatalf("byte %d: the damaged file was changed: %v", i, err)
			}
		} else {
			torn++
		}
		before := pending(t, l, 101, "ada")
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if i%16 > 0 {
			continue
		}
		again := open(t, to, ledger.Options{FS: &faultyFS{}})
		if n := pending(t, again, 101, "ada"); n != before || again.Recovery().Damage != nil {
			t.Fatalf("byte %d: %d pending, then %d, %+v", i, before, n, again.Recovery())
		}
		if err := again.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for n := 0; n < len(whole); n += 5 {
		l, _ := openFile(t, name, whole[:n])
		if r := l.Recovery(); r.Damage != nil {
			t.Fatalf("cut to %d bytes: %+v", n, r)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d bytes: %d in the middle, %d at the end", len(whole), damaged, torn)
	if damaged == 0 || torn == 0 {
		t.Error("a case did not occur")
	}
}

func openFile(t *testing.T, name string, content []byte) (*ledger.Ledger, string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
		t.Fatal(err)
	}
	return open(t, dir, ledger.Options{FS: &faultyFS{}}), dir
}

// A file of a later version, or that is no file of a ledger, is refused and not changed.
func TestForeignFiles(t *testing.T) {
	for name, want := range map[string]string{"1.log": "move it away", "notes.log": "move it away", "00000000.log": "move it away"} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, name), []byte("hello"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := ledger.Open(dir, ledger.Options{}); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "00000001.log"), ledger.HeaderOf(2), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ledger.Open(dir, ledger.Options{}); err == nil || !strings.Contains(err.Error(), "format version 2") {
		t.Error(err)
	}
}

// What is too large, or makes no sense, is refused, and its places are given back.
func TestRefusedReservations(t *testing.T) {
	l := open(t, t.TempDir(), ledger.Options{})
	long := strings.Repeat("x", 10_000)
	place := ledger.Place{Capacity: "visits"}
	for name, change := range map[string]func(*ledger.Reservation){
		"expires":  func(r *ledger.Reservation) { r.Expires = 100 },
		"items":    func(r *ledger.Reservation) { r.Contact.Items = make([]profilestore.Item, 2000) },
		"places":   func(r *ledger.Reservation) { r.Taken = make([]ledger.Place, 2000) },
		"name":     func(r *ledger.Reservation) { r.Contact.Channel = long },
		"not take": func(r *ledger.Reservation) { r.Taken = append(r.Taken, place) },
	} {
		h := begin(t, l, 100, "ada")
		if !h.Take(place, 1) {
			t.Fatal(name)
		}
		r := reservation(1, 100, 200, place)
		change(&r)
		if err := h.Reserve(context.Background(), reservation(2, 100, 200), r); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
		if len(h.Pending()) > 0 {
			t.Errorf("%s: half done", name)
		}
		h.End()
	}
	h := begin(t, l, 100, long)
	if err := h.Reserve(context.Background(), reservation(1, 100, 200)); err == nil {
		t.Error("a customer with a long name")
	}
	h.End()
	if s := l.Stats(); s.Places != 0 || s.Reservations != 0 {
		t.Errorf("%+v", s)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Begin(context.Background(), 100, "ada"); !errors.Is(err, ledger.ErrClosed) {
		t.Error(err)
	}
	if _, err := l.Commit(context.Background(), ledger.ID{}, ledger.Outcome{}, 100); !errors.Is(err, ledger.ErrClosed) {
		t.Error(err)
	}
}

// In the background, files are begun, synced and removed while decisions go on.
func TestBackground(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, ledger.Options{SyncEvery: time.Millisecond, SegmentBytes: 2000, SlackBytes: 4000})
	long := ledger.ID{255, 255}
	h := begin(t, l, 0, "long")
	r := reservation(0, 0, 1<<40)
	r.ID = long
	if err := h.Reserve(context.Background(), r); err != nil {
		t.Fatal(err)
	}
	h.End()
	n := 0
	for s := l.Stats(); s.Compacted < 5; s = l.Stats() {
		n++
		r := reservation(0, int64(n), int64(n)+20)
		r.ID = ledger.ID{byte(n), byte(n >> 8), byte(n >> 16)}
		h := begin(t, l, int64(n), "ada")
		if err := h.Reserve(context.Background(), r); err != nil {
			t.Fatal(err)
		}
		h.End()
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = open(t, dir, ledger.Options{})
	if got := pending(t, l, int64(n), "long"); got != 1 {
		t.Errorf("%d pending", got)
	}
	if s := l.Stats(); s.Bytes > 100_000 {
		t.Errorf("%d reservations: %+v", n, s)
	}
	t.Logf("%d reservations: %+v", n, l.Stats())
}

// reserveUntilKilled reserves and says so, with several callers, until it is killed.
func reserveUntilKilled(dir string) int {
	l, err := ledger.Open(dir, ledger.Options{SegmentBytes: 20_000, SlackBytes: 20_000, SyncEvery: 5 * time.Millisecond})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	var mu sync.Mutex
	say := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		_, _ = fmt.Fprintf(os.Stdout, format+"\n", args...)
	}
	place := ledger.Place{Capacity: "visits", TakenBy: "contact"}
	for c := range 8 {
		go func() {
			for i := 0; ; i++ {
				now := time.Now().UnixMicro()
				h, err := l.Begin(context.Background(), now, fmt.Sprint(i%100))
				if err != nil {
					return
				}
				r := reservation(byte(c), now, now+1<<40, place)
				r.ID[1], r.ID[2], r.ID[3] = byte(i), byte(i>>8), byte(os.Getpid())
				h.Take(place, 1<<40)
				if err := h.Reserve(context.Background(), r); err != nil {
					fmt.Fprintln(os.Stderr, err)
				}
				h.End()
				say("reserved %x", r.ID)
				if i%3 == 0 {
					if _, err := l.Commit(context.Background(), r.ID, ledger.Outcome{Name: "contact"}, now); err != nil {
						fmt.Fprintln(os.Stderr, err)
					}
					say("committed %x", r.ID)
				}
			}
		}()
	}
	select {}
}

// What a process has said is there after kill -9, exactly.
func TestKill(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	dir := t.TempDir()
	state := make(map[ledger.ID]string)
	for round := range 3 {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^$")
		cmd.Env = append(os.Environ(), killDirEnv+"="+dir)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			what, text, _ := strings.Cut(lines.Text(), " ")
			b, err := hex.DecodeString(text)
			if err != nil || len(b) != 16 {
				continue // cut short
			}
			state[ledger.ID(b)] = what
			if n == 800+round*300 {
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		_ = cmd.Wait()
		l := open(t, dir, ledger.Options{})
		if d := l.Recovery().Damage; d != nil {
			t.Fatal(d)
		}
		now := time.Now().UnixMicro()
		committed := int64(0)
		for id, what := range state {
			want := ledger.Unchanged
			if what == "reserved" { // perhaps committed, and nobody heard of it
				continue
			}
			committed++
			if got, err := l.Commit(context.Background(), id, ledger.Outcome{Name: "contact"}, now); got != want || err != nil {
				t.Fatalf("round %d: %x was %s: %v, %v", round, id, what, got, err)
			}
		}
		x := l.Readings()[0]
		if x.Taken < committed || x.Taken > committed+16 {
			t.Errorf("round %d: %+v, %d were committed", round, x, committed)
		}
		for id, what := range state {
			if what != "reserved" {
				continue
			}
			got, err := l.Commit(context.Background(), id, ledger.Outcome{Name: "contact"}, now)
			if err != nil || got != ledger.Committed && got != ledger.Unchanged {
				t.Fatalf("round %d: %x was %s: %v, %v", round, id, what, got, err)
			}
			state[id] = "committed"
		}
		if x := l.Readings()[0]; x.Reserved > 16 || x.Taken+x.Reserved < int64(len(state)) {
			t.Errorf("round %d: %+v of %d", round, x, len(state))
		}
		t.Logf("round %d: %d reservations, %+v", round, len(state), l.Recovery())
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
