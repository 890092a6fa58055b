package evidence_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rapport/profilestore"
	"rapport/profilestore/badger"
	"rapport/profilestore/memory"
	"rapport/server/evidence"
)

const (
	minute = int64(60e6)
	day    = 24 * 60 * minute
	begin  = 20_000 * day
)

var schedules = flag.Int("schedules", 10, "how many schedules TestFold goes through")

// none maps events to nothing.
type none struct{}

func (none) Map(_ *profilestore.Event, dst []profilestore.Change) ([]profilestore.Change, error) {
	return dst, nil
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// house is a store, and a counter that it tells.
type house struct {
	dir     string
	memory  *memory.Memory // Badger if nil
	names   evidence.Names
	now     int64
	around  func(profilestore.Engine) profilestore.Engine // what is put around the engine; may be nil
	store   *profilestore.Store
	counter *evidence.Counter
}

func (h *house) file() string { return filepath.Join(h.dir, "evidence") }

func (h *house) open() error {
	schema, err := profilestore.NewSchema(nil, []profilestore.Field{
		{Name: "usage.calls", Type: profilestore.TypeCounter, Decimals: 0, Events: &profilestore.EventRule{On: "true", Add: "x"}},
	})
	if err != nil {
		return err
	}
	if h.counter, err = evidence.Open(h.file(), h.names, quiet()); err != nil {
		return err
	}
	var engine profilestore.Engine
	if dir := filepath.Join(h.dir, "deltas"); h.memory != nil {
		engine, err = h.memory.Open(dir)
	} else {
		engine, err = badger.Open(dir, badger.Options{Logger: quiet()})
	}
	if err != nil {
		return err
	}
	if h.around != nil {
		engine = h.around(engine)
	}
	h.store, err = profilestore.OpenStore(context.Background(), profilestore.Options{
		Dir: h.dir, Schema: schema, Mapper: none{}, Engine: engine, CacheEntries: 100, Logger: quiet(),
		Clock: func() int64 { return h.now }, Observer: h.counter, SegmentBytes: 4000,
	})
	if err == nil {
		h.counter.Advance(h.store.Applied())
	}
	return err
}

// close closes the store; if save, all is counted and saved.
func (h *house) close(save bool) error {
	err := h.store.Close()
	if err == nil && save {
		h.counter.Advance(h.store.Applied())
		err = h.counter.Save()
	}
	return err
}

// counts returns all totals.
func (h *house) counts() map[evidence.Key]uint64 {
	h.counter.Advance(h.store.Applied())
	out := make(map[evidence.Key]uint64)
	for _, x := range h.counter.All() {
		out[x.Key] = x.N
	}
	return out
}

// fold is the naive twin: each distinct event of an identity counts once.
type fold struct {
	taken  map[[2]string]int64 // when an event was logged, by identity and id
	totals map[evidence.Key]uint64
}

func (f *fold) add(e *profilestore.Event, now int64) (taken bool) {
	key := [2]string{e.Identity, e.ID}
	if at, ok := f.taken[key]; ok && at >= now-profilestore.IDHorizon.Microseconds() {
		return false
	}
	f.taken[key] = now
	channel, _ := e.Attributes["channel"].(string)
	outcome, _ := e.Attributes["outcome"].(string)
	offers := make(map[string]bool)
	if offer, ok := e.Attributes["offer"].(string); ok {
		offers[offer] = true
	}
	if items, ok := e.Attributes["items"].([]any); ok {
		for _, x := range items {
			if m, ok := x.(map[string]any); ok {
				if offer, ok := m["offer"].(string); ok {
					offers[offer] = true
				}
			}
		}
	}
	if channel != "" && (e.Type == profilestore.ContactEvent || e.Type == profilestore.OutcomeEvent) {
		for offer := range offers {
			f.totals[evidence.Key{Offer: offer, Channel: channel, Outcome: outcome}]++
		}
	}
	return true
}

// randomEvent draws a contact, an outcome or something else of one of a few customers.
func randomEvent(r *rand.Rand, now int64, ids *int) *profilestore.Event {
	*ids++
	e := &profilestore.Event{
		ID: fmt.Sprint(*ids), Type: profilestore.ContactEvent, Identity: fmt.Sprintf("customer:%d", r.IntN(12)),
		Time: now - r.Int64N(4*day), Attributes: map[string]any{},
	}
	if r.IntN(10) > 0 {
		e.Attributes["channel"] = fmt.Sprintf("c%d", r.IntN(3))
	}
	offer := func() string { return fmt.Sprintf("o%d", r.IntN(5)) }
	switch k := r.IntN(10); {
	case k == 0:
		e.Type = "call"
	case k < 4:
		e.Type = profilestore.OutcomeEvent
		e.Attributes["outcome"] = []string{"accepted", "clicked", "rejected"}[r.IntN(3)]
		e.Attributes["offer"] = offer()
	case k < 6:
		e.Attributes["offer"] = offer()
	case k < 7:
		e.Attributes["group"] = "g"
	default:
		var items []any
		for range 1 + r.IntN(4) {
			items = append(items, map[string]any{"offer": offer(), "class": []string{"care", "marketing"}[r.IntN(2)]})
		}
		e.Attributes["items"] = items
	}
	return e
}

func again(e *profilestore.Event) *profilestore.Event {
	x := *e
	x.Logged = 0
	return &x
}

// TestFold: whatever is sent twice and however the process ends, the counts are those of
// the distinct events. A run ends cleanly, or with what the file or the records had some
// time ago, or without them.
func TestFold(t *testing.T) {
	saw := make(map[string]int)
	for seed := range uint64(*schedules) {
		r := rand.New(rand.NewPCG(seed, 1))
		h := &house{dir: t.TempDir(), memory: &memory.Memory{}, now: begin}
		if err := h.open(); err != nil {
			t.Fatal(err)
		}
		twin := fold{taken: make(map[[2]string]int64), totals: make(map[evidence.Key]uint64)}
		var sent []*profilestore.Event
		ids, lost := 0, 0
		for step := range 24 {
			h.now += r.Int64N(3 * 60 * minute)
			if r.IntN(20) == 0 {
				h.now += 3 * day
				saw["after the horizon"]++
			}
			var batch []*profilestore.Event
			for range 1 + r.IntN(30) {
				e := randomEvent(r, h.now, &ids)
				switch {
				case len(batch) > 0 && r.IntN(8) == 0:
					e = again(batch[r.IntN(len(batch))])
					saw["sent twice at once"]++
				case len(sent) > 0 && r.IntN(4) == 0:
					e = again(sent[r.IntN(len(sent))])
					saw["sent again"]++
				}
				batch = append(batch, e)
			}
			results, err := h.store.Ingest(t.Context(), batch)
			if err != nil {
				t.Fatal(err)
			}
			for i, e := range batch {
				taken := twin.add(e, h.now)
				if got := results[i].Outcome == profilestore.Accepted; got != taken {
					t.Fatalf("seed %d, step %d: %s: %+v, the twin says %v", seed, step, e.ID, results[i], taken)
				}
			}
			sent = append(sent, batch...)
			if r.IntN(3) == 0 {
				h.counter.Advance(h.store.Applied())
				if err := h.counter.Save(); err != nil {
					t.Fatal(err)
				}
			}
			if r.IntN(4) == 0 {
				removed, err := h.store.Retain(t.Context(), time.Now().Add(time.Hour))
				if err != nil {
					t.Fatal(err)
				}
				lost += len(removed)
				saw["files of the journal removed"] += len(removed)
			}
			if r.IntN(3) == 0 {
				how := h.restart(t, r)
				saw[how]++
				if lost > 0 {
					saw[how+", after a removal"]++
				}
			}
			if got := h.counts(); !maps.Equal(got, twin.totals) {
				t.Fatalf("seed %d, step %d: %v, want %v", seed, step, got, twin.totals)
			}
		}
		saw["keys"] += len(twin.totals)
		if err := h.close(true); err != nil {
			t.Fatal(err)
		}
	}
	t.Log(saw)
	for _, what := range []string{
		"sent twice at once", "sent again", "after the horizon", "clean", "old file", "no file", "damaged file", "old records' checkpoint", "no records", "file of another journal",
		"no file, after a removal", "damaged file, after a removal", "no records, after a removal", "old records' checkpoint, after a removal",
	} {
		if saw[what] < 3 {
			t.Errorf("%s: only %d times", what, saw[what])
		}
	}
}

// restart ends the process in some way and begins another.
func (h *house) restart(t *testing.T, r *rand.Rand) (how string) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
	}
	checkpoint := filepath.Join(h.dir, "deltas", "CHECKPOINT")
	old, err := os.ReadFile(checkpoint)
	must(err)
	ways := []string{"clean", "old file", "no file", "damaged file", "old records' checkpoint", "no records", "file of another journal"}
	how = ways[r.IntN(len(ways))]
	must(h.close(how == "clean" || r.IntN(2) == 0))
	switch how {
	case "no file":
		must(os.Remove(h.file()))
	case "damaged file":
		b, err := os.ReadFile(h.file())
		must(err)
		if len(b) > 0 {
			b[r.IntN(len(b))] ^= 1 << r.IntN(8)
			if b[17] != '1' { // else it is a file of a later version
				b[17] = '1'
				b[20] ^= 1
			}
			must(os.WriteFile(h.file(), b[:len(b)-r.IntN(2)], 0o600))
		}
	case "old records' checkpoint": // a crash: it is written when a store opens and closes
		must(os.WriteFile(checkpoint, old, 0o600))
	case "no records":
		must(os.RemoveAll(filepath.Join(h.dir, "deltas")))
	case "file of another journal":
		other := &house{dir: t.TempDir(), memory: &memory.Memory{}, now: begin}
		must(other.open())
		ids := 0
		for range 50 {
			_, err := other.store.Ingest(t.Context(), []*profilestore.Event{randomEvent(r, begin, &ids)})
			must(err)
		}
		must(other.close(true))
		b, err := os.ReadFile(other.file())
		must(err)
		must(os.WriteFile(h.file(), b, 0o600))
	}
	must(h.open())
	return how
}

// TestForgottenIDs: where the file is lost, contacts count of which the record has forgotten
// the ids.
func TestForgottenIDs(t *testing.T) {
	h := &house{dir: t.TempDir(), memory: &memory.Memory{}, now: begin}
	if err := h.open(); err != nil {
		t.Fatal(err)
	}
	for k, n := range []int{1100, 10, 0} {
		h.now = begin + int64(k)*4*day
		var events []*profilestore.Event
		for i := range n {
			events = append(events, &profilestore.Event{
				ID: fmt.Sprint(k, " ", i), Type: profilestore.ContactEvent, Identity: "customer:1", Time: h.now,
				Attributes: map[string]any{"channel": "web", "offer": "a"},
			})
		}
		if _, err := h.store.Ingest(t.Context(), events); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(h.close(true), os.Remove(h.file()), h.open()); err != nil {
		t.Fatal(err)
	}
	if got := h.counts()[evidence.Key{Offer: "a", Channel: "web"}]; got != 1110 {
		t.Errorf("%d, want 1110", got)
	}
	if err := h.close(true); err != nil {
		t.Fatal(err)
	}
}

// held is an engine that applies nothing of one customer until it is released.
type held struct {
	profilestore.Engine
	key              string
	reached, release chan struct{}
}

// Apply implements profilestore.Engine.
func (e *held) Apply(ctx context.Context, ops []profilestore.Op) error {
	for _, op := range ops {
		if string(op.Key) == e.key {
			close(e.reached)
			<-e.release
		}
	}
	return e.Engine.Apply(ctx, ops)
}

// TestPosition: while the entry of one customer is being applied, those behind it that
// have been applied wait, and the file says so.
func TestPosition(t *testing.T) {
	engine := &held{key: "customer:0", reached: make(chan struct{}), release: make(chan struct{})}
	h := &house{dir: t.TempDir(), memory: &memory.Memory{}, now: begin, around: func(e profilestore.Engine) profilestore.Engine {
		engine.Engine = e
		return engine
	}}
	if err := h.open(); err != nil {
		t.Fatal(err)
	}
	const customers = 40
	done := make(chan error, customers)
	send := func(i int) {
		_, err := h.store.Ingest(context.Background(), []*profilestore.Event{{
			ID: fmt.Sprint(i), Type: profilestore.ContactEvent, Identity: fmt.Sprintf("customer:%d", i), Time: h.now,
			Attributes: map[string]any{"channel": "web", "offer": "a"},
		}})
		done <- err
	}
	go send(0)
	<-engine.reached
	for i := 1; i < customers; i++ {
		go send(i)
	}
	for range 5 { // of other writers
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	counts := h.counts()
	if err := h.counter.Save(); err != nil {
		t.Error(err)
	}
	if s := h.counter.Stats(); len(counts) != 0 || s.Position != 0 || s.Waiting < 5 {
		t.Errorf("%v, %+v", counts, s)
	}
	close(engine.release)
	for range customers - 5 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if n := h.counts()[evidence.Key{Offer: "a", Channel: "web"}]; n != customers {
		t.Errorf("%d", n)
	}
	if s := h.counter.Stats(); s.Position != customers || s.Waiting != 0 {
		t.Errorf("%+v", s)
	}
	if err := h.close(true); err != nil {
		t.Error(err)
	}
}

// TestUnknownNames: what no catalogue names is counted up to a limit, and does not keep
// what it names from being counted.
func TestUnknownNames(t *testing.T) {
	h := &house{
		dir: t.TempDir(), memory: &memory.Memory{}, now: begin,
		names: evidence.Names{Offers: map[string]bool{"known": true}, Channels: map[string]bool{"web": true}, Outcomes: map[string]bool{"accepted": true}},
	}
	if err := h.open(); err != nil {
		t.Fatal(err)
	}
	send := func(offer string, n int) {
		t.Helper()
		var events []*profilestore.Event
		for i := range n {
			events = append(events, &profilestore.Event{
				ID: fmt.Sprint(offer, i), Type: profilestore.ContactEvent, Identity: fmt.Sprintf("customer:%d", i), Time: h.now,
				Attributes: map[string]any{"channel": "web", "offer": strings.ReplaceAll(offer, "#", fmt.Sprint(i))},
			})
		}
		if _, err := h.store.Ingest(t.Context(), events); err != nil {
			t.Fatal(err)
		}
	}
	send("flood#", evidence.MaxUnknown+500)
	send("known", 7)
	send("early", 7)
	h.counter.Advance(h.store.Applied())
	stats := h.counter.Stats()
	if stats.Counts != evidence.MaxUnknown+1 || stats.Unknown != evidence.MaxUnknown || stats.Left != 507 {
		t.Errorf("%+v", stats)
	}
	if got := h.counts(); got[evidence.Key{Offer: "known", Channel: "web"}] != 7 || got[evidence.Key{Offer: "early", Channel: "web"}] != 0 {
		t.Errorf("%v", got)
	}
	// Published, it counts from now on, and after a restart the table is as full as before.
	h.names.Offers["early"] = true
	h.counter.Know(h.names)
	send("early", 9) // 7 of them were sent before
	if err := h.close(true); err != nil {
		t.Fatal(err)
	}
	if err := h.open(); err != nil {
		t.Fatal(err)
	}
	if got := h.counts(); got[evidence.Key{Offer: "early", Channel: "web"}] != 2 {
		t.Errorf("%v", got[evidence.Key{Offer: "early", Channel: "web"}])
	}
	if stats := h.counter.Stats(); stats.Counts != evidence.MaxUnknown+2 || stats.Unknown != evidence.MaxUnknown {
		t.Errorf("%+v", stats)
	}
	if err := h.close(true); err != nil {
		t.Fatal(err)
	}
}

// TestFileOfLaterVersion: it is not taken for damaged, and not written over.
func TestFileOfLaterVersion(t *testing.T) {
	file := filepath.Join(t.TempDir(), "evidence")
	if err := os.WriteFile(file, []byte("rapport evidence 2"+strings.Repeat("x", 40)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := evidence.Open(file, evidence.Names{}, quiet()); !errors.Is(err, evidence.ErrFormat) {
		t.Errorf("%v", err)
	}
}

// TestSaveFails: the counts go on, and are saved when that is possible again.
func TestSaveFails(t *testing.T) {
	h := &house{dir: t.TempDir(), memory: &memory.Memory{}, now: begin}
	if err := h.open(); err != nil {
		t.Fatal(err)
	}
	ids := 0
	r := rand.New(rand.NewPCG(1, 1))
	for range 20 {
		if _, err := h.store.Ingest(t.Context(), []*profilestore.Event{randomEvent(r, begin, &ids)}); err != nil {
			t.Fatal(err)
		}
	}
	before := h.counts()
	if err := os.Mkdir(h.file()+".new", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := h.counter.Save(); err == nil {
		t.Error("saved into a folder")
	}
	if s := h.counter.Stats(); s.Failures != 1 || s.Saved != 0 || s.Position != 20 {
		t.Errorf("%+v", s)
	}
	if err := os.Remove(h.file() + ".new"); err != nil {
		t.Fatal(err)
	}
	if err := h.close(true); err != nil {
		t.Fatal(err)
	}
	if err := h.open(); err != nil {
		t.Fatal(err)
	}
	if got := h.counts(); !maps.Equal(got, before) {
		t.Errorf("%v, want %v", got, before)
	}
	if err := h.close(true); err != nil {
		t.Fatal(err)
	}
}

// TestReading: a number stands for its counts.
func TestReading(t *testing.T) {
	h := &house{dir: t.TempDir(), memory: &memory.Memory{}, now: begin}
	if err := h.open(); err != nil {
		t.Fatal(err)
	}
	read := func() (number, n uint64) {
		h.counter.Advance(h.store.Applied())
		h.counter.Read(func(at uint64, count func(evidence.Key) uint64) {
			number, n = at, count(evidence.Key{Offer: "a", Channel: "web"})
		})
		return number, n
	}
	send := func(kind string) {
		t.Helper()
		e := &profilestore.Event{ID: fmt.Sprint(h.store.Stats().JournalNext), Type: kind, Identity: "customer:1", Time: begin, Attributes: map[string]any{"offer": "a", "channel": "web"}}
		if _, err := h.store.Ingest(t.Context(), []*profilestore.Event{e}); err != nil {
			t.Fatal(err)
		}
		// The writer says that it has finished after it has acknowledged.
		if err := h.close(true); err != nil {
			t.Fatal(err)
		}
		if err := h.open(); err != nil {
			t.Fatal(err)
		}
	}
	for _, step := range []struct {
		kind      string
		number, n uint64
	}{{"call", 0, 0}, {"contact", 2, 1}, {"call", 2, 1}, {"contact", 4, 2}} {
		send(step.kind)
		if number, n := read(); number != step.number || n != step.n {
			t.Errorf("after a %s: reading %d has %d, want %d and %d", step.kind, number, n, step.number, step.n)
		}
	}
	if err := h.close(true); err != nil {
		t.Fatal(err)
	}
}
