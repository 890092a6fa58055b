package abitest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	"rapport/server/decide"
	"rapport/server/sandbox"
)

// checker checks one module, once.
//
// What it asks of the module comes in phases, each of which is a requirement of its
// own: whether the module answers what that phase asks. How it answers is looked at
// in all phases, by other requirements. So a fault belongs to the requirement that
// its kind is about, if there is one, and else to that of the phase; and a phase in
// which another requirement was not met is neither passed nor failed.
type checker struct {
	options Options
	sandbox sandbox.Options
	wasm    []byte
	wrap    func(ranker) ranker

	runtimes [2]*sandbox.Runtime
	module   *sandbox.Module // of the first runtime
	other    *sandbox.Module // of the second
	world    *world
	lines    atomic.Int64 // that the strategy has logged

	report   *Report
	findings map[Requirement]*Finding
	passed   map[Requirement]bool

	phase  Requirement // at present; empty: faults are answers like others
	faults int         // in this phase
	blames int         // faults that were noted, in all
	grown  uint64      // instances, of the strategy at hand, that are known to have grown

	rows []row  // of the scenario of random decisions
	made []made // those

	talked, talks int // calls that were listened to, and those in which something was logged

	inputs  *inputs
	reasons []bool        // given, by code
	most    map[int]int64 // fuel that calls took, by number of candidates
	digest  hash.Hash
}

// ranker is what is called.
type ranker interface {
	Rank(ctx context.Context, r *decide.Ranking) error
}

func newChecker(o Options, so sandbox.Options, wasm []byte, wrap func(ranker) ranker) *checker {
	c := &checker{
		options: o, sandbox: so, wasm: wasm, wrap: wrap,
		findings: make(map[Requirement]*Finding), passed: make(map[Requirement]bool), most: make(map[int]int64),
		digest: sha256.New(),
	}
	next := slog.DiscardHandler
	if so.Logger != nil {
		next = so.Logger.Handler()
	}
	c.sandbox.Logger = slog.New(lineCounter{next, &c.lines})
	sum := sha256.Sum256(wasm)
	c.report = &Report{Bytes: len(wasm), Digest: hex.EncodeToString(sum[:])}
	return c
}

// close frees what checking took.
func (c *checker) close(ctx context.Context) error {
	var errs []error
	for _, r := range c.runtimes {
		if r != nil {
			errs = append(errs, r.Close(ctx))
		}
	}
	return errors.Join(errs...)
}

// random returns a source of random numbers for a purpose, so that no phase changes
// what another draws.
func (c *checker) random(purpose uint64) *rand.Rand {
	return rand.New(rand.NewPCG(c.options.Seed, purpose)) //nolint:gosec // not for secrets
}

// fail says that a requirement is not met, and warn that it should be looked at. A
// failure takes the place of a warning.
func (c *checker) fail(r Requirement, do, format string, args ...any) {
	c.find(r, Failed, do, format, args...)
}

func (c *checker) warn(r Requirement, do, format string, args ...any) {
	c.find(r, Warning, do, format, args...)
}

func (c *checker) find(r Requirement, result Result, do, format string, args ...any) {
	f := c.findings[r]
	if f == nil || f.Result == Warning && result == Failed {
		f = &Finding{Requirement: r, Sentence: r.Sentence(), Result: result, Do: do}
		c.findings[r] = f
	}
	if f.Result == result {
		f.saw(fmt.Sprintf(format, args...))
	}
}

// failed reports whether any of these requirements is known not to be met.
func (c *checker) failed(list ...Requirement) bool {
	return slices.ContainsFunc(list, func(r Requirement) bool {
		return c.findings[r] != nil && c.findings[r].Result == Failed
	})
}

// pass says that requirements were checked; they are met if nothing else was said.
func (c *checker) pass(list ...Requirement) {
	for _, r := range list {
		c.passed[r] = true
	}
}

// during runs a phase.
func (c *checker) during(r Requirement, run func() error) error {
	c.phase, c.faults = r, 0
	err := run()
	c.phase = ""
	if err == nil && c.faults == 0 {
		c.pass(r)
	}
	return err
}

// refused notes why the sandbox does not take the module. Other errors it returns.
func (c *checker) refused(err error, where string) error {
	bad := new(sandbox.InvalidError)
	if !errors.As(err, &bad) {
		return err
	}
	r, ok := refusals[bad.Reason]
	if !ok {
		return err
	}
	if r == Start && c.phase == Parameters {
		r = Parameters
	}
	c.fail(r, refusalAdvice[bad.Reason], "%s%s (%s)", where, bad.Message, bad.Reason)
	return nil
}

// strategy is a module bound to a scenario.
type strategy struct {
	*sandbox.Strategy
	ranker ranker
	rows   int
}

// bind binds the module to a scenario, with a pool of one instance. It returns nil
// if the module does not take it, which is then noted.
func (c *checker) bind(ctx context.Context, m *sandbox.Module, rows []row, set map[string]float64, what string, pool int) (*strategy, error) {
	cat, sc := c.world.scenario(rows, set)
	s, err := m.Bind(ctx, cat, sc, sandbox.PoolOptions{Size: pool})
	if err != nil {
		c.faults++
		return nil, c.refused(err, fmt.Sprintf("%s: ", what))
	}
	c.grown = 0
	r := ranker(s)
	if c.wrap != nil {
		r = c.wrap(r)
	}
	return &strategy{s, r, len(rows)}, nil
}

// with binds the module, runs what is to be done with it, and closes it.
func (c *checker) with(ctx context.Context, rows []row, set map[string]float64, what string, run func(s *strategy) error) error {
	s, err := c.bind(ctx, c.module, rows, set, what, 1)
	if s == nil || err != nil {
		return err
	}
	err = run(s)
	if err == nil {
		err = c.settle(ctx, s, what)
	}
	return errors.Join(err, s.Close(context.WithoutCancel(ctx)))
}

// rank makes a decision and looks at the answer.
func (c *checker) rank(ctx context.Context, s *strategy, f *frame) (*answer, error) {
	a, err := ask(ctx, s, f)
	if err != nil {
		return nil, err
	}
	c.report.Figures.Calls++
	a.addTo(c.digest)
	for _, code := range a.reason {
		c.reasons[code] = true
	}
	if a.fault == nil {
		c.most[len(f.candidates)] = max(c.most[len(f.candidates)], a.used)
	}
	if share := float64(a.used) / float64(a.limit); share > c.report.Figures.Share {
		c.report.Figures.Share, c.report.Figures.ShareAt = share, f.what
	}
	if a.fault != nil && c.phase != "" {
		c.blame(f, a.fault)
	}
	return a, nil
}

// blame notes a fault.
func (c *checker) blame(f *frame, fault *sandbox.FaultError) {
	c.blames++
	r, ok := faults[fault.Kind]
	if !ok {
		r = c.phase
	}
	switch {
	case r == Scores && f.huge:
		c.warn(Scores, faultAdvice[fault.Kind], "%s: %s", f.what, fault.Message)
		return // the phase is none the worse for it
	case r == Random && c.failed(Sizes, Profiles, Values, Columns, Parameters):
		// Random decisions have in them what the other phases try one by one.
	default:
		c.fail(r, faultAdvice[fault.Kind], "%s: %s: %s", f.what, fault.Kind, fault.Message)
	}
	c.faults++
}

// patience is how long an instance may take to be ready for its next call.
const patience = 30 * time.Second

// settle waits until the strategy's only instance is ready for the next call, so
// that its counts are complete, and notes if it grew.
func (c *checker) settle(ctx context.Context, s *strategy, what string) error {
	limit := time.After(patience)
	for s.Stats().Free < s.Stats().Size {
		select {
		case <-time.After(100 * time.Microsecond):
		case <-limit:
			return fmt.Errorf("abitest: %s: the instance is not ready for its next call after %v", what, patience)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if grown := s.Stats().Grown; grown > c.grown {
		c.fail(Memory, "Have the memory ready before the first call, in _initialize or rapport_configure, and free what a call allocates; the Go SDK does that for 4 MB a call.",
			"%s: the memory grew in a call, which replaces the instance", what)
		c.grown = grown
	}
	return nil
}

// finish puts the report together.
func (c *checker) finish() *Report {
	for _, r := range Requirements() {
		f := Finding{Requirement: r, Sentence: r.Sentence(), Result: Unchecked}
		switch {
		case c.findings[r] != nil:
			f = *c.findings[r]
		case c.passed[r]:
			f.Result = OK
		default:
			f.Seen = []string{c.because()}
		}
		c.report.Findings = append(c.report.Findings, f)
	}
	c.report.Figures.Answers = hex.EncodeToString(c.digest.Sum(nil))
	return c.report
}

// because says why something is unchecked.
func (c *checker) because() string {
	for _, r := range Requirements() {
		if c.failed(r) {
			return "not known before " + string(r) + " is mended"
		}
	}
	return "not checked"
}
