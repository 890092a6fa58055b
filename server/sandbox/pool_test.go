package sandbox_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"rapport/plugins"
	"rapport/profilestore"
	"rapport/server/decide"
	"rapport/server/sandbox"
)

// held is a customer whose profile is not read until it is let go: the call that
// asks holds an instance meanwhile.
type held struct{ asked, letGo chan struct{} }

func newHeld() held { return held{make(chan struct{}), make(chan struct{})} }

func (h held) Get(int) profilestore.Value {
	close(h.asked)
	<-h.letGo
	return profilestore.Unknown()
}

// readingManifest reads one profile field.
const readingManifest = `{"abi":1,"name":"reading","version":"1","profile":[{"name":"value.arpu","type":"number"}]}`

// hold begins a call that holds an instance until the function that it returns
// is called, which returns the call's error.
func hold(s *sandbox.Strategy) (release func() error) {
	h, result := newHeld(), make(chan error, 1)
	q := simple(1)
	q.Profile = h
	go func() { result <- s.Rank(context.Background(), q) }()
	<-h.asked
	return func() error {
		close(h.letGo)
		return <-result
	}
}

func TestBusyPoolAnswersByTheDeadline(t *testing.T) {
	s := bind(t, newRuntime(t, sandbox.Options{}), guest{manifest: readingManifest}.bytes(), 1, sandbox.PoolOptions{Size: 1})
	release := hold(s)

	q := simple(1)
	q.Deadline = time.Now().Add(20 * time.Millisecond)
	if err := s.Rank(context.Background(), q); !errors.Is(err, decide.ErrBusy) {
		t.Errorf("with a deadline: %v", err)
	}
	if late := time.Since(q.Deadline); late < 0 {
		t.Errorf("it gave up %v before the deadline", -late)
	}

	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	q.Deadline = time.Time{}
	if err := s.Rank(ctx, q); !errors.Is(err, decide.ErrBusy) {
		t.Errorf("with a context that ends: %v", err)
	}

	gone := errors.New("the caller has gone")
	cancelled, cancelCause := context.WithCancelCause(context.Background())
	cancelCause(gone)
	if err := s.Rank(cancelled, q); !errors.Is(err, decide.ErrBusy) || !errors.Is(err, gone) {
		t.Errorf("with a context that has ended: %v", err)
	}

	waited := make(chan error)
	go func() {
		q := simple(1)
		q.Deadline = time.Now().Add(time.Minute)
		waited <- s.Rank(context.Background(), q)
	}()
	if err := release(); err != nil {
		t.Errorf("the call that held the instance: %v", err)
	}
	if err := <-waited; err != nil {
		t.Errorf("the call that waited for it: %v", err)
	}

	q.Deadline = time.Now().Add(-time.Second)
	if err := s.Rank(context.Background(), q); !errors.Is(err, decide.ErrBusy) {
		t.Errorf("after the deadline, with an instance free: %v", err)
	}
	if got := s.Stats(); got.Busy != 4 || got.Calls != 2 {
		t.Errorf("stats %+v", got)
	}
}

// Close waits for calls in flight, gives up when its context ends, and can then
// be called again.
func TestCloseWaitsForCalls(t *testing.T) {
	r := newRuntime(t, sandbox.Options{})
	m := compile(t, r, guest{manifest: readingManifest}.bytes())
	c, sc := fixture(t, 1)
	s := bindTo(t, m, c, sc, sandbox.PoolOptions{Size: 2})
	other := bindTo(t, m, c, sc, sandbox.PoolOptions{Size: 1})
	release := hold(s)

	short, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	for name, closer := range map[string]func(context.Context) error{"strategy": s.Close, "module": m.Close, "runtime": r.Close} {
		if err := closer(short); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("close of the %s with a call in flight: %v", name, err)
		}
	}
	if err := s.Rank(context.Background(), simple(1)); !errors.Is(err, sandbox.ErrClosed) {
		t.Errorf("a call after Close began: %v", err)
	}
	if _, err := m.Bind(context.Background(), c, sc, sandbox.PoolOptions{}); !errors.Is(err, sandbox.ErrClosed) {
		t.Errorf("Bind after Close began: %v", err)
	}
	if _, err := r.Compile(context.Background(), plugins.PVCL()); !errors.Is(err, sandbox.ErrClosed) {
		t.Errorf("Compile after Close began: %v", err)
	}
	closed := make(chan error)
	go func() { closed <- s.Close(context.Background()) }()
	if err := release(); err != nil {
		t.Errorf("the call in flight: %v", err)
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
	for range 2 {
		if err := errors.Join(s.Close(short), r.Close(context.Background()), m.Close(context.Background()), r.Close(context.Background())); err != nil {
			t.Error(err)
		}
	}
	if err := other.Rank(context.Background(), simple(1)); !errors.Is(err, sandbox.ErrClosed) {
		t.Errorf("a call after all is closed: %v", err)
	}
}

// Calls that come while a strategy is closed either succeed or are told so.
func TestCloseUnderLoad(t *testing.T) {
	r := newRuntime(t, sandbox.Options{})
	m := compile(t, r, plugins.PVCL())
	c, sc := fixture(t, 20)
	for range 10 {
		s := bindTo(t, m, c, sc, sandbox.PoolOptions{Size: 2})
		var done atomic.Int64
		enough := make(chan struct{})
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for q := simple(20); ; {
					err := s.Rank(context.Background(), q)
					if errors.Is(err, sandbox.ErrClosed) {
						return
					}
					if err != nil {
						t.Error(err)
						return
					}
					if done.Add(1) == 20 {
						close(enough)
					}
				}
			})
		}
		<-enough
		if err := s.Close(context.Background()); err != nil {
			t.Error(err)
		}
		wg.Wait()
	}
}

// Many callers share few instances, of two scenarios bound to one module, and
// each gets its own answer.
func TestConcurrentCalls(t *testing.T) {
	const callers, calls, n = 64, 50, 70
	m := compile(t, newRuntime(t, sandbox.Options{}), plugins.PVCL())
	c, sc := fixture(t, n)
	strategies := []*sandbox.Strategy{
		bindTo(t, m, c, sc, sandbox.PoolOptions{Size: 3}),
		bindTo(t, m, c, sc, sandbox.PoolOptions{Size: 1}),
	}
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			random := rand.New(rand.NewPCG(uint64(i), 0))
			for range calls {
				q := ranking(random, 1+random.IntN(n), n)
				if err := strategies[i%2].Rank(context.Background(), q); err != nil {
					t.Error(err)
					return
				}
				if want := native(q); !slices.Equal(q.Score, want) {
					t.Errorf("scores %v, want %v", q.Score, want)
					return
				}
			}
		})
	}
	wg.Wait()
	for _, s := range strategies {
		if got := s.Stats(); got.Calls != callers/2*calls || got.Faults+got.Replaced+got.Busy != 0 {
			t.Errorf("stats %+v", got)
		}
	}
}

// A profile that panics takes no instance with it.
func TestPanicOfTheCallerKeepsTheInstance(t *testing.T) {
	s := bind(t, newRuntime(t, sandbox.Options{}), guest{manifest: readingManifest}.bytes(), 1, sandbox.PoolOptions{Size: 1})
	for range 3 {
		func() {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			q := simple(1)
			q.Profile = profileFunc(func(int) profilestore.Value { panic("profile") })
			_ = s.Rank(context.Background(), q)
		}()
	}
	rank(t, s, simple(1))
}

func TestRankingsThatAreMalformed(t *testing.T) {
	s := bind(t, newRuntime(t, sandbox.Options{}), plugins.PVCL(), 5, sandbox.PoolOptions{Size: 1})
	for name, edit := range map[string]func(*decide.Ranking){
		"scores":            func(q *decide.Ranking) { q.Score = q.Score[1:] },
		"reasons":           func(q *decide.Ranking) { q.Reason = append(q.Reason, 0) },
		"vetoes":            func(q *decide.Ranking) { q.Veto = nil },
		"a column":          func(q *decide.Ranking) { q.Lever = q.Lever[:2] },
		"no such candidate": func(q *decide.Ranking) { q.Candidates[4] = 5 },
		"negative":          func(q *decide.Ranking) { q.Candidates[0] = -1 },
		"too many":          func(q *decide.Ranking) { *q = *ranking(rand.New(rand.NewPCG(1, 1)), 6, 6); clear(q.Candidates) },
	} {
		t.Run(name, func(t *testing.T) {
			q := simple(5)
			edit(q)
			if err := s.Rank(context.Background(), q); err == nil {
				t.Error("no error")
			}
		})
	}
	empty := simple(5)
	*empty = decide.Ranking{}
	rank(t, s, empty)
	rank(t, s, simple(5))
	if got := s.Stats(); got.Calls != 1 {
		t.Errorf("stats %+v", got)
	}
}
