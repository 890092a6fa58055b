package profilestore_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"rapport/profilestore"
	"rapport/profilestore/badger"
	"rapport/profilestore/memory"
)

const (
	minute  = int64(60 * 1e6)
	quarter = 15 * minute
	day     = 24 * 60 * minute
)

// storeFields are the fields of the store's tests: each kind of origin once.
func storeSchema(t testing.TB) *profilestore.Schema {
	t.Helper()
	set := &profilestore.EventRule{On: "true", Set: "x"}
	add := &profilestore.EventRule{On: "true", Add: "x"}
	s, err := profilestore.NewSchema([]profilestore.Source{{ID: "bi"}, {ID: "sc"}}, []profilestore.Field{
		{Name: "value.balance", Type: profilestore.TypeNumber, Batch: "bi", Decimals: 2, Events: set},
		{Name: "usage.data_mb", Type: profilestore.TypeCounter, Batch: "bi", Decimals: 3, Events: add},
		{Name: "service.plan", Type: profilestore.TypeText, Batch: "sc", Decimals: profilestore.NoDecimals},
		{Name: "usage.calls", Type: profilestore.TypeCounter, Decimals: 0, Events: add},
		{Name: "tag.vip", Type: profilestore.TypeFlag, Batch: "sc", Default: true, Decimals: profilestore.NoDecimals},
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// balanceAndUse maps the events of the store's tests: balance sets the balance,
// use adds to both counters.
type balanceAndUse struct{}

func (balanceAndUse) Map(e *profilestore.Event, dst []profilestore.Change) ([]profilestore.Change, error) {
	amount, ok := e.Attributes["amount"].(float64)
	if !ok {
		return dst, &profilestore.EventError{ID: e.ID, Message: "attribute amount must be a number"}
	}
	if e.Type == "balance" {
		return append(dst, profilestore.Change{Slot: 0, Value: profilestore.Number(amount)}), nil
	}
	return append(dst, profilestore.Change{Slot: 1, Value: profilestore.Number(amount)}, profilestore.Change{Slot: 3, Value: profilestore.Number(1)}), nil
}

// house is a store under test and the clock it lives by.
type house struct {
	dir    string
	schema *profilestore.Schema
	store  *profilestore.Store
	now    int64
	cache  int
	mapper profilestore.EventMapper // balanceAndUse if nil
	memory *memory.Memory           // Badger if nil
	// versions, if set, is around the engine in memory.
	versions *versions
	// around, if set, is what is put around the engine.
	around func(profilestore.Engine) profilestore.Engine
	remote *remoteServer // likewise

	segmentBytes int64 // of the journal
	checkpoint   profilestore.CheckpointOptions
	observer     profilestore.InteractionObserver
}

func (h *house) open() error {
	mapper := h.mapper
	if mapper == nil {
		mapper = balanceAndUse{}
	}
	engine, err := h.engine()
	if err != nil {
		return err
	}
	if h.around != nil {
		engine = h.around(engine)
	}
	h.store, err = profilestore.OpenStore(context.Background(), profilestore.Options{
		Dir: h.dir, Schema: h.schema, Mapper: mapper, Engine: engine, CacheEntries: h.cache,
		Clock: func() int64 { return h.now }, Logger: quiet(),
		SegmentBytes: h.segmentBytes, Checkpoint: h.checkpoint, Observer: h.observer,
	})
	return err
}

// engine opens the delta records.
func (h *house) engine() (profilestore.Engine, error) {
	dir := filepath.Join(h.dir, "deltas")
	if h.memory != nil {
		engine, err := h.memory.Open(dir)
		if err == nil && h.versions != nil {
			return h.versions.around(engine), nil
		}
		return engine, err
	}
	if h.remote != nil {
		return openRemote(context.Background(), h.remote, dir)
	}
	return badger.Open(dir, badger.Options{Logger: quiet()})
}

// generations returns the engine of loads.
func (h *house) generations() profilestore.GenerationEngine {
	if h.memory != nil {
		return h.memory
	}
	if h.remote != nil {
		return memory.Generations{}
	}
	return badger.Generations(quiet())
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func newHouse(t testing.TB, cache int) *house {
	t.Helper()
	h := &house{dir: t.TempDir(), schema: storeSchema(t), now: 20_000 * day, cache: cache}
	if err := h.open(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.store.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

func (h *house) loadBI(asOf, cut int64, csv string) error {
	file := filepath.Join(h.dir, "input.csv")
	if err := os.WriteFile(file, []byte(csv), 0o600); err != nil {
		return err
	}
	_, err := h.loadFile("bi", asOf, cut, file, 4)
	return err
}

// loadFile loads a file and makes it the current snapshot.
func (h *house) loadFile(source string, asOf, cut int64, file string, retain int) (*profilestore.LoadReport, error) {
	report, err := profilestore.Load(context.Background(), profilestore.LoadOptions{
		Dir: filepath.Join(h.dir, "snapshots"), Schema: h.schema, Engine: h.generations(), Source: source, Path: file,
		AsOf: asOf, IngestCut: cut, Retain: retain, AllowEmpty: true,
	})
	if err != nil {
		return nil, err
	}
	_, _, err = h.store.Snapshots().Activate(context.Background(), source, report.Snapshot.Generation)
	return report, err
}

// memoryDir returns a folder in memory where the machine has one with room: the
// schedules make hundreds of generations, and on a disk the test would do nothing
// but wait for fsync. What it tests does not depend on the disk.
func memoryDir(t *testing.T) string {
	t.Helper()
	var fs syscall.Statfs_t
	const shm = "/dev/shm"
	if err := syscall.Statfs(shm, &fs); err != nil || int64(fs.Bavail)*fs.Bsize < 4<<30 {
		return t.TempDir()
	}
	dir, err := os.MkdirTemp(shm, "rapport-test") //nolint:usetesting // TempDir is on a disk
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func event(id, kind, customer string, at int64, amount float64) *profilestore.Event {
	return &profilestore.Event{ID: id, Type: kind, Identity: customer, Time: at, Attributes: map[string]any{"amount": amount}}
}

func amount(e *profilestore.Event) float64 {
	f, _ := e.Attributes["amount"].(float64)
	return f
}

// TestStoreConcurrency: what many write about one customer and read at the same
// time adds up, and each read sees everything acknowledged before it.
func TestStoreConcurrency(t *testing.T) {
	h := newHouse(t, 1000)
	const writers, each = 16, 25
	var wg sync.WaitGroup
	var mu sync.Mutex
	acknowledged := 0
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				e := event(fmt.Sprintf("%d-%d", w, i), "use", "7", h.now, 1)
				if _, err := h.store.Ingest(context.Background(), []*profilestore.Event{e, e}); err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				acknowledged++
				atLeast := acknowledged
				mu.Unlock()
				v, err := h.store.View(context.Background(), "customer:7")
				if err != nil {
					t.Error(err)
					return
				}
				if got := v.At(h.now).Get(3).Number(); got < float64(atLeast) {
					t.Errorf("%d events are acknowledged, a read sees %v", atLeast, got)
				}
			}
		})
	}
	wg.Wait()
	v, err := h.store.View(context.Background(), "customer:7")
	if err != nil {
		t.Fatal(err)
	}
	if got := v.At(h.now).Get(3).Number(); got != writers*each {
		t.Errorf("%d events count %v", writers*each, got)
	}
	if s := h.store.Stats(); s.Accepted != writers*each || s.Duplicates != writers*each {
		t.Errorf("accepted %d and duplicates %d, want %d each", s.Accepted, s.Duplicates, writers*each)
	}
}

func TestIngestRefusals(t *testing.T) {
	h := newHouse(t, 10)
	long := strings.Repeat("x", 70_000)
	for _, c := range []struct {
		name  string
		event *profilestore.Event
		want  string
	}{
		{"no id", event("", "use", "1", h.now, 1), "it has no id"},
		{"no type", event("a", "", "1", h.now, 1), "it has no type"},
		{"no identity", event("a", "use", "", h.now, 1), "has no id"},
		{"bad namespace", event("a", "use", "Bad Name:1", h.now, 1), "namespace"},
		{"control characters", event("a", "use", "a\x00b", h.now, 1), "not printable"},
		{"future", event("a", "use", "1", h.now+6*minute, 1), "in the future"},
		{"mapper", &profilestore.Event{ID: "a", Type: "use", Identity: "1", Time: h.now}, "amount must be a number"},
		{"size", &profilestore.Event{ID: "a", Type: "use", Identity: "1", Time: h.now, Attributes: map[string]any{"amount": 1.0, "x": long}}, "at most 65536"},
	} {
		t.Run(c.name, func(t *testing.T) {
			good := event("good "+c.name, "use", "2", h.now, 1)
			r, err := h.store.Ingest(context.Background(), []*profilestore.Event{c.event, good})
			if err != nil {
				t.Fatal(err)
			}
			if r[0].Outcome != profilestore.Refused || !strings.Contains(fmt.Sprint(r[0].Err), c.want) {
				t.Errorf("outcome %v, error %v, want one with %q", r[0].Outcome, r[0].Err, c.want)
			}
			if r[1].Outcome != profilestore.Accepted {
				t.Errorf("the good event beside it: outcome %v", r[1].Outcome)
			}
		})
	}
}

// TestForeignJournal: deltas and a journal that do not belong together are not
// joined, which would lose events silently.
func TestForeignJournal(t *testing.T) {
	h := newHouse(t, 0)
	if _, err := h.store.Ingest(context.Background(), []*profilestore.Event{event("a", "use", "1", h.now, 1)}); err != nil {
		t.Fatal(err)
	}
	if err := h.store.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(h.dir, "journal")); err != nil {
		t.Fatal(err)
	}
	if err := h.open(); !errors.Is(err, profilestore.ErrForeignDeltas) {
		t.Fatalf("opened with another journal: %v", err)
	}
	if err := os.RemoveAll(filepath.Join(h.dir, "deltas")); err != nil {
		t.Fatal(err)
	}
	if err := h.open(); err != nil {
		t.Fatal(err)
	}
}

// partial is a later schema's mapper: its new rule can't be carried out for the
// events of before, the old ones can.
type partial struct{ balanceAndUse }

func (p partial) Map(e *profilestore.Event, dst []profilestore.Change) ([]profilestore.Change, error) {
	dst, err := p.balanceAndUse.Map(e, dst)
	if err != nil {
		return dst, err
	}
	return dst, &profilestore.EventError{ID: e.ID, Message: "the new field needs what this event does not have"}
}

// TestReplayUnderLaterSchema: an event that was taken keeps what it changes, also
// when a later rule can't be carried out for it.
func TestReplayUnderLaterSchema(t *testing.T) {
	h := newHouse(t, 0)
	if _, err := h.store.Ingest(context.Background(), []*profilestore.Event{event("a", "balance", "1", h.now, 7)}); err != nil {
		t.Fatal(err)
	}
	if err := h.store.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(h.dir, "deltas")); err != nil {
		t.Fatal(err)
	}
	h.mapper = partial{}
	if err := h.open(); err != nil {
		t.Fatal(err)
	}
	v, err := h.store.View(context.Background(), "customer:1")
	if err != nil {
		t.Fatal(err)
	}
	if got := v.At(h.now).Get(0).Number(); got != 7 {
		t.Errorf("after the replay the balance is %v, want 7", v.At(h.now).Get(0))
	}
	r, err := h.store.Ingest(context.Background(), []*profilestore.Event{event("b", "balance", "1", h.now, 8)})
	if err != nil || r[0].Outcome != profilestore.Refused {
		t.Errorf("a new event that can't be mapped: %v, %v", r, err)
	}
}

// TestCacheHoldsWhatIsKnown: a hit is the same view, and costs no allocation.
func TestCacheHoldsWhatIsKnown(t *testing.T) {
	h := newHouse(t, 1000)
	if _, err := h.store.Ingest(context.Background(), []*profilestore.Event{event("a", "use", "1", h.now, 1)}); err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	first, err := h.store.View(ctx, "customer:1")
	if err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() {
		if v, _ := h.store.View(ctx, "customer:1"); v != first {
			t.Error("a hit gave another view")
		}
	}); n != 0 {
		t.Errorf("a hit allocates %v times", n)
	}
	if h.store.CachedView("customer:nobody") != nil {
		t.Error("an unknown customer is in the cache")
	}
}
