package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
	"time"

	"rapport/server/decide"
	"rapport/server/sandbox"
	"rapport/server/sandbox/probe"
)

// Restore is what it costs to call a strategy in the sandbox, by how its memory is
// put back, against a bare call: of the code as it is, by a host that fills in the
// frame, copies the answer out, and does nothing else. So it is all that the sandbox
// adds. What of it is the restore alone, package sandbox measures, which can leave
// it out (BenchmarkRestore there).
type Restore struct {
	// Latency is of calls that find the memory ready, as where there are more
	// instances than calls at once: what is left to keepers is done in between.
	Latency *Comparison
	// BackToBack is of calls of the only instance, each with the wait until what it
	// left is done.
	BackToBack *Comparison
	// Throughput is of calls by as many goroutines as there are processors, each
	// with an instance to have: the time divided by the number of all their calls.
	Throughput *Comparison
}

// restoreGoal is for the restore; here it is held against all that the sandbox adds
// to a bare call.
const restoreGoal = 2 * time.Microsecond

// MeasureRestore measures a strategy with so many candidates.
func MeasureRestore(ctx context.Context, o Options, g *Guest, candidates int) (_ *Restore, err error) {
	b := &restoring{ctx: ctx, options: o, guest: g, workers: runtime.GOMAXPROCS(0)}
	if b.scene, err = newScene(g, candidates); err != nil {
		return nil, err
	}
	if b.bare, err = g.probes(ctx, probe.Bare, b.workers, candidates); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, closeProbes(b.bare)) }()
	if b.metered, err = g.probes(ctx, probe.Metered, b.workers, candidates); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, closeProbes(b.metered)) }()
	if b.kinds, err = b.restores(); err != nil {
		return nil, err
	}
	for range b.workers {
		b.rankings = append(b.rankings, b.scene.ranking(random()))
	}
	r := &Restore{}
	for _, part := range []struct {
		into    **Comparison
		size    int
		settled settled
		subject func(string, func(int) error) Subject
	}{
		{&r.Latency, 2, settledAfter, b.alone},
		{&r.BackToBack, 1, settledIn, b.alone},
		{&r.Throughput, b.workers, settledNever, b.together},
	} {
		if *part.into, err = b.compare(part.size, part.settled, part.subject); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// settled says when a call waits until all instances are ready for the next.
type settled int

const (
	settledNever settled = iota // only when others are measured
	settledAfter                // after it was measured
	settledIn                   // and the wait is measured too
)

// restoring is what MeasureRestore measures with.
type restoring struct {
	ctx           context.Context
	options       Options
	guest         *Guest
	scene         *scene
	workers       int
	bare, metered []*probe.Probe    // one for each worker
	rankings      []*decide.Ranking // likewise
	kinds         []sandbox.Restore
}

// restores returns the ways to restore that this system has, its own first.
func (b *restoring) restores() (_ []sandbox.Restore, err error) {
	s, err := b.bind(1, sandbox.RestoreBest)
	if err != nil {
		return nil, err
	}
	defer closing(s, &err)
	if best := s.Stats().Restore; best != sandbox.RestorePages {
		return []sandbox.Restore{best, sandbox.RestoreFresh}, nil
	}
	return []sandbox.Restore{sandbox.RestorePages, sandbox.RestoreCopy, sandbox.RestoreMadvise, sandbox.RestoreFresh}, nil
}

func (b *restoring) bind(size int, kind sandbox.Restore) (*sandbox.Strategy, error) {
	return b.guest.module.Bind(b.ctx, b.scene.compiled, b.scene.scenario, sandbox.PoolOptions{Size: size, Restore: kind})
}

// compare compares the ways to restore, with pools of that size.
func (b *restoring) compare(size int, when settled, subject func(string, func(worker int) error) Subject) (_ *Comparison, err error) {
	subjects := []Subject{subject("bare call, metered", func(i int) error { return b.metered[i].RankAnew(b.ctx) })}
	for i, kind := range b.kinds {
		s, e := b.bind(size, kind)
		if e != nil {
			return nil, e
		}
		defer closing(s, &err)
		ready := settle(s)
		x := subject("sandboxed, restored by "+kind.String(), func(i int) error {
			err := s.Rank(b.ctx, b.rankings[i])
			if when == settledIn {
				ready()
			}
			return err
		})
		x.Settle, x.Settled = ready, when == settledAfter
		if i == 0 && x.Batch == 0 {
			x.Goal.Over = restoreGoal
		}
		subjects = append(subjects, x)
	}
	limit := subject(b.guest.Name+", bare call", func(i int) error { return b.bare[i].RankAnew(b.ctx) })
	return Compare(b.ctx, b.options, limit, subjects...)
}

// alone is a subject that is one call.
func (b *restoring) alone(name string, run func(worker int) error) Subject {
	return Subject{Name: name, Run: func() error { return run(0) }}
}

// together is a subject in which every worker makes some calls.
func (b *restoring) together(name string, run func(worker int) error) Subject {
	const calls = 32
	errs := make([]error, b.workers)
	return Subject{Name: name, Batch: calls * b.workers, Run: func() error {
		var all sync.WaitGroup
		for worker := range b.workers {
			all.Go(func() {
				for range calls {
					if errs[worker] = run(worker); errs[worker] != nil {
						return
					}
				}
			})
		}
		all.Wait()
		return errors.Join(errs...)
	}}
}

// Write prints the tables for people.
func (r *Restore) Write(w io.Writer) error {
	var errs []error
	for _, part := range []struct {
		title string
		c     *Comparison
	}{
		{"a call that finds its memory ready", r.Latency},
		{"calls back to back of one instance, with all that they leave to do", r.BackToBack},
		{"a processor for each of as many callers", r.Throughput},
	} {
		_, err := fmt.Fprintf(w, "%s:\n", part.title)
		errs = append(errs, err, part.c.Write(w))
	}
	return errors.Join(errs...)
}
