package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Layer is a part of Rapport that the suite measures, each against a limit.
type Layer struct {
	Name string
	Says string // what is measured, against what
	// Asked: it takes so long that it is only measured if it is named.
	Asked bool
	// measure returns the layer's records.
	measure func(s *Suite, ctx context.Context) ([]Record, error)
}

// Suite measures layers. It is used by one goroutine.
type Suite struct {
	// Quick measures less: to see that all of it runs, what it says roughly, and whether a
	// wide gate is broken.
	Quick bool
	// Compiler is the command that compiles strategies, as in sandbox.Options.
	Compiler []string
	// Self is the command of a program that calls [ProcessMain] first thing: of this one, as
	// a rule. Servers and echoes run in processes of their own.
	Self []string
	// Only, if not empty, has the names of the layers to measure.
	Only []string
	// Progress, if not nil, is called when a layer begins.
	Progress func(layer Layer, number, of int)
	// Profiles, if not empty, is a folder for profiles and traces of each layer.
	Profiles string

	// Fault makes the server under load slow on purpose.
	Fault Fault

	guests *Guests
	lent   bool       // the guests are somebody else's
	scale  *loadScale // of tests
}

// Layers returns all layers, in the order in which they are measured.
func Layers() []Layer {
	return []Layer{
		{NoiseLayer, "a decision against the same decision: what can't be told apart here", false, (*Suite).noise},
		{"guest", "a call of a strategy in the sandbox against the same computation natively in Go", false, (*Suite).rank},
		{"restore", "the sandbox against a bare call of the same code", false, (*Suite).restore},
		{"metering", "code that counts its fuel against the same code that does not", false, (*Suite).metering},
		{"rules", "cel-go against rules as Rapport compiles them", false, (*Suite).rules},
		{"decision", "a decision in process against the same with its strategy native in Go", false, (*Suite).decision},
		{"survivors", "a decision in which few candidates survive against one in which all do", false, (*Suite).survivors},
		{"catalogue", "a decision in a catalogue of 10,000 other offers against the same without them", false, (*Suite).catalogue},
		{"profile", "a customer's profile against the raw gets, or the map, that it needs", false, (*Suite).profile},
		{"log", "a decision that is remembered against one that is not", false, (*Suite).remembering},
		{"events", "events, durable and visible, against a raw journal with the same bytes and syncs", false, (*Suite).events},
		{"generator", "the generator of load against a server that answers at once: what it can't measure", false, (*Suite).generator},
		{"rpc", "decisions by RPC against empty answers of the same size, in a closed loop: what goes through", false, (*Suite).rpc},
		{"tail", "the latest answers of a server against those of an empty echo, at half of the server's capacity", false, (*Suite).tails},
		{"server", "a whole server at half of its capacity, in an open loop, while snapshot and strategy are swapped", false, (*Suite).half},
		{"sweep", "latency over load", false, (*Suite).sweep},
		{"overload", "a server that is offered more than it can answer", false, (*Suite).overload},
		{"endurance", "a server at half of its capacity for ten minutes, with a swap each minute", true, (*Suite).endurance},
	}
}

// Measures returns the names of the layers that Run measures, or an error if one of Only is
// none.
func (s *Suite) Measures() ([]string, error) {
	layers, err := s.layers()
	var names []string
	for _, l := range layers {
		names = append(names, l.Name)
	}
	return names, err
}

// layers returns those that are to be measured.
func (s *Suite) layers() ([]Layer, error) {
	all := Layers()
	if len(s.Only) == 0 {
		return slices.DeleteFunc(all, func(l Layer) bool { return l.Asked }), nil
	}
	var out []Layer
	for _, name := range s.Only {
		i := slices.IndexFunc(all, func(l Layer) bool { return l.Name == name })
		if i < 0 {
			var names []string
			for _, l := range all {
				names = append(names, l.Name)
			}
			return nil, fmt.Errorf("bench: there is no layer %q, only %s", name, strings.Join(names, ", "))
		}
		out = append(out, all[i])
	}
	return out, nil
}

// Run measures. What was measured before an error, or before ctx ended, is returned with
// it.
func (s *Suite) Run(ctx context.Context) (records []Record, err error) {
	layers, err := s.layers()
	if err != nil {
		return nil, err
	}
	defer func() {
		if s.guests != nil && !s.lent {
			err = errors.Join(err, s.guests.Close())
			s.guests = nil
		}
	}()
	for i, l := range layers {
		if s.Progress != nil {
			s.Progress(l, i+1, len(layers))
		}
		some, err := s.profiled(ctx, l)
		records = append(records, some...)
		if err != nil {
			return records, fmt.Errorf("layer %s: %w", l.Name, err)
		}
	}
	return records, nil
}

// options are those of comparisons.
func (s *Suite) options() Options {
	if s.scale != nil {
		return Options{Rounds: fewestRounds, Slice: 50 * time.Microsecond}
	}
	if s.Quick {
		return Options{Rounds: 40, Slice: 500 * time.Microsecond}
	}
	return Options{Rounds: 200}
}

// dear are the options where an operation takes milliseconds.
func (s *Suite) dear() Options {
	if s.scale != nil {
		return Options{Rounds: fewestRounds, Slice: time.Millisecond}
	}
	if s.Quick {
		return Options{Rounds: 12, Slice: 10 * time.Millisecond}
	}
	return Options{Rounds: 60, Slice: 20 * time.Millisecond}
}

// strategies returns the guests, compiled when first used.
func (s *Suite) strategies(ctx context.Context) (*Guests, error) {
	var err error
	if s.guests == nil {
		s.guests, err = NewGuests(ctx, s.Compiler)
	}
	return s.guests, err
}

// sizes are the numbers of candidates that are measured.
func (s *Suite) sizes() []int {
	if s.Quick {
		return []int{100}
	}
	return []int{10, 100, 1000, 10_000}
}

func (s *Suite) noise(ctx context.Context) ([]Record, error) {
	g, err := s.strategies(ctx)
	if err != nil {
		return nil, err
	}
	c, err := MeasureNoise(ctx, s.options(), g.PVCL)
	if err != nil {
		return nil, err
	}
	return c.Records(NoiseLayer, nil), nil
}

func (s *Suite) rank(ctx context.Context) (records []Record, err error) {
	g, err := s.strategies(ctx)
	if err != nil {
		return nil, err
	}
	for _, guest := range g.Every() {
		for _, n := range s.sizes() {
			c, err := MeasureRank(ctx, s.options(), guest, n)
			if err != nil {
				return records, err
			}
			records = append(records, c.Records("guest", Case{}.Of("strategy", guest.Name).Of("candidates", n))...)
		}
	}
	return records, nil
}

func (s *Suite) restore(ctx context.Context) (records []Record, err error) {
	g, err := s.strategies(ctx)
	if err != nil {
		return nil, err
	}
	for _, guest := range g.All() {
		r, err := MeasureRestore(ctx, s.options(), guest, 100)
		if err != nil {
			return records, err
		}
		of := Case{}.Of("strategy", guest.Name)
		records = append(records, r.Latency.Records("restore", of.Of("calls", "spaced"))...)
		records = append(records, r.BackToBack.Records("restore", of.Of("calls", "back to back"))...)
		records = append(records, r.Throughput.Records("restore", of.Of("calls", "together"))...)
	}
	return records, nil
}

func (s *Suite) metering(ctx context.Context) (records []Record, err error) {
	g, err := s.strategies(ctx)
	if err != nil {
		return nil, err
	}
	layouts, instances := 4, 5
	if s.Quick {
		layouts, instances = 1, 1
	}
	list, err := MeasureMetering(ctx, s.options(), g, layouts, instances)
	if err != nil {
		return nil, err
	}
	kinds, medians := MeteringMedians(list)
	for i, kind := range kinds {
		var of []float64
		for _, m := range list {
			if m.Kind == kind {
				of = append(of, middle(m.Metered))
			}
		}
		_, low, high := median(of)
		records = append(records, Record{
			Layer: "metering", Case: Case{}.Of("code", kind), Name: "metered", Limit: "bare",
			Figures: []Figure{{Name: FigureRatio, Value: medians[i], Unit: UnitRatio, Low: low, High: high, Samples: len(of)}},
		})
	}
	return records, nil
}

func (s *Suite) rules(ctx context.Context) ([]Record, error) {
	r, err := MeasureRules(ctx, s.options())
	if err != nil {
		return nil, err
	}
	return r.Records("rules", nil), nil
}

func (s *Suite) decision(ctx context.Context) (records []Record, err error) {
	g, err := s.strategies(ctx)
	if err != nil {
		return nil, err
	}
	for _, guest := range g.Every() {
		for _, n := range s.sizes() {
			for _, percent := range []int{100, 10, 1} {
				if percent < 100 && (guest != g.PVCL || s.Quick) {
					continue
				}
				some, err := s.decisionOf(ctx, guest, n, percent, sceneCache)
				if err != nil {
					return records, err
				}
				records = append(records, some...)
			}
		}
	}
	some, err := s.decisionOf(ctx, g.PVCL, 100, 100, 0)
	return append(records, some...), err
}

// decisionOf measures decisions with a cache of so many profiles: with none all miss it.
func (s *Suite) decisionOf(ctx context.Context, g *Guest, candidates, percent, cache int) (_ []Record, err error) {
	d, err := decisionIn(ctx, g, candidates, percent, 0, cache)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	native, wasm := d.Subjects(ctx)
	c, err := Compare(ctx, s.options(), native, wasm)
	if err != nil {
		return nil, err
	}
	profile := "hot"
	if cache == 0 {
		profile = "miss"
	}
	in := Case{}.Of("strategy", g.Name).Of("candidates", candidates).Of("eligible", strconv.Itoa(percent)+"%").Of("profile", profile)
	return c.Records("decision", in), nil
}

// catalogue compares decisions of the same candidates by how much else a catalogue has.
func (s *Suite) catalogue(ctx context.Context) (_ []Record, err error) {
	g, err := s.strategies(ctx)
	if err != nil {
		return nil, err
	}
	const others = 10_000
	var subjects []Subject
	for _, n := range []int{0, others} {
		d, err := decisionIn(ctx, g.PVCL, 100, 100, n, sceneCache)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, d.Close()) }()
		_, wasm := d.Subjects(ctx)
		wasm.Name, wasm.Goal = fmt.Sprintf("a catalogue of %d offers", 100+n), Goal{}
		subjects = append(subjects, wasm)
	}
	c, err := Compare(ctx, s.options(), subjects[0], subjects[1])
	if err != nil {
		return nil, err
	}
	return c.Records("catalogue", Case{}.Of("strategy", g.PVCL.Name).Of("candidates", 100)), nil
}

// survivors compares decisions of 10,000 candidates by how many of them survive.
func (s *Suite) survivors(ctx context.Context) (_ []Record, err error) {
	g, err := s.strategies(ctx)
	if err != nil {
		return nil, err
	}
	const candidates = 10_000
	var subjects []Subject
	for _, percent := range []int{100, 1} {
		d, err := NewDecision(ctx, g.PVCL, candidates, percent)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, d.Close()) }()
		_, wasm := d.Subjects(ctx)
		wasm.Name, wasm.Goal = fmt.Sprintf("%d%% survive", percent), Goal{}
		subjects = append(subjects, wasm)
	}
	c, err := Compare(ctx, s.options(), subjects[0], subjects[1])
	if err != nil {
		return nil, err
	}
	return c.Records("survivors", Case{}.Of("strategy", g.PVCL.Name).Of("candidates", candidates)), nil
}

func (s *Suite) profile(ctx context.Context) (records []Record, err error) {
	p, err := MeasureProfile(ctx, s.options())
	if err != nil {
		return nil, err
	}
	for _, part := range []struct {
		name string
		c    *Comparison
	}{{"miss", p.Miss}, {"hit", p.Hit}, {"merge", p.Merge}} {
		records = append(records, part.c.Records("profile", Case{}.Of("part", part.name))...)
	}
	return records, nil
}

func (s *Suite) remembering(ctx context.Context) (records []Record, err error) {
	sizes := []int{10, 100, 1000}
	if s.Quick {
		sizes = []int{100}
	}
	for _, n := range sizes {
		r, err := MeasureRemembering(ctx, s.options(), s.Compiler, n)
		if err != nil {
			return records, err
		}
		some := r.Comparison.Records("log", Case{}.Of("candidates", n))
		with := &some[len(some)-1]
		with.Figures = append(with.Figures,
			Figure{Name: "processor-x", Value: float64(r.CPU[1]) / float64(r.CPU[0]), Unit: UnitRatio},
			Figure{Name: "record", Value: r.Raw, Unit: UnitBytes}, Figure{Name: "on-disk", Value: r.Packed, Unit: UnitBytes},
			Figure{Name: "replays", Value: r.PerSecond, Unit: UnitPerSecond})
		records = append(records, some...)
	}
	return records, nil
}

func (s *Suite) events(ctx context.Context) (records []Record, err error) {
	sizes := [][2]int{{64, 1}, {8, 100}}
	if s.Quick {
		sizes = sizes[1:]
	}
	for _, size := range sizes {
		i, err := MeasureIngestion(ctx, s.dear(), s.Compiler, size[0], size[1])
		if err != nil {
			return records, err
		}
		some := i.Comparison.Records("events", Case{}.Of("senders", size[0]).Of("each", size[1]).Of("disk", i.Disk))
		for k := range some {
			// Of an event, since a call is a batch of them; and the mean, since what goes through in
			// a second is made of the slow ones too.
			if f, ok := some[k].Figure(FigureMean); ok {
				some[k].Figures = append(some[k].Figures, Figure{Name: FigureRate, Value: 1e9 / f.Value, Unit: UnitPerSecond})
			}
		}
		records = append(records, some...)
	}
	return records, nil
}
