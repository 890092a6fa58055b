package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"rapport/bench"
	"rapport/server/sandbox"
	"rapport/server/sandbox/trial"
)

type pluginBenchCmd struct {
	pluginModule
	Input      string        `short:"i" help:"The case whose candidates are repeated; the first of the project if not given." placeholder:"FILE"`
	Candidates []int         `help:"The numbers of candidates." default:"10,100,1000,10000" placeholder:"N,…"`
	Rounds     int           `help:"How often the two take turns." default:"50" placeholder:"N"`
	Slice      time.Duration `help:"About how long each runs in a turn." default:"2ms"`
}

// Help is shown by --help.
func (pluginBenchCmd) Help() string {
	return `Builds the strategy and measures calls of it, as on a server, by the number of candidates: fuel, which is
the same everywhere, and time. In the same run the server's own arbitration, propensity × value × weight ×
lever in Go, ranks the same candidates: the two take turns, so the ratio holds on a busy machine too, and
times don't. Its range is that of the median of the turns, with 95% confidence.

Examples:

	rapport plugin bench
	rapport plugin bench next_step.wasm -i cases/affordable.yaml --candidates 50,500`
}

// benched is what was measured for a number of candidates.
type benched struct {
	Candidates int     `json:"candidates"`
	Fuel       int64   `json:"fuel"`
	P50        int64   `json:"p50Nanoseconds"`
	P99        int64   `json:"p99Nanoseconds"`
	NativeP50  int64   `json:"nativeP50Nanoseconds"`
	Ratio      float64 `json:"ratio"`
	RatioLow   float64 `json:"ratioLow"`
	RatioHigh  float64 `json:"ratioHigh"`
}

// Run measures.
func (cmd *pluginBenchCmd) Run(ctx context.Context, a *app) error {
	for _, n := range cmd.Candidates {
		if n < 1 || n > maxTrialCandidates {
			return usagef("--candidates %d is out of range: give 1 to %d", n, maxTrialCandidates)
		}
	}
	if cmd.Rounds < 1 || cmd.Slice <= 0 {
		return usagef("--rounds and --slice are above 0")
	}
	slices.Sort(cmd.Candidates)
	return a.withModule(ctx, &cmd.pluginModule, false, func(m *sandbox.Module, file *module) error {
		var named []string
		if cmd.Input != "" {
			named = []string{cmd.Input}
		}
		names, err := file.cases(named)
		if err != nil {
			return err
		}
		c, err := trial.ReadFile(names[0])
		if err != nil {
			return err
		}
		var all []benched
		for _, n := range cmd.Candidates {
			x, err := cmd.measure(ctx, m, c.Grow(n))
			if err != nil {
				return fmt.Errorf("%d candidates: %w", n, err)
			}
			all = append(all, x)
		}
		if a.json {
			return a.printJSON(all)
		}
		writef(a.out, "%s %s on the candidates of %s\n\n", m.Manifest().Name, m.Manifest().Version, names[0])
		t := newTable(">CANDIDATES", ">FUEL", ">FUEL EACH", ">P50", ">P99", ">NATIVE P50", ">RATIO", "95% CONFIDENCE")
		for _, x := range all {
			t.add(x.Candidates, x.Fuel, fmt.Sprintf("%.1f", float64(x.Fuel)/float64(x.Candidates)), formatMicros(x.P50), formatMicros(x.P99), formatMicros(x.NativeP50),
				fmt.Sprintf("%.2f", x.Ratio), fmt.Sprintf("%.2f to %.2f", x.RatioLow, x.RatioHigh))
		}
		return t.write(a.out)
	})
}

func formatMicros(nanoseconds int64) string {
	return fmt.Sprintf("%.2f µs", float64(nanoseconds)/1000)
}

// measure measures calls for one number of candidates.
func (cmd *pluginBenchCmd) measure(ctx context.Context, m *sandbox.Module, c *trial.Case) (x benched, err error) {
	b, err := trial.Bind(ctx, m, c)
	if err != nil {
		return x, err
	}
	defer func() { err = errors.Join(err, b.Close(context.WithoutCancel(ctx))) }()
	native := bench.Subject{Name: "native", Run: func() error { return b.CallNative(ctx) }}
	strategy := bench.Subject{Name: "strategy", Run: func() error { return b.Call(ctx) }, Settle: func() { _ = b.Settle(ctx) }}
	r, err := bench.Compare(ctx, bench.Options{Rounds: cmd.Rounds, Slice: cmd.Slice}, native, strategy)
	if err != nil {
		return x, err
	}
	return benched{
		Candidates: len(c.Candidates), Fuel: b.Fuel(),
		P50: r.Subjects[0].P50.Nanoseconds(), P99: r.Subjects[0].P99.Nanoseconds(), NativeP50: r.Limit.P50.Nanoseconds(),
		Ratio: r.Ratios[0].Median, RatioLow: r.Ratios[0].Low, RatioHigh: r.Ratios[0].High,
	}, nil
}
