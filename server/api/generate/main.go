// Command generate makes the Go code of the API from its .proto files, and with
// -check says whether code and files are in order. It is run by go generate
// ./server/api and by continuous integration, and needs nothing but Go and, for
// -check, git.
//
// It sets up a workspace in a temporary folder: a link to server/api and the file
// validate.proto, which the .proto files import and which no Go module carries;
// but the code generated from it does, compiled, and it is printed from there.
// buf (of cmd/tools.mod) works in that workspace with the plugins of the main
// go.mod, the versions that the generated code is linked with.
//
// With -check nothing is written. Checked are: lint, format, compatibility of the
// messages with those of a git revision (-against), and that generating would
// change nothing.
package main

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
)

// api is the folder of the .proto files, from the root of the repository, and as
// linked to from the workspace, so that messages name files as people do.
const api = "server/api"

//go:embed buf.yaml buf.gen.yaml
var settings embed.FS

func main() {
	check := flag.Bool("check", false, "write nothing; fail if something is not in order")
	against := flag.String("against", "main", "git `revision` that -check compares the messages with, if it exists")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, *check, *against)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, check bool, against string) (err error) {
	root, err := output(ctx, "", "go", "list", "-m", "-f", "{{.Dir}}", "rapport")
	if err != nil {
		return err
	}
	temporary, err := os.MkdirTemp("", "rapport-generate-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(temporary)) }()

	w, err := newWorkspace(ctx, root, temporary)
	if err != nil {
		return err
	}
	if !check {
		return w.generate(ctx)
	}
	return errors.Join(
		w.buf(ctx, "lint", api),
		w.buf(ctx, "format", "--diff", "--exit-code", api),
		w.breaking(ctx, against),
		w.compare(ctx),
	)
}

// workspace is the temporary folder in which buf works.
type workspace struct {
	root   string // of the repository
	folder string // of the workspace
	tools  string // folder of buf's plugins
	bufBin string
}

func newWorkspace(ctx context.Context, root, temporary string) (*workspace, error) {
	w := &workspace{root: root, folder: filepath.Join(temporary, "new"), tools: filepath.Join(temporary, "tools")}
	if err := w.lay(w.folder); err != nil {
		return nil, err
	}
	if err := os.Symlink(filepath.Join(root, api), filepath.Join(w.folder, api)); err != nil {
		return nil, err
	}
	_, err := output(ctx, root, "go", "build", "-o", w.tools+string(filepath.Separator),
		"google.golang.org/protobuf/cmd/protoc-gen-go",
		"connectrpc.com/connect/cmd/protoc-gen-connect-go")
	if err != nil {
		return nil, err
	}
	w.bufBin, err = output(ctx, root, "go", "tool", "-modfile=cmd/tools.mod", "-n", "buf")
	return w, err
}

// lay writes what every workspace holds besides server/api.
func (w *workspace) lay(folder string) error {
	printed, err := source(validate.File_buf_validate_validate_proto)
	if err != nil {
		return err
	}
	if err := os.CopyFS(folder, settings); err != nil {
		return err
	}
	name := filepath.Join(folder, "validate", validate.File_buf_validate_validate_proto.Path())
	return errors.Join(
		os.MkdirAll(filepath.Join(folder, filepath.Dir(api)), 0o700),
		os.MkdirAll(filepath.Dir(name), 0o700),
		os.WriteFile(name, printed, 0o600),
	)
}

// buf runs buf in the workspace; what it has to say goes to standard error.
func (w *workspace) buf(ctx context.Context, arguments ...string) error {
	command := exec.CommandContext(ctx, w.bufBin, arguments...) //nolint:gosec // our own tool, our own arguments
	command.Dir = w.folder
	command.Env = append(os.Environ(), "PATH="+w.tools+string(filepath.ListSeparator)+os.Getenv("PATH"))
	command.Stdout, command.Stderr = os.Stderr, os.Stderr
	if err := command.Run(); err != nil {
		return fmt.Errorf("buf %s: %w", arguments[0], err)
	}
	return nil
}

// generate brings the generated code up to date. Files that would not change are
// not touched.
func (w *workspace) generate(ctx context.Context) error {
	wanted, present, err := w.code(ctx)
	if err != nil {
		return err
	}
	for _, name := range changed(wanted, present) {
		target := filepath.Join(w.root, name)
		content, ok := wanted[name]
		if !ok {
			if err := os.Remove(target); err != nil {
				return err
			}
			continue
		}
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil { //nolint:gosec // source code is for everyone
			return err
		}
		if err := os.WriteFile(target, content, 0o644); err != nil { //nolint:gosec // source code is for everyone
			return err
		}
	}
	return nil
}

// compare fails if generate would change something.
func (w *workspace) compare(ctx context.Context) error {
	wanted, present, err := w.code(ctx)
	if err != nil {
		return err
	}
	if names := changed(wanted, present); len(names) > 0 {
		return fmt.Errorf("not what the .proto files say: %s; run go generate ./%s", strings.Join(names, ", "), api)
	}
	return nil
}

// code returns the generated files as they should be and as they are, by their
// names from the root of the repository.
func (w *workspace) code(ctx context.Context) (wanted, present map[string][]byte, err error) {
	out := filepath.Join(w.folder, "generated")
	if err := w.buf(ctx, "generate", "--output", out); err != nil {
		return nil, nil, err
	}
	wanted, err = generated(out)
	if err != nil {
		return nil, nil, err
	}
	present, err = generated(w.root)
	return wanted, present, err
}

// generated reads the files that buf's plugins have made under root's server/api.
func generated(root string) (map[string][]byte, error) {
	files := map[string][]byte{}
	err := filepath.WalkDir(filepath.Join(root, api), func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(name, ".pb.go") && !strings.HasSuffix(name, ".connect.go") {
			return err
		}
		content, err := os.ReadFile(name) //nolint:gosec // a file of the repository
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(root, name)
		files[relative] = content
		return err
	})
	return files, err
}

// changed names the files that are missing, differ, or should not be.
func changed(wanted, present map[string][]byte) []string {
	names := maps.Clone(wanted)
	maps.Copy(names, present)
	maps.DeleteFunc(names, func(name string, _ []byte) bool {
		content, ok := wanted[name]
		old, was := present[name]
		return ok && was && bytes.Equal(content, old)
	})
	return slices.Sorted(maps.Keys(names))
}

// breaking fails if a file or client of the revision would be misunderstood. A
// revision that does not exist, or has no .proto files, is no obstacle.
func (w *workspace) breaking(ctx context.Context, revision string) error {
	list, err := output(ctx, w.root, "git", "ls-tree", "-r", "--name-only", revision, "--", api)
	if err != nil {
		fmt.Fprintf(os.Stderr, "generate: no revision %s to compare the messages with\n", revision)
		return nil
	}
	old := filepath.Join(filepath.Dir(w.folder), "old")
	if err := w.lay(old); err != nil {
		return err
	}
	found := false
	for name := range strings.Lines(list) {
		name = strings.TrimSpace(name)
		if !strings.HasSuffix(name, ".proto") {
			continue
		}
		found = true
		content, err := output(ctx, w.root, "git", "show", revision+":"+name)
		if err != nil {
			return err
		}
		target := filepath.Join(old, name)
		if err := os.MkdirAll(filepath.Dir(target), 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(target, []byte(content), 0o600); err != nil {
			return err
		}
	}
	if !found {
		return nil
	}
	return w.buf(ctx, "breaking", api, "--against", filepath.Join(old, api))
}

// output runs a command and returns what it prints, trimmed.
func output(ctx context.Context, folder, name string, arguments ...string) (string, error) {
	command := exec.CommandContext(ctx, name, arguments...) //nolint:gosec // go and git, with our own arguments
	command.Dir = folder
	var stderr bytes.Buffer
	command.Stderr = &stderr
	out, err := command.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s", name, strings.Join(arguments, " "), err, stderr.String())
	}
	return strings.TrimSpace(string(out)), nil
}
