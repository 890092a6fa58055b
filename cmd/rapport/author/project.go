package author

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	rapport "rapport/sdk"
)

// templateName is what the strategy of the templates is called.
const templateName = "my_strategy"

var strategyName = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,63}$`) // as ABI.md has it

// New makes a project in a folder that does not exist yet. The last part of its
// name is the name of the strategy. If it fails nothing is left.
func New(dir string, l *Language) (_ *Project, err error) {
	dir = filepath.Clean(dir)
	name := filepath.Base(dir)
	if !strategyName.MatchString(name) {
		return nil, fmt.Errorf("%q is no strategy name: use a-z, 0-9, _ and -, beginning with a letter, at most 64", name)
	}
	if _, err := os.Lstat(dir); err == nil {
		return nil, fmt.Errorf("%s exists already: give another name, or remove it", dir)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	unfinished := filepath.Join(filepath.Dir(dir), "."+name+".unfinished")
	if err := os.Mkdir(unfinished, 0o777); err != nil { //nolint:gosec // a project is for its author to share, by the umask
		return nil, fmt.Errorf("%w: make the folder above first; what an interrupted `plugin new` left may be removed", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(unfinished))
		}
	}()
	files, err := l.content()
	if err != nil {
		return nil, err
	}
	for file, content := range files {
		to := filepath.Join(unfinished, filepath.FromSlash(file))
		if err := os.MkdirAll(filepath.Dir(to), 0o777); err != nil { //nolint:gosec // as above
			return nil, err
		}
		content = bytes.ReplaceAll(content, []byte(templateName), []byte(name))
		if err := os.WriteFile(to, content, 0o666); err != nil { //nolint:gosec // as above
			return nil, err
		}
	}
	if err := os.Rename(unfinished, dir); err != nil {
		return nil, err
	}
	return &Project{dir, l}, nil
}

// content returns the files of a new project, by path with slashes.
func (l *Language) content() (map[string][]byte, error) {
	all := make(map[string][]byte)
	for to, from := range l.files {
		if text, ok := strings.CutPrefix(from, "\n"); ok {
			all[to] = []byte(text)
			continue
		}
		info, err := fs.Stat(rapport.Source(), from)
		if err != nil {
			return nil, err
		}
		names := map[string]string{to: from}
		if info.IsDir() {
			if names, err = filesOf(to, from); err != nil {
				return nil, err
			}
		}
		for to, from := range names {
			if all[to], err = fs.ReadFile(rapport.Source(), from); err != nil {
				return nil, err
			}
		}
	}
	return all, nil
}

// filesOf lists what a project has of a folder: no tests, nothing in folders below, and
// of the Go SDK not the file that embeds all.
func filesOf(to, from string) (map[string]string, error) {
	entries, err := fs.ReadDir(rapport.Source(), from)
	if err != nil {
		return nil, err
	}
	names := make(map[string]string)
	for _, e := range entries {
		name := e.Name()
		if e.IsDir() || strings.HasSuffix(name, "_test.go") || from == "." && (name == "source.go" || !strings.HasSuffix(name, ".go")) {
			continue
		}
		names[path.Join(to, name)] = path.Join(from, name)
	}
	return names, nil
}

// Project is a folder with a strategy in it.
type Project struct {
	Dir      string
	Language *Language
}

// Open finds out what a folder is. The error wraps [ErrNoProject] if it has no
// strategy in a language that we know.
func Open(dir string) (*Project, error) {
	if info, err := os.Stat(dir); err != nil {
		return nil, err
	} else if !info.IsDir() {
		return nil, fmt.Errorf("%s is not a folder", dir)
	}
	var found []*Language
	for _, l := range Languages() {
		for _, mark := range l.Marks {
			if matches, err := filepath.Glob(filepath.Join(dir, mark)); err == nil && len(matches) > 0 {
				found = append(found, l)
				break
			}
		}
	}
	switch len(found) {
	case 0:
		var marks []string
		for _, l := range Languages() {
			marks = append(marks, l.Marks...)
		}
		return nil, fmt.Errorf("%s is %w, which has one of %s: begin one with `rapport plugin new NAME --lang go`", dir, ErrNoProject, strings.Join(marks, ", "))
	case 1:
		return &Project{dir, found[0]}, nil
	}
	ids := make([]string, len(found))
	for i, l := range found {
		ids[i] = l.Title
	}
	return nil, fmt.Errorf("%s looks like a project in %s: give each strategy a folder of its own", dir, strings.Join(ids, " and in "))
}

// Module is where a build puts the strategy.
func (p *Project) Module() string { return filepath.Join(p.Dir, ModuleFile) }

// Cases returns the case files of the project, by name.
func (p *Project) Cases() ([]string, error) { return CaseFiles(filepath.Join(p.Dir, CaseFolder)) }

// CaseFiles lists the case files in a folder, by name.
func CaseFiles(dir string) ([]string, error) {
	var names []string
	for _, pattern := range []string{"*.yaml", "*.yml"} {
		matches, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			return nil, err
		}
		names = append(names, matches...)
	}
	slices.Sort(names)
	return names, nil
}

// BuildOptions are what a build may differ in.
type BuildOptions struct {
	// Names keeps the names of functions in the module, for a profile. It goes to
	// another file, which the caller names.
	Names bool
	Out   string // relative to the project's folder, or absolute; empty: ModuleFile
}

// build is one build.
type build struct {
	BuildOptions
	project *Project
	out     string
	found   map[*Tool][]string
}

// tool returns the command of a tool, to be appended to.
func (b *build) tool(t *Tool) []string { return slices.Clone(b.found[t]) }

// Built is what a build made.
type Built struct {
	Path     string
	Bytes    int64
	Versions []string // of the tools
	Said     string   // what the compilers said, which are warnings
}

// BuildError says that a compiler refused a strategy, in its own words.
type BuildError struct {
	Command []string
	Output  string
	Err     error
	Hint    string // what to do, where we know better than the compiler
}

func (e *BuildError) Error() string {
	text := fmt.Sprintf("%s did not build it: %v\n%s", filepath.Base(e.Command[0]), e.Err, strings.TrimSpace(e.Output))
	if e.Hint != "" {
		text += "\n" + e.Hint
	}
	return text
}

func (e *BuildError) Unwrap() error { return e.Err }

// Build builds the strategy. Errors are a [*MissingError] or a [*BuildError] where
// the author can do something.
func (p *Project) Build(ctx context.Context, o BuildOptions) (*Built, error) {
	b := &build{BuildOptions: o, project: p, out: o.Out, found: make(map[*Tool][]string)}
	if b.out == "" {
		b.out = ModuleFile
	}
	built := &Built{Path: b.out}
	if !filepath.IsAbs(b.out) {
		built.Path = filepath.Join(p.Dir, b.out)
	}
	for _, t := range p.Language.Tools {
		command, version, err := t.Find(ctx, p.Dir)
		if err != nil {
			return nil, err
		}
		b.found[t] = command
		if version != "" {
			built.Versions = append(built.Versions, version)
		}
	}
	steps, err := p.Language.steps(b)
	if err != nil {
		return nil, err
	}
	for _, step := range steps {
		cmd := exec.CommandContext(ctx, step[0], step[1:]...) //nolint:gosec // tools on the PATH of who runs this, and files of a project of theirs
		cmd.Dir, cmd.Env = p.Dir, append(os.Environ(), p.Language.environment...)
		out, err := cmd.CombinedOutput()
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if err != nil {
			return nil, &BuildError{step, string(out), err, p.Language.hint(string(out))}
		}
		built.Said += string(out)
	}
	info, err := os.Stat(built.Path)
	if err != nil {
		return nil, err
	}
	built.Bytes = info.Size()
	return built, nil
}

// hint says what to do about what a compiler said.
func (l *Language) hint(said string) string {
	has := func(part string) bool { return strings.Contains(said, part) }
	switch {
	case l == golang && has("go.mod requires go >="):
		return "this Go is older than " + goVersion + ": " + goTool.HowToGet()
	case l == c && (has("undefined symbol: rank") || has("has internal linkage but is not defined")):
		return "define `static void rank(struct rapport_decision *d)`, which scores every candidate"
	case has("undefined symbol: memcpy"), has("undefined symbol: memset"), has("undefined symbol: malloc"):
		return "there is no C library: see sdk/rapport.h for what there is in place of it"
	}
	return ""
}
