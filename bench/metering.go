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
// bare: in every layout of the code, as where a loop lies on cache lines makes as
// much difference as metering does.
type Metering struct {
	Program     string
	Metered     []float64 // by layout, ascending
	Exact       []float64
	CloseOnDone []float64
	UnitNanos   float64 // of one unit of fuel, metered, in the layout in the middle
}

// MeasureMetering measures every program of package probe. Only as many layouts
// as are asked for are measured, at most probe.Layouts.
func MeasureMetering(ctx context.Context, o Options, layouts int) ([]Metering, error) {
	out := make([]Metering, len(probe.Programs()))
	for layout := range min(layouts, probe.Layouts) {
		if err := measureLayout(ctx, o, layout, out); err != nil {
			return nil, err
		}
	}
	for i := range out {
		for _, r := range [][]float64{out[i].Metered, out[i].Exact, out[i].CloseOnDone} {
			slices.Sort(r)
		}
	}
	return out, nil
}

func measureLayout(ctx context.Context, o Options, layout int, out []Metering) (err error) {
	modes := []probe.Mode{probe.Bare, probe.Metered, probe.Exact, probe.CloseOnDone}
	probes := make([]*probe.Probe, len(modes))
	defer func() {
		for _, p := range probes {
			if p != nil {
				err = errors.Join(err, p.Close(ctx))
			}
		}
	}()
	for i, mode := range modes {
		if probes[i], err = probe.NewProgram(ctx, layout, mode); err != nil {
			return err
		}
	}
	for i, program := range probe.Programs() {
		var subjects []Subject
		for k, p := range probes {
			f := p.Function(program.Name)
			subjects = append(subjects, Subject{Name: modes[k].String(), Run: func() error {
				_, err := p.Call(ctx, f, program.Argument)
				return err
			}})
		}
		c, err := Compare(ctx, o, subjects[0], subjects[1:]...)
		if err != nil {
			return fmt.Errorf("%s: %w", program.Name, err)
		}
		before := probes[1].Fuel()
		if _, err := probes[1].Call(ctx, probes[1].Function(program.Name), program.Argument); err != nil {
			return err
		}
		m := &out[i]
		m.Program = program.Name
		m.Metered = append(m.Metered, c.Ratios[0].Median)
		m.Exact = append(m.Exact, c.Ratios[1].Median)
		m.CloseOnDone = append(m.CloseOnDone, c.Ratios[2].Median)
		m.UnitNanos = float64(c.Subjects[0].P50) / float64(probes[1].Fuel()-before)
	}
	return nil
}

// WriteMetering prints measurements as a table for people.
func WriteMetering(w io.Writer, list []Metering) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, err := fmt.Fprintln(t, "program\tmetered × bare\tlayouts\tevery block\tclose-on-done\tns a unit\t")
	for _, m := range list {
		_, e := fmt.Fprintf(t, "%s\t%.2f\t%.2f–%.2f\t%.2f\t%.1f\t%.3f\t\n", m.Program, middle(m.Metered), m.Metered[0], m.Metered[len(m.Metered)-1], middle(m.Exact), middle(m.CloseOnDone), m.UnitNanos)
		err = errors.Join(err, e)
	}
	return errors.Join(err, t.Flush())
}

// middle returns the median of sorted numbers.
func middle(sorted []float64) float64 {
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}
