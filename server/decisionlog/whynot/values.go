package whynot

import (
	"cmp"
	"math"
	"slices"
	"time"

	"rapport/profilestore"
)

// anythingElse stands for a text that no rule names.
const anythingElse = "anything else"

// seeds are values from which a search for a value begins.
type seeds struct {
	values []profilestore.Value // constants of conditions, and what else they are compared with
	spans  []time.Duration      // constants of conditions
	now    int64                // the time of the decision
}

func (s *seeds) add(v profilestore.Value) {
	if v.Known() && !slices.Contains(s.values, v) {
		s.values = append(s.values, v)
	}
}

// maxValues is how many values are proposed for one thing.
const maxValues = 3

// nearest returns values of a kind for which ok holds, which it does not for the present
// value: the nearest ones, where values have an order one in each direction. step is the
// distance between neighbouring numbers; 0: that of floating-point numbers.
func (s *seeds) nearest(kind profilestore.Kind, from profilestore.Value, step float64, ok func(profilestore.Value) bool) []profilestore.Value {
	var out []profilestore.Value
	switch kind {
	case profilestore.KindNumber:
		out = s.numbers(from, step, ok)
	case profilestore.KindTime:
		out = s.times(from, ok)
	case profilestore.KindFlag:
		for _, b := range []bool{true, false} {
			if v := profilestore.Flag(b); v != from && ok(v) {
				out = append(out, v)
			}
		}
	case profilestore.KindText:
		for _, v := range s.values {
			if v.Kind() == kind && v != from && ok(v) && len(out) < maxValues {
				out = append(out, v)
			}
		}
		if v := profilestore.Text(anythingElse); len(out) == 0 && v != from && ok(v) {
			out = append(out, v)
		}
	case profilestore.KindSet:
		out = s.sets(from, ok)
	case profilestore.KindUnknown:
	}
	if v := profilestore.Unknown(); len(out) == 0 && from.Known() && ok(v) {
		out = append(out, v)
	}
	return out
}

// numbers returns the nearest numbers for which ok holds, below and above. From what is
// written in conditions it makes sums, differences, products and quotients, tries powers
// of ten too, and from the nearest of all those for which it holds goes back as far as it
// still does.
func (s *seeds) numbers(from profilestore.Value, step float64, ok func(profilestore.Value) bool) []profilestore.Value {
	base := from.Number()
	round := func(x float64, up bool) float64 {
		if step == 0 {
			return x
		}
		n := x / step
		if r := math.Round(n); math.Abs(n-r) < 1e-6 {
			n = r
		} else if up {
			n = math.Ceil(n)
		} else {
			n = math.Floor(n)
		}
		// Dividing by what is whole gives the decimal that people write.
		return n / math.Round(1/step)
	}
	var constants, tries []float64
	for _, v := range s.values {
		if v.Kind() == profilestore.KindNumber {
			constants = append(constants, v.Number())
		}
	}
	if len(constants) > 12 {
		constants = constants[:12]
	}
	tries = append(tries, base)
	for _, a := range constants {
		tries = append(tries, a, a+1, a-1)
		for _, b := range constants {
			tries = append(tries, a+b, a-b, a*b, a/b)
		}
	}
	for _, x := range []float64{0, 0.01, 0.1, 0.5, 1, 2, 5, 10, 100, 1e3, 1e4, 1e6, 1e9} {
		tries = append(tries, x, -x, base+x, base-x)
	}
	holds := func(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) && ok(profilestore.Number(x)) }
	near := func(x float64) []float64 { // on the grid, and beside
		if step == 0 {
			return []float64{x, math.Nextafter(x, math.Inf(-1)), math.Nextafter(x, math.Inf(1))}
		}
		return []float64{round(x, true), round(x, false), round(x+step, true), round(x-step, false)}
	}
	below, above := math.Inf(-1), math.Inf(1)
	for _, t := range tries {
		for _, x := range near(t) {
			switch {
			case !from.Known() && x == base && holds(x):
				return []profilestore.Value{profilestore.Number(x)}
			case x > base && x < above && holds(x):
				above = x
			case x < base && x > below && holds(x):
				below = x
			}
		}
	}
	var out []profilestore.Value
	if !math.IsInf(above, 0) {
		out = append(out, profilestore.Number(closer(base, above, step, holds, round)))
	}
	if !math.IsInf(below, 0) {
		out = append(out, profilestore.Number(closer(base, below, step, holds, round)))
	}
	slices.SortStableFunc(out, func(a, b profilestore.Value) int {
		return cmp.Compare(math.Abs(a.Number()-base), math.Abs(b.Number()-base))
	})
	return out
}

// closer goes from a number for which something holds towards one for which it does not,
// as far as it holds.
func closer(not, is, step float64, holds func(float64) bool, round func(float64, bool) float64) float64 {
	for range 2100 { // more than halvings of any two floating-point numbers
		middle := not + (is-not)/2
		if step > 0 {
			middle = round(middle, is > not)
		}
		if middle == not || middle == is {
			break
		}
		if holds(middle) {
			is = middle
		} else {
			not = middle
		}
	}
	return is
}

// times returns the nearest times for which ok holds, before and after.
func (s *seeds) times(from profilestore.Value, ok func(profilestore.Value) bool) []profilestore.Value {
	base := from.Micros()
	if !from.Known() {
		base = s.now
	}
	var tries []int64
	anchors := []int64{base, s.now}
	for _, v := range s.values {
		if v.Kind() == profilestore.KindTime {
			anchors = append(anchors, v.Micros())
		}
	}
	spans := []time.Duration{0, time.Minute, time.Hour, 24 * time.Hour, 7 * 24 * time.Hour, 31 * 24 * time.Hour, 366 * 24 * time.Hour, 3660 * 24 * time.Hour}
	for _, a := range anchors {
		for _, d := range append(spans, s.spans...) {
			m := d.Microseconds()
			tries = append(tries, a+m-1, a+m, a+m+1, a-m-1, a-m, a-m+1)
		}
	}
	holds := func(t int64) bool { return ok(profilestore.Time(t)) }
	below, above := int64(math.MinInt64), int64(math.MaxInt64)
	for _, t := range tries {
		switch {
		case !from.Known() && t == base && holds(t):
			return []profilestore.Value{profilestore.Time(t)}
		case t > base && t < above && holds(t):
			above = t
		case t < base && t > below && holds(t):
			below = t
		}
	}
	var out []profilestore.Value
	for _, is := range []int64{above, below} {
		if is == math.MinInt64 || is == math.MaxInt64 {
			continue
		}
		not := base
		for {
			middle := not + (is-not)/2
			if middle == not || middle == is {
				break
			}
			if holds(middle) {
				is = middle
			} else {
				not = middle
			}
		}
		out = append(out, profilestore.Time(is))
	}
	return out
}

// sets returns sets for which ok holds: with one element more or less, or none.
func (s *seeds) sets(from profilestore.Value, ok func(profilestore.Value) bool) []profilestore.Value {
	have := slices.Collect(from.Elements())
	var tries []profilestore.Value
	if !from.Known() {
		tries = append(tries, profilestore.Set())
	}
	for _, v := range s.values {
		if v.Kind() == profilestore.KindText && profilestore.CheckElement(v.Text()) == nil && !slices.Contains(have, v.Text()) {
			tries = append(tries, profilestore.Set(append(slices.Clone(have), v.Text())...))
		}
	}
	for _, e := range have {
		tries = append(tries, profilestore.Set(slices.DeleteFunc(slices.Clone(have), func(x string) bool { return x == e })...))
	}
	tries = append(tries, profilestore.Set(), profilestore.Set(append(slices.Clone(have), anythingElse)...))
	var out []profilestore.Value
	for _, v := range tries {
		if v != from && len(out) < maxValues && !slices.Contains(out, v) && ok(v) {
			out = append(out, v)
		}
	}
	return out
}

// maxWait is how far ahead a time to wait for is looked for.
const maxWait = 400 * 24 * time.Hour

// later returns the first time after now that is found for which ok holds, 0 if none is.
func (s *seeds) later(now int64, ok func(int64) bool) int64 {
	var tries []int64
	add := func(t int64) {
		if t > now && t <= now+maxWait.Microseconds() {
			tries = append(tries, t)
		}
	}
	for _, v := range s.values {
		if v.Kind() == profilestore.KindTime {
			add(v.Micros())
			add(v.Micros() + 1)
			for _, d := range s.spans {
				for _, m := range []int64{-1, 0, 1} {
					add(v.Micros() + d.Microseconds() + m)
					add(v.Micros() - d.Microseconds() + m)
				}
			}
		}
	}
	half := (30 * time.Minute).Microseconds()
	first := now - now%half
	for i := range int64(48 * 8) { // each half hour of a week
		add(first + (i+1)*half)
	}
	for i := range int64(400) { // each day of a year
		add(first + i*48*half)
	}
	slices.Sort(tries)
	not := now
	for _, t := range slices.Compact(tries) {
		if !ok(t) {
			not = t
			continue
		}
		for t-not > 1 {
			if middle := not + (t-not)/2; ok(middle) {
				t = middle
			} else {
				not = middle
			}
		}
		return t
	}
	return 0
}
