package profilestore

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"
	"unicode/utf8"
)

// A value that can't be read is refused with what to do about it.
var (
	errFlagText    = errors.New("is not a flag: use true or false, yes or no, 1 or 0")
	errNumberText  = errors.New("is not a number: use digits and a decimal point, like -12.5")
	errNumberLarge = errors.New("is too large for a number")
	errTimeText    = errors.New("is not a time: use RFC 3339 with offset, like 2026-03-01T08:00:00+08:00, or a date like 2026-03-01, which is its midnight UTC")
	errTextLong    = fmt.Errorf("is too long: a text has at most %d bytes", MaxTextBytes)
	errTextBytes   = errors.New("is not UTF-8: save the file as UTF-8")
)

// parseFlag reads a flag, in any case.
func parseFlag(b []byte) (bool, error) {
	switch {
	case len(b) == 1:
		switch b[0] {
		case '1', 'y', 'Y', 't', 'T':
			return true, nil
		case '0', 'n', 'N', 'f', 'F':
			return false, nil
		}
	case bytes.EqualFold(b, []byte("true")), bytes.EqualFold(b, []byte("yes")):
		return true, nil
	case bytes.EqualFold(b, []byte("false")), bytes.EqualFold(b, []byte("no")):
		return false, nil
	}
	return false, errFlagText
}

// parseFloat reads a decimal number, with or without exponent. What else
// strconv.ParseFloat reads, such as 0x10, 1_000, Inf and NaN, is refused.
func parseFloat(b []byte) (float64, error) {
	if !isDecimal(b) {
		return 0, errNumberText
	}
	f, err := strconv.ParseFloat(string(b), 64)
	if err != nil {
		return 0, errNumberLarge
	}
	return f, nil
}

// isDecimal reports whether b is a sign, digits with a point among them, and an
// exponent, all but some digits optional.
func isDecimal(b []byte) bool {
	if len(b) > 0 && (b[0] == '-' || b[0] == '+') {
		b = b[1:]
	}
	whole, b := cutDigits(b)
	fraction := 0
	if len(b) > 0 && b[0] == '.' {
		fraction, b = cutDigits(b[1:])
	}
	if whole+fraction == 0 {
		return false
	}
	if len(b) == 0 {
		return true
	}
	if b[0] != 'e' && b[0] != 'E' {
		return false
	}
	b = b[1:]
	if len(b) > 0 && (b[0] == '-' || b[0] == '+') {
		b = b[1:]
	}
	exponent, b := cutDigits(b)
	return exponent > 0 && len(b) == 0
}

// cutDigits returns how many digits b begins with, and the rest.
func cutDigits(b []byte) (int, []byte) {
	n := 0
	for n < len(b) && '0' <= b[n] && b[n] <= '9' {
		n++
	}
	return n, b[n:]
}

// parseScaled reads a decimal number as an integer of 10⁻ᵈ, exactly. Zeros at the
// end of the fraction don't count as decimals.
func parseScaled(b []byte, d int) (int64, error) {
	n, ok := scaledDigits(b, d)
	if ok {
		return n, nil
	}
	// The rare forms: an exponent, more than 15 digits, or a mistake.
	f, err := parseFloat(b)
	if err != nil {
		return 0, err
	}
	if n, ok := scale(f, d); ok && decimalsOf(b) <= d {
		return n, nil
	}
	if limit := (1 << 53) / pow10[d]; math.Abs(f) > limit {
		return 0, fmt.Errorf("is too large for a number with %d decimals: at most %s", d, strconv.FormatFloat(limit, 'f', -1, 64))
	}
	return 0, fmt.Errorf("has more decimals than the field's %d: round it, or give the field more", d)
}

// scaledDigits reads at most 15 digits with at most d of them after the point.
func scaledDigits(b []byte, d int) (n int64, ok bool) {
	negative := false
	if len(b) > 0 && (b[0] == '-' || b[0] == '+') {
		negative = b[0] == '-'
		b = b[1:]
	}
	if len(b) == 0 || len(b) > 16 {
		return 0, false
	}
	decimals, point := 0, false
	digits := 0
	for _, c := range b {
		switch {
		case c == '.' && !point:
			point = true
		case '0' <= c && c <= '9':
			n = 10*n + int64(c-'0')
			digits++
			if point {
				decimals++
			}
		default:
			return 0, false
		}
	}
	if digits == 0 || decimals > d || digits+d-decimals > 15 {
		return 0, false
	}
	for ; decimals < d; decimals++ {
		n *= 10
	}
	if negative {
		n = -n
	}
	return n, true
}

// decimalsOf returns the decimals that a number has, zeros at their end not
// counted; 0 for one with an exponent, whose value alone decides.
func decimalsOf(b []byte) int {
	_, fraction, _ := bytes.Cut(b, []byte{'.'})
	if bytes.ContainsAny(fraction, "eE") {
		return 0
	}
	return len(bytes.TrimRight(fraction, "0"))
}

// parseTime reads a time or a date, as microseconds since the Unix epoch.
func parseTime(b []byte) (int64, error) {
	layout := time.RFC3339
	if len(b) == len(time.DateOnly) {
		layout = time.DateOnly
	}
	t, err := time.Parse(layout, string(b))
	if err != nil {
		return 0, errTimeText
	}
	return t.UnixMicro(), nil
}

// checkText returns what is wrong with a text.
func checkText(b []byte) error {
	switch {
	case len(b) > MaxTextBytes:
		return errTextLong
	case !utf8.Valid(b):
		return errTextBytes
	}
	return nil
}
