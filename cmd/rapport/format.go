package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// none stands in tables where there is nothing to say.
const none = "-"

// formatNumber writes a number in the shortest form that reads back exactly,
// never in exponents: 29.85 is 29.85.
func formatNumber(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }

// formatScore writes a score with six significant digits: people compare scores,
// they do not compute with them.
func formatScore(f float64) string {
	if math.Abs(f) >= 1e6 {
		return strconv.FormatFloat(f, 'f', 0, 64)
	}
	return strconv.FormatFloat(f, 'g', 6, 64)
}

// formatTime writes a moment in UTC.
func formatTime(t *timestamppb.Timestamp) string {
	if t == nil {
		return none
	}
	return t.AsTime().UTC().Format(time.RFC3339Nano)
}

// parseTime reads a moment with its offset, as all files and requests write it.
func parseTime(s string) (*timestamppb.Timestamp, error) {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return nil, fmt.Errorf("%q is not a time: write it with date, time and offset, as in 2026-03-01T08:00:00+08:00 or 2026-03-01T00:00:00Z", s)
	}
	return timestamppb.New(t), nil
}

// formatEnum writes an enum value for people: REASON_NOT_ELIGIBLE of enum Reason
// is "not eligible".
func formatEnum(e protoreflect.Enum) string {
	descriptor := e.Descriptor()
	value := descriptor.Values().ByNumber(e.Number())
	if value == nil {
		return strconv.Itoa(int(e.Number())) // of a newer server
	}
	prefix := screamingSnake(string(descriptor.Name())) + "_"
	return strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(string(value.Name()), prefix), "_", " "))
}

// screamingSnake turns ValueOrigin into VALUE_ORIGIN.
func screamingSnake(name string) string {
	var b strings.Builder
	for i, r := range name {
		if i > 0 && r >= 'A' && r <= 'Z' {
			b.WriteByte('_')
		}
		b.WriteRune(r)
	}
	return strings.ToUpper(b.String())
}

// formatBytes writes a size in the unit that leaves one to three digits before
// the point.
func formatBytes(n int64) string {
	const units = "kMGTPE"
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	f, unit := float64(n)/1000, 0
	for f >= 999.5 && unit < len(units)-1 {
		f, unit = f/1000, unit+1
	}
	if f < 9.95 {
		return fmt.Sprintf("%.1f %cB", f, units[unit])
	}
	return fmt.Sprintf("%.0f %cB", f, units[unit])
}

// plural writes a count with its noun: 1 event, 2 events.
func plural[N int | int32 | int64 | uint64](n N, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	if stem, ok := strings.CutSuffix(noun, "y"); ok {
		return fmt.Sprintf("%d %sies", n, stem)
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
