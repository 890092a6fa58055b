package batchfile_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/parquet-go/parquet-go"

	"rapport/profilestore/batchfile"
)

var damages = flag.Int("damages", 60, "how many damaged Parquet files TestDamagedParquet reads")

type row struct {
	Customer int64    `parquet:"customer"`
	Vip      bool     `parquet:"vip,optional"`
	Number   *float64 `parquet:"number,optional,zstd"`
	Cents    int64    `parquet:"cents,decimal(2:18)"`
	Time     int64    `parquet:"time,timestamp(microsecond)"`
	Text     string   `parquet:"text,dict,snappy"`
	Delta    string   `parquet:"delta,delta"`
	Set      []string `parquet:"set,list"`
	Hops     []int32  `parquet:"hops"`
}

var wanted = []batchfile.Column{
	{Name: "customer", Kind: batchfile.Key},
	{Name: "vip", Kind: batchfile.Flag},
	{Name: "number", Kind: batchfile.Number},
	{Name: "cents", Kind: batchfile.Number},
	{Name: "time", Kind: batchfile.Time},
	{Name: "text", Kind: batchfile.Text},
	{Name: "delta", Kind: batchfile.Text},
	{Name: "set", Kind: batchfile.Set},
	{Name: "hops", Kind: batchfile.Hops},
}

// rowsFile returns a Parquet file of some rows.
func rowsFile(tb testing.TB, n int, options ...parquet.WriterOption) []byte {
	tb.Helper()
	var b bytes.Buffer
	w := parquet.NewGenericWriter[row](&b, options...)
	for i := range n {
		r := row{
			Customer: int64(i), Vip: i%2 == 0, Cents: int64(i*101 - 500), Time: int64(i) * 1e6, Text: fmt.Sprint("plan ", i%3), Delta: fmt.Sprint("name ", i),
		}
		if i%3 > 0 {
			f := float64(i) / 8
			r.Number = &f
		}
		for j := range i % 4 {
			r.Set, r.Hops = append(r.Set, fmt.Sprint("e", j)), append(r.Hops, int32(j*i))
		}
		if _, err := w.Write([]row{r}); err != nil {
			tb.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

// read reads a file and returns its records, a line each.
func read(path string) (records []string, err error) {
	f, err := batchfile.Open(path, batchfile.Auto)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names := map[string]bool{}
	for _, name := range f.Names() {
		names[name] = true
	}
	for _, c := range wanted {
		if !names[c.Name] {
			return nil, io.ErrNoProgress
		}
	}
	if problems := f.Want(wanted); len(problems) > 0 {
		return nil, &batchfile.Error{Problem: problems[0]}
	}
	d := f.NewDecoder()
	b := batchfile.NewBatch()
	for {
		err := f.Next(b)
		if errors.Is(err, io.EOF) {
			return records, nil
		}
		if err != nil {
			return records, err
		}
		for i := range b.Len() {
			r := d.Decode(b, i)
			records = append(records, fmt.Sprintf("%d %q %d", r.Line, r.Values, len(r.Problems)))
			if len(d.Raw(b, i)) == 0 {
				return records, errors.New("a record that is nothing")
			}
		}
	}
}

func TestParquetValues(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.parquet")
	if err := os.WriteFile(path, rowsFile(t, 4), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := read(path)
	want := []string{
		`1 ["0" "true" "" "-5" "1970-01-01T00:00:00Z" "plan 0" "name 0" "" ""] 0`,
		`2 ["1" "" "0.125" "-3.99" "1970-01-01T00:00:01Z" "plan 1" "name 1" "e0" "0"] 0`,
		`3 ["2" "true" "0.25" "-2.98" "1970-01-01T00:00:02Z" "plan 2" "name 2" "e0;e1" "0;2"] 0`,
		`4 ["3" "" "" "-1.97" "1970-01-01T00:00:03Z" "plan 0" "name 3" "e0;e1;e2" "0;3;6"] 0`,
	}
	if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%v\n%s\nwant\n%s", err, got, want)
	}
}

// A file that is not as it was written gives its rows, others, or an error; never a
// panic, and no row group is given in part without an error.
func TestDamagedParquet(t *testing.T) {
	whole := rowsFile(t, 500, parquet.MaxRowsPerRowGroup(200), parquet.PageBufferSize(256))
	dir := t.TempDir()
	path := filepath.Join(dir, "a.parquet")
	kinds := map[string]int{}
	for seed := range *damages {
		r := rand.New(rand.NewPCG(uint64(seed), 1))
		b := bytes.Clone(whole)
		for range 1 + r.IntN(3) {
			at := r.IntN(len(b))
			if r.IntN(2) == 0 { // its end describes it, and little of it is values
				at = len(b) - 1 - r.IntN(min(len(b), 3000))
			}
			switch r.IntN(4) {
			case 0:
				b[at] ^= 1 << r.IntN(8)
			case 1:
				clear(b[at:min(len(b), at+r.IntN(64))])
			case 2:
				b[at] = 0xff
			default:
				if len(b) > 100 && r.IntN(4) == 0 {
					b = append(b[:at:at], b[min(len(b), at+r.IntN(100)):]...)
				}
				if len(b) == 0 {
					b = []byte{0}
				}
			}
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		records, err := read(path)
		bad := new(batchfile.Error)
		switch {
		case err == nil && len(records) == 500:
			kinds["all rows"]++
		case err == nil:
			kinds["other rows"]++
		case errors.As(err, &bad) || errors.Is(err, io.ErrNoProgress):
			kinds["an error"]++
			if bytes.Contains([]byte(bad.Message), []byte("panicked")) {
				kinds["a panic of the library"]++
			}
		default:
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
	t.Log(kinds)
}

// FuzzParquet reads arbitrary bytes between a file's magics.
func FuzzParquet(f *testing.F) {
	f.Add(rowsFile(f, 3))
	f.Add(rowsFile(f, 40, parquet.MaxRowsPerRowGroup(7), parquet.DataPageVersion(1)))
	f.Add(rowsFile(f, 9, parquet.Compression(&parquet.Gzip)))
	f.Add([]byte("PAR1PAR1"))
	path := filepath.Join(f.TempDir(), "a.parquet")
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 8 {
			b = bytes.Clone(b)
			copy(b, "PAR1")
			copy(b[len(b)-4:], "PAR1")
		}
		name := fmt.Sprintf("%s.%d", path, os.Getpid())
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := read(name)
		bad := new(batchfile.Error)
		if err != nil && !errors.As(err, &bad) && !errors.Is(err, io.ErrNoProgress) {
			t.Fatal(err)
		}
	})
}
