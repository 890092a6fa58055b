package rules

import (
	"math"
	"time"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"

	"rapport/profilestore"
)

// The times that cel-go computes with: the years 1 to 9999, in seconds since the Unix
// epoch.
const (
	minSecond = -62_135_596_800
	maxSecond = 253_402_300_799
)

// timeCall compiles what gives a time.
func (c *compiler) timeCall(e ast.Expr) node[time.Time] {
	if e.Kind() != ast.CallKind {
		return notCovered[time.Time](c, "a comprehension")
	}
	args := operands(e)
	switch name := e.AsCall().FunctionName(); name {
	case operators.Add:
		if c.typeOf(args[0]).Kind() == types.DurationKind {
			return binary(c, c.spans.expr(c, args[0]), c.times.expr(c, args[1]), func(_ *frame, d time.Duration, t time.Time) (time.Time, state) {
				return addSpan(t, d)
			})
		}
		return binary(c, c.times.expr(c, args[0]), c.spans.expr(c, args[1]), func(_ *frame, t time.Time, d time.Duration) (time.Time, state) {
			return addSpan(t, d)
		})
	case operators.Subtract:
		return binary(c, c.times.expr(c, args[0]), c.spans.expr(c, args[1]), func(_ *frame, t time.Time, d time.Duration) (time.Time, state) {
			if d == math.MinInt64 {
				return t, stateFailed
			}
			return addSpan(t, -d)
		})
	case "timestamp":
		return c.toTime(args[0])
	default:
		return notCovered[time.Time](c, name)
	}
}

// addSpan adds a duration to a time.
func addSpan(t time.Time, d time.Duration) (time.Time, state) {
	sec, ok := addWholes(t.Unix(), int64(d/time.Second))
	nsec := int64(t.Nanosecond()) + int64(d%time.Second)
	switch {
	case nsec < 0:
		sec, nsec = sec-1, nsec+int64(time.Second)
	case nsec >= int64(time.Second):
		sec, nsec = sec+1, nsec-int64(time.Second)
	}
	if !ok || sec < minSecond || sec > maxSecond {
		return t, stateFailed
	}
	return time.Unix(sec, nsec).In(t.Location()), stateKnown
}

// toTime compiles timestamp(…).
func (c *compiler) toTime(e ast.Expr) node[time.Time] {
	switch c.typeOf(e).Kind() {
	case types.TimestampKind:
		return c.times.expr(c, e)
	case types.IntKind:
		return unary(c, c.wholes.expr(c, e), func(_ *frame, sec int64) (time.Time, state) {
			if sec < minSecond || sec > maxSecond {
				return time.Time{}, stateFailed
			}
			return time.Unix(sec, 0).UTC(), stateKnown
		})
	case types.StringKind:
		return unary(c, c.texts.expr(c, e), func(_ *frame, s string) (time.Time, state) {
			t, ok := types.String(s).ConvertToType(types.TimestampType).(types.Timestamp)
			return t.Time, failedIf(!ok)
		})
	default:
		return notCovered[time.Time](c, "timestamp of a "+plainType(c.typeOf(e)))
	}
}

// spanCall compiles what gives a duration.
func (c *compiler) spanCall(e ast.Expr) node[time.Duration] {
	if e.Kind() != ast.CallKind {
		return notCovered[time.Duration](c, "a comprehension")
	}
	args := operands(e)
	switch name := e.AsCall().FunctionName(); name {
	case operators.Add:
		return binary(c, c.spans.expr(c, args[0]), c.spans.expr(c, args[1]), func(_ *frame, x, y time.Duration) (time.Duration, state) {
			v, ok := addWholes(int64(x), int64(y))
			return time.Duration(v), failedIf(!ok)
		})
	case operators.Subtract:
		if c.typeOf(args[0]).Kind() == types.TimestampKind {
			if x, y, ok := c.microsBoth(args[0], args[1]); ok {
				return binary(c, x, y, betweenMicros)
			}
			return binary(c, c.times.expr(c, args[0]), c.times.expr(c, args[1]), func(_ *frame, x, y time.Time) (time.Duration, state) {
				return between(x, y)
			})
		}
		return binary(c, c.spans.expr(c, args[0]), c.spans.expr(c, args[1]), func(_ *frame, x, y time.Duration) (time.Duration, state) {
			v, ok := subtractWholes(int64(x), int64(y))
			return time.Duration(v), failedIf(!ok)
		})
	case "duration":
		if c.typeOf(args[0]).Kind() == types.DurationKind {
			return c.spans.expr(c, args[0])
		}
		return unary(c, c.texts.expr(c, args[0]), func(_ *frame, s string) (time.Duration, state) {
			d, err := time.ParseDuration(s)
			return d, failedIf(err != nil)
		})
	case "days":
		return unary(c, c.anyNumber(args[0]), func(_ *frame, n float64) (time.Duration, state) {
			if math.IsNaN(n) || math.Abs(n) > maxDays {
				return 0, stateFailed
			}
			return time.Duration(n * float64(24*time.Hour)), stateKnown
		})
	default:
		return notCovered[time.Duration](c, name)
	}
}

// between returns x - y.
func between(x, y time.Time) (time.Duration, state) {
	sec, ok := subtractWholes(x.Unix(), y.Unix())
	whole, ok2 := multiplyWholes(sec, int64(time.Second))
	d, ok3 := addWholes(whole, int64(x.Nanosecond()-y.Nanosecond()))
	return time.Duration(d), failedIf(!ok || !ok2 || !ok3)
}

// micros compiles now or a time field to whole microseconds, of which no time.Time need
// be made.
func (c *compiler) micros(e ast.Expr) (node[int64], bool) {
	if c.isNow(e) {
		return node[int64]{run: func(f *frame) (int64, state) { return f.vars.in.Now, stateKnown }}, true
	}
	if e.Kind() != ast.SelectKind {
		return node[int64]{}, false
	}
	slot, _, ok := c.place(e)
	if !ok || slot < 0 {
		return node[int64]{}, false
	}
	return node[int64]{run: func(f *frame) (int64, state) {
		v := f.vars.field(slot)
		if v.Kind() != profilestore.KindTime {
			return 0, f.noField(v)
		}
		return v.Micros(), stateKnown
	}}, true
}

// microsBoth compiles two times that can be had in microseconds.
func (c *compiler) microsBoth(a, b ast.Expr) (x, y node[int64], ok bool) {
	x, ok = c.micros(a)
	if ok {
		y, ok = c.micros(b)
	}
	return x, y, ok
}

// farApart is more microseconds than a duration of whole seconds has.
const farApart = math.MaxInt64/1000 - 1_000_000

// betweenMicros is between of times in microseconds.
func betweenMicros(_ *frame, x, y int64) (time.Duration, state) {
	if d := x - y; -farApart < d && d < farApart && (d > 0) == (x > y) {
		return time.Duration(d * 1000), stateKnown
	}
	return between(time.UnixMicro(x), time.UnixMicro(y))
}

func (c *compiler) isNow(e ast.Expr) bool {
	return e.Kind() == ast.IdentKind && e.AsIdent() == "now" && !c.isLocal("now") && c.lang.roots["now"] != nil
}

// timeParts are what a time is asked for, in its zone.
var timeParts = map[string]func(time.Time) int{
	"getFullYear":     time.Time.Year,
	"getMonth":        func(t time.Time) int { return int(t.Month()) - 1 },
	"getDayOfYear":    func(t time.Time) int { return t.YearDay() - 1 },
	"getDate":         time.Time.Day,
	"getDayOfMonth":   func(t time.Time) int { return t.Day() - 1 },
	"getDayOfWeek":    func(t time.Time) int { return int(t.Weekday()) },
	"getHours":        time.Time.Hour,
	"getMinutes":      time.Time.Minute,
	"getSeconds":      time.Time.Second,
	"getMilliseconds": func(t time.Time) int { return t.Nanosecond() / 1_000_000 },
}

// spanParts are what a duration is asked for.
var spanParts = map[string]func(time.Duration) int64{
	"getHours":        func(d time.Duration) int64 { return int64(d.Hours()) },
	"getMinutes":      func(d time.Duration) int64 { return int64(d.Minutes()) },
	"getSeconds":      func(d time.Duration) int64 { return int64(d.Seconds()) },
	"getMilliseconds": time.Duration.Milliseconds,
}

// timePart compiles getHours and the like.
func (c *compiler) timePart(name string, args []ast.Expr) node[int64] {
	if c.typeOf(args[0]).Kind() == types.DurationKind {
		if part := spanParts[name]; part != nil && len(args) == 1 {
			return unary(c, c.spans.expr(c, args[0]), func(_ *frame, d time.Duration) (int64, state) { return part(d), stateKnown })
		}
		return notCovered[int64](c, name)
	}
	part := timeParts[name]
	zone := time.UTC
	if len(args) == 2 {
		written, _ := text(args[1])
		loc, err := location(written)
		if err != nil {
			return notCovered[int64](c, name)
		}
		zone = loc
	}
	if part == nil {
		return notCovered[int64](c, name)
	}
	return unary(c, c.times.expr(c, args[0]), func(_ *frame, t time.Time) (int64, state) {
		return int64(part(t.In(zone))), stateKnown
	})
}
