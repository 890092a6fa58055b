package bench

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"slices"
	"strconv"
)

//go:embed page.html
var pageText string

var page = template.Must(template.New("page").Funcs(template.FuncMap{
	"figure": func(f Figure) string { return f.String() },
	"says":   layerSays,
	"of":     func(j Judgement) string { return j.String() },
	"kind":   kind,
}).Parse(pageText))

// pageLayer is a layer as the page has it: its columns, and a row for each record.
type pageLayer struct {
	Name    string
	Columns []string
	Rows    []pageRow
}

type pageRow struct {
	Case, Name string
	Limit      bool
	Cells      []string
}

// WritePage writes the report as a page that needs nothing else.
func (r *Report) WritePage(w io.Writer) error {
	var layers []pageLayer
	for i := 0; i < len(r.Records); {
		n := i
		for n < len(r.Records) && r.Records[n].Layer == r.Records[i].Layer {
			n++
		}
		layers = append(layers, newPageLayer(r.Records[i:n]))
		i = n
	}
	var charts []*chart
	for _, c := range []*chart{r.percentiles("server"), r.percentiles("tail"), r.sweep(), r.candidates(), r.population()} {
		if c.drawn() {
			charts = append(charts, c)
		}
	}
	return page.Execute(w, struct {
		*Report
		Charts []*chart
		Layers []pageLayer
	}{r, charts, layers})
}

func newPageLayer(records []Record) pageLayer {
	l := pageLayer{Name: records[0].Layer, Columns: columns(records)}
	for i := range records {
		rec := &records[i]
		row := pageRow{Case: rec.Case.String(), Name: rec.Name, Limit: isLimit(records, rec)}
		for _, c := range l.Columns {
			cell := ""
			if f, ok := rec.Figure(c); ok {
				cell = f.String()
			}
			row.Cells = append(row.Cells, cell)
		}
		l.Rows = append(l.Rows, row)
	}
	return l
}

// columns returns the names of all figures, in the order of their first appearance.
func columns(records []Record) (out []string) {
	for i := range records {
		for _, f := range records[i].Figures {
			if !slices.Contains(out, f.Name) {
				out = append(out, f.Name)
			}
		}
	}
	return out
}

// percentiles draws latencies by how many of a thousand are slower: the curve of a
// histogram.
func (r *Report) percentiles(layer string) *chart {
	c := &chart{
		Title: "Latency by percentile, layer " + layer, Note: "From when a request was due until it was answered, in an open loop.",
		x: axis{label: "percentile", format: func(v float64) string { return strconv.FormatFloat(100-100/v, 'g', 6, 64) }, ticks: []float64{2, 10, 100, 1000, 10_000}},
		y: axis{format: formatNanos},
	}
	for i := range r.Records {
		rec := &r.Records[i]
		if rec.Layer != layer {
			continue
		}
		h, err := rec.histogram()
		if err != nil || h == nil || h.TotalCount() == 0 {
			continue
		}
		s := series{name: rec.Name, limit: rec.Limit == "" && layer == "tail"}
		for x := 1.0; x <= min(10_000, float64(h.TotalCount())); x *= 1.1 {
			s.points = append(s.points, [2]float64{x, float64(h.ValueAtQuantile(100 - 100/x))})
		}
		c.series = append(c.series, s)
	}
	return c
}

// sweep draws latencies over what is offered.
func (r *Report) sweep() *chart {
	c := &chart{
		Title: "Latency over load", Note: "Decisions among events and outcomes, in an open loop.",
		x: axis{label: "offered, requests a second", format: formatCount}, y: axis{format: formatNanos},
	}
	for _, name := range []string{FigureP50, FigureP99, FigureP999} {
		s := series{name: name}
		for i := range r.Records {
			rec := &r.Records[i]
			x, ok := rec.Figure("offered")
			y, ok2 := rec.Figure(name)
			if rec.Layer == "sweep" && ok && ok2 {
				s.points = append(s.points, [2]float64{x.Value, y.Value})
			}
		}
		c.series = append(c.series, s)
	}
	return c
}

// candidates draws a decision's time over its candidates.
func (r *Report) candidates() *chart {
	c := &chart{
		Title: "A decision in process by its candidates", Note: "p50, with a hot profile.",
		x: axis{label: "candidates", format: formatCount}, y: axis{format: formatNanos},
	}
	for i := range r.Records {
		rec := &r.Records[i]
		n, err := strconv.ParseFloat(rec.Case.Get("candidates"), 64)
		y, ok := rec.Figure(FigureP50)
		if rec.Layer != "decision" || rec.Case.Get("profile") == "miss" || err != nil || !ok || rec.Limit == "" && rec.Case.Get("strategy") != "pvcl" {
			continue
		}
		name := fmt.Sprintf("%s, %s eligible", rec.Case.Get("strategy"), rec.Case.Get("eligible"))
		if rec.Limit == "" {
			if rec.Case.Get("eligible") != "100%" {
				continue
			}
			name = rec.Case.Get("strategy") + " native in Go"
		}
		c.point(name, rec.Limit == "", n, y.Value)
	}
	return c
}

// population draws what a profile costs by the number of customers.
func (r *Report) population() *chart {
	c := &chart{
		Title: "Reading a profile by the number of customers", Note: "p50.",
		x: axis{label: "customers", format: formatCount}, y: axis{format: formatNanos},
	}
	for i := range r.Records {
		rec := &r.Records[i]
		n, err := strconv.ParseFloat(rec.Case.Get("customers"), 64)
		y, ok := rec.Figure(FigureP50)
		if rec.Layer == "population" && err == nil && ok {
			c.point(rec.Name, rec.Limit == "", n, y.Value)
		}
	}
	return c
}

// point appends a point to the line of a name.
func (c *chart) point(name string, limit bool, x, y float64) {
	i := slices.IndexFunc(c.series, func(s series) bool { return s.name == name })
	if i < 0 {
		i = len(c.series)
		c.series = append(c.series, series{name: name, limit: limit})
	}
	c.series[i].points = append(c.series[i].points, [2]float64{x, y})
}
