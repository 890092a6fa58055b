package profilestore_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"rapport/profilestore"
	"rapport/profilestore/backuplock"
	"rapport/profilestore/memory"
)

// oldHouse returns a closed store whose journal has lost its beginning, and what customers
// 0 to 9 look like in it.
func oldHouse(t *testing.T) (h *house, want [][]string) {
	t.Helper()
	h = &house{dir: t.TempDir(), schema: storeSchema(t), now: 20_000 * day, memory: new(memory.Memory), segmentBytes: 1000}
	if err := h.open(); err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		h.use(t, fmt.Sprint(i), fmt.Sprint("customer:", i%10), h.now)
		if i == 70 {
			h.retainAll(t)
		}
	}
	h.link(t, "customer:1", "customer:2")
	want = h.customers(t)
	if err := h.store.Close(); err != nil {
		t.Fatal(err)
	}
	return h, want
}

// retainAll removes what can be removed of the journal.
func (h *house) retainAll(t *testing.T) {
	t.Helper()
	removed, err := h.store.Retain(context.Background(), time.Now().Add(time.Hour))
	if err != nil || len(removed) == 0 {
		t.Fatal(removed, err)
	}
}

func (h *house) customers(t *testing.T) (out [][]string) {
	t.Helper()
	for i := range 10 {
		v, err := h.store.View(context.Background(), fmt.Sprint("customer:", i))
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, read(v, h.schema, h.now))
	}
	return out
}

func (h *house) baseFile(t *testing.T) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(h.dir, "base", "*"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	return files[0]
}

func (h *house) deltas() string { return filepath.Join(h.dir, "deltas") }

// TestBaseDamage turns over bytes of a base. It is never taken for a good one: neither
// by who derives records from it, nor by who is about to throw records away.
func TestBaseDamage(t *testing.T) {
	h, want := oldHouse(t)
	path := h.baseFile(t)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	other := modelSchema(t)
	found := 0
	check := func(what string, content []byte) {
		t.Helper()
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		v, err := profilestore.VerifyJournal(t.Context(), h.dir, nil)
		if err != nil || v.BaseError == nil {
			t.Fatalf("%s: nothing is found: %v", what, err)
		}
		found++
		dropped, err := profilestore.DropForeignDeltas(t.Context(), h.dir, other)
		if _, statErr := os.Stat(h.deltas()); err == nil || dropped || statErr != nil || !strings.Contains(err.Error(), "another schema: first apply that one again") {
			t.Fatalf("%s: records are thrown away: %v, %v, %v", what, dropped, err, statErr)
		}
	}
	for i := 0; i < len(whole); i += 1 + i%5 { // headers and ends are reached, too, see the counts
		damaged := slices.Clone(whole)
		damaged[i] ^= 0x10
		check(fmt.Sprintf("byte %d of %d", i, len(whole)), damaged)
	}
	for cut := 0; cut < len(whole); cut += 97 {
		check(fmt.Sprintf("cut at %d of %d", cut, len(whole)), whole[:cut])
	}
	t.Logf("%d damages, all found", found)

	// While the records are there a store opens beside a damaged one, and writes another.
	if err := h.open(); err != nil {
		t.Fatal(err)
	}
	b, err := h.store.WriteBase(t.Context(), profilestore.WriteBaseOptions{})
	if err != nil || b.Position != 101 || b.Records != 10 {
		t.Fatal(b, err)
	}
	if err := h.store.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(h.deltas()); err != nil {
		t.Fatal(err)
	}
	if err := h.open(); err != nil {
		t.Fatal(err)
	}
	if got := h.customers(t); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("derived from the new base: %v, want %v", got, want)
	}
	if err := h.store.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestWithoutABase: records of which the journal does not have everything are not thrown
// away, and nothing is derived from a part.
func TestWithoutABase(t *testing.T) {
	h, want := oldHouse(t)
	base := h.baseFile(t)
	content, err := os.ReadFile(base)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(base); err != nil {
		t.Fatal(err)
	}
	if dropped, err := profilestore.DropForeignDeltas(t.Context(), h.dir, modelSchema(t)); dropped || !errors.Is(err, profilestore.ErrBaseMissing) {
		t.Errorf("dropped: %v, %v", dropped, err)
	}
	v, err := profilestore.VerifyJournal(t.Context(), h.dir, nil)
	if err != nil || len(v.Journal.Damages) != 1 || v.Journal.Damages[0].From != 1 {
		t.Errorf("the missing beginning is not found: %+v, %v", v, err)
	}
	if err := h.open(); err == nil || !strings.Contains(err.Error(), "a segment file is missing") {
		t.Errorf("a store opens without the base: %v", err)
	}
	if err := os.WriteFile(base, content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := h.open(); err != nil {
		t.Fatal(err)
	}
	if got := h.customers(t); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%v, want %v", got, want)
	}
	if err := h.store.Close(); err != nil {
		t.Fatal(err)
	}
	// A base of another journal.
	other, _ := oldHouse(t)
	if err := os.RemoveAll(filepath.Join(h.dir, "journal")); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(filepath.Join(h.dir, "journal"), os.DirFS(filepath.Join(other.dir, "journal"))); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(h.deltas()); err != nil {
		t.Fatal(err)
	}
	if err := h.open(); err == nil || !strings.Contains(err.Error(), "is not of the journal that is there") {
		t.Errorf("a store opens with the base of another journal: %v", err)
	}
}

// TestRetainWaitsForBackups: nothing vanishes while a backup copies.
func TestRetainWaitsForBackups(t *testing.T) {
	h, _ := oldHouse(t)
	if err := h.open(); err != nil {
		t.Fatal(err)
	}
	for i := range 30 {
		h.use(t, fmt.Sprint("more", i), "customer:1", h.now)
	}
	lock, err := backuplock.Hold(t.Context(), h.dir)
	if err != nil {
		t.Fatal(err)
	}
	first := h.store.JournalFirst()
	if removed, err := h.store.Retain(t.Context(), time.Now().Add(time.Hour)); err != nil || len(removed) > 0 || h.store.JournalFirst() != first {
		t.Errorf("removed during a backup: %v, %v", removed, err)
	}
	if files, err := filepath.Glob(filepath.Join(h.dir, "base", "*")); err != nil || len(files) != 2 {
		t.Errorf("bases during a backup: %v, %v", files, err)
	}
	if err := lock.Release(); err != nil {
		t.Fatal(err)
	}
	h.retainAll(t)
	if err := h.store.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestInterruptedDerivation: a store that was derived from a base for half is derived anew
// from the beginning.
func TestInterruptedDerivation(t *testing.T) {
	h, want := oldHouse(t)
	var err error
	if h.schema, err = profilestore.NewSchema(h.schema.Sources(), append(slices.Clone(h.schema.Fields()),
		profilestore.Field{Name: "usage.new", Type: profilestore.TypeCounter, Decimals: 0, Events: &profilestore.EventRule{On: "true", Add: "1"}})); err != nil {
		t.Fatal(err)
	}
	h.mapper = countMapper{slot: 5}
	failed := 0
	for n := 1; ; n++ {
		if _, err := profilestore.DropForeignDeltas(t.Context(), h.dir, h.schema); err != nil {
			t.Fatal(err)
		}
		var calls atomic.Int64 // by several writers
		h.around = func(e profilestore.Engine) profilestore.Engine {
			return &failingEngine{Engine: e, before: func() error {
				if calls.Add(1) == int64(n) {
					return errors.New("out of order")
				}
				return nil
			}}
		}
		if err := h.open(); err == nil {
			break
		} else if !strings.Contains(err.Error(), "out of order") {
			t.Fatal(err)
		}
		failed++
	}
	t.Logf("failed %d times", failed)
	got := h.customers(t)
	sum := 0
	for i := range got {
		if fmt.Sprint(got[i][:5]) != fmt.Sprint(want[i]) {
			t.Errorf("customer %d: %v, want %v", i, got[i], want[i])
		}
		if i != 2 { // who is customer 1
			n := 0
			_, _ = fmt.Sscan(got[i][5], &n)
			sum += n
		}
	}
	if kept := 100 - int(h.store.JournalFirst()) + 1; sum != kept || failed < 4 {
		t.Errorf("the new field has %d events, %d are in the journal; %d failures", sum, kept, failed)
	}
	if err := h.store.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestFieldKeepsItsBeginning: a field that is newer than the base has what the journal had
// when it was derived, also when the journal has lost it.
func TestFieldKeepsItsBeginning(t *testing.T) {
	h := &house{dir: t.TempDir(), schema: storeSchema(t), now: 20_000 * day, memory: new(memory.Memory), segmentBytes: 1000}
	if err := h.open(); err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		h.use(t, fmt.Sprint(i), "customer:1", h.now)
	}
	// The first file alone is old: the base stands for more than what is removed.
	files, err := filepath.Glob(filepath.Join(h.dir, "journal", "*.journal"))
	if err != nil || len(files) < 4 {
		t.Fatal(files, err)
	}
	if err := os.Chtimes(files[0], time.Time{}, time.Now().Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	if removed, err := h.store.Retain(t.Context(), time.Now().Add(-time.Minute)); err != nil || len(removed) != 1 {
		t.Fatal(removed, err)
	}
	left := fmt.Sprint(100 - h.store.JournalFirst() + 1)
	if err := h.store.Close(); err != nil {
		t.Fatal(err)
	}
	if h.schema, err = profilestore.NewSchema(h.schema.Sources(), append(slices.Clone(h.schema.Fields()),
		profilestore.Field{Name: "usage.new", Type: profilestore.TypeCounter, Decimals: 0, Events: &profilestore.EventRule{On: "true", Add: "1"}})); err != nil {
		t.Fatal(err)
	}
	h.mapper = countMapper{slot: 5}
	if dropped, err := profilestore.DropForeignDeltas(t.Context(), h.dir, h.schema); err != nil || !dropped {
		t.Fatal(dropped, err)
	}
	if err := h.open(); err != nil {
		t.Fatal(err)
	}
	h.want(t, 0, "usage.new", left)
	h.retainAll(t)
	if err := h.store.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(h.deltas()); err != nil {
		t.Fatal(err)
	}
	if err := h.open(); err != nil {
		t.Fatal(err)
	}
	h.want(t, 0, "usage.new", left)
	h.want(t, 0, "usage.calls", "100")
	if err := h.store.Close(); err != nil {
		t.Fatal(err)
	}
}

// countMapper is balanceAndUse, with one more counter.
type countMapper struct {
	balanceAndUse
	slot int
}

func (m countMapper) Map(e *profilestore.Event, dst []profilestore.Change) ([]profilestore.Change, error) {
	dst, err := m.balanceAndUse.Map(e, dst)
	return append(dst, profilestore.Change{Slot: m.slot, Value: profilestore.Number(1)}), err
}

// failingEngine calls before ahead of each Apply and Barrier.
type failingEngine struct {
	profilestore.Engine
	before func() error
}

func (e *failingEngine) Apply(ctx context.Context, ops []profilestore.Op) error {
	if err := e.before(); err != nil {
		return err
	}
	return e.Engine.Apply(ctx, ops)
}

func (e *failingEngine) Barrier(ctx context.Context) error {
	if err := e.before(); err != nil {
		return err
	}
	return e.Engine.Barrier(ctx)
}

// TestCheckpointsWhileRunning: a store that is not closed is replayed from a place not far
// back, and nothing is missing.
func TestCheckpointsWhileRunning(t *testing.T) {
	h := &house{
		dir: t.TempDir(), schema: storeSchema(t), now: 20_000 * day, segmentBytes: 20_000, memory: new(memory.Memory),
		checkpoint: profilestore.CheckpointOptions{Entries: 50, Every: time.Hour},
	}
	if err := h.open(); err != nil {
		t.Fatal(err)
	}
	sent := 0
	for h.store.Stats().Checkpoints < 3 { // each is made within some 200 ms
		var events []*profilestore.Event
		for range 20 {
			events = append(events, event(fmt.Sprint(sent), "use", fmt.Sprint(sent%10), h.now, 1))
			sent++
		}
		h.send(t, events...)
	}
	checkpoint := filepath.Join(h.deltas(), "CHECKPOINT")
	content, err := os.ReadFile(checkpoint)
	if err != nil {
		t.Fatal(err)
	}
	want := h.customers(t)
	if err := h.store.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(checkpoint, content, 0o600); err != nil { // as after kill -9
		t.Fatal(err)
	}
	if err := h.open(); err != nil {
		t.Fatal(err)
	}
	if n := h.store.Stats().Replayed; n == 0 && !strings.Contains(string(content), fmt.Sprintf(`"applied":%d,`, sent)) || n >= uint64(sent) {
		t.Errorf("%d of %d entries are replayed, from %s", n, sent, content)
	} else {
		t.Logf("%d of %d entries are replayed", n, sent)
	}
	if got := h.customers(t); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%v, want %v", got, want)
	}
	if err := h.store.Close(); err != nil {
		t.Fatal(err)
	}
}
