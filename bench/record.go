package bench

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// Record is what was measured of one thing: figures with names, of a layer in one of
// its cases. It is what reports are written from and budgets judged by, and a line of
// NDJSON.
type Record struct {
	Layer string `json:"layer"` // such as "decision"
	Case  Case   `json:"case,omitempty"`
	Name  string `json:"name"`            // what was measured
	Limit string `json:"limit,omitempty"` // what it was measured against, empty for the limit itself
	// Figures come in an order for people.
	Figures []Figure `json:"figures"`
	// Errors are of requests that failed, the first few different ones.
	Errors []string `json:"errors,omitempty"`
	// HDR is the histogram of latencies in nanoseconds, where there is one: HdrHistogram's
	// compressed form V2, in base64.
	HDR string `json:"hdr,omitempty"`
}

// Figure is one number of a record.
type Figure struct {
	Name  string  `json:"name"` // one of the constants, or a layer's own
	Value float64 `json:"value"`
	Unit  string  `json:"unit,omitempty"` // as benchstat has them: ns, B, x; none for a count
	// Low and High bound the value with 95% confidence; both zero where that is not known.
	Low  float64 `json:"low,omitempty"`
	High float64 `json:"high,omitempty"`
	// Samples is how many values the figure was made from, where there were several rounds.
	Samples int `json:"samples,omitempty"`
}

// Names of figures.
const (
	FigureRatio  = "x-limit" // time over that of the limit, or what goes through it as a share of what does there
	FigureOver   = "over"    // time less that of the limit
	FigureP50    = "p50"
	FigureP90    = "p90"
	FigureP99    = "p99"
	FigureP999   = "p99.9"
	FigureP9999  = "p99.99"
	FigureMost   = "most"
	FigureMean   = "mean"
	FigureAllocs = "allocs"
	FigureBytes  = "bytes"
	FigureRate   = "rate" // a second
)

// Units of figures.
const (
	UnitNanos     = "ns"
	UnitBytes     = "B"
	UnitRatio     = "x"
	UnitPerSecond = "/s"
)

// Case tells records of a layer apart: names and values of dimensions, in the layer's
// order.
type Case []Dimension

// Dimension is one of a case.
type Dimension struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Of returns the case with one more dimension.
func (c Case) Of(name string, value any) Case {
	return append(slices.Clip(c), Dimension{name, fmt.Sprint(value)})
}

// Get returns the value of a dimension, empty if the case has none of the name.
func (c Case) Get(name string) string {
	for _, d := range c {
		if d.Name == name {
			return d.Value
		}
	}
	return ""
}

// String returns the case as benchmarks have it: a=1/b=2.
func (c Case) String() string {
	var parts []string
	for _, d := range c {
		parts = append(parts, d.Name+"="+d.Value)
	}
	return strings.Join(parts, "/")
}

// Figure returns a figure by its name.
func (r *Record) Figure(name string) (Figure, bool) {
	i := slices.IndexFunc(r.Figures, func(f Figure) bool { return f.Name == name })
	if i < 0 {
		return Figure{}, false
	}
	return r.Figures[i], true
}

// known reports whether it is known how exact the figure is.
func (f *Figure) known() bool { return f.Low != 0 || f.High != 0 }

// Records returns a comparison as records: the limit, and each subject.
func (c *Comparison) Records(layer string, in Case) []Record {
	out := []Record{{Layer: layer, Case: in, Name: c.Limit.Name, Figures: c.Limit.records()}}
	for i := range c.Subjects {
		q := c.Ratios[i]
		r := Record{Layer: layer, Case: in, Name: c.Subjects[i].Name, Limit: c.Limit.Name, Figures: []Figure{
			{Name: FigureRatio, Value: q.Median, Unit: UnitRatio, Low: q.Low, High: q.High, Samples: q.Rounds},
			{Name: FigureOver, Value: float64(c.Over[i]), Unit: UnitNanos},
		}}
		r.Figures = append(r.Figures, c.Subjects[i].records()...)
		out = append(out, r)
	}
	return out
}

func (f *Figures) records() []Figure {
	return []Figure{
		{Name: FigureP50, Value: float64(f.P50), Unit: UnitNanos},
		{Name: FigureMean, Value: float64(f.Mean), Unit: UnitNanos},
		{Name: FigureP99, Value: float64(f.P99), Unit: UnitNanos},
		{Name: FigureAllocs, Value: f.Allocs},
		{Name: FigureBytes, Value: f.Bytes, Unit: UnitBytes},
	}
}

// fewestRounds is how many values it takes to know anything of their median: of five the
// least and the most hold it with no more than 94%.
const fewestRounds = 6

// median returns the median of values with the interval that order statistics give
// it: the ranks n/2 ± 0.98·√n hold the median with 95% confidence, whatever the
// distribution. With fewer than fewestRounds values there is none, and low and high are 0.
func median(values []float64) (value, low, high float64) {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	if n == 0 {
		return math.NaN(), math.NaN(), math.NaN()
	}
	if n < fewestRounds {
		return sorted[n/2], 0, 0
	}
	half := int(math.Ceil(0.98 * math.Sqrt(float64(n))))
	return sorted[n/2], sorted[max(0, n/2-half)], sorted[min(n-1, n/2+half)]
}
