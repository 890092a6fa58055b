package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"rapport/profilestore"
	"rapport/profilestore/badger"
	"rapport/profilestore/rules"
	"rapport/server/catalog"
)

// Profile is what it costs to have a customer's profile.
type Profile struct {
	// Merge is reading a counter of 96 cells, against a loop that adds the same cells
	// in a slice.
	Merge *Comparison
	// Miss is a view of a customer who is not in the cache, against the two gets of
	// the same bytes.
	Miss *Comparison
	// Hit is a view of a customer who is, against a look-up in a map with a lock.
	Hit *Comparison

	rowBytes, recordBytes int
}

const (
	mergeCells = 96
	// profileCustomers are so many that what is read of one is seldom in a cache of
	// the processor.
	profileCustomers = 2000
	profileEvents    = 32 // of each customer, each in a cell of its own
	profileTags      = 300
)

// MeasureProfile measures a store of its own.
func MeasureProfile(ctx context.Context, o Options) (_ *Profile, err error) {
	h := &profileHouse{now: 20_000 * dayMicros}
	if h.dir, err = os.MkdirTemp("", "rapport-bench"); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, h.close()) }()
	if err := h.fill(ctx); err != nil {
		return nil, err
	}
	p := &Profile{}
	for _, part := range []struct {
		into    **Comparison
		cache   int
		measure func(context.Context, *Profile) (limit, subject Subject, err error)
	}{
		{&p.Merge, 1000, h.merge},
		{&p.Miss, 0, h.miss},
		{&p.Hit, 100 * profileCustomers, h.hit},
	} {
		if err := h.open(ctx, part.cache); err != nil {
			return nil, err
		}
		limit, subject, err := part.measure(ctx, p)
		if err != nil {
			return nil, err
		}
		if *part.into, err = Compare(ctx, o, limit, subject); err != nil {
			return nil, err
		}
	}
	return p, nil
}

const dayMicros = 24 * 3600 * 1_000_000

// profileHouse is the store that is measured, and the clock it lives by.
type profileHouse struct {
	dir    string
	schema *profilestore.Schema
	now    int64
	engine profilestore.Engine
	store  *profilestore.Store
	rows   profilestore.Generation
}

// profileSchema has as many tags as a customer has in earnest.
func profileSchema() string {
	var b strings.Builder
	b.WriteString("sources: [{id: bi}]\nfields:\n" +
		"  - {name: usage.data_mb, type: counter, batch: bi, decimals: 3, events: {on: 'event.type == \"data\"', add: event.mb}}\n")
	for i := range profileTags {
		kind := []string{"flag", "flag", "number, decimals: 0", "number, decimals: 2"}[i%4]
		fmt.Fprintf(&b, "  - {name: tag.f%d, type: %s, batch: bi}\n", i, kind)
	}
	return b.String()
}

// open opens the store anew, with what it holds on disk.
func (h *profileHouse) open(ctx context.Context, cache int) error {
	if err := h.closeStore(); err != nil {
		return err
	}
	quiet := slog.New(slog.DiscardHandler)
	mapper, err := rules.NewEventMapper(h.schema)
	if err != nil {
		return err
	}
	if h.engine, err = badger.Open(filepath.Join(h.dir, "deltas"), badger.Options{Logger: quiet}); err != nil {
		return err
	}
	h.store, err = profilestore.OpenStore(ctx, profilestore.Options{
		Dir: h.dir, Schema: h.schema, Mapper: mapper, Engine: h.engine, CacheEntries: cache, Logger: quiet,
		Clock: func() int64 { return h.now },
	})
	return err
}

// fill makes the customers: a row of the batch source each, and events after it.
// Customer 0 has those that are merged.
func (h *profileHouse) fill(ctx context.Context) error {
	var problems []catalog.Problem
	if h.schema, problems = catalog.ReadSchema("schema.yaml", []byte(profileSchema())); len(problems) > 0 {
		return fmt.Errorf("bench: schema: %v", problems)
	}
	if err := h.open(ctx, 0); err != nil {
		return err
	}
	asOf := h.now
	if err := h.load(ctx, asOf); err != nil {
		return err
	}
	var events []*profilestore.Event
	send := func() error {
		results, err := h.store.Ingest(ctx, events)
		for _, r := range results {
			if r.Outcome != profilestore.Accepted {
				err = errors.Join(err, fmt.Errorf("bench: an event was not accepted: %w", r.Err))
			}
		}
		events = events[:0]
		return err
	}
	for i := range mergeCells {
		for c := range profileCustomers {
			if c > 0 && i >= profileEvents {
				break
			}
			events = append(events, &profilestore.Event{
				ID: fmt.Sprintf("%d.%d", c, i), Type: "data", Identity: profileCustomer(c), Time: h.now,
				Attributes: map[string]any{"mb": float64(1+i) / 8},
			})
			if len(events) == 500 {
				if err := send(); err != nil {
					return err
				}
			}
		}
		if err := send(); err != nil {
			return err
		}
		h.now += profilestore.CellWidth.Microseconds()
	}
	return nil
}

func profileCustomer(c int) string { return fmt.Sprintf("customer:%d", c) }

// load loads a row for each customer, three of four tags of which have a value.
func (h *profileHouse) load(ctx context.Context, asOf int64) error {
	var b bytes.Buffer
	b.WriteString("customer")
	for _, f := range h.schema.Fields() {
		fmt.Fprintf(&b, ",%s", f.Name)
	}
	for c := range profileCustomers {
		fmt.Fprintf(&b, "\n%d,%d", c, c)
		for i := range profileTags {
			switch k := c + i; {
			case k%4 == 0:
				b.WriteString(",")
			case i%4 < 2:
				b.WriteString([]string{",yes", ",no"}[k/4%2])
			default:
				fmt.Fprintf(&b, ",%d", k%30_000)
			}
		}
	}
	b.WriteByte('\n')
	file := filepath.Join(h.dir, "bi.csv")
	if err := os.WriteFile(file, b.Bytes(), 0o600); err != nil {
		return err
	}
	report, err := profilestore.Load(ctx, profilestore.LoadOptions{
		Dir: filepath.Join(h.dir, "snapshots"), Schema: h.schema, Engine: badger.Generations(slog.New(slog.DiscardHandler)),
		Source: "bi", Path: file, AsOf: asOf,
	})
	if err != nil {
		return err
	}
	_, _, err = h.store.Snapshots().Activate(ctx, "bi", report.Snapshot.Generation)
	return err
}

// mergeBatch is how many reads are timed together: one is no longer than the clock
// takes.
const mergeBatch = 64

// merge compares the reading of a counter with a loop over its cells.
func (h *profileHouse) merge(ctx context.Context, _ *Profile) (limit, subject Subject, err error) {
	view, err := h.store.View(ctx, profileCustomer(0))
	if err != nil {
		return limit, subject, err
	}
	// The cells, as the delta record has them, and the limits of the batch value: its
	// customer's is 0.
	type cell struct{ happened, logged, sum int64 }
	var cells []cell
	want := 0.0
	width := profilestore.CellWidth.Microseconds()
	begin := h.now/width - mergeCells
	for i := range int64(mergeCells) {
		cells = append(cells, cell{begin + i, begin + i, 125 * (1 + i)})
		want += float64(1+i) / 8
	}
	asOf, cut := begin*width, begin*width
	check := func(got float64) error {
		if got != mergeBatch*want {
			return fmt.Errorf("the counter is %v, want %v", got/mergeBatch, want)
		}
		return nil
	}
	loop := func() error {
		total := 0.0
		for range mergeBatch {
			var sum int64
			for i := range cells {
				if c := &cells[i]; (c.happened+1)*width > asOf || (c.logged+1)*width > cut {
					sum += c.sum
				}
			}
			total += float64(sum) / 1000
		}
		return check(total)
	}
	read := func() error {
		total := 0.0
		reading := view.At(h.now)
		for range mergeBatch {
			total += reading.Get(0).Number()
		}
		return check(total)
	}
	return Subject{Name: fmt.Sprintf("loop over %d cells", mergeCells), Batch: mergeBatch, Run: loop},
		Subject{Name: "counter of a view", Batch: mergeBatch, Goal: Goal{P50: time.Microsecond}, Run: read}, nil
}

// miss compares views of customers who are in no cache with the gets that they need.
func (h *profileHouse) miss(ctx context.Context, p *Profile) (limit, subject Subject, err error) {
	h.rows, err = badger.Generations(slog.New(slog.DiscardHandler)).OpenGeneration(filepath.Join(h.dir, "snapshots", "bi", "gen-1", "rows"))
	if err != nil {
		return limit, subject, err
	}
	keys := h.order()
	var record, row []byte
	next := func() func() string {
		i := 0
		return func() string {
			i = (i + 1) % len(keys)
			return keys[i]
		}
	}
	nextRaw, nextView := next(), next()
	gets := func() error {
		key := []byte(nextRaw())
		var found, found2 bool
		var err, err2 error
		record, found, err = h.engine.Get(ctx, key, record[:0])
		row, found2, err2 = h.rows.Get(key, row[:0])
		if err := errors.Join(err, err2); err != nil || !found || !found2 {
			return fmt.Errorf("%s has a record: %v, a row: %v; %w", key, found, found2, err)
		}
		p.recordBytes, p.rowBytes = len(record), len(row)
		return nil
	}
	view := func() error {
		v, err := h.store.View(ctx, nextView())
		if err != nil {
			return err
		}
		if _, hasRow := v.Snapshot(0); !hasRow || v.DeltaVersion() < profileEvents {
			return fmt.Errorf("a view without its row or record: %v, %d", hasRow, v.DeltaVersion())
		}
		return nil
	}
	return Subject{Name: "two gets", Run: gets}, Subject{Name: "view of one not in the cache", Goal: Goal{Ratio: 2}, Run: view}, nil
}

// order returns the customers in a random order.
func (h *profileHouse) order() []string {
	var keys []string
	for _, c := range rand.New(rand.NewPCG(1, 2)).Perm(profileCustomers) { //nolint:gosec // it only has to mix
		keys = append(keys, profileCustomer(c))
	}
	return keys
}

// hit compares views of customers who are in the cache with the least that a cache
// can be: a lock and one LRU list.
func (h *profileHouse) hit(ctx context.Context, _ *Profile) (limit, subject Subject, err error) {
	keys := h.order()
	lru, err := simplelru.NewLRU[string, *profilestore.View](2*profileCustomers, nil)
	if err != nil {
		return limit, subject, err
	}
	for _, key := range keys {
		v, err := h.store.View(ctx, key)
		if err != nil {
			return limit, subject, err
		}
		lru.Add(key, v)
	}
	var mu sync.Mutex
	look := func(name string, get func(key string) *profilestore.View, check func() error) Subject {
		i := 0
		return Subject{Name: name, Batch: mergeBatch, Run: func() error {
			for range mergeBatch {
				i = (i + 1) % len(keys)
				if v := get(keys[i]); v == nil || v.DeltaVersion() < profileEvents {
					return fmt.Errorf("%s is not in the cache", keys[i])
				}
			}
			return check()
		}}
	}
	fromList := func(key string) *profilestore.View {
		mu.Lock()
		defer mu.Unlock()
		v, _ := lru.Get(key)
		return v
	}
	fromStore := func(key string) *profilestore.View {
		v, err := h.store.View(ctx, key)
		if err != nil {
			return nil
		}
		return v
	}
	misses := h.store.Stats().CacheMisses
	hits := func() error {
		if n := h.store.Stats().CacheMisses; n != misses {
			return fmt.Errorf("%d views were not in the cache", n-misses)
		}
		return nil
	}
	return look("lock and LRU list", fromList, func() error { return nil }), look("view of one in the cache", fromStore, hits), nil
}

func (h *profileHouse) closeStore() error {
	var errs []error
	if h.rows != nil {
		errs = append(errs, h.rows.Close())
	}
	if h.store != nil {
		errs = append(errs, h.store.Close())
	}
	h.rows, h.store = nil, nil
	return errors.Join(errs...)
}

func (h *profileHouse) close() error {
	return errors.Join(h.closeStore(), os.RemoveAll(h.dir))
}

// Write prints the tables for people.
func (p *Profile) Write(w io.Writer) error {
	var errs []error
	for _, part := range []struct {
		title string
		c     *Comparison
	}{
		{fmt.Sprintf("reading a counter of %d cells", mergeCells), p.Merge},
		{fmt.Sprintf("a miss: a record of %d bytes and a row of %d", p.recordBytes, p.rowBytes), p.Miss},
		{"a hit", p.Hit},
	} {
		_, err := fmt.Fprintf(w, "%s:\n", part.title)
		errs = append(errs, err, part.c.Write(w))
	}
	return errors.Join(errs...)
}
