package profilestore

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
)

// The batch value of a windowed counter is a list of hops: the sums of the buckets
// before the snapshot's as-of time, the latest first. In a file and in a row it is a
// text with semicolons between; in a row the numbers are scaled integers, and zeros
// at the end are left out.

// parseHops reads the hops of a file into the form of rows.
func parseHops(b []byte, decimals int, most int) ([]byte, error) {
	parts := bytes.Split(b, []byte{setSeparator})
	if len(parts) > most {
		return nil, fmt.Errorf("has %d hops, the window has room for %d: give the sums of its buckets, the latest first, with ; between", len(parts), most)
	}
	hops := make([]byte, 0, len(b))
	for i, part := range parts {
		part = bytes.TrimSpace(part)
		n := int64(0)
		if len(part) > 0 {
			var err error
			if n, err = parseScaled(part, decimals); err != nil {
				return nil, fmt.Errorf("in hop %d, %.40q: %w", i+1, part, err)
			}
		}
		if i > 0 {
			hops = append(hops, setSeparator)
		}
		hops = strconv.AppendInt(hops, n, 10)
	}
	for bytes.HasSuffix(hops, []byte(";0")) {
		hops = hops[:len(hops)-2]
	}
	return hops, nil
}

// sumHops adds up the hops of a row that lie in a window: those that begin at from
// or later, and not after to. It does not allocate.
func sumHops(hops string, asOf, bucket, from, to int64) int64 {
	var sum int64
	for begin := asOf - bucket; hops != "" && begin >= from; begin -= bucket {
		var text string
		text, hops, _ = strings.Cut(hops, string(setSeparator))
		n, err := strconv.ParseInt(text, 10, 64)
		if err == nil && begin <= to {
			sum = addSaturating(sum, n)
		}
	}
	return sum
}
