package batchfile

import (
	"bytes"
	"encoding/csv"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"
)

// readCSV reads everything; records as strings, and the errors.
func readCSV(r io.Reader) (records [][]string, errs []error) {
	l, err := newLines(r)
	if err != nil {
		return nil, []error{err}
	}
	c := &csvReader{lines: l}
	var s csvSplitter
	for {
		record, err := c.find()
		if errors.Is(err, io.EOF) {
			return records, errs
		}
		if err != nil {
			return records, append(errs, err)
		}
		if record.problem != nil {
			errs = append(errs, &Error{*record.problem})
			continue
		}
		var fields []string
		for _, f := range s.split(record) {
			fields = append(fields, string(f))
		}
		records = append(records, fields)
	}
}

// The naive twin is encoding/csv: what it can read is read the same, and what it
// refuses is refused.
func TestCSVReadsWhatEncodingCSVReads(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := strings.Join(rapid.SliceOf(rapid.SampledFrom(
			[]string{"a", "b", " ", ",", ",", `"`, `"`, `""`, "\n", "\n", "\r\n", "é", `"a,b"`, "\"c\nd\""})).Draw(t, "text"), "")
		twin := csv.NewReader(strings.NewReader(text))
		twin.FieldsPerRecord = -1
		want, wantErr := twin.ReadAll()
		var r io.Reader = strings.NewReader(text)
		if rapid.Bool().Draw(t, "slowly") {
			r = iotest.OneByteReader(r)
		}
		got, errs := readCSV(r)
		if wantErr != nil {
			if len(errs) == 0 {
				t.Fatalf("%q gave %q; encoding/csv: %v", text, got, wantErr)
			}
			return
		}
		for _, record := range got { // encoding/csv changes line ends inside quotes
			for i := range record {
				record[i] = strings.ReplaceAll(record[i], "\r\n", "\n")
			}
		}
		if len(errs) > 0 || !slices.EqualFunc(got, want, slices.Equal) {
			t.Fatalf("%q gave %q, %v; encoding/csv: %q", text, got, errs, want)
		}
	})
}

func TestCSVLinesAndRecovery(t *testing.T) {
	text := "a,b\n\n1,\"x\ny\"\n2,x\"y\n3,\"x\"y\r\n4,z"
	l, err := newLines(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	c := &csvReader{lines: l}
	if err := c.readHeader(); err != nil || !slices.Equal(c.names(), []string{"a", "b"}) {
		t.Fatal(c.names(), err)
	}
	var s csvSplitter
	for _, want := range []struct {
		line int64
		text string // of the last value, or of the problem
	}{{3, "x\ny"}, {5, "a quote inside"}, {6, "something after the closing quote"}, {7, "z"}} {
		record, err := c.find()
		if err != nil {
			t.Fatal(err)
		}
		if bad := record.problem; bad != nil {
			if bad.Line != want.line || !strings.Contains(bad.Message, want.text) || bad.Name != "b" {
				t.Errorf("got %+v, want line %d: %s", bad, want.line, want.text)
			}
			continue
		}
		fields := s.split(record)
		if last := fields[len(fields)-1]; record.line != want.line || string(last) != want.text {
			t.Errorf("line %d, %q; want line %d, %q", record.line, last, want.line, want.text)
		}
	}
	if _, err := c.find(); !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %v", err)
	}
}

func TestCSVBoundsARecord(t *testing.T) {
	endless := io.MultiReader(strings.NewReader("a\n\""), io.LimitReader(zeros{}, 1<<40))
	records, errs := readCSV(endless)
	if len(records) != 1 || len(errs) != 1 || !strings.Contains(errs[0].Error(), "line 2: the row that begins here has no end within 4194304 bytes") {
		t.Errorf("%d records, %v", len(records), errs)
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

func TestCSVReadErrors(t *testing.T) {
	broken := errors.New("the disk is broken")
	for _, before := range []string{"", "a,b\n1,2", "a,\"b\n"} {
		_, errs := readCSV(io.MultiReader(strings.NewReader(before), iotest.ErrReader(broken)))
		if len(errs) != 1 || !errors.Is(errs[0], broken) {
			t.Errorf("after %q: %v", before, errs)
		}
	}
}

// BenchmarkCSV reads rows of 300 values, by this reader and by encoding/csv.
func BenchmarkCSV(b *testing.B) {
	line := strings.TrimSuffix(strings.Repeat("12.5,yes,", 150), ",") + "\n"
	text := []byte(strings.Repeat(line, 1000))
	b.Run("rapport", func(b *testing.B) {
		b.SetBytes(int64(len(text)))
		for b.Loop() {
			l, err := newLines(bytes.NewReader(text))
			if err != nil {
				b.Fatal(err)
			}
			c := &csvReader{lines: l}
			var s csvSplitter
			for err == nil {
				var r record
				if r, err = c.find(); err == nil {
					s.split(r)
				}
			}
		}
	})
	b.Run("encoding", func(b *testing.B) {
		b.SetBytes(int64(len(text)))
		for b.Loop() {
			c := csv.NewReader(bytes.NewReader(text))
			c.ReuseRecord = true
			var err error
			for ; err == nil; _, err = c.Read() {
			}
		}
	})
}
