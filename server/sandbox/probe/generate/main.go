// Command generate builds the programs of package probe, in each of their layouts,
// and writes their checksums. `go generate ./server/sandbox/probe` runs it in that
// folder.
//
// It needs clang and wasm-ld 14 or later. The same versions give the same bytes;
// which ones made the committed files is in programs/SHA256SUMS.
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

// flags are those with which strategies in C are built, without SIMD: what is
// measured are the loops that are written there.
var flags = []string{
	"--target=wasm32", "-std=c11", "-O2", "-ffp-contract=off", "-nostdlib", "-Wall", "-Wextra", "-Werror",
	"-Wl,--no-entry", "-Wl,--strip-all", "-Wl,-z,stack-size=8192",
}

const (
	folder  = "programs"
	layouts = 4 // probe.Layouts
)

func main() {
	if err := generate(); err != nil {
		fmt.Fprintln(os.Stderr, "probe/generate:", err)
		os.Exit(1)
	}
}

func generate() error {
	version, err := run("clang", "--version")
	if err != nil {
		return err
	}
	first, _, _ := bytes.Cut(version, []byte("\n"))
	sums := fmt.Appendf(nil, "# built with %s\n", first)
	for layout := range layouts {
		module := fmt.Sprintf("programs%d.wasm", layout)
		out := filepath.Join(folder, module)
		if _, err := run("clang", append(flags, fmt.Sprintf("-DPAD=%d", layout), "-o", out, filepath.Join(folder, "programs.c"))...); err != nil {
			return err
		}
		if err := os.Chmod(out, 0o644); err != nil { //nolint:gosec // they are for everyone to read
			return err
		}
		b, err := os.ReadFile(out)
		if err != nil {
			return err
		}
		sums = fmt.Appendf(sums, "%x  %s\n", sha256.Sum256(b), module)
	}
	return os.WriteFile(filepath.Join(folder, "SHA256SUMS"), sums, 0o644) //nolint:gosec // they are for everyone to read
}

func run(name string, args ...string) ([]byte, error) {
	out, err := exec.CommandContext(context.Background(), name, args...).CombinedOutput() //nolint:gosec // all are constants of this file
	if err != nil {
		return nil, fmt.Errorf("%s %v: %w\n%s", name, args, err, out)
	}
	return out, nil
}
