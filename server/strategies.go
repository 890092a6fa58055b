package server

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"rapport/plugins"
	"rapport/profilestore/durable"
	"rapport/server/catalog"
	"rapport/server/sandbox"
)

// liveVersion is the version that stands for the released one.
const liveVersion = "live"

var (
	errStrategyNotFound = errors.New("no such strategy")
	errVersionTaken     = errors.New("the version is taken by another module")
)

// strategyVersion is a module that is kept.
type strategyVersion struct {
	module   *sandbox.Module
	size     int
	uploaded time.Time // zero if built in
}

func (v *strategyVersion) builtin() bool { return v.uploaded.IsZero() }

// strategies keeps the modules in DATA/strategies/NAME/VERSION.wasm, and which
// version of each is live in NAME/LIVE. The modules that ship with the server
// are always there and are live until another version is released.
//
// A version never changes: what a name and version stand for today they stand for
// for ever.
type strategies struct {
	dir     string
	runtime *sandbox.Runtime

	mu       sync.RWMutex
	versions map[string][]*strategyVersion // by name; newest last
	live     map[string]string             // version by name
}

// openStrategies compiles everything that is kept.
func openStrategies(ctx context.Context, dir string, runtime *sandbox.Runtime) (*strategies, error) {
	s := &strategies{dir: dir, runtime: runtime, versions: make(map[string][]*strategyVersion), live: make(map[string]string)}
	for _, wasm := range plugins.Builtin() {
		m, err := runtime.Compile(ctx, wasm)
		if err != nil {
			return nil, fmt.Errorf("built-in strategy: %w", err)
		}
		name := m.Manifest().Name
		s.versions[name] = append(s.versions[name], &strategyVersion{module: m, size: len(wasm)})
		s.live[name] = m.Manifest().Version
	}
	files, err := filepath.Glob(filepath.Join(dir, "*", "*.wasm"))
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		if err := s.open(ctx, file); err != nil {
			return nil, fmt.Errorf("strategy %s: %w: remove the file, or put it back as it was uploaded", file, err)
		}
	}
	for name, versions := range s.versions {
		slices.SortStableFunc(versions, func(a, b *strategyVersion) int { return a.uploaded.Compare(b.uploaded) })
		live, err := os.ReadFile(filepath.Join(dir, name, "LIVE"))
		switch {
		case err == nil:
			s.live[name] = strings.TrimSpace(string(live))
		case !errors.Is(err, os.ErrNotExist):
			return nil, err
		}
	}
	return s, nil
}

// kept is what is written beside a module.
type kept struct {
	Digest   string    `json:"digest"`
	Uploaded time.Time `json:"uploaded"`
}

func (s *strategies) open(ctx context.Context, file string) error {
	wasm, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	b, err := os.ReadFile(strings.TrimSuffix(file, ".wasm") + ".json")
	if err != nil {
		return err
	}
	var k kept
	if err := json.Unmarshal(b, &k); err != nil {
		return err
	}
	if digest := digestOf(wasm); digest != k.Digest {
		return fmt.Errorf("its content has changed since it was uploaded: digest %s, was %s", digest, k.Digest)
	}
	m, err := s.runtime.Compile(ctx, wasm)
	if err != nil {
		return err
	}
	name := m.Manifest().Name
	s.versions[name] = append(s.versions[name], &strategyVersion{module: m, size: len(wasm), uploaded: k.Uploaded})
	return nil
}

func digestOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// upload keeps a module. The same module again is no error.
func (s *strategies) upload(ctx context.Context, wasm []byte) (*strategyVersion, error) {
	m, err := s.runtime.Compile(ctx, wasm)
	if err != nil {
		return nil, err
	}
	name, version := m.Manifest().Name, m.Manifest().Version
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.find(name, version); old != nil {
		if old.module.Digest() == m.Digest() {
			return old, m.Close(ctx)
		}
		return nil, errors.Join(fmt.Errorf("strategy %s %s: %w (digest %s): give the new module a new version", name, version, errVersionTaken, old.module.Digest()), m.Close(ctx))
	}
	if version == liveVersion {
		return nil, errors.Join(&sandbox.InvalidError{Reason: sandbox.ReasonManifest, Message: fmt.Sprintf("%q is reserved and can't be a version", version)}, m.Close(ctx))
	}
	v := &strategyVersion{module: m, size: len(wasm), uploaded: time.Now().UTC().Truncate(time.Millisecond)}
	if err := s.keep(name, version, wasm, kept{Digest: m.Digest(), Uploaded: v.uploaded}); err != nil {
		return nil, errors.Join(err, m.Close(ctx))
	}
	s.versions[name] = append(s.versions[name], v)
	return v, nil
}

// keep writes the module last: without it, what is beside it means nothing.
func (s *strategies) keep(name, version string, wasm []byte, k kept) error {
	b, err := json.Marshal(k)
	if err != nil {
		return err
	}
	dir := filepath.Join(s.dir, name)
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	if err := durable.WriteFile(filepath.Join(dir, version+".json"), b); err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(dir, version+".wasm"), wasm)
}

func (s *strategies) find(name, version string) *strategyVersion {
	for _, v := range s.versions[name] {
		if v.module.Manifest().Version == version {
			return v
		}
	}
	return nil
}

// resolve returns the module that a scenario names, with live standing for the
// versions in overrides, where given, before those released.
func (s *strategies) resolve(use *catalog.StrategyUse, overrides map[string]string) (*strategyVersion, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	versions, ok := s.versions[use.Name]
	if !ok {
		names := make([]string, 0, len(s.versions))
		for name := range s.versions {
			names = append(names, name)
		}
		slices.Sort(names)
		return nil, fmt.Errorf("%w: %q; there are %s", errStrategyNotFound, use.Name, strings.Join(names, ", "))
	}
	version := use.Version
	if version == "" || version == liveVersion {
		if version = overrides[use.Name]; version == "" {
			version = s.live[use.Name]
		}
		if version == "" {
			return nil, fmt.Errorf("%w: no version of %q is live: release one with rapport strategy release", errStrategyNotFound, use.Name)
		}
	}
	if v := s.find(use.Name, version); v != nil {
		return v, nil
	}
	known := make([]string, len(versions))
	for i, v := range versions {
		known[i] = v.module.Manifest().Version
	}
	return nil, fmt.Errorf("%w: %s has no version %q; there are %s", errStrategyNotFound, use.Name, version, strings.Join(known, ", "))
}

// setLive makes a version the live one, durably.
func (s *strategies) setLive(name, version string) (previous string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	previous = s.live[name]
	if err := os.MkdirAll(filepath.Join(s.dir, name), 0o750); err != nil {
		return "", err
	}
	if err := durable.WriteFile(filepath.Join(s.dir, name, "LIVE"), []byte(version+"\n")); err != nil {
		return "", err
	}
	s.live[name] = version
	return previous, nil
}

// list returns the versions by name, newest first, and the live one of each.
func (s *strategies) list(name string) (versions []*strategyVersion, live map[string]string) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	live = make(map[string]string, len(s.live))
	for n, vs := range s.versions {
		if name == "" || n == name {
			versions = append(versions, vs...)
			live[n] = s.live[n]
		}
	}
	slices.SortStableFunc(versions, func(a, b *strategyVersion) int {
		return cmp.Or(cmp.Compare(a.module.Manifest().Name, b.module.Manifest().Name), b.uploaded.Compare(a.uploaded))
	})
	return versions, live
}

func (s *strategies) close(ctx context.Context) error {
	var errs []error
	for _, versions := range s.versions {
		for _, v := range versions {
			errs = append(errs, v.module.Close(ctx))
		}
	}
	return errors.Join(errs...)
}
