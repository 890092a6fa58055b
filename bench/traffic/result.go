package traffic

import (
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// What latencies can be, and how finely they are told apart.
const (
	leastLatency  = 1      // nanosecond
	mostLatency   = 60_000 // milliseconds
	latencyDigits = 3
)

// Result is what came of some traffic. All of it is of counted requests, those due after
// the warm-up, but CPU.
type Result struct {
	Stretch
	Kinds     []Stretch     // by Plan.Shares, if there were any
	Stretches []Stretch     // of kind 0, by Plan.Interval, if there was one
	CPU       time.Duration // processor time of this process, warm-up and draining included
	Elapsed   time.Duration // likewise of the clock
	Calls     int64         // that were made, warm-up and draining included
	Closed    bool          // by Saturate: latencies are from sending, and say nothing of customers
	Errors    []string      // of failed requests, the first few different ones
}

// Stretch is a stretch of time.
type Stretch struct {
	Seconds float64
	Offered int64 // requests that were due
	Good    int64 // answered
	Refused int64
	Failed  int64
	Dropped int64 // not sent, because all workers were waiting for answers
	// Latency is of good answers, from when the request was due; in nanoseconds, as are all.
	Latency *hdrhistogram.Histogram
	// Service is of good answers, from when the request was sent: what the server and the way to
	// it took. Where the generator sends late, as it does when it is offered more than the
	// machine can send, Latency is the generator's own.
	Service *hdrhistogram.Histogram
	// Refusal is of refused ones, from when they were sent.
	Refusal *hdrhistogram.Histogram
	// Lateness is from when a request was due until it was sent: what the generator added,
	// and the time for which all workers were waiting for answers.
	Lateness *hdrhistogram.Histogram
}

func newStretch() Stretch {
	return Stretch{Latency: newHistogram(), Service: newHistogram(), Refusal: newHistogram(), Lateness: newHistogram()}
}

func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(leastLatency, mostLatency*int64(time.Millisecond), latencyDigits)
}

// Processors is how many processors this process used.
func (r *Result) Processors() float64 { return float64(r.CPU) / float64(r.Elapsed) }

// Rate is how many requests were answered well in a second.
func (s *Stretch) Rate() float64 { return float64(s.Good) / s.Seconds }

// OfferedRate is how many were due.
func (s *Stretch) OfferedRate() float64 { return float64(s.Offered) / s.Seconds }

// Quantile returns a latency of good answers, for 0 ≤ q ≤ 1; 0 if there is none.
func (s *Stretch) Quantile(q float64) time.Duration { return quantile(s.Latency, q) }

func quantile(h *hdrhistogram.Histogram, q float64) time.Duration {
	return time.Duration(h.ValueAtQuantile(100 * q))
}

// add counts a request.
func (s *Stretch) add(j job, sent, now time.Time, err error) {
	s.Offered++
	record(s.Lateness, sent.Sub(j.due))
	switch {
	case err == nil:
		s.Good++
		record(s.Latency, now.Sub(j.due))
		record(s.Service, now.Sub(sent))
	case errors.Is(err, ErrRefused):
		s.Refused++
		record(s.Refusal, now.Sub(sent))
	default:
		s.Failed++
	}
}

func record(h *hdrhistogram.Histogram, d time.Duration) {
	_ = h.RecordValue(min(max(int64(d), leastLatency), mostLatency*int64(time.Millisecond))) // within its bounds
}

// collector gathers what workers report.
type collector struct {
	plan   Plan
	closed bool

	mu        sync.Mutex
	calls     int64
	start     time.Time // of what is counted
	all       Stretch
	kinds     []Stretch
	stretches []Stretch
	errors    []string
}

// maxErrors bounds the different errors that are kept.
const maxErrors = 5

func newCollector(p Plan) *collector {
	c := &collector{plan: p, all: newStretch()}
	for range p.Shares {
		s := newStretch()
		s.Seconds = p.Duration.Seconds()
		c.kinds = append(c.kinds, s)
	}
	if p.Interval > 0 {
		for at := time.Duration(0); at < p.Duration; at += p.Interval {
			s := newStretch()
			s.Seconds = min(p.Interval, p.Duration-at).Seconds()
			c.stretches = append(c.stretches, s)
		}
	}
	return c
}

func (c *collector) begin(t time.Time) { c.start = t }

// each calls fn for all stretches that a request belongs to.
func (c *collector) each(j job, fn func(*Stretch)) {
	fn(&c.all)
	if j.kind < len(c.kinds) {
		fn(&c.kinds[j.kind])
	}
	if len(c.stretches) > 0 && j.kind == 0 {
		i := int(j.due.Sub(c.start) / c.plan.Interval)
		fn(&c.stretches[min(max(i, 0), len(c.stretches)-1)])
	}
}

func (c *collector) answered(j job, sent, now time.Time, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls++
	if !j.counted {
		return
	}
	c.each(j, func(s *Stretch) { s.add(j, sent, now, err) })
	if err != nil && !errors.Is(err, ErrRefused) && len(c.errors) < maxErrors && !slices.Contains(c.errors, err.Error()) {
		c.errors = append(c.errors, err.Error())
	}
}

func (c *collector) drop(j job) {
	if !j.counted {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.each(j, func(s *Stretch) {
		s.Offered++
		s.Dropped++
	})
}

func (c *collector) result(cpu, elapsed time.Duration) *Result {
	c.all.Seconds = c.plan.Duration.Seconds()
	return &Result{Elapsed: elapsed, Calls: c.calls, Stretch: c.all, Kinds: c.kinds, Stretches: c.stretches, CPU: cpu, Closed: c.closed, Errors: c.errors}
}
