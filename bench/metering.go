package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"

	"rapport/server/sandbox/probe"
)

// Metering is what metering costs a program, as ratios against the same program
// bare. Each is measured several times, because other things than metering make as
// much difference: where a loop lies on cache lines, so a program is measured in
// every layout of its code; and where an instance's memory lies, so a strategy is
// measured in several instances of each kind.
type Metering struct {
	Program     string
	Kind        probe.Kind
	Metered     []float64 // by layout or instance, ascending
	Exact       []float64
	CloseOnDone []float64
	UnitNanos   float64 // of one unit of fuel, metered, in the layout measured last
}

// Strategies is the kind of code that strategies are, beside the kinds of package
// probe.
const Strategies probe.Kind = "strategies"

// MeteringGoal is what metering may cost, as the median of the programs of a kind.
const MeteringGoal = 1.10

// meteringModes are the modes that are compared, the limit first.
var meteringModes = []probe.Mode{probe.Bare, probe.Metered, probe.Exact, probe.CloseOnDone}

// MeasureMetering measures every program of package probe, and the call of each
// guest for 10, 100 and 1,000 candidates. Only as many layouts, and instances, as
// are asked for are measured: at most probe.Layouts of the former.
func MeasureMetering(ctx context.Context, o Options, g *Guests, layouts, instances int) ([]Metering, error) {
	var out []Metering
	for _, program := range probe.Programs() {
		m := Metering{Program: program.Name, Kind: program.Kind}
		for layout := range min(layouts, probe.Layouts) {
			if err := m.measureProgram(ctx, o, program, layout); err != nil {
				return nil, err
			}
		}
		out = append(out, m)
	}
	for _, guest := range g.All() {
		for _, candidates := range []int{10, 100, 1000} {
			m := Metering{Program: fmt.Sprintf("%s %d", guest.Name, candidates), Kind: Strategies}
			for range instances {
				if err := m.measureGuest(ctx, o, guest, candidates); err != nil {
					return nil, err
				}
			}
			out = append(out, m)
		}
	}
	for _, m := range out {
		for _, r := range [][]float64{m.Metered, m.Exact, m.CloseOnDone} {
			slices.Sort(r)
		}
	}
	return out, nil
}

func (m *Metering) measureProgram(ctx context.Context, o Options, program probe.Program, layout int) (err error) {
	var probes []*probe.Probe
	defer func() { err = errors.Join(err, closeProbes(probes)) }()
	for _, mode := range meteringModes {
		p, err := probe.NewProgram(ctx, layout, mode)
		if err != nil {
			return err
		}
		probes = append(probes, p)
	}
	return m.measure(ctx, o, probes, func(p *probe.Probe) func() error {
		f := p.Function(program.Name)
		return func() error {
			_, err := p.Call(ctx, f, program.Argument)
			return err
		}
	})
}

func (m *Metering) measureGuest(ctx context.Context, o Options, g *Guest, candidates int) (err error) {
	var probes []*probe.Probe
	defer func() { err = errors.Join(err, closeProbes(probes)) }()
	for _, mode := range meteringModes {
		one, err := g.probes(ctx, mode, 1, candidates)
		if err != nil {
			return err
		}
		probes = append(probes, one...)
	}
	return m.measure(ctx, o, probes, func(p *probe.Probe) func() error {
		return func() error { return p.Rank(ctx) }
	})
}

// measure adds a measurement of probes, one for each mode.
func (m *Metering) measure(ctx context.Context, o Options, probes []*probe.Probe, run func(*probe.Probe) func() error) error {
	var subjects []Subject
	for i, p := range probes {
		subjects = append(subjects, Subject{Name: meteringModes[i].String(), Run: run(p)})
	}
	c, err := Compare(ctx, o, subjects[0], subjects[1:]...)
	if err != nil {
		return fmt.Errorf("%s: %w", m.Program, err)
	}
	before := probes[1].Fuel()
	if err := subjects[1].Run(); err != nil {
		return err
	}
	m.Metered = append(m.Metered, c.Ratios[0].Median)
	m.Exact = append(m.Exact, c.Ratios[1].Median)
	m.CloseOnDone = append(m.CloseOnDone, c.Ratios[2].Median)
	m.UnitNanos = float64(c.Subjects[0].P50) / float64(probes[1].Fuel()-before)
	return nil
}

// MeteringMedians returns, for each kind of code, the median over its programs of
// what metering costs, in the order of their first appearance.
func MeteringMedians(list []Metering) (kinds []probe.Kind, medians []float64) {
	for _, m := range list {
		if !slices.Contains(kinds, m.Kind) {
			kinds = append(kinds, m.Kind)
		}
	}
	for _, kind := range kinds {
		var of []float64
		for _, m := range list {
			if m.Kind == kind {
				of = append(of, middle(m.Metered))
			}
		}
		slices.Sort(of)
		medians = append(medians, middle(of))
	}
	return kinds, medians
}

// WriteMetering prints measurements as a table for people: of each program the
// median of its layouts or instances, and their spread.
func WriteMetering(w io.Writer, list []Metering) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	var errs []error
	line := func(format string, args ...any) {
		_, err := fmt.Fprintf(t, format, args...)
		errs = append(errs, err)
	}
	line("kind\tprogram\tmetered × bare\tspread\tevery block\tclose-on-done\tspread\tns a unit\t\n")
	for _, m := range list {
		n := len(m.Metered) - 1
		line("%s\t%s\t%.2f\t%.2f–%.2f\t%.2f\t%.1f\t%.1f–%.1f\t%.3f\t\n", m.Kind, m.Program, middle(m.Metered), m.Metered[0], m.Metered[n],
			middle(m.Exact), middle(m.CloseOnDone), m.CloseOnDone[0], m.CloseOnDone[n], m.UnitNanos)
	}
	kinds, medians := MeteringMedians(list)
	for i, kind := range kinds {
		line("%s\tmedian\t%.3f\t≤ %.2f %s\t\t\t\t\t\n", kind, medians[i], MeteringGoal, verdict(medians[i] <= MeteringGoal))
	}
	return errors.Join(append(errs, t.Flush())...)
}

// middle returns the median of sorted numbers.
func middle(sorted []float64) float64 {
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}
