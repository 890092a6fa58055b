package journal_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"rapport/profilestore/journal"
)

// sample is a journal of two segments and what is in it.
type sample struct {
	dir    string
	groups [][]string // payloads, a group to each call
	ends   []end      // where each group ends
	last   string     // the last segment's name
	from   int64      // where its last group starts
}

type end struct {
	segment int
	at      int64
}

// makeSample makes a small journal that was closed and reopened once; without seal its end looks as after kill -9.
func makeSample(t testing.TB, sealed bool) sample {
	t.Helper()
	s := sample{groups: [][]string{{"a"}, {"b", "", "cc"}, {"dddd"}, {"e", "ff"}, {"g"}, {"hhhh", "", "i", "jj"}}}
	dir := t.TempDir()
	at := end{0, 32}
	o := journal.Options{SegmentBytes: 200, OnSync: func(_, bytes int, _ time.Duration) {
		if at.at > 32 && at.at+int64(bytes) > 200 {
			at = end{at.segment + 1, 32}
		}
		at.at += int64(bytes)
		s.ends = append(s.ends, at)
	}}
	j := mustOpen(t, dir, o)
	for i, g := range s.groups {
		mustAppend(t, j, g...)
		if i == 4 {
			mustClose(t, j)
			at.at += 20 // the seal
			s.from = at.at
			j = mustOpen(t, dir, o)
		}
	}
	if sealed {
		mustClose(t, j)
	}
	s.dir = copyDir(t, dir)
	if !sealed {
		mustClose(t, j)
	}
	paths := segments(t, s.dir)
	if s.last = paths[len(paths)-1]; len(paths) != 2 || s.ends[3].segment != 0 || at.segment != 1 {
		t.Fatalf("%d segments, groups end at %v", len(paths), s.ends)
	}
	return s
}

func (s sample) payloads(groups int) []string { return slices.Concat(s.groups[:groups]...) }

// A write of the last segment cut short at any byte, with nothing, zeros or garbage behind the cut.
func TestTornTail(t *testing.T) {
	s := makeSample(t, true)
	whole, err := os.ReadFile(s.last)
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(1, 2))
	garbage := make([]byte, 700)
	for i := range garbage {
		garbage[i] = byte(random.Uint32())
	}
	for cut := range len(whole) + 1 {
		for _, tail := range [][]byte{nil, make([]byte, 1), make([]byte, 700), garbage} {
			if cut < 32 { // nothing is written behind a header that is not synced
				tail = tail[:min(len(tail), 32-cut)]
			}
			torn := slices.Concat(whole[:cut], tail)
			overwrite(t, s.last, torn)
			same := 0 // zeros behind the cut may be what was there
			for same < min(len(torn), len(whole)) && torn[same] == whole[same] {
				same++
			}
			survive := 0
			for _, e := range s.ends {
				if e.segment == 0 || e.at <= int64(same) {
					survive++
				}
			}
			want := s.payloads(survive)
			var log bytes.Buffer
			j := mustOpen(t, s.dir, journal.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
			wantReplay(t, j, want)
			rec := j.Recovery()
			if wasCut := rec.File != ""; wasCut != strings.Contains(log.String(), "cut off") ||
				wasCut && (rec.File != s.last || rec.Offset > int64(same) || rec.Offset+rec.Bytes != int64(len(torn)) || rec.Reason == "") {
				t.Fatalf("cut at %d with %d bytes behind: %+v, log %q", cut, len(tail), rec, log.String())
			}
			mustAppend(t, j, "more", "and more")
			mustClose(t, j)
			j = mustOpen(t, s.dir, journal.Options{})
			if rec := j.Recovery(); !rec.Sealed || rec.File != "" {
				t.Fatalf("cut at %d: after recovery and Close: %+v", cut, rec)
			}
			wantReplay(t, j, append(want, "more", "and more"))
			mustClose(t, j)
		}
	}
}

// Every bit of a journal, turned over. A sealed journal never loses a record, an unsealed one at most its last group, and
// no record is ever delivered that was not written.
func TestBitFlips(t *testing.T) {
	for _, sealed := range []bool{true, false} {
		for _, checkFrom := range []uint64{0, 100} {
			t.Run(fmt.Sprintf("sealed=%v,checkFrom=%d", sealed, checkFrom), func(t *testing.T) {
				s := makeSample(t, sealed)
				for _, path := range segments(t, s.dir) {
					flipAll(t, s, path, sealed, checkFrom)
				}
			})
		}
	}
}

func flipAll(t *testing.T, s sample, path string, sealed bool, checkFrom uint64) {
	t.Helper()
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	tail, err := os.ReadFile(s.last)
	if err != nil {
		t.Fatal(err)
	}
	defer overwrite(t, path, whole)
	all, least := s.payloads(len(s.groups)), s.payloads(len(s.groups)-1)
	if sealed {
		least = all
	}
	for bit := range len(whole) * 8 {
		if checkFrom > 0 && bit%8 != bit/8%8 {
			continue // one bit of each byte will do
		}
		b := slices.Clone(whole)
		b[bit/8] ^= 1 << (bit % 8)
		overwrite(t, path, b)
		var got []string
		j, err := journal.Open(s.dir, journal.Options{FS: &testFS{}, CheckFrom: checkFrom})
		if err == nil {
			got, err = replay(j, 1)
			_ = j.Close()
			overwrite(t, s.last, tail) // Close has written into it
		} else if after, _ := os.ReadFile(path); !bytes.Equal(after, b) {
			t.Fatalf("bit %d of byte %d: Open refused and changed the file", bit%8, bit/8)
		}
		if len(got) > len(all) || !slices.Equal(got, all[:len(got)]) {
			t.Fatalf("bit %d of byte %d: got %q, never written", bit%8, bit/8, got)
		}
		var corrupt *journal.CorruptError
		switch {
		case errors.As(err, &corrupt):
			if corrupt.File != path || corrupt.Offset > int64(bit/8) || corrupt.Reason == "" {
				t.Fatalf("bit %d of byte %d of %s: %v", bit%8, bit/8, path, err)
			}
		case err != nil:
			t.Fatalf("bit %d of byte %d: %v", bit%8, bit/8, err)
		case path != s.last:
			t.Fatalf("bit %d of byte %d of the first segment: not noticed", bit%8, bit/8)
		case len(got) < len(least), len(got) < len(all) && int64(bit/8) < s.from:
			t.Fatalf("bit %d of byte %d: %d records survive of %d", bit%8, bit/8, len(got), len(all))
		}
	}
}

// overwrite is os.WriteFile without truncating to nothing first, after which ext4 waits for the disk.
func overwrite(t testing.TB, path string, b []byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt(b, 0)
	if err = errors.Join(err, f.Truncate(int64(len(b))), f.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestDamage(t *testing.T) {
	segment := func(dir string, i int) string { return segments(t, dir)[i] }
	for name, c := range map[string]struct {
		damage func(t *testing.T, s sample) error
		reason string
	}{
		"first segment missing": {func(_ *testing.T, s sample) error {
			return os.Remove(segment(s.dir, 0))
		}, "missing"},
		"first segment cut at a group": {func(_ *testing.T, s sample) error {
			return os.Truncate(segment(s.dir, 0), s.ends[1].at)
		}, "its last records are missing"},
		"first segment empty": {func(_ *testing.T, s sample) error {
			return os.Truncate(segment(s.dir, 0), 0)
		}, "without header"},
		"last segment renamed": {func(_ *testing.T, s sample) error {
			return os.Rename(s.last, filepath.Join(s.dir, "00000000000000000099.journal"))
		}, "99"},
		"bad name": {func(_ *testing.T, s sample) error {
			return os.Rename(s.last, filepath.Join(s.dir, "8.journal"))
		}, "20 digits"},
		"another journal's segment": {func(t *testing.T, s sample) error {
			return os.Rename(makeSample(t, true).last, s.last)
		}, "another journal"},
		"a group twice": {func(_ *testing.T, s sample) error {
			b, err := os.ReadFile(s.last)
			if err != nil {
				return err
			}
			return os.WriteFile(s.last, append(b, b[32:]...), 0o600)
		}, "go on with"},
		"a group left out": {func(_ *testing.T, s sample) error {
			b, err := os.ReadFile(s.last)
			if err != nil {
				return err
			}
			n := s.ends[len(s.ends)-2].at
			return os.WriteFile(s.last, append(b[:32:32], b[n:]...), 0o600)
		}, "go on with"},
		"a group left out before the last": {func(t *testing.T, s sample) error {
			b := read(t, s.last)
			b = b[:len(b)-20] // the seal
			return os.WriteFile(s.last, slices.Delete(b, 32, int(s.from)), 0o600)
		}, "go on with"},
		"the last group twice": {func(t *testing.T, s sample) error {
			b := read(t, s.last)
			b = b[:len(b)-20]
			return os.WriteFile(s.last, append(b, b[s.from:]...), 0o600)
		}, "go on with"},
		"zeros in the middle": {func(_ *testing.T, s sample) error {
			b, err := os.ReadFile(s.last)
			if err != nil {
				return err
			}
			clear(b[32:60])
			return os.WriteFile(s.last, b, 0o600)
		}, "later group"},
		"not a journal": {func(_ *testing.T, s sample) error {
			return os.WriteFile(s.last, bytes.Repeat([]byte("text\n"), 100), 0o600)
		}, "no journal segment"},
	} {
		t.Run(name, func(t *testing.T) {
			s := makeSample(t, true)
			if err := c.damage(t, s); err != nil {
				t.Fatal(err)
			}
			before := snapshot(t, s.dir)
			for _, checkFrom := range []uint64{0, 1000} {
				j, err := journal.Open(s.dir, journal.Options{FS: &testFS{}, CheckFrom: checkFrom})
				if err == nil {
					_ = j.Close()
				}
				if _, ok := errors.AsType[*journal.CorruptError](err); !ok {
					t.Fatalf("got %v", err)
				}
				if checkFrom == 0 && !strings.Contains(err.Error(), c.reason) {
					t.Errorf("%v, want a word on %q", err, c.reason)
				}
			}
			if after := snapshot(t, s.dir); after != before {
				t.Error("Open refused and changed the directory")
			}
		})
	}
}

func snapshot(t testing.TB, dir string) string {
	t.Helper()
	var b strings.Builder
	for _, p := range segments(t, dir) {
		data, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%s %x\n", p, data)
	}
	return b.String()
}

func TestUnknownVersion(t *testing.T) {
	for i := range 2 {
		s := makeSample(t, true)
		path := segments(t, s.dir)[i]
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		b[8] = 2
		table := crc32.MakeTable(crc32.Castagnoli)
		binary.LittleEndian.PutUint32(b[12:], crc32.Update(crc32.Checksum(b[:12], table), table, b[16:32]))
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err = journal.Open(s.dir, journal.Options{FS: &testFS{}})
		if !errors.Is(err, journal.ErrVersion) || !strings.Contains(err.Error(), "version 2") || !strings.Contains(err.Error(), path) {
			t.Errorf("got %v", err)
		}
	}
}

// A header that lacks only zeros is no header.
func TestHeaderCutInItsZeros(t *testing.T) {
	dir := t.TempDir()
	mustClose(t, mustOpen(t, dir, journal.Options{}))
	path := segments(t, dir)[0]
	b := read(t, path)[:32]
	clear(b[28:])
	resum(b)
	for cut := range 33 {
		overwrite(t, path, b[:cut])
		j := mustOpen(t, dir, journal.Options{})
		if rec := j.Recovery(); (rec.File == "") != (cut == 32) || rec.Bytes > 31 {
			t.Errorf("header cut at %d: %+v", cut, rec)
		}
		mustAppend(t, j, "x")
		mustClose(t, j)
		wantReplay(t, mustOpen(t, dir, journal.Options{}), []string{"x"})
	}
}

// Open leaves alone what is not the journal's, and makes what is missing above it.
func TestOpenDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	fs := &testFS{}
	j := mustOpen(t, dir, journal.Options{FS: fs})
	mustAppend(t, j, "x")
	mustClose(t, j)
	if n := fs.count("syncdir"); n != 3 { // what holds a, a and b itself
		t.Errorf("%d directory syncs", n)
	}
	if err := os.WriteFile(filepath.Join(dir, "LOCK"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	wantReplay(t, mustOpen(t, dir, journal.Options{}), []string{"x"})
	file := filepath.Join(dir, "LOCK")
	if _, err := journal.Open(file, journal.Options{FS: &testFS{}}); err == nil {
		t.Error("opened a file as a directory")
	}
}

// With CheckFrom Open does not read old segments; Replay still finds what is wrong with them.
func TestCheckFrom(t *testing.T) {
	s := makeSample(t, true)
	first := segments(t, s.dir)[0]
	b, err := os.ReadFile(first)
	if err != nil {
		t.Fatal(err)
	}
	b[60] ^= 1
	if err := os.WriteFile(first, b, 0o600); err != nil {
		t.Fatal(err)
	}
	var corrupt *journal.CorruptError
	for checkFrom, opens := range map[uint64]bool{0: false, 1: false, 7: false, 8: true, 1000: true} {
		j, err := journal.Open(s.dir, journal.Options{FS: &testFS{}, CheckFrom: checkFrom})
		if !opens {
			if !errors.As(err, &corrupt) || corrupt.File != first {
				t.Errorf("CheckFrom %d: %v", checkFrom, err)
			}
			continue
		}
		if err != nil {
			t.Fatalf("CheckFrom %d: %v", checkFrom, err)
		}
		if _, err := replay(j, 1); !errors.As(err, &corrupt) {
			t.Errorf("Replay: %v", err)
		}
		if got, want := mustReplay(t, j, 8), s.payloads(6)[7:]; !slices.Equal(got, want) {
			t.Errorf("replayed %q, want %q", got, want)
		}
		mustClose(t, j)
	}
}
