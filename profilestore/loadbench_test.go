package profilestore_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"rapport/profilestore"
)

// BenchmarkLoad loads rows of 300 fields, with the mix of types of BenchmarkRowValue;
// see rows/s, and on a machine that does other work too cpu-µs/row. Where memory is short, nearly all of them wait in a file for being sorted.
func BenchmarkLoad(b *testing.B) {
	for _, rows := range []int{100_000, 400_000} {
		for _, memory := range []int64{0, 128 << 20} {
			name := fmt.Sprintf("rows=%d", rows)
			if memory > 0 {
				name += "/spilled"
			}
			b.Run(name, func(b *testing.B) { benchmarkLoad(b, rows, memory) })
		}
	}
}

func benchmarkLoad(b *testing.B, rows int, memory int64) {
	schema := wideSchema(b)
	path := filepath.Join(b.TempDir(), "wide.csv")
	writeWide(b, path, rows)
	var size, spilled int64
	begun := processorTime()
	for b.Loop() {
		dir, err := os.MkdirTemp(b.TempDir(), "snapshots") //nolint:usetesting // one for each load
		if err != nil {
			b.Fatal(err)
		}
		report, err := profilestore.Load(context.Background(), profilestore.LoadOptions{
			Dir: dir, Schema: schema, Engine: loadEngine(), Source: "bi", Path: path, AsOf: asOf, Memory: memory,
		})
		if err != nil {
			b.Fatal(err)
		}
		size, spilled = report.Snapshot.Bytes, report.Spilled
		if err := os.RemoveAll(dir); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(rows)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
	b.ReportMetric(float64((processorTime()-begun).Microseconds())/float64(rows*b.N), "cpu-µs/row")
	b.ReportMetric(float64(size)/float64(rows), "disk-B/row")
	b.ReportMetric(float64(spilled)/float64(rows), "spilled-B/row")
}

// processorTime returns the processor time that this process has used.
func processorTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
