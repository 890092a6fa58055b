package profilestore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"rapport/profilestore/durable"
)

// Snapshots are the sealed batch loads of all sources, one of each the current
// one. They are made by [Load], in this process or another; here they are put to
// use. Snapshots are safe for concurrent use.
//
// Reading is by sets: Acquire gives one consistent choice, at the cost of an
// atomic addition, and what is in a set stays open until it is released. So
// whoever has begun with one snapshot ends with it, an activation waits for
// nobody, and the folder of a generation is closed when its last reader is done:
// the rows are in a memory map, and a read after its end would kill the process.
type Snapshots struct {
	dir    string
	schema *Schema
	engine GenerationEngine
	log    *slog.Logger

	changing sync.Mutex // held by whoever replaces current, for seconds
	current  atomic.Pointer[SnapshotSet]
	horizon  atomic.Pointer[horizon] // how far delta records may be pruned
	closed   bool                    // guarded by changing

	mu       sync.Mutex       // held for a moment
	problems map[string]error // by source; guarded by mu
	ended    bool             // Close waits for ends: none may be added; guarded by mu
	ends     sync.WaitGroup   // generations being closed
}

// SnapshotSet is one consistent choice: the current snapshot of each source. It
// is safe for concurrent use until it is released.
type SnapshotSet struct {
	owner     *Snapshots
	epoch     uint64
	snapshots []*Snapshot
	refs      atomic.Int64
}

// OpenSnapshots opens the current snapshot of every source of the schema. The
// folder dir is DATA/snapshots; it need not exist. A source whose current
// snapshot can't be opened has none until another is activated; see Problems.
func OpenSnapshots(dir string, schema *Schema, engine GenerationEngine, log *slog.Logger) (*Snapshots, error) {
	if log == nil {
		log = slog.Default()
	}
	s := &Snapshots{dir: dir, schema: schema, engine: engine, log: log, problems: make(map[string]error)}
	set := &SnapshotSet{owner: s, epoch: 1, snapshots: make([]*Snapshot, len(schema.Sources()))}
	for i := range schema.Sources() {
		source := schema.Sources()[i].ID
		snapshot, err := s.openCurrent(source)
		if err != nil {
			log.Error("the current snapshot can't be used, all its fields are unknown", "source", source, "error", err)
			s.problems[source] = err
		}
		set.snapshots[i] = snapshot
	}
	set.hold()
	s.current.Store(set)
	if err := s.openHorizon(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// openCurrent opens the active snapshot of a source; it returns nil if there is
// none.
func (s *Snapshots) openCurrent(source string) (*Snapshot, error) {
	folder := s.folder(source)
	c, err := folder.read()
	if err != nil || c.Active == 0 {
		return nil, err
	}
	snapshot, _, err := openSnapshot(context.Background(), folder, c.Active, s.schema, s.engine, false)
	return snapshot, err
}

func (s *Snapshots) folder(source string) sourceFolder {
	return sourceFolder{dir: filepath.Join(s.dir, source), source: source}
}

// Acquire returns the current set. It must be released, once. After Close it is a
// set without snapshots.
func (s *Snapshots) Acquire() *SnapshotSet {
	for {
		set := s.current.Load()
		// A set that is not referred to is ending; then there is a newer one.
		for n := set.refs.Load(); n > 0; n = set.refs.Load() {
			if set.refs.CompareAndSwap(n, n+1) {
				return set
			}
		}
	}
}

// Epoch returns the number of the current set.
func (s *Snapshots) Epoch() uint64 { return s.current.Load().epoch }

// Epoch returns the set's number: every activation makes a set with a higher one.
// It begins anew when the snapshots are opened.
func (set *SnapshotSet) Epoch() uint64 { return set.epoch }

// Source returns the current snapshot of a source, by its place in
// Schema.Sources; nil if there is none.
func (set *SnapshotSet) Source(i int) *Snapshot { return set.snapshots[i] }

// Release says that the set is no longer read.
func (set *SnapshotSet) Release() {
	switch n := set.refs.Add(-1); {
	case n == 0:
		set.end()
	case n < 0:
		panic("profilestore: a SnapshotSet was released twice")
	}
}

// hold takes the set's first reference, and those to its snapshots.
func (set *SnapshotSet) hold() {
	set.refs.Store(1)
	for _, snapshot := range set.snapshots {
		if snapshot != nil {
			snapshot.refs.Add(1)
		}
	}
}

// end gives up a set's snapshots. Closing one takes milliseconds, so the reader
// who happened to be the last does not wait for it.
func (set *SnapshotSet) end() {
	for _, snapshot := range set.snapshots {
		if snapshot == nil || snapshot.refs.Add(-1) > 0 {
			continue
		}
		set.owner.end(snapshot)
	}
}

// end closes a snapshot that nobody holds any more, in the background.
func (s *Snapshots) end(snapshot *Snapshot) {
	closing := func() {
		if err := snapshot.open.Close(); err != nil {
			s.log.Warn("a snapshot could not be closed",
				"source", snapshot.source, "generation", snapshot.generation, "error", err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		go closing()
		return
	}
	s.ends.Go(closing)
}

// Problems returns why sources have no current snapshot although one is active,
// by source.
func (s *Snapshots) Problems() map[string]error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.problems)
}

// Problem returns why a source has no current snapshot although one is active; nil if
// that is not so.
func (s *Snapshots) Problem(source string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.problems[source]
}

// List returns the sealed snapshots of a source, or of all if source is empty: by
// source in the order of the schema, newest first. They include those that other
// processes have sealed.
func (s *Snapshots) List(source string) ([]SnapshotInfo, error) {
	if source != "" {
		if err := s.checkSource(source); err != nil {
			return nil, err
		}
	}
	var infos []SnapshotInfo
	for _, src := range s.schema.Sources() {
		if source != "" && src.ID != source {
			continue
		}
		list, err := s.folder(src.ID).list()
		if err != nil {
			return nil, err
		}
		infos = append(infos, list...)
	}
	return infos, nil
}

// Info describes a sealed snapshot of a source. Its errors are those of Activate.
func (s *Snapshots) Info(source string, generation int64) (SnapshotInfo, error) {
	if err := s.checkSource(source); err != nil {
		return SnapshotInfo{}, err
	}
	folder := s.folder(source)
	c, err := folder.read()
	if err != nil {
		return SnapshotInfo{}, err
	}
	m, err := folder.manifest(generation)
	if errors.Is(err, fs.ErrNotExist) {
		return SnapshotInfo{}, fmt.Errorf("%w: source %s, number %d", ErrSnapshotNotFound, source, generation)
	}
	if err != nil {
		return SnapshotInfo{}, err
	}
	return m.info(generation == c.Active), nil
}

func (s sourceFolder) list() ([]SnapshotInfo, error) {
	numbers, err := s.sealed()
	if err != nil {
		return nil, err
	}
	c, err := s.read()
	if err != nil {
		return nil, err
	}
	infos := make([]SnapshotInfo, 0, len(numbers))
	for _, n := range numbers {
		m, err := s.manifest(n)
		switch {
		case errors.Is(err, fs.ErrNotExist): // removed since
		case err != nil:
			infos = append(infos, SnapshotInfo{Source: s.source, Generation: n, State: SnapshotDamaged})
		default:
			infos = append(infos, m.info(n == c.Active))
		}
	}
	return infos, nil
}

func (s *Snapshots) checkSource(source string) error {
	if _, ok := s.schema.Source(source); !ok {
		return fmt.Errorf("%w: the schema has no source %q, only %s", ErrSnapshotNotFound, source, sourceNames(s.schema))
	}
	return nil
}

// sourceNames lists the sources of a schema for people.
func sourceNames(schema *Schema) string {
	names := make([]string, len(schema.Sources()))
	for i, src := range schema.Sources() {
		names[i] = src.ID
	}
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

// Activate makes a sealed snapshot the current one of its source, durably, and
// returns the number of the one before, 0 if there was none. It reads all files
// of the snapshot, to compare them with what was sealed; the source's current one
// serves meanwhile, and stays if there is an error: ErrSnapshotNotFound,
// ErrSnapshotUnfit, ErrSnapshotPruned or ErrSnapshotDamaged. Activating the current one again
// verifies it and changes nothing.
func (s *Snapshots) Activate(ctx context.Context, source string, generation int64) (active SnapshotInfo, previous int64, err error) {
	return s.change(ctx, source, func(folder sourceFolder, c *current) error {
		if !folder.exists(generation) {
			sealed, err := folder.sealed()
			if err != nil {
				return err
			}
			return fmt.Errorf("%w: source %s has no number %d, only %s", ErrSnapshotNotFound, source, generation, numberNames(sealed))
		}
		c.activate(generation)
		return nil
	})
}

// numberNames lists the numbers of snapshots for people.
func numberNames(numbers []int64) string {
	if len(numbers) == 0 {
		return "none"
	}
	return strings.Trim(strings.ReplaceAll(fmt.Sprint(numbers), " ", ", "), "[]")
}

// Rollback makes the snapshot that was current before the current one again,
// as Activate does, and returns the number of the one that was rolled back. A
// second rollback goes one further back. Its errors are those of Activate, and
// ErrNoEarlierSnapshot.
func (s *Snapshots) Rollback(ctx context.Context, source string) (active SnapshotInfo, previous int64, err error) {
	return s.change(ctx, source, func(folder sourceFolder, c *current) error {
		n, remain := c.before(folder.exists)
		if n == 0 {
			return fmt.Errorf("%w: of source %s none that was active before is left", ErrNoEarlierSnapshot, source)
		}
		c.Active, c.Earlier = n, slices.Clone(c.Earlier[:remain])
		return nil
	})
}

// Pointers returns the number of the snapshot of a source that is active, and of
// the one that Rollback would make so; 0 where there is none.
func (s *Snapshots) Pointers(source string) (active, earlier int64, err error) {
	if err := s.checkSource(source); err != nil {
		return 0, 0, err
	}
	folder := s.folder(source)
	c, err := folder.read()
	if err != nil {
		return 0, 0, err
	}
	earlier, _ = c.before(folder.exists)
	return c.Active, earlier, nil
}

// change opens what decide makes the active snapshot of a source, and puts it to
// use.
func (s *Snapshots) change(ctx context.Context, source string, decide func(sourceFolder, *current) error) (SnapshotInfo, int64, error) {
	fail := func(err error) (SnapshotInfo, int64, error) { return SnapshotInfo{}, 0, err }
	if err := s.checkSource(source); err != nil {
		return fail(err)
	}
	folder := s.folder(source)
	if err := durable.MakeFolder(folder.dir, 0o700); err != nil {
		return fail(err)
	}
	s.changing.Lock()
	defer s.changing.Unlock()
	if s.closed {
		return fail(errors.New("profilestore: the snapshots are closed"))
	}
	unlock, err := folder.lockCurrent(ctx)
	if err != nil {
		return fail(err)
	}
	defer unlock()
	c, err := folder.read()
	if err != nil {
		return fail(err)
	}
	previous := c.Active
	if err := decide(folder, &c); err != nil {
		return fail(err)
	}
	place, _ := s.schema.Source(source)
	if err := s.checkHorizon(folder, place, c.Active); err != nil {
		return fail(err)
	}
	snapshot, m, err := openSnapshot(ctx, folder, c.Active, s.schema, s.engine, true)
	if err != nil {
		return fail(err)
	}
	if err := folder.write(c); err != nil {
		return fail(errors.Join(err, snapshot.open.Close()))
	}
	s.mu.Lock()
	delete(s.problems, source)
	s.mu.Unlock()
	s.replace(source, snapshot)
	if err := s.advanceLocked(folder, place); err != nil {
		s.log.Warn("the delta records can't be pruned further", "source", source, "error", err)
	}
	return m.info(true), previous, nil
}

// checkHorizon returns ErrSnapshotPruned if a generation can't be used any more.
func (s *Snapshots) checkHorizon(folder sourceFolder, source int, generation int64) error {
	m, err := folder.manifest(generation)
	if err != nil {
		return nil //nolint:nilerr // opening it says what is wrong with it
	}
	return s.horizon.Load().sources[source].check(folder.source, m.AsOf.UnixMicro(), m.IngestCut.UnixMicro())
}

// replace makes a new set current that has snapshot for a source.
func (s *Snapshots) replace(source string, snapshot *Snapshot) {
	old := s.current.Load()
	set := &SnapshotSet{owner: s, epoch: old.epoch + 1, snapshots: slices.Clone(old.snapshots)}
	i, _ := s.schema.Source(source)
	set.snapshots[i] = snapshot
	set.hold()
	s.current.Store(set)
	old.Release()
}

// Close closes every snapshot that is not in a set that somebody holds; those are
// closed when it is released.
func (s *Snapshots) Close() error {
	s.changing.Lock()
	defer s.changing.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	old := s.current.Load()
	empty := &SnapshotSet{owner: s, epoch: old.epoch + 1, snapshots: make([]*Snapshot, len(old.snapshots))}
	empty.hold()
	s.current.Store(empty)
	old.Release()
	s.mu.Lock()
	s.ended = true
	s.mu.Unlock()
	s.ends.Wait()
	return nil
}
