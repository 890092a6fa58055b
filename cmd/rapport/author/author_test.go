package author_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"rapport/cmd/rapport/author"
)

// A project of each language is found again as what it is, carries its SDK, has the name
// that was given everywhere, and has no file of this repository's tests.
func TestNew(t *testing.T) {
	sdk := map[string]string{"go": "rapport/sdk/rapport.go", "c": "sdk/rapport.h", "assemblyscript": "sdk/rapport.ts", "rust": "sdk/src/lib.rs"}
	for _, l := range author.Languages() {
		t.Run(l.ID, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "next-step")
			if _, err := author.New(dir, l); err != nil {
				t.Fatal(err)
			}
			p, err := author.Open(dir)
			if err != nil || p.Language != l {
				t.Fatalf("it is taken for %v, %v", p, err)
			}
			cases, err := p.Cases()
			if err != nil || len(cases) < 2 {
				t.Errorf("cases %v, %v", cases, err)
			}
			for _, name := range []string{l.Source, sdk[l.ID], "README.md", ".gitignore"} {
				if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
					t.Error(err)
				}
			}
			err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
				if err != nil || d.IsDir() {
					return err
				}
				text, err := os.ReadFile(path)
				if strings.Contains(string(text), "my_strategy") {
					t.Errorf("%s still says my_strategy", path)
				}
				if inSDK := strings.Contains(path, "sdk"); inSDK && strings.HasSuffix(path, "_test.go") || strings.HasSuffix(path, "source.go") {
					t.Errorf("%s is for us", path)
				}
				return err
			})
			if err != nil {
				t.Error(err)
			}
			if source, err := os.ReadFile(filepath.Join(dir, l.Source)); err != nil || !strings.Contains(string(source), "next-step") {
				t.Errorf("%s does not have the name: %v", l.Source, err)
			}
		})
	}
}

// What can't be made leaves nothing.
func TestNewRefuses(t *testing.T) {
	l := author.Languages()[0]
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "taken"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"taken", "Next", "1st", "a b", "nowhere/x", "."} {
		if _, err := author.New(filepath.Join(dir, name), l); err == nil {
			t.Errorf("%s is made", name)
		}
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 1 {
		t.Errorf("there is %v, %v", left, err)
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	if _, err := author.Open(dir); !errors.Is(err, author.ErrNoProject) {
		t.Errorf("an empty folder: %v", err)
	}
	if _, err := author.Open(filepath.Join(dir, "nowhere")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no folder: %v", err)
	}
	for _, name := range []string{"go.mod", "Cargo.toml"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := author.Open(dir); err == nil || !strings.Contains(err.Error(), "in Go and in Rust") {
		t.Errorf("two languages: %v", err)
	}
	if _, err := author.Open(filepath.Join(dir, "go.mod")); err == nil {
		t.Error("a file is a project")
	}
}

// Without any program on the PATH each language says what it needs and how to get it.
func TestMissingTools(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	for _, l := range author.Languages() {
		p, err := author.New(filepath.Join(t.TempDir(), "x"), l)
		if err != nil {
			t.Fatal(err)
		}
		if slices.ContainsFunc(l.Tools, func(tool *author.Tool) bool { _, _, err := tool.Find(t.Context(), p.Dir); return err == nil }) {
			continue // one of Debian's that is found without a PATH
		}
		_, err = p.Build(t.Context(), author.BuildOptions{})
		missing := new(author.MissingError)
		if !errors.As(err, &missing) || missing.Tool != l.Tools[0] || missing.Tool.HowToGet() == "" {
			t.Errorf("%s: %v", l.ID, err)
		}
	}
}

// The version of Go that projects ask for is that which builds the SDK here.
func TestGoVersion(t *testing.T) {
	p, err := author.New(filepath.Join(t.TempDir(), "x"), author.Languages()[0])
	if err != nil {
		t.Fatal(err)
	}
	line := func(file string) string {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for l := range strings.Lines(string(text)) {
			if strings.HasPrefix(l, "go ") {
				return strings.TrimSpace(l)
			}
		}
		return ""
	}
	ours := line("../../../go.mod")
	for _, file := range []string{"go.mod", "rapport/go.mod"} {
		if got := line(filepath.Join(p.Dir, file)); got != ours || got == "" {
			t.Errorf("%s says %q, and ours %q", file, got, ours)
		}
	}
}
