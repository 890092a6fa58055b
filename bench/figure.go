package bench

import (
	"fmt"
	"strconv"
	"time"
)

// String returns a figure for people, as in "1.31 x (1.28–1.35)".
func (f Figure) String() string {
	s := f.format(f.Value)
	if f.Unit == UnitRatio {
		s += " x"
	}
	if f.known() {
		s += " (" + f.format(f.Low) + "–" + f.format(f.High) + ")"
	}
	return s
}

func (f *Figure) format(v float64) string {
	switch f.Unit {
	case UnitNanos:
		return formatNanos(v)
	case UnitBytes:
		return formatBytes(v)
	case UnitPerSecond:
		return formatCount(v) + "/s"
	}
	return formatCount(v)
}

// formatCount writes three digits, more before the point.
func formatCount(v float64) string {
	switch abs := max(v, -v); {
	case v == float64(int64(v)) && abs < 1e6:
		return strconv.FormatInt(int64(v), 10)
	case abs < 10:
		return strconv.FormatFloat(v, 'f', 2, 64)
	case abs < 100:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(v, 'f', 0, 64)
}

func formatNanos(v float64) string {
	switch d := time.Duration(v); {
	case max(d, -d) < time.Microsecond:
		return fmt.Sprintf("%.0f ns", v)
	case max(d, -d) < time.Millisecond:
		return formatCount(v/1e3) + " µs"
	case max(d, -d) < time.Second:
		return formatCount(v/1e6) + " ms"
	default:
		return formatCount(v/1e9) + " s"
	}
}

func formatBytes(v float64) string {
	unit := 0
	for units := len(byteUnits) - 1; v >= 1000 && unit < units; unit++ {
		v /= 1000
	}
	return formatCount(v) + " " + byteUnits[unit]
}

var byteUnits = []string{"B", "kB", "MB", "GB", "TB"}
