package sandbox_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"rapport/server/sandbox"
)

var cacheKey = []byte("the key of the cache in tests")

// scoring returns a strategy that scores every candidate so.
func scoring(score float64) []byte { return guest{score: f64(score)}.bytes() }

// scores compiles a module in a runtime and checks that it is the right one.
func scores(t *testing.T, r *sandbox.Runtime, score float64) {
	t.Helper()
	m := compile(t, r, scoring(score))
	c, sc := fixture(t, 1)
	s := bindTo(t, m, c, sc, sandbox.PoolOptions{Size: 1})
	q := simple(1)
	rank(t, s, q)
	if q.Score[0] != score {
		t.Errorf("score %v, want %v", q.Score[0], score)
	}
	if err := m.Close(context.Background()); err != nil {
		t.Error(err)
	}
}

// entries returns the folders of a cache's entries.
func entries(t *testing.T, dir string) []string {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(dir, strings.Repeat("?", 64)))
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// entryOf returns the folder that a runtime makes for a module in an empty cache.
func entryOf(t *testing.T, r *sandbox.Runtime, dir string, score float64) string {
	t.Helper()
	before := entries(t, dir)
	scores(t, r, score)
	for _, e := range entries(t, dir) {
		if !strings.Contains(strings.Join(before, " "), e) {
			return e
		}
	}
	t.Fatal("there is no new entry")
	return ""
}

// What is compiled serves the next server, if it has the key.
func TestCacheServesTheNextServer(t *testing.T) {
	dir := t.TempDir()
	open := func(key []byte) *sandbox.Runtime {
		return newRuntime(t, sandbox.Options{CacheDir: dir, CacheKey: key})
	}
	expect := func(r *sandbox.Runtime, want sandbox.CompilerStats) {
		t.Helper()
		scores(t, r, 7)
		if got := r.CompilerStats(); got != want {
			t.Errorf("stats %+v, want %+v", got, want)
		}
	}
	expect(open(cacheKey), sandbox.CompilerStats{Runs: 1, Misses: 1})
	r := open(cacheKey)
	expect(r, sandbox.CompilerStats{Hits: 1})
	expect(r, sandbox.CompilerStats{Hits: 2})
	expect(open([]byte("the key of another server")), sandbox.CompilerStats{Runs: 1, Damaged: 1})
	expect(open(cacheKey), sandbox.CompilerStats{Runs: 1, Damaged: 1})
	expect(open(nil), sandbox.CompilerStats{Runs: 1, Damaged: 1})
	onlyEntries(t, dir, 1)

	// What may change what is made of a module is part of its name.
	expect(newRuntime(t, sandbox.Options{CacheDir: dir, CacheKey: cacheKey, MaxMemoryPages: 77}), sandbox.CompilerStats{Runs: 1, Misses: 1})
	onlyEntries(t, dir, 2)
	for _, path := range append(entries(t, dir), dir) {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o700 {
			t.Errorf("others can see %s: %v", path, info.Mode())
		}
	}
}

// Whatever happens to an entry, it is noticed, made anew, and never served.
func TestDamagedEntriesAreMadeAnew(t *testing.T) {
	dir := t.TempDir()
	r := newRuntime(t, sandbox.Options{CacheDir: dir, CacheKey: cacheKey})
	a, b := entryOf(t, r, dir, 1), entryOf(t, r, dir, 2)
	files := []string{"index", "module.wasm", "code"}
	random := rand.New(rand.NewPCG(11, 12))

	kinds := make(map[string]int)
	// check lets a function damage the first entry, and says how many of both are
	// made anew.
	check := func(kind string, anew uint64, damage func() error) {
		t.Helper()
		kinds[kind]++
		if err := damage(); err != nil {
			t.Fatal(err)
		}
		before := r.CompilerStats()
		scores(t, r, 1)
		scores(t, r, 2)
		after := r.CompilerStats()
		if after.Runs-before.Runs != anew || after.Hits-before.Hits != 2-anew || after.Failed+after.Refused > 0 {
			t.Errorf("%s: stats %+v, then %+v", kind, before, after)
		}
		if gone := kind == "removed"; after.Misses-before.Misses != map[bool]uint64{true: anew}[gone] {
			t.Errorf("%s: stats %+v, then %+v", kind, before, after)
		}
		scores(t, r, 1)
		scores(t, r, 2)
		if again := r.CompilerStats(); again.Runs != after.Runs {
			t.Errorf("%s: the new entry does not last", kind)
		}
		onlyEntries(t, dir, 2)
	}
	check("untouched", 0, func() error { return nil })
	for _, name := range files {
		file := filepath.Join(a, name)
		for range 12 {
			check("a bit", 1, func() error {
				return edit(file, func(b []byte) []byte { b[random.IntN(len(b))] ^= 1 << random.IntN(8); return b })
			})
		}
		for range 4 {
			check("cut short", 1, func() error {
				return edit(file, func(b []byte) []byte { return b[:random.IntN(len(b))] })
			})
		}
		check("longer", 1, func() error { return edit(file, func(b []byte) []byte { return append(b, 0) }) })
		check("twice", 1, func() error { return edit(file, func(b []byte) []byte { return append(b, b...) }) })
		check("of another", 1, func() error { return copyFile(filepath.Join(b, name), file) })
		check("a file missing", 1, func() error { return os.Remove(file) })
		check("a folder", 1, func() error { return errors.Join(os.Remove(file), os.Mkdir(file, 0o700)) })
		check("a link", 1, func() error {
			away := filepath.Join(t.TempDir(), "away")
			return errors.Join(os.Rename(file, away), os.Symlink(away, file))
		})
	}
	check("a file more", 1, func() error { return os.WriteFile(filepath.Join(a, "more"), nil, 0o600) })
	check("a folder more", 1, func() error { return os.Mkdir(filepath.Join(a, "more"), 0o700) })
	check("both files of another", 1, func() error {
		return errors.Join(copyFile(filepath.Join(b, "code"), filepath.Join(a, "code")), copyFile(filepath.Join(b, "module.wasm"), filepath.Join(a, "module.wasm")))
	})
	check("all of another", 1, func() error { return errors.Join(os.RemoveAll(a), os.CopyFS(a, os.DirFS(b))) })
	check("exchanged", 2, func() error {
		away := filepath.Join(dir, "away")
		return errors.Join(os.Rename(a, away), os.Rename(b, a), os.Rename(away, b))
	})
	check("a linked folder", 1, func() error {
		away := filepath.Join(t.TempDir(), "away")
		return errors.Join(os.Rename(a, away), os.Symlink(away, a))
	})
	check("no folder", 1, func() error { return errors.Join(os.RemoveAll(a), os.WriteFile(a, []byte("x"), 0o600)) })
	check("an empty folder", 1, func() error { return errors.Join(os.RemoveAll(a), os.Mkdir(a, 0o700)) })
	check("removed", 1, func() error { return os.RemoveAll(a) })
	check("removed", 2, func() error { return errors.Join(os.RemoveAll(a), os.RemoveAll(b)) })
	// Whoever changes the code and can write the index, but does not have the key.
	check("the index with the code", 1, func() error {
		file := filepath.Join(a, "code")
		if err := edit(file, func(b []byte) []byte { b[len(b)/2]++; return b }); err != nil {
			return err
		}
		sum, err := digestOf(file)
		if err != nil {
			return err
		}
		code := regexp.MustCompile(`"code":\{"size":(\d+),"sha256":"[0-9a-f]+"`)
		return edit(filepath.Join(a, "index"), func(b []byte) []byte {
			changed := code.ReplaceAll(b, []byte(`"code":{"size":$1,"sha256":"`+sum+`"`))
			if bytes.Equal(changed, b) || !bytes.Contains(changed, []byte(sum)) {
				t.Fatalf("the index is not as expected: %s", b)
			}
			return changed
		})
	})
	t.Logf("damages: %v", kinds)
}

func edit(file string, change func([]byte) []byte) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	return os.WriteFile(file, change(b), 0o600)
}

func copyFile(from, to string) error {
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, b, 0o600)
}

func digestOf(file string) (string, error) {
	b, err := os.ReadFile(file)
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:]), err
}

// The entry that was used least recently goes first.
func TestCacheIsBounded(t *testing.T) {
	dir := t.TempDir()
	r := newRuntime(t, sandbox.Options{CacheDir: dir, CacheKey: cacheKey, CacheLimits: sandbox.CacheLimits{Entries: 2}})
	for _, step := range []struct {
		score   float64
		runs    uint64 // so far
		evicted uint64
	}{{1, 1, 0}, {2, 2, 0}, {1, 2, 0}, {3, 3, 1}, {1, 3, 1}, {2, 4, 2}, {1, 4, 2}, {3, 5, 3}} {
		scores(t, r, step.score)
		if got := r.CompilerStats(); got.Runs != step.runs || got.Evicted != step.evicted {
			t.Fatalf("at %+v: stats %+v", step, got)
		}
	}
	onlyEntries(t, dir, 2)

	// A server with less room makes it when it opens, and keeps what it needs now.
	r = newRuntime(t, sandbox.Options{CacheDir: dir, CacheKey: cacheKey, CacheLimits: sandbox.CacheLimits{Bytes: 1}})
	onlyEntries(t, dir, 1)
	for range 2 {
		scores(t, r, 4)
	}
	if got := r.CompilerStats(); got.Runs != 1 || got.Hits != 1 {
		t.Errorf("stats %+v", got)
	}
	onlyEntries(t, dir, 1)
}

// What a server that was killed left undone is removed by the next one, but not
// what another one is doing.
func TestLeftoversAreRemoved(t *testing.T) {
	dir := t.TempDir()
	leave := func() string {
		t.Helper()
		left := filepath.Join(dir, "tmp-compile-123")
		if err := errors.Join(os.Mkdir(left, 0o700), os.WriteFile(filepath.Join(left, "code"), []byte("x"), 0o600)); err != nil {
			t.Fatal(err)
		}
		return left
	}
	left := leave()
	newRuntime(t, sandbox.Options{CacheDir: dir})
	if _, err := os.Stat(left); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it is still there: %v", err)
	}
	leave()
	newRuntime(t, sandbox.Options{CacheDir: dir})
	if _, err := os.Stat(left); err != nil {
		t.Errorf("the other runtime's work: %v", err)
	}
}

// Two runtimes can have one folder, even if they drive out what the other uses.
func TestTwoRuntimesInOneFolder(t *testing.T) {
	dir := t.TempDir()
	var wg sync.WaitGroup
	var runtimes []*sandbox.Runtime
	for i := range 2 {
		r := newRuntime(t, sandbox.Options{CacheDir: dir, CacheKey: cacheKey, CacheLimits: sandbox.CacheLimits{Entries: 2}, Compilers: 2})
		runtimes = append(runtimes, r)
		for k := range 2 {
			wg.Go(func() {
				random := rand.New(rand.NewPCG(uint64(i), uint64(k)))
				for range 15 {
					scores(t, r, float64(random.IntN(4)))
				}
			})
		}
	}
	wg.Wait()
	for _, r := range runtimes {
		got := r.CompilerStats()
		t.Logf("%+v", got)
		if got.Failed+got.Refused+got.Damaged > 0 || got.Hits+got.Misses != 30 || got.Runs != got.Misses {
			t.Errorf("stats %+v", got)
		}
	}
	onlyEntries(t, dir, 2)
}

// A folder that can't be written is told, and is not the module's fault.
func TestCacheFolderThatFails(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cache")
	r := newRuntime(t, sandbox.Options{CacheDir: dir})
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	_, err := r.Compile(context.Background(), scoring(1))
	notTheModule(t, err, dir)
	if err := os.WriteFile(dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = r.Compile(context.Background(), scoring(1))
	notTheModule(t, err, dir)
}

// A folder on a disk that is full, or that may only be read, is told too.
func TestCacheFolderOnABadDisk(t *testing.T) {
	for name, options := range map[string]string{"full": "size=64k", "read-only": "size=1m,ro"} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			unmount, err := mount(dir, options)
			if err != nil {
				t.Skipf("a file system in memory can't be mounted here: %v", err)
			}
			defer unmount(t)
			r, err := sandbox.New(context.Background(), withCompiler(t, sandbox.Options{CacheDir: dir}))
			if name == "read-only" {
				if err == nil || !strings.Contains(err.Error(), "read-only file system") || !strings.Contains(err.Error(), dir) {
					t.Errorf("error %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			for i := range 3 {
				wasm := heavy(40+i, 50, 50)
				_, err = r.Compile(context.Background(), wasm)
				notTheModule(t, err, "no space left on device")
			}
			onlyEntries(t, dir, 0)
			scores(t, r, 1)
			if got := r.CompilerStats(); got.Failed != 3 || got.Runs != 4 {
				t.Errorf("stats %+v", got)
			}
			if err := r.Close(context.Background()); err != nil {
				t.Error(err)
			}
		})
	}
}

// Damage of the folder while it is used never gives a wrong score, and no error.
func TestDamageWhileServing(t *testing.T) {
	dir := t.TempDir()
	r := newRuntime(t, sandbox.Options{CacheDir: dir, CacheKey: cacheKey})
	stop := make(chan struct{})
	var wg sync.WaitGroup
	damaged := 0
	wg.Go(func() {
		random := rand.New(rand.NewPCG(5, 5))
		for {
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
			}
			files, _ := filepath.Glob(filepath.Join(dir, strings.Repeat("?", 64), "*"))
			if len(files) == 0 {
				continue
			}
			f, err := os.OpenFile(files[random.IntN(len(files))], os.O_WRONLY, 0)
			if err != nil {
				continue // it was just replaced
			}
			if _, err := f.WriteAt([]byte(strconv.Itoa(random.IntN(10))), int64(random.IntN(400))); err == nil {
				damaged++
			}
			_ = f.Close()
		}
	})
	calls, got := uint64(0), sandbox.CompilerStats{}
	for got.Hits < 10 || got.Damaged < 10 {
		if calls == 10_000 {
			t.Fatalf("stats %+v", got)
		}
		scores(t, r, float64(calls%3))
		calls, got = calls+1, r.CompilerStats()
	}
	close(stop)
	wg.Wait()
	t.Logf("%d writes, %d calls: %+v", damaged, calls, got)
	if got.Hits+got.Damaged+got.Misses != calls || got.Runs != got.Damaged+got.Misses {
		t.Errorf("stats %+v after %d calls", got, calls)
	}
}
