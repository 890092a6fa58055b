package plugins_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"rapport/plugins"
)

const sums = "dist/SHA256SUMS"

// What is embedded is what its checksum says.
func TestChecksums(t *testing.T) {
	b, err := os.ReadFile(sums)
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("%x  pvcl.wasm\n", sha256.Sum256(plugins.PVCL()))
	if !strings.Contains(string(b), want) {
		t.Errorf("%s does not have the line %s: run go generate ./plugins", sums, want)
	}
	if len(plugins.Builtin()) != 1 || !bytes.Equal(plugins.Builtin()[0], plugins.PVCL()) {
		t.Error("pvcl is not the one that ships")
	}
}

// The committed module is what its source makes, with the compiler that made it.
func TestBuildIsReproducible(t *testing.T) {
	committed, err := os.ReadFile(sums)
	if err != nil {
		t.Fatal(err)
	}
	version, err := exec.CommandContext(t.Context(), "clang", "--version").Output()
	first, _, _ := strings.Cut(string(version), "\n")
	if err != nil || !strings.Contains(string(committed), first+"\n") {
		if os.Getenv("RAPPORT_REQUIRE_TOOLS") != "" {
			t.Fatalf("clang is needed, as %s names it; here is %q", sums, first)
		}
		t.Skipf("the compiler that %s names is not here", sums)
	}
	// The program writes to dist below the folder it runs in.
	dir := t.TempDir()
	for _, folder := range []string{"plugins/pvcl", "plugins/generate", "sdk/c"} {
		if err := os.CopyFS(filepath.Join(dir, folder), os.DirFS(filepath.Join("..", folder))); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "plugins/dist"), 0o700); err != nil {
		t.Fatal(err)
	}
	generate := exec.CommandContext(t.Context(), "go", "run", "generate/main.go")
	generate.Dir = filepath.Join(dir, "plugins")
	if text, err := generate.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	built, err := os.ReadFile(filepath.Join(dir, "plugins", sums))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(built, committed) {
		t.Errorf("built:\n%s\ncommitted:\n%s", built, committed)
	}
}
