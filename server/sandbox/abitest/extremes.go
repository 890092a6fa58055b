package abitest

import (
	"context"
	"fmt"
	"slices"

	"rapport/profilestore"
	"rapport/sdk/abi"
	"rapport/server/sandbox"
)

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
				texts += textLength(v)
			}
			for i, in := range w.manifest.Profile {
				long := w.values.room - texts + textLength(f.profile[w.slots[i]])
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
					column := slices.Index(c.world.columns, name)
					for _, x := range columnExtremes(name) {
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
					for column, name := range c.world.columns {
						list := columnExtremes(name)
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
