package storetest

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"rapport/profilestore"
)

// build builds a generation of n rows in a folder that it returns.
func build(t *testing.T, e profilestore.Engine, dir string, n int) string {
	t.Helper()
	dir = filepath.Join(dir, "generation")
	w, err := e.BuildGeneration(dir)
	check(t, err)
	key, row := []byte(nil), []byte(nil)
	for i := range n {
		key, row = fmt.Appendf(key[:0], "key%06d", i), fmt.Appendf(row[:0], "row %d of the generation", i)
		check(t, w.Add(key, row))
	}
	check(t, w.Seal())
	check(t, w.Abort()) // does nothing now
	return dir
}

func openGeneration(t *testing.T, e profilestore.Engine, dir string) profilestore.Generation {
	t.Helper()
	g, err := e.OpenGeneration(dir)
	check(t, err)
	t.Cleanup(func() { check(t, g.Close()) })
	return g
}

func generation(t *testing.T, dir string, open func() profilestore.Engine) {
	e := open()
	const n = 5_000
	g := openGeneration(t, e, build(t, e, dir, n))
	for i := range n {
		row, found, err := g.Get(fmt.Appendf(nil, "key%06d", i), []byte("got "))
		check(t, err)
		if want := fmt.Sprintf("got row %d of the generation", i); !found || string(row) != want {
			t.Fatalf("Get = %q, %v, want %q", row, found, want)
		}
	}
	for _, key := range []string{"", "key", "key000000x", "key999999", "z"} {
		if row, found, err := g.Get([]byte(key), []byte("got")); found || string(row) != "got" || key != "" && err != nil {
			t.Errorf("Get(%q) = %q, %v, %v", key, row, found, err)
		}
	}
	i := 0
	check(t, g.Each(func(key, row []byte) error {
		if string(key) != fmt.Sprintf("key%06d", i) || string(row) != fmt.Sprintf("row %d of the generation", i) {
			return fmt.Errorf("row %d is %q, %q", i, key, row)
		}
		i++
		return nil
	}))
	if i != n {
		t.Errorf("Each gave %d rows, want %d", i, n)
	}
	stop := errors.New("stop")
	i = 0
	if err := g.Each(func([]byte, []byte) error { i++; return stop }); !errors.Is(err, stop) || i != 1 {
		t.Errorf("Each that stops: %v after %d rows", err, i)
	}
}

func generationEmpty(t *testing.T, dir string, open func() profilestore.Engine) {
	e := open()
	g := openGeneration(t, e, build(t, e, dir, 0))
	if _, found, err := g.Get([]byte("a"), nil); found || err != nil {
		t.Errorf("Get = %v, %v", found, err)
	}
	check(t, g.Each(func([]byte, []byte) error { return errors.New("a row in an empty generation") }))
}

func generationOrder(t *testing.T, dir string, open func() profilestore.Engine) {
	e := open()
	w, err := e.BuildGeneration(filepath.Join(dir, "generation"))
	check(t, err)
	check(t, w.Add([]byte("b"), []byte("1")))
	for _, key := range []string{"b", "a", "B", ""} {
		if err := w.Add([]byte(key), []byte("2")); err == nil {
			t.Errorf("Add(%q) after b was accepted", key)
		}
	}
	check(t, w.Add([]byte("ba"), []byte("3")))
	check(t, w.Seal())
	g := openGeneration(t, e, filepath.Join(dir, "generation"))
	var keys []string
	check(t, g.Each(func(key, _ []byte) error { keys = append(keys, string(key)); return nil }))
	if !slices.Equal(keys, []string{"b", "ba"}) {
		t.Errorf("keys %q", keys)
	}
}

func generationExists(t *testing.T, dir string, open func() profilestore.Engine) {
	e := open()
	build(t, e, dir, 1)
	if _, err := e.BuildGeneration(filepath.Join(dir, "generation")); err == nil {
		t.Error("a generation was begun in a folder that exists")
	}
	if _, err := e.OpenGeneration(filepath.Join(dir, "nothing")); err == nil {
		t.Error("a generation was opened that does not exist")
	}
}

func generationAbort(t *testing.T, dir string, open func() profilestore.Engine) {
	e := open()
	w, err := e.BuildGeneration(filepath.Join(dir, "generation"))
	check(t, err)
	for i := range 5000 {
		check(t, w.Add(fmt.Appendf(nil, "key%06d", i), make([]byte, 500)))
	}
	check(t, w.Abort())
	check(t, w.Abort())
	if err := w.Add([]byte("z"), nil); err == nil {
		t.Error("Add after Abort was accepted")
	}
	if err := w.Seal(); err == nil {
		t.Error("Seal after Abort was accepted")
	}
}

func generationsStay(t *testing.T, dir string, open func() profilestore.Engine) {
	e := open()
	g := openGeneration(t, e, build(t, e, dir, 10))
	check(t, e.Close())
	if _, found, err := g.Get([]byte("key000003"), nil); !found || err != nil {
		t.Errorf("Get after the engine was closed: %v, %v", found, err)
	}
	// Another process may have the same one open.
	other := openGeneration(t, open(), filepath.Join(dir, "generation"))
	if _, found, err := other.Get([]byte("key000003"), nil); !found || err != nil {
		t.Errorf("Get of the one opened again: %v, %v", found, err)
	}
}

func generationReaders(t *testing.T, dir string, open func() profilestore.Engine) {
	e := open()
	g := openGeneration(t, e, build(t, e, dir, 1000))
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			var buffer []byte
			for i := range 1000 {
				row, found, err := g.Get(fmt.Appendf(nil, "key%06d", i), buffer[:0])
				if want := fmt.Sprintf("row %d of the generation", i); err != nil || !found || string(row) != want {
					t.Errorf("Get = %q, %v, %v, want %q", row, found, err, want)
					return
				}
				buffer = row
			}
		})
	}
	all.Wait()
}
