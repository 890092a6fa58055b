package bench

import (
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
)

// WriteChanges prints, for figures that two reports share, how they changed.
func WriteChanges(w io.Writer, before, after *Report) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, err := fmt.Fprintln(t, "LAYER\tCASE\tOF\tFIGURE\tBEFORE\tAFTER\tCHANGE")
	errs := []error{err}
	for i := range after.Records {
		b := &after.Records[i]
		a := before.find(b)
		if a == nil {
			continue
		}
		for _, f := range b.Figures {
			old, ok := a.Figure(f.Name)
			if !ok || old.Value == f.Value {
				continue
			}
			_, err := fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", b.Layer, b.Case, b.Name, f.Name, old.String(), f.String(), change(old, f))
			errs = append(errs, err)
		}
	}
	return errors.Join(append(errs, t.Flush())...)
}

// find returns the record of the same thing.
func (r *Report) find(like *Record) *Record {
	for i := range r.Records {
		if c := &r.Records[i]; c.Layer == like.Layer && c.Name == like.Name && c.Case.String() == like.Case.String() {
			return c
		}
	}
	return nil
}

// change says by how much a figure changed, or that nobody can say: its intervals meet.
func change(before, after Figure) string {
	if before.known() && after.known() && before.Low <= after.High && after.Low <= before.High {
		return "none that can be told"
	}
	if before.Value == 0 {
		return ""
	}
	return fmt.Sprintf("%+.1f%%", 100*(after.Value/before.Value-1))
}
