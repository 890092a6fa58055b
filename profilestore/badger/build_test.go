package badger_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	bdb "github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
	"github.com/dgraph-io/badger/v4/pb"
	"github.com/dgraph-io/ristretto/v2/z"

	"rapport/profilestore"
	"rapport/profilestore/badger"
)

// wideFile writes a file of 300 tags, 75% present, as TestRowSize has them, and
// returns their schema.
func wideFile(tb testing.TB, path string, rows int) *profilestore.Schema {
	tb.Helper()
	var fields []profilestore.Field
	var b bytes.Buffer
	b.WriteString("customer")
	for i := range 300 {
		f := profilestore.Field{Name: fmt.Sprintf("tag.f%d", i), Batch: "bi", Type: profilestore.TypeNumber, Decimals: profilestore.NoDecimals}
		switch i % 12 {
		case 0, 1, 2, 3, 4:
			f.Type = profilestore.TypeFlag
		case 5, 6, 7:
			f.Decimals = 0
		case 8, 9:
			f.Decimals = 2
		case 10:
			f.Type, f.Decimals = profilestore.TypeCounter, 2
		default:
			f.Type = profilestore.TypeText
		}
		fields = append(fields, f)
		fmt.Fprintf(&b, ",%s", f.Name)
	}
	b.WriteByte('\n')
	schema, err := profilestore.NewSchema([]profilestore.Source{{ID: "bi"}}, fields)
	if err != nil {
		tb.Fatal(err)
	}
	for r := range rows {
		fmt.Fprintf(&b, "%d", r*7919%rows)
		for i, f := range fields {
			k := (r*7919 + i*104729) % 1000
			switch {
			case k%4 == 0:
				b.WriteByte(',')
			case f.Type == profilestore.TypeText:
				fmt.Fprintf(&b, ",segment-%d", k%50)
			case f.Type == profilestore.TypeFlag:
				b.WriteString([]string{",no", ",yes"}[k%2])
			case i%12 == 5:
				fmt.Fprintf(&b, ",%d", k%100)
			case f.Decimals == 0:
				fmt.Fprintf(&b, ",%d", k*30)
			case i%12 == 10:
				fmt.Fprintf(&b, ",%d.25", k*9000)
			default:
				fmt.Fprintf(&b, ",%d.5", k*80)
			}
		}
		b.WriteByte('\n')
	}
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		tb.Fatal(err)
	}
	return schema
}

// timedEngine notes when the writing of a generation begins, and its rows.
type timedEngine struct {
	profilestore.GenerationEngine
	begun      time.Time
	cpu        time.Duration
	keys, rows [][]byte
	record     bool
}

type timedWriter struct {
	profilestore.GenerationWriter
	engine *timedEngine
}

func (e *timedEngine) BuildGeneration(dir string) (profilestore.GenerationWriter, error) {
	e.begun, e.cpu = time.Now(), cpuTime()
	w, err := e.GenerationEngine.BuildGeneration(dir)
	return timedWriter{w, e}, err
}

func (w timedWriter) Add(key, row []byte) error {
	if w.engine.record {
		w.engine.keys = append(w.engine.keys, bytes.Clone(key))
		w.engine.rows = append(w.engine.rows, bytes.Clone(row))
	}
	return w.GenerationWriter.Add(key, row)
}

// cpuTime returns the processor time that this process has used.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// rawStream writes rows with Badger's StreamWriter and nothing else.
func rawStream(tb testing.TB, dir string, keys, rows [][]byte) {
	tb.Helper()
	fail := func(err error) {
		if err != nil {
			tb.Fatal(err)
		}
	}
	db, err := bdb.Open(bdb.DefaultOptions(dir).WithLogger(nil).WithCompression(options.None).WithBlockCacheSize(0).WithMetricsEnabled(false))
	fail(err)
	w := db.NewStreamWriter()
	fail(w.Prepare())
	buf := z.NewBuffer(5<<20, "test")
	for i := range keys {
		bdb.KVToBuffer(&pb.KV{Key: keys[i], Value: rows[i], Version: 1}, buf)
		if buf.LenNoPadding() > 4<<20 {
			fail(w.Write(buf))
			buf.Reset()
		}
	}
	fail(w.Write(buf))
	fail(w.Flush())
	fail(buf.Release())
	fail(db.Close())
}

// BenchmarkBuild compares, in turns, Badger's StreamWriter with what a load does
// with the same rows, which are 300 tags wide: "build" is from the sorted rows in
// memory to the sealed snapshot (encode, hash, write, read back, verify, sync),
// "load" from the CSV file to there. The ratios are rates over the raw one's; the
// goal for a build is 0.6. The ratio of processor times is the one to look at on a
// machine that does other work too.
func BenchmarkBuild(b *testing.B) {
	const rows = 100_000
	dir := b.TempDir()
	file := filepath.Join(dir, "bi.csv")
	schema := wideFile(b, file, rows)
	engine := &timedEngine{GenerationEngine: badger.Generations(silent()), record: true}
	load := func(i int) (build, total, cpu time.Duration) {
		begun := time.Now()
		asOf := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(i) * time.Hour).UnixMicro()
		if _, err := profilestore.Load(context.Background(), profilestore.LoadOptions{
			Dir: filepath.Join(dir, "snapshots"), Schema: schema, Engine: engine, Source: "bi", Path: file, AsOf: asOf,
		}); err != nil {
			b.Fatal(err)
		}
		return time.Since(engine.begun), time.Since(begun), cpuTime() - engine.cpu
	}
	load(0)
	engine.record = false
	var raw, build, total, rawCPU, buildCPU time.Duration
	bytes, i := 0, 0
	for _, row := range engine.rows {
		bytes += len(row)
	}
	for b.Loop() {
		i++
		begun, cpu := time.Now(), cpuTime()
		rawDir := filepath.Join(dir, fmt.Sprintf("raw-%d", i))
		rawStream(b, rawDir, engine.keys, engine.rows)
		raw, rawCPU = raw+time.Since(begun), rawCPU+cpuTime()-cpu
		if err := os.RemoveAll(rawDir); err != nil {
			b.Fatal(err)
		}
		built, all, cpu := load(i)
		build, total, buildCPU = build+built, total+all, buildCPU+cpu
	}
	b.ReportMetric(float64(bytes)/rows, "B/row")
	b.ReportMetric(rows*float64(i)/raw.Seconds(), "raw-rows/s")
	b.ReportMetric(raw.Seconds()/build.Seconds(), "build/raw")
	b.ReportMetric(rawCPU.Seconds()/buildCPU.Seconds(), "build/raw-cpu")
	b.ReportMetric(raw.Seconds()/total.Seconds(), "load/raw")
}
