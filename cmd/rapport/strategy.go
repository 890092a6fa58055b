package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"

	rapportv1 "rapport/server/api/rapport/v1"
)

// strategyCmd manages the WebAssembly modules that rank.
type strategyCmd struct {
	Upload   strategyUploadCmd   `cmd:"" help:"Check a module and keep it."`
	List     strategyListCmd     `cmd:"" help:"List the modules, and what they have done."`
	Release  strategyReleaseCmd  `cmd:"" help:"Put a version into service: in shadow, for a share, or live."`
	Rollback strategyRollbackCmd `cmd:"" help:"Take the last step of a release back."`
	Keygen   strategyKeygenCmd   `cmd:"" help:"Make a key to sign modules with."`
	Sign     strategySignCmd     `cmd:"" help:"Sign a module."`
}

// Help is shown by --help.
func (strategyCmd) Help() string {
	return `A strategy is a WebAssembly module that ranks the candidates of a decision. Its name and version are
in the module; a version never changes. One version of each name is live. Another can be in shadow, where
it ranks beside and affects nothing, or rank for a share of the customers.`
}

type strategyUploadCmd struct {
	File      string `arg:"" help:"The module: a .wasm file."`
	Signature string `help:"Its signature; FILE.sig if there is one." placeholder:"FILE"`
}

// Help is shown by --help.
func (strategyUploadCmd) Help() string {
	return `An uploaded strategy ranks nothing until it is released. Uploads are accepted from the server's own
machine only, and where it has trusted keys only with the signature of one of them. To upload a module
again changes nothing, unless its signature was missing or its file in the data folder was altered.

Examples:

	rapport strategy sign my_strategy.wasm --key release.key
	rapport strategy upload my_strategy.wasm
	rapport strategy release my_strategy 1.2.0`
}

// Run uploads a module.
func (cmd *strategyUploadCmd) Run(ctx context.Context, a *app) error {
	module, err := os.ReadFile(cmd.File)
	if err != nil {
		return fmt.Errorf("strategy: %w", err)
	}
	signature, err := readSignature(cmd.Signature, cmd.File)
	if err != nil {
		return err
	}
	return a.call(ctx, func(c *clients) error {
		r, err := c.strategies.UploadStrategy(ctx, connect.NewRequest(&rapportv1.UploadStrategyRequest{Module: module, Signature: signature}))
		if err != nil {
			return fmt.Errorf("%s: %w", cmd.File, err)
		}
		if a.json {
			return a.printMessage(r.Msg)
		}
		s := r.Msg.GetStrategy()
		next := fmt.Sprintf("release it with `rapport strategy release %s %s`", s.GetName(), s.GetVersion())
		if state := formatStage(s); state != none {
			next = "it is in service: " + state
		}
		signed := ""
		if key := s.GetSignedBy(); key != "" {
			signed = ", signed by " + key
		}
		_, err = fmt.Fprintf(a.out, "strategy %s %s is kept (%s, digest %s%s); %s\n", s.GetName(), s.GetVersion(), formatBytes(s.GetBytes()), shorten(s.GetDigest(), 17), signed, next)
		return err
	})
}

type strategyListCmd struct {
	Name string `arg:"" optional:"" help:"Only versions of this strategy, with what they read."`
}

// Help is shown by --help.
func (strategyListCmd) Help() string {
	return `RANKED and FAULTS count decisions since the server started; for a version in shadow, they count what
it ranked beside the live version. A version that keeps failing is suspended: the built-in arbitration
ranks in its place, and after a while it is tried again, a call at a time. With a name are printed too: the
counts by kind, the fuel used (about one unit an instruction), where the shadow differed, which versions a
rollback goes back to, and what each version reads, its parameters, its reasons and the fuel that it asks
for.

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
		t := newTable("NAME", "VERSION", "STATE", ">RANKED", ">FAULTS", ">SIZE", "UPLOADED AT", "SIGNED BY", "DIGEST", "DESCRIPTION")
		for _, s := range strategies {
			uploaded, description := formatTime(s.GetUploadedAt()), s.GetManifest().GetDescription()
			if s.GetBuiltin() {
				uploaded = "built in"
			}
			if p := s.GetProblem(); p != "" {
				description = "can't be used: " + p
			}
			ranked, faults := s.GetCounts().GetRanked(), sum(s.GetCounts().GetFaults())
			if s.GetStage() == rapportv1.StrategyStage_STRATEGY_STAGE_SHADOW {
				ranked, faults = s.GetCounts().GetShadow().GetComparisons(), sum(s.GetCounts().GetShadow().GetFaults())
			}
			t.add(s.GetName(), s.GetVersion(), formatStage(s), ranked, faults, formatBytes(s.GetBytes()), uploaded, cmp.Or(s.GetSignedBy(), none), cmp.Or(shorten(s.GetDigest(), 17), none), description)
		}
		if err := t.write(a.out); err != nil || cmd.Name == "" {
			return err
		}
		for _, release := range r.Msg.GetReleases() {
			if earlier := release.GetEarlierVersions(); len(earlier) > 0 {
				writef(a.out, "\nlive before, latest first: %s\n", printable(strings.Join(earlier, ", ")))
			}
		}
		if err := a.printCounts(strategies); err != nil {
			return err
		}
		return a.printManifests(strategies)
	})
}

// formatStage says how far a version is in service.
func formatStage(s *rapportv1.Strategy) string {
	state := none
	switch s.GetStage() {
	case rapportv1.StrategyStage_STRATEGY_STAGE_LIVE:
		state = "live"
	case rapportv1.StrategyStage_STRATEGY_STAGE_SHADOW:
		state = "shadow"
	case rapportv1.StrategyStage_STRATEGY_STAGE_SHARE:
		state = "share " + formatNumber(s.GetShare()) + "%"
	case rapportv1.StrategyStage_STRATEGY_STAGE_UNSPECIFIED:
	}
	var trouble string
	switch until := s.GetSuspendedUntil(); {
	case s.GetProblem() != "":
		trouble = "unusable"
	case until != nil:
		trouble = "suspended"
		if left := time.Until(until.AsTime()).Round(time.Second); left > 0 {
			trouble += " for " + left.String()
		}
	default:
		return state
	}
	if state == none {
		return trouble
	}
	return state + ", " + trouble
}

func sum(counts map[string]uint64) (n uint64) {
	for _, count := range counts {
		n += count
	}
	return n
}

// printCounts prints what each version has done.
func (a *app) printCounts(strategies []*rapportv1.Strategy) error {
	t := newTable("VERSION", "COUNTED SINCE THE START", ">DECISIONS", ">FUEL EACH")
	for _, s := range strategies {
		c, shadow := s.GetCounts(), s.GetCounts().GetShadow()
		add := func(what string, n uint64) {
			if n > 0 {
				t.add(s.GetVersion(), what, n, none)
			}
		}
		byKind := func(what string, counts map[string]uint64) {
			for _, kind := range slices.Sorted(maps.Keys(counts)) {
				add(what+kind, counts[kind])
			}
		}
		if n := c.GetRanked(); n > 0 {
			t.add(s.GetVersion(), "ranked", n, c.GetFuel()/n)
		}
		add("busy", c.GetBusy())
		byKind("fault: ", c.GetFaults())
		add("suspended", c.GetSuspended())
		add("shadow: compared", shadow.GetComparisons())
		add("shadow: another winner", shadow.GetWinnerDiffers())
		add("shadow: another slate", shadow.GetSlateDiffers())
		add("shadow: another score", shadow.GetScoreDiffers())
		byKind("shadow: fault: ", shadow.GetFaults())
		add("shadow: suspended", shadow.GetSuspended())
		add("shadow: dropped", shadow.GetDropped())
	}
	if len(t.rows) == 0 {
		return nil
	}
	writef(a.out, "\n")
	return t.write(a.out)
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
		if f := m.GetFuel(); f != nil {
			t.add("fuel", "a call", "number", f.GetBase(), none, none)
			t.add("fuel", "a candidate", "number", f.GetPerCandidate(), none, none)
		}
		if err := t.write(a.out); err != nil {
			return err
		}
	}
	return nil
}

type strategyReleaseCmd struct {
	Name    string  `arg:"" help:"The strategy."`
	Version string  `arg:"" help:"The version, as listed."`
	Shadow  bool    `help:"In shadow: it ranks beside the live version and affects nothing; differences are counted."`
	Share   float64 `help:"For this share of the customers, in percent: always the same ones, and a larger share only adds some." placeholder:"PERCENT"`
}

// Help is shown by --help.
func (strategyReleaseCmd) Help() string {
	return `Scenarios that use the live version follow it from the next decision on; those that name a version do
not. Without a flag the version becomes the live one. At most one version is in shadow or has a share; it
stops to be that when it becomes live, or another takes its place. To go back: rapport strategy rollback.

Examples:

	rapport strategy release my_strategy 1.2.0 --shadow
	rapport strategy release my_strategy 1.2.0 --share 2.5
	rapport strategy release my_strategy 1.2.0`
}

// Run releases a version.
func (cmd *strategyReleaseCmd) Run(ctx context.Context, a *app) error {
	if cmd.Shadow && cmd.Share != 0 {
		return usagef("--shadow and --share exclude each other: a version in shadow ranks for nobody")
	}
	request := &rapportv1.ReleaseStrategyRequest{Name: cmd.Name, Version: cmd.Version, Stage: rapportv1.StrategyStage_STRATEGY_STAGE_LIVE, Share: cmd.Share}
	switch {
	case cmd.Shadow:
		request.Stage = rapportv1.StrategyStage_STRATEGY_STAGE_SHADOW
	case cmd.Share != 0:
		request.Stage = rapportv1.StrategyStage_STRATEGY_STAGE_SHARE
	}
	if s := cmd.Share; s != 0 && !(s > 0 && s < 100) {
		return usagef("--share %v is out of range: give more than 0 and less than 100 percent, or leave it out for all customers", s)
	}
	return a.call(ctx, func(c *clients) error {
		r, err := c.strategies.ReleaseStrategy(ctx, connect.NewRequest(request))
		if err != nil {
			return err
		}
		if a.json {
			return a.printMessage(r.Msg)
		}
		version := r.Msg.GetReleased().GetVersion()
		state, note := "live", ""
		switch request.GetStage() {
		case rapportv1.StrategyStage_STRATEGY_STAGE_SHADOW:
			state, note = "in shadow", "; "+formatLive(r.Msg.GetAfter())
		case rapportv1.StrategyStage_STRATEGY_STAGE_SHARE:
			state, note = "live for "+formatNumber(cmd.Share)+"% of the customers", "; for the others, "+cmp.Or(r.Msg.GetAfter().GetLiveVersion(), "none")
		default:
			if v := r.Msg.GetPreviousVersion(); v != "" && v != version {
				note = "; before, " + v
			}
		}
		_, err = fmt.Fprintf(a.out, "strategy %s %s is %s%s\n", cmd.Name, version, state, note)
		return err
	})
}

// formatLive says which version is live.
func formatLive(r *rapportv1.StrategyRelease) string {
	if r.GetLiveVersion() == "" {
		return "none is live"
	}
	return r.GetLiveVersion() + " is live"
}

type strategyRollbackCmd struct {
	Name string `arg:"" help:"The strategy."`
}

// Help is shown by --help.
func (strategyRollbackCmd) Help() string {
	return `A version in shadow or with a share is taken out of service; the live one stays. If there is none, the
version that was live before is live again; a second rollback goes one further back.

Examples:

	rapport strategy rollback my_strategy`
}

// Run takes the last step back.
func (cmd *strategyRollbackCmd) Run(ctx context.Context, a *app) error {
	return a.call(ctx, func(c *clients) error {
		r, err := c.strategies.RollbackStrategy(ctx, connect.NewRequest(&rapportv1.RollbackStrategyRequest{Name: cmd.Name}))
		if err != nil {
			return err
		}
		if a.json {
			return a.printMessage(r.Msg)
		}
		before, after := r.Msg.GetBefore(), r.Msg.GetAfter()
		if v := before.GetCandidateVersion(); v != "" {
			_, err = fmt.Fprintf(a.out, "strategy %s %s is out of service; %s\n", cmd.Name, v, formatLive(after))
			return err
		}
		_, err = fmt.Fprintf(a.out, "strategy %s %s is live; rolled back from %s\n", cmd.Name, after.GetLiveVersion(), before.GetLiveVersion())
		return err
	})
}
