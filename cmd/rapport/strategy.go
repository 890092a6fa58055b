package main

import (
	"context"
	"fmt"
	"os"

	"connectrpc.com/connect"

	rapportv1 "rapport/server/api/rapport/v1"
)

// strategyCmd manages the WebAssembly modules that rank.
type strategyCmd struct {
	Upload  strategyUploadCmd  `cmd:"" help:"Check a module and keep it."`
	List    strategyListCmd    `cmd:"" help:"List the modules."`
	Release strategyReleaseCmd `cmd:"" help:"Make a version the live one of its name."`
}

// Help is shown by --help.
func (strategyCmd) Help() string {
	return `A strategy is a WebAssembly module that ranks the candidates of a decision. Its name and version are
in the module; a version never changes, and one version of each name is live.`
}

type strategyUploadCmd struct {
	File string `arg:"" help:"The module: a .wasm file."`
}

// Help is shown by --help.
func (strategyUploadCmd) Help() string {
	return `An uploaded strategy ranks nothing until it is released. Uploads are accepted from the server's own
machine only.

Examples:

	rapport strategy upload my_strategy.wasm
	rapport strategy release my_strategy 1.2.0`
}

// Run uploads a module.
func (cmd *strategyUploadCmd) Run(ctx context.Context, a *app) error {
	module, err := os.ReadFile(cmd.File)
	if err != nil {
		return fmt.Errorf("strategy: %w", err)
	}
	return a.call(ctx, func(c *clients) error {
		r, err := c.strategies.UploadStrategy(ctx, connect.NewRequest(&rapportv1.UploadStrategyRequest{Module: module}))
		if err != nil {
			return fmt.Errorf("%s: %w", cmd.File, err)
		}
		if a.json {
			return a.printMessage(r.Msg)
		}
		s := r.Msg.GetStrategy()
		next := fmt.Sprintf("release it with `rapport strategy release %s %s`", s.GetName(), s.GetVersion())
		if s.GetLive() {
			next = "it is live"
		}
		_, err = fmt.Fprintf(a.out, "strategy %s %s is kept (%s, digest %s); %s\n", s.GetName(), s.GetVersion(), formatBytes(s.GetBytes()), shorten(s.GetDigest(), 17), next)
		return err
	})
}

type strategyListCmd struct {
	Name string `arg:"" optional:"" help:"Only versions of this strategy, with what they read."`
}

// Help is shown by --help.
func (strategyListCmd) Help() string {
	return `With a name, what each version reads, its parameters and its reasons are printed too.

Examples:

	rapport strategy list
	rapport strategy list pvcl`
}

// Run lists the strategies.
func (cmd *strategyListCmd) Run(ctx context.Context, a *app) error {
	return a.call(ctx, func(c *clients) error {
		r, err := c.strategies.ListStrategies(ctx, connect.NewRequest(&rapportv1.ListStrategiesRequest{Name: cmd.Name}))
		if err != nil {
			return err
		}
		if a.json {
			return a.printMessage(r.Msg)
		}
		strategies := r.Msg.GetStrategies()
		if len(strategies) == 0 {
			writef(a.err, "no strategy is called %q: list all with `rapport strategy list`\n", cmd.Name)
			return nil
		}
		t := newTable("NAME", "VERSION", "STATE", ">SIZE", "UPLOADED AT", "DIGEST", "DESCRIPTION")
		for _, s := range strategies {
			state, uploaded := none, formatTime(s.GetUploadedAt())
			if s.GetLive() {
				state = "live"
			}
			if s.GetBuiltin() {
				uploaded = "built in"
			}
			t.add(s.GetName(), s.GetVersion(), state, formatBytes(s.GetBytes()), uploaded, shorten(s.GetDigest(), 17), s.GetManifest().GetDescription())
		}
		if err := t.write(a.out); err != nil || cmd.Name == "" {
			return err
		}
		return a.printManifests(strategies)
	})
}

// printManifests prints what each version says about itself.
func (a *app) printManifests(strategies []*rapportv1.Strategy) error {
	for _, s := range strategies {
		m := s.GetManifest()
		writef(a.out, "\n%s %s\n", printable(s.GetName()), printable(s.GetVersion()))
		t := newTable("KIND", "NAME", "TYPE", ">DEFAULT", ">MIN", ">MAX")
		for _, group := range []struct {
			kind   string
			inputs []*rapportv1.StrategyInput
		}{{"profile", m.GetProfile()}, {"offer", m.GetOffer()}, {"channel", m.GetChannel()}, {"candidate", m.GetCandidate()}} {
			for _, in := range group.inputs {
				t.add(group.kind, in.GetName(), in.GetType(), none, none, none)
			}
		}
		for _, p := range m.GetParameters() {
			t.add("parameter", p.GetName(), "number", formatNumber(p.GetDefault()), formatNumber(p.GetMin()), formatNumber(p.GetMax()))
		}
		for _, name := range m.GetReasons() {
			t.add("reason", name, none, none, none, none)
		}
		if err := t.write(a.out); err != nil {
			return err
		}
	}
	return nil
}

type strategyReleaseCmd struct {
	Name    string `arg:"" help:"The strategy."`
	Version string `arg:"" help:"The version, as listed."`
}

// Help is shown by --help.
func (strategyReleaseCmd) Help() string {
	return `Scenarios that use the live version rank with it from the next decision on. To go back, release the
version before.

Examples:

	rapport strategy release my_strategy 1.2.0`
}

// Run releases a version.
func (cmd *strategyReleaseCmd) Run(ctx context.Context, a *app) error {
	return a.call(ctx, func(c *clients) error {
		r, err := c.strategies.ReleaseStrategy(ctx, connect.NewRequest(&rapportv1.ReleaseStrategyRequest{Name: cmd.Name, Version: cmd.Version}))
		if err != nil {
			return err
		}
		if a.json {
			return a.printMessage(r.Msg)
		}
		before := ""
		if v := r.Msg.GetPreviousVersion(); v != "" && v != r.Msg.GetLive().GetVersion() {
			before = "; before, " + v
		}
		_, err = fmt.Fprintf(a.out, "strategy %s %s is live%s\n", r.Msg.GetLive().GetName(), r.Msg.GetLive().GetVersion(), before)
		return err
	})
}
