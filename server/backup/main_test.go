package backup_test

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"rapport/profilestore/journal"
	"rapport/server/backup"
	"rapport/server/sandbox/compilertest"
)

func TestMain(m *testing.M) {
	if at := os.Getenv(killedEnv); at != "" {
		backUpUntilKilled(at)
	}
	compilertest.Main(m.Run)
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// tempDir returns a folder in memory where the machine has one with room: on a disk these
// tests would do little but wait for fsync, and what they test does not depend on it.
func tempDir(t testing.TB) string {
	t.Helper()
	var disk syscall.Statfs_t
	const shm = "/dev/shm"
	if err := syscall.Statfs(shm, &disk); err != nil || int64(disk.Bavail)*disk.Bsize < 2<<30 {
		return t.TempDir()
	}
	dir, err := os.MkdirTemp(shm, "rapport-backup") //nolint:usetesting // TempDir is on a disk
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { check(t, os.RemoveAll(dir)) })
	return dir
}

// write writes files below a folder, by name.
func write(t testing.TB, dir string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		check(t, os.MkdirAll(filepath.Dir(path), 0o750))
		check(t, os.WriteFile(path, []byte(content), 0o600))
	}
}

// large is the content of a file of three pieces.
var large = sync.OnceValue(func() string {
	b := make([]byte, 9<<20)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(b) // it never fails
	return string(b)
})

// newLargeData makes one with a file of three pieces.
func newLargeData(t testing.TB) string {
	t.Helper()
	dir := newData(t)
	write(t, dir, map[string]string{"snapshots/bi/gen-1/rows/sst": large()})
	return dir
}

// newData makes a folder that looks like a data folder, with a journal that is one.
func newData(t testing.TB) string {
	t.Helper()
	dir := tempDir(t)
	write(t, dir, map[string]string{
		"FORMAT": "rapport data 1\n", "schema": "{}", "LOCK": "1", "ballast": "space", "evidence": "counts",
		"journal/ID":                  "thisjournal",
		"keys/a.key":                  "secret",
		"deltas/x":                    "derived",
		"wasm-cache/":                 "",
		"snapshots/bi/CURRENT.json":   `{"active":1}`,
		"snapshots/bi/CURRENT.lock":   "",
		"snapshots/bi/gen-1/rows/sst": large()[:20_000],
		"snapshots/bi/gen-2.tmp/rows": "being built",
		"catalog/CURRENT":             "1", "catalog/v000001.json": "catalogue", "catalog/v000002.json.new": "half",
		"audit/000001.ndjson": "one\ntwo\nthr", "ledger/00000001.log": "promises",
		"something/unknown": "who knows",
	})
	check(t, os.Chmod(filepath.Join(dir, "keys"), 0o700))
	check(t, os.Chmod(filepath.Join(dir, "schema"), 0o640))
	appendJournal(t, dir, 300)
	return dir
}

// appendJournal appends entries to the journal of a data folder.
func appendJournal(t testing.TB, dir string, n int) {
	t.Helper()
	j, err := journal.Open(filepath.Join(dir, "journal"), journal.Options{Logger: quiet(), SegmentBytes: 4096})
	check(t, err)
	for range n {
		_, err := j.Append(t.Context(), &journal.Entry{Payload: []byte("an entry of the journal, of some length")})
		check(t, err)
	}
	check(t, j.Close())
}

// take makes a backup.
func take(t testing.TB, data, to string) *backup.Manifest {
	t.Helper()
	m, err := backup.Take(t.Context(), backup.Options{Data: data, To: to, Version: "test"})
	check(t, err)
	return m
}

// contents returns what is in a folder: the mode and content of each file, and the mode of
// each folder.
func contents(t testing.TB, dir string) map[string]string {
	t.Helper()
	out := make(map[string]string)
	check(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		var b []byte
		if !d.IsDir() {
			if b, err = os.ReadFile(path); err != nil {
				return err
			}
		}
		if name != "." {
			out[filepath.ToSlash(name)] = fmt.Sprintf("%v %s", info.Mode(), b)
		}
		return nil
	}))
	return out
}

// restore restores the newest backup.
func restore(t testing.TB, from string) string {
	t.Helper()
	data := filepath.Join(tempDir(t), "restored")
	_, err := backup.Restore(t.Context(), backup.RestoreOptions{Folder: from, Data: data})
	check(t, err)
	return data
}

// same compares a restored folder with what is to be in it.
func same(t testing.TB, got, want map[string]string) {
	t.Helper()
	for name, content := range want {
		if got[name] != content {
			t.Errorf("%s is %.60q, not %.60q", name, got[name], content)
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			t.Errorf("%s should not be there", name)
		}
	}
}

// copied returns what of a data folder a backup has.
func copied(t testing.TB, data string) map[string]string {
	t.Helper()
	want := contents(t, data)
	for name := range want {
		top, _, _ := strings.Cut(name, "/")
		switch {
		case top == "deltas", top == "wasm-cache", top == "LOCK", top == "ballast", top == "backup.lock",
			strings.Contains(name, ".tmp"), strings.HasSuffix(name, ".new"), strings.HasSuffix(name, ".lock"):
			delete(want, name)
		}
	}
	want["audit/000001.ndjson"] = strings.TrimSuffix(want["audit/000001.ndjson"], "thr")
	return want
}

// killedEnv tells a process of this test to make a backup and to kill itself when it has
// read so many files and folders.
const killedEnv = "RAPPORT_BACKUP_KILLED"

func backUpUntilKilled(at string) {
	n, err := strconv.Atoi(at)
	if err != nil {
		os.Exit(3)
	}
	_, err = backup.Take(context.Background(), backup.Options{
		Data: os.Getenv("RAPPORT_BACKUP_DATA"), To: os.Getenv("RAPPORT_BACKUP_TO"),
		Hook: func(string) {
			if n--; n == 0 {
				_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			}
		},
	})
	if err != nil {
		_, _ = fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// flip changes one bit in the middle of a file.
func flip(t testing.TB, path string) {
	t.Helper()
	b, err := os.ReadFile(path)
	check(t, err)
	b = bytes.Clone(b)
	b[len(b)/2] ^= 4
	check(t, os.WriteFile(path, b, 0o600))
}
