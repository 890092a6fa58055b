package bench

import (
	"fmt"
	"html/template"
	"math"
	"strings"
)

// chart is lines over two axes, as SVG.
type chart struct {
	Title  string
	Note   string
	x, y   axis
	series []series
}

// axis is one of a chart's. Its scale is logarithmic.
type axis struct {
	label  string
	format func(float64) string
	ticks  []float64 // for none: powers of ten, and 2 and 5 times those where there is room
}

type series struct {
	name   string
	points [][2]float64
	limit  bool // drawn as what others are held against
}

// What a chart has of room, in pixels.
const (
	chartWidth, chartHeight   = 720, 340
	chartLeft, chartRight     = 70, 150 // for the names of lines
	chartTop, chartBottom     = 12, 46
	chartLabel                = 15 // between the names of two lines
	plotWidth, plotHeight     = chartWidth - chartLeft - chartRight, chartHeight - chartTop - chartBottom
	smallestPlotted           = 1e-12
	minimalSpan               = 1.5 // of an axis: from least to most
	ticksBeforeTwoFiveAreLeft = 5
)

// colours are of lines, in their order. They differ for those who see no red or green too.
var colours = []string{"#1f5fa8", "#c2571a", "#17806d", "#7a4fa3", "#a3324a", "#5b6670"}

// drawn reports whether there is anything to draw: a line.
func (c *chart) drawn() bool {
	for _, s := range c.series {
		if len(s.points) > 1 {
			return true
		}
	}
	return false
}

// bounds returns the least and most of the points, for one axis.
func (c *chart) bounds(axis int) (least, most float64) {
	least, most = math.Inf(1), 0
	for _, s := range c.series {
		for _, p := range s.points {
			v := max(p[axis], smallestPlotted)
			least, most = min(least, v), max(most, v)
		}
	}
	if most < minimalSpan*least {
		most = minimalSpan * least
	}
	return least, most
}

// ticks returns where an axis is marked.
func (a *axis) marks(least, most float64) (out []float64) {
	if len(a.ticks) > 0 {
		return a.ticks
	}
	steps := []float64{1, 2, 5}
	if math.Log10(most/least) > ticksBeforeTwoFiveAreLeft {
		steps = steps[:1]
	}
	for e := math.Floor(math.Log10(least)); e <= math.Ceil(math.Log10(most)); e++ {
		for _, s := range steps {
			if v := s * math.Pow(10, e); v >= least*0.999 && v <= most*1.001 {
				out = append(out, v)
			}
		}
	}
	return out
}

// SVG draws the chart.
func (c *chart) SVG() template.HTML {
	var b strings.Builder
	x0, x1 := c.bounds(0)
	y0, y1 := c.bounds(1)
	place := func(v, least, most, room float64) float64 {
		return room * math.Log(max(v, smallestPlotted)/least) / math.Log(most/least)
	}
	atX := func(v float64) float64 { return chartLeft + place(v, x0, x1, plotWidth) }
	atY := func(v float64) float64 { return chartTop + plotHeight - place(v, y0, y1, plotHeight) }
	fmt.Fprintf(&b, `<svg viewBox="0 0 %d %d" role="img" aria-label="%s">`, chartWidth, chartHeight, template.HTMLEscapeString(c.Title))
	for _, v := range c.y.marks(y0, y1) {
		fmt.Fprintf(&b, `<path class="grid" d="M%d %.1fh%d"/><text class="y" x="%d" y="%.1f">%s</text>`, chartLeft, atY(v), plotWidth, chartLeft-8, atY(v)+4, template.HTMLEscapeString(c.y.format(v)))
	}
	for _, v := range c.x.marks(x0, x1) {
		fmt.Fprintf(&b, `<path class="grid" d="M%.1f %dv%d"/><text class="x" x="%.1f" y="%d">%s</text>`, atX(v), chartTop, plotHeight, atX(v), chartTop+plotHeight+17, template.HTMLEscapeString(c.x.format(v)))
	}
	fmt.Fprintf(&b, `<text class="x label" x="%d" y="%d">%s</text>`, chartLeft+plotWidth/2, chartHeight-8, template.HTMLEscapeString(c.x.label))
	b.WriteString(c.lines(atX, atY))
	b.WriteString("</svg>")
	return template.HTML(b.String()) //nolint:gosec // every text in it is escaped above
}

// lines draws the lines, each with its name at its end; the names keep apart.
func (c *chart) lines(atX, atY func(float64) float64) string {
	var b strings.Builder
	last := math.Inf(-1)
	for i, s := range c.byEnd() {
		colour, dash := colours[i%len(colours)], ""
		if s.limit {
			colour, dash = "#8a949d", ` stroke-dasharray="5 4"`
		}
		var points []string
		for _, p := range s.points {
			points = append(points, fmt.Sprintf("%.1f,%.1f", atX(p[0]), atY(p[1])))
		}
		fmt.Fprintf(&b, `<polyline points="%s" stroke="%s"%s/>`, strings.Join(points, " "), colour, dash)
		if len(points) < 20 {
			for _, p := range s.points {
				fmt.Fprintf(&b, `<circle cx="%.1f" cy="%.1f" r="3" fill="%s"><title>%s: %s, %s</title></circle>`, atX(p[0]), atY(p[1]), colour,
					template.HTMLEscapeString(s.name), template.HTMLEscapeString(c.x.format(p[0])), template.HTMLEscapeString(c.y.format(p[1])))
			}
		}
		end := s.points[len(s.points)-1]
		y := max(atY(end[1])+4, last+chartLabel)
		last = y
		fmt.Fprintf(&b, `<text class="name" x="%d" y="%.1f" fill="%s">%s</text>`, chartLeft+plotWidth+8, y, colour, template.HTMLEscapeString(s.name))
	}
	return b.String()
}

// byEnd returns the lines that can be drawn, the one that ends highest first.
func (c *chart) byEnd() []series {
	var out []series
	for _, s := range c.series {
		if len(s.points) == 0 {
			continue
		}
		i := 0
		for i < len(out) && out[i].points[len(out[i].points)-1][1] >= s.points[len(s.points)-1][1] {
			i++
		}
		out = append(out[:i], append([]series{s}, out[i:]...)...)
	}
	return out
}
