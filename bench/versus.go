package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
)

// Versus measures two programs in turns, so that the machine's mood meets both alike: each
// round has a run of the one and a run of the other, the order changing. arguments are those
// that have a program print its report as NDJSON. progress may be nil.
//
// The figures of the result are of the second program, each against the same of the first: a
// ratio for each round, of which it has the median and the interval that holds it with 95%
// confidence. Of a single round nothing is known but a ratio.
func Versus(ctx context.Context, one, other string, arguments []string, rounds int, progress func(round int)) ([]Record, error) {
	var reports [2][]*Report
	for round := range rounds {
		if progress != nil {
			progress(round)
		}
		for i := range 2 {
			k := (i + round) % 2
			r, err := runProgram(ctx, []string{one, other}[k], arguments)
			if err != nil {
				return nil, err
			}
			reports[k] = append(reports[k], r)
		}
	}
	first := reports[0][0]
	for _, side := range reports {
		for _, r := range side {
			if unlike := r.Environment.Unlike(&first.Environment); len(unlike) > 0 {
				return nil, fmt.Errorf("bench: the programs don't measure alike: %s", strings.Join(unlike, "; "))
			}
		}
	}
	var out []Record
	for i := range first.Records {
		of := &first.Records[i]
		rec := Record{Layer: of.Layer, Case: of.Case, Name: of.Name, Limit: "before"}
		for _, f := range of.Figures {
			if q, ok := versus(reports, of, f.Name); ok {
				rec.Figures = append(rec.Figures, q)
			}
		}
		if len(rec.Figures) > 0 {
			out = append(out, rec)
		}
	}
	if len(out) == 0 {
		return nil, errors.New("bench: the two programs measure nothing that is the same")
	}
	return out, nil
}

// versus returns the ratio of a figure over all rounds.
func versus(reports [2][]*Report, of *Record, name string) (Figure, bool) {
	var values [2][]float64
	for k, side := range reports {
		for _, r := range side {
			rec := r.find(of)
			if rec == nil {
				return Figure{}, false
			}
			f, ok := rec.Figure(name)
			if !ok || f.Value <= 0 { // a difference has no ratio
				return Figure{}, false
			}
			values[k] = append(values[k], f.Value)
		}
	}
	q := ratio(values[1], values[0])
	return Figure{Name: name, Value: q.Median, Unit: UnitRatio, Low: q.Low, High: q.High, Samples: q.Rounds}, true
}

func runProgram(ctx context.Context, program string, arguments []string) (*Report, error) {
	var out, problems bytes.Buffer
	c := exec.CommandContext(ctx, program, arguments...) //nolint:gosec // whoever measures says which
	c.Stdout, c.Stderr = &out, &problems
	if err := c.Run(); err != nil {
		return nil, fmt.Errorf("bench: %s %s: %w\n%s", program, strings.Join(arguments, " "), err, problems.Bytes())
	}
	r, err := ReadReport(&out)
	if err != nil {
		return nil, fmt.Errorf("%w: by %s", err, program)
	}
	return r, nil
}
