// Command generate builds the guests of the tests that are committed, because to
// run the tests nothing but Go should be needed, and writes their checksums. `go
// generate ./server/sandbox` runs it in that folder.
//
// It needs clang and wasm-ld 14 or later, node and npm. The same versions give the
// same bytes; which ones made the committed files is in SHA256SUMS. The version of
// AssemblyScript's compiler is that of sdk/assemblyscript/package-lock.json.
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

// Places, from the folder of package sandbox.
const (
	root   = "../.." // where AssemblyScript's compiler runs, so that names in its output are short
	folder = "server/sandbox/testdata/remembers"
	sdk    = "sdk/assemblyscript"
)

// guests are the modules, and the commands that build them in root.
var guests = []struct {
	module        string
	command, tool []string // tool says its version
}{
	{
		"remembers_c.wasm",
		[]string{
			"clang", "--target=wasm32", "-std=c11", "-O2", "-ffp-contract=off", "-nostdlib", "-Wall", "-Wextra", "-Werror",
			"-Wl,--no-entry", "-Wl,--strip-all", "-Wl,-z,stack-size=8192", folder + "/remembers.c", "-o",
		},
		[]string{"clang", "--version"},
	},
	{
		"remembers_as.wasm",
		[]string{
			"node", sdk + "/node_modules/assemblyscript/bin/asc.js", folder + "/remembers.ts", "--baseDir", ".", "-O3", "--noAssert",
			"--runtime", "stub", "--exportStart", "_initialize", "--use", "abort=" + sdk + "/assembly/rapport/abort", "-o",
		},
		[]string{"node", sdk + "/node_modules/assemblyscript/bin/asc.js", "--version"},
	},
}

func main() {
	if err := generate(); err != nil {
		fmt.Fprintln(os.Stderr, "testdata/generate:", err)
		os.Exit(1)
	}
}

func generate() error {
	if _, err := run(filepath.Join(root, sdk), "npm", "ci", "--no-audit", "--no-fund"); err != nil {
		return err
	}
	var sums []byte
	for _, g := range guests {
		version, err := run(root, g.tool...)
		if err != nil {
			return err
		}
		if _, err := run(root, append(g.command, filepath.Join(folder, g.module))...); err != nil {
			return err
		}
		out := filepath.Join(root, folder, g.module)
		if err := os.Chmod(out, 0o644); err != nil {
			return err
		}
		b, err := os.ReadFile(out)
		if err != nil {
			return err
		}
		first, _, _ := bytes.Cut(version, []byte("\n"))
		sums = fmt.Appendf(sums, "# %s: %s %s\n%x  %s\n", g.module, g.command[0], first, sha256.Sum256(b), g.module)
	}
	return os.WriteFile(filepath.Join(root, folder, "SHA256SUMS"), sums, 0o644)
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
