package ledger_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"rapport/server/ledger"
)

// FuzzLog reads files that nobody has written.
func FuzzLog(f *testing.F) {
	dir := f.TempDir()
	l := open(f, dir, ledger.Options{})
	place := ledger.Place{Capacity: "visits", Period: 1, Begin: 5, TakenBy: "contact"}
	reserve(f, l, "ada", 100, reservation(1, 100, 200, place))
	reserve(f, l, "ada", 20, reservation(2, 20, 30))
	if _, err := l.Commit(context.Background(), ledger.ID{1}, ledger.Outcome{Name: "contact"}, 25); err != nil {
		f.Fatal(err)
	}
	if err := l.Close(); err != nil {
		f.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "00000001.log"))
	if err != nil {
		f.Fatal(err)
	}
	for n := 0; n < len(b); n += 40 {
		f.Add(b[n:], false)
	}
	for _, payload := range ledger.Payloads(b, 1) {
		f.Add(payload, true)
	}
	f.Fuzz(func(t *testing.T, b []byte, payload bool) {
		if payload { // as a record with a good checksum, or nothing would ever get that far
			b = ledger.Frame(ledger.Frame(nil, 1, b), 1, b)
		}
		records, tail, damage := ledger.Scan(b, 1)
		if tail < 0 || tail > int64(len(b)) {
			t.Fatalf("a tail at %d of %d bytes", tail, len(b))
		}
		end := int64(0)
		for _, d := range damage {
			if d.Offset < end || d.Bytes <= 0 || d.Offset+d.Bytes > tail {
				t.Fatalf("damage %+v after %d, tail at %d", d, end, tail)
			}
			end = d.Offset + d.Bytes
		}
		// Two headers of 12 bytes with nothing behind them are no records.
		if payload && records != 2 && len(b) > 24 && len(b) < 1<<20 {
			t.Fatalf("%d records", records)
		}
	})
}
