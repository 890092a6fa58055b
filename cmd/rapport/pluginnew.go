package main

import (
	"context"
	"fmt"
	"path/filepath"

	"rapport/cmd/rapport/author"
)

type pluginNewCmd struct {
	Name string `arg:"" help:"The strategy's name, and that of the folder to make; a path before it says where."`
	Lang string `required:"" help:"The language: ${languages}." enum:"${languages}" placeholder:"LANG"`
}

// Help is shown by --help.
func (pluginNewCmd) Help() string {
	return `Makes a folder with a small strategy that works, its cases, and a copy of the SDK, so that it builds and
tests without network. Nothing is overwritten. rapport doctor says which languages this machine is ready
for.

Examples:

	rapport plugin new next_step --lang go
	rapport plugin new strategies/next_step --lang c`
}

// Run makes a project.
func (cmd *pluginNewCmd) Run(ctx context.Context, a *app) error {
	l, err := author.ByID(cmd.Lang)
	if err != nil {
		return err
	}
	p, err := author.New(cmd.Name, l)
	if err != nil {
		return fmt.Errorf("plugin new: %w", err)
	}
	if a.json {
		return a.printJSON(map[string]string{"folder": p.Dir, "language": l.ID, "source": filepath.Join(p.Dir, l.Source)})
	}
	writef(a.out, "%s is a strategy in %s: it is in %s, and README.md says what else there is\n", p.Dir, l.Title, l.Source)
	for _, t := range l.Tools {
		if _, _, err := t.Find(ctx, p.Dir); err != nil {
			writef(a.out, "missing: %s; %s\n", t.Name, t.HowToGet())
		}
	}
	_, err = fmt.Fprintf(a.out, "next: cd %s && rapport plugin test\n", p.Dir)
	return err
}
