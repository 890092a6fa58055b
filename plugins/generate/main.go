// Command generate builds the strategies that ship with Rapport into
// plugins/dist, and writes their checksums. `go generate ./plugins` runs it in
// the folder plugins.
//
// It needs clang and wasm-ld 14 or later. The same versions give the same bytes;
// which ones made the committed files is in dist/SHA256SUMS.
package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// flags build a strategy in C. No flag depends on where the sources are.
var flags = []string{
	"--target=wasm32", "-std=c11", "-O2", "-msimd128", "-ffp-contract=off", "-nostdlib", "-Wall", "-Wextra", "-Werror",
	"-Wl,--no-entry", "-Wl,--strip-all", "-Wl,-z,stack-size=8192",
}

// sources are the strategies: the module in dist, and what it is built of.
var sources = map[string]string{"pvcl.wasm": "pvcl/pvcl.c"}

func main() {
	if err := generate("dist"); err != nil {
		fmt.Fprintln(os.Stderr, "plugins/generate:", err)
		os.Exit(1)
	}
}

func generate(dist string) error {
	version, err := run("clang", "--version")
	if err != nil {
		return err
	}
	first, _, _ := bytes.Cut(version, []byte("\n"))
	sums := fmt.Appendf(nil, "# built with %s\n", first)
	for module, source := range sources {
		out := filepath.Join(dist, module)
		if _, err := run("clang", append(flags, "-o", out, source)...); err != nil {
			return err
		}
		if err := os.Chmod(out, 0o600); err != nil {
			return err
		}
		b, err := os.ReadFile(out)
		if err != nil {
			return err
		}
		sums = fmt.Appendf(sums, "%x  %s\n", sha256.Sum256(b), module)
	}
	return os.WriteFile(filepath.Join(dist, "SHA256SUMS"), sums, 0o600) //nolint:gosec // the folder is a constant of main
}

func run(name string, args ...string) ([]byte, error) {
	out, err := exec.CommandContext(context.Background(), name, args...).CombinedOutput() //nolint:gosec // all are constants of this file
	if err != nil {
		return nil, fmt.Errorf("%s %v: %w\n%s", name, args, err, out)
	}
	return out, nil
}
