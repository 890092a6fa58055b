// Package abitest checks that a module is a strategy which a server can rely on:
// all that ABI 1 (sdk/ABI.md) asks of a module and that can be found out without
// its source. Every strategy that ships passes, and whoever writes an SDK runs its
// examples through it.
//
// [Run] is for Go tests, a subtest for each requirement; [Check] returns a [Report],
// which `rapport plugin check` prints. Both know nothing of a server, a catalogue or
// customers: they make up a schema and a scenario that fit what the manifest
// declares, and decisions at random, always the same for a seed.
//
// A module is run as a server runs it, by package sandbox alone, and judged by what
// comes out. So a mistake that only certain values show is found only if they are
// tried; which are, is said at [Options] and at each [Requirement]. Whether the
// ranking makes sense is for the author's own tests.
//
// The command and tests import it; the server does not.
package abitest

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"rapport/server/sandbox"
)

// Defaults of Options.
const (
	defaultSeed       = 1
	defaultFrames     = 300
	defaultCandidates = 10_000
)

// MaxCandidates is the most that Options.Candidates may be.
const MaxCandidates = 100_000

// maxGivenText is the most bytes of one of Options.Texts. A profile has room for
// four times as many in each of its texts.
const maxGivenText = 256

// Options say what is tried. The zero Options are the defaults.
type Options struct {
	// Seed is for all that is random; 0 is 1.
	Seed uint64
	// Frames is how many random decisions are made; 0 is 300.
	Frames int
	// Candidates is the size of the largest scenario; 0 is 10,000, and MaxCandidates
	// the most.
	Candidates int
	// Texts are values that texts of the profile and the catalogue may have, beside
	// made-up ones: those that the strategy knows by name.
	Texts []string
}

// withDefaults fills in what is zero.
func (o Options) withDefaults() (Options, error) {
	o.Seed = cmp.Or(o.Seed, defaultSeed)
	o.Frames = cmp.Or(o.Frames, defaultFrames)
	o.Candidates = cmp.Or(o.Candidates, defaultCandidates)
	switch {
	case o.Frames < 0:
		return o, fmt.Errorf("abitest: %d frames: use 1 or more, or 0 for %d", o.Frames, defaultFrames)
	case o.Candidates < 1 || o.Candidates > MaxCandidates:
		return o, fmt.Errorf("abitest: a scenario of %d candidates: use 1 to %d, or 0 for %d", o.Candidates, MaxCandidates, defaultCandidates)
	}
	for _, t := range o.Texts {
		if len(t) > maxGivenText {
			return o, fmt.Errorf("abitest: a text of %d bytes to try: use at most %d", len(t), maxGivenText)
		}
	}
	return o, nil
}

// Check checks a module. What is wrong with it is in the report; an error says that
// it could not be checked, as when no compiler process can be started.
//
// so is how a server would run the module: limits, fuel, the compiler's command,
// which is required. Lines of the strategy go to its Logger. Without a CacheDir,
// what is compiled is kept in a temporary folder as long as Check runs.
func Check(ctx context.Context, so sandbox.Options, wasm []byte, o Options) (*Report, error) {
	return check(ctx, so, wasm, o, nil)
}

// check is Check; wrap stands between it and the strategies if it is not nil.
func check(ctx context.Context, so sandbox.Options, wasm []byte, o Options, wrap func(ranker) ranker) (_ *Report, err error) {
	if o, err = o.withDefaults(); err != nil {
		return nil, err
	}
	if so.CacheDir == "" {
		dir, err := os.MkdirTemp("", "rapport-check-")
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
		so.CacheDir, so.CacheKey = filepath.Join(dir, "cache"), make([]byte, 32)
		_, _ = rand.Read(so.CacheKey) // it never fails
	}
	so.NoBreaker = true // a strategy that fails is to go on failing
	c := newChecker(o, so, wasm, wrap)
	defer func() { err = errors.Join(err, c.close(context.WithoutCancel(ctx))) }()
	if err := c.run(ctx); err != nil {
		return nil, err
	}
	return c.finish(), nil
}
