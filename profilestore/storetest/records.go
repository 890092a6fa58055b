package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"rapport/profilestore"
)

// records: all of them come, whole, each once; none of before a restart is missing.
func records(t *testing.T, _ string, open func() profilestore.Engine) {
	e := open()
	list := func(e profilestore.Engine) map[string]string {
		got := make(map[string]string)
		check(t, e.Records(t.Context(), func(key, record []byte) error {
			if _, twice := got[string(key)]; twice {
				t.Errorf("key %q comes twice", key)
			}
			got[string(key)] = string(record)
			return nil
		}))
		return got
	}
	if got := list(e); len(got) > 0 {
		t.Errorf("of no record %d come", len(got))
	}
	want := map[string]string{"\x00": "zero", "\xff\xff": "last", "empty": "", "a": "1", "a\x00": "2", "a\x00\x00": "3"}
	for i := range 600 { // more than fits in a page of any kind
		want[fmt.Sprintf("key%05d", i)] = string(bytes.Repeat([]byte{byte(i)}, 1+i*13%9000))
	}
	want["large"] = string(bytes.Repeat([]byte("x"), profilestore.MaxRecord))
	apply := func(key, record string) {
		check(t, e.Apply(t.Context(), []profilestore.Op{{Key: []byte(key), Change: func([]byte) []byte { return []byte(record) }}}))
	}
	for key, record := range want {
		apply(key, "before")
		apply(key, record)
	}
	compare := func(e profilestore.Engine, when string) {
		t.Helper()
		got := list(e)
		for key, record := range want {
			if was, ok := got[key]; !ok || was != record {
				t.Errorf("%s: key %q comes: %v, with %d bytes, want %d", when, key, ok, len(was), len(record))
			}
		}
		if len(got) != len(want) {
			t.Errorf("%s: %d records come, want %d", when, len(got), len(want))
		}
	}
	compare(e, "at first")
	check(t, e.Close())
	again := open()
	compare(again, "after a restart")

	stop := errors.New("stop")
	n := 0
	if err := again.Records(t.Context(), func(_, _ []byte) error { n++; return stop }); !errors.Is(err, stop) || n != 1 {
		t.Errorf("an error of fn: %v, after %d records", err, n)
	}
	// fn may use the engine.
	check(t, again.Records(t.Context(), func(key, record []byte) error {
		value, found, err := again.Get(t.Context(), key, nil)
		if err != nil || !found || !bytes.Equal(value, record) {
			t.Errorf("Get of key %q within Records: %d bytes, %v, %v", key, len(value), found, err)
		}
		return again.Apply(t.Context(), []profilestore.Op{{Key: key, Change: func([]byte) []byte { return []byte("changed") }}})
	}))
	for key := range want {
		want[key] = "changed"
	}
	compare(again, "after they were changed within Records")
}

// recordsDuringWrites: while others apply, each key that was there comes once, with what
// it had when Records was called or with something newer.
func recordsDuringWrites(t *testing.T, _ string, open func() profilestore.Engine) {
	e := open()
	const keys, writers = 2000, 2
	key := func(i int) []byte { return fmt.Appendf(nil, "key%04d", i) }
	record := func(n uint32) []byte { // 1 KB, all of one write
		return bytes.Repeat([]byte{byte(n >> 16), byte(n >> 8), byte(n), '.'}, 256)
	}
	number := func(b []byte) uint32 { return uint32(b[0])<<16 | uint32(b[1])<<8 | uint32(b[2]) }
	var ops []profilestore.Op
	for i := range keys {
		ops = append(ops, profilestore.Op{Key: key(i), Change: func([]byte) []byte { return record(0) }})
	}
	check(t, e.Apply(t.Context(), ops))
	var mu sync.Mutex
	written := make([]uint32, keys) // what an Apply that has returned has written
	news := 0
	stop := make(chan struct{})
	var writing sync.WaitGroup
	for w := range writers {
		writing.Go(func() {
			for n := uint32(1); ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				// One that is there, of this writer, and at times one that is not.
				i := (int(n)*7919*writers + w) % keys
				ops := []profilestore.Op{{Key: key(i), Change: func([]byte) []byte { return record(n) }}}
				if n%16 == 0 {
					ops = append(ops, profilestore.Op{Key: fmt.Appendf(nil, "key%04d-%d-%d", i, w, n), Change: func([]byte) []byte { return record(n) }})
				}
				if err := e.Apply(t.Context(), ops); err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				written[i] = n
				news += len(ops) - 1
				mu.Unlock()
			}
		})
	}
	for range 3 {
		mu.Lock()
		least := slices.Clone(written)
		mu.Unlock()
		seen, changed, others := make([]int, keys), 0, 0
		check(t, e.Records(t.Context(), func(k, b []byte) error {
			var i int
			if len(b) != 1024 || !bytes.Equal(b, record(number(b))) {
				t.Errorf("key %q comes with a record that nobody wrote", k)
				return nil
			}
			if len(k) != len("key0000") {
				others++
				return nil
			}
			if _, err := fmt.Sscanf(string(k), "key%d", &i); err != nil || i >= keys {
				t.Errorf("key %q was never written", k)
				return nil //nolint:nilerr // it has been told
			}
			seen[i]++
			if n := number(b); n < least[i] {
				t.Errorf("key %q comes with write %d, though %d had returned before", k, n, least[i])
			} else if n > least[i] {
				changed++
			}
			return nil
		}))
		for i, n := range seen {
			if n != 1 {
				t.Errorf("key %q comes %d times", key(i), n)
			}
		}
		t.Logf("%d of %d came newer than at the call, and %d keys that were new", changed, keys, others)
	}
	close(stop)
	writing.Wait()
	check(t, e.Barrier(t.Context()))
}
