package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
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

func generationFolder(t *testing.T, dir string, open func() profilestore.Engine) {
	e := open()
	begin := func(dir, what string) {
		t.Helper()
		if _, err := e.BuildGeneration(dir); err == nil {
			t.Errorf("a generation was begun in %s", what)
		}
	}
	begin(build(t, e, dir, 1), "a folder that exists")
	begin(filepath.Join(dir, "nothing", "generation"), "a folder that does not exist")
	empty := filepath.Join(dir, "empty")
	check(t, os.Mkdir(empty, 0o700))
	begin(empty, "an empty folder that exists")
	for _, folder := range []string{"nothing", "empty"} {
		if _, err := e.OpenGeneration(filepath.Join(dir, folder)); err == nil {
			t.Errorf("a generation was opened in %s", folder)
		}
	}
}

func generationSeal(t *testing.T, dir string, open func() profilestore.Engine) {
	e := open()
	dir = filepath.Join(dir, "generation")
	w, err := e.BuildGeneration(dir)
	check(t, err)
	check(t, w.Add([]byte("a"), []byte("1")))
	check(t, w.Seal())
	if err := w.Add([]byte("b"), []byte("2")); err == nil {
		t.Error("Add after Seal was accepted")
	}
	if err := w.Seal(); err == nil {
		t.Error("Seal was accepted twice")
	}
	check(t, w.Abort())
	check(t, w.Abort())
	g := openGeneration(t, e, dir)
	rows := 0
	check(t, g.Each(func([]byte, []byte) error { rows++; return nil }))
	if rows != 1 {
		t.Errorf("%d rows", rows)
	}
}

func generationAbort(t *testing.T, dir string, open func() profilestore.Engine) {
	e := open()
	dir = filepath.Join(dir, "generation")
	for _, rows := range []int{0, 1, 5000} {
		w, err := e.BuildGeneration(dir)
		check(t, err)
		for i := range rows {
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
		check(t, os.RemoveAll(dir))
	}
	build(t, e, filepath.Dir(dir), 1)
}

func generationsStay(t *testing.T, dir string, open func() profilestore.Engine) {
	e := open()
	dir = build(t, e, dir, 10)
	g := openGeneration(t, e, dir)
	check(t, e.Close())
	get := func(g profilestore.Generation, what string) {
		t.Helper()
		if row, found, err := g.Get([]byte("key000003"), nil); !found || err != nil || string(row) != "row 3 of the generation" {
			t.Errorf("Get %s: %q, %v, %v", what, row, found, err)
		}
	}
	get(g, "after the engine was closed")
	// Another process may have the same one open.
	e = open()
	get(openGeneration(t, e, dir), "of the one opened again")
	third, err := e.OpenGeneration(dir)
	check(t, err)
	check(t, third.Close())
	get(g, "after another's was closed")
}

// generationMoves: a snapshot's folder gets its name once it is sealed, and is
// removed while somebody may still read it.
func generationMoves(t *testing.T, dir string, open func() profilestore.Engine) {
	e := open()
	temp, sealed := filepath.Join(dir, "gen-1.tmp"), filepath.Join(dir, "gen-1")
	check(t, os.Mkdir(temp, 0o700))
	build(t, e, temp, 2000)
	early, err := e.OpenGeneration(filepath.Join(temp, "generation"))
	check(t, err)
	check(t, os.Rename(temp, sealed))
	late, err := e.OpenGeneration(filepath.Join(sealed, "generation"))
	check(t, err)
	check(t, os.Rename(sealed, temp))
	check(t, os.RemoveAll(temp))
	for i, g := range []profilestore.Generation{early, late} {
		rows := 0
		check(t, g.Each(func(key, _ []byte) error {
			if _, found, err := g.Get(key, nil); !found || err != nil {
				return fmt.Errorf("%q: %v, %w", key, found, err)
			}
			rows++
			return nil
		}))
		if rows != 2000 {
			t.Errorf("generation %d has %d rows", i, rows)
		}
		check(t, g.Close())
	}
	if _, err := e.OpenGeneration(filepath.Join(sealed, "generation")); err == nil {
		t.Error("a generation was opened that was removed")
	}
}

// generationSizes has rows of all sizes, also of none and of several megabytes.
func generationSizes(t *testing.T, dir string, open func() profilestore.Engine) {
	e := open()
	dir = filepath.Join(dir, "generation")
	w, err := e.BuildGeneration(dir)
	check(t, err)
	sizes := []int{0, 1, 127, 128, 4 << 10, 64<<10 - 1, 64 << 10, 1<<20 - 1, 1 << 20, 1<<20 + 1, 5 << 20, 0, 3}
	row := func(i int) []byte { return bytes.Repeat([]byte{byte('a' + i)}, sizes[i]) }
	key := func(i int) []byte { return append(bytes.Repeat([]byte("k"), profilestore.MaxKey-1), byte('a'+i)) }
	for i := range sizes {
		check(t, w.Add(key(i), row(i)))
	}
	if err := w.Add(bytes.Repeat([]byte("z"), profilestore.MaxKey+1), nil); err == nil {
		t.Error("a key over the limit was accepted")
	}
	check(t, w.Seal())
	g := openGeneration(t, e, dir)
	for i, size := range sizes {
		if got, found, err := g.Get(key(i), nil); err != nil || !found || !bytes.Equal(got, row(i)) {
			t.Errorf("a row of %d bytes: %d bytes, %v, %v", size, len(got), found, err)
		}
	}
	i := 0
	check(t, g.Each(func(k, r []byte) error {
		if !bytes.Equal(k, key(i)) || !bytes.Equal(r, row(i)) {
			return fmt.Errorf("row %d: %d bytes", i, len(r))
		}
		i++
		return nil
	}))
	if i != len(sizes) {
		t.Errorf("Each gave %d rows, want %d", i, len(sizes))
	}
}

// generationsTogether builds several at once, while others are read.
func generationsTogether(t *testing.T, dir string, open func() profilestore.Engine) {
	e := open()
	const loads, rows = 3, 500
	var all sync.WaitGroup
	for l := range loads {
		all.Go(func() {
			dir := filepath.Join(dir, fmt.Sprintf("generation%d", l))
			w, err := e.BuildGeneration(dir)
			for i := 0; i < rows && err == nil; i++ {
				err = w.Add(fmt.Appendf(nil, "key%06d", i), fmt.Appendf(nil, "%d of %d", i, l))
			}
			if err != nil {
				t.Error(err)
				return
			}
			if err := w.Seal(); err != nil {
				t.Error(err)
				return
			}
			g, err := e.OpenGeneration(dir)
			if err != nil {
				t.Error(err)
				return
			}
			i := 0
			err = g.Each(func(key, row []byte) error {
				if string(key) != fmt.Sprintf("key%06d", i) || string(row) != fmt.Sprintf("%d of %d", i, l) {
					return fmt.Errorf("row %d of %d is %q, %q", i, l, key, row)
				}
				i++
				return nil
			})
			if err = errors.Join(err, g.Close()); err != nil || i != rows {
				t.Errorf("%d rows, %v", i, err)
			}
		})
	}
	all.Wait()
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
