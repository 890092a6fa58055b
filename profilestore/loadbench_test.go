package profilestore_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"rapport/profilestore"
)

// BenchmarkLoad loads 100,000 rows of 300 fields, with the mix of types of
// BenchmarkRowValue; see rows/s.
func BenchmarkLoad(b *testing.B) {
	const rows = 100_000
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
		b.Fatal(err)
	}
	path := filepath.Join(b.TempDir(), "wide.csv")
	file, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	w := bufio.NewWriter(file)
	_, _ = w.WriteString("customer")
	for _, f := range fields {
		_, _ = w.WriteString("," + f.Name)
	}
	for r := range rows {
		_, _ = fmt.Fprintf(w, "\n%09d", r)
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
	if err := w.Flush(); err != nil {
		b.Fatal(err)
	}
	if err := file.Close(); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		dir, err := os.MkdirTemp(b.TempDir(), "snapshots") //nolint:usetesting // one for each load
		if err != nil {
			b.Fatal(err)
		}
		if _, err := profilestore.Load(context.Background(), profilestore.LoadOptions{
			Dir: dir, Schema: schema, Engine: loadEngine(), Source: "bi", Path: path, AsOf: asOf,
		}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(rows*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
}
