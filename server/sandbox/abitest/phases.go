package abitest

import (
	"context"
	"fmt"
	"os"
	"slices"

	"rapport/server/sandbox"
)

// Purposes of random numbers.
const (
	forMiddle = iota
	forSizes
	forFew
	forAttributes
	forRandom
	forRepeats
	forFigures
	forSeeking
)

// Sizes of scenarios. Those of a few candidates are for what is tried many times;
// the middle one is for all else.
const (
	few     = 16
	middle  = 100
	atMost  = 50 // candidates of random decisions
	bases   = 4  // ordinary decisions that are varied
	samples = 3  // ordinary decisions of each size
)

// sizes are the numbers of candidates that are tried: those around words of the
// bitmaps, and large ones.
func (c *checker) sizes() []int {
	list := []int{1, 2, 10, 63, 64, 65, middle, 127, 1000, c.options.Candidates}
	list = slices.DeleteFunc(list, func(n int) bool { return n > c.options.Candidates })
	slices.Sort(list)
	return slices.Compact(list)
}

// run checks everything, as far as it goes.
func (c *checker) run(ctx context.Context) error {
	for _, step := range []func(context.Context) (bool, error){
		c.compile, c.checkStart, c.checkSizes, c.checkProfiles, c.checkValues, c.checkColumns, c.checkParameters, c.checkRandom, c.checkRepeats, c.measure,
	} {
		if goOn, err := step(ctx); err != nil || !goOn {
			return err
		}
	}
	c.pass(Scores, Codes, Bounds, Budget, Memory)
	c.draw()
	return nil
}

// compile has the module compiled in two runtimes, and makes a world for it.
func (c *checker) compile(ctx context.Context) (bool, error) {
	modules := [len(c.runtimes)]*sandbox.Module{}
	for i := range c.runtimes {
		r, err := sandbox.New(ctx, c.sandbox)
		if err != nil {
			return false, err
		}
		c.runtimes[i] = r
		if modules[i], err = r.Compile(ctx, c.wasm); err != nil {
			if err := c.refused(err, ""); err != nil {
				return false, err
			}
			switch { // what was looked at before
			case c.failed(State):
				c.pass(Interface)
			case c.failed(Manifest, Start):
				c.pass(Binary, Interface, State)
			}
			return false, nil
		}
	}
	c.pass(Binary, Interface, State, Manifest)
	c.module = modules[0]
	m := c.module.Manifest()
	c.report.Manifest = m
	c.reasons = make([]bool, len(m.Reasons)+1)
	var err error
	if c.world, err = newWorld(m, c.options.Texts); err != nil {
		c.fail(Manifest, refusalAdvice[sandbox.ReasonManifest], "%v", err)
		return false, nil
	}
	c.inputs = newInputs(m)
	c.other = modules[1]
	return true, nil
}

// checkStart compares the images of two runtimes.
func (c *checker) checkStart(ctx context.Context) (bool, error) {
	rows := c.world.rows(c.random(forMiddle), middle, 0.8)
	digests := [2]string{}
	for i, m := range []*sandbox.Module{c.module, c.other} {
		s, err := c.bind(ctx, m, rows, nil, fmt.Sprintf("a scenario of %d candidates", middle), 1)
		if s == nil || err != nil {
			return false, err
		}
		digests[i] = s.ImageDigest()
		c.report.Figures.Image, c.report.Figures.ImageDigest = s.Stats().Image, digests[i]
		if err := s.Close(context.WithoutCancel(ctx)); err != nil {
			return false, err
		}
	}
	if digests[0] != digests[1] {
		c.fail(Start, refusalAdvice[sandbox.ReasonImage], "a scenario of %d candidates: in one runtime it begins with memory and globals of SHA-256 %s, and in another of %s", middle, digests[0], digests[1])
	}
	return true, nil
}

// checkSizes goes through the numbers of candidates. It does not go on if no call
// of a small one succeeds.
func (c *checker) checkSizes(ctx context.Context) (goOn bool, err error) {
	random := c.random(forSizes)
	good := 0
	err = c.during(Sizes, func() error {
		if err := c.with(ctx, nil, nil, "a scenario without candidates", func(*strategy) error { return nil }); err != nil {
			return err
		}
		for _, n := range c.sizes() {
			what := fmt.Sprintf("a scenario of %d candidates", n)
			err := c.with(ctx, c.world.rows(random, n, 0.8), nil, what, func(s *strategy) error {
				size := Size{Candidates: n, Private: -1}
				for range samples {
					a, err := c.rank(ctx, s, c.world.frame(random, n, n))
					if err != nil {
						return err
					}
					size.Limit = a.limit
					if a.fault == nil {
						good++
						size.Fuel = max(size.Fuel, a.used)
					}
				}
				err := c.settle(ctx, s, what)
				if stats := s.Stats(); stats.Restore == sandbox.RestorePages {
					size.Private = int(stats.Private) / os.Getpagesize()
				}
				c.report.Figures.Sizes = append(c.report.Figures.Sizes, size)
				return err
			})
			if err != nil || n >= 2 && good == 0 {
				return err
			}
		}
		most := c.options.Candidates
		return c.with(ctx, c.world.rows(random, most, 0.8), nil, fmt.Sprintf("a scenario of %d candidates", most), func(s *strategy) error {
			for _, n := range c.sizes() {
				if _, err := c.rank(ctx, s, c.world.frame(random, n, most)); err != nil {
					return err
				}
			}
			return nil
		})
	})
	if err == nil && !c.failed(Start) {
		c.pass(Start)
	}
	return good > 0, err
}

// checkRandom makes random decisions, and keeps them to be made again.
func (c *checker) checkRandom(ctx context.Context) (bool, error) {
	random := c.random(forRandom)
	c.rows = c.world.rows(random, atMost, 0.8)
	err := c.during(Random, func() error {
		return c.with(ctx, c.rows, nil, "random decisions", func(s *strategy) error {
			for i := range c.options.Frames {
				f := c.world.anything(random, i+1, atMost)
				a, err := c.rank(ctx, s, f)
				if err != nil {
					return err
				}
				c.made = append(c.made, made{f, a})
			}
			return c.seek(ctx, s)
		})
	})
	return true, err
}

// mostSought is how many decisions are tried with another value of a profile field
// that has made no difference yet.
const mostSought = 100

// seek tries profile fields that have made no difference in more decisions: one may
// matter only together with others.
func (c *checker) seek(ctx context.Context, s *strategy) error {
	random := c.random(forSeeking)
	for i, in := range c.world.manifest.Profile {
		for try := 0; try < mostSought && !c.inputs.profile[i].differs; try++ {
			f := c.world.frame(random, atMost, atMost)
			a, err := c.rank(ctx, s, f)
			if err != nil {
				return err
			}
			list := c.world.values.extremes(in.Type, sandbox.TextRoom/4)
			v := list[random.IntN(len(list))]
			if random.IntN(2) == 0 {
				other := c.world.values.ordinary(random, in.Type)
				v = variant{other, other.String(), false}
			}
			b, err := c.rank(ctx, s, c.world.withField(f, i, v))
			if err != nil {
				return err
			}
			c.inputs.compare(&c.inputs.profile[i], a, b)
		}
	}
	return nil
}
