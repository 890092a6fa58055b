//go:build !wasip1

package plugins_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"rapport/plugins"
	"rapport/server/sandbox"
	"rapport/server/sandbox/compilertest"
	"rapport/server/sandbox/trial"
)

func TestMain(m *testing.M) { compilertest.Main(m.Run) }

const sums = "dist/SHA256SUMS"

// shipped are the strategies in dist.
var shipped = []string{"care", "epsilon", "pvcl", "scorecard"}

func read(t testing.TB, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// What is committed and embedded is what its checksum says.
func TestChecksums(t *testing.T) {
	list := string(read(t, sums))
	modules, err := filepath.Glob("dist/*.wasm")
	if err != nil {
		t.Fatal(err)
	}
	if len(modules) != len(shipped) || strings.Count(list, "\n") != 2*len(shipped) {
		t.Errorf("%d modules and %d lines of %s, for %d strategies", len(modules), strings.Count(list, "\n"), sums, len(shipped))
	}
	for _, name := range shipped {
		if want := fmt.Sprintf("%x  %s.wasm\n", sha256.Sum256(read(t, "dist/"+name+".wasm")), name); !strings.Contains(list, want) {
			t.Errorf("%s does not have the line %s: run go generate ./plugins", sums, want)
		}
	}
	if len(plugins.Builtin()) != 1 || !bytes.Equal(plugins.Builtin()[0], plugins.PVCL()) || !bytes.Equal(plugins.PVCL(), read(t, "dist/pvcl.wasm")) {
		t.Error("pvcl is not the one that is embedded")
	}
}

// The committed modules are what their sources make, with the compilers that made them.
func TestBuildIsReproducible(t *testing.T) {
	committed := string(read(t, sums))
	var want strings.Builder
	for line := range strings.Lines(committed) {
		if strings.HasPrefix(line, "#") {
			want.WriteString(line)
		}
	}
	versions, err := exec.CommandContext(t.Context(), "go", "run", "./generate", "-versions").Output()
	if err != nil || string(versions) != want.String() {
		if os.Getenv("RAPPORT_REQUIRE_TOOLS") != "" {
			t.Fatalf("these compilers are needed:\n%s; here are:\n%s\n%v", want.String(), versions, err)
		}
		t.Skipf("the compilers that %s names are not here", sums)
	}
	// The program builds in the folder above the one it runs in.
	dir := t.TempDir()
	for _, folder := range []string{"care", "epsilon", "pvcl", "scorecard", "generate", "../sdk/c", "../sdk/rust", "../sdk/assemblyscript/assembly"} {
		if err := os.CopyFS(filepath.Join(dir, "plugins", folder), os.DirFS(folder)); err != nil {
			t.Fatal(err)
		}
	}
	compiler, err := filepath.Abs("../sdk/assemblyscript/node_modules")
	if err == nil {
		err = errors.Join(os.Symlink(compiler, filepath.Join(dir, "sdk/assemblyscript/node_modules")), os.Mkdir(filepath.Join(dir, "plugins/dist"), 0o700))
	}
	if err != nil {
		t.Fatal(err)
	}
	generate := exec.CommandContext(t.Context(), "go", "run", "generate/main.go")
	generate.Dir = filepath.Join(dir, "plugins")
	if text, err := generate.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if built := string(read(t, filepath.Join(dir, "plugins", sums))); built != committed {
		t.Errorf("built:\n%s\ncommitted:\n%s", built, committed)
	}
}

// compiled returns the module of a strategy in dist.
func compiled(t testing.TB, r *sandbox.Runtime, name string) *sandbox.Module {
	t.Helper()
	m, err := r.Compile(t.Context(), read(t, "dist/"+name+".wasm"))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func newRuntime(t testing.TB) *sandbox.Runtime {
	t.Helper()
	command, err := compilertest.Command()
	if err != nil {
		t.Fatal(err)
	}
	r, err := sandbox.New(t.Context(), sandbox.Options{Logger: slog.New(slog.DiscardHandler), Compiler: command})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return r
}

// Every case of the strategies that ship comes out as it says, as with rapport plugin
// test; each has one, gives every reason in some case, and sets every parameter that
// its README names.
func TestCases(t *testing.T) {
	r := newRuntime(t)
	for _, name := range shipped {
		t.Run(name, func(t *testing.T) {
			m := compiled(t, r, name)
			files, err := fs.Glob(os.DirFS(name), "cases/*.yaml")
			if err != nil {
				t.Fatal(err)
			}
			given := make(map[string]int)
			for _, file := range files {
				c, err := trial.ReadFile(filepath.Join(name, file))
				if err != nil {
					t.Fatal(err)
				}
				if c.Expect == nil {
					t.Errorf("%s expects nothing", file)
					continue
				}
				result, err := trial.Run(t.Context(), m, c, 0)
				if err != nil {
					t.Fatal(err)
				}
				for _, d := range c.Compare(result) {
					t.Errorf("%s: %s", file, d)
				}
				for _, a := range result.Candidates {
					given[a.Reason]++
				}
			}
			t.Logf("%d cases, reasons %v", len(files), given)
			if len(files) == 0 {
				t.Error("no cases")
			}
			for _, reason := range m.Manifest().Reasons {
				if given[reason] == 0 {
					t.Errorf("no case gives the reason %s", reason)
				}
			}
		})
	}
}

// The READMEs name every parameter, with its default and its bounds, every input and every
// reason.
func TestReadmesAreComplete(t *testing.T) {
	r := newRuntime(t)
	for _, name := range shipped {
		m := compiled(t, r, name).Manifest()
		text := string(read(t, name+"/README.md"))
		for _, p := range m.Parameters {
			row := regexp.MustCompile("(?m)^\\| `" + regexp.QuoteMeta(p.Name) + "` \\| (\\S+) \\| (\\S+) to (\\S+) \\|").FindStringSubmatch(text)
			if want := []string{fmt.Sprint(p.Default), number(p.Min), number(p.Max)}; row == nil || !slices.Equal(row[1:], want) {
				t.Errorf("%s/README.md: the row of the parameter %s is %q, want | `%s` | %s | %s to %s |", name, p.Name, row, p.Name, want[0], want[1], want[2])
			}
		}
		var names []string
		for _, in := range slices.Concat(m.Profile, m.Offer, m.Channel) {
			names = append(names, in.Name)
		}
		for _, word := range slices.Concat(names, m.Reasons) {
			if !strings.Contains(text, word) {
				t.Errorf("%s/README.md does not name %s", name, word)
			}
		}
	}
}

// number writes a number as people do: without an exponent, with − for minus.
func number(x float64) string { return strings.ReplaceAll(fmt.Sprintf("%.10g", x), "-", "−") }
