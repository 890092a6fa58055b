package abitest

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"rapport/server/sandbox"
)

// How many calls are measured. Those that are listened to are so few that no line is
// dropped because there are too many.
const (
	talkedCalls = 4
	timedCalls  = 51
)

// timedSizes are the numbers of candidates whose calls are timed.
var timedSizes = []int{10, 100, 1000}

// linesAfter returns how many lines were logged. Those of a call are written by who puts
// its instance back, which may be a little later: it waits if there are no more than last.
func (c *checker) linesAfter(last int64) int64 {
	for range 20 {
		if c.lines.Load() > last {
			break
		}
		<-time.After(time.Millisecond)
	}
	return c.lines.Load()
}

// measure takes the figures that other phases have not: log lines and times. It
// fits the fuel.
func (c *checker) measure(ctx context.Context) (bool, error) {
	random := c.random(forFigures)
	rows := c.world.rows(random, middle, 0.8)
	err := c.with(ctx, rows, nil, "ordinary decisions", func(s *strategy) error {
		before := c.lines.Load()
		for last := before; c.talked < talkedCalls; c.talked++ {
			if _, err := c.rank(ctx, s, c.world.frame(random, 1+random.IntN(middle), middle)); err != nil {
				return err
			}
			if err := c.settle(ctx, s, "an ordinary decision"); err != nil {
				return err
			}
			if lines := c.linesAfter(last); lines > last {
				last = lines
				c.talks++
			}
		}
		c.report.Figures.Lines = float64(c.lines.Load()-before) / float64(c.talked)
		return nil
	})
	if err != nil {
		return false, err
	}
	most := timedSizes[len(timedSizes)-1]
	err = c.with(ctx, c.world.rows(random, most, 0.8), nil, fmt.Sprintf("a scenario of %d candidates", most), func(s *strategy) error {
		for _, n := range timedSizes {
			f := c.world.frame(random, n, most)
			took := make([]float64, timedCalls)
			for i := range took {
				begin := time.Now()
				if _, err := ask(ctx, s, f); err != nil {
					return err
				}
				took[i] = float64(time.Since(begin).Nanoseconds()) / 1000
			}
			c.report.Figures.Calls += timedCalls
			slices.Sort(took)
			c.report.Figures.Times = append(c.report.Figures.Times, Time{n, took[timedCalls/2]})
		}
		return nil
	})
	c.report.Figures.Fuel = fit(c.report.Figures.Sizes)
	c.report.Figures.Declare = declare(c.report.Figures.Fuel, c.most)
	return true, err
}

// fit returns the line through the fuel of all sizes: that with the least squares
// of the relative errors, so that small calls count as much as large ones.
func fit(sizes []Size) Line {
	var w, x, y, xx, xy float64
	for _, s := range sizes {
		if s.Fuel <= 0 {
			continue
		}
		n, fuel := float64(s.Candidates), float64(s.Fuel)
		k := 1 / (fuel * fuel)
		w, x, y, xx, xy = w+k, x+k*n, y+k*fuel, xx+k*n*n, xy+k*n*fuel
	}
	d := w*xx - x*x
	if w == 0 || d <= 0 {
		return Line{Base: y / max(w, math.SmallestNonzeroFloat64)}
	}
	slope := (w*xy - x*y) / d
	return Line{Base: (y - slope*x) / w, PerCandidate: slope}
}

// declare returns round figures that are half as much again as a line, and as all
// that calls of each number of candidates took.
func declare(l Line, most map[int]int64) sandbox.Fuel {
	const more = 1.5
	per, base := max(0, l.PerCandidate), max(0, l.Base)
	for n, fuel := range most { // what grows faster than a line takes the most for the largest
		if n >= middle {
			per = max(per, (float64(fuel)-base)/float64(n))
		}
	}
	per = roundUp(more * per)
	base *= more
	for n, fuel := range most {
		base = max(base, more*float64(fuel)-per*float64(n))
	}
	return sandbox.Fuel{Base: int64(roundUp(max(base, 1))), PerCandidate: int64(per)}
}

// roundUp returns the next number with two digits.
func roundUp(x float64) float64 {
	if x <= 0 {
		return 0
	}
	unit := max(1, math.Pow(10, math.Floor(math.Log10(x))-1))
	return math.Ceil(x/unit) * unit
}
