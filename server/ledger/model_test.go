package ledger_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"pgregory.net/rapid"

	"rapport/profilestore"
	"rapport/server/ledger"
)

// model is the naive twin of a ledger: it looks at everything at every call.
type model struct {
	live  map[ledger.ID]*modelReservation
	taken map[modelPeriod]int64
	high  int64

	// What a crash brings back: what has expired by calls after which nothing was
	// written.
	ghosts  map[ledger.ID]*modelReservation
	written int64 // high of what was written
}

type modelPeriod struct {
	capacity string
	period   uint8
	begin    int64
}

func periodOf(p ledger.Place) modelPeriod { return modelPeriod{p.Capacity, p.Period, p.Begin} }

type modelReservation struct {
	ledger.Reservation
	customer string
	pending  bool
	used     []bool // by Taken
}

func newModel() *model {
	return &model{
		live: make(map[ledger.ID]*modelReservation), ghosts: make(map[ledger.ID]*modelReservation),
		taken: make(map[modelPeriod]int64),
	}
}

// at notes that a call has brought a time. It returns how many expired by it.
func (m *model) at(now int64) (expired int) {
	m.high = max(m.high, now)
	for id, r := range m.live {
		if r.Expires <= now {
			delete(m.live, id)
			m.ghosts[id] = r
			expired++
		}
	}
	return expired
}

func (m *model) write() {
	clear(m.ghosts)
	m.written = m.high
}

func (m *model) kill() {
	maps.Copy(m.live, m.ghosts)
	clear(m.ghosts)
	m.high = m.written
}

func (m *model) pending(customers ...string) (out []ledger.Contact) {
	for _, r := range m.live {
		if r.pending && slices.Contains(customers, r.customer) {
			out = append(out, r.Contact)
		}
	}
	return sorted(out)
}

func sorted(c []ledger.Contact) []ledger.Contact {
	slices.SortFunc(c, func(a, b ledger.Contact) int {
		return strings.Compare(fmt.Sprintf("%020d %v", a.Time, a), fmt.Sprintf("%020d %v", b.Time, b))
	})
	return c
}

func (m *model) reserved(k modelPeriod) (n int64) {
	for _, r := range m.live {
		for i, p := range r.Taken {
			if periodOf(p) == k && !r.used[i] {
				n++
			}
		}
	}
	return n
}

func (m *model) commit(id ledger.ID, o ledger.Outcome) ledger.Result {
	r := m.live[id]
	if r == nil {
		if m.ghosts[id] != nil || o.Expires != 0 && o.Expires <= m.high {
			return ledger.Late
		}
		return ledger.Unknown
	}
	result := ledger.Unchanged
	if r.pending {
		r.pending, result = false, ledger.Committed
	}
	for i, p := range r.Taken {
		if !r.used[i] && (p.TakenBy == "contact" || p.TakenBy == o.Name && (o.Offer == "" || p.Offer == "" || o.Offer == p.Offer)) {
			r.used[i], result = true, ledger.Committed
			m.taken[periodOf(p)]++
		}
	}
	return result
}

// faultyFS writes real files, or fails.
type faultyFS struct {
	mu                         sync.Mutex
	full, stuck, unsynced, dir bool // writes fail; cutting off fails too; syncs fail; new files fail
}

func (f *faultyFS) set(full, stuck, unsynced, dir bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.full, f.stuck, f.unsynced, f.dir = full, stuck, unsynced, dir
}

func (f *faultyFS) get() (full, stuck, unsynced, dir bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.full, f.stuck, f.unsynced, f.dir
}

func (f *faultyFS) Create(path string) (ledger.File, error) {
	if _, _, _, dir := f.get(); dir {
		return nil, syscall.ENOSPC
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	return &faultyFile{file, f}, nil
}

func (f *faultyFS) Rename(from, to string) error { return os.Rename(from, to) }
func (f *faultyFS) Remove(path string) error     { return os.Remove(path) }
func (f *faultyFS) SyncDir(string) error         { return nil }

type faultyFile struct {
	*os.File
	fs *faultyFS
}

func (f *faultyFile) Write(b []byte) (int, error) {
	if full, _, _, _ := f.fs.get(); full {
		n, _ := f.File.Write(b[:min(len(b)/2, 11)])
		return n, syscall.ENOSPC
	}
	return f.File.Write(b)
}

func (f *faultyFile) Truncate(size int64) error {
	if _, stuck, _, _ := f.fs.get(); stuck {
		return syscall.EIO
	}
	return f.File.Truncate(size)
}

func (f *faultyFile) Sync() error {
	if _, _, unsynced, _ := f.fs.get(); unsynced {
		return syscall.EIO
	}
	return nil
}

// walk drives a ledger and its model.
type walk struct {
	*rapid.T
	l     *ledger.Ledger
	m     *model
	fs    *faultyFS
	dir   string
	temp  func() string
	now   int64
	serie int
	ids   []ledger.Outcome // of all reservations ever: their Expires
	all   []ledger.ID
	holds []*walkHold
	seen  map[string]int

	broken bool // a write has failed, and could not be cut off
}

type walkHold struct {
	*ledger.Hold
	now   int64
	names []string
	taken []ledger.Place
}

var (
	customers  = []string{"", "ada", "bob", "cyd"}
	capacities = []string{"visits", "phones"}
	outcomes   = []string{"contact", "accepted", "rejected"}
)

func (w *walk) hit(what string) {
	w.seen[what]++
	w.Logf("at %d: %s", w.now, what)
}

func (w *walk) open() {
	l, err := ledger.Open(w.dir, ledger.Options{SyncEvery: -1, SegmentBytes: 600, SlackBytes: 500, FS: w.fs})
	if err != nil {
		w.Fatal(err)
	}
	w.l = l
}

func (w *walk) pick(name string, n int) int { return rapid.IntRange(0, n-1).Draw(w.T, name) }

func (w *walk) tick() {
	switch w.pick("clock", 12) {
	case 0:
		w.now -= int64(w.pick("back", 30))
		w.hit("clock steps back a little")
	case 1:
		w.now -= int64(w.pick("back", 300))
		w.hit("clock steps back far")
	case 2:
		w.now += int64(w.pick("on", 200))
	case 3, 4, 5: // the same moment
	default:
		w.now += int64(w.pick("on", 15))
	}
}

func (w *walk) observe(now int64) {
	w.Logf("call at %d", now)
	if n := w.m.at(now); n > 0 {
		w.seen["reservation expires"] += n
	}
}

func (w *walk) begin() {
	names := []string{customers[w.pick("customer", len(customers))]}
	if names[0] == "" {
		names = nil
	} else if w.pick("names", 4) == 0 {
		names = append(names, customers[1+w.pick("other", len(customers)-1)])
	}
	for _, h := range w.holds {
		for _, name := range names {
			if slices.Contains(h.names, name) { // it would wait: a context that has ended shows that
				ctx, cancel := context.WithCancel(context.Background())
				cancel()
				if _, err := w.l.Begin(ctx, w.now, names...); !errors.Is(err, context.Canceled) {
					w.Fatalf("%v are held: %v", names, err)
				}
				w.hit("customer is held")
				return
			}
		}
	}
	h, err := w.l.Begin(context.Background(), w.now, names...)
	if err != nil {
		w.Fatal(err)
	}
	w.observe(w.now)
	w.holds = append(w.holds, &walkHold{h, w.now, names, nil})
	w.pending(w.holds[len(w.holds)-1])
}

func (w *walk) pending(h *walkHold) {
	w.observe(h.now)
	got, want := sorted(h.Pending()), w.m.pending(h.names...)
	if !reflect.DeepEqual(got, want) && len(got)+len(want) > 0 {
		w.Fatalf("pending of %v at %d:\n%v\nwant\n%v", h.names, h.now, got, want)
	}
	w.seen["contact is pending"] += len(got)
}

func (w *walk) place() ledger.Place {
	return ledger.Place{Capacity: capacities[w.pick("capacity", len(capacities))], Period: uint8(w.pick("period", 2)), Begin: int64(w.pick("begin", 3)) * 100}
}

// held is how many places holds have.
func (w *walk) held(k modelPeriod) (n int64) {
	for _, h := range w.holds {
		for _, p := range h.taken {
			if periodOf(p) == k {
				n++
			}
		}
	}
	return n
}

func (w *walk) take(h *walkHold) {
	p, most := w.place(), int64(w.pick("most", 5))
	k := periodOf(p)
	used := w.m.taken[k] + w.m.reserved(k) + w.held(k)
	if free := w.l.Free(p, most); free != max(most-used, 0) {
		w.Fatalf("%v: %d free, want %d - %d", p, free, most, used)
	}
	w.observe(h.now)
	used = w.m.taken[k] + w.m.reserved(k) + w.held(k)
	got := h.Take(p, most)
	if want := used < most; got != want {
		w.Fatalf("%v at %d: taken: %t, with %d of %d used", p, h.now, got, used, most)
	}
	if !got {
		w.hit("capacity is full")
		return
	}
	w.hit("place is taken")
	h.taken = append(h.taken, p)
}

func (w *walk) giveBack(h *walkHold) {
	if len(h.taken) == 0 {
		return
	}
	i := w.pick("which", len(h.taken))
	h.Return(h.taken[i])
	h.taken = slices.Delete(h.taken, i, i+1)
	w.hit("place is returned")
}

func (w *walk) end(i int) {
	w.holds[i].End()
	w.holds[i].End()
	w.holds = slices.Delete(w.holds, i, i+1)
}

// reservation makes one for a hold, which takes some of its places.
func (w *walk) reservation(h *walkHold) ledger.Reservation {
	w.serie++
	r := ledger.Reservation{
		ID:      ledger.ID{byte(w.serie), byte(w.serie >> 8)},
		Contact: ledger.Contact{Time: h.now, Channel: fmt.Sprint("channel", w.pick("channel", 2)), Touchpoint: "t"},
		Expires: h.now + 1 + int64(w.pick("hold", 60)),
	}
	for i := range w.pick("items", 3) {
		r.Contact.Items = append(r.Contact.Items, profilestore.Item{Offer: fmt.Sprint("offer", i), Group: "g", Class: "care"})
	}
	for len(h.taken) > 0 && w.pick("with place", 4) > 0 {
		p := h.taken[0]
		h.taken = h.taken[1:]
		p.TakenBy, p.Offer = outcomes[w.pick("taken by", 2)], fmt.Sprint("offer", w.pick("offer", 2))
		r.Taken = append(r.Taken, p)
	}
	return r
}

func (w *walk) keep(h *walkHold, r ledger.Reservation) {
	w.Logf("reserved at %d: %+v", h.now, r)
	x := &modelReservation{Reservation: r, pending: true, used: make([]bool, len(r.Taken))}
	if len(h.names) > 0 {
		x.customer = h.names[0]
	}
	w.m.live[r.ID] = x
	w.all, w.ids = append(w.all, r.ID), append(w.ids, ledger.Outcome{Expires: r.Expires})
}

func (w *walk) reserve(h *walkHold) {
	w.observe(h.now)
	rs := []ledger.Reservation{w.reservation(h)}
	if w.pick("several", 4) == 0 {
		rs = append(rs, w.reservation(h))
		w.hit("several reservations at once")
	}
	if len(w.all) > 0 && w.pick("same id", 12) == 0 {
		id := w.all[w.pick("id", len(w.all))]
		if _, ok := w.m.live[id]; ok {
			again := rs[0]
			again.ID, again.Taken = id, nil // or they would be given back
			if err := h.Reserve(context.Background(), again); !errors.Is(err, ledger.ErrExists) && !w.broken {
				w.Fatalf("a second reservation with an id: %v", err)
			}
			w.hit("reservation exists")
		}
	}
	before := w.l.Stats().StepsBack
	err := h.Reserve(context.Background(), rs...)
	if err != nil {
		if full, _, _, _ := w.fs.get(); !full && !w.broken || !errors.Is(err, ledger.ErrUnavailable) {
			w.Fatal(err)
		}
		w.hit("reservation fails on a full disk")
		w.noteBroken()
		return
	}
	if full, _, _, _ := w.fs.get(); full {
		w.Fatal("written to a full disk")
	}
	w.seen["clock steps back by more than a hold"] += int(w.l.Stats().StepsBack - before)
	for _, r := range rs {
		w.keep(h, r)
		w.hit("reservation")
		if len(r.Taken) > 0 {
			w.hit("reservation with places")
		}
	}
	w.m.write()
}

// noteBroken notes that a write has failed and could not be cut off.
func (w *walk) noteBroken() {
	if _, stuck, _, _ := w.fs.get(); stuck {
		w.broken = true
		w.hit("file is broken")
	}
}

func (w *walk) outcome() (ledger.ID, ledger.Outcome) {
	o := ledger.Outcome{Name: outcomes[w.pick("outcome", len(outcomes))]}
	if w.pick("of offer", 2) == 0 {
		o.Offer = fmt.Sprint("offer", w.pick("offer", 2))
	}
	i := len(w.all) - 1 - w.pick("which", min(len(w.all)+1, 8))
	if i < 0 {
		return ledger.ID{255}, o
	}
	o.Expires = w.ids[i].Expires
	return w.all[i], o
}

func (w *walk) commit() {
	id, o := w.outcome()
	w.observe(w.now)
	before := w.m.clone()
	want := w.m.commit(id, o)
	got, err := w.l.Commit(context.Background(), id, o, w.now)
	if err != nil {
		if full, _, _, _ := w.fs.get(); !full && !w.broken || !errors.Is(err, ledger.ErrUnavailable) {
			w.Fatal(err)
		}
		if want != ledger.Committed {
			w.Fatalf("an outcome that is %v: %v", want, err)
		}
		w.m = before
		w.noteBroken()
		w.hit("outcome fails on a full disk")
		return
	}
	if got != want {
		w.Fatalf("outcome %v of %x at %d: %v, want %v", o, id[:2], w.now, got, want)
	}
	w.hit("outcome is " + got.String())
	if got == ledger.Committed {
		w.m.write()
	}
}

func (m *model) clone() *model {
	c := *m
	c.live, c.ghosts, c.taken = make(map[ledger.ID]*modelReservation), maps.Clone(m.ghosts), maps.Clone(m.taken)
	for id, r := range m.live {
		x := *r
		x.used = slices.Clone(r.used)
		c.live[id] = &x
	}
	return &c
}

// check compares all that can be seen.
func (w *walk) check() {
	got := make(map[modelPeriod][2]int64)
	for _, x := range w.l.Readings() {
		if x.Taken+x.Reserved > 0 {
			got[modelPeriod{x.Capacity, x.Period, x.Begin}] = [2]int64{x.Taken, x.Reserved}
		}
	}
	want := make(map[modelPeriod][2]int64)
	for _, capacity := range capacities {
		for period := range uint8(2) {
			for begin := int64(0); begin < 300; begin += 100 {
				k := modelPeriod{capacity, period, begin}
				if x := [2]int64{w.m.taken[k], w.m.reserved(k) + w.held(k)}; x[0]+x[1] > 0 {
					want[k] = x
				}
			}
		}
	}
	if !maps.Equal(got, want) {
		w.Fatalf("capacities: %v, want %v", got, want)
	}
	for _, name := range customers[1:] {
		if got, want := sorted(w.l.Peek(-1<<60, name)), 0; len(got) != want {
			w.Fatalf("before anything was decided: %v", got)
		}
	}
}

// healthy makes the disk well, and writes something.
func (w *walk) healthy() {
	w.fs.set(false, false, false, false)
	if err := w.l.Maintain(); err != nil {
		w.Fatal(err)
	}
	if w.broken {
		w.hit("broken file is made anew")
	}
	w.broken = false
	h, err := w.l.Begin(context.Background(), w.now)
	if err != nil {
		w.Fatal(err)
	}
	defer h.End()
	w.observe(w.now)
	wh := &walkHold{h, w.now, nil, nil}
	r := w.reservation(wh)
	if err := h.Reserve(context.Background(), r); err != nil {
		w.Fatal(err)
	}
	w.keep(wh, r)
	w.m.write()
}

func (w *walk) disk() {
	if w.pick("disk", 2) == 0 {
		w.healthy()
		return
	}
	// What came before is written by healthy, so that a failed write says nothing of it.
	w.healthy()
	w.fs.set(w.pick("full", 3) > 0, w.pick("stuck", 2) == 0, w.pick("unsynced", 4) == 0, w.pick("dir", 4) == 0)
}

func (w *walk) maintain() {
	if _, _, unsynced, dir := w.fs.get(); unsynced || dir {
		if err := w.l.Maintain(); err != nil {
			w.hit("maintenance fails")
		}
		return
	}
	if full, stuck, _, _ := w.fs.get(); full || stuck || w.broken {
		return
	}
	w.healthy()
	before := w.l.Stats()
	if err := w.l.Maintain(); err != nil {
		w.Fatal(err)
	}
	after := w.l.Stats()
	w.seen["reservation is written again"] += int(after.Compacted - before.Compacted)
	if after.Files < before.Files {
		w.hit("file is removed")
	}
}

// restart closes and opens, or kills: what is on disk then is copied at any moment at or
// after the last write that was acknowledged.
func (w *walk) restart() {
	clean := w.pick("clean", 2) == 0
	if clean {
		for len(w.holds) > 0 {
			w.end(0)
		}
		w.healthy()
		if err := w.l.Close(); err != nil {
			w.Fatal(err)
		}
		w.m.write()
		w.hit("restart")
		w.open()
		w.expectNoDamage()
		return
	}
	old := w.l
	to := w.temp()
	full, stuck, _, _ := w.fs.get()
	if torn := w.pick("torn", 3) > 0 && !full && !stuck && !w.broken; torn {
		w.healthy()
		w.killTorn(to)
	} else {
		copyDir(w, w.dir, to)
		w.hit("kill between writes")
	}
	w.m.kill()
	w.holds = nil
	w.fs.set(false, false, false, false)
	_ = old.Close()
	w.fs = &faultyFS{}
	w.dir = to
	w.open()
	if w.broken {
		w.broken = false // what is damaged is not ours
	} else {
		w.expectNoDamage()
	}
}

func (w *walk) expectNoDamage() {
	if r := w.l.Recovery(); len(r.Damage) > 0 {
		w.Fatalf("damage: %v", r.Damage)
	}
}

// killTorn kills in the middle of a write.
func (w *walk) killTorn(to string) {
	before := w.m.clone()
	name, from := newest(w, w.dir)
	if w.pick("torn what", 2) == 0 {
		h, err := w.l.Begin(context.Background(), w.now)
		if err != nil {
			w.Fatal(err)
		}
		defer h.End()
		wh := &walkHold{h, w.now, nil, nil}
		r := w.reservation(wh)
		if err := h.Reserve(context.Background(), r); err != nil {
			w.Fatal(err)
		}
		w.keep(wh, r)
	} else {
		id, o := w.outcome()
		w.m.commit(id, o)
		if _, err := w.l.Commit(context.Background(), id, o, w.now); err != nil {
			w.Fatal(err)
		}
	}
	same, until := newest(w, w.dir)
	if same != name {
		w.Fatalf("%s became %s", name, same)
	}
	copyDir(w, w.dir, to)
	cut := rapid.Int64Range(from, until).Draw(w.T, "cut")
	if err := os.Truncate(filepath.Join(to, name), cut); err != nil {
		w.Fatal(err)
	}
	if cut < until {
		w.m = before
		w.hit("kill in the middle of a write")
	} else {
		w.m.write()
		w.hit("kill just after a write")
	}
}

func newest(t *walk, dir string) (string, int64) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range slices.Backward(entries) {
		if strings.HasSuffix(e.Name(), ".log") {
			info, err := e.Info()
			if err != nil {
				t.Fatal(err)
			}
			return e.Name(), info.Size()
		}
	}
	t.Fatal("no file")
	return "", 0
}

// copyDir copies the files of a ledger as a crash would leave them, from the first to the
// last. Where one is gone before its turn, what was alive in it is at the end of another,
// and the copy begins anew.
func copyDir(t interface{ Fatal(args ...any) }, from, to string) {
	for {
		err := os.CopyFS(to, os.DirFS(from))
		if err == nil {
			return
		}
		if !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		if err := os.RemoveAll(to); err != nil {
			t.Fatal(err)
		}
	}
}

// A ledger does what the model does, whatever happens to clock, disk and process.
func TestModel(t *testing.T) {
	seen, temp, cases := make(map[string]int), t.TempDir(), 0
	rapid.Check(t, func(rt *rapid.T) {
		cases++
		root, n := filepath.Join(temp, fmt.Sprint(cases)), 0
		defer func() { _ = os.RemoveAll(root) }()
		w := &walk{T: rt, m: newModel(), fs: &faultyFS{}, now: 1_000_000, seen: seen}
		w.temp = func() string { n++; return filepath.Join(root, fmt.Sprint(n)) }
		w.dir = w.temp()
		w.open()
		defer func() { _ = w.l.Close() }()
		for range rapid.IntRange(20, 150).Draw(rt, "steps") {
			w.tick()
			w.step()
			w.check()
		}
	})
	for _, what := range slices.Sorted(maps.Keys(seen)) {
		t.Logf("%6d %s", seen[what], what)
	}
}

func (w *walk) step() {
	h := (*walkHold)(nil)
	i := 0
	if len(w.holds) > 0 {
		i = w.pick("hold", len(w.holds))
		h = w.holds[i]
	}
	switch x := w.pick("step", 60); {
	case x < 10 || h == nil && x < 40:
		w.begin()
	case x < 22:
		w.take(h)
	case x < 34:
		w.reserve(h)
	case x < 36:
		w.giveBack(h)
	case x < 37:
		w.pending(h)
	case x < 40:
		w.end(i)
	case x < 52:
		w.commit()
	case x < 55:
		w.maintain()
	case x < 57:
		w.disk()
	default:
		w.restart()
	}
}

// stuckFS writes real files, once its gate is open.
type stuckFS struct {
	faultyFS
	stuck atomic.Bool
	gate  chan struct{}
}

func (f *stuckFS) Create(path string) (ledger.File, error) {
	file, err := f.faultyFS.Create(path)
	return &stuckFile{file, f}, err
}

type stuckFile struct {
	ledger.File
	fs *stuckFS
}

func (f *stuckFile) Write(b []byte) (int, error) {
	if f.fs.stuck.Load() {
		<-f.fs.gate
	}
	return f.File.Write(b)
}
