package profilestore

import (
	"cmp"
	"math"
	"math/bits"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/cespare/xxhash/v2"
)

// maxSample is about how many rows quantiles are computed from at most, half of it the
// least. The rank of a quantile is then within 1.3% nine times out of ten, whatever the
// number of rows, and 300 numbers take at most 20 MB. Sorting the samples is most of
// what the statistics cost a small load.
const maxSample = 1 << 13

// statsBuilder computes the distributions of a load's fields while its rows are
// encoded, when each value is in a register anyway: see BenchmarkLoadStats for what
// that costs. What is exact costs an addition or two a value: extremes, sums, and
// the counts of texts that have a dictionary. The rest looks at a sample of the
// rows, chosen by a hash of the customer, so that the same customers are in the
// sample of every snapshot. (A reservoir costs a random number a value; sketches of
// quantiles cost some ten times an addition.)
type statsBuilder struct {
	rows    *loadRows
	shift   int // a row is in the sample where so many highest bits of its hash are 0
	inRow   bool
	sampled int64
	seen    int64
	flags   []int64       // how often each is true
	scaled  []scaledStats // by column that is no flag, in schema order
	columns []columnStats // likewise
}

// scaledStats are those of a column's scaled values or times: apart from the rest,
// because for 300 columns the rest is more than a processor's nearest cache holds.
type scaledStats struct {
	min, max int64
	part     int64 // the sum since the last flush
}

// columnStats is what is known of a column so far.
type columnStats struct {
	form     rowForm
	sum      float64 // of floats, and of scaled values before the last flush
	least    float64 // of floats
	greatest float64

	counts []int64   // by code of the dictionary
	sample []int64   // scaled values, or the bits of floats
	values []float64 // of the sample: the sums of hops, or the sizes of sets, without dictionary
	texts  *textSketch
	kind   textForm
	places int // decimals of hops
}

// flushRows is how many rows a sum of scaled values, each at most 2⁵³, may have
// before it could overflow.
const flushRows = 512

func newStatsBuilder(l *rowLayout, r *loadRows) *statsBuilder {
	s := &statsBuilder{rows: r, flags: make([]int64, r.flags)}
	for n := r.count; n > maxSample; n /= 2 {
		s.shift++
	}
	for i := range r.columns {
		p := &l.places[i]
		if p.form == rowFlag {
			continue
		}
		c := columnStats{
			form: p.form, kind: r.plan[i].texts, places: int(r.plan[i].decimals),
			least: math.Inf(1), greatest: math.Inf(-1),
		}
		switch p.form {
		case rowCode:
			c.counts = make([]int64, len(p.dictionary))
		case rowText:
			c.texts = newTextSketch()
		case rowFlag, rowScaled, rowFloat, rowTime:
		}
		s.columns = append(s.columns, c)
		s.scaled = append(s.scaled, scaledStats{min: math.MaxInt64, max: math.MinInt64})
	}
	return s
}

// begin begins a row. packed are its flags' presence bits and flags.
func (s *statsBuilder) begin(key, packed []byte) {
	if s.seen++; s.seen%flushRows == 0 {
		s.flush()
	}
	s.inRow = xxhash.Sum64(key)>>(64-s.shift) == 0
	if s.inRow {
		s.sampled++
	}
	n := len(packed) / 2
	for i := range n {
		for b := packed[i] & packed[n+i]; b != 0; b &= b - 1 {
			s.flags[8*i+bits.TrailingZeros8(b)]++
		}
	}
}

func (s *statsBuilder) flush() {
	for i := range s.columns {
		s.columns[i].sum += float64(s.scaled[i].part)
		s.scaled[i].part = 0
	}
}

// add notes a scaled value.
func (s *scaledStats) add(n int64) {
	s.min, s.max = min(s.min, n), max(s.max, n)
	s.part += n
}

// wide notes a float or time.
func (s *statsBuilder) wide(place int, n int64) {
	c := &s.columns[place]
	if c.form == rowTime {
		t := &s.scaled[place]
		t.min, t.max = min(t.min, n), max(t.max, n)
		return
	}
	f := math.Float64frombits(uint64(n))
	c.least, c.greatest = min(c.least, f), max(c.greatest, f)
	c.sum += f
}

// text notes a text of a column without dictionary.
func (c *columnStats) text(text string, sampled bool) {
	if c.kind == plainText {
		hash := xxhash.Sum64String(text)
		c.texts.note(hash)
		if sampled {
			c.texts.count(hash, text)
		}
		return
	}
	if !sampled {
		return
	}
	c.values = append(c.values, c.valueOf(text))
	if c.kind == setText {
		for e := range setOf(text).Elements() {
			c.texts.count(xxhash.Sum64String(e), e)
		}
	}
}

// valueOf returns the number that a set or hops are described by.
func (c *columnStats) valueOf(text string) float64 {
	if c.kind == setText {
		return float64(setOf(text).Size())
	}
	return unscale(sumHops(text, 0, 1, math.MinInt64, math.MaxInt64), c.places)
}

// textSketch counts texts in bounded room: how many different ones there are by a
// HyperLogLog (Flajolet et al., 2007), and how often each is in the sample. The text
// itself is kept from the MinCrowd-th time on only.
type textSketch struct {
	registers [sketchRegisters]uint8
	counts    map[uint64]int64 // by hash
	kept      map[uint64]string
}

const sketchRegisters = 1 << 12 // a standard error of 1.6%

func newTextSketch() *textSketch {
	return &textSketch{counts: make(map[uint64]int64), kept: make(map[uint64]string)}
}

func (t *textSketch) note(hash uint64) {
	rank := uint8(bits.LeadingZeros64(hash<<12|1<<11) + 1)
	if r := &t.registers[hash>>52]; rank > *r {
		*r = rank
	}
}

func (t *textSketch) count(hash uint64, text string) {
	n := t.counts[hash] + 1
	if t.counts[hash] = n; n == MinCrowd {
		t.kept[hash] = strings.Clone(text)
	}
}

// estimate returns about how many different texts were noted.
func (t *textSketch) estimate() int64 {
	const m = float64(sketchRegisters)
	sum, empty := 0.0, 0
	for _, r := range t.registers {
		sum += math.Ldexp(1, -int(r))
		if r == 0 {
			empty++
		}
	}
	e := 0.7213 / (1 + 1.079/m) * m * m / sum
	if e <= 2.5*m && empty > 0 {
		e = m * math.Log(m/float64(empty)) // linear counting
	}
	return int64(math.Round(e))
}

// top returns the most frequent texts, of which one in the sample stands for factor.
func (t *textSketch) top(factor float64) []TextCount {
	var top []TextCount
	for hash, text := range t.kept {
		top = append(top, TextCount{text, int64(math.Round(float64(t.counts[hash]) * factor))})
	}
	return topTexts(top)
}

// topTexts returns the most frequent of texts that enough customers have.
func topTexts(all []TextCount) []TextCount {
	all = slices.DeleteFunc(all, func(t TextCount) bool { return t.Count < MinCrowd })
	slices.SortFunc(all, func(a, b TextCount) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), strings.Compare(a.Text, b.Text))
	})
	all = slices.Clone(all[:min(len(all), maxTop)])
	for i, t := range all {
		if len(t.Text) > maxTopBytes {
			all[i].Text = strings.ToValidUTF8(t.Text[:maxTopBytes], "") + "…"
		}
	}
	return all
}

// finish returns the distributions.
func (s *statsBuilder) finish(l *rowLayout) *SnapshotStats {
	s.flush()
	out := &SnapshotStats{Rows: s.seen, Sampled: s.sampled, Fields: make(map[string]FieldStats, len(l.Columns))}
	factor := float64(s.seen) / float64(max(1, s.sampled))
	fields := make([]FieldStats, len(l.Columns))
	var describing sync.WaitGroup
	free := make(chan struct{}, runtime.GOMAXPROCS(0))
	flag, other := 0, 0
	for i := range l.Columns {
		f := &fields[i]
		f.Values = s.rows.stats[i].present
		if l.places[i].form == rowFlag {
			f.True = s.flags[flag]
			flag++
			continue
		}
		c, n := &s.columns[other], s.scaled[other]
		if other++; f.Values == 0 {
			continue
		}
		free <- struct{}{}
		describing.Go(func() {
			c.describe(f, n, &l.places[i], factor)
			<-free
		})
	}
	describing.Wait()
	for i := range l.Columns {
		out.Fields[l.Columns[i].Field] = fields[i]
	}
	return out
}

// describe describes the values of a column, of which there are some.
func (c *columnStats) describe(f *FieldStats, n scaledStats, p *rowPlace, factor float64) {
	sampled := factor > 1
	switch {
	case c.form == rowScaled:
		f.Numbers = quantilesOf(c.sample, func(n int64) float64 { return unscale(n, int(p.decimals)) })
		f.Numbers.Min, f.Numbers.Max = unscale(n.min, int(p.decimals)), unscale(n.max, int(p.decimals))
		f.Numbers.Mean = finite(c.sum / float64(f.Values) / pow10[p.decimals])
	case c.form == rowFloat:
		floats := make([]float64, len(c.sample))
		for i, n := range c.sample {
			floats[i] = math.Float64frombits(uint64(n))
		}
		f.Numbers = quantilesOf(floats, func(n float64) float64 { return n })
		f.Numbers.Min, f.Numbers.Max, f.Numbers.Mean = c.least, c.greatest, finite(c.sum/float64(f.Values))
	case c.form == rowTime:
		f.Times = &TimeStats{First: n.min, Last: n.max}
	case c.form == rowCode:
		c.describeDictionary(f, p.dictionary)
	case c.kind == plainText:
		f.Texts = &TextStats{Distinct: int64(len(c.texts.counts)), Top: c.texts.top(factor)}
		if sampled {
			f.Texts.Distinct, f.Texts.Estimate = min(c.texts.estimate(), f.Values), true
		}
	default:
		f.Numbers = weighedNumbers(c.values, nil)
		if c.kind == setText {
			f.Texts = &TextStats{Distinct: int64(len(c.texts.counts)), Top: c.texts.top(factor)}
			if sampled {
				f.Texts.Distinct, f.Texts.Estimate = 0, true
			}
		}
	}
}

// describeDictionary describes a column whose values were counted by code.
func (c *columnStats) describeDictionary(f *FieldStats, dictionary []string) {
	elements := make(map[string]int64)
	var values []float64
	for code, text := range dictionary {
		switch n := c.counts[code]; {
		case n == 0: // only rows that were left out had it
		case c.kind == plainText:
			elements[text] = n
		case c.kind == setText:
			for e := range setOf(text).Elements() {
				elements[e] += n
			}
		}
		if c.kind != plainText {
			values = append(values, c.valueOf(text))
		}
	}
	if c.kind != plainText {
		f.Numbers = weighedNumbers(values, c.counts)
	}
	if c.kind != hopsText {
		all := make([]TextCount, 0, len(elements))
		for text, n := range elements {
			all = append(all, TextCount{text, n})
		}
		f.Texts = &TextStats{Distinct: int64(len(elements)), Top: topTexts(all)}
	}
}

// quantilesOf returns the quantiles of numbers, which it sorts. of keeps their order.
func quantilesOf[T int64 | float64](values []T, of func(T) float64) *NumberStats {
	slices.Sort(values)
	s := &NumberStats{}
	for _, share := range statsQuantiles {
		if len(values) > 0 {
			rank := int(math.Ceil(share * float64(len(values))))
			s.Quantiles = append(s.Quantiles, Quantile{share, of(values[max(0, rank-1)])})
		}
	}
	return s
}

// weighedNumbers describes numbers, each with its weight; one each if weights is nil.
func weighedNumbers(values []float64, weights []int64) *NumberStats {
	type weighed struct {
		value  float64
		weight int64
	}
	all := make([]weighed, 0, len(values))
	var total, below int64
	sum := 0.0
	for i, v := range values {
		w := weighed{v, 1}
		if weights != nil {
			w.weight = weights[i]
		}
		if w.weight > 0 {
			total += w.weight
			sum += v * float64(w.weight)
			all = append(all, w)
		}
	}
	if total == 0 {
		return nil // no row of the sample has one
	}
	slices.SortFunc(all, func(a, b weighed) int { return cmp.Compare(a.value, b.value) })
	s := &NumberStats{Min: all[0].value, Max: all[len(all)-1].value, Mean: finite(sum / float64(total))}
	next := 0
	for _, share := range statsQuantiles {
		for rank := int64(math.Ceil(share * float64(total))); below < rank; next++ {
			below += all[next].weight
		}
		s.Quantiles = append(s.Quantiles, Quantile{share, all[next-1].value})
	}
	return s
}

// finite returns the finite number next to f, and 0 for one that is none: a sum of
// floats may be too large, and of both signs.
func finite(f float64) float64 {
	if math.IsNaN(f) {
		return 0
	}
	return max(-math.MaxFloat64, min(math.MaxFloat64, f))
}
