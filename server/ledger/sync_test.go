package ledger_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"rapport/server/ledger"
)

// syncedFS is a file system of which a folder holds what a loss of power would leave, if
// it took everything that was not synced.
type syncedFS struct {
	faultyFS
	after string

	copying sync.Mutex
}

func (f *syncedFS) Create(path string) (ledger.File, error) {
	file, err := f.faultyFS.Create(path)
	return &syncedFile{File: file, fs: f, path: path}, err
}

func (f *syncedFS) Remove(path string) error {
	f.copying.Lock()
	defer f.copying.Unlock()
	if err := os.Remove(filepath.Join(f.after, filepath.Base(path))); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return f.faultyFS.Remove(path)
}

type syncedFile struct {
	ledger.File
	fs   *syncedFS
	path string
}

func (f *syncedFile) Sync() error {
	if err := f.File.Sync(); err != nil {
		return err
	}
	f.fs.copying.Lock()
	defer f.fs.copying.Unlock()
	from, err := os.Open(f.path)
	if err != nil {
		return err
	}
	defer from.Close() //nolint:errcheck // only read
	to, err := os.Create(filepath.Join(f.fs.after, filepath.Base(f.path)))
	if err != nil {
		return err
	}
	_, err = io.Copy(to, from)
	return errors.Join(err, to.Close())
}

// takenAfter returns how many places are taken after a loss of power.
func (f *syncedFS) takenAfter(t *testing.T) int64 {
	t.Helper()
	dir := t.TempDir()
	f.copying.Lock()
	copyDir(t, f.after, dir)
	f.copying.Unlock()
	var taken int64
	for _, x := range open(t, dir, ledger.Options{}).Readings() {
		taken += x.Taken
	}
	return taken
}

// What was taken before Sync was called is taken after a loss of power, also when syncs
// fail in between, and when many sync at once.
func TestSync(t *testing.T) {
	ctx := context.Background()
	fs := &syncedFS{after: t.TempDir()}
	l := open(t, t.TempDir(), ledger.Options{FS: fs})
	place := ledger.Place{Capacity: "visits", TakenBy: ledger.OutcomeContact}
	take := func(id byte) {
		reserve(t, l, string(rune('a'+id)), 100, reservation(id, 100, 200, place))
		if got, err := l.Commit(ctx, ledger.ID{id}, ledger.Outcome{Name: "contact"}, 100); err != nil || got != ledger.Committed {
			t.Errorf("%v, %v", got, err)
		}
		if !l.Taken(ledger.ID{id}) {
			t.Error("no place is taken")
		}
	}
	reserve(t, l, "zoe", 100, reservation(100, 100, 200))
	if _, err := l.Commit(ctx, ledger.ID{100}, ledger.Outcome{Name: "contact"}, 100); err != nil || l.Taken(ledger.ID{100}) {
		t.Errorf("a place is taken that was not reserved, or %v", err)
	}
	const atOnce = 8
	var all sync.WaitGroup
	for i := range byte(atOnce) {
		all.Go(func() {
			take(i)
			if err := l.Sync(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := fs.takenAfter(t); n != atOnce {
		t.Errorf("%d places of %d survive", n, atOnce)
	}
	take(50)
	if n := fs.takenAfter(t); n != atOnce {
		t.Errorf("%d places are durable before Sync", n)
	}
	fs.set(false, false, true, false)
	for range 2 {
		if err := l.Sync(ctx); !errors.Is(err, ledger.ErrUnavailable) {
			t.Errorf("a sync that fails: %v", err)
		}
	}
	fs.set(false, false, false, false)
	if err := l.Sync(ctx); err != nil {
		t.Error(err)
	}
	if n := fs.takenAfter(t); n != atOnce+1 {
		t.Errorf("%d places survive", n)
	}
	if s := l.Stats(); s.Compacted == 0 {
		t.Errorf("the file whose sync failed was synced again: %+v", s)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := l.Sync(ctx); !errors.Is(err, ledger.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}
