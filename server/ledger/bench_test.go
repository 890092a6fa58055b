package ledger_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"

	"rapport/server/ledger"
)

func benchID(n uint64) (id ledger.ID) {
	binary.LittleEndian.PutUint64(id[:], n)
	return id
}

// BenchmarkDecision is what a decision costs: one that promises nothing, one that makes a
// contact, with a place of a capacity, and with its outcome.
func BenchmarkDecision(b *testing.B) {
	place := ledger.Place{Capacity: "visits", TakenBy: "accepted", Offer: "data_10g"}
	for _, name := range []string{"nothing", "contact", "place", "outcome"} {
		b.Run(name, func(b *testing.B) {
			l := open(b, b.TempDir(), ledger.Options{SyncEvery: 1e9})
			names := make([]string, 10_000)
			for i := range names {
				names[i] = fmt.Sprint("customer:", i)
			}
			r := reservation(0, 0, 0)
			if name != "contact" {
				r.Taken = []ledger.Place{place}
			}
			ctx := context.Background()
			b.ReportAllocs()
			n := uint64(0)
			for b.Loop() {
				n++
				now := int64(n)
				h, err := l.Begin(ctx, now, names[n%uint64(len(names))])
				if err != nil {
					b.Fatal(err)
				}
				h.Pending()
				if name != "nothing" {
					if name != "contact" {
						h.Take(place, 1<<40)
					}
					r.ID, r.Contact.Time, r.Expires = benchID(n), now, now+20_000
					if err := h.Reserve(ctx, r); err != nil {
						b.Fatal(err)
					}
				}
				h.End()
				if name == "outcome" {
					if _, err := l.Commit(ctx, r.ID, ledger.Outcome{Name: "accepted"}, now); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}

// BenchmarkParallel is how many contacts a second many callers make.
func BenchmarkParallel(b *testing.B) {
	l := open(b, b.TempDir(), ledger.Options{SyncEvery: 1e9})
	var n atomic.Uint64
	b.SetParallelism(32)
	b.ReportAllocs()
	b.RunParallel(func(p *testing.PB) {
		ctx := context.Background()
		r := reservation(0, 0, 0)
		for p.Next() {
			i := n.Add(1)
			h, err := l.Begin(ctx, int64(i), fmt.Sprint("customer:", i%100_000))
			if err != nil {
				b.Error(err)
				return
			}
			h.Pending()
			r.ID, r.Contact.Time, r.Expires = benchID(i), int64(i), int64(i)+100_000
			if err := h.Reserve(ctx, r); err != nil {
				b.Error(err)
			}
			h.End()
		}
	})
}

// BenchmarkWrite writes what a contact needs to a file, nothing else.
func BenchmarkWrite(b *testing.B) {
	f, err := os.Create(filepath.Join(b.TempDir(), "raw"))
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	record := make([]byte, 100)
	for b.Loop() {
		if _, err := f.Write(record); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkMillion is what a million pending contacts cost: in memory, on disk, and to
// read at the start.
func BenchmarkMillion(b *testing.B) {
	const million = 1_000_000
	dir := b.TempDir()
	l := open(b, dir, ledger.Options{})
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for n := range uint64(million) {
		h, err := l.Begin(context.Background(), 1, fmt.Sprint("customer:", n))
		if err != nil {
			b.Fatal(err)
		}
		r := reservation(0, 1, 1<<40)
		r.ID = benchID(n)
		if err := h.Reserve(context.Background(), r); err != nil {
			b.Fatal(err)
		}
		h.End()
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	s := l.Stats()
	if err := l.Close(); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		l = open(b, dir, ledger.Options{})
		if n := l.Stats().Pending; n != million {
			b.Fatal(n)
		}
		_ = l.Close()
	}
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/million, "B/contact")
	b.ReportMetric(float64(s.Bytes)/million, "disk-B/contact")
}
