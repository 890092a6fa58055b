package main

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/iotest"
)

// TestLinkBatches: every line of a file is in one batch, in order; what comes before
// the line at which a file ends in a mistake is in a batch too.
func TestLinkBatches(t *testing.T) {
	var csv, ndjson strings.Builder
	csv.WriteString("\ufeffb,a\r\n")
	for i := range 2*linkBatch + 1 {
		fmt.Fprintf(&csv, "%d,cookie:%d\r\n", i, i)
		fmt.Fprintf(&ndjson, "{\"a\": \"cookie:%d\", \"b\": \"%d\"}\n", i, i)
	}
	broken := errors.New("the disk is gone")
	for _, c := range []struct {
		name, text string
		err        string
		sizes      string
		first      int64 // line
	}{
		{"CSV", csv.String(), "", "[1000 1000 1]", 2},
		{"NDJSON", ndjson.String(), "", "[1000 1000 1]", 1},
		{"a quote that does not end", csv.String() + "\"1,2\n", `f: parse error on line 2003, column 6: extraneous or missing " in quoted-field`, "[1000 1000 1]", 2},
		{"no columns", "1,2\n", `f: column "1": the columns are a and b, and time and reason if there are any, each once`, "[]", 0},
		{"one column", "b\n", `f: there is no column "a": it has b`, "[]", 0},
		{"blank", " \n\n", "f: the file is empty: it needs a line with the names of the columns, a and b, or JSON objects", "[]", 0},
		{"a long line", `{"a": "` + strings.Repeat("x", maxEventLine), "f: line 1: the line has more than 1048576 bytes: write one JSON object a line", "[]", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			sizes, last, next := []int{}, error(nil), c.first
			for batch, err := range linkBatches(strings.NewReader(c.text), "f") {
				if last = err; err != nil {
					continue
				}
				sizes = append(sizes, len(batch))
				for _, l := range batch {
					if l.err != nil || l.line != next || l.link.GetA() != fmt.Sprintf("cookie:%d", l.line-c.first) || l.link.GetB() != fmt.Sprint(l.line-c.first) {
						t.Fatalf("line %d, not %d: %v, %v", l.line, next, l.link, l.err)
					}
					next++
				}
			}
			if fmt.Sprint(sizes) != c.sizes || fmt.Sprint(last) != c.err && (last != nil || c.err != "") {
				t.Errorf("batches of %v, then %v", sizes, last)
			}
		})
	}
	for _, err := range linkBatches(iotest.ErrReader(broken), "f") {
		if !errors.Is(err, broken) {
			t.Error(err)
		}
	}
}
