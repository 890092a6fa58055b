package journal_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"rapport/profilestore/journal"
)

// closedJournal makes a journal of several groups that was closed, and returns its file.
func closedJournal(t *testing.T, entries int) (dir, file string) {
	t.Helper()
	dir = t.TempDir()
	j, err := journal.Open(dir, journal.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range entries {
		if _, err := j.Append(t.Context(), &journal.Entry{Payload: fmt.Appendf(nil, "entry %d", i+1)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.journal"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	return dir, files[0]
}

// Any bit of a journal that is turned over is found again, but for those of the seal at
// its end, which Open writes anew.
func TestFlippedBitIsFound(t *testing.T) {
	dir, file := closedJournal(t, 8)
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	seal := 8 * (len(whole) - 20)
	for bit := range seal {
		b := bytes.Clone(whole)
		b[bit/8] ^= 1 << (bit % 8)
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
		v, err := journal.Verify(t.Context(), dir, journal.VerifyOptions{})
		if err != nil {
			t.Fatalf("bit %d: %v", bit, err)
		}
		if len(v.Damages) == 0 {
			t.Fatalf("bit %d: no damage is found: %+v", bit, v)
		}
		found, ok, err := journal.FindFlippedBit(t.Context(), dir, v.Damages[0])
		if err != nil || !ok || found.Offset != int64(bit/8) || found.Mask != 1<<(bit%8) {
			t.Fatalf("bit %d, damage %+v: found %+v, %v, %v", bit, v.Damages[0], found, ok, err)
		}
		if bit%512 != 0 { // it syncs
			continue
		}
		if err := found.Mend(); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, whole) {
			t.Fatalf("bit %d: the file is not as it was", bit)
		}
	}
}

// What more than a bit has damaged is cut out: the records around it keep their numbers.
func TestCutOut(t *testing.T) {
	for _, at := range []int{40, 100, 200, 300} {
		dir, file := closedJournal(t, 12)
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		clear(b[at : at+50])
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
		v, err := journal.Verify(t.Context(), dir, journal.VerifyOptions{})
		if err != nil || len(v.Damages) != 1 {
			t.Fatalf("%+v, %v", v, err)
		}
		if _, ok, err := journal.FindFlippedBit(t.Context(), dir, v.Damages[0]); ok || err != nil {
			t.Fatalf("one bit of 400: %v, %v", ok, err)
		}
		lost, err := journal.CutOut(t.Context(), dir, v.Damages[0], filepath.Join(dir, "aside"))
		if err != nil || lost == 0 || lost != v.Damages[0].Lost {
			t.Fatalf("%d are lost, %d were said to be: %v", lost, v.Damages[0].Lost, err)
		}
		j, err := journal.Open(dir, journal.Options{})
		if err != nil {
			t.Fatal(err)
		}
		empty := uint64(0)
		err = j.Replay(context.Background(), 1, func(seq uint64, payload []byte) error {
			if len(payload) == 0 {
				empty++
			} else if want := fmt.Sprintf("entry %d", seq); string(payload) != want {
				t.Errorf("record %d is %q", seq, payload)
			}
			return nil
		})
		if err != nil || empty != lost || j.Next() != 13 {
			t.Errorf("%d of %d records are empty, next is %d: %v", empty, lost, j.Next(), err)
		}
		if err := j.Close(); err != nil {
			t.Error(err)
		}
		aside, err := os.ReadFile(filepath.Join(dir, "aside", filepath.Base(file)))
		if err != nil || !bytes.Equal(aside, b) {
			t.Errorf("the damaged file was not kept: %v", err)
		}
	}
}
