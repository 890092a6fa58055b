package profilestore_test

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"rapport/profilestore"
	"rapport/profilestore/memory"
)

var writerEvents = flag.Int("writers", 60, "how many events each of the 64 writers of TestWriters sends; a customer's record has room for 1,400 from each")

// amounts maps an event to its amount, which is added to a counter of events alone.
type amounts struct{}

func (amounts) Map(e *profilestore.Event, dst []profilestore.Change) ([]profilestore.Change, error) {
	return append(dst, profilestore.Change{Slot: 3, Value: profilestore.Number(amount(e))}), nil
}

// groupOf8 is as many identities as a customer can have.
var groupOf8 = []string{"customer:7", "account:7", "msisdn:7", "msisdn:77", "email:7", "email:77", "device:7", "cookie:7"}

// linkAll makes one customer of identities: the others are linked with the first.
func linkAll(ctx context.Context, s *profilestore.Store, identities []string) error {
	for _, other := range identities[1:] {
		results, err := s.ChangeIdentities(ctx, []profilestore.IdentityChange{{Op: profilestore.OpLink, A: identities[0], B: other}})
		if err != nil {
			return err
		}
		if err := results[0].Err; err != nil {
			return err
		}
	}
	return nil
}

// TestWriters lets 64 writers send events of one customer at once: of one identity, of
// eight that are linked, and of eight whose links are taken back and made again all
// the time. Each event is sent by two writers at about the same time. Every read
// meanwhile has at least what was acknowledged before it of the identities that it
// shows, at most what had been sent after it, and never less than the read before it;
// in the end the sum is exact, counting each event once, and so it is after a restart
// and after a rebuild.
//
//	go test -race ./profilestore -run TestWriters -writers 1000 -timeout 30m -v
func TestWriters(t *testing.T) {
	for _, c := range []struct {
		name       string
		identities []string
		relink     bool
	}{
		{"one identity", groupOf8[:1], false},
		{"a group", groupOf8, false},
		{"a group that changes", groupOf8, true},
	} {
		for _, engine := range []string{"badger", "memory"} {
			t.Run(c.name+" in "+engine, func(t *testing.T) {
				h := &house{dir: t.TempDir(), schema: storeSchema(t), now: 20_000 * day, cache: 100, mapper: amounts{}}
				if engine == "memory" {
					h.memory = new(memory.Memory)
				}
				if err := h.open(); err != nil {
					t.Fatal(err)
				}
				defer func() {
					if err := h.store.Close(); err != nil {
						t.Error(err)
					}
				}()
				newManyWriters(h, c.identities).run(t, c.relink)
			})
		}
	}
}

// manyWriters is one run of TestWriters.
type manyWriters struct {
	h          *house
	identities []string
	place      map[string]int
	// sums of amounts by identity: of events that were acknowledged, of those that have
	// been sent, and of all.
	acknowledged, sent []atomic.Int64
	all                []int64

	reads, changes atomic.Int64
	due            chan struct{} // reads: some for each call of a writer, so that they leave it time
}

func newManyWriters(h *house, identities []string) *manyWriters {
	n := len(identities)
	m := &manyWriters{h: h, identities: identities, place: make(map[string]int), acknowledged: make([]atomic.Int64, n), sent: make([]atomic.Int64, n), all: make([]int64, n), due: make(chan struct{}, 64)}
	for i, identity := range identities {
		m.place[identity] = i
	}
	return m
}

func (m *manyWriters) run(t *testing.T, relink bool) {
	const writers = 64
	ctx := t.Context()
	if err := linkAll(ctx, m.h.store, m.identities); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var writing, meanwhile sync.WaitGroup
	for w := range 4 {
		meanwhile.Go(func() { m.read(t, rand.New(rand.NewPCG(5, uint64(w))), stop) })
	}
	if relink {
		meanwhile.Go(func() { m.relink(t, stop) })
	}
	for pair := range writers / 2 {
		events, want := m.events(pair)
		for i, n := range want {
			m.all[i] += n
		}
		counted := make([]atomic.Bool, len(events))
		for w := range 2 {
			writing.Go(func() { m.write(t, rand.New(rand.NewPCG(7, uint64(2*pair+w))), events, counted) })
		}
	}
	writing.Wait()
	close(stop)
	meanwhile.Wait()
	m.check(t, "the writers")
	stats := m.h.store.Stats()
	distinct := uint64(writers / 2 * *writerEvents)
	if stats.Accepted != distinct || stats.Duplicates != distinct {
		t.Errorf("of %d events, each sent twice, %d are accepted and %d duplicates", distinct, stats.Accepted, stats.Duplicates)
	}
	t.Logf("%d events sent twice, %d reads and %d changes of links meanwhile", distinct, m.reads.Load(), m.changes.Load())
	m.h.reopen(t, false)
	m.check(t, "a restart")
	m.h.reopen(t, true)
	m.check(t, "a rebuild")
}

// events returns what two writers send, and the sum of it by identity.
func (m *manyWriters) events(pair int) (events []*profilestore.Event, sums []int64) {
	random := rand.New(rand.NewPCG(6, uint64(pair)))
	sums = make([]int64, len(m.identities))
	for i := range *writerEvents {
		to, n := random.IntN(len(m.identities)), 1+random.Int64N(1000)
		events = append(events, event(fmt.Sprintf("%d.%d", pair, i), "use", m.identities[to], m.h.now-random.Int64N(day), float64(n)))
		sums[to] += n
	}
	return events, sums
}

// write sends events, some at a time, in nearly the order of the other who sends them.
func (m *manyWriters) write(t *testing.T, random *rand.Rand, events []*profilestore.Event, counted []atomic.Bool) {
	for begin := 0; begin < len(events); {
		end := min(len(events), begin+1+random.IntN(4))
		var batch []*profilestore.Event
		for _, e := range events[begin:end] {
			mine := *e
			batch = append(batch, &mine)
			m.sent[m.place[e.Identity]].Add(int64(amount(e)))
		}
		results, err := m.h.store.Ingest(t.Context(), batch)
		if err != nil {
			t.Error(err)
			return
		}
		for i, r := range results {
			if r.Outcome == profilestore.Refused {
				t.Error(r.Err)
				return
			}
			if !counted[begin+i].Swap(true) {
				m.acknowledged[m.place[batch[i].Identity]].Add(int64(amount(batch[i])))
			}
		}
		for range 2 {
			select {
			case m.due <- struct{}{}:
			default:
			}
		}
		begin = end
	}
}

// read reads the customer by any identity until stop.
func (m *manyWriters) read(t *testing.T, random *rand.Rand, stop <-chan struct{}) {
	last := make(map[string]float64) // by members
	for {
		select {
		case <-stop:
			return
		case <-m.due:
		}
		least := make([]int64, len(m.identities))
		for i := range least {
			least[i] = m.acknowledged[i].Load()
		}
		v, err := m.h.store.View(t.Context(), m.identities[random.IntN(len(m.identities))])
		if err != nil {
			t.Error(err)
			return
		}
		got := v.At(m.h.now).Get(3).Number()
		var from, to int64
		var members []string
		for _, member := range v.Group().Members {
			i := m.place[member.Identity]
			from, to = from+least[i], to+m.sent[i].Load()
			members = append(members, member.Identity)
		}
		who := strings.Join(members, " ")
		switch {
		case got < float64(from) || got > float64(to):
			t.Errorf("%s: %v, of which %d was acknowledged, and %d sent", who, got, from, to)
			return
		case got < last[who]:
			t.Errorf("%s: %v after %v", who, got, last[who])
			return
		}
		last[who] = got
		m.reads.Add(1)
	}
}

// relink takes links back and makes them again until stop, and leaves the group whole.
func (m *manyWriters) relink(t *testing.T, stop <-chan struct{}) {
	random := rand.New(rand.NewPCG(8, 9))
	linked := make([]bool, len(m.identities))
	for i := range linked {
		linked[i] = true
	}
	change := func(i int) bool {
		op := profilestore.OpUnlink
		if !linked[i] {
			op = profilestore.OpLink
		}
		linked[i] = !linked[i]
		results, err := m.h.store.ChangeIdentities(t.Context(), []profilestore.IdentityChange{{Op: op, A: m.identities[i], B: m.identities[0]}})
		if err != nil || results[0].Err != nil || !results[0].Changed {
			t.Errorf("change %d of %s: %+v, %v", op, m.identities[i], results, err)
			return false
		}
		m.changes.Add(1)
		// The next view shows it.
		v, err := m.h.store.View(t.Context(), m.identities[0])
		if err != nil {
			t.Error(err)
			return false
		}
		n := 0
		for _, in := range linked {
			if in {
				n++
			}
		}
		if got := len(v.Group().Members); got != n {
			t.Errorf("after change %d of %s the customer has %d identities, want %d", op, m.identities[i], got, n)
			return false
		}
		return true
	}
	for {
		select {
		case <-stop:
			for i := range linked {
				if !linked[i] && !change(i) {
					return
				}
			}
			return
		default:
			if !change(1 + random.IntN(len(linked)-1)) {
				return
			}
		}
	}
}

// check checks that the customer has the sum of all events, and each identity its own
// when the links are taken back.
func (m *manyWriters) check(t *testing.T, after string) {
	t.Helper()
	var total int64
	for _, n := range m.all {
		total += n
	}
	for _, identity := range m.identities {
		if got := m.h.calls(t, identity); got != float64(total) {
			t.Errorf("after %s %s has %v, want %d", after, identity, got, total)
		}
	}
	if after != "a rebuild" || len(m.identities) == 1 {
		return
	}
	for _, identity := range m.identities[1:] {
		m.h.change(t, profilestore.OpUnlink, identity, m.identities[0], 0)
	}
	for i, identity := range m.identities {
		if got := m.h.calls(t, identity); got != float64(m.all[i]) {
			t.Errorf("unlinked, %s has %v, want %d", identity, got, m.all[i])
		}
	}
}

// gatedEngine waits at gates that a test has closed.
type gatedEngine struct {
	profilestore.Engine
	// beforeGet, afterGet and applied, if not nil, are called once, for a test to wait in.
	beforeGet, afterGet, applied atomic.Pointer[func()]
}

func pass(gate *atomic.Pointer[func()]) {
	if wait := gate.Swap(nil); wait != nil {
		(*wait)()
	}
}

func (g *gatedEngine) Get(ctx context.Context, key, dst []byte) ([]byte, bool, error) {
	pass(&g.beforeGet)
	defer pass(&g.afterGet)
	return g.Engine.Get(ctx, key, dst)
}

func (g *gatedEngine) Apply(ctx context.Context, ops []profilestore.Op) error {
	defer pass(&g.applied)
	return g.Engine.Apply(ctx, ops)
}

// TestReadsNeverGoBack: between an event being in the engine and being in the cache,
// nobody who has seen it is shown the profile without it, whichever read comes when.
func TestReadsNeverGoBack(t *testing.T) {
	for _, c := range []struct {
		name   string
		gate   func(*gatedEngine) *atomic.Pointer[func()] // where the first reader waits
		cached bool                                       // another reader has put the old record into the cache meanwhile
		whole  bool                                       // the change is over before the first reader goes on
	}{
		{"a reader who has read the old record", func(g *gatedEngine) *atomic.Pointer[func()] { return &g.afterGet }, false, false},
		{"a reader who is overtaken by a change", func(g *gatedEngine) *atomic.Pointer[func()] { return &g.afterGet }, false, true},
		{"a reader who has found nothing in the cache", func(g *gatedEngine) *atomic.Pointer[func()] { return &g.beforeGet }, true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := &house{dir: t.TempDir(), schema: storeSchema(t), now: 20_000 * day, mapper: amounts{}, memory: new(memory.Memory)}
			if err := h.open(); err != nil { // to have the event in the engine and not in the cache
				t.Fatal(err)
			}
			ingest := func(id string) {
				r, err := h.store.Ingest(t.Context(), []*profilestore.Event{event(id, "use", "7", h.now, 1)})
				if err != nil || r[0].Outcome != profilestore.Accepted {
					t.Errorf("%s: %+v, %v", id, r, err)
				}
			}
			ingest("a")
			gated := &gatedEngine{}
			h.cache, h.around = 100, func(e profilestore.Engine) profilestore.Engine { gated.Engine = e; return gated }
			h.reopen(t, false)
			defer func() {
				if err := h.store.Close(); err != nil {
					t.Error(err)
				}
			}()
			wait := func(gate *atomic.Pointer[func()]) (arrived, leave chan struct{}) {
				arrived, leave = make(chan struct{}), make(chan struct{})
				f := func() { close(arrived); <-leave }
				gate.Store(&f)
				return arrived, leave
			}
			var all sync.WaitGroup
			readerIn, readerGo := wait(c.gate(gated))
			first := make(chan float64, 1)
			all.Go(func() { first <- h.calls(t, "customer:7") })
			<-readerIn
			var seen []float64
			if c.cached {
				seen = append(seen, h.calls(t, "customer:7"))
			}
			appliedIn, appliedGo := wait(&gated.applied)
			if c.whole {
				gated.applied.Store(nil)
				ingest("b")
			} else {
				all.Go(func() { ingest("b") })
				<-appliedIn
				seen = append(seen, h.calls(t, "customer:7"))
			}
			close(readerGo)
			if n := <-first; c.cached {
				seen = append(seen, n)
			} // else it was the first to read
			seen = append(seen, h.calls(t, "customer:7"))
			close(appliedGo)
			all.Wait()
			seen = append(seen, h.calls(t, "customer:7"))
			if !slices.IsSorted(seen) || seen[len(seen)-1] != 2 {
				t.Errorf("reads see %v", seen)
			}
			t.Log(seen)
		})
	}
}

// killedWritersEnv makes TestKilledWritersChild write to the store in that folder until it is
// killed.
const killedWritersEnv = "RAPPORT_TEST_WRITERS"

// killedHouse is the store of TestKilledWriters.
func killedHouse(t *testing.T, dir string) *house {
	t.Helper()
	h := &house{dir: dir, schema: storeSchema(t), now: 20_000 * day, cache: 100, mapper: amounts{}}
	if err := h.open(); err != nil {
		t.Fatal(err)
	}
	return h
}

// TestKilledWritersChild is not a test of its own. It prints the id of each event that
// is acknowledged.
func TestKilledWritersChild(t *testing.T) {
	dir := os.Getenv(killedWritersEnv)
	if dir == "" {
		t.Skip("run by TestKilledWriters")
	}
	h := killedHouse(t, dir)
	if err := linkAll(t.Context(), h.store, groupOf8); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var writing sync.WaitGroup
	for w := range 64 {
		writing.Go(func() {
			for i := 0; ; i++ {
				id := fmt.Sprintf("%d.%d.%d", os.Getpid(), w, i)
				r, err := h.store.Ingest(t.Context(), []*profilestore.Event{event(id, "use", groupOf8[(w+i)%8], h.now, 1)})
				mu.Lock()
				if err != nil || r[0].Outcome != profilestore.Accepted {
					_, _ = fmt.Println("error", r, err) //nolint:forbidigo // to the parent
				} else {
					_, _ = fmt.Println("accepted", id, groupOf8[(w+i)%8]) //nolint:forbidigo // likewise
				}
				mu.Unlock()
			}
		})
	}
	writing.Wait()
}

// TestKilledWriters kills a process in which 64 writers send events of one customer of
// eight identities, again and again. What was acknowledged is there, each event once,
// and none counts again when all are sent once more.
func TestKilledWriters(t *testing.T) {
	if testing.Short() {
		t.Skip("runs processes")
	}
	dir := t.TempDir()
	random := rand.New(rand.NewPCG(1, 2))
	acknowledged := make(map[string]string) // identities by id
	for range 3 {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKilledWritersChild$")
		cmd.Env = append(os.Environ(), killedWritersEnv+"="+dir)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewReader(out)
		for n, until := 0, 300+random.IntN(700); ; n++ {
			line, err := lines.ReadString('\n')
			if err != nil { // the last line may be cut short
				break
			}
			var id, identity string
			if _, err := fmt.Sscanf(line, "accepted %s %s", &id, &identity); err != nil || acknowledged[id] != "" {
				t.Errorf("the writers say %q", line)
				break
			}
			acknowledged[id] = identity
			if n == until {
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		_ = cmd.Process.Kill()
		_, _ = io.Copy(io.Discard, out)
		_ = cmd.Wait()
	}
	h := killedHouse(t, dir)
	defer func() {
		if err := h.store.Close(); err != nil {
			t.Error(err)
		}
	}()
	stats := h.store.Stats()
	entries := float64(stats.JournalNext) - 1 - float64(len(groupOf8)-1) // all but the links
	for _, identity := range groupOf8 {
		if got := h.calls(t, identity); got != entries || got < float64(len(acknowledged)) {
			t.Errorf("%s has %v events, the journal %v, and %d were acknowledged", identity, got, entries, len(acknowledged))
		}
	}
	var again []*profilestore.Event
	for id, identity := range acknowledged {
		again = append(again, event(id, "use", identity, h.now, 1))
	}
	results, err := h.store.Ingest(t.Context(), again)
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range results {
		if r.Outcome != profilestore.Duplicate {
			t.Errorf("%s sent again: %+v", again[i].ID, r)
		}
	}
	if got := h.calls(t, groupOf8[0]); got != entries {
		t.Errorf("when all were sent again there are %v, want %v", got, entries)
	}
	t.Logf("%v events, %d of them acknowledged, %d replayed at the last start", entries, len(acknowledged), stats.Replayed)
}
