// Command generate builds the guests of the tests that are committed, because to
// run the tests nothing but Go should be needed, and writes their checksums. `go
// generate ./server/sandbox` runs it in that folder.
//
// It needs clang and wasm-ld 14 or later, node and npm, and a rustc that has the target
// wasm32-unknown-unknown, such as Debian's with libstd-rust-dev-wasm32. The same versions
// give the same bytes; which ones made the committed files is in SHA256SUMS. The version
// of AssemblyScript's compiler is that of sdk/assemblyscript/package-lock.json.
package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Places, from the folder of package sandbox.
const (
	root     = "../.." // where compilers run, so that names in their output are short
	testdata = "server/sandbox/testdata/"
	asSDK    = "sdk/assemblyscript"
	rustSDK  = "sdk/rust/src/lib.rs"
)

// guests are the modules, by the folder of testdata that they are in: what builds each,
// and of which source, from there.
var guests = []struct{ folder, module, language, source string }{
	{"remembers", "remembers_c.wasm", "c", "remembers.c"},
	{"remembers", "remembers_as.wasm", "assemblyscript", "remembers.ts"},
	{"golden", "golden_c.wasm", "c", "golden.c"},
	{"golden", "golden_as.wasm", "assemblyscript", "golden.ts"},
	{"golden", "golden_rs.wasm", "rust", "golden.rs"},
	{"examples", "spenders_c.wasm", "c", "../../../../sdk/c/example/spenders.c"},
	{"examples", "spenders_as.wasm", "assemblyscript", "../../../../sdk/assemblyscript/example/spenders.ts"},
	{"examples", "spenders_rs.wasm", "rust", "../../../../sdk/rust/example/spenders.rs"},
}

// toolchain builds modules of a language: its commands run in root, with the source and
// the module in place of SOURCE and OUT. The first is what says its version.
type toolchain struct {
	version []string
	build   [][]string
}

func toolchains(temporary string) (map[string]toolchain, error) {
	asc := []string{"node", asSDK + "/node_modules/assemblyscript/bin/asc.js"}
	rustc, err := findRustc()
	if err != nil {
		return nil, err
	}
	here, err := filepath.Abs(root)
	if err != nil {
		return nil, err
	}
	rust := func(kind string, more ...string) []string {
		return append([]string{
			rustc, "--edition", "2021", "--target", "wasm32-unknown-unknown", "--crate-type", kind,
			"-C", "opt-level=3", "-C", "panic=abort", "-C", "codegen-units=1", "-D", "warnings",
			"--remap-path-prefix", here + "=.", // names of files are in messages of panics
		}, more...)
	}
	rlib := filepath.Join(temporary, "librapport.rlib")
	return map[string]toolchain{
		"c": {[]string{"clang", "--version"}, [][]string{{
			"clang", "--target=wasm32", "-std=c11", "-O2", "-ffp-contract=off", "-nostdlib", "-Wall", "-Wextra", "-Werror",
			"-Wl,--no-entry", "-Wl,--strip-all", "-Wl,-z,stack-size=8192", "SOURCE", "-o", "OUT",
		}}},
		"assemblyscript": {append(asc, "--version"), [][]string{append(asc,
			"SOURCE", "--baseDir", ".", "-O3", "--noAssert", "--runtime", "stub", "--exportStart", "_initialize",
			"--use", "abort="+asSDK+"/assembly/rapport/abort", "-o", "OUT",
		)}},
		"rust": {[]string{rustc, "--version"}, [][]string{
			rust("rlib", "--crate-name", "rapport", "-o", rlib, rustSDK),
			rust("cdylib", "-C", "lto", "-C", "strip=symbols", "-C", "link-arg=-zstack-size=65536", "--extern", "rapport="+rlib, "-o", "OUT", "SOURCE"),
		}},
	}, nil
}

// findRustc returns the first rustc that can build for WebAssembly: of $RUSTC, of the
// path, and Debian's, before which another may be in the path.
func findRustc() (string, error) {
	for _, rustc := range []string{os.Getenv("RUSTC"), "rustc", "/usr/bin/rustc"} {
		if rustc == "" {
			continue
		}
		sysroot, err := run(root, rustc, "--print", "sysroot")
		if err != nil {
			continue
		}
		if _, err := os.Stat(filepath.Join(string(bytes.TrimSpace(sysroot)), "lib/rustlib/wasm32-unknown-unknown")); err == nil {
			return rustc, nil
		}
	}
	return "", errors.New("no rustc with the target wasm32-unknown-unknown: install rustc and libstd-rust-dev-wasm32 of Debian, or add the target with rustup, or set RUSTC")
}

func main() {
	if err := generate(); err != nil {
		fmt.Fprintln(os.Stderr, "testdata/generate:", err)
		os.Exit(1)
	}
}

func generate() error {
	if _, err := run(filepath.Join(root, asSDK), "npm", "ci", "--no-audit", "--no-fund"); err != nil {
		return err
	}
	temporary, err := os.MkdirTemp("", "rapport-generate-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temporary)
	tools, err := toolchains(temporary)
	if err != nil {
		return err
	}
	sums := make(map[string][]byte)
	for _, g := range guests {
		tool := tools[g.language]
		version, err := run(root, tool.version...)
		if err != nil {
			return err
		}
		out := filepath.Join(testdata, g.folder, g.module)
		for _, command := range tool.build {
			words := slices.Clone(command)
			for i, word := range words {
				words[i] = strings.NewReplacer("SOURCE", filepath.Join(testdata, g.folder, g.source), "OUT", out).Replace(word)
			}
			if _, err := run(root, words...); err != nil {
				return err
			}
		}
		if err := os.Chmod(filepath.Join(root, out), 0o644); err != nil {
			return err
		}
		b, err := os.ReadFile(filepath.Join(root, out))
		if err != nil {
			return err
		}
		first, _, _ := bytes.Cut(version, []byte("\n"))
		sums[g.folder] = fmt.Appendf(sums[g.folder], "# %s: %s %s\n%x  %s\n", g.module, filepath.Base(tool.version[0]), first, sha256.Sum256(b), g.module)
	}
	for folder, text := range sums {
		if err := os.WriteFile(filepath.Join(root, testdata, folder, "SHA256SUMS"), text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func run(dir string, command ...string) ([]byte, error) {
	c := exec.CommandContext(context.Background(), command[0], command[1:]...)
	c.Dir = dir
	out, err := c.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("%v: %w\n%s", command, err, out)
	}
	return out, nil
}
