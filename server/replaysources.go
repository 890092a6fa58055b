package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"

	"rapport/plugins"
	"rapport/profilestore"
	"rapport/profilestore/durable"
	"rapport/profilestore/reftable"
	"rapport/profilestore/rules"
	"rapport/server/catalog"
	"rapport/server/decide"
	"rapport/server/decisionlog"
	"rapport/server/sandbox"
)

// Bounds of what replays keep at hand.
const (
	maxReplayDeciders = 8
	maxReplayBindings = 32
	maxReplayTables   = 8 // sets of reference tables
)

// replaySources have what decisions were made with. They implement decisionlog.Sources.
//
// Published catalogues and uploaded strategies are kept by their stores for ever.
// Schemas, and the strategies that ship with the server, change with the program or are
// replaced, so copies of them stand beside the log, by their content.
//
// What is bound for a replay does not touch decisions: its pools and circuit breakers are
// its own.
type replaySources struct {
	server *Server

	// guest is the digest of a module that ranks where another strategy is named: the
	// parameters that are set are for that one, so it has its defaults.
	guest string

	mu       sync.Mutex
	deciders map[deciderKey]*decide.Decider
	tables   map[tablesKey]*reftable.Versions
	bindings map[bindingKey]*replayBinding
	modules  map[string]*sandbox.Module // that are kept beside the log only, by digest
	clock    uint64                     // of uses
}

type deciderKey struct {
	version int64
	schema  string
}

// tablesKey are versions of tables, as text, in the places of a schema.
type tablesKey struct{ schema, versions string }

type bindingKey struct {
	scenario *catalog.Scenario
	digest   string
}

// replayBinding is a strategy bound for replays.
type replayBinding struct {
	ready  sync.WaitGroup // until it is bound
	bound  *sandbox.Strategy
	err    error
	users  int
	usedAt uint64
}

func newReplaySources(s *Server) *replaySources {
	return &replaySources{
		server: s, deciders: make(map[deciderKey]*decide.Decider), tables: make(map[tablesKey]*reftable.Versions), bindings: make(map[bindingKey]*replayBinding), modules: make(map[string]*sandbox.Module),
	}
}

// keep writes copies of what replays will need and nobody else keeps. Without, decisions
// go on, and some day can't be replayed.
func (s *replaySources) keep() {
	dir := s.server.folder.path("decisions", "kept")
	err := durable.MakeFolder(dir, 0o750)
	if err == nil {
		var schema []byte
		if schema, err = s.server.store.Schema().MarshalJSON(); err == nil {
			err = s.keepFile(schemaFile(s.server.store.Schema().ID()), schema)
		}
	}
	for _, wasm := range plugins.Builtin() {
		err = errors.Join(err, s.keepFile(moduleFile(digestOf(wasm)), wasm))
	}
	if err != nil {
		s.server.log.Warn("what replays will need could not be kept: decisions may not be replayed later", "error", err)
	}
}

func schemaFile(id string) string     { return "schema-" + id + ".json" }
func moduleFile(digest string) string { return "module-" + digest + ".wasm" }

func (s *replaySources) path(file string) string {
	return s.server.folder.path("decisions", "kept", file)
}

func (s *replaySources) keepFile(file string, b []byte) error {
	if _, err := os.Stat(s.path(file)); err == nil {
		return nil
	}
	return durable.WriteFile(s.path(file), b)
}

// Decider implements decisionlog.Sources.
func (s *replaySources) Decider(_ context.Context, version int64, schemaID string) (*decide.Decider, error) {
	if l := s.server.live.Load(); l != nil && l.compiled.Version == version && l.compiled.Schema.ID() == schemaID {
		return l.decider, nil // what it has is in memory as long as somebody uses it
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	key := deciderKey{version, schemaID}
	if d, ok := s.deciders[key]; ok {
		return d, nil
	}
	schema, err := s.schema(schemaID)
	if err != nil {
		return nil, err
	}
	v, err := s.server.catalogs.Get(version)
	if err != nil {
		return nil, err
	}
	compiled, _, problems := catalog.Compile(v.Files, schema, anyStrategy{})
	if len(problems) > 0 {
		return nil, fmt.Errorf("catalogue version %d does not compile under schema %s: %s", version, schemaID, problems[0])
	}
	compiled.Version = version
	d, err := decide.New(compiled, make([]decide.Ranker, len(compiled.Scenarios)))
	if err != nil {
		return nil, err
	}
	if len(s.deciders) >= maxReplayDeciders {
		clear(s.deciders) // they are compiled again where they are needed
	}
	s.deciders[key] = d
	return d, nil
}

// Tables implements decisionlog.Sources. Versions of tables are never removed.
func (s *replaySources) Tables(_ context.Context, c *catalog.Compiled, versions []decisionlog.Version) (rules.TableSet, error) {
	if now := s.server.tables.Current(); c.Schema.ID() == s.server.store.Schema().ID() && slices.Equal(s.server.tableVersions(now), versions) {
		return now, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	key := tablesKey{c.Schema.ID(), fmt.Sprint(versions)}
	if t, ok := s.tables[key]; ok {
		return t, nil
	}
	numbers := make(map[string]int64, len(versions))
	for _, v := range versions {
		numbers[v.Name] = v.Number
	}
	t, err := s.server.tables.Pick(c.Schema.TableNames(), numbers)
	if err != nil {
		return nil, err
	}
	if len(s.tables) >= maxReplayTables {
		clear(s.tables)
	}
	s.tables[key] = t
	return t, nil
}

// schema returns the schema of an id.
func (s *replaySources) schema(id string) (*profilestore.Schema, error) {
	if current := s.server.store.Schema(); current.ID() == id {
		return current, nil
	}
	if id == "" || strings.ContainsAny(id, `/\.`) {
		return nil, fmt.Errorf("schema %q is not kept", id)
	}
	b, err := os.ReadFile(s.path(schemaFile(id)))
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("schema %s is not kept any more", id)
	}
	if err != nil {
		return nil, withoutPath(err)
	}
	schema, err := profilestore.ParseSchema(b)
	if err == nil && schema.ID() != id {
		err = fmt.Errorf("what is kept as schema %s is schema %s", id, schema.ID())
	}
	return schema, err
}

// anyStrategy lets every strategy pass: a replay says itself who ranks.
type anyStrategy struct{}

// Check finds nothing wrong.
func (anyStrategy) Check(*catalog.Compiled, *catalog.Scenario) []string { return nil }

// Ranker implements decisionlog.Sources.
func (s *replaySources) Ranker(ctx context.Context, c *catalog.Compiled, scenario *catalog.Scenario, r decisionlog.Ranker) (decide.Ranker, func(), error) {
	if arbitration := (decide.Arbitration{}); r.Name == arbitration.Info().Name {
		return arbitration, func() {}, nil
	}
	module, err := s.module(ctx, scenario, r)
	if err != nil {
		return nil, nil, err
	}
	key := bindingKey{scenario, module.Digest()}
	b, isNew := s.use(ctx, key)
	release := func() { s.release(b) }
	if isNew {
		if s.guest != "" && module.Digest() == s.guest {
			own := *scenario
			own.Strategy = &catalog.StrategyUse{Name: r.Name, Version: r.Version}
			scenario = &own
		}
		b.bound, b.err = module.Bind(context.WithoutCancel(ctx), c, scenario, sandbox.PoolOptions{
			Size: s.server.config.StrategyInstances, Aside: true, Logger: slog.New(slog.DiscardHandler), // whoever replays sees it
		})
		b.ready.Done()
	}
	b.ready.Wait()
	if b.err != nil {
		s.forget(key, b)
		release()
		return nil, nil, b.err
	}
	return b.bound, release, nil
}

// use returns the binding of a key with one user more, and whether it is new and has to
// be made by the caller.
func (s *replaySources) use(ctx context.Context, key bindingKey) (b *replayBinding, isNew bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clock++
	b, ok := s.bindings[key]
	if !ok {
		s.makeRoom(ctx)
		b = new(replayBinding)
		b.ready.Add(1)
		s.bindings[key] = b
	}
	b.users++
	b.usedAt = s.clock
	return b, !ok
}

// makeRoom closes the binding that has not been used for longest, if there are many.
func (s *replaySources) makeRoom(ctx context.Context) {
	if len(s.bindings) < maxReplayBindings {
		return
	}
	var oldest bindingKey
	for key, b := range s.bindings {
		if old := s.bindings[oldest]; b.users == 0 && (old == nil || b.usedAt < old.usedAt) {
			oldest = key
		}
	}
	if b := s.bindings[oldest]; b != nil {
		delete(s.bindings, oldest)
		s.closeBinding(ctx, b)
	}
}

func (s *replaySources) closeBinding(ctx context.Context, b *replayBinding) {
	if b.bound == nil {
		return
	}
	if err := b.bound.Close(context.WithoutCancel(ctx)); err != nil {
		s.server.log.Warn("a strategy that was bound for replays could not be closed", "error", err)
	}
}

func (s *replaySources) release(b *replayBinding) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b.users--
}

// forget takes out a binding that could not be made.
func (s *replaySources) forget(key bindingKey, b *replayBinding) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bindings[key] == b {
		delete(s.bindings, key)
	}
}

// module returns the module that a ranker stands for.
func (s *replaySources) module(ctx context.Context, scenario *catalog.Scenario, r decisionlog.Ranker) (*sandbox.Module, error) {
	var v *strategyVersion
	var err error
	if r.Digest == "" && (r.Version == "" || r.Version == liveVersion) {
		v, err = s.server.strategies.resolve(&catalog.StrategyUse{Name: r.Name, Version: liveVersion}, s.server.strategies.release(r.Name))
	} else {
		v, err = s.server.strategies.get(r.Name, r.Version)
	}
	if err == nil && (r.Digest == "" || v.digest == r.Digest) {
		return v.module, nil
	}
	if r.Digest == "" {
		return nil, fmt.Errorf("scenario %s: %w", scenario.ID, err)
	}
	return s.keptModule(ctx, r)
}

// keptModule returns a module of which a copy stands beside the log.
func (s *replaySources) keptModule(ctx context.Context, r decisionlog.Ranker) (*sandbox.Module, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m, ok := s.modules[r.Digest]; ok {
		return m, nil
	}
	wasm, err := os.ReadFile(s.path(moduleFile(digestName(r.Digest))))
	if err != nil {
		return nil, fmt.Errorf("the module of strategy %s with digest %.12s… is not kept any more", r, r.Digest)
	}
	if digestOf(wasm) != r.Digest {
		return nil, fmt.Errorf("the module that is kept of strategy %s is damaged", r)
	}
	m, err := s.server.runtime.Compile(ctx, wasm)
	if err != nil {
		return nil, err
	}
	s.modules[r.Digest] = m
	return m, nil
}

// digestName makes a file's name of a digest, which came out of a file.
func digestName(digest string) string {
	return strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' || r >= 'a' && r <= 'f' {
			return r
		}
		return '_'
	}, digest)
}

// close closes what is bound and kept. Nobody replays any more.
func (s *replaySources) close(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, b := range s.bindings {
		if b.bound != nil {
			errs = append(errs, b.bound.Close(ctx))
		}
	}
	for _, m := range s.modules {
		errs = append(errs, m.Close(ctx))
	}
	clear(s.bindings)
	return errors.Join(errs...)
}
