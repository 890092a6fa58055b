package abitest

import (
	"context"
	"fmt"
	"os"
	"slices"

	"rapport/profilestore"
	"rapport/sdk/abi"
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

// withFew runs something with a scenario of a few candidates, and ordinary
// decisions about them.
func (c *checker) withFew(ctx context.Context, set map[string]float64, what string, run func(s *strategy, base []*frame) error) error {
	random := c.random(forFew)
	rows := c.world.rows(random, few, 0.9)
	var base []*frame
	for i := range bases {
		f := c.world.frame(random, few-i, few)
		f.what = "an ordinary decision"
		base = append(base, f)
	}
	return c.with(ctx, rows, set, what, func(s *strategy) error { return run(s, base) })
}

// checkProfiles leaves out what is known.
func (c *checker) checkProfiles(ctx context.Context) (bool, error) {
	m := c.world.manifest
	unknown := variant{profilestore.Unknown(), "unknown", false}
	err := c.during(Profiles, func() error {
		err := c.withFew(ctx, nil, "a scenario of few candidates", func(s *strategy, base []*frame) error {
			for _, f := range base {
				all, err := c.rank(ctx, s, f)
				if err != nil {
					return err
				}
				nothing := f.because("nothing is known of the customer")
				clear(nothing.profile)
				none, err := c.rank(ctx, s, nothing)
				if err != nil {
					return err
				}
				for i := range m.Profile {
					without, err := c.rank(ctx, s, c.world.withField(f, i, unknown))
					if err != nil {
						return err
					}
					alone := c.world.withField(nothing, i, variant{f.profile[c.world.slots[i]], "all that is known", false})
					only, err := c.rank(ctx, s, alone)
					if err != nil {
						return err
					}
					c.inputs.compare(&c.inputs.profile[i], all, without)
					c.inputs.compare(&c.inputs.profile[i], none, only)
				}
			}
			return nil
		})
		if err != nil || len(m.Offer)+len(m.Channel) == 0 {
			return err
		}
		random := c.random(forAttributes)
		what := "of all candidates but one, no attribute is known"
		return c.with(ctx, c.world.rows(random, few, 0), nil, what, func(s *strategy) error {
			_, err := c.rank(ctx, s, c.world.frame(random, few, few).because("%s", what))
			return err
		})
	})
	return true, err
}

// checkValues tries extreme values, one at a time, and of the profile all together.
func (c *checker) checkValues(ctx context.Context) (bool, error) {
	err := c.during(Values, func() error {
		if err := c.withFew(ctx, nil, "a scenario of few candidates", c.tryProfile(ctx)); err != nil {
			return err
		}
		return c.tryAttributes(ctx)
	})
	return true, err
}

// tryProfile returns what tries the extreme values of profile fields.
func (c *checker) tryProfile(ctx context.Context) func(s *strategy, base []*frame) error {
	w := c.world
	return func(s *strategy, base []*frame) error {
		for _, f := range base {
			ordinary, err := c.rank(ctx, s, f)
			if err != nil {
				return err
			}
			texts := 0
			for _, v := range f.profile {
				texts += len(v.Text())
			}
			for i, in := range w.manifest.Profile {
				long := w.values.room - texts + len(f.profile[w.slots[i]].Text())
				for _, v := range w.values.extremes(in.Type, long) {
					a, err := c.rank(ctx, s, w.withField(f, i, v))
					if err != nil {
						return err
					}
					c.inputs.compare(&c.inputs.profile[i], ordinary, a)
				}
			}
			for k := range 24 {
				g := f.because("all profile fields extreme, the %dth of each", k)
				for i, in := range w.manifest.Profile {
					list := w.values.extremes(in.Type, sandbox.TextRoom)
					v := list[k%len(list)]
					g.profile[w.slots[i]], g.huge = v.value, g.huge || v.huge
				}
				if _, err := c.rank(ctx, s, g); err != nil {
					return err
				}
			}
		}
		return nil
	}
}

// mostCells bounds the attributes of a scenario in which extreme ones are tried.
const mostCells = 200_000

// tryAttributes tries the extreme values of attributes: each candidate but the
// first differs from that in one.
func (c *checker) tryAttributes(ctx context.Context) error {
	w, random := c.world, c.random(forAttributes)
	first := w.row(random)
	type trial struct {
		row     row
		what    string
		input   *input
		variant variant
	}
	var trials []trial
	add := func(kind string, offer bool, inputs []abi.Input, of []input) {
		for i, in := range inputs {
			list := append(w.values.extremes(in.Type, longText), variant{profilestore.Unknown(), "unknown", false})
			for range 3 {
				v := w.values.ordinary(random, in.Type)
				list = append(list, variant{v, v.String(), false})
			}
			for _, v := range list {
				if (in.Name == offerValue && offer || in.Name == channelCost && !offer) && (!v.value.Known() || v.huge) {
					continue // a catalogue has no such ones
				}
				trials = append(trials, trial{first.with(offer, in.Name, v.value), fmt.Sprintf("%s attribute %s is %s", kind, in.Name, v.what), &of[i], v})
			}
		}
	}
	add("offer", true, w.manifest.Offer, c.inputs.offer)
	add("channel", false, w.manifest.Channel, c.inputs.channel)
	columns := len(w.manifest.Offer) + len(w.manifest.Channel)
	for part := range slices.Chunk(trials, max(1, mostCells/max(1, columns))) {
		rows := []row{first}
		for _, t := range part {
			rows = append(rows, t.row)
		}
		err := c.with(ctx, rows, nil, "a scenario with extreme attributes", func(s *strategy) error {
			for range bases {
				f := w.frame(random, len(rows), len(rows))
				for _, column := range f.columns {
					for i := range column {
						column[i] = column[0] // so that only the attribute differs
					}
				}
				f.what = "a decision about candidates with extreme attributes"
				f.huge = slices.ContainsFunc(part, func(t trial) bool { return t.variant.huge })
				// If there is a fault, which candidate it is about is found out below.
				phase, blames := c.phase, c.blames
				c.phase = ""
				together, err := c.rank(ctx, s, f)
				c.phase = phase
				if err != nil {
					return err
				}
				for i, t := range part {
					if together.fault == nil {
						t.input.note(together.samePlace(0, i+1))
						continue
					}
					one := w.frame(random, 1, 1).because("%s", t.what)
					one.profile, one.candidates, one.huge = f.profile, []int32{int32(i + 1)}, t.variant.huge
					if _, err := c.rank(ctx, s, one); err != nil {
						return err
					}
				}
				if together.fault != nil && c.blames == blames {
					c.blame(f, together.fault)
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// checkColumns tries extreme candidate columns.
func (c *checker) checkColumns(ctx context.Context) (bool, error) {
	err := c.during(Columns, func() error {
		return c.withFew(ctx, nil, "a scenario of few candidates", func(s *strategy, base []*frame) error {
			for _, f := range base {
				ordinary, err := c.rank(ctx, s, f)
				if err != nil {
					return err
				}
				for i, name := range c.world.manifest.Candidate {
					column := slices.Index(abi.Columns[:], name)
					for _, x := range columnExtremes[column] {
						for _, all := range []bool{true, false} {
							a, err := c.rank(ctx, s, c.world.withColumn(f, column, x, all))
							if err != nil {
								return err
							}
							c.inputs.compare(&c.inputs.candidate[i], ordinary, a)
						}
					}
				}
				for _, k := range []int{0, 1 << 20} { // the least, and the greatest
					g := f
					for column, list := range columnExtremes {
						g = c.world.withColumn(g, column, list[min(k, len(list)-1)], true)
					}
					if _, err := c.rank(ctx, s, g); err != nil {
						return err
					}
				}
			}
			return nil
		})
	})
	return true, err
}

// mostParameters is how many parameters are tried alone.
const mostParameters = 16

// checkParameters sets parameters to their ends: all together, and alone, those
// after the first few in groups at random.
func (c *checker) checkParameters(ctx context.Context) (bool, error) {
	list := c.world.manifest.Parameters
	type setting struct {
		what  string
		set   map[string]float64
		input *input
	}
	settings := []setting{{what: "all parameters at their default"}}
	lows, highs := make(map[string]float64), make(map[string]float64)
	for i, p := range list {
		lows[p.Name], highs[p.Name] = p.Min, p.Max
		if i < mostParameters {
			settings = append(settings,
				setting{fmt.Sprintf("parameter %s at its least, %g", p.Name, p.Min), map[string]float64{p.Name: p.Min}, &c.inputs.parameter[i]},
				setting{fmt.Sprintf("parameter %s at its greatest, %g", p.Name, p.Max), map[string]float64{p.Name: p.Max}, &c.inputs.parameter[i]})
		}
	}
	if len(list) > 1 {
		settings = append(settings, setting{what: "all parameters at their least", set: lows}, setting{what: "all parameters at their greatest", set: highs})
	}
	random := c.random(forFew)
	for i := range min(mostParameters, max(0, len(list)-mostParameters)) {
		mixed := make(map[string]float64)
		for _, p := range list {
			mixed[p.Name] = []float64{p.Min, p.Default, p.Max}[random.IntN(3)]
		}
		settings = append(settings, setting{what: fmt.Sprintf("parameters at their ends at random, the %dth time", i), set: mixed})
	}
	err := c.during(Parameters, func() error {
		var usual []*answer
		for _, x := range settings {
			err := c.withFew(ctx, x.set, x.what, func(s *strategy, base []*frame) error {
				for i, f := range base {
					a, err := c.rank(ctx, s, f.because("%s", x.what))
					if err != nil {
						return err
					}
					if x.set == nil {
						usual = append(usual, a)
					} else if x.input != nil && i < len(usual) {
						c.inputs.compare(x.input, usual[i], a)
					}
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	return true, err
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
