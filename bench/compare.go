package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// Subject is work to be measured.
type Subject struct {
	Name string
	// Run does the work once. It is called by one goroutine.
	Run func() error
	// Settle, if there is one, waits for what a Run leaves to others. It is not
	// measured. It is called when the next subject's turn comes, and if Settled is
	// set after each Run.
	Settle  func()
	Settled bool
	// Batch is how many operations a Run is; 0 is 1. Figures are of one of them.
	Batch int
	Goal  Goal
}

// Goal is what a subject should keep to. Zero fields are no goals. Whether it is
// met is information: nothing fails for being slow on a machine that others use.
type Goal struct {
	Ratio float64       // time, over that of the limit
	Over  time.Duration // time, less that of the limit
	P50   time.Duration
	// AtLeast is of a rival: how many times as long as the limit it is to take.
	AtLeast float64
}

// Options say how much is measured. The zero value is a quick run.
type Options struct {
	Rounds int           // how often the subjects take turns; 100 if 0
	Slice  time.Duration // about how long a subject runs in each round; 2 ms if 0
}

// Figures are what was measured of one subject.
type Figures struct {
	Name   string
	Ops    int           // operations in all rounds
	P50    time.Duration // of single operations
	P99    time.Duration
	Mean   time.Duration
	Allocs float64 // heap allocations an operation
	Bytes  float64 // heap bytes an operation
}

// Ratio is the time of a subject over that of the limit. Low and High bound the
// median of the rounds' ratios with 95% confidence.
type Ratio struct {
	Median, Low, High float64
	Rounds            int
}

// Comparison is the outcome of Compare.
type Comparison struct {
	Limit    Figures
	Subjects []Figures
	Ratios   []Ratio         // by subject
	Over     []time.Duration // the median of the rounds' differences, by subject
	Goals    []Goal          // by subject
}

// Compare measures subjects against a limit. In each round every one of them
// runs for about Options.Slice, in an order that is drawn for the round; a round
// gives one ratio for each subject, that of the medians of its runs, and the median
// of the rounds' ratios is the result. A change of the machine's speed meets all
// subjects of a round alike, and a disturbance that meets one of them falls out
// with its run or its round. What only few runs do is not in the ratio: the mean
// and p99 show it.
//
// Runs are timed one by one, for the percentiles; the clock's own cost, some 50 ns
// a run, is in all of them. Allocations are counted in a pass of their own, in
// which nothing else may allocate.
func Compare(ctx context.Context, o Options, limit Subject, subjects ...Subject) (*Comparison, error) {
	if o.Rounds == 0 {
		o.Rounds = 100
	}
	if o.Slice == 0 {
		o.Slice = 2 * time.Millisecond
	}
	all := append([]Subject{limit}, subjects...)
	runs := make([]run, len(all))
	for i := range all {
		if err := runs[i].prepare(all[i], o.Slice); err != nil {
			return nil, err
		}
	}
	// In a fixed order, each would always run in the caches, and beside the garbage
	// collection, of the same other one.
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // it only has to mix
	for range o.Rounds {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		for _, k := range random.Perm(len(runs)) {
			if err := runs[k].slice(); err != nil {
				return nil, err
			}
		}
	}
	c := &Comparison{Limit: runs[0].figures()}
	for i := range subjects {
		c.Subjects = append(c.Subjects, runs[i+1].figures())
		c.Ratios = append(c.Ratios, ratio(runs[i+1].rounds, runs[0].rounds))
		c.Over = append(c.Over, difference(runs[i+1].rounds, runs[0].rounds))
		c.Goals = append(c.Goals, subjects[i].Goal)
	}
	return c, nil
}

// run is the measuring of one subject.
type run struct {
	subject Subject
	ops     int             // runs a round
	times   []time.Duration // of an operation of each run
	rounds  []float64       // median nanoseconds of each round
	allocs  float64
	bytes   float64
}

// prepare warms the subject up, finds how many operations fill a slice, and
// counts its allocations.
func (r *run) prepare(s Subject, slice time.Duration) error {
	r.subject = s
	r.subject.Batch = max(1, s.Batch)
	for started := time.Now(); time.Since(started) < 20*slice; r.ops++ {
		if _, err := r.once(); err != nil {
			return err
		}
	}
	r.ops = max(1, r.ops/20)
	var before, after runtime.MemStats
	const counted = 200
	runs := (counted + r.subject.Batch - 1) / r.subject.Batch
	runtime.ReadMemStats(&before)
	for range runs {
		if _, err := r.once(); err != nil {
			return err
		}
	}
	runtime.ReadMemStats(&after)
	ops := float64(runs * r.subject.Batch)
	r.allocs = float64(after.Mallocs-before.Mallocs) / ops
	r.bytes = float64(after.TotalAlloc-before.TotalAlloc) / ops
	return nil
}

// once runs the subject once and returns how long that took.
func (r *run) once() (time.Duration, error) {
	begin := time.Now()
	err := r.subject.Run()
	took := time.Since(begin)
	if err != nil {
		return 0, fmt.Errorf("bench: %s: %w", r.subject.Name, err)
	}
	if r.subject.Settled {
		r.subject.Settle()
	}
	return took, nil
}

func (r *run) slice() error {
	first := len(r.times)
	for range r.ops {
		took, err := r.once()
		if err != nil {
			return err
		}
		r.times = append(r.times, took/time.Duration(r.subject.Batch))
	}
	if r.subject.Settle != nil {
		r.subject.Settle()
	}
	round := slices.Clone(r.times[first:])
	slices.Sort(round)
	r.rounds = append(r.rounds, float64(round[(r.ops-1)/2]+round[r.ops/2])/2)
	return nil
}

func (r *run) figures() Figures {
	slices.Sort(r.times)
	f := Figures{Name: r.subject.Name, Ops: len(r.times) * r.subject.Batch, Allocs: r.allocs, Bytes: r.bytes}
	var sum time.Duration
	for _, t := range r.times {
		sum += t
	}
	if n := len(r.times); n > 0 {
		f.P50, f.P99, f.Mean = r.times[n/2], r.times[n*99/100], sum/time.Duration(n)
	}
	return f
}

// ratio returns the median of a/b round by round, with its interval.
func ratio(a, b []float64) Ratio {
	q := make([]float64, len(a))
	for i := range a {
		q[i] = a[i] / b[i]
	}
	r := Ratio{Rounds: len(q)}
	r.Median, r.Low, r.High = median(q)
	return r
}

// difference returns the median of a − b round by round.
func difference(a, b []float64) time.Duration {
	d := make([]float64, len(a))
	for i := range a {
		d[i] = a[i] - b[i]
	}
	slices.Sort(d)
	return time.Duration(d[len(d)/2])
}

// Write prints a comparison as a table for people.
func (c *Comparison) Write(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	var errs []error
	line := func(format string, args ...any) {
		_, err := fmt.Fprintf(t, format, args...)
		errs = append(errs, err)
	}
	line("\tp50\tmean\tp99\tallocs/op\tB/op\t− limit\t× limit\t95%%\tgoal\t\n")
	line("%s (limit)\t%s\t%s\t%s\t%.1f\t%.0f\t\t\t\t\t\n", c.Limit.Name, micros(c.Limit.P50), micros(c.Limit.Mean), micros(c.Limit.P99), c.Limit.Allocs, c.Limit.Bytes)
	for i, f := range c.Subjects {
		r := c.Ratios[i]
		line("%s\t%s\t%s\t%s\t%.1f\t%.0f\t%s\t%.2f\t%.2f–%.2f\t%s\t\n", f.Name, micros(f.P50), micros(f.Mean), micros(f.P99), f.Allocs, f.Bytes, micros(c.Over[i]), r.Median, r.Low, r.High, c.verdict(i))
	}
	return errors.Join(append(errs, t.Flush())...)
}

// verdict says of each goal of a subject whether it is met.
func (c *Comparison) verdict(i int) string {
	var out []string
	say := func(goal string, met bool) { out = append(out, goal+" "+verdict(met)) }
	g := c.Goals[i]
	if g.Ratio > 0 {
		say(fmt.Sprintf("≤ %g ×", g.Ratio), c.Ratios[i].Median <= g.Ratio)
	}
	if g.Over > 0 {
		say(fmt.Sprintf("≤ +%v", g.Over), c.Over[i] <= g.Over)
	}
	if g.P50 > 0 {
		say(fmt.Sprintf("p50 ≤ %v", g.P50), c.Subjects[i].P50 <= g.P50)
	}
	if g.AtLeast > 0 {
		say(fmt.Sprintf("≥ %g ×", g.AtLeast), c.Ratios[i].Median >= g.AtLeast)
	}
	return strings.Join(out, ", ")
}

func verdict(met bool) string {
	if met {
		return "met"
	}
	return "missed"
}

func micros(d time.Duration) string { return fmt.Sprintf("%.2f µs", float64(d)/1000) }
