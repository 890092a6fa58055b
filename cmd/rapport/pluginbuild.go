package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"rapport/cmd/rapport/author"
)

type pluginBuildCmd struct {
	Folder string `arg:"" optional:"" default:"." help:"The project."`
	Out    string `short:"o" help:"Where the module goes; strategy.wasm in the project if not given." placeholder:"FILE"`
	Names  bool   `help:"Keep the names of functions in the module, which makes it larger."`
}

// Help is shown by --help.
func (pluginBuildCmd) Help() string {
	return `Finds out by the project's files in which language it is, and calls the compiler with the flags that a
strategy needs. All other commands for projects build first, too.

Examples:

	rapport plugin build
	rapport plugin build strategies/next_step -o next_step.wasm`
}

// Run builds a project.
func (cmd *pluginBuildCmd) Run(ctx context.Context, a *app) error {
	p, err := author.Open(cmd.Folder)
	if err != nil {
		return fmt.Errorf("plugin build: %w", err)
	}
	o := author.BuildOptions{Names: cmd.Names}
	if cmd.Out != "" {
		if o.Out, err = filepath.Abs(cmd.Out); err != nil {
			return err
		}
	}
	begin := time.Now()
	built, err := a.build(ctx, p, o)
	if err != nil {
		return err
	}
	if cmd.Out != "" {
		built.Path = cmd.Out
	}
	if a.json {
		return a.printJSON(map[string]any{"file": built.Path, "bytes": built.Bytes, "language": p.Language.ID, "tools": built.Versions})
	}
	_, err = fmt.Fprintf(a.out, "%s: %s, in %.1f s with %s\n", built.Path, formatBytes(built.Bytes), time.Since(begin).Seconds(), strings.Join(built.Versions, ", "))
	return err
}

// build builds a project and shows what the compiler warned of.
func (a *app) build(ctx context.Context, p *author.Project, o author.BuildOptions) (*author.Built, error) {
	built, err := p.Build(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("plugin build: %w", err)
	}
	if said := strings.TrimRight(built.Said, "\n"); said != "" {
		for line := range strings.SplitSeq(said, "\n") {
			writef(a.err, "%s\n", printable(line))
		}
	}
	return built, nil
}

// pluginModule is the argument of commands that work on a strategy: a module, or a
// project that is built first.
type pluginModule struct {
	Path string `arg:"" optional:"" default:"." name:"strategy" help:"The folder of a project, which is built first, or a .wasm file."`
}

// exists reports whether there is such a file or folder.
func (m *pluginModule) exists() bool {
	_, err := os.Stat(m.Path)
	return err == nil
}

// module is a strategy that a command works on.
type module struct {
	file    string // for messages
	wasm    []byte
	project *author.Project // nil: a file that was given
}

// load builds the project if there is one, and reads the module.
func (m *pluginModule) load(ctx context.Context, a *app) (*module, error) {
	info, err := os.Stat(m.Path)
	if err != nil {
		return nil, fmt.Errorf("plugin: %w", err)
	}
	if !info.IsDir() {
		wasm, err := readModule(m.Path)
		return &module{file: m.Path, wasm: wasm}, err
	}
	p, err := author.Open(m.Path)
	if err != nil {
		return nil, fmt.Errorf("plugin: %w; or give a .wasm file", err)
	}
	built, err := a.build(ctx, p, author.BuildOptions{})
	if err != nil {
		return nil, err
	}
	wasm, err := readModule(built.Path)
	return &module{file: built.Path, wasm: wasm, project: p}, err
}

// cases returns the case files that were named, or those of the project.
func (m *module) cases(named []string) ([]string, error) {
	if len(named) == 0 {
		dir := author.CaseFolder
		if m.project != nil {
			dir = filepath.Join(m.project.Dir, author.CaseFolder)
		}
		named = []string{dir}
	}
	var files []string
	for _, name := range named {
		info, err := os.Stat(name)
		if errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("%s does not exist: cases are *.yaml files in the folder %s; `rapport plugin test --help` shows one", name, author.CaseFolder)
		}
		if err != nil {
			return nil, err
		}
		if !info.IsDir() {
			files = append(files, name)
			continue
		}
		found, err := author.CaseFiles(name)
		if err != nil {
			return nil, err
		}
		if len(found) == 0 {
			return nil, fmt.Errorf("%s has no *.yaml files: `rapport plugin test --help` shows a case", name)
		}
		files = append(files, found...)
	}
	return files, nil
}
