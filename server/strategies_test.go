package server_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"connectrpc.com/connect"

	"rapport/profilestore/durable"
	"rapport/server"
	"rapport/server/sandbox/compilertest"
)

// compiled returns the digest of each file that is kept of compiled strategies.
func compiled(t *testing.T, dir string) map[string][32]byte {
	t.Helper()
	files, root := make(map[string][32]byte), os.DirFS(filepath.Join(dir, "wasm-cache"))
	err := fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == "LOCK" {
			return err
		}
		b, err := fs.ReadFile(root, name)
		files[name] = sha256.Sum256(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// Compiled strategies are kept under a key that only the server can read, and serve
// the next one; without the key they are compiled again.
func TestCompiledStrategiesAreKept(t *testing.T) {
	dir := newData(t)
	open(t, dir, nil).stop()
	first := compiled(t, dir)
	if len(first) < 3 {
		t.Fatalf("%d files are kept", len(first))
	}
	open(t, dir, nil).stop()
	for name, sum := range compiled(t, dir) {
		if first[name] != sum {
			t.Errorf("%s has changed, though nothing else has", name)
		}
	}
	for _, name := range []string{"wasm-cache", "keys", "keys/cache.key"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("others can use %s: %v", name, info.Mode())
		}
	}

	if err := durable.RemoveSealed(filepath.Join(dir, "keys", "cache.key")); err != nil {
		t.Fatal(err)
	}
	open(t, dir, nil).stop()
	again := compiled(t, dir)
	for name, sum := range again {
		if strings.HasSuffix(name, "/index") && first[name] == sum {
			t.Errorf("%s is as it was, though the key is another", name)
		}
	}
	if len(again) != len(first) {
		t.Errorf("%d files are kept, then %d", len(first), len(again))
	}
}

// A key that is no secret, or is damaged, is not used.
func TestCacheKeyMustBeGood(t *testing.T) {
	dir := newData(t)
	open(t, dir, nil).stop()
	compiler, err := compilertest.Command()
	if err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(dir, "keys", "cache.key")
	refuse := func(want string) {
		t.Helper()
		_, err := server.Open(context.Background(), server.Config{Data: dir, Logger: quiet(), Compiler: compiler})
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "remove it") {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
	if err := os.Chmod(key, 0o644); err != nil {
		t.Fatal(err)
	}
	refuse("mode 644")
	if err := durable.WriteSealed(key, []byte("short")); err != nil {
		t.Fatal(err)
	}
	refuse("5 bytes")
}

// A server that can't start its compiler says so when it opens.
func TestServerWithoutACompiler(t *testing.T) {
	dir := newData(t)
	missing := filepath.Join(dir, "no-such-program")
	_, err := server.Open(context.Background(), server.Config{Data: dir, Logger: quiet(), Compiler: []string{missing}})
	if err == nil || !strings.Contains(err.Error(), missing) {
		t.Errorf("error %v", err)
	}
}

// A server whose compiler can't be started any more says so, tells who uploads that it
// is not the module's fault, and goes on with what it has.
func TestUploadWithoutACompiler(t *testing.T) {
	log := new(logText)
	command, err := compilertest.Command()
	if err != nil {
		t.Fatal(err)
	}
	program, err := filepath.EvalSymlinks(command[0])
	if err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "compiler")
	if err := os.Symlink(program, link); err != nil {
		t.Fatal(err)
	}
	h := open(t, newData(t), func(c *server.Config) {
		c.Compiler = append([]string{link}, command[1:]...)
		c.Logger = slog.New(slog.NewTextHandler(log, nil))
	})
	h.upload(t, module(t, "2.0.0"), nil)
	// It is there, or nothing would be looked for in the cache, and can't be executed.
	if err := errors.Join(os.Remove(link), os.WriteFile(link, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	_, err = h.tryUpload(module(t, "3.0.0"), nil)
	if connect.CodeOf(err) != connect.CodeUnavailable || errorReason(err) != "COMPILER_FAILED" || strings.Contains(err.Error(), link) {
		t.Errorf("error %v", err)
	}
	if log.lines("level=ERROR", link, "permission denied") != 1 {
		t.Error("the log does not say why")
	}
	if got := h.metric(t, `rapport_compiler_failures_total{reason="failed"}`); got != 1 {
		t.Errorf("%v failures", got)
	}
	h.put(t, "2.0.0", live, 0)
}
