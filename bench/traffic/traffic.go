package traffic

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"time"
)

// Request is one request that is due.
type Request struct {
	Number int // from 0, in the order in which they are due
	Worker int // of Plan.Workers, from 0: who sends it; never two at a time
	Kind   int // of Plan.Shares, from 0
	// Counted: the result tells what comes of it. Those of a warm-up are not.
	Counted bool
}

// Call sends one request and returns when it is answered. An error that wraps
// [ErrRefused] says that the server would not take it; any other, that it failed. It
// is called by as many goroutines as there are workers.
type Call func(ctx context.Context, r Request) error

// ErrRefused is in the error of a call that the server refused early because it had too
// much to do.
var ErrRefused = errors.New("refused")

// Plan says what is offered.
type Plan struct {
	// Rate is how many requests are due in a second.
	Rate float64
	// Duration is how long requests are due that are counted, after Warmup, when they are
	// sent but not counted.
	Duration, Warmup time.Duration
	// Workers bounds how many requests are under way at once. One that is due while that
	// many are, and as many wait for a worker, is dropped and counted as such.
	Workers int
	// Even makes requests due at even distances. Otherwise these are random, as those of
	// many independent customers are (a Poisson process).
	Even bool
	Seed uint64
	// Shares, if not empty, are the shares of several kinds of requests. Which of them a
	// request is, is drawn.
	Shares []float64
	// Interval, if not zero, divides Duration into stretches; what came of requests of kind 0
	// is told for each.
	Interval time.Duration
	// Drain is how long answers are waited for after the last request was due; 5 s if 0.
	Drain time.Duration
}

func (p *Plan) check() error {
	switch {
	case !(p.Rate > 0) || math.IsInf(p.Rate, 0):
		return fmt.Errorf("traffic: a rate of %v requests a second: it has to be more than 0", p.Rate)
	case p.Duration <= 0 || p.Warmup < 0 || p.Interval < 0:
		return fmt.Errorf("traffic: a duration of %v after %v: it has to be more than 0", p.Duration, p.Warmup)
	case p.Workers < 1:
		return errors.New("traffic: no workers")
	}
	return nil
}

// Offer sends requests as a plan has them. It returns early, with what was measured so
// far, only if ctx ends.
//
// One goroutine waits for the times at which requests are due and hands them to workers;
// it waits for nobody. What it and the workers add is in the latencies too, since these
// count from when a request was due; Result.Lateness tells it, so that the generator's
// part can be known.
func Offer(ctx context.Context, p Plan, call Call) (*Result, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	if p.Drain == 0 {
		p.Drain = 5 * time.Second
	}
	// Answers may come after ctx has ended the schedule.
	answering, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	c := newCollector(p)
	jobs := make(chan job, p.Workers)
	var workers sync.WaitGroup
	for i := range p.Workers {
		workers.Go(func() {
			for j := range jobs {
				sent := time.Now()
				err := call(answering, Request{Number: j.number, Worker: i, Kind: j.kind, Counted: j.counted})
				c.answered(j, sent, time.Now(), err)
			}
		})
	}
	begun := time.Now()
	used, err := processorTime()
	if err != nil {
		return nil, err
	}
	last := p.run(ctx, c, jobs)
	close(jobs)
	timer := time.AfterFunc(time.Until(last)+p.Drain, cancel)
	defer timer.Stop()
	workers.Wait()
	after, err := processorTime()
	if err != nil {
		return nil, err
	}
	return c.result(after-used, time.Since(begun)), ctx.Err()
}

// job is a request on its way to a worker.
type job struct {
	number  int
	kind    int
	due     time.Time
	counted bool
}

// run hands out requests when they are due, and returns when the last was.
func (p *Plan) run(ctx context.Context, c *collector, jobs chan<- job) (last time.Time) {
	clock := newSleeper()
	defer clock.close()
	random := rand.New(rand.NewPCG(p.Seed, 0x9e3779b97f4a7c15)) //nolint:gosec // arrivals are no secret
	begin := time.Now()
	c.begin(begin.Add(p.Warmup))
	end := p.Warmup + p.Duration
	at := 0.0 // seconds after begin
	for number := 0; ; number++ {
		if p.Even {
			at = float64(number) / p.Rate
		} else {
			at += random.ExpFloat64() / p.Rate
		}
		after := time.Duration(at * float64(time.Second))
		if after >= end || ctx.Err() != nil {
			return begin.Add(min(after, end))
		}
		j := job{number: number, kind: p.kind(random), due: begin.Add(after), counted: after >= p.Warmup}
		clock.until(j.due)
		select {
		case jobs <- j:
		default:
			c.drop(j)
		}
	}
}

// kind draws what a request is.
func (p *Plan) kind(random *rand.Rand) int {
	if len(p.Shares) == 0 {
		return 0
	}
	sum := 0.0
	for _, s := range p.Shares {
		sum += s
	}
	at := sum * random.Float64()
	for i, s := range p.Shares {
		if at -= s; at < 0 {
			return i
		}
	}
	return len(p.Shares) - 1
}

// Saturate has so many workers call one after the other for a time, after a warm-up, and
// says what was answered in that time, also of what was sent before it began: as many calls
// are left out at its end, and none would make what goes through look smaller, the more so
// the slower calls are. Latencies are from sending.
func Saturate(ctx context.Context, p Plan, call Call) (*Result, error) {
	p.Rate = 1 // it does not matter
	if err := p.check(); err != nil {
		return nil, err
	}
	c := newCollector(p)
	c.closed = true
	begin := time.Now()
	counted, end := begin.Add(p.Warmup), begin.Add(p.Warmup+p.Duration)
	c.begin(counted)
	used, err := processorTime()
	if err != nil {
		return nil, err
	}
	var workers sync.WaitGroup
	for i := range p.Workers {
		workers.Go(func() {
			random := rand.New(rand.NewPCG(p.Seed, uint64(i))) //nolint:gosec // which kinds are drawn is no secret
			for n := i; ctx.Err() == nil; n += p.Workers {
				sent := time.Now()
				if sent.After(end) {
					return
				}
				kind := p.kind(random)
				err := call(ctx, Request{Number: n, Worker: i, Kind: kind, Counted: !sent.Before(counted)})
				now := time.Now()
				c.answered(job{number: n, kind: kind, due: sent, counted: !now.Before(counted) && now.Before(end)}, sent, now, err)
			}
		})
	}
	workers.Wait()
	after, err := processorTime()
	if err != nil {
		return nil, err
	}
	return c.result(after-used, time.Since(begin)), ctx.Err()
}
