package sandbox

import (
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"
)

// clock is a time that a test moves.
type clock struct{ t time.Time }

func (c *clock) now() time.Time { return c.t }

func newTestBreaker() (*breaker, *clock) {
	c := &clock{time.Unix(1_800_000_000, 0)}
	return &breaker{now: c.now}, c
}

// step makes a call if it is allowed, and checks whether it is.
func step(t *testing.T, b *breaker, fault, want bool) {
	t.Helper()
	got := b.allow()
	if got != want {
		state, until := b.state()
		t.Fatalf("allowed: %v, want %v (%v until %v)", got, want, state, until)
	}
	if got {
		b.done(fault)
	}
}

func TestBreaker(t *testing.T) {
	b, c := newTestBreaker()
	for range 1000 {
		step(t, b, false, true)
	}
	for range 9 {
		step(t, b, true, true)
	}
	step(t, b, false, true) // the tenth in a row would have opened it
	step(t, b, true, true)
	step(t, b, true, true)
	step(t, b, true, false)
	if s, _ := b.state(); s != BreakerOpen {
		t.Fatalf("state %v", s)
	}
	c.t = c.t.Add(breakFor - 1)
	step(t, b, true, false)
	c.t = c.t.Add(1)
	if s, _ := b.state(); s != BreakerHalfOpen {
		t.Fatalf("state %v", s)
	}
	// The trial fails: twice as long.
	step(t, b, true, true)
	c.t = c.t.Add(2*breakFor - 1)
	step(t, b, true, false)
	c.t = c.t.Add(1)
	// One at a time.
	if !b.allow() || b.allow() {
		t.Fatal("not one call at a time")
	}
	b.done(false)
	step(t, b, false, true)
	if s, _ := b.state(); s != BreakerHalfOpen {
		t.Fatalf("state %v after two good calls", s)
	}
	step(t, b, false, true)
	if s, _ := b.state(); s != BreakerClosed {
		t.Fatalf("state %v after three good calls", s)
	}
	// It waits as at first again, and never longer than the most.
	for range 10 {
		step(t, b, true, true)
	}
	for wait, n := breakFor, 0; n < 12; n++ {
		c.t = c.t.Add(wait - 1)
		step(t, b, true, false)
		c.t = c.t.Add(1)
		step(t, b, true, true)
		wait = min(2*wait, breakForMost)
	}
	// A trial that was not made is not waited for.
	c.t = c.t.Add(breakForMost)
	if !b.allow() {
		t.Fatal("no trial")
	}
	b.abandon()
	step(t, b, false, true)
}

// What a rate of faults leads to.
func TestBreakerRates(t *testing.T) {
	for _, test := range []struct {
		rate  float64
		opens bool
	}{{0, false}, {0.01, false}, {0.05, false}, {0.3, true}, {0.5, true}, {1, true}} {
		b, _ := newTestBreaker()
		random := rand.New(rand.NewPCG(1, 2))
		calls := 0
		for calls < 2000 && b.allow() {
			b.done(random.Float64() < test.rate)
			calls++
		}
		if opened := calls < 2000; opened != test.opens {
			t.Errorf("a rate of %v: open after %d calls", test.rate, calls)
		}
	}
}

// Calls that end in any order leave it in order.
func TestBreakerConcurrently(t *testing.T) {
	b := &breaker{now: time.Now}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			random := rand.New(rand.NewPCG(uint64(i), 0))
			for range 5000 {
				if !b.allow() {
					continue
				}
				if random.IntN(4) == 0 {
					b.abandon()
				} else {
					b.done(random.IntN(10) == 0)
				}
			}
		})
	}
	wg.Wait()
	if level := b.level.Load(); level < 0 || level > breakAt {
		t.Errorf("level %d", level)
	}
}

// It tells of each opening and of the closing, once.
func TestBreakerTells(t *testing.T) {
	b, c := newTestBreaker()
	var told []string
	b.changed = func(s BreakerState, until time.Time) {
		if s != BreakerClosed {
			told = append(told, s.String()+" for "+until.Sub(c.t).String())
		} else {
			told = append(told, s.String())
		}
	}
	for range breakAt / faultWeight {
		step(t, b, true, true)
	}
	step(t, b, true, false)
	c.t = c.t.Add(breakFor)
	step(t, b, true, true)
	c.t = c.t.Add(2 * breakFor)
	for range trialsToClose + 5 {
		step(t, b, false, true)
	}
	if want := []string{"open for 5s", "open for 10s", "closed"}; !slices.Equal(told, want) {
		t.Errorf("told %q, want %q", told, want)
	}
}
