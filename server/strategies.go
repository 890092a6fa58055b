package server

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
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
	errStrategyNotFound    = errors.New("no such strategy")
	errStrategyUnavailable = errors.New("the strategy can't be used")
	errVersionTaken        = errors.New("the version is taken by another module")
)

// strategyVersion is a module that is kept. It does not change, except that
// another of the same content may take its place: see strategies.keep.
type strategyVersion struct {
	name, version string
	digest        string // of the module as it was uploaded; empty if not known
	module        *sandbox.Module
	size          int
	builtin       bool      // it ships with the server
	uploaded      time.Time // zero if built in, or not known
	signature     []byte
	signedBy      string // the id of the trusted key; empty if none, or none is trusted

	// problem says why the module can't be used; module is nil then.
	problem error

	counts *counts
}

func (v *strategyVersion) title() string { return v.name + " " + v.version }

// strategies keeps the modules in DATA/strategies/NAME/VERSION.wasm, with what
// was known of each when it was uploaded beside it in VERSION.json, and what is in
// service of each name in NAME/RELEASE. The modules that ship with the server are
// always there, need no signature, and are live until another version is released.
//
// A version never changes: what a name and version stand for today they stand for
// for ever. A file that is not what was uploaded any more, or that a key must have
// signed and none has, is refused by name: it is listed with what is wrong, and
// nothing takes its place in silence.
type strategies struct {
	dir     string
	runtime *sandbox.Runtime
	trusted trustedKeys
	log     *slog.Logger
	builtin map[string]string // version by name

	mu       sync.RWMutex
	versions map[string][]*strategyVersion // by name; oldest first, built-in ones before all
	releases map[string]release            // by name
	broken   map[string]error              // why the release of a name can't be read
}

// openStrategies compiles everything that is kept. What is wrong with a module in
// the folder is no error here: it concerns who uses it.
func openStrategies(ctx context.Context, dir string, runtime *sandbox.Runtime, trusted trustedKeys, log *slog.Logger) (*strategies, error) {
	s := &strategies{
		dir: dir, runtime: runtime, trusted: trusted, log: log,
		builtin: make(map[string]string), versions: make(map[string][]*strategyVersion),
		releases: make(map[string]release), broken: make(map[string]error),
	}
	for _, wasm := range plugins.Builtin() {
		m, err := runtime.Compile(ctx, wasm)
		if err != nil {
			return nil, fmt.Errorf("built-in strategy: %w", err)
		}
		name, version := m.Manifest().Name, m.Manifest().Version
		s.builtin[name] = version
		s.versions[name] = append(s.versions[name], &strategyVersion{
			name: name, version: version, digest: m.Digest(), module: m, size: len(wasm), builtin: true, counts: newCounts(),
		})
	}
	files, err := moduleFiles(dir)
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		s.add(s.open(ctx, file))
	}
	for name, versions := range s.versions {
		slices.SortStableFunc(versions, func(a, b *strategyVersion) int { return a.uploaded.Compare(b.uploaded) })
		r, err := readRelease(filepath.Join(dir, name), s.builtin[name])
		if err != nil {
			s.log.Error("what of a strategy is in service can't be read", "strategy", name, "error", err)
			s.broken[name] = err
			r = release{}
		}
		s.releases[name] = r
	}
	return s, nil
}

// moduleFiles returns the paths of all modules in a folder, also of those that are gone
// while what was known of them is there.
func moduleFiles(dir string) (files []string, err error) {
	for _, suffix := range []string{".wasm", ".json"} {
		paths, err := filepath.Glob(filepath.Join(dir, "*", "*"+suffix))
		if err != nil {
			return nil, err
		}
		for _, path := range paths {
			if path = strings.TrimSuffix(path, suffix) + ".wasm"; !slices.Contains(files, path) {
				files = append(files, path)
			}
		}
	}
	return files, nil
}

// add takes up a module from the folder.
func (s *strategies) add(v *strategyVersion) {
	if v.problem != nil {
		s.log.Error("a strategy in the data folder can't be used", "name", v.name, "version", v.version, "problem", v.problem)
	} else if old := s.find(v.name, v.version); old != nil && old.digest == v.digest {
		return // it was uploaded before it came to ship with the server
	}
	s.versions[v.name] = append(s.versions[v.name], v)
}

// kept is what is written beside a module.
type kept struct {
	Digest    string    `json:"digest"`
	Uploaded  time.Time `json:"uploaded"`
	Signature []byte    `json:"signature,omitempty"`
	Key       string    `json:"key,omitempty"` // the id of the key, for people
}

// open opens a module in the folder.
func (s *strategies) open(ctx context.Context, file string) *strategyVersion {
	dir, base := filepath.Split(file)
	base = strings.ToValidUTF8(base, "\uFFFD")
	v := &strategyVersion{name: strings.ToValidUTF8(filepath.Base(dir), "\uFFFD"), version: strings.TrimSuffix(base, ".wasm"), counts: newCounts()}
	if err := s.load(ctx, v, file); err != nil {
		v.problem = fmt.Errorf("strategies/%s/%s: %w", v.name, base, withoutPath(err))
	}
	return v
}

func (s *strategies) load(ctx context.Context, v *strategyVersion, file string) error {
	const asUploaded = "put the file back as it was uploaded, upload the module again, or remove the file"
	if info, err := os.Stat(file); err != nil {
		return err
	} else if v.size = int(info.Size()); v.size > sandbox.MaxModuleSize {
		return fmt.Errorf("it has %d bytes, and a module at most %d: %s", v.size, sandbox.MaxModuleSize, asUploaded)
	}
	wasm, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	b, err := durable.ReadSealed(strings.TrimSuffix(file, ".wasm") + ".json")
	if err != nil {
		return fmt.Errorf("what was known of it when it was uploaded can't be read: %w: put the .json file back, or remove the module", withoutPath(err))
	}
	var k kept
	if err := json.Unmarshal(b, &k); err != nil {
		return fmt.Errorf("what was known of it when it was uploaded is damaged: %w: put the .json file back, or remove both", err)
	}
	v.digest, v.uploaded, v.signature = k.Digest, k.Uploaded, k.Signature
	if digest := digestOf(wasm); digest != k.Digest {
		return fmt.Errorf("its content has changed since it was uploaded: the digest is %s, was %s: %s", digest, k.Digest, asUploaded)
	}
	if v.signedBy, err = s.trusted.verify(wasm, k.Signature); err != nil {
		return err
	}
	m, err := s.runtime.Compile(ctx, wasm)
	if err != nil {
		return err
	}
	if name, version := m.Manifest().Name, m.Manifest().Version; name != v.name || version != v.version {
		return errors.Join(fmt.Errorf("it is %s %s by its manifest: move it to where that belongs, or remove it", name, version), m.Close(ctx))
	}
	if s.builtin[v.name] == v.version && s.find(v.name, v.version).digest != v.digest {
		return errors.Join(errors.New("another module of this name and version ships with the server: give this one another version"), m.Close(ctx))
	}
	v.module = m
	return nil
}

// withoutPath returns an error of package os without the path of the data folder,
// which is nobody's business who asks over the network.
func withoutPath(err error) error {
	if path, ok := err.(*os.PathError); ok { //nolint:errorlint // one that is wrapped has words around it, which are to stay
		return path.Err
	}
	return err
}

func digestOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// check verifies and compiles a module that somebody wants to be kept.
func (s *strategies) check(ctx context.Context, wasm, signature []byte) (*strategyVersion, error) {
	// A signature is looked at before a compiler is.
	signedBy, err := s.trusted.verify(wasm, signature)
	if err != nil {
		return nil, err
	}
	m, err := s.runtime.Compile(ctx, wasm)
	if err != nil {
		return nil, err
	}
	return &strategyVersion{
		name: m.Manifest().Name, version: m.Manifest().Version, digest: m.Digest(), module: m, size: len(wasm),
		uploaded: time.Now().UTC().Truncate(time.Millisecond), signature: signature, signedBy: signedBy, counts: newCounts(),
	}, nil
}

// upload is what keep is about to do with a module.
type upload int

const (
	uploadSame   upload = iota // it is kept already
	uploadNew                  // it is new
	uploadSigned               // it is kept, and gets a signature
	uploadMended               // it is kept, could not be used, and now can
)

// plan says what becomes of a module that was checked. The caller sees to it that
// nothing is kept until keep has been called. Errors: errVersionTaken.
func (s *strategies) plan(v *strategyVersion) (upload, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	old := s.find(v.name, v.version)
	switch {
	case old == nil:
		return uploadNew, nil
	case old.digest != v.digest:
		was := "whose digest can't be told: " + fmt.Sprint(old.problem)
		if old.digest != "" {
			was = "digest " + old.digest
		}
		return 0, fmt.Errorf("strategy %s: %w (%s): give the new module a new version", v.title(), errVersionTaken, was)
	case old.problem != nil:
		return uploadMended, nil
	case !old.builtin && len(v.signature) > 0 && string(v.signature) != string(old.signature) && (v.signedBy != "" || len(old.signature) == 0):
		return uploadSigned, nil
	}
	return uploadSame, nil
}

// keep keeps a module as planned and returns what is kept from now on. v belongs
// to strategies if keep returns it, and else to the caller.
func (s *strategies) keep(v *strategyVersion, wasm []byte, what upload) (*strategyVersion, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.find(v.name, v.version)
	if what == uploadSame {
		return old, nil
	}
	if old != nil && !old.uploaded.IsZero() {
		v.uploaded = old.uploaded
	}
	if err := s.write(v, wasm); err != nil {
		return nil, err
	}
	switch what {
	case uploadNew:
		s.versions[v.name] = append(s.versions[v.name], v)
	case uploadMended:
		v.counts = old.counts
		s.versions[v.name][slices.Index(s.versions[v.name], old)] = v
	case uploadSigned: // the module in use stays as it is
		signed := *old
		signed.signature, signed.signedBy = v.signature, v.signedBy
		s.versions[v.name][slices.Index(s.versions[v.name], old)] = &signed
		return &signed, nil
	case uploadSame:
	}
	return v, nil
}

// uploadSuffix is that of a module until what is known of it is written beside it.
const uploadSuffix = ".upload"

// dropUploads removes what uploads that did not end have left in the folder of strategies.
// Without the module under its other name it would be taken for one that was lost.
func dropUploads(dir string) error {
	modules, err := filepath.Glob(filepath.Join(dir, "*", "*.wasm"+uploadSuffix))
	if err != nil {
		return err
	}
	for _, module := range modules {
		if err := durable.RemoveSealed(strings.TrimSuffix(module, ".wasm"+uploadSuffix) + ".json"); err != nil {
			return err
		}
		if err := durable.SyncDir(filepath.Dir(module)); err != nil {
			return err
		}
		if err := os.Remove(module); err != nil {
			return err
		}
	}
	return nil
}

// write gives the module its name last, so it is there with what is known of it or not at
// all; and before that another, so that what is known of a module which was lost is told
// from what an upload that did not end has left.
func (s *strategies) write(v *strategyVersion, wasm []byte) error {
	b, err := json.Marshal(kept{Digest: v.digest, Uploaded: v.uploaded, Signature: v.signature, Key: v.signedBy})
	if err != nil {
		return err
	}
	dir := filepath.Join(s.dir, v.name)
	if err := durable.MakeFolder(dir, 0o750); err != nil {
		return err
	}
	module := filepath.Join(dir, v.version+".wasm")
	if err := durable.WriteFile(module+uploadSuffix, wasm); err != nil {
		return err
	}
	if err := durable.WriteSealed(filepath.Join(dir, v.version+".json"), b); err != nil {
		return err
	}
	if err := os.Rename(module+uploadSuffix, module); err != nil {
		return err
	}
	return durable.SyncDir(dir)
}

// find returns a version by name; of two, the one that can't be used.
func (s *strategies) find(name, version string) (found *strategyVersion) {
	for _, v := range s.versions[name] {
		if v.version == version && (found == nil || v.problem != nil) {
			found = v
		}
	}
	return found
}

// get returns a version that can be used. Errors: errStrategyNotFound,
// errStrategyUnavailable.
func (s *strategies) get(name, version string) (*strategyVersion, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	versions, ok := s.versions[name]
	if !ok {
		names := make([]string, 0, len(s.versions))
		for name := range s.versions {
			names = append(names, name)
		}
		slices.Sort(names)
		return nil, fmt.Errorf("%w: %q; there are %s", errStrategyNotFound, name, strings.Join(names, ", "))
	}
	if v := s.find(name, version); v == nil {
		known := make([]string, len(versions))
		for i, v := range versions {
			known[i] = v.version
		}
		return nil, fmt.Errorf("%w: %s has no version %q; there are %s", errStrategyNotFound, name, version, strings.Join(known, ", "))
	} else if v.problem == nil {
		return v, nil
	} else {
		return nil, fmt.Errorf("%w: %s: %w", errStrategyUnavailable, v.title(), v.problem)
	}
}

// resolve returns the module that a scenario names. r is what of that strategy is
// in service. Errors: those of get.
func (s *strategies) resolve(use *catalog.StrategyUse, r release) (*strategyVersion, error) {
	if !followsLive(use) {
		return s.get(use.Name, use.Version)
	}
	if r.Live != "" {
		return s.get(use.Name, r.Live)
	}
	s.mu.RLock()
	broken, known := s.broken[use.Name], len(s.versions[use.Name]) > 0
	s.mu.RUnlock()
	switch {
	case broken != nil:
		return nil, fmt.Errorf("%w: %s: %w", errStrategyUnavailable, use.Name, broken)
	case known:
		return nil, fmt.Errorf("%w: no version of %q is live: release one with rapport strategy release", errStrategyNotFound, use.Name)
	}
	return s.get(use.Name, liveVersion)
}

// followsLive reports whether a scenario uses whichever version is live, with its
// shadow and share.
func followsLive(use *catalog.StrategyUse) bool {
	return use.Version == "" || use.Version == liveVersion
}

// release returns what of a strategy is in service.
func (s *strategies) release(name string) release {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.releases[name]
}

// setRelease replaces what of a strategy is in service, durably.
func (s *strategies) setRelease(name string, r release) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := writeRelease(filepath.Join(s.dir, name), s.builtin[name], r); err != nil {
		return err
	}
	s.releases[name] = r
	delete(s.broken, name)
	return nil
}

// list returns the versions by name, newest first; all if name is empty.
func (s *strategies) list(name string) (versions []*strategyVersion) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for n, vs := range s.versions {
		if name == "" || n == name {
			versions = append(versions, vs...)
		}
	}
	slices.SortStableFunc(versions, func(a, b *strategyVersion) int {
		return cmp.Or(cmp.Compare(a.name, b.name), b.uploaded.Compare(a.uploaded), cmp.Compare(b.version, a.version))
	})
	return versions
}

func (s *strategies) close(ctx context.Context) error {
	var errs []error
	for _, versions := range s.versions {
		for _, v := range versions {
			if v.module != nil {
				errs = append(errs, v.module.Close(ctx))
			}
		}
	}
	return errors.Join(errs...)
}
