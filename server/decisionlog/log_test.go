package decisionlog_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"go.uber.org/goleak"

	"rapport/profilestore"
	"rapport/server/decide"
	"rapport/server/decisionlog"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(killDirEnv); dir != "" {
		os.Exit(logUntilKilled(dir))
	}
	goleak.VerifyTestMain(m)
}

// epoch is when the tests begin.
const epoch = 1_770_000_300_000 // ms

// clock is a clock that is set by hand.
type clock struct{ ms atomic.Int64 }

func newClock() *clock {
	c := new(clock)
	c.ms.Store(epoch)
	return c
}

func (c *clock) now() time.Time { return time.UnixMilli(c.ms.Load()) }

func open(t testing.TB, o decisionlog.Options) *decisionlog.Log {
	t.Helper()
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	if o.SyncEvery == 0 {
		o.SyncEvery = -1
	}
	if o.Now == nil {
		o.Now = newClock().now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	l, err := decisionlog.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// lazyFS does not wait for the disk.
type lazyFS struct{}

func (lazyFS) Create(path string) (decisionlog.File, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|os.O_APPEND, 0o600)
	return lazyFile{f}, err
}
func (lazyFS) Remove(path string) error { return os.Remove(path) }
func (lazyFS) SyncDir(string) error     { return nil }

type lazyFile struct{ *os.File }

func (lazyFile) Sync() error { return nil }

// idAt returns an id of a time.
func idAt(ms int64, entropy uint64) (id ulid.ULID) {
	if err := id.SetTime(uint64(ms)); err != nil {
		panic(err)
	}
	binary.BigEndian.PutUint64(id[8:], entropy)
	return id
}

var testFields = []string{"value.arpu", "tag.heavy", "marketing.owned"}

// recordOf makes a record of a customer.
func recordOf(r *rand.Rand, id ulid.ULID, customer uint64) *decisionlog.Record {
	x := &decisionlog.Record{
		ID: id, Pipeline: decisionlog.Pipeline, Time: int64(id.Time()) * 1000, Seed: r.Uint64(),
		Identity: fmt.Sprint("customer:", customer), Customer: fmt.Sprint("customer:", customer), Hash: customer * 0x9e3779b97f4a7c15,
		Catalog: 3, Tables: []decisionlog.Version{}, Fields: testFields, Profile: &decisionlog.ProfileState{Known: true, Snapshots: []decisionlog.Snapshot{}},
		ContextFields: []string{}, Pending: []decide.Contact{}, Places: []decisionlog.PlaceAsked{},
		Values: []profilestore.Value{profilestore.Number(float64(r.IntN(1000)) / 8), profilestore.Flag(r.IntN(2) == 0), profilestore.Set("a", "b")},
	}
	t := decisionlog.Touchpoint{ID: "web.home"}
	for range r.IntN(40) {
		t.Reasons = append(t.Reasons, decide.Reason(r.IntN(len(decide.Reasons()))))
	}
	x.At = append(x.At, t)
	return x
}

func add(l *decisionlog.Log, r *decisionlog.Record) { l.AddRecord(r, 4096) }

func flush(t testing.TB, l *decisionlog.Log) {
	t.Helper()
	if err := l.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
}

// each returns the ids that a query gives.
func each(t testing.TB, l *decisionlog.Log, q decisionlog.Query) (ids []ulid.ULID) {
	t.Helper()
	if err := l.Each(context.Background(), q, func(r *decisionlog.Record) error {
		ids = append(ids, r.ID)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return ids
}

// checkNames checks that no id of a file is before the time in its name.
func checkNames(t *testing.T, dir string) {
	t.Helper()
	for _, path := range segments(t, dir) {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		_, records, damage, _ := decisionlog.Scan(b, path)
		first := filepath.Base(path)[len("00000000-"):]
		for _, r := range records {
			if at := ulid.Time(r.ID.Time()).UTC().Format("20060102T150405.000Z"); at+".log" < first {
				t.Fatalf("%s has a decision of %s", path, at)
			}
		}
		if len(damage) > 0 {
			t.Fatal(damage)
		}
	}
}

// naive is the list that the log is compared with.
type naive []*decisionlog.Record

func (n naive) each(q decisionlog.Query) (ids []ulid.ULID) {
	sorted := slices.Clone(n)
	slices.SortStableFunc(sorted, func(a, b *decisionlog.Record) int { return a.ID.Compare(b.ID) })
	if q.Newest {
		slices.Reverse(sorted)
	}
	for _, r := range sorted {
		at := ulid.Time(r.ID.Time())
		if (q.From.IsZero() || !at.Before(q.From)) && (q.Until.IsZero() || at.Before(q.Until)) &&
			(q.Customer == 0 || r.Hash == q.Customer) && (q.Limit == 0 || len(ids) < q.Limit) {
			ids = append(ids, r.ID)
		}
	}
	return ids
}

func (n naive) check(t *testing.T, l *decisionlog.Log, r *rand.Rand) {
	t.Helper()
	time1 := func() time.Time {
		if r.IntN(3) == 0 || len(n) == 0 {
			return time.Time{}
		}
		return ulid.Time(n[r.IntN(len(n))].ID.Time() + uint64(r.IntN(3)))
	}
	for range 12 {
		q := decisionlog.Query{From: time1(), Until: time1(), Newest: r.IntN(2) == 0}
		if r.IntN(2) == 0 && len(n) > 0 {
			q.Customer = n[r.IntN(len(n))].Hash
		}
		if r.IntN(3) == 0 {
			q.Limit = 1 + r.IntN(20)
		}
		if got, want := each(t, l, q), n.each(q); !slices.Equal(got, want) {
			t.Fatalf("%+v finds %d records, want %d", q, len(got), len(want))
		}
	}
	for range min(len(n), 20) {
		want := n[r.IntN(len(n))]
		var got decisionlog.Record
		if err := l.Find(context.Background(), want.ID, &got); err != nil {
			t.Fatal(err)
		}
		if text(&got) != text(want) {
			t.Fatalf("found\n%s\nwant\n%s", text(&got), text(want))
		}
	}
	oldest, newest := each(t, l, decisionlog.Query{}), each(t, l, decisionlog.Query{Newest: true})
	if slices.Reverse(newest); !slices.Equal(oldest, newest) {
		t.Fatal("newest first is not oldest first reversed")
	}
}

// TestFindsWhatWasAdded compares searches with those of a list, over random records,
// clocks that step, decisions that overtake each other, and logs that are opened again.
func TestFindsWhatWasAdded(t *testing.T) {
	var records, reopened, files, steps, equal int
	for seed := range uint64(12) {
		r := rand.New(rand.NewPCG(seed, 1))
		c := newClock()
		o := decisionlog.Options{Dir: t.TempDir(), SegmentBytes: 20_000, SegmentAge: 10 * time.Minute, Now: c.now, FS: lazyFS{}}
		l := open(t, o)
		var all naive
		for range 600 {
			switch r.IntN(60) {
			case 0:
				if err := l.Close(); err != nil {
					t.Fatal(err)
				}
				l = open(t, o)
				reopened++
			case 1, 2:
				flush(t, l)
			case 3:
				if err := l.Write(context.Background()); err != nil {
					t.Fatal(err)
				}
			case 4:
				c.ms.Add(r.Int64N(2*3_600_000) - 3_600_000)
				steps++
			case 5:
				all.check(t, l, r)
			}
			c.ms.Add(r.Int64N(3))
			id := idAt(c.ms.Load()-r.Int64N(5), r.Uint64())
			if len(all) > 0 && r.IntN(50) == 0 {
				id = all[r.IntN(len(all))].ID
				equal++
			}
			x := recordOf(r, id, uint64(r.IntN(30))+1)
			if slices.ContainsFunc(all, func(y *decisionlog.Record) bool { return y.ID == id }) {
				*x = *all[slices.IndexFunc(all, func(y *decisionlog.Record) bool { return y.ID == id })]
			}
			all = append(all, x)
			add(l, x)
		}
		flush(t, l)
		all.check(t, l, r)
		s := l.Stats()
		if s.Records != uint64(len(all)) || s.Dropped() != 0 || s.Err != nil || s.Waiting != 0 || s.Damaged != 0 {
			t.Fatalf("%+v", s)
		}
		checkNames(t, o.Dir)
		records += len(all)
		files += s.Segments
	}
	t.Logf("%d records, %d segments, opened again %d times, %d steps of the clock, %d equal ids", records, files, reopened, steps, equal)
}
