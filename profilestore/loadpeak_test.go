package profilestore_test

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"rapport/profilestore"
)

var peakRows = flag.Int("peak", 0, "how many rows of 300 tags TestLoadPeak loads in 256 MiB of memory")

const peakMemory = 256 << 20

// TestLoadPeakChild is not a test of its own: it is the process that is measured.
func TestLoadPeakChild(t *testing.T) {
	dir := os.Getenv("RAPPORT_TEST_PEAK")
	if dir == "" {
		t.Skip("run by TestLoadPeak")
	}
	debug.SetMemoryLimit(peakMemory) // as rapport load does
	report, err := profilestore.Load(context.Background(), profilestore.LoadOptions{
		Dir: filepath.Join(dir, "snapshots"), Schema: wideSchema(t), Engine: loadEngine(), Source: "bi",
		Path: filepath.Join(dir, "wide.csv"), AsOf: asOf, Memory: peakMemory,
	})
	if err != nil {
		t.Fatal(err)
	}
	var peak int64
	for line := range strings.Lines(string(must(os.ReadFile("/proc/self/status")))) {
		_, _ = fmt.Sscanf(line, "VmHWM: %d kB", &peak) // of one line
	}
	fmt.Printf("peak %d spilled %d bytes %d took %v\n", peak<<10, report.Spilled, report.Snapshot.Bytes, report.Took.Round(time.Millisecond)) //nolint:forbidigo // for the parent
}

// A load of rows that take many times the memory that is given stays within it, as the
// system counts it: with the pages of files that are mapped.
func TestLoadPeak(t *testing.T) {
	if *peakRows == 0 {
		t.Skip("-peak N loads N rows")
	}
	if _, err := os.Stat("/proc/self/status"); err != nil {
		t.Skip("no /proc here")
	}
	dir := t.TempDir()
	writeWide(t, filepath.Join(dir, "wide.csv"), *peakRows)
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestLoadPeakChild$")
	cmd.Env = append(os.Environ(), "RAPPORT_TEST_PEAK="+dir)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var peak, spilled, size int64
	var took string
	if _, err := fmt.Sscanf(string(out), "peak %d spilled %d bytes %d took %s", &peak, &spilled, &size, &took); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	input := must(os.Stat(filepath.Join(dir, "wide.csv"))).Size()
	t.Logf("a file of %d MB, %.1f times the memory of %d MB: peak %d MB, %d MB spilled, a snapshot of %d MB, %.1f bytes a row, in %s",
		input/1e6, float64(input)/peakMemory, peakMemory/1_000_000, peak/1e6, spilled/1e6, size/1e6, float64(size)/float64(*peakRows), took)
	if peak > peakMemory {
		t.Errorf("the load took %d MB of memory, and %d were given", peak/1e6, peakMemory/1_000_000)
	}
	if spilled == 0 {
		t.Error("nothing was spilled: load more rows")
	}
}

// wideSchema has 300 fields, with the mix of types of BenchmarkRowValue.
func wideSchema(tb testing.TB) *profilestore.Schema {
	tb.Helper()
	fields := make([]profilestore.Field, 300)
	for i := range fields {
		f := profilestore.Field{Name: fmt.Sprintf("tag.f%d", i), Batch: "bi", Decimals: profilestore.NoDecimals}
		switch i % 12 {
		case 0, 1, 2, 3, 4:
			f.Type = profilestore.TypeFlag
		case 5, 6, 7:
			f.Type, f.Decimals = profilestore.TypeNumber, 0
		case 8, 9:
			f.Type, f.Decimals = profilestore.TypeNumber, 2
		case 10:
			f.Type, f.Decimals = profilestore.TypeCounter, 2
		default:
			f.Type = profilestore.TypeText
		}
		fields[i] = f
	}
	schema, err := profilestore.NewSchema([]profilestore.Source{{ID: "bi"}}, fields)
	if err != nil {
		tb.Fatal(err)
	}
	return schema
}

// writeWide writes a CSV file of rows of wideSchema, 75% present, in no order.
func writeWide(tb testing.TB, path string, rows int) {
	tb.Helper()
	fields := wideSchema(tb).Fields()
	file, err := os.Create(path)
	if err != nil {
		tb.Fatal(err)
	}
	w := bufio.NewWriterSize(file, 1<<20)
	_, _ = w.WriteString("customer")
	for _, f := range fields {
		_, _ = w.WriteString("," + f.Name)
	}
	for r := range rows {
		_, _ = fmt.Fprintf(w, "\n%09d", r*7919%rows)
		for i, f := range fields {
			_ = w.WriteByte(',')
			switch k := (r*7919 + i*104729) % 1000; {
			case k%4 == 0:
			case f.Type == profilestore.TypeText:
				_, _ = fmt.Fprintf(w, "segment-%d", k%50)
			case f.Type == profilestore.TypeFlag:
				_, _ = fmt.Fprint(w, k%2)
			case f.Decimals == 2:
				_, _ = fmt.Fprintf(w, "%d.%02d", k*80, k%100)
			default:
				_, _ = fmt.Fprint(w, k*30)
			}
		}
	}
	_ = w.WriteByte('\n')
	if err := w.Flush(); err != nil {
		tb.Fatal(err)
	}
	if err := file.Close(); err != nil {
		tb.Fatal(err)
	}
}
