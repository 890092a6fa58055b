package profilestore_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"rapport/profilestore"
	"rapport/profilestore/memory"
)

// walk compares a walk over the customers of the model with what is known of each
// identity that has a row: every customer is seen once, with the view that View gives.
func (s *schedule) walk() {
	want := make(map[string]string)
	hasRow := func(identity string) bool {
		for _, x := range s.m.sources {
			if l := x.loads[x.active]; l != nil {
				if _, ok := l.rows[identity]; ok {
					return true
				}
			}
		}
		return false
	}
	for _, c := range modelIdentities {
		v, err := s.h.store.View(context.Background(), c)
		if err != nil {
			s.Fatal(err)
		}
		s.aside(c, v)
		for i, m := range v.Group().Members {
			if m.Until != 0 || !hasRow(m.Identity) {
				continue
			}
			if v.Known() {
				want[v.Customer()] = strings.Join(read(v, s.h.schema, s.h.now), ", ")
				s.had["a walk sees a group"] = s.had["a walk sees a group"] || len(v.Group().Members) > 1
				s.had["a walk sees a group by its second member"] = s.had["a walk sees a group by its second member"] || i > 0
			}
			break
		}
	}
	got := make(map[string]string)
	if _, err := s.h.store.Walk(context.Background(), profilestore.WalkOptions{Sample: 1}, func(v *profilestore.View) error {
		if _, ok := got[v.Customer()]; ok {
			s.Fatalf("a walk saw %s twice", v.Customer())
		}
		got[v.Customer()] = strings.Join(read(v, s.h.schema, s.h.now), ", ")
		return nil
	}); err != nil {
		s.Fatal(err)
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		s.Fatalf("a walk saw\n%v, want\n%v", got, want)
	}
}

// aside compares a view that is read aside with that through the cache, which it leaves
// as it is.
func (s *schedule) aside(identity string, v *profilestore.View) {
	before := s.h.store.Stats()
	aside, err := s.h.store.ViewAside(context.Background(), identity)
	if err != nil {
		s.Fatal(err)
	}
	if after := s.h.store.Stats(); after.CacheHits != before.CacheHits || after.CacheMisses != before.CacheMisses {
		s.Fatalf("%s: reading aside went through the cache", identity)
	}
	got, want := fmt.Sprint(aside.Customer(), read(aside, s.h.schema, s.h.now)), fmt.Sprint(v.Customer(), read(v, s.h.schema, s.h.now))
	if got != want || aside.DeltaVersion() != v.DeltaVersion() || aside.IdentityEpoch() != v.IdentityEpoch() {
		s.Fatalf("%s aside: %s, want %s", identity, got, want)
	}
}

// newWalkHouse has customers 0 to n−1 in one source and every third of them in the other.
func newWalkHouse(t *testing.T, n int) *house {
	t.Helper()
	h := &house{dir: t.TempDir(), schema: storeSchema(t), now: 20_000 * day, memory: new(memory.Memory)}
	if err := h.open(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.store.Close(); err != nil {
			t.Error(err)
		}
	})
	var bi, sc strings.Builder
	bi.WriteString("customer,value.balance,usage.data_mb\n")
	sc.WriteString("customer,service.plan,tag.vip\nonly_sc,gold,\n")
	for i := range n {
		fmt.Fprintf(&bi, "%d,%d,1\n", i, i)
		if i%3 == 0 {
			fmt.Fprintf(&sc, "%d,silver,true\n", i)
		}
	}
	asOf := h.now - day
	if err := h.loadBI(asOf, asOf, bi.String()); err != nil {
		t.Fatal(err)
	}
	if err := h.load("sc", asOf, sc.String()); err != nil {
		t.Fatal(err)
	}
	return h
}

// load loads a file of a source and activates it.
func (h *house) load(source string, asOf int64, csv string) error {
	file := filepath.Join(h.dir, source+".csv")
	if err := os.WriteFile(file, []byte(csv), 0o600); err != nil {
		return err
	}
	_, err := h.loadFile(source, asOf, asOf, file, 2)
	return err
}

// TestWalkSample: a sample is about as large as asked, the same each time, and part of
// a larger one; and every customer of it is seen with all rows.
func TestWalkSample(t *testing.T) {
	const n = 10_000
	h := newWalkHouse(t, n)
	var before map[string]bool
	for _, share := range []float64{0.01, 0.01, 0.1, 0.5, 1} {
		seen, vips := make(map[string]bool), 0
		var done, total int64
		walked, err := h.store.Walk(t.Context(), profilestore.WalkOptions{Sample: share, Progress: func(d, of int64) { done, total = d, of }}, func(v *profilestore.View) error {
			seen[v.Customer()] = true
			if v.At(h.now).Get(4).Flag() {
				vips++
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if len(walked) != 2 || walked[0].Rows != n || walked[1].Rows != n/3+2 || done != total || total != n+n/3+2 {
			t.Errorf("walked %+v, %d of %d rows", walked, done, total)
		}
		want := share * (n + 1)
		t.Logf("%v: %d customers, %d of them VIP", share, len(seen), vips)
		if off := math.Abs(float64(len(seen)) - want); off > 4*math.Sqrt(want*(1-share)) {
			t.Errorf("a sample of %v saw %d customers", share, len(seen))
		}
		if want := share * (n / 3); math.Abs(float64(vips)-want) > 1+4*math.Sqrt(want) {
			t.Errorf("%d of a sample of %v are VIP", vips, share)
		}
		for c := range before {
			if !seen[c] {
				t.Fatalf("%s is not in a larger sample", c)
			}
		}
		before = seen
	}
	for _, share := range []float64{0, -1, 1.01, math.NaN()} {
		if _, err := h.store.Walk(t.Context(), profilestore.WalkOptions{Sample: share}, nil); err == nil {
			t.Errorf("a sample of %v was taken", share)
		}
	}
}

// TestWalkEnds: an error of the caller, of a turn, and the end of the context end a
// walk, and nothing stays behind.
func TestWalkEnds(t *testing.T) {
	h := newWalkHouse(t, 2000)
	stop := errors.New("enough")
	seen := 0
	if _, err := h.store.Walk(t.Context(), profilestore.WalkOptions{Sample: 1}, func(*profilestore.View) error {
		if seen++; seen == 100 {
			return stop
		}
		return nil
	}); !errors.Is(err, stop) || seen != 100 {
		t.Errorf("%v after %d", err, seen)
	}
	var turns, open atomic.Int64
	if _, err := h.store.Walk(t.Context(), profilestore.WalkOptions{Sample: 1, Turn: func(context.Context) (func(), error) {
		if turns.Add(1) > 20 {
			return nil, stop
		}
		open.Add(1)
		return func() { open.Add(-1) }, nil
	}}, func(*profilestore.View) error { return nil }); !errors.Is(err, stop) || open.Load() != 0 {
		t.Errorf("%v, %d turns have not ended", err, open.Load())
	}
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := h.store.Walk(ctx, profilestore.WalkOptions{Sample: 1}, func(*profilestore.View) error { cancel(); return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
	if _, err := h.store.Walk(t.Context(), profilestore.WalkOptions{Sample: 1}, func(*profilestore.View) error { return nil }); err != nil {
		t.Error(err)
	}
}

// TestWalkOvertaken: a walk whose snapshots are no longer retained, so that records are
// pruned of what they do not cover, ends instead of giving numbers that are too low; one
// whose snapshots are replaced once goes on with those that it began with.
func TestWalkOvertaken(t *testing.T) {
	h := newWalkHouse(t, 500)
	for _, loads := range []int{1, 3} {
		seen := 0
		_, err := h.store.Walk(t.Context(), profilestore.WalkOptions{Sample: 1}, func(v *profilestore.View) error {
			if seen++; seen != 50 {
				return nil
			}
			for range loads {
				h.now += day
				if err := h.load("sc", h.now-day/2, fmt.Sprintf("customer,service.plan,tag.vip\nonly_sc,plan%d,\n", h.now)); err != nil {
					return err
				}
			}
			return nil
		})
		switch {
		case loads == 1 && (err != nil || seen != 501):
			t.Errorf("one load: %v after %d", err, seen)
		case loads == 3 && !errors.Is(err, profilestore.ErrWalkOvertaken):
			t.Errorf("three loads: %v after %d", err, seen)
		}
	}
}

// TestWalkNothing: without snapshots there is nobody to see.
func TestWalkNothing(t *testing.T) {
	h := &house{dir: t.TempDir(), schema: storeSchema(t), now: 20_000 * day, memory: new(memory.Memory)}
	if err := h.open(); err != nil {
		t.Fatal(err)
	}
	walked, err := h.store.Walk(t.Context(), profilestore.WalkOptions{Sample: 1}, func(*profilestore.View) error { return errors.New("somebody") })
	if err != nil || len(walked) != 0 {
		t.Error(walked, err)
	}
	if err := h.store.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := h.store.Walk(t.Context(), profilestore.WalkOptions{Sample: 1}, nil); !errors.Is(err, profilestore.ErrClosed) {
		t.Error(err)
	}
}
