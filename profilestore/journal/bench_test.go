package journal_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"rapport/profilestore/journal"
)

const benchPayload = 250 // bytes: an event

// BenchmarkAppend appends rounds of entries and after each round writes and syncs the same bytes in the same groups to a
// raw file, so that both see the same disk. "x-raw" is the journal's throughput over the raw file's.
func BenchmarkAppend(b *testing.B) {
	for _, c := range []struct{ callers, each, batch int }{{1, 64, 1}, {64, 32, 1}, {512, 16, 1}, {4, 16, 128}} {
		b.Run(fmt.Sprintf("callers=%d,batch=%d", c.callers, c.batch), func(b *testing.B) {
			benchmarkAppend(b, c.callers, c.each, c.batch)
		})
	}
}

func benchmarkAppend(b *testing.B, callers, each, batch int) {
	dir := b.TempDir()
	var groups []int
	j, err := journal.Open(dir, journal.Options{OnSync: func(_, bytes int, _ time.Duration) { groups = append(groups, bytes) }})
	if err != nil {
		b.Fatal(err)
	}
	defer mustClose(b, j)
	raw, err := os.Create(filepath.Join(dir, "raw"))
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = raw.Close() }()
	zeros := make([]byte, 4<<20)
	es := make([]*journal.Entry, batch)
	for i := range es {
		es[i] = &journal.Entry{Payload: make([]byte, benchPayload)}
	}
	ours, theirs := func() {
		var wg sync.WaitGroup
		for range callers {
			wg.Go(func() {
				for range each {
					if _, err := j.Append(context.Background(), es...); err != nil {
						b.Error(err)
					}
				}
			})
		}
		wg.Wait()
	}, func() {
		for _, n := range groups {
			if _, err := raw.Write(zeros[:n]); err != nil {
				b.Fatal(err)
			}
			if err := raw.Sync(); err != nil {
				b.Fatal(err)
			}
		}
	}
	var tOurs, tTheirs time.Duration
	var syncs int
	for b.Loop() {
		groups = groups[:0]
		tOurs += timed(ours)
		syncs += len(groups)
		tTheirs += timed(theirs)
	}
	n := float64(b.N * callers * each * batch)
	b.ReportMetric(tTheirs.Seconds()/tOurs.Seconds(), "x-raw")
	b.ReportMetric(n/tOurs.Seconds(), "entries/s")
	b.ReportMetric(n/float64(syncs), "entries/sync")
	b.ReportMetric(0, "ns/op")
}

func timed(f func()) time.Duration {
	start := time.Now()
	f()
	return time.Since(start)
}

// BenchmarkReplay replays 200 thousand records, and between the rounds reads the same files raw.
func BenchmarkReplay(b *testing.B) {
	dir := b.TempDir()
	j := mustOpen(b, dir, journal.Options{})
	es := make([]*journal.Entry, 500)
	for i := range es {
		es[i] = &journal.Entry{Payload: make([]byte, benchPayload)}
	}
	const records = 200_000
	for range records / len(es) {
		if _, err := j.Append(b.Context(), es...); err != nil {
			b.Fatal(err)
		}
	}
	var tOurs, tTheirs time.Duration
	var size int64
	buf := make([]byte, 256<<10)
	for b.Loop() {
		n := 0
		tOurs += timed(func() {
			if err := j.Replay(b.Context(), 1, func(uint64, []byte) error { n++; return nil }); err != nil {
				b.Fatal(err)
			}
		})
		if n != records {
			b.Fatalf("%d records", n)
		}
		tTheirs += timed(func() {
			for _, path := range segments(b, dir) {
				f, err := os.Open(path)
				if err != nil {
					b.Fatal(err)
				}
				got, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{f}, buf)
				if err != nil {
					b.Fatal(err)
				}
				size += got
				_ = f.Close()
			}
		})
	}
	b.ReportMetric(tTheirs.Seconds()/tOurs.Seconds(), "x-raw")
	b.ReportMetric(float64(size)/1e6/tOurs.Seconds(), "MB/s")
	b.ReportMetric(float64(b.N*records)/tOurs.Seconds(), "entries/s")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkGroupQuiet is behind the default of Options.GroupQuiet: entries in a sync and the median latency, for a lone
// caller, for 64 in a loop, and for 64 that come 5 times in a millisecond. The settings take turns.
func BenchmarkGroupQuiet(b *testing.B) {
	quiets := []time.Duration{1, 20 * time.Microsecond, 100 * time.Microsecond, 200 * time.Microsecond}
	for _, c := range []struct {
		name    string
		callers int
		pause   time.Duration
	}{{"lone", 1, 0}, {"loop64", 64, 0}, {"paced", 64, 12 * time.Millisecond}} {
		b.Run(c.name, func(b *testing.B) {
			js := make([]*journal.Journal, len(quiets))
			took := make([][]time.Duration, len(quiets))
			for i, q := range quiets {
				var err error
				if js[i], err = journal.Open(b.TempDir(), journal.Options{GroupQuiet: q}); err != nil {
					b.Fatal(err)
				}
				defer mustClose(b, js[i])
			}
			for b.Loop() {
				for i, j := range js {
					took[i] = append(took[i], appendPaced(b, j, c.callers, c.pause)...)
				}
			}
			for i, q := range quiets {
				slices.Sort(took[i])
				b.ReportMetric(float64(len(took[i]))/float64(js[i].Syncs()), fmt.Sprintf("entries/sync@%v", q))
				b.ReportMetric(float64(took[i][len(took[i])/2].Microseconds()), fmt.Sprintf("µs@%v", q))
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

// appendPaced lets callers append 20 entries each, with pauses, and returns how long each took.
func appendPaced(b *testing.B, j *journal.Journal, callers int, pause time.Duration) (took []time.Duration) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	for g := range callers {
		wg.Go(func() {
			e := &journal.Entry{Payload: make([]byte, benchPayload)}
			<-time.After(pause * time.Duration(g) / time.Duration(callers))
			for range 20 {
				d := timed(func() {
					if _, err := j.Append(context.Background(), e); err != nil {
						b.Error(err)
					}
				})
				mu.Lock()
				took = append(took, d)
				mu.Unlock()
				if pause > 0 {
					<-time.After(pause)
				}
			}
		})
	}
	wg.Wait()
	return took
}
