// Command compare measures Rapport beside others who can make the same decisions: the same
// customers, offers, rules and scores, and answers that are the same before anything is
// timed. See README.md.
//
// It is a module of its own, so that Rapport does not depend on its rivals.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"time"

	"rapport/bench"
	"rapport/plugins"
	"rapport/server/sandbox"
)

// contender answers for a customer, by number; the result is valid until the next call.
type contender interface {
	Decide(ctx context.Context, customer int) ([]string, error)
	Close() error
}

// entrant makes a contender.
type entrant struct {
	name string
	// goal is how many times as fast Rapport is to be.
	goal  float64
	enter func(context.Context, *bench.Contest) (contender, error)
}

func entrants() []entrant {
	return []entrant{
		{"Rapport, profile not in the cache", 0, rapport(0)},
		{"Rapport, and its sandbox put back", 0, putBack},
		{"Rapport's sandbox, rules in Go", 0, host},
		{"sandbox, rules in Go, and put back", 0, hostPutBack},
		{"plain Go, no store, no sandbox", 0, plain},
		{"cel-go", 0, newCEL},
		{"Extism Go SDK, rules in Go", 10, newExtism},
		{"JSON profiles in Redis, rules in Go", 3, newRedis},
		{"JSON in Redis, 20 customers in a pipeline", 0, newRedisPiped},
		{"OPA, prepared, data in memory", 100, newOPA},
		{"OPA, rules alone, scores in Go", 0, newOPARules},
		{"json-rules-engine on Node", 0, newNode},
	}
}

func main() {
	if sandbox.IsCompiler() {
		os.Exit(sandbox.CompilerMain(os.Stdin, os.Stdout, os.Stderr))
	}
	var o options
	flag.IntVar(&o.customers, "customers", 1000, "customers")
	flag.IntVar(&o.offers, "offers", 100, "offers")
	flag.IntVar(&o.rounds, "rounds", 60, "how often they take turns")
	flag.DurationVar(&o.slice, "slice", 20*time.Millisecond, "about how long each runs in its turn")
	flag.BoolVar(&o.json, "json", false, "print NDJSON, as rapport bench does")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, o)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

type options struct {
	customers, offers, rounds int
	slice                     time.Duration
	json                      bool
}

func run(ctx context.Context, o options) (err error) {
	report := &bench.Report{Environment: bench.ReadEnvironment(), Begun: time.Now().UTC()}
	if report.Records, err = measure(ctx, o); err != nil {
		return err
	}
	report.Seconds = time.Since(report.Begun).Seconds()
	if o.json {
		return report.WriteNDJSON(os.Stdout)
	}
	return report.Write(os.Stdout)
}

// measure has all contenders take turns with Rapport. One that can't be had here is named,
// and left out.
func measure(ctx context.Context, o options) (_ []bench.Record, err error) {
	contest := bench.NewContest(o.customers, o.offers)
	limit, err := rapport(10*o.customers)(ctx, contest)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, limit.Close()) }()
	all := []bench.Subject{subject(ctx, contest, "Rapport", limit, 0)}
	for _, e := range entrants() {
		c, err := e.enter(ctx, contest)
		if missing := (*missingError)(nil); errors.As(err, &missing) && os.Getenv("RAPPORT_REQUIRE_TOOLS") == "" {
			fmt.Fprintf(os.Stderr, "left out: %s: %v\n", e.name, err)
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", e.name, err)
		}
		defer func() { _ = c.Close() }()
		if err := agree(ctx, contest, c); err != nil {
			return nil, fmt.Errorf("%s: %w", e.name, err)
		}
		all = append(all, subject(ctx, contest, e.name, c, e.goal))
	}
	result, err := bench.Compare(ctx, bench.Options{Rounds: o.rounds, Slice: o.slice}, all[0], all[1:]...)
	if err != nil {
		return nil, err
	}
	return result.Records("rivals", bench.Case{}.Of("customers", o.customers).Of("offers", o.offers)), nil
}

// missingError says that a program is not installed.
type missingError struct{ what string }

func (e *missingError) Error() string { return e.what }

// agree has a contender decide for every customer.
func agree(ctx context.Context, contest *bench.Contest, c contender) error {
	for i := range contest.Customers {
		want := contest.Slate(i)
		got, err := c.Decide(ctx, i)
		if err != nil {
			return err
		}
		if !slices.Equal(got, want) {
			return fmt.Errorf("customer %s gets %v, not %v: the answers differ, and are not compared", contest.Customers[i].ID, got, want)
		}
	}
	return nil
}

// batcher is a contender who decides for many customers in one go, so that asking it costs
// nothing.
type batcher interface {
	Batch() int
	DecideBatch(ctx context.Context, first int) error
}

// subject decides for one customer after the other, in an order in which neighbours are no
// neighbours.
func subject(ctx context.Context, contest *bench.Contest, name string, c contender, goal float64) bench.Subject {
	n := len(contest.Customers)
	next := 0
	s := bench.Subject{Name: name, Goal: bench.Goal{AtLeast: goal}, Run: func() error {
		next = (next + 617) % n
		slate, err := c.Decide(ctx, next)
		if err == nil && len(slate) == 0 {
			err = errors.New("an empty slate")
		}
		return err
	}}
	if b, ok := c.(batcher); ok {
		s.Batch = b.Batch()
		s.Run = func() error {
			next = (next + 617) % n
			return b.DecideBatch(ctx, next)
		}
	}
	if e, ok := c.(settler); ok {
		s.Settle, s.Settled = e.Settle, true
	}
	return s
}

// settler is a contender who leaves something to others after an answer.
type settler interface{ Settle() }

// entry is Rapport.
type entry struct {
	*bench.ContestEntry

	identities []string
}

// rapport returns what makes Rapport with a cache of so many customers.
func rapport(cache int) func(context.Context, *bench.Contest) (contender, error) {
	return func(ctx context.Context, c *bench.Contest) (contender, error) {
		compiler, err := sandbox.CompilerCommand()
		if err != nil {
			return nil, err
		}
		e, err := c.Enter(ctx, compiler, plugins.PVCL(), cache)
		if err != nil {
			return nil, err
		}
		out := &entry{ContestEntry: e}
		for i := range c.Customers {
			out.identities = append(out.identities, "customer:"+c.Customers[i].ID)
		}
		if err := agree(ctx, c, out); err != nil {
			return nil, errors.Join(err, e.Close())
		}
		return out, nil
	}
}

// Decide answers for a customer.
func (e *entry) Decide(ctx context.Context, customer int) ([]string, error) {
	return e.ContestEntry.Decide(ctx, e.identities[customer])
}

// sandboxed is Rapport as a host of plugins.
type sandboxed struct {
	*entry
	host *bench.ContestHost
}

func host(ctx context.Context, c *bench.Contest) (contender, error) {
	e, err := rapport(len(c.Customers))(ctx, c)
	if err != nil {
		return nil, err
	}
	return &sandboxed{e.(*entry), e.(*entry).Host(c)}, nil
}

// Decide answers for a customer.
func (s *sandboxed) Decide(ctx context.Context, customer int) ([]string, error) {
	return s.host.Decide(ctx, customer)
}

// waiting is a contender whose answers wait until the sandbox is as before, as callers do who
// ask one after the other without a pause and have no spare instance.
type waiting struct{ contender }

// Decide answers for a customer.
func (w waiting) Decide(ctx context.Context, customer int) ([]string, error) {
	slate, err := w.contender.Decide(ctx, customer)
	w.contender.(settler).Settle()
	return slate, err
}

func putBack(ctx context.Context, c *bench.Contest) (contender, error) {
	e, err := rapport(10*len(c.Customers))(ctx, c)
	return waiting{e}, err
}

func hostPutBack(ctx context.Context, c *bench.Contest) (contender, error) {
	e, err := host(ctx, c)
	return waiting{e}, err
}

// inGo is the same decision in plain Go.
type inGo struct{ contest *bench.Contest }

func plain(_ context.Context, c *bench.Contest) (contender, error) { return inGo{c}, nil }

// Decide answers for a customer.
func (g inGo) Decide(_ context.Context, customer int) ([]string, error) {
	return g.contest.Slate(customer), nil
}

// Close does nothing.
func (inGo) Close() error { return nil }
