package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"text/tabwriter"
	"time"

	"rapport/plugins"
	"rapport/server/catalog"
	"rapport/server/decide"
	"rapport/server/sandbox"
	"rapport/server/sandbox/hostile"
)

// AttackOptions say what is measured of attacks.
type AttackOptions struct {
	Compiler []string // as in sandbox.Options
	Rounds   int      // how often each is called; 20 if 0
	// Only picks attacks; nil picks those that spend their fuel or their stack.
	Only func(*hostile.Attack) bool
}

// AttackFigures are what was measured of an attack.
type AttackFigures struct {
	Name           string
	Upload         bool  // it is uploaded, not called
	Fuel           int64 // that a call uses; of an upload it is not known
	Best, P50, Max time.Duration
	// Bystanders' delays while the attack runs, and while Go code does instead.
	Beside, BesideGo Delays
}

// Delays are of decisions that somebody else makes meanwhile, from the moment that
// they are due until they are made.
type Delays struct {
	Decisions  int
	P99, Worst time.Duration
}

// UnitNanos is what a unit of fuel takes, in the best of all calls: in others the
// machine had something else to do.
func (f *AttackFigures) UnitNanos() float64 { return float64(f.Best) / float64(f.Fuel) }

// attackCandidates are in every decision of this measurement.
const attackCandidates = 100

// MeasureAttacks calls hostile strategies, and has a bystander make a decision with
// an ordinary one every 100 µs meanwhile; a third goroutine makes garbage, as a
// server does, so that collections begin all the time. Machine code can't be
// stopped for one, so it ends only when the call does, and whoever needs it waits.
// After each call a loop in Go runs as long as that took: it can be stopped, and
// takes the same share of the processors.
//
// The corpus's other attacks, which end at once, are left out.
func MeasureAttacks(ctx context.Context, o AttackOptions) (_ []AttackFigures, err error) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(max(2, runtime.GOMAXPROCS(0))))
	s, err := newSiege(ctx, o)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.runtime.Close(ctx)) }()
	var list []AttackFigures
	for _, a := range hostile.Corpus() {
		if !o.picks(&a) {
			continue
		}
		f, err := s.attack(ctx, &a, cmp.Or(o.Rounds, 20))
		if err != nil {
			return nil, fmt.Errorf("bench: %s: %w", a.Name, err)
		}
		list = append(list, *f)
	}
	return list, nil
}

func (o *AttackOptions) picks(a *hostile.Attack) bool {
	if o.Only != nil {
		return o.Only(a)
	}
	return a.Fault == sandbox.FaultFuel || a.Fault == sandbox.FaultStack
}

// siege is what attacks share.
type siege struct {
	runtime  *sandbox.Runtime
	compiled *catalog.Compiled
	good     *sandbox.Strategy
}

func newSiege(ctx context.Context, o AttackOptions) (_ *siege, err error) {
	sc, err := newScene(&Guest{Name: "pvcl"}, attackCandidates)
	if err != nil {
		return nil, err
	}
	s := &siege{compiled: sc.compiled}
	if s.runtime, err = sandbox.New(ctx, sandbox.Options{Compiler: o.Compiler, Logger: slog.New(slog.DiscardHandler), NoBreaker: true}); err != nil {
		return nil, err
	}
	m, err := s.runtime.Compile(ctx, plugins.Builtin()[0])
	if err == nil {
		s.good, err = m.Bind(ctx, s.compiled, s.compiled.Scenarios[0], sandbox.PoolOptions{Size: 2})
	}
	if err != nil {
		return nil, errors.Join(err, s.runtime.Close(ctx))
	}
	return s, nil
}

// newRanking returns a decision to be ranked.
func newRanking() *decide.Ranking {
	const n = attackCandidates
	column := func() []float64 { return slices.Repeat([]float64{0.5}, n) }
	r := &decide.Ranking{
		Now: 1_772_366_400_000_000, Seed: 1, Propensity: column(), Value: column(), Weight: column(), Lever: column(),
		Score: make([]float64, n), Reason: make([]uint32, n), Veto: make([]bool, n),
	}
	for i := range n {
		r.Candidates = append(r.Candidates, int32(i))
	}
	return r
}

// attack measures one attack.
func (s *siege) attack(ctx context.Context, a *hostile.Attack, rounds int) (_ *AttackFigures, err error) {
	wasm, err := a.Wasm()
	if err != nil {
		return nil, err
	}
	f := &AttackFigures{Name: a.Name, Upload: a.Refused != ""}
	call := func() error {
		invalid := new(sandbox.InvalidError)
		if _, err := s.runtime.Compile(ctx, wasm); !errors.As(err, &invalid) || invalid.Reason != a.Refused {
			return fmt.Errorf("it ends with %w", err)
		}
		return nil
	}
	if !f.Upload {
		m, err := s.runtime.Compile(ctx, wasm)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, m.Close(ctx)) }()
		h, err := m.Bind(ctx, s.compiled, s.compiled.Scenarios[0], sandbox.PoolOptions{Size: 2})
		if err != nil {
			return nil, err
		}
		q := newRanking()
		call = func() error {
			fault := new(sandbox.FaultError)
			if err := h.Rank(ctx, q); !errors.As(err, &fault) || fault.Kind != a.Fault {
				return fmt.Errorf("it ends with %w", err)
			}
			f.Fuel = q.FuelUsed
			return nil
		}
	}
	b := s.besiege(ctx)
	var calls []time.Duration
	var attacks, loops []window
	for range rounds {
		w := window{from: time.Now()}
		err = call()
		w.to = time.Now()
		if err != nil {
			break
		}
		attacks, calls = append(attacks, w), append(calls, w.to.Sub(w.from))
		b.catchUp(ctx)
		loops = append(loops, spin(w.to.Sub(w.from)))
		b.catchUp(ctx)
	}
	if e := b.stop(); e != nil || err != nil {
		return nil, errors.Join(err, e)
	}
	slices.Sort(calls)
	f.Best, f.P50, f.Max = calls[0], calls[len(calls)/2], calls[len(calls)-1]
	f.Beside, f.BesideGo = b.delays(attacks), b.delays(loops)
	return f, nil
}

// window is a time in which something ran; a decision is one too, from when it was
// due.
type window struct{ from, to time.Time }

// spin runs Go code for so long.
func spin(long time.Duration) window {
	w := window{from: time.Now()}
	x := uint64(1)
	for {
		for range 1000 {
			x = x*6364136223846793005 + 1442695040888963407
		}
		if w.to = time.Now(); w.to.Sub(w.from) >= long || x == 0 {
			return w
		}
	}
}

// bystander makes decisions, and somebody garbage, until it is stopped.
type bystander struct {
	done  chan struct{}
	wait  sync.WaitGroup
	made  []window
	err   error
	trash []byte
	due   atomic.Int64 // the last that was made, in nanoseconds
}

const (
	decisionEvery = 100 * time.Microsecond
	garbageEvery  = 250 * time.Microsecond
	garbageSize   = 256 << 10 // a GB a second
)

func (s *siege) besiege(ctx context.Context) *bystander {
	b := &bystander{done: make(chan struct{})}
	b.wait.Go(func() {
		q := newRanking()
		b.every(decisionEvery, func(due time.Time) {
			if err := s.good.Rank(ctx, q); err != nil {
				b.err = err
			}
			b.made = append(b.made, window{due, time.Now()})
			b.due.Store(due.UnixNano())
		})
	})
	b.wait.Go(func() {
		b.every(garbageEvery, func(time.Time) { b.trash = make([]byte, garbageSize) })
	})
	return b
}

// every does something again and again, at moments that are fixed before: what is
// late does not put off the next.
func (b *bystander) every(d time.Duration, do func(due time.Time)) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for due := time.Now(); ; due = due.Add(d) {
		timer.Reset(time.Until(due))
		select {
		case <-timer.C:
		case <-b.done:
			return
		}
		do(due)
	}
}

// catchUp waits until no decision is late, and for what comes after a call.
func (b *bystander) catchUp(ctx context.Context) {
	for range 1000 {
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			return
		}
		if late := time.Now().UnixNano() - b.due.Load(); late < int64(2*time.Millisecond) {
			return
		}
	}
}

func (b *bystander) stop() error {
	close(b.done)
	b.wait.Wait()
	return b.err
}

// delays returns those of the decisions that were due or were made in the windows.
func (b *bystander) delays(windows []window) Delays {
	var list []time.Duration
	for _, w := range windows {
		from, _ := slices.BinarySearchFunc(b.made, w.from, func(m window, t time.Time) int { return m.to.Compare(t) })
		for _, m := range b.made[from:] {
			if m.from.After(w.to) {
				break
			}
			list = append(list, m.to.Sub(m.from))
		}
	}
	slices.Sort(list)
	d := Delays{Decisions: len(list)}
	if n := len(list); n > 0 {
		d.P99, d.Worst = list[n*99/100], list[n-1]
	}
	return d
}

// WriteAttacks prints measurements as a table for people, the dearest unit first.
func WriteAttacks(w io.Writer, list []AttackFigures) error {
	list = slices.Clone(list)
	slices.SortStableFunc(list, func(a, b AttackFigures) int { return cmp.Compare(b.order(), a.order()) })
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, err := fmt.Fprintln(t, "attack\tfuel\tcall best\tp50\tmax\tns a unit\tbystander p99\tworst\tbeside Go p99\tworst\tworst × Go\t")
	for _, f := range list {
		fuel, unit := fmt.Sprint(f.Fuel), fmt.Sprintf("%.2f", f.UnitNanos())
		if f.Upload {
			fuel, unit = "upload", ""
		}
		_, e := fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%.1f\t\n", f.Name, fuel, millis(f.Best), millis(f.P50), millis(f.Max), unit,
			millis(f.Beside.P99), millis(f.Beside.Worst), millis(f.BesideGo.P99), millis(f.BesideGo.Worst), f.Ratio())
		err = errors.Join(err, e)
	}
	return errors.Join(err, t.Flush())
}

func (f *AttackFigures) order() float64 {
	if f.Upload {
		return math.Inf(1)
	}
	return f.UnitNanos()
}

// Ratio is the bystander's worst delay beside the attack, against that beside Go.
func (f *AttackFigures) Ratio() float64 { return float64(f.Beside.Worst) / float64(f.BesideGo.Worst) }

func millis(d time.Duration) string { return fmt.Sprintf("%.2f ms", float64(d)/1e6) }
