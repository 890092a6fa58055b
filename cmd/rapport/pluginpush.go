package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"connectrpc.com/connect"

	rapportv1 "rapport/server/api/rapport/v1"
	"rapport/server/sandbox"
	"rapport/server/sandbox/abitest"
)

type pluginPushCmd struct {
	pluginModule
	Shadow    bool     `help:"Release it in shadow: it ranks beside the live version and affects nothing; differences are counted." xor:"stage"`
	Share     string   `help:"Release it for this share of the customers, such as 10%." placeholder:"PERCENT" xor:"stage"`
	Live      bool     `help:"Release it for all customers." xor:"stage"`
	Signature string   `help:"Its signature; FILE.sig if there is one." placeholder:"FILE"`
	Text      []string `help:"A text that the strategy knows by name, for the check; may be given several times." placeholder:"TEXT" sep:"none"`
}

// Help is shown by --help.
func (pluginPushCmd) Help() string {
	return `Builds the strategy, checks it as rapport plugin check does, uploads it, and puts it into service as far as
is said: in shadow, for a share, or live; without a flag it is kept and ranks nothing. What fails the check
is not uploaded. A server that wants signatures finds that of strategy.wasm in strategy.wasm.sig; see
rapport strategy sign. A version never changes: raise it in the source to push again.

Examples:

	rapport plugin push --shadow
	rapport plugin push next_step.wasm --share 10%
	rapport plugin push --live --server http://127.0.0.1:8080`
}

// stage is what the flags ask; percent is 0 but for a share.
func (cmd *pluginPushCmd) stage() (release bool, shadow bool, percent float64, err error) {
	switch {
	case cmd.Shadow:
		return true, true, 0, nil
	case cmd.Live:
		return true, false, 0, nil
	case cmd.Share == "":
		return false, false, 0, nil
	}
	percent, err = strconv.ParseFloat(strings.TrimSuffix(cmd.Share, "%"), 64)
	if err != nil || !(percent > 0 && percent < 100) {
		return false, false, 0, usagef("--share %s is not a share: give more than 0%% and less than 100%%, as 10%%, or --live for all customers", cmd.Share)
	}
	return true, false, percent, nil
}

// Run pushes.
func (cmd *pluginPushCmd) Run(ctx context.Context, a *app) error {
	release, shadow, percent, err := cmd.stage()
	if err != nil {
		return err
	}
	file, err := cmd.load(ctx, a)
	if err != nil {
		return err
	}
	manifest, err := cmd.check(ctx, a, file)
	if err != nil {
		return err
	}
	upload := strategyUploadCmd{File: file.file, Signature: cmd.Signature}
	if err := upload.Run(ctx, a); err != nil {
		if reason(err) == "STRATEGY_VERSION_TAKEN" {
			where := "in its source"
			if file.project != nil {
				where = "in " + file.project.Language.Source
			}
			writef(a.err, "raise the version %s, which is %s, and push again\n", where, manifest.Version)
		}
		return err
	}
	if !release {
		return nil
	}
	if err := (&strategyReleaseCmd{Name: manifest.Name, Version: manifest.Version, Shadow: shadow, Share: percent}).Run(ctx, a); err != nil {
		return err
	}
	return noteUnused(ctx, a, manifest.Name)
}

// noteUnused says so if no scenario names a strategy: then it ranks nothing, however far
// it is released.
func noteUnused(ctx context.Context, a *app, name string) error {
	return a.call(ctx, func(c *clients) error {
		r, err := c.catalogs.GetCatalog(ctx, connect.NewRequest(&rapportv1.GetCatalogRequest{}))
		if connect.CodeOf(err) == connect.CodeNotFound || connect.CodeOf(err) == connect.CodeFailedPrecondition {
			return nil // there is no catalogue yet
		}
		if err != nil {
			return err
		}
		named := make(map[string]bool)
		for _, s := range r.Msg.GetCatalog().GetScenarios() {
			if n := s.GetStrategy().GetName(); n != "" {
				named[n] = true
			}
		}
		if !named[name] {
			writef(a.err, "no scenario of the catalogue names %[1]s, so it ranks nothing yet: give one `strategy: {name: %[1]s}`; or, to rank beside another, be a version of that: name it in the source as the scenario does (%[2]s)\n",
				name, cmp.Or(strings.Join(slices.Sorted(maps.Keys(named)), ", "), "no scenario names any"))
		}
		return nil
	})
}

// check checks the module quietly: what it prints is what is not met.
func (cmd *pluginPushCmd) check(ctx context.Context, a *app, file *module) (*sandbox.Manifest, error) {
	compiler, err := sandbox.CompilerCommand()
	if err != nil {
		return nil, err
	}
	r, err := abitest.Check(ctx, sandbox.Options{Compiler: compiler}, file.wasm, abitest.Options{Texts: cmd.Text})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file.file, err)
	}
	if failed := r.With(abitest.Failed); len(failed) > 0 {
		names := make([]string, len(failed))
		for i, f := range failed {
			names[i] = string(f.Requirement)
			a.printFinding(a.err, f)
		}
		return nil, fmt.Errorf("%s does not meet %s: %s; nothing was uploaded", file.file, plural(len(failed), "requirement"), strings.Join(names, ", "))
	}
	if !a.json {
		warnings := ""
		if n := len(r.With(abitest.Warning)); n > 0 {
			warnings = fmt.Sprintf(", with %s: see `rapport plugin check`", plural(n, "warning"))
		}
		writef(a.out, "%s %s is checked: %s%s\n", r.Manifest.Name, r.Manifest.Version, plural(r.Figures.Calls, "call"), warnings)
	}
	return r.Manifest, nil
}

type pluginListCmd struct {
	Path string `arg:"" optional:"" name:"strategy" help:"Only the strategy of this name, or of this project; all if not given."`
}

// Help is shown by --help.
func (pluginListCmd) Help() string {
	return `Lists the strategies that the server has and what they have done, as rapport strategy list does.

Examples:

	rapport plugin list
	rapport plugin list next_step`
}

// Run lists.
func (cmd *pluginListCmd) Run(ctx context.Context, a *app) error {
	name, err := strategyCalled(ctx, a, cmd.Path)
	if err != nil {
		return err
	}
	return (&strategyListCmd{Name: name}).Run(ctx, a)
}

type pluginRollbackCmd struct {
	Path string `arg:"" optional:"" default:"." name:"strategy" help:"The strategy's name, or the folder of its project."`
}

// Help is shown by --help.
func (pluginRollbackCmd) Help() string {
	return `Takes the last step of a release back, as rapport strategy rollback does: what is in shadow or has a share
is taken out of service; if nothing is, the version that was live before is live again.

Examples:

	rapport plugin rollback
	rapport plugin rollback next_step`
}

// Run takes the last step back.
func (cmd *pluginRollbackCmd) Run(ctx context.Context, a *app) error {
	name, err := strategyCalled(ctx, a, cmd.Path)
	if err != nil {
		return err
	}
	return (&strategyRollbackCmd{Name: name}).Run(ctx, a)
}

// strategyCalled returns the name of a strategy that is given by its name or by the
// folder of its project. What is no folder is a name.
func strategyCalled(ctx context.Context, a *app, path string) (name string, err error) {
	p := &pluginModule{Path: path}
	if path == "" || !p.exists() {
		return path, nil
	}
	err = a.withModule(ctx, p, false, func(m *sandbox.Module, _ *module) error {
		name = m.Manifest().Name
		return nil
	})
	return name, err
}
