package profilestore_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"pgregory.net/rapid"

	"rapport/profilestore"
	"rapport/profilestore/badger"
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
}

func (h *house) open() error {
	mapper := h.mapper
	if mapper == nil {
		mapper = balanceAndUse{}
	}
	engine, err := badger.Open(filepath.Join(h.dir, "deltas"), badger.Options{Logger: quiet()})
	if err != nil {
		return err
	}
	h.store, err = profilestore.OpenStore(context.Background(), profilestore.Options{
		Dir: h.dir, Schema: h.schema, Mapper: mapper, Engine: engine, CacheEntries: h.cache,
		Clock: func() int64 { return h.now }, Logger: quiet(),
	})
	return err
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

func (h *house) load(source string, asOf, cut int64, csv string) error {
	file := filepath.Join(h.dir, "input.csv")
	if err := os.WriteFile(file, []byte(csv), 0o600); err != nil {
		return err
	}
	report, err := profilestore.Load(context.Background(), profilestore.LoadOptions{
		Dir: filepath.Join(h.dir, "snapshots"), Schema: h.schema, Engine: badger.Generations(quiet()), Source: source, Path: file,
		AsOf: asOf, IngestCut: cut, Retain: 4, AllowEmpty: true,
	})
	if err != nil {
		return err
	}
	_, _, err = h.store.Snapshots().Activate(context.Background(), source, report.Snapshot.Generation)
	return err
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

// model is the naive twin of the store: all distinct events, and every load.
type model struct {
	events []*profilestore.Event
	logged map[*profilestore.Event]int64
	seen   map[string]bool
	loads  map[string][]modelLoad // by source; the last is active
}

type modelLoad struct {
	asOf, cut int64
	stamp     int64 // in the plan's name
	balance   map[string]float64
	use       map[string]float64
	customers []string
}

func (m *model) active(source string) *modelLoad {
	if n := len(m.loads[source]); n > 0 {
		return &m.loads[source][n-1]
	}
	return nil
}

// want returns what the view of a customer must be, field by field, as text.
func (m *model) want(customer string) []string {
	bi, sc := m.active("bi"), m.active("sc")
	has := func(l *modelLoad) bool { return l != nil && slices.Contains(l.customers, customer) }
	balance, use, calls := "unknown", "unknown", 0.0
	var last *profilestore.Event
	total := 0.0
	for _, e := range m.events {
		if e.Identity != "customer:"+customer {
			continue
		}
		if e.Type == "balance" {
			if last == nil || e.Time > last.Time {
				last = e
			}
			continue
		}
		calls++
		total += amount(e)
	}
	if has(bi) {
		use = profilestore.Number(total).String()
		balance = profilestore.Number(bi.balance[customer]).String()
	}
	if last != nil && (!has(bi) || last.Time >= bi.asOf) {
		balance = profilestore.Number(amount(last)).String()
	}
	plan, vip := "unknown", "unknown"
	if has(sc) {
		plan, vip = fmt.Sprintf("plan%d", sc.stamp), "true"
	}
	return []string{balance, use, plan, profilestore.Number(calls).String(), vip}
}

func got(v *profilestore.View, s *profilestore.Schema) []string {
	out := make([]string, len(s.Fields()))
	for slot := range out {
		out[slot] = v.Get(slot).String()
	}
	return out
}

// TestStoreAgainstModel runs random schedules of events, redelivery, loads of two
// sources, rollbacks, restarts and losses of the delta records, against a fold
// over everything that ever happened. The batch job of the schedules is an honest
// one: what it says of a counter is the sum of the events that it covers.
func TestStoreAgainstModel(t *testing.T) {
	if testing.Short() {
		t.Skip("runs a store on disk")
	}
	scratch := memoryDir(t)
	counts := make(map[string]int)
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp(scratch, "store") //nolint:usetesting // one for each schedule, removed after it
		if err != nil {
			rt.Fatal(err)
		}
		h := &house{dir: dir, schema: storeSchema(t), now: 20_000 * day, cache: rapid.SampledFrom([]int{0, 64, 10_000}).Draw(rt, "cache")}
		if err := h.open(); err != nil {
			rt.Fatal(err)
		}
		defer func() {
			if err := h.store.Close(); err != nil {
				rt.Error(err)
			}
			if err := os.RemoveAll(dir); err != nil {
				rt.Error(err)
			}
		}()
		m := &model{seen: make(map[string]bool), loads: make(map[string][]modelLoad), logged: make(map[*profilestore.Event]int64)}
		customers := []string{"1", "2", "3"}
		for range rapid.IntRange(4, 14).Draw(rt, "steps") {
			h.now += rapid.Int64Range(0, 3*60).Draw(rt, "minutes") * minute
			switch step := rapid.SampledFrom([]string{"events", "events", "events", "load", "load", "load", "load", "rollback", "rollback", "restart", "rebuild"}).Draw(rt, "step"); step {
			case "events":
				counts[step]++
				var batch []*profilestore.Event
				var want []profilestore.Outcome
				for range rapid.IntRange(1, 5).Draw(rt, "events") {
					id := fmt.Sprintf("e%d", rapid.IntRange(0, 30).Draw(rt, "id"))
					c := rapid.SampledFrom(customers).Draw(rt, "customer")
					e := event(id, rapid.SampledFrom([]string{"balance", "use"}).Draw(rt, "type"), c,
						h.now-rapid.Int64Range(0, 30*60).Draw(rt, "late by")*minute-int64(len(m.events)), float64(rapid.IntRange(1, 4000).Draw(rt, "amount"))/4)
					batch = append(batch, e)
					if key := c + "/" + id; m.seen[key] {
						counts["duplicate"]++
						want = append(want, profilestore.Duplicate)
					} else {
						m.seen[key] = true
						m.events = append(m.events, e)
						m.logged[e] = h.now
						want = append(want, profilestore.Accepted)
						if bi := m.active("bi"); bi != nil && e.Time < bi.asOf {
							counts["late for the batch"]++
						}
					}
				}
				results, err := h.store.Ingest(context.Background(), batch)
				if err != nil {
					rt.Fatal(err)
				}
				for i, r := range results {
					if r.Outcome != want[i] {
						rt.Fatalf("event %d: outcome %v, want %v (%v)", i, r.Outcome, want[i], r.Err)
					}
				}
			case "load":
				source := rapid.SampledFrom([]string{"bi", "bi", "sc"}).Draw(rt, "source")
				counts[step+" "+source]++
				m.load(rt, h, source, customers)
			case "rollback":
				source := rapid.SampledFrom([]string{"bi", "bi", "sc"}).Draw(rt, "source")
				_, _, err := h.store.Snapshots().Rollback(context.Background(), source)
				if len(m.loads[source]) < 2 {
					if !errors.Is(err, profilestore.ErrNoEarlierSnapshot) {
						rt.Fatalf("rollback without an earlier snapshot: %v", err)
					}
					continue
				}
				counts[step]++
				if err != nil {
					rt.Fatal(err)
				}
				m.loads[source] = m.loads[source][:len(m.loads[source])-1]
			case "restart", "rebuild":
				counts[step]++
				if err := h.store.Close(); err != nil {
					rt.Fatal(err)
				}
				if step == "rebuild" {
					if err := os.RemoveAll(filepath.Join(dir, "deltas")); err != nil {
						rt.Fatal(err)
					}
				}
				if err := h.open(); err != nil {
					rt.Fatal(err)
				}
			}
			for _, c := range customers {
				v, err := h.store.View(context.Background(), "customer:"+c)
				if err != nil {
					rt.Fatal(err)
				}
				if got, want := strings.Join(got(v, h.schema), " "), strings.Join(m.want(c), " "); got != want {
					rt.Fatalf("customer %s:\n got %s\nwant %s", c, got, want)
				}
			}
		}
	})
	t.Log(counts)
	for _, step := range []string{"events", "duplicate", "late for the batch", "load bi", "load sc", "rollback", "restart", "rebuild"} {
		if counts[step] == 0 {
			t.Errorf("no schedule had %q", step)
		}
	}
}

// load makes the batch job of a source run and its snapshot current.
func (m *model) load(t *rapid.T, h *house, source string, customers []string) {
	cut := h.now / quarter * quarter
	asOf := cut - rapid.Int64Range(0, 96).Draw(t, "as-of")*quarter
	l := modelLoad{asOf: asOf, cut: cut, stamp: h.now, balance: make(map[string]float64), use: make(map[string]float64)}
	if len(m.loads[source]) >= 4 {
		return // older ones would be removed, and the model keeps all
	}
	for _, e := range m.events {
		if e.Time < asOf && m.logged[e] < cut && e.Type != "balance" {
			l.use[strings.TrimPrefix(e.Identity, "customer:")] += amount(e)
		}
	}
	var csv strings.Builder
	if source == "bi" {
		csv.WriteString("customer,value.balance,usage.data_mb\n")
	} else {
		csv.WriteString("customer,service.plan,tag.vip\n")
	}
	for _, c := range customers {
		if rapid.IntRange(0, 4).Draw(t, "absent") == 0 {
			continue
		}
		l.customers = append(l.customers, c)
		l.balance[c] = float64(rapid.IntRange(0, 10_000).Draw(t, "cents")) / 100
		if source == "bi" {
			fmt.Fprintf(&csv, "%s,%v,%v\n", c, l.balance[c], l.use[c])
		} else {
			fmt.Fprintf(&csv, "%s,plan%d,\n", c, l.stamp)
		}
	}
	if err := h.load(source, asOf, cut, csv.String()); err != nil {
		t.Fatal(err)
	}
	m.loads[source] = append(m.loads[source], l)
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
				if got := v.Get(3).Number(); got < float64(atLeast) {
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
	if got := v.Get(3).Number(); got != writers*each {
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
	if got := v.Get(0).Number(); got != 7 {
		t.Errorf("after the replay the balance is %v, want 7", v.Get(0))
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
