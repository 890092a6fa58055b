package profilestore

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
	c, err := newCSVReader(r)
	if err != nil {
		return nil, []error{err}
	}
	var s csvSplitter
	for {
		record, err := c.next()
		if errors.Is(err, io.EOF) {
			return records, errs
		}
		if err != nil {
			errs = append(errs, err)
			var bad *csvError
			if !errors.As(err, &bad) || bad.fatal {
				return records, errs
			}
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
	c, err := newCSVReader(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	var s csvSplitter
	for _, want := range []struct {
		line int64
		text string // of the last value, or of the error
	}{{1, "b"}, {3, "x\ny"}, {5, "a quote inside"}, {6, "something after the closing quote"}, {7, "z"}} {
		record, err := c.next()
		if bad, ok := errors.AsType[*csvError](err); ok {
			if bad.line != want.line || !strings.Contains(bad.message, want.text) || bad.column != 1 {
				t.Errorf("got %v in column %d, want line %d: %s", bad, bad.column, want.line, want.text)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		fields := s.split(record)
		if last := fields[len(fields)-1]; record.line != want.line || string(last) != want.text || record.terminated != (want.line != 7) {
			t.Errorf("line %d, %q, %v; want line %d, %q", record.line, last, record.terminated, want.line, want.text)
		}
	}
	if _, err := c.next(); !errors.Is(err, io.EOF) || c.read != int64(len(text)) {
		t.Errorf("at the end: %v after %d of %d bytes", err, c.read, len(text))
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
			c, err := newCSVReader(bytes.NewReader(text))
			if err != nil {
				b.Fatal(err)
			}
			var s csvSplitter
			for err == nil {
				var record csvRecord
				if record, err = c.next(); err == nil {
					s.split(record)
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
