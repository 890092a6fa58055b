// Command generate builds the strategies that ship with Rapport into
// plugins/dist, and writes their checksums. `go generate ./plugins` runs it in
// the folder plugins.
//
// It needs clang and wasm-ld 14 or later; node, and npm, which gets the version of
// AssemblyScript's compiler that sdk/assemblyscript/package-lock.json names, unless it
// is there; and a rustc that has the target wasm32-unknown-unknown, such as Debian's with
// libstd-rust-dev-wasm32. The same versions give the same bytes; which ones made the
// committed files is in dist/SHA256SUMS.
//
// With -versions it only prints the lines of SHA256SUMS that name the compilers.
package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// strategies are the modules in dist, in the order of their names: what each is built of,
// in which language.
var strategies = []struct{ name, language, source string }{
	{"care", "c", "plugins/care/care.c"},
	{"epsilon", "assemblyscript", "plugins/epsilon/epsilon.ts"},
	{"pvcl", "c", "plugins/pvcl/pvcl.c"},
	{"scorecard", "rust", "plugins/scorecard/scorecard.rs"},
}

// root is where compilers run, so that names in their output are short; seen from plugins.
const root = ".."

const (
	asSDK     = "sdk/assemblyscript"
	ascScript = asSDK + "/node_modules/assemblyscript/bin/asc.js"
)

// toolchain builds modules of a language.
type toolchain struct {
	version []string // says its version, in the first line
	// build is what builds a module, with the source and the module in place of SOURCE
	// and OUT.
	build [][]string
}

func main() {
	versions := flag.Bool("versions", false, "print the versions of the compilers, and build nothing")
	flag.Parse()
	if err := generate(*versions); err != nil {
		fmt.Fprintln(os.Stderr, "plugins/generate:", err)
		os.Exit(1)
	}
}

func generate(onlyVersions bool) (err error) {
	temporary, err := os.MkdirTemp("", "rapport-generate-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(temporary)) }()
	if !onlyVersions {
		if err := installASC(); err != nil {
			return err
		}
	}
	tools, err := toolchains(temporary)
	if err != nil {
		return err
	}
	var sums []byte
	for _, s := range strategies {
		tool := tools[s.language]
		version, err := run(root, tool.version...)
		if err != nil {
			return err
		}
		first, _, _ := bytes.Cut(version, []byte("\n"))
		sums = fmt.Appendf(sums, "# %s.wasm: %s, %s\n", s.name, s.language, first)
		if onlyVersions {
			continue
		}
		b, err := build(tool, s.source, "plugins/dist/"+s.name+".wasm")
		if err != nil {
			return err
		}
		sums = fmt.Appendf(sums, "%x  %s.wasm\n", sha256.Sum256(b), s.name)
	}
	if onlyVersions {
		_, err := os.Stdout.Write(sums)
		return err
	}
	return os.WriteFile("dist/SHA256SUMS", sums, 0o600)
}

// build builds a module and returns it.
func build(tool toolchain, source, out string) ([]byte, error) {
	for _, command := range tool.build {
		words := slices.Clone(command)
		for i, word := range words {
			words[i] = strings.NewReplacer("SOURCE", source, "OUT", out).Replace(word)
		}
		if _, err := run(root, words...); err != nil {
			return nil, err
		}
	}
	if err := os.Chmod(filepath.Join(root, out), 0o600); err != nil {
		return nil, err
	}
	return os.ReadFile(filepath.Join(root, out))
}

// toolchains are those of the languages. No flag depends on where the sources are.
func toolchains(temporary string) (map[string]toolchain, error) {
	asc := []string{"node", ascScript}
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
			"clang", "--target=wasm32", "-std=c11", "-O2", "-msimd128", "-ffp-contract=off", "-nostdlib", "-Wall", "-Wextra", "-Werror",
			"-Wl,--no-entry", "-Wl,--strip-all", "-Wl,-z,stack-size=8192", "-o", "OUT", "SOURCE",
		}}},
		"assemblyscript": {append(asc, "--version"), [][]string{append(asc,
			"SOURCE", "--baseDir", ".", "-O3", "--noAssert", "--runtime", "stub", "--exportStart", "_initialize",
			"--use", "abort="+asSDK+"/assembly/rapport/abort", "-o", "OUT",
		)}},
		"rust": {[]string{rustc, "--version"}, [][]string{
			rust("rlib", "--crate-name", "rapport", "-o", rlib, "sdk/rust/src/lib.rs"),
			rust("cdylib", "-C", "lto", "-C", "strip=symbols", "-C", "link-arg=-zstack-size=65536", "--extern", "rapport="+rlib, "-o", "OUT", "SOURCE"),
		}},
	}, nil
}

// installASC gets the compiler of AssemblyScript, unless it is there.
func installASC() error {
	if _, err := os.Stat(filepath.Join(root, ascScript)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	_, err := run(filepath.Join(root, asSDK), "npm", "ci", "--no-audit", "--no-fund")
	return err
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
		if _, err := os.Stat(filepath.Join(string(bytes.TrimSpace(sysroot)), "lib/rustlib/wasm32-unknown-unknown")); err == nil { //nolint:gosec // the compiler says where it is
			return rustc, nil
		}
	}
	return "", errors.New("no rustc with the target wasm32-unknown-unknown: install rustc and libstd-rust-dev-wasm32 of Debian, or add the target with rustup, or set RUSTC")
}

func run(dir string, command ...string) ([]byte, error) {
	c := exec.CommandContext(context.Background(), command[0], command[1:]...) //nolint:gosec // all are constants of this file, but for $RUSTC
	c.Dir = dir
	out, err := c.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("%v: %w\n%s", command, err, out)
	}
	return out, nil
}
