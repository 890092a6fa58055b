package badger_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"rapport/profilestore"
	"rapport/profilestore/badger"
)

// A sealed generation has only files that opening and reading it do not change:
// their checksums are in the snapshot's manifest.
func TestOpeningAGenerationChangesNothing(t *testing.T) {
	engine := badger.Generations(silent())
	dir := filepath.Join(t.TempDir(), "rows")
	w, err := engine.BuildGeneration(dir)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 1000 {
		if err := w.Add(fmt.Appendf(nil, "customer:%06d", i), make([]byte, 400)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Seal(); err != nil {
		t.Fatal(err)
	}
	content := func() string {
		var names []string
		err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
			if b, rerr := os.ReadFile(path); rerr == nil {
				names = append(names, fmt.Sprintf("%s %d %x", filepath.Base(path), len(b), bytes.Clone(b[max(0, len(b)-64):])))
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(names, "\n")
	}
	before := content()
	for range 2 {
		g, err := engine.OpenGeneration(dir)
		if err != nil {
			t.Fatal(err)
		}
		if _, found, err := g.Get([]byte("customer:000500"), nil); !found || err != nil {
			t.Fatal(found, err)
		}
		if err := g.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if after := content(); after != before {
		t.Errorf("the files were\n%s\nand are\n%s", before, after)
	}
}

func TestClosingARemovedGeneration(t *testing.T) {
	engine := badger.Generations(silent())
	dir := filepath.Join(t.TempDir(), "rows")
	w, err := engine.BuildGeneration(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Add([]byte("a"), []byte("1")); err != nil {
		t.Fatal(err)
	}
	if err := w.Seal(); err != nil {
		t.Fatal(err)
	}
	g, err := engine.OpenGeneration(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if row, found, err := g.Get([]byte("a"), nil); !found || err != nil || string(row) != "1" {
		t.Errorf("Get = %q, %v, %v", row, found, err)
	}
	if err := g.Close(); err != nil {
		t.Error(err)
	}
}

func TestOptions(t *testing.T) {
	for _, o := range []badger.Options{{MemTableSize: 1 << 20}, {Compactors: 1}} {
		if e, err := badger.Open(t.TempDir(), o); err == nil {
			t.Errorf("%+v was accepted", o)
			_ = e.Close()
		}
	}
}

func TestLargeRecord(t *testing.T) {
	e, err := badger.Open(filepath.Join(t.TempDir(), "deltas"), badger.Options{MemTableSize: 8 << 20, Logger: silent()})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close() //nolint:errcheck // tested elsewhere
	apply := func(size int) error {
		return e.Apply(t.Context(), []profilestore.Op{{Key: []byte("a"), Change: func([]byte) []byte { return make([]byte, size) }}})
	}
	if err := apply(1<<20 - 1); err != nil {
		t.Error(err)
	}
	if err := apply(1 << 20); err == nil || !strings.Contains(err.Error(), "1048576 bytes, the limit is 1048575") {
		t.Errorf("got %v", err)
	}
	if got, _, err := e.Get(t.Context(), []byte("a"), nil); err != nil || len(got) != 1<<20-1 {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

// What Badger logs goes to slog, its errors as warnings: whether one is an error
// for Rapport is for Rapport to say.
func TestLogger(t *testing.T) {
	var b bytes.Buffer
	log := slog.New(slog.NewTextHandler(&b, &slog.HandlerOptions{Level: slog.LevelDebug}))
	e, err := badger.Open(filepath.Join(t.TempDir(), "deltas"), badger.Options{MemTableSize: 8 << 20, Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if text := b.String(); !strings.Contains(text, `level=DEBUG msg="badger: `) || strings.Contains(text, "level=INFO") || strings.Contains(text, "level=ERROR") {
		t.Errorf("logged %s", text)
	}
	if err := e.Barrier(context.Background()); err == nil {
		t.Error("a barrier on a closed engine")
	}
	if err := e.Close(); err != nil {
		t.Errorf("closed twice: %v", err)
	}
}

// BenchmarkGeneration reads rows of 363 bytes at random, and says what a
// generation that is open takes of the heap.
func BenchmarkGeneration(b *testing.B) {
	const rows = 400_000
	engine := badger.Generations(silent())
	dir := filepath.Join(b.TempDir(), "rows")
	w, err := engine.BuildGeneration(dir)
	if err != nil {
		b.Fatal(err)
	}
	row := make([]byte, 363)
	for i := range rows {
		if err := w.Add(fmt.Appendf(nil, "customer:%09d", i), row); err != nil {
			b.Fatal(err)
		}
	}
	if err := w.Seal(); err != nil {
		b.Fatal(err)
	}
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	g, err := engine.OpenGeneration(dir)
	if err != nil {
		b.Fatal(err)
	}
	defer g.Close() //nolint:errcheck // only read
	open := heap() - before
	var key, dst []byte
	b.ReportAllocs()
	for b.Loop() {
		key = fmt.Appendf(key[:0], "customer:%09d", rand.IntN(rows))
		var found bool
		if dst, found, err = g.Get(key, dst[:0]); err != nil || !found {
			b.Fatal(found, err)
		}
	}
	b.ReportMetric(float64(open)/1e6, "heap-MB")
}
