// Package storetest is what every [profilestore.Engine] must pass. The tests of
// an engine call [Run]; nothing else imports it.
package storetest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"rapport/profilestore"
)

// Run checks an engine. The function open opens the one whose delta records are
// in dir: a new one, or again the one that was closed.
func Run(t *testing.T, open func(t *testing.T, dir string) profilestore.Engine) {
	for _, test := range []struct {
		name string
		run  func(t *testing.T, dir string, open func() profilestore.Engine)
	}{
		{"GetAppends", getAppends},
		{"ApplyGivesTheOldRecord", applyOld},
		{"ApplyNilLeavesTheRecord", applyNil},
		{"ApplyKeepsNothingOfTheCaller", applyCopies},
		{"ApplyLargeBatch", applyLarge},
		{"ApplyIsAtomicForAKey", applyAtomic},
		{"ReadersSeeWholeRecords", readWhole},
		{"RecordsSurviveClose", survive},
		{"BarrierDuringWrites", barrier},
		{"CanceledContext", canceled},
		{"Generation", generation},
		{"GenerationEmpty", generationEmpty},
		{"GenerationOrder", generationOrder},
		{"GenerationFolderExists", generationExists},
		{"GenerationAbort", generationAbort},
		{"GenerationsStayOpen", generationsStay},
		{"GenerationReaders", generationReaders},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			var opened []profilestore.Engine
			t.Cleanup(func() {
				for _, e := range opened {
					check(t, e.Close())
				}
			})
			test.run(t, dir, func() profilestore.Engine {
				e := open(t, filepath.Join(dir, "deltas"))
				opened = append(opened, e)
				return e
			})
		})
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// set applies one constant record.
func set(t *testing.T, e profilestore.Engine, key, record string) {
	t.Helper()
	check(t, e.Apply(t.Context(), []profilestore.Op{{Key: []byte(key), Change: func([]byte) []byte { return []byte(record) }}}))
}

// want checks the record of a key; "" means that there is none.
func want(t *testing.T, e profilestore.Engine, key, record string) {
	t.Helper()
	got, found, err := e.Get(t.Context(), []byte(key), nil)
	check(t, err)
	if found != (record != "") || string(got) != record {
		t.Fatalf("Get(%q) = %q, %v, want %q", key, got, found, record)
	}
}

func getAppends(t *testing.T, _ string, open func() profilestore.Engine) {
	e := open()
	set(t, e, "a", "1")
	got, found, err := e.Get(t.Context(), []byte("a"), []byte("before "))
	check(t, err)
	if string(got) != "before 1" || !found {
		t.Errorf("Get = %q, %v", got, found)
	}
	got, found, err = e.Get(t.Context(), []byte("b"), []byte("before"))
	check(t, err)
	if string(got) != "before" || found {
		t.Errorf("Get of nothing = %q, %v", got, found)
	}
}

func applyOld(t *testing.T, _ string, open func() profilestore.Engine) {
	e := open()
	for i := range 3 {
		check(t, e.Apply(t.Context(), []profilestore.Op{{Key: []byte("a"), Change: func(old []byte) []byte {
			if (old == nil) != (i == 0) {
				t.Errorf("change %d got %q", i, old)
			}
			return append(slices.Clone(old), byte('0'+i))
		}}}))
	}
	want(t, e, "a", "012")
	// The record may be a part of the old one, of several keys at once.
	set(t, e, "b", "345")
	tail := func(old []byte) []byte { return old[1:] }
	check(t, e.Apply(t.Context(), []profilestore.Op{{Key: []byte("a"), Change: tail}, {Key: []byte("b"), Change: tail}}))
	want(t, e, "a", "12")
	want(t, e, "b", "45")
}

func applyNil(t *testing.T, _ string, open func() profilestore.Engine) {
	e := open()
	set(t, e, "a", "1")
	leave := func([]byte) []byte { return nil }
	check(t, e.Apply(t.Context(), []profilestore.Op{{Key: []byte("a"), Change: leave}, {Key: []byte("b"), Change: leave}}))
	want(t, e, "a", "1")
	want(t, e, "b", "")
	check(t, e.Apply(t.Context(), nil))
}

func applyCopies(t *testing.T, _ string, open func() profilestore.Engine) {
	e := open()
	key, record := []byte("key"), []byte("record")
	check(t, e.Apply(t.Context(), []profilestore.Op{{Key: key, Change: func([]byte) []byte { return record }}}))
	copy(key, "xxx")
	copy(record, "xxxxxx")
	want(t, e, "key", "record")
	got, _, err := e.Get(t.Context(), []byte("key"), nil)
	check(t, err)
	copy(got, "yyyyyy")
	want(t, e, "key", "record")
}

func applyLarge(t *testing.T, _ string, open func() profilestore.Engine) {
	e := open()
	const n = 1000
	var ops []profilestore.Op
	for i := range n {
		ops = append(ops, profilestore.Op{Key: fmt.Appendf(nil, "key%05d", i), Change: func([]byte) []byte {
			return bytes.Repeat([]byte{byte(i)}, 4000)
		}})
	}
	check(t, e.Apply(t.Context(), ops))
	for i := range n {
		got, found, err := e.Get(t.Context(), ops[i].Key, nil)
		check(t, err)
		if !found || len(got) != 4000 || got[0] != byte(i) {
			t.Fatalf("key %d: %d bytes, %v", i, len(got), found)
		}
	}
}

// increment adds 1 to a counter.
func increment(old []byte) []byte {
	var n uint64
	if old != nil {
		n = binary.BigEndian.Uint64(old)
	}
	return binary.BigEndian.AppendUint64(nil, n+1)
}

func applyAtomic(t *testing.T, _ string, open func() profilestore.Engine) {
	e := open()
	const writers, rounds, keys = 8, 50, 5
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			for range rounds {
				var ops []profilestore.Op
				for k := range keys { // each writer in another order
					ops = append(ops, profilestore.Op{Key: fmt.Appendf(nil, "key%d", (k+w)%keys), Change: increment})
				}
				if err := e.Apply(t.Context(), ops); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	for k := range keys {
		got, _, err := e.Get(t.Context(), fmt.Appendf(nil, "key%d", k), nil)
		check(t, err)
		if n := binary.BigEndian.Uint64(got); n != writers*rounds {
			t.Errorf("key %d was incremented %d times, want %d", k, n, writers*rounds)
		}
	}
}

func readWhole(t *testing.T, _ string, open func() profilestore.Engine) {
	e := open()
	set(t, e, "a", string(make([]byte, 1000)))
	stop := make(chan struct{})
	var reader sync.WaitGroup
	reader.Go(func() {
		var buffer []byte
		last := byte(0)
		for {
			select {
			case <-stop:
				return
			default:
			}
			got, found, err := e.Get(t.Context(), []byte("a"), buffer[:0])
			if err != nil || !found || len(got) != 1000 || !bytes.Equal(got, bytes.Repeat(got[:1], 1000)) {
				t.Errorf("a torn record: %v, %v, %d bytes", err, found, len(got))
				return
			}
			if got[0] < last {
				t.Errorf("record %d after %d", got[0], last)
				return
			}
			buffer, last = got, got[0]
		}
	})
	for i := range 200 {
		set(t, e, "a", string(bytes.Repeat([]byte{byte(i)}, 1000)))
	}
	close(stop)
	reader.Wait()
}

func survive(t *testing.T, _ string, open func() profilestore.Engine) {
	e := open()
	set(t, e, "a", "1")
	set(t, e, "a", "2")
	set(t, e, "b", "3")
	check(t, e.Close())
	e = open()
	want(t, e, "a", "2")
	set(t, e, "a", "4")
	want(t, e, "a", "4")
	check(t, e.Close())
	e = open()
	want(t, e, "a", "4")
	want(t, e, "b", "3")
}

func barrier(t *testing.T, _ string, open func() profilestore.Engine) {
	e := open()
	check(t, e.Barrier(t.Context()))
	stop := make(chan struct{})
	var writer sync.WaitGroup
	writer.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			op := profilestore.Op{Key: fmt.Appendf(nil, "key%d", i), Change: func([]byte) []byte { return make([]byte, 10_000) }}
			if err := e.Apply(t.Context(), []profilestore.Op{op}); err != nil {
				t.Error(err)
				return
			}
		}
	})
	for range 5 {
		if err := e.Barrier(t.Context()); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	writer.Wait()
	check(t, e.Barrier(t.Context()))
}

func canceled(t *testing.T, _ string, open func() profilestore.Engine) {
	e := open()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, _, err := e.Get(ctx, []byte("a"), nil)
	for name, err := range map[string]error{
		"Get":   err,
		"Apply": e.Apply(ctx, []profilestore.Op{{Key: []byte("a"), Change: increment}}),
	} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s with a canceled context: %v", name, err)
		}
	}
}
