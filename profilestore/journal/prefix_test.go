package journal_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"rapport/profilestore/journal"
)

// A last segment that is cut or flipped anywhere has the prefix that Open would keep of it, and where Open refuses it,
// there is none.
func TestWholePrefix(t *testing.T) {
	for _, sealed := range []bool{true, false} {
		s := makeSample(t, sealed)
		whole, err := os.ReadFile(s.last)
		if err != nil {
			t.Fatal(err)
		}
		var cut, refused int
		check := func(what string, at int, content []byte) {
			if err := os.WriteFile(s.last, content, 0o600); err != nil {
				t.Fatal(err)
			}
			p, err := journal.WholePrefix(s.last)
			c := copyDir(t, s.dir)
			j, openErr := journal.Open(c, journal.Options{FS: &testFS{}})
			if openErr != nil {
				refused++
				_, want := errors.AsType[*journal.CorruptError](openErr)
				if _, got := errors.AsType[*journal.CorruptError](err); got != want || errors.Is(openErr, journal.ErrVersion) != errors.Is(err, journal.ErrVersion) {
					t.Errorf("%s %d: the prefix is %+v, %v; Open says %v", what, at, p, err, openErr)
				}
				return
			}
			r := j.Recovery()
			keeps := int64(len(content))
			if r.File != "" {
				cut++
				keeps = r.Offset
			}
			if err != nil || p.Bytes != keeps || p.Next != j.Next() || p.Sealed != r.Sealed {
				t.Errorf("%s %d: the prefix is %+v, %v; Open keeps %d bytes, up to record %d: %+v", what, at, p, err, keeps, j.Next(), r)
			}
			mustClose(t, j)
		}
		for n := range len(whole) + 1 {
			check("cut at", n, whole[:n])
		}
		for i := range whole {
			b := []byte(string(whole))
			b[i] ^= 0x10
			check("bit of byte", i, b)
		}
		t.Logf("sealed %v: %d cut off, %d refused", sealed, cut, refused)
		if cut == 0 || refused == 0 {
			t.Error("the cases do not occur")
		}
	}
}

// What is copied while a journal appends needs no recovery, and has what was acknowledged before.
func TestWholePrefixWhileAppending(t *testing.T) {
	dir := t.TempDir()
	var durable atomic.Uint64
	j := mustOpen(t, dir, journal.Options{FS: &testFS{}, SegmentBytes: 300_000, Committed: func(seq uint64, _ *journal.Entry) { durable.Store(seq) }})
	var appending sync.WaitGroup
	stop := make(chan struct{})
	for range 8 {
		appending.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
					mustAppend(t, j, strings.Repeat("y", i%500), "second")
				}
			}
		})
	}
	torn := 0
	for range 30 {
		before := durable.Load()
		paths := segments(t, dir)
		path := paths[len(paths)-1]
		p, err := journal.WholePrefix(path)
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, p.Bytes)
		f, err := os.Open(path)
		if err == nil {
			_, err = f.ReadAt(b, 0)
		}
		if err := errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
		to := t.TempDir()
		name := filepath.Join(to, filepath.Base(path))
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if again, err := journal.WholePrefix(name); err != nil || again != p || p.Next <= before {
			t.Fatalf("the copy is %+v, %v; the prefix was %+v, %d had been acknowledged", again, err, p, before)
		}
		if info, err := os.Stat(path); err == nil && info.Size() > p.Bytes {
			torn++
		}
	}
	close(stop)
	appending.Wait()
	t.Logf("%d of 30 copies were of a file that had grown since, %d records", torn, j.Next()-1)
	mustClose(t, j)
}
