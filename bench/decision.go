package bench

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"rapport/profilestore"
	"rapport/profilestore/badger"
	"rapport/profilestore/rules"
	"rapport/server/decide"
	"rapport/server/sandbox"
)

// Decision is the layer of the decision in process: the profile from the hot
// cache, eligibility, ranking, slate; without RPC.
type Decision struct {
	guest  *Guest
	scene  *scene
	store  *profilestore.Store
	ranker *sandbox.Strategy
	wasm   *decide.Decider
	native *decide.Decider
	byName string // of the native ranker
	dir    string

	percent, eligible int // of the candidates
	cache             int

	request decide.Request
	answer  decide.Answer
}

// NewDecision sets up one customer and so many candidates, each with a rule, of which the
// customer is eligible for so many in a hundred; they are ranked by a strategy.
func NewDecision(ctx context.Context, g *Guest, candidates, percent int) (*Decision, error) {
	return decisionIn(ctx, g, candidates, percent, 0, sceneCache)
}

// sceneCache is how many profiles are cached: more than there are.
const sceneCache = 1000

// decisionIn is NewDecision in a catalogue with so many other offers, and with a cache of so
// many profiles; with none the customer is read from the store each time.
func decisionIn(ctx context.Context, g *Guest, candidates, percent, others, cache int) (_ *Decision, err error) {
	d := &Decision{guest: g, percent: percent, cache: cache}
	for i := range candidates {
		if eligible(i, percent) {
			d.eligible++
		}
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.Close())
		}
	}()
	if d.scene, err = newSceneOf(g, candidates, percent, others); err != nil {
		return nil, err
	}
	if d.dir, err = os.MkdirTemp("", "rapport-bench"); err != nil {
		return nil, err
	}
	if err := d.openStore(ctx, d.scene.schema); err != nil {
		return nil, err
	}
	// With a spare instance the next call need not wait for the last one's to be
	// restored.
	if d.ranker, err = g.module.Bind(ctx, d.scene.compiled, d.scene.scenario, sandbox.PoolOptions{Size: runtime.GOMAXPROCS(0) + 1}); err != nil {
		return nil, err
	}
	if d.wasm, err = decide.New(d.scene.compiled, []decide.Ranker{d.ranker}); err != nil {
		return nil, err
	}
	native, err := g.native(d.scene.compiled, d.scene.scenario)
	if err != nil {
		return nil, err
	}
	d.byName = native.Info().Name
	if d.native, err = decide.New(d.scene.compiled, []decide.Ranker{native}); err != nil {
		return nil, err
	}
	d.request = decide.Request{Now: time.Now().UnixMicro(), Seed: 1}
	return d, nil
}

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
		Dir: d.dir, Schema: schema, Mapper: mapper, Engine: engine, CacheEntries: d.cache, Logger: quiet,
	})
	if err != nil {
		return err
	}
	csv := filepath.Join(d.dir, "bi.csv")
	if err := os.WriteFile(csv, []byte(sceneCSV), 0o600); err != nil {
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
		ID: "1", Type: "data", Identity: sceneCustomer, Time: time.Now().UnixMicro(), Attributes: map[string]any{"mb": 12.5},
	}})
	return err
}

// Subjects returns the decision with the strategy written natively in Go, which
// is the limit, and with the Wasm strategy.
func (d *Decision) Subjects(ctx context.Context) (native, wasm Subject) {
	candidates := len(d.scene.scenario.Candidates)
	return Subject{Name: fmt.Sprintf("decision of %d, %d eligible, %s natively", candidates, d.eligible, d.guest.Name), Run: d.decide(ctx, d.native, d.byName)},
		Subject{Name: "in the sandbox", Run: d.decide(ctx, d.wasm, d.ranker.Info().Name), Settle: settle(d.ranker), Goal: d.goal(candidates)}
}

// goal returns what the design asks for.
func (d *Decision) goal(candidates int) Goal {
	small := d.guest.Name == "pvcl"
	switch {
	case d.percent < 100: // the curve
	case candidates == 100 && small:
		return Goal{Ratio: 2}
	case candidates == 100:
		return Goal{P50: 40 * time.Microsecond}
	case candidates == 10_000 && small:
		return Goal{P50: 300 * time.Microsecond}
	}
	return Goal{}
}

// decide makes one decision and checks that it was ranked by whom it should be:
// a degraded one would be fast and worthless.
func (d *Decision) decide(ctx context.Context, by *decide.Decider, rankedBy string) func() error {
	return func() error {
		view, err := d.store.View(ctx, sceneCustomer)
		if err != nil {
			return err
		}
		d.request.Profile = view.At(d.request.Now)
		by.Decide(ctx, &d.request, &d.answer)
		if len(d.answer.Degradations) > 0 || d.answer.RankedBy.Name != rankedBy || len(d.answer.Slate) != min(3, d.eligible) {
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
	if d.store != nil {
		errs = append(errs, d.store.Close())
	}
	if d.dir != "" {
		errs = append(errs, os.RemoveAll(d.dir))
	}
	return errors.Join(errs...)
}
