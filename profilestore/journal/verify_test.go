package journal_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"rapport/profilestore/journal"
)

func verify(t testing.TB, dir string, first uint64) *journal.Verification {
	t.Helper()
	v, err := journal.Verify(t.Context(), dir, journal.VerifyOptions{First: first})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// readAside returns what Read gives.
func readAside(t testing.TB, dir string, from uint64) (payloads []string, err error) {
	t.Helper()
	want := from
	err = journal.Read(t.Context(), dir, from, func(seq uint64, payload []byte) error {
		if want == 0 {
			want = seq
		}
		if seq != want {
			return fmt.Errorf("record %d came where %d was expected", seq, want)
		}
		want++
		payloads = append(payloads, string(payload))
		return nil
	})
	return payloads, err
}

func TestVerify(t *testing.T) {
	dir := t.TempDir()
	if v := verify(t, dir, 0); v.Segments != 0 || v.First != 1 || v.Next != 1 || len(v.Damages) != 0 {
		t.Errorf("an empty folder: %+v", v)
	}
	if v := verify(t, dir, 10); len(v.Damages) != 1 || v.Damages[0].From != 1 || v.Damages[0].Lost != 9 {
		t.Errorf("an empty folder that had records: %+v", v)
	}
	j := mustOpen(t, dir, journal.Options{SegmentBytes: 300})
	want := fill(t, j, 60)
	v := verify(t, dir, 0) // beside the one that writes
	if v.Records != 60 || v.First != 1 || v.Next != 61 || v.Sealed || v.Tail != 0 || len(v.Damages) != 0 || v.Segments != len(segments(t, dir)) {
		t.Errorf("a journal that is open: %+v", v)
	}
	if got, err := readAside(t, dir, 17); err != nil || !slices.Equal(got, want[16:]) {
		t.Errorf("Read: %v, %q", err, got)
	}
	if _, err := j.RemoveBefore(30); err != nil {
		t.Fatal(err)
	}
	mustClose(t, j)
	v = verify(t, dir, 30)
	if first := j.First(); v.First != first || v.Records != 61-first || v.Next != 61 || !v.Sealed || len(v.Damages) != 0 {
		t.Errorf("a journal whose beginning was removed: %+v", v)
	}
	if v = verify(t, dir, 0); len(v.Damages) != 1 || v.Damages[0].From != 1 || v.Damages[0].Lost != j.First()-1 {
		t.Errorf("a journal whose beginning is missing: %+v", v)
	}
	if _, err := readAside(t, dir, 1); !errors.Is(err, journal.ErrRemoved) {
		t.Errorf("Read of what is gone: %v", err)
	}
	if got, err := readAside(t, dir, 0); err != nil || !slices.Equal(got, want[j.First()-1:]) {
		t.Errorf("Read: %v, %q", err, got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := journal.Verify(ctx, dir, journal.VerifyOptions{First: 30}); !errors.Is(err, context.Canceled) {
		t.Errorf("Verify with a canceled context: %v", err)
	}
}

// Every byte is turned over in turn. All that is lost is named, and no more than can't be read; what is not lost is
// counted. A journal with an open end may have been torn there.
func TestVerifyFindsEveryFlip(t *testing.T) {
	for _, sealed := range []bool{true, false} {
		s := makeSample(t, sealed)
		all := uint64(len(s.payloads(len(s.groups))))
		if v := verify(t, s.dir, 0); v.Records != all || v.Sealed != sealed || len(v.Damages) > 0 || v.Tail > 0 {
			t.Fatalf("undamaged: %+v", v)
		}
		tails, damages := 0, 0
		for _, path := range segments(t, s.dir) {
			whole, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			torn := int(s.from) // the last group may have been
			if sealed {
				torn = len(whole) - 20 // the seal, which holds no record
			}
			for i := range whole {
				damaged := slices.Clone(whole)
				damaged[i] ^= 0x40
				overwrite(t, path, damaged)
				if i >= 8 && i < 12 {
					if _, err := journal.Verify(t.Context(), s.dir, journal.VerifyOptions{}); err == nil {
						continue // its checksum is wrong as well
					} else if !errors.Is(err, journal.ErrVersion) {
						t.Fatal(err)
					}
				}
				v := verify(t, s.dir, 0)
				got, rerr := readAside(t, s.dir, 0)
				lost := uint64(0)
				for _, d := range v.Damages {
					if d.File != path || d.Reason == "" || d.Offset > int64(i) || d.Open && path != s.last {
						t.Fatalf("byte %d of %s: %+v", i, path, d)
					}
					lost += d.Lost
				}
				// Of the last segment nobody knows how many records it had.
				last := path == s.last
				switch {
				case v.Records+lost > all, !last && v.Records+lost != all:
					t.Fatalf("byte %d of %s: %d records and %d lost, of %d: %+v", i, path, v.Records, lost, all, v.Damages)
				case len(v.Damages) == 0 && (!last || v.Tail == 0 || i < torn):
					t.Fatalf("byte %d of %s: nothing is found: %+v", i, path, v)
				case len(v.Damages) == 0 && (rerr != nil || uint64(len(got)) != v.Records):
					t.Fatalf("byte %d of %s: Read gives %d records, %v; %+v", i, path, len(got), rerr, v)
				case len(v.Damages) > 0 && !isCorrupt(rerr):
					t.Fatalf("byte %d of %s: Read: %v; %+v", i, path, rerr, v)
				}
				damages += min(1, len(v.Damages))
				tails += int(min(1, v.Tail))
			}
			overwrite(t, path, whole)
		}
		t.Logf("sealed %v: %d flips were damages, %d could be a torn end", sealed, damages, tails)
	}
}

func isCorrupt(err error) bool {
	_, ok := errors.AsType[*journal.CorruptError](err)
	return ok
}

// Files are missing, stretches of zeros are in them, whole blocks are those of other places: Verify accounts for all
// records, and what it says is intact is.
func TestVerifyFindsDamage(t *testing.T) {
	counts := map[string]int{}
	for seed := range uint64(60) {
		random := rand.New(rand.NewPCG(seed, 9))
		dir := t.TempDir()
		j := mustOpen(t, dir, journal.Options{SegmentBytes: 4000})
		n := 40 + random.IntN(60)
		for i := range n {
			call := make([]string, 1+random.IntN(3))
			for k := range call {
				call[k] = fmt.Sprint(i, k) + strings.Repeat("z", random.IntN(400))
			}
			mustAppend(t, j, call...)
		}
		next := j.Next()
		mustClose(t, j)
		paths := segments(t, dir)
		for range 1 + random.IntN(3) {
			path := paths[random.IntN(len(paths)-1)] // of the last one nobody knows how many records it has
			b, err := os.ReadFile(path)
			if err != nil {
				continue // it has been removed
			}
			at := random.IntN(len(b))
			length := 1 + random.IntN(min(600, len(b)-at))
			switch what := []string{"removed", "zeros", "cut", "moved"}[random.IntN(4)]; what {
			case "removed":
				counts[what]++
				if err := os.Remove(path); err != nil {
					t.Fatal(err)
				}
				continue
			case "zeros":
				counts[what]++
				clear(b[at : at+length])
			case "cut":
				counts[what]++
				b = b[:at]
			case "moved":
				counts[what]++
				copy(b[at:at+length], b[random.IntN(len(b)-length+1):])
			}
			overwrite(t, path, b)
		}
		v := verify(t, dir, 0)
		lost := uint64(0)
		for _, d := range v.Damages {
			if d.Open {
				t.Errorf("seed %d: nobody knows what is lost: %+v", seed, d)
			}
			lost += d.Lost
		}
		if v.First+v.Records+lost != next || v.Next != next {
			t.Fatalf("seed %d: %d records from %d and %d lost, want up to %d: %+v", seed, v.Records, v.First, lost, next, v)
		}
		_, err := readAside(t, dir, 0)
		if (err != nil) != (len(v.Damages) > 0) && v.First == 1 {
			t.Fatalf("seed %d: Read: %v; %+v", seed, err, v)
		}
		counts["damages"] += len(v.Damages)
	}
	t.Log(counts)
}

// While somebody appends, removes and rotates, nothing looks like damage.
func TestVerifyBesideAppends(t *testing.T) {
	dir := t.TempDir()
	j := mustOpen(t, dir, journal.Options{SegmentBytes: 20_000})
	stop := make(chan struct{})
	var writing sync.WaitGroup
	writing.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			mustAppend(t, j, strings.Repeat("z", i*37%900), fmt.Sprint(i))
			if i%50 == 0 && j.Next() > 300 {
				if _, err := j.RemoveBefore(j.Next() - 300); err != nil {
					t.Error(err)
				}
			}
		}
	})
	tails := 0
	for range 100 {
		v, err := journal.Verify(t.Context(), dir, journal.VerifyOptions{First: 1 << 60})
		if errors.Is(err, journal.ErrRemoved) {
			continue // all of what was listed
		}
		if err != nil {
			t.Fatal(err)
		}
		if len(v.Damages) > 0 {
			t.Errorf("%+v", v)
		}
		tails += int(min(1, v.Tail))
		if _, err := readAside(t, dir, 0); err != nil && !errors.Is(err, journal.ErrRemoved) {
			t.Errorf("Read: %v", err)
		}
	}
	close(stop)
	writing.Wait()
	t.Logf("%d times the last group was being written; %d records", tails, j.Next())
}
