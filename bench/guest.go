package bench

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"rapport/plugins"
	"rapport/server/catalog"
	"rapport/server/decide"
	"rapport/server/sandbox"
	"rapport/server/sandbox/probe"
)

// Guest is a strategy that is measured: its module, and the same computation
// written natively in Go.
type Guest struct {
	Name string
	Wasm []byte

	parameters string // of a scenario that it ranks, as YAML; empty for none
	module     *sandbox.Module
	native     native
	probed     map[probe.Mode]*probe.Module // compiled when first used
}

type native = func(*catalog.Compiled, *catalog.Scenario) (decide.Ranker, error)

func newGuest(name string, wasm []byte, n native) *Guest {
	return &Guest{Name: name, Wasm: wasm, native: n, probed: make(map[probe.Mode]*probe.Module)}
}

// Guests are the strategies that are measured, compiled once for all layers: pvcl,
// which ships, stands for what is small and fast, and upsell for what an author
// gets who writes Go.
type Guests struct {
	PVCL, Upsell *Guest
	// Care and Epsilon, in C and AssemblyScript, rank as pvcl does where there is no reason not
	// to: the customer is content, and nothing is explored. So the arbitration natively in Go
	// is their limit too, and what they cost more is the looking.
	Care, Epsilon *Guest

	runtime *sandbox.Runtime
}

// NewGuests builds upsell with the Go toolchain, in a folder of the module rapport,
// and compiles both. compiler is the command that compiles strategies, as in
// sandbox.Options. Close frees them, when all that was bound to them is closed.
func NewGuests(ctx context.Context, compiler []string) (_ *Guests, err error) {
	upsell, err := build(ctx, "rapport/plugins/upsell")
	if err != nil {
		return nil, err
	}
	care, err := shipped(ctx, "care")
	if err != nil {
		return nil, err
	}
	epsilon, err := shipped(ctx, "epsilon")
	if err != nil {
		return nil, err
	}
	g := &Guests{
		PVCL:    newGuest("pvcl", plugins.PVCL(), arbitration),
		Upsell:  newGuest("upsell", upsell, newUpsell),
		Care:    newGuest("care", care, arbitration),
		Epsilon: newGuest("epsilon", epsilon, arbitration),
	}
	g.Epsilon.parameters = "{epsilon: 0}"
	// A strategy that is suspended would be measured as an error.
	o := sandbox.Options{Logger: slog.New(slog.DiscardHandler), Compiler: compiler, NoBreaker: true}
	if g.runtime, err = sandbox.New(ctx, o); err != nil {
		return nil, err
	}
	for _, s := range g.Every() {
		if s.module, err = g.runtime.Compile(ctx, s.Wasm); err != nil {
			return nil, errors.Join(fmt.Errorf("bench: %s: %w", s.Name, err), g.Close())
		}
	}
	return g, nil
}

// Every returns all strategies.
func (g *Guests) Every() []*Guest { return append(g.All(), g.Care, g.Epsilon) }

// All returns those that every layer measures.
func (g *Guests) All() []*Guest { return []*Guest{g.PVCL, g.Upsell} }

// Close frees what was compiled.
func (g *Guests) Close() error {
	ctx := context.Background()
	errs := []error{g.runtime.Close(ctx)}
	for _, s := range g.Every() {
		for _, m := range s.probed {
			errs = append(errs, m.Close(ctx))
		}
	}
	return errors.Join(errs...)
}

// probes returns so many instances of the strategy, outside of the sandbox, each
// ready for so many candidates.
func (g *Guest) probes(ctx context.Context, mode probe.Mode, instances, candidates int) (_ []*probe.Probe, err error) {
	m := g.probed[mode]
	if m == nil {
		if m, err = probe.Compile(ctx, g.Wasm, mode); err != nil {
			return nil, fmt.Errorf("bench: %s: %w", g.Name, err)
		}
		g.probed[mode] = m
	}
	var list []*probe.Probe
	for range instances {
		p, err := m.New(ctx)
		if err == nil {
			list = append(list, p)
			err = p.Configure(ctx, candidates)
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("bench: %s: %w", g.Name, err), closeProbes(list))
		}
	}
	return list, nil
}

func closeProbes(list []*probe.Probe) error {
	var errs []error
	for _, p := range list {
		errs = append(errs, p.Close(context.Background()))
	}
	return errors.Join(errs...)
}

// build builds a strategy in Go.
func build(ctx context.Context, pkg string) (_ []byte, err error) {
	dir, err := os.MkdirTemp("", "rapport-bench")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	out := filepath.Join(dir, "strategy.wasm")
	c := exec.CommandContext(ctx, "go", "build", "-buildmode=c-shared", "-trimpath", "-ldflags=-s -w", "-o", out, pkg) //nolint:gosec // the package is a constant
	c.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm")
	if text, err := c.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("bench: go build %s: %w\n%s", pkg, err, text)
	}
	return os.ReadFile(out)
}

// shipped reads the module of a strategy that is built already.
func shipped(ctx context.Context, name string) ([]byte, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-f", "{{.Dir}}", "rapport/plugins").Output()
	if err != nil {
		return nil, fmt.Errorf("bench: go list rapport/plugins, in a folder of the module rapport: %w", err)
	}
	return os.ReadFile(filepath.Join(strings.TrimSpace(string(out)), "dist", name+".wasm"))
}

// arbitration is pvcl natively.
func arbitration(*catalog.Compiled, *catalog.Scenario) (decide.Ranker, error) {
	return decide.Arbitration{}, nil
}
