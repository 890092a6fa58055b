// Package storetest is what every [profilestore.Engine] must pass. The tests of
// an engine call [Run]; nothing else imports it.
package storetest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
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
		{"ApplyEmptyRecord", applyEmpty},
		{"ApplyAnyKey", applyKeys},
		{"ApplyLimits", applyLimits},
		{"ApplyIsAtomicForAKey", applyAtomic},
		{"ApplyOverlapping", applyOverlapping},
		{"ApplyThatPanics", applyPanics},
		{"ApplyCanceledHalfWay", applyCanceled},
		{"ReadersSeeWholeRecords", readWhole},
		{"RecordsSurviveClose", survive},
		{"RecordsBelongToTheFolder", folder},
		{"Close", closed},
		{"CloseDuringUse", closeInUse},
		{"BarrierDuringWrites", barrier},
		{"Records", records},
		{"RecordsDuringWrites", recordsDuringWrites},
		{"CanceledContext", canceled},
		{"Generation", generation},
		{"GenerationEmpty", generationEmpty},
		{"GenerationOrder", generationOrder},
		{"GenerationFolder", generationFolder},
		{"GenerationSeal", generationSeal},
		{"GenerationAbort", generationAbort},
		{"GenerationsStayOpen", generationsStay},
		{"GenerationMoves", generationMoves},
		{"GenerationOfAnySize", generationSizes},
		{"GenerationsSideBySide", generationsTogether},
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
				e := open(t, filepath.Join(dir, deltasFolder))
				opened = append(opened, e)
				return e
			})
		})
	}
}

// deltasFolder is where the engine's records are, in the folder of a test.
const deltasFolder = "deltas"

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

func applyEmpty(t *testing.T, _ string, open func() profilestore.Engine) {
	e := open()
	apply := func(change func([]byte) []byte) {
		check(t, e.Apply(t.Context(), []profilestore.Op{{Key: []byte("a"), Change: change}}))
	}
	apply(func([]byte) []byte { return []byte{} })
	if got, found, err := e.Get(t.Context(), []byte("a"), []byte("got")); !found || string(got) != "got" || err != nil {
		t.Errorf("Get of an empty record = %q, %v, %v", got, found, err)
	}
	var none bool
	apply(func(old []byte) []byte { none = old == nil; return []byte("1") })
	if none {
		t.Error("a change of an empty record was told that there is none")
	}
	want(t, e, "a", "1")
	apply(func(old []byte) []byte { return old[:0] })
	if _, found, err := e.Get(t.Context(), []byte("a"), nil); !found || err != nil {
		t.Errorf("a record that became empty: %v, %v", found, err)
	}
}

// applyKeys applies to keys of which one begins with another, and of all bytes.
func applyKeys(t *testing.T, _ string, open func() profilestore.Engine) {
	e := open()
	keys := []string{"a", "ab", "a\x00", "a\xff", "a\xff\xff", "\x00", "\x00\x00", "\xff", "é:1", "a b\n"}
	var ops []profilestore.Op
	for _, key := range keys {
		ops = append(ops, profilestore.Op{Key: []byte(key), Change: func([]byte) []byte { return []byte("of " + key) }})
	}
	check(t, e.Apply(t.Context(), ops))
	for _, key := range keys {
		want(t, e, key, "of "+key)
	}
	for _, key := range []string{"ac", "a\x01", "\x00\x01", "\xff\x00"} {
		want(t, e, key, "")
	}
}

func applyLimits(t *testing.T, _ string, open func() profilestore.Engine) {
	e := open()
	apply := func(key string, size int) error {
		return e.Apply(t.Context(), []profilestore.Op{
			{Key: []byte("first"), Change: increment},
			{Key: []byte(key), Change: func([]byte) []byte { return bytes.Repeat([]byte("x"), size) }},
			{Key: []byte("last"), Change: increment},
		})
	}
	long := strings.Repeat("k", profilestore.MaxKey)
	check(t, apply(long, profilestore.MaxRecord))
	want(t, e, long, strings.Repeat("x", profilestore.MaxRecord))
	for _, c := range []struct {
		key  string
		size int
	}{{"", 1}, {long + "k", 1}, {"a", profilestore.MaxRecord + 1}, {long, profilestore.MaxRecord + 1}} {
		if err := apply(c.key, c.size); err == nil {
			t.Errorf("a key of %d bytes with a record of %d was accepted", len(c.key), c.size)
		}
	}
	if _, found, err := e.Get(t.Context(), nil, nil); found || err == nil {
		t.Errorf("Get of the empty key: %v, %v", found, err)
	}
	want(t, e, "a", "")
	want(t, e, long, strings.Repeat("x", profilestore.MaxRecord))
	check(t, apply("a", 1)) // what was refused holds nothing up
	for _, key := range []string{"first", "last"} {
		if n := counter(t, e, []byte(key)); n < 2 || n > 6 {
			t.Errorf("%s was incremented %d times, want 2 and at most one for each call that failed", key, n)
		}
	}
}

func applyAtomic(t *testing.T, _ string, open func() profilestore.Engine) {
	e := open()
	const writers, rounds, keys = 8, 25, 5
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
		if n := counter(t, e, fmt.Appendf(nil, "key%d", k)); n != writers*rounds {
			t.Errorf("key %d was incremented %d times, want %d", k, n, writers*rounds)
		}
	}
}

// counter returns what increment has made of a key.
func counter(t *testing.T, e profilestore.Engine, key []byte) uint64 {
	t.Helper()
	got, found, err := e.Get(t.Context(), key, nil)
	check(t, err)
	if !found {
		return 0
	}
	return binary.BigEndian.Uint64(got)
}

// applyOverlapping lets writers apply to sets of keys that overlap in any way, of
// one key to nearly all, while readers see no counter go back, and each writer what
// it has applied. The last call of each change is the one that counts: together they
// have counted from 1 up.
func applyOverlapping(t *testing.T, _ string, open func() profilestore.Engine) {
	e := open()
	const writers, readers, rounds, keys = 8, 2, 20, 24
	key := func(k int) []byte { return fmt.Appendf(nil, "key%02d", k) }
	var mu sync.Mutex
	var counted [keys][]uint64
	var all, reading sync.WaitGroup
	stop := make(chan struct{})
	for r := range readers {
		reading.Go(func() {
			var last [keys]uint64
			var buffer []byte
			for i := r; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				got, found, err := e.Get(t.Context(), key(i%keys), buffer[:0])
				buffer = got
				if err != nil || found && len(got) != 8 {
					t.Errorf("Get = %q, %v", got, err)
					return
				}
				if !found {
					continue
				}
				if n := binary.BigEndian.Uint64(got); n < last[i%keys] {
					t.Errorf("key %d is %d after %d", i%keys, n, last[i%keys])
					return
				}
				last[i%keys] = binary.BigEndian.Uint64(got)
			}
		})
	}
	for w := range writers {
		all.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(w))) //nolint:gosec // the same in each run
			for range rounds {
				some := random.Perm(keys)[:1+random.IntN(keys-1)]
				ops, made := make([]profilestore.Op, len(some)), make([]uint64, len(some))
				for i, k := range some {
					ops[i] = profilestore.Op{Key: key(k), Change: func(old []byte) []byte {
						record := increment(old)
						made[i] = binary.BigEndian.Uint64(record)
						return record
					}}
				}
				before, _, err := e.Get(t.Context(), ops[0].Key, nil)
				if err == nil {
					err = e.Apply(t.Context(), ops)
				}
				after, found, err2 := e.Get(t.Context(), ops[0].Key, nil)
				if err = errors.Join(err, err2); err != nil || !found || bytes.Compare(before, after) >= 0 {
					t.Errorf("key %d was %x, and is %x after an increment; %v", some[0], before, after, err)
					return
				}
				mu.Lock()
				for i, k := range some {
					counted[k] = append(counted[k], made[i])
				}
				mu.Unlock()
			}
		})
	}
	all.Wait()
	close(stop)
	reading.Wait()
	for k := range keys {
		slices.Sort(counted[k])
		for i, n := range counted[k] {
			if n != uint64(i+1) {
				t.Errorf("key %d: increment %d made %d", k, i+1, n)
				break
			}
		}
		if n, want := counter(t, e, key(k)), uint64(len(counted[k])); n != want {
			t.Errorf("key %d was incremented %d times, want %d", k, n, want)
		}
	}
}

// applyPanics: a change that panics leaves no lock and nothing of its record
// behind.
func applyPanics(t *testing.T, _ string, open func() profilestore.Engine) {
	e := open()
	set(t, e, "b", "1")
	for range 3 {
		func() {
			defer func() {
				if r := recover(); r != "a bug" {
					t.Errorf("Apply of a change that panics: recovered %v", r)
				}
			}()
			err := e.Apply(t.Context(), []profilestore.Op{
				{Key: []byte("a"), Change: func([]byte) []byte { return []byte("2") }},
				{Key: []byte("b"), Change: func([]byte) []byte { panic("a bug") }},
				{Key: []byte("c"), Change: func([]byte) []byte { return []byte("3") }},
			})
			t.Errorf("Apply returned %v", err)
		}()
	}
	want(t, e, "b", "1")
	for _, key := range []string{"a", "b", "c"} {
		set(t, e, key, "4")
		want(t, e, key, "4")
	}
}

// applyCanceled: of a batch whose context ends while it is applied, each key has
// its old record or its new one, and without an error the new one.
func applyCanceled(t *testing.T, _ string, open func() profilestore.Engine) {
	e := open()
	const keys = 50
	applied := 0
	for at := range keys {
		ctx, cancel := context.WithCancel(t.Context())
		var ops []profilestore.Op
		for k := range keys {
			ops = append(ops, profilestore.Op{Key: fmt.Appendf(nil, "key%d.%d", at, k), Change: func(old []byte) []byte {
				if k == at {
					cancel()
				}
				return increment(old)
			}})
		}
		err := e.Apply(ctx, ops)
		cancel()
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		for k := range ops {
			switch n := counter(t, e, ops[k].Key); {
			case n > 1 || n == 0 && err == nil:
				t.Fatalf("key %d was incremented %d times, Apply: %v", k, n, err)
			case n == 1:
				applied++
			}
		}
		check(t, e.Apply(t.Context(), ops)) // cancel is without effect now
	}
	t.Logf("%d of %d changes were applied", applied, keys*keys)
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

// folder: a store keeps a file beside the records, and removes the folder to be rid
// of both.
func folder(t *testing.T, dir string, open func() profilestore.Engine) {
	e := open()
	set(t, e, "a", "1")
	deltas := filepath.Join(dir, deltasFolder)
	checkpoint := filepath.Join(deltas, "CHECKPOINT")
	check(t, os.WriteFile(checkpoint, []byte("1"), 0o600))
	check(t, e.Barrier(t.Context()))
	check(t, e.Close())
	e = open()
	want(t, e, "a", "1")
	if b, err := os.ReadFile(checkpoint); err != nil || string(b) != "1" {
		t.Errorf("the file beside the records: %q, %v", b, err)
	}
	check(t, e.Close())
	check(t, os.RemoveAll(deltas))
	e = open()
	want(t, e, "a", "")
	set(t, e, "a", "2")
	check(t, e.Close())
	if _, err := os.Stat(checkpoint); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file that was removed: %v", err)
	}
	e = open()
	want(t, e, "a", "2")
}

func closed(t *testing.T, _ string, open func() profilestore.Engine) {
	e := open()
	set(t, e, "a", "1")
	check(t, e.Close())
	check(t, e.Close())
	again := open()
	check(t, e.Close()) // is not the one that is open
	set(t, again, "a", "2")
	_, found, err := e.Get(t.Context(), []byte("a"), nil)
	if found || err == nil {
		t.Errorf("Get after Close: %v, %v", found, err)
	}
	called := false
	if err := e.Apply(t.Context(), []profilestore.Op{{Key: []byte("a"), Change: func([]byte) []byte { called = true; return []byte("3") }}}); err == nil || called {
		t.Errorf("Apply after Close: %v, called: %v", err, called)
	}
	if err := e.Barrier(t.Context()); err == nil {
		t.Error("Barrier after Close returned no error")
	}
	called = false
	if err := e.Records(t.Context(), func(_, _ []byte) error { called = true; return nil }); err == nil || called {
		t.Errorf("Records after Close: %v, called: %v", err, called)
	}
	want(t, again, "a", "2")
}

// closeInUse closes an engine that is in use. Whatever returned without an error
// is there afterwards.
func closeInUse(t *testing.T, _ string, open func() profilestore.Engine) {
	const users = 4
	var least, most [users]uint64 // most: what failed may have been applied
	for round := range 3 {
		e := open()
		for u := range users {
			if n := counter(t, e, fmt.Appendf(nil, "key%d", u)); n < least[u] || n > most[u] {
				t.Errorf("round %d: key %d was incremented %d times, want %d to %d", round, u, n, least[u], most[u])
			}
		}
		var all, begun sync.WaitGroup
		begun.Add(users)
		for u := range users {
			all.Go(func() {
				for i := 0; ; i++ {
					if i == 5 {
						begun.Done()
					}
					key := fmt.Appendf(nil, "key%d", u)
					most[u]++
					if err := e.Apply(t.Context(), []profilestore.Op{{Key: key, Change: increment}}); err != nil {
						for ; i < 5; i++ {
							t.Errorf("Apply before Close: %v", err)
							begun.Done()
						}
						return
					}
					least[u]++
					if got, found, err := e.Get(t.Context(), key, nil); err == nil && (!found || len(got) != 8) {
						t.Errorf("Get = %x, %v", got, found)
					}
				}
			})
		}
		begun.Wait()
		check(t, e.Close())
		all.Wait()
	}
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
		"Get":     err,
		"Apply":   e.Apply(ctx, []profilestore.Op{{Key: []byte("a"), Change: increment}}),
		"Barrier": e.Barrier(ctx),
		"Records": e.Records(ctx, func(_, _ []byte) error { return nil }),
	} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s with a canceled context: %v", name, err)
		}
	}
	want(t, e, "a", "")
}
