package ledger_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"rapport/profilestore"
	"rapport/server/ledger"
)

var callsFlag = flag.Int("ledger.calls", 1500, "decisions of each caller in TestConcurrent")

// limitKinds are what a contact policy can count by, each with a limit in a window of
// seconds.
var limitKinds = []struct {
	name   string
	max    int
	within int64
	key    func(ledger.Contact) string
}{
	{"all", 3, 4, func(ledger.Contact) string { return "" }},
	{"channel", 2, 6, func(c ledger.Contact) string { return c.Channel }},
	{"touchpoint", 1, 3, func(c ledger.Contact) string { return c.Touchpoint }},
	{"offer", 1, 8, func(c ledger.Contact) string { return c.Items[0].Offer }},
	{"group", 2, 8, func(c ledger.Contact) string { return c.Items[0].Group }},
	{"class", 3, 8, func(c ledger.Contact) string { return c.Items[0].Class }},
}

// capacityKinds are the capacities, with the length of their periods in seconds. Offer i
// takes a place of capacity i.
var capacityKinds = []struct {
	name    string
	max     int64
	seconds int64
}{{"hour", 60, 1}, {"day", 250, 5}, {"week", 900, 20}, {"month", 2000, 60}, {"total", 2500, 0}}

const second = int64(1_000_000)

// town is thousands of customers with their histories, and a ledger.
type town struct {
	l       *ledger.Ledger
	clock   atomic.Int64
	people  []person
	reached [16]atomic.Int64 // by kind of limit
	counts  [8]atomic.Int64

	mu    sync.Mutex
	used  map[modelPeriod]int64 // places that outcomes took
	serie atomic.Uint64
}

// person has a history as a profile has: what was reported.
type person struct {
	mu      sync.Mutex
	history []ledger.Contact
	inTime  []ledger.Contact // reported before they expired
	holders atomic.Int32
}

const (
	countReserved = iota
	countCommitted
	countLate
	countAgain
	countGone // a context ended
	countStepsBack
	countNever
)

func (c *town) now(r *rand.Rand) int64 {
	now := c.clock.Add(r.Int64N(1200))
	switch r.IntN(2000) {
	case 0:
		c.clock.Add(-r.Int64N(second / 50))
		c.counts[countStepsBack].Add(1)
	case 1:
		c.clock.Add(-r.Int64N(second * 2))
		c.counts[countStepsBack].Add(1)
	}
	return now - r.Int64N(2000) // it was read a moment ago
}

// promised is a contact that a caller may report.
type promised struct {
	ledger.Reservation
	who int
}

func (c *town) call(t *testing.T, r *rand.Rand, n int) {
	var open []promised
	for range n {
		if len(open) > 0 && r.IntN(3) == 0 {
			i := r.IntN(len(open))
			c.report(t, r, open[i])
			if r.IntN(8) > 0 {
				open = slices.Delete(open, i, i+1)
			}
		}
		open = append(open, c.decide(t, r)...)
		if n := len(open) - 1; n >= 0 && r.IntN(30) == 0 {
			open = open[:n]
			c.counts[countNever].Add(1)
		}
	}
}

// decide makes a decision as a server does, with one offer.
func (c *town) decide(t *testing.T, r *rand.Rand) []promised {
	who := r.IntN(len(c.people))
	if r.IntN(3) == 0 {
		who = r.IntN(40) // whom everybody wants
	}
	now := c.now(r)
	ctx := context.Background()
	if r.IntN(50) == 0 { // who asked is gone, or soon will be
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(r.IntN(50))*time.Microsecond)
		defer cancel()
	}
	h, err := c.l.Begin(ctx, now, fmt.Sprint("customer:", who))
	if err != nil {
		c.counts[countGone].Add(1)
		return nil
	}
	defer h.End()
	p := &c.people[who]
	if p.holders.Add(1) != 1 {
		t.Errorf("two decide for customer %d", who)
	}
	defer p.holders.Add(-1)
	known := h.Pending()
	p.mu.Lock()
	known = append(known, p.history...)
	p.mu.Unlock()

	i := r.IntN(len(capacityKinds))
	x := ledger.Contact{
		Time: now, Channel: fmt.Sprint("c", r.IntN(3)),
		Items: []profilestore.Item{{Offer: fmt.Sprint("o", i), Group: fmt.Sprint("g", i%3), Class: fmt.Sprint("k", i%2)}},
	}
	x.Touchpoint = x.Channel + fmt.Sprint(".t", r.IntN(3))
	stop := false
	for k, limit := range limitKinds {
		n := 0
		for _, y := range known {
			if y.Time > now-limit.within*second && limit.key(y) == limit.key(x) {
				n++
			}
		}
		if n > limit.max {
			// The history may have late ones, which were not counted while they were out.
			n = limit.max
		}
		if n == limit.max {
			c.reached[k].Add(1)
			stop = true
		}
	}
	if stop {
		return nil
	}
	kind := capacityKinds[i]
	place := ledger.Place{Capacity: kind.name, Period: uint8(i), TakenBy: []string{"contact", "accepted"}[r.IntN(2)], Offer: x.Items[0].Offer}
	if kind.seconds > 0 {
		place.Begin = now - now%(kind.seconds*second)
	}
	if !h.Take(place, kind.max) {
		c.reached[len(limitKinds)+i].Add(1)
		return nil
	}
	if r.IntN(20) == 0 {
		h.Return(place)
		return nil
	}
	if r.IntN(20) == 0 {
		return nil // End gives it back
	}
	res := ledger.Reservation{Contact: x, Expires: now + second/10 + r.Int64N(2*second), Taken: []ledger.Place{place}}
	n := c.serie.Add(1)
	for b := range 8 {
		res.ID[b] = byte(n >> (8 * b))
	}
	if err := h.Reserve(ctx, res); err != nil {
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		c.counts[countGone].Add(1)
		return nil
	}
	c.counts[countReserved].Add(1)
	return []promised{{res, who}}
}

// report reports an outcome: the event first, then the ledger.
func (c *town) report(t *testing.T, r *rand.Rand, x promised) {
	o := ledger.Outcome{Name: []string{"contact", "accepted", "rejected"}[r.IntN(3)], Offer: x.Contact.Items[0].Offer, Expires: x.Expires}
	p := &c.people[x.who]
	p.mu.Lock()
	if slices.IndexFunc(p.history, func(y ledger.Contact) bool { return y.Time == x.Contact.Time && y.Touchpoint == x.Contact.Touchpoint }) < 0 {
		p.history = append(p.history, x.Contact)
	}
	p.mu.Unlock()
	place := x.Taken[0]
	result, err := c.l.Commit(context.Background(), x.ID, o, c.now(r))
	switch {
	case err != nil:
		t.Error(err)
	case result == ledger.Committed:
		c.counts[countCommitted].Add(1)
		p.mu.Lock()
		if !slices.ContainsFunc(p.inTime, func(y ledger.Contact) bool { return y.Time == x.Contact.Time && y.Touchpoint == x.Contact.Touchpoint }) {
			p.inTime = append(p.inTime, x.Contact)
		}
		p.mu.Unlock()
		if place.TakenBy == "contact" || place.TakenBy == o.Name {
			c.mu.Lock()
			c.used[periodOf(place)]++
			c.mu.Unlock()
		}
	case result == ledger.Late:
		c.counts[countLate].Add(1)
	case result == ledger.Unchanged:
		c.counts[countAgain].Add(1)
	default:
		t.Errorf("outcome of a reservation: %v", result)
	}
}

// 64 callers at once never pass a limit, and lose no place.
func TestConcurrent(t *testing.T) {
	const callers, phases = 64, 3
	dir := filepath.Join(t.TempDir(), "0")
	c := &town{people: make([]person, 8000), used: make(map[modelPeriod]int64)}
	c.clock.Store(1_700_000_000 * second)
	for phase := range phases {
		l, err := ledger.Open(dir, ledger.Options{SyncEvery: 20 * time.Millisecond, SegmentBytes: 64 << 10, SlackBytes: 128 << 10})
		if err != nil {
			t.Fatal(err)
		}
		if d := l.Recovery().Damage; d != nil {
			t.Fatal(d)
		}
		c.l = l
		var wg, watch sync.WaitGroup
		for i := range callers {
			wg.Go(func() { c.call(t, rand.New(rand.NewPCG(uint64(phase), uint64(i))), *callsFlag/phases) })
		}
		stop := make(chan struct{})
		watch.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(time.Millisecond):
				}
				for _, x := range l.Readings() {
					if most := capacityKinds[x.Period].max; x.Taken+x.Reserved > most {
						t.Errorf("%+v: more than %d", x, most)
					}
				}
			}
		})
		wg.Wait()
		close(stop)
		watch.Wait()
		s := l.Stats()
		t.Logf("phase %d: %+v", phase, s)
		if phase == phases-1 {
			c.checkEnd(t)
		}
		if phase%2 == 0 { // a crash: what was written is there
			to := filepath.Join(filepath.Dir(dir), fmt.Sprint(phase+1))
			copyDir(t, dir, to)
			dir = to
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for i, limit := range limitKinds {
		t.Logf("%6d times the limit by %s was reached", c.reached[i].Load(), limit.name)
	}
	for i, kind := range capacityKinds {
		t.Logf("%6d times the capacity by %s was full", c.reached[len(limitKinds)+i].Load(), kind.name)
	}
	for i, name := range []string{"reserved", "committed", "late", "again", "given up", "steps back", "never reported"} {
		t.Logf("%6d %s", c.counts[i].Load(), name)
	}
	// How often depends on how the callers are scheduled, so the short form, which runs in
	// CI, asks for a tenth of what the long one does.
	enough := int64(100)
	if *callsFlag >= 6000 {
		enough = 1000
	}
	if *callsFlag >= 1500 {
		for i := range len(limitKinds) + len(capacityKinds) {
			if c.reached[i].Load() < enough {
				t.Errorf("limit %d was reached %d times only", i, c.reached[i].Load())
			}
		}
	}
}

// checkEnd checks what is left of everything.
func (c *town) checkEnd(t *testing.T) {
	for i := range c.people {
		p := &c.people[i]
		slices.SortFunc(p.inTime, func(a, b ledger.Contact) int { return int(a.Time - b.Time) })
		for _, limit := range limitKinds {
			times := make(map[string][]int64)
			for _, x := range p.inTime {
				k := limit.key(x)
				times[k] = append(times[k], x.Time)
				if s := times[k]; len(s) > limit.max && s[len(s)-1]-s[len(s)-1-limit.max] < limit.within*second {
					t.Errorf("customer %d has more than %d contacts by %s %q in %d s: %v", i, limit.max, limit.name, k, limit.within, s)
				}
			}
		}
	}
	// Long after, all places are free that nobody has used.
	h, err := c.l.Begin(context.Background(), c.clock.Load()+100*second)
	if err != nil {
		t.Fatal(err)
	}
	defer h.End()
	readings := make(map[modelPeriod]int64)
	for _, x := range c.l.Readings() {
		k := modelPeriod{x.Capacity, x.Period, x.Begin}
		readings[k] = x.Taken
		most := capacityKinds[x.Period].max
		if x.Reserved != 0 {
			t.Errorf("%+v: reserved for ever", x)
		}
		free := int64(0)
		for h.Take(ledger.Place{Capacity: x.Capacity, Period: x.Period, Begin: x.Begin}, most) {
			free++
		}
		if free != most-x.Taken {
			t.Errorf("%+v: %d of %d are free", x, free, most)
		}
	}
	for k, n := range readings {
		if n != c.used[k] {
			t.Errorf("%v: %d taken, %d outcomes took one", k, n, c.used[k])
		}
	}
	for k, n := range c.used {
		if most := capacityKinds[k.period].max; n > most {
			t.Errorf("%v: %d taken of %d", k, n, most)
		}
	}
	t.Logf("%d periods, of which %d are remembered: %v", len(c.used), len(readings), slices.Sorted(maps.Values(readings)))
}
