package server

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"rapport/profilestore"
	"rapport/profilestore/badger"
	"rapport/profilestore/durable"
	"rapport/server/sandbox"
)

// notices are what was found damaged in the data folder and how the server got over it,
// in words. They are told until the server ends.
type notices struct {
	mu    sync.Mutex
	lines []string
}

func (n *notices) add(line string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !slices.Contains(n.lines, line) {
		n.lines = append(n.lines, line)
	}
}

func (n *notices) list() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.lines)
}

// damage says what of the data folder is or was damaged: sources without their snapshot,
// and what the server got over.
func (s *Server) damage() []string {
	out := append(s.notices.list(), s.scrub.list()...)
	problems := s.store.Snapshots().Problems()
	for _, source := range slices.Sorted(maps.Keys(problems)) {
		out = append(out, fmt.Sprintf("source %s: its snapshot can't be used, so all its fields are unknown: %v; "+
			"activate another (rapport snapshot list %s), or load its file again", source, problems[source], source))
	}
	for i := range out { // where the folder lies is nobody's business who may ask this
		out[i] = strings.ReplaceAll(out[i], s.config.Data+string(filepath.Separator), "")
	}
	return out
}

// openDeltas opens the delta records. Damaged ones are moved into the quarantine, and the
// store derives them from the journal anew.
func (s *Server) openDeltas(ctx context.Context, schema *profilestore.Schema) (profilestore.Engine, error) {
	dropped, err := profilestore.DropForeignDeltas(ctx, s.config.Data, schema)
	if dropped {
		s.log.Info("the schema has changed, or deriving the delta records was interrupted: they are derived from the journal anew")
	}
	command, commandErr := s.ownCommand()
	if commandErr != nil {
		return nil, commandErr
	}
	open := func() (*badger.Engine, error) {
		return badger.Open(s.folder.path("deltas"), badger.Options{Logger: s.log, Checker: command})
	}
	var engine *badger.Engine
	if err == nil {
		err = profilestore.CheckAhead(s.config.Data, func(fn func(key, stored []byte)) error { return badger.EachLogged(s.folder.path("deltas"), fn) })
	}
	if err == nil {
		engine, err = open()
	}
	if _, damaged := errors.AsType[*badger.DamagedError](err); damaged || errors.Is(err, profilestore.ErrDeltasDamaged) {
		why := err
		var aside string
		if aside, err = profilestore.SetDeltasAside(s.config.Data, why, false); err != nil {
			return nil, err
		}
		s.log.Error("the delta records are damaged and were set aside: they are derived from the journal anew", "damage", why, "aside", aside)
		s.notices.add("the delta records were damaged (" + why.Error() + "); they were moved to " + aside + " and derived from the journal anew")
		engine, err = open()
	}
	if err != nil {
		return nil, err
	}
	s.scrub.deltas = engine
	return engine, nil
}

// ownCommand starts this program anew, for what might end a process: see
// sandbox.CompilerCommand and badger.IsChecker.
func (s *Server) ownCommand() ([]string, error) {
	if len(s.config.Compiler) > 0 {
		return s.config.Compiler, nil
	}
	return sandbox.CompilerCommand()
}

// appendSetAside appends a source that has no snapshot to those whose snapshot can't be
// used, if it is one.
func (s *Server) appendSetAside(sources []string, source string) []string {
	if s.store.Snapshots().Problem(source) != nil {
		return append(sources, source)
	}
	return sources
}

// sealedFiles are small files that are sealed and have a copy, by patterns of their paths.
var sealedFiles = []string{
	"schema", inventoryFile, "keys/cache.key", "keys/outcomes.key", "journal/ID", "tables/SETS.json", "catalog/CURRENT",
	"snapshots/*/CURRENT.json", "snapshots/*/HORIZON.json", "strategies/*/RELEASE", "strategies/*/*.json",
}

// mendSealed writes small files of which one of the two copies is damaged or missing anew.
// What is damaged goes into the quarantine.
func (s *Server) mendSealed() error {
	aside := s.folder.path(profilestore.QuarantineFolder, "mended-"+time.Now().UTC().Format("20060102T150405Z"))
	for _, pattern := range sealedFiles {
		var names []string
		for _, suffix := range []string{"", durable.CopySuffix} {
			paths, err := filepath.Glob(s.folder.path(filepath.FromSlash(pattern)) + suffix)
			if err != nil {
				return err
			}
			for _, path := range paths {
				if name := strings.TrimSuffix(path, durable.CopySuffix); !slices.Contains(names, name) {
					names = append(names, name)
				}
			}
		}
		for _, name := range names {
			damage := durable.CheckSealed(name)
			if damage == nil {
				continue
			}
			if _, err := durable.ReadSealed(name); err != nil {
				continue // whoever reads it says so
			}
			if err := durable.MendSealed(name, aside); err != nil {
				return fmt.Errorf("data folder: %w", err)
			}
			s.log.Warn("a file was damaged, and is written again from its copy", "damage", damage)
			s.notices.add("repaired: " + damage.Error())
		}
	}
	return nil
}
