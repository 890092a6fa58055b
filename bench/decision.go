package bench

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"rapport/plugins"
	"rapport/profilestore"
	"rapport/profilestore/badger"
	"rapport/profilestore/rules"
	"rapport/server/catalog"
	"rapport/server/decide"
	"rapport/server/sandbox"
)

// Decision is the layer of the decision in process: the profile from the hot
// cache, eligibility, ranking, slate; without RPC.
type Decision struct {
	store   *profilestore.Store
	runtime *sandbox.Runtime
	module  *sandbox.Module
	ranker  *sandbox.Strategy
	wasm    *decide.Decider
	native  *decide.Decider
	dir     string

	request decide.Request
	answer  decide.Answer
}

const decisionSchema = `
sources: [{id: bi}]
fields:
  - {name: value.arpu, type: number, batch: bi, decimals: 2}
  - {name: tag.heavy_traffic, type: flag, batch: bi}
  - {name: usage.data_mb, type: counter, batch: bi, decimals: 3, events: {on: 'event.type == "data"', add: event.mb}}
  - {name: marketing.propensity, type: number, batch: bi, decimals: 4}
`

// NewDecision sets up one customer who is eligible for all of so many
// candidates, each with a rule. wasm is the strategy; nil for the one that ships.
// compiler is the command that compiles it, as in sandbox.Options.
func NewDecision(ctx context.Context, candidates int, wasm []byte, compiler []string) (_ *Decision, err error) {
	d := &Decision{}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.Close())
		}
	}()
	if d.dir, err = os.MkdirTemp("", "rapport-bench"); err != nil {
		return nil, err
	}
	schema, problems := catalog.ReadSchema("schema.yaml", []byte(decisionSchema))
	if len(problems) > 0 {
		return nil, fmt.Errorf("bench: schema: %v", problems)
	}
	compiled, _, problems := catalog.Compile([]catalog.File{{Name: "catalog.yaml", Content: []byte(decisionCatalog(candidates))}}, schema, nil)
	if len(problems) > 0 {
		return nil, fmt.Errorf("bench: catalogue: %v", problems)
	}
	if err := d.openStore(ctx, schema); err != nil {
		return nil, err
	}
	quiet := slog.New(slog.DiscardHandler)
	if d.runtime, err = sandbox.New(ctx, sandbox.Options{Logger: quiet, Compiler: compiler}); err != nil {
		return nil, err
	}
	if wasm == nil {
		wasm = plugins.Builtin()[0]
	}
	if d.module, err = d.runtime.Compile(ctx, wasm); err != nil {
		return nil, err
	}
	// With a spare instance the next call need not wait for the last one's to be
	// restored.
	if d.ranker, err = d.module.Bind(ctx, compiled, compiled.Scenarios[0], sandbox.PoolOptions{Size: runtime.GOMAXPROCS(0) + 1}); err != nil {
		return nil, err
	}
	if d.wasm, err = decide.New(compiled, []decide.Ranker{d.ranker}); err != nil {
		return nil, err
	}
	if d.native, err = decide.New(compiled, []decide.Ranker{nil}); err != nil {
		return nil, err
	}
	d.request = decide.Request{Now: time.Now().UnixMicro(), Seed: 1}
	return d, nil
}

func decisionCatalog(candidates int) string {
	var b strings.Builder
	b.WriteString("channels: [{id: web, direction: inbound, cost: 0.01}]\n" +
		"touchpoints: [{id: web.home, channel: web, slots: 3}]\n" +
		"scenarios: [{id: inbound, touchpoints: [web.home], strategy: {name: pvcl}}]\noffers:\n")
	for i := range candidates {
		fmt.Fprintf(&b, "  - {id: offer%d, group: g%d, class: marketing, value: %d, boost: %d, propensity: {field: marketing.propensity, start: 0.05}, "+
			"eligible: 'profile.value.arpu > %d && profile.usage.data_mb > %d', treatments: [{channel: web, content: text%d}]}\n",
			i, i%7, 5+i%40, i%50, i%20, 10*(i%30), i)
	}
	return b.String()
}

const decisionCustomer = "customer:1"

// openStore opens a store with one customer in it.
func (d *Decision) openStore(ctx context.Context, schema *profilestore.Schema) error {
	quiet := slog.New(slog.DiscardHandler)
	mapper, err := rules.NewEventMapper(schema)
	if err != nil {
		return err
	}
	engine, err := badger.Open(filepath.Join(d.dir, "deltas"), badger.Options{Logger: quiet})
	if err != nil {
		return err
	}
	d.store, err = profilestore.OpenStore(ctx, profilestore.Options{
		Dir: d.dir, Schema: schema, Mapper: mapper, Engine: engine, CacheEntries: 1000, Logger: quiet,
	})
	if err != nil {
		return err
	}
	csv := filepath.Join(d.dir, "bi.csv")
	content := "customer,value.arpu,tag.heavy_traffic,usage.data_mb,marketing.propensity\n1,88.5,yes,4000.5,0.07\n"
	if err := os.WriteFile(csv, []byte(content), 0o600); err != nil {
		return err
	}
	report, err := profilestore.Load(ctx, profilestore.LoadOptions{
		Dir: filepath.Join(d.dir, "snapshots"), Schema: schema, Engine: badger.Generations(quiet),
		Source: "bi", Path: csv, AsOf: time.Now().Truncate(profilestore.CellWidth).UnixMicro(),
	})
	if err != nil {
		return err
	}
	if _, _, err := d.store.Snapshots().Activate(ctx, "bi", report.Snapshot.Generation); err != nil {
		return err
	}
	_, err = d.store.Ingest(ctx, []*profilestore.Event{{
		ID: "1", Type: "data", Identity: decisionCustomer, Time: time.Now().UnixMicro(), Attributes: map[string]any{"mb": 12.5},
	}})
	return err
}

// Subjects returns the decision with the strategy written natively in Go, which
// is the limit, and with the Wasm strategy.
func (d *Decision) Subjects(ctx context.Context) (native, wasm Subject) {
	return Subject{Name: "decision, native strategy", Run: d.decide(ctx, d.native, "builtin")},
		Subject{Name: "decision, Wasm strategy", Run: d.decide(ctx, d.wasm, d.ranker.Info().Name)}
}

// decide makes one decision and checks that it was ranked by whom it should be:
// a degraded one would be fast and worthless.
func (d *Decision) decide(ctx context.Context, by *decide.Decider, rankedBy string) func() error {
	return func() error {
		view, err := d.store.View(ctx, decisionCustomer)
		if err != nil {
			return err
		}
		d.request.Profile = view
		by.Decide(ctx, &d.request, &d.answer)
		if len(d.answer.Degradations) > 0 || d.answer.RankedBy.Name != rankedBy || len(d.answer.Slate) != 3 {
			return fmt.Errorf("a degraded decision: ranked by %s, %d offers, %v", d.answer.RankedBy.Name, len(d.answer.Slate), d.answer.Degradations)
		}
		return nil
	}
}

// Close releases everything and removes the files.
func (d *Decision) Close() error {
	ctx := context.Background()
	var errs []error
	if d.ranker != nil {
		errs = append(errs, d.ranker.Close(ctx))
	}
	if d.module != nil {
		errs = append(errs, d.module.Close(ctx))
	}
	if d.runtime != nil {
		errs = append(errs, d.runtime.Close(ctx))
	}
	if d.store != nil {
		errs = append(errs, d.store.Close())
	}
	if d.dir != "" {
		errs = append(errs, os.RemoveAll(d.dir))
	}
	return errors.Join(errs...)
}
